//! Real MTAs take mail, and send it to scripted ones.

use super::swaks;
use peers::internet::Internet;
use peers::internet::certificate::Leaf;
use peers::internet::mta::ScriptedMta;
use peers::internet::real::{RealMta, Sink};
use peers::internet::script::{Act, Script, Stage};
use peers::internet::zone::Zone;
use peers::peer::Peer;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

#[test]
fn internet_real_mtas_take_mail() {
    let internet = Internet::start().unwrap();
    let certificate = internet.authority().issue(&Leaf::of("mx.example.net").rsa()).unwrap();
    let postfix = RealMta::postfix(&internet, "mx.example.net", &certificate, "").unwrap();
    let exim = RealMta::exim(&internet, "mx.example.net", &certificate, None).unwrap();
    let sink = Sink::start(&internet, &["-h", "sink.example.net"]).unwrap();
    for (mta, protocol) in [(&postfix, "ESMTPS"), (&exim, "esmtps")] {
        for (subject, to) in [("first", "a@example.net"), ("second", "b@elsewhere.example")] {
            let tls = ["--tls", "--tls-verify", "--tls-ca-path"];
            let ca = internet.ca_file();
            let outcome = swaks(
                mta.address,
                &[&["--to", to, "--header", &format!("Subject: {subject}")], &tls[..], &[ca.to_str().unwrap()]]
                    .concat(),
            );
            assert_eq!(outcome.status, Some(0), "{outcome}");
        }
        let messages = mta.wait_for_messages(2).unwrap();
        let mut subjects: Vec<String> = messages.iter().filter_map(|message| message.field("Subject")).collect();
        subjects.sort();
        assert_eq!(subjects, ["first", "second"]);
        for message in messages {
            assert_eq!(message.field("Return-Path").as_deref(), Some("<me@example.org>"), "{}", message.text());
            let received = message.field("Received").unwrap();
            let version = ["TLS1.3", "TLSv1.3"].iter().any(|version| received.contains(version));
            assert!(received.contains(protocol) && version, "{received}");
        }
    }
    let outcome = swaks(sink.address, &["--to", "a@example.net"]);
    assert!(outcome.status == Some(0) && outcome.says("220 sink.example.net"), "{outcome}");
    let refusing = Sink::start(&internet, &["-r", "rcpt"]).unwrap();
    assert_eq!(swaks(refusing.address, &["--to", "a@example.net"]).status, Some(24));
}

#[test]
fn internet_real_clients_send_to_a_scripted_mta() {
    let internet = Internet::start().unwrap();
    let certificate = internet.authority().issue(&Leaf::of("mx.example.net")).unwrap();
    let greylisting = Act::reply("451 4.7.1 Later");
    let script = Script::smtp().with("CHUNKING").certificate(&certificate);
    let mta = internet.mta(script.when_times(1, Stage::Recipient, greylisting)).unwrap();
    let place = mta.address();
    let (ip, port) = (place.ip(), place.port());
    let by_postfix =
        format!("relayhost = [{ip}]:{port}\ndefault_transport = smtp\nsmtp_tls_security_level = encrypt\n");
    let own = internet.authority().issue(&Leaf::of("out.example.org")).unwrap();
    let postfix = RealMta::postfix(&internet, "out.example.org", &own, &by_postfix).unwrap();
    let text = "Subject: over\r\n\r\n.a dot\r\nthe end\r\n";
    postfix.submit("me@example.org", &["a@example.net", "b@example.net"], text).unwrap();
    let messages = mta.wait_for_messages(2).unwrap();
    // One recipient had to wait.
    assert_eq!((messages[0].accepted(), messages[1].accepted()), (vec!["b@example.net"], vec!["a@example.net"]));
    assert!(messages[0].tls.is_some() && messages[0].helo == "out.example.org", "{messages:?}");
    assert!(
        messages[0].message().text().ends_with("\r\n\r\n.a dot\r\nthe end\r\n"),
        "{}",
        messages[0].message().text()
    );
    assert!(mta.connections().iter().all(|connection| !connection.impatient));

    // Exim sends by BDAT where it may.
    let exim = RealMta::exim(&internet, "out.example.org", &own, Some(place)).unwrap();
    exim.submit("me@example.org", &["c@example.net"], text).unwrap();
    let messages = mta.wait_for_messages(3).unwrap();
    assert!(messages[2].chunked && messages[2].tls.is_some(), "{}", exim.log());
    assert!(
        messages[2].message().text().ends_with("\r\n\r\n.a dot\r\nthe end\r\n"),
        "{}",
        messages[2].message().text()
    );
    let source = Peer::new("smtp-source").args(["-s", "5", "-m", "20", "-l", "3000", "-f", "me@example.org"]);
    source.args(["-t", "load@example.net"]).arg(format!("inet:{place}")).succeed().unwrap();
    assert_eq!(mta.messages().len(), 23);
    assert!(mta.open_max() > 1 && mta.open_max() <= 6, "{}", mta.open_max());
}

/// Set where a test runs in a network of its own.
const OWN_NETWORK: &str = "PEERS_OWN_NETWORK";

/// Passes questions on to the resolver from port 53, the only one that the system's resolver library knows.
fn port_53(internet: &Internet) -> SocketAddr {
    let place = SocketAddr::from((internet.address(), 53));
    let (socket, resolver) = (UdpSocket::bind(place).unwrap(), internet.resolver());
    std::thread::spawn(move || {
        let mut octets = [0; 4096];
        while let Ok((length, asking)) = socket.recv_from(&mut octets) {
            let onward = UdpSocket::bind("127.0.0.1:0").unwrap();
            onward.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            onward.send_to(&octets[..length], resolver).unwrap();
            // Where no answer comes, whoever asks waits in vain.
            if let Ok(length) = onward.recv(&mut octets) {
                socket.send_to(&octets[..length], asking).unwrap();
            }
        }
    });
    place
}

