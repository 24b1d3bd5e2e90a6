//! Patterns of rules: from the dialects that such files are written in to one that is matched in linear time.
//!
//! The dialect is that of POSIX extended regular expressions (basic ones without the flag `x`), with what people add to
//! them out of habit: `\d \s \w \b`, `(?:…)`, `(?i)`, reluctant repetition. A pattern sees octets, not characters: `.`
//! and `[^…]` match any octet, so that no broken charset hides text from a rule, and case folds in ASCII only. What would
//! need backtracking, back-references and look-around, is refused.

use regex::bytes::{Regex, RegexBuilder};
use std::iter::Peekable;
use std::str::Chars;

/// Octets of one pattern. The longest in published rule sets have some hundreds.
pub const PATTERN_OCTETS_MAX: usize = 4_000;
/// Octets of memory that one compiled pattern may take.
pub const PATTERN_MEMORY_OCTETS_MAX: usize = 1024 * 1024;
/// Groups inside groups in a pattern.
const NESTING_MAX: u32 = 50;

/// The letters behind a pattern, each of which toggles what is set before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags {
    /// `i`: upper and lower case are the same. On unless toggled.
    pub ignores_case: bool,
    /// `m`: `^` and `$` match at line breaks, and `.` and `[^…]` match none. Off unless toggled.
    pub sees_lines: bool,
    /// `x`: extended expressions, not basic ones. On unless toggled.
    pub is_extended: bool,
}

impl Default for Flags {
    fn default() -> Flags {
        Flags { ignores_case: true, sees_lines: false, is_extended: true }
    }
}

impl Flags {
    /// Takes one letter; whether it is known.
    pub(super) fn toggle(&mut self, letter: char) -> bool {
        let flag = match letter {
            'i' => &mut self.ignores_case,
            'm' => &mut self.sees_lines,
            'x' => &mut self.is_extended,
            _ => return false,
        };
        *flag = !*flag;
        true
    }
}

/// A pattern that compiles.
#[derive(Debug)]
pub(super) struct Pattern {
    /// The expression with its flags inside, to be one of a set.
    pub expression: String,
    /// Compiled, for the text of its groups.
    pub regex: Regex,
}

impl Pattern {
    /// Takes the text between the delimiters. The error says what is wrong with it.
    pub(super) fn new(text: &str, flags: Flags) -> Result<Pattern, String> {
        if text.len() > PATTERN_OCTETS_MAX {
            return Err(format!("the pattern is longer than {PATTERN_OCTETS_MAX} octets"));
        }
        let basic;
        let text = if flags.is_extended {
            text
        } else {
            basic = extended(text);
            &basic
        };
        let expression = translate(text, flags)?;
        // On its own first: inside the brackets of the set, `a)(b` would pass for sound.
        let regex = RegexBuilder::new(&expression)
            .unicode(false)
            .case_insensitive(flags.ignores_case)
            .multi_line(flags.sees_lines)
            .dot_matches_new_line(!flags.sees_lines)
            .nest_limit(NESTING_MAX)
            .size_limit(PATTERN_MEMORY_OCTETS_MAX)
            .build()
            .map_err(|error| cause(&error))?;
        let case = if flags.ignores_case { "i" } else { "" };
        let lines = if flags.sees_lines { "m" } else { "s" };
        Ok(Pattern { expression: format!("(?{case}{lines}:{expression})"), regex })
    }

    /// How many groups it has, the whole not counted.
    pub(super) fn groups(&self) -> usize {
        self.regex.captures_len().saturating_sub(1)
    }
}

/// The cause in a word. The engine's own message has several lines and shows the translated expression.
pub(super) fn cause(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(octets) => format!("it takes more than {octets} octets of memory"),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

/// The expression in the engine's syntax.
fn translate(text: &str, flags: Flags) -> Result<String, String> {
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(&mut chars, &mut out)?,
            '[' => bracket(&mut chars, flags, &mut out)?,
            '(' => {
                out.push('(');
                if chars.peek() == Some(&'?') {
                    check_group(chars.clone().skip(1))?;
                }
            }
            '{' => match repetition(chars.clone()) {
                Some((bounds, used)) => {
                    out.push_str(&bounds);
                    chars.by_ref().take(used).for_each(drop);
                }
                None => out.push_str("\\{"),
            },
            '}' => out.push_str("\\}"),
            c if c.is_ascii() => out.push(c),
            c => push_octets(c, &mut out),
        }
    }
    Ok(out)
}

