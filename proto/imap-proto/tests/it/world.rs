//! An account in memory that answers what sessions ask: a simple model of the store, with mailboxes as plain lists.
//!
//! Dialogues reach behind the session's back by the command ID: `ID ("world" "deliver")` makes another session of the
//! same account deliver a message, and so on; see [`World::prank`].

use crate::history::{DELIVERED, Deed, MASKED, MASKED_ALL, QUOTA_MESSAGES, QUOTA_OCTETS, SECOND, TINY_OCTETS, history};
use bytes::Bytes;
use imap_proto::question::{Answer, AuthFailure, BodyRange, CommitFailure, INTERNAL_DATE_NOW, Question, Unavailable};
use imap_proto::{Config, Session};
use mail::{
    AccountName, BlobId, BodyId, Change, ChangeError, FlagEdit, FlagSet, Flags, InternalDate, Keyword, MailboxId,
    MailboxInfo, MailboxName, MailboxRef, Message, ModSeq, Outcome, PeerFacts, Quota, Snapshot, SpecialUse, TlsFacts,
    Uid, UidSet, UidValidity, Usage,
};
use message::scan::Scanner;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What 'now' is in these worlds: 2 January 2026.
const NOW: InternalDate = InternalDate { unix_seconds: 1_767_312_000, zone_minutes: 0 };

#[derive(Clone)]
struct Mailbox {
    name: MailboxName,
    special_use: Option<SpecialUse>,
    snapshot: Arc<Snapshot>,
}

/// All that a commit changes; a refused commit leaves the old value.
#[derive(Clone)]
struct Account {
    mailboxes: BTreeMap<u64, Mailbox>,
    subscribed: BTreeSet<MailboxName>,
    recent: BTreeMap<u64, Uid>,
    mod_sequence: u64,
    /// Whether the commit that is being applied changed anything: if not, it gets no mod-sequence.
    changed: bool,
    mailbox_next: u64,
}

/// An account `brian@example.net` with the password `hunter2`, and what is the matter with it.
pub struct World {
    account: Account,
    blobs: BTreeMap<u64, Bytes>,
    staged: BTreeMap<u64, Bytes>,
    receiving: bool,
    body_next: u64,
    quota: Quota,
    config: Config,
    tls: bool,
    directory: bool,
    reads: bool,
    /// Counts down the pictures asked for until another session delivers a message.
    arrival_after: Option<u32>,
    commits: bool,
}

impl World {
    /// # Panics
    /// If there is no world of that name.
    pub fn named(name: &str) -> World {
        let mut world = World {
            account: Account {
                mailboxes: BTreeMap::new(),
                subscribed: BTreeSet::new(),
                recent: BTreeMap::new(),
                mod_sequence: 1,
                changed: false,
                mailbox_next: 1,
            },
            blobs: BTreeMap::new(),
            staged: BTreeMap::new(),
            receiving: false,
            body_next: 1,
            quota: Quota::default(),
            // The players' clocks begin at 1,000 seconds.
            config: Config { unix_seconds_at_zero: Some(NOW.unix_seconds - 1_000), ..Config::new("mx.example.net") },
            tls: true,
            directory: true,
            reads: true,
            arrival_after: None,
            commits: true,
        };
        for deed in history(name) {
            match deed {
                Deed::Create(mailbox, special_use) => world.create(mailbox, special_use),
                Deed::Delete(mailbox) => world.delete(mailbox),
                Deed::Deliver(text, flags) => world.deliver("INBOX", text, flags),
            }
        }
        match name {
            "small" | "empty" | "tree" => {}
            "clear" => world.tls = false,
            "clear-only" => (world.tls, world.config.tls_available) = (false, false),
            "masked" => world.config.capabilities_masked = MASKED.map(String::from).to_vec(),
            "bare" => world.config.capabilities_masked = MASKED_ALL.map(String::from).to_vec(),
            "arrival-on-third-look" => world.arrival_after = Some(3),
            "directory-down" => world.directory = false,
            "store-down" => world.commits = false,
            "bodies-lost" => world.reads = false,
            "quota" => {
                let (octets_max, messages_max) = (Some(QUOTA_OCTETS), Some(QUOTA_MESSAGES));
                world.quota = Quota { octets_max, messages_max, grace_octets: QUOTA_OCTETS };
            }
            "tiny-append" => world.config.append_octets_max = TINY_OCTETS,
            other => panic!("no world {other}"),
        }
        world
    }

