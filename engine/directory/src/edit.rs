//! Changing the tables by command: comments, order and everything not meant stay as they are.
//!
//! An edit reads the files under a lock, works out their new text, checks that it can be read, writes it beside the
//! old and renames it into place. An edit of several files happens as a whole: the file whose change makes it count,
//! the accounts, comes last when adding and first when removing, so that a power cut between two renames leaves
//! nothing that anybody could notice, and the same command again completes it.

pub(crate) mod commit;
pub(crate) mod draft;

use crate::accounts::Accounts;
use crate::maps::{Target, read_aliases, read_mailboxes, read_senders};
use crate::names::{Keyed, account_name, login_name};
use crate::password::Stored;
use crate::quota::QuotaOverride;
use crate::register::{DomainClass, Settings, Tables, tables_of};
use crate::route::{RouteError, route};
use crate::table::{Source, TableError, shown};
use commit::{Lock, commit};
use draft::Draft;
use mail::{AccountName, Address, Domain};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditError {
    /// A table cannot be used as it is, or could not be used afterwards.
    Tables(Vec<TableError>),
    /// What is to be added is there.
    Exists(String),
    /// What is to be changed is not there.
    Unknown(String),
    /// An argument that cannot be used; the text says why.
    Invalid(String),
    /// The domain is neither hosted nor, for aliases, relayed.
    NotHosted(Domain),
    /// Others depend on what is to be removed; the text names some.
    InUse(String),
    /// Somebody else has been editing for too long.
    Busy(PathBuf),
    /// The file changed while it was being edited.
    Changed(PathBuf),
    /// The file could not be written.
    Disk(PathBuf, String),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EditError::Tables(errors) => {
                for (index, error) in errors.iter().enumerate() {
                    write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
            EditError::Exists(what) => write!(f, "{what} exists already"),
            EditError::Unknown(what) => write!(f, "{what} does not exist"),
            EditError::Invalid(why) => f.write_str(why),
            EditError::NotHosted(domain) => write!(f, "the domain {domain} is not hosted; add it first"),
            EditError::InUse(by) => write!(f, "still in use by {by}; remove that first"),
            EditError::Busy(file) => write!(f, "{}: locked by another edit; try again", file.display()),
            EditError::Changed(file) => write!(f, "{}: changed meanwhile; try again", file.display()),
            EditError::Disk(file, cause) => write!(f, "{}: {cause}", file.display()),
        }
    }
}

impl std::error::Error for EditError {}

/// An account to be added.
#[derive(Debug, Clone, Copy)]
pub struct NewAccount<'a> {
    /// Its login and address.
    pub name: &'a str,
    /// Its hash, `{SCHEME}text`, as [`crate::password::hash`] makes it.
    pub hash: &'a str,
    /// Its own limits.
    pub quota: QuotaOverride,
    /// Whether its domain becomes hosted, if it is not.
    pub add_domain: bool,
}

/// An account as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountLine {
    /// Its login.
    pub name: AccountName,
    /// Whether logins are refused.
    pub disabled: bool,
    /// Whether mail reaches it under its own name.
    pub receives: bool,
    /// Its own limits.
    pub quota: QuotaOverride,
    /// Its line, from 1 up.
    pub line: usize,
}

/// An alias as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasLine {
    /// The address, or `@domain` for a catch-all.
    pub address: String,
    /// Where it points.
    pub targets: Vec<String>,
    /// Its line, from 1 up.
    pub line: usize,
}

/// Edits the tables of one set of settings.
#[derive(Debug, Clone)]
pub struct Editor {
    settings: Settings,
}

impl Editor {
    /// An editor of these tables. Nothing is read or locked yet.
    pub fn new(settings: Settings) -> Editor {
        Editor { settings }
    }

