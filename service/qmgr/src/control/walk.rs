//! Goes through what a selection means, message by message, and takes it out of the couriers' reach where that is needed.

use super::{Changed, ControlError, Selection};
use crate::{QueueManager, entry, unknown};
use mail::{QueueId, QueuedMessage, UnixMillis};
use queue::{Contact, Job};
use std::collections::{BTreeMap, HashSet};

/// Messages read from the store in one go.
const MESSAGES_PER_STEP: usize = 100;

/// Goes through the messages that a selection means, oldest first, and holds no more of them than a page. What comes into
/// the queue meanwhile, such as the reports of a bounce, is not among them.
pub(super) struct Walk<'a> {
    manager: &'a QueueManager,
    selection: &'a Selection,
    /// Those that are named, where any are; otherwise all are looked at.
    named: Option<std::vec::IntoIter<QueueId>>,
    page: std::vec::IntoIter<QueuedMessage>,
    after: QueueId,
    /// Above all that were there at the start.
    end: QueueId,
    now: UnixMillis,
}

impl<'a> Walk<'a> {
    /// Begins. Nothing is done for a selection that names what is not in the queue.
    pub async fn new(manager: &'a QueueManager, selection: &'a Selection) -> Result<Walk<'a>, ControlError> {
        if selection.is_empty() {
            return Err(ControlError::NothingSelected);
        }
        let mut ids = selection.ids()?;
        ids.sort_unstable();
        ids.dedup();
        for id in &ids {
            let known = manager.house.store.queued_for(*id, Vec::new()).await?;
            known.ok_or_else(|| ControlError::Unknown(unknown(*id)))?;
        }
        Ok(Walk {
            manager,
            selection,
            named: (!ids.is_empty()).then(|| ids.into_iter()),
            page: Vec::new().into_iter(),
            after: QueueId(0),
            end: manager.house.reporter.next_id(),
            now: deliver::now(),
        })
    }

    /// The next message, with those of its recipients that are meant.
    pub async fn next(&mut self) -> Result<Option<QueuedMessage>, ControlError> {
        loop {
            if let Some(message) = self.page.next() {
                let message = self.narrowed(message);
                if !message.recipients.is_empty() {
                    return Ok(Some(message));
                }
                continue;
            }
            let Some(page) = self.page().await? else { return Ok(None) };
            self.page = page.into_iter();
        }
    }

    /// The next messages to look at; `None` after the last.
    async fn page(&mut self) -> Result<Option<Vec<QueuedMessage>>, ControlError> {
        let store = &*self.manager.house.store;
        if let Some(ids) = &mut self.named {
            let Some(id) = ids.next() else { return Ok(None) };
            return Ok(Some(store.queued(id).await?.into_iter().collect()));
        }
        let mut page = store.queued_messages(self.after, MESSAGES_PER_STEP).await?;
        page.retain(|message| message.envelope.id < self.end);
        self.after = page.last().map_or(self.after, |last| last.envelope.id);
        Ok((!page.is_empty()).then_some(page))
    }

    /// A message as it is now, with those that are still there and still meant.
    pub async fn again(&self, seen: &QueuedMessage) -> Result<QueuedMessage, ControlError> {
        Ok(self.narrowed(self.read(seen).await?))
    }

    async fn read(&self, seen: &QueuedMessage) -> Result<QueuedMessage, ControlError> {
        let numbers = seen.recipients.iter().map(|queued| queued.number).collect();
        let found = self.manager.house.store.queued_for(seen.envelope.id, numbers).await?;
        Ok(found.unwrap_or_else(|| QueuedMessage { recipients: Vec::new(), ..seen.clone() }))
    }

    /// The next message as it is now, with those of its recipients that are meant and that no courier has: none can take
    /// them up before the claim ends. Those that a courier has are counted as active.
    pub async fn next_claimed(
        &mut self,
        changed: &mut Changed,
    ) -> Result<Option<(Claim<'a>, QueuedMessage)>, ControlError> {
        while let Some(mut seen) = self.next().await? {
            let mut claim = Claim { manager: self.manager, jobs: BTreeMap::new(), settled: HashSet::new() };
            for queued in &seen.recipients {
                // While the queue is still being loaded, not all are known.
                self.manager.insert(&entry(&seen.envelope, queued), seen.envelope.require_tls);
                let job = self.manager.schedule().claim(seen.envelope.id, queued.number, deliver::now());
                claim.jobs.extend(job.map(|job| (queued.number, job)));
            }
            changed.active += (seen.recipients.len() - claim.jobs.len()) as u64;
            seen.recipients.retain(|queued| claim.jobs.contains_key(&queued.number));
            let message = self.read(&seen).await?;
            let left: HashSet<u32> = message.recipients.iter().map(|queued| queued.number).collect();
            claim.settled.extend(claim.jobs.keys().filter(|number| !left.contains(number)));
            let message = self.narrowed(message);
            if !message.recipients.is_empty() {
                return Ok(Some((claim, message)));
            }
        }
        Ok(None)
    }

    fn narrowed(&self, mut message: QueuedMessage) -> QueuedMessage {
        let envelope = &message.envelope;
        message.recipients.retain(|queued| {
            let destination = || self.manager.key_of(envelope, queued);
            self.selection.fits(envelope, queued, destination, self.now)
        });
        message
    }
}

/// Recipients that no courier takes up while an administrator decides on them. Those that are not settled go back to
/// where they were.
pub(super) struct Claim<'a> {
    manager: &'a QueueManager,
    /// By number.
    jobs: BTreeMap<u32, Job>,
    /// Those that have left the queue.
    pub settled: HashSet<u32>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut schedule = self.manager.schedule();
        for (number, job) in std::mem::take(&mut self.jobs) {
            let result = self.settled.contains(&number).then_some((number, None));
            schedule.report(job, result.as_slice(), Contact::Unknown, deliver::now());
        }
        drop(schedule);
        self.manager.wake.notify_one();
    }
}
