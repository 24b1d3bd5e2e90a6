//! swaks and smtp-source send.

use crate::desk::{deliver, imap, message, messages, subjects};
use crate::{BRIAN, NOT_BRIAN};
use peers::client::Raw;
use peers::peer::{Outcome, Peer};
use peers::server::{PASSWORD, Port, Server};

/// swaks to a port, with a subject to find the message by.
fn swaks(server: &Server, port: Port, subject: &str, arguments: &[&str]) -> Outcome {
    let peer = Peer::new("swaks").args(["--server", "127.0.0.1", "--port"]).arg(server.port(port).to_string());
    let peer = peer.args(["--helo", "client.example.org", "--header", &format!("Subject: {subject}")]);
    peer.args(arguments).run().unwrap()
}

fn succeeds(outcome: &Outcome) {
    assert_eq!(outcome.status, Some(0), "{outcome}");
    assert!(outcome.says("250 2.0.0 Ok: queued as "), "{outcome}");
}

const BRIAN_LOGS_IN: [&str; 4] = ["--auth-user", BRIAN, "--auth-password", PASSWORD];

#[test]
fn r92_r105_r24_mail_arrives_with_and_without_tls() {
    let server = Server::start().unwrap();
    let from_to = ["--from", "you@example.org", "--to", BRIAN];
    let clear = swaks(&server, Port::Mx, "clear", &from_to);
    succeeds(&clear);
    for text in [
        "220 mx.example.net ESMTP",
        "250 2.1.0 Ok",
        "250 2.1.5 Ok",
        "354 End data with <CR><LF>.<CR><LF>",
        "221 2.0.0 Bye",
    ] {
        assert!(clear.says(text), "{text}: {clear}");
    }
    succeeds(&swaks(&server, Port::Mx, "inside-tls", &[&from_to[..], &["--tls"]].concat()));
    succeeds(&swaks(&server, Port::Mx, "helo", &[&from_to[..], &["--protocol", "SMTP"]].concat()));

    let clear_mail = message(&server, BRIAN, "INBOX", "clear");
    let received = clear_mail.field("Received").unwrap();
    let id = clear.text().split("queued as ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(received.starts_with("from client.example.org ("), "{received}");
    assert!(received.contains("[127.0.0.1]"), "{received}");
    assert!(received.contains("by mx.example.net") && received.contains(&format!("with ESMTP id {id}")), "{received}");
    assert!(received.contains("for <brian@example.net>;"), "{received}");
    assert!(!received.contains("using TLS"), "{received}");
    assert_eq!(clear_mail.field("Return-Path").as_deref(), Some("<you@example.org>"));
    assert_eq!(clear_mail.field("Delivered-To").as_deref(), Some(BRIAN));
    // R92: the same id is in the log.
    assert!(server.log_text().unwrap().contains(&id));

    // R23, R24.
    let received = message(&server, BRIAN, "INBOX", "inside-tls").field("Received").unwrap();
    assert!(received.contains("(using TLSv1.3 with cipher TLS_"), "{received}");
    assert!(received.contains("with ESMTPS id"), "{received}");
    let received = message(&server, BRIAN, "INBOX", "helo").field("Received").unwrap();
    assert!(received.contains("with SMTP id"), "{received}");
}

#[test]
fn r70_r71_submission_with_every_mechanism_and_port() {
    let server = Server::start().unwrap();
    let from_to = ["--from", BRIAN, "--to", NOT_BRIAN];
    for (subject, port, how) in [
        ("plain", Port::Submission, ["--tls", "--auth", "PLAIN"]),
        ("login", Port::Submission, ["--tls", "--auth", "LOGIN"]),
        ("implicit", Port::Submissions, ["--tls-on-connect", "--auth", "PLAIN"]),
    ] {
        let outcome = swaks(&server, port, subject, &[&from_to[..], &how, &BRIAN_LOGS_IN].concat());
        succeeds(&outcome);
        assert!(outcome.says("235 2.7.0 Authentication successful"), "{outcome}");
        assert!(outcome.says("250-AUTH PLAIN LOGIN"), "{outcome}");
        let received = message(&server, NOT_BRIAN, "INBOX", subject).field("Received").unwrap_or_default();
        assert!(received.contains("with ESMTPSA id"), "{received}");
    }
}

#[test]
fn r72_r73_r128_what_submission_refuses() {
    let server = Server::start_distrustful().unwrap();
    let from_to = ["--from", BRIAN, "--to", NOT_BRIAN];
    let mut texts = Vec::new();
    for (login, password) in [(BRIAN, "wrong"), ("nobody@example.net", PASSWORD)] {
        let how = ["--tls", "--auth", "PLAIN", "--auth-user", login, "--auth-password", password];
        let outcome = swaks(&server, Port::Submission, "x", &[&from_to[..], &how].concat());
        assert_eq!(outcome.status, Some(28), "{outcome}");
        let text = outcome.text();
        let line = text.lines().find(|line| line.contains(" 535 ")).unwrap_or_else(|| panic!("{outcome}"));
        assert!(line.contains("535 5.7.8 Error: authentication failed"), "{line}");
        texts.push(line.to_owned());
    }
    // The answer does not tell whether the account exists.
    assert_eq!(texts[0], texts[1]);

    // R128: after TLS, but without a login.
    let outcome = swaks(&server, Port::Submission, "x", &[&from_to[..], &["--tls"]].concat());
    assert_ne!(outcome.status, Some(0), "{outcome}");
    outcome.must_say("530 5.7.0 Authentication required").unwrap();
    // R18.
    let outcome = swaks(&server, Port::Submission, "x", &from_to);
    outcome.must_say("530 5.7.0 Must issue a STARTTLS command first").unwrap();

    // R131: a login sends only as an address that is its own.
    let how = ["--tls", "--auth", "PLAIN", "--from", NOT_BRIAN, "--to", NOT_BRIAN];
    let outcome = swaks(&server, Port::Submission, "x", &[&how[..], &BRIAN_LOGS_IN].concat());
    outcome
        .must_say("553 5.7.1 <notbrian@example.net>: Sender address rejected: not owned by user brian@example.net")
        .unwrap();
    let how = ["--tls", "--auth", "PLAIN", "--from", "info@example.net", "--to", NOT_BRIAN];
    succeeds(&swaks(&server, Port::Submission, "shared", &[&how[..], &BRIAN_LOGS_IN].concat()));
    assert_eq!(subjects(&server, NOT_BRIAN, "INBOX"), ["shared"]);
}

#[test]
fn r108_r109_r110_recipients_that_are_refused() {
    let server = Server::start_distrustful().unwrap();
    let refused = |to: &str, reply: &str| {
        let outcome = swaks(&server, Port::Mx, "x", &["--from", "you@example.org", "--to", to]);
        assert_eq!(outcome.status, Some(24), "{outcome}");
        outcome.must_say(reply).unwrap();
    };
    refused(
        "nobody@example.net",
        "550 5.1.1 <nobody@example.net>: Recipient address rejected: User unknown in virtual mailbox table",
    );
    refused("x@another-example.com", "550 5.1.1 <x@another-example.com>: Recipient address rejected: User unknown");
    refused("x@elsewhere.test", "554 5.7.1 <x@elsewhere.test>: Relay access denied");
    // R110: disguises of a foreign address.
    refused("user%elsewhere.test@example.net", "550 5.1.1 ");
    refused("\"x@elsewhere.test\"@example.net", "550 5.1.1 ");
    let mut raw = Raw::connect(server.port(Port::Mx)).unwrap();
    raw.reply().unwrap();
    for (line, reply) in [
        ("EHLO client.example.org", "250-mx.example.net"),
        ("MAIL FROM:<you@example.org>", "250 2.1.0 Ok"),
        ("RCPT TO:<@example.net:x@elsewhere.test>", "554 5.7.1 <x@elsewhere.test>: Relay access denied"),
        ("RCPT TO:<brian>", "504 5.5.2 <brian>: Recipient address rejected: need fully-qualified address"),
        ("RCPT TO:<brian@localhost>", "504 5.5.2 "),
        ("DATA", "554 5.5.1 Error: no valid recipients"),
        ("RCPT TO:<postmaster>", "250 2.1.5 Ok"),
        ("RCPT TO:<BRIAN@EXAMPLE.NET>", "250 2.1.5 Ok"),
        ("RSET", "250 2.0.0 Ok"),
        ("VRFY brian@example.net", "252 2.0.0 brian@example.net"),
        ("VRFY nobody@example.net", "550 5.1.1 "),
        ("QUIT", "221 2.0.0 Bye"),
    ] {
        let answer = raw.command(line).unwrap();
        assert!(answer.starts_with(reply), "{line}: {answer}");
    }
    assert_eq!(messages(&server, BRIAN, "INBOX").len(), 1, "only the welcome message");
}

#[test]
fn r118_to_r123_aliases_and_catch_all() {
    let server = Server::start().unwrap();
    deliver(&server, "info@example.net", "to-info", "both");
    deliver(&server, "info@another-example.com", "to-other-info", "one");
    deliver(&server, "Postmaster@Example.Net", "to-postmaster", "role");
    assert_eq!(subjects(&server, BRIAN, "INBOX"), ["Welcome to pillarbox", "to-info", "to-postmaster"]);
    assert_eq!(subjects(&server, NOT_BRIAN, "INBOX"), ["to-info", "to-other-info"]);

    // R66: one copy, however many names lead to the mailbox.
    let two = ["--from", "you@example.org", "--to", "info@example.net,brian@example.net,abuse@example.net"];
    succeeds(&swaks(&server, Port::Mx, "once", &two));
    assert_eq!(subjects(&server, BRIAN, "INBOX").iter().filter(|subject| *subject == "once").count(), 1);

    // R121, R122: the guide's spelling of a catch-all; what is declared wins.
    server.edit("aliases", |text| format!("{text}*@example.net notbrian@example.net\n")).unwrap();
    server.command(&["reload"]).unwrap();
    deliver(&server, "whatever123@example.net", "caught", "all");
    deliver(&server, BRIAN, "not-caught", "declared");
    assert!(subjects(&server, NOT_BRIAN, "INBOX").contains(&"caught".to_owned()));
    assert!(!subjects(&server, NOT_BRIAN, "INBOX").contains(&"not-caught".to_owned()));
    assert!(subjects(&server, BRIAN, "INBOX").contains(&"not-caught".to_owned()));
}

#[test]
fn p6_two_hundred_messages_in_ten_sessions_are_all_there() {
    let server = Server::start().unwrap();
    let peer = Peer::new("smtp-source").args(["-s", "10", "-m", "200", "-l", "4096", "-S", "load"]);
    let peer = peer.args(["-M", "client.example.org", "-f", "you@example.org", "-t", NOT_BRIAN]);
    peer.arg(format!("inet:127.0.0.1:{}", server.port(Port::Mx))).succeed().unwrap();
    let mut client = imap(&server, NOT_BRIAN);
    let all = client.messages("INBOX").unwrap();
    assert_eq!(all.len(), 200);
    assert!(all.iter().zip(1..).all(|(message, uid)| message.uid == uid));
    assert!(all.iter().all(|message| message.field("Subject").as_deref() == Some("load")));
    assert!(all.iter().all(|message| message.octets.len() > 4096));
}
