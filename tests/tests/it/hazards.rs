//! What broke other servers, over the wire, from a client that nobody trusts.

use crate::BRIAN;
use crate::desk::{deliver, message, subjects};
use peers::client::{Imap, Raw, Smtp};
use peers::peer::Peer;
use peers::sender::Sender;
use peers::server::{PASSWORD, Port, Server};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Resident memory of the server, in KiB.
fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processor time that the server has used, in hundredths of a second.
fn processor_ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid().unwrap())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Runs an attack twice, the first time to fill what is filled only once, and gives the growth of the second in KiB.
fn growth_kib(server: &Server, mut attack: impl FnMut()) -> u64 {
    attack();
    let before = resident_kib(server);
    attack();
    resident_kib(server).saturating_sub(before)
}

/// How far memory may grow under attack, in KiB.
const GROWTH_MAX_KIB: u64 = 10 * 1024;

fn greeted(server: &Server) -> Raw {
    let mut raw = Raw::connect(server.port(Port::Mx)).unwrap();
    raw.reply().unwrap();
    raw.command("EHLO client.example.org").unwrap();
    raw
}

#[test]
fn v1_no_line_end_but_the_right_one_ends_a_message() {
    let server = Server::start_distrustful().unwrap();
    let ends = ["\n", "\r", "\r\n", "\n\n", "\r\r\n", "\r\n\n", "\n\r", "\r\0\n", "\0\r\n", "\u{85}"];
    let mut attacks = 0;
    for before in ends {
        for after in ends {
            if before.ends_with("\r\n") && after.starts_with("\r\n") {
                continue; // The right one.
            }
            attacks += 1;
            let smuggled = "MAIL FROM:<smuggler@example.org>\r\nRCPT TO:<brian@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled";
            let mut raw = greeted(&server);
            raw.command("MAIL FROM:<you@example.org>").unwrap();
            raw.command("RCPT TO:<brian@example.net>").unwrap();
            assert!(raw.command("DATA").unwrap().starts_with("354 "));
            // The server may hang up in the middle: that is a refusal too.
            let _ = raw
                .write(format!("Subject: cover {attacks}\r\n\r\ncover{before}.{after}{smuggled}\r\n.\r\n").as_bytes());
            let _ = raw.write(b"QUIT\r\n");
            let answers = raw.finish().unwrap();
            let taken = answers.matches("250 2.0.0 Ok: queued as").count();
            assert!(taken <= 1, "{before:?}.{after:?}: {answers}");
            assert!(!answers.contains("354 "), "{before:?}.{after:?}: {answers}");
        }
    }
    assert!(attacks >= 30);
    let subjects = subjects(&server, BRIAN, "INBOX");
    assert!(!subjects.contains(&"smuggled".to_owned()), "{subjects:?}");
    // Nor does the right end hide from us in two segments.
    let mut raw = greeted(&server);
    raw.write(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<brian@example.net>\r\nDATA\r\n").unwrap();
    for part in [&b"Subject: split\r\n\r\nx\r"[..], b"\n", b".", b"\r", b"\nQUIT\r\n"] {
        raw.write(part).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(raw.finish().unwrap().ends_with("221 2.0.0 Bye"));
    assert_eq!(message(&server, BRIAN, "INBOX", "split").body(), "x\r\n");
}

#[test]
fn v3_nothing_that_came_before_the_handshake_is_obeyed_after_it() {
    let server = Server::start_distrustful().unwrap();
    let peer = Peer::script("injection.py").env("PASSWORD", PASSWORD);
    let ports = [("MX", Port::Mx), ("SUBMISSION", Port::Submission), ("IMAP", Port::Imap), ("POP3", Port::Pop3)];
    let peer = ports.into_iter().fold(peer, |peer, (name, port)| peer.env(name, server.port(port).to_string()));
    peer.succeed().unwrap();
}

#[test]
fn r99_pipelined_commands_are_answered_in_order_and_early_talk_is_not() {
    let server = Server::start_distrustful().unwrap();
    let mut raw = Raw::connect(server.port(Port::Mx)).unwrap();
    raw.reply().unwrap();
    raw.write(b"EHLO c.example.org\r\n").unwrap();
    assert_eq!(raw.reply().unwrap().unwrap().len(), 9);
    raw.write(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<nobody@example.net>\r\nRCPT TO:<brian@example.net>\r\nDATA\r\n")
        .unwrap();
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(raw.line().unwrap().unwrap()[..3].to_owned());
    }
    assert_eq!(codes, ["250", "550", "250", "354"]);
    raw.write(b"Subject: piped\r\n\r\n..x\r\n.\r\nMAIL FROM:<a@example.org>\r\nRSET\r\nQUIT\r\n").unwrap();
    let rest = raw.finish().unwrap();
    let codes: Vec<&str> = rest.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "250", "221"], "{rest}");

    // V49: a browser led here gets no mail sent.
    let mut raw = Raw::connect(server.port(Port::Mx)).unwrap();
    raw.reply().unwrap();
    raw.write(
        b"POST / HTTP/1.1\r\nHost: mx\r\n\r\nEHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<brian@example.net>\r\n",
    )
    .unwrap();
    let rest = raw.finish().unwrap();
    assert!(!rest.contains("250"), "{rest}");
}

