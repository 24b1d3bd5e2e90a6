//! Opening a store: the lock, the tables, what a crash left behind.

use super::batch::Counters;
use super::known::{Accounts, Places, Recents, Watches};
use super::picture::Pictures;
use super::readers::Readers;
use super::segments::Segments;
use super::staging::Staging;
use super::tables::{self, TablesError};
use super::tail::Tail;
use super::upkeep::{self, Desk, Signal};
use super::writer::{WAITING_COMMITS_MAX, Writer};
use super::{EmbeddedStore, Shared};
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Name of the lock file in the store's folder.
const LOCK: &str = "lock";
/// A process that is just ending, or just starting another, may hold the lock a moment longer.
const LOCK_WAIT: Duration = Duration::from_millis(200);

/// How a store is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it lives. Made if it is missing, readable for its owner only.
    pub folder: PathBuf,
    /// A segment is closed when it holds this many octets.
    pub segment_octets_max: u64,
    /// Messages beyond this many octets go to a segment of their own while they come in.
    pub spill_octets: usize,
    /// Octets of memory that all staged messages may hold together; beyond it, any message goes to a segment.
    pub staging_octets_max: u64,
    /// Octets of the file system that mail leaves free (R46).
    pub reserve_octets: u64,
    /// Messages of all mailboxes together whose pictures are kept in memory, some 60 octets each.
    pub picture_messages_max: u64,
    /// How long octets stay after the last message with them is gone, for sessions that still show it.
    pub dead_after: Duration,
    /// Whether to wait for the disk. Only tests and measurements turn it off: without it nothing is durable.
    pub sync: bool,
}

