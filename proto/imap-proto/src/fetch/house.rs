//! A house of a few messages, to test runs against: answers what they ask, and counts how often.

use super::run::RunStep;
use crate::question::{Answer, BodyRange, Question, Unavailable};
use crate::view::View;
use bytes::Bytes;
use mail::{BlobId, Flags, InternalDate, Keyword, MailboxId, Message, ModSeq, Snapshot, Uid, UidValidity};
use message::scan::Scanner;
use std::sync::Arc;

/// Messages, UIDs 10, 20, 30 …; sequence number, blob and thousandth of the mod-sequence count from 1.
pub struct House {
    /// The messages' octets.
    pub bodies: Vec<Bytes>,
    /// Blobs that cannot be read.
    pub lost: Vec<u64>,
    /// From this question on, the house cannot answer.
    pub unavailable_from: usize,
    /// The questions asked.
    pub asked: Vec<Question>,
    /// The view of them.
    pub view: View,
}

impl House {
    pub fn new(bodies: &[&[u8]]) -> House {
        let message = |(index, body): (usize, &&[u8])| {
            let number = index as u64 + 1;
            Message {
                uid: Uid(number as u32 * 10),
                flags: if number.is_multiple_of(2) { Flags::SEEN } else { Flags::NONE },
                keywords: 0,
                mod_sequence: ModSeq(number * 1_000),
                size_octets: body.len() as u32,
                internal_date: InternalDate { unix_seconds: 86_400 * number as i64, zone_minutes: 60 },
                blob: BlobId(number),
            }
        };
        let mut snapshot = Snapshot::empty(MailboxId(1), UidValidity(1), Uid(1_000_000), ModSeq(1_000_000))
            .with_messages(bodies.iter().enumerate().map(message));
        snapshot.keywords = Arc::from([Keyword::parse("$Work").unwrap()]);
        let snapshot = Arc::new(snapshot);
        House {
            bodies: bodies.iter().map(|body| Bytes::copy_from_slice(body)).collect(),
            lost: Vec::new(),
            unavailable_from: usize::MAX,
            asked: Vec::new(),
            view: View {
                numbering: Arc::clone(&snapshot),
                latest: snapshot,
                recent_from: Uid(1_000_000),
                read_only: false,
            },
        }
    }

    /// Edits the newest picture.
    pub fn edit(&mut self, edit: impl FnOnce(&mut Snapshot)) {
        edit(Arc::make_mut(&mut self.view.latest));
    }

    fn body(&self, blob: BlobId) -> Option<&Bytes> {
        if self.lost.contains(&blob.0) { None } else { self.bodies.get(blob.0 as usize - 1) }
    }

    fn read(&self, range: &BodyRange) -> Option<Bytes> {
        let body = self.body(range.blob)?;
        let start = (range.start as usize).min(body.len());
        let end = (range.start as usize + range.octets as usize).min(body.len());
        Some(body.slice(start..end))
    }

    fn digest(&self, blob: BlobId) -> Option<Bytes> {
        let mut scanner = Scanner::new();
        scanner.write(self.body(blob)?);
        Some(scanner.finish(b"").encode().into())
    }

    fn answer(&mut self, question: Question) -> Answer {
        self.asked.push(question.clone());
        let unavailable = self.asked.len() > self.unavailable_from;
        match question {
            Question::Digests(_) if unavailable => Answer::Digests(Err(Unavailable)),
            Question::Read(_) if unavailable => Answer::Bodies(Err(Unavailable)),
            Question::Digests(blobs) => Answer::Digests(Ok(blobs.iter().map(|blob| self.digest(*blob)).collect())),
            Question::Read(ranges) => Answer::Bodies(Ok(ranges.iter().map(|range| self.read(range)).collect())),
            other => panic!("{other:?}"),
        }
    }

    /// Drives a run to its end. Gives what it wrote, and how it ended.
    pub fn drive<R>(
        &mut self,
        run: &mut R,
        next: impl Fn(&mut R, &mut Vec<u8>) -> RunStep,
        answer: impl Fn(&mut R, Answer),
    ) -> (Vec<u8>, RunStep) {
        let mut all = Vec::new();
        loop {
            let mut out = Vec::new();
            let step = next(run, &mut out);
            assert!(out.len() <= 1_200_000, "{}", out.len());
            all.extend_from_slice(&out);
            match step {
                RunStep::Ask(question) => answer(run, self.answer(question)),
                RunStep::More => {}
                end => return (all, end),
            }
        }
    }
}
