//! The driver: every kind of step, every way to wait, every way to end.

use crate::toy::{IDLE_MAX, Peer, Toy, ToyDesk, nobody, server_tls};
use net::{Connection, DriveEnd, ServerTls, Shutdown, ShutdownSwitch, drive};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

struct Scene {
    peer: Peer<DuplexStream>,
    desk: ToyDesk,
    switch: ShutdownSwitch,
    end: JoinHandle<DriveEnd>,
}

fn scene(machine: Toy, tls: Option<Arc<ServerTls>>) -> Scene {
    let (near, far) = duplex(4_096);
    let desk = ToyDesk::default();
    let (switch, shutdown): (_, Shutdown) = ShutdownSwitch::new();
    let end = tokio::spawn(drive(Connection::over(near, nobody(), tls), machine, desk.clone(), shutdown));
    Scene { peer: Peer::new(far), desk, switch, end }
}

#[tokio::test]
async fn lines_are_answered_however_they_are_split() {
    let Scene { mut peer, end, switch: _switch, .. } = scene(Toy::new(), None);
    assert_eq!(peer.hear().await.unwrap(), "hello");
    assert_eq!(peer.talk("one\n").await, "one");
    peer.say("two\nthree\nfo").await;
    for expected in ["two", "three"] {
        assert_eq!(peer.hear().await.unwrap(), expected);
    }
    for octet in ["u", "r", "\n"] {
        peer.say(octet).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(peer.hear().await.unwrap(), "four");
    assert_eq!(peer.talk("BYE\n").await, "bye");
    assert_eq!(peer.hear().await, None);
    drop(peer);
    assert_eq!(end.await.unwrap(), DriveEnd::Closed);
}

#[tokio::test]
async fn the_desk_gets_bodies_before_the_question_about_them() {
    let Scene { mut peer, switch: _switch, .. } = scene(Toy::new(), None);
    peer.hear().await;
    assert_eq!(peer.talk("BODY abc\nBODY def\nASK what\n").await, "WHAT abcdef");
}

#[tokio::test]
async fn notices_arrive_only_where_they_are_waited_for() {
    let Scene { mut peer, desk, switch: _switch, .. } = scene(Toy::new(), None);
    peer.hear().await;
    desk.changed.notify_one();
    assert_eq!(peer.talk("quiet\n").await, "quiet");
    assert_eq!(peer.talk("WATCH\n").await, "watching");
    // The change from before was kept, since the wait is safe to cancel.
    assert_eq!(peer.hear().await.unwrap(), "notice");
    desk.changed.notify_one();
    assert_eq!(peer.hear().await.unwrap(), "notice");
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_ends_at_its_deadline() {
    let Scene { mut peer, end, switch: _switch, .. } = scene(Toy::new(), None);
    let start = Instant::now();
    peer.hear().await;
    assert_eq!(peer.hear().await.unwrap(), "timeout");
    assert_eq!(start.elapsed().as_secs(), IDLE_MAX.as_secs());
    assert_eq!(peer.hear().await, None);
    assert_eq!(end.await.unwrap(), DriveEnd::Closed);
}

#[tokio::test]
async fn shutdown_is_told_once_and_the_session_says_goodbye() {
    let Scene { mut peer, end, switch, .. } = scene(Toy::new(), None);
    peer.hear().await;
    switch.request();
    assert_eq!(peer.rest().await.unwrap(), "going down\n");
    drop(peer);
    assert_eq!(end.await.unwrap(), DriveEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closed_its_side_still_gets_a_delayed_reply() {
    let Scene { mut peer, end, switch: _switch, .. } = scene(Toy::new(), None);
    peer.hear().await;
    peer.say("LATER\n").await;
    peer.0.shutdown().await.unwrap();
    assert_eq!(peer.hear().await.unwrap(), "later");
    drop(peer);
    // The toy forgets to close after its delayed reply; the driver does not wait for it longer than its own bound.
    let start = Instant::now();
    assert_eq!(end.await.unwrap(), DriveEnd::PeerLost);
    assert!(start.elapsed() <= net::AFTER_INPUT_ENDED_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_never_closes_cannot_keep_a_dead_connection() {
    let Scene { peer, end, switch: _switch, .. } = scene(Toy::stubborn(), None);
    let start = Instant::now();
    drop(peer);
    assert_eq!(end.await.unwrap(), DriveEnd::PeerLost);
    assert!(start.elapsed() <= net::AFTER_INPUT_ENDED_MAX + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_is_dropped_and_a_slow_one_is_not() {
    let Scene { mut peer, end, switch: _switch, .. } = scene(Toy::new(), None);
    peer.hear().await;
    peer.say("FLOOD 40000\n").await;
    // Ten times a buffer, each a little faster than the limit: slow, but progress.
    let mut some = [0; 4_096];
    for _ in 0..8 {
        tokio::time::sleep(net::WRITE_STALL_MAX - Duration::from_secs(1)).await;
        peer.0.read_exact(&mut some).await.unwrap();
        assert!(!end.is_finished());
    }
    let start = Instant::now();
    assert_eq!(end.await.unwrap(), DriveEnd::Stalled);
    assert_eq!(start.elapsed().as_secs(), net::WRITE_STALL_MAX.as_secs());
}

async fn upgrade(scene: &mut Scene) -> Peer<TlsStream<DuplexStream>> {
    assert_eq!(scene.peer.hear().await.unwrap(), "hello");
    assert_eq!(scene.peer.talk("STARTTLS\n").await, "go");
    let (dummy, _) = duplex(1);
    let clear = std::mem::replace(&mut scene.peer, Peer::new(dummy)).0.into_inner();
    let name = "mx.example.net".try_into().unwrap();
    Peer::new(TlsConnector::from(testkit::tls::client()).connect(name, clear).await.unwrap())
}

/// RFC 3207 §4, RFC 8446 §6.1: TLS starts where the machine says so, and ends with close_notify after the last reply.
#[tokio::test]
async fn tls_starts_inside_a_session_and_ends_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = scene(Toy::new(), Some(server_tls(folder.path())));
    let mut peer = upgrade(&mut scene).await;
    assert_eq!(peer.hear().await.unwrap(), "TLSv1.3 TLS_AES_256_GCM_SHA384 256");
    assert_eq!(peer.talk("inside\n").await, "inside");
    let long = "x".repeat(100_000);
    assert_eq!(peer.talk(&format!("{long}\n")).await, long);
    peer.say("BYE\n").await;
    assert_eq!(peer.rest().await.unwrap(), "bye\n", "an end without close_notify would be an error");
    drop(peer);
    assert_eq!(scene.end.await.unwrap(), DriveEnd::Closed);
}

/// V3: what an attacker puts in clear behind STARTTLS is never run: with the command it is thrown away, after it the
/// handshake fails.
#[tokio::test]
async fn clear_text_after_starttls_is_never_run() {
    let folder = tempfile::tempdir().unwrap();
    let tls = server_tls(folder.path());
    let Scene { mut peer, end, desk, switch: _switch } = scene(Toy::new(), Some(tls));
    peer.hear().await;
    peer.say("STARTTLS\nBODY injected\n").await;
    assert_eq!(peer.hear().await.unwrap(), "go");
    peer.say("BODY injected\nBODY injected\n").await;
    assert_eq!(end.await.unwrap(), DriveEnd::HandshakeFailed);
    assert!(desk.body.lock().unwrap().is_empty());
}

/// V6: close_notify, and any octets in clear behind it, end the session; nothing is taken outside TLS again.
#[tokio::test]
async fn clear_text_after_tls_is_never_run() {
    let folder = tempfile::tempdir().unwrap();
    let tls = server_tls(folder.path());
    for notify in [true, false] {
        let mut scene = scene(Toy::new(), Some(Arc::clone(&tls)));
        let mut peer = upgrade(&mut scene).await;
        peer.hear().await;
        assert_eq!(peer.talk("inside\n").await, "inside");
        let (mut clear, mut session) = peer.0.into_inner().into_inner();
        if notify {
            let mut alert = Vec::new();
            session.send_close_notify();
            session.write_tls(&mut alert).unwrap();
            clear.write_all(&alert).await.unwrap();
        }
        clear.write_all(b"BODY in clear\nBODY in clear\n").await.unwrap();
        let mut rest = Vec::new();
        clear.read_to_end(&mut rest).await.unwrap();
        drop(clear);
        assert_eq!(scene.end.await.unwrap(), DriveEnd::Closed, "notify {notify}");
        assert!(scene.desk.body.lock().unwrap().is_empty());
    }
}

/// V6: a TLS stream cut off without close_notify is the end of the input.
#[tokio::test]
async fn a_truncated_tls_stream_is_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = scene(Toy::new(), Some(server_tls(folder.path())));
    let mut peer = upgrade(&mut scene).await;
    peer.hear().await;
    peer.say("BODY half a li").await;
    drop(peer.0.into_inner().into_inner().0);
    assert_eq!(scene.end.await.unwrap(), DriveEnd::Closed);
    assert!(scene.desk.body.lock().unwrap().is_empty());
}

#[tokio::test]
async fn starttls_without_certificates_ends_the_session() {
    let Scene { mut peer, end, switch: _switch, .. } = scene(Toy::new(), None);
    peer.hear().await;
    peer.say("STARTTLS\n").await;
    assert_eq!(end.await.unwrap(), DriveEnd::HandshakeFailed);
}

/// A session's future is part of what an idle connection costs.
#[test]
fn the_driver_itself_is_small() {
    let (near, _far) = duplex(1);
    let (_switch, shutdown) = ShutdownSwitch::new();
    let (machine, desk) = (Toy::new(), ToyDesk::default());
    let carried = size_of_val(&machine) + size_of_val(&desk) + size_of::<Connection>();
    let driven = size_of_val(&drive(Connection::over(near, nobody(), None), machine, desk, shutdown));
    assert!(driven < carried + 1_024, "{driven} octets to carry {carried}");
}
