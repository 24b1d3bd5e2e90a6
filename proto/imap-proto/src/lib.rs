//! IMAP4rev1 (RFC 3501) and its extensions: grammar, encoder, session machine, the view of a selected mailbox.
//!
//! [`Session`] is a `mail::Machine`: octets, answers and the time go in, responses and questions come out. A command
//! is read by the [`lexer`], and run by its file in `commands`, which asks the house what it needs ([`question`]). The
//! [`view`] keeps what the client was told of the selected mailbox apart from what is true now. [`fetch`], [`search`]
//! and [`list`] hold what these three large commands mean. No sockets, no disk, no clock.

mod capability;
mod commands;
pub mod config;
pub mod encode;
pub mod fetch;
mod input;
pub mod lexer;
pub mod list;
pub mod mutf7;
mod next;
pub mod question;
pub mod search;
pub mod sequence_set;
mod session;
mod state;
pub mod view;

pub use config::Config;
pub use lexer::BadCommand;
pub use question::{Answer, Question};
pub use session::Session;
