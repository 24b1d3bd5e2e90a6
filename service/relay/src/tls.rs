//! TLS as the connecting side: from the protection that is decided to a connection that has it, or the reason why not.
//!
//! A [`TlsPlan`] is made for one connection. Certificates are judged by the plan's own rule ([`chain`]), so that DANE,
//! trusted authorities and "anybody" are three verifiers of one kind; what was found is a [`TlsOutcome`] for logs, trace
//! fields and reports, or a [`TlsFailure`].

mod chain;
mod find_tlsa;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod flaw;
mod outcome;
mod trust;
mod verifier;

pub use find_tlsa::find_tlsa;
pub use flaw::{FailureKind, TlsFailure};
pub use outcome::{Authenticated, TlsOutcome};
pub use trust::{Trust, TrustError};

use chain::Chain;
use dns::Name;
use flaw::{Flaw, failure_of};
use outcome::facts_of;
use rustls::client::Resumption;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use transport_security::tls_rpt::ResultType;
use transport_security::{Decision, Observation, Protection, ReferenceName};
use verifier::{Rule, Verifier};

/// How TLS will be spoken with one host.
#[derive(Debug, Clone)]
pub struct TlsPlan {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    /// What a handshake that succeeds has shown.
    authenticated: Authenticated,
    /// Authorities, to say of an opportunistic connection whether they would vouch for it.
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    observe: Option<Observed>,
}

#[derive(Debug, Clone)]
enum Observed {
    HostMismatch,
    Certificate(ReferenceName),
}

impl TlsPlan {
    /// The plan for a decision. `host` is the name of the MX host, `address` what is connected to. `None` where TLS is not
    /// to be spoken, or the host not to be used at all.
    pub fn new(decision: &Decision, host: Option<&Name>, address: IpAddr, trust: &Trust) -> Option<TlsPlan> {
        let (rule, authenticated, name) = match &decision.protection {
            Protection::Clear | Protection::Refuse { .. } => return None,
            Protection::Opportunistic | Protection::Encrypted => (Rule::Anyone, Authenticated::No, host),
            Protection::Dane { base, records, names, is_next_hop_proved } => {
                let rule = Rule::Dane { records: records.clone(), names: names.clone() };
                let is_next_hop_proved = *is_next_hop_proved;
                // RFC 7672 §8.1: the TLSA base domain.
                (rule, Authenticated::ByDane { is_next_hop_proved }, Some(base))
            }
            Protection::Webpki { names, reason } => {
                let rule = Rule::Webpki { roots: trust.roots.clone(), names: names.clone() };
                // RFC 8461 §7.1: the MX host.
                (rule, Authenticated::ByAuthority(*reason), host)
            }
            Protection::Fingerprint { records } => {
                (Rule::Fingerprint { records: records.clone() }, Authenticated::ByFingerprint, host)
            }
        };
        let observe = match (decision.observe, host) {
            (Some(Observation::HostMismatch), _) => Some(Observed::HostMismatch),
            (Some(Observation::Certificate), Some(host)) => {
                Some(Observed::Certificate(ReferenceName::Host(host.clone())))
            }
            (Some(Observation::Certificate) | None, _) => None,
        };
        let algorithms = trust.provider.signature_verification_algorithms;
        let config = Arc::new(client_config(Verifier { rule, algorithms }, trust)?);
        let server_name = server_name(name, address);
        Some(TlsPlan { config, server_name, authenticated, roots: trust.roots.clone(), algorithms, observe })
    }

    /// The handshake, over a connection whose peer has said that it is ready for it. How long it may take is for the caller
    /// to limit; dropping the future drops the connection.
    pub async fn connect<S>(&self, stream: S) -> Result<(TlsStream<S>, TlsOutcome), TlsFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(self.server_name.clone(), stream).await.map_err(|error| failure_of(&error))?;
        let outcome = self.outcome(stream.get_ref().1);
        Ok((stream, outcome))
    }

    fn outcome(&self, connection: &ClientConnection) -> TlsOutcome {
        let chain = connection.peer_certificates().and_then(<[_]>::split_first).map(|(leaf, others)| Chain {
            leaf,
            others,
            now: UnixTime::now(),
            algorithms: self.algorithms,
        });
        let roots = &self.roots.roots;
        let is_trusted = self.authenticated == Authenticated::No
            && chain.as_ref().is_some_and(|chain| chain.verify_trusted(roots).is_ok());
        let observed = match (&self.observe, chain) {
            (None, _) => None,
            (Some(Observed::HostMismatch), _) => Some(host_mismatch()),
            (Some(Observed::Certificate(_)), None) => Some(Flaw::Unreadable.into()),
            (Some(Observed::Certificate(name)), Some(chain)) => {
                chain.verify_webpki(roots, std::slice::from_ref(name)).err().map(TlsFailure::from)
            }
        };
        let facts = facts_of(connection, &self.server_name);
        TlsOutcome { facts, authenticated: self.authenticated, is_trusted, observed }
    }
}

