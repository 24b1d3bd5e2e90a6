//! One courier: carries jobs to one destination, over one connection as long as it bears.

use crate::destination::destination;
use crate::outcome::{self, Conclusion};
use crate::{Idle, InFlight, QueueManager, entry};
use directory::Transport;
use mail::queue::Outcome;
use mail::{
    Attempt, Commit, EnhancedStatus, Event, Happening, QueueChange, QueueState, QueuedMessage, QueuedRecipient,
    ReversePath, Settled,
};
use queue::{Contact, Errand, Feedback, Job};
use relay::{Call, Hosts, Parcel};
use sender_auth::srs::Day;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::StoreError;
use tokio::sync::oneshot;

/// How long a connection is kept open for more to carry. Most servers bear it; opening another costs more.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// How often an outcome is offered to a store that fails. What was delivered and cannot be written down would be
/// delivered again.
const OUTCOME_TRIES_MAX: u32 = 30;
/// The wait between two of them.
const OUTCOME_RETRY: Duration = Duration::from_secs(1);

/// A courier's life.
pub(crate) async fn run(mut errand: InFlight) {
    let manager = errand.manager.clone();
    let mut line = Line::default();
    let begun = Instant::now();
    let mut carried = 0;
    while let Some(job) = &errand.job {
        let contact = manager.carry(job, &mut line).await;
        let is_over = !errand.is_courier || contact.is_none();
        if let Some(done) = contact {
            manager.report(&mut errand, done);
        }
        carried += 1;
        let house = &manager.house;
        let is_worn = carried >= house.messages_per_connection_max || begun.elapsed() >= house.connection_time_max;
        if is_over || manager.is_stopping() || is_worn || (line.is_open() && manager.others_wait(&errand)) {
            break;
        }
        // Without an open connection a new courier is as good; the schedule knows better whether to send one.
        if line.is_open() || line.is_local {
            errand.job = manager.schedule().next_for(&errand.destination, deliver::now());
        }
        if errand.job.is_none() && line.is_open() {
            errand.job = manager.wait_for_work(&errand).await;
        }
    }
    line.close().await;
}

/// The way to the destination while a courier goes it.
#[derive(Default)]
struct Line {
    hosts: Option<Hosts>,
    call: Option<Call>,
    /// No connection is needed.
    is_local: bool,
}

impl Line {
    fn is_open(&self) -> bool {
        self.call.as_ref().is_some_and(Call::is_usable)
    }

    async fn close(self) {
        if let Some(call) = self.call {
            call.close().await;
        }
    }
}

/// For the schedule: the new state of each recipient; `None` when it is settled.
pub(crate) type States = Vec<(u32, Option<QueueState>)>;

/// A job that is through.
#[derive(Default)]
struct Done {
    states: States,
    contact: Option<Contact>,
    /// Those that go elsewhere from now on.
    moved: Vec<(mail::QueueEntry, mail::RequireTls)>,
}

