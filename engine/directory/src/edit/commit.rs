//! Putting new texts of tables into place: under a lock, each file whole, several files all or none.

use super::EditError;
use super::draft::Draft;
use crate::watch::{Stamp, read_table_file};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an edit waits for another one.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// The lock of all tables in a folder.
const LOCK_NAME: &str = ".tables.lock";
/// Modes of files that did not exist before.
const MODE_SECRET: u32 = 0o600;
const MODE_TABLE: u32 = 0o644;

/// A file as it was when the edit began.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    pub(crate) octets: Vec<u8>,
    stamp: Stamp,
    mode: u32,
    owner: (u32, u32),
}

/// Reads a file that is to be edited. A symbolic link is refused: replacing it would leave what it points to as it was,
/// and following it might write where the link's owner could not (V51).
pub(crate) fn read_before(path: &Path) -> Result<Option<Before>, EditError> {
    let disk = |error: &io::Error| EditError::Disk(path.to_owned(), error.to_string());
    let link = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk(&error)),
    };
    if link.is_symlink() {
        return Err(EditError::Disk(path.to_owned(), "is a symbolic link; edit the file it points to".into()));
    }
    let Some((octets, metadata)) = read_table_file(path).map_err(|error| disk(&error))? else { return Ok(None) };
    if (metadata.dev(), metadata.ino()) != (link.dev(), link.ino()) {
        return Err(EditError::Changed(path.to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    Ok(Some(Before { octets, stamp: Stamp::of(&metadata), mode, owner: (metadata.uid(), metadata.gid()) }))
}

/// Held while tables are edited; released when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _files: Vec<File>,
}

impl Lock {
    /// Locks the folders of these files, always in the same order, so that two edits cannot wait for each other.
    pub(crate) fn take(files: &[&Path]) -> Result<Lock, EditError> {
        let mut folders: Vec<PathBuf> = files.iter().map(|file| folder_of(file)).collect();
        folders.sort();
        folders.dedup();
        let until = Instant::now() + LOCK_WAIT;
        let lock = |folder: &PathBuf| {
            let path = folder.join(LOCK_NAME);
            let file = open_lock(folder, &path).map_err(|error| EditError::Disk(path.clone(), error.to_string()))?;
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(file),
                    Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_RETRY),
                    Err(TryLockError::WouldBlock) => return Err(EditError::Busy(path)),
                    Err(TryLockError::Error(error)) => return Err(EditError::Disk(path, error.to_string())),
                }
            }
        };
        folders.iter().map(lock).collect::<Result<Vec<File>, EditError>>().map(|files| Lock { _files: files })
    }
}

fn open_lock(folder: &Path, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(MODE_SECRET);
    match options.create_new(true).open(path) {
        Ok(file) => {
            // Root may edit a folder of the service; the service must be able to lock it later.
            let owner = std::fs::metadata(folder)?;
            set_owner(&file, (owner.uid(), owner.gid()))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !std::fs::symlink_metadata(path)?.is_file() {
                return Err(io::Error::other("not a plain file; remove it"));
            }
            options.create_new(false).open(path)
        }
        Err(error) => Err(error),
    }
}

/// Puts the drafts that changed into place, in their order. On failure the ones already placed are put back.
pub(crate) fn commit(drafts: &[Draft], secret: &Path) -> Result<(), EditError> {
    commit_by(drafts, secret, &|from, to| std::fs::rename(from, to))
}

fn commit_by(
    drafts: &[Draft],
    secret: &Path,
    rename: &dyn Fn(&Path, &Path) -> io::Result<()>,
) -> Result<(), EditError> {
    let changed: Vec<&Draft> = drafts.iter().filter(|draft| draft.is_changed()).collect();
    // What is staged removes itself unless it was renamed.
    let mut staged = Vec::new();
    for draft in &changed {
        let (mode, owner) = match draft.before() {
            Some(before) => (before.mode, Some(before.owner)),
            None if draft.path() == secret => (MODE_SECRET, None),
            None => (MODE_TABLE, None),
        };
        staged.push(Staged::write(draft.path(), draft.text().as_bytes(), mode, owner)?);
    }
    for draft in &changed {
        let now = std::fs::symlink_metadata(draft.path()).ok().map(|metadata| Stamp::of(&metadata));
        if now != draft.before().map(|before| before.stamp) {
            return Err(EditError::Changed(draft.path().to_owned()));
        }
    }
    for (index, staged) in staged.iter().enumerate() {
        // Each name is on disk before the next changes, so that a power cut cannot turn the order round.
        let placed = rename(&staged.path, &staged.target).and_then(|()| sync_folder(&staged.target));
        if let Err(error) = placed {
            for draft in changed.iter().take(index + 1).rev() {
                put_back(draft);
            }
            return Err(EditError::Disk(staged.target.clone(), error.to_string()));
        }
    }
    Ok(())
}

