//! Ways out of the house: which transport takes mail for a recipient or from a sender, and how we log in there.
//!
//! `transport` is looked up by recipient, `sender_transport` by reverse-path; what neither names goes by the mail
//! exchangers of its domain, or to the smarthost of the configuration. `relay_credentials` names logins by next hop.

use crate::table::{Finding, Parsed, Source, TableError, shown};
use mail::{Address, Domain, Secret};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

/// The port of SMTP between servers, unless the configuration says otherwise.
pub const SMTP_PORT: u16 = 25;
/// The port of LMTP over TCP, where a table names none.
pub const LMTP_PORT: u16 = 24;
/// Longest text of an `error:` transport.
const ERROR_OCTETS_MAX: usize = 400;

/// A host to hand mail to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// A domain, or an address literal.
    pub host: Domain,
    /// `None` for the usual port.
    pub port: Option<u16>,
    /// Whether the mail exchangers of `host` are meant, and not `host` itself.
    pub by_mx: bool,
}

impl NextHop {
    /// Reads `[host]:port`, `[host]`, `host:port` or `host`; brackets mean the host itself instead of its exchangers.
    pub fn parse(text: &str) -> Option<NextHop> {
        let (host, port, by_mx) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) }, false)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port), true),
                None => (text, None, true),
            },
        };
        let port = match port {
            Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0)?),
            None => None,
        };
        let literal =
            host.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:")).and_then(|_| host.get(5..)).unwrap_or(host);
        let host = match literal.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(address)) => Domain::parse(&format!("[{address}]")).ok()?,
            Ok(std::net::IpAddr::V6(address)) => Domain::parse(&format!("[ipv6:{address}]")).ok()?,
            Err(_) => Domain::parse(host).ok()?,
        };
        Some(NextHop { by_mx: by_mx && !host.is_literal(), host, port })
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_str();
        match (self.by_mx, host.starts_with('[')) {
            (true, _) | (false, true) => f.write_str(host)?,
            (false, false) => write!(f, "[{host}]")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// How a recipient's mail leaves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Transport {
    /// By the mail exchangers of the recipient's own domain.
    Direct,
    /// Over SMTP to this next hop.
    Smtp(NextHop),
    /// Over LMTP to this host.
    Lmtp(NextHop),
    /// Over LMTP to this UNIX socket.
    LmtpSocket(PathBuf),
    /// Into the mailboxes of this house.
    Local,
    /// Not at all: it bounces with this text.
    Error(String),
    /// Not at all, and nobody is told; the text names the rule.
    Discard(String),
}

impl Transport {
    /// Reads `smtp:NEXTHOP`, `relay:NEXTHOP`, `lmtp:unix:PATH`, `lmtp:inet:HOST:PORT`, `error:TEXT`, `discard:RULE`,
    /// `local:`, or `:` and `smtp:` for the usual way.
    pub fn parse(text: &str) -> Option<Transport> {
        let (kind, rest) = text.split_once(':')?;
        Some(match kind {
            "" | "smtp" | "relay" if rest.is_empty() => Transport::Direct,
            "smtp" | "relay" => Transport::Smtp(NextHop::parse(rest)?),
            "lmtp" => match rest.split_once(':') {
                Some(("unix", path)) if path.starts_with('/') => Transport::LmtpSocket(PathBuf::from(path)),
                Some(("unix", _)) => return None,
                Some(("inet", hop)) => Transport::Lmtp(NextHop { by_mx: false, ..NextHop::parse(hop)? }),
                _ => Transport::Lmtp(NextHop { by_mx: false, ..NextHop::parse(rest)? }),
            },
            "local" if rest.is_empty() => Transport::Local,
            "error" if rest.len() <= ERROR_OCTETS_MAX && !rest.chars().any(char::is_control) => {
                Transport::Error(if rest.is_empty() { "mail for this address is refused".into() } else { rest.into() })
            }
            "discard" if !rest.chars().any(char::is_control) => Transport::Discard(rest.to_owned()),
            _ => return None,
        })
    }
}

impl fmt::Display for Transport {
    /// As in the table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Direct => f.write_str("smtp:"),
            Transport::Smtp(hop) => write!(f, "smtp:{hop}"),
            Transport::Lmtp(hop) => write!(f, "lmtp:inet:{hop}"),
            Transport::LmtpSocket(path) => write!(f, "lmtp:unix:{}", path.display()),
            Transport::Local => f.write_str("local:"),
            Transport::Error(text) => write!(f, "error:{text}"),
            Transport::Discard(rule) => write!(f, "discard:{rule}"),
        }
    }
}

/// A table of transports: by address, domain, the domains below one (`.example.org`), or everything (`*`).
#[derive(Debug, Default)]
pub struct Transports {
    addresses: HashMap<String, Transport>,
    domains: HashMap<Domain, Transport>,
    below: HashMap<Domain, Transport>,
    rest: Option<Transport>,
}

