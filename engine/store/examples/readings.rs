//! How fast a mailbox of many messages is read: its picture cold and known, its digests, its octets. Measures, asserts
//! nothing.
//!
//! `readings [messages] [octets]`, by default 100,000 messages of 4,096 octets, in a temporary folder.

use mail::{
    AccountName, BlobId, Change, Commit, FlagEdit, FlagSet, Flags, Group, InternalDate, MailboxName, MailboxRef, Quota,
    Uid, UidSet,
};
use std::time::Instant;
use store::embedded::{EmbeddedStore, Options};
use store::{BodyRange, MailStore};

/// Messages of one commit while filling, and of one call while reading.
const STEP: usize = 500;

fn argument(place: usize, default: usize) -> usize {
    std::env::args().nth(place).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let folder = std::env::temp_dir().join(format!("readings-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let account = AccountName::parse("a@example.net").expect("a name");
        let options = || Options::new(&folder);
        let store = EmbeddedStore::open(options()).expect("a store");
        fill(&store, &account, argument(1, 100_000), argument(2, 4_096)).await;
        store.close().await.expect("closed");
        drop(store);
        let begin = Instant::now();
        let store = EmbeddedStore::open(options()).expect("a store");
        told("open", begin);
        read(&store, &account).await;
    });
    std::fs::remove_dir_all(folder).expect("the temporary folder is ours");
}

fn told(what: &str, begin: Instant) {
    println!("{what}: {:?}", begin.elapsed());
}

async fn fill(store: &EmbeddedStore, account: &AccountName, messages: usize, octets: usize) {
    let begin = Instant::now();
    for first in (0..messages).step_by(STEP) {
        let bodies: Vec<_> = (first..messages.min(first + STEP))
            .map(|n| {
                let text: String = (0..octets / 8).map(|word| format!("{:07x} ", word * n % 99_991)).collect();
                let mut writer = store.stage().expect("open");
                writer.write(text.as_bytes()).expect("room");
                writer.finish(b"", text.into_bytes()[..600.min(octets / 8 * 8)].to_vec()).expect("room")
            })
            .collect();
        let append = |id| Change::Append {
            mailbox: MailboxRef::Named(MailboxName::inbox()),
            body: id,
            flags: FlagSet::system(Flags::SEEN),
            internal_date: InternalDate { unix_seconds: 1_700_000_000 + first as i64, zone_minutes: 60 },
        };
        commit(store, account, bodies.iter().map(|body| append(body.id)).collect()).await;
    }
    told("filled", begin);
}

async fn commit(store: &EmbeddedStore, account: &AccountName, changes: Vec<Change>) {
    let group = Group { account: account.clone(), changes, quota: Quota::default() };
    let answers =
        store.commit(Commit { groups: vec![group], together: false, ..Commit::default() }).await.expect("durable");
    assert!(answers[0].is_ok());
}

async fn read(store: &EmbeddedStore, account: &AccountName) {
    let begin = Instant::now();
    let list = store.mailboxes(account).await.expect("a list");
    told("list", begin);
    let inbox = list.iter().find(|info| info.name.is_inbox()).and_then(|info| info.id).expect("INBOX");
    let begin = Instant::now();
    let picture = store.snapshot(account, inbox).await.expect("a picture");
    told(&format!("picture of {} messages, cold", picture.len()), begin);
    let begin = Instant::now();
    store.snapshot(account, inbox).await.expect("a picture");
    told("picture, known", begin);
    let blobs: Vec<BlobId> = picture.iter().map(|message| message.blob).collect();
    let begin = Instant::now();
    for step in blobs.chunks(STEP) {
        store.digests(step.to_vec()).await.expect("digests");
    }
    told("digests", begin);
    for round in ["octets, cold places", "octets, known places"] {
        let begin = Instant::now();
        let mut sum = 0;
        for step in blobs.chunks(STEP) {
            let ranges = step.iter().map(|blob| BodyRange { blob: *blob, start: 0, octets: u64::MAX }).collect();
            let answers = store.read(ranges).await.expect("octets");
            sum += answers.iter().map(|answer| answer.as_ref().expect("sound").len()).sum::<usize>();
        }
        told(&format!("{round}, {} MiB", sum >> 20), begin);
    }
    let begin = Instant::now();
    for blob in blobs.iter().take(10_000) {
        store.read(vec![BodyRange { blob: *blob, start: 0, octets: u64::MAX }]).await.expect("octets");
    }
    told("10,000 messages one by one", begin);
    let begin = Instant::now();
    let mut uids = UidSet::new();
    uids.insert_range(Uid(1), Uid(10_000));
    let flags = FlagSet::system(Flags::FLAGGED);
    let change = Change::StoreFlags { mailbox: inbox, uids, edit: FlagEdit::Add, flags, unchanged_since: None };
    commit(store, account, vec![change]).await;
    told("10,000 messages flagged", begin);
    let begin = Instant::now();
    let mut uids = UidSet::new();
    uids.insert_range(Uid(1), Uid(10_000));
    commit(store, account, vec![Change::Expunge { mailbox: inbox, uids, only_deleted: false }]).await;
    told("10,000 messages expunged", begin);
    let begin = Instant::now();
    store.close().await.expect("closed");
    told("close", begin);
}
