//! Commands on files, no server running: from `init` to `fsck`.

use crate::program::{Run, failure, json, run, run_with_input, text};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A configuration as `init` makes it, for whoever runs the tests.
pub fn init(place: &Path) -> PathBuf {
    let config = place.join("etc/pillarbox.toml");
    let storage = place.join("mail");
    let words = ["init", "example.net", "--account", "brian@example.net", "-p", "b", "--csr", "--storage"];
    let made = text(&config, &[&words[..], &[&storage.to_string_lossy()]].concat());
    for record in [
        "example.net.  MX 10 mx.example.net.\n",
        "mail.example.net.  CNAME mx.example.net.\n",
        "_25._tcp.mx.example.net.  TLSA 3 1 1 ",
        "\"  ; only once its policy is on the web; `pillarbox dns records` prints it\n",
    ] {
        assert!(made.contains(record), "{made}");
    }
    assert_eq!(made.matches("TLSA 3 1 1 ").count(), 2, "R4: one for each key");
    assert!(!made.contains("e3b0c442"), "R5");
    let written = std::fs::read_to_string(&config).unwrap();
    assert!(written.contains("user = \"pillarbox\"\n"));
    std::fs::write(&config, written.replace("user = \"pillarbox\"\n", "user = \"\"\nallow_root = true\n")).unwrap();
    config
}

#[test]
fn r12_r13_r14_init_makes_a_configuration_once() {
    let place = tempfile::tempdir().unwrap();
    let config = init(place.path());
    let folder = config.parent().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(folder), mode(&folder.join("tls"))), (0o700, 0o700));
    for name in ["accounts", "domains", "mailboxes", "aliases", "senders", "pillarbox.toml", "tls/rsa-key.pem"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    for stem in ["ca-rsa", "ca-ecdsa", "ca-mail-rsa", "ca-mail-ecdsa"] {
        let request = std::fs::read_to_string(folder.join(format!("tls/{stem}-csr.pem"))).unwrap();
        assert!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"), "{stem}");
        assert_eq!(mode(&folder.join(format!("tls/{stem}-key.pem"))), 0o600, "{stem}");
    }
    let again = failure(&config, &["init", "example.net", "-p", "b"]);
    assert!(again.contains("is there already"), "{again}");
    for (words, cause) in [
        (&["init", "localhost", "-p", "b"][..], "not a full domain"),
        (&["init", "example.net", "--account", "a@example.org", "-p", "b"], "must belong to example.net"),
        (&["init", "example.net", "--host-name", "mx", "-p", "b"], "not a fully qualified host name"),
    ] {
        let refused = failure(&place.path().join("other/pillarbox.toml"), words);
        assert!(refused.contains(cause), "{refused}");
    }
    assert!(!place.path().join("other").exists(), "nothing is made before everything is known");
}

/// R2, R3: one name for both needs no CNAME; R195: what is odd in a name is still TOML.
#[test]
fn init_of_one_name_and_of_odd_paths() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("pillarbox.toml");
    let storage = place.path().join("a \"quoted\" folder").to_string_lossy().into_owned();
    let name = ["--host-name", "host.example.net", "--mail-name", "host.example.net", "-p", "b"];
    let words = [&["init", "example.net", "--storage", &storage][..], &name].concat();
    let records = json(&config, &words)["records"].clone();
    let records: Vec<&str> = records.as_array().unwrap().iter().map(|record| record.as_str().unwrap()).collect();
    assert!(records.contains(&"example.net.  MX 10 host.example.net."), "{records:?}");
    assert!(!records.iter().any(|record| record.contains("CNAME")), "{records:?}");
    let pins = records.iter().filter(|record| record.starts_with("_25._tcp.host.example.net.  TLSA 3 1 1 "));
    assert_eq!(pins.count(), 2, "{records:?}");
    assert_eq!(json(&config, &["config", "show"])["storage"]["folder"], storage);
}

