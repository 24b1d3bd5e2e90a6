//! Listeners over loopback: limits, PROXY headers, panics, shutdown, no descriptors left.

use crate::toy::{Peer, Toy, ToyDesk, server_tls};
use net::{Connection, Desk, Gate, Limits, Listen, ListenTls, Listener, Networks, Place, ShutdownSwitch, drive, serve};
use nix::sys::resource::{Resource, setrlimit};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

struct House {
    address: SocketAddr,
    gate: Gate,
    switch: ShutdownSwitch,
    seen: Arc<Mutex<Vec<mail::PeerFacts>>>,
    served: JoinHandle<std::io::Result<()>>,
}

fn listen() -> Listen {
    Listen {
        name: "toy".to_owned(),
        place: Place::Tcp("127.0.0.1:0".parse().unwrap()),
        tls: ListenTls::None,
        proxies: Networks::default(),
        busy_reply: b"421 too many\n".to_vec(),
    }
}

fn open(listen: Listen, limits: Limits) -> House {
    let listener = Listener::bind(listen).unwrap();
    let address = listener.local_address().unwrap_or_else(|| "0.0.0.0:0".parse().unwrap());
    let gate = Gate::new(limits);
    let (switch, shutdown) = ShutdownSwitch::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let session = {
        let (seen, shutdown) = (Arc::clone(&seen), shutdown.clone());
        move |connection: Connection| {
            seen.lock().unwrap().push(connection.facts().clone());
            drive(connection, Toy::new(), ToyDesk::default(), shutdown.clone())
        }
    };
    let served = tokio::spawn(serve(listener, gate.clone(), shutdown, session));
    House { address, gate, switch, seen, served }
}

async fn call(house: &House) -> Peer<TcpStream> {
    Peer::new(TcpStream::connect(house.address).await.unwrap())
}

#[tokio::test]
async fn sessions_end_politely_at_shutdown() {
    let house = open(listen(), Limits::default());
    let mut peer = call(&house).await;
    assert_eq!(peer.hear().await.unwrap(), "hello");
    assert_eq!(peer.talk("one\n").await, "one");
    assert_eq!(house.seen.lock().unwrap()[0].peer, Some(peer.0.get_ref().local_addr().unwrap()));
    assert_eq!(house.seen.lock().unwrap()[0].local, Some(house.address));
    house.switch.request();
    assert_eq!(peer.rest().await.unwrap(), "going down\n");
    drop(peer);
    house.served.await.unwrap().unwrap();
    assert_eq!(house.gate.connections(), 0);
    assert!(TcpStream::connect(house.address).await.is_err());
}

#[tokio::test]
async fn a_session_that_does_not_end_is_dropped_after_the_grace() {
    let house = open(listen(), Limits { shutdown_grace: Duration::ZERO, ..Limits::default() });
    let mut peer = call(&house).await;
    peer.hear().await;
    house.switch.request();
    house.served.await.unwrap().unwrap();
    assert_eq!(house.gate.connections(), 0);
}

#[tokio::test]
async fn too_many_connections_are_told_so() {
    let house = open(listen(), Limits { per_address_max: 1, ..Limits::default() });
    let mut first = call(&house).await;
    assert_eq!(first.hear().await.unwrap(), "hello");
    let mut second = call(&house).await;
    assert_eq!(second.hear().await.unwrap(), "421 too many");
    assert_eq!(second.hear().await, None);
    first.say("BYE\n").await;
    assert_eq!(first.rest().await.unwrap(), "bye\n");
    drop(first);
    while house.gate.connections() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(call(&house).await.hear().await.unwrap(), "hello");
}

/// V28: a panic ends one session, not the listener and not its neighbours.
#[tokio::test]
async fn a_panic_ends_one_session_only() {
    let house = open(listen(), Limits::default());
    let mut neighbour = call(&house).await;
    neighbour.hear().await;
    let mut peer = call(&house).await;
    peer.hear().await;
    peer.say("PANIC\n").await;
    assert_eq!(peer.hear().await, None);
    assert_eq!(neighbour.talk("still here\n").await, "still here");
    assert_eq!(call(&house).await.hear().await.unwrap(), "hello");
}

#[tokio::test]
async fn a_listed_proxy_names_the_real_peer() {
    let listed = Listen { proxies: "127.0.0.0/8".parse().unwrap(), ..listen() };
    let house = open(listed, Limits { per_address_max: 1, ..Limits::default() });
    let mut peers = Vec::new();
    for peer in ["192.0.2.1", "192.0.2.2"] {
        let mut proxy = call(&house).await;
        assert_eq!(proxy.talk(&format!("PROXY TCP4 {peer} 198.51.100.7 4711 25\r\nfirst\n")).await, "hello");
        assert_eq!(proxy.hear().await.unwrap(), "first", "octets behind the header belong to the session");
        peers.push(proxy);
    }
    let seen: Vec<_> = house.seen.lock().unwrap().iter().map(|facts| facts.peer.unwrap().to_string()).collect();
    assert_eq!(seen, ["192.0.2.1:4711", "192.0.2.2:4711"]);
    assert_eq!(house.seen.lock().unwrap()[0].local, Some("198.51.100.7:25".parse().unwrap()));
    // The limit per address holds for the peer behind the proxy.
    let mut third = call(&house).await;
    third.say("PROXY TCP4 192.0.2.1 198.51.100.7 4712 25\r\n").await;
    assert_eq!(third.hear().await, None);
    // Without a header a listed proxy gets nothing at all.
    let mut rude = call(&house).await;
    rude.say("EHLO client.example\r\n").await;
    assert!(rude.rest().await.unwrap_or_default().is_empty());
}

