//! openssl s_client looks at every port: versions, ciphers, certificates, names.

use crate::desk::authorities;
use peers::client::Raw;
use peers::peer::{Outcome, Peer};
use peers::server::{Port, Server};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Every port that speaks TLS, the protocol of its STARTTLS, and its set of certificates.
const PORTS: [(Port, Option<&str>, &str); 7] = [
    (Port::Mx, Some("smtp"), ""),
    (Port::Submission, Some("smtp"), ""),
    (Port::Submissions, None, ""),
    (Port::Imaps, None, "mail-"),
    (Port::Imap, Some("imap"), "mail-"),
    (Port::Pop3s, None, "mail-"),
    (Port::Pop3, Some("pop3"), "mail-"),
];

fn s_client(server: &Server, port: Port, starttls: Option<&str>, arguments: &[&str]) -> Outcome {
    let peer = Peer::new("openssl").args(["s_client", "-connect", &format!("127.0.0.1:{}", server.port(port))]);
    let peer = starttls.iter().fold(peer, |peer, protocol| peer.args(["-starttls", protocol]));
    // An empty input ends the session as soon as the handshake is done.
    peer.args(arguments).run().unwrap()
}

fn openssl(arguments: &[&str], file: &Path) -> String {
    let outcome = Peer::new("openssl").args(arguments).arg("-in").arg(file).succeed().unwrap();
    String::from_utf8_lossy(&outcome.output).into_owned()
}

/// The fingerprint of the certificate that a port shows.
pub fn fingerprint(server: &Server, port: Port, starttls: Option<&str>) -> String {
    let shown = s_client(server, port, starttls, &["-sigalgs", "RSA-PSS+SHA256"]);
    let file = server.scratch("shown.pem");
    std::fs::write(&file, &shown.output).unwrap();
    openssl(&["x509", "-noout", "-fingerprint", "-sha256"], &file)
}

#[test]
fn r3_r13_every_port_shows_a_certificate_for_its_names() {
    let server = Server::start().unwrap();
    for (port, starttls, set) in PORTS {
        let authorities = authorities(&server, set);
        let verify = |name: &str| {
            let verify = ["-verify_return_error", "-verify_hostname", name, "-CAfile", authorities.to_str().unwrap()];
            s_client(&server, port, starttls, &verify)
        };
        let outcome = verify("mail.example.net");
        assert_eq!(outcome.status, Some(0), "{port:?}: {outcome}");
        outcome.must_say("Verify return code: 0 (ok)").unwrap();
        outcome.must_say("TLSv1.3").unwrap();
        let mx = verify("mx.example.net");
        assert_eq!(mx.status == Some(0), set.is_empty(), "{port:?}: {mx}");
        assert_ne!(verify("elsewhere.example.net").status, Some(0), "{port:?}");
    }
}

#[test]
fn r11_rsa_and_ecdsa_side_by_side() {
    let server = Server::start().unwrap();
    for (port, starttls, _) in PORTS {
        for (how, bits) in [
            (&["-sigalgs", "RSA-PSS+SHA256"][..], "2048 bit"),
            (&["-sigalgs", "ECDSA+SHA256"], "256 bit"),
            (&["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"], "2048 bit"),
            (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"], "256 bit"),
        ] {
            let outcome = s_client(&server, port, starttls, how);
            assert_eq!(outcome.status, Some(0), "{port:?} {how:?}: {outcome}");
            assert!(outcome.says(&format!("Server public key is {bits}")), "{port:?} {how:?}: {outcome}");
        }
    }
}

#[test]
fn r21_r22_old_versions_and_weak_ciphers_are_refused() {
    let server = Server::start().unwrap();
    for (port, starttls, _) in PORTS {
        for how in [
            &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"][..],
            &["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"],
            &["-tls1_2", "-cipher", "aNULL@SECLEVEL=0"],
            &["-tls1_2", "-cipher", "RC4:3DES:NULL@SECLEVEL=0"],
            // R15: no finite-field Diffie-Hellman at all.
            &["-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"],
            &["-tls1_2", "-cipher", "AES256-SHA"],
        ] {
            let outcome = s_client(&server, port, starttls, how);
            assert_ne!(outcome.status, Some(0), "{port:?} {how:?}: {outcome}");
            assert!(!outcome.says("Server public key is"), "{port:?} {how:?}: {outcome}");
        }
        assert_eq!(s_client(&server, port, starttls, &["-tls1_2"]).status, Some(0), "{port:?}");
        assert_eq!(s_client(&server, port, starttls, &["-tls1_3"]).status, Some(0), "{port:?}");
    }
}

/// What a port's protocol is called in a handshake.
fn alpn(port: Port) -> &'static str {
    match port {
        Port::Imaps | Port::Imap => "imap",
        Port::Pop3s | Port::Pop3 => "pop3",
        _ => "smtp",
    }
}

