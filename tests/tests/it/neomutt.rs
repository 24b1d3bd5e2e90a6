//! neomutt, driven by the keys a reader would press.

use crate::BRIAN;
use crate::desk::{authorities, deliver, message, messages, subjects};
use peers::peer::Peer;
use peers::server::{PASSWORD, Port, Server};

fn neomutt(server: &Server, keys: &str) -> String {
    let port = server.port(Port::Imaps);
    let mail = authorities(server, "mail-");
    let settings = format!(
        "set folder=\"imaps://127.0.0.1:{port}/\" spoolfile=\"+INBOX\" imap_user=\"{BRIAN}\" imap_pass=\"{PASSWORD}\"\n\
         set certificate_file=\"{mail}\" ssl_verify_host=no ssl_force_tls=yes\n\
         set header_cache=\"\" message_cachedir=\"\" delete=yes move=no mark_old=no confirmappend=no confirmcreate=no quit=yes\n\
         set sleep_time=0 pager_stop=yes wait_key=no imap_passive=no beep=no\n\
         set mbox_type=Maildir record=\"\"\n\
         push \"{keys}\"\n",
        mail = mail.display(),
    );
    let file = server.scratch("neomuttrc");
    std::fs::write(&file, settings).unwrap();
    // A terminal of its own: neomutt reads keys from nowhere else.
    let inner = format!("neomutt -n -F {}", file.display());
    let outcome = Peer::new("script").args(["--quiet", "--return", "--command", &inner, "/dev/null"]);
    let outcome = outcome.env("TERM", "vt100").env("HOME", server.scratch("")).run().unwrap();
    assert_eq!(outcome.status, Some(0), "{outcome}");
    outcome.text()
}

#[test]
fn reads_flags_saves_deletes_and_syncs() {
    let server = Server::start().unwrap();
    for subject in ["one", "two", "three", "four"] {
        deliver(&server, BRIAN, subject, &format!("the body of {subject}"));
    }
    // Opens the message called two, which marks it seen, and saves what it shows.
    let shown = server.scratch("shown");
    let pipe = format!("<pipe-message>cat > {}<enter>", shown.display());
    let screen = neomutt(&server, &format!("/~s two<enter><display-message>{pipe}<exit><quit>"));
    let text = std::fs::read_to_string(&shown).unwrap_or_else(|error| panic!("{error}: {screen}"));
    assert!(text.contains("the body of two"), "{text}");
    let two = message(&server, BRIAN, "INBOX", "two");
    assert!(two.flags.contains("\\Seen"), "{}", two.flags);

    // Flags one, saves three to Archive, deletes four.
    neomutt(
        &server,
        "/~s one<enter><flag-message>/~s three<enter><save-message>=Archive<enter>/~s four<enter><delete-message><sync-mailbox><quit>",
    );
    assert_eq!(subjects(&server, BRIAN, "INBOX"), ["Welcome to pillarbox", "one", "two"]);
    assert_eq!(subjects(&server, BRIAN, "Archive"), ["three"]);
    let one = message(&server, BRIAN, "INBOX", "one");
    assert!(one.flags.contains("\\Flagged") && !one.flags.contains("\\Deleted"), "{}", one.flags);
    assert!(messages(&server, BRIAN, "Archive")[0].body().contains("the body of three"));
}
