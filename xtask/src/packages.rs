//! The Debian packages of the programs that tests talk to.

use crate::run::run_with;
use anyhow::bail;
use std::process::Command;

/// Packages of the peers that the tests use.
pub const PEERS: [&str; 17] = [
    "swaks",
    "postfix",
    "curl",
    "isync",
    "fetchmail",
    "neomutt",
    "msmtp",
    "mpop",
    "imapfilter",
    "openssl",
    "socat",
    "python3",
    "ca-certificates",
    "procps",
    "libnet-ssleay-perl",
    "libio-socket-ssl-perl",
    "gcc",
];

/// Installs what is missing of these, and says so.
pub fn install(packages: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("Installing Debian packages that the tests use: {}", missing.join(" "));
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    let (program, prefix): (&str, &[&str]) = if root { ("apt-get", &[]) } else { ("sudo", &["apt-get"]) };
    // No service starts by itself: the tests start their own, on loopback, and stop them.
    let guard = std::path::Path::new("/usr/sbin/policy-rc.d");
    let guarded = root && !guard.exists();
    if guarded {
        std::fs::write(guard, "#!/bin/sh\nexit 101\n")?;
        std::fs::set_permissions(guard, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    let update = [prefix, &["update", "-qq"]].concat();
    let install = [prefix, &["install", "-y", "-qq", "--no-install-recommends"], &missing].concat();
    let outcome = run_with(program, &update, &quiet).and_then(|()| run_with(program, &install, &quiet));
    if guarded {
        std::fs::remove_file(guard)?;
    }
    if outcome.is_err() {
        bail!("install these packages by hand, then run again: {}", missing.join(" "));
    }
    Ok(())
}

fn is_installed(package: &str) -> bool {
    let output = Command::new("dpkg-query").args(["-W", "-f=${Status}", package]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("ok installed"))
}
