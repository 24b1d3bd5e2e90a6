//! The embedded store from outside: crashes, failures, damage, reclaiming, old versions.

mod crash;
mod damage;
mod failure;
mod reclaim;
mod version;

use mail::{
    AccountName, Change, Commit, FlagSet, Flags, Group, InternalDate, MailboxId, MailboxName, MailboxRef, Message,
    Outcome, Quota, Snapshot, Uid, UidSet,
};
use std::path::Path;
use std::sync::Arc;
use store::embedded::{EmbeddedStore, Options, Report, fsck};
use store::{BodyRange, MailStore, StoreError};

fn options(folder: &Path) -> Options {
    Options { sync: false, spill_octets: 100_000, segment_octets_max: 500_000, ..Options::new(folder) }
}

fn open(folder: &Path) -> EmbeddedStore {
    EmbeddedStore::open(options(folder)).unwrap()
}

fn account(name: &str) -> AccountName {
    AccountName::parse(name).unwrap()
}

/// Octets that hardly shrink, the same for the same seed.
fn noise(octets: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    (0..octets).map(|_| next()).collect()
}

async fn commit(
    store: &EmbeddedStore,
    account: &AccountName,
    changes: Vec<Change>,
) -> Result<Vec<Outcome>, StoreError> {
    let group = Group { account: account.clone(), changes, quota: Quota::default() };
    let mut answers = store.commit(Commit { groups: vec![group], together: false, ..Commit::default() }).await?;
    Ok(answers.remove(0).expect("accepted"))
}

async fn deliver(store: &EmbeddedStore, account: &AccountName, octets: &[u8]) -> Result<Uid, StoreError> {
    let mut writer = store.stage()?;
    writer.write(octets)?;
    let body = writer.finish(b"", b"digest".to_vec())?;
    let append = Change::Append {
        mailbox: MailboxRef::Named(MailboxName::inbox()),
        body: body.id,
        flags: FlagSet::system(Flags::NONE),
        internal_date: InternalDate::default(),
    };
    match commit(store, account, vec![append]).await?.remove(0) {
        Outcome::Appended { uid, .. } => Ok(uid),
        other => panic!("{other:?}"),
    }
}

async fn expunge(store: &EmbeddedStore, account: &AccountName, uids: impl IntoIterator<Item = u32>) {
    let mailbox = inbox_id(store, account).await;
    let uids: UidSet = uids.into_iter().map(Uid).collect();
    commit(store, account, vec![Change::Expunge { mailbox, uids, only_deleted: false }]).await.unwrap();
}

async fn inbox_id(store: &EmbeddedStore, account: &AccountName) -> MailboxId {
    let list = store.mailboxes(account).await.unwrap();
    list.iter().find(|info| info.name.is_inbox()).unwrap().id.unwrap()
}

async fn inbox(store: &EmbeddedStore, account: &AccountName) -> Arc<Snapshot> {
    store.snapshot(account, inbox_id(store, account).await).await.unwrap()
}

async fn octets(store: &EmbeddedStore, message: &Message) -> Result<Vec<u8>, StoreError> {
    let range = BodyRange { blob: message.blob, start: 0, octets: u64::MAX };
    Ok(store.read(vec![range]).await.unwrap().remove(0)?.to_vec())
}

fn check(folder: &Path) -> Report {
    fsck(folder, false, &mut |_| {}).unwrap()
}

fn segment_octets(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder.join("segments")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn two_processes_cannot_open_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let error = EmbeddedStore::open(options(folder.path())).err().expect("locked");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    assert!(fsck(folder.path(), false, &mut |_| {}).is_err());
    store.close().await.unwrap();
    open(folder.path());
    // Dropping closes too.
    open(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn r46_room_is_what_the_file_system_has_beyond_the_reserve() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let free = store.space().await.unwrap().free_octets;
    assert!(free > 0 && store.has_room(0) && !store.has_room(u64::MAX) && !store.has_room(free * 2));
    drop(store);
    let reserve_octets = free * 2;
    let store = EmbeddedStore::open(Options { reserve_octets, ..options(folder.path()) }).unwrap();
    assert!(!store.has_room(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_store_shows_what_a_warm_one_did() {
    let folder = tempfile::tempdir().unwrap();
    let account = account("a@example.net");
    let mut warm = Vec::new();
    for life in 0..3u64 {
        // Pictures of at most some 40 messages: every mailbox is read again and again.
        let store = EmbeddedStore::open(Options { picture_messages_max: 40, ..options(folder.path()) }).unwrap();
        for n in 0..30 {
            deliver(&store, &account, &noise(100, life * 100 + n)).await.unwrap();
            if n % 7 == 0 {
                expunge(&store, &account, [(life * 30 + n) as u32]).await;
            }
            let picture = inbox(&store, &account).await;
            warm = picture.iter().copied().collect();
            assert_eq!(warm.last().map(|message| message.uid), Some(Uid((life * 30 + n) as u32 + 1)));
        }
        store.close().await.unwrap();
        let store = open(folder.path());
        assert_eq!(inbox(&store, &account).await.iter().copied().collect::<Vec<_>>(), warm);
    }
    assert_eq!(warm.len(), 76);
}
