//! What a session knows of the mailbox it has selected.

use mail::{Message, Snapshot, Uid, UidSet};
use std::sync::Arc;

/// A session's view: the numbering it has told the client, and the newest picture it has.
///
/// Sequence numbers are indices of `numbering` plus one. Flags are read from `latest`; a message that is gone from there
/// is read from `numbering` until the client has been told.
#[derive(Debug, Clone)]
pub struct View {
    /// The picture whose numbering the client knows.
    pub numbering: Arc<Snapshot>,
    /// The newest picture.
    pub latest: Arc<Snapshot>,
    /// Messages from this UID on are `\Recent` in this session.
    pub recent_from: Uid,
    /// Selected by EXAMINE.
    pub read_only: bool,
}

/// Something the client has to be told of the mailbox, in the order to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untagged {
    /// The message with this number is gone; the numbers after it are one less from now on.
    Expunge(u32),
    /// There are so many messages.
    Exists(u32),
    /// So many of them are recent.
    Recent(u32),
    /// The mailbox knows other keywords than before.
    Keywords,
    /// The flags of the message with this number are now these.
    Flags(u32, Message),
}

impl View {
    /// What is known of a message that the client knows.
    pub fn message(&self, uid: Uid) -> Option<&Message> {
        self.latest.by_uid(uid).or_else(|| self.numbering.by_uid(uid))
    }

    /// Whether a message is `\Recent` in this session.
    pub fn is_recent(&self, uid: Uid) -> bool {
        uid >= self.recent_from
    }

    /// How many of the messages that the client knows are `\Recent`.
    pub fn recent(&self) -> u32 {
        self.numbering.len().saturating_sub(self.numbering.index_from(self.recent_from))
    }

    /// Brings what the client knows up to `latest`, and gives what it must be told for that.
    ///
    /// Without `expunge_allowed`, messages that are gone stay in the numbering until a later call. Of messages in `told`
    /// the client has heard the flags already. Costs next to nothing when nothing changed, and else what changed plus
    /// one look at each chunk.
    pub fn catch_up(&mut self, expunge_allowed: bool, told: &UidSet) -> Vec<Untagged> {
        if Arc::ptr_eq(&self.numbering, &self.latest) {
            return Vec::new();
        }
        let difference = self.latest.since(&self.numbering);
        let mut untagged = Vec::new();
        if self.numbering.keywords != self.latest.keywords {
            untagged.push(Untagged::Keywords);
        }
        if difference.expunged.is_empty() || expunge_allowed {
            for (before, uid) in difference.expunged.iter().enumerate() {
                // Each number counts from what is left after the expunges told before it.
                untagged
                    .extend(self.numbering.index_of(*uid).map(|index| Untagged::Expunge(index + 1 - before as u32)));
            }
            self.numbering = Arc::clone(&self.latest);
        } else {
            self.numbering = Arc::new(self.held_back(&difference));
        }
        if !difference.arrived.is_empty() {
            untagged.push(Untagged::Exists(self.numbering.len()));
            untagged.push(Untagged::Recent(self.recent()));
        }
        for uid in difference.changed.iter().filter(|uid| !told.contains(**uid)) {
            if let (Some(index), Some(message)) = (self.numbering.index_of(*uid), self.latest.by_uid(*uid)) {
                untagged.push(Untagged::Flags(index + 1, *message));
            }
        }
        untagged
    }

