//! [`Zone`]: a [`Lookup`] that answers from text, for tests, the simulated network and trials.
//!
//! It is all of the domain name system at once, not one zone of it: what no line names does not exist. The text is like
//! a master file (RFC 1035 §5.1), less what tests do not need: names are absolute, with or without the final dot;
//! white space at the front of a line means nothing; there are no parentheses.
//!
//! ```text
//! ; a comment                      $ttl 300            for the lines that follow; 3600 at first
//! $secure                          the names that follow, and all below them, are signed
//! example.net       MX 10 mx.example.net
//! example.net  60   TXT "v=spf1 " "-all"               strings of one record are joined; they need their quotes
//! *.example.net     A 192.0.2.1                        for names below that have nothing of their own (RFC 4592)
//! www.example.net   CNAME mx.example.net
//! $insecure                        what follows is not signed, as at the start
//! $secure example.org              marks this name and all below it, without a record
//! example.org       BOGUS                              every question about this name fails validation
//! example.com       SERVFAIL TLSA                      questions of this type, or of all types, fail
//! ```
//!
//! A name is secure when it, or the nearest name above it that has a mark, is marked so. Absence is secure by the same
//! rule, so `$secure .` makes the absence of everything else secure.

use crate::{ALIASES_MAX, Answer, Failure, Found, Lookup, Mx, Name, NameError, Record, RecordType, Security, Tlsa};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::ready;
use std::iter::successors;
use std::str::FromStr;
use std::time::Duration;

const DEFAULT_TTL: Duration = Duration::from_secs(3600);
/// How long absence holds where no SOA record says otherwise.
const ABSENT_TTL: Duration = Duration::from_secs(300);

/// Answers from text.
#[derive(Debug, Clone, Default)]
pub struct Zone {
    nodes: HashMap<Name, Node>,
    /// Each name with a line, and each name above one: those exist, with or without records (RFC 4592 §2.2.2).
    existing: HashSet<Name>,
    marks: HashMap<Name, Security>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    records: Vec<(Duration, Record)>,
    /// Questions that fail: of this type, or of every type.
    failures: Vec<(Option<RecordType>, Failure)>,
}

/// What is wrong with a text, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub kind: ZoneErrorKind,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneErrorKind {
    /// A name is none.
    Name(NameError),
    /// No type, or one that is not known here.
    Type,
    /// The data do not fit the type.
    Data,
    /// A quoted string does not end, or one that needs quotes has none.
    Quotes,
    /// A directive that is not known, or its argument.
    Directive,
    /// An alias has other records beside it (RFC 1034 §3.6.2).
    AliasNotAlone,
    /// A name is marked secure and insecure.
    Contradiction,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match self.kind {
            ZoneErrorKind::Name(error) => error.fmt(f),
            ZoneErrorKind::Type => f.write_str("unknown record type"),
            ZoneErrorKind::Data => f.write_str("the data do not fit the record type"),
            ZoneErrorKind::Quotes => f.write_str("a text needs quotes around it"),
            ZoneErrorKind::Directive => f.write_str("unknown directive"),
            ZoneErrorKind::AliasNotAlone => f.write_str("an alias stands alone"),
            ZoneErrorKind::Contradiction => f.write_str("marked secure and insecure"),
        }
    }
}

impl std::error::Error for ZoneError {}

impl From<NameError> for ZoneErrorKind {
    fn from(error: NameError) -> ZoneErrorKind {
        ZoneErrorKind::Name(error)
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Zone, ZoneError> {
        Zone::parse(text)
    }
}

impl Lookup for Zone {
    fn look_up<'a>(&'a self, name: &'a Name, kind: RecordType) -> Answer<'a> {
        Box::pin(ready(self.find(name, kind)))
    }
}

impl Zone {
    /// Reads a text; the module's description says what it may hold.
    pub fn parse(text: &str) -> Result<Zone, ZoneError> {
        let mut zone = Zone::default();
        let mut defaults = Defaults { ttl: DEFAULT_TTL, security: None };
        for (line, number) in text.lines().zip(1..) {
            let words = split_words(line).and_then(|words| zone.take_line(&words, &mut defaults));
            words.map_err(|kind| ZoneError { line: number, kind })?;
        }
        Ok(zone)
    }

