//! A zone of the simulated DNS, as a test describes it, and as a zone file.

use super::certificate::Tlsa;
use std::fmt::{Display, Write};
use std::net::Ipv4Addr;

/// The name of the one name server.
const NAME_SERVER: &str = "ns.internet";
/// Longest character-string of a TXT record (RFC 1035 §3.3).
const STRING_MAX_OCTETS: usize = 255;

/// Whether a zone can be believed, and whether it answers at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Signed, with a chain to the root.
    Secure,
    /// Not signed, and its parent says so.
    Insecure,
    /// Signed by another key than its parent names: bogus.
    Bogus,
    /// Signed with signatures that have expired: bogus too.
    Expired,
    /// Its server answers SERVFAIL.
    Failing,
    /// Its server never answers.
    Silent,
}

/// A zone. Names are absolute, with or without the last dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) nsec3: bool,
    pub(crate) ttl_seconds: u32,
    records: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    owner: String,
    data: String,
    /// A service of the owner: published for the port of SMTP, and for the port that stands for it.
    of_smtp: bool,
}

impl Zone {
    fn new(name: &str, kind: Kind) -> Zone {
        Zone { name: bare(name), kind, nsec3: false, ttl_seconds: 0, records: Vec::new() }
    }

    /// A signed zone whose answers are secure.
    pub fn secure(name: &str) -> Zone {
        Zone::new(name, Kind::Secure)
    }

    /// A zone without signatures, which its parent proves.
    pub fn insecure(name: &str) -> Zone {
        Zone::new(name, Kind::Insecure)
    }

    /// A zone whose key is not the one that its parent names.
    pub fn bogus(name: &str) -> Zone {
        Zone::new(name, Kind::Bogus)
    }

    /// A zone whose signatures have expired.
    pub fn expired(name: &str) -> Zone {
        Zone::new(name, Kind::Expired)
    }

    /// A zone whose server answers SERVFAIL.
    pub fn failing(name: &str) -> Zone {
        Zone::new(name, Kind::Failing)
    }

    /// A zone whose server never answers.
    pub fn silent(name: &str) -> Zone {
        Zone::new(name, Kind::Silent)
    }

    /// Lets answers be kept this long; otherwise not at all.
    pub fn ttl_seconds(mut self, seconds: u32) -> Zone {
        self.ttl_seconds = seconds;
        self
    }

    /// Proves what does not exist by NSEC3 (RFC 5155 §3) rather than NSEC.
    pub fn nsec3(mut self) -> Zone {
        self.nsec3 = true;
        self
    }

    /// Adds any record: its owner, then type and data as in a zone file. Names in the data need their last dot.
    pub fn record(mut self, owner: &str, data: impl Into<String>) -> Zone {
        self.records.push(Record { owner: bare(owner), data: data.into(), of_smtp: false });
        self
    }

    /// Adds an MX record of the zone's own name.
    pub fn mx(self, preference: u16, host: &str) -> Zone {
        let owner = self.name.clone();
        self.mx_of(&owner, preference, host)
    }

    /// Adds an MX record of any name.
    pub fn mx_of(self, owner: &str, preference: u16, host: &str) -> Zone {
        self.record(owner, format!("MX {preference} {}.", bare(host)))
    }

    /// Adds the MX record that says: no mail here (RFC 7505 §3).
    pub fn null_mx(self) -> Zone {
        self.mx(0, ".")
    }

    /// Adds an address.
    pub fn a(self, owner: &str, address: Ipv4Addr) -> Zone {
        self.record(owner, format!("A {address}"))
    }

    /// Adds an alias.
    pub fn cname(self, owner: &str, target: &str) -> Zone {
        self.record(owner, format!("CNAME {}.", bare(target)))
    }

    /// Adds text: SPF, DKIM keys and the like.
    pub fn txt(self, owner: &str, text: &str) -> Zone {
        self.record(owner, format!("TXT {}", character_strings(text)))
    }

