//! What each command does, and how replies are written.

use super::{FAULTS_MAX, Phase, Session, Work};
use crate::command::{Command, CommandError, parse};
use crate::config::Capability;
use crate::maildrop::{Column, Maildrop, NumberError};
use crate::question::Question;
use mail::{Message, Secret};
use sasl::{Credentials, Exchange, Mechanism, SaslError, Turn};
use std::fmt::Arguments;
use std::io::Write as _;

/// R57: the words that clients of the usual servers know.
const NO_PLAINTEXT: &str = "[AUTH] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.";
const LOG_IN_FIRST: &str = "Log in first.";

impl Session {
    /// Carries out a command line.
    pub(super) fn command(&mut self, line: &[u8]) {
        // RFC 1939 §7: PASS counts only right after USER, so any other command forgets the name.
        let user = match &mut self.phase {
            Phase::Authorization { user } => user.take(),
            Phase::Exchange(_) | Phase::Transaction(_) => None,
        };
        match parse(line) {
            Ok(command) if !self.is_known(&command) => self.fault("Unknown command."),
            Ok(command) => self.obey(command, user),
            Err(CommandError::Unknown) => self.fault("Unknown command."),
            Err(CommandError::Arguments) => self.fault("Arguments are missing or wrong."),
            Err(CommandError::Http) => {
                // V49: a browser is being used against us; what follows may be commands in disguise.
                self.fail("This is a POP3 server.");
                self.work = Work::Closing;
            }
        }
    }

    fn obey(&mut self, command: Command, user: Option<String>) {
        match command {
            Command::Capa => self.capa(),
            Command::Stls => self.stls(),
            Command::User(name) => self.user(name),
            Command::Pass(password) => self.pass(user, password),
            Command::Auth(mechanism, initial) => self.auth(&mechanism, initial.as_deref()),
            Command::AuthList => self.auth_list(),
            Command::Quit => self.quit(),
            Command::Stat => self.with_maildrop(|session, maildrop| {
                session.succeed(format_args!("{} {}", maildrop.messages(), maildrop.octets()));
            }),
            Command::List(number) => self.listing(Column::Size, number),
            Command::Uidl(number) => self.listing(Column::UniqueId, number),
            Command::Retr(number) => self.with_message(number, |session, message| session.send(message, None)),
            Command::Top(number, lines) => {
                self.with_message(number, |session, message| session.send(message, Some(lines)));
            }
            Command::Dele(number) => self.with_maildrop(|session, maildrop| match maildrop.mark(number) {
                Ok(()) => session.succeed(format_args!("Message {number} deleted.")),
                Err(error) => session.no_message(error, maildrop),
            }),
            Command::Rset => self.with_maildrop(|session, maildrop| {
                maildrop.unmark_all();
                let (messages, octets) = (maildrop.messages(), maildrop.octets());
                session.succeed(format_args!("The maildrop has {messages} messages ({octets} octets)."));
            }),
            Command::Noop => self.with_maildrop(|session, _| session.succeed(format_args!("Nothing done."))),
        }
    }

    /// Whether the listener offers a command.
    fn is_known(&self, command: &Command) -> bool {
        match command {
            Command::Stls => self.config.has(Capability::Stls),
            Command::User(_) | Command::Pass(_) => self.config.has(Capability::User),
            Command::Auth(..) | Command::AuthList => self.config.has(Capability::Sasl),
            Command::Uidl(_) => self.config.has(Capability::Uidl),
            Command::Top(..) => self.config.has(Capability::Top),
            Command::Capa
            | Command::Quit
            | Command::Stat
            | Command::List(_)
            | Command::Retr(_)
            | Command::Dele(_)
            | Command::Rset
            | Command::Noop => true,
        }
    }

