//! NAMESPACE (RFC 2342): one personal namespace, without prefix.

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, done};
use crate::state::State;
use mail::mailbox::SEPARATOR;

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.end()?;
    state.untagged(&format!("NAMESPACE ((\"\" \"{SEPARATOR}\")) NIL NIL"));
    Ok(done(Completion::ok("NAMESPACE completed.")))
}
