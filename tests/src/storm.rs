//! The storm: deliveries and IMAP changes over many connections, `kill -9` at a random moment, restart, judgement.
//!
//! Every worker keeps a ledger of what it was promised. After the restart each promise must hold: each message
//! acknowledged with 250 or OK is there exactly once, none that was expunged comes back, flags are as last acknowledged,
//! no UID means another message, UIDVALIDITY stays, and usage is the sum of what is there (R42, V61, V62).

use crate::client::{Imap, Smtp};
use crate::server::{PASSWORD, Port, Server};
use anyhow::{Context, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Accounts the storm uses.
const ACCOUNTS: usize = 6;
/// Connections that deliver.
const DELIVERERS: usize = 8;
/// Connections that change mailboxes; one an account.
const READERS: usize = ACCOUNTS;

/// What is known of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Sent; the answer was never read.
    Unknown,
    /// Acknowledged.
    Kept,
    /// An expunge was sent; its answer was never read.
    MaybeGone,
    /// Its expunge was acknowledged.
    Gone,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    fate: Fate,
    /// Whether `\Flagged` is set, as last acknowledged; `None` when a change of it was not answered.
    flagged: Option<bool>,
}

/// Promises to one account.
#[derive(Debug, Default)]
struct Ledger {
    messages: HashMap<String, Entry>,
    /// Mailbox to UIDVALIDITY.
    validity: BTreeMap<String, u32>,
    /// Mailbox and UID to message.
    uids: HashMap<(String, u32), String>,
}

/// What a storm did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Kills.
    pub kills: u64,
    /// Messages sent or appended.
    pub acknowledged: u64,
    /// Messages and expunges that a kill left without an answer.
    pub unanswered: u64,
    /// Milliseconds from start to first answer after a kill, the longest.
    pub restart_max_ms: u128,
}

/// Kills of one server and its store; then a new one begins, so that judging stays quick.
const KILLS_OF_A_STORE: u64 = 25;

/// Runs a storm with so many kills. Says how it goes through `report`.
pub fn run(kills: u64, seed: u64, mut report: impl FnMut(&str)) -> anyhow::Result<Tally> {
    let mut random = Random(seed);
    let mut tally = Tally::default();
    while tally.kills < kills {
        let upto = kills.min(tally.kills + KILLS_OF_A_STORE);
        run_one_store(upto, &mut random, &mut tally, |text| report(&format!("{text} (of {kills})")))?;
    }
    Ok(tally)
}

fn run_one_store(
    upto: u64,
    random: &mut Random,
    tally: &mut Tally,
    mut report: impl FnMut(&str),
) -> anyhow::Result<()> {
    let mut server = Server::prepare()?;
    server.launch(&[])?;
    for account in 0..ACCOUNTS {
        server.command(&["account", "add", &name(account), "--password", PASSWORD, "--scheme", "PLAIN"])?;
    }
    let ledgers: Vec<Arc<Mutex<Ledger>>> = (0..ACCOUNTS).map(|_| Arc::default()).collect();
    let serial = Arc::new(AtomicU64::new(0));
    while tally.kills < upto {
        storm_once(&mut server, &ledgers, &serial, random)?;
        tally.unanswered += ledgers.iter().map(|ledger| unanswered(&lock(ledger))).sum::<u64>();
        let begun = Instant::now();
        server.launch(&[])?;
        tally.restart_max_ms = tally.restart_max_ms.max(begun.elapsed().as_millis());
        tally.kills += 1;
        for (account, ledger) in ledgers.iter().enumerate() {
            judge(&server, &name(account), &mut lock(ledger)).with_context(|| format!("after kill {}", tally.kills))?;
        }
        report(&format!("kill {}: {} messages sent to this store", tally.kills, serial.load(Ordering::Relaxed)));
    }
    tally.acknowledged += ledgers.iter().map(|ledger| lock(ledger).messages.len() as u64).sum::<u64>();
    server.stop()
}

fn unanswered(ledger: &Ledger) -> u64 {
    ledger.messages.values().filter(|entry| matches!(entry.fate, Fate::Unknown | Fate::MaybeGone)).count() as u64
}

fn name(account: usize) -> String {
    format!("storm{account}@example.net")
}

fn lock(ledger: &Mutex<Ledger>) -> std::sync::MutexGuard<'_, Ledger> {
    // A worker never panics while it holds its ledger.
    ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Lets workers run, kills the server, waits for the workers to notice.
fn storm_once(
    server: &mut Server,
    ledgers: &[Arc<Mutex<Ledger>>],
    serial: &Arc<AtomicU64>,
    random: &mut Random,
) -> anyhow::Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    let (smtp, imaps) = (server.port(Port::Mx), server.port(Port::Imaps));
    for _ in 0..DELIVERERS {
        let (ledgers, serial, over, seed) = (ledgers.to_vec(), serial.clone(), over.clone(), random.next());
        workers.push(std::thread::spawn(move || deliver(smtp, &ledgers, &serial, &over, Random(seed))));
    }
    for (account, ledger) in ledgers.iter().take(READERS).enumerate() {
        let (ledger, serial, over, seed) = (ledger.clone(), serial.clone(), over.clone(), random.next());
        workers.push(std::thread::spawn(move || change(imaps, &name(account), &ledger, &serial, &over, Random(seed))));
    }
    std::thread::sleep(Duration::from_millis(50 + random.next() % 700));
    server.kill()?;
    over.store(true, Ordering::SeqCst);
    for worker in workers {
        let failed = worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
        if let Err(error) = failed {
            bail!("while the server ran: {error:#}");
        }
    }
    Ok(())
}

