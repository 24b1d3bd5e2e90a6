//! An unchanging picture of a mailbox, cheap to hold and cheap to renew.
//!
//! Sessions of a busy mailbox share one snapshot. A change makes a new one that shares all but the chunks it touched, so
//! that a delivery into a mailbox of 100,000 messages copies some 256 entries, and comparing two snapshots passes
//! over what they share.

use crate::mailbox::{BlobId, Flags, InternalDate, Keyword, MailboxId, ModSeq, Uid, UidValidity};
use crate::uid_set::UidSet;
use std::sync::Arc;

/// What a snapshot tells of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Its number.
    pub uid: Uid,
    /// Its system flags.
    pub flags: Flags,
    /// Its keywords: bit n stands for entry n of [`Snapshot::keywords`].
    pub keywords: u64,
    /// The account's counter at its last change.
    pub mod_sequence: ModSeq,
    /// Octets of the whole message.
    pub size_octets: u32,
    /// When it came in.
    pub internal_date: InternalDate,
    /// Its octets.
    pub blob: BlobId,
}

/// Most messages in a chunk. A change copies one chunk; a snapshot keeps one pointer for each.
const CHUNK_MESSAGES_MAX: usize = 256;

type Chunk = Arc<Vec<Message>>;

/// An unchanging picture of a mailbox.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Which mailbox.
    pub mailbox: MailboxId,
    /// Its numbering.
    pub uid_validity: UidValidity,
    /// The UID that the next message will get, at least.
    pub uid_next: Uid,
    /// Highest mod-sequence of any change of this mailbox, expunges included.
    pub mod_sequence: ModSeq,
    /// Names of the keywords, in the order of the bits.
    pub keywords: Arc<[Keyword]>,
    /// Chunks, none empty, UIDs ascending.
    chunks: Vec<Chunk>,
    /// Index of the first message of each chunk.
    starts: Vec<u32>,
    messages: u32,
    unseen: u32,
    octets: u64,
}

/// What differs between two snapshots of one mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Messages of the older one that are gone, ascending.
    pub expunged: Vec<Uid>,
    /// Messages of both whose mod-sequence differs, ascending.
    pub changed: Vec<Uid>,
    /// Messages only in the newer one, ascending.
    pub arrived: Vec<Uid>,
}

impl Snapshot {
    /// A snapshot of an empty mailbox.
    pub fn empty(mailbox: MailboxId, uid_validity: UidValidity, uid_next: Uid, mod_sequence: ModSeq) -> Snapshot {
        Snapshot {
            mailbox,
            uid_validity,
            uid_next,
            mod_sequence,
            keywords: Arc::from([]),
            chunks: Vec::new(),
            starts: Vec::new(),
            messages: 0,
            unseen: 0,
            octets: 0,
        }
    }

