//! What an administrator does with a running server.

use crate::desk::{deliver, imap, message, messages, subjects, wait_until};
use crate::{BRIAN, NOT_BRIAN};
use peers::client::{Imap, Pop3};
use peers::peer::Peer;
use peers::server::{PASSWORD, Port, Server, binary};
use std::os::unix::fs::PermissionsExt;

const NEW: &str = "new@example.net";

fn submit(server: &Server, account: &str, password: &str, subject: &str) -> peers::peer::Outcome {
    Peer::new("swaks")
        .args([
            "--server",
            "127.0.0.1",
            "--port",
            &server.port(Port::Submission).to_string(),
            "--tls",
            "--auth",
            "PLAIN",
        ])
        .args(["--auth-user", account, "--auth-password", password, "--from", account, "--to", NOT_BRIAN])
        .args(["--header", &format!("Subject: {subject}")])
        .run()
        .unwrap()
}

fn logs_in(server: &Server, account: &str, password: &str) -> bool {
    match Imap::login(server.port(Port::Imaps), account, password) {
        Ok(_) => true,
        Err(error) => {
            assert!(error.to_string().contains("[AUTHENTICATIONFAILED]"), "{error:#}");
            false
        }
    }
}

#[test]
fn r191_r192_the_life_of_an_account() {
    let server = Server::start_distrustful().unwrap();
    server.command(&["account", "add", NEW, "--password", "first"]).unwrap();
    // R191: receives, reads, sends as itself, at once.
    deliver(&server, NEW, "hello", "x");
    assert!(logs_in(&server, NEW, "first"));
    let outcome = submit(&server, NEW, "first", "from-new");
    assert_eq!(outcome.status, Some(0), "{outcome}");
    assert!(subjects(&server, NOT_BRIAN, "INBOX").contains(&"from-new".to_owned()));
    for (file, line) in [
        ("accounts", "new@example.net:{ARGON2ID}$argon2id$"),
        ("mailboxes", "new@example.net true"),
        ("senders", "new@example.net new@example.net"),
    ] {
        let text = std::fs::read_to_string(server.folder.join(file)).unwrap();
        assert!(text.lines().any(|present| present.starts_with(line)), "{file}: {text}");
    }
    let said = server.failing_command(&["account", "add", NEW, "--password", "x"]).unwrap();
    assert!(said.contains("exists already"), "{said}");

    // R34: the old password stops working at once.
    server.command(&["account", "passwd", NEW, "--password", "second", "--scheme", "SHA512-CRYPT"]).unwrap();
    assert!(!logs_in(&server, NEW, "first"));
    assert!(logs_in(&server, NEW, "second"));

    // Disabled: no login, by any protocol, but mail still arrives.
    server.command(&["account", "disable", NEW]).unwrap();
    assert!(!logs_in(&server, NEW, "second"));
    assert!(Pop3::login(server.port(Port::Pop3s), NEW, "second").is_err());
    assert!(submit(&server, NEW, "second", "x").says("535 5.7.8 "));
    deliver(&server, NEW, "while-disabled", "x");
    server.command(&["account", "enable", NEW]).unwrap();
    let mut client = Imap::login(server.port(Port::Imaps), NEW, "second").unwrap();
    let found: Vec<_> =
        client.messages("INBOX").unwrap().iter().filter_map(|message| message.field("Subject")).collect();
    assert_eq!(found, ["hello", "while-disabled"]);
    let list: serde_json::Value =
        serde_json::from_str(&server.command(&["account", "list", "--json"]).unwrap()).unwrap();
    assert!(list.to_string().contains(NEW), "{list}");
    assert!(server.command(&["account", "list"]).unwrap().contains(NEW));

    // Removed: unknown, until it is added again; its mail was kept.
    server.command(&["account", "remove", NEW, "--keep-mail"]).unwrap();
    assert!(!logs_in(&server, NEW, "second"));
    let refused = peers::client::Smtp::connect(server.port(Port::Mx)).unwrap().send("", &[NEW], "x").unwrap_err();
    assert!(refused.to_string().contains("550 5.1.1"), "{refused}");
    server.command(&["account", "add", NEW, "--password", "third"]).unwrap();
    let mut client = Imap::login(server.port(Port::Imaps), NEW, "third").unwrap();
    assert_eq!(client.messages("INBOX").unwrap().len(), 2);
    drop(client);
    server.command(&["account", "remove", NEW, "--delete-mail"]).unwrap();
    server.command(&["account", "add", NEW, "--password", "fourth"]).unwrap();
    let mut client = Imap::login(server.port(Port::Imaps), NEW, "fourth").unwrap();
    assert!(client.messages("INBOX").unwrap().is_empty());
}

