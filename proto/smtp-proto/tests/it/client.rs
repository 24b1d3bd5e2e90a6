//! What peers could do to the sending side, tried on it.

use crate::house::{End, House, Work, config, facts, transaction};
use mail::{Machine, Moment, Step};
use smtp_proto::client::{Ending, Fate, Fault, Loss, Part, Protocol, Report, Session, Stage, TlsDemand};
use std::collections::VecDeque;
use std::time::Duration;

/// Largest step that a session may hand out, in octets.
const STEP_OCTETS_MAX: usize = 64 * 1024;
/// Most steps without a wait that any test needs.
const STEPS_MAX: usize = 10_000;
/// Weight of a session that holds what it may, with the results of some hundred recipients.
pub const WEIGHT_MAX: usize = 400_000;
/// RFC 2920 §3.1: what a peer's window holds.
const WINDOW_OCTETS: usize = 4_096;

/// A client session on the line, with its house behind it. Time passes only when a test says so.
pub struct Line {
    pub session: Session,
    pub house: House,
    pub now: Moment,
    /// The end of the wait that the session is in.
    pub deadline: Moment,
    pub state: State,
    /// Everything that was sent.
    pub sent: Vec<u8>,
    /// How much of it was heard by the test.
    heard: usize,
}

/// What a session is at, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Waiting,
    Handshake,
    Closed,
}

impl Line {
    /// Connected.
    pub fn of(house: House) -> Line {
        let session = house.session();
        let (now, state) = (Moment::default(), State::Waiting);
        let mut line = Line { session, house, now, deadline: now, state, sent: Vec::new(), heard: 0 };
        line.run();
        line
    }

    /// Carries steps until the session waits.
    pub fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            match self.session.next(self.now) {
                Step::Write(octets) => {
                    assert!(!octets.is_empty() && octets.len() <= STEP_OCTETS_MAX, "{}", octets.len());
                    self.sent.extend(octets);
                }
                Step::Ask(question) => {
                    let answer = self.house.answer(question);
                    self.session.answer(answer);
                }
                Step::Wait { deadline, .. } => {
                    assert!(deadline > self.now);
                    (self.deadline, self.state) = (deadline, State::Waiting);
                    return;
                }
                Step::StartTls => {
                    self.state = State::Handshake;
                    return;
                }
                Step::Close => {
                    self.state = State::Closed;
                    return;
                }
                Step::Body(_) => panic!("a client has no body to stage"),
            }
        }
        panic!("the session does not come to rest");
    }

    /// The peer says something, if there is anybody to hear it.
    pub fn say(&mut self, octets: &[u8]) {
        if self.state == State::Waiting {
            self.session.receive(octets);
            self.run();
        }
    }

    /// The peer is gone.
    pub fn hang_up(&mut self) {
        self.session.end_of_input();
        self.run();
    }

    /// Nothing is heard any more: every wait runs out.
    pub fn time_out(&mut self) {
        for _ in 0..20 {
            if self.state == State::Closed {
                return;
            }
            self.now = self.deadline.max(self.now.after(Duration::from_secs(120)));
            self.run();
        }
        panic!("the session waits for ever");
    }

    pub fn start_tls(&mut self) {
        self.session.tls_started(facts());
        self.run();
    }

    /// What was sent since the last call.
    pub fn hear(&mut self) -> Vec<u8> {
        let news = self.sent[self.heard..].to_vec();
        self.heard = self.sent.len();
        news
    }

    /// How much the session holds, as the length of its printed form.
    pub fn weight(&self) -> usize {
        format!("{:?}", self.session).len()
    }

    fn ending(&self) -> &Ending {
        self.house.ending.as_ref().expect("an ending")
    }
}

/// A house with messages to these recipients, the text in pieces.
pub fn house(protocol: Protocol, recipients: &[&str], text: &[u8], messages: usize) -> House {
    let pieces: VecDeque<Vec<u8>> = text.chunks(1_000).map(<[u8]>::to_vec).collect();
    let work = Work(transaction(recipients), pieces, End::Whole);
    House::new(config(protocol), vec![work; messages])
}

const THREE: [&str; 3] = ["brian@example.net", "notbrian@example.net", "full@example.net"];

