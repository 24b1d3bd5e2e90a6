//! Takes a message to the server: our own client machine over a connection, as outbound mail goes.

use super::compose::Message;
use super::{Exit, Failure};
use mail::queue::Outcome;
use mail::{Domain, DsnReturn, EnhancedStatus, PeerFacts, Recipient, ReversePath};
use relay::{Stream, Wire};
use smtp_proto::Extensions;
use smtp_proto::client::{
    Answer, Body, Config, Content, Fate, Peer, Protocol, Question, Session, TlsDemand, Transaction, Verdict,
};
use std::net::TcpStream;
use std::sync::Arc;

/// Octets of a message that are handed over in one go.
const PIECE_OCTETS: usize = 64 * 1024;
/// Transactions for one message with a server that takes few recipients at a time.
const TRANSACTIONS_MAX: usize = 100;

/// A message with its envelope.
pub struct Parcel {
    /// Where failures are reported.
    pub reverse_path: ReversePath,
    /// Whom it is for.
    pub recipients: Vec<Recipient>,
    /// RET.
    pub dsn_return: Option<DsnReturn>,
    /// ENVID.
    pub envelope_id: Option<String>,
    /// The message.
    pub message: Message,
}

/// What came of each recipient, in their order.
pub fn submit(stream: TcpStream, helo_name: Domain, parcel: &Parcel) -> Result<Vec<Verdict>, Failure> {
    let broken = |error: std::io::Error| Failure::new(Exit::TemporaryFailure, format!("the connection: {error}"));
    let facts = PeerFacts { peer: stream.peer_addr().ok(), local: stream.local_addr().ok(), tls: None };
    stream.set_nonblocking(true).map_err(broken)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    runtime.block_on(async {
        let stream = Stream::Tcp(tokio::net::TcpStream::from_std(stream).map_err(broken)?);
        // On this machine nobody listens in, and who connects is known by its address.
        let config = Config { tls: TlsDemand::Never, ..Config::new(Protocol::Smtp, helo_name) };
        let timeouts = config.timeouts;
        let mut wire = Wire::new(stream, Session::new(Arc::new(config), facts), timeouts, None);
        let verdicts = Handover::new(parcel).run(&mut wire).await;
        wire.shut().await;
        Ok(verdicts)
    })
}

/// A message on its way to the server.
struct Handover<'a> {
    parcel: &'a Parcel,
    verdicts: Vec<Option<Verdict>>,
    /// Which recipients are in the transaction in hand.
    in_hand: Vec<usize>,
    transactions: usize,
    /// Octets handed over in it.
    given: usize,
}

impl<'a> Handover<'a> {
    fn new(parcel: &'a Parcel) -> Handover<'a> {
        let verdicts = vec![None; parcel.recipients.len()];
        Handover { parcel, verdicts, in_hand: Vec::new(), transactions: 0, given: 0 }
    }

    async fn run(mut self, wire: &mut Wire) -> Vec<Verdict> {
        let mut last = None;
        while let Some(question) = wire.question().await {
            let answer = match question {
                Question::Idle { peer } => self.next_transaction(&peer),
                Question::Body => Answer::Body(self.next_piece()),
                Question::Finished(report) => {
                    self.take_report(&report.fates);
                    Answer::Done
                }
                Question::Ended { ending, .. } => {
                    last = Some(ending.verdict());
                    Answer::Done
                }
            };
            wire.answer(answer);
        }
        let last = last.unwrap_or_else(|| Verdict {
            outcome: Outcome::Deferred,
            status: EnhancedStatus::new(4, 4, 2),
            text: "the session ended early".to_owned(),
            is_reply: false,
        });
        self.verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(|| last.clone())).collect()
    }

    fn next_transaction(&mut self, peer: &Peer) -> Answer {
        let open = self.verdicts.iter().enumerate().filter(|(_, verdict)| verdict.is_none());
        self.in_hand = open.map(|(index, _)| index).collect();
        if self.in_hand.is_empty() || self.transactions >= TRANSACTIONS_MAX {
            return Answer::Quit;
        }
        self.transactions += 1;
        self.given = 0;
        let Parcel { reverse_path, recipients, dsn_return, envelope_id, message } = self.parcel;
        let content = if message.is_eight_bit { Content::EightBit } else { Content::SevenBit };
        let to = self.in_hand.iter().filter_map(|index| recipients.get(*index)).cloned().collect();
        Answer::Transaction(Box::new(Transaction {
            octets: Some(message.octets.len() as u64),
            // RFC 6531 §3.4 (not): a server without it gets the fields as they are, as local programs have always written
            // them; to lose the mail would help nobody.
            smtputf8: message.has_utf8_header && peer.offers.has(Extensions::SMTPUTF8),
            dsn_return: *dsn_return,
            envelope_id: envelope_id.clone(),
            ..Transaction::new(reverse_path.clone(), to, content)
        }))
    }

    fn next_piece(&mut self) -> Body {
        let rest = self.parcel.message.octets.get(self.given..).unwrap_or_default();
        let piece = rest.get(..PIECE_OCTETS).unwrap_or(rest);
        self.given += piece.len();
        if piece.is_empty() { Body::End } else { Body::Octets(piece.to_vec()) }
    }

    fn take_report(&mut self, fates: &[Fate]) {
        for (index, fate) in self.in_hand.iter().zip(fates) {
            let is_tried_again = matches!(fate, Fate::Surplus(_)) && self.transactions < TRANSACTIONS_MAX;
            if let Some(verdict) = self.verdicts.get_mut(*index).filter(|_| !is_tried_again) {
                *verdict = Some(fate.verdict());
            }
        }
    }
}

/// The status of the program that a result calls for. `None`: the message was taken.
pub fn exit_of(verdict: &Verdict) -> Option<Exit> {
    match verdict.outcome {
        Outcome::Delivered => None,
        Outcome::Deferred => Some(Exit::TemporaryFailure),
        Outcome::Failed => Some(match (verdict.status.subject, verdict.status.detail) {
            // RFC 3463 §3.2: what is wrong with the sender's address.
            (1, 7 | 8) => Exit::DataError,
            (1, 2) => Exit::NoHost,
            (1, _) => Exit::NoUser,
            (3, 4) | (2, 3) | (6, _) => Exit::DataError,
            (7, _) => Exit::NoPermission,
            _ => Exit::Unavailable,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r213_each_cause_has_its_exit_status() {
        let of = |outcome, subject, detail| {
            let class = if outcome == Outcome::Failed { 5 } else { 4 };
            let status = EnhancedStatus::new(class, subject, detail);
            exit_of(&Verdict { outcome, status, text: String::new(), is_reply: true })
        };
        assert_eq!(of(Outcome::Delivered, 0, 0), None);
        assert_eq!(of(Outcome::Deferred, 1, 1), Some(Exit::TemporaryFailure));
        for (subject, detail, exit) in [
            (1, 1, Exit::NoUser),
            (1, 2, Exit::NoHost),
            (1, 8, Exit::DataError),
            (3, 4, Exit::DataError),
            (7, 1, Exit::NoPermission),
            (5, 1, Exit::Unavailable),
        ] {
            assert_eq!(of(Outcome::Failed, subject, detail), Some(exit));
        }
    }
}
