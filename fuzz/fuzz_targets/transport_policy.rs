//! What domains publish about the way to them: records and policies are read or refused, and a policy that was read is
//! read again from its lines.
#![no_main]

#[path = "../../proto/transport-security/tests/it/policy.rs"]
mod policy;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    policy::is_read(octets);
});
