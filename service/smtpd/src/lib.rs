//! Receives mail: the async side of SMTP, submission and LMTP.
//!
//! The session machine asks; a [`Desk`] answers. The path of a message through this file: `begin_body` opens an intake,
//! `body` carries octets into it, `end_of_message` judges, stages and commits, and only then is there a 250.

mod queue_id;
mod reply;

pub use queue_id::QueueIds;

use deliver::Intake;
use directory::{Directory, DomainClass, Route};
use login::Login;
use mail::{Address, Envelope, InternalDate, QueueId, Recipient, Reply};
use message::trace::{self, ReceivedFacts, Transmission};
use policy::{Effect, Policy};
use smtp_proto::question::{Answer, AuthFailure, Client, Greeting, Question, Role};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::MailStore;

/// What sessions of a listener share.
pub struct House {
    /// Our name in trace fields and replies.
    pub host_name: String,
    /// Where mail goes.
    pub store: Arc<dyn MailStore>,
    /// Who has an account.
    pub directory: Arc<Directory>,
    /// The listener's checks.
    pub policy: Policy,
    /// Whose clients are trusted.
    pub trusted: net::Networks,
    /// Verifies passwords.
    pub login: Arc<Login>,
    /// Names messages.
    pub queue_ids: Arc<QueueIds>,
    /// Whether the listener offers authentication.
    pub authentication_offered: bool,
    /// More Received fields than this mean a loop (R101).
    pub hops_max: u32,
    /// Largest message, for the question whether there is room (R46).
    pub message_octets_max: u64,
    /// The listener's name, for logs.
    pub listener: String,
}

/// Answers one session.
pub struct Desk {
    house: Arc<House>,
    /// Routes and effects of the recipients taken so far, one entry a recipient.
    taken: Vec<policy::Taken>,
    intake: Option<Intake>,
}

impl Desk {
    /// A desk for a new session.
    pub fn new(house: Arc<House>) -> Desk {
        Desk { house, taken: Vec::new(), intake: None }
    }

    fn policy_client(&self, client: &Client) -> policy::Client {
        let address = client.peer.peer.map(|peer| peer.ip());
        policy::Client {
            address,
            trusted: address.is_some_and(|address| self.house.trusted.contain(address)),
            authentication_offered: self.house.authentication_offered,
            account: client.account.clone(),
        }
    }

    fn connect(&self, client: &Client) -> Result<(), Reply> {
        tracing::info!(listener = %self.house.listener, peer = %peer_text(client), "connect");
        Ok(())
    }

    async fn authenticate(&self, client: &Client, credentials: sasl::Credentials) -> Answer {
        let outcome = self.house.login.authenticate(&self.house.listener, &client.peer, credentials).await;
        Answer::Authenticated(outcome.map_err(|refused| match refused {
            login::Refused::Denied => AuthFailure::Denied,
            login::Refused::Temporary => AuthFailure::Temporary,
        }))
    }

    fn mail(&mut self, envelope: &Envelope) -> Result<(), Reply> {
        self.taken.clear();
        let octets = envelope.declared_size_octets.unwrap_or(0).max(self.house.message_octets_max / 8);
        if self.house.store.has_room(octets) { Ok(()) } else { Err(reply::insufficient_storage()) }
    }

    async fn recipient(&mut self, client: &Client, envelope: &Envelope, recipient: &Recipient) -> Result<(), Reply> {
        let meant = self.meant(recipient);
        let recipient = meant.as_ref().unwrap_or(recipient);
        let verdict = match client.role {
            Role::Lmtp => self.lmtp_recipient(recipient),
            Role::Mx | Role::Submission => {
                let client = self.policy_client(client);
                self.house.policy.recipient(policy::Question { client: &client, envelope, recipient }).await
            }
        };
        match verdict {
            Ok(taken) => {
                self.taken.push(taken);
                Ok(())
            }
            Err(reply) => {
                tracing::info!(
                    listener = %self.house.listener, peer = %peer_text(client), from = %envelope.reverse_path,
                    to = %recipient.address, reply = %reply, "recipient refused"
                );
                metrics::counter!("smtp_recipients_total", "listener" => self.house.listener.clone(), "outcome" => "refused")
                    .increment(1);
                Err(reply)
            }
        }
    }

    /// RFC 5321 §4.5.1: `postmaster` needs no domain. The machine gives it our host's, which is seldom one that we host;
    /// then the postmaster of the first hosted domain is meant (R109).
    fn meant(&self, recipient: &Recipient) -> Option<Recipient> {
        let Address { local, domain } = &recipient.address;
        let is_our_postmaster =
            local.as_str().eq_ignore_ascii_case("postmaster") && domain.as_str().eq_ignore_ascii_case(&self.house.host_name);
        if !is_our_postmaster || self.house.directory.class_of(domain) != DomainClass::Other {
            return None;
        }
        let address = self.house.directory.postmaster()?;
        Some(Recipient { address, ..recipient.clone() })
    }

