//! The store: where accepted mail lives. No protocol knowledge, no sockets.
//!
//! One narrow seam, [`MailStore`]. Everything that alters an account is a [`Commit`], a value; everything that reads
//! gets an unchanging picture. [`contract`] is the test that every back end passes; [`embedded`] is the back end on a
//! local disk: SQLite for what changes, segments for what does not (`docs/design/store.md`).

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod embedded;
pub mod queue;

use bytes::Bytes;
use mail::{
    AccountName, BlobId, BodyId, ChangeError, Commit, MailboxId, MailboxInfo, ModSeq, Outcome, QueueEntry, QueueId,
    QueuedMessage, Snapshot, Uid, UnixMillis, Usage,
};
use queue::{Audit, Story, StoryQuery};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What every method of the trait returns: a future that may be dropped at any time. A dropped commit may or may not
/// happen, as a whole.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why the store could not do what it was asked. All of these are temporary to a peer.
#[derive(Debug, Clone)]
pub enum StoreError {
    /// No room, or a configured limit of the storage area is reached (R46).
    Full,
    /// The disk or the database failed; the text is for the log.
    Disk(Arc<str>),
    /// A record does not match its checksum; the text says which.
    Damaged(Arc<str>),
    /// The message is gone.
    NoSuchBlob,
    /// The account has no such mailbox.
    NoSuchMailbox,
    /// The store is closing down.
    Closed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Full => f.write_str("no room left in the store"),
            StoreError::Disk(cause) => write!(f, "the disk failed: {cause}"),
            StoreError::Damaged(cause) => write!(f, "damaged record: {cause}"),
            StoreError::NoSuchBlob => f.write_str("the message is gone"),
            StoreError::NoSuchMailbox => f.write_str("no such mailbox"),
            StoreError::Closed => f.write_str("the store is closed"),
        }
    }
}

impl std::error::Error for StoreError {}

/// A range of a stored message's octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyRange {
    /// Which message.
    pub blob: BlobId,
    /// First octet.
    pub start: u64,
    /// How many; a range that reaches beyond the end is cut there.
    pub octets: u64,
}

/// What became of one group of a commit.
pub type GroupOutcome = Result<Vec<Outcome>, ChangeError>;

/// Takes the octets of a message as they come. Memory is bounded whatever the size: beyond a threshold the octets go
/// to disk. Dropping it throws the octets away.
pub trait BodyWriter: Send + Sync {
    /// Appends octets.
    fn write(&mut self, octets: &[u8]) -> Result<(), StoreError>;

    /// Ends the message. `prefix` (trace fields) is put in front of what was written. `digest` is what reading asks
    /// often, in a form the store does not look into.
    fn finish(self: Box<Self>, prefix: &[u8], digest: Vec<u8>) -> Result<StagedBody, StoreError>;
}

/// A message's octets, waiting for a commit. Dropping it throws away what no commit took up.
pub struct StagedBody {
    /// The name by which changes refer to it.
    pub id: BodyId,
    /// Octets of the whole message, prefix included.
    pub octets: u64,
    /// Releases the staged octets when dropped.
    pub guard: Box<dyn Send + Sync>,
}

/// Wakes when an account changed. Several changes may wake it once.
#[derive(Debug, Clone)]
pub struct Watch(pub tokio::sync::watch::Receiver<ModSeq>);

impl Watch {
    /// Waits for a change that this watch has not told of. Never ends once the store is closed.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Durable mail of many accounts.
pub trait MailStore: Send + Sync + 'static {
    /// Begins to stage a message.
    fn stage(&self) -> Result<Box<dyn BodyWriter>, StoreError>;

    /// Whether a message of so many octets would find room now (R46).
    fn has_room(&self, octets: u64) -> bool;

    /// Makes a commit durable. When this returns `Ok`, every group that was accepted survives a power cut. The answers
    /// are in the order of the groups.
    fn commit(&self, commit: Commit) -> Answer<'_, Vec<GroupOutcome>>;

    /// The account's mailboxes and subscribed names, in order of name. An account that is not there yet is made.
    fn mailboxes(&self, account: &AccountName) -> Answer<'_, Arc<Vec<MailboxInfo>>>;

    /// The present picture of a mailbox.
    fn snapshot(&self, account: &AccountName, mailbox: MailboxId) -> Answer<'_, Arc<Snapshot>>;

    /// The UID from which messages are recent to the caller, who becomes the one they were told to
    /// (RFC 3501 §2.3.2, \Recent). Not durable: after a crash a message may be recent again.
    fn claim_recent(&self, account: &AccountName, mailbox: MailboxId) -> Answer<'_, Uid>;

    /// Digests, one for each message, in order.
    fn digests(&self, blobs: Vec<BlobId>) -> Answer<'_, Vec<Result<Bytes, StoreError>>>;

    /// Octets, one for each range, in order. Checksums are verified. The caller bounds the sum of octets.
    fn read(&self, ranges: Vec<BodyRange>) -> Answer<'_, Vec<Result<Bytes, StoreError>>>;

    /// What the account holds.
    fn usage(&self, account: &AccountName) -> Answer<'_, Usage>;

    /// Counts anew what the account holds, and keeps that. Gives what it was and what it is.
    fn recalculate(&self, account: &AccountName) -> Answer<'_, (Usage, Usage)>;

    /// All accounts that the store knows, in order of name.
    fn accounts(&self) -> Answer<'_, Vec<AccountName>>;

    /// Removes an account with all its mail.
    fn remove_account(&self, account: &AccountName) -> Answer<'_, ()>;

    /// What waits in the queue, in order of message and number: at most `limit` entries after `after`.
    fn queue_entries(&self, after: Option<(QueueId, u32)>, limit: usize) -> Answer<'_, Vec<QueueEntry>>;

    /// A message of the queue, with the recipients that still wait.
    fn queued(&self, message: QueueId) -> Answer<'_, Option<QueuedMessage>>;

    /// The same, with only those recipients that have one of these numbers: a job's worth, however many there are.
    fn queued_for(&self, message: QueueId, recipients: Vec<u32>) -> Answer<'_, Option<QueuedMessage>>;

    /// Messages of the queue in order of name: at most `limit` after `after`.
    fn queued_messages(&self, after: QueueId, limit: usize) -> Answer<'_, Vec<QueuedMessage>>;

    /// What happened to a message.
    fn story(&self, message: QueueId) -> Answer<'_, Option<Story>>;

    /// Stories that a query asks for, the newest first.
    fn stories(&self, query: StoryQuery) -> Answer<'_, Vec<Story>>;

    /// Whether mail is conserved: every accepted recipient is delivered, bounced, discarded or in the queue.
    fn audit(&self) -> Answer<'_, Audit>;

    /// Forgets stories of messages that came before `before`, and the oldest beyond `messages_max`. What is in the queue
    /// keeps its story.
    fn forget_stories(&self, before: UnixMillis, messages_max: u64) -> Answer<'_, ()>;

    /// A watch on an account.
    fn watch(&self, account: &AccountName) -> Watch;

    /// Finishes what is under way, syncs and closes. Later calls answer [`StoreError::Closed`].
    fn close(&self) -> Answer<'_, ()>;
}
