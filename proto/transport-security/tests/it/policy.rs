//! What domains publish about the way to them: records, policies and names are read or refused, and what was read is read
//! again from how it is written. Also what fuzzing runs.

use dns::Name;
use transport_security::mta_sts::{self, ID_OCTETS_MAX, MX_PATTERNS_MAX, Policy};
use transport_security::tls_rpt::{self, AppliedPolicy, DESTINATIONS_MAX};
use transport_security::{ReferenceName, dane};

/// Whether these octets are any of them.
pub fn is_read(octets: &[u8]) -> bool {
    let host = Name::parse("mx.example.net").unwrap();
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
        assert!(text.eq_ignore_ascii_case("mx.example.net") || text.eq_ignore_ascii_case("*.example.net"), "{text:?}");
        is_read = true;
    }
    if let Some(name) = ReferenceName::parse(text) {
        assert_eq!(ReferenceName::parse(&name.to_string()), Some(name));
        is_read = true;
    }
    is_read
}
