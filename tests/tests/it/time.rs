//! Days that pass in seconds: the server runs under a clock of libfaketime, thousands of times faster than ours.

use crate::desk::wait_until;
use peers::client::{Imap, Smtp};
use peers::server::{PASSWORD, Port, Server};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Seconds of the server in one of ours: five days take about a minute and a half.
const PACE: u64 = 5_000;
const DAY_MS: u64 = 86_400_000;
const LIFE_MS: u64 = 5 * DAY_MS;
const FIRST_MS: u64 = 300_000;
const LONGEST_MS: u64 = 4_000_000;
/// More than twice what the days take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Debian keeps it below the folder of the machine's architecture.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut places = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    places.find(|place| place.exists()).expect("libfaketime")
}

fn launch_fast(server: &mut Server) {
    let library = library();
    let clock = format!("+0 x{PACE}");
    let library = library.to_str().expect("a path in UTF-8");
    server.launch(&[("LD_PRELOAD", library), ("FAKETIME", &clock), ("FAKETIME_NO_CACHE", "1")]).unwrap();
}

/// R211, RFC 5321 §4.5.4.1: with the settings that a new server has, a host that is down for good is tried after five
/// minutes, ever more seldom up to once in 4,000 s, and after five days the sender has the message back; nobody is told
/// of the delay before, unless that is set.
#[test]
fn r211_a_host_is_tried_for_five_days() {
    let mut server = Server::start().unwrap();
    // Nobody listens on port 1, and the system gives it to nobody.
    std::fs::write(server.folder.join("transport"), "far.example smtp:[127.0.0.1]:1\n").unwrap();
    server.command(&["reload"]).unwrap();
    let mut smtp = Smtp::connect(server.port(Port::Mx)).unwrap();
    let text = "From: brian@example.net\r\nSubject: patience\r\n\r\nhello\r\n";
    let reply = smtp.send(super::BRIAN, &["a@far.example"], text).unwrap();
    let id = reply.rsplit(' ').next().unwrap().trim().to_owned();
    drop(smtp);
    let is_deferred = || server.command(&["why", &id]).unwrap().contains("to be tried again at");
    wait_until("the first try has failed", is_deferred);
    server.stop().unwrap();

    launch_fast(&mut server);
    let begun = Instant::now();
    while !server.log_text().unwrap().contains("outcome=\"delivered\"") {
        assert!(begun.elapsed() < PATIENCE, "nobody is told:\n{}", server.log_text().unwrap());
        std::thread::sleep(Duration::from_millis(100));
    }
    server.stop().unwrap();

    // The clock of the wall again.
    server.launch(&[]).unwrap();
    let stories: serde_json::Value = serde_json::from_str(&server.command(&["why", &id, "--json"]).unwrap()).unwrap();
    let events = stories[0]["events"].as_array().expect("events");
    let times = |name: &str, field: &str| -> Vec<u64> {
        let named = events.iter().filter(|event| event["event"] == name);
        named.map(|event| event[field].as_u64().expect("a time")).collect()
    };
    let arrived = times("received", "at")[0];
    let tries = times("attempted", "at");
    let (deferred, planned) = (times("deferred", "at"), times("deferred", "until"));
    let waits: Vec<u64> = planned.iter().zip(&deferred).map(|(until, at)| until - at).collect();
    assert_eq!(tries.len(), deferred.len() + 1, "the last try puts nothing off");
    assert_eq!(waits[0], FIRST_MS);
    assert!(waits.iter().all(|wait| (FIRST_MS..=LONGEST_MS).contains(wait)), "{waits:?}");
    // As old as it is, so long it waits, less a share that spreads messages; the last wait ends with its life.
    let late = waits.iter().zip(&deferred).filter(|(_, at)| (LONGEST_MS..DAY_MS * 4).contains(&(*at - arrived)));
    assert!(late.clone().count() > 60 && late.clone().all(|(wait, _)| *wait > LONGEST_MS * 7 / 8), "{waits:?}");
    let grows = waits.windows(2).take(4).all(|pair| pair[1] >= pair[0]);
    assert!(grows && waits[4] > waits[2] && waits[2] > waits[0], "{waits:?}");
    for (until, at) in planned.iter().zip(&tries[1..]) {
        assert!(at >= until, "tried at {at}, planned for {until}");
    }
    // The last try is due when its life ends, or up to a first wait later; how late it comes says only how busy the
    // machine is.
    let last = planned.last().unwrap() - arrived;
    assert!((LIFE_MS..=LIFE_MS + FIRST_MS).contains(&last), "the last try is due at {last} ms");
    // A host that is known to be down is looked for no more often than that.
    assert!((80..=115).contains(&tries.len()), "{} tries", tries.len());

    let texts = Imap::login(server.port(Port::Imaps), super::BRIAN, PASSWORD).unwrap().texts("INBOX").unwrap();
    let told: Vec<&String> = texts.iter().filter(|text| text.contains("a@far.example")).collect();
    let [report] = told[..] else { panic!("{} messages, not one report: {told:?}", told.len()) };
    for part in ["Return-Path: <>", "Final-Recipient: rfc822; a@far.example", "Action: failed", "Status: 5.4.7"] {
        assert!(report.contains(part), "{part}\n{report}");
    }
    let audit: serde_json::Value =
        serde_json::from_str(&server.command(&["queue", "audit", "--json"]).unwrap()).unwrap();
    assert!(audit["balanced"] == true && audit["waiting"] == 0, "{audit}");
}