    /// Adds an account: its line, its mailbox, and its right to send as itself (R191), all or none. Where no file of
    /// mailboxes exists none is made, because every account counts as a mailbox then.
    pub fn account_add(&self, new: NewAccount<'_>) -> Result<AccountName, EditError> {
        let _lock = self.lock()?;
        let tables = self.tables()?;
        let name = login_name(new.name, "").filter(|name| !name.domain().is_empty()).ok_or_else(|| {
            EditError::Invalid(format!("{} cannot be an account: letters, digits, . - _ @ only", shown(new.name)))
        })?;
        let address = Address::parse(name.as_str())
            .map_err(|_| EditError::Invalid(format!("{} is no address", shown(name.as_str()))))?;
        check_hash(new.hash)?;
        if tables.accounts.get(&name).is_some() {
            return Err(EditError::Exists(format!("account {name}")));
        }
        if let Some(alias) = tables.aliases.exact(&Keyed::new(&address), tables.domains.first())
            && !alias.value.contains(&Target::Address(address.clone()))
        {
            return Err(EditError::Exists(format!("an alias {name}, which would take all its mail,")));
        }
        let files = &self.settings.files;
        let mut drafts = Vec::new();
        match tables.class_of(&address.domain) {
            DomainClass::Hosted => {}
            DomainClass::Other if new.add_domain => {
                let mut domains = Draft::read(&files.domains)?;
                domains.append(address.domain.as_str());
                drafts.push(domains);
            }
            DomainClass::Other | DomainClass::Relay => return Err(EditError::NotHosted(address.domain)),
        }
        let mut senders = Draft::read(&files.senders)?;
        senders.add_values(&name.to_string(), &[name.to_string()])?;
        drafts.push(senders);
        if tables.mailboxes.as_ref().is_some_and(|mailboxes| mailboxes.exact(&Keyed::new(&address), None).is_none()) {
            let mut mailboxes = Draft::read(&files.mailboxes)?;
            mailboxes.append(&format!("{name} true"));
            drafts.push(mailboxes);
        }
        let mut accounts = Draft::read(&files.accounts)?;
        let quota = new.quota.rule().map_or(String::new(), |rule| format!("userdb_quota_rule={rule}"));
        accounts.append(&format!("{name}:{}::::::{quota}", new.hash));
        drafts.push(accounts);
        self.commit(drafts)?;
        Ok(name)
    }

    /// Removes an account, its mailbox line, and its login from all senders. Its mail is not touched. Returns the
    /// aliases that still point to it.
    pub fn account_remove(&self, name: &str) -> Result<Vec<String>, EditError> {
        let _lock = self.lock()?;
        let tables = self.tables()?;
        let name = existing_name(name)?;
        let files = &self.settings.files;
        let mut accounts = Draft::read(&files.accounts)?;
        let mut mailboxes = Draft::read(&files.mailboxes)?;
        let mut senders = Draft::read(&files.senders)?;
        let mut found = accounts.remove_account(&name)?;
        found |= mailboxes.remove_entry(name.as_str())?;
        found |= senders.remove_value_everywhere(|word| account_name(word).as_ref() == Some(&name))?;
        if !found {
            return Err(EditError::Unknown(format!("account {name}")));
        }
        self.commit(vec![accounts, mailboxes, senders])?;
        let address = Address::parse(name.as_str()).ok().map(Target::Address);
        let points_there = |targets: &[Target]| address.as_ref().is_some_and(|address| targets.contains(address));
        let mut left: Vec<String> =
            tables.aliases.iter().filter(|(_, kept)| points_there(&kept.value)).map(|(key, _)| key).collect();
        left.sort();
        Ok(left)
    }

    /// Replaces an account's hash (R34).
    pub fn account_set_hash(&self, name: &str, hash: &str) -> Result<(), EditError> {
        check_hash(hash)?;
        self.change_account(name, |fields| {
            if let Some(password) = fields.get_mut(1) {
                *password = hash.to_owned();
            }
            Ok(())
        })
    }

    /// Refuses logins of an account, or lets them in again; its mail still comes in (R192). Its hash stays.
    pub fn account_set_disabled(&self, name: &str, disabled: bool) -> Result<(), EditError> {
        self.change_account(name, |fields| {
            let words = eighth_field(fields)?;
            words.retain(|word| word.split('=').next() != Some(crate::accounts::NO_LOGIN));
            if disabled {
                words.push(crate::accounts::NO_LOGIN.to_owned());
            }
            Ok(())
        })
    }

