//! Replays the hostile inputs kept in `tests/corpus` through every parser of the crate: whole, cut at every octet
//! (V27), and split at every octet. None may panic (V28), and none may change with the split.

use message::charset;
use message::decode::{TextDecoder, decode_header};
use message::digest::{Content, Digest, Part, decode_envelope};
use message::repair::{HeaderRepair, Unwanted};
use message::scan::Scanner;
use message::{header, mime};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut inputs: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), fs::read(path).unwrap())
        })
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 10);
    inputs
}

fn digest(pieces: &[&[u8]]) -> Digest {
    let mut scanner = Scanner::new();
    pieces.iter().for_each(|piece| scanner.write(piece));
    scanner.finish(b"Received: from x; y\r\n")
}

fn repaired(pieces: &[&[u8]]) -> Vec<u8> {
    let unwanted = Arc::new(Unwanted { names: Vec::new(), authserv_ids: vec!["mx".to_owned()] });
    let mut repair = HeaderRepair::new(unwanted);
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| repair.write(piece, &mut out));
    repair.finish(&mut out);
    out
}

/// Reads a message as a search would, by the ranges of its digest.
fn search(part: &Part, message: &[u8]) -> usize {
    let within = |range: &std::ops::Range<u64>| &message[range.start as usize..range.end as usize];
    let mut octets: usize = header::fields(within(&part.header)).map(|field| decode_header(field.value).len()).sum();
    match &part.content {
        Content::Leaf => {
            let mut text = String::new();
            let mut decoder = TextDecoder::new(&part.encoding, mime::parameter(&part.parameters, "charset"));
            within(&part.body).chunks(7).for_each(|chunk| decoder.push(chunk, &mut text));
            decoder.finish(&mut text);
            octets += text.len();
        }
        Content::Multipart(parts) => octets += parts.iter().map(|part| search(part, message)).sum::<usize>(),
        Content::Message(_, inner) => octets += search(inner, message),
    }
    octets
}

#[test]
fn v27_v28_hostile_inputs_cut_at_every_octet() {
    for (name, input) in corpus() {
        for end in 0..=input.len() {
            let cut = &input[..end];
            let digest = digest(&[cut]);
            let encoded = digest.encode();
            assert_eq!(Digest::decode(&encoded).as_ref(), Some(&digest), "{name} {end}");
            // Every cut is decoded; a search reads only some, to save time.
            if end % 97 == 0 || end == input.len() {
                assert_eq!(decode_envelope(&encoded), Some(digest.envelope), "{name} {end}");
                let stored = [b"Received: from x; y\r\n", cut].concat();
                search(&digest.part, &stored);
                repaired(&[cut]);
            }
        }
    }
}

#[test]
fn hostile_inputs_split_anywhere_give_the_same() {
    for (name, input) in corpus() {
        let (whole_digest, whole_repaired) = (digest(&[&input]), repaired(&[&input]));
        let octets: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(digest(&octets), whole_digest, "{name}");
        assert_eq!(repaired(&octets), whole_repaired, "{name}");
        for at in (0..input.len()).step_by(1 + input.len() / 2_000) {
            let (first, second) = input.split_at(at);
            assert_eq!(digest(&[first, second]), whole_digest, "{name} {at}");
            assert_eq!(repaired(&[first, second]), whole_repaired, "{name} {at}");
        }
    }
}

#[test]
fn v28_field_parsers_take_any_octets() {
    for (_, input) in corpus() {
        for piece in input.chunks(61) {
            assert!(header::parse_addresses(piece, 10).len() <= 10);
            let _ = (header::parse_date(piece), mime::content_type(piece), mime::disposition(piece));
            let _ = (mime::languages(piece), mime::transfer_encoding(piece), header::unfold(piece));
            let _ = charset::to_utf8(Some(b"iso-2022-jp"), piece);
        }
    }
}
