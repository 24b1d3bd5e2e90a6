//! What a peer announces in reply to EHLO or LHLO (RFC 5321 §4.1.1.1).

use crate::config::Extensions;
use sasl::Mechanism;

/// The service extensions of a peer, as far as we know them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offers {
    /// The set of them.
    pub extensions: Extensions,
    /// The parameter of SIZE: the largest message it ever takes; `None` if it does not say (RFC 1870 §3).
    pub size_octets_max: Option<u64>,
    /// The mechanisms of AUTH that we know.
    pub mechanisms: Vec<Mechanism>,
}

impl Offers {
    /// Nothing: after HELO, or before any reply.
    pub const NONE: Offers = Offers { extensions: Extensions::NONE, size_octets_max: None, mechanisms: Vec::new() };

    /// Whether an extension is offered.
    pub fn has(&self, extension: Extensions) -> bool {
        self.extensions.contain(extension)
    }

    /// Reads the lines after the first of a reply.
    pub(super) fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Offers {
        let mut offers = Offers::NONE;
        for line in lines {
            let line = line.trim();
            // The form `AUTH=PLAIN` is older than RFC 2554, and still announced.
            let (keyword, parameters) = line.split_once([' ', '=']).unwrap_or((line, ""));
            let Some(extension) = Extensions::parse(keyword) else { continue };
            offers.extensions = offers.extensions.with(extension);
            match extension {
                // RFC 1870 §3: zero means no fixed limit.
                Extensions::SIZE => offers.size_octets_max = parameters.trim().parse().ok().filter(|limit| *limit > 0),
                Extensions::AUTH => offers.add_mechanisms(parameters),
                _ => {}
            }
        }
        offers
    }

    fn add_mechanisms(&mut self, names: &str) {
        for mechanism in names.split([' ', '=']).filter_map(Mechanism::parse) {
            if !self.mechanisms.contains(&mechanism) {
                self.mechanisms.push(mechanism);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_become_a_set() {
        let lines =
            ["pipelining", "SIZE 1000 ", "XFOO bar", "AUTH GSSAPI LOGIN plain", "AUTH=LOGIN", "8bitMIME", "REQUIRETLS"];
        let offers = Offers::parse(lines.into_iter());
        let expected = Extensions::PIPELINING
            .with(Extensions::SIZE)
            .with(Extensions::AUTH)
            .with(Extensions::EIGHT_BIT_MIME)
            .with(Extensions::REQUIRETLS);
        assert_eq!(offers.extensions, expected);
        assert_eq!((offers.size_octets_max, offers.mechanisms.len()), (Some(1_000), 2));
        assert!(offers.has(Extensions::SIZE) && !offers.has(Extensions::STARTTLS));
    }

    #[test]
    fn odd_announcements_do_no_harm() {
        for (line, limit) in [("SIZE", None), ("SIZE 0", None), ("SIZE -1", None), ("SIZE 99999999999999999999", None)]
        {
            let offers = Offers::parse([line].into_iter());
            assert!(offers.has(Extensions::SIZE));
            assert_eq!(offers.size_octets_max, limit, "{line}");
        }
        for line in ["", " ", "=", "AUTHPLAIN", "AUTH-PLAIN", "\u{fffd}"] {
            assert_eq!(Offers::parse([line].into_iter()), Offers::NONE, "{line:?}");
        }
    }
}
