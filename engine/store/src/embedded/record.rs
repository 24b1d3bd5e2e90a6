//! The record: one message's octets as they lie in a segment. Octets only; no files' life, no database.
//!
//! ```text
//! header   64 octets, see `Header::encode`
//! blocks   each at most 64 KiB before compression, zstd or plain, whichever is smaller
//! table    12 octets for each block: stored length and plain mark, raw length, checksum
//! ```
//!
//! The blocks of the prefix, which is known last, may lie behind those of the body although they are read first. A
//! range is read by decompressing the blocks it touches and no others.

use mail::BlobId;
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// First octets of every record.
pub const MAGIC: [u8; 4] = *b"PBR1";
/// Octets of a record's header.
pub const HEADER_OCTETS: usize = 64;
/// Most octets of a block before compression. A range read decompresses at most two blocks beyond what it wants.
pub const BLOCK_OCTETS: usize = 64 * 1024;
/// Octets of a block's entry in the table.
pub const ENTRY_OCTETS: usize = 12;
/// Level 1 costs a third of level 3 and loses a few per cent on mail.
const ZSTD_LEVEL: i32 = 1;
/// Records up to this size are read in one go, larger ones block by block.
const WHOLE_READ_OCTETS_MAX: u64 = 256 * 1024;
/// Marks a block stored as it is.
const PLAIN: u32 = 1 << 31;

/// What a record's header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose octets these are.
    pub blob: BlobId,
    /// Number of blocks.
    pub blocks: u32,
    /// How many of the last blocks are read first.
    pub prefix_blocks: u32,
    /// Checksum of the table.
    pub table_checksum: u32,
    /// Octets of the message.
    pub raw_octets: u64,
    /// Octets of the whole record, header and table included.
    pub stored_octets: u64,
    /// BLAKE3 of the raw octets in the order in which the blocks lie, cut to 128 bits.
    pub hash: [u8; 16],
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the segment.
    pub segment: u32,
    /// First octet of the record in it.
    pub offset: u64,
    /// Octets of the record.
    pub stored_octets: u64,
    /// Octets of the message.
    pub raw_octets: u64,
}

/// Why a record could not be read.
#[derive(Debug)]
pub enum RecordError {
    /// The file could not be read.
    Io(io::Error),
    /// What was read is not what was written.
    Damaged(&'static str),
}

impl From<io::Error> for RecordError {
    fn from(error: io::Error) -> RecordError {
        // A file that ends inside a record has lost octets; that is damage, not a failing disk.
        match error.kind() {
            io::ErrorKind::UnexpectedEof => RecordError::Damaged("the segment ends inside the record"),
            _ => RecordError::Io(error),
        }
    }
}

/// Reads `octets` octets from `start` of the message at `place`, fewer where it ends before. Verifies every checksum
/// it passes.
pub fn read_range(
    file: &File,
    place: Place,
    blob: BlobId,
    start: u64,
    octets: u64,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let end = start.saturating_add(octets).min(place.raw_octets);
    if start >= end {
        return Ok(());
    }
    let record = Record::open(file, place, blob)?;
    out.reserve(usize::try_from(end - start).unwrap_or(0));
    let mut logical = 0u64;
    for (block, position) in record.reading_order() {
        let block_end = logical + u64::from(block.raw_octets);
        if logical >= end {
            break;
        }
        if block_end > start {
            let from = start.saturating_sub(logical) as usize;
            let to = (end.min(block_end) - logical) as usize;
            record.read_block(file, block, position, |raw| out.extend_from_slice(&raw[from..to]))?;
        }
        logical = block_end;
    }
    Ok(())
}

/// Reads a whole record and checks all that can be checked, the hash included.
pub fn verify(file: &File, place: Place, blob: BlobId) -> Result<Header, RecordError> {
    let record = Record::open(file, place, blob)?;
    let mut hasher = blake3::Hasher::new();
    for (block, position) in record.blocks.iter().zip(record.positions()) {
        record.read_block(file, block, position, |raw| {
            hasher.update(raw);
        })?;
    }
    if short_hash(&hasher) != record.header.hash {
        return Err(RecordError::Damaged("the hash of the octets differs"));
    }
    Ok(record.header)
}

/// One entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    stored_octets: u32,
    plain: bool,
    raw_octets: u32,
    checksum: u32,
}

