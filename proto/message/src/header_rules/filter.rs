//! Applies rules to a header section while its octets arrive.

use super::{Action, HeaderRules, Judgement, Refusal};
use crate::header::{is_blank, split_field};
use mail::text::one_line;
use mail::{Address, EnhancedStatus};
use memchr::memchr;
use std::sync::Arc;

/// Octets of a field that are held back and shown to the rules. A longer field is judged by so many, and what is decided
/// goes for the rest of it.
pub const FIELD_OCTETS_MAX: usize = 64 * 1024;
/// Fields of one message that are judged. A message with more is refused: real mail has fewer than a few hundred, and to
/// let the others pass would be a way around the rules.
pub const FIELDS_JUDGED_MAX: usize = 10_000;
/// Deeds that are told of one message; of the rest only the number.
pub const DEEDS_MAX: usize = 64;
/// Octets of a field that a deed shows.
pub const SHOWN_OCTETS_MAX: usize = 200;

/// What becomes of a message by its fields, mildest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Verdict {
    /// It goes on.
    #[default]
    Pass,
    /// It is taken, and held in the queue. The text is for the log.
    Hold(String),
    /// It is taken, and thrown away. The text is for the log.
    Discard(String),
    /// It is refused.
    Reject(Refusal),
}

impl Verdict {
    fn strength(&self) -> u8 {
        match self {
            Verdict::Pass => 0,
            Verdict::Hold(_) => 1,
            Verdict::Discard(_) => 2,
            Verdict::Reject(_) => 3,
        }
    }
}

/// One thing that a rule did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// The first line of the rule; `None` where a limit decided.
    pub line: Option<usize>,
    /// What was done; a field that was made is cut to [`SHOWN_OCTETS_MAX`]. Never [`Action::Dunno`].
    pub action: Action,
    /// The field it was done to, as one line, cut to [`SHOWN_OCTETS_MAX`].
    pub field: String,
}

/// What the rules did to a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// The strongest verdict, of equal ones the first. Behind a field that has the message refused or discarded no other
    /// one is judged.
    pub verdict: Verdict,
    /// Where the message is sent instead of its recipients: what the first rule says that says so.
    pub redirect: Option<Address>,
    /// What was done, in the order of the fields, at most [`DEEDS_MAX`].
    pub deeds: Vec<Deed>,
    /// How many more were done.
    pub deeds_left_out: u32,
}

/// The filter for one message. It stands behind [`HeaderRepair`](crate::repair::HeaderRepair), looks at the message's own
/// header section only, holds back at most one field, and passes the body through as it is. How octets are split changes
/// nothing; without rules nothing is changed.
#[derive(Debug)]
pub struct HeaderFilter {
    rules: Arc<HeaderRules>,
    place: Place,
    /// The field so far, not judged.
    field: Vec<u8>,
    rest: Rest,
    fields_judged: usize,
    findings: Findings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing of the line was seen.
    LineStart,
    /// The line began with a carriage return, which is held back.
    CarriageReturn,
    Line,
    Body,
}

/// What becomes of the octets of the present field that are still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Undecided,
    Kept,
    Dropped,
}

impl HeaderFilter {
    /// A filter at the start of a message.
    pub fn new(rules: Arc<HeaderRules>) -> HeaderFilter {
        HeaderFilter {
            place: if rules.is_empty() { Place::Body } else { Place::LineStart },
            rules,
            field: Vec::new(),
            rest: Rest::Undecided,
            fields_judged: 0,
            findings: Findings::default(),
        }
    }

    /// Takes the next octets and appends what shall be kept to `out`.
    pub fn write(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let mut rest = octets;
        while let [first, after @ ..] = rest {
            rest = match self.place {
                Place::LineStart if is_blank(*first) => {
                    self.place = Place::Line;
                    rest
                }
                Place::LineStart if *first == b'\r' => {
                    self.place = Place::CarriageReturn;
                    after
                }
                Place::LineStart => {
                    self.end_field(out);
                    self.place = if *first == b'\n' { Place::Body } else { Place::Line };
                    rest
                }
                Place::CarriageReturn => {
                    self.end_field(out);
                    self.begin_with_carriage_return(*first == b'\n', out);
                    rest
                }
                Place::Line => self.take_line(rest, out),
                Place::Body => {
                    out.extend_from_slice(rest);
                    return;
                }
            }
        }
    }

