//! Sets of message numbers as clients write them (RFC 3501 §9, sequence-set), and what they mean in a view.

use crate::lexer::BadCommand;
use crate::view::View;
use mail::{Uid, UidSet};

/// Most ranges in one set; a bare number counts as a range.
pub const RANGES_MAX: usize = 10_000;

/// One end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A number from 1 up.
    Number(u32),
    /// `*`: the largest number in use.
    Largest,
}

/// A set as written: of sequence numbers or of UIDs, as the command says. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceSet {
    ranges: Vec<(Bound, Bound)>,
}

impl SequenceSet {
    /// A set from at most [`RANGES_MAX`] ranges whose ends may stand in either order.
    pub fn new(ranges: Vec<(Bound, Bound)>) -> SequenceSet {
        SequenceSet { ranges }
    }

    /// The messages that a command names, as sequence number and UID, ascending, each once.
    ///
    /// As sequence numbers, a number that no message has is an error (RFC 3501 §7.4.1 lets clients know them all). As
    /// UIDs (`by_uid`), numbers that no message has are passed over (RFC 3501 §6.4.8).
    pub fn resolve(&self, view: &View, by_uid: bool) -> Result<Vec<(u32, Uid)>, BadCommand> {
        let count = view.numbering.len();
        if !by_uid && self.largest_sequence_number(count).is_none_or(|largest| largest > count) {
            return Err(BadCommand("No message has that sequence number."));
        }
        let mut found = Vec::new();
        for (low, high) in self.numeric(view, by_uid).ranges() {
            let first = if by_uid { view.numbering.index_from(Uid(*low)) } else { low.saturating_sub(1) };
            if first >= count {
                break;
            }
            let last = if by_uid { u32::MAX } else { high.saturating_sub(1) };
            let pairs = (first..=last).zip(view.numbering.iter_from(first));
            found.extend(
                pairs.map(|(index, message)| (index + 1, message.uid)).take_while(|(_, uid)| !by_uid || uid.0 <= *high),
            );
        }
        Ok(found)
    }

    /// The UIDs that the set covers in a view, for tests of membership: it may also hold UIDs of no message. Numbers that
    /// no message has are passed over.
    pub fn to_uids(&self, view: &View, by_uid: bool) -> UidSet {
        let numbers = self.numeric(view, by_uid);
        if by_uid {
            return numbers;
        }
        let uid_at = |number: u32| number.checked_sub(1).and_then(|index| view.numbering.get(index)).map(|m| m.uid);
        let count = view.numbering.len();
        let mut uids = UidSet::new();
        for (low, high) in numbers.ranges() {
            if let (Some(first), Some(last)) = (uid_at(*low), uid_at((*high).min(count))) {
                uids.insert_range(first, last);
            }
        }
        uids
    }

    /// The largest sequence number that the set names; `None` when it names `*` and there is no message.
    fn largest_sequence_number(&self, count: u32) -> Option<u32> {
        let mut largest = 0;
        for (first, last) in &self.ranges {
            for bound in [first, last] {
                match bound {
                    Bound::Number(number) => largest = largest.max(*number),
                    Bound::Largest if count == 0 => return None,
                    Bound::Largest => {}
                }
            }
        }
        Some(largest)
    }

    /// The ranges with `*` replaced, merged and ascending.
    fn numeric(&self, view: &View, by_uid: bool) -> UidSet {
        let count = view.numbering.len();
        let largest = match view.numbering.get(count.saturating_sub(1)) {
            Some(last) if by_uid => last.uid.0,
            _ => count,
        };
        let number = |bound: Bound| match bound {
            Bound::Number(number) => number,
            Bound::Largest => largest,
        };
        // RFC 3501 §6.4.8: with `*`, the last message is named even when the other end lies beyond it.
        UidSet::from_ranges(self.ranges.iter().map(|(first, last)| (number(*first), number(*last))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::Lexer;
    use mail::{BlobId, Flags, InternalDate, MailboxId, Message, ModSeq, Snapshot, UidValidity};
    use std::sync::Arc;

    fn view(uids: &[u32]) -> View {
        let message = |uid: &u32| Message {
            uid: Uid(*uid),
            flags: Flags::NONE,
            keywords: 0,
            mod_sequence: ModSeq(1),
            size_octets: 1,
            internal_date: InternalDate::default(),
            blob: BlobId(1),
        };
        let snapshot = Snapshot::empty(MailboxId(1), UidValidity(1), Uid(1_000), ModSeq(1))
            .with_messages(uids.iter().map(message));
        let snapshot = Arc::new(snapshot);
        View { numbering: Arc::clone(&snapshot), latest: snapshot, recent_from: Uid(1_000), read_only: false }
    }

    fn set(text: &str) -> SequenceSet {
        Lexer::new(text.as_bytes()).sequence_set().unwrap()
    }

    fn numbers(text: &str, uids: &[u32], by_uid: bool) -> Option<Vec<(u32, u32)>> {
        let found = set(text).resolve(&view(uids), by_uid).ok()?;
        Some(found.into_iter().map(|(number, uid)| (number, uid.0)).collect())
    }

    #[test]
    fn sequence_numbers_are_positions() {
        let uids = [3, 5, 9, 12];
        assert_eq!(numbers("1,3", &uids, false), Some(vec![(1, 3), (3, 9)]));
        assert_eq!(numbers("3:2,2:4,4", &uids, false), Some(vec![(2, 5), (3, 9), (4, 12)]));
        assert_eq!(numbers("*", &uids, false), Some(vec![(4, 12)]));
        assert_eq!(numbers("*:3", &uids, false), Some(vec![(3, 9), (4, 12)]));
        assert_eq!(numbers("5", &uids, false), None);
        assert_eq!(numbers("5:*", &uids, false), None);
        assert_eq!(numbers("*", &[], false), None);
        assert_eq!(numbers("1:*", &[], false), None);
    }

    #[test]
    fn uids_that_no_message_has_are_passed_over() {
        let uids = [3, 5, 9, 12];
        assert_eq!(numbers("1:8,100", &uids, true), Some(vec![(1, 3), (2, 5)]));
        assert_eq!(numbers("*", &uids, true), Some(vec![(4, 12)]));
        assert_eq!(numbers("100:*", &uids, true), Some(vec![(4, 12)]));
        assert_eq!(numbers("4294967295:*", &uids, true), Some(vec![(4, 12)]));
        assert_eq!(numbers("9:*,1", &uids, true), Some(vec![(3, 9), (4, 12)]));
        assert_eq!(numbers("*", &[], true), Some(vec![]));
        assert_eq!(numbers("1:*", &[], true), Some(vec![]));
    }

    #[test]
    fn membership_by_uid_agrees_with_resolution() {
        let view = view(&[3, 5, 9, 12, 40]);
        for text in ["1", "2:4", "*", "1,3,5", "4:*", "7:9", "1:3,9"] {
            let set = set(text);
            let uids = set.to_uids(&view, false);
            let members: Vec<Uid> = view.numbering.iter().map(|m| m.uid).filter(|uid| uids.contains(*uid)).collect();
            match set.resolve(&view, false) {
                Ok(resolved) => assert_eq!(members, resolved.into_iter().map(|(_, uid)| uid).collect::<Vec<_>>()),
                Err(_) => assert!(text.contains('9')),
            }
        }
    }
}
