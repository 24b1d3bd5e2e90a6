//! Access tables: `key ACTION text`, and the actions they and policy services know (R113).

use crate::names::account_name;
use crate::table::{Parsed, Source, TableError, keep, shown};
use mail::{AccountName, Address, Domain, EnhancedStatus};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Longest text of an action in octets, so that a reply stays within a line (RFC 5321 §4.5.3.1.5).
pub const TEXT_OCTETS_MAX: usize = 400;

/// What a table or a policy service wants done. Texts are free of control characters; an empty text means that the
/// caller's own words are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Accept; no later check of this list.
    Ok,
    /// No opinion.
    Dunno,
    /// Refuse with this reply, temporary or permanent by its code.
    Reject(Refusal),
    /// Refuse for now.
    Defer(Refusal),
    /// Refuse for now if no later check refuses for good.
    DeferIfPermit(Refusal),
    /// Refuse for now if a later check would refuse for good.
    DeferIfReject(Refusal),
    /// Accept, but hold the message in the queue; the text is for the log.
    Hold(String),
    /// Accept, and throw the message away; the text is for the log.
    Discard(String),
    /// Send the message to this address instead of its recipients.
    Redirect(Address),
    /// One more recipient.
    Bcc(Address),
    /// Pass the message through this content filter, `transport:destination`.
    Filter(String),
    /// Put this field, `Name: text`, on top of the header section.
    Prepend(String),
    /// Log as a warning, and go on.
    Warn(String),
    /// Log, and go on.
    Info(String),
}

/// A reply that refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400 to 599.
    pub code: u16,
    /// Of the class of the code.
    pub status: EnhancedStatus,
    /// May be empty.
    pub text: String,
}

/// Reply of REJECT without code (R113).
const REJECT: (u16, EnhancedStatus) = (554, EnhancedStatus::new(5, 7, 1));
/// Reply of the DEFER family (R113).
const DEFER: (u16, EnhancedStatus) = (450, EnhancedStatus::new(4, 7, 1));

impl Action {
    /// Reads an action; its name in any case. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Action, &'static str> {
        let text = text.trim();
        if text.len() > TEXT_OCTETS_MAX {
            return Err("the action is too long");
        }
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err("the action holds a control character");
        }
        let (name, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let rest = rest.trim();
        let some = |text: &str| if text.is_empty() { Err("the action needs an argument") } else { Ok(text.to_owned()) };
        let address = || Address::parse(rest).map_err(|_| "the action needs an address");
        match name.to_ascii_uppercase().as_str() {
            "OK" => Ok(Action::Ok),
            "DUNNO" => Ok(Action::Dunno),
            "REJECT" => Ok(Action::Reject(Refusal::parse(REJECT, rest)?)),
            "DEFER" => Ok(Action::Defer(Refusal::parse(DEFER, rest)?)),
            "DEFER_IF_PERMIT" => Ok(Action::DeferIfPermit(Refusal::parse(DEFER, rest)?)),
            "DEFER_IF_REJECT" => Ok(Action::DeferIfReject(Refusal::parse(DEFER, rest)?)),
            "HOLD" => Ok(Action::Hold(rest.to_owned())),
            "DISCARD" => Ok(Action::Discard(rest.to_owned())),
            "REDIRECT" => address().map(Action::Redirect),
            "BCC" => address().map(Action::Bcc),
            "FILTER" if rest.contains([' ', '\t']) => Err("a filter is transport:destination"),
            "FILTER" => some(rest).map(Action::Filter),
            "PREPEND" if is_field(rest) => Ok(Action::Prepend(rest.to_owned())),
            "PREPEND" => Err("PREPEND needs a header field, Name: text"),
            "WARN" => Ok(Action::Warn(rest.to_owned())),
            "INFO" => Ok(Action::Info(rest.to_owned())),
            "" => Err("the action is empty"),
            number if number.len() == 3 && matches!(number.as_bytes().first(), Some(b'4' | b'5')) => {
                let code = number.parse().map_err(|_| "no such action")?;
                let class = if code < 500 { 4 } else { 5 };
                Ok(Action::Reject(Refusal::parse((code, EnhancedStatus::new(class, 7, 1)), rest)?))
            }
            // A number of any other length has always meant OK, because tables are also made from databases of users.
            number if number.len() != 3 && number.bytes().all(|b| b.is_ascii_digit()) => Ok(Action::Ok),
            _ => Err("no such action"),
        }
    }
}

impl Refusal {
    /// Takes `[d.s.n] [text]` behind a code.
    fn parse((code, status): (u16, EnhancedStatus), rest: &str) -> Result<Refusal, &'static str> {
        // RFC 5321 §4.2: the text of a reply.
        if !rest.is_ascii() {
            return Err("a reply is ASCII alone");
        }
        let (word, text) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        match EnhancedStatus::parse(word) {
            Some(given) if given.class != status.class => Err("the enhanced status is of another class than the code"),
            Some(given) => Ok(Refusal { code, status: given, text: text.trim().to_owned() }),
            None => Ok(Refusal { code, status, text: rest.to_owned() }),
        }
    }
}

