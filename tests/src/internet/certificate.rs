//! Certificates of simulated hosts: a private authority, what it issues, and TLSA records computed from both.

use anyhow::Context;
use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Certificates begin in this year; none is younger than a test machine's clock.
const BEGIN_YEAR: i32 = 2020;
/// Certificates that have not expired end in this year.
const END_YEAR: i32 = 2099;

/// A certification authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What a host must show besides its own certificate: this authority's certificate, then those above it.
    chain: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// An authority of its own root.
    pub fn new(name: &str) -> anyhow::Result<Authority> {
        let issuer = CertifiedIssuer::self_signed(authority_parameters(name), ecdsa_key()?)?;
        let chain = vec![issuer.der().clone()];
        Ok(Authority { issuer, chain })
    }

    /// An authority below this one.
    pub fn intermediate(&self, name: &str) -> anyhow::Result<Authority> {
        let issuer = CertifiedIssuer::signed_by(authority_parameters(name), ecdsa_key()?, &self.issuer)?;
        let chain = [vec![issuer.der().clone()], self.chain.clone()].concat();
        Ok(Authority { issuer, chain })
    }

    /// Issues a certificate. Its chain ends with the root's own certificate, as RFC 7672 §3.1.2 asks of hosts whose TLSA
    /// records name an authority.
    pub fn issue(&self, leaf: &Leaf) -> anyhow::Result<Certificate> {
        let (parameters, key) = leaf.parts()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Certificate::new(certificate.der(), &self.chain, &key))
    }

    /// Its certificate, as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A TLSA record of the authority's certificate or key: usage 2 where the record is right.
    pub fn tlsa(&self, usage: u8, selector: u8, matching: u8) -> Tlsa {
        Tlsa::new(self.issuer.der(), &self.issuer.key().subject_public_key_info(), [usage, selector, matching])
    }
}

fn authority_parameters(name: &str) -> CertificateParams {
    let mut parameters = dated(CertificateParams::default(), END_YEAR);
    parameters.distinguished_name = common_name(name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn dated(mut parameters: CertificateParams, end_year: i32) -> CertificateParams {
    parameters.not_before = date_time_ymd(BEGIN_YEAR, 1, 1);
    parameters.not_after = date_time_ymd(end_year, 1, 1);
    parameters
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn ecdsa_key() -> anyhow::Result<KeyPair> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

/// A host's certificate to be made: ECDSA and valid, unless told otherwise.
#[derive(Debug, Clone)]
pub struct Leaf {
    names: Vec<String>,
    end_year: i32,
    rsa: bool,
}

impl Leaf {
    /// For one name, which may have a `*` as its first label.
    pub fn of(name: &str) -> Leaf {
        Leaf { names: vec![name.to_owned()], end_year: END_YEAR, rsa: false }
    }

    /// For one more name.
    pub fn and(mut self, name: &str) -> Leaf {
        self.names.push(name.to_owned());
        self
    }

    /// With an RSA key.
    pub fn rsa(mut self) -> Leaf {
        self.rsa = true;
        self
    }

    /// Valid only in the past.
    pub fn expired(mut self) -> Leaf {
        self.end_year = BEGIN_YEAR + 1;
        self
    }

    /// Makes it, signed by its own key.
    pub fn self_signed(&self) -> anyhow::Result<Certificate> {
        let (parameters, key) = self.parts()?;
        Ok(Certificate::new(parameters.self_signed(&key)?.der(), &[], &key))
    }

    fn parts(&self) -> anyhow::Result<(CertificateParams, KeyPair)> {
        let mut parameters = dated(CertificateParams::new(self.names.clone())?, self.end_year);
        parameters.distinguished_name = common_name(self.names.first().map_or("", String::as_str));
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = if self.rsa { KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)? } else { ecdsa_key()? };
        Ok((parameters, key))
    }
}

/// A host's certificate with its key and what it shows besides.
#[derive(Clone)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    public_key: Vec<u8>,
    key: Vec<u8>,
}

impl Certificate {
    fn new(leaf: &CertificateDer<'static>, above: &[CertificateDer<'static>], key: &KeyPair) -> Certificate {
        let chain = [std::slice::from_ref(leaf), above].concat();
        Certificate { chain, public_key: key.subject_public_key_info(), key: key.serialize_der() }
    }

    /// A TLSA record of this certificate or its key: usage 3 where the record is right.
    pub fn tlsa(&self, usage: u8, selector: u8, matching: u8) -> Tlsa {
        Tlsa::new(self.chain.first().map_or(&[], |leaf| leaf), &self.public_key, [usage, selector, matching])
    }

    /// The same, shown without the authorities above it.
    pub fn alone(mut self) -> Certificate {
        self.chain.truncate(1);
        self
    }

    /// Writes chain and key into a folder as PEM, readable by everybody: servers run as users of their own.
    pub fn write(&self, folder: &Path, stem: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
        let (chain, key) = (folder.join(format!("{stem}-cert.pem")), folder.join(format!("{stem}-key.pem")));
        let certificates: String = self.chain.iter().map(|one| pem("CERTIFICATE", one)).collect();
        std::fs::write(&chain, certificates).with_context(|| chain.display().to_string())?;
        std::fs::write(&key, pem("PRIVATE KEY", &self.key)).with_context(|| key.display().to_string())?;
        Ok((chain, key))
    }

    /// The same for rustls.
    pub(crate) fn certified(&self) -> anyhow::Result<Arc<CertifiedKey>> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        Ok(Arc::new(CertifiedKey::new(self.chain.clone(), any_supported_type(&key)?)))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

fn pem(label: &str, octets: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(octets);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or("")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A TLSA record (RFC 6698 §2.1). Its fields are open, so that a test can make it wrong in any way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tlsa {
    /// 2 for an authority, 3 for the host's own certificate; 0 and 1 are of no use in SMTP (RFC 7672 §3.1.3).
    pub usage: u8,
    /// 0 for the certificate, 1 for its public key.
    pub selector: u8,
    /// 0 for the whole, 1 for SHA-256, 2 for SHA-512.
    pub matching: u8,
    /// What the certificate is compared with.
    pub data: Vec<u8>,
}

impl Tlsa {
    fn new(certificate: &[u8], public_key: &[u8], [usage, selector, matching]: [u8; 3]) -> Tlsa {
        let whole = if selector == 0 { certificate } else { public_key };
        let data = match matching {
            1 => digest::digest(&digest::SHA256, whole).as_ref().to_vec(),
            2 => digest::digest(&digest::SHA512, whole).as_ref().to_vec(),
            _ => whole.to_vec(),
        };
        Tlsa { usage, selector, matching, data }
    }

    /// The same with a changed bit: well-formed, and it matches nothing.
    pub fn wrong(mut self) -> Tlsa {
        if let Some(last) = self.data.last_mut() {
            *last ^= 1;
        }
        self
    }
}

/// As in a zone file, without owner and type: `3 1 1 0A…`.
impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|octet| write!(f, "{octet:02X}"))
    }
}
