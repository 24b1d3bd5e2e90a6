//! An SMTP, submission or LMTP session takes any octets: no panic, bounded output per step, an end, every begun body ended or
//! abandoned, and the same dialogue and messages however the octets are split. The first two octets choose the listener,
//! the house's mood and the size of the pieces; the rest is what the client sends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::{AccountName, EnhancedStatus, Machine, Moment, PeerFacts, Reply, Step, TlsFacts};
use smtp_proto::{Answer, AuthFailure, Config, Extensions, Question, Role, Session};
use std::sync::Arc;

/// Most steps that one octet of input may cause.
const STEPS_PER_OCTET: usize = 16;
const STEP_OCTETS_MAX: usize = 64 * 1024;

fuzz_target!(|data: &[u8]| {
    let [choice, size, octets @ ..] = data else { return };
    let whole = run(*choice, octets, octets.len().max(1));
    let split = run(*choice, octets, usize::from(*size) + 1);
    assert_eq!(whole, split);
});

fn run(choice: u8, octets: &[u8], size: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut config = Config::new(
        match choice % 3 {
            0 => Role::Mx,
            1 => Role::Submission,
            _ => Role::Lmtp,
        },
        "mx.example.net",
    );
    config.extensions = Extensions::ALL;
    config.tls_available = true;
    config.auth_offered = true;
    config.auth_required = choice & 8 != 0;
    config.lenient_line_ends = choice & 16 != 0;
    config.message_octets_max = 10_000;
    config.recipients_max = 5;
    let peer = PeerFacts { peer: None, local: None, tls: (choice & 32 != 0).then(facts) };
    let mut session = Session::new(Arc::new(config), peer);
    let mut house = House { moody: choice & 64 != 0, questions: 0, staged: None, taken: Vec::new() };
    let mut pieces = octets.chunks(size);
    let mut output = Vec::new();
    for _ in 0..STEPS_PER_OCTET * (octets.len() + 8) {
        match session.next(Moment::default()) {
            Step::Write(octets) => {
                assert!(!octets.is_empty() && octets.len() <= STEP_OCTETS_MAX);
                output.extend(octets);
            }
            Step::Body(octets) => {
                assert!(!octets.is_empty() && octets.len() <= STEP_OCTETS_MAX);
                house.staged.as_mut().expect("a body was begun").extend(octets);
            }
            Step::Ask(question) => {
                let answer = house.answer(question);
                session.answer(answer);
            }
            Step::Wait { .. } => match pieces.next() {
                Some(piece) => session.receive(piece),
                None => session.end_of_input(),
            },
            // What came with STARTTLS is thrown away; to compare splits, nothing follows it.
            Step::StartTls => {
                session.tls_started(facts());
                pieces = [].chunks(1);
            }
            Step::Close => {
                assert!(house.staged.is_none());
                return (output, house.taken);
            }
        }
    }
    panic!("the session does not end");
}

/// Says yes, or if moody now and then no.
struct House {
    moody: bool,
    questions: u32,
    staged: Option<Vec<u8>>,
    taken: Vec<Vec<u8>>,
}

impl House {
    fn answer(&mut self, question: Question) -> Answer {
        self.questions += 1;
        let refuses = self.moody && self.questions % 5 == 4;
        let refusal = Reply::new(550, EnhancedStatus::new(5, 7, 1), "no\r\n250 yes");
        let verdict = if refuses { Err(refusal.clone()) } else { Ok(()) };
        match question {
            Question::Connect { .. } | Question::Mail { .. } | Question::Recipient { .. } => Answer::Verdict(verdict),
            Question::Authenticate { client, .. } => {
                assert!(client.tls.is_some() && client.role != Role::Mx);
                let account = AccountName::parse("brian@example.net").filter(|_| !refuses);
                Answer::Authenticated(account.ok_or(AuthFailure::Denied))
            }
            Question::Verify { .. } | Question::Etrn { .. } => Answer::Reply(refusal),
            Question::BeginBody { envelope, .. } => {
                assert!(self.staged.is_none() && !envelope.recipients.is_empty());
                if !refuses {
                    self.staged = Some(Vec::new());
                }
                Answer::Verdict(verdict)
            }
            Question::EndOfMessage { envelope, .. } => {
                let text = self.staged.take().expect("a body was begun");
                assert_eq!(
                    text.iter().filter(|b| **b == b'\n').count(),
                    text.windows(2).filter(|w| w == b"\r\n").count()
                );
                self.taken.push(text);
                Answer::Replies(envelope.recipients.iter().map(|_| refusal.clone()).collect())
            }
            Question::Abandon { .. } => {
                assert!(self.staged.take().is_some());
                Answer::Done
            }
        }
    }
}

fn facts() -> TlsFacts {
    TlsFacts { version: "TLSv1.3", cipher: String::new(), bits: 256, server_name: None }
}
