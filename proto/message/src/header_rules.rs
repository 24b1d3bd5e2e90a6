//! Rules for header fields, in the syntax of tables of regular expressions: which fields go, which are altered, and which
//! messages are refused, held or sent elsewhere for one of them (R150 to R154).
//!
//! ```text
//! # A comment. A line that begins with white space continues the line before.
//! /^User-Agent:/            IGNORE
//! !/^[\x00-\x7f]*$/         REJECT 5.6.0 only ASCII here
//! if /^Subject:/
//! /^Subject: +(.*)$/        REPLACE Subject: [x] $1
//! endif
//! ```
//!
//! The rules are asked in order, and the first whose pattern matches decides about a field. A pattern is tried on the
//! whole field, folded lines included, with one line feed for each line break, without the last one, and without white
//! space between name and colon. `^` and `$` are its start and end, `.` matches line breaks too, and case does not matter;
//! the letters `i`, `m` and `x` behind a pattern toggle that (see [`pattern`]). In the text of an action `$1` stands for the
//! first group of the pattern, `$$` for a dollar sign.
//!
//! Scope (R154): the header section of the message itself. Fields of MIME parts and of attached messages are never looked
//! at: taking them out would break the signatures of forwarded messages, and a rule is meant for who submits, not for what
//! they pass on. Postfix by default does look there.
//!
//! Time is linear in the octets of a field, whatever the patterns (V19 of the requirements): all patterns are tried in one
//! pass of an automaton, and nothing backtracks.

mod action;
mod filter;
pub mod pattern;
mod read;

pub use action::{Action, MADE_FIELD_OCTETS_MAX, REPLY_TEXT_OCTETS_MAX, Refusal};
pub use filter::{
    DEEDS_MAX, Deed, FIELD_OCTETS_MAX, FIELDS_JUDGED_MAX, Findings, HeaderFilter, SHOWN_OCTETS_MAX, Verdict, filtered,
};
pub use read::{CONDITIONS_OPEN_MAX, FILE_OCTETS_MAX, RULES_MAX, RulesError};

use crate::header::{split_field, without_line_end};
use action::Wanted;
use memchr::memchr;
use regex::bytes::{Regex, RegexSet};
use std::borrow::Cow;

/// The rules for submitted mail that hide where and with what it was written (R150). They also take out the Received: field
/// that we write for an authenticated client, where it is put before them (R151); see
/// [`received_anonymous`](crate::trace::received_anonymous).
pub const PRIVACY_RULES: &str = "\
/^Received:.*with (ESMTPSA|UTF8SMTPSA)/ IGNORE
/^User-Agent:/                          IGNORE
/^X-Mailer:/                            IGNORE
/^X-Originating-IP:/                    IGNORE
";

/// The rules of one file. The default has none.
#[derive(Debug, Clone)]
pub struct HeaderRules {
    /// The patterns of all steps, in their order.
    patterns: RegexSet,
    steps: Vec<Step>,
}

/// One line of the file.
#[derive(Debug, Clone)]
struct Step {
    line: usize,
    is_negated: bool,
    does: Does,
}

#[derive(Debug, Clone)]
enum Does {
    /// `if`: where it does not apply, the next step is the one with this index.
    Skip(usize),
    /// A rule; with its pattern compiled once more where the text of groups is wanted.
    Act(Wanted, Option<Regex>),
}

/// What the rules say about one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What is wanted.
    pub action: Action,
    /// The first line of the rule that decided; `None` where none did.
    pub line: Option<usize>,
}

impl Default for HeaderRules {
    fn default() -> HeaderRules {
        HeaderRules { patterns: RegexSet::empty(), steps: Vec::new() }
    }
}

impl HeaderRules {
    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What the first rule that matches a field wants. The field is as in the header section, with or without its last
    /// line end.
    pub fn judge(&self, field: &[u8]) -> Judgement {
        let text = as_rules_see_it(field);
        let hits = self.patterns.matches(&text);
        let mut at = 0;
        while let Some(step) = self.steps.get(at) {
            let applies = hits.matched(at) != step.is_negated;
            at += 1;
            match &step.does {
                Does::Skip(next) if !applies => at = *next,
                Does::Act(wanted, regex) if applies => {
                    let captures = regex.as_ref().and_then(|regex| regex.captures(&text));
                    return Judgement { action: wanted.fill(captures.as_ref()), line: Some(step.line) };
                }
                Does::Skip(_) | Does::Act(..) => {}
            }
        }
        Judgement { action: Action::Dunno, line: None }
    }
}

