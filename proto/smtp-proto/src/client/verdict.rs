//! What a result means for the queue: outcome, enhanced status, and words for logs and reports.
//!
//! A reply's own enhanced status counts if its class agrees with the code. Where a peer gave none:
//!
//! | code | status | after |
//! | --- | --- | --- |
//! | 2xx | 2.0.0 | |
//! | 421 | 4.3.2 | RFC 3463 §3.4: system not accepting network messages |
//! | 450 | 4.2.0 | RFC 5321 §4.2.3: mailbox unavailable |
//! | 451 | 4.3.0 | RFC 5321 §4.2.3: local error in processing |
//! | 452 | 4.5.3 to RCPT, else 4.3.1 | RFC 5321 §4.5.3.1.10: too many recipients; RFC 3463 §3.4: mail system full |
//! | 454, 455 | 4.7.0, 4.5.4 | RFC 4954 §6, RFC 5321 §4.2.3 |
//! | 500 to 504, 555 | 5.5.2, 5.5.4, 5.5.1, 5.5.1, 5.5.4, 5.5.4 | RFC 5248 §2.4 |
//! | 521, 556 | 5.3.2, 5.1.10 | RFC 7504 §3, RFC 7505 §4.1 |
//! | 530, 534, 535, 538 | 5.7.0, 5.7.9, 5.7.8, 5.7.11 | RFC 4954 §6 |
//! | 550 | 5.1.0 to RCPT, else 5.0.0 | unknown mailbox or policy: the code does not tell |
//! | 551 | 5.1.6 | RFC 3463 §3.2: mailbox has moved |
//! | 552 | 4.5.3 to RCPT; 5.2.2 after the end of data; else 5.3.4 | see below; RFC 5248 §2.4 |
//! | 553 | 5.1.7 to MAIL, else 5.1.3 | RFC 3463 §3.2: bad address syntax |
//! | others | 4.0.0, 5.0.0 | |
//!
//! RFC 5321 §4.5.3.1.10: 552 to RCPT is what RFC 821 had for too many recipients, so it is temporary, unless its status
//! says something else, such as 5.2.2 of a full mailbox.
//!
//! Whatever ends a session before a transaction is temporary for the message, also a 5xx greeting: it is said of us or of
//! this host, not of the message, and another host of the destination may take it. The house tries that first.

use super::question::{AuthObstacle, Ending, Fate, Fault, InTheClear, Loss, Obstacle, Part, Protection, Stage};
use super::replies::ReplyFault;
use mail::queue::Outcome;
use mail::text::one_line;
use mail::{EnhancedStatus, Reply};
use std::fmt;

/// A result as the queue understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of the recipient.
    pub outcome: Outcome,
    /// Its class fits the outcome.
    pub status: EnhancedStatus,
    /// The reply with its code, or our own finding: one line of printable ASCII, bounded.
    pub text: String,
    /// Whether the text is a reply of the peer.
    pub is_reply: bool,
}

impl Fate {
    /// What it means. For [`Fate::Unable`] this holds if no other host of the destination is able either.
    pub fn verdict(&self) -> Verdict {
        match self {
            Fate::Taken(reply) => {
                let status = reply.status.unwrap_or(EnhancedStatus::new(2, 0, 0));
                Verdict { outcome: Outcome::Delivered, status, text: one_line(&reply.to_string()), is_reply: true }
            }
            Fate::Refused { at, reply } => refused(*at, reply),
            Fate::Surplus(reply) => said(Outcome::Deferred, EnhancedStatus::new(4, 5, 3), reply),
            Fate::Unable(obstacle) => found(Outcome::Failed, obstacle.status(), obstacle.to_string()),
            // This has its cause here, whatever we were at.
            Fate::Lost { loss: loss @ Loss::BodyFailed, .. } => {
                found(Outcome::Deferred, loss.status(), loss.to_string())
            }
            Fate::Lost { at, loss } => found(Outcome::Deferred, loss.status(), format!("{loss} {at}")),
        }
    }

    /// Whether the peer may have taken the message although it could not say so: another attempt may deliver it twice.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Fate::Lost { at: Stage::EndOfData, .. })
    }
}

