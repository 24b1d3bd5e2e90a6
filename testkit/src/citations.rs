//! The RFC index: which section is answered where, gathered from the citations in the sources.
//!
//! A citation is `RFC <number> §<section>`; `(todo)` after it means not met yet, `(not)` that we differ and say why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// Where the index lies in the repository.
pub const INDEX: &str = "docs/rfc/README.md";

/// RFC to section to the files that cite it, with a mark.
type Index = BTreeMap<u32, BTreeMap<String, BTreeSet<String>>>;

/// The text that the index should have.
pub fn index(root: &Path) -> std::io::Result<String> {
    let mut sources = Vec::new();
    for floor in ["proto", "engine", "service", "pillarbox"] {
        crate::tidy::find(&root.join(floor), ".rs", &mut sources)?;
    }
    let mut index = Index::new();
    for source in sources {
        let text = std::fs::read_to_string(&source)?;
        let place = source.strip_prefix(root).unwrap_or(&source).display().to_string();
        for line in text.lines() {
            gather(line, &place, &mut index);
        }
    }
    Ok(render(&index))
}

fn gather(line: &str, place: &str, index: &mut Index) {
    for (start, _) in line.match_indices("RFC ") {
        let mut rest = &line[start + 4..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let Ok(number) = rest[..digits].parse() else { continue };
        rest = &rest[digits..];
        let sections = index.entry(number).or_default();
        let mut cited = false;
        // One number may stand before several sections: `RFC 5321 §4.1.4, §4.5`.
        while let Some(after) = rest.trim_start_matches([',', ' ']).strip_prefix('§') {
            let length = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.').len();
            let section = after[..length].trim_end_matches('.');
            rest = &after[length..];
            let mark = if rest.contains("(todo)") {
                " (todo)"
            } else if rest.contains("(not)") {
                " (differs)"
            } else {
                ""
            };
            sections.entry(section.to_owned()).or_default().insert(format!("{place}{mark}"));
            cited = true;
        }
        if !cited {
            sections.entry(String::new()).or_default().insert(place.to_owned());
        }
    }
}

fn render(index: &Index) -> String {
    let mut page = String::from(
        "# RFC index\n\nMade from the citations in the sources; `UPDATE=1 cargo test -p testkit citations` renews it.\n",
    );
    for (number, sections) in index {
        let _ = writeln!(page, "\n## RFC {number}\n");
        for (section, files) in sections {
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            let section = if section.is_empty() { "as a whole".to_owned() } else { format!("§{section}") };
            let _ = writeln!(page, "- {section}: {}", files.join(", "));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_fresh() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let path = root.join(INDEX);
        let wanted = index(root).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &wanted).unwrap();
        }
        let present = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(present == wanted, "{INDEX} is stale: UPDATE=1 cargo test -p testkit citations");
    }

    #[test]
    fn sections_and_marks_are_found() {
        let mut index = Index::new();
        gather("// RFC 5321 §4.1.4, §4.5.2 (todo): x; RFC 3463", "a.rs", &mut index);
        assert!(index[&5321]["4.5.2"].contains("a.rs (todo)"));
        assert!(index[&5321].contains_key("4.1.4"));
        assert!(index[&3463].contains_key(""));
    }
}
