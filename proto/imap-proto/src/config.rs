//! What an administrator sets for IMAP sessions, and the limits nobody sets.

use std::time::Duration;

/// Longest command line of an authenticated client, literals not counted, in octets. RFC 2683 §3.2.1.5 asks servers to
/// take 8,000; long message sets need more.
pub const LINE_OCTETS_MAX: usize = 64 * 1_024;
/// All literals of one command together, the message of APPEND not counted, in octets.
pub const LITERALS_OCTETS_MAX: u64 = 128 * 1_024;
/// Longest command line before login, in octets; room for a SASL response with the longest fields that `sasl` takes.
pub const LINE_BEFORE_LOGIN_OCTETS_MAX: usize = 8 * 1_024;
/// Longest single literal before login, in octets: a login name or a password (V22).
pub const LITERAL_BEFORE_LOGIN_OCTETS_MAX: u64 = 1_024;
/// All literals of one command before login together, in octets (V22).
pub const LITERALS_BEFORE_LOGIN_OCTETS_MAX: u64 = 8 * 1_024;
/// A refused literal that the client sends without waiting is read and thrown away up to this size in octets; beyond it
/// the connection is closed (RFC 7888 §4 leaves the choice).
pub const SWALLOWED_OCTETS_MAX: u64 = 256 * 1_024 * 1_024;
/// Longest tag in octets. Clients use ten at most.
pub const TAG_OCTETS_MAX: usize = 128;
/// Bad commands and failed logins in a row before the connection is closed.
pub const BAD_COMMANDS_MAX: u32 = 20;
/// Commands before login; a client needs about five.
pub const COMMANDS_BEFORE_LOGIN_MAX: u32 = 100;
/// Responses are sent when so many octets have gathered, or when there is nothing more to do.
pub const FLUSH_OCTETS: usize = 32 * 1_024;
/// Messages in one APPEND (RFC 3502).
pub const MESSAGES_PER_APPEND_MAX: usize = 1_000;
/// Names of mailboxes in one LIST-STATUS response (RFC 5819) whose pictures are asked for at once.
pub const STATUS_BATCH_MAILBOXES_MAX: usize = 100;

/// Settings of an IMAP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name we greet with.
    pub host_name: String,
    /// Whether STARTTLS is offered in the clear. Login is never possible without TLS (R48, R49).
    pub tls_available: bool,
    /// Capabilities that are not announced, by name, in any case, and whose commands and arguments are then unknown (D10).
    pub capabilities_masked: Vec<String>,
    /// Largest message that APPEND takes, in octets (RFC 7889).
    pub append_octets_max: u64,
    /// Unix time in seconds at the moment zero of the driver's clock, which OLDER and YOUNGER count from (RFC 5032).
    /// Without it WITHIN is not announced.
    pub unix_seconds_at_zero: Option<i64>,
    /// How often an idling client is told that we are there (R52).
    pub idle_keepalive: Duration,
    /// How long a client may take for one command before login.
    pub before_login_timeout: Duration,
    /// How long a client may be silent after login. RFC 9051 §5.4 wants at least 30 minutes.
    pub silence_timeout: Duration,
}

impl Config {
    /// The defaults for a host.
    pub fn new(host_name: impl Into<String>) -> Config {
        Config {
            host_name: host_name.into(),
            tls_available: true,
            capabilities_masked: Vec::new(),
            append_octets_max: 51_200_000,
            unix_seconds_at_zero: None,
            idle_keepalive: Duration::from_secs(120),
            before_login_timeout: Duration::from_secs(60),
            silence_timeout: Duration::from_secs(30 * 60),
        }
    }

    /// Whether a capability is not masked.
    pub fn offers(&self, capability: &str) -> bool {
        !self.capabilities_masked.iter().any(|masked| masked.eq_ignore_ascii_case(capability))
    }
}
