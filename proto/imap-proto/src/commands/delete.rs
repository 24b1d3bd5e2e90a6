//! DELETE (RFC 3501 §6.3.4).

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, commit, done, mailboxes};
use crate::state::State;
use mail::{Change, ChangeError};

pub(super) fn run(_: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let name = lexer.mailbox()?;
    lexer.end()?;
    let Ok(name) = name else { return Ok(done(Completion::nonexistent())) };
    if name.is_inbox() {
        return Ok(done(ChangeError::Inbox.into()));
    }
    Ok(mailboxes(move |_, infos| {
        match infos.iter().find(|info| info.name == name).and_then(|info| info.id) {
            // RFC 9051 §6.3.5: a mailbox with inferiors may be deleted; its name stays as a level above them.
            Some(mailbox) => commit(vec![Change::DeleteMailbox { mailbox }], move |state, _| {
                if state.selected().is_some_and(|selected| selected.id == mailbox) {
                    state.unselect();
                    state.untagged("OK [CLOSED] The selected mailbox is deleted.");
                }
                done(Completion::ok("DELETE completed."))
            }),
            // RFC 9051 §6.3.5: such a level itself cannot be deleted.
            None if infos.iter().any(|info| info.id.is_some() && info.name.is_inferior_of(&name)) => {
                done(Completion::no_code("HASCHILDREN", "Only a level above other mailboxes has that name."))
            }
            None => done(Completion::nonexistent()),
        }
    }))
}
