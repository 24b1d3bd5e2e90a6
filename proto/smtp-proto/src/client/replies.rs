//! The peer's octets to replies (RFC 5321 §4.2.1), in bounded memory.
//!
//! What is borne: lines that end in a bare LF, no space after the code, no text, a text that is not ASCII. What is not: a
//! line without a code, codes of one reply that differ, and anything beyond the limits. After that nothing more is read,
//! for there is no telling which reply belongs to which command.
//!
//! The text that leaves here is printable ASCII: a control character becomes a space, a character beyond ASCII a question
//! mark (V13).

use super::config::ReplyLimits;
use crate::input::{Input, Line, LineEnds};
use mail::queue::REASON_OCTETS_MAX;
use mail::{EnhancedStatus, Reply};

/// Why what came is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyFault {
    /// A line beyond the limit.
    LineTooLong,
    /// More lines or octets than the limits.
    TooLong,
    /// A line that does not begin with a code from 200 to 599.
    NoCode,
    /// Two lines of one reply with different codes.
    CodesDiffer,
}

/// A reply as it came, its text harmless but whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawReply {
    pub code: u16,
    /// The text of each line, after the code.
    pub lines: Vec<String>,
}

/// Octets received, and the reply that they begin.
#[derive(Debug)]
pub(super) struct Replies {
    limits: ReplyLimits,
    input: Input,
    /// The code of the lines so far.
    code: Option<u16>,
    lines: Vec<String>,
    octets: usize,
    fault: Option<ReplyFault>,
}

impl Replies {
    pub fn new(limits: ReplyLimits) -> Replies {
        Replies { limits, input: Input::default(), code: None, lines: Vec::new(), octets: 0, fault: None }
    }

    pub fn push(&mut self, octets: &[u8]) {
        if self.fault.is_none() {
            self.input.push(octets);
        }
    }

    pub fn end(&mut self) {
        self.input.end();
    }

    pub fn has_ended(&self) -> bool {
        self.input.has_ended()
    }

    /// Whether nothing was received that is not used up, not even a part of a reply.
    pub fn is_empty(&self) -> bool {
        self.input.rest().is_empty() && self.code.is_none()
    }

    /// Forgets everything (V4).
    pub fn clear(&mut self) {
        self.input.clear();
        self.forget_lines();
    }

    /// Gives memory back before a wait.
    pub fn release(&mut self) {
        self.input.release();
    }

    /// The next whole reply, if there is one.
    pub fn take(&mut self) -> Result<Option<RawReply>, ReplyFault> {
        loop {
            if let Some(fault) = self.fault {
                return Err(fault);
            }
            let line = match self.input.line(self.limits.line_octets_max, LineEnds::Lenient) {
                Line::Incomplete => return Ok(None),
                Line::Complete(line) => line,
                Line::TooLong | Line::BareLf => {
                    self.break_off(ReplyFault::LineTooLong);
                    continue;
                }
            };
            match self.add_line(&line) {
                Ok(false) => {}
                Ok(true) => {
                    let reply = self.code.map(|code| RawReply { code, lines: std::mem::take(&mut self.lines) });
                    self.forget_lines();
                    return Ok(reply);
                }
                Err(fault) => self.break_off(fault),
            }
        }
    }

    /// Adds a line; whether it was the last of its reply.
    fn add_line(&mut self, line: &[u8]) -> Result<bool, ReplyFault> {
        let (code, more, text) = split(line).ok_or(ReplyFault::NoCode)?;
        if self.code.is_some_and(|first| first != code) {
            return Err(ReplyFault::CodesDiffer);
        }
        self.code = Some(code);
        self.octets += line.len();
        if self.lines.len() >= self.limits.lines_max || self.octets > self.limits.octets_max {
            return Err(ReplyFault::TooLong);
        }
        self.lines.push(harmless(text));
        Ok(!more)
    }

