//! A store as plain maps: what random commits are compared with.

pub mod queue;

use self::queue::Queue;
use super::digest_of;
use crate::GroupOutcome;
use mail::mailbox::INITIAL_MAILBOXES;
use mail::{
    AccountName, BodyId, Change, ChangeError, Commit, FlagEdit, FlagSet, Flags, Group, InternalDate, MailboxId,
    MailboxInfo, MailboxName, MailboxRef, ModSeq, Outcome, QueueChange, Quota, Snapshot, Uid, UidSet, Usage,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All accounts.
#[derive(Default)]
pub struct Model {
    pub accounts: BTreeMap<AccountName, Account>,
    /// Octets of all staged bodies.
    pub bodies: BTreeMap<BodyId, Arc<Vec<u8>>>,
    pub taken: BTreeSet<BodyId>,
    /// Every mailbox there ever was.
    pub mailboxes_seen: BTreeSet<MailboxId>,
    pub queue: Queue,
}

#[derive(Clone, Default)]
pub struct Account {
    pub mailboxes: BTreeMap<MailboxName, Mailbox>,
    pub subscriptions: BTreeSet<MailboxName>,
    pub uid_validity: u32,
    added: Usage,
}

#[derive(Clone, Default)]
pub struct Mailbox {
    /// Learned from the store when it is first listed.
    pub id: Option<MailboxId>,
    pub uid_validity: u32,
    pub uid_next: u32,
    pub messages: BTreeMap<u32, Message>,
}

#[derive(Clone)]
pub struct Message {
    pub flags: Flags,
    /// In lower case.
    pub keywords: BTreeSet<String>,
    pub internal_date: InternalDate,
    pub octets: Arc<Vec<u8>>,
    /// Learned from the store; 0 after a change, until it is.
    pub mod_sequence: ModSeq,
}

impl Model {
    /// Makes an account as the store does.
    pub fn begin(&mut self, name: &AccountName) {
        self.accounts.entry(name.clone()).or_insert_with(|| {
            let initial = INITIAL_MAILBOXES.iter().map(|(name, _)| super::name(name));
            let names: Vec<MailboxName> = initial.chain([MailboxName::inbox()]).collect();
            Account {
                mailboxes: names
                    .iter()
                    .map(|name| (name.clone(), Mailbox { uid_next: 1, ..Mailbox::default() }))
                    .collect(),
                subscriptions: names.into_iter().collect(),
                ..Account::default()
            }
        });
    }

    /// Does a commit and compares what the store answered.
    pub fn commit(&mut self, commit: &Commit, answers: &[GroupOutcome]) {
        assert_eq!(commit.groups.len(), answers.len());
        for group in &commit.groups {
            self.begin(&group.account);
        }
        let mut after = Vec::new();
        for group in &commit.groups {
            after.push(self.group(group));
        }
        let refused = after.iter().any(Result::is_err);
        for ((group, after), answer) in commit.groups.iter().zip(after).zip(answers) {
            match (after, answer) {
                (Ok(_), Err(ChangeError::NotApplied)) if commit.together && refused => {}
                (Ok((account, expected)), Ok(outcomes)) if !(commit.together && refused) => {
                    assert_eq!(expected.len(), outcomes.len());
                    expected.iter().zip(outcomes).for_each(|(expected, outcome)| same(expected, outcome));
                    self.accounts.insert(group.account.clone(), account);
                    let bodies = group.changes.iter().filter_map(|change| match change {
                        Change::Append { body, .. } => Some(*body),
                        _ => None,
                    });
                    self.taken.extend(bodies);
                }
                (Err(expected), Err(error)) => assert_eq!(expected, *error, "{group:?}"),
                (after, answer) => {
                    panic!("expected {:?}, got {answer:?} for {group:?}", after.map(|(_, outcomes)| outcomes))
                }
            }
        }
        if !(commit.together && refused) {
            self.queue_changes(commit, answers);
        }
    }

    /// Whether the commit is refused as a whole: it queues what has no octets, or octets that an earlier one took.
    pub fn lacks_a_body(&self, commit: &Commit) -> bool {
        commit.queue.iter().any(|change| match change {
            QueueChange::Enqueue { body, .. } => !self.bodies.contains_key(body) || self.taken.contains(body),
            _ => false,
        })
    }

    /// Does what an accepted commit does to the queue.
    fn queue_changes(&mut self, commit: &Commit, answers: &[GroupOutcome]) {
        let accepted = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        for (place, change) in commit.queue.iter().enumerate() {
            // All of them count for the message with which the commit begins, and for no other.
            let groups = if place == 0 { accepted } else { 0 };
            match change {
                QueueChange::Begin { message, discarded, events } => {
                    self.queue.begin(*message, groups, u64::from(*discarded), events);
                }
                QueueChange::Enqueue { envelope, body, recipients } => {
                    self.queue.enqueue(envelope, self.bodies[body].clone(), recipients);
                    self.taken.insert(*body);
                }
                QueueChange::Wait { .. } => self.queue.wait(change),
                QueueChange::Settle { message, number, how } => self.queue.settle(*message, *number, *how),
                QueueChange::Tell { message, event } => self.queue.tell(*message, event),
            }
        }
    }

    fn group(&self, group: &Group) -> Result<(Account, Vec<Outcome>), ChangeError> {
        let mut account = self.accounts[&group.account].clone();
        account.added = Usage::default();
        let outcomes = group.changes.iter().map(|change| account.change(change, group.quota, self));
        let outcomes = outcomes.collect::<Result<Vec<_>, _>>()?;
        Ok((account, outcomes))
    }
}

/// Compares all but the numbers that the store chooses.
fn same(expected: &Outcome, outcome: &Outcome) {
    let same = match (expected, outcome) {
        (Outcome::Created { .. }, Outcome::Created { .. }) | (Outcome::Done, Outcome::Done) => true,
        (Outcome::Appended { uid: a, .. }, Outcome::Appended { uid: b, .. }) => a == b,
        (Outcome::Copied { uids: a, .. }, Outcome::Copied { uids: b, .. }) => a == b,
        (Outcome::Flagged { stored: a, modified: c, .. }, Outcome::Flagged { stored: b, modified: d, .. }) => {
            (a, c) == (b, d)
        }
        (Outcome::Expunged { uids: a }, Outcome::Expunged { uids: b }) => a == b,
        _ => false,
    };
    assert!(same, "expected {expected:?}, got {outcome:?}");
}

impl Account {
    pub fn usage(&self) -> Usage {
        let messages = self.mailboxes.values().flat_map(|mailbox| mailbox.messages.values());
        messages.fold(Usage::default(), |sum, message| Usage {
            octets: sum.octets + message.octets.len() as u64,
            messages: sum.messages + 1,
        })
    }

    fn change(&mut self, change: &Change, quota: Quota, model: &Model) -> Result<Outcome, ChangeError> {
        let created = Outcome::Created { mailbox: MailboxId(0), uid_validity: Default::default() };
        match change {
            Change::CreateMailbox { name, .. } => self.create(name).map(|()| created),
            Change::DeleteMailbox { mailbox } => {
                let name = self.by_id(*mailbox)?;
                if name.is_inbox() {
                    return Err(ChangeError::Inbox);
                }
                self.mailboxes.remove(&name);
                Ok(Outcome::Done)
            }
            Change::RenameMailbox { mailbox, name } => self.rename(*mailbox, name),
            Change::Subscribe { name, subscribed: true } => {
                self.subscriptions.insert(name.clone());
                Ok(Outcome::Done)
            }
            Change::Subscribe { name, subscribed: false } => {
                self.subscriptions.remove(name);
                Ok(Outcome::Done)
            }
            Change::Append { mailbox, body, flags, internal_date } => {
                let name = self.resolve(mailbox)?;
                let octets = match model.bodies.get(body) {
                    Some(octets) if !model.taken.contains(body) => octets.clone(),
                    _ => return Err(ChangeError::NoSuchBody),
                };
                self.admit(quota, octets.len() as u64, 1)?;
                let message = Message {
                    flags: flags.flags,
                    keywords: lower(flags),
                    internal_date: *internal_date,
                    octets,
                    mod_sequence: ModSeq(0),
                };
                let uid = self.push(&name, message);
                Ok(Outcome::Appended { uid_validity: Default::default(), uid })
            }
            Change::Copy { from, uids, to } => self.copy(*from, uids, to, Some(quota)),
            Change::Move { from, uids, to } => self.copy(*from, uids, to, None),
            Change::StoreFlags { mailbox, uids, edit, flags, unchanged_since } => {
                self.store_flags(*mailbox, uids, *edit, flags, *unchanged_since)
            }
            Change::Expunge { mailbox, uids, only_deleted } => {
                let name = self.by_id(*mailbox)?;
                let messages = &mut self.mailboxes.get_mut(&name).expect("named").messages;
                let gone = messages.iter().filter(|(uid, message)| {
                    uids.contains(Uid(**uid)) && (!only_deleted || message.flags.contains(Flags::DELETED))
                });
                let gone: Vec<Uid> = gone.map(|(uid, _)| Uid(*uid)).collect();
                gone.iter().for_each(|uid| drop(messages.remove(&uid.0)));
                Ok(Outcome::Expunged { uids: gone })
            }
        }
    }

    fn by_id(&self, id: MailboxId) -> Result<MailboxName, ChangeError> {
        let found = self.mailboxes.iter().find(|(_, mailbox)| mailbox.id == Some(id));
        found.map(|(name, _)| name.clone()).ok_or(ChangeError::NoSuchMailbox)
    }

    fn resolve(&self, mailbox: &MailboxRef) -> Result<MailboxName, ChangeError> {
        match mailbox {
            MailboxRef::Id(id) => self.by_id(*id),
            MailboxRef::Named(name) if self.mailboxes.contains_key(name) => Ok(name.clone()),
            MailboxRef::Named(_) => Err(ChangeError::NoSuchMailbox),
        }
    }

    fn create(&mut self, name: &MailboxName) -> Result<(), ChangeError> {
        if self.mailboxes.contains_key(name) {
            return Err(ChangeError::MailboxExists);
        }
        for level in name.superiors().chain([name.clone()]) {
            self.mailboxes.entry(level).or_insert(Mailbox { uid_next: 1, ..Mailbox::default() });
        }
        Ok(())
    }

    fn rename(&mut self, id: MailboxId, to: &MailboxName) -> Result<Outcome, ChangeError> {
        let from = self.by_id(id)?;
        if from.is_inbox() {
            return Err(ChangeError::Inbox);
        }
        if self.mailboxes.contains_key(to) {
            return Err(ChangeError::MailboxExists);
        }
        let mut after = BTreeMap::new();
        for (name, mailbox) in &self.mailboxes {
            if *name != from && !name.is_inferior_of(&from) {
                after.insert(name.clone(), mailbox.clone());
            }
        }
        for (name, mailbox) in &self.mailboxes {
            if *name == from || name.is_inferior_of(&from) {
                let moved = format!("{to}{}", &name.as_str()[from.as_str().len()..]);
                let moved = MailboxName::parse(&moved).map_err(|_| ChangeError::TooManyMailboxes)?;
                if after.insert(moved, mailbox.clone()).is_some() {
                    return Err(ChangeError::MailboxExists);
                }
            }
        }
        for level in to.superiors() {
            after.entry(level).or_insert(Mailbox { uid_next: 1, ..Mailbox::default() });
        }
        self.mailboxes = after;
        Ok(Outcome::Done)
    }

    fn admit(&mut self, quota: Quota, octets: u64, messages: u64) -> Result<(), ChangeError> {
        if messages == 0 {
            return Ok(());
        }
        let now = self.usage();
        let before = Usage {
            octets: now.octets.saturating_sub(self.added.octets),
            messages: now.messages.saturating_sub(self.added.messages),
        };
        self.added.octets += octets;
        self.added.messages += messages;
        let admitted = quota.admits(before, self.added.octets, self.added.messages);
        if admitted { Ok(()) } else { Err(ChangeError::OverQuota) }
    }

    fn push(&mut self, name: &MailboxName, message: Message) -> Uid {
        let mailbox = self.mailboxes.get_mut(name).expect("resolved");
        let uid = mailbox.uid_next;
        mailbox.uid_next += 1;
        mailbox.messages.insert(uid, Message { mod_sequence: ModSeq(0), ..message });
        Uid(uid)
    }

    fn copy(
        &mut self,
        from: MailboxId,
        uids: &UidSet,
        to: &MailboxRef,
        quota: Option<Quota>,
    ) -> Result<Outcome, ChangeError> {
        let to = self.resolve(to)?;
        let from = self.by_id(from)?;
        let all = self.mailboxes[&from].messages.clone();
        let messages: Vec<(u32, Message)> = all.into_iter().filter(|(uid, _)| uids.contains(Uid(*uid))).collect();
        if let Some(quota) = quota {
            let octets = messages.iter().map(|(_, message)| message.octets.len() as u64).sum();
            self.admit(quota, octets, messages.len() as u64)?;
        }
        let mut pairs = Vec::new();
        for (uid, message) in messages {
            pairs.push((Uid(uid), self.push(&to, message)));
        }
        if quota.is_none() {
            let messages = &mut self.mailboxes.get_mut(&from).expect("named").messages;
            pairs.iter().for_each(|(uid, _)| drop(messages.remove(&uid.0)));
        }
        Ok(Outcome::Copied { uid_validity: Default::default(), uids: pairs })
    }

    fn store_flags(
        &mut self,
        mailbox: MailboxId,
        uids: &UidSet,
        edit: FlagEdit,
        wanted: &FlagSet,
        unchanged_since: Option<ModSeq>,
    ) -> Result<Outcome, ChangeError> {
        let name = self.by_id(mailbox)?;
        let (mut stored, mut modified) = (UidSet::new(), UidSet::new());
        for (uid, message) in &mut self.mailboxes.get_mut(&name).expect("named").messages {
            if !uids.contains(Uid(*uid)) {
                continue;
            }
            // What this group itself changed has no mod-sequence yet, and one above all others.
            let changed_at = if message.mod_sequence == ModSeq(0) { ModSeq(u64::MAX) } else { message.mod_sequence };
            if unchanged_since.is_some_and(|since| changed_at > since) {
                modified.insert(Uid(*uid));
                continue;
            }
            stored.insert(Uid(*uid));
            let before = (message.flags, message.keywords.clone());
            let named = lower(wanted);
            match edit {
                FlagEdit::Add => {
                    message.flags = message.flags.union(wanted.flags);
                    message.keywords.extend(named);
                }
                FlagEdit::Remove => {
                    message.flags = message.flags.without(wanted.flags);
                    message.keywords.retain(|keyword| !named.contains(keyword));
                }
                FlagEdit::Replace => (message.flags, message.keywords) = (wanted.flags, named),
            }
            if before != (message.flags, message.keywords.clone()) {
                message.mod_sequence = ModSeq(0);
            }
        }
        Ok(Outcome::Flagged { stored, modified, mod_sequence: ModSeq(0) })
    }

    /// Compares the list of mailboxes, and learns what the store chose.
    pub fn compare_list(&mut self, list: &[MailboxInfo], seen: &mut BTreeSet<MailboxId>) {
        let mut names: BTreeSet<MailboxName> = self.mailboxes.keys().chain(&self.subscriptions).cloned().collect();
        names.extend(self.mailboxes.keys().flat_map(|name| name.superiors().collect::<Vec<_>>()));
        assert_eq!(list.iter().map(|info| &info.name).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        let highest = self.uid_validity;
        for info in list {
            assert_eq!(info.subscribed, self.subscriptions.contains(&info.name));
            match (self.mailboxes.get_mut(&info.name), info.id) {
                (Some(mailbox), Some(id)) if mailbox.id.is_none() => {
                    assert!(info.uid_validity.0 > highest, "UIDVALIDITY not above all before");
                    assert!(seen.insert(id), "a mailbox's number came back");
                    (mailbox.id, mailbox.uid_validity) = (Some(id), info.uid_validity.0);
                    self.uid_validity = self.uid_validity.max(info.uid_validity.0);
                }
                (Some(mailbox), id) => assert_eq!((mailbox.id, mailbox.uid_validity), (id, info.uid_validity.0)),
                (None, id) => assert_eq!(id, None),
            }
        }
    }
}

impl Mailbox {
    /// Compares a mailbox, and learns the mod-sequence of what changed: one for all, above `before`.
    pub fn compare(&mut self, picture: &Snapshot, before: ModSeq) {
        assert_eq!((Some(picture.mailbox), picture.uid_validity.0), (self.id, self.uid_validity));
        assert_eq!(picture.uid_next.0, self.uid_next);
        assert_eq!(picture.len() as usize, self.messages.len());
        let mut new = None;
        for (message, (uid, expected)) in picture.iter().zip(&mut self.messages) {
            assert_eq!((message.uid.0, message.flags), (*uid, expected.flags));
            assert_eq!(message.internal_date, expected.internal_date);
            assert_eq!(message.size_octets as usize, expected.octets.len());
            let keywords: BTreeSet<String> =
                picture.keywords_of(message).map(|keyword| keyword.as_str().to_ascii_lowercase()).collect();
            assert_eq!(keywords, expected.keywords);
            if expected.mod_sequence == ModSeq(0) {
                expected.mod_sequence = message.mod_sequence;
                assert!(message.mod_sequence > before, "changed, but its mod-sequence is old");
                assert_eq!(*new.get_or_insert(message.mod_sequence), message.mod_sequence);
            }
            assert_eq!(message.mod_sequence, expected.mod_sequence);
            assert!(message.mod_sequence <= picture.mod_sequence);
        }
    }
}

impl Message {
    /// The digest that the message was staged with.
    pub fn digest(&self, prefix: usize) -> Vec<u8> {
        digest_of(&self.octets[prefix..])
    }
}

fn lower(flags: &FlagSet) -> BTreeSet<String> {
    flags.keywords.iter().map(|keyword| keyword.as_str().to_ascii_lowercase()).collect()
}
