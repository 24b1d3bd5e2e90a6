//! Reports are read back by our own scanner and by an independent parser.

use super::*;
use crate::digest::Content;
use crate::scan::Scanner;
use mail_parser::{MessageParser, MimeHeaders};

const DATE: InternalDate = InternalDate { unix_seconds: 1_000_000_000, zone_minutes: 120 };
const EARLIER: InternalDate = InternalDate { unix_seconds: 999_900_000, zone_minutes: 0 };
const ORIGINAL: &str = "Received: from a by b; x\r\nSubject: hello\r\nFrom: brian@example.net\r\n\r\nbody\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn failed(address: &Address) -> RecipientReport<'_> {
    RecipientReport {
        address,
        original: None,
        action: Action::Failed,
        status: EnhancedStatus::new(5, 1, 1),
        remote: Some("mx.example.org[192.0.2.25]:25"),
        diagnostic: Some("550 5.1.1 <nobody@example.org>: no such user here"),
        is_reply: true,
        last_attempt: Some(DATE),
        retry_until: None,
    }
}

fn report<'a>(to: &'a Address, recipients: &'a [RecipientReport<'a>]) -> Report<'a> {
    Report {
        kind: Kind::Failure,
        host: "mx.example.net",
        postmaster: "postmaster@example.net",
        to,
        message_id: "A1.1@mx.example.net",
        boundary: "A1/mx.example.net",
        date: DATE,
        envelope_id: None,
        arrived: EARLIER,
        queue_id: Some(QueueId(0xa1)),
        recipients,
    }
}

/// The types of the parts and their octets, as our own scanner finds them.
fn parts(message: &[u8]) -> Vec<(String, String)> {
    let mut scanner = Scanner::new();
    scanner.write(message);
    assert_eq!(scanner.facts().from_fields, 1);
    let part = scanner.finish(b"").part;
    assert_eq!((part.media_type.as_slice(), part.subtype.as_slice()), (&b"multipart"[..], &b"report"[..]));
    let Content::Multipart(parts) = part.content else { panic!("no parts: {}", String::from_utf8_lossy(message)) };
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    parts
        .iter()
        .map(|part| {
            let range = part.body.start as usize..part.body.end as usize;
            (
                format!("{}/{} {}", text(&part.media_type), text(&part.subtype), text(&part.encoding)),
                text(&message[range]),
            )
        })
        .collect()
}

#[test]
fn r98_a_failure_as_it_is_sent() {
    let (to, nobody) = (address("brian@example.net"), address("nobody@example.org"));
    let recipients = [failed(&nobody)];
    let message = report(&to, &recipients).whole(ORIGINAL.as_bytes(), Some(DsnReturn::Headers));
    let expected = "\
Date: Sun, 9 Sep 2001 03:46:40 +0200
From: Mail Delivery System <MAILER-DAEMON@mx.example.net>
To: brian@example.net
Subject: Undelivered: your message was returned
Message-ID: <A1.1@mx.example.net>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary=\"A1mx.example.net.00\"

This is a report in MIME format (RFC 3464).

--A1mx.example.net.00
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at mx.example.net.

Your message could not be delivered to the recipients below, and will not be
tried again for them. To reach them, mend what is wrong and send it anew.
All other recipients are not concerned by this.

<nobody@example.org>
    The mail server mx.example.org [192.0.2.25] refused it:
      > 550 5.1.1 <nobody@example.org>: no such user here
    There is no mailbox of this name. Check the address for typing errors,
    or ask the recipient for the right one.

If this does not help, send this report on to postmaster@example.net.

--A1mx.example.net.00
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
Arrival-Date: Fri, 7 Sep 2001 22:00:00 +0000
X-Pillarbox-Queue-ID: A1

Final-Recipient: rfc822; nobody@example.org
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.org
Diagnostic-Code: smtp; 550 5.1.1 <nobody@example.org>: no such user here
Last-Attempt-Date: Sun, 9 Sep 2001 03:46:40 +0200

--A1mx.example.net.00
Content-Description: Header section of the message
Content-Type: text/rfc822-headers

Received: from a by b; x
Subject: hello
From: brian@example.net

--A1mx.example.net.00--
";
    assert_eq!(String::from_utf8(message).unwrap(), expected.replace('\n', "\r\n"));
}

