//! What was counted on each day, and what of it is still to be reported; kept in a file over a restart.
//!
//! It is a memory, not the truth: what a crash takes away since the last save is missing in a report, and a report that
//! went out after it goes out twice, under the same id.

use dns::Name;
use relay::TlsObserver;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use transport_security::tls_rpt::tally::{PolicyTally, Tally};
use transport_security::tls_rpt::{AppliedPolicy, FailedSession};

/// Seconds of a day in UTC.
pub(super) const DAY: u64 = 86_400;
/// Largest file that is read, in octets: more than ten thousand domains with a policy and some failures each take.
const FILE_OCTETS_MAX: u64 = 256 * 1024 * 1024;
const VERSION: u32 = 1;

/// Counts sessions by the day (UTC), the domain and the policy.
pub struct TlsJournal {
    file: Option<PathBuf>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    days: BTreeMap<u64, Day>,
    is_changed: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Day {
    tally: Tally,
    /// Domains whose report is not with all its destinations yet.
    tries: BTreeMap<String, Tries>,
}

/// What was done about a report so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Tries {
    /// Tries so far.
    pub count: u32,
    /// When to try again, in seconds since 1970.
    pub again_at: u64,
    /// Destinations that have it.
    pub done: BTreeSet<String>,
}

/// A report that is due.
#[derive(Debug, Clone)]
pub(super) struct Due {
    /// The day, counted since 1970.
    pub day: u64,
    /// The domain.
    pub domain: String,
    /// What it says.
    pub policies: Vec<PolicyTally>,
    /// What was done about it so far.
    pub tries: Tries,
}

#[derive(Deserialize)]
struct Stored {
    version: u32,
    days: BTreeMap<u64, Day>,
}

#[derive(Serialize)]
struct Storing<'a> {
    version: u32,
    days: &'a BTreeMap<u64, Day>,
}

impl TlsJournal {
    /// A journal that goes on where the file ends, if there is one. The error says why a file that is there cannot be read;
    /// it will be replaced.
    pub fn open(file: Option<PathBuf>) -> (TlsJournal, Option<io::Error>) {
        let (days, error) = match file.as_deref().map(load) {
            None => (BTreeMap::new(), None),
            Some(Ok(days)) => (days, None),
            Some(Err(error)) => (BTreeMap::new(), Some(error)),
        };
        (TlsJournal { file, memory: Mutex::new(Memory { days, is_changed: false }) }, error)
    }

    /// Counts a session that was at this time, in seconds since 1970.
    pub fn count(&self, at: u64, domain: &Name, policy: &AppliedPolicy, result: Result<(), FailedSession>) {
        let mut memory = self.memory();
        memory.is_changed = true;
        let tally = &mut memory.days.entry(at / DAY).or_default().tally;
        match result {
            Ok(()) => tally.succeeded(domain, policy),
            Err(failed) => tally.failed(domain, policy, failed),
        }
    }

    /// Up to `reports_max` reports of days that are over and whose time, by day and domain, has come.
    pub(super) fn due(&self, now: u64, due_at: impl Fn(u64, &str) -> u64, reports_max: usize) -> Vec<Due> {
        let memory = self.memory();
        let over = memory.days.range(..now / DAY);
        let of_day = |(day, kept): (&u64, &Day)| {
            let (day, due_at) = (*day, &due_at);
            let due = kept.tally.domains().filter_map(move |domain| {
                let tries = kept.tries.get(domain).cloned().unwrap_or_default();
                let is_due = now >= tries.again_at.max(due_at(day, domain));
                let policies = || kept.tally.of(domain).to_vec();
                is_due.then(|| Due { day, domain: domain.to_owned(), policies: policies(), tries })
            });
            due.take(reports_max).collect::<Vec<_>>()
        };
        over.flat_map(of_day).take(reports_max).collect()
    }

    /// A report is out, wanted by nobody, or given up.
    pub(super) fn settle(&self, day: u64, domain: &str) {
        let mut memory = self.memory();
        memory.is_changed = true;
        if let Some(kept) = memory.days.get_mut(&day) {
            kept.tally.remove(domain);
            kept.tries.remove(domain);
            if kept.tally.is_empty() {
                memory.days.remove(&day);
            }
        }
    }

