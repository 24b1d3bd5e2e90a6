//! The scanner: works out a message's digest while its octets arrive.
//!
//! It keeps no body octets, only the header fields that the digest is made of. How the octets are split over calls
//! changes nothing. Time is linear in the octets, however many multiparts are open: a line is looked up among their
//! boundaries only if it begins with two hyphens, and the look-up is a search in a tree of bounded size. Nothing is an
//! error: what is broken, or lies beyond a limit, is a part without structure. So a leaf may well call itself
//! multipart or message/rfc822: without a usable boundary, without any part, encoded, or beyond a limit.

mod fields;
mod line;

pub use fields::HeaderFacts;

use crate::digest::{Content, Digest, Envelope, Part};
use crate::header::{self, is_blank};
use crate::mime;
use fields::{Budget, FieldKind, PartFields};
use line::{Line, PartialLine};
use memchr::{memchr, memchr_iter};
use std::collections::BTreeMap;

/// Parts of one message, the message itself included (V25). One more part takes all that follows. Real mail has
/// fewer than a hundred.
pub const PARTS_MAX: usize = 1_000;
/// Parts inside parts, the message itself included (V25). The innermost is taken for a leaf.
pub const DEPTH_MAX: usize = 50;
/// Octets of a boundary. RFC 2046 §5.1.1 allows 70; some programs write more.
pub const BOUNDARY_OCTETS_MAX: usize = 256;
/// Octets kept of one header field that goes into the digest, unfolded; the rest of the field is passed over.
pub const FIELD_OCTETS_MAX: usize = 64 * 1024;
/// Entries kept of one address field; the rest is passed over (V26).
pub const ADDRESSES_PER_FIELD_MAX: usize = 2_000;
/// Octets of memory that all values kept for one digest may take, roughly; further values are left out (V25, V26).
pub const DIGEST_OCTETS_MAX: usize = 1024 * 1024;
/// Values of Delivered-To: that are kept for finding mail loops. RFC 5321 §6.3 asks to bear at least 100 hops.
pub const DELIVERED_TO_MAX: usize = 128;

/// Octets kept of a line in a body: enough for hyphens, the longest boundary, and hyphens again.
const DELIMITER_OCTETS_MAX: usize = BOUNDARY_OCTETS_MAX + 4;

/// A scanner of one message.
#[derive(Debug)]
pub struct Scanner {
    /// Octets of all whole lines.
    octets: u64,
    /// Line ends among them.
    line_ends: u64,
    /// Octets of the line end before the present line: 0, 1 or 2.
    last_line_end: u64,
    partial: PartialLine,
    place: Place,
    /// The field that the present line may continue, and its value so far, unfolded.
    field: Option<FieldKind>,
    value: Vec<u8>,
    /// From the message down to the part being read. Never empty before the end.
    open: Vec<OpenPart>,
    /// The boundaries of the open multiparts, and where these are in `open`.
    boundaries: BTreeMap<Vec<u8>, usize>,
    parts: usize,
    budget: Budget,
    facts: HeaderFacts,
    has_eight_bit: bool,
    is_closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Body,
}

/// A part whose end has not been seen.
#[derive(Debug)]
struct OpenPart {
    fields: PartFields,
    /// Line ends before its body.
    line_ends_before: u64,
    holds: Holds,
}

#[derive(Debug)]
enum Holds {
    Octets,
    Parts { boundary: Vec<u8>, is_digest: bool, parts: Vec<Part> },
    Message { inner: Option<Box<(Envelope, Part)>> },
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner::new()
    }
}

impl Scanner {
    /// A scanner at the start of a message.
    pub fn new() -> Scanner {
        Scanner {
            octets: 0,
            line_ends: 0,
            last_line_end: 0,
            partial: PartialLine::default(),
            place: Place::Header,
            field: None,
            value: Vec::new(),
            open: vec![OpenPart::new(0, true)],
            boundaries: BTreeMap::new(),
            parts: 1,
            budget: Budget::new(DIGEST_OCTETS_MAX),
            facts: HeaderFacts::default(),
            has_eight_bit: false,
            is_closed: false,
        }
    }

