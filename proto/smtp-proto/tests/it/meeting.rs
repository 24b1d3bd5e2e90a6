//! Our sending side against our accepting side: what was sent is what was taken, and what was said of it is true.

use crate::house::{End, House, Work, address, config, facts, transaction};
use crate::scripted::Dice;
use crate::world::World;
use mail::{DsnReturn, Envelope, Machine, Moment, Notify, Recipient, ReversePath, Secret, Step};
use sasl::client::Identity;
use smtp_proto::client::{Content, Ending, Fate, Protocol, Stage, Transaction};
use smtp_proto::data::{Decoder, Framing};
use smtp_proto::{Extensions, client};
use std::collections::VecDeque;

/// Most steps of both sides together.
const STEPS_MAX: usize = 1_000_000;

/// Both sides and the wire between them. A handshake succeeds as soon as both want it.
struct Meeting {
    client: client::Session,
    house: House,
    server: smtp_proto::Session,
    world: World,
    text: Vec<u8>,
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
}

/// What a side is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Waits,
    WantsTls,
    Closed,
}

impl Meeting {
    fn of(house: House, world: World) -> Meeting {
        let (client, server) = (house.session(), world.session());
        let (text, to_server, to_client) = (Vec::new(), VecDeque::new(), VecDeque::new());
        Meeting { client, house, server, world, text, to_server, to_client }
    }

    /// Lets them talk until both have closed; octets go over in pieces of this size.
    fn run(mut self, size: usize) -> (House, World) {
        let (mut client, mut server) = (Side::Waits, Side::Waits);
        for _ in 0..STEPS_MAX {
            // Who wants TLS is not asked for anything before it is there.
            if client != Side::WantsTls {
                client = self.run_client();
            }
            if server != Side::WantsTls {
                server = self.run_server();
            }
            match (client, server) {
                (Side::Closed, Side::Closed) => return (self.house, self.world),
                (Side::WantsTls, Side::WantsTls) => {
                    assert!(self.to_client.is_empty() && self.to_server.is_empty());
                    self.client.tls_started(facts());
                    self.server.tls_started(facts());
                    (client, server) = (Side::Waits, Side::Waits);
                    continue;
                }
                _ => {}
            }
            let some = size.min(self.to_server.len());
            let to_server: Vec<u8> = self.to_server.drain(..some).collect();
            let some = size.min(self.to_client.len());
            let to_client: Vec<u8> = self.to_client.drain(..some).collect();
            match (server, client) {
                _ if !to_server.is_empty() && server == Side::Waits => self.server.receive(&to_server),
                (Side::Waits, Side::Closed) => self.server.end_of_input(),
                _ => {}
            }
            match (client, server) {
                _ if !to_client.is_empty() && client == Side::Waits => self.client.receive(&to_client),
                (Side::Waits, Side::Closed) => self.client.end_of_input(),
                _ => {}
            }
        }
        panic!("they talk for ever");
    }

    fn run_client(&mut self) -> Side {
        loop {
            match self.client.next(Moment::default()) {
                Step::Write(octets) => self.to_server.extend(octets),
                Step::Ask(question) => self.client.answer(self.house.answer(question)),
                Step::Wait { .. } => return Side::Waits,
                Step::StartTls => return Side::WantsTls,
                Step::Close => return Side::Closed,
                Step::Body(_) => panic!("a client has no body to stage"),
            }
        }
    }

    fn run_server(&mut self) -> Side {
        loop {
            match self.server.next(Moment::default()) {
                Step::Write(octets) => self.to_client.extend(octets),
                Step::Body(octets) => self.text.extend(octets),
                Step::Ask(question) => {
                    let answer = self.world.answer(question, &mut self.text);
                    self.server.answer(answer);
                }
                Step::Wait { .. } => return Side::Waits,
                Step::StartTls => return Side::WantsTls,
                Step::Close => return Side::Closed,
            }
        }
    }
}

/// The text as it is taken: line ends put right, and an end to the last line.
fn as_taken(pieces: &VecDeque<Vec<u8>>) -> Vec<u8> {
    let (mut decoder, mut text) = (Decoder::new(Framing::Counted), Vec::new());
    pieces.iter().for_each(|piece| {
        decoder.decode(piece, &mut text);
    });
    decoder.finish(&mut text);
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.extend_from_slice(b"\r\n");
    }
    text
}

