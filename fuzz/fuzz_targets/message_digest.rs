//! Decodes any octets as a digest: no panic, and what is accepted is what encoding would give.
#![no_main]

use libfuzzer_sys::fuzz_target;
use message::digest::{Digest, decode_envelope};

fuzz_target!(|octets: &[u8]| {
    let envelope = decode_envelope(octets);
    if let Some(digest) = Digest::decode(octets) {
        assert_eq!(envelope.as_ref(), Some(&digest.envelope));
        assert_eq!(Digest::decode(&digest.encode()), Some(digest));
    }
});
