//! The loop that carries a client session over a socket, from question to question.

use crate::tls::{FailureKind, TlsFailure, TlsOutcome, TlsPlan};
use mail::{Machine, Moment, Step};
use smtp_proto::client::{Answer, Question, Session, Timeouts};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::client::TlsStream;
use transport_security::tls_rpt::ResultType;

/// Octets read in one go: replies are short.
const READ_OCTETS: usize = 4 * 1024;
/// Octets that are still heard of a peer that nothing can be written to: as many as the longest reply has.
const LAST_WORDS_OCTETS_MAX: usize = 64 * 1024;
/// How long they are waited for.
const LAST_WORDS_WAIT: std::time::Duration = std::time::Duration::from_millis(200);

/// What octets travel over.
pub enum Stream {
    /// TCP in the clear, or before STARTTLS.
    Tcp(TcpStream),
    /// A UNIX socket.
    Unix(UnixStream),
    /// Inside TLS. Boxed: the TLS state is large.
    Tls(Box<TlsStream<TcpStream>>),
    /// While the handshake runs, and for good after it failed.
    Gone,
}

/// A session over a stream.
pub struct Wire {
    stream: Stream,
    session: Session,
    origin: Instant,
    timeouts: Timeouts,
    plan: Option<TlsPlan>,
    /// What the handshake gave, once there was one.
    pub tls: Option<Result<TlsOutcome, TlsFailure>>,
    is_broken: bool,
}

impl Wire {
    /// A session whose deadlines count from now. Without a plan, STARTTLS cannot be done and ends it.
    pub fn new(stream: Stream, session: Session, timeouts: Timeouts, plan: Option<TlsPlan>) -> Wire {
        Wire { stream, session, origin: Instant::now(), timeouts, plan, tls: None, is_broken: false }
    }

    /// Answers the last question.
    pub fn answer(&mut self, answer: Answer) {
        self.session.answer(answer);
    }

    /// Carries octets until the session asks something. `None`: it is closed.
    pub async fn question(&mut self) -> Option<Question> {
        loop {
            match self.session.next(Moment(self.origin.elapsed())) {
                Step::Ask(question) => return Some(question),
                Step::Write(octets) => self.write(&octets).await,
                Step::Wait { deadline, .. } => self.read(self.origin + deadline.0).await,
                Step::StartTls => self.start_tls().await,
                Step::Close => return None,
                // No client machine receives messages.
                Step::Body(_) => {}
            }
        }
    }

    /// What cannot be written is thrown away: the session still has to give its results.
    async fn write(&mut self, octets: &[u8]) {
        if self.is_broken {
            return;
        }
        let written = timeout(self.timeouts.block, async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        });
        if !matches!(written.await, Ok(Ok(()))) {
            self.is_broken = true;
            // What the peer said before it closed often holds the reason.
            self.drain().await;
            self.session.end_of_input();
        }
    }

    /// Hears what the peer said last, within bounds: it may go on talking for as long as it likes.
    async fn drain(&mut self) {
        let mut buffer = [0; READ_OCTETS];
        let soon = Instant::now() + LAST_WORDS_WAIT;
        let mut left = LAST_WORDS_OCTETS_MAX;
        while left > 0 {
            let Ok(Ok(count)) = timeout_at(soon, self.stream.read(&mut buffer)).await else { return };
            match buffer.get(..count.min(left)) {
                Some([]) | None => return,
                Some(octets) => {
                    left -= octets.len();
                    self.session.receive(octets);
                }
            }
        }
    }

    /// Waits for octets, or until the session's own deadline has passed.
    async fn read(&mut self, until: Instant) {
        if self.is_broken {
            tokio::time::sleep_until(until.min(Instant::now() + std::time::Duration::from_millis(1))).await;
            return self.session.end_of_input();
        }
        let mut buffer = [0; READ_OCTETS];
        match timeout_at(until, self.stream.read(&mut buffer)).await {
            Err(_) => {}
            Ok(Ok(count)) if count > 0 => self.session.receive(buffer.get(..count).unwrap_or_default()),
            Ok(_) => {
                self.is_broken = true;
                self.session.end_of_input();
            }
        }
    }

    /// Octets that came before the handshake were thrown away by the session (V3); a handshake that fails leaves nothing
    /// to go on with (V6).
    async fn start_tls(&mut self) {
        let (Some(plan), Stream::Tcp(stream)) = (&self.plan, std::mem::replace(&mut self.stream, Stream::Gone)) else {
            self.is_broken = true;
            return self.session.end_of_input();
        };
        let result = match timeout(self.timeouts.start_tls, plan.connect(stream)).await {
            Ok(Ok((stream, outcome))) => {
                self.stream = Stream::Tls(Box::new(stream));
                Ok(outcome)
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                let cause = "the TLS handshake took too long";
                Err(TlsFailure::new(FailureKind::Connection, ResultType::ValidationFailure, cause))
            }
        };
        match &result {
            Ok(outcome) => self.session.tls_started(outcome.facts.clone()),
            Err(_) => {
                self.is_broken = true;
                self.session.end_of_input();
            }
        }
        self.tls = Some(result);
    }

    /// Ends the transport in an orderly way.
    pub async fn shut(mut self) {
        let _ = timeout(std::time::Duration::from_secs(2), self.stream.shutdown()).await;
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, octets),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, octets),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, octets),
            Stream::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::{Domain, PeerFacts};
    use smtp_proto::client::{Config, Protocol};
    use std::io::Write;
    use std::net::Shutdown;
    use std::sync::Arc;

    /// A peer that takes nothing and talks without end.
    #[tokio::test]
    async fn v10_last_words_are_bounded() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.shutdown(Shutdown::Read).unwrap();
        theirs.write_all(b"220 mx.example.net\r\n").unwrap();
        let flood = std::thread::spawn(move || {
            let piece = b"250-and so on\r\n".repeat(1_000);
            let mut said = 0;
            while theirs.write_all(&piece).is_ok() {
                said += piece.len();
            }
            said
        });
        let config = Config::new(Protocol::Lmtp, Domain::parse("client.example.com").unwrap());
        let timeouts = config.timeouts;
        let session = Session::new(Arc::new(config), PeerFacts { peer: None, local: None, tls: None });
        let stream = Stream::Unix(UnixStream::from_std(ours).unwrap());
        let mut wire = Wire::new(stream, session, timeouts, None);
        assert!(matches!(wire.question().await, Some(Question::Ended { .. })));
        drop(wire);
        // What the socket's own buffers hold is added.
        let said = flood.join().unwrap();
        assert!(said < 1024 * 1024, "{said}");
    }
}