impl Ending {
    /// What it means for recipients that were to be sent on this session and were not: always [`Outcome::Deferred`].
    pub fn verdict(&self) -> Verdict {
        let deferred = |subject, detail, text: &str| {
            found(Outcome::Deferred, EnhancedStatus::new(4, subject, detail), text.to_owned())
        };
        match self {
            Ending::Quit => deferred(4, 0, "the session ended before this message"),
            Ending::Refused { reply, .. } => {
                let status = match reply.status.unwrap_or_else(|| default_status(reply.code, None)) {
                    // Nothing is known of the mailbox or the message.
                    EnhancedStatus { subject: 0..=2 | 6, .. } => EnhancedStatus::new(4, 3, 0),
                    status => EnhancedStatus { class: 4, ..status },
                };
                said(Outcome::Deferred, status, reply)
            }
            Ending::TlsNotOffered => deferred(7, 4, "TLS is required, but was not offered"),
            Ending::HandshakeFailed => deferred(7, 5, "the TLS handshake failed"),
            Ending::AuthenticationImpossible(obstacle) => deferred(7, 0, obstacle.words()),
            Ending::Lost { loss: Loss::BodyFailed, .. } => deferred(3, 0, "an earlier message could not be read"),
            Ending::Lost { at, loss } => found(Outcome::Deferred, loss.status(), format!("{loss} {at}")),
        }
    }
}

/// Whether a refused recipient is one too many rather than an unwelcome one (RFC 5321 §4.5.3.1.10).
pub(super) fn is_surplus(reply: &Reply) -> bool {
    let says_so = |class| reply.status.is_none_or(|status| status == EnhancedStatus::new(class, 5, 3));
    match reply.code {
        452 => says_so(4),
        552 => says_so(5),
        _ => false,
    }
}

fn refused(at: Stage, reply: &Reply) -> Verdict {
    if at == Stage::Recipient && is_surplus(reply) {
        return said(Outcome::Deferred, EnhancedStatus::new(4, 5, 3), reply);
    }
    let status = reply.status.unwrap_or_else(|| default_status(reply.code, Some(at)));
    said(if reply.is_permanent() { Outcome::Failed } else { Outcome::Deferred }, status, reply)
}

fn said(outcome: Outcome, status: EnhancedStatus, reply: &Reply) -> Verdict {
    Verdict { outcome, status, text: one_line(&reply.to_string()), is_reply: true }
}

fn found(outcome: Outcome, status: EnhancedStatus, text: String) -> Verdict {
    Verdict { outcome, status, text: one_line(&text), is_reply: false }
}

/// The status of a refusal that came without one: the table at the top.
fn default_status(code: u16, at: Option<Stage>) -> EnhancedStatus {
    let (class, subject, detail) = match (code, at) {
        (421, _) => (4, 3, 2),
        (450, _) => (4, 2, 0),
        (451, _) => (4, 3, 0),
        (452, Some(Stage::Recipient)) => (4, 5, 3),
        (452, _) => (4, 3, 1),
        (454, _) => (4, 7, 0),
        (455, _) => (4, 5, 4),
        (500, _) => (5, 5, 2),
        (501 | 504 | 555, _) => (5, 5, 4),
        (502 | 503, _) => (5, 5, 1),
        (521, _) => (5, 3, 2),
        (556, _) => (5, 1, 10),
        (530, _) => (5, 7, 0),
        (534, _) => (5, 7, 9),
        (535, _) => (5, 7, 8),
        (538, _) => (5, 7, 11),
        (550, Some(Stage::Recipient)) => (5, 1, 0),
        (551, _) => (5, 1, 6),
        (552, Some(Stage::EndOfData)) => (5, 2, 2),
        (552, _) => (5, 3, 4),
        (553, Some(Stage::Mail)) => (5, 1, 7),
        (553, _) => (5, 1, 3),
        (400..=499, _) => (4, 0, 0),
        (_, _) => (5, 0, 0),
    };
    EnhancedStatus::new(class, subject, detail)
}

