//! Stores of other versions.

use super::*;
use rusqlite::Connection;

/// The tables as version 1 made them, kept here as a copy that no later edit touches, with one account, one message and
/// its record. There is no released version before it.
const VERSION_1: &str = include_str!("version-1.sql");

fn write_version_1(folder: &Path) {
    std::fs::create_dir_all(folder.join("segments")).unwrap();
    let database = Connection::open(folder.join("meta.db")).unwrap();
    database.execute_batch(VERSION_1).unwrap();
    let record = "504252310100000000000000fbbdbdc207000000000000000300000000000000\
                  4f000000000000001e953560084de987c9ceb0364576e72800000000e87bd7eb\
                  6361620300008003000000f9f68a6a";
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let octets: Vec<u8> = record.as_bytes().chunks(2).map(octet).collect();
    std::fs::write(folder.join("segments/00000001.seg"), octets).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_version_1_opens() {
    let folder = tempfile::tempdir().unwrap();
    write_version_1(folder.path());
    let store = open(folder.path());
    let account = account("old@example.net");
    let picture = inbox(&store, &account).await;
    let message = *picture.get(0).unwrap();
    assert_eq!((message.uid, message.flags, picture.uid_validity.0), (Uid(5), Flags::SEEN, 1_700_000_000));
    assert_eq!(picture.keywords_of(&message).next().unwrap().as_str(), "$Forwarded");
    assert_eq!(octets(&store, &message).await.unwrap(), b"cab");
    assert_eq!(store.claim_recent(&account, picture.mailbox).await.unwrap(), Uid(6));
    assert_eq!(deliver(&store, &account, b"new").await.unwrap(), Uid(6));
    store.close().await.unwrap();
    let report = check(folder.path());
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_store_from_the_future_is_refused_with_a_word_of_advice() {
    let folder = tempfile::tempdir().unwrap();
    write_version_1(folder.path());
    let database = Connection::open(folder.path().join("meta.db")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let error = EmbeddedStore::open(options(folder.path())).err().expect("refused").to_string();
    assert!(error.contains("version 99") && error.contains("newer pillarbox"), "{error}");
    assert!(fsck(folder.path(), true, &mut |_| {}).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn recent_is_remembered_over_an_orderly_close() {
    let folder = tempfile::tempdir().unwrap();
    let account = account("a@example.net");
    let store = open(folder.path());
    deliver(&store, &account, b"x").await.unwrap();
    let mailbox = inbox_id(&store, &account).await;
    assert_eq!(store.claim_recent(&account, mailbox).await.unwrap(), Uid(1));
    store.close().await.unwrap();
    let store = open(folder.path());
    assert_eq!(store.claim_recent(&account, mailbox).await.unwrap(), Uid(2));
}
