//! From result lines to a page.

use std::collections::BTreeMap;
use std::path::Path;

/// Figures of one server: a key to its values, one a run.
pub struct Results {
    name: &'static str,
    figures: BTreeMap<String, Vec<f64>>,
}

/// Figures that are read from result lines.
const FIELDS: [&str; 7] =
    ["delivered_per_s", "ops_per_s", "logins_per_s", "ms", "msgs_per_s", "op_p99_ms", "appends_per_s"];

impl Results {
    /// No figures yet.
    pub fn new(name: &'static str) -> Results {
        Results { name, figures: BTreeMap::new() }
    }

    /// Adds a figure.
    pub fn set(&mut self, key: &str, value: f64) {
        self.figures.entry(key.to_owned()).or_default().push(value);
    }

    /// Adds the figures of a file of result lines.
    pub fn take(&mut self, file: &Path) -> anyhow::Result<()> {
        for line in std::fs::read_to_string(file)?.lines() {
            let Ok(row) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let label = row["label"].as_str().or(row["test"].as_str()).unwrap_or_default();
            let label = label.strip_prefix(self.name).unwrap_or(label).trim();
            let step = row["step"].as_str().unwrap_or_default();
            for field in FIELDS {
                if let Some(value) = row[field].as_f64() {
                    self.set(&format!("{label}|{step}|{field}"), value);
                }
            }
        }
        Ok(())
    }

    /// Median, least and greatest of a figure.
    pub fn median(&self, key: &str) -> Option<(f64, f64, f64)> {
        let mut values = self.figures.get(key)?.clone();
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        let upper = values.get(half).copied()?;
        let middle = if values.len().is_multiple_of(2) { (values.get(half - 1)? + upper) / 2.0 } else { upper };
        Some((middle, values.first().copied()?, values.last().copied()?))
    }
}

/// A row of a table: what, key, whether more is better, the goal.
pub type Row<'a> = (&'a str, &'a str, bool, &'a str);

/// The rows of the page.
const ROWS: [Row<'static>; 27] = [
    ("inbound 4 KiB, 1 session, /s", "size=4096 sessions=1||delivered_per_s", true, "4 ×"),
    ("inbound 4 KiB, 10 sessions, /s", "size=4096 sessions=10||delivered_per_s", true, "20 ×"),
    ("inbound 4 KiB, 50 sessions, /s", "size=4096 sessions=50||delivered_per_s", true, "20 ×"),
    ("inbound 64 KiB, 1 session, /s", "size=65536 sessions=1||delivered_per_s", true, "4 ×"),
    ("inbound 64 KiB, 10 sessions, /s", "size=65536 sessions=10||delivered_per_s", true, "8 ×"),
    ("inbound 64 KiB, 50 sessions, /s", "size=65536 sessions=50||delivered_per_s", true, "8 ×"),
    ("IMAP mix, 10 clients, operations/s", "imap-mix clients=10||ops_per_s", true, "3 ×"),
    ("IMAP mix, 50 clients, operations/s", "imap-mix clients=50||ops_per_s", true, "3 ×"),
    ("logins, bcrypt cost 8, 10 sessions, /s", "imap-login sessions=10||logins_per_s", true, "all cores"),
    ("logins, bcrypt cost 8, 50 sessions, /s", "imap-login sessions=50||logins_per_s", true, "all cores"),
    ("SELECT of the big mailbox, ms", "big|SELECT|ms", false, "≤ 1 ms known"),
    ("FETCH 1:* (UID FLAGS), ms", "big|FETCH 1:* (UID FLAGS)|ms", false, "3 ×"),
    ("FETCH … ENVELOPE, ms", "big|FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)|ms", false, "2 ×"),
    ("FETCH 1:* BODY.PEEK[], ms", "big|FETCH 1:* (UID BODY.PEEK[])|ms", false, "1.5 ×"),
    ("SEARCH TEXT, no hit, ms", "search10k|SEARCH TEXT \"zebra-not-there\"|ms", false, "2 ×"),
    ("SEARCH BODY, ms", "search10k|SEARCH BODY \"invoice\"|ms", false, "2 ×"),
    ("SEARCH SUBJECT, ms", "search10k|SEARCH SUBJECT \"budget\"|ms", false, ""),
    ("SEARCH FROM, ms", "search10k|SEARCH FROM \"sender 42\"|ms", false, ""),
    ("POP3S RETR, one at a time, /s", "pop3 in-flight=1||msgs_per_s", true, "1 ×"),
    ("POP3S RETR, 20 in flight, /s", "pop3 in-flight=20||msgs_per_s", true, "1.5 ×"),
    ("memory at rest, MiB", "rest_mib", false, "≤ 25 MiB"),
    ("memory of an idle IMAPS connection (1,000), KiB", "idle_kib", false, "≤ 16 KiB"),
    ("start to first greeting, ms", "start_ms", false, "≤ 50 ms"),
    ("start after kill -9, with the big mailbox, ms", "restart_ms", false, "≤ 200 ms"),
    ("disk, octets for each octet of mail", "disk_ratio", false, "≤ 0.6"),
    ("fill by MULTIAPPEND, messages/s", "imap-fill||appends_per_s", true, ""),
    ("IMAP mix, 50 clients, p99 of an operation, ms", "imap-mix clients=50||op_p99_ms", false, ""),
];

