//! The client's octets, taken apart into lines and literals. Grammar starts behind this.

use memchr::memchr;

/// How a line of a command announces a literal at its end (RFC 3501 §4.3, RFC 7888 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiteralHead {
    /// How many octets follow; `u64::MAX` for any number that has no meaning.
    pub(crate) octets: u64,
    /// Whether the client waits for us to invite it.
    pub(crate) synchronizing: bool,
}

/// A line, or the piece of a command between two literals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// The octets without line end and without the literal's announcement.
    pub(crate) text: Vec<u8>,
    /// The literal that follows.
    pub(crate) literal: Option<LiteralHead>,
}

/// The line is longer than allowed. There is no way back from this but to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineTooLong;

/// Received octets that nobody has taken yet. What it holds is bounded by what one `receive` brings plus one line.
#[derive(Debug, Default)]
pub(crate) struct Input {
    buffer: Vec<u8>,
    /// Octets of the buffer that are taken.
    taken: usize,
    /// Octets behind `taken` that hold no line end.
    scanned: usize,
}

impl Input {
    /// Adds octets.
    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.tidy();
        self.buffer.extend_from_slice(octets);
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken >= self.buffer.len()
    }

    /// Throws away what is left (V3).
    pub(crate) fn clear(&mut self) {
        *self = Input::default();
    }

    /// Gives back memory that is not needed.
    pub(crate) fn tidy(&mut self) {
        /// An empty buffer up to this size is kept.
        const KEPT_OCTETS_MAX: usize = 1_024;
        if self.is_empty() && self.buffer.capacity() > KEPT_OCTETS_MAX {
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..self.taken.min(self.buffer.len()));
        }
        self.taken = 0;
    }

    /// Octets of memory in use.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// The next line if it is complete. It ends in LF; a CR before that is not part of it.
    pub(crate) fn fragment(&mut self, octets_max: usize) -> Option<Result<Fragment, LineTooLong>> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let fresh = rest.get(self.scanned..).unwrap_or_default();
        let Some(end) = memchr(b'\n', fresh).map(|place| place + self.scanned) else {
            self.scanned = rest.len();
            return (rest.len() > octets_max).then_some(Err(LineTooLong));
        };
        let line = rest.get(..end).unwrap_or_default();
        self.taken += end + 1;
        self.scanned = 0;
        if line.len() > octets_max {
            return Some(Err(LineTooLong));
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (text, literal) = split_literal(line);
        Some(Ok(Fragment { text: text.to_vec(), literal }))
    }

    /// Up to `octets_max` octets of a literal; empty when there are none yet.
    pub(crate) fn octets(&mut self, octets_max: u64) -> &[u8] {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let count = usize::try_from(octets_max).map_or(rest.len(), |max| rest.len().min(max));
        self.taken += count;
        self.scanned = 0;
        rest.get(..count).unwrap_or_default()
    }
}

/// Splits a line into its text and the announcement of a literal at its end. An announcement cannot stand inside a
/// quoted string, as that ends in a quote on the same line.
fn split_literal(line: &[u8]) -> (&[u8], Option<LiteralHead>) {
    let announcement = || {
        let inner = line.strip_suffix(b"}")?;
        let (inner, synchronizing) = inner.strip_suffix(b"+").map_or((inner, true), |inner| (inner, false));
        let digits = inner.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        let (text, digits) = inner.split_at(inner.len() - digits);
        let text = text.strip_suffix(b"{")?;
        let octets = std::str::from_utf8(digits).ok().filter(|digits| !digits.is_empty())?;
        // RFC 9051 §9: number64 lies below 2^63 (V22).
        let octets = octets.parse().ok().filter(|octets| *octets <= i64::MAX as u64).unwrap_or(u64::MAX);
        Some((text, LiteralHead { octets, synchronizing }))
    };
    announcement().map_or((line, None), |(text, head)| (text, Some(head)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(octets: u64, synchronizing: bool) -> Option<LiteralHead> {
        Some(LiteralHead { octets, synchronizing })
    }

    #[test]
    fn v22_announcements_of_literals() {
        for (line, text, literal) in [
            ("a LOGIN {5}", "a LOGIN ", head(5, true)),
            ("a LOGIN {5+}", "a LOGIN ", head(5, false)),
            ("{0}", "", head(0, true)),
            ("a {9223372036854775807+}", "a ", head(i64::MAX as u64, false)),
            ("a {9223372036854775808}", "a ", head(u64::MAX, true)),
            ("a {99999999999999999999999+}", "a ", head(u64::MAX, false)),
            ("a {-1}", "a {-1}", None),
            ("a {}", "a {}", None),
            ("a {+}", "a {+}", None),
            ("a {5-}", "a {5-}", None),
            ("a {5} ", "a {5} ", None),
            ("a 5}", "a 5}", None),
            ("}", "}", None),
        ] {
            assert_eq!(split_literal(line.as_bytes()), (text.as_bytes(), literal), "{line}");
        }
    }

    #[test]
    fn lines_come_whole_however_they_are_split() {
        let text = b"a NOOP\r\nb NOOP\nc {3}\r\nxyz\r\n";
        for piece in 1..text.len() {
            let mut input = Input::default();
            let mut lines = Vec::new();
            for octets in text.chunks(piece) {
                input.push(octets);
                while let Some(fragment) = input.fragment(100) {
                    lines.push(fragment.unwrap());
                }
            }
            let texts: Vec<&[u8]> = lines.iter().map(|line| &line.text[..]).collect();
            assert_eq!(texts, [&b"a NOOP"[..], b"b NOOP", b"c ", b"xyz"]);
            assert!(input.is_empty());
        }
    }

    #[test]
    fn v22_a_line_without_end_is_noticed_early() {
        let mut input = Input::default();
        input.push(&[b'('; 100]);
        assert_eq!(input.fragment(100), None);
        input.push(b"(");
        assert_eq!(input.fragment(100), Some(Err(LineTooLong)));
        input.clear();
        input.push(&[&[b'a'; 101][..], b"\r\n"].concat());
        assert_eq!(input.fragment(100), Some(Err(LineTooLong)));
    }
}