/// Restores a file as it was. What fails here is told by the error that led here; nothing more can be done.
fn put_back(draft: &Draft) {
    let result = match draft.before() {
        Some(before) => Staged::write(draft.path(), &before.octets, before.mode, Some(before.owner))
            .map_err(|error| io::Error::other(error.to_string()))
            .and_then(|staged| std::fs::rename(&staged.path, &staged.target)),
        None => std::fs::remove_file(draft.path()).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        }),
    };
    if let Err(error) = result.and_then(|()| sync_folder(draft.path())) {
        tracing::error!(file = %draft.path().display(), %error, "table not put back");
    }
}

/// A new file beside the one it is to replace, synced.
struct Staged {
    path: PathBuf,
    target: PathBuf,
}

impl Staged {
    fn write(target: &Path, octets: &[u8], mode: u32, owner: Option<(u32, u32)>) -> Result<Staged, EditError> {
        let disk = |error: io::Error| EditError::Disk(target.to_owned(), error.to_string());
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| disk(io::Error::other("no random numbers")))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = folder_of(target).join(format!(".{name}.{:016x}.new", u64::from_ne_bytes(random)));
        // A new name only, never a file or link that somebody laid there (V51).
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE_SECRET).open(&path).map_err(disk)?;
        let staged = Staged { path, target: target.to_owned() };
        let mut fill = || -> io::Result<()> {
            file.write_all(octets)?;
            if let Some(owner) = owner {
                set_owner(&file, owner)?;
            }
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        };
        fill().map_err(disk)?;
        Ok(staged)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After the rename there is nothing left to remove.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn set_owner(file: &File, owner: (u32, u32)) -> io::Result<()> {
    let metadata = file.metadata()?;
    if (metadata.uid(), metadata.gid()) == owner { Ok(()) } else { fchown(file, Some(owner.0), Some(owner.1)) }
}

fn sync_folder(file: &Path) -> io::Result<()> {
    File::open(folder_of(file))?.sync_all()
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use std::cell::Cell;

    fn edited(folder: &Folder, name: &str, line: &str) -> Draft {
        let mut draft = Draft::read(&folder.path(name)).unwrap();
        draft.append(line);
        draft
    }

    #[test]
    fn r191_all_or_none_when_a_rename_fails() {
        for failing in 0..3 {
            let folder = Folder::new();
            folder.write("a", "one\n");
            folder.write("b", "two");
            let drafts = [edited(&folder, "a", "x"), edited(&folder, "b", "y"), edited(&folder, "c", "z")];
            let count = Cell::new(0);
            let result = commit_by(&drafts, &folder.path("a"), &|from, to| {
                count.set(count.get() + 1);
                if count.get() > failing { Err(io::Error::other("no")) } else { std::fs::rename(from, to) }
            });
            assert!(matches!(result, Err(EditError::Disk(..))));
            assert_eq!((folder.read("a").as_str(), folder.read("b").as_str()), ("one\n", "two"));
            assert_eq!(folder.names(), ["a", "b"]);
        }
    }

    #[test]
    fn modes_are_kept_and_nothing_is_left_behind() {
        let folder = Folder::new();
        let path = folder.write("a", "one\n");
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        commit(&[edited(&folder, "a", "x"), edited(&folder, "b", "y"), edited(&folder, "s", "z")], &folder.path("s"))
            .unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a"), mode("b"), mode("s")), (0o640, 0o644, 0o600));
        assert_eq!(folder.read("a"), "one\nx\n");
        assert_eq!(folder.names(), ["a", "b", "s"]);
    }

    #[test]
    fn a_file_changed_meanwhile_is_not_overwritten() {
        let folder = Folder::new();
        folder.write("a", "one\n");
        let draft = edited(&folder, "a", "x");
        folder.write("a", "other\n");
        assert!(matches!(commit(&[draft], Path::new("")), Err(EditError::Changed(_))));
        let new = edited(&folder, "n", "x");
        folder.write("n", "other\n");
        assert!(matches!(commit(&[new], Path::new("")), Err(EditError::Changed(_))));
        assert_eq!((folder.read("a").as_str(), folder.names().len()), ("other\n", 2));
    }

    #[test]
    fn v51_links_are_neither_followed_nor_replaced() {
        let folder = Folder::new();
        folder.write("real", "one\n");
        std::os::unix::fs::symlink(folder.path("real"), folder.path("link")).unwrap();
        assert!(matches!(Draft::read(&folder.path("link")), Err(EditError::Disk(..))));
        std::os::unix::fs::symlink(folder.path("real"), folder.path(LOCK_NAME)).unwrap();
        assert!(matches!(Lock::take(&[&folder.path("real")]), Err(EditError::Disk(..))));
        assert_eq!(folder.read("real"), "one\n");
    }

    #[test]
    fn two_edits_do_not_run_at_once() {
        let folder = Folder::new();
        let lock = Lock::take(&[&folder.path("a"), &folder.path("b")]).unwrap();
        let file = open_lock(folder.root(), &folder.path(LOCK_NAME)).unwrap();
        assert!(matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
        drop(lock);
        assert!(file.try_lock().is_ok());
    }
}
