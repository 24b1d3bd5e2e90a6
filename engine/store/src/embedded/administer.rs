//! What administrators ask of the writer: counting anew, removing an account.

use super::now_seconds;
use super::picture::News;
use super::tables::{self, ACCOUNT_FLOOR, MAILBOX_FLOOR, UID_VALIDITY_FLOOR};
use super::writer::Writer;
use crate::StoreError;
use mail::{AccountName, MailboxId, ModSeq, Usage};
use rusqlite::{Connection, OptionalExtension};

impl Writer {
    /// Counts an account's messages anew (R84). Gives what was thought and what is.
    pub fn recalculate(&mut self, account: &AccountName) -> Result<(Usage, Usage), StoreError> {
        let name = account.clone();
        let usages = self.transaction(|connection, _| recount(connection, &name))?;
        self.forget(account);
        Ok(usages)
    }

    /// Removes an account. Its messages are cleared away later.
    pub fn remove_account(&mut self, account: &AccountName) -> Result<(), StoreError> {
        let name = account.clone();
        let removed = self.transaction(|connection, counters| {
            let Some(removed) = remove(connection, &name)? else { return Ok(None) };
            // An account of that name made anew starts above all UIDVALIDITY values of this one.
            counters.uid_validity = counters.uid_validity.max(removed.uid_validity).max(now_seconds());
            tables::raise_meta(connection, UID_VALIDITY_FLOOR, counters.uid_validity.into())?;
            tables::raise_meta(connection, MAILBOX_FLOOR, counters.mailbox as i64)?;
            tables::raise_meta(connection, ACCOUNT_FLOOR, counters.account as i64)?;
            Ok(Some(removed))
        })?;
        self.forget(account);
        if let Some(removed) = removed {
            let news = removed.mailboxes.into_iter().map(|mailbox| (account.clone(), mailbox, News::Gone));
            self.shared.pictures.publish(news);
            self.shared.watches.wake(vec![(account.clone(), ModSeq(removed.mod_sequence.0 + 1))]);
        }
        Ok(())
    }
}

fn recount(connection: &Connection, account: &AccountName) -> rusqlite::Result<(Usage, Usage)> {
    let usage = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, Usage { octets: row.get(1)?, messages: row.get(2)? }));
    let before: Option<(u64, Usage)> = connection
        .query_row("SELECT id, octets, messages FROM account WHERE name = ?1", [account.as_str()], usage)
        .optional()?;
    let Some((id, before)) = before else { return Ok((Usage::default(), Usage::default())) };
    connection.execute(
        "UPDATE mailbox SET
             messages = (SELECT count(*) FROM message WHERE mailbox = mailbox.id),
             octets = (SELECT coalesce(sum(size), 0) FROM message WHERE mailbox = mailbox.id)
         WHERE account = ?1",
        [id],
    )?;
    connection.execute(
        "UPDATE account SET
             messages = (SELECT coalesce(sum(messages), 0) FROM mailbox WHERE account = account.id),
             octets = (SELECT coalesce(sum(octets), 0) FROM mailbox WHERE account = account.id)
         WHERE id = ?1",
        [id],
    )?;
    let (_, after) = connection.query_row("SELECT id, octets, messages FROM account WHERE id = ?1", [id], usage)?;
    Ok((before, after))
}

struct Removed {
    mailboxes: Vec<MailboxId>,
    uid_validity: u32,
    mod_sequence: ModSeq,
}

fn remove(connection: &Connection, account: &AccountName) -> rusqlite::Result<Option<Removed>> {
    let found: Option<(u64, u32, u64)> = connection
        .query_row("SELECT id, uid_validity, modseq FROM account WHERE name = ?1", [account.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((id, uid_validity, mod_sequence)) = found else { return Ok(None) };
    let mut statement = connection.prepare("SELECT id FROM mailbox WHERE account = ?1")?;
    let rows = statement.query_map([id], |row| row.get(0).map(MailboxId))?;
    let mailboxes = rows.collect::<rusqlite::Result<Vec<MailboxId>>>()?;
    connection.execute("INSERT INTO doomed (mailbox) SELECT id FROM mailbox WHERE account = ?1", [id])?;
    connection.execute("DELETE FROM mailbox WHERE account = ?1", [id])?;
    connection.execute("DELETE FROM subscription WHERE account = ?1", [id])?;
    connection.execute("DELETE FROM account WHERE id = ?1", [id])?;
    Ok(Some(Removed { mailboxes, uid_validity, mod_sequence: ModSeq(mod_sequence) }))
}
