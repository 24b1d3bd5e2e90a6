//! A FETCH at work: takes messages in batches, asks for what it needs of them, and writes the responses.
//!
//! What the snapshot knows is written without asking anything. Digests are asked for many messages at once, then the
//! octets of many messages at once; a message of which much is wanted is read and written in pieces by
//! [`LargeResponse`].

use super::header_filter::Choice;
use super::items::{FetchItems, Item, SectionText};
use super::large::{LargeResponse, LargeStep};
use super::plan::{self, Source, Taken};
use super::response::{Octets, Response};
use crate::question::{Answer, BodyRange, Question};
use crate::view::View;
use bytes::Bytes;
use mail::{Uid, UidSet};
use message::digest::Digest;
use std::collections::VecDeque;
use std::ops::Range;

/// Most messages whose digests or octets are asked for at once.
pub const BATCH_MESSAGES_MAX: usize = 256;
/// Most octets of messages asked for at once.
pub const BATCH_OCTETS_MAX: u64 = 1_024 * 1_024;
/// Most octets of encoded digests that are held decoded at once; a first one beyond it is held alone (V25).
pub const BATCH_DIGEST_OCTETS_MAX: usize = 256 * 1_024;
/// Most octets of one message asked for at once; more is read and written in pieces of this size.
pub const PIECE_OCTETS_MAX: u64 = 256 * 1_024;
/// The output is handed on when it has grown by so many octets.
pub const PORTION_OCTETS: usize = 64 * 1_024;

/// Octets of encoded digests that one question is meant to bring at most. What a digest takes is only known afterwards,
/// so that the size of a batch follows that of the batch before (V25).
const QUESTION_DIGEST_OCTETS: usize = 4 * 1_024 * 1_024;

/// How many digests to ask for at once.
#[derive(Debug, Clone, Copy)]
pub struct DigestBatch {
    messages: usize,
}

impl Default for DigestBatch {
    fn default() -> DigestBatch {
        DigestBatch { messages: 64 }
    }
}

impl DigestBatch {
    /// How many messages the next batch may have.
    pub fn messages(self) -> usize {
        self.messages
    }

    /// Learns from the last batch.
    pub fn learn(&mut self, digests: &[Option<Bytes>]) {
        let octets: usize = digests.iter().flatten().map(Bytes::len).sum();
        let mean = octets / digests.len().max(1) + 1;
        self.messages = (QUESTION_DIGEST_OCTETS / mean).clamp(4, BATCH_MESSAGES_MAX);
    }
}

/// What a running FETCH or SEARCH wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunStep {
    /// The answer to this question, by `answer`, before the next step.
    Ask(Question),
    /// Another step; what was written meanwhile, perhaps nothing, may be sent first.
    More,
    /// Nothing: the tagged reply may follow.
    Done,
    /// The end of the connection: a literal was begun whose rest cannot be read. No reply can repair that.
    Failed,
}

/// A running FETCH.
#[derive(Debug)]
pub struct FetchRun {
    response: Response,
    changed_since: Option<mail::ModSeq>,
    needs_digest: bool,
    needs_octets: bool,
    view: View,
    targets: Vec<(u32, Uid)>,
    /// Index of the first target that was not taken yet.
    place: usize,
    /// Where the next message probably stands in the newest snapshot.
    latest_hint: u32,
    /// What was asked and not answered yet.
    asked: Asked,
    digest_batch: DigestBatch,
    /// Taken messages with their encoded digests, which await planning.
    digested: VecDeque<(Taken, Option<Bytes>)>,
    /// Messages of which everything is at hand.
    ready: VecDeque<Planned>,
    /// The message that is written in pieces.
    large: Option<LargeResponse>,
    unreadable: u32,
    expunged: u32,
    unavailable: bool,
    failed: bool,
}

#[derive(Debug, Default)]
enum Asked {
    #[default]
    Nothing,
    Digests(Vec<Taken>),
    /// One range for each of these whose cover is not empty.
    Octets(VecDeque<Planned>),
    Piece,
}

