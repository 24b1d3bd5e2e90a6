//! The records to publish, as values and as lines of a zone file (R1–R5). Nothing is asked here.

use super::facts::{DkimKey, Facts, Hosted, Service, TlsKey};
use aws_lc_rs::digest::{SHA256, digest};
use dns::{Mx, Name, NameError, Record, RecordType, Tlsa};
use sender_auth::dkim::txt_strings;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use transport_security::mta_sts::{self, Mode, MxPattern, POLICY_PATH, Policy};
use transport_security::{dane, tls_rpt};

/// Preference of our MX record: room for better and for worse ones.
const MX_PREFERENCE: u16 = 10;
/// Lifetime of the MTA-STS policy that is proposed: a day, so that a mistake is soon forgotten.
const POLICY_MAX_AGE: Duration = Duration::from_secs(86_400);

/// What else the MTA-STS record takes.
const STS_NOTE: &str = "only once its policy is on the web; `pillarbox dns records` prints it";

/// Records that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What they are for.
    pub title: String,
    /// The lines.
    pub lines: Vec<Line>,
}

/// A line of a zone file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The owner of the record.
    pub name: Name,
    /// What is to stand there.
    pub data: Data,
    /// What is to be known about it.
    pub note: Option<String>,
}

/// What is to stand at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// This record.
    Record(Record),
    /// A record of this type that only the administrator knows, in words.
    Placeholder(RecordType, &'static str),
}

/// A policy for a web server to hand out (RFC 8461 §3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// Where it is served.
    pub url: String,
    /// Its text.
    pub text: String,
}

impl Line {
    fn new(name: &Name, record: Record) -> Line {
        Line { name: name.clone(), data: Data::Record(record), note: None }
    }

    fn text(name: &Name, text: impl Into<String>) -> Line {
        Line::new(name, Record::Txt(text.into().into_bytes()))
    }

    fn noted(mut self, note: impl Into<String>) -> Line {
        self.note = Some(note.into());
        self
    }

    /// The record, unless it is a placeholder.
    pub fn record(&self) -> Option<&Record> {
        match &self.data {
            Data::Record(record) => Some(record),
            Data::Placeholder(..) => None,
        }
    }

    /// The line of a zone file with its note, which is a comment there.
    pub fn told(&self) -> String {
        self.note.as_ref().map_or_else(|| self.to_string(), |note| format!("{self}  ; {note}"))
    }

    /// The type of the record.
    pub fn kind(&self) -> RecordType {
        match &self.data {
            Data::Record(record) => record.kind(),
            Data::Placeholder(kind, _) => *kind,
        }
    }
}

impl fmt::Display for Line {
    /// As in a zone file; a placeholder is a comment there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.data {
            Data::Record(record) => write!(f, "{}.  {} {}", self.name, record.kind(), presentation(record)),
            Data::Placeholder(kind, words) => write!(f, "; {}.  {kind} <{words}>", self.name),
        }
    }
}

/// The data of a record as in a zone file (RFC 1035 §5.1).
pub fn presentation(record: &Record) -> String {
    let dotted = |name: &Name| if name.is_root() { ".".to_owned() } else { format!("{name}.") };
    match record {
        Record::A(address) => address.to_string(),
        Record::Aaaa(address) => address.to_string(),
        Record::Cname(name) | Record::Ns(name) | Record::Ptr(name) => dotted(name),
        Record::Mx(mx) => format!("{} {}", mx.preference, dotted(&mx.exchange)),
        Record::Soa(primary, serial) => format!("{} {serial}", dotted(primary)),
        Record::Srv { priority, weight, port, target } => format!("{priority} {weight} {port} {}", dotted(target)),
        Record::Txt(octets) => {
            let text: String = octets.iter().map(|octet| printable(*octet)).collect();
            txt_strings(&text).map(|string| format!("\"{string}\"")).collect::<Vec<_>>().join(" ")
        }
        Record::Tlsa(tlsa) => dane::presentation(tlsa).to_lowercase(),
    }
}

/// What a stranger put into a text must not reach the terminal.
fn printable(octet: u8) -> String {
    match octet {
        b'"' | b'\\' => format!("\\{}", char::from(octet)),
        0x20..=0x7e => char::from(octet).to_string(),
        _ => format!("\\{octet:03}"),
    }
}

/// Everything to publish, the host first.
pub fn wanted(facts: &Facts) -> Result<Vec<Section>, NameError> {
    let mut sections = vec![Section { title: format!("the host {}", facts.host), lines: host(facts)? }];
    for hosted in &facts.domains {
        sections.push(Section { title: format!("the domain {}", hosted.name), lines: domain(facts, hosted)? });
    }
    if !facts.further_keys.is_empty() {
        let lines = facts.further_keys.iter().map(dkim).collect();
        sections.push(Section { title: "keys of other domains".to_owned(), lines });
    }
    Ok(sections)
}

