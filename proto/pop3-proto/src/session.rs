//! A POP3 session, from greeting to close.
//!
//! The machine's order of work: what was asked is answered, what is being sent goes on, then the next command is read.
//! Replies gather until [`WRITE_OCTETS`], a question that may take long, or the end of the client's octets, so that a batch
//! of commands costs few writes (RFC 2449 §6.6).

mod commands;

use crate::command::COMMAND_OCTETS_MAX;
use crate::config::Config;
use crate::lines::{Line, Lines};
use crate::maildrop::{Column, Maildrop};
use crate::multiline::Multiline;
use crate::question::{Answer, AuthFailure, Question, Unavailable};
use mail::{Machine, Message, Moment, PeerFacts, Snapshot, Step, TlsFacts, Uid};
use std::sync::Arc;

/// Octets of replies that are sent without waiting for more.
pub(crate) const WRITE_OCTETS: usize = 32 * 1_024;
/// Octets of a message that are asked for at once.
const READ_OCTETS_MAX: u64 = 128 * 1_024;
/// Octets that are asked for first when only the top of a message is wanted.
const TOP_OCTETS: u64 = 16 * 1_024;
/// Lines that are not commands, or not proper ones, before the session ends.
const FAULTS_MAX: u8 = 20;
/// Refused credentials before the session ends.
const AUTH_FAILURES_MAX: u8 = 5;

/// A session without input or output; see [`mail::Machine`] for how to drive it. Between commands it holds no buffer.
pub struct Session {
    config: Arc<Config>,
    /// Inside TLS, from the start or by STLS.
    tls: bool,
    input: Lines,
    output: Vec<u8>,
    phase: Phase,
    work: Work,
    /// What is to be asked before work goes on.
    question: Option<Question>,
    /// When the wait for the command under way ends.
    deadline: Option<Moment>,
    faults: u8,
    auth_failures: u8,
    input_ended: bool,
    going_down: bool,
}

/// The state of the session (RFC 1939 §3). UPDATE is [`Work::Removing`].
enum Phase {
    /// Who the client is, is not known. After USER, the name given.
    Authorization { user: Option<String> },
    /// AUTH is under way.
    Exchange(sasl::Exchange),
    /// The client works in its maildrop.
    Transaction(Maildrop),
}

/// What the session does between two commands.
enum Work {
    /// Nothing: the next command may be read.
    Ready,
    /// Credentials are being judged.
    Authenticating,
    /// The maildrop is being opened.
    Opening,
    /// A message is being sent.
    Sending(Sending),
    /// A listing is being sent, from an index on.
    Listing { column: Column, index: u32 },
    /// QUIT: marked messages are being removed; so many are left then.
    Removing { left: u32 },
    /// STLS was accepted.
    StartTls,
    /// The handshake runs.
    Handshake,
    /// What is written goes out, then the connection ends.
    Closing,
}

/// A message on its way to the client.
struct Sending {
    uid: Uid,
    /// Octets of the message.
    octets: u64,
    /// Octets that have been read.
    read: u64,
    /// Octets that the present question asks for.
    asked: u64,
    /// RETR, not TOP.
    whole: bool,
    form: Multiline,
}

impl Session {
    /// A session with a client that has just connected; its first step is the greeting.
    pub fn new(config: Arc<Config>, peer: PeerFacts) -> Session {
        let greeting = format!("+OK {} POP3 ready.\r\n", config.host_name);
        Session {
            config,
            tls: peer.tls.is_some(),
            input: Lines::default(),
            output: greeting.into_bytes(),
            phase: Phase::Authorization { user: None },
            work: Work::Ready,
            question: None,
            deadline: None,
            faults: 0,
            auth_failures: 0,
            input_ended: false,
            going_down: false,
        }
    }

    /// Goes on with what is under way. `None` once there is nothing to do but to wait.
    fn advance(&mut self) -> Option<Step<Question>> {
        loop {
            if self.output.len() >= WRITE_OCTETS {
                return Some(self.write());
            }
            if let Some(question) = self.question.take() {
                // Reading a message is quick; for the rest, what is ready goes out first.
                if self.output.is_empty() || matches!(question, Question::Read { .. }) {
                    return Some(Step::Ask(question));
                }
                self.question = Some(question);
                return Some(self.write());
            }
            match self.work {
                Work::Ready => {
                    if !self.begin() {
                        return None;
                    }
                }
                Work::Listing { column, index } => self.list(column, index),
                Work::StartTls | Work::Closing if !self.output.is_empty() => return Some(self.write()),
                Work::StartTls => {
                    self.work = Work::Handshake;
                    return Some(Step::StartTls);
                }
                Work::Closing => return Some(Step::Close),
                Work::Authenticating | Work::Opening | Work::Sending(_) | Work::Removing { .. } | Work::Handshake => {
                    return None;
                }
            }
        }
    }