#[test]
fn v10_a_line_without_end_costs_nothing() {
    let server = Server::start_distrustful().unwrap();
    let endless = |port: Port, beginning: &'static [u8]| {
        growth_kib(&server, || {
            let mut raw = Raw::connect(server.port(port)).unwrap();
            raw.line().unwrap();
            raw.write(beginning).unwrap();
            let block = vec![b'x'; 1 << 20];
            // The server may hang up as soon as it has seen enough.
            for _ in 0..100 {
                if raw.write(&block).is_err() {
                    return;
                }
            }
        })
    };
    for (port, beginning) in
        [(Port::Mx, &b"EHLO "[..]), (Port::Imap, b"a LOGIN "), (Port::Imap, b""), (Port::Pop3, b"USER ")]
    {
        let grown = endless(port, beginning);
        assert!(grown < GROWTH_MAX_KIB, "{port:?}: {grown} KiB");
    }
    // One line inside a message, and a header section that never ends.
    for beginning in ["Subject: x\r\n\r\n", "Subject: x\r\nX: "] {
        let grown = growth_kib(&server, || {
            let mut raw = greeted(&server);
            raw.command("MAIL FROM:<a@example.org>").unwrap();
            raw.command("RCPT TO:<brian@example.net>").unwrap();
            raw.command("DATA").unwrap();
            raw.write(beginning.as_bytes()).unwrap();
            for _ in 0..40 {
                if raw.write(&vec![b'x'; 1 << 20]).is_err() {
                    return;
                }
            }
            let _ = raw.write(b"\r\n.\r\n");
            let _ = raw.reply();
        });
        assert!(grown < 4 * GROWTH_MAX_KIB, "{beginning:?}: {grown} KiB");
    }
    deliver(&server, BRIAN, "alive", "x");
    let mut raw = greeted(&server);
    raw.write(&[&b"NOOP "[..], &[b'x'; 5000], b"\r\n"].concat()).unwrap();
    assert_eq!(raw.reply().unwrap().unwrap()[0], "500 5.5.2 Error: line too long");
    assert_eq!(raw.command("NOOP").unwrap(), "250 2.0.0 Ok");
}

#[test]
fn v11_recipients_and_parameters_without_number() {
    let server = Server::start_distrustful().unwrap();
    let grown = growth_kib(&server, || {
        let mut raw = greeted(&server);
        raw.command("MAIL FROM:<a@example.org>").unwrap();
        let mut taken = 0;
        for _ in 0..30 {
            raw.write("RCPT TO:<brian@example.net>\r\n".repeat(50).as_bytes()).unwrap();
            for _ in 0..50 {
                match raw.line().unwrap().as_deref() {
                    Some("250 2.1.5 Ok") => taken += 1,
                    Some("452 4.5.3 Error: too many recipients") | None => {}
                    Some(line) => assert!(line.starts_with("421 4.7.0"), "{line}"),
                }
            }
            if taken < 50 {
                break;
            }
        }
        assert_eq!(taken, 1_000);
    });
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    let mut raw = greeted(&server);
    let parameters = " X=1".repeat(10_000);
    raw.write(format!("MAIL FROM:<a@example.org>{parameters}\r\n").as_bytes()).unwrap();
    assert!(raw.reply().unwrap().unwrap()[0].starts_with("500 5.5.2"));
}

#[test]
fn r101_a_session_of_nothing_but_errors_ends() {
    let server = Server::start_distrustful().unwrap();
    let mut raw = greeted(&server);
    raw.write("FROBNICATE\r\n".repeat(25).as_bytes()).unwrap();
    let answers = raw.finish().unwrap();
    assert!(answers.ends_with("421 4.7.0 mx.example.net Error: too many errors"), "{answers}");
    assert!(answers.lines().count() <= 21, "{answers}");
}

