//! The envelope: who a message is from and for, outside the message itself.

use crate::address::Address;
use std::fmt;

/// Name of one accepted message, in every reply, log line and trace field. Upper-case hexadecimal in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

impl QueueId {
    /// Reads the text form.
    pub fn parse(text: &str) -> Option<QueueId> {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u64::from_str_radix(text, 16).ok().map(QueueId))?
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}", self.0)
    }
}

/// Where reports of failure go: the path of MAIL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: never bounced to.
    Null,
    /// An address.
    Address(Address),
}

impl fmt::Display for ReversePath {
    /// Without angle brackets; empty for the null reverse-path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReversePath::Null => Ok(()),
            ReversePath::Address(address) => address.fmt(f),
        }
    }
}

/// When a recipient's sender wants reports (RFC 3461 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notify {
    /// No report at all.
    Never,
    /// Reports for the marked events.
    On {
        /// When delivered.
        success: bool,
        /// When it failed for good.
        failure: bool,
        /// When it takes long.
        delay: bool,
    },
}

/// How much of the message a failure report returns (RFC 3461 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DsnReturn {
    /// The whole message.
    Full,
    /// Only its header section.
    Headers,
}

/// Forward-path of one RCPT, with its DSN parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Whom the message is for.
    pub address: Address,
    /// NOTIFY; `None` when the client gave none.
    pub notify: Option<Notify>,
    /// ORCPT in its decoded form, `type;address` (RFC 3461 §4.2).
    pub original: Option<String>,
}

impl Recipient {
    /// A recipient without parameters.
    pub fn new(address: Address) -> Recipient {
        Recipient { address, notify: None, original: None }
    }
}

/// Reverse-path, recipients and parameters of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Where failures are reported.
    pub reverse_path: ReversePath,
    /// Whom it is for, in the order given.
    pub recipients: Vec<Recipient>,
    /// SIZE in octets, as declared by the client (RFC 1870).
    pub declared_size_octets: Option<u64>,
    /// BODY=8BITMIME or BINARYMIME was declared (RFC 6152, RFC 3030).
    pub eight_bit: bool,
    /// SMTPUTF8 was declared (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS was declared (RFC 8689): the message may only travel over verified TLS.
    pub require_tls: bool,
    /// RET (RFC 3461 §4.3).
    pub dsn_return: Option<DsnReturn>,
    /// ENVID in its decoded form (RFC 3461 §4.4).
    pub envelope_id: Option<String>,
}

impl Envelope {
    /// An envelope without recipients and parameters.
    pub fn new(reverse_path: ReversePath) -> Envelope {
        Envelope {
            reverse_path,
            recipients: Vec::new(),
            declared_size_octets: None,
            eight_bit: false,
            smtputf8: false,
            require_tls: false,
            dsn_return: None,
            envelope_id: None,
        }
    }
}
