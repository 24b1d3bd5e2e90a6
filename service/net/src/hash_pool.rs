//! A bounded pool for password hashing, which is slow on purpose.
//!
//! As many hashes run at once as there are cores; a bounded number wait; the rest are told to try later (R37). It
//! does not know the schemes.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;
use tokio::sync::{Semaphore, TryAcquireError};
use tokio::task::spawn_blocking;

/// The pool; clones share it.
#[derive(Debug, Clone)]
pub struct HashPool {
    /// Places in the pool, running or waiting.
    places: Arc<Semaphore>,
    /// Those that run.
    running: Arc<Semaphore>,
}

/// Why work was not done. Both are temporary failures for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashPoolError {
    /// Too many wait already.
    Full,
    /// The work panicked.
    Panicked,
}

/// How many may wait per running one, where nothing else is asked for: some seconds of work at bcrypt cost 8.
pub const WAITING_PER_CORE: usize = 128;

impl HashPool {
    /// A pool for all cores of the machine.
    pub fn for_this_machine() -> HashPool {
        let cores = available_parallelism().map(NonZeroUsize::get).unwrap_or(1);
        HashPool::new(cores, cores * WAITING_PER_CORE)
    }

    /// A pool that runs `running_max` at once and lets `waiting_max` wait.
    pub fn new(running_max: usize, waiting_max: usize) -> HashPool {
        let running_max = running_max.max(1);
        HashPool {
            places: Arc::new(Semaphore::new(running_max.saturating_add(waiting_max).min(Semaphore::MAX_PERMITS))),
            running: Arc::new(Semaphore::new(running_max.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Runs `work` on a thread for blocking work, in its turn. Work that has begun runs to its end and keeps its place
    /// until then, even when the caller goes away: leaving must not be a way around the bound.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HashPoolError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits | TryAcquireError::Closed => HashPoolError::Full,
        })?;
        let turn = Arc::clone(&self.running).acquire_owned().await.map_err(|_| HashPoolError::Full)?;
        let done = spawn_blocking(move || {
            let _held = (place, turn);
            work()
        });
        done.await.map_err(|_| HashPoolError::Panicked)
    }
}

impl fmt::Display for HashPoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashPoolError::Full => f.write_str("too many passwords are being checked, try again later"),
            HashPoolError::Panicked => f.write_str("checking the password failed inside"),
        }
    }
}

impl std::error::Error for HashPoolError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// R37: no number of logins takes more than the bound, and those beyond it are told at once.
    #[tokio::test]
    async fn a_full_pool_refuses_and_recovers() {
        let pool = HashPool::new(1, 1);
        let (begun_sender, begun) = mpsc::channel();
        let (release, gate) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(move || {
                    begun_sender.send(()).unwrap();
                    gate.recv().unwrap();
                    1
                })
                .await
            }
        });
        spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| 2).await }
        });
        while pool.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|| 3).await, Err(HashPoolError::Full));
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(1));
        assert_eq!(second.await.unwrap(), Ok(2));
        assert_eq!(pool.run(|| 4).await, Ok(4));
    }

    #[tokio::test]
    async fn a_panic_frees_its_place() {
        let pool = HashPool::new(1, 0);
        assert_eq!(pool.run(|| panic!("no")).await.map(|(): ()| ()), Err(HashPoolError::Panicked));
        assert_eq!(pool.run(|| 1).await, Ok(1));
    }

    /// R37: a peer that hangs up while its password is checked does not free the place early.
    #[tokio::test]
    async fn leaving_does_not_free_a_running_place() {
        let pool = HashPool::new(1, 0);
        let (begun_sender, begun) = mpsc::channel();
        let (release, gate) = mpsc::channel::<()>();
        let left = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(move || {
                    begun_sender.send(()).unwrap();
                    gate.recv().unwrap();
                })
                .await
            }
        });
        spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        assert_eq!(pool.run(|| ()).await, Err(HashPoolError::Full));
        release.send(()).unwrap();
        while pool.places.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|| 1).await, Ok(1));
    }
}