#[test]
fn r29_r33_r36_accounts_edited_by_hand() {
    let server = Server::start_distrustful().unwrap();
    let hash = |scheme: &str| {
        server.command(&["password", "hash", "--scheme", scheme, "--password", "by-hand"]).unwrap().trim().to_owned()
    };
    let mut lines = String::new();
    for scheme in ["BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "ARGON2ID", "PLAIN"] {
        lines.push_str(&format!("{}@example.net:{}::::::\n", scheme.to_lowercase(), hash(scheme)));
    }
    server.edit("accounts", |text| format!("{text}# by hand\n\n{lines}")).unwrap();
    wait_until("the new line is read without a reload", || {
        Imap::login(server.port(Port::Imaps), "sha512-crypt@example.net", "by-hand").is_ok()
    });
    for scheme in ["blf-crypt", "sha256-crypt", "argon2id", "plain"] {
        assert!(logs_in(&server, &format!("{scheme}@example.net"), "by-hand"), "{scheme}");
    }
    assert!(!logs_in(&server, "brian", PASSWORD));
    assert!(server.log_text().unwrap().contains("brian@unknown"));
    // R197: no password ever gets into the log.
    assert!(!server.log_text().unwrap().contains("by-hand"));
    assert!(!server.log_text().unwrap().contains(PASSWORD) || PASSWORD == "mailbox");
}

#[test]
fn r118_r193_tables_by_command_and_broken_by_hand() {
    let server = Server::start_distrustful().unwrap();
    server.command(&["alias", "add", "team@example.net", BRIAN, NOT_BRIAN]).unwrap();
    deliver(&server, "team@example.net", "team", "x");
    message(&server, BRIAN, "INBOX", "team");
    message(&server, NOT_BRIAN, "INBOX", "team");
    assert!(server.command(&["alias", "list"]).unwrap().contains("team@example.net"));
    server.command(&["domain", "add", "third.test"]).unwrap();
    server.command(&["alias", "add", "@third.test", BRIAN]).unwrap();
    deliver(&server, "anyone@third.test", "third", "x");
    message(&server, BRIAN, "INBOX", "third");
    let said = server.failing_command(&["domain", "remove", "third.test"]).unwrap();
    assert!(said.contains("in use"), "{said}");
    server.command(&["alias", "remove", "@third.test"]).unwrap();
    server.command(&["domain", "remove", "third.test"]).unwrap();

    // A broken edit: reload says where, the old content stays in force.
    server
        .edit("aliases", |text| format!("{text}support@example.net brian@example.net\naddress-without-target\n"))
        .unwrap();
    let bad = std::fs::read_to_string(server.folder.join("aliases")).unwrap().lines().count();
    let said = server.failing_command(&["reload"]).unwrap();
    assert!(said.contains(&format!("aliases:{bad}")), "{said}");
    // Told again, for as long as it is so, however often the server has looked at the file since.
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    assert_eq!(server.failing_command(&["reload"]).unwrap(), said);
    deliver(&server, "team@example.net", "team-again", "x");
    let refused = peers::client::Smtp::connect(server.port(Port::Mx))
        .unwrap()
        .send("", &["support@example.net"], "x")
        .unwrap_err();
    assert!(refused.to_string().contains("550 5.1.1"), "{refused}");
    server.edit("aliases", |text| text.replace("address-without-target\n", "")).unwrap();
    server.command(&["reload"]).unwrap();
    deliver(&server, "support@example.net", "support", "x");

    // The same for the configuration itself.
    server.edit("pillarbox.toml", |text| text.replace("[storage]", "[storag]")).unwrap();
    let said = server.failing_command(&["reload"]).unwrap();
    assert!(said.contains("storag") && said.contains("pillarbox.toml:"), "{said}");
    deliver(&server, BRIAN, "still-here", "x");
}

