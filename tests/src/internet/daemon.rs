//! Programs that run until they are told to end.

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a program to be ready.
const READY_MAX: Duration = Duration::from_secs(20);
/// Longest wait for a program to end by itself; then it is killed.
const END_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether it is ready, or has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running program; ended when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program in the foreground. What it prints goes to a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Daemon> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = command
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("`{name}` cannot be run; `cargo xtask test` installs what the tests need"))?;
        Ok(Daemon { child, log: log.to_owned() })
    }

    /// Waits until it is ready; an error with what it printed when it ends before, or takes too long.
    pub(crate) fn wait_until(&mut self, mut is_ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !is_ready() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || begun.elapsed() > READY_MAX {
                let printed = std::fs::read(&self.log).unwrap_or_default();
                bail!("not ready, {ended:?}; {}:\n{}", self.log.display(), String::from_utf8_lossy(&printed));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn ends_by_itself(&mut self) -> bool {
        if kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).is_err() {
            return false;
        }
        let begun = Instant::now();
        while begun.elapsed() < END_MAX {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(LOOK_EVERY),
                ended => return ended.is_ok(),
            }
        }
        false
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        if !self.ends_by_itself() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
