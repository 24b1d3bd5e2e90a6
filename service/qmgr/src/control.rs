//! What administrators may do with the queue: look at it, hold, release, try now, bounce now, delete (R143, R218).

mod walk;

use crate::courier::log;
use crate::destination::plain;
use crate::outcome::{Conclusion, Told};
use crate::{QueueManager, entry};
use mail::queue::Outcome;
use mail::{
    Attempt, Commit, EnhancedStatus, Event, Happening, QueueChange, QueueEntry, QueueId, QueueState, QueuedEnvelope,
    QueuedMessage, QueuedRecipient, Settled, UnixMillis,
};
use queue::{DestinationKey, EntryState, Flush};
use serde::{Deserialize, Serialize};
use std::fmt;
use store::StoreError;
use walk::Walk;

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
    /// This destination, as the listing names it, or the domain in it; whatever its mail demands of the way.
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
    /// This happened when something was done already, which stays done.
    Partly(Changed, Box<ControlError>),
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
            ControlError::Partly(done, cause) => {
                write!(f, "{cause}; {} recipients were changed before", done.recipients)
            }
        }
    }
}

impl std::error::Error for ControlError {}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> ControlError {
        ControlError::Store(error)
    }
}

/// What a command did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changed {
    /// Recipients that were changed.
    pub recipients: u64,
    /// Recipients that are meant too, but were being tried just then: what becomes of them is the next hop's to say.
    pub active: u64,
}

