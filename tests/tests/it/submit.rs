//! Mail programs submit over both ports, and it leaves: to a host of a simulated internet. What submission limits and
//! refuses.

use crate::NOT_BRIAN;
use crate::desk::authorities;
use peers::client::Imap;
use peers::internet::Internet;
use peers::internet::mta::ScriptedMta;
use peers::internet::script::Script;
use peers::internet::zone::Zone;
use peers::peer::{Outcome, Peer};
use peers::sender::{BRIAN, Sender};
use peers::server::{PASSWORD, Port};
use std::os::unix::fs::PermissionsExt;

const FAR: &str = "you@far.example";

/// An internet with one host, and a server that sends there.
fn world(more: &str) -> (Internet, ScriptedMta, Sender) {
    let internet = Internet::start().unwrap();
    let mta = internet.mta(Script::smtp()).unwrap();
    internet.set_zone(Zone::insecure("far.example").a("far.example", Internet::v4(&mta))).unwrap();
    let sender = Sender::start(&internet, more).unwrap();
    (internet, mta, sender)
}

/// The last message that arrived, which must be from brian and have this subject and body.
fn assert_arrived(mta: &ScriptedMta, count: usize, subject: &str, body: &str) {
    let messages = mta.wait_for_messages(count).unwrap();
    let received = messages.last().unwrap();
    assert_eq!((received.reverse_path.as_str(), received.accepted()), (BRIAN, vec![FAR]), "{subject}");
    let message = received.message();
    assert_eq!(message.field("Subject").as_deref(), Some(subject), "{}", message.text());
    assert_eq!(message.body(), body, "{subject}");
    // R103.
    assert!(message.field("Date").is_some() && message.field("Message-ID").is_some(), "{}", message.text());
    assert!(message.field("Received").unwrap().contains("with ESMTPSA id"), "{}", message.text());
}

fn swaks(sender: &Sender, from: &str, to: &str, data: &str) -> Outcome {
    let peer = Peer::new("swaks").args(["--server", "127.0.0.1", "--port"]);
    let peer = peer.arg(sender.server.port(Port::Submission).to_string());
    let peer = peer.args(["--tls", "--auth", "PLAIN", "--auth-user", BRIAN, "--auth-password", PASSWORD]);
    peer.args(["--from", from, "--to", to, "--data", data]).run().unwrap()
}

