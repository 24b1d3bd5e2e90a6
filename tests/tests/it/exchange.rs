//! Mail between this server and others, both ways, over a simulated internet: real MTAs, two houses that back each other
//! up, smarthosts and LMTP; and what malice puts into line ends and addresses.

use crate::desk::wait_until;
use peers::client::{Raw, Smtp};
use peers::internet::Internet;
use peers::internet::certificate::Leaf;
use peers::internet::real::RealMta;
use peers::internet::script::{Act, Script, Stage};
use peers::internet::zone::Zone;
use peers::sender::{BRIAN, Sender, configured, patient};
use peers::server::{Port, Server};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;

const TEXT: &str = "From: brian@example.net\r\nSubject: out\r\n\r\nhello\r\n";

/// A body that is easily hurt: 8-bit text, dots at line starts, the longest line there may be, white space and empty lines at
/// ends.
fn delicate() -> String {
    format!(".\r\n..\r\n.dot\r\ngr\u{fc}n \u{4f60}\r\n{}\r\n \t \r\nFrom here\r\n\r\n\r\n", "x".repeat(998))
}

/// As it is sent in DATA (RFC 5321 §4.5.2).
fn stuffed(text: &str) -> String {
    text.replace("\r\n.", "\r\n..")
}

#[test]
fn postfix_and_exim_get_every_octet() {
    let internet = Internet::start().unwrap();
    let certificate = internet.authority().issue(&Leaf::of("mx.postfix.example").and("mx.exim.example").rsa()).unwrap();
    let postfix = RealMta::postfix(&internet, "mx.postfix.example", &certificate, "").unwrap();
    let exim = RealMta::exim(&internet, "mx.exim.example", &certificate, None).unwrap();
    let zone = |name: &str, mta: &RealMta| {
        let host = format!("mx.{name}");
        Zone::secure(name).mx(10, &host).a(&host, *mta.address.ip()).tlsa(&host, &certificate.tlsa(3, 1, 1))
    };
    internet.set_zones([zone("postfix.example", &postfix), zone("exim.example", &exim)]).unwrap();
    let sender = Sender::start(&internet, "").unwrap();
    let body = delicate();
    for (name, mta) in [("postfix.example", &postfix), ("exim.example", &exim)] {
        let to = format!("you@{name}");
        let text = stuffed(&format!("From: {BRIAN}\r\nSubject: delicate\r\n\r\n{body}"));
        let id = sender.submit(&[&to], text.strip_suffix("\r\n").unwrap()).unwrap();
        let story = sender.wait_for_story(&id, "delivered to").unwrap();
        assert!(story.contains("Verified TLS connection (DANE)"), "{story}");
        let message = &mta.wait_for_messages(1).unwrap()[0];
        assert_eq!(message.body(), body, "{name}");
        assert_eq!(message.field("Return-Path").as_deref(), Some("<brian@example.net>"));
    }
    assert!(postfix.log().contains("TLS connection established from"), "{}", postfix.log());
    sender.wait_until_empty().unwrap();
}

#[test]
fn postfix_and_exim_deliver_every_octet_here() {
    let internet = Internet::start().unwrap();
    let certificate = internet.authority().issue(&Leaf::of("out.example.org").rsa()).unwrap();
    // Exim sends by BDAT where it may.
    let server = Server::start_edited(|text| {
        configured(text, &internet, "").replace("name = \"mx\"\n", "name = \"mx\"\noffer = [\"CHUNKING\"]\n")
    });
    let sender = Sender { server: server.unwrap() };
    let place = SocketAddrV4::new(Ipv4Addr::LOCALHOST, sender.server.port(Port::Mx));
    let onward = format!(
        "relayhost = [{}]:{}\ndefault_transport = smtp\nsmtp_tls_security_level = encrypt\n",
        place.ip(),
        place.port()
    );
    let postfix = RealMta::postfix(&internet, "out.example.org", &certificate, &onward).unwrap();
    let exim = RealMta::exim(&internet, "out.example.org", &certificate, Some(place)).unwrap();
    let body = delicate();
    for (number, mta) in [&postfix, &exim].into_iter().enumerate() {
        let text = format!("From: me@example.org\r\nSubject: delicate\r\n\r\n{body}");
        mta.submit("me@example.org", &[BRIAN], &text).unwrap();
        // The welcome message is there already.
        let text = sender.wait_for_inbox(BRIAN, number + 2).unwrap().pop().unwrap();
        assert!(text.ends_with(&format!("\r\n\r\n{body}")), "{text:?}\n{}", mta.log());
        assert!(text.contains("with ESMTPS") && text.contains("using TLSv1.3"), "{text}");
    }
}

