//! The mail that carries a report (RFC 8460 §5.3). It still needs a DKIM signature, without which nobody may read it
//! (RFC 8460 §3), and goes out whatever becomes of TLS on its way.

use super::report::Report;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail::Address;
use mail::time::Civil;
use std::fmt::Write as _;

/// RFC 2045 §6.8.
const BASE64_LINE_OCTETS: usize = 76;

/// The message: header section and body, with CRLF line ends. `to` is the destination of the domain's record; `date` is
/// when it is made, in seconds since 1970. It is from the contact of the report, and its id makes the Message-ID.
pub fn message(report: &Report<'_>, to: &Address, date: i64) -> String {
    let head = report.head;
    let (domain, submitter, id) = (&head.domain, &head.contact.domain, head.id());
    let boundary = format!("=_tlsrpt_{id}");
    let date = Civil::from_unix(date, 0).to_rfc5322();
    let file = head.file_name();
    let mut text = String::new();
    // RFC 8460 §5.3 wants the subject so, folded or not.
    let lines = [
        format!("From: <{}>", head.contact),
        format!("To: <{to}>"),
        format!("Date: {date}"),
        format!("Message-ID: <{id}@{submitter}>"),
        format!("Subject: Report Domain: {domain}"),
        format!(" Submitter: {submitter}"),
        format!(" Report-ID: <{id}@{submitter}>"),
        format!("TLS-Report-Domain: {domain}"),
        format!("TLS-Report-Submitter: {submitter}"),
        "Auto-Submitted: auto-generated".to_owned(),
        "MIME-Version: 1.0".to_owned(),
        "Content-Type: multipart/report; report-type=\"tlsrpt\";".to_owned(),
        format!(" boundary=\"{boundary}\""),
        String::new(),
        "This is a multipart message in MIME format.".to_owned(),
        String::new(),
        format!("--{boundary}"),
        "Content-Type: text/plain; charset=us-ascii".to_owned(),
        "Content-Transfer-Encoding: 7bit".to_owned(),
        String::new(),
        format!("This is an aggregate TLS report about {domain}"),
        format!("from {submitter}, for the attention of those who run its mail."),
        String::new(),
        format!("--{boundary}"),
        "Content-Type: application/tlsrpt+gzip".to_owned(),
        "Content-Transfer-Encoding: base64".to_owned(),
        "Content-Disposition: attachment;".to_owned(),
        format!(" filename=\"{file}\""),
        String::new(),
    ];
    for line in lines {
        let _ = write!(text, "{line}\r\n");
    }
    let encoded = STANDARD.encode(report.to_gzip());
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(BASE64_LINE_OCTETS).unwrap_or((rest, ""));
        let _ = write!(text, "{line}\r\n");
        rest = after;
    }
    let _ = write!(text, "\r\n--{boundary}--\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls_rpt::received;
    use crate::tls_rpt::report::tests::{head, tally};

    #[test]
    fn the_mail_has_the_form_of_the_standard() {
        let (head, tally) = (head(), tally());
        let report = Report { head: &head, policies: tally.of("company-y.example") };
        let to = Address::parse("mts-sts-tlsrpt@company-y.example").unwrap();
        let text = message(&report, &to, 1_459_562_400);
        assert!(text.lines().all(|line| line.len() <= 998));
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        let (header, body) = text.split_once("\r\n\r\n").unwrap();
        let unfolded = header.replace("\r\n ", " ");
        let fields: Vec<&str> = unfolded.split("\r\n").collect();
        let id = "5065427c-23d3-47ca-b6e0-946ea0e8c4be@company-x.example";
        assert_eq!(
            fields,
            [
                "From: <sts-reporting@company-x.example>",
                "To: <mts-sts-tlsrpt@company-y.example>",
                "Date: Sat, 2 Apr 2016 02:00:00 +0000",
                &format!("Message-ID: <{id}>"),
                &format!("Subject: Report Domain: company-y.example Submitter: company-x.example Report-ID: <{id}>"),
                "TLS-Report-Domain: company-y.example",
                "TLS-Report-Submitter: company-x.example",
                "Auto-Submitted: auto-generated",
                "MIME-Version: 1.0",
                "Content-Type: multipart/report; report-type=\"tlsrpt\"; \
                 boundary=\"=_tlsrpt_5065427c-23d3-47ca-b6e0-946ea0e8c4be\"",
            ]
        );
        let parts: Vec<&str> = body.split("--=_tlsrpt_5065427c-23d3-47ca-b6e0-946ea0e8c4be").collect();
        assert_eq!(parts.len(), 4);
        let (part, encoded) = parts[2].split_once("\r\n\r\n").unwrap();
        assert!(part.contains("application/tlsrpt+gzip") && part.contains("company-x.example!company-y.example!"));
        let octets = STANDARD.decode(encoded.replace("\r\n", "")).unwrap();
        assert_eq!(received::parse(&octets).unwrap().policies[0].failures, 3, "what we send we can read");
    }
}
