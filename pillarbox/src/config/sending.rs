//! The settings of everything that leaves: queue, outbound SMTP, DNS, submission, forwarding, archive, history.

use super::settings::section;
use mail::Domain;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use transport_security::{Level, ReferenceName, dane};

section! {
    /// `[queue]`: how long and how often delivery is tried, and how much at once.
    pub struct Queue {
        /// Seconds from the first failure to the second try. Waits double from then on.
        pub first_retry_seconds: u64 = 300;
        /// Longest wait between two tries, in seconds.
        pub longest_retry_seconds: u64 = 4_000;
        /// Hours after which mail that cannot be delivered goes back to its sender. `0`: after the first try.
        pub life_hours: u64 = 120;
        /// The same for bounces, which then are dropped.
        pub bounce_life_hours: u64 = 120;
        /// Hours after which a sender is told that its mail is late. `0`: never, unless it asked for it (NOTIFY=DELAY).
        pub delay_notice_hours: u64 = 0;
        /// Most connections to other servers at once.
        pub connections: u32 = 100;
        /// Most connections to one destination at once.
        pub connections_per_destination: u16 = 20;
        /// Most recipients of one transaction.
        pub recipients_per_delivery: u32 = 50;
        /// Most messages over one connection.
        pub messages_per_connection: u32 = 100;
        /// Messages a minute to one destination, in the long run; `0`: as many as it takes. A list of destinations, such as
        /// `{ "example.org" = 60 }`: domains, or transports as `queue list` shows them. What demands TLS (REQUIRETLS) is
        /// counted by itself, and so is what goes to a domain as the next hop of others.
        pub messages_per_minute: BTreeMap<String, u32> = BTreeMap::new();
    }
}

section! {
    /// `[outbound]`: how mail goes to other servers.
    pub struct Outbound {
        /// Next hop of everything for the outside that no table sends elsewhere: `[host]:port`, or a domain whose mail
        /// exchangers are looked up. Empty: straight to the recipients' servers. A login there goes into the table
        /// `relay_credentials`.
        pub smarthost: String = String::new();
        /// The port of SMTP between servers.
        pub port: u16 = 25;
        /// Other names of this host, besides `host_name`: mail that is passed on never goes to an exchanger of such a name.
        pub own_names: Vec<String> = Vec::new();
        /// Addresses to connect from, at most one of each family. Empty: the system chooses.
        pub source_addresses: Vec<String> = Vec::new();
        /// Which addresses of other servers are used.
        pub address_family: AddressFamily = AddressFamily::Both;
        /// Whether IPv6 is passed over for IPv4 while our own address has no name in DNS that leads back to it: large
        /// receivers refuse such clients.
        pub ipv6_needs_reverse_name: bool = true;
        /// Seconds for a connection to come about.
        pub connect_timeout_seconds: u64 = 30;
        /// Seconds to wait for a greeting and for a reply to EHLO, MAIL and RCPT.
        pub reply_timeout_seconds: u64 = 300;
        /// Certificate authorities to trust where a certificate must be trusted, a PEM file. Empty: those of the system.
        pub ca_file: PathBuf = PathBuf::new();
        /// Whether DANE (RFC 7672) is followed, where the resolver can prove its answers.
        pub dane: bool = true;
        /// Whether MTA-STS policies (RFC 8461) are fetched and followed.
        pub mta_sts: bool = true;
        /// The port on which policies are fetched, over HTTPS.
        pub mta_sts_port: u16 = 443;
        /// Whether policies are also fetched from hosts at loopback and link-local addresses: for private networks only.
        pub mta_sts_private_hosts: bool = false;
        /// Whether daily reports about TLS (RFC 8460) are sent to domains that ask for them.
        pub tls_reports: bool = true;
        /// What is demanded of the way to a destination: `{ "example.org" = "encrypt", ".example.net" = "verify" }`; a
        /// leading dot means the domains below, `*` all others. `published`: what the domain publishes, TLS if it can be
        /// had otherwise (the default). `none`: no TLS. `may`: TLS if it can be had. `encrypt`: TLS always. `dane-only`:
        /// DANE always. `verify`: a trusted certificate with the host's name. `secure`: with the destination's name.
        /// `fingerprint HEX ...`: this certificate or key (SHA-256). `names NAME ...`: a trusted certificate with one of
        /// these names.
        pub tls: BTreeMap<String, String> = BTreeMap::new();
    }
}

