//! The queue as rows: how changes are written, what is told with them included, and how the queue is read again.

use super::database_error;
use super::tables::Reused;
use crate::StoreError;
use crate::queue::{Audit, EVENTS_WITH_DEFERRALS_MAX, Ledger};
use mail::{
    AccountName, Address, Attempt, BlobId, BodyId, DsnReturn, Notify, QueueChange, QueueEntry, QueueId, QueueState,
    QueuedEnvelope, QueuedMessage, QueuedRecipient, Recipient, RequireTls, ReversePath, Settled, UnixMillis,
};
use rusqlite::{Connection, OptionalExtension, Result, Row};
use std::collections::{BTreeSet, HashMap};

/// Messages named by an audit.
const UNBALANCED_NAMED_MAX: usize = 100;

/// A change as the writer gets it: what is told of a message is text by then, made where many can make it at a time.
#[derive(Clone)]
pub enum QueueWork {
    /// Begins a story.
    Begin {
        /// The message.
        message: QueueId,
        /// Recipients thrown away by a rule.
        discarded: u32,
        /// Its events, as a JSON array.
        began: String,
    },
    /// Adds to a story.
    Tell {
        /// The message.
        message: QueueId,
        /// The event, as JSON.
        event: String,
        /// Whether it may come again.
        may_recur: bool,
    },
    /// Anything else.
    Change(Box<QueueChange>),
}

impl QueueWork {
    /// Prepares a change.
    pub fn new(change: QueueChange) -> std::result::Result<QueueWork, StoreError> {
        let text = match change {
            QueueChange::Begin { message, discarded, events } => {
                json(&events).map(|began| QueueWork::Begin { message, discarded, began })
            }
            QueueChange::Tell { message, event } => {
                let may_recur = event.may_recur();
                json(&event).map(|event| QueueWork::Tell { message, event, may_recur })
            }
            change => return Ok(QueueWork::Change(Box::new(change))),
        };
        text.map_err(database_error)
    }

    /// The body that it puts into the queue.
    pub fn body(&self) -> Option<BodyId> {
        match self {
            QueueWork::Change(change) => match &**change {
                QueueChange::Enqueue { body, .. } => Some(*body),
                _ => None,
            },
            QueueWork::Begin { .. } | QueueWork::Tell { .. } => None,
        }
    }
}

/// A change that was accepted.
#[derive(Clone)]
pub struct AcceptedWork {
    /// The change.
    pub work: QueueWork,
    /// The blob that its [body](QueueWork::body) becomes.
    pub blob: Option<BlobId>,
    /// Accepted groups of its commit that count for the message it [begins](QueueWork::Begin).
    pub groups: u32,
}

/// Writes changes, in order. `references` learns which blobs are no longer needed.
pub fn write(connection: &Connection, accepted: &[AcceptedWork], references: &mut HashMap<BlobId, i64>) -> Result<()> {
    let mut begin = Reused::new(
        connection,
        "INSERT INTO ledger (message, accepted, delivered, bounced, discarded, began) VALUES (?1, ?2, ?3, 0, ?4, ?5)",
    );
    for AcceptedWork { work, blob, groups } in accepted {
        match work {
            QueueWork::Begin { message, discarded, began } => {
                let accepted = u64::from(*groups) + u64::from(*discarded);
                begin.get()?.execute((column(message.0), accepted, groups, discarded, began))?;
            }
            QueueWork::Tell { message, event, may_recur } => tell(connection, *message, event, *may_recur)?,
            QueueWork::Change(change) => write_change(connection, change, *blob, references)?,
        }
    }
    Ok(())
}

fn write_change(
    connection: &Connection,
    change: &QueueChange,
    blob: Option<BlobId>,
    references: &mut HashMap<BlobId, i64>,
) -> Result<()> {
    match (change, blob) {
        (QueueChange::Enqueue { envelope, recipients, .. }, Some(blob)) => {
            enqueue(connection, envelope, blob, recipients)
        }
        (QueueChange::Wait { message, number, state, attempt, delay_reported }, _) => {
            wait(connection, *message, *number, *state, attempt.as_ref(), *delay_reported)
        }
        (QueueChange::Settle { message, number, how }, _) => settle(connection, *message, *number, *how, references),
        // A body was found for each before the batch was decided, and what is told is text.
        (QueueChange::Enqueue { .. } | QueueChange::Begin { .. } | QueueChange::Tell { .. }, _) => Ok(()),
    }
}

