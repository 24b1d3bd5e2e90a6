//! (being built)
pub mod question;
