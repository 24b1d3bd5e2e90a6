//! Replays the hostile inputs kept in `tests/corpus` through everything that reads what others publish or send: whole, cut
//! (V27), and with octets altered. None may panic (V28), and what is read keeps the rules that the fuzz targets check.

mod certificate;
mod policy;
mod report;

use std::fs;
use std::path::Path;

/// Places at which one file is cut and altered. Longer ones are stepped through.
const PLACES_MAX: usize = 300;

/// Gives each file of a folder to a reader, then its variants. How many whole files it reads as something.
fn replay(folder: &str, read: impl Fn(&[u8]) -> bool) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut are_read = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let input = fs::read(entry.unwrap().path()).unwrap();
        are_read += usize::from(read(&input));
        for at in (0..input.len()).step_by(1 + input.len() / PLACES_MAX) {
            read(&input[..at]);
            let mut altered = input.clone();
            altered[at] ^= [0x01, 0x20, 0x80][at % 3];
            read(&altered);
        }
    }
    are_read
}

#[test]
fn v27_v28_certificates_and_tlsa_records() {
    assert_eq!(replay("certificate", certificate::is_read), 19);
}

#[test]
fn v27_v28_policies_records_and_names() {
    assert_eq!(replay("policy", policy::is_read), 15);
}

#[test]
fn v27_v28_v38_reports() {
    assert_eq!(replay("report", report::is_read), 11);
}
