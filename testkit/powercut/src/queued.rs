//! Queued messages that are known by their number: envelope, recipients and tries follow from it.

use mail::queue::Outcome as Tried;
use mail::{
    Address, Attempt, DsnReturn, EnhancedStatus, Event, Happening, Notify, QueueId, QueueState, QueuedEnvelope,
    QueuedRecipient, Recipient, RequireTls, ReversePath, UnixMillis,
};

/// When the message with number 0 would have come, in milliseconds since 1970.
const BEGINNING: u64 = 1_700_000_000_000;

/// The queue id of the message with a body's number.
pub fn id(number: u64) -> QueueId {
    QueueId((BEGINNING + number) * 1_000)
}

/// The number of a queue id that the workload gave.
pub fn number(id: QueueId) -> Option<u64> {
    (id.0 / 1_000).checked_sub(BEGINNING)
}

/// Its envelope.
pub fn envelope(number: u64) -> Result<QueuedEnvelope, String> {
    let reverse_path = match number % 4 {
        0 => ReversePath::Null,
        _ => ReversePath::Address(address(&format!("author{number}@example.net"))?),
    };
    Ok(QueuedEnvelope {
        id: id(number),
        arrived: UnixMillis(BEGINNING + number),
        reverse_path,
        account: None,
        eight_bit: number.is_multiple_of(2),
        smtputf8: false,
        require_tls: [RequireTls::Ordinary, RequireTls::Required, RequireTls::Optional][(number % 3) as usize],
        dsn_return: [None, Some(DsnReturn::Full), Some(DsnReturn::Headers)][(number % 3) as usize],
        envelope_id: number.is_multiple_of(5).then(|| format!("envelope {number}")),
    })
}

/// One of its recipients, as far as it does not change.
pub fn recipient(message: u64, number: u32) -> Result<QueuedRecipient, String> {
    let notify = Notify::On { success: true, failure: message.is_multiple_of(2), delay: false };
    Ok(QueuedRecipient {
        number,
        recipient: Recipient {
            address: address(&format!("reader{number}@host{message}.example"))?,
            notify: number.is_multiple_of(2).then_some(notify),
            original: (number == 1).then(|| format!("rfc822;first{message}@example.net")),
        },
        via: (number == 2).then(|| address("alias@example.net")).transpose()?,
        state: QueueState::Held,
        attempts: 0,
        delay_reported: false,
        last: None,
    })
}

/// The try that was the last of so many.
pub fn attempt(message: u64, attempts: u32) -> Attempt {
    let text = format!("450 try {attempts} of message {message}");
    Attempt { is_reply: true, ..Attempt::finding(Tried::Deferred, EnhancedStatus::new(4, 4, 1), &text) }
}

/// An event of its story.
pub fn event(message: u64, number: u32) -> Event {
    let what = Happening::Noted { what: format!("event {number} of message {message}") };
    Event { at: UnixMillis(BEGINNING + message), recipient: None, what }
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| format!("{text}: {error:?}"))
}
