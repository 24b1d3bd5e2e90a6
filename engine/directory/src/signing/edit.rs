//! Changing the signing keys by command: making them, and leading them from published to active to retired to gone.
//!
//! A change of keys is three steps with time between them, because those who verify see our DNS late: the next key is
//! published; when its record can be seen it signs in the place of the old one, which is retired; when no mail is about
//! any more that the old one signed, it is removed, and so may be its record.

use super::{Algorithm, Entry, LoadError, Scope, Selector, SigningKey, SigningTable, State, read_key_file};
use crate::edit::EditError;
use crate::edit::commit::{Lock, commit};
use crate::edit::draft::Draft;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail::{Domain, Secret};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder of new keys, beside the table. Its owner alone may look into it (R14).
pub const KEY_FOLDER: &str = "dkim-keys";
/// Most selectors that are tried for one day.
const SELECTORS_A_DAY_MAX: u8 = 26;
/// Octets of base64 in a line of PEM (RFC 7468 §2).
const PEM_LINE_OCTETS: usize = 64;

/// What kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NewKey {
    /// RSA of 2048 bits; what RFC 8301 §3.2 recommends, and DNS bears well.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits, the most that verifiers need to bear.
    Rsa4096,
    /// Ed25519, which not every verifier knows: beside an RSA key, never alone (RFC 8463 §6).
    Ed25519,
}

impl NewKey {
    /// RSA of so many bits, if that is a size there is.
    pub fn rsa(bits: u32) -> Option<NewKey> {
        match bits {
            2_048 => Some(NewKey::Rsa2048),
            3_072 => Some(NewKey::Rsa3072),
            4_096 => Some(NewKey::Rsa4096),
            _ => None,
        }
    }

    /// What it signs with.
    pub fn algorithm(self) -> Algorithm {
        match self {
            NewKey::Rsa2048 | NewKey::Rsa3072 | NewKey::Rsa4096 => Algorithm::Rsa,
            NewKey::Ed25519 => Algorithm::Ed25519,
        }
    }

    /// Makes a key, as PEM text (PKCS #8). `None` when there are no random numbers.
    pub fn make(self) -> Option<Secret> {
        let rsa = |size| -> Option<Vec<u8>> {
            let pair = RsaKeyPair::generate(size).ok()?;
            pair.as_der().ok().map(|der| der.as_ref().to_vec())
        };
        let der = match self {
            NewKey::Rsa2048 => rsa(KeySize::Rsa2048)?,
            NewKey::Rsa3072 => rsa(KeySize::Rsa3072)?,
            NewKey::Rsa4096 => rsa(KeySize::Rsa4096)?,
            // The form without the public half, which other programs read as well.
            NewKey::Ed25519 => Ed25519KeyPair::generate().ok()?.to_pkcs8v1().ok()?.as_ref().to_vec(),
        };
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        let mut line_octets = 0;
        for character in STANDARD.encode(der).chars() {
            if line_octets == PEM_LINE_OCTETS {
                pem.push('\n');
                line_octets = 0;
            }
            pem.push(character);
            line_octets += 1;
        }
        pem.push_str("\n-----END PRIVATE KEY-----\n");
        Some(Secret::new(pem))
    }
}

/// What an activation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activated {
    /// Keys that sign now.
    pub activated: Vec<Selector>,
    /// Keys that signed before. Their records must stay for a while.
    pub retired: Vec<Selector>,
}

/// What [`SigningEditor::retire`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retired {
    /// The key was active, and is retired now.
    Retired,
    /// The key signs no mail any more, or never did; it is gone now, with its file.
    Removed,
}

/// Edits the table of signing keys.
#[derive(Debug, Clone)]
pub struct SigningEditor {
    table: PathBuf,
}

impl SigningEditor {
    /// An editor of this table. Nothing is read or locked yet.
    pub fn new(table: &Path) -> SigningEditor {
        SigningEditor { table: table.to_owned() }
    }

