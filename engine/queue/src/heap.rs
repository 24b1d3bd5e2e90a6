//! A pairing heap whose links lie in the records themselves: adding costs O(1), taking the first out or any other one
//! O(log n) amortised, and an empty heap or one of a single record costs nothing.

use crate::arena::{Arena, NONE};

/// Links of a record in a heap or a ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links {
    /// First child; unused in a ring.
    pub(crate) child: u32,
    /// Right sibling.
    pub(crate) next: u32,
    /// Left sibling, or the parent of a first child.
    pub(crate) prev: u32,
}

impl Links {
    pub(crate) const NONE: Links = Links { child: NONE, next: NONE, prev: NONE };
}

/// What can be in a heap.
pub(crate) trait Node {
    /// What the heap is ordered by. It must not change while the record is in the heap.
    type Key: Ord;
    fn key(&self) -> Self::Key;
    fn links(&self) -> Links;
    fn links_mut(&mut self) -> &mut Links;
}

/// The heap: its least record, or [`NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heap(u32);

impl Heap {
    pub(crate) const EMPTY: Heap = Heap(NONE);

    /// The record with the least key.
    pub(crate) fn first(self) -> Option<u32> {
        (self.0 != NONE).then_some(self.0)
    }

    /// Adds a record.
    pub(crate) fn push<T: Node>(&mut self, nodes: &mut Arena<T>, number: u32) {
        *nodes[number].links_mut() = Links::NONE;
        self.0 = meld(nodes, self.0, number);
    }

    /// Takes a record of this heap out.
    pub(crate) fn remove<T: Node>(&mut self, nodes: &mut Arena<T>, number: u32) {
        let links = nodes[number].links();
        *nodes[number].links_mut() = Links::NONE;
        let below = pair_up(nodes, links.child);
        if number == self.0 {
            self.0 = below;
            return;
        }
        let left = nodes[links.prev].links_mut();
        if left.child == number {
            left.child = links.next;
        } else {
            left.next = links.next;
        }
        if links.next != NONE {
            nodes[links.next].links_mut().prev = links.prev;
        }
        self.0 = meld(nodes, self.0, below);
    }

    /// The numbers of all records, in no particular order.
    pub(crate) fn members<T: Node>(self, nodes: &Arena<T>) -> Vec<u32> {
        let mut found: Vec<u32> = self.first().into_iter().collect();
        let mut place = 0;
        while let Some(number) = found.get(place) {
            let mut child = nodes[*number].links().child;
            while child != NONE {
                found.push(child);
                child = nodes[child].links().next;
            }
            place += 1;
        }
        found
    }
}

/// Makes one heap of two; the roots have no siblings.
fn meld<T: Node>(nodes: &mut Arena<T>, a: u32, b: u32) -> u32 {
    if a == NONE {
        return b;
    }
    if b == NONE {
        return a;
    }
    let (root, child) = if nodes[b].key() < nodes[a].key() { (b, a) } else { (a, b) };
    let sibling = nodes[root].links().child;
    nodes[root].links_mut().child = child;
    let links = nodes[child].links_mut();
    links.prev = root;
    links.next = sibling;
    if sibling != NONE {
        nodes[sibling].links_mut().prev = child;
    }
    root
}

/// Makes one heap of a list of siblings: pair by pair from the left, then all from the right.
fn pair_up<T: Node>(nodes: &mut Arena<T>, mut sibling: u32) -> u32 {
    let mut pairs = NONE;
    while sibling != NONE {
        let a = detach(nodes, &mut sibling);
        let b = detach(nodes, &mut sibling);
        let root = meld(nodes, a, b);
        nodes[root].links_mut().next = pairs;
        pairs = root;
    }
    let mut root = NONE;
    while pairs != NONE {
        let pair = detach(nodes, &mut pairs);
        root = meld(nodes, root, pair);
    }
    root
}

/// Takes the first of a list off and leaves the rest.
fn detach<T: Node>(nodes: &mut Arena<T>, list: &mut u32) -> u32 {
    let first = *list;
    if first != NONE {
        let links = nodes[first].links_mut();
        *list = links.next;
        (links.next, links.prev) = (NONE, NONE);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    struct Number(u16, Links);

    impl Node for Number {
        type Key = u16;
        fn key(&self) -> u16 {
            self.0
        }
        fn links(&self) -> Links {
            self.1
        }
        fn links_mut(&mut self) -> &mut Links {
            &mut self.1
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default()
        })]

        /// Whatever is added and removed, the first is the least and the members are those of a list.
        #[test]
        fn a_heap_is_a_sorted_list(steps in prop::collection::vec((any::<u16>(), any::<Option<u8>>()), 0..200)) {
            let mut nodes = Arena::new();
            let mut heap = Heap::EMPTY;
            let mut model: Vec<(u16, u32)> = Vec::new();
            for (key, removed) in steps {
                match removed.filter(|_| !model.is_empty()) {
                    Some(place) => {
                        // Every second time the first, otherwise any.
                        let place = if place % 2 == 0 { 0 } else { place as usize % model.len() };
                        let (_, number) = model.remove(place);
                        heap.remove(&mut nodes, number);
                        nodes.remove(number);
                    }
                    None => {
                        let number = nodes.insert(Number(key, Links::NONE));
                        heap.push(&mut nodes, number);
                        model.push((key, number));
                        model.sort_unstable();
                    }
                }
                prop_assert_eq!(heap.first().map(|number| nodes[number].0), model.first().map(|(key, _)| *key));
                if let Some(number) = heap.first() {
                    // Among equal keys any may be the first; the model removes the one the heap has.
                    let place = model.iter().position(|(_, known)| *known == number).expect("a member");
                    model.swap(0, place);
                    model[1..].sort_unstable();
                }
                let mut members = heap.members(&nodes);
                members.sort_unstable();
                let mut known: Vec<u32> = model.iter().map(|(_, number)| *number).collect();
                known.sort_unstable();
                prop_assert_eq!(members, known);
            }
        }
    }
}
