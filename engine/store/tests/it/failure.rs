//! A disk that fails and recovers: what was refused left nothing, what comes later is taken.

use super::*;
use rusqlite::Connection;

#[tokio::test(flavor = "multi_thread")]
async fn commits_fail_with_the_disk_and_work_again_with_it() {
    let folder = tempfile::tempdir().unwrap();
    // A new segment is due for every delivery.
    let store = EmbeddedStore::open(Options { segment_octets_max: 1, ..options(folder.path()) }).unwrap();
    let account = account("a@example.net");
    assert_eq!(deliver(&store, &account, b"one").await.unwrap(), Uid(1));
    let (segments, aside) = (folder.path().join("segments"), folder.path().join("aside"));
    std::fs::rename(&segments, &aside).unwrap();
    for _ in 0..3 {
        assert!(matches!(deliver(&store, &account, b"lost").await, Err(StoreError::Disk(_))));
    }
    assert_eq!(inbox(&store, &account).await.len(), 1);
    std::fs::rename(&aside, &segments).unwrap();
    assert_eq!(deliver(&store, &account, b"two").await.unwrap(), Uid(2));
    let picture = inbox(&store, &account).await;
    assert_eq!(octets(&store, picture.get(1).unwrap()).await.unwrap(), b"two");
    store.close().await.unwrap();
    assert!(check(folder.path()).is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let account = account("a@example.net");
    deliver(&store, &account, b"one").await.unwrap();
    let usage = store.usage(&account).await.unwrap();
    let database = Connection::open(folder.path().join("meta.db")).unwrap();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON message BEGIN SELECT RAISE(ABORT, 'the disk is broken'); END";
    database.execute(broken, []).unwrap();
    let mut watch = store.watch(&account);
    // The writer wakes watches after it answers: once it answered again, the wake of the first delivery is over.
    assert!(deliver(&store, &account, b"lost").await.is_err());
    watch.0.borrow_and_update();
    for _ in 0..3 {
        let answer = deliver(&store, &account, &noise(200_000, 3)).await;
        assert!(matches!(&answer, Err(StoreError::Disk(cause)) if cause.contains("the disk is broken")), "{answer:?}");
        assert!(deliver(&store, &account, b"lost").await.is_err());
    }
    assert!(!watch.0.has_changed().unwrap());
    assert_eq!(store.usage(&account).await.unwrap(), usage);
    assert_eq!(inbox(&store, &account).await.len(), 1);
    database.execute("DROP TRIGGER broken", []).unwrap();
    drop(database);
    // The same staged body may be offered again after a failure; here a new one.
    assert_eq!(deliver(&store, &account, b"two").await.unwrap(), Uid(2));
    watch.changed().await;
    store.close().await.unwrap();
    let report = check(folder.path());
    assert!(report.is_clean() && report.orphans.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_survives_a_failed_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let account = account("a@example.net");
    let mut writer = store.stage().unwrap();
    writer.write(&noise(300_000, 1)).unwrap();
    let body = writer.finish(b"prefix", Vec::new()).unwrap();
    let append = || Change::Append {
        mailbox: MailboxRef::Named(MailboxName::inbox()),
        body: body.id,
        flags: FlagSet::default(),
        internal_date: InternalDate::default(),
    };
    let database = Connection::open(folder.path().join("meta.db")).unwrap();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON blob BEGIN SELECT RAISE(ABORT, 'broken'); END";
    database.execute(broken, []).unwrap();
    assert!(commit(&store, &account, vec![append()]).await.is_err());
    database.execute("DROP TRIGGER broken", []).unwrap();
    commit(&store, &account, vec![append()]).await.unwrap();
    drop(body);
    let picture = inbox(&store, &account).await;
    assert_eq!(octets(&store, picture.get(0).unwrap()).await.unwrap().len(), 300_006);
}

/// P44: a long reader, and a stranger who reads the database, do not stop deliveries.
#[tokio::test(flavor = "multi_thread")]
async fn p44_readers_never_lock_the_writer_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let account = account("a@example.net");
    deliver(&store, &account, b"one").await.unwrap();
    let stranger = Connection::open(folder.path().join("meta.db")).unwrap();
    stranger.execute_batch("BEGIN").unwrap();
    let seen = || stranger.query_row("SELECT count(*) FROM message", [], |row| row.get::<_, u32>(0)).unwrap();
    assert_eq!(seen(), 1);
    // Enough for several checkpoints that cannot finish.
    for n in 0..60 {
        let mut writer = store.stage().unwrap();
        writer.write(&n.to_string().into_bytes()).unwrap();
        let body = writer.finish(b"", noise(500_000, n)).unwrap();
        let append = Change::Append {
            mailbox: MailboxRef::Named(MailboxName::inbox()),
            body: body.id,
            flags: FlagSet::default(),
            internal_date: InternalDate::default(),
        };
        commit(&store, &account, vec![append]).await.unwrap();
    }
    assert_eq!(seen(), 1);
    stranger.execute_batch("COMMIT").unwrap();
    assert_eq!(seen(), 61);
    deliver(&store, &account, b"last").await.unwrap();
}
