//! One FETCH response of which much is wanted: read and written in pieces, so that memory stays bounded.
//!
//! A literal announces its length before its octets are read. Where the first piece cannot be read, NIL is written
//! instead; where a later one cannot, the response is broken and the connection must end: made-up octets would pass for
//! the message.

use super::header_filter::Choice;
use super::items::{Item, SectionItem};
use super::plan::{FieldStream, Source, Taken};
use super::response::{Line, Octets, Response};
use super::run::PIECE_OCTETS_MAX;
use crate::encode;
use crate::question::BodyRange;
use crate::view::View;
use bytes::Bytes;
use message::digest::Digest;
use std::ops::Range;

/// What a large response wants.
#[derive(Debug, PartialEq, Eq)]
pub enum LargeStep {
    /// These octets, by [`LargeResponse::answer`].
    Ask(BodyRange),
    /// Another step.
    More,
    /// Nothing: it is complete, or as complete as it can be.
    Written {
        /// Which message it was.
        taken: Taken,
        /// Whether all could be given.
        whole: bool,
    },
    /// A literal was begun whose rest cannot be read.
    Broken,
}

/// A response that is written in pieces.
#[derive(Debug)]
pub struct LargeResponse {
    taken: Taken,
    digest: Option<Digest>,
    sources: Vec<Source>,
    line: Line,
    whole: bool,
    /// Index of the item in hand.
    item: usize,
    progress: Progress,
    /// The piece that was asked for, once it is answered.
    answered: Option<Option<Bytes>>,
}

/// How far the item in hand is.
#[derive(Debug)]
enum Progress {
    /// Not begun.
    Fresh,
    /// Octets as they are: these are left to read.
    Octets { left: Range<u64>, begun: bool },
    /// First reading of a header section, to know how much of it is chosen.
    Counting { left: Range<u64>, stream: FieldStream },
    /// Second reading, to write that.
    Fields { left: Range<u64>, stream: FieldStream },
}

impl LargeResponse {
    /// Prepares the response of a message.
    pub fn new(taken: Taken, digest: Option<Digest>, sources: Vec<Source>) -> LargeResponse {
        LargeResponse {
            taken,
            digest,
            sources,
            line: Line::new(taken.sequence),
            whole: true,
            item: 0,
            progress: Progress::Fresh,
            answered: None,
        }
    }

    /// The answer to the last [`LargeStep::Ask`].
    pub fn answer(&mut self, octets: Option<Bytes>) {
        self.answered = Some(octets);
    }

    /// The next step; what it writes is appended to `out`, hardly more than one piece.
    pub fn next(&mut self, response: &Response, view: &View, out: &mut Vec<u8>) -> LargeStep {
        let Some(item) = response.items.get(self.item) else {
            response.announce(out, view, &self.taken, &mut self.line);
            self.line.end(out);
            return LargeStep::Written { taken: self.taken, whole: self.whole };
        };
        let Item::Section(section) = item else {
            self.whole &= self.line.plain(out, view, item, &self.taken, self.digest.as_ref());
            self.item += 1;
            return LargeStep::More;
        };
        let choice = response.choices.get(self.item).and_then(Option::as_ref);
        if let Some(octets) = self.answered.take() {
            return self.take_piece(out, section, choice, octets);
        }
        let left = match &self.progress {
            Progress::Fresh => return self.begin(out, section, choice),
            Progress::Octets { left, .. } | Progress::Counting { left, .. } | Progress::Fields { left, .. } => left,
        };
        LargeStep::Ask(BodyRange { blob: self.taken.message.blob, start: left.start, octets: piece_octets(left) })
    }

    /// Begins an item that gives octets.
    fn begin(&mut self, out: &mut Vec<u8>, section: &SectionItem, choice: Option<&Choice>) -> LargeStep {
        let source = self.sources.get(self.item).unwrap_or(&Source::Unreadable);
        self.progress = match source {
            Source::Octets(range) if !range.is_empty() => Progress::Octets { left: range.clone(), begun: false },
            Source::Fields(range) if !range.is_empty() => {
                Progress::Counting { left: range.clone(), stream: FieldStream::default() }
            }
            _ => {
                self.whole &= self.line.section(out, section, source, choice, Octets::NONE);
                self.item += 1;
                Progress::Fresh
            }
        };
        LargeStep::More
    }

    fn take_piece(
        &mut self,
        out: &mut Vec<u8>,
        section: &SectionItem,
        choice: Option<&Choice>,
        octets: Option<Bytes>,
    ) -> LargeStep {
        let (left, begun) = match &mut self.progress {
            Progress::Fresh => return LargeStep::More,
            Progress::Octets { left, begun } => (left, *begun),
            Progress::Counting { left, .. } => (left, false),
            Progress::Fields { left, .. } => (left, true),
        };
        let Some(octets) = octets.filter(|octets| octets.len() as u64 == piece_octets(left)) else {
            if begun {
                return LargeStep::Broken;
            }
            self.line.section(out, section, &Source::Unreadable, None, Octets::NONE);
            self.whole = false;
            self.end_item();
            return LargeStep::More;
        };
        let octets_wanted = left.end.saturating_sub(left.start);
        left.start = left.start.saturating_add(octets.len() as u64);
        let at_end = left.is_empty();
        match (&mut self.progress, choice) {
            (Progress::Octets { begun, .. }, _) => {
                if !*begun {
                    *begun = true;
                    self.line.name(out, section);
                    encode::literal_head(out, octets_wanted);
                }
                encode::literal_octets(out, &octets);
                if at_end {
                    self.end_item();
                }
            }
            (Progress::Counting { stream, .. }, Some(choice)) => {
                stream.push(choice, section.partial, &octets, &mut Vec::new());
                if at_end {
                    stream.finish(choice, section.partial, &mut Vec::new());
                    let wanted = stream.wanted(section.partial);
                    self.line.name(out, section);
                    encode::literal_head(out, wanted);
                    self.second_reading();
                }
            }
            (Progress::Fields { stream, .. }, Some(choice)) => {
                stream.push(choice, section.partial, &octets, out);
                if at_end {
                    stream.finish(choice, section.partial, out);
                    self.end_item();
                }
            }
            // Only items that choose fields have fields as their source.
            (_, None) | (Progress::Fresh, _) => self.end_item(),
        }
        LargeStep::More
    }

    fn second_reading(&mut self) {
        if let Some(Source::Fields(range)) = self.sources.get(self.item) {
            self.progress = Progress::Fields { left: range.clone(), stream: FieldStream::default() };
        }
    }

    fn end_item(&mut self) {
        self.item += 1;
        self.progress = Progress::Fresh;
    }
}

/// How much of a range is read at once.
fn piece_octets(left: &Range<u64>) -> u64 {
    left.end.saturating_sub(left.start).min(PIECE_OCTETS_MAX)
}
