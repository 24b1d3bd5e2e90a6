//! The one thread that writes. It takes all commits that wait, decides them in memory, appends their bodies, syncs the
//! segment while the database executes, and commits once for all of them.

use super::account::Account;
use super::apply::{self, Placed};
use super::batch::{Batch, Counters, Ground, Offered};
use super::generations::Generations;
use super::picture::News;
use super::queue::QueueWork;
use super::record::Place;
use super::staging::{Staged, StagedRecord};
use super::tables;
use super::tail::{Syncer, Tail};
use super::upkeep::Signal;
use super::{Shared, database_error, disk_error, now_seconds};
use crate::{GroupOutcome, StoreError};
use mail::{AccountName, BodyId, Commit, MailboxId, ModSeq, Uid};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Most commits of one batch; also the room of the queue before it.
pub const WAITING_COMMITS_MAX: usize = 1_024;
/// A batch is closed when its records hold this many octets.
const BATCH_OCTETS: u64 = 32 * 1024 * 1024;
/// Accounts kept in memory. One with few mailboxes takes some 2 KiB.
const ACCOUNTS_KEPT: usize = 10_000;

/// A commit that waits, with the bodies it refers to.
pub struct Waiting {
    /// What is wanted, but for the queue.
    pub commit: Commit,
    /// What is to become of the queue.
    pub queue: Vec<QueueWork>,
    /// Held here, so that they stay when the caller goes away.
    pub bodies: Offered,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Vec<GroupOutcome>, StoreError>>,
}

/// What the writer's queue holds.
pub enum Request {
    /// A commit.
    Commit(Waiting),
    /// Anything else that must not run beside a commit. Answers by itself.
    Run(Box<dyn FnOnce(&mut Writer) + Send>),
    /// The end. Answered when everything before it is done, the files are closed and the lock is free.
    Close(oneshot::Sender<()>),
}

/// The writer.
pub struct Writer {
    pub(super) shared: Arc<Shared>,
    connection: Connection,
    known: Generations<AccountName, Account>,
    counters: Counters,
    tail: Tail,
    syncer: Syncer,
    signal: Arc<Signal>,
    /// Pages in the write-ahead log after the last commit.
    wal_pages: Arc<AtomicU64>,
}

impl Writer {
    /// Prepares the writer; `resume` names the segment to go on with and its valid length.
    pub fn new(
        shared: Arc<Shared>,
        mut connection: Connection,
        counters: Counters,
        tail: Tail,
        signal: Arc<Signal>,
    ) -> Result<Writer, StoreError> {
        let wal_pages = Arc::new(AtomicU64::new(0));
        count_pages(&mut connection, &wal_pages).map_err(database_error)?;
        let syncer = Syncer::start().map_err(disk_error)?;
        let known = Generations::new(ACCOUNTS_KEPT);
        Ok(Writer { shared, connection, known, counters, tail, syncer, signal, wal_pages })
    }

    /// Runs until the store is closed, and closes its files. Gives who is to hear of it, if anybody asked.
    pub fn run(mut self, mut requests: mpsc::Receiver<Request>) -> Option<oneshot::Sender<()>> {
        let mut next = requests.blocking_recv();
        while let Some(request) = next.take() {
            match request {
                Request::Commit(first) => {
                    let (batch, other) = gather(first, &mut requests);
                    next = other;
                    self.commit(batch);
                }
                Request::Run(work) => {
                    if catch_unwind(AssertUnwindSafe(|| work(&mut self))).is_err() {
                        self.recover();
                    }
                }
                Request::Close(reply) => {
                    requests.close();
                    self.end();
                    return Some(reply);
                }
            }
            self.signal.committed(self.wal_pages.load(Ordering::Relaxed));
            if self.signal.takes_writers_turn() {
                self.end_log();
                self.signal.writer_copied();
            }
            if next.is_none() {
                next = requests.blocking_recv();
            }
        }
        self.end();
        None
    }

