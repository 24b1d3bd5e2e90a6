//! SEARCH with any criteria over any message: nothing panics, and what criteria find and what their negation finds are
//! together the mailbox.

#![no_main]

use bytes::Bytes;
use imap_proto::fetch::RunStep;
use imap_proto::lexer::Lexer;
use imap_proto::question::{Answer, BodyRange, Question};
use imap_proto::search::{self, SearchKey, SearchProgram, SearchRun};
use imap_proto::view::View;
use libfuzzer_sys::fuzz_target;
use mail::{BlobId, Flags, InternalDate, MailboxId, Message, ModSeq, Snapshot, Uid, UidValidity};
use message::scan::Scanner;
use std::sync::Arc;

// The criteria end at the first empty line; the message follows.
fuzz_target!(|input: &[u8]| {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let criteria = input.get(..end).unwrap_or_default();
    let body = input.get(end + 2..).unwrap_or_default();
    let Ok(program) = search::parse(&mut Lexer::new(criteria)) else { return };
    let negated = SearchProgram { key: SearchKey::Not(Box::new(program.key.clone())), ..program.clone() };
    let found = run(&program, body);
    let others = run(&negated, body);
    assert_eq!(found + others, 1);
});

fn run(program: &SearchProgram, body: &[u8]) -> usize {
    let mut scanner = Scanner::new();
    scanner.write(body);
    let digest = Bytes::from(scanner.finish(b"").encode());
    let view = view(body.len() as u32);
    let mut run = SearchRun::new(&view, program, true, 1_000_000_000);
    let mut out = Vec::new();
    loop {
        match run.next(&mut out) {
            RunStep::Ask(Question::Digests(blobs)) => {
                run.answer(Answer::Digests(Ok(blobs.iter().map(|_| Some(digest.clone())).collect())));
            }
            RunStep::Ask(Question::Read(ranges)) => {
                run.answer(Answer::Bodies(Ok(ranges.iter().map(|range| Some(read(body, range))).collect())));
            }
            RunStep::Ask(other) => panic!("{other:?}"),
            RunStep::More => {}
            RunStep::Done => break,
            RunStep::Failed => panic!("a search has nothing to fail at"),
        }
    }
    assert_eq!((run.unreadable(), run.unavailable()), (0, false));
    run.render("t", &mut out);
    assert!(out.ends_with(b"\r\n"));
    run.results().count()
}

fn read(body: &[u8], range: &BodyRange) -> Bytes {
    let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(body.len());
    let end = usize::try_from(range.start.saturating_add(range.octets)).unwrap_or(usize::MAX).min(body.len());
    Bytes::copy_from_slice(body.get(start..end).unwrap_or_default())
}

fn view(size_octets: u32) -> View {
    let message = Message {
        uid: Uid(7),
        flags: Flags::SEEN,
        keywords: 1,
        mod_sequence: ModSeq(5),
        size_octets,
        internal_date: InternalDate { unix_seconds: 999_999_000, zone_minutes: 60 },
        blob: BlobId(1),
    };
    let snapshot = Snapshot::empty(MailboxId(1), UidValidity(1), Uid(8), ModSeq(5)).with_messages([message]);
    let snapshot = Arc::new(snapshot);
    View { numbering: Arc::clone(&snapshot), latest: snapshot, recent_from: Uid(7), read_only: false }
}
