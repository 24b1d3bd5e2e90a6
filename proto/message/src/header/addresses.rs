//! Address lists (RFC 5322 §3.4 and the obsolete forms of §4.4), as IMAP's envelope wants them.
//!
//! Lenient: what is no address still gives something, because a reader shall see what the message says. Nothing here
//! decides where mail goes. One pass, no recursion, each octet looked at a bounded number of times (V26).

use super::{Cursor, trim};
use crate::digest::EnvelopeAddress;

/// Reads an address list, folded or not, up to `entries_max` entries; each start and end of a group is an entry too.
/// Every group that starts also ends. A comment behind an address serves as its name where it has no other
/// (`brian@example.net (Brian)`).
pub fn parse_addresses(value: &[u8], entries_max: usize) -> Vec<EnvelopeAddress> {
    let mut list = List { cursor: Cursor::new(value), entries: Vec::new(), entries_max, in_group: false };
    // The end of an open group has its place reserved.
    while list.entries.len() + usize::from(list.in_group) < list.entries_max && list.element() {}
    if list.in_group {
        list.entries.push(EnvelopeAddress::GroupEnd);
    }
    list.entries
}

struct List<'a> {
    cursor: Cursor<'a>,
    entries: Vec<EnvelopeAddress>,
    entries_max: usize,
    in_group: bool,
}

/// Words read so far that may turn out to be a display name, a local part, or both one after the other.
#[derive(Default)]
struct Words {
    /// All words, one space where white space stood.
    phrase: Vec<u8>,
    /// The last run of words joined by dots, without the white space inside: a local part if an at sign follows.
    run: Vec<u8>,
    /// Where in `phrase` that run starts.
    run_start: usize,
    ends_with_dot: bool,
    /// Whether any word was there; a quoted empty string is one.
    any: bool,
}

impl Words {
    fn push(&mut self, word: &[u8], after_space: bool) {
        let is_dot = word == b".";
        if self.any && after_space {
            self.phrase.push(b' ');
            if !is_dot && !self.ends_with_dot {
                self.run.clear();
                self.run_start = self.phrase.len();
            }
        }
        self.phrase.extend_from_slice(word);
        self.run.extend_from_slice(word);
        self.ends_with_dot = is_dot;
        self.any = true;
    }

    fn name_before_run(&self) -> Option<Vec<u8>> {
        some_text(self.phrase.get(..self.run_start).unwrap_or_default())
    }
}

