//! Values of MIME fields: Content-Type, Content-Disposition and their parameters (RFC 2045 §5.1, RFC 2183, RFC 2231).
//!
//! Values on one line or folded, from hostile hands. What is broken gives as much as can be told.

use crate::digest::Parameters;
use crate::header::{Cursor, trim, trim_end};

/// Parameters that one field keeps; the rest is passed over (V25). Real mail has fewer than ten.
pub const PARAMETERS_PER_FIELD_MAX: usize = 100;
/// Tags that Content-Language keeps.
pub const LANGUAGES_MAX: usize = 32;

/// A Content-Type: type and subtype in lower case, and the parameters.
pub type ContentType = (Vec<u8>, Vec<u8>, Parameters);

/// Reads the value of Content-Type. `None` where it has no type and subtype (RFC 2045 §5.2 then takes the default).
pub fn content_type(value: &[u8]) -> Option<ContentType> {
    let mut cursor = Cursor::new(value);
    let media_type = token(&mut cursor)?;
    if !cursor.eat(b'/') {
        return None;
    }
    let subtype = token(&mut cursor)?;
    Some((media_type, subtype, parameters(&mut cursor)))
}

/// Reads the value of Content-Disposition: its type in lower case, and the parameters.
pub fn disposition(value: &[u8]) -> Option<(Vec<u8>, Parameters)> {
    let mut cursor = Cursor::new(value);
    let kind = token(&mut cursor)?;
    Some((kind, parameters(&mut cursor)))
}

/// Reads the value of Content-Transfer-Encoding, in lower case.
pub fn transfer_encoding(value: &[u8]) -> Option<Vec<u8>> {
    token(&mut Cursor::new(value))
}

/// Reads the tags of Content-Language (RFC 3282 §2).
pub fn languages(value: &[u8]) -> Vec<Vec<u8>> {
    let mut cursor = Cursor::new(value);
    let mut tags = Vec::new();
    while tags.len() < LANGUAGES_MAX {
        tags.extend(token(&mut cursor));
        cursor.take_while(|b| b != b',');
        if !cursor.eat(b',') {
            break;
        }
    }
    tags
}

/// The value of a parameter, as it is in the field. The name is in lower case.
pub fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a [u8]> {
    parameters.iter().find(|(known, _)| known == name.as_bytes()).map(|(_, value)| value.as_slice())
}

/// The value of a parameter whose octets count, not its characters: the plain form, or the extended form with its
/// percent signs decoded and without charset and language (RFC 2231 §4).
pub fn parameter_octets(parameters: &Parameters, name: &str) -> Option<Vec<u8>> {
    if let Some(plain) = parameter(parameters, name) {
        return Some(plain.to_vec());
    }
    let (_, octets) = split_extended(parameter(parameters, &format!("{name}*"))?);
    Some(octets)
}

/// Takes apart an extended value, `charset'language'text`: the charset, and the text with percent signs decoded.
pub fn split_extended(value: &[u8]) -> (&[u8], Vec<u8>) {
    let mut pieces = value.splitn(3, |b| *b == b'\'');
    match (pieces.next(), pieces.next(), pieces.next()) {
        (Some(charset), Some(_), Some(text)) => (charset, percent_decoded(text)),
        _ => (b"", percent_decoded(value)),
    }
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |octet: Option<&u8>| octet.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match (*first, digit(after.first()), digit(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            (octet, ..) => out.push(octet),
        }
    }
    out
}

/// A token with comments around it, in lower case (RFC 2045 §5.1).
fn token(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    cursor.skip_cfws();
    let token = cursor.take_while(is_token_octet);
    cursor.skip_cfws();
    (!token.is_empty()).then(|| token.to_ascii_lowercase())
}

fn is_token_octet(octet: u8) -> bool {
    octet > b' ' && octet != 0x7f && !b"()<>@,;:\\\"/[]?=".contains(&octet)
}

/// A parameter as the field has it: RFC 2231 §3 and §4 put the number of the piece and the mark of the extended form
/// behind the name.
struct Piece {
    name: Vec<u8>,
    number: Option<u32>,
    extended: bool,
    value: Vec<u8>,
}