    /// What [`Lookup::look_up`] gives, without waiting.
    pub fn find(&self, name: &Name, kind: RecordType) -> Result<Found, Failure> {
        let mut passed = vec![name.clone()];
        let mut security = Security::Secure;
        let mut ttl = Duration::MAX;
        loop {
            // There is always a last one: the vector is never empty.
            let at = passed.last().unwrap_or(name);
            let source = self.source_of(at);
            if self.security_of(source.as_ref().unwrap_or(at)) == Security::Insecure {
                security = Security::Insecure;
            }
            let Some(node) = source.as_ref().and_then(|source| self.nodes.get(source)) else {
                let found = Found {
                    records: Vec::new(),
                    name_exists: source.is_some(),
                    security,
                    canonical: at.clone(),
                    ttl: ttl.min(self.absent_ttl(at)),
                };
                return Ok(found);
            };
            if let Some(failure) = node.failure(kind) {
                return Err(failure);
            }
            match node.alias().filter(|_| kind != RecordType::Cname) {
                Some(_) if passed.len() > ALIASES_MAX => {
                    return Err(Failure::Failed(format!("more than {ALIASES_MAX} aliases").into()));
                }
                Some((_, target)) if passed.contains(target) => {
                    return Err(Failure::Failed(format!("aliases of {name} go round in a circle").into()));
                }
                Some((alias_ttl, target)) => {
                    ttl = ttl.min(alias_ttl);
                    let target = target.clone();
                    passed.push(target);
                }
                None => return Ok(self.gather(node, at, kind, security, ttl)),
            }
        }
    }

    fn gather(&self, node: &Node, at: &Name, kind: RecordType, security: Security, ttl: Duration) -> Found {
        let of_kind = || node.records.iter().filter(|(_, record)| record.kind() == kind);
        let records_ttl = of_kind().map(|(ttl, _)| *ttl).min();
        Found {
            records: of_kind().map(|(_, record)| record.clone()).collect(),
            name_exists: true,
            security,
            canonical: at.clone(),
            ttl: ttl.min(records_ttl.unwrap_or_else(|| self.absent_ttl(at))),
        }
    }

    /// The name whose lines answer for this one: itself, or the wildcard that covers it; `None` when the name does not
    /// exist. RFC 4592 §3.3.1: only the wildcard right below the closest name that exists counts.
    fn source_of(&self, name: &Name) -> Option<Name> {
        if self.existing.contains(name) {
            return Some(name.clone());
        }
        let closest = successors(name.parent(), Name::parent).find(|above| self.existing.contains(above))?;
        closest.under("*").ok().filter(|wildcard| self.nodes.contains_key(wildcard))
    }

    fn security_of(&self, name: &Name) -> Security {
        let mut marks = successors(Some(name.clone()), Name::parent).filter_map(|above| self.marks.get(&above));
        marks.next().copied().unwrap_or(Security::Insecure)
    }

    /// The TTL of the nearest SOA record above (RFC 2308 §5).
    fn absent_ttl(&self, name: &Name) -> Duration {
        let soa_ttl = |above: Name| {
            let records = &self.nodes.get(&above)?.records;
            records.iter().find(|(_, record)| record.kind() == RecordType::Soa).map(|(ttl, _)| *ttl)
        };
        successors(Some(name.clone()), Name::parent).find_map(soa_ttl).unwrap_or(ABSENT_TTL)
    }