    /// Replaces an account's own limits; [`QuotaOverride::default`] removes them.
    pub fn account_set_quota(&self, name: &str, quota: QuotaOverride) -> Result<(), EditError> {
        self.change_account(name, |fields| {
            let words = eighth_field(fields)?;
            let is_rule = |word: &str| {
                word.split_once('=')
                    .is_some_and(|(key, value)| key.starts_with(crate::accounts::QUOTA_RULE) && value.starts_with("*:"))
            };
            words.retain(|word| !is_rule(word));
            words.extend(quota.rule().map(|rule| format!("{}={rule}", crate::accounts::QUOTA_RULE)));
            Ok(())
        })
    }

    /// All accounts in the order of the file.
    pub fn accounts(&self) -> Result<Vec<AccountLine>, EditError> {
        let tables = self.tables()?;
        let own = |name: &AccountName| Address::parse(name.as_str()).ok().and_then(|a| route(&tables, &a).ok());
        let mut lines: Vec<AccountLine> = tables
            .accounts
            .iter()
            .map(|account| AccountLine {
                name: account.name.clone(),
                disabled: account.disabled || account.password.is_err(),
                receives: own(&account.name)
                    .is_some_and(|routes| routes.contains(&crate::route::Route::Mailbox(account.name.clone()))),
                quota: account.quota,
                line: account.line,
            })
            .collect();
        lines.sort_by_key(|account| account.line);
        Ok(lines)
    }

    /// Adds targets to an alias, or a new alias. What it points to must exist, and nothing may run in a circle.
    pub fn alias_add(&self, address: &str, targets: &[&str]) -> Result<(), EditError> {
        let _lock = self.lock()?;
        let mut tables = self.tables()?;
        let tried = match crate::names::catch_all_domain(address) {
            Some(domain) => Address::parse(&format!("*@{domain}")),
            None => Address::parse(address),
        }
        .map_err(|_| EditError::Invalid(format!("{} is no address", shown(address))))?;
        if tables.class_of(&tried.domain) == DomainClass::Other {
            return Err(EditError::NotHosted(tried.domain));
        }
        let parse = |text: &&str| {
            Target::parse(text).ok_or_else(|| EditError::Invalid(format!("{} is no target", shown(text))))
        };
        let targets = targets.iter().map(parse).collect::<Result<Vec<Target>, EditError>>()?;
        let spelled: Vec<String> = targets.iter().map(Target::to_string).collect();
        let mut draft = Draft::read(&self.settings.files.aliases)?;
        if !draft.add_values(address, &spelled)? {
            return Err(EditError::Exists(format!("alias {address} to {}", spelled.join(", "))));
        }
        tables.aliases =
            Arc::new(read_aliases(&draft.source()).map_err(|error| EditError::Tables(vec![error]))?.content);
        // Which local parts a domain alias will meet is not known, so only single addresses are looked up.
        for target in targets.iter().filter(|target| !matches!(target, Target::Domain(_))) {
            let Some(target) = target.resolve(&tried, tables.domains.first()) else { continue };
            if let Err(RouteError::UnknownUser | RouteError::UnknownRelayRecipient) = route(&tables, &target) {
                return Err(EditError::Unknown(format!("target {target}")));
            }
        }
        if route(&tables, &tried) == Err(RouteError::LoopOrTooDeep) {
            return Err(EditError::Invalid(format!("alias {address} would run in a circle")));
        }
        self.commit(vec![draft])
    }

    /// Removes targets from an alias; without targets, or with the last of them, the alias itself.
    pub fn alias_remove(&self, address: &str, targets: &[&str]) -> Result<(), EditError> {
        let _lock = self.lock()?;
        let mut draft = Draft::read(&self.settings.files.aliases)?;
        let found = if targets.is_empty() {
            draft.remove_entry(address)?
        } else {
            let wanted: Vec<Target> = targets.iter().filter_map(|target| Target::parse(target)).collect();
            draft.remove_values(address, |word| Target::parse(word).is_some_and(|target| wanted.contains(&target)))?
        };
        if !found {
            let to = if targets.is_empty() { String::new() } else { format!(" to {}", targets.join(", ")) };
            return Err(EditError::Unknown(format!("alias {address}{to}")));
        }
        self.commit(vec![draft])
    }