/// A header from anybody else is just octets of the protocol.
#[tokio::test]
async fn an_unlisted_peer_is_not_believed() {
    let house = open(Listen { proxies: "203.0.113.0/24".parse().unwrap(), ..listen() }, Limits::default());
    let mut peer = call(&house).await;
    assert_eq!(peer.hear().await.unwrap(), "hello");
    let header = "PROXY TCP4 192.0.2.1 198.51.100.7 4711 25";
    assert_eq!(peer.talk(&format!("{header}\r\n")).await, header);
    assert!(house.seen.lock().unwrap()[0].peer.unwrap().ip().is_loopback());
}

#[tokio::test]
async fn implicit_tls_comes_before_the_greeting() {
    let folder = tempfile::tempdir().unwrap();
    let house = open(Listen { tls: ListenTls::Implicit(server_tls(folder.path())), ..listen() }, Limits::default());
    let mut clear = call(&house).await;
    clear.say("EHLO in clear\r\n").await;
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut clear.0, &mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("hello"));
    let stream = TcpStream::connect(house.address).await.unwrap();
    let name = "mx.example.net".try_into().unwrap();
    let mut peer = Peer::new(TlsConnector::from(testkit::tls::client()).connect(name, stream).await.unwrap());
    assert_eq!(peer.hear().await.unwrap(), "hello");
    peer.say("BYE\n").await;
    assert_eq!(peer.rest().await.unwrap(), "bye\n");
    let seen = house.seen.lock().unwrap();
    assert_eq!(seen.len(), 1, "no session before TLS");
    assert_eq!(seen[0].tls.as_ref().unwrap().server_name.as_deref(), Some("mx.example.net"));
}

#[tokio::test]
async fn unix_sockets_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lmtp");
    let place = Place::Unix { path: path.clone(), mode: 0o600, owner: None };
    let house = open(Listen { place, ..listen() }, Limits { per_address_max: 0, ..Limits::default() });
    let mut peer = Peer::new(UnixStream::connect(path).await.unwrap());
    assert_eq!(peer.hear().await.unwrap(), "hello");
    assert_eq!(house.seen.lock().unwrap()[0].peer, None);
}

/// Takes every descriptor the process may have, or gives them back.
#[derive(Default)]
struct HogDesk(Vec<File>);

impl Desk for HogDesk {
    type Question = String;
    type Answer = String;

    async fn answer(&mut self, question: String) -> String {
        self.0.clear();
        if question == "hog" {
            self.0.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
        }
        format!("{question} done")
    }

    async fn body(&mut self, _: Vec<u8>) {}

    async fn notice(&mut self) {
        std::future::pending().await
    }
}

/// V57: with no descriptor left, existing sessions live, and waiting peers are served once there is one again. The
/// limit belongs to the whole process, so a child has it.
#[test]
fn a_listener_survives_the_end_of_descriptors() {
    if std::env::var_os(CHILD).is_some() {
        serve_with_few_descriptors();
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "serve::a_listener_survives_the_end_of_descriptors", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = said.find_map(|line| Some(line.split_once("listening on ")?.1.to_owned())).unwrap();
    let connect = || BufReader::new(std::net::TcpStream::connect(&address).unwrap());
    let hear = |peer: &mut BufReader<std::net::TcpStream>| {
        let mut line = String::new();
        peer.read_line(&mut line).unwrap();
        line
    };
    let mut first = connect();
    assert_eq!(hear(&mut first), "hello\n");
    first.get_mut().write_all(b"ASK hog\n").unwrap();
    assert_eq!(hear(&mut first), "hog done\n");
    let mut waiting = connect();
    waiting.get_mut().set_nonblocking(true).unwrap();
    for _ in 0..100 {
        first.get_mut().write_all(b"still here\n").unwrap();
        assert_eq!(hear(&mut first), "still here\n");
    }
    assert_eq!(waiting.read(&mut [0; 16]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    waiting.get_mut().set_nonblocking(false).unwrap();
    first.get_mut().write_all(b"ASK free\n").unwrap();
    assert_eq!(hear(&mut first), "free done\n");
    assert_eq!(hear(&mut waiting), "hello\n");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

fn serve_with_few_descriptors() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = Listener::bind(listen()).unwrap();
    println!("listening on {}", listener.local_address().unwrap());
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let (_switch, shutdown) = ShutdownSwitch::new();
    let session = {
        let shutdown = shutdown.clone();
        move |connection| drive(connection, Toy::new(), HogDesk::default(), shutdown.clone())
    };
    runtime.spawn(serve(listener, Gate::new(Limits::default()), shutdown, session));
    // The parent closes our input when it has seen enough.
    let parent_gone = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    runtime.block_on(async {
        while !parent_gone.is_finished() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

const CHILD: &str = "NET_TEST_FEW_DESCRIPTORS";