/// A message, what is wanted of it, and that once it is read.
#[derive(Debug)]
struct Planned {
    taken: Taken,
    digest: Option<Digest>,
    sources: Vec<Source>,
    cover: Option<Range<u64>>,
    octets: Option<Bytes>,
}

impl FetchRun {
    /// Prepares to answer `items` for the messages of `targets`, pairs of sequence number and UID as the client knows
    /// them. `uid_command` adds UID to each response. Messages of `announce_flags` get FLAGS whether asked or not,
    /// because the command itself changed them, with MODSEQ for a client that knows mod-sequences (`condstore`).
    pub fn new(
        items: FetchItems,
        view: &View,
        targets: Vec<(u32, Uid)>,
        uid_command: bool,
        announce_flags: UidSet,
        condstore: bool,
    ) -> FetchRun {
        let (needs_digest, needs_octets) = (items.needs_digest(), items.needs_octets());
        let mut order = items.items;
        // RFC 3501 §6.4.8: UID FETCH gives the UID, asked for or not.
        if uid_command && !order.contains(&Item::Uid) {
            order.insert(0, Item::Uid);
        }
        let choices = order.iter().map(choice).collect();
        FetchRun {
            response: Response { items: order, choices, announce_flags, condstore },
            changed_since: items.changed_since,
            needs_digest,
            needs_octets,
            view: view.clone(),
            targets,
            place: 0,
            latest_hint: 0,
            asked: Asked::Nothing,
            digest_batch: DigestBatch::default(),
            digested: VecDeque::new(),
            ready: VecDeque::new(),
            large: None,
            unreadable: 0,
            expunged: 0,
            unavailable: false,
            failed: false,
        }
    }

    /// How many messages could not be read, wholly or in part, though they still exist.
    pub fn unreadable(&self) -> u32 {
        self.unreadable
    }

    /// How many messages could not be read, wholly or in part, because they were expunged meanwhile.
    pub fn expunged(&self) -> u32 {
        self.expunged
    }

    /// Whether the house could not answer and the run ended early.
    pub fn unavailable(&self) -> bool {
        self.unavailable
    }

    /// The next step; what it writes is appended to `out`.
    pub fn next(&mut self, out: &mut Vec<u8>) -> RunStep {
        let start = out.len();
        loop {
            if self.failed {
                return RunStep::Failed;
            }
            if self.unavailable && self.large.is_none() {
                return RunStep::Done;
            }
            if out.len() - start >= PORTION_OCTETS {
                return RunStep::More;
            }
            if let Some(large) = &mut self.large {
                match large.next(&self.response, &self.view, out) {
                    LargeStep::Ask(range) => {
                        self.asked = Asked::Piece;
                        return RunStep::Ask(Question::Read(vec![range]));
                    }
                    LargeStep::More => {}
                    LargeStep::Written { taken, whole } => {
                        self.large = None;
                        self.count(taken, whole);
                    }
                    LargeStep::Broken => self.failed = true,
                }
            } else if let Some(planned) = self.ready.pop_front() {
                self.write_planned(out, &planned);
            } else if self.needs_octets && !self.digested.is_empty() {
                if let Some(question) = self.plan_batch() {
                    return RunStep::Ask(question);
                }
            } else if let Some((taken, encoded)) = self.digested.pop_front() {
                self.write_digested(out, taken, encoded);
            } else if !self.needs_digest && !self.needs_octets {
                return self.write_from_snapshot(out);
            } else if self.place < self.targets.len() {
                if let Some(question) = self.take_batch() {
                    return RunStep::Ask(question);
                }
            } else {
                return RunStep::Done;
            }
        }
    }

