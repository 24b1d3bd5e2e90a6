//! Several sessions at the same mailboxes at once (V61, P27): nothing is lost, nothing is there twice, nothing that is
//! gone can be seen, and the quota is what the messages add up to (V62).

use super::*;
use mail::{BlobId, FlagEdit};
use std::collections::BTreeSet;

const SESSIONS: u64 = 6;
const STEPS: u64 = 60;
const MESSAGES: u32 = 120;
const MAILBOXES: [&str; 3] = ["INBOX", "Archive", "Trash"];

pub async fn many_at_once(store: Arc<dyn MailStore>) {
    let account = account("busy@example.net");
    let mut blobs = BTreeSet::new();
    for n in 0..MESSAGES {
        deliver(&*store, &account, "INBOX", &n.to_le_bytes()).await;
    }
    let inbox = id_of(&*store, &account, "INBOX").await;
    blobs.extend(store.snapshot(&account, inbox).await.expect("exists").iter().map(|message| message.blob));
    let session = |n| tokio::spawn(one_session(store.clone(), account.clone(), Random(n * 7 + 1)));
    let sessions: Vec<_> = (0..SESSIONS).map(session).collect();
    let mut gone = BTreeSet::new();
    for session in sessions {
        for blob in session.await.expect("no rule is broken") {
            assert!(gone.insert(blob), "one message was expunged twice");
        }
    }
    let mut left = BTreeSet::new();
    let mut octets = 0;
    for mailbox in MAILBOXES {
        let mailbox = id_of(&*store, &account, mailbox).await;
        for message in store.snapshot(&account, mailbox).await.expect("exists").iter() {
            assert!(left.insert(message.blob), "one message is there twice");
            octets += u64::from(message.size_octets);
            let number = whole(&*store, message.blob).await;
            assert_eq!(number.len(), 4);
        }
    }
    assert!(left.is_disjoint(&gone));
    left.extend(&gone);
    assert_eq!(left, blobs);
    let usage = store.usage(&account).await.expect("counts");
    assert_eq!((usage.octets, usage.messages), (octets, u64::from(MESSAGES) - gone.len() as u64), "V62");
}

/// Moves, flags and expunges what it sees. Gives what it expunged.
async fn one_session(store: Arc<dyn MailStore>, account: AccountName, mut random: Random) -> Vec<BlobId> {
    let mut gone = Vec::new();
    for _ in 0..STEPS {
        let (from, to) = (*random.pick(&MAILBOXES), *random.pick(&MAILBOXES));
        let mailbox = id_of(&*store, &account, from).await;
        let seen = store.snapshot(&account, mailbox).await.expect("exists");
        let Some(first) = seen.get(random.below(u64::from(seen.len())) as u32) else { continue };
        // Below the next UID there is only what was seen, whatever the others do.
        let end = (first.uid.0 + 1 + random.below(4) as u32).min(seen.uid_next.0);
        let set = uids(first.uid.0..end);
        match random.below(12) {
            0 => {
                let expunge = Change::Expunge { mailbox, uids: set, only_deleted: true };
                let Outcome::Expunged { uids } = done(&*store, &account, expunge).await else { panic!() };
                gone.extend(uids.iter().map(|uid| seen.by_uid(*uid).expect("seen before").blob));
                let now = store.snapshot(&account, mailbox).await.expect("exists");
                assert!(uids.iter().all(|uid| now.by_uid(*uid).is_none()), "P27: a ghost");
            }
            1..=5 => {
                let flags = FlagSet::system(Flags(random.below(32) as u8));
                let edit = *random.pick(&[FlagEdit::Add, FlagEdit::Remove, FlagEdit::Replace]);
                let change = Change::StoreFlags { mailbox, uids: set, edit, flags, unchanged_since: None };
                done(&*store, &account, change).await;
            }
            _ => {
                let change = Change::Move { from: mailbox, uids: set, to: named(to) };
                let Outcome::Copied { uids, .. } = done(&*store, &account, change).await else { panic!() };
                let target = id_of(&*store, &account, to).await;
                let (there, here) = (
                    store.snapshot(&account, target).await.expect("exists"),
                    store.snapshot(&account, mailbox).await.expect("exists"),
                );
                assert!(uids.iter().all(|(_, new)| there.uid_next > *new), "who hears of a commit sees it");
                assert!(uids.iter().all(|(old, _)| here.by_uid(*old).is_none()), "P27: a ghost");
            }
        }
    }
    gone
}
