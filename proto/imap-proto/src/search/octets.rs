//! Looking for text in the octets of one message: which of them matter, and the search as they pass by.
//!
//! Header fields are unfolded and their encoded words decoded, texts are decoded from their transfer encoding and
//! charset. Parts that are neither text nor message are passed over, as RFC 3501 §6.4.4 allows.

use super::criteria::{Criteria, Known, Lookup, Place};
use super::text::{Haystack, PORTION_OCTETS};
use mail::Message;
use memchr::memmem;
use message::decode::{TextDecoder, decode_header};
use message::digest::{Content, Digest, Part};
use message::header::{self, Field};
use std::ops::Range;

/// Most octets of a header section that are kept until the end of a field comes by. A longer field is cut.
const HEADER_OCTETS_KEPT_MAX: usize = 256 * 1_024;
/// Octets that do not matter are read along, rather than asked around, where they are fewer than this.
const GAP_OCTETS_MAX: u64 = 16 * 1_024;

/// A message that octets must decide.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Index in the numbering.
    pub index: u32,
    /// What the snapshot tells of it.
    pub message: Message,
    /// Whether that is the newest snapshot.
    pub from_latest: bool,
    /// What is known of the lookups.
    pub known: Known,
}

/// A range of a message in which something may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    range: Range<u64>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// The message's own header section.
    MainHeader,
    /// The header section of a part, or of a message inside.
    Header,
    /// Text in this encoding and charset.
    Text { encoding: Vec<u8>, charset: Option<Vec<u8>> },
}

/// The search through one message.
pub struct Scan {
    candidate: Candidate,
    segments: Vec<Segment>,
    /// The segment in hand.
    index: usize,
    /// The next octet of it.
    position: u64,
    /// Octets of a header section that wait for the end of their field.
    carry: Vec<u8>,
    decoder: Option<TextDecoder>,
}

/// How far a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is decided.
    Decided(bool),
    /// More octets are needed.
    More,
}

impl Scan {
    /// Plans the search for what is not known of the candidate.
    pub fn new(candidate: Candidate, criteria: &Criteria, digest: &Digest) -> Scan {
        let mut unknown = criteria.lookups.iter().zip(&candidate.known).filter(|(_, known)| known.is_none());
        let (mut needs_header, mut needs_body) = (false, false);
        for (lookup, _) in &mut unknown {
            needs_header |= matches!(lookup.place, Place::Header(_) | Place::Text);
            needs_body |= matches!(lookup.place, Place::Body | Place::Text);
        }
        let mut segments = Vec::new();
        if needs_header {
            segments.push(Segment { range: digest.part.header.clone(), kind: Kind::MainHeader });
        }
        if needs_body {
            add_segments(&digest.part, &mut segments);
        }
        segments.retain(|segment| segment.range.start < segment.range.end);
        let position = segments.first().map_or(0, |segment| segment.range.start);
        Scan { candidate, segments, index: 0, position, carry: Vec::new(), decoder: None }
    }

    /// The message searched.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// One range that holds all that matters; `None` where nothing does.
    pub fn cover(&self) -> Option<Range<u64>> {
        let rest = self.segments.get(self.index..)?;
        let end = rest.iter().map(|segment| segment.range.end).max()?;
        Some(self.position..end)
    }

    /// What to read next, at most so many octets; `None` where nothing is left.
    pub fn next_read(&self, octets_max: u64) -> Option<Range<u64>> {
        let mut rest = self.segments.get(self.index..)?.iter();
        let limit = self.position.saturating_add(octets_max);
        let mut end = rest.next()?.range.end;
        for segment in rest {
            if end >= limit || segment.range.start < end || segment.range.start - end > GAP_OCTETS_MAX {
                break;
            }
            end = segment.range.end;
        }
        Some(self.position..end.min(limit))
    }

