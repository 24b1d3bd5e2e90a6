//! The one loop that carries every protocol machine: octets, answers, notices and the time go in, steps come out.
//!
//! It knows no protocol. What a machine asks of the world is answered by a [`Desk`].

use crate::connection::{Connection, Input, WriteError};
use crate::shutdown::Shutdown;
use mail::{Machine, Moment, Step};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

/// What stands behind a machine: answers its questions, takes its bodies, watches for it.
pub trait Desk {
    /// What the machine asks.
    type Question;
    /// What the desk answers.
    type Answer;

    /// Answers a question. It runs to its end even when the peer is gone.
    fn answer(&mut self, question: Self::Question) -> impl Future<Output = Self::Answer> + Send;

    /// Appends octets to the body being staged. A failure is remembered by the desk, for its answer about that body.
    fn body(&mut self, octets: Vec<u8>) -> impl Future<Output = ()> + Send;

    /// Returns when something watched has changed; never, where nothing is watched. Must be safe to cancel: a change
    /// that happens between two calls is told by the second.
    fn notice(&mut self) -> impl Future<Output = ()> + Send;
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriveEnd {
    /// The machine closed it, and everything it wrote was handed to the transport.
    Closed,
    /// The connection broke while we wrote, or the machine still waited long after the peer's end.
    PeerLost,
    /// The peer stopped reading.
    Stalled,
    /// A TLS handshake was asked for and failed.
    HandshakeFailed,
}

/// How long a machine may go on waiting for its own deadlines after the peer's end. A peer that sends all its commands
/// and closes its side may still read, so a delayed reply must reach it.
pub const AFTER_INPUT_ENDED_MAX: Duration = Duration::from_secs(60);

/// Carries `machine` over `connection` until it closes, answering from `desk`.
// Not an async fn: the arguments of an async block live in the future once, those of an async fn twice.
#[expect(clippy::manual_async_fn)]
pub fn drive<M, D>(
    mut connection: Connection,
    mut machine: M,
    mut desk: D,
    mut shutdown: Shutdown,
) -> impl Future<Output = DriveEnd> + Send
where
    M: Machine<Question: Send, Answer: Send> + Send,
    D: Desk<Question = M::Question, Answer = M::Answer> + Send,
{
    async move {
        let end = carry(&mut connection, &mut machine, &mut desk, &mut shutdown).await;
        // What the session held, such as a maildrop's lock, is free before the peer sees the connection end.
        drop(machine);
        drop(desk);
        if end == DriveEnd::Closed {
            Box::pin(connection.close()).await;
        }
        end
    }
}

async fn carry<M, D>(connection: &mut Connection, machine: &mut M, desk: &mut D, shutdown: &mut Shutdown) -> DriveEnd
where
    M: Machine<Question: Send, Answer: Send> + Send,
    D: Desk<Question = M::Question, Answer = M::Answer> + Send,
{
    let origin = Instant::now();
    let mut input = InputSide::Open;
    let mut shutdown_told = false;
    loop {
        let now = Moment(origin.elapsed());
        match machine.next(now) {
            Step::Write(octets) => match connection.write(&octets).await {
                Ok(()) => {}
                Err(WriteError::Broken(error)) => {
                    debug!(listener = connection.listener(), peer = ?connection.facts().peer, %error, "write_failed");
                    return DriveEnd::PeerLost;
                }
                Err(WriteError::Stalled) => {
                    info!(listener = connection.listener(), peer = ?connection.facts().peer, "write_stalled");
                    return DriveEnd::Stalled;
                }
            },
            Step::Body(octets) => desk.body(octets).await,
            Step::Ask(question) => machine.answer(desk.answer(question).await),
            Step::StartTls => match connection.secure().await {
                Ok(facts) => machine.tls_started(facts),
                Err(error) => {
                    metrics::counter!("tls_handshakes_failed_total").increment(1);
                    info!(listener = connection.listener(), peer = ?connection.facts().peer, %error, "tls_failed");
                    return DriveEnd::HandshakeFailed;
                }
            },
            Step::Wait { deadline, notices } => {
                let Some(until) = input.wake_up(origin, now, deadline) else { return DriveEnd::PeerLost };
                tokio::select! {
                    biased;
                    () = shutdown.requested(), if !shutdown_told => {
                        shutdown_told = true;
                        machine.shutdown();
                    }
                    arrived = connection.receive(|octets| machine.receive(octets)), if input == InputSide::Open => {
                        match arrived {
                            Input::Octets => {}
                            Input::End => {
                                input = InputSide::Ended(Moment(origin.elapsed()));
                                machine.end_of_input();
                            }
                        }
                    }
                    () = desk.notice(), if notices => machine.notice(),
                    () = sleep_until(until) => {}
                }
            }
            Step::Close => return DriveEnd::Closed,
        }
    }
}

/// Whether the peer may still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputSide {
    Open,
    /// No more, since this moment.
    Ended(Moment),
}

impl InputSide {
    /// When a wait until `deadline` ends at the latest; `None` when there is no point in waiting any longer.
    fn wake_up(self, origin: Instant, now: Moment, deadline: Moment) -> Option<Instant> {
        let deadline = match self {
            InputSide::Open => deadline,
            InputSide::Ended(since) => {
                let last = since.after(AFTER_INPUT_ENDED_MAX);
                if now >= last {
                    return None;
                }
                deadline.min(last)
            }
        };
        // A machine that waits for a moment already past must not turn the loop into a spin.
        let wait = deadline.0.saturating_sub(now.0).clamp(WAIT_MIN, WAIT_MAX);
        Some(origin + now.0.saturating_add(wait))
    }
}

/// Bounds of one wait; a machine asked too early simply waits again.
const WAIT_MIN: Duration = Duration::from_millis(1);
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
