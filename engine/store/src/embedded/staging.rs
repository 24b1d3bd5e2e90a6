//! Message octets on their way in: compressed as they come, in memory while they are few, in a segment of their own
//! beyond that. Nothing here is durable; the commit that takes a body up makes it so.

use super::disk_error;
use super::record::{Encoder, HEADER_OCTETS};
use super::segments::Segments;
use crate::{BodyWriter, StagedBody, StoreError};
use mail::{BlobId, BodyId};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Longest message in octets: its size is a 32-bit number wherever it is told (RFC 9051 §9, number).
pub const MESSAGE_OCTETS_MAX: u64 = u32::MAX as u64;

/// All bodies that wait for a commit.
pub struct Staging {
    segments: Arc<Segments>,
    bodies: Mutex<HashMap<BodyId, Arc<Staged>>>,
    next_blob: AtomicU64,
    memory: Arc<Memory>,
    spill_octets: usize,
}

/// A body that waits for a commit.
pub struct Staged {
    /// What the blob will be called.
    pub blob: BlobId,
    /// Octets of the message.
    pub raw_octets: u64,
    /// Octets of the record.
    pub stored_octets: u64,
    /// The record's hash.
    pub hash: [u8; 16],
    /// What reading asks often.
    pub digest: Vec<u8>,
    /// The record.
    pub record: StagedRecord,
    /// Whether a commit took it up. Only the writer's thread looks at it.
    pub taken: AtomicBool,
}

/// Where a staged record is.
pub enum StagedRecord {
    /// Whole, ready to be appended.
    Memory {
        /// Its octets.
        octets: Vec<u8>,
        /// Gives the memory back to the others when dropped.
        _reservation: Reservation,
    },
    /// In a segment of its own, at its beginning.
    File(SpillFile),
}

impl Staging {
    /// Begins with nothing staged. New blobs are numbered from `next_blob`.
    pub fn new(segments: Arc<Segments>, next_blob: u64, spill_octets: usize, memory_octets_max: u64) -> Staging {
        let memory = Memory { used: AtomicU64::new(0), octets_max: memory_octets_max };
        Staging {
            segments,
            bodies: Mutex::new(HashMap::new()),
            next_blob: AtomicU64::new(next_blob),
            memory: Arc::new(memory),
            spill_octets,
        }
    }

    /// Begins a message.
    pub fn begin(self: &Arc<Self>) -> Box<dyn BodyWriter> {
        Box::new(Writer {
            staging: self.clone(),
            encoder: Some(Encoder::new()),
            out: vec![0; HEADER_OCTETS],
            place: Intake::Memory(Reservation { memory: self.memory.clone(), octets: 0 }),
        })
    }

    /// A staged body, if it still is.
    pub fn get(&self, id: BodyId) -> Option<Arc<Staged>> {
        self.lock().get(&id).cloned()
    }

    /// No blob from this number on was ever made.
    pub fn next_blob(&self) -> u64 {
        self.next_blob.load(Ordering::Relaxed)
    }

    /// Octets of memory that staged bodies hold.
    pub fn memory_octets(&self) -> u64 {
        self.memory.used.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BodyId, Arc<Staged>>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes one message in.
struct Writer {
    staging: Arc<Staging>,
    /// `None` once a write failed.
    encoder: Option<Encoder>,
    /// Finished blocks that are not in the file; in memory, the whole record so far.
    out: Vec<u8>,
    place: Intake,
}

enum Intake {
    Memory(Reservation),
    File { spill: SpillFile, position: u64 },
}

impl BodyWriter for Writer {
    fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        let mut encoder = self.encoder.take().ok_or_else(|| StoreError::Disk("an earlier write failed".into()))?;
        if encoder.raw_octets() + octets.len() as u64 > MESSAGE_OCTETS_MAX {
            return Err(StoreError::Full);
        }
        let fits = match &mut self.place {
            Intake::Memory(reservation) => {
                self.out.len() + octets.len() <= self.staging.spill_octets && reservation.grow(octets.len())
            }
            Intake::File { .. } => true,
        };
        if !fits {
            self.spill()?;
        }
        encoder.write(octets, &mut self.out).map_err(disk_error)?;
        self.drain()?;
        self.encoder = Some(encoder);
        Ok(())
    }

    fn finish(mut self: Box<Self>, prefix: &[u8], digest: Vec<u8>) -> Result<StagedBody, StoreError> {
        let encoder = self.encoder.take().ok_or_else(|| StoreError::Disk("an earlier write failed".into()))?;
        if encoder.raw_octets() + prefix.len() as u64 > MESSAGE_OCTETS_MAX {
            return Err(StoreError::Full);
        }
        let blob = BlobId(self.staging.next_blob.fetch_add(1, Ordering::Relaxed));
        let header = encoder.finish(blob, prefix, &mut self.out).map_err(disk_error)?;
        self.drain()?;
        let record = match self.place {
            Intake::Memory(reservation) => {
                self.out[..HEADER_OCTETS].copy_from_slice(&header.encode());
                StagedRecord::Memory { octets: self.out, _reservation: reservation }
            }
            Intake::File { spill, .. } => {
                spill.file.write_all_at(&header.encode(), 0).map_err(disk_error)?;
                StagedRecord::File(spill)
            }
        };
        let staged = Staged {
            blob,
            raw_octets: header.raw_octets,
            stored_octets: header.stored_octets,
            hash: header.hash,
            digest,
            record,
            taken: AtomicBool::new(false),
        };
        // A body and the blob it becomes have one number.
        let id = BodyId(blob.0);
        self.staging.lock().insert(id, Arc::new(staged));
        Ok(StagedBody { id, octets: header.raw_octets, guard: Box::new(Guard { staging: self.staging, id }) })
    }
}

impl Writer {
    /// Goes over from memory to a file. What `out` holds follows with the next `drain`.
    fn spill(&mut self) -> Result<(), StoreError> {
        let (number, file) = self.staging.segments.create().map_err(disk_error)?;
        let spill = SpillFile { segments: self.staging.segments.clone(), number, file, kept: AtomicBool::new(false) };
        self.place = Intake::File { spill, position: 0 };
        Ok(())
    }

