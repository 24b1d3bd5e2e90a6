//! The form of a message in a multi-line response (RFC 1939 §3), made piece by piece.

use memchr::memchr;

/// Makes the lines of a message fit for sending: a dot before a leading dot, CRLF after every line. Pieces may be cut
/// anywhere.
///
/// A bare LF of a stored message goes out as CRLF. Many clients end a line at LF alone; for them, a message with LF, dot,
/// CRLF in it would otherwise end there, and its author could speak to them in our voice.
#[derive(Debug)]
pub(crate) struct Multiline {
    /// Octets of the line under way, counted to two.
    line_octets: u8,
    /// The last octet was CR.
    after_cr: bool,
    part: Part,
}

/// How much of the message is sent.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// All of it.
    Whole,
    /// The header section with its empty line, then so many lines.
    Header { lines: u32 },
    /// So many lines more.
    Body { lines: u32 },
    /// What was asked for is complete.
    Done,
}

impl Multiline {
    /// The whole message.
    pub(crate) fn whole() -> Multiline {
        Multiline { line_octets: 0, after_cr: false, part: Part::Whole }
    }

    /// The header section and `lines` lines of the body (RFC 1939 §7, TOP).
    pub(crate) fn top(lines: u32) -> Multiline {
        Multiline { part: Part::Header { lines }, ..Multiline::whole() }
    }

    /// Appends a piece of the message to `output`. Whether no more of it is needed.
    pub(crate) fn push(&mut self, piece: &[u8], output: &mut Vec<u8>) -> bool {
        output.reserve(piece.len() + piece.len() / 64 + 8);
        let mut rest = piece;
        // Runs without a change are copied at once; `unsent` is where the present run begins.
        let mut unsent = piece;
        while !rest.is_empty() && !matches!(self.part, Part::Done) {
            if self.line_octets == 0 && rest.first() == Some(&b'.') {
                send_until(rest, &mut unsent, output);
                output.push(b'.');
            }
            let Some(end) = memchr(b'\n', rest) else {
                self.count(rest);
                rest = &[];
                break;
            };
            let (line, after) = rest.split_at(end);
            self.count(line);
            if !self.after_cr {
                send_until(rest.get(end..).unwrap_or_default(), &mut unsent, output);
                output.push(b'\r');
            }
            rest = after.get(1..).unwrap_or_default();
            self.end_line();
        }
        send_until(rest, &mut unsent, output);
        matches!(self.part, Part::Done)
    }

    /// Ends the response. A last line without its end gets one.
    pub(crate) fn finish(self, output: &mut Vec<u8>) {
        output.extend_from_slice(if self.line_octets == 0 { b".\r\n" } else { b"\r\n.\r\n" });
    }

    fn count(&mut self, octets: &[u8]) {
        if let Some(last) = octets.last() {
            self.after_cr = *last == b'\r';
            self.line_octets = self.line_octets.saturating_add(octets.len().min(2) as u8).min(2);
        }
    }

    fn end_line(&mut self) {
        let empty = self.line_octets == 0 || (self.line_octets == 1 && self.after_cr);
        let left = |lines| if lines == 0 { Part::Done } else { Part::Body { lines } };
        self.part = match self.part {
            Part::Header { lines } if empty => left(lines),
            Part::Body { lines } => left(lines.saturating_sub(1)),
            other @ (Part::Whole | Part::Header { .. } | Part::Done) => other,
        };
        self.line_octets = 0;
        self.after_cr = false;
    }
}

/// Copies what lies before `rest` in `unsent`, of which it is the end, and goes on from there.
fn send_until<'a>(rest: &'a [u8], unsent: &mut &'a [u8], output: &mut Vec<u8>) {
    let run = unsent.len().saturating_sub(rest.len());
    output.extend_from_slice(unsent.get(..run).unwrap_or_default());
    *unsent = rest;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(mut form: Multiline, message: &[u8], size: usize) -> String {
        let mut output = Vec::new();
        for piece in message.chunks(size) {
            if form.push(piece, &mut output) {
                break;
            }
        }
        form.finish(&mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn dots_are_stuffed_however_the_message_is_cut() {
        for (message, form) in [
            ("", ".\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a\r\n.\r\n..b\r\n.c", "a\r\n..\r\n...b\r\n..c\r\n.\r\n"),
            ("a.\r\nb\r.c\r\n", "a.\r\nb\r.c\r\n.\r\n"),
            ("a\n.\nb\n", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\n.\r\nb", "a\r\n..\r\nb\r\n.\r\n"),
            ("\r\n\r\n", "\r\n\r\n.\r\n"),
            ("a\r", "a\r\r\n.\r\n"),
            ("\n", "\r\n.\r\n"),
        ] {
            for size in 1..=message.len().max(1) {
                assert_eq!(sent(Multiline::whole(), message.as_bytes(), size), form, "{message:?} by {size}");
            }
        }
    }

    #[test]
    fn top_ends_after_the_lines_asked_for() {
        let message = "A: 1\r\n.B: 2\r\n\r\none\r\n.two\r\nthree";
        for (lines, form) in [
            (0, "A: 1\r\n..B: 2\r\n\r\n.\r\n"),
            (1, "A: 1\r\n..B: 2\r\n\r\none\r\n.\r\n"),
            (2, "A: 1\r\n..B: 2\r\n\r\none\r\n..two\r\n.\r\n"),
            (3, "A: 1\r\n..B: 2\r\n\r\none\r\n..two\r\nthree\r\n.\r\n"),
            (u32::MAX, "A: 1\r\n..B: 2\r\n\r\none\r\n..two\r\nthree\r\n.\r\n"),
        ] {
            for size in 1..=message.len() {
                assert_eq!(sent(Multiline::top(lines), message.as_bytes(), size), form, "{lines} by {size}");
            }
        }
        assert_eq!(sent(Multiline::top(5), b"Only: header\r\n", 3), "Only: header\r\n.\r\n");
        assert_eq!(sent(Multiline::top(0), b"A: 1\n\nbody\n", 2), "A: 1\r\n\r\n.\r\n");
    }

    #[test]
    fn what_a_client_unstuffs_is_the_message() {
        let mut seed = 5u32;
        for _ in 0..300 {
            let mut message = Vec::new();
            for _ in 0..40 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                message.extend_from_slice([&b"."[..], b"\r\n", b"a", b"\r\n."][(seed >> 16) as usize % 4]);
            }
            message.extend_from_slice(b"\r\n");
            let sent = sent(Multiline::whole(), &message, 1 + (seed >> 20) as usize % 20);
            let mut seen = String::new();
            for line in sent.split_inclusive("\r\n") {
                if line == ".\r\n" {
                    break;
                }
                seen += line.strip_prefix('.').unwrap_or(line);
            }
            assert_eq!(seen.as_bytes(), message);
        }
    }
}
