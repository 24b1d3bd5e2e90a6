//! The client's octets, cut into lines. Memory stays within one line and what was received last (V10).

use memchr::memchr;

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Its octets.
    Text(Vec<u8>),
    /// It was longer than allowed, and is gone.
    TooLong,
}

/// Octets that are not yet lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Before this there is no line end after `start`.
    scanned: usize,
    /// The line under way was too long already; the rest of it is thrown away.
    skipping: bool,
}

impl Lines {
    /// Takes octets from the client.
    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// The next line, if all of it is here. `octets_max` counts the line end. A bare LF ends a line as well: people who
    /// type into a socket send it, and no second reader of these octets could see other lines.
    pub(crate) fn take(&mut self, octets_max: usize) -> Option<Line> {
        let fresh = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(offset) = memchr(b'\n', fresh) else {
            self.keep_rest(octets_max);
            return None;
        };
        let end = self.scanned + offset;
        let text = self.buffer.get(self.start..end).unwrap_or_default();
        let too_long = std::mem::take(&mut self.skipping) || text.len() + 1 > octets_max;
        let line = match too_long {
            true => Line::TooLong,
            false => Line::Text(text.strip_suffix(b"\r").unwrap_or(text).to_vec()),
        };
        self.start = end + 1;
        self.scanned = self.start;
        Some(line)
    }

    /// Throws away everything.
    pub(crate) fn clear(&mut self) {
        *self = Lines::default();
    }

    /// Keeps only the beginning of a line, or nothing if that is too long. An empty buffer gives its memory back.
    fn keep_rest(&mut self, octets_max: usize) {
        if self.skipping || self.buffer.len() - self.start > octets_max {
            self.skipping = true;
            self.start = self.buffer.len();
        }
        if self.start == self.buffer.len() {
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..self.start);
        }
        self.start = 0;
        self.scanned = self.buffer.len();
    }

    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.buffer.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(octets: &[u8], size: usize) -> Vec<Line> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in octets.chunks(size) {
            lines.push(piece);
            while let Some(line) = lines.take(10) {
                found.push(line);
            }
        }
        found
    }

    #[test]
    fn how_octets_are_split_changes_nothing() {
        let octets = b"a\r\nb\n\r\n12345678\r\n123456789\r\n1234567890123\r\n\rx\r\r\nlast";
        let text = |text: &[u8]| Line::Text(text.to_vec());
        for size in 1..octets.len() {
            let expected =
                [text(b"a"), text(b"b"), text(b""), text(b"12345678"), Line::TooLong, Line::TooLong, text(b"\rx\r")];
            assert_eq!(cut(octets, size), expected, "{size}");
        }
    }

    #[test]
    fn v10_a_line_without_end_takes_constant_memory() {
        let mut lines = Lines::default();
        for _ in 0..10_000 {
            lines.push(&[b'x'; 1_000]);
            assert_eq!(lines.take(255), None);
            assert!(lines.memory() <= 2_048);
        }
        lines.push(b"\r\nNOOP\r\n");
        assert_eq!(lines.take(255), Some(Line::TooLong));
        assert_eq!(lines.take(255), Some(Line::Text(b"NOOP".to_vec())));
        assert_eq!(lines.take(255), None);
        assert_eq!(lines.memory(), 0);
    }
}
