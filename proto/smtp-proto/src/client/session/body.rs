//! The text, with DATA or in chunks, and the replies to its end.

use super::{Ending, Heard, Leave, Part, Pending, Phase, Session, Turn};
use crate::client::config::Protocol;
use crate::client::plan::Plan;
use crate::client::question::{Answer, Body, Fate, Fault, Loss, Question, Stage};
use crate::client::session::envelope::Sending;
use crate::client::text::{Dots, Encoder};
use mail::{Moment, Reply};
use std::sync::Arc;

/// Octets encoded at a time. Each may become two, so that a `Step::Write` has less than 64 KiB.
const SLICE_OCTETS: usize = 15 * 1024;
/// A chunk is sent once it has so many octets and more text follows.
const CHUNK_OCTETS_MIN: usize = 32 * 1024;
/// Chunks sent ahead of their replies where PIPELINING is offered.
const CHUNKS_UNANSWERED_MAX: usize = 8;

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Text {
    encoder: Encoder,
    /// What the house gave, and how much of it was used.
    piece: Vec<u8>,
    used: usize,
    /// Whether the house has no more.
    ended: bool,
    /// The next chunk, as far as it is there.
    chunk: Vec<u8>,
    chunks_unanswered: usize,
    chunks_unanswered_max: usize,
    /// Whether a chunk was refused.
    refused: bool,
}

impl Text {
    pub fn new(plan: &Plan) -> Text {
        Text {
            encoder: Encoder::new(if plan.chunked { Dots::AsTheyAre } else { Dots::Doubled }),
            piece: Vec::new(),
            used: 0,
            ended: false,
            chunk: Vec::new(),
            chunks_unanswered: 0,
            chunks_unanswered_max: if plan.pipelined { CHUNKS_UNANSWERED_MAX } else { 1 },
            refused: false,
        }
    }

    /// Encodes the next slice of what is there; whether there was one.
    fn encode(&mut self, out: &mut Vec<u8>) -> bool {
        let rest = self.piece.get(self.used..).unwrap_or_default();
        let slice = rest.get(..SLICE_OCTETS).unwrap_or(rest);
        if slice.is_empty() {
            return false;
        }
        self.encoder.encode(slice, out);
        self.used += slice.len();
        if self.used >= self.piece.len() {
            (self.piece, self.used) = (Vec::new(), 0);
        }
        true
    }

    /// Encodes the next slice into the next chunk.
    fn encode_chunk(&mut self) {
        let mut chunk = std::mem::take(&mut self.chunk);
        self.encode(&mut chunk);
        self.chunk = chunk;
    }

    fn has_more(&self) -> bool {
        self.used < self.piece.len()
    }

    /// Whether no chunk may be sent before a reply. Replies that are there already are not looked at before, so that it
    /// makes no difference how they come.
    fn must_wait(&self) -> bool {
        let is_last = self.ended && !self.has_more();
        self.chunks_unanswered > 0 && (self.refused || is_last || self.chunks_unanswered >= self.chunks_unanswered_max)
    }
}

impl Session {
    /// What the house gave of the message; or the phase after it could not.
    pub(super) fn more_text(
        &mut self,
        sending: Box<Sending>,
        mut text: Box<Text>,
        answer: Answer,
    ) -> Result<(Box<Sending>, Box<Text>), Phase> {
        match answer {
            Answer::Body(Body::Octets(octets)) => (text.piece, text.used) = (octets, 0),
            Answer::Body(Body::End) => text.ended = true,
            // The end of the data must not be sent, and before it nothing but text can be said.
            Answer::Body(Body::Failed) | Answer::Transaction(_) | Answer::Quit | Answer::Done => {
                return Err(self.give_up_at(sending, Stage::Body, Loss::BodyFailed));
            }
        }
        Ok((sending, text))
    }

    /// The text after DATA, a slice at a time.
    pub(super) fn data(&mut self, mut sending: Box<Sending>, mut text: Box<Text>) -> Turn {
        if let Some(loss) = self.interruption() {
            if let Loss::Goodbye(reply) = &loss {
                sending.settle(&Fate::Refused { at: Stage::Body, reply: reply.clone() });
            }
            return (self.give_up_at(sending, Stage::Body, loss), None);
        }
        if text.encode(&mut self.output.0) {
            return (Phase::Data(sending, text), None);
        }
        if !text.ended {
            return (Phase::Ask(Question::Body, Pending::Data(sending, text)), None);
        }
        text.encoder.finish(&mut self.output.0);
        self.command(".");
        (Phase::Verdicts(sending), None)
    }

    /// Why no more text can be sent. A peer that refuses in the midst of the text does not read on, so that there is
    /// nothing left to say to it.
    fn interruption(&mut self) -> Option<Loss> {
        match self.replies.take() {
            Ok(Some(reply)) if reply.code >= 400 => Some(Loss::Goodbye(Arc::new(reply.into_reply()))),
            Ok(Some(_)) => Some(Loss::Broken(Fault::OutOfTurn)),
            Err(fault) => Some(Loss::Broken(Fault::Reply(fault))),
            Ok(None) if self.replies.has_ended() => Some(Loss::Closed),
            Ok(None) => None,
        }
    }

