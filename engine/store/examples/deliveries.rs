//! How many messages a second the embedded store makes durable. Measures, asserts nothing.
//!
//! `deliveries [tasks] [seconds] [octets] [folder]`, by default 50 tasks, 3 seconds, 4,096 octets, a temporary folder.

use mail::{AccountName, Change, Commit, FlagSet, Flags, Group, InternalDate, MailboxName, MailboxRef, Quota};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::MailStore;
use store::embedded::{EmbeddedStore, Options};

/// Octets of what a delivery keeps beside the message: about what the digest of a plain message takes.
const DIGEST_OCTETS: usize = 600;

fn argument<T: std::str::FromStr>(place: usize, default: T) -> T {
    std::env::args().nth(place).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let (tasks, seconds, octets) = (argument(1, 50), argument(2, 3), argument(3, 4_096));
    let folder = argument(4, std::env::temp_dir().join(format!("deliveries-{}", std::process::id())));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(tasks, Duration::from_secs(seconds), octets, folder.clone()));
    if std::env::args().nth(4).is_none() {
        std::fs::remove_dir_all(folder).expect("the temporary folder is ours");
    }
}

async fn measure(tasks: usize, duration: Duration, octets: usize, folder: PathBuf) {
    let store = Arc::new(EmbeddedStore::open(Options::new(&folder)).expect("a store"));
    let until = Instant::now() + duration;
    let deliverers: Vec<_> = (0..tasks)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let account = AccountName::parse(&format!("account{task}@example.net")).expect("a name");
                let mut waits = Vec::new();
                while Instant::now() < until {
                    let begin = Instant::now();
                    deliver(&store, &account, &message(octets, task * 1_000_003 + waits.len())).await;
                    waits.push(begin.elapsed());
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for deliverer in deliverers {
        waits.extend(deliverer.await.expect("a deliverer"));
    }
    waits.sort_unstable();
    let space = store.space().await.expect("space");
    store.close().await.expect("closed");
    let length = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |facts| facts.len());
    let disk = space.live_octets + space.dead_octets + length("meta.db");
    println!(
        "{tasks} tasks, {octets} octets: {:.0} per second; wait median {:?}, 99 % {:?}, longest {:?}; {:.2} octets on \
         disk for each of mail",
        waits.len() as f64 / duration.as_secs_f64(),
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        waits[waits.len() - 1],
        disk as f64 / (waits.len() * octets) as f64,
    );
}

async fn deliver(store: &EmbeddedStore, account: &AccountName, message: &[u8]) {
    let mut writer = store.stage().expect("open");
    writer.write(message).expect("room");
    let prefix = format!("Return-Path: <a@example.org>\r\nDelivered-To: {account}\r\n");
    let body = writer.finish(prefix.as_bytes(), digest(message)).expect("room");
    let change = Change::Append {
        mailbox: MailboxRef::Named(MailboxName::inbox()),
        body: body.id,
        flags: FlagSet::system(Flags::NONE),
        internal_date: InternalDate { unix_seconds: 1_700_000_000, zone_minutes: 0 },
    };
    let group = Group { account: account.clone(), changes: vec![change], quota: Quota::default() };
    let answers =
        store.commit(Commit { groups: vec![group], together: true, ..Commit::default() }).await.expect("durable");
    assert!(answers[0].is_ok(), "{answers:?}");
}

/// Text of no great regularity: words in a pseudo-random order.
fn message(octets: usize, seed: usize) -> Vec<u8> {
    const WORDS: [&str; 32] = [
        "the", "of", "and", "meeting", "to", "in", "report", "is", "you", "that", "attached", "was", "for", "on",
        "are", "please", "with", "as", "invoice", "his", "they", "be", "at", "Tuesday", "have", "this", "from", "or",
        "had", "by", "regards", "but",
    ];
    let mut state = seed as u64;
    let mut text = format!("From: a@example.org\r\nSubject: {seed}\r\nMessage-ID: <{seed}@example.org>\r\n\r\n");
    let mut column = 0;
    while text.len() < octets {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = WORDS[(state >> 59) as usize];
        text.push_str(word);
        column += word.len() + 1;
        text.push_str(if column > 70 { "\r\n" } else { " " });
        column %= 71;
    }
    text.truncate(octets);
    text.into_bytes()
}

fn digest(message: &[u8]) -> Vec<u8> {
    message.iter().copied().take(DIGEST_OCTETS).collect()
}
