//! The rules, one by one. Each uses accounts of its own.

use super::*;
use crate::StoreError;
use mail::{FlagEdit, Keyword, MailboxInfo, ModSeq, SpecialUse, UidValidity, Usage};

pub async fn accounts_begin_with_their_mailboxes(store: &dyn MailStore) {
    let account = account("begin@example.net");
    assert_eq!(store.usage(&account).await.unwrap(), Usage::default());
    assert!(!store.accounts().await.unwrap().contains(&account));
    let list = store.mailboxes(&account).await.unwrap();
    let names: Vec<&str> = list.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]);
    assert!(list.iter().all(|info| info.subscribed && info.id.is_some() && info.uid_validity.0 > 0));
    let role = |name: &str| list.iter().find(|info| info.name.as_str() == name).unwrap().special_use;
    assert_eq!((role("Sent"), role("INBOX")), (Some(SpecialUse::Sent), None));
    assert!(store.accounts().await.unwrap().contains(&account));
    // A delivery makes an account too.
    let other = super::account("begin-by-mail@example.net");
    assert_eq!(deliver(store, &other, "INBOX", b"hello").await, Uid(1));
    assert_eq!(store.mailboxes(&other).await.unwrap().len(), 6);
    assert_eq!(store.usage(&other).await.unwrap(), Usage { octets: 5, messages: 1 });
}

pub async fn mailboxes_are_made_renamed_and_deleted(store: &dyn MailStore) {
    let account = account("names@example.net");
    let create = |text: &str| Change::CreateMailbox { name: name(text), special_use: None };
    let rename = |mailbox, text: &str| Change::RenameMailbox { mailbox, name: name(text) };
    done(store, &account, create("a/b/c")).await;
    let [a, b, c] =
        [id_of(store, &account, "a").await, id_of(store, &account, "a/b").await, id_of(store, &account, "a/b/c").await];
    assert_eq!(refused(store, &account, create("a/b")).await, ChangeError::MailboxExists);
    assert_eq!(refused(store, &account, create("inbox")).await, ChangeError::MailboxExists);
    deliver(store, &account, "a/b/c", b"one").await;
    // Inferiors go along, identities stay, missing superiors are made.
    done(store, &account, rename(a, "x/y")).await;
    assert_eq!(id(store, &account, "a").await, None);
    assert_eq!(id(store, &account, "x/y").await, Some(a));
    assert_eq!(id(store, &account, "x/y/b").await, Some(b));
    assert_eq!(id(store, &account, "x/y/b/c").await, Some(c));
    assert_eq!(store.snapshot(&account, c).await.unwrap().len(), 1);
    // Below itself.
    done(store, &account, rename(b, "x/y/b/b")).await;
    assert_eq!(id(store, &account, "x/y/b/b/c").await, Some(c));
    assert_ne!(id(store, &account, "x/y/b").await, Some(b));
    // Names swapped within one group.
    let d = match done(store, &account, create("d")).await {
        Outcome::Created { mailbox, .. } => mailbox,
        other => panic!("{other:?}"),
    };
    let e = match done(store, &account, create("e")).await {
        Outcome::Created { mailbox, .. } => mailbox,
        other => panic!("{other:?}"),
    };
    group(store, &account, vec![rename(d, "f"), rename(e, "d"), rename(d, "e")]).await.unwrap();
    assert_eq!((id(store, &account, "d").await, id(store, &account, "e").await), (Some(e), Some(d)));
    let inbox = id_of(store, &account, "INBOX").await;
    assert_eq!(refused(store, &account, rename(inbox, "old")).await, ChangeError::Inbox);
    assert_eq!(refused(store, &account, rename(d, "INBOX")).await, ChangeError::MailboxExists);
    assert_eq!(refused(store, &account, rename(MailboxId(1 << 40), "z")).await, ChangeError::NoSuchMailbox);
    let deep = format!("{}q", "q/".repeat(29));
    assert_eq!(refused(store, &account, rename(a, &deep)).await, ChangeError::TooManyMailboxes);
    // Deleting leaves inferiors, and the level above them is listed without a mailbox.
    let x = id_of(store, &account, "x").await;
    let delete = |mailbox| Change::DeleteMailbox { mailbox };
    done(store, &account, delete(x)).await;
    assert!(matches!(store.snapshot(&account, x).await, Err(StoreError::NoSuchMailbox)));
    let list = store.mailboxes(&account).await.unwrap();
    let level = list.iter().find(|info| info.name.as_str() == "x").unwrap();
    assert_eq!((level.id, level.subscribed), (None, false));
    assert!(list.is_sorted_by(|one, other| one.name < other.name));
    assert_eq!(refused(store, &account, delete(x)).await, ChangeError::NoSuchMailbox);
    assert_eq!(refused(store, &account, delete(inbox)).await, ChangeError::Inbox);
    let before = store.usage(&account).await.unwrap();
    done(store, &account, delete(c)).await;
    assert_eq!((before.messages, store.usage(&account).await.unwrap()), (1, Usage::default()));
    subscriptions(store, &account).await;
}

