//! What must be true, worked out from the marks up to some moment.

use crate::mark::Mark;
use crate::model::{Deed, Model};
use std::collections::{BTreeMap, BTreeSet};

/// The account into which all tasks deliver at the same time.
pub const SHARED_ACCOUNT: &str = "shared@example.net";

/// What was said so far.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// What each task owns, after all it was told is done.
    pub tasks: BTreeMap<u32, Task>,
    /// Messages offered to the shared INBOX; with their UID once that was told.
    pub shared: BTreeMap<u64, Option<u32>>,
    /// Numbers and UIDVALIDITY of all mailboxes that ever were known, with account and name.
    pub identities: BTreeSet<(String, String, u64, u32)>,
    /// The furthest state of each mailbox that a reader was shown: next UID, mod-sequence.
    pub seen: BTreeMap<(String, u64), (u32, u64)>,
    /// Bodies that are to be expected anywhere: those above were never begun.
    pub body_max: u64,
}

/// What a task owns.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// Its accounts and queued messages, which no other task touches.
    pub model: Model,
    /// What it asked for and got no answer to yet.
    pub under_way: Option<Deed>,
}

impl Task {
    /// Messages that the task had accepted, or may have: by the number of their body.
    pub fn messages(&self) -> BTreeSet<u64> {
        let under_way = self.under_way.iter().flat_map(Deed::messages);
        self.model.queue.lines.keys().copied().chain(under_way).collect()
    }

    /// The task's accounts if what is under way was done.
    pub fn with_under_way(&self) -> Option<Model> {
        let mut model = self.model.clone();
        model.apply(self.under_way.as_ref()?)?;
        Some(model)
    }
}

impl Ledger {
    /// Reads marks.
    pub fn of<'a>(marks: impl Iterator<Item = &'a [u8]>) -> Result<Ledger, String> {
        let mut ledger = Ledger::default();
        for mark in marks {
            let mark = serde_json::from_slice(mark).map_err(|error| format!("a mark cannot be read: {error}"))?;
            ledger.take(mark)?;
        }
        Ok(ledger)
    }

    /// Takes in what was said next.
    pub fn take(&mut self, mark: Mark) -> Result<(), String> {
        match mark {
            Mark::Begin { task, deed } => {
                self.body_max = deed.bodies().into_iter().max().unwrap_or(0).max(self.body_max);
                self.tasks.entry(task).or_default().under_way = Some(deed);
            }
            Mark::Done { task } => self.settle(task, true)?,
            Mark::Found { task, done } => self.settle(task, done)?,
            Mark::Learned { task, account, mailbox, id, uid_validity } => {
                self.identities.insert((account.clone(), mailbox.clone(), id, uid_validity));
                let accounts = &mut self.tasks.entry(task).or_default().model.accounts;
                let found = accounts.get_mut(&account).and_then(|account| account.mailboxes.get_mut(&mailbox));
                found.ok_or("a mailbox was learned of that the model lacks")?.identity = Some((id, uid_validity));
            }
            Mark::Offer { body } => {
                self.body_max = self.body_max.max(body);
                self.shared.insert(body, None);
            }
            Mark::Taken { body, uid } => {
                self.shared.insert(body, Some(uid));
            }
            Mark::FoundShared { body, uid: 0 } => {
                self.shared.remove(&body);
            }
            Mark::FoundShared { body, uid } => {
                self.shared.insert(body, Some(uid));
            }
            Mark::Seen { account, mailbox, uid_next, mod_sequence } => {
                let seen = self.seen.entry((account, mailbox)).or_default();
                *seen = (seen.0.max(uid_next), seen.1.max(mod_sequence));
            }
        }
        Ok(())
    }

    fn settle(&mut self, task: u32, done: bool) -> Result<(), String> {
        let task = self.tasks.entry(task).or_default();
        let deed = task.under_way.take().ok_or("something is done that was never begun")?;
        if done {
            task.model.apply(&deed).ok_or_else(|| format!("the model refuses {deed:?}"))?;
        }
        Ok(())
    }
}
