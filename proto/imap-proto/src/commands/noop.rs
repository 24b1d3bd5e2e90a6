//! NOOP and CHECK (RFC 3501 §6.1.2, §6.4.1): changes are told, nothing else happens.

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, done};
use crate::state::State;

pub(super) fn run(_: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.end()?;
    Ok(done(Completion::ok("Completed.")))
}
