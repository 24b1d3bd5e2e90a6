//! Checking a store, and repairing what can be repaired (P7).
//!
//! Every record that a row mentions is read and its checksums and hash verified; every counter is counted anew. Repair
//! sets counters right, removes messages whose octets cannot be read any more, and says which. It cannot repair the
//! database file itself: if SQLite finds that damaged, only a backup helps, and the report says so.

use super::load::load_place;
use super::opening::{OpenError, lock_folder, open_tables, segment_rows};
use super::record::{self, RecordError};
use super::segments::Segments;
use super::{Shared, database_error, tables};
use crate::StoreError;
use mail::BlobId;
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Most lines of each kind in a report; what is beyond is counted.
const LINES_MAX: usize = 10_000;
/// Records looked up in one go.
const RECORDS_PER_STEP: usize = 1_000;

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records verified.
    pub records_done: u64,
    /// Records there are.
    pub records: u64,
}

/// A message whose octets cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Whose.
    pub account: String,
    /// In which mailbox.
    pub mailbox: String,
    /// Its UID.
    pub uid: u32,
    /// Why.
    pub cause: String,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Records verified.
    pub records: u64,
    /// Octets of messages in them.
    pub octets: u64,
    /// What SQLite says of its file; empty if it is sound. If not, nothing else was checked: restore a backup.
    pub database: Vec<String>,
    /// Messages whose octets cannot be read; at most 10,000 are listed.
    pub lost: Vec<Lost>,
    /// How many messages are lost, listed or not.
    pub lost_count: u64,
    /// Rows that contradict each other; at most 10,000 are listed.
    pub contradictions: Vec<String>,
    /// Segment files that no row mentions. Harmless; the next start removes them.
    pub orphans: Vec<PathBuf>,
    /// Whether everything found was repaired.
    pub repaired: bool,
}

impl Report {
    /// Whether nothing is wrong. Orphans are not wrong.
    pub fn is_clean(&self) -> bool {
        self.database.is_empty() && self.lost_count == 0 && self.contradictions.is_empty()
    }
}

/// Checks a store that no process has open, and repairs it if `repair` says so. Tables of an older version are brought
/// up to date first.
pub fn fsck(folder: &Path, repair: bool, progress: &mut dyn FnMut(Progress)) -> Result<Report, OpenError> {
    std::fs::metadata(folder.join(tables::DATABASE)).map_err(|error| OpenError::Files(folder.to_owned(), error))?;
    let _lock = lock_folder(folder)?;
    let connection = open_tables(folder, true)?;
    let segments = Segments::open(folder, 0, true).map_err(|error| OpenError::Files(folder.to_owned(), error))?;
    let read: &Read<'_> = &|work| work(&connection).map_err(database_error);
    let failed = |error: StoreError| OpenError::Database(folder.to_owned(), error.to_string());
    let (mut report, bad) = examine(&segments, read, progress).map_err(failed)?;
    if report.database.is_empty() {
        report.orphans = orphans(&segments, &connection).map_err(failed)?;
        if repair && !report.is_clean() {
            set_right(&connection, &bad).map_err(|error| failed(database_error(error)))?;
            report.repaired = true;
        }
    }
    Ok(report)
}

/// Checks a running store.
pub(super) fn verify(shared: &Shared, progress: &mut dyn FnMut(Progress)) -> Result<Report, StoreError> {
    // Records must not move while they are looked at.
    let _alone = shared.reclaiming.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let read: &Read<'_> = &|work| shared.readers.read(|connection| work(connection));
    Ok(examine(&shared.segments, read, progress)?.0)
}

/// Lends a connection.
type Read<'a> = dyn Fn(&mut dyn FnMut(&Connection) -> rusqlite::Result<()>) -> Result<(), StoreError> + 'a;

/// The examination; gives also which blobs are bad, and why.
fn examine(
    segments: &Segments,
    read: &Read<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Report, BTreeMap<BlobId, String>), StoreError> {
    let mut report = Report::default();
    read(&mut |connection| {
        let mut statement = connection.prepare("PRAGMA integrity_check(100)")?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        report.database = lines.filter(|line| !matches!(line, Ok(line) if line == "ok")).collect::<Result<_, _>>()?;
        Ok(())
    })?;
    if !report.database.is_empty() {
        return Ok((report, BTreeMap::new()));
    }
    let bad = verify_records(segments, read, &mut report, progress)?;
    read(&mut |connection| {
        list_lost(connection, &bad, &mut report)?;
        list_lost_in_queue(connection, &bad, &mut report.contradictions)?;
        for check in CHECKS {
            check.run(connection, &mut report.contradictions)?;
        }
        Ok(())
    })?;
    Ok((report, bad))
}

