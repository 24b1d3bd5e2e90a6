//! Runs the queue: due recipients go out, outcomes come in, reports are written.
//!
//! [`QueueManager`] is the only one that changes what is queued. It holds the schedule in memory (`queue::Schedule`); the
//! store holds the truth. A courier (`courier`) carries jobs to one destination, over one connection where there is one;
//! `outcome` says what follows from a try; `control` is what administrators may do.

mod control;
mod courier;
mod destination;
mod local;
mod outcome;
mod report;
mod tls_reports;

pub use control::{Changed, ControlError, Listed, ListedRecipient, Selection};
pub use destination::destinations_of;
pub use outcome::About;
pub use report::Reporter;
pub use tls_reports::{TlsJournal, TlsReports, TlsReportsDesk};

use deliver::{QueueDoor, Queued};
use destination::{destination, of_domain, whatever_the_demand};
use directory::{Directory, DomainClass, NextHop, Transport};
use mail::RequireTls;
use mail::{Address, Domain, QueueEntry, QueueId, QueuedEnvelope, QueuedRecipient, UnixMillis};
use queue::{DestinationKey, DestinationSummary, Errand, Flush, RetryPlan, Schedule, ScheduleSettings};
use relay::Relay;
use sender_auth::srs::Srs;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::{MailStore, StoreError};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Overdue jobs at once.
const OVERDUE_AT_ONCE_MAX: usize = 16;
/// How long to wait for one of them to end at most.
const OVERDUE_NAP: Duration = Duration::from_secs(1);
/// Domains whose queue runs on request are remembered.
const FLUSHED_MAX: usize = 1_000;
/// Entries read from the store in one go when the queue is loaded.
const LOADED_PER_STEP: usize = 5_000;
/// How long to wait before the store is asked again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(2);
/// Longest sleep of the manager; a clock that is set wakes nobody.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// How long couriers may go on when the server goes down. What is not through by then is tried again at the next start.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);

/// What the manager works with.
pub struct House {
    /// Our name.
    pub host_name: String,
    /// Where queue and mail are.
    pub store: Arc<dyn MailStore>,
    /// Which domains are ours, and which ways lead out.
    pub directory: Arc<Directory>,
    /// Takes mail to the next hop.
    pub relay: Arc<Relay>,
    /// Writes reports.
    pub reporter: Arc<Reporter>,
    /// Rewrites reverse-paths of what is forwarded.
    pub srs: Option<Arc<Srs>>,
    /// Where everything for the outside goes that no table sends elsewhere; without it, mail exchangers are looked up.
    pub smarthost: Option<NextHop>,
    /// When to try again and when to give up.
    pub plan: RetryPlan,
    /// Messages that one connection may carry.
    pub messages_per_connection_max: u32,
    /// How long one connection may be used.
    pub connection_time_max: Duration,
}

/// Runs the queue.
pub struct QueueManager {
    house: House,
    schedule: Mutex<Schedule>,
    /// Couriers with an open connection and nothing to carry.
    idle: Mutex<Vec<Idle>>,
    wake: Notify,
    /// Overdue jobs under way: each may write a report.
    overdue: AtomicUsize,
    stopping: AtomicBool,
    /// When a client last had the queue run for a domain.
    flushed: Mutex<HashMap<Domain, UnixMillis>>,
}

impl QueueManager {
    /// A manager with an empty schedule; [`run`](Self::run) loads it.
    pub fn new(house: House, settings: ScheduleSettings) -> Arc<QueueManager> {
        let schedule = Mutex::new(Schedule::new(settings, deliver::now()));
        Arc::new(QueueManager {
            house,
            schedule,
            idle: Mutex::default(),
            wake: Notify::new(),
            overdue: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            flushed: Mutex::default(),
        })
    }

