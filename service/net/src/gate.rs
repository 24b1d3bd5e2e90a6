//! How many connections there may be: in all, per listener, per address.

use crate::connection::HANDSHAKE_MAX;
use crate::networks::{Networks, masked};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Limits on the connections of a listener, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once.
    pub connections_max: usize,
    /// Most connections at once from one IPv4 address or one IPv6 /64, which is what one site or attacker has.
    pub per_address_max: usize,
    /// Addresses to which `per_address_max` does not apply, such as a webmail host or a proxy.
    pub per_address_exempt: Networks,
    /// Longest TLS handshake.
    pub handshake_max: Duration,
    /// How long sessions may go on after a shutdown was requested before they are dropped.
    pub shutdown_grace: Duration,
}

/// Counts connections and refuses those beyond the limits. Clones count together.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

/// The place of one connection; given back when dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Gate,
    address: Option<IpAddr>,
    _outer: Option<Box<Pass>>,
}

/// The limit that refused a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::connections_max`].
    Connections,
    /// [`Limits::per_address_max`].
    PerAddress,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    outer: Option<Gate>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    // Holds only addresses with connections, so it is bounded by `connections_max`.
    per_address: HashMap<IpAddr, usize>,
}

impl Gate {
    /// A gate with limits of its own.
    pub fn new(limits: Limits) -> Gate {
        Gate(Arc::new(Inner { limits, outer: None, counts: Mutex::default() }))
    }

    /// A gate whose connections also count against this one: a listener's within the whole server's.
    pub fn within(&self, limits: Limits) -> Gate {
        Gate(Arc::new(Inner { limits, outer: Some(self.clone()), counts: Mutex::default() }))
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// How many connections there are now.
    pub fn connections(&self) -> usize {
        self.counts().connections
    }

    /// Takes a place for a connection whose address is not known yet, or has none.
    pub fn enter(&self) -> Result<Pass, Limit> {
        let outer = self.0.outer.as_ref().map(Gate::enter).transpose()?.map(Box::new);
        let mut counts = self.counts();
        if counts.connections >= self.0.limits.connections_max {
            return Err(Limit::Connections);
        }
        counts.connections += 1;
        Ok(Pass { gate: self.clone(), address: None, _outer: outer })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Counts the connection for its peer's address. To be called once.
    pub fn claim(&mut self, address: IpAddr) -> Result<(), Limit> {
        let limits = self.gate.limits();
        if !limits.per_address_exempt.contain(address) {
            let site = site_of(address);
            let mut counts = self.gate.counts();
            let count = counts.per_address.get(&site).copied().unwrap_or_default();
            if count >= limits.per_address_max {
                return Err(Limit::PerAddress);
            }
            counts.per_address.insert(site, count + 1);
            drop(counts);
            self.address = Some(site);
        }
        match &mut self._outer {
            Some(outer) => outer.claim(address),
            None => Ok(()),
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.gate.counts();
        counts.connections = counts.connections.saturating_sub(1);
        if let Some(site) = self.address
            && let Some(count) = counts.per_address.get_mut(&site)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.per_address.remove(&site);
            }
        }
    }
}

/// The part of an address that stands for one site.
fn site_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => masked(IpAddr::V6(address), IPV6_SITE_PREFIX),
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 10_000,
            per_address_max: 100,
            per_address_exempt: Networks::default(),
            handshake_max: HANDSHAKE_MAX,
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

impl Limit {
    /// Its name in log lines and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Connections => "connections_max",
            Limit::PerAddress => "per_address_max",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bits of an IPv6 address that one customer gets at least.
const IPV6_SITE_PREFIX: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections_max: usize, per_address_max: usize) -> Limits {
        Limits { connections_max, per_address_max, ..Limits::default() }
    }

    fn enter(gate: &Gate, address: &str) -> Result<Pass, Limit> {
        let mut pass = gate.enter()?;
        pass.claim(address.parse().unwrap())?;
        Ok(pass)
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let gate = Gate::new(limits(2, 2));
        let first = enter(&gate, "192.0.2.1").unwrap();
        let _second = enter(&gate, "192.0.2.1").unwrap();
        assert_eq!(enter(&gate, "192.0.2.2").unwrap_err(), Limit::Connections);
        drop(first);
        assert!(enter(&gate, "192.0.2.2").is_ok());
        assert_eq!(gate.connections(), 1);
    }

    #[test]
    fn one_site_cannot_take_all_places() {
        let gate = Gate::new(limits(10, 1));
        let _v4 = enter(&gate, "192.0.2.1").unwrap();
        assert_eq!(enter(&gate, "::ffff:192.0.2.1").unwrap_err(), Limit::PerAddress);
        let _v6 = enter(&gate, "2001:db8::1").unwrap();
        assert_eq!(enter(&gate, "2001:db8::2:3").unwrap_err(), Limit::PerAddress);
        let _neighbour = enter(&gate, "2001:db8:0:1::1").unwrap();
        assert_eq!(gate.connections(), 3, "refused connections take no place");
    }

    /// V58: an address that is exempt is never refused for its number of connections.
    #[test]
    fn exempt_addresses_are_not_counted() {
        let exempt = Limits { per_address_exempt: "10.0.0.0/8".parse().unwrap(), ..limits(10, 1) };
        let gate = Gate::new(exempt);
        let passes: Vec<_> = (0..5).map(|_| enter(&gate, "10.1.1.1").unwrap()).collect();
        assert_eq!(passes.len(), 5);
    }

    #[test]
    fn a_listener_counts_within_the_whole() {
        let whole = Gate::new(limits(2, 2));
        let smtp = whole.within(limits(10, 10));
        let imap = whole.within(limits(1, 10));
        let _mail = enter(&smtp, "192.0.2.1").unwrap();
        let _read = enter(&imap, "192.0.2.1").unwrap();
        assert_eq!(enter(&imap, "192.0.2.2").unwrap_err(), Limit::Connections);
        assert_eq!(enter(&smtp, "192.0.2.2").unwrap_err(), Limit::Connections);
        drop(_read);
        assert!(enter(&smtp, "192.0.2.2").is_ok());
        assert_eq!((whole.connections(), smtp.connections(), imap.connections()), (1, 1, 0));
    }

    #[test]
    fn refusals_leave_nothing_behind() {
        let whole = Gate::new(limits(10, 1));
        let part = whole.within(limits(10, 5));
        let _held = enter(&part, "192.0.2.1").unwrap();
        assert_eq!(enter(&part, "192.0.2.1").unwrap_err(), Limit::PerAddress);
        assert_eq!((whole.connections(), part.connections()), (1, 1));
        assert_eq!(part.counts().per_address.get(&"192.0.2.1".parse().unwrap()), Some(&1));
    }
}