    /// Begins the next command, or ends the session. Whether there was something to do.
    fn begin(&mut self) -> bool {
        if self.going_down {
            self.fail("[SYS/TEMP] The server is going down.");
            self.work = Work::Closing;
            return true;
        }
        let octets_max = match self.phase {
            Phase::Exchange(_) => sasl::RESPONSE_OCTETS_MAX + 2,
            Phase::Authorization { .. } | Phase::Transaction(_) => COMMAND_OCTETS_MAX,
        };
        match self.input.take(octets_max) {
            Some(line) => {
                self.deadline = None;
                self.line(line);
                true
            }
            None if self.input_ended => {
                // RFC 1939 §6: without QUIT nothing is removed.
                self.work = Work::Closing;
                true
            }
            None => false,
        }
    }

    fn line(&mut self, line: Line) {
        let phase = std::mem::replace(&mut self.phase, Phase::Authorization { user: None });
        match (phase, line) {
            (Phase::Exchange(exchange), Line::Text(text)) => self.response(exchange, &text),
            (Phase::Exchange(_), Line::TooLong) => self.fault("The response is too long."),
            (phase, Line::TooLong) => {
                self.phase = phase;
                self.fault("The line is too long.");
            }
            (phase, Line::Text(text)) => {
                self.phase = phase;
                self.command(&text);
            }
        }
    }

    fn write(&mut self) -> Step<Question> {
        Step::Write(std::mem::take(&mut self.output))
    }

    /// Sends more of a listing.
    fn list(&mut self, column: Column, index: u32) {
        let next = match &self.phase {
            Phase::Transaction(maildrop) => maildrop.list(column, index, WRITE_OCTETS, &mut self.output),
            Phase::Authorization { .. } | Phase::Exchange(_) => None,
        };
        self.work = match next {
            Some(index) => Work::Listing { column, index },
            None => {
                self.output.extend_from_slice(b".\r\n");
                Work::Ready
            }
        };
    }

    /// Begins to send a message, or the top of it.
    fn send(&mut self, message: Message, top: Option<u32>) {
        let sending = Sending {
            uid: message.uid,
            octets: u64::from(message.size_octets),
            read: 0,
            asked: 0,
            whole: top.is_none(),
            form: top.map_or_else(Multiline::whole, Multiline::top),
        };
        if sending.octets == 0 {
            self.send_status(&sending);
            sending.form.finish(&mut self.output);
            return;
        }
        self.read(sending);
    }

    /// Asks for the next piece of a message.
    fn read(&mut self, mut sending: Sending) {
        let octets_max = if sending.whole || sending.read > 0 { READ_OCTETS_MAX } else { TOP_OCTETS };
        sending.asked = octets_max.min(sending.octets - sending.read);
        self.question = Some(Question::Read { uid: sending.uid, start: sending.read, octets: sending.asked });
        self.work = Work::Sending(sending);
    }

    /// Sends a piece of a message.
    fn piece(&mut self, mut sending: Sending, piece: Option<&[u8]>) {
        let piece = piece.map(|piece| piece.get(..sending.asked as usize).unwrap_or(piece)).unwrap_or_default();
        // The message is gone, damaged, or shorter than the maildrop says.
        if piece.is_empty() {
            if sending.read == 0 {
                self.fail("[SYS/TEMP] The message cannot be read now.");
            } else {
                // The reply has begun, and only its end could tell the client that it is whole.
                self.work = Work::Closing;
            }
            return;
        }
        if sending.read == 0 {
            self.send_status(&sending);
        }
        sending.read += piece.len() as u64;
        let enough = sending.form.push(piece, &mut self.output);
        if enough || sending.read >= sending.octets {
            sending.form.finish(&mut self.output);
        } else {
            self.read(sending);
        }
    }

    fn send_status(&mut self, sending: &Sending) {
        if sending.whole {
            self.succeed(format_args!("{} octets", sending.octets));
        } else {
            self.succeed(format_args!("Top of message follows."));
        }
    }

    fn authenticated(&mut self, failure: Option<AuthFailure>) {
        match failure {
            None => {
                self.question = Some(Question::Open);
                self.work = Work::Opening;
            }
            Some(AuthFailure::Temporary) => self.fail("[SYS/TEMP] Authentication is not possible now."),
            Some(AuthFailure::Denied) => {
                self.fail("[AUTH] Authentication failed.");
                self.auth_failures = self.auth_failures.saturating_add(1);
                if self.auth_failures >= AUTH_FAILURES_MAX {
                    self.work = Work::Closing;
                }
            }
        }
    }

    fn opened(&mut self, maildrop: Result<Arc<Snapshot>, Unavailable>) {
        match maildrop {
            Ok(snapshot) => {
                self.phase = Phase::Transaction(Maildrop::new(snapshot));
                self.succeed(format_args!("Logged in."));
            }
            Err(Unavailable) => self.fail("[SYS/TEMP] The maildrop cannot be opened now."),
        }
    }

