//! LIST and LSUB: reading the command, choosing names, writing the responses (RFC 3501 §6.3.8 and §6.3.9, RFC 5258,
//! RFC 6154 §3). STATUS for listed mailboxes (RFC 5819) is left to who can ask for pictures of mailboxes.

mod pattern;

pub use pattern::Pattern;

use crate::encode;
use crate::lexer::{BadCommand, Lexer};
use crate::mutf7;
use mail::mailbox::SEPARATOR;
use mail::{MailboxId, MailboxInfo, MailboxName, SpecialUse};
use std::collections::BTreeMap;

/// Most patterns in one extended LIST.
pub const PATTERNS_MAX: usize = 100;
/// Most octets of all patterns of a LIST together with its reference (V23).
pub const PATTERNS_OCTETS_MAX: usize = 8_192;

/// What a LIST or LSUB asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListCommand {
    /// Names that match any of these. Patterns that no mailbox can match are left out.
    pub patterns: Vec<Pattern>,
    /// Only the separator and the root are asked for (RFC 3501 §6.3.8).
    pub root_only: bool,
    /// Uses any extension of RFC 5258.
    pub extended: bool,
    /// Which of the matching names.
    pub select: Selection,
    /// What is told of them.
    pub returns: Returns,
}

/// Selection options (RFC 5258 §3.1, RFC 6154 §3). REMOTE selects nothing here: all mailboxes are local.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Selection {
    /// Subscribed names, whether or not they exist, instead of existing mailboxes.
    pub subscribed: bool,
    /// Superior levels of selected names as well.
    pub recursive: bool,
    /// Only mailboxes with a role.
    pub special_use: bool,
}

/// Return options (RFC 5258 §3.2). CHILDREN and SPECIAL-USE change nothing: both are always told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Returns {
    /// Tell what is subscribed.
    pub subscribed: bool,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// The name.
    pub name: MailboxName,
    /// The mailbox, where one of that name exists.
    pub id: Option<MailboxId>,
    /// Attributes in the order written.
    pub attributes: Vec<&'static str>,
    /// An inferior name is selected too (RFC 5258 §3.5).
    pub child_info: bool,
    /// The name itself is selected, not only an inferior one.
    pub selected: bool,
}