/// A record whose header and table are read and sound.
struct Record {
    header: Header,
    blocks: Vec<Block>,
    place: Place,
    /// The whole record, where it was read in one go.
    whole: Option<Vec<u8>>,
}

impl Record {
    fn open(file: &File, place: Place, blob: BlobId) -> Result<Record, RecordError> {
        let whole = match place.stored_octets {
            0..=WHOLE_READ_OCTETS_MAX => {
                let mut whole = vec![0; place.stored_octets as usize];
                file.read_exact_at(&mut whole, place.offset)?;
                Some(whole)
            }
            _ => None,
        };
        let header = match &whole {
            Some(whole) => Header::decode(whole)?,
            None => {
                let mut octets = [0; HEADER_OCTETS];
                file.read_exact_at(&mut octets, place.offset)?;
                Header::decode(&octets)?
            }
        };
        if header.blob != blob {
            return Err(RecordError::Damaged("the record belongs to another message"));
        }
        if header.stored_octets != place.stored_octets || header.raw_octets != place.raw_octets {
            return Err(RecordError::Damaged("the record's length differs from its row"));
        }
        let table_octets = header.table_octets().ok_or(RecordError::Damaged("impossible number of blocks"))?;
        let table_start = header.stored_octets - table_octets;
        let blocks = match &whole {
            Some(whole) => header.decode_table(&whole[table_start as usize..])?,
            None => {
                let mut table = vec![0; table_octets as usize];
                file.read_exact_at(&mut table, place.offset + table_start)?;
                header.decode_table(&table)?
            }
        };
        Ok(Record { header, blocks, place, whole })
    }

    /// Offset of each block within the record, in the order in which they lie.
    fn positions(&self) -> impl Iterator<Item = u64> + '_ {
        self.blocks.iter().scan(HEADER_OCTETS as u64, |next, block| {
            let position = *next;
            *next += u64::from(block.stored_octets);
            Some(position)
        })
    }

    /// The blocks in the order in which they are read, each with its offset within the record.
    fn reading_order(&self) -> impl Iterator<Item = (&Block, u64)> + '_ {
        let body_blocks = self.blocks.len() - self.header.prefix_blocks as usize;
        let all = || self.blocks.iter().zip(self.positions());
        all().skip(body_blocks).chain(all().take(body_blocks))
    }

    fn read_block(
        &self,
        file: &File,
        block: &Block,
        position: u64,
        take: impl FnOnce(&[u8]),
    ) -> Result<(), RecordError> {
        let stored_octets = block.stored_octets as usize;
        match &self.whole {
            Some(whole) => open_block(block, &whole[position as usize..position as usize + stored_octets], take),
            None => {
                let mut stored = vec![0; stored_octets];
                file.read_exact_at(&mut stored, self.place.offset + position)?;
                open_block(block, &stored, take)
            }
        }
    }
}

thread_local! {
    /// Contexts are costly to make and cheap to use again.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<(zstd::bulk::Decompressor<'static>, Vec<u8>)>> = const { RefCell::new(None) };
}

fn open_block(block: &Block, stored: &[u8], take: impl FnOnce(&[u8])) -> Result<(), RecordError> {
    if crc32fast::hash(stored) != block.checksum {
        return Err(RecordError::Damaged("the checksum of a block differs"));
    }
    if block.plain {
        take(stored);
        return Ok(());
    }
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let (decompressor, raw) = match slot {
            Some(context) => context,
            None => slot.insert((zstd::bulk::Decompressor::new()?, vec![0; BLOCK_OCTETS])),
        };
        match decompressor.decompress_to_buffer(stored, raw.as_mut_slice()) {
            Ok(octets) if octets == block.raw_octets as usize => take(&raw[..octets]),
            _ => return Err(RecordError::Damaged("a block does not decompress")),
        }
        Ok(())
    })
}