/// A house of its own: `NAME.example`, with relaying for another, and a port of SMTP in the internet.
fn house(internet: &Internet, name: &str, other: &str, address: Ipv4Addr) -> Sender {
    let listener = format!(
        "\n[[listener]]\nname = \"outside\"\nprotocol = \"mx\"\naddress = \"{address}:{}\"\ntls = \"starttls\"\n\
         certificates = \"smtp\"\n",
        internet.smtp_port()
    );
    let server = Server::start_edited(|text| {
        configured(text, internet, &listener).replace("mx.example.net", &format!("mx.{name}.example"))
    });
    let server = server.unwrap();
    server.edit("domains", |text| format!("{text}{name}.example\n")).unwrap();
    server.edit("aliases", |text| format!("{text}you@{name}.example {BRIAN}\n")).unwrap();
    server.edit("relay_domains", |text| format!("{text}{other}.example\nround.example\n")).unwrap();
    server.command(&["reload"]).unwrap();
    Sender { server }
}

fn subject_counts(sender: &Sender, subject: &str) -> usize {
    let inbox = sender.wait_for_inbox(BRIAN, 1).unwrap();
    inbox.iter().filter(|text| text.contains(&format!("Subject: {subject}\r\n"))).count()
}

#[test]
fn r149_r217_two_houses_back_each_other_up_and_nothing_goes_round() {
    let internet = Internet::start().unwrap();
    let (one, two) = (internet.address(), internet.address());
    let zone = |name: &str, other: &str, own: Ipv4Addr| {
        let (first, second) = (format!("mx.{name}.example"), format!("mx.{other}.example"));
        Zone::insecure(&format!("{name}.example")).mx(10, &first).mx(20, &second).a(&first, own)
    };
    internet.set_zones([zone("a", "b", one), zone("b", "a", two)]).unwrap();
    let mut a = house(&internet, "a", "b", one);
    let mut b = house(&internet, "b", "a", two);
    let send = |by: &Sender, to: &str, subject: &str| {
        let mut smtp = Smtp::connect(by.server.port(Port::Mx)).unwrap();
        let text = format!("From: x@out.example\r\nSubject: {subject}\r\n\r\nx\r\n");
        let answer = smtp.send("x@out.example", &[to], &text).unwrap();
        answer.rsplit(' ').next().unwrap().trim().to_owned()
    };
    // Both are there.
    send(&a, "you@b.example", "both-up");
    wait_until("it arrives", || subject_counts(&b, "both-up") == 1);
    // Each is away in turn.
    b.server.stop().unwrap();
    let ids: Vec<String> = (0..5).map(|number| send(&a, "you@b.example", &format!("b-away-{number}"))).collect();
    // The first try may still meet a connection that was kept open.
    a.wait_for_story(&ids[0], "onnection refused").unwrap();
    b.server.launch(&[]).unwrap();
    a.wait_until_empty().unwrap();
    a.server.stop().unwrap();
    let id = send(&b, "you@a.example", "a-away");
    b.wait_for_story(&id, "to be tried again at").unwrap();
    a.server.launch(&[]).unwrap();
    b.wait_until_empty().unwrap();
    for number in 0..5 {
        assert_eq!(subject_counts(&b, &format!("b-away-{number}")), 1);
    }
    assert_eq!((subject_counts(&a, "a-away"), subject_counts(&a, "b-away-0")), (1, 0));

    // R217: tables that lead in a circle.
    let port = internet.smtp_port();
    for (sender, next) in [(&a, two), (&b, one)] {
        std::fs::write(sender.server.folder.join("transport"), format!("round.example smtp:[{next}]:{port}\n"))
            .unwrap();
        sender.server.command(&["reload"]).unwrap();
    }
    let mut smtp = Smtp::connect(a.server.port(Port::Mx)).unwrap();
    smtp.send(BRIAN, &["x@round.example"], TEXT).unwrap();
    let reports = || {
        let inboxes = [&a, &b].map(|sender| sender.wait_for_inbox(BRIAN, 1).unwrap());
        let is_report = |text: &&String| text.contains("too many hops") && text.contains("x@round.example");
        inboxes.iter().flatten().filter(is_report).count()
    };
    wait_until("the circle ends with a report", || reports() == 1);
    a.wait_until_empty().unwrap();
    b.wait_until_empty().unwrap();
    assert_eq!(reports(), 1);
}