/// RFC 5322 §2.2: a name of printable characters other than the colon, a colon, and text.
fn is_field(text: &str) -> bool {
    text.split_once(':').is_some_and(|(name, body)| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) && !body.trim().is_empty()
    })
}

/// An access table whose keys are logins.
#[derive(Debug, Default)]
pub struct LoginAccess {
    by_login: HashMap<AccountName, (Action, usize)>,
}

impl LoginAccess {
    /// Reads `login ACTION text`.
    pub fn read(source: &Source<'_>) -> Result<Parsed<LoginAccess>, TableError> {
        let mut table = LoginAccess::default();
        let mut findings = Vec::new();
        for entry in source.entries()? {
            let Some(login) = account_name(&entry.key) else {
                let cause = format!("{} is no login", shown(&entry.key));
                return Err(source.error(entry.line, cause, "write the account's full name"));
            };
            let action = action(source, entry.line, &entry.value)?;
            match table.by_login.entry(login) {
                Entry::Vacant(place) => drop(place.insert((action, entry.line))),
                Entry::Occupied(_) => keep(&mut findings, duplicate(source, entry.line, &entry.key)),
            }
        }
        Ok(Parsed { content: table, findings })
    }

    /// The action for a login.
    pub fn find(&self, login: &AccountName) -> Option<&Action> {
        self.by_login.get(login).map(|(action, _)| action)
    }

    /// All logins with their lines.
    pub fn iter(&self) -> impl Iterator<Item = (&AccountName, usize)> {
        self.by_login.iter().map(|(login, (_, line))| (login, *line))
    }
}

/// An access table whose keys are addresses, domains, or local parts (`user@`).
#[derive(Debug, Default)]
pub struct AddressAccess {
    addresses: HashMap<String, Action>,
    domains: HashMap<Domain, Action>,
    below: HashMap<Domain, Action>,
    local_parts: HashMap<String, Action>,
}

impl AddressAccess {
    /// Reads `key ACTION text`.
    pub fn read(source: &Source<'_>) -> Result<Parsed<AddressAccess>, TableError> {
        let mut table = AddressAccess::default();
        let mut findings = Vec::new();
        for entry in source.entries()? {
            let action = action(source, entry.line, &entry.value)?;
            let Some(first) = table.insert(&entry.key, action) else {
                return Err(source.error(
                    entry.line,
                    format!("{} is no address, domain or local part", shown(&entry.key)),
                    "write user@domain, domain, .domain or user@",
                ));
            };
            if !first {
                keep(&mut findings, duplicate(source, entry.line, &entry.key));
            }
        }
        Ok(Parsed { content: table, findings })
    }

    /// Whether this was the first of its key; `None` when it is no key.
    fn insert(&mut self, key: &str, action: Action) -> Option<bool> {
        if let Some(local) = key.strip_suffix('@') {
            let local = mail::LocalPart::parse(local).ok()?;
            return Some(vacant(self.local_parts.entry(local.as_str().to_lowercase()), action));
        }
        if let Ok(address) = Address::parse(key) {
            return Some(vacant(self.addresses.entry(address.key()), action));
        }
        if let Some(parent) = key.strip_prefix('.') {
            return Some(vacant(self.below.entry(Domain::parse(parent).ok()?), action));
        }
        Some(vacant(self.domains.entry(Domain::parse(key).ok()?), action))
    }

    /// Looks up the address, its domain, the domains above, and the local part, in this order (R112).
    pub fn find(&self, address: &Address) -> Option<&Action> {
        let above = || std::iter::successors(address.domain.parent(), Domain::parent);
        self.addresses
            .get(&address.key())
            .or_else(|| self.domains.get(&address.domain))
            .or_else(|| above().find_map(|parent| self.below.get(&parent).or_else(|| self.domains.get(&parent))))
            .or_else(|| self.local_parts.get(&address.local.as_str().to_lowercase()))
    }
}

fn vacant<K>(place: Entry<'_, K, Action>, action: Action) -> bool {
    match place {
        Entry::Occupied(_) => false,
        Entry::Vacant(place) => {
            place.insert(action);
            true
        }
    }
}

fn action(source: &Source<'_>, line: usize, value: &str) -> Result<Action, TableError> {
    Action::parse(value).map_err(|cause| {
        source.error(
            line,
            format!("{cause}: {}", shown(value)),
            "write OK, DUNNO, REJECT, 4NN or 5NN, DEFER, DEFER_IF_PERMIT, DEFER_IF_REJECT, HOLD, DISCARD, REDIRECT, BCC, \
             FILTER, PREPEND, WARN or INFO, then its text",
        )
    })
}

