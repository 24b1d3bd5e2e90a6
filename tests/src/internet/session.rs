//! One session of a scripted MTA.

use super::grammar::{path_and_parameters, size_of, verb};
use super::listener::{Ending, lock};
use super::mta::{Desk, Received, Recipient};
use super::script::{Act, Script, Stage};
use super::tls::{self, Handshake, Stream};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::time::Duration;

/// Longest line that is read; a longer one ends the session.
const LINE_MAX_OCTETS: u64 = 1 << 20;
/// Longest time that a peer is given to read a last reply.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Whether the session goes on.
type Flow = io::Result<ControlFlow<()>>;
const GO_ON: Flow = Ok(ControlFlow::Continue(()));
const OVER: Flow = Ok(ControlFlow::Break(()));

struct Session<'a> {
    desk: &'a Desk,
    ending: &'a Ending,
    number: usize,
    source: SocketAddr,
    /// Taken out only while TLS begins.
    wire: Option<BufReader<Stream>>,
    helo: Option<String>,
    extended: bool,
    tls: Option<Handshake>,
    login: Option<String>,
    transaction: Option<Transaction>,
    messages: usize,
}

#[derive(Default)]
struct Transaction {
    reverse_path: String,
    parameters: Vec<String>,
    recipients: Vec<Recipient>,
    chunks: Vec<u8>,
    chunked: bool,
}

/// What the script did at a stage.
enum Done {
    /// Nothing: the session does as it should.
    Nothing,
    /// It replied; this is the first octet of the reply.
    Replied(u8),
    /// It ended the session.
    Ended,
}

