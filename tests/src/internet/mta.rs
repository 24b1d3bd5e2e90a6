//! An MTA that fails where its script says so, and remembers everything it has heard.

use super::listener::{Ending, Listener, lock};
use super::script::Script;
use super::session;
use super::tls::Handshake;
use crate::client::Message;
use anyhow::bail;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for something to be remembered.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A running scripted MTA; it ends when dropped, and every connection with it.
pub struct ScriptedMta {
    address: SocketAddrV4,
    desk: Arc<Desk>,
    listener: Mutex<Option<Listener>>,
}

/// What sessions share.
pub(crate) struct Desk {
    pub(crate) script: Mutex<Script>,
    book: Mutex<Book>,
    written: Condvar,
}

/// What is remembered.
#[derive(Default)]
struct Book {
    connections: Vec<Connection>,
    contents: Vec<Received>,
    open_max: usize,
}

/// A connection, as it was seen from here.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Connections are counted from 0.
    pub number: usize,
    /// Where it came from.
    pub source: SocketAddr,
    /// The name in the last EHLO, LHLO or HELO.
    pub helo: Option<String>,
    /// The handshake of TLS, when it was completed.
    pub tls: Option<Handshake>,
    /// Why a handshake was not completed; an alert of the client is in it.
    pub tls_failure: Option<String>,
    /// Every command, without line end; of AUTH only the first line.
    pub commands: Vec<String>,
    /// Octets were there that should have waited: after EHLO, STARTTLS or another command that ends a group (RFC 2920 §3.1),
    /// or after any, where PIPELINING was not announced.
    pub impatient: bool,
    /// When it was taken.
    pub begun: Instant,
    /// When it ended, or the reply to QUIT, or 421, was about to be sent.
    pub ended: Option<Instant>,
}

/// A recipient of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Its address, without angle brackets.
    pub address: String,
    /// Parameters of RCPT, as they came.
    pub parameters: Vec<String>,
    /// The reply that ended it: after the message, or the message's only one. `None` when none was sent.
    pub reply: Option<String>,
}

/// A message that came completely.
#[derive(Debug, Clone)]
pub struct Received {
    /// Number of its connection.
    pub connection: usize,
    /// Where it came from.
    pub source: SocketAddr,
    /// The name in EHLO, LHLO or HELO.
    pub helo: String,
    /// The handshake of TLS, if there was one.
    pub tls: Option<Handshake>,
    /// Who logged in.
    pub login: Option<String>,
    /// Its reverse-path, without angle brackets.
    pub reverse_path: String,
    /// Parameters of MAIL, as they came.
    pub parameters: Vec<String>,
    /// Recipients that RCPT did not refuse.
    pub recipients: Vec<Recipient>,
    /// Its octets, without the dots that RFC 5321 §4.5.2 adds.
    pub octets: Vec<u8>,
    /// Whether it came by BDAT (RFC 3030).
    pub chunked: bool,
}

impl Received {
    /// Addresses of the recipients it was taken for.
    pub fn accepted(&self) -> Vec<&str> {
        let taken = self.recipients.iter().filter(|one| one.reply.as_ref().is_some_and(|reply| reply.starts_with('2')));
        taken.map(|recipient| recipient.address.as_str()).collect()
    }

    /// The message, for its header fields and body.
    pub fn message(&self) -> Message {
        Message { uid: 0, flags: String::new(), octets: self.octets.clone() }
    }
}

