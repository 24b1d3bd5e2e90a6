//! TLS reports that others send: whatever the octets, compressed or not, they are read or refused within the limits. Also
//! what fuzzing runs.

use transport_security::tls_rpt::received::{self, FAILURES_MAX, LINES_MAX, POLICIES_MAX};

/// Whether these octets are a report.
pub fn is_read(octets: &[u8]) -> bool {
    let Ok(report) = received::parse(octets) else { return false };
    assert!(report.policies.len() <= POLICIES_MAX);
    for policy in report.policies {
        assert!(policy.details.len() <= FAILURES_MAX);
        assert!(policy.text.len() <= LINES_MAX && policy.mx_hosts.len() <= LINES_MAX);
    }
    true
}
