//! Criteria made ready for one view, and their value for one message as far as it is known.
//!
//! A value may be unknown (`None`): it needs more than has been read so far. Unknown parts do not matter where the rest
//! decides.

use super::keys::{EnvelopeField, SearchKey};
use super::text::Haystack;
use crate::view::View;
use mail::{Flags, Keyword, Message, ModSeq, UidSet};
use memchr::memmem::Finder;
use message::decode::decode_header;
use message::digest::{Digest, EnvelopeAddress};

/// A tree of criteria. Those that the snapshot cannot tell refer to entries of [`Criteria::lookups`].
#[derive(Debug)]
enum Node {
    Constant(bool),
    Flag(Flags),
    /// The bit in the newest snapshot, and in the one whose numbering the client knows.
    Keyword {
        latest: Option<u32>,
        numbering: Option<u32>,
    },
    Recent,
    Uids(UidSet),
    Day(Comparison, i64),
    Larger(u32),
    Smaller(u32),
    /// Internal date at or before this second.
    Until(i64),
    /// Internal date at or after this second.
    From(i64),
    ModSeq(ModSeq),
    Lookup(usize),
    Not(Box<Node>),
    Or(Box<Node>, Box<Node>),
    And(Vec<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Before,
    On,
    Since,
}

impl Comparison {
    fn holds(self, day: i64, of: i64) -> bool {
        match self {
            Comparison::Before => day < of,
            Comparison::On => day == of,
            Comparison::Since => day >= of,
        }
    }
}

/// What has to be looked up in the message.
#[derive(Debug)]
pub struct Lookup {
    /// Where.
    pub place: Place,
    /// What: folded, owned.
    pub needle: Finder<'static>,
}

/// Where something is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The Date: field; the needle is not used.
    Sent(SentDay),
    /// A field of the digest's envelope.
    Envelope(EnvelopeField),
    /// Message-ID: or In-Reply-To:, which the digest knows as well.
    MessageId,
    /// In-Reply-To:
    InReplyTo,
    /// Fields of this name, in lower case, of the message's header section.
    Header(Vec<u8>),
    /// The body.
    Body,
    /// Header section and body.
    Text,
}

/// A comparison with the day of the Date: field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentDay {
    comparison: Comparison,
    day: i64,
}

/// Criteria made ready.
#[derive(Debug)]
pub struct Criteria {
    root: Node,
    /// What has to be looked up.
    pub lookups: Vec<Lookup>,
    recent_from: mail::Uid,
}

/// What is known of the lookups of one message.
pub type Known = Vec<Option<bool>>;

impl Criteria {
    /// Makes a program's key ready: numbers become UIDs of the view, intervals instants.
    pub fn new(key: &SearchKey, view: &View, now_unix_seconds: i64) -> Criteria {
        let mut lookups = Vec::new();
        let root = prepare(key, view, now_unix_seconds, &mut lookups);
        Criteria { root, lookups, recent_from: view.recent_from }
    }

    /// Longest needle in octets.
    pub fn needle_octets_max(&self) -> usize {
        self.lookups.iter().map(|lookup| lookup.needle.needle().len()).max().unwrap_or_default()
    }

    /// The value for a message, as far as it is known.
    pub fn value(&self, message: &Message, from_latest: bool, known: &[Option<bool>]) -> Option<bool> {
        self.value_of(&self.root, message, from_latest, known)
    }

    fn value_of(&self, node: &Node, message: &Message, from_latest: bool, known: &[Option<bool>]) -> Option<bool> {
        let value = |node| self.value_of(node, message, from_latest, known);
        Some(match node {
            Node::Constant(constant) => *constant,
            Node::Flag(flag) => message.flags.contains(*flag),
            Node::Keyword { latest, numbering } => {
                let bit = if from_latest { latest } else { numbering };
                bit.is_some_and(|bit| message.keywords.checked_shr(bit).unwrap_or_default() & 1 == 1)
            }
            Node::Recent => message.uid >= self.recent_from,
            Node::Uids(uids) => uids.contains(message.uid),
            Node::Day(comparison, day) => {
                let date = message.internal_date;
                comparison.holds(local_day(date.unix_seconds, date.zone_minutes), *day)
            }
            Node::Larger(octets) => message.size_octets > *octets,
            Node::Smaller(octets) => message.size_octets < *octets,
            Node::Until(second) => message.internal_date.unix_seconds <= *second,
            Node::From(second) => message.internal_date.unix_seconds >= *second,
            Node::ModSeq(mod_sequence) => message.mod_sequence >= *mod_sequence,
            Node::Lookup(index) => return known.get(*index).copied().flatten(),
            Node::Not(inner) => !value(inner)?,
            Node::Or(first, second) => match (value(first), value(second)) {
                (Some(true), _) | (_, Some(true)) => true,
                (Some(false), Some(false)) => false,
                _ => return None,
            },
            Node::And(nodes) => {
                let mut unknown = false;
                for node in nodes {
                    match value(node) {
                        Some(false) => return Some(false),
                        Some(true) => {}
                        None => unknown = true,
                    }
                }
                if unknown {
                    return None;
                }
                true
            }
        })
    }

