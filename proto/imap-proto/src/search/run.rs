//! A SEARCH at work: decides messages from the snapshot, then from digests, then from octets.

use super::criteria::Criteria;
use super::keys::{ReturnOptions, SearchProgram};
use super::octets::{Candidate, Progress, Scan};
use super::render::{self, Found};
use super::text::Haystack;
use crate::fetch::{
    BATCH_DIGEST_OCTETS_MAX, BATCH_MESSAGES_MAX, BATCH_OCTETS_MAX, DigestBatch, PIECE_OCTETS_MAX, RunStep,
};
use crate::question::{Answer, BodyRange, Question};
use crate::view::View;
use bytes::Bytes;
use mail::{ModSeq, Uid};
use message::digest::Digest;
use std::collections::VecDeque;

/// Most messages decided from the snapshot in one step.
const STEP_MESSAGES_MAX: u32 = 32_768;

/// A running SEARCH.
pub struct SearchRun {
    view: View,
    criteria: Criteria,
    returns: Option<ReturnOptions>,
    uses_modseq: bool,
    by_uid: bool,
    /// Which messages were found: a bit for each index of the numbering.
    found: Vec<u64>,
    /// The next index that the snapshot decides.
    place: u32,
    /// Where the next message probably stands in the newest snapshot.
    latest_hint: u32,
    /// Indices that the snapshot could not decide.
    undecided: VecDeque<u32>,
    digest_batch: DigestBatch,
    asked: Asked,
    digested: VecDeque<(Candidate, Option<Bytes>)>,
    ready: VecDeque<(Scan, u64, Option<Bytes>)>,
    /// The message that is read in pieces.
    large: Option<Scan>,
    haystack: Haystack,
    unreadable: u32,
    unavailable: bool,
}

#[derive(Default)]
enum Asked {
    #[default]
    Nothing,
    Digests(Vec<Candidate>),
    /// Each with the offset of the range asked for.
    Octets(VecDeque<(Scan, u64)>),
    /// From this offset on.
    Piece(u64, u64),
}

impl SearchRun {
    /// Prepares to search the messages that the client knows. `by_uid`: the command is UID SEARCH. `now_unix_seconds` is
    /// the time for OLDER and YOUNGER.
    pub fn new(view: &View, program: &SearchProgram, by_uid: bool, now_unix_seconds: i64) -> SearchRun {
        let criteria = Criteria::new(&program.key, view, now_unix_seconds);
        SearchRun {
            view: view.clone(),
            haystack: Haystack::new(criteria.needle_octets_max()),
            criteria,
            returns: program.returns,
            uses_modseq: program.uses_modseq,
            by_uid,
            found: vec![0; view.numbering.len() as usize / 64 + 1],
            place: 0,
            latest_hint: 0,
            undecided: VecDeque::new(),
            digest_batch: DigestBatch::default(),
            asked: Asked::Nothing,
            digested: VecDeque::new(),
            ready: VecDeque::new(),
            large: None,
            unreadable: 0,
            unavailable: false,
        }
    }

    /// How many messages could not be read; they were not found, whatever the criteria.
    pub fn unreadable(&self) -> u32 {
        self.unreadable
    }

    /// Whether the house could not answer and the run ended early: there is no result.
    pub fn unavailable(&self) -> bool {
        self.unavailable
    }

