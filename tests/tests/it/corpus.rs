//! Thousands of real messages, by SMTP and by APPEND, and back by IMAP and POP3: what comes out is what went in.
//!
//! The corpus is not part of this repository. `PILLARBOX_CORPUS` names it (a folder, or a `.tar.gz`); without that it is
//! looked for beside the repository, and where it is missing there the samples of this crate take its place.

use peers::client::{Imap, Message, Pop3, Smtp};
use peers::peer::Peer;
use peers::server::{PASSWORD, Port, Server};
use std::path::{Path, PathBuf};

/// Accounts that receive at the same time.
const LANES: usize = 6;
/// Messages in one answer.
const BATCH: usize = 100;

/// A message of the corpus.
pub struct Sample {
    pub name: String,
    pub octets: Vec<u8>,
}

/// All messages, by their names. The corpus is unpacked into a folder that is not there yet.
pub fn samples(unpacked: &Path) -> Vec<Sample> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let beside = repository.join("../shared/corpus/spamassassin.tar.gz");
    let named = std::env::var_os("PILLARBOX_CORPUS").map(PathBuf::from);
    assert!(named.as_ref().is_none_or(|named| named.exists()), "PILLARBOX_CORPUS: {named:?} is not there");
    let source = named.unwrap_or(beside);
    let folder = if source.is_dir() {
        source
    } else if source.is_file() {
        std::fs::create_dir(unpacked).unwrap();
        Peer::new("tar").args(["--extract", "--file"]).arg(&source).arg("--directory").arg(unpacked).succeed().unwrap();
        unpacked.to_owned()
    } else {
        eprintln!("{} is not there; the samples of this crate take the corpus's place", source.display());
        Path::new(env!("CARGO_MANIFEST_DIR")).join("samples")
    };
    let mut found = Vec::new();
    read(&folder, &mut found);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!found.is_empty(), "no messages in {}", folder.display());
    found
}

fn read(folder: &Path, found: &mut Vec<Sample>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "eml") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.push(Sample { name, octets: std::fs::read(&path).unwrap() });
        }
    }
}

/// The octets with every line end made CRLF, and one at the end.
pub fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 40);
    let mut rest = octets.iter().copied().peekable();
    while let Some(octet) = rest.next() {
        match octet {
            b'\r' => {
                rest.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            other => out.push(other),
        }
    }
    if !out.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The lines with dots doubled where RFC 5321 §4.5.2 wants it.
fn dotted(octets: &[u8]) -> Vec<u8> {
    let lines = octets.split_inclusive(|octet| *octet == b'\n');
    lines.flat_map(|line| if line.starts_with(b".") { [b".", line].concat() } else { line.to_vec() }).collect()
}

/// What the server should keep of a message that came by SMTP: without Return-Path fields, and with an empty line where
/// the header section ends without one (R64, R102).
pub fn repaired(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut lines = octets.split_inclusive(|octet| *octet == b'\n');
    let mut dropping = false;
    let mut first = true;
    for line in lines.by_ref() {
        let is_continuation = line.starts_with(b" ") || line.starts_with(b"\t");
        let name: Vec<u8> =
            line.iter().copied().take_while(|octet| (33..=126).contains(octet) && *octet != b':').collect();
        let after = line.get(name.len()..).unwrap_or_default();
        let after = after
            .iter()
            .position(|octet| !matches!(octet, b' ' | b'\t'))
            .and_then(|place| after.get(place..))
            .unwrap_or_default();
        let is_field = !name.is_empty() && after.starts_with(b":");
        if line == b"\r\n" {
            out.extend_from_slice(line);
            break;
        }
        if is_continuation && !first {
            if !dropping {
                out.extend_from_slice(line);
            }
        } else if is_field {
            dropping = name.eq_ignore_ascii_case(b"Return-Path");
            if !dropping {
                out.extend_from_slice(line);
            }
        } else {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(line);
            break;
        }
        first = false;
    }
    lines.for_each(|line| out.extend_from_slice(line));
    out
}

fn account(lane: usize) -> String {
    format!("lane{lane}@example.net")
}

fn prepare() -> (Server, Vec<Sample>) {
    let server = Server::start().unwrap();
    for lane in 0..LANES {
        server.command(&["account", "add", &account(lane), "--password", PASSWORD, "--scheme", "PLAIN"]).unwrap();
    }
    let samples = samples(&server.scratch("corpus"));
    (server, samples)
}

/// The samples of a lane, in the order they are sent.
fn lane_of(samples: &[Sample], lane: usize) -> Vec<&Sample> {
    samples.iter().skip(lane).step_by(LANES).collect()
}

fn in_lanes(work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                scope.spawn({
                    let work = &work;
                    move || work(lane)
                })
            })
            .collect();
        let failed = lanes.into_iter().map(|lane| lane.join()).filter(Result::is_err).count();
        assert_eq!(failed, 0, "lanes that failed");
    });
}