    /// Fills in what the digest tells.
    pub fn look_up(&self, digest: &Digest, known: &mut [Option<bool>]) {
        let mut fields: [Option<Option<Haystack>>; 7] = Default::default();
        for (lookup, known) in self.lookups.iter().zip(known) {
            let (slot, text): (usize, &dyn Fn() -> Option<String>) = match &lookup.place {
                Place::Sent(sent) => {
                    // A message without a readable date is on no day.
                    let day = digest.date.map(|(seconds, zone)| local_day(seconds, zone));
                    *known = Some(day.is_some_and(|day| sent.comparison.holds(day, sent.day)));
                    continue;
                }
                Place::Envelope(EnvelopeField::From) => (0, &|| addresses_text(&digest.envelope.from)),
                Place::Envelope(EnvelopeField::To) => (1, &|| addresses_text(&digest.envelope.to)),
                Place::Envelope(EnvelopeField::Cc) => (2, &|| addresses_text(&digest.envelope.cc)),
                Place::Envelope(EnvelopeField::Bcc) => (3, &|| addresses_text(&digest.envelope.bcc)),
                Place::Envelope(EnvelopeField::Subject) => {
                    (4, &|| digest.envelope.subject.as_deref().map(decode_header))
                }
                Place::MessageId => (5, &|| digest.envelope.message_id.as_deref().map(decode_header)),
                Place::InReplyTo => (6, &|| digest.envelope.in_reply_to.as_deref().map(decode_header)),
                Place::Header(_) | Place::Body | Place::Text => continue,
            };
            let haystack = fields.get_mut(slot).map(|field| {
                field.get_or_insert_with(|| {
                    text().map(|text| {
                        let mut haystack = Haystack::default();
                        haystack.push(&text);
                        haystack
                    })
                })
            });
            *known =
                Some(haystack.and_then(|field| field.as_ref()).is_some_and(|field| field.contains(&lookup.needle)));
        }
    }
}

/// RFC 3501 §6.4.4: dates are compared disregarding time and zone, so the day is that of the date's own zone.
fn local_day(unix_seconds: i64, zone_minutes: i16) -> i64 {
    unix_seconds.saturating_add(i64::from(zone_minutes) * 60).div_euclid(86_400)
}

/// Addresses as a reader sees them; `None` where the field is absent.
fn addresses_text(addresses: &[EnvelopeAddress]) -> Option<String> {
    if addresses.is_empty() {
        return None;
    }
    let mut text = String::new();
    for address in addresses {
        match address {
            EnvelopeAddress::Mailbox { name, local, host, .. } => {
                let (local, host) = (String::from_utf8_lossy(local), String::from_utf8_lossy(host));
                match name {
                    Some(name) => {
                        text.push_str(&decode_header(name));
                        text.extend([" <", &local, "@", &host, ">, "]);
                    }
                    None => text.extend([&local, "@", &host, ", "]),
                }
            }
            EnvelopeAddress::GroupStart(name) => {
                text.push_str(&decode_header(name));
                text.push_str(": ");
            }
            EnvelopeAddress::GroupEnd => text.push_str("; "),
        }
    }
    Some(text)
}

fn prepare(key: &SearchKey, view: &View, now: i64, lookups: &mut Vec<Lookup>) -> Node {
    let mut look_up = |place, needle: &str| {
        lookups.push(Lookup { place, needle: Finder::new(needle.as_bytes()).into_owned() });
        Node::Lookup(lookups.len() - 1)
    };
    let mut sent = |comparison, day: &i64| look_up(Place::Sent(SentDay { comparison, day: *day }), "");
    match key {
        SearchKey::All => Node::Constant(true),
        SearchKey::Flag(flag) => Node::Flag(*flag),
        SearchKey::Keyword(keyword) => keyword_node(keyword, view),
        SearchKey::Recent => Node::Recent,
        SearchKey::Sequence(set) => Node::Uids(set.to_uids(view, false)),
        SearchKey::Uid(set) => Node::Uids(set.to_uids(view, true)),
        SearchKey::Before(day) => Node::Day(Comparison::Before, *day),
        SearchKey::On(day) => Node::Day(Comparison::On, *day),
        SearchKey::Since(day) => Node::Day(Comparison::Since, *day),
        SearchKey::SentBefore(day) => sent(Comparison::Before, day),
        SearchKey::SentOn(day) => sent(Comparison::On, day),
        SearchKey::SentSince(day) => sent(Comparison::Since, day),
        SearchKey::Larger(octets) => Node::Larger(*octets),
        SearchKey::Smaller(octets) => Node::Smaller(*octets),
        // RFC 5032 §2: both include the instant itself.
        SearchKey::Older(seconds) => Node::Until(now.saturating_sub(i64::from(*seconds))),
        SearchKey::Younger(seconds) => Node::From(now.saturating_sub(i64::from(*seconds))),
        SearchKey::ModSeq(mod_sequence) => Node::ModSeq(*mod_sequence),
        SearchKey::Field(field, needle) => look_up(Place::Envelope(*field), needle),
        SearchKey::Header(name, needle) => match name.as_slice() {
            b"message-id" => look_up(Place::MessageId, needle),
            b"in-reply-to" => look_up(Place::InReplyTo, needle),
            _ => look_up(Place::Header(name.clone()), needle),
        },
        // Every body holds the empty string.
        SearchKey::Body(needle) | SearchKey::Text(needle) if needle.is_empty() => Node::Constant(true),
        SearchKey::Body(needle) => look_up(Place::Body, needle),
        SearchKey::Text(needle) => look_up(Place::Text, needle),
        SearchKey::Not(inner) => Node::Not(Box::new(prepare(inner, view, now, lookups))),
        SearchKey::Or(first, second) => {
            Node::Or(Box::new(prepare(first, view, now, lookups)), Box::new(prepare(second, view, now, lookups)))
        }
        SearchKey::And(keys) => Node::And(keys.iter().map(|key| prepare(key, view, now, lookups)).collect()),
    }
}

fn keyword_node(keyword: &Keyword, view: &View) -> Node {
    Node::Keyword { latest: view.latest.keyword_bit(keyword), numbering: view.numbering.keyword_bit(keyword) }
}