async fn subscriptions(store: &dyn MailStore, account: &AccountName) {
    let subscribe = |text: &str, subscribed| Change::Subscribe { name: name(text), subscribed };
    done(store, account, subscribe("nowhere/at all", true)).await;
    done(store, account, subscribe("Sent", false)).await;
    done(store, account, subscribe("Sent", false)).await;
    let list = store.mailboxes(account).await.unwrap();
    let line = |text: &str| -> MailboxInfo { list.iter().find(|info| info.name.as_str() == text).unwrap().clone() };
    assert_eq!((line("nowhere/at all").id, line("nowhere/at all").subscribed), (None, true));
    assert!(line("Sent").id.is_some() && !line("Sent").subscribed);
}

pub async fn uid_validity_never_comes_back(store: &dyn MailStore) {
    let account = account("validity@example.net");
    let mut seen = std::collections::BTreeSet::new();
    let mut last = UidValidity(0);
    for info in store.mailboxes(&account).await.unwrap().iter() {
        assert!(seen.insert(info.id));
        last = last.max(info.uid_validity);
    }
    for _ in 0..5 {
        let create = Change::CreateMailbox { name: name("again"), special_use: Some(SpecialUse::Archive) };
        let Outcome::Created { mailbox, uid_validity } = done(store, &account, create).await else { panic!() };
        assert!(uid_validity > last && seen.insert(Some(mailbox)));
        last = uid_validity;
        done(store, &account, Change::DeleteMailbox { mailbox }).await;
    }
    store.remove_account(&account).await.unwrap();
    for info in store.mailboxes(&account).await.unwrap().iter() {
        assert!(info.uid_validity > last && seen.insert(info.id));
    }
}

pub async fn messages_keep_what_they_came_with(store: &dyn MailStore) {
    let account = account("append@example.net");
    let keywords = vec![Keyword::parse("$Forwarded").unwrap(), Keyword::parse("later").unwrap()];
    let flags = FlagSet { flags: Flags::SEEN.union(Flags::DRAFT), keywords };
    let internal_date = InternalDate { unix_seconds: -5, zone_minutes: -330 };
    let staged = stage(store, b"text", b"pre");
    let change = Change::Append { mailbox: named("Drafts"), body: staged.id, flags, internal_date };
    let Outcome::Appended { uid, uid_validity } = done(store, &account, change).await else { panic!() };
    let drafts = id_of(store, &account, "Drafts").await;
    let picture = store.snapshot(&account, drafts).await.unwrap();
    assert_eq!((picture.mailbox, picture.uid_validity, picture.uid_next), (drafts, uid_validity, Uid(uid.0 + 1)));
    let message = *picture.by_uid(uid).unwrap();
    assert_eq!(message.flags, Flags::SEEN.union(Flags::DRAFT));
    assert_eq!((message.size_octets, message.internal_date), (7, internal_date));
    assert_eq!(message.mod_sequence, picture.mod_sequence);
    let names: Vec<&str> = picture.keywords_of(&message).map(Keyword::as_str).collect();
    assert_eq!(names, ["$Forwarded", "later"]);
    assert_eq!(whole(store, message.blob).await, b"pretext");
    assert_eq!(store.digests(vec![message.blob]).await.unwrap()[0].as_ref().unwrap(), &digest_of(b"text"));
    // Case of keywords does not matter, and one more than a mailbox knows is refused.
    let set = |keyword: String| Change::StoreFlags {
        mailbox: drafts,
        uids: uids([uid.0]),
        edit: FlagEdit::Add,
        flags: FlagSet { flags: Flags::NONE, keywords: vec![Keyword::parse(&keyword).unwrap()] },
        unchanged_since: None,
    };
    done(store, &account, set("LATER".into())).await;
    assert_eq!(store.snapshot(&account, drafts).await.unwrap().keywords.len(), 2);
    for n in 2..64 {
        done(store, &account, set(format!("k{n}"))).await;
    }
    assert_eq!(refused(store, &account, set("one-more".into())).await, ChangeError::TooManyKeywords);
    let picture = store.snapshot(&account, drafts).await.unwrap();
    assert_eq!(picture.by_uid(uid).unwrap().keywords, u64::MAX);
}

