//! What a deed does to the queue.

use crate::model::queue::{Ending, Queue};
use crate::model::{Deed, Model};
use crate::queued;
use mail::{BodyId, QueueChange, QueueState, Settled, UnixMillis};

/// The queue changes of a deed. `body` gives the staged body of a number.
pub fn changes(
    model: &Model,
    deed: &Deed,
    body: impl Fn(u64) -> Result<BodyId, String>,
) -> Result<Vec<QueueChange>, String> {
    match deed {
        Deed::Accept { body: number, discarded, recipients, .. } => {
            let mut changes = vec![begin(*number, *discarded)];
            if *recipients > 0 {
                changes.push(enqueue(*number, body(*number)?, *recipients)?);
            }
            Ok(changes)
        }
        Deed::Wait { message, numbers, due, tried, told } => {
            let wait = |number: &u32| {
                let state = due.map_or(QueueState::Held, |due| QueueState::Waiting(UnixMillis(due)));
                let attempts = attempts(&model.queue, *message, *number);
                let attempt = tried.then(|| queued::attempt(*message, attempts + 1));
                let message = queued::id(*message);
                QueueChange::Wait { message, number: *number, state, attempt, delay_reported: *told }
            };
            Ok(numbers.iter().map(wait).chain([tell(&model.queue, *message)]).collect())
        }
        Deed::Settle { message, numbers, how, report } => {
            let how = match how {
                Ending::Delivered => Settled::Delivered,
                Ending::Bounced => Settled::Bounced,
                Ending::Discarded => Settled::Discarded,
            };
            let settle = |number: &u32| QueueChange::Settle { message: queued::id(*message), number: *number, how };
            // The report is first, so that its row in a mailbox counts for it.
            let begun = report.iter().map(|(_, number)| begin(*number, 0));
            Ok(begun.chain(numbers.iter().map(settle)).chain([tell(&model.queue, *message)]).collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn begin(number: u64, discarded: u32) -> QueueChange {
    QueueChange::Begin { message: queued::id(number), discarded, events: vec![queued::event(number, 0)] }
}

fn enqueue(number: u64, body: BodyId, recipients: u32) -> Result<QueueChange, String> {
    let recipients = (0..recipients).map(|place| {
        let recipient = queued::recipient(number, place)?;
        Ok(mail::QueuedRecipient { state: QueueState::Waiting(UnixMillis(0)), ..recipient })
    });
    let recipients = recipients.collect::<Result<_, String>>()?;
    Ok(QueueChange::Enqueue { envelope: Box::new(queued::envelope(number)?), body, recipients })
}

/// The next event of a message's story.
fn tell(queue: &Queue, message: u64) -> QueueChange {
    let number = queue.lines.get(&message).map_or(0, |line| line.events);
    QueueChange::Tell { message: queued::id(message), event: queued::event(message, number) }
}

fn attempts(queue: &Queue, message: u64, number: u32) -> u32 {
    let recipient = queue.messages.get(&message).and_then(|message| message.get(&number));
    recipient.map_or(0, |recipient| recipient.attempts)
}
