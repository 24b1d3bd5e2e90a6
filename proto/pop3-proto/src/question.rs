//! What a POP3 session asks of the house, and what it is told.

use bytes::Bytes;
use mail::{AccountName, Snapshot, Uid};
pub use sasl::AuthFailure;
use sasl::Credentials;
use std::sync::Arc;

/// A question of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Do these credentials fit? Answered by [`Answer::Authenticated`].
    Authenticate(Credentials),
    /// The maildrop as it is now; the session keeps this picture to its end (R60). Answered by [`Answer::Maildrop`].
    Open,
    /// Up to `octets` octets of a message from `start` on. Answered by [`Answer::Octets`].
    Read {
        /// Which message.
        uid: Uid,
        /// First octet.
        start: u64,
        /// How many at most.
        octets: u64,
    },
    /// Remove these messages for good. Answered by [`Answer::Removed`].
    Remove(Vec<Uid>),
}

/// The house cannot answer now; it has logged why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

/// The answer to a question.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The account, or why not.
    Authenticated(Result<AccountName, AuthFailure>),
    /// The picture of INBOX.
    Maildrop(Result<Arc<Snapshot>, Unavailable>),
    /// The octets; empty at the end; `None` where the message cannot be read.
    Octets(Option<Bytes>),
    /// Whether they are gone.
    Removed(Result<(), Unavailable>),
}
