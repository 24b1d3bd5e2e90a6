//! Stories as rows: how they are read, and how they are forgotten. What is told is written with the queue.

use super::queue::column;
use super::writer::Writer;
use crate::StoreError;
use crate::queue::{Ledger, STORIES_PER_ANSWER_MAX, Story, StoryQuery};
use mail::{Event, QueueId, UnixMillis};
use rusqlite::{Connection, OptionalExtension, Result};

/// Events that a kept message has room for on average.
const EVENTS_PER_MESSAGE_USUAL: u64 = 4;
/// Rows of each table that are looked at in one go when stories are forgotten.
pub const FORGOTTEN_PER_STEP: usize = 500;

/// The story of one message.
pub fn story(connection: &Connection, id: QueueId) -> Result<Option<Story>> {
    let mut statement = connection
        .prepare_cached("SELECT accepted, delivered, bounced, discarded, began FROM ledger WHERE message = ?1")?;
    let found = statement.query_row([column(id.0)], |row| {
        let ledger = Ledger {
            messages: 1,
            accepted: row.get(0)?,
            delivered: row.get(1)?,
            bounced: row.get(2)?,
            discarded: row.get(3)?,
            ..Ledger::default()
        };
        Ok((ledger, row.get::<_, String>(4)?))
    });
    let (mut ledger, mut events) = match found.optional()? {
        Some((ledger, began)) => (Some(ledger), serde_json::from_str::<Vec<Event>>(&began).unwrap_or_default()),
        None => (None, Vec::new()),
    };
    let mut statement = connection.prepare_cached("SELECT event FROM event WHERE message = ?1 ORDER BY number")?;
    for text in statement.query_map([column(id.0)], |row| row.get::<_, String>(0))? {
        events.extend(serde_json::from_str::<Event>(&text?).ok());
    }
    if let Some(ledger) = &mut ledger {
        let mut statement = connection
            .prepare_cached("SELECT count(*), coalesce(sum(held), 0) FROM queued_recipient WHERE message = ?1")?;
        let (queued, held) =
            statement.query_row([column(id.0)], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?)))?;
        (ledger.waiting, ledger.held) = (queued - held, held);
    }
    Ok((!events.is_empty() || ledger.is_some()).then_some(Story { message: id, events, ledger }))
}

/// The newest messages whose story has a text. Both tables are read backwards by their keys and merged, so that the newest
/// few are found without a look at the rest.
const STORIES: &str = "SELECT message FROM ledger WHERE message > ?1 AND (?2 IS NULL OR began LIKE ?2 ESCAPE '\\')
     UNION
     SELECT message FROM event WHERE message > ?1 AND (?2 IS NULL OR event LIKE ?2 ESCAPE '\\')
     ORDER BY message DESC LIMIT ?3";

/// Stories that a query asks for, the newest first. A text is looked for in all that are kept until enough is found: an
/// administrator asks seldom, and an index of texts would cost every delivery.
pub fn stories(connection: &Connection, query: &StoryQuery) -> Result<Vec<Story>> {
    let after = column(query.after.0.saturating_mul(1_000));
    let pattern = query.text.as_ref().map(|text| {
        let inner = json_text(text);
        format!("%{}%", inner.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
    });
    let mut statement = connection.prepare_cached(STORIES)?;
    let limit = query.limit.min(STORIES_PER_ANSWER_MAX);
    let rows = statement.query_map((after, pattern, limit), |row| row.get(0).map(QueueId))?;
    let ids = rows.collect::<Result<Vec<_>>>()?;
    let found = ids.into_iter().map(|id| story(connection, id)).collect::<Result<Vec<_>>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Stories of messages before this one are to be forgotten: those that came before `before`, and those beyond
/// `messages_max`. Counts its way through both tables, which is why no writer should ask it.
pub fn forgettable_before(connection: &Connection, before: UnixMillis, messages_max: u64) -> Result<QueueId> {
    let surplus: Option<u64> = connection
        .prepare_cached("SELECT message FROM ledger ORDER BY message DESC LIMIT 1 OFFSET ?1")?
        .query_row([column(messages_max)], |row| row.get(0))
        .optional()?;
    // Refusals have events and no line in the ledger.
    let events = messages_max.saturating_mul(EVENTS_PER_MESSAGE_USUAL);
    let surplus_events: Option<u64> = connection
        .prepare_cached("SELECT message FROM event ORDER BY message DESC, number DESC LIMIT 1 OFFSET ?1")?
        .query_row([column(events)], |row| row.get(0))
        .optional()?;
    let surplus = surplus.max(surplus_events).map_or(0, |message| message + 1);
    Ok(QueueId(column(before.0.saturating_mul(1_000).max(surplus))))
}

/// A place in the stories, in order of message and number of event.
pub type StoryPlace = (QueueId, u32);

impl Writer {
    /// Forgets stories of messages from a place on and before `before`; what is still in the queue stays. Looks at
    /// [`FORGOTTEN_PER_STEP`] rows of each table at most, and gives where to go on.
    pub fn forget_stories(
        &mut self,
        from: StoryPlace,
        before: QueueId,
    ) -> std::result::Result<Option<StoryPlace>, StoreError> {
        self.transaction(|connection, _| {
            let (QueueId(message), number) = from;
            let ledger: Option<u64> = connection
                .prepare_cached(
                    "SELECT message FROM ledger WHERE message >= ?1 AND message < ?2 ORDER BY message LIMIT 1 OFFSET ?3",
                )?
                .query_row((message, before.0, FORGOTTEN_PER_STEP), |row| row.get(0))
                .optional()?;
            let event: Option<(u64, u32)> = connection
                .prepare_cached(
                    "SELECT message, number FROM event WHERE (message, number) >= (?1, ?2) AND message < ?3
                     ORDER BY message, number LIMIT 1 OFFSET ?4",
                )?
                .query_row((message, number, before.0, FORGOTTEN_PER_STEP), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let next = ledger.map(|message| (message, 0)).into_iter().chain(event).min();
            let (end, end_number) = next.unwrap_or((before.0, 0));
            connection
                .prepare_cached(
                    "DELETE FROM event WHERE (message, number) >= (?1, ?2) AND (message, number) < (?3, ?4)
                         AND NOT EXISTS (SELECT 1 FROM queued WHERE queued.message = event.message)",
                )?
                .execute((message, number, end, end_number))?;
            connection
                .prepare_cached(
                    "DELETE FROM ledger WHERE message >= ?1 AND message < ?2
                         AND NOT EXISTS (SELECT 1 FROM queued WHERE queued.message = ledger.message)",
                )?
                .execute((message, end))?;
            Ok(next.map(|(message, number)| (QueueId(message), number)))
        })
    }
}

/// A text as it stands between the quotes of JSON.
fn json_text(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::tables;

    #[test]
    fn the_newest_stories_are_found_without_sorting_the_rest() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(tables::migrate(&mut connection, tables::STEPS).is_ok());
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {STORIES}")).unwrap();
        let steps = statement.query_map((1, None::<String>, 9), |row| row.get::<_, String>(3)).unwrap();
        let plan = steps.collect::<Result<Vec<_>>>().unwrap();
        assert!(plan.iter().any(|step| step.starts_with("MERGE")), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
    }
}
