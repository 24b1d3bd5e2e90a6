//! How much an account may submit: messages and recipients, per hour and per day.
//!
//! Windows slide: an hour is counted in twelfths and a day in hours, and a part counts until it lies wholly outside. So no
//! sixty minutes ever see more than the limit, and what was used comes back part by part. Counts live in memory: a restart
//! forgets them, and so does pressure on the number of accounts, which ends idle ones first.

use mail::AccountName;
use mail::queue::UnixMillis;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// Accounts that are counted at once, unless told otherwise. Each takes some 350 octets.
pub const ACCOUNTS_MAX: usize = 10_000;

/// When there is no room for another account, this share of them goes at once, so that the search pays.
const EVICTED_SHARE: usize = 8;

/// Parts of a window: an hour has twelve of five minutes, a day 24 of an hour, and one is under way.
const HOUR_PARTS: usize = 13;
const DAY_PARTS: usize = 25;
const HOUR_PART_MILLIS: u64 = 5 * 60_000;
const DAY_PART_MILLIS: u64 = 60 * 60_000;

/// What an account may submit; unlimited where there is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimits {
    /// Messages in any 60 minutes.
    pub messages_per_hour: Option<u32>,
    /// Messages in any 24 hours.
    pub messages_per_day: Option<u32>,
    /// Recipients in any 60 minutes.
    pub recipients_per_hour: Option<u32>,
    /// Recipients in any 24 hours.
    pub recipients_per_day: Option<u32>,
}

/// Which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitName {
    /// [`RateLimits::messages_per_hour`]
    MessagesPerHour,
    /// [`RateLimits::messages_per_day`]
    MessagesPerDay,
    /// [`RateLimits::recipients_per_hour`]
    RecipientsPerHour,
    /// [`RateLimits::recipients_per_day`]
    RecipientsPerDay,
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LimitName::MessagesPerHour => "messages an hour",
            LimitName::MessagesPerDay => "messages a day",
            LimitName::RecipientsPerHour => "recipients an hour",
            LimitName::RecipientsPerDay => "recipients a day",
        })
    }
}

/// A message that would go beyond a limit. It was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// The limit that lets it pass last.
    pub name: LimitName,
    /// Its number.
    pub limit: u32,
    /// After what time it would pass, if nothing else is submitted; `None` if it is beyond the limit alone.
    pub retry_after: Option<Duration>,
}

/// What an account has submitted lately, as it counts against the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateUsage {
    /// Messages of the last hour.
    pub messages_per_hour: u32,
    /// Messages of the last day.
    pub messages_per_day: u32,
    /// Recipients of the last hour.
    pub recipients_per_hour: u32,
    /// Recipients of the last day.
    pub recipients_per_day: u32,
}

/// Counts of many accounts.
#[derive(Debug)]
pub struct Rates {
    accounts: HashMap<AccountName, Box<Submitted>>,
    accounts_max: usize,
}

#[derive(Debug)]
struct Submitted {
    hour: Window<HOUR_PARTS, HOUR_PART_MILLIS>,
    day: Window<DAY_PARTS, DAY_PART_MILLIS>,
    last: UnixMillis,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates::new(ACCOUNTS_MAX)
    }
}

impl Rates {
    /// Counts at most so many accounts at once, at least one.
    pub fn new(accounts_max: usize) -> Rates {
        Rates { accounts: HashMap::new(), accounts_max: accounts_max.max(1) }
    }

    /// Counts a message with so many recipients, unless it goes beyond a limit. Limits are those of the moment.
    pub fn check_and_count(
        &mut self,
        account: &AccountName,
        recipients: u32,
        limits: &RateLimits,
        now: UnixMillis,
    ) -> Result<(), Exceeded> {
        if *limits == RateLimits::default() {
            return Ok(());
        }
        if !self.accounts.contains_key(account) {
            self.make_room(now);
        }
        let submitted = self.accounts.entry(account.clone()).or_insert_with(|| Box::new(Submitted::new(now)));
        submitted.check(recipients, limits, now)?;
        submitted.hour.add(recipients);
        submitted.day.add(recipients);
        submitted.last = now;
        Ok(())
    }

