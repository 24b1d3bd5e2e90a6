//! ENABLE (RFC 5161).

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, done};
use crate::state::State;

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    let mut condstore = false;
    lexer.space()?;
    loop {
        // RFC 5161 §3.1: what is not known, or need not be enabled, is passed over.
        condstore |= lexer.atom()?.eq_ignore_ascii_case("CONDSTORE");
        if lexer.at_end() {
            break;
        }
        lexer.space()?;
    }
    let newly = condstore && !state.condstore && state.config.offers("CONDSTORE");
    state.untagged(if newly { "ENABLED CONDSTORE" } else { "ENABLED" });
    if newly {
        state.enable_condstore();
    }
    Ok(done(Completion::ok("ENABLE completed.")))
}