#[test]
fn r98_ret_says_what_is_returned() {
    let (to, nobody) = (address("brian@example.net"), address("nobody@example.org"));
    let recipients = [failed(&nobody)];
    let failure = report(&to, &recipients);
    let third = |report: &Report<'_>, original: &[u8], wanted| parts(&report.whole(original, wanted)).get(2).cloned();
    let whole = ("message/rfc822 7bit".to_owned(), ORIGINAL.to_owned());
    let (header, _) = ORIGINAL.split_at(ORIGINAL.find("\r\n\r\n").unwrap() + 2);
    let header = ("text/rfc822-headers 7bit".to_owned(), header.to_owned());
    assert_eq!(third(&failure, ORIGINAL.as_bytes(), None), Some(whole.clone()));
    assert_eq!(third(&failure, ORIGINAL.as_bytes(), Some(DsnReturn::Full)), Some(whole));
    assert_eq!(third(&failure, ORIGINAL.as_bytes(), Some(DsnReturn::Headers)), Some(header.clone()));
    for kind in [Kind::Delay, Kind::Success] {
        let report = Report { kind, ..failure };
        assert_eq!(third(&report, ORIGINAL.as_bytes(), Some(DsnReturn::Full)), Some(header.clone()));
    }
    assert_eq!(third(&failure, b"", None), None);
    assert_eq!(third(&failure, b"\r\nbody", Some(DsnReturn::Headers)), None);
    // RFC 3461 §6.2: a long message is not returned whole.
    let long = [ORIGINAL.as_bytes(), &vec![b'x'; usize::try_from(RETURNED_OCTETS_MAX).unwrap()]].concat();
    assert_eq!(third(&failure, &long, Some(DsnReturn::Full)), Some(header));
    let mut out = Vec::new();
    failure.begin(None, None, &mut out).finish(&mut out);
    assert_eq!(parts(&out).len(), 2);
}

#[test]
fn the_returned_message_passes_in_pieces() {
    let (to, nobody) = (address("brian@example.net"), address("nobody@example.org"));
    let recipients = [failed(&nobody)];
    let report = report(&to, &recipients);
    let original = [ORIGINAL.as_bytes(), &b"0123456789\r\n".repeat(5_000)].concat();
    let mut survey = report.survey();
    original.chunks(1_000).for_each(|piece| survey.write(piece));
    let mut out = Vec::new();
    let mut returning = report.begin(Some(&survey.finish()), None, &mut out);
    assert_eq!(returning.wants(), original.len() as u64);
    for piece in original.chunks(777) {
        returning.write(piece, &mut out);
    }
    assert_eq!(returning.wants(), 0);
    returning.write(b"not wanted", &mut out);
    returning.finish(&mut out);
    assert_eq!(out, report.whole(&original, None));
}

#[test]
fn v13_v14_nothing_that_others_say_makes_a_line_of_its_own() {
    let (to, nobody) = (address("brian@example.net"), address("nobody@example.org"));
    let evil = "x\r\nStatus: 2.0.0\r\n\r\n--A1mx.example.net.00--\r\n\0\x1b\u{85}\u{9b} \u{fc}".to_owned()
        + &"y".repeat(5_000);
    let recipients =
        [RecipientReport { original: Some(&evil), remote: Some(&evil), diagnostic: Some(&evil), ..failed(&nobody) }];
    let report = Report {
        envelope_id: Some(&evil),
        host: &evil,
        postmaster: &evil,
        message_id: &evil,
        ..report(&to, &recipients)
    };
    let message = report.whole(ORIGINAL.as_bytes(), None);
    let parts = parts(&message);
    assert_eq!(parts.len(), 3);
    let status = &parts[1].1;
    assert_eq!(status.lines().filter(|line| line.starts_with("Status:")).collect::<Vec<_>>(), ["Status: 5.1.1"]);
    let text = String::from_utf8(message).unwrap();
    assert!(text.chars().all(|c| !c.is_control() || matches!(c, '\r' | '\n' | '\t')));
    assert!(text.lines().all(|line| line.len() <= 998));
    assert!(text.len() < 20_000);
}

