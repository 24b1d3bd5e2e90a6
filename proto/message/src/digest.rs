//! What readers ask often of a message, worked out once when it comes in and kept beside it.
//!
//! Text values are the octets of the message, unfolded (RFC 5322 §2.2.3), never decoded: IMAP wants them as they are.
//! Offsets count from the first octet of the stored message, prefix included.

mod wire;

pub use wire::{DEPTH_DECODED_MAX, VERSION, decode_envelope};

use std::ops::Range;

/// An address of an envelope field, in IMAP's sense (RFC 3501 §7.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvelopeAddress {
    /// A mailbox.
    Mailbox {
        /// Display name, quotes removed, encoded words kept.
        name: Option<Vec<u8>>,
        /// Obsolete source route.
        route: Option<Vec<u8>>,
        /// Before the at sign.
        local: Vec<u8>,
        /// After the at sign; empty where the message has none.
        host: Vec<u8>,
    },
    /// A group begins.
    GroupStart(Vec<u8>),
    /// The group ends.
    GroupEnd,
}

/// Header fields of the message in IMAP's ENVELOPE form (RFC 3501 §7.4.2). `None` or empty: the field is absent.
/// Sender and Reply-To are as in the message; who renders them falls back to From.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// Date:
    pub date: Option<Vec<u8>>,
    /// Subject:
    pub subject: Option<Vec<u8>>,
    /// From:
    pub from: Vec<EnvelopeAddress>,
    /// Sender:
    pub sender: Vec<EnvelopeAddress>,
    /// Reply-To:
    pub reply_to: Vec<EnvelopeAddress>,
    /// To:
    pub to: Vec<EnvelopeAddress>,
    /// Cc:
    pub cc: Vec<EnvelopeAddress>,
    /// Bcc:
    pub bcc: Vec<EnvelopeAddress>,
    /// In-Reply-To:
    pub in_reply_to: Option<Vec<u8>>,
    /// Message-ID:
    pub message_id: Option<Vec<u8>>,
}

/// A parameter of Content-Type or Content-Disposition; RFC 2231 continuations joined, values otherwise undecoded.
pub type Parameters = Vec<(Vec<u8>, Vec<u8>)>;

/// One part of the MIME structure. The message itself is a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Media type, lower case, such as `text`.
    pub media_type: Vec<u8>,
    /// Subtype, lower case, such as `plain`.
    pub subtype: Vec<u8>,
    /// Parameters of Content-Type.
    pub parameters: Parameters,
    /// Content-ID:
    pub id: Option<Vec<u8>>,
    /// Content-Description:
    pub description: Option<Vec<u8>>,
    /// Content-Transfer-Encoding, lower case; `7bit` where absent.
    pub encoding: Vec<u8>,
    /// Content-MD5:
    pub md5: Option<Vec<u8>>,
    /// Content-Disposition: its type in lower case and its parameters.
    pub disposition: Option<(Vec<u8>, Parameters)>,
    /// Content-Language: its tags.
    pub language: Vec<Vec<u8>>,
    /// Content-Location:
    pub location: Option<Vec<u8>>,
    /// The part's header section, the empty line that ends it included. For the message, its header section.
    pub header: Range<u64>,
    /// The part's body. A boundary's leading CRLF is not part of it.
    pub body: Range<u64>,
    /// Line ends in the body.
    pub lines: u64,
    /// What the part holds.
    pub content: Content,
}

/// What a part holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Octets: text, image, application, or whatever lies beyond a limit.
    Leaf,
    /// multipart/*: at least one part.
    Multipart(Vec<Part>),
    /// message/rfc822: the inner message's envelope and its top part, whose header is that of the inner message.
    Message(Box<Envelope>, Box<Part>),
}

/// The digest of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Its envelope fields.
    pub envelope: Envelope,
    /// Its structure.
    pub part: Part,
    /// Seconds since 1970 of the Date: field in UTC, with the zone's minutes; `None` where it cannot be read.
    pub date: Option<(i64, i16)>,
}
