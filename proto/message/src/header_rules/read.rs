//! Reads a rule file.

use super::action::Wanted;
use super::pattern::{Flags, Pattern, cause};
use super::{Does, HeaderRules, Step};
use regex::bytes::RegexSetBuilder;
use std::fmt;
use std::path::{Path, PathBuf};

/// Octets of a rule file.
pub const FILE_OCTETS_MAX: usize = 1024 * 1024;
/// Rules and conditions of a file. Published rule sets have some hundreds.
pub const RULES_MAX: usize = 1_000;
/// Conditions that are open at one place.
pub const CONDITIONS_OPEN_MAX: usize = 20;
/// Octets of memory that all patterns of a file may take together.
pub const RULES_MEMORY_OCTETS_MAX: usize = 16 * 1024 * 1024;

const SYNTAX: &str = "write /pattern/ ACTION, !/pattern/ ACTION, if /pattern/ or endif";
const ACTIONS: &str =
    "write IGNORE, STRIP, REPLACE, PREPEND, WARN, INFO, HOLD, REJECT, DISCARD, REDIRECT or DUNNO, then its text";

/// Why a rule file cannot be used, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesError {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1 up; `None` when the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub cure: String,
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}; {}", self.cause, self.cure)
    }
}

impl std::error::Error for RulesError {}

