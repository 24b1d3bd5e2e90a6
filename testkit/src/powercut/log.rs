//! Reads what the recorder wrote. The format is described in the recorder's `journal.rs`.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// One operation of the recorded process, in the order in which they took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A file or folder was opened.
    Open {
        /// Names this opening from here on.
        handle: u64,
        /// Makes the file if it is missing.
        create: bool,
        /// Empties it.
        truncate: bool,
        /// Relative to the recorded folder, which itself is the empty path.
        path: String,
    },
    /// Octets were written.
    Write {
        /// Where.
        handle: u64,
        /// First octet in the file.
        offset: u64,
        /// Where the octets are, see [`Log::octets`].
        data: Range<usize>,
    },
    /// The length of a file was set.
    Truncate {
        /// Which.
        handle: u64,
        /// The length.
        octets: u64,
    },
    /// The length of a file was raised, if it was below.
    Allocate {
        /// Which.
        handle: u64,
        /// The length.
        octets: u64,
    },
    /// A sync was asked for.
    SyncBegin {
        /// Of what.
        handle: u64,
        /// Pairs it with its end.
        token: u64,
    },
    /// A sync came back.
    SyncEnd {
        /// Of what.
        handle: u64,
        /// Pairs it with its beginning.
        token: u64,
    },
    /// A name was replaced by another.
    Rename {
        /// The old path.
        from: String,
        /// The new path.
        to: String,
    },
    /// A file got a further name.
    Link {
        /// The path it has.
        from: String,
        /// The path it gets.
        to: String,
    },
    /// A name was removed, of a file or of an empty folder.
    Unlink {
        /// The path.
        path: String,
    },
    /// A folder was made.
    MakeFolder {
        /// The path.
        path: String,
    },
    /// The process said something.
    Mark {
        /// Where the octets are.
        data: Range<usize>,
    },
}

/// Why a log cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogError {
    /// It could not be read.
    Unreadable(String),
    /// The process did something that the recorder has no entry for.
    Unseen(String),
    /// An entry makes no sense, or contradicts those before it.
    Contradiction(String),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Unreadable(cause) => write!(f, "the log cannot be read: {cause}"),
            LogError::Unseen(what) => write!(f, "the recorder could not put down: {what}"),
            LogError::Contradiction(what) => write!(f, "the log contradicts itself: {what}"),
        }
    }
}

impl std::error::Error for LogError {}

/// A log in memory.
#[derive(Debug, Clone)]
pub struct Log {
    octets: Vec<u8>,
    ops: Vec<Op>,
}

impl Log {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Log, LogError> {
        Log::parse(std::fs::read(path).map_err(|error| LogError::Unreadable(error.to_string()))?)
    }

    /// Reads octets. A last entry that is not whole is passed over: the process was killed while it wrote it.
    pub fn parse(octets: Vec<u8>) -> Result<Log, LogError> {
        let mut ops = Vec::new();
        let mut at = 0;
        while let Some(length) = octets.get(at..at + 4) {
            let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
            let entry = at + 4..at + 4 + length;
            if entry.end > octets.len() {
                break;
            }
            at = entry.end;
            ops.push(Entry { octets: &octets, rest: entry }.op()?);
        }
        Ok(Log { octets, ops })
    }

    /// Takes out the syncs of files and folders whose path `of` picks, as if the process had left them out: to see
    /// that a test notices.
    pub fn without_syncs(mut self, of: impl Fn(&str) -> bool) -> Log {
        let mut picked = HashSet::new();
        self.ops.retain(|op| match op {
            Op::Open { handle, path, .. } => {
                if of(path) {
                    picked.insert(*handle);
                }
                true
            }
            Op::SyncBegin { handle, .. } | Op::SyncEnd { handle, .. } => !picked.contains(handle),
            _ => true,
        });
        self
    }

    /// All operations.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The octets of a write or a mark.
    pub fn octets(&self, data: &Range<usize>) -> &[u8] {
        self.octets.get(data.clone()).unwrap_or(&[])
    }

    /// What the process said, in order.
    pub fn marks(&self) -> impl Iterator<Item = &[u8]> {
        self.ops.iter().filter_map(|op| match op {
            Op::Mark { data } => Some(self.octets(data)),
            _ => None,
        })
    }
}

/// A mark as it stands in a log's octets, so that a log can begin with what an earlier one said.
pub fn mark_entry(text: &[u8]) -> Vec<u8> {
    let mut entry = (text.len() as u32 + 1).to_le_bytes().to_vec();
    entry.push(11);
    entry.extend_from_slice(text);
    entry
}

