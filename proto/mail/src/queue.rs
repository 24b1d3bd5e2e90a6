//! Mail that must leave this machine, or cannot be delivered now: what is queued, and how the queue changes.
//!
//! A message in the queue has one state for each of its recipients. A recipient leaves the queue by being settled:
//! delivered, bounced or discarded by a named rule. A message whose recipients are all settled is gone.

use crate::address::Address;
use crate::envelope::{DsnReturn, QueueId, Recipient, ReversePath};
use crate::mailbox::{AccountName, BlobId, BodyId};
use crate::status::EnhancedStatus;
use crate::story::Event;
use crate::text::one_line;

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

/// Longest text kept of a reply or a cause, in octets.
pub const REASON_OCTETS_MAX: usize = 1_000;

/// What one try made of one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The next hop took it.
    Delivered,
    /// Not now: it is tried again.
    Deferred,
    /// Never: it bounces.
    Failed,
}

/// One try for one recipient: what came of it, and on which evidence.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attempt {
    /// What came of it.
    pub outcome: Outcome,
    /// Its enhanced status, of the class that fits the outcome.
    #[serde(with = "crate::status::as_text")]
    pub status: EnhancedStatus,
    /// Who answered, as `host[address]:port`; `None` when nobody was reached.
    pub peer: Option<String>,
    /// The peer's reply with its code, or our own finding: one line without control characters (V13), no longer than
    /// [`REASON_OCTETS_MAX`].
    pub text: String,
    /// Whether `text` is a reply of the peer.
    pub is_reply: bool,
    /// How the way was protected, in words for logs and reports, such as `Verified TLS (DANE), TLSv1.3 with cipher …`;
    /// `None` for clear text.
    pub tls: Option<String>,
    /// Whether the peer takes over the duty to report (it announced DSN, RFC 3461 §6.2.5). Only meaningful when delivered.
    pub dsn_passed_on: bool,
}

impl Attempt {
    /// A finding of our own: nobody answered.
    pub fn finding(outcome: Outcome, status: EnhancedStatus, text: &str) -> Attempt {
        let text = one_line(text);
        Attempt { outcome, status, peer: None, text, is_reply: false, tls: None, dsn_passed_on: false }
    }
}

/// How a recipient waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueState {
    /// Until then; due when the time is past.
    Waiting(UnixMillis),
    /// Until an administrator releases it.
    Held,
}

/// A recipient in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedRecipient {
    /// Its place among the recipients with which the message was queued, from 0. Never reused.
    pub number: u32,
    /// Whom it is for, with DSN parameters.
    pub recipient: Recipient,
    /// The address of ours that led to it, where an alias or a redirection did. Then the message is forwarded, and its
    /// reverse-path is rewritten on the way out.
    pub via: Option<Address>,
    /// How it waits.
    pub state: QueueState,
    /// Tries so far.
    pub attempts: u32,
    /// Whether its sender was told of the delay.
    pub delay_reported: bool,
    /// The last try.
    pub last: Option<Attempt>,
}

/// What is known of a queued message apart from its recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedEnvelope {
    /// Its name.
    pub id: QueueId,
    /// When it was accepted.
    pub arrived: UnixMillis,
    /// Where failures are reported.
    pub reverse_path: ReversePath,
    /// The account that submitted it.
    pub account: Option<AccountName>,
    /// BODY=8BITMIME was declared (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 was declared (RFC 6531).
    pub smtputf8: bool,
    /// What it wants of TLS on its way.
    pub require_tls: RequireTls,
    /// RET (RFC 3461 §4.3).
    pub dsn_return: Option<DsnReturn>,
    /// ENVID, decoded (RFC 3461 §4.4).
    pub envelope_id: Option<String>,
}

/// What a message wants of TLS on its way (RFC 8689).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequireTls {
    /// Nothing of its own.
    #[default]
    Ordinary,
    /// REQUIRETLS: authenticated TLS to a host whose name is proved, or back to its sender. Not for the null reverse-path,
    /// whose reports must not be lost for it (RFC 8689 §5).
    Required,
    /// `TLS-Required: No`, or a report about TLS (RFC 8460 §5.3): what the recipient's domain publishes must not keep it.
    Optional,
}

/// A message in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMessage {
    /// Its envelope.
    pub envelope: QueuedEnvelope,
    /// Its octets.
    pub blob: BlobId,
    /// How many they are.
    pub octets: u64,
    /// Who still waits, in order of number.
    pub recipients: Vec<QueuedRecipient>,
}

/// One recipient in the queue as the schedule needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueEntry {
    /// The message.
    pub message: QueueId,
    /// The recipient's number.
    pub number: u32,
    /// Whom it is for.
    pub address: Address,
    /// Who sends: the reverse-path as text, for fairness and for transports by sender.
    pub sender: String,
    /// When the message was accepted.
    pub arrived: UnixMillis,
    /// How it waits.
    pub state: QueueState,
    /// Tries so far.
    pub attempts: u32,
}

/// How a recipient leaves the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settled {
    /// The next hop took it.
    Delivered,
    /// It failed, and whoever wanted to know was told in the same commit.
    Bounced,
    /// Thrown away by a rule or an administrator, which the event names.
    Discarded,
}

/// One wanted alteration of the queue or of the stories of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueChange {
    /// Begins the story of an accepted message. The ledger counts its final recipients until the story is forgotten: where
    /// it is the first change of its commit, every accepted group of the commit is one that is delivered.
    Begin {
        /// The message.
        message: QueueId,
        /// Recipients thrown away by a rule.
        discarded: u32,
        /// How it begins.
        events: Vec<Event>,
    },
    /// Puts recipients into the queue. [`Begin`](QueueChange::Begin) of the same message comes before it. The ledger
    /// counts them as accepted.
    Enqueue {
        /// The envelope.
        envelope: Box<QueuedEnvelope>,
        /// The octets.
        body: BodyId,
        /// Who is to get it.
        recipients: Vec<QueuedRecipient>,
    },
    /// Another time, another state: after a try, a hold, a release, a retry. Nothing happens if the recipient is gone.
    Wait {
        /// The message.
        message: QueueId,
        /// The recipient.
        number: u32,
        /// How it waits from now on.
        state: QueueState,
        /// The try that was made, if one was.
        attempt: Option<Attempt>,
        /// Whether its sender is told of the delay in this commit.
        delay_reported: bool,
    },
    /// Takes a recipient out of the queue. Nothing happens if it is gone.
    Settle {
        /// The message.
        message: QueueId,
        /// The recipient.
        number: u32,
        /// How.
        how: Settled,
    },
    /// Adds to a message's story. A story that was forgotten or never begun still takes it; one that is very long takes none
    /// further of those that [may recur](Event::may_recur).
    Tell {
        /// The message.
        message: QueueId,
        /// What happened.
        event: Event,
    },
}