    /// All aliases in the order of the file.
    pub fn aliases(&self) -> Result<Vec<AliasLine>, EditError> {
        let tables = self.tables()?;
        let mut lines: Vec<AliasLine> = tables
            .aliases
            .iter()
            .map(|(address, kept)| AliasLine {
                address,
                targets: kept.value.iter().map(Target::to_string).collect(),
                line: kept.line,
            })
            .collect();
        lines.sort_by_key(|alias| alias.line);
        Ok(lines)
    }

    /// Adds a hosted domain, or `.domain` for those below it.
    pub fn domain_add(&self, domain: &str) -> Result<(), EditError> {
        let _lock = self.lock()?;
        let tables = self.tables()?;
        let (dot, parsed) = listed_domain(domain)?;
        let same = |mut listed: Box<dyn Iterator<Item = (&Domain, usize)> + '_>| listed.any(|(d, _)| *d == parsed);
        let (hosted, relayed) = (&tables.domains, &tables.relay_domains);
        let exists = match dot {
            "" => same(Box::new(hosted.iter())) || same(Box::new(relayed.iter())),
            _ => same(Box::new(hosted.patterns())) || same(Box::new(relayed.patterns())),
        };
        if exists {
            return Err(EditError::Exists(format!("domain {dot}{parsed}")));
        }
        let mut draft = Draft::read(&self.settings.files.domains)?;
        draft.append(&format!("{dot}{parsed}"));
        self.commit(vec![draft])
    }

    /// Removes a hosted domain that no account, mailbox or alias uses any more.
    pub fn domain_remove(&self, domain: &str) -> Result<(), EditError> {
        let _lock = self.lock()?;
        let tables = self.tables()?;
        let (dot, parsed) = listed_domain(domain)?;
        let mut draft = Draft::read(&self.settings.files.domains)?;
        if !draft.remove_lines(|word| listed_domain(word).is_ok_and(|listed| listed == (dot, parsed.clone())))? {
            return Err(EditError::Unknown(format!("domain {dot}{parsed}")));
        }
        let of_it = |key: &str| {
            let domain = key.rsplit_once('@').and_then(|(_, domain)| Domain::parse(domain).ok());
            domain.is_some_and(|domain| if dot.is_empty() { domain == parsed } else { lies_below(&domain, &parsed) })
        };
        let accounts = tables.accounts.iter().map(|account| account.name.to_string());
        let mailboxes = tables.mailboxes.iter().flat_map(|table| table.iter().map(|(key, _)| key));
        let aliases = tables.aliases.iter().map(|(key, _)| key);
        if let Some(user) = accounts.chain(mailboxes).chain(aliases).filter(|key| of_it(key)).min() {
            return Err(EditError::InUse(user));
        }
        self.commit(vec![draft])
    }

    /// All hosted domains in the order of the file, patterns with their dot.
    pub fn domains(&self) -> Result<Vec<String>, EditError> {
        let tables = self.tables()?;
        let names = tables.domains.iter().map(|(domain, line)| (line, domain.to_string()));
        let patterns = tables.domains.patterns().map(|(domain, line)| (line, format!(".{domain}")));
        let mut lines: Vec<(usize, String)> = names.chain(patterns).collect();
        lines.sort();
        Ok(lines.into_iter().map(|(_, domain)| domain).collect())
    }

    fn change_account(
        &self,
        name: &str,
        change: impl FnOnce(&mut Fields) -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        let _lock = self.lock()?;
        let name = existing_name(name)?;
        let mut draft = Draft::read(&self.settings.files.accounts)?;
        draft.change_account(&name, change)?;
        self.commit(vec![draft])
    }

    fn tables(&self) -> Result<Tables, EditError> {
        tables_of(&self.settings).map_err(EditError::Tables)
    }

    fn lock(&self) -> Result<Lock, EditError> {
        let files = &self.settings.files;
        Lock::take(&[&files.accounts, &files.domains, &files.mailboxes, &files.aliases, &files.senders])
    }

    /// Checks that every new text can be read, then puts them into place in this order.
    fn commit(&self, drafts: Vec<Draft>) -> Result<(), EditError> {
        let files = &self.settings.files;
        let mut errors = Vec::new();
        for draft in &drafts {
            let source = draft.source();
            let read = |path: &Path| -> Result<(), TableError> {
                if path == files.accounts {
                    Accounts::read(&source).map(drop)
                } else if path == files.domains {
                    crate::domains::Domains::read(&source).map(drop)
                } else if path == files.mailboxes {
                    read_mailboxes(&source).map(drop)
                } else if path == files.aliases {
                    read_aliases(&source).map(drop)
                } else {
                    read_senders(&source).map(drop)
                }
            };
            errors.extend(read(draft.path()).err());
        }
        if !errors.is_empty() {
            return Err(EditError::Tables(errors));
        }
        commit(&drafts, &files.accounts)
    }
}

