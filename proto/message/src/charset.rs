//! Charsets of mail, to UTF-8. For searching and showing: nothing is ever refused, what cannot be read becomes U+FFFD
//! or the character that the octet has in Latin-1.

mod utf7;

use encoding_rs::{CoderResult, Decoder, Encoding, REPLACEMENT, UTF_8};
use utf7::Utf7;

/// Octets of a charset's name that are looked at. The longest registered ones have some 45.
pub const CHARSET_NAME_OCTETS_MAX: usize = 64;

/// Octets in this charset, as text. `None`, US-ASCII and unknown names: UTF-8 where it is that, else Latin-1, octet by
/// octet.
pub fn to_utf8(charset: Option<&[u8]>, octets: &[u8]) -> String {
    let mut decoder = CharsetDecoder::new(charset);
    let mut text = String::with_capacity(octets.len());
    decoder.push(octets, &mut text);
    decoder.finish(&mut text);
    text
}

/// Turns octets into text as they come; how they are split changes nothing. Keeps at most a few octets.
pub struct CharsetDecoder {
    kind: Kind,
}

enum Kind {
    /// UTF-8, and Latin-1 for octets that are none.
    Lenient(Lenient),
    /// RFC 2152.
    Utf7(Utf7),
    /// What the WHATWG standard knows.
    Known(Box<Decoder>),
}

impl CharsetDecoder {
    /// A decoder for the charset of this name, in any case.
    pub fn new(charset: Option<&[u8]>) -> CharsetDecoder {
        let name = charset.unwrap_or_default().trim_ascii();
        let name = if name.len() <= CHARSET_NAME_OCTETS_MAX { name.to_ascii_lowercase() } else { Vec::new() };
        let kind = match name.as_slice() {
            b"" | b"us-ascii" | b"ascii" | b"ansi_x3.4-1968" | b"utf-8" | b"utf8" => Kind::Lenient(Lenient::default()),
            b"utf-7" | b"unicode-1-1-utf-7" => Kind::Utf7(Utf7::default()),
            name => match known(name) {
                Some(encoding) => Kind::Known(Box::new(encoding.new_decoder())),
                None => Kind::Lenient(Lenient::default()),
            },
        };
        CharsetDecoder { kind }
    }

    /// Takes the next octets and appends what they come to.
    pub fn push(&mut self, octets: &[u8], text: &mut String) {
        match &mut self.kind {
            Kind::Lenient(lenient) => lenient.push(octets, text),
            Kind::Utf7(utf7) => utf7.push(octets, text),
            Kind::Known(decoder) => decode(decoder, octets, text, false),
        }
    }

    /// Appends what was waiting for more octets.
    pub fn finish(mut self, text: &mut String) {
        match &mut self.kind {
            Kind::Lenient(lenient) => lenient.finish(text),
            Kind::Utf7(utf7) => utf7.finish(text),
            Kind::Known(decoder) => decode(decoder, b"", text, true),
        }
    }
}

fn known(name: &[u8]) -> Option<&'static Encoding> {
    let encoding = match name {
        // Names that mail has and the web has not.
        b"cp932" | b"ms932" => Encoding::for_label(b"shift_jis"),
        b"cp936" | b"ms936" => Encoding::for_label(b"gbk"),
        b"cp949" => Encoding::for_label(b"euc-kr"),
        b"cp950" => Encoding::for_label(b"big5"),
        b"cp1250" | b"cp1251" | b"cp1252" | b"cp1253" | b"cp1254" | b"cp1255" | b"cp1256" | b"cp1257" | b"cp1258" => {
            Encoding::for_label(name)
        }
        b"iso-8859-8-e" | b"iso-8859-8-i" => Encoding::for_label(b"iso-8859-8"),
        name => Encoding::for_label(name),
    };
    // The web refuses a few charsets as a whole. Their ASCII part is worth finding.
    encoding.filter(|encoding| *encoding != REPLACEMENT && *encoding != UTF_8)
}

