//! mbsync keeps a Maildir in step.

use crate::BRIAN;
use crate::desk::{authorities, deliver, imap, messages};
use peers::client::Message;
use peers::peer::{Outcome, Peer};
use peers::server::{PASSWORD, Port, Server};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn configuration(server: &Server) -> PathBuf {
    let (port, mirror) = (server.port(Port::Imaps), server.scratch("mirror"));
    let text = format!(
        "IMAPAccount demo\nHost 127.0.0.1\nPort {port}\nUser {BRIAN}\nPass {PASSWORD}\n\
         SSLType IMAPS\nCertificateFile {authorities}\nAuthMechs *\n\n\
         IMAPStore far\nAccount demo\n\n\
         MaildirStore near\nPath {mirror}/\nInbox {mirror}/INBOX\nSubFolders Verbatim\n\n\
         Channel demo\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
        authorities = authorities(server, "mail-").display(),
        mirror = mirror.display(),
    );
    let file = server.scratch("mbsyncrc");
    std::fs::create_dir_all(&mirror).unwrap();
    std::fs::write(&file, text).unwrap();
    file
}

fn mbsync(server: &Server, file: &Path) -> Outcome {
    Peer::new("mbsync").env("HOME", server.scratch("")).arg("-V").arg("-c").arg(file).arg("demo").succeed().unwrap()
}

/// Files of a Maildir by name, with contents. mbsync's own books are left out.
fn maildir(server: &Server, mailbox: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for part in ["cur", "new"] {
        for entry in std::fs::read_dir(server.scratch("mirror").join(mailbox).join(part)).unwrap() {
            let entry = entry.unwrap();
            found.insert(entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

/// Everything on both sides: names and octets here, UIDs, flags and octets there.
fn both_sides(server: &Server) -> (BTreeMap<String, Vec<u8>>, Vec<Message>) {
    (maildir(server, "INBOX"), messages(server, BRIAN, "INBOX"))
}

#[test]
fn r53_the_second_run_transfers_nothing_and_one_change_is_one_change() {
    let server = Server::start().unwrap();
    for number in 0..30 {
        deliver(&server, BRIAN, &format!("m{number}"), &format!("body {number}\r\n.dots\r\n"));
    }
    imap(&server, BRIAN).command("CREATE \"Entw&APw-rfe/2024 Q1\"").unwrap();
    imap(&server, BRIAN).literal("APPEND \"Entw&APw-rfe/2024 Q1\" (\\Draft)", b"Subject: nested\r\n\r\nx\r\n").unwrap();
    let file = configuration(&server);
    let first = mbsync(&server, &file);
    let (before, far) = both_sides(&server);
    assert_eq!((before.len(), far.len()), (31, 31), "{first}");
    assert_eq!(maildir(&server, "Entw&APw-rfe/2024 Q1").len(), 1, "{first}");
    // mbsync keeps messages with bare line feeds, and marks those it has fetched.
    let bare = |octets: &[u8]| -> String {
        let text = String::from_utf8_lossy(octets).replace('\r', "");
        text.split_inclusive('\n').filter(|line| !line.starts_with("X-TUID: ")).collect()
    };
    let near: Vec<String> = before.values().map(|octets| bare(octets)).collect();
    assert!(far.iter().all(|message| near.contains(&bare(&message.octets))));

    mbsync(&server, &file);
    assert_eq!(both_sides(&server), (before.clone(), far.clone()), "the second run");

    // A flag changed there: one message changes here.
    let mut client = imap(&server, BRIAN);
    client.command("SELECT INBOX").unwrap();
    client.command("UID STORE 5 +FLAGS (\\Flagged)").unwrap();
    mbsync(&server, &file);
    let after = maildir(&server, "INBOX");
    let changed: Vec<&String> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert!(changed[0].ends_with(":2,F"), "{changed:?}");
    assert_eq!(after.len(), 31);

    // A message put here goes there; one deleted here is expunged there; one read here is seen there.
    let folder = server.scratch("mirror/INBOX");
    std::fs::write(folder.join("new/1.local.here"), b"From: <brian@example.net>\nSubject: from-here\n\nlocal\n")
        .unwrap();
    for (subject, flags) in [("m7", "ST"), ("m8", "S")] {
        let is_it = |octets: &[u8]| String::from_utf8_lossy(octets).contains(&format!("Subject: {subject}\n"));
        let name = after.iter().find(|(_, octets)| is_it(octets)).unwrap().0;
        let part = if folder.join("new").join(name).exists() { "new" } else { "cur" };
        let marked = format!("{}:2,{flags}", name.split(":2,").next().unwrap());
        std::fs::rename(folder.join(part).join(name), folder.join("cur").join(marked)).unwrap();
    }
    mbsync(&server, &file);
    let there = messages(&server, BRIAN, "INBOX");
    let subjects: Vec<String> = there.iter().filter_map(|message| message.field("Subject")).collect();
    assert!(subjects.contains(&"from-here".to_owned()), "{subjects:?}");
    assert!(!subjects.contains(&"m7".to_owned()), "{subjects:?}");
    assert_eq!(subjects.len(), 31);
    let seen: Vec<&Message> = there.iter().filter(|message| message.flags.contains("\\Seen")).collect();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].field("Subject").as_deref(), Some("m8"));

    // One expunged there goes here; then both sides are still.
    client.command("UID STORE 12 +FLAGS.SILENT (\\Deleted)").unwrap();
    client.command("UID EXPUNGE 12").unwrap();
    mbsync(&server, &file);
    let last = both_sides(&server);
    assert_eq!((last.0.len(), last.1.len()), (30, 30));
    mbsync(&server, &file);
    assert_eq!(both_sides(&server), last);
}
