//! `tls-report`: what others report about TLS to our servers (RFC 8460), in plain words.
//!
//! Anybody can send such a report: everything it says is bounded by its reader, and printed without control characters
//! (V38).

use crate::cli::TlsReportCommand;
use crate::output::Output;
use anyhow::{Context, bail};
use mail::text::one_line;
use mail::time::Civil;
use message::decode::TransferDecoder;
use message::digest::{Content, Part};
use message::mime;
use message::scan::Scanner;
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use transport_security::tls_rpt::received::{
    REPORT_OCTETS_MAX, ReceivedFailure, ReceivedPolicy, ReceivedReport, parse,
};

/// Largest file that is read, in octets: the largest report in base64, with the message around it.
const FILE_OCTETS_MAX: usize = REPORT_OCTETS_MAX / 2 * 3;
/// Octets that begin compressed data (RFC 1952 §2.3.1).
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// `tls-report ...`
pub fn tls_report(command: &TlsReportCommand, output: &Output) -> anyhow::Result<()> {
    match command {
        TlsReportCommand::Show { file } => {
            let octets = read(file).with_context(|| file.display().to_string())?;
            let report = report_in(&octets).with_context(|| file.display().to_string())?;
            if !output.json(&json_of(&report)) {
                lines(&report).iter().for_each(|line| output.say(line));
            }
            Ok(())
        }
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let limit = FILE_OCTETS_MAX as u64 + 1;
    match file.as_os_str().as_encoded_bytes() {
        b"-" => std::io::stdin().take(limit).read_to_end(&mut octets)?,
        _ => std::fs::File::open(file)?.take(limit).read_to_end(&mut octets)?,
    };
    if octets.len() > FILE_OCTETS_MAX {
        bail!("larger than {FILE_OCTETS_MAX} octets");
    }
    Ok(octets)
}

/// Reads a report: the JSON, compressed or not, or a message with it.
fn report_in(octets: &[u8]) -> anyhow::Result<ReceivedReport> {
    let first = octets.iter().find(|octet| !octet.is_ascii_whitespace());
    if octets.starts_with(GZIP_MAGIC) || matches!(first, Some(b'{' | b'[')) {
        return Ok(parse(octets)?);
    }
    let mut scanner = Scanner::new();
    scanner.write(octets);
    let digest = scanner.finish(b"");
    let mut leaves = Vec::new();
    add_leaves(&digest.part, &mut leaves);
    // A part that says what it is counts more than one that only has a fitting name.
    let part = leaves.iter().find(|part| is_report(part)).or_else(|| leaves.iter().find(|part| has_report_name(part)));
    let Some(part) = part else { bail!("neither a TLS report nor a message with one") };
    let body = usize::try_from(part.body.start).ok().zip(usize::try_from(part.body.end).ok());
    let body = body.and_then(|(start, end)| octets.get(start..end)).unwrap_or_default();
    let mut decoder = TransferDecoder::new(&part.encoding);
    let mut decoded = Vec::new();
    decoder.push(body, &mut decoded);
    decoder.finish(&mut decoded);
    Ok(parse(&decoded)?)
}

/// The scanner has bounded how many parts there are, and how deep.
fn add_leaves<'a>(part: &'a Part, leaves: &mut Vec<&'a Part>) {
    match &part.content {
        Content::Leaf => leaves.push(part),
        Content::Multipart(parts) => parts.iter().for_each(|part| add_leaves(part, leaves)),
        Content::Message(_, part) => add_leaves(part, leaves),
    }
}

/// RFC 8460 §5.3.
fn is_report(part: &Part) -> bool {
    part.media_type == b"application" && matches!(part.subtype.as_slice(), b"tlsrpt+gzip" | b"tlsrpt+json")
}