#[test]
fn the_boundary_cannot_be_forged() {
    let (to, nobody) = (address("brian@example.net"), address("nobody@example.org"));
    let recipients = [failed(&nobody)];
    let report = report(&to, &recipients);
    let forged = format!("{ORIGINAL}--A1mx.example.net.00--\r\n--A1mx.example.net.01\r\n\r\nmine\r\n");
    let found = parts(&report.whole(forged.as_bytes(), None));
    assert_eq!((found.len(), &found[2].1), (3, &forged));
    let all: String = (0..64).map(|number| format!("--A1mx.example.net.{number:02}\r\n")).collect();
    assert_eq!(parts(&report.whole(format!("{ORIGINAL}{all}").as_bytes(), None)).len(), 2);
}

#[test]
fn what_is_beyond_ascii_is_labelled() {
    let (to, nobody) = (address("brian@example.net"), address("nobody@example.org"));
    let greta = address("\u{433}\u{440}\u{435}\u{442}\u{430}@example.org");
    let types = |to: &Address, recipient: &Address, original: &[u8], wanted| {
        let recipients = [RecipientReport { original: Some("utf-8;\\x{433}@b"), ..failed(recipient) }];
        let message = report(to, &recipients).whole(original, wanted);
        let has_mark = String::from_utf8_lossy(&message).split("\r\n\r\n").next().unwrap().contains("Encoding: 8bit");
        assert_eq!(has_mark, !message.is_ascii());
        let parts = parts(&message);
        for (label, body) in &parts {
            assert_eq!(label.ends_with(" 8bit"), !body.is_ascii(), "{label}");
        }
        parts.into_iter().map(|(label, _)| label).collect::<Vec<_>>()
    };
    let utf8 = "Subject: \u{fc}\r\n\r\nb\r\n".as_bytes();
    let latin1 = b"Subject: \xfc\r\n\r\nb\r\n";
    let body = "Subject: u\r\n\r\n\u{fc}\r\n".as_bytes();
    let plain = ["text/plain 7bit", "message/delivery-status 7bit"];
    for (original, wanted, third) in [
        (utf8, None, "message/global 8bit"),
        (utf8, Some(DsnReturn::Headers), "message/global-headers 8bit"),
        (latin1, None, "message/rfc822 8bit"),
        (latin1, Some(DsnReturn::Headers), "text/rfc822-headers 8bit"),
        (body, None, "message/rfc822 8bit"),
        (body, Some(DsnReturn::Headers), "text/rfc822-headers 7bit"),
    ] {
        assert_eq!(types(&to, &nobody, original, wanted), [plain[0], plain[1], third]);
    }
    let global = ["text/plain 8bit", "message/global-delivery-status 8bit", "message/rfc822 7bit"];
    assert_eq!(types(&to, &greta, ORIGINAL.as_bytes(), None), global);
    // A report says of itself that it is 8-bit where anything in it is.
    for (to, recipient, is_8bit) in [(&to, &nobody, false), (&to, &greta, true), (&greta, &nobody, true)] {
        let report = report(to, &[failed(recipient)]).whole(b"", None);
        let text = String::from_utf8_lossy(&report);
        let (header, _) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(header.contains("\r\nContent-Transfer-Encoding: 8bit"), is_8bit, "{header}");
        assert_eq!(report.is_ascii(), !is_8bit);
    }
}