    /// R63: no checks but that the mailbox exists.
    fn lmtp_recipient(&self, recipient: &Recipient) -> Result<policy::Taken, Reply> {
        let routes = self.house.policy.route(&recipient.address).map_err(|reply| match reply.code {
            550 => reply::lmtp_unknown_user(&recipient.address),
            _ => reply,
        })?;
        if routes.iter().any(|route| matches!(route, Route::Relay(_) | Route::Outside(_))) {
            return Err(reply::lmtp_unknown_user(&recipient.address));
        }
        Ok(policy::Taken { routes, effects: Vec::new() })
    }

    fn begin_body(&mut self) -> Result<(), Reply> {
        match Intake::from_peer(&*self.house.store) {
            Ok(intake) => {
                self.intake = Some(intake);
                Ok(())
            }
            Err(error) => Err(reply::to_store_error(&error)),
        }
    }

    /// Judges, stages and commits. One reply in SMTP, one for each recipient in LMTP.
    async fn end_of_message(&mut self, client: &Client, envelope: &Envelope) -> Vec<Reply> {
        let taken = std::mem::take(&mut self.taken);
        let count = if client.role == Role::Lmtp { envelope.recipients.len() } else { 1 };
        let Some(mut intake) = self.intake.take() else {
            return vec![reply::local_error(); count];
        };
        if intake.complete().received > self.house.hops_max {
            return vec![reply::too_many_hops(); count];
        }
        let id = self.house.queue_ids.next();
        let message = Message { id, client, envelope, taken: &taken };
        let replies = match client.role {
            Role::Lmtp => self.deliver_each(message, intake).await,
            Role::Mx | Role::Submission => vec![self.deliver_all(message, intake).await],
        };
        self.log_outcome(message, &replies);
        replies
    }

    /// SMTP: one reply speaks for all recipients, so the commit is all or nothing.
    async fn deliver_all(&self, message: Message<'_>, intake: Intake) -> Reply {
        let effects: Vec<&Effect> = message.taken.iter().flat_map(|taken| &taken.effects).collect();
        if let Some(rule) = effects.iter().find_map(|e| if let Effect::Discard(rule) = e { Some(rule) } else { None }) {
            tracing::info!(queue_id = %message.id, %rule, outcome = "discarded", "delivery");
            return reply::queued(message.id);
        }
        let routes = match self.routes(&message, &effects) {
            Ok(routes) => routes,
            Err(reply) => return reply,
        };
        let prefix = self.trace_fields(&message, &effects, &routes);
        let staged = match intake.finish(prefix.as_bytes()) {
            Ok(staged) => staged,
            Err(error) => return self.store_failed(message.id, &error),
        };
        let commit = deliver::commit(&routes, staged.id, now(), &self.house.directory, true);
        match self.house.store.commit(commit).await {
            Ok(groups) => groups
                .into_iter()
                .find_map(|group| group.err().map(|e| reply::to_change_error(&e)))
                .unwrap_or_else(|| reply::queued(message.id)),
            Err(error) => self.store_failed(message.id, &error),
        }
    }

    /// LMTP: each recipient has its own reply; the body is stored once all the same.
    async fn deliver_each(&self, message: Message<'_>, intake: Intake) -> Vec<Reply> {
        let count = message.taken.len();
        let all: Vec<Route> = message.taken.iter().flat_map(|taken| taken.routes.iter().cloned()).collect();
        let prefix = self.trace_fields(&message, &[], &all);
        let staged = match intake.finish(prefix.as_bytes()) {
            Ok(staged) => staged,
            Err(error) => return vec![self.store_failed(message.id, &error); count],
        };
        let commit = deliver::commit(&all, staged.id, now(), &self.house.directory, false);
        let accounts: Vec<_> = commit.groups.iter().map(|group| group.account.clone()).collect();
        let outcomes = match self.house.store.commit(commit).await {
            Ok(outcomes) => outcomes,
            Err(error) => return vec![self.store_failed(message.id, &error); count],
        };
        let failure_of = |route: &Route| match route {
            Route::Mailbox(account) => {
                let place = accounts.iter().position(|known| known == account)?;
                outcomes.get(place)?.as_ref().err()
            }
            Route::Relay(_) | Route::Outside(_) => None,
        };
        let recipients = message.envelope.recipients.iter().zip(message.taken);
        recipients
            .map(|(recipient, taken)| match taken.routes.iter().find_map(failure_of) {
                Some(error) => reply::lmtp_change_error(&recipient.address, error),
                None => reply::lmtp_saved(&recipient.address, message.id),
            })
            .collect()
    }

