//! How the text of a table is cut into lines and entries, and how its faults are named.
//!
//! Three shapes: physical lines (accounts), one word a line (domains), and `key value` with continuation lines
//! (mailboxes, aliases, senders, access). What the words mean is known to the modules that read them; which file is
//! read when is known to [`crate::watch`].

use std::fmt;
use std::path::{Path, PathBuf};

/// Largest table in octets. A million accounts with bcrypt hashes fit.
pub const FILE_OCTETS_MAX: usize = 128 << 20;
/// Most physical lines of a table.
pub const LINES_MAX: usize = 2_000_000;
/// Longest entry in octets, its continuation lines included.
pub const ENTRY_OCTETS_MAX: usize = 512 << 10;
/// Most values of one entry: targets of an alias, logins of a sender.
pub const VALUES_MAX: usize = 1_000;
/// Most findings kept of one table; the rest would say the same again.
pub const FINDINGS_MAX: usize = 1_000;

/// Why a table cannot be used, where, and what to do. It never quotes a password field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableError {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1 up; `None` when the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub cure: String,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}; {}", self.cause, self.cure)
    }
}

impl std::error::Error for TableError {}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Works, but probably not as meant.
    Warning,
    /// Mail or logins fail because of it.
    Error,
}

/// Something worth telling the administrator about a table that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// Line, from 1 up; `None` when the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub cure: String,
}

impl From<TableError> for Finding {
    fn from(error: TableError) -> Finding {
        let TableError { file, line, cause, cure } = error;
        Finding { severity: Severity::Error, file, line, cause, cure }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}; {}", self.cause, self.cure)
    }
}

/// A table that was read, with what is worth saying about it.
#[derive(Debug)]
pub struct Parsed<T> {
    /// The table.
    pub content: T,
    /// At most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

/// The octets of a table and the file they came from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Named in errors; not opened here.
    pub file: &'a Path,
    /// The whole content.
    pub octets: &'a [u8],
}

/// One physical line that is neither blank nor a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// From 1 up.
    pub number: usize,
    /// Without its line end; white space as it was.
    pub text: &'a str,
}

/// One `key value` of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// First physical line.
    pub line: usize,
    /// Last physical line, greater than `line` when it is continued.
    pub last_line: usize,
    /// As written.
    pub key: String,
    /// As written, continuation lines joined by a space, outer white space removed; never empty.
    pub value: String,
}

impl<'a> Source<'a> {
    /// A fault of this table. `line` 0 means the whole file.
    pub fn error(&self, line: usize, cause: impl Into<String>, cure: impl Into<String>) -> TableError {
        TableError {
            file: self.file.to_owned(),
            line: (line > 0).then_some(line),
            cause: cause.into(),
            cure: cure.into(),
        }
    }

    /// A warning about this table.
    pub fn warning(&self, line: usize, cause: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::from(self.error(line, cause, cure)) }
    }

    /// All lines that say something: not blank, and not beginning with `#`. A NUL, a carriage return or any other
    /// control character refuses the table, so that no key or value can carry one further (V14).
    pub fn lines(&self) -> Result<Vec<Line<'a>>, TableError> {
        let mut lines = Vec::new();
        for (index, text) in self.text()?.split('\n').enumerate() {
            let number = index + 1;
            if number > LINES_MAX {
                return Err(self.error(number, format!("more than {LINES_MAX} lines"), "split or shorten the table"));
            }
            if text.len() > ENTRY_OCTETS_MAX {
                return Err(self.error(
                    number,
                    "the line is too long",
                    format!("keep it below {ENTRY_OCTETS_MAX} octets"),
                ));
            }
            if let Some(control) = text.chars().find(|c| c.is_control() && *c != '\t') {
                return Err(self.control(number, control));
            }
            if !text.trim_start().is_empty() && !text.trim_start().starts_with('#') {
                lines.push(Line { number, text });
            }
        }
        Ok(lines)
    }

    /// The entries of a map. A line that begins with white space continues the one before; blank lines and comments
    /// may stand between the two.
    pub fn entries(&self) -> Result<Vec<Entry>, TableError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bare_key: Option<(usize, usize, String)> = None;
        for line in self.lines()? {
            if line.text.starts_with([' ', '\t']) {
                let more = line.text.trim();
                if let Some((first, _, key)) = bare_key.take() {
                    entries.push(Entry { line: first, last_line: line.number, key, value: more.to_owned() });
                    continue;
                }
                let Some(entry) = entries.last_mut() else {
                    return Err(self.error(
                        line.number,
                        "the first entry begins with white space",
                        "begin entries in the first column; white space continues the line before",
                    ));
                };
                if entry.value.len() + more.len() > ENTRY_OCTETS_MAX {
                    return Err(self.error(line.number, "the entry is too long", "split it"));
                }
                entry.value.push(' ');
                entry.value.push_str(more);
                entry.last_line = line.number;
                continue;
            }
            self.refuse_bare_key(bare_key.take())?;
            let (key, value) = split_key(line.text);
            if value.is_empty() {
                bare_key = Some((line.number, line.number, key.to_owned()));
            } else {
                let (key, value) = (key.to_owned(), value.to_owned());
                entries.push(Entry { line: line.number, last_line: line.number, key, value });
            }
        }
        self.refuse_bare_key(bare_key)?;
        Ok(entries)
    }

    fn refuse_bare_key(&self, bare: Option<(usize, usize, String)>) -> Result<(), TableError> {
        match bare {
            Some((line, _, key)) => Err(self.error(
                line,
                format!("{} has no value", shown(&key)),
                "write the key, white space, then the value",
            )),
            None => Ok(()),
        }
    }

    fn text(&self) -> Result<&'a str, TableError> {
        if self.octets.len() > FILE_OCTETS_MAX {
            return Err(self.error(0, format!("larger than {FILE_OCTETS_MAX} octets"), "split or shorten the table"));
        }
        match std::str::from_utf8(self.octets) {
            Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
            Err(error) => {
                let before = self.octets.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + before.iter().filter(|octet| **octet == b'\n').count();
                Err(self.error(line, "not UTF-8", "save the file as UTF-8"))
            }
        }
    }

    fn control(&self, line: usize, control: char) -> TableError {
        match control {
            '\r' => self.error(line, "holds a carriage return", "end lines with LF alone, as Unix editors do"),
            '\0' => self.error(line, "holds a NUL", "remove it"),
            other => self.error(line, format!("holds the control character U+{:04X}", u32::from(other)), "remove it"),
        }
    }
}

