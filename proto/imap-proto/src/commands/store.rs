//! STORE and UID STORE (RFC 3501 §6.4.6), conditional too (RFC 7162 §3.1.3).

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, ask, commit, done};
use crate::question::Question;
use crate::state::{State, Told};
use crate::view::View;
use mail::{Change, FlagEdit, FlagSet, Message, ModSeq, Outcome, Snapshot, Uid, UidSet};

/// What a STORE says beside the messages.
struct Arguments {
    edit: FlagEdit,
    silent: bool,
    flags: FlagSet,
    by_uid: bool,
}

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>, by_uid: bool) -> Result<Next, BadCommand> {
    lexer.space()?;
    let set = lexer.sequence_set()?;
    lexer.space()?;
    let unchanged_since = modifiers(lexer)?;
    let (edit, silent) = item(lexer)?;
    lexer.space()?;
    let flags = flags(lexer)?;
    lexer.end()?;
    state.offers("CONDSTORE", unchanged_since.is_some())?;
    if unchanged_since.is_some() {
        state.enable_condstore();
    }
    let selected = state.selected().ok_or(BadCommand("No mailbox is selected."))?;
    let targets = set.resolve(&selected.view, by_uid)?;
    if selected.view.read_only {
        return Ok(done(Completion::read_only()));
    }
    if targets.is_empty() {
        return Ok(done(Completion::ok("No messages were found.")));
    }
    let arguments = Arguments { edit, silent, flags, by_uid };
    let change = Change::StoreFlags {
        mailbox: selected.id,
        uids: targets.iter().map(|(_, uid)| *uid).collect(),
        edit,
        flags: arguments.flags.clone(),
        unchanged_since,
    };
    Ok(commit(vec![change], move |state, outcomes| {
        let Some(Outcome::Flagged { stored, modified, .. }) = outcomes.into_iter().next() else {
            return done(Completion::unavailable());
        };
        let Some(mailbox) = state.selected().map(|selected| selected.id) else {
            return done(Completion::nonexistent());
        };
        ask(Question::Snapshots(vec![mailbox]), move |state, answer| {
            // What is stored is stored: where the new picture cannot be had, the responses wait for a later command.
            let _ = state.renew(answer);
            respond(state, &arguments, &targets, &stored, &modified)
        })
    }))
}

/// `(UNCHANGEDSINCE n)`, if it is there.
fn modifiers(lexer: &mut Lexer<'_>) -> Result<Option<ModSeq>, BadCommand> {
    if !lexer.eat(b'(') {
        return Ok(None);
    }
    if !lexer.atom()?.eq_ignore_ascii_case("UNCHANGEDSINCE") {
        return Err(BadCommand("Unknown modifier."));
    }
    lexer.space()?;
    let mod_sequence = lexer.mod_sequence()?;
    lexer.expect(b')')?;
    lexer.space()?;
    Ok(Some(mod_sequence))
}

fn item(lexer: &mut Lexer<'_>) -> Result<(FlagEdit, bool), BadCommand> {
    let edit = if lexer.eat(b'+') {
        FlagEdit::Add
    } else if lexer.eat(b'-') {
        FlagEdit::Remove
    } else {
        FlagEdit::Replace
    };
    let name = lexer.atom()?;
    if name.eq_ignore_ascii_case("FLAGS") {
        Ok((edit, false))
    } else if name.eq_ignore_ascii_case("FLAGS.SILENT") {
        Ok((edit, true))
    } else {
        Err(BadCommand("STORE changes FLAGS or FLAGS.SILENT."))
    }
}

/// A list in parentheses, or bare flags (RFC 3501 §9, store-att-flags).
fn flags(lexer: &mut Lexer<'_>) -> Result<FlagSet, BadCommand> {
    if lexer.peek() == Some(b'(') {
        return lexer.flag_list();
    }
    let mut flags = FlagSet::default();
    loop {
        lexer.flag(&mut flags)?;
        if lexer.at_end() {
            return Ok(flags);
        }
        lexer.space()?;
    }
}

fn respond(
    state: &mut State,
    arguments: &Arguments,
    targets: &[(u32, Uid)],
    stored: &UidSet,
    modified: &UidSet,
) -> Next {
    let condstore = state.condstore;
    let what = match (arguments.silent, arguments.by_uid) {
        (false, false) => Told::Flags,
        (false, true) => Told::UidAndFlags,
        (true, false) => Told::Nothing,
        (true, true) => Told::UidOnly,
    };
    let mut told = UidSet::new();
    let mut responses = Vec::new();
    let Some(selected) = state.selected() else { return done(Completion::nonexistent()) };
    let view = &selected.view;
    for (number, uid) in targets.iter().filter(|(_, uid)| stored.contains(*uid)) {
        let Some(message) = view.latest.by_uid(*uid) else { continue };
        if !arguments.silent {
            responses.push((*number, *message));
            told.insert(*uid);
        } else if as_expected(arguments, view, message) {
            // RFC 7162 §3.1.3: mod-sequences are told even when the flags are not.
            if condstore {
                responses.push((*number, *message));
            }
            told.insert(*uid);
        }
    }
    state.tell_new_keywords();
    for (number, message) in responses {
        state.tell_flags(number, &message, what);
    }
    state.told = told;
    done(completion(arguments, targets, modified))
}

/// Whether the flags are what a client expects that knows the old ones and has not asked to be told the new ones. If
/// not, another session has changed them too, and that must be told.
fn as_expected(arguments: &Arguments, view: &View, message: &Message) -> bool {
    let Some(known) = view.numbering.by_uid(message.uid) else { return false };
    let flags = arguments.flags.flags;
    let flags_fit = match arguments.edit {
        FlagEdit::Add => message.flags == known.flags.union(flags),
        FlagEdit::Remove => message.flags == known.flags.without(flags),
        FlagEdit::Replace => message.flags == flags,
    };
    let bits = |snapshot: &Snapshot, message: &Message| -> u64 {
        let names = snapshot.keywords_of(message);
        names.filter_map(|keyword| view.latest.keyword_bit(keyword)).fold(0, |bits, bit| bits | 1 << (bit & 63))
    };
    let named = arguments.flags.keywords.iter().filter_map(|keyword| view.latest.keyword_bit(keyword));
    let named = named.fold(0u64, |bits, bit| bits | 1 << (bit & 63));
    let (old, new) = (bits(&view.numbering, known), bits(&view.latest, message));
    flags_fit
        && new
            == match arguments.edit {
                FlagEdit::Add => old | named,
                FlagEdit::Remove => old & !named,
                FlagEdit::Replace => named,
            }
}

fn completion(arguments: &Arguments, targets: &[(u32, Uid)], modified: &UidSet) -> Completion {
    if modified.is_empty() {
        return Completion::ok("STORE completed.");
    }
    // RFC 7162 §3.1.3: the messages left alone, numbered the way the command does.
    let left: UidSet = if arguments.by_uid {
        modified.clone()
    } else {
        targets.iter().filter(|(_, uid)| modified.contains(*uid)).map(|(number, _)| Uid(*number)).collect()
    };
    Completion::ok_code(format!("MODIFIED {left}"), "Some messages have changed and were left alone.")
}