/// Reads the arguments of LIST that follow its space. `status` reads what stands in the parentheses of a STATUS return
/// option, both parentheses included.
pub fn parse_list<S>(
    lexer: &mut Lexer<'_>,
    mut status: impl FnMut(&mut Lexer<'_>) -> Result<S, BadCommand>,
) -> Result<(ListCommand, Option<S>), BadCommand> {
    let mut extended = false;
    let mut select = Selection::default();
    if lexer.peek() == Some(b'(') {
        extended = true;
        select = selection(lexer)?;
        lexer.space()?;
    }
    let reference = lexer.astring()?;
    lexer.space()?;
    let patterns = if lexer.eat(b'(') {
        extended = true;
        pattern_list(lexer)?
    } else {
        vec![lexer.list_mailbox()?.into_owned()]
    };
    let (mut returns, mut status_items) = (Returns { subscribed: select.subscribed }, None);
    if !lexer.at_end() {
        extended = true;
        lexer.space()?;
        return_options(lexer, &mut returns, &mut |lexer| {
            status_items = Some(status(lexer)?);
            Ok(())
        })?;
    }
    Ok((command(&reference, &patterns, extended, select, returns)?, status_items))
}

/// Reads the arguments of LSUB that follow its space.
pub fn parse_lsub(lexer: &mut Lexer<'_>) -> Result<ListCommand, BadCommand> {
    let reference = lexer.astring()?;
    lexer.space()?;
    let patterns = [lexer.list_mailbox()?.into_owned()];
    command(&reference, &patterns, false, Selection::default(), Returns::default())
}

fn command(
    reference: &[u8],
    patterns: &[Vec<u8>],
    extended: bool,
    select: Selection,
    returns: Returns,
) -> Result<ListCommand, BadCommand> {
    if patterns.iter().map(Vec::len).sum::<usize>().saturating_add(reference.len()) > PATTERNS_OCTETS_MAX {
        return Err(BadCommand("The mailbox pattern is too long."));
    }
    // RFC 5258 §3: only the basic command takes an empty pattern as a question about the root.
    let root_only = !extended && patterns.iter().all(Vec::is_empty);
    let compile = |pattern: &Vec<u8>| {
        // What is no modified UTF-7 matches nothing.
        let (reference, pattern) = (mutf7::decode(reference).ok()?, mutf7::decode(pattern).ok()?);
        if pattern.is_empty() { None } else { Pattern::new(&reference, &pattern) }
    };
    Ok(ListCommand { patterns: patterns.iter().filter_map(compile).collect(), root_only, extended, select, returns })
}

fn selection(lexer: &mut Lexer<'_>) -> Result<Selection, BadCommand> {
    let mut select = Selection::default();
    words(lexer, |lexer| {
        let word = lexer.atom()?;
        if word.eq_ignore_ascii_case("SUBSCRIBED") {
            select.subscribed = true;
        } else if word.eq_ignore_ascii_case("RECURSIVEMATCH") {
            select.recursive = true;
        } else if word.eq_ignore_ascii_case("SPECIAL-USE") {
            select.special_use = true;
        } else if !word.eq_ignore_ascii_case("REMOTE") {
            return Err(BadCommand("Unknown LIST selection option."));
        }
        Ok(())
    })?;
    // RFC 5258 §3.1: RECURSIVEMATCH needs an option that selects.
    if select.recursive && !select.subscribed {
        return Err(BadCommand("RECURSIVEMATCH needs SUBSCRIBED."));
    }
    Ok(select)
}

fn pattern_list(lexer: &mut Lexer<'_>) -> Result<Vec<Vec<u8>>, BadCommand> {
    let mut patterns = Vec::new();
    for _ in 0..PATTERNS_MAX {
        patterns.push(lexer.list_mailbox()?.into_owned());
        if lexer.eat(b')') {
            return Ok(patterns);
        }
        lexer.space()?;
    }
    Err(BadCommand("Too many mailbox patterns."))
}

fn return_options(
    lexer: &mut Lexer<'_>,
    returns: &mut Returns,
    status: &mut dyn FnMut(&mut Lexer<'_>) -> Result<(), BadCommand>,
) -> Result<(), BadCommand> {
    if !lexer.atom()?.eq_ignore_ascii_case("RETURN") {
        return Err(BadCommand("Unexpected arguments after the mailbox pattern."));
    }
    lexer.space()?;
    words(lexer, |lexer| {
        let word = lexer.atom()?;
        if word.eq_ignore_ascii_case("SUBSCRIBED") {
            returns.subscribed = true;
        } else if word.eq_ignore_ascii_case("STATUS") {
            lexer.space()?;
            status(lexer)?;
        } else if !word.eq_ignore_ascii_case("CHILDREN") && !word.eq_ignore_ascii_case("SPECIAL-USE") {
            return Err(BadCommand("Unknown LIST return option."));
        }
        Ok(())
    })
}

/// A list in parentheses, perhaps empty, of which `word` reads one entry.
fn words(
    lexer: &mut Lexer<'_>,
    mut word: impl FnMut(&mut Lexer<'_>) -> Result<(), BadCommand>,
) -> Result<(), BadCommand> {
    const WORDS_MAX: usize = 32;
    lexer.expect(b'(')?;
    if lexer.eat(b')') {
        return Ok(());
    }
    for _ in 0..WORDS_MAX {
        word(lexer)?;
        if lexer.eat(b')') {
            return Ok(());
        }
        lexer.space()?;
    }
    Err(BadCommand("Too many options."))
}

/// A name of the tree: a mailbox, a subscribed name, or a level above such.
#[derive(Debug, Default)]
struct Node<'a> {
    info: Option<&'a MailboxInfo>,
    /// There are mailboxes below.
    has_children: bool,
    /// There are selected names below.
    selected_below: bool,
    /// There are selected names below that match no pattern.
    selected_below_unmatched: bool,
}

impl Node<'_> {
    fn exists(&self) -> bool {
        self.info.is_some_and(|info| info.id.is_some())
    }

    fn subscribed(&self) -> bool {
        self.info.is_some_and(|info| info.subscribed)
    }
}

/// All names, with what is known of their inferiors. `selects` tells which names count as selected.
fn tree<'a>(
    command: &ListCommand,
    mailboxes: &'a [MailboxInfo],
    selects: impl Fn(&MailboxInfo) -> bool,
) -> BTreeMap<&'a str, Node<'a>> {
    let mut nodes: BTreeMap<&str, Node<'_>> = BTreeMap::new();
    for info in mailboxes {
        let name = info.name.as_str();
        let selected = selects(info);
        let unmatched = selected && !command.matches(name);
        for (index, _) in name.match_indices(SEPARATOR) {
            let node = nodes.entry(name.get(..index).unwrap_or_default()).or_default();
            node.has_children |= info.id.is_some();
            node.selected_below |= selected;
            node.selected_below_unmatched |= unmatched;
        }
        nodes.entry(name).or_default().info = Some(info);
    }
    nodes
}

