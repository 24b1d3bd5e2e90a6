//! The machine: one connection from greeting to close.
//!
//! The story is [`Session::advance`]: what each phase does next. A phase holds what it needs, so a recipient without a
//! transaction, or text without a recipient, cannot be written down. The files below hold a group of commands each.

mod authentication;
mod body;
mod commands;
mod greeting;
mod transaction;

use crate::config::{Config, Extensions};
use crate::input::{Input, LineEnds};
use crate::question::{Abandoned, Answer, Client, Question, Role};
use crate::reply;
use body::{Chunk, Pace, Receiving};
use mail::{Machine, Moment, PeerFacts, Recipient, Reply, Step, TlsFacts};
use sasl::Exchange;
use std::sync::Arc;
use transaction::Transaction;

/// Replies are gathered while commands come in groups (RFC 2920), up to so many octets.
const OUTPUT_OCTETS_MAX: usize = 32 * 1024;
/// Commands that move no mail, after which more of them are errors.
const IDLE_TALK_MAX: u32 = 100;
/// Room for gathered replies that is kept from one write to the next.
const OUTPUT_OCTETS_KEPT: usize = 512;

/// One SMTP, submission or LMTP session, accepting side.
///
/// Beyond the driver's duties ([`Machine`]): a body that was begun ([`Question::BeginBody`] answered with yes) is followed
/// by exactly one of [`Question::EndOfMessage`] and [`Question::Abandon`], unless the session is dropped before; so
/// whatever holds a staged body must also let go of it when it is dropped itself.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    client: Arc<Client>,
    line_ends: LineEnds,
    phase: Phase,
    input: Input,
    output: Vec<u8>,
    /// When the wait for the next command ends; `None` until we wait.
    deadline: Option<Moment>,
    errors: u32,
    idle_talk: u32,
    stopping: bool,
}

/// What the session is at.
#[derive(Debug)]
enum Phase {
    /// Before the greeting, until the moment when enough was listened; `None` before the first step.
    Opening(Option<Moment>),
    /// Between two commands.
    Commands(Standing),
    /// After a challenge of AUTH.
    Challenge(Exchange),
    /// After DATA.
    Data(Box<Receiving>, Pace),
    /// After BDAT.
    Chunk(Box<Chunk>),
    /// A question is to be asked.
    Ask(Question, Pending),
    /// A question is out.
    Asked(Pending),
    /// The house refused the connection, but the client may say QUIT (RFC 5321 §3.1).
    TurnedAway,
    /// TLS is promised.
    TlsPromised,
    /// The handshake runs.
    TlsHandshake,
    /// Nothing but the close is left.
    Closing,
}

/// How far a transaction is, between two commands.
#[derive(Debug)]
enum Standing {
    /// There is none.
    Idle,
    /// MAIL was taken.
    InMail(Box<Transaction>),
    /// Chunks were taken, and more must follow.
    InChunks(Box<Receiving>),
}

/// What goes on when the answer is there.
#[derive(Debug)]
enum Pending {
    Connect,
    Authenticate,
    Mail(Box<Transaction>),
    Recipient(Box<Transaction>, Recipient),
    /// VRFY or ETRN, in the midst of whatever stands.
    Lookup(Standing),
    Data(Box<Transaction>),
    Chunk(Box<Transaction>, u64, bool),
    EndOfMessage(Box<Transaction>),
    Abandon(Box<Phase>),
}

/// A phase, and the step that is due in it.
type Turn = (Phase, Option<Step<Question>>);

impl Session {
    /// A session at its very start.
    pub fn new(config: Arc<Config>, peer: PeerFacts) -> Session {
        let tls = peer.tls.clone();
        let client = Arc::new(Client { peer, role: config.role, greeting: None, tls, account: None });
        let line_ends = if config.lenient_line_ends { LineEnds::Lenient } else { LineEnds::Strict };
        Session {
            config,
            client,
            line_ends,
            phase: Phase::Opening(None),
            input: Input::default(),
            output: Vec::new(),
            deadline: None,
            errors: 0,
            idle_talk: 0,
            stopping: false,
        }
    }

    /// Decides for this session alone whether a bare LF is a line end (R198), whatever the listener's default is. Only for
    /// clients of trusted networks.
    pub fn with_lenient_line_ends(mut self, lenient: bool) -> Session {
        self.line_ends = if lenient { LineEnds::Lenient } else { LineEnds::Strict };
        self
    }

    /// The client as known now.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Whether the client has made so many errors that the driver may take its time (`errors_soft_max`).
    pub fn is_slowed(&self) -> bool {
        self.errors >= self.config.errors_soft_max
    }

