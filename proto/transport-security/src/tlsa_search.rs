//! Where the TLSA records of a host are, asked for one name at a time (RFC 7672 §2.2.2, §2.2.3).
//!
//! A [`TlsaSearch`] begins with the answer that gave the host's addresses. While it has a [`question`], the caller looks
//! it up and gives the answer; then there is a [`finding`]. It never asks more than two questions.
//!
//! [`question`]: TlsaSearch::question
//! [`finding`]: TlsaSearch::finding

use dns::{Failure, Found, Name, Record, RecordType, Security, Tlsa, Typed};
use std::net::IpAddr;

/// What is known about the TLSA records of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsaFinding {
    /// Nobody looked: the host's addresses are not proved, it is an address literal, or DANE is not wanted here.
    NotSought,
    /// There are no records that DNSSEC vouches for.
    Absent,
    /// There are, usable or not.
    Present {
        /// The TLSA base domain: the name that the records belong to, without port and protocol.
        base: Name,
        /// All of them, at least one.
        records: Vec<Tlsa>,
    },
    /// It cannot be found out. The host must not be used now (RFC 7672 §2.1.2, V43).
    Failed(Failure),
}

/// A search for TLSA records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsaSearch {
    port: u16,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Whether the first alias of the host is proved, since its end is not.
    Alias(Name),
    /// The records of a base domain, then those of the next one.
    Records(Name, Option<Name>),
    Over(TlsaFinding),
}

impl TlsaSearch {
    /// Begins for a host, with the answer to the question for its addresses, and the port that will be connected to.
    /// Nothing is asked about a host whose addresses are not proved, since name servers that mishandle TLSA are found there
    /// (RFC 7672 §2.2.2).
    pub fn begin(host: &Name, port: u16, addresses: &Typed<IpAddr>) -> TlsaSearch {
        let is_alias = addresses.canonical != *host;
        let state = match (addresses.records.is_empty(), addresses.security) {
            (true, _) => State::Over(TlsaFinding::NotSought),
            (false, Security::Secure) if is_alias => records_of(port, [Some(&addresses.canonical), Some(host)]),
            (false, Security::Secure) => records_of(port, [Some(host), None]),
            // RFC 7672 §2.1.3: the answer as a whole is not proved, but its first alias may be.
            (false, Security::Insecure) if is_alias => State::Alias(host.clone()),
            (false, Security::Insecure) => State::Over(TlsaFinding::NotSought),
        };
        TlsaSearch { port, state }
    }

    /// What to look up next; `None` when the search is over.
    pub fn question(&self) -> Option<(Name, RecordType)> {
        match &self.state {
            State::Alias(host) => Some((host.clone(), RecordType::Cname)),
            State::Records(base, _) => owner(self.port, base).map(|owner| (owner, RecordType::Tlsa)),
            State::Over(_) => None,
        }
    }

    /// The answer to the [`question`](TlsaSearch::question).
    pub fn answer(self, answer: Result<Found, Failure>) -> TlsaSearch {
        let state = match (self.state, answer) {
            (State::Over(finding), _) => State::Over(finding),
            // V43: forged, broken or unreachable is never "absent".
            (_, Err(failure)) => State::Over(TlsaFinding::Failed(failure)),
            (State::Alias(host), Ok(found)) => {
                let is_proved = found.security == Security::Secure && !found.records.is_empty();
                if is_proved { records_of(self.port, [Some(&host), None]) } else { State::Over(TlsaFinding::NotSought) }
            }
            (State::Records(base, next), Ok(found)) => match (proved_records(found), next) {
                (records, _) if !records.is_empty() => State::Over(TlsaFinding::Present { base, records }),
                (_, next) => records_of(self.port, [next.as_ref(), None]),
            },
        };
        TlsaSearch { port: self.port, state }
    }

    /// What was found, when nothing is left to ask.
    pub fn finding(self) -> TlsaFinding {
        match self.state {
            State::Over(finding) => finding,
            State::Records(..) | State::Alias(_) => TlsaFinding::Absent,
        }
    }
}

/// The first of the base domains that can have records; one whose name has no room for the labels has none.
fn records_of(port: u16, bases: [Option<&Name>; 2]) -> State {
    let mut bases = bases.into_iter().flatten().filter(|base| owner(port, base).is_some()).cloned();
    match bases.next() {
        Some(base) => State::Records(base, bases.next()),
        None => State::Over(TlsaFinding::Absent),
    }
}

/// RFC 7672 §2.2.3: `_25._tcp.` in front.
fn owner(port: u16, base: &Name) -> Option<Name> {
    base.under(&format!("_{port}._tcp")).ok()
}

