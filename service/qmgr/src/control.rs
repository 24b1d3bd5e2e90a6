//! What administrators may do with the queue: look at it, hold, release, try now, bounce now, delete (R143, R218).

use crate::outcome::{Conclusion, Told};
use crate::{QueueManager, destination, unknown};
use mail::queue::Outcome;
use mail::{
    Attempt, Commit, EnhancedStatus, Event, Happening, QueueChange, QueueId, QueueState, QueuedMessage,
    QueuedRecipient, Settled, UnixMillis,
};
use queue::{EntryState, Flush};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use store::StoreError;

/// Messages read from the store in one go.
const MESSAGES_PER_STEP: usize = 500;

/// Which recipients are meant: those that fit everything that is given. Without any condition nothing is meant, unless
/// `all` says so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Everything that fits the rest.
    pub all: bool,
    /// These messages, by queue id.
    pub messages: Vec<String>,
    /// This reverse-path, or this domain of it; `<>` for the null one.
    pub sender: Option<String>,
    /// This recipient, or this domain.
    pub recipient: Option<String>,
    /// This destination, as the listing names it, or the domain in it.
    pub destination: Option<String>,
    /// This account submitted it.
    pub account: Option<String>,
    /// Older than so many seconds.
    pub older_than_seconds: Option<u64>,
    /// The last reason has this text in it, without regard to case.
    pub reason: Option<String>,
    /// Held, or not held.
    pub held: Option<bool>,
}

/// What cannot be done.
#[derive(Debug)]
pub enum ControlError {
    /// Nothing was selected: no condition at all.
    NothingSelected,
    /// Not a queue id, or not in the queue.
    Unknown(String),
    /// Some of its recipients are not given up: the report of it cannot be written now.
    Unreported(QueueId),
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::NothingSelected => f.write_str("nothing is selected: name messages, a condition, or --all"),
            ControlError::Unknown(text) => f.write_str(text),
            ControlError::Unreported(id) => {
                write!(
                    f,
                    "{id}: the report to its reverse-path cannot be written now, so it stays in the queue; see the log"
                )
            }
            ControlError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ControlError {}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> ControlError {
        ControlError::Store(error)
    }
}

/// A message as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub id: String,
    /// When it was accepted.
    pub arrived: UnixMillis,
    /// The reverse-path, empty for the null one.
    pub sender: String,
    /// The account that submitted it.
    pub account: Option<String>,
    /// Its size.
    pub octets: u64,
    /// Who still waits.
    pub recipients: Vec<ListedRecipient>,
}

/// A recipient as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRecipient {
    /// Its number in the message.
    pub number: u32,
    /// Whom it is for.
    pub address: String,
    /// Transport and next hop.
    pub destination: String,
    /// `waiting`, `held` or `active`.
    pub state: String,
    /// When it is tried next.
    pub due: Option<UnixMillis>,
    /// Tries so far.
    pub attempts: u32,
    /// The last try.
    pub last: Option<Attempt>,
}

impl Selection {
    fn is_empty(&self) -> bool {
        *self == Selection::default()
    }

    fn ids(&self) -> Result<Vec<QueueId>, ControlError> {
        let parse = |text: &String| {
            QueueId::parse(text).ok_or_else(|| ControlError::Unknown(format!("{text:?} is no queue id")))
        };
        self.messages.iter().map(parse).collect()
    }

    fn fits(&self, message: &QueuedMessage, queued: &QueuedRecipient, destination: &str, now: UnixMillis) -> bool {
        let sender = message.envelope.reverse_path.to_string();
        let age = now.0.saturating_sub(message.envelope.arrived.0) / 1_000;
        let reason = || queued.last.as_ref().map(|last| last.text.to_lowercase()).unwrap_or_default();
        let fits = |wanted: &Option<String>, address: &str| wanted.as_ref().is_none_or(|wanted| is_of(wanted, address));
        fits(&self.sender, &sender)
            && fits(&self.recipient, &queued.recipient.address.to_string())
            && self.destination.as_ref().is_none_or(|wanted| {
                destination.eq_ignore_ascii_case(wanted) || destination.eq_ignore_ascii_case(&format!("smtp:{wanted}"))
            })
            && self.account.as_ref().is_none_or(|wanted| {
                message.envelope.account.as_ref().is_some_and(|account| account.as_str().eq_ignore_ascii_case(wanted))
            })
            && self.older_than_seconds.is_none_or(|least| age >= least)
            && self.reason.as_ref().is_none_or(|wanted| reason().contains(&wanted.to_lowercase()))
            && self.held.is_none_or(|held| held == (queued.state == QueueState::Held))
    }
}