    /// The message has no more octets: appends what was held back.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Findings {
        self.end_field(out);
        if self.place == Place::CarriageReturn {
            out.push(b'\r');
        }
        self.findings
    }

    /// What was done so far. Complete once the empty line that ends the header section was written, or after
    /// [`finish`](Self::finish).
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// An empty line ends the section; anything else behind a carriage return is the start of a line that is no field.
    fn begin_with_carriage_return(&mut self, is_empty_line: bool, out: &mut Vec<u8>) {
        if is_empty_line {
            out.push(b'\r');
            self.place = Place::Body;
        } else {
            self.field.push(b'\r');
            self.place = Place::Line;
        }
    }

    /// Takes octets up to the end of the line.
    fn take_line<'a>(&mut self, octets: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let end = memchr(b'\n', octets);
        let length = end.map_or(octets.len(), |at| at + 1);
        let (mut line, rest) = octets.split_at_checked(length).unwrap_or((octets, &[]));
        if self.rest == Rest::Undecided {
            let room = FIELD_OCTETS_MAX.saturating_sub(self.field.len());
            let (fits, over) = line.split_at_checked(room).unwrap_or((line, &[]));
            self.field.extend_from_slice(fits);
            line = over;
            if !over.is_empty() {
                self.rest = self.judge_field(out);
            }
        }
        if self.rest == Rest::Kept {
            out.extend_from_slice(line);
        }
        if end.is_some() {
            self.place = Place::LineStart;
        }
        rest
    }

    fn end_field(&mut self, out: &mut Vec<u8>) {
        if self.rest == Rest::Undecided && !self.field.is_empty() {
            self.judge_field(out);
        }
        self.rest = Rest::Undecided;
    }

    /// Judges the field held back, and appends what is left of it. What becomes of the octets that it may still have.
    fn judge_field(&mut self, out: &mut Vec<u8>) -> Rest {
        let mut field = std::mem::take(&mut self.field);
        let rest = if self.findings.verdict.strength() >= 2 || split_field(&field).is_none() {
            out.extend_from_slice(&field);
            Rest::Kept
        } else if self.fields_judged >= FIELDS_JUDGED_MAX {
            self.refuse_number_of_fields(&field);
            out.extend_from_slice(&field);
            Rest::Kept
        } else {
            self.fields_judged += 1;
            let Judgement { action, line } = self.rules.judge(&field);
            let rest = emit(&action, &field, out);
            self.note(action, line, &field);
            rest
        };
        field.clear();
        field.shrink_to(4 * 1024);
        self.field = field;
        rest
    }

    fn note(&mut self, action: Action, line: Option<usize>, field: &[u8]) {
        let verdict = match &action {
            Action::Dunno => return,
            Action::Hold(text) => Verdict::Hold(text.clone()),
            Action::Discard(text) => Verdict::Discard(text.clone()),
            Action::Reject(refusal) => Verdict::Reject(refusal.clone()),
            Action::Redirect(address) => {
                self.findings.redirect.get_or_insert_with(|| address.clone());
                Verdict::Pass
            }
            Action::Ignore
            | Action::Strip(_)
            | Action::Replace(_)
            | Action::Prepend(_)
            | Action::Warn(_)
            | Action::Info(_) => Verdict::Pass,
        };
        let findings = &mut self.findings;
        if verdict.strength() > findings.verdict.strength() {
            findings.verdict = verdict;
        }
        if findings.deeds.len() < DEEDS_MAX {
            findings.deeds.push(Deed { line, action: told(action), field: shown(field) });
        } else {
            findings.deeds_left_out = findings.deeds_left_out.saturating_add(1);
        }
    }

    fn refuse_number_of_fields(&mut self, field: &[u8]) {
        let text = format!("more than {FIELDS_JUDGED_MAX} header fields");
        let refusal = Refusal { status: EnhancedStatus::new(5, 6, 0), text };
        self.note(Action::Reject(refusal), None, field);
    }
}

