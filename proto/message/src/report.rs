//! Delivery status notifications: the message that tells a sender what became of a message (RFC 3461, RFC 3464, RFC 6522,
//! RFC 6533; R98, R212).
//!
//! A [`Report`] is a value; [`Report::begin`] writes everything up to the returned message, whose octets then pass through
//! [`Returning`] piece by piece, so that no message is in memory as a whole. Before that the same octets have passed
//! through a [`Survey`]: how the returned part has to be labelled, and which boundary cannot be mistaken, is known only
//! when all of it was seen. The envelope of the report has the null reverse-path and NOTIFY=NEVER (RFC 3461 §6.1); whom
//! not to send any report, the null reverse-path and who asked for none, the caller knows.
//!
//! Everything that a peer said goes in as one line without control characters, bounded (V13, V14).

mod status;
mod survey;
mod words;

pub use survey::{Original, Survey};
pub use words::RECIPIENTS_IN_WORDS_MAX;

use crate::trace::host_name;
use mail::text::one_line;
use mail::{Address, DsnReturn, EnhancedStatus, InternalDate, QueueId};

/// Octets of a message that is returned whole. RFC 3461 §6.2 leaves the limit to us; of a longer one only the header
/// section is returned, even where RET=FULL asked for more: the sender has it, and a report that is sent to a forged
/// address should not be large.
pub const RETURNED_OCTETS_MAX: u64 = 128 * 1024;
/// Octets of a header section that are returned; a longer one is cut at the end of a line.
pub const RETURNED_HEADER_OCTETS_MAX: u64 = 64 * 1024;
/// Octets of the boundary that the caller gives. With what we add to it, it stays below the 70 of RFC 2046 §5.1.1.
pub const BOUNDARY_OCTETS_MAX: usize = 60;

/// Octets of the report's own message-id, so that its line stays short.
const MESSAGE_ID_OCTETS_MAX: usize = 250;

/// What is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The message failed for all recipients of the report.
    Failure,
    /// It is late, and goes on being tried.
    Delay,
    /// It was delivered, relayed or expanded, and the sender had asked to be told.
    Success,
}

/// What became of one recipient (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Given up.
    Failed,
    /// Still tried.
    Delayed,
    /// Put into the mailbox, or taken by a server that reports by itself.
    Delivered,
    /// Taken by a server that will not report.
    Relayed,
    /// Sent on to several others.
    Expanded,
}

impl Action {
    fn keyword(self) -> &'static str {
        match self {
            Action::Failed => "failed",
            Action::Delayed => "delayed",
            Action::Delivered => "delivered",
            Action::Relayed => "relayed",
            Action::Expanded => "expanded",
        }
    }
}

/// One recipient of a report.
#[derive(Debug, Clone, Copy)]
pub struct RecipientReport<'a> {
    /// The recipient of the envelope.
    pub address: &'a Address,
    /// ORCPT, `type;address` with xtext undone.
    pub original: Option<&'a str>,
    /// What became of it.
    pub action: Action,
    /// The status.
    pub status: EnhancedStatus,
    /// The server that answered, or that was tried, as `host[address]:port`.
    pub remote: Option<&'a str>,
    /// The server's reply with its code, or our own finding.
    pub diagnostic: Option<&'a str>,
    /// Whether `diagnostic` is a reply of that server.
    pub is_reply: bool,
    /// When it was tried last.
    pub last_attempt: Option<InternalDate>,
    /// How long it will be tried. Only of a delayed one.
    pub retry_until: Option<InternalDate>,
}

/// A report about one message.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What is reported.
    pub kind: Kind,
    /// Our own name.
    pub host: &'a str,
    /// Whom to ask for help: an address of ours, as text.
    pub postmaster: &'a str,
    /// Who is told: the reverse-path of the message (RFC 3464 §2).
    pub to: &'a Address,
    /// The report's own message-id, `left@right` without brackets, of printable ASCII.
    pub message_id: &'a str,
    /// What the boundary begins with: letters, digits, `.`, `_`, `-`; other signs are left out. It need not be secret.
    pub boundary: &'a str,
    /// When the report is made.
    pub date: InternalDate,
    /// ENVID, with xtext undone.
    pub envelope_id: Option<&'a str>,
    /// When the message came in.
    pub arrived: InternalDate,
    /// The message's name in our queue and log.
    pub queue_id: Option<QueueId>,
    /// Whom it is about. At least one (RFC 3464 §2.1).
    pub recipients: &'a [RecipientReport<'a>],
}

/// What is returned of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Nothing,
    Headers,
    Whole,
}

/// Takes the octets of the returned message and ends the report.
#[derive(Debug)]
pub struct Returning {
    boundary: String,
    left: u64,
}

