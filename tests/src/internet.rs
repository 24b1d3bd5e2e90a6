//! A small internet on loopback, for tests of sending: DNS that is signed from the root down, a resolver that validates
//! it, hosts with addresses of their own, and an authority for their certificates.
//!
//! Every [`Internet`] has a network of its own in 127.0.0.0/8, so all its hosts may use the same port, and tests with
//! an internet each run side by side. Nothing needs root, except the real MTAs in [`real`].
//!
//! ```no_run
//! # use peers::internet::{Internet, certificate::Leaf, script::Script, zone::Zone};
//! # fn example() -> anyhow::Result<()> {
//! let internet = Internet::start()?;
//! let certificate = internet.authority().issue(&Leaf::of("mx.far.example"))?;
//! let mta = internet.mta(Script::smtp().certificate(&certificate))?;
//! internet.set_zone(
//!     Zone::secure("far.example")
//!         .mx(10, "mx.far.example")
//!         .a("mx.far.example", Internet::v4(&mta))
//!         .tlsa("mx.far.example", &certificate.tlsa(3, 1, 1)),
//! )?;
//! // … a server under test, told of `resolver`, `smtp_port` and `ca_file`, sends …
//! assert_eq!(mta.wait_for_messages(1)?[0].recipients[0].address, "you@far.example");
//! # Ok(()) }
//! ```

pub mod certificate;
pub(crate) mod daemon;
mod grammar;
mod listener;
pub mod mta;
mod nameserver;
pub mod policy;
pub mod real;
mod resolver;
pub mod script;
mod session;
mod signing;
pub mod tls;
pub mod zone;

use anyhow::{Context, ensure};
use certificate::Authority;
use listener::lock;
use mta::ScriptedMta;
use nameserver::Nameserver;
use policy::{Page, PolicyHost};
use resolver::{Places, Resolver};
use script::Script;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;
use zone::{Kind, Zone};

/// The zone of names of loopback addresses.
const REVERSE: &str = "127.in-addr.arpa";
/// Ports of the first internet on a network; others are tried where another program has them on every address.
const DNS_PORT: u16 = 5_300;
const SMTP_PORT: u16 = 2_600;
const HTTPS_PORT: u16 = 4_430;
/// How many networks are tried.
const NETWORKS_TRIED: u32 = 200;
/// The first host's number in its network; lower ones are for DNS.
const FIRST_HOST: u8 = 10;
/// Connections that fill the queue of a host that takes none.
const FILLING: usize = 4;

/// The simulated internet; everything in it ends when it is dropped.
pub struct Internet {
    network: Network,
    hosts: AtomicU8,
    authority: Authority,
    resolver: Mutex<Resolver>,
    nameserver: Mutex<Nameserver>,
    black_holes: Mutex<Vec<(TcpListener, Vec<TcpStream>)>>,
    // Last, because the others have files in it.
    folder: tempfile::TempDir,
}

/// The addresses and ports of one internet.
struct Network {
    start: [u8; 3],
    shift: u16,
    /// Held so that no other internet takes the same network.
    _claim: TcpListener,
}

impl Network {
    /// A network that no other internet has, of this process or another.
    fn claim() -> anyhow::Result<Network> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..NETWORKS_TRIED {
            let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(31));
            // Networks from 127.64.0 to 127.191.255: far from addresses that people and distributions use.
            let [_, _, high, low] = number.to_be_bytes();
            let (start, shift) = ([127, 64 + high % 128, low], (number % 7) as u16 * 10);
            let at = |host, port| SocketAddrV4::new(Ipv4Addr::new(start[0], start[1], start[2], host), port + shift);
            let Ok(claim) = TcpListener::bind(at(254, DNS_PORT)) else { continue };
            let tcp = [at(1, DNS_PORT), at(2, DNS_PORT), at(FIRST_HOST, SMTP_PORT), at(FIRST_HOST, HTTPS_PORT)];
            let udp = [at(1, DNS_PORT), at(2, DNS_PORT), at(3, DNS_PORT)];
            let free = tcp.iter().all(|address| TcpListener::bind(address).is_ok())
                && udp.iter().all(|address| UdpSocket::bind(address).is_ok());
            if free {
                return Ok(Network { start, shift, _claim: claim });
            }
        }
        anyhow::bail!("no free network among {NETWORKS_TRIED}")
    }

    fn host(&self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.start;
        Ipv4Addr::new(a, b, c, number)
    }

    fn dns(&self, number: u8) -> SocketAddrV4 {
        SocketAddrV4::new(self.host(number), DNS_PORT + self.shift)
    }
}

