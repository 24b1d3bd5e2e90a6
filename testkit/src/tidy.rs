//! The rules of the house that a program can check: imports point down, no cupboard rooms, citations well formed.
//!
//! It reads manifests and sources as text; `cargo test` runs it, and `cargo xtask tidy` prints its whole report.

use std::fmt;
use std::path::{Path, PathBuf};

/// The floors, lowest first. A crate may use crates of its own floor and of lower ones.
const FLOORS: [&str; 4] = ["proto", "engine", "service", "pillarbox"];
/// Names that say nothing of what is in a room.
const CUPBOARDS: [&str; 5] = ["common", "util", "utils", "helpers", "misc"];
/// How many of the longest functions and files are listed.
const LISTED: usize = 10;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Broken rules, one a line.
    pub faults: Vec<String>,
    /// The longest functions: lines, place.
    pub functions: Vec<(usize, String)>,
    /// The longest files without their tests: lines, path.
    pub files: Vec<(usize, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "fault: {fault}")?;
        }
        writeln!(f, "longest files (without tests):")?;
        for (lines, path) in &self.files {
            writeln!(f, "  {lines:5}  {path}")?;
        }
        writeln!(f, "longest functions:")?;
        for (lines, place) in &self.functions {
            writeln!(f, "  {lines:5}  {place}")?;
        }
        Ok(())
    }
}

/// Inspects a repository.
pub fn inspect(root: &Path) -> std::io::Result<Report> {
    let mut report = Report::default();
    for floor in ["proto", "engine", "service", "pillarbox", "testkit", "xtask", "tests"] {
        let mut manifests = Vec::new();
        find(&root.join(floor), "Cargo.toml", &mut manifests)?;
        for manifest in manifests {
            check_manifest(root, floor, &manifest, &mut report)?;
        }
        let mut sources = Vec::new();
        find(&root.join(floor), ".rs", &mut sources)?;
        for source in sources {
            check_source(root, floor, &source, &mut report)?;
        }
    }
    report.files.sort_by(|a, b| b.cmp(a));
    report.files.truncate(LISTED);
    report.functions.sort_by(|a, b| b.cmp(a));
    report.functions.truncate(LISTED);
    Ok(report)
}

pub(crate) fn find(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && name != "target" {
            find(&path, ending, found)?;
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    Ok(())
}

fn floor_of(root: &Path, package: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| {
        root.join(floor).join(package).join("Cargo.toml").exists()
            || (*floor == package && root.join(package).join("Cargo.toml").exists())
    })
}

/// Imports point down only; a protocol crate has no runtime.
fn check_manifest(root: &Path, floor: &str, manifest: &Path, report: &mut Report) -> std::io::Result<()> {
    let Some(own) = FLOORS.iter().position(|name| *name == floor) else { return Ok(()) };
    let text = std::fs::read_to_string(manifest)?;
    let place = show(root, manifest);
    let mut section = "";
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line;
            continue;
        }
        if section != "[dependencies]" || line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        if floor_of(root, name).is_some_and(|other| other > own) {
            report.faults.push(format!("{place}: imports point down only, but `{name}` lies above"));
        }
        if floor == "proto" && ["tokio", "rustls", "rusqlite", "nix", "socket2"].contains(&name) {
            report.faults.push(format!("{place}: the floor proto touches no world, so it has no use for `{name}`"));
        }
        if name == "testkit" {
            report.faults.push(format!("{place}: testkit is for tests only"));
        }
    }
    Ok(())
}

fn check_source(root: &Path, floor: &str, source: &Path, report: &mut Report) -> std::io::Result<()> {
    let text = std::fs::read_to_string(source)?;
    let place = show(root, source);
    let stem = source.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if CUPBOARDS.contains(&stem.as_str())
        || source.components().any(|part| CUPBOARDS.iter().any(|c| part.as_os_str() == *c))
    {
        report.faults.push(format!("{place}: no room is called `{stem}`"));
    }
    if !text.starts_with("//!") && !text.starts_with("#!") {
        report.faults.push(format!("{place}: does not open with `//!`: what it is"));
    }
    if text.contains("unsafe {") && floor != "testkit" {
        report.faults.push(format!("{place}: unsafe code"));
    }
    for (number, line) in text.lines().enumerate() {
        check_citations(line, &format!("{place}:{}", number + 1), report);
    }
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    report.files.push((code.lines().count(), place.clone()));
    list_functions(code, &place, report);
    Ok(())
}

/// A citation is `RFC <number>`, and where a section follows, `RFC <number> §<section>`.
fn check_citations(line: &str, place: &str, report: &mut Report) {
    for (start, _) in line.match_indices("RFC") {
        let before = line[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '/') {
            continue;
        }
        let rest = &line[start + 3..];
        let Some(rest) = rest.strip_prefix(' ') else {
            // The items of IMAP's FETCH that begin with the number of an obsolete standard are no citations.
            if !rest.starts_with("822") && (rest.starts_with(|c: char| c.is_ascii_digit()) || rest.starts_with('-')) {
                report.faults.push(format!("{place}: write `RFC <number>` with one space"));
            }
            continue;
        };
        let number = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        let after = &rest[number.len()..];
        let words = ["section", "sec.", "chapter", "Section"];
        if !number.is_empty() && words.iter().any(|word| after.trim_start_matches([',', ' ']).starts_with(word)) {
            report.faults.push(format!("{place}: write `RFC {number} §<section>`"));
        }
    }
}

/// Functions are found by their indentation, as rustfmt writes them.
fn list_functions(code: &str, place: &str, report: &mut Report) {
    let mut open: Option<(usize, usize, String)> = None;
    for (number, line) in code.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().collect();
        let function =
            words.iter().position(|word| *word == "fn").filter(|at| words[..*at].iter().all(|w| is_qualifier(w)));
        if let (None, Some(at)) = (&open, function) {
            let name = words.get(at + 1).map_or("", |name| name.split(['(', '<']).next().unwrap_or_default());
            open = Some((number, indent, name.to_owned()));
        }
        if let Some((start, depth, name)) = &open
            && indent == *depth
            && (line.trim() == "}" || (number == *start && line.trim_end().ends_with(['}', ';'])))
        {
            report.functions.push((number - start + 1, format!("{place}:{} {name}", start + 1)));
            open = None;
        }
    }
}

fn is_qualifier(word: &str) -> bool {
    matches!(word, "pub" | "async" | "const" | "unsafe" | "pub(crate)" | "pub(super)" | "extern" | "\"C\"")
}

fn show(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_in_order() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let report = inspect(root).unwrap();
        assert!(report.faults.is_empty(), "{report}");
        assert!(report.files.len() == LISTED, "{report}");
    }

    #[test]
    fn a_bad_citation_is_found() {
        let mut report = Report::default();
        check_citations(&format!("// RF{}5321 §4", "C"), "a", &mut report);
        check_citations(&format!("// RF{} 5321, section 4", "C"), "b", &mut report);
        check_citations("// RFC 5321 §4.5.2, RFC 2033 §4", "c", &mut report);
        assert_eq!(report.faults.len(), 2, "{report}");
    }
}