#[test]
fn tables_and_smarthost_lead_out() {
    let internet = Internet::start().unwrap();
    let own = Leaf::of("smart.example").self_signed().unwrap();
    let smart = internet.mta(Script::smtp().certificate(&own).login("us", "right")).unwrap();
    let by_sender = internet.mta(Script::smtp()).unwrap();
    let busy = Act::reply("452 4.2.2 full");
    let lmtp = internet.mta(Script::lmtp().when_matches(Stage::End, "full@*", busy)).unwrap();
    let sender = Server::start_edited(|text| {
        let hop = format!("[outbound]\nsmarthost = \"[{}]:{}\"\n", Internet::v4(&smart), internet.smtp_port());
        patient(&configured(text, &internet, "")).replace("[outbound]\n", &hop)
    });
    let sender = Sender { server: sender.unwrap() };
    let port = internet.smtp_port();
    let write = |name: &str, text: String| {
        let path = sender.server.folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("relay_credentials", format!("[{}]:{port} us:right\n", Internet::v4(&smart)));
    write("transport", format!("box.example lmtp:inet:{}:{port}\n", Internet::v4(&lmtp)));
    write("sender_transport", format!("other@example.net smtp:[{}]:{port}\n", Internet::v4(&by_sender)));
    sender.server.command(&["reload"]).unwrap();

    let id = sender.submit(&["x@anywhere.example"], TEXT).unwrap();
    let received = &smart.wait_for_messages(1).unwrap()[0];
    assert_eq!((received.login.as_deref(), received.tls.is_some()), (Some("us"), true));
    assert!(sender.wait_for_story(&id, "delivered to").unwrap().contains("Untrusted TLS connection"));
    let mut smtp = Smtp::connect(sender.server.port(Port::Mx)).unwrap();
    smtp.send("other@example.net", &["x@anywhere.example"], TEXT).unwrap();
    assert_eq!(by_sender.wait_for_messages(1).unwrap()[0].reverse_path, "other@example.net");
    // Over LMTP each recipient has an outcome of its own (RFC 2033 §4.2).
    let id = sender.submit(&["a@box.example", "full@box.example"], TEXT).unwrap();
    assert_eq!(lmtp.wait_for_messages(1).unwrap()[0].accepted(), ["a@box.example"]);
    let story = sender.wait_for_story(&id, "full@box.example: not delivered yet").unwrap();
    assert!(story.contains("a@box.example: delivered to") && story.contains("452 4.2.2 full"), "{story}");
    lmtp.set_script(Script::lmtp());
    // R143: nothing else would bring it within the hour.
    sender.server.command(&["queue", "retry", "--all"]).unwrap();
    sender.wait_until_empty().unwrap();
    assert_eq!(smart.messages().len() + by_sender.messages().len(), 2);
}

/// From a stranger, through a forwarding alias of ours, to a real Postfix: one message stays one message.
#[test]
fn v1_v2_nothing_smuggled_gets_through_to_the_next_server() {
    let internet = Internet::start().unwrap();
    let certificate = internet.authority().issue(&Leaf::of("mx.far.example").rsa()).unwrap();
    let postfix = RealMta::postfix(&internet, "mx.far.example", &certificate, "").unwrap();
    internet.set_zone(Zone::insecure("far.example").a("far.example", *postfix.address.ip())).unwrap();
    let sender = Sender::start(&internet, "\n[policy]\ntrusted_networks = []\n").unwrap();
    sender.server.command(&["alias", "add", "away@example.net", "me@far.example"]).unwrap();
    let ends = ["\n", "\r", "\r\n", "\n\n", "\r\r\n", "\r\n\n", "\n\r", "\r\0\n", "\0\r\n", "\u{85}"];
    let mut taken = 0;
    for before in ends {
        for after in ends {
            if before.ends_with("\r\n") && after.starts_with("\r\n") {
                continue; // The right one.
            }
            let smuggled =
                "MAIL FROM:<smuggler@example.org>\r\nRCPT TO:<away@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nx";
            let mut raw = Raw::connect(sender.server.port(Port::Mx)).unwrap();
            raw.reply().unwrap();
            for line in ["EHLO c.example.org", "MAIL FROM:<you@example.org>", "RCPT TO:<away@example.net>", "DATA"] {
                raw.command(line).unwrap();
            }
            // The server may hang up in the middle: that is a refusal too.
            let _ =
                raw.write(format!("Subject: cover\r\n\r\ncover{before}.{after}{smuggled}\r\n.\r\nQUIT\r\n").as_bytes());
            let answers = raw.finish().unwrap_or_default();
            assert!(!answers.contains("354 "), "{before:?}.{after:?}: {answers}");
            taken += answers.matches("250 2.0.0 Ok: queued as").count();
        }
    }
    sender.wait_until_empty().unwrap();
    assert!(taken >= 10, "{taken} were taken: the test shows nothing");
    let messages = postfix.wait_for_messages(taken).unwrap();
    assert_eq!(messages.len(), taken, "{}", postfix.log());
    for message in messages {
        assert_eq!(message.field("Subject").as_deref(), Some("cover"), "{}", message.text());
    }
    assert!(!postfix.log().contains("smuggler@"), "{}", postfix.log());
}

/// V12, V14: addresses are data on every way: direct, LMTP, report, listing, story.
#[test]
fn v12_v14_addresses_that_look_like_commands() {
    let internet = Internet::start().unwrap();
    let (direct, lmtp) = (internet.mta(Script::smtp()).unwrap(), internet.mta(Script::lmtp()).unwrap());
    let gone = internet.mta(Script::smtp().recipient("*", "550 5.1.1 nobody `id` $(id)")).unwrap();
    internet
        .set_zones([
            Zone::insecure("far.example").a("far.example", Internet::v4(&direct)),
            Zone::insecure("gone.example").a("gone.example", Internet::v4(&gone)),
        ])
        .unwrap();
    let sender = Sender::start(&internet, "").unwrap();
    let table = format!("box.example lmtp:inet:{}:{}\n", Internet::v4(&lmtp), internet.smtp_port());
    std::fs::write(sender.server.folder.join("transport"), table).unwrap();
    sender.server.command(&["reload"]).unwrap();
    let mark = sender.server.scratch("owned");
    let locals = [
        format!("\"; touch {} ;\"", mark.display()),
        format!("\"$(touch {})\"", mark.display()),
        format!("\"|/usr/bin/touch {}\"", mark.display()),
        "|id".into(),
        "$IFS`id`".into(),
        "\"a b\"".into(),
        "\"quo\\\"te\"".into(),
        "\"back\\\\slash\"".into(),
        "\"(comment)<x>,:@\"".into(),
        "\"-oQ/tmp -bi\"".into(),
        "-froot".into(),
        "'or'1'='1".into(),
        "%s%n{0}".into(),
    ];
    for (number, local) in locals.iter().enumerate() {
        let [one, two, three] = ["far", "box", "gone"].map(|name| format!("{local}@{name}.example"));
        let id = sender.submit(&[&one, &two, &three], TEXT).unwrap();
        assert!(direct.wait_for_messages(number + 1).unwrap()[number].accepted() == [one.as_str()], "{local}");
        assert!(lmtp.wait_for_messages(number + 1).unwrap()[number].accepted() == [two.as_str()], "{local}");
        sender.wait_for_story(&id, "told in message").unwrap();
        sender.wait_for_story(&id, &format!("{one}: delivered to")).unwrap();
        // The same by the address: what it holds is no pattern and no option.
        assert!(sender.server.command(&["why", "--", &three]).unwrap().contains(&id), "{local}");
        let report = sender.wait_for_inbox(BRIAN, number + 2).unwrap().pop().unwrap();
        assert!(report.contains(&format!("Final-Recipient: rfc822; {three}")), "{local}:\n{report}");
    }
    // Such a sender: a report to it goes to the outside as it is.
    let from = "\"a;b|c$(id)\"@far.example";
    let mut smtp = Smtp::connect(sender.server.port(Port::Mx)).unwrap();
    smtp.send(from, &["x@gone.example"], TEXT).unwrap();
    let report = &direct.wait_for_messages(locals.len() + 1).unwrap()[locals.len()];
    assert_eq!((report.reverse_path.as_str(), report.accepted()), ("", vec![from]));
    // What no address may hold is refused before anybody sees it.
    for octets in [&b"a\0b"[..], b"a\rb", b"\"a\rb\"", b"\"a\0b\"", b"a b", b"\"a\x07\"", b"a\x7f"] {
        let mut raw = Raw::connect(sender.server.port(Port::Mx)).unwrap();
        raw.reply().unwrap();
        raw.command("EHLO client.example.org").unwrap();
        raw.command(&format!("MAIL FROM:<{BRIAN}>")).unwrap();
        raw.write(&[b"RCPT TO:<", octets, b"@far.example>\r\n"].concat()).unwrap();
        let answer = raw.reply().unwrap().unwrap_or_default().join("\n");
        assert!(answer.starts_with('5'), "{octets:?}: {answer}");
    }
    assert!(!mark.exists());
    sender.wait_until_empty().unwrap();
}
