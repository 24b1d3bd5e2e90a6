//! Programs that are not ours: run, fed, bounded in time, and their words kept for the assertion that fails.

use anyhow::{Context, bail, ensure};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest run of a program.
const RUN_MAX: Duration = Duration::from_secs(120);
/// How often it is looked whether a program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A program to run.
pub struct Peer {
    command: Command,
    name: String,
    typed: Vec<(Duration, Vec<u8>)>,
}

/// What a program did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit status; `None` for a signal.
    pub status: Option<i32>,
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error.
    pub errors: Vec<u8>,
    name: String,
}

impl Peer {
    /// A program by its name. It sees no configuration of whoever runs the tests.
    pub fn new(name: &str) -> Peer {
        let mut command = Command::new(name);
        command.env("HOME", "/nonexistent").env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        Peer { command, name: name.to_owned(), typed: Vec::new() }
    }

    /// A script of this crate, run by python3.
    pub fn script(name: &str) -> Peer {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
        let mut peer = Peer::new("python3").arg(path);
        // Without this, python leaves its compiled files in the source tree.
        peer.command.env("PYTHONDONTWRITEBYTECODE", "1");
        peer.name = name.to_owned();
        peer
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Peer {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Peer {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Peer {
        self.command.env(name, value);
        self
    }

    /// Runs it in a folder.
    pub fn folder(mut self, folder: &Path) -> Peer {
        self.command.current_dir(folder);
        self
    }

    /// Gives it standard input.
    pub fn input(mut self, octets: impl Into<Vec<u8>>) -> Peer {
        self.typed.push((Duration::ZERO, octets.into()));
        self
    }

    /// Types after a pause, as a person does.
    pub fn typed(mut self, pause: Duration, octets: impl Into<Vec<u8>>) -> Peer {
        self.typed.push((pause, octets.into()));
        self
    }

    /// Starts it and leaves it running.
    pub fn spawn(mut self) -> anyhow::Result<Running> {
        let child = self.command.stdin(Stdio::null()).spawn().with_context(|| missing(&self.name))?;
        Ok(Running(child))
    }

    /// Runs it to its end.
    pub fn run(mut self) -> anyhow::Result<Outcome> {
        let stdin = if self.typed.is_empty() { Stdio::null() } else { Stdio::piped() };
        let child = self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = Running(child.with_context(|| missing(&self.name))?);
        let mut stdin = child.0.stdin.take();
        let typed = std::mem::take(&mut self.typed);
        let typist = std::thread::spawn(move || {
            for (pause, octets) in typed {
                std::thread::sleep(pause);
                // A program that has heard enough closes its input.
                if stdin.as_mut().is_some_and(|stdin| stdin.write_all(&octets).and_then(|()| stdin.flush()).is_err()) {
                    break;
                }
            }
        });
        let output = reader(child.0.stdout.take());
        let errors = reader(child.0.stderr.take());
        let status = child.wait(RUN_MAX).with_context(|| self.name.clone())?;
        let read = |thread: std::thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
        let outcome = Outcome { status, output: read(output), errors: read(errors), name: self.name };
        // The typist ends by itself: its program's input is closed.
        drop(typist);
        Ok(outcome)
    }

    /// Runs it; an error unless it succeeds.
    pub fn succeed(self) -> anyhow::Result<Outcome> {
        let outcome = self.run()?;
        ensure!(outcome.status == Some(0), "{outcome}");
        Ok(outcome)
    }
}

fn reader(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut octets = Vec::new();
        if let Some(mut stream) = stream {
            // What was read before an error is what there is to show.
            let _ = stream.read_to_end(&mut octets);
        }
        octets
    })
}

fn missing(name: &str) -> String {
    format!("`{name}` cannot be run; `cargo xtask test` installs the packages that the tests need")
}

impl Outcome {
    /// Output and errors as text.
    pub fn text(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.output), String::from_utf8_lossy(&self.errors))
    }

    /// Whether what it said contains this.
    pub fn says(&self, words: &str) -> bool {
        self.text().contains(words)
    }

    /// An error unless it said this.
    pub fn must_say(&self, words: &str) -> anyhow::Result<()> {
        ensure!(self.says(words), "no `{words}` in:\n{self}");
        Ok(())
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ended with {:?}:\n{}", self.name, self.status, self.text())
    }
}

/// A running program, killed when dropped.
pub struct Running(Child);

impl Running {
    /// Waits for its end, and kills it when it takes too long.
    pub fn wait(&mut self, longest: Duration) -> anyhow::Result<Option<i32>> {
        let begun = Instant::now();
        while begun.elapsed() < longest {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!("still running after {longest:?}")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
