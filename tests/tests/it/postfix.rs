//! A real Postfix delivers into our LMTP socket (R62): its own configuration, queue and log, on a port of its own.
//!
//! Postfix starts only as root; CI runs these tests as root.

use crate::BRIAN;
use crate::desk::{deliver, messages, subjects, wait_until};
use peers::client::Smtp;
use peers::peer::Peer;
use peers::server::Server;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A running Postfix, stopped when dropped.
struct Postfix {
    folder: PathBuf,
    port: u16,
}

impl Postfix {
    fn start(folder: &Path, socket: &Path) -> Postfix {
        assert!(
            nix::unistd::geteuid().is_root(),
            "Postfix can only be started by root: run `cargo xtask test` as root, or leave this test out with `--skip postfix`"
        );
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let postfix = Postfix { folder: folder.to_owned(), port };
        for part in ["etc", "spool", "data"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        let owner = nix::unistd::User::from_name("postfix").unwrap().expect("the package postfix has made its user");
        std::os::unix::fs::chown(folder.join("data"), Some(owner.uid.as_raw()), None).unwrap();
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {folder}/spool\ndata_directory = {folder}/data\n\
             command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\nsetgid_group = postdrop\n\
             maillog_file = {folder}/maillog\nmaillog_file_prefixes = {folder}\nmyhostname = front.example.org\nmydestination =\n\
             inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nalias_maps =\nalias_database =\n\
             local_transport = error:no local mail\nvirtual_mailbox_domains = example.net\n\
             virtual_transport = lmtp:unix:{socket}\nlmtp_host_lookup = native\nminimal_backoff_time = 1s\nqueue_run_delay = 1s\n\
             notify_classes =\nbounce_queue_lifetime = 0\n",
            folder = folder.display(),
            socket = socket.display(),
        );
        let mut master = format!("127.0.0.1:{port} inet n - n - - smtpd\npostlog unix-dgram n - n - 1 postlogd\n");
        for (name, command) in [
            ("cleanup", "unix n - n - 0 cleanup"),
            ("qmgr", "unix n - n 300 1 qmgr"),
            ("pickup", "unix n - n 60 1 pickup"),
            ("rewrite", "unix - - n - - trivial-rewrite"),
            ("bounce", "unix - - n - 0 bounce"),
            ("defer", "unix - - n - 0 bounce"),
            ("trace", "unix - - n - 0 bounce"),
            ("error", "unix - - n - - error"),
            ("retry", "unix - - n - - error"),
            ("lmtp", "unix - - n - - lmtp"),
            ("smtp", "unix - - n - - smtp"),
            ("proxymap", "unix - - n - - proxymap"),
            ("anvil", "unix - - n - 1 anvil"),
            ("scache", "unix - - n - 1 scache"),
        ] {
            master.push_str(&format!("{name} {command}\n"));
        }
        std::fs::write(folder.join("etc/main.cf"), main).unwrap();
        std::fs::write(folder.join("etc/master.cf"), master).unwrap();
        postfix.command("start");
        wait_until("Postfix answers", || Smtp::connect(port).is_ok());
        postfix
    }

    fn command(&self, command: &str) {
        Peer::new("postfix").arg("-c").arg(self.folder.join("etc")).arg(command).succeed().unwrap();
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("maillog")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // A test that failed must still say why; Postfix says by itself what is wrong with its end.
        let _ = Peer::new("postfix").arg("-c").arg(self.folder.join("etc")).arg("stop").run();
    }
}

