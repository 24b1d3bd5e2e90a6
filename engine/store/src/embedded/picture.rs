//! Pictures of mailboxes that readers share: kept while they are asked for, renewed by the writer after each commit.
//!
//! A cold picture is read from the database by the reader who wants it, while the writer goes on. So that no change
//! falls between the two, the reader announces itself first; from then on the writer leaves what it commits to that
//! mailbox with the announcement, and the reader adds what its picture does not hold yet. Mod-sequences tell which.

use crate::StoreError;
use mail::{AccountName, Flags, Keyword, MailboxId, Message, ModSeq, Snapshot, Uid, UidSet};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// What one group did to a mailbox's messages.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// The mailbox's mod-sequence after it.
    pub mod_sequence: ModSeq,
    /// The mailbox's next UID after it.
    pub uid_next: Uid,
    /// The mailbox's keywords, if there are new ones.
    pub keywords: Option<Arc<[Keyword]>>,
    /// In this order.
    pub edits: Vec<Edit>,
}

/// One step of a delta.
#[derive(Debug, Clone)]
pub enum Edit {
    /// A message at the end.
    Push(Message),
    /// Other flags.
    Update {
        /// Of this message.
        uid: Uid,
        /// All its system flags.
        flags: Flags,
        /// All its keywords.
        keywords: u64,
        /// The group's mod-sequence.
        mod_sequence: ModSeq,
    },
    /// Messages that are there go.
    Remove {
        /// Which.
        uids: UidSet,
        /// The group's mod-sequence.
        mod_sequence: ModSeq,
    },
}

impl Edit {
    /// Makes the step in a picture.
    pub fn put(&self, picture: &mut Snapshot) {
        match self {
            Edit::Push(message) => picture.push(*message),
            Edit::Update { uid, flags, keywords, mod_sequence } => {
                picture.update(*uid, |message| {
                    (message.flags, message.keywords) = (*flags, *keywords);
                    message.mod_sequence = *mod_sequence;
                });
            }
            Edit::Remove { uids, .. } => {
                picture.remove(uids);
            }
        }
    }
}

impl Delta {
    /// Makes all steps in a picture, but leaves its counters.
    pub fn put_edits(&self, picture: &mut Snapshot) {
        self.edits.iter().for_each(|edit| edit.put(picture));
    }

    /// Gives a picture the counters after this.
    pub fn put_counters(&self, picture: &mut Snapshot) {
        picture.mod_sequence = self.mod_sequence;
        picture.uid_next = self.uid_next;
        if let Some(keywords) = &self.keywords {
            picture.keywords = keywords.clone();
        }
    }

    /// Carries a picture over this delta, unless it already is beyond.
    pub fn put(&self, picture: &mut Snapshot) {
        if self.mod_sequence > picture.mod_sequence {
            self.put_edits(picture);
            self.put_counters(picture);
        }
    }
}

/// What the writer made of a mailbox.
pub enum News {
    /// These deltas.
    Deltas(Vec<Arc<Delta>>),
    /// This picture, which holds all of them.
    Picture(Arc<Snapshot>),
    /// The mailbox is gone.
    Gone,
}

type Key = (AccountName, MailboxId);
type Waiter = oneshot::Sender<Result<Arc<Snapshot>, StoreError>>;

/// The pictures.
pub struct Pictures {
    inner: Mutex<Inner>,
    weight_max: u64,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    weight: u64,
    clock: u64,
}

struct Entry {
    used: u64,
    state: State,
}

enum State {
    Ready(Arc<Snapshot>),
    Loading { token: u64, deltas: Vec<Arc<Delta>>, gone: bool, waiters: Vec<Waiter> },
}

/// What asking for a picture gives.
pub enum Asked {
    /// The picture.
    Ready(Arc<Snapshot>),
    /// Somebody reads it already.
    Wait(oneshot::Receiver<Result<Arc<Snapshot>, StoreError>>),
    /// The caller is to read it and to redeem this.
    Load(Announcement),
}