impl Obstacle {
    fn status(self) -> EnhancedStatus {
        let (subject, detail) = match self {
            // RFC 3463 §3.7: conversion required but not supported.
            Obstacle::NeedsEightBit => (6, 3),
            // RFC 6531 §3.5.
            Obstacle::NeedsSmtpUtf8 => (6, 7),
            // RFC 8689 §4.2.1.
            Obstacle::NeedsTls => (7, 10),
            Obstacle::NeedsRequireTls => (7, 30),
            // RFC 1870 §4, RFC 3463 §3.4.
            Obstacle::TooBig { .. } => (3, 4),
        };
        EnhancedStatus::new(5, subject, detail)
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NeedsEightBit => f.write_str("the message is 8-bit text, and 8BITMIME was not offered"),
            Obstacle::NeedsSmtpUtf8 => f.write_str("SMTPUTF8 is required, but was not offered"),
            Obstacle::NeedsTls => f.write_str("REQUIRETLS is wanted, and the session is not encrypted"),
            Obstacle::NeedsRequireTls => f.write_str("REQUIRETLS support required, but it was not offered"),
            Obstacle::TooBig { octets_max } => write!(f, "the message is larger than the limit of {octets_max} octets"),
        }
    }
}

impl Loss {
    fn status(&self) -> EnhancedStatus {
        let (subject, detail) = match self {
            // RFC 3463 §3.5: bad connection, whether by time-out or by quality.
            Loss::Closed | Loss::TimedOut => (4, 2),
            // The refusal is of the session: its status is taken over only if it says no more than that.
            Loss::Goodbye(reply) => match reply.status {
                Some(status) if status.class == 4 => return status,
                _ => (3, 2),
            },
            Loss::Broken(_) => (5, 0),
            Loss::BodyFailed => (3, 0),
        };
        EnhancedStatus::new(4, subject, detail)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Closed => f.write_str("the connection was lost"),
            Loss::TimedOut => f.write_str("the peer did not answer in time"),
            Loss::Goodbye(reply) => write!(f, "the peer ended the session (it said: {reply})"),
            Loss::Broken(fault) => write!(f, "{fault}"),
            Loss::BodyFailed => f.write_str("the message could not be read to its end"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Reply(ReplyFault::LineTooLong) => f.write_str("the peer sent a line that is too long"),
            Fault::Reply(ReplyFault::TooLong) => f.write_str("the peer sent a reply that is too long"),
            Fault::Reply(ReplyFault::NoCode) => f.write_str("the peer sent something that is no reply"),
            Fault::Reply(ReplyFault::CodesDiffer) => f.write_str("the peer sent a reply with different codes"),
            Fault::Unexpected(code) => write!(f, "the peer sent a reply with the unexpected code {code}"),
            Fault::OutOfTurn => f.write_str("the peer sent a reply to nothing"),
            Fault::ClearTextAfterStartTls => f.write_str("the peer sent clear text after the reply to STARTTLS"),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Mail => "at MAIL",
            Stage::Recipient => "at RCPT",
            Stage::Data => "at DATA",
            Stage::Body => "while the message was sent",
            Stage::EndOfData => "after the end of data: the message may be delivered twice",
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Greeting => "at the greeting",
            Part::Hello => "at EHLO",
            Part::StartTls => "at STARTTLS",
            Part::Authentication => "at AUTH",
            Part::Idle => "between two messages",
            Part::Transaction => "in a transaction",
        })
    }
}

impl AuthObstacle {
    fn words(self) -> &'static str {
        match self {
            AuthObstacle::NoTls => "there are credentials, which are not sent outside TLS",
            AuthObstacle::NotOffered => "there are credentials, but AUTH with a known mechanism was not offered",
            AuthObstacle::Unusable => "there are credentials, but the mechanism cannot carry them",
        }
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protection::Tls(facts) => write!(f, "{} with cipher {}", facts.version, facts.cipher),
            Protection::Clear(InTheClear::NotTried) => f.write_str("clear text"),
            Protection::Clear(InTheClear::NotOffered) => f.write_str("clear text, for TLS was not offered"),
            Protection::Clear(InTheClear::Refused(reply)) => write!(f, "clear text, for STARTTLS was refused: {reply}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn at(stage: Stage, code: u16, status: Option<(u8, u16, u16)>) -> (Outcome, String) {
        let status = status.map(|(class, subject, detail)| EnhancedStatus::new(class, subject, detail));
        let reply = Arc::new(Reply { code, status, lines: vec!["words".into()] });
        let verdict = Fate::Refused { at: stage, reply }.verdict();
        assert!(verdict.is_reply && verdict.text.starts_with(&code.to_string()));
        (verdict.outcome, verdict.status.to_string())
    }

