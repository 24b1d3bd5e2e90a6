//! Certificates and the data of TLSA records: whatever the octets, they are read or refused; and a record made of what was
//! read matches it.
#![no_main]

#[path = "../../proto/transport-security/tests/it/certificate.rs"]
mod certificate;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    certificate::is_read(octets);
});
