//! Opens what a power cut left and holds it against what had been said by then.

use crate::body::{Bodies, Body};
use crate::ledger::{Ledger, SHARED_ACCOUNT, Task};
use crate::model::queue::{Ending, Queue};
use crate::model::{Deed, Model};
use crate::reading::queue::{FoundQueue, compare_queue};
use crate::reading::{self, Found, name_of};
use crate::workload::carry;
use mail::{Change, Commit, FlagSet, Group, MailboxName, MailboxRef, Outcome, Quota};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use store::MailStore;
use store::embedded::{EmbeddedStore, Options};

/// Body numbers of messages delivered by the check, above all of the workload.
const AFTERWARDS: u64 = 1_000_000;
/// The same of a message that the check queues.
const QUEUED_AFTERWARDS: u64 = 2 * AFTERWARDS;

/// Opens the store in `folder` and checks it. The error says what was promised and is not so.
pub async fn check(folder: &Path, ledger: &Ledger, bodies: &Bodies) -> Result<(), String> {
    let options = Options { sync: false, ..carry::options(folder) };
    let store = EmbeddedStore::open(options).map_err(|error| format!("the store does not open: {error}"))?;
    let all = everything(&store, ledger, bodies).await?;
    for (number, task) in &ledger.tasks {
        check_task(&all, task).map_err(|error| format!("task {number}: {error}"))?;
    }
    let Everything { accounts: found, queue } = all;
    check_shared(found.get(SHARED_ACCOUNT), ledger)?;
    check_accounts(&found, ledger)?;
    check_counters(&store, &found, ledger).await?;
    check_octets(&store, &found, &queue, bodies).await?;
    check_health(&store).await?;
    let delivered = deliver_afterwards(&store, &found, ledger, bodies).await?;
    let queued = run_queue_afterwards(&store, queue, bodies).await?;
    reclaim(&store).await?;
    let Everything { accounts: found, queue } = everything(&store, ledger, bodies).await?;
    compare_queue(&queue.queue, &queued, [QUEUED_AFTERWARDS].into_iter())?;
    if queue.queue.messages.len() != 1 {
        return Err(format!("what was settled afterwards still waits: {:?}", queue.queue.messages));
    }
    for (account, uid) in &delivered {
        let inbox = found.get(account).and_then(|found| found.account.mailboxes.get("INBOX"));
        if !inbox.is_some_and(|inbox| inbox.messages.contains_key(uid)) {
            return Err(format!("{account}: what was delivered afterwards is not there"));
        }
    }
    check_octets(&store, &found, &queue, bodies).await?;
    check_health(&store).await?;
    store.close().await.map_err(|error| format!("the store does not close: {error}"))
}

/// All that a store has.
pub struct Everything {
    /// Accounts by name.
    pub accounts: BTreeMap<String, Found>,
    /// The queue.
    pub queue: FoundQueue,
}

/// Reads all that the store has. The ledger tells which messages may ever have been accepted.
pub async fn everything(store: &EmbeddedStore, ledger: &Ledger, bodies: &Bodies) -> Result<Everything, String> {
    let mut accounts = BTreeMap::new();
    for account in store.accounts().await.map_err(|error| error.to_string())? {
        accounts.insert(account.to_string(), reading::account(store, account.as_str(), bodies).await?);
    }
    let messages: Vec<u64> = ledger.tasks.values().flat_map(Task::messages).chain([QUEUED_AFTERWARDS]).collect();
    let queue = reading::queue::queue(store, messages.into_iter(), bodies).await?;
    Ok(Everything { accounts, queue })
}

/// What the task was told is done is so, and what was under way is done as a whole or not at all. Gives which.
pub fn check_task(found: &Everything, task: &Task) -> Result<bool, String> {
    let mut owned: BTreeSet<&str> = task.model.accounts.keys().map(String::as_str).collect();
    owned.extend(task.under_way.iter().flat_map(|deed| deed.accounts()));
    let owned: Vec<&str> = owned.into_iter().collect();
    let compare = |model: &Model| {
        reading::compare(&found.accounts, model, &owned)?;
        compare_queue(&found.queue.queue, &model.queue, task.messages().into_iter())
    };
    let Err(without) = compare(&task.model) else { return Ok(false) };
    let Some(model) = task.with_under_way() else { return Err(without) };
    let Err(with) = compare(&model) else { return Ok(true) };
    Err(format!("{without}; and if {:?} was done: {with}", task.under_way))
}

