//! The two servers that are measured.

use super::script;
use crate::run::Afterwards;
use anyhow::{Context, bail};
use peers::server::binary;
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Password of every account.
pub const PASSWORD: &str = "lab-password";
/// Accounts `user001` and on.
const USERS: usize = 50;

/// A server under load.
pub trait Subject {
    /// Its name in results.
    fn name(&self) -> &'static str;
    /// Port of SMTP without filters.
    fn smtp(&self) -> u16;
    /// Port of IMAP inside TLS.
    fn imaps(&self) -> u16;
    /// Port of POP3 inside TLS.
    fn pop3s(&self) -> u16;
    /// Process ids or their files, separated by spaces.
    fn roots(&self) -> String;
    /// Milliseconds from start to answering.
    fn start_ms(&self) -> f64;
    /// PSS of all its processes.
    fn memory_mib(&self) -> anyhow::Result<f64>;
    /// Milliseconds from start to answering after `kill -9`, with all its mail.
    fn restart_after_kill_ms(&self) -> anyhow::Result<Option<f64>> {
        Ok(None)
    }
    /// Octets on disk for each octet of mail.
    fn disk_per_octet(&self) -> anyhow::Result<Option<f64>> {
        Ok(None)
    }
}

/// Postfix and Dovecot.
pub struct Stack {
    reference: PathBuf,
    start_ms: f64,
    _stop: Afterwards,
}

impl Stack {
    /// Sets it up and starts it.
    pub fn start(reference: &Path) -> anyhow::Result<Stack> {
        script(reference, "baseline/setup", &[], &[])?;
        // Mail of an earlier run would slow it down.
        match fs::remove_dir_all(Path::new(&base()).join("mail/virtual/example.net")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let stop = Afterwards::run(&reference.join("baseline/stop"), &[])?;
        // The filters are measured elsewhere: here both servers receive, store and serve.
        let begun = Instant::now();
        script(reference, "baseline/start", &[], &[("CLAMD", "0"), ("DKIM", "0")])?;
        Ok(Stack { reference: reference.to_owned(), start_ms: begun.elapsed().as_secs_f64() * 1e3, _stop: stop })
    }
}

fn base() -> String {
    std::env::var("BASE").unwrap_or_else(|_| "/var/tmp/mail-lab/baseline".into())
}

impl Subject for Stack {
    fn name(&self) -> &'static str {
        "reference"
    }
    fn smtp(&self) -> u16 {
        3026
    }
    fn imaps(&self) -> u16 {
        3993
    }
    fn pop3s(&self) -> u16 {
        3995
    }
    fn roots(&self) -> String {
        let base = base();
        format!("{base}/spool/postfix/pid/master.pid {base}/run/dovecot/master.pid {base}/run/dnsmasq.pid")
    }
    fn start_ms(&self) -> f64 {
        self.start_ms
    }
    fn memory_mib(&self) -> anyhow::Result<f64> {
        memory(&self.reference, &self.roots())
    }
}

fn memory(reference: &Path, roots: &str) -> anyhow::Result<f64> {
    let output = Command::new(reference.join("load/pss")).arg("--json").args(roots.split_whitespace()).output()?;
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).context("pss")?;
    Ok(value["pss_kib"].as_f64().unwrap_or(0.0) / 1024.0)
}

/// Our own.
pub struct Pillarbox {
    folder: PathBuf,
    child: Mutex<Child>,
    start_ms: f64,
}

/// Ports of the measured server.
const SMTP: u16 = 4025;
const IMAPS: u16 = 4993;
const POP3S: u16 = 4995;

