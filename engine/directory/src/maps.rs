//! The maps keyed by address: mailboxes, aliases, senders, relay recipients.
//!
//! Keys are folded to lower case. Of entries with the same key the first counts; the others are findings.

use crate::names::{Keyed, account_name, address_key, catch_all_domain, without_detail};
use crate::table::{Finding, Parsed, Source, TableError, VALUES_MAX, keep, shown, words};
use mail::{AccountName, Address, Domain, LocalPart};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A map from addresses, bare local parts and whole domains.
#[derive(Debug)]
pub struct AddressMap<V> {
    addresses: HashMap<String, Kept<V>>,
    bare: HashMap<String, Kept<V>>,
    domains: HashMap<Domain, Kept<V>>,
}

/// A value and the line it came from.
#[derive(Debug)]
pub struct Kept<V> {
    /// The value.
    pub value: V,
    /// Its line, from 1 up.
    pub line: usize,
}

impl<V> Default for AddressMap<V> {
    fn default() -> AddressMap<V> {
        AddressMap { addresses: HashMap::new(), bare: HashMap::new(), domains: HashMap::new() }
    }
}

/// A key of an [`AddressMap`].
enum Key {
    Address(String),
    Bare(String),
    Domain(Domain),
}

fn key(text: &str) -> Option<Key> {
    if let Some(domain) = catch_all_domain(text) {
        return Some(Key::Domain(domain));
    }
    if let Some((key, _)) = address_key(text) {
        return Some(Key::Address(key));
    }
    bare_local_part(text).map(|local| Key::Bare(local.as_str().to_lowercase()))
}

/// A local part without domain: plain names only. `/file`, `|command` and `:include:` are what sendmail would write to
/// or run; there is no such thing here (V12).
fn bare_local_part(text: &str) -> Option<LocalPart> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '=');
    if text.chars().all(fits) { LocalPart::parse(text).ok() } else { None }
}

impl<V> AddressMap<V> {
    fn read(
        source: &Source<'_>,
        value: impl Fn(usize, &str, &mut Vec<Finding>) -> Result<V, TableError>,
    ) -> Result<Parsed<AddressMap<V>>, TableError> {
        let mut map = AddressMap::default();
        let mut findings = Vec::new();
        for entry in source.entries()? {
            let Some(key) = key(&entry.key) else {
                return Err(source.error(
                    entry.line,
                    format!("{} is no address", shown(&entry.key)),
                    "write local-part@domain, or @domain for all of a domain",
                ));
            };
            let kept = Kept { value: value(entry.line, &entry.value, &mut findings)?, line: entry.line };
            let first = match key {
                Key::Address(key) => insert(map.addresses.entry(key), kept),
                Key::Bare(key) => insert(map.bare.entry(key), kept),
                Key::Domain(domain) => insert(map.domains.entry(domain), kept),
            };
            if let Some(first) = first {
                let cause = format!("{} stands more than once, line {first} counts", shown(&entry.key));
                keep(&mut findings, source.warning(entry.line, cause, "join the lines into one"));
            }
        }
        Ok(Parsed { content: map, findings })
    }

    /// The entry of the address itself, or of its bare local part if `origin` is its domain.
    pub(crate) fn exact(&self, wanted: &Keyed<'_>, origin: Option<&Domain>) -> Option<&Kept<V>> {
        if let Some(kept) = self.addresses.get(wanted.key()) {
            return Some(kept);
        }
        let address = wanted.address();
        if self.bare.is_empty() || origin != Some(&address.domain) {
            return None;
        }
        self.bare.get(&address.local.as_str().to_lowercase())
    }

    /// The entry of a whole domain.
    pub fn domain(&self, domain: &Domain) -> Option<&Kept<V>> {
        self.domains.get(domain)
    }

    /// Looks up the address, then the address without detail, then the whole domain.
    pub fn find(&self, address: &Address, origin: Option<&Domain>, delimiter: Option<char>) -> Option<&Kept<V>> {
        self.exact(&Keyed::new(address), origin)
            .or_else(|| self.exact(&Keyed::new(&without_detail(address, delimiter)?), origin))
            .or_else(|| self.domain(&address.domain))
    }