impl Header {
    /// The octets of the header.
    pub fn encode(&self) -> [u8; HEADER_OCTETS] {
        let mut octets = [0; HEADER_OCTETS];
        octets[0..4].copy_from_slice(&MAGIC);
        octets[4..8].copy_from_slice(&self.blocks.to_le_bytes());
        octets[8..12].copy_from_slice(&self.prefix_blocks.to_le_bytes());
        octets[12..16].copy_from_slice(&self.table_checksum.to_le_bytes());
        octets[16..24].copy_from_slice(&self.blob.0.to_le_bytes());
        octets[24..32].copy_from_slice(&self.raw_octets.to_le_bytes());
        octets[32..40].copy_from_slice(&self.stored_octets.to_le_bytes());
        octets[40..56].copy_from_slice(&self.hash);
        let checksum = crc32fast::hash(&octets[..60]);
        octets[60..64].copy_from_slice(&checksum.to_le_bytes());
        octets
    }

    /// Reads a header at the beginning of `octets`.
    pub fn decode(octets: &[u8]) -> Result<Header, RecordError> {
        let Some((octets, _)) = octets.split_first_chunk::<HEADER_OCTETS>() else {
            return Err(RecordError::Damaged("shorter than a header"));
        };
        if octets[..4] != MAGIC {
            return Err(RecordError::Damaged("no record begins here"));
        }
        if crc32fast::hash(&octets[..60]) != u32_at(octets, 60) {
            return Err(RecordError::Damaged("the checksum of the header differs"));
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&octets[40..56]);
        Ok(Header {
            blocks: u32_at(octets, 4),
            prefix_blocks: u32_at(octets, 8),
            table_checksum: u32_at(octets, 12),
            blob: BlobId(u64_at(octets, 16)),
            raw_octets: u64_at(octets, 24),
            stored_octets: u64_at(octets, 32),
            hash,
        })
    }

    /// Octets of the table; `None` if it would not fit into the record.
    fn table_octets(&self) -> Option<u64> {
        let table = u64::from(self.blocks) * ENTRY_OCTETS as u64;
        (table + HEADER_OCTETS as u64 <= self.stored_octets && self.prefix_blocks <= self.blocks).then_some(table)
    }

    fn decode_table(&self, table: &[u8]) -> Result<Vec<Block>, RecordError> {
        if crc32fast::hash(table) != self.table_checksum {
            return Err(RecordError::Damaged("the checksum of the table differs"));
        }
        let (entries, _) = table.as_chunks::<ENTRY_OCTETS>();
        let blocks: Vec<Block> = entries.iter().map(Block::decode).collect();
        let stored: u64 = blocks.iter().map(|block| u64::from(block.stored_octets)).sum();
        let raw: u64 = blocks.iter().map(|block| u64::from(block.raw_octets)).sum();
        let sound = stored + (table.len() + HEADER_OCTETS) as u64 == self.stored_octets
            && raw == self.raw_octets
            && blocks.iter().all(|block| block.raw_octets as usize <= BLOCK_OCTETS)
            && blocks.iter().all(|block| !block.plain || block.raw_octets == block.stored_octets);
        if sound { Ok(blocks) } else { Err(RecordError::Damaged("the table contradicts the header")) }
    }
}

