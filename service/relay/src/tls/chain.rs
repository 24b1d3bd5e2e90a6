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
