//! Delivery status notifications as Python's email package reads them.

use mail::{Address, DsnReturn, EnhancedStatus, InternalDate, QueueId};
use message::report::{Action, Kind, RecipientReport, Report};
use peers::peer::Peer;

/// Has Python look at a report to `to` about `recipient`.
fn read(to: &str, recipient: &str, original: &[u8], wanted: DsnReturn, third: &str, fields: &[&str]) {
    let (to, recipient) = (Address::parse(to).unwrap(), Address::parse(recipient).unwrap());
    let date = InternalDate { unix_seconds: 1_000_000_000, zone_minutes: 120 };
    let recipients = [RecipientReport {
        address: &recipient,
        original: Some("rfc822;alias@example.com"),
        action: Action::Failed,
        status: EnhancedStatus::new(5, 1, 1),
        remote: Some("mx.example.org[192.0.2.25]:25"),
        diagnostic: Some("550 5.1.1 No such user here\r\nStatus: 2.0.0"),
        is_reply: true,
        last_attempt: Some(date),
        retry_until: None,
    }];
    let report = Report {
        kind: Kind::Failure,
        host: "mx.example.net",
        postmaster: "postmaster@example.net",
        to: &to,
        message_id: "1.2@mx.example.net",
        boundary: "1.2",
        date,
        envelope_id: Some("QQ314159"),
        arrived: date,
        queue_id: Some(QueueId(0x12)),
        recipients: &recipients,
    };
    let octets = report.whole(original, Some(wanted));
    Peer::script("report.py").arg(third).args(fields).input(octets).succeed().unwrap();
}

#[test]
fn r98_email_reads_reports() {
    let original = b"Subject: original\r\nFrom: a@b\r\n\r\n--1.2.00\r\nbody\r\n";
    let fields = [
        "Original-Envelope-Id=QQ314159",
        "Reporting-MTA=dns; mx.example.net",
        "Arrival-Date=Sun, 9 Sep 2001 03:46:40 +0200",
        "Original-Recipient=rfc822; alias@example.com",
        "Final-Recipient=rfc822; nobody@example.org",
        "Action=failed",
        "Status=5.1.1",
        "Remote-MTA=dns; mx.example.org",
        "Diagnostic-Code=smtp; 550 5.1.1 No such user here Status: 2.0.0",
    ];
    let (to, nobody) = ("brian@example.net", "nobody@example.org");
    read(to, nobody, original, DsnReturn::Full, "message/rfc822", &fields);
    read(to, nobody, original, DsnReturn::Headers, "text/rfc822-headers", &fields);
}

#[test]
fn r98_email_reads_reports_beyond_ascii() {
    let original = "Subject: original \u{433}\r\n\r\n\u{433}\r\n".as_bytes();
    let greta = "\u{433}\u{440}\u{435}\u{442}\u{430}@example.org";
    let fields = [&format!("Final-Recipient=utf-8; {greta}"), "Status=5.1.1"];
    read("brian@example.net", greta, original, DsnReturn::Headers, "message/global-headers", &fields);
    read("brian@example.net", greta, original, DsnReturn::Full, "message/global", &fields);
}