/// Hosts of domains `own.example` and so on: right by their own TLSA record, by that of an authority, wrong, insecure, with
/// records that cannot be looked up, and bogus; besides, `none.example` has a null MX.
fn hosts_with_and_without_dane(internet: &Internet) -> [ScriptedMta; 6] {
    let mta = |name: &str| {
        let certificate = internet.authority().issue(&Leaf::of(name)).unwrap();
        (internet.mta(Script::smtp().named(name).certificate(&certificate)).unwrap(), certificate)
    };
    let zone = |zone: Zone, name: &str, mta: &ScriptedMta| {
        zone.mx(10, &format!("mx.{name}")).a(&format!("mx.{name}"), Internet::v4(mta))
    };
    let (own, own_certificate) = mta("mx.own.example");
    let (ca, _) = mta("mx.ca.example");
    let (wrong, wrong_certificate) = mta("mx.wrong.example");
    let (plain, plain_certificate) = mta("mx.plain.example");
    let (lost, _) = mta("mx.lost.example");
    let (bogus, _) = mta("mx.bogus.example");
    internet
        .set_zones([
            zone(Zone::secure("own.example"), "own.example", &own)
                .tlsa("mx.own.example", &own_certificate.tlsa(3, 1, 1).wrong())
                .tlsa("mx.own.example", &own_certificate.tlsa(3, 1, 1)),
            zone(Zone::secure("ca.example").nsec3(), "ca.example", &ca)
                .tlsa("mx.ca.example", &internet.authority().tlsa(2, 0, 1)),
            zone(Zone::secure("wrong.example"), "wrong.example", &wrong)
                .tlsa("mx.wrong.example", &wrong_certificate.tlsa(3, 1, 1).wrong()),
            zone(Zone::insecure("plain.example"), "plain.example", &plain)
                .tlsa("mx.plain.example", &plain_certificate.tlsa(3, 1, 1).wrong()),
            zone(Zone::secure("lost.example"), "lost.example", &lost),
            Zone::failing("_tcp.mx.lost.example"),
            zone(Zone::bogus("bogus.example"), "bogus.example", &bogus),
            Zone::secure("none.example").null_mx(),
        ])
        .unwrap();
    [own, ca, wrong, plain, lost, bogus]
}

/// Postfix sends by DANE: what a sender that is not ours makes of this internet. It needs port 53, and so a network of its
/// own; where a container may not make one, this fails, and can be left out with `--skip sends_by_dane`.
#[test]
fn internet_postfix_sends_by_dane() {
    if std::env::var_os(OWN_NETWORK).is_none() {
        let again = ["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""];
        let again = Peer::new("unshare").args(again).arg(std::env::current_exe().unwrap()).env(OWN_NETWORK, "yes");
        let again = again.args(["--exact", "internet::real::internet_postfix_sends_by_dane", "--nocapture"]);
        again.succeed().unwrap().must_say("1 passed").unwrap();
        return;
    }
    let internet = Internet::start().unwrap();
    let [own, ca, wrong, plain, lost, bogus] = hosts_with_and_without_dane(&internet);
    let settings = "default_transport = confined\nsmtp_dns_support_level = dnssec\nsmtp_host_lookup = dns\n\
                    smtp_tls_security_level = dane\n";
    let certificate = internet.authority().issue(&Leaf::of("out.example.org")).unwrap();
    let postfix = RealMta::postfix(&internet, "out.example.org", &certificate, settings).unwrap();
    let resolver = format!("nameserver {}\noptions trust-ad timeout:2 attempts:1\n", port_53(&internet).ip());
    std::fs::create_dir_all(postfix.folder.join("spool/etc")).unwrap();
    std::fs::write(postfix.folder.join("spool/etc/resolv.conf"), resolver).unwrap();
    let domains = ["own", "ca", "wrong", "plain", "lost", "bogus", "none"];
    let to: Vec<String> = domains.iter().map(|domain| format!("you@{domain}.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    postfix.submit("me@example.org", &to, "Subject: x\r\n\r\nx\r\n").unwrap();
    let outcome = |domain: &str| {
        let mark = format!("to=<you@{domain}.example>");
        postfix.log().lines().find(|line| line.contains(&mark)).map(str::to_owned).unwrap_or_default()
    };
    crate::desk::wait_until("each has an outcome", || domains.iter().all(|domain| !outcome(domain).is_empty()));
    for (domain, words) in [
        ("own", "status=sent"),
        ("ca", "status=sent"),
        ("wrong", "status=deferred (Server certificate not verified"),
        ("plain", "status=sent"),
        ("lost", "status=deferred (TLSA lookup error"),
        ("bogus", "status=deferred (Host or domain name not found"),
        ("none", "status=bounced (Domain none.example does not accept mail (nullMX))"),
    ] {
        assert!(outcome(domain).contains(words), "{domain}: {}\n{}", outcome(domain), postfix.log());
    }
    for (domain, mta, trust) in [("own", &own, "Verified"), ("ca", &ca, "Verified"), ("plain", &plain, "Trusted")] {
        let line = format!("{trust} TLS connection established to mx.{domain}.example[");
        assert!(postfix.log().contains(&line), "{domain}: {}", postfix.log());
        assert_eq!(mta.messages().len(), 1);
    }
    for (mta, connections) in [(&wrong, 1), (&lost, 0), (&bogus, 0)] {
        assert_eq!((mta.messages().len(), mta.connections().len()), (0, connections));
    }
}
