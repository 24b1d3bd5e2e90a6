//! Keys and certificates made and read: self-signed certificates, signing requests, TLSA digests.
//!
//! Not their use in handshakes, which is in [`crate::tls`](crate::ServerTls), and not their renewal.

use aws_lc_rs::digest;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Kind of a key to be made (R10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewKey {
    /// RSA of 2048 bits.
    Rsa2048,
    /// ECDSA over P-256, also known as prime256v1.
    EcdsaP256,
}

/// The subject of a certificate (R12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Two letters, such as `US`; left out when `None`.
    pub country: Option<String>,
    /// Organization; left out when `None`.
    pub organization: Option<String>,
    /// Common name; clients no longer read it (RFC 9525 §2), people do.
    pub common_name: String,
}

/// A certificate or signing request with its key, both as PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct PemPair {
    /// The certificate or the request.
    pub public: String,
    /// The private key, PKCS #8.
    pub key: mail::Secret,
}

/// Why a certificate cannot be made or used.
#[derive(Debug)]
pub enum CertificateError {
    /// There is no certificate in the input; in particular it is empty (R5).
    NoCertificate,
    /// The certificate cannot be read.
    Malformed(String),
    /// No host names were given (R13).
    NoNames,
    /// The library refuses a name or a key.
    Refused(String),
    /// A file cannot be written.
    Write(PathBuf, io::Error),
}

/// Longest life of a self-signed certificate; the guide's is 365 days (R12).
pub const DAYS_MAX: u32 = 36_500;

/// Makes a key and a certificate signed by it, valid for `days` from now ([`DAYS_MAX`] at most), for the DNS names
/// `names` (R12, R13).
pub fn self_signed(names: &[String], kind: NewKey, days: u32, subject: &Subject) -> Result<PemPair, CertificateError> {
    let key = new_key(kind)?;
    let mut params = parameters(names, kind, subject)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = date_time_ymd(1970, 1, 1) + now;
    params.not_after = params.not_before + Duration::from_secs(u64::from(days.min(DAYS_MAX)) * SECONDS_PER_DAY);
    params.is_ca = IsCa::ExplicitNoCa;
    let certificate = params.self_signed(&key).map_err(refused)?;
    Ok(PemPair { public: certificate.pem(), key: mail::Secret::new(key.serialize_pem()) })
}

/// Makes a key and a request for a certificate authority to sign, for the DNS names `names` (R12, R13).
pub fn signing_request(names: &[String], kind: NewKey, subject: &Subject) -> Result<PemPair, CertificateError> {
    let key = new_key(kind)?;
    let request = parameters(names, kind, subject)?.serialize_request(&key).map_err(refused)?;
    Ok(PemPair { public: request.pem().map_err(refused)?, key: mail::Secret::new(key.serialize_pem()) })
}

/// Writes a pair as `<stem>-<public_name>.pem` and `<stem>-key.pem` into `folder`: the folder with mode 0700 where it
/// is made, the files with mode 0600 (R14). Existing files are never replaced. Gives the two paths.
pub fn write_pair(
    folder: &Path,
    stem: &str,
    public_name: &str,
    pair: &PemPair,
) -> Result<(PathBuf, PathBuf), CertificateError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| CertificateError::Write(path, error)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
    let public = folder.join(format!("{stem}-{public_name}.pem"));
    let key = folder.join(format!("{stem}-key.pem"));
    // The key first: a certificate without its key would be the more confusing half.
    write_new(&key, pair.key.expose()).map_err(failed(&key))?;
    write_new(&public, &pair.public).map_err(failed(&public))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))?;
    Ok((public, key))
}

/// What a server shows of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicHalf {
    /// The certificate in DER form, where there is one.
    pub certificate: Option<Vec<u8>>,
    /// The SubjectPublicKeyInfo with its tag.
    pub key_info: Vec<u8>,
    /// The host names of the certificate, in lower case.
    pub names: Vec<String>,
}