impl ListCommand {
    fn matches(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether a level that is no mailbox is asked for: it matches a pattern whose last sign is `%`.
    fn asks_for_level(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.ends_in_percent() && pattern.matches(name))
    }
}

/// Answers a LIST from the account's mailboxes and subscribed names.
pub fn list(command: &ListCommand, mailboxes: &[MailboxInfo]) -> Vec<ListEntry> {
    let select = command.select;
    let selects = |info: &MailboxInfo| {
        (if select.subscribed { info.subscribed } else { info.id.is_some() })
            && (!select.special_use || info.id.is_some() && info.special_use.is_some())
    };
    let mut entries = Vec::new();
    for (name, node) in tree(command, mailboxes, selects) {
        if !command.matches(name) {
            continue;
        }
        let selected = node.info.is_some_and(selects);
        // RFC 3501 §6.3.8: levels that are no mailboxes are listed for a `%` at the end.
        let is_level = !select.subscribed
            && !select.special_use
            && !node.exists()
            && node.has_children
            && command.asks_for_level(name);
        // RFC 5258 §3.5: a name that is not selected is listed only for those below that are not listed themselves.
        let is_parent = select.recursive && node.selected_below_unmatched;
        if !(selected || is_level || is_parent) {
            continue;
        }
        let Ok(full_name) = MailboxName::parse(name) else { continue };
        entries.push(ListEntry {
            name: full_name,
            id: node.info.and_then(|info| info.id),
            attributes: attributes(command, &node),
            child_info: select.recursive && node.selected_below,
            selected,
        });
    }
    entries
}

