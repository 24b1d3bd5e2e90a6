//! From what a local program writes to a message that can be submitted (R103).
//!
//! Line ends become CRLF, the header section is mended as in every intake, blind recipients are taken out, missing fields
//! are put in, and names of this machine get its domain. The body is passed through.

use super::{Exit, Failure};
use mail::{Address, Domain, InternalDate};
use message::header::{Field, fields, unfold};
use message::repair::{HeaderRepair, Unwanted};
use message::scan::{HeaderFacts, Scanner};
use message::submission::{BLIND_FIELDS, Given, additions, recipients};
use std::io::{BufRead, ErrorKind, Read};
use std::sync::Arc;

/// Recipients of one message: ten times what a server takes in one transaction by default.
pub const RECIPIENTS_MAX: usize = 10_000;
/// Characters of a full name.
const FULL_NAME_CHARS_MAX: usize = 200;
/// Fields with addresses, in which a name that stands alone is completed (RFC 6409 §4.2).
const ADDRESS_FIELDS: [&str; 6] = ["From", "Sender", "Reply-To", "To", "Cc", "Return-Receipt-To"];
/// Whom `-t` sends to.
const RECIPIENT_FIELDS: [&str; 3] = ["To", "Cc", "Bcc"];
/// The same where the message was sent on by its receiver (RFC 5322 §3.6.6).
const RESENT_FIELDS: [&str; 3] = ["Resent-To", "Resent-Cc", "Resent-Bcc"];
/// Octets of text in an encoded word, of which three characters each come of one octet at most (RFC 2047 §2: 75).
const ENCODED_TEXT_OCTETS_MAX: usize = 60;

/// A message as a local program wrote it, its header section mended.
pub struct Draft {
    octets: Vec<u8>,
    /// The empty line after it included.
    header_octets: usize,
    facts: HeaderFacts,
}

/// What goes into fields that are missing.
pub struct Author<'a> {
    /// The address; `None` where there is no login name.
    pub address: Option<&'a Address>,
    /// The full name; may be empty.
    pub full_name: &'a str,
    /// Now.
    pub date: InternalDate,
    /// `left@right`, never given out before.
    pub message_id: &'a str,
}

/// A message to be submitted.
#[derive(Debug)]
pub struct Message {
    /// Its octets, lines ending in CRLF.
    pub octets: Vec<u8>,
    /// Whether it has others than ASCII.
    pub is_eight_bit: bool,
    /// Whether its header section has, and is UTF-8.
    pub has_utf8_header: bool,
}

impl Draft {
    /// Reads a message to its end: that of the input, or a line with nothing but a dot where `dot_ends`.
    pub fn read(input: impl BufRead, dot_ends: bool, octets_max: u64) -> Result<Draft, Failure> {
        let text = read_lines(input, dot_ends, octets_max)?;
        let mut repair = HeaderRepair::new(Arc::new(Unwanted::default()));
        let mut octets = Vec::with_capacity(text.len() + 2);
        repair.write(&text, &mut octets);
        repair.finish(&mut octets);
        let mut scanner = Scanner::new();
        scanner.write(&octets);
        scanner.close();
        let header_octets = scanner.header_section_octets() as usize;
        Ok(Draft { octets, header_octets, facts: scanner.facts().clone() })
    }

    fn header(&self) -> &[u8] {
        self.octets.get(..self.header_octets).unwrap_or(&self.octets)
    }

    /// The recipients that the message names.
    pub fn recipients(&self, own: &Domain) -> Result<Vec<Address>, Failure> {
        let is_one_of = |field: &Field<'_>, names: &[&str]| names.iter().any(|name| field.is(name));
        let is_resent = fields(self.header()).any(|field| is_one_of(&field, &RESENT_FIELDS));
        let names = if is_resent { &RESENT_FIELDS } else { &RECIPIENT_FIELDS };
        let mut found = Vec::new();
        for field in fields(self.header()).filter(|field| is_one_of(field, names)) {
            let named = recipients(&unfold(field.value), own, RECIPIENTS_MAX - found.len().min(RECIPIENTS_MAX));
            let named = named.map_err(|fault| {
                let name = String::from_utf8_lossy(field.name);
                Failure::new(Exit::DataError, format!("the {name} field {fault}; nothing was sent"))
            })?;
            found.extend(named);
        }
        Ok(found)
    }