fn duplicate(source: &Source<'_>, line: usize, key: &str) -> crate::table::Finding {
    source.warning(line, format!("{} stands more than once, the first counts", shown(key)), "remove one of the lines")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn refusal(code: u16, status: &str, text: &str) -> Refusal {
        Refusal { code, status: EnhancedStatus::parse(status).unwrap(), text: text.into() }
    }

    #[test]
    fn r113_every_action_in_any_case() {
        let there = Address::parse("x@example.org").unwrap();
        for (text, action) in [
            ("OK", Action::Ok),
            ("dunno", Action::Dunno),
            ("REJECT", Action::Reject(refusal(554, "5.7.1", ""))),
            ("Reject no mail to test domains", Action::Reject(refusal(554, "5.7.1", "no mail to test domains"))),
            ("REJECT 5.1.1 no", Action::Reject(refusal(554, "5.1.1", "no"))),
            ("550 5.1.1 who is that", Action::Reject(refusal(550, "5.1.1", "who is that"))),
            ("521 go away", Action::Reject(refusal(521, "5.7.1", "go away"))),
            ("450 later", Action::Reject(refusal(450, "4.7.1", "later"))),
            ("451 4.3.0 later", Action::Reject(refusal(451, "4.3.0", "later"))),
            ("DEFER", Action::Defer(refusal(450, "4.7.1", ""))),
            ("defer_if_permit  4.7.0  busy", Action::DeferIfPermit(refusal(450, "4.7.0", "busy"))),
            ("DEFER_IF_REJECT x", Action::DeferIfReject(refusal(450, "4.7.1", "x"))),
            ("HOLD", Action::Hold(String::new())),
            ("hold compromised", Action::Hold("compromised".into())),
            ("DISCARD", Action::Discard(String::new())),
            ("REDIRECT x@example.org", Action::Redirect(there.clone())),
            ("BCC x@example.org", Action::Bcc(there)),
            ("FILTER scan:[127.0.0.1]:10025", Action::Filter("scan:[127.0.0.1]:10025".into())),
            ("PREPEND X-Spam: yes: very", Action::Prepend("X-Spam: yes: very".into())),
            ("WARN look", Action::Warn("look".into())),
            ("INFO", Action::Info(String::new())),
            ("1700000000", Action::Ok),
        ] {
            assert_eq!(Action::parse(text), Ok(action), "{text}");
        }
    }

    #[test]
    fn v14_what_is_no_action_is_refused() {
        for text in [
            "",
            "YES",
            "650 x",
            "55 0",
            "550 4.1.1 no",
            "450 5.1.1 no",
            "REJECT 4.7.1 x",
            "REDIRECT",
            "REDIRECT |cmd",
            "BCC a b",
            "FILTER",
            "FILTER a b",
            "PREPEND",
            "PREPEND x",
            "PREPEND a b: c",
            "PREPEND X:",
            "PREPEND X: a\r\nY: b",
            "REJECT a\0b",
            "reject_unauth_destination",
            "5é0 x",
        ] {
            // A number of another length than three is the one odd member of the vocabulary.
            assert!(text == "55 0" || Action::parse(text).is_err(), "{text:?}");
        }
        assert!(Action::parse(&format!("REJECT {}", "x".repeat(500))).is_err());
        for text in ["REJECT n\u{f6}", "550 5.1.1 n\u{f6}", "defer n\u{f6}"] {
            assert_eq!(Action::parse(text), Err("a reply is ASCII alone"));
        }
        assert!(Action::parse("HOLD gr\u{fc}n").is_ok());
    }

    #[test]
    fn r139_r140_the_guides_login_table() {
        let text = "brian@example.net    HOLD\nNotbrian@Example.net REJECT\n";
        let table =
            LoginAccess::read(&Source { file: Path::new("sasl_access"), octets: text.as_bytes() }).unwrap().content;
        let of = |login: &str| table.find(&AccountName::parse(login).unwrap()).cloned();
        assert_eq!(of("brian@example.net"), Some(Action::Hold(String::new())));
        assert_eq!(of("notbrian@example.net"), Some(Action::Reject(refusal(554, "5.7.1", ""))));
        assert_eq!(of("other@example.net"), None);
    }

    #[test]
    fn r112_lookup_order_of_recipients() {
        let text = "user@example.org REJECT address\nexample.org REJECT domain\n.example.com REJECT below\n\
                    user@ REJECT local\nEXAMPLE.net REJECT parent\nexample.org OK\n";
        let parsed = AddressAccess::read(&Source { file: Path::new("access"), octets: text.as_bytes() }).unwrap();
        assert_eq!(parsed.findings[0].line, Some(6));
        let of = |address: &str| match parsed.content.find(&Address::parse(address).unwrap()) {
            Some(Action::Reject(refusal)) => refusal.text.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(of("User@Example.org"), "address");
        assert_eq!(of("x@example.org"), "domain");
        assert_eq!(of("x@a.b.example.net"), "parent");
        assert_eq!(of("x@a.example.com"), "below");
        assert_eq!(of("user@example.com"), "local");
        assert_eq!(of("x@example.com"), "None");
    }

    #[test]
    fn faults_name_their_line() {
        for text in ["example.org OK\nexample.net MAYBE", "example.org OK\na b@c OK", "example.org OK\nexample.net"] {
            let error =
                AddressAccess::read(&Source { file: Path::new("access"), octets: text.as_bytes() }).unwrap_err();
            assert_eq!(error.line, Some(2), "{text}");
        }
    }
}
