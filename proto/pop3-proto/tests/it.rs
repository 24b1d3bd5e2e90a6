//! Sessions against an account in memory: the text dialogues, and properties of whole sessions.

#[path = "it/maildrop.rs"]
mod maildrop;

use bytes::Bytes;
use mail::{
    AccountName, BlobId, Flags, InternalDate, Machine, MailboxId, Message, ModSeq, Moment, PeerFacts, Snapshot, Step,
    TlsFacts, Uid, UidValidity,
};
use maildrop::{MASKED, PASSWORDS, UID_NEXT, UID_VALIDITY, maildrop};
use pop3_proto::{Answer, AuthFailure, Config, Question, Session, Unavailable};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use testkit::dialogue::{Dialogue, Split, load, replay};

/// An account `brian@example.net` with the password `hunter2`, and what is the matter with it.
struct World {
    messages: BTreeMap<u32, Option<Vec<u8>>>,
    /// Sizes that the maildrop claims, where they are not true.
    claimed: BTreeMap<u32, u32>,
    config: Config,
    tls: bool,
    directory: bool,
    opens: bool,
    removes: bool,
}

impl World {
    fn named(name: &str) -> World {
        let messages = maildrop(name);
        let mut world = World {
            messages: messages.iter().map(|mail| (mail.uid, mail.text.map(|text| text.into()))).collect(),
            claimed: messages.iter().filter_map(|mail| Some((mail.uid, mail.claimed?))).collect(),
            config: Config::new("mx.example.net"),
            tls: true,
            directory: true,
            opens: true,
            removes: true,
        };
        match name {
            "small" | "empty" | "odd" | "message-lost" | "message-short" => {}
            "clear" => world.tls = false,
            "clear-only" => (world.tls, world.config.tls_available) = (false, false),
            "directory-down" => world.directory = false,
            "maildrop-locked" => world.opens = false,
            "maildrop-stuck" => world.removes = false,
            "masked" => world.config.masked = MASKED.to_vec(),
            other => panic!("no world {other}"),
        }
        world
    }

    fn session(&self) -> Session {
        let tls = TlsFacts { version: "TLSv1.3", cipher: String::new(), bits: 256, server_name: None };
        let peer = PeerFacts { peer: None, local: None, tls: self.tls.then_some(tls) };
        Session::new(Arc::new(self.config.clone()), peer)
    }

    fn snapshot(&self) -> Snapshot {
        let message = |(uid, text): (&u32, &Option<Vec<u8>>)| Message {
            uid: Uid(*uid),
            flags: Flags::NONE,
            keywords: 0,
            mod_sequence: ModSeq(1),
            size_octets: self.claimed.get(uid).copied().unwrap_or(text.as_ref().map_or(0, |text| text.len() as u32)),
            internal_date: InternalDate::default(),
            blob: BlobId(u64::from(*uid)),
        };
        Snapshot::empty(MailboxId(1), UidValidity(UID_VALIDITY), Uid(UID_NEXT), ModSeq(1))
            .with_messages(self.messages.iter().map(message))
    }

    fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Authenticate(_) if !self.directory => Answer::Authenticated(Err(AuthFailure::Temporary)),
            Question::Authenticate(credentials) => {
                let fits = PASSWORDS.contains(&(credentials.login.as_str(), credentials.password.expose()));
                let account = AccountName::parse(&credentials.login).filter(|_| fits);
                Answer::Authenticated(account.ok_or(AuthFailure::Denied))
            }
            Question::Open if !self.opens => Answer::Maildrop(Err(Unavailable)),
            Question::Open => {
                let snapshot = Arc::new(self.snapshot());
                // R60: whatever arrives from now on is not seen by the session.
                self.messages.insert(99, Some(b"Subject: late\r\n\r\n".to_vec()));
                Answer::Maildrop(Ok(snapshot))
            }
            Question::Read { uid, start, octets } => {
                assert!(octets <= 128 * 1_024);
                let message = self.messages.get(&uid.0).cloned().flatten();
                Answer::Octets(message.map(|text| {
                    let end = text.len().min((start + octets) as usize);
                    Bytes::copy_from_slice(text.get(start as usize..end).unwrap_or_default())
                }))
            }
            Question::Remove(_) if !self.removes => Answer::Removed(Err(Unavailable)),
            Question::Remove(uids) => {
                uids.iter().for_each(|uid| assert!(self.messages.remove(&uid.0).is_some()));
                Answer::Removed(Ok(()))
            }
        }
    }
}