    /// RFC 2449 §5: the same list before and after login, but for STLS, which ends with AUTHORIZATION (RFC 2595 §7).
    fn capa(&mut self) {
        self.succeed(format_args!("Capability list follows."));
        for capability in Capability::ALL {
            let offered = match capability {
                Capability::Stls => {
                    self.config.tls_available && !self.tls && matches!(self.phase, Phase::Authorization { .. })
                }
                // RFC 5034 §4: no plaintext mechanism is announced or allowed outside TLS.
                Capability::User | Capability::Sasl => self.tls,
                Capability::Top
                | Capability::Uidl
                | Capability::RespCodes
                | Capability::Pipelining
                | Capability::AuthRespCode
                | Capability::Expire => true,
            };
            if !offered || !self.config.has(capability) {
                continue;
            }
            self.output.extend_from_slice(capability.name().as_bytes());
            match capability {
                Capability::Sasl => {
                    for mechanism in Mechanism::ALL {
                        self.output.push(b' ');
                        self.output.extend_from_slice(mechanism.name().as_bytes());
                    }
                }
                Capability::Expire => self.output.extend_from_slice(b" NEVER"),
                Capability::Top
                | Capability::Uidl
                | Capability::RespCodes
                | Capability::Pipelining
                | Capability::AuthRespCode
                | Capability::Stls
                | Capability::User => {}
            }
            self.output.extend_from_slice(b"\r\n");
        }
        self.output.extend_from_slice(b".\r\n");
    }

    /// RFC 2595 §4.
    fn stls(&mut self) {
        if self.tls {
            self.fail("TLS is active already.");
        } else if !self.config.tls_available {
            self.fail("TLS is not available.");
        } else if !matches!(self.phase, Phase::Authorization { .. }) {
            self.fail("Too late for TLS.");
        } else {
            // V3: commands sent ahead of the handshake could be anybody's.
            self.input.clear();
            self.succeed(format_args!("Begin TLS negotiation now."));
            self.work = Work::StartTls;
        }
    }

    /// RFC 1939 §7: the reply does not tell whether the account exists.
    fn user(&mut self, name: String) {
        if self.may_authenticate() {
            self.phase = Phase::Authorization { user: Some(name) };
            self.succeed(format_args!("Now the password."));
        }
    }

    fn pass(&mut self, user: Option<String>, password: Secret) {
        if !self.may_authenticate() {
            return;
        }
        let Some(login) = user else { return self.fault("USER comes first.") };
        let authorization = String::new();
        self.authenticate(Credentials { authorization, login, password, mechanism: Mechanism::Plain });
    }

    /// RFC 5034 §4.
    fn auth(&mut self, mechanism: &str, initial: Option<&[u8]>) {
        if !self.may_authenticate() {
            return;
        }
        let Some(mechanism) = Mechanism::parse(mechanism) else { return self.fault("No such mechanism.") };
        match initial.map(sasl::decode).transpose() {
            Ok(initial) => {
                let (exchange, turn) = Exchange::begin(mechanism, initial.as_deref());
                self.turn(exchange, turn);
            }
            Err(error) => self.exchange_failed(error),
        }
    }

    /// AUTH without a mechanism is not in RFC 5034; clients from before CAPA use it to learn what there is.
    fn auth_list(&mut self) {
        if self.may_authenticate() {
            self.succeed(format_args!("Mechanisms follow."));
            for mechanism in Mechanism::ALL {
                self.output.extend_from_slice(mechanism.name().as_bytes());
                self.output.extend_from_slice(b"\r\n");
            }
            self.output.extend_from_slice(b".\r\n");
        }
    }

    /// Takes the client's response to a challenge.
    pub(super) fn response(&mut self, mut exchange: Exchange, line: &[u8]) {
        match sasl::decode(line) {
            Ok(response) => {
                let turn = exchange.respond(&response);
                self.turn(exchange, turn);
            }
            Err(error) => self.exchange_failed(error),
        }
    }

    fn turn(&mut self, exchange: Exchange, turn: Turn) {
        match turn {
            Turn::Challenge(challenge) => {
                self.phase = Phase::Exchange(exchange);
                // RFC 5034 §4: even an empty challenge has its space.
                self.output.extend_from_slice(b"+ ");
                self.output.extend_from_slice(sasl::encode(&challenge).as_bytes());
                self.output.extend_from_slice(b"\r\n");
            }
            Turn::Credentials(credentials) => self.authenticate(credentials),
            Turn::Failed(error) => self.exchange_failed(error),
        }
    }

    fn exchange_failed(&mut self, error: SaslError) {
        match error {
            SaslError::Base64 => self.fault("The response is not base64."),
            SaslError::Malformed => self.fault("The response is not of the mechanism's form."),
            SaslError::Aborted => self.fault("Authentication aborted."),
        }
    }

