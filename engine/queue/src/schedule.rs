//! Which recipients are tried next, and by how many couriers at once: the queue in memory.
//!
//! A courier is whatever carries mail over one connection. It asks [`Schedule::next`] for its first job, then
//! [`Schedule::next_for`] for more to the same destination while its connection is open, reports each job, and is
//! released when it closes. The schedule knows neither addresses nor messages: the store has them.
//!
//! Destinations take turns, and within a destination senders do, so that nobody waits for somebody else's backlog. What is
//! due, but cannot start (its destination is down, or has all the couriers it bears), is not looked at.

mod claim;
mod flush;
mod overdue;
mod summary;

pub use flush::Flush;
pub use summary::{AGE_MINUTES, DestinationSummary};

use crate::arena::Arena;
use crate::destination::{Contact, DestinationKey, DestinationLimits, Feedback};
use crate::entry::{Destination, Entry, Key, Lane, Place, SenderDigest, Wish, seconds};
use crate::heap::{Heap, Links};
use crate::plan::{RetryPlan, after};
use crate::turns::{Stand, Turns};
use mail::QueueId;
use mail::queue::{QueueEntry, QueueState, UnixMillis};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How much is done at once, and how things wait.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleSettings {
    /// Most couriers at once, over all destinations. By default 100; zero counts as one.
    pub couriers_max: u32,
    /// Couriers that a destination is trusted with at first. By default 5; zero counts as one.
    pub couriers_initial: u16,
    /// Limits of every destination that has none of its own.
    pub limits: DestinationLimits,
    /// Limits of single destinations.
    pub limits_of: BTreeMap<DestinationKey, DestinationLimits>,
    /// When destinations that are down are tried again, and when messages for them are overdue.
    pub plan: RetryPlan,
    /// No entry waits for longer, whatever its row says: a clock that was once ahead must not delay mail for long. By
    /// default 8,000 s, twice the longest retry.
    pub wait_max: Duration,
}

impl Default for ScheduleSettings {
    fn default() -> ScheduleSettings {
        ScheduleSettings {
            couriers_max: 100,
            couriers_initial: 5,
            limits: DestinationLimits::default(),
            limits_of: BTreeMap::new(),
            plan: RetryPlan::default(),
            wait_max: Duration::from_secs(8_000),
        }
    }
}

/// What is to be done with the recipients of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Try to deliver.
    Deliver,
    /// The same, to a destination that is down: whether it is up again depends on this job alone.
    Probe,
    /// Make no try: their destination is down, and they are past a date of the retry plan. Ask the plan, with what is
    /// known of the destination as the cause: give up, or tell the sender of the delay. Takes no courier.
    Overdue,
}

/// Recipients of one message for one destination, handed out to be worked on. Its entries are in flight until it is
/// given to [`Schedule::report`]; a job that is dropped instead leaves them there.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "its recipients stay in flight until it is reported"]
pub struct Job {
    /// Where to.
    pub destination: DestinationKey,
    /// What.
    pub message: QueueId,
    /// Numbers of the recipients, rising.
    pub recipients: Vec<u32>,
    /// To do what.
    pub errand: Errand,
}

/// How an entry waits, or that it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryState {
    /// Until then; if its destination is down, until that is tried again.
    Waiting(UnixMillis),
    /// Until it is released.
    Held,
    /// In a job.
    InFlight,
}

/// How many entries are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Waiting, due or not.
    pub waiting: u32,
    /// Held.
    pub held: u32,
    /// In a job.
    pub in_flight: u32,
}

/// The queue in memory.
#[derive(Debug)]
pub struct Schedule {
    settings: ScheduleSettings,
    /// The time of the last call, and the latest time of any.
    now: UnixMillis,
    latest: UnixMillis,
    entries: Arena<Entry>,
    entry_of: BTreeMap<Key, u32>,
    lanes: Arena<Lane>,
    lane_of: BTreeMap<(u32, SenderDigest), u32>,
    destinations: Arena<Destination>,
    destination_of: BTreeMap<DestinationKey, u32>,
    /// Destinations that could use another courier.
    turns: Turns,
    couriers: u32,
    overdue: VecDeque<Key>,
    counts: Counts,
}

