//! The end of the store's newest segment, where small records are appended, and the thread that syncs it while the
//! database executes.

use super::segments::Segments;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Records up to this size are gathered into one write.
const GATHER_OCTETS_MAX: usize = 64 * 1024;

/// The segment that grows.
pub struct Tail {
    segments: Arc<Segments>,
    octets_max: u64,
    open: Option<Open>,
}

struct Open {
    number: u32,
    file: Arc<File>,
    /// Where the next record goes. Never goes back once a commit may refer to what lies before it.
    end: u64,
}

impl Tail {
    /// No segment is open; the first append makes one.
    pub fn new(segments: Arc<Segments>, octets_max: u64) -> Tail {
        Tail { segments, octets_max, open: None }
    }

    /// Goes on with a segment whose valid length is `octets`. What lies behind was never committed and is cut off.
    pub fn resume(&mut self, number: u32, octets: u64) -> io::Result<()> {
        let file = self.segments.open_for_append(number)?;
        if file.metadata()?.len() < octets {
            return Err(io::Error::other(format!("segment {number} is shorter than its {octets} octets")));
        }
        file.set_len(octets)?;
        self.open = Some(Open { number, file, end: octets });
        Ok(())
    }

    /// Number of the open segment.
    pub fn number(&self) -> Option<u32> {
        self.open.as_ref().map(|open| open.number)
    }

    /// The open segment's file and valid length.
    pub fn file(&self) -> Option<(u32, Arc<File>, u64)> {
        self.open.as_ref().map(|open| (open.number, open.file.clone(), open.end))
    }

    /// Writes records one behind the other; gives segment and offset of each. On failure nothing was appended.
    pub fn append(&mut self, records: &[&[u8]]) -> io::Result<(u32, Vec<u64>)> {
        let open = self.open_for_more()?;
        let mut offsets = Vec::with_capacity(records.len());
        let mut position = open.end;
        for record in records {
            offsets.push(position);
            position += record.len() as u64;
        }
        match write_gathered(&open.file, open.end, records) {
            Ok(()) => {
                open.end = position;
                Ok((open.number, offsets))
            }
            Err(error) => {
                // A full disk must not fill further with halves.
                if open.file.set_len(open.end).is_err() {
                    self.abandon();
                }
                Err(error)
            }
        }
    }

    /// Takes back an append that no row can ever refer to, since its transaction never came to its end.
    pub fn take_back(&mut self, end: u64) {
        if let Some(open) = &mut self.open {
            if open.file.set_len(end).is_ok() {
                open.end = end;
            } else {
                self.abandon();
            }
        }
    }

    /// Leaves the open segment for good: after a failed sync nobody knows what of it is on the disk.
    pub fn abandon(&mut self) {
        self.open = None;
    }

    fn open_for_more(&mut self) -> io::Result<&mut Open> {
        if self.open.as_ref().is_some_and(|open| open.end >= self.octets_max) {
            self.open = None;
        }
        match self.open {
            Some(ref mut open) => Ok(open),
            None => {
                let (number, file) = self.segments.create()?;
                // The name is durable before any row mentions it.
                if let Err(error) = self.segments.sync_folder() {
                    let _ = self.segments.unlink(number);
                    return Err(error);
                }
                Ok(self.open.insert(Open { number, file, end: 0 }))
            }
        }
    }
}

fn write_gathered(file: &File, mut position: u64, records: &[&[u8]]) -> io::Result<()> {
    let mut gathered: Vec<u8> = Vec::new();
    for record in records {
        if gathered.len() + record.len() > GATHER_OCTETS_MAX {
            file.write_all_at(&gathered, position)?;
            position += gathered.len() as u64;
            gathered.clear();
        }
        if record.len() > GATHER_OCTETS_MAX {
            file.write_all_at(record, position)?;
            position += record.len() as u64;
        } else {
            gathered.extend_from_slice(record);
        }
    }
    file.write_all_at(&gathered, position)
}

/// A thread that does nothing but sync one file at a time.
pub struct Syncer {
    ask: Sender<Arc<File>>,
    done: Receiver<io::Result<()>>,
    under_way: bool,
}

impl Syncer {
    /// Starts the thread. It ends with the syncer.
    pub fn start() -> io::Result<Syncer> {
        let (ask, asked) = channel::<Arc<File>>();
        let (answer, done) = channel();
        std::thread::Builder::new().name("store-sync".into()).spawn(move || {
            while let Ok(file) = asked.recv() {
                if answer.send(file.sync_data()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Syncer { ask, done, under_way: false })
    }

    /// Begins to sync a file. At most one at a time: `wait` comes before the next.
    pub fn begin(&mut self, file: Arc<File>) -> io::Result<()> {
        self.ask.send(file).map_err(|_| gone())?;
        self.under_way = true;
        Ok(())
    }

    /// Waits until what was begun is durable.
    pub fn wait(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.under_way) {
            return Ok(());
        }
        self.done.recv().map_err(|_| gone())?
    }
}

fn gone() -> io::Error {
    io::Error::other("the sync thread is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_lie_one_behind_the_other_and_segments_turn_over() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Arc::new(Segments::open(folder.path(), 0, true).unwrap());
        let mut tail = Tail::new(segments.clone(), 100_000);
        let small = [1; 100];
        let large = [2; GATHER_OCTETS_MAX + 1];
        let (number, offsets) = tail.append(&[&small, &large, &small, &small]).unwrap();
        assert_eq!((number, offsets), (1, vec![0, 100, 65_637, 65_737]));
        assert_eq!(tail.append(&[&large]).unwrap(), (1, vec![65_837]));
        assert_eq!(tail.append(&[&small]).unwrap(), (2, vec![0]));
        tail.take_back(0);
        assert_eq!(tail.append(&[&small]).unwrap(), (2, vec![0]));
        let mut octets = vec![0; 65_937];
        segments.get(1).unwrap().read_exact_at(&mut octets, 0).unwrap();
        assert!(octets[..100] == small && octets[100..65_637] == large && octets[65_637..65_737] == small);
    }

    #[test]
    fn a_torn_tail_is_cut_and_a_short_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let segments = Arc::new(Segments::open(folder.path(), 0, false).unwrap());
        let mut tail = Tail::new(segments.clone(), 1_000);
        tail.append(&[&[1; 10], &[2; 10]]).unwrap();
        let mut again = Tail::new(segments.clone(), 1_000);
        again.resume(1, 10).unwrap();
        assert_eq!(std::fs::metadata(segments.path(1)).unwrap().len(), 10);
        assert!(Tail::new(segments, 1_000).resume(1, 11).is_err());
    }
}