    /// A report has to be tried again.
    pub(super) fn postpone(&self, day: u64, domain: &str, tries: Tries) {
        let mut memory = self.memory();
        memory.is_changed = true;
        if let Some(kept) = memory.days.get_mut(&day) {
            kept.tries.insert(domain.to_owned(), tries);
        }
    }

    /// Forgets days before this one; how many reports that are.
    pub(super) fn forget_before(&self, day: u64) -> usize {
        let mut memory = self.memory();
        let kept = memory.days.split_off(&day);
        let old = std::mem::replace(&mut memory.days, kept);
        memory.is_changed |= !old.is_empty();
        old.values().map(|day| day.tally.domains().count()).sum()
    }

    /// Replaces the file, if something changed since the last time. Blocks.
    pub fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let text = {
            let mut memory = self.memory();
            if !std::mem::take(&mut memory.is_changed) {
                return Ok(());
            }
            serde_json::to_vec(&Storing { version: VERSION, days: &memory.days })?
        };
        relay::state_file::replace(file, &text).inspect_err(|_| self.memory().is_changed = true)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing in there is left half done by a panic.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TlsObserver for TlsJournal {
    fn session(&self, domain: &Name, policy: &AppliedPolicy, result: Result<(), FailedSession>) {
        self.count(deliver::now().0 / 1_000, domain, policy, result);
    }
}

/// None when there is no file yet.
fn load(path: &Path) -> io::Result<BTreeMap<u64, Day>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(FILE_OCTETS_MAX).read_to_end(&mut text)?;
    let stored: Stored = serde_json::from_slice(&text)?;
    if stored.version != VERSION {
        return Err(io::Error::other(format!("version {} of the file is not known", stored.version)));
    }
    Ok(stored.days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use transport_security::tls_rpt::ResultType;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn domains(journal: &TlsJournal, now: u64) -> Vec<(u64, String)> {
        journal.due(now, |_, _| 0, 10).into_iter().map(|due| (due.day, due.domain)).collect()
    }

    #[test]
    fn a_restart_loses_nothing_and_days_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls-reports.json");
        let (journal, error) = TlsJournal::open(Some(file.clone()));
        assert!(error.is_none());
        let (net, org) = (name("example.net"), name("example.org"));
        let policy = AppliedPolicy::none(&net);
        journal.count(10 * DAY - 1, &net, &policy, Ok(()));
        journal.count(10 * DAY, &net, &policy, Err(FailedSession::new(ResultType::CertificateExpired, "by a day")));
        journal.count(10 * DAY, &org, &policy, Ok(()));
        let tries = Tries { count: 2, again_at: 12 * DAY, done: ["mailto:a@example.net".to_owned()].into() };
        journal.postpone(10, "example.org", tries.clone());
        journal.save().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        let (journal, error) = TlsJournal::open(Some(file.clone()));
        assert!(error.is_none());
        assert_eq!(domains(&journal, 10 * DAY), [(9, "example.net".to_owned())], "today is not over");
        assert_eq!(domains(&journal, 11 * DAY), [(9, "example.net".to_owned()), (10, "example.net".to_owned())]);
        assert_eq!(journal.due(12 * DAY, |_, _| 0, 10)[2].tries, tries);
        assert_eq!(journal.due(12 * DAY, |_, _| 0, 2).len(), 2);
        journal.settle(9, "example.net");
        journal.settle(10, "example.net");
        assert_eq!(domains(&journal, 12 * DAY), [(10, "example.org".to_owned())]);
        assert_eq!(journal.forget_before(11), 1);
        assert!(domains(&journal, 12 * DAY).is_empty());

        std::fs::write(&file, "{\"version\":1").unwrap();
        let (journal, error) = TlsJournal::open(Some(file.clone()));
        assert!(error.is_some() && domains(&journal, 12 * DAY).is_empty());
        journal.save().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"version\":1", "nothing counted, nothing to save");
        journal.count(1, &net, &policy, Ok(()));
        journal.save().unwrap();
        assert!(TlsJournal::open(Some(file)).1.is_none());
    }
}
