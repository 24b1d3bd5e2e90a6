//! Recipients that are in nobody's hands but an administrator's.

use super::{Errand, Job, Schedule};
use crate::entry::{Entry, Key, Place, Wish};
use mail::QueueId;
use mail::queue::UnixMillis;

impl Schedule {
    /// Takes a recipient that waits or is held into a job of its own, so that no courier takes it up meanwhile. Like an
    /// overdue one it makes no try and takes no courier; without a result it waits, or is held, as before. `None`: it is in
    /// a job already, or not known.
    pub fn claim(&mut self, message: QueueId, number: u32, now: UnixMillis) -> Option<Job> {
        self.set_now(now);
        let slot = self.entry_of.get(&Key::new(message, number)).copied()?;
        let Entry { due, lane, place, .. } = self.entries[slot];
        let (wish, due) = match place {
            Place::InFlight(_) => return None,
            Place::Waiting => (Wish::None, due),
            // Released meanwhile, it is due at once.
            Place::Held => (Wish::Hold, self.now),
        };
        self.lift_out(slot);
        self.counts.in_flight += 1;
        let entry = &mut self.entries[slot];
        (entry.place, entry.due) = (Place::InFlight(wish), due);
        let destination = self.destinations[self.lanes[lane].destination].key.clone();
        Some(Job { destination, message, recipients: vec![number], errand: Errand::Overdue })
    }
}
