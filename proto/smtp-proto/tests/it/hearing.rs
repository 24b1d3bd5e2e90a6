//! What must hold for a client session of SMTP or LMTP whatever octets it hears: no panic, bounded output per step, an end,
//! one report for each transaction with a result for each recipient, no bare CR or LF on the wire, no control character in
//! what the house is told; and the same dialogue and results whether a line comes whole or octet by octet. In the third run
//! several lines may come at once. The fuzz target `smtp_client` is this; `corpus.rs` replays what is kept.

use mail::{Address, Domain, Machine, Moment, PeerFacts, Recipient, ReversePath, Secret, Step, TlsFacts};
use sasl::client::Identity;
use smtp_proto::client::{
    Answer, Body, Config, Content, Ending, Fate, Protocol, Question, Report, Session, TlsDemand, Transaction,
};
use std::sync::Arc;

/// Most steps that one octet of input may cause, and most that a silent peer may.
const STEPS_PER_OCTET: usize = 64;
const STEPS_MIN: usize = 2_000;
const STEP_OCTETS_MAX: usize = 64 * 1024;
const TRANSACTIONS: usize = 2;
const RECIPIENTS: usize = 200;

/// Hears what a peer says. The first octet chooses how the session goes about it, the second the size of the pieces of a
/// third run; the rest is what the peer says.
pub fn hear(data: &[u8]) {
    let [choice, size, octets @ ..] = data else { return };
    let lines: Vec<&[u8]> = octets.split_inclusive(|octet| *octet == b'\n').collect();
    let by_line = run(*choice, octets.len(), lines.into_iter());
    let by_octet = run(*choice, octets.len(), octets.chunks(1));
    assert_eq!(by_line, by_octet);
    run(*choice, octets.len(), octets.chunks(usize::from(*size) + 1));
}

/// What was sent, reported, and the ending.
fn run<'a>(choice: u8, octets: usize, mut pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<Report>, Ending) {
    let tls = (choice & 2 != 0).then(facts);
    let mut session = Session::new(Arc::new(config(choice)), PeerFacts { peer: None, local: None, tls });
    let mut house = House { choice, left: TRANSACTIONS, pieces_left: 0, reports: Vec::new(), ending: None };
    let mut sent = Vec::new();
    for _ in 0..STEPS_MIN + STEPS_PER_OCTET * octets {
        match session.next(Moment::default()) {
            Step::Write(octets) => {
                assert!(!octets.is_empty() && octets.len() <= STEP_OCTETS_MAX);
                sent.extend(octets);
            }
            Step::Ask(question) => session.answer(house.answer(question)),
            Step::Wait { .. } => match pieces.next() {
                Some(piece) => session.receive(piece),
                None => session.end_of_input(),
            },
            Step::StartTls if choice & 1 == 0 => session.tls_started(facts()),
            Step::StartTls => session.end_of_input(),
            Step::Close => {
                let bare = sent.windows(2).any(|pair| (pair[1] == b'\n') != (pair[0] == b'\r'));
                assert!(!bare && !sent.ends_with(b"\r"));
                let ending = house.ending.expect("an ending");
                assert!(is_printable(&ending.verdict().text));
                return (sent, house.reports, ending);
            }
            Step::Body(_) => panic!("a client has no body to stage"),
        }
    }
    panic!("the session does not end");
}

fn config(choice: u8) -> Config {
    let protocol = if choice & 4 != 0 { Protocol::Lmtp } else { Protocol::Smtp };
    let mut config = Config::new(protocol, Domain::parse("client.example.com").expect("a domain"));
    config.tls = if choice & 8 != 0 { TlsDemand::Required } else { TlsDemand::IfOffered };
    config.credentials = (choice & 16 != 0).then(|| Identity::new("brian", Secret::new("mailbox".into())));
    config.chunking = choice & 32 != 0;
    config
}

/// Has two messages to send.
struct House {
    choice: u8,
    left: usize,
    pieces_left: usize,
    reports: Vec<Report>,
    ending: Option<Ending>,
}

impl House {
    fn answer(&mut self, question: Question) -> Answer {
        assert!(self.ending.is_none());
        match question {
            Question::Idle { .. } if self.left == 0 => Answer::Quit,
            Question::Idle { .. } => {
                self.left -= 1;
                self.pieces_left = 3;
                let recipients = (0..RECIPIENTS).map(|number| Recipient::new(address(&format!("a{number}@b.example"))));
                let content = if self.choice & 64 != 0 { Content::EightBit } else { Content::SevenBit };
                Answer::Transaction(Box::new(Transaction::new(ReversePath::Null, recipients.collect(), content)))
            }
            Question::Body => {
                assert!(self.pieces_left > 0);
                self.pieces_left -= 1;
                Answer::Body(match self.pieces_left {
                    0 if self.choice & 128 != 0 => Body::Failed,
                    0 => Body::End,
                    _ => Body::Octets(b"\r\n.\r\n\n.\r.".repeat(2_000)),
                })
            }
            Question::Finished(report) => {
                assert_eq!(report.fates.len(), RECIPIENTS);
                assert!(report.fates.iter().all(|fate| is_printable(&fate.verdict().text)));
                let taken = report.fates.iter().any(|fate| matches!(fate, Fate::Taken(_)) || fate.is_ambiguous());
                assert!(!taken || self.choice & 128 == 0, "a message that failed was not ended");
                self.reports.push(report);
                Answer::Done
            }
            Question::Ended { ending, .. } => {
                assert_eq!(self.reports.len(), TRANSACTIONS - self.left);
                self.ending = Some(ending);
                Answer::Done
            }
        }
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|octet| (b' '..=b'~').contains(&octet))
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

fn facts() -> TlsFacts {
    TlsFacts { version: "TLSv1.3", cipher: String::new(), bits: 256, server_name: None }
}