/// An error counts only if the server was still meant to run.
fn unless_over(error: anyhow::Error, over: &AtomicBool) -> anyhow::Result<()> {
    // The kill and the flag are not one step; the connection breaks a moment before the flag is set.
    std::thread::sleep(Duration::from_millis(200));
    if over.load(Ordering::SeqCst) { Ok(()) } else { Err(error) }
}

fn deliver(
    port: u16,
    ledgers: &[Arc<Mutex<Ledger>>],
    serial: &AtomicU64,
    over: &AtomicBool,
    mut random: Random,
) -> anyhow::Result<()> {
    let attempt = || -> anyhow::Result<()> {
        let mut client = Smtp::connect(port)?;
        loop {
            let id = format!("d{}", serial.fetch_add(1, Ordering::Relaxed));
            let first = random.next() as usize % ACCOUNTS;
            let targets: Vec<usize> = match random.next() % 4 {
                0 => vec![first, (first + 1) % ACCOUNTS],
                _ => vec![first],
            };
            let names: Vec<String> = targets.iter().map(|target| name(*target)).collect();
            for target in &targets {
                lock(&ledgers[*target])
                    .messages
                    .insert(id.clone(), Entry { fate: Fate::Unknown, flagged: Some(false) });
            }
            let recipients: Vec<&str> = names.iter().map(String::as_str).collect();
            client.send("storm@example.org", &recipients, &text(&id, &mut random))?;
            for target in &targets {
                let mut ledger = lock(&ledgers[*target]);
                if let Some(entry) = ledger.messages.get_mut(&id)
                    && entry.fate == Fate::Unknown
                {
                    entry.fate = Fate::Kept;
                }
            }
        }
    };
    let mut attempt = attempt;
    attempt().or_else(|error| unless_over(error, over))
}

fn text(id: &str, random: &mut Random) -> String {
    let size = match random.next() % 20 {
        0 => 900_000,
        1..4 => 70_000,
        _ => 1_500,
    };
    let mut body = format!("Message-ID: <{id}@storm>\r\nSubject: {id}\r\n\r\n");
    while body.len() < size {
        body.push_str(&format!("{:016x} {:016x} {:016x} {id}\r\n", random.next(), random.next(), random.next()));
    }
    body.push_str(&format!("end of {id}"));
    body
}

fn change(
    port: u16,
    account: &str,
    ledger: &Mutex<Ledger>,
    serial: &AtomicU64,
    over: &AtomicBool,
    mut random: Random,
) -> anyhow::Result<()> {
    let mut attempt = || -> anyhow::Result<()> {
        let mut client = Imap::login(port, account, PASSWORD)?;
        loop {
            append(&mut client, ledger, serial, &mut random)?;
            client.command("SELECT INBOX")?;
            let inbox = list(&mut client, "INBOX", &mut lock(ledger))?;
            for (uid, id) in inbox.iter().rev().take(4) {
                match random.next() % 4 {
                    0 => flag(&mut client, ledger, *uid, id, random.next().is_multiple_of(2))?,
                    1 => expunge(&mut client, ledger, *uid, id)?,
                    2 => {
                        client.command(&format!("UID MOVE {uid} Archive"))?;
                    }
                    _ => {}
                }
            }
        }
    };
    attempt().or_else(|error| unless_over(error, over))
}

fn append(client: &mut Imap, ledger: &Mutex<Ledger>, serial: &AtomicU64, random: &mut Random) -> anyhow::Result<()> {
    let id = format!("a{}", serial.fetch_add(1, Ordering::Relaxed));
    lock(ledger).messages.insert(id.clone(), Entry { fate: Fate::Unknown, flagged: Some(false) });
    client.literal("APPEND Drafts", text(&id, random).as_bytes())?;
    if let Some(entry) = lock(ledger).messages.get_mut(&id) {
        entry.fate = Fate::Kept;
    }
    Ok(())
}

fn flag(client: &mut Imap, ledger: &Mutex<Ledger>, uid: u32, id: &str, set: bool) -> anyhow::Result<()> {
    let note = |flagged| {
        if let Some(entry) = lock(ledger).messages.get_mut(id) {
            entry.flagged = flagged;
        }
    };
    note(None);
    client.command(&format!("UID STORE {uid} {}FLAGS.SILENT (\\Flagged)", if set { '+' } else { '-' }))?;
    note(Some(set));
    Ok(())
}

