//! The store on a local disk: SQLite for what changes, segments for what does not.
//!
//! ```text
//! caller ── stage ──▶ staging ─ compressed record, in memory or in a segment of its own
//! caller ── commit ─▶ writer: decide (batch, decide) ─▶ append (tail) ─▶ rows (apply) ─▶ sync, COMMIT
//!                       └─▶ publish: pictures, accounts, places ─▶ answer ─▶ wake watches
//! reader ── snapshot ─▶ pictures, or a reader's connection (load)
//! reader ── read ─────▶ places ─▶ segments ─▶ record
//! upkeep: write-ahead log home, claims written down, reclaim
//! ```
//!
//! Files, tables, what is synced when, and recovery: `docs/design/store.md`.

mod account;
mod administer;
mod apply;
mod batch;
mod decide;
mod fsck;
mod generations;
mod known;
mod load;
mod opening;
mod picture;
mod queue;
mod readers;
mod reading;
mod reclaim;
mod record;
mod segments;
mod staging;
mod stories;
mod tables;
mod tail;
mod upkeep;
mod writer;

pub use fsck::{Lost, Progress, Report, fsck};
pub use opening::{OpenError, Options};
pub use reclaim::Reclaimed;

use crate::queue::{Audit, Story, StoryQuery};
use crate::{Answer, BodyRange, BodyWriter, GroupOutcome, MailStore, StoreError, Watch};
use bytes::Bytes;
use known::{Accounts, Places, Recents, Watches};
use mail::{
    AccountName, BlobId, Commit, Group, MailboxId, MailboxInfo, QueueEntry, QueueId, QueuedMessage, Quota, Snapshot,
    Uid, UnixMillis, Usage,
};
use picture::{Asked, Pictures};
use queue::QueueWork;
use readers::Readers;
use record::{Place, RecordError};
use segments::Segments;
use staging::{StagedRecord, Staging};
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};
use upkeep::{Desk, Signal};
use writer::{Request, Waiting, Writer};

/// The store on a local disk. Dropping it waits for what is under way and closes it.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// `None` only while dropping.
    requests: Option<mpsc::Sender<Request>>,
    signal: Arc<Signal>,
    threads: Vec<JoinHandle<()>>,
}

/// What the store's threads and callers share.
struct Shared {
    options: Options,
    segments: Arc<Segments>,
    staging: Arc<Staging>,
    pictures: Arc<Pictures>,
    accounts: Accounts,
    places: Places,
    recents: Recents,
    watches: Watches,
    readers: Readers,
    /// The segment that grows; 0 for none.
    tail_segment: AtomicU32,
    /// Held by the pass that reclaims.
    reclaiming: Mutex<()>,
    closed: AtomicBool,
    /// The lock file. Closing it lets the next process in.
    lock: Mutex<Option<File>>,
}

/// Where the store's octets are (P29: what is live, dead and free adds up to the disk).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// In segments, in records that messages refer to.
    pub live_octets: u64,
    /// In segments, waiting to be reclaimed.
    pub dead_octets: u64,
    /// The database with its log.
    pub index_octets: u64,
    /// Of the file system, free for this process.
    pub free_octets: u64,
    /// Staged bodies in memory.
    pub staged_octets: u64,
}

impl EmbeddedStore {
    /// Opens a store, or makes a new one if the folder holds none. Blocks for some milliseconds.
    pub fn open(options: Options) -> Result<EmbeddedStore, OpenError> {
        opening::open(options)
    }

    /// Gives room back at once instead of in the background: messages of deleted mailboxes, blobs without messages
    /// (also those that died just now), segments that are mostly dead.
    pub async fn reclaim(&self) -> Result<Reclaimed, StoreError> {
        let (shared, desk) = (self.shared.clone(), self.desk()?);
        offload(move || {
            reclaim::trim_expunged(&shared, &desk)?;
            reclaim::pass(&shared, &desk, std::time::Duration::ZERO)
        })
        .await
    }

    /// Where the store's octets are.
    pub async fn space(&self) -> Result<Space, StoreError> {
        let shared = self.shared.clone();
        offload(move || shared.space()).await
    }

