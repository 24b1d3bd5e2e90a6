//! How a session begins: the connection, the greeting, HELO, EHLO and LHLO, and STARTTLS.

use super::{Phase, Session, Standing, Turn};
use crate::config::Extensions;
use crate::grammar::{self, Verb};
use crate::input::{COMMAND_OCTETS_MAX, Line};
use crate::question::{Client, Greeting, Question, Role};
use crate::reply;
use crate::session::Pending;
use mail::{Moment, Reply, Step, TlsFacts};
use std::sync::Arc;

/// Longest name taken from HELO, EHLO or LHLO, in octets: a domain's 255 (RFC 5321 §4.5.3.1.2).
const GREETING_OCTETS_MAX: usize = 255;

impl Session {
    /// Listens for clients that talk first, then asks the house about the connection.
    pub(super) fn open(&mut self, until: Option<Moment>, now: Moment) -> Turn {
        if let Some(refusal) = self.early_talk() {
            return (refusal, None);
        }
        if self.input.has_ended() {
            return (Phase::Closing, None);
        }
        let until = until.unwrap_or(now.after(self.config.greeting_delay));
        if now < until {
            return (Phase::Opening(Some(until)), Some(Step::Wait { deadline: until, notices: false }));
        }
        (Phase::Ask(Question::Connect { client: self.client.clone() }, Pending::Connect), None)
    }

    /// R99: octets before the greeting come from programs that do not listen.
    fn early_talk(&mut self) -> Option<Phase> {
        if self.input.rest().is_empty() {
            return None;
        }
        self.input.clear();
        self.refuse(reply::TALKS_EARLY);
        Some(Phase::Closing)
    }

    /// Greets, or says what the house said instead.
    pub(super) fn connected(&mut self, verdict: Result<(), Reply>) -> Phase {
        if let Some(refusal) = self.early_talk() {
            return refusal;
        }
        match verdict {
            Ok(()) => {
                self.say(&format!("220 {}", self.config.banner()));
                Phase::Commands(Standing::Idle)
            }
            Err(reply) => match self.say_reply(&reply) {
                true => Phase::Closing,
                false => Phase::TurnedAway,
            },
        }
    }

    /// RFC 5321 §3.1: a client that was refused at the door may say QUIT, and is told 503 to everything else.
    pub(super) fn turn_away(&mut self, now: Moment) -> Turn {
        if self.errors >= self.config.errors_hard_max {
            self.say(&reply::too_many_errors(&self.config.host_name));
            return (Phase::Closing, None);
        }
        match self.input.line(COMMAND_OCTETS_MAX, self.line_ends) {
            Line::Incomplete => return self.wait(Phase::TurnedAway, now),
            Line::Complete(line) if is_quit(&line) => {
                self.say(reply::BYE);
                return (Phase::Closing, None);
            }
            Line::Complete(_) | Line::TooLong | Line::BareLf => self.refuse(reply::TURNED_AWAY),
        }
        self.deadline = None;
        (Phase::TurnedAway, None)
    }

    /// HELO, EHLO or LHLO. Taken, it ends any transaction (RFC 5321 §4.1.4).
    pub(super) fn greet(&mut self, standing: Standing, verb: Verb, arguments: &str) -> Phase {
        let (greeting, syntax) = match (self.config.role, verb) {
            (Role::Lmtp, Verb::Lhlo) => (Greeting::Lhlo, reply::LHLO_SYNTAX),
            (Role::Lmtp, _) => {
                self.refuse(reply::THIS_IS_LMTP);
                return Phase::Commands(standing);
            }
            (Role::Mx | Role::Submission, Verb::Helo) => (Greeting::Helo, reply::HELO_SYNTAX),
            (Role::Mx | Role::Submission, Verb::Ehlo) => (Greeting::Ehlo, reply::EHLO_SYNTAX),
            (Role::Mx | Role::Submission, _) => {
                self.refuse(reply::NOT_RECOGNIZED);
                return Phase::Commands(standing);
            }
        };
        // The name is noted as it is; whether it is a good one is policy. Words after it say nothing to anybody.
        let name = arguments.split(' ').next().unwrap_or_default();
        if name.is_empty() || name.len() > GREETING_OCTETS_MAX || name.chars().any(char::is_control) {
            self.refuse(syntax);
            return Phase::Commands(standing);
        }
        Arc::make_mut(&mut self.client).greeting = Some((greeting, name.to_owned()));
        match greeting {
            Greeting::Helo => self.say(&format!("250 {}", self.config.host_name)),
            Greeting::Ehlo | Greeting::Lhlo => self.announce(),
        }
        self.end_transaction(standing, Phase::Commands(Standing::Idle))
    }

    /// R87 to R91: the extensions, always in this order.
    fn announce(&mut self) {
        let mechanisms = sasl::Mechanism::ALL.map(sasl::Mechanism::name).join(" ");
        let size = format!("SIZE {}", self.config.message_octets_max);
        let auth = format!("AUTH {mechanisms}");
        let keywords = [
            (Extensions::PIPELINING, "PIPELINING"),
            (Extensions::SIZE, &size),
            (Extensions::VRFY, "VRFY"),
            (Extensions::ETRN, "ETRN"),
            (Extensions::STARTTLS, "STARTTLS"),
            (Extensions::AUTH, &auth),
            (Extensions::ENHANCEDSTATUSCODES, "ENHANCEDSTATUSCODES"),
            (Extensions::EIGHT_BIT_MIME, "8BITMIME"),
            (Extensions::DSN, "DSN"),
            (Extensions::SMTPUTF8, "SMTPUTF8"),
            (Extensions::CHUNKING, "CHUNKING"),
            (Extensions::REQUIRETLS, "REQUIRETLS"),
        ];
        let offered = self.offered_extensions();
        let announced = keywords.iter().filter(|(extension, _)| offered.contain(*extension));
        let mut lines = vec![self.config.host_name.clone()];
        lines.extend(announced.map(|(_, keyword)| (*keyword).to_owned()));
        Reply { code: 250, status: None, lines }.write(&mut self.output);
    }

    /// STARTTLS (RFC 3207 §4).
    pub(super) fn start_tls(&mut self, standing: Standing, arguments: &str) -> Phase {
        let refusal = match standing {
            _ if !arguments.is_empty() => reply::STARTTLS_SYNTAX,
            _ if self.client.tls.is_some() => reply::TLS_ACTIVE,
            _ if !self.offers(Extensions::STARTTLS) => reply::NOT_IMPLEMENTED,
            Standing::InMail(_) | Standing::InChunks(_) => reply::TRANSACTION_RUNS,
            Standing::Idle => {
                self.say(reply::READY_FOR_TLS);
                self.input.clear();
                return Phase::TlsPromised;
            }
        };
        self.refuse(refusal);
        Phase::Commands(standing)
    }

    /// RFC 3207 §4.2: inside TLS the session begins again, without a greeting. Errors are not forgotten.
    pub(super) fn begin_again_inside_tls(&mut self, facts: TlsFacts) {
        let (peer, role) = (self.client.peer.clone(), self.client.role);
        self.client = Arc::new(Client { peer, role, greeting: None, tls: Some(facts), account: None });
        self.input.clear();
        self.deadline = None;
        self.phase = Phase::Commands(Standing::Idle);
    }
}

fn is_quit(line: &[u8]) -> bool {
    std::str::from_utf8(line).is_ok_and(|line| grammar::split(line).0 == Some(Verb::Quit))
}
