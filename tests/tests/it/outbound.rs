//! Mail that leaves, into a simulated internet: routing, failures at every step, reports. How its way is protected is in
//! `protection`.

use crate::NOT_BRIAN;
use crate::dkim::judge;
use peers::client::{Imap, Smtp};
use peers::internet::Internet;
use peers::internet::certificate::Leaf;
use peers::internet::script::{Act, Script, Stage};
use peers::internet::zone::Zone;
use peers::sender::{BRIAN, Sender, configured, patient};
use peers::server::{PASSWORD, Port, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TEXT: &str = "From: brian@example.net\r\nSubject: out\r\n\r\nhello\r\n";

/// R207: by preference, past the dead, to the address where there is no MX; never to where nobody wants mail.
#[test]
fn r207_hosts_are_found_as_the_domain_says() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let (dead, second, bare) =
        (internet.mta(Script::smtp())?, internet.mta(Script::smtp())?, internet.mta(Script::smtp())?);
    dead.refuse();
    internet.set_zones([
        Zone::insecure("two.example")
            .mx(10, "mx1.two.example")
            .mx(20, "mx2.two.example")
            .a("mx1.two.example", Internet::v4(&dead))
            .a("mx2.two.example", Internet::v4(&second)),
        Zone::insecure("bare.example").a("bare.example", Internet::v4(&bare)),
        Zone::insecure("null.example").null_mx(),
        Zone::insecure("loop.example").mx(10, "mx.example.net"),
    ])?;
    let sender = Sender::start(&internet, "")?;
    let id = sender.submit(&["a@two.example", "b@two.example", NOT_BRIAN], TEXT)?;
    let received = &second.wait_for_messages(1)?[0];
    let both: Vec<&str> = received.recipients.iter().map(|one| one.address.as_str()).collect();
    assert_eq!(both, ["a@two.example", "b@two.example"], "one transaction for both:\n{}", sender.why(&id)?);
    assert_eq!(received.helo, "mx.example.net", "R209");
    assert!(received.message().field("Received").is_some_and(|field| field.contains("by mx.example.net")));
    // R64: what stays here has the fields of its delivery, what leaves has not.
    let kept = sender.wait_for_inbox(NOT_BRIAN, 1)?;
    let fields = format!("Return-Path: <{BRIAN}>\r\nDelivered-To: {NOT_BRIAN}\r\nReceived: ");
    assert!(kept.iter().any(|text| text.starts_with(&fields)), "{kept:?}");
    assert!(received.message().field("Return-Path").is_none(), "RFC 5321 §4.4");
    assert!(received.octets.starts_with(b"Received: "), "{:?}", String::from_utf8_lossy(&received.octets));
    sender.submit(&["c@bare.example"], TEXT)?;
    bare.wait_for_messages(1)?;
    for (to, status) in [("x@null.example", "5.1.10"), ("x@nowhere.example", "5.1.2"), ("x@loop.example", "5.4.6")] {
        let id = sender.submit(&[to], TEXT)?;
        sender.wait_for_story(&id, "its sender was told in message")?;
        assert!(sender.why(&id)?.contains(status), "{to}");
    }
    let reports = sender.wait_for_inbox(BRIAN, 4)?;
    let report = reports.iter().find(|text| text.contains("null.example")).unwrap();
    for part in [
        "Return-Path: <>",
        "Content-Type: multipart/report; report-type=delivery-status",
        "Final-Recipient: rfc822; x@null.example",
        "Action: failed",
        "Status: 5.1.10",
        "Auto-Submitted: auto-replied",
    ] {
        assert!(report.contains(part), "R98: {part}\n{report}");
    }
    sender.wait_until_empty()
}

