//! UTF-7 (RFC 2152), as text of messages still has it. Not the variant of IMAP's mailbox names.

/// A decoder that takes octets one by one.
#[derive(Default)]
pub(super) struct Utf7 {
    shift: Option<Shifted>,
}

/// Inside `+…-`.
#[derive(Default)]
struct Shifted {
    bits: u32,
    bit_count: u32,
    /// The first half of a character beyond U+FFFF.
    high: Option<u16>,
    is_empty: bool,
}

impl Utf7 {
    pub(super) fn push(&mut self, octets: &[u8], text: &mut String) {
        for octet in octets {
            self.push_one(*octet, text);
        }
    }

    fn push_one(&mut self, octet: u8, text: &mut String) {
        let Some(shifted) = &mut self.shift else {
            if octet == b'+' {
                self.shift = Some(Shifted { is_empty: true, ..Shifted::default() });
            } else {
                text.push(char::from(octet));
            }
            return;
        };
        if let Some(value) = crate::decode::base64_value(octet) {
            shifted.is_empty = false;
            shifted.push_bits(u32::from(value), text);
            return;
        }
        // RFC 2152, rule 2: any other octet ends it, and a hyphen is taken up by that; `+-` is a plus sign.
        let is_empty = shifted.is_empty;
        self.finish(text);
        match (octet, is_empty) {
            (b'-', true) => text.push('+'),
            (b'-', false) => {}
            _ => text.push(char::from(octet)),
        }
    }

    pub(super) fn finish(&mut self, text: &mut String) {
        if self.shift.take().is_some_and(|shifted| shifted.high.is_some()) {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

impl Shifted {
    fn push_bits(&mut self, value: u32, text: &mut String) {
        self.bits = self.bits << 6 | value;
        self.bit_count += 6;
        if self.bit_count < 16 {
            return;
        }
        self.bit_count -= 16;
        let unit = (self.bits >> self.bit_count & 0xffff) as u16;
        self.bits &= (1 << self.bit_count) - 1;
        let is_high = (0xd800..0xdc00).contains(&unit);
        match self.high.take() {
            Some(high) if !is_high => {
                text.extend(char::decode_utf16([high, unit]).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
            }
            Some(_) => text.push(char::REPLACEMENT_CHARACTER),
            None if !is_high => text.push(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)),
            None => {}
        }
        if is_high {
            self.high = Some(unit);
        }
    }
}
