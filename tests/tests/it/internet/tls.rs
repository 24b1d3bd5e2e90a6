//! Certificates, TLSA records and pages by openssl and curl.

use super::s_client;
use peers::internet::Internet;
use peers::internet::certificate::{Authority, Certificate, Leaf, Tlsa};
use peers::internet::mta::ScriptedMta;
use peers::internet::policy::Page;
use peers::internet::script::Script;
use peers::peer::Peer;
use std::time::Duration;

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

#[test]
fn internet_policy_host_serves_what_it_is_told() {
    let internet = Internet::start().unwrap();
    let certificate = internet.authority().issue(&Leaf::of("mta-sts.example.org")).unwrap();
    let page = || Page::policy(&certificate, "enforce", &["mx.example.org", "*.example.net"], 604_800);
    let host = internet.policy_host(page()).unwrap();
    let url = format!("https://mta-sts.example.org:{}/.well-known/mta-sts.txt", internet.https_port());
    let curl = |arguments: &[&str]| {
        let resolve = format!("mta-sts.example.org:{}:{}", internet.https_port(), host.address().ip());
        let peer = Peer::new("curl").args(["-sS", "-i", "--max-time", "20", "--resolve", &resolve, "--cacert"]);
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
        (Page::text(&internet.authority().issue(&Leaf::of("example.org")).unwrap(), ""), 60),
        (Page::text(&Leaf::of("mta-sts.example.org").self_signed().unwrap(), ""), 60),
        (Page::text(&internet.authority().issue(&Leaf::of("mta-sts.example.org").expired()).unwrap(), ""), 60),
    ] {
        host.set_page(broken);
        let outcome = curl(&[]);
        assert_eq!(outcome.status, Some(status), "{outcome}");
    }
    host.set_page(page().delay(Duration::from_secs(60)));
    assert_eq!(curl(&["--max-time", "1"]).status, Some(28));
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
