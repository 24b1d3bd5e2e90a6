//! Commands of a client that has selected a mailbox: none may panic, spin or leave something staged, and each complete one
//! is answered.
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
    let mut world = World::named("small");
    let mut player = Player::log_in(&mut world);
    player.say(&mut world, "s SELECT INBOX");
    // One line: literals are the session target's part.
    let line: Vec<u8> = octets.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
    let said = player.send(&mut world, &[b"t ", &line[..], b"\r\n"].concat());
    assert!(!said.is_empty() || line.ends_with(b"}"));
    if !player.closed {
        player.hang_up(&mut world);
    }
    assert!(world.is_tidy());
});