    /// The answer to what the last step asked.
    pub fn answer(&mut self, answer: Answer) {
        match (std::mem::take(&mut self.asked), answer) {
            (Asked::Digests(taken), Answer::Digests(Ok(digests))) => {
                self.digest_batch.learn(&digests);
                self.digested = taken.into_iter().zip(digests.into_iter().chain(std::iter::repeat(None))).collect();
            }
            (Asked::Octets(planned), Answer::Bodies(Ok(bodies))) => {
                let mut bodies = bodies.into_iter();
                self.ready = planned;
                for planned in self.ready.iter_mut().filter(|planned| planned.cover.is_some()) {
                    planned.octets = bodies.next().flatten();
                }
            }
            (Asked::Piece, Answer::Bodies(Ok(bodies))) => self.piece(bodies.into_iter().next().flatten()),
            (asked, _) => {
                // The house cannot answer. A response that was begun is still ended as well as can be.
                self.unavailable = true;
                if matches!(asked, Asked::Piece) {
                    self.piece(None);
                }
            }
        }
    }

    fn piece(&mut self, octets: Option<Bytes>) {
        if let Some(large) = &mut self.large {
            large.answer(octets);
        }
    }

    /// The path without questions: a portion of responses from the snapshot alone.
    fn write_from_snapshot(&mut self, out: &mut Vec<u8>) -> RunStep {
        let start = out.len();
        while let Some((sequence, uid)) = self.targets.get(self.place).copied() {
            self.place += 1;
            if let Some(taken) = self.take(sequence, uid) {
                self.response.write(out, &self.view, &taken, None, &[], Octets::NONE);
            }
            if out.len() - start >= PORTION_OCTETS {
                return RunStep::More;
            }
        }
        RunStep::Done
    }

    /// A target as the snapshots know it; `None` where they do not, or where CHANGEDSINCE leaves it out.
    fn take(&mut self, sequence: u32, uid: Uid) -> Option<Taken> {
        let latest = &self.view.latest;
        let expected = latest.get(self.latest_hint).filter(|message| message.uid == uid);
        let taken = if let Some(message) = expected {
            self.latest_hint += 1;
            Taken { sequence, message: *message, from_latest: true }
        } else if let Some(index) = latest.index_of(uid) {
            self.latest_hint = index + 1;
            Taken { sequence, message: *latest.get(index)?, from_latest: true }
        } else {
            Taken { sequence, message: *self.view.numbering.by_uid(uid)?, from_latest: false }
        };
        // RFC 7162 §3.1.4.1: only mod-sequences above the one given.
        self.changed_since.is_none_or(|since| taken.message.mod_sequence > since).then_some(taken)
    }

    /// Takes the next messages and asks for their digests, if any are needed.
    fn take_batch(&mut self) -> Option<Question> {
        let mut batch = Vec::new();
        let messages_max = if self.needs_digest { self.digest_batch.messages() } else { BATCH_MESSAGES_MAX };
        while batch.len() < messages_max
            && let Some((sequence, uid)) = self.targets.get(self.place).copied()
        {
            self.place += 1;
            batch.extend(self.take(sequence, uid));
        }
        if batch.is_empty() {
            return None;
        }
        if self.needs_digest {
            let question = Question::Digests(batch.iter().map(|taken| taken.message.blob).collect());
            self.asked = Asked::Digests(batch);
            return Some(question);
        }
        self.digested = batch.into_iter().map(|taken| (taken, None)).collect();
        None
    }

    /// Writes a message of which only the digest was needed.
    fn write_digested(&mut self, out: &mut Vec<u8>, taken: Taken, encoded: Option<Bytes>) {
        let digest = encoded.and_then(|encoded| Digest::decode(&encoded));
        let whole = self.response.write(out, &self.view, &taken, digest.as_ref(), &[], Octets::NONE);
        self.count(taken, whole);
    }

