//! Counts of octets as people write them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// A number of octets: `1048576`, or `"1M"` with K, M, G or T for powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Octets(pub u64);

const UNITS: [(char, u64); 4] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

impl Octets {
    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Octets> {
        let text = text.trim().trim_end_matches(['B', 'b']).trim_end_matches(['i']);
        let unit = text.chars().last()?.to_ascii_uppercase();
        match UNITS.iter().find(|(sign, _)| *sign == unit) {
            Some((_, factor)) => text[..text.len() - 1].trim().parse::<u64>().ok()?.checked_mul(*factor).map(Octets),
            None => text.parse().ok().map(Octets),
        }
    }
}

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A count of five digits or more reads no better with a unit: 51200000 is a number people know, 50000K is not.
        let reads_well = |factor: u64| self.0 > 0 && self.0.is_multiple_of(factor) && self.0 / factor < 10_000;
        match UNITS.iter().find(|(_, factor)| reads_well(*factor)) {
            Some((sign, factor)) => write!(f, "{}{sign}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Octets, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Octets;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of octets, such as 51200000 or \"50M\"")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Octets, E> {
                u64::try_from(value).map(Octets).map_err(|_| E::custom("a number of octets cannot be negative"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Octets, E> {
                Octets::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_print_what_they_parse() {
        for text in ["0", "1", "1K", "50M", "1G", "3T", "51200000"] {
            assert_eq!(Octets::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Octets::parse("10 MiB"), Some(Octets(10 << 20)));
        for text in ["", "K", "-1", "1X", "99999999999T", "é"] {
            assert_eq!(Octets::parse(text), None, "{text}");
        }
    }
}