pub async fn flags_are_edited(store: &dyn MailStore) {
    let account = account("flags@example.net");
    for n in 0..5 {
        deliver(store, &account, "INBOX", &[b'x'; 10][..n]).await;
    }
    let inbox = id_of(store, &account, "INBOX").await;
    let edit = |edit, flags, set, unchanged_since| Change::StoreFlags {
        mailbox: inbox,
        uids: uids(set),
        edit,
        flags: FlagSet::system(flags),
        unchanged_since,
    };
    let before = store.snapshot(&account, inbox).await.unwrap();
    let outcome = done(store, &account, edit(FlagEdit::Add, Flags::SEEN, vec![1, 3, 9], None)).await;
    let Outcome::Flagged { stored, modified, mod_sequence } = outcome else { panic!() };
    assert_eq!((stored, modified), (uids([1, 3]), uids([])));
    let after = store.snapshot(&account, inbox).await.unwrap();
    assert!(mod_sequence > before.mod_sequence);
    assert_eq!(after.mod_sequence, mod_sequence);
    assert_eq!(after.since(&before).changed, [Uid(1), Uid(3)]);
    assert_eq!(after.unseen(), 3);
    // RFC 7162 §3.1.3: what changed since is left alone.
    let since = Some(before.mod_sequence);
    let outcome = done(store, &account, edit(FlagEdit::Replace, Flags::FLAGGED, vec![1, 2], since)).await;
    let Outcome::Flagged { stored, modified, mod_sequence: second } = outcome else { panic!() };
    assert_eq!((stored, modified), (uids([2]), uids([1])));
    assert!(second > mod_sequence);
    // Nothing changes: told as stored, but no new mod-sequence.
    let outcome = done(store, &account, edit(FlagEdit::Add, Flags::FLAGGED, vec![2], None)).await;
    let Outcome::Flagged { stored, .. } = outcome else { panic!() };
    assert_eq!(stored, uids([2]));
    let picture = store.snapshot(&account, inbox).await.unwrap();
    assert_eq!(picture.by_uid(Uid(2)).unwrap().mod_sequence, second);
    done(store, &account, edit(FlagEdit::Remove, Flags::FLAGGED, vec![2], None)).await;
    done(store, &account, edit(FlagEdit::Add, Flags::DELETED, vec![2, 3, 4], None)).await;
    let expunge = |set, only_deleted| Change::Expunge { mailbox: inbox, uids: uids(set), only_deleted };
    let outcome = done(store, &account, expunge(vec![1, 2, 4, 77], true)).await;
    assert_eq!(outcome, Outcome::Expunged { uids: vec![Uid(2), Uid(4)] });
    let outcome = done(store, &account, expunge(vec![1, 2], false)).await;
    assert_eq!(outcome, Outcome::Expunged { uids: vec![Uid(1)] });
    // No UID comes back.
    assert_eq!(deliver(store, &account, "INBOX", b"next").await, Uid(6));
    assert_eq!(store.usage(&account).await.unwrap(), Usage { octets: 2 + 4 + 4, messages: 3 });
}