    /// Searches in octets of the message from offset `start` on.
    pub fn feed(&mut self, criteria: &Criteria, haystack: &mut Haystack, start: u64, octets: &[u8]) -> Progress {
        loop {
            let Some(segment) = self.segments.get(self.index) else {
                return Progress::Decided(self.conclude(criteria));
            };
            let skip = usize::try_from(self.position.saturating_sub(start)).unwrap_or(usize::MAX);
            let here = octets.get(skip..).filter(|here| !here.is_empty() && self.position >= start);
            let Some(here) = here else { return Progress::More };
            let left = usize::try_from(segment.range.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
            let here = here.get(..left).unwrap_or(here);
            let at_end = here.len() == left;
            let found = match segment.kind.clone() {
                Kind::MainHeader => self.header(criteria, haystack, here, at_end, true),
                Kind::Header => self.header(criteria, haystack, here, at_end, false),
                Kind::Text { encoding, charset } => {
                    self.text(criteria, haystack, here, at_end, &encoding, charset.as_deref())
                }
            };
            self.position = self.position.saturating_add(here.len() as u64);
            if at_end {
                haystack.clear();
                self.index += 1;
                self.position = self.segments.get(self.index).map_or(self.position, |next| next.range.start);
            }
            if (found || at_end)
                && let Some(value) = self.value(criteria)
            {
                haystack.clear();
                return Progress::Decided(value);
            }
        }
    }

    fn value(&self, criteria: &Criteria) -> Option<bool> {
        criteria.value(&self.candidate.message, self.candidate.from_latest, &self.candidate.known)
    }

    /// Everything has passed by: what was not found is not there.
    pub fn conclude(&mut self, criteria: &Criteria) -> bool {
        for known in self.candidate.known.iter_mut().filter(|known| known.is_none()) {
            *known = Some(false);
        }
        self.value(criteria).unwrap_or(false)
    }

    /// Searches in a part of a header section. Gives whether anything became known.
    fn header(
        &mut self,
        criteria: &Criteria,
        haystack: &mut Haystack,
        octets: &[u8],
        at_end: bool,
        is_main: bool,
    ) -> bool {
        let mut found = false;
        if self.carry.is_empty() && at_end {
            found |= self.fields(criteria, haystack, octets, is_main);
        } else {
            self.carry.extend_from_slice(octets);
            if at_end || self.carry.len() >= HEADER_OCTETS_KEPT_MAX {
                let mut whole = std::mem::take(&mut self.carry);
                self.carry = if at_end { Vec::new() } else { whole.split_off(end_of_fields(&whole)) };
                found |= self.fields(criteria, haystack, &whole, is_main);
            }
        }
        if at_end && is_main {
            for (lookup, known) in criteria.lookups.iter().zip(&mut self.candidate.known) {
                if known.is_none() && matches!(lookup.place, Place::Header(_)) {
                    *known = Some(false);
                    found = true;
                }
            }
        }
        found
    }

    /// Searches in whole fields.
    fn fields(&mut self, criteria: &Criteria, haystack: &mut Haystack, octets: &[u8], is_main: bool) -> bool {
        let mut found = false;
        for field in header::fields(octets) {
            let value = plain_value(&field);
            haystack.push_ascii(field.name);
            haystack.push_ascii(b": ");
            match &value {
                Value::Ascii(octets) => haystack.push_ascii(octets),
                Value::Decoded(text) => haystack.push(text),
            }
            haystack.push_ascii(b"\n");
            if haystack.len() >= PORTION_OCTETS {
                found |= self.search(criteria, haystack, is_main);
            }
            if is_main {
                found |= self.field(criteria, &field, &value);
            }
        }
        self.search(criteria, haystack, is_main) || found
    }

    /// Searches in one field for those who name it.
    fn field(&mut self, criteria: &Criteria, field: &Field<'_>, value: &Value<'_>) -> bool {
        let mut found = false;
        let mut folded: Option<Haystack> = None;
        for (lookup, known) in criteria.lookups.iter().zip(&mut self.candidate.known) {
            let Place::Header(name) = &lookup.place else { continue };
            if known.is_some() || !field.name.eq_ignore_ascii_case(name) {
                continue;
            }
            let folded = folded.get_or_insert_with(|| {
                let mut folded = Haystack::default();
                match value {
                    Value::Ascii(octets) => folded.push_ascii(octets),
                    Value::Decoded(text) => folded.push(text),
                }
                folded
            });
            if folded.contains(&lookup.needle) {
                *known = Some(true);
                found = true;
            }
        }
        found
    }

    /// Searches in a part of a text.
    fn text(
        &mut self,
        criteria: &Criteria,
        haystack: &mut Haystack,
        octets: &[u8],
        at_end: bool,
        encoding: &[u8],
        charset: Option<&[u8]>,
    ) -> bool {
        let mut found = false;
        let mut text = String::new();
        let reads_as_it_is = stands_for_itself(encoding, charset);
        for portion in octets.chunks(PORTION_OCTETS) {
            if self.decoder.is_none() && reads_as_it_is && portion.is_ascii() {
                haystack.push_ascii(portion);
            } else {
                let decoder = self.decoder.get_or_insert_with(|| TextDecoder::new(encoding, charset));
                text.clear();
                decoder.push(portion, &mut text);
                haystack.push(&text);
            }
            found |= self.search(criteria, haystack, false);
        }
        if at_end && let Some(decoder) = self.decoder.take() {
            text.clear();
            decoder.finish(&mut text);
            haystack.push(&text);
            found |= self.search(criteria, haystack, false);
        }
        found
    }

    /// Looks for all that is not found yet in the text at hand.
    fn search(&mut self, criteria: &Criteria, haystack: &mut Haystack, is_main_header: bool) -> bool {
        let applies = |lookup: &Lookup| match lookup.place {
            Place::Text => true,
            Place::Body => !is_main_header,
            Place::Sent(_) | Place::Envelope(_) | Place::MessageId | Place::InReplyTo | Place::Header(_) => false,
        };
        let mut found = false;
        for (lookup, known) in criteria.lookups.iter().zip(&mut self.candidate.known) {
            if known.is_none() && applies(lookup) && haystack.contains(&lookup.needle) {
                *known = Some(true);
                found = true;
            }
        }
        haystack.searched();
        found
    }
}

/// The value of a field as text.
enum Value<'a> {
    Ascii(&'a [u8]),
    Decoded(String),
}

/// The value, decoded only where there is something to decode.
fn plain_value<'a>(field: &Field<'a>) -> Value<'a> {
    let value = field.value.trim_ascii_start();
    let is_plain = value.is_ascii() && memchr::memchr(b'\n', value).is_none() && memmem::find(value, b"=?").is_none();
    if is_plain { Value::Ascii(value) } else { Value::Decoded(decode_header(field.value)) }
}

