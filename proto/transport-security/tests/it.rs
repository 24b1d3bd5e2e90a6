//! Replays the hostile inputs kept in `tests/corpus` through everything that reads what others publish or send: whole, cut
//! (V27), and with octets altered. None may panic (V28), and what is read keeps the rules that the fuzz targets check.

use dns::{Name, Tlsa};
use std::fs;
use std::path::Path;
use transport_security::ReferenceName;
use transport_security::certificate::{Certificate, spki_content};
use transport_security::dane::{self, matches, presentation, usable};
use transport_security::mta_sts::{self, ID_OCTETS_MAX, MX_PATTERNS_MAX, Policy};
use transport_security::tls_rpt::received::{self, FAILURES_MAX, LINES_MAX, POLICIES_MAX};
use transport_security::tls_rpt::{self, AppliedPolicy, DESTINATIONS_MAX};

/// Places at which one file is cut and altered. Longer ones are stepped through.
const PLACES_MAX: usize = 300;

/// Gives each file of a folder to a reader, then its variants. How many whole files it reads as something.
fn replay(folder: &str, read: impl Fn(&[u8]) -> bool) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut are_read = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let input = fs::read(entry.unwrap().path()).unwrap();
        are_read += usize::from(read(&input));
        for at in (0..input.len()).step_by(1 + input.len() / PLACES_MAX) {
            read(&input[..at]);
            let mut altered = input.clone();
            altered[at] ^= [0x01, 0x20, 0x80][at % 3];
            read(&altered);
        }
    }
    are_read
}

#[test]
fn v27_v28_certificates_and_tlsa_records() {
    let are_read = replay("certificate", |octets| {
        let mut is_read = false;
        if let [usage, selector, matching, data @ ..] = octets {
            let record = Tlsa { usage: *usage, selector: *selector, matching: *matching, data: data.to_vec() };
            let usable = usable(&[record.clone(), record.clone()]).len();
            assert!(matches!(usable, 0 | 2));
            assert!(presentation(&record).len() <= 12 + 2 * data.len());
            is_read |= usable > 0;
        }
        let Ok(certificate) = Certificate::parse(octets) else { return is_read };
        let _ = (certificate.validity(), certificate.issuing());
        let full = |selector, data: &[u8]| Tlsa { usage: 3, selector, matching: 0, data: data.to_vec() };
        assert!(matches(&full(0, octets), octets, certificate.spki));
        assert!(matches(&full(1, certificate.spki), octets, certificate.spki));
        assert_eq!(usable(&[full(0, octets)]).len(), 1);
        if let Ok(content) = spki_content(certificate.spki) {
            assert!(content.len() < certificate.spki.len());
            assert_eq!(usable(&[full(1, certificate.spki)]).len(), 1);
        }
        true
    });
    assert_eq!(are_read, 19);
}

#[test]
fn v27_v28_policies_records_and_names() {
    let host = Name::parse("mx.example.net").unwrap();
    let are_read = replay("policy", |octets| {
        let mut is_read = false;
        if let Some(id) = mta_sts::parse_record([octets]) {
            assert!(!id.is_empty() && id.len() <= ID_OCTETS_MAX);
            assert_eq!(mta_sts::parse_record([octets, octets]), None);
            is_read = true;
        }
        if let Some(destinations) = tls_rpt::parse_record([octets]) {
            assert!((1..=DESTINATIONS_MAX).contains(&destinations.len()));
            is_read = true;
        }
        if let Ok(policy) = Policy::parse(octets) {
            assert!(policy.mx.len() <= MX_PATTERNS_MAX);
            assert!(AppliedPolicy::sts(&host, &policy).text.len() <= policy.lines().len());
            assert_eq!(Policy::parse(policy.lines().join("\r\n").as_bytes()), Ok(policy));
            is_read = true;
        }
        let Ok(text) = std::str::from_utf8(octets) else { return is_read };
        is_read |= dane::fingerprint(text).is_some();
        if ReferenceName::Host(host.clone()).fits(text) {
            assert!(
                text.eq_ignore_ascii_case("mx.example.net") || text.eq_ignore_ascii_case("*.example.net"),
                "{text:?}"
            );
            is_read = true;
        }
        if let Some(name) = ReferenceName::parse(text) {
            assert_eq!(ReferenceName::parse(&name.to_string()), Some(name));
            is_read = true;
        }
        is_read
    });
    assert_eq!(are_read, 15);
}

#[test]
fn v27_v28_v38_reports() {
    let are_read = replay("report", |octets| {
        let Ok(report) = received::parse(octets) else { return false };
        assert!(report.policies.len() <= POLICIES_MAX);
        for policy in report.policies {
            assert!(policy.details.len() <= FAILURES_MAX);
            assert!(policy.text.len() <= LINES_MAX && policy.mx_hosts.len() <= LINES_MAX);
        }
        true
    });
    assert_eq!(are_read, 11);
}
