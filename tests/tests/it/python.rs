//! Python's imaplib, poplib and smtplib: scripts that go through the whole life of a mailbox.

use crate::BRIAN;
use crate::desk::{deliver, subjects};
use peers::peer::Peer;
use peers::server::{PASSWORD, Port, Server};

fn script(server: &Server, name: &str) -> Peer {
    let ports = [
        ("MX", Port::Mx),
        ("SUBMISSION", Port::Submission),
        ("SUBMISSIONS", Port::Submissions),
        ("IMAPS", Port::Imaps),
        ("IMAP", Port::Imap),
        ("POP3S", Port::Pop3s),
        ("POP3", Port::Pop3),
    ];
    let peer = Peer::script(name).env("PASSWORD", PASSWORD);
    ports.into_iter().fold(peer, |peer, (name, port)| peer.env(name, server.port(port).to_string()))
}

#[test]
fn imaplib_whole_life_cycle() {
    let server = Server::start().unwrap();
    script(&server, "imap_life.py").succeed().unwrap();
}

#[test]
fn imaplib_extensions() {
    let server = Server::start().unwrap();
    script(&server, "imap_extensions.py").succeed().unwrap();
}

#[test]
fn r51_r52_imaplib_two_sessions_and_idle() {
    let server = Server::start().unwrap();
    script(&server, "imap_sessions.py").succeed().unwrap();
}

#[test]
fn v61_imaplib_a_thousand_commands_without_waiting() {
    let server = Server::start().unwrap();
    script(&server, "imap_pipeline.py").succeed().unwrap();
}

#[test]
fn r48_r49_imaplib_starttls() {
    let server = Server::start().unwrap();
    script(&server, "imap_starttls.py").succeed().unwrap();
}

#[test]
fn poplib_whole_life_cycle() {
    let mut server = Server::start().unwrap();
    for subject in ["one", "two", "three"] {
        deliver(&server, BRIAN, subject, "first line\r\n.dot\r\nthird line\r\n");
    }
    // R59: two messages that are the same have different UIDLs all the same.
    deliver(&server, BRIAN, "same", "same");
    deliver(&server, BRIAN, "same", "same");
    let before = script(&server, "pop_life.py").arg("uidl").succeed().unwrap().output;
    assert_eq!(before.iter().filter(|octet| **octet == b'\n').count(), 6);
    server.stop().unwrap();
    server.launch(&[]).unwrap();
    assert_eq!(script(&server, "pop_life.py").arg("uidl").succeed().unwrap().output, before, "UIDLs after a restart");
    script(&server, "pop_life.py").arg("life").succeed().unwrap();
    assert_eq!(subjects(&server, BRIAN, "INBOX"), ["Welcome to pillarbox", "two", "three", "same", "for-two"]);
}

#[test]
fn smtplib_extensions_and_errors() {
    let server = Server::start_distrustful().unwrap();
    script(&server, "smtp_session.py").succeed().unwrap();
}
