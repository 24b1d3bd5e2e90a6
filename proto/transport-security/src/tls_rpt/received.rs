//! Reports that others send about us, read with distrust: anybody can send one (V38).

use flate2::read::GzDecoder;
use mail::time::Civil;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de};
use std::fmt;
use std::io::Read as _;
use std::marker::PhantomData;

/// Largest report taken, compressed or not, in octets. RFC 8460 §5.2: a commonly observed limit.
pub const REPORT_OCTETS_MAX: usize = 10 * 1024 * 1024;
/// How many times larger than its compressed form a report may be, beyond the first MiB. DEFLATE can do a thousand; the
/// repetitive text of a report compresses to a twentieth or so.
pub const COMPRESSION_RATIO_MAX: usize = 200;
const RATIO_FREE_OCTETS: usize = 1024 * 1024;
/// Policies of a report that are kept.
pub const POLICIES_MAX: usize = 200;
/// Kinds of failures of a policy that are kept.
pub const FAILURES_MAX: usize = 500;
/// Lines of a policy, and patterns of hosts, that are kept.
pub const LINES_MAX: usize = 100;

/// What a report says. All texts are the reporter's own, of any length and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedReport {
    /// Who reports.
    pub organization: String,
    /// Whom to ask.
    pub contact: String,
    /// The report's id.
    pub id: String,
    /// Start and end of the time reported about, in seconds since 1970; `None` where it cannot be read.
    pub range: (Option<i64>, Option<i64>),
    /// What it says of each policy, of the first [`POLICIES_MAX`].
    pub policies: Vec<ReceivedPolicy>,
}

/// What a report says of the sessions under one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPolicy {
    /// `tlsa`, `sts` or `no-policy-found`; others may come.
    pub kind: String,
    /// The domain the policy is for.
    pub domain: String,
    /// The policy's text, a line each.
    pub text: Vec<String>,
    /// The hosts that an MTA-STS policy allows.
    pub mx_hosts: Vec<String>,
    /// Sessions that went well.
    pub successes: u64,
    /// Sessions that failed.
    pub failures: u64,
    /// Why, for the first [`FAILURES_MAX`] kinds.
    pub details: Vec<ReceivedFailure>,
}

/// Sessions that failed in one way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReceivedFailure {
    /// One of RFC 8460 §4.3; others may come.
    #[serde(rename = "result-type")]
    pub result: String,
    /// How many.
    #[serde(rename = "failed-session-count", default)]
    pub sessions: u64,
    /// The reporter's address.
    #[serde(rename = "sending-mta-ip", default)]
    pub sending_ip: Option<String>,
    /// Our host.
    #[serde(rename = "receiving-mx-hostname", default)]
    pub receiving_host: Option<String>,
    /// Our host's name in its greeting.
    #[serde(rename = "receiving-mx-helo", default)]
    pub receiving_helo: Option<String>,
    /// Our address.
    #[serde(rename = "receiving-ip", default)]
    pub receiving_ip: Option<String>,
    /// More about the cause.
    #[serde(rename = "failure-reason-code", default)]
    pub reason: Option<String>,
    /// Where there is still more.
    #[serde(rename = "additional-information", default)]
    pub additional: Option<String>,
}

/// Why octets are no report that we take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiveError {
    /// More than [`REPORT_OCTETS_MAX`], or compressed beyond [`COMPRESSION_RATIO_MAX`].
    TooLarge,
    /// The compressed form is broken.
    Compression,
    /// Not the JSON of a report; where and why, in words.
    Json(String),
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReceiveError::TooLarge => write!(f, "the report is larger than {REPORT_OCTETS_MAX} octets"),
            ReceiveError::Compression => f.write_str("the report's compression is broken"),
            ReceiveError::Json(cause) => write!(f, "no TLS report: {cause}"),
        }
    }
}

impl std::error::Error for ReceiveError {}