    /// What an account has used.
    pub fn usage(&mut self, account: &AccountName, now: UnixMillis) -> RateUsage {
        let Some(submitted) = self.accounts.get_mut(account) else { return RateUsage::default() };
        submitted.hour.move_to(now);
        submitted.day.move_to(now);
        let (hour, day) = (submitted.hour.sum(), submitted.day.sum());
        RateUsage {
            messages_per_hour: hour.messages,
            messages_per_day: day.messages,
            recipients_per_hour: hour.recipients,
            recipients_per_day: day.recipients,
        }
    }

    /// Forgets what an account has used.
    pub fn reset(&mut self, account: &AccountName) {
        self.accounts.remove(account);
    }

    /// How many accounts are counted.
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// Idle accounts go first; if they are few, those go that submitted nothing for longest.
    fn make_room(&mut self, now: UnixMillis) {
        if self.accounts.len() < self.accounts_max {
            return;
        }
        self.accounts.retain(|_, submitted| {
            submitted.day.move_to(now);
            submitted.day.sum().messages > 0
        });
        let keep = self.accounts_max - (self.accounts_max / EVICTED_SHARE).max(1);
        let surplus = self.accounts.len().saturating_sub(keep);
        if surplus == 0 {
            return;
        }
        let mut ages: Vec<(UnixMillis, AccountName)> =
            self.accounts.iter().map(|(account, submitted)| (submitted.last, account.clone())).collect();
        ages.select_nth_unstable(surplus - 1);
        for (_, account) in ages.iter().take(surplus) {
            self.accounts.remove(account);
        }
    }
}

impl Submitted {
    fn new(now: UnixMillis) -> Submitted {
        Submitted { hour: Window::new(now), day: Window::new(now), last: now }
    }

    /// Of several limits that are exceeded the one is named that lets the message pass last.
    fn check(&mut self, recipients: u32, limits: &RateLimits, now: UnixMillis) -> Result<(), Exceeded> {
        self.hour.move_to(now);
        self.day.move_to(now);
        let hour = |what: Of, more, limit| self.hour.wait(what, more, limit, now);
        let day = |what: Of, more, limit| self.day.wait(what, more, limit, now);
        let (messages, all): (Of, Of) = (|part| part.messages, |part| part.recipients);
        let waits = [
            (LimitName::MessagesPerHour, limits.messages_per_hour, hour(messages, 1, limits.messages_per_hour)),
            (LimitName::MessagesPerDay, limits.messages_per_day, day(messages, 1, limits.messages_per_day)),
            (
                LimitName::RecipientsPerHour,
                limits.recipients_per_hour,
                hour(all, recipients, limits.recipients_per_hour),
            ),
            (LimitName::RecipientsPerDay, limits.recipients_per_day, day(all, recipients, limits.recipients_per_day)),
        ];
        let worst = waits.into_iter().max_by_key(|(_, _, wait)| *wait);
        match worst {
            Some((name, Some(limit), wait)) if wait > Wait::None => {
                let retry_after = if let Wait::For(time) = wait { Some(time) } else { None };
                Err(Exceeded { name, limit, retry_after })
            }
            _ => Ok(()),
        }
    }
}

/// Which number of a part is meant.
type Of = fn(&Count) -> u32;

/// How long a limit holds a message back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    None,
    For(Duration),
    Forever,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    messages: u32,
    recipients: u32,
}

/// Counts of the last `PARTS` parts of `MILLIS` each, in a ring.
#[derive(Debug)]
struct Window<const PARTS: usize, const MILLIS: u64> {
    parts: [Count; PARTS],
    /// Number of the part under way, counted from 1970.
    newest: u64,
}

impl<const PARTS: usize, const MILLIS: u64> Window<PARTS, MILLIS> {
    fn new(now: UnixMillis) -> Self {
        Window { parts: [Count::default(); PARTS], newest: now.0 / MILLIS }
    }

