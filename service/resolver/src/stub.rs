//! Questions over several servers, until one of them gives a usable reply.

use crate::exchange::{Question, Trouble, Want, exchange};
use crate::reply::{bogus, failed};
use crate::settings::{Mode, Settings};
use dns::Failure;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tracing::debug;

/// How often the list of servers is gone through. Each round waits twice as long as the one before.
const ROUNDS: u32 = 2;

/// The servers to ask.
#[derive(Debug)]
pub(crate) struct Stub {
    servers: Vec<SocketAddr>,
    /// Whether the servers' AD bit counts.
    is_believed: bool,
    /// The server that answered last is asked first.
    first: AtomicUsize,
    try_timeout: Duration,
}

/// A usable reply: there is an answer, or there is none and the server knows.
#[derive(Debug)]
pub(crate) struct Reply {
    pub octets: Vec<u8>,
    pub message: Message,
}

impl Stub {
    /// Takes the servers from settings. Where nobody but servers vouches for answers, and some of these are trusted,
    /// only those are asked: an answer from another in their place would be a way around their verdict (V43).
    pub(crate) fn new(servers: Vec<SocketAddr>, settings: &Settings) -> Stub {
        let trusted: Vec<SocketAddr> = servers.iter().copied().filter(|server| settings.trusts(*server)).collect();
        let is_believed = settings.mode == Mode::Trusting && !trusted.is_empty();
        Stub {
            servers: if is_believed { trusted } else { servers },
            is_believed,
            first: AtomicUsize::new(0),
            try_timeout: settings.try_timeout,
        }
    }

    /// Whether the AD bit of replies counts.
    pub(crate) fn is_believed(&self) -> bool {
        self.is_believed
    }

    pub(crate) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Asks one question. A name that a validating server finds bogus is told from one that it cannot resolve.
    pub(crate) async fn ask(
        &self,
        name: &Name,
        kind: RecordType,
        want: Want,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let question = Question::new(name, kind, want).map_err(failed)?;
        let first = self.first.load(Ordering::Relaxed);
        let mut troubles = String::new();
        let mut silent: Vec<usize> = (0..self.servers.len()).map(|turn| (first + turn) % self.servers.len()).collect();
        for round in 0..ROUNDS {
            let mut still_silent = Vec::new();
            for index in silent {
                let Some(server) = self.servers.get(index) else { continue };
                let now = Instant::now();
                if now >= deadline {
                    return Err(failed(format_args!("no time left{troubles}")));
                }
                let until = deadline.min(now + self.try_timeout * 2_u32.pow(round));
                match self.ask_server(*server, &question, until).await {
                    Ok(reply) if is_usable(&reply.message) => {
                        self.first.store(index, Ordering::Relaxed);
                        return Ok(reply);
                    }
                    Ok(reply) if is_answer(&reply.message) => {
                        _ = write!(troubles, "; {server}: neither recurses nor knows the zone");
                    }
                    Ok(reply) if want == Want::Proof && reply.message.response_code == ResponseCode::ServFail => {
                        // RFC 4035 §3.2.2: with CD set, the server gives what it holds back as bogus.
                        let causes = causes_of(&reply.message);
                        if self.gives_unchecked(*server, name, kind, deadline).await {
                            return Err(bogus(format_args!("{server} validates: {causes}")));
                        }
                        _ = write!(troubles, "; {server}: {causes}");
                    }
                    Ok(reply) => _ = write!(troubles, "; {server}: {}", causes_of(&reply.message)),
                    Err(trouble) => {
                        debug!(%server, %name, %kind, %trouble, "dns_try");
                        _ = write!(troubles, "; {server}: {trouble}");
                        metrics::counter!("dns_server_failures_total", "server" => server.to_string()).increment(1);
                        still_silent.push(index);
                    }
                }
            }
            silent = still_silent;
        }
        Err(failed(troubles.trim_start_matches("; ")))
    }

    /// Asks one server once.
    pub(crate) async fn ask_server(
        &self,
        server: SocketAddr,
        question: &Question,
        until: Instant,
    ) -> Result<Reply, Trouble> {
        let octets = exchange(server, question, until).await?;
        let message = Message::from_vec(&octets).map_err(|_| Trouble::Malformed("a malformed reply"))?;
        Ok(Reply { octets, message })
    }

    async fn gives_unchecked(&self, server: SocketAddr, name: &Name, kind: RecordType, deadline: Instant) -> bool {
        let until = deadline.min(Instant::now() + self.try_timeout);
        let Ok(question) = Question::new(name, kind, Want::Unchecked) else {
            return false;
        };
        self.ask_server(server, &question, until).await.is_ok_and(|reply| is_usable(&reply.message))
    }
}

fn is_answer(message: &Message) -> bool {
    matches!(message.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// A server that does not recurse for us gives referrals, which say nothing about what is absent.
fn is_usable(message: &Message) -> bool {
    is_answer(message) && (message.recursion_available || message.authoritative)
}

/// What a server says about its refusal, with its extended error (RFC 8914) in our own words.
fn causes_of(message: &Message) -> String {
    let option = message.edns.as_ref().and_then(|edns| edns.option(EdnsCode::from(15)));
    let extended = match option {
        Some(EdnsOption::Unknown(_, data)) => {
            data.first_chunk().and_then(|code| extended_error(u16::from_be_bytes(*code)))
        }
        _ => None,
    };
    match extended {
        Some(extended) => format!("{} ({extended})", message.response_code),
        None => message.response_code.to_string(),
    }
}

/// RFC 8914 §4, those that tell an operator something.
fn extended_error(code: u16) -> Option<&'static str> {
    Some(match code {
        1 | 2 => "unsupported DNSSEC algorithm",
        5 => "DNSSEC indeterminate",
        6 => "DNSSEC bogus",
        7 => "signature expired",
        8 => "signature not yet valid",
        9 => "DNSKEY missing",
        10 => "RRSIGs missing",
        11 => "no zone key bit set",
        12 => "NSEC missing",
        13 => "cached error",
        14 => "not ready",
        15..=18 => "blocked by the server's policy",
        20 => "not authoritative",
        22 => "no reachable authority",
        23 => "network error",
        _ => return None,
    })
}
