//! FETCH: what a client may ask of messages, and how it is answered.
//!
//! [`parse`] reads the arguments behind the message set, [`FetchRun`] writes the responses. Neither reads a message by
//! itself: the run asks for digests and octets in batches, and writes in portions, so that memory stays bounded
//! however much is fetched.

mod bodystructure;
mod envelope;
mod header_filter;
#[cfg(test)]
pub(crate) mod house;
mod items;
mod large;
mod plan;
mod response;
mod run;
mod sections;

pub use items::{
    FetchItems, HEADER_NAMES_MAX, ITEMS_MAX, Item, Partial, SECTION_NUMBERS_MAX, Section, SectionItem, SectionText,
    Spelling, parse,
};
pub use run::{
    BATCH_DIGEST_OCTETS_MAX, BATCH_MESSAGES_MAX, BATCH_OCTETS_MAX, DigestBatch, FetchRun, PIECE_OCTETS_MAX,
    PORTION_OCTETS, RunStep,
};
