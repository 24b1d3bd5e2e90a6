//! `dns`: what to publish, and what is found when nobody answers.

use crate::commands::init;
use crate::program::{failure, json, run, text};

#[test]
fn r1_r4_r5_r7_records_are_told() {
    let place = tempfile::tempdir().unwrap();
    let config = init(place.path());
    let tls = config.parent().unwrap().join("tls");
    text(&config, &["dkim", "key", "example.net", "--selector", "first"]);
    text(&config, &["domain", "add", "example.org"]);
    let records = text(&config, &["dns", "records"]);
    for part in [
        "example.net.  MX 10 mx.example.net.\n",
        "example.org.  MX 10 mx.example.net.\n",
        "mail.example.net.  CNAME mx.example.net.\n",
        "mx.example.net.  TXT \"v=spf1 a -all\"\n",
        "example.net.  TXT \"v=spf1 mx -all\"\n",
        "_dmarc.example.org.  TXT \"v=DMARC1; p=none; rua=mailto:postmaster@example.org\"\n",
        "_smtp._tls.example.net.  TXT \"v=TLSRPTv1; rua=mailto:postmaster@example.net\"\n",
        "_submissions._tcp.example.net.  SRV 0 1 465 mx.example.net.\n",
        "_submission._tcp.example.net.  SRV 10 1 587 mx.example.net.\n",
        "_imaps._tcp.example.net.  SRV 0 1 993 mail.example.net.\n",
        "_pop3s._tcp.example.net.  SRV 10 1 995 mail.example.net.\n",
        "; https://mta-sts.example.org/.well-known/mta-sts.txt\n;   version: STSv1\n;   mode: testing\n",
    ] {
        assert!(records.contains(part), "{part}: {records}");
    }
    let keys = text(&config, &["dkim", "record", "example.net"]);
    assert!(keys.lines().count() == 2 && keys.lines().all(|line| records.contains(line)), "{records}");
    // R7: the key of a signing request is the next one.
    let next = tls.join("ca-ecdsa-key.pem").to_string_lossy().into_owned();
    let one = json(&config, &["dns", "records", "example.net", "--next-key", &next]);
    let of_kind = |kind: &str| one["records"].as_array().unwrap().iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of_kind("TLSA"), of_kind("MX"), one["policies"].as_array().unwrap().len()), (3, 1, 1));
    // R5: nothing is printed where a key cannot be read.
    std::fs::write(place.path().join("empty.pem"), "").unwrap();
    let empty = place.path().join("empty.pem").to_string_lossy().into_owned();
    assert!(failure(&config, &["dns", "records", "--next-key", &empty]).contains("no certificate"));
    std::fs::write(tls.join("rsa-cert.pem"), "").unwrap();
    assert!(failure(&config, &["dns", "records"]).contains("rsa-cert.pem"));
    assert!(failure(&config, &["dns", "records", "localhost"]).contains("not a full domain"));
}

#[test]
fn r3_the_name_for_clients_is_the_one_that_init_was_given() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("etc/pillarbox.toml");
    let storage = place.path().join("mail").to_string_lossy().into_owned();
    let made =
        text(&config, &["init", "example.net", "--mail-name", "imap.example.net", "-p", "b", "--storage", &storage]);
    let records = text(&config, &["dns", "records"]);
    for told in [made, records] {
        assert!(told.contains("imap.example.net.  CNAME mx.example.net.\n"), "{told}");
        assert!(told.contains("SRV 0 1 993 imap.example.net.\n") && !told.contains("mail.example.net"), "{told}");
    }
}

/// R8: silence is not taken for absence, and not for health.
#[test]
fn r8_a_check_without_dns_fails() {
    let place = tempfile::tempdir().unwrap();
    let config = init(place.path());
    // A port that is bound by nobody refuses at once.
    let server = crate::program::free_addresses(1)[0].to_string();
    let checked = run(&config, &["dns", "check", "--server", &server]);
    assert!(!checked.succeeded);
    assert!(checked.stdout.contains("example.net MX: cannot be found out: "), "{checked:?}");
    assert!(!checked.stdout.contains("missing: mail for the domain"), "{checked:?}");
    let typed = failure(&config, &["dns", "check", "--server", "resolver.example"]);
    assert!(typed.contains("--server") && typed.contains("write address or address:port"), "{typed}");
}
