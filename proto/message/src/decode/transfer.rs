//! Content-Transfer-Encodings undone (RFC 2045 §6), octet stream to octet stream.

/// Undoes a transfer encoding as octets come; how they are split changes nothing. Keeps at most a few octets, except
/// that a line of quoted-printable may end in as much white space as [`BLANKS_KEPT_MAX`].
pub struct TransferDecoder {
    kind: Kind,
}

enum Kind {
    /// 7bit, 8bit, binary and all that we do not know.
    Identity,
    Base64(Base64),
    QuotedPrintable(QuotedPrintable),
}

impl TransferDecoder {
    /// A decoder for the encoding of this name, in any case.
    pub fn new(encoding: &[u8]) -> TransferDecoder {
        let kind = match encoding.trim_ascii().to_ascii_lowercase().as_slice() {
            b"base64" => Kind::Base64(Base64::default()),
            b"quoted-printable" => Kind::QuotedPrintable(QuotedPrintable::Text),
            _ => Kind::Identity,
        };
        TransferDecoder { kind }
    }

    /// Takes the next octets and appends what they come to: never more octets than were given so far.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        match &mut self.kind {
            Kind::Identity => out.extend_from_slice(octets),
            Kind::Base64(base64) => base64.push(octets, out),
            Kind::QuotedPrintable(quoted) => quoted.push(octets, out),
        }
    }

    /// Appends what was waiting for more octets.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self.kind {
            Kind::Identity | Kind::Base64(_) => {}
            Kind::QuotedPrintable(quoted) => quoted.finish(out),
        }
    }
}

/// RFC 2045 §6.8: octets outside the alphabet are passed over. Padding ends a group of four; what follows is a new
/// one, because some programs join encoded pieces.
#[derive(Default)]
struct Base64 {
    bits: u32,
    bit_count: u32,
}

const NO_DIGIT: u8 = 0xff;