/// Whether octets in this encoding and charset that are ASCII are the text they stand for.
fn stands_for_itself(encoding: &[u8], charset: Option<&[u8]>) -> bool {
    let charset = charset.unwrap_or_default().to_ascii_lowercase();
    matches!(encoding, b"7bit" | b"8bit" | b"binary")
        && (matches!(charset.as_slice(), b"" | b"us-ascii" | b"utf-8")
            || charset.starts_with(b"iso-8859-")
            || charset.starts_with(b"windows-125"))
}

/// Where the last field that is certainly complete ends; the end where there is none.
fn end_of_fields(octets: &[u8]) -> usize {
    let ends = |pair: &[u8]| matches!(pair, [b'\n', next] if !matches!(next, b' ' | b'\t'));
    octets.windows(2).rposition(ends).map_or(octets.len(), |at| at + 1)
}

/// The segments of a part's body, in the order of the message. As deep as the digest is (V25).
fn add_segments(part: &Part, segments: &mut Vec<Segment>) {
    let header = |part: &Part| Segment { range: part.header.clone(), kind: Kind::Header };
    match &part.content {
        Content::Multipart(parts) => {
            for inner in parts {
                segments.push(header(inner));
                add_segments(inner, segments);
            }
        }
        Content::Message(_, inner) => {
            segments.push(header(inner));
            add_segments(inner, segments);
        }
        Content::Leaf => {
            if matches!(part.media_type.as_slice(), b"text" | b"message" | b"multipart") {
                let charset = part.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"charset"));
                let kind = Kind::Text {
                    encoding: part.encoding.clone(),
                    charset: charset.map(|(_, charset)| charset.clone()),
                };
                segments.push(Segment { range: part.body.clone(), kind });
            }
        }
    }
}