/// What a picture weighs, in messages, beside its messages.
const PICTURE_WEIGHT: u64 = 32;

fn weight(picture: &Snapshot) -> u64 {
    u64::from(picture.len()) + PICTURE_WEIGHT
}

impl Pictures {
    /// Keeps pictures of together at most some `messages_max` messages.
    pub fn new(messages_max: u64) -> Arc<Pictures> {
        Arc::new(Pictures { inner: Mutex::default(), weight_max: messages_max })
    }

    /// Asks for a picture.
    pub fn ask(self: &Arc<Self>, account: &AccountName, mailbox: MailboxId) -> Asked {
        let key = (account.clone(), mailbox);
        let inner = &mut *self.lock();
        inner.clock += 1;
        if let Some(entry) = inner.entries.get_mut(&key) {
            entry.used = inner.clock;
            return match &mut entry.state {
                State::Ready(picture) => Asked::Ready(picture.clone()),
                State::Loading { waiters, .. } => {
                    let (sender, receiver) = oneshot::channel();
                    waiters.push(sender);
                    Asked::Wait(receiver)
                }
            };
        }
        let token = inner.clock;
        let state = State::Loading { token, deltas: Vec::new(), gone: false, waiters: Vec::new() };
        inner.entries.insert(key.clone(), Entry { used: token, state });
        Asked::Load(Announcement { pictures: self.clone(), key, token })
    }

    /// The picture, if it is there.
    pub fn peek(&self, account: &AccountName, mailbox: MailboxId) -> Option<Arc<Snapshot>> {
        match &self.lock().entries.get(&(account.clone(), mailbox))?.state {
            State::Ready(picture) => Some(picture.clone()),
            State::Loading { .. } => None,
        }
    }

    /// Takes in what the writer committed. Only the writer calls this, in the order of its commits.
    pub fn publish(&self, news: impl IntoIterator<Item = (AccountName, MailboxId, News)>) {
        let inner = &mut *self.lock();
        for (account, mailbox, news) in news {
            inner.take_in((account, mailbox), news);
        }
        inner.evict(self.weight_max);
    }

