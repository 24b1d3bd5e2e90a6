//! A plain model of accounts with their mailboxes and of the queue, and what each deed does to it.
//!
//! Written from the documentation of `mail::Change`, without the store: where they differ, one of them is wrong.

pub mod queue;

use queue::{Ending, Queue};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Something the workload has the store do, as one commit. Mailboxes go by their names.
// The fields are what their names say.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Messages go into a mailbox, as one group.
    Deliver { account: String, mailbox: String, bodies: Vec<u64>, flags: u8, keywords: Vec<String> },
    /// One message goes to the INBOX of several accounts, a group each.
    DeliverToAll { accounts: Vec<String>, body: u64 },
    /// Flags are edited.
    Flags { account: String, mailbox: String, uids: Vec<u32>, edit: Edit, flags: u8, keywords: Vec<String> },
    /// Messages are copied or moved.
    Copy { account: String, from: String, to: String, uids: Vec<u32>, expunge: bool },
    /// Messages are expunged.
    Expunge { account: String, mailbox: String, uids: Vec<u32>, only_deleted: bool },
    /// A mailbox is made.
    Create { account: String, name: String },
    /// A mailbox is deleted.
    Delete { account: String, name: String },
    /// A mailbox is renamed.
    Rename { account: String, from: String, to: String },
    /// A name is listed or unlisted.
    Subscribe { account: String, name: String, subscribed: bool },
    /// Several deeds of one account, as one group.
    Together { deeds: Vec<Deed> },
    /// An account is removed.
    Remove { account: String },
    /// A message is accepted: it goes to the INBOX of some accounts, a group each, and recipients elsewhere wait.
    Accept { accounts: Vec<String>, body: u64, discarded: u32, recipients: u32 },
    /// Recipients of a queued message wait until another time, or are held without one; after a try, perhaps.
    Wait { message: u64, numbers: Vec<u32>, due: Option<u64>, tried: bool, told: bool },
    /// Recipients leave the queue. A report is a message of its own, to an account's INBOX.
    Settle { message: u64, numbers: Vec<u32>, how: Ending, report: Option<(String, u64)> },
}

/// How flags are edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edit {
    /// Set these.
    Add,
    /// Clear these.
    Remove,
    /// Exactly these.
    Replace,
}

/// Accounts by name, and the queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Model {
    /// Those that exist.
    pub accounts: BTreeMap<String, Account>,
    /// What waits to leave, and what became of what did.
    pub queue: Queue,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Mailboxes by name.
    pub mailboxes: BTreeMap<String, Mailbox>,
    /// Subscribed names.
    pub subscriptions: BTreeSet<String>,
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The UID of the next message.
    pub uid_next: u32,
    /// Messages by UID.
    pub messages: BTreeMap<u32, Message>,
    /// Its number and UIDVALIDITY, once they are known.
    pub identity: Option<(u64, u32)>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose octets it has.
    pub body: u64,
    /// System flags.
    pub flags: u8,
    /// Keywords.
    pub keywords: BTreeSet<String>,
}

/// `\Deleted`, as a bit.
pub const DELETED: u8 = 8;

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox { uid_next: 1, messages: BTreeMap::new(), identity: None }
    }
}

impl Mailbox {
    fn push(&mut self, message: Message) -> u32 {
        let uid = self.uid_next;
        self.uid_next += 1;
        self.messages.insert(uid, message);
        uid
    }
}

impl Deed {
    /// The accounts it touches.
    pub fn accounts(&self) -> Vec<&str> {
        match self {
            Deed::DeliverToAll { accounts, .. } | Deed::Accept { accounts, .. } => {
                accounts.iter().map(String::as_str).collect()
            }
            Deed::Settle { report, .. } => report.iter().map(|(account, _)| account.as_str()).collect(),
            Deed::Wait { .. } => Vec::new(),
            Deed::Together { deeds } => deeds.first().map(Deed::accounts).unwrap_or_default(),
            Deed::Deliver { account, .. }
            | Deed::Flags { account, .. }
            | Deed::Copy { account, .. }
            | Deed::Expunge { account, .. }
            | Deed::Create { account, .. }
            | Deed::Delete { account, .. }
            | Deed::Rename { account, .. }
            | Deed::Subscribe { account, .. }
            | Deed::Remove { account } => vec![account],
        }
    }

    /// The bodies it brings in.
    pub fn bodies(&self) -> Vec<u64> {
        match self {
            Deed::Deliver { bodies, .. } => bodies.clone(),
            Deed::DeliverToAll { body, .. } | Deed::Accept { body, .. } => vec![*body],
            Deed::Settle { report, .. } => report.iter().map(|(_, body)| *body).collect(),
            Deed::Together { deeds } => deeds.iter().flat_map(Deed::bodies).collect(),
            _ => Vec::new(),
        }
    }

    /// The messages in the ledger that it touches, by the number of their body.
    pub fn messages(&self) -> Vec<u64> {
        match self {
            Deed::Accept { body, .. } => vec![*body],
            Deed::Wait { message, .. } => vec![*message],
            Deed::Settle { message, report, .. } => report.iter().map(|(_, body)| *body).chain([*message]).collect(),
            _ => Vec::new(),
        }
    }
}