    fn take_line(&mut self, words: &[Word], defaults: &mut Defaults) -> Result<(), ZoneErrorKind> {
        let Some((first, rest)) = words.split_first() else {
            return Ok(());
        };
        if first.text.starts_with('$') {
            return self.take_directive(&first.text, rest, defaults);
        }
        let name = Name::parse(&first.text)?;
        if let Some(security) = defaults.security {
            self.mark(&name, security)?;
        }
        let (ttl, rest) = match rest.split_first() {
            Some((word, rest)) if word.text.starts_with(|c: char| c.is_ascii_digit()) => (word.seconds()?, rest),
            _ => (defaults.ttl, rest),
        };
        let rest = rest.strip_prefix(&[Word::plain("IN")]).unwrap_or(rest);
        let (kind, data) = rest.split_first().ok_or(ZoneErrorKind::Type)?;
        self.existing.extend(successors(Some(name.clone()), Name::parent));
        let node = self.nodes.entry(name).or_default();
        match kind.text.as_str() {
            "BOGUS" => node.failures.push((type_of(data)?, Failure::Bogus("so says the zone".into()))),
            "SERVFAIL" => node.failures.push((type_of(data)?, Failure::Failed("so says the zone".into()))),
            kind => {
                let kind = RecordType::from_str(kind).map_err(|_| ZoneErrorKind::Type)?;
                node.records.push((ttl, parse_record(kind, data)?));
            }
        }
        if node.alias().is_some() && node.records.len() > 1 {
            return Err(ZoneErrorKind::AliasNotAlone);
        }
        Ok(())
    }

    fn take_directive(&mut self, name: &str, rest: &[Word], defaults: &mut Defaults) -> Result<(), ZoneErrorKind> {
        let security = match name {
            "$ttl" => {
                let [ttl] = rest else { return Err(ZoneErrorKind::Directive) };
                defaults.ttl = ttl.seconds()?;
                return Ok(());
            }
            "$secure" => Security::Secure,
            "$insecure" => Security::Insecure,
            _ => return Err(ZoneErrorKind::Directive),
        };
        match rest {
            [] => defaults.security = Some(security),
            [name] => self.mark(&Name::parse(&name.text)?, security)?,
            _ => return Err(ZoneErrorKind::Directive),
        }
        Ok(())
    }

    fn mark(&mut self, name: &Name, security: Security) -> Result<(), ZoneErrorKind> {
        if *self.marks.entry(name.clone()).or_insert(security) == security {
            Ok(())
        } else {
            Err(ZoneErrorKind::Contradiction)
        }
    }
}

impl Node {
    fn failure(&self, kind: RecordType) -> Option<Failure> {
        let is_meant = |of: &Option<RecordType>| of.is_none_or(|of| of == kind);
        self.failures.iter().find(|(of, _)| is_meant(of)).map(|(_, failure)| failure.clone())
    }

    fn alias(&self) -> Option<(Duration, &Name)> {
        self.records.iter().find_map(|(ttl, record)| match record {
            Record::Cname(target) => Some((*ttl, target)),
            _ => None,
        })
    }
}

struct Defaults {
    ttl: Duration,
    /// Nothing before the first directive: such names get no mark of their own.
    security: Option<Security>,
}

#[derive(Debug, PartialEq, Eq)]
struct Word {
    text: String,
    is_quoted: bool,
}

impl Word {
    fn plain(text: &str) -> Word {
        Word { text: text.to_owned(), is_quoted: false }
    }

    fn seconds(&self) -> Result<Duration, ZoneErrorKind> {
        self.number().map(|seconds: u32| Duration::from_secs(seconds.into()))
    }

    fn number<N: FromStr>(&self) -> Result<N, ZoneErrorKind> {
        self.text.parse().map_err(|_| ZoneErrorKind::Data)
    }

    fn name(&self) -> Result<Name, ZoneErrorKind> {
        Ok(Name::parse(&self.text)?)
    }
}

/// Splits a line at white space, up to a `;`; in quotes, both mean themselves and `\` takes the next sign as it is.
fn split_words(line: &str) -> Result<Vec<Word>, ZoneErrorKind> {
    let mut words = Vec::new();
    let mut rest = line.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            ';' => break,
            '"' => {
                let mut text = String::new();
                loop {
                    match rest.next().ok_or(ZoneErrorKind::Quotes)? {
                        '"' => break,
                        '\\' => text.push(rest.next().ok_or(ZoneErrorKind::Quotes)?),
                        sign => text.push(sign),
                    }
                }
                words.push(Word { text, is_quoted: true });
            }
            white if white.is_whitespace() => {}
            sign => {
                let mut text = String::from(sign);
                while let Some(sign) = rest.next_if(|sign| !sign.is_whitespace() && !matches!(sign, ';' | '"')) {
                    text.push(sign);
                }
                words.push(Word { text, is_quoted: false });
            }
        }
    }
    Ok(words)
}

