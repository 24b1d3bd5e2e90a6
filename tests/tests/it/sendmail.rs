//! Programs that submit through the command `sendmail`: a shell as cron has one, mailx, neomutt, Python.

use crate::BRIAN;
use crate::desk::{deliver, message, subjects};
use peers::peer::Peer;
use peers::server::{Server, binary};
use std::path::PathBuf;

/// The command under its old name, as an administrator installs it.
fn installed(server: &Server) -> PathBuf {
    let folder = server.scratch("sbin");
    std::fs::create_dir_all(&folder).unwrap();
    let link = folder.join("sendmail");
    std::os::unix::fs::symlink(std::path::absolute(binary()).unwrap(), &link).unwrap();
    link
}

/// A program that finds the server by its configuration.
fn peer(name: &str, server: &Server) -> Peer {
    let peer = Peer::new(name).env("PILLARBOX_CONFIG", server.folder.join("pillarbox.toml"));
    peer.env("PILLARBOX_SENDMAIL_DOMAIN", "example.net").env("HOME", server.scratch(""))
}

#[test]
fn r213_r103_what_cron_prints_arrives_signed() {
    let server = Server::start().unwrap();
    server.command(&["dkim", "key", "example.net"]).unwrap();
    server.command(&["reload"]).unwrap();
    let sendmail = installed(&server);
    let shell = "printf 'Subject: t\\n\\nx\\n' | \"$0\" -f root@example.net brian@example.net";
    peer("sh", &server).args(["-c", shell]).arg(&sendmail).succeed().unwrap();
    let arrived = message(&server, BRIAN, "INBOX", "t");
    assert_eq!(arrived.body(), "x\r\n");
    assert_eq!(arrived.field("Return-Path").as_deref(), Some("<root@example.net>"));
    assert!(arrived.field("From").unwrap().ends_with("root@example.net>"), "{}", arrived.text());
    assert!(arrived.field("Date").is_some() && arrived.field("Message-ID").unwrap().ends_with("@example.net>"));
    assert!(arrived.field("DKIM-Signature").unwrap().contains("d=example.net"), "{}", arrived.text());

    // Debian's cron: what it calls, and the header it writes.
    let header = "From: root (Cron Daemon)\nTo: brian\nSubject: Cron <root@mx> true\nMIME-Version: 1.0\n\
                  Content-Type: text/plain; charset=UTF-8\nAuto-Submitted: auto-generated\n\ngr\u{fc}n\n.\nend\n";
    let words = ["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "-t"];
    peer(sendmail.to_str().unwrap(), &server).args(words).input(header).succeed().unwrap();
    let arrived = message(&server, BRIAN, "INBOX", "Cron <root@mx> true");
    assert_eq!(arrived.field("From").as_deref(), Some("root@example.net (Cron Daemon)"));
    assert_eq!(arrived.body(), "gr\u{fc}n\r\n.\r\nend\r\n");

    // R214.
    let large = [b"Subject: large\n\n".to_vec(), vec![b'x'; 52_000_000]].concat();
    let outcome = peer(sendmail.to_str().unwrap(), &server).arg(BRIAN).input(large).run().unwrap();
    assert_eq!(outcome.status, Some(65), "{outcome}");
    assert!(!subjects(&server, BRIAN, "INBOX").contains(&"large".to_owned()));
}

#[test]
fn r213_mailx_sends() {
    let server = Server::start().unwrap();
    let settings = server.scratch("mailrc");
    std::fs::write(&settings, format!("set sendmail={}\n", installed(&server).display())).unwrap();
    let mail = peer("bsd-mailx", &server).env("MAILRC", &settings);
    let mail = mail.args(["-s", "from mailx", "-c", "info@example.net", "-b", "notbrian", BRIAN]);
    mail.input("one\n..two\n.\nnever\n").succeed().unwrap();
    let arrived = message(&server, BRIAN, "INBOX", "from mailx");
    assert_eq!(arrived.field("To").as_deref(), Some(BRIAN));
    assert!(arrived.body().starts_with("one\r\n..two\r\n"), "{}", arrived.text());
    assert!(!arrived.text().contains("Bcc") && arrived.field("From").unwrap().contains("@example.net"));
    assert_eq!(subjects(&server, crate::NOT_BRIAN, "INBOX"), ["from mailx"]);
}

#[test]
fn r213_neomutt_sends() {
    let server = Server::start().unwrap();
    deliver(&server, BRIAN, "before", "x");
    let settings = server.scratch("neomuttrc");
    let text = format!(
        "set sendmail=\"{} -oem -oi\" use_envelope_from=yes from={BRIAN} realname=Bri\u{e1}n record=\"\" charset=utf-8 send_charset=utf-8\n",
        installed(&server).display()
    );
    std::fs::write(&settings, text).unwrap();
    let neomutt = peer("neomutt", &server).args(["-n", "-F"]).arg(&settings);
    let neomutt = neomutt.args(["-s", "from neomutt", "-c", "notbrian@example.net", "--", BRIAN]);
    neomutt.input(".one\n.\ngr\u{fc}n\n").succeed().unwrap();
    let arrived = message(&server, BRIAN, "INBOX", "from neomutt");
    assert_eq!(arrived.field("Return-Path").as_deref(), Some("<brian@example.net>"));
    assert_eq!(arrived.body(), ".one\r\n.\r\ngr\u{fc}n\r\n");
    assert_eq!(subjects(&server, crate::NOT_BRIAN, "INBOX"), ["from neomutt"]);
}