#[test]
fn r16_a_reload_keeps_an_idle_session() {
    let server = Server::start().unwrap();
    let mut idle = imap(&server, BRIAN);
    idle.command("SELECT INBOX").unwrap();
    idle.begin("IDLE").unwrap();
    assert!(idle.response().unwrap().starts_with(b"+ "));
    server.command(&["reload"]).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.pid().unwrap() as i32), nix::sys::signal::Signal::SIGHUP)
        .unwrap();
    deliver(&server, BRIAN, "after-the-reload", "x");
    loop {
        let response = idle.response().unwrap();
        if response == b"* 2 EXISTS\r\n" {
            break;
        }
        assert!(response.starts_with(b"* "), "{}", String::from_utf8_lossy(&response));
    }
    assert!(server.command(&["status"]).unwrap().contains("imaps"));
}

#[test]
fn r196_check_names_every_planted_fault() {
    let mut server = Server::start().unwrap();
    assert!(server.command(&["check"]).unwrap().contains("nothing wrong"));
    server.stop().unwrap();
    server.edit("aliases", |text| format!("{text}lost@example.net gone@example.net\nlost-too nowhere\n")).unwrap();
    server.edit("mailboxes", |text| format!("{text}ghost@example.net true\n")).unwrap();
    server.edit("relay_domains", |text| format!("{text}example.net\n")).unwrap();
    server.edit("domains", |text| format!("{text}bare.test\n")).unwrap();
    server
        .edit("accounts", |text| format!("{text}brian@example.net:{{PLAIN}}again::::::\nhalf@example.net:{{PLAIN}}x\n"))
        .unwrap();
    let key = server.folder.join("tls/rsa-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = server.failing_command(&["check"]).unwrap();
    for fault in [
        "gone@example.net",
        "nowhere@example.net",
        "ghost@example.net",
        "relay_domains",
        "bare.test",
        "postmaster",
        "brian@example.net",
        "half@example.net",
        "rsa-key.pem",
    ] {
        assert!(said.contains(fault), "{fault} is not named:\n{said}");
    }
    let findings = Peer::new(binary().to_str().unwrap())
        .arg("--config")
        .arg(server.folder.join("pillarbox.toml"))
        .args(["check", "--json"]);
    let findings = findings.run().unwrap();
    let findings: serde_json::Value = serde_json::from_slice(&findings.output).unwrap();
    assert!(findings.as_array().is_some_and(|findings| findings.len() >= 6), "{findings}");

    for (from, to, named) in [
        ("host_name = \"mx.example.net\"", "host_name = \"localhost\"", "host_name"),
        ("protocol = \"mx\"", "protocol = \"mxx\"", "mxx"),
        ("certificates = \"mail\"", "certificates = \"male\"", "male"),
        ("tls = \"starttls\"", "tls = \"starttls\"\ntypo = 1", "typo"),
    ] {
        let other = Server::prepare().unwrap();
        std::fs::create_dir(&other.folder).unwrap();
        for entry in std::fs::read_dir(&server.folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), other.folder.join(entry.file_name())).unwrap();
            }
        }
        other.edit("pillarbox.toml", |text| text.replacen(from, to, 1)).unwrap();
        let said = other.failing_command(&["check"]).unwrap();
        assert!(said.contains(named), "{named} is not named:\n{said}");
    }
}

