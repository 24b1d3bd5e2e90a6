//! Random peers against the sending side: some that answer every command by dice, some that make noise.

use crate::client::{Line, State, WEIGHT_MAX, house};
use crate::house::{End, House, Work, transaction};
use smtp_proto::client::{Fate, Protocol};
use std::collections::VecDeque;

/// Numbers that are the same in every run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % limit
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A peer that answers each command by dice, as a server of text would.
struct Scripted {
    dice: Dice,
    lmtp: bool,
    input: Vec<u8>,
    in_text: bool,
    chunk_left: usize,
    chunk_is_last: bool,
    taken: usize,
    /// It said 421, or something that no session bears: nothing more comes.
    gone: bool,
}

impl Scripted {
    /// Takes what the session sent; the replies to it.
    fn hear(&mut self, octets: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(octets);
        let mut replies = Vec::new();
        while !self.gone {
            if self.chunk_left > 0 {
                let some = self.chunk_left.min(self.input.len());
                self.input.drain(..some);
                self.chunk_left -= some;
                if self.chunk_left > 0 {
                    break;
                }
                self.end_of_text(self.chunk_is_last, &mut replies);
            } else if self.in_text {
                let at = if self.input.starts_with(b".\r\n") { Some(0) } else { None };
                let end = at.or(self.input.windows(5).position(|window| window == b"\r\n.\r\n").map(|index| index + 2));
                let Some(end) = end else { break };
                self.input.drain(..end + 3);
                self.in_text = false;
                self.end_of_text(true, &mut replies);
            } else {
                let Some(end) = self.input.iter().position(|b| *b == b'\n') else { break };
                let line: Vec<u8> = self.input.drain(..=end).collect();
                self.command(&String::from_utf8_lossy(&line), &mut replies);
            }
        }
        replies
    }

    fn end_of_text(&mut self, is_last: bool, replies: &mut Vec<u8>) {
        let count = if self.lmtp && is_last { self.taken } else { 1 };
        for _ in 0..count {
            self.reply(&[250, 250, 250, 451, 552, 554], replies);
        }
        if is_last {
            self.taken = 0;
        }
    }

    fn command(&mut self, line: &str, replies: &mut Vec<u8>) {
        let word = line.split([' ', '\r']).next().unwrap_or_default();
        match word {
            "EHLO" | "LHLO" if self.dice.below(10) > 0 => {
                let all = ["PIPELINING", "SIZE 5000", "8BITMIME", "DSN", "CHUNKING", "SMTPUTF8"];
                let some: Vec<&str> = all.into_iter().filter(|_| self.dice.below(2) == 0).collect();
                replies.extend_from_slice(b"250-mx.example.net\r\n");
                some.iter().for_each(|keyword| replies.extend_from_slice(format!("250-{keyword}\r\n").as_bytes()));
                replies.extend_from_slice(b"250 HELP\r\n");
            }
            "RCPT" if self.reply(&[250, 250, 250, 550, 450, 452, 552], replies) == 250 => self.taken += 1,
            "RCPT" => {}
            "DATA" => self.in_text = self.reply(&[354, 354, 354, 451, 554], replies) == 354,
            "BDAT" => {
                let mut words = line.split_whitespace().skip(1);
                self.chunk_left = words.next().and_then(|octets| octets.parse().ok()).expect("a count");
                self.chunk_is_last = words.next() == Some("LAST");
                if self.chunk_left == 0 {
                    self.end_of_text(self.chunk_is_last, replies);
                }
            }
            "EHLO" | "LHLO" | "HELO" | "MAIL" | "RSET" | "QUIT" => {
                if word == "MAIL" || word == "RSET" {
                    self.taken = 0;
                }
                self.reply(&[250, 250, 250, 250, 250, 450, 550], replies);
            }
            other => panic!("no command of SMTP: {other:?} of {line:?}"),
        }
    }

    /// One reply with one of these codes, or sometimes with another; its code.
    fn reply(&mut self, codes: &[u16], replies: &mut Vec<u8>) -> u16 {
        if self.gone {
            return 0;
        }
        let code = match self.dice.below(500) {
            0 => 421,
            1 => 250,
            2 => 354,
            3 => 220,
            _ => self.dice.pick(codes),
        };
        let text = self.dice.pick(&["", " ok", " 2.0.0 ok", " 4.5.3 too many", "-more\r\n%", " \x1b\0\u{e9}"]);
        if self.dice.below(2_000) == 0 {
            replies.extend_from_slice(b"nonsense\r\n");
            self.gone = true;
            return 0;
        }
        replies.extend_from_slice(format!("{code}{text}\r\n").replace('%', &code.to_string()).as_bytes());
        self.gone |= code == 421;
        code
    }
}

/// The house of a random run.
fn random_house(dice: &mut Dice, text_lengths: &[usize]) -> House {
    let protocol = dice.pick(&[Protocol::Smtp, Protocol::Smtp, Protocol::Lmtp]);
    let mut house = house(protocol, &[], b"", 0);
    house.config.chunking = dice.below(2) == 0;
    house.config.pipelining = dice.below(4) > 0;
    for _ in 0..1 + dice.below(3) {
        let count = dice.pick(&[1, 2, 3, 3, 300]);
        let recipients: Vec<String> = (0..count).map(|number| format!("account{number}@example.net")).collect();
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let length = dice.pick(text_lengths);
        let text: Vec<u8> = (0..length).map(|_| dice.pick(b"\r\n.abc\r\n\xe9 ")).collect();
        let pieces = text.chunks(1 + dice.below(20_000)).map(<[u8]>::to_vec).collect();
        let end = if dice.below(10) == 0 { End::Failing } else { End::Whole };
        house.work.push_back(Work(transaction(&recipients), pieces, end));
    }
    house
}

