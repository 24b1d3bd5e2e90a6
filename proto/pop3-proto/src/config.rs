//! What a listener settles for its sessions.

use std::time::Duration;

/// Time without a command after which a session ends (RFC 1939 §3 asks for at least ten minutes).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// What all sessions of a listener share.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our name in the greeting; printable ASCII without `<`, which would announce APOP (RFC 2449 §6).
    pub host_name: String,
    /// Whether STLS may be used on connections that begin in the clear.
    pub tls_available: bool,
    /// Time without a command after which the session ends.
    pub idle_timeout: Duration,
    /// Capabilities that are not announced. A command that one of them adds is then unknown.
    pub masked: Vec<Capability>,
}

impl Config {
    /// Everything on, with the usual timeout.
    pub fn new(host_name: &str) -> Config {
        Config { host_name: host_name.to_owned(), tls_available: true, idle_timeout: IDLE_TIMEOUT, masked: Vec::new() }
    }

    /// Whether a capability is on.
    pub(crate) fn has(&self, capability: Capability) -> bool {
        !self.masked.contains(&capability)
    }
}

/// A line of the list of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// RFC 2449 §6.1.
    Top,
    /// RFC 2449 §6.8.
    Uidl,
    /// RFC 2449 §6.4.
    RespCodes,
    /// RFC 2449 §6.6.
    Pipelining,
    /// RFC 3206 §6.
    AuthRespCode,
    /// RFC 2595 §4.
    Stls,
    /// RFC 2449 §6.2.
    User,
    /// RFC 5034 §3.
    Sasl,
    /// RFC 2449 §6.7: mail is never removed unasked.
    Expire,
}

impl Capability {
    /// All of them, in the order they are announced.
    pub const ALL: [Capability; 9] = [
        Capability::Top,
        Capability::Uidl,
        Capability::RespCodes,
        Capability::Pipelining,
        Capability::AuthRespCode,
        Capability::Stls,
        Capability::User,
        Capability::Sasl,
        Capability::Expire,
    ];

    /// Its tag.
    pub fn name(self) -> &'static str {
        match self {
            Capability::Top => "TOP",
            Capability::Uidl => "UIDL",
            Capability::RespCodes => "RESP-CODES",
            Capability::Pipelining => "PIPELINING",
            Capability::AuthRespCode => "AUTH-RESP-CODE",
            Capability::Stls => "STLS",
            Capability::User => "USER",
            Capability::Sasl => "SASL",
            Capability::Expire => "EXPIRE",
        }
    }

    /// Finds a capability by its tag, without regard to case (RFC 2449 §5).
    pub fn parse(tag: &str) -> Option<Capability> {
        Capability::ALL.into_iter().find(|capability| capability.name().eq_ignore_ascii_case(tag))
    }
}