impl PublicHalf {
    /// Reads PEM text: of its first certificate; without one, of its private or public key, as before a certificate for
    /// it is issued. Input with none of these is an error, never the half of nothing (R5).
    pub fn from_pem(pem: &[u8]) -> Result<PublicHalf, CertificateError> {
        if let Ok(leaf) = CertificateDer::from_pem_slice(pem) {
            let key_info = parse(&leaf)?.subject_public_key_info().to_vec();
            return Ok(PublicHalf { key_info, names: names(&leaf)?, certificate: Some(leaf.to_vec()) });
        }
        let key_info = match (PrivateKeyDer::from_pem_slice(pem), SubjectPublicKeyInfoDer::from_pem_slice(pem)) {
            (Ok(key), _) => {
                let key = any_supported_type(&key).map_err(|error| CertificateError::Malformed(error.to_string()))?;
                key.public_key().ok_or(CertificateError::NoCertificate)?.to_vec()
            }
            (Err(_), Ok(key_info)) if !key_info.is_empty() => key_info.to_vec(),
            (Err(_), _) => return Err(CertificateError::NoCertificate),
        };
        Ok(PublicHalf { certificate: None, key_info, names: Vec::new() })
    }

    /// SHA-256 over its public key info: the data of the TLSA record `3 1 1` (RFC 6698 §2.1, R4).
    pub fn key_digest(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, &self.key_info).as_ref().to_vec()
    }
}

/// The DNS names of a certificate, in lower case.
pub(crate) fn names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, CertificateError> {
    Ok(parse(leaf)?.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

/// When a certificate expires, in seconds since 1970; `None` where the field cannot be found.
///
/// RFC 5280 §4.1: TBSCertificate is version, serial number, signature, issuer, validity, …
pub(crate) fn not_after(leaf: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate, _) = element(leaf)?;
    let (_, mut fields, _) = element(certificate)?;
    let (first, _, after_first) = element(fields)?;
    if first == TAG_VERSION {
        fields = after_first;
    }
    for _ in ["serial number", "signature", "issuer"] {
        fields = element(fields)?.2;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, after_not_before) = element(validity)?;
    let (tag, text, _) = element(after_not_before)?;
    let text = std::str::from_utf8(text).ok()?;
    let (year, rest) = match tag {
        // RFC 5280 §4.1.2.5.1: two digits from 50 on are of the twentieth century.
        TAG_UTC_TIME => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, text.get(2..)?)
        }
        TAG_GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| -> Option<i64> { rest.get(at..at + 2)?.parse().ok() };
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    Some(((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// The tag, content and rest of the DER element at the start of `octets`.
fn element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first_length], rest) = octets.split_first_chunk::<2>()?;
    let (length, rest) = match first_length {
        0..=0x7f => (usize::from(first_length), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first_length & 0x0f))?;
            (length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Days from the first of January 1970 to a date of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years are counted from March, so that the leap day is the last day of a year.
    let year = if month <= 2 { year - 1 } else { year };
    let months_since_march = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * months_since_march + 2) / 5 + day - 1 - DAYS_BEFORE_1970
}

fn parse<'a>(leaf: &'a CertificateDer<'_>) -> Result<webpki::EndEntityCert<'a>, CertificateError> {
    webpki::EndEntityCert::try_from(leaf).map_err(|error| CertificateError::Malformed(error.to_string()))
}

fn new_key(kind: NewKey) -> Result<KeyPair, CertificateError> {
    match kind {
        NewKey::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        NewKey::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
    }
    .map_err(refused)
}

/// What a certificate and a request have in common.
fn parameters(names: &[String], kind: NewKey, subject: &Subject) -> Result<CertificateParams, CertificateError> {
    if names.is_empty() {
        return Err(CertificateError::NoNames);
    }
    let mut params = CertificateParams::new(names).map_err(refused)?;
    let mut name = DistinguishedName::new();
    if let Some(country) = &subject.country {
        name.push(DnType::CountryName, country);
    }
    if let Some(organization) = &subject.organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, &subject.common_name);
    params.distinguished_name = name;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = match kind {
        NewKey::Rsa2048 => vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment],
        NewKey::EcdsaP256 => vec![KeyUsagePurpose::DigitalSignature],
    };
    Ok(params)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn refused(error: rcgen::Error) -> CertificateError {
    CertificateError::Refused(error.to_string())
}

