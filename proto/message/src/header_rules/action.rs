//! What rules want done, and the texts of their actions.

use crate::header::{is_blank, split_field};
use mail::text::one_line;
use mail::{Address, EnhancedStatus};
use regex::bytes::Captures;

/// Octets of the text of REJECT, so that a reply stays within a line (RFC 5321 §4.5.3.1.5).
pub const REPLY_TEXT_OCTETS_MAX: usize = 400;
/// Octets of a field that REPLACE or PREPEND makes, its groups filled in; the rest is cut off.
pub const MADE_FIELD_OCTETS_MAX: usize = 64 * 1024;

/// What a rule wants done with a field or its message. Texts are one line without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// No opinion: the field stays.
    Dunno,
    /// The whole field goes, folded lines included.
    Ignore,
    /// As [`Action::Ignore`], with a text for the log.
    Strip(String),
    /// This field stands in the place of the old one. Without its last line end.
    Replace(Vec<u8>),
    /// This field stands before the old one. Without its last line end.
    Prepend(Vec<u8>),
    /// Log as a warning.
    Warn(String),
    /// Log.
    Info(String),
    /// Take the message, but hold it in the queue.
    Hold(String),
    /// Take the message, and throw it away.
    Discard(String),
    /// Refuse the message.
    Reject(Refusal),
    /// Send the message to this address instead of its recipients.
    Redirect(Address),
}

/// How a message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of class 4 or 5: for now, or for good.
    pub status: EnhancedStatus,
    /// Printable ASCII (RFC 5321 §4.2), never empty.
    pub text: String,
}

impl Refusal {
    /// The reply's code: 550 for good (RFC 6409 §6.3), 450 for now.
    pub fn code(&self) -> u16 {
        if self.status.class == 4 { 450 } else { 550 }
    }
}

/// An action as the rule has it, with places for the pattern's groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Dunno,
    Ignore,
    Strip(Text),
    Replace(Text),
    Prepend(Text),
    Warn(Text),
    Info(Text),
    Hold(Text),
    Discard(Text),
    Reject(EnhancedStatus, Text),
    Redirect(Address),
}

/// Reply of REJECT without status and text.
const REJECT: (EnhancedStatus, &str) = (EnhancedStatus::new(5, 7, 1), "message content rejected");