/// A dialogue whose session ends well, as the peer's octets; TLS is not started.
const GOOD: &[u8] =
    b"220 mx.example.net\r\n250-mx.example.net\r\n250 PIPELINING\r\n250 a\r\n250 b\r\n550 no\r\n250-c\r\n250 c\r\n\
                      354 go\r\n250 2.0.0 taken\r\n221 bye\r\n";

/// Says octets one at a time up to the cut.
fn up_to(cut: usize) -> Line {
    let mut line = Line::of(house(Protocol::Smtp, &THREE, b"a\r\n.\r\nb", 1));
    GOOD[..cut].iter().for_each(|octet| line.say(&[*octet]));
    line
}

/// What must hold however a session ended: each recipient of each transaction that was begun has one result, the result is
/// unknown only after the end of data, and nothing was taken without a reply.
fn assert_accounted(line: &Line, recipients: usize) {
    assert_eq!(line.state, State::Closed);
    let ended_texts = String::from_utf8_lossy(&line.sent).matches("\r\n.\r\n").count();
    for Report { fates, .. } in &line.house.reports {
        assert_eq!(fates.len(), recipients);
        for fate in fates {
            let verdict = fate.verdict();
            assert!(verdict.text.chars().all(|c| (' '..='~').contains(&c)), "V13: {:?}", verdict.text);
            assert!(!fate.is_ambiguous() || ended_texts > 0, "{fate:?}");
            assert!(!matches!(fate, Fate::Taken(_)) || ended_texts > 0, "{fate:?}");
        }
    }
    let verdict = line.ending().verdict();
    assert!(verdict.text.chars().all(|c| (' '..='~').contains(&c)), "V13: {:?}", verdict.text);
}

fn lost_at(line: &Line) -> Option<Stage> {
    line.house.reports.first()?.fates.iter().find_map(|fate| match fate {
        Fate::Lost { at, .. } => Some(*at),
        _ => None,
    })
}

#[test]
fn breaking_off_at_every_octet_is_accounted_for() {
    let verdict = GOOD.windows(5).position(|window| window == b"taken").unwrap() + 7;
    let go = GOOD.windows(4).position(|window| window == b" go\r").unwrap() + 5;
    for cut in 0..=GOOD.len() {
        let mut line = up_to(cut);
        let before = line.sent.len();
        if line.state != State::Closed {
            line.hang_up();
        }
        assert_accounted(&line, 3);
        assert_eq!(line.sent.len(), before, "{cut}: something was said to nobody");
        match cut {
            _ if cut >= verdict => assert!(matches!(line.house.reports[0].fates[0], Fate::Taken(_))),
            _ if cut >= go => assert_eq!(lost_at(&line), Some(Stage::EndOfData), "{cut}"),
            _ => assert!(lost_at(&line) < Some(Stage::Body), "{cut}"),
        }
        if cut >= 70 && cut < verdict {
            let ending = Ending::Lost { at: Part::Transaction, loss: Loss::Closed };
            assert_eq!(line.house.ending, Some(ending), "{cut}");
        }
    }
}

#[test]
fn silence_at_every_octet_ends_in_time() {
    for cut in 0..=GOOD.len() {
        let mut line = up_to(cut);
        line.time_out();
        assert_accounted(&line, 3);
        assert!(line.now <= Moment(Duration::from_secs(900)), "{cut}: {:?}", line.now);
    }
}

/// Octets that drip in do not prolong a wait.
#[test]
fn dripping_replies_end_in_time() {
    let mut line = Line::of(house(Protocol::Smtp, &THREE, b"", 1));
    for _ in 0..400 {
        line.say(b"2");
        line.now = line.now.after(Duration::from_secs(1));
        line.run();
    }
    assert_eq!(line.ending(), &Ending::Lost { at: Part::Greeting, loss: Loss::TimedOut });
    assert_eq!(line.state, State::Closed);
}

