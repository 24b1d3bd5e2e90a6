//! A few connections for reading, lent to whoever asks. Readers never wait for the writer.

use super::{database_error, tables};
use crate::StoreError;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};

/// Most connections open at a time. Reading is short; more would only compete for the processors.
const CONNECTIONS_MAX: usize = 8;

/// The connections.
pub struct Readers {
    folder: PathBuf,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    lent: usize,
    closed: bool,
}

impl Readers {
    /// Opens nothing yet.
    pub fn new(folder: PathBuf) -> Readers {
        Readers { folder, pool: Mutex::default(), returned: Condvar::new() }
    }

    /// Reads in one transaction, so that all of it is of one moment. Blocks.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut lent = self.borrow()?;
        let result = match &mut lent.connection {
            Some(connection) => connection.transaction().and_then(|transaction| work(&transaction)),
            None => return Err(StoreError::Closed),
        };
        if result.is_err() {
            // What failed may be the connection.
            lent.connection = None;
        }
        result.map_err(database_error)
    }

    /// Closes all connections; those in use when they come back.
    pub fn close(&self) {
        let mut pool = self.lock();
        pool.closed = true;
        pool.idle.clear();
        self.returned.notify_all();
    }

    fn borrow(&self) -> Result<Lent<'_>, StoreError> {
        let mut pool = self.lock();
        loop {
            if pool.closed {
                return Err(StoreError::Closed);
            }
            if let Some(connection) = pool.idle.pop() {
                pool.lent += 1;
                return Ok(Lent { readers: self, connection: Some(connection) });
            }
            if pool.lent < CONNECTIONS_MAX {
                pool.lent += 1;
                drop(pool);
                let mut lent = Lent { readers: self, connection: None };
                lent.connection = Some(tables::open_reader(&self.folder).map_err(database_error)?);
                return Ok(lent);
            }
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on loan.
struct Lent<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.lock();
        pool.lent -= 1;
        if !pool.closed {
            pool.idle.extend(self.connection.take());
        }
        self.readers.returned.notify_one();
    }
}
