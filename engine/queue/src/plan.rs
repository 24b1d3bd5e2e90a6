//! When a recipient that could not be delivered is tried again, when its sender is told, and when we give up.
//!
//! A pure function of the message's age, as in Postfix: whatever the age is, as long again is waited, between two bounds.
//! So the age doubles from try to try until the longest wait is reached. No count of tries is needed, a restart changes
//! nothing, and a row of the store holds all there is to know.

use mail::QueueId;
use mail::queue::UnixMillis;
use std::time::Duration;

/// The shortest wait that is ever planned: no setting makes the queue spin.
pub const RETRY_FLOOR: Duration = Duration::from_secs(1);

/// A wait is shortened by less than its eighth part, by the queue id, so that messages deferred together spread out.
const SPREAD_SHARE: u64 = 8;

/// How long and how often delivery is tried (R211; RFC 5321 §4.5.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPlan {
    /// The shortest wait between two tries; by default 300 s. RFC 5321 §4.5.4.1 (not) has at least 30 minutes in general:
    /// hosts that defer strangers are content sooner, and the age that doubles soon comes to that.
    pub first_retry: Duration,
    /// The longest wait between two tries. By default 4,000 s.
    pub longest_retry: Duration,
    /// Age at which a message that still cannot be delivered bounces. By default 5 days; zero means one try.
    pub life: Duration,
    /// The same for messages with the null reverse-path. By default 5 days.
    pub bounce_life: Duration,
    /// Age at which the sender is told that the message is late; never without it, the default.
    pub delay_notice: Option<Duration>,
}

impl Default for RetryPlan {
    fn default() -> RetryPlan {
        RetryPlan {
            first_retry: Duration::from_secs(300),
            longest_retry: Duration::from_secs(4_000),
            life: Duration::from_secs(5 * 24 * 3_600),
            bounce_life: Duration::from_secs(5 * 24 * 3_600),
            delay_notice: None,
        }
    }
}

/// What is known of a message when one of its recipients was deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub id: QueueId,
    /// When it was accepted.
    pub arrived: UnixMillis,
    /// Whether its reverse-path is null.
    pub is_bounce: bool,
}

/// What follows a deferral.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another try, then.
    RetryAt(UnixMillis),
    /// No further try: the recipient bounces.
    GiveUp,
}

impl RetryPlan {
    /// What follows when a recipient was deferred `now`.
    ///
    /// The last try comes when life ends, or up to `first_retry` later; where the destination is known to be down, with
    /// the next look for it, up to `longest_retry` later. A message from the future (the clock was set back) counts as
    /// new.
    pub fn next(&self, message: Standing, now: UnixMillis) -> Next {
        let age = age(message.arrived, now);
        let life = self.life_of(message.is_bounce);
        if age >= life {
            return Next::GiveUp;
        }
        let first = self.shortest();
        let longest = self.longest_retry.max(first);
        let wait = spread(age.max(first).min(longest), message.id).max(first);
        let until_end = (life - age).max(first);
        Next::RetryAt(after(now, wait.min(until_end)))
    }

    /// Whether the sender is to be told now that a message is late. Nobody is told of a late bounce:
    /// RFC 5321 §6.1 forbids reports to the null reverse-path.
    pub fn delay_due(&self, message: Standing, is_reported: bool, now: UnixMillis) -> bool {
        !is_reported
            && !message.is_bounce
            && self.delay_notice.is_some_and(|notice| age(message.arrived, now) >= notice)
    }

    /// How long a message lives.
    pub fn life_of(&self, is_bounce: bool) -> Duration {
        if is_bounce { self.bounce_life } else { self.life }
    }

    /// The first retry, but never below [`RETRY_FLOOR`].
    pub fn shortest(&self) -> Duration {
        self.first_retry.max(RETRY_FLOOR)
    }

    /// How long a destination stays untried after it failed, given how long it did the last time.
    pub(crate) fn down_for(&self, last: Option<Duration>) -> Duration {
        let first = self.shortest();
        last.map_or(first, |last| last.saturating_mul(2)).clamp(first, self.longest_retry.max(first))
    }
}

