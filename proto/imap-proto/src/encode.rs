//! How responses spell their parts (RFC 3501 §9): numbers, strings, flags, dates. No command knows here.
//!
//! Nothing written here can break the framing of a response: a string is quoted only where every octet of it may be.

use crate::lexer::is_atom_char;
use crate::mutf7;
use mail::time::MONTHS;
use mail::{Flags, InternalDate, MailboxName, Message, Snapshot};
use std::fmt::Display;

/// Longest string that is written in quotes, in octets; a longer one becomes a literal, because readers buffer lines.
pub const QUOTED_OCTETS_MAX: usize = 1_024;
/// What stands in a literal for NUL, which RFC 3501 §9 (CHAR8) forbids there. One octet, so that sizes stay true.
pub const NUL_REPLACEMENT: u8 = 0x80;

/// Appends text that prints itself, such as a number.
pub fn text(out: &mut Vec<u8>, value: impl Display) {
    use std::io::Write;
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value}");
}

/// Appends a number in decimal; quicker than [`text`] where many are written.
pub fn number(out: &mut Vec<u8>, value: impl Into<u64>) {
    let mut value: u64 = value.into();
    let mut digits = [0u8; 20];
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        used += 1;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// Appends a string: quoted where that is allowed and short, else as a literal.
pub fn string(out: &mut Vec<u8>, octets: &[u8]) {
    let fits = |b: &u8| matches!(b, 0x20..=0x7e | b'\t');
    if octets.len() <= QUOTED_OCTETS_MAX && octets.iter().all(fits) {
        quoted(out, octets);
    } else {
        literal(out, octets);
    }
}

/// Appends a string, or NIL.
pub fn nstring(out: &mut Vec<u8>, octets: Option<&[u8]>) {
    match octets {
        Some(octets) => string(out, octets),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// Appends a literal: the count of its octets, then the octets, NUL replaced by [`NUL_REPLACEMENT`].
pub fn literal(out: &mut Vec<u8>, octets: &[u8]) {
    literal_head(out, octets.len() as u64);
    literal_octets(out, octets);
}

/// Announces a literal of so many octets.
pub fn literal_head(out: &mut Vec<u8>, octets: u64) {
    out.push(b'{');
    number(out, octets);
    out.extend_from_slice(b"}\r\n");
}

/// Appends octets of an announced literal, NUL replaced by [`NUL_REPLACEMENT`].
pub fn literal_octets(out: &mut Vec<u8>, octets: &[u8]) {
    let start = out.len();
    out.extend_from_slice(octets);
    if memchr::memchr(0, octets).is_some() {
        for octet in out.iter_mut().skip(start).filter(|octet| **octet == 0) {
            *octet = NUL_REPLACEMENT;
        }
    }
}

/// Appends a quoted string; the octets hold no CR, LF or NUL and only ASCII.
fn quoted(out: &mut Vec<u8>, octets: &[u8]) {
    out.push(b'"');
    for octet in octets {
        if matches!(octet, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*octet);
    }
    out.push(b'"');
}

/// Appends an atom where the octets are one, else a string.
pub fn astring(out: &mut Vec<u8>, octets: &[u8]) {
    if !octets.is_empty() && !octets.eq_ignore_ascii_case(b"NIL") && octets.iter().all(|b| is_atom_char(*b)) {
        out.extend_from_slice(octets);
    } else {
        string(out, octets);
    }
}

/// Appends a mailbox name in modified UTF-7 (RFC 3501 §5.1.3), always in quotes.
pub fn mailbox(out: &mut Vec<u8>, name: &MailboxName) {
    quoted(out, mutf7::encode(name.as_str()).as_bytes());
}

/// Appends the parenthesized flags of a message, keywords and `\Recent` included.
pub fn flags_of(out: &mut Vec<u8>, snapshot: &Snapshot, message: &Message, recent: bool) {
    out.push(b'(');
    let start = out.len();
    system_flags(out, message.flags);
    if message.keywords != 0 {
        for keyword in snapshot.keywords_of(message) {
            out.extend_from_slice(keyword.as_str().as_bytes());
            out.push(b' ');
        }
    }
    if recent {
        out.extend_from_slice(b"\\Recent ");
    }
    if out.len() > start {
        out.pop();
    }
    out.push(b')');
}

/// Appends an internal date in quotes (RFC 3501 §9, date-time). Years are cut to the four digits that the form has.
pub fn internal_date(out: &mut Vec<u8>, date: InternalDate) {
    let civil = date.civil();
    out.extend_from_slice(if civil.day < 10 { b"\" " } else { b"\"" });
    number(out, civil.day);
    out.push(b'-');
    let month = MONTHS.get(usize::from(civil.month).saturating_sub(1)).unwrap_or(&"Jan");
    out.extend_from_slice(month.as_bytes());
    out.push(b'-');
    let year = civil.year.clamp(0, 9_999);
    two_digits(out, (year / 100) as u8);
    two_digits(out, (year % 100) as u8);
    for (mark, value) in [(b' ', civil.hour), (b':', civil.minute), (b':', civil.second)] {
        out.push(mark);
        two_digits(out, value);
    }
    out.extend_from_slice(if civil.zone_minutes < 0 { b" -" } else { b" +" });
    let zone = civil.zone_minutes.unsigned_abs();
    two_digits(out, (zone / 60).min(99) as u8);
    two_digits(out, (zone % 60) as u8);
    out.push(b'"');
}

/// A number below 100, with its leading zero.
fn two_digits(out: &mut Vec<u8>, value: u8) {
    out.extend_from_slice(&[b'0' + value / 10 % 10, b'0' + value % 10]);
}

/// Appends the parenthesized list of all flags that a mailbox knows; `more` stands at its end.
pub fn flags_known(out: &mut Vec<u8>, snapshot: &Snapshot, more: &str) {
    out.push(b'(');
    system_flags(out, Flags::ALL);
    for keyword in snapshot.keywords.iter() {
        out.extend_from_slice(keyword.as_str().as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(more.as_bytes());
    if out.last() == Some(&b' ') {
        out.pop();
    }
    out.push(b')');
}

/// Each flag is followed by a space.
fn system_flags(out: &mut Vec<u8>, flags: Flags) {
    for (name, flag) in Flags::NAMES {
        if flags.contains(flag) {
            out.extend_from_slice(name.as_bytes());
            out.push(b' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::Lexer;
    use mail::{BlobId, Keyword, MailboxId, ModSeq, Uid, UidValidity};
    use std::sync::Arc;

    #[test]
    fn strings_print_what_they_parse() {
        let all: Vec<u8> = (1..=255).collect();
        for octets in [&b""[..], b"a", b"NIL", b"a b", b"a\"b\\c", b"a\r\nb", b"\xc3\xa4", &[b'x'; 2_000], &all] {
            for print in [string, astring, literal] {
                let mut out = Vec::new();
                print(&mut out, octets);
                let mut lexer = Lexer::new(&out);
                assert_eq!(&*lexer.astring().unwrap(), octets);
                assert!(lexer.at_end());
            }
        }
    }

    #[test]
    fn numbers_print_like_display() {
        for value in [0, 1, 9, 10, 99, 100, 4_294_967_295, u64::MAX] {
            let (mut quick, mut plain) = (Vec::new(), Vec::new());
            number(&mut quick, value);
            text(&mut plain, value);
            assert_eq!(quick, plain);
        }
    }

    #[test]
    fn r43_mailbox_names_are_quoted_modified_utf7() {
        for (name, wire) in [("INBOX", "\"INBOX\""), ("Entwürfe", "\"Entw&APw-rfe\""), ("a\"b\\", "\"a\\\"b\\\\\"")] {
            let mut out = Vec::new();
            mailbox(&mut out, &MailboxName::parse(name).unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), wire);
        }
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn v27_nul_never_reaches_the_wire() {
        assert_eq!(written(|out| string(out, b"a\0b\0")), b"{4}\r\na\x80b\x80");
        assert_eq!(written(|out| literal(out, b"\0")), b"{1}\r\n\x80");
    }

    #[test]
    fn flags_are_listed_with_keywords_and_recent() {
        let mut snapshot = Snapshot::empty(MailboxId(1), UidValidity(1), Uid(2), ModSeq(1));
        snapshot.keywords = Arc::from([Keyword::parse("$Forwarded").unwrap(), Keyword::parse("Work").unwrap()]);
        let mut message = Message {
            uid: Uid(1),
            flags: Flags::NONE,
            keywords: 0,
            mod_sequence: ModSeq(1),
            size_octets: 1,
            internal_date: InternalDate::default(),
            blob: BlobId(1),
        };
        assert_eq!(written(|out| flags_of(out, &snapshot, &message, false)), b"()");
        assert_eq!(written(|out| flags_of(out, &snapshot, &message, true)), b"(\\Recent)");
        message.flags = Flags::SEEN.union(Flags::ANSWERED);
        message.keywords = 0b10;
        assert_eq!(written(|out| flags_of(out, &snapshot, &message, true)), b"(\\Answered \\Seen Work \\Recent)");
    }

    #[test]
    fn internal_dates_print_as_the_vocabulary_prints_them() {
        for (unix_seconds, zone_minutes) in [(0, 0), (951_782_400, -330), (1_000_000_000, 60), (1_700_000_001, 845)] {
            let date = InternalDate { unix_seconds, zone_minutes };
            let text = written(|out| internal_date(out, date));
            assert_eq!(text, format!("\"{}\"", date.civil().to_imap()).as_bytes());
            assert_eq!(Lexer::new(&text).date_time(), Ok(date));
        }
        let far = InternalDate { unix_seconds: 999_999_999_999, zone_minutes: 0 };
        assert!(written(|out| internal_date(out, far)).ends_with(b"-9999 01:46:39 +0000\""));
    }
}
