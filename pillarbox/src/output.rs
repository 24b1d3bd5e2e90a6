//! What commands print: tables for people, JSON for programs, colours and progress on a terminal only.

use crate::config::{Finding, Severity};
use serde::Serialize;
use std::io::{BufWriter, IsTerminal, StdoutLock, Write};
use std::time::Instant;

/// Octets that are written in one go.
const PIECE_OCTETS: usize = 64 * 1024;

/// Standard output, in few writes: by itself it makes one of each line.
fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(PIECE_OCTETS, std::io::stdout().lock())
}

/// How to print.
pub struct Output {
    /// JSON instead of text.
    pub json: bool,
    colours: bool,
    progress: bool,
}

impl Output {
    /// Looks at where the output goes. `NO_COLOR` in the environment switches colours off.
    pub fn new(json: bool) -> Output {
        let terminal = std::io::stdout().is_terminal();
        let colours = terminal && !json && std::env::var_os("NO_COLOR").is_none();
        Output { json, colours, progress: std::io::stderr().is_terminal() && !json }
    }

    /// Prints an error with its causes.
    pub fn error(&self, error: &anyhow::Error) {
        if self.json {
            let _ = writeln!(std::io::stdout(), "{}", serde_json::json!({ "error": format!("{error:#}") }));
        } else {
            eprintln!("{} {error:#}", self.paint("31;1", "error:"));
        }
    }

    /// Prints a line, not in JSON.
    pub fn say(&self, text: impl AsRef<str>) {
        self.lines([text]);
    }

    /// Prints lines, not in JSON. A reader that has gone away, such as `head`, is no error of ours.
    pub fn lines(&self, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        if !self.json {
            let mut out = stdout();
            let _ = lines.into_iter().try_for_each(|line| writeln!(out, "{}", line.as_ref()));
        }
    }

    /// Prints a value as JSON, if JSON was asked for; `true` then.
    pub fn json(&self, value: &impl Serialize) -> bool {
        if self.json {
            let mut out = stdout();
            let _ = serde_json::to_writer_pretty(&mut out, value);
            let _ = out.write_all(b"\n");
        }
        self.json
    }

    /// Prints rows under headings, columns aligned; an array of objects in JSON.
    pub fn table(&self, headings: &[&str], rows: &[Vec<String>]) {
        if self.json {
            let objects: Vec<serde_json::Map<String, serde_json::Value>> = rows
                .iter()
                .map(|row| {
                    headings.iter().zip(row).map(|(key, value)| (key.replace(' ', "_"), value.clone().into())).collect()
                })
                .collect();
            self.json(&objects);
            return;
        }
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([headings[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        let heading = self.paint("1", &line(headings.to_vec()));
        let cells = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
        self.lines(std::iter::once(heading).chain(cells));
    }

    /// Prints findings, the worst first.
    pub fn findings(&self, findings: &[Finding]) {
        if self.json(&findings) {
            return;
        }
        self.lines(findings.iter().map(|finding| {
            let (word, colour) = match finding.severity {
                Severity::Error => ("error:", "31;1"),
                Severity::Warning => ("warning:", "33;1"),
            };
            finding.to_string().replacen(word, &self.paint(colour, word), 1)
        }));
    }

    /// Text in a colour, where there are colours.
    pub fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A line of progress for long work.
    pub fn progress(&self, what: &str) -> Progress {
        Progress { visible: self.progress, what: what.to_owned(), shown: None }
    }
}

/// A line of progress, renewed at most ten times a second, gone at the end.
pub struct Progress {
    visible: bool,
    what: String,
    shown: Option<Instant>,
}

impl Progress {
    /// Shows how far the work is.
    pub fn at(&mut self, done: u64, total: u64) {
        if !self.visible || self.shown.is_some_and(|shown| shown.elapsed().as_millis() < 100) {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0).min(100);
        let bar = "#".repeat(percent as usize / 4);
        eprint!("\r{} [{bar:25}] {percent:3} % {done}/{total}", self.what);
        let _ = std::io::stderr().flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
