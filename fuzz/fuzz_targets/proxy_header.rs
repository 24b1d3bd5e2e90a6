//! The PROXY header parser: whatever the octets, it answers; and what it answers does not depend on how they are split.

#![no_main]

use libfuzzer_sys::fuzz_target;
use net::proxy::{HEADER_OCTETS_MAX, Progress, parse};

fuzz_target!(|octets: &[u8]| {
    let whole = parse(octets);
    if let Ok(Progress::Complete(header)) = &whole {
        assert!(header.length <= octets.len() && header.length <= HEADER_OCTETS_MAX);
    }
    // A reader that takes no more than it is asked to must come to the same end.
    let mut taken = 0;
    loop {
        match parse(octets.get(..taken).unwrap_or(octets)) {
            Ok(Progress::More(missing)) => {
                assert!(missing > 0);
                taken += missing;
                if taken > octets.len() {
                    break;
                }
            }
            complete_or_refused => {
                assert_eq!(complete_or_refused, whole);
                break;
            }
        }
    }
});
