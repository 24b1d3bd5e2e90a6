//! V5, V7: random walks over all that changes a session, against an automaton so small that it can be read at a glance.

use crate::line::Line;
use crate::world::World;

/// What the client may do next. Texts are of ten octets; the limit is a hundred.
#[derive(Debug, Clone, Copy)]
enum Act {
    Ehlo,
    Mail,
    MailRefused,
    Recipient,
    RecipientRefused,
    Data,
    DataTooBig,
    DataVirus,
    Chunk,
    ChunkTooBig,
    ChunkBad,
    LastChunk,
    EmptyLastChunk,
    Reset,
    Auth,
    AuthWrong,
    StartTls,
    Noop,
    Verify,
    Unknown,
}

const ACTS: [Act; 20] = [
    Act::Ehlo,
    Act::Mail,
    Act::MailRefused,
    Act::Recipient,
    Act::RecipientRefused,
    Act::Data,
    Act::DataTooBig,
    Act::DataVirus,
    Act::Chunk,
    Act::ChunkTooBig,
    Act::ChunkBad,
    Act::LastChunk,
    Act::EmptyLastChunk,
    Act::Reset,
    Act::Auth,
    Act::AuthWrong,
    Act::StartTls,
    Act::Noop,
    Act::Verify,
    Act::Unknown,
];

/// The reference: where a transaction is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Nothing,
    Mail { taken: usize, refused: usize },
    Chunks { octets: usize },
}

/// The reference automaton. A rule gives the codes that must come.
#[derive(Debug)]
struct Reference {
    greeted: bool,
    tls: bool,
    account: bool,
    at: At,
    messages: usize,
}

impl Reference {
    fn expect(&mut self, act: Act) -> Vec<u16> {
        let at = self.at;
        let one = match (act, at) {
            (Act::Ehlo, _) => {
                (self.greeted, self.at) = (true, At::Nothing);
                250
            }
            (Act::Noop, _) => 250,
            (Act::Unknown, _) => 500,
            (Act::Verify, _) => 252,
            (Act::Reset, _) => {
                self.at = At::Nothing;
                250
            }
            (Act::StartTls, _) if self.tls => 554,
            (Act::StartTls, At::Mail { .. } | At::Chunks { .. }) => 503,
            (Act::StartTls, At::Nothing) => {
                (self.greeted, self.tls, self.account) = (false, true, false);
                220
            }
            (Act::Auth | Act::AuthWrong, _) if !self.greeted => 503,
            (Act::Auth | Act::AuthWrong, At::Mail { .. } | At::Chunks { .. }) => 503,
            (Act::Auth | Act::AuthWrong, At::Nothing) if !self.tls => 538,
            (Act::Auth | Act::AuthWrong, At::Nothing) if self.account => 503,
            (Act::AuthWrong, At::Nothing) => 535,
            (Act::Auth, At::Nothing) => {
                self.account = true;
                235
            }
            (Act::Mail | Act::MailRefused, _) if !self.greeted => 503,
            (Act::Mail | Act::MailRefused, At::Mail { .. } | At::Chunks { .. }) => 503,
            (Act::MailRefused, At::Nothing) => 550,
            (Act::Mail, At::Nothing) => {
                self.at = At::Mail { taken: 0, refused: 0 };
                250
            }
            (Act::Recipient | Act::RecipientRefused, At::Nothing | At::Chunks { .. }) => 503,
            (Act::Recipient, At::Mail { taken, refused }) => {
                self.at = At::Mail { taken: taken + 1, refused };
                250
            }
            (Act::RecipientRefused, At::Mail { taken, refused }) => {
                self.at = At::Mail { taken, refused: refused + 1 };
                504
            }
            (Act::Data | Act::DataTooBig | Act::DataVirus, _) => return self.data(act),
            (Act::Chunk | Act::ChunkTooBig | Act::ChunkBad | Act::LastChunk | Act::EmptyLastChunk, _) => {
                self.chunk(act)
            }
        };
        vec![one]
    }

    /// Refused, DATA leaves its text to be taken for a command.
    fn data(&mut self, act: Act) -> Vec<u16> {
        let refusal = match self.at {
            At::Nothing | At::Chunks { .. } => 503,
            At::Mail { taken: 0, refused: 0 } => 503,
            At::Mail { taken: 0, .. } => 554,
            At::Mail { .. } => {
                self.at = At::Nothing;
                return match act {
                    Act::DataTooBig => vec![354, 552],
                    Act::DataVirus => vec![354, 550],
                    _ => {
                        self.messages += 1;
                        vec![354, 250]
                    }
                };
            }
        };
        vec![refusal, 500, 500]
    }

