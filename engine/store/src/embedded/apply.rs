//! A decided batch as rows. Runs inside the writer's transaction; decides nothing.

use super::account::{Account, Head, Tree};
use super::batch::{Batch, MailboxNews, Working};
use super::picture::Edit;
use super::queue;
use super::record::Place;
use super::staging::Staged;
use super::tables::{self, Reused};
use mail::{BlobId, MailboxId, Message, UidSet};
use rusqlite::{Connection, OptionalExtension, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A staged body and where its record now lies.
pub type Placed = (Arc<Staged>, Place);

/// Writes everything that a batch does. `lengths` are the valid lengths of the segments that grew.
pub fn write(
    connection: &Connection,
    batch: &Batch,
    placed: &[Placed],
    lengths: &BTreeMap<u32, u64>,
    now: u32,
) -> Result<()> {
    let mut rows = Rows::new(connection);
    for working in batch.accounts.values() {
        write_account(connection, &mut rows, working)?;
    }
    let mut references: HashMap<BlobId, i64> = batch.references.clone();
    queue::write(connection, &batch.queue, &mut references)?;
    let mut live: BTreeMap<u32, i64> = BTreeMap::new();
    for (staged, place) in placed {
        let refs = references.remove(&staged.blob).unwrap_or(0);
        rows.insert_blob(staged, place, refs)?;
        if refs > 0 {
            *live.entry(place.segment).or_default() += place.stored_octets as i64;
        } else {
            insert_dead(connection, staged.blob, now)?;
        }
    }
    for (mailbox, news) in &batch.mailboxes {
        write_messages(connection, &mut rows, *mailbox, news)?;
    }
    for (blob, change) in references {
        refer(connection, blob, change, now, &mut live)?;
    }
    for (segment, octets) in lengths {
        let live = live.remove(segment).unwrap_or(0);
        grow_segment(connection, *segment, *octets, live)?;
    }
    for (segment, change) in live {
        change_live(connection, segment, change)?;
    }
    Ok(())
}

/// Statements of rows that most batches have many of.
struct Rows<'a> {
    account: Reused<'a>,
    counters: Reused<'a>,
    blob: Reused<'a>,
    message: Reused<'a>,
}

