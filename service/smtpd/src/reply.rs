//! The one table from causes to replies.

use mail::{AccountName, Address, ChangeError, Domain, EnhancedStatus, QueueId, Reply};
use queue::rate::Exceeded;
use sender_auth::srs::SrsError;
use store::StoreError;

/// R92.
pub fn queued(id: QueueId) -> Reply {
    Reply::new(250, EnhancedStatus::new(2, 0, 0), format!("Ok: queued as {id}"))
}

/// R46.
pub fn insufficient_storage() -> Reply {
    Reply::new(452, EnhancedStatus::new(4, 3, 1), "Insufficient system storage")
}

/// Our own trouble: the peer keeps the message and tries again.
pub fn local_error() -> Reply {
    Reply::new(451, EnhancedStatus::new(4, 3, 0), "Error: local error in processing, try again later")
}

/// R114.
pub fn configuration_problem() -> Reply {
    Reply::new(451, EnhancedStatus::new(4, 3, 5), "Server configuration problem")
}

/// R101.
pub fn too_many_recipients() -> Reply {
    Reply::new(452, EnhancedStatus::new(4, 5, 3), "Error: too many recipients")
}

/// R101.
pub fn too_many_hops() -> Reply {
    Reply::new(554, EnhancedStatus::new(5, 4, 0), "Error: too many hops")
}

/// R96.
pub fn verified(address: &Address) -> Reply {
    Reply::new(252, EnhancedStatus::new(2, 0, 0), address.to_string())
}

/// R97, for a domain whose queue cannot be run.
pub fn etrn_unavailable(domain: &Domain) -> Reply {
    Reply::plain(459, format!("<{domain}>: service unavailable"))
}

/// R97.
pub fn etrn_started() -> Reply {
    Reply::plain(250, "Queuing started")
}

/// A rewritten reverse-path that is not of our making, or too old.
pub fn srs_refused(address: &Address, error: &SrsError) -> Reply {
    Reply::new(550, EnhancedStatus::new(5, 1, 1), format!("<{address}>: Recipient address rejected: {error}"))
}

/// A rewritten reverse-path is for reports, which come from the null reverse-path.
pub fn srs_for_reports_only(address: &Address) -> Reply {
    let text = format!("<{address}>: Recipient address rejected: this address takes delivery reports only");
    Reply::new(550, EnhancedStatus::new(5, 7, 1), text)
}

/// An account sends more than it may. Temporary, unless the message alone is beyond the limit.
pub fn rate_exceeded(account: &AccountName, exceeded: &Exceeded) -> Reply {
    let Exceeded { name, limit, retry_after } = exceeded;
    match retry_after {
        Some(after) => {
            let minutes = after.as_secs().div_ceil(60).max(1);
            let text = format!("{account} may send {limit} {name}; try again in {minutes} minutes");
            Reply::new(450, EnhancedStatus::new(4, 7, 1), text)
        }
        None => Reply::new(550, EnhancedStatus::new(5, 7, 1), format!("{account} may send {limit} {name}")),
    }
}

/// RFC 6409 §6.3: a submitted message whose author is not plain (V40).
pub fn author_refused(refusal: &message::submission::Refusal) -> Reply {
    Reply::new(554, EnhancedStatus::new(5, 6, 0), format!("Message refused: {refusal}"))
}

/// R138.
pub fn author_not_owned(address: &Address, account: &AccountName) -> Reply {
    let text = format!("<{address}>: Author address rejected: not owned by user {account}");
    Reply::new(553, EnhancedStatus::new(5, 7, 1), text)
}

/// R153: a header rule refuses the message.
pub fn header_refused(refusal: &message::header_rules::Refusal) -> Reply {
    Reply::new(refusal.code(), refusal.status, refusal.text.clone())
}

/// A failure of the store is never the message's fault.
pub fn to_store_error(error: &StoreError) -> Reply {
    match error {
        StoreError::Full => insufficient_storage(),
        StoreError::Closed => Reply::new(421, EnhancedStatus::new(4, 3, 2), "Service shutting down"),
        StoreError::Disk(_) | StoreError::Damaged(_) | StoreError::NoSuchBlob | StoreError::NoSuchMailbox => {
            local_error()
        }
    }
}

/// Why a message could not be put into its mailboxes.
pub fn to_change_error(error: &ChangeError) -> Reply {
    match error {
        // RCPT was accepted when there was room; a mailbox filled up since. Temporary, so that the next attempt's RCPT
        // gives the refusal to the one recipient it concerns.
        ChangeError::OverQuota | ChangeError::NotApplied => {
            Reply::new(452, EnhancedStatus::new(4, 2, 2), "A mailbox of the message became full, try again")
        }
        ChangeError::NoSuchMailbox
        | ChangeError::MailboxExists
        | ChangeError::Inbox
        | ChangeError::TooManyMailboxes
        | ChangeError::TooManyKeywords
        | ChangeError::NoSuchBody
        | ChangeError::Exhausted => local_error(),
    }
}

/// R63.
pub fn lmtp_unknown_user(address: &Address) -> Reply {
    Reply::new(550, EnhancedStatus::new(5, 1, 1), format!("<{address}> User doesn't exist: {address}"))
}

/// R65 without LMTP: a mailbox cannot take the message, and the next attempt would go the same way.
pub fn quota_exceeded(address: &Address) -> Reply {
    let text = format!("<{address}> Quota exceeded (mailbox for user is full)");
    Reply::new(552, EnhancedStatus::new(5, 2, 2), text)
}

/// R63.
pub fn lmtp_saved(address: &Address, id: QueueId) -> Reply {
    Reply::new(250, EnhancedStatus::new(2, 0, 0), format!("<{address}> {id} Saved"))
}

/// R65.
pub fn lmtp_change_error(address: &Address, error: &ChangeError) -> Reply {
    match error {
        ChangeError::OverQuota => quota_exceeded(address),
        ChangeError::NoSuchMailbox
        | ChangeError::MailboxExists
        | ChangeError::Inbox
        | ChangeError::TooManyMailboxes
        | ChangeError::TooManyKeywords
        | ChangeError::NoSuchBody
        | ChangeError::Exhausted
        | ChangeError::NotApplied => {
            Reply::new(451, EnhancedStatus::new(4, 3, 0), format!("<{address}> Temporary failure, try again later"))
        }
    }
}
