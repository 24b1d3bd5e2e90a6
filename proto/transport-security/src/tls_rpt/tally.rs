//! The sessions of a day, counted for each domain and each policy that was applied.
//!
//! A peer chooses its policies and, by failing in ever new ways, what is told of a session. So everything that is kept has
//! a limit, and what is beyond it is still counted in the totals.

use super::{AppliedPolicy, FailedSession};
use dns::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Domains counted in a day. Those beyond get no report.
pub const DOMAINS_MAX: usize = 10_000;
/// Policies of one domain in a day; more than its MX hosts and a change of each have. Sessions under others are not counted.
pub const POLICIES_PER_DOMAIN_MAX: usize = 50;
/// Kinds of failures of one policy in a day. Further kinds count in the total only.
pub const FAILURES_PER_POLICY_MAX: usize = 100;

/// What was counted. It can be written down and read back, so that a restart loses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    domains: BTreeMap<String, Vec<PolicyTally>>,
}

/// The sessions under one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTally {
    /// The policy.
    pub policy: AppliedPolicy,
    /// Sessions with TLS as the policy wants it.
    pub successes: u64,
    /// Sessions that failed, or would have, if the policy is in testing.
    pub failures: u64,
    /// What is told of those that failed, and how many of them were alike.
    pub details: Vec<(FailedSession, u64)>,
}

impl PolicyTally {
    fn add(&mut self, session: FailedSession, sessions: u64) {
        if let Some((_, count)) = self.details.iter_mut().find(|(known, _)| *known == session) {
            *count = count.saturating_add(sessions);
        } else if self.details.len() < FAILURES_PER_POLICY_MAX {
            self.details.push((session, sessions));
        }
    }
}

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Tally {
        Tally::default()
    }

    /// Counts a session with TLS as the policy wants it. `domain` is the one that reports go to: the recipient's, or that
    /// of the smarthost.
    pub fn succeeded(&mut self, domain: &Name, policy: &AppliedPolicy) {
        if let Some(entry) = self.entry(domain, policy) {
            entry.successes = entry.successes.saturating_add(1);
        }
    }

    /// Counts a session that failed, or would have.
    pub fn failed(&mut self, domain: &Name, policy: &AppliedPolicy, session: FailedSession) {
        let Some(entry) = self.entry(domain, policy) else { return };
        entry.failures = entry.failures.saturating_add(1);
        entry.add(session, 1);
    }

    /// The domains with sessions, in order.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.keys().map(String::as_str)
    }

    /// The sessions of a domain, by policy.
    pub fn of(&self, domain: &str) -> &[PolicyTally] {
        self.domains.get(domain).map_or(&[], Vec::as_slice)
    }

    /// Forgets a domain, whose report is out.
    pub fn remove(&mut self, domain: &str) {
        self.domains.remove(domain);
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// Adds what was counted elsewhere for the same day, within the limits.
    pub fn merge(&mut self, other: Tally) {
        for (domain, policies) in other.domains {
            let Ok(domain) = Name::parse(&domain) else { continue };
            for tally in policies {
                let Some(entry) = self.entry(&domain, &tally.policy) else { continue };
                entry.successes = entry.successes.saturating_add(tally.successes);
                entry.failures = entry.failures.saturating_add(tally.failures);
                for (session, sessions) in tally.details {
                    entry.add(session, sessions);
                }
            }
        }
    }

    fn entry(&mut self, domain: &Name, policy: &AppliedPolicy) -> Option<&mut PolicyTally> {
        if !self.domains.contains_key(domain.as_str()) && self.domains.len() >= DOMAINS_MAX {
            return None;
        }
        let policies = self.domains.entry(domain.as_str().to_owned()).or_default();
        let index = match policies.iter().position(|tally| tally.policy == *policy) {
            Some(index) => index,
            None if policies.len() < POLICIES_PER_DOMAIN_MAX => {
                policies.push(PolicyTally { policy: policy.clone(), successes: 0, failures: 0, details: Vec::new() });
                policies.len() - 1
            }
            None => return None,
        };
        policies.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls_rpt::ResultType;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn sessions_are_counted_by_policy_and_likeness() {
        let mut tally = Tally::new();
        let domain = name("example.net");
        let (none, other) = (AppliedPolicy::none(&domain), AppliedPolicy::none(&name("other.example")));
        let expired = || FailedSession::new(ResultType::CertificateExpired, "");
        for _ in 0..3 {
            tally.succeeded(&domain, &none);
            tally.failed(&domain, &other, expired());
        }
        tally.failed(&domain, &other, FailedSession::new(ResultType::CertificateExpired, "by a day"));
        let counted = tally.of("example.net");
        assert_eq!((counted[0].successes, counted[0].failures), (3, 0));
        assert_eq!((counted[1].successes, counted[1].failures), (0, 4));
        assert_eq!(counted[1].details.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [3, 1]);
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
        let mut twice = tally.clone();
        twice.merge(tally);
        assert_eq!(twice.of("example.net")[1].details[0].1, 6);
        assert_eq!(twice.domains().collect::<Vec<_>>(), ["example.net"]);
        assert!(twice.of("example.com").is_empty());
    }

    #[test]
    fn everything_has_a_limit() {
        let mut tally = Tally::new();
        let domain = name("example.net");
        let none = AppliedPolicy::none(&domain);
        for number in 0..FAILURES_PER_POLICY_MAX + 5 {
            let reason = number.to_string();
            tally.failed(&domain, &none, FailedSession::new(ResultType::ValidationFailure, &reason));
        }
        assert_eq!(tally.of("example.net")[0].details.len(), FAILURES_PER_POLICY_MAX);
        assert_eq!(tally.of("example.net")[0].failures, FAILURES_PER_POLICY_MAX as u64 + 5);
        for number in 0..POLICIES_PER_DOMAIN_MAX + 5 {
            tally.succeeded(&domain, &AppliedPolicy::none(&name(&format!("n{number}.example"))));
        }
        assert_eq!(tally.of("example.net").len(), POLICIES_PER_DOMAIN_MAX);
        for number in 0..DOMAINS_MAX + 5 {
            tally.succeeded(&name(&format!("n{number}.example")), &none);
        }
        assert_eq!(tally.domains().count(), DOMAINS_MAX);
        tally.succeeded(&domain, &none);
        assert_eq!(tally.of("example.net")[0].successes, 1, "who is known goes on being counted");
    }
}
