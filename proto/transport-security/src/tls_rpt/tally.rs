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

/// What all policies and failures of a day may take, in octets of memory, about. Where it is used up, sessions under a policy
/// that was not seen before are not counted, and kinds of failures that were not seen before count in the total only.
pub const OCTETS_MAX: usize = 16 * 1024 * 1024;

/// What was counted. It can be written down and read back, so that a restart loses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Tally {
    domains: BTreeMap<String, Vec<PolicyTally>>,
    /// What the policies and their failures take, of [`OCTETS_MAX`].
    #[serde(skip)]
    octets: usize,
}

#[derive(Deserialize)]
struct Stored {
    domains: BTreeMap<String, Vec<PolicyTally>>,
}

impl From<Stored> for Tally {
    fn from(Stored { domains }: Stored) -> Tally {
        let octets = domains.values().flatten().map(PolicyTally::octets).sum();
        Tally { domains, octets }
    }
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
    fn octets(&self) -> usize {
        octets_of_policy(&self.policy)
            + self.details.iter().map(|(session, _)| octets_of_failure(session)).sum::<usize>()
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
        if let Some((entry, _)) = self.entry(domain, policy) {
            entry.successes = entry.successes.saturating_add(1);
        }
    }

    /// Counts a session that failed, or would have.
    pub fn failed(&mut self, domain: &Name, policy: &AppliedPolicy, session: FailedSession) {
        let Some((entry, octets)) = self.entry(domain, policy) else { return };
        entry.failures = entry.failures.saturating_add(1);
        if let Some((_, count)) = entry.details.iter_mut().find(|(known, _)| *known == session) {
            *count = count.saturating_add(1);
        } else if entry.details.len() < FAILURES_PER_POLICY_MAX && take(octets, octets_of_failure(&session)) {
            entry.details.push((session, 1));
        }
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
        let removed = self.domains.remove(domain).unwrap_or_default();
        self.octets -= removed.iter().map(PolicyTally::octets).sum::<usize>();
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// Where sessions of a domain under a policy are counted, and what is taken of [`OCTETS_MAX`].
    fn entry(&mut self, domain: &Name, policy: &AppliedPolicy) -> Option<(&mut PolicyTally, &mut usize)> {
        let known = self.domains.get(domain.as_str());
        let index = known.and_then(|policies| policies.iter().position(|tally| tally.policy == *policy));
        if index.is_none() {
            let has_room = match known {
                Some(policies) => policies.len() < POLICIES_PER_DOMAIN_MAX,
                None => self.domains.len() < DOMAINS_MAX,
            };
            if !has_room || !take(&mut self.octets, octets_of_policy(policy)) {
                return None;
            }
        }
        let policies = self.domains.entry(domain.as_str().to_owned()).or_default();
        let index = index.unwrap_or_else(|| {
            policies.push(PolicyTally { policy: policy.clone(), successes: 0, failures: 0, details: Vec::new() });
            policies.len() - 1
        });
        Some((policies.get_mut(index)?, &mut self.octets))
    }
}

/// Takes so many octets more, if there is room for them.
fn take(octets: &mut usize, more: usize) -> bool {
    let has_room = *octets + more <= OCTETS_MAX;
    if has_room {
        *octets += more;
    }
    has_room
}

fn octets_of_policy(policy: &AppliedPolicy) -> usize {
    let lines = policy.text.iter().chain(&policy.mx_hosts);
    size_of::<PolicyTally>() + policy.domain.len() + lines.map(|line| size_of::<String>() + line.len()).sum::<usize>()
}

fn octets_of_failure(session: &FailedSession) -> usize {
    let texts = [&session.receiving_host, &session.receiving_helo, &session.reason];
    size_of::<(FailedSession, u64)>() + texts.into_iter().flatten().map(String::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls_rpt::ResultType;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn numbered(number: usize) -> Name {
        name(&format!("n{number}.example"))
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
        assert_eq!(tally.domains().collect::<Vec<_>>(), ["example.net"]);
        assert!(tally.of("example.com").is_empty());
        tally.remove("example.net");
        assert_eq!(tally, Tally::new());
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
            tally.succeeded(&domain, &AppliedPolicy::none(&numbered(number)));
        }
        assert_eq!(tally.of("example.net").len(), POLICIES_PER_DOMAIN_MAX);
        for number in 0..DOMAINS_MAX + 5 {
            tally.succeeded(&numbered(number), &none);
        }
        assert_eq!(tally.domains().count(), DOMAINS_MAX);
        tally.succeeded(&domain, &none);
        assert_eq!(tally.of("example.net")[0].successes, 1, "who is known goes on being counted");
    }

    /// However many domains a peer has, and however large its policies and failures are.
    #[test]
    fn all_of_it_together_has_a_limit() {
        let mut tally = Tally::new();
        let large =
            |number: usize| AppliedPolicy { text: vec!["x".repeat(200_000)], ..AppliedPolicy::none(&numbered(number)) };
        let failed = |number: usize| FailedSession::new(ResultType::ValidationFailure, &format!("{number:0199}"));
        let numbers = 0..1_000;
        for number in numbers.clone() {
            tally.failed(&numbered(number % 100), &large(number), failed(number));
        }
        let counted: Vec<&PolicyTally> = tally.domains.values().flatten().collect();
        assert!((70..100).contains(&counted.len()), "{}", counted.len());
        assert!(tally.domains().all(|domain| !tally.of(domain).is_empty()), "no domain without a policy");
        assert_eq!(counted.iter().map(|tally| tally.octets()).sum::<usize>(), tally.octets);
        // What small things find room beside the large ones is bounded as well, and goes on being counted.
        let none = AppliedPolicy::none(&numbered(0));
        for number in numbers.clone().flat_map(|number| std::iter::repeat_n(number, 100)) {
            tally.failed(&numbered(number), &none, failed(number));
        }
        assert!(tally.octets <= OCTETS_MAX && tally.octets + 1_000 > OCTETS_MAX, "{}", tally.octets);
        assert_eq!(tally.of("n0.example")[1].failures, 100);
        tally.remove("n0.example");
        tally.succeeded(&numbered(5_000), &large(0));
        assert_eq!(tally.of("n5000.example").len(), 1, "what is reported makes room");
    }
}
