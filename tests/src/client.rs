//! The smallest clients that tests need: SMTP in clear, IMAP inside TLS. They read exactly what they must.

use anyhow::{Context, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// An SMTP client.
pub struct Smtp {
    stream: BufReader<TcpStream>,
}

impl Smtp {
    /// Connects and greets.
    pub fn connect(port: u16) -> anyhow::Result<Smtp> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_nodelay(true)?;
        let mut client = Smtp { stream: BufReader::new(stream) };
        client.expect(2)?;
        client.command("EHLO client.example.org", 2)?;
        Ok(client)
    }

    /// Sends a command; an error unless the reply's first digit is as wanted.
    pub fn command(&mut self, line: &str, class: u8) -> anyhow::Result<String> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.expect(class)
    }

    /// Sends a whole message to recipients. An answer is a promise.
    pub fn send(&mut self, from: &str, recipients: &[&str], message: &str) -> anyhow::Result<String> {
        self.send_octets(from, recipients, format!("{message}\r\n").as_bytes())
    }

    /// The same for octets that end with CRLF. Dots at line starts must have been doubled.
    pub fn send_octets(&mut self, from: &str, recipients: &[&str], message: &[u8]) -> anyhow::Result<String> {
        let mut text = format!("MAIL FROM:<{from}>\r\n");
        for recipient in recipients {
            text.push_str(&format!("RCPT TO:<{recipient}>\r\n"));
        }
        text.push_str("DATA\r\n");
        self.stream.get_mut().write_all(text.as_bytes())?;
        for _ in 0..=recipients.len() {
            self.expect(2)?;
        }
        self.expect(3)?;
        self.stream.get_mut().write_all(&[message, b".\r\n"].concat())?;
        self.expect(2)
    }

    fn expect(&mut self, class: u8) -> anyhow::Result<String> {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("the server closed the connection");
            }
            if line.as_bytes().first() != Some(&(b'0' + class)) {
                bail!("unexpected reply: {line}");
            }
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(line);
            }
        }
    }
}

/// An IMAP client inside TLS. It does not judge the server's certificate.
pub struct Imap {
    stream: BufReader<Tls>,
    tag: u32,
}

/// One untagged response: its text, with literals in place.
pub type Untagged = Vec<u8>;

impl Imap {
    /// Connects and logs in.
    pub fn login(port: u16, account: &str, password: &str) -> anyhow::Result<Imap> {
        let mut client = Imap::connect(port)?;
        client.command(&format!("LOGIN {account} {password}"))?;
        Ok(client)
    }

    /// Connects.
    pub fn connect(port: u16) -> anyhow::Result<Imap> {
        let mut client = Imap { stream: BufReader::new(tls(port)?), tag: 0 };
        client.response()?;
        Ok(client)
    }

    /// Sends a command and gives the untagged responses and the text of the tagged OK.
    pub fn command(&mut self, command: &str) -> anyhow::Result<(Vec<Untagged>, String)> {
        self.begin(command)?;
        self.finish(command)
    }

    /// Sends a command with one literal at its end.
    pub fn literal(&mut self, command: &str, literal: &[u8]) -> anyhow::Result<(Vec<Untagged>, String)> {
        self.begin(&format!("{command} {{{}+}}", literal.len()))?;
        self.stream.get_mut().write_all(literal)?;
        self.stream.get_mut().write_all(b"\r\n")?;
        self.stream.get_mut().flush()?;
        self.finish(command)
    }

    /// Every message of a mailbox, by EXAMINE: nothing changes by looking.
    pub fn messages(&mut self, mailbox: &str) -> anyhow::Result<Vec<Message>> {
        self.command(&format!("EXAMINE {mailbox}"))?;
        self.fetched("UID FETCH 1:* (UID FLAGS BODY.PEEK[])")
    }

    /// The messages that a FETCH of `(UID FLAGS BODY.PEEK[])` gives.
    pub fn fetched(&mut self, fetch: &str) -> anyhow::Result<Vec<Message>> {
        let (responses, _) = self.command(fetch)?;
        Ok(responses.iter().filter_map(|response| Message::parse(response)).collect())
    }

    /// Every message of a mailbox as text.
    pub fn texts(&mut self, mailbox: &str) -> anyhow::Result<Vec<String>> {
        Ok(self.messages(mailbox)?.into_iter().map(|message| message.text()).collect())
    }

    /// Sends a command without waiting for its answer.
    pub fn begin(&mut self, command: &str) -> anyhow::Result<()> {
        self.tag += 1;
        let line = format!("a{} {command}\r\n", self.tag);
        self.stream.get_mut().write_all(line.as_bytes())?;
        Ok(self.stream.get_mut().flush()?)
    }

    fn finish(&mut self, command: &str) -> anyhow::Result<(Vec<Untagged>, String)> {
        let tag = format!("a{} ", self.tag);
        let mut untagged = Vec::new();
        loop {
            let response = self.response()?;
            match response.strip_prefix(tag.as_bytes()) {
                Some(rest) if rest.starts_with(b"OK") => {
                    return Ok((untagged, String::from_utf8_lossy(rest).trim_end().to_owned()));
                }
                Some(rest) => bail!("{command}: {}", String::from_utf8_lossy(rest).trim_end()),
                None => untagged.push(response),
            }
        }
    }

