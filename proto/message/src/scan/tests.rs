//! What the scanner makes of messages, whole and broken.

use super::*;

/// Scans a message whole, by single octets and split in two everywhere: always the same digest.
fn scan(message: &[u8]) -> Digest {
    let whole = scan_in(&[message]);
    assert_eq!(scan_in(&message.chunks(1).collect::<Vec<_>>()), whole);
    for at in 0..message.len().min(2_000) {
        let (first, second) = message.split_at(at);
        assert_eq!(scan_in(&[first, second]), whole, "split at {at}");
    }
    whole
}

fn scan_in(pieces: &[&[u8]]) -> Digest {
    let mut scanner = Scanner::new();
    pieces.iter().for_each(|piece| scanner.write(piece));
    let octets = pieces.iter().map(|piece| piece.len() as u64).sum();
    assert_eq!(scanner.octets(), octets);
    let digest = scanner.finish(b"");
    check(&digest.part, 0..octets, 1);
    assert_eq!(digest.part.body.end, octets);
    assert_eq!(Digest::decode(&digest.encode()).as_ref(), Some(&digest));
    digest
}

/// Parts lie inside one another, in order, and within the limits.
fn check(part: &Part, around: std::ops::Range<u64>, depth: usize) -> usize {
    assert!(depth <= DEPTH_MAX);
    assert!(around.start <= part.header.start && part.header.start <= part.header.end, "{part:?}");
    assert!(part.header.end == part.body.start && part.body.start <= part.body.end && part.body.end <= around.end);
    assert!(part.lines <= part.body.end - part.body.start);
    assert!(!part.media_type.is_empty() && !part.subtype.is_empty() && !part.encoding.is_empty());
    let mut start = part.body.start;
    match &part.content {
        Content::Leaf => 1,
        Content::Message(_, inner) => 1 + check(inner, part.body.clone(), depth + 1),
        Content::Multipart(parts) => {
            assert!(!parts.is_empty());
            let mut count = 1;
            for part_inside in parts {
                count += check(part_inside, start..part.body.end, depth + 1);
                start = part_inside.body.end;
            }
            count
        }
    }
}

/// `type/subtype "body"` of leaves, brackets around what is inside.
fn show(part: &Part, message: &[u8]) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).escape_debug().to_string();
    let body = &message[part.body.start as usize..part.body.end as usize];
    assert_eq!(part.lines, body.iter().filter(|b| **b == b'\n').count() as u64, "{:?}", text(body));
    let kind = format!("{}/{}", text(&part.media_type), text(&part.subtype));
    match &part.content {
        Content::Leaf => format!("{kind} {}", text(body)),
        Content::Message(_, inner) => format!("{kind}({})", show(inner, message)),
        Content::Multipart(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| show(part, message)).collect();
            format!("{kind}[{}]", parts.join(" | "))
        }
    }
}

fn structure(message: &str) -> String {
    show(&scan(message.as_bytes()).part, message.as_bytes())
}

fn mixed(body: &str) -> String {
    format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{body}")
}

#[test]
fn a_plain_message() {
    let message = b"From: Brian <brian@example.net>\r\nTo: x@y,\r\n z@y\r\nSubject: a\r\n\tb\r\nDate: Sun, 9 Sep 2001 03:46:40 +0200\r\nMessage-Id: <1@x>\r\nIn-Reply-To: <0@x>\r\n\r\none\r\ntwo";
    let digest = scan(message);
    assert_eq!(digest.date, Some((1_000_000_000, 120)));
    assert_eq!(digest.envelope.subject.as_deref(), Some(b"a\tb".as_slice()));
    assert_eq!(digest.envelope.message_id.as_deref(), Some(b"<1@x>".as_slice()));
    assert_eq!(digest.envelope.in_reply_to.as_deref(), Some(b"<0@x>".as_slice()));
    assert_eq!((digest.envelope.from.len(), digest.envelope.to.len(), digest.envelope.cc.len()), (1, 2, 0));
    assert_eq!(digest.part.body, message.len() as u64 - 8..message.len() as u64);
    assert_eq!((digest.part.lines, digest.part.encoding.as_slice()), (1, b"7bit".as_slice()));
    assert_eq!(digest.part.parameters, [(b"charset".to_vec(), b"us-ascii".to_vec())]);
}