/// Families of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressFamily {
    /// IPv4 and IPv6.
    Both,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

section! {
    /// `[dns]`: whom to ask for names.
    pub struct Dns {
        /// Servers to ask, `address` or `address:port`. Empty: those of /etc/resolv.conf.
        pub servers: Vec<String> = Vec::new();
        /// Who proves answers (DNSSEC), without which there is no DANE. `trusting`: a validating server on this machine, such
        /// as unbound, whose word counts. `validating`: we do, whatever server is asked. `plain`: nobody.
        pub mode: DnsMode = DnsMode::Trusting;
        /// Validating servers off this machine whose word counts as well: only over a path that nobody else can touch.
        pub trusted_servers: Vec<String> = Vec::new();
        /// Seconds that one lookup may take.
        pub timeout_seconds: u64 = 15;
        /// Answers that are remembered.
        pub cache_entries: u32 = 10_000;
        /// Keys to begin validation with, as DNSKEY lines, a file. Empty: the root's own. For private roots.
        pub trust_anchors: PathBuf = PathBuf::new();
    }
}

/// Who proves answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsMode {
    /// The server.
    Trusting,
    /// We.
    Validating,
    /// Nobody.
    Plain,
}

section! {
    /// `[submission]`: what holds for mail that our own accounts and trusted networks send.
    pub struct Submission {
        /// Rules for the header fields of submitted mail, one a line: `/pattern/ ACTION`. Empty: none.
        pub header_rules: PathBuf = PathBuf::new();
        /// Whether our own trace field tells nothing of the client: neither name nor address nor login.
        pub anonymous_trace: bool = false;
        /// Whether the author in From: must be an address that the account may send as, too.
        pub check_author: bool = false;
        /// Whether Bcc: fields are left in. They are taken out unless this says so.
        pub keep_bcc: bool = false;
        /// Most messages of an account in any hour. `0`: without limit.
        pub messages_per_hour: u32 = 0;
        /// Most messages of an account in any day. `0`: without limit.
        pub messages_per_day: u32 = 0;
        /// Most recipients of an account in any hour. `0`: without limit.
        pub recipients_per_hour: u32 = 0;
        /// Most recipients of an account in any day. `0`: without limit.
        pub recipients_per_day: u32 = 0;
    }
}

section! {
    /// `[forwarding]`: mail that an alias sends on to another house.
    pub struct Forwarding {
        /// Whether its reverse-path is rewritten to one of our own (SRS), so that SPF of its sender does not fail it at the
        /// next server, and reports find their way back.
        pub rewrite_sender: bool = true;
        /// The domain of rewritten reverse-paths; its mail must come to this server. Empty: the host name.
        pub domain: String = String::new();
        /// File with the secrets that sign rewritten reverse-paths, one a line, the newest first. Made if it is missing, in
        /// the storage folder when empty.
        pub secret_file: PathBuf = PathBuf::new();
    }
}

section! {
    /// `[archive]`: a copy of every message that passes through.
    pub struct Archive {
        /// The mailbox or address that gets the copies. Empty: no archive. Copies go through the queue, so that an archive in
        /// trouble never keeps mail from anybody.
        pub address: String = String::new();
    }
}

section! {
    /// `[history]`: what `pillarbox why` can tell.
    pub struct History {
        /// Days that the story of a message is kept.
        pub days: u32 = 30;
        /// Most messages whose story is kept; the oldest are forgotten first. One takes some 400 octets.
        pub messages: u64 = 5_000_000;
    }
}

