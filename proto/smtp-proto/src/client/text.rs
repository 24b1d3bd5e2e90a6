//! Message text on its way out: line ends and dots.
//!
//! What goes out holds no bare CR and no bare LF, whatever comes in (V1): they become what they become on their way in
//! (`crate::data`), so that a text has one form in the whole house. The text ends in CRLF if it is not empty: DATA
//! needs it, and BDAT gets the same, so that a message does not depend on how it was sent. DKIM's canonical forms add it as
//! well (RFC 6376 §3.4.3), so that no signature breaks by it.

use crate::data::{Decoder, Framing};
use memchr::memmem;

/// How the text is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dots {
    /// DATA: a dot at the start of a line is doubled (RFC 5321 §4.5.2).
    Doubled,
    /// BDAT: a dot is text.
    AsTheyAre,
}

/// Turns a message into text to be sent, over as many calls as it comes in.
#[derive(Debug)]
pub(super) struct Encoder {
    dots: Dots,
    line_ends: Decoder,
    at_line_start: bool,
    /// Text with its line ends put right, before dots.
    lines: Vec<u8>,
}

impl Encoder {
    pub fn new(dots: Dots) -> Encoder {
        Encoder { dots, line_ends: Decoder::new(Framing::Counted), at_line_start: true, lines: Vec::new() }
    }

    /// Appends text: at most two octets for each, and two more.
    pub fn encode(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let mut lines = std::mem::take(&mut self.lines);
        self.line_ends.decode(octets, &mut lines);
        self.add(&lines, out);
        lines.clear();
        self.lines = lines;
    }

    /// Appends what is left at the end of the message. Another call adds nothing.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let mut lines = Vec::new();
        self.line_ends.finish(&mut lines);
        self.add(&lines, out);
        if !self.at_line_start {
            out.extend_from_slice(b"\r\n");
            self.at_line_start = true;
        }
        self.lines = Vec::new();
    }

    fn add(&mut self, lines: &[u8], out: &mut Vec<u8>) {
        let Some(last) = lines.last() else { return };
        if self.dots == Dots::AsTheyAre {
            out.extend_from_slice(lines);
        } else {
            if self.at_line_start && lines.first() == Some(&b'.') {
                out.push(b'.');
            }
            let mut rest = lines;
            while let Some(found) = memmem::find(rest, b"\n.") {
                let (line, next) = rest.split_at_checked(found + 1).unwrap_or((rest, &[]));
                out.extend_from_slice(line);
                out.push(b'.');
                rest = next;
            }
            out.extend_from_slice(rest);
        }
        self.at_line_start = *last == b'\n';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(dots: Dots, octets: &[u8], size: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(dots);
        let mut out = Vec::new();
        octets.chunks(size).for_each(|piece| encoder.encode(piece, &mut out));
        encoder.finish(&mut out);
        encoder.finish(&mut out);
        out
    }

    #[test]
    fn dots_are_doubled_at_the_start_of_a_line() {
        for (text, expected) in [
            (&b""[..], &b""[..]),
            (b".", b"..\r\n"),
            (b"..\r\n.", b"...\r\n..\r\n"),
            (b"a\r\n.\r\nb.\r\n.c\r\n", b"a\r\n..\r\nb.\r\n..c\r\n"),
            (b"a\n.\nb\r.\r", b"a\r\n..\r\nb . \r\n"),
            (b"\r\n\r\n.", b"\r\n\r\n..\r\n"),
            (b"\r\n.\n\r\n", b"\r\n..\r\n\r\n"),
        ] {
            for size in 1..=text.len().max(1) {
                assert_eq!(encoded(Dots::Doubled, text, size), expected, "{text:?} by {size}");
            }
        }
        assert_eq!(encoded(Dots::AsTheyAre, b".\n.", 1), b".\r\n.\r\n");
    }

    /// What our own receiving side makes of it, for every short text of octets that matter.
    #[test]
    fn v1_the_text_comes_back_and_ends_where_it_should() {
        let signs = b"\r\n.a";
        for number in 0..4_usize.pow(6) {
            let text: Vec<u8> = (0..6).map(|place| signs[number / 4_usize.pow(place) % 4]).collect();
            let plain = encoded(Dots::AsTheyAre, &text, 6);
            let mut sent = encoded(Dots::Doubled, &text, 1 + number % 6);
            sent.extend_from_slice(b".\r\nQUIT\r\n");
            let mut received = Vec::new();
            let decoded = Decoder::new(Framing::Dots).decode(&sent, &mut received);
            assert!(decoded.ended && &sent[decoded.consumed..] == b"QUIT\r\n", "{text:?}");
            assert_eq!(received, plain, "{text:?}");
            let stripped = String::from_utf8(sent).unwrap().replace("\r\n", "");
            assert!(!stripped.contains(['\r', '\n']), "{text:?}");
        }
    }
}