/// R195: what is shown can be read again; only what was changed is shown as changed.
#[test]
fn r195_config_show_and_explain() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("pillarbox.toml");
    std::fs::write(&config, "host_name = \"mx.example.net\"\n\n[limits]\nrecipients = 200\n").unwrap();
    let changed = text(&config, &["config", "show", "--changed"]);
    assert_eq!(changed, "host_name = \"mx.example.net\"\n\n[limits]\nrecipients = 200\n");
    let expected = serde_json::json!({ "host_name": "mx.example.net", "limits": { "recipients": 200 } });
    assert_eq!(json(&config, &["config", "show", "--changed"]), expected);
    let shown = text(&config, &["config", "show"]);
    let copy = place.path().join("elsewhere.toml");
    std::fs::write(&copy, &shown).unwrap();
    assert_eq!(text(&copy, &["config", "show"]), shown);
    let explained = text(&config, &["config", "explain", "limits.recipients"]);
    assert!(explained.contains("default: 1000") && explained.contains("here:    200"), "{explained}");
    assert!(!text(&config, &["config", "explain", "directory.accounts"]).contains("here:"), "it is the default");
    let all = json(&config, &["config", "explain"]);
    assert!(all.as_array().unwrap().iter().any(|setting| setting["key"] == "listener[].socket_owner"));
    assert!(failure(&config, &["config", "explain", "limits.foo"]).contains("there is no setting `limits.foo`"));
}

/// R196: each fault is named, with its line where it has one, and the exit status says so.
#[test]
fn r196_check_names_each_fault() {
    let place = tempfile::tempdir().unwrap();
    let config = init(place.path());
    let folder = config.parent().unwrap().to_owned();
    assert_eq!(text(&config, &["check"]), "nothing wrong\n");
    assert_eq!(json(&config, &["check"]), serde_json::json!([]));
    let check = |fails: bool, cause: &str| {
        let Run { succeeded, stdout, stderr } = run(&config, &["check"]);
        assert!(stdout.contains(cause) && succeeded != fails, "{cause}: {stdout}{stderr}");
        let findings: serde_json::Value = serde_json::from_str(&run(&config, &["check", "--json"]).stdout).unwrap();
        assert!(!findings.as_array().unwrap().is_empty());
    };
    let with = |name: &str, change: &dyn Fn(&str) -> String, fails: bool, cause: &str| {
        let path = folder.join(name);
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(&before)).unwrap();
        check(fails, cause);
        std::fs::write(&path, before).unwrap();
    };
    let and = |line: &'static str| move |text: &str| format!("{text}{line}\n");
    with("pillarbox.toml", &and("[strange]"), true, "unknown field `strange`");
    with("pillarbox.toml", &|text: &str| text.replace("*:25", "here"), true, "`here` is neither");
    with("relay_domains", &and("example.net"), true, "example.net is hosted as well as relayed");
    with("aliases", &|_| String::new(), false, "postmaster@example.net leads nowhere");
    with("mailboxes", &and("ghost@example.net true"), true, "ghost@example.net has no account");
    with("aliases", &and("broken"), true, "aliases:5: error: ");
    with("tls/rsa-key.pem", &|_| String::new(), true, "set `smtp`: ");
    std::fs::rename(folder.join("domains"), folder.join("gone")).unwrap();
    check(true, "domains: error: the file does not exist");
    std::fs::rename(folder.join("gone"), folder.join("domains")).unwrap();
    let set_mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    for (path, cause) in [("tls/ecdsa-key.pem", "set `smtp`: "), ("accounts", "lets others than its owner")] {
        set_mode(&folder.join(path), 0o644);
        check(true, cause);
        set_mode(&folder.join(path), 0o600);
    }
    std::fs::create_dir(place.path().join("mail")).unwrap();
    set_mode(&place.path().join("mail"), 0o755);
    check(true, "others could read all mail");
    set_mode(&place.path().join("mail"), 0o700);
    // What keeps a start from going on is found before.
    with("pillarbox.toml", &and("[dns]\ntrust_anchors = \"none\""), true, "dns.trust_anchors ");
    let nonsense = "[dns]\nmode = \"validating\"\ntrust_anchors = \"accounts\"";
    with("pillarbox.toml", &and(nonsense), true, "anchor");
    with("pillarbox.toml", &and("[outbound]\nca_file = \"none\""), true, "outbound.ca_file ");
    std::fs::write(folder.join("weak"), "ab\n").unwrap();
    with("pillarbox.toml", &and("[forwarding]\nsecret_file = \"weak\""), true, "forwarding.secret_file ");
    std::fs::write(place.path().join("mail/srs-secret"), "").unwrap();
    check(true, "srs-secret");
    std::fs::remove_file(place.path().join("mail/srs-secret")).unwrap();
    assert_eq!(text(&config, &["check"]), "nothing wrong\n");
    assert!(
        failure(&place.path().join("none.toml"), &["account", "list"]).contains("none.toml: error: cannot be read")
    );
}

