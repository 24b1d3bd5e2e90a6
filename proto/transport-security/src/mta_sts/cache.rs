//! When to fetch a policy and which one to apply, as functions over what is known and the time (RFC 8461 §3.3, §5.1).
//!
//! The rule behind all of it: a policy that was once seen holds until it ends or a new one takes its place. Nothing that an
//! attacker can make absent or break, neither the record nor the fetch, takes a policy away (RFC 8461 §10.2).

use super::{Mode, Policy};
use std::sync::Arc;
use std::time::Duration;

/// RFC 8461 §3.3 suggests to look after a policy once a day, long before it ends.
pub const REFRESH_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// RFC 8461 §3.3: after a failed fetch, at least five minutes to the next one of the same id.
pub const RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// A policy that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// The policy, shared with the deliveries that it holds for.
    pub policy: Arc<Policy>,
    /// The id that the record announced when it was fetched.
    pub id: String,
    /// When it was fetched last, in seconds since 1970.
    pub fetched_at: u64,
}

impl Cached {
    /// Whether the policy holds at `now`, in seconds since 1970.
    pub fn holds(&self, now: u64) -> bool {
        now.saturating_sub(self.fetched_at) < self.policy.max_age.as_secs()
    }
}

/// A fetch that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedFetch {
    /// The id that was announced, empty when it was not known.
    pub id: String,
    /// When it failed, in seconds since 1970.
    pub at: u64,
}

/// What the record of the domain says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced<'a> {
    /// A policy with this id.
    Id(&'a str),
    /// No policy, or the record is malformed.
    Nothing,
    /// The lookup failed.
    Unknown,
}

/// What to do for a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Go on without a policy.
    NoPolicy,
    /// Apply the cached policy.
    Use,
    /// Apply the cached policy, and fetch it anew besides, without waiting.
    UseAndRefresh,
    /// Fetch first. If that fails, apply the cached policy if it holds, otherwise none.
    Fetch,
}

/// Decides for a delivery at `now`, in seconds since 1970.
pub fn step(now: u64, announced: Announced<'_>, cached: Option<&Cached>, failed: Option<&FailedFetch>) -> Step {
    let id = match announced {
        Announced::Id(id) => Some(id),
        Announced::Nothing | Announced::Unknown => None,
    };
    let may_fetch = failed.is_none_or(|failed| {
        let waited = now.saturating_sub(failed.at) >= RETRY_AFTER.as_secs();
        waited || id.is_some_and(|id| id != failed.id)
    });
    match (cached.filter(|cached| cached.holds(now)), id) {
        (None, Some(_)) if may_fetch => Step::Fetch,
        (None, _) => Step::NoPolicy,
        (Some(cached), Some(id)) if id != cached.id && may_fetch => Step::Fetch,
        // The record may be suppressed; its absence keeps nobody from asking the policy host itself.
        (Some(cached), _) if may_fetch && is_stale(cached, now) => Step::UseAndRefresh,
        (Some(_), _) => Step::Use,
    }
}

/// A day after the fetch, or when half of a shorter life is over.
fn is_stale(cached: &Cached, now: u64) -> bool {
    let after = REFRESH_AFTER.min(cached.policy.max_age / 2);
    now.saturating_sub(cached.fetched_at) >= after.as_secs()
}

