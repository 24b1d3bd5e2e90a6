//! The two canonical forms of header fields and bodies (RFC 6376 §3.4).
//!
//! A body is hashed while its octets pass, however they are cut, in constant memory: runs of empty lines and of white
//! space are counted, never kept. Lines end with CRLF; a CR or LF alone is an octet like any other, so a message is to be
//! given as it goes out on the wire, before dots are doubled (RFC 6376 §3.7).

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use message::header::{is_blank, without_line_end};
use std::fmt;

/// Which changes on the way a signature survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Canonical {
    /// None, but for empty lines at the end.
    Simple,
    /// Changes of white space and of the folding of header fields.
    Relaxed,
}

impl fmt::Display for Canonical {
    /// As in the `c=` tag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Canonical::Simple => "simple",
            Canonical::Relaxed => "relaxed",
        })
    }
}

/// The hash of a whole body, and the form it was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyDigest {
    /// The form of the body.
    pub form: Canonical,
    /// SHA-256 over it.
    pub sha256: [u8; SHA256_OUTPUT_LEN],
}

/// Octets gathered before they are hashed: the hash is fastest in large pieces.
const GATHERED_OCTETS_MAX: usize = 4_096;
const LINE_END: &[u8] = b"\r\n";

/// Hashes a body that comes in pieces.
pub struct BodyHash {
    form: Canonical,
    context: Context,
    gathered: Vec<u8>,
    /// Line ends that count only if something follows them.
    line_ends: u64,
    /// White space that counts only if something follows it on its line; relaxed form only.
    space: bool,
    /// A CR whose LF may come with the next octet.
    carriage_return: bool,
    /// Whether anything but empty lines was seen.
    has_text: bool,
}

impl BodyHash {
    /// A hash at the start of a body: behind the empty line that ends the header section.
    pub fn new(form: Canonical) -> BodyHash {
        BodyHash {
            form,
            context: Context::new(&SHA256),
            gathered: Vec::with_capacity(GATHERED_OCTETS_MAX),
            line_ends: 0,
            space: false,
            carriage_return: false,
            has_text: false,
        }
    }

    /// Takes the next octets of the body.
    pub fn write(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while let [first, after @ ..] = rest {
            rest = match first {
                b'\n' if self.carriage_return => {
                    self.end_line();
                    after
                }
                b'\r' => {
                    self.settle_carriage_return();
                    self.carriage_return = true;
                    after
                }
                b' ' | b'\t' if self.form == Canonical::Relaxed => {
                    self.settle_carriage_return();
                    self.space = true;
                    after
                }
                _ => {
                    self.settle_carriage_return();
                    let length = rest.iter().position(|octet| self.ends_run(*octet)).unwrap_or(rest.len());
                    let (run, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                    self.take_text(run);
                    after
                }
            };
        }
    }

    /// The body has no more octets.
    pub fn finish(mut self) -> BodyDigest {
        self.settle_carriage_return();
        // RFC 6376 §3.4.3: even no body at all is one line end. §3.4.4: an empty body is nothing, any other ends with a
        // line end.
        if self.form == Canonical::Simple || self.has_text {
            self.gather(LINE_END);
        }
        self.context.update(&self.gathered);
        let mut sha256 = [0; SHA256_OUTPUT_LEN];
        for (place, octet) in sha256.iter_mut().zip(self.context.finish().as_ref()) {
            *place = *octet;
        }
        BodyDigest { form: self.form, sha256 }
    }

    fn ends_run(&self, octet: u8) -> bool {
        octet == b'\r' || self.form == Canonical::Relaxed && is_blank(octet)
    }

    fn end_line(&mut self) {
        self.carriage_return = false;
        self.space = false;
        self.line_ends += 1;
    }

    /// What follows the CR is no LF: the CR is text.
    fn settle_carriage_return(&mut self) {
        if self.carriage_return {
            self.carriage_return = false;
            self.take_text(b"\r");
        }
    }

    /// Text makes everything before it count.
    fn take_text(&mut self, text: &[u8]) {
        for _ in 0..std::mem::take(&mut self.line_ends) {
            self.gather(LINE_END);
        }
        if std::mem::take(&mut self.space) {
            self.gather(b" ");
        }
        self.has_text = true;
        self.gather(text);
    }

    fn gather(&mut self, octets: &[u8]) {
        if self.gathered.len() + octets.len() > GATHERED_OCTETS_MAX {
            self.context.update(&self.gathered);
            self.gathered.clear();
        }
        if octets.len() > GATHERED_OCTETS_MAX {
            self.context.update(octets);
        } else {
            self.gathered.extend_from_slice(octets);
        }
    }
}

impl fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyHash").field("form", &self.form).finish_non_exhaustive()
    }
}

