//! MAIL, RCPT and DATA: from a transaction to a peer that is ready for the text, or to a report.
//!
//! Where PIPELINING is offered, commands go out ahead of their replies, DATA as the last (RFC 2920 §3.1). How far ahead is
//! bounded in octets, so that the peer's receive window always holds what it has not answered: we never wait for it to
//! read while it waits for us to. Without PIPELINING the bound is one command.

use super::{Heard, Leave, Part, Phase, Session, Turn};
use crate::client::command;
use crate::client::config::Protocol;
use crate::client::plan::Plan;
use crate::client::question::{Ending, Fate, Fault, Loss, Obstacle, Question, Report, Stage, Transaction};
use crate::client::session::Pending;
use crate::client::session::body::Text;
use crate::client::verdict::is_surplus;
use mail::{Moment, Reply};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// RFC 2920 §3.1: a window is usually 4 KiB, and a group must fit in it.
const UNANSWERED_OCTETS_MAX: usize = 4_096;
/// For so many recipients [`Timeouts::envelope`](crate::client::Timeouts) counts once.
const RECIPIENTS_PER_ENVELOPE_TIME: usize = 100;

/// A transaction on its way.
#[derive(Debug)]
pub(super) struct Sending {
    transaction: Transaction,
    pub plan: Plan,
    /// What is known of each recipient.
    pub fates: Vec<Option<Fate>>,
    /// The places of the recipients that the peer took, in the order of their commands.
    pub accepted: Vec<usize>,
    next: Next,
    awaited: VecDeque<Awaited>,
    unanswered_octets: usize,
    /// When the wait for all replies before the text ends; `None` until the first command.
    until: Option<Moment>,
    /// How many of the accepted have their reply to the end of the data.
    pub verdicts: usize,
    /// A 421 in the midst of several replies to the end of the data.
    pub goodbye: Option<Arc<Reply>>,
}

/// The command that is to be sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Reset,
    Mail,
    /// From this place on.
    Recipient(usize),
    Data,
    Nothing,
}

/// A command that was sent and not answered.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    command: Command,
    octets: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Reset,
    Mail,
    Recipient(usize),
    Data,
    /// The end of no data at all.
    EmptyMessage,
}

impl Sending {
    /// The next command that may be sent without knowing the replies that are still out.
    fn next_command(&mut self) -> Option<(Command, String)> {
        if let Next::Recipient(place) = self.next {
            let open = self.fates.iter().skip(place).position(Option::is_none);
            self.next = open.map_or(Next::Data, |skipped| Next::Recipient(place + skipped));
        }
        match self.next {
            Next::Reset => Some((Command::Reset, "RSET".to_owned())),
            Next::Mail => Some((Command::Mail, command::mail(&self.transaction, &self.plan))),
            Next::Recipient(place) => {
                let recipient = self.transaction.recipients.get(place)?;
                Some((Command::Recipient(place), command::recipient(recipient, &self.plan)))
            }
            // Chunks wait for all replies (RFC 3030 §2).
            Next::Data if self.plan.chunked || !self.may_need_data() => None,
            Next::Data => Some((Command::Data, "DATA".to_owned())),
            Next::Nothing => None,
        }
    }

    /// Whether somebody was taken, or may yet be.
    fn may_need_data(&self) -> bool {
        let may_be_taken = |awaited: &Awaited| matches!(awaited.command, Command::Recipient(_));
        !self.accepted.is_empty() || self.awaited.iter().any(may_be_taken)
    }

    fn sent(&mut self, command: Command, octets: usize) {
        self.next = match (command, self.next) {
            (Command::Reset, _) => Next::Mail,
            (Command::Mail, _) => Next::Recipient(0),
            (Command::Recipient(place), _) => Next::Recipient(place + 1),
            (Command::Data, _) => Next::Nothing,
            (Command::EmptyMessage, next) => next,
        };
        self.awaited.push_back(Awaited { command, octets });
        self.unanswered_octets += octets;
    }

    fn answered(&mut self) -> Option<Command> {
        let awaited = self.awaited.pop_front()?;
        self.unanswered_octets -= awaited.octets;
        Some(awaited.command)
    }

    /// Those whose fate is open get this one.
    pub fn settle(&mut self, fate: &Fate) {
        self.fates.iter_mut().filter(|open| open.is_none()).for_each(|open| *open = Some(fate.clone()));
    }

