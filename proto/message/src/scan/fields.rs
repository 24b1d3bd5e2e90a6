//! The header fields that go into a digest, and what becomes of them.

use super::{ADDRESSES_PER_FIELD_MAX, DELIVERED_TO_MAX, FIELD_OCTETS_MAX};
use crate::digest::{Content, Envelope, EnvelopeAddress, Parameters, Part};
use crate::{header, mime};

/// What the header section of a message says of it, for reception.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderFacts {
    /// Whether the header section has been seen to its end.
    pub is_complete: bool,
    /// Octets of the header section, the empty line that ends it included.
    pub header_octets: u64,
    /// Number of fields.
    pub fields: u32,
    /// Number of Received: fields: the hops so far (RFC 5321 §6.3).
    pub received: u32,
    /// Number of Date: fields.
    pub date_fields: u32,
    /// Number of From: fields (RFC 5322 §3.6: exactly one; V40).
    pub from_fields: u32,
    /// Number of Sender: fields.
    pub sender_fields: u32,
    /// Number of Reply-To: fields.
    pub reply_to_fields: u32,
    /// Number of To: fields.
    pub to_fields: u32,
    /// Number of Cc: fields.
    pub cc_fields: u32,
    /// Number of Bcc: fields.
    pub bcc_fields: u32,
    /// Number of Subject: fields.
    pub subject_fields: u32,
    /// Number of Message-ID: fields.
    pub message_id_fields: u32,
    /// Values of the Delivered-To: fields, at most [`DELIVERED_TO_MAX`].
    pub delivered_to: Vec<Vec<u8>>,
    /// Value of the first From: field, unfolded, cut to [`FIELD_OCTETS_MAX`].
    pub from: Option<Vec<u8>>,
    /// Value of the first Sender: field, unfolded, cut to [`FIELD_OCTETS_MAX`].
    pub sender: Option<Vec<u8>>,
    /// Whether a From: field has white space before its colon (RFC 5322 §4.5.2: an obsolete form that is not to be written).
    pub from_is_spaced: bool,
    /// Whether a `TLS-Required: No` field asks that what recipients' domains publish of TLS be ignored (RFC 8689 §3).
    pub tls_optional: bool,
    /// Whether the header section has octets beyond ASCII (RFC 6532: needs SMTPUTF8).
    pub eight_bit: bool,
}

/// Octets kept of one value of Delivered-To: longer ones are no address of ours (RFC 5321 §4.5.3.1).
const DELIVERED_TO_OCTETS_MAX: usize = 512;

impl HeaderFacts {
    /// Counts a field by its name, and notes whether white space stands before its colon.
    pub(super) fn count(&mut self, kind: Option<FieldKind>, is_spaced: bool) {
        self.fields = self.fields.saturating_add(1);
        self.from_is_spaced |= is_spaced && kind == Some(FieldKind::From);
        let counter = match kind {
            Some(FieldKind::Received) => &mut self.received,
            Some(FieldKind::Date) => &mut self.date_fields,
            Some(FieldKind::From) => &mut self.from_fields,
            Some(FieldKind::Sender) => &mut self.sender_fields,
            Some(FieldKind::ReplyTo) => &mut self.reply_to_fields,
            Some(FieldKind::To) => &mut self.to_fields,
            Some(FieldKind::Cc) => &mut self.cc_fields,
            Some(FieldKind::Bcc) => &mut self.bcc_fields,
            Some(FieldKind::Subject) => &mut self.subject_fields,
            Some(FieldKind::MessageId) => &mut self.message_id_fields,
            _ => return,
        };
        *counter = counter.saturating_add(1);
    }

    /// Notes a field's value, which is at hand later than its name.
    pub(super) fn note(&mut self, kind: FieldKind, value: &[u8]) {
        let has_room = self.delivered_to.len() < DELIVERED_TO_MAX;
        if kind == FieldKind::DeliveredTo && has_room && value.len() <= DELIVERED_TO_OCTETS_MAX {
            self.delivered_to.push(value.to_vec());
        }
        if kind == FieldKind::TlsRequired {
            self.tls_optional |= value.eq_ignore_ascii_case(b"no");
        }
        let first = match kind {
            FieldKind::From => &mut self.from,
            FieldKind::Sender => &mut self.sender,
            _ => return,
        };
        first.get_or_insert_with(|| value.to_vec());
    }
}

/// The fields that mean something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldKind {
    Date,
    Subject,
    From,
    Sender,
    ReplyTo,
    To,
    Cc,
    Bcc,
    InReplyTo,
    MessageId,
    Received,
    DeliveredTo,
    TlsRequired,
    Type,
    Encoding,
    Id,
    Description,
    Md5,
    Disposition,
    Language,
    Location,
}

