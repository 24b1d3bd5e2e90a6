//! Running the program: once to its end, or as a server in the background.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    pub succeeded: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program with a configuration file and these words, nothing on its standard input.
pub fn run(config: &Path, words: &[&str]) -> Run {
    run_with_input(config, words, "")
}

/// The same with text on its standard input.
pub fn run_with_input(config: &Path, words: &[&str], input: &str) -> Run {
    let mut child = command(config, words).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    Run { succeeded: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A run to be begun.
pub fn command(config: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    command.arg("--config").arg(config).args(words).stdout(Stdio::piped()).env_remove("PILLARBOX_CONFIG");
    command
}

/// What a successful run printed.
pub fn text(config: &Path, words: &[&str]) -> String {
    let run = run(config, words);
    assert!(run.succeeded, "{words:?}: {run:?}");
    run.stdout
}

/// The same in JSON.
pub fn json(config: &Path, words: &[&str]) -> serde_json::Value {
    let words = [words, &["--json"]].concat();
    serde_json::from_str(&text(config, &words)).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// What a failed run complained about, which it said on standard error only.
pub fn failure(config: &Path, words: &[&str]) -> String {
    let run = run(config, words);
    assert!(!run.succeeded && run.stdout.is_empty(), "{words:?}: {run:?}");
    run.stderr
}

/// A server in the background. Killed when dropped, unless it was ended before.
pub struct Server(Child);

impl Server {
    /// Starts `serve`, and waits until it can be asked how it is.
    pub fn start(config: &Path) -> Server {
        let mut server = Server::begin(config);
        server.serves(config);
        server
    }

    /// Starts `serve`.
    pub fn begin(config: &Path) -> Server {
        Server(command(config, &["serve"]).spawn().unwrap())
    }

    /// Waits until it can be asked how it is.
    pub fn serves(&mut self, config: &Path) {
        until("it serves", || {
            assert!(self.0.try_wait().unwrap().is_none(), "it ended");
            run(config, &["status"]).succeeded
        });
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    /// Sends SIGTERM, and waits for an orderly end.
    pub fn end(mut self) {
        self.signal(Signal::SIGTERM);
        self.ended();
    }

    /// Waits for the orderly end that something else has asked for.
    pub fn ended(&mut self) {
        let mut status = None;
        until("it ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for something that comes soon. Only a failing test waits long.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// A demonstration server.
pub struct Demo {
    pub server: Server,
    pub folder: PathBuf,
    offset: u16,
    // Kept open: the program must not find its output closed.
    _stdout: BufReader<ChildStdout>,
}

impl Demo {
    /// Starts it, and waits until it says that it serves.
    pub fn start(folder: &Path, offset: u16) -> Demo {
        let offset_text = offset.to_string();
        let words = ["demo", "--folder", &folder.to_string_lossy(), "--port-offset", &offset_text];
        let mut child = command(&folder.join("pillarbox.toml"), &words).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.starts_with("pillarbox serves example.net from "), "{line:?}");
        // The rest of what it tells to try ends with its own status command.
        while !line.ends_with(" status\n") {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0);
        }
        Demo { server: Server(child), folder: folder.to_owned(), offset, _stdout: stdout }
    }

    pub fn config(&self) -> PathBuf {
        self.folder.join("pillarbox.toml")
    }

    /// The address of the listener that is on `port` without offset.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port + self.offset))
    }
}

/// An offset at which all of the demonstration's ports are free, each given out once.
pub fn free_offset() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    const PORTS: [u16; 8] = [2525, 2587, 2465, 2993, 2143, 2995, 2110, 8080];
    const OFFSETS: u32 = 20_000;
    // No difference of two of these ports is a multiple of 19.
    std::iter::repeat_with(|| (std::process::id() + 19 * GIVEN.fetch_add(1, Ordering::Relaxed)) % OFFSETS)
        .map(|step| 10_000 + step as u16)
        .find(|offset| PORTS.iter().all(|port| TcpListener::bind(("127.0.0.1", port + offset)).is_ok()))
        .unwrap()
}

#[test]
fn no_offset_is_given_out_twice() {
    assert_ne!(free_offset(), free_offset());
}

/// Addresses on loopback that nobody listens on, each given out once. They are below the ports that the system gives to
/// clients (from 32,768), so that none is taken before it is used.
pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    const PORTS: u32 = 20_000;
    std::iter::repeat_with(|| (std::process::id() * 16 + GIVEN.fetch_add(1, Ordering::Relaxed)) % PORTS)
        .map(|step| SocketAddr::from(([127, 0, 0, 1], 12_000 + step as u16)))
        .filter(|address| TcpListener::bind(address).is_ok())
        .take(count)
        .collect()
}

/// A dialogue of lines over TCP.
pub struct Lines(BufReader<TcpStream>);

impl Lines {
    pub fn connect(address: SocketAddr) -> Lines {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Lines(BufReader::new(stream))
    }

    pub fn send(&mut self, octets: &str) {
        self.0.get_mut().write_all(octets.as_bytes()).unwrap();
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a line, and gives the last line of the reply.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n"));
        loop {
            let line = self.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// All that comes until the end.
    pub fn rest(mut self) -> String {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.0, &mut text).unwrap();
        text
    }
}
