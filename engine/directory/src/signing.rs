//! The keys with which mail of our domains is signed (DKIM): the table that names them, and the keys themselves.
//!
//! The table is a text file, a line a key: `domain selector key-file [state]`. `.example.net` signs, as example.net, the
//! mail of all domains below it (RFC 6376 §3.10). Key files count from the table's folder, belong to their owner alone
//! (R14), and are read while that is still possible: at the start, and when somebody who may read them lends them.
//! Changing the table is in [`edit`]; what a signature is, is known to [`sender_auth::dkim`].

pub mod edit;

pub use sender_auth::dkim::{Algorithm, Selector, SigningKey};

use crate::table::{Finding, Parsed, Source, TableError, keep, shown};
use crate::watch::{Need, Refreshed, Watched};
use arc_swap::ArcSwap;
use mail::{Domain, Moment, Secret};
use sender_auth::dkim::{KEY_OCTETS_MAX, KeyError};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Most keys of a table.
pub const KEYS_MAX: usize = 20_000;

/// What is done with a key. A change of keys goes through all three, so that whoever verifies always finds the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It is the next: its record is to be published, it does not sign yet.
    Published,
    /// It signs.
    Active,
    /// It signs no more; its record stays as long as mail is about that it signed.
    Retired,
}

impl State {
    /// Reads the word of the table.
    pub fn parse(word: &str) -> Option<State> {
        [State::Published, State::Active, State::Retired].into_iter().find(|state| state.name() == word)
    }

    /// The word of the table.
    pub fn name(self) -> &'static str {
        match self {
            State::Published => "published",
            State::Active => "active",
            State::Retired => "retired",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose mail a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// That of its domain.
    Itself,
    /// That of the domains below its domain.
    Below,
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The domain that signs.
    pub domain: Domain,
    /// Whose mail.
    pub scope: Scope,
    /// Which of the domain's keys.
    pub selector: Selector,
    /// Where the key is.
    pub file: PathBuf,
    /// What is done with it.
    pub state: State,
    /// Its line, from 1 up.
    pub line: usize,
}

impl Entry {
    /// The domain as it stands in the table, a dot in front where the key is for what lies below.
    pub fn written_domain(&self) -> String {
        let dot = if self.scope == Scope::Below { "." } else { "" };
        format!("{dot}{}", self.domain)
    }