fn parameters(cursor: &mut Cursor<'_>) -> Parameters {
    let mut pieces = Vec::new();
    while pieces.len() < PARAMETERS_PER_FIELD_MAX {
        cursor.skip_cfws();
        cursor.take_while(|b| b != b';');
        if !cursor.eat(b';') {
            break;
        }
        pieces.extend(piece(cursor));
    }
    joined(pieces)
}

/// One `name=value`. `None` where the text up to the next semicolon is none.
fn piece(cursor: &mut Cursor<'_>) -> Option<Piece> {
    cursor.skip_cfws();
    let name = trim_end(cursor.take_while(|b| !matches!(b, b'=' | b';' | b'"' | b'(')));
    cursor.skip_cfws();
    if name.is_empty() || !cursor.eat(b'=') {
        return None;
    }
    let value = value(cursor);
    let mut name = name.to_ascii_lowercase();
    let extended = name.ends_with(b"*");
    if extended {
        name.pop();
    }
    let number = piece_number(&name);
    if let Some((star, _)) = number {
        name.truncate(star);
    }
    Some(Piece { name, number: number.map(|(_, number)| number), extended, value })
}

/// Where the star of `name*12` is, and the number behind it.
fn piece_number(name: &[u8]) -> Option<(usize, u32)> {
    let star = name.iter().rposition(|b| *b == b'*')?;
    let digits = name.get(star + 1..)?;
    let fits = star > 0 && (1..=4).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    fits.then(|| (star, digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))))
}

/// A quoted string, or whatever stands before the next semicolon: programs write names with spaces unquoted. A comment
/// behind white space is not part of it.
fn value(cursor: &mut Cursor<'_>) -> Vec<u8> {
    cursor.skip_cfws();
    if cursor.peek() == Some(b'"') {
        let mut text = Vec::new();
        cursor.quoted_string(&mut text);
        return text;
    }
    let text = cursor.take_while(|b| b != b';');
    let comment = text.windows(2).position(|pair| matches!(pair, [b' ' | b'\t' | b'\n', b'(']));
    let text = trim(text.get(..comment.unwrap_or(text.len())).unwrap_or(text));
    text.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect()
}

/// Joins the pieces of one name, in the order of their numbers. The first of equal names counts.
fn joined(pieces: Vec<Piece>) -> Parameters {
    let mut whole: Vec<(Vec<u8>, Vec<Piece>)> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        // The extended form is a parameter of its own: a field may have both (RFC 6266 §4.3 does, for HTTP).
        let mut name = piece.name.clone();
        if piece.extended && piece.number.is_none() {
            name.push(b'*');
        }
        let known = whole.iter_mut().find(|(known, first)| {
            let numbered = first.first().is_some_and(|first| first.number.is_some());
            *known == name && numbered == piece.number.is_some()
        });
        match known {
            Some((_, rest)) if piece.number.is_some() => rest.push(piece),
            Some(_) => {}
            None => whole.push((name, vec![piece])),
        }
    }
    let mut parameters: Parameters = Vec::with_capacity(whole.len());
    for (name, pieces) in whole {
        let (name, value) = join_one(name, pieces);
        if !parameters.iter().any(|(known, _)| *known == name) {
            parameters.push((name, value));
        }
    }
    parameters
}

fn join_one(mut name: Vec<u8>, mut pieces: Vec<Piece>) -> (Vec<u8>, Vec<u8>) {
    if pieces.len() == 1 && pieces.first().is_some_and(|piece| piece.number.is_none()) {
        return (name, pieces.pop().map(|piece| piece.value).unwrap_or_default());
    }
    pieces.sort_by_key(|piece| piece.number);
    pieces.dedup_by_key(|piece| piece.number);
    if !pieces.iter().any(|piece| piece.extended) {
        return (name, pieces.into_iter().flat_map(|piece| piece.value).collect());
    }
    // RFC 2231 §4.1: pieces with and without percent signs may be mixed; the whole then has the extended form.
    name.push(b'*');
    let mut value = Vec::new();
    if pieces.first().is_some_and(|piece| !piece.extended) {
        value.extend_from_slice(b"''");
    }
    for piece in pieces {
        if piece.extended {
            value.extend_from_slice(&piece.value);
        } else {
            push_percent_encoded(&mut value, &piece.value);
        }
    }
    (name, value)
}

