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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::fixtures::*;
    use crate::tls::{FailureKind, Trust};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use transport_security::Protection;
    use transport_security::tls_rpt::ResultType;

    /// An old certificate has a key, and that is enough where its authority is of no interest.
    #[tokio::test]
    async fn certificates_of_version_1() {
        let decode = |text: &str| STANDARD.decode(text.replace('\n', "")).unwrap();
        let identity = Identity {
            chain: vec![CertificateDer::from(decode(VERSION_1))],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(decode(VERSION_1_KEY))),
        };
        let pinned = dane(vec![record(3, 1, 1, &identity.chain[0])]);
        for version in BOTH {
            for decision in [&decision(Protection::Opportunistic), &pinned] {
                let outcome = shake_with(decision, &Trust::nobody(), &identity, &[version]).await;
                assert!(outcome.is_ok(), "{outcome:?}");
            }
            let refused = shake_with(&webpki(&[HOST]), &Trust::nobody(), &identity, &[version]).await;
            assert_eq!(failure(refused), (FailureKind::Certificate, ResultType::CertificateNotTrusted));
        }
    }

    /// The caller may go on in clear text, or not; so it must know.
    #[tokio::test]
    async fn what_is_no_certificate_is_told_apart() {
        for junk in [vec![], vec![0x30, 0], vec![0xff; 100]] {
            let mut identity = Identity::self_signed(Kind::Ecdsa, &[], |_| {});
            identity.chain = vec![CertificateDer::from(junk)];
            for version in BOTH {
                let opportunistic = decision(Protection::Opportunistic);
                let refused = shake_with(&opportunistic, &Trust::nobody(), &identity, &[version]).await;
                let unreadable = (FailureKind::UnreadableCertificate, ResultType::ValidationFailure);
                assert_eq!(failure(refused), unreadable);
            }
        }
    }

    /// Whoever shows a certificate must have its key.
    #[tokio::test]
    async fn a_certificate_without_its_key_is_worth_nothing() {
        for kind in [Kind::Ecdsa, Kind::Rsa] {
            let theirs = Identity::self_signed(kind, &[HOST], |_| {});
            let mut thief = Identity::self_signed(Kind::Ecdsa, &[HOST], |_| {});
            thief.chain = theirs.chain.clone();
            for decision in [decision(Protection::Opportunistic), dane(records(3, &theirs.chain[0]))] {
                for version in BOTH {
                    assert!(shake_with(&decision, &Trust::nobody(), &thief, &[version]).await.is_err());
                }
            }
        }
    }

    const VERSION_1: &str = "\
MIIBMTCB1wIUd3k2AJKNjQxy5Xai7Ru6ITYARd0wCgYIKoZIzj0EAwIwGjEYMBYG
A1UEAwwPb2xkLmV4YW1wbGUubmV0MCAXDTI2MTEyNTE1NDQwM1oYDzIwODEwODI4
MTU0NDAzWjAaMRgwFgYDVQQDDA9vbGQuZXhhbXBsZS5uZXQwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAARR80RBOXx3XGD8Of/sauqtenuFvANvzPLqqEPncnrYfHmo
w+PHMFEJCvfIt46Aq61D1H9VD6bBSfFcyqTbxRanMAoGCCqGSM49BAMCA0kAMEYC
IQDo0oXwXTCRndqVYu2yJ+e2HbMoDgr+WA+Oo3GTpk5iSwIhANpyd9qjLJsv6Spi
7LfArTA433J7FP15mEh5+fpGXZw0";
    const VERSION_1_KEY: &str = "\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgwjKWvH0JXGkgFFeu
tT1NcnEM3hA/cfy7KdCDT8Dd1ruhRANCAARR80RBOXx3XGD8Of/sauqtenuFvANv
zPLqqEPncnrYfHmow+PHMFEJCvfIt46Aq61D1H9VD6bBSfFcyqTbxRan";
}