impl Transports {
    /// Reads a table: `key transport`.
    pub fn read(source: &Source<'_>) -> Result<Parsed<Transports>, TableError> {
        let mut table = Transports::default();
        let mut findings: Vec<Finding> = Vec::new();
        for entry in source.entries()? {
            let transport = Transport::parse(entry.value.trim()).ok_or_else(|| {
                source.error(
                    entry.line,
                    format!("{} is no transport", shown(&entry.value)),
                    "write smtp:[host]:port, smtp:domain, lmtp:unix:/path, lmtp:inet:host:port, error:text or discard:rule",
                )
            })?;
            let no_key = || {
                source.error(
                    entry.line,
                    format!("{} is no address and no domain", shown(&entry.key)),
                    "write local-part@domain, domain, .domain for those below it, or * for everything",
                )
            };
            let key = entry.key.trim_start_matches('@');
            let before = if key == "*" {
                table.rest.replace(transport)
            } else if let Some(above) = key.strip_prefix('.') {
                table.below.insert(Domain::parse(above).map_err(|_| no_key())?, transport)
            } else if key.contains('@') {
                table.addresses.insert(Address::parse(key).map_err(|_| no_key())?.key(), transport)
            } else {
                table.domains.insert(Domain::parse(key).map_err(|_| no_key())?, transport)
            };
            if before.is_some() {
                let cause = format!("{} stands more than once, the last line counts", shown(&entry.key));
                findings.push(source.warning(entry.line, cause, "remove one of the lines"));
            }
        }
        Ok(Parsed { content: table, findings })
    }

    /// The transport of an address: its own, its domain's, that of the nearest domain above, the rest's.
    pub fn find(&self, address: &Address) -> Option<&Transport> {
        self.addresses.get(&address.key()).or_else(|| self.of_domain(&address.domain))
    }

    fn of_domain(&self, domain: &Domain) -> Option<&Transport> {
        let above = || {
            let mut above = domain.parent();
            while let Some(domain) = above {
                if let Some(found) = self.below.get(&domain) {
                    return Some(found);
                }
                above = domain.parent();
            }
            None
        };
        self.domains.get(domain).or_else(above).or(self.rest.as_ref())
    }
}

/// A login at a next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLogin {
    /// Who we are there.
    pub login: String,
    /// The proof.
    pub password: Secret,
}

/// Logins by next hop: `[host]:port login:password`.
#[derive(Debug, Default)]
pub struct RelayLogins {
    logins: HashMap<NextHop, RelayLogin>,
}

impl RelayLogins {
    /// Reads the table. No value is ever shown.
    pub fn read(source: &Source<'_>) -> Result<Parsed<RelayLogins>, TableError> {
        let mut table = RelayLogins::default();
        for entry in source.entries()? {
            let cure = "write [host]:port login:password, the next hop spelled as in the configuration";
            let hop = NextHop::parse(&entry.key)
                .ok_or_else(|| source.error(entry.line, format!("{} is no next hop", shown(&entry.key)), cure))?;
            let (login, password) = entry
                .value
                .trim()
                .split_once(':')
                .filter(|(login, _)| !login.is_empty())
                .ok_or_else(|| source.error(entry.line, "no login and password".to_owned(), cure))?;
            let login = RelayLogin { login: login.to_owned(), password: Secret::new(password.to_owned()) };
            table.logins.insert(hop, login);
        }
        Ok(Parsed { content: table, findings: Vec::new() })
    }

    /// The login at a next hop, or at its host whatever the port.
    pub fn find(&self, hop: &NextHop) -> Option<&RelayLogin> {
        self.logins.get(hop).or_else(|| self.logins.get(&NextHop { port: None, ..hop.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn source(text: &str) -> Source<'_> {
        Source { file: Path::new("transport"), octets: text.as_bytes() }
    }

    #[test]
    fn transports_print_what_they_parse() {
        for text in [
            "smtp:",
            "smtp:[mx.example.org]:2525",
            "smtp:example.org",
            "smtp:example.org:587",
            "smtp:[192.0.2.1]:26",
            "smtp:[ipv6:2001:db8::1]:26",
            "lmtp:unix:/run/x",
            "lmtp:inet:[mail.example.org]:24",
            "error:no such place",
            "discard:trap",
            "local:",
        ] {
            let transport = Transport::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(transport.to_string(), text);
        }
        for text in
            ["", "smtp", "smtp:[x", "smtp:a:0", "smtp:a:x", "lmtp:unix:run", "pipe:rm", "smtp:a b", "error:a\rb"]
        {
            assert_eq!(Transport::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_nearest_key_decides() {
        let text = "x@example.org error:gone\nexample.org smtp:[a]\n.example.org smtp:[b]\n.sub.example.org smtp:[c]\n\
                    * smtp:[smart]:587\n";
        let table = Transports::read(&source(text)).unwrap().content;
        let find = |text: &str| table.find(&Address::parse(text).unwrap()).unwrap().to_string();
        assert_eq!(find("X@Example.org"), "error:gone");
        assert_eq!(find("y@example.org"), "smtp:[a]");
        assert_eq!(find("y@z.example.org"), "smtp:[b]");
        assert_eq!(find("y@z.sub.example.org"), "smtp:[c]");
        assert_eq!(find("y@badexample.org"), "smtp:[smart]:587");
    }

    #[test]
    fn r193_faults_are_named_with_their_line() {
        let error = Transports::read(&source("a.example smtp:\nb.example pipe:/bin/sh\n")).err().unwrap();
        let text = error.to_string();
        assert!(text.contains(":2") && text.contains("pipe:/bin/sh"), "{text}");
        let error = RelayLogins::read(&source("[a]:1 nocolon-secret\n")).err().unwrap().to_string();
        assert!(!error.contains("nocolon-secret"), "{error}");
    }

    #[test]
    fn logins_are_found_by_next_hop() {
        let table = RelayLogins::read(&source("[smart.example]:587 me:p:w\n[other.example] you:pw\n")).unwrap().content;
        let find = |text: &str| table.find(&NextHop::parse(text).unwrap()).map(|found| found.login.clone());
        assert_eq!(find("[smart.example]:587").as_deref(), Some("me"));
        assert_eq!(find("[smart.example]:25"), None);
        assert_eq!(find("[other.example]:25").as_deref(), Some("you"));
        assert_eq!(find("other.example"), None);
    }
}