    /// Whether somebody was taken who waits for the text.
    fn has_waiting(&self) -> bool {
        self.accepted.iter().any(|place| matches!(self.fates.get(*place), Some(None)))
    }

    pub fn decide(&mut self, place: usize, fate: Fate) {
        if let Some(open) = self.fates.get_mut(place) {
            open.get_or_insert(fate);
        }
    }

    fn stage(&self) -> Stage {
        match self.awaited.front().map(|awaited| awaited.command) {
            None | Some(Command::Reset | Command::Mail) => Stage::Mail,
            Some(Command::Recipient(_)) => Stage::Recipient,
            Some(Command::Data | Command::EmptyMessage) => Stage::Data,
        }
    }
}

impl Session {
    /// Begins a transaction, unless nobody can be sent to.
    pub(super) fn begin(&mut self, transaction: Transaction) -> Phase {
        let recipients = transaction.recipients.len();
        let plan = match Plan::new(&transaction, &self.peer, &self.config) {
            Ok(plan) => plan,
            Err(obstacle) => return self.report(vec![Some(Fate::Unable(obstacle)); recipients], None),
        };
        let unable = |recipient: &mail::Recipient| {
            let needs_utf8 = recipient.address.needs_utf8() && !plan.utf8;
            needs_utf8.then_some(Fate::Unable(Obstacle::NeedsSmtpUtf8))
        };
        let fates: Vec<Option<Fate>> = transaction.recipients.iter().map(unable).collect();
        if fates.iter().all(Option::is_some) {
            return self.report(fates, None);
        }
        Phase::Envelope(Box::new(Sending {
            transaction,
            plan,
            fates,
            accepted: Vec::new(),
            next: if self.needs_reset { Next::Reset } else { Next::Mail },
            awaited: VecDeque::new(),
            unanswered_octets: 0,
            until: None,
            verdicts: 0,
            goodbye: None,
        }))
    }

    /// Sends what may be sent, then hears the next reply.
    pub(super) fn envelope(&mut self, mut sending: Box<Sending>, now: Moment) -> Turn {
        self.send_commands(&mut sending);
        let Some(awaited) = sending.awaited.front() else { return (self.envelope_is_over(sending), None) };
        let until = *sending.until.get_or_insert(now.after(self.envelope_time(&sending.transaction)));
        let left = until.0.saturating_sub(now.0);
        match self.hear(self.timeout(awaited.command).min(left), now) {
            Heard::Reply(reply) => (self.envelope_reply(sending, reply.into_reply()), None),
            Heard::Nothing(step) => (Phase::Envelope(sending), Some(step)),
            Heard::Lost(loss) => (self.give_up(sending, loss), None),
        }
    }

    /// Keeps the peer busy: fills the window once half of it is answered, so that commands go in groups.
    fn send_commands(&mut self, sending: &mut Sending) {
        let window = if sending.plan.pipelined { UNANSWERED_OCTETS_MAX } else { 0 };
        if !sending.awaited.is_empty() && sending.unanswered_octets > window / 2 {
            return;
        }
        while let Some((command, line)) = sending.next_command() {
            let octets = line.len() + 2;
            if !sending.awaited.is_empty() && sending.unanswered_octets + octets > window {
                return;
            }
            self.command(&line);
            self.needs_reset = command != Command::Reset;
            sending.sent(command, octets);
        }
    }

    fn envelope_time(&self, transaction: &Transaction) -> Duration {
        let hundreds = transaction.recipients.len().div_ceil(RECIPIENTS_PER_ENVELOPE_TIME);
        self.config.timeouts.envelope.saturating_mul(u32::try_from(hundreds).unwrap_or(u32::MAX))
    }

    fn timeout(&self, command: Command) -> Duration {
        let timeouts = &self.config.timeouts;
        match command {
            Command::Reset | Command::Mail => timeouts.mail,
            Command::Recipient(_) => timeouts.recipient,
            Command::Data => timeouts.data,
            Command::EmptyMessage => timeouts.end_of_data,
        }
    }