/// A failure at every step, once: mail is delivered by the next try, and never lost.
#[test]
fn failures_at_every_step_only_delay() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let sender = Sender::start(&internet, "")?;
    let steps = [
        (Stage::Banner, Act::Close),
        (Stage::Banner, Act::reply("421 4.3.2 later")),
        (Stage::Banner, Act::reply("554 5.3.2 no")),
        (Stage::Ehlo, Act::Close),
        (Stage::Ehlo, Act::reply("421 4.3.2 later")),
        (Stage::Mail, Act::Close),
        (Stage::Mail, Act::reply("451 4.3.0 later")),
        (Stage::Recipient, Act::reply("450 4.2.1 later")),
        (Stage::Recipient, Act::Reset),
        (Stage::Data, Act::reply("451 4.3.0 later")),
        (Stage::Data, Act::Close),
        (Stage::Content, Act::Close),
        (Stage::End, Act::reply("452 4.3.1 full")),
        (Stage::End, Act::Reset),
    ];
    let mut expected = Vec::new();
    for (number, (stage, act)) in steps.iter().enumerate() {
        let mta = internet.mta(Script::smtp().when_times(1, *stage, act.clone()))?;
        let domain = format!("f{number}.example");
        internet.set_zone(Zone::insecure(&domain).a(&domain, Internet::v4(&mta)))?;
        let id = sender.submit(&[&format!("x@{domain}")], TEXT)?;
        expected.push((id, mta, *stage));
    }
    for (id, mta, stage) in &expected {
        let story = sender.wait_for_story(id, "delivered to")?;
        assert!(!mta.messages().is_empty(), "{stage:?}:\n{story}");
    }
    sender.wait_until_empty()
}

/// Refusals for good come back to the sender, each recipient with its own reason; V13: nothing of them is believed.
#[test]
fn v13_refusals_come_back_with_their_reasons() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let mta = internet.mta(
        Script::smtp()
            .recipient("nobody@*", "550 5.1.1 no such user here")
            .recipient("odd@*", "550 5.7.1 \u{1b}[31m<script>")
            .recipient("full@*", "452 4.2.2 mailbox full"),
    )?;
    internet.set_zone(Zone::insecure("far.example").a("far.example", Internet::v4(&mta)))?;
    let sender = Sender::start(&internet, "")?;
    let to = ["ok@far.example", "nobody@far.example", "odd@far.example", "full@far.example"];
    let id = sender.submit(&to, TEXT)?;
    let reports = sender.wait_for_inbox(BRIAN, 2)?;
    let report = reports.last().unwrap();
    assert!(report.contains("Diagnostic-Code: smtp; 550 5.1.1 no such user here"), "{report}");
    // What could command a terminal is taken out of it.
    assert!(report.contains("Diagnostic-Code: smtp; 550 5.7.1 [31m<script>"), "{report}");
    assert!(!report.contains('\u{1b}') && !report.contains("ok@far.example: "), "{report}");
    let taken: Vec<String> = mta.wait_for_messages(1)?[0].recipients.iter().map(|one| one.address.clone()).collect();
    assert_eq!(taken, ["ok@far.example"]);
    let list = sender.server.command(&["queue", "list", &id])?;
    assert!(list.contains("full@far.example") && list.contains("452 4.2.2 mailbox full"), "{list}");
    sender.server.command(&["queue", "bounce", &id, "--because", "enough"])?;
    let reports = sender.wait_for_inbox(BRIAN, 3)?;
    assert!(reports.last().unwrap().contains("enough"), "R143");
    sender.wait_until_empty()
}

/// R212: reports about reports are not sent, and nothing waits for ever.
#[test]
fn r212_double_bounces_end() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let mta = internet.mta(Script::smtp().recipient("*", "550 5.1.1 nobody is here"))?;
    internet.set_zone(Zone::insecure("far.example").a("far.example", Internet::v4(&mta)))?;
    let sender = Sender::start(&internet, "")?;
    let mut smtp = Smtp::connect(sender.server.port(Port::Mx))?;
    let reply = smtp.send("gone@far.example", &["x@far.example"], TEXT)?;
    let id = reply.rsplit(' ').next().unwrap().trim();
    sender.wait_for_story(id, "its sender was told in message")?;
    sender.wait_until_empty()?;
    let stories = sender.server.command(&["why", "gone@far.example"])?;
    assert!(stories.contains("reports about reports are not sent"), "{stories}");
    Ok(())
}