pub async fn copies_and_moves_keep_flags(store: &dyn MailStore) {
    let account = account("copies@example.net");
    for octets in [&b"one"[..], b"two", b"three"] {
        deliver(store, &account, "INBOX", octets).await;
    }
    let [inbox, archive] = [id_of(store, &account, "INBOX").await, id_of(store, &account, "Archive").await];
    let keyword = |mailbox, uid, keyword: &str| Change::StoreFlags {
        mailbox,
        uids: uids([uid]),
        edit: FlagEdit::Add,
        flags: FlagSet { flags: Flags::SEEN, keywords: vec![Keyword::parse(keyword).unwrap()] },
        unchanged_since: None,
    };
    done(store, &account, keyword(inbox, 2, "red")).await;
    done(store, &account, keyword(inbox, 3, "blue")).await;
    let before = store.snapshot(&account, inbox).await.unwrap();
    let copy = Change::Copy { from: inbox, uids: uids([1, 3, 8]), to: named("Archive") };
    let Outcome::Copied { uids: pairs, .. } = done(store, &account, copy).await else { panic!() };
    assert_eq!(pairs, [(Uid(1), Uid(1)), (Uid(3), Uid(2))]);
    let shift = Change::Move { from: inbox, uids: uids([2, 3]), to: MailboxRef::Id(archive) };
    let Outcome::Copied { uids: pairs, .. } = done(store, &account, shift).await else { panic!() };
    assert_eq!(pairs, [(Uid(2), Uid(3)), (Uid(3), Uid(4))]);
    let (left, there) =
        (store.snapshot(&account, inbox).await.unwrap(), store.snapshot(&account, archive).await.unwrap());
    assert_eq!(left.since(&before).expunged, [Uid(2), Uid(3)]);
    let keywords = |uid| -> Vec<String> {
        let message = there.by_uid(Uid(uid)).unwrap();
        there.keywords_of(message).map(|keyword| keyword.as_str().to_owned()).collect()
    };
    assert_eq!((keywords(1), keywords(2), keywords(3)), (vec![], vec!["blue".into()], vec!["red".into()]));
    assert!(there.by_uid(Uid(3)).unwrap().flags.contains(Flags::SEEN));
    assert_eq!(whole(store, there.by_uid(Uid(2)).unwrap().blob).await, b"three");
    assert_eq!(store.usage(&account).await.unwrap(), Usage { octets: 3 + 3 + 5 + 3 + 5, messages: 5 });
    // Onto itself: new UIDs, nothing lost.
    let onto = Change::Move { from: archive, uids: uids([1, 2]), to: named("Archive") };
    let Outcome::Copied { uids: pairs, .. } = done(store, &account, onto).await else { panic!() };
    assert_eq!(pairs, [(Uid(1), Uid(5)), (Uid(2), Uid(6))]);
    let present: Vec<u32> = store.snapshot(&account, archive).await.unwrap().iter().map(|m| m.uid.0).collect();
    assert_eq!(present, [3, 4, 5, 6]);
    // A group sees its own changes: made, filled, copied and emptied at once.
    let staged = stage(store, b"four", b"");
    let outcomes = group(
        store,
        &account,
        vec![
            Change::CreateMailbox { name: name("new"), special_use: None },
            append("new", staged.id),
            append("new", staged.id),
            Change::Copy { from: archive, uids: uids([4]), to: named("new") },
        ],
    )
    .await
    .unwrap();
    assert_eq!(outcomes.len(), 4);
    let new = id_of(store, &account, "new").await;
    let picture = store.snapshot(&account, new).await.unwrap();
    assert_eq!((picture.len(), picture.keywords.len()), (3, 1));
    assert_eq!(picture.get(0).unwrap().blob, picture.get(1).unwrap().blob);
    let nothing = Change::Copy { from: new, uids: uids([99]), to: named("INBOX") };
    assert!(matches!(done(store, &account, nothing).await, Outcome::Copied { uids, .. } if uids.is_empty()));
    let missing = Change::Move { from: new, uids: uids([1]), to: named("no such") };
    assert_eq!(refused(store, &account, missing).await, ChangeError::NoSuchMailbox);
}