    /// Forgets everything that is not being read right now.
    pub fn clear(&self) {
        let inner = &mut *self.lock();
        inner.entries.retain(|_, entry| matches!(entry.state, State::Loading { .. }));
        inner.weight = 0;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take_in(&mut self, key: Key, news: News) {
        match news {
            News::Deltas(new) => match self.entries.get_mut(&key).map(|entry| &mut entry.state) {
                Some(State::Ready(picture)) => {
                    let before = weight(picture);
                    let mut next = (**picture).clone();
                    new.iter().for_each(|delta| delta.put(&mut next));
                    self.weight = self.weight - before + weight(&next);
                    *picture = Arc::new(next);
                }
                Some(State::Loading { deltas, .. }) => deltas.extend(new),
                None => {}
            },
            News::Picture(picture) => self.set_ready(key, picture),
            News::Gone => match self.entries.get_mut(&key).map(|entry| &mut entry.state) {
                Some(State::Ready(picture)) => {
                    self.weight -= weight(picture);
                    self.entries.remove(&key);
                }
                Some(State::Loading { gone, .. }) => *gone = true,
                None => {}
            },
        }
    }

    fn set_ready(&mut self, key: Key, picture: Arc<Snapshot>) {
        self.weight += weight(&picture);
        self.clock += 1;
        let entry = Entry { used: self.clock, state: State::Ready(picture.clone()) };
        match self.entries.insert(key, entry).map(|before| before.state) {
            Some(State::Ready(before)) => self.weight -= weight(&before),
            Some(State::Loading { waiters, .. }) => {
                for waiter in waiters {
                    // Who waits no longer needs no answer.
                    let _ = waiter.send(Ok(picture.clone()));
                }
            }
            None => {}
        }
    }

    /// Drops those not asked for the longest, down to nine tenths, so that this is seldom done.
    fn evict(&mut self, weight_max: u64) {
        if self.weight <= weight_max {
            return;
        }
        let ready = self.entries.iter().filter(|(_, entry)| matches!(entry.state, State::Ready(_)));
        let mut by_use: Vec<(u64, Key)> = ready.map(|(key, entry)| (entry.used, key.clone())).collect();
        by_use.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in by_use {
            if self.weight <= weight_max / 10 * 9 {
                break;
            }
            if let Some(Entry { state: State::Ready(picture), .. }) = self.entries.remove(&key) {
                self.weight -= weight(&picture);
            }
        }
    }
}

/// The promise to read a mailbox's picture. Made before the reading begins.
pub struct Announcement {
    pictures: Arc<Pictures>,
    key: Key,
    /// Tells this announcement from a later one for the same mailbox.
    token: u64,
}

impl Announcement {
    /// Hands in what was read; `None` if there is no such mailbox. Gives what is to be answered, or nothing if the
    /// promise was overtaken and the caller is to ask again.
    pub fn redeem(self, read: Result<Option<Snapshot>, StoreError>) -> Option<Result<Arc<Snapshot>, StoreError>> {
        let inner = &mut *self.pictures.lock();
        let (deltas, gone, waiters) = self.take(inner)?;
        let answer = match read {
            Ok(Some(mut picture)) if !gone => {
                deltas.iter().for_each(|delta| delta.put(&mut picture));
                let picture = Arc::new(picture);
                inner.set_ready(self.key.clone(), picture.clone());
                inner.evict(self.pictures.weight_max);
                Ok(picture)
            }
            Ok(_) => Err(StoreError::NoSuchMailbox),
            Err(error) => Err(error),
        };
        for waiter in waiters {
            // Who waits no longer needs no answer.
            let _ = waiter.send(answer.clone());
        }
        Some(answer)
    }

