//! `pillarbox why` names the cause: a table of planted causes, each with the words that must tell of it and of where the
//! message is now (P1).
//!
//! All messages are sent first; then their stories are read until they tell what they must.

use crate::NOT_BRIAN;
use peers::client::{Raw, Smtp};
use peers::internet::Internet;
use peers::internet::certificate::Leaf;
use peers::internet::mta::ScriptedMta;
use peers::internet::policy::{Page, PolicyHost};
use peers::internet::script::{Act, Script, Stage};
use peers::internet::zone::Zone;
use peers::peer::Peer;
use peers::sender::{BRIAN, Sender, configured};
use peers::server::{PASSWORD, Port, Server};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const TEXT: &str = "From: brian@example.net\r\nSubject: out\r\n\r\nhello\r\n";
const WAITING: &str = "now: 1 waiting in the queue";
const BOUNCED: &str = "now: 1 bounced";
const HELD: &str = "now: 1 held in the queue";
const DISCARDED: &str = "now: 1 discarded";
const REFUSED: &str = "now: with its sender; nothing of it was kept here";
/// Longest wait for all stories together.
const LONGEST: Duration = Duration::from_secs(90);

/// A message that was sent, and what its story must tell.
struct Case {
    /// Queue id, message-id or address.
    about: String,
    words: Vec<String>,
}

fn case(about: impl Into<String>, words: &[&str]) -> Case {
    Case { about: about.into(), words: words.iter().map(|&word| word.to_owned()).collect() }
}