fn has_report_name(part: &Part) -> bool {
    let of_disposition = part.disposition.as_ref().and_then(|(_, given)| mime::parameter_octets(given, "filename"));
    let name = of_disposition.or_else(|| mime::parameter_octets(&part.parameters, "name")).unwrap_or_default();
    let name = name.to_ascii_lowercase();
    name.ends_with(b".json.gz") || name.ends_with(b".json")
}

fn lines(report: &ReceivedReport) -> Vec<String> {
    let (begin, end) = report.range;
    let mut lines = vec![
        format!(
            "report by {} ({}), id {}",
            one_line(&report.organization),
            one_line(&report.contact),
            one_line(&report.id)
        ),
        format!("from {} to {}", shown_time(begin), shown_time(end)),
    ];
    for policy in &report.policies {
        lines.push(String::new());
        lines.extend(lines_of(policy));
    }
    let total = |count: fn(&ReceivedPolicy) -> u64| report.policies.iter().map(count).fold(0, u64::saturating_add);
    let (well, failed) = (total(|policy| policy.successes), total(|policy| policy.failures));
    lines.extend([String::new(), format!("all in all: {well} sessions went well, {failed} failed")]);
    lines
}

fn lines_of(policy: &ReceivedPolicy) -> Vec<String> {
    let kind = match policy.kind.as_str() {
        "tlsa" => "DANE".to_owned(),
        "sts" => "MTA-STS".to_owned(),
        "no-policy-found" => "no policy".to_owned(),
        other => format!("policy of type {}", one_line(other)),
    };
    let (domain, well, failed) = (one_line(&policy.domain), policy.successes, policy.failures);
    let mut lines = vec![format!("{kind} for {domain}: {well} sessions went well, {failed} failed")];
    lines.extend(policy.text.iter().map(|line| format!("  | {}", one_line(line))));
    for failure in &policy.details {
        let ReceivedFailure { result, sessions, .. } = failure;
        lines.push(format!("  {sessions} x {}: {}", one_line(result), meaning(result)));
        let hosts = [
            ("at", failure.receiving_host.as_deref()),
            ("address", failure.receiving_ip.as_deref()),
            ("which greets as", failure.receiving_helo.as_deref()),
            ("from", failure.sending_ip.as_deref()),
        ];
        let hosts: Vec<String> =
            hosts.iter().filter_map(|(word, text)| Some(format!("{word} {}", one_line((*text)?)))).collect();
        if !hosts.is_empty() {
            lines.push(format!("      {}", hosts.join(", ")));
        }
        let causes = [failure.reason.as_deref(), failure.additional.as_deref()];
        lines.extend(causes.into_iter().flatten().map(|cause| format!("      {}", one_line(cause))));
    }
    lines
}

/// RFC 8460 §4.3, in our words.
fn meaning(result: &str) -> &'static str {
    match result {
        "starttls-not-supported" => "the host did not offer STARTTLS",
        "certificate-host-mismatch" => "the certificate is for other names, or the host is not in the policy",
        "certificate-expired" => "the certificate is out of date",
        "certificate-not-trusted" => "no trusted authority vouches for the certificate",
        "validation-failure" => "something else about TLS went wrong",
        "tlsa-invalid" => "no TLSA record fits the certificate",
        "dnssec-invalid" => "the TLSA records could not be had, or DNSSEC says they are broken",
        "dane-required" => "the reporter demands DANE, and there are no proved TLSA records",
        "sts-policy-fetch-error" => "the MTA-STS policy could not be fetched",
        "sts-policy-invalid" => "the MTA-STS policy cannot be read",
        "sts-webpki-invalid" => "the certificate of the MTA-STS policy host is not good",
        _ => "a result that RFC 8460 does not name",
    }
}