impl ScriptedMta {
    /// Starts one.
    pub fn start(address: SocketAddrV4, script: Script) -> anyhow::Result<ScriptedMta> {
        let desk = Desk { script: Mutex::new(script), book: Mutex::new(Book::default()), written: Condvar::new() };
        let mta = ScriptedMta { address, desk: Arc::new(desk), listener: Mutex::new(None) };
        mta.listen()?;
        Ok(mta)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Changes the script; open sessions see it at their next command.
    pub fn set_script(&self, script: Script) {
        *lock(&self.desk.script) = script;
    }

    /// Stops listening: connections are refused from now on, and open ones end.
    pub fn refuse(&self) {
        *lock(&self.listener) = None;
    }

    /// Listens again.
    pub fn listen(&self) -> anyhow::Result<()> {
        let mut listener = lock(&self.listener);
        if listener.is_none() {
            let desk = Arc::clone(&self.desk);
            *listener = Some(Listener::start(self.address, move |stream, ending| serve(&desk, stream, ending))?);
        }
        Ok(())
    }

    /// Messages it took for at least one recipient, oldest first.
    pub fn messages(&self) -> Vec<Received> {
        let book = lock(&self.desk.book);
        book.contents.iter().filter(|message| !message.accepted().is_empty()).cloned().collect()
    }

    /// Messages that came completely, whatever became of them.
    pub fn contents(&self) -> Vec<Received> {
        lock(&self.desk.book).contents.clone()
    }

    /// All connections, oldest first.
    pub fn connections(&self) -> Vec<Connection> {
        lock(&self.desk.book).connections.clone()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        open(&lock(&self.desk.book))
    }

    /// The most connections that were open at once.
    pub fn open_max(&self) -> usize {
        lock(&self.desk.book).open_max
    }

    /// Waits until it has taken so many messages, and gives them all.
    pub fn wait_for_messages(&self, count: usize) -> anyhow::Result<Vec<Received>> {
        self.wait_until(|| self.messages().len() >= count)?;
        Ok(self.messages())
    }

    /// Waits until so many connections have come and gone, and gives them all.
    pub fn wait_for_connections(&self, count: usize) -> anyhow::Result<Vec<Connection>> {
        self.wait_until(|| self.connections().iter().filter(|connection| connection.ended.is_some()).count() >= count)?;
        Ok(self.connections())
    }

    /// Waits until something is so of what it has heard.
    pub fn wait_until(&self, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !is_so() {
            if begun.elapsed() > WAIT_MAX {
                bail!("not after {WAIT_MAX:?}: {:#?}\n{:#?}", self.connections(), self.contents());
            }
            let book = lock(&self.desk.book);
            // What is written between the question and here is seen at the next look.
            let look = Duration::from_millis(20);
            drop(self.desk.written.wait_timeout(book, look).unwrap_or_else(PoisonError::into_inner));
        }
        Ok(())
    }
}

fn open(book: &Book) -> usize {
    book.connections.iter().filter(|connection| connection.ended.is_none()).count()
}

fn serve(desk: &Desk, stream: TcpStream, ending: &Ending) {
    let Ok(source) = stream.peer_addr() else { return };
    let number = desk.begin(source);
    // A peer that went away is no event here: what it said before is remembered.
    let _ = session::run(desk, ending, stream, number);
    desk.end(number);
}

impl Desk {
    fn begin(&self, source: SocketAddr) -> usize {
        let mut book = lock(&self.book);
        let number = book.connections.len();
        book.connections.push(Connection {
            number,
            source,
            helo: None,
            tls: None,
            tls_failure: None,
            commands: Vec::new(),
            impatient: false,
            begun: Instant::now(),
            ended: None,
        });
        book.open_max = book.open_max.max(open(&book));
        self.written.notify_all();
        number
    }

    /// Open connections.
    pub(crate) fn open(&self) -> usize {
        open(&lock(&self.book))
    }

    /// Writes about a connection.
    pub(crate) fn edit(&self, number: usize, edit: impl FnOnce(&mut Connection)) {
        if let Some(connection) = lock(&self.book).connections.get_mut(number) {
            edit(connection);
        }
        self.written.notify_all();
    }

    /// Counts a connection as ended.
    pub(crate) fn end(&self, number: usize) {
        self.edit(number, |connection| connection.ended = connection.ended.or(Some(Instant::now())));
    }

    /// Remembers a message that has come completely; gives its place.
    pub(crate) fn receive(&self, message: Received) -> usize {
        let mut book = lock(&self.book);
        book.contents.push(message);
        self.written.notify_all();
        book.contents.len() - 1
    }

    /// Remembers the reply for a recipient of a message. It does so before the reply is sent: whoever has read the reply
    /// finds the message here.
    pub(crate) fn reply(&self, message: usize, recipient: usize, reply: &str) {
        let mut book = lock(&self.book);
        if let Some(recipient) =
            book.contents.get_mut(message).and_then(|message| message.recipients.get_mut(recipient))
        {
            recipient.reply = Some(reply.to_owned());
        }
        self.written.notify_all();
    }
}