/// An alias below the port's name may lead elsewhere; the base domain stays what it was (RFC 7672 §2.2.3).
fn proved_records(found: Found) -> Vec<Tlsa> {
    if found.security != Security::Secure {
        return Vec::new();
    }
    let tlsa = |record| match record {
        Record::Tlsa(tlsa) => Some(tlsa),
        _ => None,
    };
    found.records.into_iter().filter_map(tlsa).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn found(canonical: &str, security: Security, records: Vec<Record>) -> Found {
        let ttl = Duration::from_secs(60);
        Found { name_exists: true, records, security, canonical: name(canonical), ttl }
    }

    fn address(canonical: &str, security: Security) -> Typed<IpAddr> {
        let (records, ttl) = (vec![IpAddr::from([192, 0, 2, 1])], Duration::from_secs(60));
        Typed { records, name_exists: true, security, canonical: name(canonical), ttl }
    }

    fn record() -> Tlsa {
        Tlsa { usage: 3, selector: 1, matching: 1, data: vec![7; 32] }
    }

    fn records(security: Security) -> Result<Found, Failure> {
        Ok(found("elsewhere.example.net", security, vec![Record::Tlsa(record())]))
    }

    fn nothing(security: Security) -> Result<Found, Failure> {
        Ok(found("mx.example.net", security, Vec::new()))
    }

    /// The questions asked and the finding, given one answer after the other.
    fn run(addresses: Typed<IpAddr>, answers: Vec<Result<Found, Failure>>) -> (Vec<String>, TlsaFinding) {
        let mut search = TlsaSearch::begin(&name("mx.example.net"), 25, &addresses);
        let mut asked = Vec::new();
        for answer in answers {
            let (name, kind) = search.question().unwrap();
            asked.push(format!("{name} {kind:?}"));
            search = search.answer(answer);
        }
        assert_eq!(search.question(), None);
        (asked, search.finding())
    }

    const SECURE: Security = Security::Secure;
    const INSECURE: Security = Security::Insecure;

    #[test]
    fn hosts_without_proof_are_not_asked_about() {
        let here = address("mx.example.net", INSECURE);
        assert_eq!(run(here, vec![]), (vec![], TlsaFinding::NotSought));
        for security in [SECURE, INSECURE] {
            let nowhere = Typed { records: Vec::new(), ..address("host.example.com", security) };
            assert_eq!(run(nowhere, vec![]).1, TlsaFinding::NotSought);
        }
    }

    #[test]
    fn a_proved_host_is_asked_about_by_its_name() {
        let here = || address("mx.example.net", SECURE);
        let question = vec!["_25._tcp.mx.example.net Tlsa".to_owned()];
        let base = name("mx.example.net");
        let present = TlsaFinding::Present { base, records: vec![record()] };
        assert_eq!(run(here(), vec![records(SECURE)]), (question.clone(), present));
        assert_eq!(run(here(), vec![records(INSECURE)]), (question.clone(), TlsaFinding::Absent));
        assert_eq!(run(here(), vec![nothing(SECURE)]), (question.clone(), TlsaFinding::Absent));
        assert_eq!(run(here(), vec![nothing(INSECURE)]).1, TlsaFinding::Absent);
    }

    /// RFC 7672 §2.2.2, secure CNAME: the end of the aliases first, then the host itself, nothing in between.
    #[test]
    fn a_proved_alias_has_two_base_domains() {
        let there = || address("host.example.com", SECURE);
        let both = vec!["_25._tcp.host.example.com Tlsa".to_owned(), "_25._tcp.mx.example.net Tlsa".to_owned()];
        let (asked, finding) = run(there(), vec![records(SECURE)]);
        assert_eq!(asked, both[..1]);
        assert!(matches!(finding, TlsaFinding::Present { base, .. } if base == name("host.example.com")));
        for first in [nothing(SECURE), nothing(INSECURE), records(INSECURE)] {
            let (asked, finding) = run(there(), vec![first.clone(), records(SECURE)]);
            assert_eq!(asked, both);
            assert!(matches!(finding, TlsaFinding::Present { base, .. } if base == name("mx.example.net")));
            assert_eq!(run(there(), vec![first, nothing(SECURE)]), (both.clone(), TlsaFinding::Absent));
        }
    }

    /// RFC 7672 §2.2.2, insecure CNAME.
    #[test]
    fn an_alias_into_an_unsigned_zone() {
        let there = || address("host.example.com", INSECURE);
        let cname = |security| Ok(found("mx.example.net", security, vec![Record::Cname(name("host.example.com"))]));
        let (asked, finding) = run(there(), vec![cname(SECURE), records(SECURE)]);
        assert_eq!(asked, ["mx.example.net Cname", "_25._tcp.mx.example.net Tlsa"]);
        assert!(matches!(finding, TlsaFinding::Present { base, .. } if base == name("mx.example.net")));
        assert_eq!(run(there(), vec![cname(INSECURE)]).1, TlsaFinding::NotSought);
        assert_eq!(run(there(), vec![nothing(SECURE)]).1, TlsaFinding::NotSought);
    }

    #[test]
    fn v43_what_cannot_be_found_out_is_not_absent() {
        let failures = [Failure::Bogus("signature expired".into()), Failure::Failed("SERVFAIL".into())];
        for failure in failures {
            let failed = || Err(failure.clone());
            let expected = TlsaFinding::Failed(failure.clone());
            assert_eq!(run(address("mx.example.net", SECURE), vec![failed()]).1, expected);
            assert_eq!(run(address("host.example.com", SECURE), vec![failed()]).1, expected);
            assert_eq!(run(address("host.example.com", SECURE), vec![nothing(SECURE), failed()]).1, expected);
            assert_eq!(run(address("host.example.com", INSECURE), vec![failed()]).1, expected);
        }
    }

    #[test]
    fn the_port_is_in_the_name() {
        let host = name("relay.example.net");
        let here = address("relay.example.net", SECURE);
        let search = TlsaSearch::begin(&host, 587, &here);
        assert_eq!(search.question().unwrap().0.as_str(), "_587._tcp.relay.example.net");
        let long = name(&format!("{}a", "a.".repeat(123)));
        let here = address(long.as_str(), SECURE);
        let search = TlsaSearch::begin(&long, 25, &here);
        assert_eq!((search.question(), search.finding()), (None, TlsaFinding::Absent));
        let search = TlsaSearch::begin(&host, 25, &here);
        assert_eq!(search.question().unwrap().0.as_str(), "_25._tcp.relay.example.net");
    }
}