/// The envelope that arrives at a peer with these offers, if these recipients are taken.
fn as_arrived(sent: &Transaction, taken: &[usize], offers: Extensions) -> Envelope {
    let dsn = offers.contain(Extensions::DSN);
    let mut envelope = Envelope::new(sent.reverse_path.clone());
    envelope.declared_size_octets = sent.octets.filter(|_| offers.contain(Extensions::SIZE));
    envelope.eight_bit = sent.content == Content::EightBit;
    envelope.smtputf8 = offers.contain(Extensions::SMTPUTF8)
        && (sent.smtputf8 || sent.recipients.iter().any(|recipient| recipient.address.needs_utf8()));
    envelope.require_tls = sent.require_tls;
    envelope.dsn_return = sent.dsn_return.filter(|_| dsn);
    envelope.envelope_id = sent.envelope_id.clone().filter(|_| dsn);
    envelope.recipients = taken.iter().map(|place| sent.recipients[*place].clone()).collect();
    if !dsn {
        envelope.recipients.iter_mut().for_each(|recipient| (recipient.notify, recipient.original) = (None, None));
    }
    envelope
}

const WHOM: [&str; 7] = [
    "brian@example.net",
    "notbrian@example.net",
    "full@example.net",
    "nobody@example.net",
    "brián@example.net",
    "\"odd> \\\" one\"@example.net",
    "x@[ipv6:::1]",
];

fn random_transaction(dice: &mut Dice) -> Work {
    let count = dice.pick(&[1, 2, 3, 5, 120]);
    let whom: Vec<&str> = (0..count).map(|_| dice.pick(&WHOM)).collect();
    let mut sent = transaction(&whom);
    sent.reverse_path = match dice.below(8) {
        0 => ReversePath::Null,
        1 => ReversePath::Address(address("refused@example.com")),
        2 => ReversePath::Address(address("nospace@example.com")),
        3 => ReversePath::Address(address("\"a> SIZE=1 b\"@example.com")),
        _ => sent.reverse_path,
    };
    for recipient in &mut sent.recipients {
        let on = |success| Notify::On { success, failure: true, delay: !success };
        recipient.notify = dice.pick(&[None, Some(Notify::Never), Some(on(true)), Some(on(false))]);
        let original = dice.pick(&[None, Some("rfc822;a+b=c d@x"), Some("utf-8;\\x{FC}@x"), Some("x-odd;\\"), None]);
        recipient.original = original.map(str::to_owned);
    }
    sent.octets = dice.pick(&[None, Some(0), Some(4_000)]);
    sent.content = dice.pick(&[Content::SevenBit, Content::SevenBit, Content::EightBit]);
    sent.smtputf8 = dice.below(6) == 0;
    sent.require_tls = dice.below(6) == 0;
    sent.dsn_return = dice.pick(&[None, Some(DsnReturn::Full), Some(DsnReturn::Headers)]);
    sent.envelope_id = dice.pick(&[None, Some("QQ 3+14=15"), Some("~!")]).map(str::to_owned);
    let length = dice.pick(&[0, 1, 30, 30, 3_000, 40_000]);
    let text: Vec<u8> = (0..length).map(|_| dice.pick(b"\r\n.abc\r\n.\r\n ")).collect();
    let pieces = text.chunks(1 + dice.below(30_000)).map(<[u8]>::to_vec).collect();
    Work(sent, pieces, End::Whole)
}

/// Random extensions; those whose loss would say the same of every message are there more often.
fn random_extensions(dice: &mut Dice) -> Extensions {
    Extensions::NAMES.iter().fold(Extensions::ALL, |set, (_, extension)| match dice.below(5) {
        0 => set.without(*extension),
        _ => set,
    })
}

