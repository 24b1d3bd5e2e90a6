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
mod trust;
mod verifier;

pub use find_tlsa::find_tlsa;
pub use flaw::{FailureKind, TlsFailure};
pub use trust::{Trust, TrustError};

use chain::Chain;
use dns::Name;
use flaw::{Flaw, failure_of};
use mail::TlsFacts;
use rustls::client::Resumption;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use transport_security::tls_rpt::ResultType;
use transport_security::{Decision, Observation, Protection, ReferenceName, WebpkiReason};
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

/// Who vouches for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authenticated {
    /// Nobody needs to; anybody could be the peer.
    No,
    /// DNSSEC, by TLSA records.
    ByDane {
        /// Whether the way from the domain to the host is proved as well.
        is_next_hop_proved: bool,
    },
    /// A trusted authority, for a name that was demanded.
    ByAuthority(WebpkiReason),
    /// The configuration, by fingerprint.
    ByFingerprint,
}

/// What is known of a connection after the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOutcome {
    /// Version and cipher; the name is the one that we asked for.
    pub facts: TlsFacts,
    /// Who vouches for the peer.
    pub authenticated: Authenticated,
    /// Whether a trusted authority vouches for the certificate, whatever its names; looked at only where nobody needs to.
    pub is_trusted: bool,
    /// Why the connection would not have come about if the domain's MTA-STS policy were not in testing; for the report.
    pub observed: Option<TlsFailure>,
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

impl TlsOutcome {
    /// One word and the reason, as logs and reports have them (R208): `Verified TLS connection (DANE)`.
    pub fn standing(&self) -> &'static str {
        match (self.authenticated, self.is_trusted) {
            (Authenticated::ByDane { is_next_hop_proved: true }, _) => "Verified TLS connection (DANE)",
            // RFC 7672 §2.2.1: not to be taken for a secure delivery to the domain.
            (Authenticated::ByDane { is_next_hop_proved: false }, _) => "Trusted TLS connection (DANE, MX not proved)",
            (Authenticated::ByAuthority(WebpkiReason::MtaSts), _) => "Verified TLS connection (MTA-STS)",
            (Authenticated::ByAuthority(WebpkiReason::Configured), _) => "Verified TLS connection (configured)",
            (Authenticated::ByAuthority(WebpkiReason::RequireTls), _) => "Verified TLS connection (REQUIRETLS)",
            (Authenticated::ByFingerprint, _) => "Verified TLS connection (fingerprint)",
            (Authenticated::No, true) => "Trusted TLS connection",
            (Authenticated::No, false) => "Untrusted TLS connection",
        }
    }
}

impl fmt::Display for TlsOutcome {
    /// The standing with version and cipher, for `mail::queue::Attempt::tls`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TlsFacts { version, cipher, bits, .. } = &self.facts;
        write!(f, "{}, {version} with cipher {cipher} ({bits} bits)", self.standing())
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

fn facts_of(connection: &ClientConnection, asked_for: &ServerName<'_>) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        // No other version is switched on.
        _ => "unknown version",
    };
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown");
    // The library writes `TLS13_` for the suites that RFC 8446 §B.4 calls `TLS_`.
    let cipher = suite.replacen("TLS13_", "TLS_", 1);
    let bits = if cipher.contains("AES_128") { 128 } else { 256 };
    let server_name = match asked_for {
        ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
        _ => None,
    };
    TlsFacts { version, cipher, bits, server_name }
}