/// What follows a backslash outside of brackets.
fn escape(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    match chars.next() {
        None => return Err("it ends with a backslash".to_owned()),
        Some(digit) if digit.is_ascii_digit() => {
            return Err("back-references need backtracking, which is not done here".to_owned());
        }
        Some('Z') => out.push_str("\\z"),
        Some('h') => out.push_str("[ \\t]"),
        Some(c) if c.is_ascii() => {
            out.push('\\');
            out.push(c);
        }
        Some(c) => push_octets(c, out),
    }
    Ok(())
}

/// What may follow `(?`.
fn check_group(mut chars: impl Iterator<Item = char>) -> Result<(), String> {
    const LOOK_AROUND: &str = "look-around needs backtracking, which is not done here";
    match chars.next() {
        Some(':') => Ok(()),
        Some('P') => {
            if chars.next() == Some('<') {
                Ok(())
            } else {
                Err("unknown kind of group".to_owned())
            }
        }
        Some('<') if !matches!(chars.next(), Some('=' | '!')) => Ok(()),
        Some('=' | '!' | '<') => Err(LOOK_AROUND.to_owned()),
        // The flags that mean the same in every dialect. With `x` a comment could swallow what closes the group.
        Some('i' | 'm' | 's' | '-')
            if chars.find(|c| !matches!(c, 'i' | 'm' | 's' | '-')).is_some_and(is_flags_end) =>
        {
            Ok(())
        }
        _ => Err("unknown kind of group".to_owned()),
    }
}

fn is_flags_end(c: char) -> bool {
    matches!(c, ':' | ')')
}

/// `m}`, `m,}`, `m,n}` or `,n}` behind an opening brace, and how many characters that is. Other braces mean themselves.
fn repetition(chars: Peekable<Chars<'_>>) -> Option<(String, usize)> {
    const CHARS_MAX: usize = 12;
    let text: String = chars.take(CHARS_MAX).take_while(|c| *c != '}').collect();
    let (from, to) = text.split_once(',').unwrap_or((&text, &text));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if text.len() >= CHARS_MAX || !is_number(from) || !is_number(to) || (from.is_empty() && to.is_empty()) {
        return None;
    }
    let from = if from.is_empty() { "0" } else { from };
    let bounds = if text.contains(',') { format!("{{{from},{to}}}") } else { format!("{{{from}}}") };
    Some((bounds, text.len() + 1))
}

/// A character beyond ASCII: its octets in UTF-8, as one piece.
fn push_octets(c: char, out: &mut String) {
    let mut buffer = [0; 4];
    out.push_str("(?:");
    for octet in c.encode_utf8(&mut buffer).bytes() {
        out.push_str(&format!("\\x{octet:02X}"));
    }
    out.push(')');
}

/// A bracket expression behind its opening bracket (POSIX.1 §9.3.5), with backslash as escape, as people write it.
fn bracket(chars: &mut Peekable<Chars<'_>>, flags: Flags, out: &mut String) -> Result<(), String> {
    let is_negated = chars.next_if_eq(&'^').is_some();
    let mut set = String::new();
    let mut beyond_ascii = Vec::new();
    let mut is_first = true;
    loop {
        let c = chars.next().ok_or(NOT_CLOSED)?;
        if c == ']' && !is_first {
            break;
        }
        is_first = false;
        match member(c, chars)? {
            Member::Set(text) => set.push_str(&text),
            Member::Octet(low) if is_range(chars) => {
                chars.next();
                let c = chars.next().ok_or(NOT_CLOSED)?;
                let Member::Octet(high) = member(c, chars)? else { return Err(BAD_RANGE.to_owned()) };
                set.push_str(&format!("\\x{low:02X}-\\x{high:02X}"));
            }
            Member::Octet(octet) => set.push_str(&format!("\\x{octet:02X}")),
            Member::BeyondAscii(_) if is_range(chars) => return Err(BAD_RANGE.to_owned()),
            Member::BeyondAscii(c) => beyond_ascii.push(c),
        }
    }
    if is_negated && !beyond_ascii.is_empty() {
        return Err("a negated bracket names characters beyond ASCII, and a pattern sees octets".to_owned());
    }
    if is_negated {
        let line_feed = if flags.sees_lines { "\\n" } else { "" };
        out.push_str(&format!("[^{set}{line_feed}]"));
        return Ok(());
    }
    out.push_str("(?:");
    if !set.is_empty() {
        out.push_str(&format!("[{set}]"));
    }
    for (index, c) in beyond_ascii.into_iter().enumerate() {
        if index > 0 || !set.is_empty() {
            out.push('|');
        }
        push_octets(c, out);
    }
    out.push(')');
    Ok(())
}

