//! The report itself: the JSON of RFC 8460 §4.4, its compressed form and the name of its file.

use super::tally::PolicyTally;
use super::{AppliedPolicy, FailedSession};
use dns::Name;
use flate2::Compression;
use flate2::write::GzEncoder;
use mail::Address;
use mail::time::Civil;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use std::io::Write as _;

/// Octets of an id: with what we put before it, it still makes a boundary (RFC 2046 §5.1.1).
pub const ID_OCTETS_MAX: usize = 60;

/// What a report says besides its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportHead {
    /// The organization that reports.
    pub organization: String,
    /// Where questions about the report go; its domain is the submitter.
    pub contact: Address,
    /// The domain that is reported about.
    pub domain: Name,
    /// Unlike that of any other report of this submitter. Only letters, digits, `.`, `-` and `_` of it are used, and no
    /// more than [`ID_OCTETS_MAX`] of them.
    pub id: String,
    /// Start of the time reported about, in seconds since 1970. RFC 8460 §4.1 wants days, from 00:00 UTC.
    pub begin: i64,
    /// Its last second.
    pub end: i64,
}

/// A report about one domain.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What it says besides its numbers.
    pub head: &'a ReportHead,
    /// The numbers, by policy.
    pub policies: &'a [PolicyTally],
}

impl ReportHead {
    /// The id as it is written everywhere.
    pub fn id(&self) -> String {
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        self.id.chars().filter(is_plain).take(ID_OCTETS_MAX).collect()
    }

    /// The name of the report's file (RFC 8460 §5.1), with the ending of the compressed form.
    pub fn file_name(&self) -> String {
        // RFC 8460 §5.1 has room for letters and digits only in the part that tells reports of one day apart.
        let id: String = self.id().chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{}!{}!{}!{}!{id}.json.gz", self.contact.domain, self.domain, self.begin, self.end)
    }
}

impl Report<'_> {
    /// The JSON.
    pub fn to_json(&self) -> Vec<u8> {
        // Nothing in it can fail: all keys are text, all numbers whole.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The JSON, compressed (RFC 8460 §5.2).
    pub fn to_gzip(&self) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Writing to memory does not fail.
        let _ = encoder.write_all(&self.to_json());
        encoder.finish().unwrap_or_default()
    }
}

impl Serialize for Report<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("organization-name", &self.head.organization)?;
        map.serialize_entry("date-range", &DateRange(self.head))?;
        map.serialize_entry("contact-info", &self.head.contact.to_string())?;
        map.serialize_entry("report-id", &self.head.id())?;
        map.serialize_entry("policies", &Policies(self.policies))?;
        map.end()
    }
}

struct DateRange<'a>(&'a ReportHead);

impl Serialize for DateRange<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(2))?;
        map.serialize_entry("start-datetime", &date_time(self.0.begin))?;
        map.serialize_entry("end-datetime", &date_time(self.0.end))?;
        map.end()
    }
}

/// RFC 3339 §5.6.
fn date_time(seconds: i64) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::from_unix(seconds, 0);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

struct Policies<'a>(&'a [PolicyTally]);

impl Serialize for Policies<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(self.0.len()))?;
        for tally in self.0 {
            list.serialize_element(&OnePolicy(tally))?;
        }
        list.end()
    }
}

struct OnePolicy<'a>(&'a PolicyTally);

impl Serialize for OnePolicy<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("policy", &PolicyText(&self.0.policy))?;
        map.serialize_entry("summary", &Summary(self.0))?;
        let details: Vec<Detail<'_>> = self.0.details.iter().map(|(session, count)| Detail(session, *count)).collect();
        map.serialize_entry("failure-details", &details)?;
        map.end()
    }
}

struct PolicyText<'a>(&'a AppliedPolicy);

impl Serialize for PolicyText<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let policy = self.0;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("policy-type", &policy.kind)?;
        if !policy.text.is_empty() {
            map.serialize_entry("policy-string", &policy.text)?;
        }
        map.serialize_entry("policy-domain", &policy.domain)?;
        // RFC 8460 §4.4: an array, and for MTA-STS only.
        if !policy.mx_hosts.is_empty() {
            map.serialize_entry("mx-host", &policy.mx_hosts)?;
        }
        map.end()
    }
}

struct Summary<'a>(&'a PolicyTally);

impl Serialize for Summary<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(2))?;
        map.serialize_entry("total-successful-session-count", &self.0.successes)?;
        map.serialize_entry("total-failure-session-count", &self.0.failures)?;
        map.end()
    }
}

struct Detail<'a>(&'a FailedSession, u64);

