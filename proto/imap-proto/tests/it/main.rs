//! Sessions against an account in memory: the text dialogues, and properties of whole sessions.

mod history;
mod hostile;
mod player;
mod random;
mod sessions;
mod world;

use std::path::Path;
use testkit::dialogue::{Split, load, replay};
use world::World;

#[test]
fn dialogues_whole_and_by_octets() {
    let mut failures = Vec::new();
    for dialogue in load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialogues"))) {
        for split in [Split::Whole, Split::Octets] {
            let mut world = World::named(&dialogue.world);
            let session = world.session();
            if let Err(failure) = replay(&dialogue, session, split, |question, body| world.answer(question, body)) {
                failures.push(failure);
                break;
            }
            assert!(world.is_tidy(), "{}: something is left staged", dialogue.name);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
