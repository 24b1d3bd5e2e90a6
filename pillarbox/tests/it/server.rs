//! A demonstration server: its dialogues over TCP, commands to it while it runs, its end.

use crate::commands::init;
use crate::program::{Demo, Lines, Server, failure, free_addresses, free_offset, json, text, until};
use nix::sys::signal::Signal;
use std::path::Path;
use testkit::dialogue::{load, replay_tcp};

/// Dialogues of the small world that another house cannot repeat, with the reason.
const EXCEPTIONS: [(&str, &str); 5] = [
    ("data-is-refused-by-the-house", "no disk is full for one reverse-path only"),
    ("etrn", "there is no queue that could be run"),
    ("guide-virus-then-clean", "there is no scanner"),
    ("house-hangs-up", "no check ends a session"),
    ("mail-is-refused-by-the-house", "R93: what is wrong with a reverse-path is said at RCPT"),
];
/// The name of every message in the small world.
const QUEUE_ID: &str = "305B030F";

#[test]
fn a_demonstration_from_its_first_start_to_its_last_end() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("demo");
    let offset = free_offset();
    Demo::start(&folder, offset).server.end();
    make_it_the_small_world(&folder);
    let demo = Demo::start(&folder, offset);
    dialogues_go_as_written(&demo);
    a_message_goes_all_the_way(&demo);
    commands_reach_it(&demo);
    it_ends_when_told(demo);
}

