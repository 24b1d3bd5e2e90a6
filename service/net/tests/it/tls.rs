//! Certificates: chosen by name and by what the client can verify, reloaded, refused with a reason.

use crate::toy::{files, made, server_tls};
use net::certificate::{NewKey, PemPair};
use net::{Connection, KeyKind, PairFiles, ServerTls, TlsError, TlsSettings};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SignatureScheme};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use testkit::tls::narrow_client;
use tokio::io::duplex;
use tokio_rustls::TlsConnector;

struct Shaken {
    certificate: CertificateDer<'static>,
    kind: HandshakeKind,
    facts: mail::TlsFacts,
}

/// A handshake over memory; both sides' view of it.
async fn shake(tls: &Arc<ServerTls>, config: Arc<ClientConfig>, name: &str) -> std::io::Result<Shaken> {
    let (near, far) = duplex(16_384);
    let mut connection = Connection::over(near, crate::toy::nobody(), Some(Arc::clone(tls)));
    let accepted = tokio::spawn(async move { connection.secure().await.map(|facts| (facts, connection)) });
    let name = name.to_owned().try_into().unwrap();
    let mut stream = TlsConnector::from(config).connect(name, far).await?;
    let (facts, connection) = accepted.await.unwrap().unwrap();
    assert_eq!(connection.facts().tls.as_ref(), Some(&facts));
    drop(connection);
    // Session tickets arrive behind the handshake; reading to the end takes them in.
    let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await;
    let session = stream.get_ref().1;
    Ok(Shaken {
        certificate: session.peer_certificates().unwrap()[0].clone().into_owned(),
        kind: session.handshake_kind().unwrap(),
        facts,
    })
}

fn leaf(pair: &PemPair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.public.as_bytes()).unwrap()
}

/// R11, RFC 8446 §4.4.2.2.
#[tokio::test]
async fn the_certificate_follows_the_clients_algorithms() {
    let folder = tempfile::tempdir().unwrap();
    let rsa = made(&["mx.example.net"], NewKey::Rsa2048);
    let ecdsa = made(&["mx.example.net"], NewKey::EcdsaP256);
    let pairs = vec![files(folder.path(), "rsa", &rsa), files(folder.path(), "ecdsa", &ecdsa)];
    let tls = ServerTls::load(TlsSettings { pairs, tickets: false, alpn: &[] }).unwrap();
    assert_eq!(tls.certificates().iter().map(|facts| facts.kind).collect::<Vec<_>>(), [KeyKind::Rsa, KeyKind::Ecdsa]);

    let mut rsa_suites = default_provider();
    rsa_suites.cipher_suites = vec![cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
    let old = shake(&tls, narrow_client(rsa_suites, &[&TLS12], None), "mx.example.net").await.unwrap();
    assert_eq!(old.certificate, leaf(&rsa));
    assert_eq!((old.facts.version, old.facts.bits), ("TLSv1.2", 128));
    assert_eq!(old.facts.cipher, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");

    let rsa_schemes = Some(vec![SignatureScheme::RSA_PSS_SHA256]);
    let modern =
        shake(&tls, narrow_client(default_provider(), &[&TLS13], rsa_schemes), "mx.example.net").await.unwrap();
    assert_eq!(modern.certificate, leaf(&rsa));

    for version in [&TLS12, &TLS13] {
        let both = shake(&tls, narrow_client(default_provider(), &[version], None), "mx.example.net").await.unwrap();
        assert_eq!(both.certificate, leaf(&ecdsa), "ECDSA is preferred where both would do");
        assert_eq!(both.facts.server_name.as_deref(), Some("mx.example.net"));
    }
    let odd = Some(vec![SignatureScheme::ED25519]);
    assert!(shake(&tls, narrow_client(default_provider(), &[&TLS13], odd), "mx.example.net").await.is_err());
}

#[tokio::test]
async fn the_certificate_follows_the_name_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let first = made(&["mail.example.net"], NewKey::Rsa2048);
    let wild = made(&["*.example.org"], NewKey::EcdsaP256);
    let exact = made(&["mx.example.org"], NewKey::EcdsaP256);
    let pairs = [("first", &first), ("wild", &wild), ("exact", &exact)];
    let pairs = pairs.map(|(stem, pair)| files(folder.path(), stem, pair)).to_vec();
    let tls = ServerTls::load(TlsSettings { pairs, tickets: false, alpn: &[] }).unwrap();
    let table = [
        ("mail.example.net", &first),
        ("MX.Example.Org", &exact),
        ("imap.example.org", &wild),
        ("a.b.example.org", &first),
        ("example.org", &first),
        ("elsewhere.example", &first),
        ("192.0.2.1", &first),
    ];
    for (name, expected) in table {
        let shaken = shake(&tls, testkit::tls::client(), name).await.unwrap();
        assert_eq!(shaken.certificate, leaf(expected), "{name}");
    }
    let ecdsa_only = narrow_client(default_provider(), &[&TLS13], Some(vec![SignatureScheme::ECDSA_NISTP256_SHA256]));
    assert!(shake(&tls, ecdsa_only, "mail.example.net").await.is_ok(), "another name is better than no TLS");
}

/// R16: a reload changes new handshakes; a broken one changes nothing.
#[tokio::test]
async fn a_reload_swaps_the_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let old = made(&["mx.example.net"], NewKey::EcdsaP256);
    let new = made(&["mx.example.net"], NewKey::EcdsaP256);
    let pair = files(folder.path(), "mx", &old);
    let tls = ServerTls::load(TlsSettings { pairs: vec![pair.clone()], tickets: true, alpn: &[] }).unwrap();
    let config = testkit::tls::client();
    assert_eq!(shake(&tls, Arc::clone(&config), "mx.example.net").await.unwrap().certificate, leaf(&old));

    fs::write(&pair.key, new.key.expose()).unwrap();
    assert!(matches!(tls.reload(&net::LentFiles::new()), Err(TlsError::Mismatch(_))));
    assert_eq!(shake(&tls, testkit::tls::client(), "mx.example.net").await.unwrap().certificate, leaf(&old));

    fs::write(&pair.chain, &new.public).unwrap();
    tls.reload(&net::LentFiles::new()).unwrap();
    let shaken = shake(&tls, config, "mx.example.net").await.unwrap();
    assert_eq!(shaken.certificate, leaf(&new));
    assert_eq!(shaken.kind, HandshakeKind::Full, "tickets of the old certificate are worth nothing");
}

