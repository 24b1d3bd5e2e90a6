//! A table's file: read at start, read again when it changes, the last good content kept (R29, R193).

use crate::table::{FILE_OCTETS_MAX, Finding, Parsed, Source, TableError};
use aws_lc_rs::digest;
use mail::Moment;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A file is looked at once in this time at most.
pub const CHECK_EVERY: Duration = Duration::from_secs(1);
/// A file younger than this may be written again without a visible change of its times, so it is read again.
const TIMES_SETTLE_AFTER: Duration = Duration::from_secs(2);

/// Whether a table may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Its absence is a fault.
    Required,
    /// Its absence means an empty table.
    Optional,
}

/// What a check found.
#[derive(Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// Nothing new.
    Same,
    /// The content is new; these findings are about it.
    Replaced(Vec<Finding>),
    /// The file changed but cannot be used: the content is still the old one. Said once for each change.
    Kept(TableError),
}

/// Reads one kind of table.
pub type Reader<T> = fn(&Source<'_>) -> Result<Parsed<T>, TableError>;

/// The content of a file that follows its changes.
#[derive(Debug)]
pub struct Watched<T> {
    path: PathBuf,
    need: Need,
    reader: Reader<T>,
    content: Arc<T>,
    findings: Vec<Finding>,
    /// What is wrong with the file as it is now, while older content stays in force.
    fault: Option<TableError>,
    seen: Seen,
    doubtful: bool,
    check_at: Moment,
}

/// The state of the file that the content, or the last report, belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Missing,
    Unreadable(io::ErrorKind),
    File { stamp: Stamp, digest: [u8; 32], settled: bool },
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    octets: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            octets: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl<T: Default> Watched<T> {
    /// Reads the file for the first time. A table that cannot be used, or is required and missing, is an error.
    pub fn open(path: &Path, need: Need, reader: Reader<T>) -> Result<Watched<T>, TableError> {
        let mut watched = Watched {
            path: path.to_owned(),
            need,
            reader,
            content: Arc::default(),
            findings: Vec::new(),
            fault: None,
            seen: Seen::Missing,
            doubtful: false,
            check_at: Moment::default(),
        };
        match read_table_file(path) {
            Ok(Some((octets, metadata))) => {
                watched.seen = seen(&octets, &metadata);
                let parsed = reader(&Source { file: path, octets: &octets })?;
                watched.content = Arc::new(parsed.content);
                watched.findings = parsed.findings;
                Ok(watched)
            }
            Ok(None) if need == Need::Optional => Ok(watched),
            Ok(None) => Err(watched.missing()),
            Err(error) => Err(watched.unreadable(&error)),
        }
    }

    /// The table as last read without fault.
    pub fn content(&self) -> &Arc<T> {
        &self.content
    }

    /// Whether the file was there.
    pub fn is_present(&self) -> bool {
        self.seen != Seen::Missing
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is worth saying about the content.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Makes the next [`check`](Self::check) look, whatever its time.
    pub fn make_due(&mut self) {
        self.check_at = Moment::default();
    }

    /// What is wrong with the file as it is now, whether or not that was said before.
    pub fn fault(&self) -> Option<&TableError> {
        self.fault.as_ref()
    }

    /// Looks whether the file changed, at most once in [`CHECK_EVERY`]. `now` is the caller's monotonic clock.
    pub fn check(&mut self, now: Moment) -> Refreshed {
        let refreshed = self.look(now);
        match &refreshed {
            Refreshed::Same => {}
            Refreshed::Replaced(_) => self.fault = None,
            Refreshed::Kept(error) => self.fault = Some(error.clone()),
        }
        refreshed
    }

    fn look(&mut self, now: Moment) -> Refreshed {
        if now < self.check_at {
            return Refreshed::Same;
        }
        self.check_at = now.after(CHECK_EVERY);
        match read_if_changed(&self.path, &self.seen) {
            Ok(Some((octets, metadata))) => self.take(&octets, &metadata),
            Ok(None) => {
                self.doubtful = false;
                Refreshed::Same
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.vanished(),
            Err(error) => {
                let kind = Seen::Unreadable(error.kind());
                if self.seen == kind {
                    return Refreshed::Same;
                }
                self.seen = kind;
                Refreshed::Kept(self.unreadable(&error))
            }
        }
    }

    fn take(&mut self, octets: &[u8], metadata: &Metadata) -> Refreshed {
        // Some editors empty a file before they write it anew: an empty file counts when it is still so at the next look.
        if octets.is_empty() && !self.doubtful && !matches!(self.seen, Seen::File { stamp, .. } if stamp.octets == 0) {
            self.doubtful = true;
            return Refreshed::Same;
        }
        self.doubtful = false;
        let now_seen = seen(octets, metadata);
        let same = matches!((&self.seen, &now_seen),
            (Seen::File { digest: old, .. }, Seen::File { digest: new, .. }) if old == new);
        self.seen = now_seen;
        if same {
            return Refreshed::Same;
        }
        match (self.reader)(&Source { file: &self.path, octets }) {
            Ok(parsed) => {
                self.content = Arc::new(parsed.content);
                self.findings = parsed.findings;
                Refreshed::Replaced(self.findings.clone())
            }
            Err(error) => Refreshed::Kept(error),
        }
    }

    fn vanished(&mut self) -> Refreshed {
        if self.seen == Seen::Missing {
            return Refreshed::Same;
        }
        // Some editors move a file away before they write it anew: it is gone when it is still gone at the next look.
        if !self.doubtful {
            self.doubtful = true;
            return Refreshed::Same;
        }
        self.doubtful = false;
        self.seen = Seen::Missing;
        if self.need == Need::Required {
            return Refreshed::Kept(self.missing());
        }
        self.content = Arc::default();
        self.findings = Vec::new();
        Refreshed::Replaced(Vec::new())
    }

    fn source(&self) -> Source<'_> {
        Source { file: &self.path, octets: b"" }
    }

    fn missing(&self) -> TableError {
        self.source().error(0, "the file does not exist", "create it; it may be empty")
    }

    fn unreadable(&self, error: &io::Error) -> TableError {
        self.source().error(0, format!("cannot be read: {error}"), "make it a plain file that the service may read")
    }
}

fn seen(octets: &[u8], metadata: &Metadata) -> Seen {
    let mut hash = [0; 32];
    for (place, octet) in hash.iter_mut().zip(digest::digest(&digest::SHA256, octets).as_ref()) {
        *place = *octet;
    }
    let settled = metadata
        .modified()
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok())
        .is_some_and(|age| age > TIMES_SETTLE_AFTER);
    Seen::File { stamp: Stamp::of(metadata), digest: hash, settled }
}

/// The file's octets, unless it surely is as it was seen last.
fn read_if_changed(path: &Path, seen: &Seen) -> io::Result<Option<(Vec<u8>, Metadata)>> {
    let now = Stamp::of(&std::fs::metadata(path)?);
    if matches!(seen, Seen::File { stamp, settled: true, .. } if *stamp == now) {
        return Ok(None);
    }
    read_table_file(path)?.map(Some).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The octets of a plain file and its metadata as of before reading; `None` when it does not exist. Reads one octet
/// more than a table may have, so that the reader sees that it is too large.
pub(crate) fn read_table_file(path: &Path) -> io::Result<Option<(Vec<u8>, Metadata)>> {
    let open = || -> io::Result<(Vec<u8>, Metadata)> {
        // A pipe would block the open for ever, so the kind is looked at first.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a plain file"));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut octets = Vec::new();
        file.take(FILE_OCTETS_MAX as u64 + 1).read_to_end(&mut octets)?;
        Ok((octets, metadata))
    };
    match open() {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::Domains;
    use crate::testing::Folder;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn names(watched: &Watched<Domains>) -> Vec<String> {
        let mut names: Vec<String> = watched.content().iter().map(|(domain, _)| domain.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn r29_changes_are_seen_once_a_second() {
        let folder = Folder::new();
        let path = folder.write("domains", "a.example\n");
        let mut watched = Watched::open(&path, Need::Required, Domains::read).unwrap();
        assert_eq!(watched.check(at(1)), Refreshed::Same);
        folder.write("domains", "b.example\n");
        assert_eq!(watched.check(at(1)), Refreshed::Same, "not yet looked at");
        assert_eq!(watched.check(at(2)), Refreshed::Replaced(Vec::new()));
        assert_eq!(names(&watched), ["b.example"]);
        assert_eq!(watched.check(at(3)), Refreshed::Same);
    }

    #[test]
    fn r193_a_broken_edit_keeps_the_old_content_and_is_reported_once() {
        let folder = Folder::new();
        let path = folder.write("domains", "a.example\n");
        let mut watched = Watched::open(&path, Need::Required, Domains::read).unwrap();
        folder.write("domains", "a.example\nb example\n");
        let Refreshed::Kept(error) = watched.check(at(1)) else { panic!("taken") };
        assert_eq!((error.line, error.file.as_path()), (Some(2), path.as_path()));
        assert_eq!(watched.check(at(2)), Refreshed::Same);
        assert_eq!(watched.fault(), Some(&error));
        assert_eq!(names(&watched), ["a.example"]);
        folder.write("domains", "a.example\nc.example\n");
        assert_eq!(watched.check(at(3)), Refreshed::Replaced(Vec::new()));
        assert_eq!(watched.fault(), None);
        assert_eq!(names(&watched), ["a.example", "c.example"]);
        assert!(Watched::open(&folder.write("bad", "a b\n"), Need::Optional, Domains::read).is_err());
    }

    #[test]
    fn a_missing_file_is_empty_or_a_fault() {
        let folder = Folder::new();
        let path = folder.path("domains");
        assert!(Watched::open(&path, Need::Required, Domains::read).unwrap_err().cause.contains("does not exist"));
        let mut watched = Watched::open(&path, Need::Optional, Domains::read).unwrap();
        assert!(!watched.is_present());
        folder.write("domains", "a.example\n");
        assert!(matches!(watched.check(at(1)), Refreshed::Replaced(_)));
        assert!(watched.is_present());
    }

    #[test]
    fn an_editors_moment_without_the_file_is_not_believed() {
        let folder = Folder::new();
        let path = folder.write("domains", "a.example\n");
        let mut watched = Watched::open(&path, Need::Optional, Domains::read).unwrap();
        for moment in [1, 3] {
            match moment {
                1 => std::fs::remove_file(&path).unwrap(),
                _ => drop(folder.write("domains", "")),
            }
            assert_eq!(watched.check(at(moment)), Refreshed::Same);
            folder.write("domains", "a.example\n");
            assert_eq!(watched.check(at(moment + 1)), Refreshed::Same);
            assert_eq!(names(&watched), ["a.example"]);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(watched.check(at(10)), Refreshed::Same);
        assert_eq!(watched.check(at(11)), Refreshed::Replaced(Vec::new()));
        assert!(names(&watched).is_empty() && !watched.is_present());
    }

    #[test]
    fn a_required_file_that_vanishes_is_reported_and_its_content_kept() {
        let folder = Folder::new();
        let path = folder.write("domains", "a.example\n");
        let mut watched = Watched::open(&path, Need::Required, Domains::read).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(watched.check(at(1)), Refreshed::Same);
        assert!(matches!(watched.check(at(2)), Refreshed::Kept(_)));
        assert_eq!(watched.check(at(3)), Refreshed::Same);
        assert_eq!(names(&watched), ["a.example"]);
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(watched.check(at(4)), Refreshed::Kept(_)), "a folder is no table");
        assert_eq!(watched.check(at(5)), Refreshed::Same);
    }
}