impl Changed {
    /// What is to be said of a command that ended like this.
    fn after(self, end: Result<(), ControlError>) -> Result<Changed, ControlError> {
        match end {
            Ok(()) => Ok(self),
            Err(cause) if self.recipients > 0 => Err(ControlError::Partly(self, Box::new(cause))),
            Err(cause) => Err(cause),
        }
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
    pub(crate) fn everything() -> Selection {
        Selection { all: true, ..Selection::default() }
    }

    fn is_empty(&self) -> bool {
        *self == Selection::default()
    }

    fn ids(&self) -> Result<Vec<QueueId>, ControlError> {
        let parse = |text: &String| {
            QueueId::parse(text).ok_or_else(|| ControlError::Unknown(format!("{text:?} is no queue id")))
        };
        self.messages.iter().map(parse).collect()
    }

    fn fits(
        &self,
        envelope: &QueuedEnvelope,
        queued: &QueuedRecipient,
        destination: impl FnOnce() -> DestinationKey,
        now: UnixMillis,
    ) -> bool {
        let age = now.0.saturating_sub(envelope.arrived.0) / 1_000;
        let reason = || queued.last.as_ref().map(|last| last.text.to_lowercase()).unwrap_or_default();
        let is_account = |wanted: &String| {
            envelope.account.as_ref().is_some_and(|account| account.as_str().eq_ignore_ascii_case(wanted))
        };
        self.held.is_none_or(|held| held == (queued.state == QueueState::Held))
            && self.older_than_seconds.is_none_or(|least| age >= least)
            && self.account.as_ref().is_none_or(is_account)
            && self.sender.as_ref().is_none_or(|wanted| is_of(wanted, &envelope.reverse_path.to_string()))
            && self.recipient.as_ref().is_none_or(|wanted| is_of(wanted, &queued.recipient.address.to_string()))
            && self.reason.as_ref().is_none_or(|wanted| reason().contains(&wanted.to_lowercase()))
            && self.destination.as_ref().is_none_or(|wanted| is_named(wanted, destination().as_str()))
    }
}

/// Whether this is the name of a destination, with or without `smtp:` or `relay:` and what its mail demands of the way.
fn is_named(wanted: &str, destination: &str) -> bool {
    let is_wanted = |name: &str| {
        name.eq_ignore_ascii_case(wanted)
            || match name.split_once(':') {
                Some(("smtp", domain)) => domain.eq_ignore_ascii_case(wanted),
                // Tables write `smtp:` for it.
                Some(("relay", hop)) => {
                    [hop, &format!("smtp:{hop}")].iter().any(|hop| hop.eq_ignore_ascii_case(wanted))
                }
                _ => false,
            }
    };
    is_wanted(destination) || is_wanted(plain(destination))
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

impl QueueManager {
    /// Messages with the recipients that a selection means, in order of age, at most `limit`.
    pub async fn list(&self, selection: &Selection, limit: usize) -> Result<Vec<Listed>, ControlError> {
        let everything = Selection::everything();
        let selection = if selection.is_empty() { &everything } else { selection };
        let mut walk = Walk::new(self, selection).await?;
        let mut listed = Vec::new();
        while listed.len() < limit
            && let Some(message) = walk.next().await?
        {
            listed.push(self.listed(&message));
        }
        Ok(listed)
    }

    fn listed(&self, message: &QueuedMessage) -> Listed {
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
                destination: self.key_of(envelope, queued).to_string(),
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
            recipients: message.recipients.iter().map(one).collect(),
        }
    }

    /// Lets recipients wait until they are released. Those that are just being tried are held if they are deferred.
    pub async fn hold(&self, selection: &Selection, by: &str) -> Result<Changed, ControlError> {
        let event = Happening::Held { by: by.to_owned() };
        self.set(selection, QueueState::Held, event).await
    }

    /// Lets what is held go on at once.
    pub async fn release(&self, selection: &Selection, by: &str) -> Result<Changed, ControlError> {
        let event = Happening::Released { by: by.to_owned() };
        let due = QueueState::Waiting(deliver::now());
        self.set(selection, due, event).await
    }

    async fn set(&self, selection: &Selection, state: QueueState, what: Happening) -> Result<Changed, ControlError> {
        let mut changed = Changed::default();
        let end = self.set_each(selection, state, what, &mut changed).await;
        self.wake.notify_one();
        changed.after(end)
    }

    async fn set_each(
        &self,
        selection: &Selection,
        state: QueueState,
        what: Happening,
        changed: &mut Changed,
    ) -> Result<(), ControlError> {
        let is_hold = state == QueueState::Held;
        let mut walk = Walk::new(self, selection).await?;
        while let Some(seen) = walk.next().await? {
            let id = seen.envelope.id;
            let mut concerned = walk.again(&seen).await?.recipients;
            concerned.retain(|queued| (queued.state == QueueState::Held) != is_hold);
            if concerned.is_empty() {
                continue;
            }
            let mut queue = Vec::new();
            for queued in &concerned {
                let number = queued.number;
                queue.push(QueueChange::Wait { message: id, number, state, attempt: None, delay_reported: false });
                queue.push(tell(id, queued, what.clone()));
            }
            self.house.store.commit(Commit { queue, ..Commit::default() }).await?;
            if !is_hold {
                // The queue may be loading, from a page that was read while this was held: what is known is not loaded.
                for queued in &concerned {
                    let released = QueueEntry { state, ..entry(&seen.envelope, queued) };
                    self.insert(&released, seen.envelope.require_tls);
                }
            }
            let mut schedule = self.schedule();
            for queued in &concerned {
                schedule.set_state(id, queued.number, state, deliver::now());
            }
            changed.recipients += concerned.len() as u64;
        }
        Ok(())
    }

    /// Tries what waits at once, and forgets that its destinations are down. What is held stays held.
    pub async fn retry(&self, selection: &Selection) -> Result<Changed, ControlError> {
        let mut changed = Changed::default();
        if *selection == Selection::everything() {
            changed.recipients = self.schedule().flush(Flush::All, deliver::now()).into();
        } else {
            let mut walk = Walk::new(self, selection).await?;
            while let Some(message) = walk.next().await? {
                let numbers: Vec<u32> = message.recipients.iter().map(|queued| queued.number).collect();
                let flush = Flush::Recipients(message.envelope.id, &numbers);
                changed.recipients += u64::from(self.schedule().flush(flush, deliver::now()));
            }
        }
        self.wake.notify_one();
        Ok(changed)
    }

    /// Takes recipients out of the queue without telling anybody.
    pub async fn delete(&self, selection: &Selection, by: &str) -> Result<Changed, ControlError> {
        let mut changed = Changed::default();
        let end = self.delete_each(selection, by, &mut changed).await;
        changed.after(end)
    }

    async fn delete_each(&self, selection: &Selection, by: &str, changed: &mut Changed) -> Result<(), ControlError> {
        let mut walk = Walk::new(self, selection).await?;
        while let Some((mut claim, message)) = walk.next_claimed(changed).await? {
            let id = message.envelope.id;
            let mut queue = Vec::new();
            for queued in &message.recipients {
                queue.push(tell(id, queued, Happening::Discarded { by: by.to_owned() }));
                queue.push(QueueChange::Settle { message: id, number: queued.number, how: Settled::Discarded });
            }
            self.house.store.commit(Commit { queue: queue.clone(), ..Commit::default() }).await?;
            log(&message, &queue);
            claim.settled.extend(message.recipients.iter().map(|queued| queued.number));
            changed.recipients += message.recipients.len() as u64;
        }
        Ok(())
    }

    /// Gives recipients up at once: their senders are told.
    pub async fn bounce(&self, selection: &Selection, reason: &str) -> Result<Changed, ControlError> {
        let mut changed = Changed::default();
        let end = self.bounce_each(selection, reason, &mut changed).await;
        changed.after(end)
    }

    async fn bounce_each(
        &self,
        selection: &Selection,
        reason: &str,
        changed: &mut Changed,
    ) -> Result<(), ControlError> {
        let mut walk = Walk::new(self, selection).await?;
        while let Some((mut claim, message)) = walk.next_claimed(changed).await? {
            let attempt = |queued: &QueuedRecipient| {
                let said = queued.last.as_ref().map(|last| format!("; last: {}", last.text)).unwrap_or_default();
                Attempt::finding(Outcome::Failed, EnhancedStatus::new(5, 0, 0), &format!("{reason}{said}"))
            };
            let mut conclusion = Conclusion::default();
            for queued in &message.recipients {
                let settle =
                    QueueChange::Settle { message: message.envelope.id, number: queued.number, how: Settled::Bounced };
                conclusion.changes.push(settle);
                conclusion.states.push((queued.number, None));
                conclusion.failed.push(Told { recipient: queued.clone(), attempt: attempt(queued), until: None });
            }
            let settled = self.settle(&message, conclusion).await?;
            claim.settled.extend(settled.iter().map(|(number, _)| *number));
            changed.recipients += settled.len() as u64;
            if settled.len() < message.recipients.len() {
                return Err(ControlError::Unreported(message.envelope.id));
            }
        }
        Ok(())
    }
}

fn tell(message: QueueId, queued: &QueuedRecipient, what: Happening) -> QueueChange {
    let recipient = Some(queued.recipient.address.to_string());
    QueueChange::Tell { message, event: Event { at: deliver::now(), recipient, what } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_meant_with_all_that_is_demanded_of_it() {
        for name in ["smtp:b.example", "smtp:b.example requiretls", "smtp:b.example tls-optional"] {
            assert!(is_named("b.example", name) && is_named("SMTP:B.example", name) && is_named(name, name));
            assert!(!is_named("a.example", name) && !is_named("b.example x", name));
        }
        assert!(!is_named("b.example requiretls", "smtp:b.example"));
        for wanted in ["[b.example]:25", "smtp:[b.example]:25", "relay:[b.example]:25"] {
            assert!(is_named(wanted, "relay:[b.example]:25") && is_named(wanted, "relay:[b.example]:25 requiretls"));
        }
        assert!(is_named("b.example", "relay:b.example") && !is_named("relay:b.example", "smtp:b.example"));
    }

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