    /// What the phase does next: the phase that follows, and a step if one is due.
    fn advance(&mut self, phase: Phase, now: Moment) -> Turn {
        match phase {
            Phase::Opening(until) => self.open(until, now),
            Phase::Commands(standing) => self.command(standing, now),
            Phase::Challenge(exchange) => self.response(exchange, now),
            Phase::Data(receiving, pace) => self.data_octets(receiving, pace, now),
            Phase::Chunk(chunk) => self.chunk_octets(chunk, now),
            Phase::Ask(question, pending) => (Phase::Asked(pending), Some(Step::Ask(question))),
            // The driver asks before it answers: there is nothing to do.
            Phase::Asked(pending) => {
                let deadline = now.after(self.config.command_timeout);
                (Phase::Asked(pending), Some(Step::Wait { deadline, notices: false }))
            }
            Phase::TurnedAway => self.turn_away(now),
            Phase::TlsPromised if self.output.is_empty() => (Phase::TlsHandshake, Some(Step::StartTls)),
            Phase::TlsPromised => (Phase::TlsPromised, Some(self.write())),
            Phase::TlsHandshake => self.wait(Phase::TlsHandshake, now),
            Phase::Closing if self.output.is_empty() => (Phase::Closing, Some(Step::Close)),
            Phase::Closing => (Phase::Closing, Some(self.write())),
        }
    }

    /// Goes on with the answer to a question. An answer that does not belong to it is our own bug, and costs the client a
    /// temporary refusal.
    fn resume(&mut self, pending: Pending, answer: Answer) -> Phase {
        match pending {
            Pending::Connect => self.connected(verdict(answer)),
            Pending::Authenticate => self.authenticated(answer),
            Pending::Mail(transaction) => self.mail_judged(transaction, verdict(answer)),
            Pending::Recipient(transaction, recipient) => {
                self.recipient_judged(transaction, recipient, verdict(answer))
            }
            Pending::Lookup(standing) => self.pass_on(&one_reply(answer), standing),
            Pending::Data(transaction) => self.data_judged(transaction, verdict(answer)),
            Pending::Chunk(transaction, octets, last) => {
                self.first_chunk_judged(transaction, octets, last, verdict(answer))
            }
            Pending::EndOfMessage(transaction) => self.message_judged(&transaction, answer),
            Pending::Abandon(then) => *then,
        }
    }

    /// Nothing can be done without octets: says what is to be said, notices a broken connection and a deadline, waits.
    fn wait(&mut self, mut phase: Phase, now: Moment) -> Turn {
        if !self.output.is_empty() {
            return (phase, Some(self.write()));
        }
        if self.input.has_ended() {
            return (self.end(phase), None);
        }
        let deadline = match &mut phase {
            Phase::Data(_, pace) => pace.deadline(self.config.data_timeout, now),
            Phase::Chunk(chunk) => chunk.pace.deadline(self.config.data_timeout, now),
            _ => *self.deadline.get_or_insert(now.after(self.config.command_timeout)),
        };
        if now >= deadline {
            self.say(&reply::timeout(&self.config.host_name));
            return (self.end(phase), None);
        }
        self.input.release();
        (phase, Some(Step::Wait { deadline, notices: false }))
    }

    fn write(&mut self) -> Step<Question> {
        Step::Write(std::mem::replace(&mut self.output, Vec::with_capacity(OUTPUT_OCTETS_KEPT)))
    }

    fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// Says no, and counts it.
    fn refuse(&mut self, line: &str) {
        self.errors = self.errors.saturating_add(1);
        self.say(line);
    }

    /// Passes on what the house says. Whether the connection must be closed after it (RFC 5321 §3.8, RFC 7504).
    fn say_reply(&mut self, reply: &Reply) -> bool {
        // LMTP comes from our own kind: what it asks for in vain are not its errors.
        if !reply.is_positive() && self.config.role != Role::Lmtp {
            self.errors = self.errors.saturating_add(1);
        }
        reply.write(&mut self.output);
        matches!(reply.code, 421 | 521)
    }

    /// Ends the session, and the transaction with it.
    fn close(&mut self, standing: Standing) -> Phase {
        self.end_transaction(standing, Phase::Closing)
    }

    /// The way from a phase to the close.
    fn end(&self, phase: Phase) -> Phase {
        match phase {
            Phase::Commands(standing) => self.end_transaction(standing, Phase::Closing),
            Phase::Data(receiving, _) => self.end_transaction(Standing::InChunks(receiving), Phase::Closing),
            Phase::Chunk(chunk) => self.end_transaction(chunk.into_standing(), Phase::Closing),
            Phase::Opening(_) | Phase::Challenge(_) | Phase::Ask(..) | Phase::Asked(_) => Phase::Closing,
            Phase::TurnedAway | Phase::TlsPromised | Phase::TlsHandshake | Phase::Closing => Phase::Closing,
        }
    }