#[test]
fn the_example_of_rfc_2046() {
    let message = "Content-type: multipart/mixed;\r\n boundary=\"simple boundary\"\r\n\r\nThis is the preamble.\r\n\r\n--simple boundary\r\n\r\nThis is implicitly typed.\r\nNo linebreak.\r\n--simple boundary\r\nContent-type: text/plain; charset=us-ascii\r\n\r\nA linebreak.\r\n\r\n--simple boundary--\r\n\r\nEpilogue.\r\n";
    let shown = r"multipart/mixed[text/plain This is implicitly typed.\r\nNo linebreak. | text/plain A linebreak.\r\n]";
    assert_eq!(structure(message), shown);
    assert_eq!(structure(&message.replace("\r\n", "\n")), shown.replace("\\r", ""));
}

#[test]
fn delimiters_and_what_only_looks_like_one() {
    // RFC 2046 §5.1.1.
    assert_eq!(structure(&mixed("--b \t\r\n\r\n1\r\n--b-- \r\n--b\r\n\r\n2")), "multipart/mixed[text/plain 1]");
    assert_eq!(
        structure(&mixed("--bx\r\n--b\r\n\r\n--c\r\n-b\r\n --b\r\nx--b")),
        r"multipart/mixed[text/plain --c\r\n-b\r\n --b\r\nx--b]"
    );
    assert_eq!(structure(&mixed("--b\r\n\r\n1\r\n--b")), "multipart/mixed[text/plain 1 | text/plain ]");
    assert_eq!(structure(&mixed("--b\r\n\r\n1\r\n--b--x\r\n2")), r"multipart/mixed[text/plain 1\r\n--b--x\r\n2]");
    assert_eq!(structure(&mixed("--b\r\n--b\r\nA: b\r\n--b--")), "multipart/mixed[text/plain  | text/plain ]");
    assert_eq!(structure(&mixed("--b\r\n\r\n--b\r\n\r\n\r\n--b--")), "multipart/mixed[text/plain  | text/plain ]");
    assert_eq!(
        structure(&mixed("--b\r\r\n\r\n1\n--b\r\n\r\n2\r\r\n--b--")),
        r"multipart/mixed[text/plain 1 | text/plain 2\r]"
    );
    let blank = " ".repeat(1_000);
    assert_eq!(
        structure(&mixed(&format!("--b{blank}\r\n\r\n1\r\n--b{blank}.\r\n--b--{blank}"))).len(),
        "multipart/mixed[text/plain 1\\r\\n--b.]".len() + 1_000
    );
}

#[test]
fn boundaries_folded_quoted_and_in_pieces() {
    for parameter in [
        "boundary=\r\n \"b\"",
        "boundary=b (c)",
        "\r\n\tBOUNDARY\r\n = b  ",
        "boundary*0=\"\"; boundary*1=b",
        "boundary*=us-ascii''%62",
        "x=\"boundary=c;\"; boundary=\"b  \"",
    ] {
        let message = format!("Content-Type: multipart/mixed; {parameter}\r\n\r\n--b\r\n\r\n1\r\n--b--\r\n");
        assert_eq!(structure(&message), "multipart/mixed[text/plain 1]", "{parameter}");
    }
    let longest = "x".repeat(BOUNDARY_OCTETS_MAX);
    let message = format!("Content-Type: multipart/mixed; boundary={longest}\n\n--{longest}\n\n1\n--{longest}-- ");
    assert_eq!(structure(&message), "multipart/mixed[text/plain 1]");
}

#[test]
fn a_multipart_without_parts_is_a_leaf() {
    for content_type in ["multipart/mixed", "multipart/mixed; boundary=\"\"", "multipart/mixed; boundary=c"] {
        let message = format!("Content-Type: {content_type}\r\n\r\n--b\r\n");
        assert_eq!(structure(&message), r"multipart/mixed --b\r\n");
    }
    let long = "x".repeat(BOUNDARY_OCTETS_MAX + 1);
    assert!(
        structure(&format!("Content-Type: multipart/mixed; boundary={long}\n\n--{long}\n\n"))
            .starts_with("multipart/mixed --x")
    );
}

