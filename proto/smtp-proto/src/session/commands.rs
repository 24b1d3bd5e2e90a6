//! The next command: its line, its verb, and the commands that move no mail.

use super::{Pending, Phase, Session, Standing, Turn};
use crate::config::Extensions;
use crate::grammar::{self, Verb};
use crate::input::{COMMAND_OCTETS_MAX, Line};
use crate::question::{Question, Role};
use crate::reply;
use crate::session::IDLE_TALK_MAX;
use mail::Moment;

impl Session {
    /// Takes the next command, if it is there.
    pub(super) fn command(&mut self, standing: Standing, now: Moment) -> Turn {
        if self.errors >= self.config.errors_hard_max {
            self.say(&reply::too_many_errors(&self.config.host_name));
            return (self.close(standing), None);
        }
        // RFC 4954 §4: AUTH may carry its first response, and is as long as a response may be.
        let octets_max = match self.input.begins_with_ignoring_case(b"AUTH ") {
            true => COMMAND_OCTETS_MAX + sasl::RESPONSE_OCTETS_MAX,
            false => COMMAND_OCTETS_MAX,
        };
        let line = match self.input.line(octets_max, self.line_ends) {
            Line::Incomplete => return self.wait(Phase::Commands(standing), now),
            Line::Complete(line) => line,
            Line::TooLong => {
                self.deadline = None;
                self.refuse(reply::LINE_TOO_LONG);
                return (Phase::Commands(standing), None);
            }
            // RFC 5321 §2.3.8: no line end. Reading on would guess where commands begin, so we do not.
            Line::BareLf => {
                self.refuse(&reply::bare_line_feed(&self.config.host_name));
                return (self.close(standing), None);
            }
        };
        self.deadline = None;
        (self.dispatch(standing, line), None)
    }

    fn dispatch(&mut self, standing: Standing, line: Vec<u8>) -> Phase {
        let line = match String::from_utf8(line) {
            Ok(line) if line.bytes().any(|b| b.is_ascii_control()) => return self.no(standing, reply::BAD_SYNTAX),
            Ok(line) => line,
            Err(_) => return self.no(standing, reply::BAD_UTF8),
        };
        let (verb, arguments) = grammar::split(&line);
        let Some(verb) = verb else {
            let text = if line.trim_matches(' ').is_empty() { reply::BAD_SYNTAX } else { reply::NOT_RECOGNIZED };
            return self.no(standing, text);
        };
        if verb.is_idle_talk() {
            self.idle_talk = self.idle_talk.saturating_add(1);
            self.errors = self.errors.saturating_add(u32::from(self.idle_talk > IDLE_TALK_MAX));
        }
        // BDAT is refused as well, but only after its octets.
        if self.lacks_tls() && !verb.works_without_tls() && verb != Verb::Bdat {
            return self.no(standing, reply::STARTTLS_FIRST);
        }
        match verb {
            Verb::Helo | Verb::Ehlo | Verb::Lhlo => self.greet(standing, verb, arguments),
            Verb::Mail => self.mail(standing, arguments),
            Verb::Rcpt => self.recipient(standing, arguments),
            Verb::Data => self.data(standing, arguments),
            Verb::Bdat => self.chunk(standing, arguments),
            Verb::Rset => self.reset(standing, arguments),
            Verb::Noop => self.yes(standing, reply::OK),
            Verb::Quit => {
                self.say(reply::BYE);
                self.close(standing)
            }
            Verb::Help => self.yes(standing, reply::HELP),
            Verb::Vrfy => self.verify(standing, arguments),
            Verb::Expn => self.no(standing, reply::EXPN_DISABLED),
            Verb::Etrn => self.etrn(standing, arguments),
            Verb::Auth => self.auth(standing, arguments),
            Verb::StartTls => self.start_tls(standing, arguments),
            Verb::Http => {
                self.refuse(&reply::not_http(&self.config.host_name));
                self.close(standing)
            }
        }
    }

    pub(super) fn lacks_tls(&self) -> bool {
        self.config.tls_required && self.client.tls.is_none()
    }

    pub(super) fn lacks_authentication(&self) -> bool {
        self.config.auth_required && self.client.account.is_none()
    }

    /// What a client hears that has not greeted (RFC 5321 §4.1.4).
    pub(super) fn greet_first(&self) -> &'static str {
        match self.config.role {
            Role::Lmtp => reply::LHLO_FIRST,
            Role::Mx | Role::Submission => reply::GREET_FIRST,
        }
    }

    /// Says yes, and changes nothing.
    fn yes(&mut self, standing: Standing, line: &str) -> Phase {
        self.say(line);
        Phase::Commands(standing)
    }

    /// Says no, and changes nothing.
    pub(super) fn no(&mut self, standing: Standing, line: &str) -> Phase {
        self.refuse(line);
        Phase::Commands(standing)
    }

    fn reset(&mut self, standing: Standing, arguments: &str) -> Phase {
        if !arguments.is_empty() {
            return self.no(standing, reply::RSET_SYNTAX);
        }
        self.say(reply::OK);
        self.end_transaction(standing, Phase::Commands(Standing::Idle))
    }

    /// VRFY (RFC 5321 §3.5): the house says what it would say to RCPT.
    fn verify(&mut self, standing: Standing, arguments: &str) -> Phase {
        if !self.offers(Extensions::VRFY) {
            return self.no(standing, reply::VRFY_DISABLED);
        }
        if self.lacks_authentication() {
            return self.no(standing, reply::AUTH_NEEDED);
        }
        match grammar::verify(arguments, self.grammar_offer()) {
            Ok(recipient) => {
                Phase::Ask(Question::Verify { client: self.client.clone(), recipient }, Pending::Lookup(standing))
            }
            Err(fault) => self.no(standing, &reply::of(&fault)),
        }
    }

    /// ETRN (RFC 1985 §5): not within a transaction.
    fn etrn(&mut self, standing: Standing, arguments: &str) -> Phase {
        let refusal = match standing {
            _ if !self.offers(Extensions::ETRN) => reply::NOT_RECOGNIZED,
            _ if self.client.greeting.is_none() => reply::ETRN_GREET_FIRST,
            _ if self.lacks_authentication() => reply::AUTH_NEEDED,
            Standing::InMail(_) | Standing::InChunks(_) => reply::ETRN_TRANSACTION_RUNS,
            Standing::Idle if arguments.is_empty() => reply::ETRN_NEEDS_DOMAIN,
            Standing::Idle => match grammar::etrn_domain(arguments) {
                Some(domain) => {
                    let question = Question::Etrn { client: self.client.clone(), domain };
                    return Phase::Ask(question, Pending::Lookup(Standing::Idle));
                }
                None => reply::ETRN_SYNTAX,
            },
        };
        self.no(standing, refusal)
    }
}