/// Appends what an action leaves of a field.
fn emit(action: &Action, field: &[u8], out: &mut Vec<u8>) -> Rest {
    match action {
        Action::Ignore | Action::Strip(_) => return Rest::Dropped,
        Action::Replace(new) => {
            out.extend_from_slice(new);
            out.extend_from_slice(b"\r\n");
            return Rest::Dropped;
        }
        Action::Prepend(new) => {
            out.extend_from_slice(new);
            out.extend_from_slice(b"\r\n");
        }
        Action::Dunno
        | Action::Warn(_)
        | Action::Info(_)
        | Action::Hold(_)
        | Action::Discard(_)
        | Action::Reject(_)
        | Action::Redirect(_) => {}
    }
    out.extend_from_slice(field);
    Rest::Kept
}

/// An action as a story tells it.
fn told(action: Action) -> Action {
    match action {
        Action::Replace(new) => Action::Replace(beginning(&new).to_vec()),
        Action::Prepend(new) => Action::Prepend(beginning(&new).to_vec()),
        action => action,
    }
}

fn beginning(field: &[u8]) -> &[u8] {
    field.get(..SHOWN_OCTETS_MAX).unwrap_or(field)
}

fn shown(field: &[u8]) -> String {
    let mut line = one_line(&String::from_utf8_lossy(crate::header::trim_end(beginning(field))));
    line.truncate(line.floor_char_boundary(SHOWN_OCTETS_MAX));
    line
}

/// Applies rules to whole fields, each with its line end: to the Received: field that we write ourselves (R151).
pub fn filtered(rules: &Arc<HeaderRules>, fields: &[u8]) -> (Vec<u8>, Findings) {
    let mut out = Vec::with_capacity(fields.len());
    let mut filter = HeaderFilter::new(Arc::clone(rules));
    filter.write(fields, &mut out);
    let findings = filter.finish(&mut out);
    (out, findings)
}

#[cfg(test)]
mod tests {
    use super::super::PRIVACY_RULES;
    use super::*;
    use std::path::Path;

    fn rules(text: &str) -> Arc<HeaderRules> {
        Arc::new(HeaderRules::read(Path::new("rules"), text.as_bytes()).unwrap_or_else(|error| panic!("{error}")))
    }

    fn filtered_in(rules: &Arc<HeaderRules>, pieces: &[&[u8]]) -> (Vec<u8>, Findings) {
        let mut out = Vec::new();
        let mut filter = HeaderFilter::new(Arc::clone(rules));
        pieces.iter().for_each(|piece| filter.write(piece, &mut out));
        let findings = filter.finish(&mut out);
        (out, findings)
    }

    /// The result, the same for every split in two and for single octets.
    fn all_ways(rules: &Arc<HeaderRules>, message: &[u8]) -> (String, Findings) {
        let whole = filtered_in(rules, &[message]);
        for at in 0..=message.len() {
            let (first, second) = message.split_at(at);
            assert_eq!(filtered_in(rules, &[first, second]), whole, "split at {at}");
        }
        assert_eq!(filtered_in(rules, &message.chunks(1).collect::<Vec<_>>()), whole);
        (String::from_utf8_lossy(&whole.0).into_owned(), whole.1)
    }

    #[test]
    fn r150_whole_fields_disappear() {
        let rules = rules(PRIVACY_RULES);
        let message = "Received: from a (b [192.0.2.7])\r\n\tby c with ESMTPSA id 1\r\n\t; x\r\nTo: a@b\r\nuser-agent: t\r\n\
                       X-Mailer:\r\n folded\r\n\tagain\r\nX-Originating-IP : [10.0.0.1]\r\nSubject: s\r\n\r\n\
                       X-Mailer: body\r\n";
        let (text, findings) = all_ways(&rules, message.as_bytes());
        assert_eq!(text, "To: a@b\r\nSubject: s\r\n\r\nX-Mailer: body\r\n");
        assert_eq!(
            findings.deeds.iter().map(|deed| deed.line).collect::<Vec<_>>(),
            [Some(1), Some(2), Some(3), Some(4)]
        );
        assert_eq!(findings.deeds[2].field, "X-Mailer:   folded   again");
        assert_eq!(findings.verdict, Verdict::Pass);
    }

