//! Signing keys: read from PEM, named by domain and selector, and their public half as a DNS record.
//!
//! No key is made here, because that takes randomness.

use aws_lc_rs::digest::Digest;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail::{Domain, Secret};
use std::fmt;

/// Largest key file; an RSA key of 8192 bits takes less than 7 KiB.
pub const KEY_OCTETS_MAX: usize = 64 * 1024;
/// Longest character string of a TXT record (RFC 1035 §3.3).
pub const TXT_STRING_OCTETS_MAX: usize = 255;
/// Longest domain name as text, without its last dot (RFC 1035 §2.3.4: 255 octets on the wire).
const NAME_OCTETS_MAX: usize = 253;
/// RFC 8301 §3.2: signers should use at least 2048 bits. Keys of 1024 bits, which it still bears, are not taken (not):
/// the crypto library makes no signatures with them.
pub const RSA_BITS_MIN: usize = 2_048;

/// Which of a domain's keys: one or more labels below `_domainkey` (RFC 6376 §3.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector(Domain);

impl Selector {
    /// Takes labels separated by dots, in any case.
    pub fn parse(text: &str) -> Option<Selector> {
        Domain::parse(text).ok().filter(|labels| !labels.is_literal()).map(Selector)
    }

    /// In lower case.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a signature is made; the hash is always SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// RSA (RFC 6376 §3.3.2).
    Rsa,
    /// Edwards curve (RFC 8463 §3).
    Ed25519,
}

impl Algorithm {
    /// As in the `k=` tag of a key record.
    pub fn key_type(self) -> &'static str {
        match self {
            Algorithm::Rsa => "rsa",
            Algorithm::Ed25519 => "ed25519",
        }
    }

    /// As in the `a=` tag of a signature.
    pub(super) fn signature_type(self) -> &'static str {
        match self {
            Algorithm::Rsa => "rsa-sha256",
            Algorithm::Ed25519 => "ed25519-sha256",
        }
    }
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// More than [`KEY_OCTETS_MAX`].
    TooLarge,
    /// There is no private key in PEM form in the text.
    NoKey,
    /// The key is encrypted.
    Encrypted,
    /// An RSA key below [`RSA_BITS_MIN`].
    TooShort,
    /// The octets are no RSA and no Ed25519 key; the crypto library's word for it.
    Unusable(&'static str),
    /// `selector._domainkey.domain` is longer than a domain name can be, or the domain is an address literal.
    Name,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::TooLarge => write!(f, "larger than {KEY_OCTETS_MAX} octets; this is no key"),
            KeyError::NoKey => f.write_str("holds no private key; expected PEM with BEGIN PRIVATE KEY"),
            KeyError::Encrypted => f.write_str("the key is encrypted; a server needs it in clear"),
            KeyError::TooShort => write!(f, "the RSA key has less than {RSA_BITS_MIN} bits"),
            KeyError::Unusable(cause) => write!(f, "is no RSA or Ed25519 key that can be used: {cause}"),
            KeyError::Name => f.write_str("selector and domain do not make a domain name"),
        }
    }
}

impl std::error::Error for KeyError {}

/// A private key with the name under which its public half is found.
pub struct SigningKey {
    domain: Domain,
    selector: Selector,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Reads a key in PEM form, PKCS #8 (RFC 5958, what `openssl genpkey` writes) or PKCS #1 (RFC 8017, what
    /// `openssl genrsa -traditional` writes).
    pub fn from_pem(domain: Domain, selector: Selector, pem: &Secret) -> Result<SigningKey, KeyError> {
        if domain.is_literal() || name_of(&domain, &selector).len() > NAME_OCTETS_MAX {
            return Err(KeyError::Name);
        }
        let pair = match read_pem(pem.expose())? {
            Encoded::Pkcs1(der) => Pair::Rsa(RsaKeyPair::from_der(&der).map_err(refused)?),
            Encoded::Pkcs8(der) => match (RsaKeyPair::from_pkcs8(&der), Ed25519KeyPair::from_pkcs8(&der)) {
                (Ok(pair), _) => Pair::Rsa(pair),
                (Err(_), Ok(pair)) => Pair::Ed25519(pair),
                (Err(error), Err(_)) => return Err(refused(error)),
            },
        };
        Ok(SigningKey { domain, selector, pair })
    }

