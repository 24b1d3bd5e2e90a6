//! Accounts with a past, in a real store: what the worlds of the IMAP and POP3 dialogues hold.
//!
//! What happened is committed through the store, as it would have happened. Then the numbers that differ because the real
//! house gave them out (UIDs, UIDVALIDITY, mod-sequences) are written over with those of the world, so that every line of
//! a dialogue holds to the letter. Faults are put in last.

use crate::imap_history::{DELIVERED, Deed, history};
use crate::pop3_maildrop::{Mail, UID_NEXT, UID_VALIDITY, maildrop};
use deliver::Intake;
use mail::{
    AccountName, Change, Commit, FlagSet, Flags, Group, MailboxId, MailboxInfo, MailboxName, MailboxRef, Quota,
};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use store::MailStore;
use store::embedded::{EmbeddedStore, Options};

/// Whose past it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Imap,
    Pop3,
}

/// An account, and the world of its dialogue.
pub struct Resident {
    pub account: AccountName,
    pub service: Service,
    pub world: String,
}

/// Makes the store in `folder` and fills it with the past of every resident.
pub fn fill(folder: &Path, residents: &[&Resident]) {
    let store = EmbeddedStore::open(Options { sync: false, ..Options::new(folder) }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let at_home = || residents.iter().filter(|resident| !resident.is_locked());
    let pasts: Vec<Past> = runtime.block_on(async {
        let mut pasts = Vec::new();
        for resident in at_home() {
            pasts.push(match resident.service {
                Service::Imap => Past::Imap(live_through(&store, resident).await),
                Service::Pop3 => Past::Pop3(fill_maildrop(&store, resident).await),
            });
        }
        store.close().await.unwrap();
        pasts
    });
    drop(store);
    let tables = open_tables(folder);
    for (resident, past) in at_home().zip(pasts) {
        match past {
            Past::Imap(numbering) => number_mailboxes(&tables, resident, &numbering),
            Past::Pop3(messages) => number_maildrop(&tables, resident, &messages),
        }
    }
    for resident in residents.iter().filter(|resident| resident.cannot_commit()) {
        let trap = format!(
            "CREATE TRIGGER \"no commit of {0}\" BEFORE INSERT ON account WHEN NEW.name = '{0}'
             BEGIN SELECT RAISE(ABORT, 'on purpose'); END",
            resident.account
        );
        tables.execute_batch(&trap).unwrap();
    }
    drop(tables);
    for resident in residents.iter().filter(|resident| resident.service == Service::Pop3) {
        for lost in maildrop(&resident.world).iter().filter(|mail| mail.text.is_none()) {
            damage(folder, &resident.account, lost.uid);
        }
    }
}

impl Resident {
    /// A maildrop that cannot be opened is one that is not there yet and cannot be made.
    fn is_locked(&self) -> bool {
        self.world == "maildrop-locked"
    }

    fn cannot_commit(&self) -> bool {
        self.is_locked() || ["store-down", "maildrop-stuck"].contains(&&*self.world)
    }
}

/// What has to be written over.
enum Past {
    Imap(Numbering),
    Pop3(Vec<Mail>),
}

/// Of an IMAP account.
struct Numbering {
    /// UIDVALIDITY by mailbox: the order in which they were made.
    validity: BTreeMap<MailboxId, u32>,
    /// The mod-sequence of the last commit.
    mod_sequence: u64,
}

async fn live_through(store: &EmbeddedStore, resident: &Resident) -> Numbering {
    let account = &resident.account;
    // The first two deeds come to an account of INBOX and Sent, nothing subscribed.
    let infos = store.mailboxes(account).await.unwrap();
    let is_more = |info: &&MailboxInfo| !["INBOX", "Sent"].contains(&info.name.as_str());
    let delete = |info: &MailboxInfo| Change::DeleteMailbox { mailbox: info.id.unwrap() };
    let unsubscribe = |info: &MailboxInfo| Change::Subscribe { name: info.name.clone(), subscribed: false };
    let changes = infos.iter().map(unsubscribe).chain(infos.iter().filter(is_more).map(delete));
    commit(store, account, changes.collect()).await;
    let mut validity = BTreeMap::new();
    number_new(store, account, &mut validity).await;
    let deeds = history(&resident.world);
    let mod_sequence = 1 + deeds.len() as u64;
    for deed in deeds.into_iter().skip(2) {
        match deed {
            Deed::Create(name, special_use) => {
                let name = MailboxName::parse(name).unwrap();
                commit(store, account, vec![Change::CreateMailbox { name, special_use }]).await;
                number_new(store, account, &mut validity).await;
            }
            Deed::Delete(name) => {
                let infos = store.mailboxes(account).await.unwrap();
                let mailbox = infos.iter().find(|info| info.name.as_str() == name).unwrap().id.unwrap();
                commit(store, account, vec![Change::DeleteMailbox { mailbox }]).await;
            }
            Deed::Deliver(text, flags) => deliver(store, account, text, flags).await,
        }
    }
    Numbering { validity, mod_sequence }
}

/// Numbers the mailboxes that have come, in the order of their making.
async fn number_new(store: &EmbeddedStore, account: &AccountName, validity: &mut BTreeMap<MailboxId, u32>) {
    let infos = store.mailboxes(account).await.unwrap();
    let mut ids: Vec<MailboxId> = infos.iter().filter_map(|info| info.id).collect();
    ids.sort();
    for id in ids {
        let next = validity.len() as u32 + 1;
        validity.entry(id).or_insert(next);
    }
}

async fn fill_maildrop(store: &EmbeddedStore, resident: &Resident) -> Vec<Mail> {
    let messages = maildrop(&resident.world);
    store.mailboxes(&resident.account).await.unwrap();
    for mail in &messages {
        let lost = "x".repeat(mail.claimed.unwrap_or_default() as usize);
        deliver(store, &resident.account, mail.text.unwrap_or(&lost), Flags::NONE).await;
    }
    messages
}

async fn deliver(store: &EmbeddedStore, account: &AccountName, text: &str, flags: Flags) {
    let mut intake = Intake::verbatim(store).unwrap();
    intake.write(text.as_bytes());
    let staged = intake.finish(b"").unwrap();
    let mailbox = MailboxRef::Named(MailboxName::inbox());
    let append =
        Change::Append { mailbox, body: staged.body.id, flags: FlagSet::system(flags), internal_date: DELIVERED };
    commit(store, account, vec![append]).await;
}

async fn commit(store: &EmbeddedStore, account: &AccountName, changes: Vec<Change>) {
    let group = Group { account: account.clone(), changes, quota: Quota::default() };
    let commit = Commit { groups: vec![group], together: true, ..Commit::default() };
    assert!(store.commit(commit).await.unwrap()[0].is_ok(), "{account}");
}

/// The index of a store: to be read at any time, to be changed while no server has the store.
fn open_tables(folder: &Path) -> Connection {
    Connection::open(folder.join("meta.db")).unwrap()
}

fn number_mailboxes(tables: &Connection, resident: &Resident, numbering: &Numbering) {
    let name = resident.account.as_str();
    let (account, last): (i64, i64) = tables
        .query_row("SELECT id, modseq FROM account WHERE name = ?1", [name], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    // Every deed is one commit here as there, so that all mod-sequences are off by the same.
    let offset = last - numbering.mod_sequence as i64;
    for (mailbox, validity) in &numbering.validity {
        // The first two deeds made INBOX and Sent.
        let made = if *validity <= 2 { i64::from(*validity) + 1 } else { 0 };
        tables
            .execute(
                "UPDATE mailbox SET uid_validity = ?2, modseq = max(modseq - ?3, ?4) WHERE id = ?1",
                (mailbox.0, validity, offset, made),
            )
            .unwrap();
        tables.execute("UPDATE message SET modseq = modseq - ?2 WHERE mailbox = ?1", (mailbox.0, offset)).unwrap();
    }
    tables
        .execute(
            "UPDATE account SET modseq = modseq - ?2, uid_validity = ?3 WHERE id = ?1",
            (account, offset, numbering.validity.len()),
        )
        .unwrap();
}

fn number_maildrop(tables: &Connection, resident: &Resident, messages: &[Mail]) {
    let inbox: u64 = tables
        .query_row(
            "SELECT mailbox.id FROM mailbox JOIN account ON account.id = mailbox.account
             WHERE account.name = ?1 AND mailbox.name = 'INBOX'",
            [resident.account.as_str()],
            |row| row.get(0),
        )
        .unwrap();
    // UIDs only rise by this: the last is moved first, so that none is in the way.
    for (index, mail) in messages.iter().enumerate().rev() {
        tables
            .execute(
                "UPDATE message SET uid = ?3, size = coalesce(?4, size) WHERE mailbox = ?1 AND uid = ?2",
                (inbox, index as u32 + 1, mail.uid, mail.claimed),
            )
            .unwrap();
    }
    tables
        .execute("UPDATE mailbox SET uid_validity = ?2, uid_next = ?3 WHERE id = ?1", (inbox, UID_VALIDITY, UID_NEXT))
        .unwrap();
}

/// Writes over the octets of a message in INBOX, so that they cannot be read.
pub fn damage(folder: &Path, account: &AccountName, uid: u32) {
    let (segment, offset, stored): (u32, u64, usize) = open_tables(folder)
        .query_row(
            "SELECT blob.segment, blob.offset, blob.stored FROM blob
             JOIN message ON message.blob = blob.id JOIN mailbox ON mailbox.id = message.mailbox
             JOIN account ON account.id = mailbox.account
             WHERE account.name = ?1 AND mailbox.name = 'INBOX' AND message.uid = ?2",
            (account.as_str(), uid),
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    let path = folder.join(format!("segments/{segment:08}.seg"));
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0xff; stored], offset).unwrap();
}
