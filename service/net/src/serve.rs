//! Accepting connections: limits, back-off when the system runs out of descriptors, PROXY headers, implicit TLS, and
//! an orderly end.

use crate::connection::{Connection, HandshakeError, Socket};
use crate::gate::{Gate, Limit, Pass};
use crate::listener::{BoundSocket, Listen, ListenTls, Listener};
use crate::proxy::{self, Endpoints, Progress, ProxyError};
use crate::shutdown::Shutdown;
use crate::tls::ServerTls;
use mail::PeerFacts;
use nix::errno::Errno;
use socket2::{SockRef, TcpKeepalive};
use std::any::Any;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

/// Accepts connections until shutdown and gives each to `session`, in a task of its own. After the shutdown request no
/// connection is accepted; the sessions, which hear the request by their own [`Shutdown`], may go on for
/// [`crate::Limits::shutdown_grace`] and are then dropped.
///
/// A session's output is ignored, so that `session` may give the future of [`crate::drive`] as it is; wrapping it in
/// another `async` block would make each idle connection larger by its size.
///
/// Fails at once where the socket cannot be given to the runtime; never later.
pub async fn serve<F, S>(listener: Listener, gate: Gate, mut shutdown: Shutdown, session: F) -> io::Result<()>
where
    F: Fn(Connection) -> S + Send + Sync + 'static,
    S: Future + Send + 'static,
{
    let Listener { socket, listen } = listener;
    let socket = AcceptSocket::new(socket)?;
    let reception = Arc::new(Reception::new(listen, gate.clone(), session));
    let mut sessions = JoinSet::new();
    let mut backoff = Backoff::default();
    let mut refusals = Seldom::default();
    info!(listener = reception.listen.name, place = %reception.listen.place, "listening");
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            // Panics were caught inside the task; joining only clears the finished.
            Some(_) = sessions.join_next() => {}
            () = backoff.wait(), if backoff.is_waiting() => {}
            accepted = socket.accept(), if !backoff.is_waiting() => match accepted {
                Ok((socket, facts)) => {
                    backoff.succeeded();
                    match reception.admit(&facts) {
                        Ok(pass) => {
                            metrics::counter!("connections_total", "listener" => reception.listen.name.clone())
                                .increment(1);
                            sessions.spawn(Arc::clone(&reception).receive(socket, facts, pass));
                        }
                        Err(limit) => reception.refuse(socket, &facts, limit, &mut refusals),
                    }
                }
                Err(error) => reception.accept_failed(&error, &mut backoff),
            },
        }
    }
    drop(socket);
    let left = drain(sessions, gate.limits().shutdown_grace).await;
    info!(listener = reception.listen.name, dropped_sessions = left, "listener_closed");
    Ok(())
}

/// Waits for the sessions to end; gives the number of those that had to be dropped.
async fn drain(mut sessions: JoinSet<()>, grace: Duration) -> usize {
    let _ = timeout(grace, async { while sessions.join_next().await.is_some() {} }).await;
    let left = sessions.len();
    sessions.shutdown().await;
    left
}

/// What all connections of a listener share.
struct Reception<F> {
    listen: Listen,
    name: Arc<str>,
    gate: Gate,
    session: F,
}

/// Why a connection did not become a session.
#[derive(Debug)]
enum Refusal {
    Limit(Limit),
    Proxy(ProxyError),
    ProxyLate,
    Handshake(HandshakeError),
    Broken(io::Error),
}

