//! The dialogues of a well-known guide to Postfix and Dovecot, typed as a person types them: socat and s_client send a
//! bare line feed at the end of a line, one line at a time (R198).

use crate::desk::{messages, subjects};
use crate::{BRIAN, NOT_BRIAN};
use peers::client::Smtp;
use peers::peer::{Outcome, Peer};
use peers::server::{PASSWORD, Port, Server};
use std::time::Duration;

/// Between two lines. The machines do not mind; it makes sure that lines come one at a time.
const TYPING: Duration = Duration::from_millis(60);
/// Before the first line: the greeting and a handshake come first.
const READING: Duration = Duration::from_millis(400);

fn typed(peer: Peer, lines: &[&str]) -> Outcome {
    let peer = peer.typed(READING, "");
    let peer = lines.iter().fold(peer, |peer, line| peer.typed(TYPING, format!("{line}\n")));
    peer.typed(READING, "").run().unwrap()
}

fn socat(server: &Server, port: Port, lines: &[&str]) -> String {
    let outcome = typed(Peer::new("socat").args(["-", &format!("TCP:127.0.0.1:{}", server.port(port))]), lines);
    String::from_utf8(outcome.output).unwrap()
}

fn s_client(server: &Server, port: Port, arguments: &[&str], lines: &[&str]) -> String {
    let connect = ["s_client", "-quiet", "-connect", &format!("127.0.0.1:{}", server.port(port))];
    let outcome = typed(Peer::new("openssl").args(connect).args(arguments), lines);
    String::from_utf8(outcome.output).unwrap()
}

/// Server lines, each with its CRLF. `*` stands for a queue id.
fn assert_lines(seen: &str, wanted: &[&str]) {
    let lines: Vec<&str> = seen.split_inclusive('\n').collect();
    assert!(lines.iter().all(|line| line.ends_with("\r\n")), "{seen:?}");
    assert_eq!(lines.len(), wanted.len(), "{seen}");
    for (line, wanted) in lines.iter().zip(wanted) {
        match wanted.strip_suffix('*') {
            None => assert_eq!(line.trim_end(), *wanted, "{seen}"),
            Some(prefix) => {
                let id = line.trim_end().strip_prefix(prefix).unwrap_or_else(|| panic!("{wanted}: {seen}"));
                let is_id =
                    (6..=20).contains(&id.len()) && id.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'A'..=b'F'));
                assert!(is_id, "`{id}` is not a queue id: {seen}");
            }
        }
    }
}

const CLEAR: [&str; 9] = [
    "250-mx.example.net",
    "250-PIPELINING",
    "250-SIZE 51200000",
    "250-VRFY",
    "250-ETRN",
    "250-STARTTLS",
    "250-ENHANCEDSTATUSCODES",
    "250-8BITMIME",
    "250 DSN",
];
const BYE: &str = "221 2.0.0 Bye";
const GREETING: &str = "220 mx.example.net ESMTP";

#[test]
fn delivery_to_a_virtual_user() {
    let server = Server::start().unwrap();
    let lines = [
        "EHLO mx.example.net",
        "MAIL FROM: <root@example.net>",
        "RCPT TO: <brian@example.net>",
        "DATA",
        "Subject: Test Message",
        "",
        "This is a manually submitted test message.",
        ".",
        "QUIT",
    ];
    let seen = socat(&server, Port::Mx, &lines);
    let after =
        ["250 2.1.0 Ok", "250 2.1.5 Ok", "354 End data with <CR><LF>.<CR><LF>", "250 2.0.0 Ok: queued as *", BYE];
    assert_lines(&seen, &[&[GREETING][..], &CLEAR, &after].concat());
    let mail = messages(&server, BRIAN, "INBOX").pop().unwrap();
    assert_eq!(mail.field("Subject").as_deref(), Some("Test Message"));
    assert_eq!(mail.body(), "This is a manually submitted test message.\r\n");
}

