//! The client's octets on their way to be lines or message text. Not grammar: a line is octets up to a line end.

use memchr::memchr;

/// Longest command in octets, without its line end; RFC 5321 §4.5.3.1.4 asks for 512 and the extensions add to it.
pub(crate) const COMMAND_OCTETS_MAX: usize = 2_048;
/// Room kept between waits; what a burst needed beyond it is given back.
const CAPACITY_KEPT_OCTETS: usize = 4_096;

/// What counts as the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineEnds {
    /// CRLF alone (RFC 5321 §2.3.8).
    Strict,
    /// A bare LF as well (R198).
    Lenient,
}

/// What stands at the front of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// No whole line yet.
    Incomplete,
    /// A line without its end.
    Complete(Vec<u8>),
    /// A line beyond the limit. The rest of it is dropped as it comes.
    TooLong,
    /// LF without CR where only CRLF counts.
    BareLf,
}

/// Octets received and not yet used up.
#[derive(Debug, Default)]
pub(crate) struct Input {
    octets: Vec<u8>,
    /// How many of them are used up.
    start: usize,
    /// How many of the rest are known to hold no LF.
    searched: usize,
    /// Whether the rest of an overlong line is being dropped.
    skipping: bool,
    ended: bool,
}

impl Input {
    pub(crate) fn push(&mut self, octets: &[u8]) {
        if self.start > 0 {
            self.octets.drain(..self.start);
            self.start = 0;
        }
        self.octets.extend_from_slice(octets);
        if self.skipping {
            self.skip();
        }
    }

    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What is there.
    pub(crate) fn rest(&self) -> &[u8] {
        self.octets.get(self.start..).unwrap_or_default()
    }

    /// Uses up octets of the rest.
    pub(crate) fn consume(&mut self, octets: usize) {
        self.start = self.octets.len().min(self.start + octets);
        self.searched = 0;
    }

    /// Drops everything, and what was known of it (V3).
    pub(crate) fn clear(&mut self) {
        self.octets = Vec::new();
        self.start = 0;
        self.searched = 0;
        self.skipping = false;
    }

    /// Gives memory back before a wait.
    pub(crate) fn release(&mut self) {
        if self.rest().is_empty() {
            self.octets.clear();
            self.start = 0;
            if self.octets.capacity() > CAPACITY_KEPT_OCTETS {
                self.octets = Vec::new();
            }
        }
    }

    pub(crate) fn begins_with_ignoring_case(&self, prefix: &[u8]) -> bool {
        self.rest().get(..prefix.len()).is_some_and(|front| front.eq_ignore_ascii_case(prefix))
    }

    /// Takes the next line of at most so many octets.
    pub(crate) fn line(&mut self, octets_max: usize, line_ends: LineEnds) -> Line {
        if self.skipping {
            self.skip();
        }
        if self.skipping {
            return Line::Incomplete;
        }
        let rest = self.rest();
        let found = rest.get(self.searched..).and_then(|unknown| memchr(b'\n', unknown));
        let Some(end) = found.map(|index| index + self.searched) else {
            self.searched = rest.len();
            // The text, its CR, and the octet that is not the LF.
            if self.searched < octets_max + 2 {
                return Line::Incomplete;
            }
            self.skipping = true;
            self.skip();
            return Line::TooLong;
        };
        let raw = rest.get(..end).unwrap_or_default();
        let (text, bare) = match raw.strip_suffix(b"\r") {
            Some(text) => (text, false),
            None => (raw, true),
        };
        let line = if text.len() > octets_max {
            Line::TooLong
        } else if bare && line_ends == LineEnds::Strict {
            Line::BareLf
        } else {
            Line::Complete(text.to_vec())
        };
        self.consume(end + 1);
        line
    }

    /// V10: an endless line takes no memory.
    fn skip(&mut self) {
        match memchr(b'\n', self.rest()) {
            Some(end) => {
                self.skipping = false;
                self.consume(end + 1);
            }
            None => {
                self.octets.clear();
                self.start = 0;
                self.searched = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(octets: &[u8], size: usize, octets_max: usize, line_ends: LineEnds) -> Vec<Line> {
        let mut input = Input::default();
        let mut lines = Vec::new();
        for piece in octets.chunks(size) {
            input.push(piece);
            loop {
                match input.line(octets_max, line_ends) {
                    Line::Incomplete => break,
                    line => lines.push(line),
                }
            }
        }
        lines
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let text = b"\r\na\r\nabcd\r\nabcde\r\nabcd\nabcde\nab\r\r\nabcdefghijk\r\nx\ny\r\n";
        for line_ends in [LineEnds::Strict, LineEnds::Lenient] {
            let whole = lines(text, text.len(), 4, line_ends);
            for size in 1..text.len() {
                assert_eq!(lines(text, size, 4, line_ends), whole, "{size}");
            }
            let complete = |text: &[u8]| Line::Complete(text.to_vec());
            let bare = |text: &[u8]| match line_ends {
                LineEnds::Strict => Line::BareLf,
                LineEnds::Lenient => complete(text),
            };
            let expected = [
                complete(b""),
                complete(b"a"),
                complete(b"abcd"),
                Line::TooLong,
                bare(b"abcd"),
                Line::TooLong,
                complete(b"ab\r"),
                Line::TooLong,
                bare(b"x"),
                complete(b"y"),
            ];
            assert_eq!(whole, expected);
        }
    }

    #[test]
    fn v10_an_endless_line_takes_no_memory() {
        let mut input = Input::default();
        let mut errors = 0;
        for _ in 0..20_000 {
            input.push(&[b'a'; 65_536]);
            errors += usize::from(input.line(COMMAND_OCTETS_MAX, LineEnds::Strict) == Line::TooLong);
            assert!(input.octets.capacity() <= 2 * 65_536);
        }
        assert_eq!(errors, 1);
        input.push(b"\r\nNOOP\r\n");
        assert_eq!(input.line(COMMAND_OCTETS_MAX, LineEnds::Strict), Line::Complete(b"NOOP".to_vec()));
    }
}