    fn removed(&mut self, outcome: Result<(), Unavailable>, left: u32) {
        match outcome {
            Ok(()) => self.sign_off(Some(left)),
            // RFC 1939 §6: some or none of them may be gone; the session ends all the same.
            Err(Unavailable) => self.fail("[SYS/TEMP] Some deleted messages not removed."),
        }
        self.work = Work::Closing;
    }
}

impl Machine for Session {
    type Question = Question;
    type Answer = Answer;

    fn next(&mut self, now: Moment) -> Step<Question> {
        if let Some(step) = self.advance() {
            return step;
        }
        if !self.output.is_empty() {
            return self.write();
        }
        let deadline = *self.deadline.get_or_insert(now.after(self.config.idle_timeout));
        if now >= deadline && matches!(self.work, Work::Ready) {
            // RFC 1939 §3: no UPDATE state, and no word to the client.
            self.work = Work::Closing;
            return Step::Close;
        }
        Step::Wait { deadline, notices: false }
    }

    fn receive(&mut self, octets: &[u8]) {
        match self.work {
            // V3: what came before the handshake is never read.
            Work::StartTls | Work::Handshake | Work::Closing => {}
            Work::Ready
            | Work::Authenticating
            | Work::Opening
            | Work::Sending(_)
            | Work::Listing { .. }
            | Work::Removing { .. } => self.input.push(octets),
        }
    }

    fn answer(&mut self, answer: Answer) {
        let work = std::mem::replace(&mut self.work, Work::Ready);
        match (work, answer) {
            (Work::Authenticating, Answer::Authenticated(outcome)) => self.authenticated(outcome.err()),
            (Work::Opening, Answer::Maildrop(maildrop)) => self.opened(maildrop),
            (Work::Sending(sending), Answer::Octets(piece)) => self.piece(sending, piece.as_deref()),
            (Work::Removing { left }, Answer::Removed(outcome)) => self.removed(outcome, left),
            // An answer to another question is a mistake of the driver; nothing sensible can follow.
            (_, Answer::Authenticated(_) | Answer::Maildrop(_) | Answer::Octets(_) | Answer::Removed(_)) => {
                debug_assert!(false, "the answer does not fit the question");
                self.work = Work::Closing;
            }
        }
    }

    fn notice(&mut self) {
        // The maildrop is a fixed picture (R60); no news concerns it.
    }

    fn end_of_input(&mut self) {
        self.input_ended = true;
    }

    fn tls_started(&mut self, _facts: TlsFacts) {
        // RFC 2595 §4: the session stays in AUTHORIZATION, and nothing said in the clear counts any more.
        self.tls = true;
        self.input.clear();
        self.phase = Phase::Authorization { user: None };
        self.work = Work::Ready;
        self.deadline = None;
    }

    fn shutdown(&mut self) {
        self.going_down = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn session() -> Session {
        let peer = PeerFacts { peer: None, local: None, tls: None };
        Session::new(Arc::new(Config::new("mx.example.net")), peer)
    }

    fn settle(session: &mut Session, now: u64) -> (String, Step<Question>) {
        let mut text = String::new();
        loop {
            match session.next(Moment(Duration::from_secs(now))) {
                Step::Write(octets) => text += std::str::from_utf8(&octets).unwrap(),
                step => return (text, step),
            }
        }
    }

    #[test]
    fn an_idle_session_is_small() {
        let mut session = session();
        settle(&mut session, 0);
        session.receive(b"NOOP\r\nCAPA\r\n");
        settle(&mut session, 0);
        assert_eq!((session.input.memory(), session.output.capacity()), (0, 0));
        assert!(size_of::<Session>() <= 512, "{}", size_of::<Session>());
    }

    #[test]
    fn v10_octets_without_a_command_do_not_keep_a_session() {
        let mut session = session();
        settle(&mut session, 0);
        for now in 0..599 {
            session.receive(&[b'x'; 5_000]);
            let (text, step) = settle(&mut session, now);
            assert!(text.is_empty() && session.input.memory() < 20_000);
            assert!(matches!(step, Step::Wait { deadline, notices: false } if deadline.0.as_secs() == 600));
        }
        assert_eq!(settle(&mut session, 600), (String::new(), Step::Close));
    }

    #[test]
    fn v3_a_late_driver_cannot_pass_clear_text_on() {
        let mut session = session();
        settle(&mut session, 0);
        session.receive(b"STLS\r\nUSER one\r\n");
        let (text, step) = settle(&mut session, 0);
        assert_eq!((text.lines().count(), step), (1, Step::StartTls));
        session.receive(b"USER two\r\n");
        let facts = TlsFacts { version: "TLSv1.3", cipher: String::new(), bits: 256, server_name: None };
        session.tls_started(facts);
        assert!(settle(&mut session, 0).0.is_empty());
        session.receive(b"PASS x\r\n");
        assert_eq!(settle(&mut session, 0).0, "-ERR USER comes first.\r\n");
    }
}