impl QueueManager {
    /// Waits with an open connection.
    async fn wait_for_work(&self, errand: &InFlight) -> Option<Job> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (hand, mut work) = oneshot::channel();
        self.idle().push(Idle { number, destination: errand.destination.clone(), hand });
        if self.is_stopping() {
            self.idle().clear();
        }
        // Whoever came in between has found nobody to send away.
        if self.schedule().places_wanted(1, deliver::now()) > 0 {
            self.wake.notify_one();
        }
        if let Ok(job) = tokio::time::timeout(IDLE_MAX, &mut work).await {
            return job.ok();
        }
        let mut idle = self.idle();
        let place = idle.iter().position(|waiting| waiting.number == number);
        match place {
            Some(place) => {
                idle.swap_remove(place);
                None
            }
            // Work was handed over just now.
            None => work.try_recv().ok(),
        }
    }

    fn others_wait(&self, errand: &InFlight) -> bool {
        self.schedule().others_wait(&errand.destination, deliver::now())
    }

    fn report(&self, errand: &mut InFlight, done: Done) {
        let Some(job) = errand.job.take() else { return };
        let destination = job.destination.clone();
        let contact = done.contact.unwrap_or(Contact::Unknown);
        let feedback = self.schedule().report(job, &done.states, contact, deliver::now());
        for (entry, wish) in done.moved {
            self.insert(&entry, wish);
        }
        match feedback {
            Feedback::Down(until) => {
                let seconds = until.0.saturating_sub(deliver::now().0) / 1_000;
                tracing::warn!(%destination, seconds, "destination is down");
            }
            Feedback::Up => tracing::info!(%destination, "destination is up again"),
            Feedback::None => {}
        }
        self.wake.notify_one();
    }

    /// Does one job and makes its outcome durable. `None`: it could not be worked on, and is tried again.
    async fn carry(&self, job: &Job, line: &mut Line) -> Option<Done> {
        let message = match self.house.store.queued_for(job.message, job.recipients.clone()).await {
            Ok(Some(message)) => message,
            // Settled by an administrator before it started.
            Ok(None) => {
                let states = job.recipients.iter().map(|number| (*number, None)).collect();
                return Some(Done { states, ..Done::default() });
            }
            Err(error) => {
                tracing::error!(queue_id = %job.message, %error, "a queued message cannot be read; it is tried again");
                return None;
            }
        };
        let known = |number: &u32| message.recipients.iter().any(|queued| queued.number == *number);
        let gone = job.recipients.iter().filter(|number| !known(number));
        let mut states: States = gone.map(|number| (*number, None)).collect();
        // Held by an administrator just now.
        let (held, waiting): (Vec<&QueuedRecipient>, Vec<&QueuedRecipient>) =
            message.recipients.iter().partition(|queued| queued.state == QueueState::Held);
        states.extend(held.iter().map(|queued| (queued.number, Some(QueueState::Held))));
        // The tables may say another way than when these were queued: they leave this destination, and join the other.
        let sender = message.envelope.reverse_path.to_string();
        let demand = self.demand(&sender, message.envelope.require_tls);
        let mut transport = None;
        let (present, moved): (Vec<&QueuedRecipient>, Vec<&QueuedRecipient>) =
            waiting.into_iter().partition(|queued| {
                // Asked for once: the tables may be read anew at any time.
                let found = self.transport(&queued.recipient.address, &sender);
                let is_here = destination(&found, &queued.recipient.address.domain, demand) == job.destination;
                if is_here {
                    transport.get_or_insert(found);
                }
                is_here
            });
        states.extend(moved.iter().map(|queued| (queued.number, None)));
        let at_once = |queued| mail::QueueEntry {
            state: QueueState::Waiting(deliver::now()),
            ..entry(&message.envelope, queued)
        };
        let moved = moved.into_iter().map(|queued| (at_once(queued), message.envelope.require_tls)).collect();
        let Some(transport) = transport else { return Some(Done { states, moved, contact: None }) };
        let (outcome, contact) = self.work_on(job, &message, &present, &transport, line).await?;
        states.extend(outcome);
        Some(Done { states, contact: Some(contact), moved })
    }

    /// What becomes of recipients that are still to be worked on, made durable; they share this transport.
    async fn work_on(
        &self,
        job: &Job,
        message: &QueuedMessage,
        present: &[&QueuedRecipient],
        transport: &Transport,
        line: &mut Line,
    ) -> Option<(States, Contact)> {
        let is_try = job.errand != Errand::Overdue;
        line.is_local |= is_try && matches!(transport, Transport::Local | Transport::Discard(_) | Transport::Error(_));
        let (attempts, contact) = match transport {
            _ if !is_try => (overdue(present), Contact::Unknown),
            Transport::Local => return Some((self.deliver_here(message, present).await?, Contact::Reached)),
            Transport::Discard(rule) => {
                let rule = format!("transport table: {rule}");
                return Some((self.discard(message, present, &rule).await?, Contact::Unknown));
            }
            Transport::Error(text) => (all(present, &refused_by_table(text)), Contact::Unknown),
            Transport::Direct | Transport::Smtp(_) | Transport::Lmtp(_) | Transport::LmtpSocket(_) => {
                self.hand_over(message, present, transport, line).await
            }
        };
        let conclusion = outcome::conclude(message, attempts, &self.house.plan, is_try, deliver::now());
        Some((self.settle(message, conclusion).await.ok()?, contact))
    }

    /// Gives recipients to the next hop: over the open connection, or the first host that answers. When a connection
    /// breaks before the message was whole, the remaining hosts are tried at once.
    async fn hand_over(
        &self,
        message: &QueuedMessage,
        present: &[&QueuedRecipient],
        transport: &Transport,
        line: &mut Line,
    ) -> (Vec<(u32, Attempt)>, Contact) {
        let mut attempts: BTreeMap<u32, Attempt> = BTreeMap::new();
        let mut contact = Contact::Failed;
        let mut is_fresh = false;
        loop {
            let left: Vec<&QueuedRecipient> =
                present.iter().filter(|queued| !attempts.contains_key(&queued.number)).copied().collect();
            if left.is_empty() {
                break;
            }
            if !line.is_open() {
                is_fresh = true;
                match self.open(message, &left, transport, line).await {
                    Ok(()) => {}
                    Err(attempt) => {
                        // What is wrong with a domain for good says nothing of a host being down, and must come to
                        // everybody who writes there.
                        if attempt.outcome == Outcome::Failed {
                            contact = Contact::Unknown;
                        }
                        attempts.extend(left.iter().map(|queued| (queued.number, attempt.clone())));
                        break;
                    }
                }
            }
            let Some(call) = line.call.as_mut() else { break };
            let Some((reverse_path, group)) = self.next_group(message, &left) else { break };
            let parcel =
                Parcel { envelope: &message.envelope, reverse_path, blob: message.blob, octets: message.octets };
            let sent = call.send(&parcel, &group, &*self.house.store).await;
            contact = if sent.is_reached { Contact::Reached } else { contact };
            let is_lost = sent.is_lost;
            attempts.extend(sent.attempts);
            if !sent.unable.is_empty() && !is_lost {
                // Another host may have what this one lacks.
                if let Some(call) = line.call.take() {
                    call.close().await;
                }
                if !line.hosts.as_mut().is_some_and(Hosts::next) {
                    attempts.extend(sent.unable);
                }
                is_fresh = true;
                continue;
            }
            if is_lost {
                line.call = None;
                // A kept connection may have been closed by a peer that waited long enough: a new one is tried. After a
                // fresh one broke, the other hosts are; when there are none, that is the outcome.
                let others =
                    line.hosts.as_mut().is_some_and(|hosts| if is_fresh { hosts.next() } else { hosts.rewind() });
                if !others {
                    let cause = sent.loss.unwrap_or_else(lost);
                    let left = present.iter().filter(|queued| !attempts.contains_key(&queued.number));
                    let rest: Vec<_> = left.map(|queued| (queued.number, cause.clone())).collect();
                    attempts.extend(rest);
                }
            }
        }
        (attempts.into_iter().collect(), contact)
    }

    async fn open(
        &self,
        message: &QueuedMessage,
        left: &[&QueuedRecipient],
        transport: &Transport,
        line: &mut Line,
    ) -> Result<(), Attempt> {
        let Some(first) = left.first() else { return Ok(()) };
        let domain = &first.recipient.address.domain;
        if line.hosts.is_none() {
            let demand = self.demand(&message.envelope.reverse_path.to_string(), message.envelope.require_tls);
            line.hosts = Some(self.house.relay.hosts(transport, domain, demand).await?);
        }
        let Some(hosts) = line.hosts.as_mut() else { return Err(lost()) };
        let login = match transport {
            Transport::Smtp(hop) => self.house.directory.relay_login(hop),
            _ => None,
        };
        line.call = Some(self.house.relay.open(hosts, login.as_ref()).await?);
        Ok(())
    }

    /// Recipients that share a reverse-path: what is forwarded has one of our making, so that SPF of its sender does not
    /// fail it.
    fn next_group<'a>(
        &self,
        message: &QueuedMessage,
        left: &[&'a QueuedRecipient],
    ) -> Option<(ReversePath, Vec<&'a QueuedRecipient>)> {
        let path_of = |queued: &QueuedRecipient| match (&message.envelope.reverse_path, &queued.via, &self.house.srs) {
            (ReversePath::Address(address), Some(_), Some(srs)) if !self.is_ours(&address.domain) => {
                ReversePath::Address(srs.forward(address, Day::of(deliver::now().0 / 1_000)))
            }
            (path, _, _) => path.clone(),
        };
        let path = path_of(left.first()?);
        let group = left.iter().filter(|queued| path_of(queued) == path).copied().collect();
        Some((path, group))
    }

    fn is_ours(&self, domain: &mail::Domain) -> bool {
        self.house.directory.class_of(domain) == directory::DomainClass::Hosted
    }

    async fn discard(&self, message: &QueuedMessage, present: &[&QueuedRecipient], rule: &str) -> Option<States> {
        let id = message.envelope.id;
        let mut queue = Vec::new();
        for queued in present {
            let what = Happening::Discarded { by: rule.to_owned() };
            let recipient = Some(queued.recipient.address.to_string());
            queue.push(QueueChange::Tell { message: id, event: Event { at: deliver::now(), recipient, what } });
            queue.push(QueueChange::Settle { message: id, number: queued.number, how: Settled::Discarded });
        }
        let commit = Commit { queue, ..Commit::default() };
        self.persist(&commit).await.ok()?;
        log(message, &commit.queue);
        Some(present.iter().map(|queued| (queued.number, None)).collect())
    }

    async fn deliver_here(&self, message: &QueuedMessage, present: &[&QueuedRecipient]) -> Option<States> {
        let mut states = Vec::new();
        for queued in present {
            let conclusion = self.deliver_locally(message, queued).await;
            match conclusion {
                Some(conclusion) => states.extend(self.settle(message, conclusion).await.ok()?),
                None => states.push((queued.number, None)),
            }
        }
        Some(states)
    }

    /// Makes what follows from a try durable, reports included, and gives the new states. One whose failure could not be
    /// reported yet is not among them: it is tried again. An error: the store does not take it; the try is made again.
    pub(crate) async fn settle(&self, message: &QueuedMessage, conclusion: Conclusion) -> Result<States, StoreError> {
        let written = self.house.reporter.write(message, conclusion).await;
        self.persist(&written.commit).await?;
        log(message, &written.commit.queue);
        for cause in &written.unreported {
            tracing::warn!(queue_id = %message.envelope.id, to = %message.envelope.reverse_path, %cause, "no report");
        }
        for queued in written.queued {
            deliver::QueueDoor::queued(self, queued);
        }
        Ok(written.states)
    }

    /// Commits, again and again while the store fails.
    pub(crate) async fn persist(&self, commit: &Commit) -> Result<(), StoreError> {
        for tries in 1.. {
            match self.house.store.commit(commit.clone()).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Closed) => return Err(StoreError::Closed),
                Err(error) if tries >= OUTCOME_TRIES_MAX => {
                    tracing::error!(%error, "an outcome could not be written; mail may be sent twice");
                    return Err(error);
                }
                Err(error) => {
                    tracing::error!(%error, tries, "an outcome cannot be written; trying again");
                    tokio::time::sleep(OUTCOME_RETRY).await;
                }
            }
        }
        Err(StoreError::Closed)
    }
}

