//! Which octets of a message a section names (RFC 3501 §6.4.5).

use super::items::{Section, SectionText};
use message::digest::{Content, Digest, Part};
use std::ops::Range;

/// The octets of a section, counted from the first octet of the stored message. For HEADER.FIELDS, those of the header
/// section to choose from. `None` where the message has no such section.
pub fn resolve(section: &Section, digest: &Digest) -> Option<Range<u64>> {
    let Some((first, rest)) = section.path.split_first() else {
        return of_message(&section.text, &digest.part);
    };
    let mut part = part_of_message(&digest.part, *first)?;
    for number in rest {
        part = match &part.content {
            Content::Multipart(parts) => nth(parts, *number)?,
            Content::Message(_, inner) => part_of_message(inner, *number)?,
            Content::Leaf => return None,
        };
    }
    match (&section.text, &part.content) {
        (SectionText::All, _) => Some(part.body.clone()),
        (SectionText::Mime, _) => Some(part.header.clone()),
        // RFC 3501 §6.4.5: behind a number, these refer to a part of type message/rfc822.
        (text, Content::Message(_, inner)) => of_message(text, inner),
        (SectionText::Header | SectionText::HeaderFields { .. } | SectionText::Text, _) => None,
    }
}

/// What `text` names of a message whose top part is `top`.
fn of_message(text: &SectionText, top: &Part) -> Option<Range<u64>> {
    match text {
        SectionText::All => Some(top.header.start..top.body.end),
        SectionText::Header | SectionText::HeaderFields { .. } => Some(top.header.clone()),
        SectionText::Text => Some(top.body.clone()),
        SectionText::Mime => None,
    }
}

/// A part of a message by its number: one of its multipart, or number 1, which is the body of any other message.
fn part_of_message(top: &Part, number: u32) -> Option<&Part> {
    match &top.content {
        Content::Multipart(parts) => nth(parts, number),
        Content::Leaf | Content::Message(..) => (number == 1).then_some(top),
    }
}

fn nth(parts: &[Part], number: u32) -> Option<&Part> {
    parts.get(usize::try_from(number).ok()?.checked_sub(1)?)
}

#[cfg(test)]
pub mod tests {
    use super::super::items::{self, Item};
    use super::*;
    use crate::lexer::Lexer;
    use message::digest::Envelope;

    /// A leaf with the given body and a header section of one octet before it.
    pub fn leaf(media_type: &str, subtype: &str, body: Range<u64>) -> Part {
        Part {
            media_type: media_type.into(),
            subtype: subtype.into(),
            parameters: Vec::new(),
            id: None,
            description: None,
            encoding: b"7bit".to_vec(),
            md5: None,
            disposition: None,
            language: Vec::new(),
            location: None,
            header: body.start.saturating_sub(1)..body.start,
            body,
            lines: 0,
            content: Content::Leaf,
        }
    }

    /// A multipart around its parts.
    pub fn multipart(subtype: &str, parts: Vec<Part>) -> Part {
        let start = parts.first().map_or(0, |part| part.header.start);
        let end = parts.last().map_or(0, |part| part.body.end);
        Part { content: Content::Multipart(parts), ..leaf("multipart", subtype, start..end) }
    }

    /// A message/rfc822 around a message.
    pub fn message_part(body: Range<u64>, inner: Part) -> Part {
        Part { content: Content::Message(Box::default(), Box::new(inner)), ..leaf("message", "rfc822", body) }
    }

    fn digest(part: Part) -> Digest {
        Digest { envelope: Envelope::default(), part, date: None }
    }

    fn range(text: &str, digest: &Digest) -> Option<Range<u64>> {
        let text = format!("BODY[{text}]");
        let items = items::parse(&mut Lexer::new(text.as_bytes())).unwrap();
        match items.items.first() {
            Some(Item::Section(section)) => resolve(&section.section, digest),
            other => panic!("{other:?}"),
        }
    }

    /// The complex message of RFC 3501 §6.4.5; the body of leaf number n starts at 100 n.
    fn example() -> Digest {
        let inner =
            multipart("mixed", vec![leaf("text", "plain", 300..310), leaf("application", "octet-stream", 400..410)]);
        let alternative =
            multipart("alternative", vec![leaf("text", "plain", 700..710), leaf("text", "richtext", 800..810)]);
        let deep = multipart("mixed", vec![leaf("text", "plain", 600..610), alternative]);
        let nested = multipart("mixed", vec![leaf("image", "gif", 500..510), message_part(590..810, deep)]);
        digest(multipart(
            "mixed",
            vec![
                leaf("text", "plain", 100..110),
                leaf("application", "octet-stream", 200..210),
                message_part(290..410, inner),
                nested,
            ],
        ))
    }

    #[test]
    fn the_example_of_the_rfc_is_numbered_as_there() {
        let digest = example();
        for (text, expected) in [
            ("", Some(98..810)),
            ("HEADER", Some(98..99)),
            ("HEADER.FIELDS (a)", Some(98..99)),
            ("TEXT", Some(99..810)),
            ("1", Some(100..110)),
            ("1.MIME", Some(99..100)),
            ("2", Some(200..210)),
            ("3", Some(290..410)),
            ("3.MIME", Some(289..290)),
            ("3.HEADER", Some(298..299)),
            ("3.HEADER.FIELDS.NOT (a)", Some(298..299)),
            ("3.TEXT", Some(299..410)),
            ("3.1", Some(300..310)),
            ("3.2", Some(400..410)),
            ("4", Some(499..810)),
            ("4.1", Some(500..510)),
            ("4.1.MIME", Some(499..500)),
            ("4.2", Some(590..810)),
            ("4.2.HEADER", Some(598..599)),
            ("4.2.TEXT", Some(599..810)),
            ("4.2.1", Some(600..610)),
            ("4.2.2", Some(699..810)),
            ("4.2.2.1", Some(700..710)),
            ("4.2.2.2", Some(800..810)),
            ("5", None),
            ("1.1", None),
            ("1.HEADER", None),
            ("1.TEXT", None),
            ("4.HEADER", None),
            ("4.2.2.1.1", None),
            ("4294967295", None),
        ] {
            assert_eq!(range(text, &digest), expected, "{text}");
        }
    }

    #[test]
    fn a_message_that_is_no_multipart_has_part_one() {
        let digest = digest(leaf("text", "plain", 50..60));
        assert_eq!(range("1", &digest), Some(50..60));
        assert_eq!(range("1.MIME", &digest), Some(49..50));
        for absent in ["2", "1.1", "1.TEXT", "1.HEADER"] {
            assert_eq!(range(absent, &digest), None, "{absent}");
        }
    }

    #[test]
    fn a_message_in_a_message_has_its_own_parts() {
        let inner = leaf("text", "plain", 70..80);
        let digest = digest(message_part(60..80, inner));
        assert_eq!(range("TEXT", &digest), Some(60..80));
        assert_eq!(range("1", &digest), Some(60..80));
        assert_eq!(range("1.HEADER", &digest), Some(69..70));
        assert_eq!(range("1.TEXT", &digest), Some(70..80));
        assert_eq!(range("1.1", &digest), Some(70..80));
        assert_eq!(range("1.1.MIME", &digest), Some(69..70));
        assert_eq!(range("1.1.1", &digest), None);
    }
}
