//! How a session begins: the greeting, EHLO and its kin, STARTTLS and AUTH.

use super::{Handshake, Heard, Leave, Phase, Session, Turn};
use crate::client::config::{Protocol, TlsDemand};
use crate::client::offers::Offers;
use crate::client::question::{AuthObstacle, Ending, Fault, InTheClear, Loss, Part, Protection};
use crate::client::replies::RawReply;
use crate::config::Extensions;
use crate::question::Greeting;
use mail::{Moment, Secret, Step, TlsFacts};
use sasl::client::Exchange;
use std::sync::Arc;

/// RFC 5321 §4.5.3.1.4, with the line end. RFC 4954 §4: an AUTH command that would be longer goes without initial response.
const COMMAND_OCTETS_MAX: usize = 512;

/// What is awaited before the first transaction.
#[derive(Debug)]
pub(super) enum Opening {
    Greeting,
    Hello(Greeting),
    StartTls,
    Authentication(Exchange),
}

impl Opening {
    fn part(&self) -> Part {
        match self {
            Opening::Greeting => Part::Greeting,
            Opening::Hello(_) => Part::Hello,
            Opening::StartTls => Part::StartTls,
            Opening::Authentication(_) => Part::Authentication,
        }
    }
}

impl Session {
    /// Hears the next reply of the opening.
    pub(super) fn opening(&mut self, opening: Opening, now: Moment) -> Turn {
        let timeouts = &self.config.timeouts;
        let timeout = match opening {
            Opening::Greeting => timeouts.greeting,
            Opening::Hello(_) => timeouts.hello,
            Opening::StartTls => timeouts.start_tls,
            Opening::Authentication(_) => timeouts.authentication,
        };
        match self.hear(timeout, now) {
            Heard::Reply(reply) => (self.opened(opening, reply), None),
            Heard::Nothing(step) => (Phase::Opening(opening), Some(step)),
            Heard::Lost(loss) => (self.lose(opening.part(), loss), None),
        }
    }

    fn opened(&mut self, opening: Opening, reply: RawReply) -> Phase {
        let part = opening.part();
        match (opening, reply.code) {
            (Opening::Greeting, 220) => {
                self.peer_mut().greeting = Some(Arc::new(reply.into_reply()));
                self.hello()
            }
            (Opening::Hello(greeting), 200..=299) => self.greeted(greeting, &reply),
            (Opening::Hello(Greeting::Ehlo), 500..=599) if self.may_fall_back() => self.say_hello(Greeting::Helo),
            (Opening::StartTls, 220) => self.tls_promised(),
            // RFC 3207 §6: what to do then is a local decision.
            (Opening::StartTls, 400..=599) if self.config.tls != TlsDemand::Required && reply.code != 421 => {
                let reply = Arc::new(reply.into_reply());
                self.peer_mut().protection = Protection::Clear(InTheClear::Refused(reply));
                self.authenticate()
            }
            (Opening::Authentication(_), 200..=299) => {
                self.peer_mut().authenticated = true;
                Phase::Idle
            }
            (Opening::Authentication(exchange), 334) => self.respond(exchange),
            (_, 400..=599) => self.turned_away(part, reply.into_reply()),
            (_, code) => self.lose(part, Loss::Broken(Fault::Unexpected(code))),
        }
    }

    fn hello(&mut self) -> Phase {
        self.say_hello(match self.config.protocol {
            Protocol::Smtp => Greeting::Ehlo,
            Protocol::Lmtp => Greeting::Lhlo,
        })
    }

    fn say_hello(&mut self, greeting: Greeting) -> Phase {
        let verb = match greeting {
            Greeting::Helo => "HELO",
            Greeting::Ehlo => "EHLO",
            Greeting::Lhlo => "LHLO",
        };
        self.command(&format!("{verb} {}", self.config.helo_name));
        Phase::Opening(Opening::Hello(greeting))
    }

    /// RFC 5321 §3.2: old servers know HELO only. They know neither STARTTLS nor AUTH, so it is no way out where one of
    /// them is needed, and an attacker who breaks EHLO gains nothing.
    fn may_fall_back(&self) -> bool {
        self.config.tls != TlsDemand::Required && self.config.credentials.is_none()
    }