/// Plays a random run; replies come in pieces of this size, each heard before the next comes.
fn play(seed: u64, size: usize) -> Line {
    let mut dice = Dice::new(seed);
    let house = random_house(&mut dice, &[0, 10, 1_000, 1_000, 70_000]);
    let lmtp = house.config.protocol == Protocol::Lmtp;
    let mut peer = Scripted {
        dice,
        lmtp,
        input: Vec::new(),
        in_text: false,
        chunk_left: 0,
        chunk_is_last: false,
        taken: 0,
        gone: false,
    };
    let mut line = Line::of(house);
    let mut replies: VecDeque<u8> = b"220 mx.example.net\r\n".iter().copied().collect();
    let mut rounds = 0;
    while line.state == State::Waiting {
        rounds += 1;
        assert!(rounds < 200_000, "{seed}");
        assert!(rounds % 500 != 0 || line.weight() < WEIGHT_MAX, "{seed}");
        let some = size.min(replies.len());
        let piece: Vec<u8> = replies.drain(..some).collect();
        if piece.is_empty() {
            // Nothing is awaited that does not come: either the peer is gone, or it owes nothing.
            line.hang_up();
            break;
        }
        line.say(&piece);
        replies.extend(peer.hear(&line.hear()));
    }
    line
}

/// However the replies are split, the dialogue and the results are the same; and whatever the peer says, the session ends,
/// forgets no recipient, and sends neither a bare CR nor a bare LF.
#[test]
fn v1_v13_any_peer_gets_the_same_dialogue_in_any_pieces() {
    let (mut taken, mut lost, mut refused) = (0, 0, 0);
    for seed in 0..150 {
        let whole = play(seed, usize::MAX);
        for size in [1, 5] {
            let split = play(seed, size);
            assert!(split.sent == whole.sent, "{seed} by {size}: {}", difference(&whole.sent, &split.sent));
            assert_eq!(split.house.reports, whole.house.reports, "{seed} by {size}");
            assert_eq!(split.house.ending, whole.house.ending, "{seed} by {size}");
        }
        assert_eq!(whole.state, State::Closed);
        let bare = whole.sent.windows(2).any(|pair| (pair[1] == b'\n') != (pair[0] == b'\r'));
        assert!(!bare && !whole.sent.ends_with(b"\r"), "{seed}");
        for fate in whole.house.reports.iter().flat_map(|report| &report.fates) {
            match fate {
                Fate::Taken(_) => taken += 1,
                Fate::Lost { .. } => lost += 1,
                Fate::Refused { .. } | Fate::Surplus(_) | Fate::Unable(_) => refused += 1,
            }
            assert!(fate.verdict().text.chars().all(|c| (' '..='~').contains(&c)));
        }
    }
    assert!(taken > 150 && lost > 150 && refused > 150, "{taken} {lost} {refused}");
}

fn difference(a: &[u8], b: &[u8]) -> String {
    let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    let show =
        |text: &[u8]| String::from_utf8_lossy(&text[at.saturating_sub(60)..text.len().min(at + 60)]).into_owned();
    format!("at {at}\n{:?}\n{:?}", show(a), show(b))
}

/// Octets that are no dialogue at all.
#[test]
fn v10_v13_noise_does_no_harm() {
    let words: [&[u8]; 20] = [
        b"220 ",
        b"250 ",
        b"250-",
        b"354 ",
        b"421 ",
        b"550 5.1.1 ",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"STARTTLS",
        b"PIPELINING",
        b"CHUNKING",
        b"AUTH PLAIN",
        b"SIZE 10",
        b"999999999999",
        b"x",
    ];
    let long = vec![b'a'; 5_000];
    for seed in 0..600 {
        let mut dice = Dice::new(seed);
        let mut house = random_house(&mut dice, &[0, 10, 100]);
        house.tls = dice.below(2) == 0;
        let mut line = Line::of(house);
        let mut rounds = 0;
        while line.state != State::Closed {
            rounds += 1;
            let noise: Vec<u8> = (0..dice.below(12))
                .flat_map(|_| if dice.below(100) == 0 { long.clone() } else { dice.pick(&words).to_vec() })
                .collect();
            match line.state {
                State::Handshake if dice.below(2) == 0 => line.start_tls(),
                State::Waiting if rounds < 200 => line.say(&noise),
                State::Handshake | State::Waiting | State::Closed => line.hang_up(),
            }
            assert!(rounds < 300 && (rounds % 20 != 0 || line.weight() < WEIGHT_MAX), "{seed}");
        }
        for fate in line.house.reports.iter().flat_map(|report| &report.fates) {
            assert!(fate.verdict().text.chars().all(|c| (' '..='~').contains(&c)));
        }
        assert!(line.house.ending.is_some());
    }
}
