//! FETCH and UID FETCH (RFC 3501 §6.4.5, §6.4.8): which messages, and `\Seen`. The responses are written by
//! [`crate::fetch`].

use crate::fetch::{self, FetchItems, FetchRun, Item, RunStep};
use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, ask, done};
use crate::question::{Answer, Question};
use crate::sequence_set::SequenceSet;
use crate::state::{State, renewed};
use mail::{Change, FlagEdit, FlagSet, Flags, Uid, UidSet};
use std::sync::Arc;

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>, by_uid: bool) -> Result<Next, BadCommand> {
    lexer.space()?;
    let set = lexer.sequence_set()?;
    lexer.space()?;
    let items = fetch::parse(lexer)?;
    lexer.end()?;
    state.offers("CONDSTORE", items.enables_condstore())?;
    if items.enables_condstore() {
        state.enable_condstore();
    }
    Ok(renewed(state, move |state| begin(state, set, items, by_uid)))
}

fn begin(state: &mut State, set: SequenceSet, items: FetchItems, by_uid: bool) -> Next {
    let Some(selected) = state.selected() else { return done(Completion::nonexistent()) };
    let view = &selected.view;
    let targets = match set.resolve(view, by_uid) {
        Ok(targets) => targets,
        Err(BadCommand(text)) => return done(Completion::bad(text)),
    };
    // RFC 3501 §6.4.5: fetching octets sets `\Seen`, and the client is told. Not in a mailbox opened by EXAMINE.
    let mut fresh = UidSet::new();
    if items.sets_seen() && !view.read_only {
        let unseen = |uid: &Uid| view.latest.by_uid(*uid).is_some_and(|message| !message.flags.contains(Flags::SEEN));
        targets.iter().map(|(_, uid)| *uid).filter(unseen).for_each(|uid| fresh.insert(uid));
    }
    if fresh.is_empty() {
        return respond(state, items, targets, by_uid, fresh);
    }
    let change = Change::StoreFlags {
        mailbox: selected.id,
        uids: fresh.clone(),
        edit: FlagEdit::Add,
        flags: FlagSet::system(Flags::SEEN),
        unchanged_since: None,
    };
    ask(Question::Commit(vec![change]), move |state, answer| {
        // Whoever can read must not be kept from it by a store that cannot commit: the marks are lost, not the mail.
        if !matches!(answer, Answer::Committed(Ok(_))) {
            return respond(state, items, targets, by_uid, UidSet::new());
        }
        renewed(state, move |state| respond(state, items, targets, by_uid, fresh))
    })
}

fn respond(state: &mut State, items: FetchItems, targets: Vec<(u32, Uid)>, by_uid: bool, announced: UidSet) -> Next {
    state.tell_new_keywords();
    let unchanged =
        state.selected().is_some_and(|selected| Arc::ptr_eq(&selected.view.numbering, &selected.view.latest));
    // With CHANGEDSINCE, messages are passed over whose flags then still have to be told.
    let told = if !unchanged && items.items.contains(&Item::Flags) && items.changed_since.is_none() {
        targets.iter().map(|(_, uid)| *uid).collect()
    } else {
        announced.clone()
    };
    let condstore = state.condstore;
    let Some(selected) = state.selected() else { return done(Completion::nonexistent()) };
    let run = FetchRun::new(items, &selected.view, targets, by_uid, announced, condstore);
    state.told = told;
    drive(state, run)
}

fn drive(state: &mut State, mut run: FetchRun) -> Next {
    match run.next(&mut state.out) {
        RunStep::Ask(question) => ask(question, move |state, answer| {
            run.answer(answer);
            drive(state, run)
        }),
        RunStep::More => Next::Flush(Box::new(move |state, ()| drive(state, run))),
        RunStep::Done => done(completion(&run)),
        RunStep::Failed => Next::Close,
    }
}

fn completion(run: &FetchRun) -> Completion {
    if run.unavailable() {
        return Completion::unavailable();
    }
    if run.unreadable() > 0 {
        return Completion::no_code("CORRUPTION", "Some messages could not be read.");
    }
    // RFC 5530 §3: other sessions have expunged what this one asked for.
    if run.expunged() > 0 {
        return Completion::no_code("EXPUNGEISSUED", "Some messages were expunged meanwhile.");
    }
    Completion::ok("FETCH completed.")
}
