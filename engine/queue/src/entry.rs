//! What the schedule keeps of a recipient, of a sender's mail for a destination, and of a destination.

use crate::destination::{DestinationKey, DestinationLimits, Health, Pace};
use crate::heap::{Heap, Links, Node};
use crate::turns::{Stand, Turner, Turns};
use mail::QueueId;
use mail::queue::UnixMillis;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Name of an entry. As three words it needs no padding: there is one for each recipient in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key([u32; 3]);

impl Key {
    pub(crate) fn new(message: QueueId, number: u32) -> Key {
        Key([(message.0 >> 32) as u32, (message.0 & 0xffff_ffff) as u32, number])
    }

    pub(crate) fn message(self) -> QueueId {
        QueueId(u64::from(self.0[0]) << 32 | u64::from(self.0[1]))
    }

    pub(crate) fn number(self) -> u32 {
        self.0[2]
    }
}

/// A recipient in the queue. 48 octets.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) due: UnixMillis,
    pub(crate) key: Key,
    pub(crate) lane: u32,
    /// When the message was accepted, in whole seconds, rounded up.
    pub(crate) arrived_seconds: u32,
    /// Its place among the waiting entries of its lane.
    pub(crate) links: Links,
    pub(crate) place: Place,
    /// It was handed out as overdue so that its sender be told of the delay.
    pub(crate) is_told: bool,
    /// It is listed as overdue.
    pub(crate) is_listed: bool,
}

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the heap of its lane.
    Waiting,
    Held,
    /// In a job.
    InFlight(Wish),
}

/// What was decided of an entry while it was in a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing: the report decides.
    None,
    /// It is held if it is still there.
    Hold,
    /// It was released, which may be later than what the job knows of it: it is not held.
    Go,
}

impl Entry {
    pub(crate) fn arrived(&self) -> UnixMillis {
        UnixMillis(u64::from(self.arrived_seconds) * 1_000)
    }
}

/// The time in whole seconds since 1970, rounded up. Ends in 2106.
pub(crate) fn seconds(at: UnixMillis) -> u32 {
    u32::try_from(at.0.div_ceil(1_000)).unwrap_or(u32::MAX)
}

impl Node for Entry {
    /// Oldest due first; recipients of one message that are due together stand together.
    type Key = (UnixMillis, Key);

    fn key(&self) -> (UnixMillis, Key) {
        (self.due, self.key)
    }

    fn links(&self) -> Links {
        self.links
    }

    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// One sender's mail for one destination.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) sender: SenderDigest,
    pub(crate) destination: u32,
    /// How many entries it has, wherever they are.
    pub(crate) entries: u32,
    pub(crate) waiting: Heap,
    /// Among its destination's lanes: ready when its first entry is due.
    pub(crate) stand: Stand,
}

/// Stands for a sender. Two senders with the same digest share a lane, which harms neither much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SenderDigest(pub(crate) u64);

impl SenderDigest {
    /// The null reverse-path: bounces.
    pub(crate) const NULL: SenderDigest = SenderDigest(0);

    /// A subaddress counts as its address: a list with a reverse-path for each of its members is one sender.
    pub(crate) fn of(sender: &str) -> SenderDigest {
        if sender.is_empty() {
            return SenderDigest::NULL;
        }
        let (local, domain) = sender.rsplit_once('@').unwrap_or((sender, ""));
        let base = local.split_once('+').map_or(local, |(base, _)| base);
        let mut hasher = DefaultHasher::new();
        (base, domain).hash(&mut hasher);
        SenderDigest(hasher.finish().max(1))
    }

    pub(crate) fn is_bounce(self) -> bool {
        self == SenderDigest::NULL
    }
}

impl Turner for Lane {
    fn stand(&self) -> &Stand {
        &self.stand
    }

    fn stand_mut(&mut self) -> &mut Stand {
        &mut self.stand
    }
}

/// A destination with entries, with couriers, or with something to remember.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) key: DestinationKey,
    pub(crate) limits: DestinationLimits,
    pub(crate) health: Health,
    pub(crate) pace: Pace,
    /// Its lanes with waiting entries.
    pub(crate) lanes: Turns,
    /// How many entries it has, wherever they are.
    pub(crate) entries: u32,
    /// Couriers under way.
    pub(crate) couriers: u32,
    /// No waiting entry is overdue before then.
    pub(crate) overdue_from: UnixMillis,
    /// Among all destinations: ready when it could use another courier.
    pub(crate) stand: Stand,
}

impl Destination {
    pub(crate) fn new(key: DestinationKey, limits: DestinationLimits, initial: u16) -> Destination {
        Destination {
            key,
            limits,
            health: Health::new(initial),
            pace: Pace::default(),
            lanes: Turns::new(),
            entries: 0,
            couriers: 0,
            overdue_from: UnixMillis(u64::MAX),
            stand: Stand::OUT,
        }
    }

    /// Whether another courier may set out.
    pub(crate) fn has_room(&self) -> bool {
        self.couriers < u32::from(self.health.couriers(&self.limits))
    }

    /// Before when no job may start.
    pub(crate) fn closed_until(&self) -> UnixMillis {
        self.health.down_until().unwrap_or_default().max(self.pace.ready_at(self.limits.rate))
    }

    /// Until when it must be kept although it has neither entries nor couriers.
    pub(crate) fn forget_at(&self) -> UnixMillis {
        self.health.down_until().unwrap_or_default().max(self.pace.forget_at())
    }
}

impl Turner for Destination {
    fn stand(&self) -> &Stand {
        &self.stand
    }

    fn stand_mut(&mut self) -> &mut Stand {
        &mut self.stand
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_small() {
        assert_eq!(size_of::<Entry>(), 48);
        assert_eq!(size_of::<Lane>(), 48);
        assert!(size_of::<Destination>() <= 192, "{}", size_of::<Destination>());
    }

    #[test]
    fn a_key_holds_the_whole_name() {
        let key = Key::new(QueueId(0x0123_4567_89ab_cdef), 42);
        assert_eq!((key.message(), key.number()), (QueueId(0x0123_4567_89ab_cdef), 42));
        assert!(Key::new(QueueId(1), u32::MAX) < Key::new(QueueId(2), 0));
        assert!(Key::new(QueueId(u64::from(u32::MAX)), 0) < Key::new(QueueId(1 << 32), 0));
    }

    #[test]
    fn subaddresses_are_one_sender() {
        let list = SenderDigest::of("list@example.net");
        assert_eq!(SenderDigest::of("list+alice=example.org@example.net"), list);
        assert_ne!(SenderDigest::of("list@example.org"), list);
        assert!(SenderDigest::of("").is_bounce() && !list.is_bounce());
    }
}