    /// Puts in what is missing and takes out what nobody shall see.
    pub fn complete(self, author: &Author<'_>, own: &Domain) -> Result<Message, Failure> {
        let mut head = self.additions(author)?;
        let mut has_recipient = false;
        for field in fields(self.header()) {
            if BLIND_FIELDS.iter().any(|name| field.is(name)) {
                continue;
            }
            has_recipient |= ["To", "Cc"].iter().any(|name| field.is(name));
            match completed(&field, own) {
                Some(whole) => head.extend_from_slice(&whole),
                None => head.extend_from_slice(field.raw),
            }
        }
        if !head.ends_with(b"\n") {
            head.extend_from_slice(b"\r\n");
        }
        if !has_recipient {
            head.extend_from_slice(b"To: undisclosed-recipients:;\r\n");
        }
        let has_utf8_header = !head.is_ascii() && std::str::from_utf8(&head).is_ok();
        head.extend_from_slice(b"\r\n");
        let mut octets = self.octets;
        octets.splice(..self.header_octets, head);
        Ok(Message { is_eight_bit: !octets.is_ascii(), octets, has_utf8_header })
    }

    fn additions(&self, author: &Author<'_>) -> Result<Vec<u8>, Failure> {
        let mut facts = self.facts.clone();
        let mut own = String::new();
        let name = phrase(author.full_name);
        if let (0, false, Some(address)) = (facts.from_fields, name.is_empty(), author.address) {
            own = format!("From: {name} <{address}>\r\n");
            facts.from_fields = 1;
        }
        let given = Given { date: author.date, message_id: author.message_id, author: author.address };
        let added = additions(&facts, &given).map_err(|refusal| {
            Failure::new(Exit::NoUser, format!("{refusal}, and you have no login name here to put into one"))
        })?;
        Ok([added, own].concat().into_bytes())
    }
}

/// Lines with CRLF at the end of each. What is larger than allowed is not read further (R214).
fn read_lines(mut input: impl BufRead, dot_ends: bool, octets_max: u64) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    loop {
        let start = text.len();
        // With its line end, and one octet that is too many.
        let room = octets_max.saturating_sub(start as u64).saturating_add(3);
        let read = input.by_ref().take(room).read_until(b'\n', &mut text);
        if let Err(error) = read {
            if error.kind() == ErrorKind::Interrupted {
                text.truncate(start);
                continue;
            }
            return Err(Failure::new(Exit::InputOutput, format!("the message cannot be read: {error}")));
        }
        let line = text.get(start..).unwrap_or_default();
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        if line.is_empty() || (dot_ends && content == b".") {
            text.truncate(start);
            return Ok(text);
        }
        text.truncate(start + content.len());
        text.extend_from_slice(b"\r\n");
        if text.len() as u64 > octets_max {
            let cause = format!("the message is larger than {octets_max} octets; nothing was sent");
            return Err(Failure::new(Exit::DataError, cause));
        }
    }
}

/// The field with its name completed, if it holds nothing but a name of this machine, maybe with a comment, as cron writes
/// it: `From: root (Cron Daemon)`.
fn completed(field: &Field<'_>, own: &Domain) -> Option<Vec<u8>> {
    ADDRESS_FIELDS.iter().any(|name| field.is(name)).then_some(())?;
    let value = unfold(field.value);
    let end = value.iter().position(|b| matches!(b, b' ' | b'\t' | b'(')).unwrap_or(value.len());
    let (name, comment) = value.split_at_checked(end)?;
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(b);
    let is_comment = comment.trim_ascii().is_empty()
        || (comment.trim_ascii().starts_with(b"(") && comment.trim_ascii().ends_with(b")"));
    if name.is_empty() || !name.iter().all(is_name) || !is_comment {
        return None;
    }
    let domain = format!("@{own}");
    Some([field.name, b": ", name, domain.as_bytes(), comment, b"\r\n"].concat())
}

