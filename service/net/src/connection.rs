//! One accepted connection: its transport, in clear or inside TLS, and the facts about it.
//!
//! The connection holds no octets of its own: reads go into a buffer shared by all sessions of a thread, so that an
//! idle connection costs its socket, its TLS state and its machine, and nothing else.

use crate::gate::Pass;
use crate::tls::{ServerTls, facts_of};
use mail::{PeerFacts, TlsFacts};
use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

/// Longest time a peer may take for a TLS handshake, where the listener's limits do not say otherwise.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(60);

/// Longest time a write may make no progress at all; then the peer has stopped reading and is dropped.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(5 * 60);

/// Anything that carries octets both ways: what a connection may be made of in tests and in the simulated network.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// One accepted connection.
pub struct Connection {
    transport: Transport,
    facts: PeerFacts,
    listener: Arc<str>,
    server_tls: Option<Arc<ServerTls>>,
    handshake_max: Duration,
    // Held for its `Drop`, which gives the place back.
    _pass: Option<Pass>,
}

/// Why there is no TLS on a connection.
#[derive(Debug)]
pub enum HandshakeError {
    /// The listener has no certificates, or TLS is up already: a fault of the wiring, not of the peer.
    NotOffered,
    /// The peer did not finish in time.
    TimedOut(Duration),
    /// The peer and we did not agree, or the connection broke.
    Failed(io::Error),
}

/// Why octets could not be written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The connection broke.
    Broken(io::Error),
    /// [`WRITE_STALL_MAX`] passed without progress.
    Stalled,
}

/// What one read brought.
#[derive(Debug)]
pub(crate) enum Input {
    /// Octets, which were handed over.
    Octets,
    /// Nothing will come any more.
    End,
}

pub(crate) enum Transport {
    Clear(Socket),
    // Boxed: the TLS state is large, and most connections of some listeners never have one.
    Tls(Box<TlsStream<Socket>>),
    /// Between the two, and for good after a failed handshake: nothing can be read or written in clear again (V6).
    Gone,
}

pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Other(Box<dyn Stream>),
}

impl Connection {
    /// A connection over any stream, outside a listener. `facts.tls` is set by [`Connection::secure`].
    pub fn over(stream: impl Stream, facts: PeerFacts, server_tls: Option<Arc<ServerTls>>) -> Connection {
        Connection::new(Socket::Other(Box::new(stream)), facts, "".into(), server_tls)
    }

    pub(crate) fn new(
        socket: Socket,
        facts: PeerFacts,
        listener: Arc<str>,
        server_tls: Option<Arc<ServerTls>>,
    ) -> Connection {
        let transport = Transport::Clear(socket);
        Connection { transport, facts, listener, server_tls, handshake_max: HANDSHAKE_MAX, _pass: None }
    }

    /// Makes the connection count against the gate until it is dropped.
    pub(crate) fn counted(mut self, pass: Pass, handshake_max: Duration) -> Connection {
        self._pass = Some(pass);
        self.handshake_max = handshake_max;
        self
    }

    /// Where the connection comes from and arrived, and its TLS once there is some.
    pub fn facts(&self) -> &PeerFacts {
        &self.facts
    }

    /// Name of the listener that accepted it; empty outside a listener.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// Whether [`mail::Step::StartTls`] could be carried out: certificates are there and TLS is not up yet.
    pub fn can_start_tls(&self) -> bool {
        self.server_tls.is_some() && matches!(self.transport, Transport::Clear(_))
    }

    /// Starts TLS as the accepting side. After a failure the connection cannot be used any more.
    pub async fn secure(&mut self) -> Result<TlsFacts, HandshakeError> {
        let Some(server_tls) = self.server_tls.clone() else { return Err(HandshakeError::NotOffered) };
        let socket = match mem::replace(&mut self.transport, Transport::Gone) {
            Transport::Clear(socket) => socket,
            other @ (Transport::Tls(_) | Transport::Gone) => {
                self.transport = other;
                return Err(HandshakeError::NotOffered);
            }
        };
        // Boxed, so that every session's future is not as large as a handshake for its whole life.
        let handshake = Box::pin(TlsAcceptor::from(server_tls.config()).accept(socket));
        let stream = match timeout(self.handshake_max, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(HandshakeError::Failed(error)),
            Err(_) => return Err(HandshakeError::TimedOut(self.handshake_max)),
        };
        let facts = facts_of(stream.get_ref().1).ok_or(HandshakeError::NotOffered)?;
        self.transport = Transport::Tls(Box::new(stream));
        self.facts.tls = Some(facts.clone());
        Ok(facts)
    }