fn attributes(command: &ListCommand, node: &Node<'_>) -> Vec<&'static str> {
    let mut attributes = Vec::new();
    if !node.exists() {
        // RFC 5258 §3: the stronger attribute implies the weaker, but only its clients know it; the grammar has one.
        attributes.push(if command.extended { "\\NonExistent" } else { "\\Noselect" });
    }
    if command.returns.subscribed && node.subscribed() {
        attributes.push("\\Subscribed");
    }
    attributes.push(if node.has_children { "\\HasChildren" } else { "\\HasNoChildren" });
    if node.exists() {
        attributes.extend(node.info.and_then(|info| info.special_use).map(SpecialUse::attribute));
    }
    attributes
}

/// Answers an LSUB from the account's mailboxes and subscribed names.
pub fn lsub(command: &ListCommand, mailboxes: &[MailboxInfo]) -> Vec<ListEntry> {
    let mut entries = Vec::new();
    for (name, node) in tree(command, mailboxes, |info| info.subscribed) {
        let selected = node.subscribed() && command.matches(name);
        // RFC 3501 §6.3.9: for `%`, a level above subscribed names stands for them, and says so by \Noselect.
        let is_level = !node.subscribed() && node.selected_below && command.asks_for_level(name);
        let Ok(full_name) = MailboxName::parse(name) else { continue };
        if selected || is_level {
            entries.push(ListEntry {
                name: full_name,
                id: node.info.and_then(|info| info.id),
                attributes: if selected { Vec::new() } else { vec!["\\Noselect"] },
                child_info: false,
                selected,
            });
        }
    }
    entries
}

/// Writes one LIST response.
pub fn write_list(out: &mut Vec<u8>, entry: &ListEntry) {
    write(out, b"* LIST (", entry);
}

/// Writes one LSUB response.
pub fn write_lsub(out: &mut Vec<u8>, entry: &ListEntry) {
    write(out, b"* LSUB (", entry);
}

/// Writes the answer to an empty pattern: the separator, and the root, which has no name (RFC 3501 §6.3.8).
pub fn write_root(out: &mut Vec<u8>, lsub: bool) {
    out.extend_from_slice(if lsub { b"* LSUB" } else { b"* LIST" });
    out.extend_from_slice(b" (\\Noselect) \"/\" \"\"\r\n");
}

fn write(out: &mut Vec<u8>, head: &[u8], entry: &ListEntry) {
    out.extend_from_slice(head);
    for (index, attribute) in entry.attributes.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(attribute.as_bytes());
    }
    out.extend_from_slice(b") \"/\" ");
    encode::mailbox(out, &entry.name);
    if entry.child_info {
        out.extend_from_slice(b" (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::UidValidity;

    /// Mailboxes as `name`, with `+` for subscribed and `-` for not existing in front.
    fn account(names: &[&str]) -> Vec<MailboxInfo> {
        let info = |(index, text): (usize, &&str)| {
            let name = text.trim_start_matches(['+', '-']);
            MailboxInfo {
                id: (!text.contains('-')).then_some(MailboxId(index as u64 + 1)),
                name: MailboxName::parse(name).unwrap(),
                special_use: SpecialUse::NAMES
                    .iter()
                    .find(|(use_name, _)| &use_name[1..] == name)
                    .map(|(_, role)| *role),
                subscribed: text.contains('+'),
                uid_validity: UidValidity(1),
            }
        };
        names.iter().enumerate().map(info).collect()
    }

    fn listed(text: &str, mailboxes: &[MailboxInfo]) -> Vec<String> {
        let mut lexer = Lexer::new(text.as_bytes());
        let (command, _) = parse_list(&mut lexer, |_| Ok(())).unwrap();
        lexer.end().unwrap();
        let mut out = Vec::new();
        if command.root_only {
            write_root(&mut out, false);
        }
        list(&command, mailboxes).iter().for_each(|entry| write_list(&mut out, entry));
        lines(&out, "* LIST ")
    }

    fn lsubbed(text: &str, mailboxes: &[MailboxInfo]) -> Vec<String> {
        let command = parse_lsub(&mut Lexer::new(text.as_bytes())).unwrap();
        let mut out = Vec::new();
        lsub(&command, mailboxes).iter().for_each(|entry| write_lsub(&mut out, entry));
        lines(&out, "* LSUB ")
    }

    fn lines(out: &[u8], head: &str) -> Vec<String> {
        let text = std::str::from_utf8(out).unwrap();
        text.lines().map(|line| line.strip_prefix(head).unwrap().replace("\"/\" ", "").replace('"', "")).collect()
    }

    #[test]
    fn lines_are_written_in_full() {
        let mailboxes = account(&["INBOX", "Entwürfe", "Sent"]);
        let command = parse_list(&mut Lexer::new(b"\"\" *"), |_| Ok(())).unwrap().0;
        let mut out = Vec::new();
        list(&command, &mailboxes).iter().for_each(|entry| write_list(&mut out, entry));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "* LIST (\\HasNoChildren) \"/\" \"Entw&APw-rfe\"\r\n* LIST (\\HasNoChildren) \"/\" \"INBOX\"\r\n\
             * LIST (\\HasNoChildren \\Sent) \"/\" \"Sent\"\r\n"
        );
        let mut out = Vec::new();
        write_root(&mut out, false);
        assert_eq!(out, b"* LIST (\\Noselect) \"/\" \"\"\r\n");
    }

    #[test]
    fn basic_list_names_mailboxes_and_for_percent_levels() {
        let mailboxes = account(&["+INBOX", "a", "a/b/c", "+-gone", "x/y"]);
        assert_eq!(
            listed("\"\" *", &mailboxes),
            ["(\\HasNoChildren) INBOX", "(\\HasChildren) a", "(\\HasNoChildren) a/b/c", "(\\HasNoChildren) x/y"]
        );
        assert_eq!(
            listed("\"\" %", &mailboxes),
            ["(\\HasNoChildren) INBOX", "(\\HasChildren) a", "(\\Noselect \\HasChildren) x"]
        );
        assert_eq!(listed("a/ %", &mailboxes), ["(\\Noselect \\HasChildren) a/b"]);
        assert_eq!(listed("\"\" a/b", &mailboxes), [""; 0]);
        assert_eq!(listed("a \"\"", &mailboxes), ["(\\Noselect) "]);
        assert_eq!(listed("\"\" inbox", &mailboxes), ["(\\HasNoChildren) INBOX"]);
        assert_eq!(listed("\"\" &", &mailboxes), [""; 0]);
    }

    #[test]
    fn lsub_names_the_level_above_for_percent() {
        let mailboxes = account(&["foo", "+foo/bar", "+-old/gone", "+z", "foo/not"]);
        assert_eq!(lsubbed("\"\" *", &mailboxes), ["() foo/bar", "() old/gone", "() z"]);
        assert_eq!(lsubbed("\"\" %", &mailboxes), ["(\\Noselect) foo", "(\\Noselect) old", "() z"]);
        assert_eq!(lsubbed("foo/ %", &mailboxes), ["() foo/bar"]);
        assert_eq!(lsubbed("\"\" foo", &mailboxes), [""; 0]);
    }

    #[test]
    fn rfc5258_examples_of_subscribed() {
        let mailboxes = account(&[
            "+INBOX",
            "Fruit",
            "Fruit/Apple",
            "+Fruit/Banana",
            "+-Fruit/Peach",
            "Tofu",
            "+Vegetable",
            "+Vegetable/Broccoli",
            "Vegetable/Corn",
        ]);
        assert_eq!(
            listed("(SUBSCRIBED) \"\" \"*\"", &mailboxes),
            [
                "(\\Subscribed \\HasNoChildren) Fruit/Banana",
                "(\\NonExistent \\Subscribed \\HasNoChildren) Fruit/Peach",
                "(\\Subscribed \\HasNoChildren) INBOX",
                "(\\Subscribed \\HasChildren) Vegetable",
                "(\\Subscribed \\HasNoChildren) Vegetable/Broccoli",
            ]
        );
        assert_eq!(
            listed("() \"\" % RETURN (CHILDREN)", &mailboxes),
            ["(\\HasChildren) Fruit", "(\\HasNoChildren) INBOX", "(\\HasNoChildren) Tofu", "(\\HasChildren) Vegetable"]
        );
        assert_eq!(listed("(REMOTE) \"\" * RETURN (SUBSCRIBED)", &mailboxes).len(), 8);
        assert_eq!(
            listed("\"\" (INBOX \"Tofu\" Fruit/% Fruit/Apple \"\")", &mailboxes),
            [
                "(\\HasNoChildren) Fruit/Apple",
                "(\\HasNoChildren) Fruit/Banana",
                "(\\HasNoChildren) INBOX",
                "(\\HasNoChildren) Tofu"
            ]
        );
    }

    #[test]
    fn rfc5258_example_9_of_recursivematch() {
        let mailboxes = account(&[
            "INBOX",
            "foo2",
            "+foo2/bar1",
            "+foo2/bar2",
            "baz2",
            "+baz2/bar2",
            "+baz2/bar22",
            "+baz2/bar222",
            "+eps2",
            "+eps2/mamba",
            "+qux2/bar2",
        ]);
        let names = |text: &str| -> Vec<String> {
            listed(text, &mailboxes)
                .iter()
                .map(|line| line.split(") ").skip(1).collect::<Vec<_>>().join(") "))
                .collect()
        };
        assert_eq!(
            names("(RECURSIVEMATCH SUBSCRIBED) \"\" \"*2\""),
            [
                "baz2/bar2",
                "baz2/bar22",
                "baz2/bar222",
                "eps2 (CHILDINFO (SUBSCRIBED))",
                "foo2 (CHILDINFO (SUBSCRIBED))",
                "foo2/bar2",
                "qux2/bar2"
            ]
        );
        assert_eq!(
            listed("(SUBSCRIBED RECURSIVEMATCH) \"\" %", &mailboxes),
            [
                "(\\HasChildren) baz2 (CHILDINFO (SUBSCRIBED))",
                "(\\Subscribed \\HasChildren) eps2 (CHILDINFO (SUBSCRIBED))",
                "(\\HasChildren) foo2 (CHILDINFO (SUBSCRIBED))",
                "(\\NonExistent \\HasChildren) qux2 (CHILDINFO (SUBSCRIBED))"
            ]
        );
    }

    #[test]
    fn special_use_is_told_and_selects() {
        let mailboxes = account(&["INBOX", "Drafts", "Sent", "+Junk"]);
        assert_eq!(
            listed("(SPECIAL-USE) \"\" *", &mailboxes),
            ["(\\HasNoChildren \\Drafts) Drafts", "(\\HasNoChildren \\Junk) Junk", "(\\HasNoChildren \\Sent) Sent"]
        );
        assert_eq!(
            listed("(SPECIAL-USE SUBSCRIBED) \"\" *", &mailboxes),
            ["(\\Subscribed \\HasNoChildren \\Junk) Junk"]
        );
    }

    #[test]
    fn status_items_are_read_by_the_caller() {
        let mut lexer = Lexer::new(b"\"\" % RETURN (STATUS (MESSAGES) SUBSCRIBED)");
        let (command, status) = parse_list(&mut lexer, |lexer| {
            lexer.expect(b'(')?;
            let word = lexer.atom()?.to_owned();
            lexer.expect(b')')?;
            Ok(word)
        })
        .unwrap();
        assert_eq!(status.as_deref(), Some("MESSAGES"));
        assert!(command.returns.subscribed && command.extended && lexer.at_end());
    }

    #[test]
    fn v23_what_is_not_of_the_grammar_or_too_long_is_refused() {
        for text in [
            "",
            "\"\"",
            "\"\" ",
            "(FOO) \"\" *",
            "(RECURSIVEMATCH) \"\" *",
            "(REMOTE RECURSIVEMATCH) \"\" *",
            "\"\" ()",
            "\"\" (a",
            "\"\" * FOO",
            "\"\" * RETURN",
            "\"\" * RETURN (FOO)",
            "\"\" * RETURN (STATUS)",
        ] {
            assert!(parse_list(&mut Lexer::new(text.as_bytes()), |_| Ok(())).is_err(), "{text}");
        }
        let long = format!("\"\" {}", "*%".repeat(PATTERNS_OCTETS_MAX));
        assert!(parse_list(&mut Lexer::new(long.as_bytes()), |_| Ok(())).is_err());
        let many = format!("\"\" ({}a)", "a ".repeat(PATTERNS_MAX));
        assert!(parse_list(&mut Lexer::new(many.as_bytes()), |_| Ok(())).is_err());
    }
}
