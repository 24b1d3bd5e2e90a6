//! Certificates and the data of TLSA records: whatever the octets, they are read or refused; and a record made of what was
//! read matches it. Also what fuzzing runs.

use dns::Tlsa;
use transport_security::certificate::{Certificate, spki_content};
use transport_security::dane::{matches, presentation, usable};

/// Whether these octets are either.
pub fn is_read(octets: &[u8]) -> bool {
    let mut is_read = false;
    if let [usage, selector, matching, data @ ..] = octets {
        let record = Tlsa { usage: *usage, selector: *selector, matching: *matching, data: data.to_vec() };
        let usable = usable(&[record.clone(), record.clone()]).len();
        assert!(matches!(usable, 0 | 2));
        assert!(presentation(&record).len() <= 12 + 2 * data.len());
        is_read |= usable > 0;
    }
    let Ok(certificate) = Certificate::parse(octets) else { return is_read };
    let _ = (certificate.validity(), certificate.issuing());
    let full = |selector, data: &[u8]| Tlsa { usage: 3, selector, matching: 0, data: data.to_vec() };
    assert!(matches(&full(0, octets), octets, certificate.spki));
    assert!(matches(&full(1, certificate.spki), octets, certificate.spki));
    assert_eq!(usable(&[full(0, octets)]).len(), 1);
    if let Ok(content) = spki_content(certificate.spki) {
        assert!(content.len() < certificate.spki.len());
        assert_eq!(usable(&[full(1, certificate.spki)]).len(), 1);
    }
    true
}