impl Schedule {
    /// An empty schedule.
    pub fn new(settings: ScheduleSettings, now: UnixMillis) -> Schedule {
        Schedule {
            settings,
            now,
            latest: now,
            entries: Arena::new(),
            entry_of: BTreeMap::new(),
            lanes: Arena::new(),
            lane_of: BTreeMap::new(),
            destinations: Arena::new(),
            destination_of: BTreeMap::new(),
            turns: Turns::new(),
            couriers: 0,
            overdue: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Adds a recipient that goes to this destination. One that is known is left as it is, and the answer is false: to
    /// send it elsewhere, let it be settled first.
    pub fn insert(&mut self, entry: &QueueEntry, destination: &DestinationKey, now: UnixMillis) -> bool {
        self.set_now(now);
        let key = Key::new(entry.message, entry.number);
        if self.entry_of.contains_key(&key) {
            return false;
        }
        let lane = self.lane(destination, SenderDigest::of(&entry.sender));
        let slot = self.entries.insert(Entry {
            due: UnixMillis(0),
            key,
            lane,
            arrived_seconds: seconds(entry.arrived),
            links: Links::NONE,
            place: Place::Held,
            is_told: false,
            is_listed: false,
        });
        self.entry_of.insert(key, slot);
        self.lanes[lane].entries += 1;
        let number = self.lanes[lane].destination;
        self.destinations[number].entries += 1;
        self.settle(slot, entry.state);
        true
    }

    /// Another state for a recipient. One that is in flight is held after its job if it is still there then, or is not,
    /// even if the report says so, which may come from a row read before this; a time is up to the report. False if it is
    /// not known.
    pub fn set_state(&mut self, message: QueueId, number: u32, state: QueueState, now: UnixMillis) -> bool {
        self.set_now(now);
        let Some(slot) = self.entry_of.get(&Key::new(message, number)).copied() else { return false };
        match (self.entries[slot].place, state) {
            (Place::InFlight(_), QueueState::Held) => self.entries[slot].place = Place::InFlight(Wish::Hold),
            (Place::InFlight(_), QueueState::Waiting(_)) => self.entries[slot].place = Place::InFlight(Wish::Go),
            (Place::Waiting | Place::Held, state) => {
                self.lift_out(slot);
                self.settle(slot, state);
            }
        }
        true
    }

    /// The next job for a new courier, if one may set out: it must be released when it is through. Nothing more can
    /// start now if `None`; then ask again after the next insert, flush, report or release, or at
    /// [`wake_at`](Schedule::wake_at).
    pub fn next(&mut self, now: UnixMillis) -> Option<Job> {
        self.set_now(now);
        self.ripen();
        if self.is_full() {
            return None;
        }
        // Each round takes one destination out of the ring that has nothing to start, which happens only after the clock
        // was set back.
        for _ in 0..=self.destinations.len() {
            let number = self.turns.first()?;
            self.turns.set(&mut self.destinations, number, None, now);
            let job = self.start(number);
            if job.is_some() {
                self.couriers += 1;
                self.destinations[number].couriers += 1;
            }
            self.refresh(number);
            if job.is_some() {
                return job;
            }
        }
        None
    }

    /// The next job for a courier with an open connection to this destination, whose last job was reported. `None` if
    /// nothing is due, or if the destination has more couriers than it bears: then close. How many jobs one connection
    /// may carry, and for how long, is the caller's to decide; see [`others_wait`](Schedule::others_wait).
    pub fn next_for(&mut self, destination: &DestinationKey, now: UnixMillis) -> Option<Job> {
        self.set_now(now);
        let number = *self.destination_of.get(destination)?;
        let place = &self.destinations[number];
        if place.couriers == 0 || place.couriers > u32::from(place.health.couriers(&place.limits)) {
            return None;
        }
        let job = self.start(number);
        self.refresh(number);
        job
    }

    /// Whether a courier to this destination keeps others from being served: all couriers are under way, and another
    /// destination could use one. A courier that has carried its share had better close then.
    pub fn others_wait(&mut self, destination: &DestinationKey, now: UnixMillis) -> bool {
        self.set_now(now);
        self.ripen();
        let number = self.destination_of.get(destination).copied().unwrap_or(crate::arena::NONE);
        self.is_full() && self.turns.others_wait(number)
    }

    /// Whether all couriers are under way.
    fn is_full(&self) -> bool {
        self.couriers >= self.settings.couriers_max.max(1)
    }

    /// How many destinations could use a courier while all are under way; counts no further than `count_max`. So many
    /// couriers that only keep a connection open had better end.
    pub fn places_wanted(&mut self, count_max: usize, now: UnixMillis) -> usize {
        self.set_now(now);
        self.ripen();
        if self.is_full() { self.turns.ready(&self.destinations, count_max) } else { 0 }
    }

    /// What became of a job: for each recipient its new state, or `None` if it was settled. A recipient without result
    /// waits for the first retry; one of an overdue job as before. The courier keeps its connection.
    pub fn report(
        &mut self,
        job: Job,
        results: &[(u32, Option<QueueState>)],
        contact: Contact,
        now: UnixMillis,
    ) -> Feedback {
        self.set_now(now);
        for (number, state) in results {
            if job.recipients.binary_search(number).is_ok() {
                self.land(Key::new(job.message, *number), |_| *state);
            }
        }
        let retry = after(now, self.settings.plan.shortest());
        for number in &job.recipients {
            self.land(Key::new(job.message, *number), |entry| {
                let due = if job.errand == Errand::Overdue { entry.due } else { retry };
                Some(QueueState::Waiting(due))
            });
        }
        match self.destination_of.get(&job.destination) {
            Some(number) if job.errand != Errand::Overdue => self.learn(*number, contact),
            _ => Feedback::None,
        }
    }

    /// A courier closed its connection, or never had one. Each job of [`next`](Schedule::next) is followed by one release,
    /// after its last report.
    pub fn release(&mut self, destination: &DestinationKey, now: UnixMillis) {
        self.set_now(now);
        let Some(number) = self.destination_of.get(destination).copied() else { return };
        let place = &mut self.destinations[number];
        if place.couriers > 0 {
            place.couriers -= 1;
            self.couriers -= 1;
            self.refresh(number);
        }
    }

    /// When [`next`](Schedule::next) or [`overdue`](Schedule::overdue) may have something, if nothing else happens
    /// before; a time that is past if they may now. While all couriers are under way only a release helps.
    pub fn wake_at(&self) -> Option<UnixMillis> {
        if !self.overdue.is_empty() {
            return Some(UnixMillis(0));
        }
        (!self.is_full()).then(|| self.turns.earliest(&self.destinations))?
    }

    /// How a recipient waits.
    pub fn state(&self, message: QueueId, number: u32) -> Option<EntryState> {
        let entry = &self.entries[*self.entry_of.get(&Key::new(message, number))?];
        Some(match entry.place {
            Place::Waiting => {
                let health = &self.destinations[self.lanes[entry.lane].destination].health;
                EntryState::Waiting(entry.due.max(health.down_until().unwrap_or_default()))
            }
            Place::Held => EntryState::Held,
            Place::InFlight(_) => EntryState::InFlight,
        })
    }

    /// Where a recipient goes.
    pub fn destination(&self, message: QueueId, number: u32) -> Option<&DestinationKey> {
        let entry = &self.entries[*self.entry_of.get(&Key::new(message, number))?];
        Some(&self.destinations[self.lanes[entry.lane].destination].key)
    }

    /// How many entries are where.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Couriers under way.
    pub fn couriers(&self) -> u32 {
        self.couriers
    }

    fn set_now(&mut self, now: UnixMillis) {
        self.now = now;
        if after(now, flush::CLOCK_STEP) < self.latest {
            self.clock_set_back();
            self.latest = now;
        }
        self.latest = self.latest.max(now);
    }

    /// The lane of a sender to a destination, made if need be.
    fn lane(&mut self, key: &DestinationKey, sender: SenderDigest) -> u32 {
        let destination = match self.destination_of.get(key) {
            Some(number) => *number,
            None => {
                let limits = self.settings.limits_of.get(key).unwrap_or(&self.settings.limits);
                let destination = Destination::new(key.clone(), *limits, self.settings.couriers_initial);
                let number = self.destinations.insert(destination);
                self.destination_of.insert(key.clone(), number);
                number
            }
        };
        *self.lane_of.entry((destination, sender)).or_insert_with(|| {
            self.lanes.insert(Lane { sender, destination, entries: 0, waiting: Heap::EMPTY, stand: Stand::OUT })
        })
    }

    /// Puts an entry that is nowhere into a state.
    fn settle(&mut self, slot: u32, state: QueueState) {
        match state {
            QueueState::Held => {
                self.entries[slot].place = Place::Held;
                self.counts.held += 1;
            }
            QueueState::Waiting(due) => {
                let entry = &mut self.entries[slot];
                entry.place = Place::Waiting;
                entry.due = due.min(after(self.now, self.settings.wait_max));
                let lane = entry.lane;
                self.counts.waiting += 1;
                self.lanes[lane].waiting.push(&mut self.entries, slot);
                self.expect_overdue(slot);
                self.refresh_lane(lane);
            }
        }
    }

    /// Takes an entry from where it is, so that it is nowhere.
    fn lift_out(&mut self, slot: u32) {
        let Entry { lane, place, .. } = self.entries[slot];
        match place {
            Place::Held => self.counts.held -= 1,
            Place::InFlight(_) => self.counts.in_flight -= 1,
            Place::Waiting => {
                self.counts.waiting -= 1;
                self.lanes[lane].waiting.remove(&mut self.entries, slot);
                self.refresh_lane(lane);
            }
        }
    }

    /// Forgets an entry that is nowhere, and with it a lane and a destination that have no other.
    fn forget(&mut self, slot: u32) {
        let Entry { lane, key, .. } = self.entries[slot];
        self.entry_of.remove(&key);
        self.entries.remove(slot);
        let Lane { destination, sender, .. } = self.lanes[lane];
        self.lanes[lane].entries -= 1;
        if self.lanes[lane].entries == 0 {
            self.destinations[destination].lanes.set(&mut self.lanes, lane, None, self.now);
            self.lane_of.remove(&(destination, sender));
            self.lanes.remove(lane);
        }
        self.destinations[destination].entries -= 1;
        self.refresh(destination);
    }

    /// An entry comes back from a job.
    fn land(&mut self, key: Key, state: impl FnOnce(&Entry) -> Option<QueueState>) {
        let Some(slot) = self.entry_of.get(&key).copied() else { return };
        let entry = &self.entries[slot];
        let Place::InFlight(wish) = entry.place else { return };
        let state = match (wish, state(entry)) {
            (Wish::Hold, Some(_)) => Some(QueueState::Held),
            (Wish::Go, Some(QueueState::Held)) => Some(QueueState::Waiting(self.now)),
            (_, state) => state,
        };
        self.lift_out(slot);
        match state {
            Some(state) => self.settle(slot, state),
            None => self.forget(slot),
        }
    }

    /// Lets a courier's experience change what its destination is trusted with.
    fn learn(&mut self, number: u32, contact: Contact) -> Feedback {
        let Destination { health, limits, couriers, .. } = &mut self.destinations[number];
        let feedback = match contact {
            Contact::Unknown => return Feedback::None,
            Contact::Reached => health.reached(limits, self.settings.couriers_initial, *couriers),
            Contact::Failed => health.failed(&self.settings.plan, self.now),
        };
        if matches!(feedback, Feedback::Down(_)) {
            self.list_overdue(number);
        }
        self.refresh(number);
        feedback
    }

    /// Takes a job out of the lane whose turn it is.
    fn start(&mut self, number: u32) -> Option<Job> {
        let now = self.now;
        if self.destinations[number].closed_until() > now {
            return None;
        }
        self.destinations[number].lanes.ripen(&mut self.lanes, now);
        while let Some(lane) = self.destinations[number].lanes.first() {
            let taken = self.take(lane);
            // Behind the others, or out, or later.
            self.destinations[number].lanes.set(&mut self.lanes, lane, None, now);
            self.set_lane(lane);
            if let Some((message, recipients)) = taken {
                let Destination { key, limits, health, pace, .. } = &mut self.destinations[number];
                pace.take(limits.rate, now);
                let errand = if health.is_down() { Errand::Probe } else { Errand::Deliver };
                return Some(Job { destination: key.clone(), message, recipients, errand });
            }
        }
        None
    }

    /// Takes the message that is due first, with as many recipients as stand together and a job may have.
    fn take(&mut self, lane: u32) -> Option<(QueueId, Vec<u32>)> {
        let most = self.destinations[self.lanes[lane].destination].limits.recipients_per_job_max.max(1);
        let mut message = None;
        let mut recipients = Vec::new();
        while let Some(slot) = self.lanes[lane].waiting.first() {
            let Entry { due, key, .. } = self.entries[slot];
            let is_other = message.is_some_and(|message| message != key.message());
            if due > self.now || is_other || recipients.len() >= most as usize {
                break;
            }
            message = Some(key.message());
            recipients.push(key.number());
            self.lanes[lane].waiting.remove(&mut self.entries, slot);
            self.fly(slot);
        }
        recipients.sort_unstable();
        message.map(|message| (message, recipients))
    }

    /// An entry was taken out of its lane and is in a job now.
    fn fly(&mut self, slot: u32) {
        self.entries[slot].place = Place::InFlight(Wish::None);
        self.counts.waiting -= 1;
        self.counts.in_flight += 1;
    }

    /// Lets destinations join the ring whose time has come.
    fn ripen(&mut self) {
        while let Some(number) = self.turns.ripe(&self.destinations, self.now) {
            self.refresh(number);
        }
    }

    /// The waiting entries of a lane have changed.
    fn refresh_lane(&mut self, lane: u32) {
        self.set_lane(lane);
        self.refresh(self.lanes[lane].destination);
    }

    fn set_lane(&mut self, lane: u32) {
        let Lane { waiting, destination, .. } = self.lanes[lane];
        let wake = waiting.first().map(|slot| self.entries[slot].due);
        self.destinations[destination].lanes.set(&mut self.lanes, lane, wake, self.now);
    }

    /// Something of a destination has changed: from when on it could use another courier. One that has nothing left is
    /// dropped as soon as there is nothing to remember of it.
    fn refresh(&mut self, number: u32) {
        let destination = &self.destinations[number];
        let is_idle = destination.entries == 0 && destination.couriers == 0;
        let wake = if is_idle {
            Some(destination.forget_at()).filter(|until| *until > self.now)
        } else if destination.has_room() {
            destination.lanes.earliest(&self.lanes).map(|first| first.max(destination.closed_until()))
        } else {
            None
        };
        self.turns.set(&mut self.destinations, number, wake, self.now);
        if is_idle && wake.is_none() {
            self.destination_of.remove(&self.destinations[number].key);
            self.destinations.remove(number);
        }
    }
}