    fn break_off(&mut self, fault: ReplyFault) {
        self.clear();
        self.fault = Some(fault);
    }

    fn forget_lines(&mut self) {
        self.code = None;
        self.lines = Vec::new();
        self.octets = 0;
    }
}

/// Code, whether more lines follow, and text of a line.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_at_checked(3)?;
    // RFC 5321 §4.2.1: no reply of SMTP begins with 1. A fourth digit makes it a number that is no code.
    if !matches!(code.first(), Some(b'2'..=b'5')) || rest.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(code).ok().filter(|code| code.bytes().all(|b| b.is_ascii_digit()))?;
    let code = number.parse().ok()?;
    Some(match rest.split_first() {
        Some((b'-', text)) => (code, true, text),
        Some((b' ', text)) => (code, false, text),
        Some(_) | None => (code, false, rest),
    })
}

fn harmless(text: &[u8]) -> String {
    let printable = |character: char| match character {
        ' '..='~' => character,
        character if character.is_control() => ' ',
        _ => '?',
    };
    String::from_utf8_lossy(text).chars().map(printable).collect()
}

impl RawReply {
    /// The reply as a value to keep: its enhanced status apart (RFC 2034 §4), its text cut to [`REASON_OCTETS_MAX`] octets.
    pub fn into_reply(self) -> Reply {
        let class = self.code / 100;
        // RFC 2034 §4: the class agrees with the code; one that does not says nothing.
        let status_of = |line: &str| {
            let word = line.split(' ').next().unwrap_or_default();
            EnhancedStatus::parse(word).filter(|status| u16::from(status.class) == class)
        };
        let status = self.lines.iter().find_map(|line| status_of(line));
        let mut room = REASON_OCTETS_MAX;
        let mut lines = Vec::new();
        for line in self.lines {
            if room == 0 {
                break;
            }
            let text = match status_of(&line) {
                Some(own) if Some(own) == status => line.split_once(' ').map_or("", |(_, text)| text),
                Some(_) | None => &line,
            };
            // All of it is ASCII.
            let kept = text.get(..room).unwrap_or(text);
            room -= kept.len();
            lines.push(kept.to_owned());
        }
        Reply { code: self.code, status, lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8], size: usize, limits: ReplyLimits) -> (Vec<RawReply>, Option<ReplyFault>) {
        let mut replies = Replies::new(limits);
        let mut taken = Vec::new();
        for piece in octets.chunks(size) {
            replies.push(piece);
            loop {
                match replies.take() {
                    Ok(Some(reply)) => taken.push(reply),
                    Ok(None) => break,
                    Err(fault) => return (taken, Some(fault)),
                }
            }
        }
        (taken, None)
    }

    fn all(octets: &[u8]) -> (Vec<RawReply>, Option<ReplyFault>) {
        let whole = read(octets, octets.len(), ReplyLimits::default());
        for size in 1..octets.len() {
            assert_eq!(read(octets, size, ReplyLimits::default()), whole, "by {size}");
        }
        whole
    }

    fn raw(code: u16, lines: &[&str]) -> RawReply {
        RawReply { code, lines: lines.iter().map(|line| (*line).to_owned()).collect() }
    }

    #[test]
    fn replies_are_the_same_however_they_come() {
        let (replies, fault) =
            all(b"220 a\r\n250-b\r\n250-\r\n250 c d\r\n354\r\n250OK\r\n250 \r\n250-x\n250 y\n421 -z\r\n");
        let expected = [
            raw(220, &["a"]),
            raw(250, &["b", "", "c d"]),
            raw(354, &[""]),
            raw(250, &["OK"]),
            raw(250, &[""]),
            raw(250, &["x", "y"]),
            raw(421, &["-z"]),
        ];
        assert_eq!((replies.as_slice(), fault), (&expected[..], None));
    }

