//! R41, P29: what is deleted frees the disk, and the account of it adds up.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn r41_many_messages_share_a_file_and_a_copy_takes_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let account = account("a@example.net");
    for n in 0..100 {
        deliver(&store, &account, &noise(1_000, n)).await.unwrap();
    }
    assert!(std::fs::read_dir(folder.path().join("segments")).unwrap().count() <= 2);
    deliver(&store, &account, &noise(2_000_000, 7)).await.unwrap();
    let before = segment_octets(folder.path());
    let from = inbox_id(&store, &account).await;
    for _ in 0..5 {
        let copy = Change::Copy { from, uids: [Uid(101)].into_iter().collect(), to: MailboxRef::Id(from) };
        commit(&store, &account, vec![copy]).await.unwrap();
    }
    assert_eq!(segment_octets(folder.path()), before);
    assert_eq!(store.usage(&account).await.unwrap().octets, 100_000 + 6 * 2_000_000);
    // As long as one copy is left, the octets are.
    expunge(&store, &account, 101..106).await;
    assert_eq!(store.reclaim().await.unwrap().blobs, 0);
    let last = *inbox(&store, &account).await.by_uid(Uid(106)).unwrap();
    assert!(octets(&store, &last).await.unwrap() == noise(2_000_000, 7));
    expunge(&store, &account, [106]).await;
    let reclaimed = store.reclaim().await.unwrap();
    assert_eq!((reclaimed.blobs, reclaimed.segments), (1, 1));
    assert!(segment_octets(folder.path()) < 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn p29_mostly_dead_segments_are_rewritten_while_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let account = account("a@example.net");
    // Some five segments of 500,000 octets.
    for n in 0..500 {
        deliver(&store, &account, &noise(5_000, n)).await.unwrap();
    }
    let space = store.space().await.unwrap();
    assert_eq!(space.live_octets + space.dead_octets, segment_octets(folder.path()));
    let (reader, reader_account) = (store.clone(), account.clone());
    expunge(&store, &account, (1..=500).filter(|uid| uid % 4 != 0)).await;
    let reading = tokio::spawn(async move {
        for _ in 0..10 {
            let picture = inbox(&reader, &reader_account).await;
            for message in picture.iter() {
                assert!(octets(&reader, message).await.unwrap() == noise(5_000, u64::from(message.uid.0) - 1));
            }
        }
    });
    let reclaimed = store.reclaim().await.unwrap();
    assert!(reclaimed.blobs == 375 && reclaimed.segments >= 4 && reclaimed.octets > 1_200_000, "{reclaimed:?}");
    reading.await.unwrap();
    let after = store.space().await.unwrap();
    assert_eq!(after.live_octets + after.dead_octets, segment_octets(folder.path()));
    assert!(after.live_octets > 600_000 && after.dead_octets < 600_000, "{after:?}");
    assert_eq!(store.reclaim().await.unwrap().segments, 0);
    store.close().await.unwrap();
    drop(store);
    assert!(check(folder.path()).is_clean());
    let store = open(folder.path());
    for message in inbox(&store, &account).await.iter() {
        assert!(octets(&store, message).await.unwrap() == noise(5_000, u64::from(message.uid.0) - 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p29_deleted_mailboxes_and_accounts_free_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let [gone, stays] = [account("gone@example.net"), account("stays@example.net")];
    for n in 0..1_200 {
        deliver(&store, &gone, &noise(400, n)).await.unwrap();
    }
    deliver(&store, &stays, &noise(400, 1)).await.unwrap();
    store.remove_account(&gone).await.unwrap();
    let reclaimed = store.reclaim().await.unwrap();
    assert_eq!((reclaimed.messages, reclaimed.blobs), (1_200, 1_200));
    store.close().await.unwrap();
    let report = check(folder.path());
    assert!(report.is_clean() && report.records == 1, "{report:?}");
    // The segment that was growing is rewritten once another one grows.
    let store = EmbeddedStore::open(Options { segment_octets_max: 1, ..options(folder.path()) }).unwrap();
    deliver(&store, &stays, &noise(400, 2)).await.unwrap();
    store.reclaim().await.unwrap();
    assert!(segment_octets(folder.path()) < 2_000);
    // Numbers of what is gone do not come back.
    let mailbox = inbox_id(&store, &stays).await;
    store.close().await.unwrap();
    let store = open(folder.path());
    store.remove_account(&stays).await.unwrap();
    store.reclaim().await.unwrap();
    store.close().await.unwrap();
    let store = open(folder.path());
    assert!(inbox_id(&store, &stays).await > mailbox);
    assert!(inbox(&store, &stays).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_octets_stay_for_those_who_still_look() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let account = account("a@example.net");
    deliver(&store, &account, b"still readable").await.unwrap();
    let message = *inbox(&store, &account).await.get(0).unwrap();
    expunge(&store, &account, [1]).await;
    assert_eq!(octets(&store, &message).await.unwrap(), b"still readable");
    assert_eq!(store.reclaim().await.unwrap().blobs, 1);
    assert!(matches!(octets(&store, &message).await, Err(StoreError::NoSuchBlob)));
}
