//! LIST and LSUB (RFC 3501 §6.3.8, §6.3.9), LIST with options (RFC 5258) and with STATUS (RFC 5819). Which names fit is
//! decided in [`crate::list`].

use super::status::{self, StatusItem};
use crate::config::STATUS_BATCH_MAILBOXES_MAX;
use crate::lexer::{BadCommand, Lexer};
use crate::list::{self, ListEntry};
use crate::next::{Completion, Next, ask, done, mailboxes};
use crate::question::{Answer, Question};
use crate::state::State;
use mail::{MailboxId, MailboxName};
use std::collections::VecDeque;

pub(super) fn list(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let (command, items) = list::parse_list(lexer, status::items)?;
    lexer.end()?;
    state.offers("LIST-EXTENDED", command.extended)?;
    state.offers("SPECIAL-USE", command.select.special_use)?;
    state.offers("LIST-STATUS", items.is_some())?;
    let items = items.unwrap_or_default();
    status::enable(state, &items)?;
    if command.root_only {
        list::write_root(&mut state.out, false);
        return Ok(done(Completion::ok("LIST completed.")));
    }
    Ok(mailboxes(move |state, infos| {
        let entries = list::list(&command, &infos);
        entries.iter().for_each(|entry| list::write_list(&mut state.out, entry));
        if items.is_empty() {
            return done(Completion::ok("LIST completed."));
        }
        // RFC 5819 §2: only what fits the patterns itself, and exists, has a status.
        let existing = |entry: ListEntry| Some((entry.id.filter(|_| entry.selected)?, entry.name));
        tell_status(entries.into_iter().filter_map(existing).collect(), items)
    }))
}

pub(super) fn lsub(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let command = list::parse_lsub(lexer)?;
    lexer.end()?;
    if command.root_only {
        list::write_root(&mut state.out, true);
        return Ok(done(Completion::ok("LSUB completed.")));
    }
    Ok(mailboxes(move |state, infos| {
        list::lsub(&command, &infos).iter().for_each(|entry| list::write_lsub(&mut state.out, entry));
        done(Completion::ok("LSUB completed."))
    }))
}

/// Tells the status of some mailboxes, then of the rest.
fn tell_status(mut names: VecDeque<(MailboxId, MailboxName)>, items: Vec<StatusItem>) -> Next {
    let rest = names.split_off(names.len().min(STATUS_BATCH_MAILBOXES_MAX));
    if names.is_empty() {
        return done(Completion::ok("LIST completed."));
    }
    let ids = names.iter().map(|(id, _)| *id).collect();
    ask(Question::Snapshots(ids), move |state, answer| {
        let Answer::Snapshots(Ok(snapshots)) = answer else { return done(Completion::unavailable()) };
        for ((_, name), snapshot) in names.iter().zip(snapshots) {
            // A mailbox that was deleted meanwhile has no status.
            if let Some(snapshot) = snapshot {
                status::write(state, name, &snapshot, &items);
            }
        }
        tell_status(rest, items)
    })
}
