//! BODY and BODYSTRUCTURE (RFC 3501 §7.4.2): the MIME structure of a digest as the client gets it.

use super::envelope;
use crate::encode::{nstring, number, string};
use message::digest::{Content, Parameters, Part};

/// Writes the structure of a part and of what it holds; with extension data for BODYSTRUCTURE, without for BODY.
///
/// Recurses as deep as the digest is, whose depth is bounded where it is made and where it is decoded (V25).
pub fn write(out: &mut Vec<u8>, part: &Part, extended: bool) {
    out.push(b'(');
    match &part.content {
        Content::Multipart(parts) if !parts.is_empty() => {
            for inner in parts {
                write(out, inner, extended);
            }
            out.push(b' ');
            string(out, &part.subtype);
            if extended {
                out.push(b' ');
                parameters(out, &part.parameters);
            }
        }
        Content::Message(envelope, inner) => {
            fields(out, &part.media_type, &part.subtype, part);
            out.push(b' ');
            envelope::write(out, envelope);
            out.push(b' ');
            write(out, inner, extended);
            lines(out, part);
            md5(out, part, extended);
        }
        Content::Leaf | Content::Multipart(_) => {
            leaf(out, part);
            md5(out, part, extended);
        }
    }
    if extended {
        extension(out, part);
    }
    out.push(b')');
}

/// A part of which nothing more is known than its octets.
///
/// The grammar of RFC 3501 §9 has no multipart without parts and no message/rfc822 without what is in it. Where the
/// digest stopped at a limit or found no parts, the former is shown as the text that it is to a reader without MIME, the
/// latter as octets to save (RFC 2046 §4.5.1).
fn leaf(out: &mut Vec<u8>, part: &Part) {
    let (media_type, subtype): (&[u8], &[u8]) = match (part.media_type.as_slice(), part.subtype.as_slice()) {
        (b"multipart", _) => (b"text", b"plain"),
        (b"message", b"rfc822") => (b"application", b"octet-stream"),
        other => other,
    };
    fields(out, media_type, subtype, part);
    if media_type == b"text" {
        lines(out, part);
    }
}

/// RFC 3501 §9, media type and body-fields.
fn fields(out: &mut Vec<u8>, media_type: &[u8], subtype: &[u8], part: &Part) {
    string(out, media_type);
    out.push(b' ');
    string(out, subtype);
    out.push(b' ');
    parameters(out, &part.parameters);
    out.push(b' ');
    nstring(out, part.id.as_deref());
    out.push(b' ');
    nstring(out, part.description.as_deref());
    out.push(b' ');
    string(out, &part.encoding);
    out.push(b' ');
    number(out, part.body.end.saturating_sub(part.body.start));
}

fn lines(out: &mut Vec<u8>, part: &Part) {
    out.push(b' ');
    number(out, part.lines);
}

/// The first of the extension data of a part that is no multipart.
fn md5(out: &mut Vec<u8>, part: &Part, extended: bool) {
    if extended {
        out.push(b' ');
        nstring(out, part.md5.as_deref());
    }
}

/// Disposition, language, location: the extension data that all parts share.
fn extension(out: &mut Vec<u8>, part: &Part) {
    out.push(b' ');
    match &part.disposition {
        None => out.extend_from_slice(b"NIL"),
        Some((kind, values)) => {
            out.push(b'(');
            string(out, kind);
            out.push(b' ');
            parameters(out, values);
            out.push(b')');
        }
    }
    out.push(b' ');
    list(out, part.language.iter());
    out.push(b' ');
    nstring(out, part.location.as_deref());
}

fn parameters(out: &mut Vec<u8>, parameters: &Parameters) {
    list(out, parameters.iter().flat_map(|(name, value)| [name, value]));
}

/// Strings in parentheses, or NIL where there are none.
fn list<'a>(out: &mut Vec<u8>, strings: impl Iterator<Item = &'a Vec<u8>>) {
    let start = out.len();
    for value in strings {
        out.push(if out.len() == start { b'(' } else { b' ' });
        string(out, value);
    }
    if out.len() == start {
        out.extend_from_slice(b"NIL");
    } else {
        out.push(b')');
    }
}

#[cfg(test)]
mod tests {
    use super::super::sections::tests::{leaf, message_part, multipart};
    use super::*;

    fn written(part: &Part, extended: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, part, extended);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_text_is_written_as_in_the_example_of_the_rfc() {
        let mut part = leaf("text", "plain", 0..2_279);
        part.parameters = vec![(b"charset".to_vec(), b"us-ascii".to_vec())];
        part.lines = 48;
        assert_eq!(written(&part, false), r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 2279 48)"#);
        assert_eq!(
            written(&part, true),
            r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 2279 48 NIL NIL NIL NIL)"#
        );
    }

    #[test]
    fn a_multipart_is_written_with_its_extension_data() {
        let mut attachment = leaf("image", "gif", 100..150);
        attachment.encoding = b"base64".to_vec();
        attachment.id = Some(b"<960723163407@example.edu>".to_vec());
        attachment.description = Some(b"A \"gif\"".to_vec());
        attachment.md5 = Some(b"Q2hlY2s=".to_vec());
        attachment.disposition =
            Some((b"attachment".to_vec(), vec![(b"filename".to_vec(), "gr\u{fc}n.gif".as_bytes().to_vec())]));
        attachment.language = vec![b"en".to_vec(), b"de".to_vec()];
        attachment.location = Some(b"http://example.net/".to_vec());
        let mut top = multipart("mixed", vec![leaf("text", "plain", 0..50), attachment]);
        top.parameters = vec![(b"boundary".to_vec(), b"x".to_vec())];
        assert_eq!(
            written(&top, false),
            concat!(
                r#"(("text" "plain" NIL NIL NIL "7bit" 50 0)"#,
                r#"("image" "gif" NIL "<960723163407@example.edu>" "A \"gif\"" "base64" 50) "mixed")"#
            )
        );
        assert_eq!(
            written(&top, true),
            concat!(
                r#"(("text" "plain" NIL NIL NIL "7bit" 50 0 NIL NIL NIL NIL)"#,
                r#"("image" "gif" NIL "<960723163407@example.edu>" "A \"gif\"" "base64" 50 "Q2hlY2s=" "#,
                "(\"attachment\" (\"filename\" {9}\r\ngr\u{fc}n.gif)) (\"en\" \"de\") \"http://example.net/\") ",
                r#""mixed" ("boundary" "x") NIL NIL NIL)"#
            )
        );
    }

    #[test]
    fn a_message_is_written_with_envelope_structure_and_lines() {
        let mut part = message_part(0..99, leaf("text", "plain", 10..20));
        part.lines = 7;
        assert_eq!(
            written(&part, false),
            concat!(
                r#"("message" "rfc822" NIL NIL NIL "7bit" 99 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) "#,
                r#"("text" "plain" NIL NIL NIL "7bit" 10 0) 7)"#
            )
        );
    }

    #[test]
    fn v25_what_lies_beyond_a_limit_keeps_the_grammar() {
        let beyond = multipart("mixed", vec![leaf("multipart", "mixed", 0..9), leaf("message", "rfc822", 9..12)]);
        assert_eq!(
            written(&beyond, false),
            concat!(
                r#"(("text" "plain" NIL NIL NIL "7bit" 9 0)"#,
                r#"("application" "octet-stream" NIL NIL NIL "7bit" 3) "mixed")"#
            )
        );
        let none = multipart("mixed", Vec::new());
        assert_eq!(written(&none, false), r#"("text" "plain" NIL NIL NIL "7bit" 0 0)"#);
    }
}