#[test]
fn r87_to_r90_the_four_lists_of_extensions() {
    let server = Server::start().unwrap();
    let ehlo = ["EHLO mx.example.net", "QUIT"];
    for port in [Port::Mx, Port::Submission] {
        assert_lines(&socat(&server, port, &ehlo), &[&[GREETING][..], &CLEAR, &[BYE]].concat());
    }
    let inside: Vec<&str> = CLEAR.into_iter().filter(|line| *line != "250-STARTTLS").collect();
    let seen = s_client(&server, Port::Mx, &["-starttls", "smtp"], &ehlo);
    assert_lines(&seen, &[&inside[..], &[BYE]].concat());
    let mut with_login = inside.clone();
    with_login.insert(5, "250-AUTH PLAIN LOGIN");
    let seen = s_client(&server, Port::Submission, &["-starttls", "smtp"], &ehlo);
    assert_lines(&seen, &[&with_login[..], &[BYE]].concat());
    // The port with TLS from the first octet says the same, and greets inside.
    let seen = s_client(&server, Port::Submissions, &[], &ehlo);
    assert_lines(&seen, &[&[GREETING][..], &with_login, &[BYE]].concat());
}

#[test]
fn r91_more_extensions_come_last_and_only_when_asked_for() {
    let server = Server::start_edited(|text| {
        text.replace("name = \"mx\"\n", "name = \"mx\"\noffer = [\"SMTPUTF8\", \"CHUNKING\"]\nmask = [\"VRFY\"]\n")
    })
    .unwrap();
    let mut more: Vec<&str> = CLEAR.into_iter().filter(|line| *line != "250-VRFY" && *line != "250 DSN").collect();
    more.extend(["250-DSN", "250-SMTPUTF8", "250 CHUNKING"]);
    let lines = [
        "EHLO mx.example.net",
        "VRFY brian@example.net",
        "MAIL FROM:<root@example.net>",
        "RCPT TO:<brian@example.net>",
    ];
    let lines = [&lines[..], &["BDAT 19", "Subject: chunks\n\nx", "BDAT 0 LAST", "QUIT"]].concat();
    let seen = socat(&server, Port::Mx, &lines);
    let after = [
        "502 5.5.1 VRFY command is disabled",
        "250 2.1.0 Ok",
        "250 2.1.5 Ok",
        "250 2.0.0 Ok: 19 octets",
        "250 2.0.0 Ok: queued as *",
        BYE,
    ];
    assert_lines(&seen, &[&[GREETING][..], &more, &after].concat());
    assert_eq!(subjects(&server, BRIAN, "INBOX"), ["Welcome to pillarbox", "chunks"]);
}

#[test]
fn r19_starttls_is_offered_and_accepted() {
    let server = Server::start().unwrap();
    let seen = socat(&server, Port::Mx, &["EHLO mx.example.net", "STARTTLS"]);
    assert_lines(&seen, &[&[GREETING][..], &CLEAR, &["220 2.0.0 Ready to start TLS"]].concat());
}

#[test]
fn r102_a_message_without_an_empty_line_and_another_in_the_same_session() {
    let server = Server::start().unwrap();
    let one = ["MAIL FROM: <root@example.net>", "RCPT TO: <brian@example.net>", "DATA"];
    let lines = [
        &["EHLO mx.example.net"][..],
        &one,
        &["Subject: Virus Free", "No Viruses here!", "."],
        &one,
        &["Subject: Another", "", ".dots", "..", "end", ".", "QUIT"],
    ];
    let seen = socat(&server, Port::Mx, &lines.concat());
    let accepted = ["250 2.1.0 Ok", "250 2.1.5 Ok", "354 End data with <CR><LF>.<CR><LF>", "250 2.0.0 Ok: queued as *"];
    assert_lines(&seen, &[&[GREETING][..], &CLEAR, &accepted, &accepted, &[BYE]].concat());
    let mail = messages(&server, BRIAN, "INBOX");
    assert_eq!(mail[1].field("Subject").as_deref(), Some("Virus Free"));
    assert_eq!(mail[1].body(), "No Viruses here!\r\n");
    assert_eq!(mail[2].body(), "dots\r\n.\r\nend\r\n");
}

