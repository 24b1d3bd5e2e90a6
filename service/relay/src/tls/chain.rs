//! Whether a server's certificates are what a protection demands: by DANE, by trusted authorities, by fingerprint.

use super::flaw::Flaw;
use dns::{Name, Tlsa};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use transport_security::ReferenceName;
use transport_security::certificate::{Certificate, spki_content};
use transport_security::dane::{self, END_ENTITY, FULL, PUBLIC_KEY, TRUST_ANCHOR, WHOLE_CERTIFICATE};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

/// Authorities that are tried for one chain. A chain of real length has no more candidates.
const ANCHORS_MAX: usize = 16;

/// What a server showed, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain<'a> {
    /// Its own certificate.
    pub(crate) leaf: &'a CertificateDer<'a>,
    /// The others, in the order they came.
    pub(crate) others: &'a [CertificateDer<'a>],
    pub(crate) now: UnixTime,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl Chain<'_> {
    /// RFC 7671 §5.1, RFC 7672 §3.1.1: the server's own certificate or key is one of the records'. Neither its names nor
    /// its dates matter. Records about authorities are verified after that, since one match is enough.
    pub(crate) fn verify_dane(&self, records: &[Tlsa], names: &[Name]) -> Result<(), Flaw> {
        if self.is_pinned(records)? {
            return Ok(());
        }
        if !records.iter().any(|record| record.usage == TRUST_ANCHOR) {
            return Err(Flaw::NoRecordMatches);
        }
        self.verify_under_anchors(records)?;
        // RFC 7672 §3.2.3 (not): the common name of a certificate without alternative names is not looked at. RFC 9525 has
        // given it up, and the name constraints of an authority do not bind it.
        let names: Vec<ReferenceName> = names.iter().cloned().map(ReferenceName::Host).collect();
        self.verify_names(&names)
    }

    /// Whether the server's own certificate or key is that of a record of usage 3.
    pub(crate) fn is_pinned(&self, records: &[Tlsa]) -> Result<bool, Flaw> {
        let spki = Certificate::parse(self.leaf).map_err(|_| Flaw::Unreadable)?.spki;
        let of_leaf = |record: &&Tlsa| record.usage == END_ENTITY;
        Ok(records.iter().filter(of_leaf).any(|record| dane::matches(record, self.leaf, spki)))
    }

    /// A certificate that a trusted authority vouches for, and that carries one of the names (RFC 8461 §4.2).
    pub(crate) fn verify_webpki(&self, roots: &[TrustAnchor<'_>], names: &[ReferenceName]) -> Result<(), Flaw> {
        self.verify_path(roots, &|_| Ok(()))?;
        self.verify_names(names)
    }

    /// A certificate that a trusted authority vouches for, whatever its names.
    pub(crate) fn verify_trusted(&self, roots: &[TrustAnchor<'_>]) -> Result<(), Flaw> {
        self.verify_path(roots, &|_| Ok(()))
    }

    fn verify_names(&self, names: &[ReferenceName]) -> Result<(), Flaw> {
        let leaf = EndEntityCert::try_from(self.leaf).map_err(Flaw::Chain)?;
        let is_carried = |name: &ReferenceName| match name {
            ReferenceName::Host(host) => ServerName::try_from(host.as_str())
                .is_ok_and(|host| leaf.verify_is_valid_for_subject_name(&host).is_ok()),
            ReferenceName::Below(_) => leaf.valid_dns_names().any(|presented| name.fits(presented)),
        };
        if names.iter().any(is_carried) {
            return Ok(());
        }
        Err(Flaw::Names(names.iter().map(ReferenceName::to_string).collect()))
    }

    /// RFC 7671 §5.2: the chain leads to an authority that a record of usage 2 is about.
    fn verify_under_anchors(&self, records: &[Tlsa]) -> Result<(), Flaw> {
        let records: Vec<&Tlsa> = records.iter().filter(|record| record.usage == TRUST_ANCHOR).collect();
        let keys = records.iter().filter(|record| (record.selector, record.matching) == (PUBLIC_KEY, FULL));
        let named = self.named_authorities(&records).map(|authority| self.anchor(authority));
        let by_key = keys.flat_map(|record| self.anchors_of_key(&record.data)).map(|anchor| Ok((anchor, None)));
        let (mut anchors, mut path_lengths, mut flaw) = (Vec::new(), Vec::new(), Flaw::NoRecordMatches);
        for candidate in named.chain(by_key).take(ANCHORS_MAX) {
            match candidate {
                Ok((anchor, path_length)) => {
                    anchors.push(anchor);
                    path_lengths.push(path_length);
                }
                Err(unfit) => flaw = unfit,
            }
        }
        if anchors.is_empty() {
            return Err(flaw);
        }
        // RFC 7672 §3.1.2: constraints of the authority apply, such as how many others may stand below it.
        let is_short_enough = |path: &VerifiedPath<'_>| {
            let index = anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
            let allowed = index.and_then(|index| path_lengths.get(index).copied().flatten());
            match allowed {
                Some(allowed) if path.intermediate_certificates().count() > allowed => {
                    Err(webpki::Error::PathLenConstraintViolated)
                }
                _ => Ok(()),
            }
        };
        self.verify_path(&anchors, &is_short_enough)
    }

    /// Certificates that the records are about: of those that the server showed besides its own, and those that stand in
    /// full in a record (RFC 7671 §5.2.2: these need not be shown).
    fn named_authorities<'b>(&'b self, records: &'b [&'b Tlsa]) -> impl Iterator<Item = &'b [u8]> {
        let is_named = |der: &&'b [u8]| {
            let Ok(certificate) = Certificate::parse(der) else { return false };
            records.iter().any(|record| dane::matches(record, der, certificate.spki))
        };
        let shown = self.others.iter().map(|other| other.as_ref()).filter(is_named);
        let in_full = records.iter().filter(|record| (record.selector, record.matching) == (WHOLE_CERTIFICATE, FULL));
        shown.chain(in_full.map(|record| record.data.as_slice()))
    }

    /// An authority with how many others may stand below it. It must be one, and not be out of date.
    fn anchor(&self, der: &[u8]) -> Result<(TrustAnchor<'static>, Option<usize>), Flaw> {
        let certificate = Certificate::parse(der).map_err(|_| Flaw::NoAuthority)?;
        let issuing = certificate.issuing().map_err(|_| Flaw::NoAuthority)?;
        if !issuing.is_authority {
            return Err(Flaw::NoAuthority);
        }
        let validity = certificate.validity().map_err(|_| Flaw::NoAuthority)?;
        let now = i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX);
        if !(validity.not_before..=validity.not_after).contains(&now) {
            return Err(Flaw::AuthorityExpired);
        }
        let der = CertificateDer::from(der);
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(Flaw::Chain)?.to_owned();
        Ok((anchor, issuing.path_length))
    }

    /// RFC 7671 §5.2.3: a bare key, of an authority that the server need not show. It has no name, so that it takes
    /// the name of each issuer in the chain: what is signed by the key is issued by its owner. Dates and constraints of such
    /// an authority are not known, and do not apply.
    fn anchors_of_key(&self, spki: &[u8]) -> Vec<TrustAnchor<'static>> {
        let Ok(key) = spki_content(spki) else { return Vec::new() };
        let shown = || std::iter::once(self.leaf).chain(self.others);
        let parsed: Vec<Certificate<'_>> = shown().filter_map(|der| Certificate::parse(der).ok()).collect();
        let mut issuers: Vec<&[u8]> = parsed.iter().map(|certificate| certificate.issuer).collect();
        issuers.sort_unstable();
        issuers.dedup();
        let anchor = |issuer: &[u8]| TrustAnchor {
            subject: issuer.to_vec().into(),
            subject_public_key_info: key.to_vec().into(),
            name_constraints: None,
        };
        issuers.into_iter().map(anchor).collect()
    }

    fn verify_path(
        &self,
        anchors: &[TrustAnchor<'_>],
        also: &dyn Fn(&VerifiedPath<'_>) -> Result<(), webpki::Error>,
    ) -> Result<(), Flaw> {
        let leaf = EndEntityCert::try_from(self.leaf).map_err(Flaw::Chain)?;
        let usage = KeyUsage::server_auth();
        leaf.verify_for_usage(self.algorithms.all, anchors, self.others, self.now, usage, None, Some(also))
            .map(|_| ())
            .map_err(Flaw::Chain)
    }
}

/// The key of a certificate, in the form that signatures are verified with.
pub(crate) fn key_of(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Flaw> {
    let certificate = Certificate::parse(certificate).map_err(|_| Flaw::Unreadable)?;
    Ok(SubjectPublicKeyInfoDer::from(certificate.spki.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::fixtures::*;
    use crate::tls::{Authenticated, FailureKind, Trust};
    use rcgen::{BasicConstraints, IsCa};
    use rustls::version::{TLS12, TLS13};
    use transport_security::Protection;
    use transport_security::tls_rpt::ResultType;

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
}
