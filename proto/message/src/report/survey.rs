//! Looks at a message before it is returned in a report.

use super::{RETURNED_HEADER_OCTETS_MAX, RETURNED_OCTETS_MAX};

/// How many boundaries there are to choose from.
const BOUNDARIES: u32 = u64::BITS;

/// Takes the octets of a message, and finds how it can be returned. How they are split changes nothing.
///
/// The boundary is the caller's text and one of 64 numbers. The survey notes which of them some line of the message begins
/// with, and the lowest other one is taken: so nothing in a message can end its part, whoever wrote it and whatever he
/// knew. A message that has them all is the work of somebody who wants just that, and is not returned.
#[derive(Debug)]
pub struct Survey {
    original: Original,
    /// `--`, the caller's text, a dot.
    delimiter: String,
    /// The start of the present line, as long as it can begin a delimiter.
    line: Vec<u8>,
    is_in_header: bool,
    /// Octets of the present line, which ends with LF alone.
    line_octets: u64,
    has_text: bool,
    utf8: Vec<u8>,
}

/// What a survey found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// Octets of the message, or more than [`RETURNED_OCTETS_MAX`] if it has more.
    pub(super) octets: u64,
    /// Octets of the header section, without the empty line, cut at a line's end.
    pub(super) returned_header_octets: u64,
    pub(super) is_header_ascii: bool,
    pub(super) is_header_utf8: bool,
    pub(super) is_body_ascii: bool,
    stem: String,
    /// A bit for each boundary that is in the message.
    taken: u64,
}

impl Original {
    /// Whether there is no boundary left.
    pub(super) fn is_barred(&self) -> bool {
        self.taken == u64::MAX
    }

    /// A boundary that no line of the message begins with behind two hyphens.
    pub(super) fn boundary(&self) -> String {
        format!("{}.{:02}", self.stem, self.taken.trailing_ones().min(BOUNDARIES - 1))
    }
}

impl Survey {
    pub(super) fn new(stem: String) -> Survey {
        Survey {
            delimiter: format!("--{stem}."),
            line: Vec::new(),
            is_in_header: true,
            line_octets: 0,
            has_text: false,
            utf8: Vec::new(),
            original: Original {
                octets: 0,
                returned_header_octets: 0,
                is_header_ascii: true,
                is_header_utf8: true,
                is_body_ascii: true,
                stem,
                taken: 0,
            },
        }
    }

    /// Whether more octets would change nothing: the message is too long to be returned whole.
    pub fn is_complete(&self) -> bool {
        self.original.octets > RETURNED_OCTETS_MAX
    }