/// The fields of an account's line, the eighth cut into its words.
pub(crate) struct Fields {
    plain: Vec<String>,
    words: Option<Vec<String>>,
}

impl Fields {
    fn get_mut(&mut self, index: usize) -> Option<&mut String> {
        self.plain.get_mut(index)
    }
}

/// The words of the eighth field, made if the line serves deliveries but ends before it.
fn eighth_field(fields: &mut Fields) -> Result<&mut Vec<String>, EditError> {
    if fields.words.is_none() && fields.plain.get(5).is_none_or(String::is_empty) {
        let cause = "the account only authenticates: its line lacks the six colons after the password";
        return Err(EditError::Invalid(cause.to_owned()));
    }
    Ok(fields.words.get_or_insert_default())
}

fn existing_name(name: &str) -> Result<AccountName, EditError> {
    account_name(name).ok_or_else(|| EditError::Unknown(format!("account {}", shown(name))))
}

fn check_hash(hash: &str) -> Result<(), EditError> {
    if hash.contains(':') || hash.trim() != hash || hash.chars().any(char::is_control) {
        return Err(EditError::Invalid(
            "the hash holds a colon, white space at its ends or a control character".into(),
        ));
    }
    Stored::parse(hash).map(drop).map_err(|error| EditError::Invalid(error.to_string()))
}

fn listed_domain(text: &str) -> Result<(&'static str, Domain), EditError> {
    let (dot, name) = text.strip_prefix('.').map_or(("", text), |name| (".", name));
    match Domain::parse(name) {
        Ok(domain) if !domain.is_literal() => Ok((dot, domain)),
        _ => Err(EditError::Invalid(format!("{} is no domain", shown(text)))),
    }
}

fn lies_below(domain: &Domain, parent: &Domain) -> bool {
    std::iter::successors(domain.parent(), Domain::parent).any(|above| above == *parent)
}