#[test]
fn r62_r63_r67_postfix_delivers_over_lmtp() {
    // Postfix delivers as a user of its own, who must be able to reach the socket.
    let folder = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let socket = folder.path().join("lmtp.sock");
    let mut server = Server::start_edited(|text| {
        let text = text.replace(
            "address = \"mail/lmtp.sock\"\n",
            &format!("address = \"{}\"\nsocket_mode = \"0666\"\n", socket.display()),
        );
        assert!(text.contains("0666"), "{text}");
        text
    })
    .unwrap();
    server
        .edit("accounts", |text| {
            let hash = text.lines().next().unwrap().split(':').nth(1).unwrap().to_owned();
            format!("{text}small@example.net:{hash}::::::userdb_quota_rule=*:storage=1K\n")
        })
        .unwrap();
    server.edit("mailboxes", |text| format!("{text}small@example.net true\n")).unwrap();
    server.command(&["reload"]).unwrap();
    let postfix = Postfix::start(folder.path(), &socket);
    let mut client = Smtp::connect(postfix.port).unwrap();

    // One that exists, one that does not, one that is full: each has an outcome of its own (RFC 2033 §4.2).
    let recipients = [BRIAN, "nobody@example.net", "small@example.net"];
    let body = "x".repeat(900);
    let text =
        format!("Subject: over-lmtp\r\nReturn-Path: <forged@example.org>\r\n\r\n{body}\r\n{body}\r\n..dots\r\n.");
    let text = text.replace("\r\n.", "\r\n..");
    client.send("you@example.org", &recipients, &text).unwrap();
    wait_until("each recipient has an outcome", || postfix.log().matches(" status=").count() >= 3);
    let log = postfix.log();
    let line = |recipient: &str| {
        let mark = format!("to=<{recipient}>");
        log.lines()
            .find(|line| line.contains(&mark))
            .unwrap_or_else(|| panic!("{recipient} is not in:\n{log}"))
            .to_owned()
    };
    let brian = line(BRIAN);
    assert!(brian.contains("status=sent (250 2.0.0 <brian@example.net> ") && brian.contains(" Saved)"), "{brian}");
    let nobody = line("nobody@example.net");
    assert!(
        nobody.contains("status=bounced")
            && nobody.contains("550 5.1.1 <nobody@example.net> User doesn't exist: nobody@example.net"),
        "{nobody}"
    );
    let small = line("small@example.net");
    assert!(
        small.contains("status=bounced")
            && small.contains("552 5.2.2 <small@example.net> Quota exceeded (mailbox for user is full)"),
        "{small}"
    );

    let mail = crate::desk::message(&server, BRIAN, "INBOX", "over-lmtp");
    assert!(mail.text().starts_with("Return-Path: <you@example.org>\r\n"), "{}", mail.text());
    assert!(!mail.text().contains("forged@"), "{}", mail.text());
    assert!(mail.field("Received").unwrap().contains("with LMTP"), "{}", mail.text());
    assert!(mail.text().ends_with("x\r\n..dots\r\n.\r\n"), "{:?}", mail.body());
    assert!(messages(&server, "small@example.net", "INBOX").is_empty());

    // R67: while nobody answers on the socket, mail waits.
    server.stop().unwrap();
    client.send("you@example.org", &[BRIAN], "Subject: waits\r\n\r\nx").unwrap();
    wait_until("the message is deferred", || postfix.log().contains("status=deferred"));
    server.launch(&[]).unwrap();
    postfix.command("flush");
    wait_until("the message arrives", || subjects(&server, BRIAN, "INBOX").contains(&"waits".to_owned()));
    let waited = crate::desk::message(&server, BRIAN, "INBOX", "waits");
    assert_eq!(waited.field("Delivered-To").as_deref(), Some(BRIAN));
    deliver(&server, BRIAN, "direct", "and our own port still works");

    // Many at once over the same socket.
    let source =
        Peer::new("smtp-source").args(["-s", "5", "-m", "50", "-l", "2000", "-S", "load", "-f", "you@example.org"]);
    source.args(["-t", BRIAN]).arg(format!("inet:127.0.0.1:{}", postfix.port)).succeed().unwrap();
    wait_until("all arrive", || {
        subjects(&server, BRIAN, "INBOX").iter().filter(|subject| *subject == "load").count() == 50
    });
}
