//! `check`: everything that can be wrong before a start, line by line (R196).

use crate::cli::Cli;
use crate::config::{self, CertificateSet, Config, Finding, Loaded, Severity};
use crate::output::Output;
use crate::serve::{self, sending};
use directory::Directory;
use net::confine::Identity;
use net::{PairFiles, ServerTls, TlsSettings};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Prints all findings; fails when one of them is an error.
pub fn check(cli: &Cli, output: &Output) -> anyhow::Result<ExitCode> {
    let findings = match config::load(&cli.config) {
        Ok(loaded) => all(&loaded),
        Err(findings) => findings,
    };
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    output.findings(&findings);
    if findings.is_empty() {
        output.say("nothing wrong");
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong with tables, certificates and the machine.
fn all(loaded: &Loaded) -> Vec<Finding> {
    let config = &loaded.config;
    let mut findings: Vec<Finding> = match Directory::open(config.directory_settings()) {
        Ok(directory) => directory.check().into_iter().map(Finding::from).collect(),
        Err(errors) => errors.into_iter().map(|error| Finding::from(directory::Finding::from(error))).collect(),
    };
    findings.extend(config.certificates.iter().flat_map(certificates));
    findings.extend(leaving(loaded));
    findings.extend(storage(config));
    findings.extend(sockets(loaded));
    match serve::identity(config) {
        Ok(Some(identity)) => findings.extend(closed_tables(config, &identity)),
        Ok(None) => {}
        Err(error) => findings.push(Finding::error(&loaded.file, None, error.to_string(), "")),
    }
    findings.sort_by_key(|finding| finding.severity != Severity::Error);
    findings
}

/// Keys, rules and authorities of mail that leaves.
fn leaving(loaded: &Loaded) -> Vec<Finding> {
    let config = &loaded.config;
    let keys = directory::signing::Signing::open(&config.directory.dkim, &directory::signing::read_key_file);
    let mut findings: Vec<Finding> = keys
        .err()
        .unwrap_or_default()
        .into_iter()
        .map(|error| Finding::from(directory::Finding::from(error)))
        .collect();
    let rules = &config.submission.header_rules;
    if !rules.as_os_str().is_empty() {
        let read = std::fs::read(rules).map_err(|error| Finding::error(rules, None, error.to_string(), ""));
        let rules = read.and_then(|octets| {
            message::header_rules::HeaderRules::read(rules, &octets)
                .map_err(|error| Finding::error(&error.file, error.line, error.cause.clone(), error.cure.clone()))
        });
        findings.extend(rules.err());
    }
    let refused = [sending::trust(config).err(), resolver(config).err(), sending::srs_of(config).err()];
    findings.extend(refused.into_iter().flatten().map(|error| {
        Finding::error(&loaded.file, None, format!("{error:#}"), "see `pillarbox config explain` for the setting")
    }));
    findings
}

/// Whether the resolver can be made: its keys are read, nobody is asked.
fn resolver(config: &Config) -> anyhow::Result<()> {
    let anchors = sending::trust_anchors(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { sending::resolver(config, anchors).map(|_| ()) })
}

/// A set that cannot be used, or not for long.
fn certificates(set: &CertificateSet) -> Vec<Finding> {
    let pairs = set.chains.iter().zip(&set.keys);
    let pairs = pairs.map(|(chain, key)| PairFiles { chain: chain.clone(), key: key.clone() }).collect();
    let tls = match ServerTls::load(TlsSettings { pairs, tickets: false, alpn: &[] }) {
        Ok(tls) => tls,
        Err(error) => {
            let file = set.chains.first().cloned().unwrap_or_default();
            return vec![Finding::error(&file, None, format!("set `{}`: {error}", set.name), "")];
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let mut findings = Vec::new();
    for facts in tls.certificates() {
        let mut warn = |cause: String, cure: &str| {
            let (severity, cure) = (Severity::Warning, cure.to_owned());
            findings.push(Finding { severity, file: facts.chain.clone(), line: None, cause, cure });
        };
        if facts.names.is_empty() {
            warn("the certificate names no host: clients refuse it".into(), "have one with subject alternative names");
        }
        match facts.not_after.map(|end| (end - now).div_euclid(SECONDS_PER_DAY)) {
            Some(..0) => warn("the certificate has expired".into(), "renew it, then `pillarbox reload`"),
            Some(days @ 0..EXPIRY_NEAR_DAYS) => {
                warn(format!("the certificate expires in {days} days"), "renew it, then `pillarbox reload`");
            }
            Some(_) | None => {}
        }
    }
    findings
}

/// R14: the folder of all mail, where it is there already.
fn storage(config: &Config) -> Option<Finding> {
    let folder = &config.storage.folder;
    if folder.exists() && !folder.is_dir() {
        return Some(Finding::error(folder, None, "storage.folder is no folder", "name another one"));
    }
    let cause = serve::exposed_storage(folder)?;
    Some(Finding::error(folder, None, cause, "chmod 700 the folder"))
}

/// UNIX sockets whose folder or owner does not exist.
fn sockets(loaded: &Loaded) -> Vec<Finding> {
    let mut findings = Vec::new();
    for listener in loaded.config.listeners.iter().filter(|listener| listener.address.contains('/')) {
        let folder = Path::new(&listener.address).parent().filter(|folder| *folder != loaded.config.storage.folder);
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let cause = format!("the folder of listener `{}` does not exist", listener.name);
            findings.push(Finding::error(folder, None, cause, "make it"));
        }
        if let Err(error) = serve::socket_owner(&listener.socket_owner) {
            let cause = format!("listener `{}`: {error}", listener.name);
            findings.push(Finding::error(&loaded.file, None, cause, "correct socket_owner"));
        }
    }
    findings
}

/// Tables that the server could not read, once it has become its user.
fn closed_tables(config: &Config, identity: &Identity) -> Vec<Finding> {
    let closed = |file: &&PathBuf| file.exists() && !is_open_to(file, identity);
    let finding = |file: &PathBuf| {
        let cause = format!("the server could not read it as user {}", identity.name);
        let cure = format!("chown {}: the file and its folder", identity.name);
        Finding { severity: Severity::Warning, file: file.clone(), line: None, cause, cure }
    };
    config.directory.files().into_iter().filter(closed).map(finding).collect()
}

/// Whether the permission bits let a user read a file and search the folders above it. Further groups of the user and
/// access control lists are not looked at.
fn is_open_to(file: &Path, identity: &Identity) -> bool {
    file.ancestors().enumerate().all(|(depth, path)| {
        let Ok(metadata) = std::fs::metadata(path) else { return false };
        let wanted = if depth == 0 { 0o4 } else { 0o1 };
        let shift = match () {
            () if metadata.uid() == identity.user => 6,
            () if metadata.gid() == identity.group => 3,
            () => 0,
        };
        metadata.mode() >> shift & wanted != 0
    })
}

/// Certificates that end so soon are warned of.
const EXPIRY_NEAR_DAYS: i64 = 14;
const SECONDS_PER_DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_open_to_whom_their_bits_say() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("accounts");
        std::fs::write(&file, "").unwrap();
        let metadata = std::fs::metadata(&file).unwrap();
        let owner = Identity { name: "owner".into(), user: metadata.uid(), group: metadata.gid() };
        let stranger = Identity { name: "stranger".into(), user: metadata.uid() + 1, group: metadata.gid() + 1 };
        for (folder_mode, mode, strangers) in [(0o755, 0o644, true), (0o700, 0o644, false), (0o755, 0o600, false)] {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(folder_mode)).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(is_open_to(&file, &owner));
            assert_eq!(is_open_to(&file, &stranger), strangers, "{folder_mode:o} {mode:o}");
        }
    }
}