/// So that drafts can be read as tables.
pub(crate) fn source_of<'a>(file: &'a Path, octets: &'a [u8]) -> Source<'a> {
    Source { file, octets }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::Directory;
    use crate::testing::Folder;
    use mail::{ReversePath, Secret};

    const HASH: &str = "{BLF-CRYPT}$2y$05$hO4tTfea8rAcDhjm8Z.7..6rsfM0AQaxEtvL9KRKiK9v.yKv3/ZYu";

    fn house() -> (Folder, Editor) {
        let folder = Folder::new();
        folder.write("accounts", "# people\nbrian@example.net:{PLAIN}b::::::\n");
        folder.write("domains", "example.net\n");
        folder.write("mailboxes", "brian@example.net true\n");
        folder.write(
            "senders",
            "brian@example.net     brian@example.net\ninfo@example.net  brian@example.net, new@example.net\n",
        );
        folder.write("aliases", "info@example.net brian@example.net\n");
        let editor = Editor::new(Settings::in_folder(folder.root()));
        (folder, editor)
    }

    fn new(name: &str) -> NewAccount<'_> {
        NewAccount { name, hash: HASH, quota: QuotaOverride::default(), add_domain: false }
    }

    fn texts(folder: &Folder) -> Vec<String> {
        ["accounts", "domains", "mailboxes", "senders", "aliases"].map(|name| folder.read(name)).to_vec()
    }

    #[test]
    fn r191_one_command_adds_all_three_lines() {
        let (folder, editor) = house();
        editor.account_add(new("New@Example.NET")).unwrap();
        assert_eq!(
            folder.read("accounts"),
            format!("# people\nbrian@example.net:{{PLAIN}}b::::::\nnew@example.net:{HASH}::::::\n")
        );
        assert_eq!(folder.read("mailboxes"), "brian@example.net true\nnew@example.net true\n");
        assert!(folder.read("senders").ends_with("new@example.net new@example.net\n"));
        let directory = Directory::open(Settings::in_folder(folder.root())).unwrap();
        let address = Address::parse("new@example.net").unwrap();
        let name = directory.credential("new@example.net", "").verify(&Secret::new("insecure".into())).unwrap();
        assert!(directory.route(&address).is_ok() && directory.may_send_as(&name, &ReversePath::Address(address)));
        assert_eq!(folder.names(), [".tables.lock", "accounts", "aliases", "domains", "mailboxes", "senders"]);
    }

    #[test]
    fn r191_what_would_break_changes_nothing() {
        let (folder, editor) = house();
        let before = texts(&folder);
        for (account, expected) in [
            (new("brian@example.net"), "exists already"),
            (new("info@example.net"), "would take all its mail"),
            (new("x@other.example"), "not hosted"),
            (new("nobody"), "cannot be an account"),
            (new("a b@example.net"), "cannot be an account"),
            (new("a+b@example.net"), "cannot be an account"),
            (new("../x@example.net"), "cannot be an account"),
            (new("x@example.net\nroot@example.net:x"), "cannot be an account"),
            (NewAccount { hash: "{PLAIN}a:b", ..new("x@example.net") }, "colon"),
            (NewAccount { hash: "{PLAIN}a\nroot@x", ..new("x@example.net") }, "control"),
            (NewAccount { hash: "plain", ..new("x@example.net") }, "not supported"),
        ] {
            let error = editor.account_add(account).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        folder.write("aliases", "broken\n");
        assert!(matches!(editor.account_add(new("x@example.net")), Err(EditError::Tables(_))));
        folder.write("aliases", before.last().unwrap());
        assert_eq!(texts(&folder), before);
    }

    #[test]
    fn r191_an_interrupted_addition_is_completed_by_the_same_command() {
        let (folder, editor) = house();
        // As a power cut before the last rename leaves it: nothing can be seen of the account yet.
        folder.write("senders", "new@example.net new@example.net\n");
        folder.write("mailboxes", "brian@example.net true\nnew@example.net true\n");
        let directory = Directory::open(Settings::in_folder(folder.root())).unwrap();
        assert!(directory.route(&Address::parse("new@example.net").unwrap()).is_err());
        editor.account_add(new("new@example.net")).unwrap();
        assert_eq!(folder.read("senders"), "new@example.net new@example.net\n");
        assert_eq!(folder.read("mailboxes"), "brian@example.net true\nnew@example.net true\n");
    }

    #[test]
    fn an_account_may_bring_its_domain_and_quota() {
        let (folder, editor) = house();
        let mut quota = QuotaOverride::default();
        quota.apply("*:storage=2G").unwrap();
        editor.account_add(NewAccount { add_domain: true, quota, ..new("x@other.example") }).unwrap();
        assert_eq!(folder.read("domains"), "example.net\nother.example\n");
        let listed = editor.accounts().unwrap();
        assert_eq!(listed.len(), 2);
        assert_eq!((listed[1].line, listed[1].receives, listed[1].quota), (3, true, quota));
    }

    #[test]
    fn without_a_file_of_mailboxes_none_is_made() {
        let (folder, editor) = house();
        std::fs::remove_file(folder.path("mailboxes")).unwrap();
        editor.account_add(new("new@example.net")).unwrap();
        assert!(!folder.path("mailboxes").exists());
        assert!(editor.accounts().unwrap().iter().all(|account| account.receives));
    }

    #[test]
    fn r34_r192_accounts_change_and_go() {
        let (folder, editor) = house();
        editor.account_add(new("new@example.net")).unwrap();
        editor.account_set_hash("NEW@example.net", "{PLAIN}changed").unwrap();
        editor.account_set_disabled("new@example.net", true).unwrap();
        editor.account_set_disabled("new@example.net", true).unwrap();
        let mut quota = QuotaOverride::default();
        quota.apply("*:messages=5").unwrap();
        editor.account_set_quota("new@example.net", quota).unwrap();
        assert!(
            folder
                .read("accounts")
                .ends_with("\nnew@example.net:{PLAIN}changed::::::nologin userdb_quota_rule=*:messages=5\n")
        );
        editor.account_set_disabled("new@example.net", false).unwrap();
        editor.account_set_quota("new@example.net", QuotaOverride::default()).unwrap();
        assert!(folder.read("accounts").ends_with("\nnew@example.net:{PLAIN}changed::::::\n"));
        editor.alias_add("team@example.net", &["new@example.net", "brian@example.net"]).unwrap();
        assert_eq!(editor.account_remove("new@example.net").unwrap(), ["team@example.net"]);
        assert_eq!(folder.read("accounts"), "# people\nbrian@example.net:{PLAIN}b::::::\n");
        assert_eq!(folder.read("mailboxes"), "brian@example.net true\n");
        let senders = "brian@example.net     brian@example.net\ninfo@example.net  brian@example.net\n";
        assert_eq!(folder.read("senders"), senders);
        assert!(matches!(editor.account_remove("new@example.net"), Err(EditError::Unknown(_))));
        assert!(matches!(editor.account_set_hash("new@example.net", HASH), Err(EditError::Unknown(_))));
        assert!(matches!(editor.account_set_hash("%u", HASH), Err(EditError::Unknown(_))));
    }

    #[test]
    fn r192_aliases_come_and_go() {
        let (folder, editor) = house();
        editor.alias_add("postmaster@example.net", &["brian@example.net"]).unwrap();
        editor.alias_add("*@example.net", &["brian@example.net", "x@elsewhere.test"]).unwrap();
        editor.alias_add("brian@example.net", &["brian@example.net", "copy@elsewhere.test"]).unwrap();
        for (address, target, expected) in [
            ("postmaster@example.net", "brian@example.net", "exists already"),
            ("x@foreign.test", "brian@example.net", "not hosted"),
            ("y@example.net", "|/bin/sh", "no target"),
            ("y@example.net", "a@b\nz@example.net c@d", "no target"),
            ("a b@example.net", "brian@example.net", "no address"),
        ] {
            let error = editor.alias_add(address, &[target]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        editor.alias_remove("@example.net", &[]).unwrap();
        let error = editor.alias_add("y@example.net", &["ghost@example.net"]).unwrap_err().to_string();
        assert!(error.contains("ghost@example.net does not exist"), "{error}");
        editor.alias_add("a@example.net", &["brian@example.net"]).unwrap();
        editor.alias_remove("brian@example.net", &["copy@elsewhere.test"]).unwrap();
        editor.alias_remove("a@example.net", &["brian@example.net"]).unwrap();
        assert!(matches!(editor.alias_remove("a@example.net", &[]), Err(EditError::Unknown(_))));
        assert_eq!(
            folder.read("aliases"),
            "info@example.net brian@example.net\npostmaster@example.net brian@example.net\n\
             brian@example.net brian@example.net\n"
        );
        let listed = editor.aliases().unwrap();
        assert_eq!((listed[1].address.as_str(), listed[1].line), ("postmaster@example.net", 2));
    }

    #[test]
    fn an_alias_in_a_circle_is_refused() {
        let (_folder, editor) = house();
        editor.alias_add("a@example.net", &["info@example.net"]).unwrap();
        editor.alias_remove("info@example.net", &["brian@example.net"]).unwrap();
        let error = editor.alias_add("info@example.net", &["a@example.net"]).unwrap_err().to_string();
        assert!(error.contains("circle"), "{error}");
    }

    #[test]
    fn r192_domains_come_and_go() {
        let (folder, editor) = house();
        folder.write("relay_domains", "backup.example\n");
        editor.domain_add("Third.Test").unwrap();
        editor.domain_add(".third.test").unwrap();
        for (domain, expected) in
            [("third.test", "exists"), ("backup.example", "exists"), ("a b", "no domain"), ("a\nb", "no domain")]
        {
            assert!(editor.domain_add(domain).unwrap_err().to_string().contains(expected), "{domain}");
        }
        assert_eq!(editor.domains().unwrap(), ["example.net", "third.test", ".third.test"]);
        assert_eq!(editor.domain_remove("example.net"), Err(EditError::InUse("brian@example.net".into())));
        editor.domain_remove("third.test").unwrap();
        assert!(matches!(editor.domain_remove("third.test"), Err(EditError::Unknown(_))));
        assert_eq!(folder.read("domains"), "example.net\n.third.test\n");
    }
}