impl Wanted {
    /// Reads an action; its name in any case. `groups` is how many groups the pattern has, none for a negated one.
    pub(super) fn parse(text: &str, groups: usize) -> Result<Wanted, String> {
        let (name, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let rest = rest.trim();
        let words = || Text::parse(rest, groups);
        match name.to_ascii_uppercase().as_str() {
            "DUNNO" | "OK" => Ok(Wanted::Dunno),
            "IGNORE" => Ok(Wanted::Ignore),
            "STRIP" => words().map(Wanted::Strip),
            "REPLACE" => Text::field("REPLACE", rest, groups).map(Wanted::Replace),
            "PREPEND" => Text::field("PREPEND", rest, groups).map(Wanted::Prepend),
            "WARN" => words().map(Wanted::Warn),
            "INFO" => words().map(Wanted::Info),
            "HOLD" => words().map(Wanted::Hold),
            "DISCARD" => words().map(Wanted::Discard),
            "REJECT" => Wanted::reject(rest, groups),
            "REDIRECT" => match Address::parse(rest) {
                Ok(address) => Ok(Wanted::Redirect(address)),
                Err(_) => Err("REDIRECT needs one address".to_owned()),
            },
            "" => Err("the rule has no action".to_owned()),
            "FILTER" | "BCC" | "PASS" => Err(format!("{name} is not there for header fields")),
            _ => Err("no such action".to_owned()),
        }
    }

    /// `[d.s.n] [text]`.
    fn reject(rest: &str, groups: usize) -> Result<Wanted, String> {
        let (word, text) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        let (status, text) = match EnhancedStatus::parse(word) {
            Some(status) if status.class == 2 => return Err("REJECT cannot have a status of success".to_owned()),
            Some(status) => (status, text.trim()),
            None => (REJECT.0, rest),
        };
        if text.len() > REPLY_TEXT_OCTETS_MAX {
            return Err(format!("the text of REJECT is longer than {REPLY_TEXT_OCTETS_MAX} octets"));
        }
        if let Some(character) = text.chars().find(|c| !c.is_ascii()) {
            return Err(format!(
                "the text of REJECT has the character {character:?}: replies are ASCII alone; write it without"
            ));
        }
        Text::parse(text, groups).map(|text| Wanted::Reject(status, text))
    }

    /// Whether a text of it has places for groups.
    pub(super) fn needs_groups(&self) -> bool {
        match self {
            Wanted::Dunno | Wanted::Ignore | Wanted::Redirect(_) => false,
            Wanted::Strip(text)
            | Wanted::Replace(text)
            | Wanted::Prepend(text)
            | Wanted::Warn(text)
            | Wanted::Info(text)
            | Wanted::Hold(text)
            | Wanted::Discard(text)
            | Wanted::Reject(_, text) => text.0.iter().any(|piece| matches!(piece, Piece::Group(_))),
        }
    }

    /// The action with its groups filled in.
    pub(super) fn fill(&self, captures: Option<&Captures<'_>>) -> Action {
        match self {
            Wanted::Dunno => Action::Dunno,
            Wanted::Ignore => Action::Ignore,
            Wanted::Strip(text) => Action::Strip(text.line(captures)),
            Wanted::Replace(text) => made_field(text, captures, Action::Replace),
            Wanted::Prepend(text) => made_field(text, captures, Action::Prepend),
            Wanted::Warn(text) => Action::Warn(text.line(captures)),
            Wanted::Info(text) => Action::Info(text.line(captures)),
            Wanted::Hold(text) => Action::Hold(text.line(captures)),
            Wanted::Discard(text) => Action::Discard(text.line(captures)),
            Wanted::Reject(status, text) => {
                // Groups hold what the message holds.
                let ascii = |character: char| if character.is_ascii() { character } else { '?' };
                let text: String = text.line(captures).chars().take(REPLY_TEXT_OCTETS_MAX).map(ascii).collect();
                let text = if text.trim().is_empty() { REJECT.1.to_owned() } else { text };
                Action::Reject(Refusal { status: *status, text })
            }
            Wanted::Redirect(address) => Action::Redirect(address.clone()),
        }
    }
}

/// A field whose name comes from a group may turn out to be none: then the old one stays, and the log tells of it.
fn made_field(text: &Text, captures: Option<&Captures<'_>>, action: fn(Vec<u8>) -> Action) -> Action {
    let field = text.octets(captures);
    if is_field(&field) { action(field) } else { Action::Warn("what the rule makes is no header field".to_owned()) }
}

fn is_field(text: &[u8]) -> bool {
    let first_line = text.split(|b| *b == b'\r').next().unwrap_or_default();
    split_field(first_line).is_some()
}

/// Text with places for the groups of the pattern.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Text(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Plain(String),
    /// From 1 up.
    Group(usize),
}