/// Whether an address is the one that is wanted, or of the domain that is.
fn is_of(wanted: &str, address: &str) -> bool {
    let wanted = wanted.trim_start_matches('@');
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    match wanted {
        "<>" | "" => address.is_empty(),
        _ => address.eq_ignore_ascii_case(wanted) || domain.eq_ignore_ascii_case(wanted),
    }
}

type Picked = (QueuedMessage, Vec<QueuedRecipient>);

impl QueueManager {
    /// Messages with the recipients that a selection means, in order of age, at most `limit`.
    pub async fn list(&self, selection: &Selection, limit: usize) -> Result<Vec<Listed>, ControlError> {
        let everything = Selection { all: true, ..Selection::default() };
        let selection = if selection.is_empty() { &everything } else { selection };
        let mut listed = Vec::new();
        self.each(selection, limit, |message, recipients| {
            listed.push(self.listed(&message, &recipients));
        })
        .await?;
        Ok(listed)
    }

    fn listed(&self, message: &QueuedMessage, recipients: &[QueuedRecipient]) -> Listed {
        let envelope = &message.envelope;
        let one = |queued: &QueuedRecipient| {
            let active = self.schedule().state(envelope.id, queued.number) == Some(EntryState::InFlight);
            let (state, due) = match queued.state {
                _ if active => ("active", None),
                QueueState::Held => ("held", None),
                QueueState::Waiting(due) => ("waiting", Some(due)),
            };
            ListedRecipient {
                number: queued.number,
                address: queued.recipient.address.to_string(),
                destination: self.destination_of(message, queued),
                state: state.to_owned(),
                due,
                attempts: queued.attempts,
                last: queued.last.clone(),
            }
        };
        Listed {
            id: envelope.id.to_string(),
            arrived: envelope.arrived,
            sender: envelope.reverse_path.to_string(),
            account: envelope.account.as_ref().map(ToString::to_string),
            octets: message.octets,
            recipients: recipients.iter().map(one).collect(),
        }
    }

    fn destination_of(&self, message: &QueuedMessage, queued: &QueuedRecipient) -> String {
        let address = &queued.recipient.address;
        let sender = message.envelope.reverse_path.to_string();
        let demand = self.demand(&sender, message.envelope.require_tls);
        destination(&self.transport(address, &sender), &address.domain, demand).to_string()
    }

    /// Goes through what a selection means.
    async fn each(
        &self,
        selection: &Selection,
        limit: usize,
        mut see: impl FnMut(QueuedMessage, Vec<QueuedRecipient>),
    ) -> Result<(), ControlError> {
        if selection.is_empty() {
            return Err(ControlError::NothingSelected);
        }
        let now = deliver::now();
        let mut left = limit;
        let mut pick = |message: QueuedMessage| {
            let fits = |queued: &&QueuedRecipient| {
                selection.fits(&message, queued, &self.destination_of(&message, queued), now)
            };
            let recipients: Vec<QueuedRecipient> = message.recipients.iter().filter(fits).cloned().collect();
            if !recipients.is_empty() && left > 0 {
                left -= 1;
                see(message, recipients);
            }
            left > 0
        };
        let ids = selection.ids()?;
        for id in &ids {
            let message = self.house.store.queued(*id).await?.ok_or_else(|| ControlError::Unknown(unknown(*id)))?;
            pick(message);
        }
        if !ids.is_empty() {
            return Ok(());
        }
        let mut after = QueueId(0);
        loop {
            let messages = self.house.store.queued_messages(after, MESSAGES_PER_STEP).await?;
            let Some(last) = messages.last() else { return Ok(()) };
            after = last.envelope.id;
            for message in messages {
                if !pick(message) {
                    return Ok(());
                }
            }
        }
    }

    async fn picked(&self, selection: &Selection) -> Result<Vec<Picked>, ControlError> {
        let mut picked = Vec::new();
        self.each(selection, usize::MAX, |message, recipients| picked.push((message, recipients))).await?;
        Ok(picked)
    }

    /// Lets recipients wait until they are released. Those that are just being tried are held if they are deferred.
    pub async fn hold(&self, selection: &Selection, by: &str) -> Result<u64, ControlError> {
        let event = Happening::Held { by: by.to_owned() };
        self.set(selection, QueueState::Held, event, |queued| queued.state != QueueState::Held).await
    }

    /// Lets what is held go on at once.
    pub async fn release(&self, selection: &Selection, by: &str) -> Result<u64, ControlError> {
        let event = Happening::Released { by: by.to_owned() };
        let due = QueueState::Waiting(deliver::now());
        self.set(selection, due, event, |queued| queued.state == QueueState::Held).await
    }