fn enqueue(
    connection: &Connection,
    envelope: &QueuedEnvelope,
    blob: BlobId,
    recipients: &[QueuedRecipient],
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO queued (message, blob, arrived, reverse_path, account, parameters, envelope_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    statement.execute((
        column(envelope.id.0),
        blob.0,
        column(envelope.arrived.0),
        envelope.reverse_path.to_string(),
        envelope.account.as_ref().map(AccountName::as_str),
        parameters(envelope),
        &envelope.envelope_id,
    ))?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO queued_recipient
             (message, number, address, notify, original, via, held, due, attempts, told, last)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for queued in recipients {
        let (held, due) = state_columns(queued.state);
        statement.execute((
            column(envelope.id.0),
            queued.number,
            queued.recipient.address.to_string(),
            queued.recipient.notify.map(notify_column),
            &queued.recipient.original,
            queued.via.as_ref().map(Address::to_string),
            held,
            due,
            queued.attempts,
            queued.delay_reported,
            queued.last.as_ref().map(json).transpose()?,
        ))?;
    }
    let mut statement = connection.prepare_cached("UPDATE ledger SET accepted = accepted + ?2 WHERE message = ?1")?;
    statement.execute((column(envelope.id.0), recipients.len())).map(|_| ())
}

fn wait(
    connection: &Connection,
    message: QueueId,
    number: u32,
    state: QueueState,
    attempt: Option<&Attempt>,
    delay_reported: bool,
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        // A try, or a notice, that was under way when an administrator held the recipient does not release it.
        "UPDATE queued_recipient SET held = max(?3, held * max(?5, ?7)), due = ?4, attempts = attempts + ?5,
             last = coalesce(?6, last), told = max(told, ?7)
         WHERE message = ?1 AND number = ?2",
    )?;
    let (held, due) = state_columns(state);
    let tries = u32::from(attempt.is_some());
    let last = attempt.map(json).transpose()?;
    statement.execute((column(message.0), number, held, due, tries, last, delay_reported)).map(|_| ())
}

/// The recipient's row goes, the ledger counts it, and with the last recipient the message goes too.
fn settle(
    connection: &Connection,
    message: QueueId,
    number: u32,
    how: Settled,
    references: &mut HashMap<BlobId, i64>,
) -> Result<()> {
    let message = column(message.0);
    let mut statement = connection.prepare_cached("DELETE FROM queued_recipient WHERE message = ?1 AND number = ?2")?;
    if statement.execute((message, number))? == 0 {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(match how {
        Settled::Delivered => "UPDATE ledger SET delivered = delivered + 1 WHERE message = ?1",
        Settled::Bounced => "UPDATE ledger SET bounced = bounced + 1 WHERE message = ?1",
        Settled::Discarded => "UPDATE ledger SET discarded = discarded + 1 WHERE message = ?1",
    })?;
    statement.execute([message])?;
    let mut statement = connection.prepare_cached(
        "DELETE FROM queued WHERE message = ?1
             AND NOT EXISTS (SELECT 1 FROM queued_recipient WHERE message = ?1) RETURNING blob",
    )?;
    if let Some(blob) = statement.query_row([message], |row| row.get(0).map(BlobId)).optional()? {
        *references.entry(blob).or_default() -= 1;
    }
    Ok(())
}

fn tell(connection: &Connection, message: QueueId, event: &str, may_recur: bool) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO event (message, number, event)
         SELECT ?1, coalesce(max(number), 0) + 1, ?2 FROM event WHERE message = ?1
         HAVING coalesce(max(number), 0) < ?3",
    )?;
    let events_max = if may_recur { EVENTS_WITH_DEFERRALS_MAX } else { u32::MAX };
    statement.execute((column(message.0), event, events_max)).map(|_| ())
}

