//! The simulated internet is what it says: its DNS by dig and delv, its hosts by real clients, its real MTAs by mail.

use peers::client::Raw;
use peers::internet::Internet;
use peers::internet::certificate::{Authority, Certificate, Leaf, Tlsa};
use peers::internet::mta::ScriptedMta;
use peers::internet::policy::Page;
use peers::internet::real::{RealMta, Sink};
use peers::internet::script::{Act, Script, Stage};
use peers::internet::zone::Zone;
use peers::peer::{Outcome, Peer};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// What the resolver answers: status, whether it says that the answer is secure, and the data.
fn ask(internet: &Internet, name: &str, kind: &str) -> (String, bool, String) {
    let outcome = dig(internet, name, kind);
    let text = outcome.text();
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default().to_owned();
    let flags = text.split(";; flags: ").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default();
    let answers = text.split(";; ANSWER SECTION:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    let data = |line: &str| line.split_whitespace().skip(3).collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = answers.into_iter().flat_map(str::lines).map(data).collect();
    lines.retain(|line| !line.starts_with("RRSIG"));
    lines.sort();
    (status, flags.split(' ').any(|flag| flag == "ad"), lines.join("\n"))
}

fn dig(internet: &Internet, name: &str, kind: &str) -> Outcome {
    let at = internet.resolver();
    let dig = Peer::new("dig").args(["+dnssec", "+tries=1", "+time=2", "-p", &at.port().to_string()]);
    dig.args([&format!("@{}", at.ip()), name, kind]).run().unwrap()
}

fn answer(status: &str, secure: bool, data: &str) -> (String, bool, String) {
    (status.to_owned(), secure, data.to_owned())
}

#[test]
fn internet_dns_is_secure_insecure_bogus_failing_or_silent() {
    let internet = Internet::start().unwrap();
    let address = internet.address();
    let with_mail = |zone: Zone, name: &str| zone.mx(10, &format!("mx.{name}")).a(&format!("mx.{name}"), address);
    internet
        .set_zones([
            with_mail(Zone::secure("secure.example"), "secure.example"),
            with_mail(Zone::secure("nsec3.example").nsec3(), "nsec3.example"),
            with_mail(Zone::insecure("insecure.example"), "insecure.example"),
            with_mail(Zone::bogus("bogus.example"), "bogus.example"),
            with_mail(Zone::expired("expired.example"), "expired.example"),
            Zone::failing("failing.example"),
            Zone::silent("silent.example"),
            // The host is fine, but nothing can be learned of its TLSA records (RFC 7672 §2.2).
            Zone::failing("_tcp.mx.secure.example"),
        ])
        .unwrap();
    for (zone, secure) in [("secure.example", true), ("nsec3.example", true), ("insecure.example", false)] {
        let (mx, nothing) = (format!("MX 10 mx.{zone}."), format!("nothing.{zone}"));
        assert_eq!(ask(&internet, zone, "MX"), answer("NOERROR", secure, &mx));
        assert_eq!(ask(&internet, &mx[6..], "A"), answer("NOERROR", secure, &format!("A {address}")));
        assert_eq!(ask(&internet, &mx[6..], "AAAA"), answer("NOERROR", secure, ""));
        assert_eq!(ask(&internet, &nothing, "MX"), answer("NXDOMAIN", secure, ""));
    }
    for zone in ["bogus.example", "expired.example", "failing.example", "_25._tcp.mx.secure.example"] {
        assert_eq!(ask(&internet, zone, "MX"), answer("SERVFAIL", false, ""), "{zone}");
    }
    let begun = Instant::now();
    assert!(dig(&internet, "silent.example", "MX").says("timed out"));
    assert!(begun.elapsed() >= Duration::from_secs(2));
    // A zone that fails does not spoil the others.
    assert_eq!(ask(&internet, "secure.example", "MX").0, "NOERROR");
    assert_eq!(ask(&internet, "nowhere.example", "A"), answer("NXDOMAIN", true, ""));
    assert_eq!(ask(&internet, ".", "DNSKEY").0, "NOERROR");
}

#[test]
fn internet_dns_is_believed_by_a_validator_of_its_own() {
    let internet = Internet::start().unwrap();
    let address = internet.address();
    internet
        .set_zones([
            Zone::secure("secure.example").a("mx.secure.example", address),
            Zone::secure("below.secure.example").a("mx.below.secure.example", address),
            Zone::secure("nsec3.example").nsec3().a("mx.nsec3.example", address),
            Zone::insecure("insecure.example").a("mx.insecure.example", address),
            Zone::bogus("bogus.example").a("mx.bogus.example", address),
        ])
        .unwrap();
    let anchors = internet.scratch("delv-anchors");
    let key = std::fs::read_to_string(internet.trust_anchor_ds()).unwrap();
    let key = key.trim().strip_prefix(". IN DS ").unwrap().to_owned();
    let (numbers, digest) = key.rsplit_once(' ').unwrap();
    std::fs::write(&anchors, format!("trust-anchors {{ \".\" static-ds {numbers} \"{digest}\"; }};\n")).unwrap();
    let delv = |name: &str, kind: &str| {
        let at = internet.resolver();
        let delv = Peer::new("delv").args([&format!("@{}", at.ip()), "-p", &at.port().to_string(), "+root=.", "-a"]);
        delv.arg(&anchors).args([name, kind]).run().unwrap()
    };
    for (name, kind, words) in [
        ("mx.secure.example", "A", "; fully validated"),
        ("mx.below.secure.example", "A", "; fully validated"),
        ("mx.nsec3.example", "A", "; fully validated"),
        ("nothing.secure.example", "A", "; negative response, fully validated"),
        ("nothing.nsec3.example", "A", "; negative response, fully validated"),
        ("mx.insecure.example", "A", "; unsigned answer"),
        ("mx.bogus.example", "A", "resolution failed"),
    ] {
        delv(name, kind).must_say(words).unwrap();
    }
}

#[test]
fn internet_records_of_every_kind() {
    let internet = Internet::start().unwrap();
    let (first, second) = (internet.address(), internet.address());
    let certificate = Leaf::of("mx.example.org").self_signed().unwrap();
    let tlsa = certificate.tlsa(3, 1, 1);
    let long = format!("v=DKIM1; k=rsa; p={}", "A\"\\é".repeat(100));
    internet
        .set_zones([
            Zone::secure("example.org")
                .mx(10, "mx.example.org")
                .mx(10, "MX2.example.org.")
                .mx(20, "alias.example.org")
                .a("mx.example.org", first)
                .a("mx.example.org", second)
                .a("mx2.example.org", second)
                .record("mx2.example.org", "AAAA ::1")
                .cname("alias.example.org", "mx.example.org")
                .cname("away.example.org", "mx.elsewhere.example")
                .tlsa("mx.example.org", &tlsa)
                .tlsa("mx.example.org", &tlsa.clone().wrong())
                .txt("example.org", "v=spf1 -all")
                .txt("key._domainkey.example.org", &long)
                .mta_sts("20260101")
                .tls_rpt("mailto:tls@example.org"),
            Zone::secure("none.example").null_mx(),
            Zone::insecure("elsewhere.example").a("mx.elsewhere.example", first),
        ])
        .unwrap();
    internet.set_reverse(first, "mx.example.org").unwrap();
    internet.set_reverse(second, "mx2.example.org").unwrap();
    let (a, b) = (format!("A {first}"), format!("A {second}"));
    let [_, y, z, w] = first.octets();
    let reverse = format!("{w}.{z}.{y}.127.in-addr.arpa");
    let tlsas = format!("TLSA {tlsa}\nTLSA {}", tlsa.clone().wrong());
    for (name, kind, secure, data) in [
        ("example.org", "MX", true, "MX 10 mx.example.org.\nMX 10 mx2.example.org.\nMX 20 alias.example.org."),
        ("mx.example.org", "A", true, &format!("{a}\n{b}")),
        ("mx2.example.org", "AAAA", true, "AAAA ::1"),
        ("alias.example.org", "A", true, &format!("{a}\n{b}\nCNAME mx.example.org.")),
        // RFC 7672 §2.1.3: the end of the chain decides.
        ("away.example.org", "A", false, &format!("{a}\nCNAME mx.elsewhere.example.")),
        ("example.org", "TXT", true, "TXT \"v=spf1 -all\""),
        ("_mta-sts.example.org", "TXT", true, "TXT \"v=STSv1; id=20260101;\""),
        ("_smtp._tls.example.org", "TXT", true, "TXT \"v=TLSRPTv1; rua=mailto:tls@example.org\""),
        ("none.example", "MX", true, "MX 0 ."),
        (&reverse, "PTR", true, "PTR mx.example.org."),
    ] {
        assert_eq!(ask(&internet, name, kind), answer("NOERROR", secure, data), "{name} {kind}");
    }
    for port in [25, internet.smtp_port()] {
        let (status, secure, data) = ask(&internet, &format!("_{port}._tcp.mx.example.org"), "TLSA");
        assert_eq!((status.as_str(), secure), ("NOERROR", true));
        // dig parts the hexadecimal digits.
        let mut shown: Vec<String> =
            data.lines().map(|line| line.replacen(' ', "|", 4).replace(' ', "").replace('|', " ")).collect();
        let mut expected: Vec<String> = tlsas.lines().map(str::to_owned).collect();
        shown.sort();
        expected.sort();
        assert_eq!(shown, expected);
    }
    let key = ask(&internet, "key._domainkey.example.org", "TXT").2;
    let joined = key.trim_start_matches("TXT ").replace("\" \"", "").replace("\\\\", "\\").replace("\\\"", "\"");
    assert_eq!(joined.trim_matches('"').replace("\\195\\169", "é"), long);
}

#[test]
fn internet_zones_change_at_once() {
    let internet = Internet::start().unwrap();
    let (first, second) = (internet.address(), internet.address());
    let ask = |name: &str| ask(&internet, name, "A");
    assert_eq!(ask("mx.example.org"), answer("NXDOMAIN", true, ""));
    // A long life in caches, to see that the resolver forgets.
    let zone = || Zone::secure("example.org").ttl_seconds(3_600);
    for address in [first, second, first] {
        internet.set_zone(zone().a("mx.example.org", address)).unwrap();
        assert_eq!(ask("mx.example.org"), answer("NOERROR", true, &format!("A {address}")));
    }
    internet.set_zone(Zone::failing("example.org")).unwrap();
    assert_eq!(ask("mx.example.org"), answer("SERVFAIL", false, ""));
    internet.set_zone(Zone::bogus("example.org").a("mx.example.org", first)).unwrap();
    assert_eq!(ask("mx.example.org"), answer("SERVFAIL", false, ""));
    internet.set_zone(Zone::insecure("example.org").a("mx.example.org", second)).unwrap();
    assert_eq!(ask("mx.example.org"), answer("NOERROR", false, &format!("A {second}")));
    internet.set_zone(Zone::silent("example.org")).unwrap();
    assert!(dig(&internet, "mx.example.org", "A").says("timed out"));
    internet.set_zone(zone().a("mx.example.org", first)).unwrap();
    assert_eq!(ask("mx.example.org"), answer("NOERROR", true, &format!("A {first}")));
    // A new zone between a zone and its parent.
    internet.set_zone(Zone::secure("deep.under.example.org").a("mx.deep.under.example.org", first)).unwrap();
    assert_eq!(ask("mx.deep.under.example.org"), answer("NOERROR", true, &format!("A {first}")));
    internet.set_zone(Zone::insecure("under.example.org")).unwrap();
    assert_eq!(ask("mx.deep.under.example.org"), answer("NOERROR", false, &format!("A {first}")));
    internet.remove_zone("deep.under.example.org").unwrap();
    internet.remove_zone("under.example.org").unwrap();
    assert_eq!(ask("mx.deep.under.example.org"), answer("NXDOMAIN", true, ""));
}

#[test]
fn internet_ends_when_dropped() {
    let (internet, other) = (Internet::start().unwrap(), Internet::start().unwrap());
    let (resolver, folder) = (internet.resolver(), internet.folder().to_owned());
    assert_ne!(resolver.ip(), other.resolver().ip());
    let mta = internet.mta(Script::smtp()).unwrap();
    let place = mta.address();
    let mut raw = Raw::connect_to(place).unwrap();
    raw.reply().unwrap();
    drop(mta);
    assert_eq!(raw.line().unwrap(), None);
    assert!(std::net::TcpStream::connect(place).is_err());
    let pid = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap().trim().to_owned();
    let processes = [pid("dns/knot.pid"), pid("resolver/unbound.pid")];
    let runs = |process: &String| std::path::Path::new("/proc").join(process).is_dir();
    assert!(processes.iter().all(runs));
    drop(internet);
    assert!(!processes.iter().any(runs) && !folder.exists());
    assert_eq!(ask(&other, "example.org", "A"), answer("NXDOMAIN", true, ""));
}

/// openssl at a host, after STARTTLS.
fn s_client(mta: &ScriptedMta, arguments: &[&str]) -> Outcome {
    let peer = Peer::new("openssl").args(["s_client", "-starttls", "smtp", "-connect", &mta.address().to_string()]);
    peer.args(arguments).run().unwrap()
}

/// Whether openssl finds the certificate right by TLSA records.
fn dane(mta: &ScriptedMta, name: &str, records: &[Tlsa]) -> bool {
    let records: Vec<String> = records.iter().map(Tlsa::to_string).collect();
    // RFC 7672 §3.1.1: the name does not matter where the record is of the host's own certificate.
    let mut arguments = vec!["-verify_return_error", "-dane_ee_no_namechecks", "-dane_tlsa_domain", name];
    arguments.extend(["-servername", name]);
    records.iter().for_each(|record| arguments.extend(["-dane_tlsa_rrdata", record]));
    let outcome = s_client(mta, &arguments);
    assert_eq!(outcome.status == Some(0), outcome.says("Verification: OK"), "{outcome}");
    outcome.status == Some(0)
}

#[test]
fn internet_certificates_and_tlsa_records_as_openssl_judges_them() {
    let internet = Internet::start().unwrap();
    let (name, below) = ("mx.example.org", internet.authority().intermediate("An authority below").unwrap());
    let stranger = Authority::new("A stranger").unwrap();
    let by_ca = internet.authority().issue(&Leaf::of(name)).unwrap();
    let mta = internet.mta(Script::smtp().certificate(&by_ca)).unwrap();
    let show = |certificate: &Certificate| mta.set_script(Script::smtp().certificate(certificate));
    for selector in [0, 1] {
        for matching in [0, 1, 2] {
            let good = by_ca.tlsa(3, selector, matching);
            assert!(dane(&mta, name, std::slice::from_ref(&good)), "{good}");
            assert!(!dane(&mta, name, &[good.clone().wrong()]), "{good}");
            assert!(dane(&mta, name, &[good.clone().wrong(), good]));
            let authority = internet.authority().tlsa(2, selector, matching);
            assert!(dane(&mta, name, std::slice::from_ref(&authority)), "{authority}");
            assert!(!dane(&mta, "other.example.org", &[authority]));
        }
    }
    assert!(!dane(&mta, name, &[stranger.tlsa(2, 0, 1)]));
    let by_below = below.issue(&Leaf::of(name).rsa()).unwrap();
    show(&by_below);
    assert!(dane(&mta, name, &[below.tlsa(2, 1, 1)]) && dane(&mta, name, &[internet.authority().tlsa(2, 1, 1)]));
    show(&by_below.alone());
    assert!(!dane(&mta, name, &[internet.authority().tlsa(2, 1, 1)]));
    let expired = Leaf::of("other.example.org").expired().self_signed().unwrap();
    show(&expired);
    // Dates do not matter either.
    assert!(dane(&mta, name, &[expired.tlsa(3, 1, 1)]));

    let ca_file = internet.ca_file();
    let code = |certificate: &Certificate| {
        show(certificate);
        let outcome = s_client(&mta, &["-CAfile", ca_file.to_str().unwrap(), "-verify_hostname", name]);
        let text = outcome.text();
        let code = text.split("Verify return code: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("");
        code.to_owned()
    };
    let issue = |leaf: Leaf| internet.authority().issue(&leaf).unwrap();
    for (what, certificate, expected) in [
        ("good", issue(Leaf::of(name)), "0"),
        ("RSA, several names", issue(Leaf::of("www.example.org").and(name).rsa()), "0"),
        ("wildcard", issue(Leaf::of("*.example.org")), "0"),
        ("an authority between", below.issue(&Leaf::of(name)).unwrap(), "0"),
        ("expired", issue(Leaf::of(name).expired()), "10"),
        ("wrong name", issue(Leaf::of("other.example.org")), "62"),
        ("self-signed", Leaf::of(name).self_signed().unwrap(), "18"),
        ("another authority", stranger.issue(&Leaf::of(name)).unwrap(), "19"),
        ("no intermediate", below.issue(&Leaf::of(name)).unwrap().alone(), "21"),
    ] {
        assert_eq!(code(&certificate), expected, "{what}");
    }

    let named = Leaf::of("second.example.org").self_signed().unwrap();
    mta.set_script(Script::smtp().certificate(&by_ca).certificate_for("Second.example.org", &named).only_tls12());
    assert!(dane(&mta, "second.example.org", &[named.tlsa(3, 1, 1)]));
    assert!(dane(&mta, name, &[by_ca.tlsa(3, 1, 1)]));
    let connections = mta.wait_for_connections(1).unwrap();
    let last = connections.last().unwrap().tls.clone().unwrap();
    assert_eq!((last.version.as_str(), last.sni.as_deref()), ("TLSv1_2", Some(name)));
}

/// swaks to an address.
fn swaks(address: SocketAddr, arguments: &[&str]) -> Outcome {
    let peer = Peer::new("swaks").args(["--server", &address.ip().to_string(), "--port", &address.port().to_string()]);
    let peer = peer.args(["--helo", "client.example.org", "--from", "me@example.org", "--timeout", "10"]);
    peer.args(arguments).run().unwrap()
}

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
    assert!(Raw::connect_to((internet.address(), port).into()).is_err());
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

#[test]
fn internet_policy_host_serves_what_it_is_told() {
    let internet = Internet::start().unwrap();
    let certificate = internet.authority().issue(&Leaf::of("mta-sts.example.org")).unwrap();
    let page = || Page::policy(&certificate, "enforce", &["mx.example.org", "*.example.net"], 604_800);
    let host = internet.policy_host(page()).unwrap();
    let url = format!("https://mta-sts.example.org:{}/.well-known/mta-sts.txt", internet.https_port());
    let curl = |arguments: &[&str]| {
        let resolve = format!("mta-sts.example.org:{}:{}", internet.https_port(), host.address().ip());
        let peer = Peer::new("curl").args(["-sS", "-i", "--max-time", "5", "--resolve", &resolve, "--cacert"]);
        peer.arg(internet.ca_file()).args(arguments).arg(&url).run().unwrap()
    };
    let policy = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmx: *.example.net\r\nmax_age: 604800\r\n";
    for page in [page(), page().chunked()] {
        host.set_page(page);
        let outcome = curl(&[]);
        assert!(outcome.says("HTTP/1.1 200") && outcome.says("Content-Type: text/plain\r\n"), "{outcome}");
        assert!(outcome.text().ends_with(policy), "{outcome}");
    }
    host.set_page(page().redirect(302, "https://elsewhere.example/"));
    curl(&[]).must_say("Location: https://elsewhere.example/").unwrap();
    host.set_page(page().status(404).field("content-type", "text/html").body("<p>Not here"));
    assert!(curl(&[]).says("HTTP/1.1 404") && curl(&[]).says("content-type: text/html"));
    for (broken, status) in [
        (page().cut(10), 18),
        (page().broken_tls(), 35),
        (page().delay(Duration::from_secs(60)), 28),
        (Page::text(&internet.authority().issue(&Leaf::of("example.org")).unwrap(), ""), 60),
        (Page::text(&Leaf::of("mta-sts.example.org").self_signed().unwrap(), ""), 60),
        (Page::text(&internet.authority().issue(&Leaf::of("mta-sts.example.org").expired()).unwrap(), ""), 60),
    ] {
        host.set_page(broken);
        let outcome = curl(&[]);
        assert_eq!(outcome.status, Some(status), "{outcome}");
    }
    host.set_page(Page::text(&certificate, ""));
    curl(&["--data-binary", "{\"a\": 1}", "-H", "Content-Type: application/tlsrpt+json"]).must_say("200").unwrap();
    let requests = host.requests();
    let (first, last) = (requests.first().unwrap(), requests.last().unwrap());
    assert_eq!((first.method.as_str(), first.path.as_str()), ("GET", "/.well-known/mta-sts.txt"));
    assert_eq!(first.sni.as_deref(), Some("mta-sts.example.org"));
    assert_eq!(first.field("host"), Some(format!("mta-sts.example.org:{}", internet.https_port()).as_str()));
    assert_eq!((last.method.as_str(), last.body.as_slice()), ("POST", &b"{\"a\": 1}"[..]));
    assert_eq!(last.field("content-type"), Some("application/tlsrpt+json"));
}

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
            assert!(
                received.contains(protocol) && received.contains("TLS1.3") || received.contains("TLSv1.3"),
                "{received}"
            );
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

/// Postfix sends by DANE: what a sender that is not ours makes of this internet. It needs port 53, and so a network of its
/// own, which not every container may make.
#[test]
fn internet_postfix_sends_by_dane() {
    if std::env::var_os(OWN_NETWORK).is_none() {
        if Peer::new("unshare").args(["--net", "true"]).run().unwrap().status != Some(0) {
            eprintln!("left out: no network of its own can be made here");
            return;
        }
        let again = ["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""];
        let again = Peer::new("unshare").args(again).arg(std::env::current_exe().unwrap()).env(OWN_NETWORK, "yes");
        again.args(["--exact", "internet::internet_postfix_sends_by_dane", "--nocapture"]).succeed().unwrap();
        return;
    }
    let internet = Internet::start().unwrap();
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
