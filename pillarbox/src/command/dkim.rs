//! `dkim`: the keys that sign our mail, and their way from published to active to retired (R165, P24).

use super::server::{ask, lent_files};
use crate::cli::{DkimAlgorithm, DkimCommand};
use crate::config::Loaded;
use crate::output::Output;
use admin::control::Request;
use anyhow::{Context, anyhow, bail};
use directory::signing::edit::{NewKey, Retired, SigningEditor};
use directory::signing::{Algorithm, Entry, Selector, SigningKey, State, read_key_file};
use mail::Domain;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// `dkim ...`
pub fn dkim(loaded: &Loaded, command: &DkimCommand, output: &Output) -> anyhow::Result<()> {
    let desk = Desk { loaded, editor: SigningEditor::new(&loaded.config.directory.dkim), output };
    match command {
        DkimCommand::Key { domain, selector, algorithm, bits } => {
            let domain = domain_of(domain)?;
            desk.key(&domain, &desk.named(&domain, selector.as_deref(), &kinds(*algorithm, *bits)?)?)?;
        }
        DkimCommand::Rotate { domain, activate: true, .. } => desk.activate(&domain_of(domain)?)?,
        DkimCommand::Rotate { domain, retire: Some(selector), .. } => {
            desk.retire(&domain_of(domain)?, &selector_of(selector)?)?;
        }
        DkimCommand::Rotate { domain, .. } => desk.next(&domain_of(domain)?)?,
        DkimCommand::List => return desk.list(),
        DkimCommand::Record { domain } => return desk.record(&domain_of(domain)?),
    }
    // Only now: what was done is done and shown, whatever the server says.
    desk.tell()
}

/// What every step needs.
struct Desk<'a> {
    loaded: &'a Loaded,
    editor: SigningEditor,
    output: &'a Output,
}

fn domain_of(text: &str) -> anyhow::Result<Domain> {
    match Domain::parse(text) {
        Ok(domain) if !domain.is_literal() && domain.as_str().contains('.') => Ok(domain),
        Ok(_) | Err(_) => bail!("`{text}` is not a full domain"),
    }
}

fn selector_of(text: &str) -> anyhow::Result<Selector> {
    Selector::parse(text).with_context(|| format!("`{text}` is no selector: letters, digits and hyphens make one"))
}

fn kinds(algorithm: DkimAlgorithm, bits: u32) -> anyhow::Result<Vec<NewKey>> {
    let rsa = || NewKey::rsa(bits).with_context(|| format!("no RSA key of {bits} bits is made: 2048, 3072 or 4096"));
    Ok(match algorithm {
        DkimAlgorithm::Rsa => vec![rsa()?],
        DkimAlgorithm::Ed25519 => vec![NewKey::Ed25519],
        DkimAlgorithm::Both => vec![rsa()?, NewKey::Ed25519],
    })
}

/// The day in UTC, such as `20260701`.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = mail::time::civil_from_days((seconds / 86_400) as i64);
    format!("{year:04}{month:02}{day:02}")
}

