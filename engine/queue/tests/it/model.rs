//! The schedule against a list of entries that is searched from end to end.

use crate::{START, config, destination, entry};
use mail::QueueId;
use mail::queue::{QueueState, UnixMillis};
use proptest::prelude::*;
use queue::{
    Contact, Counts, DestinationLimits, DestinationSummary, EntryState, Errand, Feedback, Flush, Job, RateLimit,
    RetryPlan, Schedule, ScheduleSettings,
};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

const DESTINATIONS: usize = 4;
/// The destination with a limited rate.
const PACED: usize = 3;
const COURIERS_MAX: u32 = 4;
const RECIPIENTS_MAX: usize = 3;
const WAIT_MAX_MILLIS: u64 = 8_000_000;
const NOTICE_MILLIS: u64 = 1_200_000;
const LIFE_MILLIS: u64 = 3_600_000;
/// Short enough that some come of age.
const BOUNCE_LIFE_MILLIS: u64 = 2_400_000;

#[derive(Debug, Clone)]
enum Step {
    Insert { message: u64, number: u32, due: u64, held: bool },
    Hold { pick: usize },
    Wait { pick: usize, due: u64 },
    Next,
    NextFor { pick: usize },
    Report { pick: usize, contact: Contact, fates: [Fate; RECIPIENTS_MAX] },
    Release { pick: usize },
    Overdue,
    Claim { pick: usize },
    Advance { seconds: u64 },
    SetBack { seconds: u64 },
    Flush { what: usize },
    Configure { couriers: u16 },
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Settled,
    Deferred(u64),
    Held,
    Forgotten,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Settled),
        3 => (0u64..5_000).prop_map(Fate::Deferred),
        1 => Just(Fate::Held),
        1 => Just(Fate::Forgotten),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let pick = 0usize..1_000;
    let contact = prop_oneof![3 => Just(Contact::Reached), 3 => Just(Contact::Failed), 1 => Just(Contact::Unknown)];
    prop_oneof![
        8 => (0u64..24, 0u32..5, 0u64..2_000, prop::bool::weighted(0.1))
            .prop_map(|(message, number, due, held)| Step::Insert { message, number, due: due.saturating_sub(1_000), held }),
        1 => pick.clone().prop_map(|pick| Step::Hold { pick }),
        2 => (pick.clone(), 0u64..20_000).prop_map(|(pick, due)| Step::Wait { pick, due }),
        6 => Just(Step::Next),
        3 => pick.clone().prop_map(|pick| Step::NextFor { pick }),
        7 => (pick.clone(), contact, [fate(), fate(), fate()])
            .prop_map(|(pick, contact, fates)| Step::Report { pick, contact, fates }),
        5 => pick.clone().prop_map(|pick| Step::Release { pick }),
        2 => Just(Step::Overdue),
        1 => pick.prop_map(|pick| Step::Claim { pick }),
        3 => (0u64..1_000).prop_map(|seconds| Step::Advance { seconds }),
        1 => prop_oneof![1u64..59, 61u64..100_000].prop_map(|seconds| Step::SetBack { seconds }),
        1 => (0usize..12).prop_map(|what| Step::Flush { what }),
        1 => (0u16..6).prop_map(|couriers| Step::Configure { couriers }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting(u64),
    Held,
    /// What was decided meanwhile: that it is held after its job, or that it is not.
    InFlight {
        due: u64,
        hold: Option<bool>,
    },
}

/// A courier between `next` and `release`.
struct Courier {
    destination: usize,
    job: Option<Job>,
}

struct World {
    schedule: Schedule,
    now: u64,
    latest: u64,
    entries: BTreeMap<(u64, u32), State>,
    couriers: Vec<Courier>,
    overdue: Vec<Job>,
    /// Entries that were handed out as overdue before.
    told: BTreeSet<(u64, u32)>,
    /// Entries that were overdue when a probe failed, and were not handed out since.
    listed: BTreeSet<(u64, u32)>,
}

/// Messages go to a destination and come from a sender by their numbers; some have recipients at two destinations.
fn route(message: u64, number: u32) -> usize {
    (message as usize + usize::from(number >= 4)) % DESTINATIONS
}

fn sender(message: u64) -> usize {
    (message as usize / DESTINATIONS) % 3
}

fn settings(couriers_max: u16) -> ScheduleSettings {
    let limits = DestinationLimits { couriers_max, recipients_per_job_max: RECIPIENTS_MAX as u32, rate: None };
    let number = |number| NonZeroU32::new(number).expect("not zero");
    let rate = Some(RateLimit { per_minute: number(6), burst: number(2) });
    ScheduleSettings {
        couriers_max: COURIERS_MAX,
        couriers_initial: 2,
        limits,
        limits_of: BTreeMap::from([(destination(PACED), DestinationLimits { rate, ..limits })]),
        plan: RetryPlan {
            life: Duration::from_millis(LIFE_MILLIS),
            bounce_life: Duration::from_millis(BOUNCE_LIFE_MILLIS),
            delay_notice: Some(Duration::from_millis(NOTICE_MILLIS)),
            ..RetryPlan::default()
        },
        wait_max: Duration::from_millis(WAIT_MAX_MILLIS),
    }
}

impl World {
    fn new() -> World {
        World {
            schedule: Schedule::new(settings(3), START),
            now: START.0,
            latest: START.0,
            entries: BTreeMap::new(),
            couriers: Vec::new(),
            overdue: Vec::new(),
            told: BTreeSet::new(),
            listed: BTreeSet::new(),
        }
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.now)
    }

    fn cap(&mut self, latest: u64) {
        for state in self.entries.values_mut() {
            if let State::Waiting(due) = state {
                *due = latest.min(*due);
            }
        }
    }

    fn pick(&self, pick: usize) -> Option<(u64, u32)> {
        let place = pick.checked_rem(self.entries.len())?;
        self.entries.keys().nth(place).copied()
    }

    fn summary(&self) -> BTreeMap<usize, DestinationSummary> {
        let numbers: BTreeMap<_, _> = (0..DESTINATIONS).map(|number| (destination(number), number)).collect();
        self.schedule.summary(self.now()).into_iter().map(|summary| (numbers[&summary.destination], summary)).collect()
    }

    fn down_until(&self, number: usize) -> u64 {
        self.summary().get(&number).and_then(|summary| summary.down_until).map_or(0, |until| until.0)
    }

    fn run(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Insert { message, number, due, held } => {
                let due = self.now + due * 1_000;
                let mut row = entry(message, number, sender(message), UnixMillis(due));
                if held {
                    row.state = QueueState::Held;
                }
                let is_new = !self.entries.contains_key(&(message, number));
                assert_eq!(self.schedule.insert(&row, &destination(route(message, number)), now), is_new);
                let state = if held { State::Held } else { State::Waiting(due) };
                self.entries.entry((message, number)).or_insert(state);
                if is_new {
                    self.told.remove(&(message, number));
                }
            }
            Step::Hold { pick } => self.set_state(pick, QueueState::Held),
            Step::Wait { pick, due } => self.set_state(pick, QueueState::Waiting(UnixMillis(self.now + due * 1_000))),
            Step::Next => {
                if let Some(job) = self.next() {
                    let destination = self.check_job(&job);
                    self.couriers.push(Courier { destination, job: Some(job) });
                    self.check_room(destination);
                }
            }
            Step::NextFor { pick } => self.next_for(pick),
            Step::Report { pick, contact, fates } => self.report_any(pick, contact, fates),
            Step::Release { pick } => {
                let idle: Vec<usize> = self.places(|courier| courier.job.is_none());
                let Some(place) = pick.checked_rem(idle.len()).map(|place| idle[place]) else { return };
                let courier = self.couriers.swap_remove(place);
                self.schedule.release(&destination(courier.destination), now);
            }
            Step::Overdue => self.overdue(),
            Step::Claim { pick } => self.claim(pick),
            Step::Advance { seconds } => self.now += seconds * 1_000,
            Step::SetBack { seconds } => self.now -= seconds * 1_000,
            Step::Flush { what } => self.flush(what),
            Step::Configure { couriers } => {
                self.schedule.configure(settings(couriers), now);
                self.cap(self.now + WAIT_MAX_MILLIS);
            }
        }
    }

    /// The time was given to the schedule: the model takes the same consequences.
    fn told_time(&mut self) {
        if self.now + 60_000 < self.latest {
            self.cap(self.now + WAIT_MAX_MILLIS);
            self.latest = self.now;
        }
        self.latest = self.latest.max(self.now);
    }

    fn places(&self, is_meant: impl Fn(&Courier) -> bool) -> Vec<usize> {
        (0..self.couriers.len()).filter(|place| is_meant(&self.couriers[*place])).collect()
    }

    fn set_state(&mut self, pick: usize, state: QueueState) {
        let Some(key) = self.pick(pick) else { return };
        let now = self.now();
        let known = self.entries.get_mut(&key).expect("picked");
        assert!(self.schedule.set_state(QueueId(key.0), key.1, state, now));
        match (known, state) {
            (State::InFlight { hold, .. }, state) => *hold = Some(state == QueueState::Held),
            (known, QueueState::Held) => *known = State::Held,
            (known, QueueState::Waiting(due)) => *known = State::Waiting(due.0.min(self.now + WAIT_MAX_MILLIS)),
        }
    }

    /// Whatever waits or is held can be claimed, and nobody else takes it then.
    fn claim(&mut self, pick: usize) {
        let Some(key) = self.pick(pick) else { return };
        self.told_time();
        let job = self.schedule.claim(QueueId(key.0), key.1, self.now());
        let (due, hold) = match self.entries[&key] {
            State::InFlight { .. } => return assert_eq!(job, None),
            State::Waiting(due) => (due, None),
            State::Held => (self.now, Some(true)),
        };
        let job = job.expect("in no job");
        assert_eq!((job.message.0, &job.recipients[..], job.errand), (key.0, &[key.1][..], Errand::Overdue));
        self.entries.insert(key, State::InFlight { due, hold });
        self.overdue.push(job);
    }

    fn next(&mut self) -> Option<Job> {
        self.told_time();
        let job = self.schedule.next(self.now());
        if job.is_none() {
            self.check_nothing_starts();
        }
        job
    }

    /// Nobody is overlooked: whatever is due has a reason not to start, and the schedule wakes in time.
    fn check_nothing_starts(&self) {
        let is_full = self.couriers.len() as u32 >= COURIERS_MAX;
        for (number, summary) in self.summary() {
            let first = self.entries.iter().filter(|((message, recipient), _)| route(*message, *recipient) == number);
            let first = first.filter_map(|(_, state)| if let State::Waiting(due) = state { Some(*due) } else { None });
            let Some(first) = first.min() else { continue };
            let starts = first.max(summary.down_until.map_or(0, |until| until.0));
            let has_room = !is_full && summary.couriers < summary.couriers_max;
            if has_room && number != PACED {
                assert!(starts > self.now, "{number} could start: {summary:?}");
            }
            if has_room {
                let wake = self.schedule.wake_at().expect("something waits");
                // A job each ten seconds, and a clock that may be up to a minute back.
                let pace = if number == PACED { 80_000 } else { 0 };
                assert!(wake.0 <= starts.max(self.now) + pace, "{number} sleeps too long");
            }
        }
    }

    fn next_for(&mut self, pick: usize) {
        let idle = self.places(|courier| courier.job.is_none());
        let Some(place) = pick.checked_rem(idle.len()).map(|place| idle[place]) else { return };
        self.told_time();
        let number = self.couriers[place].destination;
        if let Some(job) = self.schedule.next_for(&destination(number), self.now()) {
            assert_eq!(self.check_job(&job), number);
            self.couriers[place].job = Some(job);
            self.check_room(number);
        }
    }

    /// No destination has more couriers than it bears when one of them begins a job.
    fn check_room(&self, number: usize) {
        let summary = &self.summary()[&number];
        assert!(summary.couriers <= summary.couriers_max, "{summary:?}");
        assert!(self.couriers.len() as u32 <= COURIERS_MAX);
    }

    /// A job holds due recipients of one message, one sender and one destination that is not resting, none of them twice.
    fn check_job(&mut self, job: &Job) -> usize {
        let number = (0..DESTINATIONS).find(|number| destination(*number) == job.destination).expect("known");
        assert!(self.down_until(number) <= self.now, "it rests");
        assert_eq!(job.errand == Errand::Probe, self.down_until(number) > 0);
        assert!((1..=RECIPIENTS_MAX).contains(&job.recipients.len()));
        assert!(job.recipients.is_sorted_by(|a, b| a < b));
        let mut dues = Vec::new();
        for recipient in &job.recipients {
            let key = (job.message.0, *recipient);
            assert_eq!(route(key.0, key.1), number);
            let State::Waiting(due) = self.entries[&key] else { panic!("{key:?} is {:?}", self.entries[&key]) };
            assert!(due <= self.now, "{key:?} is not due");
            dues.push(due);
            self.entries.insert(key, State::InFlight { due, hold: None });
        }
        // What is due first among the sender's mail goes first, and recipients that are due together go together.
        let first = dues.iter().min().copied().expect("not empty");
        for (key, state) in &self.entries {
            let State::Waiting(due) = *state else { continue };
            if route(key.0, key.1) == number && sender(key.0) == sender(job.message.0) {
                assert!(due >= first, "{key:?} was due before");
                let is_full = job.recipients.len() == RECIPIENTS_MAX;
                assert!(is_full || key.0 != job.message.0 || due != first, "{key:?} was left behind");
            }
        }
        number
    }

    /// Those that were overdue when a probe failed are handed out, as long as they are overdue and their destination is
    /// down.
    fn overdue(&mut self) {
        self.told_time();
        self.listed = self.listed.iter().copied().filter(|key| self.is_overdue(*key)).collect();
        let Some(job) = self.schedule.overdue(self.now()) else {
            assert!(self.listed.is_empty(), "{:?} are forgotten", self.listed);
            return;
        };
        assert_eq!(job.errand, Errand::Overdue);
        assert!((1..=RECIPIENTS_MAX).contains(&job.recipients.len()));
        assert!(job.recipients.is_sorted_by(|a, b| a < b));
        for recipient in &job.recipients {
            let key = (job.message.0, *recipient);
            assert_eq!(job.destination, destination(route(key.0, key.1)));
            assert!(self.is_overdue(key), "{key:?} is {:?}", self.entries[&key]);
            let State::Waiting(due) = self.entries[&key] else { panic!("{key:?} is {:?}", self.entries[&key]) };
            self.entries.insert(key, State::InFlight { due, hold: None });
            self.listed.remove(&key);
            self.told.insert(key);
        }
        self.overdue.push(job);
    }

    /// Whether an entry waits past a date of the plan for a destination that is down: once for the notice, which bounces
    /// have none of, and after its life.
    fn is_overdue(&self, key: (u64, u32)) -> bool {
        let least = match (sender(key.0), self.told.contains(&key)) {
            (0, _) => BOUNCE_LIFE_MILLIS,
            (_, false) => NOTICE_MILLIS,
            (_, true) => LIFE_MILLIS,
        };
        let waits = matches!(self.entries.get(&key), Some(State::Waiting(_)));
        waits && self.down_until(route(key.0, key.1)) != 0 && self.now >= START.0 + least
    }

    fn report_any(&mut self, pick: usize, contact: Contact, fates: [Fate; RECIPIENTS_MAX]) {
        let busy = self.places(|courier| courier.job.is_some());
        let Some(place) = pick.checked_rem(busy.len() + self.overdue.len()) else { return };
        let job = match busy.get(place) {
            Some(place) => self.couriers[*place].job.take().expect("busy"),
            None => self.overdue.swap_remove(place - busy.len()),
        };
        self.report(job, contact, fates);
    }

    fn report(&mut self, job: Job, contact: Contact, fates: [Fate; RECIPIENTS_MAX]) {
        self.told_time();
        let now = self.now;
        let (message, errand) = (job.message, job.errand);
        let number = (0..DESTINATIONS).find(|number| destination(*number) == job.destination).expect("known");
        let mut results = vec![(9, None)];
        for (number, fate) in job.recipients.iter().zip(fates) {
            let key = (message.0, *number);
            let State::InFlight { due, hold } = self.entries[&key] else { panic!("{key:?} is not in flight") };
            let state = match fate {
                Fate::Settled => None,
                Fate::Deferred(seconds) => Some(QueueState::Waiting(UnixMillis(now + seconds * 1_000))),
                Fate::Held => Some(QueueState::Held),
                Fate::Forgotten if errand == Errand::Overdue => Some(QueueState::Waiting(UnixMillis(due))),
                Fate::Forgotten => Some(QueueState::Waiting(UnixMillis(now + 300_000))),
            };
            if !matches!(fate, Fate::Forgotten) {
                results.push((*number, state));
            }
            let due = match state {
                Some(QueueState::Waiting(due)) => due.0.min(now + WAIT_MAX_MILLIS),
                Some(QueueState::Held) => now,
                None => {
                    self.entries.remove(&key);
                    continue;
                }
            };
            let is_held = hold.unwrap_or(state == Some(QueueState::Held));
            self.entries.insert(key, if is_held { State::Held } else { State::Waiting(due) });
        }
        match self.schedule.report(job, &results, contact, self.now()) {
            Feedback::Down(until) => {
                assert!(contact == Contact::Failed && (now + 300_000..=now + 4_000_000).contains(&until.0));
                assert_ne!(errand, Errand::Overdue);
                let here = self.entries.keys().copied().filter(|key| route(key.0, key.1) == number);
                let overdue: Vec<_> = here.filter(|key| self.is_overdue(*key)).collect();
                self.listed.extend(overdue);
            }
            Feedback::Up => assert!(contact == Contact::Reached && errand != Errand::Overdue),
            Feedback::None => {}
        }
    }

    fn flush(&mut self, what: usize) {
        self.told_time();
        let now = self.now();
        let message = what as u64;
        let names = ["", "s1+tag@example.net", "s2@example.net"];
        let key = destination(what % DESTINATIONS);
        let (flush, is_meant): (Flush<'_>, Box<dyn Fn(u64, u32) -> bool>) = match what % 4 {
            0 => (Flush::All, Box::new(|_, _| true)),
            1 => (Flush::Destination(&key), Box::new(|m, n| route(m, n) == what % DESTINATIONS)),
            2 => (Flush::Sender(names[what % 3]), Box::new(|m, _| sender(m) == what % 3)),
            _ => (Flush::Recipients(QueueId(message), &[0, 2, 4]), Box::new(|m, n| m == message && n % 2 == 0)),
        };
        let mut count = 0;
        for ((message, number), state) in &mut self.entries {
            if let State::Waiting(due) = state
                && is_meant(*message, *number)
            {
                *due = now.0.min(*due);
                count += 1;
            }
        }
        assert_eq!(self.schedule.flush(flush, now), count);
    }

    /// Each entry is in exactly one place, and it is the one the model says.
    fn check(&mut self) {
        // Any call with the time; of an entry that nobody knows.
        assert!(!self.schedule.set_state(QueueId(u64::MAX), 0, QueueState::Held, self.now()));
        self.told_time();
        let mut counts = Counts::default();
        let summary = self.summary();
        for ((message, number), state) in &self.entries {
            let down = summary[&route(*message, *number)].down_until.map_or(0, |until| until.0);
            let (count, expected) = match *state {
                State::Waiting(due) => (&mut counts.waiting, EntryState::Waiting(UnixMillis(due.max(down)))),
                State::Held => (&mut counts.held, EntryState::Held),
                State::InFlight { .. } => (&mut counts.in_flight, EntryState::InFlight),
            };
            *count += 1;
            assert_eq!(self.schedule.state(QueueId(*message), *number), Some(expected), "{message} {number}");
            assert_eq!(
                self.schedule.destination(QueueId(*message), *number),
                Some(&destination(route(*message, *number)))
            );
        }
        assert_eq!(self.schedule.counts(), counts);
        let sums = summary.values().fold(Counts::default(), |sum, each| Counts {
            waiting: sum.waiting + each.waiting,
            held: sum.held + each.held,
            in_flight: sum.in_flight + each.in_flight,
        });
        assert_eq!(sums, counts);
        for (number, each) in &summary {
            let couriers = self.places(|courier| courier.destination == *number).len();
            assert_eq!(each.couriers as usize, couriers);
            assert_eq!(each.ages.iter().sum::<u32>(), each.waiting + each.held + each.in_flight);
        }
        assert_eq!(self.schedule.couriers() as usize, self.couriers.len());
    }

    /// Everything comes to an end: what is in the queue is served within as many jobs as there are entries.
    fn drain(&mut self) {
        for place in 0..1_000 {
            self.report_any(place, Contact::Reached, [Fate::Settled; RECIPIENTS_MAX]);
            self.run(Step::Release { pick: place });
        }
        assert!(self.couriers.is_empty() && self.overdue.is_empty());
        let keys: Vec<_> = self.entries.keys().copied().collect();
        for (message, number) in keys {
            let now = self.now();
            self.schedule.set_state(QueueId(message), number, QueueState::Waiting(now), now);
            self.entries.insert((message, number), State::Waiting(now.0));
        }
        self.flush(0);
        let most = self.entries.len();
        let mut jobs = 0;
        while !self.entries.is_empty() {
            match self.next() {
                Some(job) => {
                    jobs += 1;
                    let number = self.check_job(&job);
                    self.report(job, Contact::Reached, [Fate::Settled; RECIPIENTS_MAX]);
                    self.schedule.release(&destination(number), self.now());
                }
                None => self.now = self.schedule.wake_at().expect("something waits").0.max(self.now + 1),
            }
        }
        assert!(jobs <= most);
        self.now += 10_000_000;
        assert_eq!(self.schedule.next(self.now()), None);
        assert_eq!(self.schedule.overdue(self.now()), None);
        assert_eq!((self.schedule.wake_at(), self.schedule.counts()), (None, Counts::default()));
        assert!(self.schedule.summary(self.now()).is_empty(), "nothing is remembered of idle destinations");
    }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn the_schedule_is_a_list(steps in prop::collection::vec(step(), 1..160)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
        world.drain();
    }
}
