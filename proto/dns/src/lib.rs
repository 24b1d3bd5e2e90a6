//! The domain name system as the house sees it: names, records, and the seam [`Lookup`] that answers for them.
//!
//! An answer keeps apart what mail must keep apart (D9): what is there and what is not, whether that is proved
//! ([`Security`]), and that nothing could be found out ([`Failure`]), which means try later and never "absent". No wire
//! format lives here; the service `resolver` asks the network, [`Zone`] answers from text.

mod name;
mod record;
mod typed;
mod zone;

pub use name::{Name, NameError};
pub use record::{Mx, Record, RecordType, Tlsa, UnknownRecordType};
pub use typed::{Families, Typed, addresses, mx, ptr, tlsa, txt};
pub use zone::{Zone, ZoneError, ZoneErrorKind};

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How many aliases (CNAME) one lookup follows. RFC 1034 §5.2.2 asks for a limit and names none; what real services
/// chain stays below this.
pub const ALIASES_MAX: usize = 8;

/// Whether DNSSEC vouches for an answer (RFC 4035 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Proved by a chain of trust, for absence as well.
    Secure,
    /// The zone is not signed, or nobody validated.
    Insecure,
}

/// Why nothing could be found out. All of these are temporary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// DNSSEC says that the answer is forged or broken.
    Bogus(Arc<str>),
    /// No usable answer: SERVFAIL, REFUSED, a timeout, a malformed reply.
    Failed(Arc<str>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Bogus(cause) => write!(f, "DNSSEC validation failed: {cause}"),
            Failure::Failed(cause) => write!(f, "DNS lookup failed: {cause}"),
        }
    }
}

impl std::error::Error for Failure {}

/// What was found for a name and a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The records of the type asked for; none when the name has no such records.
    pub records: Vec<Record>,
    /// Whether the name exists at all; `false` is NXDOMAIN.
    pub name_exists: bool,
    /// Whether all of it is proved, each alias on the way included.
    pub security: Security,
    /// The name at the end of the aliases (CNAME) that were followed; the name asked for where there were none.
    pub canonical: Name,
    /// How long this holds. Zero is respected.
    pub ttl: Duration,
}

/// What a lookup gives.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Found, Failure>> + Send + 'a>>;

/// Who answers questions about names.
pub trait Lookup: Send + Sync + 'static {
    /// Looks up the records of one type, following aliases.
    fn look_up<'a>(&'a self, name: &'a Name, kind: RecordType) -> Answer<'a>;
}

impl<L: Lookup + ?Sized> Lookup for Arc<L> {
    fn look_up<'a>(&'a self, name: &'a Name, kind: RecordType) -> Answer<'a> {
        (**self).look_up(name, kind)
    }
}