impl Report<'_> {
    /// Looks at the original message before it is returned.
    pub fn survey(&self) -> Survey {
        Survey::new(boundary_stem(self.boundary))
    }

    /// Writes the report up to the returned message. `original` is what a survey made by [`Report::survey`] found; without
    /// one nothing is returned. `wanted` is RET; without it the whole message is (RFC 6522 §3), for a failure only (RFC 3461
    /// §6.2).
    pub fn begin(&self, original: Option<&Original>, wanted: Option<DsnReturn>, out: &mut Vec<u8>) -> Returning {
        let nothing = self.survey().finish();
        let original = original.unwrap_or(&nothing);
        let part = self.part(original, wanted);
        let (label, is_returned_8bit, left) = label(original, part);
        let words = words::text(self);
        let is_global = self.recipients.iter().any(status::needs_utf8);
        let is_8bit = is_global || is_returned_8bit || !words.is_ascii() || self.to.needs_utf8();
        let boundary = original.boundary();

        self.header(&boundary, is_8bit, out);
        let charset = if words.is_ascii() { "us-ascii" } else { "utf-8" };
        begin_part(&boundary, &format!("text/plain; charset={charset}"), !words.is_ascii(), "Notification", out);
        out.extend_from_slice(words.as_bytes());
        let status = if is_global { "message/global-delivery-status" } else { "message/delivery-status" };
        begin_part(&boundary, status, is_global, "Delivery report", out);
        status::write(self, is_global, out);
        if part != Part::Nothing {
            let description = if part == Part::Whole { "Undelivered message" } else { "Header section of the message" };
            begin_part(&boundary, label, is_returned_8bit, description, out);
        }
        Returning { boundary, left }
    }

    /// The whole report about a message that is in memory.
    pub fn whole(&self, original: &[u8], wanted: Option<DsnReturn>) -> Vec<u8> {
        let mut survey = self.survey();
        survey.write(original);
        let mut out = Vec::new();
        let mut returning = self.begin(Some(&survey.finish()), wanted, &mut out);
        returning.write(original, &mut out);
        returning.finish(&mut out);
        out
    }

    /// RFC 3461 §6.2: of a message that did not fail only the header section.
    fn part(&self, original: &Original, wanted: Option<DsnReturn>) -> Part {
        let wants_whole = self.kind == Kind::Failure && wanted != Some(DsnReturn::Headers);
        if original.octets == 0 || original.is_barred() {
            Part::Nothing
        } else if wants_whole && original.octets <= RETURNED_OCTETS_MAX {
            Part::Whole
        } else if original.returned_header_octets > 0 {
            Part::Headers
        } else {
            Part::Nothing
        }
    }

    /// The report's own header section.
    fn header(&self, boundary: &str, eight_bit: bool, out: &mut Vec<u8>) {
        let subject = match self.kind {
            Kind::Failure => "Undelivered: your message was returned",
            Kind::Delay => "Delayed: your message is still being tried",
            Kind::Success => "Delivered: the confirmation you asked for",
        };
        let is_fit = |c: &char| c.is_ascii_graphic() && *c != '>';
        let message_id: String = self.message_id.chars().filter(is_fit).take(MESSAGE_ID_OCTETS_MAX).collect();
        // RFC 3834 §5.2: a report is auto-replied, not auto-generated. RFC 6522 §3: the report-type.
        let fields = format!(
            "Date: {}\r\nFrom: Mail Delivery System <MAILER-DAEMON@{}>\r\nTo: {}\r\nSubject: {subject}\r\n\
             Message-ID: <{message_id}>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n",
            self.date.civil().to_rfc5322(),
            host_name(self.host),
            self.to,
        );
        out.extend_from_slice(fields.as_bytes());
        // RFC 2045 §6.4: a multipart is marked by the most demanding of its parts.
        if eight_bit {
            out.extend_from_slice(b"Content-Transfer-Encoding: 8bit\r\n");
        }
        out.extend_from_slice(b"\r\nThis is a report in MIME format (RFC 3464).\r\n");
    }
}

impl Returning {
    /// How many octets of the message are still to come, from its start. More are passed over.
    pub fn wants(&self) -> u64 {
        self.left
    }

    /// Takes the next octets of the original message.
    pub fn write(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(octets.len());
        out.extend_from_slice(octets.get(..length).unwrap_or_default());
        self.left -= length as u64;
    }

    /// Ends the report.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("\r\n--{}--\r\n", self.boundary).as_bytes());
    }
}

/// The media type of the returned part, whether it is marked 8bit, and how many octets of the original it has.
/// RFC 6533 §4.2 and §4.3: a header section with UTF-8 needs the types of RFC 6532. What is beyond ASCII and no UTF-8 has
/// no type of its own, and is marked by its octets alone.
fn label(original: &Original, part: Part) -> (&'static str, bool, u64) {
    let is_global = !original.is_header_ascii && original.is_header_utf8;
    match part {
        Part::Nothing => ("", false, 0),
        Part::Headers => {
            let label = if is_global { "message/global-headers" } else { "text/rfc822-headers" };
            (label, !original.is_header_ascii, original.returned_header_octets)
        }
        Part::Whole => {
            let label = if is_global { "message/global" } else { "message/rfc822" };
            (label, !original.is_header_ascii || !original.is_body_ascii, original.octets)
        }
    }
}

/// Ends what stands before with the delimiter (RFC 2046 §5.1.1: its line end belongs to it), and begins a part.
fn begin_part(boundary: &str, media_type: &str, eight_bit: bool, description: &str, out: &mut Vec<u8>) {
    let encoding = if eight_bit { "Content-Transfer-Encoding: 8bit\r\n" } else { "" };
    let text = format!(
        "\r\n--{boundary}\r\nContent-Description: {description}\r\nContent-Type: {media_type}\r\n{encoding}\r\n"
    );
    out.extend_from_slice(text.as_bytes());
}

fn boundary_stem(text: &str) -> String {
    let is_fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().filter(is_fit).take(BOUNDARY_OCTETS_MAX).collect()
}

/// A text of a peer, bounded: one line without control characters and without white space at its ends.
fn short(text: &str, octets_max: usize) -> String {
    let mut line = one_line(text);
    line.truncate(line.floor_char_boundary(octets_max));
    line.trim().to_owned()
}

#[cfg(test)]
mod tests;
