//! Mailbox patterns of LIST and LSUB (RFC 3501 §6.3.8): `*` stands for anything, `%` for anything within one level.
//!
//! A name is read once, from left to right, while a set of bits tells at which places of the pattern one may stand. So
//! no pattern, however many wildcards it has, takes more than its length times the name's (V23).

use mail::mailbox::{MAILBOX_NAME_OCTETS_MAX, SEPARATOR};

const SEPARATOR_OCTET: u8 = SEPARATOR as u8;

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// For each octet the index of its row in `rows`.
    row_of: Box<[u16; 256]>,
    /// Places at which an octet stands in the pattern, as bits; the first row, of octets that do not, is empty.
    rows: Vec<Vec<u64>>,
    /// Places at which `*` stands.
    stars: Vec<u64>,
    /// Places at which `%` stands.
    percents: Vec<u64>,
    /// The place behind the last.
    end: usize,
    ends_in_percent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Octet(u8),
    Star,
    Percent,
}

impl Pattern {
    /// Compiles the pattern that a reference and a pattern make together. We know no sign that breaks out of the
    /// reference, so the one is appended to the other (RFC 3501 §6.3.8). `None` where no mailbox can match.
    pub fn new(reference: &str, pattern: &str) -> Option<Pattern> {
        // Wildcards in the reference are as good as in the pattern.
        let tokens = tokens(reference.bytes().chain(pattern.bytes()))?;
        let words = tokens.len() / 64 + 1;
        let empty = vec![0u64; words];
        let mut compiled = Pattern {
            row_of: Box::new([0; 256]),
            rows: vec![empty.clone()],
            stars: empty.clone(),
            percents: empty.clone(),
            end: tokens.len(),
            ends_in_percent: tokens.last() == Some(&Token::Percent),
        };
        for (place, token) in tokens.iter().enumerate() {
            let row = match token {
                Token::Star => &mut compiled.stars,
                Token::Percent => &mut compiled.percents,
                Token::Octet(octet) => {
                    let index = compiled.row_of.get_mut(usize::from(*octet))?;
                    if *index == 0 {
                        *index = compiled.rows.len() as u16;
                        compiled.rows.push(empty.clone());
                    }
                    compiled.rows.get_mut(usize::from(*index))?
                }
            };
            *row.get_mut(place / 64)? |= 1 << (place % 64);
        }
        Some(compiled)
    }

    /// Whether the last sign is `%`: then levels that are no mailboxes are listed too.
    pub fn ends_in_percent(&self) -> bool {
        self.ends_in_percent
    }

    /// Whether a mailbox name matches. INBOX, alone or as the first level, matches in any case (RFC 3501 §5.1).
    pub fn matches(&self, name: &str) -> bool {
        let any_case = match name.split_once(SEPARATOR).map_or(name, |(first, _)| first) {
            "INBOX" => "INBOX".len(),
            _ => 0,
        };
        let mut places = vec![0u64; self.stars.len()];
        if let Some(first) = places.first_mut() {
            *first = 1;
        }
        self.pass_wildcards(&mut places);
        for (index, octet) in name.bytes().enumerate() {
            let other_case = if index < any_case { octet ^ 0x20 } else { octet };
            self.advance(&mut places, octet, other_case);
            if places.iter().all(|word| *word == 0) {
                return false;
            }
        }
        places.get(self.end / 64).is_some_and(|word| word >> (self.end % 64) & 1 == 1)
    }

    /// From the places where one may stand to those where one may stand behind an octet.
    fn advance(&self, places: &mut [u64], octet: u8, other_case: u8) {
        let row = |octet: u8| self.row_of.get(usize::from(octet)).and_then(|index| self.rows.get(usize::from(*index)));
        let (Some(exact), Some(other)) = (row(octet), row(other_case)) else { return };
        let mut carry = 0;
        for (index, word) in places.iter_mut().enumerate() {
            let of = |bits: &[u64]| bits.get(index).copied().unwrap_or_default();
            let step = *word & (of(exact) | of(other));
            let stay = *word & (of(&self.stars) | if octet == SEPARATOR_OCTET { 0 } else { of(&self.percents) });
            *word = step << 1 | carry | stay;
            carry = step >> 63;
        }
        self.pass_wildcards(places);
    }