fn push_percent_encoded(out: &mut Vec<u8>, text: &[u8]) {
    for octet in text {
        if is_token_octet(*octet) && octet.is_ascii() && !b"*'%".contains(octet) {
            out.push(*octet);
        } else {
            out.extend_from_slice(format!("%{octet:02X}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(value: &str) -> String {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let Some((media_type, subtype, parameters)) = content_type(value.as_bytes()) else {
            return "none".to_owned();
        };
        let mut shown = format!("{}/{}", text(&media_type), text(&subtype));
        for (name, value) in parameters {
            shown.push_str(&format!(" {}=<{}>", text(&name), text(&value)));
        }
        shown
    }

    #[test]
    fn types_and_parameters() {
        assert_eq!(show("text/plain; charset=us-ascii (Plain text)"), "text/plain charset=<us-ascii>");
        assert_eq!(show(" Text/(x)HTML ;CHARSET = \"u\\tf-8\";;b=c;"), "text/html charset=<utf-8> b=<c>");
        assert_eq!(show("multipart/mixed;\r\n boundary=\r\n \"a; b\""), "multipart/mixed boundary=<a; b>");
        assert_eq!(show("a/b; name=my file (1).txt; x"), "a/b name=<my file>");
        assert_eq!(show("a/b; name=file(1).txt; a=b=c:d"), "a/b name=<file(1).txt> a=<b=c:d>");
        assert_eq!(show("a/b; a=1; A=2; =3; \"q\"=4; c"), "a/b a=<1>");
        assert_eq!(show("a/b; a=\"never ends; b=c"), "a/b a=<never ends; b=c>");
        for broken in ["", "text", "text/", "/plain", "text;a=b", "(text/plain", "\"text/plain\""] {
            assert_eq!(show(broken), "none", "{broken}");
        }
        assert_eq!(languages(b"de, (x) en-GB ,,fr (y)"), [&b"de"[..], b"en-gb", b"fr"]);
    }

    #[test]
    fn continuations_are_joined() {
        // RFC 2231 §3 and §4.1.
        assert_eq!(
            show("message/external-body; access-type=URL; URL*0=\"ftp://\"; URL*1=\"cs.utk.edu/pub\""),
            "message/external-body access-type=<URL> url=<ftp://cs.utk.edu/pub>"
        );
        assert_eq!(
            show("a/b; title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*0*=us-ascii'en'This%20is; title*2=\"isn't it!\""),
            "a/b title*=<us-ascii'en'This%20is%2A%2A%2Afun%2A%2A%2A%20isn%27t%20it!>"
        );
        assert_eq!(show("a/b; n=x; n*=utf-8''y; n*0=z; n*1=w"), "a/b n=<x> n*=<utf-8''y>");
        assert_eq!(show("a/b; n*3=c; n*1=a; n*1=b; n*99999=q"), "a/b n=<ac> n*99999=<q>");
        let (_, _, parameters) = content_type(b"a/b; boundary*0*=us-ascii'en'a%2; boundary*1*=0b").unwrap();
        assert_eq!(parameter_octets(&parameters, "boundary").as_deref(), Some(b"a b".as_slice()));
        assert_eq!(split_extended(b"utf-8''%e2%82%ac%z%"), (b"utf-8".as_slice(), "€%z%".as_bytes().to_vec()));
    }

    #[test]
    fn v25_endless_parameters_are_cut() {
        let flood = format!("a/b{}", ";n*1=x;m=y;k*2*=z".repeat(100_000));
        assert!(content_type(flood.as_bytes()).unwrap().2.len() <= PARAMETERS_PER_FIELD_MAX);
        let names: String = (0..10_000).map(|n| format!(";n{n}=x")).collect();
        assert_eq!(disposition(format!("inline{names}").as_bytes()).unwrap().1.len(), PARAMETERS_PER_FIELD_MAX);
        assert_eq!(content_type(format!("a/b{}", "(".repeat(1_000_000)).as_bytes()).unwrap().2.len(), 0);
    }
}
