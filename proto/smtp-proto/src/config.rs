//! What a listener is, what it offers, and how much it bears. Not policy: who may send is the house's answer.

use crate::question::Role;
use std::time::Duration;

/// Largest message in octets unless the configuration says otherwise.
pub const MESSAGE_OCTETS_MAX: u64 = 51_200_000;
/// Recipients of one transaction unless the configuration says otherwise; RFC 5321 §4.5.3.1.8 asks for at least 100.
pub const RECIPIENTS_MAX: usize = 1_000;
/// RFC 5321 §4.5.3.2.7: at least five minutes for the next command.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// RFC 5321 §4.5.3.2.5 gives the client three minutes for a block; we bear a little more.
pub const DATA_TIMEOUT: Duration = Duration::from_secs(300);
/// Errors from which on a session is slowed down.
pub const ERRORS_SOFT_MAX: u32 = 10;
/// Errors at which a session is ended.
pub const ERRORS_HARD_MAX: u32 = 20;

/// A set of service extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extensions(u16);

impl Extensions {
    /// None of them.
    pub const NONE: Extensions = Extensions(0);
    /// RFC 2920. Masked, it is only not announced: commands that come together are answered all the same.
    pub const PIPELINING: Extensions = Extensions(1);
    /// RFC 1870. Masked, the limit still holds.
    pub const SIZE: Extensions = Extensions(1 << 1);
    /// RFC 5321 §3.5.2.
    pub const VRFY: Extensions = Extensions(1 << 2);
    /// RFC 1985.
    pub const ETRN: Extensions = Extensions(1 << 3);
    /// RFC 3207.
    pub const STARTTLS: Extensions = Extensions(1 << 4);
    /// RFC 4954.
    pub const AUTH: Extensions = Extensions(1 << 5);
    /// RFC 2034. Masked, it is only not announced: replies keep their codes.
    pub const ENHANCEDSTATUSCODES: Extensions = Extensions(1 << 6);
    /// RFC 6152.
    pub const EIGHT_BIT_MIME: Extensions = Extensions(1 << 7);
    /// RFC 3461.
    pub const DSN: Extensions = Extensions(1 << 8);
    /// RFC 6531.
    pub const SMTPUTF8: Extensions = Extensions(1 << 9);
    /// RFC 3030, without BINARYMIME.
    pub const CHUNKING: Extensions = Extensions(1 << 10);
    /// RFC 8689. Announced inside TLS only.
    pub const REQUIRETLS: Extensions = Extensions(1 << 11);
    /// All of them.
    pub const ALL: Extensions = Extensions((1 << 12) - 1);
    /// What ports 25, 587 and 465 announce by default: what every client is known to bear (R87 to R91).
    pub const SMTP_DEFAULT: Extensions =
        Extensions::ALL.without(Extensions::SMTPUTF8).without(Extensions::CHUNKING).without(Extensions::REQUIRETLS);
    /// What LMTP announces by default (R62).
    pub const LMTP_DEFAULT: Extensions = Extensions::PIPELINING
        .with(Extensions::SIZE)
        .with(Extensions::ENHANCEDSTATUSCODES)
        .with(Extensions::EIGHT_BIT_MIME)
        .with(Extensions::DSN)
        .with(Extensions::CHUNKING);

    /// Each extension by its EHLO keyword.
    pub const NAMES: [(&'static str, Extensions); 12] = [
        ("PIPELINING", Extensions::PIPELINING),
        ("SIZE", Extensions::SIZE),
        ("VRFY", Extensions::VRFY),
        ("ETRN", Extensions::ETRN),
        ("STARTTLS", Extensions::STARTTLS),
        ("AUTH", Extensions::AUTH),
        ("ENHANCEDSTATUSCODES", Extensions::ENHANCEDSTATUSCODES),
        ("8BITMIME", Extensions::EIGHT_BIT_MIME),
        ("DSN", Extensions::DSN),
        ("SMTPUTF8", Extensions::SMTPUTF8),
        ("CHUNKING", Extensions::CHUNKING),
        ("REQUIRETLS", Extensions::REQUIRETLS),
    ];

    /// Finds an extension by its EHLO keyword, in any case.
    pub fn parse(keyword: &str) -> Option<Extensions> {
        Extensions::NAMES
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(keyword))
            .map(|(_, extension)| extension)
    }

