//! The digest as octets: what the store keeps beside a message without looking into it.
//!
//! Layout: version octet, length of the envelope, envelope, date, part. Numbers are unsigned LEB128; signed ones are
//! folded first (0, -1, 1, -2 …). A text is its length and its octets; where it may be absent, its length plus one,
//! and zero for none. A list is its count and its entries. Everything comes from our own scanner, but may come back
//! from a disk that lies: decoding takes any octets, allocates no more than they account for, and gives `None` for
//! what was never encoded.

use super::{Content, Digest, Envelope, EnvelopeAddress, Parameters, Part};
use std::ops::Range;

/// First octet of the form described above. Another form gets another version, and this one stays readable.
pub const VERSION: u8 = 1;
/// Levels of parts that are decoded; more than [`crate::scan::DEPTH_MAX`], so that what is scanned can be read.
pub const DEPTH_DECODED_MAX: usize = 100;

const MAILBOX: u8 = 0;
const GROUP_START: u8 = 1;
const GROUP_END: u8 = 2;
const LEAF: u8 = 0;
const MULTIPART: u8 = 1;
const MESSAGE: u8 = 2;

impl Digest {
    /// The digest as octets.
    pub fn encode(&self) -> Vec<u8> {
        let mut envelope = Vec::with_capacity(512);
        put_envelope(&mut envelope, &self.envelope);
        let mut out = Vec::with_capacity(envelope.len() + 256);
        out.push(VERSION);
        put_text(&mut out, &envelope);
        match self.date {
            None => out.push(0),
            Some((seconds, zone_minutes)) => {
                out.push(1);
                put_signed(&mut out, seconds);
                put_signed(&mut out, i64::from(zone_minutes));
            }
        }
        put_part(&mut out, &self.part);
        out
    }

    /// Reads what [`Digest::encode`] wrote. `None` for anything else, and for more than [`DEPTH_DECODED_MAX`] levels.
    pub fn decode(octets: &[u8]) -> Option<Digest> {
        let mut reader = Reader { rest: octets };
        let envelope = reader.head()?;
        let date = match reader.octet()? {
            0 => None,
            1 => Some((reader.signed()?, i16::try_from(reader.signed()?).ok()?)),
            _ => return None,
        };
        let part = reader.part(DEPTH_DECODED_MAX)?;
        reader.rest.is_empty().then_some(Digest { envelope, part, date })
    }
}