impl Desk<'_> {
    /// Gives each key a selector of its own: the one that was asked for, or one of today.
    fn named(&self, domain: &Domain, asked: Option<&str>, kinds: &[NewKey]) -> anyhow::Result<Vec<(Selector, NewKey)>> {
        let selector = |kind: NewKey| match asked {
            Some(name) if kinds.len() == 1 => selector_of(name),
            Some(name) => selector_of(&format!("{name}-{}", kind.algorithm().key_type())),
            None => Ok(self.editor.unused_selector(domain, &today(), kind)?),
        };
        kinds.iter().map(|kind| Ok((selector(*kind)?, *kind))).collect()
    }

    /// Makes keys. They sign at once where none does yet: a signature that nobody can verify so far is worth what none is.
    fn key(&self, domain: &Domain, new: &[(Selector, NewKey)]) -> anyhow::Result<()> {
        let signs = self.editor.table()?.of(domain).any(|entry| entry.state == State::Active);
        let state = if signs { State::Published } else { State::Active };
        let made = self.editor.add(domain, state, new)?;
        let keys: Vec<Value> = made.iter().map(|(file, key)| json_of(key, state, file)).collect();
        if self.output.json(&json!({ "domain": domain.as_str(), "keys": keys })) {
            return Ok(());
        }
        made.iter().for_each(|(file, _)| self.output.say(format!("made {}", file.display())));
        self.output.say(format!("\nPublish in the zone of {domain}:"));
        made.iter().for_each(|(_, key)| self.output.say(format!("  {}", key.zone_line())));
        if state == State::Published {
            self.output.say(format!("\nWhen DNS shows the records: pillarbox dkim rotate {domain} --activate"));
        }
        Ok(())
    }

    /// First step of a change of keys: the next ones, of the same kinds as those that sign.
    fn next(&self, domain: &Domain) -> anyhow::Result<()> {
        let table = self.editor.table()?;
        if let Some(waiting) = table.of(domain).find(|entry| entry.state == State::Published) {
            let selector = &waiting.selector;
            bail!(
                "the next key {selector} is made already: publish it (pillarbox dkim record {domain}), then \
                 pillarbox dkim rotate {domain} --activate; or drop it with --retire {selector}"
            );
        }
        let mut kinds = Vec::new();
        for entry in table.of(domain).filter(|entry| entry.state == State::Active) {
            let key = load(entry)?;
            let kind = match key.algorithm() {
                Algorithm::Rsa => u32::try_from(key.bits()).ok().and_then(NewKey::rsa).unwrap_or(NewKey::Rsa2048),
                Algorithm::Ed25519 => NewKey::Ed25519,
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        if kinds.is_empty() {
            bail!("no key of {domain} signs; make one: pillarbox dkim key {domain}");
        }
        self.key(domain, &self.named(domain, None, &kinds)?)
    }

    /// Second step: the next ones sign.
    fn activate(&self, domain: &Domain) -> anyhow::Result<()> {
        let done = self.editor.activate(domain)?;
        let names = |selectors: &[Selector]| selectors.iter().map(Selector::to_string).collect::<Vec<_>>();
        let (activated, retired) = (names(&done.activated), names(&done.retired));
        if self.output.json(&json!({ "domain": domain.as_str(), "activated": activated, "retired": retired })) {
            return Ok(());
        }
        self.output.say(format!("mail of {domain} is signed with {}", activated.join(", ")));
        for selector in retired {
            let later = format!("pillarbox dkim rotate {domain} --retire {selector}");
            self.output.say(format!("{selector} is retired: leave its record in DNS for two weeks, then {later}"));
        }
        Ok(())
    }

    /// Third step: an old one goes.
    fn retire(&self, domain: &Domain, selector: &Selector) -> anyhow::Result<()> {
        let (done, what) = match self.editor.retire(domain, selector)? {
            Retired::Retired => {
                ("retired", "signs no more; leave its record in DNS for two weeks, then say this again")
            }
            Retired::Removed => ("removed", "is removed; take its record out of the zone"),
        };
        let signs = self.editor.table()?.of(domain).any(|entry| entry.state == State::Active);
        let told = json!({ "domain": domain.as_str(), "selector": selector.as_str(), "done": done, "signs": signs });
        if self.output.json(&told) {
            return Ok(());
        }
        self.output.say(format!("{selector} {what}"));
        if !signs {
            self.output.say(format!("mail of {domain} is not signed any more"));
        }
        Ok(())
    }

    fn list(&self) -> anyhow::Result<()> {
        let table = self.editor.table()?;
        let row = |entry: &Entry| {
            let (kind, bits) = match load(entry) {
                Ok(key) => (key.algorithm().key_type().to_owned(), key.bits().to_string()),
                // The table can be shown to whom the keys are closed.
                Err(_) => ("?".to_owned(), "?".to_owned()),
            };
            let file = entry.file.display().to_string();
            vec![entry.written_domain(), entry.selector.to_string(), kind, bits, entry.state.to_string(), file]
        };
        let rows: Vec<Vec<String>> = table.entries.iter().map(row).collect();
        self.output.table(&["domain", "selector", "algorithm", "bits", "state", "file"], &rows);
        Ok(())
    }

    fn record(&self, domain: &Domain) -> anyhow::Result<()> {
        let table = self.editor.table()?;
        let mut seen = HashSet::new();
        let entries: Vec<&Entry> = table.of(domain).filter(|entry| seen.insert(&entry.selector)).collect();
        if entries.is_empty() {
            bail!("there is no key of {domain}; make one: pillarbox dkim key {domain}");
        }
        let keys = entries.iter().map(|entry| Ok((*entry, load(entry)?))).collect::<anyhow::Result<Vec<_>>>()?;
        let objects: Vec<Value> = keys.iter().map(|(entry, key)| json_of(key, entry.state, &entry.file)).collect();
        if !self.output.json(&objects) {
            keys.iter().for_each(|(_, key)| self.output.say(key.zone_line()));
        }
        Ok(())
    }

    /// Hands the keys to a running server, which perhaps cannot read them itself (R14).
    fn tell(&self) -> anyhow::Result<()> {
        let told = || match ask(self.loaded, &Request::Status)? {
            Some(_) => ask(self.loaded, &Request::Reload { files: lent_files(self.loaded)? }).map(|_| ()),
            None => Ok(()),
        };
        told().context("the table is changed, but the running server could not reload everything")
    }
}

fn load(entry: &Entry) -> anyhow::Result<SigningKey> {
    entry.load(&read_key_file).map_err(|error| anyhow!("{error}"))
}

fn json_of(key: &SigningKey, state: State, file: &Path) -> Value {
    json!({
        "selector": key.selector().as_str(),
        "algorithm": key.algorithm().key_type(),
        "bits": key.bits(),
        "state": state.name(),
        "file": file,
        "record": { "name": key.record_name(), "type": "TXT", "text": key.public_record(), "zone": key.zone_line() },
    })
}