    /// The routes of all recipients, with the effects of access tables applied.
    fn routes(&self, message: &Message<'_>, effects: &[&Effect]) -> Result<Vec<Route>, Reply> {
        let redirect = effects.iter().find_map(|e| if let Effect::Redirect(to) = e { Some(to) } else { None });
        let mut routes = match redirect {
            Some(address) => self.house.policy.route(address).map_err(|_| reply::configuration_problem())?,
            None => message.taken.iter().flat_map(|taken| taken.routes.iter().cloned()).collect(),
        };
        for effect in effects {
            if let Effect::Copy(address) = effect {
                routes.extend(self.house.policy.route(address).map_err(|_| reply::configuration_problem())?);
            }
        }
        if routes.iter().any(|route| matches!(route, Route::Relay(_) | Route::Outside(_))) {
            return Err(reply::configuration_problem());
        }
        Ok(routes)
    }

    /// Return-Path, Delivered-To, added fields and our Received line, on top (R64, R105).
    fn trace_fields(&self, message: &Message<'_>, effects: &[&Effect], routes: &[Route]) -> String {
        let envelope = message.envelope;
        let mut prefix = trace::return_path(&envelope.reverse_path);
        if let [account] = deliver::accounts(routes)[..]
            && let Ok(address) = Address::parse(account.as_str())
        {
            prefix.push_str(&trace::delivered_to(&address));
        }
        for effect in effects {
            if let Effect::Prepend(field) = effect {
                prefix.push_str(&format!("{field}\r\n"));
            }
        }
        let (transmission, helo) = transmission(message.client);
        prefix.push_str(&trace::received(&ReceivedFacts {
            helo,
            reverse_name: None,
            address: message.client.peer.peer.map(|peer| peer.ip()),
            transmission,
            tls: message.client.tls.as_ref(),
            shows_tls: true,
            is_authenticated: message.client.account.is_some(),
            is_smtputf8: envelope.smtputf8,
            host: &self.house.host_name,
            queue_id: message.id,
            recipient: match &envelope.recipients[..] {
                [only] => Some(&only.address),
                _ => None,
            },
            date: now(),
        }));
        prefix
    }

    fn store_failed(&self, id: QueueId, error: &store::StoreError) -> Reply {
        tracing::error!(queue_id = %id, %error, "the store cannot take a message");
        reply::to_store_error(error)
    }

    fn log_outcome(&self, message: Message<'_>, replies: &[Reply]) {
        let last = replies.len().saturating_sub(1);
        for (index, recipient) in message.envelope.recipients.iter().enumerate() {
            let Some(reply) = replies.get(index.min(last)) else { continue };
            let outcome = match reply.code {
                ..400 => "delivered",
                400..500 => "deferred",
                _ => "refused",
            };
            metrics::counter!("smtp_recipients_total", "listener" => self.house.listener.clone(), "outcome" => outcome)
                .increment(1);
            tracing::info!(
                queue_id = %message.id, listener = %self.house.listener, peer = %peer_text(message.client),
                from = %message.envelope.reverse_path, to = %recipient.address,
                account = message.client.account.as_ref().map(tracing::field::display), outcome, reply = %reply, "delivery"
            );
        }
    }
}

/// An accepted message with all that is known of it.
#[derive(Clone, Copy)]
struct Message<'a> {
    id: QueueId,
    client: &'a Client,
    envelope: &'a Envelope,
    taken: &'a [policy::Taken],
}

impl net::Desk for Desk {
    type Question = Question;
    type Answer = Answer;

    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Connect { client } => Answer::Verdict(self.connect(&client)),
            Question::Authenticate { client, credentials } => self.authenticate(&client, credentials).await,
            Question::Mail { envelope, .. } => Answer::Verdict(self.mail(&envelope)),
            Question::Recipient { client, envelope, recipient } => {
                Answer::Verdict(self.recipient(&client, &envelope, &recipient).await)
            }
            Question::Verify { recipient, .. } => Answer::Reply(self.house.policy.verify(&recipient.address)),
            Question::Etrn { domain, .. } => Answer::Reply(reply::etrn_unavailable(&domain)),
            Question::BeginBody { .. } => Answer::Verdict(self.begin_body()),
            Question::EndOfMessage { client, envelope } => {
                let begun = std::time::Instant::now();
                let replies = self.end_of_message(&client, &envelope).await;
                metrics::histogram!("smtp_end_of_message_seconds").record(begun.elapsed().as_secs_f64());
                Answer::Replies(replies)
            }
            Question::Abandon => {
                self.intake = None;
                self.taken.clear();
                Answer::Done
            }
        }
    }

    async fn body(&mut self, octets: Vec<u8>) {
        if let Some(intake) = &mut self.intake {
            intake.write(&octets);
        }
    }

    async fn notice(&mut self) {
        std::future::pending().await
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

fn peer_text(client: &Client) -> String {
    client.peer.peer.map_or("unix".to_owned(), |peer| peer.to_string())
}

/// The present, shown in UTC.
fn now() -> InternalDate {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    InternalDate { unix_seconds: since.as_secs() as i64, zone_minutes: 0 }
}
