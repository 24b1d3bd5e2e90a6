//! What runs under the recorder: a few tasks that each own two accounts, all of them delivering into a shared one, a
//! reader, and somebody who reclaims. Everything is said before it is begun and after it is done.
//!
//! A run may take over the folder of one that was killed. It then first finds out what that had left under way.

pub mod carry;
mod deeds;
mod outbound;

use crate::body::Bodies;
use crate::check::{check_task, everything};
use crate::ledger::{Ledger, SHARED_ACCOUNT};
use crate::mark::{Mark, Marks};
use crate::model::{Deed, Model};
use crate::reading::{self, name_of};
use deeds::Author;
use mail::MailboxId;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::MailStore;
use store::embedded::EmbeddedStore;
use testkit::powercut::dice::Dice;

/// Tasks that own accounts.
const TASKS: u32 = 4;

/// How to run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The recorded folder; the store is the folder `store` in it.
    pub folder: PathBuf,
    /// From which everything that is done follows, though not the order in which tasks come to it.
    pub seed: u64,
    /// Deeds of each task.
    pub deeds: u32,
    /// Whether to close the store at the end, or just to leave.
    pub close: bool,
}

/// The store's folder below the recorded one.
pub fn store_folder(folder: &Path) -> PathBuf {
    folder.join("store")
}

/// Runs. `before` is what runs before this one said.
pub async fn run(run: Run, before: Ledger) -> Result<(), String> {
    let store = EmbeddedStore::open(carry::options(&store_folder(&run.folder))).map_err(|error| error.to_string())?;
    let stage = Arc::new(Stage {
        store,
        marks: Marks::open(&run.folder).map_err(|error| error.to_string())?,
        next_body: AtomicU64::new(before.body_max + 1),
        bodies: Bodies::default(),
        known: Mutex::default(),
        over: AtomicBool::new(false),
    });
    let models = take_over(&stage, before).await?;
    let mut tasks = Vec::new();
    for (number, model) in models {
        let dice = Dice::new(run.seed.wrapping_mul(0x9e37_79b9) ^ u64::from(number) << 32);
        tasks.push(tokio::spawn(perform(stage.clone(), number, model, dice, run.deeds)));
    }
    let others = [tokio::spawn(read_along(stage.clone(), Dice::new(run.seed))), tokio::spawn(reclaim(stage.clone()))];
    for task in tasks {
        task.await.map_err(|error| error.to_string())??;
    }
    stage.over.store(true, Ordering::Relaxed);
    for other in others {
        other.await.map_err(|error| error.to_string())??;
    }
    match run.close {
        true => stage.store.close().await.map_err(|error| error.to_string()),
        // As after `kill -9`: nobody tidies up.
        false => std::process::exit(0),
    }
}

/// What all tasks share.
struct Stage {
    store: EmbeddedStore,
    marks: Marks,
    next_body: AtomicU64,
    bodies: Bodies,
    /// Mailboxes for the reader to look at.
    known: Mutex<Vec<(String, u64)>>,
    over: AtomicBool,
}

impl Stage {
    fn say(&self, mark: Mark) -> Result<(), String> {
        self.marks.say(&mark).map_err(|error| error.to_string())
    }

    fn new_body(&self) -> u64 {
        self.next_body.fetch_add(1, Ordering::Relaxed)
    }

    /// Says the number and UIDVALIDITY of mailboxes that are new to the model.
    async fn learn(&self, task: u32, model: &mut Model) -> Result<(), String> {
        for (name, account) in &mut model.accounts {
            if account.mailboxes.values().all(|mailbox| mailbox.identity.is_some()) {
                continue;
            }
            let lines = self.store.mailboxes(&name_of(name)?).await.map_err(|error| error.to_string())?;
            for line in lines.iter() {
                let mailbox = account.mailboxes.get_mut(line.name.as_str());
                let (Some(id), Some(mailbox)) = (line.id, mailbox) else { continue };
                if mailbox.identity.is_none() {
                    let (id, uid_validity) = (id.0, line.uid_validity.0);
                    mailbox.identity = Some((id, uid_validity));
                    let (account, mailbox) = (name.clone(), line.name.to_string());
                    self.known.lock().unwrap_or_else(PoisonError::into_inner).push((account.clone(), id));
                    self.say(Mark::Learned { task, account, mailbox, id, uid_validity })?;
                }
            }
        }
        Ok(())
    }
}

