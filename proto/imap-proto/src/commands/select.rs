//! SELECT and EXAMINE (RFC 3501 §6.3.1, §6.3.2).

use crate::encode;
use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, ask, done, mailboxes};
use crate::question::{Answer, Question};
use crate::state::{NOTHING_RECENT, Phase, Selected, State, find};
use crate::view::View;
use mail::{Flags, MailboxId, MailboxName, Snapshot, Uid};
use std::sync::Arc;

pub(super) fn select(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    run(state, lexer, false)
}

pub(super) fn examine(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    run(state, lexer, true)
}

fn run(state: &mut State, lexer: &mut Lexer<'_>, read_only: bool) -> Result<Next, BadCommand> {
    lexer.space()?;
    let name = lexer.mailbox()?;
    let condstore = parameters(lexer)?;
    lexer.end()?;
    state.offers("CONDSTORE", condstore)?;
    // RFC 3501 §6.3.1: the mailbox selected before is left, even when this fails. RFC 7162 §3.2.11: that is told, so
    // that a pipelining client knows which mailbox the responses belong to.
    if state.unselect().is_some() {
        state.untagged("OK [CLOSED] The mailbox selected before is closed.");
    }
    if condstore {
        state.enable_condstore();
    }
    let Ok(name) = name else { return Ok(done(Completion::nonexistent())) };
    Ok(mailboxes(move |_, infos| match find(&infos, &name) {
        Some((_, id)) => open(id, name, read_only),
        None => done(Completion::nonexistent()),
    }))
}

/// RFC 4466 §2.1: parameters in parentheses; the only one we know is CONDSTORE. `true` if it is there.
fn parameters(lexer: &mut Lexer<'_>) -> Result<bool, BadCommand> {
    if !lexer.eat(b' ') {
        return Ok(false);
    }
    lexer.expect(b'(')?;
    if !lexer.atom()?.eq_ignore_ascii_case("CONDSTORE") {
        return Err(BadCommand("Unknown parameter."));
    }
    lexer.expect(b')')?;
    Ok(true)
}

fn open(id: MailboxId, name: MailboxName, read_only: bool) -> Next {
    ask(Question::Snapshots(vec![id]), move |state, answer| {
        let Answer::Snapshots(Ok(snapshots)) = answer else { return done(Completion::unavailable()) };
        let Some(snapshot) = snapshots.into_iter().next().flatten() else { return done(Completion::nonexistent()) };
        if read_only {
            // EXAMINE takes nothing away from the session that the recent messages will be told to.
            return opened(state, id, name, snapshot, None);
        }
        ask(Question::ClaimRecent(id), move |state, answer| match answer {
            Answer::Recent(recent_from) => opened(state, id, name, snapshot, Some(recent_from)),
            _ => done(Completion::unavailable()),
        })
    })
}

/// `claimed`: messages from this UID on are recent; `None` for EXAMINE, where none is.
fn opened(state: &mut State, id: MailboxId, name: MailboxName, snapshot: Arc<Snapshot>, claimed: Option<Uid>) -> Next {
    let read_only = claimed.is_none();
    let recent_from = claimed.unwrap_or(NOTHING_RECENT);
    let view = View { numbering: Arc::clone(&snapshot), latest: Arc::clone(&snapshot), recent_from, read_only };
    let recent = view.recent();
    state.phase = Phase::Selected(Box::new(Selected { id, name, view }));
    state.tell_known_flags();
    state.untagged_number(snapshot.len(), "EXISTS");
    state.untagged_number(recent, "RECENT");
    if let Some(index) = first_unseen(&snapshot) {
        encode::text(&mut state.out, format_args!("* OK [UNSEEN {}] First message not seen.\r\n", index + 1));
    }
    let facts = format!(
        "* OK [UIDVALIDITY {}] Numbering.\r\n* OK [UIDNEXT {}] Next number.\r\n* OK [HIGHESTMODSEQ {}] Highest.\r\n",
        snapshot.uid_validity, snapshot.uid_next, snapshot.mod_sequence
    );
    state.out.extend_from_slice(facts.as_bytes());
    done(if read_only {
        Completion::ok_code("READ-ONLY", "EXAMINE completed.")
    } else {
        Completion::ok_code("READ-WRITE", "SELECT completed.")
    })
}

fn first_unseen(snapshot: &Snapshot) -> Option<usize> {
    if snapshot.unseen() == 0 {
        return None;
    }
    snapshot.iter().position(|message| !message.flags.contains(Flags::SEEN))
}
