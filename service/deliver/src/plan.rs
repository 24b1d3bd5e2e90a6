//! What one accepted message changes, worked out as a value: a row for each mailbox, the queue for the rest, and the
//! beginning of its story.

use crate::{Traits, accounts};
use directory::{Directory, Route};
use mail::{
    AccountName, Address, Arrival, BodyId, Change, Commit, Envelope, Event, FlagSet, Group, Happening, InternalDate,
    MailboxName, MailboxRef, Notify, QueueChange, QueueId, QueueState, QueuedEnvelope, QueuedRecipient, Recipient,
    RequireTls, ReversePath, UnixMillis,
};
use std::collections::HashSet;

/// A message that was accepted.
#[derive(Debug, Clone)]
pub struct Accepted<'a> {
    /// Its name.
    pub id: QueueId,
    /// When.
    pub at: UnixMillis,
    /// Its envelope, as the client gave it.
    pub envelope: &'a Envelope,
    /// The account that submitted it.
    pub account: Option<&'a AccountName>,
    /// The rule that holds it, if one does: then all of it waits in the queue, what is for our own mailboxes too.
    pub hold: Option<&'a str>,
    /// Whether all of it goes through the queue, what is for our own mailboxes too.
    pub queue_all: bool,
    /// What its octets say.
    pub traits: Traits,
    /// What its story begins with.
    pub arrival: Arrival,
    /// What else is to be told at once, such as fields that were removed.
    pub events: Vec<Event>,
    /// Whether the groups are accepted all or none; then the story can tell of them in advance.
    pub together: bool,
}

impl<'a> Accepted<'a> {
    /// A message of our own making: a report, a copy, something that is passed on. All of it goes through the queue.
    pub fn of_our_own(id: QueueId, envelope: &'a Envelope, traits: Traits, arrival: Arrival) -> Accepted<'a> {
        Accepted {
            id,
            at: now(),
            envelope,
            account: None,
            hold: None,
            queue_all: true,
            traits,
            arrival,
            events: Vec::new(),
            together: true,
        }
    }
}

/// One end of a recipient's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destined {
    /// The recipient of the envelope, or who takes its place.
    pub recipient: Recipient,
    /// Where it leads.
    pub route: Route,
    /// The recipient in whose place it stands, for a redirection or a copy: then it is forwarded.
    pub via: Option<Address>,
}

/// What is to be done, and what the queue is to hear of when it is done.
#[derive(Debug)]
pub struct Plan {
    /// The one commit.
    pub commit: Commit,
    /// What it puts into the queue.
    pub queued: Option<Queued>,
}

/// What was put into the queue.
#[derive(Debug, Clone)]
pub struct Queued {
    /// The message.
    pub envelope: Box<QueuedEnvelope>,
    /// Its recipients there.
    pub recipients: Vec<QueuedRecipient>,
}

/// Hears of what was put into the queue, once that is durable.
pub trait QueueDoor: Send + Sync {
    /// These wait now.
    fn queued(&self, queued: Queued);
    /// Mail for this domain is to be tried at once (RFC 1985). Gives whether there is a queue for the domain.
    fn flush(&self, domain: &mail::Domain) -> bool;
}

/// Plans the commit of a message whose octets are staged as `body`.
pub fn plan(
    mut message: Accepted<'_>,
    destined: &[Destined],
    body: BodyId,
    internal_date: InternalDate,
    directory: &Directory,
) -> Plan {
    let mut commit = crate::commit(at_once(&message, destined), body, internal_date, directory, message.together);
    let recipients = queued_recipients(&message, destined);
    commit.queue.push(QueueChange::Begin { message: message.id, discarded: 0, events: story(&mut message, destined) });
    let queued = (!recipients.is_empty()).then(|| {
        let envelope = Box::new(queued_envelope(&message));
        commit.queue.push(QueueChange::Enqueue { envelope: envelope.clone(), body, recipients: recipients.clone() });
        Queued { envelope, recipients }
    });
    Plan { commit, queued }
}