#[test]
fn v49_foreign_protocols_get_no_handshake() {
    let server = Server::start().unwrap();
    for (port, starttls, _) in PORTS {
        for version in ["-tls1_2", "-tls1_3"] {
            let foreign = if alpn(port) == "imap" { "pop3" } else { "imap" };
            for offered in ["h2,http/1.1", "http/1.1", foreign] {
                let outcome = s_client(&server, port, starttls, &[version, "-alpn", offered]);
                assert_ne!(outcome.status, Some(0), "{port:?} {offered}: {outcome}");
                assert!(outcome.says("no application protocol"), "{port:?} {offered}: {outcome}");
            }
            let offered = format!("h2,{}", alpn(port));
            let outcome = s_client(&server, port, starttls, &[version, "-alpn", &offered]);
            assert_eq!(outcome.status, Some(0), "{port:?}: {outcome}");
            outcome.must_say(&format!("ALPN protocol: {}", alpn(port))).unwrap();
            let outcome = s_client(&server, port, starttls, &[version]);
            assert_eq!(outcome.status, Some(0), "{port:?}: {outcome}");
            outcome.must_say("No ALPN negotiated").unwrap();
        }
    }
}

/// A browser without ALPN that was led to a mail port, before a STARTTLS and inside TLS: one answer, then the end, and
/// what is in the body of its request is not carried out.
#[test]
fn v49_a_request_of_the_web_ends_the_session() {
    let server = Server::start().unwrap();
    let body = "EHLO x\r\nCAPA\r\na CAPABILITY\r\n";
    for verb in ["GET", "POST", "HEAD", "PUT", "CONNECT", "OPTIONS"] {
        let request = format!("{verb} / HTTP/1.1\r\nHost: mx.example.net\r\n\r\n{body}");
        for (port, starttls, _) in PORTS {
            let said = if starttls.is_some() {
                let mut raw = Raw::connect(server.port(port)).unwrap();
                raw.line().unwrap();
                raw.write(request.as_bytes()).unwrap();
                raw.finish().unwrap()
            } else {
                // With -quiet it stays until the server closes.
                let place = format!("127.0.0.1:{}", server.port(port));
                let peer = Peer::new("openssl").args(["s_client", "-quiet", "-connect", &place]).input(request.clone());
                let outcome = peer.run().unwrap();
                String::from_utf8_lossy(&outcome.output).lines().skip(1).collect::<Vec<_>>().join("\n")
            };
            assert_eq!(said.lines().count(), 1, "{port:?} {verb}: {said}");
            let refusal = match alpn(port) {
                "imap" => "* BYE ",
                "pop3" => "-ERR ",
                _ => "521 ",
            };
            assert!(said.starts_with(refusal), "{port:?} {verb}: {said}");
        }
    }
}

