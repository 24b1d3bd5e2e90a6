//! What has to be read of a message to answer a FETCH.

use super::header_filter::{Choice, HeaderFilter, Position};
use super::items::{Item, Partial, SectionItem, SectionText};
use super::sections;
use crate::encode;
use mail::Message;
use message::digest::Digest;
use std::ops::Range;

/// A message whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its sequence number.
    pub sequence: u32,
    /// What the snapshot tells of it.
    pub message: Message,
    /// Whether that is the newest snapshot, which then names its keywords.
    pub from_latest: bool,
}

/// Where the octets of a data item come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The item is none that gives octets.
    NotOctets,
    /// The message has no such section.
    Absent,
    /// The message's structure cannot be read.
    Unreadable,
    /// These octets, as they are.
    Octets(Range<u64>),
    /// Chosen fields of this header section.
    Fields(Range<u64>),
}

/// Finds the source of each item, in the items' order.
pub fn sources(items: &[Item], message: &Message, digest: Option<&Digest>) -> Vec<Source> {
    let source = |item: &Item| match item {
        Item::Section(section) => of_section(section, message, digest),
        Item::Uid
        | Item::Flags
        | Item::InternalDate
        | Item::Size
        | Item::ModSeq
        | Item::Envelope
        | Item::Body
        | Item::BodyStructure => Source::NotOctets,
    };
    items.iter().map(source).collect()
}

fn of_section(item: &SectionItem, message: &Message, digest: Option<&Digest>) -> Source {
    let range = if item.section.is_whole_message() {
        // The size is known without the digest, and holds even where the digest is lost.
        Some(0..u64::from(message.size_octets))
    } else {
        match digest {
            Some(digest) => sections::resolve(&item.section, digest),
            None => return Source::Unreadable,
        }
    };
    match (range, &item.section.text) {
        (None, _) => Source::Absent,
        // RFC 3501 §6.4.5: a part of a header subset is taken after the fields are chosen.
        (Some(range), SectionText::HeaderFields { .. }) => Source::Fields(range),
        (Some(range), _) => Source::Octets(narrow(range, item.partial)),
    }
}

/// The part of a range that a partial fetch asks for; empty where that lies beyond the end.
fn narrow(range: Range<u64>, partial: Option<Partial>) -> Range<u64> {
    let Some(partial) = partial else { return range };
    let start = range.start.saturating_add(partial.first).min(range.end.max(range.start));
    start..start.saturating_add(partial.octets).min(range.end).max(start)
}

/// One range that covers all that the sources need; `None` where they need nothing.
pub fn cover(sources: &[Source]) -> Option<Range<u64>> {
    sources.iter().filter_map(Source::range).filter(|range| !range.is_empty()).fold(None, |cover, range| match cover {
        None => Some(range.clone()),
        Some(cover) => Some(cover.start.min(range.start)..cover.end.max(range.end)),
    })
}

impl Source {
    /// What has to be read.
    pub fn range(&self) -> Option<&Range<u64>> {
        match self {
            Source::Octets(range) | Source::Fields(range) => Some(range),
            Source::NotOctets | Source::Absent | Source::Unreadable => None,
        }
    }
}

/// Chosen fields of a header section, of which only a part may be wanted.
#[derive(Debug, Clone, Default)]
pub struct FieldStream {
    position: Position,
    passed: u64,
}

impl FieldStream {
    /// Takes the next octets of the header section and writes those wanted.
    pub fn push(&mut self, choice: &Choice, partial: Option<Partial>, octets: &[u8], out: &mut Vec<u8>) {
        let mut filter = HeaderFilter::new(choice, std::mem::take(&mut self.position));
        filter.push(octets, &mut |kept| write_wanted(kept, &mut self.passed, partial, out));
        self.position = filter.position();
    }

    /// The header section has ended.
    pub fn finish(&mut self, choice: &Choice, partial: Option<Partial>, out: &mut Vec<u8>) {
        let mut filter = HeaderFilter::new(choice, std::mem::take(&mut self.position));
        filter.finish(&mut |kept| write_wanted(kept, &mut self.passed, partial, out));
    }

    /// How many octets of the chosen fields, of which `partial` is wanted, that is in the end.
    pub fn wanted(&self, partial: Option<Partial>) -> u64 {
        let all = narrow(0..self.passed, partial);
        all.end.saturating_sub(all.start)
    }
}

fn write_wanted(kept: &[u8], passed: &mut u64, partial: Option<Partial>, out: &mut Vec<u8>) {
    let here = *passed..passed.saturating_add(kept.len() as u64);
    let wanted = narrow(0..u64::MAX, partial);
    let (start, end) = (wanted.start.max(here.start), wanted.end.min(here.end));
    if start < end {
        let (start, end) = ((start - here.start) as usize, (end - here.start) as usize);
        encode::literal_octets(out, kept.get(start..end).unwrap_or_default());
    }
    *passed = here.end;
}