/// The field without its last line end, with LF for line breaks, and without white space before the colon (RFC 5322
/// §4.5): no spelling of a field that readers understand gets past a rule.
fn as_rules_see_it(field: &[u8]) -> Cow<'_, [u8]> {
    let field = without_line_end(field);
    let Some((name, value)) = split_field(field) else { return Cow::Borrowed(field) };
    if field.get(name.len()) == Some(&b':') && memchr(b'\r', field).is_none() {
        return Cow::Borrowed(field);
    }
    let mut text = Vec::with_capacity(field.len());
    text.extend_from_slice(name);
    text.push(b':');
    for line in value.split_inclusive(|b| *b == b'\n') {
        text.extend_from_slice(without_line_end(line));
        text.extend(line.ends_with(b"\n").then_some(b'\n'));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn rules(text: &str) -> HeaderRules {
        HeaderRules::read(Path::new("rules"), text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn judged(rules: &HeaderRules, field: &str) -> (Option<usize>, Action) {
        let judgement = rules.judge(field.as_bytes());
        (judgement.line, judgement.action)
    }

    #[test]
    fn r150_r153_the_privacy_rules() {
        let rules = rules(PRIVACY_RULES);
        for (field, line) in [
            ("Received: from laptop (unknown [192.0.2.7])\r\n\tby mx.example.net with ESMTPSA id A1; x\r\n", Some(1)),
            ("Received: from a\r\n\tby b\r\n\twith\r\n ESMTPSA\r\n", None),
            ("Received: from a by b with ESMTPS id 1\r\n", None),
            ("user-agent: x", Some(2)),
            ("X-Mailer:\r\n folded\r\n", Some(3)),
            ("X-MAILER \t: y\r\n", Some(3)),
            ("X-Originating-IP: [10.0.0.1]\r\n", Some(4)),
            ("Subject: X-Mailer: y\r\n", None),
            ("Subject: a\r\n X-Mailer: y\r\n", None),
        ] {
            let action = if line.is_some() { Action::Ignore } else { Action::Dunno };
            assert_eq!(judged(&rules, field), (line, action), "{field}");
        }
    }

    #[test]
    fn r153_the_first_match_wins_and_conditions_nest() {
        let rules = rules(
            "/^Subject: dunno/ DUNNO\n\
             if /^Subject:/\n\
             !/spam/ IGNORE\n\
             if !/ham/\n\
             /(spam)/ WARN $1\n\
             endif\n\
             /^/ INFO both\n\
             endif\n\
             !/^X-/ HOLD\n",
        );
        for (field, line) in [
            ("Subject: dunno spam", Some(1)),
            ("Subject: x", Some(3)),
            ("Subject: a spam", Some(5)),
            ("Subject: ham, spam", Some(7)),
            ("To: x", Some(9)),
            ("X-A: ham, spam", None),
        ] {
            assert_eq!(judged(&rules, field).0, line, "{field}");
        }
        assert_eq!(judged(&rules, "Subject: SPAM").1, Action::Warn("SPAM".to_owned()));
    }

    /// The rules that the documentation of this module shows.
    #[test]
    fn the_example_is_sound() {
        let doc = include_str!("header_rules.rs").split("```").nth(1).unwrap();
        let text: String =
            doc.lines().skip(1).map(|line| line.trim_start_matches("//!").trim_start().to_owned() + "\n").collect();
        let rules = rules(&text);
        assert_eq!(judged(&rules, "User-Agent: x").1, Action::Ignore);
        assert!(matches!(judged(&rules, "X: \u{fc}").1, Action::Reject(_)));
        assert_eq!(judged(&rules, "Subject:  a\n b").1, Action::Replace(b"Subject: [x] a\r\n b".to_vec()));
    }

    #[test]
    fn no_rules_say_nothing() {
        for rules in [HeaderRules::default(), rules(""), rules("# nothing\n\n")] {
            assert!(rules.is_empty());
            assert_eq!(judged(&rules, "A: b"), (None, Action::Dunno));
        }
    }

    /// V19 of the requirements: an expression that takes a backtracking engine for ever.
    #[test]
    fn v19_no_pattern_is_slow() {
        let rules = rules("/^X: (a+)+$/ IGNORE\n/^X: (a|aa)+b$/ IGNORE\n/(x+x+)+y/ IGNORE\n/^X: (.*a){20}$/ DUNNO\n");
        let field = format!("X: {}!", "a".repeat(FIELD_OCTETS_MAX));
        assert_eq!(judged(&rules, &field).0, None);
    }
}