/// The page, but for its sections.
pub fn page(all: &[Results], runs: u64, big: u64) -> String {
    format!(
        "# What is measured\n\nWritten by `cargo xtask bench`: the reference stack (Postfix and Dovecot, durable defaults) and pillarbox in turn on \
         the same machine in one run, under the same load, plain SMTP, IMAP and POP3 inside TLS. Load and server share the \
         machine's cores ({} here). Medians of {runs} runs (least–greatest); the big mailbox holds {big} messages of 4 KiB. A ratio \
         above 1 means that pillarbox is better.\n\n{}",
        std::thread::available_parallelism().map_or(1, usize::from),
        table(&ROWS, all)
    )
}

/// Both servers side by side.
pub fn table(rows: &[Row<'_>], all: &[Results]) -> String {
    let mut table = String::from("| what | reference | pillarbox | ratio | goal |\n| --- | --- | --- | --- | --- |\n");
    let find = |name: &str| all.iter().find(|results| results.name == name);
    let (reference, ours) = (find("reference"), find("pillarbox"));
    for (what, key, more_is_better, goal) in rows {
        let show = |results: Option<&Results>| match results.and_then(|results| results.median(key)) {
            Some((middle, low, high)) => format!("{} ({}–{})", number(middle), number(low), number(high)),
            None => "–".to_owned(),
        };
        let median =
            |results: Option<&Results>| results.and_then(|results| results.median(key)).map(|(middle, _, _)| middle);
        let ratio = match (median(reference), median(ours)) {
            (Some(theirs), Some(ours)) if theirs > 0.0 && ours > 0.0 => {
                format!("{:.1} ×", if *more_is_better { ours / theirs } else { theirs / ours })
            }
            _ => "–".to_owned(),
        };
        table.push_str(&format!("| {what} | {} | {} | {ratio} | {goal} |\n", show(reference), show(ours)));
    }
    table
}

/// Where a section of a page lies: from its heading to the next of its kind, or the end.
fn place(page: &str, heading: &str) -> Option<std::ops::Range<usize>> {
    let start = page.find(&format!("\n{heading}\n"))? + 1;
    let after = start + heading.len();
    let end = page.get(after..)?.find("\n## ").map_or(page.len(), |at| after + at + 1);
    Some(start..end)
}

/// A section of a page, with its heading.
pub fn section<'a>(page: &'a str, heading: &str) -> Option<&'a str> {
    page.get(place(page, heading)?)
}

/// The page with a section in the place of the one with the same heading, or at the end.
pub fn with_section(page: &str, heading: &str, section: &str) -> String {
    match place(page, heading) {
        Some(place) => {
            let (before, after) =
                (page.get(..place.start).unwrap_or_default(), page.get(place.end..).unwrap_or_default());
            let gap = if after.is_empty() { "" } else { "\n" };
            format!("{before}{}\n{gap}{after}", section.trim_end())
        }
        None => format!("{}\n\n{}\n", page.trim_end(), section.trim_end()),
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_take_the_place_of_their_older_selves() {
        let page = with_section("# a\n\ntext\n", "## b", "## b\n\nold\n");
        assert_eq!(page, "# a\n\ntext\n\n## b\n\nold\n");
        assert_eq!(section(&page, "## b"), Some("## b\n\nold\n"));
        assert_eq!(with_section(&page, "## b", "## b\n\nnew\n"), "# a\n\ntext\n\n## b\n\nnew\n");
        let longer = format!("{page}\n## c\n\nkept\n");
        assert_eq!(with_section(&longer, "## b", "## b\nnew"), "# a\n\ntext\n\n## b\nnew\n\n## c\n\nkept\n");
        assert_eq!(section(&longer, "## d"), None);
    }
}
