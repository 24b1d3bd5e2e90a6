//! Mends the header section of a message on its way in, and takes out what only we may put there.
//!
//! A filter between the SMTP dialogue and the staged body; how octets are split changes nothing. It looks at the
//! message's own header section only, holds back at most one field, and passes the body through as it is.

use crate::header::{Cursor, is_blank, is_name_octet, trim_end};
use memchr::memchr;
use std::sync::Arc;

/// Octets of a field name, white space before the colon included. RFC 5322 §2.1.1 limits a whole line to 998; what is
/// longer without a colon is no field.
pub const FIELD_NAME_OCTETS_MAX: usize = 998;
/// Octets of an Authentication-Results: field that are held back until its author is known. A longer one is dropped.
pub const FIELD_HELD_OCTETS_MAX: usize = 16 * 1024;

const LINE_END: &[u8] = b"\r\n";

/// Fields to take out of the header section. Return-Path: is always taken out (RFC 5321 §4.4, R64).
#[derive(Debug, Clone, Default)]
pub struct Unwanted {
    /// Names of fields, in any case.
    pub names: Vec<String>,
    /// Authentication-Results: fields that claim to come from one of these hosts are forged (RFC 8601 §5, V42).
    pub authserv_ids: Vec<String>,
}

/// What was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repairs {
    /// The empty line after the header section was missing and was put in (R102).
    pub separator_inserted: bool,
    /// How many fields and envelope lines were taken out.
    pub fields_dropped: u32,
}

/// The filter for one message.
#[derive(Debug)]
pub struct HeaderRepair {
    unwanted: Arc<Unwanted>,
    place: Place,
    /// What a folded line goes on with.
    field: Field,
    is_first_line: bool,
    /// The start of a line whose kind is not known yet, or the field held back.
    held: Vec<u8>,
    repairs: Repairs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing of the line was seen.
    LineStart,
    /// In what may be a field name.
    Name,
    /// In the rest of a line of the field.
    Line,
    Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// No field to go on with.
    None,
    Passed,
    Dropped,
    Held,
}

impl HeaderRepair {
    /// A filter at the start of a message.
    pub fn new(unwanted: Arc<Unwanted>) -> HeaderRepair {
        HeaderRepair {
            unwanted,
            place: Place::LineStart,
            field: Field::None,
            is_first_line: true,
            held: Vec::new(),
            repairs: Repairs::default(),
        }
    }

    /// Takes the next octets and appends what shall be stored to `out`.
    pub fn write(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let mut rest = octets;
        while let [first, after @ ..] = rest {
            rest = match self.place {
                Place::LineStart if is_blank(*first) => {
                    self.continue_field(out);
                    rest
                }
                Place::LineStart => {
                    self.release_held(out);
                    self.place = Place::Name;
                    rest
                }
                Place::Name => {
                    self.take_name_octet(*first, out);
                    after
                }
                Place::Line => self.take_line(rest, out),
                Place::Body => {
                    out.extend_from_slice(rest);
                    return;
                }
            }
        }
    }

