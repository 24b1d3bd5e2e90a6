//! The power-cut test of the store (`docs/design/power-cut.md`).
//!
//! A workload runs on a real store under the recorder and says, in the record itself, what it begins and what it was
//! told is done ([`mark`]). From the record the test kit builds the folders that a power cut could leave; each is opened
//! and held against what had been said by then ([`check`]). What a deed does is known from a plain [`model`] of
//! mailboxes and queue that shares no code with the store.

pub mod body;
pub mod check;
pub mod ledger;
pub mod mark;
pub mod model;
pub mod queued;
pub mod reading;
pub mod workload;
