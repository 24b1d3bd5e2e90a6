//! Reports about how protected the way to a domain was (TLS-RPT, RFC 8460): who wants them, what they say, their forms.
//!
//! [`tally`] gathers the sessions of a day, [`report`] makes the JSON of them, [`message`] the mail that carries it, and
//! [`received`] reads what others report about us. Fetching, sending and signing are for those who touch the network.

pub mod message;
pub mod received;
pub mod report;
pub mod tally;

use crate::dane;
use crate::fields;
use crate::mta_sts::{MxPattern, Policy};
use dns::{Name, Tlsa};
use mail::Address;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// Destinations of a record that are looked at.
pub const DESTINATIONS_MAX: usize = 10;
/// Longest destination, in octets; no standard sets a limit.
pub const DESTINATION_OCTETS_MAX: usize = 2_000;
/// Longest text of a reason in a report, in octets; no standard sets a limit, and one line is enough.
pub const REASON_OCTETS_MAX: usize = 200;
/// Records of a TLSA policy that a report repeats.
const POLICY_RECORDS_MAX: usize = 32;
/// Longest data of a record that a report repeats, in octets: a certificate in full.
const POLICY_RECORD_OCTETS_MAX: usize = 4_096;
/// Patterns of hosts of an MTA-STS policy that a report repeats.
const POLICY_HOSTS_MAX: usize = 32;

/// The name of the record in which a domain asks for reports (RFC 8460 §3). `None` when it would be too long.
pub fn record_name(domain: &Name) -> Option<Name> {
    domain.under("_smtp._tls").ok()
}

/// Where reports are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// By mail.
    Mail(Address),
    /// By POST to this `https:` address, a printable text without spaces.
    Https(String),
}

/// Reads the TXT records of [`record_name`]: where the domain wants its reports. `None` when it wants none, which is also
/// what several records, a malformed one, and one without a destination that we know mean.
pub fn parse_record<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<Destination>> {
    let fields = fields::single(texts, "v=TLSRPTv1")?;
    let destinations: Vec<Destination> = fields::first(&fields, "rua")?
        .split(',')
        .take(DESTINATIONS_MAX)
        .filter_map(|uri| destination(uri.trim_matches([' ', '\t'])))
        .collect();
    (!destinations.is_empty()).then_some(destinations)
}

fn destination(uri: &str) -> Option<Destination> {
    if uri.len() > DESTINATION_OCTETS_MAX || !uri.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let (scheme, rest) = uri.split_once(':')?;
    if scheme.eq_ignore_ascii_case("mailto") {
        // RFC 6068 §2: what follows a question mark are header fields, and none of them is ours to send.
        let address = percent_decoded(rest.split('?').next()?)?;
        return Address::parse(&address).ok().map(Destination::Mail);
    }
    let has_host =
        rest.strip_prefix("//").is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#', ':']));
    (scheme.eq_ignore_ascii_case("https") && has_host).then(|| Destination::Https(format!("https:{rest}")))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            octets.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else { return None };
        let digit = |b: u8| char::from(b).to_digit(16);
        octets.push((digit(*high)? * 16 + digit(*low)?) as u8);
        rest = after;
    }
    String::from_utf8(octets).ok()
}

/// What went wrong with a session, or would have (RFC 8460 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultType {
    /// The host does not offer STARTTLS.
    StarttlsNotSupported,
    /// The certificate carries none of the names, or the host is not one that the policy allows.
    CertificateHostMismatch,
    /// The certificate, or one above it, is out of date.
    CertificateExpired,
    /// Nobody trusted vouches for the certificate.
    CertificateNotTrusted,
    /// Anything else.
    ValidationFailure,
    /// No TLSA record fits, or none is usable.
    TlsaInvalid,
    /// DNSSEC says that the answer is forged or broken.
    DnssecInvalid,
    /// We demand TLSA records, and there are none that are proved.
    DaneRequired,
    /// The policy could not be fetched.
    StsPolicyFetchError,
    /// What was fetched is no policy.
    StsPolicyInvalid,
    /// The policy host's own certificate is not good.
    StsWebpkiInvalid,
}

impl ResultType {
    /// All of them.
    pub const ALL: [ResultType; 11] = [
        ResultType::StarttlsNotSupported,
        ResultType::CertificateHostMismatch,
        ResultType::CertificateExpired,
        ResultType::CertificateNotTrusted,
        ResultType::ValidationFailure,
        ResultType::TlsaInvalid,
        ResultType::DnssecInvalid,
        ResultType::DaneRequired,
        ResultType::StsPolicyFetchError,
        ResultType::StsPolicyInvalid,
        ResultType::StsWebpkiInvalid,
    ];