    #[test]
    fn r154_attached_messages_are_left_alone() {
        let message = "Content-Type: message/rfc822\r\n\r\nX-Mailer: inner\r\nFrom: a@b\r\n\r\nbody";
        assert_eq!(all_ways(&rules(PRIVACY_RULES), message.as_bytes()).0, message);
    }

    #[test]
    fn r153_fields_are_replaced_and_prepended() {
        let rules = rules("/^Subject: (.*)/ REPLACE Subject: [x] $1\n/^To:/ PREPEND X-To: seen\n/^X-To:/ IGNORE\n");
        let (text, findings) = all_ways(&rules, b"Subject: a\r\n b\r\nTo: c\r\n\r\n");
        assert_eq!(text, "Subject: [x] a\r\n b\r\nX-To: seen\r\nTo: c\r\n\r\n");
        assert_eq!(findings.deeds.len(), 2);
        assert_eq!(all_ways(&rules, b"Subject: a").0, "Subject: [x] a\r\n");
    }

    #[test]
    fn r153_the_strongest_verdict_counts() {
        let rules = rules(
            "/^A:/ HOLD first\n/^B:/ HOLD second\n/^C:/ REDIRECT a@example.org\n/^D:/ REDIRECT b@example.org\n\
             /^E:/ DISCARD e\n/^F:/ REJECT 5.7.1 f\n/^G:/ IGNORE\n",
        );
        let of = |message: &str| all_ways(&rules, message.as_bytes()).1;
        assert_eq!(of("B: x\nA: x\n\nF: x\n").verdict, Verdict::Hold("second".to_owned()));
        assert_eq!(of("D: x\nC: x\nA: x\n").redirect, Address::parse("b@example.org").ok());
        assert_eq!(of("A: x\nE: x\nF: x\n").verdict, Verdict::Discard("e".to_owned()));
        let refused = of("A: x\nF: x\nE: x\nG: x\n");
        assert!(matches!(refused.verdict, Verdict::Reject(refusal) if refusal.text == "f"));
        assert_eq!(refused.deeds.len(), 2, "nothing is judged any more");
    }

    #[test]
    fn without_a_rule_that_matches_nothing_changes() {
        let never = rules("/^never$/ IGNORE\n");
        for message in [
            "",
            "\n",
            "\r\n",
            "\r",
            "A: b",
            "A: b\r",
            "A: b\r\n",
            "A: b\r\n\r",
            "A: b\r\n\rC: d\r\n\r\nbody\r\n",
            " A: b\n\tc\n\nbody",
            "no field\nA: b\n: c\n\n",
            "A: b\n\r\nX: y\n",
            "A\r\n : b\r\n\r\n",
            "A:\0\u{fc}\r\n\r\n",
        ] {
            for rules in [&never, &Arc::default()] {
                let (text, findings) = all_ways(rules, message.as_bytes());
                assert_eq!(text, message);
                assert_eq!(findings, Findings::default());
            }
        }
    }