    /// Works out what to read of the next messages and asks for it, if anything is needed.
    fn plan_batch(&mut self) -> Option<Question> {
        let (mut ranges, mut batch) = (Vec::new(), VecDeque::new());
        let (mut octets, mut digest_octets) = (0u64, 0usize);
        while let Some((taken, encoded)) = self.digested.front() {
            let encoded_octets = encoded.as_ref().map_or(0, Bytes::len);
            if !batch.is_empty() && digest_octets.saturating_add(encoded_octets) > BATCH_DIGEST_OCTETS_MAX {
                break;
            }
            let taken = *taken;
            let digest = encoded.as_ref().and_then(|encoded| Digest::decode(encoded));
            let sources = plan::sources(&self.response.items, &taken.message, digest.as_ref());
            let cover = plan::cover(&sources);
            let wanted = cover.as_ref().map_or(0, |range| range.end.saturating_sub(range.start));
            if wanted > PIECE_OCTETS_MAX {
                if batch.is_empty() {
                    self.digested.pop_front();
                    self.large = Some(LargeResponse::new(taken, digest, sources));
                    return None;
                }
                break;
            }
            if octets.saturating_add(wanted) > BATCH_OCTETS_MAX {
                break;
            }
            self.digested.pop_front();
            octets += wanted;
            digest_octets += encoded_octets;
            let range = |cover: &Range<u64>| BodyRange { blob: taken.message.blob, start: cover.start, octets: wanted };
            ranges.extend(cover.as_ref().map(range));
            batch.push_back(Planned { taken, digest, sources, cover, octets: None });
        }
        if ranges.is_empty() {
            self.ready = batch;
            return None;
        }
        self.asked = Asked::Octets(batch);
        Some(Question::Read(ranges))
    }

    fn write_planned(&mut self, out: &mut Vec<u8>, planned: &Planned) {
        let start = planned.cover.as_ref().map_or(0, |cover| cover.start);
        let octets = Octets { start, octets: planned.octets.as_deref() };
        let (taken, digest) = (planned.taken, planned.digest.as_ref());
        let whole = self.response.write(out, &self.view, &taken, digest, &planned.sources, octets);
        self.count(taken, whole);
    }

    /// Counts a message that could not be given whole.
    fn count(&mut self, taken: Taken, whole: bool) {
        if whole {
            return;
        }
        if taken.from_latest { self.unreadable += 1 } else { self.expunged += 1 }
    }
}