#[test]
fn r18_submission_without_tls_does_nothing() {
    let server = Server::start().unwrap();
    let lines = ["EHLO mx.example.net", "MAIL FROM:<brian@example.net>", "AUTH PLAIN AGEAYgBj", "RSET", "NOOP", "QUIT"];
    let seen = socat(&server, Port::Submission, &lines);
    let first = "530 5.7.0 Must issue a STARTTLS command first";
    assert_lines(&seen, &[&[GREETING][..], &CLEAR, &[first, first, "250 2.0.0 Ok", "250 2.0.0 Ok", BYE]].concat());
}

#[test]
fn r131_r137_sender_addresses_on_submission() {
    let login =
        Peer::new("sh").args(["-c", &format!("printf '\\0{BRIAN}\\0{PASSWORD}' | base64 -w0")]).succeed().unwrap();
    let auth = format!("AUTH PLAIN {}", String::from_utf8(login.output).unwrap());
    let to = format!("RCPT TO:<{NOT_BRIAN}>");
    let lines = [
        "EHLO mx.example.net",
        &auth,
        "MAIL FROM:<notbrian@example.net>",
        &to,
        "RSET",
        "MAIL FROM:<brian@example.net>",
        &to,
        "DATA",
        "Subject: submitted",
        "",
        "hi",
        ".",
        "QUIT",
    ];
    // R137: the guide's server trusts loopback, so nobody's sender is refused there.
    let server = Server::start().unwrap();
    let seen = s_client(&server, Port::Submission, &["-starttls", "smtp"], &lines);
    assert!(
        seen.contains("235 2.7.0 Authentication successful\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 Ok\r\n"),
        "{seen}"
    );
    assert_eq!(subjects(&server, NOT_BRIAN, "INBOX"), ["submitted"]);

    // To strangers bare line feeds end nothing, so here they are typed with `-crlf`.
    let server = Server::start_distrustful().unwrap();
    let seen = s_client(&server, Port::Submission, &["-crlf", "-starttls", "smtp"], &lines);
    let refused = "553 5.7.1 <notbrian@example.net>: Sender address rejected: not owned by user brian@example.net\r\n";
    assert!(
        seen.contains(&format!("235 2.7.0 Authentication successful\r\n250 2.1.0 Ok\r\n{refused}250 2.0.0 Ok\r\n")),
        "{seen}"
    );
    assert!(seen.ends_with("\r\n221 2.0.0 Bye\r\n"), "{seen}");
    assert_eq!(subjects(&server, NOT_BRIAN, "INBOX"), ["submitted"]);
}