    /// The same, filled with `messages`, which must ascend by UID.
    pub fn with_messages(mut self, messages: impl IntoIterator<Item = Message>) -> Snapshot {
        let mut chunk = Vec::with_capacity(CHUNK_MESSAGES_MAX);
        for message in messages {
            chunk.push(message);
            if chunk.len() == CHUNK_MESSAGES_MAX {
                self.chunks.push(Arc::new(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_MESSAGES_MAX))));
            }
        }
        if !chunk.is_empty() {
            self.chunks.push(Arc::new(chunk));
        }
        self.recount();
        self
    }

    /// How many messages there are.
    pub fn len(&self) -> u32 {
        self.messages
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// How many are not `\Seen`.
    pub fn unseen(&self) -> u32 {
        self.unseen
    }

    /// Octets of all messages.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// The message at an index, from 0. A sequence number is its index plus one.
    pub fn get(&self, index: u32) -> Option<&Message> {
        let chunk = self.starts.partition_point(|start| *start <= index).checked_sub(1)?;
        self.chunks[chunk].get((index - self.starts[chunk]) as usize)
    }

    /// The index of a UID, from 0.
    pub fn index_of(&self, uid: Uid) -> Option<u32> {
        let index = self.index_from(uid);
        (self.get(index)?.uid == uid).then_some(index)
    }

    /// The index of the first message whose UID is not below `uid`; [`len`](Self::len) if there is none.
    pub fn index_from(&self, uid: Uid) -> u32 {
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(|m| m.uid < uid));
        match self.chunks.get(chunk) {
            Some(messages) => self.starts[chunk] + messages.partition_point(|m| m.uid < uid) as u32,
            None => self.messages,
        }
    }

    /// The message with a UID.
    pub fn by_uid(&self, uid: Uid) -> Option<&Message> {
        self.index_of(uid).and_then(|index| self.get(index))
    }

    /// All messages, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Message> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The messages from an index on, ascending.
    pub fn iter_from(&self, index: u32) -> impl Iterator<Item = &Message> + '_ {
        let chunk = self.starts.partition_point(|start| *start <= index).saturating_sub(1);
        let skip = self.starts.get(chunk).map_or(0, |start| (index - start) as usize);
        self.chunks[chunk.min(self.chunks.len())..].iter().flat_map(|chunk| chunk.iter()).skip(skip)
    }

    /// Those UIDs of `set` that exist, ascending. Costs what the set and the mailbox have in common.
    pub fn select(&self, set: &UidSet) -> Vec<Uid> {
        let mut found = Vec::new();
        for (low, high) in set.ranges() {
            found.extend(self.iter_from(self.index_from(Uid(*low))).map(|m| m.uid).take_while(|uid| uid.0 <= *high));
        }
        found
    }

    /// Keywords of a message by name.
    pub fn keywords_of(&self, message: &Message) -> impl Iterator<Item = &Keyword> + '_ {
        let bits = message.keywords;
        self.keywords
            .iter()
            .enumerate()
            .filter(move |(bit, _)| *bit < 64 && bits >> bit & 1 == 1)
            .map(|(_, keyword)| keyword)
    }

    /// The bit of a keyword, if the mailbox knows it.
    pub fn keyword_bit(&self, keyword: &Keyword) -> Option<u32> {
        self.keywords.iter().position(|known| known == keyword).map(|bit| bit as u32)
    }

    /// Adds a message at the end; its UID must exceed all present ones.
    pub fn push(&mut self, message: Message) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_MESSAGES_MAX => Arc::make_mut(chunk).push(message),
            _ => {
                self.starts.push(self.messages);
                self.chunks.push(Arc::new(vec![message]));
            }
        }
        self.messages += 1;
        self.unseen += u32::from(!message.flags.contains(Flags::SEEN));
        self.octets += u64::from(message.size_octets);
    }

    /// Edits a message in place of this snapshot (sharing the rest). `false` if it does not exist.
    pub fn update(&mut self, uid: Uid, edit: impl FnOnce(&mut Message)) -> bool {
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(|m| m.uid < uid));
        let Some(messages) = self.chunks.get_mut(chunk) else { return false };
        let Ok(place) = messages.binary_search_by_key(&uid, |m| m.uid) else { return false };
        let message = &mut Arc::make_mut(messages)[place];
        let was_seen = message.flags.contains(Flags::SEEN);
        edit(message);
        match (was_seen, message.flags.contains(Flags::SEEN)) {
            (true, false) => self.unseen += 1,
            (false, true) => self.unseen -= 1,
            _ => {}
        }
        true
    }

    /// Removes messages; UIDs that do not exist are passed over. Gives what was removed, ascending.
    pub fn remove(&mut self, uids: &UidSet) -> Vec<Message> {
        let mut removed = Vec::new();
        for chunk in &mut self.chunks {
            let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { continue };
            let begin = uids.ranges().partition_point(|range| range.1 < first.uid.0);
            if uids.ranges().get(begin).is_none_or(|range| range.0 > last.uid.0) {
                continue;
            }
            let (gone, kept): (Vec<Message>, Vec<Message>) = chunk.iter().partition(|m| uids.contains(m.uid));
            if !gone.is_empty() {
                removed.extend(gone);
                *chunk = Arc::new(kept);
            }
        }
        if !removed.is_empty() {
            self.chunks.retain(|chunk| !chunk.is_empty());
            self.recount();
        }
        removed
    }

    /// What differs from `older` to this one.
    pub fn since(&self, older: &Snapshot) -> Difference {
        let mut difference = Difference::default();
        let (mut new, mut old) = (Cursor::new(&self.chunks), Cursor::new(&older.chunks));
        loop {
            if new.skip_shared(&mut old) {
                continue;
            }
            match (new.peek(), old.peek()) {
                (None, None) => return difference,
                (Some(n), Some(o)) if n.uid == o.uid => {
                    if n.mod_sequence != o.mod_sequence {
                        difference.changed.push(n.uid);
                    }
                    new.advance();
                    old.advance();
                }
                (n, Some(o)) if n.is_none_or(|n| n.uid > o.uid) => {
                    difference.expunged.push(o.uid);
                    old.advance();
                }
                (Some(n), _) => {
                    difference.arrived.push(n.uid);
                    new.advance();
                }
                // Every pair without a newer message is met by the arm before.
                (None, Some(_)) => return difference,
            }
        }
    }

    fn recount(&mut self) {
        self.starts.clear();
        (self.messages, self.unseen, self.octets) = (0, 0, 0);
        for chunk in &self.chunks {
            self.starts.push(self.messages);
            self.messages += chunk.len() as u32;
            self.unseen += chunk.iter().filter(|m| !m.flags.contains(Flags::SEEN)).count() as u32;
            self.octets += chunk.iter().map(|m| u64::from(m.size_octets)).sum::<u64>();
        }
    }
}

/// A place in a row of chunks.
struct Cursor<'a> {
    chunks: &'a [Chunk],
    chunk: usize,
    place: usize,
}

impl<'a> Cursor<'a> {
    fn new(chunks: &'a [Chunk]) -> Cursor<'a> {
        Cursor { chunks, chunk: 0, place: 0 }
    }

    fn peek(&self) -> Option<&'a Message> {
        self.chunks.get(self.chunk).and_then(|chunk| chunk.get(self.place))
    }