#[test]
fn what_was_sent_is_what_was_taken() {
    let (mut taken, mut refused, mut unable) = (0, 0, 0);
    for seed in 0..120 {
        let mut dice = Dice::new(seed);
        let protocol = dice.pick(&[Protocol::Smtp, Protocol::Lmtp]);
        let mut world = World::named(if protocol == Protocol::Lmtp { "lmtp" } else { "full" });
        world.config.extensions = random_extensions(&mut dice);
        world.config.errors_hard_max = u32::MAX;
        let extensions = world.config.extensions;
        let work: Vec<Work> = (0..1 + dice.below(4)).map(|_| random_transaction(&mut dice)).collect();
        let mut house = House::new(config(protocol), work.clone());
        house.config.pipelining = dice.below(4) > 0;
        house.config.chunking = dice.below(2) == 0;
        // LMTP is in the clear here; SMTP begins TLS where it is offered.
        let is_tls = protocol == Protocol::Smtp && extensions.contain(Extensions::STARTTLS);
        let offers = if is_tls { extensions } else { extensions.without(Extensions::REQUIRETLS) };
        let size = dice.pick(&[3, 100, 5_000, 100_000]);
        let (house, world) = Meeting::of(house, world).run(size);
        assert_eq!(house.ending, Some(Ending::Quit), "{seed}");
        assert_eq!(house.reports.len(), work.len());
        let mut arrived = world.messages.iter();
        for (work, report) in work.iter().zip(&house.reports) {
            let Work(sent, pieces, _) = work;
            assert!(report.usable && report.fates.len() == sent.recipients.len());
            // A message reached the world if only one of its mailboxes was full.
            let reached = |fate: &Fate| match fate {
                Fate::Refused { at: Stage::EndOfData, reply } => reply.code == 552,
                fate => matches!(fate, Fate::Taken(_)),
            };
            let places: Vec<usize> = (0..report.fates.len()).filter(|place| reached(&report.fates[*place])).collect();
            for (recipient, fate) in sent.recipients.iter().zip(&report.fates) {
                check_fate(protocol, recipient, fate);
                match fate {
                    Fate::Taken(_) => taken += 1,
                    Fate::Unable(_) => unable += 1,
                    _ => refused += 1,
                }
            }
            if !places.is_empty() {
                let (envelope, text) = arrived.next().expect("a message that arrived");
                let mut expected = as_arrived(sent, &places, offers);
                // A bounce goes without REQUIRETLS rather than not at all.
                expected.require_tls &= offers.contain(Extensions::REQUIRETLS);
                assert_eq!(envelope, &expected, "{seed}");
                assert!(text == &as_taken(pieces), "{seed}: another text");
            }
        }
        assert!(arrived.next().is_none(), "{seed}: more messages than were sent");
    }
    assert!(taken > 300 && refused > 300 && unable > 300, "{taken} {refused} {unable}");
}

/// What the world says of each recipient is what the house is told.
fn check_fate(protocol: Protocol, recipient: &Recipient, fate: &Fate) {
    let known = ["brian@example.net", "notbrian@example.net", "brián@example.net"];
    let address = recipient.address.to_string();
    match fate {
        Fate::Taken(_) if address == "full@example.net" => assert_eq!(protocol, Protocol::Smtp),
        Fate::Taken(_) => assert!(known.contains(&address.as_str()), "{address}"),
        // A world without space says so to DATA, and to the chunk that is the only one.
        Fate::Refused { at: Stage::Data | Stage::Body | Stage::EndOfData, reply } if reply.code == 452 => {}
        Fate::Refused { at: Stage::EndOfData, reply } => {
            assert_eq!((reply.code, address.as_str(), protocol), (552, "full@example.net", Protocol::Lmtp));
        }
        Fate::Refused { at: Stage::Recipient, reply } => {
            assert!(matches!(reply.code, 550 | 554) && !known.contains(&address.as_str()), "{address} {reply}");
        }
        // By its reverse-path, which is refused by the world.
        Fate::Refused { at: Stage::Mail, reply } => assert!(reply.code == 550, "{reply}"),
        Fate::Unable(_) => {}
        Fate::Refused { .. } | Fate::Surplus(_) | Fate::Lost { .. } => panic!("{address}: {fate:?}"),
    }
}

/// TLS first, then AUTH, then mail: the whole way of a submission.
#[test]
fn a_submission_is_authenticated_inside_tls() {
    for size in [1, 1_000] {
        let work = vec![Work(transaction(&["brian@example.net"]), [b"hello\r\n".to_vec()].into(), End::Whole)];
        let mut house = House::new(config(Protocol::Smtp), work);
        house.config.credentials = Some(Identity::new("brian", Secret::new("mailbox".into())));
        let (house, world) = Meeting::of(house, World::named("submission")).run(size);
        assert_eq!(house.ending, Some(Ending::Quit));
        assert!(matches!(house.reports[0].fates[0], Fate::Taken(_)));
        assert_eq!(world.messages[0].1, b"hello\r\n");
    }
    let mut house = House::new(config(Protocol::Smtp), Vec::new());
    house.config.credentials = Some(Identity::new("brian", Secret::new("wrong".into())));
    let (house, _) = Meeting::of(house, World::named("submission")).run(100);
    assert!(matches!(house.ending, Some(Ending::Refused { at: client::Part::Authentication, .. })));
}

