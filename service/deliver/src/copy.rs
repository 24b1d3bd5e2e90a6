//! A stored message, read again piece by piece: to send it, or to put a copy of it elsewhere.

use crate::{Intake, Staged};
use bytes::Bytes;
use mail::BlobId;
use message::trace;
use store::{BodyRange, MailStore, StoreError};

/// Octets read in one go.
const PIECE_OCTETS: u64 = 64 * 1024;

/// Reads a stored message as it goes on from here: without the fields of a delivery on top, which belong to the mailboxes
/// that have the same body (RFC 5321 §4.4).
pub struct Reading<'a> {
    store: &'a dyn MailStore,
    blob: BlobId,
    at: u64,
}

impl<'a> Reading<'a> {
    /// Begins to read.
    pub fn new(store: &'a dyn MailStore, blob: BlobId) -> Reading<'a> {
        Reading { store, blob, at: 0 }
    }

    /// The next octets; none at the end.
    pub async fn next(&mut self) -> Result<Bytes, StoreError> {
        let range = BodyRange { blob: self.blob, start: self.at, octets: PIECE_OCTETS };
        let octets = self.store.read(vec![range]).await?.pop().ok_or(StoreError::NoSuchBlob)??;
        let skipped = if self.at == 0 { trace::delivery_octets(&octets) } else { 0 };
        self.at += octets.len() as u64;
        Ok(octets.slice(skipped..))
    }
}

/// Stages a copy of a stored message, with fields put in front of it.
pub async fn stage_copy(store: &dyn MailStore, blob: BlobId, prefix: &[u8]) -> Result<Staged, StoreError> {
    let mut intake = Intake::verbatim(store)?;
    let mut reading = Reading::new(store, blob);
    loop {
        let octets = reading.next().await?;
        if octets.is_empty() {
            return intake.finish(prefix);
        }
        intake.write(&octets);
    }
}
