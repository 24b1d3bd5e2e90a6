//! Lines as the scanner sees them: with a bounded head, and counted, however long they are.

use crate::header::{is_blank, without_line_end};

/// A line, its end included in the counts.
pub(super) struct Line<'a> {
    /// Its first octets without the line end: all, or as many as are kept.
    pub content: &'a [u8],
    /// What is known of the octets that are not in `content`.
    rest: Rest<'a>,
    /// Octets of the whole line.
    pub octets: u64,
    /// Octets of its end: 2 for CRLF, 1 for a bare LF, 0 at the end of the message.
    pub end_octets: u64,
}

enum Rest<'a> {
    Octets(&'a [u8]),
    IsBlank(bool),
}

impl<'a> Line<'a> {
    /// A line that is at hand as a whole.
    pub(super) fn whole(line: &'a [u8], octets_kept: usize) -> Line<'a> {
        let text = without_line_end(line);
        let (content, rest) = text.split_at_checked(octets_kept).unwrap_or((text, &[]));
        Line {
            content,
            rest: Rest::Octets(rest),
            octets: line.len() as u64,
            end_octets: (line.len() - text.len()) as u64,
        }
    }

    /// Whether all octets beyond `content` are white space.
    pub(super) fn rest_is_blank(&self) -> bool {
        match self.rest {
            Rest::Octets(octets) => all_blank(octets),
            Rest::IsBlank(is_blank) => is_blank,
        }
    }
}

/// White space, and the CR that some programs put before a CRLF.
fn all_blank(octets: &[u8]) -> bool {
    octets.iter().all(|b| is_blank(*b) || matches!(b, b'\r' | b'\n'))
}

/// A line that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct PartialLine {
    head: Vec<u8>,
    octets: u64,
    has_other_rest: bool,
    last_two: [u8; 2],
}

impl PartialLine {
    pub(super) fn is_empty(&self) -> bool {
        self.octets == 0
    }

    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// Takes a piece that is not empty. The number of octets kept is the same for all pieces of a line.
    pub(super) fn push(&mut self, piece: &[u8], octets_kept: usize) {
        let room = octets_kept.saturating_sub(self.head.len());
        let (kept, rest) = piece.split_at_checked(room).unwrap_or((piece, &[]));
        self.head.extend_from_slice(kept);
        if !self.has_other_rest && self.head.starts_with(b"--") {
            self.has_other_rest = !all_blank(rest);
        }
        self.octets += piece.len() as u64;
        self.last_two = match piece {
            [.., first, second] => [*first, *second],
            [only] => [self.last_two[1], *only],
            [] => self.last_two,
        };
    }

    pub(super) fn as_line(&self) -> Line<'_> {
        let end_octets = match self.last_two {
            [b'\r', b'\n'] => 2,
            [_, b'\n'] => 1,
            _ => 0,
        };
        // The head may have taken in a piece of the line end.
        let length = self.head.len().min(usize::try_from(self.octets - end_octets).unwrap_or(usize::MAX));
        let content = self.head.get(..length).unwrap_or(&self.head);
        Line { content, rest: Rest::IsBlank(!self.has_other_rest), octets: self.octets, end_octets }
    }

    /// An empty line that keeps the memory of this one, unless that is much.
    pub(super) fn cleared(self) -> PartialLine {
        let mut head = self.head;
        head.clear();
        head.shrink_to(4 * 1024);
        PartialLine { head, ..PartialLine::default() }
    }
}
