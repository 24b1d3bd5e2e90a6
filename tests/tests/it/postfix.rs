//! A real Postfix delivers into our LMTP socket (R62). Postfix starts only as root; CI runs these tests as root.

use crate::BRIAN;
use crate::desk::{deliver, messages, subjects, wait_until};
use peers::internet::Internet;
use peers::internet::certificate::Leaf;
use peers::internet::real::RealMta;
use peers::peer::Peer;
use peers::server::Server;

#[test]
fn r62_r63_r67_postfix_delivers_over_lmtp() {
    let internet = Internet::start().unwrap();
    // Postfix delivers as a user of its own, who must be able to reach the socket.
    let socket = internet.scratch("lmtp.sock");
    let mut server = Server::start_edited(|text| {
        let text = text.replace(
            "address = \"mail/lmtp.sock\"\n",
            &format!("address = \"{}\"\nsocket_mode = \"0666\"\n", socket.display()),
        );
        assert!(text.contains("0666"), "{text}");
        text
    })
    .unwrap();
    server
        .edit("accounts", |text| {
            let hash = text.lines().next().unwrap().split(':').nth(1).unwrap().to_owned();
            format!("{text}small@example.net:{hash}::::::userdb_quota_rule=*:storage=1K\n")
        })
        .unwrap();
    server.edit("mailboxes", |text| format!("{text}small@example.net true\n")).unwrap();
    server.command(&["reload"]).unwrap();
    let onward = format!(
        "virtual_mailbox_domains = example.net\nvirtual_transport = lmtp:unix:{}\nlmtp_host_lookup = native\n",
        socket.display()
    );
    let certificate = internet.authority().issue(&Leaf::of("front.example.org")).unwrap();
    let postfix = RealMta::postfix(&internet, "front.example.org", &certificate, &onward).unwrap();

    // One that exists, one that does not, one that is full: each has an outcome of its own (RFC 2033 §4.2).
    let recipients = [BRIAN, "nobody@example.net", "small@example.net"];
    let body = "x".repeat(900);
    let text =
        format!("Subject: over-lmtp\r\nReturn-Path: <forged@example.org>\r\n\r\n{body}\r\n{body}\r\n..dots\r\n.\r\n");
    postfix.submit("you@example.org", &recipients, &text).unwrap();
    wait_until("each recipient has an outcome", || postfix.log().matches(" status=").count() >= 3);
    let log = postfix.log();
    let line = |recipient: &str| {
        let mark = format!("to=<{recipient}>");
        log.lines()
            .find(|line| line.contains(&mark))
            .unwrap_or_else(|| panic!("{recipient} is not in:\n{log}"))
            .to_owned()
    };
    let brian = line(BRIAN);
    assert!(brian.contains("status=sent (250 2.0.0 <brian@example.net> ") && brian.contains(" Saved)"), "{brian}");
    let nobody = line("nobody@example.net");
    assert!(
        nobody.contains("status=bounced")
            && nobody.contains("550 5.1.1 <nobody@example.net> User doesn't exist: nobody@example.net"),
        "{nobody}"
    );
    let small = line("small@example.net");
    assert!(
        small.contains("status=bounced")
            && small.contains("552 5.2.2 <small@example.net> Quota exceeded (mailbox for user is full)"),
        "{small}"
    );

    let mail = crate::desk::message(&server, BRIAN, "INBOX", "over-lmtp");
    assert!(mail.text().starts_with("Return-Path: <you@example.org>\r\n"), "{}", mail.text());
    assert!(!mail.text().contains("forged@"), "{}", mail.text());
    assert!(mail.field("Received").unwrap().contains("with LMTP"), "{}", mail.text());
    assert!(mail.text().ends_with("x\r\n..dots\r\n.\r\n"), "{:?}", mail.body());
    assert!(messages(&server, "small@example.net", "INBOX").is_empty());

    // R67: while nobody answers on the socket, mail waits.
    server.stop().unwrap();
    postfix.submit("you@example.org", &[BRIAN], "Subject: waits\r\n\r\nx\r\n").unwrap();
    wait_until("the message is deferred", || postfix.log().contains("status=deferred"));
    server.launch(&[]).unwrap();
    postfix.flush().unwrap();
    wait_until("the message arrives", || subjects(&server, BRIAN, "INBOX").contains(&"waits".to_owned()));
    let waited = crate::desk::message(&server, BRIAN, "INBOX", "waits");
    assert_eq!(waited.field("Delivered-To").as_deref(), Some(BRIAN));
    deliver(&server, BRIAN, "direct", "and our own port still works");

    // Many at once over the same socket.
    let source =
        Peer::new("smtp-source").args(["-s", "5", "-m", "50", "-l", "2000", "-S", "load", "-f", "you@example.org"]);
    source.args(["-t", BRIAN]).arg(format!("inet:{}", postfix.address)).succeed().unwrap();
    wait_until("all arrive", || {
        subjects(&server, BRIAN, "INBOX").iter().filter(|subject| *subject == "load").count() == 50
    });
}
