//! Alterations as values: at once the store's interface and the oracle of its tests.
//!
//! A [`Commit`] is atomic and durable as a whole. Its groups belong to one account each; a group whose demands cannot
//! be met (no such mailbox, quota) is refused as a whole and leaves the other groups alone.

use crate::mailbox::{
    AccountName, BodyId, FlagSet, InternalDate, MailboxId, MailboxName, ModSeq, SpecialUse, Uid, UidValidity,
};
use crate::queue::QueueChange;
use crate::quota::Quota;
use crate::uid_set::UidSet;

/// A mailbox as a change names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailboxRef {
    /// By its identity.
    Id(MailboxId),
    /// By its name at the time of the commit; sees what earlier changes of the same group did.
    Named(MailboxName),
}

/// How flags are edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagEdit {
    /// Set these, keep the others.
    Add,
    /// Clear these, keep the others.
    Remove,
    /// Exactly these.
    Replace,
}

/// One wanted alteration of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes a mailbox. Missing superior levels are made too.
    CreateMailbox {
        /// Its name.
        name: MailboxName,
        /// Its role.
        special_use: Option<SpecialUse>,
    },
    /// Removes a mailbox and all its messages. Inferiors stay. INBOX cannot be removed.
    DeleteMailbox {
        /// Which.
        mailbox: MailboxId,
    },
    /// Gives a mailbox and all its inferiors a new name; identities and UIDs stay. Missing superiors are made.
    RenameMailbox {
        /// Which.
        mailbox: MailboxId,
        /// Its new full name.
        name: MailboxName,
    },
    /// Lists or unlists a name for LSUB; the mailbox need not exist.
    Subscribe {
        /// Which name.
        name: MailboxName,
        /// Whether to list it.
        subscribed: bool,
    },
    /// Puts a staged body into a mailbox.
    Append {
        /// Where.
        mailbox: MailboxRef,
        /// What.
        body: BodyId,
        /// Its marks.
        flags: FlagSet,
        /// Its internal date.
        internal_date: InternalDate,
    },
    /// Copies messages by reference, keeping flags and internal dates. UIDs that do not exist are passed over.
    Copy {
        /// From where.
        from: MailboxId,
        /// Which.
        uids: UidSet,
        /// To where.
        to: MailboxRef,
    },
    /// Copies messages and expunges the originals, as one (RFC 6851).
    Move {
        /// From where.
        from: MailboxId,
        /// Which.
        uids: UidSet,
        /// To where.
        to: MailboxRef,
    },
    /// Edits flags. UIDs that do not exist are passed over.
    StoreFlags {
        /// Where.
        mailbox: MailboxId,
        /// Which.
        uids: UidSet,
        /// How.
        edit: FlagEdit,
        /// Which flags.
        flags: FlagSet,
        /// Leave messages alone that changed after this mod-sequence (RFC 7162 §3.1.3, UNCHANGEDSINCE).
        unchanged_since: Option<ModSeq>,
    },
    /// Removes messages for good.
    Expunge {
        /// Where.
        mailbox: MailboxId,
        /// Which; UIDs that do not exist are passed over.
        uids: UidSet,
        /// Only those marked `\Deleted` at the time of the commit.
        only_deleted: bool,
    },
}

/// Changes of one account, atomic together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Whose. An account unknown to the store is made, with its initial mailboxes.
    pub account: AccountName,
    /// In this order; later ones see what earlier ones did.
    pub changes: Vec<Change>,
    /// Limits checked for `Append`, `Copy` and for `Move` between mailboxes (a move needs no room).
    pub quota: Quota,
}

/// What is made durable together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    /// One group an account.
    pub groups: Vec<Group>,
    /// All or nothing: when one group is refused, none is applied, and the others answer
    /// [`ChangeError::NotApplied`]. For a message to several accounts that gets a single reply.
    pub together: bool,
    /// What becomes of queue and stories, in order. It takes effect with the groups: not at all when `together` holds
    /// and a group was refused.
    pub queue: Vec<QueueChange>,
}

/// What a change did. One for each change of an accepted group, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A mailbox was made.
    Created {
        /// The new mailbox.
        mailbox: MailboxId,
        /// Its numbering.
        uid_validity: UidValidity,
    },
    /// Deleted, renamed, subscribed: nothing to tell.
    Done,
    /// A message was put into a mailbox.
    Appended {
        /// The mailbox's numbering.
        uid_validity: UidValidity,
        /// The new message.
        uid: Uid,
    },
    /// Messages were copied or moved.
    Copied {
        /// The target's numbering.
        uid_validity: UidValidity,
        /// Old and new UIDs, ascending in both.
        uids: Vec<(Uid, Uid)>,
    },
    /// Flags were edited.
    Flagged {
        /// Messages that exist and passed `unchanged_since`, whether or not their flags changed.
        stored: UidSet,
        /// Messages left alone because of `unchanged_since`.
        modified: UidSet,
        /// The mod-sequence that the edited messages now carry.
        mod_sequence: ModSeq,
    },
    /// Messages were removed.
    Expunged {
        /// Which, ascending.
        uids: Vec<Uid>,
    },
}

/// Why a group was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeError {
    /// No such mailbox in the account (any more).
    NoSuchMailbox,
    /// A mailbox of that name exists.
    MailboxExists,
    /// INBOX cannot be deleted.
    Inbox,
    /// More mailboxes than an account may have.
    TooManyMailboxes,
    /// The account would exceed its quota.
    OverQuota,
    /// More keywords than a mailbox may have.
    TooManyKeywords,
    /// The body is not staged (any more).
    NoSuchBody,
    /// UIDs or mod-sequences of the mailbox are used up.
    Exhausted,
    /// Another group of a commit marked `together` was refused.
    NotApplied,
}
