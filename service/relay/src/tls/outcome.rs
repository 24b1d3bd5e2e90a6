//! What is known of a connection after the handshake, for logs, trace fields and reports.

use super::flaw::TlsFailure;
use mail::TlsFacts;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ProtocolVersion};
use std::fmt;
use transport_security::WebpkiReason;

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

/// What is known of a connection whose handshake is over. `asked_for`: the name that it was begun with.
pub(crate) fn facts_of(connection: &ClientConnection, asked_for: &ServerName<'_>) -> TlsFacts {
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
    use crate::tls::Trust;
    use crate::tls::fixtures::*;
    use rustls::version::{TLS12, TLS13};
    use transport_security::tls_rpt::ResultType;
    use transport_security::{Decision, Observation, Protection};

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

    /// RFC 7672 §2.2.1.
    #[tokio::test]
    async fn dane_behind_forgeable_mx_records_is_not_called_verified() {
        let identity = Identity::self_signed(Kind::Ecdsa, &[HOST], |_| {});
        let records = vec![record(3, 1, 1, &identity.chain[0])];
        let unproved = Protection::Dane { base: host(), records, names: vec![], is_next_hop_proved: false };
        let outcome = shake(&decision(unproved), &Trust::nobody(), &identity).await.unwrap();
        assert_eq!(outcome.standing(), "Trusted TLS connection (DANE, MX not proved)");
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
}
