//! Random commits, compared with the model after each; then the store is opened again and compared once more.

mod queue;

use super::model::Model;
use super::*;
use crate::StoreError;
use mail::{FlagEdit, Keyword, ModSeq, QueueId};
use std::collections::{BTreeMap, BTreeSet};

const ACCOUNTS: [&str; 3] = ["r1@example.net", "r2@example.net", "r3@example.net"];
const NAMES: [&str; 10] =
    ["INBOX", "Sent", "Trash", "a", "a/b", "a/b/c", "d", "INBOX/x", "d/e f", "\u{e4}\u{f6}\u{fc}"];
const KEYWORDS: [&str; 5] = ["$Forwarded", "red", "RED", "blue", "$Junk"];
/// Times the store is opened.
const LIVES: u64 = 3;
const COMMITS_PER_LIFE: u64 = 250;
/// What every random body begins with.
const PREFIX: &[u8] = b"Received: by the model\r\n";

pub async fn compare_with_a_model(make: &impl Fn() -> Arc<dyn MailStore>) {
    let mut random = Random(20_260_101);
    let mut model = Model::default();
    for life in 0..LIVES {
        let store = make();
        match life {
            0 => queue::forget_all_before(&*store).await,
            _ => compare_all(&*store, &mut model).await,
        }
        for _ in 0..COMMITS_PER_LIFE {
            one_commit(&*store, &mut model, &mut random).await;
            if random.below(60) == 0 {
                queue::forget_some(&*store, &mut model, &mut random).await;
            }
        }
        compare_all(&*store, &mut model).await;
        store.close().await.expect("closes");
    }
    let store = make();
    compare_all(&*store, &mut model).await;
    store.close().await.expect("closes");
}

async fn one_commit(store: &dyn MailStore, model: &mut Model, random: &mut Random) {
    let octets = Arc::new({
        let size = if random.below(40) == 0 { 200_000 } else { random.below(300) } as usize;
        let mut octets = PREFIX.to_vec();
        octets.extend(random.octets(size));
        octets
    });
    let staged = stage(store, &octets[PREFIX.len()..], PREFIX);
    model.bodies.insert(staged.id, octets);
    let mut order: Vec<&str> = ACCOUNTS.to_vec();
    let mut groups = Vec::new();
    let queue = queue::changes(model, staged.id, random);
    let groups_min = u64::from(queue.is_empty());
    for _ in 0..groups_min + random.below(2) {
        let account = account(order.swap_remove(random.below(order.len() as u64) as usize));
        let changes = (0..1 + random.below(3)).map(|_| one_change(model, &account, staged.id, random)).collect();
        let quota = match random.below(4) {
            0 => Quota {
                octets_max: Some(random.below(20_000)),
                messages_max: Some(random.below(60)),
                grace_octets: random.below(500),
            },
            _ => Quota::default(),
        };
        groups.push(Group { account, changes, quota });
    }
    let commit = Commit { groups, together: random.below(3) == 0, queue };
    let before = mod_sequences(store, &commit).await;
    let answers = store.commit(commit.clone()).await;
    match (model.lacks_a_body(&commit), answers) {
        (false, answers) => model.commit(&commit, &answers.expect("commits")),
        (true, Err(StoreError::NoSuchBlob)) => commit.groups.iter().for_each(|group| model.begin(&group.account)),
        (true, answers) => panic!("{answers:?} though a body is missing"),
    }
    for group in &commit.groups {
        compare_account(store, model, &group.account, before[&group.account]).await;
    }
    queue::compare(store, model, &queue::messages_of(&commit)).await;
}

/// The highest mod-sequence of each account of a commit.
async fn mod_sequences(store: &dyn MailStore, commit: &Commit) -> BTreeMap<AccountName, ModSeq> {
    let mut highest = BTreeMap::new();
    for group in &commit.groups {
        let mut of_account = ModSeq(0);
        for info in store.mailboxes(&group.account).await.expect("lists").iter() {
            if let Some(id) = info.id {
                of_account = of_account.max(store.snapshot(&group.account, id).await.expect("exists").mod_sequence);
            }
        }
        highest.insert(group.account.clone(), of_account);
    }
    highest
}