pub async fn quota_counts_the_group(store: &dyn MailStore) {
    let account = account("quota@example.net");
    let quota = Quota { octets_max: Some(100), messages_max: Some(6), grace_octets: 10 };
    let deliver = async |count: usize, octets: usize| {
        let bodies: Vec<StagedBody> = (0..count).map(|_| stage(store, &vec![b'x'; octets], b"")).collect();
        let changes = bodies.iter().map(|body| append("INBOX", body.id)).collect();
        commit(store, vec![Group { account: account.clone(), changes, quota }]).await.remove(0)
    };
    let over = Err(ChangeError::OverQuota);
    assert!(deliver(2, 45).await.is_ok());
    assert_eq!(deliver(2, 11).await, over);
    assert_eq!(deliver(1, 21).await, over);
    assert!(deliver(2, 10).await.is_ok());
    assert_eq!(store.usage(&account).await.unwrap(), Usage { octets: 110, messages: 4 });
    assert_eq!(deliver(1, 0).await, over);
    // Expunging makes room at once, also within one group.
    let inbox = id_of(store, &account, "INBOX").await;
    let one = stage(store, b"1234567890", b"");
    let changes = vec![
        Change::Expunge { mailbox: inbox, uids: uids([1]), only_deleted: false },
        Change::Copy { from: inbox, uids: uids([3, 4]), to: named("Sent") },
        append("Sent", one.id),
    ];
    assert!(commit(store, vec![Group { account: account.clone(), changes, quota }]).await.remove(0).is_ok());
    assert_eq!(store.usage(&account).await.unwrap(), Usage { octets: 95, messages: 6 });
    assert_eq!(deliver(1, 1).await, over);
    // A move needs no room.
    let changes = vec![Change::Move { from: inbox, uids: uids([2]), to: named("Trash") }];
    assert!(commit(store, vec![Group { account: account.clone(), changes, quota }]).await.remove(0).is_ok());
    let (before, after) = store.recalculate(&account).await.unwrap();
    assert_eq!((before, after), (Usage { octets: 95, messages: 6 }, Usage { octets: 95, messages: 6 }));
}

pub async fn groups_are_refused_alone_or_together(store: &dyn MailStore) {
    let [good, full] = [account("good@example.net"), account("full@example.net")];
    let staged = stage(store, b"to both", b"");
    let tight = Quota { octets_max: Some(1), ..Quota::default() };
    let groups = |body| {
        [(good.clone(), Quota::default()), (full.clone(), tight)].map(|(account, quota)| {
            let create = Change::CreateMailbox { name: name("made"), special_use: None };
            Group { account, changes: vec![create, append("INBOX", body)], quota }
        })
    };
    let together = Commit { groups: groups(staged.id).to_vec(), together: true, ..Commit::default() };
    let answers = store.commit(together).await.unwrap();
    assert_eq!(answers, [Err(ChangeError::NotApplied), Err(ChangeError::OverQuota)]);
    assert_eq!(id(store, &good, "made").await, None);
    assert_eq!(store.usage(&good).await.unwrap(), Usage::default());
    let answers = commit(store, groups(staged.id).to_vec()).await;
    assert!(answers[0].is_ok());
    assert_eq!(answers[1], Err(ChangeError::OverQuota));
    assert_eq!(id(store, &full, "made").await, None);
    assert_eq!(store.usage(&good).await.unwrap(), Usage { octets: 7, messages: 1 });
    // The same account twice.
    let again = stage(store, b"again", b"");
    let mut groups = groups(again.id).map(|group| Group { account: good.clone(), ..group });
    groups[0].changes.remove(0);
    let answers = store.commit(Commit { groups: groups.to_vec(), together: true, ..Commit::default() }).await.unwrap();
    assert_eq!(answers, [Err(ChangeError::NotApplied), Err(ChangeError::MailboxExists)]);
    assert_eq!(store.usage(&good).await.unwrap(), Usage { octets: 7, messages: 1 });
    groups[1].changes.clear();
    let answers = store.commit(Commit { groups: groups.to_vec(), together: true, ..Commit::default() }).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(store.usage(&good).await.unwrap(), Usage { octets: 12, messages: 2 });
}

