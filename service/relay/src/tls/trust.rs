//! The certificate authorities that we trust, and the cryptography that TLS is done with.

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of authorities is a few hundred KiB.
const FILE_OCTETS_MAX: u64 = 16 * 1024 * 1024;

/// The certificate authorities that we trust. Cheap to clone. DANE does not ask them.
#[derive(Clone)]
pub struct Trust {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// Why a file gives no authorities.
#[derive(Debug)]
pub enum TrustError {
    /// It cannot be read.
    Read(PathBuf, io::Error),
    /// It is larger than 16 MiB.
    TooLarge(PathBuf),
    /// It holds no certificate, or something in it is broken.
    NoCertificates(PathBuf),
}

impl Trust {
    /// Nobody. What demands a trusted certificate fails, all else works.
    pub fn nobody() -> Trust {
        Trust::of(RootCertStore::empty())
    }

    /// The authorities in a PEM file.
    pub fn from_file(path: &Path) -> Result<Trust, TrustError> {
        let failed = |error| TrustError::Read(path.to_owned(), error);
        let mut pem = Vec::new();
        File::open(path).map_err(failed)?.take(FILE_OCTETS_MAX + 1).read_to_end(&mut pem).map_err(failed)?;
        if pem.len() as u64 > FILE_OCTETS_MAX {
            return Err(TrustError::TooLarge(path.to_owned()));
        }
        let none = || TrustError::NoCertificates(path.to_owned());
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| none())?;
        let mut roots = RootCertStore::empty();
        // A bundle may hold a few that are too odd for the library; those authorities are not trusted then.
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 { Err(none()) } else { Ok(Trust::of(roots)) }
    }

    /// The authorities of the operating system. To be done while the process may still read its files; what cannot be
    /// read is logged and left out.
    pub fn of_the_system() -> Trust {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (trusted, passed_over) = roots.add_parsable_certificates(found.certs);
        for error in &found.errors {
            tracing::warn!(%error, "certificate authorities of the system cannot be read");
        }
        tracing::debug!(trusted, passed_over, "certificate authorities of the system");
        Trust::of(roots)
    }

    /// How many authorities are trusted.
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// These authorities.
    pub(crate) fn of(roots: RootCertStore) -> Trust {
        Trust { roots: Arc::new(roots), provider: Arc::new(default_provider()) }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("authorities", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustError::Read(path, error) => {
                write!(f, "{}: cannot be read: {error}; check the path and its owner", path.display())
            }
            TrustError::TooLarge(path) => {
                write!(f, "{}: larger than {FILE_OCTETS_MAX} octets; this is no file of authorities", path.display())
            }
            TrustError::NoCertificates(path) => write!(
                f,
                "{}: holds no certificate authorities that can be read; expected PEM with BEGIN CERTIFICATE",
                path.display()
            ),
        }
    }
}

impl std::error::Error for TrustError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::fixtures::Authority;

    #[test]
    fn authorities_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let (one, two) = (Authority::new("one"), Authority::new("two"));
        std::fs::write(&path, format!("# ours\n{}\n{}", one.pem(), two.pem())).unwrap();
        assert_eq!(Trust::from_file(&path).unwrap().len(), 2);
        for (text, cause) in [
            ("", "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\n", "holds no certificate"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(Trust::from_file(&path).unwrap_err().to_string().contains(cause), "{text:?}");
        }
        let missing = Trust::from_file(&folder.path().join("no")).unwrap_err();
        assert!(missing.to_string().contains("cannot be read"));
        assert!(Trust::nobody().is_empty());
    }
}