/// What a policy in testing has against the host itself.
fn host_mismatch() -> TlsFailure {
    let cause = "the MTA-STS policy does not allow this host";
    TlsFailure::new(FailureKind::Certificate, ResultType::CertificateHostMismatch, cause)
}

/// `None` only if our own choice of versions and ciphers contradicted itself.
fn client_config(verifier: Verifier, trust: &Trust) -> Option<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(trust.provider.clone())
        // RFC 8461 §7.2, RFC 8996 §2: nothing older than TLS 1.2.
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // A resumed session shows no certificate again, so one begun under another rule would escape this one (V47).
    config.resumption = Resumption::disabled();
    Some(config)
}

/// The name to ask for. A host whose name cannot stand in a handshake is asked for nothing, like an address.
fn server_name(name: Option<&Name>, address: IpAddr) -> ServerName<'static> {
    let name = name.and_then(|name| ServerName::try_from(name.as_str().to_owned()).ok());
    name.unwrap_or(ServerName::IpAddress(address.into()))
}

#[cfg(test)]
mod tests {
    use super::fixtures::*;
    use super::*;
    use rustls::HandshakeKind;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn r208_opportunistic_tls_takes_anybody() {
        let root = Authority::new("root");
        for protection in [Protection::Opportunistic, Protection::Encrypted] {
            for kind in [Kind::Rsa, Kind::Ecdsa] {
                for identity in [
                    Identity::self_signed(kind, &["other.example"], |_| {}),
                    Identity::self_signed(kind, &[], expired),
                    root.leaf(kind, &[HOST], expired),
                    Authority::new("root").leaf(kind, &[HOST], |_| {}),
                ] {
                    let outcome = shake(&decision(protection.clone()), &root.trust(), &identity).await.unwrap();
                    assert_eq!(outcome.standing(), "Untrusted TLS connection");
                }
                let identity = root.leaf(kind, &["other.example"], |_| {});
                let outcome = shake(&decision(protection.clone()), &root.trust(), &identity).await.unwrap();
                assert_eq!(outcome.standing(), "Trusted TLS connection");
            }
        }
    }

    /// V47: not even under one and the same plan, since what a session was begun with may have been revoked.
    #[tokio::test]
    async fn v47_no_session_is_resumed() {
        let identity = Identity::self_signed(Kind::Ecdsa, &[HOST], |_| {});
        let plan = TlsPlan::new(&decision(Protection::Opportunistic), Some(&host()), ADDRESS, &Trust::nobody());
        let plan = plan.unwrap();
        for version in BOTH {
            let acceptor = identity.acceptor(&[version], &[]);
            for _ in 0..2 {
                let (near, far) = duplex(16_384);
                let server = tokio::spawn(serve(acceptor.clone(), far));
                let (mut stream, _) = plan.connect(near).await.unwrap();
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full), "{version:?}");
                stream.write_all(b".").await.unwrap();
                server.await.unwrap();
                // Tickets come behind the handshake.
                let _ = stream.read(&mut [0; 1]).await;
            }
        }
    }

    #[tokio::test]
    async fn peers_that_speak_no_tls() {
        let plan = TlsPlan::new(&decision(Protection::Opportunistic), None, ADDRESS, &Trust::nobody()).unwrap();
        for (text, kind) in [("500 what?\r\n", FailureKind::Handshake), ("", FailureKind::Connection)] {
            let (near, mut far) = duplex(16_384);
            let server = tokio::spawn(async move {
                far.read_exact(&mut [0; 1]).await.unwrap();
                far.write_all(text.as_bytes()).await.unwrap();
            });
            let failure = plan.connect(near).await.map(|_| ()).unwrap_err();
            assert_eq!((failure.kind, failure.result), (kind, ResultType::ValidationFailure), "{text:?} {failure}");
            server.await.unwrap();
        }
    }

    #[test]
    fn no_plan_where_there_is_no_tls() {
        let plan = |protection| TlsPlan::new(&decision(protection), Some(&host()), ADDRESS, &Trust::nobody());
        assert!(plan(Protection::Clear).is_none());
        let status = mail::EnhancedStatus::new(4, 7, 5);
        let refuse = Protection::Refuse { status, cause: String::new(), result: ResultType::DnssecInvalid };
        assert!(plan(refuse).is_none());
        assert!(plan(Protection::Opportunistic).is_some());
        let unnamed = TlsPlan::new(&decision(Protection::Opportunistic), None, ADDRESS, &Trust::nobody()).unwrap();
        assert!(matches!(unnamed.server_name, ServerName::IpAddress(_)), "an address is not asked for by name");
    }
}