impl Block {
    fn encode(&self) -> [u8; ENTRY_OCTETS] {
        let mut octets = [0; ENTRY_OCTETS];
        let mark = if self.plain { PLAIN } else { 0 };
        octets[0..4].copy_from_slice(&(self.stored_octets | mark).to_le_bytes());
        octets[4..8].copy_from_slice(&self.raw_octets.to_le_bytes());
        octets[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        octets
    }

    fn decode(octets: &[u8; ENTRY_OCTETS]) -> Block {
        let stored = u32_at(octets, 0);
        Block {
            stored_octets: stored & !PLAIN,
            plain: stored & PLAIN != 0,
            raw_octets: u32_at(octets, 4),
            checksum: u32_at(octets, 8),
        }
    }
}

fn u32_at(octets: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&octets[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(octets: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&octets[at..at + 8]);
    u64::from_le_bytes(number)
}

fn short_hash(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

/// Makes a record out of octets as they come. What it makes goes to the caller's `out` at once, so that its own memory
/// stays below one block. The caller leaves room for the header in front.
pub struct Encoder {
    /// Raw octets of the block that is not full yet.
    pending: Vec<u8>,
    blocks: Vec<Block>,
    hasher: blake3::Hasher,
    raw_octets: u64,
    stored_octets: u64,
}

impl Encoder {
    /// An encoder that has seen nothing.
    pub fn new() -> Encoder {
        Encoder {
            pending: Vec::new(),
            blocks: Vec::new(),
            hasher: blake3::Hasher::new(),
            raw_octets: 0,
            stored_octets: HEADER_OCTETS as u64,
        }
    }

    /// Octets of the message so far.
    pub fn raw_octets(&self) -> u64 {
        self.raw_octets + self.pending.len() as u64
    }

    /// Takes octets of the body; appends finished blocks to `out`.
    pub fn write(&mut self, mut octets: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        while !octets.is_empty() {
            let room = BLOCK_OCTETS - self.pending.len();
            let (now, later) = octets.split_at(room.min(octets.len()));
            self.pending.extend_from_slice(now);
            octets = later;
            if self.pending.len() == BLOCK_OCTETS {
                self.end_block(out)?;
            }
        }
        Ok(())
    }

    /// Ends the record; appends the last blocks and the table to `out` and gives the header that belongs in front.
    pub fn finish(mut self, blob: BlobId, prefix: &[u8], out: &mut Vec<u8>) -> io::Result<Header> {
        let mut prefix_blocks = 0;
        if self.blocks.is_empty() && prefix.len() + self.pending.len() <= BLOCK_OCTETS {
            // The usual message: one block, in reading order.
            self.pending.splice(0..0, prefix.iter().copied());
            self.end_block(out)?;
        } else {
            self.end_block(out)?;
            let body_blocks = self.blocks.len();
            self.write(prefix, out)?;
            self.end_block(out)?;
            prefix_blocks = self.blocks.len() - body_blocks;
        }
        let table_start = out.len();
        for block in &self.blocks {
            out.extend_from_slice(&block.encode());
        }
        Ok(Header {
            blob,
            blocks: u32::try_from(self.blocks.len()).map_err(io::Error::other)?,
            prefix_blocks: prefix_blocks as u32,
            table_checksum: crc32fast::hash(&out[table_start..]),
            raw_octets: self.raw_octets,
            stored_octets: self.stored_octets + (self.blocks.len() * ENTRY_OCTETS) as u64,
            hash: short_hash(&self.hasher),
        })
    }

    fn end_block(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let raw = &self.pending;
        if raw.is_empty() {
            return Ok(());
        }
        self.hasher.update(raw);
        let start = out.len();
        let plain = !compress(raw, out)?;
        if plain {
            out.truncate(start);
            out.extend_from_slice(raw);
        }
        let stored = &out[start..];
        self.blocks.push(Block {
            stored_octets: stored.len() as u32,
            plain,
            raw_octets: raw.len() as u32,
            checksum: crc32fast::hash(stored),
        });
        self.raw_octets += raw.len() as u64;
        self.stored_octets += stored.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

/// Appends `raw`, compressed. `false` if it would not shrink; then what was appended is to be thrown away.
fn compress(raw: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        let start = out.len();
        out.resize(start + raw.len(), 0);
        // The room is as large as the input: what does not fit does not shrink.
        match compressor.compress_to_buffer(raw, &mut out[start..]) {
            Ok(octets) if octets < raw.len() => {
                out.truncate(start + octets);
                Ok(true)
            }
            _ => Ok(false),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(octets: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u8
        };
        (0..octets).map(|_| next()).collect()
    }

    fn text(octets: usize) -> Vec<u8> {
        b"It was a bright cold day in April.\r\n".iter().copied().cycle().take(octets).collect()
    }

    fn encode(body: &[u8], prefix: &[u8], step: usize) -> (Vec<u8>, Header) {
        let mut encoder = Encoder::new();
        let mut out = vec![0; HEADER_OCTETS];
        for part in body.chunks(step.max(1)) {
            encoder.write(part, &mut out).unwrap();
        }
        let header = encoder.finish(BlobId(7), prefix, &mut out).unwrap();
        out[..HEADER_OCTETS].copy_from_slice(&header.encode());
        assert_eq!(out.len() as u64, header.stored_octets);
        (out, header)
    }

    fn file_of(octets: &[u8], offset: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(octets, offset).unwrap();
        file
    }

    fn place(header: &Header, offset: u64) -> Place {
        Place { segment: 1, offset, stored_octets: header.stored_octets, raw_octets: header.raw_octets }
    }

    #[test]
    fn every_range_around_every_border_reads_back() {
        let b = BLOCK_OCTETS;
        for (body, prefix) in [
            (text(0), text(0)),
            (text(1), text(0)),
            (text(4_000), b"Received: here\r\n".to_vec()),
            (text(b - 10), text(10)),
            (text(b - 10), text(11)),
            (text(b), text(1)),
            (noise(b + 1, 3), noise(b + 5, 4)),
            (noise(5 * b + 77, 5), text(200)),
            (text(20 * b), noise(300, 6)),
        ] {
            let (record, header) = encode(&body, &prefix, 10_007);
            let whole: Vec<u8> = prefix.iter().chain(&body).copied().collect();
            let (file, place) = (file_of(&record, 1_000), place(&header, 1_000));
            assert_eq!(verify(&file, place, BlobId(7)).unwrap(), header);
            let mut cuts = vec![0, 1, prefix.len(), whole.len(), whole.len() + 5];
            for n in 0..=whole.len() / b + 1 {
                cuts.extend([n * b, n * b + 1, (n * b).saturating_sub(1), n * b + prefix.len()]);
            }
            for &start in &cuts {
                for octets in [0, 1, 2, b - 1, b, b + 1, whole.len(), usize::MAX] {
                    let mut out = Vec::new();
                    read_range(&file, place, BlobId(7), start as u64, octets as u64, &mut out).unwrap();
                    let start = start.min(whole.len());
                    let end = start.saturating_add(octets).min(whole.len());
                    assert!(out == whole[start..end], "{start}+{octets} of {}", whole.len());
                }
            }
        }
    }

    #[test]
    fn how_octets_are_split_over_writes_changes_nothing() {
        let body = noise(200_000, 9);
        let expected = encode(&body, b"prefix", 200_000).0;
        for step in [1, 17, BLOCK_OCTETS - 1, BLOCK_OCTETS, BLOCK_OCTETS + 1] {
            assert!(encode(&body, b"prefix", step).0 == expected);
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        for body in [text(9_000), noise(3_000, 1)] {
            let (record, header) = encode(&body, b"Received: here\r\n", 999);
            for at in (0..record.len()).step_by(if cfg!(debug_assertions) { 7 } else { 1 }) {
                let mut damaged = record.clone();
                damaged[at] ^= 1 << (at % 8);
                let file = file_of(&damaged, 0);
                let read = read_range(&file, place(&header, 0), BlobId(7), 0, u64::MAX, &mut Vec::new());
                assert!(matches!(read, Err(RecordError::Damaged(_))), "octet {at}");
            }
            let file = file_of(&record[..record.len() - 1], 0);
            assert!(matches!(verify(&file, place(&header, 0), BlobId(7)), Err(RecordError::Damaged(_))));
        }
    }

    #[test]
    fn a_record_is_read_only_under_its_own_name() {
        let (record, header) = encode(&text(100), b"", 10);
        let read = read_range(&file_of(&record, 0), place(&header, 0), BlobId(8), 0, 9, &mut Vec::new());
        assert!(matches!(read, Err(RecordError::Damaged(_))));
    }

    /// The format on disk must not change by accident: a record of one plain block, octet by octet.
    #[test]
    fn the_format_stays_as_it_is() {
        let (record, _) = encode(b"ab", b"c", 9);
        let hex: String = record.iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(
            hex,
            "504252310100000000000000fbbdbdc207000000000000000300000000000000\
             4f000000000000001e953560084de987c9ceb0364576e72800000000e87bd7eb\
             6361620300008003000000f9f68a6a"
        );
    }
}