impl Options {
    /// The usual options for a store in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Options {
        Options {
            folder: folder.into(),
            segment_octets_max: 64 * 1024 * 1024,
            spill_octets: 512 * 1024,
            staging_octets_max: 256 * 1024 * 1024,
            reserve_octets: 64 * 1024 * 1024,
            picture_messages_max: 2_000_000,
            dead_after: Duration::from_secs(60),
            sync: true,
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it open.
    Locked(PathBuf),
    /// A newer version of the program wrote it.
    TooNew {
        /// The folder.
        folder: PathBuf,
        /// Version of its tables.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// The database cannot be used; the text is SQLite's.
    Database(PathBuf, String),
    /// A file or folder cannot be used.
    Files(PathBuf, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked(folder) => {
                write!(f, "the store {} is in use by another process", folder.display())
            }
            OpenError::TooNew { folder, found, known } => write!(
                f,
                "the store {} has tables of version {found}, written by a newer pillarbox; this one knows versions up \
                 to {known}. Run the newer one, or restore a backup",
                folder.display()
            ),
            OpenError::Database(folder, cause) => {
                write!(f, "the database {}: {cause}", folder.join(tables::DATABASE).display())
            }
            OpenError::Files(folder, cause) => write!(f, "the store {}: {cause}", folder.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens a store and starts its threads.
pub fn open(options: Options) -> Result<EmbeddedStore, OpenError> {
    let folder = options.folder.clone();
    let files = |error| OpenError::Files(folder.clone(), error);
    let lock = lock_folder(&folder)?;
    let connection = open_tables(&folder, options.sync)?;
    let database = |error: rusqlite::Error| OpenError::Database(folder.clone(), error.to_string());
    let rows = segment_rows(&connection).map_err(database)?;
    let highest = rows.iter().map(|row| row.number).max().unwrap_or(0);
    let segments = Arc::new(Segments::open(&folder, highest, options.sync).map_err(files)?);
    if options.sync {
        settle(&folder).map_err(files)?;
    }
    remove_orphans(&segments, &rows).map_err(files)?;
    let tail = resume_tail(&segments, &rows, options.segment_octets_max);
    let counters = counters(&connection).map_err(database)?;
    let next_blob = next(&connection, "blob", tables::BLOB_FLOOR).map_err(database)?;
    let staging = Staging::new(segments.clone(), next_blob, options.spill_octets, options.staging_octets_max);
    let shared = Arc::new(Shared {
        segments,
        staging: Arc::new(staging),
        pictures: Pictures::new(options.picture_messages_max),
        accounts: Accounts::new(),
        places: Places::new(),
        recents: Recents::new(),
        watches: Watches::new(),
        readers: Readers::new(folder.clone()),
        tail_segment: AtomicU32::new(tail.number().unwrap_or(0)),
        reclaiming: Mutex::new(()),
        closed: AtomicBool::new(false),
        lock: Mutex::new(Some(lock)),
        options,
    });
    start(shared, connection, counters, tail).map_err(files)
}

/// Makes the folder if need be and locks it for this process. The lock goes with the file.
pub fn lock_folder(folder: &Path) -> Result<File, OpenError> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let files = |error| OpenError::Files(folder.to_owned(), error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(files)?;
    let mut how = OpenOptions::new();
    let file = how.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = file.open(folder.join(LOCK)).map_err(files)?;
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(files(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                return Err(OpenError::Locked(folder.to_owned()));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT / 20),
        }
    }
}

/// Makes durable what was found. A process that was killed may have written a commit to the log without syncing it; it
/// is read back from memory as if it were on the disk, and what is shown to anybody must not go away with the power. The
/// same holds for the name of the store's own folder.
fn settle(folder: &Path) -> io::Result<()> {
    // SQLite holds no lock on its log, so that none is lost when this handle of it is closed.
    match File::open(folder.join(format!("{}-wal", tables::DATABASE))) {
        Ok(log) => log.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Of the folders above, whoever made them has to take care.
    match folder.canonicalize()?.parent().map(File::open) {
        Some(Ok(parent)) => parent.sync_all(),
        // A confined server may not look there; whoever confined it synced the name before.
        Some(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Some(Err(error)) => Err(error),
        None => Ok(()),
    }
}

/// Opens the database and brings its tables up to date.
pub fn open_tables(folder: &Path, sync: bool) -> Result<Connection, OpenError> {
    tables::open_writer(folder, sync).map_err(|error| match error {
        TablesError::TooNew { found, known } => OpenError::TooNew { folder: folder.to_owned(), found, known },
        TablesError::Database(error) => OpenError::Database(folder.to_owned(), error.to_string()),
    })
}

/// A row of the table `segment`.
pub struct SegmentRow {
    /// Its number.
    pub number: u32,
    /// Its valid length.
    pub octets: u64,
}

/// All segments that count.
pub fn segment_rows(connection: &Connection) -> rusqlite::Result<Vec<SegmentRow>> {
    let mut statement = connection.prepare("SELECT number, octets FROM segment ORDER BY number")?;
    let rows = statement.query_map([], |row| Ok(SegmentRow { number: row.get(0)?, octets: row.get(1)? }))?;
    rows.collect()
}

/// Removes files that no row mentions: large bodies that were never committed, copies that were never finished.
fn remove_orphans(segments: &Segments, rows: &[SegmentRow]) -> io::Result<()> {
    let known: BTreeSet<u32> = rows.iter().map(|row| row.number).collect();
    for number in segments.list()? {
        if !known.contains(&number) {
            tracing::info!(segment = number, "segment that was never committed removed");
            segments.unlink(number)?;
        }
    }
    Ok(())
}

/// Goes on with the newest segment if there is room in it. What lies behind its valid length is cut off.
fn resume_tail(segments: &Arc<Segments>, rows: &[SegmentRow], octets_max: u64) -> Tail {
    let mut tail = Tail::new(segments.clone(), octets_max);
    if let Some(newest) = rows.iter().max_by_key(|row| row.number)
        && newest.octets < octets_max / 2
        && let Err(error) = tail.resume(newest.number, newest.octets)
    {
        // Its records are found damaged or missing when they are read; new mail goes elsewhere.
        tracing::error!(segment = newest.number, %error, "segment not continued");
    }
    tail
}

fn counters(connection: &Connection) -> rusqlite::Result<Counters> {
    Ok(Counters {
        mailbox: next(connection, "mailbox", tables::MAILBOX_FLOOR)?,
        account: next(connection, "account", tables::ACCOUNT_FLOOR)?,
        uid_validity: u32::try_from(tables::meta(connection, tables::UID_VALIDITY_FLOOR)?).unwrap_or(u32::MAX),
    })
}

/// The first number that no row of a table has or ever had.
fn next(connection: &Connection, table: &str, floor: &str) -> rusqlite::Result<u64> {
    let highest: u64 =
        connection.query_row(&format!("SELECT coalesce(max(id), 0) FROM {table}"), [], |row| row.get(0))?;
    let floor = tables::meta(connection, floor)?;
    Ok((highest + 1).max(u64::try_from(floor).unwrap_or(0)))
}

fn start(shared: Arc<Shared>, connection: Connection, counters: Counters, tail: Tail) -> io::Result<EmbeddedStore> {
    let signal = Arc::new(Signal::default());
    let writer = Writer::new(shared.clone(), connection, counters, tail, signal.clone()).map_err(io::Error::other)?;
    let (requests, queue) = mpsc::channel(WAITING_COMMITS_MAX);
    let desk = Desk(requests.downgrade());
    let mut store =
        EmbeddedStore { shared: shared.clone(), requests: Some(requests), signal: signal.clone(), threads: Vec::new() };
    let thread = |name: &str| std::thread::Builder::new().name(name.into());
    let for_writer = shared.clone();
    store.threads.push(thread("store-writer").spawn(move || {
        let asked = writer.run(queue);
        // Only when the writer's files are closed may another process open them.
        for_writer.unlock();
        // Who asked may have gone away.
        asked.map(|reply| reply.send(()));
    })?);
    store.threads.push(thread("store-upkeep").spawn(move || upkeep::run(&shared, &desk, &signal))?);
    Ok(store)
}