impl<F, S> Reception<F>
where
    F: Fn(Connection) -> S + Send + Sync + 'static,
    S: Future + Send + 'static,
{
    fn new(listen: Listen, gate: Gate, session: F) -> Reception<F> {
        Reception { name: listen.name.as_str().into(), listen, gate, session }
    }

    /// Whether there is a place. A proxy's connections count for the peers behind it, who are not known yet.
    fn admit(&self, facts: &PeerFacts) -> Result<Pass, Limit> {
        let mut pass = self.gate.enter()?;
        match facts.peer {
            Some(peer) if !self.is_proxy(peer) => pass.claim(peer.ip())?,
            Some(_) | None => {}
        }
        Ok(pass)
    }

    fn is_proxy(&self, peer: SocketAddr) -> bool {
        self.listen.proxies.contain(peer.ip())
    }

    /// The whole life of one connection. No panic of a session reaches the process (V28).
    async fn receive(self: Arc<Self>, socket: Socket, facts: PeerFacts, pass: Pass) {
        let peer = facts.peer;
        // Pinned where it is made: every move of a future into another would store it once more.
        let life = pin!(async {
            // Boxed, so that a session's future is not as large as its beginning.
            match Box::pin(self.prepare(socket, facts, pass)).await {
                Ok(connection) => drop((self.session)(connection).await),
                Err(refusal) => self.refused(peer, &refusal),
            }
        });
        if let Err(panic) = caught(life).await {
            metrics::counter!("sessions_panicked_total", "listener" => self.listen.name.clone()).increment(1);
            error!(listener = self.listen.name, ?peer, panic = panic_text(panic.as_ref()), "session_panicked");
        }
    }

    /// PROXY header, limits of the real peer, implicit TLS.
    async fn prepare(&self, mut socket: Socket, mut facts: PeerFacts, mut pass: Pass) -> Result<Connection, Refusal> {
        if let Some(proxy) = facts.peer.filter(|peer| self.is_proxy(*peer)) {
            let endpoints =
                timeout(PROXY_HEADER_MAX, read_header(&mut socket)).await.map_err(|_| Refusal::ProxyLate)??;
            if let Some(Endpoints { peer, local }) = endpoints {
                (facts.peer, facts.local) = (Some(peer), Some(local));
            }
            pass.claim(facts.peer.unwrap_or(proxy).ip()).map_err(Refusal::Limit)?;
        }
        let (server_tls, implicit) = match &self.listen.tls {
            ListenTls::None => (None, false),
            ListenTls::OnRequest(tls) => (Some(Arc::<ServerTls>::clone(tls)), false),
            ListenTls::Implicit(tls) => (Some(Arc::<ServerTls>::clone(tls)), true),
        };
        let mut connection = Connection::new(socket, facts, Arc::clone(&self.name), server_tls)
            .counted(pass, self.gate.limits().handshake_max);
        if implicit {
            connection.secure().await.map_err(Refusal::Handshake)?;
        }
        Ok(connection)
    }

    /// A connection beyond a limit: the reply in one attempt, then the end. It must cost us nothing.
    fn refuse(&self, socket: Socket, facts: &PeerFacts, limit: Limit, refusals: &mut Seldom) {
        metrics::counter!("connections_refused_total", "listener" => self.listen.name.clone(), "limit" => limit.name())
            .increment(1);
        if !matches!(self.listen.tls, ListenTls::Implicit(_)) && !self.listen.busy_reply.is_empty() {
            socket.send_once(&self.listen.busy_reply);
        }
        if let Some(unsaid) = refusals.due(Instant::now()) {
            warn!(listener = self.listen.name, peer = ?facts.peer, %limit, unsaid, "connection_refused");
        }
    }

    fn refused(&self, peer: Option<SocketAddr>, refusal: &Refusal) {
        let listener = &self.listen.name;
        match refusal {
            Refusal::Limit(limit) => {
                metrics::counter!("connections_refused_total", "listener" => listener.clone(), "limit" => limit.name())
                    .increment(1);
                info!(listener, ?peer, %limit, "connection_refused");
            }
            Refusal::Proxy(error) => info!(listener, ?peer, %error, "proxy_header_refused"),
            Refusal::ProxyLate => info!(listener, ?peer, error = "no PROXY header in time", "proxy_header_refused"),
            Refusal::Handshake(error) => {
                metrics::counter!("tls_handshakes_failed_total").increment(1);
                info!(listener, ?peer, %error, "tls_failed");
            }
            Refusal::Broken(error) => info!(listener, ?peer, %error, "connection_broken"),
        }
    }

    fn accept_failed(&self, error: &io::Error, backoff: &mut Backoff) {
        if !is_shortage(error) {
            return;
        }
        metrics::counter!("accept_failures_total", "listener" => self.listen.name.clone()).increment(1);
        let connections = self.gate.connections();
        if let Some(unsaid) = backoff.failed(Instant::now()) {
            error!(
                listener = self.listen.name,
                %error,
                connections,
                unsaid,
                cure = "raise the limit of open files or lower connections_max",
                "accept_failed"
            );
        }
    }
}

/// Reads a PROXY header and not one octet more.
async fn read_header(socket: &mut Socket) -> Result<Option<Endpoints>, Refusal> {
    let mut octets = Vec::with_capacity(proxy::LINE_OCTETS_MAX);
    loop {
        match proxy::parse(&octets).map_err(Refusal::Proxy)? {
            Progress::Complete(header) => return Ok(header.endpoints),
            Progress::More(missing) => {
                let before = octets.len();
                octets.resize(before + missing, 0);
                let room = octets.get_mut(before..).unwrap_or_default();
                let taken = socket.read_some(room).await.map_err(Refusal::Broken)?;
                if taken == 0 {
                    return Err(Refusal::Broken(io::ErrorKind::UnexpectedEof.into()));
                }
                octets.truncate(before + taken);
            }
        }
    }
}

