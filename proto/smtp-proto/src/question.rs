//! What an SMTP session asks of the house, and what it is told.

use mail::{AccountName, Domain, Envelope, PeerFacts, Recipient, Reply, TlsFacts};
pub use sasl::AuthFailure;
use sasl::Credentials;
use std::sync::Arc;

/// The role of the listener that a session runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Port 25: takes mail from other servers.
    Mx,
    /// Ports 587 and 465: takes mail from authenticated accounts.
    Submission,
    /// RFC 2033: takes mail for final delivery, one reply per recipient.
    Lmtp,
}

/// The protocol that the client speaks, for trace fields (RFC 3848).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// HELO.
    Helo,
    /// EHLO.
    Ehlo,
    /// LHLO.
    Lhlo,
}

/// What is known of the client of a session. A new value replaces it when something changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Where it comes from.
    pub peer: PeerFacts,
    /// The listener's role.
    pub role: Role,
    /// How it greeted, and the name it gave, as given but free of control characters. `None` before the greeting.
    pub greeting: Option<(Greeting, String)>,
    /// The TLS layer, once there is one.
    pub tls: Option<TlsFacts>,
    /// The account that it authenticated as.
    pub account: Option<AccountName>,
}

/// A question of the session; every one names the client as known now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// May this client connect? Answered by [`Answer::Verdict`]; a refusal is sent in place of the greeting.
    Connect {
        /// The client.
        client: Arc<Client>,
    },
    /// Do these credentials fit? Answered by [`Answer::Authenticated`].
    Authenticate {
        /// The client.
        client: Arc<Client>,
        /// What it presented.
        credentials: Credentials,
    },
    /// May a transaction begin with this reverse-path and these parameters? Answered by [`Answer::Verdict`].
    Mail {
        /// The client.
        client: Arc<Client>,
        /// Without recipients as yet.
        envelope: Arc<Envelope>,
    },
    /// Is this recipient taken? Answered by [`Answer::Verdict`].
    Recipient {
        /// The client.
        client: Arc<Client>,
        /// With the recipients taken so far.
        envelope: Arc<Envelope>,
        /// The recipient asked about.
        recipient: Recipient,
    },
    /// VRFY: is this an address we would take mail for? Answered by [`Answer::Reply`].
    Verify {
        /// The client.
        client: Arc<Client>,
        /// The address.
        recipient: Recipient,
    },
    /// ETRN for a domain (RFC 1985). Answered by [`Answer::Reply`].
    Etrn {
        /// The client.
        client: Arc<Client>,
        /// The domain.
        domain: Domain,
    },
    /// The message is about to come: prepare a staged body for the `Step::Body` steps that follow. Answered by
    /// [`Answer::Verdict`]; a refusal is the reply to DATA, or to the BDAT after its octets are read.
    BeginBody {
        /// The client.
        client: Arc<Client>,
        /// Complete.
        envelope: Arc<Envelope>,
    },
    /// The message is complete: judge, route, commit. Answered by [`Answer::Replies`]: one reply in SMTP; in LMTP one
    /// for each recipient of the envelope, in order.
    EndOfMessage {
        /// The client.
        client: Arc<Client>,
        /// Complete.
        envelope: Arc<Envelope>,
    },
    /// The transaction ended without a message being committed: throw away what was staged. Answered by
    /// [`Answer::Done`].
    Abandon {
        /// The client.
        client: Arc<Client>,
        /// Complete.
        envelope: Arc<Envelope>,
        /// Why.
        cause: Abandoned,
    },
}

/// Why a message was not taken although its text had begun to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Abandoned {
    /// The client gave it up: by RSET, EHLO, QUIT, or with the connection.
    ByClient,
    /// It is too large: what the client hears.
    Refused(Reply),
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes, or the reply that refuses.
    Verdict(Result<(), Reply>),
    /// This reply.
    Reply(Reply),
    /// These replies.
    Replies(Vec<Reply>),
    /// The account, or why not.
    Authenticated(Result<AccountName, AuthFailure>),
    /// Done as asked.
    Done,
}