/// All messages of a mailbox, a batch at a time.
fn fetch(client: &mut Imap, mailbox: &str, count: usize) -> Vec<Message> {
    client.command(&format!("EXAMINE {mailbox}")).unwrap();
    let batches = (1..=count).step_by(BATCH);
    let fetch = |first: usize| format!("FETCH {first}:{} (UID FLAGS BODY.PEEK[])", (first + BATCH - 1).min(count));
    batches.flat_map(|first| client.fetched(&fetch(first)).unwrap()).collect()
}

#[test]
fn every_message_sent_over_smtp_comes_back_over_imap_and_pop3() {
    let (server, samples) = prepare();
    in_lanes(|lane| {
        let mut smtp = Smtp::connect(server.port(Port::Mx)).unwrap();
        for sample in lane_of(&samples, lane) {
            let octets = dotted(&with_crlf(&sample.octets));
            smtp.send_octets("you@example.org", &[&account(lane)], &octets)
                .unwrap_or_else(|error| panic!("{}: {error:#}", sample.name));
        }
    });
    in_lanes(|lane| {
        let mine = lane_of(&samples, lane);
        let mut imap = Imap::login(server.port(Port::Imaps), &account(lane), PASSWORD).unwrap();
        let mut pop3 = Pop3::login(server.port(Port::Pop3s), &account(lane), PASSWORD).unwrap();
        let back = fetch(&mut imap, "INBOX", mine.len());
        assert_eq!(back.len(), mine.len());
        for (number, (sample, message)) in (1..).zip(mine.iter().zip(&back)) {
            let wanted = repaired(&with_crlf(&sample.octets));
            let ours = message.octets.strip_suffix(&wanted[..]);
            let ours = ours.unwrap_or_else(|| panic!("{}: {}", sample.name, difference(&message.octets, &wanted)));
            let ours = String::from_utf8(ours.to_vec()).unwrap();
            assert!(ours.starts_with("Return-Path: <you@example.org>\r\nDelivered-To: "), "{}: {ours}", sample.name);
            assert_eq!(ours.matches("Received: ").count(), 1, "{}: {ours}", sample.name);
            assert_eq!(pop3.retrieve(number).unwrap(), message.octets, "{} over POP3", sample.name);
        }
    });
}

/// Where two texts, compared from their ends, first differ.
fn difference(seen: &[u8], wanted: &[u8]) -> String {
    let same = seen.iter().rev().zip(wanted.iter().rev()).take_while(|(a, b)| a == b).count();
    let around = |octets: &[u8]| {
        let end = octets.len() - same;
        String::from_utf8_lossy(&octets[end.saturating_sub(120)..(end + 40).min(octets.len())]).into_owned()
    };
    format!("saw {:?}, wanted {:?}", around(seen), around(wanted))
}

#[test]
fn every_message_appended_comes_back_as_it_is_and_its_structure_is_what_python_sees() {
    let (server, samples) = prepare();
    // IMAP has no NUL in a message (RFC 3501 §4.3.1).
    let samples: Vec<Sample> = samples.into_iter().filter(|sample| !sample.octets.contains(&0)).collect();
    in_lanes(|lane| {
        let mine = lane_of(&samples, lane);
        let mut imap = Imap::login(server.port(Port::Imaps), &account(lane), PASSWORD).unwrap();
        for sample in &mine {
            imap.literal("APPEND Archive", &sample.octets).unwrap_or_else(|error| panic!("{}: {error:#}", sample.name));
        }
        let back = fetch(&mut imap, "Archive", mine.len());
        assert_eq!(back.len(), mine.len());
        for (sample, message) in mine.iter().zip(&back) {
            assert!(
                message.octets == sample.octets,
                "{}: {}",
                sample.name,
                difference(&message.octets, &sample.octets)
            );
        }
        // Any search must go through every message and find only what is there.
        let (found, _) = imap.command("UID SEARCH BODY \"no message has these words, surely\"").unwrap();
        assert_eq!(found, [b"* SEARCH\r\n".to_vec()]);
        imap.command("FETCH 1:* (ENVELOPE INTERNALDATE RFC822.SIZE BODYSTRUCTURE)").unwrap();
    });
    let names = server.scratch("names");
    let mut different = String::new();
    for lane in 0..LANES {
        let mine: Vec<String> = lane_of(&samples, lane).iter().map(|sample| sample.name.clone()).collect();
        std::fs::write(&names, mine.join("\n")).unwrap();
        let script =
            Peer::script("structure.py").env("PASSWORD", PASSWORD).env("IMAPS", server.port(Port::Imaps).to_string());
        let outcome = script.arg(account(lane)).arg(&names).run().unwrap();
        if outcome.status != Some(0) {
            different.push_str(&outcome.text());
        }
    }
    assert!(different.is_empty(), "{different}");
}