    /// The table as it is; empty where there is none.
    pub fn table(&self) -> Result<SigningTable, EditError> {
        read(&Draft::read(&self.table)?)
    }

    /// A selector for a new key that no key of the domain has or had: the day, such as `20260701`, a letter when there
    /// was one that day, and the kind of key, since each needs a name of its own (RFC 8463 §6).
    pub fn unused_selector(&self, domain: &Domain, day: &str, kind: NewKey) -> Result<Selector, EditError> {
        let table = self.table()?;
        let letters = std::iter::once(String::new()).chain((b'b'..).take(25).map(|c| char::from(c).to_string()));
        letters
            .take(usize::from(SELECTORS_A_DAY_MAX))
            .filter_map(|letter| Selector::parse(&format!("{day}{letter}-{}", kind.algorithm().key_type())))
            .find(|selector| {
                table.of(domain).all(|entry| entry.selector != *selector) && !self.key_file(domain, selector).exists()
            })
            .ok_or_else(|| EditError::Exists(format!("every selector of {day} for {domain}")))
    }

    /// Makes keys for a domain and puts them into the table: for the same mail as its other keys, or, when they are the
    /// first, for that of the domain itself. Gives them with the files they were written to.
    pub fn add(
        &self,
        domain: &Domain,
        state: State,
        new: &[(Selector, NewKey)],
    ) -> Result<Vec<(PathBuf, SigningKey)>, EditError> {
        let _lock = Lock::take(&[&self.table])?;
        let mut draft = Draft::read(&self.table)?;
        let table = read(&draft)?;
        let is_used = |scope: &Scope| table.of(domain).any(|entry| entry.scope == *scope);
        let mut scopes: Vec<Scope> = [Scope::Itself, Scope::Below].into_iter().filter(is_used).collect();
        if scopes.is_empty() {
            scopes.push(Scope::Itself);
        }
        let mut written = Written::default();
        let mut keys = Vec::new();
        for (selector, kind) in new {
            let before = table.of(domain).map(|entry| &entry.selector);
            let made = keys.iter().map(|(_, key): &(PathBuf, SigningKey)| key.selector());
            if before.chain(made).any(|taken| taken == selector) {
                return Err(EditError::Exists(format!("selector {selector} of {domain}")));
            }
            let file = self.key_file(domain, selector);
            let pem = kind.make().ok_or_else(|| EditError::Disk(file.clone(), "no random numbers".into()))?;
            let key = SigningKey::from_pem(domain.clone(), selector.clone(), &pem)
                .map_err(|error| EditError::Invalid(error.to_string()))?;
            written.write(&file, &pem).map_err(|error| EditError::Disk(file.clone(), error.to_string()))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            for scope in &scopes {
                let dot = if *scope == Scope::Below { "." } else { "" };
                draft.append(&format!("{dot}{domain} {selector} {KEY_FOLDER}/{name} {state}"));
            }
            keys.push((file, key));
        }
        put(draft)?;
        written.keep();
        Ok(keys)
    }

    /// Lets the published keys of a domain sign, in the place of its active ones of the same algorithm, which are retired.
    pub fn activate(&self, domain: &Domain) -> Result<Activated, EditError> {
        let _lock = Lock::take(&[&self.table])?;
        let mut draft = Draft::read(&self.table)?;
        let table = read(&draft)?;
        let in_state = |state| table.of(domain).filter(move |entry| entry.state == state);
        let next = in_state(State::Published).map(loaded).collect::<Result<Vec<_>, _>>()?;
        if next.is_empty() {
            return Err(EditError::Unknown(format!("a published key of {domain}")));
        }
        let mut done = Activated { activated: Vec::new(), retired: Vec::new() };
        let mut changes = Vec::new();
        for entry in in_state(State::Active) {
            let (_, algorithm) = loaded(entry)?;
            let is_replaced = |(by, kind): &(&Entry, Algorithm)| *kind == algorithm && by.scope == entry.scope;
            if next.iter().any(is_replaced) {
                changes.push((entry.line, State::Retired));
                push_new(&mut done.retired, &entry.selector);
            }
        }
        for (entry, _) in &next {
            changes.push((entry.line, State::Active));
            push_new(&mut done.activated, &entry.selector);
        }
        set_states(&mut draft, &changes);
        put(draft)?;
        Ok(done)
    }

