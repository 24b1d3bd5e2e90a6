//! curl reads and sends over every protocol it has for mail.

use crate::desk::{authorities, deliver, message, messages, subjects};
use crate::{BRIAN, NOT_BRIAN};
use peers::peer::{Outcome, Peer};
use peers::server::{PASSWORD, Port, Server};

/// curl at a place of a service. The certificate is checked for real: it is the server's own.
fn curl(server: &Server, scheme: &str, port: Port, place: &str, arguments: &[&str]) -> Outcome {
    let set = if scheme.starts_with("smtp") { "" } else { "mail-" };
    let port = server.port(port);
    Peer::new("curl")
        .args(["--silent", "--show-error", "--ssl-reqd", "--cacert"])
        .arg(authorities(server, set))
        .args(["--resolve", &format!("mail.example.net:{port}:127.0.0.1"), "--user", &format!("{BRIAN}:{PASSWORD}")])
        .args(arguments)
        .arg(format!("{scheme}://mail.example.net:{port}/{place}"))
        .run()
        .unwrap()
}

fn said(outcome: Outcome) -> String {
    assert_eq!(outcome.status, Some(0), "{outcome}");
    String::from_utf8_lossy(&outcome.output).into_owned()
}

#[test]
fn imaps_list_fetch_search_append_store() {
    let server = Server::start().unwrap();
    deliver(&server, BRIAN, "first", "one body");
    deliver(&server, BRIAN, "second", "another body");
    let imaps = |place: &str, arguments: &[&str]| said(curl(&server, "imaps", Port::Imaps, place, arguments));

    let list = imaps("", &[]);
    assert!(list.contains("INBOX") && list.contains("* LIST ("), "{list}");
    let body = imaps("INBOX;MAILINDEX=2", &[]);
    assert!(body.contains("Subject: first\r\n") && body.ends_with("one body\r\n"), "{body}");
    let text = imaps("INBOX;UID=3;SECTION=TEXT", &[]);
    assert_eq!(text, "another body\r\n");
    assert_eq!(imaps("INBOX?SUBJECT%20second", &[]).trim(), "* SEARCH 3");
    assert_eq!(imaps("INBOX?ALL", &[]).trim(), "* SEARCH 1 2 3");

    let file = server.scratch("upload.eml");
    std::fs::write(&file, "Subject: appended\r\nFrom: <brian@example.net>\r\n\r\nby curl\r\n").unwrap();
    imaps("Sent", &["--upload-file", file.to_str().unwrap()]);
    let sent = message(&server, BRIAN, "Sent", "appended");
    assert_eq!(sent.octets, std::fs::read(&file).unwrap());

    let stored = imaps("INBOX", &["--request", "STORE 2 +FLAGS (\\Flagged \\Answered $Label1)"]);
    assert!(stored.contains("\\Flagged") && stored.contains("$Label1"), "{stored}");
    let flags = message(&server, BRIAN, "INBOX", "first").flags;
    assert!(flags.contains("\\Flagged") && flags.contains("\\Answered") && flags.contains("$Label1"), "{flags}");
    imaps("", &["--request", "CREATE Projects/Mail"]);
    let list = imaps("", &["--request", "LIST \"\" Projects*"]);
    assert!(list.contains("Projects/Mail"), "{list}");
}

#[test]
fn imap_and_pop3_with_starttls() {
    let server = Server::start().unwrap();
    deliver(&server, BRIAN, "first", "one body");
    let body = said(curl(&server, "imap", Port::Imap, "INBOX;MAILINDEX=2", &[]));
    assert!(body.contains("Subject: first"), "{body}");
    let body = said(curl(&server, "pop3", Port::Pop3, "2", &[]));
    assert!(body.contains("Subject: first"), "{body}");
}

#[test]
fn r58_pop3s_list_retrieve_delete() {
    let server = Server::start().unwrap();
    deliver(&server, BRIAN, "first", "one body\r\n.a dot in front\r\n..two");
    let pop3s = |place: &str, arguments: &[&str]| said(curl(&server, "pop3s", Port::Pop3s, place, arguments));

    let list = pop3s("", &[]);
    let sizes: Vec<usize> = list.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    let inbox = messages(&server, BRIAN, "INBOX");
    assert_eq!(sizes, inbox.iter().map(|message| message.octets.len()).collect::<Vec<_>>());
    assert_eq!(pop3s("2", &[]).into_bytes(), inbox[1].octets);
    let unique = pop3s("", &["--request", "UIDL"]);
    let ids: Vec<&str> = unique.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{unique}");
    // R59: 32 hexadecimal digits.
    assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|octet| octet.is_ascii_hexdigit())), "{unique}");
    let top = pop3s("", &["--request", "TOP 2 1"]);
    assert!(top.contains("Subject: first") && top.contains("one body") && !top.contains("two"), "{top}");
    pop3s("", &["--request", "DELE 1", "--head"]);
    assert_eq!(subjects(&server, BRIAN, "INBOX"), ["first"]);
    let outcome = curl(&server, "pop3s", Port::Pop3s, "", &["--user", "brian@example.net:wrong"]);
    assert_eq!(outcome.status, Some(67), "{outcome}");
}

#[test]
fn r130_submission_with_tls_required() {
    let server = Server::start().unwrap();
    let file = server.scratch("mail.eml");
    for (subject, scheme, port) in [("starttls", "smtp", Port::Submission), ("implicit", "smtps", Port::Submissions)] {
        std::fs::write(&file, format!("From: <{BRIAN}>\r\nSubject: {subject}\r\n\r\n.dot\r\n..dots\r\nend\r\n"))
            .unwrap();
        let to = ["--mail-from", BRIAN, "--mail-rcpt", NOT_BRIAN, "--upload-file", file.to_str().unwrap()];
        said(curl(&server, scheme, port, "client.example.org", &to));
        assert_eq!(message(&server, NOT_BRIAN, "INBOX", subject).body(), ".dot\r\n..dots\r\nend\r\n");
    }
}
