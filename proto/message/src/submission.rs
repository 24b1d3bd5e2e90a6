//! What a submission server demands of a message's header section, and what it adds to it (RFC 6409 §8; R103, V40).
//!
//! A message that we send on names its author once, so plainly that every reader finds the same one: whoever checks,
//! signs and shows a message must not be able to differ about whom it is from. [`authors`] reads strictly what
//! [`scan`](crate::scan) read leniently, and refuses what is not plain; [`additions`] gives the fields that are missing.
//! Neither changes a field that is there: an unreadable Date: or Message-ID: stays (RFC 6409 §8.2 and §8.3 allow to replace
//! it (not), because it may be signed).
//!
//! None of this is for mail from other servers. Bcc: and Return-Path: are taken out earlier, by
//! [`repair`](crate::repair).

mod mailboxes;
mod recipients;

pub use mailboxes::{AUTHOR_FIELD_OCTETS_MAX, AUTHORS_MAX, Fault};
pub use recipients::recipients;

use crate::scan::HeaderFacts;
use mail::{Address, InternalDate};
use mailboxes::mailboxes;
use std::fmt;

/// Fields that name blind recipients (RFC 5322 §3.6.3 and §3.6.6). Of the three ways that §3.6.3 leaves for them the first
/// is taken, to remove them from a submitted message: the client may have forgotten, and nobody else ever wants to see
/// them.
pub const BLIND_FIELDS: [&str; 2] = ["Bcc", "Resent-Bcc"];

/// What a listener demands beyond what always holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demands {
    /// Whether From: may name several mailboxes. RFC 5322 §3.6.2 allows it where Sender: names the one that sent it; many
    /// readers show only one of them (V40), so it is not allowed unless wanted.
    pub allows_several_authors: bool,
}

/// Whom a submitted message is from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Authors {
    /// The mailboxes of From:, for a check that they belong to the account (R138). Empty where there is no From: field;
    /// then [`additions`] puts one in. At most [`AUTHORS_MAX`].
    pub from: Vec<Address>,
    /// The mailbox of Sender:.
    pub sender: Option<Address>,
}

/// Why a submitted message is refused. RFC 6409 §6.3: 554.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// More than one From: field.
    SeveralFromFields,
    /// More than one Sender: field.
    SeveralSenderFields,
    /// White space between `From` and its colon, which some readers take for another field.
    SpacedFrom,
    /// From: cannot be read in one way only.
    From(Fault),
    /// Sender: cannot be read in one way only.
    Sender(Fault),
    /// From: names several mailboxes.
    SeveralAuthors,
    /// From: names several mailboxes, and Sender: does not say which one sent the message.
    NoSender,
    /// No From: field, and no address to put into one.
    NoAuthor,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::SeveralFromFields => f.write_str("the message has more than one From field"),
            Refusal::SeveralSenderFields => f.write_str("the message has more than one Sender field"),
            Refusal::SpacedFrom => f.write_str("the From field has white space before its colon"),
            Refusal::From(fault) => write!(f, "the From field {fault}"),
            Refusal::Sender(fault) => write!(f, "the Sender field {fault}"),
            Refusal::SeveralAuthors => f.write_str("the From field names more than one mailbox"),
            Refusal::NoSender => f.write_str("the From field names several mailboxes, which needs a Sender field"),
            Refusal::NoAuthor => f.write_str("the message has no From field"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Reads whom a message is from. The facts are complete.
pub fn authors(facts: &HeaderFacts, demands: Demands) -> Result<Authors, Refusal> {
    if facts.from_fields > 1 {
        return Err(Refusal::SeveralFromFields);
    }
    if facts.sender_fields > 1 {
        return Err(Refusal::SeveralSenderFields);
    }
    if facts.from_is_spaced {
        return Err(Refusal::SpacedFrom);
    }
    let from = facts.from.as_deref().map_or(Ok(Vec::new()), |value| mailboxes(value).map_err(Refusal::From))?;
    let sender = match facts.sender.as_deref().map(mailboxes).transpose().map_err(Refusal::Sender)?.as_deref() {
        None => None,
        Some([only]) => Some(only.clone()),
        // RFC 5322 §3.6.2: one mailbox.
        Some(_) => return Err(Refusal::Sender(Fault::TooMany)),
    };
    match (from.len(), &sender) {
        (0 | 1, _) => Ok(Authors { from, sender }),
        _ if !demands.allows_several_authors => Err(Refusal::SeveralAuthors),
        (_, None) => Err(Refusal::NoSender),
        (_, Some(_)) => Ok(Authors { from, sender }),
    }
}

/// What is put into missing fields.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// When it came in.
    pub date: InternalDate,
    /// A message-id that was never given out before, `left@right` without brackets, of printable ASCII.
    pub message_id: &'a str,
    /// The author where there is none: the reverse-path or an address of the account. One beyond ASCII makes a message
    /// that needs SMTPUTF8.
    pub author: Option<&'a Address>,
}

