//! The tables of `meta.db`: their definition, the steps from version to version, and how connections are opened.

use rusqlite::{CachedStatement, Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// Name of the database in the store's folder.
pub const DATABASE: &str = "meta.db";

/// Step n leads from version n to version n + 1. A step that was ever released is never edited; a new one is added.
pub const STEPS: &[&str] = &[include_str!("schema-1.sql"), include_str!("schema-2.sql")];

/// Only a checkpoint or a recovery in another process could make us wait; neither is part of normal running (P44).
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// A log that grew beyond this is cut when it begins anew. Below, its file is written over, which is cheaper to sync than
/// a file that grows.
const LOG_OCTETS_KEPT: i64 = 64 * 1024 * 1024;
/// Page cache of the writer, in KiB.
const WRITER_CACHE_KIB: i64 = 32 * 1024;
/// Page cache of each reader, in KiB.
const READER_CACHE_KIB: i64 = 4 * 1024;

/// Why the tables cannot be used.
#[derive(Debug)]
pub enum TablesError {
    /// Written by a newer version of the program.
    TooNew {
        /// Version of the file.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// The database failed.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for TablesError {
    fn from(error: rusqlite::Error) -> TablesError {
        TablesError::Database(error)
    }
}

/// Opens the database for writing, makes it if it is missing, and brings its tables up to date.
pub fn open_writer(folder: &Path, sync: bool) -> Result<Connection, TablesError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(folder.join(DATABASE), flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", if sync { "FULL" } else { "OFF" })?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", LOG_OCTETS_KEPT)?;
    tune(&connection, WRITER_CACHE_KIB)?;
    migrate(&mut connection, STEPS)?;
    Ok(connection)
}

/// Opens the database for reading only. The writer must have opened it before.
pub fn open_reader(folder: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(folder.join(DATABASE), flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    tune(&connection, READER_CACHE_KIB)?;
    Ok(connection)
}

/// Opens the database to copy its log home. It needs no cache and no statements.
pub fn open_checkpointer(folder: &Path, sync: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(folder.join(DATABASE), flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    // How a checkpoint syncs is the affair of the connection that does it.
    connection.pragma_update(None, "synchronous", if sync { "FULL" } else { "OFF" })?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

fn tune(connection: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)
}

/// Brings the tables from whatever version the file has to the newest, one step a transaction, so that a crash between
/// two steps leaves a file that the next start carries on from.
pub fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), TablesError> {
    let known = steps.len() as u32;
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(TablesError::TooNew { found, known });
    }
    for (version, step) in steps.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version as u32 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// A statement for many rows of one transaction: looked up in the connection's cache when the first row needs it, and
/// once only.
pub struct Reused<'a> {
    connection: &'a Connection,
    text: &'static str,
    statement: Option<CachedStatement<'a>>,
}

impl<'a> Reused<'a> {
    /// The statement of this text.
    pub fn new(connection: &'a Connection, text: &'static str) -> Reused<'a> {
        Reused { connection, text, statement: None }
    }

    /// The statement, ready to be executed.
    pub fn get(&mut self) -> rusqlite::Result<&mut CachedStatement<'a>> {
        match &mut self.statement {
            Some(statement) => Ok(statement),
            place => Ok(place.insert(self.connection.prepare_cached(self.text)?)),
        }
    }
}

/// A number of the table `meta`; 0 where it is not set.
pub fn meta(connection: &Connection, key: &str) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(value), 0) FROM meta WHERE key = ?1")?;
    statement.query_row([key], |row| row.get(0))
}

/// Sets a number of the table `meta`, unless it is higher already: these are all marks that only rise.
pub fn raise_meta(connection: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO meta (key, value) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
    )?;
    statement.execute((key, value)).map(|_| ())
}

/// Key of `meta`: no blob below this number will be made again.
pub const BLOB_FLOOR: &str = "blob_floor";
/// Key of `meta`: no mailbox below this number will be made again.
pub const MAILBOX_FLOOR: &str = "mailbox_floor";
/// Key of `meta`: no account below this number will be made again.
pub const ACCOUNT_FLOOR: &str = "account_floor";
/// Key of `meta`: accounts made anew get UIDVALIDITY values above this.
pub const UID_VALIDITY_FLOOR: &str = "uid_validity_floor";

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> u32 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn steps_run_once_each_and_keep_what_was_there() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, STEPS).unwrap();
        assert_eq!(version(&connection), STEPS.len() as u32);
        connection.execute("INSERT INTO meta VALUES ('kept', 7)", []).unwrap();
        // The last step is one made up for this test.
        let steps = [STEPS, &["ALTER TABLE mailbox ADD COLUMN comment TEXT"]].concat();
        migrate(&mut connection, &steps).unwrap();
        migrate(&mut connection, &steps).unwrap();
        assert_eq!(version(&connection), STEPS.len() as u32 + 1);
        assert_eq!(meta(&connection, "kept").unwrap(), 7);
        connection.prepare("SELECT comment FROM mailbox").unwrap();
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        let steps = [STEPS[0], "CREATE TABLE half (a); CREATE TABLE account (b)"];
        assert!(migrate(&mut connection, &steps).is_err());
        assert_eq!(version(&connection), 1);
        assert!(connection.prepare("SELECT * FROM half").is_err());
    }

    #[test]
    fn a_file_from_the_future_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 9).unwrap();
        assert!(matches!(migrate(&mut connection, STEPS), Err(TablesError::TooNew { found: 9, known: 2 })));
    }
}
