//! LIST and LSUB with any arguments, and any pattern against any name: nothing panics, every line has its form, and the
//! matcher agrees with a plain table of its definition.

#![no_main]

use imap_proto::lexer::{BadCommand, Lexer};
use imap_proto::list::{self, Pattern};
use libfuzzer_sys::fuzz_target;
use mail::{MailboxId, MailboxInfo, MailboxName, UidValidity};

// The command's arguments stand in the first line, mailbox names in the others; a leading `+` subscribes.
fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|octet| *octet == b'\n');
    let arguments = lines.next().unwrap_or_default();
    let names: Vec<&str> = lines.filter_map(|line| std::str::from_utf8(line).ok()).take(50).collect();
    let mailboxes: Vec<MailboxInfo> = names.iter().enumerate().filter_map(|(index, name)| info(index, name)).collect();

    let status = |lexer: &mut Lexer<'_>| -> Result<(), BadCommand> { lexer.flag_list().map(drop) };
    if let Ok((command, _)) = list::parse_list(&mut Lexer::new(arguments), status) {
        for entry in list::list(&command, &mailboxes) {
            let mut out = Vec::new();
            list::write_list(&mut out, &entry);
            assert!(out.starts_with(b"* LIST (") && out.ends_with(b"\r\n"));
            assert_eq!(out.iter().filter(|octet| **octet == b'\n').count(), 1);
        }
    }
    if let Ok(command) = list::parse_lsub(&mut Lexer::new(arguments)) {
        list::lsub(&command, &mailboxes);
    }
    if let Ok(pattern) = std::str::from_utf8(arguments)
        && pattern.len() < 200
        && let Some(compiled) = Pattern::new("", pattern)
    {
        for name in names.iter().filter(|name| name.len() < 200 && !name.starts_with("INBOX")) {
            assert_eq!(compiled.matches(name), table(pattern.as_bytes(), name.as_bytes()), "{pattern:?} {name:?}");
        }
    }
});

fn info(index: usize, text: &str) -> Option<MailboxInfo> {
    let name = text.trim_start_matches(['+', '-']);
    Some(MailboxInfo {
        id: (!text.starts_with(['-'])).then_some(MailboxId(index as u64 + 1)),
        name: MailboxName::parse(name).ok()?,
        special_use: None,
        subscribed: text.starts_with('+'),
        uid_validity: UidValidity(1),
    })
}

/// Which beginnings of the name each beginning of the pattern matches.
fn table(pattern: &[u8], name: &[u8]) -> bool {
    let mut row = vec![false; name.len() + 1];
    row[0] = true;
    for sign in pattern {
        let mut next = vec![false; name.len() + 1];
        for end in 0..=name.len() {
            next[end] = match sign {
                b'*' => row[end] || (end > 0 && next[end - 1]),
                b'%' => row[end] || (end > 0 && name[end - 1] != b'/' && next[end - 1]),
                octet => end > 0 && row[end - 1] && name[end - 1] == *octet,
            };
        }
        row = next;
    }
    row[name.len()]
}
