//! A destination: its limits, and what its couriers have lately found out about it.

use crate::plan::{RetryPlan, after};
use mail::queue::UnixMillis;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Next hop plus transport, as one text of the caller's making: the unit of outbound concurrency. Compared octet by octet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationKey(Arc<str>);

impl DestinationKey {
    /// A destination by its name, such as `smtp:example.org`.
    pub fn new(name: &str) -> DestinationKey {
        DestinationKey(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DestinationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a destination is to be spared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationLimits {
    /// Most couriers at once (R216). By default 20; zero counts as one.
    pub couriers_max: u16,
    /// Most recipients of one job. By default 50; zero counts as one.
    pub recipients_per_job_max: u32,
    /// Most jobs over time; unlimited by default.
    pub rate: Option<RateLimit>,
}

impl Default for DestinationLimits {
    fn default() -> DestinationLimits {
        DestinationLimits { couriers_max: 20, recipients_per_job_max: 50, rate: None }
    }
}

/// A token bucket: so many jobs a minute in the long run, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Jobs per minute; a job is one message to up to `recipients_per_job_max` recipients.
    pub per_minute: NonZeroU32,
    /// Size of the bucket. One means evenly spaced.
    pub burst: NonZeroU32,
}

/// What a job taught about its destination as a whole, apart from the replies to its recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// The peer was there and went through the dialogue, whatever it said of message and recipients.
    Reached,
    /// Nobody could be reached, or the connection did not bear a dialogue: refused, timed out, lost, no greeting, no
    /// acceptable TLS, 421.
    Failed,
    /// Nothing was learnt: shutdown, a local fault, an error in this message's own data.
    Unknown,
}

/// What a report changed for its destination, for log and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feedback {
    /// Nothing worth telling.
    None,
    /// It is down: nothing is tried before then, and then one job.
    Down(UnixMillis),
    /// It was down and was reached.
    Up,
}

/// One bad connection alone never takes a destination down.
const FAILURES_MIN: u16 = 2;

/// How many couriers a destination bears, learnt from their fate.
#[derive(Debug)]
pub(crate) struct Health {
    /// Couriers it is trusted with while it is up.
    window: u16,
    /// Connections that failed since the last one that did not.
    failures: u16,
    down: Option<Down>,
}

#[derive(Debug, Clone, Copy)]
struct Down {
    until: UnixMillis,
    rest: Duration,
}

impl Health {
    pub(crate) fn new(initial: u16) -> Health {
        Health { window: initial.max(1), failures: 0, down: None }
    }

    /// Couriers it may have at once. While it is down that is the one that probes.
    pub(crate) fn couriers(&self, limits: &DestinationLimits) -> u16 {
        if self.down.is_some() { 1 } else { self.window.min(limits.couriers_max).max(1) }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    pub(crate) fn down_until(&self) -> Option<UnixMillis> {
        self.down.map(|down| down.until)
    }

    /// A courier reached the peer. Each one widens the window by one, but only a window that is used grows: by no more
    /// than `initial` beyond the couriers there are.
    pub(crate) fn reached(&mut self, limits: &DestinationLimits, initial: u16, couriers: u32) -> Feedback {
        self.failures = 0;
        if self.down.is_some() {
            self.lift(initial);
            return Feedback::Up;
        }
        if u32::from(self.window) < couriers + u32::from(initial) {
            self.window = self.window.saturating_add(1).min(limits.couriers_max.max(1));
        }
        Feedback::None
    }

    /// A courier failed to reach the peer. Each one halves the window. As many in a row as the window is wide after that,
    /// but at least [`FAILURES_MIN`], mean that the destination is down. Couriers that still fail while it rests say
    /// nothing new.
    pub(crate) fn failed(&mut self, plan: &RetryPlan, now: UnixMillis) -> Feedback {
        if self.down.is_some_and(|down| now < down.until) {
            return Feedback::None;
        }
        self.failures = self.failures.saturating_add(1);
        self.window = (self.window / 2).max(1);
        if self.down.is_none() && self.failures < self.window.max(FAILURES_MIN) {
            return Feedback::None;
        }
        let rest = plan.down_for(self.down.map(|down| down.rest));
        let until = after(now, rest);
        self.down = Some(Down { until, rest });
        Feedback::Down(until)
    }

    /// Forgets all bad experience.
    pub(crate) fn lift(&mut self, initial: u16) {
        *self = Health::new(initial);
    }

    /// The clock was set back.
    pub(crate) fn clock_set_back(&mut self, now: UnixMillis) {
        if let Some(down) = &mut self.down {
            down.until = down.until.min(after(now, down.rest));
        }
    }
}

/// The token bucket of a destination, kept as the time when it will be full again, in microseconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    full_at: u64,
}

impl Pace {
    /// When the next job may start; any time that is past if it may now.
    pub(crate) fn ready_at(&self, limit: Option<RateLimit>) -> UnixMillis {
        let Some(limit) = limit else { return UnixMillis(0) };
        let at = self.full_at.saturating_sub(step(limit) * u64::from(limit.burst.get() - 1));
        UnixMillis(at.div_ceil(1_000))
    }

    /// When nothing needs to be remembered any more.
    pub(crate) fn forget_at(&self) -> UnixMillis {
        UnixMillis(self.full_at.div_ceil(1_000))
    }