fn expunge(client: &mut Imap, ledger: &Mutex<Ledger>, uid: u32, id: &str) -> anyhow::Result<()> {
    let note = |fate| {
        if let Some(entry) = lock(ledger).messages.get_mut(id) {
            entry.fate = fate;
        }
    };
    note(Fate::MaybeGone);
    client.command(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"))?;
    client.command(&format!("UID EXPUNGE {uid}"))?;
    note(Fate::Gone);
    Ok(())
}

/// UID and message of everything in the selected mailbox; checks the numbering against the ledger.
fn list(client: &mut Imap, mailbox: &str, ledger: &mut Ledger) -> anyhow::Result<Vec<(u32, String)>> {
    let (responses, _) = client.command("UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")?;
    let mut found = Vec::new();
    for response in responses {
        let text = String::from_utf8_lossy(&response).into_owned();
        let Some(uid) = after(&text, "UID ").and_then(number) else { continue };
        let Some(id) = after(&text, "<").and_then(|rest| rest.split_once("@storm>")).map(|(id, _)| id.to_owned())
        else {
            continue;
        };
        let known = ledger.uids.entry((mailbox.to_owned(), uid)).or_insert_with(|| id.clone());
        ensure!(*known == id, "{mailbox}: UID {uid} was {known} and is now {id}");
        found.push((uid, id));
    }
    Ok(found)
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

fn number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Looks at everything the account has and compares it with what was promised.
fn judge(server: &Server, account: &str, ledger: &mut Ledger) -> anyhow::Result<()> {
    let mut client = Imap::login(server.port(Port::Imaps), account, PASSWORD)?;
    let mut seen: HashMap<String, bool> = HashMap::new();
    let mut octets = 0u64;
    for mailbox in ["INBOX", "Archive", "Drafts"] {
        let (responses, _) = client.command(&format!("SELECT {mailbox}"))?;
        let selected = String::from_utf8_lossy(&responses.concat()).into_owned();
        let validity = after(&selected, "UIDVALIDITY ").and_then(number).context("UIDVALIDITY")?;
        let known = *ledger.validity.entry(mailbox.to_owned()).or_insert(validity);
        ensure!(known == validity, "{account} {mailbox}: UIDVALIDITY was {known} and is now {validity}");
        let next = after(&selected, "UIDNEXT ").and_then(number).context("UIDNEXT")?;
        let highest = ledger.uids.keys().filter(|(name, _)| name == mailbox).map(|(_, uid)| *uid).max().unwrap_or(0);
        ensure!(next > highest, "{account} {mailbox}: UIDNEXT {next}, but UID {highest} was seen");
        list(&mut client, mailbox, ledger)?;
        let (responses, _) = client.command("UID FETCH 1:* (FLAGS RFC822.SIZE BODY.PEEK[])")?;
        for response in responses {
            let text = String::from_utf8_lossy(&response).into_owned();
            let Some(size) = after(&text, "RFC822.SIZE ").and_then(number) else { continue };
            octets += u64::from(size);
            let Some((id, _)) = after(&text, "Message-ID: <").and_then(|rest| rest.split_once("@storm>")) else {
                continue;
            };
            ensure!(text.contains(&format!("end of {id}")), "{account} {mailbox}: {id} is not whole");
            let flags = text.split_once("BODY[]").map_or(&*text, |(flags, _)| flags);
            let twice = seen.insert(id.to_owned(), flags.contains("\\Flagged"));
            ensure!(twice.is_none(), "{account}: {id} is there twice");
        }
    }
    compare(account, ledger, &seen)?;
    let (responses, _) = client.command("GETQUOTAROOT INBOX")?;
    let quota = String::from_utf8_lossy(&responses.concat()).into_owned();
    let used = after(&quota, "STORAGE ").and_then(number).context("STORAGE")?;
    ensure!(
        u64::from(used) == octets.div_ceil(1024) || u64::from(used) == octets / 1024,
        "{account}: usage is {used} KiB, but {octets} octets are there"
    );
    Ok(())
}

fn compare(account: &str, ledger: &mut Ledger, seen: &HashMap<String, bool>) -> anyhow::Result<()> {
    for (id, entry) in &mut ledger.messages {
        let there = seen.get(id);
        match entry.fate {
            Fate::Kept => ensure!(there.is_some(), "{account}: {id} was acknowledged and is lost"),
            Fate::Gone => ensure!(there.is_none(), "{account}: {id} was expunged and came back"),
            Fate::Unknown | Fate::MaybeGone => {
                entry.fate = if there.is_some() { Fate::Kept } else { Fate::Gone };
            }
        }
        if let (Some(there), Some(promised)) = (there, entry.flagged) {
            ensure!(*there == promised, "{account}: \\Flagged of {id} should be {promised}");
        }
        entry.flagged = there.copied().or(entry.flagged);
    }
    match seen.keys().find(|id| !ledger.messages.contains_key(*id)) {
        Some(stranger) => bail!("{account}: nobody sent {stranger}"),
        None => Ok(()),
    }
}

/// A small generator of numbers; a seed repeats a storm's choices, though not the machine's timing.
#[derive(Debug, Clone, Copy)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
