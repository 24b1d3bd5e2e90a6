//! STATUS (RFC 3501 §6.3.10), with SIZE (RFC 8438), HIGHESTMODSEQ (RFC 7162 §3.1.7) and APPENDLIMIT (RFC 7889); LIST
//! uses it too (RFC 5819).

use crate::encode;
use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, ask, done, mailboxes};
use crate::question::{Answer, Question};
use crate::state::{State, find};
use mail::{MailboxName, Snapshot};

/// What can be asked of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusItem {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    Size,
    HighestModSeq,
    AppendLimit,
}

const NAMES: [(&str, StatusItem); 8] = [
    ("MESSAGES", StatusItem::Messages),
    ("RECENT", StatusItem::Recent),
    ("UIDNEXT", StatusItem::UidNext),
    ("UIDVALIDITY", StatusItem::UidValidity),
    ("UNSEEN", StatusItem::Unseen),
    ("SIZE", StatusItem::Size),
    ("HIGHESTMODSEQ", StatusItem::HighestModSeq),
    ("APPENDLIMIT", StatusItem::AppendLimit),
];

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let name = lexer.mailbox()?;
    lexer.space()?;
    let items = items(lexer)?;
    lexer.end()?;
    enable(state, &items)?;
    let Ok(name) = name else { return Ok(done(Completion::nonexistent())) };
    Ok(mailboxes(move |_, infos| {
        let Some((_, id)) = find(&infos, &name) else { return done(Completion::nonexistent()) };
        ask(Question::Snapshots(vec![id]), move |state, answer| match answer {
            Answer::Snapshots(Ok(snapshots)) => match snapshots.first() {
                Some(Some(snapshot)) => {
                    write(state, &name, snapshot, &items);
                    done(Completion::ok("STATUS completed."))
                }
                _ => done(Completion::nonexistent()),
            },
            _ => done(Completion::unavailable()),
        })
    }))
}

/// A list of items in parentheses, none twice.
pub(super) fn items(lexer: &mut Lexer<'_>) -> Result<Vec<StatusItem>, BadCommand> {
    let mut items = Vec::new();
    lexer.expect(b'(')?;
    loop {
        let name = lexer.atom()?;
        let (_, item) = NAMES
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .ok_or(BadCommand("Unknown status item."))?;
        if !items.contains(&item) {
            items.push(item);
        }
        if lexer.eat(b')') {
            return Ok(items);
        }
        lexer.space()?;
    }
}

/// RFC 7162 §3.1: who asks for HIGHESTMODSEQ knows mod-sequences. Items of masked capabilities are refused.
pub(super) fn enable(state: &mut State, items: &[StatusItem]) -> Result<(), BadCommand> {
    for (capability, item) in [
        ("STATUS=SIZE", StatusItem::Size),
        ("APPENDLIMIT", StatusItem::AppendLimit),
        ("CONDSTORE", StatusItem::HighestModSeq),
    ] {
        state.offers(capability, items.contains(&item))?;
    }
    if items.contains(&StatusItem::HighestModSeq) {
        state.enable_condstore();
    }
    Ok(())
}

/// Writes one STATUS response.
pub(super) fn write(state: &mut State, name: &MailboxName, snapshot: &Snapshot, items: &[StatusItem]) {
    // Only the selected mailbox tells what is recent: another one would lose its recent messages by being asked.
    let recent = state.selected().filter(|selected| selected.id == snapshot.mailbox);
    let recent = recent.map_or(0, |selected| selected.view.recent());
    let limit = state.config.append_octets_max;
    let out = &mut state.out;
    out.extend_from_slice(b"* STATUS ");
    encode::mailbox(out, name);
    out.extend_from_slice(b" (");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        let word = NAMES.into_iter().find(|(_, known)| known == item).map_or("", |(word, _)| word);
        out.extend_from_slice(word.as_bytes());
        out.push(b' ');
        encode::number(
            out,
            match item {
                StatusItem::Messages => u64::from(snapshot.len()),
                StatusItem::Recent => u64::from(recent),
                StatusItem::UidNext => u64::from(snapshot.uid_next.0),
                StatusItem::UidValidity => u64::from(snapshot.uid_validity.0),
                StatusItem::Unseen => u64::from(snapshot.unseen()),
                StatusItem::Size => snapshot.octets(),
                StatusItem::HighestModSeq => snapshot.mod_sequence.0,
                StatusItem::AppendLimit => limit,
            },
        );
    }
    out.extend_from_slice(b")\r\n");
}
