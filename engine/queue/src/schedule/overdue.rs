//! Messages that come of age while their destination is down.
//!
//! Nothing is tried at a destination that is down but its probe, so nobody would notice that the rest has to bounce, or
//! that its senders have to be told. Each failed probe therefore looks for them, if any can be among them. This is the one
//! place that visits each entry of a destination, at most once per rest.

use super::{Errand, Job, Schedule};
use crate::entry::{Key, SenderDigest};
use crate::plan::after;
use mail::queue::UnixMillis;

impl Schedule {
    /// The next recipients that are past a date of the plan while their destination is down: to be given up, or their
    /// sender to be told. Each is handed out once for the delay, and after its life with each failed probe until it is
    /// settled.
    pub fn overdue(&mut self, now: UnixMillis) -> Option<Job> {
        self.set_now(now);
        while let Some(key) = self.overdue.pop_front() {
            let Some(destination) = self.take_overdue(key) else { continue };
            let most = self.destinations[destination].limits.recipients_per_job_max.max(1);
            let mut recipients = vec![key.number()];
            while recipients.len() < most as usize
                && let Some(next) = self.overdue.front().copied()
                && next.message() == key.message()
                && self.is_for(next, destination)
            {
                self.overdue.pop_front();
                if self.take_overdue(next).is_some() {
                    recipients.push(next.number());
                }
            }
            recipients.sort_unstable();
            recipients.dedup();
            let destination = self.destinations[destination].key.clone();
            return Some(Job { destination, message: key.message(), recipients, errand: Errand::Overdue });
        }
        None
    }

    /// Remembers when the first waiting entry of a destination becomes overdue.
    pub(super) fn expect_overdue(&mut self, slot: u32) {
        let at = self.overdue_at(slot);
        let destination = self.lanes[self.entries[slot].lane].destination;
        let from = &mut self.destinations[destination].overdue_from;
        *from = at.min(*from);
    }

    /// A probe has failed: lists the entries that are overdue.
    pub(super) fn list_overdue(&mut self, number: u32) {
        if self.destinations[number].overdue_from > self.now {
            return;
        }
        let mut from = UnixMillis(u64::MAX);
        let mut found = Vec::new();
        let lanes = (number, SenderDigest::NULL)..=(number, SenderDigest(u64::MAX));
        for (_, lane) in self.lane_of.range(lanes) {
            for slot in self.lanes[*lane].waiting.members(&self.entries) {
                let at = self.overdue_at(slot);
                if at > self.now {
                    from = from.min(at);
                } else if !self.entries[slot].is_listed {
                    self.entries[slot].is_listed = true;
                    found.push(self.entries[slot].key);
                }
            }
        }
        found.sort_unstable();
        self.overdue.extend(found);
        self.destinations[number].overdue_from = from;
    }

    /// Takes a listed entry into a job, if it still is overdue, and says where it goes.
    fn take_overdue(&mut self, key: Key) -> Option<u32> {
        let slot = self.entry_of.get(&key).copied()?;
        let entry = &mut self.entries[slot];
        entry.is_listed = false;
        let lane = entry.lane;
        let destination = self.lanes[lane].destination;
        if entry.place != crate::entry::Place::Waiting {
            return None;
        }
        if self.overdue_at(slot) > self.now || !self.destinations[destination].health.is_down() {
            self.expect_overdue(slot);
            return None;
        }
        self.entries[slot].is_told = true;
        self.lanes[lane].waiting.remove(&mut self.entries, slot);
        self.fly(slot);
        self.refresh_lane(lane);
        Some(destination)
    }

    fn is_for(&self, key: Key, destination: u32) -> bool {
        self.entry_of.get(&key).is_some_and(|slot| self.lanes[self.entries[*slot].lane].destination == destination)
    }

    /// When an entry is past the next date of the plan.
    fn overdue_at(&self, slot: u32) -> UnixMillis {
        let entry = &self.entries[slot];
        let plan = &self.settings.plan;
        let is_bounce = self.lanes[entry.lane].sender.is_bounce();
        let life = plan.life_of(is_bounce);
        let notice = plan.delay_notice.filter(|_| !is_bounce && !entry.is_told);
        after(entry.arrived(), notice.map_or(life, |notice| notice.min(life)))
    }
}
