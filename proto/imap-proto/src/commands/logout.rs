//! LOGOUT (RFC 3501 §6.1.3).

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next};
use crate::state::State;

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.end()?;
    state.untagged("BYE Logging out.");
    Ok(Next::Logout(Completion::ok("LOGOUT completed.")))
}