    /// Takes this announcement's entry out, unless the writer, who needed the picture too, was faster.
    fn take(&self, inner: &mut Inner) -> Option<(Vec<Arc<Delta>>, bool, Vec<Waiter>)> {
        match &inner.entries.get(&self.key)?.state {
            State::Loading { token, .. } if *token == self.token => {}
            State::Loading { .. } | State::Ready(_) => return None,
        }
        match inner.entries.remove(&self.key)?.state {
            State::Loading { deltas, gone, waiters, .. } => Some((deltas, gone, waiters)),
            State::Ready(_) => None,
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Without an answer, because the reading ended in a panic, dropping the waiters tells them.
        let entry = self.take(&mut self.pictures.lock());
        drop(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::{BlobId, InternalDate, UidValidity};

    fn message(uid: u32, mod_sequence: u64) -> Message {
        Message {
            uid: Uid(uid),
            flags: Flags::NONE,
            keywords: 0,
            mod_sequence: ModSeq(mod_sequence),
            size_octets: 10,
            internal_date: InternalDate::default(),
            blob: BlobId(1),
        }
    }

    fn push(uid: u32, mod_sequence: u64) -> Arc<Delta> {
        let edits = vec![Edit::Push(message(uid, mod_sequence))];
        Arc::new(Delta { mod_sequence: ModSeq(mod_sequence), uid_next: Uid(uid + 1), keywords: None, edits })
    }

    fn picture(uids: std::ops::Range<u32>) -> Snapshot {
        Snapshot::empty(MailboxId(1), UidValidity(1), Uid(uids.end), ModSeq(u64::from(uids.end)))
            .with_messages(uids.map(|uid| message(uid, u64::from(uid) + 1)))
    }

    fn uids(picture: &Snapshot) -> Vec<u32> {
        picture.iter().map(|message| message.uid.0).collect()
    }

    fn account() -> AccountName {
        AccountName::parse("a@example.net").unwrap()
    }

    fn announce(pictures: &Arc<Pictures>) -> Announcement {
        match pictures.ask(&account(), MailboxId(1)) {
            Asked::Load(announcement) => announcement,
            Asked::Ready(_) | Asked::Wait(_) => panic!("not cold"),
        }
    }

    fn tell(pictures: &Pictures, deltas: Vec<Arc<Delta>>) {
        pictures.publish([(account(), MailboxId(1), News::Deltas(deltas))]);
    }

    #[test]
    fn no_commit_is_lost_or_doubled_whatever_the_reader_saw() {
        // Messages 1 to 5 come in one by one while the mailbox is read; the reader sees the first `seen` of them.
        for seen in 0..=5 {
            let pictures = Pictures::new(1_000);
            let announcement = announce(&pictures);
            (1..=4).for_each(|uid| tell(&pictures, vec![push(uid, u64::from(uid) + 1)]));
            let read = announcement.redeem(Ok(Some(picture(1..seen + 1)))).unwrap().unwrap();
            assert_eq!(uids(&read), (1..=seen.max(4)).collect::<Vec<_>>());
            tell(&pictures, vec![push(5, 6)]);
            assert_eq!(uids(&pictures.peek(&account(), MailboxId(1)).unwrap()), [1, 2, 3, 4, 5]);
        }
    }

    #[test]
    fn one_reads_and_the_others_wait() {
        let pictures = Pictures::new(1_000);
        let announcement = announce(&pictures);
        let Asked::Wait(mut waiting) = pictures.ask(&account(), MailboxId(1)) else { panic!("not waiting") };
        announcement.redeem(Ok(Some(picture(1..3)))).unwrap().unwrap();
        assert_eq!(uids(&waiting.try_recv().unwrap().unwrap()), [1, 2]);
        assert!(matches!(pictures.ask(&account(), MailboxId(1)), Asked::Ready(_)));
    }

    #[test]
    fn a_reader_that_fails_or_vanishes_does_not_block_the_next() {
        let pictures = Pictures::new(1_000);
        drop(announce(&pictures));
        assert!(announce(&pictures).redeem(Err(StoreError::Closed)).unwrap().is_err());
        let announcement = announce(&pictures);
        pictures.publish([(account(), MailboxId(1), News::Gone)]);
        assert!(matches!(announcement.redeem(Ok(Some(picture(1..3)))), Some(Err(StoreError::NoSuchMailbox))));
        announce(&pictures).redeem(Ok(Some(picture(1..3)))).unwrap().unwrap();
    }

    #[test]
    fn an_overtaken_reader_asks_again() {
        let pictures = Pictures::new(1_000);
        let slow = announce(&pictures);
        // Meanwhile the writer needs the mailbox itself, its picture is dropped again, and another reader comes.
        pictures.publish([(account(), MailboxId(1), News::Picture(Arc::new(picture(1..3))))]);
        pictures.clear();
        let second = announce(&pictures);
        tell(&pictures, vec![push(3, 9)]);
        assert!(slow.redeem(Ok(Some(picture(1..2)))).is_none());
        assert_eq!(uids(&second.redeem(Ok(Some(picture(1..3)))).unwrap().unwrap()), [1, 2, 3]);
    }

    #[test]
    fn the_least_used_go_first() {
        let pictures = Pictures::new(500);
        for mailbox in 1..=20 {
            pictures.publish([(account(), MailboxId(mailbox), News::Picture(Arc::new(picture(1..9))))]);
            assert!(matches!(pictures.ask(&account(), MailboxId(1)), Asked::Ready(_)), "{mailbox}");
            assert!(pictures.lock().weight <= 500);
        }
        assert!(pictures.peek(&account(), MailboxId(2)).is_none());
        assert!(pictures.peek(&account(), MailboxId(20)).is_some());
    }
}