    fn chunk(&mut self, act: Act) -> u16 {
        let before = match self.at {
            _ if !self.greeted => None,
            At::Nothing => None,
            At::Mail { taken: 0, refused } => {
                self.at = At::Nothing;
                return match (refused, act) {
                    (_, Act::ChunkBad) => 501,
                    (0, _) => 503,
                    (_, _) => 554,
                };
            }
            At::Mail { .. } => Some(0),
            At::Chunks { octets } => Some(octets),
        };
        self.at = At::Nothing;
        match (before, act) {
            (None, Act::ChunkBad) if self.greeted => 501,
            (None, _) => 503,
            (Some(_), Act::ChunkBad) => 501,
            (Some(_), Act::ChunkTooBig) => 552,
            (Some(before), Act::Chunk) if before + 10 <= 100 => {
                self.at = At::Chunks { octets: before + 10 };
                250
            }
            (Some(before), Act::LastChunk) if before + 10 > 100 => 552,
            (Some(_), Act::LastChunk | Act::EmptyLastChunk) => {
                self.messages += 1;
                250
            }
            (Some(_), _) => 552,
        }
    }
}

fn octets(act: Act) -> Vec<u8> {
    let text = match act {
        Act::Ehlo => "EHLO x\r\n",
        Act::Mail => "MAIL FROM:<a@example.com>\r\n",
        Act::MailRefused => "MAIL FROM:<refused@example.com>\r\n",
        Act::Recipient => "RCPT TO:<brian@example.net>\r\n",
        Act::RecipientRefused => "RCPT TO:<nobody>\r\n",
        Act::Data => "DATA\r\n01234567\r\n.\r\n",
        Act::DataVirus => "DATA\r\nXXXEICAR\r\n.\r\n",
        Act::DataTooBig => return [b"DATA\r\n", &[b'x'; 100][..], b"\r\n.\r\n"].concat(),
        Act::Chunk => "BDAT 10\r\nQUIT\r\nRSET",
        Act::ChunkTooBig => return [b"BDAT 101\r\n", &[b'\n'; 101][..]].concat(),
        Act::ChunkBad => "BDAT 10 SOON\r\nQUIT\r\nRSET",
        Act::LastChunk => "BDAT 10 LAST\r\nQUIT\r\nRSET",
        Act::EmptyLastChunk => "BDAT 0 LAST\r\n",
        Act::Reset => "RSET\r\n",
        Act::Auth => "AUTH PLAIN AGJyaWFuAG1haWxib3g=\r\n",
        Act::AuthWrong => "AUTH PLAIN AGJyaWFuAHdyb25n\r\n",
        Act::StartTls => "STARTTLS\r\n",
        Act::Noop => "NOOP\r\n",
        Act::Verify => "VRFY brian@example.net\r\n",
        Act::Unknown => "WHAT\r\n",
    };
    text.as_bytes().to_vec()
}

/// The codes of replies, each but once however many lines it has.
fn codes(replies: &str) -> Vec<u16> {
    replies
        .lines()
        .filter(|line| line.as_bytes().get(3) == Some(&b' '))
        .filter_map(|line| line[..3].parse().ok())
        .collect()
}

#[test]
fn v5_v7_random_walks_agree_with_the_reference() {
    let mut seed = 0x0123_4567_89ab_cdef_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap_or_default() % below
    };
    for walk in 0..400 {
        let mut world = World::named("opportunistic");
        world.config.extensions = smtp_proto::Extensions::ALL;
        world.config.auth_required = false;
        world.config.message_octets_max = 100;
        world.config.errors_hard_max = u32::MAX;
        let mut line = Line::to(world);
        let mut reference = Reference { greeted: false, tls: false, account: false, at: At::Nothing, messages: 0 };
        let mut history = Vec::new();
        let size = 1 + random(9);
        for _ in 0..60 {
            // MAIL and RCPT come oftener than the rest, or walks would hardly ever get anywhere.
            let act = match random(3) {
                0 => [Act::Ehlo, Act::Mail, Act::Recipient, Act::Recipient][random(4)],
                _ => ACTS[random(ACTS.len())],
            };
            history.push(act);
            let expected = reference.expect(act);
            let octets = octets(act);
            let replies: String = match walk % 2 {
                0 => line.send(&octets),
                _ => octets.chunks(size).map(|piece| line.send(piece)).collect(),
            };
            assert_eq!(codes(&replies), expected, "{history:?}\n{reference:?}\n{replies}");
            assert_eq!(line.world.is_staging(), matches!(reference.at, At::Chunks { .. }), "{history:?}");
            assert_eq!(line.world.messages.len(), reference.messages, "{history:?}");
        }
    }
}
