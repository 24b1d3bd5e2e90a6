//! The grammar of commands: text to types, once, at the door. Not order, not policy.

mod parameters;
mod path;
mod verb;

pub(crate) use parameters::{mail, recipient, verify};
pub(crate) use path::etrn_domain;
pub(crate) use verb::{Verb, chunk, split};

use crate::config::Extensions;

/// What is wrong with a command's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not `FROM:<path>`.
    MailSyntax,
    /// Not `TO:<path>`.
    RecipientSyntax,
    /// VRFY without an address.
    VerifySyntax,
    /// The path of MAIL holds no address.
    BadReversePath,
    /// The path of RCPT holds no address.
    BadRecipient,
    /// The path of MAIL holds a local part only.
    ReversePathWithoutDomain(String),
    /// The path of RCPT holds a local part only.
    RecipientWithoutDomain(String),
    /// Beyond ASCII without SMTPUTF8.
    NeedsUtf8,
    /// A parameter that we do not know, or do not offer.
    Unsupported(String),
    /// A parameter that we know, with a value that is none, or given twice.
    BadParameter(&'static str),
    /// SIZE beyond the limit.
    TooBig,
}

/// What of the grammar is on offer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    /// Extensions whose parameters are known.
    pub extensions: Extensions,
    /// Limit for SIZE.
    pub message_octets_max: u64,
    /// The domain of a bare `postmaster`.
    pub host_name: &'a str,
}