pub async fn bodies_are_taken_once(store: &dyn MailStore) {
    let [first, second] = [account("taken1@example.net"), account("taken2@example.net")];
    let staged = stage(store, b"one body", b"");
    let no_mailbox = refused(store, &first, append("nowhere", staged.id)).await;
    assert_eq!(no_mailbox, ChangeError::NoSuchMailbox);
    let quota = Quota::default();
    let groups = [&first, &second].map(|account| Group {
        account: account.clone(),
        changes: vec![append("INBOX", staged.id)],
        quota,
    });
    assert!(commit(store, groups.to_vec()).await.iter().all(Result::is_ok));
    assert_eq!(refused(store, &first, append("INBOX", staged.id)).await, ChangeError::NoSuchBody);
    let blob_of = async |account: &AccountName| {
        let inbox = id_of(store, account, "INBOX").await;
        store.snapshot(account, inbox).await.unwrap().get(0).unwrap().blob
    };
    assert_eq!(blob_of(&first).await, blob_of(&second).await);
    let dropped = stage(store, b"dropped", b"").id;
    assert_eq!(refused(store, &first, append("INBOX", dropped)).await, ChangeError::NoSuchBody);
    // A commit holds its bodies from the call on, whoever drops them meanwhile.
    let held = stage(store, b"held", b"");
    let group = Group { account: first.clone(), changes: vec![append("INBOX", held.id)], quota };
    let commit = store.commit(Commit { groups: vec![group], together: false, ..Commit::default() });
    drop(held);
    assert!(commit.await.unwrap()[0].is_ok());
}

pub async fn octets_come_back_as_they_were(store: &dyn MailStore) {
    let account = account("octets@example.net");
    let mut random = Random(3);
    const BLOCK: usize = 64 * 1024;
    for (body, prefix) in [(0, 0), (1, 0), (0, 9), (4_000, 100), (BLOCK, 1), (BLOCK - 1, 1), (3 * BLOCK + 5, BLOCK + 1)]
        .into_iter()
        .chain([(700_000, 300), (5_000_000, 1_000)])
    {
        let (body, prefix) = (random.octets(body), random.octets(prefix));
        let staged = stage(store, &body, &prefix);
        let expected = [&prefix[..], &body[..]].concat();
        let Outcome::Appended { uid, .. } = done(store, &account, append("INBOX", staged.id)).await else { panic!() };
        drop(staged);
        let inbox = id_of(store, &account, "INBOX").await;
        let blob = store.snapshot(&account, inbox).await.unwrap().by_uid(uid).unwrap().blob;
        assert!(whole(store, blob).await == expected);
        let end = expected.len();
        let starts = [0, 1, prefix.len(), prefix.len() + BLOCK, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, end / 2, end];
        let mut ranges = Vec::new();
        for start in starts {
            for octets in [0, 1, BLOCK - 1, BLOCK + 1, end] {
                ranges.push(BodyRange { blob, start: start as u64, octets: octets as u64 });
            }
        }
        let answers = store.read(ranges.clone()).await.unwrap();
        assert_eq!(answers.len(), ranges.len());
        for (range, answer) in ranges.iter().zip(answers) {
            let start = (range.start as usize).min(end);
            let stop = (start + range.octets as usize).min(end);
            assert!(answer.unwrap() == expected[start..stop], "{range:?}");
        }
    }
    let missing = BodyRange { blob: mail::BlobId(1 << 50), start: 0, octets: 1 };
    assert!(matches!(store.read(vec![missing]).await.unwrap()[0], Err(StoreError::NoSuchBlob)));
    assert!(matches!(store.digests(vec![missing.blob]).await.unwrap()[0], Err(StoreError::NoSuchBlob)));
}