#[test]
fn imap_and_pop3_typed_by_hand() {
    let server = Server::start().unwrap();
    Smtp::connect(server.port(Port::Mx)).unwrap().send("you@example.org", &[BRIAN], "Subject: x\r\n\r\nx").unwrap();
    let login = format!("a1 LOGIN {BRIAN} {PASSWORD}");
    let lines = [&login, "a2 STATUS INBOX (MESSAGES)", "a3 GETQUOTAROOT INBOX", "a4 LOGOUT"];
    let seen = s_client(&server, Port::Imaps, &[], &lines);
    let answers: Vec<&str> = seen.lines().collect();
    assert!(
        answers[0].starts_with("* OK [CAPABILITY IMAP4rev1 ") && answers[0].contains("AUTH=PLAIN AUTH=LOGIN]"),
        "{seen}"
    );
    assert!(answers[0].ends_with(" ready."), "{seen}");
    assert!(answers[1].starts_with("a1 OK [CAPABILITY IMAP4rev1 "), "{seen}");
    assert_eq!(answers[2].replace("\"INBOX\"", "INBOX"), "* STATUS INBOX (MESSAGES 2)");
    assert!(seen.contains("\"User Quota\" (STORAGE "), "{seen}");
    assert!(seen.contains("* BYE ") && seen.contains("\r\na4 OK "), "{seen}");

    let lines = [&format!("USER {BRIAN}"), &format!("PASS {PASSWORD}"), "STAT", "UIDL 1", "QUIT"];
    let seen = s_client(&server, Port::Pop3s, &[], &lines.map(|line| line));
    let answers: Vec<&str> = seen.lines().collect();
    assert_eq!(answers.len(), 6, "{seen}");
    assert!(answers.iter().all(|line| line.starts_with("+OK")), "{seen}");
    assert!(answers[3].starts_with("+OK 2 "), "{seen}");
    assert!(answers[4].strip_prefix("+OK 1 ").is_some_and(|id| id.len() == 32), "{seen}");

    // R57: without TLS nothing is told.
    let seen = socat(&server, Port::Pop3, &[&format!("USER {BRIAN}"), "QUIT"]);
    assert!(seen.contains("-ERR [AUTH] Plaintext authentication disallowed"), "{seen}");
}

/// `AUTH PLAIN` as the guide makes it: with printf and base64.
fn auth_plain(account: &str) -> String {
    let command = format!("printf '\\0{account}\\0{PASSWORD}' | base64 -w0");
    let login = Peer::new("sh").args(["-c", &command]).succeed().unwrap();
    format!("AUTH PLAIN {}", String::from_utf8(login.output).unwrap())
}

