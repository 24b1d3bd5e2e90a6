//! An HTTPS server for MTA-STS policies, and for reports that are sent by POST; scripted like an MTA.

use super::certificate::Certificate;
use super::listener::{Ending, Listener, lock};
use super::tls::{self, Stream};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest request line, header or body that is read.
const REQUEST_MAX_OCTETS: u64 = 16 << 20;

/// What the server answers to every request.
#[derive(Debug, Clone)]
pub struct Page {
    certificate: Certificate,
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
    /// Octets of the body that are really sent.
    cut: Option<usize>,
    chunked: bool,
    broken_tls: bool,
}

impl Page {
    /// 200 with an MTA-STS policy: a mode, patterns of host names, and how long to keep it (RFC 8461 §3.2).
    pub fn policy(certificate: &Certificate, mode: &str, hosts: &[&str], max_age_seconds: u64) -> Page {
        let hosts: String = hosts.iter().map(|host| format!("mx: {host}\r\n")).collect();
        Page::text(certificate, &format!("version: STSv1\r\nmode: {mode}\r\n{hosts}max_age: {max_age_seconds}\r\n"))
    }

    /// 200 with any text.
    pub fn text(certificate: &Certificate, text: &str) -> Page {
        Page {
            certificate: certificate.clone(),
            status: 200,
            fields: vec![("Content-Type".to_owned(), "text/plain".to_owned())],
            body: text.as_bytes().to_vec(),
            delay: Duration::ZERO,
            cut: None,
            chunked: false,
            broken_tls: false,
        }
    }

    /// Another status.
    pub fn status(mut self, status: u16) -> Page {
        self.status = status;
        self
    }

    /// Another header field, in place of one with its name.
    pub fn field(mut self, name: &str, body: &str) -> Page {
        self.fields.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.fields.push((name.to_owned(), body.to_owned()));
        self
    }

    /// Another body, which may be no text.
    pub fn body(mut self, octets: impl Into<Vec<u8>>) -> Page {
        self.body = octets.into();
        self
    }

    /// Leads elsewhere.
    pub fn redirect(self, status: u16, to: &str) -> Page {
        self.status(status).field("Location", to)
    }

    /// Waits before it answers.
    pub fn delay(mut self, delay: Duration) -> Page {
        self.delay = delay;
        self
    }

    /// Announces the whole body, sends only the start of it, and closes.
    pub fn cut(mut self, octets: usize) -> Page {
        self.cut = Some(octets);
        self
    }

    /// Sends the body in chunks (RFC 9112 §7.1), without announcing its length.
    pub fn chunked(mut self) -> Page {
        self.chunked = true;
        self
    }

    /// Closes the connection in place of the handshake.
    pub fn broken_tls(mut self) -> Page {
        self.broken_tls = true;
        self
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or another.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header fields: name in lower case, body.
    pub fields: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// The name asked for in the handshake.
    pub sni: Option<String>,
}

impl Request {
    /// The body of a header field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, body)| body.as_str())
    }
}

/// A running server of one page; it ends when dropped.
pub struct PolicyHost {
    shared: Arc<(Mutex<Page>, Mutex<Vec<Request>>)>,
    address: SocketAddrV4,
    _listener: Listener,
}

impl PolicyHost {
    /// Starts one.
    pub fn start(address: SocketAddrV4, page: Page) -> anyhow::Result<PolicyHost> {
        let shared = Arc::new((Mutex::new(page), Mutex::new(Vec::new())));
        let ours = Arc::clone(&shared);
        let listener = Listener::start(address, move |stream, ending| {
            // A client that went away is no event here.
            let _ = serve(&ours.0, &ours.1, stream, ending);
        })?;
        Ok(PolicyHost { shared, address, _listener: listener })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Changes the page.
    pub fn set_page(&self, page: Page) {
        *lock(&self.shared.0) = page;
    }

    /// All requests, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.1).clone()
    }
}

fn serve(page: &Mutex<Page>, requests: &Mutex<Vec<Request>>, stream: TcpStream, ending: &Ending) -> io::Result<()> {
    let shown = lock(page).clone();
    if shown.broken_tls {
        return Ok(());
    }
    let config = tls::config(&shown.certificate, &[], false).map_err(io::Error::other)?;
    let (stream, handshake) = tls::accept(stream, config)?;
    let mut stream = BufReader::new(stream);
    let request = read(&mut stream, handshake.sni)?;
    lock(requests).push(request);
    let page = lock(page).clone();
    if ending.pause(page.delay) {
        answer(stream.get_mut(), &page)?;
    }
    Ok(())
}

fn read(stream: &mut BufReader<Stream>, sni: Option<String>) -> io::Result<Request> {
    let line = |stream: &mut BufReader<Stream>| {
        let mut line = String::new();
        stream.take(REQUEST_MAX_OCTETS).read_line(&mut line)?;
        io::Result::Ok(line.trim_end().to_owned())
    };
    let first = line(stream)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, path, fields: Vec::new(), body: Vec::new(), sni };
    while let Some((name, body)) = line(stream)?.split_once(':') {
        request.fields.push((name.to_ascii_lowercase(), body.trim().to_owned()));
    }
    let length = request.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    stream.take(REQUEST_MAX_OCTETS.min(length)).read_to_end(&mut request.body)?;
    Ok(request)
}

fn answer(stream: &mut Stream, page: &Page) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Scripted\r\nConnection: close\r\n", page.status);
    for (name, body) in &page.fields {
        head.push_str(&format!("{name}: {body}\r\n"));
    }
    if page.chunked {
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        for chunk in page.body.chunks(page.body.len().div_ceil(2).max(1)) {
            stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
            stream.write_all(&[chunk, b"\r\n"].concat())?;
        }
        stream.write_all(b"0\r\n\r\n")?;
    } else {
        head.push_str(&format!("Content-Length: {}\r\n\r\n", page.body.len()));
        stream.write_all(head.as_bytes())?;
        stream.write_all(page.cut.and_then(|cut| page.body.get(..cut)).unwrap_or(&page.body))?;
    }
    stream.finish();
    // A client reads before it closes; closing first with its octets unread would be a reset.
    io::copy(stream, &mut io::sink()).map(drop)
}