impl Queue {
    /// When to try again and when to give up.
    pub fn plan(&self) -> queue::RetryPlan {
        let hours = |hours: u64| Duration::from_secs(hours.saturating_mul(3_600));
        queue::RetryPlan {
            first_retry: Duration::from_secs(self.first_retry_seconds),
            longest_retry: Duration::from_secs(self.longest_retry_seconds),
            life: hours(self.life_hours),
            bounce_life: hours(self.bounce_life_hours),
            delay_notice: (self.delay_notice_hours > 0).then(|| hours(self.delay_notice_hours)),
        }
    }

    /// How much at once.
    pub fn schedule(&self) -> queue::ScheduleSettings {
        let limits = queue::DestinationLimits {
            couriers_max: self.connections_per_destination,
            recipients_per_job_max: self.recipients_per_delivery,
            rate: None,
        };
        let limited = |(name, per_minute): (&String, &u32)| {
            let per_minute = std::num::NonZeroU32::new(*per_minute)?;
            let rate = Some(queue::RateLimit { per_minute, burst: std::num::NonZeroU32::MIN });
            let limits = queue::DestinationLimits { rate, ..limits };
            Some(qmgr::destinations_of(name)?.into_iter().map(move |destination| (destination, limits)))
        };
        queue::ScheduleSettings {
            couriers_max: self.connections,
            limits,
            limits_of: self.messages_per_minute.iter().filter_map(limited).flatten().collect(),
            plan: self.plan(),
            ..queue::ScheduleSettings::default()
        }
    }
}

impl Submission {
    /// What accounts may submit; `None` where there is no limit at all.
    pub fn limits(&self) -> Option<queue::rate::RateLimits> {
        let limit = |number: u32| (number > 0).then_some(number);
        let limits = queue::rate::RateLimits {
            messages_per_hour: limit(self.messages_per_hour),
            messages_per_day: limit(self.messages_per_day),
            recipients_per_hour: limit(self.recipients_per_hour),
            recipients_per_day: limit(self.recipients_per_day),
        };
        (limits != queue::rate::RateLimits::default()).then_some(limits)
    }
}

/// A DNS server of the configuration: `address`, or `address:port`.
pub fn server(text: &str) -> Result<SocketAddr, AddrParseError> {
    /// RFC 1035 §4.2.
    const DNS_PORT: u16 = 53;
    text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS_PORT)))
}

/// Reads an entry of `outbound.tls`: the destination that is meant, and what is demanded of the way to it.
pub fn demand(destination: &str, level: &str) -> Option<(String, Level)> {
    Some((self::destination(destination)?, self::level(level)?))
}

/// A destination as it is looked up: a domain in A-labels, `.domain` for those below it, or `*`.
fn destination(text: &str) -> Option<String> {
    let (dot, domain) = text.strip_prefix('.').map_or(("", text), |below| (".", below));
    match text {
        "*" => Some(text.to_owned()),
        _ => Some(format!("{dot}{}", Domain::parse(domain).ok()?)),
    }
}

fn level(text: &str) -> Option<Level> {
    let mut words = text.split_whitespace();
    let level = match words.next()? {
        "published" => Level::Published,
        "none" => Level::Clear,
        "may" => Level::Opportunistic,
        "encrypt" => Level::Encrypted,
        "dane-only" => Level::DaneOnly,
        "verify" => Level::Verify,
        "secure" => Level::Secure,
        "names" => {
            let names: Option<Vec<ReferenceName>> = words.by_ref().map(ReferenceName::parse).collect();
            Level::Names(names.filter(|names| !names.is_empty())?)
        }
        "fingerprint" => {
            let prints: Option<Vec<_>> = words.by_ref().map(dane::fingerprint).collect();
            Level::Fingerprint(prints.filter(|prints| !prints.is_empty())?.concat())
        }
        _ => return None,
    };
    words.next().is_none().then_some(level)
}
