//! A pillarbox of one test's own: the real binary, its own folder, its own ports on loopback.

use anyhow::{Context, bail};
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Password of every account of the demonstration server.
pub const PASSWORD: &str = "mailbox";
/// Longest wait for the server to answer.
const START_MAX: Duration = Duration::from_secs(20);

/// A service of the demonstration server, by its port without offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// SMTP from other servers.
    Mx = 2525,
    /// Submission with STARTTLS.
    Submission = 2587,
    /// Submission inside TLS.
    Submissions = 2465,
    /// IMAP inside TLS.
    Imaps = 2993,
    /// IMAP with STARTTLS.
    Imap = 2143,
    /// POP3 inside TLS.
    Pop3s = 2995,
    /// POP3 with STLS.
    Pop3 = 2110,
    /// Metrics.
    Metrics = 8080,
}

/// A running server; killed when dropped.
pub struct Server {
    /// Its configuration and mail.
    pub folder: PathBuf,
    offset: u16,
    child: Option<Child>,
    _folder: tempfile::TempDir,
}

/// The binary under test: `PILLARBOX_BIN`, or the release build of this repository.
pub fn binary() -> PathBuf {
    std::env::var_os("PILLARBOX_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        target.join("release/pillarbox")
    })
}

impl Server {
    /// Starts a demonstration server in a new folder.
    pub fn start() -> anyhow::Result<Server> {
        let mut server = Server::prepare()?;
        server.launch(&[])?;
        Ok(server)
    }

    /// A server that is not running yet: configuration and accounts can be added first.
    pub fn prepare() -> anyhow::Result<Server> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("demo");
        Ok(Server { folder: path, offset: free_offset()?, child: None, _folder: folder })
    }

    /// Starts a server whose configuration was made by `demo` and then edited.
    pub fn start_edited(edit: impl FnOnce(&str) -> String) -> anyhow::Result<Server> {
        let mut server = Server::start()?;
        server.stop()?;
        server.edit("pillarbox.toml", edit)?;
        server.launch(&[])?;
        Ok(server)
    }

    /// Starts a server that trusts nobody: to it, loopback is like any other network (R107).
    pub fn start_distrustful() -> anyhow::Result<Server> {
        Server::start_edited(|text| {
            // A wrong password is tried often here, and waiting shows nothing.
            format!("{text}\n[policy]\ntrusted_networks = []\n\n[limits]\nauthentication_delay_seconds = 0\n")
        })
    }

    /// Edits a file of the server's folder, as an editor does: a new file takes the old one's place.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&str) -> String) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        let edited = edit(&std::fs::read_to_string(&path).with_context(|| path.display().to_string())?);
        let beside = self.folder.join(format!("{name}.edited"));
        std::fs::write(&beside, edited)?;
        std::fs::set_permissions(&beside, std::fs::metadata(&path)?.permissions())?;
        Ok(std::fs::rename(beside, path)?)
    }

    /// A path in a folder of the test's own, which goes when the server does.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self._folder.path().join(name)
    }

    /// Starts it, with additions to the environment, and waits until it answers.
    pub fn launch(&mut self, environment: &[(&str, &str)]) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let child = Command::new(binary())
            .args(["demo", "--folder"])
            .arg(&self.folder)
            .args(["--port-offset", &self.offset.to_string()])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be run; build it first", binary().display()))?;
        self.child = Some(child);
        self.wait_until_ready()
    }

    /// What the server printed.
    pub fn log(&self) -> PathBuf {
        self.scratch("log")
    }

    /// The same, as text.
    pub fn log_text(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.log())?).into_owned())
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            if let Some(status) = self.child.as_mut().context("launched")?.try_wait()? {
                bail!("the server ended with {status}:\n{}", std::fs::read_to_string(self.log())?);
            }
            let ports = [Port::Imaps, Port::Pop3s, Port::Submission];
            if self.greets() && ports.iter().all(|port| TcpStream::connect(("127.0.0.1", self.port(*port))).is_ok()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the server does not answer:\n{}", std::fs::read_to_string(self.log())?)
    }

    /// Whether the server says something: a port that takes connections may belong to one that is still starting.
    fn greets(&self) -> bool {
        let greeting = TcpStream::connect(("127.0.0.1", self.port(Port::Mx))).and_then(|mut stream| {
            stream.set_read_timeout(Some(START_MAX))?;
            stream.read(&mut [0; 64])
        });
        greeting.is_ok_and(|octets| octets > 0)
    }

    /// The port of a service.
    pub fn port(&self, port: Port) -> u16 {
        port as u16 + self.offset
    }

    /// Process id of the running server.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Runs a command of the binary on this server's configuration.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output =
            Command::new(binary()).arg("--config").arg(self.folder.join("pillarbox.toml")).args(arguments).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("pillarbox {} failed: {text}{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(text)
    }

    /// Runs a command of the binary that is meant to fail; gives what it printed.
    pub fn failing_command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output =
            Command::new(binary()).arg("--config").arg(self.folder.join("pillarbox.toml")).args(arguments).output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        if output.status.success() {
            bail!("pillarbox {} should have failed: {text}", arguments.join(" "));
        }
        Ok(text)
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Ends it as an administrator would, and waits; an error if it does not end well.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM)?;
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            if let Some(status) = child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!("the server ended with {status}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill()?;
        bail!("the server did not end")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A failed kill leaves a process behind, but a test that failed must still say why.
        let _ = self.kill();
    }
}

/// An offset for which all ports are free; each call of a process gives another.
fn free_offset() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Far enough apart that no two servers of a process share a port, in places that differ between processes, and all
    // below the ports that the system gives to outgoing connections.
    let own = (std::process::id() % 90) as u16 * 10;
    let begin = (std::process::id() / 90 % u32::from(OFFSETS)) as u16;
    for _ in 0..OFFSETS * 4 {
        let place = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(begin) % OFFSETS;
        let offset = 1_000 + own + place * OFFSET_STEP;
        let ports = [2525, 2587, 2465, 2993, 2143, 2995, 2110, 8080];
        if ports.iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", port + offset)).is_ok()) {
            return Ok(offset);
        }
    }
    bail!("no free ports")
}

/// Distance between the offsets of two servers: more than between any two mail ports of one.
const OFFSET_STEP: u16 = 900;
/// How many servers of one process have ports of their own.
const OFFSETS: u16 = 24;