/// Appends a field in a canonical form, its line end included. `raw` is the whole field as it stands in the message.
pub(super) fn append_field(raw: &[u8], form: Canonical, out: &mut Vec<u8>) {
    match form {
        Canonical::Simple => out.extend_from_slice(without_line_end(raw)),
        Canonical::Relaxed => append_relaxed(raw, out),
    }
    out.extend_from_slice(LINE_END);
}

/// RFC 6376 §3.4.2, without the line end.
fn append_relaxed(raw: &[u8], out: &mut Vec<u8>) {
    let colon = raw.iter().position(|octet| *octet == b':').unwrap_or(raw.len());
    let (name, value) = raw.split_at_checked(colon).unwrap_or((raw, &[]));
    out.extend(name.iter().filter(|octet| !is_blank(**octet)).map(u8::to_ascii_lowercase));
    out.push(b':');
    let mut rest = without_line_end(value.get(1..).unwrap_or_default());
    let (mut space, start) = (false, out.len());
    while let [first, after @ ..] = rest {
        rest = match rest {
            [b'\r', b'\n', after @ ..] => after,
            [b' ' | b'\t', after @ ..] => {
                space = true;
                after
            }
            _ => {
                // White space at either end of the value does not count.
                if std::mem::take(&mut space) && out.len() > start {
                    out.push(b' ');
                }
                out.push(*first);
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Canonical::{Relaxed, Simple};
    use aws_lc_rs::digest::digest;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn hash_of(form: Canonical, pieces: &[&[u8]]) -> [u8; 32] {
        let mut hash = BodyHash::new(form);
        pieces.iter().for_each(|piece| hash.write(piece));
        hash.finish().sha256
    }

    /// Asserts the canonical form by its hash, for every split in two and for single octets.
    fn becomes(form: Canonical, body: &str, canonical: &str) {
        let body = body.as_bytes();
        let wanted = digest(&SHA256, canonical.as_bytes());
        assert_eq!(hash_of(form, &[body]), wanted.as_ref(), "{form}: {body:?}");
        for at in 0..=body.len() {
            assert_eq!(hash_of(form, &[&body[..at], &body[at..]]), wanted.as_ref(), "{form}: {body:?} cut at {at}");
        }
        assert_eq!(hash_of(form, &body.chunks(1).collect::<Vec<_>>()), wanted.as_ref(), "{form}: {body:?} by octets");
    }

    #[test]
    fn bodies_of_rfc_6376() {
        becomes(Relaxed, " C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n");
        becomes(Simple, " C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n");
        for (form, empty) in [
            (Simple, "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="),
            (Relaxed, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        ] {
            assert_eq!(STANDARD.encode(hash_of(form, &[])), empty);
            assert_eq!(STANDARD.encode(hash_of(form, &[b"\r\n\r\n"])), empty);
        }
    }

    #[test]
    fn simple_changes_only_the_end() {
        becomes(Simple, "a", "a\r\n");
        becomes(Simple, "a\r\n", "a\r\n");
        becomes(Simple, "\r\n\r\na \t\r\n\r\nb", "\r\n\r\na \t\r\n\r\nb\r\n");
        becomes(Simple, "a\r\n \r\n\r\n", "a\r\n \r\n");
        becomes(Simple, "a\r\n\r", "a\r\n\r\r\n");
        becomes(Simple, "a\r\r\n\r\n", "a\r\r\n");
        becomes(Simple, "\r\r\r", "\r\r\r\r\n");
        becomes(Simple, "a\nb\rc\n\r\n", "a\nb\rc\n\r\n");
        becomes(Simple, "\n", "\n\r\n");
    }

    #[test]
    fn relaxed_reduces_white_space() {
        becomes(Relaxed, "a", "a\r\n");
        becomes(Relaxed, " \t a  b\t\tc \t\r\n", " a b c\r\n");
        becomes(Relaxed, "\r\n \t\r\na", "\r\n\r\na\r\n");
        // White space only, at the end, however it ends: the body without it has the same hash.
        for end in ["", "\r\n", " ", "\r\n \t \r\n\t\r\n", "  \r\n\r\n \r\n ", "\r\n\r\n\t"] {
            becomes(Relaxed, &format!("a b{end}"), "a b\r\n");
        }
        for empty in ["", " ", "\t\r\n", "\r\n", " \r\n \r\n ", "\r\n\r\n"] {
            becomes(Relaxed, empty, "");
        }
        becomes(Relaxed, "a \rb \r \n\r\r\n", "a \rb \r \n\r\r\n");
        becomes(Relaxed, "a\r \r\n\r", "a\r\r\n\r\r\n");
        becomes(Relaxed, "a \n b", "a \n b\r\n");
    }

    const BLANK: [char; 2] = [' ', '\t'];

    /// The forms in the words of RFC 6376 §3.4.3 and §3.4.4, one step after the other over the whole body.
    fn canonical(form: Canonical, body: &str) -> String {
        let mut lines: Vec<String> = body.split("\r\n").map(str::to_owned).collect();
        if form == Relaxed {
            for line in &mut lines {
                let words: Vec<&str> = line.trim_end_matches(BLANK).split(BLANK).collect();
                let indent = if line.starts_with(BLANK) { " " } else { "" };
                *line = words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ");
                if !line.is_empty() {
                    line.insert_str(0, indent);
                }
            }
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        if lines.is_empty() && form == Simple {
            lines.push(String::new());
        }
        lines.iter().map(|line| format!("{line}\r\n")).collect()
    }

    #[test]
    fn bodies_of_every_short_shape_have_the_form_of_the_text() {
        let letters = [' ', '\t', '\r', '\n', 'a'];
        let mut bodies = vec![String::new()];
        for at in 0..letters.len().pow(6) {
            let digit = |place: u32| letters.get(at / letters.len().pow(place) % letters.len());
            bodies.push((0..6).filter_map(digit).collect());
        }
        bodies.extend(bodies.clone().iter().step_by(7).map(|body| format!("a b\r\n{}", &body[body.len() / 2..])));
        for body in &bodies {
            for form in [Simple, Relaxed] {
                let wanted = digest(&SHA256, canonical(form, body).as_bytes());
                let pieces: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
                assert_eq!(hash_of(form, &pieces), wanted.as_ref(), "{form}: {body:?}");
                assert_eq!(hash_of(form, &[body.as_bytes()]), wanted.as_ref(), "{form}: {body:?}");
            }
        }
    }

    #[test]
    fn v10_runs_are_counted_and_not_kept() {
        for form in [Simple, Relaxed] {
            let mut hash = BodyHash::new(form);
            let (lines, spaces) = ("\r\n".repeat(8_192), " ".repeat(16_384));
            for _ in 0..64 {
                hash.write(lines.as_bytes());
                hash.write(spaces.as_bytes());
                hash.write(b"\r\n");
            }
            hash.write(lines.as_bytes());
            assert!(hash.gathered.capacity() <= GATHERED_OCTETS_MAX);
            hash.finish();
        }
        let long = vec![b'x'; 100_000];
        assert_eq!(hash_of(Relaxed, &[&long]), digest(&SHA256, &[&long[..], b"\r\n"].concat()).as_ref());
    }

    #[test]
    fn fields_of_rfc_6376() {
        let field = |raw: &str, form| {
            let mut out = Vec::new();
            append_field(raw.as_bytes(), form, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (raw, relaxed) in [
            ("A: X\r\n", "a:X\r\n"),
            ("B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n"),
            ("SUBJect: AbC\r\n", "subject:AbC\r\n"),
            ("C:\r\n \t\r\n", "c:\r\n"),
            ("D:\r\n \r\n  x\r\n\ty\r\n \r\n", "d:x y\r\n"),
            ("E: a : b:c", "e:a : b:c\r\n"),
            ("F: a\rb\r\n", "f:a\rb\r\n"),
            ("G: caf\u{e9}\n", "g:caf\u{e9}\r\n"),
        ] {
            assert_eq!(field(raw, Relaxed), relaxed, "{raw:?}");
        }
        assert_eq!(field("B : Y\t\r\n\tZ  \r\n", Simple), "B : Y\t\r\n\tZ  \r\n");
        assert_eq!(field("B:", Simple), "B:\r\n");
    }
}
