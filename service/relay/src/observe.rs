//! What reports about TLS say of each session (RFC 8460): worked out here, counted by whoever listens.
//!
//! Told of is what a policy of the domain, or the lack of one, makes of a session. A destination whose protection the
//! configuration settles is not told of, since nobody looked at what its domain publishes; nor are connections that never
//! got as far as TLS (RFC 8460 §4.3.4).

use crate::Relay;
use crate::hosts::Hosts;
use crate::open::Target;
use crate::tls::{TlsFailure, TlsOutcome};
use dns::Name;
use smtp_proto::client::{InTheClear, Peer, Protection as Standing};
use transport_security::{Demand, Protection};
use transport_security::tls_rpt::{AppliedPolicy, FailedSession, PolicyKind, ResultType};

/// Longest name of a host in its greeting that is told, in octets; a domain name has 253 (RFC 1035 §2.3.4).
const HELO_OCTETS_MAX: usize = 255;

/// Hears how protected each session was. Called between two steps of a session, so it must not wait.
pub trait TlsObserver: Send + Sync {
    /// A session under this policy: well, or how it failed, or would have under a policy that is in testing. `domain` is
    /// the one that reports go to: the recipient's, or that of the smarthost.
    fn session(&self, domain: &Name, policy: &AppliedPolicy, result: Result<(), FailedSession>);
}

impl Relay {
    /// Tells of a policy that should be there and cannot be had.
    pub(crate) fn observe_policy(&self, hosts: &Hosts) {
        let Some((observer, domain)) = self.observer_of(hosts) else { return };
        if let Some(trouble) = &hosts.sts.trouble {
            let failed = FailedSession::new(trouble.result, &trouble.cause);
            observer.session(domain, &AppliedPolicy::unknown_sts(domain), Err(failed));
        }
    }

    /// Tells of a host that is not connected to because of a policy.
    pub(crate) fn observe_refusal(&self, hosts: &Hosts, target: &Target) {
        let Some((observer, domain)) = self.observer_of(hosts) else { return };
        let Protection::Refuse { status, cause, result } = &target.decision.protection else { return };
        // A refusal for good is what the message demands, not what the domain publishes (RFC 8689 §4.2.1).
        if status.class == 4 {
            let receiving_host = target.name.as_ref().map(Name::to_string);
            let failed = FailedSession { receiving_host, ..FailedSession::new(*result, cause) };
            observer.session(domain, &target.decision.applied, Err(failed));
        }
    }

    /// Tells of a session that got as far as TLS, or as the lack of it.
    pub(crate) fn observe_session(
        &self,
        hosts: &Hosts,
        target: &Target,
        peer: &Peer,
        tls: Option<&Result<TlsOutcome, TlsFailure>>,
    ) {
        let Some((observer, domain)) = self.observer_of(hosts) else { return };
        let policy = &target.decision.applied;
        // What is told of the missing policy must not be outweighed by sessions that went well without it.
        if policy.kind == PolicyKind::None && hosts.sts.trouble.is_some() {
            return;
        }
        let failed = |result, cause: &str| FailedSession {
            sending_ip: peer.connection.local.map(|local| local.ip()),
            receiving_host: target.name.as_ref().map(Name::to_string),
            receiving_helo: peer.name.clone().filter(|name| name.len() <= HELO_OCTETS_MAX),
            receiving_ip: peer.connection.peer.map(|peer| peer.ip()),
            ..FailedSession::new(result, cause)
        };
        let result = match (tls, &peer.protection) {
            (Some(Ok(TlsOutcome { observed: None, .. })), _) => Ok(()),
            (Some(Ok(TlsOutcome { observed: Some(failure), .. }) | Err(failure)), _) => {
                Err(failed(failure.result, &failure.cause))
            }
            (None, Standing::Clear(InTheClear::NotOffered)) => Err(failed(ResultType::StarttlsNotSupported, "")),
            (None, Standing::Clear(InTheClear::Refused(reply))) => {
                Err(failed(ResultType::StarttlsNotSupported, &reply.to_string()))
            }
            // Over before STARTTLS, or the second connection after a handshake that failed and was told of.
            (None, Standing::Clear(InTheClear::NotTried) | Standing::Tls(_)) => return,
        };
        observer.session(domain, policy, result);
    }

    /// Who hears of sessions, and under which domain.
    fn observer_of<'a>(&'a self, hosts: &'a Hosts) -> Option<(&'a dyn TlsObserver, &'a Name)> {
        // RFC 8460 §3: the delivery of a report is not told of, or each report would lead to the next.
        let is_told = hosts.heeds_policies() && hosts.demand != Demand::Optional;
        let next_hop = hosts.next_hop.as_ref().filter(|_| is_told)?;
        Some((self.observer.as_deref()?, &next_hop.domain))
    }
}
