//! Properties of whole sessions: several clients of one mailbox (V61), pipelining, splitting.

use crate::player::Player;
use crate::random::Random;
use crate::world::World;
use mail::Flags;
use std::collections::BTreeSet;

/// A client that believes what it is told.
struct Client {
    player: Player,
    messages: Vec<Believed>,
}

/// What the client believes of one message.
#[derive(Debug, Clone, Default)]
struct Believed {
    uid: Option<u32>,
    flags: Option<BTreeSet<String>>,
}

impl Client {
    fn new(world: &mut World) -> Client {
        let mut client = Client { player: Player::log_in(world), messages: Vec::new() };
        let said = client.player.say(world, "s SELECT INBOX");
        client.believe(&said);
        client
    }

    fn say(&mut self, world: &mut World, line: &str) -> String {
        let said = self.player.say(world, line);
        assert!(!self.player.closed, "{line}\n{said}");
        assert!(!said.contains(" BAD "), "{line}\n{said}");
        self.believe(&said);
        said
    }

    fn believe(&mut self, said: &str) {
        for line in without_literals(said).lines().filter_map(|line| line.strip_prefix("* ")) {
            let Some((number, what)) = line.split_once(' ') else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match what.split(' ').next().unwrap() {
                "EXISTS" => {
                    assert!(number >= self.messages.len(), "messages vanish: {line}");
                    self.messages.resize(number, Believed::default());
                }
                "EXPUNGE" => drop(self.messages.remove(number - 1)),
                "FETCH" => self.fetch(number, what),
                _ => {}
            }
        }
    }

    fn fetch(&mut self, number: usize, what: &str) {
        let message = &mut self.messages[number - 1];
        if let Some((_, rest)) = what.split_once("UID ") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let uid = digits.parse().unwrap();
            assert!(message.uid.is_none_or(|known| known == uid), "a number stands for another message: {what}");
            message.uid = Some(uid);
        }
        if let Some((_, rest)) = what.split_once("FLAGS (") {
            let list = rest.split(')').next().unwrap();
            let words = list.split(' ').filter(|word| !word.is_empty() && *word != "\\Recent");
            message.flags = Some(words.map(str::to_owned).collect());
        }
    }

    /// A silent STORE, which the client applies itself.
    fn store_silent(&mut self, world: &mut World, number: usize, sign: char, flag: &str) {
        if let Some(flags) = &mut self.messages[number - 1].flags {
            if sign == '+' {
                flags.insert(flag.to_owned())
            } else {
                flags.remove(flag)
            };
        }
        self.say(world, &format!("x STORE {number} {sign}FLAGS.SILENT ({flag})"));
    }

    /// After it has caught up, what the client believes is true.
    fn check(&mut self, world: &mut World) {
        self.say(world, "n NOOP");
        let snapshot = world.snapshot_of("INBOX");
        assert_eq!(self.messages.len(), snapshot.len() as usize);
        for (believed, real) in self.messages.iter().zip(snapshot.iter()) {
            assert!(believed.uid.is_none_or(|uid| uid == real.uid.0), "{believed:?} {real:?}");
            let system = Flags::NAMES.iter().filter(|(_, flag)| real.flags.contains(*flag));
            let names = system.map(|(name, _)| (*name).to_owned());
            let flags: BTreeSet<String> =
                names.chain(snapshot.keywords_of(real).map(|keyword| keyword.as_str().to_owned())).collect();
            assert!(believed.flags.as_ref().is_none_or(|known| *known == flags), "{believed:?} {flags:?}");
        }
    }
}

/// Responses with each literal, and its announcement, left out.
fn without_literals(said: &str) -> String {
    let (mut kept, mut rest) = (String::new(), said);
    while let Some((before, announced)) = rest.split_once('{') {
        let (octets, after) = announced.split_once("}\r\n").unwrap();
        kept += before;
        rest = &after[octets.parse::<usize>().unwrap()..];
    }
    kept + rest
}

#[test]
fn v61_several_clients_of_one_mailbox_believe_the_truth() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut world = World::named("small");
        let mut clients: Vec<Client> = (0..3).map(|_| Client::new(&mut world)).collect();
        if seed % 2 == 1 {
            clients[0].say(&mut world, "e ENABLE CONDSTORE");
        }
        for _ in 0..250 {
            let client = &mut clients[random.below(3) as usize];
            act(client, &mut world, &mut random);
            if random.below(10) == 0 {
                clients[random.below(3) as usize].check(&mut world);
            }
        }
        clients.iter_mut().for_each(|client| client.check(&mut world));
    }
}