/// A full name as RFC 5322 §3.2.5 has it: words, a quoted string, or encoded words (RFC 2047 §5).
fn phrase(name: &str) -> String {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(FULL_NAME_CHARS_MAX).collect();
    let shown = shown.trim();
    if !shown.is_ascii() {
        return encoded_words(shown);
    }
    let is_atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/^_`{|}~ ".contains(&b);
    if shown.bytes().all(is_atom) {
        return shown.to_owned();
    }
    format!("\"{}\"", shown.replace('\\', "\\\\").replace('"', "\\\""))
}

/// RFC 2047 §4.2 with the letters that §5 allows in a phrase; no character is split over words.
fn encoded_words(text: &str) -> String {
    let mut words = vec![String::new()];
    for c in text.chars() {
        let mut buffer = [0; 4];
        let octets = c.encode_utf8(&mut buffer);
        let encoded: String = match c {
            ' ' => "_".to_owned(),
            c if c.is_ascii_alphanumeric() || "!*+-/".contains(c) => c.to_string(),
            _ => octets.bytes().map(|b| format!("={b:02X}")).collect(),
        };
        match words.last_mut() {
            Some(last) if last.len() + encoded.len() <= ENCODED_TEXT_OCTETS_MAX => last.push_str(&encoded),
            _ => words.push(encoded),
        }
    }
    let words: Vec<String> = words.into_iter().map(|word| format!("=?utf-8?q?{word}?=")).collect();
    words.join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::decode::decode_header;

    fn own() -> Domain {
        Domain::parse("example.net").unwrap()
    }

    fn draft(text: &str) -> Draft {
        Draft::read(text.as_bytes(), true, 10_000).unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    fn whole(text: &str, full_name: &str) -> String {
        let address = Address::parse("brian@example.net").unwrap();
        let date = InternalDate { unix_seconds: 1_000_000_000, zone_minutes: 0 };
        let author = Author { address: Some(&address), full_name, date, message_id: "1.2@example.net" };
        String::from_utf8(draft(text).complete(&author, &own()).unwrap().octets).unwrap()
    }

    const ADDED: &str = "Date: Sun, 9 Sep 2001 01:46:40 +0000\r\n";

    #[test]
    fn r103_what_is_missing_is_added() {
        assert_eq!(
            whole("Subject: t\n\nx\n", ""),
            format!(
                "{ADDED}From: brian@example.net\r\nMessage-ID: <1.2@example.net>\r\nSubject: t\r\n\
                 To: undisclosed-recipients:;\r\n\r\nx\r\n"
            )
        );
        assert_eq!(
            whole("To: a@b.example\n\n", "Brian (at) work"),
            format!(
                "{ADDED}Message-ID: <1.2@example.net>\r\nFrom: \"Brian (at) work\" <brian@example.net>\r\n\
                 To: a@b.example\r\n\r\n"
            )
        );
        let complete = "Date: x\r\nFrom: a@b.example\r\nMessage-ID: <y@z>\r\nCc: c@d.example\r\n\r\nbody\r\n";
        assert_eq!(whole(complete, "Brian"), complete);
    }

    #[test]
    fn r213_odd_drafts_become_messages() {
        let rest = |text: &str| whole(text, "").split_once("Message-ID: <1.2@example.net>\r\n").unwrap().1.to_owned();
        const NOBODY: &str = "To: undisclosed-recipients:;\r\n\r\n";
        assert_eq!(rest(""), NOBODY);
        assert_eq!(
            rest("no header at all\nTo: x@y.example\n"),
            format!("{NOBODY}no header at all\r\nTo: x@y.example\r\n")
        );
        assert_eq!(rest("Subject: t"), format!("Subject: t\r\n{NOBODY}"));
        assert_eq!(rest("Subject: t\nno field\n"), format!("Subject: t\r\n{NOBODY}no field\r\n"));
        assert_eq!(
            rest("From brian Mon Jan  1 00:00:00 2024\nSubject: t\n\nx"),
            format!("Subject: t\r\n{NOBODY}x\r\n")
        );
        assert_eq!(rest("\n.\nrest"), NOBODY, "a dot ends it");
        assert_eq!(rest("\n..\n. \n"), format!("{NOBODY}..\r\n. \r\n"));
        assert_eq!(rest("A: b\r\n\r\nc\r\n.\r\nd"), format!("A: b\r\n{NOBODY}c\r\n"));
        let dotted = Draft::read(&b"\n.\nrest"[..], false, 100).ok().unwrap();
        assert_eq!(dotted.octets, b"\r\n.\r\nrest\r\n");
    }

    #[test]
    fn r213_recipients_come_from_the_header_section_only() {
        let of = |text: &str| {
            let found = draft(text).recipients(&own()).map_err(|failure| failure.exit)?;
            Ok::<_, Exit>(found.iter().map(Address::to_string).collect::<Vec<_>>())
        };
        let text = "To: A <a@b.example>,\n root\nCC: g: c@d.example;\nbcc : e@f.example\nX-To: no@no.example\n\nTo: body@no.example\n";
        assert_eq!(of(text).unwrap(), ["a@b.example", "root@example.net", "c@d.example", "e@f.example"]);
        assert_eq!(
            of("To: a@b.example\nResent-To: c@d.example\nResent-Bcc: e@f.example\n\n").unwrap(),
            ["c@d.example", "e@f.example"]
        );
        assert_eq!(of("hello\nTo: a@b.example\n\n").unwrap(), [""; 0]);
        assert_eq!(of("To: a@b.example c@d.example\n\n"), Err(Exit::DataError));
        let sent = whole(text, "");
        assert!(!sent.to_lowercase().contains("bcc") && !sent.contains("e@f.example"), "{sent}");
    }

    #[test]
    fn names_of_this_machine_get_its_domain() {
        let of = |text: &str| whole(text, "").split_once("To: x@y.example\r\n").unwrap().1.to_owned();
        let header = "From: root (Cron Daemon)\nReply-To: root\nCc: Brian\n <brian>\n\n";
        assert_eq!(
            of(&format!("To: x@y.example\n{header}")),
            "From: root@example.net (Cron Daemon)\r\nReply-To: root@example.net\r\nCc: Brian\r\n <brian>\r\n\r\n"
        );
    }

    #[test]
    fn r214_what_is_too_large_is_not_read() {
        let read =
            |text: &str, max| Draft::read(text.as_bytes(), true, max).map(|_| ()).map_err(|failure| failure.exit);
        assert_eq!(read("\n12345678\n", 12), Ok(()));
        assert_eq!(read("\n123456789\n", 12), Err(Exit::DataError));
        assert_eq!(read("\n\n\n\n\n\n\n", 12), Err(Exit::DataError), "line ends count as they are sent");
        let endless = std::io::BufReader::new(std::io::repeat(b'x'));
        assert_eq!(Draft::read(endless, true, 1_000).err().unwrap().exit, Exit::DataError);
    }

    #[test]
    fn v13_full_names_are_words_quoted_or_encoded() {
        assert_eq!(phrase(" Cron Daemon "), "Cron Daemon");
        assert_eq!(phrase("a \"b\" \\"), "\"a \\\"b\\\" \\\\\"");
        assert_eq!(phrase("x\r\nBcc: y@z"), "\"xBcc: y@z\"");
        assert_eq!(phrase("\0"), "");
        let long = "Grüße (\u{1f600}) ".repeat(15);
        let encoded = phrase(&long);
        assert!(encoded.split("\r\n ").all(|word| word.len() <= 75 && word.is_ascii()), "{encoded}");
        assert_eq!(decode_header(&unfold(encoded.as_bytes())), long.trim());
    }

    #[test]
    fn octets_beyond_ascii_are_noticed() {
        let address = Address::parse("brian@example.net").unwrap();
        let date = InternalDate { unix_seconds: 0, zone_minutes: 0 };
        let kind = |text: &[u8]| {
            let author = Author { address: Some(&address), full_name: "", date, message_id: "1@example.net" };
            let message = Draft::read(text, true, 1_000).ok().unwrap().complete(&author, &own()).unwrap();
            (message.is_eight_bit, message.has_utf8_header)
        };
        assert_eq!(kind(b"Subject: x\n\nx\n"), (false, false));
        assert_eq!(kind("Subject: x\n\n\u{fc}\n".as_bytes()), (true, false));
        assert_eq!(kind("Subject: \u{fc}\n\nx\n".as_bytes()), (true, true));
        assert_eq!(kind(b"Subject: \xfc\n\nx\n"), (true, false));
    }
}
