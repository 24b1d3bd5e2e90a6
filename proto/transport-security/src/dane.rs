//! DANE: what TLSA records mean for SMTP, and whether a certificate is what they promise (RFC 6698, RFC 7671, RFC 7672).
//!
//! Where the records are found is in [`crate::tlsa_search`], what follows from them in [`crate::protection`]. Chains and
//! names are verified where TLS is spoken; here are the functions that need no library for it.

use crate::certificate::{Certificate, spki_content};
use aws_lc_rs::digest::{SHA256, SHA512, digest};
use dns::{Name, Tlsa};

/// Certificate usage DANE-TA: the record names an authority of the server's chain (RFC 7671 §5.2).
pub const TRUST_ANCHOR: u8 = 2;
/// Certificate usage DANE-EE: the record names the server's own certificate or key (RFC 7671 §5.1).
pub const END_ENTITY: u8 = 3;
/// Selector of the whole certificate (RFC 6698 §2.1.2).
pub const WHOLE_CERTIFICATE: u8 = 0;
/// Selector of the key: the SubjectPublicKeyInfo (RFC 6698 §2.1.2).
pub const PUBLIC_KEY: u8 = 1;
/// Matching type of the data itself (RFC 6698 §2.1.3).
pub const FULL: u8 = 0;
/// Matching type of a SHA-256 digest (RFC 6698 §2.1.3).
pub const SHA_256: u8 = 1;
/// Matching type of a SHA-512 digest (RFC 6698 §2.1.3).
pub const SHA_512: u8 = 2;
/// Usable records looked at. A rollover of two keys in all kinds of records needs fewer than twenty; what is beyond is
/// passed over.
pub const RECORDS_MAX: usize = 100;

/// The records that a server may be authenticated with, in their order: the usable ones (RFC 6698 §4.1), and of these, for
/// each usage and selector, the full ones and those of the strongest digest (RFC 7671 §9).
///
/// None left of a set that was not empty means that the host promised TLS in a way that we cannot authenticate: TLS is then
/// mandatory, without authentication (RFC 7672 §2.2).
pub fn usable(records: &[Tlsa]) -> Vec<Tlsa> {
    let usable: Vec<&Tlsa> = records.iter().filter(|record| is_usable(record)).take(RECORDS_MAX).collect();
    let strongest = |record: &Tlsa| {
        let same_kind = |other: &&&Tlsa| (other.usage, other.selector) == (record.usage, record.selector);
        // The numbers of the digests happen to rise with their strength.
        usable.iter().filter(same_kind).map(|other| other.matching).max()
    };
    let is_kept = |record: &&&Tlsa| record.matching == FULL || Some(record.matching) == strongest(record);
    usable.iter().filter(is_kept).map(|record| (*record).clone()).collect()
}

/// RFC 7672 §3.1.3: usages 0 and 1 have no meaning for SMTP. What is malformed is not usable either.
fn is_usable(record: &Tlsa) -> bool {
    let is_known = matches!(record.usage, TRUST_ANCHOR | END_ENTITY);
    let is_well_formed = match (record.selector, record.matching) {
        (WHOLE_CERTIFICATE, FULL) => Certificate::parse(&record.data).is_ok(),
        (PUBLIC_KEY, FULL) => spki_content(&record.data).is_ok(),
        (WHOLE_CERTIFICATE | PUBLIC_KEY, SHA_256) => record.data.len() == 32,
        (WHOLE_CERTIFICATE | PUBLIC_KEY, SHA_512) => record.data.len() == 64,
        _ => false,
    };
    is_known && is_well_formed
}

/// Whether a record names this certificate. `spki_der` is its SubjectPublicKeyInfo with its tag. The usage is not looked
/// at: for [`END_ENTITY`] give the server's own certificate, for [`TRUST_ANCHOR`] each of the others.
pub fn matches(record: &Tlsa, certificate_der: &[u8], spki_der: &[u8]) -> bool {
    let selected = match record.selector {
        WHOLE_CERTIFICATE => certificate_der,
        PUBLIC_KEY => spki_der,
        _ => return false,
    };
    match record.matching {
        FULL => record.data == selected,
        SHA_256 => record.data == digest(&SHA256, selected).as_ref(),
        SHA_512 => record.data == digest(&SHA512, selected).as_ref(),
        _ => false,
    }
}

