//! For tests: a web server on the loopback that gives one answer to everybody.

use crate::tls::Trust;
use crate::tls::fixtures::{Authority, Identity, Kind};
use dns::{Answer, Lookup, Name, RecordType, Zone};
use rustls::version::{TLS12, TLS13};
use std::future::ready;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The server, until it is dropped.
pub(crate) struct Site {
    pub(crate) port: u16,
    pub(crate) trust: Trust,
    state: Arc<Mutex<State>>,
    accepting: tokio::task::JoinHandle<()>,
}

struct State {
    answer: Vec<u8>,
    requests: Vec<String>,
}

impl Site {
    /// A server with a good certificate for these names.
    pub(crate) async fn new(names: &[&str]) -> Site {
        let authority = Authority::new("web");
        let identity = authority.leaf(Kind::Ecdsa, names, |_| {});
        Site::showing(identity, authority.trust()).await
    }

    /// A server with this certificate, and trust that may not have to do with it.
    pub(crate) async fn showing(identity: Identity, trust: Trust) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { answer: Vec::new(), requests: Vec::new() }));
        let acceptor = identity.acceptor(&[&TLS13, &TLS12], &["h2", "http/1.1"]);
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&shared)));
            }
        });
        Site { port, trust, state, accepting }
    }

    /// What is answered from now on, octet for octet; nothing at all when empty.
    pub(crate) fn answers(&self, octets: impl Into<Vec<u8>>) {
        self.state.lock().unwrap().answer = octets.into();
    }

    /// A good answer with this text.
    pub(crate) fn answers_text(&self, text: &str) {
        let length = text.len();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n";
        self.answers(format!("{head}Content-Length: {length}\r\n\r\n{text}"));
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, state: Arc<Mutex<State>>) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&request) {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let answer = {
        let mut state = state.lock().unwrap();
        state.requests.push(String::from_utf8_lossy(&request).into_owned());
        state.answer.clone()
    };
    if answer.is_empty() {
        // Hold the line without a word.
        let _ = stream.read(&mut buffer).await;
        return;
    }
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    request.len() >= head.len() + 4 + length
}

/// Names that can change.
pub(crate) struct Names(Mutex<Zone>);

impl Names {
    pub(crate) fn new(text: &str) -> Arc<Names> {
        Arc::new(Names(Mutex::new(Zone::parse(text).unwrap())))
    }

    pub(crate) fn set(&self, text: &str) {
        *self.0.lock().unwrap() = Zone::parse(text).unwrap();
    }
}

impl Lookup for Names {
    fn look_up<'a>(&'a self, name: &'a Name, kind: RecordType) -> Answer<'a> {
        Box::pin(ready(self.0.lock().unwrap().find(name, kind)))
    }
}
