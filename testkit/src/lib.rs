//! What tests need and production does not: the runner for text dialogues, the disks that a power cut leaves, what is logged,
//! a TLS client that takes any certificate.
//!
//! A development dependency only. It knows no protocol; a crate under test brings its machine and its world.

pub mod citations;
pub mod dialogue;
pub mod log;
pub mod powercut;
pub mod tidy;
pub mod tls;
