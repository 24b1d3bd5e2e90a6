//! The commits that one transaction makes durable: decided one after the other, each seeing what those before it did.

use super::account::{Account, Head, Mailbox, Tree};
use super::decide::{Decision, World, decide};
use super::load::load_picture;
use super::picture::{Delta, Pictures};
use super::queue::{AcceptedWork, QueueWork};
use super::staging::Staged;
use super::{database_error, now_seconds};
use crate::{GroupOutcome, StoreError};
use mail::{AccountName, BlobId, BodyId, ChangeError, Commit, Group, MailboxId, ModSeq, Snapshot, Uid};
use rusqlite::Connection;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Numbers that are given out once.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    /// The next mailbox.
    pub mailbox: u64,
    /// The next account.
    pub account: u64,
    /// Accounts made anew get UIDVALIDITY values above this.
    pub uid_validity: u32,
}

/// What a batch is decided against.
pub struct Ground<'a> {
    /// The database before the batch.
    pub connection: &'a Connection,
    /// Known pictures before the batch.
    pub pictures: &'a Pictures,
    /// Numbers to give out. Numbers that a failed batch took are not given out again.
    pub counters: &'a mut Counters,
}

/// An account that the batch works on.
#[derive(Clone)]
pub struct Working {
    /// As it is after the groups accepted so far.
    pub account: Account,
    /// Counters and names before the batch; `None` for a new account.
    pub before: Option<(Head, Arc<Tree>)>,
    /// Mailboxes whose counters changed.
    pub dirty: BTreeSet<MailboxId>,
}

/// What the batch does to a mailbox's messages.
#[derive(Clone)]
pub struct MailboxNews {
    /// Whose it is.
    pub account: AccountName,
    /// In the order of the groups.
    pub deltas: Vec<Arc<Delta>>,
    /// The mailbox after all of them, if a group had to look at its messages.
    pub picture: Option<Snapshot>,
    /// Whether the mailbox is deleted.
    pub gone: bool,
}

/// A batch.
#[derive(Clone, Default)]
pub struct Batch {
    /// Accounts by name.
    pub accounts: HashMap<AccountName, Working>,
    /// Mailboxes whose messages the batch changes or looked at.
    pub mailboxes: HashMap<MailboxId, MailboxNews>,
    /// By how much references to blobs change.
    pub references: HashMap<BlobId, i64>,
    /// Staged bodies that become blobs.
    pub bodies: Vec<Arc<Staged>>,
    /// What becomes of queue and stories, in the order of the commits.
    pub queue: Vec<AcceptedWork>,
}

/// The staged bodies that a commit refers to.
pub type Offered = Vec<(BodyId, Arc<Staged>)>;

impl Batch {
    /// Decides a commit, with what is to become of the queue. An error means that the whole batch is lost: what was decided
    /// may lean on it.
    pub fn decide(
        &mut self,
        commit: &Commit,
        queue: Vec<QueueWork>,
        offered: &Offered,
        known: &mut dyn FnMut(&AccountName) -> Option<Account>,
        ground: &mut Ground<'_>,
    ) -> Result<Vec<GroupOutcome>, StoreError> {
        let answers = self.decide_groups(commit, offered, known, ground)?;
        if !commit.together || answers.iter().all(Result::is_ok) {
            let groups = answers.iter().filter(|answer| answer.is_ok()).count() as u32;
            self.accept_queue(queue, offered, groups);
        }
        Ok(answers)
    }

    /// Takes up what is to become of the queue. Every body was found before.
    fn accept_queue(&mut self, queue: Vec<QueueWork>, offered: &Offered, groups: u32) {
        for (place, work) in queue.into_iter().enumerate() {
            let body =
                work.body().and_then(|body| offered.iter().find(|(id, _)| *id == body)).map(|(_, staged)| staged);
            if let Some(staged) = body {
                *self.references.entry(staged.blob).or_default() += 1;
                self.take_body(staged);
            }
            let blob = body.map(|staged| staged.blob);
            // The groups are of the message with which the commit begins, if it begins with one.
            let groups = if place == 0 { groups } else { 0 };
            self.queue.push(AcceptedWork { work, blob, groups });
        }
    }

