//! Names in the domain name system: lower-case text without the final dot.

use mail::Domain;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// RFC 1035 §2.3.4, as text without the final dot.
pub const NAME_OCTETS_MAX: usize = 253;
/// RFC 1035 §2.3.4.
pub const LABEL_OCTETS_MAX: usize = 63;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// An empty label, or an octet that no name in mail has: anything but letters, digits, `-`, `_`, `*` and `/`.
    Syntax,
    /// A label or the whole is too long.
    TooLong,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::Syntax => "not a domain name",
            NameError::TooLong => "too long for a domain name",
        })
    }
}

impl std::error::Error for NameError {}

/// A name: A-labels in lower case, without the final dot; empty for the root. Names such as `_25._tcp.mx.example.net`
/// are names too; which of them can be hosts is for `mail::Domain` to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// The root.
    pub fn root() -> Name {
        Name("".into())
    }

    /// Takes a name, with or without the final dot.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Ok(Name::root());
        }
        if text.len() > NAME_OCTETS_MAX || text.split('.').any(|label| label.len() > LABEL_OCTETS_MAX) {
            return Err(NameError::TooLong);
        }
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*' | b'/');
        if text.split('.').any(|label| label.is_empty() || !label.bytes().all(is_plain)) {
            return Err(NameError::Syntax);
        }
        Ok(Name(text.to_ascii_lowercase().into()))
    }

    /// The name under which an address is found backwards (RFC 1035 §3.5, RFC 3596 §2.5).
    pub fn reverse(address: IpAddr) -> Name {
        let text = match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            IpAddr::V6(v6) => {
                let nibbles = v6.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
                let labels: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
                format!("{}.ip6.arpa", labels.join("."))
            }
        };
        Name(text.into())
    }

    /// This name with labels in front, such as `_25._tcp`.
    pub fn under(&self, labels: &str) -> Result<Name, NameError> {
        if self.is_root() { Name::parse(labels) } else { Name::parse(&format!("{labels}.{self}")) }
    }

    /// The lower-case text, without the final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The name one level up; `None` for the root.
    pub fn parent(&self) -> Option<Name> {
        if self.is_root() {
            return None;
        }
        Some(Name(self.0.split_once('.').map_or("", |(_, parent)| parent).into()))
    }

    /// Whether this name is `zone` or lies below it.
    pub fn is_within(&self, zone: &Name) -> bool {
        zone.is_root() || self == zone || self.0.strip_suffix(zone.as_str()).is_some_and(|rest| rest.ends_with('.'))
    }
}

impl fmt::Display for Name {
    /// Without the final dot; `.` for the root.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "." } else { &self.0 })
    }
}

impl TryFrom<&Domain> for Name {
    type Error = NameError;

    /// The name of a domain. An address literal has none.
    fn try_from(domain: &Domain) -> Result<Name, NameError> {
        Name::parse(domain.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_bounded() {
        assert_eq!(Name::parse("MX.Example.NET.").unwrap().as_str(), "mx.example.net");
        assert_eq!(Name::parse(".").unwrap(), Name::root());
        assert_eq!(Name::parse("a..b"), Err(NameError::Syntax));
        assert_eq!(Name::parse("a b"), Err(NameError::Syntax), "V14");
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::TooLong));
        assert_eq!(Name::parse(&"a.".repeat(127)), Ok(Name("a.".repeat(127)[..253].into())));
        assert_eq!(Name::parse(&"a.".repeat(128)), Err(NameError::TooLong));
        let host = Name::parse("mx.example.net").unwrap();
        assert_eq!(host.under("_25._tcp").unwrap().as_str(), "_25._tcp.mx.example.net");
        assert!(host.is_within(&host.parent().unwrap()) && host.is_within(&Name::root()));
        assert!(!Name::parse("badexample.net").unwrap().is_within(&Name::parse("example.net").unwrap()));
    }

    #[test]
    fn addresses_backwards() {
        assert_eq!(Name::reverse("192.0.2.1".parse().unwrap()).as_str(), "1.2.0.192.in-addr.arpa");
        let six = Name::reverse("2001:db8::1".parse().unwrap());
        assert_eq!(six.as_str(), format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23)));
    }
}