fn verify_records(
    segments: &Segments,
    read: &Read<'_>,
    report: &mut Report,
    progress: &mut dyn FnMut(Progress),
) -> Result<BTreeMap<BlobId, String>, StoreError> {
    let mut bad = BTreeMap::new();
    let (mut last, mut records) = (0, 0);
    loop {
        let mut rows: Vec<(BlobId, Vec<u8>, record::Place)> = Vec::new();
        read(&mut |connection| {
            records = connection.query_row("SELECT count(*) FROM blob", [], |row| row.get(0))?;
            let mut statement =
                connection.prepare_cached("SELECT id, hash FROM blob WHERE id > ?1 ORDER BY id LIMIT ?2")?;
            let found = statement
                .query_map((last, RECORDS_PER_STEP), |row| Ok((BlobId(row.get(0)?), row.get::<_, Vec<u8>>(1)?)))?;
            for row in found {
                let (blob, hash) = row?;
                if let Some(place) = load_place(connection, blob)? {
                    rows.push((blob, hash, place));
                }
            }
            Ok(())
        })?;
        let Some((newest, ..)) = rows.last() else { return Ok(bad) };
        last = newest.0;
        for (blob, hash, place) in &rows {
            let verified = segments
                .get(place.segment)
                .map_err(RecordError::Io)
                .and_then(|file| record::verify(&file, *place, *blob))
                .and_then(|header| match header.hash == hash[..] {
                    true => Ok(()),
                    false => Err(RecordError::Damaged("the record's hash differs from its row")),
                });
            if let Err(error) = verified {
                let cause = match error {
                    RecordError::Io(error) => error.to_string(),
                    RecordError::Damaged(cause) => cause.to_owned(),
                };
                bad.insert(*blob, format!("{cause} (segment {}, offset {})", place.segment, place.offset));
            }
            report.records += 1;
            report.octets += place.raw_octets;
        }
        progress(Progress { records_done: report.records, records });
    }
}

/// Lists the messages whose blob is bad or missing.
fn list_lost(connection: &Connection, bad: &BTreeMap<BlobId, String>, report: &mut Report) -> rusqlite::Result<()> {
    let missing: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM message WHERE blob NOT IN (SELECT id FROM blob))",
        [],
        |row| row.get(0),
    )?;
    if bad.is_empty() && !missing {
        return Ok(());
    }
    let mut statement = connection.prepare(
        "SELECT account.name, mailbox.name, message.uid, message.blob, blob.id IS NULL
         FROM message
         JOIN mailbox ON mailbox.id = message.mailbox
         JOIN account ON account.id = mailbox.account
         LEFT JOIN blob ON blob.id = message.blob",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let cause = match (bad.get(&BlobId(row.get(3)?)), row.get(4)?) {
            (Some(cause), _) => cause.clone(),
            (None, true) => "its octets have no row".to_owned(),
            (None, false) => continue,
        };
        report.lost_count += 1;
        if report.lost.len() < LINES_MAX {
            report.lost.push(Lost { account: row.get(0)?, mailbox: row.get(1)?, uid: row.get(2)?, cause });
        }
    }
    Ok(())
}

/// Lists the queued messages whose blob is bad. Those whose blob is missing contradict their rows, which a check tells.
fn list_lost_in_queue(
    connection: &Connection,
    bad: &BTreeMap<BlobId, String>,
    lines: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT printf('%X', message) FROM queued WHERE blob = ?1")?;
    for (blob, cause) in bad {
        for message in statement.query_map([blob.0], |row| row.get::<_, String>(0))? {
            if lines.len() < LINES_MAX {
                lines.push(format!("queue {}: its octets cannot be read: {cause}", message?));
            }
        }
    }
    Ok(())
}

fn orphans(segments: &Segments, connection: &Connection) -> Result<Vec<PathBuf>, StoreError> {
    let known: HashMap<u32, ()> =
        segment_rows(connection).map_err(database_error)?.into_iter().map(|row| (row.number, ())).collect();
    let files = segments.list().map_err(super::disk_error)?;
    Ok(files.into_iter().filter(|number| !known.contains_key(number)).map(|number| segments.path(number)).collect())
}

