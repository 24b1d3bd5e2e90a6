//! A bounded map that forgets what was not asked for lately. It keeps two generations: when the young one is full, it
//! becomes the old one, and what was in the old one is dropped. Whatever is found in the old one is young again.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// The map.
#[derive(Debug)]
pub struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_max: usize,
}

impl<K: Hash + Eq + Clone, V> Generations<K, V> {
    /// An empty map of at most `entries_max` entries.
    pub fn new(entries_max: usize) -> Generations<K, V> {
        Generations { young: HashMap::new(), old: HashMap::new(), young_max: (entries_max / 2).max(1) }
    }

    /// Looks up and renews an entry.
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// Puts an entry in, in place of an older one.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.young_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Takes an entry out.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let young = self.young.remove(key);
        young.or_else(|| self.old.remove(key))
    }

    /// Takes all entries out.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let mut map = Generations::new(10);
        for n in 0..1_000 {
            map.insert(n, n);
            assert_eq!(map.get(&0), Some(&mut 0));
            assert!(map.young.len() + map.old.len() <= 11);
        }
        assert_eq!(map.get(&500), None);
        assert_eq!(map.get(&999), Some(&mut 999));
        assert_eq!(map.remove(&999), Some(999));
        assert_eq!(map.get(&999), None);
    }
}