    pub fn session(&self) -> Session {
        let tls = TlsFacts { version: "TLSv1.3", cipher: String::new(), bits: 256, server_name: None };
        let peer = PeerFacts { peer: None, local: None, tls: self.tls.then_some(tls) };
        Session::new(Arc::new(self.config.clone()), peer)
    }

    fn id_of(&self, name: &str) -> MailboxId {
        let found = self.account.mailboxes.iter().find(|(_, mailbox)| mailbox.name.as_str() == name);
        found.map(|(id, _)| MailboxId(*id)).unwrap()
    }

    fn create(&mut self, name: &str, special_use: Option<SpecialUse>) {
        let name = MailboxName::parse(name).unwrap();
        self.commit(vec![Change::CreateMailbox { name, special_use }]).unwrap();
    }

    fn delete(&mut self, name: &str) {
        let mailbox = self.id_of(name);
        self.commit(vec![Change::DeleteMailbox { mailbox }]).unwrap();
    }

    pub fn deliver(&mut self, mailbox: &str, text: &str, flags: Flags) {
        let mailbox = MailboxRef::Id(self.id_of(mailbox));
        let body = self.stage(text.as_bytes().to_vec().into());
        let flags = FlagSet::system(flags);
        self.commit(vec![Change::Append { mailbox, body, flags, internal_date: DELIVERED }]).unwrap();
        self.staged.remove(&body.0);
    }

    pub fn snapshot_of(&self, name: &str) -> Arc<Snapshot> {
        Arc::clone(&self.account.mailboxes[&self.id_of(name).0].snapshot)
    }

    fn stage(&mut self, octets: Bytes) -> BodyId {
        let body = BodyId(self.body_next);
        self.body_next += 1;
        self.staged.insert(body.0, octets);
        body
    }

    /// What another session of the account does.
    pub fn prank(&mut self, what: &str) {
        let inbox = self.account.mailboxes.keys().next().map(|id| MailboxId(*id)).unwrap();
        let words: Vec<&str> = what.split(' ').collect();
        let uids = |text: &str| -> UidSet { text.split(',').filter_map(|uid| uid.parse().ok().map(Uid)).collect() };
        let store = |uids, edit, flags| Change::StoreFlags { mailbox: inbox, uids, edit, flags, unchanged_since: None };
        match words[..] {
            ["deliver"] => self.deliver("INBOX", SECOND, Flags::NONE),
            ["flag", set] => {
                self.commit(vec![store(uids(set), FlagEdit::Add, FlagSet::system(Flags::FLAGGED))]).unwrap();
            }
            ["keyword", set, word] => {
                let flags = FlagSet { flags: Flags::NONE, keywords: Keyword::parse(word).into_iter().collect() };
                self.commit(vec![store(uids(set), FlagEdit::Add, flags)]).unwrap();
            }
            ["expunge", set] => {
                self.commit(vec![Change::Expunge { mailbox: inbox, uids: uids(set), only_deleted: false }]).unwrap();
            }
            ["lose", set] => {
                for uid in uids(set).iter() {
                    if let Some(message) = self.snapshot_of("INBOX").by_uid(uid) {
                        self.blobs.remove(&message.blob.0);
                    }
                }
            }
            ["delete", "Sent"] if self.account.mailboxes.len() > 1 => self.delete("Sent"),
            ["commits", "stop"] => self.commits = false,
            // Mutated dialogues ask for anything.
            _ => {}
        }
    }

