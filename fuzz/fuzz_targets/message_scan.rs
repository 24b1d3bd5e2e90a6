//! Scans any octets: no panic, the same digest however they are split, and a digest that can be read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use message::digest::Digest;
use message::repair::{HeaderRepair, Unwanted};
use message::scan::Scanner;
use std::sync::Arc;

fuzz_target!(|octets: &[u8]| {
    // The first octet says where the message is split.
    let Some((split, message)) = octets.split_first() else { return };
    let (first, second) = message.split_at(usize::from(*split) * message.len() / 255);

    let mut whole = Scanner::new();
    whole.write(message);
    let mut pieces = Scanner::new();
    pieces.write(first);
    pieces.write(second);
    assert_eq!(whole.facts(), pieces.facts());
    let digest = whole.finish(b"Return-Path: <>\r\n");
    assert_eq!(digest, pieces.finish(b"Return-Path: <>\r\n"));
    assert_eq!(Digest::decode(&digest.encode()), Some(digest));

    let unwanted = Arc::new(Unwanted { names: vec!["X".to_owned()], authserv_ids: vec!["a".to_owned()] });
    let (mut at_once, mut in_pieces) = (Vec::new(), Vec::new());
    let mut repair = HeaderRepair::new(Arc::clone(&unwanted));
    repair.write(message, &mut at_once);
    repair.finish(&mut at_once);
    let mut repair = HeaderRepair::new(unwanted);
    repair.write(first, &mut in_pieces);
    repair.write(second, &mut in_pieces);
    repair.finish(&mut in_pieces);
    assert_eq!(at_once, in_pieces);
});
