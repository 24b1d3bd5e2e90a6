//! For tests: authorities, certificates, and servers that show them over memory; protections, and handshakes that must have
//! them.

use super::{FailureKind, TlsFailure, TlsOutcome, TlsPlan, Trust};
use aws_lc_rs::digest::{SHA256, SHA512, digest};
use dns::{Name, Tlsa};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, duplex};
use tokio_rustls::TlsAcceptor;
use transport_security::certificate::Certificate;
use transport_security::tls_rpt::{AppliedPolicy, ResultType};
use transport_security::{Decision, Protection, ReferenceName, WebpkiReason};

/// The host that is connected to.
pub(crate) const HOST: &str = "mx.example.net";
pub(crate) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// Kind of a server's key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Rsa,
    Ecdsa,
}

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a server shows, and its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Authority {
    /// A root.
    pub(crate) fn new(name: &str) -> Authority {
        Authority::edited(name, |_| {})
    }

    /// A root that is made otherwise.
    pub(crate) fn edited(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Authority {
        let params = authority_params(name, edit);
        Authority(CertifiedIssuer::self_signed(params, new_key(Kind::Ecdsa)).unwrap())
    }

    /// An authority below this one.
    pub(crate) fn below(&self, name: &str) -> Authority {
        let params = authority_params(name, |_| {});
        Authority(CertifiedIssuer::signed_by(params, new_key(Kind::Ecdsa), &self.0).unwrap())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Trust in this authority alone.
    pub(crate) fn trust(&self) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        Trust::of(roots)
    }

    /// A server's certificate for these names, shown without any other.
    pub(crate) fn leaf(&self, kind: Kind, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = new_key(kind);
        let mut params = leaf_params(names);
        edit(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { chain: vec![certificate.der().clone()], key: key_der(&key) }
    }
}

impl Identity {
    /// A certificate that nobody but itself vouches for.
    pub(crate) fn self_signed(kind: Kind, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = new_key(kind);
        let mut params = leaf_params(names);
        edit(&mut params);
        Identity { chain: vec![params.self_signed(&key).unwrap().der().clone()], key: key_der(&key) }
    }

    /// Shows these besides.
    pub(crate) fn with(mut self, others: &[&Authority]) -> Identity {
        self.chain.extend(others.iter().map(|authority| authority.der()));
        self
    }

    /// A server that shows it, whatever it is.
    pub(crate) fn acceptor(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> TlsAcceptor {
        let key = any_supported_type(&self.key).unwrap();
        let certified = SingleCertAndKey::from(CertifiedKey::new(self.chain.clone(), key));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certified));
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Runs a server's side of a handshake and holds the connection until the peer leaves; what name it was asked for.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(acceptor: TlsAcceptor, stream: S) -> Option<String> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let name = stream.get_ref().1.server_name().map(str::to_owned);
    let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await;
    name
}

fn authority_params(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    edit(&mut params);
    params
}

fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a server");
    params
}

/// RSA keys take long to make, so all certificates share one.
fn new_key(kind: Kind) -> KeyPair {
    static RSA: OnceLock<Vec<u8>> = OnceLock::new();
    match kind {
        Kind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        Kind::Rsa => {
            let der = RSA.get_or_init(|| {
                KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap().serialize_der()
            });
            KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.as_slice()), &PKCS_RSA_SHA256).unwrap()
        }
    }
}

fn key_der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

/// [`HOST`].
pub(crate) fn host() -> Name {
    Name::parse(HOST).unwrap()
}

/// A decision for this protection.
pub(crate) fn decision(protection: Protection) -> Decision {
    Decision {
        protection,
        observe: None,
        applied: AppliedPolicy::none(&Name::parse("example.net").unwrap()),
        require_tls: false,
    }
}

/// DANE by these records, for a proved next hop.
pub(crate) fn dane(records: Vec<Tlsa>) -> Decision {
    let names = vec![host(), Name::parse("example.net").unwrap()];
    decision(Protection::Dane { base: host(), records, names, is_next_hop_proved: true })
}

/// A trusted certificate with one of these names, for an MTA-STS policy.
pub(crate) fn webpki(names: &[&str]) -> Decision {
    let names = names.iter().map(|name| ReferenceName::parse(name).unwrap()).collect();
    decision(Protection::Webpki { names, reason: WebpkiReason::MtaSts })
}

/// A TLSA record about a certificate.
pub(crate) fn record(usage: u8, selector: u8, matching: u8, certificate: &CertificateDer<'_>) -> Tlsa {
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
pub(crate) fn records(usage: u8, certificate: &CertificateDer<'_>) -> Vec<Tlsa> {
    let kinds = (0..2).flat_map(|selector| (0..3).map(move |matching| (selector, matching)));
    kinds.map(|(selector, matching)| record(usage, selector, matching, certificate)).collect()
}

/// Makes a certificate whose time is long over.
pub(crate) fn expired(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
}

/// A handshake with a server that shows this identity and speaks these versions of TLS.
pub(crate) async fn shake_with(
    decision: &Decision,
    trust: &Trust,
    identity: &Identity,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<TlsOutcome, TlsFailure> {
    let plan = TlsPlan::new(decision, Some(&host()), ADDRESS, trust).unwrap();
    let (near, far) = duplex(16_384);
    let server = tokio::spawn(serve(identity.acceptor(versions, &[]), far));
    let (mut stream, outcome) = plan.connect(near).await?;
    stream.write_all(b".").await.unwrap();
    let asked_for = server.await.unwrap();
    assert_eq!(asked_for.as_deref(), Some(HOST), "RFC 7672 §8.1, RFC 8461 §7.1");
    Ok(outcome)
}

/// A handshake of both versions of TLS.
pub(crate) async fn shake(decision: &Decision, trust: &Trust, identity: &Identity) -> Result<TlsOutcome, TlsFailure> {
    shake_with(decision, trust, identity, &BOTH).await
}

/// The result that a report has for a failure, and at what it failed.
pub(crate) fn failure(outcome: Result<TlsOutcome, TlsFailure>) -> (FailureKind, ResultType) {
    let failure = outcome.unwrap_err();
    assert!(!failure.cause.is_empty());
    (failure.kind, failure.result)
}
