//! DATA and BDAT: the message text, and the replies at its end.
//!
//! Whatever the end of a message is answered with, the transaction is over after it, and nothing of it is left (V7). A
//! BDAT that is refused ends it too: RFC 3030 §2 leaves that open, and a client may not go on anyway.

use super::{Pending, Phase, Session, Standing, Turn};
use crate::config::Extensions;
use crate::data::{Decoded, Decoder, Framing};
use crate::grammar;
use crate::input::LineEnds;
use crate::question::{Abandoned, Answer, Question, Role};
use crate::reply;
use crate::session::transaction::Transaction;
use mail::{Envelope, Moment, Reply, Step};
use std::sync::Arc;
use std::time::Duration;

/// Text is handed out as soon as so many octets of it are there.
const BODY_OCTETS: usize = 32 * 1024;
/// Octets decoded at a time. Each may become two, so that a `Step::Body` has less than 64 KiB.
const DECODE_OCTETS: usize = 15 * 1024;
/// Slowest sending that is borne, beside the time-out between octets: no message may take for ever.
const OCTETS_PER_SECOND_MIN: u64 = 500;

/// A message whose text comes in.
#[derive(Debug)]
pub(super) struct Receiving {
    transaction: Box<Transaction>,
    decoder: Decoder,
    /// Decoded and not yet handed out.
    text: Vec<u8>,
    /// Octets of text so far, handed out or dropped.
    text_octets: u64,
    text_octets_max: u64,
}

/// A chunk whose octets come in.
#[derive(Debug)]
pub(super) struct Chunk {
    octets: u64,
    octets_left: u64,
    last: bool,
    fate: Fate,
    pub(super) pace: Pace,
}

/// What becomes of a chunk.
#[derive(Debug)]
enum Fate {
    /// It is text of a message.
    Taken(Box<Receiving>),
    /// It is read and forgotten, and answered with these replies.
    Refused { replies: Vec<Reply>, standing: Standing },
}

/// How fast octets come, from the first wait for them.
#[derive(Debug, Default)]
pub(super) struct Pace {
    started: Option<Moment>,
    latest: Option<Moment>,
    octets: u64,
}

impl Pace {
    fn note(&mut self, octets: usize, now: Moment) {
        self.latest = Some(now);
        self.octets = self.octets.saturating_add(octets as u64);
    }

    /// When the wait for more of them ends: the time-out after the latest, or when they come too slowly in all.
    pub(super) fn deadline(&mut self, timeout: Duration, now: Moment) -> Moment {
        let started = *self.started.get_or_insert(now);
        let latest = *self.latest.get_or_insert(now);
        let bought = Duration::from_secs(self.octets / OCTETS_PER_SECOND_MIN);
        latest.after(timeout).min(started.after(timeout).after(bought))
    }
}

impl Receiving {
    fn take(&mut self, octets: &[u8]) -> Decoded {
        let before = self.text.len();
        let decoded = self.decoder.decode(octets, &mut self.text);
        self.count(before);
        decoded
    }

    fn finish(&mut self) {
        let before = self.text.len();
        self.decoder.finish(&mut self.text);
        self.count(before);
    }

    /// Counts what was added to the text. Beyond the limit it is only counted.
    fn count(&mut self, before: usize) {
        self.text_octets = self.text_octets.saturating_add((self.text.len() - before) as u64);
        if self.is_too_big() {
            self.text = Vec::new();
        }
    }

    pub(super) fn into_envelope(self) -> Arc<Envelope> {
        self.transaction.envelope
    }

    fn is_too_big(&self) -> bool {
        self.text_octets > self.text_octets_max
    }

    /// The text that is due to be handed out: much of it, or at the end all of it.
    fn due(&mut self, ended: bool) -> Option<Step<Question>> {
        let due = self.text.len() >= BODY_OCTETS || (ended && !self.text.is_empty());
        due.then(|| Step::Body(std::mem::take(&mut self.text)))
    }
}

impl Chunk {
    fn new(octets: u64, last: bool, fate: Fate) -> Box<Chunk> {
        Box::new(Chunk { octets, octets_left: octets, last, fate, pace: Pace::default() })
    }

    pub(super) fn into_standing(self) -> Standing {
        match self.fate {
            Fate::Taken(receiving) => Standing::InChunks(receiving),
            Fate::Refused { standing, .. } => standing,
        }
    }
}