impl List<'_> {
    /// Takes one element of the list with the sign that ends it. Whether there is more.
    fn element(&mut self) -> bool {
        let mut words = Words::default();
        let mut comment = None;
        let mut after_space = false;
        loop {
            after_space |= self.cursor.skip_space();
            match self.cursor.peek() {
                None => {
                    self.push_bare(words, comment);
                    return false;
                }
                Some(b',') => {
                    self.cursor.bump();
                    self.push_bare(words, comment);
                    return true;
                }
                Some(b';') => {
                    self.cursor.bump();
                    self.push_bare(words, comment);
                    self.end_group();
                    return true;
                }
                Some(b':') => {
                    self.cursor.bump();
                    if self.start_group(&words) {
                        return true;
                    }
                }
                Some(b'<') => {
                    let name = some_text(&words.phrase);
                    self.angle(name, comment);
                    return true;
                }
                Some(b'@') => {
                    self.cursor.bump();
                    self.address(&words, comment);
                    return true;
                }
                Some(b'(') => {
                    comment = self.comment_text();
                    after_space = true;
                    continue;
                }
                Some(b'"') => {
                    let mut text = Vec::new();
                    self.cursor.quoted_string(&mut text);
                    words.push(&text, after_space);
                }
                Some(b'.') => {
                    self.cursor.bump();
                    words.push(b".", after_space);
                }
                Some(b')' | b'>') => {
                    self.cursor.bump();
                }
                Some(_) => {
                    let atom = self.cursor.take_while(is_atom_octet);
                    words.push(atom, after_space);
                }
            }
            after_space = false;
        }
    }

    /// Words without an address: a mailbox without host, as in `To: brian`.
    fn push_bare(&mut self, words: Words, comment: Option<Vec<u8>>) {
        if words.any {
            self.push_mailbox(comment, None, words.phrase, Vec::new());
        }
    }

    /// RFC 5322 §3.4: `display-name ":" [group-list] ";"`. Groups do not nest; a colon inside one means nothing.
    fn start_group(&mut self, words: &Words) -> bool {
        if self.in_group || self.entries.len() + 2 > self.entries_max {
            return false;
        }
        self.in_group = true;
        self.entries.push(EnvelopeAddress::GroupStart(words.phrase.clone()));
        true
    }

    fn end_group(&mut self) {
        if self.in_group {
            self.in_group = false;
            self.entries.push(EnvelopeAddress::GroupEnd);
        }
    }

    /// An address without angle brackets; the at sign is taken. Words before the local part become the name, and
    /// so does the address itself where another one in angle brackets follows.
    fn address(&mut self, words: &Words, comment: Option<Vec<u8>>) {
        let (host, inner_comment) = self.host(false);
        let mut comment = inner_comment.or(comment);
        loop {
            self.cursor.skip_space();
            match self.cursor.peek() {
                Some(b'(') => comment = self.comment_text().or(comment),
                Some(b'<') => {
                    let name = [words.phrase.as_slice(), b"@", host.as_slice()].concat();
                    return self.angle(Some(name), comment);
                }
                _ => break,
            }
        }
        let name = words.name_before_run().or(comment);
        self.push_mailbox(name, None, words.run.clone(), host);
        self.separator();
    }

    /// RFC 5322 §3.4 angle-addr with the obsolete route of §4.4. The opening bracket is the next octet.
    fn angle(&mut self, name: Option<Vec<u8>>, comment: Option<Vec<u8>>) {
        self.cursor.bump();
        self.cursor.skip_cfws();
        let route = if self.cursor.peek() == Some(b'@') { self.route() } else { None };
        let mut words = Words::default();
        let mut host = Vec::new();
        loop {
            // White space inside a local part is an error that is shown; around its dots it is an obsolete form.
            if self.cursor.skip_space() && words.any && !words.ends_with_dot && host.is_empty() {
                let goes_on = self.cursor.peek().is_some_and(|b| b == b'"' || (is_atom_octet(b) && b != b'.'));
                words.run.extend(goes_on.then_some(b' '));
            }
            self.cursor.skip_cfws();
            match self.cursor.peek() {
                None | Some(b',' | b';') => break,
                Some(b'>') => {
                    self.cursor.bump();
                    break;
                }
                Some(b'@') => {
                    self.cursor.bump();
                    host = self.host(true).0;
                }
                Some(b'"') => {
                    let mut text = Vec::new();
                    self.cursor.quoted_string(&mut text);
                    words.push(&text, false);
                }
                Some(_) => {
                    let octets = self.cursor.take_while(|b| is_atom_octet(b) || b == b'.');
                    if octets.is_empty() {
                        self.cursor.bump();
                    }
                    words.push(octets, false);
                    words.ends_with_dot = octets.ends_with(b".");
                }
            }
        }
        let mut comment = comment;
        self.cursor.skip_space();
        while self.cursor.peek() == Some(b'(') {
            comment = self.comment_text().or(comment);
            self.cursor.skip_space();
        }
        self.push_mailbox(name.or(comment), route, words.run, host);
        self.separator();
    }

    /// `@one,@two:` before the address. Without its colon it is no route.
    fn route(&mut self) -> Option<Vec<u8>> {
        let length = self.cursor.rest().iter().position(|b| matches!(b, b':' | b'>' | b'<' | b'"' | b';'));
        let colon = length.filter(|at| self.cursor.rest().get(*at) == Some(&b':'))?;
        let mut route = Vec::new();
        for _ in 0..colon {
            route.extend(self.cursor.bump().filter(|b| !b.is_ascii_whitespace()));
        }
        self.cursor.bump();
        Some(route)
    }

    /// The host behind an at sign: dots and atoms without the white space between them, or a literal in brackets.
    /// Also the text of the last comment in it.
    fn host(&mut self, in_angle: bool) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut host = Vec::new();
        let mut comment = None;
        loop {
            let mut apart = self.cursor.skip_space();
            while self.cursor.peek() == Some(b'(') {
                comment = self.comment_text().or(comment);
                self.cursor.skip_space();
                apart = true;
            }
            match self.cursor.peek() {
                Some(b'[') => {
                    let literal = self.cursor.take_while(|b| b != b']');
                    host.extend(literal.iter().filter(|b| !matches!(b, b'\r' | b'\n')));
                    host.extend(self.cursor.bump());
                }
                Some(octet @ (b'.' | b'@')) => {
                    self.cursor.bump();
                    host.push(octet);
                }
                Some(octet) if is_atom_octet(octet) => {
                    // Two words side by side: outside of brackets the second begins the next address.
                    if apart && !in_angle && !host.is_empty() && !host.ends_with(b".") {
                        return (host, comment);
                    }
                    host.extend_from_slice(self.cursor.take_while(|b| is_atom_octet(b) && b != b'['));
                }
                _ => return (host, comment),
            }
        }
    }

    fn comment_text(&mut self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        self.cursor.comment(Some(&mut text));
        some_text(&text)
    }

    /// Takes the comma or semicolon behind an address, if it is there.
    fn separator(&mut self) {
        self.cursor.skip_space();
        if self.cursor.eat(b';') {
            self.end_group();
        } else {
            self.cursor.eat(b',');
        }
    }

    fn push_mailbox(&mut self, name: Option<Vec<u8>>, route: Option<Vec<u8>>, local: Vec<u8>, host: Vec<u8>) {
        self.entries.push(EnvelopeAddress::Mailbox { name, route, local, host });
    }
}

