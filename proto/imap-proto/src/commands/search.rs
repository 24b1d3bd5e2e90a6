//! SEARCH and UID SEARCH (RFC 3501 §6.4.4, §6.4.8, RFC 4731). What is found is decided in [`crate::search`].

use crate::fetch::RunStep;
use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, ask, done};
use crate::search::{self, SearchError, SearchRun};
use crate::state::{State, renewed};

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>, by_uid: bool) -> Result<Next, BadCommand> {
    lexer.space()?;
    let program = match search::parse(lexer) {
        Ok(program) => program,
        Err(SearchError::Bad(bad)) => return Err(bad),
        Err(SearchError::BadCharset) => {
            return Ok(done(Completion::no_code(SearchError::BADCHARSET, "That charset is not known here.")));
        }
    };
    state.offers("CONDSTORE", program.uses_modseq)?;
    state.offers("WITHIN", program.uses_within)?;
    state.offers("ESEARCH", program.returns.is_some())?;
    if program.uses_modseq {
        state.enable_condstore();
    }
    Ok(renewed(state, move |state| {
        let now = state.unix_seconds();
        let Some(selected) = state.selected() else { return done(Completion::nonexistent()) };
        let run = SearchRun::new(&selected.view, &program, by_uid, now);
        drive(state, run)
    }))
}

fn drive(state: &mut State, mut run: SearchRun) -> Next {
    match run.next(&mut state.out) {
        RunStep::Ask(question) => ask(question, move |state, answer| {
            run.answer(answer);
            drive(state, run)
        }),
        RunStep::More => Next::Flush(Box::new(move |state, ()| drive(state, run))),
        RunStep::Done if run.unavailable() => done(Completion::unavailable()),
        RunStep::Done => {
            run.render(&state.tag, &mut state.out);
            done(if run.unreadable() > 0 {
                Completion::ok("SEARCH completed, but some messages could not be read.")
            } else {
                Completion::ok("SEARCH completed.")
            })
        }
        RunStep::Failed => done(Completion::unavailable()),
    }
}