impl FieldKind {
    pub(super) fn of(name: &[u8]) -> Option<FieldKind> {
        let mut lower = [0_u8; 32];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        Some(match &*lower {
            b"date" => FieldKind::Date,
            b"subject" => FieldKind::Subject,
            b"from" => FieldKind::From,
            b"sender" => FieldKind::Sender,
            b"reply-to" => FieldKind::ReplyTo,
            b"to" => FieldKind::To,
            b"cc" => FieldKind::Cc,
            b"bcc" => FieldKind::Bcc,
            b"in-reply-to" => FieldKind::InReplyTo,
            b"message-id" => FieldKind::MessageId,
            b"received" => FieldKind::Received,
            b"delivered-to" => FieldKind::DeliveredTo,
            b"tls-required" => FieldKind::TlsRequired,
            b"content-type" => FieldKind::Type,
            b"content-transfer-encoding" => FieldKind::Encoding,
            b"content-id" => FieldKind::Id,
            b"content-description" => FieldKind::Description,
            b"content-md5" => FieldKind::Md5,
            b"content-disposition" => FieldKind::Disposition,
            b"content-language" => FieldKind::Language,
            b"content-location" => FieldKind::Location,
            _ => return None,
        })
    }

    fn is_mime(self) -> bool {
        matches!(
            self,
            FieldKind::Type
                | FieldKind::Encoding
                | FieldKind::Id
                | FieldKind::Description
                | FieldKind::Md5
                | FieldKind::Disposition
                | FieldKind::Language
                | FieldKind::Location
        )
    }
}

/// Memory left for the values of one digest.
#[derive(Debug)]
pub(super) struct Budget {
    octets_left: usize,
}

/// What a kept value costs beside its own octets.
const VALUE_OVERHEAD_OCTETS: usize = 32;

impl Budget {
    pub(super) fn new(octets: usize) -> Budget {
        Budget { octets_left: octets }
    }

    /// Takes the memory for values of so many octets together; whether there was enough.
    fn pay(&mut self, values: usize, octets: usize) -> bool {
        let price = octets.saturating_add(values.saturating_mul(VALUE_OVERHEAD_OCTETS));
        match self.octets_left.checked_sub(price) {
            Some(left) => {
                self.octets_left = left;
                true
            }
            None => false,
        }
    }
}

/// What the header fields of a part come to.
#[derive(Debug)]
pub(super) struct PartFields {
    /// For the top part of a message: the message's envelope.
    pub envelope: Option<Envelope>,
    pub part: Part,
    /// A Content-Type: field was there, even if nothing could be made of it.
    has_type: bool,
}

impl PartFields {
    pub(super) fn new(start: u64, is_message: bool) -> PartFields {
        let part = Part {
            media_type: Vec::new(),
            subtype: Vec::new(),
            parameters: Vec::new(),
            id: None,
            description: None,
            encoding: Vec::new(),
            md5: None,
            disposition: None,
            language: Vec::new(),
            location: None,
            header: start..start,
            body: start..start,
            lines: 0,
            content: Content::Leaf,
        };
        PartFields { envelope: is_message.then(Envelope::default), part, has_type: false }
    }

    /// Whether a field's value is worth collecting.
    pub(super) fn wants(&self, kind: FieldKind) -> bool {
        match kind {
            FieldKind::Received => false,
            kind => kind.is_mime() || self.envelope.is_some(),
        }
    }

    /// Takes the unfolded value of a field. Of fields that may occur once, the first counts; addresses add up.
    pub(super) fn store(&mut self, kind: FieldKind, value: &[u8], budget: &mut Budget) {
        if kind.is_mime() {
            self.store_mime(kind, value, budget);
        } else if let Some(envelope) = &mut self.envelope {
            store_envelope(envelope, kind, value, budget);
        }
    }

    fn store_mime(&mut self, kind: FieldKind, value: &[u8], budget: &mut Budget) {
        let part = &mut self.part;
        match kind {
            FieldKind::Type if !self.has_type => {
                self.has_type = true;
                if let Some((media_type, subtype, parameters)) = mime::content_type(value)
                    && budget.pay(2, media_type.len() + subtype.len())
                {
                    (part.media_type, part.subtype) = (media_type, subtype);
                    part.parameters = paid_parameters(parameters, budget);
                }
            }
            FieldKind::Encoding if part.encoding.is_empty() => {
                let encoding = mime::transfer_encoding(value).unwrap_or_default();
                if budget.pay(1, encoding.len()) {
                    part.encoding = encoding;
                }
            }
            FieldKind::Disposition if part.disposition.is_none() => {
                if let Some((kind, parameters)) = mime::disposition(value)
                    && budget.pay(1, kind.len())
                {
                    part.disposition = Some((kind, paid_parameters(parameters, budget)));
                }
            }
            FieldKind::Language if part.language.is_empty() => {
                let tags = mime::languages(value);
                if budget.pay(tags.len(), tags.iter().map(Vec::len).sum()) {
                    part.language = tags;
                }
            }
            FieldKind::Id => store_text(&mut part.id, value, budget),
            FieldKind::Description => store_text(&mut part.description, value, budget),
            FieldKind::Md5 => store_text(&mut part.md5, value, budget),
            FieldKind::Location => store_text(&mut part.location, value, budget),
            _ => {}
        }
    }