/// What is wrong and what to do; the line is known to the caller.
type Fault = (String, &'static str);

impl HeaderRules {
    /// Reads the content of a rule file. `file` is named in errors and not opened.
    pub fn read(file: &Path, octets: &[u8]) -> Result<HeaderRules, RulesError> {
        let fail = |line: usize, cause: String, cure: &str| RulesError {
            file: file.to_owned(),
            line: (line > 0).then_some(line),
            cause,
            cure: cure.to_owned(),
        };
        let mut reader = Reader::default();
        for (number, line) in lines(octets).map_err(|(line, cause, cure)| fail(line, cause, cure))? {
            reader.take(number, &line).map_err(|(cause, cure)| fail(number, cause, cure))?;
        }
        if let Some((_, line)) = reader.open.last() {
            return Err(fail(*line, "this condition has no endif".to_owned(), "write endif behind its last rule"));
        }
        let patterns = RegexSetBuilder::new(&reader.expressions)
            .unicode(false)
            .size_limit(RULES_MEMORY_OCTETS_MAX)
            .build()
            .map_err(|error| {
                fail(0, format!("all patterns together: {}", cause(&error)), "use fewer or simpler ones")
            })?;
        Ok(HeaderRules { patterns, steps: reader.steps })
    }
}

/// A line that says something, with the number of its first physical line, continuation lines joined by one space.
type Line = (usize, String);

/// All of them. An error has its line, 0 for the whole file.
fn lines(octets: &[u8]) -> Result<Vec<Line>, (usize, String, &'static str)> {
    if octets.len() > FILE_OCTETS_MAX {
        return Err((0, format!("larger than {FILE_OCTETS_MAX} octets"), "use fewer rules"));
    }
    let octets = octets.strip_prefix("\u{feff}".as_bytes()).unwrap_or(octets);
    let mut lines: Vec<Line> = Vec::new();
    for (index, line) in octets.split(|b| *b == b'\n').enumerate() {
        let number = index + 1;
        let Ok(line) = std::str::from_utf8(line) else {
            return Err((number, "not UTF-8".to_owned(), "save the file as UTF-8"));
        };
        if let Some(control) = line.chars().find(|c| c.is_control() && *c != '\t') {
            let cause = format!("holds the control character U+{:04X}", u32::from(control));
            return Err((number, cause, "remove it; lines end with LF alone"));
        }
        let text = line.trim_matches([' ', '\t']);
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if !line.starts_with([' ', '\t']) {
            lines.push((number, text.to_owned()));
        } else if let Some((_, rule)) = lines.last_mut() {
            rule.push(' ');
            rule.push_str(text);
        } else {
            let cause = "the first rule begins with white space".to_owned();
            return Err((number, cause, "begin rules in the first column; white space continues the line before"));
        }
    }
    Ok(lines)
}

#[derive(Default)]
struct Reader {
    expressions: Vec<String>,
    steps: Vec<Step>,
    /// The conditions without their endif: index and line.
    open: Vec<(usize, usize)>,
}

impl Reader {
    fn take(&mut self, line: usize, text: &str) -> Result<(), Fault> {
        let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        if text.eq_ignore_ascii_case("endif") {
            return self.end_condition();
        }
        if word.eq_ignore_ascii_case("if") {
            return self.begin_condition(line, rest.trim_start());
        }
        if word.eq_ignore_ascii_case("endif") {
            return Err(("there is text behind endif".to_owned(), "remove it"));
        }
        let (rule, action) = Rule::parse(text)?;
        let wanted = Wanted::parse(action, if rule.is_negated { 0 } else { rule.pattern.groups() })
            .map_err(|cause| (cause, ACTIONS))?;
        let Rule { is_negated, pattern: Pattern { expression, regex } } = rule;
        let regex = wanted.needs_groups().then_some(regex);
        self.push(expression, Step { line, is_negated, does: Does::Act(wanted, regex) })
    }

    fn begin_condition(&mut self, line: usize, text: &str) -> Result<(), Fault> {
        let (rule, rest) = Rule::parse(text)?;
        if !rest.is_empty() {
            return Err(("there is text behind the pattern of if".to_owned(), "write the rule on a line of its own"));
        }
        if self.open.len() >= CONDITIONS_OPEN_MAX {
            let cause = format!("more than {CONDITIONS_OPEN_MAX} conditions inside each other");
            return Err((cause, "write endif where one ends"));
        }
        self.open.push((self.steps.len(), line));
        let Rule { is_negated, pattern } = rule;
        self.push(pattern.expression, Step { line, is_negated, does: Does::Skip(0) })
    }

    fn end_condition(&mut self) -> Result<(), Fault> {
        let next = self.steps.len();
        let step = self.open.pop().and_then(|(index, _)| self.steps.get_mut(index));
        let Some(step) = step else { return Err(("endif without if".to_owned(), "remove it")) };
        step.does = Does::Skip(next);
        Ok(())
    }

    fn push(&mut self, expression: String, step: Step) -> Result<(), Fault> {
        if self.steps.len() >= RULES_MAX {
            return Err((format!("more than {RULES_MAX} rules"), "join patterns with |"));
        }
        self.expressions.push(expression);
        self.steps.push(step);
        Ok(())
    }
}

/// The part of a line that says when it applies.
struct Rule {
    is_negated: bool,
    pattern: Pattern,
}

impl Rule {
    /// Reads `!/pattern/flags`, with any sign of punctuation in the place of the slash; gives also what follows.
    fn parse(text: &str) -> Result<(Rule, &str), Fault> {
        let mut rest = text;
        let mut is_negated = false;
        while let Some(after) = rest.strip_prefix('!') {
            is_negated = !is_negated;
            rest = after.trim_start();
        }
        let mut chars = rest.chars();
        let delimiter = chars.next().filter(|c| c.is_ascii_punctuation() && *c != '\\');
        let Some(delimiter) = delimiter else {
            return Err(("no pattern where one should begin".to_owned(), SYNTAX));
        };
        let body = chars.as_str();
        let Some((pattern, after)) = end_of_pattern(body, delimiter).and_then(|end| body.split_at_checked(end)) else {
            return Err((format!("the pattern has no {delimiter} at its end"), SYNTAX));
        };
        let after = after.get(1..).unwrap_or_default();
        let (letters, rest) = after.split_at(after.find([' ', '\t']).unwrap_or(after.len()));
        let mut flags = Flags::default();
        if let Some(letter) = letters.chars().find(|letter| !flags.toggle(*letter)) {
            let cause = format!("unknown flag {letter:?} behind the pattern");
            return Err((
                cause,
                "write i (case), m (lines) or x (basic expressions), and white space before the action",
            ));
        }
        let pattern = Pattern::new(pattern, flags).map_err(|cause| {
            (format!("the pattern cannot be used: {cause}"), "write it as an extended regular expression")
        })?;
        Ok((Rule { is_negated, pattern }, rest.trim_start()))
    }
}

/// Where the delimiter stands that ends a pattern: the first without a backslash before it.
fn end_of_pattern(body: &str, delimiter: char) -> Option<usize> {
    let mut is_escaped = false;
    body.char_indices().find_map(|(index, c)| {
        let ends = c == delimiter && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends.then_some(index)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Action;
    use super::*;

    fn read(text: &str) -> Result<HeaderRules, RulesError> {
        HeaderRules::read(Path::new("rules"), text.as_bytes())
    }

    fn line_for(text: &str, field: &str) -> Option<usize> {
        read(text).unwrap_or_else(|error| panic!("{text:?}: {error}")).judge(field.as_bytes()).line
    }

    #[test]
    fn r153_lines_comments_and_continuations() {
        let text = "\u{feff}# head\n\n  # more\n/^A:/\n  # between\n\n\tWARN one\n   two\n/^B:/ INFO\n";
        let rules = read(text).unwrap();
        assert_eq!(rules.judge(b"A: x").action, Action::Warn("one two".to_owned()));
        assert_eq!(rules.judge(b"B: x").line, Some(9));
    }

    #[test]
    fn r153_delimiters_negation_and_flags() {
        for text in ["|^a:.x| IGNORE", ",^a:.x,\tIGNORE", "/^A:.x/ii IGNORE", "!!/^a:/ IGNORE", "/^a:\\/|x/ ignore"] {
            assert_eq!(line_for(text, "A: x"), Some(1), "{text}");
        }
        assert_eq!(line_for("/^a:/i IGNORE", "A: x"), None);
        assert_eq!(line_for("! /^b:/ IGNORE", "A: x"), Some(1));
        assert_eq!(line_for("/a b/ IGNORE", "A b: x"), Some(1));
        assert_eq!(line_for("IF /^a:/\n/x/ IGNORE\nEndIf\n", "A: x"), Some(2));
    }

    #[test]
    fn faults_name_line_cause_and_cure() {
        for (text, line, word) in [
            ("/^A:/ IGNORE\n/^B:/\n", 2, "no action"),
            ("/^A:/ IGNORE\n/^B: IGNORE\n", 2, "at its end"),
            ("/a\\/ IGNORE", 1, "at its end"),
            ("^A: IGNORE", 1, "at its end"),
            ("A: IGNORE", 1, "no pattern"),
            ("!", 1, "no pattern"),
            ("if", 1, "no pattern"),
            ("/a/IGNORE", 1, "unknown flag 'I'"),
            ("/a/u IGNORE", 1, "unknown flag 'u'"),
            ("/(/ IGNORE", 1, "unclosed group"),
            ("/a/ MAYBE", 1, "no such action"),
            ("/a/ WARN $1", 1, "no groups"),
            ("!/(a)/ WARN $1", 1, "negated"),
            ("if /a/ IGNORE", 1, "behind the pattern"),
            ("if /a/\nif /b/\nendif", 1, "no endif"),
            ("/a/ DUNNO\nendif", 2, "without if"),
            ("if /a/\nendif x", 2, "behind endif"),
            ("/a/ DUNNO\n\n/b/ WARN \x07", 3, "U+0007"),
            ("/a/ DUNNO\r\n", 1, "U+000D"),
            ("/a/ DUNNO\n/b\0/ DUNNO", 2, "U+0000"),
            ("\n /a/ IGNORE", 2, "white space"),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!(error.line, Some(line), "{text:?}: {error}");
            assert!(error.to_string().contains(word), "{text:?}: {error}");
        }
        assert_eq!(
            read("/a/ WARN $x").unwrap_err().to_string(),
            "rules:1: a dollar sign means a group, as in $1; write $$ for it; write IGNORE, STRIP, REPLACE, PREPEND, WARN, \
             INFO, HOLD, REJECT, DISCARD, REDIRECT or DUNNO, then its text"
        );
        assert_eq!(HeaderRules::read(Path::new("x"), b"# a\n/\xff/ DUNNO").unwrap_err().line, Some(2));
    }

    #[test]
    fn limits_hold() {
        assert!(read(&" \n".repeat(FILE_OCTETS_MAX)).is_err());
        assert!(read(&"/a/ DUNNO\n".repeat(RULES_MAX)).is_ok());
        assert!(read(&"/a/ DUNNO\n".repeat(RULES_MAX + 1)).is_err());
        let nested = |depth: usize| format!("{}{}", "if /a/\n".repeat(depth), "endif\n".repeat(depth));
        assert!(read(&nested(CONDITIONS_OPEN_MAX)).is_ok() && read(&nested(CONDITIONS_OPEN_MAX + 1)).is_err());
        let error = read(&"/(a.{0,90}){40}/ DUNNO\n".repeat(RULES_MAX / 10)).unwrap_err();
        assert!(error.line.is_none() && error.cause.contains("memory"), "{error}");
    }
}