fn one_change(model: &Model, account: &AccountName, body: BodyId, random: &mut Random) -> Change {
    let name = super::name(random.pick::<&str>(&NAMES));
    let known: Vec<(MailboxId, u32)> = model.accounts.get(account).map_or(Vec::new(), |account| {
        account.mailboxes.values().filter_map(|mailbox| Some((mailbox.id?, mailbox.uid_next))).collect()
    });
    let (mailbox, uid_next) = match known.is_empty() || random.below(30) == 0 {
        true => (MailboxId(1 << 40), 1),
        false => *random.pick(&known),
    };
    let to = match random.below(2) {
        0 => MailboxRef::Named(name.clone()),
        _ => MailboxRef::Id(mailbox),
    };
    let mut set = UidSet::new();
    for _ in 0..random.below(4) {
        let first = 1 + random.below(u64::from(uid_next)) as u32;
        set.insert_range(Uid(first), Uid(first + random.below(6) as u32));
    }
    let flags = FlagSet {
        flags: Flags(random.below(32) as u8),
        keywords: (0..random.below(3)).filter_map(|_| Keyword::parse(random.pick::<&str>(&KEYWORDS))).collect(),
    };
    match random.below(20) {
        0 => Change::CreateMailbox { name, special_use: None },
        1 => Change::DeleteMailbox { mailbox },
        2 => Change::RenameMailbox { mailbox, name },
        3 => Change::Subscribe { name, subscribed: random.below(2) == 0 },
        4..=8 => {
            let internal_date =
                InternalDate { unix_seconds: random.below(1 << 32) as i64, zone_minutes: random.below(800) as i16 };
            Change::Append { mailbox: to, body, flags, internal_date }
        }
        9..=10 => Change::Copy { from: mailbox, uids: set, to },
        11..=13 => Change::Move { from: mailbox, uids: set, to },
        14..=17 => {
            let edit = *random.pick(&[FlagEdit::Add, FlagEdit::Remove, FlagEdit::Replace]);
            // Not beyond what there is: the model does not know the number that this group will get.
            let messages = model.accounts.get(account).into_iter().flat_map(|account| account.mailboxes.values());
            let highest = messages.flat_map(|mailbox| mailbox.messages.values()).map(|m| m.mod_sequence.0).max();
            let unchanged_since = (random.below(3) == 0).then(|| ModSeq(random.below(highest.unwrap_or(0) + 1)));
            Change::StoreFlags { mailbox, uids: set, edit, flags, unchanged_since }
        }
        _ => Change::Expunge { mailbox, uids: set, only_deleted: random.below(2) == 0 },
    }
}

async fn compare_account(store: &dyn MailStore, model: &mut Model, name: &AccountName, before: ModSeq) {
    let account = model.accounts.get_mut(name).expect("begun");
    let list = store.mailboxes(name).await.expect("lists");
    account.compare_list(&list, &mut model.mailboxes_seen);
    assert_eq!(store.usage(name).await.expect("counts"), account.usage(), "V62");
    for mailbox in account.mailboxes.values_mut() {
        let picture = store.snapshot(name, mailbox.id.expect("learned")).await.expect("exists");
        mailbox.compare(&picture, before);
    }
}

/// Compares everything, octets and digests included.
async fn compare_all(store: &dyn MailStore, model: &mut Model) {
    let names: Vec<AccountName> = model.accounts.keys().cloned().collect();
    for name in &names {
        compare_account(store, model, name, ModSeq(0)).await;
        let (before, after) = store.recalculate(name).await.expect("counts");
        assert_eq!(before, after, "V62");
        for mailbox in model.accounts[name].mailboxes.values() {
            let picture = store.snapshot(name, mailbox.id.expect("learned")).await.expect("exists");
            let ranges = picture.iter().map(|m| BodyRange { blob: m.blob, start: 0, octets: u64::MAX }).collect();
            let octets = store.read(ranges).await.expect("reads");
            let digests = store.digests(picture.iter().map(|m| m.blob).collect()).await.expect("reads");
            for ((expected, octets), digest) in mailbox.messages.values().zip(octets).zip(digests) {
                assert!(octets.expect("sound") == expected.octets[..]);
                assert!(digest.expect("there") == expected.digest(PREFIX.len()));
            }
        }
    }
    let told: BTreeSet<QueueId> = model.queue.tales.keys().chain(model.queue.messages.keys()).copied().collect();
    queue::compare(store, model, &told).await;
    queue::compare_octets(store, model).await;
    let present = store.accounts().await.expect("lists");
    assert!(names.iter().all(|name| present.contains(name)) && present.is_sorted());
}
