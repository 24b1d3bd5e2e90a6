//! Certificates and the data of TLSA records: whatever the octets, they are read or refused; and a record made of what was
//! read matches it.

#![no_main]

use dns::Tlsa;
use libfuzzer_sys::fuzz_target;
use transport_security::certificate::{Certificate, spki_content};
use transport_security::dane::{matches, presentation, usable};

fuzz_target!(|octets: &[u8]| {
    if let [usage, selector, matching, data @ ..] = octets {
        let record = Tlsa { usage: *usage, selector: *selector, matching: *matching, data: data.to_vec() };
        assert!(matches!(usable(&[record.clone(), record.clone()]).len(), 0 | 2));
        assert!(presentation(&record).len() <= 12 + 2 * data.len());
    }
    let Ok(certificate) = Certificate::parse(octets) else { return };
    let _ = (certificate.validity(), certificate.issuing());
    let full = |selector, data: &[u8]| Tlsa { usage: 3, selector, matching: 0, data: data.to_vec() };
    assert!(matches(&full(0, octets), octets, certificate.spki));
    assert!(matches(&full(1, certificate.spki), octets, certificate.spki));
    assert_eq!(usable(&[full(0, octets)]).len(), 1);
    if let Ok(content) = spki_content(certificate.spki) {
        assert!(content.len() < certificate.spki.len());
        assert_eq!(usable(&[full(1, certificate.spki)]).len(), 1);
    }
});
