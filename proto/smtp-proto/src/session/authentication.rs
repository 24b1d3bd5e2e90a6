//! AUTH (RFC 4954): frames an exchange of `sasl` and lets the house judge what comes out of it.

use super::{Pending, Phase, Session, Standing, Turn};
use crate::input::Line;
use crate::question::{Answer, AuthFailure, Question};
use crate::reply;
use mail::Moment;
use sasl::{Exchange, Mechanism, RESPONSE_OCTETS_MAX, SaslError};
use std::sync::Arc;

impl Session {
    /// `AUTH mechanism [initial-response]`.
    pub(super) fn auth(&mut self, standing: Standing, arguments: &str) -> Phase {
        let mut words = arguments.split(' ').filter(|word| !word.is_empty());
        let (mechanism, initial, surplus) = (words.next(), words.next(), words.next());
        let refusal = match (&standing, mechanism) {
            _ if !self.auth_is_enabled() => reply::AUTH_NOT_ENABLED,
            _ if self.client.greeting.is_none() => self.greet_first(),
            (Standing::InMail(_) | Standing::InChunks(_), _) => reply::TRANSACTION_RUNS,
            _ if self.client.tls.is_none() => reply::AUTH_NEEDS_TLS,
            _ if self.client.account.is_some() => reply::AUTH_DONE_ALREADY,
            (Standing::Idle, Some(mechanism)) if surplus.is_none() => match Mechanism::parse(mechanism) {
                Some(mechanism) => return self.begin_exchange(mechanism, initial),
                None => reply::AUTH_MECHANISM,
            },
            (Standing::Idle, _) => reply::AUTH_SYNTAX,
        };
        self.no(standing, refusal)
    }

    fn begin_exchange(&mut self, mechanism: Mechanism, initial: Option<&str>) -> Phase {
        let initial = match initial.map(|response| sasl::decode(response.as_bytes())).transpose() {
            Ok(initial) => initial,
            Err(error) => return self.exchange_failed(error),
        };
        let (exchange, turn) = Exchange::begin(mechanism, initial.as_deref());
        self.exchange_goes_on(exchange, turn)
    }

    /// The client's response to a challenge.
    pub(super) fn response(&mut self, mut exchange: Exchange, now: Moment) -> Turn {
        let line = match self.input.line(RESPONSE_OCTETS_MAX, self.line_ends) {
            Line::Incomplete => return self.wait(Phase::Challenge(exchange), now),
            Line::Complete(line) => line,
            Line::TooLong => {
                self.deadline = None;
                return (self.no(Standing::Idle, reply::AUTH_TOO_LONG), None);
            }
            Line::BareLf => {
                self.refuse(&reply::bare_line_feed(&self.config.host_name));
                return (Phase::Closing, None);
            }
        };
        self.deadline = None;
        let phase = match sasl::decode(&line) {
            Ok(response) => {
                let turn = exchange.respond(&response);
                self.exchange_goes_on(exchange, turn)
            }
            Err(error) => self.exchange_failed(error),
        };
        (phase, None)
    }

    fn exchange_goes_on(&mut self, exchange: Exchange, turn: sasl::Turn) -> Phase {
        match turn {
            sasl::Turn::Challenge(challenge) => {
                self.say(&format!("334 {}", sasl::encode(&challenge)));
                Phase::Challenge(exchange)
            }
            sasl::Turn::Credentials(credentials) => {
                let question = Question::Authenticate { client: self.client.clone(), credentials };
                Phase::Ask(question, Pending::Authenticate)
            }
            sasl::Turn::Failed(error) => self.exchange_failed(error),
        }
    }

    fn exchange_failed(&mut self, error: SaslError) -> Phase {
        let text = match error {
            SaslError::Base64 => reply::AUTH_BASE64,
            SaslError::Malformed => reply::AUTH_MALFORMED,
            SaslError::Aborted => reply::AUTH_ABORTED,
        };
        self.no(Standing::Idle, text)
    }

    pub(super) fn authenticated(&mut self, answer: Answer) -> Phase {
        match answer {
            Answer::Authenticated(Ok(account)) => {
                Arc::make_mut(&mut self.client).account = Some(account);
                self.say(reply::AUTHENTICATED);
                Phase::Commands(Standing::Idle)
            }
            Answer::Authenticated(Err(AuthFailure::Denied)) => self.no(Standing::Idle, reply::AUTH_FAILED),
            Answer::Authenticated(Err(AuthFailure::Temporary)) => self.no(Standing::Idle, reply::AUTH_LATER),
            Answer::Verdict(_) | Answer::Reply(_) | Answer::Replies(_) | Answer::Done => {
                self.no(Standing::Idle, reply::AUTH_LATER)
            }
        }
    }
}
