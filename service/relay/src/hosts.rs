//! The hosts of a destination, in the order in which they are tried (RFC 5321 §5.1).

use crate::Relay;
use crate::policy_fetch::StsFinding;
use directory::{NextHop, Transport};
use dns::{Failure, Mx, Name, Typed, mx};
use mail::RequireTls;
use mail::queue::Outcome;
use mail::{Attempt, Domain, EnhancedStatus};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use transport_security::dane;
use transport_security::{Level, MxSecurity};

/// Exchangers of one destination that are looked at; more is an attack or a mistake.
const EXCHANGERS_MAX: usize = 100;

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A host by its name.
    Host(Name),
    /// A host by its address.
    Address(IpAddr),
    /// A socket of this machine.
    Socket(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Host(name) => write!(f, "{name}"),
            Place::Address(address) => write!(f, "[{address}]"),
            Place::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The hosts of a destination. [`next`](Hosts::next) passes on to the next of them.
#[derive(Debug)]
pub struct Hosts {
    pub(crate) places: Vec<Place>,
    pub(crate) at: usize,
    pub(crate) port: u16,
    pub(crate) is_lmtp: bool,
    /// The domain for which protection is decided.
    pub(crate) domain: Domain,
    pub(crate) next_hop: Option<dane::NextHop>,
    pub(crate) mx: MxSecurity,
    /// What the message wants of the way.
    pub(crate) demand: RequireTls,
    /// What the configuration wants of it.
    pub(crate) level: Level,
    /// The MTA-STS policy of the next hop.
    pub(crate) sts: StsFinding,
    /// Whether the next hop is from the configuration: what is wrong with it is our own mistake, which somebody will mend.
    pub(crate) is_configured: bool,
}

impl Hosts {
    /// Places without MX records or a domain with policies.
    fn new(places: Vec<Place>, port: u16, domain: &Domain, demand: RequireTls) -> Hosts {
        Hosts {
            places,
            at: 0,
            port,
            is_lmtp: false,
            domain: domain.clone(),
            next_hop: None,
            mx: MxSecurity::NotUsed,
            demand,
            level: Level::Published,
            sts: StsFinding { policy: None, trouble: None },
            is_configured: false,
        }
    }

    /// Whether what the next hop publishes counts.
    pub(crate) fn heeds_policies(&self) -> bool {
        !self.is_lmtp
            && match self.level {
                Level::Published => self.demand != RequireTls::Optional,
                Level::DaneOnly => true,
                Level::Clear
                | Level::Opportunistic
                | Level::Encrypted
                | Level::Verify
                | Level::Secure
                | Level::Names(_)
                | Level::Fingerprint(_) => false,
            }
    }

    /// Passes on to the next host. False at the end of them.
    #[expect(clippy::should_implement_trait, reason = "an iterator would own what is only pointed at")]
    pub fn next(&mut self) -> bool {
        self.at = (self.at + 1).min(self.places.len());
        self.at < self.places.len()
    }

    /// Begins with the first host again; once.
    pub fn rewind(&mut self) -> bool {
        self.at = 0;
        !self.places.is_empty()
    }
}

impl Relay {
    /// Finds the hosts for a domain by way of a transport, and what protection they must have. The error is the outcome
    /// for all recipients.
    pub async fn hosts(&self, transport: &Transport, domain: &Domain, demand: RequireTls) -> Result<Hosts, Attempt> {
        let is_configured = *transport != Transport::Direct;
        let mut hosts = match self.way(transport, domain, demand).await {
            // A typing error in a table, or a zone that is broken for a moment, must not bounce a whole queue.
            Err(attempt) if is_configured && attempt.outcome == Outcome::Failed => {
                return Err(finding(
                    Outcome::Deferred,
                    (4, 3, 5),
                    &format!("the next hop {transport}: {}", attempt.text),
                ));
            }
            found => found?,
        };
        hosts.is_configured = is_configured;
        hosts.level = self.settings.level(&hosts.domain);
        if let (Some(policies), Some(next_hop)) = (&self.policies, &hosts.next_hop)
            && hosts.heeds_policies()
        {
            hosts.sts = policies.policy_for(&next_hop.domain).await;
            self.observe_policy(&hosts);
        }
        Ok(hosts)
    }

    async fn way(&self, transport: &Transport, domain: &Domain, demand: RequireTls) -> Result<Hosts, Attempt> {
        let smtp = self.settings.smtp_port;
        match transport {
            Transport::Direct => self.exchangers(domain, smtp, demand).await,
            Transport::Smtp(hop) if hop.by_mx => self.exchangers(&hop.host, hop.port.unwrap_or(smtp), demand).await,
            Transport::Smtp(hop) => single(hop, hop.port.unwrap_or(smtp), demand),
            Transport::Lmtp(hop) => {
                let hosts = single(hop, hop.port.unwrap_or(directory::transports::LMTP_PORT), demand)?;
                Ok(Hosts { is_lmtp: true, ..hosts })
            }
            Transport::LmtpSocket(path) => {
                let hosts = Hosts::new(vec![Place::Socket(path.clone())], 0, domain, demand);
                Ok(Hosts { is_lmtp: true, ..hosts })
            }
            Transport::Local | Transport::Error(_) | Transport::Discard(_) => {
                Err(finding(Outcome::Deferred, (4, 3, 5), "this transport has no next hop"))
            }
        }
    }

    async fn exchangers(&self, of: &Domain, port: u16, demand: RequireTls) -> Result<Hosts, Attempt> {
        if let Some(address) = literal(of) {
            return Ok(Hosts::new(vec![Place::Address(address)], port, of, demand));
        }
        let name = Name::try_from(of).map_err(|_| no_host(of))?;
        let found = mx(&*self.lookup, &name).await.map_err(|failure| lookup_failed(of, &failure))?;
        if found.is_null_mx() {
            let text = format!("{of} does not accept mail (null MX)");
            return Err(finding(Outcome::Failed, (5, 1, 10), &text));
        }
        let next_hop = Some(dane::NextHop { domain: name.clone(), expanded: found.canonical.clone() });
        if found.records.is_empty() {
            // RFC 5321 §5.1: the domain itself is the exchanger. Whether it has an address shows when it is connected to.
            if !found.name_exists {
                return Err(no_host(of));
            }
            if self.settings.is_own(of.as_str()) {
                return Err(loops(of));
            }
            return Ok(Hosts { next_hop, ..Hosts::new(vec![Place::Host(name)], port, of, demand) });
        }
        let mx = if found.is_secure() { MxSecurity::Secure } else { MxSecurity::Insecure };
        let places = self.ordered(of, found)?;
        Ok(Hosts { next_hop, mx, ..Hosts::new(places, port, of, demand) })
    }

    /// By preference, at random among equals; those that are as good as ourselves or worse are left out, so that mail
    /// never goes round (R144, R217).
    fn ordered(&self, of: &Domain, found: Typed<Mx>) -> Result<Vec<Place>, Attempt> {
        let records = &found.records[..found.records.len().min(EXCHANGERS_MAX)];
        let own = records.iter().filter(|mx| self.settings.is_own(mx.exchange.as_str())).map(|mx| mx.preference).min();
        let mut better: Vec<&Mx> = records.iter().filter(|mx| own.is_none_or(|own| mx.preference < own)).collect();
        if better.is_empty() {
            return Err(loops(of));
        }
        better.retain(|mx| is_host_name(&mx.exchange));
        if better.is_empty() {
            // A mistake that may be mended, like an exchanger without address.
            return Err(finding(
                Outcome::Deferred,
                (4, 4, 4),
                &format!("the MX records of {of} name addresses, not hosts"),
            ));
        }
        let dice = std::hash::RandomState::new();
        better.sort_by_cached_key(|mx| {
            use std::hash::BuildHasher;
            (mx.preference, dice.hash_one(mx.exchange.as_str()))
        });
        better.truncate(self.settings.hosts_max.max(1));
        Ok(better.into_iter().map(|mx| Place::Host(mx.exchange.clone())).collect())
    }
}

/// RFC 5321 §5.1: an MX record names a host. An address in its place is none (RFC 1123 §2.1), though some resolvers make up
/// a record for it.
fn is_host_name(exchange: &Name) -> bool {
    exchange.as_str().parse::<Ipv4Addr>().is_err()
}

fn single(hop: &NextHop, port: u16, demand: RequireTls) -> Result<Hosts, Attempt> {
    let place = match literal(&hop.host) {
        Some(address) => Place::Address(address),
        None => Place::Host(Name::try_from(&hop.host).map_err(|_| no_host(&hop.host))?),
    };
    let next_hop = Name::try_from(&hop.host).ok().map(dane::NextHop::plain);
    Ok(Hosts { next_hop, ..Hosts::new(vec![place], port, &hop.host, demand) })
}

/// The address of a literal such as `[192.0.2.1]`.
fn literal(domain: &Domain) -> Option<IpAddr> {
    let inner = domain.as_str().strip_prefix('[')?.strip_suffix(']')?;
    inner.strip_prefix("ipv6:").unwrap_or(inner).parse().ok()
}

pub(crate) fn finding(outcome: Outcome, (class, subject, detail): (u8, u16, u16), text: &str) -> Attempt {
    Attempt::finding(outcome, EnhancedStatus::new(class, subject, detail), text)
}

/// RFC 3463 §3.2: 5.1.2, bad destination system address.
fn no_host(domain: &Domain) -> Attempt {
    finding(Outcome::Failed, (5, 1, 2), &format!("the domain {domain} does not exist"))
}

fn loops(domain: &Domain) -> Attempt {
    finding(Outcome::Failed, (5, 4, 6), &format!("mail for {domain} loops back to myself"))
}

pub(crate) fn lookup_failed(name: &dyn std::fmt::Display, failure: &Failure) -> Attempt {
    let status = match failure {
        // RFC 7372 has no code for it; 4.7.5 is what TLS failures of trust have.
        Failure::Bogus(_) => (4, 7, 5),
        Failure::Failed(_) => (4, 4, 3),
    };
    finding(Outcome::Deferred, status, &format!("{name}: {failure}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::relay;

    const ZONE: &str = "
        $secure
        order.example    MX 20 b.example
        order.example    MX 10 a.example
        order.example    MX 30 mx.own.example
        order.example    MX 40 worse.example
        loop.example     MX 10 mx.own.example
        null.example     MX 0 .
        bare.example     A 192.0.2.1
        equal.example    MX 5 a.example
        equal.example    MX 5 b.example
        bad.example      SERVFAIL
        forged.example   BOGUS
        mx.own.example   A 192.0.2.2
        some.example     MX 5 192.0.2.3
        some.example     MX 10 192.0.2.host.example
        address.example  MX 10 192.0.2.3
        192.0.2.3        A 192.0.2.3
        $insecure
        forgeable.example MX 10 192.0.2.3
    ";

    async fn places(domain: &str) -> Result<Vec<String>, String> {
        let domain = Domain::parse(domain).unwrap();
        match relay(ZONE, 25).hosts(&Transport::Direct, &domain, RequireTls::Ordinary).await {
            Ok(hosts) => Ok(hosts.places.iter().map(Place::to_string).collect()),
            Err(attempt) => Err(format!("{:?} {} {}", attempt.outcome, attempt.status, attempt.text)),
        }
    }

    #[tokio::test]
    async fn r207_r217_hosts_come_in_their_order_and_never_lead_back() {
        assert_eq!(places("order.example").await.unwrap(), ["a.example", "b.example"]);
        assert_eq!(places("bare.example").await.unwrap(), ["bare.example"]);
        assert_eq!(places("[192.0.2.7]").await.unwrap(), ["[192.0.2.7]"]);
        for (domain, cause) in [
            ("loop.example", "Failed 5.4.6 mail for loop.example loops back to myself"),
            ("mx.own.example", "Failed 5.4.6 mail for mx.own.example loops back to myself"),
            ("null.example", "Failed 5.1.10 null.example does not accept mail (null MX)"),
            ("nowhere.example", "Failed 5.1.2 the domain nowhere.example does not exist"),
        ] {
            assert_eq!(places(domain).await.unwrap_err(), cause);
        }
        assert!(places("bad.example").await.unwrap_err().starts_with("Deferred 4.4.3 bad.example: DNS lookup failed"));
        assert!(places("forged.example").await.unwrap_err().starts_with("Deferred 4.7.5 "), "V43");
    }

    /// What is wrong with a next hop of our own tables puts off; a domain's own word is final.
    #[tokio::test]
    async fn mistakes_in_tables_bounce_nothing() {
        let far = Domain::parse("far.example").unwrap();
        for next_hop in ["smtp:nowhere.example", "smtp:null.example", "smtp:loop.example"] {
            let transport = Transport::parse(next_hop).unwrap();
            let attempt = relay(ZONE, 25).hosts(&transport, &far, RequireTls::Ordinary).await.unwrap_err();
            assert_eq!((attempt.outcome, attempt.status.to_string().as_str()), (Outcome::Deferred, "4.3.5"));
            assert!(attempt.text.contains(next_hop), "{}", attempt.text);
        }
    }

    /// RFC 5321 §5.1.
    #[tokio::test]
    async fn an_address_is_no_exchanger() {
        assert_eq!(places("some.example").await.unwrap(), ["192.0.2.host.example"]);
        for domain in ["address.example", "forgeable.example"] {
            let expected = format!("Deferred 4.4.4 the MX records of {domain} name addresses, not hosts");
            assert_eq!(places(domain).await.unwrap_err(), expected);
        }
    }

    #[tokio::test]
    async fn r207_equals_take_turns() {
        let mut first = std::collections::BTreeSet::new();
        for _ in 0..64 {
            first.insert(places("equal.example").await.unwrap().swap_remove(0));
        }
        assert_eq!(first.len(), 2);
    }
}
