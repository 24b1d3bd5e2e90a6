//! The fields that we put on top of a message: Received:, Return-Path:, Delivered-To: (RFC 5321 §4.4).
//!
//! Everything a peer told us is made harmless before it goes in: no value can end its field, open or close a comment,
//! or begin a clause (V41).

use mail::{Address, InternalDate, QueueId, ReversePath, TlsFacts};
use std::borrow::Cow;
use std::fmt::{self, Write};
use std::net::IpAddr;

/// Octets of a host name in a trace field. RFC 1035 §2.3.4 limits names to 255.
pub const HOST_OCTETS_MAX: usize = 255;
/// Octets of the name of a cipher suite or protocol version.
pub const TLS_NAME_OCTETS_MAX: usize = 64;

/// Room for a field of the usual length.
const USUAL_OCTETS: usize = 256;

/// Which protocol a message came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmission {
    /// SMTP after HELO.
    Smtp,
    /// SMTP after EHLO.
    Esmtp,
    /// LMTP.
    Lmtp,
}

/// What a Received: field tells.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedFacts<'a> {
    /// The name that the client gave in its greeting.
    pub helo: &'a str,
    /// The client's name in DNS, if it has one that leads back to its address.
    pub reverse_name: Option<&'a str>,
    /// The client's address; `None` on a UNIX socket.
    pub address: Option<IpAddr>,
    /// Protocol.
    pub transmission: Transmission,
    /// The TLS layer, if there was one.
    pub tls: Option<&'a TlsFacts>,
    /// Whether the TLS layer is told of in its own lines (R23); the protocol keyword tells of it in any case.
    pub shows_tls: bool,
    /// Whether the client had authenticated itself.
    pub is_authenticated: bool,
    /// Whether the transaction asked for SMTPUTF8 (RFC 6531).
    pub is_smtputf8: bool,
    /// Our own name.
    pub host: &'a str,
    /// The message's name in the queue and in the log.
    pub queue_id: QueueId,
    /// The recipient, to be given only where there is a single one: RFC 5321 §7.2 warns of telling the others.
    pub recipient: Option<&'a Address>,
    /// When it came in.
    pub date: InternalDate,
}

/// The Received: field, folded, with its line end.
pub fn received(facts: &ReceivedFacts<'_>) -> String {
    let mut field = String::with_capacity(USUAL_OCTETS);
    // Nothing fails that is written to a string.
    let _ = write_received(facts, &mut field);
    field
}

fn write_received(facts: &ReceivedFacts<'_>, field: &mut String) -> fmt::Result {
    write!(field, "Received: from {} ", host_name(facts.helo))?;
    write_client(facts, field)?;
    if let Some(tls) = facts.tls.filter(|_| facts.shows_tls) {
        let (version, cipher, bits) = (tls_name(tls.version), tls_name(&tls.cipher), tls.bits);
        write!(field, "\r\n\t(using {version} with cipher {cipher} ({bits}/{bits} bits))")?;
        field.push_str("\r\n\t(No client certificate requested)");
    }
    write!(field, "\r\n\tby {} with {} id {}", host_name(facts.host), protocol(facts), facts.queue_id)?;
    // RFC 6531 §3.7.3: an address beyond ASCII only in the field of an internationalized message.
    if let Some(recipient) = facts.recipient.filter(|address| facts.is_smtputf8 || !address.needs_utf8()) {
        write!(field, "\r\n\tfor <{recipient}>")?;
    }
    write!(field, "; {}\r\n", facts.date.civil().to_rfc5322())
}

/// The Received: field of a submitted message that hides where it was written: only our own name, the queue id and the
/// date, with its line end.
///
/// RFC 5321 §4.4 wants a trace field of every server, and loop detection counts them (RFC 5321 §6.3), so this stands in the
/// place of [`received`] where rules would otherwise take our own line out altogether (R151). It has no `from` clause (not)
/// and no `for` clause, so neither the client's name and address nor its account or a recipient is in it; the time zone
/// is ours. It has no `with` clause either: `ESMTPSA` would tell truly how the message came, but that word is what the rules
/// of R150 look for, and any other would be false. All three clauses but `by` are optional in RFC 5322 §3.6.7.
pub fn received_anonymous(facts: &ReceivedFacts<'_>) -> String {
    format!("Received: by {} id {}; {}\r\n", host_name(facts.host), facts.queue_id, facts.date.civil().to_rfc5322())
}

