//! The new text of one table while it is being worked out. No input or output but the first reading.

use super::{EditError, Fields, source_of};
use crate::accounts::FIELDS;
use crate::edit::commit::{Before, read_before};
use crate::names::{account_name, address_key, catch_all_domain};
use crate::table::{Entry, Source, words};
use mail::AccountName;
use std::path::{Path, PathBuf};

/// A table's text being edited.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    before: Option<Before>,
    text: String,
}

impl Draft {
    /// Reads the file; one that does not exist is empty.
    pub(crate) fn read(path: &Path) -> Result<Draft, EditError> {
        let before = read_before(path)?;
        let text = match &before {
            Some(before) => String::from_utf8(before.octets.clone())
                .map_err(|_| EditError::Tables(vec![source_of(path, b"").error(0, "not UTF-8", "save it as UTF-8")]))?,
            None => String::new(),
        };
        Ok(Draft { path: path.to_owned(), before, text })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn before(&self) -> Option<&Before> {
        self.before.as_ref()
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.before.as_ref().map_or(!self.text.is_empty(), |before| before.octets != self.text.as_bytes())
    }

    pub(crate) fn source(&self) -> Source<'_> {
        source_of(&self.path, self.text.as_bytes())
    }

    /// Adds a line at the end.
    pub(crate) fn append(&mut self, line: &str) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Adds the values that the entry of this key lacks, or the entry. Whether anything was added.
    pub(crate) fn add_values(&mut self, key: &str, values: &[String]) -> Result<bool, EditError> {
        let Some(entry) = self.entries_of(key)?.into_iter().next() else {
            self.append(&format!("{key} {}", values.join(", ")));
            return Ok(!values.is_empty());
        };
        let mut all: Vec<String> = words(&entry.value).into_iter().map(str::to_owned).collect();
        let count = all.len();
        for value in values {
            if !all.iter().any(|word| word.eq_ignore_ascii_case(value)) {
                all.push(value.clone());
            }
        }
        if all.len() > count {
            self.replace_value(&entry, &all);
        }
        Ok(all.len() > count)
    }

    /// Removes every entry of this key. Whether there was one.
    pub(crate) fn remove_entry(&mut self, key: &str) -> Result<bool, EditError> {
        let entries = self.entries_of(key)?;
        // From the end, so that the numbers of the lines before stay true.
        for entry in entries.iter().rev() {
            self.remove_entry_lines(entry);
        }
        Ok(!entries.is_empty())
    }

    /// Removes values from the entries of this key, and entries that are left without any. Whether there was one.
    pub(crate) fn remove_values(&mut self, key: &str, unwanted: impl Fn(&str) -> bool) -> Result<bool, EditError> {
        let entries = self.entries_of(key)?;
        Ok(self.remove_from(&entries, unwanted))
    }

    /// The same in all entries.
    pub(crate) fn remove_value_everywhere(&mut self, unwanted: impl Fn(&str) -> bool) -> Result<bool, EditError> {
        let entries = self.source().entries().map_err(|error| EditError::Tables(vec![error]))?;
        Ok(self.remove_from(&entries, unwanted))
    }

    /// Removes every line whose only word fits. Whether there was one.
    pub(crate) fn remove_lines(&mut self, unwanted: impl Fn(&str) -> bool) -> Result<bool, EditError> {
        let lines = self.source().lines().map_err(|error| EditError::Tables(vec![error]))?;
        let numbers: Vec<usize> = lines.iter().filter(|line| unwanted(line.text.trim())).map(|l| l.number).collect();
        self.rewrite(|number, line| if numbers.contains(&number) { None } else { Some(line.to_owned()) });
        Ok(!numbers.is_empty())
    }

    /// Removes every line of an account. Whether there was one.
    pub(crate) fn remove_account(&mut self, name: &AccountName) -> Result<bool, EditError> {
        self.remove_lines(|line| is_account(line, name))
    }

