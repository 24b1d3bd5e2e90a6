//! Mailbox names on the wire: modified UTF-7 (RFC 3501 §5.1.3), both ways.
//!
//! Strict: every name has one spelling. A second spelling of a name would let two clients disagree about which mailbox
//! they mean, so it is refused and not repaired.

/// The name is not modified UTF-7, or not in its one proper spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotModifiedUtf7;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Reads a name as it came over the wire.
pub fn decode(wire: &[u8]) -> Result<String, NotModifiedUtf7> {
    let mut name = String::with_capacity(wire.len());
    let mut rest = wire;
    let mut after_shift = false;
    while let Some((octet, tail)) = rest.split_first() {
        rest = tail;
        match *octet {
            b'&' => {
                let end = rest.iter().position(|b| *b == b'-').ok_or(NotModifiedUtf7)?;
                let (shifted, tail) = rest.split_at(end);
                rest = tail.get(1..).unwrap_or_default();
                if shifted.is_empty() {
                    name.push('&');
                    after_shift = false;
                } else {
                    // RFC 3501 §5.1.3: no superfluous shifts; two runs in a row are one run.
                    if after_shift {
                        return Err(NotModifiedUtf7);
                    }
                    decode_run(shifted, &mut name)?;
                    after_shift = true;
                }
            }
            0x20..=0x7e => {
                name.push(char::from(*octet));
                after_shift = false;
            }
            _ => return Err(NotModifiedUtf7),
        }
    }
    Ok(name)
}

/// Reads the base64 between `&` and `-`: UTF-16, big end first.
fn decode_run(run: &[u8], name: &mut String) -> Result<(), NotModifiedUtf7> {
    let (mut bits, mut count) = (0u32, 0u32);
    let mut units = Vec::with_capacity(run.len() * 6 / 16 + 1);
    for octet in run {
        let value = ALPHABET.iter().position(|known| known == octet).ok_or(NotModifiedUtf7)?;
        // At most 15 bits are left over from before, so 21 bits fit.
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push((bits >> count & 0xffff) as u16);
            bits &= (1 << count) - 1;
        }
    }
    // Fewer than six bits may be left, and they are zero; more would be a superfluous character.
    if count >= 6 || bits != 0 {
        return Err(NotModifiedUtf7);
    }
    for decoded in char::decode_utf16(units) {
        let c = decoded.map_err(|_| NotModifiedUtf7)?;
        // RFC 3501 §5.1.3: what can stand for itself must.
        if matches!(c, ' '..='~' | '\0') {
            return Err(NotModifiedUtf7);
        }
        name.push(c);
    }
    Ok(())
}

/// Writes a name for the wire.
pub fn encode(name: &str) -> String {
    let mut wire = String::with_capacity(name.len() + 8);
    let mut run = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            end_run(&mut run, &mut wire);
            wire.push(c);
            if c == '&' {
                wire.push('-');
            }
        } else {
            run.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }
    end_run(&mut run, &mut wire);
    wire
}

fn end_run(run: &mut Vec<u16>, wire: &mut String) {
    if run.is_empty() {
        return;
    }
    let letter = |value: u32| ALPHABET.get(value as usize & 63).map_or('A', |b| char::from(*b));
    wire.push('&');
    let (mut bits, mut count) = (0u32, 0u32);
    for unit in run.drain(..) {
        bits = bits << 16 | u32::from(unit);
        count += 16;
        while count >= 6 {
            count -= 6;
            wire.push(letter(bits >> count));
            bits &= (1 << count) - 1;
        }
    }
    if count > 0 {
        wire.push(letter(bits << (6 - count)));
    }
    wire.push('-');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r43_names_print_what_they_parse() {
        for (wire, name) in [
            ("INBOX", "INBOX"),
            ("Entw&APw-rfe", "Entwürfe"),
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
            ("a &- b", "a & b"),
            ("&-&AOQ-", "&ä"),
            ("&AOQ-&-", "ä&"),
            ("&2D3eAA-", "😀"),
            ("&AAoACQ-", "\n\t"),
            ("", ""),
        ] {
            assert_eq!(decode(wire.as_bytes()).as_deref(), Ok(name));
            assert_eq!(encode(name), wire);
        }
        for c in ('\u{1}'..='\u{2ff}').chain('\u{ff00}'..='\u{10080}') {
            let name = format!("{c}{c}x{c}");
            assert_eq!(decode(encode(&name).as_bytes()), Ok(name));
        }
    }

    #[test]
    fn v27_second_spellings_and_broken_runs_are_refused() {
        for wire in [
            &b"&"[..],
            b"&A",
            b"a&AOQ",
            b"&AOQ-&APw-",
            b"&AGE-",
            b"&AOR-",
            b"&AOQA-",
            b"&AO-",
            b"&2D0-",
            b"&3gA-",
            b"&AAA-",
            b"&A O-",
            b"&A/O-",
            b"Entw\xc3\xbcrfe",
            b"a\nb",
            b"a\x7f",
        ] {
            assert_eq!(decode(wire), Err(NotModifiedUtf7), "{:?}", String::from_utf8_lossy(wire));
        }
    }
}