#[test]
fn r84_quota_and_machine_readable_answers() {
    let server = Server::start().unwrap();
    deliver(&server, BRIAN, "one", "body");
    let octets: usize = messages(&server, BRIAN, "INBOX").iter().map(|message| message.octets.len()).sum();
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&server.command(&[arguments, &["--json"]].concat()).unwrap()).unwrap()
    };
    let usage = json(&["quota", "get", "-u", BRIAN]);
    assert_eq!(usage[0]["octets"], octets, "{usage}");
    assert_eq!(usage[0]["messages"], 2, "{usage}");
    assert_eq!(usage[0]["octets_max"], 1u64 << 30, "{usage}");
    let table = server.command(&["quota", "get", "-A"]).unwrap();
    assert!(table.contains("User Quota") && table.contains("1048576") && table.contains(NOT_BRIAN), "{table}");
    let again = json(&["quota", "recalc", "-u", BRIAN]);
    assert_eq!(again[0]["octets"], octets, "{again}");
    let status = json(&["status"]);
    assert_eq!(status["pid"], server.pid().unwrap(), "{status}");
    assert!(status["listeners"].as_array().unwrap().len() >= 8, "{status}");
    for arguments in
        [&["alias", "list"][..], &["domain", "list"], &["config", "show"], &["config", "explain", "limits.hops"]]
    {
        json(arguments);
    }
    let metrics = Peer::new("curl").args([
        "--silent",
        "--fail",
        &format!("http://127.0.0.1:{}/metrics", server.port(Port::Metrics)),
    ]);
    let metrics = metrics.succeed().unwrap();
    metrics.must_say("connections_total{listener=\"mx\"}").unwrap();
    metrics.must_say("smtp_recipients_total{").unwrap();
}

#[test]
fn r194_an_orderly_end_and_a_new_start() {
    let mut server = Server::start().unwrap();
    deliver(&server, BRIAN, "before", "x");
    let mut reader = imap(&server, BRIAN);
    let (selected, _) = reader.command("SELECT INBOX").unwrap();
    reader.begin("IDLE").unwrap();
    assert!(reader.response().unwrap().starts_with(b"+ "));
    // SIGTERM: the reader is told, the process ends with success.
    server.stop().unwrap();
    let mut last = Vec::new();
    while let Ok(response) = reader.response() {
        last = response;
    }
    assert!(last.starts_with(b"* BYE "), "{}", String::from_utf8_lossy(&last));
    server.launch(&[]).unwrap();
    assert_eq!(subjects(&server, BRIAN, "INBOX"), ["Welcome to pillarbox", "before"]);
    let validity = |responses: &[Vec<u8>]| {
        let text = String::from_utf8_lossy(&responses.concat()).into_owned();
        text.split("UIDVALIDITY ").nth(1).unwrap().split(']').next().unwrap().to_owned()
    };
    let (again, _) = imap(&server, BRIAN).command("SELECT INBOX").unwrap();
    assert_eq!(validity(&selected), validity(&again));
    // `stop` by command; then nobody answers, and the commands say so.
    server.command(&["stop"]).unwrap();
    wait_until("the server has ended", || server.failing_command(&["status"]).is_ok());
    assert!(server.failing_command(&["status"]).unwrap().contains("no server runs"));
    assert!(server.command(&["quota", "get", "-u", BRIAN]).unwrap().contains(BRIAN), "on the store itself");
}

#[test]
fn r47_the_log_file_is_opened_anew() {
    let server =
        Server::start_edited(|text| format!("{text}\n[log]\nfile = \"mail.log\"\nformat = \"json\"\n")).unwrap();
    let log = server.folder.join("mail.log");
    deliver(&server, BRIAN, "one", "x");
    let text = std::fs::read_to_string(&log).unwrap();
    let delivery = text.lines().find(|line| line.contains("\"delivery\"")).unwrap_or_else(|| panic!("{text}"));
    let delivery: serde_json::Value = serde_json::from_str(delivery).unwrap();
    assert_eq!(delivery["to"], BRIAN, "{delivery}");
    assert_eq!(delivery["outcome"], "delivered", "{delivery}");
    std::fs::rename(&log, server.folder.join("mail.log.1")).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.pid().unwrap() as i32), nix::sys::signal::Signal::SIGHUP)
        .unwrap();
    wait_until("a new log", || log.exists());
    deliver(&server, BRIAN, "two", "x");
    wait_until("the delivery is in the new log", || std::fs::read_to_string(&log).unwrap().contains("\"delivery\""));
}

