//! Thunderbird reads over IMAP, submits over both ports, and keeps copies.

use crate::desk::{deliver, message, subjects, wait_until};
use crate::{BRIAN, NOT_BRIAN};
use peers::server::{Port, Server};
use peers::thunderbird::Thunderbird;

#[test]
fn r70_r71_thunderbird_reads_and_submits() {
    // Without a login nothing is taken.
    let server = Server::start_distrustful().unwrap();
    deliver(&server, BRIAN, "to-read", "words for Brian");
    let mut thunderbird = Thunderbird::start(&server, BRIAN).unwrap();
    let shown = thunderbird.read("to-read", "words for Brian").unwrap();
    assert!(shown.contains("you@example.org"), "{shown}");
    wait_until("it is marked", || message(&server, BRIAN, "INBOX", "to-read").flags.contains("\\Flagged"));

    for (port, subject) in [(Port::Submissions, "implicit"), (Port::Submission, "starttls")] {
        thunderbird.send(port, NOT_BRIAN, subject, ".one\n..two\nend\n").unwrap();
        let arrived = message(&server, NOT_BRIAN, "INBOX", subject);
        assert_eq!(arrived.body(), ".one\r\n..two\r\nend\r\n");
        for (name, words) in [
            ("Return-Path", "<brian@example.net>"),
            ("From", "Brian <brian@example.net>"),
            ("User-Agent", "Mozilla Thunderbird"),
            ("Received", "with ESMTPSA id"),
        ] {
            let field = arrived.field(name).unwrap_or_default();
            assert!(field.contains(words), "{name}: {field}\n{}", arrived.text());
        }
        wait_until("a copy is kept", || subjects(&server, BRIAN, "Sent").contains(&subject.to_owned()));
        let copy = message(&server, BRIAN, "Sent", subject);
        assert_eq!((copy.body(), copy.field("Message-ID")), (arrived.body(), arrived.field("Message-ID")));
    }
}