    /// Those of both sets.
    pub const fn with(self, other: Extensions) -> Extensions {
        Extensions(self.0 | other.0)
    }

    /// Those that are not in the other set.
    pub const fn without(self, other: Extensions) -> Extensions {
        Extensions(self.0 & !other.0)
    }

    /// Whether all of the other set are in this one.
    pub const fn contain(self, other: Extensions) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One listener's settings, shared by its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What the listener is for.
    pub role: Role,
    /// Our name in greetings and replies: a domain name.
    pub host_name: String,
    /// What follows `220 ` in the greeting; `None` for the host name and `ESMTP` or `LMTP` (R86).
    pub banner: Option<String>,
    /// Largest message, in octets as stored.
    pub message_octets_max: u64,
    /// Most recipients of one transaction.
    pub recipients_max: usize,
    /// Whether there is a certificate to start TLS with.
    pub tls_available: bool,
    /// Whether nearly every command needs TLS first (R18).
    pub tls_required: bool,
    /// Whether clients may authenticate. Takes effect inside TLS only, and never with [`Role::Mx`] (R73, R74).
    pub auth_offered: bool,
    /// Whether a transaction needs authentication first.
    pub auth_required: bool,
    /// The extensions that are announced; commands and parameters of the others are unknown.
    pub extensions: Extensions,
    /// Time for the next command, from the moment we wait for it.
    pub command_timeout: Duration,
    /// Time without an octet of message text.
    pub data_timeout: Duration,
    /// How long to listen for clients that talk before the greeting (R99). Zero greets at once; what is there already is
    /// noticed all the same.
    pub greeting_delay: Duration,
    /// Errors from which on [`Session::is_slowed`](crate::Session::is_slowed).
    pub errors_soft_max: u32,
    /// Errors at which the session ends. An accepted message sets the count back to zero.
    pub errors_hard_max: u32,
    /// Whether a bare LF is a line end, also for the `.` that ends a message (R198): for trusted networks only.
    /// [`Session::with_lenient_line_ends`](crate::Session::with_lenient_line_ends) decides for one session.
    pub lenient_line_ends: bool,
}

impl Config {
    /// The defaults of a role: no TLS and no authentication yet.
    pub fn new(role: Role, host_name: impl Into<String>) -> Config {
        Config {
            role,
            host_name: host_name.into(),
            banner: None,
            message_octets_max: MESSAGE_OCTETS_MAX,
            recipients_max: RECIPIENTS_MAX,
            tls_available: false,
            tls_required: false,
            auth_offered: false,
            auth_required: false,
            extensions: match role {
                Role::Mx | Role::Submission => Extensions::SMTP_DEFAULT,
                Role::Lmtp => Extensions::LMTP_DEFAULT,
            },
            command_timeout: COMMAND_TIMEOUT,
            data_timeout: DATA_TIMEOUT,
            greeting_delay: Duration::ZERO,
            errors_soft_max: ERRORS_SOFT_MAX,
            errors_hard_max: ERRORS_HARD_MAX,
            lenient_line_ends: false,
        }
    }

    /// The text of the greeting (RFC 5321 §4.3.1: our name comes first).
    pub(crate) fn banner(&self) -> String {
        let protocol = match self.role {
            Role::Mx | Role::Submission => "ESMTP",
            Role::Lmtp => "LMTP",
        };
        self.banner.clone().unwrap_or_else(|| format!("{} {protocol}", self.host_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let set = Extensions::SIZE.with(Extensions::DSN);
        assert!(set.contain(Extensions::SIZE) && set.contain(Extensions::DSN) && !set.contain(Extensions::VRFY));
        assert!(!set.without(Extensions::DSN).contain(Extensions::DSN));
        assert!(Extensions::ALL.contain(set) && !Extensions::SMTP_DEFAULT.contain(Extensions::CHUNKING));
        assert!(Extensions::ALL.contain(Extensions::CHUNKING));
    }
}