/// The Return-Path: field (RFC 5321 §4.4), with its line end.
pub fn return_path(path: &ReversePath) -> String {
    format!("Return-Path: <{path}>\r\n")
}

/// The Delivered-To: field, with its line end.
pub fn delivered_to(address: &Address) -> String {
    format!("Delivered-To: {address}\r\n")
}

/// How many octets the two fields above take that a message in a mailbox has on top. No message comes in with a
/// Return-Path field, so one on top is of our making.
pub fn delivery_octets(start: &[u8]) -> usize {
    let line = |at: usize, name: &[u8]| {
        let rest = start.get(at..).filter(|rest| rest.starts_with(name))?;
        memchr::memchr(b'\n', rest).map(|end| at + end + 1)
    };
    let Some(end) = line(0, b"Return-Path: ") else { return 0 };
    line(end, b"Delivered-To: ").unwrap_or(end)
}

/// The keyword of the "with" clause (RFC 3848, RFC 6531 §4.3). After HELO it is SMTP whatever else there was.
pub fn protocol(facts: &ReceivedFacts<'_>) -> &'static str {
    let suffix = usize::from(facts.tls.is_some()) + 2 * usize::from(facts.is_authenticated);
    let keywords = match (facts.transmission, facts.is_smtputf8) {
        (Transmission::Smtp, _) => return "SMTP",
        (Transmission::Esmtp, false) => ["ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA"],
        (Transmission::Esmtp, true) => ["UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA"],
        (Transmission::Lmtp, false) => ["LMTP", "LMTPS", "LMTPA", "LMTPSA"],
        (Transmission::Lmtp, true) => ["UTF8LMTP", "UTF8LMTPS", "UTF8LMTPA", "UTF8LMTPSA"],
    };
    keywords[suffix]
}

/// RFC 5321 §4.4 TCP-info: what the connection, not the client, told.
fn write_client(facts: &ReceivedFacts<'_>, field: &mut String) -> fmt::Result {
    let name = facts.reverse_name.map_or("unknown".into(), host_name);
    match facts.address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => write!(field, "({name} [{address}])"),
        Some(IpAddr::V6(address)) => write!(field, "({name} [IPv6:{address}])"),
        None => field.write_str("(local socket)"),
    }
}

/// A host name or address literal. Anything that neither has becomes a question mark; an empty name becomes `unknown`.
pub(crate) fn host_name(name: &str) -> Cow<'_, str> {
    harmless(name, HOST_OCTETS_MAX, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']'))
}