    pub fn answer(&mut self, question: Question, body: &mut Vec<u8>) -> Answer {
        match question {
            Question::Authenticate(credentials) => Answer::Authenticated(match credentials.login.as_str() {
                _ if !self.directory => Err(AuthFailure::Temporary),
                "brian@example.net" if credentials.password.expose() == "hunter2" => {
                    Ok(AccountName::parse(&credentials.login).unwrap())
                }
                _ => Err(AuthFailure::Denied),
            }),
            Question::Mailboxes => Answer::Mailboxes(Ok(Arc::new(self.infos()))),
            Question::Snapshots(ids) => {
                self.arrival_after = self.arrival_after.map(|looks| looks.saturating_sub(1));
                if self.arrival_after == Some(0) {
                    self.arrival_after = None;
                    self.deliver("INBOX", SECOND, Flags::NONE);
                }
                let snapshot = |id: &MailboxId| self.account.mailboxes.get(&id.0).map(|m| Arc::clone(&m.snapshot));
                Answer::Snapshots(Ok(ids.iter().map(snapshot).collect()))
            }
            Question::ClaimRecent(id) => {
                let next = self.account.mailboxes.get(&id.0).map_or(Uid(1), |mailbox| mailbox.snapshot.uid_next);
                Answer::Recent(self.account.recent.insert(id.0, next).unwrap_or(Uid(1)))
            }
            Question::Digests(blobs) => Answer::Digests(Ok(blobs.iter().map(|blob| self.digest(*blob)).collect())),
            Question::Read(ranges) => Answer::Bodies(Ok(ranges.iter().map(|range| self.read(*range)).collect())),
            Question::BeginBody { .. } => {
                body.clear();
                self.receiving = self.commits;
                Answer::Staging(if self.commits { Ok(()) } else { Err(Unavailable) })
            }
            Question::EndOfBody => {
                assert!(std::mem::take(&mut self.receiving), "no body was begun");
                Answer::Staged(Ok(self.stage(std::mem::take(body).into())))
            }
            Question::Abandon => {
                (self.receiving, self.staged) = (false, BTreeMap::new());
                body.clear();
                Answer::Done
            }
            Question::Commit(changes) => {
                let outcome = if self.commits {
                    self.commit(changes).map_err(CommitFailure::Refused)
                } else {
                    Err(CommitFailure::Unavailable)
                };
                self.staged.clear();
                Answer::Committed(outcome)
            }
            Question::Usage => Answer::Usage(Ok((self.account.usage(), self.quota))),
            Question::ClientId(pairs) => {
                for (field, value) in pairs {
                    if field == "world" {
                        self.prank(&value);
                    }
                }
                Answer::Done
            }
        }
    }

    /// Whether a session has left something staged or a body unfinished.
    pub fn is_tidy(&self) -> bool {
        self.staged.is_empty() && !self.receiving
    }

    fn infos(&self) -> Vec<MailboxInfo> {
        let mut infos: BTreeMap<MailboxName, MailboxInfo> = BTreeMap::new();
        for (id, mailbox) in &self.account.mailboxes {
            let info = MailboxInfo {
                id: Some(MailboxId(*id)),
                name: mailbox.name.clone(),
                special_use: mailbox.special_use,
                subscribed: self.account.subscribed.contains(&mailbox.name),
                uid_validity: mailbox.snapshot.uid_validity,
            };
            infos.insert(mailbox.name.clone(), info);
        }
        for name in &self.account.subscribed {
            infos.entry(name.clone()).or_insert(MailboxInfo {
                id: None,
                name: name.clone(),
                special_use: None,
                subscribed: true,
                uid_validity: UidValidity(0),
            });
        }
        infos.into_values().collect()
    }

    fn digest(&self, blob: BlobId) -> Option<Bytes> {
        let octets = self.blobs.get(&blob.0)?;
        let mut scanner = Scanner::new();
        scanner.write(octets);
        Some(scanner.finish(b"").encode().into())
    }

    fn read(&self, range: BodyRange) -> Option<Bytes> {
        if !self.reads {
            return None;
        }
        let octets = self.blobs.get(&range.blob.0)?;
        let start = octets.len().min(range.start as usize);
        Some(octets.slice(start..octets.len().min(start + range.octets as usize)))
    }

    fn commit(&mut self, changes: Vec<Change>) -> Result<Vec<Outcome>, ChangeError> {
        let mut account = self.account.clone();
        account.mod_sequence += 1;
        account.changed = false;
        let outcomes: Vec<Outcome> = changes
            .into_iter()
            .map(|change| account.apply(change, &self.staged, &mut self.blobs))
            .collect::<Result<_, _>>()?;
        let (before, after) = (self.account.usage(), account.usage());
        let (octets, messages) =
            (after.octets.saturating_sub(before.octets), after.messages.saturating_sub(before.messages));
        if !(Quota { grace_octets: 0, ..self.quota }).admits(before, octets, messages) {
            return Err(ChangeError::OverQuota);
        }
        if account.changed {
            self.account = account;
        }
        Ok(outcomes)
    }
}

impl Account {
    fn usage(&self) -> Usage {
        Usage {
            octets: self.mailboxes.values().map(|mailbox| mailbox.snapshot.octets()).sum(),
            messages: self.mailboxes.values().map(|mailbox| u64::from(mailbox.snapshot.len())).sum(),
        }
    }

