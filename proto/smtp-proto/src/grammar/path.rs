//! Paths: what stands between the angle brackets of MAIL, RCPT and VRFY (RFC 5321 §4.1.2).

use super::{Fault, Offer};
use mail::{Address, AddressError, Domain, LocalPart, ReversePath};

/// Takes a path from the front of a text: the inside of its brackets, and the text after them. Without brackets the path
/// ends at the first space; not RFC 5321, but what old clients send.
pub(super) fn take(text: &str) -> Option<(&str, &str)> {
    let Some(inside) = text.strip_prefix('<') else {
        let (path, rest) = text.split_at_checked(text.find(' ').unwrap_or(text.len()))?;
        return (!path.is_empty() && !path.contains(['<', '>'])).then_some((path, rest));
    };
    let (mut quoted, mut escaped) = (false, false);
    for (index, octet) in inside.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some((inside.get(..index)?, inside.get(index + 1..)?)),
            _ => {}
        }
    }
    None
}

/// The reverse-path.
pub(super) fn reverse(path: &str, smtputf8: bool) -> Result<ReversePath, Fault> {
    if path.is_empty() {
        return Ok(ReversePath::Null);
    }
    match address(path) {
        Ok(_) if !smtputf8 && !path.is_ascii() => Err(Fault::NeedsUtf8),
        Ok(address) => Ok(ReversePath::Address(address)),
        Err(AddressError::NoDomain) if LocalPart::parse(path).is_ok() => {
            Err(Fault::ReversePathWithoutDomain(path.to_owned()))
        }
        Err(AddressError::NeedsUtf8) => Err(Fault::NeedsUtf8),
        Err(AddressError::NoDomain | AddressError::Syntax | AddressError::TooLong) => Err(Fault::BadReversePath),
    }
}

/// The forward-path.
pub(super) fn forward(path: &str, smtputf8: bool, offer: Offer<'_>) -> Result<Address, Fault> {
    // RFC 5321 §4.5.1: postmaster is known without a domain, in any case.
    if path.eq_ignore_ascii_case("postmaster") {
        return Address::parse(&format!("postmaster@{}", offer.host_name)).map_err(|_| Fault::BadRecipient);
    }
    match address(path) {
        Ok(_) if !smtputf8 && !path.is_ascii() => Err(Fault::NeedsUtf8),
        Ok(address) => Ok(address),
        Err(AddressError::NoDomain) if LocalPart::parse(path).is_ok() => {
            Err(Fault::RecipientWithoutDomain(path.to_owned()))
        }
        Err(AddressError::NeedsUtf8) => Err(Fault::NeedsUtf8),
        Err(AddressError::NoDomain | AddressError::Syntax | AddressError::TooLong) => Err(Fault::BadRecipient),
    }
}

/// An address, after a source route that is checked and dropped (RFC 5321 §4.1.1.3, appendix C).
fn address(path: &str) -> Result<Address, AddressError> {
    if !path.starts_with('@') {
        return Address::parse(path);
    }
    let mut bracketed = false;
    let colon = path.bytes().position(|octet| {
        match octet {
            b'[' => bracketed = true,
            b']' => bracketed = false,
            _ => {}
        }
        octet == b':' && !bracketed
    });
    let (route, address) = colon.and_then(|colon| path.split_at_checked(colon)).ok_or(AddressError::Syntax)?;
    for hop in route.split(',') {
        Domain::parse(hop.strip_prefix('@').ok_or(AddressError::Syntax)?)?;
    }
    Address::parse(address.strip_prefix(':').ok_or(AddressError::Syntax)?)
}

/// The domain of ETRN; its option character `@` asks for subdomains too, which is up to the server (RFC 1985 §5.3).
pub(crate) fn etrn_domain(arguments: &str) -> Option<Domain> {
    Domain::parse(arguments.strip_prefix('@').unwrap_or(arguments)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Extensions;

    fn offer() -> Offer<'static> {
        Offer { extensions: Extensions::ALL, message_octets_max: 1_000, host_name: "mx.example.net" }
    }

    #[test]
    fn a_path_ends_at_its_bracket() {
        assert_eq!(take("<a@b> X=1"), Some(("a@b", " X=1")));
        assert_eq!(take("<>"), Some(("", "")));
        assert_eq!(take("<\"a>b\\\"> c\"@d>"), Some(("\"a>b\\\"> c\"@d", "")));
        assert_eq!(take("a@b SIZE=1"), Some(("a@b", " SIZE=1")));
        for text in ["", "<a@b", "<\"a@b>", "a>", "a<b>", " "] {
            assert_eq!(take(text), None, "{text}");
        }
    }

    #[test]
    fn source_routes_are_dropped() {
        for path in ["@x.example:a@b", "@x,@y,@[IPv6:::1]:a@b", "a@b"] {
            assert_eq!(forward(path, false, offer()).unwrap().to_string(), "a@b", "{path}");
        }
        for path in ["@x.example", "@:a@b", "@x,y:a@b", "@x:", "@x:@y:a@b", "@[x:a@b"] {
            assert_eq!(forward(path, false, offer()), Err(Fault::BadRecipient), "{path}");
        }
    }

    #[test]
    fn paths_without_a_domain() {
        assert_eq!(forward("PostMaster", false, offer()).unwrap().to_string(), "postmaster@mx.example.net");
        assert_eq!(forward("brian", false, offer()), Err(Fault::RecipientWithoutDomain("brian".into())));
        assert_eq!(reverse("root", false), Err(Fault::ReversePathWithoutDomain("root".into())));
        for path in ["", "a b", "brian@", "@", "a@b@c", "a\0b@c", "\"a\r\n\"@b"] {
            assert_eq!(forward(path, false, offer()), Err(Fault::BadRecipient), "{path:?}");
        }
        assert_eq!(reverse("", false), Ok(ReversePath::Null));
    }

    #[test]
    fn v9_beyond_ascii_needs_smtputf8() {
        for path in ["грета@example.net", "a@bücher.example", "\"ü\"@example.net"] {
            assert_eq!(forward(path, false, offer()), Err(Fault::NeedsUtf8), "{path}");
            assert_eq!(reverse(path, false), Err(Fault::NeedsUtf8), "{path}");
            assert!(forward(path, true, offer()).is_ok() && reverse(path, true).is_ok(), "{path}");
        }
    }
}
