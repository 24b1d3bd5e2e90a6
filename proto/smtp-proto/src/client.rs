//! SMTP and LMTP, the sending side, without input or output.
//!
//! A [`Session`] is one connection to a next hop, from its greeting to the close, with as many transactions as the house
//! has for it. The house (for us: whatever holds the queue) is asked four things:
//!
//! 1. [`Question::Idle`]: nothing is in hand, what next? Asked when the opening (greeting, EHLO, STARTTLS, AUTH) is done, and
//!    after every transaction that left the session usable. Answered by a [`Transaction`] or by [`Answer::Quit`]; until
//!    then the connection is kept.
//! 2. [`Question::Body`]: the next octets of the message of the transaction in hand; only asked once the peer is ready.
//! 3. [`Question::Finished`]: what came of the transaction, recipient by recipient. Exactly one for each transaction.
//! 4. [`Question::Ended`]: the session takes no more transactions, and why. Exactly one, always the last question.
//!
//! Beyond the duties of every driver ([`mail::Machine`]), the one who drives this machine
//!
//! - starts TLS as the connecting side on `Step::StartTls`, and calls `end_of_input` if the handshake fails;
//! - calls `end_of_input` when a write fails, and goes on until `Step::Close`, throwing further writes away, so that every
//!   recipient gets its result. What can still be read should be delivered before: it often holds the reason;
//! - holds each write to [`Timeouts::block`], for a machine sees no time while it is written.
//!
//! What the machine promises: a recipient is reported [`Fate::Taken`] only for a positive reply to the end of the data
//! (in LMTP for its own); nothing that was read in the clear is believed inside TLS (V3, V4); no bare CR or LF goes out
//! (V1); no address, parameter or name given to it adds a command line; and nothing of what a peer says leaves with a
//! control character in it (V13).
//!
//! | file | what it holds |
//! | --- | --- |
//! | `config` | how a session goes about it: protocol, TLS, credentials, limits, time-outs |
//! | `question` | what a session asks, is answered, and reports |
//! | `verdict` | what a result means for the queue: outcome, enhanced status, words |
//! | `offers` | what the peer announces |
//! | `replies` | the peer's octets to replies, in bounded memory |
//! | `command` | MAIL and RCPT as text |
//! | `plan` | which parameters a transaction gets from this peer, and what stands in its way |
//! | `text` | message text on its way out: line ends and dots |
//! | `session` | the machine, and a file for each of its parts |

mod command;
mod config;
mod offers;
mod plan;
mod question;
mod replies;
mod session;
mod text;
mod verdict;

pub use config::{Config, Protocol, ReplyLimits, Timeouts, TlsDemand};
pub use offers::Offers;
pub use question::{
    Answer, AuthObstacle, Body, Content, Ending, Fate, Fault, InTheClear, Loss, Obstacle, Part, Peer, Protection,
    Question, Report, Stage, Transaction,
};
pub use replies::ReplyFault;
pub use session::Session;
pub use verdict::Verdict;
