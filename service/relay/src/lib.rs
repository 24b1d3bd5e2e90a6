//! Outbound SMTP and LMTP: to the next hop, over the protected way.
//!
//! [`Relay::hosts`] finds the hosts of a destination in their order, [`Relay::open`] goes through them until one lets us
//! in with the protection that is demanded, and the [`Call`] that comes of it carries message after message.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `hosts` | mail exchangers, their order, loops |
//! | `open` | connecting, TLS, what to do where it fails |
//! | `observe` | what reports about TLS say of it |
//! | `call` | messages over an open session |
//! | `wire` | the loop that carries `smtp_proto::client::Session` over a socket |
//! | `tls` | rustls as the connecting side |

mod call;
mod hosts;
mod observe;
mod open;
pub mod policy_fetch;
pub mod state_file;
#[cfg(test)]
mod testing;
pub mod tls;
mod wire;

pub use call::{Call, Parcel, Sent};
pub use hosts::Hosts;
pub use observe::TlsObserver;
pub use wire::{Stream, Wire};

use dns::{Families, Lookup};
use mail::Domain;
use policy_fetch::Policies;
use smtp_proto::client::Timeouts;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tls::Trust;
use transport_security::Level;

/// How mail goes out.
pub struct Settings {
    /// Our name in EHLO. Also the name that must not be met among the exchangers we pass mail on to.
    pub host_name: Domain,
    /// Other names of this host.
    pub own_names: Vec<Domain>,
    /// The port of SMTP between servers.
    pub smtp_port: u16,
    /// Addresses to connect from, at most one of each family is used; without one the system chooses.
    pub sources: Vec<IpAddr>,
    /// Which addresses of hosts are used.
    pub families: Families,
    /// Whether an IPv6 connection is given up when our own address has no name that leads back to it, while there is an
    /// IPv4 address to try (P25).
    pub needs_reverse_name: bool,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the dialogue may take.
    pub timeouts: Timeouts,
    /// Hosts of a destination that are tried in one go.
    pub hosts_max: usize,
    /// What is demanded of the way to a destination; see [`Settings::level`].
    pub levels: BTreeMap<String, Level>,
    /// Whether the answers of the resolver can be relied on for DANE.
    pub dane: bool,
}

impl Settings {
    /// The level of a destination: its own, that of the nearest domain above it (written `.domain`), that of `*`.
    fn level(&self, domain: &Domain) -> Level {
        let above = std::iter::successors(domain.parent(), Domain::parent).map(|above| format!(".{above}"));
        let keys = std::iter::once(domain.to_string()).chain(above).chain(["*".to_owned()]);
        keys.filter_map(|key| self.levels.get(&key)).next().cloned().unwrap_or(Level::Published)
    }

    fn is_own(&self, domain: &str) -> bool {
        std::iter::once(&self.host_name).chain(&self.own_names).any(|own| own.as_str().eq_ignore_ascii_case(domain))
    }
}

/// Takes mail to next hops.
pub struct Relay {
    settings: Settings,
    lookup: Arc<dyn Lookup>,
    trust: Trust,
    policies: Option<Policies>,
    observer: Option<Arc<dyn TlsObserver>>,
}

impl Relay {
    /// A relay that asks `lookup` for hosts, and trusts the authorities of `trust` where certificates are demanded.
    pub fn new(settings: Settings, lookup: Arc<dyn Lookup>, trust: Trust, policies: Option<Policies>) -> Relay {
        Relay { settings, lookup, trust, policies, observer: None }
    }

    /// The same, with somebody who hears how protected each session was.
    pub fn observed_by(self, observer: Arc<dyn TlsObserver>) -> Relay {
        Relay { observer: Some(observer), ..self }
    }

    /// Who looks up names.
    pub fn lookup(&self) -> &Arc<dyn Lookup> {
        &self.lookup
    }
}
