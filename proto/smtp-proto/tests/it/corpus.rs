//! Replays the peers kept in `tests/corpus/client`, as the fuzz target `smtp_client` would.

use crate::hearing::hear;
use std::path::Path;

/// How many octets lie between two places where a peer breaks off that says more than [`SHORT_OCTETS_MAX`].
const STRIDE: usize = 397;
/// A peer that says no more breaks off at every octet.
const SHORT_OCTETS_MAX: usize = 600;

#[test]
fn v10_v13_hostile_peers_do_no_harm_wherever_they_break_off() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/client");
    let paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(paths.len() >= 20, "{}", paths.len());
    for path in paths {
        let peer = std::fs::read(&path).unwrap();
        let stride = if peer.len() <= SHORT_OCTETS_MAX { 1 } else { STRIDE };
        (0..peer.len()).step_by(stride).for_each(|cut| hear(&peer[..cut]));
        hear(&peer);
    }
}
