//! SEARCH: what a client may look for, and how it is found.
//!
//! [`parse`] reads the criteria, [`SearchRun`] decides message by message whether they hold: from the snapshot where that
//! is enough, then from digests, and only for what is still undecided from the octets of messages, which pass by in
//! pieces. Memory stays bounded however large messages are, and time is linear in what is read.

mod criteria;
mod keys;
mod octets;
mod render;
mod run;
mod text;

pub use keys::{
    EnvelopeField, KEYS_MAX, NEEDLE_OCTETS_MAX, ReturnOptions, SearchError, SearchKey, SearchProgram, TEXT_KEYS_MAX,
    parse,
};
pub use run::SearchRun;
