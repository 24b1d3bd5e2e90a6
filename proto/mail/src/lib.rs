//! The vocabulary of the house: addresses, envelopes, statuses, mailboxes and their changes.
//!
//! Everything here is a plain value. Nothing here reads a socket, a file or a clock, and nothing here knows
//! one protocol's grammar: the protocol crates print and parse these values, the engine stores them.

pub mod address;
pub mod change;
pub mod envelope;
pub mod machine;
pub mod mailbox;
pub mod queue;
pub mod quota;
pub mod secret;
pub mod snapshot;
pub mod status;
pub mod story;
pub mod text;
pub mod time;
pub mod uid_set;

pub use address::{Address, AddressError, Domain, LocalPart};
pub use change::{Change, ChangeError, Commit, FlagEdit, Group, MailboxRef, Outcome};
pub use envelope::{DsnReturn, Envelope, Notify, QueueId, Recipient, ReversePath};
pub use machine::{Machine, Moment, PeerFacts, Step, TlsFacts};
pub use mailbox::{
    AccountName, BlobId, BodyId, FlagSet, Flags, InternalDate, Keyword, MailboxId, MailboxInfo, MailboxName, ModSeq,
    SpecialUse, Uid, UidValidity,
};
pub use queue::{
    Attempt, QueueChange, QueueEntry, QueueState, QueuedEnvelope, QueuedMessage, QueuedRecipient, RequireTls, Settled,
    UnixMillis,
};
pub use quota::{Quota, Usage};
pub use secret::Secret;
pub use snapshot::{Message, Snapshot};
pub use status::{EnhancedStatus, Reply};
pub use story::{Arrival, Event, Happening};
pub use uid_set::UidSet;