/// Typed into the submission port of a server that trusts nobody, inside TLS, as an account or as nobody: what is said to
/// MAIL and RCPT.
fn sender_and_recipient(server: &Server, account: Option<&str>, from: &str, to: &str) -> Vec<String> {
    let (mail, recipient) = (format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{to}>"));
    let login: Vec<String> = account.map(auth_plain).into_iter().collect();
    let lines: Vec<&str> = ["EHLO mx.example.net"].into_iter().chain(login.iter().map(String::as_str)).collect();
    let seen = s_client(
        server,
        Port::Submission,
        &["-crlf", "-starttls", "smtp"],
        &[&lines[..], &[&mail, &recipient, "QUIT"]].concat(),
    );
    let answers: Vec<String> = seen.lines().map(str::to_owned).collect();
    assert!(account.is_none() || answers.contains(&"235 2.7.0 Authentication successful".to_owned()), "{seen}");
    assert_eq!(answers.last().map(String::as_str), Some(BYE), "{seen}");
    answers[answers.len() - 3..answers.len() - 1].to_vec()
}

const TAKEN: [&str; 2] = ["250 2.1.0 Ok", "250 2.1.5 Ok"];

#[test]
fn r131_to_r134_r136_the_table_of_senders() {
    let server = Server::start_distrustful().unwrap();
    let ask = |account, from| sender_and_recipient(&server, account, from, NOT_BRIAN);
    let refused =
        |from: &str, why: &str| ["250 2.1.0 Ok".into(), format!("553 5.7.1 <{from}>: Sender address rejected: {why}")];
    // R131: both may use the address of both.
    assert_eq!(ask(Some(BRIAN), "info@example.net"), TAKEN);
    assert_eq!(sender_and_recipient(&server, Some(NOT_BRIAN), "info@example.net", BRIAN), TAKEN);
    assert_eq!(ask(Some(BRIAN), NOT_BRIAN), refused(NOT_BRIAN, "not owned by user brian@example.net"));
    // R134.
    assert_eq!(ask(Some(BRIAN), ""), TAKEN);
    // R128: nobody gets as far as the table without a login, whatever the sender.
    assert_eq!(ask(None, BRIAN)[0], "530 5.7.0 Authentication required");
    // R136: where nobody logs in, addresses of ours come back from outside, forwarded.
    let lines = ["EHLO elsewhere.example", "MAIL FROM:<brian@example.net>", "RCPT TO:<notbrian@example.net>", "QUIT"];
    let seen = s_client(&server, Port::Mx, &["-crlf", "-starttls", "smtp"], &lines);
    assert!(seen.ends_with("\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n221 2.0.0 Bye\r\n"), "{seen}");
    // R132: nobody owns an address by being called so. R133: a whole domain.
    server
        .edit("senders", |text| {
            let others: Vec<&str> = text.lines().filter(|line| !line.starts_with("brian@")).collect();
            format!("{}\n@another-example.com {BRIAN}\n", others.join("\n"))
        })
        .unwrap();
    server.command(&["reload"]).unwrap();
    assert_eq!(ask(Some(BRIAN), BRIAN), refused(BRIAN, "not owned by user brian@example.net"));
    assert_eq!(ask(Some(BRIAN), "Anything@Another-Example.com"), TAKEN);
}

#[test]
fn r139_to_r142_the_table_of_logins() {
    let server = Server::start_distrustful().unwrap();
    // The guide's table.
    server.edit("sasl_access", |_| format!("{BRIAN}    HOLD\n{NOT_BRIAN}    REJECT\n")).unwrap();
    server.command(&["reload"]).unwrap();
    let auth = auth_plain(BRIAN);
    let (mail, to) = (format!("MAIL FROM:<{BRIAN}>"), format!("RCPT TO:<{NOT_BRIAN}>"));
    let lines = ["EHLO mx.example.net", &auth, &mail, &to, "DATA", "Subject: held", "", "x", ".", "QUIT"];
    let seen = s_client(&server, Port::Submission, &["-crlf", "-starttls", "smtp"], &lines);
    assert!(seen.contains("\r\n250 2.1.5 Ok\r\n354 "), "{seen}");
    let id = seen.split("250 2.0.0 Ok: queued as ").nth(1).unwrap().split_whitespace().next().unwrap();
    // R139, R143: it is marked in the queue, and there it stays until it is let go.
    let list = server.command(&["queue", "list"]).unwrap();
    assert!(list.contains(&format!("{id}!")), "{list}");
    assert!(messages(&server, NOT_BRIAN, "INBOX").is_empty());
    server.command(&["queue", "release", id]).unwrap();
    crate::desk::wait_until("it is delivered", || subjects(&server, NOT_BRIAN, "INBOX") == ["held"]);
    // R140: the login itself is good.
    let rejected = "554 5.7.1 <notbrian@example.net>: SASL login name rejected: Access denied".to_owned();
    let answers = sender_and_recipient(&server, Some(NOT_BRIAN), NOT_BRIAN, BRIAN);
    assert_eq!(answers, ["250 2.1.0 Ok".into(), rejected.clone()]);
    // R141: HOLD stops no later check.
    let answers = sender_and_recipient(&server, Some(BRIAN), NOT_BRIAN, NOT_BRIAN);
    let not_owned = "553 5.7.1 <notbrian@example.net>: Sender address rejected: not owned by user brian@example.net";
    assert_eq!(answers, ["250 2.1.0 Ok", not_owned]);
    // R142: an open session is refused as soon as the table says so.
    server.edit("sasl_access", |_| "# login ACTION\n".into()).unwrap();
    server.command(&["reload"]).unwrap();
    let peer = Peer::script("sasl_access.py").arg(server.port(Port::Submission).to_string());
    let peer = peer.arg(server.folder.join("sasl_access")).args([NOT_BRIAN, PASSWORD, BRIAN]);
    let seen = peer.succeed().unwrap().text();
    assert!(seen.contains("before: 250 2.1.5 Ok") && seen.contains(&format!("after: {rejected}")), "{seen}");
}