impl Internet {
    /// Starts one in which no name exists yet, except those of the name server.
    pub fn start() -> anyhow::Result<Internet> {
        // The real MTAs run as users of their own, who must be able to reach their files.
        let folder = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir()?;
        let network = Network::claim()?;
        let smtp_port = SMTP_PORT + network.shift;
        let mut nameserver = Nameserver::start(&folder.path().join("dns"), network.dns(1), smtp_port)?;
        let key = nameserver.root_key()?;
        std::fs::write(folder.path().join("anchor"), format!(". IN DNSKEY {}\n", key.public))?;
        std::fs::write(folder.path().join("anchor-ds"), format!(". IN DS {}\n", key.digest))?;
        let places = Places { own: network.dns(2), authority: network.dns(1), silence: network.dns(3) };
        let resolver = Resolver::start(&folder.path().join("resolver"), &places, &folder.path().join("anchor"))?;
        let authority = Authority::new("The simulated authority")?;
        std::fs::write(folder.path().join("ca.pem"), authority.pem())?;
        let internet = Internet {
            network,
            hosts: AtomicU8::new(FIRST_HOST),
            authority,
            resolver: Mutex::new(resolver),
            nameserver: Mutex::new(nameserver),
            black_holes: Mutex::new(Vec::new()),
            folder,
        };
        internet.set_zone(Zone::secure(REVERSE))?;
        Ok(internet)
    }

    /// The resolver that validates; it may be asked over UDP and TCP.
    pub fn resolver(&self) -> SocketAddrV4 {
        self.network.dns(2)
    }

    /// The authoritative server of all zones.
    pub fn nameserver(&self) -> SocketAddrV4 {
        self.network.dns(1)
    }

    /// A file with the root's key, as a DNSKEY record.
    pub fn trust_anchor(&self) -> PathBuf {
        self.folder.path().join("anchor")
    }

    /// A file with the digest of the root's key, as a DS record.
    pub fn trust_anchor_ds(&self) -> PathBuf {
        self.folder.path().join("anchor-ds")
    }

    /// The port that stands for port 25 at every host.
    pub fn smtp_port(&self) -> u16 {
        SMTP_PORT + self.network.shift
    }

    /// The port that stands for port 443 at every host.
    pub fn https_port(&self) -> u16 {
        HTTPS_PORT + self.network.shift
    }

    /// The authority that everybody is told to trust.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A file with its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A path in a folder that goes when the internet does.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An address that no host has yet. While nobody listens there, connections are refused.
    pub fn address(&self) -> Ipv4Addr {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed);
        assert!((FIRST_HOST..250).contains(&number), "an internet has 240 hosts");
        self.network.host(number)
    }

    /// A new host with a scripted MTA on [`Internet::smtp_port`].
    pub fn mta(&self, script: Script) -> anyhow::Result<ScriptedMta> {
        self.mta_at(self.address(), script)
    }

    /// The same at a given address.
    pub fn mta_at(&self, address: Ipv4Addr, script: Script) -> anyhow::Result<ScriptedMta> {
        ScriptedMta::start(SocketAddrV4::new(address, self.smtp_port()), script)
    }

    /// The address of an MTA, for its zone.
    pub fn v4(mta: &ScriptedMta) -> Ipv4Addr {
        *mta.address().ip()
    }

    /// A new host with a page on [`Internet::https_port`].
    pub fn policy_host(&self, page: Page) -> anyhow::Result<PolicyHost> {
        PolicyHost::start(SocketAddrV4::new(self.address(), self.https_port()), page)
    }

    /// A new host that answers no attempt to connect to [`Internet::smtp_port`]: neither yes nor no.
    pub fn black_hole(&self) -> anyhow::Result<Ipv4Addr> {
        let address = self.address();
        let socket = TcpListener::bind((address, self.smtp_port()))?;
        // A queue of one, which is full: the system drops what comes then.
        nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(0)?)?;
        let place = socket.local_addr()?;
        let connect = || TcpStream::connect_timeout(&place, Duration::from_millis(100));
        let filling: Vec<TcpStream> = (0..FILLING).map_while(|_| connect().ok()).collect();
        ensure!(filling.len() < FILLING, "the queue does not fill");
        lock(&self.black_holes).push((socket, filling));
        Ok(address)
    }

    /// Puts a zone in the place of one with the same name. When it returns, every answer is the new one.
    pub fn set_zone(&self, zone: Zone) -> anyhow::Result<()> {
        self.set_zones([zone])
    }

    /// The same for several zones at once.
    pub fn set_zones(&self, zones: impl IntoIterator<Item = Zone>) -> anyhow::Result<()> {
        let mut nameserver = lock(&self.nameserver);
        nameserver.set(zones.into_iter().collect())?;
        self.forget(&nameserver)
    }

    /// Takes a zone away.
    pub fn remove_zone(&self, name: &str) -> anyhow::Result<()> {
        let mut nameserver = lock(&self.nameserver);
        nameserver.remove(&zone::bare(name))?;
        self.forget(&nameserver)
    }

    /// Names an address, in a secure zone.
    pub fn set_reverse(&self, address: Ipv4Addr, name: &str) -> anyhow::Result<()> {
        let reverse =
            lock(&self.nameserver).zones().get(REVERSE).cloned().context("the reverse zone was taken away")?;
        self.set_zone(reverse.ptr(address, name))
    }

    fn forget(&self, nameserver: &Nameserver) -> anyhow::Result<()> {
        let silent = nameserver.zones().values().filter(|zone| zone.kind == Kind::Silent);
        let silent: BTreeSet<String> = silent.map(|zone| zone.name.clone()).collect();
        lock(&self.resolver).forget(silent)
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