    /// The word of the report.
    pub fn as_str(self) -> &'static str {
        match self {
            ResultType::StarttlsNotSupported => "starttls-not-supported",
            ResultType::CertificateHostMismatch => "certificate-host-mismatch",
            ResultType::CertificateExpired => "certificate-expired",
            ResultType::CertificateNotTrusted => "certificate-not-trusted",
            ResultType::ValidationFailure => "validation-failure",
            ResultType::TlsaInvalid => "tlsa-invalid",
            ResultType::DnssecInvalid => "dnssec-invalid",
            ResultType::DaneRequired => "dane-required",
            ResultType::StsPolicyFetchError => "sts-policy-fetch-error",
            ResultType::StsPolicyInvalid => "sts-policy-invalid",
            ResultType::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }
}

impl fmt::Display for ResultType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Kind of the policy that was applied (RFC 8460 §4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PolicyKind {
    /// DANE.
    #[serde(rename = "tlsa")]
    Tlsa,
    /// MTA-STS.
    #[serde(rename = "sts")]
    Sts,
    /// Neither.
    #[serde(rename = "no-policy-found")]
    None,
}

/// The policy that a session was under, as a report describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AppliedPolicy {
    /// Its kind.
    pub kind: PolicyKind,
    /// The domain that it is for: the TLSA base domain for DANE (RFC 8460 §1.1).
    pub domain: String,
    /// Its text: a TLSA record each, or a line of the MTA-STS policy each (RFC 8460 §4.5).
    pub text: Vec<String>,
    /// The patterns of MX hosts of an MTA-STS policy.
    pub mx_hosts: Vec<String>,
}

impl AppliedPolicy {
    /// DANE with these records, all that were found.
    pub fn tlsa(base: &Name, records: &[Tlsa]) -> AppliedPolicy {
        let repeated = records.iter().filter(|record| record.data.len() <= POLICY_RECORD_OCTETS_MAX);
        let text = repeated.take(POLICY_RECORDS_MAX).map(dane::presentation).collect();
        AppliedPolicy { kind: PolicyKind::Tlsa, domain: base.to_string(), text, mx_hosts: Vec::new() }
    }

    /// MTA-STS, with the first of the hosts that the policy allows.
    pub fn sts(domain: &Name, policy: &Policy) -> AppliedPolicy {
        let mx: Vec<MxPattern> = policy.mx.iter().take(POLICY_HOSTS_MAX).cloned().collect();
        let mx_hosts = mx.iter().map(MxPattern::to_string).collect();
        let text = Policy { mx, ..*policy }.lines();
        AppliedPolicy { kind: PolicyKind::Sts, domain: domain.to_string(), text, mx_hosts }
    }

    /// MTA-STS that was announced and could not be had.
    pub fn unknown_sts(domain: &Name) -> AppliedPolicy {
        AppliedPolicy { kind: PolicyKind::Sts, domain: domain.to_string(), text: Vec::new(), mx_hosts: Vec::new() }
    }

    /// No policy.
    pub fn none(domain: &Name) -> AppliedPolicy {
        AppliedPolicy { kind: PolicyKind::None, domain: domain.to_string(), text: Vec::new(), mx_hosts: Vec::new() }
    }
}

/// What is told of a session that failed (RFC 8460 §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FailedSession {
    /// What went wrong.
    pub result: ResultType,
    /// Our address.
    pub sending_ip: Option<IpAddr>,
    /// The MX host.
    pub receiving_host: Option<String>,
    /// Its name in its greeting.
    pub receiving_helo: Option<String>,
    /// Its address.
    pub receiving_ip: Option<IpAddr>,
    /// More about the cause: one line without control characters, at most [`REASON_OCTETS_MAX`] octets.
    pub reason: Option<String>,
}