    /// Takes the next octets.
    pub fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            if self.is_complete() {
                return;
            }
            self.original.octets += 1;
            self.take(*octet);
        }
    }

    /// The message has no more octets.
    pub fn finish(mut self) -> Original {
        if self.is_in_header {
            self.end_header_line();
            self.original.is_header_utf8 &= self.utf8.is_empty();
        }
        self.original
    }

    fn take(&mut self, octet: u8) {
        self.note_charset(octet);
        self.line_octets += 1;
        match octet {
            b'\n' => {
                if self.is_in_header && !self.has_text {
                    self.is_in_header = false;
                    self.original.is_header_utf8 &= self.utf8.is_empty();
                } else if self.is_in_header {
                    self.end_header_line();
                }
                self.line_octets = 0;
                self.has_text = false;
            }
            b'\r' => {}
            _ => self.has_text = true,
        }
        // Some readers take a bare CR for the end of a line.
        if matches!(octet, b'\n' | b'\r') {
            self.line.clear();
        } else if self.line.len() < self.delimiter.len() + 2 {
            self.line.push(octet);
            self.note_boundary();
        }
    }

    /// A line of the header section is complete.
    fn end_header_line(&mut self) {
        if self.original.octets <= RETURNED_HEADER_OCTETS_MAX {
            self.original.returned_header_octets = self.original.octets;
        }
    }

    fn note_charset(&mut self, octet: u8) {
        if !self.is_in_header {
            self.original.is_body_ascii &= octet.is_ascii();
        } else if !octet.is_ascii() || !self.utf8.is_empty() {
            self.original.is_header_ascii &= octet.is_ascii();
            self.utf8.push(octet);
            match std::str::from_utf8(&self.utf8) {
                Ok(_) => self.utf8.clear(),
                Err(error) if error.error_len().is_none() => {}
                Err(_) => {
                    self.original.is_header_utf8 = false;
                    self.utf8.clear();
                }
            }
        }
    }

    fn note_boundary(&mut self) {
        if let Some([tens @ b'0'..=b'9', ones @ b'0'..=b'9']) = self.line.strip_prefix(self.delimiter.as_bytes()) {
            let number = u32::from(tens - b'0') * 10 + u32::from(ones - b'0');
            self.original.taken |= 1_u64.checked_shl(number).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surveyed(message: &[u8]) -> Original {
        let mut whole = Survey::new("b".to_owned());
        whole.write(message);
        let whole = whole.finish();
        let mut pieces = Survey::new("b".to_owned());
        message.chunks(1).for_each(|piece| pieces.write(piece));
        assert_eq!(pieces.finish(), whole);
        whole
    }

    #[test]
    fn header_and_body_are_told_apart() {
        let of = |message: &str| {
            let original = surveyed(message.as_bytes());
            (original.octets, original.returned_header_octets)
        };
        assert_eq!(of(""), (0, 0));
        assert_eq!(of("\r\nbody"), (6, 0));
        assert_eq!(of("A: b\r\nC: d\r\n\r\nbody\n\n"), (20, 12));
        assert_eq!(of("A: b\n\nbody"), (10, 5));
        assert_eq!(of("A: b\r\nC: d"), (10, 10));
        assert_eq!(of("A: b\r\n \r\n\rx\r\n\r\n"), (15, 13));
    }

    #[test]
    fn charsets_are_told_apart() {
        let of = |message: &[u8]| {
            let original = surveyed(message);
            (original.is_header_ascii, original.is_header_utf8, original.is_body_ascii)
        };
        assert_eq!(of(b"A: b\n\nc"), (true, true, true));
        assert_eq!(of("A: \u{fc}\u{1f600}\n\nc".as_bytes()), (false, true, true));
        assert_eq!(of(b"A: b\n\n\xff"), (true, true, false));
        assert_eq!(of(b"A: \xff\n\nc"), (false, false, true));
        assert_eq!(of(b"A: \xc3\n\nc"), (false, false, true));
        assert_eq!(of(b"A: \xc3"), (false, false, true));
        assert_eq!(of(b"A: \xc3\xa4\xc3\n\n"), (false, false, true));
    }

    #[test]
    fn the_boundary_is_one_that_the_message_does_not_have() {
        let of = |message: &str| surveyed(message.as_bytes()).boundary();
        assert_eq!(of("--b.01\n"), "b.00");
        assert_eq!(of("--b.00\n"), "b.01");
        assert_eq!(of("x\r--b.00--\r\n--b.01 and more\n --b.02\n"), "b.02");
        assert_eq!(of("A: --b.00\n--b\n--b.0\n--b.0x"), "b.00");
        let all: String = (0..64).map(|number| format!("--b.{number:02}\n")).collect();
        assert!(surveyed(all.as_bytes()).is_barred());
        assert!(!surveyed(all.replace("--b.63", "--b.99").as_bytes()).is_barred());
    }

    #[test]
    fn v25_a_large_message_is_not_looked_at_to_its_end() {
        let limit = usize::try_from(RETURNED_OCTETS_MAX).unwrap();
        let mut survey = Survey::new("b".to_owned());
        survey.write(b"A: b\r\n\r\n");
        survey.write(&vec![b'x'; limit]);
        assert!(survey.is_complete());
        survey.write(b"\xff");
        let original = survey.finish();
        assert!(original.octets > RETURNED_OCTETS_MAX && original.is_body_ascii);
        assert_eq!(original.returned_header_octets, 6);
        let mut survey = Survey::new("b".to_owned());
        survey.write(&b"A: b\r\n".repeat(limit));
        let cut = survey.finish().returned_header_octets;
        assert!(cut <= RETURNED_HEADER_OCTETS_MAX && cut > RETURNED_HEADER_OCTETS_MAX - 6 && cut.is_multiple_of(6));
    }
}