/// What became of recipients, once it is durable.
pub(crate) fn log(message: &QueuedMessage, changes: &[QueueChange]) {
    let id = message.envelope.id;
    for change in changes {
        let QueueChange::Tell { event, .. } = change else { continue };
        let to = event.recipient.as_deref().unwrap_or_default();
        if let Happening::Attempted(attempt) = &event.what {
            log_try(message, to, attempt);
        } else if let Happening::Bounced { cause, report } = &event.what {
            tracing::info!(queue_id = %id, to, cause, report, "given up");
        } else if let Happening::Discarded { by } = &event.what {
            tracing::info!(queue_id = %id, to, rule = by, "discarded");
        }
    }
}

fn log_try(message: &QueuedMessage, to: &str, attempt: &Attempt) {
    let outcome = match attempt.outcome {
        Outcome::Delivered => "sent",
        Outcome::Deferred => "deferred",
        Outcome::Failed => "failed",
    };
    metrics::counter!("outbound_recipients_total", "outcome" => outcome).increment(1);
    let delay_ms = deliver::now().0.saturating_sub(message.envelope.arrived.0);
    if attempt.outcome == Outcome::Delivered {
        metrics::histogram!("outbound_delay_seconds").record(delay_ms as f64 / 1_000.0);
    }
    tracing::info!(
        queue_id = %message.envelope.id, from = %message.envelope.reverse_path, to, outcome, status = %attempt.status,
        relay = attempt.peer.as_deref(), tls = attempt.tls.as_deref(), reply = %attempt.text, delay_ms,
        "delivery"
    );
}

