//! Carries a deed to the store.

use super::outbound;
use crate::body::{Bodies, Body};
use crate::model::{Deed, Edit, Model};
use crate::reading::name_of;
use mail::{
    Change, Commit, FlagEdit, FlagSet, Flags, Group, Keyword, MailboxId, MailboxName, MailboxRef, Outcome, Quota, Uid,
    UidSet,
};
use std::path::Path;
use std::time::Duration;
use store::embedded::{EmbeddedStore, Options};
use store::{MailStore, StagedBody};

/// A store with small limits, so that segments turn over and messages spill.
pub fn options(folder: &Path) -> Options {
    Options {
        segment_octets_max: 100_000,
        spill_octets: 24 * 1024,
        staging_octets_max: 4 * 1024 * 1024,
        reserve_octets: 0,
        dead_after: Duration::ZERO,
        ..Options::new(folder)
    }
}

/// Has the store do a deed, as one commit.
pub async fn carry_out(store: &EmbeddedStore, model: &Model, deed: &Deed, bodies: &Bodies) -> Result<(), String> {
    if let Deed::Remove { account } = deed {
        return store.remove_account(&name_of(account)?).await.map_err(|error| format!("{deed:?}: {error}"));
    }
    let mut staged = Vec::new();
    for number in deed.bodies() {
        staged.push((number, stage(store, number, bodies)?));
    }
    let mut groups = Vec::new();
    for account in deed.accounts() {
        let changes = Translation { model, account, staged: &staged }.changes(deed)?;
        groups.push(Group { account: name_of(account)?, changes, quota: Quota::default() });
    }
    let queue = outbound::changes(model, deed, |number| body_of(&staged, number))?;
    let answers = store.commit(Commit { groups, together: true, queue }).await;
    let answers = answers.map_err(|error| format!("{deed:?}: {error}"))?;
    match answers.iter().find_map(|answer| answer.as_ref().err()) {
        Some(refusal) => Err(format!("{deed:?}: {refusal:?}")),
        None => Ok(()),
    }
}

/// Delivers one message to an account's INBOX; gives its UID.
pub async fn deliver(store: &EmbeddedStore, account: &str, number: u64, bodies: &Bodies) -> Result<u32, String> {
    let staged = stage(store, number, bodies)?;
    let changes = vec![append(MailboxName::inbox(), number, staged.id, FlagSet::default())];
    let group = Group { account: name_of(account)?, changes, quota: Quota::default() };
    let answers = store.commit(Commit { groups: vec![group], ..Commit::default() }).await;
    let mut answers = answers.map_err(|error| error.to_string())?;
    match answers.pop() {
        Some(Ok(outcomes)) => match outcomes.first() {
            Some(Outcome::Appended { uid, .. }) => Ok(uid.0),
            other => Err(format!("a delivery answered {other:?}")),
        },
        other => Err(format!("a delivery answered {other:?}")),
    }
}

/// Stages the message of a number, in pieces of uneven size.
pub fn stage(store: &EmbeddedStore, number: u64, bodies: &Bodies) -> Result<StagedBody, String> {
    let body = bodies.get(number);
    let mut writer = store.stage().map_err(|error| error.to_string())?;
    for piece in body.whole[body.prefix.len()..].chunks(7_000 + (number % 9_000) as usize) {
        writer.write(piece).map_err(|error| error.to_string())?;
    }
    writer.finish(&body.prefix, body.digest.clone()).map_err(|error| error.to_string())
}

fn append(mailbox: MailboxName, number: u64, body: mail::BodyId, flags: FlagSet) -> Change {
    Change::Append { mailbox: MailboxRef::Named(mailbox), body, flags, internal_date: Body::date(number) }
}

/// A deed on its way to becoming changes of one account.
struct Translation<'a> {
    model: &'a Model,
    account: &'a str,
    staged: &'a [(u64, StagedBody)],
}

