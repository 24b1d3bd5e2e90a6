//! What a group of changes does: worked out as a value, without a disk. The writer carries it out.

use super::account::{Account, Head, Leaf, Mailbox, Tree};
use super::picture::{Delta, Edit};
use crate::StoreError;
use mail::mailbox::KEYWORDS_PER_MAILBOX_MAX;
use mail::{
    BlobId, BodyId, Change, ChangeError, FlagEdit, FlagSet, Flags, Group, InternalDate, Keyword, MailboxId,
    MailboxName, MailboxRef, Message, ModSeq, Outcome, Quota, Snapshot, SpecialUse, Uid, UidSet, UidValidity,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most mailboxes of an account, and most subscribed names. Dovecot has no limit; somewhat above the largest trees seen
/// in the wild.
pub const MAILBOXES_PER_ACCOUNT_MAX: usize = 10_000;
/// RFC 7162 §3.1: mod-sequences are positive 63-bit numbers.
const MOD_SEQUENCE_MAX: u64 = i64::MAX as u64;

/// What a decision may ask of the world.
pub trait World {
    /// The time in seconds since 1970.
    fn now_seconds(&self) -> u32;
    /// The number of a mailbox that never was.
    fn new_mailbox(&mut self) -> MailboxId;
    /// The blob that a staged body becomes, and its size.
    fn body(&self, body: BodyId) -> Option<(BlobId, u32)>;
    /// A mailbox after all groups that were accepted so far. `state` is what the account knows of it.
    fn picture(&mut self, account: &Account, mailbox: MailboxId, state: &Mailbox) -> Result<Snapshot, StoreError>;
}

/// What an accepted group does.
#[derive(Debug)]
pub struct Decision {
    /// The answers.
    pub outcomes: Vec<Outcome>,
    /// The account's counters after it.
    pub head: Head,
    /// The account's names after it.
    pub tree: Arc<Tree>,
    /// The mailboxes it touched.
    pub touched: BTreeMap<MailboxId, Touched>,
    /// How many references it adds to blobs, or takes.
    pub references: Vec<(BlobId, i64)>,
    /// The staged bodies it takes up.
    pub bodies: Vec<BodyId>,
}

/// A mailbox that a group touched.
#[derive(Debug)]
pub struct Touched {
    /// Its counters after the group; `None` if it is gone.
    pub state: Option<Mailbox>,
    /// Its messages after the group, if the group had to look at them.
    pub picture: Option<Snapshot>,
    /// What happened to its messages.
    pub delta: Delta,
}

/// Why there is no decision.
enum Obstacle {
    Refused(ChangeError),
    Failed(StoreError),
}

impl From<ChangeError> for Obstacle {
    fn from(error: ChangeError) -> Obstacle {
        Obstacle::Refused(error)
    }
}

impl From<StoreError> for Obstacle {
    fn from(error: StoreError) -> Obstacle {
        Obstacle::Failed(error)
    }
}

/// Decides a group. The inner error refuses the group, the outer one means that it could not be decided.
pub fn decide(
    account: &Account,
    group: &Group,
    world: &mut dyn World,
) -> Result<Result<Decision, ChangeError>, StoreError> {
    let mut draft = Draft {
        account,
        world,
        quota: group.quota,
        head: account.head,
        tree: account.tree.clone(),
        touched: BTreeMap::new(),
        references: Vec::new(),
        bodies: Vec::new(),
        added_octets: 0,
        added_messages: 0,
    };
    let mut outcomes = Vec::with_capacity(group.changes.len());
    for change in &group.changes {
        match draft.change(change) {
            Ok(outcome) => outcomes.push(outcome),
            Err(Obstacle::Refused(error)) => return Ok(Err(error)),
            Err(Obstacle::Failed(error)) => return Err(error),
        }
    }
    Ok(Ok(draft.end(outcomes)))
}

/// An account while a group is being decided: what differs from `account`.
struct Draft<'a> {
    account: &'a Account,
    world: &'a mut dyn World,
    quota: Quota,
    head: Head,
    tree: Arc<Tree>,
    touched: BTreeMap<MailboxId, Touched>,
    references: Vec<(BlobId, i64)>,
    bodies: Vec<BodyId>,
    /// What the group brought in so far, whether or not it is still there.
    added_octets: u64,
    added_messages: u64,
}