pub async fn watches_wake(store: &dyn MailStore) {
    let watched = account("watched@example.net");
    let mut watch = store.watch(&watched);
    deliver(store, &watched, "INBOX", b"x").await;
    // When the answer is here, the wake may still be on its way; the picture is not.
    watch.changed().await;
    let inbox = id_of(store, &watched, "INBOX").await;
    assert_eq!(store.snapshot(&watched, inbox).await.unwrap().len(), 1);
    let told: ModSeq = *watch.0.borrow();
    deliver(store, &watched, "INBOX", b"y").await;
    watch.changed().await;
    assert!(*watch.0.borrow() > told);
    let mut late = store.watch(&watched);
    done(store, &watched, Change::Subscribe { name: name("x"), subscribed: true }).await;
    late.changed().await;
}

pub async fn recent_is_told_once(store: &dyn MailStore) {
    let account = account("recent@example.net");
    deliver(store, &account, "INBOX", b"x").await;
    let inbox = id_of(store, &account, "INBOX").await;
    assert_eq!(store.claim_recent(&account, inbox).await.unwrap(), Uid(1));
    assert_eq!(store.claim_recent(&account, inbox).await.unwrap(), Uid(2));
    deliver(store, &account, "INBOX", b"x").await;
    assert_eq!(store.claim_recent(&account, inbox).await.unwrap(), Uid(2));
    let nowhere = store.claim_recent(&account, MailboxId(1 << 40)).await;
    assert!(matches!(nowhere, Err(StoreError::NoSuchMailbox)));
}

pub async fn removed_accounts_are_gone(store: &dyn MailStore) {
    let [gone, stays] = [account("gone@example.net"), account("stays@example.net")];
    let staged = stage(store, b"shared", b"");
    let quota = Quota::default();
    let groups = [&gone, &stays].map(|account| Group {
        account: account.clone(),
        changes: vec![append("INBOX", staged.id)],
        quota,
    });
    commit(store, groups.to_vec()).await;
    let inbox = id_of(store, &gone, "INBOX").await;
    assert_eq!(store.snapshot(&gone, inbox).await.unwrap().len(), 1);
    assert!(matches!(store.snapshot(&stays, inbox).await, Err(StoreError::NoSuchMailbox)));
    store.remove_account(&gone).await.unwrap();
    store.remove_account(&gone).await.unwrap();
    assert!(matches!(store.snapshot(&gone, inbox).await, Err(StoreError::NoSuchMailbox)));
    assert_eq!(store.usage(&gone).await.unwrap(), Usage::default());
    assert!(!store.accounts().await.unwrap().contains(&gone));
    let kept = id_of(store, &stays, "INBOX").await;
    let blob = store.snapshot(&stays, kept).await.unwrap().get(0).unwrap().blob;
    assert_eq!(whole(store, blob).await, b"shared");
    // Made anew, it is empty.
    assert_eq!(deliver(store, &gone, "INBOX", b"new").await, Uid(1));
    assert_eq!(store.usage(&gone).await.unwrap(), Usage { octets: 3, messages: 1 });
}

pub async fn closed_stores_say_so(store: &dyn MailStore) {
    let account = account("begin@example.net");
    assert!(matches!(store.stage(), Err(StoreError::Closed)));
    assert!(matches!(store.commit(Commit::default()).await, Err(StoreError::Closed)));
    assert!(matches!(store.mailboxes(&account).await, Err(StoreError::Closed)));
    assert!(matches!(store.snapshot(&account, MailboxId(1)).await, Err(StoreError::Closed)));
    assert!(matches!(store.usage(&account).await, Err(StoreError::Closed)));
    assert!(matches!(store.accounts().await, Err(StoreError::Closed)));
    let range = BodyRange { blob: mail::BlobId(1), start: 0, octets: 1 };
    assert!(matches!(store.read(vec![range]).await, Err(StoreError::Closed)));
    store.close().await.unwrap();
}