/// Serves a connection to its end.
pub(crate) fn run(desk: &Desk, ending: &Ending, stream: TcpStream, number: usize) -> io::Result<()> {
    let mut session = Session {
        desk,
        ending,
        number,
        source: stream.peer_addr()?,
        wire: Some(BufReader::new(Stream::Clear(stream))),
        helo: None,
        extended: false,
        tls: None,
        login: None,
        transaction: None,
        messages: 0,
    };
    if session.script(|script| script.implicit_tls) && session.handshake()?.is_break() {
        return Ok(());
    }
    if session.banner()?.is_break() {
        return Ok(());
    }
    while let Some(line) = session.line()? {
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        session.note_impatience(&line);
        desk.edit(number, |connection| connection.commands.push(line.clone()));
        if session.command(&line)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

impl Session<'_> {
    fn script<T>(&self, read: impl FnOnce(&Script) -> T) -> T {
        read(&lock(&self.desk.script))
    }

    fn wire(&mut self) -> io::Result<&mut BufReader<Stream>> {
        self.wire.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// A line with its end; `None` at the end of the stream.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.wire()?.take(LINE_MAX_OCTETS).read_until(b'\n', &mut line)?;
        Ok(line.ends_with(b"\n").then_some(line))
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let stream = self.wire()?.get_mut();
        stream.write_all(octets)?;
        stream.flush()
    }

    fn reply(&mut self, text: &str) -> Flow {
        if text.starts_with("421") {
            self.desk.end(self.number);
        }
        self.write(format!("{text}\r\n").as_bytes())?;
        if text.starts_with("421") { self.farewell() } else { GO_ON }
    }

    /// Ends the connection so that what was written is read: an end with octets unread would be a reset.
    fn farewell(&mut self) -> Flow {
        let stream = self.wire()?.get_mut();
        stream.finish();
        stream.socket().set_read_timeout(Some(FAREWELL_MAX))?;
        // The peer may be silent, or gone.
        let _ = io::copy(stream, &mut io::sink());
        OVER
    }

    /// Does what the script says for a stage.
    fn obey(&mut self, stage: Stage, arguments: &[&str]) -> io::Result<Done> {
        let (delay, act) = lock(&self.desk.script).due(stage, arguments);
        if self.ending.pause(delay) { self.perform(act) } else { Ok(Done::Ended) }
    }

    fn perform(&mut self, act: Option<Act>) -> io::Result<Done> {
        match act {
            None | Some(Act::Delay(_)) => return Ok(Done::Nothing),
            Some(Act::Reply(text)) => {
                let first = text.bytes().next().unwrap_or_default();
                return Ok(if self.reply(&text)?.is_break() { Done::Ended } else { Done::Replied(first) });
            }
            Some(Act::Octets(octets)) => {
                self.write(&octets)?;
                return Ok(Done::Replied(octets.first().copied().unwrap_or_default()));
            }
            Some(Act::ReplyAndClose(text)) => {
                self.desk.end(self.number);
                self.write(format!("{text}\r\n").as_bytes())?;
                let _ = self.farewell()?;
            }
            Some(Act::Close) => {}
            Some(Act::Reset) => {
                let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                nix::sys::socket::setsockopt(
                    self.wire()?.get_ref().socket(),
                    nix::sys::socket::sockopt::Linger,
                    &linger,
                )?;
            }
            Some(Act::Silence) => {
                let stream = self.wire()?.get_mut();
                stream.socket().set_read_timeout(None)?;
                // It ends when the peer closes, or the listener does.
                let _ = io::copy(stream, &mut io::sink());
            }
        }
        Ok(Done::Ended)
    }

    /// Does what the script says for a stage, or sends the right reply; then whether it succeeded.
    fn answer(&mut self, stage: Stage, arguments: &[&str], right: &str) -> io::Result<ControlFlow<(), bool>> {
        Ok(match self.obey(stage, arguments)? {
            Done::Nothing => match self.reply(right)? {
                ControlFlow::Continue(()) => ControlFlow::Continue(matches!(right.as_bytes(), [b'2' | b'3', ..])),
                ControlFlow::Break(()) => ControlFlow::Break(()),
            },
            Done::Replied(first) => ControlFlow::Continue(matches!(first, b'2' | b'3')),
            Done::Ended => ControlFlow::Break(()),
        })
    }

    fn banner(&mut self) -> Flow {
        let (name, most) = self.script(|script| (script.name.clone(), script.connections_max));
        if most.is_some_and(|most| self.desk.open() > most) {
            return self.reply(&format!("421 4.7.0 {name} Too many connections"));
        }
        let protocol = if self.script(|script| script.lmtp) { "LMTP" } else { "ESMTP" };
        Ok(self.answer(Stage::Banner, &[], &format!("220 {name} {protocol}"))?.map_continue(drop))
    }

    /// Whether octets are there that should have waited for our reply.
    fn note_impatience(&mut self, line: &str) {
        let (verb, _) = verb(line);
        // RFC 2920 §3.1. What follows BDAT is its chunk.
        let in_group = matches!(verb.as_str(), "MAIL" | "RCPT" | "RSET");
        let may_go_on = in_group && self.extended && self.script(|script| script.announces("PIPELINING"));
        let waiting = self.wire.as_ref().is_some_and(|wire| !wire.buffer().is_empty());
        if waiting && !may_go_on && verb != "BDAT" {
            self.desk.edit(self.number, |connection| connection.impatient = true);
        }
    }

    fn command(&mut self, line: &str) -> Flow {
        let (verb, rest) = verb(line);
        let lmtp = self.script(|script| script.lmtp);
        let known = self.helo.is_some();
        match verb.as_str() {
            "EHLO" if !lmtp => self.hello(rest, true),
            "LHLO" if lmtp => self.hello(rest, true),
            "HELO" if !lmtp => self.hello(rest, false),
            "STARTTLS" => self.start_tls(),
            "AUTH" if known => self.authenticate(rest),
            "MAIL" if known => self.mail(line),
            "RCPT" if self.transaction.is_some() => self.recipient(line),
            "DATA" if self.transaction.is_some() => self.data(),
            "BDAT" if self.script(|script| script.announces("CHUNKING")) => self.chunk(rest),
            "RSET" => {
                self.transaction = None;
                Ok(self.answer(Stage::Rset, &[], "250 2.0.0 Ok")?.map_continue(drop))
            }
            "NOOP" => Ok(self.answer(Stage::Noop, &[], "250 2.0.0 Ok")?.map_continue(drop)),
            "QUIT" => {
                // From here on it counts no more: whoever has read our reply may connect again.
                self.desk.end(self.number);
                self.quit()
            }
            "VRFY" => self.reply("252 2.0.0 Perhaps"),
            "MAIL" | "RCPT" | "DATA" | "AUTH" => self.reply("503 5.5.1 Bad sequence of commands"),
            _ => self.reply("500 5.5.2 Command not recognized"),
        }
    }

    fn quit(&mut self) -> Flow {
        match self.answer(Stage::Quit, &[], "221 2.0.0 Bye")? {
            ControlFlow::Continue(true) => self.farewell(),
            other => Ok(other.map_continue(drop)),
        }
    }

    fn hello(&mut self, name: &str, extended: bool) -> Flow {
        let stage = match (extended, &self.tls) {
            (false, _) => Stage::Helo,
            (true, Some(_)) if !self.script(|script| script.implicit_tls) => Stage::EhloInTls,
            (true, _) => Stage::Ehlo,
        };
        let right =
            if extended { self.announcement() } else { format!("250 {}", self.script(|script| script.name.clone())) };
        let answer = self.answer(stage, &[name], &right)?;
        if answer == ControlFlow::Continue(true) {
            self.helo = Some(name.to_owned());
            self.extended = extended;
            self.transaction = None;
            self.desk.edit(self.number, |connection| connection.helo = Some(name.to_owned()));
        }
        Ok(answer.map_continue(drop))
    }

    /// The reply to EHLO.
    fn announcement(&self) -> String {
        let inside = self.tls.is_some();
        let mut lines = self.script(|script| {
            let mut lines = vec![script.name.clone()];
            // RFC 8689 §2: REQUIRETLS is offered only inside TLS.
            lines.extend(script.extensions.iter().filter(|extension| inside || *extension != "REQUIRETLS").cloned());
            lines.extend(script.size_max_octets.map(|octets| format!("SIZE {octets}")));
            lines.extend((script.certificate.is_some() && !inside).then(|| "STARTTLS".to_owned()));
            let shows_login = script.login.is_some() && (inside || script.certificate.is_none());
            lines.extend(shows_login.then(|| "AUTH PLAIN LOGIN".to_owned()));
            lines
        });
        let last = lines.pop().unwrap_or_default();
        let first: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
        format!("{first}250 {last}")
    }

    fn start_tls(&mut self) -> Flow {
        if self.tls.is_some() || self.script(|script| script.certificate.is_none()) {
            return self.reply("502 5.5.1 STARTTLS not available");
        }
        match self.answer(Stage::StartTls, &[], "220 2.0.0 Ready to start TLS")? {
            ControlFlow::Continue(true) => self.handshake(),
            other => Ok(other.map_continue(drop)),
        }
    }

    fn handshake(&mut self) -> Flow {
        match self.obey(Stage::Handshake, &[])? {
            Done::Nothing => {}
            // What was sent is no TLS; the client will say so.
            Done::Replied(_) => return self.farewell(),
            Done::Ended => return OVER,
        }
        let (first, named, only_tls12) =
            self.script(|script| (script.certificate.clone(), script.named.clone(), script.only_tls12));
        let first = first.ok_or_else(|| io::Error::other("no certificate"))?;
        let config = tls::config(&first, &named, only_tls12).map_err(io::Error::other)?;
        // Octets sent in clear after STARTTLS are not read (RFC 3207 §4.2).
        let Some(Stream::Clear(stream)) = self.wire.take().map(BufReader::into_inner) else {
            return OVER;
        };
        match tls::accept(stream, config) {
            Ok((stream, handshake)) => {
                self.wire = Some(BufReader::new(stream));
                self.helo = None;
                self.transaction = None;
                self.desk.edit(self.number, |connection| connection.tls = Some(handshake.clone()));
                self.tls = Some(handshake);
                GO_ON
            }
            Err(error) => {
                self.desk.edit(self.number, |connection| connection.tls_failure = Some(error.to_string()));
                OVER
            }
        }
    }

    fn authenticate(&mut self, rest: &str) -> Flow {
        let Some((name, password)) = self.script(|script| script.login.clone()) else {
            return self.reply("502 5.5.1 AUTH not available");
        };
        match self.obey(Stage::Auth, &[])? {
            Done::Nothing => {}
            Done::Replied(_) => return GO_ON,
            Done::Ended => return OVER,
        }
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let right = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let answer = if initial.is_empty() { self.ask("")? } else { initial.to_owned() };
                // RFC 4616 §2; an identity to act for is not looked at.
                STANDARD.decode(answer).is_ok_and(|text| text.ends_with(format!("\0{name}\0{password}").as_bytes()))
            }
            "LOGIN" => {
                let given = if initial.is_empty() { self.ask("VXNlcm5hbWU6")? } else { initial.to_owned() };
                let secret = self.ask("UGFzc3dvcmQ6")?;
                given == STANDARD.encode(&name) && secret == STANDARD.encode(&password)
            }
            _ => return self.reply("504 5.5.4 Unrecognized mechanism"),
        };
        if !right {
            return self.reply("535 5.7.8 Authentication failed");
        }
        self.login = Some(name);
        self.reply("235 2.7.0 Authentication successful")
    }

    fn ask(&mut self, challenge: &str) -> io::Result<String> {
        self.write(format!("334 {challenge}\r\n").as_bytes())?;
        let line = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn mail(&mut self, line: &str) -> Flow {
        let Some((path, parameters)) = path_and_parameters(line, "MAIL FROM:") else {
            return self.reply("501 5.5.4 Syntax: MAIL FROM:<address>");
        };
        let refusal = self.script(|script| {
            let too_large = |most: u64| size_of(&parameters).is_some_and(|octets| octets > most);
            if script.messages_max.is_some_and(|most| self.messages >= most) {
                Some(format!("421 4.7.0 {} Too many messages in this session", script.name))
            } else if script.tls_required && self.tls.is_none() {
                Some("530 5.7.0 Must issue a STARTTLS command first".to_owned())
            } else if script.login.is_some() && self.login.is_none() {
                Some("530 5.7.0 Authentication required".to_owned())
            } else if !self.knows(
                script,
                &parameters,
                &["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "REQUIRETLS", "AUTH"],
            ) {
                Some("555 5.5.4 Unsupported parameter".to_owned())
            } else if script.size_max_octets.is_some_and(too_large) {
                Some("552 5.3.4 Message too big".to_owned())
            } else if !path.is_ascii() && !parameters.iter().any(|one| one.eq_ignore_ascii_case("SMTPUTF8")) {
                Some("553 5.6.7 SMTPUTF8 needed".to_owned())
            } else {
                self.transaction.is_some().then(|| "503 5.5.1 Nested MAIL".to_owned())
            }
        });
        let answer = self.answer(Stage::Mail, &[&path], refusal.as_deref().unwrap_or("250 2.1.0 Ok"))?;
        if answer == ControlFlow::Continue(true) {
            self.transaction = Some(Transaction { reverse_path: path, parameters, ..Transaction::default() });
        }
        Ok(answer.map_continue(drop))
    }

    /// Whether all parameters belong to extensions that were announced (RFC 5321 §4.1.1.11).
    fn knows(&self, script: &Script, parameters: &[String], possible: &[&str]) -> bool {
        parameters.iter().all(|parameter| {
            let name = parameter.split('=').next().unwrap_or_default().to_ascii_uppercase();
            let announced = match name.as_str() {
                "SIZE" => script.size_max_octets.is_some() || script.announces("SIZE"),
                "BODY" => script.announces("8BITMIME"),
                "SMTPUTF8" => script.announces("SMTPUTF8"),
                "REQUIRETLS" => script.announces("REQUIRETLS") && self.tls.is_some(),
                "AUTH" => script.login.is_some(),
                _ => script.announces("DSN"),
            };
            self.extended && announced && possible.contains(&name.as_str())
        })
    }

    fn recipient(&mut self, line: &str) -> Flow {
        let Some((address, parameters)) = path_and_parameters(line, "RCPT TO:") else {
            return self.reply("501 5.5.4 Syntax: RCPT TO:<address>");
        };
        let known = self.script(|script| self.knows(script, &parameters, &["NOTIFY", "ORCPT"]));
        let most = self.script(|script| script.recipients_max);
        let taken = self.transaction.as_ref().map_or(0, |transaction| transaction.recipients.len());
        let right = if !known {
            "555 5.5.4 Unsupported parameter"
        } else if most.is_some_and(|most| taken >= most) {
            "452 4.5.3 Too many recipients"
        } else {
            "250 2.1.5 Ok"
        };
        let answer = self.answer(Stage::Recipient, &[&address], right)?;
        if answer == ControlFlow::Continue(true)
            && let Some(transaction) = &mut self.transaction
        {
            transaction.recipients.push(Recipient { address, parameters, reply: None });
        }
        Ok(answer.map_continue(drop))
    }

    fn data(&mut self) -> Flow {
        let some = self.transaction.as_ref().is_some_and(|one| !one.recipients.is_empty());
        let right = if some { "354 End data with <CR><LF>.<CR><LF>" } else { "554 5.5.1 No valid recipients" };
        match self.answer(Stage::Data, &[], right)? {
            ControlFlow::Continue(true) => {}
            other => return Ok(other.map_continue(drop)),
        }
        let mut octets = Vec::new();
        let mut uncut = true;
        loop {
            let Some(line) = self.line()? else { return OVER };
            if line == b".\r\n" {
                break;
            }
            octets.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            if uncut && octets.len() as u64 >= self.script(|script| script.content_cut) {
                uncut = false;
                if let Done::Ended = self.obey(Stage::Content, &[])? {
                    return OVER;
                }
            }
        }
        self.end(octets, false)
    }

    fn chunk(&mut self, rest: &str) -> Flow {
        let (size, last) = rest.split_once(' ').unwrap_or((rest, ""));
        let Ok(size) = size.parse::<u64>() else { return self.reply("501 5.5.4 Syntax: BDAT size [LAST]") };
        let mut octets = Vec::new();
        self.wire()?.take(size).read_to_end(&mut octets)?;
        if octets.len() as u64 != size {
            return OVER;
        }
        let cut = self.script(|script| script.content_cut);
        let Some(transaction) = self.transaction.as_mut().filter(|one| !one.recipients.is_empty()) else {
            return self.reply("503 5.5.1 No valid recipients");
        };
        transaction.chunks.extend_from_slice(&octets);
        let whole = transaction.chunks.len() as u64;
        let before = whole - octets.len() as u64;
        transaction.chunked = true;
        if before < cut && whole >= cut && matches!(self.obey(Stage::Content, &[])?, Done::Ended) {
            return OVER;
        }
        if !last.eq_ignore_ascii_case("LAST") {
            return self.reply(&format!("250 2.0.0 {size} octets received"));
        }
        let octets = self.transaction.as_mut().map(|one| std::mem::take(&mut one.chunks)).unwrap_or_default();
        self.end(octets, true)
    }

    /// The message is complete: replies once, or for LMTP once for each recipient (RFC 2033 §4.2).
    fn end(&mut self, octets: Vec<u8>, chunked: bool) -> Flow {
        let Some(transaction) = self.transaction.take() else { return OVER };
        let helo = self.helo.clone().unwrap_or_default();
        let most = self.script(|script| script.size_max_octets);
        let too_big = most.is_some_and(|most| octets.len() as u64 > most);
        let addresses: Vec<String> = transaction.recipients.iter().map(|one| one.address.clone()).collect();
        let message = self.desk.receive(Received {
            connection: self.number,
            source: self.source,
            helo,
            tls: self.tls.clone(),
            login: self.login.clone(),
            reverse_path: transaction.reverse_path,
            parameters: transaction.parameters,
            recipients: transaction.recipients,
            octets,
            chunked,
        });
        self.messages += 1;
        let right =
            if too_big { "552 5.3.4 Message too big".to_owned() } else { format!("250 2.0.0 Ok: queued as {message}") };
        let lmtp = self.script(|script| script.lmtp);
        let groups: Vec<Vec<&str>> = if lmtp {
            addresses.iter().map(|address| vec![address.as_str()]).collect()
        } else {
            vec![addresses.iter().map(String::as_str).collect()]
        };
        for (place, group) in groups.iter().enumerate() {
            let answered: Vec<usize> = if lmtp { vec![place] } else { (0..addresses.len()).collect() };
            if self.verdict(message, &answered, group, &right)?.is_break() {
                return OVER;
            }
        }
        GO_ON
    }

    /// Replies for recipients of a complete message: what is remembered is remembered before the reply is sent.
    fn verdict(&mut self, message: usize, recipients: &[usize], addresses: &[&str], right: &str) -> Flow {
        let (delay, act) = lock(&self.desk.script).due(Stage::End, addresses);
        if !self.ending.pause(delay) {
            return OVER;
        }
        let text = match &act {
            None => Some(right.to_owned()),
            Some(Act::Reply(text) | Act::ReplyAndClose(text)) => Some(text.clone()),
            Some(Act::Octets(octets)) => Some(String::from_utf8_lossy(octets).into_owned()),
            Some(Act::Close | Act::Reset | Act::Silence | Act::Delay(_)) => None,
        };
        for recipient in recipients {
            if let Some(text) = &text {
                self.desk.reply(message, *recipient, text);
            }
        }
        match self.perform(act)? {
            Done::Nothing => self.reply(right),
            Done::Replied(_) => GO_ON,
            Done::Ended => OVER,
        }
    }
}