    fn commit(&mut self, mut waiting: Vec<Waiting>) {
        let attempt = catch_unwind(AssertUnwindSafe(|| self.try_commit(&mut waiting)));
        let result = attempt.unwrap_or_else(|_| Err(StoreError::Disk("the writer met a bug".into())));
        match result {
            Ok((answers, changed)) => {
                // Before the answers: a watch made by whoever heard one must not tell of what that one knows.
                self.shared.watches.wake(changed);
                for (waiting, answer) in waiting.into_iter().zip(answers) {
                    let _ = waiting.reply.send(answer);
                }
            }
            Err(error) => {
                tracing::error!(%error, commits = waiting.len(), "commit failed");
                self.recover();
                for waiting in waiting {
                    let _ = waiting.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// The story of a batch. Gives the answers and the accounts that changed.
    #[allow(clippy::type_complexity)]
    fn try_commit(
        &mut self,
        waiting: &mut [Waiting],
    ) -> Result<(Vec<Result<Vec<GroupOutcome>, StoreError>>, Vec<(AccountName, ModSeq)>), StoreError> {
        let mut batch = Batch::default();
        let mut answers = Vec::with_capacity(waiting.len());
        for waiting in waiting {
            let known = &mut self.known;
            let mut ground =
                Ground { connection: &self.connection, pictures: &self.shared.pictures, counters: &mut self.counters };
            let offered = &waiting.bodies;
            let queue = std::mem::take(&mut waiting.queue);
            if !has_queued_bodies(&queue, offered) {
                answers.push(Err(StoreError::NoSuchBlob));
                continue;
            }
            let mut known = |name: &AccountName| known.remove(name);
            answers.push(Ok(batch.decide(&waiting.commit, queue, offered, &mut known, &mut ground)?));
        }
        let placed = if batch.is_idle() { Vec::new() } else { self.make_durable(&batch)? };
        let changed = self.publish(batch, &placed);
        Ok((answers, changed))
    }

    /// Bodies first, then rows: a row without its body cannot exist.
    fn make_durable(&mut self, batch: &Batch) -> Result<Vec<Placed>, StoreError> {
        let end_before = self.tail.file().map(|(number, _, end)| (number, end));
        let (placed, lengths) = self.append_bodies(&batch.bodies)?;
        let now = now_seconds();
        let rows = self
            .connection
            .execute_batch("BEGIN IMMEDIATE")
            .and_then(|()| apply::write(&self.connection, batch, &placed, &lengths, now));
        let synced = self.syncer.wait();
        if let Err(error) = synced {
            self.tail.abandon();
            return Err(disk_error(error));
        }
        if let Err(error) = rows {
            // The transaction never came to its end, so that nothing can refer to what was appended.
            match end_before {
                Some((number, end)) if self.tail.number() == Some(number) => self.tail.take_back(end),
                _ => self.tail.take_back(0),
            }
            return Err(database_error(error));
        }
        // From here on the rows may be on the disk even if the database reports a failure: the octets they mention
        // stay where they are, and files without a row are removed by the next start.
        for staged in &batch.bodies {
            if let StagedRecord::File(spill) = &staged.record {
                spill.kept.store(true, Ordering::Release);
            }
        }
        self.connection.execute_batch("COMMIT").map_err(database_error)?;
        for staged in &batch.bodies {
            staged.taken.store(true, Ordering::Relaxed);
        }
        Ok(placed)
    }

    /// Appends what is in memory and begins to sync it; what has a segment of its own is there already. Gives the place
    /// of each body, and the valid lengths of the segments that grew.
    fn append_bodies(&mut self, bodies: &[Arc<Staged>]) -> Result<(Vec<Placed>, BTreeMap<u32, u64>), StoreError> {
        let mut records = Vec::with_capacity(bodies.len());
        records.extend(bodies.iter().filter_map(|staged| match &staged.record {
            StagedRecord::Memory { octets, .. } => Some(octets.as_slice()),
            StagedRecord::File(_) => None,
        }));
        let mut lengths = BTreeMap::new();
        let mut appended = (0, Vec::new());
        if !records.is_empty() {
            appended = self.tail.append(&records).map_err(disk_error)?;
            if let Some((number, file, end)) = self.tail.file() {
                lengths.insert(number, end);
                if self.shared.options.sync {
                    self.syncer.begin(file).map_err(disk_error)?;
                }
            }
        }
        let (tail, mut offsets) = (appended.0, appended.1.into_iter());
        let mut placed = Vec::with_capacity(bodies.len());
        for staged in bodies {
            let (segment, offset) = match &staged.record {
                StagedRecord::Memory { .. } => (tail, offsets.next().unwrap_or(0)),
                StagedRecord::File(spill) => {
                    lengths.insert(spill.number, staged.stored_octets);
                    (spill.number, 0)
                }
            };
            let (stored_octets, raw_octets) = (staged.stored_octets, staged.raw_octets);
            placed.push((staged.clone(), Place { segment, offset, stored_octets, raw_octets }));
        }
        self.shared.tail_segment.store(self.tail.number().unwrap_or(0), Ordering::Relaxed);
        Ok((placed, lengths))
    }

    /// Shows readers what is now durable. Comes before the answers, so that who hears one sees what it tells.
    fn publish(&mut self, batch: Batch, placed: &[Placed]) -> Vec<(AccountName, ModSeq)> {
        self.shared.places.put(placed.iter().map(|(staged, place)| (staged.blob, *place)));
        let news = batch.mailboxes.into_iter().map(|(mailbox, news)| {
            let what = match news.picture {
                _ if news.gone => News::Gone,
                Some(picture) => News::Picture(Arc::new(picture)),
                None => News::Deltas(news.deltas),
            };
            (news.account, mailbox, what)
        });
        self.shared.pictures.publish(news);
        let mut changed = Vec::new();
        for (name, mut working) in batch.accounts {
            let same_tree = working.before.as_ref().is_some_and(|(_, tree)| Arc::ptr_eq(tree, &working.account.tree));
            self.shared.accounts.publish(&working.account, same_tree);
            if working.before.as_ref().map(|(head, _)| *head) != Some(working.account.head) {
                changed.push((name.clone(), working.account.head.mod_sequence));
            }
            working.account.stored = true;
            self.known.insert(name, working.account);
        }
        changed
    }

    /// Forgets everything that may run ahead of the database.
    fn recover(&mut self) {
        if let Err(error) = self.syncer.wait() {
            tracing::error!(%error, "segment not synced");
            self.tail.abandon();
        }
        self.known.clear();
        self.shared.accounts.clear();
        self.shared.pictures.clear();
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "rollback failed");
        }
        if !self.connection.is_autocommit() {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        match tables::open_writer(&self.shared.options.folder, self.shared.options.sync) {
            Ok(connection) => self.connection = connection,
            Err(error) => tracing::error!(?error, "the database cannot be opened again"),
        }
        if let Err(error) = count_pages(&mut self.connection, &self.wal_pages) {
            tracing::warn!(%error, "the size of the log is unknown");
        }
    }

    /// Copies the last pages of the write-ahead log home, so that the next commit begins it anew. Waits for nobody.
    fn end_log(&mut self) {
        let checkpoint = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = checkpoint {
            tracing::warn!(%error, "checkpoint failed; it is tried again");
        }
    }

    fn end(&mut self) {
        let claims = self.shared.recents.take_dirty();
        if let Err(error) = self.keep_claims(&claims) {
            tracing::warn!(%error, "messages may be recent again");
        }
        self.shared.shut();
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the last checkpoint failed; the next start does it");
        }
    }

    /// Runs `work` as one durable transaction. Work that fails leaves nothing.
    pub fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Connection, &mut Counters) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let result = self
            .connection
            .execute_batch("BEGIN IMMEDIATE")
            .and_then(|()| work(&self.connection, &mut self.counters))
            .and_then(|value| self.connection.execute_batch("COMMIT").map(|()| value));
        result.map_err(|error| {
            self.recover();
            database_error(error)
        })
    }

