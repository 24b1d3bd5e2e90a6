//! The thread that looks after the store while it runs: it copies the write-ahead log home, writes claims down, and
//! reclaims what is dead. Nothing it does is needed for a commit to be durable.

use super::reclaim;
use super::writer::{Request, Writer};
use super::{Shared, database_error, tables};
use crate::StoreError;
use rusqlite::Connection;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The log is copied home whenever it grew by this much: 8 MiB.
const LOG_PAGES_BETWEEN_CHECKPOINTS: u64 = 2_048;
/// From this length on the writer copies it home itself: 64 MiB.
const LOG_PAGES_MAX: u64 = 16_384;
/// How often claims are written down and dead octets looked for.
const ROUND: Duration = Duration::from_secs(30);
/// Every so many rounds, old expunges are looked for: once an hour.
const ROUNDS_BETWEEN_TRIMS: u64 = 120;

/// How the writer and the upkeep thread speak.
#[derive(Default)]
pub struct Signal {
    wake: Mutex<Wake>,
    changed: Condvar,
    /// Length of the log when a checkpoint was last asked for.
    asked_at: AtomicU64,
    end_log: AtomicBool,
}

#[derive(Default)]
struct Wake {
    checkpoint: bool,
    stop: bool,
}

impl Signal {
    /// The writer committed; the log now has so many pages.
    pub fn committed(&self, log_pages: u64) {
        let asked_at = self.asked_at.load(Ordering::Relaxed);
        if log_pages < asked_at {
            // The log began anew.
            self.asked_at.store(0, Ordering::Relaxed);
        } else if log_pages >= asked_at + LOG_PAGES_BETWEEN_CHECKPOINTS {
            self.asked_at.store(log_pages, Ordering::Relaxed);
            self.lock().checkpoint = true;
            self.changed.notify_one();
            if log_pages >= LOG_PAGES_MAX {
                self.end_log.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Whether the writer should copy what little of the log is left, so that it can begin anew.
    pub fn wants_log_ended(&self) -> bool {
        self.end_log.load(Ordering::Relaxed) && self.end_log.swap(false, Ordering::Relaxed)
    }

    /// Ends the upkeep thread.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Wake> {
        self.wake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a wish or the time. Gives whether a checkpoint is wanted; `None` at the end.
    fn wait(&self, until: Instant) -> Option<bool> {
        let mut wake = self.lock();
        loop {
            if wake.stop {
                return None;
            }
            if std::mem::take(&mut wake.checkpoint) {
                return Some(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(false);
            }
            wake = self.changed.wait_timeout(wake, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The way to the writer for threads that may wait.
#[derive(Clone)]
pub struct Desk(pub mpsc::WeakSender<Request>);

impl Desk {
    /// Has the writer do something, and waits for it. Not to be called on a thread that runs tasks.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = std::sync::mpsc::channel();
        let request = Request::Run(Box::new(move |writer: &mut Writer| {
            // Who asked waits for the answer.
            let _ = reply.send(work(writer));
        }));
        let sender = self.0.upgrade().ok_or(StoreError::Closed)?;
        sender.blocking_send(request).map_err(|_| StoreError::Closed)?;
        drop(sender);
        answer.recv().map_err(|_| StoreError::Closed)?
    }
}

/// The thread's life.
pub fn run(shared: &Shared, desk: &Desk, signal: &Signal) {
    let mut connection = None;
    let mut next_round = Instant::now() + ROUND;
    let mut rounds = 0u64;
    while let Some(checkpoint_wanted) = signal.wait(next_round) {
        if checkpoint_wanted {
            match checkpoint(shared, &mut connection) {
                Ok(()) => signal.end_log.store(true, Ordering::Relaxed),
                Err(error) => {
                    connection = None;
                    tracing::warn!(%error, "checkpoint failed; it is tried again");
                }
            }
            continue;
        }
        next_round = Instant::now() + ROUND;
        rounds += 1;
        match round(shared, desk, rounds.is_multiple_of(ROUNDS_BETWEEN_TRIMS)) {
            Ok(()) | Err(StoreError::Closed) => {}
            Err(error) => tracing::warn!(%error, "upkeep failed; it is tried again"),
        }
    }
}

/// Copies the log home as far as no reader needs it. Commits and readers go on meanwhile.
fn checkpoint(shared: &Shared, slot: &mut Option<Connection>) -> Result<(), StoreError> {
    let connection = match slot {
        Some(connection) => connection,
        None => {
            slot.insert(tables::open_checkpointer(&shared.options.folder, shared.options.sync).map_err(database_error)?)
        }
    };
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).map_err(database_error)
}

fn round(shared: &Shared, desk: &Desk, trim: bool) -> Result<(), StoreError> {
    let claims = shared.recents.take_dirty();
    if !claims.is_empty() {
        desk.run(move |writer| writer.keep_claims(&claims))?;
    }
    shared.recents.trim();
    reclaim::pass(shared, desk, shared.options.dead_after)?;
    if trim { reclaim::trim_expunged(shared, desk) } else { Ok(()) }
}
