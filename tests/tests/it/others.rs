//! Three more programs of their own making: msmtp and mpop (GnuTLS), imapfilter (Lua).

use crate::desk::{authorities, deliver, message, messages, subjects};
use crate::{BRIAN, NOT_BRIAN};
use peers::peer::{Outcome, Peer};
use peers::server::{PASSWORD, Port, Server};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Writes a file that only its owner may read, as these programs want it.
fn write(server: &Server, name: &str, text: &str) -> PathBuf {
    let file = server.scratch(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

#[test]
fn msmtp_sends() {
    let server = Server::start().unwrap();
    let authorities = authorities(&server, "");
    for (subject, port, starttls) in [("starttls", Port::Submission, "on"), ("implicit", Port::Submissions, "off")] {
        let text = format!(
            "account default\nhost 127.0.0.1\nport {}\nfrom {BRIAN}\nauth plain\nuser {BRIAN}\npassword {PASSWORD}\ntls on\n\
             tls_starttls {starttls}\ntls_trust_file {}\ntls_host_override mail.example.net\ndomain client.example.org\n",
            server.port(port),
            authorities.display()
        );
        let file = write(&server, "msmtprc", &text);
        let mail = format!("From: <{BRIAN}>\nTo: <{NOT_BRIAN}>\nSubject: {subject}\n\n.one\n..two\n");
        Peer::new("msmtp").arg("--file").arg(&file).arg(NOT_BRIAN).input(mail).succeed().unwrap();
        assert_eq!(message(&server, NOT_BRIAN, "INBOX", subject).body(), ".one\r\n..two\r\n");
    }
}

#[test]
fn mpop_fetches_once_and_deletes() {
    let server = Server::start().unwrap();
    deliver(&server, BRIAN, "first", ".one\r\n..two");
    let inbox = server.scratch("mpop-inbox");
    let mpop = |port: Port, starttls: &str, keep: &str| -> Outcome {
        let text = format!(
            "account default\nhost 127.0.0.1\nport {}\nauth user\nuser {BRIAN}\npassword {PASSWORD}\ntls on\ntls_starttls {starttls}\n\
             tls_trust_file {}\ntls_host_override mail.example.net\ndelivery mbox {}\nuidls_file {}\nonly_new on\nkeep {keep}\n\
             received_header off\n",
            server.port(port),
            authorities(&server, "mail-").display(),
            inbox.display(),
            server.scratch("mpop-uidls").display(),
        );
        let file = write(&server, "mpoprc", &text);
        Peer::new("mpop").arg("--file").arg(&file).succeed().unwrap()
    };
    let mailbox = || std::fs::read_to_string(&inbox).unwrap_or_default();
    mpop(Port::Pop3s, "off", "on");
    let once = mailbox();
    assert!(once.contains("Subject: Welcome to pillarbox\n") && once.contains("\n.one\n..two\n"), "{once}");
    mpop(Port::Pop3, "on", "on");
    assert_eq!(mailbox(), once, "nothing new");
    deliver(&server, BRIAN, "second", "more");
    mpop(Port::Pop3, "on", "off");
    let twice = mailbox();
    assert!(twice.starts_with(&once) && twice.matches("Subject: ").count() == 3, "{twice}");
    assert!(subjects(&server, BRIAN, "INBOX").is_empty());
}

#[test]
fn imapfilter_sorts_a_mailbox() {
    let server = Server::start().unwrap();
    for number in 0..20 {
        deliver(&server, BRIAN, &format!("list-{number}"), "from a mailing list");
        deliver(&server, BRIAN, &format!("keep-{number}"), "from a friend");
    }
    let text = format!(
        "options.certificates = false\noptions.hostnames = false\noptions.timeout = 30\noptions.create = true\n\
         account = IMAP {{ server = '127.0.0.1', port = {}, username = '{BRIAN}', password = '{PASSWORD}', ssl = 'auto' }}\n\
         found = account.INBOX:contain_subject('list-') * account.INBOX:is_unseen()\n\
         found:move_messages(account['Lists/Rust'])\n\
         some = account.INBOX:contain_body('friend') * account.INBOX:contain_from('you@example.org')\n\
         some:mark_flagged()\n\
         account.INBOX:contain_subject('keep-1'):copy_messages(account.Archive)\n\
         account.INBOX:match_subject('keep-0'):delete_messages()\n\
         mailboxes, folders = account:list_all()\n\
         print('MAILBOXES ' .. table.concat(mailboxes, ' '))\n",
        server.port(Port::Imaps)
    );
    let file = write(&server, "imapfilter.lua", &text);
    let outcome =
        Peer::new("imapfilter").env("HOME", server.scratch("")).env("SSL_CERT_FILE", authorities(&server, "mail-"));
    let outcome = outcome.arg("-c").arg(&file).succeed().unwrap();
    outcome.must_say("Lists/Rust").unwrap();
    assert_eq!(messages(&server, BRIAN, "Lists/Rust").len(), 20, "{outcome}");
    let left = messages(&server, BRIAN, "INBOX");
    assert_eq!(left.len(), 20, "the welcome message and 19 of 20: {outcome}");
    assert_eq!(left.iter().filter(|message| message.flags.contains("\\Flagged")).count(), 19);
    // keep-1 and keep-10 to keep-19.
    assert_eq!(messages(&server, BRIAN, "Archive").len(), 11);
}