    #[test]
    fn v10_a_field_without_end_is_judged_by_its_start_and_not_kept() {
        let rules = rules("/^Drop:/ IGNORE\n/^New:/ REPLACE New: y\n/^Pre:/ PREPEND X: y\n/^Late:.*!$/ IGNORE\n");
        let long = |name: &str| format!("{name}: {}\r\n {}!\r\n", "a".repeat(FIELD_OCTETS_MAX), "b".repeat(1_000));
        let message = format!("{}{}{}{}{}\r\n", long("Drop"), long("New"), long("Pre"), long("Late"), long("Keep"));
        let whole = filtered_in(&rules, &[message.as_bytes()]);
        let expected = format!("New: y\r\nX: y\r\n{}{}{}\r\n", long("Pre"), long("Late"), long("Keep"));
        assert!(whole.0 == expected.as_bytes());
        for size in [1, 7, 1_000, FIELD_OCTETS_MAX] {
            let pieces: Vec<&[u8]> = message.as_bytes().chunks(size).collect();
            assert!(filtered_in(&rules, &pieces) == whole, "{size}");
        }
        let mut filter = HeaderFilter::new(rules);
        let mut out = Vec::new();
        (0..100).for_each(|_| filter.write(&[b'A'; 65_536], &mut out));
        assert!(filter.field.capacity() <= 4 * FIELD_OCTETS_MAX);
    }

    #[test]
    fn v26_too_many_fields_are_refused() {
        let rules = rules("/^X-Bad:/ REJECT\n");
        let fill = "A: b\n".repeat(FIELDS_JUDGED_MAX);
        assert_eq!(filtered_in(&rules, &[fill.as_bytes()]).1.verdict, Verdict::Pass);
        let (text, findings) = filtered_in(&rules, &[fill.as_bytes(), b"X-Bad: y\n"]);
        assert!(matches!(findings.verdict, Verdict::Reject(refusal) if refusal.text.contains("header fields")));
        assert_eq!(text.len(), fill.len() + 9);
    }

    #[test]
    fn deeds_are_bounded_and_one_line() {
        let rules = rules("/^A/ WARN x\n");
        let field = format!("A: \x1b\0\u{fc}{}\r\n", "\u{1f600}".repeat(200));
        let (_, findings) = filtered_in(&rules, &[field.repeat(DEEDS_MAX + 5).as_bytes()]);
        assert_eq!((findings.deeds.len(), findings.deeds_left_out), (DEEDS_MAX, 5));
        assert!(findings.deeds.iter().all(|deed| deed.field.len() <= SHOWN_OCTETS_MAX));
        assert!(findings.deeds.iter().all(|deed| !deed.field.chars().any(char::is_control)));
        let (out, findings) =
            filtered_in(&self::rules("/^A(.*)/ REPLACE B$1\n"), &[format!("A: {}\r\n", "x".repeat(9_000)).as_bytes()]);
        assert_eq!(out.len(), 9_005);
        assert!(matches!(&findings.deeds[0].action, Action::Replace(new) if new.len() == SHOWN_OCTETS_MAX));
    }

    #[test]
    fn r151_our_own_trace_field_is_filtered_too() {
        let field = b"Received: from laptop (unknown [192.0.2.7])\r\n\tby mx.example.net with ESMTPSA id A1; x\r\n";
        assert_eq!(filtered(&rules(PRIVACY_RULES), field).0, b"");
        let other = b"Received: from a (b [192.0.2.7])\r\n\tby mx.example.net with ESMTPS id A1; x\r\n";
        assert_eq!(filtered(&rules(PRIVACY_RULES), other).0, other);
    }

    /// Fields and pieces of fields by lot, split by lot.
    #[test]
    fn how_octets_are_split_changes_nothing() {
        let rules =
            rules("/^A:.*\\n/ IGNORE\n/^B: *(.*)$/ REPLACE C: $1$1\n/^To:/ PREPEND X: y\n/x/ HOLD\n!/:/ WARN\n");
        let words =
            ["A", "B", "To", ":", " ", "\t", "\r\n", "\n", "\r", "x", "\0", "\r\n\r\n", "A: b\r\n", "B: c\r\n d\r\n"];
        let mut seed = 7_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        for _ in 0..5_000 {
            let message: Vec<u8> = (0..random(30)).flat_map(|_| words[random(words.len())].bytes()).collect();
            let whole = filtered_in(&rules, &[&message]);
            let mut pieces = Vec::new();
            let mut rest = message.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(1 + random(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            assert_eq!(filtered_in(&rules, &pieces), whole, "{message:?}");
        }
    }
}
