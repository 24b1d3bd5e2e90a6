//! What the workload says in the record, one JSON object a mark.

use crate::model::Deed;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// One thing said.
// The fields are what their names say.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// A task is about to ask the store for something. It has at most one such thing under way.
    Begin { task: u32, deed: Deed },
    /// The store said that it is done.
    Done { task: u32 },
    /// A mailbox of a task was found to have this number and UIDVALIDITY.
    Learned { task: u32, account: String, mailbox: String, id: u64, uid_validity: u32 },
    /// A message to the shared INBOX is about to be committed.
    Offer { body: u64 },
    /// The store said that it is there.
    Taken { body: u64, uid: u32 },
    /// A reader was shown this much of a mailbox, whether or not anybody was told that it is done.
    Seen { account: String, mailbox: u64, uid_next: u32, mod_sequence: u64 },
    /// A new process took over after the one before was killed, and found what that had begun to have been done or not.
    Found { task: u32, done: bool },
    /// The same for a message to the shared INBOX: its UID, or 0.
    FoundShared { body: u64, uid: u32 },
}

/// Where marks go: to the recorder.
pub struct Marks(File);

impl Marks {
    /// Opens the recorder's mark file below the recorded folder.
    pub fn open(folder: &Path) -> std::io::Result<Marks> {
        Ok(Marks(OpenOptions::new().create(true).append(true).open(folder.join("RECORDER_MARK"))?))
    }

    /// Says something. When this returns it is in the record.
    pub fn say(&self, mark: &Mark) -> std::io::Result<()> {
        let text = serde_json::to_vec(mark)?;
        (&self.0).write_all(&text)
    }
}