/// The fields that an item chooses, if it does.
fn choice(item: &Item) -> Option<Choice> {
    match item {
        Item::Section(section) => match &section.section.text {
            SectionText::HeaderFields { not, names } => Some(Choice::new(names, *not)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::house::House;
    use super::super::items;
    use super::*;
    use crate::lexer::Lexer;
    use mail::Flags;
    use std::sync::Arc;

    const PLAIN: &[u8] = b"From: Fred <fred@example.net>\r\nTo: a@example.org\r\nSubject: Hi\r\n\r\nHello\r\nworld\r\n";
    const MIXED: &[u8] =
        b"From: x@example.net\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
        pre\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: image/gif\r\n\r\nGIF\r\n--b--\r\n";

    struct Fetched {
        text: String,
        end: RunStep,
        run: FetchRun,
    }

    fn fetch_with(house: &mut House, text: &str, uid_command: bool, announce: UidSet, condstore: bool) -> Fetched {
        let items = items::parse(&mut Lexer::new(text.as_bytes())).unwrap();
        let targets = house.view.numbering.iter().zip(1..).map(|(message, number)| (number, message.uid)).collect();
        let view = house.view.clone();
        let mut run = FetchRun::new(items, &view, targets, uid_command, announce, condstore);
        let (out, end) = house.drive(&mut run, FetchRun::next, FetchRun::answer);
        Fetched { text: String::from_utf8_lossy(&out).into_owned(), end, run }
    }

    fn fetch(house: &mut House, text: &str) -> String {
        let fetched = fetch_with(house, text, false, UidSet::new(), false);
        assert_eq!(fetched.end, RunStep::Done);
        fetched.text
    }

    #[test]
    fn what_the_snapshot_knows_is_written_without_a_question() {
        let mut house = House::new(&[PLAIN, MIXED]);
        assert_eq!(
            fetch(&mut house, "(UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ)"),
            format!(
                "* 1 FETCH (UID 10 FLAGS () INTERNALDATE \" 2-Jan-1970 01:00:00 +0100\" RFC822.SIZE {} MODSEQ (1000))\r\n\
                 * 2 FETCH (UID 20 FLAGS (\\Seen) INTERNALDATE \" 3-Jan-1970 01:00:00 +0100\" RFC822.SIZE {} MODSEQ (2000))\r\n",
                PLAIN.len(),
                MIXED.len()
            )
        );
        assert!(house.asked.is_empty());
    }

    #[test]
    fn uid_fetch_gives_the_uid_and_changed_flags_are_announced() {
        let mut house = House::new(&[PLAIN, PLAIN]);
        house.view.recent_from = Uid(20);
        let announce: UidSet = [Uid(20)].into_iter().collect();
        let text = fetch_with(&mut house, "RFC822.SIZE", true, announce.clone(), true).text;
        assert_eq!(
            text,
            format!(
                "* 1 FETCH (UID 10 RFC822.SIZE {0})\r\n\
                 * 2 FETCH (UID 20 RFC822.SIZE {0} FLAGS (\\Seen \\Recent) MODSEQ (2000))\r\n",
                PLAIN.len()
            )
        );
        let text = fetch_with(&mut house, "(FLAGS)", false, announce, false).text;
        assert_eq!(text, "* 1 FETCH (FLAGS ())\r\n* 2 FETCH (FLAGS (\\Seen \\Recent))\r\n");
    }

    #[test]
    fn changedsince_leaves_out_what_did_not_change() {
        let mut house = House::new(&[PLAIN, PLAIN, PLAIN]);
        house.edit(|latest| {
            latest.update(Uid(10), |message| {
                message.mod_sequence = mail::ModSeq(9_000);
                message.flags = Flags::FLAGGED;
                message.keywords = 1;
            });
        });
        assert_eq!(
            fetch(&mut house, "(FLAGS) (CHANGEDSINCE 2000)"),
            "* 1 FETCH (FLAGS (\\Flagged $Work) MODSEQ (9000))\r\n* 3 FETCH (FLAGS () MODSEQ (3000))\r\n"
        );
    }

    #[test]
    fn sections_are_cut_from_one_read_per_message() {
        let mut house = House::new(&[PLAIN]);
        let text = fetch(
            &mut house,
            "(BODY[HEADER.FIELDS (subject)] BODY[TEXT]<0.5> BODY[1]<7.100> BODY[]<1000.10> BODY[2] BODY[HEADER]<3.4>)",
        );
        assert_eq!(
            text,
            "* 1 FETCH (BODY[HEADER.FIELDS (subject)] {15}\r\nSubject: Hi\r\n\r\n BODY[TEXT]<0> {5}\r\nHello \
             BODY[1]<7> {7}\r\nworld\r\n BODY[]<1000> {0}\r\n BODY[2] NIL BODY[HEADER]<3> {4}\r\nm: F)\r\n"
        );
        assert!(matches!(house.asked.as_slice(), [Question::Digests(_), Question::Read(ranges)] if ranges.len() == 1));
    }

    #[test]
    fn parts_of_a_multipart_are_found() {
        let mut house = House::new(&[MIXED]);
        assert_eq!(
            fetch(
                &mut house,
                "(BODY.PEEK[1] BODY.PEEK[2] BODY.PEEK[2.MIME] BODY.PEEK[3] BODY.PEEK[HEADER.FIELDS.NOT (from)])"
            ),
            "* 1 FETCH (BODY[1] {3}\r\none BODY[2] {3}\r\nGIF BODY[2.MIME] {27}\r\nContent-Type: image/gif\r\n\r\n \
             BODY[3] NIL BODY[HEADER.FIELDS.NOT (from)] {64}\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/mixed; boundary=b\r\n\r\n)\r\n"
        );
    }

    #[test]
    fn a_whole_message_needs_no_digest() {
        let mut house = House::new(&[PLAIN, MIXED]);
        let text = fetch(&mut house, "(RFC822)");
        let expected = format!(
            "* 1 FETCH (RFC822 {{{}}}\r\n{})\r\n* 2 FETCH (RFC822 {{{}}}\r\n{})\r\n",
            PLAIN.len(),
            String::from_utf8_lossy(PLAIN),
            MIXED.len(),
            String::from_utf8_lossy(MIXED)
        );
        assert_eq!(text, expected);
        assert!(matches!(house.asked.as_slice(), [Question::Read(ranges)] if ranges.len() == 2));
    }

    #[test]
    fn envelopes_and_structures_come_from_digests_alone() {
        let mut house = House::new(&[PLAIN, MIXED]);
        let text = fetch(&mut house, "(ENVELOPE BODY)");
        assert_eq!(
            text,
            "* 1 FETCH (ENVELOPE (NIL \"Hi\" ((\"Fred\" NIL \"fred\" \"example.net\")) ((\"Fred\" NIL \"fred\" \"example.net\")) \
             ((\"Fred\" NIL \"fred\" \"example.net\")) ((NIL NIL \"a\" \"example.org\")) NIL NIL NIL NIL) \
             BODY (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 14 2))\r\n\
             * 2 FETCH (ENVELOPE (NIL NIL ((NIL NIL \"x\" \"example.net\")) ((NIL NIL \"x\" \"example.net\")) \
             ((NIL NIL \"x\" \"example.net\")) NIL NIL NIL NIL NIL) \
             BODY ((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 3 0)\
             (\"image\" \"gif\" NIL NIL NIL \"7bit\" 3) \"mixed\"))\r\n"
        );
        assert_eq!(house.asked.len(), 1);
    }

    #[test]
    fn batches_are_bounded() {
        let body = [b"A: b\r\n\r\n".to_vec(), vec![b'x'; 10_000]].concat();
        let bodies: Vec<&[u8]> = std::iter::repeat_n(body.as_slice(), 600).collect();
        let mut house = House::new(&bodies);
        let text = fetch(&mut house, "(BODY.PEEK[TEXT])");
        assert_eq!(text.matches("BODY[TEXT] {10000}").count(), 600);
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
    fn a_large_message_comes_in_pieces() {
        let header = [b"Subject: large\r\n".to_vec(), b"X-Filler: yes\r\n".repeat(30_000), b"\r\n".to_vec()].concat();
        let body = [header.clone(), vec![b'z'; 700_000]].concat();
        let mut house = House::new(&[PLAIN, &body, PLAIN]);
        let text = fetch(
            &mut house,
            "(UID BODY.PEEK[]<5.600000> BODY.PEEK[HEADER.FIELDS (subject)] BODY.PEEK[HEADER.FIELDS.NOT (subject)]<3.9> \
             BODY.PEEK[2] BODY.PEEK[TEXT] FLAGS)",
        );
        let expected = format!(
            "* 2 FETCH (UID 20 BODY[]<5> {{600000}}\r\n{} BODY[HEADER.FIELDS (subject)] {{18}}\r\nSubject: large\r\n\r\n \
             BODY[HEADER.FIELDS.NOT (subject)]<3> {{9}}\r\niller: ye BODY[2] NIL BODY[TEXT] {{700000}}\r\n{} FLAGS (\\Seen))\r\n",
            String::from_utf8_lossy(&body[5..600_005]),
            "z".repeat(700_000)
        );
        assert!(text.contains(&expected));
        assert!(text.starts_with("* 1 FETCH (UID 10") && text.contains("\r\n* 3 FETCH (UID 30"));
        assert!(house.asked.iter().all(|question| match question {
            Question::Read(ranges) => ranges.iter().map(|range| range.octets).sum::<u64>() <= PIECE_OCTETS_MAX,
            _ => true,
        }));
    }

    #[test]
    fn what_cannot_be_read_is_nil_and_counted() {
        let large = vec![b'z'; 700_000];
        let mut house = House::new(&[PLAIN, PLAIN, &large, PLAIN]);
        house.lost = vec![2, 3, 4];
        house.edit(|latest| {
            latest.remove(&[Uid(40)].into_iter().collect());
        });
        let fetched = fetch_with(&mut house, "(ENVELOPE BODY.PEEK[1])", false, UidSet::new(), false);
        assert_eq!(fetched.end, RunStep::Done);
        assert!(
            fetched.text.contains("* 2 FETCH (BODY[1] NIL)\r\n* 3 FETCH (BODY[1] NIL)\r\n* 4 FETCH (BODY[1] NIL)\r\n")
        );
        assert_eq!((fetched.run.unreadable(), fetched.run.expunged()), (2, 1));
        let fetched = fetch_with(&mut house, "(ENVELOPE)", false, UidSet::new(), false);
        assert_eq!(fetched.text.lines().count(), 1);
        let fetched = fetch_with(&mut house, "(UID BODY.PEEK[])", false, UidSet::new(), false);
        assert!(fetched.text.contains("* 3 FETCH (UID 30 BODY[] NIL)\r\n"));
        assert_eq!((fetched.run.unreadable(), fetched.run.expunged(), fetched.run.unavailable()), (2, 1, false));
    }

    #[test]
    fn a_literal_that_cannot_be_completed_ends_the_connection() {
        let large = vec![b'z'; 700_000];
        let mut house = House::new(&[&large]);
        house.unavailable_from = 2;
        let fetched = fetch_with(&mut house, "BODY.PEEK[]", false, UidSet::new(), false);
        assert_eq!(fetched.end, RunStep::Failed);
        assert!(fetched.text.len() < 700_000);
        // A message that is shorter than its size says is no less broken.
        let mut house = House::new(&[&large]);
        house.bodies = vec![Bytes::from(vec![b'z'; 500_000])];
        assert_eq!(fetch_with(&mut house, "BODY.PEEK[]", false, UidSet::new(), false).end, RunStep::Failed);
    }

    #[test]
    fn an_unavailable_house_ends_the_run_early() {
        let mut house = House::new(&[PLAIN, PLAIN]);
        for unavailable_from in [0, 1] {
            house.unavailable_from = unavailable_from;
            house.asked.clear();
            let fetched = fetch_with(&mut house, "BODY.PEEK[TEXT]", false, UidSet::new(), false);
            assert_eq!((fetched.end, fetched.run.unavailable()), (RunStep::Done, true));
            assert_eq!(fetched.text, "");
        }
        let large = vec![b'z'; 700_000];
        let mut house = House::new(&[&large, &large]);
        house.unavailable_from = 0;
        let fetched = fetch_with(&mut house, "(UID BODY.PEEK[])", false, UidSet::new(), false);
        assert_eq!((fetched.end, fetched.text.as_str()), (RunStep::Done, "* 1 FETCH (UID 10 BODY[] NIL)\r\n"));
    }

    #[test]
    fn expunged_messages_are_told_from_the_numbering() {
        let mut house = House::new(&[PLAIN, PLAIN]);
        Arc::make_mut(&mut house.view.numbering).update(Uid(10), |message| message.keywords = 1);
        house.edit(|latest| {
            latest.remove(&[Uid(10)].into_iter().collect());
            latest.keywords = Arc::from([]);
        });
        assert_eq!(fetch(&mut house, "FLAGS"), "* 1 FETCH (FLAGS ($Work))\r\n* 2 FETCH (FLAGS (\\Seen))\r\n");
    }

    #[test]
    fn portions_are_bounded() {
        let bodies: Vec<&[u8]> = std::iter::repeat_n(PLAIN, 5_000).collect();
        let mut house = House::new(&bodies);
        let items = items::parse(&mut Lexer::new(b"(UID FLAGS)")).unwrap();
        let targets = house.view.numbering.iter().zip(1..).map(|(message, number)| (number, message.uid)).collect();
        let mut run = FetchRun::new(items, &house.view, targets, false, UidSet::new(), false);
        let mut out = Vec::new();
        assert_eq!(run.next(&mut out), RunStep::More);
        assert!((PORTION_OCTETS..PORTION_OCTETS + 100).contains(&out.len()));
        let (rest, _) = house.drive(&mut run, FetchRun::next, FetchRun::answer);
        out.extend(rest);
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 5_000);
    }
}