#[test]
fn r10_r12_r13_r14_keys_and_certificates_as_files() {
    let server = Server::start().unwrap();
    assert_ne!(fingerprint(&server, Port::Mx, Some("smtp")), fingerprint(&server, Port::Imaps, None));
    assert_eq!(fingerprint(&server, Port::Mx, Some("smtp")), fingerprint(&server, Port::Submissions, None));
    let tls = server.folder.join("tls");
    for (stem, name, names) in [
        ("rsa", "mx.example.net", "DNS:mx.example.net, DNS:mail.example.net"),
        ("ecdsa", "mx.example.net", "DNS:mx.example.net, DNS:mail.example.net"),
        ("mail-rsa", "mail.example.net", "DNS:mail.example.net"),
        ("mail-ecdsa", "mail.example.net", "DNS:mail.example.net"),
    ] {
        let file = tls.join(format!("{stem}-cert.pem"));
        let alternative = openssl(&["x509", "-noout", "-ext", "subjectAltName"], &file);
        assert_eq!(alternative.lines().last().unwrap().trim(), names);
        let subject = openssl(&["x509", "-noout", "-subject"], &file);
        assert_eq!(subject.trim(), format!("subject=C = US, O = Example Networks, CN = {name}"));
        let dates = ["x509", "-noout", "-checkend"];
        let ends =
            |seconds: &str| Peer::new("openssl").args(dates).arg(seconds).arg("-in").arg(&file).run().unwrap().status;
        assert_eq!((ends("31000000"), ends("31700000")), (Some(0), Some(1)), "365 days");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&tls.join(format!("{stem}-key.pem"))), 0o600);
        assert_eq!(mode(&tls), 0o700);
    }
}

#[test]
fn r4_r6_dane_finds_either_key() {
    let server = Server::start().unwrap();
    let record = |kind: &str| {
        let certificate = server.folder.join(format!("tls/{kind}-cert.pem"));
        let shell = format!(
            "openssl x509 -in {} -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -hex -r | cut -d' ' -f1",
            certificate.display()
        );
        let digest = Peer::new("sh").args(["-c", &shell]).succeed().unwrap().output;
        format!("3 1 1 {}", String::from_utf8(digest).unwrap().trim())
    };
    let (rsa, ecdsa) = (record("rsa"), record("ecdsa"));
    for algorithm in ["RSA-PSS+SHA256", "ECDSA+SHA256"] {
        let dane = ["-dane_tlsa_domain", "mx.example.net", "-dane_tlsa_rrdata", &rsa, "-dane_tlsa_rrdata", &ecdsa];
        let outcome = s_client(&server, Port::Mx, Some("smtp"), &[&dane[..], &["-sigalgs", algorithm]].concat());
        outcome.must_say("Verification: OK").unwrap();
        assert!(outcome.says("DANE TLSA 3 1 1") && outcome.says("matched"), "{outcome}");
    }
}

#[test]
fn r16_new_certificates_after_a_reload() {
    let server = Server::start().unwrap();
    let mut reader = crate::desk::imap(&server, crate::BRIAN);
    reader.command("SELECT INBOX").unwrap();
    let before = fingerprint(&server, Port::Imaps, None);
    let tls = server.folder.join("tls");
    let request = ["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "30", "-subj", "/CN=mail.example.net"];
    let request =
        Peer::new("openssl").args(request).args(["-addext", "subjectAltName=DNS:mail.example.net", "-keyout"]);
    request.arg(tls.join("mail-rsa-key.pem")).arg("-out").arg(tls.join("mail-rsa-cert.pem")).succeed().unwrap();
    assert_eq!(fingerprint(&server, Port::Imaps, None), before, "not before the reload");
    server.command(&["reload"]).unwrap();
    assert_ne!(fingerprint(&server, Port::Imaps, None), before);
    assert_ne!(fingerprint(&server, Port::Pop3, Some("pop3")), before);
    reader.command("NOOP").unwrap();

    // A certificate that does not fit its key keeps the old ones, and the administrator hears of it.
    let good = fingerprint(&server, Port::Imaps, None);
    std::fs::copy(tls.join("rsa-cert.pem"), tls.join("mail-rsa-cert.pem")).unwrap();
    let said = server.failing_command(&["reload"]).unwrap();
    assert!(said.contains("mail-rsa-"), "{said}");
    assert_eq!(fingerprint(&server, Port::Imaps, None), good);
}
