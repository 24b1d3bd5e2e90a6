//! The Debian packages of the programs that tests talk to.

use crate::run::run_with;
use anyhow::bail;
use std::process::Command;

/// Packages of the peers that the tests use.
pub const PEERS: [&str; 34] = [
    "swaks",
    "postfix",
    "curl",
    "isync",
    "fetchmail",
    "neomutt",
    // By far the largest: 90 MB to fetch.
    "thunderbird",
    "bsd-mailx",
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
    "libfaketime",
    "opendkim",
    "python3-dkim",
    "python3-nacl",
    // The simulated internet.
    "knot",
    "unbound",
    "ldnsutils",
    "bind9-dnsutils",
    "iproute2",
    // What the unpacked Exim needs.
    "libdb5.3",
    "libgnutls-dane0",
    "libidn12",
    "libidn2-0",
    "libnsl2",
    "libpcre2-8-0",
];

/// An MTA that cannot be installed beside Postfix, the user that its package would make, and its binary.
const EXIM: (&str, &str, &str) = ("exim4-daemon-light", "Debian-exim", "usr/sbin/exim4");

/// Installs what is missing of these, and says so.
pub fn install(packages: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("Installing Debian packages that the tests use: {}", missing.join(" "));
    let root = is_root();
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

/// Unpacks Exim into `target/peers`, where the tests look for it, and makes its user.
pub fn unpack_exim() -> anyhow::Result<()> {
    let (package, user, binary) = EXIM;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), std::path::PathBuf::from);
    let folder = target.join("peers");
    if !folder.join(package).join(binary).exists() {
        eprintln!("Unpacking a Debian package that the tests use: {package}");
        std::fs::create_dir_all(&folder)?;
        let script = "cd \"$0\" && apt-get download -qq \"$1\" && dpkg -x \"$1\"_*.deb \"$1\" && chmod -R u-s \"$1\" && rm \"$1\"_*.deb";
        run_with("sh", &["-c", script, &folder.display().to_string(), package], &[])?;
    }
    if Command::new("id").args(["-u", user]).output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let useradd = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", user];
    let (program, arguments) = if is_root() { ("useradd", &useradd[1..]) } else { ("sudo", &useradd[..]) };
    run_with(program, arguments, &[])
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

fn is_installed(package: &str) -> bool {
    let output = Command::new("dpkg-query").args(["-W", "-f=${Status}", package]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("ok installed"))
}