/// Many deliver to the shared INBOX at once: all that was acknowledged is there under its UID, and nothing twice.
fn check_shared(found: Option<&Found>, ledger: &Ledger) -> Result<(), String> {
    let inbox = found.and_then(|found| found.account.mailboxes.get("INBOX"));
    let mut present = BTreeSet::new();
    for (uid, message) in inbox.iter().flat_map(|inbox| &inbox.messages) {
        match ledger.shared.get(&message.body) {
            None => return Err(format!("shared UID {uid}: message {} was never offered", message.body)),
            Some(Some(told)) if told != uid => {
                return Err(format!("shared UID {uid}: message {} was told to be {told}", message.body));
            }
            Some(_) => {}
        }
        if !present.insert(message.body) {
            return Err(format!("shared UID {uid}: message {} is there twice", message.body));
        }
    }
    match ledger.shared.iter().find(|(body, told)| told.is_some() && !present.contains(body)) {
        Some((body, told)) => Err(format!("shared: message {body}, told to be {told:?}, is lost")),
        None => Ok(()),
    }
}

/// No account and no mailbox is there that nobody made, and none has the identity of another.
fn check_accounts(found: &BTreeMap<String, Found>, ledger: &Ledger) -> Result<(), String> {
    let mut known: BTreeSet<&str> = BTreeSet::from([SHARED_ACCOUNT]);
    for task in ledger.tasks.values() {
        known.extend(task.model.accounts.keys().map(String::as_str));
        known.extend(task.under_way.iter().flat_map(|deed| deed.accounts()));
    }
    let mut ids = BTreeSet::new();
    for (name, found) in found {
        if !known.contains(name.as_str()) {
            return Err(format!("account {name} was never made"));
        }
        for (mailbox, state) in &found.account.mailboxes {
            let Some((id, uid_validity)) = state.identity else { continue };
            if !ids.insert(id) {
                return Err(format!("mailbox number {id} is there twice"));
            }
            // A name may carry the UIDVALIDITY of one that bore it before only if it is the same mailbox.
            let reused = |known: &&(String, String, u64, u32)| {
                (known.0 == *name && known.1 == *mailbox && known.3 == uid_validity && known.2 != id)
                    || (known.2 == id && (known.0 != *name || known.3 != uid_validity))
            };
            if let Some(other) = ledger.identities.iter().find(reused) {
                return Err(format!("{name}, {mailbox}: number {id}, UIDVALIDITY {uid_validity} repeat {other:?}"));
            }
        }
    }
    Ok(())
}

/// Counters agree with what they count, and none fell behind what a reader was shown.
async fn check_counters(store: &EmbeddedStore, found: &BTreeMap<String, Found>, ledger: &Ledger) -> Result<(), String> {
    for (name, found) in found {
        let account = name_of(name)?;
        let usage = store.usage(&account).await.map_err(|error| error.to_string())?;
        let counted = store.recalculate(&account).await.map_err(|error| error.to_string())?;
        if usage != found.usage || counted != (usage, usage) {
            return Err(format!("{name}: usage {usage:?}, counted {:?}, recalculated {counted:?}", found.usage));
        }
        for (mailbox, uid_next, mod_sequence) in &found.heads {
            if let Some(seen) = ledger.seen.get(&(name.clone(), *mailbox))
                && (*uid_next < seen.0 || *mod_sequence < seen.1)
            {
                let now = (uid_next, mod_sequence);
                return Err(format!("{name}, mailbox {mailbox}: a reader was shown {seen:?}, now it is {now:?}"));
            }
        }
    }
    Ok(())
}

/// Every message reads back as it was taken in, in mailboxes and in the queue.
async fn check_octets(
    store: &EmbeddedStore,
    found: &BTreeMap<String, Found>,
    queue: &FoundQueue,
    bodies: &Bodies,
) -> Result<(), String> {
    let blobs = found.values().flat_map(|found| found.blobs.clone()).chain(queue.blobs.clone()).collect();
    reading::compare_octets(store, &blobs, bodies).await
}