    /// The client ends the transaction without a message: what was staged of it is thrown away.
    fn end_transaction(&self, standing: Standing, then: Phase) -> Phase {
        match standing {
            Standing::Idle | Standing::InMail(_) => then,
            Standing::InChunks(receiving) => self.abandon(*receiving, Abandoned::ByClient, then),
        }
    }

    /// A message whose text had begun to come is not taken.
    fn abandon(&self, receiving: Receiving, cause: Abandoned, then: Phase) -> Phase {
        let (client, envelope) = (self.client.clone(), receiving.into_envelope());
        Phase::Ask(Question::Abandon { client, envelope, cause }, Pending::Abandon(Box::new(then)))
    }

    /// Passes on a reply of the house, and goes on where it leaves us.
    fn pass_on(&mut self, reply: &Reply, standing: Standing) -> Phase {
        if self.say_reply(reply) { self.close(standing) } else { Phase::Commands(standing) }
    }

    fn offers(&self, extension: Extensions) -> bool {
        self.offered_extensions().contain(extension)
    }

    /// What this client is offered now.
    fn offered_extensions(&self) -> Extensions {
        let config = &self.config;
        let mut extensions = config.extensions;
        if !config.tls_available || self.client.tls.is_some() {
            extensions = extensions.without(Extensions::STARTTLS);
        }
        // RFC 8689 §4: not announced, and so not taken, outside TLS.
        if self.client.tls.is_none() {
            extensions = extensions.without(Extensions::REQUIRETLS);
        }
        // R73, R74: passwords only inside TLS, and never on port 25.
        if !self.auth_is_enabled() || self.client.tls.is_none() {
            extensions = extensions.without(Extensions::AUTH);
        }
        extensions
    }

    fn auth_is_enabled(&self) -> bool {
        let config = &self.config;
        config.auth_offered && config.role != Role::Mx && config.extensions.contain(Extensions::AUTH)
    }
}

impl Machine for Session {
    type Question = Question;
    type Answer = Answer;

    fn next(&mut self, now: Moment) -> Step<Question> {
        loop {
            if self.output.len() > OUTPUT_OCTETS_MAX {
                return self.write();
            }
            let mut phase = std::mem::replace(&mut self.phase, Phase::Closing);
            // RFC 5321 §3.8: a server that goes down says 421 instead of reading the next command.
            if self.stopping && is_command_boundary(&phase) {
                self.say(&reply::shutting_down(&self.config.host_name));
                phase = self.end(phase);
            }
            let (phase, step) = self.advance(phase, now);
            self.phase = phase;
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn receive(&mut self, octets: &[u8]) {
        match self.phase {
            // RFC 3207 §4.2, V3: what is sent in the clear after STARTTLS never existed.
            Phase::TlsPromised | Phase::TlsHandshake | Phase::Closing => {}
            _ => self.input.push(octets),
        }
    }

    fn answer(&mut self, answer: Answer) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Closing) {
            Phase::Asked(pending) => self.resume(pending, answer),
            phase => phase,
        };
    }

    fn notice(&mut self) {}

    fn end_of_input(&mut self) {
        self.input.end();
    }

    fn tls_started(&mut self, facts: TlsFacts) {
        if matches!(self.phase, Phase::TlsHandshake) {
            self.begin_again_inside_tls(facts);
        }
    }

    fn shutdown(&mut self) {
        self.stopping = true;
    }
}

/// Whether no command is in hand.
fn is_command_boundary(phase: &Phase) -> bool {
    match phase {
        Phase::Opening(_) | Phase::Commands(_) | Phase::Challenge(_) | Phase::TurnedAway => true,
        Phase::Data(..) | Phase::Chunk(_) | Phase::Ask(..) | Phase::Asked(_) => false,
        Phase::TlsPromised | Phase::TlsHandshake | Phase::Closing => false,
    }
}

fn local_problem() -> Reply {
    reply::parsed(reply::LOCAL_PROBLEM)
}

fn verdict(answer: Answer) -> Result<(), Reply> {
    match answer {
        Answer::Verdict(verdict) => verdict,
        Answer::Reply(_) | Answer::Replies(_) | Answer::Authenticated(_) | Answer::Done => Err(local_problem()),
    }
}

fn one_reply(answer: Answer) -> Reply {
    match answer {
        Answer::Reply(reply) => reply,
        Answer::Verdict(_) | Answer::Replies(_) | Answer::Authenticated(_) | Answer::Done => local_problem(),
    }
}
