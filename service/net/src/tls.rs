//! TLS as the accepting side: certificates loaded from files, chosen per handshake, replaced without a restart.
//!
//! A [`ServerTls`] is one listener's own: its certificates and its session tickets are shared with no other listener
//! (V47). Making keys and certificates is in [`crate::certificate`].

use crate::certificate::{self, CertificateError};
use arc_swap::ArcSwap;
use mail::{Secret, TlsFacts};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig, ServerConnection, SignatureAlgorithm, SignatureScheme};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The certificates of one listener, ready for handshakes.
pub struct ServerTls {
    settings: TlsSettings,
    current: ArcSwap<Loaded>,
}

/// What a listener's TLS is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates with their keys. The first one answers where the client names no host or an unknown one; so do
    /// the others for the same names, so that an RSA and an ECDSA certificate stand side by side (R11).
    pub pairs: Vec<PairFiles>,
    /// Whether clients get session tickets, to resume without a full handshake.
    pub tickets: bool,
    /// Names of what is spoken here (ALPN). A client that offers others only is refused; one that offers none is not.
    /// Empty: whatever is offered is passed over.
    pub alpn: &'static [&'static str],
}

/// A certificate and its key, as PEM files; both may be the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The certificate, then the intermediate certificates up to the root, without it.
    pub chain: PathBuf,
    /// The private key, readable by its owner only.
    pub key: PathBuf,
}

/// What a loaded certificate is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Where it came from.
    pub chain: PathBuf,
    /// The host names it covers, wildcards included, in lower case. Empty without a subject alternative name (R13).
    pub names: Vec<String>,
    /// Kind of its key.
    pub kind: KeyKind,
    /// When it expires, in seconds since 1970; `None` where the field cannot be read.
    pub not_after: Option<i64>,
}

/// Kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA, over any curve.
    Ecdsa,
    /// Edwards curve signatures.
    Ed25519,
    /// RSA.
    Rsa,
}

/// Why certificates could not be loaded. Each names the file, the cause and the cure.
#[derive(Debug)]
pub enum TlsError {
    /// No pair is configured.
    NoPairs,
    /// A file cannot be read.
    Read(PathBuf, io::Error),
    /// A file is larger than any certificate or key: more than 1 MiB.
    TooLarge(PathBuf),
    /// The file holds no certificate.
    NoCertificate(PathBuf),
    /// The file holds no private key, or one that is encrypted.
    NoKey(PathBuf),
    /// Others than the owner can read the key; its mode is given (R14).
    KeyExposed(PathBuf, u32),
    /// The key is not the certificate's.
    Mismatch(PairFiles),
    /// The certificate cannot be used.
    Certificate(PathBuf, CertificateError),
    /// The key cannot be used.
    Key(PathBuf, String),
    /// The crypto library refuses the whole.
    Library(String),
}

impl ServerTls {
    /// Loads the certificates. To be done before privileges are given up, since keys belong to root alone (R14).
    pub fn load(settings: TlsSettings) -> Result<Arc<ServerTls>, TlsError> {
        let current = ArcSwap::from_pointee(Loaded::from_files(&settings, &LentFiles::new())?);
        Ok(Arc::new(ServerTls { settings, current }))
    }

    /// Loads the files again (R16). New handshakes use the new certificates and new ticket keys; running sessions go
    /// on as they are. On an error the old certificates stay in use. `lent` holds the text of files that this process
    /// may no longer read itself, because root was given up: somebody who may has read and checked them (R14).
    pub fn reload(&self, lent: &LentFiles) -> Result<(), TlsError> {
        self.current.store(Arc::new(Loaded::from_files(&self.settings, lent)?));
        Ok(())
    }

    /// The certificates in use, in the order of the configuration.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        self.current.load().facts.clone()
    }

    /// What the next handshake is done with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }
}

