//! The part for programs: message/delivery-status (RFC 3464 §2) and message/global-delivery-status (RFC 6533 §4.1).

use super::{Action, RecipientReport, Report, short};
use crate::trace::host_name;
use mail::InternalDate;
use mail::queue::REASON_OCTETS_MAX;
use mail::text::embedded_character;

/// Octets of ENVID and ORCPT. RFC 3461 §4.2 and §4.4 allow 500 and 100 characters.
const PARAMETER_OCTETS_MAX: usize = 500;
/// Columns of a folded line (RFC 5322 §2.1.1).
const LINE_OCTETS_MAX: usize = 78;
/// Octets of one word of a folded line; a longer one is cut in two, so that no line exceeds 998 (RFC 5322 §2.1.1).
pub(super) const WORD_OCTETS_MAX: usize = 900;

/// Whether the recipient's addresses can only be told in UTF-8.
pub(super) fn needs_utf8(recipient: &RecipientReport<'_>) -> bool {
    recipient.address.needs_utf8() || recipient.original.is_some_and(|original| !original.is_ascii())
}

/// Appends the part's body.
pub(super) fn write(report: &Report<'_>, is_global: bool, out: &mut Vec<u8>) {
    let mut fields = Fields { out, is_global: false };
    if let Some(id) = report.envelope_id {
        fields.push("Original-Envelope-Id", &short(id, PARAMETER_OCTETS_MAX));
    }
    fields.push("Reporting-MTA", &format!("dns; {}", host_name(report.host)));
    fields.date("Arrival-Date", Some(report.arrived));
    if let Some(id) = report.queue_id {
        fields.push("X-Pillarbox-Queue-ID", &id.to_string());
    }
    fields.is_global = is_global;
    for recipient in report.recipients {
        fields.out.extend_from_slice(b"\r\n");
        write_recipient(recipient, &mut fields);
    }
}

/// RFC 3464 §2.3, in the order given there.
fn write_recipient(recipient: &RecipientReport<'_>, fields: &mut Fields<'_>) {
    if let Some(original) = recipient.original {
        fields.push("Original-Recipient", &original_recipient(original, fields.is_global));
    }
    // RFC 6533 §3: an address beyond ASCII is of the type utf-8, any other is rfc822 (RFC 3461 §6.3).
    let kind = if recipient.address.needs_utf8() { "utf-8" } else { "rfc822" };
    fields.push("Final-Recipient", &format!("{kind}; {}", recipient.address));
    fields.push("Action", recipient.action.keyword());
    fields.push("Status", &recipient.status.to_string());
    let remote = recipient.remote.map(|remote| Remote::parse(remote).name);
    if let Some(name) = &remote {
        fields.push("Remote-MTA", &format!("dns; {name}"));
    }
    if let Some(text) = recipient.diagnostic {
        // RFC 3464 §2.3.6: the type smtp is for what a server answered.
        let kind = if recipient.is_reply { "smtp" } else { "x-pillarbox" };
        fields.fold("Diagnostic-Code", &format!("{kind}; {}", short(text, REASON_OCTETS_MAX)));
    }
    fields.date("Last-Attempt-Date", recipient.last_attempt);
    // RFC 3464 §2.3.9: of delayed ones only.
    fields.date("Will-Retry-Until", recipient.retry_until.filter(|_| recipient.action == Action::Delayed));
}

/// RFC 3464 §2.3.1: `type; address`, and `unknown` where there is no type. In a global report an address in the 7-bit form
/// of the type utf-8 is turned into UTF-8 (RFC 6533 §4.1).
fn original_recipient(original: &str, is_global: bool) -> String {
    let original = short(original, PARAMETER_OCTETS_MAX);
    let (kind, address) = original.split_once(';').unwrap_or(("unknown", &original));
    let (kind, address) = (kind.trim(), address.trim());
    let is_atom = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let kind = if is_atom { kind } else { "unknown" };
    if is_global && kind.eq_ignore_ascii_case("utf-8") {
        return format!("{kind}; {}", short(&unitext_decoded(address), PARAMETER_OCTETS_MAX));
    }
    format!("{kind}; {address}")
}

/// Undoes `\x{HEXPOINT}` (RFC 6533 §3). What is none stays as it is.
fn unitext_decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let (character, after) = rest.get(before.len()..).and_then(embedded_character).unwrap_or(('\\', after));
        out.push(character);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A server as `host[address]:port`, taken apart for reading. What is not of that form is all name.