    /// The message has no more octets: appends what was held back.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Repairs {
        if self.place == Place::Name {
            self.begin_body(out);
        }
        self.release_held(out);
        self.repairs
    }

    /// What was mended so far.
    pub fn repairs(&self) -> Repairs {
        self.repairs
    }

    /// The line begins with white space. At the very start, or behind what is no field, it cannot go on with anything:
    /// trace fields will stand in front of it, and it must not become a piece of them.
    fn continue_field(&mut self, out: &mut Vec<u8>) {
        if self.field == Field::None {
            self.begin_body(out);
        } else {
            self.place = Place::Line;
        }
    }

    /// RFC 5322 §2.2: printable ASCII up to the colon; §4.5.3 allows white space before it.
    fn take_name_octet(&mut self, octet: u8, out: &mut Vec<u8>) {
        let name_ended = self.held.last().is_some_and(|b| is_blank(*b));
        match octet {
            b'\n' if matches!(self.held.as_slice(), b"" | b"\r") => {
                self.held.push(octet);
                out.append(&mut self.held);
                self.place = Place::Body;
            }
            b':' if self.held.first().is_some_and(|b| is_name_octet(*b)) => {
                self.held.push(octet);
                self.begin_field(out);
            }
            // The first octet of an empty line.
            b'\r' if self.held.is_empty() => self.held.push(octet),
            _ if self.held.len() >= FIELD_NAME_OCTETS_MAX || self.held.starts_with(b"\r") => {
                self.held.push(octet);
                self.begin_body(out);
            }
            octet if is_name_octet(octet) && !name_ended => self.held.push(octet),
            octet if is_blank(octet) => self.held.push(octet),
            // What mbox files put before a message is no part of it.
            octet if self.is_first_line && octet != b'\n' && trim_end(&self.held) == b"From" && name_ended => {
                self.held.clear();
                self.drop_line();
            }
            octet => {
                self.held.push(octet);
                self.begin_body(out);
            }
        }
    }

    fn drop_line(&mut self) {
        self.repairs.fields_dropped = self.repairs.fields_dropped.saturating_add(1);
        self.is_first_line = false;
        self.field = Field::Dropped;
        self.place = Place::Line;
    }

    /// A name with its colon is complete.
    fn begin_field(&mut self, out: &mut Vec<u8>) {
        let name = trim_end(self.held.strip_suffix(b":").unwrap_or(&self.held));
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("Return-Path") || self.unwanted.names.iter().any(|known| is(known)) {
            self.held.clear();
            return self.drop_line();
        }
        self.field = if is("Authentication-Results") && !self.unwanted.authserv_ids.is_empty() {
            Field::Held
        } else {
            out.append(&mut self.held);
            Field::Passed
        };
        self.is_first_line = false;
        self.place = Place::Line;
    }

    /// Takes octets up to the end of the line.
    fn take_line<'a>(&mut self, octets: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let end = memchr(b'\n', octets);
        let length = end.map_or(octets.len(), |at| at + 1);
        let (line, rest) = octets.split_at_checked(length).unwrap_or((octets, &[]));
        match self.field {
            Field::Passed | Field::None => out.extend_from_slice(line),
            Field::Dropped => {}
            Field::Held if self.held.len() + line.len() <= FIELD_HELD_OCTETS_MAX => self.held.extend_from_slice(line),
            // Who is so long about saying who he is, has no good reason.
            Field::Held => {
                self.held = Vec::new();
                self.drop_line();
            }
        }
        if end.is_some() {
            self.place = Place::LineStart;
        }
        rest
    }

    /// The field held back is complete: passes it on, unless it claims to be ours.
    fn release_held(&mut self, out: &mut Vec<u8>) {
        if self.field != Field::Held {
            return;
        }
        self.field = Field::None;
        if claims_to_be_from(&self.held, &self.unwanted.authserv_ids) {
            self.held.clear();
            self.repairs.fields_dropped = self.repairs.fields_dropped.saturating_add(1);
        } else {
            out.append(&mut self.held);
        }
    }

    /// The line at hand is no field: the body begins with it.
    fn begin_body(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(LINE_END);
        out.append(&mut self.held);
        self.repairs.separator_inserted = true;
        self.place = Place::Body;
    }
}