    #[test]
    fn what_is_no_reply_ends_the_reading() {
        for (octets, fault) in [
            (&b"\r\n"[..], ReplyFault::NoCode),
            (b"25\r\n", ReplyFault::NoCode),
            (b"2500 x\r\n", ReplyFault::NoCode),
            (b"120 x\r\n", ReplyFault::NoCode),
            (b"600 x\r\n", ReplyFault::NoCode),
            (b" 250 x\r\n", ReplyFault::NoCode),
            (b"+50 x\r\n", ReplyFault::NoCode),
            (b"HTTP/1.1 200 OK\r\n", ReplyFault::NoCode),
            (b"250-a\r\ntext\r\n250 b\r\n", ReplyFault::NoCode),
            (b"250-a\r\n550 b\r\n", ReplyFault::CodesDiffer),
        ] {
            let (replies, found) = all(&[octets, b"250 later\r\n"].concat());
            assert_eq!((replies.len(), found), (0, Some(fault)), "{octets:?}");
        }
    }

    #[test]
    fn v10_a_peer_that_never_stops_takes_no_memory() {
        let limits = ReplyLimits { line_octets_max: 20, lines_max: 4, octets_max: 50 };
        let four = b"250-a\r\n250-b\r\n250-c\r\n250 d\r\n";
        assert_eq!(read(four, 3, limits).0.len(), 1);
        assert_eq!(read(&[&b"250-x\r\n"[..], four].concat(), 3, limits).1, Some(ReplyFault::TooLong));
        let wide = b"250-0123456789abcdef\r\n250-0123456789abcdef\r\n250 0123456789\r\n";
        assert_eq!(read(wide, 7, limits).1, Some(ReplyFault::TooLong));
        assert_eq!(read(b"250 0123456789abcdefg\r\n", 7, limits).1, Some(ReplyFault::LineTooLong));
        let mut replies = Replies::new(ReplyLimits::default());
        for _ in 0..1_000 {
            replies.push(&[b'2'; 65_536]);
            let _ = replies.take();
            assert!(format!("{replies:?}").len() < 1_000);
        }
        assert_eq!(replies.take(), Err(ReplyFault::LineTooLong));
    }

    #[test]
    fn v13_no_control_character_leaves() {
        let (replies, _) = all(b"550-a\0b\tc\x1b[1m\rd\r\r\n550 \xc3\xa9\xff\xc2\x85\x7f\r\n");
        assert_eq!(replies, [raw(550, &["a b c [1m d ", "??  "])]);
    }

    #[test]
    fn the_status_is_set_apart() {
        let reply = |octets: &[u8]| all(octets).0.remove(0).into_reply();
        let unknown = reply(b"550-5.1.1 no\r\n550-5.1.1 such\r\n550-5.7.1 user\r\n550 5.1.1\r\n");
        assert_eq!(unknown.status, Some(EnhancedStatus::new(5, 1, 1)));
        assert_eq!(unknown.lines, ["no", "such", "5.7.1 user", ""]);
        assert_eq!(reply(b"250 2.0.0 Ok\r\n").lines, ["Ok"]);
        // A class that contradicts the code.
        let odd = reply(b"450 5.1.1 no\r\n");
        assert_eq!((odd.status, odd.lines.as_slice()), (None, &["5.1.1 no".to_owned()][..]));
        assert_eq!(reply(b"354 3.0.0 go\r\n").status, None);
        assert_eq!(reply(b"550-see below\r\n550 5.7.1 policy\r\n").status, Some(EnhancedStatus::new(5, 7, 1)));
    }

    #[test]
    fn v13_the_text_kept_is_bounded() {
        let long = format!("550-{}\r\n550-{}\r\n550 z\r\n", "x".repeat(600), "y".repeat(600));
        let reply = all(long.as_bytes()).0.remove(0).into_reply();
        assert_eq!(reply.lines.iter().map(String::len).collect::<Vec<_>>(), [600, 400]);
    }
}