    /// Puts defaults where the header section said nothing (RFC 2045 §5.2 and §6.1, RFC 2046 §5.1.5). An unreadable
    /// Content-Type counts as text/plain (RFC 2045 §5.2).
    pub(super) fn settle_type(&mut self, is_in_digest: bool) {
        let part = &mut self.part;
        if part.media_type.is_empty() && is_in_digest && !self.has_type {
            (part.media_type, part.subtype) = (b"message".to_vec(), b"rfc822".to_vec());
        } else if part.media_type.is_empty() {
            (part.media_type, part.subtype) = (b"text".to_vec(), b"plain".to_vec());
            part.parameters = vec![(b"charset".to_vec(), b"us-ascii".to_vec())];
        }
        if part.encoding.is_empty() {
            part.encoding = b"7bit".to_vec();
        }
    }
}

fn store_text(place: &mut Option<Vec<u8>>, value: &[u8], budget: &mut Budget) {
    if place.is_none() && budget.pay(1, value.len()) {
        *place = Some(value.to_vec());
    }
}

fn paid_parameters(mut parameters: Parameters, budget: &mut Budget) -> Parameters {
    let paid = parameters.iter().take_while(|(name, value)| budget.pay(2, name.len() + value.len())).count();
    parameters.truncate(paid);
    parameters
}

fn store_envelope(envelope: &mut Envelope, kind: FieldKind, value: &[u8], budget: &mut Budget) {
    match kind {
        FieldKind::Date => store_text(&mut envelope.date, value, budget),
        FieldKind::Subject => store_text(&mut envelope.subject, value, budget),
        FieldKind::InReplyTo => store_text(&mut envelope.in_reply_to, value, budget),
        FieldKind::MessageId => store_text(&mut envelope.message_id, value, budget),
        FieldKind::From => store_addresses(&mut envelope.from, value, budget),
        FieldKind::Sender => store_addresses(&mut envelope.sender, value, budget),
        FieldKind::ReplyTo => store_addresses(&mut envelope.reply_to, value, budget),
        FieldKind::To => store_addresses(&mut envelope.to, value, budget),
        FieldKind::Cc => store_addresses(&mut envelope.cc, value, budget),
        FieldKind::Bcc => store_addresses(&mut envelope.bcc, value, budget),
        _ => {}
    }
}

fn store_addresses(list: &mut Vec<EnvelopeAddress>, value: &[u8], budget: &mut Budget) {
    let room = ADDRESSES_PER_FIELD_MAX.saturating_sub(list.len());
    let mut in_group = false;
    for address in header::parse_addresses(value, room) {
        if !budget.pay(2, memory_octets(&address)) {
            break;
        }
        in_group = match &address {
            EnvelopeAddress::Mailbox { .. } => in_group,
            EnvelopeAddress::GroupStart(_) => true,
            EnvelopeAddress::GroupEnd => false,
        };
        list.push(address);
    }
    if in_group {
        list.push(EnvelopeAddress::GroupEnd);
    }
}

fn memory_octets(address: &EnvelopeAddress) -> usize {
    let optional = |text: &Option<Vec<u8>>| text.as_ref().map_or(0, Vec::len);
    match address {
        EnvelopeAddress::Mailbox { name, route, local, host } => {
            optional(name) + optional(route) + local.len() + host.len()
        }
        EnvelopeAddress::GroupStart(name) => name.len(),
        EnvelopeAddress::GroupEnd => 0,
    }
}

/// The envelope fields in a prefix of trace fields, and an empty part to go with it.
pub(super) fn of_prefix(prefix: &[u8], budget: &mut Budget) -> (Envelope, Part) {
    let mut fields = PartFields::new(0, true);
    for field in header::fields(prefix) {
        let Some(kind) = FieldKind::of(field.name).filter(|kind| !kind.is_mime() && fields.wants(*kind)) else {
            continue;
        };
        let value = header::unfold(field.value.get(..FIELD_OCTETS_MAX).unwrap_or(field.value));
        fields.store(kind, &value, budget);
    }
    (fields.envelope.unwrap_or_default(), fields.part)
}

/// Adds what stands further down in the header section.
pub(super) fn append_envelope(envelope: &mut Envelope, below: Envelope) {
    envelope.date = envelope.date.take().or(below.date);
    envelope.subject = envelope.subject.take().or(below.subject);
    envelope.in_reply_to = envelope.in_reply_to.take().or(below.in_reply_to);
    envelope.message_id = envelope.message_id.take().or(below.message_id);
    for (above, below) in [
        (&mut envelope.from, below.from),
        (&mut envelope.sender, below.sender),
        (&mut envelope.reply_to, below.reply_to),
        (&mut envelope.to, below.to),
        (&mut envelope.cc, below.cc),
        (&mut envelope.bcc, below.bcc),
    ] {
        if above.is_empty() {
            *above = below;
        } else {
            above.extend(below);
        }
    }
}
