//! Whose turn it is: what is ready stands in a ring and is served in turn, what is not waits for its time.
//!
//! Destinations take turns at the couriers, and within a destination its senders do. Asking whose turn it is looks at
//! the ready ones and at those whose time has come since, never at the rest.

use crate::arena::{Arena, NONE};
use crate::heap::{Heap, Links, Node};
use mail::queue::UnixMillis;

/// Where something that takes turns stands. [`Turns`] alone changes it.
#[derive(Debug)]
pub(crate) struct Stand {
    rank: Rank,
    /// From when on it is or was ready.
    wake: UnixMillis,
    /// Its place in the ring, or among those who wait.
    links: Links,
}

#[derive(Debug, Clone, Copy)]
enum Rank {
    /// Nowhere: it wants nothing, or cannot have it now.
    Out,
    /// In the ring.
    Ready,
    /// Until its time.
    Timed,
}

impl Stand {
    /// Nowhere.
    pub(crate) const OUT: Stand = Stand { rank: Rank::Out, wake: UnixMillis(0), links: Links::NONE };
}

/// What takes turns.
pub(crate) trait Turner {
    fn stand(&self) -> &Stand;
    fn stand_mut(&mut self) -> &mut Stand;
}

impl<T: Turner> Node for T {
    type Key = UnixMillis;

    fn key(&self) -> UnixMillis {
        self.stand().wake
    }

    fn links(&self) -> Links {
        self.stand().links
    }

    fn links_mut(&mut self) -> &mut Links {
        &mut self.stand_mut().links
    }
}

/// The ring and those who wait. The ring is linked by `next` and `prev`, from `head` to `tail`.
#[derive(Debug)]
pub(crate) struct Turns {
    head: u32,
    tail: u32,
    timed: Heap,
}

impl Turns {
    pub(crate) fn new() -> Turns {
        Turns { head: NONE, tail: NONE, timed: Heap::EMPTY }
    }

    /// From when on it wants a turn; never if `None`. Who is ready and stays ready keeps its place.
    pub(crate) fn set<T: Turner>(
        &mut self,
        nodes: &mut Arena<T>,
        number: u32,
        wake: Option<UnixMillis>,
        now: UnixMillis,
    ) {
        let stand = nodes[number].stand();
        match (stand.rank, wake) {
            (Rank::Out, None) => return,
            (Rank::Ready, Some(wake)) if wake <= now => return,
            (Rank::Timed, Some(wake)) if wake == stand.wake && wake > now => return,
            (Rank::Out, Some(_)) => {}
            (Rank::Ready, _) => self.leave_ring(nodes, number),
            (Rank::Timed, _) => self.timed.remove(nodes, number),
        }
        let Some(wake) = wake else { return *nodes[number].stand_mut() = Stand::OUT };
        let stand = |rank| Stand { rank, wake, links: Links::NONE };
        if wake <= now {
            *nodes[number].stand_mut() = stand(Rank::Ready);
            self.join_ring(nodes, number);
        } else {
            *nodes[number].stand_mut() = stand(Rank::Timed);
            self.timed.push(nodes, number);
        }
    }

    /// Lets those join the ring whose time has come.
    pub(crate) fn ripen<T: Turner>(&mut self, nodes: &mut Arena<T>, now: UnixMillis) {
        while let Some(number) = self.ripe(nodes, now) {
            let wake = nodes[number].key();
            self.set(nodes, number, Some(wake), now);
        }
    }

    /// The first whose time has come, but who is not in the ring yet.
    pub(crate) fn ripe<T: Turner>(&self, nodes: &Arena<T>, now: UnixMillis) -> Option<u32> {
        self.timed.first().filter(|number| nodes[*number].key() <= now)
    }

    /// Who is next among the ready.
    pub(crate) fn first(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// Whether anyone but this one is ready.
    pub(crate) fn others_wait(&self, number: u32) -> bool {
        self.head != NONE && (self.head != number || self.tail != number)
    }

    /// How many are ready; counts no further than `count_max`.
    pub(crate) fn ready<T: Turner>(&self, nodes: &Arena<T>, count_max: usize) -> usize {
        let first = self.first();
        let next = |number: &u32| Some(nodes[*number].links().next).filter(|next| *next != NONE);
        std::iter::successors(first, next).take(count_max).count()
    }

    /// When the first of them is or was ready. For those in the ring any time that is past.
    pub(crate) fn earliest<T: Turner>(&self, nodes: &Arena<T>) -> Option<UnixMillis> {
        match self.first() {
            Some(_) => Some(UnixMillis(0)),
            None => self.timed.first().map(|number| nodes[number].key()),
        }
    }

    fn join_ring<T: Turner>(&mut self, nodes: &mut Arena<T>, number: u32) {
        *nodes[number].links_mut() = Links { prev: self.tail, ..Links::NONE };
        if self.tail == NONE {
            self.head = number;
        } else {
            nodes[self.tail].links_mut().next = number;
        }
        self.tail = number;
    }

    fn leave_ring<T: Turner>(&mut self, nodes: &mut Arena<T>, number: u32) {
        let Links { prev, next, .. } = nodes[number].links();
        *nodes[number].links_mut() = Links::NONE;
        if prev == NONE {
            self.head = next;
        } else {
            nodes[prev].links_mut().next = next;
        }
        if next == NONE {
            self.tail = prev;
        } else {
            nodes[next].links_mut().prev = prev;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(Stand);

    impl Turner for One {
        fn stand(&self) -> &Stand {
            &self.0
        }
        fn stand_mut(&mut self) -> &mut Stand {
            &mut self.0
        }
    }

    #[test]
    fn the_ready_are_served_in_turn_and_the_rest_in_time() {
        let mut nodes = Arena::new();
        let mut turns = Turns::new();
        let at = |turns: &mut Turns, nodes: &mut Arena<One>, time: u64| {
            let number = nodes.insert(One(Stand::OUT));
            turns.set(nodes, number, Some(UnixMillis(time)), UnixMillis(10));
            number
        };
        let late = at(&mut turns, &mut nodes, 30);
        let soon = at(&mut turns, &mut nodes, 20);
        assert_eq!((turns.first(), turns.earliest(&nodes)), (None, Some(UnixMillis(20))));
        let [a, b, c] = [1, 2, 3].map(|time| at(&mut turns, &mut nodes, time));
        // Whoever stays ready keeps its place; whoever leaves and comes back stands behind.
        turns.set(&mut nodes, a, Some(UnixMillis(9)), UnixMillis(10));
        assert_eq!(turns.first(), Some(a));
        turns.set(&mut nodes, b, None, UnixMillis(10));
        turns.set(&mut nodes, b, Some(UnixMillis(2)), UnixMillis(10));
        turns.ripen(&mut nodes, UnixMillis(25));
        let mut order = Vec::new();
        while let Some(number) = turns.first() {
            assert_eq!(turns.others_wait(number), order.len() < 3);
            assert_eq!((turns.ready(&nodes, 9), turns.ready(&nodes, 1)), (4 - order.len(), 1));
            turns.set(&mut nodes, number, None, UnixMillis(25));
            order.push(number);
        }
        assert_eq!(order, [a, c, b, soon]);
        turns.ripen(&mut nodes, UnixMillis(30));
        assert_eq!(turns.first(), Some(late));
        // The clock was set back: what is asked again waits again.
        turns.set(&mut nodes, late, Some(UnixMillis(30)), UnixMillis(10));
        assert_eq!(turns.first(), None);
    }
}