    /// Checks the store while it runs: every live record, every counter. Changes nothing.
    pub async fn verify(&self, mut progress: impl FnMut(Progress) + Send + 'static) -> Result<Report, StoreError> {
        let shared = self.shared.clone();
        offload(move || fsck::verify(&shared, &mut progress)).await
    }

    /// Reads rows on a thread where that disturbs nobody.
    fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        let shared = self.shared.clone();
        Box::pin(offload(move || shared.readers.read(work)))
    }

    fn desk(&self) -> Result<Desk, StoreError> {
        Ok(Desk(self.requests()?.downgrade()))
    }

    fn requests(&self) -> Result<&mpsc::Sender<Request>, StoreError> {
        match &self.requests {
            Some(requests) if !self.shared.is_closed() => Ok(requests),
            _ => Err(StoreError::Closed),
        }
    }

    /// Has the writer do something.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Run(Box::new(move |writer: &mut Writer| {
            // Who asked may have gone away.
            let _ = reply.send(work(writer));
        }));
        self.requests()?.send(request).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    async fn commit_now(&self, mut commit: Commit, bodies: batch::Offered) -> Result<Vec<GroupOutcome>, StoreError> {
        // A large body is synced before the writer hears of it, so that other commits do not wait for it.
        for (_, staged) in &bodies {
            if matches!(staged.record, StagedRecord::File(_)) {
                let staged = staged.clone();
                offload(move || match &staged.record {
                    StagedRecord::File(spill) => spill.sync(),
                    StagedRecord::Memory { .. } => Ok(()),
                })
                .await?;
            }
        }
        let queue = std::mem::take(&mut commit.queue);
        let queue = queue.into_iter().map(QueueWork::new).collect::<Result<_, _>>()?;
        let (reply, answer) = oneshot::channel();
        let request = Request::Commit(Waiting { commit, queue, bodies, reply });
        self.requests()?.send(request).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    async fn account_list(&self, account: &AccountName) -> Result<Arc<Vec<MailboxInfo>>, StoreError> {
        loop {
            self.requests()?;
            if let Some((list, _)) = self.shared.accounts.get(account) {
                return Ok(list);
            }
            // A group without changes makes the account if need be, and has the writer publish it.
            let group = Group { account: account.clone(), changes: Vec::new(), quota: Quota::default() };
            self.commit_now(Commit { groups: vec![group], together: false, ..Commit::default() }, Vec::new()).await?;
        }
    }

    async fn picture(&self, account: &AccountName, mailbox: MailboxId) -> Result<Arc<Snapshot>, StoreError> {
        loop {
            self.requests()?;
            match self.shared.pictures.ask(account, mailbox) {
                Asked::Ready(picture) => return Ok(picture),
                Asked::Wait(waiting) => match waiting.await {
                    Ok(answer) => return answer,
                    // Who was reading is gone without an answer: ask again.
                    Err(_) => continue,
                },
                Asked::Load(announcement) => {
                    let (shared, account) = (self.shared.clone(), account.clone());
                    let load = move || {
                        let read = shared.readers.read(|connection| load::load_picture(connection, &account, mailbox));
                        announcement.redeem(read).transpose()
                    };
                    if let Some(picture) = offload(load).await? {
                        return Ok(picture);
                    }
                }
            }
        }
    }

    async fn claim(&self, account: &AccountName, mailbox: MailboxId) -> Result<Uid, StoreError> {
        let uid_next = self.picture(account, mailbox).await?.uid_next;
        if let Some(from) = self.shared.recents.claim(mailbox, uid_next) {
            return Ok(from);
        }
        let read = self.shared.readers.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT recent FROM mailbox WHERE id = ?1")?;
            statement.query_row([mailbox.0], |row| row.get(0).map(Uid))
        })?;
        Ok(self.shared.recents.claim_read(mailbox, uid_next, read))
    }

    async fn count(&self, account: &AccountName) -> Result<Usage, StoreError> {
        self.requests()?;
        if let Some((_, usage)) = self.shared.accounts.get(account) {
            return Ok(usage);
        }
        self.shared.readers.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT octets, messages FROM account WHERE name = ?1")?;
            let mut rows = statement.query([account.as_str()])?;
            match rows.next()? {
                Some(row) => Ok(Usage { octets: row.get(0)?, messages: row.get(1)? }),
                None => Ok(Usage::default()),
            }
        })
    }
}

