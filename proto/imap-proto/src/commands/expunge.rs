//! EXPUNGE (RFC 3501 §6.4.3) and UID EXPUNGE (RFC 4315 §2.1).

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, commit, done};
use crate::state::{State, renewed};
use mail::{Change, Flags, Snapshot, UidSet};

pub(super) fn expunge(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.end()?;
    Ok(run(state, None))
}

pub(super) fn uid_expunge(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let set = lexer.sequence_set()?;
    lexer.end()?;
    let uids = state.selected().map(|selected| set.to_uids(&selected.view, true));
    Ok(run(state, uids))
}

/// The responses come with the renewal after the command.
fn run(state: &State, among: Option<UidSet>) -> Next {
    renewed(state, move |state| {
        let Some(selected) = state.selected() else { return done(Completion::nonexistent()) };
        if selected.view.read_only {
            return done(Completion::read_only());
        }
        let mut uids = deleted(&selected.view.latest);
        if let Some(among) = among {
            uids = uids.iter().filter(|uid| among.contains(*uid)).collect();
        }
        if uids.is_empty() {
            return done(Completion::ok("Nothing to expunge."));
        }
        let mailbox = selected.id;
        commit(vec![Change::Expunge { mailbox, uids, only_deleted: true }], |_, _| {
            done(Completion::ok("EXPUNGE completed."))
        })
    })
}

/// The messages marked `\Deleted`.
pub(super) fn deleted(snapshot: &Snapshot) -> UidSet {
    snapshot.iter().filter(|message| message.flags.contains(Flags::DELETED)).map(|message| message.uid).collect()
}
