//! Names that are answered on this machine: loopback, address literals, names that never exist, and the hosts listed.

use dns::{Found, Name, Record, RecordType, Security};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How long such answers hold; they are worked out anew each time.
const TTL: Duration = Duration::from_secs(3600);

/// Names and their addresses, as hosts(5) lists them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts {
    addresses: HashMap<Name, Vec<IpAddr>>,
    /// The first name of each address.
    names: HashMap<IpAddr, Name>,
}

/// A line of hosts(5) that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostsError {
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for HostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: an address and its names are wanted", self.line)
    }
}

impl std::error::Error for HostsError {}

impl Hosts {
    /// Reads lines of `address name…`, with `#` before comments.
    pub fn parse(text: &str) -> Result<Hosts, HostsError> {
        let mut hosts = Hosts::default();
        for (line, number) in text.lines().zip(1..) {
            let line = line.split_once('#').map_or(line, |(front, _)| front);
            let mut words = line.split_whitespace();
            let Some(address) = words.next() else {
                continue;
            };
            let error = HostsError { line: number };
            let address: IpAddr = address.parse().map_err(|_| error)?;
            let names: Vec<Name> = words.map(Name::parse).collect::<Result<_, _>>().map_err(|_| error)?;
            let first = names.first().ok_or(error)?;
            hosts.names.entry(address).or_insert_with(|| first.clone());
            for name in names {
                hosts.addresses.entry(name).or_default().push(address);
            }
        }
        Ok(hosts)
    }
}

/// The answer for a name that is not asked for over the network; `None` when it is. Such answers are insecure.
pub(crate) fn answer(hosts: &Hosts, name: &Name, kind: RecordType) -> Option<Found> {
    let addresses = hosts.addresses.get(name).cloned().or_else(|| addresses_of(name));
    let records: Vec<Record> = match addresses {
        Some(addresses) => addresses.into_iter().filter_map(|address| record_of(address, kind)).collect(),
        None => match backwards(hosts, name) {
            Some(target) if kind == RecordType::Ptr => vec![Record::Ptr(target)],
            Some(_) => Vec::new(),
            None if never_exists(name) => return Some(found(name, false, Vec::new())),
            None => return None,
        },
    };
    Some(found(name, true, records))
}

fn found(name: &Name, name_exists: bool, records: Vec<Record>) -> Found {
    Found { records, name_exists, security: Security::Insecure, canonical: name.clone(), ttl: TTL }
}

fn addresses_of(name: &Name) -> Option<Vec<IpAddr>> {
    // RFC 6761 §6.3: localhost and all below it is loopback, whatever a server may say.
    if name.as_str().rsplit('.').next() == Some("localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    name.as_str().parse::<Ipv4Addr>().ok().map(|address| vec![address.into()])
}

fn record_of(address: IpAddr, kind: RecordType) -> Option<Record> {
    match (address, kind) {
        (IpAddr::V4(address), RecordType::A) => Some(Record::A(address)),
        (IpAddr::V6(address), RecordType::Aaaa) => Some(Record::Aaaa(address)),
        _ => None,
    }
}

/// The name of an address that this machine knows, for the name under which it is asked for backwards.
fn backwards(hosts: &Hosts, name: &Name) -> Option<Name> {
    let v4_labels = name.as_str().strip_suffix(".in-addr.arpa");
    let address = match v4_labels {
        Some(labels) => {
            let octets: Vec<u8> = labels.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
            let [d, c, b, a] = octets[..] else { return None };
            IpAddr::from([a, b, c, d])
        }
        None => {
            let nibbles = name.as_str().strip_suffix(".ip6.arpa")?.split('.').rev();
            let text: String = nibbles.collect();
            let is_whole = text.len() == 32 && name.as_str().len() == 32 * 2 + "ip6.arpa".len();
            let bits = u128::from_str_radix(&text, 16).ok().filter(|_| is_whole)?;
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
    };
    // A name in another spelling, such as one with leading zeros, is no reverse name.
    if Name::reverse(address) != *name {
        return None;
    }
    let localhost = || address.is_loopback().then(|| Name::parse("localhost").ok()).flatten();
    hosts.names.get(&address).cloned().or_else(localhost)
}

/// RFC 6761 §6.4, RFC 7686 §2.
fn never_exists(name: &Name) -> bool {
    matches!(name.as_str().rsplit('.').next(), Some("invalid" | "onion"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(name: &str, kind: RecordType) -> Option<Found> {
        let hosts =
            Hosts::parse("# x\n192.0.2.7 Mx.example.net mx # y\n\n2001:db8::7 mx.example.net\n127.0.0.9 me").unwrap();
        answer(&hosts, &Name::parse(name).unwrap(), kind)
    }

    fn records(name: &str, kind: RecordType) -> Vec<Record> {
        look(name, kind).expect("answered here").records
    }

    #[test]
    fn loopback_and_literals() {
        assert_eq!(records("localhost", RecordType::A), [Record::A(Ipv4Addr::LOCALHOST)]);
        assert_eq!(records("a.localhost", RecordType::Aaaa), [Record::Aaaa(Ipv6Addr::LOCALHOST)]);
        assert_eq!(records("localhost", RecordType::Mx), []);
        assert_eq!(records("192.0.2.1", RecordType::A), [Record::A("192.0.2.1".parse().unwrap())]);
        assert_eq!(records("192.0.2.1", RecordType::Mx), []);
        let localhost = [Record::Ptr(Name::parse("localhost").unwrap())];
        assert_eq!(records("1.0.0.127.in-addr.arpa", RecordType::Ptr), localhost);
        assert_eq!(records(Name::reverse("::1".parse().unwrap()).as_str(), RecordType::Ptr), localhost);
        assert_eq!(look("example.net", RecordType::A), None);
        assert_eq!(look("1.2.0.192.in-addr.arpa", RecordType::Ptr), None);
        assert_eq!(look("0.127.in-addr.arpa", RecordType::Ptr), None);
        assert_eq!(look("01.0.0.127.in-addr.arpa", RecordType::Ptr), None);
        assert_eq!(look("notlocalhost", RecordType::A), None);
    }

    #[test]
    fn listed_hosts() {
        assert_eq!(records("mx.example.net", RecordType::A), [Record::A("192.0.2.7".parse().unwrap())]);
        assert_eq!(records("mx.example.net", RecordType::Aaaa), [Record::Aaaa("2001:db8::7".parse().unwrap())]);
        assert_eq!(records("mx", RecordType::Aaaa), []);
        let reverse = Name::reverse("2001:db8::7".parse().unwrap());
        assert_eq!(records(reverse.as_str(), RecordType::Ptr), [Record::Ptr(Name::parse("mx.example.net").unwrap())]);
        assert_eq!(records("9.0.0.127.in-addr.arpa", RecordType::Ptr), [Record::Ptr(Name::parse("me").unwrap())]);
        assert_eq!(Hosts::parse("192.0.2.1\n"), Err(HostsError { line: 1 }));
        assert_eq!(Hosts::parse("\nmx 192.0.2.1"), Err(HostsError { line: 2 }));
    }

    #[test]
    fn names_that_never_are() {
        assert!(!look("a.invalid", RecordType::A).unwrap().name_exists);
        assert!(!look("a.onion", RecordType::A).unwrap().name_exists);
    }
}