/// One INBOX row for an account, for mail that comes out of the queue.
pub fn inbox_group(account: &AccountName, body: BodyId, date: InternalDate, directory: &Directory) -> Group {
    Group {
        account: account.clone(),
        changes: vec![Change::Append {
            mailbox: MailboxRef::Named(MailboxName::inbox()),
            body,
            flags: FlagSet::default(),
            internal_date: date,
        }],
        quota: directory.quota(account),
    }
}

/// Whether a mailbox gets a message in the commit that accepts it, if nothing holds it. Whose sender wants to hear of the
/// delivery goes through the queue, which writes the report, and the fields of a delivery too.
pub fn goes_at_once(recipient: &Recipient, route: &Route) -> bool {
    matches!(route, Route::Mailbox(_)) && !wants_success(recipient)
}

/// The ways that end in a mailbox in this commit.
fn at_once<'a>(message: &Accepted<'_>, destined: &'a [Destined]) -> impl Iterator<Item = &'a Route> {
    let is_open = message.hold.is_none() && !message.queue_all;
    destined.iter().filter(move |end| is_open && goes_at_once(&end.recipient, &end.route)).map(|end| &end.route)
}

/// Those that do not end in a mailbox now: each address once.
fn queued_recipients(message: &Accepted<'_>, destined: &[Destined]) -> Vec<QueuedRecipient> {
    let mut queued: Vec<QueuedRecipient> = Vec::new();
    if at_once(message, destined).count() == destined.len() {
        return queued;
    }
    let mut seen = HashSet::new();
    let at_once: HashSet<&Route> = at_once(message, destined).collect();
    for Destined { recipient, route, via } in destined {
        let address = match route {
            Route::Relay(address) | Route::Outside(address) => address.clone(),
            // R66: one copy, whatever else leads there.
            Route::Mailbox(_) if at_once.contains(route) => continue,
            // A mailbox is found again by the name of its account, or else by the address that led to it.
            Route::Mailbox(account) => Address::parse(account.as_str()).unwrap_or_else(|_| recipient.address.clone()),
        };
        // RFC 5321 §2.4: local parts elsewhere may differ by case alone.
        if !seen.insert(address.to_string()) {
            continue;
        }
        let via = via.clone().or_else(|| (address != recipient.address).then(|| recipient.address.clone()));
        let state = match message.hold {
            Some(_) => QueueState::Held,
            None => QueueState::Waiting(message.at),
        };
        queued.push(QueuedRecipient {
            number: queued.len() as u32,
            recipient: Recipient { address, notify: recipient.notify, original: recipient.original.clone() },
            via,
            state,
            attempts: 0,
            delay_reported: false,
            last: None,
        });
    }
    queued
}

fn queued_envelope(message: &Accepted<'_>) -> QueuedEnvelope {
    let envelope = message.envelope;
    QueuedEnvelope {
        id: message.id,
        arrived: message.at,
        reverse_path: envelope.reverse_path.clone(),
        account: message.account.cloned(),
        eight_bit: !message.traits.is_ascii,
        smtputf8: envelope.smtputf8 && (!message.traits.is_ascii || !is_ascii(envelope)),
        require_tls: require_tls(envelope, message.traits),
        dsn_return: envelope.dsn_return,
        envelope_id: envelope.envelope_id.clone(),
    }
}

/// RFC 8689 §4.1: the parameter of MAIL goes before the header field. §5: reports must not be lost for it.
fn require_tls(envelope: &Envelope, traits: Traits) -> RequireTls {
    match (envelope.require_tls, &envelope.reverse_path, traits.tls_optional) {
        (true, ReversePath::Address(_), _) => RequireTls::Required,
        (true, ReversePath::Null, _) | (false, _, false) => RequireTls::Ordinary,
        (false, _, true) => RequireTls::Optional,
    }
}