    /// The newest picture, with the messages that the client does not know to be gone still in it.
    fn held_back(&self, difference: &mail::snapshot::Difference) -> Snapshot {
        let mut numbering = Snapshot::clone(&self.numbering);
        for uid in &difference.changed {
            if let Some(message) = self.latest.by_uid(*uid) {
                numbering.update(*uid, |known| *known = *message);
            }
        }
        for message in difference.arrived.iter().filter_map(|uid| self.latest.by_uid(*uid)) {
            numbering.push(*message);
        }
        numbering.keywords = Arc::clone(&self.latest.keywords);
        numbering.mod_sequence = self.latest.mod_sequence;
        numbering.uid_next = self.latest.uid_next;
        numbering
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::{BlobId, Flags, InternalDate, Keyword, MailboxId, ModSeq, UidValidity};

    fn message(uid: u32, mod_sequence: u64) -> Message {
        Message {
            uid: Uid(uid),
            flags: Flags::NONE,
            keywords: 0,
            mod_sequence: ModSeq(mod_sequence),
            size_octets: 1,
            internal_date: InternalDate::default(),
            blob: BlobId(u64::from(uid)),
        }
    }

    fn view(uids: std::ops::RangeInclusive<u32>, recent_from: u32) -> View {
        let snapshot = Snapshot::empty(MailboxId(1), UidValidity(1), Uid(1), ModSeq(1))
            .with_messages(uids.map(|uid| message(uid, 1)));
        let snapshot = Arc::new(snapshot);
        View { numbering: Arc::clone(&snapshot), latest: snapshot, recent_from: Uid(recent_from), read_only: false }
    }

    fn change(view: &mut View, edit: impl FnOnce(&mut Snapshot)) {
        let mut next = Snapshot::clone(&view.latest);
        edit(&mut next);
        view.latest = Arc::new(next);
    }

    fn flag(snapshot: &mut Snapshot, uid: u32, mod_sequence: u64) {
        snapshot.update(Uid(uid), |m| {
            m.flags = Flags::SEEN;
            m.mod_sequence = ModSeq(mod_sequence);
        });
    }

    #[test]
    fn nothing_changed_nothing_told() {
        let mut view = view(1..=3, 2);
        assert_eq!(view.recent(), 2);
        assert_eq!(view.catch_up(true, &UidSet::new()), []);
    }

    #[test]
    fn numbers_shift_with_each_expunge() {
        let mut view = view(1..=5, 6);
        change(&mut view, |next| {
            next.remove(&UidSet::from_ranges(vec![(2, 2), (4, 5)]));
            next.push(message(6, 2));
            flag(next, 3, 2);
        });
        let told = view.catch_up(true, &UidSet::new());
        let Some(Untagged::Flags(2, changed)) = told.last() else { panic!("{told:?}") };
        assert_eq!(changed.uid, Uid(3));
        let expected = [
            Untagged::Expunge(2),
            Untagged::Expunge(3),
            Untagged::Expunge(3),
            Untagged::Exists(3),
            Untagged::Recent(1),
        ];
        assert_eq!(told[..5], expected);
        assert_eq!(view.catch_up(true, &UidSet::new()), []);
    }

    #[test]
    fn expunges_wait_until_they_are_allowed() {
        let mut view = view(1..=4, 9);
        change(&mut view, |next| {
            next.remove(&UidSet::from_ranges(vec![(1, 2)]));
            next.push(message(5, 2));
            flag(next, 4, 3);
        });
        let told = view.catch_up(false, &UidSet::new());
        assert_eq!(told[..2], [Untagged::Exists(5), Untagged::Recent(0)]);
        assert!(matches!(told[2..], [Untagged::Flags(4, _)]));
        assert_eq!(view.message(Uid(1)).map(|m| m.uid), Some(Uid(1)));
        assert_eq!(view.catch_up(false, &UidSet::new()), []);
        change(&mut view, |next| {
            next.remove(&UidSet::from_ranges(vec![(5, 5)]));
        });
        let told = view.catch_up(true, &UidSet::new());
        assert_eq!(told, [Untagged::Expunge(1), Untagged::Expunge(1), Untagged::Expunge(3)]);
        assert!(Arc::ptr_eq(&view.numbering, &view.latest));
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut view = view(1..=3, 9);
        change(&mut view, |next| {
            flag(next, 1, 2);
            flag(next, 3, 2);
            next.keywords = Arc::from([Keyword::parse("Work").unwrap()]);
        });
        let told = view.catch_up(true, &UidSet::from_ranges(vec![(1, 1)]));
        assert_eq!(told[0], Untagged::Keywords);
        assert!(matches!(told[1..], [Untagged::Flags(3, _)]));
    }

    #[test]
    fn v61_a_client_that_applies_what_it_is_told_agrees_with_the_mailbox() {
        let mut seed = 11u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut view = view(1..=20, 9);
        let mut client: Vec<Option<Message>> = view.numbering.iter().copied().map(Some).collect();
        let mut uid_next = 21;
        for round in 2..500u64 {
            change(&mut view, |next| match random(3) {
                0 => {
                    next.push(message(uid_next, round));
                    uid_next += 1;
                }
                1 => {
                    let low = random(u64::from(uid_next)) as u32;
                    next.remove(&UidSet::from_ranges(vec![(low, low + random(3) as u32)]));
                }
                _ => {
                    let uid = random(u64::from(uid_next)) as u32;
                    next.update(Uid(uid), |m| {
                        m.flags = Flags(random(32) as u8);
                        m.mod_sequence = ModSeq(round);
                    });
                }
            });
            for untagged in view.catch_up(random(3) == 0, &UidSet::new()) {
                match untagged {
                    Untagged::Expunge(number) => drop(client.remove(number as usize - 1)),
                    Untagged::Exists(count) => {
                        assert!(count as usize >= client.len());
                        client.resize(count as usize, None);
                    }
                    Untagged::Flags(number, message) => client[number as usize - 1] = Some(message),
                    Untagged::Recent(_) | Untagged::Keywords => {}
                }
            }
            assert_eq!(client.len(), view.numbering.len() as usize);
            for (known, real) in client.iter().zip(view.numbering.iter()) {
                assert!(known.is_none_or(|known| known.uid == real.uid && known.flags == real.flags));
            }
        }
    }
}