fn type_of(data: &[Word]) -> Result<Option<RecordType>, ZoneErrorKind> {
    match data {
        [] => Ok(None),
        [kind] => kind.text.parse().map(Some).map_err(|_| ZoneErrorKind::Type),
        _ => Err(ZoneErrorKind::Data),
    }
}

fn parse_record(kind: RecordType, data: &[Word]) -> Result<Record, ZoneErrorKind> {
    Ok(match (kind, data) {
        (RecordType::A, [address]) => Record::A(address.number()?),
        (RecordType::Aaaa, [address]) => Record::Aaaa(address.number()?),
        (RecordType::Cname, [target]) => Record::Cname(target.name()?),
        (RecordType::Mx, [preference, exchange]) => {
            Record::Mx(Mx { preference: preference.number()?, exchange: exchange.name()? })
        }
        (RecordType::Ns, [host]) => Record::Ns(host.name()?),
        (RecordType::Ptr, [name]) => Record::Ptr(name.name()?),
        // The full form has the mailbox in between and four times at the end, which nobody asks for.
        (RecordType::Soa, [primary, serial] | [primary, _, serial, _, _, _, _]) => {
            Record::Soa(primary.name()?, serial.number()?)
        }
        (RecordType::Srv, [priority, weight, port, target]) => Record::Srv {
            priority: priority.number()?,
            weight: weight.number()?,
            port: port.number()?,
            target: target.name()?,
        },
        (RecordType::Txt, [_, ..]) if data.iter().all(|word| word.is_quoted) => {
            Record::Txt(data.iter().flat_map(|word| word.text.bytes()).collect())
        }
        (RecordType::Txt, [_, ..]) => return Err(ZoneErrorKind::Quotes),
        (RecordType::Tlsa, [usage, selector, matching, hex @ ..]) => Record::Tlsa(Tlsa {
            usage: usage.number()?,
            selector: selector.number()?,
            matching: matching.number()?,
            data: parse_hex(hex)?,
        }),
        _ => return Err(ZoneErrorKind::Data),
    })
}