/// Reads a report, compressed or not, as its octets show.
pub fn parse(octets: &[u8]) -> Result<ReceivedReport, ReceiveError> {
    if octets.len() > REPORT_OCTETS_MAX {
        return Err(ReceiveError::TooLarge);
    }
    if octets.starts_with(GZIP_MAGIC) { read_json(&decompressed(octets)?) } else { read_json(octets) }
}

fn decompressed(octets: &[u8]) -> Result<Vec<u8>, ReceiveError> {
    let limit = REPORT_OCTETS_MAX.min(RATIO_FREE_OCTETS + octets.len() * COMPRESSION_RATIO_MAX);
    let mut json = Vec::new();
    let mut reader = GzDecoder::new(octets).take(limit as u64 + 1);
    reader.read_to_end(&mut json).map_err(|_| ReceiveError::Compression)?;
    if json.len() > limit { Err(ReceiveError::TooLarge) } else { Ok(json) }
}

fn read_json(octets: &[u8]) -> Result<ReceivedReport, ReceiveError> {
    // The parser stops at 128 levels of nesting, and lists stop growing at their limits.
    let wire: WireReport = serde_json::from_slice(octets).map_err(|error| {
        let cause = mail::text::one_line(&error.to_string());
        ReceiveError::Json(cause)
    })?;
    let range = (date_time(&wire.range.start), date_time(&wire.range.end));
    let policies = wire.policies.into_iter().map(ReceivedPolicy::from).collect();
    Ok(ReceivedReport { organization: wire.organization, contact: wire.contact, id: wire.id, range, policies })
}

#[derive(Deserialize)]
struct WireReport {
    #[serde(rename = "organization-name", default)]
    organization: String,
    #[serde(rename = "date-range")]
    range: WireRange,
    #[serde(rename = "contact-info", default)]
    contact: String,
    #[serde(rename = "report-id", default)]
    id: String,
    #[serde(deserialize_with = "first_of::<_, _, POLICIES_MAX>")]
    policies: Vec<WirePolicy>,
}

#[derive(Deserialize)]
struct WireRange {
    #[serde(rename = "start-datetime")]
    start: String,
    #[serde(rename = "end-datetime")]
    end: String,
}

#[derive(Deserialize)]
struct WirePolicy {
    policy: WirePolicyText,
    summary: WireSummary,
    #[serde(rename = "failure-details", default, deserialize_with = "first_of::<_, _, FAILURES_MAX>")]
    details: Vec<ReceivedFailure>,
}

#[derive(Deserialize)]
struct WirePolicyText {
    #[serde(rename = "policy-type")]
    kind: String,
    #[serde(rename = "policy-domain", default)]
    domain: String,
    #[serde(rename = "policy-string", default, deserialize_with = "first_of::<_, _, LINES_MAX>")]
    text: Vec<String>,
    // RFC 8460 §4.4 says a list, its own example is a text; both occur.
    #[serde(rename = "mx-host", default, deserialize_with = "first_of::<_, _, LINES_MAX>")]
    mx_hosts: Vec<String>,
}

#[derive(Deserialize)]
struct WireSummary {
    #[serde(rename = "total-successful-session-count", default)]
    successes: u64,
    #[serde(rename = "total-failure-session-count", default)]
    failures: u64,
}

impl From<WirePolicy> for ReceivedPolicy {
    fn from(wire: WirePolicy) -> ReceivedPolicy {
        ReceivedPolicy {
            kind: wire.policy.kind,
            domain: wire.policy.domain,
            text: wire.policy.text,
            mx_hosts: wire.policy.mx_hosts,
            successes: wire.summary.successes,
            failures: wire.summary.failures,
            details: wire.details,
        }
    }
}

/// A list of which the first `N` items are kept; a single text in its place is a list of one, and `null` is none.
fn first_of<'de, D: Deserializer<'de>, T: Deserialize<'de>, const N: usize>(from: D) -> Result<Vec<T>, D::Error> {
    struct First<T, const N: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for First<T, N> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut kept = Vec::new();
            while kept.len() < N {
                match list.next_element()? {
                    Some(item) => kept.push(item),
                    None => return Ok(kept),
                }
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(kept)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            T::deserialize(de::value::StrDeserializer::new(text)).map(|item| vec![item])
        }

        fn visit_unit<E: de::Error>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }
    }

    from.deserialize_any(First::<T, N>(PhantomData))
}