/// R216: a destination bears so many connections, which come into use when much waits, and they are used again.
#[test]
fn r216_connections_are_bounded_and_used_again() -> anyhow::Result<()> {
    for (more, bound, count) in [("", 20, 500), ("connections_per_destination = 3\n", 3, 100)] {
        let internet = Internet::start()?;
        let mta = internet.mta(Script::smtp().when(Stage::End, Act::Delay(Duration::from_millis(50))))?;
        internet.set_zone(Zone::insecure("far.example").a("far.example", Internet::v4(&mta)))?;
        mta.refuse();
        let sender = Sender::start_patient(&internet, more)?;
        let mut smtp = Smtp::connect(sender.server.port(Port::Mx))?;
        for number in 0..count {
            smtp.send(BRIAN, &[&format!("x{number}@far.example")], TEXT)?;
        }
        mta.listen()?;
        sender.server.command(&["queue", "retry", "--all"])?;
        mta.wait_for_messages(count)?;
        assert_eq!(mta.open_max(), bound, "at once");
        let connections = mta.connections().len();
        assert!(connections < count / 2, "{connections} connections for {count} messages");
        sender.wait_until_empty()?;
    }
    Ok(())
}

/// A destination that is down costs the others nothing.
#[test]
fn a_black_hole_delays_nobody_else() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let (hole, mta) = (internet.black_hole()?, internet.mta(Script::smtp())?);
    internet.set_zones([
        Zone::insecure("hole.example").a("hole.example", hole),
        Zone::insecure("far.example").a("far.example", Internet::v4(&mta)),
    ])?;
    let sender = Sender::start(&internet, "connections = 8\n")?;
    for number in 0..40 {
        sender.submit(&[&format!("x{number}@hole.example")], TEXT)?;
    }
    let begun = std::time::Instant::now();
    sender.submit(&["x@far.example"], TEXT)?;
    mta.wait_for_messages(1)?;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    sender.audit()?;
    Ok(())
}

/// R144, R149: mail for relay domains waits for better exchangers and goes to them only. R97: it goes when its domain asks
/// for it. R148: it is protected as any other.
#[test]
fn r144_backup_for_another_house() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let primary = internet.mta(Script::smtp())?;
    internet.set_zone(
        Zone::insecure("notexample.net")
            .mx(10, "mx.notexample.net")
            .mx(20, "mx.example.net")
            .a("mx.notexample.net", Internet::v4(&primary)),
    )?;
    let certificate = internet.authority().issue(&Leaf::of("mx.other.example"))?;
    let other = internet.mta(Script::smtp().certificate(&certificate))?;
    internet.set_zone(
        Zone::secure("other.example")
            .mx(10, "mx.other.example")
            .mx(20, "mx.example.net")
            .a("mx.other.example", Internet::v4(&other))
            .tlsa("mx.other.example", &certificate.tlsa(3, 1, 1).wrong()),
    )?;
    primary.refuse();
    let sender = Sender::start_patient(&internet, "")?;
    sender.server.edit("relay_domains", |text| format!("{text}\nnotexample.net\nother.example\n"))?;
    sender.server.command(&["reload"])?;
    let mut smtp = Smtp::connect(sender.server.port(Port::Mx))?;
    let reply = smtp.send("you@elsewhere.example", &["any@notexample.net"], TEXT)?;
    let id = reply.rsplit(' ').next().unwrap().trim().to_owned();
    sender.wait_for_story(&id, "to be tried again at")?;
    primary.listen()?;
    // Nothing else would bring it within the hour.
    assert!(smtp.command("ETRN notexample.net", 2)?.contains("250"), "R97");
    assert_eq!(primary.wait_for_messages(1)?[0].reverse_path, "you@elsewhere.example");
    assert!(smtp.command("ETRN elsewhere.example", 4)?.contains("459"));
    sender.wait_until_empty()?;
    let reply = smtp.send("you@elsewhere.example", &["any@other.example"], TEXT)?;
    let id = reply.rsplit(' ').next().unwrap().trim().to_owned();
    sender.wait_for_story(&id, "to be tried again at")?;
    let list = sender.server.command(&["queue", "list", &id])?;
    assert!(list.contains("4.7.5") && other.contents().is_empty(), "R148:\n{list}");
    Ok(())
}