#[test]
fn r56_r78_r81_quota_is_kept() {
    let server = Server::start_distrustful().unwrap();
    let small = "small@example.net";
    server.command(&["account", "add", small, "--password", PASSWORD]).unwrap();
    server
        .edit("accounts", |text| {
            let lines = text.lines().map(|line| match line.starts_with(small) {
                true => format!("{line}userdb_quota_rule=*:storage=100K\n"),
                false => format!("{line}\n"),
            });
            lines.collect()
        })
        .unwrap();
    server.command(&["reload"]).unwrap();
    let mut client = imap(&server, small);
    let (quota, _) = client.command("GETQUOTAROOT INBOX").unwrap();
    let quota = String::from_utf8_lossy(&quota.concat()).into_owned();
    assert!(quota.contains("STORAGE 0 100"), "{quota}");
    // No grace for a client.
    let text = |kilobytes: usize| {
        format!(
            "Subject: s{kilobytes}\r\n\r\n{}",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(kilobytes * 16)
        )
    };
    let refused = client.literal("APPEND INBOX", text(101).as_bytes()).unwrap_err();
    assert!(refused.to_string().contains("NO [OVERQUOTA] Quota exceeded (mailbox for user is full)"), "{refused}");
    client.literal("APPEND INBOX", text(95).as_bytes()).unwrap();
    // A delivery may go beyond by ten per cent, once.
    let smtp = |kilobytes: usize| {
        let mut smtp = peers::client::Smtp::connect(server.port(Port::Mx)).unwrap();
        smtp.send("you@example.org", &[small], &text(kilobytes)).map_err(|error| error.to_string())
    };
    let refused = smtp(20).unwrap_err();
    assert!(refused.contains(" 4.2.2 ") || refused.contains(" 5.2.2 "), "{refused}");
    smtp(8).unwrap();
    let refused = smtp(1).unwrap_err();
    assert!(
        refused.contains("522 5.2.2 <small@example.net>: Recipient address rejected: Mailbox is full"),
        "{refused}"
    );
    // R80: the declared size counts.
    let mut raw = peers::client::Raw::connect(server.port(Port::Mx)).unwrap();
    raw.reply().unwrap();
    raw.command("EHLO client.example.org").unwrap();
    raw.command("MAIL FROM:<you@example.org> SIZE=2000000").unwrap();
    assert!(raw.command(&format!("RCPT TO:<{small}>")).unwrap().starts_with("522 5.2.2"));
    assert!(raw.command(&format!("RCPT TO:<{BRIAN}>")).unwrap().starts_with("250 "), "others are not concerned");
    // Room again after an expunge.
    client.command("SELECT INBOX").unwrap();
    client.command("STORE 1 +FLAGS.SILENT (\\Deleted)").unwrap();
    client.command("EXPUNGE").unwrap();
    smtp(20).unwrap();
    assert_eq!(messages(&server, small, "INBOX").len(), 2);
}