    /// Changes the line of an account that counts, the first.
    pub(crate) fn change_account(
        &mut self,
        name: &AccountName,
        change: impl FnOnce(&mut Fields) -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        let lines = self.source().lines().map_err(|error| EditError::Tables(vec![error]))?;
        let Some(line) = lines.into_iter().find(|line| is_account(line.text.trim(), name)) else {
            return Err(EditError::Unknown(format!("account {name}")));
        };
        let mut plain: Vec<String> = line.text.trim().splitn(FIELDS, ':').map(str::to_owned).collect();
        let words = (plain.len() == FIELDS).then(|| plain.pop().unwrap_or_default());
        let words = words.map(|words| words.split_whitespace().map(str::to_owned).collect());
        let mut fields = Fields { plain, words };
        change(&mut fields)?;
        let Fields { mut plain, words } = fields;
        if let Some(words) = words {
            plain.resize(FIELDS - 1, String::new());
            plain.push(words.join(" "));
        }
        let (changed, at) = (plain.join(":"), line.number);
        self.rewrite(|number, line| Some(if number == at { changed.clone() } else { line.to_owned() }));
        Ok(())
    }

    fn entries_of(&self, key: &str) -> Result<Vec<Entry>, EditError> {
        let entries = self.source().entries().map_err(|error| EditError::Tables(vec![error]))?;
        let wanted = folded(key);
        Ok(entries.into_iter().filter(|entry| folded(&entry.key) == wanted).collect())
    }

    fn remove_from(&mut self, entries: &[Entry], unwanted: impl Fn(&str) -> bool) -> bool {
        let mut found = false;
        for entry in entries.iter().rev() {
            let all = words(&entry.value);
            let left: Vec<String> = all.iter().filter(|word| !unwanted(word)).map(|word| (*word).to_owned()).collect();
            if left.len() == all.len() {
                continue;
            }
            found = true;
            if left.is_empty() {
                self.remove_entry_lines(entry);
            } else {
                self.replace_value(entry, &left);
            }
        }
        found
    }

    /// Comments and blank lines between the lines of an entry stay.
    fn remove_entry_lines(&mut self, entry: &Entry) {
        self.rewrite(|number, line| {
            let within = (entry.line..=entry.last_line).contains(&number) && !is_remark(line);
            if within { None } else { Some(line.to_owned()) }
        });
    }

    /// Puts all values on the entry's first line, behind the key and the white space that were there.
    fn replace_value(&mut self, entry: &Entry, values: &[String]) {
        let values = values.join(", ");
        self.rewrite(|number, line| match number {
            number if number == entry.line => {
                let head = line.trim_end().strip_suffix(&entry.value).filter(|head| head.ends_with([' ', '\t']));
                Some(head.map_or_else(|| format!("{} {values}", entry.key), |head| format!("{head}{values}")))
            }
            number if (entry.line..=entry.last_line).contains(&number) && !is_remark(line) => None,
            _ => Some(line.to_owned()),
        });
    }

    /// Passes every line, numbered from 1 up, through `keep`; what it does not change keeps every octet.
    pub(crate) fn rewrite(&mut self, keep: impl Fn(usize, &str) -> Option<String>) {
        let mut text = String::with_capacity(self.text.len());
        for (index, line) in self.text.split_inclusive('\n').enumerate() {
            let (bare, end) = line.strip_suffix('\n').map_or((line, ""), |bare| (bare, "\n"));
            if let Some(kept) = keep(index + 1, bare) {
                text.push_str(&kept);
                text.push_str(end);
            }
        }
        self.text = text;
    }
}

