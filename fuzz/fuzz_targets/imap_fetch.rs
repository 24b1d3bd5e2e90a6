//! FETCH of any items from any message: nothing panics, no run fails, and what is written is lines and literals.

#![no_main]

use bytes::Bytes;
use imap_proto::fetch::{self, FetchRun, RunStep};
use imap_proto::lexer::Lexer;
use imap_proto::question::{Answer, BodyRange, Question};
use imap_proto::view::View;
use libfuzzer_sys::fuzz_target;
use mail::{BlobId, Flags, InternalDate, MailboxId, Message, ModSeq, Snapshot, Uid, UidSet, UidValidity};
use message::scan::Scanner;
use std::sync::Arc;

// The items end at the first empty line; the message follows.
fuzz_target!(|input: &[u8]| {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let body = input.get(end + 2..).unwrap_or_default();
    let Ok(items) = fetch::parse(&mut Lexer::new(input.get(..end).unwrap_or_default())) else { return };
    let mut scanner = Scanner::new();
    scanner.write(body);
    let digest = Bytes::from(scanner.finish(b"").encode());
    let mut run = FetchRun::new(items, &view(body.len() as u32), vec![(1, Uid(7))], true, UidSet::new(), false);
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
            RunStep::Failed => panic!("everything could be read"),
        }
    }
    assert_eq!((run.unreadable(), run.expunged(), run.unavailable()), (0, 0, false));
    check_framing(&out);
});

/// At most one response, whose literals lie where they say and whose parentheses close.
fn check_framing(out: &[u8]) {
    let (mut rest, mut depth) = (out, 0usize);
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1).expect("a parenthesis closes that was not opened"),
            b'"' => {
                rest =
                    Lexer::new(&[b"\"", rest].concat()).string().map(|_| after_quoted(rest)).expect("a quoted string")
            }
            b'{' => {
                let close = rest.iter().position(|b| *b == b'}').expect("a literal");
                let length: usize = std::str::from_utf8(&rest[..close]).unwrap().parse().expect("a length");
                assert_eq!(&rest[close + 1..close + 3], b"\r\n");
                assert!(!rest[close + 3..close + 3 + length].contains(&0));
                rest = &rest[close + 3 + length..];
            }
            b'\r' => assert!(depth == 0 && rest == b"\n"),
            b'\n' => {}
            octet => assert!((0x20..0x7f).contains(octet)),
        }
    }
    assert_eq!(depth, 0);
}

fn after_quoted(rest: &[u8]) -> &[u8] {
    let mut escaped = false;
    for (index, octet) in rest.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return &rest[index + 1..],
            _ => {}
        }
    }
    &[]
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
        keywords: 0,
        mod_sequence: ModSeq(5),
        size_octets,
        internal_date: InternalDate { unix_seconds: 999_999_000, zone_minutes: 60 },
        blob: BlobId(1),
    };
    let snapshot = Snapshot::empty(MailboxId(1), UidValidity(1), Uid(8), ModSeq(5)).with_messages([message]);
    let snapshot = Arc::new(snapshot);
    View { numbering: Arc::clone(&snapshot), latest: snapshot, recent_from: Uid(7), read_only: false }
}