/// R191, R192: one command writes all tables; listings are for people and for programs.
#[test]
fn r191_r192_accounts_aliases_and_domains() {
    let place = tempfile::tempdir().unwrap();
    let config = init(place.path());
    let folder = config.parent().unwrap().to_owned();
    let table = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(
        text(&config, &["account", "add", "New@Example.net", "-p", "n", "-s", "PLAIN"]),
        "added new@example.net\n"
    );
    assert!(table("accounts").contains("new@example.net:{PLAIN}n::::::\n"));
    assert!(table("mailboxes").contains("new@example.net true\n"));
    assert!(table("senders").contains("new@example.net new@example.net\n"));
    let again = failure(&config, &["account", "add", "new@example.net", "-p", "n"]);
    assert!(again.contains("account new@example.net exists already"), "{again}");
    assert!(failure(&config, &["account", "add", "a@elsewhere.example", "-p", "n"]).contains("is not hosted"));
    text(&config, &["account", "passwd", "new@example.net", "-p", "other", "-s", "PLAIN"]);
    assert!(table("accounts").contains("new@example.net:{PLAIN}other::::::\n"), "R34");
    text(&config, &["account", "disable", "new@example.net"]);
    let row = json(&config, &["account", "list"])[1].clone();
    assert_eq!((&row["account"], &row["login"]), (&"new@example.net".into(), &"no".into()));
    text(&config, &["account", "enable", "new@example.net"]);
    assert_eq!(json(&config, &["account", "list"])[1]["login"], "yes");
    assert!(text(&config, &["account", "list"]).starts_with("account            login  receives  quota rule\n"));

    text(&config, &["alias", "add", "team@example.net", "new@example.net,brian@example.net"]);
    let aliases = json(&config, &["alias", "list"]);
    let team = aliases.as_array().unwrap().iter().find(|row| row["address"] == "team@example.net").unwrap();
    assert_eq!(team["targets"], "new@example.net, brian@example.net");
    assert!(failure(&config, &["alias", "add", "x@example.net", "nobody@example.net"]).contains("nobody@example.net"));
    let removed = json(&config, &["account", "remove", "new@example.net", "--keep-mail"]);
    assert_eq!(removed["aliases_left"], serde_json::json!(["team@example.net"]));
    assert!(
        !table("accounts").contains("new@")
            && !table("mailboxes").contains("new@")
            && !table("senders").contains("new@")
    );
    let unknown = failure(&config, &["account", "remove", "new@example.net", "--delete-mail"]);
    assert!(unknown.contains("account new@example.net does not exist"), "{unknown}");
    assert!(
        !run(&config, &["account", "remove", "brian@example.net"]).succeeded,
        "the mail's fate is an explicit choice"
    );
    text(&config, &["alias", "remove", "team@example.net"]);

    text(&config, &["domain", "add", "third.example"]);
    assert_eq!(
        json(&config, &["domain", "list"]),
        serde_json::json!([{ "domain": "example.net" }, { "domain": "third.example" }])
    );
    text(&config, &["domain", "remove", "third.example"]);
    assert!(failure(&config, &["domain", "remove", "example.net"]).contains("still in use"));
}

