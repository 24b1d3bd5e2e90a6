//! TLS reports that others send: whatever the octets, compressed or not, they are read or refused within the limits.
#![no_main]

#[path = "../../proto/transport-security/tests/it/report.rs"]
mod report;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    report::is_read(octets);
});
