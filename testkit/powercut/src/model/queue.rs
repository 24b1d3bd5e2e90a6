//! The model's queue: who waits, and what was made of those who do not.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The queue, and the sums of each message. Messages go by the number of their body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Queue {
    /// Recipients that wait, by number. No message without any.
    pub messages: BTreeMap<u64, BTreeMap<u32, Waiting>>,
    /// Sums of each message that was accepted.
    pub lines: BTreeMap<u64, Line>,
}

/// A recipient that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Until when, in milliseconds since 1970; `None` while it is held.
    pub due: Option<u64>,
    /// Tries so far.
    pub attempts: u32,
    /// Whether its sender was told of the delay.
    pub told: bool,
}

/// The sums of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// Accepted recipients.
    pub accepted: u64,
    /// Delivered, here or elsewhere.
    pub delivered: u64,
    /// Given up.
    pub bounced: u64,
    /// Thrown away.
    pub discarded: u64,
    /// Events of its story.
    pub events: u32,
}

/// How a recipient leaves the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Delivered.
    Delivered,
    /// Given up.
    Bounced,
    /// Thrown away.
    Discarded,
}

impl Queue {
    /// A message is accepted: so many are delivered here, so many have to wait.
    pub fn begin(&mut self, message: u64, delivered: usize, discarded: u32, recipients: u32) -> Option<()> {
        let (delivered, discarded) = (delivered as u64, u64::from(discarded));
        let accepted = delivered + discarded + u64::from(recipients);
        let line = Line { accepted, delivered, discarded, bounced: 0, events: 1 };
        if self.lines.insert(message, line).is_some() {
            return None;
        }
        if recipients > 0 {
            let all = (0..recipients).map(|number| (number, Waiting { due: Some(0), ..Waiting::default() })).collect();
            self.messages.insert(message, all);
        }
        Some(())
    }

    /// Recipients wait in another way, perhaps after a try. The event tells of it.
    pub fn wait(&mut self, message: u64, numbers: &[u32], due: Option<u64>, tried: bool, told: bool) -> Option<()> {
        self.lines.get_mut(&message)?.events += 1;
        for number in numbers {
            let waiting = self.messages.get_mut(&message).and_then(|message| message.get_mut(number));
            let Some(waiting) = waiting else { continue };
            // Neither a try nor a notice to the sender releases what was held meanwhile.
            if !tried && !told || waiting.due.is_some() {
                waiting.due = due;
            }
            waiting.attempts += u32::from(tried);
            waiting.told |= told;
        }
        Some(())
    }

    /// Recipients leave, if they are still there. The event tells of it.
    pub fn settle(&mut self, message: u64, numbers: &[u32], how: Ending) -> Option<()> {
        let line = self.lines.get_mut(&message)?;
        line.events += 1;
        let Some(recipients) = self.messages.get_mut(&message) else { return Some(()) };
        for number in numbers {
            if recipients.remove(number).is_some() {
                match how {
                    Ending::Delivered => line.delivered += 1,
                    Ending::Bounced => line.bounced += 1,
                    Ending::Discarded => line.discarded += 1,
                }
            }
        }
        if recipients.is_empty() {
            self.messages.remove(&message);
        }
        Some(())
    }
}