impl Translation<'_> {
    fn changes(&self, deed: &Deed) -> Result<Vec<Change>, String> {
        Ok(match deed {
            Deed::Deliver { mailbox, bodies, flags, keywords, .. } => {
                let mut changes = Vec::new();
                for number in bodies {
                    changes.push(append(name(mailbox)?, *number, self.body(*number)?, flag_set(*flags, keywords)));
                }
                changes
            }
            Deed::DeliverToAll { body, .. } | Deed::Accept { body, .. } => {
                vec![append(MailboxName::inbox(), *body, self.body(*body)?, FlagSet::default())]
            }
            Deed::Flags { mailbox, uids, edit, flags, keywords, .. } => vec![Change::StoreFlags {
                mailbox: self.id(mailbox)?,
                uids: set(uids),
                edit: match edit {
                    Edit::Add => FlagEdit::Add,
                    Edit::Remove => FlagEdit::Remove,
                    Edit::Replace => FlagEdit::Replace,
                },
                flags: flag_set(*flags, keywords),
                unchanged_since: None,
            }],
            Deed::Copy { from, to, uids, expunge, .. } => {
                let (from, uids, to) = (self.id(from)?, set(uids), MailboxRef::Named(name(to)?));
                vec![if *expunge { Change::Move { from, uids, to } } else { Change::Copy { from, uids, to } }]
            }
            Deed::Expunge { mailbox, uids, only_deleted, .. } => {
                let mailbox = self.id(mailbox)?;
                vec![Change::Expunge { mailbox, uids: set(uids), only_deleted: *only_deleted }]
            }
            Deed::Create { name: new, .. } => {
                vec![Change::CreateMailbox { name: name(new)?, special_use: None }]
            }
            Deed::Delete { name, .. } => vec![Change::DeleteMailbox { mailbox: self.id(name)? }],
            Deed::Rename { from, to, .. } => {
                vec![Change::RenameMailbox { mailbox: self.id(from)?, name: name(to)? }]
            }
            Deed::Subscribe { name: listed, subscribed, .. } => {
                vec![Change::Subscribe { name: name(listed)?, subscribed: *subscribed }]
            }
            Deed::Together { deeds } => {
                let changes: Result<Vec<_>, _> = deeds.iter().map(|deed| self.changes(deed)).collect();
                changes?.into_iter().flatten().collect()
            }
            Deed::Settle { report: Some((_, body)), .. } => {
                vec![append(MailboxName::inbox(), *body, self.body(*body)?, FlagSet::default())]
            }
            Deed::Remove { .. } | Deed::Wait { .. } | Deed::Settle { report: None, .. } => Vec::new(),
        })
    }

    fn body(&self, number: u64) -> Result<mail::BodyId, String> {
        body_of(self.staged, number)
    }

    fn id(&self, mailbox: &str) -> Result<MailboxId, String> {
        let account = self.model.accounts.get(self.account);
        let identity = account.and_then(|account| account.mailboxes.get(mailbox)).and_then(|found| found.identity);
        identity.map(|identity| MailboxId(identity.0)).ok_or_else(|| format!("{mailbox} is not known"))
    }
}

fn body_of(staged: &[(u64, StagedBody)], number: u64) -> Result<mail::BodyId, String> {
    let staged = staged.iter().find(|(staged, _)| *staged == number);
    staged.map(|(_, body)| body.id).ok_or_else(|| format!("message {number} is not staged"))
}

fn name(name: &str) -> Result<MailboxName, String> {
    MailboxName::parse(name).map_err(|error| format!("{name:?}: {error:?}"))
}

fn set(uids: &[u32]) -> UidSet {
    uids.iter().map(|uid| Uid(*uid)).collect()
}

fn flag_set(flags: u8, keywords: &[String]) -> FlagSet {
    FlagSet { flags: Flags(flags), keywords: keywords.iter().filter_map(|name| Keyword::parse(name)).collect() }
}