/// What an alias sends on carries a reverse-path of ours, and reports find their way back.
#[test]
fn forwarded_mail_is_rewritten_and_its_reports_return() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let (there, origin) = (internet.mta(Script::smtp())?, internet.mta(Script::smtp())?);
    internet.set_zones([
        Zone::insecure("there.example").a("there.example", Internet::v4(&there)),
        Zone::insecure("origin.example").a("origin.example", Internet::v4(&origin)),
    ])?;
    let sender = Sender::start(&internet, "")?;
    sender.server.command(&["alias", "add", "away@example.net", "me@there.example"])?;
    let mut smtp = Smtp::connect(sender.server.port(Port::Mx))?;
    smtp.send("you@origin.example", &["away@example.net"], TEXT)?;
    let rewritten = there.wait_for_messages(1)?[0].reverse_path.clone();
    assert!(rewritten.starts_with("SRS0=") && rewritten.ends_with("@mx.example.net"), "{rewritten}");
    smtp.send("", &[&rewritten], "Subject: report\r\n\r\nx\r\n")?;
    let returned = &origin.wait_for_messages(1)?[0];
    assert_eq!(returned.reverse_path, "");
    assert_eq!(returned.recipients[0].address, "you@origin.example");
    assert!(smtp.send("you@origin.example", &[&rewritten], TEXT).is_err(), "reports only");
    sender.wait_until_empty()
}

/// R139, R140: what the table of logins says holds at once; held mail survives a crash and goes on when released.
#[test]
fn r139_r140_logins_are_held_and_refused_at_once() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let mta = internet.mta(Script::smtp())?;
    internet.set_zone(Zone::insecure("far.example").a("far.example", Internet::v4(&mta)))?;
    let mut sender = Sender::start(&internet, "")?;
    sender.server.edit("sasl_access", |text| format!("{text}\nbrian@example.net HOLD\n"))?;
    sender.server.command(&["reload"])?;
    let submit = |port: u16| {
        let out = std::process::Command::new("swaks")
            .args([
                "--server",
                &format!("127.0.0.1:{port}"),
                "--tls",
                "--auth-user",
                BRIAN,
                "--auth-password",
                PASSWORD,
            ])
            .args(["--from", BRIAN, "--to", "x@far.example,notbrian@example.net", "--header", "Subject: held"])
            .output()?;
        anyhow::Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    // The demonstration trusts loopback, and `permit_mynetworks` comes before the table of logins (R137).
    sender.server.stop()?;
    sender.server.edit("pillarbox.toml", |text| format!("{text}\n[policy]\ntrusted_networks = []\n"))?;
    sender.server.launch(&[])?;
    let transcript = submit(sender.server.port(Port::Submission))?;
    assert!(transcript.contains("250 2.0.0 Ok: queued as "), "{transcript}");
    let list = sender.server.command(&["queue", "list"])?;
    assert!(list.contains("!") && list.contains("held"), "{list}");
    sender.server.kill()?;
    sender.server.launch(&[])?;
    assert!(mta.messages().is_empty() && sender.audit()?["held"] == 2);
    sender.server.command(&["queue", "release", "--all"])?;
    mta.wait_for_messages(1)?;
    sender.wait_for_inbox("notbrian@example.net", 1)?;
    sender.wait_until_empty()?;
    sender.server.edit("sasl_access", |text| text.replace("HOLD", "REJECT"))?;
    sender.server.command(&["reload"])?;
    let transcript = submit(sender.server.port(Port::Submission))?;
    assert!(
        transcript.contains("554 5.7.1 <brian@example.net>: SASL login name rejected: Access denied"),
        "{transcript}"
    );
    Ok(())
}