impl Text {
    /// Reads `$1`, `${1}`, `$(1)` and `$$`.
    fn parse(text: &str, groups: usize) -> Result<Text, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let (number, after) =
                group_number(after).ok_or("a dollar sign means a group, as in $1; write $$ for it")?;
            if !(1..=groups).contains(&number) {
                return Err(match groups {
                    0 => format!("there is no ${number}: the pattern has no groups, or is negated"),
                    groups => format!("there is no ${number}: the pattern's groups go from $1 to ${groups}"),
                });
            }
            if !plain.is_empty() {
                pieces.push(Piece::Plain(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Group(number));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Plain(plain));
        }
        Ok(Text(pieces))
    }

    /// Reads a text that is a whole field.
    fn field(action: &str, text: &str, groups: usize) -> Result<Text, String> {
        let text = Text::parse(text, groups)?;
        let is_sound = match &text.0[..] {
            [Piece::Plain(only)] => {
                split_field(only.as_bytes()).is_some_and(|(_, value)| !value.trim_ascii().is_empty())
            }
            [Piece::Plain(first), ..] if first.contains(':') => split_field(first.as_bytes()).is_some(),
            pieces => pieces.iter().any(|piece| matches!(piece, Piece::Group(_))),
        };
        if is_sound { Ok(text) } else { Err(format!("{action} needs a whole header field, Name: text")) }
    }

    /// The text with the groups filled in, in one pass: what a group holds is not read again. Nothing in it can end the
    /// field: a line break of the old field stays only where white space follows it.
    fn octets(&self, captures: Option<&Captures<'_>>) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Plain(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Group(number) => {
                    let group = captures.and_then(|captures| captures.get(*number)).map_or(&[][..], |m| m.as_bytes());
                    push_group(group, &mut out);
                }
            }
            out.truncate(MADE_FIELD_OCTETS_MAX);
        }
        let length = crate::header::trim_end(&out).len();
        out.truncate(length);
        out
    }

    fn line(&self, captures: Option<&Captures<'_>>) -> String {
        one_line(&String::from_utf8_lossy(&self.octets(captures)))
    }
}

fn push_group(group: &[u8], out: &mut Vec<u8>) {
    for (index, octet) in group.iter().enumerate() {
        let goes_on = group.get(index + 1).is_some_and(|b| is_blank(*b));
        match octet {
            b'\n' if goes_on => out.extend_from_slice(b"\r\n"),
            b'\n' | b'\r' | b'\0' => out.push(b' '),
            octet => out.push(*octet),
        }
    }
}

