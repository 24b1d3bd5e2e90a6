//! What several subjects do the same way: put a message there, wait for one, read them all.

use peers::client::{Imap, Message, Smtp};
use peers::server::{PASSWORD, Port, Server};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest wait for something that should happen at once.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Delivers a small message over SMTP.
pub fn deliver(server: &Server, to: &str, subject: &str, body: &str) {
    let body = body.strip_prefix('.').map(|rest| format!("..{rest}")).unwrap_or(body.to_owned()).replace("\n.", "\n..");
    let text = format!(
        "From: <you@example.org>\r\nTo: <{to}>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@example.org>\r\n\r\n{body}"
    );
    Smtp::connect(server.port(Port::Mx)).unwrap().send("you@example.org", &[to], &text).unwrap();
}

/// Logs in over IMAPS.
pub fn imap(server: &Server, account: &str) -> Imap {
    Imap::login(server.port(Port::Imaps), account, PASSWORD).unwrap()
}

/// All messages of an account's mailbox.
pub fn messages(server: &Server, account: &str, mailbox: &str) -> Vec<Message> {
    imap(server, account).messages(mailbox).unwrap()
}

/// The only message of a mailbox with this subject.
pub fn message(server: &Server, account: &str, mailbox: &str, subject: &str) -> Message {
    let all = messages(server, account, mailbox);
    let mut found = all.iter().filter(|message| message.field("Subject").as_deref() == Some(subject));
    let first = found.next().cloned();
    assert!(found.next().is_none(), "{subject} is there twice");
    first.unwrap_or_else(|| panic!("{subject} is not in {mailbox} of {account}, which has {} messages", all.len()))
}

/// Subjects of all messages of a mailbox, in order.
pub fn subjects(server: &Server, account: &str, mailbox: &str) -> Vec<String> {
    messages(server, account, mailbox).iter().filter_map(|message| message.field("Subject")).collect()
}

/// A file with both certificates of a set (`""` for SMTP, `"mail-"` for IMAP and POP3), to trust.
pub fn authorities(server: &Server, set: &str) -> PathBuf {
    let file = server.scratch(&format!("{set}authorities.pem"));
    let certificate = |kind: &str| std::fs::read(server.folder.join(format!("tls/{set}{kind}-cert.pem"))).unwrap();
    std::fs::write(&file, [certificate("rsa"), certificate("ecdsa")].concat()).unwrap();
    file
}

/// Waits until something is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < WAIT_MAX, "{what}: not after {WAIT_MAX:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