    fn apply(
        &mut self,
        change: Change,
        staged: &BTreeMap<u64, Bytes>,
        blobs: &mut BTreeMap<u64, Bytes>,
    ) -> Result<Outcome, ChangeError> {
        Ok(match change {
            Change::CreateMailbox { name, special_use } => {
                if self.find(&MailboxRef::Named(name.clone())).is_ok() {
                    return Err(ChangeError::MailboxExists);
                }
                self.create_superiors(&name);
                let mailbox = self.create(name, special_use);
                Outcome::Created { mailbox, uid_validity: UidValidity(mailbox.0 as u32) }
            }
            Change::DeleteMailbox { mailbox } => {
                self.find(&MailboxRef::Id(mailbox))?;
                self.mailboxes.remove(&mailbox.0);
                self.changed = true;
                Outcome::Done
            }
            Change::RenameMailbox { mailbox, name } => {
                let id = self.find(&MailboxRef::Id(mailbox))?;
                let from = self.mailboxes[&id].name.clone();
                if self.find(&MailboxRef::Named(name.clone())).is_ok() {
                    return Err(ChangeError::MailboxExists);
                }
                for mailbox in self.mailboxes.values_mut() {
                    if mailbox.name == from || mailbox.name.is_inferior_of(&from) {
                        let rest = &mailbox.name.as_str()[from.as_str().len()..];
                        mailbox.name = MailboxName::parse(&format!("{name}{rest}")).unwrap();
                    }
                }
                self.create_superiors(&name);
                self.changed = true;
                Outcome::Done
            }
            Change::Subscribe { name, subscribed } => {
                self.changed |= if subscribed { self.subscribed.insert(name) } else { self.subscribed.remove(&name) };
                Outcome::Done
            }
            Change::Append { mailbox, body, flags, internal_date } => {
                let octets = staged.get(&body.0).ok_or(ChangeError::NoSuchBody)?.clone();
                let id = self.find(&mailbox)?;
                let keywords = self.bits(id, &flags.keywords)?;
                let blob = BlobId(blobs.keys().last().map_or(1, |last| last + 1));
                let message = Message {
                    uid: Uid(0),
                    flags: flags.flags,
                    keywords,
                    mod_sequence: ModSeq(0),
                    size_octets: octets.len() as u32,
                    internal_date: if internal_date == INTERNAL_DATE_NOW { NOW } else { internal_date },
                    blob,
                };
                blobs.insert(blob.0, octets);
                let uid = self.push(id, message);
                Outcome::Appended { uid_validity: self.mailboxes[&id].snapshot.uid_validity, uid }
            }
            Change::Copy { from, uids, to } => self.copy(from, &uids, &to)?,
            Change::Move { from, uids, to } => {
                let copied = self.copy(from, &uids, &to)?;
                let Outcome::Copied { uids: pairs, .. } = &copied else { unreachable!() };
                let gone = pairs.iter().map(|(old, _)| *old).collect();
                self.change(from.0, |snapshot, _| !snapshot.remove(&gone).is_empty());
                copied
            }
            Change::StoreFlags { mailbox, uids, edit, flags, unchanged_since } => {
                let id = self.find(&MailboxRef::Id(mailbox))?;
                let bits = self.bits(id, &flags.keywords)?;
                let (mut stored, mut modified) = (UidSet::new(), UidSet::new());
                let mod_sequence = ModSeq(self.mod_sequence);
                self.change(id, |snapshot, now| {
                    let mut changed = false;
                    for uid in snapshot.select(&uids) {
                        if unchanged_since.is_some_and(|limit| snapshot.by_uid(uid).unwrap().mod_sequence > limit) {
                            modified.insert(uid);
                            continue;
                        }
                        stored.insert(uid);
                        snapshot.update(uid, |message| {
                            let before = (message.flags, message.keywords);
                            (message.flags, message.keywords) = match edit {
                                FlagEdit::Add => (message.flags.union(flags.flags), message.keywords | bits),
                                FlagEdit::Remove => (message.flags.without(flags.flags), message.keywords & !bits),
                                FlagEdit::Replace => (flags.flags, bits),
                            };
                            if before != (message.flags, message.keywords) {
                                message.mod_sequence = now;
                                changed = true;
                            }
                        });
                    }
                    changed
                });
                Outcome::Flagged { stored, modified, mod_sequence }
            }
            Change::Expunge { mailbox, uids, only_deleted } => {
                let id = self.find(&MailboxRef::Id(mailbox))?;
                let mut gone = Vec::new();
                self.change(id, |snapshot, _| {
                    let fits = |uid: &Uid| snapshot.by_uid(*uid).is_some_and(|m| m.flags.contains(Flags::DELETED));
                    let chosen = snapshot.select(&uids).into_iter().filter(|uid| !only_deleted || fits(uid)).collect();
                    gone = snapshot.remove(&chosen).into_iter().map(|message| message.uid).collect();
                    !gone.is_empty()
                });
                Outcome::Expunged { uids: gone }
            }
        })
    }