/// The number at the start, in braces, in brackets or bare, and what follows it.
fn group_number(text: &str) -> Option<(usize, &str)> {
    let (inner, close) = match text.chars().next()? {
        '{' => (text.get(1..)?, "}"),
        '(' => (text.get(1..)?, ")"),
        _ => (text, ""),
    };
    let end = inner.find(|c: char| !c.is_ascii_digit()).unwrap_or(inner.len());
    let (digits, after) = inner.split_at_checked(end)?;
    Some((digits.parse().ok()?, after.strip_prefix(close)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::bytes::Regex;

    fn filled(action: &str, pattern: &str, field: &[u8]) -> Action {
        let regex = Regex::new(&format!("(?s-u){pattern}")).unwrap();
        let wanted = Wanted::parse(action, regex.captures_len() - 1).unwrap();
        wanted.fill(regex.captures(field).as_ref())
    }

    #[test]
    fn r153_every_action_in_any_case() {
        let text = |text: &str| text.to_owned();
        for (action, expected) in [
            ("DUNNO", Action::Dunno),
            ("ok whatever", Action::Dunno),
            ("ignore", Action::Ignore),
            ("Strip why", Action::Strip(text("why"))),
            ("REPLACE X: y", Action::Replace(b"X: y".to_vec())),
            ("PREPEND X-Y:z $$1", Action::Prepend(b"X-Y:z $1".to_vec())),
            ("WARN  look here ", Action::Warn(text("look here"))),
            ("INFO", Action::Info(text(""))),
            ("HOLD", Action::Hold(text(""))),
            ("DISCARD spam", Action::Discard(text("spam"))),
            ("REDIRECT a@example.org", Action::Redirect(Address::parse("a@example.org").unwrap())),
        ] {
            assert_eq!(filled(action, "", b"a"), expected, "{action}");
        }
        for (action, code, status, text) in [
            ("REJECT", 550, "5.7.1", "message content rejected"),
            ("REJECT no", 550, "5.7.1", "no"),
            ("REJECT 5.6.1 no", 550, "5.6.1", "no"),
            ("reject 4.7.0", 450, "4.7.0", "message content rejected"),
        ] {
            let Action::Reject(refusal) = filled(action, "", b"a") else { panic!("{action}") };
            assert_eq!((refusal.code(), refusal.status.to_string().as_str(), &*refusal.text), (code, status, text));
        }
    }

    #[test]
    fn what_is_no_action_is_refused() {
        for action in [
            "",
            "DELETE",
            "FILTER a:b",
            "REPLACE",
            "REPLACE nonsense",
            "REPLACE a b: c",
            "REPLACE X:",
            "PREPEND : x",
            "REDIRECT",
            "REDIRECT a b",
            "REJECT 2.0.0 fine",
            "WARN $1",
            "WARN $",
            "WARN ${1",
            "WARN $x",
            "WARN $99999999999999999999",
            "REPLACE X: $0",
        ] {
            assert!(Wanted::parse(action, 0).is_err(), "{action}");
        }
        assert!(Wanted::parse(&format!("REJECT {}", "x".repeat(401)), 0).is_err());
        let cause = Wanted::parse("REJECT 5.7.1 nein, übel", 0).unwrap_err();
        assert!(cause.contains("'ü'") && cause.contains("ASCII"), "{cause}");
        assert!(Wanted::parse("WARN $3", 2).is_err() && Wanted::parse("WARN $2", 2).is_ok());
    }

    #[test]
    fn r153_groups_are_filled_in_once() {
        let replaced = |action: &str, pattern: &str, field: &[u8]| match filled(action, pattern, field) {
            Action::Replace(field) => String::from_utf8_lossy(&field).into_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(replaced("REPLACE X: ${2}-$(1)-$2", "(a)(b)", b"ab"), "X: b-a-b");
        assert_eq!(replaced("REPLACE X: <$1>", "A: (.*)", b"A: $1 $$"), "X: <$1 $$>");
        assert_eq!(replaced("REPLACE $1: y", "([A-Z]+):", b"AB: c"), "AB: y");
        assert_eq!(replaced("REPLACE X: $1|", "A(x)?", b"A"), "X: |");
        assert!(replaced("REPLACE $1", "(.*)", b"no field").contains("no header field"));
    }

    #[test]
    fn v14_no_group_can_end_the_field() {
        let field = filled("REPLACE X: $1Y: $2", "A:(.*\n)(.*)", b"A: b\n c\0\r\n\td");
        assert_eq!(field, Action::Replace(b"X:  b\r\n c   Y: \td".to_vec()));
        let Action::Replace(field) = filled("REPLACE X: $1", "A:(.*)", b"A: b\n\n\n \n") else { panic!() };
        assert_eq!(field, b"X:  b");
        let Action::Warn(text) = filled("WARN <$1>", "(.*)", b"a\n b\x1b\xff") else { panic!() };
        assert_eq!(text, "<a   b \u{fffd}>");
    }

    #[test]
    fn what_is_made_is_bounded() {
        let field = [b"A:".to_vec(), vec![b'x'; 60_000]].concat();
        let text = format!("REPLACE X: {}", "$1".repeat(400));
        let Action::Replace(made) = filled(&text, "A:(.*)", &field) else { panic!() };
        assert_eq!(made.len(), MADE_FIELD_OCTETS_MAX);
        let Action::Reject(refusal) = filled("REJECT $1", "A:(.*)", &field) else { panic!() };
        assert!(refusal.text.len() <= REPLY_TEXT_OCTETS_MAX);
    }

    #[test]
    fn v13_a_reply_is_ascii_whatever_the_groups_hold() {
        let Action::Reject(refusal) = filled("REJECT not $1", "A:(.*)", "A: grün\u{7}\r\n".as_bytes()) else {
            panic!()
        };
        assert_eq!(refusal.text, "not  gr?n ");
    }
}