/// Runs a future and turns a panic inside it into an error.
async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, Box<dyn Any + Send>> {
    // The future is not polled again after a panic, so nothing can see what the panic left half done.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// A bound socket within the runtime.
enum AcceptSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AcceptSocket {
    fn new(socket: BoundSocket) -> io::Result<AcceptSocket> {
        match socket {
            BoundSocket::Tcp(socket) => TcpListener::from_std(socket).map(AcceptSocket::Tcp),
            BoundSocket::Unix(socket) => UnixListener::from_std(socket).map(AcceptSocket::Unix),
        }
    }

    async fn accept(&self) -> io::Result<(Socket, PeerFacts)> {
        match self {
            AcceptSocket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let local = stream.local_addr().ok().map(canonical);
                // Neither is worth losing a connection for.
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER));
                Ok((Socket::Tcp(stream), PeerFacts { peer: Some(canonical(peer)), local, tls: None }))
            }
            AcceptSocket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), PeerFacts { peer: None, local: None, tls: None }))
            }
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Socket {
    /// Sends what fits into the kernel's buffer at once, and forgets the rest.
    fn send_once(self, octets: &[u8]) {
        let _ = match self {
            Socket::Tcp(stream) => TcpStream::into_std(stream).and_then(|stream| SockRef::from(&stream).send(octets)),
            Socket::Unix(stream) => UnixStream::into_std(stream).and_then(|stream| SockRef::from(&stream).send(octets)),
            Socket::Other(_) => Ok(0),
        };
    }
}

impl From<ProxyError> for Refusal {
    fn from(error: ProxyError) -> Refusal {
        Refusal::Proxy(error)
    }
}

/// Whether accepting failed for want of descriptors or memory, so that trying again at once would fail again. All
/// other errors are about one connection that is gone already.
fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

/// The pause after accepting failed (V57): the waiting peer keeps the socket readable, so without a pause the loop
/// would turn at full speed until a session ends.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    until: Option<Instant>,
    reports: Seldom,
}

impl Backoff {
    /// Begins a pause. `Some` when it should be reported, with the number of failures not reported since.
    fn failed(&mut self, now: Instant) -> Option<u64> {
        let pause = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(8)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
        self.reports.due(now)
    }

    fn succeeded(&mut self) {
        self.failures = 0;
    }

    fn is_waiting(&self) -> bool {
        self.until.is_some()
    }

    async fn wait(&mut self) {
        if let Some(until) = self.until {
            sleep_until(until).await;
            self.until = None;
        }
    }
}

/// Lets one of many equal log lines through per [`REPORT_EVERY`].
#[derive(Debug, Default)]
struct Seldom {
    last: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// `Some` when the line is due, with the number of those left out since the last one.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < REPORT_EVERY) {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// Longest time until a proxy's header must be complete.
const PROXY_HEADER_MAX: Duration = Duration::from_secs(5);
/// When the kernel begins to ask whether a silent peer still exists.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10 * 60);
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const REPORT_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// V57: a listener without descriptors tries about once a second and says so once a minute.
    #[test]
    fn shortage_neither_spins_nor_floods_the_log() {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        let mut now = start;
        let (mut tries, mut reports, mut reported) = (0, 0, 0);
        while now < start + Duration::from_secs(600) {
            tries += 1;
            if let Some(unsaid) = backoff.failed(now) {
                reports += 1;
                reported += unsaid + 1;
            }
            assert!(backoff.is_waiting());
            now = backoff.until.unwrap();
        }
        assert!((600..620).contains(&tries), "{tries}");
        assert!((9..=11).contains(&reports), "{reports}");
        assert!(reported > 500, "what was left out is counted: {reported}");
        backoff.succeeded();
        backoff.failed(now);
        assert_eq!(backoff.until, Some(now + BACKOFF_FIRST), "one success ends the long pauses");
    }

    #[test]
    fn only_shortages_make_us_pause() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
            assert!(is_shortage(&errno.into()), "{errno}");
        }
        for errno in [Errno::ECONNABORTED, Errno::ECONNRESET, Errno::EPERM, Errno::EHOSTUNREACH] {
            assert!(!is_shortage(&errno.into()), "{errno}");
        }
        assert!(!is_shortage(&io::ErrorKind::Other.into()));
    }

    #[tokio::test]
    async fn panics_are_caught_with_their_text() {
        let panic = caught(pin!(async { panic!("index {} out of range", 7) })).await.map(|(): ()| ()).unwrap_err();
        assert_eq!(panic_text(panic.as_ref()), "index 7 out of range");
        assert!(matches!(caught(pin!(async { 5 })).await, Ok(5)));
    }
}