fn decode(decoder: &mut Decoder, octets: &[u8], text: &mut String, is_last: bool) {
    let mut rest = octets;
    loop {
        // The estimate overflows only for more octets than memory holds.
        text.reserve(decoder.max_utf8_buffer_length(rest.len()).unwrap_or(rest.len()));
        let (result, read, _) = decoder.decode_to_string(rest, text, is_last);
        rest = rest.get(read..).unwrap_or_default();
        if result == CoderResult::InputEmpty {
            return;
        }
    }
}

#[derive(Default)]
struct Lenient {
    /// The start of a character, at most three octets.
    pending: Vec<u8>,
}

impl Lenient {
    fn push(&mut self, octets: &[u8], text: &mut String) {
        let mut octets = octets;
        // First the character that the last octets began, octet by octet until that is settled.
        while let ([_, ..], [first, after @ ..]) = (self.pending.as_slice(), octets) {
            self.pending.push(*first);
            octets = after;
            let pending = std::mem::take(&mut self.pending);
            self.push_all(&pending, text);
        }
        self.push_all(octets, text);
    }

    fn push_all(&mut self, octets: &[u8], text: &mut String) {
        let mut chunks = octets.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let may_go_on = chunks.peek().is_none()
                && std::str::from_utf8(invalid).err().is_some_and(|error| error.error_len().is_none());
            if may_go_on {
                self.pending = invalid.to_vec();
            } else {
                text.extend(invalid.iter().map(|b| char::from(*b)));
            }
        }
    }

    fn finish(&mut self, text: &mut String) {
        text.extend(self.pending.drain(..).map(char::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets_of_mail() {
        for (charset, octets, text) in [
            (None, "grün".as_bytes(), "grün"),
            (None, b"gr\xfcn", "grün"),
            (Some("US-ASCII"), b"gr\xfcn \xc3\xbc", "grün ü"),
            (Some("utf-8"), b"\xe2\x82\xac \xe2\x82 x", "€ \u{e2}\u{82} x"),
            (Some(" ISO-8859-1 "), b"gr\xfcn", "grün"),
            (Some("iso-8859-15"), b"\xa4", "€"),
            (Some("koi8-r"), b"\xf0\xf2\xe9", "ПРИ"),
            (Some("iso-2022-jp"), b"\x1b$B$\"\x1b(B", "あ"),
            (Some("cp932"), b"\x82\xa0", "あ"),
            (Some("gb2312"), b"\xd6\xd0", "中"),
            (Some("utf-16le"), b"a\0b\0", "ab"),
            (Some("utf-7"), b"Hi Mom -+Jjo--!", "Hi Mom -☺-!"),
            (Some("x-unknown"), b"\xe9", "é"),
            (Some("iso-2022-kr"), b"plain", "plain"),
        ] {
            assert_eq!(to_utf8(charset.map(str::as_bytes), octets), text, "{charset:?}");
        }
    }

    #[test]
    fn v27_splits_and_cuts_change_nothing() {
        let octets =
            b"a\xe2\x82\xac\xf0\x9f\x98\x80\xf0\x9f\xe2\x82\xff\xc3(\xed\xa0\x80+AGE-+2D3eAA-\x1b$B$\"\x1b(B\0\x80";
        for charset in [None, Some("utf-7"), Some("utf-16be"), Some("gb18030"), Some("iso-2022-jp"), Some("big5")] {
            let charset = charset.map(str::as_bytes);
            for end in 0..=octets.len() {
                let whole = to_utf8(charset, &octets[..end]);
                let mut decoder = CharsetDecoder::new(charset);
                let mut pieces = String::new();
                octets[..end].iter().for_each(|octet| decoder.push(&[*octet], &mut pieces));
                decoder.finish(&mut pieces);
                assert_eq!(pieces, whole, "{charset:?} {end}");
            }
        }
    }
}