    /// Takes the next octets of the message. Octets after [`Scanner::close`] are not looked at.
    pub fn write(&mut self, octets: &[u8]) {
        if self.is_closed {
            return;
        }
        self.has_eight_bit |= !octets.is_ascii();
        let mut rest = octets;
        while !rest.is_empty() {
            if self.place == Place::Body && self.boundaries.is_empty() {
                return self.count_to_the_end(rest);
            }
            let Some((line, after)) = memchr(b'\n', rest).and_then(|at| rest.split_at_checked(at + 1)) else {
                return self.partial.push(rest, self.line_octets_kept());
            };
            rest = after;
            if self.partial.is_empty() {
                self.take_line(Line::whole(line, self.line_octets_kept()));
            } else {
                self.partial.push(line, self.line_octets_kept());
                let partial = std::mem::take(&mut self.partial);
                self.take_line(partial.as_line());
                self.partial = partial.cleared();
            }
        }
    }

    /// The message has no more octets: its facts are complete now. Further calls do nothing.
    pub fn close(&mut self) {
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        let partial = std::mem::take(&mut self.partial);
        if !partial.is_empty() {
            self.take_line(partial.as_line());
        }
        self.end_headers(self.octets);
        while self.open.len() > 1 {
            self.close_innermost(self.octets, self.line_ends);
        }
    }

    /// Ends the message and gives its digest. `prefix`, trace fields with their line ends, stands in front of the
    /// message as stored: it belongs to the header section and shifts every offset. Its envelope fields count before
    /// those of the message; MIME fields in it do not count.
    pub fn finish(mut self, prefix: &[u8]) -> Digest {
        self.close();
        let (mut envelope, mut part) = fields::of_prefix(prefix, &mut self.budget);
        if let Some((own, top)) = self.take_innermost(self.octets, self.line_ends) {
            fields::append_envelope(&mut envelope, own);
            part = top;
        }
        settle(&mut part, prefix.len() as u64, u64::MAX);
        part.header.start = 0;
        let date = envelope.date.as_deref().and_then(header::parse_date);
        Digest { envelope, part, date }
    }

    /// What the message's own header section says of it. Complete once the empty line that ends the section was
    /// written, or [`Scanner::close`] was called; until then it tells of the fields seen so far.
    pub fn facts(&self) -> &HeaderFacts {
        &self.facts
    }

    /// The envelope fields of the message's own header section; as complete as [`Scanner::facts`].
    pub fn envelope(&self) -> &Envelope {
        let envelope = self.open.first().and_then(|top| top.fields.envelope.as_ref());
        envelope.expect("the message itself stays open until finish, and has an envelope")
    }

    /// Octets of the header section, the empty line that ends it included, as far as they were written.
    pub fn header_section_octets(&self) -> u64 {
        self.facts.header_octets
    }

    /// Whether any octet written so far is beyond ASCII (RFC 6152: needs 8BITMIME to be passed on as it is).
    pub fn has_eight_bit(&self) -> bool {
        self.has_eight_bit
    }

    /// Octets written so far.
    pub fn octets(&self) -> u64 {
        self.octets + self.partial.octets()
    }

    fn line_octets_kept(&self) -> usize {
        match self.place {
            Place::Header => FIELD_OCTETS_MAX,
            Place::Body => DELIMITER_OCTETS_MAX,
        }
    }

    /// No boundary is open: nothing can change any more but the counts.
    fn count_to_the_end(&mut self, octets: &[u8]) {
        self.octets += self.partial.octets() + octets.len() as u64;
        self.partial = std::mem::take(&mut self.partial).cleared();
        self.line_ends += memchr_iter(b'\n', octets).count() as u64;
    }

    fn take_line(&mut self, line: Line<'_>) {
        let start = self.octets;
        match self.delimiter(&line) {
            Some((index, is_closing)) => self.take_delimiter(index, is_closing, start, &line),
            None => {
                self.octets += line.octets;
                self.line_ends += u64::from(line.end_octets > 0);
                if self.place == Place::Header {
                    self.take_header_line(&line);
                }
            }
        }
        self.last_line_end = line.end_octets;
    }