    fn advance(&mut self) {
        self.place += 1;
        if self.chunks.get(self.chunk).is_some_and(|chunk| self.place >= chunk.len()) {
            self.chunk += 1;
            self.place = 0;
        }
    }

    /// Passes over a chunk that both rows share, when both stand at its beginning.
    fn skip_shared(&mut self, other: &mut Cursor<'_>) -> bool {
        match (self.chunks.get(self.chunk), other.chunks.get(other.chunk)) {
            (Some(mine), Some(theirs)) if self.place == other.place && Arc::ptr_eq(mine, theirs) => {
                (self.chunk, self.place) = (self.chunk + 1, 0);
                (other.chunk, other.place) = (other.chunk + 1, 0);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn message(uid: u32, mod_sequence: u64) -> Message {
        Message {
            uid: Uid(uid),
            flags: if uid.is_multiple_of(3) { Flags::SEEN } else { Flags::NONE },
            keywords: 0,
            mod_sequence: ModSeq(mod_sequence),
            size_octets: uid,
            internal_date: InternalDate::default(),
            blob: BlobId(u64::from(uid)),
        }
    }

    fn check(snapshot: &Snapshot, model: &BTreeMap<u32, Message>) {
        assert_eq!(snapshot.iter().copied().collect::<Vec<_>>(), model.values().copied().collect::<Vec<_>>());
        assert_eq!(snapshot.len() as usize, model.len());
        assert_eq!(snapshot.octets(), model.values().map(|m| u64::from(m.size_octets)).sum::<u64>());
        assert_eq!(snapshot.unseen() as usize, model.values().filter(|m| !m.flags.contains(Flags::SEEN)).count());
        for (index, m) in model.values().enumerate().step_by(17) {
            assert_eq!(snapshot.get(index as u32), Some(m));
            assert_eq!(snapshot.index_of(m.uid), Some(index as u32));
            assert_eq!(snapshot.iter_from(index as u32).next(), Some(m));
        }
        assert_eq!(snapshot.get(snapshot.len()), None);
        assert_eq!(snapshot.iter_from(snapshot.len()).count(), 0);
    }

    #[test]
    fn agrees_with_a_map_under_random_changes() {
        let mut seed = 42u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut model = BTreeMap::new();
        let mut snapshot = Snapshot::empty(MailboxId(1), UidValidity(1), Uid(1), ModSeq(1));
        let mut uid_next = 1;
        for round in 0..300u64 {
            let (before, before_model) = (snapshot.clone(), model.clone());
            match random(4) {
                0 | 1 => {
                    for _ in 0..random(400) {
                        snapshot.push(message(uid_next, round));
                        model.insert(uid_next, message(uid_next, round));
                        uid_next += 1 + random(2) as u32;
                    }
                }
                2 => {
                    for _ in 0..random(20) {
                        let uid = random(u64::from(uid_next)) as u32;
                        let edit = |m: &mut Message| {
                            m.flags = Flags(random(32) as u8);
                            m.mod_sequence = ModSeq(round + 1_000);
                        };
                        let mut copy = model.get(&uid).copied();
                        assert_eq!(snapshot.update(Uid(uid), edit), copy.is_some());
                        if let Some(copy) = &mut copy {
                            *copy = *snapshot.by_uid(Uid(uid)).unwrap();
                            model.insert(uid, *copy);
                        }
                    }
                }
                _ => {
                    let low = random(u64::from(uid_next)) as u32;
                    let uids = UidSet::from_ranges(vec![(low, low + random(300) as u32), (1, 2)]);
                    let removed = snapshot.remove(&uids);
                    let expected: Vec<Message> = model.values().filter(|m| uids.contains(m.uid)).copied().collect();
                    assert_eq!(removed, expected);
                    model.retain(|_, m| !uids.contains(m.uid));
                }
            }
            check(&snapshot, &model);
            let difference = snapshot.since(&before);
            let gone: Vec<Uid> =
                before_model.keys().filter(|uid| !model.contains_key(uid)).map(|uid| Uid(*uid)).collect();
            let arrived: Vec<Uid> =
                model.keys().filter(|uid| !before_model.contains_key(uid)).map(|uid| Uid(*uid)).collect();
            assert_eq!(difference.expunged, gone);
            assert_eq!(difference.arrived, arrived);
            for uid in &difference.changed {
                assert_ne!(before_model[&uid.0].mod_sequence, model[&uid.0].mod_sequence);
            }
        }
    }

    #[test]
    fn a_set_selects_what_exists() {
        let snapshot = Snapshot::empty(MailboxId(1), UidValidity(1), Uid(9), ModSeq(1))
            .with_messages([2, 3, 5, 7].map(|uid| message(uid, 1)));
        let select = |ranges: &[(u32, u32)]| snapshot.select(&UidSet::from_ranges(ranges.to_vec()));
        assert_eq!(select(&[(1, 3), (7, u32::MAX)]), [Uid(2), Uid(3), Uid(7)]);
        assert_eq!(select(&[(4, 4), (8, 9)]), []);
    }
}