    /// A job starts.
    pub(crate) fn take(&mut self, limit: Option<RateLimit>, now: UnixMillis) {
        if let Some(limit) = limit {
            self.full_at = self.full_at.max(now.0.saturating_mul(1_000)).saturating_add(step(limit));
        }
    }

    /// The clock was set back, or the limit is another one.
    pub(crate) fn renew(&mut self, limit: Option<RateLimit>, now: UnixMillis) {
        let most = limit.map_or(0, |limit| step(limit) * u64::from(limit.burst.get()));
        self.full_at = self.full_at.min(now.0.saturating_mul(1_000).saturating_add(most));
    }
}

/// Microseconds per job.
fn step(limit: RateLimit) -> u64 {
    (60_000_000 / u64::from(limit.per_minute.get())).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn later(seconds: u64) -> UnixMillis {
        UnixMillis(NOW.0 + seconds * 1_000)
    }

    #[test]
    fn r216_the_window_opens_to_twenty() {
        let limits = DestinationLimits::default();
        let mut health = Health::new(5);
        let mut widths = Vec::new();
        for _ in 0..30 {
            widths.push(health.couriers(&limits));
            assert_eq!(health.reached(&limits, 5, u32::from(health.couriers(&limits))), Feedback::None);
        }
        assert_eq!(widths[..17], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 20]);
        assert_eq!(widths[29], 20);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let limits = DestinationLimits::default();
        let mut health = Health::new(5);
        (0..30).for_each(|_| assert_eq!(health.reached(&limits, 5, 1), Feedback::None));
        assert_eq!(health.couriers(&limits), 6);
    }

    #[test]
    fn one_failure_narrows_and_a_row_of_them_means_down() {
        let limits = DestinationLimits::default();
        let plan = RetryPlan::default();
        let mut health = Health::new(5);
        assert_eq!(health.failed(&plan, NOW), Feedback::None);
        assert_eq!(health.couriers(&limits), 2);
        assert_eq!(health.reached(&limits, 5, 2), Feedback::None);
        assert_eq!(health.failed(&plan, NOW), Feedback::None);
        assert_eq!(health.couriers(&limits), 1);
        assert_eq!(health.failed(&plan, NOW), Feedback::Down(later(300)));
        let mut health = Health::new(20);
        assert_eq!(
            [(); 3].map(|()| health.failed(&plan, NOW)),
            [Feedback::None, Feedback::None, Feedback::Down(later(300))]
        );
    }

    #[test]
    fn a_destination_that_is_down_rests_and_is_probed() {
        let limits = DestinationLimits::default();
        let plan = RetryPlan::default();
        let mut health = Health::new(1);
        assert_eq!(health.failed(&plan, NOW), Feedback::None);
        assert_eq!(health.failed(&plan, NOW), Feedback::Down(later(300)));
        assert_eq!(health.failed(&plan, later(299)), Feedback::None, "a straggler");
        assert_eq!(health.failed(&plan, later(300)), Feedback::Down(later(900)), "the probe");
        assert_eq!(health.couriers(&limits), 1);
        assert_eq!(health.failed(&plan, later(900)), Feedback::Down(later(2_100)));
        assert_eq!(health.reached(&limits, 5, 1), Feedback::Up);
        assert_eq!((health.couriers(&limits), health.down_until()), (5, None));
    }

    #[test]
    fn a_clock_set_back_does_not_prolong_a_rest() {
        let plan = RetryPlan::default();
        let mut health = Health::new(1);
        health.failed(&plan, later(1_000_000));
        health.failed(&plan, later(1_000_000));
        health.clock_set_back(NOW);
        assert_eq!(health.down_until(), Some(later(300)));
    }

    fn rate(per_minute: u32, burst: u32) -> Option<RateLimit> {
        let number = |number| NonZeroU32::new(number).expect("not zero");
        Some(RateLimit { per_minute: number(per_minute), burst: number(burst) })
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let limit = rate(60, 3);
        let mut pace = Pace::default();
        let mut now = NOW;
        let mut starts = Vec::new();
        for _ in 0..6 {
            now = now.max(pace.ready_at(limit));
            pace.take(limit, now);
            starts.push((now.0 - NOW.0) / 1_000);
        }
        assert_eq!(starts, [0, 0, 0, 1, 2, 3]);
        assert_eq!(pace.forget_at(), later(6), "as many steps as jobs");
    }

    #[test]
    fn a_bucket_keeps_no_debt_of_another_time() {
        let mut pace = Pace::default();
        pace.take(rate(1, 1), later(1_000_000));
        pace.renew(rate(60, 2), NOW);
        assert_eq!(pace.ready_at(rate(60, 2)), later(1));
        pace.renew(None, NOW);
        assert_eq!(pace.ready_at(rate(60, 1)), NOW);
    }

    #[test]
    fn extreme_rates_neither_panic_nor_stop() {
        let fastest = rate(u32::MAX, u32::MAX);
        let mut pace = Pace::default();
        pace.take(fastest, UnixMillis(u64::MAX));
        pace.renew(fastest, NOW);
        assert!(pace.ready_at(fastest) <= UnixMillis(NOW.0 + 1));
        let slowest = rate(1, u32::MAX);
        pace.renew(slowest, UnixMillis(u64::MAX));
        assert!(pace.ready_at(slowest) <= NOW);
    }
}
