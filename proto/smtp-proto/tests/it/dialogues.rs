//! Every dialogue, whole and octet by octet: the same replies.

use crate::house::{House, Told};
use crate::world::World;
use std::cell::RefCell;
use std::path::Path;
use testkit::dialogue::{Side, Split, load, load_for, replay};

#[test]
fn every_dialogue_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut failures = Vec::new();
    for dialogue in load(&folder) {
        let mut taken = Vec::new();
        for split in [Split::Whole, Split::Octets] {
            let world = RefCell::new(World::named(&dialogue.world));
            let session = world.borrow().session();
            let answer = |question, text: &mut Vec<u8>| world.borrow_mut().answer(question, text);
            if let Err(error) = replay(&dialogue, session, split, answer) {
                failures.push(error);
            }
            taken.push(world.into_inner().settled());
        }
        if taken.first() != taken.last() {
            failures.push(format!("{}: other messages octet by octet", dialogue.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn every_client_dialogue_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues/client");
    let mut failures = Vec::new();
    for dialogue in load_for(Side::Client, &folder) {
        let mut results = Vec::new();
        for split in [Split::Whole, Split::Octets] {
            let mut house = House::named(&dialogue.world);
            let session = Told::new(house.session());
            if let Err(error) = replay(&dialogue, session, split, |question, _| house.answer(question)) {
                failures.push(error);
            }
            results.push((house.reports, house.ending));
        }
        if results.first() != results.last() {
            failures.push(format!("{}: other results octet by octet", dialogue.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