impl<'a> Rows<'a> {
    fn new(connection: &'a Connection) -> Rows<'a> {
        let reused = |text| Reused::new(connection, text);
        Rows {
            account: reused(
                "INSERT INTO account (id, name, modseq, octets, messages, uid_validity) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (id) DO UPDATE SET modseq = excluded.modseq, octets = excluded.octets,
                     messages = excluded.messages, uid_validity = excluded.uid_validity",
            ),
            counters: reused("UPDATE mailbox SET uid_next = ?2, modseq = ?3, messages = ?4, octets = ?5 WHERE id = ?1"),
            blob: reused(
                "INSERT INTO blob (id, segment, offset, stored, raw, refs, hash, digest)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            ),
            message: reused(
                "INSERT INTO message (mailbox, uid, flags, keywords, modseq, size, date, zone, blob)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            ),
        }
    }

    fn insert_blob(&mut self, staged: &Staged, place: &Place, refs: i64) -> Result<()> {
        let (hash, digest) = (staged.hash.as_slice(), staged.digest.as_slice());
        let Place { segment, offset, stored_octets, raw_octets } = *place;
        self.blob
            .get()?
            .execute((staged.blob.0, segment, offset, stored_octets, raw_octets, refs, hash, digest))
            .map(|_| ())
    }

    fn insert_message(&mut self, mailbox: MailboxId, message: &Message) -> Result<()> {
        let date = message.internal_date;
        let statement = self.message.get()?;
        statement.execute((
            mailbox.0,
            message.uid.0,
            message.flags.0,
            message.keywords as i64,
            message.mod_sequence.0,
            message.size_octets,
            date.unix_seconds,
            date.zone_minutes,
            message.blob.0,
        ))?;
        Ok(())
    }
}

fn write_account(connection: &Connection, rows: &mut Rows<'_>, working: &Working) -> Result<()> {
    let account = &working.account;
    let empty = Tree::default();
    let (head_before, tree_before) = match &working.before {
        Some((head, tree)) => (Some(head), &**tree),
        None => (None, &empty),
    };
    if head_before != Some(&account.head) {
        let Head { mod_sequence, usage, uid_validity } = &account.head;
        let name = account.name.as_str();
        let statement = rows.account.get()?;
        statement.execute((account.id, name, mod_sequence.0, usage.octets, usage.messages, uid_validity.0))?;
    }
    let mut inserted = BTreeSet::new();
    if !std::ptr::eq(tree_before, &*account.tree) {
        inserted = write_tree(connection, account, tree_before)?;
    }
    for mailbox in working.dirty.difference(&inserted) {
        let Some(state) = account.mailboxes.get(mailbox) else { continue };
        let usage = state.usage;
        let statement = rows.counters.get()?;
        statement.execute((mailbox.0, state.uid_next, state.mod_sequence.0, usage.messages, usage.octets))?;
    }
    Ok(())
}

/// Writes what differs between two trees. Gives the mailboxes that were inserted, counters and all.
fn write_tree(connection: &Connection, account: &Account, before: &Tree) -> Result<BTreeSet<MailboxId>> {
    let by_id = |tree: &Tree| -> HashMap<MailboxId, String> {
        tree.names.iter().map(|(name, leaf)| (leaf.id, name.to_string())).collect()
    };
    let (old, new) = (by_id(before), by_id(&account.tree));
    for mailbox in old.keys().filter(|id| !new.contains_key(id)) {
        connection.prepare_cached("DELETE FROM mailbox WHERE id = ?1")?.execute([mailbox.0])?;
    }
    // Names are unique at every moment; those that move step aside first, under names that no mailbox can have.
    let moved: Vec<(&MailboxId, &String)> =
        new.iter().filter(|(id, name)| old.get(id).is_some_and(|before| before != *name)).collect();
    let mut rename = connection.prepare_cached("UPDATE mailbox SET name = ?2 WHERE id = ?1")?;
    for (mailbox, _) in &moved {
        rename.execute((mailbox.0, format!("\u{1}{mailbox}")))?;
    }
    let mut inserted = BTreeSet::new();
    for (name, leaf) in account.tree.names.iter().filter(|(_, leaf)| !old.contains_key(&leaf.id)) {
        let Some(state) = account.mailboxes.get(&leaf.id) else { continue };
        let mut statement = connection.prepare_cached(
            "INSERT INTO mailbox
                 (id, account, name, special_use, uid_validity, uid_next, modseq, messages, octets)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        statement.execute((
            leaf.id.0,
            account.id,
            name.as_str(),
            leaf.special_use.map(|role| role.attribute()),
            state.uid_validity.0,
            state.uid_next,
            state.mod_sequence.0,
            state.usage.messages,
            state.usage.octets,
        ))?;
        inserted.insert(leaf.id);
    }
    for (mailbox, name) in moved {
        rename.execute((mailbox.0, name))?;
    }
    let mut unsubscribe = connection.prepare_cached("DELETE FROM subscription WHERE account = ?1 AND name = ?2")?;
    for name in before.subscriptions.difference(&account.tree.subscriptions) {
        unsubscribe.execute((account.id, name.as_str()))?;
    }
    let mut subscribe = connection.prepare_cached("INSERT INTO subscription (account, name) VALUES (?1, ?2)")?;
    for name in account.tree.subscriptions.difference(&before.subscriptions) {
        subscribe.execute((account.id, name.as_str()))?;
    }
    Ok(inserted)
}

fn write_messages(connection: &Connection, rows: &mut Rows<'_>, mailbox: MailboxId, news: &MailboxNews) -> Result<()> {
    for delta in &news.deltas {
        for (bit, keyword) in delta.keywords.iter().flat_map(|keywords| keywords.iter().enumerate()) {
            let mut statement =
                connection.prepare_cached("INSERT OR IGNORE INTO keyword (mailbox, bit, name) VALUES (?1, ?2, ?3)")?;
            statement.execute((mailbox.0, bit as u32, keyword.as_str()))?;
        }
        for edit in &delta.edits {
            match edit {
                Edit::Push(message) => rows.insert_message(mailbox, message)?,
                Edit::Update { uid, flags, keywords, mod_sequence } => {
                    let mut statement = connection.prepare_cached(
                        "UPDATE message SET flags = ?3, keywords = ?4, modseq = ?5 WHERE mailbox = ?1 AND uid = ?2",
                    )?;
                    statement.execute((mailbox.0, uid.0, flags.0, *keywords as i64, mod_sequence.0))?;
                }
                Edit::Remove { uids, mod_sequence } => delete_messages(connection, mailbox, uids, mod_sequence.0)?,
            }
        }
    }
    if news.gone {
        // Its messages may be many: they are cleared away later, some at a time. Its number is not given out again.
        tables::raise_meta(connection, tables::MAILBOX_FLOOR, mailbox.0 as i64 + 1)?;
        connection.prepare_cached("INSERT OR IGNORE INTO doomed (mailbox) VALUES (?1)")?.execute([mailbox.0])?;
    }
    Ok(())
}

fn delete_messages(connection: &Connection, mailbox: MailboxId, uids: &UidSet, mod_sequence: u64) -> Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM message WHERE mailbox = ?1 AND uid BETWEEN ?2 AND ?3")?;
    let mut remember =
        connection.prepare_cached("INSERT INTO expunged (mailbox, modseq, first, last) VALUES (?1, ?2, ?3, ?4)")?;
    for (first, last) in uids.ranges() {
        delete.execute((mailbox.0, first, last))?;
        remember.execute((mailbox.0, mod_sequence, first, last))?;
    }
    Ok(())
}

fn insert_dead(connection: &Connection, blob: BlobId, now: u32) -> Result<()> {
    let mut statement = connection.prepare_cached("INSERT OR IGNORE INTO dead (blob, since) VALUES (?1, ?2)")?;
    statement.execute((blob.0, now)).map(|_| ())
}

/// Changes the references to a blob; counts in `live` what that means for its segment.
pub fn refer(
    connection: &Connection,
    blob: BlobId,
    change: i64,
    now: u32,
    live: &mut BTreeMap<u32, i64>,
) -> Result<()> {
    if change == 0 {
        return Ok(());
    }
    let mut statement = connection
        .prepare_cached("UPDATE blob SET refs = max(refs + ?2, 0) WHERE id = ?1 RETURNING refs, segment, stored")?;
    let after = statement
        .query_row((blob.0, change), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?, row.get::<_, i64>(2)?)))
        .optional()?;
    if let Some((0, segment, stored)) = after {
        *live.entry(segment).or_default() -= stored;
        insert_dead(connection, blob, now)?;
    }
    Ok(())
}

/// Notes a segment's valid length and how much of what was added is live.
pub fn grow_segment(connection: &Connection, segment: u32, octets: u64, live: i64) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO segment (number, octets, live) VALUES (?1, ?2, ?3)
         ON CONFLICT (number) DO UPDATE SET octets = excluded.octets, live = live + excluded.live",
    )?;
    statement.execute((segment, octets, live)).map(|_| ())
}

/// Changes how many octets of a segment are live.
pub fn change_live(connection: &Connection, segment: u32, change: i64) -> Result<()> {
    let mut statement = connection.prepare_cached("UPDATE segment SET live = live + ?2 WHERE number = ?1")?;
    statement.execute((segment, change)).map(|_| ())
}