/// An instant and what is waited from there, in whole milliseconds.
pub(crate) fn after(now: UnixMillis, wait: Duration) -> UnixMillis {
    UnixMillis(now.0.saturating_add(millis(wait)))
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn age(arrived: UnixMillis, now: UnixMillis) -> Duration {
    Duration::from_millis(now.0.saturating_sub(arrived.0))
}

/// The same message always gets the same share, so that its recipients stay together.
fn spread(wait: Duration, id: QueueId) -> Duration {
    let share = mixed(id.0) >> 48;
    let most = millis(wait) / SPREAD_SHARE;
    let cut = u64::try_from((u128::from(most) * u128::from(share)) >> 16).unwrap_or(0);
    wait.saturating_sub(Duration::from_millis(cut))
}

/// The finaliser of SplitMix64: neighbouring numbers come out far apart.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000_000;
    const DAY: u64 = 86_400_000;

    fn message(id: u64) -> Standing {
        Standing { id: QueueId(id), arrived: UnixMillis(START), is_bounce: false }
    }

    /// Ages in seconds of all tries, the first at once, each of them deferred at once.
    fn tries(plan: &RetryPlan, message: Standing) -> Vec<u64> {
        let mut now = message.arrived;
        let mut ages = vec![0];
        while let Next::RetryAt(then) = plan.next(message, now) {
            assert!(then > now, "the plan must move on");
            now = then;
            ages.push((now.0 - message.arrived.0) / 1_000);
        }
        ages
    }

    #[test]
    fn r211_five_days_of_tries() {
        let plan = RetryPlan::default();
        for id in 0..200 {
            let ages = tries(&plan, message(id));
            assert_eq!(ages[..2], [0, 300], "the first retry comes after five minutes");
            for (place, pair) in ages.windows(2).enumerate().take(ages.len() - 2) {
                let whole = pair[0].clamp(300, 4_000);
                let wait = pair[1] - pair[0];
                assert!(wait <= whole + 1 && wait >= 300, "try {place}: {wait} s after {} s", pair[0]);
                assert!(wait + 1 >= whole - whole / 8, "try {place}: {wait} s after {} s", pair[0]);
            }
            let last = ages[ages.len() - 1];
            assert!(last - ages[ages.len() - 2] >= 300, "the last wait is no shorter than the first");
            assert!((432_000..=432_300).contains(&last), "the last try and the bounce are at five days, not {last} s");
            assert!((113..=130).contains(&ages.len()), "{} tries", ages.len());
        }
    }

    #[test]
    fn r211_without_spread_the_age_doubles() {
        let id = (0..).find(|id| mixed(*id) >> 48 == 0).expect("one of 65,536 numbers");
        let ages = tries(&RetryPlan::default(), message(id));
        assert_eq!(ages[..9], [0, 300, 600, 1_200, 2_400, 4_800, 8_800, 12_800, 16_800].map(|age: u64| age), "{id}");
    }

    #[test]
    fn messages_deferred_together_spread_out() {
        let plan = RetryPlan::default();
        let now = UnixMillis(START + DAY);
        let mut times: Vec<u64> = (0..1_000)
            .map(|id| match plan.next(message(id), now) {
                Next::RetryAt(then) => then.0 - now.0,
                Next::GiveUp => unreachable!("one day old"),
            })
            .collect();
        times.sort_unstable();
        assert!(times[0] >= 3_500_000 && times[999] <= 4_000_000);
        assert!(times.windows(101).all(|some| some[100] - some[0] > 20_000), "a tenth of them within 20 s");
    }

    #[test]
    fn life_of_zero_is_one_try() {
        let plan = RetryPlan { life: Duration::ZERO, ..RetryPlan::default() };
        assert_eq!(plan.next(message(1), UnixMillis(START)), Next::GiveUp);
        let bounce = Standing { is_bounce: true, ..message(1) };
        assert_eq!(plan.next(bounce, UnixMillis(START)), Next::RetryAt(UnixMillis(START + 300_000)));
    }

    #[test]
    fn a_clock_set_back_makes_a_message_new() {
        let plan = RetryPlan { delay_notice: Some(Duration::from_secs(3_600)), ..RetryPlan::default() };
        let now = UnixMillis(START - 30 * DAY);
        assert_eq!(plan.next(message(1), now), Next::RetryAt(UnixMillis(now.0 + 300_000)));
        assert!(!plan.delay_due(message(1), false, now));
    }

    #[test]
    fn senseless_settings_neither_spin_nor_panic() {
        let none = Duration::ZERO;
        let plan = RetryPlan { first_retry: none, longest_retry: none, ..RetryPlan::default() };
        assert_eq!(plan.next(message(1), UnixMillis(START)), Next::RetryAt(UnixMillis(START + 1_000)));
        let plan = RetryPlan { first_retry: Duration::MAX, life: Duration::MAX, ..RetryPlan::default() };
        assert_eq!(plan.next(message(1), UnixMillis(u64::MAX)), Next::RetryAt(UnixMillis(u64::MAX)));
        assert_eq!(plan.down_for(Some(Duration::MAX)), Duration::MAX);
    }

    #[test]
    fn a_delay_is_told_once_and_never_of_bounces() {
        let plan = RetryPlan { delay_notice: Some(Duration::from_secs(4 * 3_600)), ..RetryPlan::default() };
        let late = UnixMillis(START + 4 * 3_600_000);
        assert!(plan.delay_due(message(1), false, late));
        assert!(!plan.delay_due(message(1), true, late));
        assert!(!plan.delay_due(message(1), false, UnixMillis(late.0 - 1)));
        assert!(!plan.delay_due(Standing { is_bounce: true, ..message(1) }, false, late));
        assert!(!RetryPlan::default().delay_due(message(1), false, late), "off by default");
    }

    #[test]
    fn a_destination_rests_longer_each_time() {
        let plan = RetryPlan::default();
        let mut rest = None;
        let rests: Vec<u64> = std::iter::repeat_with(|| {
            rest = Some(plan.down_for(rest));
            rest.map_or(0, |rest| rest.as_secs())
        })
        .take(6)
        .collect();
        assert_eq!(rests, [300, 600, 1_200, 2_400, 4_000, 4_000]);
    }
}
