//! IDLE (RFC 2177). The waiting itself is the session's.

use crate::lexer::{BadCommand, Lexer};
use crate::next::Next;
use crate::state::State;

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.end()?;
    state.out.extend_from_slice(b"+ idling\r\n");
    Ok(Next::Idle)
}