    /// Retires an active key; any other is removed, with its file if that is of our making and no other line names it. The
    /// file goes last, so that no table names a file that is not there.
    pub fn retire(&self, domain: &Domain, selector: &Selector) -> Result<Retired, EditError> {
        let _lock = Lock::take(&[&self.table])?;
        let mut draft = Draft::read(&self.table)?;
        let table = read(&draft)?;
        let mine: Vec<&Entry> = table.of(domain).filter(|entry| entry.selector == *selector).collect();
        let Some(first) = mine.first() else {
            return Err(EditError::Unknown(format!("selector {selector} of {domain}")));
        };
        if mine.iter().any(|entry| entry.state == State::Active) {
            let changes: Vec<(usize, State)> = mine.iter().map(|entry| (entry.line, State::Retired)).collect();
            set_states(&mut draft, &changes);
            put(draft)?;
            return Ok(Retired::Retired);
        }
        let lines: Vec<usize> = mine.iter().map(|entry| entry.line).collect();
        draft.rewrite(|number, line| (!lines.contains(&number)).then(|| line.to_owned()));
        put(draft)?;
        let is_shared = table.entries.iter().any(|entry| entry.file == first.file && !lines.contains(&entry.line));
        if !is_shared && first.file == self.key_file(domain, selector) {
            let removed = std::fs::remove_file(&first.file);
            removed
                .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
                .map_err(|error| EditError::Disk(first.file.clone(), error.to_string()))?;
        }
        Ok(Retired::Removed)
    }

    /// Where the key of a selector is written.
    fn key_file(&self, domain: &Domain, selector: &Selector) -> PathBuf {
        let folder = self.table.parent().unwrap_or(Path::new(""));
        folder.join(KEY_FOLDER).join(format!("{domain}-{selector}.pem"))
    }
}

fn read(draft: &Draft) -> Result<SigningTable, EditError> {
    let parsed = SigningTable::read(&draft.source()).map_err(|error| EditError::Tables(vec![error]))?;
    Ok(parsed.content)
}

/// Puts the new text into place, if it can be read.
fn put(draft: Draft) -> Result<(), EditError> {
    read(&draft)?;
    // The table is no secret, the keys it names are.
    commit(&[draft], Path::new(""))
}

fn loaded(entry: &Entry) -> Result<(&Entry, Algorithm), EditError> {
    let key = entry.load(&read_key_file).map_err(|error| match error {
        LoadError::Read(path, error) => EditError::Disk(path, error.to_string()),
        LoadError::Key(path, error) => EditError::Disk(path, error.to_string()),
    })?;
    Ok((entry, key.algorithm()))
}

fn push_new(selectors: &mut Vec<Selector>, selector: &Selector) {
    if !selectors.contains(selector) {
        selectors.push(selector.clone());
    }
}

/// Writes states into lines; whatever else stands there stays.
fn set_states(draft: &mut Draft, changes: &[(usize, State)]) {
    draft.rewrite(|number, line| {
        let Some((_, state)) = changes.iter().find(|(at, _)| *at == number) else { return Some(line.to_owned()) };
        let text = line.trim_end();
        let without = match text.rsplit_once([' ', '\t']) {
            Some((head, last)) if text.split_whitespace().count() > 3 && State::parse(last).is_some() => {
                head.trim_end()
            }
            Some(_) | None => text,
        };
        Some(format!("{without} {state}"))
    });
}

/// Key files that were written; removed again unless they are kept.
#[derive(Default)]
struct Written(Vec<PathBuf>);