/// The facts of an established connection, for trace fields and logs; `None` during the handshake.
pub(crate) fn facts_of(connection: &ServerConnection) -> Option<TlsFacts> {
    let version = match connection.protocol_version()? {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        // No other version is switched on.
        _ => return None,
    };
    // The library writes `TLS13_` for the suites that RFC 8446 §B.4 calls `TLS_`.
    let cipher = connection.negotiated_cipher_suite()?.suite().as_str()?.replacen("TLS13_", "TLS_", 1);
    let bits = if cipher.contains("AES_128") { 128 } else { 256 };
    let server_name = connection.server_name().map(str::to_ascii_lowercase);
    Some(TlsFacts { version, cipher, bits, server_name })
}

/// One loaded state, replaced as a whole.
struct Loaded {
    config: Arc<ServerConfig>,
    facts: Vec<CertificateFacts>,
}

impl Loaded {
    fn from_files(settings: &TlsSettings, lent: &LentFiles) -> Result<Loaded, TlsError> {
        let provider = Arc::new(default_provider());
        let mut entries = Vec::new();
        for pair in &settings.pairs {
            entries.push(entry_from_files(pair, lent, &provider)?);
        }
        let facts = entries.iter().map(|entry| entry.facts.clone()).collect();
        let chooser = Chooser::new(entries).ok_or(TlsError::NoPairs)?;
        let config = config_of(chooser, settings, provider).map_err(|error| TlsError::Library(error.to_string()))?;
        Ok(Loaded { config: Arc::new(config), facts })
    }
}

fn config_of(
    chooser: Chooser,
    settings: &TlsSettings,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        // RFC 8996 §2, RFC 9325 §3.1.1: nothing older than TLS 1.2.
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(chooser));
    // RFC 7301 §3.2, RFC 9325 §3.8: with a list, a client that offers only names we lack gets no handshake. A browser that
    // was led here cannot be made to take our answers for those of a web server (V49).
    config.alpn_protocols = settings.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    // No memory of sessions: a ticket carries the state, and nothing a client sends makes us remember it (V53).
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if settings.tickets {
        config.ticketer = Ticketer::new()?;
    } else {
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn entry_from_files(pair: &PairFiles, lent: &LentFiles, provider: &CryptoProvider) -> Result<Entry, TlsError> {
    let (chain_pem, _) = read(&pair.chain, lent)?;
    let (key_pem, mode) = read(&pair.key, lent)?;
    if mode & 0o077 != 0 {
        return Err(TlsError::KeyExposed(pair.key.clone(), mode));
    }
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::NoCertificate(pair.chain.clone()))?;
    let leaf = chain.first().ok_or_else(|| TlsError::NoCertificate(pair.chain.clone()))?.clone();
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| TlsError::NoKey(pair.key.clone()))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch(pair.clone()),
        rustls::Error::InvalidCertificate(cause) => {
            TlsError::Certificate(pair.chain.clone(), CertificateError::Malformed(format!("{cause:?}")))
        }
        other => TlsError::Key(pair.key.clone(), other.to_string()),
    })?;
    let unusable = |error| TlsError::Certificate(pair.chain.clone(), error);
    let kind = match certified.key.algorithm() {
        SignatureAlgorithm::ECDSA => KeyKind::Ecdsa,
        SignatureAlgorithm::ED25519 => KeyKind::Ed25519,
        SignatureAlgorithm::RSA => KeyKind::Rsa,
        other => return Err(TlsError::Key(pair.key.clone(), format!("keys of kind {other:?} are not supported"))),
    };
    let facts = CertificateFacts {
        chain: pair.chain.clone(),
        names: certificate::names(&leaf).map_err(unusable)?,
        kind,
        not_after: certificate::not_after(&leaf),
    };
    Ok(Entry { facts, key: Arc::new(certified) })
}

/// A file's octets and its permission bits, both of the same open file.
fn read(path: &Path, lent: &LentFiles) -> Result<(Vec<u8>, u32), TlsError> {
    if let Some(text) = lent.get(path) {
        return Ok((text.expose().as_bytes().to_vec(), 0o600));
    }
    let failed = |error| TlsError::Read(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    let mut octets = Vec::new();
    file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets).map_err(failed)?;
    if octets.len() as u64 > FILE_OCTETS_MAX {
        return Err(TlsError::TooLarge(path.to_owned()));
    }
    Ok((octets, mode))
}