/// RFC 5321 §3.8, §4.2: one reply to each command, and a 421 at any time. A peer that says more with its last reply has lost
/// its place or is going, and gets no further message.
#[test]
fn what_comes_unasked_between_two_messages_ends_the_session() {
    let taken = GOOD.windows(5).position(|window| window == b"taken").unwrap() + 7;
    let whole = |more: &[u8]| {
        let mut line = Line::of(house(Protocol::Smtp, &THREE, b"x", 2));
        GOOD[..taken - b"250 2.0.0 taken\r\n".len()].iter().for_each(|octet| line.say(&[*octet]));
        line.say(&[b"250 2.0.0 taken\r\n", more].concat());
        assert!(line.house.reports.len() == 1 && line.house.reports[0].usable && line.state == State::Closed);
        match line.ending().clone() {
            Ending::Lost { at: Part::Idle, loss } => loss,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(whole(b"250 once more\r\n"), Loss::Broken(Fault::OutOfTurn));
    assert!(matches!(whole(b"421 4.4.2 enough\r\n"), Loss::Goodbye(reply) if reply.code == 421));
    assert!(matches!(whole(b"nonsense\r\n"), Loss::Broken(Fault::Reply(_))));
}

/// V3, V4: whatever comes in the clear with or after the reply to STARTTLS ends the session, before a word of it counts.
#[test]
fn v4_clear_text_after_starttls_is_not_believed() {
    let opening = b"220 mx\r\n";
    let injections: [&[u8]; 5] =
        [b"250-mx\r\n250 AUTH PLAIN\r\n", b"2", b"\r\n", b"220 again\r\n", b"250-mx\r\n250-8BITMIME\r\n250"];
    for injected in injections {
        for demand in [TlsDemand::IfOffered, TlsDemand::Required] {
            let open = || {
                let mut house = house(Protocol::Smtp, &THREE, b"", 1);
                house.config.tls = demand;
                let mut line = Line::of(house);
                line.say(opening);
                line.say(b"250-mx\r\n250-STARTTLS\r\n250 PIPELINING\r\n");
                line
            };
            // In one piece with the reply.
            let mut line = open();
            line.say(&[b"220 go\r\n", injected].concat());
            assert_eq!(line.state, State::Closed, "{injected:?}");
            // After it, by a driver that hands on what the handshake did not take.
            let mut other = open();
            other.say(b"220 go\r\n");
            assert_eq!(other.state, State::Handshake);
            other.session.receive(injected);
            other.start_tls();
            for line in [line, other] {
                let loss = Loss::Broken(Fault::ClearTextAfterStartTls);
                assert_eq!(line.ending(), &Ending::Lost { at: Part::StartTls, loss });
                assert_eq!(line.state, State::Closed);
                assert_eq!(line.sent, b"EHLO client.example.com\r\nSTARTTLS\r\n");
            }
        }
    }
    // Octets of a reply that had begun before are no better.
    let mut line = Line::of(house(Protocol::Smtp, &THREE, b"", 1));
    line.say(opening);
    line.say(b"250-mx\r\n250 STARTTLS\r\n");
    line.say(b"220 go\r\n250-mx\r\n250-SIZE");
    assert_eq!(line.state, State::Closed);
}

/// V4: after the handshake, nothing is known that was announced before it.
#[test]
fn v4_everything_is_learned_again() {
    let mut line = Line::of(house(Protocol::Smtp, &THREE, b"", 1));
    line.say(b"220 mx\r\n");
    line.say(b"250-liar.example\r\n250-STARTTLS\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 SIZE 1\r\n");
    line.say(b"220 go\r\n");
    line.start_tls();
    let peer = line.session.peer().clone();
    assert!(peer.protection.is_tls() && peer.name.is_none() && peer.greeting.is_none() && peer.hello.is_none());
    assert_eq!(peer.offers, smtp_proto::client::Offers::NONE);
    line.say(b"250 mx.example.net\r\n");
    assert!(line.sent.ends_with(b"STARTTLS\r\nEHLO client.example.com\r\nMAIL FROM:<a@example.com>\r\n"));
    assert_eq!(line.session.peer().name.as_deref(), Some("mx.example.net"));
}

#[test]
fn credentials_are_not_printed() {
    let mut line = Line::of(House::named("inside-tls auth"));
    line.say(b"220 mx\r\n");
    line.session.receive(b"250-mx\r\n250 AUTH PLAIN\r\n");
    let mut printed = format!("{:?}", line.session);
    // What is about to be sent, too.
    while let Step::Write(octets) = line.session.next(line.now) {
        assert!(octets.starts_with(b"AUTH PLAIN "));
        printed += &format!("{:?}", line.session);
    }
    for secret in ["mailbox", "AGJyaWFuAG1haWxib3g=", "bWFpbGJveA"] {
        assert!(!printed.contains(secret));
    }
}

/// RFC 2920 §3.1: thousands of recipients go in groups that a window holds, and in bounded memory.
#[test]
fn groups_fit_in_the_window_of_the_peer() {
    let recipients: Vec<String> = (0..5_000).map(|number| format!("account{number}@example.net")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    for size in [1, 3, 1_000] {
        let mut line = Line::of(house(Protocol::Smtp, &recipients, b"hello\r\n", 1));
        line.say(b"220 mx\r\n");
        line.say(b"250-mx\r\n250 PIPELINING\r\n");
        let mut unanswered: VecDeque<usize> = VecDeque::new();
        let (mut commands, mut groups) = (0, 0);
        let mut news = line.hear();
        news.drain(..news.windows(4).position(|window| window == b"MAIL").unwrap());
        loop {
            groups += usize::from(!news.is_empty());
            unanswered.extend(news.split_inclusive(|b| *b == b'\n').map(<[u8]>::len));
            assert!(unanswered.iter().sum::<usize>() <= WINDOW_OCTETS);
            // The peer answers some of them.
            let answers = size.min(unanswered.len());
            commands += answers;
            unanswered.drain(..answers);
            if commands > 5_001 {
                line.say(&b"250 2.1.5 Ok\r\n".repeat(answers - 1));
                break;
            }
            line.say(&b"250 2.1.5 Ok\r\n".repeat(answers));
            news = line.hear();
        }
        assert_eq!((commands, unanswered.len()), (5_002, 0));
        assert!(groups < 200, "{groups} groups for answers by {size}");
        line.say(b"354 go\r\n");
        line.say(b"250 2.0.0 taken\r\n");
        assert!(line.house.reports[0].fates.iter().all(|fate| matches!(fate, Fate::Taken(_))));
        assert!(line.weight() < 10_000, "{}", line.weight());
    }
}

/// RFC 5321 §4.5.3.1.10: a peer that takes a hundred at a time is not asked in vain for each of the others.
#[test]
fn a_peer_that_takes_no_more_is_not_asked_again() {
    let recipients: Vec<String> = (0..1_000).map(|number| format!("account{number}@example.net")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut line = Line::of(house(Protocol::Smtp, &recipients, b"hello\r\n", 1));
    line.say(b"220 mx\r\n");
    line.say(b"250-mx\r\n250 PIPELINING\r\n");
    line.hear();
    let mut answered = 0;
    let mut awaited = line.sent.split(|b| *b == b'\n').count() - 2;
    let mut commands = awaited;
    while !line.sent.ends_with(b"DATA\r\n") {
        for _ in 0..awaited {
            line.say(if answered <= 100 { b"250 2.1.5 Ok\r\n" } else { b"452 4.5.3 Too many recipients\r\n" });
            answered += 1;
        }
        awaited = line.hear().iter().filter(|b| **b == b'\n').count();
        commands += awaited;
    }
    for _ in 1..awaited {
        line.say(b"452 4.5.3 Too many recipients\r\n");
    }
    assert!(commands < 400, "{commands}");
    line.say(b"354 go\r\n");
    line.say(b"250 2.0.0 taken\r\n");
    let fates = &line.house.reports[0].fates;
    assert_eq!(fates.iter().filter(|fate| matches!(fate, Fate::Taken(_))).count(), 100);
    assert_eq!(fates.iter().filter(|fate| matches!(fate, Fate::Surplus(_))).count(), 900);
}

/// A message of megabytes goes out in bounded steps, whether the house gives it in one piece or in many.
#[test]
fn a_large_message_takes_no_memory() {
    let text = b".\r\n0123456789\r\n".repeat(200_000);
    for chunks in [false, true] {
        for piece in [1_000, text.len()] {
            let mut house = house(Protocol::Smtp, &THREE[..1], b"", 1);
            house.config.chunking = chunks;
            let pieces = text.chunks(piece).map(<[u8]>::to_vec).collect();
            house.work = vec![Work(transaction(&THREE[..1]), pieces, End::Whole)].into();
            let mut line = Line::of(house);
            line.say(b"220 mx\r\n");
            line.say(b"250-mx\r\n250 CHUNKING\r\n");
            line.say(b"250 a\r\n");
            line.say(b"250 b\r\n");
            if !chunks {
                line.say(b"354 go\r\n");
            }
            while line.house.reports.is_empty() {
                line.say(b"250 ok\r\n");
            }
            assert!(matches!(line.house.reports[0].fates[0], Fate::Taken(_)));
            let dots = if chunks { 0 } else { 200_000 };
            assert!(line.sent.len() > text.len() + dots && line.sent.len() < text.len() + dots + 10_000);
        }
    }
}

/// A chunk that is refused ends the message; those under way are answered, no last one is sent, and RSET clears up.
#[test]
fn a_refused_chunk_is_the_end_of_the_message() {
    let text = b"0123456789abcde\r\n".repeat(50_000);
    for (pipelining, in_flight) in [(true, 8), (false, 1)] {
        let mut house = house(Protocol::Smtp, &THREE[..1], &text, 2);
        house.config.chunking = true;
        house.config.pipelining = pipelining;
        let mut line = Line::of(house);
        line.say(b"220 mx\r\n");
        line.say(b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
        line.say(b"250 a\r\n");
        line.say(b"250 b\r\n");
        let chunks = |line: &Line| line.sent.windows(5).filter(|window| *window == b"BDAT ").count();
        assert_eq!(chunks(&line), in_flight);
        line.say(b"250 ok\r\n");
        assert_eq!(chunks(&line), in_flight + 1);
        line.say(b"452 4.3.1 no space\r\n");
        for _ in 1..in_flight {
            assert!(line.house.reports.is_empty());
            line.say(b"503 5.5.1 no\r\n");
        }
        assert_eq!(chunks(&line), in_flight + 1);
        let report = &line.house.reports[0];
        assert!(report.usable && matches!(report.fates[0], Fate::Refused { at: Stage::Body, .. }));
        let after = if pipelining { "RSET\r\nMAIL FROM:<a@example.com>\r\n" } else { "RSET\r\n" };
        assert!(String::from_utf8_lossy(&line.sent).contains(after));
    }
}

/// A peer that refuses in the midst of the text, and a driver that delivers that at once or when a write fails.
#[test]
fn a_refusal_in_the_midst_of_the_text_is_heard() {
    let text = b"0123456789abcde\r\n".repeat(50_000);
    for (reply, expected) in [
        (&b"552 5.3.4 too big\r\n"[..], Some(552)),
        (b"421 4.3.2 going down\r\n", Some(421)),
        (b"250 thanks\r\n", None),
        (b"", None),
    ] {
        let house = house(Protocol::Smtp, &THREE[..1], &text, 1);
        let mut line = Line::of(house);
        [&b"220 mx\r\n"[..], b"250 mx\r\n", b"250 a\r\n", b"250 b\r\n"].into_iter().for_each(|reply| line.say(reply));
        line.session.receive(b"354 go\r\n");
        let Step::Ask(question) = line.session.next(line.now) else { panic!("a question is due") };
        let answer = line.house.answer(question);
        line.session.answer(answer);
        line.session.receive(reply);
        line.session.end_of_input();
        line.run();
        assert!(!line.sent.ends_with(b".\r\n") && !line.house.reports[0].usable);
        match (&line.house.reports[0].fates[0], expected) {
            (Fate::Refused { at: Stage::Body, reply }, Some(code)) => assert_eq!(reply.code, code),
            (Fate::Lost { at: Stage::Body, .. }, None) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A peer without end is cut off.
#[test]
fn v10_an_endless_reply_takes_no_memory() {
    for piece in [&b"250-more and more\r\n"[..], b"aaaaaaaaaaaaaaaa", b"250-\r\n"] {
        let mut line = Line::of(house(Protocol::Smtp, &THREE, b"", 1));
        line.say(b"220 mx\r\n");
        let burst = piece.repeat(1_000);
        for _ in 0..100 {
            line.say(&burst);
            assert!(line.weight() < WEIGHT_MAX);
        }
        assert_eq!(line.state, State::Closed);
        assert!(matches!(line.ending(), Ending::Lost { at: Part::Hello, loss: Loss::Broken(Fault::Reply(_)) }));
    }
}