impl fmt::Debug for PemPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemPair").field("public", &self.public).field("key", &self.key).finish()
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::NoCertificate => {
                f.write_str("there is no certificate in the input; expected PEM with BEGIN CERTIFICATE")
            }
            CertificateError::Malformed(cause) => write!(f, "the certificate cannot be read: {cause}; issue it anew"),
            CertificateError::NoNames => f.write_str("a certificate needs at least one host name"),
            CertificateError::Refused(cause) => write!(f, "the certificate cannot be made: {cause}"),
            CertificateError::Write(path, error) => write!(
                f,
                "{}: cannot be written: {error}; existing files are kept, remove or rename them first",
                path.display()
            ),
        }
    }
}

impl std::error::Error for CertificateError {}

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
/// From the first of March of the year 0.
const DAYS_BEFORE_1970: i64 = 719_468;
const TAG_VERSION: u8 = 0xa0;
const TAG_UTC_TIME: u8 = 0x17;
const TAG_GENERALIZED_TIME: u8 = 0x18;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn example() -> (Vec<String>, Subject) {
        let names = vec!["mx.example.net".to_owned(), "mail.example.net".to_owned()];
        let subject = Subject {
            country: Some("US".to_owned()),
            organization: Some("Example Networks".to_owned()),
            common_name: "mx.example.net".to_owned(),
        };
        (names, subject)
    }

    /// R12, R13.
    #[test]
    fn self_signed_certificates_have_names_and_an_end() {
        let (names_wanted, subject) = example();
        for kind in [NewKey::Rsa2048, NewKey::EcdsaP256] {
            let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
            let pair = self_signed(&names_wanted, kind, 365, &subject).unwrap();
            let leaf = CertificateDer::from_pem_slice(pair.public.as_bytes()).unwrap();
            assert_eq!(names(&leaf).unwrap(), names_wanted);
            let year = 365 * SECONDS_PER_DAY as i64;
            assert!((before + year..before + year + 600).contains(&not_after(&leaf).unwrap()));
            assert!(leaf.windows(16).any(|octets| octets == b"Example Networks"));
            assert!(!format!("{pair:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn requests_carry_the_names() {
        let (names, subject) = example();
        let pair = signing_request(&names, NewKey::EcdsaP256, &subject).unwrap();
        assert!(pair.public.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        let request = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(pair.public.as_bytes()).unwrap();
        for name in names {
            assert!(request.windows(name.len()).any(|octets| octets == name.as_bytes()), "{name}");
        }
    }

    /// R4: the digest covers the public key info and nothing else, so it survives a renewal with the same key. The
    /// expected value was made with `openssl x509 -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256`.
    #[test]
    fn the_tlsa_digest_agrees_with_openssl() {
        let digest = PublicHalf::from_pem(FIXED_CERTIFICATE.as_bytes()).unwrap().key_digest();
        assert_eq!(digest.iter().map(|octet| format!("{octet:02x}")).collect::<String>(), FIXED_DIGEST);
        let leaf = CertificateDer::from_pem_slice(FIXED_CERTIFICATE.as_bytes()).unwrap();
        assert_eq!(not_after(&leaf), Some(FIXED_NOT_AFTER));
    }

    /// R5: no digest of empty input.
    #[test]
    fn there_is_no_tlsa_digest_of_nothing() {
        let (names, subject) = example();
        let request = signing_request(&names, NewKey::EcdsaP256, &subject).unwrap().public;
        for input in ["", "\n", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", &request] {
            assert!(PublicHalf::from_pem(input.as_bytes()).is_err(), "{input:?}");
        }
    }

    /// R7: the digest of the next key is known before its certificate is.
    #[test]
    fn r7_a_key_and_its_certificate_have_one_digest() {
        let (names, subject) = example();
        for kind in [NewKey::Rsa2048, NewKey::EcdsaP256] {
            let pair = self_signed(&names, kind, 1, &subject).unwrap();
            let certificate = PublicHalf::from_pem(pair.public.as_bytes()).unwrap();
            let key = PublicHalf::from_pem(pair.key.expose().as_bytes()).unwrap();
            assert_eq!((key.key_digest(), key.certificate), (certificate.key_digest(), None));
            assert_eq!(certificate.names, names);
        }
    }

    /// R14, V51.
    #[test]
    fn files_are_private_and_never_replaced() {
        let (names, subject) = example();
        let pair = self_signed(&names, NewKey::EcdsaP256, 1, &subject).unwrap();
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("tls");
        let (public, key) = write_pair(&folder, "smtp-ecdsa", "cert", &pair).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&public), mode(&key)), (0o700, 0o600, 0o600));
        assert_eq!(std::fs::read_to_string(&public).unwrap(), pair.public);
        let again = write_pair(&folder, "smtp-ecdsa", "cert", &pair).unwrap_err();
        assert!(again.to_string().contains("smtp-ecdsa-key.pem"), "{again}");
    }

    #[test]
    fn names_are_required() {
        let (_, subject) = example();
        assert!(matches!(self_signed(&[], NewKey::EcdsaP256, 1, &subject), Err(CertificateError::NoNames)));
        let odd = ["müller.example".to_owned()];
        assert!(matches!(self_signed(&odd, NewKey::EcdsaP256, 1, &subject), Err(CertificateError::Refused(_))));
    }

    /// V28: the expiry is read from files of the operator, and still nothing may panic.
    #[test]
    fn cut_and_altered_certificates_do_not_panic() {
        let leaf = CertificateDer::from_pem_slice(FIXED_CERTIFICATE.as_bytes()).unwrap();
        for end in 0..leaf.len() {
            not_after(&CertificateDer::from(&leaf[..end]));
            let mut altered = leaf.to_vec();
            altered[end] ^= 0xff;
            not_after(&CertificateDer::from(altered));
        }
    }

    #[test]
    fn days_are_counted_right() {
        for (date, days) in [((1970, 1, 1), 0), ((2000, 2, 29), 11_016), ((2000, 3, 1), 11_017), ((1969, 12, 31), -1)] {
            assert_eq!(days_since_1970(date.0, date.1, date.2), days);
        }
    }
    const FIXED_DIGEST: &str = "92e34a6ac94bf03c9fc07df12184356e377fc01d502ec5a198e6f771c81f437d";
    const FIXED_NOT_AFTER: i64 = 3_523_351_001;
    const FIXED_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBpTCCAUqgAwIBAgIUKDCU3jNTsHO1EQv64UBaFtEwMZMwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwObXguZXhhbXBsZS5uZXQwIBcNMjYxMTIyMTIzNjQxWhgPMjA4
MTA4MjUxMjM2NDFaMBkxFzAVBgNVBAMMDm14LmV4YW1wbGUubmV0MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAECNgT7ekSBN9PAJcr3H5F6Y2X+FYo9wgwydy4ybb/
IyUQ9EwMVUUFRyRInL2mSvLnpeEwElmzBqjJpQAV1ksL1KNuMGwwHQYDVR0OBBYE
FFAc/2C+hnw+fOX2PbE9wgMOB13EMB8GA1UdIwQYMBaAFFAc/2C+hnw+fOX2PbE9
wgMOB13EMA8GA1UdEwEB/wQFMAMBAf8wGQYDVR0RBBIwEIIObXguZXhhbXBsZS5u
ZXQwCgYIKoZIzj0EAwIDSQAwRgIhAKlU17WAI4K0Q95JnLS0CYBj5j0hCrntxUpI
MVAS5q0OAiEA9TIRD4aPyOl+YdCMsLfzOwY/8D09nx41+OM+Js9znpw=
-----END CERTIFICATE-----
";
}
