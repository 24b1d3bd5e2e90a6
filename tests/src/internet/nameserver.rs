//! The authority for every zone: one knotd, which answers as parent and as child.
//!
//! Because it has the root and all that is below, it never refers to another server, so nothing depends on port 53.

use super::daemon::Daemon;
use super::signing::Key;
use super::zone::{Kind, Place, Zone};
use crate::peer::Peer;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The authoritative server with its zones.
pub(crate) struct Nameserver {
    folder: PathBuf,
    address: SocketAddrV4,
    smtp_port: u16,
    serial: u32,
    zones: BTreeMap<String, Zone>,
    keys: BTreeMap<String, Key>,
    /// Files as they were last written, all with serial 0, to see what changed.
    written: BTreeMap<String, String>,
    daemon: Option<Daemon>,
}

impl Nameserver {
    /// Starts it with an empty root, in a folder of its own.
    pub(crate) fn start(folder: &Path, address: SocketAddrV4, smtp_port: u16) -> anyhow::Result<Nameserver> {
        for part in ["keys", "zones", "database"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let mut server = Nameserver {
            folder: folder.to_owned(),
            address,
            smtp_port,
            serial: 0,
            zones: BTreeMap::from([(String::new(), Zone::secure(""))]),
            keys: BTreeMap::new(),
            written: BTreeMap::new(),
            daemon: None,
        };
        server.write_changed()?;
        server.configure(&BTreeSet::new())?;
        let mut knotd = Command::new("knotd");
        knotd.arg("-c").arg(server.configuration());
        let mut daemon = Daemon::start(&mut knotd, &folder.join("knot.log"))?;
        daemon.wait_until(|| server.control(&["status"]).is_ok())?;
        server.daemon = Some(daemon);
        server.control(&["-b", "zone-reload", "."])?;
        Ok(server)
    }

    /// The zones as they are now.
    pub(crate) fn zones(&self) -> &BTreeMap<String, Zone> {
        &self.zones
    }

    /// The key of the root, to be trusted.
    pub(crate) fn root_key(&mut self) -> anyhow::Result<Key> {
        self.key("")
    }

    /// Puts zones in the place of those with the same names, and serves them when it returns.
    pub(crate) fn set(&mut self, zones: Vec<Zone>) -> anyhow::Result<()> {
        let known: BTreeSet<String> = self.zones.keys().cloned().collect();
        self.zones.extend(zones.into_iter().map(|zone| (zone.name.clone(), zone)));
        self.publish(&known)
    }

    /// Takes a zone away: its names no longer exist.
    pub(crate) fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        let known: BTreeSet<String> = self.zones.keys().cloned().collect();
        self.zones.remove(name);
        self.written.remove(name);
        self.publish(&known)
    }

    fn publish(&mut self, known: &BTreeSet<String>) -> anyhow::Result<()> {
        let changed = self.write_changed()?;
        // A zone that was served and has lost its file would still be served from memory; so it is forgotten first.
        let forgotten = self.zones.values().filter(|zone| !answers(zone) && changed.contains(&zone.name));
        let forgotten: BTreeSet<String> = forgotten.map(|zone| zone.name.clone()).collect();
        if !forgotten.is_empty() {
            self.configure(&forgotten)?;
            self.control(&["-b", "reload"])?;
        }
        if !forgotten.is_empty() || !self.zones.keys().eq(known.iter()) {
            self.configure(&BTreeSet::new())?;
            self.control(&["-b", "reload"])?;
        }
        let reloaded: Vec<String> = changed.difference(&forgotten).map(|name| format!("{name}.")).collect();
        if !reloaded.is_empty() {
            let names: Vec<&str> = reloaded.iter().map(String::as_str).collect();
            self.control(&[&["-b", "zone-reload"], &names[..]].concat())?;
        }
        Ok(())
    }

