//! CAPABILITY (RFC 3501 §6.1.1).

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, done};
use crate::state::State;

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.end()?;
    let line = format!("CAPABILITY {}", state.capabilities());
    state.untagged(&line);
    Ok(done(Completion::ok("CAPABILITY completed.")))
}
