//! The story of a message: what happened to it, event by event, as `pillarbox why` tells it (P1).

use crate::queue::{Attempt, Outcome, UnixMillis};
use serde::{Deserialize, Serialize};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: UnixMillis,
    /// Whom it is about; everybody without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

impl Event {
    /// Whether it may come again for the same recipient: of these there is no end while a message is in the queue. A try
    /// that failed for good is made again where the report of it could not be written; that it was the last, a
    /// [`Bounced`](Happening::Bounced) says.
    pub fn may_recur(&self) -> bool {
        match &self.what {
            Happening::Attempted(attempt) => attempt.outcome != Outcome::Delivered,
            what => matches!(what, Happening::Deferred { .. }),
        }
    }
}

/// Facts of a message as it was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Arrival {
    /// The listener, or `pickup` for local programs, or `bounce` for what we wrote ourselves.
    pub listener: String,
    /// The peer's address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The name it greeted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// TLS version and cipher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// The account that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The reverse-path, without brackets.
    pub from: String,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// The Message-ID field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Octets as stored.
    pub octets: u64,
}

/// What can happen to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happening {
    /// It was accepted: everything up to the 250.
    Received(Arrival),
    /// It was refused, or one of its recipients was; nothing of it was kept.
    Refused {
        /// What it was.
        arrival: Arrival,
        /// The check or rule that decided.
        by: String,
        /// The reply.
        reply: String,
    },
    /// An alias, a redirection or a copy: this address stands for those.
    Expanded {
        /// Where it leads.
        to: Vec<String>,
        /// Which table or rule says so.
        by: String,
    },
    /// Put into a mailbox, in the same commit.
    Stored {
        /// Whose.
        account: String,
        /// Which.
        mailbox: String,
    },
    /// Put into the queue.
    Queued,
    /// A try.
    Attempted(Attempt),
    /// Waits until then.
    Deferred {
        /// When it is tried next.
        until: UnixMillis,
    },
    /// Waits for an administrator.
    Held {
        /// The rule or administrator that says so.
        by: String,
    },
    /// An administrator let it go on.
    Released {
        /// Who.
        by: String,
    },
    /// Given up: a report was sent to its reverse-path, or the reason why none was.
    Bounced {
        /// Why.
        cause: String,
        /// The report's name, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<String>,
    },
    /// The sender was told something other than a failure: delay, or delivery where that was asked for.
    Reported {
        /// What about.
        about: String,
        /// The report's name.
        report: String,
    },
    /// Thrown away.
    Discarded {
        /// The rule or administrator that says so.
        by: String,
    },
    /// The message was altered: a field removed, added, replaced; a signature made.
    Altered {
        /// What was done, and by which rule.
        what: String,
    },
    /// A check's finding that decided nothing by itself.
    Noted {
        /// What.
        what: String,
    },
}
