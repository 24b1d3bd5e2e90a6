//! The effective configuration and its manual, as text.

use super::settings::{Section, Setting, manual};
use super::{CertificateSet, Config, Directory, Limits, Listener, Log, Policy, Security, Storage, sending};

/// The whole effective configuration; as a file it would give the same.
pub fn table(config: &Config) -> toml::Table {
    match toml::Value::try_from(config) {
        Ok(toml::Value::Table(table)) => table,
        // A section is a table, so there is nothing else it could be.
        Ok(_) | Err(_) => toml::Table::new(),
    }
}

/// Only what differs from the defaults; as a file it would give the same.
pub fn changed(config: &Config) -> toml::Table {
    difference(&table(config), &table(&Config::default()))
}

fn difference(mine: &toml::Table, defaults: &toml::Table) -> toml::Table {
    let mut result = toml::Table::new();
    for (key, value) in mine {
        match (value, defaults.get(key)) {
            (value, Some(default)) if value == default => {}
            (toml::Value::Table(mine), Some(toml::Value::Table(default))) => {
                result.insert(key.clone(), toml::Value::Table(difference(mine, default)));
            }
            (value, _) => {
                result.insert(key.clone(), value.clone());
            }
        }
    }
    result
}

/// Every setting with its default and manual.
pub fn describe() -> Vec<Setting> {
    let mut settings: Vec<Setting> =
        Config::describe("").into_iter().filter(|setting| setting.key == "host_name").collect();
    settings.extend(SECTIONS.iter().flat_map(|(name, _, describe)| describe(name)));
    settings
}

/// How a section describes its settings, given its name.
type Describe = fn(&str) -> Vec<Setting>;

macro_rules! sections {
    ($($name:literal: $section:ty,)*) => { &[$(($name, <$section>::MANUAL, <$section>::describe),)*] };
}

/// Every section but the top, in the order of the manual.
const SECTIONS: &[(&str, &[&str], Describe)] = sections! {
    "storage": Storage,
    "directory": Directory,
    "limits": Limits,
    "policy": Policy,
    "submission": sending::Submission,
    "queue": sending::Queue,
    "outbound": sending::Outbound,
    "dns": sending::Dns,
    "forwarding": sending::Forwarding,
    "archive": sending::Archive,
    "history": sending::History,
    "log": Log,
    "security": Security,
    "certificates[]": CertificateSet,
    "listener[]": Listener,
};

/// The manual of the settings that a key names: one setting, or all below it.
pub fn explain(key: &str) -> Vec<Setting> {
    let plain = |key: &str| key.replace("[]", "");
    let key = plain(key);
    describe()
        .into_iter()
        .filter(|setting| {
            let known = plain(&setting.key);
            known == key || known.starts_with(&format!("{key}.")) || key.is_empty()
        })
        .collect()
}

/// `pillarbox.toml(5)` in man format.
pub fn manual_page() -> String {
    let mut page = String::from(
        ".TH PILLARBOX.TOML 5\n.SH NAME\npillarbox.toml \\- configuration of the pillarbox mail server\n.SH DESCRIPTION\n\
         One text file in TOML names everything. Every setting but host_name has a default. Relative paths count from the \
         folder of the file. An unknown setting is an error that names its line.\n.SH SETTINGS\n",
    );
    let mut section_now = String::new();
    for setting in describe() {
        let section = setting.key.rsplit_once('.').map_or("", |(section, _)| section);
        if section != section_now {
            section_now = section.to_owned();
            if let Some((_, text, _)) = SECTIONS.iter().find(|(name, ..)| *name == section) {
                page.push_str(&format!(".SS {}\n{}\n", roff(section), roff(&manual(text))));
            }
        }
        let default = setting.default.map(|default| format!(" (default: {default})")).unwrap_or_default();
        page.push_str(&format!(".TP\n.B {}\n{}{}\n", roff(&setting.key), roff(&setting.manual), roff(&default)));
    }
    page.push_str(".SH SEE ALSO\n.BR pillarbox (8)\n");
    page
}

fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let lines: Vec<String> = escaped
        .lines()
        .map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() })
        .map(|line| if line.is_empty() { ".sp".to_owned() } else { line })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P58: whatever can be written can be explained.
    #[test]
    fn every_setting_is_explained() {
        for (section, value) in table(&Config::default()) {
            let Some(keys) = value.as_table() else { continue };
            for key in keys.keys() {
                assert_eq!(explain(&format!("{section}.{key}")).len(), 1, "{section}.{key}");
            }
        }
    }

    #[test]
    fn every_setting_has_a_manual() {
        for setting in describe() {
            assert!(setting.manual.len() > 10, "{}", setting.key);
        }
        assert_eq!(explain("storage.folder").len(), 1);
        assert_eq!(explain("storage").len(), 3);
        assert_eq!(explain("listener.tls").len(), 1);
        assert!(explain("storage.foldr").is_empty());
    }
}