const NOT_CLOSED: &str = "a bracket is not closed";
const BAD_RANGE: &str = "a range in brackets begins or ends with a class or beyond ASCII";

/// What one element of a bracket expression stands for.
enum Member {
    Octet(u8),
    BeyondAscii(char),
    /// In the engine's syntax.
    Set(String),
}

impl Member {
    fn of(c: char) -> Member {
        u8::try_from(c).ok().filter(u8::is_ascii).map_or(Member::BeyondAscii(c), Member::Octet)
    }
}

fn member(c: char, chars: &mut Peekable<Chars<'_>>) -> Result<Member, String> {
    match c {
        '\\' => match chars.next().ok_or(NOT_CLOSED)? {
            c @ ('d' | 'D' | 's' | 'S' | 'w' | 'W') => Ok(Member::Set(format!("\\{c}"))),
            'h' => Ok(Member::Set(" \\t".to_owned())),
            'n' => Ok(Member::Octet(b'\n')),
            'r' => Ok(Member::Octet(b'\r')),
            't' => Ok(Member::Octet(b'\t')),
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                let is_octet = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                let octet = is_octet.then(|| u8::from_str_radix(&digits, 16).ok()).flatten();
                octet.map(Member::Octet).ok_or("\\x in brackets needs two hexadecimal digits".to_owned())
            }
            c if c.is_ascii_alphanumeric() => Err(format!("\\{c} means nothing in brackets")),
            c => Ok(Member::of(c)),
        },
        '[' => match chars.next_if(|c| matches!(c, ':' | '.' | '=')) {
            None => Ok(Member::of('[')),
            Some(kind) => named_member(kind, chars),
        },
        c => Ok(Member::of(c)),
    }
}

/// The classes of POSIX.1 §7.3.1, of ASCII only.
const CLASSES: [&str; 12] =
    ["alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit"];

/// `[:class:]`, `[.c.]` or `[=c=]` behind its second character.
fn named_member(kind: char, chars: &mut Peekable<Chars<'_>>) -> Result<Member, String> {
    const NAME_CHARS_MAX: usize = 20;
    let mut name = String::new();
    loop {
        match chars.next() {
            Some(c) if c == kind && chars.next_if_eq(&']').is_some() => break,
            Some(c) if name.len() < NAME_CHARS_MAX => name.push(c),
            _ => return Err(format!("[{kind} in brackets is not closed")),
        }
    }
    let mut letters = name.chars();
    match (kind, letters.next(), letters.next()) {
        (':', ..) if CLASSES.contains(&name.as_str()) => Ok(Member::Set(format!("[:{name}:]"))),
        ('.' | '=', Some(only), None) => Ok(Member::of(only)),
        _ => Err(format!("unknown class [{kind}{name}{kind}] in brackets")),
    }
}

/// Whether a hyphen follows that is not the last member.
fn is_range(chars: &Peekable<Chars<'_>>) -> bool {
    let mut ahead = chars.clone();
    ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']')
}