impl Session {
    /// DATA: asks the house to make ready, then says 354.
    pub(super) fn data(&mut self, standing: Standing, arguments: &str) -> Phase {
        let transaction = match standing {
            Standing::Idle if self.client.greeting.is_none() => return self.no(standing, self.greet_first()),
            Standing::Idle => return self.no(standing, reply::NEED_RECIPIENT),
            // RFC 3030 §2: the two are not mixed.
            Standing::InChunks(_) => return self.no(standing, reply::DATA_AFTER_CHUNK),
            Standing::InMail(transaction) => transaction,
        };
        if let Some(refusal) = self.nobody_to_send_to(&transaction) {
            return self.no(Standing::InMail(transaction), refusal);
        }
        if !arguments.is_empty() {
            return self.no(Standing::InMail(transaction), reply::DATA_SYNTAX);
        }
        Phase::Ask(self.begin_body(&transaction), Pending::Data(transaction))
    }

    fn begin_body(&self, transaction: &Transaction) -> Question {
        Question::BeginBody { client: self.client.clone(), envelope: transaction.envelope.clone() }
    }

    fn receiving(&self, transaction: Box<Transaction>, framing: Framing) -> Box<Receiving> {
        Box::new(Receiving {
            transaction,
            decoder: Decoder::new(framing),
            text: Vec::new(),
            text_octets: 0,
            text_octets_max: self.config.message_octets_max,
        })
    }

    pub(super) fn data_judged(&mut self, transaction: Box<Transaction>, verdict: Result<(), Reply>) -> Phase {
        match verdict {
            Ok(()) => {
                self.say(reply::GO_AHEAD);
                let framing = match self.line_ends {
                    LineEnds::Strict => Framing::Dots,
                    LineEnds::Lenient => Framing::LenientDots,
                };
                Phase::Data(self.receiving(transaction, framing), Pace::default())
            }
            Err(reply) => self.pass_on(&reply, Standing::Idle),
        }
    }

    /// The text after 354, as far as it is there.
    pub(super) fn data_octets(&mut self, mut receiving: Box<Receiving>, mut pace: Pace, now: Moment) -> Turn {
        let rest = self.input.rest();
        if rest.is_empty() {
            return self.wait(Phase::Data(receiving, pace), now);
        }
        let Decoded { consumed, ended } = receiving.take(rest.get(..DECODE_OCTETS).unwrap_or(rest));
        self.input.consume(consumed);
        pace.note(consumed, now);
        let step = receiving.due(ended);
        if ended { (self.end_of_message(*receiving), step) } else { (Phase::Data(receiving, pace), step) }
    }

    /// `BDAT count [LAST]` (RFC 3030 §2). Its octets come whatever we think of it, and are read, so that none of them is
    /// taken for a command. Only without a count, or where CHUNKING is masked, it is a line like others.
    pub(super) fn chunk(&mut self, standing: Standing, arguments: &str) -> Phase {
        if !self.config.extensions.contain(Extensions::CHUNKING) {
            return self.no(standing, reply::NOT_RECOGNIZED);
        }
        let Some(head) = grammar::chunk(arguments) else { return self.no(standing, reply::BDAT_SYNTAX) };
        let refusal = match &standing {
            _ if self.lacks_tls() => Some(reply::STARTTLS_FIRST),
            _ if self.client.greeting.is_none() => Some(self.greet_first()),
            _ if head.last.is_none() => Some(reply::BDAT_SYNTAX),
            Standing::Idle => Some(reply::NEED_RECIPIENT),
            Standing::InMail(transaction) => self.nobody_to_send_to(transaction),
            Standing::InChunks(_) => None,
        };
        let last = head.last.unwrap_or_default();
        match (refusal, standing) {
            (None, Standing::InMail(transaction)) => {
                Phase::Ask(self.begin_body(&transaction), Pending::Chunk(transaction, head.octets, last))
            }
            (None, Standing::InChunks(receiving)) => {
                Phase::Chunk(Chunk::new(head.octets, last, Fate::Taken(receiving)))
            }
            (refusal, standing) => {
                let refusal = refusal.unwrap_or(reply::NEED_RECIPIENT);
                let replies = match (&standing, self.config.role) {
                    // RFC 2033 §4.3: LAST has a reply for each recipient taken, and here there are none.
                    (Standing::InMail(_), Role::Lmtp) if last && refusal == reply::NO_VALID_RECIPIENTS_LMTP => vec![],
                    _ => vec![reply::parsed(refusal)],
                };
                Phase::Chunk(Chunk::new(head.octets, last, Fate::Refused { replies, standing }))
            }
        }
    }