/// Rows that must agree. The query gives a name, what is stored and what is right, where they differ.
struct Check {
    what: &'static str,
    query: &'static str,
    /// Statements that set it right.
    repair: &'static str,
}

impl Check {
    fn run(&self, connection: &Connection, lines: &mut Vec<String>) -> rusqlite::Result<()> {
        let mut statement = connection.prepare(self.query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if lines.len() >= LINES_MAX {
                break;
            }
            let (name, stored, right): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            lines.push(format!("{name}: {} is {stored}, should be {right}", self.what));
        }
        Ok(())
    }
}

/// In an order in which each repair may lean on those before it.
const CHECKS: &[Check] = &[
    Check {
        what: "messages of a mailbox that does not exist",
        query: "SELECT 'mailbox ' || mailbox, count(*), 0 FROM message
                WHERE mailbox NOT IN (SELECT id FROM mailbox UNION SELECT mailbox FROM doomed) GROUP BY mailbox",
        repair: "INSERT INTO doomed SELECT DISTINCT mailbox FROM message
                 WHERE mailbox NOT IN (SELECT id FROM mailbox UNION SELECT mailbox FROM doomed)",
    },
    Check {
        what: "size",
        query: "SELECT 'message ' || uid || ' of mailbox ' || mailbox, size, raw FROM message
                JOIN blob ON blob.id = message.blob WHERE size != raw",
        repair: "UPDATE message SET size = raw FROM blob WHERE blob.id = message.blob AND size != raw",
    },
    Check {
        what: "lines in the ledger",
        query: "SELECT DISTINCT 'queue ' || printf('%X', message), 0, 1
                FROM (SELECT message FROM queued UNION SELECT message FROM queued_recipient)
                WHERE message NOT IN (SELECT message FROM ledger)",
        repair: "INSERT INTO ledger
                     SELECT message, (SELECT count(*) FROM queued_recipient AS q WHERE q.message = here.message), 0, 0, 0,
                            json_array(json_object('at', unixepoch() * 1000, 'event', 'noted',
                                                   'what', 'fsck: the beginning of its story is lost'))
                     FROM (SELECT message FROM queued UNION SELECT message FROM queued_recipient) AS here
                     WHERE message NOT IN (SELECT message FROM ledger)",
    },
    Check {
        what: "recipients without a message",
        query: "SELECT 'queue ' || printf('%X', message), count(*), 0 FROM queued_recipient
                WHERE message NOT IN (SELECT message FROM queued) GROUP BY message",
        repair: "INSERT INTO event (message, number, event)
                     SELECT message, row_number() OVER (PARTITION BY message ORDER BY number)
                                + coalesce((SELECT max(number) FROM event WHERE event.message = q.message), 0),
                            json_object('at', unixepoch() * 1000, 'recipient', address, 'event', 'discarded',
                                        'by', 'fsck: its message is not in the queue')
                     FROM queued_recipient AS q WHERE message NOT IN (SELECT message FROM queued);
                 UPDATE ledger SET discarded = discarded + (SELECT count(*) FROM queued_recipient AS q
                     WHERE q.message = ledger.message)
                 WHERE message NOT IN (SELECT message FROM queued);
                 DELETE FROM queued_recipient WHERE message NOT IN (SELECT message FROM queued)",
    },
    Check {
        what: "octets of a queued message",
        query: "SELECT 'queue ' || printf('%X', message), 0, 1 FROM queued WHERE blob NOT IN (SELECT id FROM blob)",
        repair: "INSERT INTO event (message, number, event)
                     SELECT message, 1 + coalesce((SELECT max(number) FROM event WHERE event.message = queued.message), 0),
                            json_object('at', unixepoch() * 1000, 'event', 'discarded',
                                        'by', 'fsck: its octets cannot be read')
                     FROM queued WHERE blob NOT IN (SELECT id FROM blob);
                 UPDATE ledger SET discarded = discarded + (SELECT count(*) FROM queued_recipient AS q
                     WHERE q.message = ledger.message)
                 WHERE message IN (SELECT message FROM queued WHERE blob NOT IN (SELECT id FROM blob));
                 DELETE FROM queued_recipient WHERE message IN
                     (SELECT message FROM queued WHERE blob NOT IN (SELECT id FROM blob));
                 DELETE FROM queued WHERE blob NOT IN (SELECT id FROM blob)",
    },
    Check {
        what: "number of recipients",
        query: "SELECT 'queue ' || printf('%X', message), 0, 1 FROM queued
                WHERE message NOT IN (SELECT message FROM queued_recipient)",
        repair: "DELETE FROM queued WHERE message NOT IN (SELECT message FROM queued_recipient)",
    },
    Check {
        what: "number of accepted recipients",
        query: "SELECT 'message ' || printf('%X', ledger.message), accepted,
                    delivered + bounced + discarded + coalesce(waiting, 0) AS right
                FROM ledger LEFT JOIN (SELECT message, count(*) AS waiting FROM queued_recipient GROUP BY message)
                    AS queue ON queue.message = ledger.message
                WHERE accepted != right",
        repair: "UPDATE ledger SET accepted = delivered + bounced + discarded +
                     (SELECT count(*) FROM queued_recipient AS q WHERE q.message = ledger.message)",
    },
    Check {
        what: "number of references",
        query: "SELECT 'blob ' || id, refs, coalesce(used, 0) FROM blob
                LEFT JOIN (SELECT blob, count(*) AS used
                           FROM (SELECT blob FROM message UNION ALL SELECT blob FROM queued) GROUP BY blob) AS uses
                ON uses.blob = id WHERE refs != coalesce(used, 0)",
        repair: "UPDATE blob SET refs = 0
                 WHERE refs != 0 AND id NOT IN (SELECT blob FROM message UNION SELECT blob FROM queued);
                 UPDATE blob SET refs = used
                 FROM (SELECT blob AS used_blob, count(*) AS used
                       FROM (SELECT blob FROM message UNION ALL SELECT blob FROM queued) GROUP BY blob)
                 WHERE used_blob = id AND refs != used",
    },
    Check {
        what: "number of dead blobs",
        query: "SELECT 'store', (SELECT count(*) FROM dead), (SELECT count(*) FROM blob WHERE refs = 0)
                WHERE EXISTS (SELECT blob FROM dead EXCEPT SELECT id FROM blob WHERE refs = 0)
                   OR EXISTS (SELECT id FROM blob WHERE refs = 0 EXCEPT SELECT blob FROM dead)",
        repair: "DELETE FROM dead WHERE blob NOT IN (SELECT id FROM blob WHERE refs = 0);
                 INSERT OR IGNORE INTO dead SELECT id, unixepoch() FROM blob WHERE refs = 0",
    },
    Check {
        what: "valid length",
        query: "SELECT 'segment ' || segment, coalesce(octets, 0), max(offset + stored) AS end FROM blob
                LEFT JOIN segment ON number = segment GROUP BY segment HAVING end > coalesce(octets, 0)",
        repair: "INSERT INTO segment SELECT segment, max(offset + stored) AS end, 0 FROM blob GROUP BY segment
                 ON CONFLICT (number) DO UPDATE SET octets = max(octets, excluded.octets)",
    },
    Check {
        what: "live octets",
        query: "SELECT 'segment ' || number, live, coalesce(right, 0) FROM segment
                LEFT JOIN (SELECT segment, sum(stored) AS right FROM blob WHERE refs > 0 GROUP BY segment) AS sums
                ON sums.segment = number WHERE live != coalesce(right, 0)",
        repair: "UPDATE segment SET live =
                     (SELECT coalesce(sum(stored), 0) FROM blob WHERE blob.segment = number AND refs > 0)",
    },
    Check {
        what: "number of messages",
        query: "SELECT 'mailbox ' || id || ' ' || name, messages, coalesce(used, 0) FROM mailbox
                LEFT JOIN (SELECT mailbox, count(*) AS used FROM message GROUP BY mailbox) AS uses ON uses.mailbox = id
                WHERE messages != coalesce(used, 0)",
        repair: "UPDATE mailbox SET messages = (SELECT count(*) FROM message WHERE mailbox = mailbox.id)",
    },
    Check {
        what: "octets",
        query: "SELECT 'mailbox ' || id || ' ' || name, octets, coalesce(used, 0) FROM mailbox
                LEFT JOIN (SELECT mailbox, sum(size) AS used FROM message GROUP BY mailbox) AS uses ON uses.mailbox = id
                WHERE octets != coalesce(used, 0)",
        repair: "UPDATE mailbox SET octets = (SELECT coalesce(sum(size), 0) FROM message WHERE mailbox = mailbox.id)",
    },
    Check {
        what: "next UID",
        query: "SELECT 'mailbox ' || id || ' ' || name, uid_next, max(uid) + 1 AS least FROM mailbox
                JOIN message ON mailbox = id GROUP BY id HAVING uid_next < least",
        repair: "UPDATE mailbox SET uid_next =
                     max(uid_next, (SELECT coalesce(max(uid), 0) + 1 FROM message WHERE mailbox = mailbox.id))",
    },
    Check {
        what: "mod-sequence",
        query: "SELECT 'mailbox ' || id || ' ' || name, mailbox.modseq, max(message.modseq) AS least FROM mailbox
                JOIN message ON mailbox = id GROUP BY id HAVING mailbox.modseq < least",
        repair: "UPDATE mailbox SET modseq =
                     max(modseq, (SELECT coalesce(max(modseq), 0) FROM message WHERE mailbox = mailbox.id))",
    },
    Check {
        what: "mod-sequence",
        query: "SELECT 'account ' || account.name, account.modseq, max(mailbox.modseq) AS least FROM account
                JOIN mailbox ON account = account.id GROUP BY account.id HAVING account.modseq < least",
        repair: "UPDATE account SET modseq =
                     max(modseq, (SELECT coalesce(max(modseq), 0) FROM mailbox WHERE account = account.id))",
    },
    Check {
        what: "last UIDVALIDITY",
        query:
            "SELECT 'account ' || account.name, account.uid_validity, max(mailbox.uid_validity) AS least FROM account
                JOIN mailbox ON account = account.id GROUP BY account.id HAVING account.uid_validity < least",
        repair:
            "UPDATE account SET uid_validity =
                     max(uid_validity, (SELECT coalesce(max(uid_validity), 0) FROM mailbox WHERE account = account.id))",
    },
    Check {
        what: "number of messages",
        query: "SELECT 'account ' || account.name, account.messages, coalesce(sum(mailbox.messages), 0) AS right
                FROM account LEFT JOIN mailbox ON account = account.id
                GROUP BY account.id HAVING account.messages != right",
        repair: "UPDATE account SET messages =
                     (SELECT coalesce(sum(messages), 0) FROM mailbox WHERE account = account.id)",
    },
    Check {
        what: "octets",
        query: "SELECT 'account ' || account.name, account.octets, coalesce(sum(mailbox.octets), 0) AS right
                FROM account LEFT JOIN mailbox ON account = account.id
                GROUP BY account.id HAVING account.octets != right",
        repair: "UPDATE account SET octets =
                     (SELECT coalesce(sum(octets), 0) FROM mailbox WHERE account = account.id)",
    },
];

