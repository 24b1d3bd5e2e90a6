//! Header sections: fields, unfolding, and the two structured values that need a parser of their own.
//!
//! Works on octets at rest. The scanner, which sees octets as they arrive, is in [`crate::scan`].

mod addresses;
mod date;

pub use addresses::parse_addresses;
pub use date::parse_date;

use memchr::memchr;

/// One field of a header section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as written, without white space and colon.
    pub name: &'a [u8],
    /// The whole field, folded lines and every line end included.
    pub raw: &'a [u8],
    /// What follows the colon, still folded, without the last line end.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Whether this is the field's name; case does not matter (RFC 5322 §1.2.2).
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The fields of a header section, in order. Stops at the first empty line. Lines that belong to no field (RFC 5322
/// §2.2) are passed over. Line ends are CRLF or a bare LF.
pub fn fields(section: &[u8]) -> Fields<'_> {
    Fields { rest: section }
}

/// See [`fields`].
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let end = end_of_field(self.rest)?;
            let (raw, rest) = self.rest.split_at_checked(end)?;
            self.rest = rest;
            if raw.first().is_some_and(|b| is_blank(*b)) {
                continue;
            }
            if let Some((name, value)) = split_field(raw) {
                return Some(Field { name, raw, value: without_line_end(value) });
            }
        }
    }
}

/// Where the field at the start ends: behind the last of its folded lines. `None` at an empty line or at the end.
fn end_of_field(section: &[u8]) -> Option<usize> {
    let first = end_of_line(section, 0);
    if without_line_end(section.get(..first)?).is_empty() {
        return None;
    }
    let mut end = first;
    while section.get(end).is_some_and(|b| is_blank(*b)) {
        end = end_of_line(section, end);
    }
    Some(end)
}

fn end_of_line(section: &[u8], from: usize) -> usize {
    section.get(from..).and_then(|rest| memchr(b'\n', rest)).map_or(section.len(), |at| from + at + 1)
}

/// Space or tab.
pub fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// The line without its CRLF or LF.
pub fn without_line_end(line: &[u8]) -> &[u8] {
    match line {
        [content @ .., b'\r', b'\n'] | [content @ .., b'\n'] => content,
        content => content,
    }
}

/// Splits at the colon. `None` unless a field name stands before it: printable ASCII (RFC 5322 §2.2), with white
/// space before the colon allowed (RFC 5322 §4.5.3).
pub(crate) fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', line)?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
    let name = trim_end(name);
    (!name.is_empty() && name.iter().all(|b| is_name_octet(*b))).then_some((name, value))
}

/// Whether the octet may stand in a field name (RFC 5322 §2.2).
pub(crate) fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_graphic() && octet != b':'
}

/// A field's value on one line: line ends removed (RFC 5322 §2.2.3), white space at both ends as well.
pub fn unfold(value: &[u8]) -> Vec<u8> {
    let value = trim(value);
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr(b'\n', rest) {
        let (line, after) = rest.split_at_checked(at + 1).unwrap_or((rest, &[]));
        out.extend_from_slice(without_line_end(line));
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

pub(crate) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text {
        if !is_space(*last) {
            break;
        }
        text = rest;
    }
    text
}

/// The text without white space and line ends at both ends.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_end(text);
    while let [first, rest @ ..] = text {
        if !is_space(*first) {
            break;
        }
        text = rest;
    }
    text
}

/// A position in a structured value, with the lexical steps of RFC 5322 §3.2 that several grammars share.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: text }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn bump(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Takes the octet if it is the next.
    pub(crate) fn eat(&mut self, octet: u8) -> bool {
        let is_next = self.peek() == Some(octet);
        if is_next {
            self.bump();
        }
        is_next
    }

    /// Takes octets while they fit.
    pub(crate) fn take_while(&mut self, fits: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|b| !fits(*b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// Passes over white space and line ends; whether there were any.
    pub(crate) fn skip_space(&mut self) -> bool {
        !self.take_while(is_space).is_empty()
    }

    /// Passes over white space and comments (RFC 5322 §3.2.2).
    pub(crate) fn skip_cfws(&mut self) {
        loop {
            self.skip_space();
            if self.peek() != Some(b'(') {
                return;
            }
            self.comment(None);
        }
    }

    /// Takes a comment, which may nest, and collects its text unquoted. One that never ends ends with the value.
    pub(crate) fn comment(&mut self, mut text: Option<&mut Vec<u8>>) {
        let mut depth = 0_usize;
        while let Some(octet) = self.bump() {
            let octet = match octet {
                b'(' => {
                    depth += 1;
                    if depth == 1 {
                        continue;
                    }
                    octet
                }
                b')' => {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                    octet
                }
                b'\\' => match self.bump() {
                    Some(quoted) => quoted,
                    None => return,
                },
                b'\r' | b'\n' => continue,
                octet => octet,
            };
            if let Some(text) = text.as_deref_mut() {
                text.push(octet);
            }
        }
    }

    /// Takes a quoted string (RFC 5322 §3.2.4) and appends its text without quotes, backslashes and line ends. One
    /// that never ends ends with the value. The opening quote must be the next octet.
    pub(crate) fn quoted_string(&mut self, text: &mut Vec<u8>) {
        self.bump();
        while let Some(octet) = self.bump() {
            match octet {
                b'"' => return,
                b'\\' => text.extend(self.bump()),
                b'\r' | b'\n' => {}
                octet => text.push(octet),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_and_values(section: &[u8]) -> Vec<(String, String)> {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        fields(section).map(|field| (text(field.name), text(&unfold(field.value)))).collect()
    }

    #[test]
    fn fields_come_in_order_and_unfolded() {
        let section = b"From a@b Mon\r\nSubject: one\r\n two\r\n\tthree \r\nX-Empty:\r\nnonsense\r\n more\r\nTo : a@b\nCc:c@d\r\n\r\nNot: me\r\n";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            names_and_values(section),
            [pair("Subject", "one two\tthree"), pair("X-Empty", ""), pair("To", "a@b"), pair("Cc", "c@d")]
        );
        let raw: Vec<&[u8]> = fields(section).map(|field| field.raw).collect();
        assert_eq!(raw.first(), Some(&b"Subject: one\r\n two\r\n\tthree \r\n".as_slice()));
        assert!(fields(section).next().is_some_and(|field| field.is("sUBJECT")));
    }

    #[test]
    fn v28_sections_that_are_cut_or_odd_give_what_there_is() {
        assert_eq!(names_and_values(b""), []);
        assert_eq!(names_and_values(b"\n"), []);
        assert_eq!(names_and_values(b" lost\r\nA: b"), [("A".to_owned(), "b".to_owned())]);
        assert_eq!(names_and_values(b":\r\n: x\r\nA\xe9: b\r\nB:\r\n \r\n"), [("B".to_owned(), String::new())]);
        assert_eq!(unfold(b" \r\n \r\n"), b"");
        assert_eq!(unfold(b"a\n b\r\n c\rd"), b"a b c\rd");
    }
}