/// A peer that takes two recipients at a time gets all of them, each once.
#[test]
fn surplus_recipients_follow_in_further_transactions() {
    let whom: Vec<&str> = [WHOM[0], WHOM[1], WHOM[3]].into_iter().cycle().take(20).collect();
    for pipelining in [true, false] {
        let mut left = whom.clone();
        let (mut delivered, mut failed) = (0, 0);
        for _ in 0..whom.len() {
            let work = vec![Work(transaction(&left), [b"x".to_vec()].into(), End::Whole)];
            let mut house = House::new(config(Protocol::Smtp), work);
            house.config.pipelining = pipelining;
            let (house, world) = Meeting::of(house, World::named("tight")).run(1_000);
            let fates = &house.reports[0].fates;
            delivered += world.messages.iter().map(|(envelope, _)| envelope.recipients.len()).sum::<usize>();
            failed += fates.iter().filter(|fate| matches!(fate, Fate::Refused { .. })).count();
            let is_surplus = |(place, _): &(usize, &&str)| matches!(fates[*place], Fate::Surplus(_));
            left = left.iter().enumerate().filter(is_surplus).map(|(_, whom)| *whom).collect();
            if left.is_empty() {
                break;
            }
        }
        assert_eq!((delivered, failed, left.len()), (14, 6, 0));
    }
}

/// V29: whatever an argument holds, it arrives as it is or not at all, and never as a command or a parameter of its own.
#[test]
fn v29_no_argument_becomes_a_command() {
    let pieces =
        ["\r\nRCPT TO:<nobody@example.net>", "\r", "\n", " SIZE=1", ">", "<", "=", "+", "+0D+0A", "\\x{D}", "\\"];
    let more = ["\"", "\0", "\u{85}", "\u{2028}", "é", ";", "a", "b@c"];
    let (mut whole, mut left_out) = (0, 0);
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let mut text =
            || (0..1 + dice.below(5)).map(|_| dice.pick(&[&pieces[..], &more[..]].concat())).collect::<String>();
        let quoted = format!("\"{}\"@example.com", text().replace('"', "\\\""));
        let mut sent = transaction(&["brian@example.net"]);
        if let Ok(address) = mail::Address::parse(&quoted) {
            sent.reverse_path = ReversePath::Address(address);
        }
        sent.envelope_id = Some(text());
        sent.recipients[0].original = Some(format!("{};{}", ["rfc822", "utf-8"][seed as usize % 2], text()));
        let work = vec![Work(sent.clone(), [b"hello\r\n".to_vec()].into(), End::Whole)];
        let (house, world) = Meeting::of(House::new(config(Protocol::Smtp), work), World::named("full")).run(1_000);
        assert_eq!(house.ending, Some(Ending::Quit));
        assert!(matches!(house.reports[0].fates[..], [Fate::Taken(_)]), "{sent:?}: {:?}", house.reports);
        let [(envelope, text)] = &world.messages[..] else { panic!("{sent:?}: {} messages", world.messages.len()) };
        assert_eq!((&envelope.reverse_path, &text[..]), (&sent.reverse_path, &b"hello\r\n"[..]));
        let [recipient] = &envelope.recipients[..] else { panic!("{sent:?}: {envelope:?}") };
        assert_eq!(recipient.address, sent.recipients[0].address);
        let given = [(&envelope.envelope_id, &sent.envelope_id), (&recipient.original, &sent.recipients[0].original)];
        for (arrived, sent) in given {
            // Characters of UTF-8 addresses have two forms (RFC 6533 §3).
            let is_same = arrived == sent || sent.as_ref().is_some_and(|sent| sent.starts_with("utf-8;"));
            let is_harmless = arrived.as_ref().is_some_and(|arrived| !arrived.contains(char::is_control));
            assert!(arrived.is_none() || is_same && is_harmless, "{sent:?}: {arrived:?}");
            *if arrived.is_some() { &mut whole } else { &mut left_out } += 1;
        }
    }
    assert!(whole > 50 && left_out > 50, "{whole} {left_out}");
}
