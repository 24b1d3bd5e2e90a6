//! SMTP, submission and LMTP without input or output: the accepting side, and in [`client`] the sending one.
//!
//! [`Session`] is one connection from greeting to close. It takes the client's octets, asks the house its
//! [`Question`]s, hands out the message text as `Step::Body`, and writes the replies. It decides what is grammar and
//! what is order (RFC 5321, RFC 2033 and their extensions); who may send what to whom is the house's answer.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `config` | what a listener is, offers and limits |
//! | `question` | what a session asks, and what it is told |
//! | `session` | the machine: its phases, and a file for each group of commands |
//! | `grammar` | commands, paths and parameters: text to types, once |
//! | `data` | DATA and BDAT octets to stored text; where a message ends, and what never ends one |
//! | `input` | octets to lines, in bounded memory |
//! | `reply` | every text that the machine says of itself |
//! | `client` | the sending side: a machine, questions, types and grammar of its own |

pub mod client;
pub mod config;
pub mod data;
mod grammar;
mod input;
pub mod question;
mod reply;
mod session;

pub use config::{Config, Extensions};
pub use question::{Answer, AuthFailure, Client, Greeting, Question, Role};
pub use session::Session;