/// R98: reports of delivery, where they were asked for, from here and from the next hop that does not report itself.
#[test]
fn r98_delivery_is_reported_where_it_was_asked_for() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let (silent, reporting) = (internet.mta(Script::smtp().without("DSN"))?, internet.mta(Script::smtp().with("DSN"))?);
    internet.set_zones([
        Zone::insecure("silent.example").a("silent.example", Internet::v4(&silent)),
        Zone::insecure("far.example").a("far.example", Internet::v4(&reporting)),
    ])?;
    let sender = Sender::start(&internet, "")?;
    let mut smtp = Smtp::connect(sender.server.port(Port::Mx))?;
    smtp.command(&format!("MAIL FROM:<{BRIAN}> RET=HDRS ENVID=e+2B1"), 2)?;
    for to in ["x@silent.example", "x@far.example", "notbrian@example.net"] {
        smtp.command(&format!("RCPT TO:<{to}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o+2B{to}"), 2)?;
    }
    smtp.command("DATA", 3)?;
    smtp.command(&format!("{TEXT}."), 2)?;
    let passed_on = &reporting.wait_for_messages(1)?[0];
    assert!(passed_on.parameters.iter().any(|parameter| parameter == "ENVID=e+2B1"), "{:?}", passed_on.parameters);
    assert!(passed_on.recipients[0].parameters.iter().any(|one| one.starts_with("NOTIFY=")));
    sender.wait_for_inbox("notbrian@example.net", 1)?;
    sender.wait_until_empty()?;
    let reports = sender.wait_for_inbox(BRIAN, 3)?;
    assert_eq!(reports.len(), 3, "the welcome message and two reports: {reports:?}");
    let about = |what: &str| reports.iter().find(|text| text.contains(what)).cloned().unwrap_or_default();
    assert!(about("x@silent.example").contains("Action: relayed"), "{reports:?}");
    assert!(about("notbrian@example.net").contains("Action: delivered"), "{reports:?}");
    assert!(about("Original-Envelope-Id: e+1").contains("rfc822; o+"), "{reports:?}");
    assert!(!reports.iter().any(|text| text.contains("Final-Recipient: rfc822; x@far.example")));
    Ok(())
}