impl MailStore for EmbeddedStore {
    fn stage(&self) -> Result<Box<dyn BodyWriter>, StoreError> {
        self.requests()?;
        Ok(self.shared.staging.begin())
    }

    fn has_room(&self, octets: u64) -> bool {
        // What cannot be asked is not a reason to refuse mail: a full disk is noticed when it is written to.
        self.shared.free_octets().map_or(true, |free| free >= self.shared.options.reserve_octets.saturating_add(octets))
    }

    fn commit(&self, commit: Commit) -> Answer<'_, Vec<GroupOutcome>> {
        // Bodies are looked up now: what happens to them later cannot tear the commit apart.
        let wanted: BTreeSet<_> = commit
            .groups
            .iter()
            .flat_map(|group| &group.changes)
            .filter_map(|change| match change {
                mail::Change::Append { body, .. } => Some(*body),
                _ => None,
            })
            .chain(commit.queue.iter().filter_map(|change| match change {
                mail::QueueChange::Enqueue { body, .. } => Some(*body),
                _ => None,
            }))
            .collect();
        let bodies = wanted.into_iter().filter_map(|body| Some((body, self.shared.staging.get(body)?))).collect();
        Box::pin(self.commit_now(commit, bodies))
    }

    fn mailboxes(&self, account: &AccountName) -> Answer<'_, Arc<Vec<MailboxInfo>>> {
        let account = account.clone();
        Box::pin(async move { self.account_list(&account).await })
    }

    fn snapshot(&self, account: &AccountName, mailbox: MailboxId) -> Answer<'_, Arc<Snapshot>> {
        let account = account.clone();
        Box::pin(async move { self.picture(&account, mailbox).await })
    }

    fn claim_recent(&self, account: &AccountName, mailbox: MailboxId) -> Answer<'_, Uid> {
        let account = account.clone();
        Box::pin(async move { self.claim(&account, mailbox).await })
    }

    fn digests(&self, blobs: Vec<BlobId>) -> Answer<'_, Vec<Result<Bytes, StoreError>>> {
        Box::pin(reading::digests(&self.shared, blobs))
    }

    fn read(&self, ranges: Vec<BodyRange>) -> Answer<'_, Vec<Result<Bytes, StoreError>>> {
        Box::pin(reading::read(&self.shared, ranges))
    }

    fn usage(&self, account: &AccountName) -> Answer<'_, Usage> {
        let account = account.clone();
        Box::pin(async move { self.count(&account).await })
    }

    fn recalculate(&self, account: &AccountName) -> Answer<'_, (Usage, Usage)> {
        let account = account.clone();
        Box::pin(self.run(move |writer| writer.recalculate(&account)))
    }

    fn accounts(&self) -> Answer<'_, Vec<AccountName>> {
        let shared = self.shared.clone();
        Box::pin(offload(move || {
            shared.readers.read(|connection| {
                let mut statement = connection.prepare("SELECT name FROM account ORDER BY name")?;
                let names = statement.query_map([], |row| Ok(AccountName::parse(row.get_ref(0)?.as_str()?)))?;
                Ok(names.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
            })
        }))
    }

    fn remove_account(&self, account: &AccountName) -> Answer<'_, ()> {
        let account = account.clone();
        Box::pin(self.run(move |writer| writer.remove_account(&account)))
    }

    fn queue_entries(&self, after: Option<(QueueId, u32)>, limit: usize) -> Answer<'_, Vec<QueueEntry>> {
        self.look(move |connection| queue::entries(connection, after, limit))
    }

    fn queued(&self, message: QueueId) -> Answer<'_, Option<QueuedMessage>> {
        let shared = self.shared.clone();
        // It may have thousands of recipients.
        Box::pin(offload(move || shared.readers.read(|connection| queue::message(connection, message, None))))
    }

    fn queued_for(&self, message: QueueId, recipients: Vec<u32>) -> Answer<'_, Option<QueuedMessage>> {
        let shared = self.shared.clone();
        // A few rows: reading them takes less than changing threads.
        Box::pin(
            async move { shared.readers.read(|connection| queue::message(connection, message, Some(&recipients))) },
        )
    }

    fn queued_messages(&self, after: QueueId, limit: usize) -> Answer<'_, Vec<QueuedMessage>> {
        self.look(move |connection| queue::messages(connection, after, limit))
    }

    fn story(&self, message: QueueId) -> Answer<'_, Option<Story>> {
        self.look(move |connection| stories::story(connection, message))
    }

    fn stories(&self, query: StoryQuery) -> Answer<'_, Vec<Story>> {
        self.look(move |connection| stories::stories(connection, &query))
    }

    fn audit(&self) -> Answer<'_, Audit> {
        self.look(queue::audit)
    }

    fn forget_stories(&self, before: UnixMillis, messages_max: u64) -> Answer<'_, ()> {
        let before = self.look(move |connection| stories::forgettable_before(connection, before, messages_max));
        Box::pin(async move {
            let before = before.await?;
            let mut place = Some((QueueId(0), 0));
            while let Some(from) = place {
                place = self.run(move |writer| writer.forget_stories(from, before)).await?;
            }
            Ok(())
        })
    }

    fn watch(&self, account: &AccountName) -> Watch {
        self.shared.watches.watch(account)
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let Ok(requests) = self.requests() else { return Ok(()) };
            let (reply, done) = oneshot::channel();
            self.signal.stop();
            if requests.send(Request::Close(reply)).await.is_ok() {
                // The writer may have ended by itself; closed it is either way.
                let _ = done.await;
            }
            Ok(())
        })
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.signal.stop();
        self.requests = None;
        for thread in self.threads.drain(..) {
            // A thread that ended in a panic has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Lets go of the files, as the last act of the writer.
    fn shut(&self) {
        self.closed.store(true, Ordering::Release);
        self.readers.close();
    }

    fn unlock(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn free_octets(&self) -> Result<u64, nix::Error> {
        let facts = nix::sys::statvfs::statvfs(&self.options.folder)?;
        Ok(facts.blocks_available() as u64 * facts.fragment_size() as u64)
    }

    fn space(&self) -> Result<Space, StoreError> {
        let (live_octets, octets) = self.readers.read(|connection| {
            connection.query_row("SELECT coalesce(sum(live), 0), coalesce(sum(octets), 0) FROM segment", [], |row| {
                Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?))
            })
        })?;
        let length = |name: &str| std::fs::metadata(self.options.folder.join(name)).map_or(0, |facts| facts.len());
        let log = format!("{}-wal", tables::DATABASE);
        Ok(Space {
            live_octets,
            dead_octets: octets.saturating_sub(live_octets),
            index_octets: length(tables::DATABASE) + length(&log),
            free_octets: self.free_octets().map_err(|error| disk_error(error.into()))?,
            staged_octets: self.staging.memory_octets(),
        })
    }

    /// What to answer where a record cannot be read.
    fn record_error(&self, blob: BlobId, place: Place, error: RecordError) -> StoreError {
        match error {
            RecordError::Io(error) => disk_error(error),
            RecordError::Damaged(cause) => {
                let Place { segment, offset, .. } = place;
                StoreError::Damaged(format!("blob {blob} at {offset} of segment {segment}: {cause}").into())
            }
        }
    }
}