    /// The domain that signs, `d=`.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The selector, `s=`.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Rsa(_) => Algorithm::Rsa,
            Pair::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// Its size.
    pub fn bits(&self) -> usize {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_modulus_len() * 8,
            Pair::Ed25519(_) => 256,
        }
    }

    /// Where the record of the public key is to stand: `selector._domainkey.domain` (RFC 6376 §3.6.2.1).
    pub fn record_name(&self) -> String {
        name_of(&self.domain, &self.selector)
    }

    /// The text of the record (RFC 6376 §3.6.1, RFC 8463 §4.2), to be put into TXT strings by [`txt_strings`].
    pub fn public_record(&self) -> String {
        let public = match &self.pair {
            // What the library cannot encode it could not have read.
            Pair::Rsa(pair) => pair.public_key().as_der().map(|der| STANDARD.encode(der.as_ref())).unwrap_or_default(),
            Pair::Ed25519(pair) => STANDARD.encode(pair.public_key().as_ref()),
        };
        format!("v=DKIM1; k={}; p={public}", self.algorithm().key_type())
    }

    /// The record as a line of a zone file.
    pub fn zone_line(&self) -> String {
        let record = self.public_record();
        let strings: Vec<String> = txt_strings(&record).map(|string| format!("\"{string}\"")).collect();
        format!("{}.  TXT {}", self.record_name(), strings.join(" "))
    }

    /// Signs a SHA-256 digest. `None` when the crypto library fails, which it does for want of memory only.
    pub(super) fn sign(&self, digest: &Digest) -> Option<Vec<u8>> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign_digest(&RSA_PKCS1_SHA256, digest, &mut signature).ok()?;
                Some(signature)
            }
            // RFC 8463 §3: the hash itself is the message that is signed.
            Pair::Ed25519(pair) => pair.try_sign(digest.as_ref()).ok().map(|signature| signature.as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for SigningKey {
    /// The name only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {})", self.record_name(), self.algorithm().key_type())
    }
}

/// The character strings of a TXT record that hold this text, each of [`TXT_STRING_OCTETS_MAX`] at most. Their readers
/// put them together again without anything between them (RFC 6376 §3.6.2.2).
pub fn txt_strings(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let length = (0..=TXT_STRING_OCTETS_MAX.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at))?;
        let (string, after) = rest.split_at_checked(length).filter(|(string, _)| !string.is_empty())?;
        rest = after;
        Some(string)
    })
}

fn name_of(domain: &Domain, selector: &Selector) -> String {
    format!("{selector}._domainkey.{domain}")
}

fn refused(error: KeyRejected) -> KeyError {
    match error.description_() {
        "TooSmall" => KeyError::TooShort,
        cause => KeyError::Unusable(cause),
    }
}

/// The octets of a key, by the label of their PEM block (RFC 7468 §10, §13).
enum Encoded {
    Pkcs1(Vec<u8>),
    Pkcs8(Vec<u8>),
}