/// Reads only the envelope of an encoded digest.
pub fn decode_envelope(octets: &[u8]) -> Option<Envelope> {
    Reader { rest: octets }.head()
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn put_optional(out: &mut Vec<u8>, text: Option<&[u8]>) {
    match text {
        None => out.push(0),
        Some(text) => {
            put_number(out, text.len() as u64 + 1);
            out.extend_from_slice(text);
        }
    }
}

fn put_envelope(out: &mut Vec<u8>, envelope: &Envelope) {
    for text in [&envelope.date, &envelope.subject, &envelope.in_reply_to, &envelope.message_id] {
        put_optional(out, text.as_deref());
    }
    for addresses in [&envelope.from, &envelope.sender, &envelope.reply_to, &envelope.to, &envelope.cc, &envelope.bcc] {
        put_number(out, addresses.len() as u64);
        for address in addresses {
            put_address(out, address);
        }
    }
}

fn put_address(out: &mut Vec<u8>, address: &EnvelopeAddress) {
    match address {
        EnvelopeAddress::Mailbox { name, route, local, host } => {
            out.push(MAILBOX);
            put_optional(out, name.as_deref());
            put_optional(out, route.as_deref());
            put_text(out, local);
            put_text(out, host);
        }
        EnvelopeAddress::GroupStart(name) => {
            out.push(GROUP_START);
            put_text(out, name);
        }
        EnvelopeAddress::GroupEnd => out.push(GROUP_END),
    }
}

fn put_parameters(out: &mut Vec<u8>, parameters: &Parameters) {
    put_number(out, parameters.len() as u64);
    for (name, value) in parameters {
        put_text(out, name);
        put_text(out, value);
    }
}

fn put_range(out: &mut Vec<u8>, range: &Range<u64>) {
    put_number(out, range.start);
    put_number(out, range.end.saturating_sub(range.start));
}

fn put_part(out: &mut Vec<u8>, part: &Part) {
    put_text(out, &part.media_type);
    put_text(out, &part.subtype);
    put_parameters(out, &part.parameters);
    put_optional(out, part.id.as_deref());
    put_optional(out, part.description.as_deref());
    put_text(out, &part.encoding);
    put_optional(out, part.md5.as_deref());
    match &part.disposition {
        None => out.push(0),
        Some((kind, parameters)) => {
            put_optional(out, Some(kind));
            put_parameters(out, parameters);
        }
    }
    put_number(out, part.language.len() as u64);
    for tag in &part.language {
        put_text(out, tag);
    }
    put_optional(out, part.location.as_deref());
    put_range(out, &part.header);
    put_range(out, &part.body);
    put_number(out, part.lines);
    match &part.content {
        Content::Leaf => out.push(LEAF),
        Content::Multipart(parts) => {
            out.push(MULTIPART);
            put_number(out, parts.len() as u64);
            for part in parts {
                put_part(out, part);
            }
        }
        Content::Message(envelope, part) => {
            out.push(MESSAGE);
            put_envelope(out, envelope);
            put_part(out, part);
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let first = self.octet()?;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        let mut number = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if octet < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let folded = self.number()?;
        Some((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    fn slice(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let length = self.number()?;
        Some(self.slice(length)?.to_vec())
    }

    fn optional(&mut self) -> Option<Option<Vec<u8>>> {
        match self.number()? {
            0 => Some(None),
            length => Some(Some(self.slice(length - 1)?.to_vec())),
        }
    }

    /// A list whose entries take at least one octet each, so that a false count cannot ask for more memory than the
    /// octets at hand stand for.
    fn list<T>(&mut self, mut entry: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.number()?).ok()?;
        if count > self.rest.len() {
            return None;
        }
        let mut list = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            list.push(entry(self)?);
        }
        Some(list)
    }

    /// The version and the envelope.
    fn head(&mut self) -> Option<Envelope> {
        if self.octet()? != VERSION {
            return None;
        }
        let length = self.number()?;
        let mut inner = Reader { rest: self.slice(length)? };
        let envelope = inner.envelope()?;
        inner.rest.is_empty().then_some(envelope)
    }

    fn envelope(&mut self) -> Option<Envelope> {
        Some(Envelope {
            date: self.optional()?,
            subject: self.optional()?,
            in_reply_to: self.optional()?,
            message_id: self.optional()?,
            from: self.list(Self::address)?,
            sender: self.list(Self::address)?,
            reply_to: self.list(Self::address)?,
            to: self.list(Self::address)?,
            cc: self.list(Self::address)?,
            bcc: self.list(Self::address)?,
        })
    }

    fn address(&mut self) -> Option<EnvelopeAddress> {
        match self.octet()? {
            MAILBOX => Some(EnvelopeAddress::Mailbox {
                name: self.optional()?,
                route: self.optional()?,
                local: self.text()?,
                host: self.text()?,
            }),
            GROUP_START => Some(EnvelopeAddress::GroupStart(self.text()?)),
            GROUP_END => Some(EnvelopeAddress::GroupEnd),
            _ => None,
        }
    }

    fn parameters(&mut self) -> Option<Parameters> {
        self.list(|reader| Some((reader.text()?, reader.text()?)))
    }

    fn range(&mut self) -> Option<Range<u64>> {
        let start = self.number()?;
        Some(start..start.checked_add(self.number()?)?)
    }

    fn part(&mut self, levels_left: usize) -> Option<Part> {
        let levels_left = levels_left.checked_sub(1)?;
        Some(Part {
            media_type: self.text()?,
            subtype: self.text()?,
            parameters: self.parameters()?,
            id: self.optional()?,
            description: self.optional()?,
            encoding: self.text()?,
            md5: self.optional()?,
            disposition: match self.optional()? {
                None => None,
                Some(kind) => Some((kind, self.parameters()?)),
            },
            language: self.list(Self::text)?,
            location: self.optional()?,
            header: self.range()?,
            body: self.range()?,
            lines: self.number()?,
            content: match self.octet()? {
                LEAF => Content::Leaf,
                MULTIPART => Content::Multipart(self.list(|reader| reader.part(levels_left))?),
                MESSAGE => Content::Message(Box::new(self.envelope()?), Box::new(self.part(levels_left)?)),
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Scanner;

    const SAMPLE: &[u8] = b"From: \"A\" <a@b>\r\nTo: g: <@r:c@d>, e@f;\r\nSubject:\r\nDate: 1 Jan 1960 00:00 -0100\r\nMessage-ID: <x@y>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment; filename=\"x y\"\r\nContent-Language: de, en\r\n\r\nSubject: inner\r\n\r\ntext\r\n--b\r\nContent-ID: <1>\r\nContent-MD5: q==\r\nContent-Description: d\r\nContent-Location: l\r\n\r\nx\r\n--b--\r\n";

    fn sample() -> Digest {
        let mut scanner = Scanner::new();
        scanner.write(SAMPLE);
        scanner.finish(b"Return-Path: <>\r\n")
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let digest = sample();
        let octets = digest.encode();
        assert_eq!(Digest::decode(&octets), Some(digest.clone()));
        assert_eq!(decode_envelope(&octets), Some(digest.envelope));
        assert!(octets.len() < SAMPLE.len(), "{}", octets.len());
    }

    #[test]
    fn numbers_of_every_size() {
        for number in [0, 1, 127, 128, 1 << 14, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            put_signed(&mut out, number as i64);
            let mut reader = Reader { rest: &out };
            assert_eq!((reader.number(), reader.signed()), (Some(number), Some(number as i64)));
        }
        for octets in [&[0xff; 10][..], &[0x80; 9], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]] {
            assert_eq!(Reader { rest: octets }.number(), None);
        }
    }

    #[test]
    fn v28_damaged_digests_are_refused_or_read_without_harm() {
        let octets = sample().encode();
        for end in 0..octets.len() {
            assert_eq!(Digest::decode(&octets[..end]), None);
        }
        for index in 0..octets.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = octets.clone();
                damaged[index] = value;
                let _ = (Digest::decode(&damaged), decode_envelope(&damaged));
            }
        }
        assert_eq!(Digest::decode(&[&octets[..], b"x"].concat()), None);
        assert_eq!(Digest::decode(&[&[VERSION + 1], &octets[1..]].concat()), None);
    }

    #[test]
    fn v25_a_digest_nested_too_deep_is_refused() {
        let mut digest = sample();
        digest.part.content = Content::Leaf;
        for _ in 0..DEPTH_DECODED_MAX {
            let mut outer = sample().part;
            outer.content = Content::Multipart(vec![digest.part]);
            digest.part = outer;
        }
        assert_eq!(Digest::decode(&digest.encode()), None);
    }
}