fn tls_name(name: &str) -> Cow<'_, str> {
    harmless(name, TLS_NAME_OCTETS_MAX, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn harmless(text: &str, length_max: usize, is_harmless: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.is_empty() {
        return "unknown".into();
    }
    if text.len() <= length_max && text.chars().all(&is_harmless) {
        return text.into();
    }
    text.chars().take(length_max).map(|c| if is_harmless(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn tls() -> TlsFacts {
        TlsFacts { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384".to_owned(), bits: 256, server_name: None }
    }

    fn facts() -> ReceivedFacts<'static> {
        ReceivedFacts {
            helo: "client.example.net",
            reverse_name: Some("host.example.net"),
            address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
            transmission: Transmission::Esmtp,
            tls: None,
            shows_tls: true,
            is_authenticated: false,
            is_smtputf8: false,
            host: "mx.example.org",
            queue_id: QueueId(0xabc1),
            recipient: None,
            date: InternalDate { unix_seconds: 1_000_000_000, zone_minutes: 120 },
        }
    }

    #[test]
    fn r64_the_fields_of_a_delivery_are_found_again() {
        let rest = "Received: from x\r\nDelivered-To: y@example.org\r\n\r\n";
        let to = delivered_to(&Address::parse("\"a b\"@example.net").unwrap());
        for path in [ReversePath::Null, ReversePath::Address(Address::parse("a@example.com").unwrap())] {
            let path = return_path(&path);
            for fields in [path.clone(), format!("{path}{to}")] {
                assert_eq!(delivery_octets(format!("{fields}{rest}").as_bytes()), fields.len());
            }
        }
        for none in ["", "Return-Path: <", rest, "Delivered-To: a@example.net\r\n\r\n", "return-path: <>\r\n"] {
            assert_eq!(delivery_octets(none.as_bytes()), 0, "{none}");
        }
    }

    #[test]
    fn r105_a_received_field() {
        assert_eq!(
            received(&facts()),
            "Received: from client.example.net (host.example.net [192.0.2.1])\r\n\
             \tby mx.example.org with ESMTP id ABC1; Sun, 9 Sep 2001 03:46:40 +0200\r\n"
        );
        let recipient = Address::parse("\"a (b\"@example.org").unwrap();
        let address = Some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        let facts = ReceivedFacts { recipient: Some(&recipient), reverse_name: None, address, ..facts() };
        assert_eq!(
            received(&facts),
            "Received: from client.example.net (unknown [IPv6:::1])\r\n\
             \tby mx.example.org with ESMTP id ABC1\r\n\
             \tfor <\"a (b\"@example.org>; Sun, 9 Sep 2001 03:46:40 +0200\r\n"
        );
    }

    #[test]
    fn r23_the_tls_layer_is_told_of_where_wanted() {
        let tls = tls();
        let field = received(&ReceivedFacts { tls: Some(&tls), address: None, ..facts() });
        assert_eq!(
            field,
            "Received: from client.example.net (local socket)\r\n\
             \t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n\
             \t(No client certificate requested)\r\n\
             \tby mx.example.org with ESMTPS id ABC1; Sun, 9 Sep 2001 03:46:40 +0200\r\n"
        );
        let field = received(&ReceivedFacts { tls: Some(&tls), shows_tls: false, ..facts() });
        assert!(!field.contains("using") && field.contains("with ESMTPS id"));
    }

    #[test]
    fn r24_the_keyword_tells_of_tls_and_authentication() {
        use Transmission::{Esmtp, Lmtp, Smtp};
        let tls = tls();
        for (transmission, has_tls, is_authenticated, is_smtputf8, keyword) in [
            (Smtp, true, true, true, "SMTP"),
            (Esmtp, false, false, false, "ESMTP"),
            (Esmtp, true, false, false, "ESMTPS"),
            (Esmtp, false, true, false, "ESMTPA"),
            (Esmtp, true, true, false, "ESMTPSA"),
            (Lmtp, true, false, false, "LMTPS"),
            (Esmtp, true, true, true, "UTF8SMTPSA"),
            (Lmtp, false, false, true, "UTF8LMTP"),
        ] {
            let tls = has_tls.then_some(&tls);
            let facts = ReceivedFacts { transmission, tls, is_authenticated, is_smtputf8, ..facts() };
            assert_eq!(protocol(&facts), keyword);
        }
    }

    #[test]
    fn r151_an_anonymous_field_tells_nothing_of_the_client() {
        let (tls, recipient) = (tls(), Address::parse("a@example.org").unwrap());
        let facts = ReceivedFacts { tls: Some(&tls), is_authenticated: true, recipient: Some(&recipient), ..facts() };
        let field = received_anonymous(&facts);
        assert_eq!(field, "Received: by mx.example.org id ABC1; Sun, 9 Sep 2001 03:46:40 +0200\r\n");
        let rules = crate::header_rules::HeaderRules::read(
            std::path::Path::new("rules"),
            crate::header_rules::PRIVACY_RULES.as_bytes(),
        );
        let rules = std::sync::Arc::new(rules.unwrap());
        assert_eq!(crate::header_rules::filtered(&rules, field.as_bytes()).0, field.as_bytes());
        assert_eq!(crate::header_rules::filtered(&rules, received(&facts).as_bytes()).0, b"");
    }

    #[test]
    fn v41_nothing_a_peer_says_can_shape_the_field() {
        let evil = "a) (b;\r\nX: y\0\\\"\u{1f600} ".repeat(100);
        let cipher = TlsFacts { cipher: evil.clone(), ..tls() };
        let field = received(&ReceivedFacts { helo: &evil, reverse_name: Some(&evil), tls: Some(&cipher), ..facts() });
        assert_eq!(crate::header::fields(field.as_bytes()).count(), 1);
        assert_eq!((field.matches('(').count(), field.matches(')').count()), (4, 4));
        assert_eq!(field.matches(';').count(), 1);
        assert!(field.lines().all(|line| line.len() <= 998) && field.is_ascii());
        assert!(received(&ReceivedFacts { helo: "", ..facts() }).starts_with("Received: from unknown ("));
    }

    #[test]
    fn addresses_are_quoted_where_needed() {
        assert_eq!(return_path(&ReversePath::Null), "Return-Path: <>\r\n");
        let address = Address::parse("\"a b\"@example.net").unwrap();
        assert_eq!(return_path(&ReversePath::Address(address.clone())), "Return-Path: <\"a b\"@example.net>\r\n");
        assert_eq!(delivered_to(&address), "Delivered-To: \"a b\"@example.net\r\n");
    }
}
