//! CREATE (RFC 3501 §6.3.3), with a role (RFC 6154 §3).

use crate::lexer::{BadCommand, Lexer};
use crate::mutf7;
use crate::next::{Completion, Next, commit, done};
use crate::state::State;
use mail::mailbox::SEPARATOR;
use mail::{Change, MailboxName, SpecialUse};

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let name = lexer.astring()?;
    let has_uses = lexer.eat(b' ');
    let uses = if has_uses { uses(lexer)? } else { Some(None) };
    lexer.end()?;
    state.offers("CREATE-SPECIAL-USE", has_uses)?;
    // RFC 3501 §6.3.3: a separator at the end announces that inferiors will come; any mailbox may have them here.
    let name = mutf7::decode(&name).ok();
    let name = name.and_then(|name| MailboxName::parse(name.strip_suffix(SEPARATOR).unwrap_or(&name)).ok());
    let Some(name) = name else { return Ok(done(Completion::impossible_name())) };
    let Some(special_use) = uses else {
        return Ok(done(Completion::no_code("USEATTR", "A mailbox has one role here, of those we know.")));
    };
    if name.is_inbox() {
        return Ok(done(Completion::no_code("ALREADYEXISTS", "INBOX exists always.")));
    }
    Ok(commit(vec![Change::CreateMailbox { name, special_use }], |_, _| done(Completion::ok("CREATE completed."))))
}

/// `(USE (\Sent))`. The outer option is `None` for what cannot be met: several roles, or an unknown one.
fn uses(lexer: &mut Lexer<'_>) -> Result<Option<Option<SpecialUse>>, BadCommand> {
    /// More roles than there are.
    const USES_MAX: usize = 16;
    lexer.expect(b'(')?;
    if !lexer.atom()?.eq_ignore_ascii_case("USE") {
        return Err(BadCommand("Unknown parameter."));
    }
    lexer.space()?;
    lexer.expect(b'(')?;
    let mut attributes = Vec::new();
    while !lexer.eat(b')') {
        if !attributes.is_empty() {
            lexer.space()?;
        }
        lexer.expect(b'\\')?;
        attributes.push(lexer.atom()?);
        if attributes.len() > USES_MAX {
            return Err(BadCommand("Too many roles."));
        }
    }
    lexer.expect(b')')?;
    let known = |attribute: &str| {
        SpecialUse::NAMES.into_iter().find_map(|(name, special_use)| {
            name.strip_prefix('\\').is_some_and(|name| name.eq_ignore_ascii_case(attribute)).then_some(special_use)
        })
    };
    Ok(match attributes[..] {
        [] => Some(None),
        [attribute] => known(attribute).map(Some),
        _ => None,
    })
}
