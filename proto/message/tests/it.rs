//! Replays the hostile inputs kept in `tests/corpus` through every parser of the crate: whole, cut at every octet
//! (V27), and split at every octet. None may panic (V28), and none may change with the split.

use message::charset;
use message::decode::{TextDecoder, decode_header};
use message::digest::{Content, Digest, Part, decode_envelope};
use message::header_rules::{Findings, HeaderFilter, HeaderRules};
use message::repair::{HeaderRepair, Unwanted};
use message::report::{Action, Kind, RecipientReport, Report};
use message::scan::Scanner;
use message::submission::{self, Demands};
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

fn rules(text: &str) -> Arc<HeaderRules> {
    Arc::new(HeaderRules::read(Path::new("rules"), text.as_bytes()).unwrap())
}

fn filtered(rules: &Arc<HeaderRules>, pieces: &[&[u8]]) -> (Vec<u8>, Findings) {
    let mut filter = HeaderFilter::new(Arc::clone(rules));
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| filter.write(piece, &mut out));
    let findings = filter.finish(&mut out);
    (out, findings)
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

#[test]
fn v28_rule_files_may_hold_any_octets() {
    for (name, input) in corpus() {
        for end in 0..=input.len() {
            // Without comments more of the file is read.
            let text: Vec<u8> = input[..end].iter().copied().filter(|b| *b != b'#' && *b != b'\r').collect();
            for piece in [&input[..end], &text] {
                match HeaderRules::read(Path::new("rules"), piece) {
                    Ok(rules) => drop(rules.judge(&input)),
                    Err(error) => assert!(error.line.is_some() && !error.to_string().contains('\n'), "{name}: {error}"),
                }
            }
            // A pattern costs more to compile than a message to read.
            if end > 200 {
                break;
            }
        }
        for line in input.split(|b| *b == b'\n') {
            let _ = HeaderRules::read(Path::new("rules"), line);
        }
    }
}

#[test]
fn filters_split_anywhere_give_the_same() {
    let some = rules("/^[a-m]/ IGNORE\n/^(f[a-z]+):(.*)$/ REPLACE $1: $2$2\n!/x/ PREPEND X: y\n/^[^:]*: $/ HOLD\n");
    let never = rules("/^never$/ IGNORE\n");
    for (name, input) in corpus() {
        let whole = filtered(&some, &[&input]);
        let octets: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(filtered(&some, &octets), whole, "{name}");
        assert_eq!(filtered(&never, &octets), (input.clone(), Findings::default()), "{name}");
        for at in (0..input.len()).step_by(1 + input.len() / 500) {
            let (first, second) = input.split_at(at);
            assert_eq!(filtered(&some, &[first, second]), whole, "{name} {at}");
        }
    }
}

#[test]
fn v28_authors_are_read_from_any_octets() {
    for (_, input) in corpus() {
        for end in 0..=input.len() {
            let mut scanner = Scanner::new();
            scanner.write(b"From: ");
            scanner.write(&input[..end]);
            scanner.close();
            let _ = submission::authors(scanner.facts(), Demands { allows_several_authors: true });
        }
    }
}

/// A report about each input, in which everything that can be said is also the input. No line but the delimiters begins
/// with the boundary, and what is returned is the input itself.
#[test]
fn v13_v14_reports_about_hostile_messages() {
    let to = mail::Address::parse("a@example.org").unwrap();
    let date = mail::InternalDate { unix_seconds: 0, zone_minutes: 0 };
    for (name, input) in corpus() {
        let text = String::from_utf8_lossy(&input);
        let recipients = [RecipientReport {
            address: &to,
            original: Some(&text),
            action: Action::Failed,
            status: mail::EnhancedStatus::new(5, 0, 0),
            remote: Some(&text),
            diagnostic: Some(&text),
            is_reply: true,
            last_attempt: None,
            retry_until: None,
        }];
        let report = Report {
            kind: Kind::Failure,
            host: &text,
            postmaster: &text,
            to: &to,
            message_id: &text,
            boundary: "b",
            date,
            envelope_id: Some(&text),
            arrived: date,
            queue_id: None,
            recipients: &recipients,
        };
        let octets = report.whole(&input, None);
        let last = octets.strip_suffix(b"--\r\n").unwrap().rsplit(|b| *b == b'\n').next().unwrap();
        let delimiters = octets.split(|b| matches!(b, b'\n' | b'\r')).filter(|line| line.starts_with(last)).count();
        let is_barred = name.contains("forged-delimiters");
        assert_eq!(delimiters, if is_barred { 3 } else { 4 }, "{name}");
        let Content::Multipart(parts) = digest(&[&octets]).part.content else { panic!("{name}") };
        assert_eq!(parts.len(), if is_barred { 2 } else { 3 }, "{name}");
        if let [_, _, returned] = &parts[..] {
            let shift = b"Received: from x; y\r\n".len();
            let body = returned.body.start as usize - shift..returned.body.end as usize - shift;
            assert!(octets[body] == input, "{name}");
        }
    }
}
