//! CLOSE (RFC 3501 §6.4.2) and UNSELECT (RFC 3691).

use super::expunge::deleted;
use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, ask, commit, done};
use crate::question::Question;
use crate::state::State;
use mail::Change;

pub(super) fn close(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.end()?;
    let completion = Completion::ok("CLOSE completed.");
    let Some(selected) = state.selected().filter(|selected| !selected.view.read_only) else {
        state.unselect();
        return Ok(done(completion));
    };
    let mailbox = selected.id;
    Ok(ask(Question::Snapshots(vec![mailbox]), move |state, answer| {
        if state.renew(answer).is_err() {
            return done(Completion::unavailable());
        }
        // A mailbox that is gone has nothing left to expunge, and is left all the same.
        let lost = std::mem::take(&mut state.lost);
        let uids =
            state.selected().filter(|_| !lost).map(|selected| deleted(&selected.view.latest)).unwrap_or_default();
        if uids.is_empty() {
            state.unselect();
            return done(completion);
        }
        commit(vec![Change::Expunge { mailbox, uids, only_deleted: true }], |state, _| {
            state.unselect();
            done(completion)
        })
    }))
}

pub(super) fn unselect(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.end()?;
    state.unselect();
    Ok(done(Completion::ok("UNSELECT completed.")))
}
