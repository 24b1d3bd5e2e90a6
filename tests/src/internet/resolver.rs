//! The validating resolver: an unbound that trusts the simulated root and asks nobody else.

use super::daemon::Daemon;
use crate::peer::Peer;
use std::collections::BTreeSet;
use std::net::{SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The resolver.
pub(crate) struct Resolver {
    configuration: PathBuf,
    /// A socket that nobody reads: the server of zones that never answer.
    silence: UdpSocket,
    silent: BTreeSet<String>,
    _daemon: Daemon,
}

/// Where the resolver is, and what it asks.
pub(crate) struct Places {
    /// Its own address.
    pub(crate) own: SocketAddrV4,
    /// The authority.
    pub(crate) authority: SocketAddrV4,
    /// Where nobody answers.
    pub(crate) silence: SocketAddrV4,
}

impl Resolver {
    /// Starts it in a folder of its own. `anchor` is a file with the root's key.
    pub(crate) fn start(folder: &Path, places: &Places, anchor: &Path) -> anyhow::Result<Resolver> {
        std::fs::create_dir_all(folder)?;
        let configuration = folder.join("unbound.conf");
        std::fs::write(&configuration, settings(folder, places, anchor))?;
        let mut unbound = Command::new("unbound");
        unbound.arg("-d").arg("-c").arg(&configuration);
        let mut daemon = Daemon::start(&mut unbound, &folder.join("unbound.log"))?;
        daemon.wait_until(|| control(&configuration, &["status"]).is_ok())?;
        let silence = UdpSocket::bind(places.silence)?;
        Ok(Resolver { configuration, silence, silent: BTreeSet::new(), _daemon: daemon })
    }

    /// Forgets everything it has learned, and learns which zones never answer.
    pub(crate) fn forget(&mut self, silent: BTreeSet<String>) -> anyhow::Result<()> {
        let server = self.silence.local_addr()?;
        let server = format!("{}@{}", server.ip(), server.port());
        for name in self.silent.difference(&silent) {
            control(&self.configuration, &["forward_remove", name])?;
        }
        if !self.silent.is_subset(&silent) {
            // Questions that still wait for an answer would take the same questions of today with them.
            control(&self.configuration, &["flush_requestlist"])?;
        }
        for name in silent.difference(&self.silent) {
            control(&self.configuration, &["forward_add", name, &server])?;
        }
        self.silent = silent;
        control(&self.configuration, &["flush_zone", "."])?;
        control(&self.configuration, &["flush_infra", "all"])
    }
}

fn control(configuration: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    Peer::new("unbound-control").arg("-c").arg(configuration).args(arguments).succeed().map(drop)
}

/// All questions are forwarded: a delegation, once known, would lead to port 53. It runs as whoever runs the tests, outside any chroot. It answers by itself for no zone, keeps nothing negative or
/// bogus, and is not kept from loopback addresses.
fn settings(folder: &Path, places: &Places, anchor: &Path) -> String {
    let folder = folder.display();
    let mut text = format!(
        "server:\n  interface: {}@{}\n  username: \"\"\n  chroot: \"\"\n  directory: \"{folder}\"\n  \
         pidfile: \"{folder}/unbound.pid\"\n  use-syslog: no\n  logfile: \"\"\n  verbosity: 1\n  num-threads: 1\n  \
         do-ip6: no\n  do-not-query-localhost: no\n  access-control: 127.0.0.0/8 allow\n  \
         trust-anchor-file: \"{}\"\n  module-config: \"validator iterator\"\n  trust-anchor-signaling: no\n  \
         root-key-sentinel: no\n  qname-minimisation: no\n  aggressive-nsec: no\n  unblock-lan-zones: yes\n  \
         cache-max-negative-ttl: 0\n  val-bogus-ttl: 0\n",
        places.own.ip(),
        places.own.port(),
        anchor.display(),
    );
    for name in ["127.in-addr.arpa.", "localhost.", "test.", "invalid.", "onion.", "home.arpa."] {
        text.push_str(&format!("  local-zone: \"{name}\" nodefault\n"));
    }
    text.push_str(&format!(
        "remote-control:\n  control-enable: yes\n  control-interface: \"{folder}/unbound.sock\"\n  \
         control-use-cert: no\nforward-zone:\n  name: \".\"\n  forward-addr: {}@{}\n",
        places.authority.ip(),
        places.authority.port(),
    ));
    text
}
