//! SUBSCRIBE and UNSUBSCRIBE (RFC 3501 §6.3.6, §6.3.7). A name may be subscribed that no mailbox has.

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, commit, done};
use crate::state::State;
use mail::Change;

pub(super) fn subscribe(_: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    run(lexer, true)
}

pub(super) fn unsubscribe(_: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    run(lexer, false)
}

fn run(lexer: &mut Lexer<'_>, subscribed: bool) -> Result<Next, BadCommand> {
    lexer.space()?;
    let name = lexer.mailbox()?;
    lexer.end()?;
    let Ok(name) = name else { return Ok(done(Completion::nonexistent())) };
    Ok(commit(vec![Change::Subscribe { name, subscribed }], |_, _| done(Completion::ok("Completed."))))
}