/// RFC 3339 §5.6, in seconds since 1970; fractions of a second are dropped.
fn date_time(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let number = |text: &str, digits: usize| {
        let is_number = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse::<i64>().ok())?
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let (clock, zone) = time.split_at(time.find(['Z', 'z', '+', '-'])?);
    let mut parts = clock.split('.').next()?.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let zone_minutes = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign, offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let minutes = number(hours, 2)? * 60 + number(minutes, 2)?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    let within = |value: i64, range: std::ops::RangeInclusive<i64>| range.contains(&value).then_some(value as u8);
    let civil = Civil {
        year: number(year, 4)?,
        month: within(number(month, 2)?, 1..=12)?,
        day: within(number(day, 2)?, 1..=31)?,
        hour: within(number(hour, 2)?, 0..=24)?,
        minute: within(number(minute, 2)?, 0..=59)?,
        second: within(number(second, 2)?, 0..=60)?,
        zone_minutes: i16::try_from(zone_minutes).ok()?,
    };
    // A day that the month does not have is read as one of the next month.
    Some(civil.to_unix())
}

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls_rpt::report::Report;
    use crate::tls_rpt::report::tests::{head, tally};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn gzip(octets: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(octets).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_we_write_we_read() {
        let (head, tally) = (head(), tally());
        let report = Report { head: &head, policies: tally.of("company-y.example") };
        let plain = parse(&report.to_json()).unwrap();
        assert_eq!(parse(&report.to_gzip()).unwrap(), plain);
        assert_eq!((plain.organization.as_str(), plain.id.as_str()), ("Company-X", head.id.as_str()));
        assert_eq!(plain.range, (Some(head.begin), Some(head.end)));
        let policy = &plain.policies[0];
        assert_eq!((policy.kind.as_str(), policy.successes, policy.failures), ("sts", 5, 3));
        assert_eq!(policy.mx_hosts, ["*.mail.company-y.example"]);
        assert_eq!(policy.details[0].result, "certificate-expired");
        assert_eq!(policy.details[1].receiving_ip.as_deref(), Some("203.0.113.58"));
    }

    /// RFC 8460 Appendix B: the text of the standard itself, with a text for the hosts.
    #[test]
    fn the_example_of_the_standard() {
        let report = parse(EXAMPLE.as_bytes()).unwrap();
        let policy = &report.policies[0];
        assert_eq!((policy.successes, policy.failures, policy.details.len()), (5326, 303, 3));
        assert_eq!(policy.mx_hosts, ["*.mail.company-y.example"]);
        assert_eq!(policy.details.iter().map(|failure| failure.sessions).sum::<u64>(), 303);
    }

    #[test]
    fn what_reporters_leave_out_or_add() {
        let text = r#"{"x":[{}],"date-range":{"start-datetime":"?","end-datetime":"2016-04-01T24:00:00+01:00"},
            "policies":[{"policy":{"policy-type":"no-policy-found","mx-host":null},"summary":{},"failure-details":null}]}"#;
        let report = parse(text.as_bytes()).unwrap();
        assert_eq!(report.range, (None, Some(1_459_468_800 + 23 * 3_600)));
        assert!(report.policies[0].details.is_empty() && report.policies[0].mx_hosts.is_empty());
        for text in ["", "{}", "[]", "null", "{\"date-range\":{},\"policies\":[]}", "\u{1f}\u{8b}"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(parse(&[0x1f, 0x8b, 8, 0]), Err(ReceiveError::Compression));
        let cut = gzip(EXAMPLE.as_bytes());
        assert_eq!(parse(&cut[..cut.len() - 9]), Err(ReceiveError::Compression));
    }

    #[test]
    fn v38_bombs_do_not_go_off() {
        let bomb = gzip(&vec![b' '; 20 * 1024 * 1024]);
        assert!(bomb.len() < 32 * 1024);
        assert_eq!(parse(&bomb), Err(ReceiveError::TooLarge));
        let dense = gzip(&vec![b' '; 9 * 1024 * 1024]);
        assert_eq!(parse(&dense), Err(ReceiveError::TooLarge), "within the size, beyond the ratio");
        assert_eq!(parse(&gzip(&bomb)), Err(ReceiveError::Json("expected value at line 1 column 1".to_owned())));
        assert_eq!(parse(&vec![b' '; REPORT_OCTETS_MAX + 1]), Err(ReceiveError::TooLarge));
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        assert!(matches!(parse(deep.as_bytes()), Err(ReceiveError::Json(_))));
    }

    #[test]
    fn lists_stop_growing() {
        let policy = r#"{"policy":{"policy-type":"sts","policy-string":["a","b"]},"summary":{}}"#;
        let many = EXAMPLE
            .replace("[{\n       \"policy\"", &format!("[{}{{\n       \"policy\"", format!("{policy},").repeat(1_000)));
        assert_ne!(many, EXAMPLE);
        assert_eq!(parse(many.as_bytes()).unwrap().policies.len(), POLICIES_MAX);
        let lines = EXAMPLE.replace("\"mode: testing\"", &vec!["\"x\""; 10_000].join(","));
        assert_eq!(parse(lines.as_bytes()).unwrap().policies[0].text.len(), LINES_MAX);
    }

    #[test]
    fn dates_of_reports() {
        assert_eq!(date_time("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(date_time("1970-01-01t01:00:00.999+01:00"), Some(0));
        assert_eq!(date_time("1969-12-31 23:00:00-01:00"), Some(0));
        for text in ["", "1970", "1970-01-01", "1970-01-01T00:00:00", "1970-1-1T00:00:00Z", "1970-13-01T00:00:00Z"] {
            assert_eq!(date_time(text), None, "{text}");
        }
        for text in ["1970-01-01T00:00Z", "1970-01-01T00:00:00+1", "\u{e4}T\u{e4}Z", "1970-01-01T00:00:00Z1"] {
            assert_eq!(date_time(text), None, "{text}");
        }
    }

    const EXAMPLE: &str = r#"{
     "organization-name": "Company-X",
     "date-range": {
       "start-datetime": "2016-04-01T00:00:00Z",
       "end-datetime": "2016-04-01T23:59:59Z"
     },
     "contact-info": "sts-reporting@company-x.example",
     "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
     "policies": [{
       "policy": {
         "policy-type": "sts",
         "policy-string": ["version: STSv1","mode: testing",
               "mx: *.mail.company-y.example","max_age: 86400"],
         "policy-domain": "company-y.example",
         "mx-host": "*.mail.company-y.example"
       },
       "summary": {
         "total-successful-session-count": 5326,
         "total-failure-session-count": 303
       },
       "failure-details": [{
         "result-type": "certificate-expired",
         "sending-mta-ip": "2001:db8:abcd:0012::1",
         "receiving-mx-hostname": "mx1.mail.company-y.example",
         "failed-session-count": 100
       }, {
         "result-type": "starttls-not-supported",
         "sending-mta-ip": "2001:db8:abcd:0013::1",
         "receiving-mx-hostname": "mx2.mail.company-y.example",
         "receiving-ip": "203.0.113.56",
         "failed-session-count": 200,
         "additional-information": "https://reports.company-x.example/report_info?id=5065427c#StarttlsNotSupported"
       }, {
         "result-type": "validation-failure",
         "sending-mta-ip": "198.51.100.62",
         "receiving-ip": "203.0.113.58",
         "receiving-mx-hostname": "mx-backup.mail.company-y.example",
         "failed-session-count": 3,
         "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"
       }]
     }]
   }"#;
}
