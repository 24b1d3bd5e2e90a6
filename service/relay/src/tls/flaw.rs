//! What can be wrong with a certificate or a handshake, and what reports call it (RFC 8460 §4.3).

use rustls::{CertificateError, OtherError};
use std::fmt;
use std::io;
use std::sync::Arc;
use transport_security::tls_rpt::ResultType;

/// A handshake that failed, or a certificate that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFailure {
    /// At what it failed.
    pub kind: FailureKind,
    /// What reports call it.
    pub result: ResultType,
    /// The cause, in words, on one line.
    pub cause: String,
}

/// At what a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The certificate is not what the protection demands. Another connection will end in the same way.
    Certificate,
    /// The certificate is in no form that we can read, or has no key that we can verify with, whatever is demanded of it.
    /// Where the protection does without TLS, clear text is the way on.
    UnreadableCertificate,
    /// The two sides have no version or cipher in common, or one of them broke the protocol.
    Handshake,
    /// The connection broke.
    Connection,
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for TlsFailure {}

impl TlsFailure {
    pub(crate) fn new(kind: FailureKind, result: ResultType, cause: impl fmt::Display) -> TlsFailure {
        TlsFailure { kind, result, cause: mail::text::one_line(&cause.to_string()) }
    }
}

/// What is wrong with a certificate.
#[derive(Debug, Clone)]
pub(crate) enum Flaw {
    /// It cannot be read.
    Unreadable,
    /// The handshake's signature is not of its key, or of a kind that we do not verify.
    Signature(String),
    /// No TLSA record, or fingerprint, is about any certificate of the chain.
    NoRecordMatches,
    /// The authority that a TLSA record is about is out of date.
    AuthorityExpired,
    /// A TLSA record is about a certificate that is no authority.
    NoAuthority,
    /// The chain, or its validity.
    Chain(webpki::Error),
    /// The certificate carries none of these names.
    Names(Vec<String>),
}

impl Flaw {
    fn kind(&self) -> FailureKind {
        match self {
            Flaw::Unreadable | Flaw::Signature(_) => FailureKind::UnreadableCertificate,
            Flaw::NoRecordMatches | Flaw::AuthorityExpired | Flaw::NoAuthority | Flaw::Chain(_) | Flaw::Names(_) => {
                FailureKind::Certificate
            }
        }
    }

    fn result(&self) -> ResultType {
        match self {
            Flaw::Unreadable | Flaw::Signature(_) => ResultType::ValidationFailure,
            Flaw::NoRecordMatches | Flaw::NoAuthority => ResultType::TlsaInvalid,
            Flaw::AuthorityExpired => ResultType::CertificateExpired,
            Flaw::Names(_) => ResultType::CertificateHostMismatch,
            Flaw::Chain(webpki::Error::CertExpired { .. } | webpki::Error::InvalidCertValidity) => {
                ResultType::CertificateExpired
            }
            Flaw::Chain(_) => ResultType::CertificateNotTrusted,
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Unreadable => f.write_str("the certificate cannot be read"),
            Flaw::Signature(error) => write!(f, "the handshake's signature cannot be verified: {error}"),
            Flaw::NoRecordMatches => f.write_str("no TLSA record or fingerprint matches the certificate"),
            Flaw::AuthorityExpired => f.write_str("the authority that the TLSA record names is out of date"),
            Flaw::NoAuthority => f.write_str("the TLSA record names a certificate that is no authority"),
            Flaw::Chain(error) => match error {
                webpki::Error::CertExpired { .. } => f.write_str("the certificate has expired"),
                webpki::Error::CertNotValidYet { .. } => f.write_str("the certificate is not valid yet"),
                webpki::Error::UnknownIssuer => f.write_str("the certificate is not issued by a trusted authority"),
                other => write!(f, "the certificate is not trusted: {other:?}"),
            },
            Flaw::Names(names) => write!(f, "the certificate is not for {}", names.join(" or ")),
        }
    }
}

impl std::error::Error for Flaw {}

impl From<Flaw> for rustls::Error {
    fn from(flaw: Flaw) -> rustls::Error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(flaw))))
    }
}

impl From<Flaw> for TlsFailure {
    fn from(flaw: Flaw) -> TlsFailure {
        TlsFailure::new(flaw.kind(), flaw.result(), flaw)
    }
}

/// What a handshake's error means.
pub(crate) fn failure_of(error: &io::Error) -> TlsFailure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else {
        let cause = format!("the connection broke in the TLS handshake: {error}");
        return TlsFailure::new(FailureKind::Connection, ResultType::ValidationFailure, cause);
    };
    if let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) = inner
        && let Some(flaw) = other.downcast_ref::<Flaw>()
    {
        return flaw.clone().into();
    }
    let cause = format!("the TLS handshake failed: {inner}");
    let (kind, result) = match inner {
        // Verdicts of the library's own verifier, which the fetch of policies uses.
        rustls::Error::InvalidCertificate(error) => (FailureKind::Certificate, result_of(error)),
        _ => (FailureKind::Handshake, ResultType::ValidationFailure),
    };
    TlsFailure::new(kind, result, cause)
}

fn result_of(error: &CertificateError) -> ResultType {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => ResultType::CertificateExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            ResultType::CertificateHostMismatch
        }
        _ => ResultType::CertificateNotTrusted,
    }
}
