//! Log lines: one event a line, as text or JSON, to standard error or a file that is opened anew on SIGHUP (R47).

use crate::config::{Log, LogFormat};
use anyhow::Context;
use net::confine::Identity;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Where lines go; clones share it.
#[derive(Clone)]
pub struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<Option<File>>>,
}

/// Begins to log as configured.
pub fn start(settings: &Log, identity: Option<&Identity>) -> anyhow::Result<LogFile> {
    // The validator tells of every forged answer with the whole of it; what follows from one is told by us.
    let level = format!("hickory_net=error,hickory_proto=error,{}", settings.level);
    let filter = EnvFilter::try_new(&level).with_context(|| format!("log.level `{}`", settings.level))?;
    let log = LogFile { path: settings.file.clone(), file: Arc::default() };
    if !log.path.as_os_str().is_empty() {
        log.reopen().with_context(|| format!("log.file {}", log.path.display()))?;
        if let Some(identity) = identity {
            std::os::unix::fs::chown(&log.path, Some(identity.user), Some(identity.group))?;
        }
    }
    let colours = log.path.as_os_str().is_empty() && io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone()).with_ansi(colours);
    // Only one subscriber can be: a process that serves twice keeps its first.
    let _ = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(log)
}

impl LogFile {
    /// Opens the file anew, so that a renamed one is let go. Nothing to do on standard error.
    pub fn reopen(&self) -> io::Result<()> {
        if self.path.as_os_str().is_empty() {
            return Ok(());
        }
        let file = open(&self.path)?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    // V51: a link planted in a log folder must not lead our writes elsewhere.
    let no_follow = nix::libc::O_NOFOLLOW;
    OpenOptions::new().create(true).append(true).mode(0o640).custom_flags(no_follow).open(path)
}

impl Write for LogFile {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match &mut *self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write(octets),
            None => io::stderr().write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = LogFile;

    fn make_writer(&'a self) -> LogFile {
        self.clone()
    }
}