    /// Keeps from which UIDs on messages are recent.
    pub fn keep_claims(&mut self, claims: &[(MailboxId, Uid)]) -> Result<(), StoreError> {
        if claims.is_empty() {
            return Ok(());
        }
        self.transaction(|connection, _| {
            let mut statement =
                connection.prepare_cached("UPDATE mailbox SET recent = max(recent, ?2) WHERE id = ?1")?;
            claims.iter().try_for_each(|(mailbox, uid)| statement.execute((mailbox.0, uid.0)).map(|_| ()))
        })
    }

    /// Forgets an account, so that it is read from the database next time.
    pub fn forget(&mut self, account: &AccountName) {
        self.known.remove(account);
        self.shared.accounts.remove(account);
    }
}

/// Whether everything that is to be queued has octets that no earlier commit took. A queue change cannot be refused by
/// itself, so that the whole commit is.
fn has_queued_bodies(queue: &[QueueWork], offered: &Offered) -> bool {
    let is_there =
        |body: BodyId| offered.iter().any(|(id, staged)| *id == body && !staged.taken.load(Ordering::Relaxed));
    queue.iter().filter_map(QueueWork::body).all(is_there)
}

/// Has the database tell the length of its log after each commit.
fn count_pages(connection: &mut Connection, pages: &Arc<AtomicU64>) -> rusqlite::Result<()> {
    let pages = pages.clone();
    let hook = move |_: &mut rusqlite::hooks::Wal, now: std::ffi::c_int| {
        pages.store(u64::try_from(now).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    };
    connection.wal_hook(Some(hook))
}

/// Takes what else waits, up to a limit; what is no commit ends the batch and comes next.
fn gather(first: Waiting, requests: &mut mpsc::Receiver<Request>) -> (Vec<Waiting>, Option<Request>) {
    let octets_of = |waiting: &Waiting| -> u64 { waiting.bodies.iter().map(|(_, staged)| staged.stored_octets).sum() };
    let mut octets = octets_of(&first);
    let mut batch = vec![first];
    while batch.len() < WAITING_COMMITS_MAX && octets < BATCH_OCTETS {
        match requests.try_recv() {
            Ok(Request::Commit(waiting)) => {
                octets += octets_of(&waiting);
                batch.push(waiting);
            }
            Ok(other) => return (batch, Some(other)),
            Err(_) => break,
        }
    }
    (batch, None)
}
