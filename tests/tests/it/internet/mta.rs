//! The scripted MTA by swaks and by hand: what it remembers, what it announces, where it fails.

use super::{s_client, swaks};
use peers::client::Raw;
use peers::internet::Internet;
use peers::internet::certificate::Leaf;
use peers::internet::mta::ScriptedMta;
use peers::internet::script::{Act, Script, Stage};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[test]
fn internet_mta_remembers_what_it_took() {
    let internet = Internet::start().unwrap();
    let certificate = internet.authority().issue(&Leaf::of("mx.example.net")).unwrap();
    let script = Script::smtp().named("mx.example.net").certificate(&certificate).recipient("no*@*", "550 5.1.1 No");
    let mta = internet.mta(script).unwrap();
    let to = ["--to", "a@example.net,nobody@example.net,b@example.net"];
    let body = ["--header", "Subject: first", "--body", "one\n.two\n..three"];
    let outcome = swaks(mta.address(), &[&to[..], &body, &["--tls", "--tls-sni", "mx.example.net"]].concat());
    assert!(outcome.says("220 mx.example.net ESMTP") && outcome.says("550 5.1.1 No"), "{outcome}");
    swaks(mta.address(), &["--to", "c@example.net", "--protocol", "SMTP"]);
    let messages = mta.messages();
    let [first, second] = messages.as_slice() else { panic!("{messages:#?}") };
    assert_eq!(first.accepted(), ["a@example.net", "b@example.net"]);
    assert_eq!((first.reverse_path.as_str(), first.helo.as_str()), ("me@example.org", "client.example.org"));
    assert_eq!(first.recipients[0].reply.as_deref(), Some("250 2.0.0 Ok: queued as 0"));
    let tls = first.tls.clone().unwrap();
    assert_eq!((tls.version.as_str(), tls.sni.as_deref()), ("TLSv1_3", Some("mx.example.net")));
    assert_eq!(first.message().field("Subject").as_deref(), Some("first"));
    assert!(first.message().body().starts_with("one\r\n.two\r\n..three\r\n"), "{first:?}");
    assert_eq!((second.connection, &second.tls), (1, &None));
    assert_eq!(first.source.ip().to_string(), "127.0.0.1");
    let connections = mta.wait_for_connections(2).unwrap();
    let commands = ["EHLO client.example.org", "STARTTLS", "EHLO client.example.org", "MAIL FROM:<me@example.org>"];
    assert_eq!(connections[0].commands[..4], commands);
    assert_eq!(connections[0].commands.last().map(String::as_str), Some("QUIT"));
    assert_eq!(connections[1].commands[0], "HELO client.example.org");
    assert!(connections.iter().all(|connection| !connection.impatient));
    assert_eq!((mta.open(), mta.open_max()), (0, 1));
}