    fn take_body(&mut self, staged: &Arc<Staged>) {
        if !self.bodies.iter().rev().any(|taken| Arc::ptr_eq(taken, staged)) {
            self.bodies.push(staged.clone());
        }
    }

    fn decide_groups(
        &mut self,
        commit: &Commit,
        offered: &Offered,
        known: &mut dyn FnMut(&AccountName) -> Option<Account>,
        ground: &mut Ground<'_>,
    ) -> Result<Vec<GroupOutcome>, StoreError> {
        for group in &commit.groups {
            self.begin(&group.account, known, ground)?;
        }
        if !commit.together {
            return self.decide_each(commit, offered, ground);
        }
        if has_account_twice(commit) {
            // Seldom enough to keep a copy of everything.
            let before = self.clone();
            let answers = self.decide_each(commit, offered, ground)?;
            if answers.iter().any(Result::is_err) {
                *self = before;
                return Ok(answers.into_iter().map(|answer| answer.and(Err(ChangeError::NotApplied))).collect());
            }
            return Ok(answers);
        }
        // Groups of different accounts do not see each other, so that all can be decided before one is accepted.
        let decisions = commit.groups.iter().map(|group| self.decide_one(group, offered, ground));
        let decisions = decisions.collect::<Result<Vec<_>, StoreError>>()?;
        if decisions.iter().any(Result::is_err) {
            return Ok(decisions.into_iter().map(|decision| decision.and(Err(ChangeError::NotApplied))).collect());
        }
        let accept = |(group, decision): (&Group, Result<Decision, ChangeError>)| {
            decision.map(|decision| self.accept(&group.account, decision, offered))
        };
        Ok(commit.groups.iter().zip(decisions).map(accept).collect())
    }

    fn decide_each(
        &mut self,
        commit: &Commit,
        offered: &Offered,
        ground: &mut Ground<'_>,
    ) -> Result<Vec<GroupOutcome>, StoreError> {
        let mut answers = Vec::with_capacity(commit.groups.len());
        for group in &commit.groups {
            let decision = self.decide_one(group, offered, ground)?;
            answers.push(decision.map(|decision| self.accept(&group.account, decision, offered)));
        }
        Ok(answers)
    }

    fn decide_one(
        &mut self,
        group: &Group,
        offered: &Offered,
        ground: &mut Ground<'_>,
    ) -> Result<Result<Decision, ChangeError>, StoreError> {
        match self.accounts.get(&group.account) {
            Some(working) => {
                let mut desk = Desk { mailboxes: &mut self.mailboxes, offered, ground };
                decide(&working.account, group, &mut desk)
            }
            // Every account of the commit was taken in before.
            None => Ok(Err(ChangeError::NotApplied)),
        }
    }

    /// Whether anything is to be written.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.accounts.values().all(|working| {
                working.before.as_ref().is_some_and(|(head, tree)| {
                    *head == working.account.head
                        && Arc::ptr_eq(tree, &working.account.tree)
                        && working.dirty.is_empty()
                })
            })
    }

    /// Takes an account in: from memory, from the database, or new.
    fn begin(
        &mut self,
        name: &AccountName,
        known: &mut dyn FnMut(&AccountName) -> Option<Account>,
        ground: &mut Ground<'_>,
    ) -> Result<(), StoreError> {
        if self.accounts.contains_key(name) {
            return Ok(());
        }
        let found = match known(name) {
            Some(account) => Some(account),
            None => Account::load(ground.connection, name).map_err(database_error)?,
        };
        let working = match found {
            Some(account) => {
                let before = Some((account.head, account.tree.clone()));
                Working { account, before, dirty: BTreeSet::new() }
            }
            None => {
                let id = ground.counters.account;
                ground.counters.account += 1;
                let uid_validity = now_seconds().max(ground.counters.uid_validity.saturating_add(1));
                let account = Account::new(id, name.clone(), uid_validity, || ground.counters.new_mailbox());
                Working { account, before: None, dirty: BTreeSet::new() }
            }
        };
        self.accounts.insert(name.clone(), working);
        Ok(())
    }

    fn accept(&mut self, name: &AccountName, decision: Decision, offered: &Offered) -> Vec<mail::Outcome> {
        if let Some(working) = self.accounts.get_mut(name) {
            working.account.head = decision.head;
            working.account.tree = decision.tree;
            for (mailbox, touched) in decision.touched {
                working.take_in(mailbox, touched.state.as_ref());
                let gone = touched.state.is_none();
                if gone || touched.picture.is_some() || !touched.delta.edits.is_empty() {
                    news_of(&mut self.mailboxes, name, mailbox).take_in(touched.delta, touched.picture, gone);
                }
            }
        }
        for (blob, change) in decision.references {
            *self.references.entry(blob).or_default() += change;
        }
        for body in decision.bodies {
            if let Some((_, staged)) = offered.iter().find(|(id, _)| *id == body) {
                self.take_body(staged);
            }
        }
        decision.outcomes
    }
}

