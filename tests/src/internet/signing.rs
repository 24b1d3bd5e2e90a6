//! Keys of zones and the signing of zone files, by the tools of ldns.

use super::zone::{Kind, Zone};
use crate::peer::Peer;
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};

/// Signatures of an expired zone are valid from the first of these dates to the second.
const PAST: [&str; 4] = ["-i", "20200101000000", "-e", "20200201000000"];

/// A zone's only key (ECDSA P-256), which signs everything in it.
#[derive(Clone)]
pub(crate) struct Key {
    /// Path of its files, without their endings.
    base: PathBuf,
    /// Data of the DNSKEY record.
    pub(crate) public: String,
    /// Data of the DS record.
    pub(crate) digest: String,
}

impl Key {
    /// Makes a key for a zone, kept in a folder.
    pub(crate) fn generate(folder: &Path, zone: &str) -> anyhow::Result<Key> {
        let zone = format!("{zone}.");
        let made = Peer::new("ldns-keygen").args(["-a", "ECDSAP256SHA256", "-k", &zone]).folder(folder).succeed()?;
        let base = folder.join(String::from_utf8(made.output)?.trim());
        let file = PathBuf::from(format!("{}.key", base.display()));
        let record = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let digest = Peer::new("ldns-key2ds").args(["-n", "-2"]).arg(&file).folder(folder).succeed()?;
        let digest = data_of(&String::from_utf8(digest.output)?, "DS")?;
        Ok(Key { base, public: data_of(&record, "DNSKEY")?, digest })
    }

    /// The digest that a zone's parent names; for a bogus zone, that of no key.
    pub(crate) fn digest_of(&self, zone: &Zone) -> Option<String> {
        let wrong = || {
            let (start, last) = self.digest.split_at(self.digest.len().saturating_sub(1));
            format!("{start}{}", if last == "0" { '1' } else { '0' })
        };
        match zone.kind {
            Kind::Secure | Kind::Expired => Some(self.digest.clone()),
            Kind::Bogus => Some(wrong()),
            Kind::Insecure | Kind::Failing | Kind::Silent => None,
        }
    }

    /// Signs the file of a zone into another file.
    pub(crate) fn sign(&self, zone: &Zone, unsigned: &Path, signed: &Path) -> anyhow::Result<()> {
        let mut signer = Peer::new("ldns-signzone").args(["-o", &format!("{}.", zone.name)]);
        if zone.nsec3 {
            // RFC 9276 §3.1: no salt and no extra iterations.
            signer = signer.args(["-n", "-t", "0"]);
        }
        if zone.kind == Kind::Expired {
            signer = signer.args(PAST);
        }
        signer.arg("-f").arg(signed).arg(unsigned).arg(&self.base).succeed()?;
        Ok(())
    }
}

/// What follows the type in a line of a zone file.
fn data_of(line: &str, kind: &str) -> anyhow::Result<String> {
    let data = line.split_once(&format!("\t{kind}\t")).map(|(_, data)| data.split(';').next().unwrap_or("").trim());
    let data = data.unwrap_or_default();
    ensure!(!data.is_empty(), "no {kind} in {line}");
    Ok(data.to_owned())
}
