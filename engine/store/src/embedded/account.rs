//! An account as the writer keeps it in memory: everything that decisions need except the messages.

use mail::mailbox::INITIAL_MAILBOXES;
use mail::{AccountName, Keyword, MailboxId, MailboxInfo, MailboxName, ModSeq, SpecialUse, UidValidity, Usage};
use rusqlite::{Connection, OptionalExtension};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// An account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its number in the database.
    pub id: u64,
    /// Its name.
    pub name: AccountName,
    /// Whether the database knows it.
    pub stored: bool,
    /// Its counters.
    pub head: Head,
    /// Its mailboxes' counters.
    pub mailboxes: HashMap<MailboxId, Mailbox>,
    /// Its names.
    pub tree: Arc<Tree>,
}

/// Counters of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Of its last change.
    pub mod_sequence: ModSeq,
    /// What it holds.
    pub usage: Usage,
    /// The last one given to a mailbox.
    pub uid_validity: UidValidity,
}

/// Counters of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// Its numbering.
    pub uid_validity: UidValidity,
    /// What the next message will be called.
    pub uid_next: u32,
    /// Of its last change.
    pub mod_sequence: ModSeq,
    /// What it holds.
    pub usage: Usage,
    /// Its keywords, in the order of the bits.
    pub keywords: Arc<[Keyword]>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// The mailbox.
    pub id: MailboxId,
    /// Its role.
    pub special_use: Option<SpecialUse>,
}

/// The names of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Mailboxes by name.
    pub names: BTreeMap<MailboxName, Leaf>,
    /// Subscribed names.
    pub subscriptions: BTreeSet<MailboxName>,
}

impl Mailbox {
    /// A new, empty mailbox.
    pub fn new(uid_validity: UidValidity, mod_sequence: ModSeq) -> Mailbox {
        Mailbox { uid_validity, uid_next: 1, mod_sequence, usage: Usage::default(), keywords: Arc::from([]) }
    }
}

impl Tree {
    /// The name of a mailbox. Costs a walk over all names.
    pub fn name_of(&self, mailbox: MailboxId) -> Option<(&MailboxName, Leaf)> {
        self.names.iter().find(|(_, leaf)| leaf.id == mailbox).map(|(name, leaf)| (name, *leaf))
    }
}

impl Account {
    /// A new account with its initial mailboxes, all subscribed. `uid_validity` is that of INBOX; the others follow.
    pub fn new(id: u64, name: AccountName, uid_validity: u32, mut next_mailbox: impl FnMut() -> MailboxId) -> Account {
        let mod_sequence = ModSeq(1);
        let mut tree = Tree::default();
        let mut mailboxes = HashMap::new();
        let mut last = UidValidity(uid_validity.saturating_sub(1));
        let initial = INITIAL_MAILBOXES
            .iter()
            .filter_map(|(name, special_use)| Some((MailboxName::parse(name).ok()?, Some(*special_use))));
        for (name, special_use) in std::iter::once((MailboxName::inbox(), None)).chain(initial) {
            let id = next_mailbox();
            last = UidValidity(last.0.saturating_add(1));
            mailboxes.insert(id, Mailbox::new(last, mod_sequence));
            tree.subscriptions.insert(name.clone());
            tree.names.insert(name, Leaf { id, special_use });
        }
        let head = Head { mod_sequence, usage: Usage::default(), uid_validity: last };
        Account { id, name, stored: false, head, mailboxes, tree: Arc::new(tree) }
    }

