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

/// How the writer and the upkeep thread speak. They take turns at the log: while one copies, the other must not try,
/// for it would be turned away, and a log that is never copied to its end never begins anew.
#[derive(Default)]
pub struct Signal {
    wake: Mutex<Wake>,
    changed: Condvar,
    /// Length of the log when a checkpoint was last asked for.
    asked_at: AtomicU64,
    /// The same as `Turn::Writer`, to be looked at without the lock.
    writers_turn: AtomicBool,
}

#[derive(Default)]
struct Wake {
    turn: Turn,
    stop: bool,
}

/// Who is to copy the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Turn {
    /// Nobody: it is short.
    #[default]
    Nobody,
    /// The upkeep thread, when it wakes.
    Upkeep,
    /// The upkeep thread is at it.
    UpkeepBusy,
    /// The writer, before its next commit: what came in while the upkeep thread copied, so that the log is at its end.
    Writer,
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
            let mut wake = self.lock();
            wake.turn = match wake.turn {
                Turn::Nobody | Turn::Upkeep if log_pages < LOG_PAGES_MAX => Turn::Upkeep,
                Turn::UpkeepBusy if log_pages < LOG_PAGES_MAX * 4 => Turn::UpkeepBusy,
                // The upkeep thread does not come to it, or is stuck.
                _ => Turn::Writer,
            };
            self.writers_turn.store(wake.turn == Turn::Writer, Ordering::Relaxed);
            self.changed.notify_one();
        }
    }

    /// Whether the writer should copy what is left of the log, so that it can begin anew.
    pub fn takes_writers_turn(&self) -> bool {
        self.writers_turn.load(Ordering::Relaxed) && self.writers_turn.swap(false, Ordering::Relaxed)
    }

    /// The writer did.
    pub fn writer_copied(&self) {
        self.lock().turn = Turn::Nobody;
    }

    /// The upkeep thread copied the log as it was when it began.
    fn upkeep_copied(&self) {
        self.lock().turn = Turn::Writer;
        self.writers_turn.store(true, Ordering::Relaxed);
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
            if wake.turn == Turn::Upkeep {
                wake.turn = Turn::UpkeepBusy;
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
            if let Err(error) = checkpoint(shared, &mut connection) {
                connection = None;
                tracing::warn!(%error, "checkpoint failed; the writer tries it");
            }
            signal.upkeep_copied();
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
