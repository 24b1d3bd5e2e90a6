//! DKIM signatures (RFC 6376, RFC 8301, RFC 8463): how they are made.
//!
//! [`Recipe`] says how; [`BodyHash`] takes the body while it passes; [`Recipe::sign`] gives the fields to be put on top,
//! one for each [`SigningKey`]. Which keys belong to a message, and that it is signed last of all, is for others to
//! know. Nothing here verifies yet.

mod canonical;
mod key;
mod sign;

pub use canonical::{BodyDigest, BodyHash, Canonical};
pub use key::{
    Algorithm, KEY_OCTETS_MAX, KeyError, RSA_BITS_MIN, Selector, SigningKey, TXT_STRING_OCTETS_MAX, txt_strings,
};
pub use sign::{
    FIELDS, FieldsError, HEADER_OCTETS_MAX, INSTANCES_MAX, NAMES_MAX, Recipe, SignError, Signable, SignedFields,
};
