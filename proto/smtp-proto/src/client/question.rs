//! What a client session asks of the house, what it is answered, and the results it reports.

use super::offers::Offers;
use super::replies::ReplyFault;
use crate::question::Greeting;
use mail::{DsnReturn, PeerFacts, Recipient, Reply, ReversePath, TlsFacts};
use std::sync::Arc;

/// A question of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Nothing is in hand: what next? Answered by [`Answer::Transaction`] or [`Answer::Quit`].
    Idle {
        /// The peer as known now.
        peer: Arc<Peer>,
    },
    /// The next octets of the message in hand. Answered by [`Answer::Body`].
    Body,
    /// The transaction is over. Answered by [`Answer::Done`].
    Finished(Report),
    /// The session takes no more transactions. Answered by [`Answer::Done`]; what follows is at most a QUIT, and the
    /// close.
    Ended {
        /// The peer as known at the end.
        peer: Arc<Peer>,
        /// Why.
        ending: Ending,
    },
}

/// The answer to a question. One that does not belong to the question is our own bug; it counts as [`Answer::Quit`], or as
/// a body that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Send this.
    Transaction(Box<Transaction>),
    /// Say goodbye.
    Quit,
    /// The next of the message.
    Body(Body),
    /// Heard.
    Done,
}

/// A part of a message on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The next octets, however many there are at hand; they go out in bounded steps.
    ///
    /// Lines should end in CRLF. A bare LF goes out as CRLF and a bare CR as a space, as everywhere in the house (V1); a last
    /// line without an end gets one. Lines are not split, however long: RFC 5321 §4.5.3.1.6 allows 998 octets, and
    /// whoever made longer ones may have signed them.
    Octets(Vec<u8>),
    /// There is no more.
    End,
    /// The rest cannot be had. The connection is closed before the end of the data, so that no part of the message is
    /// taken for the whole.
    Failed,
}

/// What octets a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// ASCII alone. This is the house's word, which is not checked.
    SevenBit,
    /// Others too, in lines: needs 8BITMIME (RFC 6152).
    EightBit,
}

/// One message for some recipients, to be sent in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Where failures are reported.
    pub reverse_path: ReversePath,
    /// Whom it is for. Some thousands are well; each costs a result with a reply of at most
    /// [`REASON_OCTETS_MAX`](mail::queue::REASON_OCTETS_MAX) octets.
    pub recipients: Vec<Recipient>,
    /// Its size, for SIZE (RFC 1870); a good estimate will do.
    pub octets: Option<u64>,
    /// What octets it holds.
    pub content: Content,
    /// Whether the message itself needs SMTPUTF8 (RFC 6531 §3.4). Of addresses the session knows without being told.
    pub smtputf8: bool,
    /// Whether it was sent with REQUIRETLS (RFC 8689). That the peer's certificate is good enough for it is the house's
    /// care.
    pub require_tls: bool,
    /// RET (RFC 3461 §4.3).
    pub dsn_return: Option<DsnReturn>,
    /// ENVID, decoded (RFC 3461 §4.4).
    pub envelope_id: Option<String>,
}

impl Transaction {
    /// A transaction without parameters.
    pub fn new(reverse_path: ReversePath, recipients: Vec<Recipient>, content: Content) -> Transaction {
        Transaction {
            reverse_path,
            recipients,
            octets: None,
            content,
            smtputf8: false,
            require_tls: false,
            dsn_return: None,
            envelope_id: None,
        }
    }
}

/// What came of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One result for each recipient, in their order.
    pub fates: Vec<Fate>,
    /// Whether the session goes on: [`Question::Idle`] follows, else [`Question::Ended`].
    pub usable: bool,
}

/// What came of one recipient. [`Fate::verdict`] says what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The peer took the message for it, and with it the duty.
    Taken(Arc<Reply>),
    /// The peer said no.
    Refused {
        /// To what.
        at: Stage,
        /// How.
        reply: Arc<Reply>,
    },
    /// The peer took some recipients and then no more (RFC 5321 §4.5.3.1.10): send to it in another transaction at once,
    /// on this connection if it is usable. That goes on for no longer than there are recipients: in each such transaction at
    /// least one has another fate.
    Surplus(Arc<Reply>),
    /// It cannot be sent to this peer as it is; nothing was said for it. Another host of the destination may be able.
    Unable(Obstacle),
    /// The session ended before there was a result. At [`Stage::EndOfData`] the peer may have taken the message; before,
    /// it certainly has not.
    Lost {
        /// When.
        at: Stage,
        /// How.
        loss: Loss,
    },
}

