//! What is asked of queue and stories.

use mail::{Event, QueueId, UnixMillis};

/// The story of a message, in order of time, with the sum of what became of its recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// The message.
    pub message: QueueId,
    /// What happened.
    pub events: Vec<Event>,
    /// What became of its recipients; `None` when it was never accepted.
    pub ledger: Option<Ledger>,
}

/// Which stories are wanted.
#[derive(Debug, Clone, Default)]
pub struct StoryQuery {
    /// Only those in which this text occurs, without regard to ASCII case: an address, a message-id.
    pub text: Option<String>,
    /// Only of messages that came after this.
    pub after: UnixMillis,
    /// Only the newest so many; at most [`STORIES_PER_ANSWER_MAX`].
    pub limit: usize,
}

/// While a message has so many events, those of its beginning apart, further tries are not told: a thousand recipients
/// in a long queue would fill the disk with them, and nobody reads so many. How each of them ends always is.
pub const EVENTS_WITH_DEFERRALS_MAX: u32 = 5_000;
/// Most stories of one answer.
pub const STORIES_PER_ANSWER_MAX: usize = 1_000;

/// How final recipients were accepted and what became of them. Mail is conserved when [`Ledger::is_balanced`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Messages counted.
    pub messages: u64,
    /// Final recipients that were accepted.
    pub accepted: u64,
    /// Delivered: to a mailbox here, or to the next hop.
    pub delivered: u64,
    /// Given up; whoever wanted to know was told.
    pub bounced: u64,
    /// Thrown away by a rule or an administrator.
    pub discarded: u64,
    /// In the queue, waiting for their time.
    pub waiting: u64,
    /// In the queue, waiting for an administrator.
    pub held: u64,
}

impl Ledger {
    /// Whether every accepted recipient is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.accepted == self.delivered + self.bounced + self.discarded + self.waiting + self.held
    }
}

/// What an audit of the whole queue found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// The sums.
    pub total: Ledger,
    /// Messages whose recipients do not add up; at most a hundred are named.
    pub unbalanced: Vec<QueueId>,
}
