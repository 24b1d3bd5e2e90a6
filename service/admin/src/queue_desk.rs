//! What administrators ask about the queue and about single messages.

use crate::control::{House, Response};
use mail::{Event, QueueId, UnixMillis};
use qmgr::{ControlError, Selection};
use serde::{Deserialize, Serialize};
use store::queue::{Ledger, Story, StoryQuery};
use store::{MailStore, StoreError};

/// What can be done with the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum QueueAction {
    /// List messages, at most so many.
    List {
        /// The number.
        limit: usize,
    },
    /// Sum up destinations.
    Summary,
    /// Let recipients wait until they are released.
    Hold,
    /// Let what is held go on.
    Release,
    /// Try what waits at once.
    Retry,
    /// Give up at once; senders are told.
    Bounce {
        /// What they are told.
        reason: String,
    },
    /// Take out without telling anybody.
    Delete,
    /// Prove that mail is conserved.
    Audit,
}

/// A destination as it is summed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationFacts {
    /// Transport and next hop.
    pub destination: String,
    /// Recipients that wait, due or not.
    pub waiting: u32,
    /// Those of them that are due.
    pub due: u32,
    /// Recipients that are held.
    pub held: u32,
    /// Recipients that are being tried.
    pub active: u32,
    /// Connections.
    pub connections: u32,
    /// Arrival of the oldest message.
    pub oldest: Option<UnixMillis>,
    /// Nothing is tried before then.
    pub down_until: Option<UnixMillis>,
    /// Recipients by age: up to 5, 10, 20, 40, 80, 160, 320, 640, 1280 minutes, and the rest.
    pub ages: Vec<u32>,
}

/// The sums of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFacts {
    /// Messages with a story.
    pub messages: u64,
    /// Final recipients that were accepted.
    pub accepted: u64,
    /// Of these, delivered.
    pub delivered: u64,
    /// Of these, bounced.
    pub bounced: u64,
    /// Of these, discarded by a rule or an administrator.
    pub discarded: u64,
    /// Of these, waiting in the queue.
    pub waiting: u64,
    /// Of these, held in the queue.
    pub held: u64,
    /// Whether they add up, for every single message.
    pub balanced: bool,
    /// Messages for which they do not.
    pub unbalanced: Vec<String>,
}

/// One message's story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryFacts {
    /// The message.
    pub id: String,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// What became of its recipients; `None`: it was not accepted.
    pub ledger: Option<AuditFacts>,
}

impl AuditFacts {
    fn of(ledger: Ledger, unbalanced: &[QueueId]) -> AuditFacts {
        AuditFacts {
            messages: ledger.messages,
            accepted: ledger.accepted,
            delivered: ledger.delivered,
            bounced: ledger.bounced,
            discarded: ledger.discarded,
            waiting: ledger.waiting,
            held: ledger.held,
            balanced: ledger.is_balanced() && unbalanced.is_empty(),
            unbalanced: unbalanced.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<Story> for StoryFacts {
    fn from(story: Story) -> StoryFacts {
        let ledger = story.ledger.map(|ledger| AuditFacts::of(ledger, &[]));
        StoryFacts { id: story.message.to_string(), events: story.events, ledger }
    }
}

pub(crate) async fn answer(house: &House, action: QueueAction, selection: &Selection) -> Response {
    let by = "administrator";
    let queue = &house.queue;
    let changed = match action {
        QueueAction::List { limit } => {
            return match queue.list(selection, limit).await {
                Ok(messages) => Response::Queue(messages),
                Err(error) => failed(&error),
            };
        }
        QueueAction::Summary => return summary(house),
        QueueAction::Audit => return audit(&*house.store).await,
        QueueAction::Hold => queue.hold(selection, by).await,
        QueueAction::Release => queue.release(selection, by).await,
        QueueAction::Retry => queue.retry(selection).await,
        QueueAction::Bounce { reason } => queue.bounce(selection, &reason).await,
        QueueAction::Delete => queue.delete(selection, by).await,
    };
    match changed {
        Ok(changed) => Response::Changed(changed),
        Err(error) => failed(&error),
    }
}

fn failed(error: &ControlError) -> Response {
    Response::Failed(vec![error.to_string()])
}

fn summary(house: &House) -> Response {
    let facts = |summary: queue::DestinationSummary| DestinationFacts {
        destination: summary.destination.to_string(),
        waiting: summary.waiting,
        due: summary.due,
        held: summary.held,
        active: summary.in_flight,
        connections: summary.couriers,
        oldest: summary.oldest,
        down_until: summary.down_until,
        ages: summary.ages.to_vec(),
    };
    let is_busy = |facts: &DestinationFacts| facts.waiting + facts.held + facts.active > 0;
    Response::QueueSummary(house.queue.summary().into_iter().map(facts).filter(is_busy).collect())
}

/// Proves that mail is conserved, or names what does not add up; also for a store that no server has open.
pub async fn audit(store: &dyn MailStore) -> Response {
    match store.audit().await {
        Ok(audit) => Response::Audit(AuditFacts::of(audit.total, &audit.unbalanced)),
        Err(error) => Response::Failed(vec![error.to_string()]),
    }
}

/// The stories that are asked for; also for a store that no server has open.
pub async fn why(store: &dyn MailStore, about: Option<String>, within_seconds: Option<u64>, limit: usize) -> Response {
    match stories(store, about, within_seconds, limit).await {
        Ok(stories) => Response::Stories(stories.into_iter().map(StoryFacts::from).collect()),
        Err(error) => Response::Failed(vec![error.to_string()]),
    }
}

async fn stories(
    store: &dyn MailStore,
    about: Option<String>,
    within_seconds: Option<u64>,
    limit: usize,
) -> Result<Vec<Story>, StoreError> {
    if let Some(id) = about.as_deref().and_then(QueueId::parse)
        && let Some(story) = store.story(id).await?
    {
        return Ok(vec![story]);
    }
    let age = within_seconds.unwrap_or(u64::MAX).saturating_mul(1_000);
    let after = UnixMillis(deliver::now().0.saturating_sub(age));
    store.stories(StoryQuery { text: about, after, limit }).await
}
