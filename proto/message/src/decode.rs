//! Text to read and to search in: encoded words of header fields, transfer encodings and charsets undone.
//!
//! Nothing is refused. What is not encoded as it says stays as it is.

mod transfer;

pub(crate) use transfer::base64_value;
pub use transfer::{BLANKS_KEPT_MAX, TransferDecoder};

use crate::charset::{self, CharsetDecoder};
use crate::header::{trim, without_line_end};
use memchr::{memchr, memmem};

/// Octets of body text turned into text at one time inside [`TextDecoder::push`].
const CHUNK_OCTETS: usize = 8 * 1024;

/// Turns the octets of a body, as stored, into text as they come; how they are split changes nothing. Keeps a few
/// octets only; what a call appends is at most some four times what it was given.
pub struct TextDecoder {
    transfer: TransferDecoder,
    charset: CharsetDecoder,
    decoded: Vec<u8>,
}

impl TextDecoder {
    /// A decoder for a Content-Transfer-Encoding and the charset parameter of a Content-Type, in any case. An unknown
    /// encoding is taken for none.
    pub fn new(encoding: &[u8], charset: Option<&[u8]>) -> TextDecoder {
        TextDecoder {
            transfer: TransferDecoder::new(encoding),
            charset: CharsetDecoder::new(charset),
            decoded: Vec::new(),
        }
    }

    /// Takes the next octets and appends what they come to.
    pub fn push(&mut self, octets: &[u8], text: &mut String) {
        for chunk in octets.chunks(CHUNK_OCTETS) {
            self.decoded.clear();
            self.transfer.push(chunk, &mut self.decoded);
            self.charset.push(&self.decoded, text);
        }
    }

    /// Appends what was waiting for more octets.
    pub fn finish(mut self, text: &mut String) {
        self.decoded.clear();
        self.transfer.finish(&mut self.decoded);
        self.charset.push(&self.decoded, text);
        self.charset.finish(text);
    }
}

/// The value of a header field as text: unfolded, encoded words decoded (RFC 2047). Time and length are linear.
pub fn decode_header(value: &[u8]) -> String {
    let value = unfolded_runs(trim(value));
    let mut words = Words { text: String::with_capacity(value.len()), pending: None };
    let mut rest = value.as_slice();
    let mut plain_start = rest;
    while let Some(at) = memmem::find(rest, b"=?") {
        let (before, candidate) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        match EncodedWord::parse(candidate) {
            Some((word, after)) => {
                let plain_length = plain_start.len() - rest.len() + before.len();
                words.push_plain(plain_start.get(..plain_length).unwrap_or_default(), true);
                words.push_encoded(&word);
                (rest, plain_start) = (after, after);
            }
            None => rest = candidate.get(2..).unwrap_or_default(),
        }
    }
    words.push_plain(plain_start, false);
    words.finish()
}

/// The value with its line ends taken out.
fn unfolded_runs(value: &[u8]) -> Vec<u8> {
    if memchr(b'\n', value).is_none() {
        return value.to_vec();
    }
    value.split_inclusive(|b| *b == b'\n').flat_map(without_line_end).copied().collect()
}

/// Decoded text, and the octets of encoded words that may go on in the next word: programs cut characters in two.
struct Words {
    text: String,
    pending: Option<(Vec<u8>, Vec<u8>)>,
}

impl Words {
    fn push_plain(&mut self, plain: &[u8], is_before_word: bool) {
        // RFC 2047 §6.2: white space between two encoded words is not shown.
        if is_before_word && self.pending.is_some() && trim(plain).is_empty() {
            return;
        }
        self.flush();
        self.text.push_str(&charset::to_utf8(None, plain));
    }

    fn push_encoded(&mut self, word: &EncodedWord<'_>) {
        if self.pending.as_ref().is_some_and(|(charset, _)| !charset.eq_ignore_ascii_case(word.charset)) {
            self.flush();
        }
        let (_, octets) = self.pending.get_or_insert_with(|| (word.charset.to_vec(), Vec::new()));
        word.decode(octets);
    }

    fn flush(&mut self) {
        if let Some((charset, octets)) = self.pending.take() {
            self.text.push_str(&charset::to_utf8(Some(&charset), &octets));
        }
    }

    fn finish(mut self) -> String {
        self.flush();
        self.text
    }
}

/// `=?charset?encoding?text?=`.
struct EncodedWord<'a> {
    charset: &'a [u8],
    is_base64: bool,
    text: &'a [u8],
}