/// The fields that a message lacks, each with its line end, to be put on top of its own and below our trace fields: Date:
/// and From:, of which RFC 5322 §3.6 demands one each, and Message-ID: (RFC 6409 §8.2 and §8.3, R103).
pub fn additions(facts: &HeaderFacts, given: &Given<'_>) -> Result<String, Refusal> {
    let mut fields = String::new();
    if facts.date_fields == 0 {
        fields.push_str(&format!("Date: {}\r\n", given.date.civil().to_rfc5322()));
    }
    if facts.from_fields == 0 {
        fields.push_str(&format!("From: {}\r\n", given.author.ok_or(Refusal::NoAuthor)?));
    }
    if facts.message_id_fields == 0 {
        debug_assert!(given.message_id.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>')));
        fields.push_str(&format!("Message-ID: <{}>\r\n", given.message_id));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::{HeaderRepair, Unwanted};
    use crate::scan::Scanner;
    use std::sync::Arc;

    /// The facts of a message as it goes on: repaired first, as in every intake.
    fn facts(message: &[u8]) -> HeaderFacts {
        let names = BLIND_FIELDS.map(str::to_owned).to_vec();
        let mut repair = HeaderRepair::new(Arc::new(Unwanted { names, authserv_ids: Vec::new() }));
        let mut out = Vec::new();
        repair.write(message, &mut out);
        repair.finish(&mut out);
        let mut scanner = Scanner::new();
        scanner.write(&out);
        scanner.close();
        scanner.facts().clone()
    }

    fn read(header: &str) -> Result<Vec<String>, Refusal> {
        let authors = authors(&facts(format!("{header}\r\n\r\nbody\r\n").as_bytes()), Demands::default())?;
        Ok(authors.from.iter().map(Address::to_string).collect())
    }

    #[test]
    fn plain_authors_are_read() {
        for (header, address) in [
            ("From: brian@example.net", "brian@example.net"),
            ("FROM:<brian@example.net>", "brian@example.net"),
            ("From: Brian <brian@example.net>", "brian@example.net"),
            ("From: Brian X. Smith\r\n\t<brian@example.net>", "brian@example.net"),
            ("From: \"Smith, Brian\" <brian@example.net>", "brian@example.net"),
            ("From: =?utf-8?q?Bri=C3=A1n?= (at work) <Brian@EXAMPLE.net> (x)", "Brian@example.net"),
            ("From: brian@example.net (Brian (the (real) one))", "brian@example.net"),
            ("From: (x) brian@example.net", "brian@example.net"),
            ("From: Bri\u{e1}n <bri\u{e1}n@b\u{fc}cher.example>", "bri\u{e1}n@xn--bcher-kva.example"),
            ("From: \"a >b\"@example.net", "\"a >b\"@example.net"),
            ("From: <\"a <b\"@[192.0.2.1]>", "\"a <b\"@[192.0.2.1]"),
            ("From: \"\" <brian@example.net>", "brian@example.net"),
            ("From: [x] \"not@brian.example\" <brian@example.net>\r\nSender: b@example.net", "brian@example.net"),
        ] {
            assert_eq!(read(header), Ok(vec![address.to_owned()]), "{header}");
        }
        assert_eq!(read("Subject: x"), Ok(Vec::new()));
    }

    /// The ways of the paper "Composition Kills" to make two readers see two authors, with their numbers there where the
    /// header section is concerned, and their kin. The cases A1 to A5 are of the envelope and of DNS; replays of signed
    /// messages (A16 to A18) never come by submission.
    #[test]
    fn v40_no_message_has_two_readings_of_its_author() {
        const ENCODED: &str = "=?utf-8?B?PGFkbWluQGxlZ2l0LmV4YW1wbGU+?=";
        for (header, refusal) in [
            // Several fields, and fields that only some readers take for From:.
            ("From: <a@b.example>\r\nFrom: <admin@legit.example>", Refusal::SeveralFromFields),
            ("From: <a@b.example>\r\nfrom : <admin@legit.example>", Refusal::SeveralFromFields),
            ("From: <a@b.example>\r\nX: y\r\n z\r\nFROM\t:<admin@legit.example>", Refusal::SeveralFromFields),
            ("From : <admin@legit.example>", Refusal::SpacedFrom),
            ("From\t\t: <admin@legit.example>", Refusal::SpacedFrom),
            ("From: a@b.example\r\nSender: a@b.example\r\nSender: admin@legit.example", Refusal::SeveralSenderFields),
            ("From: a@b.example\r\nSender: admin@legit.example, a@b.example", Refusal::Sender(Fault::TooMany)),
            ("From: a@b.example\r\nSender:", Refusal::Sender(Fault::Empty)),
            ("From:", Refusal::From(Fault::Empty)),
            ("From:\r\n \r\n\t", Refusal::From(Fault::Empty)),
            ("From: (admin@legit.example)", Refusal::From(Fault::Empty)),
            // Several addresses.
            ("From: <a@b.example>, <admin@legit.example>", Refusal::SeveralAuthors),
            ("From: admin@legit.example,<a@b.example>", Refusal::SeveralAuthors),
            ("From: <admin@legit.example> <a@b.example>", Refusal::From(Fault::Syntax)),
            ("From: <a@b.example>admin@legit.example", Refusal::From(Fault::Syntax)),
            ("From: <admin@legit.example>\\,<a@b.example>", Refusal::From(Fault::Syntax)),
            ("From: admin@legit.example <a@b.example>", Refusal::From(Fault::Syntax)),
            ("From: \"admin\"@legit.example <a@b.example>", Refusal::From(Fault::Syntax)),
            ("From: a@b.example, ", Refusal::From(Fault::Syntax)),
            ("From: , a@b.example", Refusal::From(Fault::Syntax)),
            ("From: <>", Refusal::From(Fault::Syntax)),
            ("From: Brian <>", Refusal::From(Fault::Syntax)),
            ("From: <a@b.example", Refusal::From(Fault::Syntax)),
            ("From: a@b.example>", Refusal::From(Fault::Syntax)),
            ("From: \"Brian <a@b.example>", Refusal::From(Fault::Syntax)),
            ("From: a@b.example (<admin@legit.example>", Refusal::From(Fault::Syntax)),
            ("From: <admin@legit.example(>a@b.example)", Refusal::From(Fault::Syntax)),
            ("From: <a@b.example@legit.example>", Refusal::From(Fault::Syntax)),
            ("From: <a b@legit.example>", Refusal::From(Fault::Syntax)),
            ("From: <a@b.example >", Refusal::From(Fault::Syntax)),
            // Encoded, routed, grouped, cut short.
            (&format!("From: {ENCODED},<a@b.example>"), Refusal::From(Fault::NoDomain)),
            (&format!("From: {ENCODED} <a@b.example>"), Refusal::From(Fault::HiddenAddress)),
            ("From: \"<admin@legit.example>\" <a@b.example>", Refusal::From(Fault::HiddenAddress)),
            ("From: <=?utf-8?Q?admin=40legit.example=00?=@b.example>", Refusal::From(Fault::Encoded)),
            ("From: =?utf-8?Q?admin=40legit.example?=@b.example", Refusal::From(Fault::Encoded)),
            ("From: =?utf-8?Q?admin=00?= <a@b.example>", Refusal::From(Fault::Control)),
            ("From: =?utf-8?Q?x=0D=0AFrom=3A_admin?= <a@b.example>", Refusal::From(Fault::Control)),
            ("From: <@b.example,@c.example:admin@legit.example>", Refusal::From(Fault::Route)),
            ("From: admins: admin@legit.example;", Refusal::From(Fault::Group)),
            ("From: undisclosed:;", Refusal::From(Fault::Group)),
            ("From: a@b.example;", Refusal::From(Fault::Group)),
            ("From: admin@legit.example\0@b.example", Refusal::From(Fault::Control)),
            ("From: admin@legit.example\r<a@b.example>", Refusal::From(Fault::Control)),
            ("From: admin@legit.example\x0b<a@b.example>", Refusal::From(Fault::Control)),
            ("From: root", Refusal::From(Fault::NoDomain)),
            ("From: Brian", Refusal::From(Fault::NoDomain)),
            ("From: Brian Smith", Refusal::From(Fault::NoDomain)),
        ] {
            assert_eq!(read(header), Err(refusal), "{header}");
        }
        // What the repair in front makes of fields that begin where none can: the author is put in by us.
        for header in
            [" From: <admin@legit.example>", "From\r\n : <admin@legit.example>", "From\0: admin@legit.example"]
        {
            assert_eq!(read(header), Ok(Vec::new()), "{header}");
        }
    }

    #[test]
    fn v40_octets_that_are_no_text_and_lists_without_end_are_refused() {
        let of = |value: &[u8]| {
            authors(&facts(&[b"From: ", value, b"\r\n\r\n"].concat()), Demands { allows_several_authors: true })
        };
        assert_eq!(of(b"J\xfcrgen <a@b.example>"), Err(Refusal::From(Fault::NotUtf8)));
        let long = format!("{} <a@b.example>", "x".repeat(AUTHOR_FIELD_OCTETS_MAX));
        assert_eq!(of(long.as_bytes()), Err(Refusal::From(Fault::TooLong)));
        let many = vec!["a@b.example"; AUTHORS_MAX + 1].join(",");
        assert_eq!(of(many.as_bytes()), Err(Refusal::From(Fault::TooMany)));
        let nested = format!("a@b.example {}", "(".repeat(7_000));
        assert_eq!(of(nested.as_bytes()), Err(Refusal::From(Fault::Syntax)));
    }

    #[test]
    fn several_authors_need_a_sender_where_they_are_allowed() {
        let several = "From: a@b.example, C <c@d.example>\r\n";
        let with_sender = format!("{several}Sender: S <s@b.example>\r\n\r\n");
        let allowed = Demands { allows_several_authors: true };
        let refusal = authors(&facts(format!("{several}\r\n").as_bytes()), allowed);
        assert_eq!(refusal, Err(Refusal::NoSender));
        let read = authors(&facts(with_sender.as_bytes()), allowed).unwrap();
        assert_eq!(read.from.len(), 2);
        assert_eq!(read.sender, Address::parse("s@b.example").ok());
        assert_eq!(authors(&facts(with_sender.as_bytes()), Demands::default()), Err(Refusal::SeveralAuthors));
    }

    #[test]
    fn r103_missing_fields_are_added() {
        let author = Address::parse("brian@example.net").unwrap();
        let date = InternalDate { unix_seconds: 1_000_000_000, zone_minutes: 120 };
        let given = Given { date, message_id: "1.abc@mx.example.net", author: Some(&author) };
        let added = |message: &str| additions(&facts(message.as_bytes()), &given).unwrap();
        assert_eq!(
            added("Subject: x\r\n\r\nbody"),
            "Date: Sun, 9 Sep 2001 03:46:40 +0200\r\nFrom: brian@example.net\r\nMessage-ID: <1.abc@mx.example.net>\r\n"
        );
        assert_eq!(added("date: x\r\nFROM: a@b\r\nMessage-Id: <y@z>\r\n\r\n"), "");
        assert_eq!(added("Date: x\r\nFrom: a@b\r\n"), "Message-ID: <1.abc@mx.example.net>\r\n");
        let nobody = Given { author: None, ..given };
        assert_eq!(additions(&facts(b"\r\n"), &nobody), Err(Refusal::NoAuthor));
        assert_eq!(additions(&facts(b"From: a@b\r\nDate: x\r\nMessage-ID: y\r\n\r\n"), &nobody), Ok(String::new()));
    }

    #[test]
    fn refusals_are_sentences() {
        let refusal = read("From: <@b.example:admin@legit.example>").unwrap_err();
        assert_eq!(refusal.to_string(), "the From field has an address with a route");
    }
}
