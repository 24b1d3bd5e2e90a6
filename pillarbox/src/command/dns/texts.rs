//! Whether text records say what they should: SPF, DKIM, DMARC, MTA-STS, TLS-RPT. Nothing is asked here.

use super::facts::DkimKey;
use super::finding::{Finding, Subject};
use crate::config::Severity::{self, Error, Warning};
use directory::signing::State;
use dns::{Found, Record};
use net::Network;
use std::net::IpAddr;
use transport_security::{mta_sts, tls_rpt};

/// RFC 7208 §4.6.4: terms that make whoever checks ask DNS.
const SPF_LOOKUPS_MAX: usize = 10;

/// The texts of an answer.
fn texts(found: &Found) -> impl Iterator<Item = &[u8]> {
    found.records.iter().filter_map(|record| match record {
        Record::Txt(text) => Some(text.as_slice()),
        _ => None,
    })
}

/// The text of a record, as far as it is one.
pub fn text_of(record: &Record) -> Option<String> {
    match record {
        Record::Txt(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

fn text_record(text: &str) -> Record {
    Record::Txt(text.as_bytes().to_vec())
}

/// The SPF record of a name. `senders` are the addresses that mail leaves from; `severity` holds when there is none.
pub fn spf(subject: &Subject, found: &Found, wanted: &str, senders: &[IpAddr], severity: Severity) -> Finding {
    let records: Vec<&[u8]> = texts(found).filter(|text| is_spf(text)).collect();
    let there: Vec<Record> = records.iter().map(|text| Record::Txt(text.to_vec())).collect();
    let differs = |severity, cause: String| {
        subject.differs(severity, cause).with_found(&there).with_wanted([text_record(wanted)])
    };
    let text = match records.as_slice() {
        [] => {
            let cause = "nobody can tell our mail from that of forgers";
            return subject.missing(severity, cause).with_wanted([text_record(wanted)]);
        }
        [one] => String::from_utf8_lossy(one),
        // RFC 7208 §4.5.
        _ => return differs(Error, "more than one record counts as none that can be understood".into()),
    };
    let terms = match text.split_ascii_whitespace().skip(1).map(term).collect::<Result<Vec<_>, _>>() {
        Ok(terms) => terms,
        Err(cause) => return differs(Error, cause),
    };
    if terms.iter().filter(|term| term.asks).count() > SPF_LOOKUPS_MAX {
        return differs(
            Error,
            format!("more than {SPF_LOOKUPS_MAX} terms need DNS: the record fails (RFC 7208 §4.6.4)"),
        );
    }
    for sender in senders {
        match first_match(&terms, *sender) {
            Some('-') => return differs(Error, format!("mail from {sender}, which is ours, fails")),
            Some('~') => return differs(Warning, format!("mail from {sender}, which is ours, fails softly")),
            _ => {}
        }
    }
    let all = terms.iter().find(|term| term.kind == Kind::All);
    if all.is_some_and(|all| all.qualifier == '+') {
        return differs(Warning, "`+all` lets everybody send in this name".into());
    }
    if all.is_none() && !terms.iter().any(|term| term.kind == Kind::Redirect) {
        return differs(Warning, "without `all` at the end it says nothing about forgers".into());
    }
    subject.ok("").with_found(&there)
}

/// RFC 7208 §4.5: the version, then a space or the end.
fn is_spf(text: &[u8]) -> bool {
    let version = b"v=spf1";
    text.get(..version.len()).is_some_and(|start| start.eq_ignore_ascii_case(version))
        && matches!(text.get(version.len()), None | Some(b' '))
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    All,
    Network(Network),
    Redirect,
    /// One that only DNS decides.
    Other,
}

struct Term {
    qualifier: char,
    kind: Kind,
    asks: bool,
}

/// Reads a term (RFC 7208 §12). Macros are not looked into.
fn term(text: &str) -> Result<Term, String> {
    let shown: String = text.chars().filter(|sign| !sign.is_control()).take(80).collect();
    let wrong = || format!("`{shown}` is no term of SPF");
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if let Some((name, value)) = text.split_once('=').filter(|(name, _)| is_name(name)) {
        let is_redirect = name.eq_ignore_ascii_case("redirect");
        if (is_redirect || name.eq_ignore_ascii_case("exp")) && value.is_empty() {
            return Err(wrong());
        }
        // RFC 7208 §6: unknown modifiers are passed over.
        let kind = if is_redirect { Kind::Redirect } else { Kind::Other };
        return Ok(Term { qualifier: '?', kind, asks: is_redirect });
    }
    let (qualifier, rest) = match text.chars().next() {
        Some(sign @ ('+' | '-' | '~' | '?')) => (sign, text.get(1..).unwrap_or_default()),
        _ => ('+', text),
    };
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let (name, argument) = rest.split_at(end);
    let value = argument.strip_prefix(':').unwrap_or_default();
    let network = || match value.parse::<Network>() {
        Ok(network) => Ok(network),
        // RFC 7208 §5.6: what lies beyond the prefix is not looked at.
        Err(net::NetworkError::HostBits(_, network)) => Ok(network),
        Err(_) => Err(wrong()),
    };
    let (kind, asks) = match name.to_ascii_lowercase().as_str() {
        "all" if argument.is_empty() => (Kind::All, false),
        "ip4" if !value.contains(['[', ']']) && !value.split('/').next().unwrap_or_default().contains(':') => {
            (Kind::Network(network()?), false)
        }
        "ip6" if value.contains(':') => (Kind::Network(network()?), false),
        "include" | "exists" if !value.is_empty() => (Kind::Other, true),
        "a" | "mx" | "ptr" if argument != ":" => (Kind::Other, true),
        _ => return Err(wrong()),
    };
    Ok(Term { qualifier, kind, asks })
}

/// The qualifier of the first term that fits; `None` where DNS decides first.
fn first_match(terms: &[Term], sender: IpAddr) -> Option<char> {
    for term in terms {
        match &term.kind {
            Kind::All => return Some(term.qualifier),
            Kind::Network(network) if network.contains(sender) => return Some(term.qualifier),
            Kind::Network(_) => {}
            Kind::Redirect => return None,
            Kind::Other if term.asks => return None,
            Kind::Other => {}
        }
    }
    None
}

/// The record of a key that signs, will sign or did.
pub fn dkim(subject: &Subject, found: &Found, key: &DkimKey) -> Finding {
    let wanted = [text_record(&key.text)];
    let (severity, cause) = match key.state {
        State::Active => (Error, "what we sign with it fails"),
        State::Published => (Warning, "do not activate the key yet"),
        State::Retired => (Warning, "mail that it signed may still be under way"),
    };
    let records: Vec<&[u8]> = texts(found).collect();
    let text = match records.as_slice() {
        [] => return subject.missing(severity, cause).with_wanted(wanted),
        [one] => String::from_utf8_lossy(one),
        // RFC 6376 §3.6.2.2.
        _ => {
            let cause = format!("more than one record, of which anyone may be taken: {cause}");
            return subject.differs(severity, cause).with_found(&found.records).with_wanted(wanted);
        }
    };
    let (there, ours) = (tags(&text), tags(&key.text));
    let tag = |tags: &[(String, String)], name: &str| {
        tags.iter().find(|(tag, _)| tag == name).map(|(_, value)| value.clone())
    };
    let allows = |name: &str, words: [&str; 2]| {
        tag(&there, name).is_none_or(|value| value.split(':').any(|word| words.contains(&word)))
    };
    // RFC 6376 §3.6.1: the version comes first if it is there, and the type is RSA if nothing is said.
    let has_version = there.iter().position(|(tag, _)| tag == "v").is_none_or(|at| at == 0)
        && tag(&there, "v").is_none_or(|version| version == "DKIM1");
    let kind = |tags: &[(String, String)]| tag(tags, "k").unwrap_or_else(|| "rsa".to_owned());
    let is_ours = tag(&there, "p") == tag(&ours, "p") && kind(&there) == kind(&ours);
    if has_version && is_ours && allows("h", ["sha256", "sha256"]) && allows("s", ["*", "email"]) {
        let finding = match tag(&there, "t").is_some_and(|flags| flags.split(':').any(|flag| flag == "y")) {
            true => subject.differs(Warning, "`t=y` asks others not to count the signature").with_wanted(wanted),
            false => subject.ok(format!("the key is {}", key.state)),
        };
        return finding.with_found(&found.records);
    }
    subject.differs(severity, cause).with_found(&found.records).with_wanted(wanted)
}

/// Tags and values of a list (RFC 6376 §3.2), white space taken out.
fn tags(text: &str) -> Vec<(String, String)> {
    let bare = |text: &str| text.chars().filter(|sign| !sign.is_ascii_whitespace()).collect::<String>();
    text.split(';').filter_map(|tag| tag.split_once('=')).map(|(tag, value)| (bare(tag), bare(value))).collect()
}

/// The DMARC record of a domain, or of the nearest one above it that has one. `None` where there is none at this name.
pub fn dmarc(subject: &Subject, found: &Found, wanted: &str) -> Option<Finding> {
    let is_dmarc = |text: &[u8]| {
        tags(&String::from_utf8_lossy(text)).first().is_some_and(|(tag, value)| tag == "v" && value == "DMARC1")
    };
    let records: Vec<&[u8]> = texts(found).filter(|text| is_dmarc(text)).collect();
    let there: Vec<Record> = records.iter().map(|text| Record::Txt(text.to_vec())).collect();
    let differs = |cause: &str| subject.differs(Error, cause).with_found(&there).with_wanted([text_record(wanted)]);
    let text = match records.as_slice() {
        [] => return None,
        [one] => String::from_utf8_lossy(one),
        // RFC 7489 §6.6.3.
        _ => return Some(differs("more than one record counts as none")),
    };
    let policy = tags(&text).into_iter().find(|(tag, _)| tag == "p").map(|(_, value)| value.to_ascii_lowercase());
    Some(match policy.as_deref() {
        Some(policy @ ("none" | "quarantine" | "reject")) => subject.ok(format!("p={policy}")).with_found(&there),
        // RFC 7489 §6.3.
        Some(_) | None => differs("`p` must be none, quarantine or reject"),
    })
}

/// The record that announces an MTA-STS policy.
pub fn sts(subject: &Subject, found: &Found, wanted: &Record) -> Finding {
    let is_there = |text: &[u8]| text.starts_with(b"v=STSv1");
    match mta_sts::parse_record(texts(found)) {
        Some(_) => subject.ok("").with_found(&found.records),
        None if texts(found).any(is_there) => {
            subject.differs(Warning, "it is not understood, or there are several").with_found(&found.records)
        }
        None => subject.missing(Warning, "without it, others need DANE to know that we speak TLS"),
    }
    .with_wanted([wanted.clone()])
}

/// The record that asks for reports of TLS failures.
pub fn reports(subject: &Subject, found: &Found, wanted: &Record) -> Finding {
    match tls_rpt::parse_record(texts(found)) {
        Some(_) => subject.ok("").with_found(&found.records),
        None if texts(found).next().is_some() => {
            subject.differs(Warning, "it is not understood, or there are several").with_found(&found.records)
        }
        None => subject.missing(Warning, "nobody tells us when TLS to us fails"),
    }
    .with_wanted([wanted.clone()])
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;
    use dns::{Name, RecordType, Zone};

    fn found(texts: &[&str]) -> Found {
        let lines: String = texts.iter().map(|text| format!("x.example TXT \"{text}\"\n")).collect();
        Zone::parse(&lines).unwrap().find(&Name::parse("x.example").unwrap(), RecordType::Txt).unwrap()
    }

    fn subject() -> Subject {
        Subject::txt(&Name::parse("x.example").unwrap(), "test")
    }

    #[test]
    fn spf_records_are_understood_as_others_do() {
        let senders = ["203.0.113.5".parse().unwrap(), "2001:db8::5".parse().unwrap()];
        for (texts, status, severity, told) in [
            (&["v=spf1 mx -all", "other"][..], Status::Ok, None, ""),
            (&["V=SPF1 ip4:203.0.113.0/24 ip6:2001:db8::/32 ~all"], Status::Ok, None, ""),
            (&["v=spf1 redirect=_spf.example.org"], Status::Ok, None, ""),
            (&["v=spf1 +a:b.example/24//64 exists:%{i}.x unknown=1 -all"], Status::Ok, None, ""),
            (&["other", "v=spf10 -all"], Status::Missing, Some(Error), "forgers"),
            (&["v=spf1 mx -all", "v=spf1 -all"], Status::Differs, Some(Error), "more than one"),
            (&["v=spf1 ip4:203.0.113.5 -all"], Status::Differs, Some(Error), "2001:db8::5, which is ours, fails"),
            (
                &["v=spf1 ip6:2001:db8::5 ~all"],
                Status::Differs,
                Some(Warning),
                "203.0.113.5, which is ours, fails soft",
            ),
            (&["v=spf1 mx +all"], Status::Differs, Some(Warning), "everybody"),
            (&["v=spf1 all"], Status::Differs, Some(Warning), "everybody"),
            (&["v=spf1 mx"], Status::Differs, Some(Warning), "without `all`"),
            (&["v=spf1 mx -al"], Status::Differs, Some(Error), "`-al` is no term"),
            (&["v=spf1 ip4:203.0.113 -all"], Status::Differs, Some(Error), "is no term"),
            (&["v=spf1 ip4:2001:db8::1 -all"], Status::Differs, Some(Error), "is no term"),
            (&["v=spf1 include: -all"], Status::Differs, Some(Error), "is no term"),
            (&["v=spf1 a a a a a a a a a a a -all"], Status::Differs, Some(Error), "more than 10"),
        ] {
            let finding = spf(&subject(), &found(texts), "v=spf1 mx -all", &senders, Error);
            assert_eq!((finding.status, finding.severity), (status, severity), "{texts:?}: {finding:?}");
            assert!(finding.cause.contains(told), "{texts:?}: {finding:?}");
        }
    }

    #[test]
    fn dkim_records_hold_our_key() {
        let name = Name::parse("x.example").unwrap();
        let key = |state| DkimKey { name: name.clone(), text: "v=DKIM1; k=ed25519; p=AAAB".into(), state };
        for (texts, status) in [
            (&["v=DKIM1; k=ed25519; p=AAAB"][..], Status::Ok),
            (&["k=ed25519; p=AA AB; s=email; h=sha1:sha256;"], Status::Ok),
            (&["v=DKIM1; p=AAAB"], Status::Differs),
            (&["v=DKIM1; k=ed25519; p="], Status::Differs),
            (&["v=DKIM1; k=ed25519; p=AAAB; h=sha1"], Status::Differs),
            (&["k=ed25519; p=AAAB; v=DKIM1"], Status::Differs),
            (&["k=ed25519; p=AAAB", "x"], Status::Differs),
            (&[], Status::Missing),
        ] {
            for (state, severity) in [(State::Active, Error), (State::Published, Warning), (State::Retired, Warning)] {
                let finding = dkim(&subject(), &found(texts), &key(state));
                let severity = (status != Status::Ok).then_some(severity);
                assert_eq!((finding.status, finding.severity), (status, severity), "{texts:?}");
            }
        }
        let testing = dkim(&subject(), &found(&["k=ed25519; p=AAAB; t=s:y"]), &key(State::Active));
        assert_eq!(testing.severity, Some(Warning));
    }

    #[test]
    fn other_texts_are_one_and_understood() {
        let dmarc = |texts: &[&str]| dmarc(&subject(), &found(texts), "").map(|finding| finding.severity);
        assert_eq!(dmarc(&["v=DMARC1; p=none", "v=spf1 -all"]), Some(None));
        assert_eq!(dmarc(&["v=DMARC1; p=Reject; rua=mailto:a@b.example"]), Some(None));
        assert_eq!(dmarc(&["p=none; v=DMARC1"]), None);
        assert_eq!(dmarc(&["v=DMARC1; p=maybe"]), Some(Some(Error)));
        assert_eq!(dmarc(&["v=DMARC1; p=none", "v=DMARC1; p=none"]), Some(Some(Error)));
        let wanted = text_record("x");
        for (texts, status) in [
            (&["v=STSv1; id=1;"][..], Status::Ok),
            (&["v=STSv1; id=1-2;"], Status::Differs),
            (&["v=spf1 -all"], Status::Missing),
        ] {
            assert_eq!(sts(&subject(), &found(texts), &wanted).status, status, "{texts:?}");
        }
        for (texts, status) in [
            (&["v=TLSRPTv1; rua=mailto:a@b.example"][..], Status::Ok),
            (&["v=TLSRPTv1; rua=gopher:a"], Status::Differs),
            (&[], Status::Missing),
        ] {
            assert_eq!(reports(&subject(), &found(texts), &wanted).status, status, "{texts:?}");
        }
    }
}
