//! `dkim`: keys from their making to their end.

use crate::commands::init;
use crate::program::{Demo, failure, free_offset, json, run, text};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Selector and state of each key, in the order of the table.
fn keys(config: &Path) -> Vec<(String, String)> {
    let word = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = json(config, &["dkim", "list"]);
    rows.as_array().unwrap().iter().map(|row| (word(row, "selector"), word(row, "state"))).collect()
}

fn pair(selector: &str, state: &str) -> (String, String) {
    (selector.to_owned(), state.to_owned())
}

#[test]
fn r14_r165_keys_are_made_and_their_records_told() {
    let place = tempfile::tempdir().unwrap();
    let config = init(place.path());
    let folder = config.parent().unwrap();
    assert_eq!(text(&config, &["dkim", "list"]).lines().count(), 1);
    let made = text(&config, &["dkim", "key", "Example.net", "--selector", "first"]);
    for part in [
        "first-rsa._domainkey.example.net.  TXT \"v=DKIM1; k=rsa; p=MII",
        "first-ed25519._domainkey.example.net.  TXT \"v=DKIM1; k=ed25519; p=",
        "dkim-keys/example.net-first-rsa.pem",
    ] {
        assert!(made.contains(part), "{made}");
    }
    let mode = |name: &str| std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("dkim-keys"), mode("dkim-keys/example.net-first-rsa.pem")), (0o700, 0o600));
    let records = text(&config, &["dkim", "record", "example.net"]);
    let strings = |line: &str| line.split('"').skip(1).step_by(2).map(str::len).max().unwrap_or(0);
    assert!(records.lines().count() == 2 && records.lines().all(|line| made.contains(line) && strings(line) <= 255));
    let record = json(&config, &["dkim", "record", "example.net"]);
    assert_eq!(record[0]["record"]["name"], "first-rsa._domainkey.example.net");
    assert_eq!((record[0]["bits"].as_u64(), record[1]["algorithm"].as_str()), (Some(2_048), Some("ed25519")));
    for (words, cause) in [
        (
            &["dkim", "key", "example.net", "--selector", "first"][..],
            "selector first-rsa of example.net exists already",
        ),
        (&["dkim", "key", "localhost"], "not a full domain"),
        (&["dkim", "key", "example.net", "--selector", "a;b"], "is no selector"),
        (&["dkim", "key", "example.net", "--bits", "1024"], "2048, 3072 or 4096"),
        (&["dkim", "record", "example.org"], "there is no key of example.org"),
        (&["dkim", "rotate", "example.org"], "no key of example.org signs"),
        (&["dkim", "rotate", "example.net", "--activate"], "a published key of example.net does not exist"),
        (&["dkim", "rotate", "example.net", "--retire", "x"], "selector x of example.net does not exist"),
    ] {
        let refused = failure(&config, words);
        assert!(refused.contains(cause), "{refused}");
    }
    std::fs::write(folder.join("dkim"), "example.net first\n").unwrap();
    let broken = failure(&config, &["dkim", "list"]);
    assert!(broken.contains("dkim:1: not three or four words"), "{broken}");
}

#[test]
fn p24_keys_change_in_three_steps() {
    let place = tempfile::tempdir().unwrap();
    let config = init(place.path());
    let words = ["dkim", "key", "example.net", "--selector", "old", "--algorithm", "ed25519"];
    let made = json(&config, &words);
    assert_eq!((made["keys"][0]["state"].as_str(), made["domain"].as_str()), (Some("active"), Some("example.net")));
    let next = json(&config, &["dkim", "rotate", "example.net"]);
    let next = next["keys"][0]["selector"].as_str().unwrap();
    // The day, then the kind of key.
    let (day, kind) = next.split_once('-').unwrap();
    assert!(day.len() == 8 && day.bytes().all(|octet| octet.is_ascii_digit()) && kind == "ed25519", "{next}");
    assert_eq!(keys(&config), [pair("old", "active"), pair(next, "published")]);
    let again = failure(&config, &["dkim", "rotate", "example.net"]);
    assert!(again.contains("is made already"), "{again}");
    let activated = json(&config, &["dkim", "rotate", "example.net", "--activate"]);
    assert_eq!((activated["activated"][0].as_str(), activated["retired"][0].as_str()), (Some(next), Some("old")));
    assert_eq!(keys(&config), [pair("old", "retired"), pair(next, "active")]);
    assert_eq!(text(&config, &["dkim", "record", "example.net"]).lines().count(), 2, "both are still published");
    let removed = text(&config, &["dkim", "rotate", "example.net", "--retire", "old"]);
    assert!(removed.contains("is removed; take its record out"), "{removed}");
    assert_eq!(keys(&config), [pair(next, "active")]);
    assert!(!config.parent().unwrap().join("dkim-keys/example.net-old.pem").exists());
    let last = text(&config, &["dkim", "rotate", "example.net", "--retire", next]);
    assert!(last.contains("is not signed any more"), "{last}");
    assert_eq!(keys(&config), [pair(next, "retired")]);
}

#[test]
fn r165_what_the_running_server_does_not_take_is_told() {
    let place = tempfile::tempdir().unwrap();
    let demo = Demo::start(&place.path().join("demo"), free_offset());
    let config = demo.config();
    text(&config, &["dkim", "key", "example.net", "--selector", "old", "--algorithm", "ed25519"]);
    // A table that it reads with the keys is broken.
    std::fs::write(demo.folder.join("aliases"), "broken\n").unwrap();
    for (words, done) in [
        (&["dkim", "rotate", "example.net"][..], "Publish in the zone of example.net:"),
        (&["dkim", "rotate", "example.net", "--activate"], "mail of example.net is signed with"),
        (&["dkim", "rotate", "example.net", "--retire", "old"], "old is removed"),
    ] {
        let told = run(&config, words);
        assert!(!told.succeeded && told.stdout.contains(done), "{told:?}");
        assert!(told.stderr.contains("the running server could not reload everything: "), "{told:?}");
        assert!(told.stderr.contains("aliases:1:"), "{told:?}");
    }
    assert_eq!(keys(&config).len(), 1, "the table is changed");
    demo.server.end();
}
