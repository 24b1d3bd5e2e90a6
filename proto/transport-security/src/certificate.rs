//! A certificate as far as DANE asks of it, read by hand so that no age or oddity of it stands in the way.
//!
//! Nothing is verified here. A certificate that a strict library refuses, such as one of X.509 version 1, still has a key
//! that a TLSA record may name (RFC 7671 §5.1), and a handshake signature that can be checked with that key.

use mail::time::Civil;
use std::fmt;

/// The parts of a certificate (RFC 5280 §4.1), borrowed from its octets.
#[derive(Debug, Clone, Copy)]
pub struct Certificate<'a> {
    /// The whole SubjectPublicKeyInfo, its tag included: what selector 1 of a TLSA record is about.
    pub spki: &'a [u8],
    /// The content of the issuer's name, without its tag.
    pub issuer: &'a [u8],
    /// The content of the subject's name, without its tag.
    pub subject: &'a [u8],
    is_version_1: bool,
    validity: &'a [u8],
    extensions: Option<&'a [u8]>,
}

/// Octets that are no certificate, or a part of one that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the certificate cannot be read")
    }
}

impl std::error::Error for Malformed {}

/// When a certificate holds, in seconds since 1970, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when on.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
}

/// What a certificate may issue (RFC 5280 §4.2.1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Issuing {
    /// Whether it may issue certificates at all.
    pub is_authority: bool,
    /// How many further authorities may stand between it and the server's certificate; `None` for any number.
    pub path_length: Option<usize>,
}

impl<'a> Certificate<'a> {
    /// Reads the octets of one certificate in DER form.
    pub fn parse(der: &'a [u8]) -> Result<Certificate<'a>, Malformed> {
        let mut outer = Reader(der);
        let mut certificate = Reader(outer.expect(TAG_SEQUENCE)?.content);
        if !outer.0.is_empty() {
            return Err(Malformed);
        }
        let mut body = Reader(certificate.expect(TAG_SEQUENCE)?.content);
        let version = body.optional(TAG_VERSION)?;
        body.expect(TAG_INTEGER)?;
        body.expect(TAG_SEQUENCE)?;
        let issuer = body.expect(TAG_SEQUENCE)?.content;
        let validity = body.expect(TAG_SEQUENCE)?.content;
        let subject = body.expect(TAG_SEQUENCE)?.content;
        let spki = body.expect(TAG_SEQUENCE)?.whole;
        for unique_id in [TAG_ISSUER_ID, TAG_SUBJECT_ID] {
            body.optional(unique_id)?;
        }
        let extensions = body.optional(TAG_EXTENSIONS)?.map(|element| element.content);
        Ok(Certificate { spki, issuer, subject, is_version_1: version.is_none(), validity, extensions })
    }

    /// When the certificate holds.
    pub fn validity(&self) -> Result<Validity, Malformed> {
        let mut dates = Reader(self.validity);
        Ok(Validity { not_before: date(dates.next()?)?, not_after: date(dates.next()?)? })
    }

    /// What the certificate may issue. One of version 1 says nothing about it, and old roots are such; any other needs to
    /// say that it is an authority.
    pub fn issuing(&self) -> Result<Issuing, Malformed> {
        let nothing_said = Issuing { is_authority: self.is_version_1, path_length: None };
        let Some(extensions) = self.extensions else { return Ok(nothing_said) };
        let mut wrapper = Reader(extensions);
        let mut extensions = Reader(wrapper.expect(TAG_SEQUENCE)?.content);
        while !extensions.0.is_empty() {
            let mut extension = Reader(extensions.expect(TAG_SEQUENCE)?.content);
            let identifier = extension.expect(TAG_OBJECT_IDENTIFIER)?.content;
            extension.optional(TAG_BOOLEAN)?;
            let value = extension.expect(TAG_OCTET_STRING)?.content;
            if identifier == BASIC_CONSTRAINTS {
                return basic_constraints(value);
            }
        }
        Ok(nothing_said)
    }
}

/// The content of a SubjectPublicKeyInfo, without its tag, when the octets look like one: an algorithm, then a key.
pub fn spki_content(spki: &[u8]) -> Result<&[u8], Malformed> {
    let mut outer = Reader(spki);
    let content = outer.expect(TAG_SEQUENCE)?.content;
    let mut inner = Reader(content);
    inner.expect(TAG_SEQUENCE)?;
    inner.expect(TAG_BIT_STRING)?;
    if outer.0.is_empty() && inner.0.is_empty() { Ok(content) } else { Err(Malformed) }
}

fn basic_constraints(value: &[u8]) -> Result<Issuing, Malformed> {
    let mut outer = Reader(value);
    let mut fields = Reader(outer.expect(TAG_SEQUENCE)?.content);
    let is_authority = fields.optional(TAG_BOOLEAN)?.is_some_and(|element| element.content.iter().any(|b| *b != 0));
    let path_length = match fields.optional(TAG_INTEGER)? {
        None => None,
        Some(number) => match number.content {
            [one] if *one < 0x80 => Some(usize::from(*one)),
            // Longer than any chain that a handshake can carry.
            [first, _, ..] if *first < 0x80 => None,
            _ => return Err(Malformed),
        },
    };
    Ok(Issuing { is_authority, path_length })
}

/// A UTCTime or GeneralizedTime in the only forms that certificates may use (RFC 5280 §4.1.2.5).
fn date(element: Element<'_>) -> Result<i64, Malformed> {
    let text = std::str::from_utf8(element.content).map_err(|_| Malformed)?;
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())).ok_or(Malformed)?;
    let century_and_rest = match (element.tag, digits.len()) {
        (TAG_UTC_TIME, 12) => {
            digits.split_at_checked(2).map(|(year, rest)| (if year < "50" { "20" } else { "19" }, year, rest))
        }
        (TAG_GENERALIZED_TIME, 14) => digits.split_at_checked(4).map(|(year, rest)| ("", year, rest)),
        _ => None,
    };
    let (century, year, rest) = century_and_rest.ok_or(Malformed)?;
    let year: i64 = format!("{century}{year}").parse().map_err(|_| Malformed)?;
    let two = |from: usize| rest.get(from..from + 2).and_then(|two| two.parse::<u8>().ok()).ok_or(Malformed);
    let civil =
        Civil { year, month: two(0)?, day: two(2)?, hour: two(4)?, minute: two(6)?, second: two(8)?, zone_minutes: 0 };
    let is_date = (1..=12).contains(&civil.month) && (1..=31).contains(&civil.day);
    if is_date && civil.hour < 24 && civil.minute < 60 { Ok(civil.to_unix()) } else { Err(Malformed) }
}

