//! DNS by dig and delv: what is secure, insecure, bogus or lost; records of every kind; changes; the end.

use peers::client::Raw;
use peers::internet::Internet;
use peers::internet::certificate::Leaf;
use peers::internet::script::Script;
use peers::internet::zone::Zone;
use peers::peer::{Outcome, Peer};
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
            (0..200).fold(Zone::secure("large.example"), |zone, number| {
                zone.mx(number, &format!("mx{number}.large.example"))
            }),
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
    // dig asks again over TCP, as all do.
    let (status, secure, data) = ask(&internet, "large.example", "MX");
    assert_eq!((status.as_str(), secure, data.lines().count()), ("NOERROR", true, 200));
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
