//! Reading things again while the server runs (R16, R29, R193). What is broken keeps its old content.

use super::logging::LogFile;
use crate::config::{self, Loaded};
use directory::signing::Signing;
use directory::{Directory, Severity};
use mail::Moment;
use net::{LentFiles, ServerTls, TlsError};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

/// What can be read again.
pub struct Reloader {
    /// The configuration that the server started with.
    pub loaded: Loaded,
    /// The tables.
    pub directory: Arc<Directory>,
    /// Keys that sign.
    pub signing: Arc<Signing>,
    /// The certificates of every listener.
    pub tls: Vec<Arc<ServerTls>>,
    /// The log file.
    pub log: LogFile,
    /// Origin of the directory's clock.
    pub since: Instant,
}

impl Reloader {
    /// Reads tables and certificates again, from `lent` where it holds them, and opens the log anew. Gives notes, or what
    /// went wrong.
    pub fn reload(&self, lent: &LentFiles) -> Result<Vec<String>, Vec<String>> {
        let mut causes = Vec::new();
        let mut notes = Vec::new();
        causes.extend(self.log.reopen().err().map(|error| format!("log file: {error}")));
        for tls in &self.tls {
            match tls.reload(lent) {
                Ok(()) => {}
                // R14: keys that belong to root are lent by `pillarbox reload`; a signal lends nothing, and is no failure.
                Err(TlsError::Read(_, error)) if lent.is_empty() && error.kind() == ErrorKind::PermissionDenied => {
                    notes.push("keys are not readable for the server; `pillarbox reload` renews certificates".into());
                }
                Err(error) => causes.push(error.to_string()),
            }
        }
        let lent_or_own = |path: &std::path::Path| match lent.get(path) {
            Some(text) => Ok(text.clone()),
            None => directory::signing::read_key_file(path),
        };
        for finding in self.signing.refresh_now(&lent_or_own).into_iter().chain(self.directory.refresh_now()) {
            // A warning is about a table that was taken all the same.
            let told = if finding.severity == Severity::Error { &mut causes } else { &mut notes };
            told.push(finding.to_string());
        }
        match config::load(&self.loaded.file) {
            Ok(now) if now.config != self.loaded.config => {
                notes.push("settings of the configuration file changed: they take effect at the next start".into());
            }
            Ok(_) => {}
            Err(findings) => causes.extend(findings.iter().map(ToString::to_string)),
        }
        causes.dedup();
        notes.dedup();
        if causes.is_empty() {
            tracing::info!(notes = notes.join("; "), "reloaded");
            Ok(notes)
        } else {
            Err(causes)
        }
    }

    /// Reads tables again that changed on disk. The directory logs what is wrong and keeps the old content.
    pub fn refresh_tables(&self) {
        self.directory.refresh(Moment(self.since.elapsed()));
        self.signing.refresh(Moment(self.since.elapsed()), &directory::signing::read_key_file);
    }

    /// The same at once, for an edit that was just made. Keys that only root can read are lent by [`Reloader::reload`].
    pub fn refresh_tables_now(&self) {
        self.directory.refresh_now();
        self.signing.refresh(Moment(self.since.elapsed()), &directory::signing::read_key_file);
    }
}
