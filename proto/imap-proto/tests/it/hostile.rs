//! What a malicious or broken client may send (V18, V22, V27, V28, V53).

use crate::player::Player;
use crate::random::Random;
use crate::world::World;
use std::path::Path;
use testkit::dialogue::{Stimulus, load};

#[test]
fn v22_a_line_without_end_closes_before_it_is_held() {
    for logged_in in [false, true] {
        let mut world = World::named("small");
        let mut player = if logged_in { Player::log_in(&mut world) } else { Player::connect(&mut world) };
        let limit = if logged_in { 68_000 } else { 10_000 };
        let mut sent = 0;
        while !player.closed {
            player.send(&mut world, &[b'('; 1_000]);
            sent += 1_000;
            assert!(sent < limit, "{sent} octets are held");
        }
    }
}

#[test]
fn v22_parentheses_and_operators_are_bounded() {
    let mut world = World::named("small");
    let mut player = Player::log_in(&mut world);
    player.say(&mut world, "s SELECT INBOX");
    for deep in
        ["(".repeat(60_000), "NOT ".repeat(15_000), "OR ALL ".repeat(9_000), format!("FUZZY {}", "(".repeat(51))]
    {
        let said = player.say(&mut world, &format!("a SEARCH {deep}"));
        assert!(said.starts_with("a BAD "), "{said}");
    }
    for deep in ["(".repeat(60_000), format!("BODY[{}]", "1.".repeat(30_000)), format!("({}", "FLAGS ".repeat(10_000))]
    {
        let said = player.say(&mut world, &format!("a FETCH 1 {deep}"));
        assert!(said.starts_with("a BAD "), "{said}");
    }
    let said = player.say(&mut world, &format!("a LIST \"\" ({}", "* ".repeat(30_000)));
    assert!(said.starts_with("a BAD "), "{said}");
}

#[test]
fn v22_floods_of_literals_before_login_end() {
    for piece in ["{0+}\r\n ", "{1+}\r\nx ", "{1000+}\r\n"] {
        let mut world = World::named("small");
        let mut player = Player::connect(&mut world);
        player.send(&mut world, b"a LOGIN ");
        let piece = if piece.starts_with("{1000+}") { format!("{piece}{} ", "y".repeat(1_000)) } else { piece.into() };
        let mut sent = 0;
        while !player.closed {
            player.send(&mut world, piece.as_bytes());
            sent += piece.len();
            assert!(sent < 20_000, "{sent} octets are held");
        }
    }
}

#[test]
fn v18_v53_failed_and_aborted_logins_are_counted() {
    for lines in [
        ["a AUTHENTICATE PLAIN", "*"],
        ["a AUTHENTICATE PLAIN", "!!!"],
        ["a AUTHENTICATE LOGIN", "AA=="],
        ["a AUTHENTICATE PLAIN", "AAAA{5}"],
        ["a LOGIN x y", "b LOGIN x y"],
    ] {
        let mut world = World::named("small");
        let mut player = Player::connect(&mut world);
        let mut rounds = 0;
        while !player.closed {
            lines.iter().for_each(|line| drop(player.say(&mut world, line)));
            rounds += 1;
            assert!(rounds <= 60, "{lines:?}");
        }
    }
    let mut world = World::named("small");
    let mut player = Player::connect(&mut world);
    for _ in 0..100 {
        player.say(&mut world, "a NOOP");
    }
    assert!(player.say(&mut world, "a NOOP").starts_with("* BYE "));
}

/// What the clients of all dialogues send.
fn seeds() -> Vec<Vec<u8>> {
    let dialogues = load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialogues")));
    let sent = |stimulus: &Stimulus| match stimulus {
        Stimulus::Send(octets) => octets.clone(),
        _ => Vec::new(),
    };
    dialogues.iter().map(|dialogue| dialogue.scenes.iter().flat_map(|scene| sent(&scene.stimulus)).collect()).collect()
}

#[test]
fn v27_every_session_may_break_off_anywhere() {
    for seed in seeds() {
        for end in (0..seed.len()).step_by(1 + seed.len() / 60) {
            let mut world = World::named("small");
            let mut player = Player::log_in(&mut world);
            player.send(&mut world, &seed[..end]);
            if !player.closed {
                player.hang_up(&mut world);
            }
            assert!(world.is_tidy(), "{:?}", String::from_utf8_lossy(&seed[..end]));
        }
    }
}

#[test]
fn v28_mutated_sessions_neither_panic_nor_spin() {
    let seeds = seeds();
    let mut random = Random(3);
    for round in 0..1_500 {
        let mut octets = seeds[random.below(seeds.len() as u64) as usize].clone();
        for _ in 0..=random.below(6) {
            let place = random.below(octets.len() as u64) as usize;
            match random.below(4) {
                0 if octets.len() > 1 => drop(octets.remove(place)),
                0 => {}
                1 => octets.insert(
                    place,
                    random.pick(&[&b"{"[..], b"}", b"\"", b"(", b")", b"\\", b"*", b"\n", b"\0", b"\xff"])[0],
                ),
                2 => octets[place] = random.below(256) as u8,
                _ => octets.truncate(place.max(1)),
            }
        }
        let mut world = World::named(["small", "tree", "quota", "store-down", "bodies-lost", "empty"][round % 6]);
        let mut player = Player::log_in(&mut world);
        if round % 2 == 0 {
            player.say(&mut world, "s SELECT INBOX");
        }
        for piece in octets.chunks(1 + random.below(40) as usize) {
            player.send(&mut world, piece);
        }
        if !player.closed {
            player.hang_up(&mut world);
        }
        assert!(world.is_tidy());
    }
}
