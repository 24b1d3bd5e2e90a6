//! A set of UIDs as sorted, disjoint ranges.

use crate::mailbox::Uid;
use std::fmt;

/// A set of UIDs; ranges are inclusive, sorted, disjoint and not adjacent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UidSet {
    ranges: Vec<(u32, u32)>,
}

impl UidSet {
    /// The empty set.
    pub fn new() -> UidSet {
        UidSet::default()
    }

    /// Adds one UID. Cheap when UIDs come in ascending order.
    pub fn insert(&mut self, uid: Uid) {
        self.insert_range(uid, uid);
    }

    /// Adds all UIDs from `first` to `last`, in either order.
    pub fn insert_range(&mut self, first: Uid, last: Uid) {
        let (low, high) = (first.0.min(last.0), first.0.max(last.0));
        match self.ranges.last_mut() {
            Some(end) if low > end.1.saturating_add(1) => self.ranges.push((low, high)),
            Some(end) if low >= end.0 => end.1 = end.1.max(high),
            None => self.ranges.push((low, high)),
            Some(_) => self.merge(low, high),
        }
    }

    fn merge(&mut self, low: u32, high: u32) {
        let start = self.ranges.partition_point(|r| r.1.saturating_add(1) < low);
        let end = self.ranges.partition_point(|r| r.0 <= high.saturating_add(1));
        let merged = match self.ranges.get(start..end) {
            Some([first, .., last]) => (low.min(first.0), high.max(last.1)),
            Some([only]) => (low.min(only.0), high.max(only.1)),
            _ => (low, high),
        };
        self.ranges.splice(start..end, [merged]);
    }

    /// Builds a set from ranges in any order in `n log n`.
    pub fn from_ranges(mut ranges: Vec<(u32, u32)>) -> UidSet {
        for range in &mut ranges {
            if range.0 > range.1 {
                *range = (range.1, range.0);
            }
        }
        ranges.sort_unstable();
        let mut set = UidSet::new();
        for (low, high) in ranges {
            set.insert_range(Uid(low), Uid(high));
        }
        set
    }

    /// Whether the set holds `uid`.
    pub fn contains(&self, uid: Uid) -> bool {
        let index = self.ranges.partition_point(|r| r.1 < uid.0);
        self.ranges.get(index).is_some_and(|r| r.0 <= uid.0)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many UIDs the set holds.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|r| u64::from(r.1 - r.0) + 1).sum()
    }

    /// The ranges, ascending, both ends included.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// The UIDs, ascending. May be very many: bound it by what exists first.
    pub fn iter(&self) -> impl Iterator<Item = Uid> + '_ {
        self.ranges.iter().flat_map(|r| (r.0..=r.1).map(Uid))
    }
}

impl FromIterator<Uid> for UidSet {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> UidSet {
        UidSet::from_ranges(uids.into_iter().map(|uid| (uid.0, uid.0)).collect())
    }
}

impl fmt::Display for UidSet {
    /// The form of RFC 4315 §3 uid-set, such as `1:3,7`. Empty for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (low, high)) in self.ranges.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if low == high { write!(f, "{low}")? } else { write!(f, "{low}:{high}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_in_any_order() {
        let mut set = UidSet::new();
        for (low, high) in [(10, 12), (1, 2), (4, 4), (3, 3), (13, 20), (30, 25), (u32::MAX, 40), (5, 9)] {
            set.insert_range(Uid(low), Uid(high));
        }
        assert_eq!(set.to_string(), format!("1:20,25:30,40:{}", u32::MAX));
        assert!(set.contains(Uid(20)) && !set.contains(Uid(21)) && set.contains(Uid(u32::MAX)));
    }

    #[test]
    fn agrees_with_a_plain_set() {
        let mut seed = 7u32;
        for _ in 0..200 {
            let (mut set, mut plain) = (UidSet::new(), std::collections::BTreeSet::new());
            let mut ranges = Vec::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (low, high) = (seed >> 8 & 63, (seed >> 8 & 63) + (seed >> 20 & 7));
                set.insert_range(Uid(low), Uid(high));
                ranges.push((low, high));
                plain.extend(low..=high);
            }
            assert_eq!(set.iter().map(|uid| uid.0).collect::<Vec<_>>(), plain.into_iter().collect::<Vec<_>>());
            assert_eq!(UidSet::from_ranges(ranges), set);
        }
    }
}