    fn find(&self, mailbox: &MailboxRef) -> Result<u64, ChangeError> {
        let fits = |(id, found): (&u64, &Mailbox)| match mailbox {
            MailboxRef::Id(wanted) => (wanted.0 == *id).then_some(*id),
            MailboxRef::Named(name) => (found.name == *name).then_some(*id),
        };
        self.mailboxes.iter().find_map(fits).ok_or(ChangeError::NoSuchMailbox)
    }

    fn create_superiors(&mut self, name: &MailboxName) {
        for superior in name.superiors() {
            if self.find(&MailboxRef::Named(superior.clone())).is_err() {
                self.create(superior, None);
            }
        }
    }

    fn create(&mut self, name: MailboxName, special_use: Option<SpecialUse>) -> MailboxId {
        self.changed = true;
        let id = MailboxId(self.mailbox_next);
        self.mailbox_next += 1;
        let snapshot = Snapshot::empty(id, UidValidity(id.0 as u32), Uid(1), ModSeq(self.mod_sequence));
        self.mailboxes.insert(id.0, Mailbox { name, special_use, snapshot: Arc::new(snapshot) });
        id
    }

    /// `edit` says whether it changed anything.
    fn change(&mut self, id: u64, edit: impl FnOnce(&mut Snapshot, ModSeq) -> bool) {
        let now = ModSeq(self.mod_sequence);
        let mailbox = self.mailboxes.get_mut(&id).unwrap();
        let mut snapshot = Snapshot::clone(&mailbox.snapshot);
        if edit(&mut snapshot, now) {
            snapshot.mod_sequence = now;
            mailbox.snapshot = Arc::new(snapshot);
            self.changed = true;
        }
    }

    fn push(&mut self, id: u64, mut message: Message) -> Uid {
        let mut uid = Uid(0);
        self.change(id, |snapshot, now| {
            uid = snapshot.uid_next;
            (message.uid, message.mod_sequence) = (uid, now);
            snapshot.uid_next = Uid(uid.0 + 1);
            snapshot.push(message);
            true
        });
        uid
    }

    fn copy(&mut self, from: MailboxId, uids: &UidSet, to: &MailboxRef) -> Result<Outcome, ChangeError> {
        let (source, target) = (self.find(&MailboxRef::Id(from))?, self.find(to)?);
        let snapshot = Arc::clone(&self.mailboxes[&source].snapshot);
        let mut pairs = Vec::new();
        for uid in snapshot.select(uids) {
            let mut message = *snapshot.by_uid(uid).unwrap();
            let names: Vec<Keyword> = snapshot.keywords_of(&message).cloned().collect();
            message.keywords = self.bits(target, &names)?;
            pairs.push((uid, self.push(target, message)));
        }
        Ok(Outcome::Copied { uid_validity: self.mailboxes[&target].snapshot.uid_validity, uids: pairs })
    }

    /// The bits of keywords, new ones included.
    fn bits(&mut self, id: u64, keywords: &[Keyword]) -> Result<u64, ChangeError> {
        let mut bits = 0;
        for keyword in keywords {
            let snapshot = &self.mailboxes[&id].snapshot;
            let bit = snapshot.keyword_bit(keyword).unwrap_or(snapshot.keywords.len() as u32);
            if bit >= 64 {
                return Err(ChangeError::TooManyKeywords);
            }
            if bit == snapshot.keywords.len() as u32 {
                let all: Vec<Keyword> = snapshot.keywords.iter().chain([keyword]).cloned().collect();
                self.change(id, |snapshot, _| {
                    snapshot.keywords = all.into();
                    true
                });
            }
            bits |= 1 << bit;
        }
        Ok(bits)
    }
}
