//! The segment files: made, opened, kept open, unlinked. What lies in them is `record`'s matter, which of it counts is
//! the database's.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Folder of the segments below the store's.
pub const FOLDER: &str = "segments";
/// Most segment files kept open for reading.
const OPEN_FILES_MAX: usize = 256;

/// All segment files of a store.
pub struct Segments {
    folder: PathBuf,
    next: AtomicU32,
    sync: bool,
    open: Mutex<HashMap<u32, Arc<File>>>,
}

impl Segments {
    /// Takes over a folder of segments; makes it if it is missing. New files get numbers above `highest` and above all
    /// that are there.
    pub fn open(store: &Path, highest: u32, sync: bool) -> io::Result<Segments> {
        let folder = store.join(FOLDER);
        std::fs::create_dir_all(&folder)?;
        let present = list(&folder)?.into_iter().max().unwrap_or(0);
        let segments = Segments {
            folder,
            next: AtomicU32::new(highest.max(present).saturating_add(1)),
            sync,
            open: Mutex::new(HashMap::new()),
        };
        segments.sync_folder()?;
        if sync {
            File::open(store)?.sync_all()?;
            // The store's own name, as far as we may.
            if let Some(parent) = store.parent().and_then(|parent| File::open(parent).ok()) {
                parent.sync_all()?;
            }
        }
        Ok(segments)
    }

    /// Makes a new, empty segment. Its name is durable only after [`sync_folder`](Self::sync_folder).
    pub fn create(&self) -> io::Result<(u32, Arc<File>)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.path(number))?;
        Ok((number, Arc::new(file)))
    }

    /// Opens a segment for appending.
    pub fn open_for_append(&self, number: u32) -> io::Result<Arc<File>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path(number))?))
    }

    /// A segment, open for reading.
    pub fn get(&self, number: u32) -> io::Result<Arc<File>> {
        if let Some(file) = self.lock().get(&number) {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(self.path(number))?);
        let mut open = self.lock();
        if open.len() >= OPEN_FILES_MAX {
            // Which one goes hardly matters: opening it again costs microseconds.
            let some = open.keys().next().copied();
            some.and_then(|some| open.remove(&some));
        }
        open.insert(number, file.clone());
        Ok(file)
    }

    /// Makes the names of all files durable.
    pub fn sync_folder(&self) -> io::Result<()> {
        if self.sync { File::open(&self.folder)?.sync_all() } else { Ok(()) }
    }

    /// Makes a file's octets durable.
    pub fn sync_file(&self, file: &File) -> io::Result<()> {
        if self.sync { file.sync_data() } else { Ok(()) }
    }

    /// Removes a segment. Who has it open may read on.
    pub fn unlink(&self, number: u32) -> io::Result<()> {
        self.lock().remove(&number);
        match std::fs::remove_file(self.path(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Numbers of all files that are there.
    pub fn list(&self) -> io::Result<Vec<u32>> {
        list(&self.folder)
    }

    /// Where a segment's file is.
    pub fn path(&self, number: u32) -> PathBuf {
        path(&self.folder, number)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.seg"))
}

fn list(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number: Option<u32> =
            name.to_str().and_then(|name| name.strip_suffix(".seg")).and_then(|stem| stem.parse().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}