#[test]
fn an_outer_boundary_ends_what_is_inside() {
    let inner = "--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\n1\r\n--c\r\nContent-Type: text/html\r\n\r\n2\r\n--b\r\n\r\n3\r\n--c\r\n--b--\r\n";
    assert_eq!(
        structure(&mixed(inner)),
        r"multipart/mixed[multipart/alternative[text/plain 1 | text/html 2] | text/plain 3\r\n--c]"
    );
    // The same boundary again: the outer multipart has it.
    let same = "--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n1\r\n--b--\r\n";
    assert_eq!(structure(&mixed(same)), r"multipart/mixed[multipart/mixed  | text/plain 1]");
    // An inner boundary that looks like the outer one closing.
    let close = "--b\r\nContent-Type: multipart/mixed; boundary=b--\r\n\r\n--b--\r\n\r\n1\r\n";
    assert_eq!(structure(&mixed(close)), r"multipart/mixed[multipart/mixed ]");
    // A closed multipart's epilogue may hold another's delimiter.
    let epilogue =
        "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n1\r\n--c--\r\nepilogue\r\n--c\r\n\r\n--b--";
    assert_eq!(structure(&mixed(epilogue)), r"multipart/mixed[multipart/mixed[text/plain 1]]");
}

#[test]
fn messages_inside_messages() {
    let message = "Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: innermost\r\n\r\ntext\r\n--b--\r\n";
    assert_eq!(structure(message), "message/rfc822(multipart/mixed[message/rfc822(text/plain text)])");
    let digest = scan(message.as_bytes());
    let Content::Message(envelope, inner) = &digest.part.content else { panic!("{digest:?}") };
    assert_eq!(envelope.subject.as_deref(), Some(b"inner".as_slice()));
    assert_eq!((inner.header.start, digest.part.body.start), (32, 32));
    assert_eq!(digest.part.lines, 10);
    // RFC 2046 §5.2.1: no encoding, else it is not looked into.
    for encoding in ["base64", "Quoted-Printable"] {
        let message = format!("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: {encoding}\r\n\r\nA: b\r\n");
        assert_eq!(structure(&message), r"message/rfc822 A: b\r\n");
    }
    // Nothing inside, and an end in the midst of the inner header section.
    assert_eq!(structure("Content-Type: message/rfc822\r\n"), "message/rfc822(text/plain )");
    assert_eq!(
        structure(&mixed("--b\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\n--b--")),
        "multipart/mixed[message/rfc822(text/plain )]"
    );
}

#[test]
fn parts_of_a_digest_are_messages() {
    // RFC 2046 §5.1.5.
    let message = "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\n1\r\n--b\r\nContent-Type: text/plain\r\n\r\n2\r\n--b\r\nContent-Type: ?\r\n\r\n3\r\n--b--";
    assert_eq!(structure(message), "multipart/digest[message/rfc822(text/plain 1) | text/plain 2 | text/plain 3]");
}

#[test]
fn mime_fields_of_a_part() {
    let message = mixed(
        "--b\r\nContent-Type: IMAGE/Png (x)\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: (y) BASE64\r\nContent-ID: <1@x>\r\nContent-Description:\r\n a\r\n b\r\nContent-MD5: Q==\r\nContent-Disposition: Attachment; filename*0=a; filename*1=b\r\nContent-Language: de, EN\r\nContent-Location: http://x\r\nSubject: no\r\n\r\nAAAA\r\n--b--\r\n",
    );
    let digest = scan(message.as_bytes());
    let Content::Multipart(parts) = &digest.part.content else { panic!("{digest:?}") };
    let part = &parts[0];
    assert_eq!((part.media_type.as_slice(), part.subtype.as_slice()), (&b"image"[..], &b"png"[..]));
    assert_eq!(part.encoding, b"base64");
    assert_eq!(part.id.as_deref(), Some(&b"<1@x>"[..]));
    assert_eq!(part.description.as_deref(), Some(&b"a b"[..]));
    assert_eq!(part.md5.as_deref(), Some(&b"Q=="[..]));
    assert_eq!(part.disposition, Some((b"attachment".to_vec(), vec![(b"filename".to_vec(), b"ab".to_vec())])));
    assert_eq!(part.language, [b"de", b"en"]);
    assert_eq!(part.location.as_deref(), Some(&b"http://x"[..]));
    assert_eq!(digest.envelope, Envelope::default());
}

