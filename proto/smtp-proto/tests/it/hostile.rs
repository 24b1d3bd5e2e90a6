//! What broke servers before, tried on this one.

use crate::line::Line;
use crate::world::World;
use std::time::Duration;

/// Weight of a session that holds what it may between two bursts.
const WEIGHT_MAX: usize = 400_000;

fn ready(world: &str) -> Line {
    let mut line = Line::to(World::named(world));
    line.send(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<brian@example.net>\r\n");
    line
}

/// Everything that is not CRLF `.` CRLF but has been taken for it somewhere, then a second message for who takes it.
#[test]
fn v1_every_false_end_of_data_gives_one_message() {
    let line_ends: [&[u8]; 9] = [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\n\n", b"\r\n\r", b"\0\r\n", b"\r\0\n"];
    let smuggled = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<notbrian@example.net>\r\nDATA\r\nevil";
    let mut variants = 0;
    for before in line_ends {
        for after in line_ends {
            if before.ends_with(b"\r\n") && after.starts_with(b"\r\n") {
                continue;
            }
            variants += 1;
            let text = [b"one", before, b".", after, &smuggled[..], b"\r\n.\r\n"].concat();
            for size in [1, 7, text.len()] {
                let mut line = ready("small");
                assert!(line.send(b"DATA\r\n").starts_with("354"));
                let replies: String = text.chunks(size).map(|piece| line.send(piece)).collect();
                assert_eq!(replies, "250 2.0.0 Ok: queued as 305B030F\r\n", "{before:?} . {after:?}");
                assert_eq!(line.world.messages.len(), 1);
                let (envelope, stored) = &line.world.messages[0];
                assert_eq!(envelope.reverse_path.to_string(), "a@example.com");
                let stored = String::from_utf8_lossy(stored).into_owned();
                assert!(
                    stored.ends_with("evil\r\n") && !stored.replace("\r\n", "").contains(['\r', '\n']),
                    "{stored:?}"
                );
            }
        }
    }
    assert!(variants >= 30);
}

/// V2: the same text in a chunk is stored without bare CR and LF, so nobody behind us sees another end in it.
#[test]
fn v2_chunks_are_stored_without_bare_line_ends() {
    let mut line = ready("full");
    let text = b"a\n.\nb\r.\rc\r\n.\r\nd\n.\r\ne\r\n.\nf\r";
    let replies = line.send(&[format!("BDAT {} LAST\r\n", text.len()).as_bytes(), text, b"NOOP\r\n"].concat());
    assert_eq!(replies, "250 2.0.0 Ok: queued as 305B030F\r\n250 2.0.0 Ok\r\n");
    assert_eq!(line.world.messages[0].1, b"a\r\n.\r\nb . c\r\n.\r\nd\r\n.\r\ne\r\n.\r\nf ");
}

/// V3: in every role that starts TLS, and however the octets are cut.
#[test]
fn v3_nothing_sent_with_starttls_survives_it() {
    for world in ["small", "submission", "opportunistic"] {
        for injected in [&b"NOOP\r\n"[..], b"MAIL FROM:<evil@example.com>\r\n", b"NO", b"\r\n", b"EHLO evil\r\n"] {
            let mut line = Line::to(World::named(world));
            let replies = line.send(&[b"EHLO x\r\nSTARTTLS\r\n", injected].concat());
            assert!(replies.ends_with("220 2.0.0 Ready to start TLS\r\n"), "{replies}");
            let client = line.session.client();
            assert!(client.tls.is_some() && client.greeting.is_none());
            assert_eq!(line.send(b"MAIL FROM:<a@example.com>\r\n"), "503 5.5.1 Error: send HELO/EHLO first\r\n");
        }
    }
}

/// V6: the client goes away at every octet; nothing staged stays, nothing half is taken.
#[test]
fn v6_breaking_off_at_every_octet_leaves_nothing() {
    let dialogues: [&[u8]; 2] =
        [b"BDAT 3\r\nabcBDAT 12\r\nQUIT\r\nQUIT\r\nBDAT 4 LAST\r\nab\r\n", b"DATA\r\nSubject: x\r\n\r\n..\r\n.\r\n"];
    for dialogue in dialogues {
        for cut in 0..=dialogue.len() {
            let mut line = ready("full");
            line.send(&dialogue[..cut]);
            line.hang_up();
            assert!(line.closed && !line.world.is_staging());
            assert_eq!(line.world.messages.len(), usize::from(cut == dialogue.len()), "cut at {cut}");
        }
    }
}

#[test]
fn v8_a_million_tiny_chunks_take_no_memory() {
    let mut line = ready("full");
    let burst = b"BDAT 1\r\nx".repeat(2_000);
    for _ in 0..500 {
        let replies = line.send(&burst);
        assert_eq!(replies.matches("250 2.0.0 Ok: 1 octets\r\n").count(), 2_000);
        assert!(line.weight() < WEIGHT_MAX, "{}", line.weight());
    }
    assert_eq!(line.send(b"BDAT 0 LAST\r\n"), "250 2.0.0 Ok: queued as 305B030F\r\n");
    assert_eq!(line.world.messages[0].1.len(), 1_000_000);
}

#[test]
fn v8_a_million_refused_chunks_end_the_session_or_take_no_memory() {
    let mut world = World::named("full");
    world.config.errors_hard_max = u32::MAX;
    let mut line = Line::to(world);
    line.send(b"EHLO x\r\n");
    let burst = b"BDAT 1\r\nx".repeat(2_000);
    for _ in 0..50 {
        assert_eq!(line.send(&burst).lines().count(), 2_000);
        assert!(line.weight() < WEIGHT_MAX);
    }
    let mut line = Line::to(World::named("full"));
    assert!(line.send(&burst).ends_with("421 4.7.0 mx.example.net Error: too many errors\r\n"));
    assert!(line.closed);
}

#[test]
fn v10_a_gigabyte_without_a_line_end_is_one_error() {
    let mut line = ready("small");
    let piece = vec![b'a'; 64 * 1024];
    let mut replies = String::new();
    for round in 0..16 * 1024 {
        replies += &line.send(&piece);
        if round % 1_024 == 0 {
            assert!(line.weight() < WEIGHT_MAX);
        }
    }
    assert_eq!(replies, "500 5.5.2 Error: line too long\r\n");
    assert_eq!(line.send(b"\r\nNOOP\r\n"), "250 2.0.0 Ok\r\n");
}

#[test]
fn v10_long_lines_of_text_pass() {
    let mut line = ready("small");
    line.send(b"DATA\r\n");
    for _ in 0..100 {
        assert_eq!(line.send(&[b'a'; 64 * 1024]), "");
        assert!(line.weight() < WEIGHT_MAX);
    }
    assert_eq!(line.send(b"\r\n.\r\n"), "250 2.0.0 Ok: queued as 305B030F\r\n");
    assert_eq!(line.world.messages[0].1.len(), 100 * 64 * 1024 + 2);
}

/// Text that drips just fast enough for the time-out between octets does not hold a session for ever.
#[test]
fn r101_dripping_text_ends() {
    for command in [&b"DATA\r\n"[..], b"BDAT 1000000\r\n"] {
        let mut line = ready("full");
        line.send(command);
        let mut waited = 0;
        while !line.closed {
            line.now = line.now.after(Duration::from_secs(100));
            waited += 100;
            assert!(waited < 1_000);
            let replies = line.send(b"x");
            assert!(replies.is_empty() || replies == "421 4.4.2 mx.example.net Error: timeout exceeded\r\n");
        }
        // Sent as fast as this, it may take as long as it needs.
        let mut line = ready("full");
        line.send(command);
        for _ in 0..10 {
            line.now = line.now.after(Duration::from_secs(100));
            assert_eq!(line.send(&[b'x'; 60_000]), "");
        }
        assert!(!line.closed);
    }
}

/// What is slow to come is no reason to hurry a client that is told to wait between two chunks.
#[test]
fn a_new_chunk_has_its_own_time() {
    let mut line = ready("full");
    for _ in 0..10 {
        assert_eq!(line.send(b"BDAT 1\r\nx"), "250 2.0.0 Ok: 1 octets\r\n");
        line.now = line.now.after(Duration::from_secs(299));
    }
}

#[test]
fn r94_ten_times_the_limit_is_read_and_dropped() {
    let mut world = World::named("small");
    world.config.message_octets_max = 1_000_000;
    let mut line = Line::to(world);
    line.send(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<brian@example.net>\r\nDATA\r\n");
    for _ in 0..160 {
        assert_eq!(line.send(&b"0123456789abcde\n".repeat(4_096)), "");
        assert!(line.weight() < WEIGHT_MAX);
    }
    assert_eq!(line.send(b"\r\n.\r\nNOOP\r\n"), "552 5.3.4 Error: message file too big\r\n250 2.0.0 Ok\r\n");
    assert!(!line.world.is_staging() && line.world.messages.is_empty());
}

#[test]
fn v11_a_million_recipients_end_the_session_or_take_no_memory() {
    let burst = b"RCPT TO:<brian@example.net>\r\n".repeat(2_000);
    let mut line = ready("small");
    let replies: String = (0..500).map(|_| line.send(&burst)).collect();
    assert_eq!(replies.matches("250 2.1.5 Ok\r\n").count(), 999);
    assert_eq!(replies.matches("452 4.5.3 Error: too many recipients\r\n").count(), 1_020);
    assert!(replies.ends_with("421 4.7.0 mx.example.net Error: too many errors\r\n") && line.closed);

    let mut world = World::named("small");
    world.config.errors_hard_max = u32::MAX;
    world.config.recipients_max = 10;
    let mut line = Line::to(world);
    line.send(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\n");
    let burst = b"RCPT TO:<a@b>\r\nRCPT TO:<brian@example.net>\r\n".repeat(1_000);
    for _ in 0..20 {
        assert_eq!(line.send(&burst).lines().count(), 2_000);
        assert!(line.weight() < WEIGHT_MAX);
    }
}

#[test]
fn v11_ten_thousand_parameters_are_one_error() {
    let mut line = Line::to(World::named("full"));
    line.send(b"EHLO x\r\n");
    let many = |parameter: &str, count| format!("MAIL FROM:<a@example.com>{}\r\n", parameter.repeat(count));
    assert_eq!(line.send(many(" A=1", 10_000).as_bytes()), "500 5.5.2 Error: line too long\r\n");
    assert_eq!(line.send(many(" A=1", 500).as_bytes()), "555 5.5.4 Unsupported option: A=1\r\n");
    assert_eq!(line.send(many(" SMTPUTF8", 200).as_bytes()), "501 5.5.4 Bad SMTPUTF8 parameter\r\n");
    assert_eq!(line.send(b"MAIL FROM:<a@example.com>\r\n"), "250 2.1.0 Ok\r\n");
}

#[test]
fn v14_controls_in_any_argument_are_refused() {
    for control in [0_u8, 1, b'\t', b'\r', 0x1b, 0x7f] {
        let mut line = Line::to(World::named("full"));
        line.send(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\n");
        for command in ["EHLO a_b", "RCPT TO:<br_ian@example.net>", "VRFY br_ian@example.net", "ETRN exam_ple.com"] {
            let command: Vec<u8> = command.bytes().map(|b| if b == b'_' { control } else { b }).collect();
            let reply = line.send(&[&command[..], b"\r\n"].concat());
            assert_eq!(reply, "500 5.5.2 Error: bad syntax\r\n", "{control}");
        }
    }
    // Controls beyond ASCII, where UTF-8 is allowed.
    let mut line = Line::to(World::named("full"));
    line.send(b"EHLO x\r\nMAIL FROM:<a@example.com> SMTPUTF8\r\n");
    for command in ["RCPT TO:<a\u{85}@example.net>", "RCPT TO:<\"a\u{9b}\"@example.net>"] {
        assert_eq!(line.send(format!("{command}\r\n").as_bytes()), "501 5.1.3 Bad recipient address syntax\r\n");
    }
    assert_eq!(line.send("EHLO a\u{85}\r\n".as_bytes()), "501 Syntax: EHLO hostname\r\n");
}

#[test]
fn v53_aborted_authentications_take_no_memory() {
    let mut world = World::named("submissions");
    world.config.errors_hard_max = u32::MAX;
    let mut line = Line::to(world);
    line.send(b"EHLO x\r\n");
    let burst = b"AUTH LOGIN\r\nYnJpYW4=\r\n*\r\n".repeat(1_000);
    for _ in 0..100 {
        assert_eq!(line.send(&burst).matches("501 5.7.0 Authentication aborted\r\n").count(), 1_000);
        assert!(line.weight() < WEIGHT_MAX);
    }
}

/// V28: whatever comes, in whatever pieces, the session ends in order and says the same.
#[test]
fn v28_noise_does_no_harm() {
    let words: [&[u8]; 24] = [
        b"EHLO x",
        b"LHLO x",
        b"MAIL FROM:<a@example.com>",
        b"RCPT TO:<brian@example.net>",
        b"DATA",
        b"BDAT 5",
        b"BDAT 3 LAST",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b".",
        b"\r\n.\r\n",
        b"RSET",
        b"AUTH PLAIN",
        b"AUTH LOGIN AAAA",
        b"*",
        b"STARTTLS",
        b"\0",
        b"\xff\xfe",
        b"NOTIFY=",
        b" SIZE=5",
        b"VRFY <\"",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap_or_default() % below
    };
    for world in ["small", "full", "trusted", "submissions", "opportunistic", "lmtp", "tight"] {
        for _ in 0..300 {
            let noise: Vec<u8> = (0..40).flat_map(|_| words[random(words.len())].iter().copied()).collect();
            let mut whole = Line::to(World::named(world));
            let mut said = whole.send(&noise);
            said += &whole.hang_up();
            // What came with STARTTLS is dropped, or not, by how it was cut; there the replies may differ.
            if said.contains("220 2.0.0") {
                continue;
            }
            let mut pieces = Line::to(World::named(world));
            let mut said_to_pieces: String = noise.chunks(1 + random(5)).map(|piece| pieces.send(piece)).collect();
            if !pieces.closed {
                said_to_pieces += &pieces.hang_up();
            }
            assert!(whole.closed && pieces.closed);
            assert_eq!(said, said_to_pieces, "{world} {:?}", String::from_utf8_lossy(&noise));
            assert_eq!(whole.world.messages, pieces.world.messages);
        }
    }
}
