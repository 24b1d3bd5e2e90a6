//! A toy line protocol with its desk, and a client for it.

use mail::{Machine, Moment, PeerFacts, Step, TlsFacts};
use net::Desk;
use net::certificate::{NewKey, PemPair, Subject, self_signed, write_pair};
use net::{PairFiles, ServerTls, TlsSettings};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Notify;

/// Commands: `ASK x`, `BODY x`, `WATCH`, `LATER` (replies after ten seconds), `STARTTLS`, `PANIC`, `FLOOD n`, `BYE`;
/// anything else is echoed.
pub struct Toy {
    steps: VecDeque<Step<String>>,
    pending: Vec<u8>,
    watching: bool,
    later: Option<Moment>,
    stubborn: bool,
    now: Moment,
    idle_since: Moment,
}

pub const IDLE_MAX: Duration = Duration::from_secs(1_800);

impl Toy {
    pub fn new() -> Toy {
        Toy {
            steps: VecDeque::from([write("hello")]),
            pending: Vec::new(),
            watching: false,
            later: None,
            stubborn: false,
            now: Moment::default(),
            idle_since: Moment::default(),
        }
    }

    /// One that never closes by itself.
    pub fn stubborn() -> Toy {
        Toy { stubborn: true, ..Toy::new() }
    }

    fn command(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "ASK" => self.steps.push_back(Step::Ask(rest.to_owned())),
            "BODY" => self.steps.push_back(Step::Body(rest.into())),
            "WATCH" => {
                self.watching = true;
                self.steps.push_back(write("watching"));
            }
            "LATER" => self.later = Some(self.now.after(Duration::from_secs(10))),
            "STARTTLS" => {
                // What came with it is thrown away, as every machine must (V3).
                self.pending.clear();
                self.steps.extend([write("go"), Step::StartTls]);
            }
            "PANIC" => panic!("told to"),
            "FLOOD" => self.steps.push_back(Step::Write(vec![b'x'; rest.parse().unwrap()])),
            "BYE" => self.steps.extend([write("bye"), Step::Close]),
            _ => self.steps.push_back(write(line)),
        }
    }
}

fn write(line: &str) -> Step<String> {
    Step::Write(format!("{line}\n").into_bytes())
}

impl Machine for Toy {
    type Question = String;
    type Answer = String;

    fn next(&mut self, now: Moment) -> Step<String> {
        self.now = now;
        while self.steps.is_empty()
            && let Some(end) = self.pending.iter().position(|octet| *octet == b'\n')
        {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            self.command(std::str::from_utf8(&line).unwrap().trim_end());
        }
        if let Some(step) = self.steps.pop_front() {
            return step;
        }
        if self.later.is_some_and(|later| now >= later) {
            self.later = None;
            return write("later");
        }
        let deadline = self.idle_since.after(IDLE_MAX);
        if now >= deadline && !self.stubborn {
            self.steps.push_back(Step::Close);
            return write("timeout");
        }
        Step::Wait { deadline: self.later.unwrap_or(deadline), notices: self.watching }
    }

    fn receive(&mut self, octets: &[u8]) {
        self.idle_since = self.now;
        self.pending.extend(octets);
    }

    fn answer(&mut self, answer: String) {
        self.steps.push_back(write(&answer));
    }

    fn notice(&mut self) {
        self.steps.push_back(write("notice"));
    }

    fn end_of_input(&mut self) {
        if self.later.is_none() && !self.stubborn {
            self.steps.push_back(Step::Close);
        }
    }

    fn tls_started(&mut self, facts: TlsFacts) {
        self.steps.push_back(write(&format!("{} {} {}", facts.version, facts.cipher, facts.bits)));
    }

    fn shutdown(&mut self) {
        self.steps.extend([write("going down"), Step::Close]);
    }
}

/// Answers with capitals and the body so far.
#[derive(Default, Clone)]
pub struct ToyDesk {
    pub body: Arc<Mutex<Vec<u8>>>,
    pub changed: Arc<Notify>,
}

impl Desk for ToyDesk {
    type Question = String;
    type Answer = String;

    async fn answer(&mut self, question: String) -> String {
        tokio::task::yield_now().await;
        format!("{} {}", question.to_uppercase(), String::from_utf8_lossy(&self.body.lock().unwrap()))
    }

    async fn body(&mut self, octets: Vec<u8>) {
        self.body.lock().unwrap().extend(octets);
    }

    async fn notice(&mut self) {
        self.changed.notified().await;
    }
}

/// A peer that speaks lines.
pub struct Peer<S>(pub BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub fn new(stream: S) -> Peer<S> {
        Peer(BufReader::new(stream))
    }

    pub async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next line without its end; `None` after the last.
    pub async fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        let octets = self.0.read_line(&mut line).await.unwrap();
        (octets > 0).then(|| line.trim_end().to_owned())
    }

    pub async fn talk(&mut self, text: &str) -> String {
        self.say(text).await;
        self.hear().await.unwrap()
    }

    /// Everything up to the end; an error where the end is not a clean one.
    pub async fn rest(&mut self) -> std::io::Result<String> {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).await?;
        Ok(rest)
    }
}

pub fn nobody() -> PeerFacts {
    PeerFacts { peer: None, local: None, tls: None }
}

pub fn made(names: &[&str], kind: NewKey) -> PemPair {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let subject = Subject { country: None, organization: None, common_name: names[0].clone() };
    self_signed(&names, kind, 30, &subject).unwrap()
}

pub fn files(folder: &Path, stem: &str, pair: &PemPair) -> PairFiles {
    let (chain, key) = write_pair(folder, stem, "cert", pair).unwrap();
    PairFiles { chain, key }
}

/// TLS with one quickly made certificate for `mx.example.net`.
pub fn server_tls(folder: &Path) -> Arc<ServerTls> {
    let pair = files(folder, "mx", &made(&["mx.example.net"], NewKey::EcdsaP256));
    ServerTls::load(TlsSettings { pairs: vec![pair], tickets: true, alpn: &[] }).unwrap()
}
