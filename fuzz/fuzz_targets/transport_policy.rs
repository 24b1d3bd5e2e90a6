//! What domains publish about the way to them: records and policies are read or refused, and a policy that was read is
//! read again from its lines.

#![no_main]

use dns::Name;
use libfuzzer_sys::fuzz_target;
use transport_security::mta_sts::{self, MX_PATTERNS_MAX, Policy};
use transport_security::tls_rpt::{self, DESTINATIONS_MAX};
use transport_security::{ReferenceName, dane};

fuzz_target!(|octets: &[u8]| {
    if let Some(id) = mta_sts::parse_record([octets]) {
        assert!(!id.is_empty() && id.len() <= mta_sts::ID_OCTETS_MAX);
        assert_eq!(mta_sts::parse_record([octets, octets]), None);
    }
    if let Some(destinations) = tls_rpt::parse_record([octets]) {
        assert!((1..=DESTINATIONS_MAX).contains(&destinations.len()));
    }
    if let Ok(policy) = Policy::parse(octets) {
        assert!(policy.mx.len() <= MX_PATTERNS_MAX);
        assert_eq!(Policy::parse(policy.lines().join("\r\n").as_bytes()), Ok(policy));
    }
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let _ = dane::fingerprint(text);
    let host = Name::parse("mx.example.net").unwrap();
    if ReferenceName::Host(host.clone()).fits(text) {
        assert!(text.eq_ignore_ascii_case("mx.example.net") || text.eq_ignore_ascii_case("*.example.net"));
    }
    if let Some(name) = ReferenceName::parse(text) {
        assert_eq!(ReferenceName::parse(&name.to_string()), Some(name));
    }
});