impl Written {
    /// A new file only, never one that is there; durable when this returns.
    fn write(&mut self, path: &Path, pem: &Secret) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.0.push(path.to_owned());
        file.write_all(pem.expose().as_bytes())?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for path in &self.0 {
            // A file that stays is a key that no table names.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use std::os::unix::fs::PermissionsExt;

    fn domain() -> Domain {
        Domain::parse("example.net").unwrap()
    }

    fn selector(text: &str) -> Selector {
        Selector::parse(text).unwrap()
    }

    fn house() -> (Folder, SigningEditor) {
        let folder = Folder::new();
        let editor = SigningEditor::new(&folder.path("dkim"));
        (folder, editor)
    }

    /// Ed25519 keys only: they are made at once.
    fn add(editor: &SigningEditor, name: &str, state: State) -> Result<Vec<(PathBuf, SigningKey)>, EditError> {
        editor.add(&domain(), state, &[(selector(name), NewKey::Ed25519)])
    }

    #[test]
    fn r14_r165_keys_are_made_and_only_their_owner_can_read_them() {
        let (folder, editor) = house();
        let new = [(selector("a"), NewKey::Rsa2048), (selector("b"), NewKey::Ed25519)];
        let made = editor.add(&domain(), State::Active, &new).unwrap();
        assert_eq!(made.iter().map(|(_, key)| key.bits()).collect::<Vec<_>>(), [2_048, 256]);
        assert_eq!(
            folder.read("dkim"),
            "example.net a dkim-keys/example.net-a.pem active\nexample.net b dkim-keys/example.net-b.pem active\n"
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path(KEY_FOLDER)), 0o700);
        for (file, key) in &made {
            assert_eq!(mode(file), 0o600);
            let read = SigningKey::from_pem(domain(), selector("x"), &read_key_file(file).unwrap()).unwrap();
            assert_eq!(read.public_record(), key.public_record());
            assert!(std::fs::read_to_string(file).unwrap().lines().all(|line| line.len() <= 64));
        }
        let one = NewKey::Rsa2048.make().unwrap();
        assert!(one != NewKey::Rsa2048.make().unwrap() && NewKey::rsa(1_024).is_none());
    }

    #[test]
    fn what_is_there_is_never_replaced_and_a_failure_leaves_nothing() {
        let (folder, editor) = house();
        add(&editor, "a", State::Active).unwrap();
        let before = folder.read("dkim");
        let twice = [(selector("b"), NewKey::Ed25519), (selector("b"), NewKey::Ed25519)];
        for new in [&twice[..], &[(selector("b"), NewKey::Ed25519), (selector("a"), NewKey::Ed25519)]] {
            assert!(matches!(editor.add(&domain(), State::Active, new), Err(EditError::Exists(_))));
        }
        std::fs::write(folder.path("dkim-keys/example.net-c.pem"), "not mine").unwrap();
        assert!(matches!(add(&editor, "c", State::Active), Err(EditError::Disk(..))));
        assert_eq!(std::fs::read_to_string(folder.path("dkim-keys/example.net-c.pem")).unwrap(), "not mine");
        assert!(!folder.path("dkim-keys/example.net-b.pem").exists());
        assert_eq!(folder.read("dkim"), before);
        folder.write("dkim", "broken\n");
        assert!(matches!(add(&editor, "d", State::Active), Err(EditError::Tables(_))));
        assert!(!folder.path("dkim-keys/example.net-d.pem").exists());
    }