/// One element of DER.
#[derive(Debug, Clone, Copy)]
struct Element<'a> {
    tag: u8,
    whole: &'a [u8],
    content: &'a [u8],
}

/// Takes elements from the front. Lengths that are longer than need be are borne, since what is compared are octets.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Element<'a>, Malformed> {
        let [tag, length, rest @ ..] = self.0 else { return Err(Malformed) };
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (length, head) = match length {
            0..=0x7f => (usize::from(*length), 2),
            // One to four octets of length; what is longer does not fit any message.
            0x81..=0x84 => {
                let count = usize::from(length & 0x7f);
                let octets = rest.get(..count).ok_or(Malformed)?;
                (octets.iter().fold(0usize, |sum, octet| sum << 8 | usize::from(*octet)), 2 + count)
            }
            _ => return Err(Malformed),
        };
        let end = head.checked_add(length).ok_or(Malformed)?;
        let whole = self.0.get(..end).ok_or(Malformed)?;
        self.0 = self.0.get(end..).unwrap_or_default();
        Ok(Element { tag: *tag, whole, content: whole.get(head..).unwrap_or_default() })
    }

    fn expect(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        self.optional(tag)?.ok_or(Malformed)
    }

    fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Malformed> {
        // A primitive and a constructed form of one context tag differ in one bit only.
        if self.0.first().is_some_and(|first| *first == tag || (tag & 0x80 != 0 && *first & !0x20 == tag & !0x20)) {
            self.next().map(Some)
        } else {
            Ok(None)
        }
    }
}

