//! What changes the time of many entries at once: a flush, a clock that was set back, other settings.
//!
//! These visit what they change. The rest of the schedule never does.

use super::{Schedule, ScheduleSettings};
use crate::destination::DestinationKey;
use crate::entry::{Entry, Key, Place, SenderDigest};
use crate::heap::Heap;
use crate::plan::after;
use mail::QueueId;
use mail::queue::UnixMillis;
use std::time::Duration;

/// A clock that goes back by more was set; less is adjustment.
pub(super) const CLOCK_STEP: Duration = Duration::from_secs(60);

/// What is to be tried at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush<'a> {
    /// Everything.
    All,
    /// All for a destination (RFC 1985 §5.1, ETRN).
    Destination(&'a DestinationKey),
    /// All from a reverse-path; subaddresses count as their address.
    Sender(&'a str),
    /// Recipients of a message, by number.
    Recipients(QueueId, &'a [u32]),
}

impl Schedule {
    /// Makes waiting entries due, and forgets that their destinations are down. What is held stays held; limits stay. The
    /// answer is how many waited.
    ///
    /// Costs as much as there is to change; by sender, moreover, a look at each pair of sender and destination.
    pub fn flush(&mut self, what: Flush<'_>, now: UnixMillis) -> u32 {
        self.set_now(now);
        match what {
            Flush::Recipients(message, numbers) => self.flush_recipients(message, numbers),
            Flush::All => {
                self.each_destination(|schedule, number| schedule.lift(number));
                self.hasten_lanes(|_, _| true, now)
            }
            Flush::Destination(key) => {
                let Some(wanted) = self.destination_of.get(key).copied() else { return 0 };
                // The destination may go with what was remembered of it, but then it has no lanes.
                self.lift(wanted);
                let lanes = (wanted, SenderDigest::NULL)..=(wanted, SenderDigest(u64::MAX));
                let lanes: Vec<u32> = self.lane_of.range(lanes).map(|(_, lane)| *lane).collect();
                lanes.into_iter().map(|lane| self.hasten(lane, now)).sum()
            }
            Flush::Sender(sender) => {
                let wanted = SenderDigest::of(sender);
                let destinations =
                    self.lane_of.keys().filter(|(_, sender)| *sender == wanted).map(|(number, _)| *number);
                for number in destinations.collect::<Vec<_>>() {
                    self.lift(number);
                }
                self.hasten_lanes(|_, sender| sender == wanted, now)
            }
        }
    }

    /// Other settings, for what is queued too.
    pub fn configure(&mut self, settings: ScheduleSettings, now: UnixMillis) {
        self.settings = settings;
        self.set_now(now);
        self.each_destination(|schedule, number| {
            let destination = &mut schedule.destinations[number];
            let settings = &schedule.settings;
            destination.limits = *settings.limits_of.get(&destination.key).unwrap_or(&settings.limits);
            destination.pace.renew(destination.limits.rate, now);
            // Another plan may have made anything overdue.
            destination.overdue_from = UnixMillis(0);
            schedule.refresh(number);
        });
        self.hasten_lanes(|_, _| true, after(now, self.settings.wait_max));
    }

    /// Nothing may wait for the clock to come back to where it was.
    pub(super) fn clock_set_back(&mut self) {
        let now = self.now;
        self.each_destination(|schedule, number| {
            let destination = &mut schedule.destinations[number];
            destination.health.clock_set_back(now);
            destination.pace.renew(destination.limits.rate, now);
            schedule.refresh(number);
        });
        self.hasten_lanes(|_, _| true, after(now, self.settings.wait_max));
    }

    fn flush_recipients(&mut self, message: QueueId, numbers: &[u32]) -> u32 {
        let mut hastened = 0;
        for number in numbers {
            let Some(slot) = self.entry_of.get(&Key::new(message, *number)).copied() else { continue };
            let Entry { due, lane, place, .. } = self.entries[slot];
            if place == Place::Waiting {
                hastened += 1;
                self.lanes[lane].waiting.remove(&mut self.entries, slot);
                self.entries[slot].due = due.min(self.now);
                self.lanes[lane].waiting.push(&mut self.entries, slot);
                self.refresh_lane(lane);
                self.lift(self.lanes[lane].destination);
            }
        }
        hastened
    }

    /// Forgets that a destination is down.
    fn lift(&mut self, number: u32) {
        let health = &mut self.destinations[number].health;
        if health.is_down() {
            health.lift(self.settings.couriers_initial);
            self.refresh(number);
        }
    }

    fn each_destination(&mut self, mut change: impl FnMut(&mut Schedule, u32)) {
        // A refresh may drop the destination it is called for, never another one.
        let numbers: Vec<u32> = self.destinations.iter().map(|(number, _)| number).collect();
        numbers.into_iter().for_each(|number| change(self, number));
    }

    fn hasten_lanes(&mut self, is_meant: impl Fn(u32, SenderDigest) -> bool, latest: UnixMillis) -> u32 {
        let lanes = self.lane_of.iter().filter(|((destination, sender), _)| is_meant(*destination, *sender));
        let lanes: Vec<u32> = lanes.map(|(_, lane)| *lane).collect();
        lanes.into_iter().map(|lane| self.hasten(lane, latest)).sum()
    }

    /// Lets no waiting entry of a lane be due later than then.
    fn hasten(&mut self, lane: u32, latest: UnixMillis) -> u32 {
        let members = self.lanes[lane].waiting.members(&self.entries);
        let mut waiting = Heap::EMPTY;
        for slot in &members {
            let due = &mut self.entries[*slot].due;
            *due = latest.min(*due);
            waiting.push(&mut self.entries, *slot);
        }
        self.lanes[lane].waiting = waiting;
        self.refresh_lane(lane);
        members.len() as u32
    }
}
