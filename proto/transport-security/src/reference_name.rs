//! The names that a certificate may carry to be the right one, and whether it does.

use dns::Name;
use std::fmt;

/// A name that a certificate may carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceName {
    /// This host; a wildcard of the certificate may stand for its first label.
    Host(Name),
    /// Any host below this domain, written `.domain`.
    Below(Name),
}

impl ReferenceName {
    /// Takes a host, or a domain with a dot before it.
    pub fn parse(text: &str) -> Option<ReferenceName> {
        let (name, make): (_, fn(Name) -> ReferenceName) = match text.strip_prefix('.') {
            Some(domain) => (domain, ReferenceName::Below),
            None => (text, ReferenceName::Host),
        };
        Name::parse(name).ok().filter(|name| !name.is_root() && !name.as_str().contains('*')).map(make)
    }

    /// Whether a name of a certificate, perhaps with `*` as its first label, fits (RFC 7672 §3.2.3).
    pub fn fits(&self, presented: &str) -> bool {
        let (wildcard, presented) = match presented.strip_prefix("*.") {
            Some(parent) => (true, parent),
            None => (false, presented),
        };
        // RFC 5280 §4.2.1.6: the final dot is not written.
        let Some(presented) = Name::parse(presented).ok().filter(|_| !presented.ends_with('.')) else { return false };
        if presented.is_root() || presented.as_str().contains('*') {
            return false;
        }
        match self {
            ReferenceName::Host(host) if wildcard => host.parent().is_some_and(|parent| parent == presented),
            ReferenceName::Host(host) => presented == *host,
            ReferenceName::Below(domain) => presented.is_within(domain) && (wildcard || presented != *domain),
        }
    }
}

impl fmt::Display for ReferenceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReferenceName::Host(name) => write!(f, "{name}"),
            ReferenceName::Below(name) => write!(f, ".{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7672 §3.2.3.
    #[test]
    fn names_of_certificates() {
        let host = ReferenceName::parse("mx1.example.com").unwrap();
        let below = ReferenceName::parse(".example.com").unwrap();
        for (presented, fits_host, fits_below) in [
            ("mx1.example.com", true, true),
            ("MX1.Example.COM", true, true),
            ("*.example.com", true, true),
            ("*.mx1.example.com", false, true),
            ("a.mx1.example.com", false, true),
            ("example.com", false, false),
            ("*.com", false, false),
            ("*", false, false),
            ("mx*.example.com", false, false),
            ("*.*.example.com", false, false),
            ("*.badexample.com", false, false),
            ("mx1.example.com.evil.example", false, false),
            ("", false, false),
            ("mx1.example.com\0", false, false),
            ("mx1.example.com.", false, false),
            ("*.example.com.", false, false),
        ] {
            assert_eq!(host.fits(presented), fits_host, "{presented}");
            assert_eq!(below.fits(presented), fits_below, "{presented}");
        }
        for text in ["", ".", "*.example.com", ".*.example.com", "a b"] {
            assert_eq!(ReferenceName::parse(text), None, "{text}");
        }
        assert_eq!((host.to_string(), below.to_string()), ("mx1.example.com".to_owned(), ".example.com".to_owned()));
    }
}