    fn authenticate(&mut self, credentials: Credentials) {
        self.question = Some(Question::Authenticate(credentials));
        self.work = Work::Authenticating;
    }

    /// Whether the client may authenticate here and now; if not, says so.
    fn may_authenticate(&mut self) -> bool {
        if matches!(self.phase, Phase::Transaction(_)) {
            self.fail("Already logged in.");
            return false;
        }
        if !self.tls {
            self.fail(NO_PLAINTEXT);
            return false;
        }
        true
    }

    /// RFC 1939 §4 and §6.
    fn quit(&mut self) {
        let Phase::Transaction(maildrop) = &self.phase else {
            self.sign_off(None);
            self.work = Work::Closing;
            return;
        };
        let (uids, left) = (maildrop.marked(), maildrop.messages());
        if uids.is_empty() {
            self.sign_off(Some(left));
            self.work = Work::Closing;
        } else {
            self.question = Some(Question::Remove(uids));
            self.work = Work::Removing { left };
        }
    }

    /// Says goodbye, with the messages left in the maildrop.
    pub(super) fn sign_off(&mut self, left: Option<u32>) {
        match left {
            None => self.succeed(format_args!("Signing off.")),
            Some(0) => self.succeed(format_args!("Signing off (maildrop empty).")),
            Some(1) => self.succeed(format_args!("Signing off (1 message left).")),
            Some(left) => self.succeed(format_args!("Signing off ({left} messages left).")),
        }
    }

    fn listing(&mut self, column: Column, number: Option<u32>) {
        self.with_maildrop(|session, maildrop| match number {
            Some(number) => match maildrop.message(number) {
                Ok(message) => {
                    session.output.extend_from_slice(b"+OK ");
                    maildrop.line(column, number, message, &mut session.output);
                }
                Err(error) => session.no_message(error, maildrop),
            },
            None => {
                let (messages, octets) = (maildrop.messages(), maildrop.octets());
                session.succeed(format_args!("{messages} messages ({octets} octets)"));
                session.work = Work::Listing { column, index: 0 };
            }
        });
    }

    fn with_message(&mut self, number: u32, then: impl FnOnce(&mut Session, Message)) {
        self.with_maildrop(|session, maildrop| match maildrop.message(number).copied() {
            Ok(message) => then(session, message),
            Err(error) => session.no_message(error, maildrop),
        });
    }

    /// Does something with the maildrop, or says that there is none yet.
    fn with_maildrop(&mut self, then: impl FnOnce(&mut Session, &mut Maildrop)) {
        match std::mem::replace(&mut self.phase, Phase::Authorization { user: None }) {
            Phase::Transaction(mut maildrop) => {
                then(self, &mut maildrop);
                self.phase = Phase::Transaction(maildrop);
            }
            phase @ (Phase::Authorization { .. } | Phase::Exchange(_)) => {
                self.phase = phase;
                self.fail(LOG_IN_FIRST);
            }
        }
    }

    fn no_message(&mut self, error: NumberError, maildrop: &Maildrop) {
        match error {
            NumberError::None => self.refuse(format_args!("No such message among {} here.", maildrop.numbers())),
            NumberError::Deleted => self.fail("The message is deleted."),
        }
    }

    /// Writes a positive reply. No text begins with a bracket unless it is a response code (RFC 2449 §6.4).
    pub(super) fn succeed(&mut self, text: Arguments<'_>) {
        self.status("+OK", text);
    }

    /// Writes a negative reply.
    pub(super) fn fail(&mut self, text: &str) {
        self.refuse(format_args!("{text}"));
    }

    /// Writes a negative reply to a line that was no proper command. After too many the session ends.
    pub(super) fn fault(&mut self, text: &str) {
        self.faults = self.faults.saturating_add(1);
        if self.faults < FAULTS_MAX {
            return self.fail(text);
        }
        self.fail("Too many errors.");
        self.work = Work::Closing;
    }

    fn refuse(&mut self, text: Arguments<'_>) {
        self.status("-ERR", text);
    }

    fn status(&mut self, indicator: &str, text: Arguments<'_>) {
        // Writing to a vector cannot fail.
        let _ = write!(self.output, "{indicator} {text}\r\n");
    }
}