#[test]
fn r70_r71_what_programs_submit_leaves() {
    let (_internet, mta, sender) = world("\n[policy]\ntrusted_networks = []\n");
    let server = &sender.server;
    let body = ".one\r\n..two\r\nend\r\n";
    let mut count = 0;
    let ports = [("starttls", Port::Submission), ("implicit", Port::Submissions)];
    let write = |name: &str, text: &str| {
        let file = server.scratch(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    };
    for (how, port) in ports {
        let (number, is_implicit) = (server.port(port).to_string(), how == "implicit");
        // swaks
        count += 1;
        let tls = if is_implicit { "--tls-on-connect" } else { "--tls" };
        let outcome = Peer::new("swaks").args(["--server", "127.0.0.1", "--port", &number, tls, "--auth", "LOGIN"]);
        let outcome = outcome.args(["--auth-user", BRIAN, "--auth-password", PASSWORD, "--from", BRIAN, "--to", FAR]);
        let data = format!("From: {BRIAN}\\nSubject: swaks {how}\\n\\n.one\\n..two\\nend\\n");
        outcome.args(["--data", &data]).succeed().unwrap();
        // swaks ends what it is given with a line end of its own.
        let messages = mta.wait_for_messages(count).unwrap();
        let text = messages[count - 1].message();
        assert!(text.body().starts_with(body), "{:?}", text.body());
        // curl
        count += 1;
        let file = write("mail.eml", &format!("From: <{BRIAN}>\r\nTo: <{FAR}>\r\nSubject: curl {how}\r\n\r\n{body}"));
        let scheme = if is_implicit { "smtps" } else { "smtp" };
        let curl = Peer::new("curl").args(["-k", "-sS", "--ssl-reqd", "--user", &format!("{BRIAN}:{PASSWORD}")]);
        let curl = curl.args(["--mail-from", BRIAN, "--mail-rcpt", FAR, "--upload-file"]).arg(&file);
        curl.arg(format!("{scheme}://127.0.0.1:{number}/client.example.org")).succeed().unwrap();
        assert_arrived(&mta, count, &format!("curl {how}"), body);
        // msmtp
        count += 1;
        let starttls = if is_implicit { "off" } else { "on" };
        let text = format!(
            "account default\nhost 127.0.0.1\nport {number}\nfrom {BRIAN}\nauth plain\nuser {BRIAN}\npassword {PASSWORD}\n\
             tls on\ntls_starttls {starttls}\ntls_trust_file {}\ntls_host_override mail.example.net\n\
             domain client.example.org\n",
            authorities(server, "").display()
        );
        let file = write("msmtprc", &text);
        let mail = format!("From: <{BRIAN}>\nTo: <{FAR}>\nSubject: msmtp {how}\n\n.one\n..two\nend\n");
        Peer::new("msmtp").arg("--file").arg(&file).arg(FAR).input(mail).succeed().unwrap();
        assert_arrived(&mta, count, &format!("msmtp {how}"), body);
        // neomutt
        count += 1;
        let login = BRIAN.replace('@', "%40");
        let text = format!(
            "set smtp_url=\"{scheme}://{login}:{PASSWORD}@127.0.0.1:{number}/\" smtp_authenticators=\"plain\" from=\"{BRIAN}\"\n\
             set ssl_starttls=yes ssl_force_tls=yes ssl_verify_host=no certificate_file=\"{}\" hostname=\"client.example.org\"\n\
             set use_envelope_from=yes envelope_from_address=\"{BRIAN}\" copy=no record=\"\" folder=\"{}\"\n",
            authorities(server, "").display(),
            server.scratch("").display(),
        );
        let file = write("neomuttrc", &text);
        let neomutt = Peer::new("neomutt").args(["-n", "-F"]).arg(&file).env("HOME", server.scratch(""));
        let subject = format!("neomutt {how}");
        neomutt.args(["-s", &subject, "--", FAR]).input(".one\n..two\nend\n").succeed().unwrap();
        assert_arrived(&mta, count, &subject, body);
    }
    sender.wait_until_empty().unwrap();
}

#[test]
fn an_account_that_sends_too_much_is_told_so() {
    let (_internet, mta, sender) = world("\n[submission]\nmessages_per_hour = 3\nrecipients_per_hour = 5\n");
    let data = format!("From: {BRIAN}\\nSubject: rate\\n\\nx\\n");
    let many: Vec<String> = (0..6).map(|number| format!("x{number}@far.example")).collect();
    let outcome = swaks(&sender, BRIAN, &many.join(","), &data);
    outcome.must_say("550 5.7.1 brian@example.net may send 5 recipients an hour").unwrap();
    for _ in 0..3 {
        swaks(&sender, BRIAN, FAR, &data).must_say("250 2.0.0 Ok: queued as ").unwrap();
    }
    let outcome = swaks(&sender, BRIAN, FAR, &data);
    outcome.must_say("450 4.7.1 brian@example.net may send 3 messages an hour; try again in ").unwrap();
    mta.wait_for_messages(3).unwrap();
    sender.wait_until_empty().unwrap();
    assert_eq!(mta.messages().len(), 3);
    // Its mail is read as before.
    Imap::login(sender.server.port(Port::Imaps), BRIAN, PASSWORD).unwrap();
}

#[test]
fn v40_r138_authors_of_submitted_mail() {
    let (_internet, mta, sender) = world("\n[policy]\ntrusted_networks = []\n");
    let from = |lines: &str| swaks(&sender, BRIAN, FAR, &format!("{lines}\\nSubject: author\\n\\nx\\n"));
    for lines in [
        "From: brian@example.net\\nFrom: notbrian@example.net",
        "From: brian@example.net\\nfrom : notbrian@example.net",
        "From: brian@example.net, notbrian@example.net",
        "From: ",
        "From: nobody at all",
    ] {
        let outcome = from(lines);
        assert!(outcome.says("554 5.6.0 ") && !outcome.says("queued as"), "{lines}: {outcome}");
    }
    // R138: by default the author is not compared with the login.
    from(&format!("From: {NOT_BRIAN}")).must_say("queued as").unwrap();
    mta.wait_for_messages(1).unwrap();

    let (_internet, mta, sender) = world("\n[policy]\ntrusted_networks = []\n\n[submission]\ncheck_author = true\n");
    let from = |lines: &str| swaks(&sender, BRIAN, FAR, &format!("{lines}\\nSubject: author\\n\\nx\\n"));
    let outcome = from(&format!("From: {NOT_BRIAN}"));
    let refused = "553 5.7.1 <notbrian@example.net>: Author address rejected: not owned by user brian@example.net";
    assert!(outcome.says(refused) && !outcome.says("queued as"), "{outcome}");
    for own in ["brian@example.net", "Brian <BRIAN@example.net>", "info@example.net"] {
        from(&format!("From: {own}")).must_say("queued as").unwrap();
    }
    mta.wait_for_messages(3).unwrap();
    sender.wait_until_empty().unwrap();
}
