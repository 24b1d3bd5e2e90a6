//! Reading octets and digests of messages.

use super::load::load_place;
use super::record::{self, Place};
use super::{Shared, disk_error, offload};
use crate::{BodyRange, StoreError};
use bytes::Bytes;
use mail::BlobId;
use rusqlite::Connection;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// Up to this many octets are read on the caller's thread: decompressing them takes less than changing threads.
const READ_HERE_OCTETS_MAX: u64 = 64 * 1024;
/// Up to this many rows are read on the caller's thread.
const READ_HERE_ROWS_MAX: usize = 16;

/// Octets, one answer for each range, in order.
pub async fn read(shared: &Arc<Shared>, ranges: Vec<BodyRange>) -> Result<Vec<Result<Bytes, StoreError>>, StoreError> {
    if shared.is_closed() {
        return Err(StoreError::Closed);
    }
    let places = shared.places.get(ranges.iter().map(|range| range.blob));
    let cost = |(range, place): (&BodyRange, &Option<Place>)| match place {
        Some(place) => range.octets.min(place.raw_octets),
        None => READ_HERE_OCTETS_MAX,
    };
    let octets: u64 = ranges.iter().zip(&places).map(cost).fold(0, u64::saturating_add);
    if octets <= READ_HERE_OCTETS_MAX {
        return read_here(shared, &ranges, places);
    }
    let shared = shared.clone();
    offload(move || read_here(&shared, &ranges, places)).await
}

fn read_here(
    shared: &Shared,
    ranges: &[BodyRange],
    mut places: Vec<Option<Place>>,
) -> Result<Vec<Result<Bytes, StoreError>>, StoreError> {
    let unknown: Vec<BlobId> = ranges.iter().zip(&places).filter(|(_, p)| p.is_none()).map(|(r, _)| r.blob).collect();
    if !unknown.is_empty() {
        let found = find(shared, &unknown)?;
        for (range, place) in ranges.iter().zip(&mut places) {
            *place = place.or_else(|| found.get(&range.blob).copied());
        }
    }
    let one = |(range, place): (&BodyRange, Option<Place>)| match place {
        Some(place) => read_one(shared, range, place),
        None => Err(StoreError::NoSuchBlob),
    };
    Ok(ranges.iter().zip(places).map(one).collect())
}

/// Finds blobs in the database and remembers where they lie.
fn find(shared: &Shared, blobs: &[BlobId]) -> Result<HashMap<BlobId, Place>, StoreError> {
    let found = shared.readers.read(|connection| {
        let mut found = HashMap::with_capacity(blobs.len());
        for blob in blobs {
            if let Some(place) = load_place(connection, *blob)? {
                found.insert(*blob, place);
            }
        }
        Ok(found)
    })?;
    shared.places.put(found.iter().map(|(blob, place)| (*blob, *place)));
    Ok(found)
}

fn read_one(shared: &Shared, range: &BodyRange, place: Place) -> Result<Bytes, StoreError> {
    match read_at(shared, range, place) {
        Err(_) => {
            // The record may just have moved: what the database says now decides.
            shared.places.remove([range.blob]);
            match find(shared, &[range.blob])?.get(&range.blob) {
                Some(now) => read_at(shared, range, *now),
                None => Err(StoreError::NoSuchBlob),
            }
        }
        read => read,
    }
}

fn read_at(shared: &Shared, range: &BodyRange, place: Place) -> Result<Bytes, StoreError> {
    let file = match shared.segments.get(place.segment) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::Damaged(format!("segment {} is missing", place.segment).into()));
        }
        result => result.map_err(disk_error)?,
    };
    let mut octets = Vec::new();
    record::read_range(&file, place, range.blob, range.start, range.octets, &mut octets)
        .map_err(|error| shared.record_error(range.blob, place, error))?;
    Ok(octets.into())
}

/// Digests, one for each blob, in order.
pub async fn digests(shared: &Arc<Shared>, blobs: Vec<BlobId>) -> Result<Vec<Result<Bytes, StoreError>>, StoreError> {
    if shared.is_closed() {
        return Err(StoreError::Closed);
    }
    if blobs.len() <= READ_HERE_ROWS_MAX {
        return shared.readers.read(|connection| load_digests(connection, &blobs));
    }
    let shared = shared.clone();
    offload(move || shared.readers.read(|connection| load_digests(connection, &blobs))).await
}

fn load_digests(connection: &Connection, blobs: &[BlobId]) -> rusqlite::Result<Vec<Result<Bytes, StoreError>>> {
    let mut one = connection.prepare_cached("SELECT digest FROM blob WHERE id = ?1")?;
    let mut run = connection.prepare_cached("SELECT id, digest FROM blob WHERE id BETWEEN ?1 AND ?2 ORDER BY id")?;
    let mut answers = Vec::with_capacity(blobs.len());
    let mut rest = blobs;
    while let [first, ..] = rest {
        let length = run_length(rest);
        let (now, later) = rest.split_at(length);
        rest = later;
        if length == 1 {
            let mut rows = one.query([first.0])?;
            answers.push(match rows.next()? {
                Some(row) => Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?)),
                None => Err(StoreError::NoSuchBlob),
            });
            continue;
        }
        let mut rows = run.query((first.0, now[length - 1].0))?;
        let mut wanted = now.iter().peekable();
        while let Some(row) = rows.next()? {
            let id: u64 = row.get(0)?;
            while wanted.next_if(|blob| blob.0 < id).is_some() {
                answers.push(Err(StoreError::NoSuchBlob));
            }
            if wanted.next_if(|blob| blob.0 == id).is_some() {
                answers.push(Ok(Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?)));
            }
        }
        answers.extend(wanted.map(|_| Err(StoreError::NoSuchBlob)));
    }
    Ok(answers)
}

/// How many of the next blobs ascend so closely that reading the rows between them costs less than looking each up.
fn run_length(blobs: &[BlobId]) -> usize {
    let close = blobs.windows(2).take_while(|pair| pair[0] < pair[1] && pair[1].0 - pair[0].0 <= 4);
    close.count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_come_in_the_order_asked_for() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE blob (id INTEGER PRIMARY KEY, digest BLOB)").unwrap();
        for id in (1..50).filter(|id| id % 3 != 0) {
            connection.execute("INSERT INTO blob VALUES (?1, ?2)", (id, vec![id as u8])).unwrap();
        }
        for blobs in [
            vec![],
            vec![1],
            vec![3],
            (1..60).collect(),
            (1..60).rev().collect(),
            vec![1, 2, 2, 2, 4, 40, 41, 42, 43, 7, 3, 6, 9],
            vec![46, 47, 48, 51, 54],
        ] {
            let ids: Vec<BlobId> = blobs.iter().map(|id| BlobId(*id)).collect();
            let answers = load_digests(&connection, &ids).unwrap();
            assert_eq!(answers.len(), ids.len());
            for (id, answer) in blobs.iter().zip(answers) {
                match answer {
                    Ok(digest) => assert!(id % 3 != 0 && *id < 50 && digest[..] == [*id as u8]),
                    Err(_) => assert!(id % 3 == 0 || *id >= 50, "{id}"),
                }
            }
        }
    }
}