    /// Waits for octets and hands them to `take`. Nothing is lost when the wait is cancelled.
    pub(crate) async fn receive(&mut self, mut take: impl FnMut(&[u8])) -> Input {
        poll_fn(|context| self.poll_receive(context, &mut take)).await
    }

    fn poll_receive(&mut self, context: &mut Context<'_>, take: &mut impl FnMut(&[u8])) -> Poll<Input> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match ready!(Pin::new(&mut self.transport).poll_read(context, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => Poll::Ready(Input::End),
                Ok(()) => {
                    take(buffer.filled());
                    Poll::Ready(Input::Octets)
                }
                Err(error) => {
                    // A TLS stream cut off without close_notify arrives here too, and is the end like any other.
                    debug!(listener = %self.listener, peer = ?self.facts.peer, %error, "connection_broken");
                    Poll::Ready(Input::End)
                }
            }
        })
    }

    /// Writes all octets and flushes them out of TLS.
    pub(crate) async fn write(&mut self, mut octets: &[u8]) -> Result<(), WriteError> {
        while !octets.is_empty() {
            let written = progress(self.transport.write(octets)).await?;
            if written == 0 {
                return Err(WriteError::Broken(io::ErrorKind::WriteZero.into()));
            }
            octets = octets.get(written..).unwrap_or_default();
        }
        progress(self.transport.flush()).await
    }

    /// Ends the connection so that the peer gets our last octets: close_notify, then our side of the socket, then a
    /// short wait for the peer's side. Closing with unread octets would make the kernel send a reset, which may
    /// overtake the last reply.
    pub(crate) async fn close(mut self) {
        let _ = timeout(LINGER_MAX, async {
            self.transport.shutdown().await?;
            let mut socket = match self.transport {
                Transport::Clear(socket) => socket,
                Transport::Tls(stream) => stream.into_inner().0,
                Transport::Gone => return Ok(()),
            };
            let mut left = LINGER_OCTETS_MAX;
            let mut discarded = [0; 512];
            while left > 0 {
                match socket.read(&mut discarded).await? {
                    0 => break,
                    octets => left = left.saturating_sub(octets),
                }
            }
            io::Result::Ok(())
        })
        .await;
    }
}

/// Bounds how long one step of writing may take.
async fn progress<T>(step: impl Future<Output = io::Result<T>>) -> Result<T, WriteError> {
    match timeout(WRITE_STALL_MAX, step).await {
        Ok(result) => result.map_err(WriteError::Broken),
        Err(_) => Err(WriteError::Stalled),
    }
}

impl Socket {
    /// Reads at most `buffer.len()` octets.
    pub(crate) async fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer).await
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Other(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Other(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Other(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Tcp(stream) => stream.is_write_vectored(),
            Socket::Unix(stream) => stream.is_write_vectored(),
            Socket::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Clear(socket) => Pin::new(socket).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Clear(socket) => Pin::new(socket).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Clear(socket) => Pin::new(socket).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Clear(socket) => Pin::new(socket).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Gone => Poll::Ready(Ok(())),
        }
    }
}

/// Connections that no machine speaks on, such as HTTP's, are streams like any other.
impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().transport).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("listener", &self.listener)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::NotOffered => f.write_str("TLS cannot be started on this connection"),
            HandshakeError::TimedOut(limit) => write!(f, "the TLS handshake took longer than {} s", limit.as_secs()),
            HandshakeError::Failed(error) => write!(f, "the TLS handshake failed: {error}"),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// How long, and for how many octets, we wait for the peer's close after ours.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_OCTETS_MAX: usize = 64 * 1024;

/// Octets of one read, for all connections of a thread.
const SCRATCH_OCTETS: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_OCTETS].into_boxed_slice());
}
