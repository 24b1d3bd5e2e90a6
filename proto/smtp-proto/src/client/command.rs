//! MAIL and RCPT as text. Not which parameters a peer gets: that is the plan's.
//!
//! Everything in a command is a type that holds no control character (`mail::Address`, numbers, keywords) or is encoded
//! here, so nothing that was given to us can begin a line of its own.

use super::plan::Plan;
use super::question::Transaction;
use mail::text::embedded_character;
use mail::{DsnReturn, Notify, Recipient};
use std::fmt::Write as _;

/// RFC 3461 §4.4, as encoded.
const ENVELOPE_ID_OCTETS_MAX: usize = 100;
/// RFC 3461 §4.2, as encoded.
const ORIGINAL_RECIPIENT_OCTETS_MAX: usize = 500;

/// `MAIL FROM:<reverse-path>` with the parameters of the plan.
pub(super) fn mail(transaction: &Transaction, plan: &Plan) -> String {
    let mut line = format!("MAIL FROM:<{}>", transaction.reverse_path);
    if let Some(octets) = plan.size {
        let _ = write!(line, " SIZE={octets}");
    }
    if plan.eight_bit {
        line += " BODY=8BITMIME";
    }
    if plan.utf8 {
        line += " SMTPUTF8";
    }
    if plan.dsn {
        line += match transaction.dsn_return {
            Some(DsnReturn::Full) => " RET=FULL",
            Some(DsnReturn::Headers) => " RET=HDRS",
            None => "",
        };
        if let Some(id) = transaction.envelope_id.as_deref().and_then(envelope_id) {
            let _ = write!(line, " ENVID={id}");
        }
    }
    if plan.require_tls {
        line += " REQUIRETLS";
    }
    line
}

/// `RCPT TO:<forward-path>` with the parameters of the plan.
pub(super) fn recipient(recipient: &Recipient, plan: &Plan) -> String {
    let mut line = format!("RCPT TO:<{}>", recipient.address);
    if plan.dsn {
        if let Some(notify) = recipient.notify {
            let _ = write!(line, " NOTIFY={}", events(notify));
        }
        if let Some(original) = recipient.original.as_deref().and_then(|original| original_recipient(original, plan)) {
            let _ = write!(line, " ORCPT={original}");
        }
    }
    line
}

/// RFC 3461 §4.1. Reports of no event are the same as none at all.
fn events(notify: Notify) -> String {
    let Notify::On { success, failure, delay } = notify else { return "NEVER".to_owned() };
    let events = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
    let wanted: Vec<&str> = events.into_iter().filter(|(wanted, _)| *wanted).map(|(_, event)| event).collect();
    if wanted.is_empty() { "NEVER".to_owned() } else { wanted.join(",") }
}

/// The value of ENVID; `None` for an identifier that has no form on the wire. Better no ENVID than a message refused for
/// it.
fn envelope_id(id: &str) -> Option<String> {
    let encoded = xtext(id)?;
    (encoded.len() <= ENVELOPE_ID_OCTETS_MAX).then_some(encoded)
}