impl Counters {
    fn new_mailbox(&mut self) -> MailboxId {
        self.mailbox += 1;
        MailboxId(self.mailbox - 1)
    }
}

impl Working {
    fn take_in(&mut self, mailbox: MailboxId, state: Option<&Mailbox>) {
        match state {
            Some(state) => {
                if self.account.mailboxes.get(&mailbox) != Some(state) {
                    self.account.mailboxes.insert(mailbox, state.clone());
                    self.dirty.insert(mailbox);
                }
            }
            None => {
                self.account.mailboxes.remove(&mailbox);
                self.dirty.remove(&mailbox);
            }
        }
    }
}

impl MailboxNews {
    fn take_in(&mut self, delta: Delta, picture: Option<Snapshot>, gone: bool) {
        self.gone |= gone;
        match (picture, &mut self.picture) {
            (Some(after), slot) => *slot = Some(after),
            (None, Some(before)) if !delta.edits.is_empty() => delta.put(before),
            (None, _) => {}
        }
        if !delta.edits.is_empty() {
            self.deltas.push(Arc::new(delta));
        }
    }
}

fn has_account_twice(commit: &Commit) -> bool {
    let mut seen = HashSet::new();
    !commit.groups.iter().all(|group| seen.insert(&group.account))
}

fn news_of<'a>(
    mailboxes: &'a mut HashMap<MailboxId, MailboxNews>,
    account: &AccountName,
    mailbox: MailboxId,
) -> &'a mut MailboxNews {
    mailboxes.entry(mailbox).or_insert_with(|| MailboxNews {
        account: account.clone(),
        deltas: Vec::new(),
        picture: None,
        gone: false,
    })
}

/// The world as a group sees it: the database, and what the groups before it did.
struct Desk<'a, 'b> {
    mailboxes: &'a mut HashMap<MailboxId, MailboxNews>,
    offered: &'a Offered,
    ground: &'a mut Ground<'b>,
}

impl World for Desk<'_, '_> {
    fn now_seconds(&self) -> u32 {
        now_seconds()
    }

    fn new_mailbox(&mut self) -> MailboxId {
        self.ground.counters.new_mailbox()
    }

    fn body(&self, body: BodyId) -> Option<(BlobId, u32)> {
        let (_, staged) = self.offered.iter().find(|(id, _)| *id == body)?;
        if staged.taken.load(Ordering::Relaxed) {
            return None;
        }
        Some((staged.blob, u32::try_from(staged.raw_octets).ok()?))
    }

    fn picture(&mut self, account: &Account, mailbox: MailboxId, state: &Mailbox) -> Result<Snapshot, StoreError> {
        let news = news_of(self.mailboxes, &account.name, mailbox);
        if let Some(picture) = &news.picture {
            return Ok(picture.clone());
        }
        let mut picture = match self.ground.pictures.peek(&account.name, mailbox) {
            Some(picture) => (*picture).clone(),
            None => load_picture(self.ground.connection, &account.name, mailbox)
                .map_err(database_error)?
                // Made in this batch: not in the database yet.
                .unwrap_or_else(|| Snapshot::empty(mailbox, state.uid_validity, Uid(1), ModSeq(0))),
        };
        news.deltas.iter().for_each(|delta| delta.put(&mut picture));
        news.picture = Some(picture.clone());
        Ok(picture)
    }
}