/// The store's own check finds nothing.
async fn check_health(store: &EmbeddedStore) -> Result<(), String> {
    let report = store.verify(|_| {}).await.map_err(|error| format!("the check does not run: {error}"))?;
    if report.is_clean() { Ok(()) } else { Err(format!("the store's own check finds {report:?}")) }
}

async fn reclaim(store: &EmbeddedStore) -> Result<(), String> {
    store.reclaim().await.map(|_| ()).map_err(|error| format!("reclaiming fails: {error}"))
}

/// The queue goes on: all that waits is settled, and a new message is queued. Gives the queue as it is then.
async fn run_queue_afterwards(store: &EmbeddedStore, found: FoundQueue, bodies: &Bodies) -> Result<Queue, String> {
    let mut model = Model { queue: found.queue, ..Model::default() };
    let waiting: Vec<(u64, Vec<u32>)> =
        model.queue.messages.iter().map(|(message, all)| (*message, all.keys().copied().collect())).collect();
    let mut deeds: Vec<Deed> = waiting
        .into_iter()
        .map(|(message, numbers)| Deed::Settle { message, numbers, how: Ending::Delivered, report: None })
        .collect();
    deeds.push(Deed::Accept { accounts: Vec::new(), body: QUEUED_AFTERWARDS, discarded: 0, recipients: 1 });
    for deed in deeds {
        carry::carry_out(store, &model, &deed, bodies).await?;
        model.apply(&deed).ok_or_else(|| format!("afterwards the model refuses {deed:?}"))?;
    }
    Ok(model.queue)
}

/// Every account takes new mail under UIDs that nobody ever saw, and new mailboxes are new. Gives account and UID.
async fn deliver_afterwards(
    store: &EmbeddedStore,
    found: &BTreeMap<String, Found>,
    ledger: &Ledger,
    bodies: &Bodies,
) -> Result<Vec<(String, u32)>, String> {
    let mut delivered = Vec::new();
    let names = found.keys().map(String::as_str).chain(["new@example.net"]);
    for (number, name) in (AFTERWARDS..).zip(names) {
        let staged = carry::stage(store, number, bodies)?;
        let changes = vec![
            Change::Append {
                mailbox: MailboxRef::Named(MailboxName::inbox()),
                body: staged.id,
                flags: FlagSet::default(),
                internal_date: Body::date(number),
            },
            Change::CreateMailbox {
                name: MailboxName::parse("Afterwards").map_err(|_| "the name of a mailbox")?,
                special_use: None,
            },
        ];
        let group = Group { account: name_of(name)?, changes, quota: Quota::default() };
        let answers = store.commit(Commit { groups: vec![group], together: false, ..Commit::default() }).await;
        let answer = answers.map_err(|error| format!("{name}: no new mail: {error}"))?.pop();
        let Some(Ok(outcomes)) = answer else { return Err(format!("{name}: no new mail: {answer:?}")) };
        for outcome in outcomes {
            match outcome {
                Outcome::Appended { uid, .. } => {
                    let inbox = found.get(name).and_then(|found| found.account.mailboxes.get("INBOX"));
                    let id = inbox.and_then(|inbox| inbox.identity).map_or(0, |identity| identity.0);
                    let seen = ledger.seen.get(&(name.to_owned(), id)).map_or(1, |seen| seen.0);
                    let told = ledger.shared.values().flatten().max().filter(|_| name == SHARED_ACCOUNT);
                    if uid.0 < seen || told.is_some_and(|told| uid.0 <= *told) {
                        return Err(format!("{name}: UID {uid} comes again"));
                    }
                    delivered.push((name.to_owned(), uid.0));
                }
                Outcome::Created { mailbox, uid_validity } => {
                    let known = |known: &(String, String, u64, u32)| known.2 == mailbox.0;
                    if ledger.identities.iter().any(known) || uid_validity.0 == 0 {
                        return Err(format!("{name}: mailbox number {mailbox} comes again"));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(delivered)
}