/// Finds out what became of that which was under way when the run before ended. Gives what each task owns.
async fn take_over(stage: &Stage, before: Ledger) -> Result<BTreeMap<u32, Model>, String> {
    let found = everything(&stage.store, &before, &stage.bodies).await?;
    let mut models = BTreeMap::new();
    for number in 0..TASKS {
        let task = before.tasks.get(&number).cloned().unwrap_or_default();
        let done = check_task(&found, &task).map_err(|error| format!("after the kill, task {number}: {error}"))?;
        let mut model = if done { task.with_under_way().unwrap_or_default() } else { task.model };
        if task.under_way.is_some() {
            stage.say(Mark::Found { task: number, done })?;
        }
        stage.learn(number, &mut model).await?;
        models.insert(number, model);
    }
    let inbox = found.accounts.get(SHARED_ACCOUNT).and_then(|shared| shared.account.mailboxes.get("INBOX"));
    for (body, _) in before.shared.iter().filter(|(_, told)| told.is_none()) {
        let mut messages = inbox.iter().flat_map(|inbox| &inbox.messages);
        let uid = messages.find(|(_, message)| message.body == *body).map_or(0, |(uid, _)| *uid);
        stage.say(Mark::FoundShared { body: *body, uid })?;
    }
    Ok(models)
}

/// One task's life.
async fn perform(stage: Arc<Stage>, task: u32, mut model: Model, mut dice: Dice, deeds: u32) -> Result<(), String> {
    let author = Author { task };
    for _ in 0..deeds {
        if dice.below(3) == 0 {
            deliver_to_shared(&stage).await?;
        }
        let mut after = model.clone();
        let deed = author.write(&model, &mut dice, || stage.new_body());
        if after.apply(&deed).is_none() {
            continue;
        }
        stage.say(Mark::Begin { task, deed: deed.clone() })?;
        carry::carry_out(&stage.store, &model, &deed, &stage.bodies).await?;
        stage.say(Mark::Done { task })?;
        model = after;
        stage.learn(task, &mut model).await?;
        agrees(&stage, &model, &deed).await?;
    }
    Ok(())
}

/// The store shows what the model says. This tests the model as much as the store.
async fn agrees(stage: &Stage, model: &Model, deed: &Deed) -> Result<(), String> {
    let mut found = BTreeMap::new();
    for account in deed.accounts() {
        if model.accounts.contains_key(account) {
            found.insert(account.to_owned(), reading::account(&stage.store, account, &stage.bodies).await?);
        }
    }
    reading::compare(&found, model, &deed.accounts()).map_err(|error| format!("after {deed:?}: {error}"))?;
    for message in deed.messages() {
        let found = reading::queue::message(&stage.store, message, &stage.bodies).await?;
        let compared = reading::queue::compare_queue(&found, &model.queue, [message].into_iter());
        compared.map_err(|error| format!("after {deed:?}: {error}"))?;
    }
    Ok(())
}

async fn deliver_to_shared(stage: &Stage) -> Result<(), String> {
    let body = stage.new_body();
    stage.say(Mark::Offer { body })?;
    let uid = carry::deliver(&stage.store, SHARED_ACCOUNT, body, &stage.bodies).await?;
    stage.say(Mark::Taken { body, uid })
}

/// Looks at mailboxes while they change, and says how far it saw.
async fn read_along(stage: Arc<Stage>, mut dice: Dice) -> Result<(), String> {
    while !stage.over.load(Ordering::Relaxed) {
        let picked = {
            let known = stage.known.lock().unwrap_or_else(PoisonError::into_inner);
            dice.pick(&known).cloned()
        };
        if let Some((account, mailbox)) = picked {
            let name = name_of(&account)?;
            if let Ok(snapshot) = stage.store.snapshot(&name, MailboxId(mailbox)).await {
                let (uid_next, mod_sequence) = (snapshot.uid_next.0, snapshot.mod_sequence.0);
                stage.say(Mark::Seen { account, mailbox, uid_next, mod_sequence })?;
                // Not durable, and so nothing to be said of it; what it writes must do no harm.
                let _ = stage.store.claim_recent(&name, MailboxId(mailbox)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn reclaim(stage: Arc<Stage>) -> Result<(), String> {
    while !stage.over.load(Ordering::Relaxed) {
        stage.store.reclaim().await.map_err(|error| format!("reclaiming: {error}"))?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    Ok(())
}