impl Pillarbox {
    /// Makes a configuration beside the results and starts the release build.
    pub fn start(lab: &Path) -> anyhow::Result<Pillarbox> {
        let folder = lab.join("pillarbox");
        configure(&folder)?;
        let (child, start_ms) = launch(&folder, SMTP)?;
        Ok(Pillarbox { folder, child: Mutex::new(child), start_ms })
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn configure(folder: &Path) -> anyhow::Result<()> {
    let status = Command::new(binary())
        .args(["init", "example.net", "--account", "brian@example.net", "-p", PASSWORD, "--folder"])
        .arg(folder)
        .arg("--storage")
        .arg(folder.join("mail"))
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("pillarbox init failed");
    }
    // One hash for all accounts, as in the reference: bcrypt at cost 8.
    let hash =
        Command::new(binary()).args(["password", "hash", "-s", "BLF-CRYPT", "-r", "8", "-p", PASSWORD]).output()?;
    let hash = String::from_utf8(hash.stdout)?.trim().to_owned();
    let mut names: Vec<String> = ["brian", "notbrian", "big"].map(String::from).to_vec();
    names.extend((1..=USERS).map(|number| format!("user{number:03}")));
    let lines = |line: &dyn Fn(&str) -> String| names.iter().map(|name| line(name)).collect::<String>();
    fs::write(folder.join("accounts"), lines(&|name| format!("{name}@example.net:{hash}::::::\n")))?;
    fs::set_permissions(folder.join("accounts"), fs::Permissions::from_mode(0o600))?;
    fs::write(folder.join("mailboxes"), lines(&|name| format!("{name}@example.net true\n")))?;
    let mut text = format!(
        "host_name = \"mx.example.net\"\n[storage]\nfolder = \"mail\"\n[security]\nallow_root = true\n\
         [limits]\nconnections_per_address = 5000\n[policy]\ntrusted_networks = []\n[log]\nfile = \"{}\"\n",
        folder.join("log").display()
    );
    text.push_str(
        "[[certificates]]\nname = \"default\"\nchains = [\"tls/rsa-cert.pem\"]\nkeys = [\"tls/rsa-key.pem\"]\n",
    );
    for (name, protocol, port, tls) in
        [("mx", "mx", SMTP, "starttls"), ("imaps", "imap", IMAPS, "implicit"), ("pop3s", "pop3", POP3S, "implicit")]
    {
        text.push_str(&format!(
            "[[listener]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\naddress = \"127.0.0.1:{port}\"\ntls = \"{tls}\"\n"
        ));
    }
    Ok(fs::write(folder.join("pillarbox.toml"), text)?)
}

/// Starts the server of a folder; gives the milliseconds until it greets on a port for SMTP.
pub fn launch(folder: &Path, port: u16) -> anyhow::Result<(Child, f64)> {
    let mut child = Command::new(binary())
        .arg("--config")
        .arg(folder.join("pillarbox.toml"))
        .arg("serve")
        .stdin(Stdio::null())
        .spawn()?;
    let waited = wait_for_greeting(port, || match child.try_wait()? {
        Some(status) => bail!("pillarbox ended with {status}"),
        None => Ok(()),
    });
    match waited {
        Ok(time) => Ok((child, time.as_secs_f64() * 1e3)),
        Err(error) => {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait()?;
            Err(error)
        }
    }
}

/// Waits until a server greets; gives the time it took. `is_well` says whether there is hope.
pub fn wait_for_greeting(port: u16, mut is_well: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        if greets(port) {
            return Ok(begun.elapsed());
        }
        is_well()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("nobody greets on port {port}")
}

/// An open port proves little: the kernel accepts before the server does. A greeting proves all.
fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut greeting = [0; 4];
    stream.set_read_timeout(Some(Duration::from_secs(20))).is_ok()
        && stream.read_exact(&mut greeting).is_ok()
        && greeting == *b"220 "
}

/// PSS of a process.
pub fn pss_mib(process: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let pss = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("Pss")?;
    let kib: f64 = pss.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

impl Subject for Pillarbox {
    fn name(&self) -> &'static str {
        "pillarbox"
    }
    fn smtp(&self) -> u16 {
        SMTP
    }
    fn imaps(&self) -> u16 {
        IMAPS
    }
    fn pop3s(&self) -> u16 {
        POP3S
    }
    fn roots(&self) -> String {
        self.child().id().to_string()
    }
    fn start_ms(&self) -> f64 {
        self.start_ms
    }
    fn memory_mib(&self) -> anyhow::Result<f64> {
        pss_mib(self.child().id())
    }
    fn restart_after_kill_ms(&self) -> anyhow::Result<Option<f64>> {
        let mut child = self.child();
        child.kill()?;
        child.wait()?;
        let (again, ms) = launch(&self.folder, SMTP)?;
        *child = again;
        Ok(Some(ms))
    }
    fn disk_per_octet(&self) -> anyhow::Result<Option<f64>> {
        let output = Command::new(binary())
            .arg("--config")
            .arg(self.folder.join("pillarbox.toml"))
            .args(["--json", "quota", "get", "-A"])
            .output()?;
        let accounts: serde_json::Value = serde_json::from_slice(&output.stdout).context("quota get")?;
        let octets: u64 = accounts.as_array().into_iter().flatten().filter_map(|a| a["octets"].as_u64()).sum();
        Ok((octets > 0).then(|| size_of(&self.folder.join("mail")) as f64 / octets as f64))
    }
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() { size_of(&path) } else { entry.metadata().map_or(0, |metadata| metadata.len()) }
        })
        .sum()
}

impl Drop for Pillarbox {
    fn drop(&mut self) {
        let mut child = self.child();
        // A failure leaves a process behind; the figures are printed all the same.
        let _ = child.kill();
        let _ = child.wait();
    }
}
