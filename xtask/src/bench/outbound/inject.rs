//! Hands messages to a server over several sessions, and remembers when.

use crate::sink::recipient;
use anyhow::{Context, anyhow};
use peers::client::Smtp;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The sender of all messages.
const SENDER: &str = "brian@example.net";

/// What to hand over, and how.
pub struct Load<'a> {
    /// Where.
    pub port: u16,
    /// Connections at once.
    pub sessions: u64,
    /// Numbers of the messages; each has one recipient.
    pub serials: Range<u64>,
    /// Domains of the recipients, in turn.
    pub domains: &'a [String],
    /// Octets of a message.
    pub octets: usize,
    /// Messages a second; `None`: as many as the server takes.
    pub rate: Option<u32>,
}

/// One message that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Its number.
    pub serial: u64,
    /// When MAIL was sent. At a given rate: when it was due, if the server was not ready for it by then.
    pub begun: Instant,
    /// When the 250 came.
    pub acknowledged: Instant,
}

impl Load<'_> {
    /// Hands everything over. Any refusal is an error.
    pub fn run(&self) -> anyhow::Result<Vec<Sent>> {
        let content = content(self.octets);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let content = content.as_slice();
            let begin = |number| scope.spawn(move || self.session(number, start, content));
            let sessions: Vec<_> = (0..self.sessions).map(begin).collect();
            let mut sent = Vec::new();
            for session in sessions {
                sent.extend(session.join().map_err(|_| anyhow!("a session panicked"))??);
            }
            Ok(sent)
        })
    }

    fn session(&self, number: u64, start: Instant, content: &[u8]) -> anyhow::Result<Vec<Sent>> {
        let mut client = Smtp::connect(self.port)?;
        let mut sent = Vec::new();
        for serial in self.serials.clone().skip(number as usize).step_by(self.sessions.max(1) as usize) {
            let begun = self.wait_until_due(serial, start);
            let domain = self.domains.get(serial as usize % self.domains.len().max(1)).context("a domain")?;
            client.send_octets(SENDER, &[&recipient(serial, domain)], content)?;
            sent.push(Sent { serial, begun, acknowledged: Instant::now() });
        }
        client.command("QUIT", 2)?;
        Ok(sent)
    }

    fn wait_until_due(&self, serial: u64, start: Instant) -> Instant {
        let now = Instant::now();
        let Some(rate) = self.rate else { return now };
        let due = start + Duration::from_secs(1).mul_f64((serial - self.serials.start) as f64 / f64::from(rate));
        // A server that is late makes the next message wait as well; its users would call that its time.
        if due <= now {
            return due;
        }
        std::thread::sleep(due - now);
        Instant::now()
    }
}

/// A message of random digits, so that nobody gains much by compressing it.
fn content(octets: usize) -> Vec<u8> {
    let mut text = String::from(
        "From: brian@example.net\r\nTo: you@far.example\r\nSubject: out\r\n\
         Date: Wed, 01 Jul 2026 12:00:00 +0000\r\nMessage-ID: <out@example.net>\r\n\r\n",
    );
    let mut state = 7u64;
    while text.len() < octets {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{state:016x} {:016x} {:016x}\r\n", state.rotate_left(21), state.rotate_left(42)));
    }
    text.into_bytes()
}
