//! The model's queue, and the stories of its messages.

use crate::queue::{Audit, EVENTS_WITH_DEFERRALS_MAX, Ledger, Story};
use mail::{
    BlobId, Event, QueueChange, QueueEntry, QueueId, QueueState, QueuedEnvelope, QueuedMessage, QueuedRecipient,
    Settled,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What waits, and what is told.
#[derive(Default)]
pub struct Queue {
    pub messages: BTreeMap<QueueId, Queued>,
    pub tales: BTreeMap<QueueId, Tale>,
}

/// A message with recipients that wait.
pub struct Queued {
    pub envelope: QueuedEnvelope,
    pub octets: Arc<Vec<u8>>,
    pub recipients: BTreeMap<u32, QueuedRecipient>,
    /// Learned from the store when it is first seen.
    pub blob: Option<BlobId>,
}

/// What is told of a message.
#[derive(Default)]
pub struct Tale {
    began: Vec<Event>,
    later: Vec<Event>,
    /// Without those that wait. `None` when it never began.
    sums: Option<Ledger>,
}

impl Queue {
    pub fn begin(&mut self, message: QueueId, delivered: u64, discarded: u64, events: &[Event]) {
        let tale = self.tales.entry(message).or_default();
        assert!(tale.sums.is_none(), "a message begins once");
        tale.began = events.to_vec();
        let accepted = delivered + discarded;
        tale.sums = Some(Ledger { messages: 1, accepted, delivered, discarded, ..Ledger::default() });
    }

    pub fn enqueue(&mut self, envelope: &QueuedEnvelope, octets: Arc<Vec<u8>>, recipients: &[QueuedRecipient]) {
        self.sums(envelope.id).accepted += recipients.len() as u64;
        let recipients = recipients.iter().map(|recipient| (recipient.number, recipient.clone())).collect();
        let queued = Queued { envelope: envelope.clone(), octets, recipients, blob: None };
        assert!(self.messages.insert(envelope.id, queued).is_none(), "a message is queued once");
    }

    pub fn wait(&mut self, change: &QueueChange) {
        let QueueChange::Wait { message, number, state, attempt, delay_reported } = change else { return };
        let queued = self.messages.get_mut(message).and_then(|queued| queued.recipients.get_mut(number));
        let Some(recipient) = queued else { return };
        // Held while it was tried, or while its sender was told: it stays so.
        if attempt.is_none() && !delay_reported || recipient.state != QueueState::Held {
            recipient.state = *state;
        }
        if let Some(attempt) = attempt {
            recipient.attempts += 1;
            recipient.last = Some(attempt.clone());
        }
        recipient.delay_reported |= delay_reported;
    }

    pub fn settle(&mut self, message: QueueId, number: u32, how: Settled) {
        let Some(queued) = self.messages.get_mut(&message) else { return };
        if queued.recipients.remove(&number).is_none() {
            return;
        }
        if queued.recipients.is_empty() {
            self.messages.remove(&message);
        }
        let sums = self.sums(message);
        match how {
            Settled::Delivered => sums.delivered += 1,
            Settled::Bounced => sums.bounced += 1,
            Settled::Discarded => sums.discarded += 1,
        }
    }

    pub fn tell(&mut self, message: QueueId, event: &Event) {
        let later = &mut self.tales.entry(message).or_default().later;
        if !event.may_recur() || later.len() < EVENTS_WITH_DEFERRALS_MAX as usize {
            later.push(event.clone());
        }
    }

    /// Forgets the stories of messages before this one, but for those that wait.
    pub fn forget(&mut self, before: QueueId) {
        self.tales.retain(|message, _| *message >= before || self.messages.contains_key(message));
    }

    fn sums(&mut self, message: QueueId) -> &mut Ledger {
        self.tales.get_mut(&message).and_then(|tale| tale.sums.as_mut()).expect("it began")
    }

    /// Compares a message with what the store shows of it, and learns its blob.
    pub fn compare(&mut self, message: QueueId, found: Option<&QueuedMessage>) {
        let (expected, found) = match (self.messages.get_mut(&message), found) {
            (None, None) => return,
            (Some(expected), Some(found)) => (expected, found),
            (expected, found) => panic!("{message}: queued is {}, found {found:?}", expected.is_some()),
        };
        assert_eq!(found.envelope, expected.envelope);
        assert_eq!(found.octets as usize, expected.octets.len());
        assert_eq!(found.recipients.iter().collect::<Vec<_>>(), expected.recipients.values().collect::<Vec<_>>());
        assert_eq!(found.blob, *expected.blob.get_or_insert(found.blob), "octets move only under the same name");
    }

    /// A message's story, with its sums.
    pub fn story(&self, message: QueueId) -> Option<Story> {
        let tale = self.tales.get(&message)?;
        let events = tale.began.iter().chain(&tale.later).cloned().collect();
        Some(Story { message, events, ledger: self.ledger(message) })
    }

    /// The sums of one message.
    fn ledger(&self, message: QueueId) -> Option<Ledger> {
        let mut ledger = self.tales.get(&message)?.sums?;
        for recipient in self.messages.get(&message).iter().flat_map(|queued| queued.recipients.values()) {
            match recipient.state {
                QueueState::Waiting(_) => ledger.waiting += 1,
                QueueState::Held => ledger.held += 1,
            }
        }
        Some(ledger)
    }

    /// Everything that waits, in order.
    pub fn entries(&self) -> Vec<QueueEntry> {
        let of_message = |(id, queued): (&QueueId, &Queued)| {
            let (message, envelope) = (*id, queued.envelope.clone());
            let entry = move |recipient: &QueuedRecipient| QueueEntry {
                message,
                number: recipient.number,
                address: recipient.recipient.address.clone(),
                sender: envelope.reverse_path.to_string(),
                arrived: envelope.arrived,
                state: recipient.state,
                attempts: recipient.attempts,
            };
            queued.recipients.values().map(entry).collect::<Vec<_>>()
        };
        self.messages.iter().flat_map(of_message).collect()
    }

    /// What an audit must say.
    pub fn audit(&self) -> Audit {
        let mut total = Ledger::default();
        for ledger in self.tales.keys().filter_map(|message| self.ledger(*message)) {
            total.messages += ledger.messages;
            total.accepted += ledger.accepted;
            total.delivered += ledger.delivered;
            total.bounced += ledger.bounced;
            total.discarded += ledger.discarded;
            total.waiting += ledger.waiting;
            total.held += ledger.held;
        }
        Audit { total, unbalanced: Vec::new() }
    }
}