/// Removes lost messages and sets all counters right, as one transaction.
fn set_right(connection: &Connection, bad: &BTreeMap<BlobId, String>) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    let floor: i64 = transaction.query_row("SELECT coalesce(max(id), 0) + 1 FROM blob", [], |row| row.get(0))?;
    tables::raise_meta(&transaction, tables::BLOB_FLOOR, floor)?;
    for blob in bad.keys() {
        transaction.execute("DELETE FROM blob WHERE id = ?1", [blob.0])?;
    }
    // To clients, lost messages are expunged: mailboxes and accounts get a new mod-sequence for it.
    transaction.execute_batch(
        "CREATE TEMP TABLE lost AS SELECT mailbox, uid FROM message WHERE blob NOT IN (SELECT id FROM blob);
         UPDATE account SET modseq = modseq + 1
             WHERE id IN (SELECT account FROM mailbox WHERE id IN (SELECT mailbox FROM lost));
         UPDATE mailbox SET modseq = (SELECT modseq FROM account WHERE account.id = account)
             WHERE id IN (SELECT mailbox FROM lost);
         INSERT INTO expunged SELECT lost.mailbox, modseq, uid, uid FROM lost JOIN mailbox ON id = lost.mailbox;
         DELETE FROM message WHERE blob NOT IN (SELECT id FROM blob);
         DROP TABLE lost",
    )?;
    for check in CHECKS {
        transaction.execute_batch(check.repair)?;
    }
    transaction.commit()
}