    #[test]
    fn p24_keys_change_in_three_steps() {
        let (folder, editor) = house();
        folder.write("dkim", "# keys\n");
        add(&editor, "old", State::Active).unwrap();
        editor.add(&domain(), State::Active, &[(selector("old-rsa"), NewKey::Rsa2048)]).unwrap();
        add(&editor, "next", State::Published).unwrap();
        let states = || -> Vec<(String, State)> {
            let table = editor.table().unwrap();
            table.entries.iter().map(|entry| (entry.selector.to_string(), entry.state)).collect()
        };
        let pair = |name: &str, state| (name.to_owned(), state);
        let done = editor.activate(&domain()).unwrap();
        assert_eq!(done, Activated { activated: vec![selector("next")], retired: vec![selector("old")] });
        // The key of the other algorithm had no successor.
        let expected = [pair("old", State::Retired), pair("old-rsa", State::Active), pair("next", State::Active)];
        assert_eq!(states(), expected);
        assert!(matches!(editor.activate(&domain()), Err(EditError::Unknown(_))));
        assert_eq!(editor.retire(&domain(), &selector("old")), Ok(Retired::Removed));
        assert!(!folder.path("dkim-keys/example.net-old.pem").exists());
        assert_eq!(editor.retire(&domain(), &selector("next")), Ok(Retired::Retired));
        assert!(folder.path("dkim-keys/example.net-next.pem").exists());
        assert_eq!(states(), [pair("old-rsa", State::Active), pair("next", State::Retired)]);
        assert!(matches!(editor.retire(&domain(), &selector("old")), Err(EditError::Unknown(_))));
        assert!(folder.read("dkim").starts_with("# keys\nexample.net old-rsa "));
    }

    #[test]
    fn lines_keep_what_is_not_meant() {
        let (folder, editor) = house();
        add(&editor, "a", State::Active).unwrap();
        let file = "dkim-keys/example.net-a.pem";
        folder.write("dkim", &format!("  example.net\ta   {file}  \n# end\n.example.net a {file}\tactive\n"));
        editor.retire(&domain(), &selector("A")).unwrap();
        let expected = format!("  example.net\ta   {file} retired\n# end\n.example.net a {file} retired\n");
        assert_eq!(folder.read("dkim"), expected);
        // A key that another domain uses as well stays.
        folder.write("dkim", &format!("example.net a {file} retired\nexample.org a {file}\n"));
        assert_eq!(editor.retire(&domain(), &selector("a")), Ok(Retired::Removed));
        assert!(folder.path(file).exists());
        assert_eq!(folder.read("dkim"), format!("example.org a {file}\n"));
    }

    #[test]
    fn the_next_key_is_for_the_same_mail() {
        let (folder, editor) = house();
        add(&editor, "a", State::Active).unwrap();
        folder.write("dkim", &format!("{0}.{0}", folder.read("dkim")));
        add(&editor, "b", State::Published).unwrap();
        assert_eq!(editor.activate(&domain()).unwrap().retired, [selector("a")]);
        let line = |dot: &str, name: &str, state| {
            format!("{dot}example.net {name} dkim-keys/example.net-{name}.pem {state}\n")
        };
        let expected =
            [line("", "a", "retired"), line(".", "a", "retired"), line("", "b", "active"), line(".", "b", "active")];
        assert_eq!(folder.read("dkim"), expected.concat());
        assert_eq!(editor.retire(&domain(), &selector("a")), Ok(Retired::Removed));
        assert_eq!(folder.read("dkim"), expected[2..].concat());
    }

    #[test]
    fn a_day_has_more_than_one_selector() {
        let (_folder, editor) = house();
        let next = || editor.unused_selector(&domain(), "20260701", NewKey::Ed25519);
        assert_eq!(next().unwrap().as_str(), "20260701-ed25519");
        for _ in 0..SELECTORS_A_DAY_MAX {
            add(&editor, next().unwrap().as_str(), State::Retired).unwrap();
        }
        assert_eq!(editor.table().unwrap().entries[1].selector.as_str(), "20260701b-ed25519");
        assert!(matches!(next(), Err(EditError::Exists(_))));
        assert_eq!(editor.unused_selector(&domain(), "20260701", NewKey::Rsa2048).unwrap().as_str(), "20260701-rsa");
    }
}