    /// Whether the line is a boundary delimiter of an open multipart: which one, and whether it is the closing one.
    /// RFC 2046 §5.1.1: the delimiter fills the line but for white space at its end. Where a line fits two open
    /// multiparts, the outer one has it.
    fn delimiter(&self, line: &Line<'_>) -> Option<(usize, bool)> {
        let text = line.content.strip_prefix(b"--")?;
        if self.boundaries.is_empty() || !line.rest_is_blank() {
            return None;
        }
        let text = header::trim_end(text);
        let opening = self.boundaries.get(text).map(|index| (*index, false));
        let closing = text.strip_suffix(b"--").and_then(|text| self.boundaries.get(text)).map(|index| (*index, true));
        match (opening, closing) {
            (Some(opening), Some(closing)) => Some(opening.min(closing)),
            (opening, closing) => opening.or(closing),
        }
    }

    fn take_delimiter(&mut self, index: usize, is_closing: bool, start: u64, line: &Line<'_>) {
        self.end_headers(start);
        // RFC 2046 §5.1.1: the line end before the delimiter belongs to the delimiter.
        let end = start.saturating_sub(self.last_line_end);
        let line_ends = self.line_ends.saturating_sub(u64::from(self.last_line_end > 0));
        while self.open.len() > index + 1 {
            self.close_innermost(end, line_ends);
        }
        self.octets += line.octets;
        self.line_ends += u64::from(line.end_octets > 0);
        if is_closing {
            self.forget_boundary(index);
            self.place = Place::Body;
            return;
        }
        self.parts += 1;
        if self.parts > PARTS_MAX {
            self.boundaries.clear();
        }
        self.open.push(OpenPart::new(self.octets, false));
        self.place = Place::Header;
    }

    /// A line of the header section being read; not a delimiter.
    fn take_header_line(&mut self, line: &Line<'_>) {
        let is_top = self.open.len() == 1;
        if is_top {
            self.facts.header_octets = self.octets;
            self.facts.eight_bit |= !line.content.is_ascii();
        }
        if line.content.is_empty() && line.end_octets > 0 {
            return self.end_header(self.octets);
        }
        if line.content.first().is_some_and(|b| is_blank(*b)) {
            if self.field.is_some() {
                self.extend_value(line.content);
            }
            return;
        }
        self.end_field();
        let Some((name, value)) = header::split_field(line.content) else { return };
        let kind = FieldKind::of(name);
        let Some(open) = self.open.last() else { return };
        if is_top {
            let is_spaced = line.content.get(name.len()) != Some(&b':');
            self.facts.count(kind, is_spaced);
        }
        if let Some(kind) = kind
            && open.fields.wants(kind)
        {
            self.field = Some(kind);
            self.extend_value(value);
        }
    }

    fn extend_value(&mut self, text: &[u8]) {
        let room = FIELD_OCTETS_MAX.saturating_sub(self.value.len());
        self.value.extend_from_slice(text.get(..room).unwrap_or(text));
    }

    fn end_field(&mut self) {
        let Some(kind) = self.field.take() else { return };
        let is_top = self.open.len() == 1;
        if let Some(open) = self.open.last_mut() {
            let value = header::trim(&self.value);
            if is_top {
                self.facts.note(kind, value);
            }
            open.fields.store(kind, value, &mut self.budget);
        }
        self.value.clear();
    }

    /// The header section being read ends at `at`, and with it all that would begin there.
    fn end_headers(&mut self, at: u64) {
        while self.place == Place::Header {
            self.end_header(at);
        }
    }

    /// Ends the innermost part's header section; what it says decides how the body is read.
    fn end_header(&mut self, at: u64) {
        self.end_field();
        if self.open.len() == 1 {
            self.facts.is_complete = true;
        }
        let is_in_digest = self.open.iter().nth_back(1).is_some_and(|parent| parent.is_digest());
        let (depth, has_room) = (self.open.len(), self.open.len() < DEPTH_MAX && self.parts < PARTS_MAX);
        self.place = Place::Body;
        let Some(open) = self.open.last_mut() else { return };
        open.fields.settle_type(is_in_digest);
        open.fields.part.header.end = at;
        open.fields.part.body = at..at;
        open.line_ends_before = self.line_ends;
        if !has_room {
            return;
        }
        if let Some(boundary) = open.fields.boundary() {
            // A boundary that an outer multipart has already would never be ours to see.
            if !self.boundaries.contains_key(&boundary) {
                self.boundaries.insert(boundary.clone(), depth - 1);
                let is_digest = open.fields.part.subtype == b"digest";
                open.holds = Holds::Parts { boundary, is_digest, parts: Vec::new() };
            }
        } else if open.fields.is_message() {
            open.holds = Holds::Message { inner: None };
            self.parts += 1;
            self.open.push(OpenPart::new(at, true));
            self.place = Place::Header;
        }
    }

