//! Where outbound mail ends: SMTP servers on loopback that take everything, throw it away and remember when it came.
//!
//! Every recipient's local part names a message: `m` and its serial number (see [`recipient`]).

use anyhow::{Context, bail, ensure};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Ports that are tried.
const PORTS: std::ops::Range<u16> = 4_700..4_800;
/// Octets read from a connection at once.
const READ_OCTETS: usize = 64 << 10;
/// Extensions that every mail server offers; none that would favour one client.
const HELLO: &[u8] =
    b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 52428800\r\n";

/// The address of a message at a domain.
pub fn recipient(serial: u64, domain: &str) -> String {
    format!("m{serial}@{domain}")
}

/// A running sink. It listens until the process ends.
pub struct Sink {
    state: Arc<State>,
    port: u16,
}

/// What came, and what is going on.
#[derive(Default)]
struct State {
    arrivals: Mutex<HashMap<u64, Arrival>>,
    changed: Condvar,
    open: AtomicUsize,
    open_max: AtomicUsize,
    /// How long each message takes until it is acknowledged.
    delay: Duration,
}

/// When a message came, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The first time that its end was read.
    pub at: Instant,
    /// How often it came.
    pub times: u32,
}

impl Sink {
    /// Listens on all these addresses, on one port. Each message is acknowledged after `delay`.
    pub fn start(hosts: &[Ipv4Addr], delay: Duration) -> anyhow::Result<Sink> {
        let bind = |port: u16| -> std::io::Result<Vec<TcpListener>> {
            hosts.iter().map(|host| TcpListener::bind(SocketAddrV4::new(*host, port))).collect()
        };
        let (port, listeners) =
            PORTS.into_iter().find_map(|port| Some((port, bind(port).ok()?))).context("no free port for the sink")?;
        let state = Arc::new(State { delay, ..State::default() });
        for listener in listeners {
            let state = state.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    std::thread::spawn(move || state.take_connection(&stream));
                }
            });
        }
        Ok(Sink { state, port })
    }

    /// The port, the same on every address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until so many different messages have come since the start.
    pub fn wait_for(&self, count: usize, longest: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + longest;
        let mut arrivals = self.state.arrivals();
        while arrivals.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{} messages reached the sink, not {count}", arrivals.len());
            arrivals = self.state.changed.wait_timeout(arrivals, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// What came of these messages, in no order.
    pub fn arrivals(&self, serials: std::ops::Range<u64>) -> Vec<Arrival> {
        let arrivals = self.state.arrivals();
        serials.filter_map(|serial| arrivals.get(&serial).copied()).collect()
    }

    /// When a message came.
    pub fn arrival(&self, serial: u64) -> Option<Arrival> {
        self.state.arrivals().get(&serial).copied()
    }

    /// Most connections that were open at once since this was last asked.
    pub fn take_open_max(&self) -> usize {
        self.state.open_max.swap(self.state.open.load(Ordering::Relaxed), Ordering::Relaxed)
    }
}

impl State {
    fn arrivals(&self) -> MutexGuard<'_, HashMap<u64, Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_connection(&self, stream: &TcpStream) {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.open_max.fetch_max(open, Ordering::Relaxed);
        // A client that breaks off has nothing acknowledged that it did not get; there is nobody to tell.
        let _ = self.converse(stream);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn converse(&self, stream: &TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let mut writer = stream;
        let mut reader = BufReader::with_capacity(READ_OCTETS, stream);
        let (mut line, mut serials) = (Vec::new(), Vec::new());
        let mut replies = b"220 sink.example ESMTP\r\n".to_vec();
        loop {
            // Replies to commands that came together go together (RFC 2920 §3.2).
            if reader.buffer().is_empty() {
                writer.write_all(&replies)?;
                replies.clear();
            }
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_slice() {
                b"EHLO" => replies.extend_from_slice(HELLO),
                b"MAIL" | b"RSET" => {
                    serials.clear();
                    replies.extend_from_slice(b"250 2.0.0 Ok\r\n");
                }
                b"RCPT" => {
                    serials.push(serial_of(&line)?);
                    replies.extend_from_slice(b"250 2.1.5 Ok\r\n");
                }
                b"DATA" => {
                    replies.extend_from_slice(b"354 go on\r\n");
                    writer.write_all(&replies)?;
                    replies.clear();
                    skip_content(&mut reader, &mut line)?;
                    self.note(&serials);
                    std::thread::sleep(self.delay);
                    replies.extend_from_slice(b"250 2.0.0 Ok: taken\r\n");
                }
                b"QUIT" => {
                    replies.extend_from_slice(b"221 2.0.0 Bye\r\n");
                    return Ok(writer.write_all(&replies)?);
                }
                b"HELO" | b"NOOP" => replies.extend_from_slice(b"250 sink.example\r\n"),
                _ => replies.extend_from_slice(b"502 5.5.1 not here\r\n"),
            }
        }
    }

    fn note(&self, serials: &[u64]) {
        let at = Instant::now();
        let mut arrivals = self.arrivals();
        for serial in serials {
            arrivals.entry(*serial).or_insert(Arrival { at, times: 0 }).times += 1;
        }
        self.changed.notify_all();
    }
}

/// The serial number in `RCPT TO:<m123@…>`.
fn serial_of(line: &[u8]) -> anyhow::Result<u64> {
    let text = String::from_utf8_lossy(line);
    let local = text.split_once("<m").and_then(|(_, rest)| rest.split_once('@')).context("a numbered recipient")?.0;
    Ok(local.parse()?)
}

/// Reads to the end of the content.
fn skip_content(reader: &mut impl BufRead, line: &mut Vec<u8>) -> anyhow::Result<()> {
    loop {
        line.clear();
        if reader.read_until(b'\n', line)? == 0 {
            bail!("the connection ended within a message");
        }
        if line == b".\r\n" {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peers::client::Smtp;

    #[test]
    fn what_comes_is_counted_once_and_repeats_are_known() -> anyhow::Result<()> {
        let sink = Sink::start(&[Ipv4Addr::LOCALHOST], Duration::ZERO)?;
        let mut client = Smtp::connect(sink.port())?;
        for serial in [0, 1, 1] {
            client.send("a@b.example", &[&recipient(serial, "c.example")], "Subject: x\r\n\r\n.. dot")?;
        }
        sink.wait_for(2, Duration::from_secs(5))?;
        let times: Vec<u32> = sink.arrivals(0..9).iter().map(|arrival| arrival.times).collect();
        assert_eq!(times, [1, 2]);
        assert!(sink.arrival(2).is_none() && sink.take_open_max() == 1);
        assert!(sink.wait_for(3, Duration::ZERO).is_err());
        Ok(())
    }
}