#[test]
fn a_prefix_is_part_of_the_message() {
    let prefix =
        b"Return-Path: <>\r\nDelivered-To: a@b\r\nSubject: above\r\nReceived: from x\r\n\tby y; z\r\nTo: c@d\r\n";
    for message in [
        "Subject: x\r\nTo: a@b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n1\r\n--b--",
        "\r\nbody",
        "",
        "A: b",
    ] {
        let mut scanner = Scanner::new();
        scanner.write(message.as_bytes());
        let behind = scanner.finish(prefix);
        assert_eq!(behind, scan(&[prefix, message.as_bytes()].concat()), "{message:?}");
        assert_eq!(behind.part.header.start, 0);
    }
}

#[test]
fn facts_of_the_header_section() {
    let message = b"Received: a\r\nReceived: b\r\n\tc\r\nDelivered-To:\r\n x@y\r\nFrom: a@b\r\nFROM : c@d\r\nSubject: gr\xfcn\r\nMessage-ID: <1>\r\n\r\nReceived: not me\r\n";
    let mut scanner = Scanner::new();
    for octet in message {
        assert_eq!(scanner.facts().is_complete, scanner.octets() >= message.len() as u64 - 18);
        scanner.write(&[*octet]);
    }
    let facts = scanner.facts().clone();
    assert!(facts.is_complete && facts.eight_bit && scanner.has_eight_bit());
    assert_eq!((facts.fields, facts.received, facts.from_fields, facts.date_fields), (7, 2, 2, 0));
    assert_eq!((facts.subject_fields, facts.message_id_fields, facts.to_fields), (1, 1, 0));
    assert_eq!(facts.delivered_to, [b"x@y"]);
    assert_eq!(facts.header_octets, message.len() as u64 - 18);
    assert_eq!(scanner.header_section_octets(), facts.header_octets);
    assert_eq!(scanner.envelope().from.len(), 2);
    scanner.close();
    scanner.write(b"ignored");
    assert_eq!(scanner.octets(), message.len() as u64);

    let mut scanner = Scanner::new();
    scanner.write(b"From: a@b\r\nDelivered-To: c@d");
    assert!(!scanner.facts().is_complete);
    scanner.close();
    assert!(scanner.facts().is_complete);
    assert_eq!((scanner.facts().delivered_to.len(), scanner.facts().header_octets), (1, 28));
}

#[test]
fn v27_messages_cut_at_every_octet() {
    let message = mixed(
        "pre\r\n--b\r\nContent-Type: multipart/digest; boundary=\"c\\\"d\"\r\n\r\n--c\"d\r\n\r\nFrom: \"€\\\" <a@b>\r\nDate: 1 Jan 2001 00:00 GMT\r\n\r\n\0--b\r\n--c\"d--\r\n--b\r\nContent-Disposition: x; f*0*=utf-8''%e2%82; f*1=\"\\\r\n\r\nx\r\n--b--\r\n",
    );
    for end in 0..=message.len() {
        let cut = &message.as_bytes()[..end];
        let digest = scan_in(&[cut]);
        assert_eq!(scan_in(&cut.chunks(3).collect::<Vec<_>>()), digest);
    }
}

#[test]
fn v25_too_many_parts_end_in_one_that_takes_the_rest() {
    let message = mixed(&"--b\n\nx\n".repeat(PARTS_MAX * 3));
    let digest = scan_in(&[message.as_bytes()]);
    let Content::Multipart(parts) = &digest.part.content else { panic!("no parts") };
    assert_eq!(parts.len(), PARTS_MAX);
    assert_eq!(parts[PARTS_MAX - 1].body.end, message.len() as u64);
    assert!(parts[PARTS_MAX - 2].body.end - parts[PARTS_MAX - 2].body.start == 1);
}

#[test]
fn v25_nesting_without_end_stops() {
    let messages = "Content-Type: message/rfc822\r\n\r\n".repeat(100_000);
    let mut part = &scan_in(&[messages.as_bytes()]).part;
    let mut depth = 1;
    while let Content::Message(_, inner) = &part.content {
        (part, depth) = (inner, depth + 1);
    }
    assert_eq!(depth, DEPTH_MAX);
    let multiparts: String =
        (0..20_000).map(|n| format!("Content-Type: multipart/mixed; boundary={n}\r\n\r\n--{n}\r\n")).collect();
    assert_eq!(check(&scan_in(&[multiparts.as_bytes()]).part, 0..u64::MAX, 1), DEPTH_MAX);
    // A message that holds its own beginning, over and over.
    let same =
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n".repeat(20_000);
    scan_in(&[same.as_bytes()]);
}

