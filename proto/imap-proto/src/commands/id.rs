//! ID (RFC 2971): the client tells its name, for the log.

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, ask, done};
use crate::question::Question;
use crate::state::State;

/// RFC 2971 §3.3: at most thirty pairs.
const PAIRS_MAX: usize = 30;
/// RFC 2971 §3.3: field names have at most 30 octets.
const FIELD_OCTETS_MAX: usize = 30;
/// RFC 2971 §3.3: values have at most 1,024 octets.
const VALUE_OCTETS_MAX: usize = 1_024;

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let pairs = pairs(lexer)?;
    lexer.end()?;
    state.untagged("ID (\"name\" \"pillarbox\")");
    let completion = Completion::ok("ID completed.");
    if pairs.is_empty() {
        return Ok(done(completion));
    }
    Ok(ask(Question::ClientId(pairs), |_, _| done(completion)))
}

fn pairs(lexer: &mut Lexer<'_>) -> Result<Vec<(String, String)>, BadCommand> {
    let mut pairs = Vec::new();
    if !lexer.eat(b'(') {
        let nothing = lexer.nstring()?;
        return if nothing.is_none() { Ok(pairs) } else { Err(BadCommand("ID takes a list or NIL.")) };
    }
    if lexer.eat(b')') {
        return Ok(pairs);
    }
    loop {
        let field = lexer.string()?;
        lexer.space()?;
        let value = lexer.nstring()?.unwrap_or_default();
        if pairs.len() >= PAIRS_MAX || field.len() > FIELD_OCTETS_MAX || value.len() > VALUE_OCTETS_MAX {
            return Err(BadCommand("Too much in an ID."));
        }
        pairs.push((for_log(&field), for_log(&value)));
        if lexer.eat(b')') {
            return Ok(pairs);
        }
        lexer.space()?;
    }
}

/// Text that cannot break a line of the log.
fn for_log(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