fn act(client: &mut Client, world: &mut World, random: &mut Random) {
    let flag = random.pick(&["\\Seen", "\\Deleted", "\\Flagged", "$Work", "$Later"]);
    let sign = if random.below(3) == 0 { '-' } else { '+' };
    let count = client.messages.len() as u64;
    if count == 0 || random.below(6) == 0 {
        client.say(world, "x APPEND INBOX (\\Seen) {5+}\r\nhello");
        return;
    }
    let number = random.below(count) as usize + 1;
    let other = random.below(count) as usize + 1;
    match random.below(13) {
        0 => drop(client.say(world, "x EXPUNGE")),
        1 => drop(client.say(world, &format!("x STORE {number}:{other} {sign}FLAGS ({flag})"))),
        2 | 3 => client.store_silent(world, number, sign, flag),
        4 => drop(client.say(world, &format!("x FETCH {number},{other} (UID FLAGS)"))),
        5 => drop(client.say(world, "x UID FETCH 1:* (FLAGS)")),
        6 => drop(client.say(world, &format!("x COPY {number} INBOX"))),
        7 => drop(client.say(world, &format!("x MOVE {number} Sent"))),
        8 => drop(client.say(world, &format!("x FETCH {number} BODY[TEXT]<0.0>").replace("<0.0>", "<0.1>"))),
        9 => drop(client.say(world, &format!("x UID STORE {number}:{other} FLAGS ({flag} \\Draft)"))),
        10 => drop(client.say(world, "x UID EXPUNGE 1:*")),
        11 => drop(client.say(world, "x UID SEARCH UNSEEN")),
        _ => drop(client.say(world, "x NOOP")),
    }
}

#[test]
fn v61_a_thousand_pipelined_commands_are_answered_as_one_by_one() {
    let mut random = Random(99);
    let commands: Vec<String> = (0..1_000)
        .map(|index| {
            let uid = random.below(30) + 1;
            let command = match random.below(10) {
                0 => "NOOP".to_owned(),
                1 => "APPEND INBOX {5+}\r\nhello".to_owned(),
                2 => "EXPUNGE".to_owned(),
                3 => format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"),
                4 => format!("UID STORE {uid}:* FLAGS (\\Seen)"),
                5 => format!("UID COPY {uid} INBOX"),
                6 => format!("UID MOVE {uid} Sent"),
                7 => "STATUS Sent (MESSAGES)".to_owned(),
                8 => "UID FETCH 1:* (FLAGS BODY.PEEK[TEXT])".to_owned(),
                _ => "LIST \"\" *".to_owned(),
            };
            format!("t{index} {command}\r\n")
        })
        .collect();
    let play = |pieces: &[String]| {
        let mut world = World::named("small");
        let mut player = Player::log_in(&mut world);
        player.say(&mut world, "s SELECT INBOX");
        let said: Vec<u8> = pieces.iter().flat_map(|piece| player.send(&mut world, piece.as_bytes())).collect();
        String::from_utf8(said).unwrap()
    };
    let one_by_one = play(&commands);
    assert_eq!(play(&[commands.concat()]), one_by_one);
    for index in 0..1_000 {
        assert!(one_by_one.lines().any(|line| line.starts_with(&format!("t{index} OK"))), "{index}");
    }
}

#[test]
fn how_a_session_is_split_changes_nothing() {
    let text = "a SELECT INBOX\r\nb FETCH 1:3 (BODY[] ENVELOPE)\r\nc APPEND INBOX {5+}\r\nhello (\\Seen) {3+}\r\nabc\r\n\
                d IDLE\r\nDONE\r\ne STORE 1:* +FLAGS ($x)\r\nf LIST \"\" {1+}\r\n*\r\ng UID COPY 1:* Sent\r\nh LOGOUT\r\n";
    let play = |size: usize| {
        let mut world = World::named("small");
        let mut player = Player::log_in(&mut world);
        let said: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| player.send(&mut world, piece)).collect();
        assert!(player.closed);
        String::from_utf8(said).unwrap()
    };
    let whole = play(text.len());
    for size in 1..40 {
        assert_eq!(play(size), whole, "{size}");
    }
}