/// Whether a failed fetch is to be reported to the domain and to the administrator (RFC 8461 §3.3, §6): not when the
/// policy we have says that there is none any more.
pub fn is_failure_reported(now: u64, cached: Option<&Cached>) -> bool {
    cached.filter(|cached| cached.holds(now)).is_none_or(|cached| cached.policy.mode != Mode::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;
    const NOW: u64 = 1_800_000_000;

    fn cached(age: u64, max_age: u64, mode: &str) -> Cached {
        let text = format!("version: STSv1\nmode: {mode}\nmx: mx.example.net\nmax_age: {max_age}\n");
        Cached { policy: Arc::new(Policy::parse(text.as_bytes()).unwrap()), id: "1".to_owned(), fetched_at: NOW - age }
    }

    fn failed(age: u64, id: &str) -> FailedFetch {
        FailedFetch { id: id.to_owned(), at: NOW - age }
    }

    #[test]
    fn the_first_time_only_a_record_leads_to_a_fetch() {
        assert_eq!(step(NOW, Announced::Id("1"), None, None), Step::Fetch);
        assert_eq!(step(NOW, Announced::Nothing, None, None), Step::NoPolicy);
        assert_eq!(step(NOW, Announced::Unknown, None, None), Step::NoPolicy);
        let ended = cached(7 * DAY, 7 * DAY, "enforce");
        assert_eq!(step(NOW, Announced::Id("1"), Some(&ended), None), Step::Fetch);
        assert_eq!(step(NOW, Announced::Nothing, Some(&ended), None), Step::NoPolicy);
    }

    /// RFC 8461 §3.3: five minutes an id.
    #[test]
    fn failed_fetches_are_not_repeated_at_once() {
        let step = |failed: FailedFetch| step(NOW, Announced::Id("1"), None, Some(&failed));
        assert_eq!(step(failed(299, "1")), Step::NoPolicy);
        assert_eq!(step(failed(300, "1")), Step::Fetch);
        assert_eq!(step(failed(1, "0")), Step::Fetch, "another policy may be there now");
    }

    #[test]
    fn a_policy_stays_whatever_becomes_of_its_record() {
        let young = cached(60, 7 * DAY, "enforce");
        for announced in [Announced::Id("1"), Announced::Nothing, Announced::Unknown] {
            assert_eq!(step(NOW, announced, Some(&young), None), Step::Use, "{announced:?}");
        }
        let old = cached(DAY, 7 * DAY, "enforce");
        for announced in [Announced::Id("1"), Announced::Nothing, Announced::Unknown] {
            assert_eq!(step(NOW, announced, Some(&old), None), Step::UseAndRefresh, "{announced:?}");
            assert_eq!(step(NOW, announced, Some(&old), Some(&failed(10, "1"))), Step::Use, "{announced:?}");
            assert_eq!(step(NOW, announced, Some(&old), Some(&failed(400, "1"))), Step::UseAndRefresh);
        }
        assert_eq!(step(NOW, Announced::Id("1"), Some(&cached(60, 60, "enforce")), None), Step::Fetch);
        assert_eq!(step(NOW, Announced::Id("1"), Some(&cached(59, 60, "enforce")), None), Step::UseAndRefresh);
    }

    #[test]
    fn a_new_id_is_fetched_before_the_delivery() {
        let young = cached(60, 7 * DAY, "enforce");
        assert_eq!(step(NOW, Announced::Id("2"), Some(&young), None), Step::Fetch);
        assert_eq!(step(NOW, Announced::Id("2"), Some(&young), Some(&failed(10, "2"))), Step::Use, "the old one holds");
        assert_eq!(step(NOW, Announced::Id("2"), Some(&young), Some(&failed(10, "1"))), Step::Fetch);
    }

    #[test]
    fn a_clock_that_was_set_back_does_no_harm() {
        let mut future = cached(0, 7 * DAY, "enforce");
        future.fetched_at = NOW + DAY;
        assert_eq!(step(NOW, Announced::Id("1"), Some(&future), None), Step::Use);
        let failed = FailedFetch { id: "2".to_owned(), at: NOW + DAY };
        assert_eq!(step(NOW, Announced::Id("2"), Some(&future), Some(&failed)), Step::Use);
    }

    /// RFC 8461 §8.3: a clean way out.
    #[test]
    fn nobody_is_alarmed_by_the_end_of_a_policy() {
        assert!(is_failure_reported(NOW, None));
        assert!(is_failure_reported(NOW, Some(&cached(60, DAY, "enforce"))));
        assert!(is_failure_reported(NOW, Some(&cached(60, DAY, "testing"))));
        assert!(!is_failure_reported(NOW, Some(&cached(60, DAY, "none"))));
        assert!(is_failure_reported(NOW, Some(&cached(DAY, DAY, "none"))));
    }
}