/// Where mail for a domain goes, as far as names of certificates depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// The domain whose MX records were asked for, or the host that stands in their place.
    pub domain: Name,
    /// Where its aliases lead (`canonical` of the MX answer); the same as `domain` where there are none.
    pub expanded: Name,
}

impl NextHop {
    /// A next hop without aliases.
    pub fn plain(domain: Name) -> NextHop {
        NextHop { expanded: domain.clone(), domain }
    }
}

/// The names of which a certificate must carry one where a record of usage [`TRUST_ANCHOR`] is used, the first being the
/// TLSA base domain (RFC 7672 §3.2.2). `mx_is_secure` is `None` where no MX records were used: then `next_hop` is the host.
pub fn reference_names(base: &Name, next_hop: &NextHop, mx_is_secure: Option<bool>) -> Vec<Name> {
    let further: &[&Name] = match mx_is_secure {
        Some(true) => &[&next_hop.domain, &next_hop.expanded],
        // Whoever forged the MX records chose the host: the domain's name must not vouch for it.
        Some(false) => &[],
        None => &[&next_hop.domain],
    };
    let mut names = vec![base.clone()];
    for name in further {
        if !names.contains(name) {
            names.push((*name).clone());
        }
    }
    names
}

/// The presentation form of a record's data (RFC 6698 §2.2), as TLS reports carry it: `3 1 1 AB01…`.
pub fn presentation(record: &Tlsa) -> String {
    let hex: String = record.data.iter().map(|octet| format!("{octet:02X}")).collect();
    format!("{} {} {} {hex}", record.usage, record.selector, record.matching)
}

