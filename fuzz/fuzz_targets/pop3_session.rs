//! A POP3 session takes any octets: no panic, bounded output per step, an end, and the same dialogue however the octets are
//! split. The first octet chooses the world and the size of the pieces; the rest is what the client sends.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mail::{
    AccountName, BlobId, Flags, InternalDate, Machine, MailboxId, Message, ModSeq, Moment, PeerFacts, Snapshot, Step,
    TlsFacts, Uid, UidValidity,
};
use pop3_proto::{Answer, AuthFailure, Config, Question, Session, Unavailable};
use std::sync::Arc;

const TEXTS: [&[u8]; 4] = [b"", b"A: 1\r\n\r\n.\r\nb\n.\r\nc", b".", b"Only: header\r\n"];
/// Most steps that one octet of input may cause.
const STEPS_PER_OCTET: usize = 16;

fuzz_target!(|data: &[u8]| {
    let Some((choice, octets)) = data.split_first() else { return };
    let whole = run(*choice, octets, octets.len().max(1));
    let split = run(*choice, octets, usize::from(choice >> 3) + 1);
    assert_eq!(whole, split);
});

fn run(choice: u8, octets: &[u8], size: usize) -> Vec<u8> {
    let peer = PeerFacts { peer: None, local: None, tls: (choice & 1 == 0).then(facts) };
    let mut session = Session::new(Arc::new(Config::new("mx.example.net")), peer);
    let mut pieces = octets.chunks(size);
    let mut output = Vec::new();
    for _ in 0..STEPS_PER_OCTET * (octets.len() + 8) {
        match session.next(Moment::default()) {
            Step::Write(octets) => {
                assert!(octets.len() < 512 * 1_024);
                output.extend(octets);
            }
            Step::Body(_) => panic!("POP3 receives no message"),
            Step::Ask(question) => session.answer(answer(choice, question)),
            Step::Wait { .. } => match pieces.next() {
                Some(piece) => session.receive(piece),
                None => session.end_of_input(),
            },
            // What came with STLS is thrown away; to compare splits, nothing follows it.
            Step::StartTls => {
                session.tls_started(facts());
                pieces = [].chunks(1);
            }
            Step::Close => return output,
        }
    }
    panic!("the session does not end");
}

fn answer(choice: u8, question: Question) -> Answer {
    match question {
        Question::Authenticate(credentials) => {
            let account = AccountName::parse(&credentials.login).or_else(|| AccountName::parse("brian@example.net"));
            Answer::Authenticated(account.filter(|_| credentials.password.expose() != "x").ok_or(AuthFailure::Denied))
        }
        Question::Open => Answer::Maildrop(Ok(Arc::new(snapshot()))),
        Question::Read { uid, start, octets } => {
            let text = TEXTS.get(uid.0 as usize % TEXTS.len()).copied().unwrap_or_default();
            let end = text.len().min((start + octets) as usize);
            let piece = text.get(start as usize..end).map(Bytes::copy_from_slice);
            Answer::Octets(piece.filter(|_| choice & 2 == 0))
        }
        Question::Remove(_) => Answer::Removed(if choice & 4 == 0 { Ok(()) } else { Err(Unavailable) }),
    }
}

fn snapshot() -> Snapshot {
    let message = |uid: u32| Message {
        uid: Uid(uid),
        flags: Flags::NONE,
        keywords: 0,
        mod_sequence: ModSeq(1),
        // One size too large: the message breaks off.
        size_octets: TEXTS.get(uid as usize % TEXTS.len()).map_or(0, |text| text.len() as u32) + u32::from(uid == 7),
        internal_date: InternalDate::default(),
        blob: BlobId(1),
    };
    Snapshot::empty(MailboxId(1), UidValidity(1), Uid(9), ModSeq(1)).with_messages((1..9).map(message))
}

fn facts() -> TlsFacts {
    TlsFacts { version: "TLSv1.3", cipher: String::new(), bits: 256, server_name: None }
}
