//! Reads the recipients that a field names, for programs that let the message say whom it is for (`sendmail -t`).
//!
//! As strict as the reading of authors, since mail goes where this says: what could be taken for another address is a
//! fault, never a recipient less. Beyond the grammar of authors it knows groups (RFC 5322 §3.4), elements that are
//! empty (RFC 5322 §4.4), and names of this machine without a domain.

use super::mailboxes::{Fault, address, checked, skip_comments, word};
use crate::header::Cursor;
use mail::{Address, Domain};

/// The recipients of an unfolded value, each as often as it stands there. A name without a domain is completed by `own`;
/// whoever names nobody, as in `undisclosed-recipients:;`, gives none.
///
/// # Errors
/// [`Fault::TooMany`] for more than `recipients_max`.
pub fn recipients(value: &[u8], own: &Domain, recipients_max: usize) -> Result<Vec<Address>, Fault> {
    let mut cursor = Cursor::new(checked(value)?);
    let mut found = Vec::new();
    let mut in_group = false;
    loop {
        skip_comments(&mut cursor)?;
        match cursor.peek() {
            None if in_group => return Err(Fault::Syntax),
            None => return Ok(found),
            Some(b',') => drop(cursor.bump()),
            Some(b';') if in_group => {
                cursor.bump();
                in_group = false;
                ends(&mut cursor, in_group)?;
            }
            Some(_) => match element(&mut cursor, own)? {
                Element::Group if in_group => return Err(Fault::Syntax),
                Element::Group => in_group = true,
                Element::Mailbox(_) if found.len() >= recipients_max => return Err(Fault::TooMany),
                Element::Mailbox(address) => {
                    found.push(address);
                    ends(&mut cursor, in_group)?;
                }
            },
        }
    }
}

/// An element is over: the list goes on with a comma, or ends, and so does a group.
fn ends(cursor: &mut Cursor<'_>, in_group: bool) -> Result<(), Fault> {
    skip_comments(cursor)?;
    match cursor.peek() {
        None | Some(b',') => Ok(()),
        Some(b';') if in_group => Ok(()),
        Some(_) => Err(Fault::Syntax),
    }
}

enum Element {
    Mailbox(Address),
    /// A group begins; its name and the colon are passed.
    Group,
}

fn element(cursor: &mut Cursor<'_>, own: &Domain) -> Result<Element, Fault> {
    let mut words = Vec::new();
    loop {
        match cursor.peek() {
            Some(b'<') => {
                cursor.bump();
                return in_brackets(cursor, own).map(Element::Mailbox);
            }
            Some(b':') if !words.is_empty() => {
                cursor.bump();
                return Ok(Element::Group);
            }
            None | Some(b',' | b';') => break,
            Some(b':' | b'>' | b')' | b'\\') => return Err(Fault::Syntax),
            Some(_) => words.push(word(cursor)?),
        }
        skip_comments(cursor)?;
    }
    match words[..] {
        [only] => completed(only, own).map(Element::Mailbox),
        _ => Err(Fault::Syntax),
    }
}

/// RFC 5322 §3.4 angle-addr, the opening bracket passed. RFC 5321 §4.1.2 says of routes that they are to be ignored (not):
/// nobody means one today.
fn in_brackets(cursor: &mut Cursor<'_>, own: &Domain) -> Result<Address, Fault> {
    if cursor.peek() == Some(b'@') {
        return Err(Fault::Route);
    }
    let text = word(cursor)?;
    if !cursor.eat(b'>') {
        return Err(Fault::Syntax);
    }
    completed(text, own)
}

fn completed(text: &[u8], own: &Domain) -> Result<Address, Fault> {
    match address(text) {
        Err(Fault::NoDomain) => address(&[text, b"@", own.as_str().as_bytes()].concat()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Vec<String>, Fault> {
        let own = Domain::parse("example.net").unwrap();
        recipients(value.as_bytes(), &own, 5).map(|found| found.iter().map(Address::to_string).collect())
    }

    #[test]
    fn r213_recipients_are_read_from_every_form() {
        for (value, expected) in [
            ("", &[][..]),
            (" , ,", &[]),
            ("undisclosed-recipients:;", &[]),
            ("\"To all\": ;", &[]),
            ("a@b.example", &["a@b.example"]),
            ("<a@b.example>", &["a@b.example"]),
            ("A <a@b.example>, \"C, D\" <c@d.example>", &["a@b.example", "c@d.example"]),
            ("a@b.example (one), (two) c@d.example,", &["a@b.example", "c@d.example"]),
            ("root", &["root@example.net"]),
            ("Root <root>, \"b c\"", &["root@example.net", "\"b c\"@example.net"]),
            ("Friends: a@b.example, Two <c@d.example>;, e@f.example", &["a@b.example", "c@d.example", "e@f.example"]),
            ("g:a@b.example;", &["a@b.example"]),
            ("=?utf-8?q?Bri=C3=A1n?= <brian@example.net>", &["brian@example.net"]),
            ("бриан@пример.example", &["бриан@xn--e1afmkfd.example"]),
            ("\"not <a@b.example>\" <c@d.example>", &["c@d.example"]),
        ] {
            assert_eq!(read(value), Ok(expected.iter().map(|text| (*text).to_owned()).collect()), "{value}");
        }
    }

    #[test]
    fn v12_what_can_be_read_in_two_ways_is_a_fault() {
        for (value, fault) in [
            ("a@b.example c@d.example", Fault::Syntax),
            ("<a@b.example> c@d.example", Fault::Syntax),
            ("<a@b.example> <c@d.example>", Fault::Syntax),
            ("Brian Smith", Fault::Syntax),
            ("a@b.example, Brian <", Fault::Syntax),
            ("<>", Fault::Syntax),
            ("a@b.example;", Fault::Syntax),
            ("g: a@b.example", Fault::Syntax),
            ("g: h: a@b.example;;", Fault::Syntax),
            ("g: a@b.example; c@d.example", Fault::Syntax),
            (":;", Fault::Syntax),
            ("a@b.example (never closed", Fault::Syntax),
            ("\"never closed", Fault::Syntax),
            ("a\\@b.example", Fault::Syntax),
            ("a@b@c.example", Fault::Syntax),
            ("<@c.example:a@b.example>", Fault::Route),
            ("=?utf-8?q?a?=@b.example", Fault::Encoded),
            ("a@b.example\r\nRCPT TO:<c@d.example>", Fault::Control),
            ("a@b.example\0", Fault::Control),
            ("a,b,c,d,e,f", Fault::TooMany),
        ] {
            assert_eq!(read(value), Err(fault), "{value}");
        }
        let own = Domain::parse("example.net").unwrap();
        assert_eq!(recipients(b"J\xfcrgen <a@b.example>", &own, 5), Err(Fault::NotUtf8));
    }

    #[test]
    fn v12_signs_of_a_shell_are_letters_like_others() {
        for name in ["|/bin/sh", "$HOME", "`id`", "a&b", "-froot", "/etc/passwd"] {
            assert_eq!(read(name), Ok(vec![format!("{name}@example.net")]), "{name}");
        }
        assert_eq!(read("\"; rm -rf / #\"@b.example"), Ok(vec!["\"; rm -rf / #\"@b.example".to_owned()]));
        assert_eq!(read("$(id)@b.example"), Err(Fault::Syntax));
        assert_eq!(read("a;id@b.example"), Err(Fault::Syntax));
    }
}
