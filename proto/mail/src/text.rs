//! Text on its way into logs, replies and reports.

use crate::queue::REASON_OCTETS_MAX;

/// A text as one line without control characters (V13), cut to [`REASON_OCTETS_MAX`] octets.
pub fn one_line(text: &str) -> String {
    let text = text.get(..text.floor_char_boundary(REASON_OCTETS_MAX)).unwrap_or_default();
    text.replace(char::is_control, " ")
}

/// The character that a text begins with in the form `\x{HEXPOINT}` (RFC 6533 §3), and what follows it. `None` where no
/// such form is, or one of no character.
pub fn embedded_character(text: &str) -> Option<(char, &str)> {
    let (digits, rest) = text.strip_prefix("\\x{")?.split_once('}')?;
    let is_point = (2..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let point = u32::from_str_radix(digits, 16).ok().filter(|_| is_point)?;
    Some((char::from_u32(point)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v13_a_line_has_no_control_characters_and_an_end() {
        assert_eq!(one_line("a\r\nb\t\u{9b}c\0"), "a  b  c ");
        let long = one_line(&"\u{e9}".repeat(REASON_OCTETS_MAX));
        assert_eq!((long.len(), one_line(&format!("x{long}")).len()), (REASON_OCTETS_MAX, REASON_OCTETS_MAX - 1));
    }

    #[test]
    fn embedded_characters_are_told_from_what_looks_like_them() {
        assert_eq!(embedded_character("\\x{433}r"), Some(('\u{433}', "r")));
        assert_eq!(embedded_character("\\x{10FFFF}"), Some(('\u{10ffff}', "")));
        for none in
            ["", "x{433}", "\\x{4}", "\\x{0000433}", "\\x{433", "\\x{+33}", "\\x{D800}", "\\x{110000}", "a\\x{433}"]
        {
            assert_eq!(embedded_character(none), None, "{none}");
        }
    }
}