#[test]
fn v25_many_open_boundaries_do_not_slow_down_the_rest() {
    let opening: String = (0..DEPTH_MAX)
        .map(|n| format!("Content-Type: multipart/mixed; boundary={}{n:02}\n\n--{0}{n:02}\n", "x".repeat(200)))
        .collect();
    let lines = format!("--{}99\n", "x".repeat(200)).repeat(40_000);
    let message = format!("{opening}\n{lines}");
    let digest = scan_in(&[message.as_bytes()]);
    assert_eq!(check(&digest.part, 0..u64::MAX, 1), DEPTH_MAX);
}

#[test]
fn v26_floods_of_header_octets_are_bounded() {
    let size = |digest: &Digest| digest.encode().len();
    let to = format!("To: {}\r\n\r\n", "a@b, ".repeat(2_000_000));
    let digest = scan_in(&[to.as_bytes()]);
    assert_eq!(digest.envelope.to.len(), ADDRESSES_PER_FIELD_MAX);
    let folded = format!("Cc: {}\r\n\r\n", "brian@example.net,\r\n ".repeat(200_000));
    assert!(size(&scan_in(&[folded.as_bytes()])) < 2 * FIELD_OCTETS_MAX);
    let fields = "Bcc: a:b@c;\r\nDelivered-To: x\r\nX: y\r\n".repeat(100_000);
    let digest = scan_in(&[fields.as_bytes()]);
    assert_eq!(digest.envelope.bcc.len(), ADDRESSES_PER_FIELD_MAX);
    let parts: String =
        (0..900).map(|_| format!("--b\r\nContent-Description: {}\r\n\r\n", "d".repeat(60_000))).collect();
    assert!(size(&scan_in(&[mixed(&parts).as_bytes()])) < 2 * DIGEST_OCTETS_MAX);
    let parameters = format!("Content-Type: text/plain{}\r\n\r\n", ";a*1=b;c=d".repeat(1_000_000));
    assert!(scan_in(&[parameters.as_bytes()]).part.parameters.len() <= mime::PARAMETERS_PER_FIELD_MAX);
    scan_in(&["a".repeat(10_000_000).as_bytes()]);
    scan_in(&[mixed(&"-".repeat(10_000_000)).as_bytes()]);
}

#[test]
fn v28_random_messages_split_at_random() {
    let words: [&[u8]; 24] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"--",
        b"b",
        b"c",
        b"Content-Type:",
        b" multipart/mixed;",
        b" boundary=",
        b"\"",
        b"message/rfc822",
        b"multipart/digest;",
        b"From: ",
        b"a@b",
        b"<",
        b"(",
        b"\\",
        b" ",
        b"\0",
        b"\xff",
        b"--b\r\n",
        b"--b--\r\n",
        b"\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
    ];
    let mut seed = 42_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for _ in 0..3_000 {
        let message: Vec<u8> = (0..random(60)).flat_map(|_| words[random(words.len())].iter().copied()).collect();
        let whole = scan_in(&[&message]);
        let mut pieces = Vec::new();
        let mut rest = message.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(scan_in(&pieces), whole);
        show(&whole.part, &message);
    }
}

#[test]
fn rfc_8689_a_message_says_that_it_needs_no_tls() {
    let wish = |message: &str| {
        let mut scanner = Scanner::new();
        message.as_bytes().chunks(7).for_each(|piece| scanner.write(piece));
        scanner.close();
        scanner.facts().tls_optional
    };
    for header in ["TLS-Required: No", "tls-required:no", "TLS-Required :\r\n\tNO  "] {
        assert!(wish(&format!("{header}\r\n\r\nbody\r\n")), "{header}");
    }
    for header in
        ["TLS-Required: Yes", "TLS-Required: No, thanks", "TLS-Required:", "X-TLS-Required: No", "\r\nTLS-Required: No"]
    {
        assert!(!wish(&format!("{header}\r\n\r\nTLS-Required: No\r\n")), "{header}");
    }
}