    fn drain(&mut self) -> Result<(), StoreError> {
        if let Intake::File { spill, position } = &mut self.place {
            spill.file.write_all_at(&self.out, *position).map_err(disk_error)?;
            *position += self.out.len() as u64;
            self.out.clear();
        }
        Ok(())
    }
}

/// Throws the body away when who staged it does.
struct Guard {
    staging: Arc<Staging>,
    id: BodyId,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Dropped outside the lock: the last owner may have a file to unlink.
        let staged = self.staging.lock().remove(&self.id);
        drop(staged);
    }
}

/// A segment that holds one record and is unlinked unless a commit keeps it.
pub struct SpillFile {
    segments: Arc<Segments>,
    /// The segment's number.
    pub number: u32,
    file: Arc<File>,
    /// Set by the commit that takes the body up.
    pub kept: AtomicBool,
}

impl SpillFile {
    /// Makes octets and name durable. Blocks.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.segments.sync_file(&self.file).and_then(|()| self.segments.sync_folder()).map_err(disk_error)
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Acquire)
            && let Err(error) = self.segments.unlink(self.number)
        {
            tracing::warn!(segment = self.number, %error, "staged segment not removed; the next start removes it");
        }
    }
}

/// The memory that all staged bodies share.
struct Memory {
    used: AtomicU64,
    octets_max: u64,
}

/// A part of that memory, given back when dropped.
pub struct Reservation {
    memory: Arc<Memory>,
    octets: u64,
}

impl Reservation {
    fn grow(&mut self, octets: usize) -> bool {
        let octets = octets as u64;
        let before = self.memory.used.fetch_add(octets, Ordering::Relaxed);
        if before + octets > self.memory.octets_max {
            self.memory.used.fetch_sub(octets, Ordering::Relaxed);
            return false;
        }
        self.octets += octets;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staging(folder: &std::path::Path, spill: usize, memory: u64) -> Arc<Staging> {
        let segments = Arc::new(Segments::open(folder, 0, false).unwrap());
        Arc::new(Staging::new(segments, 1, spill, memory))
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let staging = staging(folder.path(), 100_000, 150_000);
        let mut bodies = Vec::new();
        for octets in [90_000, 90_000, 50_000, 200_000] {
            let mut writer = staging.begin();
            for part in vec![b'x'; octets].chunks(9_999) {
                writer.write(part).unwrap();
                assert!(staging.memory_octets() <= 150_000);
            }
            bodies.push(writer.finish(b"prefix", Vec::new()).unwrap());
        }
        let in_memory =
            |body: &StagedBody| matches!(&staging.get(body.id).unwrap().record, StagedRecord::Memory { .. });
        assert_eq!(bodies.iter().map(in_memory).collect::<Vec<_>>(), [true, false, true, false]);
        assert_eq!(staging.segments.list().unwrap().len(), 2);
        drop(bodies);
        assert_eq!(staging.memory_octets(), 0);
        assert_eq!(staging.segments.list().unwrap().len(), 0);
    }

    #[test]
    fn a_dropped_writer_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let staging = staging(folder.path(), 10, 1_000);
        let mut writer = staging.begin();
        writer.write(&[7; 100_000]).unwrap();
        drop(writer);
        assert_eq!((staging.memory_octets(), staging.segments.list().unwrap().len()), (0, 0));
    }
}
