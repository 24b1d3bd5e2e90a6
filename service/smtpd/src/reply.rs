//! The one table from causes to replies.

use mail::{Address, ChangeError, Domain, EnhancedStatus, QueueId, Reply};
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