fn host(facts: &Facts) -> Result<Vec<Line>, NameError> {
    let mut lines = addresses(facts);
    if !facts.domains.iter().any(|domain| domain.name == facts.host) {
        // RFC 7208 §10.1.3: bounces have no other domain to be checked than that of HELO.
        lines.push(Line::text(&facts.host, host_spf(facts)));
    }
    for key in &facts.tls_keys {
        let line = Line::new(&tlsa_name(&facts.host)?, Record::Tlsa(tlsa_of(key)));
        lines.push(if key.is_next { line.noted("the next key; publish it before it is used") } else { line });
    }
    Ok(lines)
}

fn addresses(facts: &Facts) -> Vec<Line> {
    let known = facts.addresses.iter().map(|address| match *address {
        IpAddr::V4(v4) => Line::new(&facts.host, Record::A(v4)),
        IpAddr::V6(v6) => Line::new(&facts.host, Record::Aaaa(v6)),
    });
    let mut lines: Vec<Line> = known.collect();
    for (kind, words) in [
        (RecordType::A, "the IPv4 address of this host"),
        (
            RecordType::Aaaa,
            "the IPv6 address of this host; leave it out where it has none, or one without reverse name",
        ),
    ] {
        if !lines.iter().any(|line| line.kind() == kind) {
            lines.push(Line { name: facts.host.clone(), data: Data::Placeholder(kind, words), note: None });
        }
    }
    lines
}

fn domain(facts: &Facts, hosted: &Hosted) -> Result<Vec<Line>, NameError> {
    let Hosted { name, mail_name, keys } = hosted;
    let mx = Mx { preference: MX_PREFERENCE, exchange: facts.host.clone() };
    let mut lines = vec![Line::new(name, Record::Mx(mx))];
    if *mail_name != facts.host {
        // R3: accounts can move to another host without anybody changing a setting.
        lines.push(Line::new(mail_name, Record::Cname(facts.host.clone())));
    }
    let spf = Line::text(name, domain_spf(facts));
    lines.push(if facts.has_smarthost { spf.noted("add what the smarthost asks for") } else { spf });
    lines.extend(keys.iter().map(dkim));
    lines.push(Line::text(&name.under("_dmarc")?, format!("v=DMARC1; p=none; rua=mailto:postmaster@{name}")));
    lines.push(Line::text(&sts_name(name)?, sts_record(&facts.host)).noted(STS_NOTE));
    lines.push(Line::text(&rpt_name(name)?, format!("v=TLSRPTv1; rua=mailto:postmaster@{name}")));
    for service in &facts.services {
        lines.push(Line::new(&name.under(service.label)?, srv(facts, hosted, service)));
    }
    Ok(lines)
}

fn dkim(key: &DkimKey) -> Line {
    Line::text(&key.name, key.text.clone()).noted(format!("the key is {}", key.state))
}

/// The name of the TLSA records of a host's port 25 (RFC 7672 §2.2.3).
pub fn tlsa_name(host: &Name) -> Result<Name, NameError> {
    host.under("_25._tcp")
}

/// The name of the record that announces a domain's MTA-STS policy.
pub fn sts_name(domain: &Name) -> Result<Name, NameError> {
    mta_sts::record_name(domain).ok_or(NameError::TooLong)
}

/// The name of the record that says where reports about TLS go.
pub fn rpt_name(domain: &Name) -> Result<Name, NameError> {
    tls_rpt::record_name(domain).ok_or(NameError::TooLong)
}

/// The record `3 1 1` of a key.
pub fn tlsa_of(key: &TlsKey) -> Tlsa {
    Tlsa { usage: dane::END_ENTITY, selector: dane::PUBLIC_KEY, matching: dane::SHA_256, data: key.half.key_digest() }
}

/// The SPF record of a domain: its MX hosts send for it, and nobody else.
pub fn domain_spf(facts: &Facts) -> String {
    // Through a smarthost mail comes from addresses that are not ours to know.
    format!("v=spf1 mx{} {}", further_sources(facts), if facts.has_smarthost { "~all" } else { "-all" })
}

/// The SPF record of the host's own name, with which it says HELO (RFC 7208 §2.3).
pub fn host_spf(facts: &Facts) -> String {
    format!("v=spf1 a{} -all", further_sources(facts))
}

/// Addresses that mail leaves from and that are not those of the host name.
fn further_sources(facts: &Facts) -> String {
    let term = |source: IpAddr| format!(" {}:{source}", if source.is_ipv4() { "ip4" } else { "ip6" });
    let further = facts.sources.iter().filter(|source| !facts.addresses.contains(source));
    further.copied().map(term).collect()
}

/// The record that announces the policy. Its id follows from the policy, so that it changes when the policy does.
fn sts_record(host: &Name) -> String {
    let id: String =
        digest(&SHA256, policy(host).as_bytes()).as_ref().iter().take(10).map(|octet| format!("{octet:02x}")).collect();
    format!("v=STSv1; id={id};")
}

/// The policy that is proposed. It begins with `testing`, as DMARC does with `none`.
fn policy(host: &Name) -> String {
    let policy = Policy { mode: Mode::Testing, max_age: POLICY_MAX_AGE, mx: vec![MxPattern::Host(host.clone())] };
    policy.lines().into_iter().map(|line| line + "\r\n").collect()
}

