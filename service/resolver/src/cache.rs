//! What was found out, for as long as it holds; bounded in entries and octets.
//!
//! Two generations instead of a list by age: entries are put into the young one; when that has half of what is allowed,
//! it becomes the old one, and the old one is dropped whole. What is used again moves to the young one. So each step
//! takes the same time however much is remembered, and what peers make us ask cannot push out what is in use.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

/// Octets that an entry may take on average, by [`Cache::insert`]'s count.
const ENTRY_OCTETS_MEAN_MAX: usize = 1024;
/// An entry that is larger is not kept.
const ENTRY_OCTETS_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    young: Generation<K, V>,
    old: Generation<K, V>,
    entries_max: usize,
}

#[derive(Debug)]
struct Generation<K, V> {
    entries: HashMap<K, Entry<V>>,
    octets: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    octets: usize,
    until: Instant,
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// A cache of so many entries; none are kept for 0.
    pub(crate) fn new(entries_max: usize) -> Cache<K, V> {
        Cache { young: Generation::new(), old: Generation::new(), entries_max }
    }

    /// What is remembered, and how long it still holds, which is more than nothing.
    pub(crate) fn get(&mut self, key: &K, now: Instant) -> Option<(V, Duration)> {
        if let Some(entry) = self.young.entries.get(key) {
            return entry.at(now);
        }
        let (key, entry) = self.old.remove(key)?;
        let found = entry.at(now)?;
        self.put(key, entry);
        Some(found)
    }

    /// Remembers a value of about so many octets for some time; for none when that is zero.
    pub(crate) fn insert(&mut self, key: K, value: V, octets: usize, ttl: Duration, now: Instant) {
        self.remove(&key);
        if !ttl.is_zero() && octets <= ENTRY_OCTETS_MAX {
            self.put(key, Entry { value, octets, until: now + ttl });
        }
    }

    /// Forgets one.
    pub(crate) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.young = Generation::new();
        self.old = Generation::new();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.entries.len() + self.old.entries.len()
    }

    fn put(&mut self, key: K, entry: Entry<V>) {
        let half = self.entries_max / 2;
        if half == 0 {
            return;
        }
        let is_full = self.young.entries.len() >= half || self.young.octets >= half * ENTRY_OCTETS_MEAN_MAX;
        if is_full {
            self.old = std::mem::replace(&mut self.young, Generation::new());
        }
        self.young.octets += entry.octets;
        self.young.entries.insert(key, entry);
    }
}

impl<K: Hash + Eq, V> Generation<K, V> {
    fn new() -> Generation<K, V> {
        Generation { entries: HashMap::new(), octets: 0 }
    }

    fn remove(&mut self, key: &K) -> Option<(K, Entry<V>)> {
        let (key, entry) = self.entries.remove_entry(key)?;
        self.octets -= entry.octets;
        Some((key, entry))
    }
}

impl<V: Clone> Entry<V> {
    fn at(&self, now: Instant) -> Option<(V, Duration)> {
        let left = self.until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some((self.value.clone(), left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn time_is_kept() {
        let now = Instant::now();
        let mut cache = Cache::new(10);
        cache.insert("a", 1, 10, MINUTE, now);
        assert_eq!(cache.get(&"a", now + MINUTE / 4), Some((1, MINUTE / 4 * 3)));
        assert_eq!(cache.get(&"a", now + MINUTE), None);
        cache.insert("a", 2, 10, MINUTE, now + MINUTE);
        assert_eq!(cache.get(&"a", now + MINUTE), Some((2, MINUTE)));
        cache.insert("a", 3, 10, Duration::ZERO, now);
        assert_eq!(cache.get(&"a", now), None, "zero takes the place of what was there");
        cache.insert("b", 1, 10, MINUTE, now);
        cache.clear();
        assert_eq!(cache.get(&"b", now), None);
    }

    #[test]
    fn v46_entries_are_bounded_and_what_is_used_stays() {
        let now = Instant::now();
        let mut cache = Cache::new(100);
        cache.insert(0, 0, 10, MINUTE, now);
        for key in 1..10_000 {
            cache.insert(key, key, 10, MINUTE, now);
            assert!(cache.len() <= 100);
            assert_eq!(cache.get(&0, now), Some((0, MINUTE)));
        }
        assert_eq!(cache.get(&9_999, now), Some((9_999, MINUTE)));
        assert_eq!(cache.get(&5_000, now), None);
        let mut none = Cache::new(0);
        none.insert(1, 1, 10, MINUTE, now);
        assert_eq!(none.get(&1, now), None);
    }

    #[test]
    fn v46_octets_are_bounded() {
        let now = Instant::now();
        let mut cache = Cache::new(100);
        for key in 0..1_000 {
            cache.insert(key, key, ENTRY_OCTETS_MAX, MINUTE, now);
            assert!(cache.young.octets + cache.old.octets <= 100 * ENTRY_OCTETS_MEAN_MAX + 2 * ENTRY_OCTETS_MAX);
        }
        cache.insert(1_000, 1_000, ENTRY_OCTETS_MAX + 1, MINUTE, now);
        assert_eq!(cache.get(&1_000, now), None);
        for key in 0..1_000 {
            cache.insert(key, key, 0, Duration::ZERO, now);
        }
        assert_eq!((cache.len(), cache.young.octets, cache.old.octets), (0, 0, 0));
    }
}