    /// Tries what waits at once, and forgets that its destinations are down. What is held stays held.
    pub async fn retry(&self, selection: &Selection) -> Result<u64, ControlError> {
        let now = deliver::now();
        if selection.all && *selection == (Selection { all: true, ..Selection::default() }) {
            let waited = self.schedule().flush(Flush::All, now);
            self.wake.notify_one();
            return Ok(u64::from(waited));
        }
        let mut waited = 0;
        for (message, recipients) in self.picked(selection).await? {
            if recipients.iter().any(|queued| queued.state != QueueState::Held) {
                waited += u64::from(self.schedule().flush(Flush::Message(message.envelope.id), now));
            }
        }
        self.wake.notify_one();
        Ok(waited)
    }

    async fn set(
        &self,
        selection: &Selection,
        state: QueueState,
        what: Happening,
        concerns: impl Fn(&QueuedRecipient) -> bool,
    ) -> Result<u64, ControlError> {
        let mut count = 0;
        for (message, recipients) in self.picked(selection).await? {
            let id = message.envelope.id;
            let mut queue = Vec::new();
            let concerned: Vec<u32> = recipients.iter().filter(|q| concerns(q)).map(|q| q.number).collect();
            for number in &concerned {
                queue.push(QueueChange::Wait {
                    message: id,
                    number: *number,
                    state,
                    attempt: None,
                    delay_reported: false,
                });
                queue.push(tell(&message, *number, what.clone()));
            }
            if concerned.is_empty() {
                continue;
            }
            self.house.store.commit(Commit { queue, ..Commit::default() }).await?;
            let mut schedule = self.schedule();
            for number in concerned {
                schedule.set_state(id, number, state, deliver::now());
                count += 1;
            }
        }
        self.wake.notify_one();
        Ok(count)
    }

    /// Takes recipients out of the queue without telling anybody.
    pub async fn delete(&self, selection: &Selection, by: &str) -> Result<u64, ControlError> {
        let mut count = 0;
        for (message, recipients) in self.picked(selection).await? {
            let id = message.envelope.id;
            let mut queue = Vec::new();
            for queued in &recipients {
                queue.push(tell(&message, queued.number, Happening::Discarded { by: by.to_owned() }));
                queue.push(QueueChange::Settle { message: id, number: queued.number, how: Settled::Discarded });
            }
            self.house.store.commit(Commit { queue, ..Commit::default() }).await?;
            let mut schedule = self.schedule();
            for queued in &recipients {
                schedule.remove(id, queued.number);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Gives recipients up at once: their senders are told.
    pub async fn bounce(&self, selection: &Selection, reason: &str) -> Result<u64, ControlError> {
        let mut count = 0;
        for (message, recipients) in self.picked(selection).await? {
            let attempt = |queued: &QueuedRecipient| {
                let said = queued.last.as_ref().map(|last| format!("; last: {}", last.text)).unwrap_or_default();
                Attempt::finding(Outcome::Failed, EnhancedStatus::new(5, 0, 0), &format!("{reason}{said}"))
            };
            let mut conclusion = Conclusion::default();
            for queued in &recipients {
                let settle =
                    QueueChange::Settle { message: message.envelope.id, number: queued.number, how: Settled::Bounced };
                conclusion.changes.push(settle);
                conclusion.states.push((queued.number, None));
                conclusion.failed.push(Told { recipient: queued.clone(), attempt: attempt(queued), until: None });
            }
            let settled = self.settle(&message, conclusion).await.ok_or(ControlError::Store(StoreError::Closed))?;
            let mut schedule = self.schedule();
            for (number, _) in &settled {
                schedule.remove(message.envelope.id, *number);
                count += 1;
            }
            drop(schedule);
            if settled.len() < recipients.len() {
                return Err(ControlError::Unreported(message.envelope.id));
            }
        }
        Ok(count)
    }

    /// How long the queue keeps mail, for listings.
    pub fn life(&self) -> Duration {
        self.house.plan.life
    }
}

fn tell(message: &QueuedMessage, number: u32, what: Happening) -> QueueChange {
    let recipient = message.recipients.iter().find(|queued| queued.number == number);
    let recipient = recipient.map(|queued| queued.recipient.address.to_string());
    QueueChange::Tell { message: message.envelope.id, event: Event { at: deliver::now(), recipient, what } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_their_domains_are_meant() {
        assert!(
            is_of("a@b.example", "A@B.example")
                && is_of("b.example", "a@b.example")
                && is_of("@b.example", "a@b.example")
        );
        assert!(is_of("<>", "") && !is_of("<>", "a@b.example") && !is_of("a", "a@b.example"));
    }
}