struct Entry<'a> {
    octets: &'a [u8],
    rest: Range<usize>,
}

impl Entry<'_> {
    fn op(mut self) -> Result<Op, LogError> {
        let kind = self.octets[self.rest.clone()].first().copied();
        self.rest.start += 1;
        Ok(match kind.unwrap_or_default() {
            1 => {
                let (handle, flags) = (self.number()?, self.number()?);
                Op::Open {
                    handle,
                    create: flags & OPEN_CREATE != 0,
                    truncate: flags & OPEN_TRUNCATE != 0,
                    path: self.text(),
                }
            }
            2 => Op::Write { handle: self.number()?, offset: self.number()?, data: self.rest },
            3 => Op::Truncate { handle: self.number()?, octets: self.number()? },
            4 => Op::Allocate { handle: self.number()?, octets: self.number()? },
            5 => Op::SyncBegin { handle: self.number()?, token: self.number()? },
            6 => Op::SyncEnd { handle: self.number()?, token: self.number()? },
            7 => {
                let (from, to) = self.pair()?;
                Op::Rename { from, to }
            }
            8 => {
                let (from, to) = self.pair()?;
                Op::Link { from, to }
            }
            9 => Op::Unlink { path: self.text() },
            10 => Op::MakeFolder { path: self.text() },
            11 => Op::Mark { data: self.rest },
            12 => return Err(LogError::Unseen(self.text())),
            kind => return Err(LogError::Contradiction(format!("an entry of kind {kind}"))),
        })
    }

    fn number(&mut self) -> Result<u64, LogError> {
        let number = self.octets[self.rest.clone()].first_chunk::<8>();
        self.rest.start += 8;
        number.map(|number| u64::from_le_bytes(*number)).ok_or(LogError::Contradiction("an entry too short".into()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.octets[self.rest.clone()]).into_owned()
    }

    fn pair(&self) -> Result<(String, String), LogError> {
        let text = self.text();
        let (from, to) = text.split_once('\0').ok_or(LogError::Contradiction("one name of two".into()))?;
        Ok((from.to_owned(), to.to_owned()))
    }
}

/// `O_CREAT` of Linux.
const OPEN_CREATE: u64 = 0o100;
/// `O_TRUNC` of Linux.
const OPEN_TRUNCATE: u64 = 0o1000;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes logs as the recorder does.
    pub struct Record(Vec<u8>);

    impl Record {
        pub fn new() -> Record {
            Record(Vec::new())
        }

        fn entry(mut self, kind: u8, numbers: &[u64], tail: &[u8]) -> Record {
            let octets = 1 + numbers.len() * 8 + tail.len();
            self.0.extend_from_slice(&(octets as u32).to_le_bytes());
            self.0.push(kind);
            numbers.iter().for_each(|number| self.0.extend_from_slice(&number.to_le_bytes()));
            self.0.extend_from_slice(tail);
            self
        }

        pub fn open(self, handle: u64, path: &str, create: bool) -> Record {
            self.entry(1, &[handle, if create { OPEN_CREATE } else { 0 }], path.as_bytes())
        }

        pub fn write(self, handle: u64, offset: u64, data: &[u8]) -> Record {
            self.entry(2, &[handle, offset], data)
        }

        pub fn sync(self, handle: u64, token: u64) -> Record {
            self.sync_begin(handle, token).sync_end(handle, token)
        }

        pub fn sync_begin(self, handle: u64, token: u64) -> Record {
            self.entry(5, &[handle, token], b"")
        }

        pub fn sync_end(self, handle: u64, token: u64) -> Record {
            self.entry(6, &[handle, token], b"")
        }

        pub fn unlink(self, path: &str) -> Record {
            self.entry(9, &[], path.as_bytes())
        }

        pub fn folder(self, path: &str) -> Record {
            self.entry(10, &[], path.as_bytes())
        }

        pub fn mark(self, text: &str) -> Record {
            self.entry(11, &[], text.as_bytes())
        }

        pub fn log(self) -> Log {
            Log::parse(self.0).unwrap()
        }
    }

    #[test]
    fn a_log_cut_anywhere_is_read_up_to_the_cut() {
        let whole = Record::new().open(1, "a", true).write(1, 5, b"data").mark("m").entry(7, &[], b"a\0b").0;
        let count = |octets: &[u8]| Log::parse(octets.to_vec()).unwrap().ops().len();
        assert_eq!(count(&whole), 4);
        for cut in 0..whole.len() {
            assert!(count(&whole[..cut]) < 4);
        }
    }
}