impl<'a> EncodedWord<'a> {
    /// Reads one at the start of the octets. No piece of it holds a question mark, so that no octet is looked at more
    /// than a few times, however many false starts there are. Its length is not limited (RFC 2047 §2 says 75 octets;
    /// programs write more).
    fn parse(octets: &'a [u8]) -> Option<(EncodedWord<'a>, &'a [u8])> {
        let rest = octets.strip_prefix(b"=?")?;
        let (charset, rest) = split_at_question_mark(rest)?;
        let (encoding, rest) = split_at_question_mark(rest)?;
        let (text, rest) = split_at_question_mark(rest)?;
        let rest = rest.strip_prefix(b"=")?;
        let is_base64 = match encoding {
            b"b" | b"B" => true,
            b"q" | b"Q" => false,
            _ => return None,
        };
        // RFC 2231 §5: a language may follow the charset.
        let charset = charset.split(|b| *b == b'*').next()?;
        let is_name = !charset.is_empty() && charset.iter().all(u8::is_ascii_graphic);
        is_name.then_some((EncodedWord { charset, is_base64, text }, rest))
    }

    fn decode(&self, out: &mut Vec<u8>) {
        if self.is_base64 {
            let mut decoder = TransferDecoder::new(b"base64");
            decoder.push(self.text, out);
            decoder.finish(out);
            return;
        }
        // RFC 2047 §4.2: quoted-printable where an underscore is a space.
        let spaced: Vec<u8> = self.text.iter().map(|b| if *b == b'_' { b' ' } else { *b }).collect();
        let mut decoder = TransferDecoder::new(b"quoted-printable");
        decoder.push(&spaced, out);
        decoder.finish(out);
    }
}

fn split_at_question_mark(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr(b'?', octets)?;
    Some((octets.get(..at)?, octets.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_words() {
        for (value, text) in [
            // RFC 2047 §8.
            ("(=?ISO-8859-1?Q?a?=)", "(a)"),
            ("(=?ISO-8859-1?Q?a?= b)", "(a b)"),
            ("(=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a?=\r\n  =?ISO-8859-1?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
            ("=?ISO-8859-1?Q?Andr=E9?= Pirard", "André Pirard"),
            (
                "=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
                "If you can read this you understand the example.",
            ),
            // A character cut in two, a language, lower case, no encoding at all.
            ("=?utf-8?B?4oI=?= =?UTF-8?B?rA==?=", "€"),
            ("=?US-ASCII*EN?q?Keith_Moore?=", "Keith Moore"),
            ("  plain =? text ?= and =?x?y?z?= =?", "plain =? text ?= and =?x?y?z?= =?"),
            ("=?=?utf-8?q?a?=", "=?a"),
            ("gr\u{fc}n =?utf-8?q?=C3=BC?=", "grün ü"),
            ("", ""),
        ] {
            assert_eq!(decode_header(value.as_bytes()), text, "{value}");
        }
    }

    #[test]
    fn bodies() {
        let decode = |encoding: &str, charset: &str, body: &str| {
            let mut whole = String::new();
            let mut decoder = TextDecoder::new(encoding.as_bytes(), Some(charset.as_bytes()));
            decoder.push(body.as_bytes(), &mut whole);
            decoder.finish(&mut whole);
            let mut pieces = String::new();
            let mut decoder = TextDecoder::new(encoding.as_bytes(), Some(charset.as_bytes()));
            body.as_bytes().iter().for_each(|octet| decoder.push(&[*octet], &mut pieces));
            decoder.finish(&mut pieces);
            assert_eq!(pieces, whole);
            whole
        };
        assert_eq!(decode("base64", "utf-8", "4oKsIHVu\r\nZCDigqw=\r\n"), "€ und €");
        assert_eq!(decode("BASE64", "iso-8859-1", "/A=="), "ü");
        assert_eq!(decode("quoted-printable", "iso-8859-1", "gr=FCn=\r\n =fc=  \r\n=3D=zz=\r"), "grün ü==zz=\r");
        assert_eq!(decode("7bit", "utf-8", "a=3D"), "a=3D");
        assert_eq!(decode("x-unknown", "x", "a=3D"), "a=3D");
    }

    #[test]
    fn v27_cuts_at_every_octet() {
        let value = "a =?utf-8?B?4oKs4oKs?= =?gb18030*de?Q?=D6=D0_=?=\r\n =?utf-7?Q?+2D3eAA-?= \u{20ac}?=".as_bytes();
        for start in 0..value.len() {
            for end in start..=value.len() {
                let _ = decode_header(&value[start..end]);
            }
        }
    }

    #[test]
    fn v26_false_starts_take_linear_time() {
        for piece in ["=?", "=?a?", "=?a?q?", "=?a?q?b?", "=?a?q?b?= ", "?=", "=?utf-8?b?=?="] {
            let flood = piece.repeat(1_000_000);
            assert!(decode_header(flood.as_bytes()).len() <= flood.len());
        }
    }
}
