//! What protects the way to the next hop: DANE, MTA-STS and the reports about both (TLS-RPT), without input or output.
//!
//! The story is [`decide`]: from what DNS, policies and the configuration say about a host, to the [`Protection`] that a
//! connection to it must have. [`TlsaSearch`] says which records to look up before, [`mta_sts`] reads policies and says when
//! to fetch them, [`tls_rpt`] tells the domains how it went. The verification of certificates is where TLS is spoken, in
//! the service `relay`; what it needs of [`dane`] and of the [`certificate`] itself is here.

pub mod certificate;
pub mod dane;
mod fields;
pub mod mta_sts;
mod protection;
mod reference_name;
pub mod tls_rpt;
mod tlsa_search;

pub use dane::NextHop;
pub use protection::{
    Circumstances, Decision, Level, MxSecurity, Observation, Protection, Unmet, WebpkiReason, decide,
};
pub use reference_name::ReferenceName;
pub use tlsa_search::{TlsaFinding, TlsaSearch};