/// The value of ORCPT; `None` for an address that has no form on the wire.
fn original_recipient(original: &str, plan: &Plan) -> Option<String> {
    let (kind, address) = original.split_once(';')?;
    let is_atom =
        !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*-/?^_`{|}~".contains(&b));
    let address = match kind.eq_ignore_ascii_case("utf-8") {
        true => unitext(address, plan.utf8)?,
        false => xtext(address)?,
    };
    let value = format!("{kind};{address}");
    (is_atom && value.len() <= ORIGINAL_RECIPIENT_OCTETS_MAX).then_some(value)
}

/// RFC 3461 §4: what is encoded is printable ASCII. `None` for other text, and for none at all.
fn xtext(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b' ' | b'+' | b'=' => {
                let _ = write!(out, "+{octet:02X}");
            }
            b'!'..=b'~' => out.push(char::from(octet)),
            _ => return None,
        }
    }
    (!out.is_empty()).then_some(out)
}

/// RFC 6533 §3: characters beyond ASCII as they are where SMTPUTF8 is in use, else as `\x{HEXPOINT}`. A backslash that
/// begins such a form already is left as it is, for the address was never decoded so far.
fn unitext(address: &str, utf8: bool) -> Option<String> {
    let mut out = String::with_capacity(address.len());
    for (index, character) in address.char_indices() {
        let is_embedded = || address.get(index..).and_then(embedded_character).is_some();
        match character {
            '\\' if is_embedded() => out.push(character),
            ' ' | '\\' | '+' | '=' => {
                let _ = write!(out, "\\x{{{:X}}}", u32::from(character));
            }
            '!'..='~' => out.push(character),
            character if character.is_control() => return None,
            character if utf8 => out.push(character),
            character => {
                let _ = write!(out, "\\x{{{:X}}}", u32::from(character));
            }
        }
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::question::Content;
    use crate::config::Extensions;
    use crate::grammar::{self, Offer};
    use mail::{Address, ReversePath};

    fn everything(utf8: bool) -> Plan {
        Plan { utf8, size: Some(1_000), eight_bit: true, dsn: true, require_tls: false, pipelined: true, chunked: true }
    }

    fn offer() -> Offer<'static> {
        Offer { extensions: Extensions::ALL, message_octets_max: 1_000, host_name: "mx.example.net" }
    }

    fn transaction(reverse_path: &str) -> Transaction {
        let path = ReversePath::Address(Address::parse(reverse_path).unwrap());
        Transaction::new(path, Vec::new(), Content::EightBit)
    }

    #[test]
    fn every_parameter_where_it_belongs() {
        let mut transaction = transaction("\"a b\"@example.net");
        transaction.dsn_return = Some(DsnReturn::Headers);
        transaction.envelope_id = Some("a+b c=d".into());
        let plan = Plan { require_tls: true, ..everything(true) };
        let expected = "MAIL FROM:<\"a b\"@example.net> SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb+20c+3Dd \
                        REQUIRETLS";
        assert_eq!(mail(&transaction, &plan), expected);
        let bare = Plan { size: None, eight_bit: false, dsn: false, ..everything(false) };
        assert_eq!(mail(&transaction, &bare), "MAIL FROM:<\"a b\"@example.net>");
        transaction.reverse_path = ReversePath::Null;
        assert_eq!(mail(&transaction, &bare), "MAIL FROM:<>");
        let mut to = Recipient::new(Address::parse("b@example.net").unwrap());
        to.notify = Some(Notify::On { success: true, failure: false, delay: true });
        to.original = Some("rfc822;x+y@z".into());
        assert_eq!(recipient(&to, &plan), "RCPT TO:<b@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@z");
        assert_eq!(recipient(&to, &bare), "RCPT TO:<b@example.net>");
    }

    /// Our own grammar reads what we write.
    #[test]
    fn what_we_print_we_parse() {
        for address in ["brian@example.net", "\"a>b \\\" c\"@d", "x@[ipv6:::1]", "грета@xn--80ak6aa92e.com", "\" \"@x"]
        {
            let mut sent = transaction(address);
            sent.envelope_id = Some("QQ 314159+=\\".into());
            let line = mail(&sent, &everything(true));
            let read = grammar::mail(line.strip_prefix("MAIL ").unwrap(), offer()).unwrap();
            assert_eq!(read.reverse_path, sent.reverse_path);
            assert_eq!((read.envelope_id, read.smtputf8, read.eight_bit), (sent.envelope_id, true, true));
            for original in [None, Some("rfc822;a b+c=d@x"), Some("utf-8;ü@x"), Some("utf-8;\\x{FC}@x")] {
                let mut to = Recipient::new(Address::parse(address).unwrap());
                to.original = original.map(str::to_owned);
                to.notify = Some(Notify::Never);
                let line = recipient(&to, &everything(true));
                let read = grammar::recipient(line.strip_prefix("RCPT ").unwrap(), true, offer()).unwrap();
                assert_eq!(read, to);
            }
        }
    }

    /// V14: nothing in an envelope becomes a line or a parameter of its own.
    #[test]
    fn v14_no_envelope_adds_a_line_or_a_parameter() {
        for evil in ["a\r\nRCPT TO:<x@y>", "a b\n", "a\0", "a RET=FULL", "\u{85}", "a\u{9b}b", "\r", ""] {
            let mut sent = transaction("a@b");
            sent.envelope_id = Some(evil.into());
            let mut to = Recipient::new(Address::parse("a@b").unwrap());
            for kind in ["rfc822;", "utf-8;", "rfc822 X;", "", "a\r\n;"] {
                to.original = Some(format!("{kind}{evil}"));
                for utf8 in [false, true] {
                    let lines = [mail(&sent, &everything(utf8)), recipient(&to, &everything(utf8))];
                    for line in &lines {
                        assert!(!line.chars().any(char::is_control) && line.split(' ').count() <= 6, "{line:?}");
                    }
                    assert!(!lines[0].contains("RET=") && !lines[1].contains(" X"), "{lines:?}");
                }
            }
        }
    }

    #[test]
    fn an_original_recipient_beyond_ascii() {
        let mut to = Recipient::new(Address::parse("a@b").unwrap());
        for (original, utf8, expected) in [
            ("utf-8;ü+1@x", true, Some("utf-8;ü\\x{2B}1@x")),
            ("utf-8;ü@x", false, Some("utf-8;\\x{FC}@x")),
            ("UTF-8;\\x{FC}\\y@x", false, Some("UTF-8;\\x{FC}\\x{5C}y@x")),
            ("rfc822;ü@x", true, None),
            ("rfc822", true, None),
            ("rfc822;", true, None),
        ] {
            to.original = Some(original.into());
            let line = recipient(&to, &everything(utf8));
            assert_eq!(line.split_once(" ORCPT=").map(|(_, value)| value), expected, "{original}");
        }
        to.original = Some(format!("rfc822;{}@x", "a".repeat(500)));
        assert_eq!(recipient(&to, &everything(true)), "RCPT TO:<a@b>");
        let mut sent = transaction("a@b");
        sent.envelope_id = Some("=".repeat(50));
        assert!(!mail(&sent, &everything(true)).contains("ENVID"));
    }
}