/// Takes the first block that is a private key; what stands around it, such as a certificate, is passed over.
fn read_pem(text: &str) -> Result<Encoded, KeyError> {
    if text.len() > KEY_OCTETS_MAX {
        return Err(KeyError::TooLarge);
    }
    for (begin, end, is_pkcs1) in [
        ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", false),
        ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----", true),
    ] {
        let Some((_, after)) = text.split_once(begin) else { continue };
        let (inner, _) = after.split_once(end).ok_or(KeyError::NoKey)?;
        // RFC 1421 §4.6.1.1: the fields of an encrypted block stand before its octets.
        if inner.contains(':') {
            return Err(KeyError::Encrypted);
        }
        let base64: String = inner.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let der = STANDARD.decode(base64).map_err(|_| KeyError::NoKey)?;
        return Ok(if is_pkcs1 { Encoded::Pkcs1(der) } else { Encoded::Pkcs8(der) });
    }
    Err(if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") { KeyError::Encrypted } else { KeyError::NoKey })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = include_str!("../../tests/keys/rsa.pem");
    const RSA_PKCS1: &str = include_str!("../../tests/keys/rsa-pkcs1.pem");
    const RSA_1024: &str = include_str!("../../tests/keys/rsa-1024.pem");
    const ECDSA: &str = include_str!("../../tests/keys/ecdsa.pem");
    /// The secret key of RFC 8463 §A.1.
    const ED25519: &str = include_str!("../../tests/keys/ed25519.pem");

    fn read(pem: &str) -> Result<SigningKey, KeyError> {
        let domain = Domain::parse("football.example.com").unwrap();
        SigningKey::from_pem(domain, Selector::parse("Brisbane").unwrap(), &Secret::new(pem.to_owned()))
    }

    #[test]
    fn the_record_of_rfc_8463() {
        let key = read(ED25519).unwrap();
        assert_eq!((key.algorithm(), key.bits()), (Algorithm::Ed25519, 256));
        assert_eq!(
            key.zone_line(),
            "brisbane._domainkey.football.example.com.  TXT \
             \"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\""
        );
    }

    #[test]
    fn r165_an_rsa_record_is_split_into_short_strings() {
        let key = read(RSA).unwrap();
        assert_eq!((key.algorithm(), key.bits()), (Algorithm::Rsa, 2_048));
        // As `openssl rsa -pubout` gives it.
        let public = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAoESTCfWeEVIzl7DxKmccToOX0pfPf0gvgLEBesObEmvfYkDBrPbmXa3FVjCBG7gPHMDO3fNjQSOOIHHTKUbxH0JscxQ1IecL69/vgoTMVuo1101w3yYjROGyPpRMOgbOmaxnjegT3WeaiM6iuJXYAPiTn/Qdlh5fXpkaXgNgHznD82AC5OGYRn1G1NuQA9En9X2mfevueG2tZHRKWNS2d4FUYmrot+Vhh0TWSg75WBDIK5TvkO6guM4dcMKNib3LU0QEO8/ODphCPv9dJp+vfLR1m3S8bqmEUMF0spGkWcMeLAX8mbm0bbsHcT379iaKf9c3W0ok4UYp2g0aTRovGQIDAQAB";
        assert_eq!(key.public_record(), format!("v=DKIM1; k=rsa; p={public}"));
        let record = key.public_record();
        let strings: Vec<&str> = txt_strings(&record).collect();
        assert_eq!(strings.iter().map(|string| string.len()).collect::<Vec<_>>(), [255, record.len() - 255]);
        assert_eq!(strings.concat(), record);
        assert_eq!(key.zone_line().matches('"').count(), 4);
        assert_eq!(txt_strings("").count(), 0);
        assert_eq!(txt_strings(&"é".repeat(200)).map(str::len).collect::<Vec<_>>(), [254, 146]);
    }

    #[test]
    fn both_encodings_of_an_rsa_key_are_one_key() {
        assert_eq!(read(RSA).unwrap().public_record(), read(RSA_PKCS1).unwrap().public_record());
        // Beside a certificate, and with the line ends of another system.
        let beside =
            format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{RSA}").replace('\n', "\r\n");
        assert!(read(&beside).is_ok());
    }

    #[test]
    fn v39_what_is_no_good_key_is_refused() {
        let end = "-----END PRIVATE KEY-----";
        for (pem, expected) in [
            (RSA_1024.to_owned(), KeyError::TooShort),
            (String::new(), KeyError::NoKey),
            ("x".repeat(KEY_OCTETS_MAX + 1), KeyError::TooLarge),
            (RSA.replace(end, ""), KeyError::NoKey),
            (RSA.replace('/', "!"), KeyError::NoKey),
            (RSA.replace(" PRIVATE", " ENCRYPTED PRIVATE"), KeyError::Encrypted),
            (RSA_PKCS1.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1), KeyError::Encrypted),
        ] {
            assert_eq!(read(&pem).unwrap_err(), expected);
        }
        for pem in [ECDSA.to_owned(), format!("-----BEGIN PRIVATE KEY-----{end}"), RSA.replace("MII", "MIJ")] {
            assert!(matches!(read(&pem).unwrap_err(), KeyError::Unusable(_)));
        }
        // Of every prefix of the octets, none is a key.
        let inner: String = ED25519.lines().filter(|line| !line.starts_with('-')).collect();
        for length in (0..inner.len()).step_by(4) {
            assert!(read(&format!("-----BEGIN PRIVATE KEY-----\n{}\n{end}", &inner[..length])).is_err());
        }
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for text in ["", ".", "a..b", "a b", "a;b", "a=b", "\"", "[192.0.2.1]", "-a", "ä b"] {
            assert_eq!(Selector::parse(text), None, "{text}");
        }
        assert_eq!(Selector::parse("2026.Brisbane").unwrap().as_str(), "2026.brisbane");
        let of = |domain: &str, selector: &str| {
            let key = Secret::new(ED25519.to_owned());
            SigningKey::from_pem(Domain::parse(domain).unwrap(), Selector::parse(selector).unwrap(), &key)
        };
        assert_eq!(of("[192.0.2.1]", "a").unwrap_err(), KeyError::Name);
        let long = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(50)].join(".");
        assert!(of(&long, "a").is_ok());
        assert_eq!(of(&long, "abcdefgh.abcdefgh").unwrap_err(), KeyError::Name);
    }

    #[test]
    fn a_key_does_not_print_itself() {
        assert_eq!(format!("{:?}", read(RSA).unwrap()), "SigningKey(brisbane._domainkey.football.example.com, rsa)");
    }
}
