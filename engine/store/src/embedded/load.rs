//! Reading mailboxes and the places of blobs from the database.

use super::account::load_keywords;
use super::record::Place;
use mail::{AccountName, BlobId, Flags, InternalDate, MailboxId, Message, ModSeq, Snapshot, Uid, UidValidity};
use rusqlite::{Connection, OptionalExtension};

/// The picture of a mailbox; `None` if the account has no such mailbox. All of it is of one moment if the connection
/// is in a transaction.
pub fn load_picture(
    connection: &Connection,
    account: &AccountName,
    mailbox: MailboxId,
) -> rusqlite::Result<Option<Snapshot>> {
    let mut statement = connection.prepare_cached(
        "SELECT uid_validity, uid_next, modseq FROM mailbox
         WHERE id = ?1 AND account = (SELECT id FROM account WHERE name = ?2)",
    )?;
    let row = statement.query_row((mailbox.0, account.as_str()), |row| {
        let (uid_validity, uid_next) = (UidValidity(row.get(0)?), Uid(row.get(1)?));
        Ok(Snapshot::empty(mailbox, uid_validity, uid_next, ModSeq(row.get(2)?)))
    });
    let Some(mut picture) = row.optional()? else { return Ok(None) };
    picture.keywords = load_keywords(connection, mailbox)?;
    Ok(Some(picture.with_messages(load_messages(connection, mailbox)?)))
}

fn load_messages(connection: &Connection, mailbox: MailboxId) -> rusqlite::Result<Vec<Message>> {
    let mut statement = connection.prepare_cached(
        "SELECT uid, flags, keywords, modseq, size, date, zone, blob FROM message WHERE mailbox = ?1 ORDER BY uid",
    )?;
    let mut rows = statement.query([mailbox.0])?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        messages.push(Message {
            uid: Uid(row.get(0)?),
            flags: Flags(row.get(1)?),
            keywords: row.get::<_, i64>(2)? as u64,
            mod_sequence: ModSeq(row.get(3)?),
            size_octets: row.get(4)?,
            internal_date: InternalDate { unix_seconds: row.get(5)?, zone_minutes: row.get(6)? },
            blob: BlobId(row.get(7)?),
        });
    }
    Ok(messages)
}

/// Where a blob lies.
pub fn load_place(connection: &Connection, blob: BlobId) -> rusqlite::Result<Option<Place>> {
    let mut statement = connection.prepare_cached("SELECT segment, offset, stored, raw FROM blob WHERE id = ?1")?;
    let place = statement.query_row([blob.0], |row| {
        Ok(Place { segment: row.get(0)?, offset: row.get(1)?, stored_octets: row.get(2)?, raw_octets: row.get(3)? })
    });
    place.optional()
}