    /// Writes and signs the files that differ from those there, and gives the names of their zones.
    fn write_changed(&mut self) -> anyhow::Result<BTreeSet<String>> {
        let mut changed = BTreeSet::new();
        for zone in self.zones.values().cloned().collect::<Vec<_>>() {
            let place = self.place(&zone)?;
            let same = format!("{:?} {} {}", zone.kind, zone.nsec3, zone.file(0, &place));
            if self.written.get(&zone.name) == Some(&same) {
                continue;
            }
            self.serial += 1;
            let mut file = zone.file(self.serial, &place);
            let served = self.file(&zone);
            if !answers(&zone) {
                let _ = std::fs::remove_file(served);
            } else if zone.is_chained() {
                let key = self.key(&zone.name)?;
                file.push_str(&format!("{}. {} IN DNSKEY {}\n", zone.name, zone.ttl_seconds, key.public));
                let unsigned = served.with_extension("unsigned");
                std::fs::write(&unsigned, file)?;
                key.sign(&zone, &unsigned, &served)?;
            } else {
                std::fs::write(served, file)?;
            }
            self.written.insert(zone.name.clone(), same);
            changed.insert(zone.name);
        }
        Ok(changed)
    }

    /// The zones right below a zone.
    fn place(&mut self, zone: &Zone) -> anyhow::Result<Place> {
        let below = |child: &&Zone| child.name != zone.name && zone.contains(&child.name);
        let between = |child: &Zone| {
            let mut others = self.zones.values().filter(below).filter(|other| other.name != child.name);
            others.any(|other| other.contains(&child.name))
        };
        let children: Vec<Zone> = self.zones.values().filter(below).filter(|child| !between(child)).cloned().collect();
        let mut digests = Vec::new();
        for child in children {
            let digest = if child.is_chained() { self.key(&child.name)?.digest_of(&child) } else { None };
            digests.push((child.name, digest));
        }
        Ok(Place { name_server: *self.address.ip(), smtp_port: self.smtp_port, children: digests })
    }

    fn key(&mut self, zone: &str) -> anyhow::Result<Key> {
        if let Some(key) = self.keys.get(zone) {
            return Ok(key.clone());
        }
        let key = Key::generate(&self.folder.join("keys"), zone)?;
        self.keys.insert(zone.to_owned(), key.clone());
        Ok(key)
    }

    fn file(&self, zone: &Zone) -> PathBuf {
        self.folder.join("zones").join(format!("{}.zone", if zone.name.is_empty() { "root" } else { &zone.name }))
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("knot.conf")
    }

    /// Writes the configuration, without some zones.
    fn configure(&self, without: &BTreeSet<String>) -> anyhow::Result<()> {
        let folder = self.folder.display();
        let mut text = format!(
            "server:\n  rundir: \"{folder}\"\n  pidfile: \"{folder}/knot.pid\"\n  listen: {}@{}\n  udp-workers: 1\n  \
             tcp-workers: 1\n  background-workers: 1\ncontrol:\n  listen: \"{folder}/knot.sock\"\n\
             log:\n  - target: stdout\n    any: info\ndatabase:\n  storage: \"{folder}/database\"\n\
             template:\n  - id: default\n    semantic-checks: off\n    zonefile-load: whole\n    zonefile-sync: -1\n    \
             journal-content: none\nzone:\n",
            self.address.ip(),
            self.address.port(),
        );
        for zone in self.zones.values().filter(|zone| !without.contains(&zone.name)) {
            text.push_str(&format!("  - domain: \"{}.\"\n    file: \"{}\"\n", zone.name, self.file(zone).display()));
        }
        Ok(std::fs::write(self.configuration(), text)?)
    }

    fn control(&self, arguments: &[&str]) -> anyhow::Result<()> {
        Peer::new("knotc").arg("-c").arg(self.configuration()).args(arguments).succeed().map(drop)
    }
}

fn answers(zone: &Zone) -> bool {
    !matches!(zone.kind, Kind::Failing | Kind::Silent)
}
