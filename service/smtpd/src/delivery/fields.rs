//! The fields of ours on top of a message.

use super::Message;
use crate::{Desk, now};
use deliver::{Destined, goes_at_once};
use mail::Address;
use message::header_rules;
use message::trace::{self, ReceivedFacts, Transmission};
use policy::Effect;
use smtp_proto::question::{Client, Greeting, Role};

impl Desk {
    /// Return-Path and Delivered-To for the mailboxes that have the message at once, on top (R64, R105). Of what goes
    /// through the queue they are left out where it is read again.
    pub(super) fn delivery_fields(&self, message: &Message<'_>, destined: &[Destined], is_held: bool) -> String {
        let at_once = destined.iter().filter(|end| !is_held && goes_at_once(&end.recipient, &end.route));
        let accounts = deliver::accounts(at_once.map(|end| &end.route));
        if accounts.is_empty() {
            return String::new();
        }
        let mut fields = trace::return_path(&message.envelope.reverse_path);
        if let [account] = accounts[..]
            && let Ok(address) = Address::parse(account.as_str())
        {
            fields.push_str(&trace::delivered_to(&address));
        }
        fields
    }

    /// Fields that tables add, and our Received line (R64, R105).
    pub(super) fn added_fields(&self, message: &Message<'_>, effects: &[&Effect]) -> String {
        let mut prefix = String::new();
        // One field, however many recipients it was found for.
        let mut added: Vec<&str> = Vec::new();
        for effect in effects {
            if let Effect::Prepend(field) = effect
                && !added.contains(&field.as_str())
            {
                prefix.push_str(&format!("{field}\r\n"));
                added.push(field);
            }
        }
        prefix.push_str(&self.received(message));
        prefix
    }

    /// The envelope of an archived copy, for whoever reads it.
    pub(super) fn archive_fields(&self, message: &Message<'_>) -> String {
        let envelope = message.envelope;
        let mut fields = format!("X-Envelope-From: <{}>\r\n", envelope.reverse_path);
        for recipient in &envelope.recipients {
            fields.push_str(&format!("X-Envelope-To: <{}>\r\n", recipient.address));
        }
        fields.push_str(&trace::received(&self.received_facts(message)));
        fields
    }

    /// Our own trace field. Rules for submitted mail hold for it too (R151).
    fn received(&self, message: &Message<'_>) -> String {
        let facts = self.received_facts(message);
        match self.house.submission.as_ref().filter(|_| message.client.role == Role::Submission) {
            Some(rules) if rules.anonymous_trace => trace::received_anonymous(&facts),
            Some(rules) if !rules.stages.rules.is_empty() => {
                let field = trace::received(&facts);
                let (field, _) = header_rules::filtered(&rules.stages.rules, field.as_bytes());
                String::from_utf8_lossy(&field).into_owned()
            }
            _ => trace::received(&facts),
        }
    }

    fn received_facts<'a>(&'a self, message: &Message<'a>) -> ReceivedFacts<'a> {
        let (transmission, helo) = transmission(message.client);
        ReceivedFacts {
            helo,
            reverse_name: None,
            address: message.client.peer.peer.map(|peer| peer.ip()),
            transmission,
            tls: message.client.tls.as_ref(),
            shows_tls: true,
            is_authenticated: message.client.account.is_some(),
            is_smtputf8: message.envelope.smtputf8,
            host: &self.house.host_name,
            queue_id: message.id,
            recipient: match &message.envelope.recipients[..] {
                [only] => Some(&only.address),
                _ => None,
            },
            date: now(),
        }
    }
}

/// How the message came, and the name that the client gave.
fn transmission(client: &Client) -> (Transmission, &str) {
    match &client.greeting {
        Some((Greeting::Helo, name)) => (Transmission::Smtp, name),
        Some((Greeting::Ehlo, name)) => (Transmission::Esmtp, name),
        Some((Greeting::Lhlo, name)) => (Transmission::Lmtp, name),
        None => (Transmission::Smtp, "unknown"),
    }
}
