//! A store's accounts in the form of the model.

pub mod queue;

use crate::body::{Bodies, Body};
use crate::model::{Account, Mailbox, Message, Model};
use mail::{AccountName, BlobId, MailboxId, Snapshot, Usage};
use std::collections::{BTreeMap, BTreeSet};
use store::embedded::EmbeddedStore;
use store::{BodyRange, MailStore};

/// Octets read at a time.
const READ_OCTETS: u64 = 4 * 1024 * 1024;

/// An account as the store shows it.
#[derive(Debug, Default)]
pub struct Found {
    /// Mailboxes, messages, subscriptions.
    pub account: Account,
    /// The blobs of all messages, and whose octets they should have.
    pub blobs: BTreeMap<BlobId, u64>,
    /// The sum over its messages.
    pub usage: Usage,
    /// Of each mailbox: number, next UID, mod-sequence.
    pub heads: Vec<(u64, u32, u64)>,
}

/// An account's name as the store wants it.
pub fn name_of(account: &str) -> Result<AccountName, String> {
    AccountName::parse(account).ok_or_else(|| format!("{account:?} is no account name"))
}

/// Reads an account that exists.
pub async fn account(store: &EmbeddedStore, name: &str, bodies: &Bodies) -> Result<Found, String> {
    let said = |error| format!("{name}: {error}");
    let account = name_of(name)?;
    let mut found = Found::default();
    for line in store.mailboxes(&account).await.map_err(said)?.iter() {
        if line.subscribed {
            found.account.subscriptions.insert(line.name.to_string());
        }
        let Some(id) = line.id else { continue };
        let snapshot = store.snapshot(&account, id).await.map_err(said)?;
        if snapshot.uid_validity != line.uid_validity {
            return Err(format!("{name}: the list and the picture of {} differ in UIDVALIDITY", line.name));
        }
        let mailbox = mailbox(store, &snapshot, bodies, &mut found)
            .await
            .map_err(|error| format!("{name}, mailbox {} ({id}): {error}", line.name))?;
        found.heads.push((id.0, snapshot.uid_next.0, snapshot.mod_sequence.0));
        found.account.mailboxes.insert(line.name.to_string(), mailbox);
    }
    Ok(found)
}

async fn mailbox(
    store: &EmbeddedStore,
    snapshot: &Snapshot,
    bodies: &Bodies,
    found: &mut Found,
) -> Result<Mailbox, String> {
    let MailboxId(id) = snapshot.mailbox;
    let mut mailbox = Mailbox {
        uid_next: snapshot.uid_next.0,
        identity: Some((id, snapshot.uid_validity.0)),
        messages: BTreeMap::new(),
    };
    let digests = store.digests(snapshot.iter().map(|message| message.blob).collect()).await;
    let digests = digests.map_err(|error| error.to_string())?;
    for (message, digest) in snapshot.iter().zip(digests) {
        let uid = message.uid;
        let digest = digest.map_err(|error| format!("the digest of UID {uid}: {error}"))?;
        let text = String::from_utf8_lossy(&digest);
        let body = text.split(' ').nth(1).and_then(|number| number.parse::<u64>().ok());
        let number = body.ok_or_else(|| format!("the digest of UID {uid} is {text:?}"))?;
        let body = bodies.get(number);
        if body.digest != *digest || body.whole.len() as u64 != u64::from(message.size_octets) {
            return Err(format!("UID {uid} is not the size it was delivered with"));
        }
        if message.internal_date != Body::date(number) {
            return Err(format!("UID {uid} has another internal date"));
        }
        if message.uid >= snapshot.uid_next || message.mod_sequence > snapshot.mod_sequence {
            return Err(format!("UID {uid} is beyond the mailbox's counters"));
        }
        found.usage.messages += 1;
        found.usage.octets += u64::from(message.size_octets);
        found.blobs.insert(message.blob, number);
        let keywords: BTreeSet<String> =
            snapshot.keywords_of(message).map(|keyword| keyword.as_str().to_owned()).collect();
        let message = Message { body: number, flags: message.flags.0, keywords };
        if mailbox.messages.insert(uid.0, message).is_some() {
            return Err(format!("UID {uid} is there twice"));
        }
    }
    Ok(mailbox)
}

/// Reads every blob and compares it with what was delivered, octet for octet.
pub async fn compare_octets(
    store: &EmbeddedStore,
    blobs: &BTreeMap<BlobId, u64>,
    bodies: &Bodies,
) -> Result<(), String> {
    let mut wanted: Vec<(BlobId, u64)> = blobs.iter().map(|(blob, number)| (*blob, *number)).collect();
    while !wanted.is_empty() {
        let mut octets = 0;
        let batch: Vec<(BlobId, u64)> = std::iter::from_fn(|| {
            let next = (octets < READ_OCTETS).then(|| wanted.pop()).flatten()?;
            octets += bodies.get(next.1).whole.len() as u64;
            Some(next)
        })
        .collect();
        let ranges = batch.iter().map(|(blob, _)| BodyRange { blob: *blob, start: 0, octets: u64::MAX }).collect();
        let read = store.read(ranges).await.map_err(|error| format!("the store does not read: {error}"))?;
        for ((blob, number), octets) in batch.iter().zip(read) {
            let octets = octets.map_err(|error| format!("message {number} (blob {blob}): {error}"))?;
            if *octets != *bodies.get(*number).whole {
                return Err(format!("message {number} (blob {blob}) is not what was delivered"));
            }
        }
    }
    Ok(())
}

/// Whether accounts that were found are those expected, as far as the expectation goes. The error names the first
/// difference.
pub fn compare(found: &BTreeMap<String, Found>, expected: &Model, owned: &[&str]) -> Result<(), String> {
    for name in owned {
        match (found.get(*name), expected.accounts.get(*name)) {
            (None, None) => {}
            (Some(found), Some(expected)) => {
                compare_account(&found.account, expected).map_err(|error| format!("{name}: {error}"))?;
            }
            (None, Some(_)) => return Err(format!("account {name} is missing")),
            (Some(_), None) => return Err(format!("account {name} should not be there")),
        }
    }
    Ok(())
}

fn compare_account(found: &Account, expected: &Account) -> Result<(), String> {
    let names = |account: &Account| account.mailboxes.keys().cloned().collect::<Vec<_>>();
    if names(found) != names(expected) {
        return Err(format!("mailboxes {:?} instead of {:?}", names(found), names(expected)));
    }
    if found.subscriptions != expected.subscriptions {
        return Err(format!("subscribed {:?} instead of {:?}", found.subscriptions, expected.subscriptions));
    }
    for (name, expected) in &expected.mailboxes {
        let Some(found) = found.mailboxes.get(name) else { continue };
        compare_mailbox(found, expected).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

fn compare_mailbox(found: &Mailbox, expected: &Mailbox) -> Result<(), String> {
    if expected.identity.is_some() && found.identity != expected.identity {
        return Err(format!("number and UIDVALIDITY {:?} instead of {:?}", found.identity, expected.identity));
    }
    if found.uid_next < expected.uid_next {
        return Err(format!("UIDNEXT went back from {} to {}", expected.uid_next, found.uid_next));
    }
    for (uid, message) in &expected.messages {
        match found.messages.get(uid) {
            None => return Err(format!("UID {uid} is lost")),
            Some(found) if found != message => return Err(format!("UID {uid} is {found:?} instead of {message:?}")),
            Some(_) => {}
        }
    }
    match found.messages.keys().find(|uid| !expected.messages.contains_key(uid)) {
        Some(uid) => Err(format!("UID {uid} should not be there")),
        None => Ok(()),
    }
}