fn is_remark(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn is_account(line: &str, name: &AccountName) -> bool {
    line.split(':').next().and_then(account_name).as_ref() == Some(name)
}

/// Keys that mean the same are equal in this form.
fn folded(key: &str) -> String {
    match (catch_all_domain(key), address_key(key)) {
        (Some(domain), _) => format!("@{domain}"),
        (None, Some((key, _))) => key,
        (None, None) => key.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str) -> Draft {
        Draft { path: "table".into(), before: None, text: text.to_owned() }
    }

    const ALIASES: &str = "# aliases of the house\n\
                           info@example.net \t brian@example.net,notbrian@example.net\n\
                           \n\
                           abuse@example.net        brian@example.net,\n\
                           # also\n\
                           \x20  notbrian@example.net\n\
                           *@example.net            notbrian@example.net";

    #[test]
    fn adding_keeps_comments_order_and_columns() {
        let mut aliases = draft(ALIASES);
        assert!(aliases.add_values("INFO@example.net", &["x@example.org".into(), "Brian@example.net".into()]).unwrap());
        assert!(aliases.add_values("new@example.net", &["a@b".into(), "c@d".into()]).unwrap());
        assert!(!aliases.add_values("new@example.net", &["c@d".into()]).unwrap());
        let expected = ALIASES.replace(
            "brian@example.net,notbrian@example.net\n\n",
            "brian@example.net, notbrian@example.net, x@example.org\n\n",
        );
        assert_eq!(aliases.text(), format!("{expected}\nnew@example.net a@b, c@d\n"));
    }

    #[test]
    fn removing_takes_continuations_and_leaves_remarks() {
        let mut aliases = draft(ALIASES);
        assert!(aliases.remove_entry("abuse@EXAMPLE.net").unwrap());
        assert!(aliases.remove_entry("@example.net").unwrap());
        assert!(!aliases.remove_entry("@example.net").unwrap());
        assert_eq!(
            aliases.text(),
            "# aliases of the house\ninfo@example.net \t brian@example.net,notbrian@example.net\n\n# also\n"
        );
    }

    #[test]
    fn removing_values_joins_what_is_left() {
        let mut aliases = draft(ALIASES);
        assert!(aliases.remove_value_everywhere(|word| word == "brian@example.net").unwrap());
        assert_eq!(
            aliases.text(),
            "# aliases of the house\ninfo@example.net \t notbrian@example.net\n\nabuse@example.net notbrian@example.net\n\
             # also\n*@example.net            notbrian@example.net"
        );
    }

    #[test]
    fn account_fields_change_alone() {
        let text = "# people\na@x:{PLAIN}a:1:2::/home:/bin/sh:k=v  w\nb@x:{PLAIN}b\n";
        let name = AccountName::parse("A@x").unwrap();
        let mut accounts = draft(text);
        accounts
            .change_account(&name, |fields| {
                super::super::eighth_field(fields)?.push("nologin".into());
                Ok(())
            })
            .unwrap();
        assert_eq!(accounts.text(), text.replace("k=v  w", "k=v w nologin"));
        assert!(accounts.remove_account(&name).unwrap());
        assert_eq!(accounts.text(), "# people\nb@x:{PLAIN}b\n");
        let other = AccountName::parse("b@x").unwrap();
        assert!(accounts.change_account(&other, |fields| super::super::eighth_field(fields).map(drop)).is_err());
        assert!(accounts.change_account(&name, |_| Ok(())).is_err());
    }

    #[test]
    fn whatever_is_edited_can_be_read_again() {
        let keys = ["a@x", "*@x", "\"a b\"@x", "b@y"];
        let values = ["c@x", "d@y", "\"e, f\"@x"];
        let mut aliases = draft("# head\na@x c@x,\n\n  d@y\n");
        // Every order of adding and removing within a fixed walk of steps.
        for step in 0_usize..500 {
            let key = keys[(step * 7 + step / 5) % keys.len()];
            let value = values[(step * 5 + step / 3) % values.len()];
            match step % 3 {
                0 | 1 => drop(aliases.add_values(key, &[value.to_owned()]).unwrap()),
                _ => drop(aliases.remove_values(key, |word| word == value).unwrap()),
            }
            let parsed = crate::maps::read_aliases(&aliases.source()).unwrap();
            assert!(parsed.findings.is_empty(), "{}", aliases.text());
        }
        for key in keys {
            aliases.remove_entry(key).unwrap();
        }
        assert_eq!(aliases.text(), "# head\n\n");
    }
}