    /// Drops what lies outside now. If the clock was set back, what was counted counts as of now: it is neither forgotten
    /// nor kept until the clock is back where it was.
    fn move_to(&mut self, now: UnixMillis) {
        let part = now.0 / MILLIS;
        let passed = part.saturating_sub(self.newest);
        let stays = PARTS.saturating_sub(usize::try_from(passed).unwrap_or(PARTS));
        // The newest part stands first.
        self.parts.copy_within(..stays, PARTS - stays);
        self.parts[..PARTS - stays].fill(Count::default());
        self.newest = part;
    }

    fn add(&mut self, recipients: u32) {
        let [newest, ..] = self.parts.as_mut_slice() else { return };
        newest.messages = newest.messages.saturating_add(1);
        newest.recipients = newest.recipients.saturating_add(recipients);
    }

    fn sum(&self) -> Count {
        self.parts.iter().fold(Count::default(), |sum, part| Count {
            messages: sum.messages.saturating_add(part.messages),
            recipients: sum.recipients.saturating_add(part.recipients),
        })
    }

    /// How long until `more` fits: until enough of the oldest parts lie outside.
    fn wait(&self, what: Of, more: u32, limit: Option<u32>, now: UnixMillis) -> Wait {
        let Some(limit) = limit else { return Wait::None };
        let Some(room) = limit.checked_sub(more) else { return Wait::Forever };
        let mut used = 0u32;
        // From the newest back: the first part that does not fit, and all older ones, have to go.
        for (age, part) in self.parts.iter().enumerate() {
            used = used.saturating_add(what(part));
            if used > room {
                let leaves_in = (PARTS - age) as u64;
                let at = (self.newest.saturating_add(leaves_in)).saturating_mul(MILLIS);
                return Wait::For(Duration::from_millis(at.saturating_sub(now.0)));
            }
        }
        Wait::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const START: u64 = 1_800_000_000_000;

    fn name(number: usize) -> AccountName {
        AccountName::parse(&format!("a{number}@example.net")).expect("a name")
    }

    fn at(millis: u64) -> UnixMillis {
        UnixMillis(START + millis)
    }

    fn messages(per_hour: u32) -> RateLimits {
        RateLimits { messages_per_hour: Some(per_hour), ..RateLimits::default() }
    }

    #[test]
    fn the_limit_holds_in_any_hour_and_the_wait_is_true() {
        let mut rates = Rates::default();
        let limits = messages(10);
        let mut accepted: Vec<u64> = Vec::new();
        let mut now = 0;
        while now < 12 * HOUR {
            match rates.check_and_count(&name(1), 1, &limits, at(now)) {
                Ok(()) => {
                    accepted.push(now);
                    now += 97_003;
                }
                Err(exceeded) => {
                    assert_eq!((exceeded.name, exceeded.limit), (LimitName::MessagesPerHour, 10));
                    let wait = exceeded.retry_after.expect("one message fits").as_millis() as u64;
                    assert!((1..=HOUR + 300_000).contains(&wait), "{wait}");
                    let early = rates.check_and_count(&name(1), 1, &limits, at(now + wait - 1));
                    assert_eq!(early.map_err(|exceeded| exceeded.retry_after), Err(Some(Duration::from_millis(1))));
                    now += wait;
                }
            }
        }
        for window in accepted.windows(11) {
            assert!(window[10] - window[0] > HOUR, "eleven messages from {} to {}", window[0], window[10]);
        }
        assert!(accepted.len() >= 100, "{} of 120 were let pass", accepted.len());
    }

    #[test]
    fn the_limit_that_holds_longest_is_named() {
        let mut rates = Rates::default();
        let limits = RateLimits { recipients_per_day: Some(100), recipients_per_hour: Some(60), ..messages(3) };
        let mut send = |recipients, now| rates.check_and_count(&name(1), recipients, &limits, at(now));
        assert_eq!(send(61, 0).map_err(|e| (e.name, e.retry_after)), Err((LimitName::RecipientsPerHour, None)));
        assert_eq!(send(50, 0), Ok(()));
        assert_eq!(send(20, 0).map_err(|e| e.name), Err(LimitName::RecipientsPerHour));
        assert_eq!(send(50, 2 * HOUR), Ok(()));
        assert_eq!(send(1, 4 * HOUR).map_err(|e| e.name), Err(LimitName::RecipientsPerDay));
        assert_eq!(send(50, 25 * HOUR), Ok(()), "the first fifty are a day old");
        let usage = rates.usage(&name(1), at(25 * HOUR));
        assert_eq!((usage.messages_per_day, usage.recipients_per_day), (2, 100));
        assert_eq!((usage.messages_per_hour, usage.recipients_per_hour), (1, 50));
    }

    #[test]
    fn accounts_do_not_share_and_refusals_do_not_count() {
        let mut rates = Rates::default();
        assert!(rates.check_and_count(&name(1), 1, &messages(1), at(0)).is_ok());
        (0..5).for_each(|_| assert!(rates.check_and_count(&name(1), 1, &messages(1), at(0)).is_err()));
        assert!(rates.check_and_count(&name(2), 1, &messages(1), at(0)).is_ok());
        assert_eq!(rates.usage(&name(1), at(0)).messages_per_hour, 1);
        assert!(rates.check_and_count(&name(1), 1, &messages(2), at(0)).is_ok(), "a limit that was raised");
        assert!(rates.check_and_count(&name(1), 1, &messages(0), at(0)).is_err_and(|e| e.retry_after.is_none()));
        rates.reset(&name(1));
        assert_eq!(rates.usage(&name(1), at(0)), RateUsage::default());
    }

    #[test]
    fn unlimited_accounts_take_no_memory() {
        let mut rates = Rates::default();
        assert!(rates.check_and_count(&name(1), u32::MAX, &RateLimits::default(), at(0)).is_ok());
        assert_eq!(rates.accounts(), 0);
        assert!(size_of::<Submitted>() <= 336, "{}", size_of::<Submitted>());
    }

    #[test]
    fn idle_accounts_make_room_then_the_longest_unused() {
        let mut rates = Rates::new(100);
        (0..50).for_each(|n| assert!(rates.check_and_count(&name(n), 1, &messages(9), at(0)).is_ok()));
        (50..100)
            .for_each(|n| assert!(rates.check_and_count(&name(n), 1, &messages(9), at(20 * HOUR + n as u64)).is_ok()));
        assert!(rates.check_and_count(&name(100), 1, &messages(9), at(26 * HOUR)).is_ok());
        assert_eq!(rates.accounts(), 51, "fifty were idle for a day");
        (101..1_000).for_each(|n| {
            assert!(rates.check_and_count(&name(n), 1, &messages(9), at(26 * HOUR + n as u64)).is_ok());
            assert!(rates.accounts() <= 100);
        });
        assert_eq!(rates.usage(&name(50), at(27 * HOUR)), RateUsage::default());
        assert_eq!(rates.usage(&name(999), at(27 * HOUR)).messages_per_day, 1);
        let mut one = Rates::new(0);
        (0..3).for_each(|n| assert!(one.check_and_count(&name(n), 1, &messages(9), at(0)).is_ok()));
        assert_eq!(one.accounts(), 1);
    }

    #[test]
    fn a_clock_set_back_neither_forgets_nor_locks_out() {
        let mut rates = Rates::default();
        assert!(rates.check_and_count(&name(1), 1, &messages(1), at(1_000 * HOUR)).is_ok());
        let exceeded = rates.check_and_count(&name(1), 1, &messages(1), at(0)).expect_err("used up");
        assert!(exceeded.retry_after.is_some_and(|wait| wait <= Duration::from_millis(HOUR + 300_000)));
        assert!(rates.check_and_count(&name(1), 1, &messages(1), at(HOUR + 300_000)).is_ok());
        assert!(rates.check_and_count(&name(1), 1, &messages(1), UnixMillis(u64::MAX)).is_ok());
        assert!(rates.check_and_count(&name(1), 1, &messages(1), UnixMillis(u64::MAX)).is_err());
    }

    #[test]
    fn huge_numbers_saturate() {
        let mut rates = Rates::default();
        let limits = RateLimits { recipients_per_hour: Some(u32::MAX), ..messages(9) };
        assert!(rates.check_and_count(&name(1), u32::MAX, &limits, at(0)).is_ok());
        assert!(rates.check_and_count(&name(1), u32::MAX, &limits, at(0)).is_err());
    }
}
