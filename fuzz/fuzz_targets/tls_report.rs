//! TLS reports that others send: whatever the octets, compressed or not, they are read or refused within the limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use transport_security::tls_rpt::received::{self, FAILURES_MAX, LINES_MAX, POLICIES_MAX};

fuzz_target!(|octets: &[u8]| {
    let Ok(report) = received::parse(octets) else { return };
    assert!(report.policies.len() <= POLICIES_MAX);
    for policy in report.policies {
        assert!(policy.details.len() <= FAILURES_MAX);
        assert!(policy.text.len() <= LINES_MAX && policy.mx_hosts.len() <= LINES_MAX);
    }
});