#[test]
fn r12_r196_init_makes_what_check_has_nothing_to_say_about() {
    let server = Server::prepare().unwrap();
    let folder = server.folder.to_str().unwrap().to_owned();
    let storage = server.scratch("storage");
    let init = || {
        let peer = Peer::new(binary().to_str().unwrap()).args([
            "init",
            "example.org",
            "--folder",
            &folder,
            "--csr",
            "--user",
            "absent",
        ]);
        peer.arg("--storage").arg(&storage).args(["--password", "first", "--account", "ada@example.org"]).run().unwrap()
    };
    let made = init();
    assert_eq!(made.status, Some(0), "{made}");
    for words in ["MX 10 mx.example.org.", "_25._tcp.mx.example.org.  TLSA 3 1 1 ", "ada@example.org", "check", "serve"]
    {
        made.must_say(words).unwrap();
    }
    // R5: never the digest of nothing.
    assert!(!made.says("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    // There is no such user for the server to become, and that is all there is to say.
    let said = server.failing_command(&["check"]).unwrap();
    assert!(said.contains("there is no user absent") && said.matches("error:").count() == 1, "{said}");
    server.edit("pillarbox.toml", |text| text.replace("user = \"absent\"", "allow_root = true")).unwrap();
    assert!(server.command(&["check"]).unwrap().contains("nothing wrong"));
    for kind in ["rsa", "ecdsa"] {
        let request = server.folder.join(format!("tls/ca-{kind}-csr.pem"));
        let shown =
            Peer::new("openssl").args(["req", "-noout", "-text", "-verify", "-in"]).arg(&request).succeed().unwrap();
        shown.must_say("DNS:mx.example.org, DNS:mail.example.org").unwrap();
        shown.must_say("verify OK").unwrap();
        shown.must_say("C = US, O = Example Networks, CN = mx.example.org").unwrap();
    }
    let again = init();
    assert_ne!(again.status, Some(0), "{again}");
    again.must_say("is there already").unwrap();
    assert!(server.command(&["config", "show", "--changed"]).unwrap().contains("host_name = \"mx.example.org\""));
}

#[test]
fn r14_r38_privileges_are_given_up() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("only root has privileges to give up: nothing was tested");
        return;
    }
    let mut server = Server::start().unwrap();
    server.stop().unwrap();
    server.edit("pillarbox.toml", |text| text.replace("allow_root = true", "user = \"nobody\"")).unwrap();
    // All belongs to the server's user but the keys, which root keeps for itself.
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    std::fs::set_permissions(server.scratch(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    Peer::new("chown").args(["-R", "nobody:"]).arg(&server.folder).succeed().unwrap();
    Peer::new("chown").args(["-R", "root:root"]).arg(server.folder.join("tls")).succeed().unwrap();
    server.launch(&[]).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
    let uids = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert!(uids.split_whitespace().skip(1).all(|uid| uid == user.uid.to_string()), "{uids}");
    assert_eq!(std::fs::metadata(server.folder.join("tls/rsa-key.pem")).unwrap().permissions().mode() & 0o777, 0o600);

    // Mail comes in and goes out, tables are edited, certificates are renewed.
    deliver(&server, BRIAN, "unprivileged", "x");
    message(&server, BRIAN, "INBOX", "unprivileged");
    server.command(&["account", "add", NEW, "--password", PASSWORD]).unwrap();
    deliver(&server, NEW, "hello", "x");
    message(&server, NEW, "INBOX", "hello");
    let before = crate::tls::fingerprint(&server, Port::Imaps, None);
    let tls = server.folder.join("tls");
    let request =
        ["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "30", "-subj", "/CN=mail.example.net", "-keyout"];
    Peer::new("openssl")
        .args(request)
        .arg(tls.join("mail-rsa-key.pem"))
        .arg("-out")
        .arg(tls.join("mail-rsa-cert.pem"))
        .succeed()
        .unwrap();
    server.command(&["reload"]).unwrap();
    assert_ne!(crate::tls::fingerprint(&server, Port::Imaps, None), before);

    // Keys that only root can read sign from the moment they are active, and no longer.
    let signer = |subject: &str| {
        let outcome = submit(&server, BRIAN, PASSWORD, subject);
        assert_eq!(outcome.status, Some(0), "{outcome}");
        let signature = message(&server, NOT_BRIAN, "INBOX", subject).field("DKIM-Signature").unwrap_or_default();
        signature.split(';').find_map(|tag| tag.trim().strip_prefix("s=").map(str::to_owned))
    };
    assert_eq!(signer("unsigned"), None);
    let key = ["dkim", "key", "example.net", "--algorithm", "ed25519", "--selector"];
    server.command(&[&key[..], &["first"]].concat()).unwrap();
    assert_eq!(signer("first").as_deref(), Some("first"));
    server.command(&[&key[..], &["second"]].concat()).unwrap();
    assert_eq!(signer("still the first").as_deref(), Some("first"));
    server.command(&["dkim", "rotate", "example.net", "--activate"]).unwrap();
    assert_eq!(signer("second").as_deref(), Some("second"));
    server.command(&["dkim", "rotate", "example.net", "--retire", "second"]).unwrap();
    assert_eq!(signer("none"), None);
    server.stop().unwrap();

    // Root without anybody to become does not serve.
    server.edit("pillarbox.toml", |text| text.replace("user = \"nobody\"", "user = \"\"")).unwrap();
    let said = server.failing_command(&["serve"]).unwrap();
    assert!(said.contains("security.user"), "{said}");
}