/// The policy of a domain, and where it is served. `None` where its host's name would be too long.
pub fn policy_file(facts: &Facts, hosted: &Hosted) -> Option<PolicyFile> {
    let host = mta_sts::policy_host(&hosted.name)?;
    Some(PolicyFile { url: format!("https://{host}{POLICY_PATH}"), text: policy(&facts.host) })
}

/// Where a service is to be found.
fn srv(facts: &Facts, hosted: &Hosted, service: &Service) -> Record {
    Record::Srv {
        priority: service.priority,
        weight: 1,
        port: service.port,
        target: target(&facts.host, hosted, service),
    }
}

/// RFC 2782 wants no alias as target; so it is our host where the certificate has that name. Where it has the name for
/// clients only, that one is told although it is an alias (not): a certificate that does not fit stops clients, an alias
/// does not.
fn target(host: &Name, hosted: &Hosted, service: &Service) -> Name {
    let first = service.names.iter().find(|name| !name.contains('*')).and_then(|name| Name::parse(name).ok());
    let fitting = [host, &hosted.mail_name].into_iter().find(|name| service.covers(name)).cloned();
    fitting.or(first).unwrap_or_else(|| host.clone())
}

#[cfg(test)]
mod tests {
    use super::super::testing::facts;
    use super::*;
    use directory::signing::State;

    #[test]
    fn r1_r3_r4_records_as_zone_lines() {
        let sections = wanted(&facts()).unwrap();
        let lines: Vec<String> = sections.iter().flat_map(|section| &section.lines).map(Line::to_string).collect();
        let pins: Vec<String> = facts().tls_keys.iter().map(|key| presentation(&Record::Tlsa(tlsa_of(key)))).collect();
        let noted: Vec<String> = sections.iter().flat_map(|section| &section.lines).map(Line::told).collect();
        assert!(
            noted.iter().any(|line| line.starts_with("_mta-sts.") && line.contains("\"  ; only once its policy is"))
        );
        assert!(pins[0].starts_with("3 1 1 "), "R4");
        let id = sts_record(&facts().host);
        assert_eq!(
            lines,
            [
                "mx.example.net.  A 203.0.113.5",
                "; mx.example.net.  AAAA <the IPv6 address of this host; leave it out where it has none, or one without \
                 reverse name>",
                "mx.example.net.  TXT \"v=spf1 a -all\"",
                &format!("_25._tcp.mx.example.net.  TLSA {}", pins[0]),
                &format!("_25._tcp.mx.example.net.  TLSA {}", pins[1]),
                &format!("_25._tcp.mx.example.net.  TLSA {}", pins[2]),
                "example.net.  MX 10 mx.example.net.",
                "mail.example.net.  CNAME mx.example.net.",
                "example.net.  TXT \"v=spf1 mx -all\"",
                "s._domainkey.example.net.  TXT \"v=DKIM1; k=ed25519; p=AAAA\"",
                "_dmarc.example.net.  TXT \"v=DMARC1; p=none; rua=mailto:postmaster@example.net\"",
                &format!("_mta-sts.example.net.  TXT \"{id}\""),
                "_smtp._tls.example.net.  TXT \"v=TLSRPTv1; rua=mailto:postmaster@example.net\"",
                "_submissions._tcp.example.net.  SRV 0 1 465 mx.example.net.",
                "_imaps._tcp.example.net.  SRV 0 1 993 mail.example.net.",
            ]
        );
        assert!(id.len() < 50 && mta_sts::parse_record([id.as_bytes()]).is_some(), "{id}");
        let file = policy_file(&facts(), &facts().domains[0]).unwrap();
        assert_eq!(file.url, "https://mta-sts.example.net/.well-known/mta-sts.txt");
        assert!(Policy::parse(file.text.as_bytes()).unwrap().allows(&facts().host));
    }

    #[test]
    fn what_differs_from_house_to_house() {
        let mut facts = facts();
        facts.has_smarthost = true;
        facts.sources = vec!["198.51.100.7".parse().unwrap(), "203.0.113.5".parse().unwrap()];
        assert_eq!(domain_spf(&facts), "v=spf1 mx ip4:198.51.100.7 ~all");
        assert_eq!(host_spf(&facts), "v=spf1 a ip4:198.51.100.7 -all");
        facts.domains[0].mail_name = facts.host.clone();
        facts.services[0].names = vec!["*.example.org".into(), "host.example.org".into()];
        facts.domains[0].keys[0].state = State::Retired;
        let lines: Vec<Line> = wanted(&facts).unwrap().into_iter().flat_map(|section| section.lines).collect();
        assert!(!lines.iter().any(|line| line.kind() == RecordType::Cname), "R3: one name for both");
        assert!(lines.iter().any(|line| line.to_string().ends_with("SRV 0 1 465 host.example.org.")));
        assert!(lines.iter().any(|line| line.note.as_deref() == Some("the key is retired")));
    }

    #[test]
    fn v14_texts_of_strangers_are_printable() {
        let text = presentation(&Record::Txt(b"a\"b\\\x1b[2J\xff".to_vec()));
        assert_eq!(text, "\"a\\\"b\\\\\\027[2J\\255\"");
    }
}