    fn envelope_reply(&mut self, mut sending: Box<Sending>, reply: Reply) -> Phase {
        let stage = sending.stage();
        let Some(command) = sending.answered() else { return Phase::Envelope(sending) };
        let reply = Arc::new(reply);
        match (command, reply.code) {
            // RFC 5321 §3.8: the peer is going; this was said of the session, and of nobody in it.
            (Command::Reset | Command::Mail | Command::Data, 421) => {}
            (Command::Reset | Command::Mail, 200..=299) => {}
            (Command::Recipient(place), 200..=299) => {
                // Of a peer that refused MAIL no recipient is believed.
                if matches!(sending.fates.get(place), Some(None)) {
                    sending.accepted.push(place);
                }
            }
            (Command::Data, 354) => return self.go_ahead(sending),
            (Command::Mail, 400..=599) => {
                sending.settle(&Fate::Refused { at: stage, reply: reply.clone() });
                // Nothing is left of a transaction that did not begin; but what was sent after it may be.
                self.needs_reset = !sending.awaited.is_empty();
                sending.next = Next::Nothing;
            }
            (Command::Recipient(place), 400..=599) => refuse_recipient(&mut sending, place, &reply),
            (Command::Data, 400..=599) => sending.settle(&Fate::Refused { at: stage, reply: reply.clone() }),
            (Command::EmptyMessage, 200..=299 | 400..=599) => {}
            (_, code) => return self.give_up_at(sending, stage, Loss::Broken(Fault::Unexpected(code))),
        }
        // RFC 5321 §3.8.
        if reply.code == 421 {
            return self.give_up_at(sending, stage, Loss::Goodbye(reply));
        }
        Phase::Envelope(sending)
    }

    /// The peer is ready for the text.
    fn go_ahead(&mut self, mut sending: Box<Sending>) -> Phase {
        if sending.has_waiting() {
            let text = Box::new(Text::new(&sending.plan));
            return Phase::Data(sending, text);
        }
        match self.config.protocol {
            // RFC 2920 §3.1: a peer that took nobody and says yes to DATA gets a single dot. It sends it to nobody.
            Protocol::Smtp => {
                self.command(".");
                sending.sent(Command::EmptyMessage, 3);
                Phase::Envelope(sending)
            }
            // RFC 2033 §4.2: an LMTP peer must not, and there is no telling how many replies the dot would have.
            Protocol::Lmtp => self.give_up_at(sending, Stage::Data, Loss::Broken(Fault::Unexpected(354))),
        }
    }

    /// All replies are there, and the text was not asked for.
    fn envelope_is_over(&mut self, sending: Box<Sending>) -> Phase {
        if sending.has_waiting() {
            let text = Box::new(Text::new(&sending.plan));
            return Phase::Chunks(sending, text);
        }
        self.report(sending.fates, None)
    }

    /// The session is lost, and with it whoever has no result yet.
    fn give_up(&mut self, sending: Box<Sending>, loss: Loss) -> Phase {
        let stage = sending.stage();
        self.give_up_at(sending, stage, loss)
    }

    pub(super) fn give_up_at(&mut self, mut sending: Box<Sending>, at: Stage, loss: Loss) -> Phase {
        sending.settle(&Fate::Lost { at, loss: loss.clone() });
        // Nobody needs a part of a message.
        if at == Stage::Body {
            self.output.0.clear();
        }
        let ending = Ending::Lost { at: Part::Transaction, loss };
        self.report(sending.fates, Some((ending, Leave::AtOnce)))
    }

    /// Tells the house what came of it. Nobody is forgotten: who was neither taken nor refused by now was never sent.
    pub(super) fn report(&mut self, fates: Vec<Option<Fate>>, ending: Option<(Ending, Leave)>) -> Phase {
        let unsent = || Fate::Lost { at: Stage::Mail, loss: Loss::Closed };
        let fates = fates.into_iter().map(|fate| fate.unwrap_or_else(unsent)).collect();
        Phase::Ask(Question::Finished(Report { fates, usable: ending.is_none() }), Pending::Finished(ending))
    }
}

/// A recipient is not taken; or too many were, and then it is not the only one.
fn refuse_recipient(sending: &mut Sending, place: usize, reply: &Arc<Reply>) {
    if sending.accepted.is_empty() || !is_surplus(reply) {
        sending.decide(place, Fate::Refused { at: Stage::Recipient, reply: reply.clone() });
        return;
    }
    sending.decide(place, Fate::Surplus(reply.clone()));
    // RFC 5321 §4.5.3.1.10: the rest would be told the same. Without a status it may be said of this recipient alone.
    if let (Some(_), Next::Recipient(next)) = (reply.status, sending.next) {
        let rest = sending.fates.iter_mut().skip(next).filter(|open| open.is_none());
        rest.for_each(|open| *open = Some(Fate::Surplus(reply.clone())));
        sending.next = Next::Data;
    }
}