/// Entries of the queue in order of message and number, those after `after`.
pub fn entries(connection: &Connection, after: Option<(QueueId, u32)>, limit: usize) -> Result<Vec<QueueEntry>> {
    let mut statement = connection.prepare_cached(
        "SELECT message, number, address, held, due, attempts, reverse_path, arrived
         FROM queued_recipient JOIN queued USING (message)
         WHERE (message, number) > (?1, ?2) ORDER BY message, number LIMIT ?3",
    )?;
    let (message, number) = after.map_or((-1, -1), |(message, number)| (column(message.0) as i64, i64::from(number)));
    let rows = statement.query_map((message, number, limit), |row| {
        Ok(QueueEntry {
            message: QueueId(row.get(0)?),
            number: row.get(1)?,
            address: address(row, 2)?,
            sender: row.get(6)?,
            arrived: UnixMillis(row.get(7)?),
            state: state(row.get(3)?, row.get(4)?),
            attempts: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// What is read of a message, for [`without_recipients`].
const MESSAGE: &str = "SELECT blob, arrived, reverse_path, account, parameters, envelope_id, coalesce(raw, 0), message
     FROM queued LEFT JOIN blob ON blob.id = queued.blob";
/// What is read of a recipient, for [`recipient`].
const RECIPIENT: &str = "SELECT number, address, notify, original, held, due, attempts, told, last, via, message
     FROM queued_recipient";

/// Messages of the queue in order of name, those after `after`.
pub fn messages(connection: &Connection, after: QueueId, limit: usize) -> Result<Vec<QueuedMessage>> {
    let after = column(after.0);
    let mut statement =
        connection.prepare_cached(&format!("{MESSAGE} WHERE message > ?1 ORDER BY message LIMIT ?2"))?;
    let mut found =
        statement.query_map((after, column(limit as u64)), without_recipients)?.collect::<Result<Vec<_>>>()?;
    let Some(last) = found.last().map(|message| message.envelope.id) else { return Ok(found) };
    let mut statement = connection
        .prepare_cached(&format!("{RECIPIENT} WHERE message > ?1 AND message <= ?2 ORDER BY message, number"))?;
    let mut rows = statement.query((after, last.0))?;
    // Both are in the same order, so that one walk brings them together.
    let mut place = found.iter_mut().peekable();
    while let Some(row) = rows.next()? {
        let id = QueueId(row.get(10)?);
        while place.next_if(|message| message.envelope.id < id).is_some() {}
        if let Some(message) = place.peek_mut().filter(|message| message.envelope.id == id) {
            message.recipients.push(recipient(row)?);
        }
    }
    Ok(found)
}

/// A message of the queue, with those of its recipients that `only` names, or all.
pub fn message(connection: &Connection, id: QueueId, only: Option<&[u32]>) -> Result<Option<QueuedMessage>> {
    let id = column(id.0);
    let mut statement = connection.prepare_cached(&format!("{MESSAGE} WHERE message = ?1"))?;
    let Some(mut message) = statement.query_row([id], without_recipients).optional()? else { return Ok(None) };
    match only {
        None => {
            let mut statement =
                connection.prepare_cached(&format!("{RECIPIENT} WHERE message = ?1 ORDER BY number"))?;
            message.recipients = statement.query_map([id], recipient)?.collect::<Result<_>>()?;
        }
        Some(numbers) => {
            let mut statement =
                connection.prepare_cached(&format!("{RECIPIENT} WHERE message = ?1 AND number = ?2"))?;
            for number in numbers.iter().collect::<BTreeSet<_>>() {
                message.recipients.extend(statement.query_row((id, number), recipient).optional()?);
            }
        }
    }
    Ok(Some(message))
}

fn without_recipients(row: &Row<'_>) -> Result<QueuedMessage> {
    let parameters: u32 = row.get(4)?;
    let reverse_path: String = row.get(2)?;
    let envelope = QueuedEnvelope {
        id: QueueId(row.get(7)?),
        arrived: UnixMillis(row.get(1)?),
        reverse_path: match reverse_path.as_str() {
            "" => ReversePath::Null,
            _ => ReversePath::Address(address(row, 2)?),
        },
        account: row.get::<_, Option<String>>(3)?.and_then(|name| AccountName::parse(&name)),
        eight_bit: parameters & 1 != 0,
        smtputf8: parameters & 2 != 0,
        require_tls: require_tls(parameters),
        dsn_return: match parameters & 24 {
            8 => Some(DsnReturn::Full),
            16 => Some(DsnReturn::Headers),
            _ => None,
        },
        envelope_id: row.get(5)?,
    };
    Ok(QueuedMessage { envelope, blob: BlobId(row.get(0)?), octets: row.get(6)?, recipients: Vec::new() })
}

fn recipient(row: &Row<'_>) -> Result<QueuedRecipient> {
    let last: Option<String> = row.get(8)?;
    Ok(QueuedRecipient {
        number: row.get(0)?,
        recipient: Recipient {
            address: address(row, 1)?,
            notify: row.get::<_, Option<u32>>(2)?.map(notify),
            original: row.get(3)?,
        },
        via: if row.get_ref(9)? == rusqlite::types::ValueRef::Null { None } else { Some(address(row, 9)?) },
        state: state(row.get(4)?, row.get(5)?),
        attempts: row.get(6)?,
        delay_reported: row.get(7)?,
        // A try that cannot be read is history that is lost, no more.
        last: last.and_then(|text| serde_json::from_str(&text).ok()),
    })
}

/// The conservation of mail: every accepted recipient is delivered, bounced, discarded or in the queue.
pub fn audit(connection: &Connection) -> Result<Audit> {
    let mut total = connection.query_row(
        "SELECT count(*), coalesce(sum(accepted), 0), coalesce(sum(delivered), 0), coalesce(sum(bounced), 0),
             coalesce(sum(discarded), 0) FROM ledger",
        [],
        |row| {
            Ok(Ledger {
                messages: row.get(0)?,
                accepted: row.get(1)?,
                delivered: row.get(2)?,
                bounced: row.get(3)?,
                discarded: row.get(4)?,
                ..Ledger::default()
            })
        },
    )?;
    (total.waiting, total.held) = connection.query_row(
        "SELECT coalesce(sum(held = 0), 0), coalesce(sum(held), 0) FROM queued_recipient",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut statement = connection.prepare(
        "WITH waiting AS (SELECT message, count(*) AS recipients FROM queued_recipient GROUP BY message)
         SELECT message FROM ledger LEFT JOIN waiting USING (message)
             WHERE accepted != delivered + bounced + discarded + coalesce(recipients, 0)
         UNION SELECT message FROM waiting WHERE message NOT IN (SELECT message FROM ledger)
         LIMIT ?1",
    )?;
    let unbalanced = statement.query_map([UNBALANCED_NAMED_MAX], |row| row.get(0).map(QueueId))?;
    Ok(Audit { total, unbalanced: unbalanced.collect::<Result<_>>()? })
}

fn parameters(envelope: &QueuedEnvelope) -> u32 {
    let dsn = match envelope.dsn_return {
        None => 0,
        Some(DsnReturn::Full) => 8,
        Some(DsnReturn::Headers) => 16,
    };
    let tls = match envelope.require_tls {
        RequireTls::Ordinary => 0,
        RequireTls::Required => 4,
        RequireTls::Optional => 32,
    };
    u32::from(envelope.eight_bit) | u32::from(envelope.smtputf8) << 1 | tls | dsn
}

fn require_tls(parameters: u32) -> RequireTls {
    match (parameters & 4 != 0, parameters & 32 != 0) {
        (true, _) => RequireTls::Required,
        (false, true) => RequireTls::Optional,
        (false, false) => RequireTls::Ordinary,
    }
}

fn notify_column(notify: Notify) -> u32 {
    match notify {
        Notify::Never => 0,
        Notify::On { success, failure, delay } => u32::from(success) | u32::from(failure) << 1 | u32::from(delay) << 2,
    }
}

fn notify(column: u32) -> Notify {
    match column {
        0 => Notify::Never,
        on => Notify::On { success: on & 1 != 0, failure: on & 2 != 0, delay: on & 4 != 0 },
    }
}

/// A number as a column holds it. One that is senselessly great must not cost others their commit.
pub fn column(number: u64) -> u64 {
    number.min(i64::MAX as u64)
}

fn state_columns(state: QueueState) -> (bool, u64) {
    match state {
        QueueState::Waiting(due) => (false, column(due.0)),
        QueueState::Held => (true, 0),
    }
}

fn state(held: bool, due: u64) -> QueueState {
    if held { QueueState::Held } else { QueueState::Waiting(UnixMillis(due)) }
}

fn address(row: &Row<'_>, column: usize) -> Result<Address> {
    let text: String = row.get(column)?;
    Address::parse(&text).map_err(|error| {
        let cause = format!("{text:?} is no address: {error:?}");
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, cause.into())
    })
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