#[test]
fn v22_floods_before_login_cost_nothing() {
    let server = Server::start_distrustful().unwrap();
    let million = 1_000_000;
    let attacks: [(&str, Vec<u8>); 7] = [
        ("parentheses", [&b"a SEARCH "[..], &vec![b'('; million], b"\r\n"].concat()),
        ("closing parentheses", [&b"a FETCH "[..], &vec![b')'; million], b"\r\n"].concat()),
        ("a literal of 2^63", b"a LOGIN {9223372036854775808}\r\n".to_vec()),
        ("a literal below nothing", b"a LOGIN {-1}\r\n".to_vec()),
        ("a literal without waiting", [&b"a LOGIN {100000000+}\r\n"[..], &vec![b'x'; 8 * million]].concat()),
        ("many literals", b"a LOGIN {1+}\r\nx".repeat(50_000)),
        ("many commands", b"a NOOP\r\n".repeat(50_000)),
    ];
    for (name, octets) in attacks {
        let grown = growth_kib(&server, || {
            let mut open = Vec::new();
            for _ in 0..5 {
                let mut raw = Raw::connect(server.port(Port::Imap)).unwrap();
                raw.line().unwrap();
                // The server may hang up in the middle.
                let _ = raw.write(&octets);
                open.push(raw);
            }
        });
        assert!(grown < GROWTH_MAX_KIB, "{name}: {grown} KiB");
    }
    // The answers: refused, not obeyed, and nobody else is disturbed.
    let mut raw = Raw::connect(server.port(Port::Imap)).unwrap();
    raw.line().unwrap();
    raw.write(b"a LOGIN {9223372036854775808}\r\n").unwrap();
    let answer = raw.line().unwrap().unwrap_or_default();
    assert!(!answer.starts_with('+'), "{answer}");
    Imap::login(server.port(Port::Imaps), BRIAN, PASSWORD).unwrap();
}

#[test]
fn v53_server_names_and_broken_logins_leave_nothing_behind() {
    let server = Server::start_distrustful().unwrap();
    let mut round = 0;
    let grown = growth_kib(&server, || {
        round += 1;
        let peer = Peer::script("many_names.py").env("PASSWORD", PASSWORD).arg(round.to_string());
        peer.env("SUBMISSIONS", server.port(Port::Submissions).to_string()).succeed().unwrap();
    });
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
}

#[test]
fn v12_v55_names_that_lead_nowhere() {
    let server = Server::start_distrustful().unwrap();
    let mut client = Imap::login(server.port(Port::Imaps), BRIAN, PASSWORD).unwrap();
    // Mailbox names are names: nothing on the disk is called so.
    for name in ["../../../../tmp/escape", "/etc/passwd", "a/../b", ".."] {
        let outcome = client.command(&format!("CREATE \"{name}\""));
        if outcome.is_ok() {
            client.literal(&format!("APPEND \"{name}\""), b"Subject: x\r\n\r\nx\r\n").unwrap();
            assert_eq!(client.messages(&format!("\"{name}\"")).unwrap().len(), 1);
        }
    }
    assert!(!std::path::Path::new("/tmp/escape").exists());
    let mut smtp = Smtp::connect(server.port(Port::Mx)).unwrap();
    for address in ["../../x@example.net", "\"; touch /tmp/owned\"@example.net", "$(id)@example.net", "|id@example.net"]
    {
        smtp.command("MAIL FROM:<a@example.org>", 2).unwrap();
        smtp.command(&format!("RCPT TO:<{address}>"), 5).unwrap();
        smtp.command("RSET", 2).unwrap();
    }
    for login in ["brian@example.net' OR '1'='1", "*", "brian@example.net)(|(uid=*", "%u"] {
        assert!(Imap::login(server.port(Port::Imaps), &format!("\"{login}\""), PASSWORD).is_err(), "{login}");
    }
}

#[test]
fn v57_out_of_descriptors_the_server_waits_and_goes_on() {
    let server = Server::start().unwrap();
    let mut reader = Imap::login(server.port(Port::Imaps), BRIAN, PASSWORD).unwrap();
    let pid = server.pid().unwrap().to_string();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    Peer::new("prlimit").args(["--pid", &pid, &format!("--nofile={}:", open + 20)]).succeed().unwrap();
    let crowd: Vec<Raw> = (0..60).map(|_| Raw::connect(server.port(Port::Mx)).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(500));
    let before = processor_ticks(&server);
    std::thread::sleep(Duration::from_secs(1));
    let used = processor_ticks(&server) - before;
    assert!(used < 30, "{used} hundredths of a second of work in one second of waiting");
    reader.command("NOOP").unwrap();
    drop(crowd);
    let limit = (open + 500).to_string();
    Peer::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:")]).run().unwrap();
    crate::desk::wait_until("the server accepts again", || Smtp::connect(server.port(Port::Mx)).is_ok());
    deliver(&server, BRIAN, "alive", "x");
}