    /// What the peer announces replaces whatever it did before.
    fn greeted(&mut self, greeting: Greeting, reply: &RawReply) -> Phase {
        let mut lines = reply.lines.iter().map(String::as_str);
        let name = lines.next().and_then(|line| line.split_whitespace().next()).map(str::to_owned);
        let offers = match greeting {
            Greeting::Helo => Offers::NONE,
            Greeting::Ehlo | Greeting::Lhlo => Offers::parse(lines),
        };
        let peer = self.peer_mut();
        (peer.hello, peer.name, peer.offers) = (Some(greeting), name, offers);
        self.secure()
    }

    /// STARTTLS, where it is wanted and possible.
    fn secure(&mut self) -> Phase {
        if self.peer.protection.is_tls() || self.config.tls == TlsDemand::Never {
            return self.authenticate();
        }
        if self.peer.offers.has(Extensions::STARTTLS) {
            self.command("STARTTLS");
            return Phase::Opening(Opening::StartTls);
        }
        self.peer_mut().protection = Protection::Clear(InTheClear::NotOffered);
        match self.config.tls {
            TlsDemand::Required => self.end(Ending::TlsNotOffered, Leave::Politely),
            TlsDemand::IfOffered | TlsDemand::Never => self.authenticate(),
        }
    }

    /// V4: what comes in the clear with the reply to STARTTLS was put there by somebody.
    fn tls_promised(&mut self) -> Phase {
        if self.replies.is_empty() {
            return Phase::Handshake(Handshake::Due);
        }
        self.lose(Part::StartTls, Loss::Broken(Fault::ClearTextAfterStartTls))
    }

    pub(super) fn handshake(&mut self, handshake: Handshake, now: Moment) -> Turn {
        if handshake == Handshake::Due {
            return (Phase::Handshake(Handshake::Running), Some(Step::StartTls));
        }
        let deadline = *self.deadline.get_or_insert(now.after(self.config.timeouts.start_tls));
        if self.replies.has_ended() || now >= deadline {
            return (self.end(Ending::HandshakeFailed, Leave::AtOnce), None);
        }
        (Phase::Handshake(handshake), Some(Step::Wait { deadline, notices: false }))
    }

    /// RFC 3207 §4.2: nothing that was learned in the clear is known inside TLS.
    pub(super) fn begin_again_inside_tls(&mut self, handshake: Handshake, facts: TlsFacts) -> Phase {
        self.replies.clear();
        self.deadline = None;
        if handshake == Handshake::Injected {
            return self.lose(Part::StartTls, Loss::Broken(Fault::ClearTextAfterStartTls));
        }
        let peer = self.peer_mut();
        (peer.greeting, peer.hello, peer.name, peer.offers) = (None, None, None, Offers::NONE);
        peer.protection = Protection::Tls(facts);
        self.hello()
    }

    /// AUTH, where there are credentials.
    fn authenticate(&mut self) -> Phase {
        match self.begin_authentication() {
            Ok(None) => Phase::Idle,
            Ok(Some((line, exchange))) => {
                self.command(line.expose());
                Phase::Opening(Opening::Authentication(exchange))
            }
            Err(obstacle) => self.end(Ending::AuthenticationImpossible(obstacle), Leave::Politely),
        }
    }

    fn begin_authentication(&self) -> Result<Option<(Secret, Exchange)>, AuthObstacle> {
        let Some(identity) = &self.config.credentials else { return Ok(None) };
        if !self.peer.protection.is_tls() && !self.config.credentials_in_the_clear {
            return Err(AuthObstacle::NoTls);
        }
        let mechanism = sasl::client::choose(&self.peer.offers.mechanisms).ok_or(AuthObstacle::NotOffered)?;
        let begin = || Exchange::begin(mechanism, identity).map_err(|_| AuthObstacle::Unusable);
        let bare = format!("AUTH {}", mechanism.name());
        let mut exchange = begin()?;
        if let Some(response) = exchange.initial() {
            let line = format!("{bare} {}", sasl::encode(response.expose().as_bytes()));
            if line.len() + 2 <= COMMAND_OCTETS_MAX {
                return Ok(Some((Secret::new(line), exchange)));
            }
            exchange = begin()?;
        }
        Ok(Some((Secret::new(bare), exchange)))
    }

    /// The response to a challenge of AUTH.
    fn respond(&mut self, mut exchange: Exchange) -> Phase {
        match exchange.respond() {
            Ok(response) => {
                self.command(&sasl::encode(response.expose().as_bytes()));
                Phase::Opening(Opening::Authentication(exchange))
            }
            Err(_) => self.lose(Part::Authentication, Loss::Broken(Fault::Unexpected(334))),
        }
    }
}