/// R150, R151, R155, R164, R103: submitted mail is scrubbed, completed and signed before it leaves.
#[test]
fn r150_r164_submitted_mail_is_scrubbed_and_signed() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let mta = internet.mta(Script::smtp())?;
    internet.set_zone(Zone::insecure("far.example").a("far.example", Internet::v4(&mta)))?;
    let mut sender = Sender::start(&internet, "")?;
    sender.server.stop()?;
    sender.server.edit("pillarbox.toml", |text| format!("{text}\n[submission]\nheader_rules = \"rules\"\n"))?;
    let rules = "/^Received:.*with ESMTPSA/ IGNORE\n/^User-Agent:/ IGNORE\n/^X-Mailer:/ IGNORE\n\
                 /^X-Originating-IP:/ IGNORE\n/^Subject: \\[draft\\] (.*)/ REPLACE Subject: $1\n";
    std::fs::write(sender.server.folder.join("rules"), rules)?;
    sender.server.command(&["dkim", "key", "example.net"])?;
    sender.server.launch(&[])?;
    let out = std::process::Command::new("swaks")
        .args(["--server", &format!("127.0.0.1:{}", sender.server.port(Port::Submission)), "--tls"])
        .args(["--auth-user", BRIAN, "--auth-password", PASSWORD, "--from", BRIAN, "--to", "x@far.example"])
        .args([
            "--data",
            "From: brian@example.net\\nSubject: [draft] plan\\nX-Mailer:\\n t\\nUser-Agent: u\\nX-Originating-IP: [10.0.0.1]\\n\\nb\\n",
        ])
        .output()?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    let message = mta.wait_for_messages(1)?[0].message();
    let text = message.text();
    assert_eq!(message.field("Subject").as_deref(), Some("plan"), "{text}");
    for gone in ["X-Mailer", "User-Agent", "10.0.0.1", "ESMTPSA", "127.0.0.1"] {
        assert!(!text.contains(gone), "{gone}:\n{text}");
    }
    assert!(message.field("Date").is_some() && message.field("Message-ID").is_some(), "R103:\n{text}");
    let signatures = text.matches("DKIM-Signature:").count();
    assert_eq!(signatures, 2, "RSA and Ed25519:\n{text}");
    assert!(text.contains("d=example.net;"), "{text}");
    // What left is what was signed.
    let keys: serde_json::Value =
        serde_json::from_str(&sender.server.command(&["dkim", "record", "example.net", "--json"])?)?;
    let part = |key: &serde_json::Value, name: &str| key["record"][name].as_str().unwrap().to_owned();
    let records: String =
        keys.as_array().unwrap().iter().map(|key| format!("{} {}\n", part(key, "name"), part(key, "text"))).collect();
    let [keys, list, file] = ["keys", "list", "message"].map(|name| sender.server.scratch(name));
    std::fs::write(&keys, records)?;
    std::fs::write(&list, file.to_str().unwrap())?;
    std::fs::write(&file, &message.octets)?;
    let outcome = judge("dkim_dkimpy.py", &keys, &list);
    assert!(outcome.status == Some(0) && outcome.says("good=2 "), "{outcome}\n{text}");
    Ok(())
}

/// R205: a copy of everything, with its envelope, for the archive.
#[test]
fn r205_everything_is_archived() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let mta = internet.mta(Script::smtp())?;
    internet.set_zone(Zone::insecure("far.example").a("far.example", Internet::v4(&mta)))?;
    let sender = Sender::start(&internet, "\n[archive]\naddress = \"notbrian@example.net\"\n")?;
    sender.submit(&["x@far.example"], TEXT)?;
    let copy = sender.wait_for_inbox("notbrian@example.net", 1)?.remove(0);
    assert!(copy.contains("X-Envelope-From: <brian@example.net>") && copy.contains("X-Envelope-To: <x@far.example>"));
    mta.wait_for_messages(1)?;
    let mut smtp = Smtp::connect(sender.server.port(Port::Mx))?;
    smtp.send("you@elsewhere.example", &[BRIAN], "Subject: in\r\n\r\nx\r\n")?;
    let copies = sender.wait_for_inbox("notbrian@example.net", 2)?;
    let copy = &copies[1];
    assert!(copy.contains("X-Envelope-From: <you@elsewhere.example>") && copy.contains("Subject: in\r\n"), "{copy}");
    assert!(copy.contains("X-Envelope-To: <brian@example.net>"), "{copy}");
    sender.wait_until_empty()?;
    assert_eq!(sender.wait_for_inbox("notbrian@example.net", 2)?.len(), 2, "one copy each");
    Ok(())
}

