//! POP3, the server's side: a session as a machine without input or output.
//!
//! [`Session`] takes the client's octets and the house's answers and says what is to be sent and asked next; the order of
//! events is that of [`mail::Machine`]. It covers RFC 1939 without APOP, the capabilities of RFC 2449, STLS (RFC 2595),
//! AUTH (RFC 5034, before it RFC 1734) and the response codes of RFC 3206. It does not know how mail is stored: the
//! maildrop is a [`mail::Snapshot`], and octets come by [`Question::Read`].

mod command;
mod config;
mod lines;
mod maildrop;
mod multiline;
pub mod question;
mod session;

pub use config::{Capability, Config, IDLE_TIMEOUT};
pub use maildrop::unique_id;
pub use question::{Answer, AuthFailure, Question, Unavailable};
pub use session::Session;