struct Entry {
    facts: CertificateFacts,
    key: Arc<CertifiedKey>,
}

/// Chooses the certificate of a handshake.
struct Chooser {
    /// ECDSA before RSA, since its signatures are cheaper for us; otherwise as configured.
    entries: Vec<Entry>,
    /// A name of the certificate configured first.
    default_name: Option<String>,
    /// The certificate configured first.
    default_key: Arc<CertifiedKey>,
}

impl Chooser {
    fn new(mut entries: Vec<Entry>) -> Option<Chooser> {
        let first = entries.first()?;
        let default_name = first.facts.names.first().cloned();
        let default_key = first.key.clone();
        // The sort is stable, so the configured order remains within one kind.
        entries.sort_by_key(|entry| match entry.facts.kind {
            KeyKind::Ecdsa => 0,
            KeyKind::Ed25519 => 1,
            KeyKind::Rsa => 2,
        });
        Some(Chooser { entries, default_name, default_key })
    }

    /// By the name asked for: exact, then wildcard, then the default's; among these by what the client can verify. A
    /// certificate of another name is better than none: opportunistic clients go on, others see what is wrong.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let usable = |key: &CertifiedKey| key.key.choose_scheme(schemes).is_some();
        let covering = |wanted: &str| {
            self.entries.iter().find(|entry| usable(&entry.key) && entry.facts.names.iter().any(|name| name == wanted))
        };
        let asked = name.and_then(|name| covering(name).or_else(|| covering(&wildcard_of(name)?)));
        asked
            .or_else(|| covering(self.default_name.as_deref()?))
            .map(|entry| &entry.key)
            .or(Some(&self.default_key).filter(|key| usable(key)))
            .or_else(|| self.entries.iter().map(|entry| &entry.key).find(|key| usable(key)))
            .cloned()
    }
}

/// RFC 9525 §6.3: a wildcard stands for exactly the leftmost label.
fn wildcard_of(name: &str) -> Option<String> {
    name.split_once('.').map(|(_, parent)| format!("*.{parent}"))
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        self.choose(name.as_deref(), hello.signature_schemes())
    }
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| &entry.facts)).finish()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::NoPairs => f.write_str("no certificate is configured for a listener that needs one"),
            TlsError::Read(path, error) => {
                write!(f, "{}: cannot be read: {error}; check the path and its owner", path.display())
            }
            TlsError::TooLarge(path) => {
                write!(f, "{}: larger than {FILE_OCTETS_MAX} octets; this is no certificate or key", path.display())
            }
            TlsError::NoCertificate(path) => {
                write!(f, "{}: holds no certificate; expected PEM with BEGIN CERTIFICATE", path.display())
            }
            TlsError::NoKey(path) => write!(
                f,
                "{}: holds no private key that can be read; expected PEM with BEGIN PRIVATE KEY, not encrypted",
                path.display()
            ),
            TlsError::KeyExposed(path, mode) => write!(
                f,
                "{}: mode {mode:04o} lets others than its owner read the key; run: chmod 600 {}",
                path.display(),
                path.display()
            ),
            TlsError::Mismatch(pair) => write!(
                f,
                "{}: is not the key of the first certificate in {}; put the server's own certificate \
                 first in the chain, or name the right key",
                pair.key.display(),
                pair.chain.display()
            ),
            TlsError::Certificate(path, error) => write!(f, "{}: {error}", path.display()),
            TlsError::Key(path, cause) => {
                write!(
                    f,
                    "{}: the key cannot be used: {cause}; use RSA of 2048 bits or more, or ECDSA P-256",
                    path.display()
                )
            }
            TlsError::Library(cause) => write!(f, "TLS cannot be set up: {cause}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// Texts of files by their path.
pub type LentFiles = HashMap<PathBuf, Secret>;

/// A chain or key file is a few KiB; more is a mistake.
const FILE_OCTETS_MAX: u64 = 1024 * 1024;