fn parse_hex(words: &[Word]) -> Result<Vec<u8>, ZoneErrorKind> {
    let digits = words.iter().flat_map(|word| word.text.chars()).map(|digit| digit.to_digit(16));
    let digits: Vec<u32> = digits.collect::<Option<_>>().ok_or(ZoneErrorKind::Data)?;
    let octet = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    };
    digits.chunks(2).map(octet).collect::<Option<_>>().ok_or(ZoneErrorKind::Data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn zone(text: &str) -> Zone {
        Zone::parse(text).unwrap()
    }

    fn find(zone: &Zone, text: &str, kind: RecordType) -> Found {
        zone.find(&name(text), kind).unwrap()
    }

    #[test]
    fn records_of_every_type() {
        let zone = zone(
            r#"
            example.net.  SOA ns.example.net 7            ; the short form
            example.org   SOA ns.example.net admin.example.org 8 1 2 3 4
            example.net   60 IN MX 10 MX.example.net.
            example.net   TXT "a\"; b" "c"
            example.net   NS ns.example.net
            mx.example.net A 192.0.2.1
            mx.example.net AAAA 2001:db8::1
            www.example.net CNAME mx.example.net
            1.2.0.192.in-addr.arpa PTR mx.example.net
            _imaps._tcp.example.net SRV 0 1 993 imap.example.net
            _25._tcp.mx.example.net TLSA 3 1 1 ab CD
            "#,
        );
        let record = |text: &str, kind| {
            let found = find(&zone, text, kind);
            assert_eq!(found.records.len(), 1, "{text} {kind}");
            found.records[0].clone()
        };
        let host = name("mx.example.net");
        assert_eq!(record("example.net", RecordType::Soa), Record::Soa(name("ns.example.net"), 7));
        assert_eq!(record("example.org", RecordType::Soa), Record::Soa(name("ns.example.net"), 8));
        assert_eq!(record("example.net", RecordType::Mx), Record::Mx(Mx { preference: 10, exchange: host.clone() }));
        assert_eq!(record("example.net", RecordType::Txt), Record::Txt(b"a\"; bc".to_vec()));
        assert_eq!(record("example.net", RecordType::Ns), Record::Ns(name("ns.example.net")));
        assert_eq!(record("www.example.net", RecordType::Cname), Record::Cname(host.clone()));
        assert_eq!(record("www.example.net", RecordType::A), Record::A("192.0.2.1".parse().unwrap()));
        assert_eq!(record("mx.example.net", RecordType::Aaaa), Record::Aaaa("2001:db8::1".parse().unwrap()));
        assert_eq!(record("1.2.0.192.in-addr.arpa", RecordType::Ptr), Record::Ptr(host));
        let target = name("imap.example.net");
        let srv = Record::Srv { priority: 0, weight: 1, port: 993, target };
        assert_eq!(record("_imaps._tcp.example.net", RecordType::Srv), srv);
        let tlsa = Tlsa { usage: 3, selector: 1, matching: 1, data: vec![0xab, 0xcd] };
        assert_eq!(record("_25._tcp.mx.example.net", RecordType::Tlsa), Record::Tlsa(tlsa));
    }

    #[test]
    fn absence_has_two_kinds() {
        let zone = zone("example.net 900 SOA ns.example.net 1\n_25._tcp.mx.example.net A 192.0.2.1");
        let found = find(&zone, "example.net", RecordType::Mx);
        assert!(found.records.is_empty() && found.name_exists);
        assert_eq!(found.ttl, Duration::from_secs(900));
        assert!(find(&zone, "mx.example.net", RecordType::A).name_exists, "there is something below it");
        assert!(!find(&zone, "nx.example.net", RecordType::A).name_exists);
        let found = find(&zone, "example.org", RecordType::A);
        assert!(!found.name_exists);
        assert_eq!(found.ttl, ABSENT_TTL);
    }

    #[test]
    fn wildcards_cover_what_has_nothing_of_its_own() {
        let zone = zone(
            "$secure\n*.example.net A 192.0.2.1\nmx.example.net TXT \"x\"\n*.example.org CNAME a.b.example.net\n\
             a.deep.example.net A 192.0.2.2\n$insecure\nexample.net TXT \"x\"",
        );
        let found = find(&zone, "any.where.example.net", RecordType::A);
        assert_eq!(found.records.len(), 1);
        assert_eq!(found.canonical, name("any.where.example.net"));
        assert_eq!(found.security, Security::Secure, "the mark of the wildcard itself");
        let found = find(&zone, "mx.example.net", RecordType::A);
        assert!(found.records.is_empty() && found.name_exists);
        assert!(!find(&zone, "x.mx.example.net", RecordType::A).name_exists, "RFC 4592 §3.3.1");
        assert!(!find(&zone, "b.deep.example.net", RecordType::A).name_exists, "RFC 4592 §3.3.1");
        assert_eq!(find(&zone, "z.example.org", RecordType::A).canonical, name("a.b.example.net"));
    }

    #[test]
    fn security_is_that_of_the_nearest_mark() {
        let zone = zone(
            "first.example A 192.0.2.1
             $secure
             example.net MX 10 mx.example.com
             alias.example.net CNAME mx.example.com
             _25._tcp.mx.example.com TLSA 3 1 1 00
             $insecure
             mx.example.com A 192.0.2.1
             $secure example.org",
        );
        let security = |text: &str, kind| find(&zone, text, kind).security;
        assert_eq!(security("example.net", RecordType::Mx), Security::Secure);
        assert_eq!(security("nx.example.net", RecordType::Mx), Security::Secure);
        assert_eq!(security("first.example", RecordType::A), Security::Insecure);
        assert_eq!(security("mx.example.com", RecordType::A), Security::Insecure);
        assert_eq!(security("_25._tcp.mx.example.com", RecordType::Tlsa), Security::Secure);
        assert_eq!(security("_26._tcp.mx.example.com", RecordType::Tlsa), Security::Insecure);
        assert_eq!(security("alias.example.net", RecordType::A), Security::Insecure, "one insecure step is enough");
        assert_eq!(security("alias.example.net", RecordType::Cname), Security::Secure);
        assert_eq!(security("a.example.org", RecordType::A), Security::Secure);
        assert_eq!(security("example", RecordType::A), Security::Insecure);
    }

    #[test]
    fn aliases_end() {
        let mut text = String::from("loop.example CNAME pool.example\npool.example CNAME loop.example\n");
        for step in 0..ALIASES_MAX + 1 {
            text += &format!("a{step}.example {} CNAME a{}.example\n", 100 - step, step + 1);
        }
        text += &format!("a{}.example 500 A 192.0.2.1\nlost.example CNAME nx.example", ALIASES_MAX + 1);
        let zone = zone(&text);
        let found = find(&zone, "a1.example", RecordType::A);
        assert_eq!(found.canonical, name("a9.example"));
        assert_eq!(found.ttl, Duration::from_secs(92), "the shortest of all");
        assert!(matches!(zone.find(&name("a0.example"), RecordType::A), Err(Failure::Failed(_))));
        assert!(matches!(zone.find(&name("loop.example"), RecordType::A), Err(Failure::Failed(_))));
        let found = find(&zone, "lost.example", RecordType::A);
        assert!(!found.name_exists && found.canonical == name("nx.example"));
    }

    #[test]
    fn what_fails() {
        let zone = zone(
            "forged.example BOGUS\nalias.example CNAME forged.example\nbroken.example A 192.0.2.1\n\
             broken.example SERVFAIL TLSA\n*.down.example SERVFAIL",
        );
        let find = |text: &str, kind| zone.find(&name(text), kind);
        assert!(matches!(find("forged.example", RecordType::A), Err(Failure::Bogus(_))));
        assert!(matches!(find("alias.example", RecordType::A), Err(Failure::Bogus(_))));
        assert!(matches!(find("broken.example", RecordType::Tlsa), Err(Failure::Failed(_))));
        assert_eq!(find("broken.example", RecordType::A).unwrap().records.len(), 1);
        assert!(matches!(find("x.down.example", RecordType::Mx), Err(Failure::Failed(_))));
    }

    #[test]
    fn errors_name_their_line() {
        let error = |text: &str| Zone::parse(text).unwrap_err();
        let kind = |text: &str| error(text).kind;
        assert_eq!(error("; x\n\na..b A 192.0.2.1").to_string(), "line 3: not a domain name");
        assert_eq!(kind("a.example"), ZoneErrorKind::Type);
        assert_eq!(kind("a.example HINFO x"), ZoneErrorKind::Type);
        assert_eq!(kind("a.example A 192.0.2.256"), ZoneErrorKind::Data);
        assert_eq!(kind("a.example MX mx.example"), ZoneErrorKind::Data);
        assert_eq!(kind("a.example MX 10 m(x"), ZoneErrorKind::Name(NameError::Syntax));
        assert_eq!(kind("a.example TLSA 3 1 1 0"), ZoneErrorKind::Data);
        assert_eq!(kind("a.example TXT v=spf1 -all"), ZoneErrorKind::Quotes);
        assert_eq!(kind("a.example TXT \"v=spf1"), ZoneErrorKind::Quotes);
        assert_eq!(kind("$origin example"), ZoneErrorKind::Directive);
        assert_eq!(kind("$ttl soon"), ZoneErrorKind::Data);
        assert_eq!(kind("a.example 1h A 192.0.2.1"), ZoneErrorKind::Data);
        assert_eq!(kind("a.example A 192.0.2.1\na.example CNAME b.example"), ZoneErrorKind::AliasNotAlone);
        assert_eq!(kind("$secure a.example\n$insecure\na.example TXT \"\""), ZoneErrorKind::Contradiction);
        assert_eq!(error("x SERVFAIL A A").line, 1);
    }
}