    #[test]
    fn a_status_of_the_peer_counts() {
        assert_eq!(at(Stage::Recipient, 550, Some((5, 1, 1))), (Outcome::Failed, "5.1.1".into()));
        assert_eq!(at(Stage::EndOfData, 451, Some((4, 7, 1))), (Outcome::Deferred, "4.7.1".into()));
        let reply = Arc::new(Reply::plain(250, "ok"));
        let verdict = Fate::Taken(reply).verdict();
        assert_eq!((verdict.outcome, verdict.status.to_string().as_str()), (Outcome::Delivered, "2.0.0"));
    }

    #[test]
    fn every_code_has_a_status_of_its_class() {
        for code in 400..600 {
            for stage in [Stage::Mail, Stage::Recipient, Stage::Data, Stage::Body, Stage::EndOfData] {
                let (outcome, status) = at(stage, code, None);
                let class = if outcome == Outcome::Failed { "5." } else { "4." };
                assert!(status.starts_with(class), "{code} {stage:?} {outcome:?} {status}");
                assert_eq!(outcome == Outcome::Failed, code >= 500 && (code, stage) != (552, Stage::Recipient));
            }
        }
        assert_eq!(at(Stage::Mail, 452, None).1, "4.3.1");
        assert_eq!(at(Stage::Recipient, 452, None).1, "4.5.3");
        assert_eq!(at(Stage::Recipient, 550, None).1, "5.1.0");
        assert_eq!(at(Stage::Mail, 553, None).1, "5.1.7");
    }

    #[test]
    fn too_many_recipients_is_temporary() {
        assert_eq!(at(Stage::Recipient, 552, None), (Outcome::Deferred, "4.5.3".into()));
        assert_eq!(at(Stage::Recipient, 552, Some((5, 5, 3))), (Outcome::Deferred, "4.5.3".into()));
        assert_eq!(at(Stage::Recipient, 552, Some((5, 2, 2))), (Outcome::Failed, "5.2.2".into()));
        assert_eq!(at(Stage::EndOfData, 552, None), (Outcome::Failed, "5.2.2".into()));
    }

    #[test]
    fn an_ending_is_temporary_for_the_message() {
        let refused = |code, status: Option<EnhancedStatus>| {
            let reply = Arc::new(Reply { code, status, lines: vec!["go away".into()] });
            Ending::Refused { at: Part::Greeting, reply }.verdict()
        };
        for (code, status, expected) in [
            (554, None, "4.3.0"),
            (554, Some(EnhancedStatus::new(5, 7, 1)), "4.7.1"),
            (550, Some(EnhancedStatus::new(5, 1, 1)), "4.3.0"),
            (421, None, "4.3.2"),
            (521, None, "4.3.2"),
            (535, Some(EnhancedStatus::new(5, 7, 8)), "4.7.8"),
        ] {
            let verdict = refused(code, status);
            assert_eq!((verdict.outcome, verdict.status.to_string().as_str()), (Outcome::Deferred, expected));
        }
        let lost = |loss| Ending::Lost { at: Part::Idle, loss }.verdict();
        for loss in [Loss::Closed, Loss::TimedOut, Loss::Broken(Fault::OutOfTurn)] {
            let verdict = lost(loss);
            assert_eq!((verdict.outcome, verdict.status.class, verdict.is_reply), (Outcome::Deferred, 4, false));
        }
    }

    /// RFC 5321 §3.8.
    #[test]
    fn who_says_goodbye_says_why() {
        for (code, status, expected) in [
            (421, Some(EnhancedStatus::new(4, 7, 0)), "4.7.0"),
            (421, None, "4.3.2"),
            // In the midst of the text.
            (554, Some(EnhancedStatus::new(5, 7, 1)), "4.3.2"),
        ] {
            let reply = Arc::new(Reply { code, status, lines: vec!["slow down".into()] });
            let verdict = Fate::Lost { at: Stage::Mail, loss: Loss::Goodbye(reply) }.verdict();
            assert_eq!((verdict.outcome, verdict.status.to_string().as_str()), (Outcome::Deferred, expected));
        }
    }

    #[test]
    fn only_after_the_end_of_data_it_is_unknown() {
        let lost = |at| Fate::Lost { at, loss: Loss::Closed };
        for stage in [Stage::Mail, Stage::Recipient, Stage::Data, Stage::Body] {
            assert!(!lost(stage).is_ambiguous());
        }
        assert!(lost(Stage::EndOfData).is_ambiguous());
        assert_eq!(lost(Stage::Body).verdict().text, "the connection was lost while the message was sent");
    }
}