    /// Every key in its usual spelling, with its value and line, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (String, &Kept<V>)> {
        let addresses = self.addresses.iter().map(|(key, kept)| (key.clone(), kept));
        let bare = self.bare.iter().map(|(key, kept)| (key.clone(), kept));
        let domains = self.domains.iter().map(|(domain, kept)| (format!("@{domain}"), kept));
        addresses.chain(bare).chain(domains)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.bare.is_empty() && self.domains.is_empty()
    }
}

/// Keeps the first of two; gives the line of the one that was there.
fn insert<K, V>(place: Entry<'_, K, Kept<V>>, kept: Kept<V>) -> Option<usize> {
    match place {
        Entry::Occupied(first) => Some(first.get().line),
        Entry::Vacant(place) => {
            place.insert(kept);
            None
        }
    }
}

/// Where an alias points.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address.
    Address(Address),
    /// A local part at the first hosted domain.
    Bare(LocalPart),
    /// The same local part at another domain.
    Domain(Domain),
}

impl Target {
    /// Reads one target.
    pub fn parse(text: &str) -> Option<Target> {
        if let Some(domain) = text.strip_prefix('@') {
            return Domain::parse(domain).ok().map(Target::Domain);
        }
        if let Ok(address) = Address::parse(text) {
            return Some(Target::Address(address));
        }
        bare_local_part(text).map(Target::Bare)
    }