pub(super) struct Remote {
    /// Its name, or its address in brackets; harmless.
    pub name: String,
    /// Its address, where the name is another thing; harmless.
    pub address: Option<String>,
}

impl Remote {
    pub(super) fn parse(text: &str) -> Remote {
        let (name, rest) = text.split_once('[').unwrap_or((text, ""));
        let address = rest.split_once(']').map(|(address, _)| host_name(address).into_owned());
        match (name.trim(), address) {
            ("", Some(address)) => Remote { name: format!("[{address}]"), address: None },
            (name, address) => Remote { name: host_name(name).into_owned(), address },
        }
    }
}

/// Fields as they are written.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    /// Whether characters beyond ASCII may stay. Elsewhere RFC 3464 §2.1 demands 7bit, and they become question marks.
    is_global: bool,
}

impl Fields<'_> {
    /// A field on one line. The value is free of control characters and bounded.
    fn push(&mut self, name: &str, value: &str) {
        let value = self.legible(value);
        self.out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }

    /// A field of words, folded where they are parted.
    fn fold(&mut self, name: &str, value: &str) {
        let value = self.legible(value);
        let mut line = format!("{name}:");
        for word in words(&value) {
            if line.len() + 1 + word.len() > LINE_OCTETS_MAX {
                self.out.extend_from_slice(line.as_bytes());
                self.out.extend_from_slice(b"\r\n");
                line.clear();
            }
            line.push(' ');
            line.push_str(word);
        }
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn date(&mut self, name: &str, date: Option<InternalDate>) {
        if let Some(date) = date {
            self.push(name, &date.civil().to_rfc5322());
        }
    }

    fn legible(&self, text: &str) -> String {
        text.chars().map(|c| if self.is_global || c.is_ascii() { c } else { '?' }).collect()
    }
}

/// The words of a text, none longer than [`WORD_OCTETS_MAX`].
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(|word| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let (piece, after) = rest.split_at_checked(rest.floor_char_boundary(WORD_OCTETS_MAX))?;
            rest = after;
            (!piece.is_empty()).then_some(piece)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6533_addresses_are_turned_into_utf8_where_that_is_allowed() {
        for (original, is_global, expected) in [
            ("rfc822;a@b", false, "rfc822; a@b"),
            ("RFC822; a b@c ", false, "RFC822; a b@c"),
            ("utf-8;\\x{433}\\x{440}@b", false, "utf-8; \\x{433}\\x{440}@b"),
            ("utf-8;\\x{433}\\x{440}@b", true, "utf-8; \u{433}\u{440}@b"),
            ("utf-8;\\x{D800}\\x{x}\\x{20}\\x{1F600}\\x{", true, "utf-8; \\x{D800}\\x{x} \u{1f600}\\x{"),
            ("utf-8;a\\x{0D}\\x{0A}X: y", true, "utf-8; a  X: y"),
            ("a@b", false, "unknown; a@b"),
            ("x y;a@b", false, "unknown; a@b"),
            (";a@b", false, "unknown; a@b"),
            ("rfc822;a\r\nAction: delivered", false, "rfc822; a  Action: delivered"),
        ] {
            assert_eq!(original_recipient(original, is_global), expected);
        }
    }

    #[test]
    fn servers_are_taken_apart() {
        let of = |text: &str| {
            let remote = Remote::parse(text);
            (remote.name, remote.address)
        };
        assert_eq!(of("mx.example.org[192.0.2.1]:25"), ("mx.example.org".to_owned(), Some("192.0.2.1".to_owned())));
        assert_eq!(of("[2001:db8::1]:25"), ("[2001:db8::1]".to_owned(), None));
        assert_eq!(of("mx.example.org"), ("mx.example.org".to_owned(), None));
        assert_eq!(of("evil\r\nX: y (z"), ("evil??X:?y??z".to_owned(), None));
        assert_eq!(of(""), ("unknown".to_owned(), None));
    }

    #[test]
    fn long_words_are_cut() {
        let text = format!("a  {} b", "\u{fc}".repeat(1_000));
        let words: Vec<&str> = words(&text).collect();
        assert_eq!(words.iter().map(|word| word.len()).collect::<Vec<_>>(), [1, 900, 900, 200, 1]);
    }
}