impl Model {
    /// Carries out a deed that the store accepts. `None` if it should not.
    pub fn apply(&mut self, deed: &Deed) -> Option<()> {
        match deed {
            Deed::DeliverToAll { accounts, body } => {
                accounts.iter().try_for_each(|account| self.deliver(account, *body))?;
            }
            Deed::Accept { accounts, body, discarded, recipients } => {
                accounts.iter().try_for_each(|account| self.deliver(account, *body))?;
                self.queue.begin(*body, accounts.len(), *discarded, *recipients)?;
            }
            Deed::Wait { message, numbers, due, tried, told } => {
                self.queue.wait(*message, numbers, *due, *tried, *told)?;
            }
            Deed::Settle { message, numbers, how, report } => {
                self.queue.settle(*message, numbers, *how)?;
                if let Some((account, body)) = report {
                    self.deliver(account, *body)?;
                    self.queue.begin(*body, 1, 0, 0)?;
                }
            }
            Deed::Together { deeds } => {
                for deed in deeds {
                    self.apply(deed)?;
                }
            }
            Deed::Remove { account } => {
                self.accounts.remove(account)?;
            }
            Deed::Deliver { account, mailbox, bodies, flags, keywords } => {
                let mailbox = self.account(account).mailboxes.get_mut(mailbox)?;
                for body in bodies {
                    let keywords = keywords.iter().cloned().collect();
                    mailbox.push(Message { body: *body, flags: *flags, keywords });
                }
            }
            Deed::Flags { account, mailbox, uids, edit, flags, keywords } => {
                let mailbox = self.account(account).mailboxes.get_mut(mailbox)?;
                for uid in uids {
                    if let Some(message) = mailbox.messages.get_mut(uid) {
                        message.edit(*edit, *flags, keywords);
                    }
                }
            }
            Deed::Copy { account, from, to, uids, expunge } => self.account(account).copy(from, to, uids, *expunge)?,
            Deed::Expunge { account, mailbox, uids, only_deleted } => {
                let mailbox = self.account(account).mailboxes.get_mut(mailbox)?;
                let spared = |message: &Message| *only_deleted && message.flags & DELETED == 0;
                mailbox.messages.retain(|uid, message| !uids.contains(uid) || spared(message));
            }
            Deed::Create { account, name } => self.account(account).create(name)?,
            Deed::Delete { account, name } => {
                self.account(account).mailboxes.remove(name)?;
            }
            Deed::Rename { account, from, to } => self.account(account).rename(from, to)?,
            Deed::Subscribe { account, name, subscribed } => {
                let subscriptions = &mut self.account(account).subscriptions;
                match subscribed {
                    true => subscriptions.insert(name.clone()),
                    false => subscriptions.remove(name),
                };
            }
        }
        Some(())
    }

    fn deliver(&mut self, account: &str, body: u64) -> Option<()> {
        let inbox = self.account(account).mailboxes.get_mut("INBOX")?;
        inbox.push(Message { body, flags: 0, keywords: BTreeSet::new() });
        Some(())
    }

    fn account(&mut self, name: &str) -> &mut Account {
        self.accounts.entry(name.to_owned()).or_insert_with(Account::fresh)
    }
}

impl Account {
    /// A new account with the mailboxes that every account has, all subscribed.
    pub fn fresh() -> Account {
        let names = mail::mailbox::INITIAL_MAILBOXES.iter().map(|(name, _)| *name);
        let names: BTreeSet<String> = std::iter::once("INBOX").chain(names).map(str::to_owned).collect();
        Account {
            mailboxes: names.iter().map(|name| (name.clone(), Mailbox::default())).collect(),
            subscriptions: names,
        }
    }

    fn create(&mut self, name: &str) -> Option<()> {
        if self.mailboxes.contains_key(name) {
            return None;
        }
        for (end, _) in name.match_indices('/').chain([(name.len(), "")]) {
            self.mailboxes.entry(name[..end].to_owned()).or_default();
        }
        Some(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Option<()> {
        if from == "INBOX" || self.mailboxes.contains_key(to) || !self.mailboxes.contains_key(from) {
            return None;
        }
        let below = format!("{from}/");
        let moved: Vec<String> =
            self.mailboxes.keys().filter(|name| *name == from || name.starts_with(&below)).cloned().collect();
        for old in moved {
            let mailbox = self.mailboxes.remove(&old)?;
            let new = format!("{to}{}", &old[from.len()..]);
            if self.mailboxes.insert(new, mailbox).is_some() {
                return None;
            }
        }
        for (end, _) in to.match_indices('/') {
            self.mailboxes.entry(to[..end].to_owned()).or_default();
        }
        Some(())
    }

    fn copy(&mut self, from: &str, to: &str, uids: &[u32], expunge: bool) -> Option<()> {
        let source = self.mailboxes.get_mut(from)?;
        let mut taken = Vec::new();
        for (uid, message) in source.messages.iter().filter(|(uid, _)| uids.contains(uid)) {
            taken.push((*uid, message.clone()));
        }
        if expunge {
            source.messages.retain(|uid, _| !uids.contains(uid));
        }
        let target = self.mailboxes.get_mut(to)?;
        for (_, message) in taken {
            target.push(message);
        }
        Some(())
    }
}

impl Message {
    fn edit(&mut self, edit: Edit, flags: u8, keywords: &[String]) {
        match edit {
            Edit::Add => {
                self.flags |= flags;
                self.keywords.extend(keywords.iter().cloned());
            }
            Edit::Remove => {
                self.flags &= !flags;
                self.keywords.retain(|keyword| !keywords.contains(keyword));
            }
            Edit::Replace => {
                self.flags = flags;
                self.keywords = keywords.iter().cloned().collect();
            }
        }
    }
}
