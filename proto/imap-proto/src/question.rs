//! What an IMAP session asks of the house, and what it is told.

use bytes::Bytes;
use mail::{
    AccountName, BlobId, BodyId, Change, ChangeError, InternalDate, MailboxId, MailboxInfo, Outcome, Quota, Snapshot,
    Uid, Usage,
};
pub use sasl::AuthFailure;
use sasl::Credentials;
use std::sync::Arc;

/// The internal date of an appended message for which the client gave none. A session knows no calendar: whoever answers
/// [`Question::Commit`] puts the present moment in its place.
pub const INTERNAL_DATE_NOW: InternalDate = InternalDate { unix_seconds: i64::MIN, zone_minutes: 0 };

/// A range of a message's octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyRange {
    /// Which message.
    pub blob: BlobId,
    /// First octet.
    pub start: u64,
    /// How many; a range that reaches beyond the end is cut there.
    pub octets: u64,
}

/// A question of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Do these credentials fit? Answered by [`Answer::Authenticated`].
    Authenticate(Credentials),
    /// The account's mailboxes and subscribed names, in order of name. Answered by [`Answer::Mailboxes`].
    Mailboxes,
    /// The present picture of these mailboxes. Answered by [`Answer::Snapshots`].
    Snapshots(Vec<MailboxId>),
    /// Make this session the one that the mailbox's recent messages are told to. Answered by [`Answer::Recent`].
    ClaimRecent(MailboxId),
    /// The digests (see `message::digest`) of these messages. Answered by [`Answer::Digests`].
    Digests(Vec<BlobId>),
    /// Octets of messages. Answered by [`Answer::Bodies`].
    Read(Vec<BodyRange>),
    /// A message of so many octets is about to come as `Step::Body`: prepare to stage it. Answered by
    /// [`Answer::Staging`].
    BeginBody {
        /// Exactly so many octets will come.
        octets: u64,
    },
    /// The message is complete. Answered by [`Answer::Staged`]. Several may be staged before one commit (MULTIAPPEND).
    EndOfBody,
    /// Throw away all that is staged. Answered by [`Answer::Done`].
    Abandon,
    /// Make these changes in the session's account, with its quota. Answered by [`Answer::Committed`]; staged bodies
    /// are used up or thrown away by it.
    Commit(Vec<Change>),
    /// What the account holds and may hold. Answered by [`Answer::Usage`].
    Usage,
    /// The client told its name (RFC 2971), to be logged: pairs of field and value. Answered by [`Answer::Done`].
    ClientId(Vec<(String, String)>),
}

/// The house cannot answer now; it has logged why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

/// Why changes were not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitFailure {
    /// They cannot be met.
    Refused(ChangeError),
    /// The store cannot commit now; nothing was changed.
    Unavailable,
}

/// The answer to a question.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The account, or why not.
    Authenticated(Result<AccountName, AuthFailure>),
    /// The list.
    Mailboxes(Result<Arc<Vec<MailboxInfo>>, Unavailable>),
    /// One for each mailbox asked about, in order; `None` where it does not exist.
    Snapshots(Result<Vec<Option<Arc<Snapshot>>>, Unavailable>),
    /// Messages from this UID on are recent to this session.
    Recent(Uid),
    /// One for each message, in order; `None` where it cannot be read.
    Digests(Result<Vec<Option<Bytes>>, Unavailable>),
    /// One for each range, in order; `None` where it cannot be read (gone, or damaged).
    Bodies(Result<Vec<Option<Bytes>>, Unavailable>),
    /// Ready, or not.
    Staging(Result<(), Unavailable>),
    /// The staged body; `Unavailable` when the disk failed or is full.
    Staged(Result<BodyId, Unavailable>),
    /// What each change did.
    Committed(Result<Vec<Outcome>, CommitFailure>),
    /// Usage and limits.
    Usage(Result<(Usage, Quota), Unavailable>),
    /// Done as asked.
    Done,
}