    /// Loads the queue, then carries mail until `shutdown` ends.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        let mut couriers = JoinSet::new();
        tokio::pin!(shutdown);
        let load = self.load();
        tokio::pin!(load);
        let mut is_loaded = false;
        // Couriers that were let go and have not ended yet.
        let mut leaving = 0;
        loop {
            self.employ_idle();
            while let Some(errand) = self.next_errand() {
                couriers.spawn(courier::run(errand));
            }
            leaving += self.let_idle_go(leaving);
            let sleep = self.sleep();
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = self.wake.notified() => {}
                () = &mut load, if !is_loaded => is_loaded = true,
                Some(ended) = couriers.join_next(), if !couriers.is_empty() => {
                    leaving = leaving.saturating_sub(1);
                    if let Err(error) = ended {
                        tracing::error!(%error, "a courier met a bug; its message is tried again");
                    }
                }
                () = tokio::time::sleep(sleep) => {}
            }
        }
        self.stopping.store(true, Ordering::Release);
        self.idle().clear();
        let rest = async { while couriers.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE, rest).await.is_err() {
            tracing::info!("couriers cut off; what they carry is tried again at the next start");
        }
    }

    /// Gives what is due to couriers that wait with an open connection, before new ones are sent out.
    fn employ_idle(&self) {
        let now = deliver::now();
        let mut idle = self.idle();
        let mut schedule = self.schedule();
        for place in (0..idle.len()).rev() {
            let Some(job) = idle.get(place).and_then(|waiting| schedule.next_for(&waiting.destination, now)) else {
                continue;
            };
            // A courier takes itself off the list before it goes, so that the job arrives.
            let _ = idle.swap_remove(place).hand.send(job);
        }
    }

    /// Ends couriers that only wait with an open connection, where other destinations wait for a courier: those first that
    /// have waited longest. `leaving` of them are about to end already. Gives how many more do now.
    fn let_idle_go(&self, leaving: usize) -> usize {
        let mut idle = self.idle();
        let wanted = self.schedule().places_wanted(idle.len() + leaving, deliver::now());
        let count = wanted.saturating_sub(leaving).min(idle.len());
        if count == 0 {
            return 0;
        }
        idle.sort_unstable_by_key(|waiting| waiting.number);
        idle.drain(..count).count()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job for a new courier; it is under way from here on.
    fn next_errand(self: &Arc<Self>) -> Option<InFlight> {
        let now = deliver::now();
        let has_place = self.overdue.load(Ordering::Relaxed) < OVERDUE_AT_ONCE_MAX;
        let mut schedule = self.schedule();
        let overdue = if has_place { schedule.overdue(now) } else { None };
        let job = overdue.or_else(|| schedule.next(now));
        drop(schedule);
        job.map(|job| InFlight::new(self.clone(), job))
    }

    fn sleep(&self) -> Duration {
        if self.overdue.load(Ordering::Relaxed) >= OVERDUE_AT_ONCE_MAX {
            // The schedule has more of them and would say "now"; the end of each wakes us.
            return OVERDUE_NAP;
        }
        let wake_at = self.schedule().wake_at();
        let until = |at: UnixMillis| Duration::from_millis(at.0.saturating_sub(deliver::now().0));
        wake_at.map_or(SLEEP_MAX, until).min(SLEEP_MAX)
    }

    /// Brings what the store holds into the schedule. What comes in meanwhile is known twice and counts once.
    async fn load(&self) {
        let mut after = None;
        let mut loaded = 0u64;
        loop {
            match self.house.store.queue_entries(after, LOADED_PER_STEP).await {
                Ok(entries) => {
                    let Some(last) = entries.last() else { break };
                    after = Some((last.message, last.number));
                    loaded += entries.len() as u64;
                    entries.iter().for_each(|entry| self.insert(entry, RequireTls::Ordinary));
                    self.wake.notify_one();
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "the queue cannot be read; trying again");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
        tracing::info!(recipients = loaded, "queue loaded");
    }

    fn insert(&self, entry: &QueueEntry, wish: RequireTls) {
        let key = self.key(&entry.address, &entry.sender, wish);
        self.schedule().insert(entry, &key, deliver::now());
    }

    /// Where a recipient goes, as the tables are now.
    fn key_of(&self, envelope: &QueuedEnvelope, queued: &QueuedRecipient) -> DestinationKey {
        self.key(&queued.recipient.address, &envelope.reverse_path.to_string(), envelope.require_tls)
    }

    fn key(&self, recipient: &Address, sender: &str, wish: RequireTls) -> DestinationKey {
        destination(&self.transport(recipient, sender), &recipient.domain, self.demand(sender, wish))
    }

    /// What mail of this sender wants of the way: reports about TLS must come through whatever TLS is like
    /// (RFC 8460 §5.3).
    fn demand(&self, sender: &str, wish: RequireTls) -> RequireTls {
        match wish {
            RequireTls::Ordinary if tls_reports::is_sender(sender, &self.house.host_name, &self.house.directory) => {
                RequireTls::Optional
            }
            wish => wish,
        }
    }

    /// How mail for a recipient leaves.
    fn transport(&self, recipient: &Address, sender: &str) -> Transport {
        let directory = &self.house.directory;
        let class = directory.class_of(&recipient.domain);
        if class == DomainClass::Hosted {
            return Transport::Local;
        }
        directory.transport(recipient, sender).unwrap_or_else(|| match (&self.house.smarthost, class) {
            (Some(smarthost), DomainClass::Other) => Transport::Smtp(smarthost.clone()),
            _ => Transport::Direct,
        })
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Every destination of the queue, as `queue summary` shows it.
    pub fn summary(&self) -> Vec<DestinationSummary> {
        self.schedule().summary(deliver::now())
    }

    /// How many recipients are where, for metrics.
    pub fn counts(&self) -> queue::Counts {
        self.schedule().counts()
    }
}

impl QueueDoor for QueueManager {
    fn queued(&self, queued: Queued) {
        let Queued { envelope, recipients } = queued;
        let known = |queued| (entry(&envelope, queued), self.key_of(&envelope, queued));
        let known: Vec<(QueueEntry, DestinationKey)> = recipients.iter().map(known).collect();
        // At once, so that recipients of one destination go in one transaction.
        let mut schedule = self.schedule();
        for (entry, key) in &known {
            schedule.insert(entry, key, deliver::now());
        }
        drop(schedule);
        self.wake.notify_one();
    }

    /// Whoever asks, a domain's mail is not tried more often than after its first failure: that a destination is down is
    /// not for strangers to forget.
    fn flush(&self, domain: &Domain) -> bool {
        let now = deliver::now();
        let mut flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = self.house.plan.first_retry.as_millis() as u64;
        flushed.retain(|_, at| now.0.saturating_sub(at.0) < rest);
        if flushed.contains_key(domain) || flushed.len() >= FLUSHED_MAX {
            return true;
        }
        flushed.insert(domain.clone(), now);
        drop(flushed);
        let transport = Address::parse(&format!("postmaster@{domain}")).map(|address| self.transport(&address, ""));
        let keys = match transport.unwrap_or(Transport::Direct) {
            Transport::Direct => of_domain(domain),
            other => whatever_the_demand(&other, None).into(),
        };
        let waited: u32 = keys.iter().map(|key| self.schedule().flush(Flush::Destination(key), now)).sum();
        self.wake.notify_one();
        tracing::info!(%domain, waited, "queue run asked for");
        true
    }
}

/// A recipient as the schedule needs to know it.
fn entry(envelope: &QueuedEnvelope, queued: &QueuedRecipient) -> QueueEntry {
    QueueEntry {
        message: envelope.id,
        number: queued.number,
        address: queued.recipient.address.clone(),
        sender: envelope.reverse_path.to_string(),
        arrived: envelope.arrived,
        state: queued.state,
        attempts: queued.attempts,
    }
}

/// A courier that waits for work.
struct Idle {
    number: u64,
    destination: DestinationKey,
    hand: tokio::sync::oneshot::Sender<queue::Job>,
}

/// A job that is under way: whatever happens to its courier, the schedule hears of its end.
struct InFlight {
    manager: Arc<QueueManager>,
    destination: DestinationKey,
    job: Option<queue::Job>,
    is_courier: bool,
}

impl InFlight {
    fn new(manager: Arc<QueueManager>, job: queue::Job) -> InFlight {
        let is_courier = job.errand != Errand::Overdue;
        manager.overdue.fetch_add(usize::from(!is_courier), Ordering::Relaxed);
        InFlight { manager, destination: job.destination.clone(), job: Some(job), is_courier }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = deliver::now();
        let mut schedule = self.manager.schedule();
        if let Some(job) = self.job.take() {
            schedule.report(job, &[], queue::Contact::Unknown, now);
        }
        if self.is_courier {
            schedule.release(&self.destination, now);
        } else {
            self.manager.overdue.fetch_sub(1, Ordering::Relaxed);
        }
        drop(schedule);
        self.manager.wake.notify_one();
    }
}

/// The name of a message that is only known by its number.
fn unknown(message: QueueId) -> String {
    format!("{message} is not in the queue")
}

#[cfg(test)]
mod tests;
