//! Reads a list of mailboxes strictly (RFC 5322 §3.4): what one reader could take for another address than the next is
//! refused, and obsolete forms (RFC 5322 §4.4) with it.

use crate::decode::decode_header;
use crate::header::{Cursor, trim};
use mail::{Address, AddressError};
use std::fmt;

/// Mailboxes of one field.
pub const AUTHORS_MAX: usize = 50;
/// Octets of a From: or Sender: field that is read.
pub const AUTHOR_FIELD_OCTETS_MAX: usize = 8 * 1024;

/// Why a field does not say plainly whom a message is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Names nobody.
    Empty,
    /// Longer than [`AUTHOR_FIELD_OCTETS_MAX`].
    TooLong,
    /// More mailboxes than it may have.
    TooMany,
    /// A control character such as NUL, plain or in an encoded word.
    Control,
    /// Octets beyond ASCII that are no UTF-8 (RFC 6532 §3.1).
    NotUtf8,
    /// A group. RFC 6854 §1 allows groups in From: (not): such a message has no author to hold to account.
    Group,
    /// A route before the address, which some readers take for the address.
    Route,
    /// An encoded word in the place of an address (RFC 2047 §5 forbids it); some readers decode it.
    Encoded,
    /// Angle brackets in the display name, once quotes and encoded words are undone: readers have taken what is between
    /// them for the address.
    HiddenAddress,
    /// An address without a domain.
    NoDomain,
    /// Not of the grammar.
    Syntax,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Empty => "is empty",
            Fault::TooLong => "is too long",
            Fault::TooMany => "names too many mailboxes",
            Fault::Control => "has a control character",
            Fault::NotUtf8 => "has characters that are neither encoded nor UTF-8",
            Fault::Group => "names a group instead of a mailbox",
            Fault::Route => "has an address with a route",
            Fault::Encoded => "has an encoded word where an address belongs",
            Fault::HiddenAddress => "has angle brackets in a display name",
            Fault::NoDomain => "has an address without a domain",
            Fault::Syntax => "cannot be read; it should look like: Name <name@example.org>",
        })
    }
}

/// The mailboxes of an unfolded value, at least one.
pub(super) fn mailboxes(value: &[u8]) -> Result<Vec<Address>, Fault> {
    if value.len() > AUTHOR_FIELD_OCTETS_MAX {
        return Err(Fault::TooLong);
    }
    let mut cursor = Cursor::new(checked(value)?);
    skip_comments(&mut cursor)?;
    if cursor.peek().is_none() {
        return Err(Fault::Empty);
    }
    let mut found = Vec::new();
    loop {
        if found.len() >= AUTHORS_MAX {
            return Err(Fault::TooMany);
        }
        found.push(mailbox(&mut cursor)?);
        match cursor.bump() {
            None => return Ok(found),
            Some(b',') => {}
            Some(b':' | b';') => return Err(Fault::Group),
            Some(_) => return Err(Fault::Syntax),
        }
    }
}

/// A value that is UTF-8 without control characters: what comes of it may go into a command of SMTP.
pub(super) fn checked(value: &[u8]) -> Result<&[u8], Fault> {
    let text = std::str::from_utf8(value).map_err(|_| Fault::NotUtf8)?;
    if text.chars().any(|c| c.is_control() && c != '\t') { Err(Fault::Control) } else { Ok(value) }
}

/// One mailbox: words and an address in angle brackets, or a bare address.
fn mailbox(cursor: &mut Cursor<'_>) -> Result<Address, Fault> {
    skip_comments(cursor)?;
    let start = cursor.rest();
    let mut words = Vec::new();
    loop {
        match cursor.peek() {
            Some(b'<') => {
                let name = start.get(..start.len() - cursor.rest().len()).unwrap_or_default();
                check_name(name, &words)?;
                let address = in_brackets(cursor)?;
                skip_comments(cursor)?;
                return Ok(address);
            }
            Some(b':') => return Err(Fault::Group),
            None | Some(b',' | b';') => break,
            Some(b'>' | b')' | b'\\') => return Err(Fault::Syntax),
            Some(_) => words.push(word(cursor)?),
        }
        skip_comments(cursor)?;
    }
    match words[..] {
        [only] => address(only),
        [] => Err(Fault::Syntax),
        // Words only: a name without its address.
        _ if words.iter().all(|word| !word.contains(&b'@')) => Err(Fault::NoDomain),
        _ => Err(Fault::Syntax),
    }
}

/// A run of quoted strings and of octets that mean nothing by themselves.
pub(super) fn word<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Fault> {
    let start = cursor.rest();
    loop {
        match cursor.peek() {
            Some(b'"') => quoted_string(cursor)?,
            Some(octet) if is_word_octet(octet) => drop(cursor.take_while(is_word_octet)),
            _ => break,
        }
    }
    Ok(start.get(..start.len() - cursor.rest().len()).unwrap_or_default())
}

fn is_word_octet(octet: u8) -> bool {
    !matches!(octet, b' ' | b'\t' | b'"' | b'(' | b')' | b'<' | b'>' | b',' | b':' | b';' | b'\\')
}

/// Passes over a quoted string, which has to end.
fn quoted_string(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    cursor.bump();
    loop {
        match cursor.bump() {
            Some(b'"') => return Ok(()),
            Some(b'\\') => drop(cursor.bump()),
            Some(_) => {}
            None => return Err(Fault::Syntax),
        }
    }
}

/// Passes over white space and comments, which have to end.
pub(super) fn skip_comments(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    loop {
        cursor.skip_space();
        if cursor.peek() != Some(b'(') {
            return Ok(());
        }
        let mut depth = 0_usize;
        loop {
            match cursor.bump().ok_or(Fault::Syntax)? {
                b'(' => depth += 1,
                b')' if depth == 1 => break,
                b')' => depth -= 1,
                b'\\' => drop(cursor.bump()),
                _ => {}
            }
        }
    }
}

/// RFC 5322 §3.2.5: a display name is atoms and quoted strings. Dots are borne, as in `Joe Q. Public` (RFC 5322 §4.1), and
/// square brackets, but no at sign outside of quotes: it makes an address of the name.
fn check_name(name: &[u8], words: &[&[u8]]) -> Result<(), Fault> {
    for word in words {
        let mut cursor = Cursor::new(word);
        while let Some(octet) = cursor.peek() {
            match octet {
                b'"' => quoted_string(&mut cursor)?,
                b'@' => return Err(Fault::Syntax),
                _ => drop(cursor.bump()),
            }
        }
    }
    let shown = decode_header(name);
    if shown.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Fault::Control);
    }
    if shown.contains(['<', '>']) { Err(Fault::HiddenAddress) } else { Ok(()) }
}

/// RFC 5322 §3.4 angle-addr, without white space and comments inside.
fn in_brackets(cursor: &mut Cursor<'_>) -> Result<Address, Fault> {
    cursor.bump();
    if cursor.peek() == Some(b'@') {
        return Err(Fault::Route);
    }
    let text = word(cursor)?;
    if !cursor.eat(b'>') {
        return Err(Fault::Syntax);
    }
    address(text)
}

pub(super) fn address(text: &[u8]) -> Result<Address, Fault> {
    let text = std::str::from_utf8(trim(text)).map_err(|_| Fault::NotUtf8)?;
    match Address::parse(text) {
        Ok(_) if text.contains("=?") => Err(Fault::Encoded),
        Ok(address) => Ok(address),
        Err(AddressError::NoDomain) if !text.is_empty() => Err(Fault::NoDomain),
        Err(_) => Err(Fault::Syntax),
    }
}