    /// Reads the key. `files` reads the file.
    pub fn load(&self, files: &KeyFiles<'_>) -> Result<SigningKey, LoadError> {
        let pem = files(&self.file).map_err(|error| LoadError::Read(self.file.clone(), error))?;
        SigningKey::from_pem(self.domain.clone(), self.selector.clone(), &pem)
            .map_err(|error| LoadError::Key(self.file.clone(), error))
    }
}

/// Why a key of the table cannot be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// Its file cannot be read, or is not private.
    Read(PathBuf, io::Error),
    /// The file holds no key that can be used.
    Key(PathBuf, KeyError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Read(path, error) => write!(f, "{}: {error}", path.display()),
            LoadError::Key(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for LoadError {}

impl LoadError {
    /// Whether only permission is missing: root's keys once root was given up.
    fn is_denied(&self) -> bool {
        matches!(self, LoadError::Read(_, error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// The table as it is written.
#[derive(Debug, Default)]
pub struct SigningTable {
    /// Its lines, in order.
    pub entries: Vec<Entry>,
}

impl SigningTable {
    /// Reads a table. A domain whose mail nobody signs is a finding.
    pub fn read(source: &Source<'_>) -> Result<Parsed<SigningTable>, TableError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut findings = Vec::new();
        let mut places: HashMap<(Domain, Selector), Vec<usize>> = HashMap::new();
        for line in source.lines()? {
            let entry = read_entry(source, line.number, line.text)?;
            if entries.len() == KEYS_MAX {
                return Err(source.error(line.number, format!("more than {KEYS_MAX} keys"), "split the table"));
            }
            let same_name = places.entry((entry.domain.clone(), entry.selector.clone())).or_default();
            let mut twins = same_name.iter().filter_map(|index| entries.get(*index));
            let name = format!("{} of {}", entry.selector, entry.domain);
            if let Some(twin) = twins.clone().find(|twin| twin.file != entry.file) {
                // RFC 6376 §3.6.2.2: a name has one key record.
                let cause = format!("selector {name} has another key in line {}", twin.line);
                return Err(source.error(line.number, cause, "give each key a selector of its own"));
            }
            if let Some(twin) = twins.find(|twin| twin.scope == entry.scope) {
                let cause = format!("selector {name} stands more than once, line {} counts", twin.line);
                keep(&mut findings, source.warning(line.number, cause, "remove one of the lines"));
                continue;
            }
            same_name.push(entries.len());
            entries.push(entry);
        }
        let table = SigningTable { entries };
        for entry in table.without_signer() {
            let cause = format!("no key of {} is active, so its mail is not signed", entry.written_domain());
            keep(&mut findings, source.warning(entry.line, cause, "activate one: pillarbox dkim rotate"));
        }
        Ok(Parsed { content: table, findings })
    }

    /// The keys of a domain, in the order of the table.
    pub fn of<'a>(&'a self, domain: &'a Domain) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.domain == *domain)
    }

    /// The first entries of domains that have no active one.
    fn without_signer(&self) -> Vec<&Entry> {
        let mut first: HashMap<(&Domain, Scope), Option<&Entry>> = HashMap::new();
        for entry in &self.entries {
            let place = first.entry((&entry.domain, entry.scope)).or_insert(Some(entry));
            if entry.state == State::Active {
                *place = None;
            }
        }
        let mut without: Vec<&Entry> = first.into_values().flatten().collect();
        without.sort_by_key(|entry| entry.line);
        without
    }
}

fn read_entry(source: &Source<'_>, line: usize, text: &str) -> Result<Entry, TableError> {
    let mut words = text.split_whitespace();
    let (Some(domain), Some(selector), Some(file), state, None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(source.error(line, "not three or four words", "write: domain selector key-file [state]"));
    };
    let (scope, name) = match domain.strip_prefix('.') {
        Some(parent) => (Scope::Below, parent),
        None => (Scope::Itself, domain),
    };
    let domain = Domain::parse(name).ok().filter(|domain| !domain.is_literal()).ok_or_else(|| {
        let cure = "write a domain, such as example.net, or .example.net for those below it";
        source.error(line, format!("{} is no domain", shown(domain)), cure)
    })?;
    let selector = Selector::parse(selector).ok_or_else(|| {
        let cause = format!("{} is no selector", shown(selector));
        source.error(line, cause, "use letters, digits and hyphens, as in a host name")
    })?;
    let state = match state {
        None => State::Active,
        Some(word) => State::parse(word).ok_or_else(|| {
            let cause = format!("{} is no state", shown(word));
            source.error(line, cause, "write published, active or retired; active where nothing stands")
        })?,
    };
    let folder = source.file.parent().unwrap_or(Path::new(""));
    Ok(Entry { domain, scope, selector, file: folder.join(file), state, line })
}

/// How a key file is read: [`read_key_file`], or somebody who lends its text.
pub type KeyFiles<'a> = dyn Fn(&Path) -> io::Result<Secret> + 'a;

/// Reads a key file, which nobody but its owner may be able to read (R14).
pub fn read_key_file(path: &Path) -> io::Result<Secret> {
    // A pipe would block the open for ever, so the kind is looked at first.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let cause =
            format!("mode {mode:04o} lets others than its owner read the key; run: chmod 600 {}", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, cause));
    }
    let mut text = String::new();
    file.take(KEY_OCTETS_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(Secret::new(text))
}

/// The keys, ready to sign. Cheap to share; every method takes `&self`.
#[derive(Debug)]
pub struct Signing {
    table: Mutex<Watched<SigningTable>>,
    keys: ArcSwap<Keys>,
}

/// One picture of all keys.
#[derive(Debug, Default)]
struct Keys {
    loaded: Vec<(Entry, Arc<SigningKey>)>,
    exact: HashMap<Domain, Vec<Arc<SigningKey>>>,
    below: HashMap<Domain, Vec<Arc<SigningKey>>>,
}

impl Signing {
    /// Reads the table and all its keys; a table that does not exist is empty. To be done before privileges are given
    /// up, since keys belong to root alone (R14). Everything that cannot be used is named.
    pub fn open(table: &Path, files: &KeyFiles<'_>) -> Result<Signing, Vec<TableError>> {
        let watched = Watched::open(table, Need::Optional, SigningTable::read).map_err(|error| vec![error])?;
        watched.findings().iter().for_each(log);
        let (keys, _) = Keys::load(&watched, &Keys::default(), files)?;
        Ok(Signing { table: Mutex::new(watched), keys: ArcSwap::from_pointee(keys) })
    }

    /// The keys that sign mail whose author is of this domain, in the order of the table: those of the domain itself, or
    /// else those of the nearest `.parent`. Empty when it is not to be signed.
    pub fn keys_for(&self, domain: &Domain) -> Vec<Arc<SigningKey>> {
        let keys = self.keys.load();
        if let Some(own) = keys.exact.get(domain) {
            return own.clone();
        }
        if keys.below.is_empty() {
            return Vec::new();
        }
        let mut parents = std::iter::successors(domain.parent(), Domain::parent);
        parents.find_map(|parent| keys.below.get(&parent).cloned()).unwrap_or_default()
    }

    /// Every key with its line, whatever its state.
    pub fn all(&self) -> Vec<(Entry, Arc<SigningKey>)> {
        self.keys.load().loaded.clone()
    }

    /// Takes up a change of the table; looks at it at most once a second. A key that was loaded before need not be
    /// readable any more. What is returned is new and has been logged; when it holds an error, the old keys stay.
    pub fn refresh(&self, now: Moment, files: &KeyFiles<'_>) -> Vec<Finding> {
        // Who finds another at work uses the picture there is.
        let Ok(mut table) = self.table.try_lock() else { return Vec::new() };
        let findings = match table.check(now) {
            Refreshed::Same => return Vec::new(),
            Refreshed::Kept(error) => vec![error.into()],
            // What could not be read again was readable once: nobody needs to hear of that here.
            Refreshed::Replaced(new) => new.into_iter().chain(self.load(&table, files).0).collect(),
        };
        findings.iter().for_each(log);
        findings
    }

    /// Reads the table and all keys again now. Gives what is new, and what is wrong, whether or not it was said before;
    /// when that holds an error, the old keys stay.
    pub fn refresh_now(&self, files: &KeyFiles<'_>) -> Vec<Finding> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.make_due();
        let mut findings = match table.check(Moment::default()) {
            Refreshed::Same | Refreshed::Kept(_) => Vec::new(),
            Refreshed::Replaced(new) => new,
        };
        match table.fault() {
            Some(fault) => findings.push(fault.clone().into()),
            None => {
                let (errors, reused) = self.load(&table, files);
                findings.extend(errors.into_iter().chain(reused));
            }
        }
        findings.iter().for_each(log);
        findings
    }

    /// Loads all keys, and takes them into use if that goes well. What went wrong, and what could not be read again.
    fn load(&self, table: &Watched<SigningTable>, files: &KeyFiles<'_>) -> (Vec<Finding>, Option<Finding>) {
        match Keys::load(table, &self.keys.load(), files) {
            Ok((keys, reused)) => {
                self.keys.store(Arc::new(keys));
                (Vec::new(), reused)
            }
            Err(errors) => (errors.into_iter().map(Finding::from).collect(), None),
        }
    }
}

impl Keys {
    fn load(
        table: &Watched<SigningTable>,
        old: &Keys,
        files: &KeyFiles<'_>,
    ) -> Result<(Keys, Option<Finding>), Vec<TableError>> {
        let source = Source { file: table.path(), octets: b"" };
        let old: HashMap<(&Domain, &Selector, &Path), &Arc<SigningKey>> =
            old.loaded.iter().map(|(entry, key)| (name_of(entry), key)).collect();
        let mut keys = Keys::default();
        let mut errors = Vec::new();
        let mut reused = None;
        for entry in &table.content().entries {
            let key = match entry.load(files) {
                Ok(key) => Arc::new(key),
                Err(error) => match old.get(&name_of(entry)).filter(|_| error.is_denied()) {
                    Some(key) => {
                        let cause = "keys are not readable for the server: those that are known stay in use";
                        reused = Some(source.warning(0, cause, "`pillarbox reload` renews them"));
                        Arc::clone(key)
                    }
                    None => {
                        let cure =
                            "make it with `pillarbox dkim key`; what only root can read, `pillarbox reload` lends";
                        errors.push(source.error(entry.line, error.to_string(), cure));
                        continue;
                    }
                },
            };
            if entry.state == State::Active {
                let map = if entry.scope == Scope::Itself { &mut keys.exact } else { &mut keys.below };
                map.entry(entry.domain.clone()).or_default().push(key.clone());
            }
            keys.loaded.push((entry.clone(), key));
        }
        if errors.is_empty() { Ok((keys, reused)) } else { Err(errors) }
    }
}

fn name_of(entry: &Entry) -> (&Domain, &Selector, &Path) {
    (&entry.domain, &entry.selector, &entry.file)
}

fn log(finding: &Finding) {
    let Finding { severity, file, line, cause, cure } = finding;
    tracing::warn!(?severity, file = %file.display(), line, cause, cure, "table");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Severity;
    use crate::testing::Folder;
    use edit::NewKey;
    use std::cell::RefCell;
    use std::time::Duration;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn read(text: &str) -> Result<Parsed<SigningTable>, TableError> {
        SigningTable::read(&Source { file: Path::new("/etc/pillarbox/dkim"), octets: text.as_bytes() })
    }

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    /// A folder with three keys.
    fn folder() -> Folder {
        let folder = Folder::new();
        for name in ["a.pem", "b.pem", "c.pem"] {
            let path = folder.write(name, NewKey::Ed25519.make().unwrap().expose());
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        folder
    }

    fn selectors(signing: &Signing, of: &str) -> Vec<String> {
        signing.keys_for(&domain(of)).iter().map(|key| format!("{}/{}", key.selector(), key.domain())).collect()
    }

    #[test]
    fn r164_lines_of_the_table() {
        let text = "# keys\nExample.net  2026  dkim-keys/a.pem\n\n.example.net 2026 dkim-keys/a.pem retired\n\
                    example.org next /root/b.pem published\nexample.org now c.pem active\n";
        let parsed = read(text).unwrap();
        let shown: Vec<String> = parsed
            .content
            .entries
            .iter()
            .map(|e| format!("{} {} {} {} {}", e.line, e.written_domain(), e.selector, e.file.display(), e.state))
            .collect();
        assert_eq!(
            shown,
            [
                "2 example.net 2026 /etc/pillarbox/dkim-keys/a.pem active",
                "4 .example.net 2026 /etc/pillarbox/dkim-keys/a.pem retired",
                "5 example.org next /root/b.pem published",
                "6 example.org now /etc/pillarbox/c.pem active",
            ]
        );
        assert_eq!(parsed.findings.len(), 1);
        assert_eq!((parsed.findings[0].line, parsed.findings[0].severity), (Some(4), Severity::Warning));
        assert_eq!(parsed.content.of(&domain("example.org")).count(), 2);
    }

    #[test]
    fn r196_faults_are_named_with_their_line() {
        for text in [
            "example.net a",
            "example.net",
            "example.net a b.pem active now",
            "example.net a b.pem Active",
            "example.net a b.pem gone",
            "exa mple.net a b.pem x",
            "[192.0.2.1] a b.pem",
            "*.example.net a b.pem",
            "example.net a;b b.pem",
            "example.net a..b b.pem",
            "ok.example s other.pem",
        ] {
            assert_eq!(read(&format!("ok.example s ok.pem\n{text}\n")).unwrap_err().line, Some(2), "{text}");
        }
        let twice = read("a.example s a.pem\na.example s a.pem retired\n").unwrap();
        assert_eq!((twice.content.entries.len(), twice.findings[0].line), (1, Some(2)));
    }

    #[test]
    fn r164_active_keys_sign_for_their_domain_or_those_below() {
        let folder = folder();
        let table = folder.write(
            "dkim",
            "example.net one a.pem\nexample.net two b.pem active\nexample.net three c.pem published\n\
             .example.net below c.pem\n.deep.example.net deep c.pem\nother.example old c.pem retired\n",
        );
        let signing = Signing::open(&table, &read_key_file).unwrap();
        for (of, expected) in [
            ("EXAMPLE.net", vec!["one/example.net", "two/example.net"]),
            ("sub.example.net", vec!["below/example.net"]),
            ("a.b.example.net", vec!["below/example.net"]),
            ("deep.example.net", vec!["below/example.net"]),
            ("x.deep.example.net", vec!["deep/deep.example.net"]),
            ("notexample.net", vec![]),
            ("other.example", vec![]),
            ("sub.other.example", vec![]),
            ("[192.0.2.1]", vec![]),
        ] {
            assert_eq!(selectors(&signing, of), expected, "{of}");
        }
        assert_eq!(signing.all().len(), 6);
        assert!(Signing::open(&folder.path("none"), &read_key_file).unwrap().all().is_empty());
    }

    #[test]
    fn r14_r196_keys_that_cannot_be_used_are_all_named_at_once() {
        let folder = folder();
        folder.write("bad.pem", "no key");
        folder.write("open.pem", "no key");
        std::fs::set_permissions(folder.path("bad.pem"), std::fs::Permissions::from_mode(0o400)).unwrap();
        std::fs::set_permissions(folder.path("open.pem"), std::fs::Permissions::from_mode(0o640)).unwrap();
        let table = folder.write(
            "dkim",
            "a.example s a.pem\na.example b bad.pem\na.example c open.pem\na.example d none.pem\na.example e .\n",
        );
        let errors = Signing::open(&table, &read_key_file).unwrap_err();
        assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [Some(2), Some(3), Some(4), Some(5)]);
        for (error, part) in errors.iter().zip(["holds no private key", "chmod 600", "none.pem", "not a plain file"]) {
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn r193_changes_are_taken_up_and_broken_ones_are_not() {
        let folder = folder();
        let table = folder.write("dkim", "example.net one a.pem\nexample.net two b.pem published\n");
        let signing = Signing::open(&table, &read_key_file).unwrap();
        folder.write("dkim", "example.net one a.pem retired\nexample.net two b.pem\n");
        assert!(signing.refresh(at(1), &read_key_file).is_empty());
        assert_eq!(selectors(&signing, "example.net"), ["two/example.net"]);
        for broken in ["example.net\n", "example.net one a.pem\nexample.net two gone.pem\n"] {
            folder.write("dkim", broken);
            let findings = signing.refresh_now(&read_key_file);
            assert_eq!((findings.len(), findings[0].severity), (1, Severity::Error), "{findings:?}");
            assert_eq!(selectors(&signing, "example.net"), ["two/example.net"]);
            assert_eq!(signing.refresh_now(&read_key_file), findings, "who asks hears of it again");
        }
        folder.write("dkim", "example.net three c.pem\n");
        assert!(signing.refresh_now(&read_key_file).is_empty());
        assert_eq!(selectors(&signing, "example.net"), ["three/example.net"]);
        // Another key in the same file is found when it is asked for.
        let before = signing.all()[0].1.public_record();
        folder.write("c.pem", NewKey::Ed25519.make().unwrap().expose());
        assert!(signing.refresh(at(9), &read_key_file).is_empty());
        assert_eq!(signing.all()[0].1.public_record(), before);
        assert!(signing.refresh_now(&read_key_file).is_empty());
        assert_ne!(signing.all()[0].1.public_record(), before);
    }

    #[test]
    fn r14_keys_of_root_stay_in_use_and_new_ones_are_lent() {
        let folder = folder();
        let table = folder.write("dkim", "example.net one a.pem\nexample.net two b.pem published\n");
        let signing = Signing::open(&table, &read_key_file).unwrap();
        let lent: RefCell<Vec<PathBuf>> = RefCell::default();
        let files = |path: &Path| {
            if lent.borrow().iter().any(|lent| lent == path) {
                return read_key_file(path);
            }
            Err(io::ErrorKind::PermissionDenied.into())
        };
        // What was loaded needs no file, whatever its state becomes.
        folder.write("dkim", "example.net one a.pem retired\nexample.net two b.pem\n");
        assert!(signing.refresh(at(1), &files).is_empty());
        assert_eq!(selectors(&signing, "example.net"), ["two/example.net"]);
        let findings = signing.refresh_now(&files);
        assert_eq!((findings.len(), findings[0].severity), (1, Severity::Warning), "{findings:?}");
        // What is new does.
        folder.write("dkim", "example.net two b.pem\nexample.net three c.pem\n");
        let findings = signing.refresh(at(5), &files);
        assert_eq!((findings[0].line, findings[0].severity), (Some(2), Severity::Error), "{findings:?}");
        assert!(findings[0].cure.contains("pillarbox reload"));
        assert_eq!(selectors(&signing, "example.net"), ["two/example.net"]);
        lent.borrow_mut().extend([folder.path("b.pem"), folder.path("c.pem")]);
        assert!(signing.refresh_now(&files).is_empty());
        assert_eq!(selectors(&signing, "example.net"), ["two/example.net", "three/example.net"]);
    }
}
