//! How a session goes about it. Not policy: where a message goes, and what is done when a demand is not met, is the
//! house's business.

use mail::Domain;
use sasl::client::Identity;
use std::time::Duration;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 5321: one reply to the end of the data.
    Smtp,
    /// RFC 2033: one reply for each recipient taken.
    Lmtp,
}

/// Whether TLS is started where the connection did not begin inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsDemand {
    /// STARTTLS is not sent.
    Never,
    /// STARTTLS is sent if it is offered; if it is not, or is refused, the session goes on in the clear. A handshake that
    /// fails ends the session: the house may connect again with [`Never`](TlsDemand::Never).
    IfOffered,
    /// Nothing is sent outside TLS but EHLO and STARTTLS.
    Required,
}

/// How long to wait for the peer. Each but `envelope` is counted anew for each reply, and octets that are no whole reply
/// yet do not prolong it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the greeting; RFC 5321 §4.5.3.2.1: 5 minutes.
    pub greeting: Duration,
    /// For the reply to EHLO, HELO or LHLO; the RFC names none: 5 minutes.
    pub hello: Duration,
    /// For the reply to STARTTLS, and for the handshake, which the driver holds to it: 2 minutes.
    pub start_tls: Duration,
    /// For each reply of AUTH: 5 minutes.
    pub authentication: Duration,
    /// For the reply to MAIL, and to RSET; RFC 5321 §4.5.3.2.2: 5 minutes.
    pub mail: Duration,
    /// For the reply to RCPT; RFC 5321 §4.5.3.2.3: 5 minutes.
    pub recipient: Duration,
    /// For the reply to DATA; RFC 5321 §4.5.3.2.4: 2 minutes.
    pub data: Duration,
    /// For all replies from MAIL to DATA together, for each hundred recipients begun: 30 minutes. RFC 5321 §4.5.3.2 bounds
    /// single replies alone, and a peer that gave each at the last moment would hold us for days. A hundred recipients are
    /// what every peer takes at once (RFC 5321 §4.5.3.1.8), so that a slow peer has 18 seconds for each, however many.
    pub envelope: Duration,
    /// For the peer to take a block of text, which the driver holds its writes to, and for the reply to a chunk that is not
    /// the last; RFC 5321 §4.5.3.2.5: 3 minutes.
    pub block: Duration,
    /// For each reply to the end of the data; RFC 5321 §4.5.3.2.6: 10 minutes.
    pub end_of_data: Duration,
    /// For the reply to QUIT, which nobody needs: 5 seconds.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Timeouts {
            greeting: minutes(5),
            hello: minutes(5),
            start_tls: minutes(2),
            authentication: minutes(5),
            mail: minutes(5),
            recipient: minutes(5),
            data: minutes(2),
            envelope: minutes(30),
            block: minutes(3),
            end_of_data: minutes(10),
            quit: Duration::from_secs(5),
        }
    }
}

/// How much a peer may say in one reply. One that says more is broken, and the session with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Octets of a line without its end. RFC 5321 §4.5.3.1.5 allows 512 with it; some peers need more.
    pub line_octets_max: usize,
    /// Lines of a reply.
    pub lines_max: usize,
    /// Octets of a reply, line ends left out.
    pub octets_max: usize,
}

impl Default for ReplyLimits {
    fn default() -> ReplyLimits {
        ReplyLimits { line_octets_max: 4_096, lines_max: 256, octets_max: 64 * 1024 }
    }
}

/// The settings of sessions to one kind of next hop; shared by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What is spoken.
    pub protocol: Protocol,
    /// Our name in EHLO, HELO or LHLO: a host name, or an address literal.
    pub helo_name: Domain,
    /// Whether TLS is started.
    pub tls: TlsDemand,
    /// Who we are to the peer. Where this is set, no transaction begins without authentication.
    pub credentials: Option<Identity>,
    /// Whether credentials may be sent outside TLS: only for peers on a trusted wire.
    pub credentials_in_the_clear: bool,
    /// Whether commands go out in groups where that is offered (RFC 2920).
    pub pipelining: bool,
    /// Whether the text goes out with BDAT where that is offered (RFC 3030). What DATA cannot carry we do not send
    /// anyway, so this is off unless asked for.
    pub chunking: bool,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How much to hear.
    pub reply_limits: ReplyLimits,
}

impl Config {
    /// The defaults of a protocol: for SMTP TLS if it is offered; for LMTP, whose peers are our own kind, none.
    pub fn new(protocol: Protocol, helo_name: Domain) -> Config {
        Config {
            protocol,
            helo_name,
            tls: match protocol {
                Protocol::Smtp => TlsDemand::IfOffered,
                Protocol::Lmtp => TlsDemand::Never,
            },
            credentials: None,
            credentials_in_the_clear: false,
            pipelining: true,
            chunking: false,
            timeouts: Timeouts::default(),
            reply_limits: ReplyLimits::default(),
        }
    }
}