    /// The messages found, ascending, as sequence number and UID.
    pub fn results(&self) -> impl Iterator<Item = (u32, Uid)> + '_ {
        self.found().map(|found| (found.sequence, found.uid))
    }

    /// The highest mod-sequence of the messages found, where the criteria use MODSEQ and there are any.
    pub fn highest_mod_sequence(&self) -> Option<ModSeq> {
        if self.uses_modseq { self.found().map(|found| found.mod_sequence).max() } else { None }
    }

    /// Writes the response. `tag` is that of the command.
    pub fn render(&self, tag: &str, out: &mut Vec<u8>) {
        let found: Vec<Found> = self.found().collect();
        match self.returns {
            None => render::write_search(out, &found, self.by_uid, self.uses_modseq),
            Some(options) => render::write_esearch(out, tag, &found, self.by_uid, self.uses_modseq, options),
        }
    }

    fn found(&self) -> impl Iterator<Item = Found> + '_ {
        let is_found =
            |index: u32| self.found.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1);
        self.view.numbering.iter().zip(0..).filter(move |(_, index)| is_found(*index)).map(|(message, index)| Found {
            sequence: index + 1,
            uid: message.uid,
            mod_sequence: self.view.latest.by_uid(message.uid).unwrap_or(message).mod_sequence,
        })
    }

    /// The next step. Never fails; writes nothing.
    pub fn next(&mut self, _out: &mut Vec<u8>) -> RunStep {
        loop {
            if self.unavailable {
                return RunStep::Done;
            }
            if let Some(scan) = &self.large {
                if let Some(range) = scan.next_read(PIECE_OCTETS_MAX) {
                    let octets = range.end.saturating_sub(range.start);
                    self.asked = Asked::Piece(range.start, octets);
                    let blob = scan.candidate().message.blob;
                    return RunStep::Ask(Question::Read(vec![BodyRange { blob, start: range.start, octets }]));
                }
                self.conclude_large();
            } else if let Some((scan, start, octets)) = self.ready.pop_front() {
                self.search_ready(scan, start, octets);
            } else if !self.digested.is_empty() {
                if let Some(question) = self.plan_batch() {
                    return RunStep::Ask(question);
                }
            } else if self.place < self.view.numbering.len() {
                self.decide_from_snapshot();
                return RunStep::More;
            } else if !self.undecided.is_empty() {
                return RunStep::Ask(self.take_batch());
            } else {
                return RunStep::Done;
            }
        }
    }

    /// The answer to what the last step asked.
    pub fn answer(&mut self, answer: Answer) {
        match (std::mem::take(&mut self.asked), answer) {
            (Asked::Digests(batch), Answer::Digests(Ok(digests))) => {
                self.digest_batch.learn(&digests);
                self.digested = batch.into_iter().zip(digests.into_iter().chain(std::iter::repeat(None))).collect();
            }
            (Asked::Octets(batch), Answer::Bodies(Ok(bodies))) => {
                let bodies = bodies.into_iter().chain(std::iter::repeat(None));
                self.ready =
                    batch.into_iter().zip(bodies).map(|((scan, start), octets)| (scan, start, octets)).collect();
            }
            (Asked::Piece(start, wanted), Answer::Bodies(Ok(bodies))) => {
                self.piece(start, wanted, bodies.into_iter().next().flatten());
            }
            _ => self.unavailable = true,
        }
    }

    /// Decides as many messages as one step may, as far as the snapshot can.
    fn decide_from_snapshot(&mut self) {
        let numbering = std::sync::Arc::clone(&self.view.numbering);
        let first = self.place;
        for (message, index) in numbering.iter_from(first).zip(first..first.saturating_add(STEP_MESSAGES_MAX)) {
            self.place = index + 1;
            let latest = &self.view.latest;
            let expected = latest.get(self.latest_hint).filter(|newest| newest.uid == message.uid);
            let (message, from_latest) = match expected.or_else(|| latest.by_uid(message.uid)) {
                Some(newest) => (newest, true),
                None => (message, false),
            };
            let value = self.criteria.value(message, from_latest, &[]);
            self.latest_hint = match (expected.is_some(), from_latest) {
                (true, _) => self.latest_hint + 1,
                (false, true) => latest.index_of(message.uid).map_or(self.latest_hint, |at| at + 1),
                (false, false) => self.latest_hint,
            };
            match value {
                Some(true) => self.find(index),
                Some(false) => {}
                None => self.undecided.push_back(index),
            }
        }
    }

    fn find(&mut self, index: u32) {
        if let Some(word) = self.found.get_mut(index as usize / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Takes the next undecided messages and asks for their digests.
    fn take_batch(&mut self) -> Question {
        let mut batch = Vec::new();
        for index in self.undecided.drain(..self.digest_batch.messages().min(self.undecided.len())) {
            let Some(told) = self.view.numbering.get(index) else { continue };
            let newest = self.view.latest.by_uid(told.uid);
            let known = vec![None; self.criteria.lookups.len()];
            batch.push(Candidate { index, message: *newest.unwrap_or(told), from_latest: newest.is_some(), known });
        }
        let question = Question::Digests(batch.iter().map(|candidate| candidate.message.blob).collect());
        self.asked = Asked::Digests(batch);
        question
    }

    /// Decides messages from their digests until there is enough to read for those that stay undecided.
    fn plan_batch(&mut self) -> Option<Question> {
        let (mut ranges, mut batch) = (Vec::new(), VecDeque::new());
        let (mut octets, mut digest_octets) = (0u64, 0usize);
        // There is always room for one message more that is not large.
        while octets + PIECE_OCTETS_MAX <= BATCH_OCTETS_MAX
            && digest_octets < BATCH_DIGEST_OCTETS_MAX
            && batch.len() < BATCH_MESSAGES_MAX
        {
            let Some((candidate, encoded)) = self.digested.pop_front() else { break };
            let Some(scan) = self.decide_from_digest(candidate, encoded.as_deref()) else { continue };
            let Some(cover) = scan.cover() else {
                self.large = Some(scan);
                break;
            };
            let wanted = cover.end.saturating_sub(cover.start);
            if wanted > PIECE_OCTETS_MAX {
                self.large = Some(scan);
                break;
            }
            octets = octets.saturating_add(wanted);
            digest_octets = digest_octets.saturating_add(encoded.map_or(0, |encoded| encoded.len()));
            let blob = scan.candidate().message.blob;
            ranges.push(BodyRange { blob, start: cover.start, octets: wanted });
            batch.push_back((scan, cover.start));
        }
        if batch.is_empty() {
            return None;
        }
        self.asked = Asked::Octets(batch);
        Some(Question::Read(ranges))
    }

    /// Decides a message from its digest, or gives the search that will.
    fn decide_from_digest(&mut self, mut candidate: Candidate, encoded: Option<&[u8]>) -> Option<Scan> {
        let Some(digest) = encoded.and_then(Digest::decode) else {
            self.unreadable += 1;
            return None;
        };
        self.criteria.look_up(&digest, &mut candidate.known);
        match self.criteria.value(&candidate.message, candidate.from_latest, &candidate.known) {
            Some(true) => self.find(candidate.index),
            Some(false) => {}
            None => return Some(Scan::new(candidate, &self.criteria, &digest)),
        }
        None
    }

    /// Searches a message whose octets are at hand.
    fn search_ready(&mut self, mut scan: Scan, start: u64, octets: Option<Bytes>) {
        let Some(octets) = octets else {
            self.unreadable += 1;
            return;
        };
        let value = match scan.feed(&self.criteria, &mut self.haystack, start, &octets) {
            Progress::Decided(value) => value,
            // The message is shorter than its digest says: what is there was searched.
            Progress::More => scan.conclude(&self.criteria),
        };
        self.haystack.clear();
        if value {
            self.find(scan.candidate().index);
        }
    }

    /// Searches the next piece of the large message.
    fn piece(&mut self, start: u64, wanted: u64, octets: Option<Bytes>) {
        let (Some(scan), Some(octets)) = (&mut self.large, octets) else {
            self.large = None;
            self.haystack.clear();
            self.unreadable += 1;
            return;
        };
        match scan.feed(&self.criteria, &mut self.haystack, start, &octets) {
            Progress::Decided(value) => {
                let index = scan.candidate().index;
                self.large = None;
                if value {
                    self.find(index);
                }
            }
            // Shorter than its digest says: there is no more.
            Progress::More if (octets.len() as u64) < wanted => self.conclude_large(),
            Progress::More => {}
        }
    }

    fn conclude_large(&mut self) {
        if let Some(mut scan) = self.large.take()
            && scan.conclude(&self.criteria)
        {
            self.find(scan.candidate().index);
        }
        self.haystack.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::house::House;
    use crate::lexer::Lexer;
    use crate::search::parse;
    use mail::{Flags, Keyword};
    use std::sync::Arc;

    const ONE: &[u8] = b"From: Fred Foobar <fred@example.net>\r\nTo: \"Team, A\" <team@example.org>\r\n\
        Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n aus Berlin\r\nDate: Tue, 1 Feb 1994 23:30:00 -0800\r\n\
        Message-ID: <one@example.net>\r\nX-Odd: Value\r\n\r\nPlain body, in ASCII.\r\n";
    const TWO: &[u8] = b"From: b@example.com\r\nSubject: two\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=q\r\n\r\npreamble\r\n--q\r\n\
        Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        Stra=DFe und soft=\r\nbreak\r\n--q\r\nContent-Type: text/html; charset=utf-8\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nPGI+R3LDvMOfZTwvYj4=\r\n--q\r\nContent-Type: image/png; name=photo.png\r\n\
        Content-Transfer-Encoding: 7bit\r\n\r\nnot searched\r\n--q\r\nContent-Type: message/rfc822\r\n\r\n\
        Subject: inner subject\r\nFrom: inner@example.com\r\n\r\ninner body\r\n--q--\r\n";
    const THREE: &[u8] = b"Subject:\r\n\r\n";

    fn run(house: &mut House, text: &str) -> SearchRun {
        let mut lexer = Lexer::new(text.as_bytes());
        let program = parse(&mut lexer).unwrap();
        let mut run = SearchRun::new(&house.view, &program, false, 1_000_000);
        let (out, end) = house.drive(&mut run, SearchRun::next, SearchRun::answer);
        assert!(out.is_empty() && end == RunStep::Done);
        run
    }

    fn numbers(house: &mut House, text: &str) -> Vec<u32> {
        house.asked.clear();
        run(house, text).results().map(|(sequence, _)| sequence).collect()
    }

    fn house() -> House {
        House::new(&[ONE, TWO, THREE])
    }

    #[test]
    fn what_the_snapshot_knows_is_found_without_a_question() {
        let mut house = house();
        house.view.recent_from = Uid(30);
        house.edit(|latest| {
            latest.keywords = Arc::from([Keyword::parse("$Other").unwrap(), Keyword::parse("$Work").unwrap()]);
            latest.update(Uid(10), |message| {
                message.flags = Flags::FLAGGED;
                message.keywords = 2;
                message.mod_sequence = ModSeq(5_000);
            });
        });
        // The days of arrival are 2, 3 and 4 January 1970 at one o'clock, in a zone of one hour.
        for (text, expected) in [
            ("ALL", vec![1, 2, 3]),
            ("SEEN", vec![2]),
            ("UNSEEN", vec![1, 3]),
            ("FLAGGED", vec![1]),
            ("KEYWORD $work", vec![1]),
            ("UNKEYWORD $WORK", vec![2, 3]),
            ("KEYWORD $none", vec![]),
            ("RECENT", vec![3]),
            ("NEW", vec![3]),
            ("OLD", vec![1, 2]),
            ("2:*", vec![2, 3]),
            ("1,3,7", vec![1, 3]),
            ("UID 10:20,99", vec![1, 2]),
            ("UID 99:*", vec![3]),
            ("BEFORE 3-Jan-1970", vec![1]),
            ("ON 3-Jan-1970", vec![2]),
            ("SINCE 3-Jan-1970", vec![2, 3]),
            ("OLDER 827200", vec![1, 2]),
            ("YOUNGER 827200", vec![2, 3]),
            ("MODSEQ 3000", vec![1, 3]),
            ("LARGER 100", vec![1, 2]),
            ("SMALLER 100", vec![3]),
            ("NOT 2 NOT FLAGGED", vec![3]),
            ("OR 1 (2 SEEN)", vec![1, 2]),
            ("OR 1 TEXT x 1", vec![1]),
            ("TEXT \"\"", vec![1, 2, 3]),
        ] {
            assert_eq!(numbers(&mut house, text), expected, "{text}");
            assert!(house.asked.is_empty(), "{text}");
        }
    }

    #[test]
    fn envelope_fields_are_found_in_digests_alone() {
        let mut house = house();
        for (text, expected) in [
            ("FROM fred", vec![1]),
            ("FROM \"foobar <FRED@\"", vec![1]),
            ("TO \"team, a\"", vec![1]),
            ("CC x", vec![]),
            ("FROM \"\"", vec![1, 2]),
            ("SUBJECT \"GR\u{dc}\u{df}E aus\"", vec![1]),
            ("SUBJECT w", vec![2]),
            ("SUBJECT \"\"", vec![1, 2, 3]),
            ("HEADER Message-Id one@", vec![1]),
            ("HEADER message-id \"\"", vec![1]),
            ("HEADER in-reply-to \"\"", vec![]),
            ("SENTON 1-Feb-1994", vec![1]),
            ("SENTSINCE 2-Feb-1994", vec![]),
            ("SENTBEFORE 2-Feb-1994", vec![1]),
            ("NOT SENTBEFORE 2-Feb-1994", vec![2, 3]),
            ("FROM example NOT FROM fred", vec![2]),
            ("FROM nobody TEXT plain", vec![]),
        ] {
            assert_eq!(numbers(&mut house, text), expected, "{text}");
            assert!(matches!(house.asked.as_slice(), [Question::Digests(_)]), "{text}");
        }
    }

    #[test]
    fn octets_are_read_for_what_is_still_undecided() {
        let mut house = house();
        for (text, expected) in [
            ("HEADER X-Odd value", vec![1]),
            ("HEADER X-Odd \"\"", vec![1]),
            ("HEADER Subject \"gr\u{fc}\u{df}\"", vec![1]),
            ("NOT HEADER X-Odd value", vec![2, 3]),
            ("BODY \"BODY, in\"", vec![1]),
            ("BODY \"stra\u{df}e\"", vec![2]),
            ("BODY softbreak", vec![2]),
            ("BODY \"gr\u{fc}\u{df}e\"", vec![2]),
            ("TEXT \"gr\u{fc}\u{df}e\"", vec![1, 2]),
            ("BODY \"inner subject\"", vec![2]),
            ("BODY \"inner body\"", vec![2]),
            ("BODY photo.png", vec![2]),
            ("BODY \"not searched\"", vec![]),
            ("BODY preamble", vec![]),
            ("BODY x-odd", vec![]),
            ("TEXT x-odd", vec![1]),
            ("TEXT \"x-odd: value\"", vec![1]),
            ("TEXT example", vec![1, 2]),
            ("OR BODY plain BODY softbreak", vec![1, 2]),
            ("TEXT subject", vec![1, 2, 3]),
            ("NOT TEXT example", vec![3]),
            ("TEXT nowhere", vec![]),
            ("CHARSET UTF-8 TEXT \"STRA\u{df}E\"", vec![2]),
        ] {
            assert_eq!(numbers(&mut house, text), expected, "{text}");
            assert!(matches!(house.asked.as_slice(), [Question::Digests(_), Question::Read(_)]), "{text}");
        }
        numbers(&mut house, "SUBJECT two BODY inner");
        assert!(matches!(house.asked.as_slice(), [_, Question::Read(ranges)] if ranges.len() == 1));
    }

    #[test]
    fn large_messages_are_searched_in_pieces() {
        let line = b"The quick brown fox jumps over the lazy dog. \r\n";
        let mut body = b"Subject: large\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n".to_vec();
        body.extend(line.repeat(20_000));
        body.extend("K\u{e4}se zum Schlu\u{df}".as_bytes());
        let long =
            [b"X-Long: ".to_vec(), b"a b c\r\n ".repeat(60_000), b"end\r\nX-Last: here\r\n\r\nbody\r\n".to_vec()]
                .concat();
        let mut house = House::new(&[&body, &long, ONE]);
        for (text, expected) in [
            ("BODY \"LAZY DOG. \"", vec![1]),
            ("BODY \"k\u{e4}se\"", vec![1]),
            ("TEXT \"large\"", vec![1]),
            ("BODY unheard", vec![]),
            ("HEADER X-Last here", vec![2]),
            ("HEADER X-Long end", vec![]),
            ("NOT TEXT fox", vec![2, 3]),
            ("BODY body", vec![2, 3]),
            ("TEXT x-last", vec![2]),
        ] {
            assert_eq!(numbers(&mut house, text), expected, "{text}");
            let fits = |question: &Question| match question {
                Question::Read(ranges) => ranges.iter().map(|range| range.octets).sum::<u64>() <= PIECE_OCTETS_MAX,
                _ => true,
            };
            assert!(house.asked.iter().all(fits), "{text}");
        }
        // What is found early ends the reading.
        numbers(&mut house, "1 TEXT \"subject: large\"");
        assert_eq!(house.asked.len(), 2);
    }

    #[test]
    fn needles_are_found_wherever_pieces_meet() {
        let mut body = b"Subject: x\r\n\r\n".to_vec();
        body.resize(PIECE_OCTETS_MAX as usize * 2 + 5, b'.');
        for at in [PIECE_OCTETS_MAX as usize, 14 + 32 * 1_024, 14 + PIECE_OCTETS_MAX as usize] {
            for shift in 0..8 {
                let mut body = body.clone();
                body[at - shift..at - shift + 7].copy_from_slice(b"NeEdLe!");
                let mut house = House::new(&[&body]);
                assert_eq!(numbers(&mut house, "BODY needle!"), [1], "{at} {shift}");
            }
        }
    }

    #[test]
    fn batches_are_bounded() {
        let body = [b"A: b\r\n\r\n".to_vec(), vec![b'x'; 10_000]].concat();
        let bodies: Vec<&[u8]> = std::iter::repeat_n(body.as_slice(), 600).collect();
        let mut house = House::new(&bodies);
        assert_eq!(numbers(&mut house, "BODY xxx").len(), 600);
        for question in &house.asked {
            match question {
                Question::Digests(blobs) => assert!(blobs.len() <= BATCH_MESSAGES_MAX),
                Question::Read(ranges) => {
                    assert!(ranges.len() <= BATCH_MESSAGES_MAX);
                    assert!(ranges.iter().map(|range| range.octets).sum::<u64>() <= BATCH_OCTETS_MAX);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(house.asked.len() < 15, "{}", house.asked.len());
    }

    #[test]
    fn what_cannot_be_read_is_not_found_and_counted() {
        let large = [b"A: b\r\n\r\n".to_vec(), vec![b'x'; 700_000]].concat();
        let mut house = House::new(&[ONE, TWO, &large]);
        house.lost = vec![2, 3];
        let run = run(&mut house, "NOT TEXT nowhere");
        assert_eq!(run.results().collect::<Vec<_>>(), [(1, Uid(10))]);
        assert_eq!((run.unreadable(), run.unavailable()), (2, false));
        for unavailable_from in [0, 1] {
            house.asked.clear();
            house.unavailable_from = unavailable_from;
            assert!(super::tests::run(&mut house, "TEXT a").unavailable());
        }
    }

    #[test]
    fn responses_are_rendered() {
        let mut house = house();
        let rendered = |house: &mut House, text: &str| {
            let mut out = Vec::new();
            run(house, text).render("a1", &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(rendered(&mut house, "UNSEEN"), "* SEARCH 1 3\r\n");
        assert_eq!(rendered(&mut house, "MODSEQ 2000"), "* SEARCH 2 3 (MODSEQ 3000)\r\n");
        assert_eq!(rendered(&mut house, "RETURN (ALL COUNT) 1:2"), "* ESEARCH (TAG \"a1\") ALL 1:2 COUNT 2\r\n");
        assert_eq!(rendered(&mut house, "DELETED"), "* SEARCH\r\n");
        let modseq = run(&mut house, "MODSEQ 1");
        assert_eq!(modseq.highest_mod_sequence(), Some(ModSeq(3_000)));
    }

    #[test]
    fn v27_messages_cut_at_every_offset_are_searched() {
        for end in 0..TWO.len() {
            let mut house = House::new(&[&TWO[..end]]);
            let found = run(&mut house, "OR BODY nowhere TEXT \"subject: two\"").results().count();
            assert_eq!(found, usize::from(end >= TWO.windows(3).position(|w| w == b"two").unwrap() + 3), "{end}");
        }
    }

    #[test]
    fn v25_a_message_of_many_parts_is_searched_with_few_questions() {
        let mut body = b"Content-Type: multipart/mixed; boundary=q\r\n\r\n".to_vec();
        for number in 0..900 {
            body.extend(format!("--q\r\nX-Number: {number}\r\n\r\npart {number} {}\r\n", "x".repeat(500)).bytes());
        }
        body.extend(b"--q--\r\n");
        let mut house = House::new(&[&body]);
        assert_eq!(numbers(&mut house, "BODY \"part 899 \" BODY \"x-number: 512\" NOT BODY \"part 900\""), [1]);
        assert!(house.asked.len() < 6, "{}", house.asked.len());
    }
}
