//! fetchmail polls over POP3 inside TLS.

use crate::BRIAN;
use crate::desk::{authorities, deliver, subjects};
use peers::peer::{Outcome, Peer};
use peers::server::{PASSWORD, Port, Server};
use std::os::unix::fs::PermissionsExt;

fn fetchmail(server: &Server, arguments: &[&str]) -> Outcome {
    let home = server.scratch("fetchmail");
    std::fs::create_dir_all(&home).unwrap();
    // Its name must be among those of the certificate, which fetchmail checks.
    let text = format!(
        "poll 127.0.0.1 via 127.0.0.1 protocol pop3 port {port} uidl\n  user \"{BRIAN}\" password \"{PASSWORD}\"\n  \
         ssl sslproto \"TLS1.2+\" no sslcertck sslcertfile \"{authorities}\"\n  mda \"cat >> {inbox}; echo >> {inbox}\"\n",
        port = server.port(Port::Pop3s),
        authorities = authorities(server, "mail-").display(),
        inbox = home.join("inbox").display(),
    );
    let file = home.join("fetchmailrc");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let peer = Peer::new("fetchmail").env("FETCHMAILHOME", &home).env("HOME", &home).arg("-f").arg(&file);
    peer.args(["--nosyslog", "--verbose"]).args(arguments).run().unwrap()
}

fn inbox(server: &Server) -> String {
    std::fs::read_to_string(server.scratch("fetchmail/inbox")).unwrap_or_default()
}

/// fetchmail's exit status when there was nothing new.
const NOTHING_NEW: Option<i32> = Some(1);

#[test]
fn r61_left_on_the_server_and_fetched_once() {
    let server = Server::start().unwrap();
    deliver(&server, BRIAN, "first", "one body\r\n.dot\r\n");
    let outcome = fetchmail(&server, &["--keep"]);
    assert_eq!(outcome.status, Some(0), "{outcome}");
    let once = inbox(&server);
    assert!(once.contains("Subject: Welcome to pillarbox") && once.contains("Subject: first"), "{once}");
    assert!(once.contains("\n.dot\n") && !once.contains("\n..dot\n"), "{once}");

    let outcome = fetchmail(&server, &["--keep"]);
    assert_eq!(outcome.status, NOTHING_NEW, "{outcome}");
    assert_eq!(inbox(&server), once);

    deliver(&server, BRIAN, "second", "more");
    let outcome = fetchmail(&server, &["--keep"]);
    assert_eq!(outcome.status, Some(0), "{outcome}");
    let twice = inbox(&server);
    assert!(twice.starts_with(&once) && twice.contains("Subject: second"));
    assert_eq!(twice.matches("Subject: first").count(), 1);
    assert_eq!(subjects(&server, BRIAN, "INBOX").len(), 3);

    // R58: without --keep, what was fetched is deleted.
    deliver(&server, BRIAN, "third", "last");
    let outcome = fetchmail(&server, &["--nokeep", "--fetchall"]);
    assert_eq!(outcome.status, Some(0), "{outcome}");
    assert!(inbox(&server).contains("Subject: third"));
    assert!(subjects(&server, BRIAN, "INBOX").is_empty());
}