    /// The address meant, for mail that was sent to `from`; `None` for a bare name without any hosted domain.
    pub fn resolve(&self, from: &Address, origin: Option<&Domain>) -> Option<Address> {
        Some(match self {
            Target::Address(address) => address.clone(),
            Target::Bare(local) => Address { local: local.clone(), domain: origin?.clone() },
            Target::Domain(domain) => Address { local: from.local.clone(), domain: domain.clone() },
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Bare(local) => local.fmt(f),
            Target::Domain(domain) => write!(f, "@{domain}"),
        }
    }
}

/// Aliases: `address target[, target…]` (R118).
pub type Aliases = AddressMap<Vec<Target>>;
/// Senders: `address login[, login…]` (R131).
pub type Senders = AddressMap<Vec<AccountName>>;
/// Mailboxes and relay recipients: `address word`; only the key counts (R116).
pub type Listed = AddressMap<()>;

/// Reads aliases.
pub fn read_aliases(source: &Source<'_>) -> Result<Parsed<Aliases>, TableError> {
    AddressMap::read(source, |line, value, _| {
        let mut targets = Vec::new();
        for word in values(source, line, value)? {
            let target = Target::parse(word).ok_or_else(|| {
                source.error(
                    line,
                    format!("{} is no target", shown(word)),
                    "write an address; mail is never handed to files or commands",
                )
            })?;
            targets.push(target);
        }
        Ok(targets)
    })
}

/// Reads senders. A login without domain matches nobody and is a finding.
pub fn read_senders(source: &Source<'_>) -> Result<Parsed<Senders>, TableError> {
    AddressMap::read(source, |line, value, findings| {
        let mut logins = Vec::new();
        for word in values(source, line, value)? {
            let login = account_name(word).ok_or_else(|| {
                source.error(line, format!("{} is no login", shown(word)), "write the account's full name")
            })?;
            if login.domain().is_empty() {
                let cause = format!("login {} has no domain and matches nobody", shown(word));
                keep(findings, source.warning(line, cause, "write the account's full name"));
            }
            logins.push(login);
        }
        Ok(logins)
    })
}

/// Reads mailboxes: full addresses only.
pub fn read_mailboxes(source: &Source<'_>) -> Result<Parsed<Listed>, TableError> {
    let parsed: Parsed<Listed> = AddressMap::read(source, |_, _, _| Ok(()))?;
    let partial = parsed.content.iter().filter(|(key, _)| key.starts_with('@') || !key.contains('@'));
    let Some((key, kept)) = partial.min_by_key(|(_, kept)| kept.line) else { return Ok(parsed) };
    Err(source.error(
        kept.line,
        format!("{} is no full address", shown(&key)),
        "write local-part@domain; a catch-all belongs into the aliases",
    ))
}

/// Reads relay recipients.
pub fn read_relay_recipients(source: &Source<'_>) -> Result<Parsed<Listed>, TableError> {
    AddressMap::read(source, |_, _, _| Ok(()))
}

fn values<'a>(source: &Source<'_>, line: usize, value: &'a str) -> Result<Vec<&'a str>, TableError> {
    let words = words(value);
    if words.is_empty() {
        return Err(source.error(line, "no value", "write the key, white space, then the values"));
    }
    if words.len() > VALUES_MAX {
        return Err(source.error(line, format!("more than {VALUES_MAX} values"), "split them over several keys"));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn source(text: &str) -> Source<'_> {
        Source { file: Path::new("table"), octets: text.as_bytes() }
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn r118_the_guides_aliases() {
        let text = "info@example.net         brian@example.net,notbrian@example.net\n\
                    info@another-example.com notbrian@example.net\n\n\
                    abuse@example.net        brian@example.net\n\
                    *@example.net            notbrian@example.net\n";
        let parsed = read_aliases(&source(text)).unwrap();
        assert!(parsed.findings.is_empty());
        let info = parsed.content.exact(&Keyed::new(&address("INFO@example.net")), None).unwrap();
        let targets: Vec<String> = info.value.iter().map(Target::to_string).collect();
        assert_eq!(targets, ["brian@example.net", "notbrian@example.net"]);
        assert!(parsed.content.exact(&Keyed::new(&address("nobody@example.net")), None).is_none());
        assert_eq!(parsed.content.find(&address("nobody@example.net"), None, None).unwrap().line, 5);
    }

    #[test]
    fn r131_r133_senders_by_address_then_domain_in_any_case() {
        let text = "info@example.net      brian@example.net, notbrian@example.net\n\
                    @another-example.com Brian@Example.net\n";
        let senders = read_senders(&source(text)).unwrap().content;
        let of = |text: &str| senders.find(&address(text), None, None).map(|kept| kept.value.len());
        assert_eq!(of("INFO@EXAMPLE.NET"), Some(2));
        assert_eq!(of("any@another-example.com"), Some(1));
        assert_eq!(of("any@example.net"), None);
    }

    #[test]
    fn first_of_two_wins_and_both_catch_all_spellings_are_one() {
        let parsed = read_aliases(&source("a@x y@x\nA@X z@x\n*@x a@x\n@x b@x\n")).unwrap();
        assert_eq!(parsed.content.exact(&Keyed::new(&address("a@x")), None).unwrap().line, 1);
        assert_eq!(parsed.findings.iter().map(|f| f.line).collect::<Vec<_>>(), [Some(2), Some(4)]);
    }

    #[test]
    fn bare_keys_count_at_the_first_hosted_domain_only() {
        let aliases = read_aliases(&source("root brian@x\n")).unwrap().content;
        let origin = Domain::parse("x").unwrap();
        assert!(aliases.exact(&Keyed::new(&address("Root@x")), Some(&origin)).is_some());
        assert!(aliases.exact(&Keyed::new(&address("root@y")), Some(&origin)).is_none());
    }

    #[test]
    fn v12_v14_targets_are_addresses_and_nothing_else() {
        for target in [
            "|/bin/sh",
            "\"|/bin/sh -c x\"",
            "/dev/null",
            ":include:/etc/passwd",
            "$(id)",
            "a;b",
            "a@b@c",
            "@",
            "a@",
            "`x`",
        ] {
            let text = format!("ok@x a@x\nbad@x {target}");
            assert_eq!(read_aliases(&source(&text)).unwrap_err().line, Some(2), "{target}");
        }
        for target in ["a@x", "\"a b\"@x", "a+b@x", "root", "@other.example"] {
            assert_eq!(Target::parse(target).unwrap().to_string(), target);
        }
        assert!(read_aliases(&source(&format!("a@x {}", "b@x ".repeat(VALUES_MAX + 1)))).is_err());
        assert!(read_senders(&source("a@x b/../c@x")).is_err());
        assert!(read_aliases(&source("a@x ,")).is_err());
    }

    #[test]
    fn r116_mailboxes_are_full_addresses() {
        let parsed = read_mailboxes(&source("brian@example.net true\nnotbrian@example.net true\n")).unwrap();
        assert!(parsed.content.exact(&Keyed::new(&address("BRIAN@EXAMPLE.NET")), None).is_some());
        for text in ["a@x true\n@x true", "a@x true\nroot true", "a@x true\nb@x"] {
            assert_eq!(read_mailboxes(&source(text)).unwrap_err().line, Some(2), "{text}");
        }
    }
}