fn is_ascii(envelope: &Envelope) -> bool {
    let reverse_path = reverse_address(&envelope.reverse_path).into_iter();
    let recipients = envelope.recipients.iter().map(|recipient| &recipient.address);
    !reverse_path.chain(recipients).any(Address::needs_utf8)
}

/// The beginning of its story, with what the message brought for it.
fn story(message: &mut Accepted<'_>, destined: &[Destined]) -> Vec<Event> {
    let at = message.at;
    let event = |recipient: Option<&Address>, what| Event { at, recipient: recipient.map(Address::to_string), what };
    let mut events = vec![event(None, Happening::Received(std::mem::take(&mut message.arrival)))];
    events.append(&mut message.events);
    if let Some(rule) = message.hold {
        events.push(event(None, Happening::Held { by: rule.to_owned() }));
        return events;
    }
    let shown = |route: &Route| match route {
        Route::Mailbox(account) => account.to_string(),
        Route::Relay(address) | Route::Outside(address) => address.to_string(),
    };
    for group in destined.chunk_by(|one, other| one.recipient == other.recipient) {
        let address = &group[0].recipient.address;
        if !matches!(group, [only] if leads_to_itself(address, &only.route)) {
            let to = group.iter().map(|destined| shown(&destined.route)).collect();
            events.push(event(Some(address), Happening::Expanded { to, by: "aliases".into() }));
        }
    }
    if message.together {
        for account in accounts(at_once(message, destined)) {
            let mailbox = MailboxName::inbox().as_str().to_owned();
            events.push(event(None, Happening::Stored { account: account.to_string(), mailbox }));
        }
    }
    if at_once(message, destined).count() < destined.len() {
        events.push(event(None, Happening::Queued));
    }
    events
}

fn leads_to_itself(address: &Address, route: &Route) -> bool {
    match route {
        Route::Mailbox(account) => {
            account.local_part() == address.local.as_str() && account.domain() == address.domain.as_str()
        }
        Route::Relay(end) | Route::Outside(end) => end == address,
    }
}

/// Whether a recipient's sender wants to hear of a delivery (RFC 3461 §4.1).
pub fn wants_success(recipient: &Recipient) -> bool {
    matches!(recipient.notify, Some(Notify::On { success: true, .. }))
}

/// Whether a recipient's sender wants to hear of a failure; without NOTIFY it does (RFC 3461 §4.1).
pub fn wants_failure(recipient: &Recipient) -> bool {
    matches!(recipient.notify, None | Some(Notify::On { failure: true, .. }))
}

/// Whether a recipient's sender wants to hear of a delay. Without NOTIFY that is for the house to say.
pub fn wants_delay(recipient: &Recipient, by_default: bool) -> bool {
    match recipient.notify {
        None => by_default,
        Some(Notify::On { delay, .. }) => delay,
        Some(Notify::Never) => false,
    }
}

/// The reverse-path as an address.
pub fn reverse_address(path: &ReversePath) -> Option<&Address> {
    match path {
        ReversePath::Null => None,
        ReversePath::Address(address) => Some(address),
    }
}

/// Milliseconds since 1970.
pub fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_8689_the_parameter_goes_before_the_field_and_reports_are_not_lost_for_either() {
        let path = ReversePath::Address(Address::parse("a@x.example").unwrap());
        let wish = |path: &ReversePath, parameter, tls_optional| {
            let envelope = Envelope { require_tls: parameter, ..Envelope::new(path.clone()) };
            require_tls(&envelope, Traits { tls_optional, ..Traits::default() })
        };
        assert_eq!(wish(&path, false, false), RequireTls::Ordinary);
        assert_eq!(wish(&path, false, true), RequireTls::Optional);
        assert_eq!(wish(&path, true, true), RequireTls::Required);
        assert_eq!(wish(&ReversePath::Null, true, false), RequireTls::Ordinary);
        assert_eq!(wish(&ReversePath::Null, false, true), RequireTls::Optional);
    }
}