impl Serialize for Detail<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let session = self.0;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("result-type", &session.result)?;
        if let Some(address) = session.sending_ip {
            map.serialize_entry("sending-mta-ip", &address)?;
        }
        if let Some(host) = &session.receiving_host {
            map.serialize_entry("receiving-mx-hostname", host)?;
        }
        if let Some(helo) = &session.receiving_helo {
            map.serialize_entry("receiving-mx-helo", helo)?;
        }
        if let Some(address) = session.receiving_ip {
            map.serialize_entry("receiving-ip", &address)?;
        }
        map.serialize_entry("failed-session-count", &self.1)?;
        if let Some(reason) = &session.reason {
            map.serialize_entry("failure-reason-code", reason)?;
        }
        map.end()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::mta_sts::Policy;
    use crate::tls_rpt::ResultType;
    use crate::tls_rpt::tally::Tally;

    pub(crate) fn head() -> ReportHead {
        ReportHead {
            organization: "Company-X".to_owned(),
            contact: Address::parse("sts-reporting@company-x.example").unwrap(),
            domain: Name::parse("company-y.example").unwrap(),
            id: "5065427c-23d3-47ca-b6e0-946ea0e8c4be".to_owned(),
            begin: 1_459_468_800,
            end: 1_459_468_800 + 86_399,
        }
    }

    pub(crate) fn tally() -> Tally {
        let domain = Name::parse("company-y.example").unwrap();
        let text = b"version: STSv1\nmode: testing\nmx: *.mail.company-y.example\nmax_age: 86400\n";
        let policy = AppliedPolicy::sts(&domain, &Policy::parse(text).unwrap());
        let mut tally = Tally::new();
        for _ in 0..5 {
            tally.succeeded(&domain, &policy);
        }
        let expired = FailedSession {
            sending_ip: Some("2001:db8:abcd:12::1".parse().unwrap()),
            receiving_host: Some("mx1.mail.company-y.example".to_owned()),
            ..FailedSession::new(ResultType::CertificateExpired, "")
        };
        let other = FailedSession {
            sending_ip: Some("198.51.100.62".parse().unwrap()),
            receiving_host: Some("mx-backup.mail.company-y.example".to_owned()),
            receiving_helo: Some("mx.company-y.example".to_owned()),
            receiving_ip: Some("203.0.113.58".parse().unwrap()),
            ..FailedSession::new(ResultType::ValidationFailure, "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED")
        };
        tally.failed(&domain, &policy, expired.clone());
        tally.failed(&domain, &policy, expired);
        tally.failed(&domain, &policy, other);
        tally
    }

    /// RFC 8460 §4.4, with the values of its Appendix B.
    #[test]
    fn the_report_follows_the_schema() {
        let (head, tally) = (head(), tally());
        let report = Report { head: &head, policies: tally.of("company-y.example") };
        let expected = concat!(
            r#"{"organization-name":"Company-X","#,
            r#""date-range":{"start-datetime":"2016-04-01T00:00:00Z","end-datetime":"2016-04-01T23:59:59Z"},"#,
            r#""contact-info":"sts-reporting@company-x.example","#,
            r#""report-id":"5065427c-23d3-47ca-b6e0-946ea0e8c4be","policies":[{"#,
            r#""policy":{"policy-type":"sts","policy-string":["version: STSv1","mode: testing","#,
            r#""mx: *.mail.company-y.example","max_age: 86400"],"policy-domain":"company-y.example","#,
            r#""mx-host":["*.mail.company-y.example"]},"#,
            r#""summary":{"total-successful-session-count":5,"total-failure-session-count":3},"#,
            r#""failure-details":[{"result-type":"certificate-expired","sending-mta-ip":"2001:db8:abcd:12::1","#,
            r#""receiving-mx-hostname":"mx1.mail.company-y.example","failed-session-count":2},"#,
            r#"{"result-type":"validation-failure","sending-mta-ip":"198.51.100.62","#,
            r#""receiving-mx-hostname":"mx-backup.mail.company-y.example","receiving-mx-helo":"mx.company-y.example","#,
            r#""receiving-ip":"203.0.113.58","failed-session-count":1,"#,
            r#""failure-reason-code":"X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"}]}]}"#,
        );
        assert_eq!(String::from_utf8(report.to_json()).unwrap(), expected);
    }

    #[test]
    fn a_policy_that_is_none_has_no_text() {
        let domain = Name::parse("example.net").unwrap();
        let mut tally = Tally::new();
        tally.succeeded(&domain, &AppliedPolicy::none(&domain));
        let head = head();
        let json = String::from_utf8(Report { head: &head, policies: tally.of("example.net") }.to_json()).unwrap();
        assert!(json.contains(r#""policy":{"policy-type":"no-policy-found","policy-domain":"example.net"}"#), "{json}");
        assert!(json.ends_with(r#""failure-details":[]}]}"#), "{json}");
    }

    #[test]
    fn v13_an_id_is_made_of_plain_characters() {
        let head = ReportHead { id: "a\r\nb: <\u{e4}@c>.1-_".to_owned(), ..head() };
        assert_eq!(head.id(), "abc.1-_");
        assert!(head.file_name().ends_with("!abc1.json.gz"));
        assert_eq!(ReportHead { id: "a".repeat(100), ..head }.id().len(), ID_OCTETS_MAX);
    }

    /// RFC 8460 §5.1.
    #[test]
    fn the_file_has_a_telling_name() {
        assert_eq!(
            head().file_name(),
            "company-x.example!company-y.example!1459468800!1459555199!5065427c23d347cab6e0946ea0e8c4be.json.gz"
        );
    }
}