/// How far a transaction was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// At MAIL.
    Mail,
    /// At RCPT.
    Recipient,
    /// At DATA.
    Data,
    /// In the text; the end of the data was not sent.
    Body,
    /// After the end of the data.
    EndOfData,
}

/// Why a transaction cannot be sent to this peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// It is 8-bit text, and the peer does not offer 8BITMIME.
    NeedsEightBit,
    /// The message or one of its addresses needs SMTPUTF8, and the peer does not offer it. The house may send a downgraded
    /// form instead.
    NeedsSmtpUtf8,
    /// REQUIRETLS is wanted, and the session is not inside TLS.
    NeedsTls,
    /// REQUIRETLS is wanted, and the peer does not offer it (RFC 8689 §4.2.1).
    NeedsRequireTls,
    /// It is larger than what the peer ever takes (RFC 1870 §4).
    TooBig {
        /// The peer's limit in octets.
        octets_max: u64,
    },
}

/// How a session was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The peer closed the connection, or it broke.
    Closed,
    /// The peer did not answer in time.
    TimedOut,
    /// The peer ended the session by a 421, or by a refusal in the midst of the text.
    Goodbye(Arc<Reply>),
    /// What the peer said is no dialogue.
    Broken(Fault),
    /// The house could not give the rest of the message.
    BodyFailed,
}

/// What is wrong with what a peer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is no reply, or beyond the limits.
    Reply(ReplyFault),
    /// A reply with this code, which does not fit the command.
    Unexpected(u16),
    /// A reply to nothing.
    OutOfTurn,
    /// Octets in the clear after the reply to STARTTLS (V4).
    ClearTextAfterStartTls,
}

/// A part of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Waiting for the greeting.
    Greeting,
    /// EHLO, HELO or LHLO.
    Hello,
    /// STARTTLS, up to the handshake.
    StartTls,
    /// AUTH.
    Authentication,
    /// Between transactions.
    Idle,
    /// In a transaction, whose results were reported before.
    Transaction,
}

/// Why a session takes no more transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The house had no more for it.
    Quit,
    /// The peer does not want us: at the greeting, EHLO, AUTH, or STARTTLS where TLS is required.
    Refused {
        /// To what.
        at: Part,
        /// How.
        reply: Arc<Reply>,
    },
    /// TLS is required, and the peer does not offer it.
    TlsNotOffered,
    /// The handshake did not come to its end.
    HandshakeFailed,
    /// There are credentials, and they cannot be used.
    AuthenticationImpossible(AuthObstacle),
    /// The session was lost.
    Lost {
        /// When.
        at: Part,
        /// How.
        loss: Loss,
    },
}

/// Why credentials cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthObstacle {
    /// The session is not inside TLS.
    NoTls,
    /// The peer offers no AUTH, or no mechanism that we know.
    NotOffered,
    /// The mechanism cannot carry them.
    Unusable,
}

/// What is known of the peer. A new value replaces it when something changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The connection.
    pub connection: PeerFacts,
    /// Its greeting, unless TLS was started since.
    pub greeting: Option<Arc<Reply>>,
    /// How we greeted it last, once it said yes.
    pub hello: Option<Greeting>,
    /// The name it gave in reply.
    pub name: Option<String>,
    /// What it announced in reply.
    pub offers: Offers,
    /// Whether the session is inside TLS, or why it is not.
    pub protection: Protection,
    /// Whether we authenticated.
    pub authenticated: bool,
}

/// Whether a session is inside TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// It is, from the start or since STARTTLS.
    Tls(TlsFacts),
    /// It is not.
    Clear(InTheClear),
}

/// Why a session is not inside TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InTheClear {
    /// It was not asked for, or not yet.
    NotTried,
    /// The peer does not offer it.
    NotOffered,
    /// The peer refused it.
    Refused(Arc<Reply>),
}

impl Protection {
    /// Whether the session is inside TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Protection::Tls(_))
    }
}
