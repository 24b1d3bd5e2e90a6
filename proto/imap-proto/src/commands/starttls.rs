//! STARTTLS (RFC 3501 §6.2.1).

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next};
use crate::state::State;

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.end()?;
    if state.tls.is_some() {
        return Err(BadCommand("TLS is active already."));
    }
    if !state.config.tls_available {
        return Err(BadCommand("TLS is not available."));
    }
    Ok(Next::StartTls(Completion::ok("Begin TLS negotiation now.")))
}