/// Records for a fingerprint from the configuration: the SHA-256 or SHA-512 digest, in hexadecimal with or without colons,
/// of a certificate or of its public key, whichever it turns out to be.
pub fn fingerprint(text: &str) -> Option<[Tlsa; 2]> {
    let digits: Vec<u8> =
        text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let matching = match digits.len() {
        64 => SHA_256,
        128 => SHA_512,
        _ => return None,
    };
    let data: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |octet, digit| octet << 4 | digit)).collect();
    Some([WHOLE_CERTIFICATE, PUBLIC_KEY].map(|selector| Tlsa {
        usage: END_ENTITY,
        selector,
        matching,
        data: data.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::example;

    fn record(usage: u8, selector: u8, matching: u8, data: Vec<u8>) -> Tlsa {
        Tlsa { usage, selector, matching, data }
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn what_is_usable_for_smtp() {
        let der = example();
        let spki = Certificate::parse(&der).unwrap().spki.to_vec();
        for usage in 0..=255 {
            let usable = usable(&[record(usage, 1, 1, vec![0; 32])]);
            assert_eq!(usable.len(), usize::from(matches!(usage, 2 | 3)), "usage {usage}");
        }
        for (selector, matching, length, expected) in [
            (0, 1, 32, true),
            (1, 1, 32, true),
            (0, 2, 64, true),
            (1, 2, 64, true),
            (1, 1, 31, false),
            (1, 1, 64, false),
            (1, 2, 32, false),
            (0, 1, 0, false),
            (2, 1, 32, false),
            (255, 1, 32, false),
            (1, 3, 32, false),
            (1, 255, 64, false),
            (0, 0, 32, false),
            (1, 0, 32, false),
        ] {
            let usable = usable(&[record(3, selector, matching, vec![0; length])]);
            assert_eq!(usable.len() == 1, expected, "{selector} {matching} {length}");
        }
        assert_eq!(usable(&[record(2, 0, 0, der.clone()), record(3, 1, 0, spki.clone())]).len(), 2);
        assert!(usable(&[record(2, 0, 0, spki), record(3, 1, 0, der)]).is_empty(), "data of the other selector");
        assert_eq!(usable(&vec![record(3, 1, 1, vec![0; 32]); 1_000]).len(), RECORDS_MAX);
    }

    /// The example of RFC 7671 §9, and that each usage and selector is judged by itself.
    #[test]
    fn the_strongest_digest_is_used() {
        let der = example();
        let spki = Certificate::parse(&der).unwrap().spki.to_vec();
        let weak = record(3, 1, 1, vec![1; 32]);
        let strong = record(3, 1, 2, vec![2; 64]);
        let full = record(3, 1, 0, spki);
        assert_eq!(usable(&[weak.clone(), strong.clone(), full.clone()]), [strong.clone(), full.clone()]);
        assert_eq!(usable(&[weak.clone(), full.clone()]), [weak.clone(), full]);
        let elsewhere = [record(2, 1, 2, vec![2; 64]), record(3, 0, 2, vec![2; 64]), weak.clone()];
        assert_eq!(usable(&elsewhere), elsewhere);
        let malformed = record(3, 1, 2, vec![2; 63]);
        assert_eq!(usable(&[malformed, weak.clone()]), [weak], "what is malformed takes no part");
    }

    #[test]
    fn every_selector_and_matching_type_matches() {
        let der = example();
        let spki = Certificate::parse(&der).unwrap().spki;
        for (selector, selected) in [(0, der.as_slice()), (1, spki)] {
            let digests = [
                (FULL, selected.to_vec()),
                (SHA_256, digest(&SHA256, selected).as_ref().to_vec()),
                (SHA_512, digest(&SHA512, selected).as_ref().to_vec()),
            ];
            for (matching, data) in digests {
                let right = record(3, selector, matching, data.clone());
                assert!(matches(&right, &der, spki), "{selector} {matching}");
                let mut wrong = right.clone();
                wrong.data[5] ^= 1;
                assert!(!matches(&wrong, &der, spki), "{selector} {matching}");
                let mut cut = right;
                cut.data.pop();
                assert!(!matches(&cut, &der, spki), "{selector} {matching}");
                assert!(!matches(&record(3, 1 - selector, matching, data), &der, spki), "the other selector");
            }
        }
        assert!(!matches(&record(3, 2, 0, der.clone()), &der, spki));
        assert!(!matches(&record(3, 0, 3, der.clone()), &der, spki));
    }

    /// R4: the digest of the fixed certificate, which `openssl` agrees with.
    #[test]
    fn the_digest_of_the_key_is_the_published_one() {
        let der = example();
        let text = "92:e3:4a:6a:c9:4b:f0:3c:9f:c0:7d:f1:21:84:35:6e:37:7f:c0:1d:50:2e:c5:a1:98:e6:f7:71:c8:1f:43:7d";
        let pins = fingerprint(text).unwrap();
        let spki = Certificate::parse(&der).unwrap().spki;
        assert_eq!(pins.map(|pin| matches(&pin, &der, spki)), [false, true]);
        let hex = text.replace(':', "").to_uppercase();
        assert_eq!(presentation(&fingerprint(&hex).unwrap()[1]), format!("3 1 1 {hex}"));
        for text in ["", "92", &hex[..63], &format!("{hex}00"), &hex.replace('9', "x")] {
            assert_eq!(fingerprint(text), None, "{text}");
        }
        assert_eq!(fingerprint(&hex.repeat(2)).unwrap()[0].matching, SHA_512);
    }

    /// The example of RFC 7672 §3.2.2.
    #[test]
    fn names_that_a_certificate_may_carry() {
        let hop = NextHop { domain: name("exchange.example.org"), expanded: name("example.com") };
        let names = |base: &str, hop: &NextHop, secure| -> Vec<String> {
            reference_names(&name(base), hop, secure).iter().map(Name::to_string).collect()
        };
        for base in ["mx10.example.com", "mx15.example.com", "mxbackup.example.net"] {
            assert_eq!(names(base, &hop, Some(true)), [base, "exchange.example.org", "example.com"]);
        }
        let plain = NextHop::plain(name("example.com"));
        assert_eq!(names("mx10.example.com", &plain, Some(true)), ["mx10.example.com", "example.com"]);
        assert_eq!(names("mx10.example.com", &hop, Some(false)), ["mx10.example.com"], "V43");
        assert_eq!(names("example.com", &plain, None), ["example.com"]);
        assert_eq!(names("real.example.net", &plain, None), ["real.example.net", "example.com"]);
    }
}
