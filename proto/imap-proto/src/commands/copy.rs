//! COPY (RFC 3501 §6.4.7) and MOVE (RFC 6851), with COPYUID (RFC 4315 §3).

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, commit_or, done, mailboxes};
use crate::question::CommitFailure;
use crate::state::{State, find};
use mail::{Change, ChangeError, MailboxId, MailboxName, MailboxRef, Outcome, UidSet};

pub(super) fn copy(state: &mut State, lexer: &mut Lexer<'_>, by_uid: bool) -> Result<Next, BadCommand> {
    let (from, uids, to) = arguments(state, lexer, by_uid)?;
    let Some(to) = to else { return Ok(done(Completion::nonexistent())) };
    Ok(to_existing(uids, to, move |uids, to| {
        commit_or(vec![Change::Copy { from, uids, to: MailboxRef::Id(to) }], refusal, |_, outcomes| {
            done(match copy_uid(&outcomes) {
                Some(code) => Completion::ok_code(code, "COPY completed."),
                None => Completion::ok("No messages were copied."),
            })
        })
    }))
}

pub(super) fn move_(state: &mut State, lexer: &mut Lexer<'_>, by_uid: bool) -> Result<Next, BadCommand> {
    let read_only = state.selected().is_some_and(|selected| selected.view.read_only);
    let (from, uids, to) = arguments(state, lexer, by_uid)?;
    if read_only {
        return Ok(done(Completion::read_only()));
    }
    let Some(to) = to else { return Ok(done(Completion::nonexistent())) };
    Ok(to_existing(uids, to, move |uids, to| {
        commit_or(vec![Change::Move { from, uids, to: MailboxRef::Id(to) }], refusal, |state, outcomes| {
            // RFC 6851 §4.3: the code comes in an untagged OK, before the EXPUNGE responses that the renewal brings.
            if let Some(code) = copy_uid(&outcomes) {
                state.untagged(&format!("OK [{code}] Moved."));
            }
            done(Completion::ok("MOVE completed."))
        })
    }))
}

type Arguments = (MailboxId, UidSet, Option<MailboxName>);

fn arguments(state: &State, lexer: &mut Lexer<'_>, by_uid: bool) -> Result<Arguments, BadCommand> {
    lexer.space()?;
    let set = lexer.sequence_set()?;
    lexer.space()?;
    let name = lexer.mailbox()?;
    lexer.end()?;
    let selected = state.selected().ok_or(BadCommand("No mailbox is selected."))?;
    let uids = set.resolve(&selected.view, by_uid)?.into_iter().map(|(_, uid)| uid).collect();
    Ok((selected.id, uids, name.ok()))
}

/// RFC 3501 §6.4.7: the target must exist, whatever is copied.
fn to_existing(uids: UidSet, to: MailboxName, then: impl FnOnce(UidSet, MailboxId) -> Next + Send + 'static) -> Next {
    mailboxes(move |_, infos| match find(&infos, &to) {
        None => done(Completion::try_create()),
        Some(_) if uids.is_empty() => done(Completion::ok("No messages were found.")),
        Some((_, to)) => then(uids, to),
    })
}

fn refusal(failure: CommitFailure) -> Completion {
    match failure {
        CommitFailure::Refused(ChangeError::NoSuchMailbox) => Completion::try_create(),
        other => other.into(),
    }
}

/// `COPYUID` with both sets in the same order; `None` when nothing was copied (RFC 4315 §3).
fn copy_uid(outcomes: &[Outcome]) -> Option<String> {
    let Some(Outcome::Copied { uid_validity, uids }) = outcomes.first() else { return None };
    if uids.is_empty() {
        return None;
    }
    let from: UidSet = uids.iter().map(|(from, _)| *from).collect();
    let to: UidSet = uids.iter().map(|(_, to)| *to).collect();
    Some(format!("COPYUID {uid_validity} {from} {to}"))
}
