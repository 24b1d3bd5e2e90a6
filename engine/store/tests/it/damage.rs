//! P7: damage is noticed, told, confined and repaired.

use super::*;
use mail::{Event, Happening, QueueChange, QueueId, QueueState, QueuedEnvelope, QueuedRecipient, UnixMillis};
use rusqlite::Connection;

async fn filled(folder: &Path) -> AccountName {
    let account = account("a@example.net");
    let store = open(folder);
    for n in 0..20 {
        deliver(&store, &account, &noise(3_000, n)).await.unwrap();
    }
    expunge(&store, &account, [4, 5]).await;
    store.close().await.unwrap();
    account
}

fn flip(folder: &Path, offset: usize) {
    let path = folder.join("segments/00000001.seg");
    let mut octets = std::fs::read(&path).unwrap();
    octets[offset] ^= 4;
    std::fs::write(path, octets).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_told_and_harms_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let account = filled(folder.path()).await;
    flip(folder.path(), 3_000 * 9);
    let store = open(folder.path());
    let mut damaged = Vec::new();
    for message in inbox(&store, &account).await.iter() {
        match octets(&store, message).await {
            Ok(octets) => assert!(octets == noise(3_000, u64::from(message.uid.0) - 1)),
            Err(StoreError::Damaged(_)) => damaged.push(message.uid.0),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(damaged.len(), 1);
    let mut steps = 0;
    let report = store.verify(|_| {}).await.unwrap();
    assert_eq!((report.lost_count, report.lost[0].uid), (1, damaged[0]));
    assert_eq!(report.lost[0].mailbox, "INBOX");
    store.close().await.unwrap();
    let report = fsck(folder.path(), true, &mut |_| steps += 1).unwrap();
    assert!(report.repaired && report.lost_count == 1 && report.records == 20 && steps > 0, "{report:?}");
    assert!(check(folder.path()).is_clean());
    // To clients it is expunged: gone under a new mod-sequence, its UID not used again.
    let store = open(folder.path());
    let picture = inbox(&store, &account).await;
    assert!(picture.by_uid(Uid(damaged[0])).is_none() && picture.len() == 17);
    assert!(picture.iter().all(|message| message.mod_sequence < picture.mod_sequence));
    assert_eq!(store.usage(&account).await.unwrap().messages, 17);
    assert_eq!(deliver(&store, &account, b"next").await.unwrap(), Uid(21));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_segment_is_told_and_new_mail_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let account = filled(folder.path()).await;
    std::fs::remove_file(folder.path().join("segments/00000001.seg")).unwrap();
    let store = open(folder.path());
    let first = *inbox(&store, &account).await.get(0).unwrap();
    assert!(matches!(octets(&store, &first).await, Err(StoreError::Damaged(_))));
    assert_eq!(deliver(&store, &account, b"next").await.unwrap(), Uid(21));
    store.close().await.unwrap();
    let report = fsck(folder.path(), true, &mut |_| {}).unwrap();
    assert_eq!(report.lost_count, 18);
    assert!(check(folder.path()).is_clean());
    let store = open(folder.path());
    assert_eq!(inbox(&store, &account).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_counters_are_found_and_set_right() {
    let folder = tempfile::tempdir().unwrap();
    let account = filled(folder.path()).await;
    let damages = [
        "UPDATE account SET octets = 7",
        "UPDATE account SET messages = messages + 1",
        "UPDATE account SET modseq = 1",
        "UPDATE account SET uid_validity = 1",
        "UPDATE mailbox SET messages = 99 WHERE name = 'INBOX'",
        "UPDATE mailbox SET octets = octets - 1 WHERE name = 'INBOX'",
        "UPDATE mailbox SET uid_next = 3 WHERE name = 'INBOX'",
        "UPDATE mailbox SET modseq = 1 WHERE name = 'INBOX'",
        "UPDATE message SET size = 1 WHERE uid = 7",
        "INSERT INTO message SELECT 4711, uid, flags, keywords, modseq, size, date, zone, blob FROM message",
        "UPDATE blob SET refs = 5 WHERE id = 3",
        "UPDATE blob SET refs = 0 WHERE id = 3",
        "UPDATE segment SET live = 1",
        "UPDATE segment SET octets = 10",
        "DELETE FROM segment",
        "DELETE FROM dead",
        "INSERT INTO dead VALUES (1, 0)",
    ];
    for damage in damages {
        let database = Connection::open(folder.path().join("meta.db")).unwrap();
        assert!(database.execute(damage, []).unwrap() > 0, "{damage}");
        drop(database);
        assert!(!check(folder.path()).contradictions.is_empty(), "{damage}");
        let report = fsck(folder.path(), true, &mut |_| {}).unwrap();
        assert!(report.repaired && report.lost_count == 0, "{damage}: {report:?}");
        let again = check(folder.path());
        assert!(again.is_clean(), "{damage}: {again:?}");
    }
    let store = open(folder.path());
    let usage = store.usage(&account).await.unwrap();
    assert_eq!((usage.messages, usage.octets), (18, 18 * 3_000));
    assert_eq!(inbox(&store, &account).await.len(), 18);
}

/// R84.
#[tokio::test(flavor = "multi_thread")]
async fn r84_a_wrong_usage_is_counted_anew() {
    let folder = tempfile::tempdir().unwrap();
    let account = filled(folder.path()).await;
    let database = Connection::open(folder.path().join("meta.db")).unwrap();
    database.execute_batch("UPDATE account SET octets = 1; UPDATE mailbox SET messages = 1").unwrap();
    drop(database);
    let store = open(folder.path());
    let (before, after) = store.recalculate(&account).await.unwrap();
    assert_eq!((before.octets, after.octets, after.messages), (1, 18 * 3_000, 18));
    assert_eq!(store.usage(&account).await.unwrap(), after);
    store.close().await.unwrap();
    assert!(check(folder.path()).is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_database_is_told() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let path = folder.path().join("meta.db");
    let mut octets = std::fs::read(&path).unwrap();
    for octet in octets.iter_mut().skip(4_096 * 3).step_by(97) {
        *octet ^= 0x55;
    }
    std::fs::write(&path, octets).unwrap();
    match fsck(folder.path(), true, &mut |_| {}) {
        Ok(report) => assert!(!report.database.is_empty() && !report.repaired && !report.is_clean()),
        Err(error) => assert!(error.to_string().contains("meta.db"), "{error}"),
    }
}

/// A store with one message in its queue, for two recipients; gives its name.
async fn queued(folder: &Path) -> QueueId {
    let store = open(folder);
    let mut writer = store.stage().unwrap();
    writer.write(b"out\r\n").unwrap();
    let body = writer.finish(b"", b"digest".to_vec()).unwrap();
    let id = QueueId(1_000_001);
    let envelope = Box::new(QueuedEnvelope {
        id,
        arrived: UnixMillis(1_000),
        reverse_path: mail::ReversePath::Null,
        account: None,
        eight_bit: false,
        smtputf8: false,
        require_tls: mail::RequireTls::Ordinary,
        dsn_return: None,
        envelope_id: None,
    });
    let recipient = |number| QueuedRecipient {
        number,
        recipient: mail::Recipient::new(mail::Address::parse(&format!("x{number}@y.example")).unwrap()),
        via: None,
        state: QueueState::Waiting(UnixMillis(5)),
        attempts: 0,
        delay_reported: false,
        last: None,
    };
    let begun = Event { at: UnixMillis(7), recipient: None, what: Happening::Queued };
    let queue = vec![
        QueueChange::Begin { message: id, discarded: 0, events: vec![begun] },
        QueueChange::Enqueue { envelope, body: body.id, recipients: vec![recipient(0), recipient(1)] },
    ];
    store.commit(Commit { queue, ..Commit::default() }).await.unwrap();
    drop(body);
    store.close().await.unwrap();
    id
}

/// A queued message without octets cannot be sent: it leaves the queue, is counted as thrown away, and its story says
/// why (P1, P7).
#[tokio::test(flavor = "multi_thread")]
async fn a_queued_message_without_octets_leaves_the_queue_and_its_story_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let id = queued(folder.path()).await;
    std::fs::remove_file(folder.path().join("segments/00000001.seg")).unwrap();
    let report = fsck(folder.path(), true, &mut |_| {}).unwrap();
    assert!(report.repaired, "{report:?}");
    assert!(check(folder.path()).is_clean());
    let store = open(folder.path());
    assert!(store.queued(id).await.unwrap().is_none());
    let story = store.story(id).await.unwrap().unwrap();
    let ledger = story.ledger.unwrap();
    assert_eq!((ledger.accepted, ledger.discarded), (2, 2));
    let last = &story.events.last().unwrap();
    assert!(matches!(&last.what, Happening::Discarded { by } if by.contains("fsck")), "{last:?}");
    assert!(last.at > UnixMillis(1_700_000_000_000));
}

/// Whatever is missing of a queued message, its recipients are accounted for afterwards, and the story tells of it (P1, P7).
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_queue_without_each_other_are_found_and_set_right() {
    let damages = [
        ("DELETE FROM ledger", "lines in the ledger is 0, should be 1", 2),
        ("DELETE FROM queued", "recipients without a message is 2, should be 0", 0),
        ("DELETE FROM queued_recipient", "number of recipients is 0, should be 1", 0),
        ("UPDATE ledger SET accepted = 7", "number of accepted recipients is 7, should be 2", 2),
        ("DELETE FROM ledger; DELETE FROM queued", "recipients without a message is 2, should be 0", 0),
        ("DELETE FROM ledger; DELETE FROM queued_recipient", "lines in the ledger is 0, should be 1", 0),
    ];
    for (damage, line, waiting) in damages {
        let folder = tempfile::tempdir().unwrap();
        let id = queued(folder.path()).await;
        Connection::open(folder.path().join("meta.db")).unwrap().execute_batch(damage).unwrap();
        let report = fsck(folder.path(), true, &mut |_| {}).unwrap();
        assert!(report.contradictions.iter().any(|found| found.ends_with(line)), "{damage}: {report:?}");
        assert!(report.repaired);
        let again = check(folder.path());
        assert!(again.is_clean(), "{damage}: {again:?}");
        let store = open(folder.path());
        let audit = store.audit().await.unwrap();
        assert!(audit.total.is_balanced() && audit.unbalanced.is_empty(), "{damage}: {audit:?}");
        let story = store.story(id).await.unwrap().unwrap();
        assert!(!story.events.is_empty(), "{damage}");
        assert_eq!(story.ledger.map(|ledger| ledger.waiting), Some(waiting), "{damage}");
        let left = store.queued(id).await.unwrap().map_or(0, |message| message.recipients.len() as u64);
        assert_eq!(left, waiting, "{damage}");
        if damage.ends_with("DELETE FROM queued") {
            let ends = story.events.iter().filter(|event| matches!(event.what, Happening::Discarded { .. }));
            let whose: Vec<_> = ends.map(|event| event.recipient.as_deref()).collect();
            assert_eq!(whose, [Some("x0@y.example"), Some("x1@y.example")], "{damage}");
        }
    }
}