/// V47: a ticket of one listener does not resume on another, even with the same certificate.
#[tokio::test]
async fn tickets_are_not_shared_between_listeners() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = vec![files(folder.path(), "mx", &made(&["mx.example.net"], NewKey::EcdsaP256))];
    let settings = TlsSettings { pairs, tickets: true, alpn: &[] };
    for version in [&TLS12, &TLS13] {
        let (one, other) = (ServerTls::load(settings.clone()).unwrap(), ServerTls::load(settings.clone()).unwrap());
        let config = narrow_client(default_provider(), &[version], None);
        let kind = async |tls: &Arc<ServerTls>| shake(tls, Arc::clone(&config), "mx.example.net").await.unwrap().kind;
        assert_eq!(kind(&one).await, HandshakeKind::Full);
        assert_eq!(kind(&one).await, HandshakeKind::Resumed);
        assert_eq!(kind(&other).await, HandshakeKind::Full);
    }
    let without = ServerTls::load(TlsSettings { tickets: false, ..settings }).unwrap();
    let config = testkit::tls::client();
    for _ in 0..2 {
        let shaken = shake(&without, Arc::clone(&config), "mx.example.net").await.unwrap();
        assert_eq!(shaken.kind, HandshakeKind::Full);
    }
}

/// V49, RFC 7301 §3.2: who offers only foreign protocols is refused in the handshake; who offers none, or ours, is not.
#[tokio::test]
async fn v49_foreign_protocols_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = vec![files(folder.path(), "mx", &made(&["mx.example.net"], NewKey::EcdsaP256))];
    let settings = TlsSettings { pairs, tickets: true, alpn: &["imap"] };
    let (imap, any) = (ServerTls::load(settings.clone()).unwrap(), TlsSettings { alpn: &[], ..settings });
    let any = ServerTls::load(any).unwrap();
    for version in [&TLS12, &TLS13] {
        for (offered, fits) in [
            (&[][..], true),
            (&["imap"], true),
            (&["h2", "imap"], true),
            (&["h2", "http/1.1"], false),
            (&["pop3"], false),
            (&["IMAP"], false),
        ] {
            let mut config = (*narrow_client(default_provider(), &[version], None)).clone();
            config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
            let config = Arc::new(config);
            let shaken = shake(&imap, Arc::clone(&config), "mx.example.net").await;
            assert_eq!(shaken.is_ok(), fits, "{version:?} {offered:?}");
            if let Err(error) = shaken.map(drop) {
                assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
            }
            assert!(shake(&any, config, "mx.example.net").await.is_ok(), "{version:?} {offered:?}");
        }
    }
}

/// R14 and the rest: the file, the cause and the cure are named.
#[test]
fn unusable_files_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let pair = files(folder.path(), "mx", &made(&["mx.example.net"], NewKey::EcdsaP256));
    let other = files(folder.path(), "other", &made(&["mx.example.net"], NewKey::Rsa2048));
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    fs::set_permissions(&empty, Permissions::from_mode(0o600)).unwrap();
    let load = |chain: &std::path::Path, key: &std::path::Path| {
        let pair = PairFiles { chain: chain.to_owned(), key: key.to_owned() };
        ServerTls::load(TlsSettings { pairs: vec![pair], tickets: false, alpn: &[] }).unwrap_err().to_string()
    };
    let said = |text: String, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "{text}");
        }
    };
    said(load(&empty, &pair.key), &["empty.pem", "holds no certificate"]);
    said(load(&pair.chain, &empty), &["empty.pem", "holds no private key"]);
    said(load(&folder.path().join("absent.pem"), &pair.key), &["absent.pem", "cannot be read"]);
    said(load(&pair.chain, &other.key), &["other-key.pem", "not the key of", "mx-cert.pem"]);
    said(load(&pair.key, &pair.key), &["mx-key.pem", "holds no certificate"]);
    for mode in [0o640, 0o604] {
        fs::set_permissions(&pair.key, Permissions::from_mode(mode)).unwrap();
        said(load(&pair.chain, &pair.key), &["mx-key.pem", &format!("mode {mode:04o}"), "chmod 600"]);
    }
    let none = ServerTls::load(TlsSettings { pairs: Vec::new(), tickets: false, alpn: &[] });
    assert!(matches!(none, Err(TlsError::NoPairs)));
}

/// V53: names that clients ask for leave nothing behind.
#[tokio::test]
async fn unknown_names_are_not_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let tls = server_tls(folder.path());
    let facts = tls.certificates();
    for number in 0..50 {
        let shaken = shake(&tls, testkit::tls::client(), &format!("host{number}.example.com")).await.unwrap();
        assert_eq!(shaken.facts.server_name, Some(format!("host{number}.example.com")));
    }
    assert_eq!(tls.certificates(), facts);
}