impl FailedSession {
    /// A failure of which only the cause is known.
    pub fn new(result: ResultType, reason: &str) -> FailedSession {
        let mut reason = mail::text::one_line(reason);
        let end = (0..=REASON_OCTETS_MAX).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        reason.truncate(end);
        let reason = Some(reason).filter(|reason| !reason.is_empty());
        let none = FailedSession {
            result,
            sending_ip: None,
            receiving_host: None,
            receiving_helo: None,
            receiving_ip: None,
            reason: None,
        };
        FailedSession { reason, ..none }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(text: &str) -> Destination {
        Destination::Mail(Address::parse(text).unwrap())
    }

    #[test]
    fn records_name_destinations() {
        let parse = |text: &'static str| parse_record([text.as_bytes()]);
        assert_eq!(parse("v=TLSRPTv1;rua=mailto:reports@example.com"), Some(vec![mail("reports@example.com")]));
        let https = Destination::Https("https://reporting.example.com/v1/tlsrpt?a=b".to_owned());
        assert_eq!(
            parse("v=TLSRPTv1 ; rua=HTTPS://reporting.example.com/v1/tlsrpt?a=b\t,mailto:a@example.com?subject=x ;"),
            Some(vec![https.clone(), mail("a@example.com")])
        );
        assert_eq!(parse("v=TLSRPTv1; rua=ftp://x, https://reporting.example.com/v1/tlsrpt?a=b"), Some(vec![https]));
        assert_eq!(parse("v=TLSRPTv1; rua=mailto:%61@example.com; x=y"), Some(vec![mail("a@example.com")]));
        for text in [
            "v=TLSRPTv1",
            "v=TLSRPTv1;",
            "v=TLSRPTv1; x=y",
            "v=TLSRPTv1; rua=",
            "v=TLSRPTv1; rua=reports@example.com",
            "v=TLSRPTv1; rua=mailto:",
            "v=TLSRPTv1; rua=mailto:a%0d%0ab@example.com",
            "v=TLSRPTv1; rua=mailto:a%2Cb@example.com",
            "v=TLSRPTv1; rua=mailto:a%4@example.com%",
            "v=TLSRPTv1; rua=mailto:%ff@example.com",
            "v=TLSRPTv1; rua=http://example.com/",
            "v=TLSRPTv1; rua=https:example.com",
            "v=TLSRPTv1; rua=https:///x",
            "v=TLSRPTv2; rua=mailto:a@example.com",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let twice = ["v=TLSRPTv1; rua=mailto:a@example.com"; 2];
        assert_eq!(parse_record(twice.map(str::as_bytes)), None);
        let many = format!("v=TLSRPTv1; rua={}", vec!["mailto:a@example.com"; 1_000].join(","));
        assert_eq!(parse_record([many.as_bytes()]).unwrap().len(), DESTINATIONS_MAX);
    }

    #[test]
    fn result_types_have_their_words() {
        for result in ResultType::ALL {
            assert_eq!(serde_json::to_string(&result).unwrap(), format!("\"{result}\""));
        }
    }

    #[test]
    fn policies_as_reports_repeat_them() {
        let name = Name::parse("mx.example.net").unwrap();
        let record = |octets: usize| Tlsa { usage: 3, selector: 0, matching: 0, data: vec![0x1f; octets] };
        let applied = AppliedPolicy::tlsa(&name, &[record(2), record(5_000)]);
        assert_eq!(applied.text, ["3 0 0 1F1F"]);
        assert_eq!(AppliedPolicy::tlsa(&name, &vec![record(1); 100]).text.len(), POLICY_RECORDS_MAX);
        let text = b"version: STSv1\nmode: testing\nmx: *.example.net\nmax_age: 5\n";
        let applied = AppliedPolicy::sts(&name, &Policy::parse(text).unwrap());
        assert_eq!(applied.text, ["version: STSv1", "mode: testing", "mx: *.example.net", "max_age: 5"]);
        assert_eq!(applied.mx_hosts, ["*.example.net"]);
        let text = format!("version: STSv1\nmode: testing\n{}max_age: 5\n", "mx: a.example.net\n".repeat(100));
        let applied = AppliedPolicy::sts(&name, &Policy::parse(text.as_bytes()).unwrap());
        assert_eq!((applied.text.len(), applied.mx_hosts.len()), (3 + POLICY_HOSTS_MAX, POLICY_HOSTS_MAX));
        assert_eq!(applied.text.last().map(String::as_str), Some("max_age: 5"));
    }

    #[test]
    fn v13_a_reason_is_one_short_line() {
        let reason = |text: &str| FailedSession::new(ResultType::ValidationFailure, text).reason;
        assert_eq!(reason("a\r\nb").as_deref(), Some("a  b"));
        assert_eq!(reason(""), None);
        assert_eq!(reason(&"\u{e4}".repeat(1_000)).unwrap().len(), REASON_OCTETS_MAX);
    }
}