    /// Reads one response, literals included.
    pub fn response(&mut self) -> anyhow::Result<Untagged> {
        let mut whole = Vec::new();
        loop {
            let before = whole.len();
            if self.stream.read_until(b'\n', &mut whole)? == 0 {
                bail!("the server closed the connection");
            }
            let line = String::from_utf8_lossy(whole.get(before..).unwrap_or_default()).into_owned();
            let line = line.trim_end_matches(['\r', '\n']);
            let Some(octets) = line.strip_suffix('}').and_then(|line| line.rsplit_once('{')).map(|(_, number)| number)
            else {
                return Ok(whole);
            };
            let octets: usize = octets.parse().context("literal")?;
            let start = whole.len();
            whole.resize(start + octets, 0);
            self.stream.read_exact(&mut whole[start..])?;
        }
    }
}

/// A message as FETCH gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its UID.
    pub uid: u32,
    /// Its flags, as the server wrote them, without the parentheses.
    pub flags: String,
    /// Its octets.
    pub octets: Vec<u8>,
}

impl Message {
    fn parse(response: &[u8]) -> Option<Message> {
        let end = response.windows(3).position(|window| window == b"}\r\n")?;
        let head = std::str::from_utf8(response.get(..end)?).ok()?;
        let (items, length) = head.rsplit_once(" BODY[] {")?;
        let flags = items.split_once("FLAGS (")?.1.split_once(')')?.0.to_owned();
        let uid = items.split_once("UID ")?.1.split([' ', ')']).next()?.parse().ok()?;
        let octets = response.get(end + 3..end + 3 + length.parse::<usize>().ok()?)?.to_vec();
        Some(Message { uid, flags, octets })
    }

    /// Its octets as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.octets).into_owned()
    }

    /// Its body as text: what follows the first empty line.
    pub fn body(&self) -> String {
        self.text().split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// The first header field of a name, unfolded, without surrounding spaces.
    pub fn field(&self, name: &str) -> Option<String> {
        let text = self.text();
        let header = text.split("\r\n\r\n").next()?.replace("\r\n\t", " ").replace("\r\n ", " ");
        let prefix = format!("{name}:").to_ascii_lowercase();
        let line = header.split("\r\n").find(|line| line.to_ascii_lowercase().starts_with(&prefix))?;
        Some(line.get(prefix.len()..)?.trim().to_owned())
    }
}

/// A connection inside TLS.
type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Connects to a port that speaks TLS from the first octet. The handshake happens with the first octets.
fn tls(port: u16) -> anyhow::Result<Tls> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("mail.example.net")?;
    Ok(StreamOwned::new(ClientConnection::new(testkit::tls::client(), name)?, stream))
}

/// A POP3 client inside TLS. It does not judge the server's certificate.
pub struct Pop3 {
    stream: BufReader<Tls>,
}

impl Pop3 {
    /// Connects and logs in.
    pub fn login(port: u16, account: &str, password: &str) -> anyhow::Result<Pop3> {
        let mut client = Pop3 { stream: BufReader::new(tls(port)?) };
        client.answer()?;
        client.command(&format!("USER {account}"))?;
        client.command(&format!("PASS {password}"))?;
        Ok(client)
    }

    /// Sends a command; gives the line of its `+OK`.
    pub fn command(&mut self, line: &str) -> anyhow::Result<String> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.stream.get_mut().flush()?;
        self.answer()
    }

    /// Retrieves a message, without the dots that RFC 1939 §3 puts in front of lines.
    pub fn retrieve(&mut self, number: usize) -> anyhow::Result<Vec<u8>> {
        self.command(&format!("RETR {number}"))?;
        let mut message = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                bail!("the server closed the connection");
            }
            if line == b".\r\n" {
                return Ok(message);
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        if !line.starts_with("+OK") {
            bail!("unexpected answer: {line}");
        }
        Ok(line)
    }
}

/// A connection in clear to type octets into: what is written is sent as it is.
pub struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    /// Connects.
    pub fn connect(port: u16) -> anyhow::Result<Raw> {
        Raw::connect_to(("127.0.0.1", port))
    }

    /// Connects to any address.
    pub fn connect_to(address: impl ToSocketAddrs) -> anyhow::Result<Raw> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        stream.set_nodelay(true)?;
        Ok(Raw { stream: BufReader::new(stream) })
    }

    /// Sends octets in one write.
    pub fn write(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.get_mut().write_all(octets)?)
    }

    /// Reads a line, without its end; `None` at the end of the stream.
    pub fn line(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())),
            // A server that closes with our octets unread resets the connection: an end as well.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads an SMTP reply: all its lines.
    pub fn reply(&mut self) -> anyhow::Result<Option<Vec<String>>> {
        let mut lines = Vec::new();
        while let Some(line) = self.line()? {
            let goes_on = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line);
            if !goes_on {
                return Ok(Some(lines));
            }
        }
        Ok((!lines.is_empty()).then_some(lines))
    }

    /// Sends a line and reads the SMTP reply; an error at the end of the stream.
    pub fn command(&mut self, line: &str) -> anyhow::Result<String> {
        self.write(format!("{line}\r\n").as_bytes())?;
        Ok(self.reply()?.context("the server closed the connection")?.join("\n"))
    }

    /// Says that no more will be sent, and reads what is left.
    pub fn finish(mut self) -> anyhow::Result<String> {
        // The server may have closed already.
        let _ = self.stream.get_mut().shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        while let Some(line) = self.line()? {
            rest.push(line);
        }
        Ok(rest.join("\n"))
    }
}