fn play(dialogue: &Dialogue, split: Split) -> Result<(), String> {
    let mut world = World::named(&dialogue.world);
    replay(dialogue, world.session(), split, |question, _| world.answer(question))
}

#[test]
fn dialogues_hold_whole_and_by_octets() {
    let dialogues = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues"));
    let failures: Vec<String> = dialogues
        .iter()
        .flat_map(|dialogue| [play(dialogue, Split::Whole), play(dialogue, Split::Octets)])
        .filter_map(Result::err)
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What happened while a session ran.
#[derive(Debug, Default, PartialEq, Eq)]
struct Log {
    output: Vec<u8>,
    writes: usize,
    longest_write: usize,
    waits: usize,
    asks: Vec<Question>,
    closed: bool,
}

/// Drives a session with the client's octets in pieces, then the end of input. A handshake succeeds at once.
fn run<'a>(world: &mut World, pieces: impl IntoIterator<Item = &'a [u8]>) -> Log {
    let mut session = world.session();
    let mut pieces = pieces.into_iter();
    let mut log = Log::default();
    loop {
        match session.next(Moment::default()) {
            Step::Write(octets) => {
                log.writes += 1;
                log.longest_write = log.longest_write.max(octets.len());
                log.output.extend(octets);
            }
            Step::Body(_) => panic!("POP3 receives no message"),
            Step::Ask(question) => {
                log.asks.push(question.clone());
                session.answer(world.answer(question));
            }
            Step::Wait { .. } => {
                log.waits += 1;
                match pieces.next() {
                    Some(piece) => session.receive(piece),
                    None => session.end_of_input(),
                }
            }
            Step::StartTls => {
                let facts = TlsFacts { version: "TLSv1.3", cipher: String::new(), bits: 256, server_name: None };
                session.tls_started(facts);
            }
            Step::Close => {
                log.closed = true;
                return log;
            }
        }
    }
}

const LOGIN: &str = "USER brian@example.net\r\nPASS hunter2\r\n";

#[test]
fn r58_a_lost_connection_removes_nothing() {
    let mut world = World::named("small");
    let log = run(&mut world, [format!("{LOGIN}DELE 1\r\nDELE 2\r\nQUI").as_bytes()]);
    assert!(log.closed && world.messages.contains_key(&4) && world.messages.contains_key(&7));
    assert!(!log.asks.iter().any(|question| matches!(question, Question::Remove(_))));
    let log = run(&mut world, [format!("{LOGIN}DELE 1\r\nQUIT\r\n").as_bytes()]);
    assert_eq!(log.asks.last(), Some(&Question::Remove(vec![Uid(4)])));
    assert!(!world.messages.contains_key(&4) && world.messages.contains_key(&7));
}

#[test]
fn pipelined_retrievals_need_one_question_each_and_no_wait() {
    let mut world = World::named("empty");
    world.messages =
        (1..=20).map(|uid| (uid, Some(format!("A: {uid}\r\n\r\n{}", "text\r\n".repeat(600)).into()))).collect();
    let batch: String = (1..=20).map(|number| format!("RETR {number}\r\n")).collect();
    let log = run(&mut world, [format!("{LOGIN}{batch}QUIT\r\n").as_bytes()]);
    assert_eq!(log.asks.iter().filter(|question| matches!(question, Question::Read { .. })).count(), 20);
    assert_eq!((log.waits, log.closed), (1, true));
    assert_eq!(log.output.windows(5).filter(|window| window == b"\r\n.\r\n").count(), 20);
    assert!(log.writes <= 7, "{} writes", log.writes);
}

#[test]
fn a_large_message_streams_in_pieces() {
    let text = b"Subject: large\r\n\r\n".iter().copied().chain(b".123456789\r\n".repeat(50_000)).collect::<Vec<u8>>();
    let mut world = World::named("empty");
    world.messages.insert(1, Some(text.clone()));
    let log = run(&mut world, [format!("{LOGIN}RETR 1\r\nTOP 1 1\r\nQUIT\r\n").as_bytes()]);
    assert!(log.longest_write < 128 * 1_024 + 64 * 1_024, "{}", log.longest_write);
    let sent = String::from_utf8(log.output).unwrap();
    let reply = sent.split_once(&format!("+OK {} octets\r\n", text.len())).unwrap().1;
    let (body, rest) = reply.split_once("\r\n.\r\n").unwrap();
    assert_eq!(body.matches("\r\n..123456789").count(), 50_000);
    assert_eq!(
        rest,
        "+OK Top of message follows.\r\nSubject: large\r\n\r\n..123456789\r\n.\r\n+OK Signing off (1 message left).\r\n"
    );
    let reads: Vec<u64> = log
        .asks
        .iter()
        .filter_map(|question| if let Question::Read { octets, .. } = question { Some(*octets) } else { None })
        .collect();
    assert_eq!(reads, [131_072, 131_072, 131_072, 131_072, 600_018 - 524_288, 16_384]);
}

