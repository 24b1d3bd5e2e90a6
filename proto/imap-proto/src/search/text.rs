//! Comparing text without regard to case: folding, and searching in text that comes in pieces.

use memchr::memmem::Finder;

/// Text is folded and searched in portions of so many octets, so that they stay in the processor's cache.
pub const PORTION_OCTETS: usize = 32 * 1_024;

/// The text in lower case.
pub fn fold(text: &str) -> String {
    let mut folded = Vec::with_capacity(text.len());
    fold_into(text, &mut folded);
    String::from_utf8(folded).unwrap_or_default()
}

/// Appends the text in lower case. Both forms of the Greek small sigma are one, so that the folding of a letter does
/// not depend on its neighbours.
pub fn fold_into(text: &str, folded: &mut Vec<u8>) {
    let mut rest = text;
    while !rest.is_empty() {
        let ascii = rest.bytes().position(|octet| !octet.is_ascii()).unwrap_or(rest.len());
        let (run, tail) = rest.split_at(ascii);
        fold_ascii_into(run.as_bytes(), folded);
        let mut letters = tail.chars();
        if let Some(letter) = letters.next() {
            for lower in letter.to_lowercase() {
                let lower = if lower == '\u{3c2}' { '\u{3c3}' } else { lower };
                folded.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        rest = letters.as_str();
    }
}

/// Appends octets of ASCII in lower case.
pub fn fold_ascii_into(octets: &[u8], folded: &mut Vec<u8>) {
    let start = folded.len();
    folded.extend_from_slice(octets);
    if let Some(added) = folded.get_mut(start..) {
        added.make_ascii_lowercase();
    }
}

/// Folded text that passes by. Keeps as much of its end as the longest needle needs to be found across portions.
#[derive(Debug, Default)]
pub struct Haystack {
    folded: Vec<u8>,
    overlap: usize,
}

impl Haystack {
    /// For needles of at most so many octets.
    pub fn new(needle_octets_max: usize) -> Haystack {
        Haystack { folded: Vec::new(), overlap: needle_octets_max.saturating_sub(1) }
    }

    /// The text that follows stands apart from what came before.
    pub fn clear(&mut self) {
        self.folded.clear();
    }

    /// Takes text.
    pub fn push(&mut self, text: &str) {
        fold_into(text, &mut self.folded);
    }

    /// Takes text that is known to be ASCII.
    pub fn push_ascii(&mut self, octets: &[u8]) {
        fold_ascii_into(octets, &mut self.folded);
    }

    /// How many octets wait to be searched, the overlap included.
    pub fn len(&self) -> usize {
        self.folded.len()
    }

    /// Whether the needle is in the text at hand.
    pub fn contains(&self, needle: &Finder<'_>) -> bool {
        needle.find(&self.folded).is_some()
    }

    /// Drops what was searched, but for the overlap.
    pub fn searched(&mut self) {
        let surplus = self.folded.len().saturating_sub(self.overlap);
        self.folded.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_is_the_same_for_every_spelling_of_a_letter() {
        for (one, other) in [
            ("GR\u{dc}N", "gr\u{fc}n"),
            ("\u{39f}\u{394}\u{39f}\u{3a3}", "\u{3bf}\u{3b4}\u{3bf}\u{3c2}"),
            ("ABC", "aBc"),
        ] {
            assert_eq!(fold(one), fold(other));
        }
        assert_eq!(fold("\u{130}x\u{1f600}Y"), "i\u{307}x\u{1f600}y");
    }

    #[test]
    fn needles_are_found_across_portions() {
        let text = "The quick brown fox jumps over the l\u{e4}zy dog";
        for needle in ["quick brown", "z", "l\u{c4}ZY DOG", "the l", "t"] {
            let needle = fold(needle);
            let finder = Finder::new(needle.as_bytes());
            for size in 1..9 {
                let mut haystack = Haystack::new(needle.len());
                let mut found = false;
                let letters: Vec<char> = text.chars().collect();
                for portion in letters.chunks(size) {
                    haystack.push(&portion.iter().collect::<String>());
                    found |= haystack.contains(&finder);
                    haystack.searched();
                    assert!(haystack.len() < needle.len());
                }
                assert!(found, "{needle} {size}");
            }
        }
    }
}