/// Does what may take long on a thread where that disturbs nobody. Outside a runtime, where no task can be disturbed,
/// it is done at once.
async fn offload<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => match runtime.spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Disk(format!("work in the background: {error}").into())),
        },
        Err(_) => work(),
    }
}

fn disk_error(error: std::io::Error) -> StoreError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Disk(error.to_string().into()),
    }
}

fn database_error(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
        _ => StoreError::Disk(error.to_string().into()),
    }
}

fn now_seconds() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: &std::path::Path) -> Options {
        Options { sync: false, spill_octets: 100_000, segment_octets_max: 1_000_000, ..Options::new(folder) }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn v61_v62_p27_the_contract_holds() {
        let folder = tempfile::tempdir().unwrap();
        let open = || -> Arc<dyn MailStore> { Arc::new(EmbeddedStore::open(options(folder.path())).unwrap()) };
        crate::contract::run(open).await;
        let report = fsck(folder.path(), false, &mut |_| {}).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn v60_a_panic_in_the_writer_costs_one_request_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(options(folder.path())).unwrap();
        let account = AccountName::parse("a@example.net").unwrap();
        let before = store.mailboxes(&account).await.unwrap();
        for in_transaction in [false, true] {
            let work = move |writer: &mut Writer| {
                if in_transaction {
                    writer.transaction(|connection, _| {
                        connection.execute("DELETE FROM mailbox", [])?;
                        panic!("on purpose, inside a transaction");
                    })
                } else {
                    panic!("on purpose")
                }
            };
            assert!(store.run::<()>(work).await.is_err());
        }
        assert_eq!(store.mailboxes(&account).await.unwrap(), before);
        let create = mail::Change::CreateMailbox { name: mail::MailboxName::parse("x").unwrap(), special_use: None };
        let group = Group { account, changes: vec![create], quota: Quota::default() };
        let answers = store.commit(Commit { groups: vec![group], together: false, ..Commit::default() }).await.unwrap();
        assert!(answers[0].is_ok());
    }

    /// However long the history is, no commit waits for more than a bounded part of it.
    #[tokio::test(flavor = "multi_thread")]
    async fn stories_are_forgotten_in_bounded_steps() {
        const MESSAGES: u64 = 3;
        let per_message = stories::FORGOTTEN_PER_STEP as u64;
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(options(folder.path())).unwrap();
        let mut tales = Vec::new();
        for message in (1..=MESSAGES).map(QueueId) {
            tales.push(mail::QueueChange::Begin { message, discarded: 0, events: Vec::new() });
            let what = mail::Happening::Queued;
            let event = mail::Event { at: UnixMillis(0), recipient: None, what };
            tales.extend((0..per_message).map(|_| mail::QueueChange::Tell { message, event: event.clone() }));
        }
        store.commit(Commit { queue: tales, ..Commit::default() }).await.unwrap();
        let events = || {
            let count = "SELECT count(*) FROM event";
            store.shared.readers.read(|connection| connection.query_row(count, [], |row| row.get::<_, u64>(0))).unwrap()
        };
        let (mut place, mut left) = (Some((QueueId(0), 0)), events());
        let mut steps = 0;
        while let Some(from) = place {
            place = store.run(move |writer| writer.forget_stories(from, QueueId(MESSAGES + 1))).await.unwrap();
            assert!(left - events() <= per_message);
            left = events();
            steps += 1;
        }
        assert_eq!((left, store.audit().await.unwrap().total.messages), (0, 0));
        assert_eq!(steps, MESSAGES);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_log_is_copied_home_while_commits_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(options(folder.path())).unwrap();
        let account = AccountName::parse("a@example.net").unwrap();
        // The log's header counts how often it was begun anew (SQLite file format, §4.1: checkpoint sequence number).
        let begun = || {
            let log = std::fs::File::open(folder.path().join("meta.db-wal")).unwrap();
            let mut count = [0; 4];
            std::os::unix::fs::FileExt::read_exact_at(&log, &mut count, 12).unwrap();
            u32::from_be_bytes(count)
        };
        let (mut commits, mut first) = (0, 0);
        loop {
            commits += 1;
            assert!(commits < 4_000, "the log only grows");
            let body = store.stage().unwrap().finish(b"x", vec![7; 250_000]).unwrap();
            let append = mail::Change::Append {
                mailbox: mail::MailboxRef::Named(mail::MailboxName::inbox()),
                body: body.id,
                flags: mail::FlagSet::default(),
                internal_date: mail::InternalDate::default(),
            };
            let group = Group { account: account.clone(), changes: vec![append], quota: Quota::default() };
            store.commit(Commit { groups: vec![group], together: true, ..Commit::default() }).await.unwrap();
            match commits {
                1 => first = begun(),
                _ if begun() > first + 1 => break,
                _ => {}
            }
        }
    }
}