    /// A wildcard may stand for nothing. No two of them are neighbours, so one step is enough.
    fn pass_wildcards(&self, places: &mut [u64]) {
        let mut carry = 0;
        for ((word, stars), percents) in places.iter_mut().zip(&self.stars).zip(&self.percents) {
            let wild = *word & (stars | percents);
            *word |= wild << 1 | carry;
            carry = wild >> 63;
        }
    }
}

/// The pattern with each run of wildcards made one: `*` where the run has one. `None` where it is longer than names are.
fn tokens(pattern: impl Iterator<Item = u8>) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut octets = 0;
    for octet in pattern {
        let last = tokens.last_mut();
        match (octet, last) {
            (b'*', Some(last @ (Token::Star | Token::Percent))) => *last = Token::Star,
            (b'%', Some(Token::Star | Token::Percent)) => {}
            (b'*', _) => tokens.push(Token::Star),
            (b'%', _) => tokens.push(Token::Percent),
            (octet, _) => {
                octets += 1;
                tokens.push(Token::Octet(octet));
            }
        }
        if octets > MAILBOX_NAME_OCTETS_MAX {
            return None;
        }
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new("", pattern).unwrap().matches(name)
    }

    /// The definition, by trying everything.
    fn model(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((wild @ (b'*' | b'%'), rest)) => (0..=name.len())
                .take_while(|taken| *wild == b'*' || !name[..*taken].contains(&b'/'))
                .any(|taken| model(rest, &name[taken..])),
            Some((octet, rest)) => name.split_first().is_some_and(|(first, tail)| first == octet && model(rest, tail)),
        }
    }

    #[test]
    fn star_crosses_levels_and_percent_does_not() {
        for (pattern, name, expected) in [
            ("*", "a/b/c", true),
            ("%", "a", true),
            ("%", "a/b", false),
            ("%/%", "a/b", true),
            ("a/%", "a", false),
            ("a/%", "a/b", true),
            ("a/%", "a/b/c", false),
            ("a*c", "a/b/c", true),
            ("%c", "a/b/c", false),
            ("", "a", false),
            ("a", "a", true),
            ("a", "A", false),
            ("Entw%", "Entwürfe", true),
            ("Entwürf*", "Entwürfe", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(Pattern::new("a/", "%").unwrap().matches("a/b"));
        assert!(!Pattern::new("a/", "%").unwrap().matches("b"));
    }

    #[test]
    fn p12_inbox_matches_in_any_case_and_nothing_else_does() {
        for pattern in ["inbox", "InBoX", "in%", "*X", "i*x", "%"] {
            assert!(matches(pattern, "INBOX"), "{pattern}");
        }
        assert!(matches("inbox/%", "INBOX/Old"));
        assert!(!matches("inbox/old", "INBOX/Old"));
        assert!(!matches("inboxes", "INBOXES"));
    }

    #[test]
    fn agrees_with_the_definition() {
        let mut seed = 3u32;
        let mut next = |bound: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % bound
        };
        for _ in 0..20_000 {
            let pattern: String = (0..next(9)).map(|_| ['a', 'b', '/', '*', '%'][next(5) as usize]).collect();
            let name: String = (0..next(9)).map(|_| ['a', 'b', '/'][next(3) as usize]).collect();
            assert_eq!(matches(&pattern, &name), model(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn v23_wildcards_cannot_be_piled_up() {
        let name = "a".repeat(1_000);
        assert!(matches(&"*%".repeat(100_000), &name));
        assert!(!matches(&format!("{}b", "*a%".repeat(300)), &name));
        assert!(matches(&"*a".repeat(1_000), &name));
        assert!(!matches(&format!("{}*b", "%a".repeat(999)), &name));
        assert_eq!(Pattern::new("", &"a".repeat(1_001)), None);
    }

    #[test]
    fn places_beyond_one_word_are_reached() {
        for length in 60..140 {
            let name = "ab".repeat(length);
            assert!(matches(&name, &name));
            assert!(matches(&format!("{name}%"), &name));
            assert!(matches(&format!("%{name}"), &name));
            assert!(!matches(&format!("{name}c"), &name));
            assert!(!matches(&name, &format!("{name}c")));
        }
    }
}