/// What a resolver says to a question, by the first label of its name; where that is nothing, the answer to another one comes.
fn malice(question: &[u8], number: u16) -> Option<Vec<u8>> {
    // An id, flags, four counts; then the name, in any case.
    let (head, rest) = question.split_at_checked(12)?;
    let end = rest.iter().position(|octet| *octet == 0)?;
    let (asked, label) = (rest.get(..end + 5)?, rest.get(1..1 + usize::from(rest[0]))?.to_ascii_lowercase());
    let answer = |answers: u16, records: &[u8]| {
        let counts = [[0, 1], answers.to_be_bytes(), [0, 0], [0, 0]].concat();
        [&head[..2], &[0x81, 0x80], &counts, asked, records].concat()
    };
    // The name that was asked for, a type, class IN, an hour, and a length.
    let record = |kind: u8, length: u16| [&[0xc0, 12, 0, kind, 0, 1, 0, 0, 14, 16][..], &length.to_be_bytes()].concat();
    let here = 12 + asked.len() as u8;
    Some(match &label[..] {
        b"circle" => answer(1, &[0xc0, here, 0, 15, 0, 1, 0, 0, 14, 16, 0, 4, 0, 10, 0xc0, 12]),
        b"counts" => answer(u16::MAX, &[]),
        b"short" => answer(0, &[])[..11].to_vec(),
        b"beyond" => answer(1, &[record(15, u16::MAX), vec![0; 9]].concat()),
        b"itself" => answer(1, &[record(5, 2), vec![0xc0, 12]].concat()),
        b"junk" => [&head[..2], &[0xff; 4_000][..]].concat(),
        b"cut" => [&head[..2], &[0x83, 0x80], &answer(0, &[])[4..]].concat(),
        // One alias after another, none of them twice.
        b"chain" | b"next" => {
            let next = format!("{number:05}");
            let next = [&[4], &b"next"[..], &[5], next.as_bytes(), &[0xc0, 12]].concat();
            answer(1, &[record(5, next.len() as u16), next].concat())
        }
        _ => return None,
    })
}

/// A resolver of such answers over UDP and TCP, and how often it was asked by UDP.
fn hostile_resolver() -> (SocketAddr, Arc<AtomicU16>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    let socket = UdpSocket::bind(place).unwrap();
    let asked = Arc::new(AtomicU16::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, asking)) = socket.recv_from(&mut question) {
            let number = count.fetch_add(1, Ordering::Relaxed);
            // Whoever asked may have gone away.
            match malice(&question[..length], number) {
                Some(answer) => _ = socket.send_to(&answer, asking),
                None => (0..2_000).for_each(|_| _ = socket.send_to(&[!question[0]; 40], asking)),
            }
        }
    });
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            // The longest answer there is, the end of which never comes.
            let _ = stream.write_all(&[0xff; 1_000]);
            open.push(stream);
        }
    });
    (place, asked)
}

#[test]
fn v46_what_a_hostile_resolver_says_only_delays() {
    let (resolver, asked) = hostile_resolver();
    let server = Server::start_edited(|text| {
        text.replace("servers = [\"127.0.0.1\"]", &format!("servers = [\"{resolver}\"]\ntimeout_seconds = 2"))
    });
    let sender = Sender { server: server.unwrap() };
    let kinds = [
        ("circle", "a malformed reply"),
        ("counts", "a reply with too many records"),
        ("beyond", "a malformed reply"),
        ("itself", "aliases lead from itself.far.example back to it"),
        ("chain", "more than 8 aliases"),
        // These are asked again over TCP.
        ("short", "no answer in time"),
        ("junk", "no answer in time"),
        ("cut", "no answer in time"),
        ("others", "no answer in time"),
    ];
    let before = processor_ticks(&sender.server);
    let text = "Subject: x\r\n\r\nx\r\n";
    let ids = kinds.map(|(kind, _)| sender.submit(&[&format!("x@{kind}.far.example")], text).unwrap());
    deliver(&sender.server, BRIAN, "meanwhile", "x");
    assert!(subjects(&sender.server, BRIAN, "INBOX").contains(&"meanwhile".to_owned()));
    for ((kind, words), id) in kinds.into_iter().zip(&ids) {
        sender.wait_for_story(id, "to be tried again at").unwrap();
        let list = sender.server.command(&["queue", "list", id]).unwrap();
        assert!(list.contains(": 4.4.3 ") && list.contains(words), "{kind}:\n{list}");
    }
    let used = processor_ticks(&sender.server) - before;
    assert!(used < 200, "{used} hundredths of a second of work");
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked < 100, "{asked} questions");
    assert_eq!(sender.audit().unwrap()["waiting"], kinds.len());
}