    /// The account as the database has it.
    pub fn load(connection: &Connection, name: &AccountName) -> rusqlite::Result<Option<Account>> {
        let mut statement = connection
            .prepare_cached("SELECT id, modseq, octets, messages, uid_validity FROM account WHERE name = ?1")?;
        let found = statement
            .query_row([name.as_str()], |row| {
                let usage = Usage { octets: row.get(2)?, messages: row.get(3)? };
                let head = Head { mod_sequence: ModSeq(row.get(1)?), usage, uid_validity: UidValidity(row.get(4)?) };
                Ok((row.get::<_, u64>(0)?, head))
            })
            .optional()?;
        let Some((id, head)) = found else { return Ok(None) };
        let mut tree = Tree { subscriptions: load_subscriptions(connection, id)?, ..Tree::default() };
        let mut mailboxes = HashMap::new();
        let mut statement = connection.prepare_cached(
            "SELECT id, name, special_use, uid_validity, uid_next, modseq, messages, octets
             FROM mailbox WHERE account = ?1",
        )?;
        let mut rows = statement.query([id])?;
        while let Some(row) = rows.next()? {
            let mailbox = MailboxId(row.get(0)?);
            let special_use = row.get_ref(2)?.as_str_or_null()?.and_then(special_use);
            tree.names.insert(mailbox_name(row.get_ref(1)?.as_str()?)?, Leaf { id: mailbox, special_use });
            let state = Mailbox {
                uid_validity: UidValidity(row.get(3)?),
                uid_next: row.get(4)?,
                mod_sequence: ModSeq(row.get(5)?),
                usage: Usage { messages: row.get(6)?, octets: row.get(7)? },
                keywords: load_keywords(connection, mailbox)?,
            };
            mailboxes.insert(mailbox, state);
        }
        Ok(Some(Account { id, name: name.clone(), stored: true, head, mailboxes, tree: Arc::new(tree) }))
    }

    /// The list that clients see: mailboxes, subscribed names without one, and levels that have only inferiors.
    pub fn list(&self) -> Vec<MailboxInfo> {
        let mut names: BTreeSet<MailboxName> = self.tree.subscriptions.clone();
        for name in self.tree.names.keys() {
            names.extend(name.superiors());
            names.insert(name.clone());
        }
        let line = |name: MailboxName| {
            let leaf = self.tree.names.get(&name);
            let state = leaf.and_then(|leaf| self.mailboxes.get(&leaf.id));
            MailboxInfo {
                id: leaf.map(|leaf| leaf.id),
                special_use: leaf.and_then(|leaf| leaf.special_use),
                subscribed: self.tree.subscriptions.contains(&name),
                uid_validity: state.map(|state| state.uid_validity).unwrap_or_default(),
                name,
            }
        };
        names.into_iter().map(line).collect()
    }
}

fn load_subscriptions(connection: &Connection, account: u64) -> rusqlite::Result<BTreeSet<MailboxName>> {
    let mut statement = connection.prepare_cached("SELECT name FROM subscription WHERE account = ?1")?;
    let names = statement.query_map([account], |row| mailbox_name(row.get_ref(0)?.as_str()?))?;
    names.collect()
}

/// The keywords of a mailbox, in the order of the bits.
pub fn load_keywords(connection: &Connection, mailbox: MailboxId) -> rusqlite::Result<Arc<[Keyword]>> {
    let mut statement = connection.prepare_cached("SELECT name FROM keyword WHERE mailbox = ?1 ORDER BY bit")?;
    let keywords = statement.query_map([mailbox.0], |row| {
        let name = row.get_ref(0)?.as_str()?;
        Keyword::parse(name).ok_or_else(|| unreadable(name))
    })?;
    Ok(keywords.collect::<rusqlite::Result<Vec<_>>>()?.into())
}

fn mailbox_name(name: &str) -> rusqlite::Result<MailboxName> {
    MailboxName::parse(name).map_err(|_| unreadable(name))
}

/// A text in the database that we would not have written.
fn unreadable(text: &str) -> rusqlite::Error {
    let cause = format!("{text:?} is no name that this version knows");
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, cause.into())
}

fn special_use(attribute: &str) -> Option<SpecialUse> {
    SpecialUse::NAMES.iter().find(|(name, _)| *name == attribute).map(|(_, role)| *role)
}