/// Everything but white space and what has a meaning of its own. More than RFC 5322 §3.2.3 allows: octets beyond
/// ASCII, and signs that careless programs leave unquoted.
fn is_atom_octet(octet: u8) -> bool {
    !matches!(octet, b' ' | b'\t' | b'\r' | b'\n' | b'(' | b')' | b'<' | b'>' | b'@' | b',' | b';' | b':' | b'"' | b'.')
}

fn some_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = trim(text);
    (!text.is_empty()).then(|| text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name|route|local|host`, `[group` and `]`, one space between.
    fn show(value: &str) -> String {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let optional = |octets: &Option<Vec<u8>>| octets.as_deref().map_or("-".to_owned(), text);
        let entries = parse_addresses(value.as_bytes(), 1_000);
        let shown: Vec<String> = entries
            .iter()
            .map(|entry| match entry {
                EnvelopeAddress::Mailbox { name, route, local, host } => {
                    format!("{}|{}|{}|{}", optional(name), optional(route), text(local), text(host))
                }
                EnvelopeAddress::GroupStart(name) => format!("[{}", text(name)),
                EnvelopeAddress::GroupEnd => "]".to_owned(),
            })
            .collect();
        shown.join(" ")
    }

    #[test]
    fn the_examples_of_rfc_5322() {
        // RFC 5322 §A.1.2, §A.1.3, §A.5, §A.6.1, §A.6.3.
        assert_eq!(show("\"Joe Q. Public\" <john.q.public@example.com>"), "Joe Q. Public|-|john.q.public|example.com");
        assert_eq!(
            show("Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>"),
            "Mary Smith|-|mary|x.test -|-|jdoe|example.org Who?|-|one|y.test"
        );
        assert_eq!(
            show("<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>"),
            "-|-|boss|nil.test Giant; \"Big\" Box|-|sysservices|example.net"
        );
        assert_eq!(
            show("A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;"),
            "[A Group Ed Jones|-|c|a.test -|-|joe|where.test John|-|jdoe|one.test ]"
        );
        assert_eq!(show("Undisclosed recipients:;"), "[Undisclosed recipients ]");
        assert_eq!(show("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>"), "Pete|-|pete|silly.test");
        assert_eq!(
            show(
                "A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n joe@example.org,\r\n  John <jdoe@one.test> (my dear friend); (the end of the group)"
            ),
            "[A Group Chris Jones|-|c|public.example -|-|joe|example.org John|-|jdoe|one.test ]"
        );
        assert_eq!(show("Joe Q. Public <john.q.public@example.com>"), "Joe Q. Public|-|john.q.public|example.com");
        assert_eq!(
            show("Mary Smith <@node.test,@b.test:mary@example.net>, , jdoe@test  . example"),
            "Mary Smith|@node.test,@b.test|mary|example.net -|-|jdoe|test.example"
        );
    }

    #[test]
    fn what_careless_programs_write() {
        assert_eq!(show("brian@example.net (Brian)"), "Brian|-|brian|example.net");
        assert_eq!(show("(Brian) brian@example.net"), "Brian|-|brian|example.net");
        assert_eq!(show("a@b.test <c@d.test>"), "a@b.test|-|c|d.test");
        assert_eq!(show("Brian brian@example.net"), "Brian|-|brian|example.net");
        assert_eq!(show("a@b.test c@d.test; e@f.test"), "-|-|a|b.test -|-|c|d.test -|-|e|f.test");
        assert_eq!(show("brian, Jane Doe"), "-|-|brian| -|-|Jane Doe|");
        assert_eq!(show("<>"), "-|-||");
        assert_eq!(show("<brian>"), "-|-|brian|");
        assert_eq!(show("\"a b\" . c@[192.0.2.1]"), "-|-|a b.c|[192.0.2.1]");
        assert_eq!(show("=?utf-8?q?a_b?= <a@b>"), "=?utf-8?q?a_b?=|-|a|b");
        assert_eq!(show("a@b@c, <a@b@c>"), "-|-|a|b@c -|-|a|b@c");
        assert_eq!(show("<a b@c>, <a . b. c@d>"), "-|-|a b|c -|-|a.b.c|d");
        assert_eq!(show("<a@b, c@d>"), "-|-|a|b -|-|c|d");
        assert_eq!(show("x: a@b: c@d"), "[x -|-|a|b -|-|c|d ]");
    }

    #[test]
    fn v28_no_cut_and_no_sign_breaks_it() {
        let text = "A (c (d\\)) \"x\\\"y\" g:<@r,@s:l@h>(z), q . w@[1.2.3.4] ;@@<<>>,,;;::((\"\\";
        for start in 0..text.len() {
            for end in start..=text.len() {
                let entries = parse_addresses(&text.as_bytes()[start..end], 7);
                assert!(entries.len() <= 7);
                let starts = entries.iter().filter(|entry| matches!(entry, EnvelopeAddress::GroupStart(_))).count();
                let ends = entries.iter().filter(|entry| matches!(entry, EnvelopeAddress::GroupEnd)).count();
                assert_eq!(starts, ends);
            }
        }
    }

    #[test]
    fn v26_a_million_addresses_and_ten_megabytes() {
        let many = "a@b,".repeat(1_000_000);
        assert_eq!(parse_addresses(many.as_bytes(), usize::MAX).len(), 1_000_000);
        assert_eq!(parse_addresses(many.as_bytes(), 50).len(), 50);
        for piece in [
            "(", "((\\", "\"", "<", "<@a", "a:", "a;", "@", "a ", ". ", "a@", "<@", "\"\" ", "[", "a@[", "(a)",
            "a@b c ",
        ] {
            let flood = piece.repeat(10_000_000 / piece.len() / 10);
            assert!(parse_addresses(flood.as_bytes(), 2_000).len() <= 2_000, "{piece}");
        }
        let groups = "g:a@b;".repeat(200_000);
        assert_eq!(parse_addresses(groups.as_bytes(), 300).len(), 300);
        assert_eq!(parse_addresses(b"g:a@b;", 1).len(), 1);
    }
}
