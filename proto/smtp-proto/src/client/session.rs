//! The machine: one connection to a next hop from the greeting to the close.
//!
//! The story is [`Session::advance`]: what each phase does next. Replies are taken one at a time, and what follows from one
//! is decided before the next is looked at; only what goes out is gathered. So the dialogue is the same however the peer's
//! octets are split.

mod body;
mod envelope;
mod opening;

use super::config::Config;
use super::offers::Offers;
use super::question::{Answer, Ending, Fault, InTheClear, Loss, Part, Peer, Protection, Question};
use super::replies::{RawReply, Replies};
use body::Text;
use envelope::Sending;
use mail::{Machine, Moment, PeerFacts, Reply, Step, TlsFacts};
use opening::Opening;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What goes out is gathered up to so many octets.
const OUTPUT_OCTETS_MAX: usize = 32 * 1024;

/// One client session of SMTP or LMTP.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    peer: Arc<Peer>,
    phase: Phase,
    replies: Replies,
    output: Output,
    /// When the wait for the next reply ends; `None` until we wait for it.
    deadline: Option<Moment>,
    /// Whether the peer may still hold a transaction that came to nothing.
    needs_reset: bool,
}

/// What the session is at.
#[derive(Debug)]
enum Phase {
    /// Before the first transaction.
    Opening(Opening),
    /// STARTTLS was taken. Whether octets in the clear came since.
    Handshake(Handshake),
    /// Nothing is in hand.
    Idle,
    /// A question is to be asked.
    Ask(Question, Pending),
    /// A question is out.
    Asked(Pending),
    /// MAIL, RCPT, DATA.
    Envelope(Box<Sending>),
    /// The text after DATA.
    Data(Box<Sending>, Box<Text>),
    /// The text in chunks.
    Chunks(Box<Sending>, Box<Text>),
    /// After the end of the data.
    Verdicts(Box<Sending>),
    /// QUIT is sent.
    Quitting,
    /// Nothing but the close is left.
    Closing,
}

/// How far the change to TLS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handshake {
    /// To be asked for.
    Due,
    /// Runs.
    Running,
    /// Runs, and octets in the clear came in the midst of it.
    Injected,
}

/// What goes on when the answer is there.
#[derive(Debug)]
enum Pending {
    Idle,
    /// In DATA.
    Data(Box<Sending>, Box<Text>),
    Chunks(Box<Sending>, Box<Text>),
    /// Why the session is over after this transaction, and how it leaves; `None` if it goes on.
    Finished(Option<(Ending, Leave)>),
    Ended(Leave),
}

/// How a session leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// By QUIT.
    Politely,
    /// By closing: the peer is gone, does not make sense, or is in the midst of something that QUIT would be part of.
    AtOnce,
}

/// A phase, and the step that is due in it.
type Turn = (Phase, Option<Step<Question>>);

/// What comes of listening.
#[derive(Debug)]
enum Heard {
    Reply(RawReply),
    /// Nothing yet; this is to be done first.
    Nothing(Step<Question>),
    /// Nothing any more.
    Lost(Loss),
}

/// Octets to be sent. They may be credentials, so they are not printed.
#[derive(Default)]
struct Output(Vec<u8>);

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} octets)", self.0.len())
    }
}

impl Session {
    /// A session at its very start, on a connection just made. If that began inside TLS, `connection` says so.
    pub fn new(config: Arc<Config>, connection: PeerFacts) -> Session {
        let protection = match connection.tls.clone() {
            Some(facts) => Protection::Tls(facts),
            None => Protection::Clear(InTheClear::NotTried),
        };
        let peer = Peer {
            connection,
            greeting: None,
            hello: None,
            name: None,
            offers: Offers::NONE,
            protection,
            authenticated: false,
        };
        Session {
            replies: Replies::new(config.reply_limits),
            config,
            peer: Arc::new(peer),
            phase: Phase::Opening(Opening::Greeting),
            output: Output::default(),
            deadline: None,
            needs_reset: false,
        }
    }

    /// The peer as known now.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// What the phase does next: the phase that follows, and a step if one is due.
    fn advance(&mut self, phase: Phase, now: Moment) -> Turn {
        match phase {
            Phase::Opening(opening) => self.opening(opening, now),
            Phase::Handshake(handshake) => self.handshake(handshake, now),
            Phase::Idle => (self.idle(), None),
            Phase::Ask(question, pending) => (Phase::Asked(pending), Some(Step::Ask(question))),
            // The driver asks before it answers: there is nothing to do.
            Phase::Asked(pending) => {
                let deadline = now.after(self.config.timeouts.mail);
                (Phase::Asked(pending), Some(Step::Wait { deadline, notices: false }))
            }
            Phase::Envelope(sending) => self.envelope(sending, now),
            Phase::Data(sending, text) => self.data(sending, text),
            Phase::Chunks(sending, text) => self.chunks(sending, text, now),
            Phase::Verdicts(sending) => self.verdicts(sending, now),
            Phase::Quitting => match self.hear(self.config.timeouts.quit, now) {
                Heard::Nothing(step) => (Phase::Quitting, Some(step)),
                Heard::Reply(_) | Heard::Lost(_) => (Phase::Closing, None),
            },
            Phase::Closing if self.output.0.is_empty() => (Phase::Closing, Some(Step::Close)),
            Phase::Closing => (Phase::Closing, Some(self.write())),
        }
    }

