//! Lists of domains: one a line. `.example.org` means every domain below `example.org`, but not itself (R145).

use crate::table::{Parsed, Source, TableError, keep, shown};
use mail::Domain;
use std::collections::HashMap;

/// How a list knows a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// By its own name.
    Itself,
    /// By `.parent`, where the parent has this many labels; more is closer.
    Below(usize),
}

/// A list of domains.
#[derive(Debug, Default)]
pub struct Domains {
    exact: HashMap<Domain, usize>,
    below: HashMap<Domain, usize>,
    first: Option<Domain>,
}

impl Domains {
    /// Reads a list. What stands twice is a finding.
    pub fn read(source: &Source<'_>) -> Result<Parsed<Domains>, TableError> {
        let mut domains = Domains::default();
        let mut findings = Vec::new();
        for line in source.lines()? {
            let word = line.text.trim();
            let (name, list) = match word.strip_prefix('.') {
                Some(parent) => (parent, &mut domains.below),
                None => (word, &mut domains.exact),
            };
            let domain = Domain::parse(name).ok().filter(|domain| !domain.is_literal()).ok_or_else(|| {
                source.error(
                    line.number,
                    format!("{} is no domain", shown(word)),
                    "write one domain a line, such as example.net, or .example.net for those below it",
                )
            })?;
            if let Some(first) = list.get(&domain) {
                let cause = format!("{} is listed more than once, first in line {first}", shown(word));
                keep(&mut findings, source.warning(line.number, cause, "remove one of the lines"));
                continue;
            }
            list.insert(domain.clone(), line.number);
            if !word.starts_with('.') {
                domains.first.get_or_insert(domain);
            }
        }
        Ok(Parsed { content: domains, findings })
    }

    /// Whether and how the list knows a domain.
    pub fn listing(&self, domain: &Domain) -> Option<Listing> {
        if self.exact.contains_key(domain) {
            return Some(Listing::Itself);
        }
        if self.below.is_empty() {
            return None;
        }
        std::iter::successors(domain.parent(), Domain::parent)
            .find(|parent| self.below.contains_key(parent))
            .map(|parent| Listing::Below(parent.as_str().split('.').count()))
    }

    /// The first domain of the list that is no pattern.
    pub fn first(&self) -> Option<&Domain> {
        self.first.as_ref()
    }

    /// The domains listed by their own name, with their lines.
    pub fn iter(&self) -> impl Iterator<Item = (&Domain, usize)> {
        self.exact.iter().map(|(domain, line)| (domain, *line))
    }

    /// The patterns, without their dot, with their lines.
    pub fn patterns(&self) -> impl Iterator<Item = (&Domain, usize)> {
        self.below.iter().map(|(domain, line)| (domain, *line))
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<Parsed<Domains>, TableError> {
        Domains::read(&Source { file: Path::new("domains"), octets: text.as_bytes() })
    }

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    #[test]
    fn r115_the_guides_list() {
        let domains = read("example.net\nanother-example.com\n").unwrap().content;
        assert_eq!(domains.listing(&domain("EXAMPLE.net")), Some(Listing::Itself));
        assert_eq!(domains.listing(&domain("sub.example.net")), None);
        assert_eq!(domains.first(), Some(&domain("example.net")));
    }

    #[test]
    fn r145_a_leading_dot_means_what_lies_below() {
        let domains = read(".example.org\n.deep.example.org\nbücher.example").unwrap().content;
        assert_eq!(domains.listing(&domain("example.org")), None);
        assert_eq!(domains.listing(&domain("a.b.example.org")), Some(Listing::Below(2)));
        assert_eq!(domains.listing(&domain("x.deep.example.org")), Some(Listing::Below(3)));
        assert_eq!(domains.listing(&domain("notexample.org")), None);
        assert_eq!(domains.listing(&domain("xn--bcher-kva.example")), Some(Listing::Itself));
    }

    #[test]
    fn faults_and_duplicates_are_named() {
        for text in
            ["a.example\nb.example OK", "a.example\n*.example", "a.example\n..", "a.example\n[192.0.2.1]", "x\n../y"]
        {
            assert_eq!(read(text).unwrap_err().line, Some(2), "{text}");
        }
        assert_eq!(read("a.example\n\nA.example").unwrap().findings[0].line, Some(3));
    }
}
