//! R42: what was acknowledged survives `kill -9`, is there once, whole, under its UID; nothing is half there; no UID
//! comes back.

use super::*;
use mail::{
    Address, QueueChange, QueueId, QueueState, QueuedEnvelope, QueuedRecipient, Recipient, ReversePath, Settled,
    UnixMillis,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const FOLDER: &str = "PILLARBOX_CRASH_FOLDER";
const LIFE: &str = "PILLARBOX_CRASH_LIFE";
const TASKS: u64 = 4;

fn account_of(task: u64) -> AccountName {
    account(&format!("crash{task}@example.net"))
}

/// What message `n` of a task in a life is; some go to a segment of their own.
fn message(life: u64, task: u64, n: u64) -> Vec<u8> {
    let size = if n % 16 == 15 { 150_000 } else { 50 + (n % 7) as usize * 700 };
    let mut octets = format!("{life} {task} {n} ").into_bytes();
    octets.extend(noise(size, life * 1_000_003 + task * 10_007 + n));
    octets
}

/// Recipients of a queued message.
const RECIPIENTS: u32 = 3;

fn queue_id(life: u64, task: u64, n: u64) -> QueueId {
    QueueId((life << 40 | task << 32 | n) + 1)
}

/// Life, task and number of a queued message.
fn label_of(id: QueueId) -> (u64, u64, u64) {
    let id = id.0 - 1;
    (id >> 40, id >> 32 & 0xff, id & 0xffff_ffff)
}

fn envelope(id: QueueId) -> QueuedEnvelope {
    QueuedEnvelope {
        id,
        arrived: UnixMillis(1),
        reverse_path: ReversePath::Null,
        account: None,
        eight_bit: false,
        smtputf8: false,
        require_tls: mail::RequireTls::Ordinary,
        dsn_return: None,
        envelope_id: None,
    }
}

fn recipient(number: u32) -> QueuedRecipient {
    let address = Address::parse(&format!("reader{number}@example.com")).unwrap();
    QueuedRecipient {
        number,
        recipient: Recipient { address, notify: None, original: None },
        via: None,
        state: QueueState::Waiting(UnixMillis(1)),
        attempts: 0,
        delay_reported: false,
        last: None,
    }
}

/// Queues a message.
async fn enqueue(store: &EmbeddedStore, life: u64, task: u64, n: u64) -> Result<(), StoreError> {
    let message_id = queue_id(life, task, n);
    let mut writer = store.stage()?;
    writer.write(&message(life, task, n))?;
    let body = writer.finish(b"", b"digest".to_vec())?;
    let queue = vec![
        QueueChange::Begin { message: message_id, discarded: 0, events: Vec::new() },
        QueueChange::Enqueue {
            envelope: Box::new(envelope(message_id)),
            body: body.id,
            recipients: (0..RECIPIENTS).map(recipient).collect(),
        },
    ];
    store.commit(Commit { queue, ..Commit::default() }).await.map(|_| ())
}

async fn settle(store: &EmbeddedStore, message: QueueId, number: u32) -> Result<(), StoreError> {
    let settle = QueueChange::Settle { message, number, how: Settled::Delivered };
    store.commit(Commit { queue: vec![settle], ..Commit::default() }).await.map(|_| ())
}

/// Delivers, now and then expunges the message before, and queues others and settles their recipients one by one, until it is killed. Says what is acknowledged.
async fn deliver_and_tell(store: &EmbeddedStore, life: u64, task: u64, tell: impl Fn(&str)) {
    let account = account_of(task);
    for n in 0.. {
        let Ok(uid) = deliver(store, &account, &message(life, task, n)).await else { return };
        tell(&format!("+ {life} {task} {n} {uid}\n"));
        if n % 5 == 4 {
            tell(&format!("? {task} {uid}\n"));
            expunge(store, &account, [uid.0]).await;
            tell(&format!("- {task} {uid}\n"));
        }
        if n % 4 == 1 {
            // Messages in the queue have numbers of their own.
            let n = n + (1 << 20);
            if enqueue(store, life, task, n).await.is_err() {
                return;
            }
            tell(&format!("> {life} {task} {n}\n"));
            // Of every other message one recipient stays.
            for number in 0..RECIPIENTS - (n % 8 == 1) as u32 {
                let id = queue_id(life, task, n).0;
                tell(&format!("! {id} {number}\n"));
                if settle(store, QueueId(id), number).await.is_err() {
                    return;
                }
                tell(&format!("= {id} {number}\n"));
            }
        }
    }
}

/// What a crashed store must hold: by account and UID, the message.
#[derive(Default, Clone)]
struct Ledger {
    present: BTreeMap<(u64, u32), (u64, u64)>,
    /// Expunges that were asked for and not acknowledged: there or not.
    open: BTreeMap<u64, u32>,
    highest: BTreeMap<u64, u32>,
    /// Recipients that wait, of all messages that were ever queued.
    queued: BTreeMap<QueueId, BTreeSet<u32>>,
    /// Recipients that were to be settled, which was not acknowledged: there or not.
    settling: BTreeSet<(QueueId, u32)>,
}

impl Ledger {
    fn take(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let sign = words.next().unwrap_or_default().to_owned();
        let numbers: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
        match (sign.as_str(), numbers.as_slice()) {
            ("+", [life, task, n, uid]) => {
                let uid = *uid as u32;
                let highest = self.highest.entry(*task).or_default();
                assert!(uid > *highest, "UID {uid} came back");
                *highest = uid;
                self.present.insert((*task, uid), (*life, *n));
            }
            ("?", [task, uid]) => drop(self.open.insert(*task, *uid as u32)),
            ("-", [task, uid]) => {
                self.open.remove(task);
                self.present.remove(&(*task, *uid as u32)).expect("was there");
            }
            (">", [life, task, n]) => {
                self.queued.insert(queue_id(*life, *task, *n), (0..RECIPIENTS).collect());
            }
            ("!", [id, number]) => drop(self.settling.insert((QueueId(*id), *number as u32))),
            ("=", [id, number]) => {
                self.settling.remove(&(QueueId(*id), *number as u32));
                let waiting = self.queued.get_mut(&QueueId(*id)).expect("was queued");
                assert!(waiting.remove(&(*number as u32)), "was there");
            }
            other => panic!("{other:?}"),
        }
    }

    /// Compares with a store; afterwards the ledger says what the store says.
    async fn compare(&mut self, store: &EmbeddedStore) {
        for (task, uid) in std::mem::take(&mut self.open) {
            if inbox(store, &account_of(task)).await.by_uid(Uid(uid)).is_none() {
                self.present.remove(&(task, uid));
            }
        }
        let mut seen = BTreeSet::new();
        for task in 0..TASKS {
            let picture = inbox(store, &account_of(task)).await;
            for found in picture.iter() {
                let text = octets(store, found).await.expect("whole");
                let label: Vec<u64> =
                    String::from_utf8_lossy(&text).split(' ').take(3).map(|word| word.parse().unwrap()).collect();
                assert!(text == message(label[0], label[1], label[2]), "octets of another message");
                assert!(label[1] == task && seen.insert(label.clone()), "twice there");
                let known = self.present.entry((task, found.uid.0)).or_insert((label[0], label[2]));
                assert_eq!(*known, (label[0], label[2]));
                let highest = self.highest.entry(task).or_default();
                *highest = found.uid.0.max(*highest);
            }
            let kept = self.present.keys().filter(|(of, _)| *of == task).count();
            assert_eq!(picture.len() as usize, kept, "an acknowledged message is missing");
        }
        self.compare_queue(store).await;
    }

    async fn compare_queue(&mut self, store: &EmbeddedStore) {
        for message in store.queued_messages(QueueId(0), usize::MAX >> 1).await.unwrap() {
            let (life, task, n) = label_of(message.envelope.id);
            assert_eq!(message.envelope, envelope(message.envelope.id));
            let range = BodyRange { blob: message.blob, start: 0, octets: u64::MAX };
            let text = store.read(vec![range]).await.unwrap().remove(0).expect("whole");
            assert!(*text == self::message(life, task, n), "octets of another message");
            // What was not acknowledged is there as a whole.
            self.queued.entry(message.envelope.id).or_insert_with(|| (0..RECIPIENTS).collect());
        }
        for (id, waiting) in &mut self.queued {
            let found = store.queued(*id).await.unwrap().map_or(Vec::new(), |message| message.recipients);
            waiting.retain(|number| {
                !self.settling.contains(&(*id, *number)) || found.iter().any(|recipient| recipient.number == *number)
            });
            assert_eq!(found, waiting.iter().map(|number| recipient(*number)).collect::<Vec<_>>());
            let sums = store.story(*id).await.unwrap().expect("known").ledger.expect("accepted");
            let (accepted, waiting) = (u64::from(RECIPIENTS), waiting.len() as u64);
            assert_eq!((sums.accepted, sums.delivered, sums.waiting), (accepted, accepted - waiting, waiting));
        }
        self.settling.clear();
        let audit = store.audit().await.unwrap();
        assert!(audit.total.is_balanced() && audit.unbalanced.is_empty(), "{audit:?}");
        assert_eq!(audit.total.messages as usize, self.queued.len(), "in the ledger, and never queued");
    }
}

/// Not a test by itself: what the killed process does.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let life: u64 = std::env::var(LIFE).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(EmbeddedStore::open(Options { sync: true, ..options(folder.as_ref()) }).unwrap());
        let tell = |text: &str| {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(format!("@{text}").as_bytes()).and_then(|()| out.flush());
        };
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move { deliver_and_tell(&store, life, task, tell).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    for life in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(LIFE, life.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut heard = 0;
        for line in lines.by_ref() {
            let Some((_, line)) = line.split_once('@') else { continue };
            ledger.take(line);
            heard += 1;
            if heard >= 40 + life * 37 {
                break;
            }
        }
        child.kill().unwrap();
        // What it said before it died, it had promised.
        for line in lines {
            if let Some((_, line)) = line.split_once('@') {
                ledger.take(line);
            }
        }
        child.wait().unwrap();
        let store = open(folder.path());
        ledger.compare(&store).await;
        drop(store);
        let report = check(folder.path());
        assert!(report.is_clean() && report.orphans.is_empty(), "{report:?}");
    }
    let gone = ledger.queued.values().filter(|waiting| waiting.is_empty()).count();
    assert!(gone > 0 && gone < ledger.queued.len(), "{gone} of {} messages left the queue", ledger.queued.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_a_copy_of_the_files_of_a_running_store_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let stop = Arc::new(AtomicBool::new(false));
    for task in 0..TASKS {
        store.mailboxes(&account_of(task)).await.unwrap();
    }
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (store, ledger, stop) = (store.clone(), ledger.clone(), stop.clone());
            let work = async move {
                let account = account_of(task);
                for n in 0..400 {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let uid = deliver(&store, &account, &message(0, task, n)).await.unwrap();
                    ledger.lock().unwrap().take(&format!("+ 0 {task} {n} {uid}"));
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            };
            tokio::spawn(work)
        })
        .collect();
    for _ in 0..6 {
        let target = tempfile::tempdir().unwrap();
        let mut promised = ledger.lock().unwrap().clone();
        // The log is far too short yet for a checkpoint, so that the database file rests; the log only grows. What is
        // copied last may be ahead, as the octets of a commit are ahead of its rows in any crash.
        std::fs::create_dir(target.path().join("segments")).unwrap();
        for name in ["meta.db", "meta.db-wal"] {
            std::fs::copy(folder.path().join(name), target.path().join(name)).unwrap();
        }
        for file in std::fs::read_dir(folder.path().join("segments")).unwrap() {
            let file = file.unwrap();
            let _ = std::fs::copy(file.path(), target.path().join("segments").join(file.file_name()));
        }
        let image = open(target.path());
        promised.compare(&image).await;
        // It goes on as a store.
        for task in 0..TASKS {
            let uid = deliver(&image, &account_of(task), &message(9, task, 0)).await.unwrap();
            assert!(promised.highest.get(&task).is_none_or(|highest| uid.0 > *highest));
        }
        image.close().await.unwrap();
        let report = check(target.path());
        assert!(report.is_clean() && report.orphans.is_empty(), "{report:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r42_a_torn_tail_is_cut_and_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let account = account("torn@example.net");
    let store = open(folder.path());
    deliver(&store, &account, &noise(5_000, 1)).await.unwrap();
    store.close().await.unwrap();
    // Half a record that no row knows, and a large body that was never committed.
    let segments = folder.path().join("segments");
    let mut tail = std::fs::OpenOptions::new().append(true).open(segments.join("00000001.seg")).unwrap();
    tail.write_all(b"PBR1 and then the power went").unwrap();
    std::fs::write(segments.join("00000007.seg"), noise(1_000, 2)).unwrap();
    let store = open(folder.path());
    for n in 2..6 {
        deliver(&store, &account, &noise(5_000, n)).await.unwrap();
    }
    for (n, message) in inbox(&store, &account).await.iter().enumerate() {
        assert!(octets(&store, message).await.unwrap() == noise(5_000, [1, 2, 3, 4, 5][n]));
    }
    store.close().await.unwrap();
    assert!(check(folder.path()).is_clean());
    assert_eq!(std::fs::read_dir(segments).unwrap().count(), 1);
}

/// What a repair gives up is settled, and told.
#[tokio::test(flavor = "multi_thread")]
async fn p7_damaged_octets_of_a_queued_message_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    enqueue(&store, 0, 0, 1).await.unwrap();
    enqueue(&store, 0, 0, 2).await.unwrap();
    store.close().await.unwrap();
    let segment = folder.path().join("segments/00000001.seg");
    let mut octets = std::fs::read(&segment).unwrap();
    octets[200] ^= 4;
    std::fs::write(segment, octets).unwrap();
    let report = fsck(folder.path(), true, &mut |_| {}).unwrap();
    assert!(report.contradictions.len() == 1 && report.contradictions[0].starts_with("queue 2: "), "{report:?}");
    assert!(report.repaired && check(folder.path()).is_clean());
    let store = open(folder.path());
    assert!(store.queued(queue_id(0, 0, 1)).await.unwrap().is_none());
    assert_eq!(store.queued(queue_id(0, 0, 2)).await.unwrap().unwrap().recipients.len(), RECIPIENTS as usize);
    let audit = store.audit().await.unwrap();
    assert!(audit.unbalanced.is_empty() && audit.total.discarded == u64::from(RECIPIENTS), "{audit:?}");
}