    /// Announces an MTA-STS policy (RFC 8461 §3.1).
    pub fn mta_sts(self, id: &str) -> Zone {
        let owner = format!("_mta-sts.{}", self.name);
        self.txt(&owner, &format!("v=STSv1; id={id};"))
    }

    /// Asks for reports of TLS failures (RFC 8460 §3).
    pub fn tls_rpt(self, destination: &str) -> Zone {
        let owner = format!("_smtp._tls.{}", self.name);
        self.txt(&owner, &format!("v=TLSRPTv1; rua={destination}"))
    }

    /// Adds a TLSA record of a host's SMTP: for port 25 (RFC 7672 §2.2.3), and for the port that stands for it here.
    pub fn tlsa(mut self, host: &str, tlsa: &Tlsa) -> Zone {
        self.records.push(Record { owner: bare(host), data: format!("TLSA {tlsa}"), of_smtp: true });
        self
    }

    /// Adds the name of an address to a zone under `in-addr.arpa`.
    pub fn ptr(self, address: Ipv4Addr, name: &str) -> Zone {
        let [a, b, c, d] = address.octets();
        self.record(&format!("{d}.{c}.{b}.{a}.in-addr.arpa"), format!("PTR {}.", bare(name)))
    }

    /// Whether this zone's parent names its key.
    pub(crate) fn is_chained(&self) -> bool {
        matches!(self.kind, Kind::Secure | Kind::Bogus | Kind::Expired)
    }

    /// Whether this zone contains a name: its own, or one below it.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.name.is_empty()
            || name == self.name
            || name.strip_suffix(&self.name).is_some_and(|rest| rest.ends_with('.'))
    }

    /// The zone file, without the keys; `serial` is its version.
    pub(crate) fn file(&self, serial: u32, place: &Place) -> String {
        let mut file = String::new();
        let mut line = |owner: &str, data: &dyn Display| {
            // Writing into a string cannot fail.
            let _ = writeln!(file, "{owner}. {} IN {data}", self.ttl_seconds);
        };
        line(
            &self.name,
            &format!("SOA {NAME_SERVER}. hostmaster.{NAME_SERVER}. {serial} 3600 600 86400 {}", self.ttl_seconds),
        );
        line(&self.name, &format!("NS {NAME_SERVER}."));
        if self.name.is_empty() {
            line(NAME_SERVER, &format!("A {}", place.name_server));
        }
        for record in &self.records {
            if record.of_smtp {
                for port in [25, place.smtp_port] {
                    line(&format!("_{port}._tcp.{}", record.owner), &record.data);
                }
            } else {
                line(&record.owner, &record.data);
            }
        }
        for (child, digest) in &place.children {
            line(child, &format!("NS {NAME_SERVER}."));
            if let Some(digest) = digest {
                line(child, &format!("DS {digest}"));
            }
        }
        file
    }
}

/// What a zone file needs to know of the rest of the internet.
pub(crate) struct Place {
    /// Address of the one name server.
    pub(crate) name_server: Ipv4Addr,
    /// The port that stands for port 25.
    pub(crate) smtp_port: u16,
    /// Zones right below this one, and the digests of their keys.
    pub(crate) children: Vec<(String, Option<String>)>,
}

/// A name in lower case, without its last dot.
pub(crate) fn bare(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Text as the quoted strings of a TXT record.
fn character_strings(text: &str) -> String {
    let quoted = |part: &[u8]| {
        let octets: String = part
            .iter()
            .map(|octet| match octet {
                b'"' | b'\\' => format!("\\{}", char::from(*octet)),
                0x20..=0x7e => char::from(*octet).to_string(),
                _ => format!("\\{octet:03}"),
            })
            .collect();
        format!("\"{octets}\"")
    };
    if text.is_empty() {
        return "\"\"".to_owned();
    }
    text.as_bytes().chunks(STRING_MAX_OCTETS).map(quoted).collect::<Vec<_>>().join(" ")
}
