//! Records under small numbers, in chunks: growing neither copies them nor doubles the memory.

use std::ops::{Index, IndexMut};

/// Stands for no record.
pub(crate) const NONE: u32 = u32::MAX;

/// Records of one chunk.
const CHUNK: usize = 256;

#[derive(Debug)]
enum Slot<T> {
    Used(T),
    /// The next free slot, or [`NONE`].
    Free(u32),
}

/// Records and their free places. A number is given out again after its record was removed.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: u32,
    used: u32,
}

impl<T> Arena<T> {
    pub(crate) fn new() -> Arena<T> {
        Arena { chunks: Vec::new(), free: NONE, used: 0 }
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> u32 {
        self.used
    }

    /// Adds a record and gives its number.
    pub(crate) fn insert(&mut self, record: T) -> u32 {
        self.used += 1;
        let number = self.free;
        if let Some(slot) = self.slot_mut(number) {
            let Slot::Free(next) = *slot else { unreachable!("a slot of the free list is free") };
            *slot = Slot::Used(record);
            self.free = next;
            return number;
        }
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(Slot::Used(record)),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(Slot::Used(record));
                self.chunks.push(chunk);
            }
        }
        let last = (self.chunks.len() - 1) * CHUNK + self.chunks.last().map_or(0, Vec::len) - 1;
        u32::try_from(last).ok().filter(|number| *number != NONE).expect("fewer than 2^32 records fit into memory")
    }

    /// Takes a record out. When none is left, the memory is given back.
    pub(crate) fn remove(&mut self, number: u32) {
        let free = self.free;
        let slot = self.slot_mut(number).expect("a number that was given out");
        assert!(matches!(slot, Slot::Used(_)), "a record is removed once");
        *slot = Slot::Free(free);
        self.free = number;
        self.used -= 1;
        if self.used == 0 {
            *self = Arena::new();
        }
    }

    /// Every record with its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().flatten().zip(0..).filter_map(|(slot, number)| match slot {
            Slot::Used(record) => Some((number, record)),
            Slot::Free(_) => None,
        })
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Slot<T>> {
        let number = number as usize;
        self.chunks.get_mut(number / CHUNK)?.get_mut(number % CHUNK)
    }
}

// A number that does not lead to a record is an error of this crate, never of a peer.
impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        match &self.chunks[number as usize / CHUNK][number as usize % CHUNK] {
            Slot::Used(record) => record,
            Slot::Free(_) => unreachable!("record {number} was removed"),
        }
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        match &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK] {
            Slot::Used(record) => record,
            Slot::Free(_) => unreachable!("record {number} was removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_after_removal() {
        let mut arena = Arena::new();
        let numbers: Vec<u32> = (0..1_000).map(|record| arena.insert(record)).collect();
        assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
        arena.remove(7);
        arena.remove(900);
        assert_eq!(arena.len(), 998);
        assert_eq!(arena.iter().count(), 998);
        assert_eq!([arena.insert(1), arena.insert(2), arena.insert(3)], [900, 7, 1_000]);
        assert_eq!(arena[7], 2);
        (0..=1_000).for_each(|number| arena.remove(number));
        assert_eq!((arena.len(), arena.chunks.len()), (0, 0), "an empty arena holds no memory");
        assert_eq!(arena.insert(4), 0);
    }
}