/// R198: what the machines say in their tests, the server says over TCP.
fn dialogues_go_as_written(demo: &Demo) {
    let dialogues = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/smtp-proto/tests/dialogues"));
    let excepted = |name: &str| EXCEPTIONS.iter().find(|(exception, _)| *exception == name);
    let mut chosen: Vec<_> = dialogues.into_iter().filter(|d| d.world == "small" && d.fits_tcp()).collect();
    let before = chosen.len();
    chosen.retain(|dialogue| excepted(&dialogue.name).is_none());
    assert_eq!(before - chosen.len(), EXCEPTIONS.len(), "each exception is a dialogue");
    for reply in chosen.iter_mut().flat_map(|dialogue| &mut dialogue.scenes).flat_map(|scene| &mut scene.replies) {
        reply.pattern = reply.pattern.replace(QUEUE_ID, "*");
    }
    let failures: Vec<String> =
        chosen.iter().filter_map(|dialogue| replay_tcp(dialogue, demo.at(2525)).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The demonstration trusts loopback and lacks an account that the dialogues know.
fn make_it_the_small_world(folder: &Path) {
    let change = |name: &str, from: &str, to: &str| {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    change("pillarbox.toml", "[security]", "[policy]\ntrusted_networks = []\n\n[security]");
    change("relay_domains", "\n", "\nexample.com\n");
    let account =
        text(&folder.join("pillarbox.toml"), &["account", "add", "full@example.net", "-p", "f", "-s", "PLAIN"]);
    assert_eq!(account, "added full@example.net\n");
}

/// In by SMTP; its place is in the store before the reply, so the counters know it at once.
fn a_message_goes_all_the_way(demo: &Demo) {
    let messages =
        |account: &str| json(&demo.config(), &["quota", "get", "-u", account])[0]["messages"].as_u64().unwrap();
    let before = messages("notbrian@example.net");
    let mut smtp = Lines::connect(demo.at(2525));
    assert_eq!(smtp.line(), "220 mx.example.net ESMTP", "R86");
    smtp.ask("EHLO client.example.org");
    smtp.ask("MAIL FROM:<you@example.org>");
    assert_eq!(smtp.ask("RCPT TO:<info@another-example.com>"), "250 2.1.5 Ok");
    smtp.ask("DATA");
    assert!(smtp.ask("Subject: s\r\n\r\nb\r\n.").starts_with("250 2.0.0 Ok: queued as "));
    assert_eq!(messages("notbrian@example.net"), before + 1);
    assert_eq!(
        json(&demo.config(), &["quota", "recalc", "-u", "notbrian@example.net"])[0]["octets_before"],
        serde_json::Value::Null
    );
    let unknown = failure(&demo.config(), &["quota", "get", "-u", "nobody@example.net"]);
    assert!(unknown.contains("there is no account nobody@example.net"), "{unknown}");
}

fn commands_reach_it(demo: &Demo) {
    let config = demo.config();
    let status = json(&config, &["status"]);
    assert_eq!(status["listeners"].as_array().unwrap().len(), 9);
    assert!(text(&config, &["status"]).contains("pillarbox "));
    let in_use = failure(&config, &["fsck"]);
    assert!(in_use.contains("in use"), "{in_use}");
    // R29, R191, R192: edits hold at once.
    let taken = |address: &str| {
        let mut smtp = Lines::connect(demo.at(2525));
        smtp.line();
        smtp.ask("EHLO client.example.org");
        smtp.ask("MAIL FROM:<you@example.org>");
        smtp.ask(&format!("RCPT TO:<{address}>"))
    };
    assert!(taken("new@example.net").starts_with("550 5.1.1 "));
    text(&config, &["account", "add", "new@example.net", "-p", "n", "-s", "PLAIN"]);
    assert_eq!(taken("new@example.net"), "250 2.1.5 Ok");
    text(&config, &["account", "remove", "new@example.net", "--delete-mail"]);
    assert!(taken("new@example.net").starts_with("550 5.1.1 "));
    // R193: a broken table is named, as often as one asks, and the old one holds.
    assert_eq!(json(&config, &["reload"]), serde_json::json!({ "reloaded": true, "notes": [] }));
    let aliases = demo.folder.join("aliases");
    let good = std::fs::read_to_string(&aliases).unwrap();
    std::fs::write(&aliases, format!("{good}broken\n")).unwrap();
    for _ in 0..2 {
        let broken = failure(&config, &["reload"]);
        assert!(broken.contains(&format!("aliases:{}:", good.lines().count() + 1)), "{broken}");
    }
    assert_eq!(taken("info@example.net"), "250 2.1.5 Ok");
    std::fs::write(&aliases, good).unwrap();
    assert_eq!(text(&config, &["reload"]), "reloaded\n");
    // Prometheus.
    let mut page = Lines::connect(demo.at(8080));
    page.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let page = page.rest();
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("smtp_recipients_total{"), "{page}");
    assert!(!page.contains('@'), "no address is a label");
}

/// A session that is open hears of the end; the next start finds everything.
fn it_ends_when_told(mut demo: Demo) {
    let mut smtp = Lines::connect(demo.at(2525));
    smtp.line();
    assert_eq!(json(&demo.config(), &["stop"]), serde_json::json!({ "stopping": true }));
    assert!(smtp.line().starts_with("421 4.3.2 mx.example.net "));
    demo.server.ended();
    assert!(failure(&demo.config(), &["status"]).contains("no server runs"));
    let fsck = json(&demo.config(), &["fsck"]);
    assert_eq!((fsck["lost_count"].as_u64(), fsck["contradictions"].as_array().map(Vec::len)), (Some(0), Some(0)));
    assert!(fsck["records"].as_u64().unwrap() >= 2);
}

/// The file system is closed to the server, and still it finds all it needs: mail, tables and log in folders of their own,
/// certificates behind symbolic links, and all of them again on SIGHUP and reload (R16, R47, R204).
#[test]
fn a_confined_server_reaches_what_is_configured() {
    let place = tempfile::tempdir().unwrap();
    let config = init(place.path());
    let folder = config.parent().unwrap();
    for name in ["tables", "log", "archive"] {
        std::fs::create_dir(place.path().join(name)).unwrap();
    }
    let address = free_addresses(1)[0];
    let written = std::fs::read_to_string(&config).unwrap();
    let (head, _) = written.split_once("\n[[listener]]").unwrap();
    let more = format!(
        "\n[directory]\nsenders = \"../tables/senders\"\n\n[log]\nfile = \"../log/pillarbox.log\"\n\n\
         [[listener]]\nname = \"mx\"\naddress = \"{address}\"\ncertificates = \"smtp\"\n"
    );
    std::fs::write(&config, format!("{head}{more}")).unwrap();
    std::fs::rename(folder.join("senders"), place.path().join("tables/senders")).unwrap();
    let (certificate, archived) = (folder.join("tls/rsa-cert.pem"), place.path().join("archive/rsa-cert.pem"));
    std::fs::rename(&certificate, &archived).unwrap();
    std::os::unix::fs::symlink(&archived, &certificate).unwrap();
    assert_eq!(text(&config, &["check"]), "nothing wrong\n");

    let server = Server::start(&config);
    let (log, rotated) = (place.path().join("log/pillarbox.log"), place.path().join("log/pillarbox.log.1"));
    std::fs::rename(&log, &rotated).unwrap();
    server.signal(Signal::SIGHUP);
    until("the log is opened anew", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("reloaded") && !text.contains("failed"))
    });
    assert!(std::fs::read_to_string(rotated).unwrap().contains("listener=\"mx\""));
    assert_eq!(text(&config, &["reload"]), "reloaded\n");
    server.end();
    assert!(std::fs::read_to_string(log).unwrap().contains("shutdown"));
}