    /// Goes on with the answer to a question.
    fn resume(&mut self, pending: Pending, answer: Answer) -> Phase {
        match (pending, answer) {
            (Pending::Idle, Answer::Transaction(transaction)) => self.begin(*transaction),
            (Pending::Idle, _) => self.end(Ending::Quit, Leave::Politely),
            (Pending::Data(sending, text), answer) => match self.more_text(sending, text, answer) {
                Ok((sending, text)) => Phase::Data(sending, text),
                Err(phase) => phase,
            },
            (Pending::Chunks(sending, text), answer) => match self.more_text(sending, text, answer) {
                Ok((sending, text)) => Phase::Chunks(sending, text),
                Err(phase) => phase,
            },
            (Pending::Finished(None), _) => Phase::Idle,
            (Pending::Finished(Some((ending, leave))), _) => self.end(ending, leave),
            (Pending::Ended(Leave::Politely), _) => {
                self.command("QUIT");
                Phase::Quitting
            }
            (Pending::Ended(Leave::AtOnce), _) => Phase::Closing,
        }
    }

    /// Nothing is in hand: asks what to do, unless the session is over.
    fn idle(&mut self) -> Phase {
        match self.unasked() {
            Some(loss) => self.end(Ending::Lost { at: Part::Idle, loss }, Leave::AtOnce),
            None => Phase::Ask(Question::Idle { peer: self.peer.clone() }, Pending::Idle),
        }
    }

    /// How the session was lost while nothing was awaited: by a reply to nothing, or by the peer's end.
    fn unasked(&mut self) -> Option<Loss> {
        match self.replies.take() {
            Ok(Some(reply)) if reply.code == 421 => Some(Loss::Goodbye(Arc::new(reply.into_reply()))),
            Ok(Some(_)) => Some(Loss::Broken(Fault::OutOfTurn)),
            Err(fault) => Some(Loss::Broken(Fault::Reply(fault))),
            Ok(None) if self.replies.has_ended() => Some(Loss::Closed),
            Ok(None) => None,
        }
    }

    /// Listens for the next reply. First what was heard, then what is to be said, then the wait.
    fn hear(&mut self, timeout: Duration, now: Moment) -> Heard {
        match self.replies.take() {
            Ok(Some(reply)) => {
                self.deadline = None;
                return Heard::Reply(reply);
            }
            Ok(None) => {}
            Err(fault) => return Heard::Lost(Loss::Broken(Fault::Reply(fault))),
        }
        if !self.output.0.is_empty() {
            return Heard::Nothing(self.write());
        }
        if self.replies.has_ended() {
            return Heard::Lost(Loss::Closed);
        }
        let deadline = *self.deadline.get_or_insert(now.after(timeout));
        if now >= deadline {
            return Heard::Lost(Loss::TimedOut);
        }
        self.replies.release();
        Heard::Nothing(Step::Wait { deadline, notices: false })
    }

    fn write(&mut self) -> Step<Question> {
        Step::Write(std::mem::take(&mut self.output.0))
    }

    /// Sends a command line.
    fn command(&mut self, line: &str) {
        debug_assert!(!line.contains(['\r', '\n']), "a command is one line");
        self.output.0.extend_from_slice(line.as_bytes());
        self.output.0.extend_from_slice(b"\r\n");
    }

    /// Tells the house that the session is over.
    fn end(&mut self, ending: Ending, leave: Leave) -> Phase {
        Phase::Ask(Question::Ended { peer: self.peer.clone(), ending }, Pending::Ended(leave))
    }

    fn lose(&mut self, at: Part, loss: Loss) -> Phase {
        self.end(Ending::Lost { at, loss }, Leave::AtOnce)
    }

    /// The peer does not want us.
    fn turned_away(&mut self, at: Part, reply: Reply) -> Phase {
        // RFC 5321 §3.8: after a 421 the peer closes; there is nobody to say QUIT to.
        let leave = if reply.code == 421 { Leave::AtOnce } else { Leave::Politely };
        self.end(Ending::Refused { at, reply: Arc::new(reply) }, leave)
    }

    fn peer_mut(&mut self) -> &mut Peer {
        Arc::make_mut(&mut self.peer)
    }
}

impl Machine for Session {
    type Question = Question;
    type Answer = Answer;

    fn next(&mut self, now: Moment) -> Step<Question> {
        loop {
            if self.output.0.len() > OUTPUT_OCTETS_MAX {
                return self.write();
            }
            let phase = std::mem::replace(&mut self.phase, Phase::Closing);
            let (phase, step) = self.advance(phase, now);
            self.phase = phase;
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn receive(&mut self, octets: &[u8]) {
        match &mut self.phase {
            Phase::Handshake(handshake) => *handshake = Handshake::Injected,
            Phase::Closing => {}
            _ => self.replies.push(octets),
        }
    }

    fn answer(&mut self, answer: Answer) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Closing) {
            Phase::Asked(pending) => self.resume(pending, answer),
            phase => phase,
        };
    }

    /// A session waits for its peer alone.
    fn notice(&mut self) {}

    /// The peer closed its side, the connection broke, a write failed, or the handshake did.
    fn end_of_input(&mut self) {
        self.replies.end();
    }

    fn tls_started(&mut self, facts: TlsFacts) {
        if let Phase::Handshake(handshake) = self.phase {
            self.phase = self.begin_again_inside_tls(handshake, facts);
        }
    }

    /// A house that goes down answers [`Question::Idle`] by [`Answer::Quit`].
    fn shutdown(&mut self) {}
}