/// RFC 8601 §2.2: the authserv-id is a token or quoted string at the start of the value, behind white space and
/// comments.
fn claims_to_be_from(field: &[u8], authserv_ids: &[String]) -> bool {
    let colon = memchr(b':', field).unwrap_or(0);
    let mut cursor = Cursor::new(field.get(colon + 1..).unwrap_or_default());
    cursor.skip_cfws();
    let mut id = Vec::new();
    if cursor.peek() == Some(b'"') {
        cursor.quoted_string(&mut id);
    } else {
        id.extend_from_slice(cursor.take_while(|b| !is_blank(b) && !matches!(b, b';' | b'(' | b'\r' | b'\n')));
    }
    // A dot at the end names the same host.
    let id = id.strip_suffix(b".").unwrap_or(&id);
    authserv_ids.iter().any(|ours| id.eq_ignore_ascii_case(ours.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwanted() -> Arc<Unwanted> {
        Arc::new(Unwanted { names: vec!["X-Ours".to_owned()], authserv_ids: vec!["mx.example.net".to_owned()] })
    }

    fn repaired_in(pieces: &[&[u8]]) -> (String, Repairs) {
        let mut out = Vec::new();
        let mut repair = HeaderRepair::new(unwanted());
        pieces.iter().for_each(|piece| repair.write(piece, &mut out));
        let repairs = repair.finish(&mut out);
        (String::from_utf8(out).unwrap(), repairs)
    }

    /// The result, the same for every split in two and for single octets.
    fn repaired(message: &str) -> String {
        let octets = message.as_bytes();
        let whole = repaired_in(&[octets]);
        for at in 0..=octets.len() {
            assert_eq!(repaired_in(&[&octets[..at], &octets[at..]]), whole, "{message:?} split at {at}");
        }
        assert_eq!(repaired_in(&octets.chunks(1).collect::<Vec<_>>()), whole, "{message:?} by octets");
        whole.0
    }

    fn unchanged(message: &str) {
        assert_eq!(repaired(message), message);
    }

    #[test]
    fn r102_a_missing_separator_is_put_in() {
        assert_eq!(repaired("Subject: x\r\nNo Viruses here!\r\n"), "Subject: x\r\n\r\nNo Viruses here!\r\n");
        assert_eq!(repaired("just text"), "\r\njust text");
        assert_eq!(
            repaired("A: b\nX5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR\n"),
            "A: b\n\r\nX5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR\n"
        );
        assert_eq!(repaired("A: b\r\n: c\r\n"), "A: b\r\n\r\n: c\r\n");
        assert_eq!(repaired("A: b\r\nC"), "A: b\r\n\r\nC");
        assert_eq!(repaired("A: b\r\nC d: e\r\n"), "A: b\r\n\r\nC d: e\r\n");
        assert_eq!(repaired("A: b\r\n\rC: d\r\n"), "A: b\r\n\r\n\rC: d\r\n");
        assert_eq!(repaired("A: b\r\nG\u{fc}te: d\r\n"), "A: b\r\n\r\nG\u{fc}te: d\r\n");
    }

    #[test]
    fn sound_messages_pass_unchanged() {
        unchanged("");
        unchanged("\r\n");
        unchanged("\nReturn-Path: <a@b>\n");
        unchanged("A: b\r\nC : d\r\n\te\r\n \r\n f\r\n\r\nbody: x\r\nbody\r\n");
        unchanged("A:b\nC:\n\nbody without end");
        unchanged("From: a\r\nFrom : b\r\n\r\n");
        unchanged("A: b\r\n");
        unchanged("A: b");
    }

    #[test]
    fn r64_return_path_is_taken_out() {
        assert_eq!(repaired("Return-Path: <a@b>\r\n\t(x)\r\nA: b\r\n\r\n"), "A: b\r\n\r\n");
        assert_eq!(
            repaired("A: b\r\nRETURN-PATH  :\r\n <a@b>\r\nx-ours: y\r\nC: d\r\n\r\nX-Ours: z\r\n"),
            "A: b\r\nC: d\r\n\r\nX-Ours: z\r\n"
        );
        assert_eq!(repaired("Return-Path: <a@b>"), "");
        assert_eq!(repaired("Return-Pathological: x\r\n\r\n"), "Return-Pathological: x\r\n\r\n");
        assert_eq!(repaired_in(&[b"Return-Path: x\r\n\r\n"]).1.fields_dropped, 1);
    }

    #[test]
    fn an_mbox_line_is_taken_out_once_and_only_at_the_start() {
        assert_eq!(repaired("From a@b Mon Jan  1\r\nA: b\r\n\r\n"), "A: b\r\n\r\n");
        assert_eq!(repaired("From a@b\r\nFrom c@d\r\n"), "\r\nFrom c@d\r\n");
        assert_eq!(repaired("A: b\r\nFrom a@b\r\n"), "A: b\r\n\r\nFrom a@b\r\n");
        assert_eq!(repaired("From \r\nA: b\r\n"), "A: b\r\n");
    }

    #[test]
    fn a_leading_folded_line_cannot_join_our_trace_fields() {
        assert_eq!(repaired(" for <x@y>\r\nA: b\r\n"), "\r\n for <x@y>\r\nA: b\r\n");
    }

    #[test]
    fn v42_results_that_claim_to_be_ours_are_taken_out() {
        for forged in [
            "Authentication-Results: mx.example.net; spf=pass\r\n",
            "AUTHENTICATION-RESULTS :\r\n\tMX.Example.Net 1;\r\n spf=pass\r\n",
            "authentication-results: (a (b) \\)) \"mx.\\example.net\" ; none\r\n",
            "Authentication-Results:mx.example.net.",
        ] {
            assert_eq!(repaired(&format!("A: b\r\n{forged}")), "A: b\r\n", "{forged}");
        }
        unchanged("Authentication-Results: mx.example.com; spf=pass\r\n\t(mx.example.net;)\r\nA: b\r\n\r\n");
        unchanged("Authentication-Results: mx.example.net.evil.test; spf=pass");
        let hidden = format!("Authentication-Results:{}mx.example.net; x\r\nA: b\r\n", "\r\n (x)".repeat(4_000));
        assert_eq!(repaired_in(&[hidden.as_bytes()]).0, "A: b\r\n");
        assert_eq!(repaired_in(&hidden.as_bytes().chunks(1).collect::<Vec<_>>()).0, "A: b\r\n");
    }

    #[test]
    fn v10_long_lines_are_not_kept() {
        let long = "a".repeat(5_000_000);
        let mut out = Vec::new();
        let mut repair = HeaderRepair::new(unwanted());
        repair.write(long.as_bytes(), &mut out);
        assert!(repair.held.capacity() <= 4 * FIELD_NAME_OCTETS_MAX);
        assert_eq!(out.len(), long.len() + LINE_END.len());
    }
}