/// A basic expression (POSIX.1 §9.3) as an extended one: bare brackets and braces mean themselves, those with a backslash
/// have the meaning, and so, as GNU has it, have `\|`, `\+` and `\?`.
fn extended(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.chars().peekable();
    // Where an expression begins, a circumflex is an anchor and a star means itself; behind that anchor so does a star.
    let (mut is_start, mut is_anchored) = (true, false);
    while let Some(c) = chars.next() {
        let (was_start, was_anchored) = (std::mem::take(&mut is_start), std::mem::take(&mut is_anchored));
        match c {
            '\\' => match chars.next() {
                Some(c @ ('(' | '|')) => {
                    out.push(c);
                    is_start = true;
                }
                Some(c @ (')' | '{' | '}' | '+' | '?')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            '[' => copy_bracket(&mut chars, &mut out),
            '^' if was_start => {
                out.push('^');
                is_anchored = true;
            }
            '*' if was_start || was_anchored => out.push_str("\\*"),
            '$' if is_end(&chars) => out.push('$'),
            '^' | '$' | '(' | ')' | '{' | '}' | '|' | '+' | '?' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// Whether an expression ends here: there a dollar sign is an anchor.
fn is_end(chars: &Peekable<Chars<'_>>) -> bool {
    let mut ahead = chars.clone();
    match ahead.next() {
        None => true,
        Some('\\') => matches!(ahead.next(), Some(')' | '|')),
        Some(_) => false,
    }
}

/// Copies a bracket expression as it is; its opening bracket is taken.
fn copy_bracket(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    out.extend(chars.next_if_eq(&'^'));
    out.extend(chars.next_if_eq(&']'));
    while let Some(c) = chars.next() {
        out.push(c);
        match c {
            ']' => return,
            '\\' => out.extend(chars.next()),
            '[' => {
                let Some(kind) = chars.next_if(|c| matches!(c, ':' | '.' | '=')) else { continue };
                out.push(kind);
                while let Some(c) = chars.next() {
                    out.push(c);
                    if c == kind && chars.peek() == Some(&']') {
                        out.extend(chars.next());
                        break;
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(letters: &str) -> Flags {
        let mut flags = Flags::default();
        assert!(letters.chars().all(|letter| flags.toggle(letter)));
        flags
    }

    fn matches(pattern: &str, letters: &str, text: &[u8]) -> bool {
        let pattern = Pattern::new(pattern, flags(letters)).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let set = regex::bytes::RegexSetBuilder::new([&pattern.expression]).unicode(false).build().unwrap();
        let is_match = pattern.regex.is_match(text);
        assert_eq!(set.is_match(text), is_match, "{pattern:?}");
        is_match
    }

    #[test]
    fn r153_what_a_pattern_matches() {
        for (pattern, text, expected) in [
            ("^x-mailer:", "X-Mailer: y", true),
            ("^Mailer", "X-Mailer: y", false),
            ("a.b", "a\nb", true),
            ("^by", "a:\n by", false),
            ("b$", "a: b\n c", false),
            ("c$", "a: b\n c", true),
            ("^[^:]+: [[:digit:]]{2,3}$", "A: 123", true),
            ("^[^:]+: [[:digit:]]{2,3}$", "A: 1234", false),
            ("a{,2}b$", "xaab", true),
            ("^a{,2}b$", "aaab", false),
            ("a{b", "a{b", true),
            ("{x}", "{x}", true),
            ("[]x]y", "]y", true),
            ("[^]x]y", "]y", false),
            ("[[]spam[]]", "[SPAM]", true),
            ("[a&&b]c", "&c", true),
            ("[a~-]c", "-c", true),
            ("[+--]c", ",c", true),
            ("[\\.\\-]c", "-c", true),
            ("[\\d]c", "7c", true),
            ("[[.-.]a]c", "-c", true),
            ("[[=a=]]c", "ac", true),
            ("\\<re:", "Subject: re: x", true),
            ("\\bfoo\\b", "a foo", true),
            ("a\\/b", "a/b", true),
            ("(?:ab)+$", "xabab", true),
            ("x(?-i)A", "XA", true),
            ("x(?-i)A", "Xa", false),
            ("gr\u{fc}n+", "GR\u{fc}NN", true),
            ("[a\u{fc}]b", "\u{fc}b", true),
            ("[\u{fc}]b", "ab", false),
        ] {
            assert_eq!(matches(pattern, "", text.as_bytes()), expected, "{pattern} {text:?}");
        }
    }

    #[test]
    fn r153_flags_toggle() {
        assert!(!matches("^x-mailer:", "i", b"X-Mailer: y"));
        assert!(matches("^x-mailer:", "ii", b"X-Mailer: y"));
        assert!(!matches("a.b", "m", b"a\nb") && !matches("a[^x]b", "m", b"a\nb") && matches("a[^x]b", "", b"a\nb"));
        assert!(matches("^ by$", "m", b"a:\n by\n c"));
        for (pattern, text, expected) in [
            ("^a\\(b\\)*c", "abbc", true),
            ("(a+)?", "x(a+)?", true),
            ("a\\{2\\}b", "aab", true),
            ("a{2}", "a{2}", true),
            ("*a^b$c", "*a^b$c", true),
            ("^*a", "*a", true),
            ("^^a", "^a", true),
            ("x\\|^y$", "y", true),
            ("[(]a[*]", "(a*", true),
            ("[]a[:digit:]]b", "7b", true),
            ("a\\+b", "aab", true),
        ] {
            assert_eq!(matches(pattern, "x", text.as_bytes()), expected, "{pattern}");
        }
        assert!(!Flags::default().toggle('s'));
    }

    #[test]
    fn octets_that_are_no_text_hide_nothing() {
        assert!(matches("^subject:.*viagra", "", b"Subject: \xff\xfe\0 viagra"));
        assert!(matches("^subject:[^x]*viagra", "", b"Subject: \xc3 viagra"));
        assert!(matches("a\\xffb", "", b"a\xffb"));
        assert!(matches("[\\x80-\\xff]b", "", b"\xffb") && !matches("[^\\x80-\\xff]b", "", b"\xffb"));
        assert!(matches("^[\\x00-\\x7F]*$", "", b"a\0\n") && !matches("^[\\x00-\\x7f]*$", "", b"a\xfc"));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_cause() {
        for (pattern, word) in [
            ("(", "unclosed group"),
            ("a)(b", "unopened group"),
            ("[a", "not closed"),
            ("[]", "not closed"),
            ("[[:digit]", "not closed"),
            ("[[:ziffer:]]", "unknown class"),
            ("[[.space.]]", "unknown class"),
            ("(a)\\1", "back-references"),
            ("a(?=b)", "look-around"),
            ("(?<!a)b", "look-around"),
            ("(?x)a # b", "unknown kind"),
            ("(?#a)", "unknown kind"),
            ("(?P=a)", "unknown kind"),
            ("*a", "repetition"),
            ("a\\", "backslash"),
            ("\\q", "escape"),
            ("\\p{L}", "Unicode"),
            ("[^\u{fc}]", "beyond ASCII"),
            ("[a-\u{fc}]", "beyond ASCII"),
            ("[a-[:digit:]]", "class"),
            ("[\u{fc}-\u{fd}]", "beyond ASCII"),
            ("[\\x8]", "hexadecimal"),
            ("[\\q]", "means nothing"),
            ("[z-a]", "range"),
            ("(((a{1000}){1000}){1000})", "memory"),
        ] {
            let error = Pattern::new(pattern, Flags::default()).expect_err(pattern);
            assert!(error.contains(word) && !error.contains('\n'), "{pattern}: {error}");
        }
        assert!(Pattern::new(&"a".repeat(PATTERN_OCTETS_MAX + 1), Flags::default()).is_err());
        assert!(Pattern::new(&"(".repeat(1_000), Flags::default()).is_err());
    }

    #[test]
    fn v28_no_cut_of_a_pattern_breaks_the_translation() {
        let text = "^[]a-z[:alpha:]\\d\\]^]{2,3}(?:x|\\(y\\))*\\{1,\\}$\\\u{fc}[\u{fc}[.-.]]";
        for (start, _) in text.char_indices() {
            for (end, _) in text.char_indices().filter(|(end, _)| *end >= start) {
                let _ = Pattern::new(&text[start..end], flags(""));
                let _ = Pattern::new(&text[start..end], flags("xm"));
            }
        }
    }
}
