//! What rustls asks in a handshake: is this certificate good, and did its key sign.

use super::chain::{Chain, key_of};
use super::flaw::Flaw;
use dns::{Name, Tlsa};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, PeerMisbehaved, RootCertStore, SignatureScheme};
use std::sync::Arc;
use transport_security::ReferenceName;
use webpki::RawPublicKeyEntity;

/// What a certificate must be.
#[derive(Debug)]
pub(crate) enum Rule {
    /// Anything with a key.
    Anyone,
    /// RFC 7672 §3.2.
    Dane { records: Vec<Tlsa>, names: Vec<Name> },
    /// Trusted, with one of the names.
    Webpki { roots: Arc<RootCertStore>, names: Vec<ReferenceName> },
    /// One of these, or with one of these keys.
    Fingerprint { records: Vec<Tlsa> },
}

/// Verifies by a rule. The name that the handshake asks for is not looked at: the rule has its own.
///
/// Signatures are verified with the key as it stands in the certificate, not by a library's view of the whole, so that old
/// and odd certificates, which DANE and opportunistic TLS do not mind, do not keep a connection from being encrypted.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) rule: Rule,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = Chain { leaf: end_entity, others: intermediates, now, algorithms: self.algorithms };
        match &self.rule {
            Rule::Anyone => key_of(end_entity).map(|_| ()),
            Rule::Dane { records, names } => chain.verify_dane(records, names),
            Rule::Webpki { roots, names } => chain.verify_webpki(&roots.roots, names),
            Rule::Fingerprint { records } => match chain.is_pinned(records) {
                Ok(true) => Ok(()),
                Ok(false) => Err(Flaw::NoRecordMatches),
                Err(flaw) => Err(flaw),
            },
        }?;
        Ok(ServerCertVerified::assertion())
    }

    /// RFC 5246 §7.4.1.4.1: a scheme leaves the curve open, so that several algorithms may fit it.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = key_of(cert)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| Flaw::Unreadable)?;
        let fitting = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme);
        let (_, algorithms) = fitting.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let mut last = None;
        for algorithm in *algorithms {
            match key.verify_signature(*algorithm, message, dss.signature()) {
                Ok(()) => return Ok(HandshakeSignatureValid::assertion()),
                Err(error) => last = Some(error),
            }
        }
        Err(Flaw::Signature(format!("{last:?}")).into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(message, &key_of(cert)?, dss, &self.algorithms).map_err(|error| match error
        {
            rustls::Error::InvalidCertificate(cause) => Flaw::Signature(format!("{cause:?}")).into(),
            other => other,
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