    fn forget_boundary(&mut self, index: usize) {
        if let Some(OpenPart { holds: Holds::Parts { boundary, .. }, .. }) = self.open.get(index)
            && self.boundaries.get(boundary) == Some(&index)
        {
            self.boundaries.remove(boundary);
        }
    }

    /// The innermost part ends at `end`, before which `line_ends` line ends were seen. Its parent takes it up.
    fn close_innermost(&mut self, end: u64, line_ends: u64) {
        let Some((envelope, part)) = self.take_innermost(end, line_ends) else { return };
        match self.open.last_mut().map(|parent| &mut parent.holds) {
            Some(Holds::Parts { parts, .. }) => parts.push(part),
            Some(Holds::Message { inner }) => *inner = Some(Box::new((envelope, part))),
            Some(Holds::Octets) | None => debug_assert!(false, "only what holds parts has an open part inside"),
        }
    }

    fn take_innermost(&mut self, end: u64, line_ends: u64) -> Option<(Envelope, Part)> {
        self.forget_boundary(self.open.len().saturating_sub(1));
        let open = self.open.pop()?;
        let mut part = open.fields.part;
        part.body.end = part.body.start.max(end);
        part.lines = line_ends.saturating_sub(open.line_ends_before);
        part.content = match open.holds {
            Holds::Parts { parts, .. } if !parts.is_empty() => Content::Multipart(parts),
            Holds::Message { inner: Some(inner) } => {
                let (envelope, inner) = *inner;
                Content::Message(Box::new(envelope), Box::new(inner))
            }
            Holds::Octets | Holds::Parts { .. } | Holds::Message { inner: None } => Content::Leaf,
        };
        Some((open.fields.envelope.unwrap_or_default(), part))
    }
}

impl OpenPart {
    fn new(start: u64, is_message: bool) -> OpenPart {
        OpenPart { fields: PartFields::new(start, is_message), line_ends_before: 0, holds: Holds::Octets }
    }

    fn is_digest(&self) -> bool {
        matches!(self.holds, Holds::Parts { is_digest: true, .. })
    }
}

/// Moves a part behind the prefix, and cuts it where the part around it ends: a header section may own the line end
/// that belongs to the next delimiter. Recursion is bounded by [`DEPTH_MAX`].
fn settle(part: &mut Part, shift: u64, end_max: u64) {
    for range in [&mut part.header, &mut part.body] {
        range.start = (range.start + shift).min(end_max);
        range.end = (range.end + shift).min(end_max);
    }
    let end_max = part.body.end;
    match &mut part.content {
        Content::Leaf => {}
        Content::Multipart(parts) => parts.iter_mut().for_each(|part| settle(part, shift, end_max)),
        Content::Message(_, part) => settle(part, shift, end_max),
    }
}

impl PartFields {
    /// The boundary, if this is a multipart that has a usable one.
    fn boundary(&self) -> Option<Vec<u8>> {
        if self.part.media_type != b"multipart" {
            return None;
        }
        let mut boundary = mime::parameter_octets(&self.part.parameters, "boundary")?;
        // RFC 2046 §5.1.1: a boundary does not end with white space.
        boundary.truncate(header::trim_end(&boundary).len());
        (1..=BOUNDARY_OCTETS_MAX).contains(&boundary.len()).then_some(boundary)
    }

    /// Whether the body is a message that can be read as it is. RFC 2046 §5.2.1 forbids encoding one; where it was
    /// encoded all the same, its octets are no message.
    fn is_message(&self) -> bool {
        let is_encoded = matches!(
            self.part.encoding.as_slice(),
            b"base64" | b"quoted-printable" | b"x-uuencode" | b"uuencode" | b"x-uue"
        );
        self.part.media_type == b"message" && self.part.subtype == b"rfc822" && !is_encoded
    }
}

#[cfg(test)]
mod tests;
