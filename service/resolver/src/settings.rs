//! What the resolver is told: which servers to ask, whom to believe, how long to wait and to remember.

use crate::local::Hosts;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Where the system names its servers.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// RFC 1035 §4.2.
pub const PORT: u16 = 53;
/// Servers that are asked; resolv.conf(5) takes three.
pub const SERVERS_MAX: usize = 8;

/// The stub of systemd-resolved and its proxy. They pass on the AD bit of whatever server they forward to when DO is
/// set, so they are no reason to believe it although they sit on loopback.
const FORWARDERS_ON_LOOPBACK: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(127, 0, 0, 54)];

/// Who validates DNSSEC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The servers do, and their word (the AD bit) counts when the path to them is safe: on loopback, or listed.
    Trusting,
    /// We do, from the root's key down, over servers that need not be trusted but must pass on DNSSEC records.
    Validating,
    /// Nobody does: every answer is insecure, and DANE is off.
    Plain,
}

/// How to resolve.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The recursive servers, asked in this order, at most [`SERVERS_MAX`]; empty for those of [`RESOLV_CONF`].
    pub servers: Vec<SocketAddr>,
    /// Who validates.
    pub mode: Mode,
    /// Servers off this machine whose AD bit is believed: they validate, and nobody else can speak in between (R9).
    pub trusted: Vec<IpAddr>,
    /// Whether the AD bit of servers on loopback is believed without listing them. 127.0.0.53 and 127.0.0.54, which
    /// are systemd-resolved, need listing all the same, since they pass on what others claim.
    pub loopback_is_trusted: bool,
    /// How long one server is waited for at first; a second round waits twice as long.
    pub try_timeout: Duration,
    /// How long a whole lookup may take, with aliases, every server and all it takes to validate.
    pub timeout: Duration,
    /// Answers that are remembered.
    pub cache_entries_max: usize,
    /// A shorter TTL is raised to this, except zero, which is never remembered.
    pub ttl_min: Duration,
    /// A longer TTL is cut to this.
    pub ttl_max: Duration,
    /// Absence is remembered no longer than this (RFC 2308 §5).
    pub negative_ttl_max: Duration,
    /// Names that are answered from here, before any server.
    pub hosts: Hosts,
    /// Keys that [`Mode::Validating`] starts from, as DNSKEY lines of a master file; `None` for the root's own.
    pub trust_anchors: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            servers: Vec::new(),
            mode: Mode::Trusting,
            trusted: Vec::new(),
            loopback_is_trusted: true,
            try_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(15),
            cache_entries_max: 10_000,
            ttl_min: Duration::ZERO,
            ttl_max: Duration::from_secs(86_400),
            negative_ttl_max: Duration::from_secs(900),
            hosts: Hosts::default(),
            trust_anchors: None,
        }
    }
}

/// Why there can be no resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingsError {
    /// The trust anchors cannot be read.
    TrustAnchors(String),
    /// More than [`SERVERS_MAX`] servers.
    TooManyServers,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsError::TrustAnchors(cause) => write!(f, "the trust anchors cannot be read: {cause}"),
            SettingsError::TooManyServers => write!(f, "more than {SERVERS_MAX} DNS servers"),
        }
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Whether the AD bit of this server counts (R9).
    pub fn trusts(&self, server: SocketAddr) -> bool {
        let address = server.ip().to_canonical();
        let is_forwarder = FORWARDERS_ON_LOOPBACK.iter().any(|forwarder| address == IpAddr::V4(*forwarder));
        self.trusted.iter().any(|listed| listed.to_canonical() == address)
            || (self.loopback_is_trusted && address.is_loopback() && !is_forwarder)
    }
}

/// The servers that a text like resolv.conf(5) names, the first three; that on this machine when it names none.
pub fn servers_of(resolv_conf: &str) -> Vec<SocketAddr> {
    let server_of = |line: &str| {
        let mut words = line.split_whitespace();
        // An address with a scope, such as `fe80::1%eth0`, is left out: it means something on one interface only.
        let address: IpAddr = words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()?;
        Some(SocketAddr::new(address, PORT))
    };
    let servers: Vec<SocketAddr> = resolv_conf.lines().filter_map(server_of).take(3).collect();
    if servers.is_empty() { vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)] } else { servers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_the_system() {
        let text = "# x\nsearch example.net\nnameserver 192.0.2.1\n nameserver\t2001:db8::1\nnameserver fe80::1%eth0\n\
                    nameserver\nnameserver 192.0.2.2 # x\nnameserver 192.0.2.3";
        let servers: Vec<String> = servers_of(text).iter().map(SocketAddr::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
        assert_eq!(servers_of(""), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn r9_whose_word_counts() {
        let trusted = vec!["192.0.2.1".parse().unwrap(), "127.0.0.54".parse().unwrap()];
        let mut settings = Settings { trusted, ..Settings::default() };
        let trusts = |settings: &Settings, server: &str| settings.trusts(server.parse().unwrap());
        assert!(trusts(&settings, "127.0.0.1:53") && trusts(&settings, "127.9.9.9:53"));
        assert!(trusts(&settings, "[::1]:5353") && trusts(&settings, "[::ffff:127.0.0.1]:53"));
        assert!(trusts(&settings, "192.0.2.1:53") && !trusts(&settings, "192.0.2.2:53"));
        assert!(!trusts(&settings, "127.0.0.53:53"), "V43: passes on what others claim");
        assert!(trusts(&settings, "127.0.0.54:53"), "listed");
        settings.loopback_is_trusted = false;
        assert!(!trusts(&settings, "127.0.0.1:53") && trusts(&settings, "192.0.2.1:53"));
    }
}