/// Reads stories until each tells everything.
fn assert_told(sender: &Sender, cases: &[Case]) {
    let begun = Instant::now();
    let mut failures = Vec::new();
    for case in cases {
        loop {
            let story = sender.why(&case.about).unwrap_or_else(|error| error.to_string());
            let missing: Vec<&String> = case.words.iter().filter(|&word| !story.contains(word)).collect();
            if missing.is_empty() {
                break;
            }
            if begun.elapsed() > LONGEST {
                let shown: Vec<&str> = story.lines().rev().take(12).collect();
                failures.push(format!(
                    "{}: {missing:?} is not told (last line first):\n{}",
                    case.about,
                    shown.join("\n")
                ));
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// The internet's hosts, which live as long as the test.
struct World {
    internet: Internet,
    mtas: Vec<ScriptedMta>,
    pages: Vec<PolicyHost>,
    zones: Vec<Zone>,
}

impl World {
    fn new() -> World {
        World { internet: Internet::start().unwrap(), mtas: Vec::new(), pages: Vec::new(), zones: Vec::new() }
    }

    fn mta(&mut self, script: Script) -> Ipv4Addr {
        let mta = self.internet.mta(script).unwrap();
        let address = Internet::v4(&mta);
        self.mtas.push(mta);
        address
    }

    /// A domain whose only host follows a script.
    fn host(&mut self, domain: &str, script: Script) {
        let address = self.mta(script);
        self.zones.push(Zone::insecure(domain).a(domain, address));
    }

    /// A domain with one exchanger and an MTA-STS policy.
    fn sts(&mut self, domain: &str, script: Script, allowed: &str) {
        let (host, site) = (format!("mx.{domain}"), format!("mta-sts.{domain}"));
        let address = self.mta(script);
        let certificate = self.internet.authority().issue(&Leaf::of(&site)).unwrap();
        let page = Page::policy(&certificate, "enforce", &[allowed], 86_400);
        let policy = self.internet.policy_host(page).unwrap();
        let place = *policy.address().ip();
        self.pages.push(policy);
        self.zones.push(Zone::insecure(domain).mx(10, &host).a(&host, address).mta_sts("1").a(&site, place));
    }

    fn publish(&mut self) {
        self.internet.set_zones(std::mem::take(&mut self.zones)).unwrap();
    }
}

/// A sender with a short patience for DNS, every extension, and more lines of configuration.
fn sender(internet: &Internet, more: &str) -> Sender {
    let server = Server::start_edited(|text| {
        let text = configured(text, internet, more).replace("[dns]\n", "[dns]\ntimeout_seconds = 2\n");
        text.replace("name = \"mx\"\n", "name = \"mx\"\noffer = [\"SMTPUTF8\", \"REQUIRETLS\"]\n")
    });
    Sender { server: server.unwrap() }
}

/// Adds lines to a table.
fn table(sender: &Sender, name: &str, lines: &str) {
    let path = sender.server.folder.join(name);
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, format!("{before}{lines}")).unwrap();
}

/// The next host fails at some step of the dialogue.
#[test]
fn why_names_what_the_next_host_said_or_did() {
    let mut world = World::new();
    let reply = Act::reply;
    let smtp = Script::smtp;
    let steps: Vec<(Script, &[&str])> = vec![
        (smtp().when(Stage::Banner, reply("554 5.3.2 closed for us")), &["said: 554 5.3.2 closed for us", WAITING]),
        (smtp().when(Stage::Banner, reply("421 4.3.2 too busy")), &["421 4.3.2 too busy", WAITING]),
        (smtp().when(Stage::Banner, Act::Silence), &["did not answer in time at the greeting", WAITING]),
        (smtp().when(Stage::Banner, Act::Close), &["the connection was lost at the greeting", WAITING]),
        (smtp().when(Stage::Banner, Act::Octets(b"SSH-2.0-x\r\n".to_vec())), &["something that is no reply", WAITING]),
        (smtp().when(Stage::Ehlo, Act::Close), &["the connection was lost at EHLO", WAITING]),
        (smtp().when(Stage::Ehlo, reply("421 4.7.0 not you")), &["421 4.7.0 not you", WAITING]),
        (smtp().when(Stage::Mail, reply("550 5.7.1 sender refused")), &["550 5.7.1 sender refused", BOUNCED]),
        (smtp().when(Stage::Mail, reply("451 4.3.0 mail later")), &["451 4.3.0 mail later", WAITING]),
        (smtp().when(Stage::Mail, Act::Silence), &["did not answer in time at MAIL", WAITING]),
        (smtp().when(Stage::Recipient, reply("550 5.1.1 no such user")), &["550 5.1.1 no such user", BOUNCED]),
        (smtp().when(Stage::Recipient, reply("450 4.2.0 greylisted")), &["450 4.2.0 greylisted", WAITING]),
        (smtp().when(Stage::Recipient, Act::Reset), &["the connection was lost at RCPT", WAITING]),
        (smtp().when(Stage::Data, reply("554 5.6.0 no data")), &["554 5.6.0 no data", BOUNCED]),
        (smtp().when(Stage::Data, reply("452 4.3.1 disk full")), &["452 4.3.1 disk full", WAITING]),
        (smtp().when(Stage::End, reply("554 5.7.1 this is spam")), &["554 5.7.1 this is spam", BOUNCED]),
        (smtp().when(Stage::End, reply("451 4.7.1 filter busy")), &["451 4.7.1 filter busy", WAITING]),
        (smtp().when(Stage::End, Act::Close), &["after the end of data: the message may be delivered twice", WAITING]),
        (smtp().size_max_octets(100), &["larger than the limit of 100 octets", BOUNCED]),
        (smtp().tls_required(), &["530 5.7.0", "STARTTLS", "in clear text"]),
        (smtp(), &["delivered to", "said: 250", "in clear text", "now: 1 delivered"]),
    ];
    for (number, (script, _)) in steps.iter().enumerate() {
        world.host(&format!("s{number}.example"), script.clone());
    }
    world.host("seven.example", smtp().without("8BITMIME"));
    world.host("ascii.example", smtp().without("SMTPUTF8"));
    world.host("clear.example", smtp());
    world.host("cut.example", smtp().when(Stage::Content, Act::Close));
    world.host("down.example", smtp());
    world.mtas.last().unwrap().refuse();
    world.publish();
    let sender = sender(&world.internet, "");
    let mut cases = Vec::new();
    for (number, (_, words)) in steps.iter().enumerate() {
        cases.push(case(sender.submit(&[&format!("x@s{number}.example")], TEXT).unwrap(), words));
    }
    let mut raw = Raw::connect(sender.server.port(Port::Mx)).unwrap();
    raw.reply().unwrap();
    raw.command("EHLO client.example.org").unwrap();
    let mut send = |mail: &str, to: &str, text: &str| {
        for line in [mail, &format!("RCPT TO:<{to}>"), "DATA"] {
            let answer = raw.command(line).unwrap();
            assert!(answer.starts_with(['2', '3']), "{line}: {answer}");
        }
        let answer = raw.command(&format!("{text}.")).unwrap();
        answer.rsplit(' ').next().unwrap().to_owned()
    };
    let mail = format!("MAIL FROM:<{BRIAN}> BODY=8BITMIME");
    let id = send(&mail, "x@seven.example", "Subject: acht\r\n\r\ngr\u{fc}n\r\n");
    cases.push(case(id, &["the message is 8-bit text, and 8BITMIME was not offered", BOUNCED]));
    let mail = format!("MAIL FROM:<{BRIAN}> BODY=8BITMIME SMTPUTF8");
    let id = send(&mail, "j\u{f6}rg@ascii.example", "Subject: gr\u{fc}n\r\n\r\nx\r\n");
    cases.push(case(id, &["SMTPUTF8 is required, but was not offered", BOUNCED]));
    // More than the system takes in one go.
    let long = format!("{TEXT}{}", format!("{}\r\n", "x".repeat(900)).repeat(10_000));
    let id = sender.submit(&["x@cut.example"], &long).unwrap();
    cases.push(case(id, &["the connection was lost while the message was sent", WAITING]));
    let id = sender.submit(&["x@down.example"], TEXT).unwrap();
    cases.push(case(id, &["onnection refused", WAITING]));
    // RFC 8689 §4.1: the parameter is for sessions inside TLS.
    let out = Peer::script("requiretls.py").arg(sender.server.port(Port::Mx).to_string()).arg("x@clear.example");
    let out = out.succeed().unwrap().text();
    cases.push(case(id_in(&out), &["5.7.10 TLS is required, but was not offered", BOUNCED]));
    assert_told(&sender, &cases);
    sender.audit().unwrap();
}

/// DNS, policies, certificates, loops.
#[test]
fn why_names_what_is_wrong_with_the_way() {
    let mut world = World::new();
    let authority_of = |world: &World, name: &str| world.internet.authority().issue(&Leaf::of(name)).unwrap();
    let good = authority_of(&world, "mx.dane.example");
    let own = Leaf::of("anything").self_signed().unwrap();
    let smtp = Script::smtp;
    let (dane, strip, deaf) =
        (world.mta(smtp().certificate(&good)), world.mta(smtp()), world.mta(smtp().named("mx.example.net")));
    world.zones.extend([
        Zone::insecure("null.example").null_mx(),
        Zone::insecure("bare.example"),
        Zone::insecure("nohost.example").mx(10, "mx.nohost.example"),
        Zone::failing("servfail.example"),
        Zone::bogus("bogus.example"),
        Zone::expired("expired.example"),
        Zone::silent("silent.example"),
        Zone::insecure("loop.example").mx(10, "mx.example.net"),
        Zone::insecure("self.example").a("self.example", deaf),
        Zone::secure("dane.example")
            .mx(10, "mx.dane.example")
            .a("mx.dane.example", dane)
            .tlsa("mx.dane.example", &good.tlsa(3, 1, 1).wrong()),
        Zone::secure("strip.example")
            .mx(10, "mx.strip.example")
            .a("mx.strip.example", strip)
            .tlsa("mx.strip.example", &good.tlsa(3, 1, 1)),
    ]);
    let hole = world.internet.black_hole().unwrap();
    world.zones.push(Zone::insecure("hole.example").a("hole.example", hole));
    let other = authority_of(&world, "elsewhere.example");
    world.sts("named.example", smtp().certificate(&other), "mx.named.example");
    world.sts("allowed.example", smtp().certificate(&other), "other.allowed.example");
    world.host("encrypt.example", smtp());
    world.host("verify.example", smtp().certificate(&own));
    world.host("daneonly.example", smtp().certificate(&own));
    world.host("good.example", smtp());
    let login = world.mta(smtp().certificate(&own).login("us", "right"));
    let nologin = world.mta(smtp().certificate(&own));
    world.publish();
    let tls = "\n[outbound.tls]\n\"encrypt.example\" = \"encrypt\"\n\"verify.example\" = \"verify\"\n\
               \"daneonly.example\" = \"dane-only\"\n";
    let sender = sender(&world.internet, tls);
    let port = world.internet.smtp_port();
    table(
        &sender,
        "transport",
        &format!(
            "error.example error:nobody lives here\ndiscard.example discard:trap\nlogin.example smtp:[{login}]:{port}\n\
             nologin.example smtp:[{nologin}]:{port}\nsocket.example lmtp:unix:/nonexistent/socket\n"
        ),
    );
    table(&sender, "relay_credentials", &format!("[{login}]:{port} us:wrong\n[{nologin}]:{port} us:wrong\n"));
    std::fs::set_permissions(
        sender.server.folder.join("relay_credentials"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    sender.server.command(&["reload"]).unwrap();
    let rows: &[(&str, &[&str])] = &[
        ("null", &["null.example does not accept mail (null MX)", BOUNCED]),
        ("nowhere", &["the domain nowhere.example does not exist", BOUNCED]),
        ("bare", &["bare.example has no address", BOUNCED]),
        ("nohost", &["the host mx.nohost.example does not exist", WAITING]),
        ("servfail", &["servfail.example: DNS lookup failed", WAITING]),
        ("bogus", &["bogus.example: ", "4.7.5", "DNSSEC", WAITING]),
        ("expired", &["expired.example: ", "4.7.5", "DNSSEC", WAITING]),
        ("silent", &["silent.example: DNS lookup failed", WAITING]),
        ("loop", &["mail for loop.example loops back to myself", BOUNCED]),
        ("self", &["greets with our own name: mail loops back to myself", WAITING]),
        ("dane", &["mx.dane.example", "no TLSA record or fingerprint matches the certificate", WAITING]),
        ("strip", &["mx.strip.example", "TLS is required, but was not offered", WAITING]),
        ("hole", &["no answer in time", WAITING]),
        ("named", &["not delivered yet to mx.named.example", "the certificate is not for mx.named.example", WAITING]),
        ("allowed", &["the MTA-STS policy of allowed.example does not allow this host", WAITING]),
        ("encrypt", &["TLS is required, but was not offered", WAITING]),
        (
            "verify",
            &["not delivered yet to verify.example", "the certificate is not issued by a trusted authority", WAITING],
        ),
        ("daneonly", &["DANE is demanded, but", WAITING]),
        ("error", &["nobody lives here", BOUNCED]),
        ("discard", &["thrown away by transport table: trap", DISCARDED]),
        ("login", &["535", "not delivered yet to", WAITING]),
        ("nologin", &["there are credentials, but AUTH with a known mechanism was not offered", WAITING]),
        ("socket", &["/nonexistent/socket: No such file", WAITING]),
    ];
    let mut cases = Vec::new();
    for (name, words) in rows {
        let id = sender.submit(&[&format!("x@{name}.example")], TEXT).unwrap();
        cases.push(case(id, words));
    }
    // A delivery is found by message-id too, and who forwarded it is told.
    sender.server.command(&["alias", "add", "away@example.net", "me@good.example"]).unwrap();
    let mut smtp = Smtp::connect(sender.server.port(Port::Mx)).unwrap();
    smtp.send("you@origin.example", &["away@example.net"], "Message-ID: <one@origin.example>\r\n\r\nx\r\n").unwrap();
    let words =
        ["away@example.net: stands for me@good.example (aliases)", "me@good.example: delivered to", "now: 1 delivered"];
    cases.push(case("<one@origin.example>", &words));
    assert_told(&sender, &cases);
    sender.audit().unwrap();
}

/// Where a queue id is told.
fn id_in(transcript: &str) -> String {
    let id = transcript.split("queued as ").nth(1).and_then(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
    id.unwrap_or_else(|| panic!("{transcript}")).to_owned()
}

fn swaks(sender: &Sender, login: &str, from: &str, to: &str, data: &str) -> String {
    let outcome = Peer::new("swaks")
        .args(["--server", "127.0.0.1", "--port"])
        .arg(sender.server.port(Port::Submission).to_string())
        .args(["--tls", "--auth", "PLAIN", "--auth-user", login, "--auth-password", PASSWORD])
        .args(["--from", from, "--to", to, "--data", data]);
    outcome.run().unwrap().text()
}

/// Checks, tables, header rules, limits: what this server decides by itself.
#[test]
fn why_names_the_check_or_rule_that_decided() {
    let mut world = World::new();
    world.host("far.example", Script::smtp());
    world.publish();
    let more = "\n[policy]\ntrusted_networks = []\n\n[submission]\nheader_rules = \"rules\"\ncheck_author = true\n\
                messages_per_hour = 12\n\n[limits]\nauthentication_delay_seconds = 0\nmessage_size = \"1M\"\n";
    let sender = started_with_rules(&world.internet, more);
    table(
        &sender,
        "recipient_access",
        "rejected@example.net REJECT not wanted\ntrap@example.net DISCARD spam trap\nkept@example.net HOLD\n\
         later@example.net 451 4.7.9 come back\nmoved@example.net REDIRECT notbrian@example.net\n\
         watched@example.net BCC notbrian@example.net\ntagged@example.net PREPEND X-Tag: seen\n",
    );
    let listed = ["rejected", "trap", "kept", "later", "moved", "watched", "tagged"];
    let aliases: String = listed.iter().map(|name| format!("{name}@example.net {BRIAN}\n")).collect();
    table(
        &sender,
        "aliases",
        &format!(
            "{aliases}circle@example.net ring@example.net\nring@example.net circle@example.net\nboth@example.net {BRIAN},{NOT_BRIAN}\n"
        ),
    );
    table(&sender, "relay_domains", "relay.example\nvoid.example\nshut.example\n");
    table(&sender, "relay_recipients", "known@relay.example yes\nx@void.example yes\nx@shut.example yes\n");
    let hash = std::fs::read_to_string(sender.server.folder.join("accounts")).unwrap();
    let hash = hash.lines().next().unwrap().split(':').nth(1).unwrap().to_owned();
    let account = |name: &str, quota: &str| format!("{name}@example.net:{hash}::::::{quota}\n");
    let accounts = [account("tight", "userdb_quota_rule=*:bytes=600"), account("barred", ""), account("paused", "")];
    table(&sender, "accounts", &accounts.concat());
    table(&sender, "mailboxes", "tight@example.net true\nbarred@example.net true\npaused@example.net true\n");
    table(&sender, "senders", "barred@example.net barred@example.net\npaused@example.net paused@example.net\n");
    table(&sender, "sasl_access", "barred@example.net REJECT\npaused@example.net HOLD\n");
    world
        .internet
        .set_zones([Zone::insecure("shut.example").null_mx(), Zone::insecure("relay.example").mx(10, "far.example")])
        .unwrap();
    sender.server.command(&["reload"]).unwrap();

    let mut cases = Vec::new();
    // Refused at RCPT, for whoever comes.
    let rows: &[(&str, &str, &str)] = &[
        ("nobody@example.net", "reject_unlisted_recipient", "User unknown in virtual mailbox table"),
        ("x@far.example", "reject_unauth_destination", "Relay access denied"),
        ("brian@localhost", "reject_non_fqdn_recipient", "need fully-qualified address"),
        ("rejected@example.net", "check_recipient_access", "not wanted"),
        ("later@example.net", "check_recipient_access", "451 4.7.9"),
        ("x@void.example", "reject_unknown_recipient_domain", "Domain not found"),
        ("x@shut.example", "reject_unknown_recipient_domain", "Domain does not accept mail"),
        ("circle@example.net", "the rules for every recipient", "aliases are nested too deep or lead in a circle"),
    ];
    let mut smtp = Smtp::connect(sender.server.port(Port::Mx)).unwrap();
    let from = |number: usize| format!("r{number}@origin.example");
    for (number, (to, by, reply)) in rows.iter().enumerate() {
        smtp.command(&format!("MAIL FROM:<{}>", from(number)), 2).unwrap();
        assert!(smtp.command(&format!("RCPT TO:<{to}>"), 2).is_err(), "{to}");
        smtp.command("RSET", 2).unwrap();
        // By the sender's address and by the recipient's.
        let story = [&format!("refused by {by}: "), *reply, &format!("for {to}"), REFUSED];
        cases.push(case(from(number), &story));
        cases.push(case(*to, &story));
    }
    // A relay domain with a list of its users.
    smtp.command("MAIL FROM:<list@origin.example>", 2).unwrap();
    assert!(smtp.command("RCPT TO:<stranger@relay.example>", 2).is_err());
    smtp.command("RSET", 2).unwrap();
    let words =
        ["refused by the rules for every recipient: 550 5.1.1", "User unknown in relay recipient table", REFUSED];
    cases.push(case("list@origin.example", &words));
    // Rewritten reverse-paths: forged, and used for something else than reports.
    let forged = "SRS0=aaaa=bb=origin.example=you@mx.example.net";
    smtp.command("MAIL FROM:<>", 2).unwrap();
    assert!(smtp.command(&format!("RCPT TO:<{forged}>"), 2).is_err());
    smtp.command("RSET", 2).unwrap();
    cases.push(case(forged, &["refused by forwarding (rewritten reverse-paths): ", REFUSED]));
    // A message that is larger than its client said, for a mailbox with little room.
    let big = format!("Subject: big\r\n\r\n{}\r\n", "x".repeat(900));
    assert!(smtp.send("big@origin.example", &["tight@example.net"], &big).is_err());
    smtp.command("RSET", 2).unwrap();
    let words = ["refused by the quota of tight@example.net: 552 5.2.2", "Quota exceeded", REFUSED];
    cases.push(case("big@origin.example", &words));
    smtp.command("MAIL FROM:<declared@origin.example> SIZE=4000", 2).unwrap();
    assert!(smtp.command("RCPT TO:<tight@example.net>", 2).is_err());
    smtp.command("RSET", 2).unwrap();
    cases.push(case("declared@origin.example", &["refused by check_quota: 522 5.2.2", "Mailbox is full", REFUSED]));
    // One that is larger than any may be.
    let vast = format!("Subject: vast\r\n\r\n{}", "x\r\n".repeat(400_000));
    assert!(smtp.send("vast@origin.example", &[BRIAN], &vast).is_err());
    let words = ["refused by the limit of octets of a message: 552 5.3.4", &format!("for {BRIAN}"), REFUSED];
    cases.push(case("vast@origin.example", &words));
    // A message that has been everywhere.
    let hops = "Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n".repeat(60);
    assert!(smtp.send("hops@origin.example", &[BRIAN], &format!("{hops}\r\nx\r\n")).is_err());
    cases.push(case("hops@origin.example", &["refused by the limit of Received fields", "too many hops", REFUSED]));
    // What access tables do with messages that are taken.
    let taken: &[(&str, &[&str])] = &[
        ("trap", &["thrown away by access table: Recipient address trap@example.net: DISCARD spam trap", DISCARDED]),
        ("kept", &["held by access table: Recipient address kept@example.net: HOLD", HELD]),
        (
            "moved",
            &[
                "moved@example.net: stands for notbrian@example.net (access table: REDIRECT)",
                "stored in INBOX of notbrian@example.net",
                "now: 1 delivered",
            ],
        ),
        ("watched", &["a copy goes to notbrian@example.net (access table: BCC)", "now: 2 delivered"]),
        ("tagged", &["X-Tag: seen (access table: PREPEND)", "now: 1 delivered"]),
        ("both", &["stands for brian@example.net, notbrian@example.net (aliases)", "now: 2 delivered"]),
    ];
    for (name, words) in taken {
        let answer = smtp.send("taken@origin.example", &[&format!("{name}@example.net")], TEXT).unwrap();
        cases.push(case(id_in(&answer), words));
    }
    let text = format!("Message-ID: <held.by.id@origin.example>\r\n{TEXT}");
    smtp.send("byid@origin.example", &["kept@example.net"], &text).unwrap();
    cases.push(case("held.by.id@origin.example", &["Recipient address kept@example.net: HOLD", HELD]));

    // Submission.
    let subject = |subject: &str| format!("From: {BRIAN}\\nSubject: {subject}\\n\\nx\\n");
    let refused: &[(&str, &str, &str, String, &[&str])] = &[
        (
            BRIAN,
            NOT_BRIAN,
            "m1@far.example",
            subject("mismatch"),
            &["refused by reject_sender_login_mismatch: 553 5.7.1", "not owned by user brian@example.net"],
        ),
        (
            "barred@example.net",
            "barred@example.net",
            "m2@far.example",
            subject("barred"),
            &["refused by check_sasl_access: 554 5.7.1", "SASL login name rejected"],
        ),
        (
            BRIAN,
            BRIAN,
            "m3@far.example",
            subject("refuse me"),
            &["refused by submission.header_rules, line 2: ", "no such subject"],
        ),
        (
            BRIAN,
            BRIAN,
            "m4@far.example",
            format!("From: {BRIAN}\\nFrom: {NOT_BRIAN}\\nSubject: two\\n\\nx\\n"),
            &["refused by the rules for authors of submitted mail: 554 5.6.0"],
        ),
        (
            BRIAN,
            BRIAN,
            "m5@far.example",
            format!("From: {NOT_BRIAN}\\nSubject: other\\n\\nx\\n"),
            &["refused by submission.check_author: 553 5.7.1", "Author address rejected"],
        ),
    ];
    for (login, from, to, data, words) in refused {
        let transcript = swaks(&sender, login, from, to, data);
        assert!(!transcript.contains("queued as"), "{transcript}");
        cases.push(case(*to, &[*words, &[REFUSED, "logged in as"]].concat()));
    }
    let submitted: &[(&str, &str, &[&str])] = &[
        (BRIAN, "hold me", &["held by header rules: line 3: HOLD look first", HELD]),
        (BRIAN, "drop me", &["thrown away by header rules: line 4: DISCARD", DISCARDED]),
        (BRIAN, "change me", &["header rule in line 5: REPLACE Subject: changed", "now: 1 delivered"]),
        ("paused@example.net", "paused", &["held by access table: SASL login name paused@example.net: HOLD", HELD]),
    ];
    for (login, text, words) in submitted {
        let data = format!("From: {login}\\nSubject: {text}\\n\\nx\\n");
        let transcript = swaks(&sender, login, login, "x@far.example", &data);
        cases.push(case(id_in(&transcript), &[*words, &[&format!("logged in as {login}")]].concat()));
    }
    for number in 0..12 {
        let transcript = swaks(&sender, BRIAN, BRIAN, &format!("rate{number}@far.example"), &subject("rate"));
        if transcript.contains("may send 12 messages an hour") {
            let words = ["refused by submission.messages_per_hour: 450 4.7.1", "try again in", REFUSED];
            cases.push(case(format!("rate{number}@far.example"), &words));
            break;
        }
        assert!(number < 11, "{transcript}");
    }
    assert_told(&sender, &cases);
    sender.audit().unwrap();
}

/// Held mail for a mailbox that is full when it is released, and for one that is gone.
#[test]
fn why_names_what_became_of_the_mailbox_meanwhile() {
    let internet = Internet::start().unwrap();
    let sender = sender(&internet, "\n[policy]\ntrusted_networks = []\n");
    let hash = std::fs::read_to_string(sender.server.folder.join("accounts")).unwrap();
    let hash = hash.lines().next().unwrap().split(':').nth(1).unwrap().to_owned();
    for name in ["full", "lost"] {
        table(&sender, "accounts", &format!("{name}@example.net:{hash}::::::userdb_quota_rule=*:bytes=2K\n"));
        table(&sender, "mailboxes", &format!("{name}@example.net true\n"));
        table(&sender, "recipient_access", &format!("{name}@example.net HOLD\n"));
    }
    sender.server.command(&["reload"]).unwrap();
    let mut smtp = Smtp::connect(sender.server.port(Port::Mx)).unwrap();
    let text = format!("Subject: long\r\n\r\n{}", format!("{}\r\n", "x".repeat(400)).repeat(3));
    let mut send = |to: &str| id_in(&smtp.send(BRIAN, &[to], &text).unwrap());
    let [first, second, lost] = ["full", "full", "lost"].map(|name| send(&format!("{name}@example.net")));
    for name in ["accounts", "mailboxes"] {
        let without = |text: &str| {
            text.lines().filter(|line| !line.starts_with("lost@")).map(|line| format!("{line}\n")).collect()
        };
        sender.server.edit(name, without).unwrap();
    }
    sender.server.command(&["reload"]).unwrap();
    sender.server.command(&["queue", "release", &first, &lost]).unwrap();
    assert_told(
        &sender,
        &[
            case(first, &["released by administrator", "stored in INBOX of full@example.net", "now: 1 delivered"]),
            case(lost, &["given up: 5.1.1 no such mailbox here", "told in message", BOUNCED]),
        ],
    );
    sender.server.command(&["queue", "release", &second]).unwrap();
    let words = ["full@example.net: not delivered yet: 4.2.2 the mailbox is full", WAITING];
    assert_told(&sender, &[case(second, &words)]);
    sender.audit().unwrap();
}

/// A server that needs a file beside its configuration before it starts.
fn started_with_rules(internet: &Internet, more: &str) -> Sender {
    let mut server = Server::start().unwrap();
    server.stop().unwrap();
    let rules = "# Line 1.\n/^Subject: refuse me/ REJECT no such subject\n/^Subject: hold me/ HOLD look first\n\
                 /^Subject: drop me/ DISCARD\n/^Subject: change me/ REPLACE Subject: changed\n";
    std::fs::write(server.folder.join("rules"), rules).unwrap();
    server.edit("pillarbox.toml", |text| configured(text, internet, more)).unwrap();
    server.launch(&[]).unwrap();
    Sender { server }
}

/// What becomes of messages in the queue: reports and their ends, an administrator, time.
#[test]
fn why_names_what_became_of_it_in_the_queue() {
    let mut world = World::new();
    world.host("far.example", Script::smtp().without("DSN"));
    world.host("gone.example", Script::smtp().recipient("*", "550 5.1.1 nobody is here"));
    world.host("late.example", Script::smtp().recipient("*", "450 4.2.1 come later"));
    world.publish();
    let sender = sender(&world.internet, "\n[archive]\naddress = \"notbrian@example.net\"\n");
    let mut smtp = Smtp::connect(sender.server.port(Port::Mx)).unwrap();
    let mut cases = Vec::new();
    let told = |answer: String| answer.rsplit(' ').next().unwrap().trim().to_owned();

    cases.push(case(
        sender.submit(&["x@gone.example"], TEXT).unwrap(),
        &["x@gone.example: given up: 5.1.1", "nobody is here", "its sender was told in message ", BOUNCED],
    ));
    let id = told(smtp.send("", &["null@gone.example"], TEXT).unwrap());
    cases.push(case(id, &["nobody is told: its reverse-path is null: reports about reports are not sent", BOUNCED]));
    let id = told(smtp.send("ghost@example.net", &["x@gone.example"], TEXT).unwrap());
    cases.push(case(id, &["nobody is told: its reverse-path is an address of ours that does not exist", BOUNCED]));
    for (notify, to, words) in [
        ("NEVER", "x@gone.example", ["nobody is told: no report was wanted (NOTIFY)", BOUNCED]),
        ("SUCCESS", "x@far.example", ["its sender was told of the delivery in message ", "now: 1 delivered"]),
    ] {
        smtp.command(&format!("MAIL FROM:<{BRIAN}>"), 2).unwrap();
        smtp.command(&format!("RCPT TO:<{to}> NOTIFY={notify}"), 2).unwrap();
        smtp.command("DATA", 3).unwrap();
        cases.push(case(told(smtp.command(&format!("{TEXT}."), 2).unwrap()), &words));
    }
    // A bounce of a bounce: the report to somebody who does not exist either.
    smtp.send("gone@gone.example", &["y@gone.example"], TEXT).unwrap();
    cases.push(case("gone@gone.example", &["by bounce of ", "reports about reports are not sent", BOUNCED]));
    // The archive's copy.
    cases
        .push(case(NOT_BRIAN, &["by archive copy of ", "stored in INBOX of notbrian@example.net", "now: 1 delivered"]));
    // An administrator.
    let queue = |arguments: &[&str]| sender.server.command(&[&["queue"], arguments].concat()).unwrap();
    let later = || {
        let id = sender.submit(&["x@late.example"], TEXT).unwrap();
        sender.wait_for_story(&id, "to be tried again at").unwrap();
        id
    };
    let id = later();
    queue(&["hold", &id]);
    cases.push(case(id, &["x@late.example: held by administrator", "queue release", HELD]));
    let id = later();
    queue(&["hold", &id]);
    queue(&["release", &id]);
    cases.push(case(id, &["x@late.example: released by administrator", "450 4.2.1 come later", WAITING]));
    let id = later();
    queue(&["bounce", &id, "--because", "we moved"]);
    cases.push(case(id, &["we moved; last: 450 4.2.1 come later", "told in message", BOUNCED]));
    let id = later();
    queue(&["delete", &id]);
    cases.push(case(id, &["thrown away by administrator", DISCARDED]));
    assert_told(&sender, &cases);
    sender.audit().unwrap();

    // Time.
    let mut server = sender.server;
    server.stop().unwrap();
    server.edit("pillarbox.toml", |text| text.replace("[queue]\n", "[queue]\nlife_hours = 0\n")).unwrap();
    server.launch(&[]).unwrap();
    let sender = Sender { server };
    let id = sender.submit(&["x@late.example"], TEXT).unwrap();
    let words = ["450 4.2.1 come later", "given up: 5.4.7", "told in message", BOUNCED];
    assert_told(&sender, &[case(id, &words)]);
    sender.audit().unwrap();
}