    /// The house's word on the first chunk, whose octets are still to come.
    pub(super) fn first_chunk_judged(
        &mut self,
        transaction: Box<Transaction>,
        octets: u64,
        last: bool,
        verdict: Result<(), Reply>,
    ) -> Phase {
        let fate = match verdict {
            Ok(()) => Fate::Taken(self.receiving(transaction, Framing::Counted)),
            Err(reply) => {
                let count = if last { self.replies_to(&transaction) } else { 1 };
                Fate::Refused { replies: vec![reply; count], standing: Standing::Idle }
            }
        };
        Phase::Chunk(Chunk::new(octets, last, fate))
    }

    /// The octets of a chunk, as far as they are there.
    pub(super) fn chunk_octets(&mut self, mut chunk: Box<Chunk>, now: Moment) -> Turn {
        if chunk.octets_left == 0 {
            return self.end_of_chunk(*chunk);
        }
        let rest = self.input.rest();
        if rest.is_empty() {
            return self.wait(Phase::Chunk(chunk), now);
        }
        let size = usize::try_from(chunk.octets_left).unwrap_or(usize::MAX).min(DECODE_OCTETS);
        let piece = rest.get(..size).unwrap_or(rest);
        let consumed = piece.len();
        let step = match &mut chunk.fate {
            Fate::Taken(receiving) => {
                receiving.take(piece);
                receiving.due(false)
            }
            Fate::Refused { .. } => None,
        };
        self.input.consume(consumed);
        chunk.pace.note(consumed, now);
        chunk.octets_left = chunk.octets_left.saturating_sub(consumed as u64);
        (Phase::Chunk(chunk), step)
    }

    fn end_of_chunk(&mut self, chunk: Chunk) -> Turn {
        match chunk.fate {
            Fate::Taken(mut receiving) if chunk.last => {
                receiving.finish();
                let step = receiving.due(true);
                (self.end_of_message(*receiving), step)
            }
            Fate::Taken(receiving) if receiving.is_too_big() => (self.too_big(*receiving, 1), None),
            Fate::Taken(receiving) => {
                self.say(&reply::chunk_taken(chunk.octets));
                (Phase::Commands(Standing::InChunks(receiving)), None)
            }
            Fate::Refused { replies, standing, .. } => {
                let mut closes = false;
                for reply in &replies {
                    closes |= self.say_reply(reply);
                }
                let then = if closes { Phase::Closing } else { Phase::Commands(Standing::Idle) };
                (self.end_transaction(standing, then), None)
            }
        }
    }

    fn end_of_message(&mut self, receiving: Receiving) -> Phase {
        if receiving.is_too_big() {
            let count = self.replies_to(&receiving.transaction);
            return self.too_big(receiving, count);
        }
        let transaction = receiving.transaction;
        let (client, envelope) = (self.client.clone(), transaction.envelope.clone());
        Phase::Ask(Question::EndOfMessage { client, envelope }, Pending::EndOfMessage(transaction))
    }

    /// R94: the text was read to its end and dropped; the session goes on.
    fn too_big(&mut self, receiving: Receiving, replies: usize) -> Phase {
        for _ in 0..replies {
            self.say(reply::MESSAGE_TOO_BIG);
        }
        self.errors = self.errors.saturating_add(1);
        let cause = Abandoned::Refused(reply::parsed(reply::MESSAGE_TOO_BIG));
        self.abandon(receiving, cause, Phase::Commands(Standing::Idle))
    }

    /// How many replies the end of a message has: in LMTP one for each recipient taken (RFC 2033 §4.2).
    fn replies_to(&self, transaction: &Transaction) -> usize {
        match self.config.role {
            Role::Mx | Role::Submission => 1,
            Role::Lmtp => transaction.envelope.recipients.len(),
        }
    }

    /// What became of the message.
    pub(super) fn message_judged(&mut self, transaction: &Transaction, answer: Answer) -> Phase {
        let replies = match answer {
            Answer::Replies(replies) => replies,
            Answer::Verdict(_) | Answer::Reply(_) | Answer::Authenticated(_) | Answer::Done => Vec::new(),
        };
        let count = self.replies_to(transaction);
        let missing = std::iter::repeat_with(super::local_problem);
        let mut closes = false;
        for reply in replies.into_iter().chain(missing).take(count) {
            closes |= self.say_reply(&reply);
            if reply.is_positive() {
                (self.errors, self.idle_talk) = (0, 0);
            }
        }
        if closes { Phase::Closing } else { Phase::Commands(Standing::Idle) }
    }
}
