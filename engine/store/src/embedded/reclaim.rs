//! Getting room back: messages of deleted mailboxes, blobs that no message refers to, segments that are mostly dead.
//!
//! All changes of rows go through the writer, a bounded number at a time, so that no commit waits long. Octets are
//! copied by the caller's own thread.

use super::apply;
use super::record::{self, Place};
use super::tables::{self, BLOB_FLOOR};
use super::upkeep::Desk;
use super::{Shared, disk_error, now_seconds};
use crate::StoreError;
use mail::{BlobId, MailboxId};
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Rows that the writer changes in one go.
const ROWS_PER_STEP: usize = 500;
/// Runs of expunged UIDs kept for each mailbox.
const EXPUNGED_RUNS_KEPT: i64 = 4_096;

/// What a pass achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimed {
    /// Messages of deleted mailboxes and accounts that were cleared away.
    pub messages: u64,
    /// Blobs that were forgotten.
    pub blobs: u64,
    /// Segments that were removed.
    pub segments: u64,
    /// Octets that the segments' files became smaller by.
    pub octets: u64,
}

/// One pass over everything. Blobs stay at least `dead_after` beyond their last message, for those who still look at a
/// picture with it.
pub fn pass(shared: &Shared, desk: &Desk, dead_after: Duration) -> Result<Reclaimed, StoreError> {
    // One at a time: two would copy the same segment. What the mutex guards cannot be left half done.
    let _alone = shared.reclaiming.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut reclaimed = Reclaimed::default();
    let clear = || desk.run(|writer| writer.transaction(|connection, _| clear_doomed(connection)));
    while let Some(messages) = clear()? {
        reclaimed.messages += messages;
    }
    let before = now_seconds().saturating_sub(u32::try_from(dead_after.as_secs()).unwrap_or(u32::MAX));
    loop {
        let buried = bury(shared, desk, before)?;
        reclaimed.blobs += buried as u64;
        if buried < ROWS_PER_STEP {
            break;
        }
    }
    for candidate in candidates(shared)? {
        match rewrite(shared, desk, candidate) {
            Ok(Some(octets)) => {
                reclaimed.segments += 1;
                reclaimed.octets += octets;
            }
            Ok(None) => {}
            // A damaged segment stays as it is, as evidence and for salvage.
            Err(StoreError::Damaged(cause)) => {
                tracing::error!(segment = candidate.number, %cause, "segment not rewritten");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(reclaimed)
}

/// Clears some messages of one deleted mailbox away. `None`: there is nothing left to clear.
fn clear_doomed(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let mut statement = connection.prepare_cached("SELECT mailbox FROM doomed LIMIT 1")?;
    let Some(mailbox) = statement.query_row([], |row| row.get(0).map(MailboxId)).optional()? else {
        return Ok(None);
    };
    let mut statement =
        connection.prepare_cached("SELECT uid, blob FROM message WHERE mailbox = ?1 ORDER BY uid LIMIT ?2")?;
    let rows = statement.query_map((mailbox.0, ROWS_PER_STEP), |row| Ok((row.get(0)?, BlobId(row.get(1)?))))?;
    let messages = rows.collect::<rusqlite::Result<Vec<(u32, BlobId)>>>()?;
    let Some((last, _)) = messages.last() else {
        for table in ["keyword", "expunged", "doomed"] {
            connection.execute(&format!("DELETE FROM {table} WHERE mailbox = ?1"), [mailbox.0])?;
        }
        return Ok(Some(0));
    };
    connection.execute("DELETE FROM message WHERE mailbox = ?1 AND uid <= ?2", (mailbox.0, last))?;
    let (now, mut live) = (now_seconds(), BTreeMap::new());
    for (_, blob) in &messages {
        apply::refer(connection, *blob, -1, now, &mut live)?;
    }
    live.into_iter().try_for_each(|(segment, change)| apply::change_live(connection, segment, change))?;
    Ok(Some(messages.len() as u64))
}

/// Forgets the oldest expunges of mailboxes that have very many. Walks over all that are kept.
pub fn trim_expunged(shared: &Shared, desk: &Desk) -> Result<(), StoreError> {
    let long = shared.readers.read(|connection| {
        let mut statement = connection
            .prepare_cached("SELECT mailbox, count(*) FROM expunged GROUP BY mailbox HAVING count(*) > ?1")?;
        let rows = statement.query_map([EXPUNGED_RUNS_KEPT], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(u64, i64)>>>()
    })?;
    for (mailbox, runs) in long {
        let surplus = runs - EXPUNGED_RUNS_KEPT / 2;
        desk.run(move |writer| writer.transaction(|connection, _| forget_oldest(connection, mailbox, surplus)))?;
    }
    Ok(())
}

/// Forgets whole mod-sequences, the oldest first, some `surplus` runs of them.
fn forget_oldest(connection: &Connection, mailbox: u64, surplus: i64) -> rusqlite::Result<()> {
    let forgotten: Option<u64> = connection
        .query_row(
            "SELECT modseq FROM expunged WHERE mailbox = ?1 ORDER BY modseq, first LIMIT 1 OFFSET ?2",
            (mailbox, surplus - 1),
            |row| row.get(0),
        )
        .optional()?;
    let Some(forgotten) = forgotten else { return Ok(()) };
    connection.execute("DELETE FROM expunged WHERE mailbox = ?1 AND modseq <= ?2", (mailbox, forgotten))?;
    connection.execute("UPDATE mailbox SET forgotten = max(forgotten, ?2) WHERE id = ?1", (mailbox, forgotten))?;
    Ok(())
}

/// Forgets some blobs that are dead since before `before`.
fn bury(shared: &Shared, desk: &Desk, before: u32) -> Result<usize, StoreError> {
    // Nothing dead, the usual case, costs the writer nothing.
    let dead = shared.readers.read(|connection| {
        let mut statement = connection.prepare_cached("SELECT blob FROM dead WHERE since <= ?1 LIMIT ?2")?;
        let rows = statement.query_map((before, ROWS_PER_STEP), |row| row.get(0).map(BlobId))?;
        rows.collect::<rusqlite::Result<Vec<BlobId>>>()
    })?;
    if dead.is_empty() {
        return Ok(0);
    }
    let floor = shared.staging.next_blob();
    let blobs = dead.clone();
    desk.run(move |writer| {
        writer.transaction(|connection, _| {
            tables::raise_meta(connection, BLOB_FLOOR, floor as i64)?;
            let mut forget = connection.prepare_cached("DELETE FROM blob WHERE id = ?1 AND refs = 0")?;
            let mut done = connection.prepare_cached("DELETE FROM dead WHERE blob = ?1")?;
            for blob in &blobs {
                forget.execute([blob.0])?;
                done.execute([blob.0])?;
            }
            Ok(())
        })
    })?;
    shared.places.remove(dead.iter().copied());
    Ok(dead.len())
}

/// A segment of which more than half is dead.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    number: u32,
    octets: u64,
}

fn candidates(shared: &Shared) -> Result<Vec<Candidate>, StoreError> {
    // The newest segment still grows.
    let tail = shared.tail_segment.load(std::sync::atomic::Ordering::Relaxed);
    shared.readers.read(|connection| {
        let mut statement = connection.prepare_cached(
            "SELECT number, octets FROM segment WHERE live * 2 < octets AND number != ?1 ORDER BY number",
        )?;
        let rows = statement.query_map([tail], |row| Ok(Candidate { number: row.get(0)?, octets: row.get(1)? }))?;
        rows.collect()
    })
}

/// A record that moves.
type Move = (BlobId, Place, Place);

/// Copies what is left of a segment into a new one and removes it. Gives the octets won; `None` if it is not worth it
/// yet, since much of what is dead is kept for a while.
fn rewrite(shared: &Shared, desk: &Desk, candidate: Candidate) -> Result<Option<u64>, StoreError> {
    let rows = records_of(shared, candidate.number)?;
    let kept: u64 = rows.iter().map(|(_, place)| place.stored_octets).sum();
    if kept * 2 >= candidate.octets {
        return Ok(None);
    }
    let mut won = candidate.octets;
    if !rows.is_empty() {
        let (moves, end) = copy_records(shared, rows)?;
        won = won.saturating_sub(end);
        for step in moves.chunks(ROWS_PER_STEP) {
            let step = step.to_vec();
            let moved = step.clone();
            desk.run(move |writer| writer.transaction(|connection, _| move_rows(connection, &step, end)))?;
            shared.places.put(moved.into_iter().map(|(blob, _, new)| (blob, new)));
        }
    }
    let number = candidate.number;
    let emptied = desk.run(move |writer| writer.transaction(|connection, _| drop_segment(connection, number)))?;
    if emptied {
        // Who opened it reads on; who comes late finds the new place in the database.
        shared.segments.unlink(number).map_err(disk_error)?;
    }
    Ok(Some(won))
}

fn records_of(shared: &Shared, segment: u32) -> Result<Vec<(BlobId, Place)>, StoreError> {
    shared.readers.read(|connection| {
        let mut statement =
            connection.prepare_cached("SELECT id, offset, stored, raw FROM blob WHERE segment = ?1 ORDER BY offset")?;
        let rows = statement.query_map([segment], |row| {
            let place = Place { segment, offset: row.get(1)?, stored_octets: row.get(2)?, raw_octets: row.get(3)? };
            Ok((BlobId(row.get(0)?), place))
        })?;
        rows.collect()
    })
}

/// Copies records, verifying each, into a new segment, and syncs it. Gives their moves and the new segment's length.
fn copy_records(shared: &Shared, records: Vec<(BlobId, Place)>) -> Result<(Vec<Move>, u64), StoreError> {
    let (number, target) = shared.segments.create().map_err(disk_error)?;
    let attempt = || -> Result<(Vec<Move>, u64), StoreError> {
        let mut moves = Vec::with_capacity(records.len());
        let mut end = 0;
        for (blob, old) in &records {
            let source = shared.segments.get(old.segment).map_err(disk_error)?;
            record::verify(&source, *old, *blob).map_err(|error| shared.record_error(*blob, *old, error))?;
            copy_octets(&source, old.offset, &target, end, old.stored_octets).map_err(disk_error)?;
            moves.push((*blob, *old, Place { segment: number, offset: end, ..*old }));
            end += old.stored_octets;
        }
        shared.segments.sync_file(&target).map_err(disk_error)?;
        shared.segments.sync_folder().map_err(disk_error)?;
        Ok((moves, end))
    };
    let result = attempt();
    if result.is_err() {
        // No row mentions it yet.
        let _ = shared.segments.unlink(number);
    }
    result
}

fn copy_octets(
    source: &std::fs::File,
    mut from: u64,
    target: &std::fs::File,
    mut to: u64,
    mut octets: u64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; usize::try_from(octets.min(1 << 20)).unwrap_or(1 << 20)];
    while octets > 0 {
        let part = usize::try_from(octets).unwrap_or(usize::MAX).min(buffer.len());
        source.read_exact_at(&mut buffer[..part], from)?;
        target.write_all_at(&buffer[..part], to)?;
        from += part as u64;
        to += part as u64;
        octets -= part as u64;
    }
    Ok(())
}

/// Points rows at the copies, unless the blob is gone meanwhile.
fn move_rows(connection: &Connection, moves: &[Move], end: u64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE blob SET segment = ?4, offset = ?5 WHERE id = ?1 AND segment = ?2 AND offset = ?3 RETURNING refs",
    )?;
    let mut live = 0;
    let (mut old_segment, mut new_segment) = (0, 0);
    for (blob, old, new) in moves {
        (old_segment, new_segment) = (old.segment, new.segment);
        let parameters = (blob.0, old.segment, old.offset, new.segment, new.offset);
        let refs: Option<i64> = statement.query_row(parameters, |row| row.get(0)).optional()?;
        if refs.is_some_and(|refs| refs > 0) {
            live += old.stored_octets as i64;
        }
    }
    apply::grow_segment(connection, new_segment, end, live)?;
    apply::change_live(connection, old_segment, -live)
}

/// Removes a segment's row if no blob lies in it any more.
fn drop_segment(connection: &Connection, number: u32) -> rusqlite::Result<bool> {
    let used: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM blob WHERE segment = ?1)")?
        .query_row([number], |row| row.get(0))?;
    if !used {
        connection.execute("DELETE FROM segment WHERE number = ?1", [number])?;
    }
    Ok(!used)
}