    /// The text in chunks (RFC 3030 §2). The last one goes when all before it are answered: after a refusal it would be
    /// sent to a peer whose state is unknown, and in LMTP it has an unknown number of replies.
    pub(super) fn chunks(&mut self, sending: Box<Sending>, mut text: Box<Text>, now: Moment) -> Turn {
        if text.must_wait() {
            return match self.hear(self.config.timeouts.block, now) {
                Heard::Nothing(step) => (Phase::Chunks(sending, text), Some(step)),
                Heard::Reply(reply) => (self.chunk_reply(sending, text, reply.into_reply()), None),
                Heard::Lost(loss) => (self.give_up_at(sending, Stage::Body, loss), None),
            };
        }
        if text.refused {
            return (self.report(sending.fates, None), None);
        }
        if self.replies.has_ended() {
            return (self.give_up_at(sending, Stage::Body, Loss::Closed), None);
        }
        if text.has_more() {
            if text.chunk.len() >= CHUNK_OCTETS_MIN {
                self.send_chunk(&mut text, "");
                text.chunks_unanswered += 1;
            } else {
                text.encode_chunk();
            }
            return (Phase::Chunks(sending, text), None);
        }
        if !text.ended {
            return (Phase::Ask(Question::Body, Pending::Chunks(sending, text)), None);
        }
        text.encoder.finish(&mut text.chunk);
        self.send_chunk(&mut text, " LAST");
        (Phase::Verdicts(sending), None)
    }

    fn send_chunk(&mut self, text: &mut Text, last: &str) {
        self.command(&format!("BDAT {}{last}", text.chunk.len()));
        self.output.0.append(&mut text.chunk);
    }

    fn chunk_reply(&mut self, mut sending: Box<Sending>, mut text: Box<Text>, reply: Reply) -> Phase {
        text.chunks_unanswered -= 1;
        match reply.code {
            200..=299 => {}
            400..=599 => {
                let reply = Arc::new(reply);
                sending.settle(&Fate::Refused { at: Stage::Body, reply: reply.clone() });
                text.refused = true;
                if reply.code == 421 {
                    return self.give_up_at(sending, Stage::Body, Loss::Goodbye(reply));
                }
            }
            code => return self.give_up_at(sending, Stage::Body, Loss::Broken(Fault::Unexpected(code))),
        }
        Phase::Chunks(sending, text)
    }

    /// What the peer says to the end of the data: once, in LMTP once for each recipient it took (RFC 2033 §4.2).
    pub(super) fn verdicts(&mut self, mut sending: Box<Sending>, now: Moment) -> Turn {
        let timeouts = &self.config.timeouts;
        let timeout = if sending.goodbye.is_some() { timeouts.quit } else { timeouts.end_of_data };
        match self.hear(timeout, now) {
            Heard::Reply(reply) => (self.verdict(sending, reply.into_reply()), None),
            Heard::Nothing(step) => (Phase::Verdicts(sending), Some(step)),
            Heard::Lost(loss) => {
                let loss = sending.goodbye.take().map_or(loss, Loss::Goodbye);
                (self.give_up_at(sending, Stage::EndOfData, loss), None)
            }
        }
    }

    fn verdict(&mut self, mut sending: Box<Sending>, reply: Reply) -> Phase {
        let reply = Arc::new(reply);
        let fate = match reply.code {
            200..=299 => Fate::Taken(reply.clone()),
            400..=599 => Fate::Refused { at: Stage::EndOfData, reply: reply.clone() },
            code => return self.give_up_at(sending, Stage::EndOfData, Loss::Broken(Fault::Unexpected(code))),
        };
        // RFC 2033 §5: the replies that arrive count, also those after a 421.
        if reply.code == 421 {
            sending.goodbye = Some(reply);
        }
        match self.config.protocol {
            Protocol::Smtp => {
                sending.settle(&fate);
                sending.verdicts = sending.accepted.len();
            }
            Protocol::Lmtp => {
                if let Some(place) = sending.accepted.get(sending.verdicts).copied() {
                    sending.decide(place, fate);
                }
                sending.verdicts += 1;
            }
        }
        if sending.verdicts < sending.accepted.len() {
            return Phase::Verdicts(sending);
        }
        // RFC 5321 §3.3: whatever the reply, the peer's buffers are empty now.
        self.needs_reset = false;
        let goodbye = sending.goodbye.take().map(Loss::Goodbye);
        let ending = goodbye.map(|loss| (Ending::Lost { at: Part::Transaction, loss }, Leave::AtOnce));
        self.report(sending.fates, ending)
    }
}
