//! What readers ask of the store again and again, in memory: accounts, places of blobs, claims to recent messages,
//! watches. All of it can be forgotten at any time, and none of it grows without limit.

use super::account::Account;
use super::generations::Generations;
use super::record::Place;
use crate::Watch;
use mail::{AccountName, BlobId, MailboxId, MailboxInfo, ModSeq, Uid, Usage};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Accounts whose list of mailboxes is kept.
const ACCOUNTS_KEPT: usize = 20_000;
/// Blobs whose place is kept; 40 octets each.
const PLACES_KEPT: usize = 500_000;
/// Claims kept beyond their writing down.
const CLAIMS_KEPT: usize = 100_000;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic could have left behind is a cache in some state, and any state of it is valid.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An account's mailboxes and usage.
pub type Listed = (Arc<Vec<MailboxInfo>>, Usage);

/// Accounts as their clients see them.
pub struct Accounts(Mutex<Generations<AccountName, Listed>>);

impl Accounts {
    /// Knows none.
    pub fn new() -> Accounts {
        Accounts(Mutex::new(Generations::new(ACCOUNTS_KEPT)))
    }

    /// An account's mailboxes and usage, if they are known.
    pub fn get(&self, account: &AccountName) -> Option<Listed> {
        lock(&self.0).get(account).cloned()
    }

    /// Takes in an account after a commit. `same_tree`: no mailbox came, went or was renamed.
    pub fn publish(&self, account: &Account, same_tree: bool) {
        let mut accounts = lock(&self.0);
        match accounts.get(&account.name) {
            Some((_, usage)) if same_tree => *usage = account.head.usage,
            _ => accounts.insert(account.name.clone(), (Arc::new(account.list()), account.head.usage)),
        }
    }

    /// Forgets an account.
    pub fn remove(&self, account: &AccountName) {
        lock(&self.0).remove(account);
    }

    /// Forgets all.
    pub fn clear(&self) {
        lock(&self.0).clear();
    }
}

/// Where blobs lie.
pub struct Places(Mutex<Generations<BlobId, Place>>);

impl Places {
    /// Knows none.
    pub fn new() -> Places {
        Places(Mutex::new(Generations::new(PLACES_KEPT)))
    }

    /// The places of blobs, as far as they are known, in order.
    pub fn get(&self, blobs: impl Iterator<Item = BlobId>) -> Vec<Option<Place>> {
        let mut places = lock(&self.0);
        blobs.map(|blob| places.get(&blob).copied()).collect()
    }

    /// Notes where blobs lie.
    pub fn put(&self, found: impl IntoIterator<Item = (BlobId, Place)>) {
        let mut places = lock(&self.0);
        found.into_iter().for_each(|(blob, place)| places.insert(blob, place));
    }

    /// Forgets blobs.
    pub fn remove(&self, blobs: impl IntoIterator<Item = BlobId>) {
        let mut places = lock(&self.0);
        for blob in blobs {
            places.remove(&blob);
        }
    }
}

/// From which UIDs on messages are recent.
pub struct Recents(Mutex<HashMap<MailboxId, Claim>>);

struct Claim {
    from: Uid,
    /// Whether the database has an older one.
    dirty: bool,
}

impl Recents {
    /// Knows none.
    pub fn new() -> Recents {
        Recents(Mutex::default())
    }

    /// Claims what is recent now for the caller. `None`: unknown, read it and call [`claim_read`](Self::claim_read).
    pub fn claim(&self, mailbox: MailboxId, uid_next: Uid) -> Option<Uid> {
        lock(&self.0).get_mut(&mailbox).map(|claim| claim.renew(uid_next))
    }

    /// The same, with what the database has.
    pub fn claim_read(&self, mailbox: MailboxId, uid_next: Uid, read: Uid) -> Uid {
        let mut claims = lock(&self.0);
        claims.entry(mailbox).or_insert(Claim { from: read, dirty: false }).renew(uid_next)
    }

    /// What the database does not have yet. It is then taken to have it.
    pub fn take_dirty(&self) -> Vec<(MailboxId, Uid)> {
        let mut claims = lock(&self.0);
        let dirty: Vec<(MailboxId, Uid)> =
            claims.iter().filter(|(_, claim)| claim.dirty).map(|(mailbox, claim)| (*mailbox, claim.from)).collect();
        claims.values_mut().for_each(|claim| claim.dirty = false);
        dirty
    }

    /// Makes room once everything is written down.
    pub fn trim(&self) {
        let mut claims = lock(&self.0);
        if claims.len() > CLAIMS_KEPT {
            claims.retain(|_, claim| claim.dirty);
        }
    }
}

impl Claim {
    fn renew(&mut self, uid_next: Uid) -> Uid {
        let before = self.from;
        if uid_next > before {
            *self = Claim { from: uid_next, dirty: true };
        }
        before
    }
}

/// Who waits for changes of which account.
pub struct Watches(Mutex<Watched>);

#[derive(Default)]
struct Watched {
    senders: HashMap<AccountName, watch::Sender<ModSeq>>,
    /// At this many, those that nobody holds any more are swept out.
    sweep_at: usize,
}

impl Watches {
    /// Nobody waits.
    pub fn new() -> Watches {
        Watches(Mutex::default())
    }

    /// A watch on an account.
    pub fn watch(&self, account: &AccountName) -> Watch {
        let watched = &mut *lock(&self.0);
        if watched.senders.len() >= watched.sweep_at {
            watched.senders.retain(|_, sender| sender.receiver_count() > 0);
            watched.sweep_at = (watched.senders.len() * 2).max(64);
        }
        let sender = watched.senders.entry(account.clone()).or_insert_with(|| watch::channel(ModSeq(0)).0);
        Watch(sender.subscribe())
    }

    /// Wakes those who watch an account that changed.
    pub fn wake(&self, changed: Vec<(AccountName, ModSeq)>) {
        let watched = &mut *lock(&self.0);
        for (account, mod_sequence) in changed {
            if let Some(sender) = watched.senders.get(&account) {
                if sender.receiver_count() == 0 {
                    watched.senders.remove(&account);
                } else {
                    sender.send_replace(mod_sequence);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_messages_are_told_to_one() {
        let recents = Recents::new();
        assert_eq!(recents.claim(MailboxId(1), Uid(5)), None);
        assert_eq!(recents.claim_read(MailboxId(1), Uid(5), Uid(3)), Uid(3));
        assert_eq!(recents.claim(MailboxId(1), Uid(5)), Some(Uid(5)));
        assert_eq!(recents.claim(MailboxId(1), Uid(7)), Some(Uid(5)));
        assert_eq!(recents.take_dirty(), [(MailboxId(1), Uid(7))]);
        assert_eq!(recents.take_dirty(), []);
    }

    #[test]
    fn watches_that_nobody_holds_are_dropped() {
        let watches = Watches::new();
        let name = |n: u32| AccountName::parse(&format!("a{n}@example.net")).unwrap();
        let held = watches.watch(&name(0));
        for n in 1..1_000 {
            watches.watch(&name(n));
        }
        assert!(lock(&watches.0).senders.len() <= 65);
        watches.wake(vec![(name(0), ModSeq(2))]);
        assert!(held.0.has_changed().unwrap());
        drop(held);
        watches.wake(vec![(name(0), ModSeq(3))]);
        assert!(!lock(&watches.0).senders.contains_key(&name(0)));
    }
}