/// V60: what couriers had when the server died is free again after the start, at whichever step that was. R218: while they
/// have it, the queue says so.
#[test]
fn v60_r218_a_kill_at_every_step_leaves_nothing_locked() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let steps = [
        (Stage::Banner, ""),
        (Stage::Ehlo, "EHLO"),
        (Stage::Mail, "MAIL"),
        (Stage::Recipient, "RCPT"),
        (Stage::Data, "DATA"),
        (Stage::End, "DATA"),
    ];
    // A patience of three seconds could end before the kill.
    let more = |text: &str| text.replace("reply_timeout_seconds = 3\n", "reply_timeout_seconds = 60\n");
    let server = Server::start_edited(|text| patient(&more(&configured(text, &internet, ""))))?;
    let mut sender = Sender { server };
    let mut under_way = Vec::new();
    for (number, (stage, verb)) in steps.into_iter().enumerate() {
        let mta = internet.mta(Script::smtp().when_times(1, stage, Act::Silence))?;
        let domain = format!("s{number}.example");
        internet.set_zone(Zone::insecure(&domain).a(&domain, Internet::v4(&mta)))?;
        let id = sender.submit(&[&format!("x@{domain}")], TEXT)?;
        let is_there = || mta.connections().iter().any(|one| one.commands.iter().any(|line| line.starts_with(verb)));
        mta.wait_until(|| if verb.is_empty() { !mta.connections().is_empty() } else { is_there() })?;
        under_way.push((id, mta, stage));
    }
    let list = sender.server.command(&["queue", "list"])?;
    for (number, (id, ..)) in under_way.iter().enumerate() {
        let head = list.lines().find(|line| line.starts_with(&format!("{id}*  "))).unwrap_or_default();
        assert!(head.ends_with(BRIAN) && list.contains(&format!("x@s{number}.example  ")), "{id}:\n{list}");
    }
    sender.server.kill()?;
    sender.server.launch(&[])?;
    // The next try would be due in an hour.
    sender.wait_until_empty()?;
    for (id, mta, stage) in &under_way {
        assert_eq!(mta.messages().len(), 1, "{stage:?}:\n{}", sender.why(id)?);
    }
    Ok(())
}

/// `kill -9` in a storm of outbound mail: what was acknowledged arrives; only what SMTP forces comes twice.
#[test]
fn nothing_is_lost_by_kill_9_in_a_storm() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let mta = internet.mta(Script::smtp().when(Stage::End, Act::Delay(Duration::from_millis(2))))?;
    internet.set_zone(Zone::insecure("far.example").a("far.example", Internet::v4(&mta)))?;
    let mut sender = Sender::start(&internet, "")?;
    let mut accepted = std::collections::BTreeSet::new();
    let count = Arc::new(AtomicUsize::new(0));
    for round in 1..=4 {
        let (port, left) = (sender.server.port(Port::Mx), mta.messages().len());
        let stormers: Vec<_> = (0..4)
            .map(|stormer| {
                let count = Arc::clone(&count);
                std::thread::spawn(move || {
                    let mut taken = Vec::new();
                    let Ok(mut smtp) = Smtp::connect(port) else { return taken };
                    for number in 0.. {
                        let to = format!("r{round}s{stormer}n{number}@far.example");
                        match smtp.send(BRIAN, &[&to], TEXT) {
                            Ok(_) => {
                                taken.push(to);
                                count.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(_) => return taken,
                        }
                    }
                    taken
                })
            })
            .collect();
        // In the middle of it: much of this round was acknowledged, and something has left.
        mta.wait_until(|| count.load(Ordering::Relaxed) >= 100 * round && mta.messages().len() > left)?;
        sender.server.kill()?;
        for stormer in stormers {
            accepted.extend(stormer.join().unwrap());
        }
        sender.server.launch(&[])?;
        sender.audit()?;
    }
    sender.wait_until_empty()?;
    let mut arrived = std::collections::BTreeMap::new();
    for message in mta.messages() {
        for to in message.accepted() {
            *arrived.entry(to.to_owned()).or_insert(0) += 1;
        }
    }
    let lost: Vec<_> = accepted.iter().filter(|to| !arrived.contains_key(*to)).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), accepted.len());
    let twice = arrived.values().filter(|count| **count > 1).count();
    // At each kill every open connection may have had its acknowledgement on the way.
    assert!(twice <= 4 * 20, "{twice} of {} arrived twice", accepted.len());
    assert!(Imap::login(sender.server.port(Port::Imaps), BRIAN, PASSWORD)?.texts("INBOX")?.len() == 1, "no reports");
    Ok(())
}