impl Draft<'_> {
    fn change(&mut self, change: &Change) -> Result<Outcome, Obstacle> {
        match change {
            Change::CreateMailbox { name, special_use } => self.create(name, *special_use),
            Change::DeleteMailbox { mailbox } => self.delete(*mailbox),
            Change::RenameMailbox { mailbox, name } => self.rename(*mailbox, name),
            Change::Subscribe { name, subscribed } => self.subscribe(name, *subscribed),
            Change::Append { mailbox, body, flags, internal_date } => {
                self.append(mailbox, *body, flags, *internal_date)
            }
            Change::Copy { from, uids, to } => self.copy(*from, uids, to, false),
            Change::Move { from, uids, to } => self.copy(*from, uids, to, true),
            Change::StoreFlags { mailbox, uids, edit, flags, unchanged_since } => {
                self.store_flags(*mailbox, uids, *edit, flags, *unchanged_since)
            }
            Change::Expunge { mailbox, uids, only_deleted } => self.expunge(*mailbox, uids, *only_deleted),
        }
    }

    fn end(mut self, outcomes: Vec<Outcome>) -> Decision {
        for touched in self.touched.values_mut() {
            let Some(state) = &touched.state else { continue };
            touched.delta.uid_next = Uid(state.uid_next);
            touched.delta.mod_sequence = state.mod_sequence;
            if let Some(picture) = &mut touched.picture {
                touched.delta.put_counters(picture);
            }
        }
        Decision {
            outcomes,
            head: self.head,
            tree: self.tree,
            touched: self.touched,
            references: self.references,
            bodies: self.bodies,
        }
    }

    // Mailboxes.

    fn create(&mut self, name: &MailboxName, special_use: Option<SpecialUse>) -> Result<Outcome, Obstacle> {
        if self.tree.names.contains_key(name) {
            return Err(ChangeError::MailboxExists.into());
        }
        self.create_superiors(name)?;
        let (mailbox, uid_validity) = self.create_one(name, special_use)?;
        Ok(Outcome::Created { mailbox, uid_validity })
    }

    /// RFC 9051 §6.3.4: superior levels are made so that the whole path exists.
    fn create_superiors(&mut self, name: &MailboxName) -> Result<(), Obstacle> {
        for superior in name.superiors() {
            if !self.tree.names.contains_key(&superior) {
                self.create_one(&superior, None)?;
            }
        }
        Ok(())
    }

    fn create_one(
        &mut self,
        name: &MailboxName,
        special_use: Option<SpecialUse>,
    ) -> Result<(MailboxId, UidValidity), Obstacle> {
        if self.tree.names.len() >= MAILBOXES_PER_ACCOUNT_MAX {
            return Err(ChangeError::TooManyMailboxes.into());
        }
        let mod_sequence = self.stamp()?;
        // RFC 9051 §6.3.4: a name used again has a UIDVALIDITY above all before.
        let last = self.head.uid_validity.0.checked_add(1).ok_or(ChangeError::Exhausted)?;
        let uid_validity = UidValidity(last.max(self.world.now_seconds()));
        self.head.uid_validity = uid_validity;
        let id = self.world.new_mailbox();
        Arc::make_mut(&mut self.tree).names.insert(name.clone(), Leaf { id, special_use });
        let state = Mailbox::new(uid_validity, mod_sequence);
        self.touched.insert(id, Touched { state: Some(state), picture: None, delta: Delta::default() });
        Ok((id, uid_validity))
    }

    fn delete(&mut self, mailbox: MailboxId) -> Result<Outcome, Obstacle> {
        let (name, _) = self.tree.name_of(mailbox).ok_or(ChangeError::NoSuchMailbox)?;
        if name.is_inbox() {
            return Err(ChangeError::Inbox.into());
        }
        let name = name.clone();
        self.stamp()?;
        let usage = self.touch(mailbox)?.usage;
        self.forget(usage.octets, usage.messages);
        Arc::make_mut(&mut self.tree).names.remove(&name);
        let gone = Touched { state: None, picture: None, delta: Delta::default() };
        // What happened to its messages before is kept: rows that were never written need no clearing away.
        if let Some(before) = self.touched.insert(mailbox, gone)
            && let Some(touched) = self.touched.get_mut(&mailbox)
        {
            touched.delta = before.delta;
        }
        Ok(Outcome::Done)
    }

    fn rename(&mut self, mailbox: MailboxId, name: &MailboxName) -> Result<Outcome, Obstacle> {
        let (old, _) = self.tree.name_of(mailbox).ok_or(ChangeError::NoSuchMailbox)?;
        if old.is_inbox() {
            return Err(ChangeError::Inbox.into());
        }
        let old = old.clone();
        if self.tree.names.contains_key(name) {
            return Err(ChangeError::MailboxExists.into());
        }
        self.stamp()?;
        let mut tree = (*self.tree).clone();
        let moves = |candidate: &MailboxName| *candidate == old || candidate.is_inferior_of(&old);
        let moved: Vec<(MailboxName, Leaf)> =
            tree.names.iter().filter(|(name, _)| moves(name)).map(|(name, leaf)| (name.clone(), *leaf)).collect();
        tree.names.retain(|name, _| !moves(name));
        for (before, leaf) in moved {
            let tail = before.as_str().strip_prefix(old.as_str()).unwrap_or_default();
            // A tree that would grow too deep or too long for a name meets the limit of the same reply.
            let after = MailboxName::parse(&format!("{name}{tail}")).map_err(|_| ChangeError::TooManyMailboxes)?;
            if tree.names.insert(after, leaf).is_some() {
                return Err(ChangeError::MailboxExists.into());
            }
        }
        self.tree = Arc::new(tree);
        self.create_superiors(name)?;
        Ok(Outcome::Done)
    }

    fn subscribe(&mut self, name: &MailboxName, subscribed: bool) -> Result<Outcome, Obstacle> {
        if self.tree.subscriptions.contains(name) == subscribed {
            return Ok(Outcome::Done);
        }
        if subscribed && self.tree.subscriptions.len() >= MAILBOXES_PER_ACCOUNT_MAX {
            return Err(ChangeError::TooManyMailboxes.into());
        }
        self.stamp()?;
        let subscriptions = &mut Arc::make_mut(&mut self.tree).subscriptions;
        if subscribed {
            subscriptions.insert(name.clone());
        } else {
            subscriptions.remove(name);
        }
        Ok(Outcome::Done)
    }

    // Messages.

    fn append(
        &mut self,
        mailbox: &MailboxRef,
        body: BodyId,
        flags: &FlagSet,
        internal_date: InternalDate,
    ) -> Result<Outcome, Obstacle> {
        let mailbox = self.resolve(mailbox)?;
        let (blob, size_octets) = self.world.body(body).ok_or(ChangeError::NoSuchBody)?;
        self.admit(u64::from(size_octets), 1)?;
        let keywords = self.keyword_bits(mailbox, &flags.keywords)?;
        let flags = Flags(flags.flags.0 & Flags::ALL.0);
        let message =
            Message { uid: Uid(0), flags, keywords, mod_sequence: ModSeq(0), size_octets, internal_date, blob };
        let uid = self.push(mailbox, message)?;
        self.bodies.push(body);
        let uid_validity = self.touch(mailbox)?.uid_validity;
        Ok(Outcome::Appended { uid_validity, uid })
    }

    fn copy(&mut self, from: MailboxId, uids: &UidSet, to: &MailboxRef, expunge: bool) -> Result<Outcome, Obstacle> {
        let to = self.resolve(to)?;
        let messages = self.select(from, uids)?;
        if !expunge {
            let octets = messages.iter().map(|m| u64::from(m.size_octets)).sum();
            self.admit(octets, messages.len() as u64)?;
        }
        let bits = self.translation(from, to, &messages)?;
        let mut pairs = Vec::with_capacity(messages.len());
        for message in &messages {
            let keywords = bits.iter().filter(|(old, _)| message.keywords >> old & 1 == 1);
            let keywords = keywords.fold(0, |word, (_, new)| word | 1 << new);
            pairs.push((message.uid, self.push(to, Message { keywords, ..*message })?));
        }
        if expunge {
            self.remove(from, &messages)?;
        }
        Ok(Outcome::Copied { uid_validity: self.touch(to)?.uid_validity, uids: pairs })
    }

    fn store_flags(
        &mut self,
        mailbox: MailboxId,
        uids: &UidSet,
        edit: FlagEdit,
        flags: &FlagSet,
        unchanged_since: Option<ModSeq>,
    ) -> Result<Outcome, Obstacle> {
        let (stored, modified): (Vec<Message>, Vec<Message>) = self
            .select(mailbox, uids)?
            .into_iter()
            .partition(|m| unchanged_since.is_none_or(|since| m.mod_sequence <= since));
        let system = Flags(flags.flags.0 & Flags::ALL.0);
        let bits = match edit {
            FlagEdit::Remove => self.known_bits(mailbox, &flags.keywords)?,
            FlagEdit::Add | FlagEdit::Replace if stored.is_empty() => 0,
            FlagEdit::Add | FlagEdit::Replace => self.keyword_bits(mailbox, &flags.keywords)?,
        };
        for message in &stored {
            let (flags, keywords) = match edit {
                FlagEdit::Add => (message.flags.union(system), message.keywords | bits),
                FlagEdit::Remove => (message.flags.without(system), message.keywords & !bits),
                FlagEdit::Replace => (system, bits),
            };
            // RFC 7162 §3.1.3: a mod-sequence need not rise where nothing changes.
            if (flags, keywords) != (message.flags, message.keywords) {
                self.update(mailbox, message.uid, flags, keywords)?;
            }
        }
        let mod_sequence = self.touch(mailbox)?.mod_sequence;
        let set = |messages: Vec<Message>| messages.iter().map(|m| m.uid).collect();
        Ok(Outcome::Flagged { stored: set(stored), modified: set(modified), mod_sequence })
    }

    fn expunge(&mut self, mailbox: MailboxId, uids: &UidSet, only_deleted: bool) -> Result<Outcome, Obstacle> {
        let mut messages = self.select(mailbox, uids)?;
        messages.retain(|m| !only_deleted || m.flags.contains(Flags::DELETED));
        self.remove(mailbox, &messages)?;
        Ok(Outcome::Expunged { uids: messages.iter().map(|m| m.uid).collect() })
    }

    // What these have in common.

    fn resolve(&mut self, mailbox: &MailboxRef) -> Result<MailboxId, Obstacle> {
        let id = match mailbox {
            MailboxRef::Id(id) => *id,
            MailboxRef::Named(name) => self.tree.names.get(name).ok_or(ChangeError::NoSuchMailbox)?.id,
        };
        self.touch(id).map(|_| id)
    }

    /// The counters of a mailbox, to be changed.
    fn touch(&mut self, mailbox: MailboxId) -> Result<&mut Mailbox, Obstacle> {
        Ok(self.entry(mailbox)?.0)
    }

    fn entry(&mut self, mailbox: MailboxId) -> Result<(&mut Mailbox, &mut Option<Snapshot>, &mut Delta), Obstacle> {
        let account = self.account;
        let touched = self.touched.entry(mailbox).or_insert_with(|| Touched {
            state: account.mailboxes.get(&mailbox).cloned(),
            picture: None,
            delta: Delta::default(),
        });
        let state = touched.state.as_mut().ok_or(ChangeError::NoSuchMailbox)?;
        Ok((state, &mut touched.picture, &mut touched.delta))
    }

    /// Those messages of `uids` that exist, ascending.
    fn select(&mut self, mailbox: MailboxId, uids: &UidSet) -> Result<Vec<Message>, Obstacle> {
        if self.entry(mailbox)?.1.is_none() {
            let account = self.account;
            let mut picture = match account.mailboxes.get(&mailbox) {
                Some(state) => self.world.picture(account, mailbox, state)?,
                None => Snapshot::empty(mailbox, self.touch(mailbox)?.uid_validity, Uid(1), ModSeq(0)),
            };
            let (state, slot, delta) = self.entry(mailbox)?;
            picture.keywords = state.keywords.clone();
            delta.put_edits(&mut picture);
            *slot = Some(picture);
        }
        let (_, picture, _) = self.entry(mailbox)?;
        let picture = picture.as_ref().ok_or(ChangeError::NoSuchMailbox)?;
        let uids = picture.select(uids);
        Ok(uids.into_iter().filter_map(|uid| picture.by_uid(uid)).copied().collect())
    }

    fn push(&mut self, mailbox: MailboxId, message: Message) -> Result<Uid, Obstacle> {
        let mod_sequence = self.stamp()?;
        let (state, ..) = self.entry(mailbox)?;
        let uid = Uid(state.uid_next);
        state.uid_next = state.uid_next.checked_add(1).ok_or(ChangeError::Exhausted)?;
        state.mod_sequence = mod_sequence;
        state.usage.messages += 1;
        state.usage.octets += u64::from(message.size_octets);
        self.head.usage.messages += 1;
        self.head.usage.octets += u64::from(message.size_octets);
        self.references.push((message.blob, 1));
        self.edit(mailbox, Edit::Push(Message { uid, mod_sequence, ..message }))?;
        Ok(uid)
    }

    fn update(&mut self, mailbox: MailboxId, uid: Uid, flags: Flags, keywords: u64) -> Result<(), Obstacle> {
        let mod_sequence = self.stamp()?;
        self.touch(mailbox)?.mod_sequence = mod_sequence;
        self.edit(mailbox, Edit::Update { uid, flags, keywords, mod_sequence })
    }

    fn remove(&mut self, mailbox: MailboxId, messages: &[Message]) -> Result<(), Obstacle> {
        if messages.is_empty() {
            return Ok(());
        }
        let mod_sequence = self.stamp()?;
        let octets = messages.iter().map(|m| u64::from(m.size_octets)).sum();
        let state = self.touch(mailbox)?;
        state.mod_sequence = mod_sequence;
        state.usage.messages = state.usage.messages.saturating_sub(messages.len() as u64);
        state.usage.octets = state.usage.octets.saturating_sub(octets);
        self.forget(octets, messages.len() as u64);
        self.references.extend(messages.iter().map(|m| (m.blob, -1)));
        self.edit(mailbox, Edit::Remove { uids: messages.iter().map(|m| m.uid).collect(), mod_sequence })
    }

    fn edit(&mut self, mailbox: MailboxId, edit: Edit) -> Result<(), Obstacle> {
        let (_, picture, delta) = self.entry(mailbox)?;
        if let Some(picture) = picture {
            edit.put(picture);
        }
        delta.edits.push(edit);
        Ok(())
    }

    /// The group's mod-sequence: one above the account's before it.
    fn stamp(&mut self) -> Result<ModSeq, ChangeError> {
        let next = self.account.head.mod_sequence.0 + 1;
        if next > MOD_SEQUENCE_MAX {
            return Err(ChangeError::Exhausted);
        }
        self.head.mod_sequence = ModSeq(next);
        Ok(self.head.mod_sequence)
    }

    /// Counts what comes in against the limits: all of the group together, on top of what the account held before it
    /// and still holds.
    fn admit(&mut self, octets: u64, messages: u64) -> Result<(), ChangeError> {
        let mut before = self.head.usage;
        before.octets = before.octets.saturating_sub(self.added_octets);
        before.messages = before.messages.saturating_sub(self.added_messages);
        self.added_octets += octets;
        self.added_messages += messages;
        let admitted = self.quota.admits(before, self.added_octets, self.added_messages);
        if messages == 0 || admitted { Ok(()) } else { Err(ChangeError::OverQuota) }
    }

    fn forget(&mut self, octets: u64, messages: u64) {
        // A counter that was wrong on disk must not wrap (V62); recalculating sets it right.
        self.head.usage.octets = self.head.usage.octets.saturating_sub(octets);
        self.head.usage.messages = self.head.usage.messages.saturating_sub(messages);
    }

    // Keywords.

    /// The bits of keywords; those the mailbox does not know get one.
    fn keyword_bits(&mut self, mailbox: MailboxId, keywords: &[Keyword]) -> Result<u64, Obstacle> {
        let (state, picture, delta) = self.entry(mailbox)?;
        let mut bits = 0;
        for keyword in keywords {
            let bit = match state.keywords.iter().position(|known| known == keyword) {
                Some(bit) => bit,
                None if state.keywords.len() >= KEYWORDS_PER_MAILBOX_MAX => {
                    return Err(ChangeError::TooManyKeywords.into());
                }
                None => {
                    state.keywords = state.keywords.iter().chain([keyword]).cloned().collect();
                    delta.keywords = Some(state.keywords.clone());
                    state.keywords.len() - 1
                }
            };
            bits |= 1 << bit;
        }
        if let Some(picture) = picture {
            picture.keywords = state.keywords.clone();
        }
        Ok(bits)
    }

    fn known_bits(&mut self, mailbox: MailboxId, keywords: &[Keyword]) -> Result<u64, Obstacle> {
        let state = self.touch(mailbox)?;
        let bits = keywords.iter().filter_map(|keyword| state.keywords.iter().position(|known| known == keyword));
        Ok(bits.fold(0, |word, bit| word | 1 << bit))
    }

    /// Which bit of `to` stands for which bit of `from`, for all keywords that the messages carry.
    fn translation(
        &mut self,
        from: MailboxId,
        to: MailboxId,
        messages: &[Message],
    ) -> Result<Vec<(u32, u32)>, Obstacle> {
        let used = messages.iter().fold(0, |word, message| word | message.keywords);
        let names = self.touch(from)?.keywords.clone();
        let mut bits = Vec::new();
        for (old, name) in names.iter().enumerate().filter(|(bit, _)| used >> bit & 1 == 1) {
            let word = self.keyword_bits(to, std::slice::from_ref(name))?;
            bits.push((old as u32, word.trailing_zeros()));
        }
        Ok(bits)
    }
}
