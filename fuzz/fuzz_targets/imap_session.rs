//! IMAP sessions, some from a login on: no input may panic, spin, or leave a message half staged, and how the input is
//! split changes nothing. The world is that of the dialogues, which are good seeds.
#![no_main]

#[path = "../../proto/imap-proto/tests/it/history.rs"]
mod history;
#[path = "../../proto/imap-proto/tests/it/player.rs"]
mod player;
#[path = "../../proto/imap-proto/tests/it/world.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use player::Player;
use world::World;

fuzz_target!(|octets: &[u8]| {
    let Some((choice, octets)) = octets.split_first() else { return };
    let name = match choice % 4 {
        0 => "small",
        1 => "tree",
        2 => "quota",
        _ => "clear",
    };
    let begin = if name != "clear" && choice & 4 != 0 { Player::log_in } else { Player::connect };
    let play = |size: usize| {
        let mut world = World::named(name);
        let mut player = begin(&mut world);
        let mut said = Vec::new();
        for piece in octets.chunks(size) {
            said.extend(player.send(&mut world, piece));
        }
        if !player.closed {
            player.hang_up(&mut world);
        }
        assert!(world.is_tidy());
        said
    };
    assert_eq!(play(octets.len().max(1)), play(usize::from(*choice) % 7 + 1));
});