/// The six bits of each octet, or [`NO_DIGIT`].
const DIGITS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < alphabet.len() {
        digits[alphabet[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// The six bits of a base64 digit.
pub(crate) fn base64_value(octet: u8) -> Option<u8> {
    Some(DIGITS[usize::from(octet)]).filter(|digit| *digit != NO_DIGIT)
}

impl Base64 {
    fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        out.reserve(octets.len() / 4 * 3 + 3);
        let mut rest = octets;
        while !rest.is_empty() {
            if self.bit_count == 0 {
                rest = whole_groups(rest, out);
            }
            // One octet the slow way: a line end, padding, or a group that is cut.
            let Some((first, after)) = rest.split_first() else { return };
            rest = after;
            self.push_one(*first, out);
        }
    }

    fn push_one(&mut self, octet: u8, out: &mut Vec<u8>) {
        let Some(value) = base64_value(octet) else {
            if octet == b'=' {
                *self = Base64::default();
            }
            return;
        };
        self.bits = self.bits << 6 | u32::from(value);
        self.bit_count += 6;
        if self.bit_count >= 8 {
            self.bit_count -= 8;
            out.push((self.bits >> self.bit_count) as u8);
            self.bits &= (1 << self.bit_count) - 1;
        }
    }
}

/// Decodes groups of four digits as long as they come, and gives what is left.
fn whole_groups<'a>(octets: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let mut rest = octets;
    while let [a, b, c, d, after @ ..] = rest {
        let group = [*a, *b, *c, *d].map(|octet| DIGITS[usize::from(octet)]);
        if group.contains(&NO_DIGIT) {
            break;
        }
        let [a, b, c, d] = group.map(u32::from);
        let bits = a << 18 | b << 12 | c << 6 | d;
        out.extend_from_slice(&[(bits >> 16) as u8, (bits >> 8) as u8, bits as u8]);
        rest = after;
    }
    rest
}

/// RFC 2045 §6.7. White space at the end of a line is kept, where the RFC has it deleted (not): it does not matter to
/// a search. An equals sign without its two digits stays, as the RFC suggests.
enum QuotedPrintable {
    Text,
    /// Behind an equals sign.
    Equals,
    /// Behind an equals sign and one hexadecimal digit.
    Digit(u8),
    /// Behind an equals sign and white space, which is a soft line break if the line ends now. Counts the octets.
    Blanks(Vec<u8>),
}

/// White space between an equals sign and a line end that still makes a soft line break. Lines have 76 octets.
pub const BLANKS_KEPT_MAX: usize = 76;

impl QuotedPrintable {
    fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let mut rest = octets;
        while !rest.is_empty() {
            if matches!(self, QuotedPrintable::Text) {
                let length = memchr::memchr(b'=', rest).unwrap_or(rest.len());
                let (text, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                out.extend_from_slice(text);
                rest = after;
            }
            let Some((first, after)) = rest.split_first() else { return };
            rest = after;
            self.push_one(*first, out);
        }
    }

    fn push_one(&mut self, octet: u8, out: &mut Vec<u8>) {
        let state = std::mem::replace(self, QuotedPrintable::Text);
        *self = match (state, octet) {
            (QuotedPrintable::Text, b'=') => QuotedPrintable::Equals,
            (QuotedPrintable::Text, octet) => {
                out.push(octet);
                QuotedPrintable::Text
            }
            (QuotedPrintable::Equals, octet) if octet.is_ascii_hexdigit() => QuotedPrintable::Digit(octet),
            (QuotedPrintable::Digit(high), low) if low.is_ascii_hexdigit() => {
                out.push(hex_value(high) << 4 | hex_value(low));
                QuotedPrintable::Text
            }
            (QuotedPrintable::Equals | QuotedPrintable::Blanks(_), b'\n') => QuotedPrintable::Text,
            (QuotedPrintable::Equals, octet @ (b' ' | b'\t' | b'\r')) => QuotedPrintable::Blanks(vec![octet]),
            (QuotedPrintable::Blanks(mut blanks), octet @ (b' ' | b'\t' | b'\r')) if blanks.len() < BLANKS_KEPT_MAX => {
                blanks.push(octet);
                QuotedPrintable::Blanks(blanks)
            }
            // None of these: all of it was text, and the present octet may begin anew.
            (state, octet) => {
                state.finish(out);
                return self.push_one(octet, out);
            }
        };
    }

    fn finish(self, out: &mut Vec<u8>) {
        match self {
            QuotedPrintable::Text => {}
            QuotedPrintable::Equals => out.push(b'='),
            QuotedPrintable::Digit(high) => out.extend_from_slice(&[b'=', high]),
            QuotedPrintable::Blanks(blanks) => {
                out.push(b'=');
                out.extend_from_slice(&blanks);
            }
        }
    }
}

/// The value of a hexadecimal digit; lower case is not of the RFC, but is written.
fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.saturating_sub(b'A') + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(encoding: &str, octets: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut decoder = TransferDecoder::new(encoding.as_bytes());
        decoder.push(octets, &mut out);
        decoder.finish(&mut out);
        out
    }

    #[test]
    fn base64_with_everything_that_occurs() {
        assert_eq!(decoded("base64", b"TWFu"), b"Man");
        assert_eq!(decoded("base64", b"TW\r\nE=\r\nTWFu"), b"MaMan");
        assert_eq!(decoded("base64", b"TQ==TQ=="), b"MM");
        assert_eq!(decoded("base64", b"T-W.F!u TW"), b"ManM");
        assert_eq!(decoded("base64", b"===="), b"");
    }

    #[test]
    fn quoted_printable_with_everything_that_occurs() {
        assert_eq!(decoded("quoted-printable", b"a=3Db=c3=A9=\nc=20\r\n"), b"a=b\xc3\xa9c \r\n");
        assert_eq!(decoded("quoted-printable", b"==3D=4=41=g= x= \t\r\ny=="), b"===4A=g= xy==");
        let long = format!("={}\n", " ".repeat(BLANKS_KEPT_MAX + 1));
        assert_eq!(decoded("quoted-printable", long.as_bytes()), long.as_bytes());
    }

    #[test]
    fn v27_splits_change_nothing() {
        let mut seed = 1_u32;
        for _ in 0..2_000 {
            let mut octets = Vec::new();
            for _ in 0..24 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                octets.push(b"=\r\n \tAa1zQ/+-\xff"[(seed >> 16) as usize % 14]);
            }
            for encoding in ["base64", "quoted-printable", "8bit"] {
                let mut pieces = Vec::new();
                let mut decoder = TransferDecoder::new(encoding.as_bytes());
                octets.iter().for_each(|octet| decoder.push(&[*octet], &mut pieces));
                decoder.finish(&mut pieces);
                assert_eq!(pieces, decoded(encoding, &octets));
            }
        }
    }
}