#[test]
fn internet_mta_has_the_extensions_it_announces_and_no_others() {
    let internet = Internet::start().unwrap();
    let certificate = internet.authority().issue(&Leaf::of("mx.example.net")).unwrap();
    let script = Script::smtp().with("CHUNKING").with("REQUIRETLS").size_max_octets(100).certificate(&certificate);
    let mta = internet.mta(script).unwrap();
    let mut raw = greeted(&mta);
    let hello = raw.command("EHLO client.example.org").unwrap();
    for line in ["250-PIPELINING", "250-SMTPUTF8", "250-DSN", "250-CHUNKING", "250-SIZE 100", "250 STARTTLS"] {
        assert!(hello.lines().any(|shown| shown == line), "{line}: {hello}");
    }
    assert!(!hello.contains("REQUIRETLS"), "{hello}");
    s_client(&mta, &["-name", "client.example.org"]).must_say("Server certificate").unwrap();
    for (line, reply) in [
        ("MAIL FROM:<a@example.org> SIZE=101", "552 "),
        ("MAIL FROM:<a@example.org> REQUIRETLS", "555 "),
        ("MAIL FROM:<\u{e4}@example.org>", "553 5.6.7"),
        ("MAIL FROM:<\u{e4}@example.org> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=x SIZE=100", "250 "),
        ("MAIL FROM:<a@example.org>", "503 "),
        ("RCPT TO:<b@example.net> NOTIFY=NEVER ORCPT=rfc822;b@example.net", "250 "),
        ("BDAT 6\r\none\r\n.", "250 "),
        ("BDAT 7 LAST\r\n..\r\ntwo", "250 "),
        ("MAIL FROM:<a@example.org>", "250 "),
        ("RCPT TO:<b@example.net>", "250 "),
        ("DATA", "354 "),
        (&format!("{}\r\n.", "x".repeat(99)), "552 5.3.4"),
    ] {
        let answer = raw.command(line).unwrap();
        assert!(answer.starts_with(reply), "{line}: {answer}");
        // BDAT's chunk is counted, so the end that `command` adds to it is an empty command.
        if line.starts_with("BDAT") {
            assert!(raw.reply().unwrap().is_some());
        }
    }
    let messages = mta.messages();
    let [message] = messages.as_slice() else { panic!("{messages:#?}") };
    assert_eq!((message.chunked, String::from_utf8_lossy(&message.octets).as_ref()), (true, "one\r\n...\r\ntwo"));
    assert_eq!(message.parameters, ["SMTPUTF8", "BODY=8BITMIME", "RET=HDRS", "ENVID=x", "SIZE=100"]);
    assert_eq!(message.recipients[0].parameters, ["NOTIFY=NEVER", "ORCPT=rfc822;b@example.net"]);
    assert_eq!(mta.contents().len(), 2);

    mta.set_script(Script::smtp().extensions(&[]));
    raw.command("EHLO client.example.org").unwrap();
    for parameter in ["SIZE=1", "BODY=8BITMIME", "SMTPUTF8", "RET=FULL", "REQUIRETLS", "AUTH=<>", "UNKNOWN"] {
        let answer = raw.command(&format!("MAIL FROM:<a@example.org> {parameter}")).unwrap();
        assert!(answer.starts_with("555 "), "{parameter}: {answer}");
    }
    assert!(raw.command("BDAT 0 LAST").unwrap().starts_with("500 "));
    assert!(raw.command("STARTTLS").unwrap().starts_with("502 "));
    raw.write(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n").unwrap();
    raw.reply().unwrap();
    raw.reply().unwrap();
    assert!(mta.connections()[0].impatient);
}

fn greeted(mta: &ScriptedMta) -> Raw {
    let mut raw = Raw::connect_to(mta.address()).unwrap();
    raw.reply().unwrap().unwrap();
    raw
}

/// Sends a message in clear and gives the reply of each step; the last is `None` where the connection ended.
fn steps(mta: &ScriptedMta, recipients: &[&str]) -> Vec<Option<String>> {
    let mut raw = Raw::connect_to(mta.address()).unwrap();
    let mut lines = vec!["EHLO client.example.org".to_owned(), "MAIL FROM:<me@example.org>".to_owned()];
    lines.extend(recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>")));
    lines.extend(["DATA", "Subject: x\r\n\r\nbody\r\n.", "QUIT"].map(str::to_owned));
    let mut replies = Vec::new();
    let mut next = lines.iter();
    loop {
        let reply = raw.reply().unwrap_or_default().map(|lines| lines.join("\n"));
        let ended = reply.is_none();
        replies.push(reply);
        let Some(line) = next.next().filter(|_| !ended) else { return replies };
        // The other side may have closed already.
        let _ = raw.write(format!("{line}\r\n").as_bytes());
    }
}

/// The codes of replies, `---` for an end of the connection.
fn codes(mta: &ScriptedMta, recipients: &[&str]) -> String {
    let code = |reply: &Option<String>| reply.as_ref().map_or("---", |reply| &reply[..3]).to_owned();
    steps(mta, recipients).iter().map(code).collect::<Vec<_>>().join(" ")
}

#[test]
fn internet_mta_fails_at_every_step() {
    let internet = Internet::start().unwrap();
    let mta = internet.mta(Script::smtp()).unwrap();
    let one = ["a@example.net"];
    assert_eq!(codes(&mta, &one), "220 250 250 250 354 250 221");
    let later = || Act::reply("451 4.3.0 Later");
    let never = || Act::reply("550 5.0.0 Never");
    for (stage, act, expected) in [
        (Stage::Banner, Act::Close, "---"),
        (Stage::Banner, Act::Reset, "---"),
        (Stage::Banner, Act::reply("421 4.3.2 Not now"), "421 ---"),
        (Stage::Banner, Act::ReplyAndClose("554 5.7.1 Go away".to_owned()), "554 ---"),
        (Stage::Banner, Act::reply("554 5.7.1 Go away"), "554 250 250 250 354 250 221"),
        (Stage::Ehlo, Act::reply("502 5.5.1 What"), "220 502 503 503 503 500 500"),
        (Stage::Ehlo, Act::Close, "220 ---"),
        (Stage::Mail, later(), "220 250 451 503 503 500 500"),
        (Stage::Mail, never(), "220 250 550 503 503 500 500"),
        (Stage::Mail, Act::reply("421 4.3.2 Bye"), "220 250 421 ---"),
        (Stage::Mail, Act::reply("250-more\r\n250 lines"), "220 250 250 250 354 250 221"),
        (Stage::Recipient, later(), "220 250 250 451 554 500 500"),
        (Stage::Recipient, Act::Reset, "220 250 250 ---"),
        (Stage::Data, later(), "220 250 250 250 451 500 500"),
        (Stage::Data, Act::Close, "220 250 250 250 ---"),
        (Stage::Content, Act::Close, "220 250 250 250 354 ---"),
        (Stage::Content, Act::reply("421 4.3.2 Bye"), "220 250 250 250 354 421 ---"),
        (Stage::End, Act::Close, "220 250 250 250 354 ---"),
        (Stage::End, Act::Reset, "220 250 250 250 354 ---"),
        (Stage::End, later(), "220 250 250 250 354 451 221"),
        (Stage::End, never(), "220 250 250 250 354 550 221"),
        (Stage::End, Act::Octets(b"250-bare\n250 \xff\r\n".to_vec()), "220 250 250 250 354 250 221"),
        (Stage::Quit, Act::Close, "220 250 250 250 354 250 ---"),
    ] {
        mta.set_script(Script::smtp().when(stage, act.clone()));
        // Where no message was expected, its lines are commands like others, and get a reply each.
        let shown = codes(&mta, &one);
        assert!(shown.starts_with(expected), "{stage:?} {act:?}: {shown}");
    }
    mta.set_script(Script::smtp().when(Stage::Ehlo, Act::reply("502 5.5.1 What")));
    let mut raw = greeted(&mta);
    assert!(raw.command("EHLO client.example.org").unwrap().starts_with("502 "));
    assert_eq!(raw.command("HELO client.example.org").unwrap(), "250 mx.simulated.example");
    assert!(raw.command("MAIL FROM:<a@example.org> BODY=8BITMIME").unwrap().starts_with("555 "));
    assert!(raw.command("MAIL FROM:<a@example.org>").unwrap().starts_with("250 "));

    // What was refused after the dot is remembered, but not as taken.
    mta.set_script(Script::smtp().when_times(2, Stage::End, later()).when(Stage::End, Act::Close));
    let before = (mta.contents().len(), mta.messages().len());
    for _ in 0..3 {
        steps(&mta, &one);
    }
    assert_eq!((mta.contents().len(), mta.messages().len()), (before.0 + 3, before.1));
    let replies: Vec<Option<String>> =
        mta.contents()[before.0..].iter().map(|message| message.recipients[0].reply.clone()).collect();
    assert_eq!(replies, [Some("451 4.3.0 Later".to_owned()), Some("451 4.3.0 Later".to_owned()), None]);
}

#[test]
fn internet_mta_has_limits_patterns_and_pauses() {
    let internet = Internet::start().unwrap();
    let mta = internet.mta(Script::smtp().recipients_max(2)).unwrap();
    let three = ["a@example.net", "b@example.net", "c@example.org"];
    assert_eq!(codes(&mta, &three), "220 250 250 250 250 452 354 250 221");
    mta.set_script(Script::smtp().recipient("*@example.org", "450 4.2.1 Later").recipient("b@*", "550 5.1.1 No"));
    assert_eq!(codes(&mta, &three), "220 250 250 250 550 450 354 250 221");
    assert_eq!(mta.messages()[1].accepted(), ["a@example.net"]);
    // Greylisting: once, then fine.
    mta.set_script(Script::smtp().when_times(1, Stage::Recipient, Act::reply("450 4.7.1 Later")));
    assert_eq!(codes(&mta, &["a@example.net"]), "220 250 250 450 554 500 500");
    assert_eq!(codes(&mta, &["a@example.net"]), "220 250 250 250 354 250 221");

    mta.set_script(Script::smtp().delay(Duration::from_millis(30)));
    let begun = Instant::now();
    assert_eq!(codes(&mta, &["a@example.net"]), "220 250 250 250 354 250 221");
    assert!(begun.elapsed() >= Duration::from_millis(7 * 30));

    mta.wait_until(|| mta.open() == 0).unwrap();
    mta.set_script(Script::smtp().connections_max(1).messages_max(1));
    let mut first = greeted(&mta);
    assert!(codes(&mta, &three).starts_with("421 ---"));
    for (line, reply) in [
        ("EHLO client.example.org", "250"),
        ("MAIL FROM:<>", "250"),
        ("RCPT TO:<a@example.net>", "250"),
        ("DATA", "354"),
        (".", "250"),
        ("MAIL FROM:<>", "421"),
    ] {
        let answer = first.command(line).unwrap();
        assert!(answer.starts_with(reply), "{line}: {answer}");
    }
    assert_eq!(first.reply().unwrap(), None);
    assert_eq!(mta.open_max(), 2);

    // Silence lasts until one side goes; here, the MTA.
    mta.set_script(Script::smtp().when(Stage::Banner, Act::Silence));
    let mut raw = Raw::connect_to(mta.address()).unwrap();
    raw.write(b"EHLO client.example.org\r\n").unwrap();
    mta.wait_until(|| mta.open() == 1).unwrap();
    mta.refuse();
    assert_eq!(raw.reply().unwrap(), None);
    assert!(Raw::connect_to(mta.address()).is_err());
    mta.set_script(Script::smtp());
    mta.listen().unwrap();
    assert_eq!(codes(&mta, &["a@example.net"]), "220 250 250 250 354 250 221");

    // Nobody there, and nobody answering.
    let port = internet.smtp_port();
    assert!(Raw::connect_to((internet.address(), port)).is_err());
    let hole = SocketAddr::from((internet.black_hole().unwrap(), port));
    let error = std::net::TcpStream::connect_timeout(&hole, Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn internet_mta_breaks_tls() {
    let internet = Internet::start().unwrap();
    let certificate = internet.authority().issue(&Leaf::of("mx.example.net")).unwrap();
    let script = || Script::smtp().certificate(&certificate);
    let mta = internet.mta(script().tls_required()).unwrap();
    assert_eq!(codes(&mta, &["a@example.net"]), "220 250 530 503 503 500 500");
    assert_eq!(swaks(mta.address(), &["--to", "a@example.net", "--tls"]).status, Some(0));
    let tls = ["--to", "a@example.net", "--tls-optional"];
    for (script, words) in [
        (Script::smtp(), "Host did not advertise STARTTLS"),
        (script().when(Stage::StartTls, Act::reply("454 4.7.0 TLS not available")), "454 4.7.0 TLS not available"),
    ] {
        mta.set_script(script);
        let outcome = swaks(mta.address(), &tls);
        outcome.must_say(words).unwrap();
        assert_eq!(outcome.status, Some(0), "{outcome}");
    }
    for act in
        [Act::Close, Act::Reset, Act::Octets(b"no TLS at all, but more octets than a record's head\r\n".to_vec())]
    {
        mta.set_script(script().when(Stage::Handshake, act));
        let outcome = swaks(mta.address(), &["--to", "a@example.net", "--tls"]);
        assert_ne!(outcome.status, Some(0), "{outcome}");
    }
    mta.set_script(script().when(Stage::EhloInTls, Act::reply("421 4.3.2 Not inside")));
    swaks(mta.address(), &["--to", "a@example.net", "--tls"]).must_say("421 4.3.2 Not inside").unwrap();
    assert_eq!(mta.messages().len(), 3);
    // A client that refuses the certificate says so, and it is remembered.
    mta.set_script(script());
    let refused = s_client(&mta, &["-verify_return_error", "-verify_hostname", "mx.example.net"]);
    assert_ne!(refused.status, Some(0), "{refused}");
    mta.wait_until(|| {
        mta.connections().iter().any(|one| one.tls_failure.as_ref().is_some_and(|why| why.contains("UnknownCA")))
    })
    .unwrap();

    // TLS from the first octet, and a login.
    mta.set_script(script().implicit_tls().login("relay", "secret"));
    for (mechanism, password, status) in [("PLAIN", "secret", 0), ("LOGIN", "secret", 0), ("PLAIN", "wrong", 28)] {
        let login = ["--auth", mechanism, "--auth-user", "relay", "--auth-password", password];
        let outcome = swaks(mta.address(), &[&["--to", "a@example.net", "--tls-on-connect"], &login[..]].concat());
        assert_eq!(outcome.status, Some(status), "{outcome}");
    }
    swaks(mta.address(), &["--to", "a@example.net", "--tls-on-connect"]).must_say("530 5.7.0 Auth").unwrap();
    let messages = mta.messages();
    assert_eq!(messages.len(), 5);
    assert_eq!(messages[4].login.as_deref(), Some("relay"));
}

#[test]
fn internet_mta_speaks_lmtp() {
    let internet = Internet::start().unwrap();
    let never = Act::reply("552 5.2.2 Full");
    let mta = internet.mta(Script::lmtp().when_matches(Stage::End, "full@*", never)).unwrap();
    let to = ["--to", "a@example.net,full@example.net,b@example.net", "--protocol", "LMTP"];
    let outcome = swaks(mta.address(), &to);
    assert!(outcome.says("LHLO client.example.org") && outcome.says("552 5.2.2 Full"), "{outcome}");
    assert_eq!(mta.messages()[0].accepted(), ["a@example.net", "b@example.net"]);
    assert_eq!(mta.messages()[0].recipients[1].reply.as_deref(), Some("552 5.2.2 Full"));
    let mut raw = greeted(&mta);
    assert!(raw.command("EHLO client.example.org").unwrap().starts_with("500 "));
}