#[test]
fn words_for_every_kind() {
    let (to, nobody) = (address("brian@example.net"), address("nobody@example.org"));
    let words = |kind, recipient: RecipientReport<'_>| {
        let text = parts(&Report { kind, ..report(&to, &[recipient]) }.whole(b"", None)).swap_remove(0).1;
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let late = RecipientReport {
        action: Action::Delayed,
        status: EnhancedStatus::new(4, 2, 2),
        diagnostic: Some("452 4.2.2 over quota"),
        retry_until: Some(DATE),
        original: Some("rfc822;alias@example.com"),
        ..failed(&nobody)
    };
    let text = words(Kind::Delay, late);
    for piece in [
        "You need not do anything",
        "(you wrote to <alias@example.com>)",
        "answered:",
        "The mailbox is full.",
        "until Sun, 9 Sep",
    ] {
        assert!(text.contains(piece), "{piece}: {text}");
    }
    let expired =
        RecipientReport { status: EnhancedStatus::new(4, 4, 1), remote: None, is_reply: false, ..failed(&nobody) };
    assert!(
        words(Kind::Failure, expired).contains("tried until Sun, 9 Sep 2001 03:46:40 +0200, and then given up. Our")
    );
    let done = RecipientReport { action: Action::Delivered, remote: None, diagnostic: None, ..failed(&nobody) };
    assert!(words(Kind::Success, done).contains("It was put into the mailbox."));
    let relayed = RecipientReport { action: Action::Relayed, ..failed(&nobody) };
    assert!(words(Kind::Success, relayed).contains("which sends no confirmation of its own:"));
    let many = vec![done; RECIPIENTS_IN_WORDS_MAX + 7];
    let message = Report { kind: Kind::Success, ..report(&to, &many) }.whole(b"", None);
    let text = String::from_utf8(message).unwrap();
    assert!(text.contains("And 7 more recipients"));
    assert_eq!(text.matches("Final-Recipient:").count(), many.len());
}

/// RFC 3464 §2.3.9 and RFC 3461 §6.3: what must and must not be there.
#[test]
fn fields_follow_what_is_known() {
    let (to, nobody) = (address("brian@example.net"), address("nobody@example.org"));
    let bare = RecipientReport {
        remote: None,
        diagnostic: None,
        is_reply: false,
        last_attempt: None,
        retry_until: Some(DATE),
        ..failed(&nobody)
    };
    let status = |recipient: RecipientReport<'_>, envelope_id| {
        parts(&Report { envelope_id, queue_id: None, ..report(&to, &[recipient]) }.whole(b"", None)).swap_remove(1).1
    };
    assert_eq!(
        status(bare, Some("QQ 314159")),
        "Original-Envelope-Id: QQ 314159\r\nReporting-MTA: dns; mx.example.net\r\n\
         Arrival-Date: Fri, 7 Sep 2001 22:00:00 +0000\r\n\r\nFinal-Recipient: rfc822; nobody@example.org\r\n\
         Action: failed\r\nStatus: 5.1.1\r\n"
    );
    let delayed = status(RecipientReport { action: Action::Delayed, ..bare }, None);
    assert!(delayed.ends_with("Will-Retry-Until: Sun, 9 Sep 2001 03:46:40 +0200\r\n") && !delayed.contains("Envelope"));
    let own = status(RecipientReport { diagnostic: Some("no route"), ..bare }, None);
    assert!(own.contains("Diagnostic-Code: x-pillarbox; no route\r\n"));
    let long = RecipientReport { diagnostic: Some(&"550 a long story ".repeat(30)), ..bare };
    assert!(status(long, None).lines().all(|line| line.len() <= 78));
}

#[test]
fn an_independent_parser_reads_it() {
    let (to, nobody) = (address("brian@example.net"), address("nobody@example.org"));
    let recipients = [failed(&nobody), RecipientReport { action: Action::Delayed, ..failed(&to) }];
    let octets = report(&to, &recipients).whole(ORIGINAL.as_bytes(), None);
    let message = MessageParser::default().parse(&octets).unwrap();
    assert_eq!(message.to().unwrap().first().unwrap().address(), Some("brian@example.net"));
    assert_eq!(message.from().unwrap().first().unwrap().address(), Some("MAILER-DAEMON@mx.example.net"));
    assert_eq!(message.message_id(), Some("A1.1@mx.example.net"));
    let content_type = message.content_type().unwrap();
    assert_eq!(content_type.attribute("report-type"), Some("delivery-status"));
    assert!(message.body_text(0).unwrap().contains("There is no mailbox of this name."));
    let attached: Vec<_> = message.attachments().collect();
    assert_eq!(attached.len(), 2);
    assert!(attached[0].contents().starts_with(b"Reporting-MTA: dns; mx.example.net\r\n"));
    let returned = attached[1].message().unwrap();
    assert_eq!(returned.subject(), Some("hello"));
}