const TAG_BOOLEAN: u8 = 0x01;
const TAG_INTEGER: u8 = 0x02;
const TAG_BIT_STRING: u8 = 0x03;
const TAG_OCTET_STRING: u8 = 0x04;
const TAG_OBJECT_IDENTIFIER: u8 = 0x06;
const TAG_UTC_TIME: u8 = 0x17;
const TAG_GENERALIZED_TIME: u8 = 0x18;
const TAG_SEQUENCE: u8 = 0x30;
const TAG_VERSION: u8 = 0xa0;
const TAG_ISSUER_ID: u8 = 0xa1;
const TAG_SUBJECT_ID: u8 = 0xa2;
const TAG_EXTENSIONS: u8 = 0xa3;
/// The object identifier 2.5.29.19.
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    /// A self-signed authority for `mx.example.net`, P-256, made with `openssl req -x509`.
    pub(crate) fn example() -> Vec<u8> {
        STANDARD.decode(EXAMPLE.replace('\n', "")).unwrap()
    }

    /// One of version 1, made with `openssl x509 -req` without extensions.
    fn version_1() -> Vec<u8> {
        STANDARD.decode(VERSION_1.replace('\n', "")).unwrap()
    }

    #[test]
    fn the_parts_are_found() {
        let der = example();
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.issuer, certificate.subject);
        assert_eq!(spki_content(certificate.spki).map(<[u8]>::len), Ok(certificate.spki.len() - 2));
        assert_eq!(certificate.validity().unwrap().not_after, 3_523_351_001);
        assert_eq!(certificate.issuing(), Ok(Issuing { is_authority: true, path_length: None }));
    }

    #[test]
    fn an_old_certificate_has_a_key_too() {
        let der = version_1();
        let certificate = Certificate::parse(&der).unwrap();
        assert!(spki_content(certificate.spki).is_ok());
        assert_eq!(certificate.issuing(), Ok(Issuing { is_authority: true, path_length: None }));
        assert!(certificate.validity().unwrap().not_before < certificate.validity().unwrap().not_after);
    }

    /// V28.
    #[test]
    fn cut_and_altered_certificates_do_not_panic() {
        for der in [example(), version_1()] {
            for end in 0..der.len() {
                assert!(Certificate::parse(&der[..end]).is_err(), "{end}");
                for change in [0x01, 0x80, 0xff] {
                    let mut altered = der.clone();
                    altered[end] ^= change;
                    if let Ok(certificate) = Certificate::parse(&altered) {
                        let _ = (certificate.validity(), certificate.issuing(), spki_content(certificate.spki));
                    }
                }
            }
        }
        for octets in [&[0x30, 0x80, 0, 0][..], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x1f, 0x81], &[0x30], &[]] {
            assert_eq!(Certificate::parse(octets).err(), Some(Malformed));
        }
    }

    #[test]
    fn dates_have_one_form() {
        let read = |tag, text: &'static str| date(Element { tag, whole: &[], content: text.as_bytes() });
        assert_eq!(read(TAG_UTC_TIME, "700101000000Z"), Ok(0));
        assert_eq!(read(TAG_UTC_TIME, "490101000000Z"), Ok(2_493_072_000));
        assert_eq!(read(TAG_GENERALIZED_TIME, "20000301000000Z"), Ok(951_868_800));
        for text in ["20000301000000", "2000030100000Z", "20001301000000Z", "20000301240000Z", "2000030100000+Z"] {
            assert_eq!(read(TAG_GENERALIZED_TIME, text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn constraints_of_authorities() {
        let issuing = |is_authority, path_length| Ok(Issuing { is_authority, path_length });
        assert_eq!(basic_constraints(&[0x30, 0]), issuing(false, None));
        assert_eq!(basic_constraints(&[0x30, 3, 1, 1, 0xff]), issuing(true, None));
        assert_eq!(basic_constraints(&[0x30, 6, 1, 1, 0xff, 2, 1, 3]), issuing(true, Some(3)));
        assert_eq!(basic_constraints(&[0x30, 7, 1, 1, 0xff, 2, 2, 1, 0]), issuing(true, None));
        assert_eq!(basic_constraints(&[0x30, 6, 1, 1, 0xff, 2, 1, 0xff]), Err(Malformed));
    }

    const EXAMPLE: &str = "\
MIIBpTCCAUqgAwIBAgIUKDCU3jNTsHO1EQv64UBaFtEwMZMwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwObXguZXhhbXBsZS5uZXQwIBcNMjYxMTIyMTIzNjQxWhgPMjA4
MTA4MjUxMjM2NDFaMBkxFzAVBgNVBAMMDm14LmV4YW1wbGUubmV0MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAECNgT7ekSBN9PAJcr3H5F6Y2X+FYo9wgwydy4ybb/
IyUQ9EwMVUUFRyRInL2mSvLnpeEwElmzBqjJpQAV1ksL1KNuMGwwHQYDVR0OBBYE
FFAc/2C+hnw+fOX2PbE9wgMOB13EMB8GA1UdIwQYMBaAFFAc/2C+hnw+fOX2PbE9
wgMOB13EMA8GA1UdEwEB/wQFMAMBAf8wGQYDVR0RBBIwEIIObXguZXhhbXBsZS5u
ZXQwCgYIKoZIzj0EAwIDSQAwRgIhAKlU17WAI4K0Q95JnLS0CYBj5j0hCrntxUpI
MVAS5q0OAiEA9TIRD4aPyOl+YdCMsLfzOwY/8D09nx41+OM+Js9znpw=";
    const VERSION_1: &str = "\
MIIBMTCB1wIUd3k2AJKNjQxy5Xai7Ru6ITYARd0wCgYIKoZIzj0EAwIwGjEYMBYG
A1UEAwwPb2xkLmV4YW1wbGUubmV0MCAXDTI2MTEyNTE1NDQwM1oYDzIwODEwODI4
MTU0NDAzWjAaMRgwFgYDVQQDDA9vbGQuZXhhbXBsZS5uZXQwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAARR80RBOXx3XGD8Of/sauqtenuFvANvzPLqqEPncnrYfHmo
w+PHMFEJCvfIt46Aq61D1H9VD6bBSfFcyqTbxRanMAoGCCqGSM49BAMCA0kAMEYC
IQDo0oXwXTCRndqVYu2yJ+e2HbMoDgr+WA+Oo3GTpk5iSwIhANpyd9qjLJsv6Spi
7LfArTA433J7FP15mEh5+fpGXZw0";
}