/// Minutes are enough.
fn shown_time(seconds: Option<i64>) -> String {
    let Some(seconds) = seconds else { return "a time that cannot be read".to_owned() };
    let Civil { year, month, day, hour, minute, .. } = Civil::from_unix(seconds, 0);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

fn json_of(report: &ReceivedReport) -> Value {
    let failure = |failure: &ReceivedFailure| {
        json!({
            "result": failure.result, "sessions": failure.sessions, "sending_ip": failure.sending_ip,
            "receiving_host": failure.receiving_host, "receiving_helo": failure.receiving_helo,
            "receiving_ip": failure.receiving_ip, "reason": failure.reason, "additional": failure.additional,
        })
    };
    let policy = |policy: &ReceivedPolicy| {
        let failures: Vec<Value> = policy.details.iter().map(failure).collect();
        json!({
            "kind": policy.kind, "domain": policy.domain, "text": policy.text, "mx_hosts": policy.mx_hosts,
            "successes": policy.successes, "failures": policy.failures, "details": failures,
        })
    };
    let policies: Vec<Value> = report.policies.iter().map(policy).collect();
    json!({
        "organization": report.organization, "contact": report.contact, "id": report.id,
        "begin": report.range.0, "end": report.range.1, "policies": policies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dns::Name;
    use mail::Address;
    use transport_security::tls_rpt::report::{Report, ReportHead};
    use transport_security::tls_rpt::tally::Tally;
    use transport_security::tls_rpt::{AppliedPolicy, FailedSession, ResultType, message::message};

    fn with_report<T>(look: impl FnOnce(&Report<'_>) -> T) -> T {
        let domain = Name::parse("example.net").unwrap();
        let head = ReportHead {
            organization: "Example\u{1b}[31m".to_owned(),
            contact: Address::parse("postmaster@example.org").unwrap(),
            domain: domain.clone(),
            id: "7".to_owned(),
            begin: 864_000,
            end: 950_399,
        };
        let mut tally = Tally::new();
        tally.succeeded(&domain, &AppliedPolicy::none(&domain));
        let failed = FailedSession {
            receiving_host: Some("mx.example.net".to_owned()),
            ..FailedSession::new(ResultType::CertificateExpired, "by a day")
        };
        tally.failed(&domain, &AppliedPolicy::unknown_sts(&domain), failed);
        look(&Report { head: &head, policies: tally.of("example.net") })
    }

    #[test]
    fn v13_a_report_in_any_form_in_plain_words() {
        let to = Address::parse("tls@example.net").unwrap();
        let forms = with_report(|report| [report.to_json(), report.to_gzip(), message(report, &to, 0).into_bytes()]);
        for octets in forms {
            let report = report_in(&octets).unwrap();
            assert_eq!(
                lines(&report),
                [
                    "report by Example [31m (postmaster@example.org), id 7",
                    "from 1970-01-11 00:00 UTC to 1970-01-11 23:59 UTC",
                    "",
                    "no policy for example.net: 1 sessions went well, 0 failed",
                    "",
                    "MTA-STS for example.net: 0 sessions went well, 1 failed",
                    "  1 x certificate-expired: the certificate is out of date",
                    "      at mx.example.net",
                    "      by a day",
                    "",
                    "all in all: 1 sessions went well, 1 failed",
                ]
            );
            assert_eq!(json_of(&report)["policies"][1]["details"][0]["result"], "certificate-expired");
        }
    }

    /// Some reporters only name the file.
    #[test]
    fn v13_a_report_that_is_known_by_its_name() {
        let to = Address::parse("tls@example.net").unwrap();
        let text = with_report(|report| message(report, &to, 0));
        let text = text.replace("application/tlsrpt+gzip", "application/octet-stream");
        assert!(report_in(text.as_bytes()).is_ok());
        let text = text.replace(".json.gz", ".txt");
        assert!(report_in(text.as_bytes()).is_err());
        assert!(report_in(b"").is_err());
    }

    #[test]
    fn every_result_has_a_meaning() {
        let unknown = meaning("x");
        assert!(ResultType::ALL.iter().all(|result| meaning(result.as_str()) != unknown));
    }
}
