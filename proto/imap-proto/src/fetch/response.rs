//! One FETCH response: the data items of one message in the order asked.

use super::header_filter::Choice;
use super::items::{Item, SectionItem};
use super::plan::{FieldStream, Source, Taken};
use super::{bodystructure, envelope};
use crate::encode;
use crate::view::View;
use mail::UidSet;
use message::digest::Digest;
use std::ops::Range;

/// What all responses of a run have in common.
#[derive(Debug)]
pub struct Response {
    /// The data items in order.
    pub items: Vec<Item>,
    /// For each item, the fields that it chooses, if it does.
    pub choices: Vec<Option<Choice>>,
    /// Messages that get FLAGS whether asked or not.
    pub announce_flags: UidSet,
    /// Whether those get MODSEQ as well.
    pub condstore: bool,
}

/// Octets that were read of a message.
#[derive(Debug, Clone, Copy)]
pub struct Octets<'a> {
    /// Offset of the first of them in the message.
    pub start: u64,
    /// The octets; `None` where they cannot be read.
    pub octets: Option<&'a [u8]>,
}

impl Response {
    /// Writes the response of a message whose items are in `sources`, from octets that were read of it. Gives whether
    /// every item could be given; writes nothing where none could.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        view: &View,
        taken: &Taken,
        digest: Option<&Digest>,
        sources: &[Source],
        octets: Octets<'_>,
    ) -> bool {
        let mut line = Line::new(taken.sequence);
        let mut whole = true;
        for (index, item) in self.items.iter().enumerate() {
            whole &= match item {
                Item::Section(section) => {
                    let choice = self.choices.get(index).and_then(Option::as_ref);
                    let source = sources.get(index).unwrap_or(&Source::Unreadable);
                    line.section(out, section, source, choice, octets)
                }
                _ => line.plain(out, view, item, taken, digest),
            };
        }
        self.announce(out, view, taken, &mut line);
        line.end(out);
        whole
    }

    /// FLAGS of a message that the command itself has changed (RFC 3501 §6.4.5), and its MODSEQ (RFC 7162 §3.1).
    pub fn announce(&self, out: &mut Vec<u8>, view: &View, taken: &Taken, line: &mut Line) {
        if self.announce_flags.is_empty() || !self.announce_flags.contains(taken.message.uid) {
            return;
        }
        if !self.items.contains(&Item::Flags) {
            line.plain(out, view, &Item::Flags, taken, None);
        }
        if self.condstore && !self.items.contains(&Item::ModSeq) {
            line.plain(out, view, &Item::ModSeq, taken, None);
        }
    }
}

/// A response that is being written, perhaps over several outputs.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    is_empty: bool,
    sequence: u32,
}

impl Line {
    /// Begins the response of a message; nothing is written before its first item.
    pub fn new(sequence: u32) -> Line {
        Line { is_empty: true, sequence }
    }

    /// Ends the response. One without items is none, as the grammar has no empty list there (RFC 3501 §9, msg-att).
    pub fn end(self, out: &mut Vec<u8>) {
        if !self.is_empty {
            out.extend_from_slice(b")\r\n");
        }
    }

    /// Writes what stands before an item.
    fn separate(&mut self, out: &mut Vec<u8>) {
        if !self.is_empty {
            out.push(b' ');
            return;
        }
        self.is_empty = false;
        out.extend_from_slice(b"* ");
        encode::number(out, u64::from(self.sequence));
        out.extend_from_slice(b" FETCH (");
    }

    /// Writes an item that gives no octets. `false`, and nothing written, where it needs a digest and there is none.
    pub fn plain(
        &mut self,
        out: &mut Vec<u8>,
        view: &View,
        item: &Item,
        taken: &Taken,
        digest: Option<&Digest>,
    ) -> bool {
        if matches!(item, Item::Envelope | Item::Body | Item::BodyStructure) {
            // The grammar has no NIL for these, so they are left out where the digest is lost.
            let Some(digest) = digest else { return false };
            self.separate(out);
            match item {
                Item::Envelope => {
                    out.extend_from_slice(b"ENVELOPE ");
                    envelope::write(out, &digest.envelope);
                }
                Item::BodyStructure => {
                    out.extend_from_slice(b"BODYSTRUCTURE ");
                    bodystructure::write(out, &digest.part, true);
                }
                _ => {
                    out.extend_from_slice(b"BODY ");
                    bodystructure::write(out, &digest.part, false);
                }
            }
            return true;
        }
        self.separate(out);
        let message = &taken.message;
        match item {
            Item::Uid => {
                out.extend_from_slice(b"UID ");
                encode::number(out, u64::from(message.uid.0));
            }
            Item::Flags => {
                out.extend_from_slice(b"FLAGS ");
                let snapshot = if taken.from_latest { &view.latest } else { &view.numbering };
                encode::flags_of(out, snapshot, message, message.uid >= view.recent_from);
            }
            Item::InternalDate => {
                out.extend_from_slice(b"INTERNALDATE ");
                encode::internal_date(out, message.internal_date);
            }
            Item::Size => {
                out.extend_from_slice(b"RFC822.SIZE ");
                encode::number(out, u64::from(message.size_octets));
            }
            Item::ModSeq => {
                out.extend_from_slice(b"MODSEQ (");
                encode::number(out, message.mod_sequence.0);
                out.push(b')');
            }
            Item::Envelope | Item::Body | Item::BodyStructure | Item::Section(_) => {}
        }
        true
    }

    /// Writes the name of an item that gives octets, and the space behind it.
    pub fn name(&mut self, out: &mut Vec<u8>, item: &SectionItem) {
        self.separate(out);
        item.write_name(out);
        out.push(b' ');
    }

    /// Writes an item from octets that are at hand. `false` where they could not be read: it is NIL then.
    pub fn section(
        &mut self,
        out: &mut Vec<u8>,
        item: &SectionItem,
        source: &Source,
        choice: Option<&Choice>,
        octets: Octets<'_>,
    ) -> bool {
        self.name(out, item);
        let read = source.range().map(|range| octets.get(range));
        match (source, read, choice) {
            (Source::Octets(_), Some(Some(octets)), _) => encode::literal(out, octets),
            (Source::Fields(_), Some(Some(octets)), Some(choice)) => {
                let mut chosen = Vec::new();
                let mut stream = FieldStream::default();
                stream.push(choice, item.partial, octets, &mut chosen);
                stream.finish(choice, item.partial, &mut chosen);
                encode::literal(out, &chosen);
            }
            _ => {
                out.extend_from_slice(b"NIL");
                // A section that the message does not have is NIL, and nothing is amiss.
                return matches!(source, Source::Absent);
            }
        }
        true
    }
}

impl<'a> Octets<'a> {
    /// Nothing was read, and nothing can be.
    pub const NONE: Octets<'static> = Octets { start: 0, octets: None };

    /// The octets of a range of the message; fewer where the message is shorter than was thought.
    fn get(&self, range: &Range<u64>) -> Option<&'a [u8]> {
        if range.is_empty() {
            return Some(&[]);
        }
        let octets = self.octets?;
        let place = |offset: u64| {
            usize::try_from(offset.saturating_sub(self.start)).map_or(octets.len(), |at| at.min(octets.len()))
        };
        octets.get(place(range.start)..place(range.end))
    }
}