/// What an `error:` transport says: a text, with its own status in front or none. One of class 4 only puts off.
fn refused_by_table(text: &str) -> Attempt {
    let (status, text) = match text.split_once(' ').map(|(first, rest)| (EnhancedStatus::parse(first), rest)) {
        Some((Some(status), rest)) if status.class != 2 => (status, rest),
        _ => (EnhancedStatus::new(5, 3, 0), text),
    };
    let outcome = if status.class == 4 { Outcome::Deferred } else { Outcome::Failed };
    Attempt::finding(outcome, status, text)
}

/// The same outcome for all.
fn all(present: &[&QueuedRecipient], attempt: &Attempt) -> Vec<(u32, Attempt)> {
    present.iter().map(|queued| (queued.number, attempt.clone())).collect()
}

/// Nothing is tried: what was found last still holds.
fn overdue(present: &[&QueuedRecipient]) -> Vec<(u32, Attempt)> {
    let down = || {
        let text = "the destination was down and other messages to it failed";
        Attempt::finding(Outcome::Deferred, EnhancedStatus::new(4, 4, 1), text)
    };
    let last = |queued: &QueuedRecipient| queued.last.clone().unwrap_or_else(down);
    present.iter().map(|queued| (queued.number, Attempt { outcome: Outcome::Deferred, ..last(queued) })).collect()
}

fn lost() -> Attempt {
    Attempt::finding(Outcome::Deferred, EnhancedStatus::new(4, 4, 2), "the connection was lost")
}