/// R30–R32: as `doveadm pw` does it.
#[test]
fn r30_r31_r32_password_hashes() {
    let none = Path::new("/nonexistent/pillarbox.toml");
    let hash = |words: &[&str]| text(none, &[&["password", "hash", "-p", "secret"], words].concat());
    for (words, start) in [
        (&["-s", "BLF-CRYPT", "-r", "8"][..], "{BLF-CRYPT}$2"),
        (&[], "{BLF-CRYPT}$2"),
        (&["-r", "3"], "{BLF-CRYPT}$2"),
    ] {
        let hash = hash(words);
        assert!(hash.starts_with(start) && hash.trim_end().len() == "{BLF-CRYPT}".len() + 60, "{hash}");
        let cost = hash.split('$').nth(2).unwrap();
        assert_eq!(
            cost,
            match words.last() {
                Some(&"8") => "08",
                None => "05",
                _ => "04",
            },
            "R31"
        );
    }
    assert_eq!(hash(&["-s", "PLAIN"]), "{PLAIN}secret\n");
    assert_eq!(json(none, &["password", "hash", "-s", "PLAIN", "-p", "x"]), serde_json::json!({ "hash": "{PLAIN}x" }));
    let asked = run_with_input(none, &["password", "hash", "-s", "PLAIN"], "a b\na b\n");
    assert_eq!((asked.succeeded, asked.stdout.as_str()), (true, "{PLAIN}a b\n"));
    assert_eq!(asked.stderr, "Enter new password: Retype new password: ");
    for (input, cause) in [("a\nb\n", "do not match"), ("", "no password was given"), ("\n\n", "is empty")] {
        let Run { succeeded, stdout, stderr } = run_with_input(none, &["password", "hash"], input);
        assert!(!succeeded && stdout.is_empty() && stderr.contains(cause), "{stdout}{stderr}");
    }
    assert!(failure(none, &["password", "hash", "-s", "ROT13", "-p", "x"]).contains("there is no scheme `ROT13`"));
}

/// R84, without a server; what the commands make belongs to its owner alone (V51).
#[test]
fn r84_quota_and_fsck_without_a_server() {
    let place = tempfile::tempdir().unwrap();
    let config = init(place.path());
    let all = json(&config, &["quota", "get", "-A"]);
    let expected = serde_json::json!([{
        "account": "brian@example.net", "octets": 0, "octets_max": 1 << 30, "messages": 0, "messages_max": null,
        "octets_before": null,
    }]);
    assert_eq!(all, expected);
    let table = text(&config, &["quota", "recalc", "-u", "Brian@example.net"]);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1], ["brian@example.net", "User", "Quota", "STORAGE", "0", "1048576", "0"]);
    assert_eq!(words[2], ["brian@example.net", "User", "Quota", "MESSAGE", "0", "-", "0"]);
    assert!(failure(&config, &["quota", "get", "-u", "nobody@example.net"]).contains("there is no account"));
    assert!(!run(&config, &["quota", "get"]).succeeded, "one account or all");
    assert_eq!(json(&config, &["fsck"])["lost_count"], 0);
    assert!(text(&config, &["fsck"]).ends_with("everything is in order\n"));
    let storage = place.path().join("mail");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o077;
    assert_eq!(mode(&storage), 0);
    for entry in std::fs::read_dir(storage).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0);
    }
    for words in [&["status"][..], &["reload"], &["stop"]] {
        assert!(failure(&config, words).contains("no server runs with this configuration"));
    }
}