#[test]
fn r61_listings_of_100_000_messages_stream() {
    let mut world = World::named("empty");
    world.messages = (1..=100_000).map(|uid| (uid, Some(vec![b'x'; 3]))).collect();
    let log = run(&mut world, [format!("{LOGIN}LIST\r\nUIDL\r\nDELE 50000\r\nLIST\r\nQUIT\r\n").as_bytes()]);
    assert!(log.longest_write <= 33 * 1_024, "{}", log.longest_write);
    let sent = String::from_utf8(log.output).unwrap();
    let lists: Vec<&str> = sent.split("\r\n.\r\n").collect();
    assert_eq!(lists.len(), 4);
    assert!(lists[0].ends_with("100000 3") && lists[1].ends_with("100000 000000006512000100000000000186a0"));
    assert_eq!(lists[0].matches("\r\n").count() - 3, 100_000);
    assert!(lists[2].contains("\r\n49999 3\r\n50001 3\r\n"));
    let ids: std::collections::BTreeSet<&str> =
        lists[1].lines().skip(1).filter_map(|line| line.split_once(' ')).map(|(_, id)| id).collect();
    assert_eq!(ids.len(), 100_000);
}

#[test]
fn v10_v18_v28_random_octets_end_every_session_the_same_however_split() {
    let words: [&[u8]; 26] = [
        b"USER brian@example.net\r\n",
        b"PASS hunter2\r\n",
        b"PASS \xff\r\n",
        b"AUTH PLAIN AGJyaWFuQGV4YW1wbGUubmV0AGh1bnRlcjI=\r\n",
        b"AUTH LOGIN\r\n",
        b"AUTH PLAIN\r\n",
        b"YnJpYW5AZXhhbXBsZS5uZXQ=\r\n",
        b"aHVudGVyMg==\r\n",
        b"*\r\n",
        b"=\n",
        b"====\r\n",
        b"STAT\r\n",
        b"LIST\r\n",
        b"UIDL 2\r\n",
        b"RETR 1\r\n",
        b"RETR 4\r\n",
        b"TOP 1 1\r\n",
        b"TOP 3 4294967296\r\n",
        b"DELE 1\r\n",
        b"DELE 99\r\n",
        b"RSET\r\n",
        b"CAPA\r\n",
        b"\0\x01\xfe",
        b" ",
        b"QUIT\r\n",
        &[b'A'; 3_000],
    ];
    let mut seed = 11u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for round in 0..400 {
        let mut octets = if round % 2 == 0 { LOGIN.as_bytes().to_vec() } else { Vec::new() };
        for _ in 0..random(40) {
            octets.extend_from_slice(words[random(words.len())]);
        }
        let whole = run(&mut World::named("odd"), [octets.as_slice()]);
        let size = 1 + random(9);
        let split = run(&mut World::named("odd"), octets.chunks(size));
        assert!(whole.closed && split.closed);
        assert_eq!(whole.asks, split.asks);
        assert_eq!(whole.output, split.output, "{}", octets.escape_ascii());
    }
}

#[test]
fn r60_numbers_stay_while_mail_arrives_and_goes() {
    let mut world = World::named("small");
    let mut session = world.session();
    let mut output = Vec::new();
    let mut say = |world: &mut World, octets: &[u8]| {
        session.receive(octets);
        loop {
            match session.next(Moment::default()) {
                Step::Write(octets) => output.extend(octets),
                Step::Ask(question) => session.answer(world.answer(question)),
                _ => return String::from_utf8(std::mem::take(&mut output)).unwrap(),
            }
        }
    };
    say(&mut world, b"");
    assert!(say(&mut world, LOGIN.as_bytes()).ends_with("+OK Logged in.\r\n"));
    world.messages.insert(100, Some(b"new\r\n".to_vec()));
    world.messages.remove(&4);
    assert_eq!(
        say(&mut world, b"STAT\r\nRETR 1\r\n"),
        "+OK 2 97\r\n-ERR [SYS/TEMP] The message cannot be read now.\r\n"
    );
    assert!(say(&mut world, b"RETR 2\r\n").contains("Subject: two"));
}