#[cfg(test)]
mod tests {
    use super::fixtures::{Authority, Identity, Kind, serve};
    use super::*;
    use aws_lc_rs::digest::{SHA256, SHA512, digest};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use dns::Tlsa;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, date_time_ymd};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::version::{TLS12, TLS13};
    use rustls::{HandshakeKind, SupportedProtocolVersion};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use transport_security::certificate::Certificate;
    use transport_security::tls_rpt::AppliedPolicy;

    const HOST: &str = "mx.example.net";
    const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn decision(protection: Protection) -> Decision {
        Decision { protection, observe: None, applied: AppliedPolicy::none(&name("example.net")), require_tls: false }
    }

    fn dane(records: Vec<Tlsa>) -> Decision {
        let names = vec![name(HOST), name("example.net")];
        decision(Protection::Dane { base: name(HOST), records, names, is_next_hop_proved: true })
    }

    fn webpki(names: &[&str]) -> Decision {
        let names = names.iter().map(|name| ReferenceName::parse(name).unwrap()).collect();
        decision(Protection::Webpki { names, reason: WebpkiReason::MtaSts })
    }

    fn record(usage: u8, selector: u8, matching: u8, certificate: &CertificateDer<'_>) -> Tlsa {
        let selected = match selector {
            0 => certificate.as_ref(),
            _ => Certificate::parse(certificate).unwrap().spki,
        };
        let data = match matching {
            0 => selected.to_vec(),
            1 => digest(&SHA256, selected).as_ref().to_vec(),
            _ => digest(&SHA512, selected).as_ref().to_vec(),
        };
        Tlsa { usage, selector, matching, data }
    }

    /// All selectors and matching types.
    fn records(usage: u8, certificate: &CertificateDer<'_>) -> Vec<Tlsa> {
        let kinds = (0..2).flat_map(|selector| (0..3).map(move |matching| (selector, matching)));
        kinds.map(|(selector, matching)| record(usage, selector, matching, certificate)).collect()
    }

    fn expired(params: &mut CertificateParams) {
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    }

    async fn shake_with(
        decision: &Decision,
        trust: &Trust,
        identity: &Identity,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<TlsOutcome, TlsFailure> {
        let plan = TlsPlan::new(decision, Some(&name(HOST)), ADDRESS, trust).unwrap();
        let (near, far) = duplex(16_384);
        let server = tokio::spawn(serve(identity.acceptor(versions, &[]), far));
        let (mut stream, outcome) = plan.connect(near).await?;
        stream.write_all(b".").await.unwrap();
        let asked_for = server.await.unwrap();
        assert_eq!(asked_for.as_deref(), Some(HOST), "RFC 7672 §8.1, RFC 8461 §7.1");
        Ok(outcome)
    }

    async fn shake(decision: &Decision, trust: &Trust, identity: &Identity) -> Result<TlsOutcome, TlsFailure> {
        shake_with(decision, trust, identity, &BOTH).await
    }

    /// The result that a report has for a failure, and at what it failed.
    fn failure(outcome: Result<TlsOutcome, TlsFailure>) -> (FailureKind, ResultType) {
        let failure = outcome.unwrap_err();
        assert!(!failure.cause.is_empty());
        (failure.kind, failure.result)
    }

    const CERTIFICATE: FailureKind = FailureKind::Certificate;

    /// RFC 7671 §5.1: every selector and matching type, both kinds of keys, both versions; and never the wrong digest.
    #[tokio::test]
    async fn r208_dane_of_a_servers_own_certificate() {
        for (kind, version) in [(Kind::Rsa, &TLS12), (Kind::Rsa, &TLS13), (Kind::Ecdsa, &TLS12), (Kind::Ecdsa, &TLS13)]
        {
            let identity = Identity::self_signed(kind, &["other.example"], |_| {});
            for right in records(3, &identity.chain[0]) {
                let what = format!("{kind:?} 3 {} {}", right.selector, right.matching);
                let wrong = Tlsa { data: right.data.iter().rev().copied().collect(), ..right.clone() };
                let either = dane(vec![wrong.clone(), right]);
                let outcome = shake_with(&either, &Trust::nobody(), &identity, &[version]).await.unwrap();
                assert_eq!(outcome.authenticated, Authenticated::ByDane { is_next_hop_proved: true }, "{what}");
                assert_eq!(outcome.standing(), "Verified TLS connection (DANE)", "{what}");
                let refused = shake_with(&dane(vec![wrong]), &Trust::nobody(), &identity, &[version]).await;
                assert_eq!(failure(refused), (CERTIFICATE, ResultType::TlsaInvalid), "{what}");
            }
        }
    }

    /// RFC 7672 §3.1.1.
    #[tokio::test]
    async fn dates_do_not_matter_under_usage_3() {
        let identity = Identity::self_signed(Kind::Ecdsa, &[], expired);
        let outcome = shake(&dane(vec![record(3, 1, 1, &identity.chain[0])]), &Trust::nobody(), &identity).await;
        assert!(outcome.is_ok(), "{outcome:?}");
    }

    /// RFC 7671 §5.2: every selector and matching type, with both kinds of keys, both versions.
    #[tokio::test]
    async fn dane_of_an_authority() {
        let root = Authority::new("root");
        let middle = root.below("middle");
        for (kind, version) in [(Kind::Rsa, &TLS12), (Kind::Rsa, &TLS13), (Kind::Ecdsa, &TLS12), (Kind::Ecdsa, &TLS13)]
        {
            let identity = middle.leaf(kind, &[HOST], |_| {}).with(&[&middle, &root]);
            for right in records(2, &root.der()).into_iter().chain(records(2, &middle.der())) {
                let what = format!("{kind:?} 2 {} {}", right.selector, right.matching);
                let outcome = shake_with(&dane(vec![right.clone()]), &Trust::nobody(), &identity, &[version]).await;
                assert_eq!(outcome.unwrap().standing(), "Verified TLS connection (DANE)", "{what}");
                let other = Authority::new("root");
                let stranger = other.leaf(kind, &[HOST], |_| {}).with(&[&other]);
                let refused = shake_with(&dane(vec![right]), &Trust::nobody(), &stranger, &[version]).await;
                let result = failure(refused).1;
                assert!(
                    matches!(result, ResultType::TlsaInvalid | ResultType::CertificateNotTrusted),
                    "{what}: {result}"
                );
            }
        }
    }

    /// RFC 7671 §5.2.2, §5.2.3: in full, the authority need not be shown; by digest it must be.
    #[tokio::test]
    async fn an_authority_that_is_not_shown() {
        let root = Authority::new("root");
        let identity = root.leaf(Kind::Ecdsa, &[HOST], |_| {});
        for right in records(2, &root.der()) {
            let is_full = right.matching == 0;
            let outcome = shake(&dane(vec![right.clone()]), &Trust::nobody(), &identity).await;
            assert_eq!(outcome.is_ok(), is_full, "2 {} {}", right.selector, right.matching);
        }
        // The record of an authority is not about the server's own certificate, even if it is one and the same.
        let own = Identity::self_signed(Kind::Ecdsa, &[HOST], |_| {});
        let refused = shake(&dane(vec![record(2, 0, 1, &own.chain[0])]), &Trust::nobody(), &own).await;
        assert_eq!(failure(refused), (CERTIFICATE, ResultType::TlsaInvalid));
    }

    /// RFC 7672 §3.2.2, §3.2.3.
    #[tokio::test]
    async fn names_matter_under_usage_2() {
        let root = Authority::new("root");
        for (names, fits) in [
            (&[HOST][..], true),
            (&["example.net"], true),
            (&["*.example.net"], true),
            (&["a.example", "MX.Example.NET"], true),
            (&["other.example.net"], false),
            (&["*.mx.example.net"], false),
            (&["mx.example.net.evil.example"], false),
            (&[], false),
        ] {
            let identity = root.leaf(Kind::Ecdsa, names, |_| {}).with(&[&root]);
            let outcome = shake(&dane(vec![record(2, 0, 1, &root.der())]), &Trust::nobody(), &identity).await;
            if fits {
                assert!(outcome.is_ok(), "{names:?} {outcome:?}");
            } else {
                assert_eq!(failure(outcome), (CERTIFICATE, ResultType::CertificateHostMismatch), "{names:?}");
            }
        }
    }

    #[tokio::test]
    async fn dates_matter_under_usage_2() {
        let root = Authority::new("root");
        let identity = root.leaf(Kind::Ecdsa, &[HOST], expired).with(&[&root]);
        for right in records(2, &root.der()) {
            let refused = shake(&dane(vec![right]), &Trust::nobody(), &identity).await;
            assert_eq!(failure(refused), (CERTIFICATE, ResultType::CertificateExpired));
        }
        let old_root = Authority::edited("root", expired);
        let identity = old_root.leaf(Kind::Ecdsa, &[HOST], |_| {}).with(&[&old_root]);
        for right in [record(2, 0, 0, &old_root.der()), record(2, 1, 1, &old_root.der())] {
            let refused = shake(&dane(vec![right]), &Trust::nobody(), &identity).await;
            assert_eq!(failure(refused), (CERTIFICATE, ResultType::CertificateExpired));
        }
        // A record of the other usage may still fit.
        let both = vec![record(2, 0, 1, &old_root.der()), record(3, 1, 1, &identity.chain[0])];
        assert!(shake(&dane(both), &Trust::nobody(), &identity).await.is_ok());
    }

    /// RFC 7672 §3.1.2.
    #[tokio::test]
    async fn constraints_of_an_authority_apply() {
        let narrow = Authority::edited("narrow", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
        let middle = narrow.below("middle");
        let (direct, deep) = (
            narrow.leaf(Kind::Ecdsa, &[HOST], |_| {}).with(&[&narrow]),
            middle.leaf(Kind::Ecdsa, &[HOST], |_| {}).with(&[&middle, &narrow]),
        );
        let of_narrow = dane(vec![record(2, 0, 1, &narrow.der())]);
        assert!(shake(&of_narrow, &Trust::nobody(), &direct).await.is_ok());
        let refused = shake(&of_narrow, &Trust::nobody(), &deep).await;
        assert_eq!(failure(refused), (CERTIFICATE, ResultType::CertificateNotTrusted));
        let no_authority = Authority::edited("none", |params| params.is_ca = IsCa::ExplicitNoCa);
        let identity = no_authority.leaf(Kind::Ecdsa, &[HOST], |_| {}).with(&[&no_authority]);
        let refused = shake(&dane(vec![record(2, 0, 1, &no_authority.der())]), &Trust::nobody(), &identity).await;
        assert_eq!(failure(refused), (CERTIFICATE, ResultType::TlsaInvalid));
    }

    /// RFC 7672 §2.2.1.
    #[tokio::test]
    async fn dane_behind_forgeable_mx_records_is_not_called_verified() {
        let identity = Identity::self_signed(Kind::Ecdsa, &[HOST], |_| {});
        let records = vec![record(3, 1, 1, &identity.chain[0])];
        let unproved = Protection::Dane { base: name(HOST), records, names: vec![], is_next_hop_proved: false };
        let outcome = shake(&decision(unproved), &Trust::nobody(), &identity).await.unwrap();
        assert_eq!(outcome.standing(), "Trusted TLS connection (DANE, MX not proved)");
    }

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

    #[tokio::test]
    async fn what_is_known_of_a_connection() {
        let identity = Identity::self_signed(Kind::Rsa, &[], |_| {});
        for (version, text) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
            let opportunistic = decision(Protection::Opportunistic);
            let outcome = shake_with(&opportunistic, &Trust::nobody(), &identity, &[version]).await.unwrap();
            assert_eq!((outcome.facts.version, outcome.facts.server_name.as_deref()), (text, Some(HOST)));
            let expected = format!("Untrusted TLS connection, {text} with cipher {} (256 bits)", outcome.facts.cipher);
            assert_eq!(outcome.to_string(), expected);
            assert!(outcome.facts.cipher.starts_with("TLS_") && outcome.facts.cipher.contains("AES_256"));
        }
    }

    /// RFC 8461 §4.2.
    #[tokio::test]
    async fn v44_mta_sts_wants_a_trusted_certificate_with_the_name() {
        let root = Authority::new("root");
        let (enforced, trust) = (webpki(&[HOST]), root.trust());
        for version in BOTH {
            let good = root.leaf(Kind::Ecdsa, &[HOST], |_| {});
            let outcome = shake_with(&enforced, &trust, &good, &[version]).await.unwrap();
            assert_eq!(outcome.standing(), "Verified TLS connection (MTA-STS)");
            for (identity, result) in [
                (root.leaf(Kind::Ecdsa, &["other.example"], |_| {}), ResultType::CertificateHostMismatch),
                (root.leaf(Kind::Ecdsa, &["example.net"], |_| {}), ResultType::CertificateHostMismatch),
                (root.leaf(Kind::Ecdsa, &[HOST], expired), ResultType::CertificateExpired),
                (Identity::self_signed(Kind::Ecdsa, &[HOST], |_| {}), ResultType::CertificateNotTrusted),
                (Authority::new("x").leaf(Kind::Rsa, &[HOST], |_| {}), ResultType::CertificateNotTrusted),
                (Authority::new("root").leaf(Kind::Rsa, &[HOST], |_| {}), ResultType::CertificateNotTrusted),
            ] {
                let refused = shake_with(&enforced, &trust, &identity, &[version]).await;
                assert_eq!(failure(refused), (CERTIFICATE, result));
            }
            let refused = shake_with(&enforced, &Trust::nobody(), &good, &[version]).await;
            assert_eq!(failure(refused), (CERTIFICATE, ResultType::CertificateNotTrusted));
        }
    }

    #[tokio::test]
    async fn configured_names_may_be_of_a_domain() {
        let root = Authority::new("root");
        let secure = webpki(&["example.net", ".example.net"]);
        for (carried, fits) in [
            ("example.net", true),
            ("mx7.example.net", true),
            ("*.mail.example.net", true),
            ("badexample.net", false),
            ("mx.example.com", false),
        ] {
            let identity = root.leaf(Kind::Ecdsa, &[carried], |_| {});
            assert_eq!(shake(&secure, &root.trust(), &identity).await.is_ok(), fits, "{carried}");
        }
    }

    /// V44: a policy in testing changes nothing, and says what it would have changed.
    #[tokio::test]
    async fn v44_testing_observes() {
        let root = Authority::new("root");
        let mut testing = decision(Protection::Opportunistic);
        testing.observe = Some(Observation::Certificate);
        let observed = async |decision: &Decision, identity: Identity| {
            let outcome = shake(decision, &root.trust(), &identity).await.unwrap();
            outcome.observed.map(|failure| failure.result)
        };
        let good = || root.leaf(Kind::Ecdsa, &[HOST], |_| {});
        assert_eq!(observed(&testing, good()).await, None);
        for (identity, result) in [
            (root.leaf(Kind::Ecdsa, &["other.example"], |_| {}), ResultType::CertificateHostMismatch),
            (root.leaf(Kind::Ecdsa, &[HOST], expired), ResultType::CertificateExpired),
            (Identity::self_signed(Kind::Ecdsa, &[HOST], |_| {}), ResultType::CertificateNotTrusted),
        ] {
            assert_eq!(observed(&testing, identity).await, Some(result));
        }
        testing.observe = Some(Observation::HostMismatch);
        assert_eq!(observed(&testing, good()).await, Some(ResultType::CertificateHostMismatch));
    }

    #[tokio::test]
    async fn fingerprints_of_certificates_and_keys() {
        let identity = Identity::self_signed(Kind::Ecdsa, &[], expired);
        let stranger = Identity::self_signed(Kind::Ecdsa, &[], expired);
        for selector in 0..2 {
            let hex = |octet: &u8| format!("{octet:02x}");
            let pin: String = record(3, selector, 1, &identity.chain[0]).data.iter().map(hex).collect();
            let records = transport_security::dane::fingerprint(&pin).unwrap().to_vec();
            let pinned = decision(Protection::Fingerprint { records });
            let outcome = shake(&pinned, &Trust::nobody(), &identity).await.unwrap();
            assert_eq!(outcome.standing(), "Verified TLS connection (fingerprint)");
            assert_eq!(failure(shake(&pinned, &Trust::nobody(), &stranger).await).0, CERTIFICATE);
        }
    }

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
            assert_eq!(failure(refused), (CERTIFICATE, ResultType::CertificateNotTrusted));
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

    /// V47: not even under one and the same plan, since what a session was begun with may have been revoked.
    #[tokio::test]
    async fn v47_no_session_is_resumed() {
        let identity = Identity::self_signed(Kind::Ecdsa, &[HOST], |_| {});
        let plan = TlsPlan::new(&decision(Protection::Opportunistic), Some(&name(HOST)), ADDRESS, &Trust::nobody());
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
        let plan = |protection| TlsPlan::new(&decision(protection), Some(&name(HOST)), ADDRESS, &Trust::nobody());
        assert!(plan(Protection::Clear).is_none());
        let status = mail::EnhancedStatus::new(4, 7, 5);
        let refuse = Protection::Refuse { status, cause: String::new(), result: ResultType::DnssecInvalid };
        assert!(plan(refuse).is_none());
        assert!(plan(Protection::Opportunistic).is_some());
        let unnamed = TlsPlan::new(&decision(Protection::Opportunistic), None, ADDRESS, &Trust::nobody()).unwrap();
        assert!(matches!(unnamed.server_name, ServerName::IpAddress(_)), "an address is not asked for by name");
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
