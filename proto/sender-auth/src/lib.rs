//! Signing and, later, verifying who wrote a message: DKIM, and the rewriting of reverse-paths (SRS).

pub mod dkim;
pub mod srs;
