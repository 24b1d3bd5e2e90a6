//! A store's queue in the form of the model.

use crate::body::Bodies;
use crate::model::queue::{Line, Queue, Waiting};
use crate::queued;
use mail::{BlobId, QueueId, QueueState, QueuedMessage, QueuedRecipient};
use std::collections::BTreeMap;
use store::MailStore;
use store::embedded::EmbeddedStore;

/// Messages asked for at a time.
const PAGE: usize = 100;

/// A queue as the store shows it.
#[derive(Debug, Default)]
pub struct FoundQueue {
    /// Who waits, and the sums of those messages that were asked for.
    pub queue: Queue,
    /// The blobs of all that waits, and whose octets they should have.
    pub blobs: BTreeMap<BlobId, u64>,
}

/// Reads all that waits, and the sums of messages that may have been accepted. No others are there.
pub async fn queue(
    store: &EmbeddedStore,
    messages: impl Iterator<Item = u64>,
    bodies: &Bodies,
) -> Result<FoundQueue, String> {
    let mut found = FoundQueue::default();
    let mut after = QueueId(0);
    let mut recipients = 0;
    loop {
        let page = store.queued_messages(after, PAGE).await.map_err(|error| format!("queue: {error}"))?;
        let Some(last) = page.last() else { break };
        after = last.envelope.id;
        for message in page {
            recipients += message.recipients.len() as u64;
            let (number, waiting) =
                message_of(&message, bodies).map_err(|error| format!("queue, {}: {error}", message.envelope.id))?;
            found.queue.messages.insert(number, waiting);
            found.blobs.insert(message.blob, number);
        }
    }
    for message in messages {
        if let Some(line) = line(store, message).await.map_err(|error| format!("story of {message}: {error}"))? {
            found.queue.lines.insert(message, line);
        }
    }
    let audit = store.audit().await.map_err(|error| format!("audit: {error}"))?;
    if !audit.total.is_balanced() || !audit.unbalanced.is_empty() {
        return Err(format!("mail is not conserved: {audit:?}"));
    }
    if audit.total.waiting + audit.total.held != recipients {
        return Err(format!("{recipients} recipients wait, and the audit says {audit:?}"));
    }
    let waiting = found.queue.messages.keys().find(|message| !found.queue.lines.contains_key(message));
    if audit.total.messages != found.queue.lines.len() as u64 || waiting.is_some() {
        return Err(format!("a message is in the queue or the ledger that nobody began: {waiting:?}, {audit:?}"));
    }
    Ok(found)
}

/// Reads one message: who waits, and its sums.
pub async fn message(store: &EmbeddedStore, message: u64, bodies: &Bodies) -> Result<Queue, String> {
    let mut found = Queue::default();
    let said = |error: String| format!("message {message}: {error}");
    if let Some(queued) = store.queued(queued::id(message)).await.map_err(|error| said(error.to_string()))? {
        found.messages.extend([message_of(&queued, bodies).map_err(said)?]);
    }
    found.lines.extend(line(store, message).await.map_err(said)?.map(|line| (message, line)));
    Ok(found)
}

/// Reads a message that waits.
fn message_of(found: &QueuedMessage, bodies: &Bodies) -> Result<(u64, BTreeMap<u32, Waiting>), String> {
    let number = queued::number(found.envelope.id).ok_or("a name that was never given")?;
    let envelope = queued::envelope(number)?;
    if found.envelope != envelope {
        return Err(format!("the envelope is {:?} instead of {envelope:?}", found.envelope));
    }
    if found.octets != bodies.get(number).whole.len() as u64 {
        return Err("not the size it was queued with".into());
    }
    if found.recipients.is_empty() {
        return Err("nobody waits for it".into());
    }
    let mut waiting = BTreeMap::new();
    for recipient in &found.recipients {
        let QueuedRecipient { state, attempts, delay_reported: told, .. } = *recipient;
        let expected = QueuedRecipient {
            state,
            attempts,
            delay_reported: told,
            last: (attempts > 0).then(|| queued::attempt(number, attempts)),
            ..queued::recipient(number, recipient.number)?
        };
        if *recipient != expected {
            return Err(format!("{recipient:?} instead of {expected:?}"));
        }
        let due = match state {
            QueueState::Waiting(due) => Some(due.0),
            QueueState::Held => None,
        };
        waiting.insert(recipient.number, Waiting { due, attempts, told });
    }
    Ok((number, waiting))
}

async fn line(store: &EmbeddedStore, message: u64) -> Result<Option<Line>, String> {
    let Some(story) = store.story(queued::id(message)).await.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let ledger = story.ledger.ok_or("events of a message that was never accepted")?;
    if !ledger.is_balanced() {
        return Err(format!("not conserved: {ledger:?}"));
    }
    for (number, event) in (0..).zip(&story.events) {
        if *event != queued::event(message, number) {
            return Err(format!("event {number} is {event:?}"));
        }
    }
    Ok(Some(Line {
        accepted: ledger.accepted,
        delivered: ledger.delivered,
        bounced: ledger.bounced,
        discarded: ledger.discarded,
        events: story.events.len() as u32,
    }))
}

/// Whether some messages are in queue and ledger as expected. The error names the first difference.
pub fn compare_queue(found: &Queue, expected: &Queue, messages: impl Iterator<Item = u64>) -> Result<(), String> {
    for message in messages {
        let (line, wanted) = (found.lines.get(&message), expected.lines.get(&message));
        if line != wanted {
            return Err(format!("queue, message {message}: {line:?} instead of {wanted:?}"));
        }
        let (waiting, wanted) = (found.messages.get(&message), expected.messages.get(&message));
        if waiting != wanted {
            return Err(format!("queue, message {message}: {waiting:?} instead of {wanted:?}"));
        }
    }
    Ok(())
}
