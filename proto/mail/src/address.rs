//! Addresses of the envelope (RFC 5321 §4.1.2, RFC 6531 §3.3).

use std::fmt;
use std::sync::Arc;

/// RFC 5321 §4.5.3.1.1.
pub const LOCAL_PART_OCTETS_MAX: usize = 64;
/// RFC 5321 §4.5.3.1.2.
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// RFC 1035 §2.3.4.
pub const LABEL_OCTETS_MAX: usize = 63;

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    /// Not of the grammar.
    Syntax,
    /// A part exceeds its limit.
    TooLong,
    /// No domain where one is needed.
    NoDomain,
    /// Holds characters beyond ASCII, which need SMTPUTF8.
    NeedsUtf8,
}

/// A host name in lower-case A-label form, or an address literal in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Arc<str>);

impl Domain {
    /// Takes a domain name, A-labels or U-labels, or an address literal such as `[192.0.2.1]` (RFC 5321 §4.1.3). A
    /// trailing dot is not part of the grammar and refused.
    pub fn parse(text: &str) -> Result<Domain, AddressError> {
        if text.len() > DOMAIN_OCTETS_MAX * 4 {
            return Err(AddressError::TooLong);
        }
        if let Some(literal) = text.strip_prefix('[') {
            return Domain::literal(literal.strip_suffix(']').ok_or(AddressError::Syntax)?);
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            // RFC 5890 §2.3.2.1: compared as A-labels.
            idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::STD3)
                .map_err(|_| AddressError::Syntax)?
                .into_owned()
        };
        if ascii.len() > DOMAIN_OCTETS_MAX || ascii.split('.').any(|label| label.len() > LABEL_OCTETS_MAX) {
            return Err(AddressError::TooLong);
        }
        let label_fits = |label: &str| {
            // Underscores do occur in the host names of real peers; RFC 5321 §4.1.2 leaves them out (not).
            label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if ascii.split('.').all(label_fits) { Ok(Domain(ascii.into())) } else { Err(AddressError::Syntax) }
    }

    fn literal(inner: &str) -> Result<Domain, AddressError> {
        let lower = inner.to_ascii_lowercase();
        if let Some(v6) = lower.strip_prefix("ipv6:") {
            let address: std::net::Ipv6Addr = v6.parse().map_err(|_| AddressError::Syntax)?;
            return Ok(Domain(format!("[ipv6:{address}]").into()));
        }
        let address: std::net::Ipv4Addr = inner.parse().map_err(|_| AddressError::Syntax)?;
        Ok(Domain(format!("[{address}]").into()))
    }

    /// The lower-case form; literals keep their brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an address literal.
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }

    /// The domain one level up, if there is one.
    pub fn parent(&self) -> Option<Domain> {
        if self.is_literal() {
            return None;
        }
        self.0.split_once('.').map(|(_, parent)| Domain(parent.into()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The part before the at sign, unquoted, its case kept. Compared as given; lookups fold ASCII case themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalPart(Arc<str>);

impl LocalPart {
    /// Takes the wire form: a dot-string or a quoted-string (RFC 5321 §4.1.2).
    pub fn parse(text: &str) -> Result<LocalPart, AddressError> {
        let unquoted = match text.strip_prefix('"') {
            Some(rest) => unquote(rest.strip_suffix('"').ok_or(AddressError::Syntax)?)?,
            None if is_dot_string(text) => text.to_owned(),
            None => return Err(AddressError::Syntax),
        };
        if unquoted.len() > LOCAL_PART_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        Ok(LocalPart(unquoted.into()))
    }

    /// The unquoted text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LocalPart {
    /// The wire form, quoted where needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.0) {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

fn is_atext(c: char) -> bool {
    // RFC 6531 §3.3 extends atext by every non-ASCII character. Controls beyond ASCII are none we want.
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

fn unquote(inner: &str) -> Result<String, AddressError> {
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => chars.next().ok_or(AddressError::Syntax)?,
            '"' => return Err(AddressError::Syntax),
            c => c,
        };
        // RFC 5321 §4.1.2: qtextSMTP and quoted-pairSMTP are graphic characters and space.
        if c.is_control() {
            return Err(AddressError::Syntax);
        }
        out.push(c);
    }
    if out.is_empty() { Err(AddressError::Syntax) } else { Ok(out) }
}

/// `local-part@domain`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Before the at sign.
    pub local: LocalPart,
    /// After the at sign.
    pub domain: Domain,
}

impl Address {
    /// Takes `local-part@domain`, as between the angle brackets of a path, without source route.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let at = split_at_sign(text).ok_or(AddressError::NoDomain)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        Ok(Address { local: LocalPart::parse(local)?, domain: Domain::parse(domain)? })
    }

    /// Whether the local part or the domain, as it was given, needs SMTPUTF8 (RFC 6531 §3.2).
    pub fn needs_utf8(&self) -> bool {
        !self.local.as_str().is_ascii()
    }

    /// The key under which tables know this address: unquoted and in lower case.
    pub fn key(&self) -> String {
        // Asked for at each lookup of each message: one allocation.
        let (local, domain) = (self.local.as_str(), self.domain.as_str());
        let mut key = String::with_capacity(local.len() + 1 + domain.len());
        if local.is_ascii() {
            key.push_str(local);
            key.make_ascii_lowercase();
        } else {
            key.push_str(&local.to_lowercase());
        }
        key.push('@');
        key.push_str(domain);
        key
    }
}

/// The at sign that ends the local part: the first one outside a quoted string.
fn split_at_sign(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (index, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'@' if !quoted => return Some(index),
            _ => {}
        }
    }
    None
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_what_they_parse() {
        for text in [
            "brian@example.net",
            "\"a b\"@example.net",
            "a+b!x@[192.0.2.1]",
            "\"a@b\"@example.net",
            "грета@xn--80ak6aa92e.com",
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
        }
        assert_eq!(Address::parse("A@EXAMPLE.net").unwrap().to_string(), "A@example.net");
        assert_eq!(Address::parse("x@аррӏе.com").unwrap().domain.as_str(), "xn--80ak6aa92e.com");
        assert_eq!(Address::parse("x@[IPv6:2001:DB8::1]").unwrap().domain.as_str(), "[ipv6:2001:db8::1]");
    }

    #[test]
    fn v12_what_is_no_address_is_refused() {
        for text in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c",
            "a@b c",
            "a..b@c",
            ".a@c",
            "a.@c",
            "a@b..c",
            "a@.b",
            "a@b.",
            "a@-b",
            "a\r\n@b",
            "a@b\n",
            "\"a@b",
            "a\"b@c",
            "\"\"@c",
            "\"a\0\"@c",
            "a@[1.2.3]",
            "a@[1.2.3.4",
            "a;b c@d",
            "$(id)@x y",
            "a@b@c",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Address::parse(&format!("{}@b", "a".repeat(65))), Err(AddressError::TooLong));
        assert_eq!(Address::parse("brian"), Err(AddressError::NoDomain));
    }
}