/// Splits at the first white space outside of quotes; both sides trimmed.
fn split_key(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = unquoted(text).find(|(_, c)| matches!(c, ' ' | '\t')).map_or(text.len(), |(index, _)| index);
    let (key, value) = text.split_at(end);
    (key, value.trim())
}

/// The words of a value, separated by commas, white space or both, outside of quotes.
pub fn words(value: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    for (index, c) in unquoted(value) {
        if matches!(c, ',' | ' ' | '\t') {
            words.push(value.get(start..index).unwrap_or_default());
            start = index + c.len_utf8();
        }
    }
    words.push(value.get(start..).unwrap_or_default());
    words.retain(|word| !word.is_empty());
    words
}

/// The characters of a text that stand outside of quoted strings (RFC 5321 §4.1.2), with their places.
fn unquoted(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut quoted = false;
    let mut escaped = false;
    text.char_indices().filter(move |(_, c)| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return !quoted,
        }
        false
    })
}

/// A key as errors show it: quoted, escaped, and cut to a readable length.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    let mut out: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        out.push('…');
    }
    format!("\"{out}\"")
}

/// Keeps at most [`FINDINGS_MAX`].
pub(crate) fn keep(findings: &mut Vec<Finding>, finding: Finding) {
    if findings.len() < FINDINGS_MAX {
        findings.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source<'_> {
        Source { file: Path::new("aliases"), octets: text.as_bytes() }
    }

    fn entries(text: &str) -> Vec<(usize, String, String)> {
        source(text).entries().unwrap().into_iter().map(|e| (e.line, e.key, e.value)).collect()
    }

    #[test]
    fn r116_comments_blank_lines_and_continuations() {
        let text = "# head\n\na b,\n  # between\n\n\tc\n  d\nkey\n   late value\nlast x";
        let expected = [(3, "a", "b, c d"), (8, "key", "late value"), (10, "last", "x")];
        let got = entries(text);
        assert_eq!(got.len(), expected.len());
        for ((line, key, value), (l, k, v)) in got.iter().zip(expected) {
            assert_eq!((*line, key.as_str(), value.as_str()), (l, k, v));
        }
    }

    #[test]
    fn a_quoted_key_may_hold_white_space() {
        assert_eq!(entries("\"a b\"@x y"), [(1, "\"a b\"@x".into(), "y".into())]);
        assert_eq!(words("a@b,c@d  ,\te@f , \"g, h\"@i"), ["a@b", "c@d", "e@f", "\"g, h\"@i"]);
        assert!(words(" , ").is_empty());
    }

    #[test]
    fn v14_controls_are_refused_with_their_line() {
        for (text, line) in [("a b\r\n", 1), ("a b\nc d\0", 2), ("a b\n\n\x1b x", 3), ("a b\n# \x7f", 2)] {
            assert_eq!(source(text).entries().unwrap_err().line, Some(line), "{text:?}");
        }
        let bad = Source { file: Path::new("x"), octets: b"a b\nc \xff" };
        assert_eq!(bad.entries().unwrap_err().line, Some(2));
    }

    #[test]
    fn faults_name_file_line_and_cure() {
        let error = source("a b\nkey\nc d").entries().unwrap_err();
        assert_eq!(error.to_string(), "aliases:2: \"key\" has no value; write the key, white space, then the value");
        assert_eq!(source("  a b").entries().unwrap_err().line, Some(1));
        assert_eq!(source("a b\nkey").entries().unwrap_err().line, Some(2));
    }

    #[test]
    fn v14_limits_hold() {
        let long = format!("a {}", "x".repeat(ENTRY_OCTETS_MAX));
        assert!(source(&long).entries().is_err());
        let piece = format!("a b\n {}\n {}", "x".repeat(ENTRY_OCTETS_MAX / 2), "y".repeat(ENTRY_OCTETS_MAX / 2));
        assert_eq!(source(&piece).entries().unwrap_err().line, Some(3));
        assert!(source(&"\n".repeat(LINES_MAX + 1)).lines().is_err());
    }
}
