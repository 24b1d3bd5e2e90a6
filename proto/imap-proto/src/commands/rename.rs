//! RENAME (RFC 3501 §6.3.5).

use crate::lexer::{BadCommand, Lexer};
use crate::mutf7;
use crate::next::{Completion, Next, commit, done, mailboxes};
use crate::state::State;
use mail::mailbox::SEPARATOR;
use mail::{Change, MailboxInfo, MailboxName, MailboxRef, Uid, UidSet};

pub(super) fn run(_: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let from = lexer.mailbox()?;
    lexer.space()?;
    let to = mutf7::decode(&lexer.astring()?).ok();
    lexer.end()?;
    let Ok(from) = from else { return Ok(done(Completion::nonexistent())) };
    let to = to.and_then(|name| MailboxName::parse(name.strip_suffix(SEPARATOR).unwrap_or(&name)).ok());
    let Some(to) = to else { return Ok(done(Completion::impossible_name())) };
    Ok(mailboxes(move |_, infos| match changes(&infos, &from, &to) {
        Ok(changes) => commit(changes, move |state, _| {
            if let Some(selected) = state.selected_mut().filter(|_| !from.is_inbox())
                && let Some(name) = renamed(&selected.name, &from, &to)
            {
                selected.name = name;
            }
            done(Completion::ok("RENAME completed."))
        }),
        Err(refusal) => done(refusal),
    }))
}

/// What a RENAME comes to, or why it cannot be.
fn changes(infos: &[MailboxInfo], from: &MailboxName, to: &MailboxName) -> Result<Vec<Change>, Completion> {
    let id_of = |name: &MailboxName| infos.iter().find(|info| info.name == *name).and_then(|info| info.id);
    if id_of(to).is_some() || to.is_inbox() {
        return Err(Completion::no_code("ALREADYEXISTS", "A mailbox of that name exists."));
    }
    if from.is_inbox() {
        let inbox = id_of(from).ok_or_else(Completion::nonexistent)?;
        // RFC 3501 §6.3.5: renaming INBOX moves its messages to a new mailbox; it stays, and so do its inferiors.
        let mut uids = UidSet::new();
        uids.insert_range(Uid(1), Uid(u32::MAX));
        let create = Change::CreateMailbox { name: to.clone(), special_use: None };
        return Ok(vec![create, Change::Move { from: inbox, uids, to: MailboxRef::Named(to.clone()) }]);
    }
    if to.is_inferior_of(from) {
        return Err(Completion::no_code("CANNOT", "A mailbox cannot become its own inferior."));
    }
    // What lies below moves along, and its new name must be one.
    let below = infos.iter().filter(|info| info.id.is_some() && info.name.is_inferior_of(from));
    if below.into_iter().any(|info| renamed(&info.name, from, to).is_none()) {
        return Err(Completion::no_code("CANNOT", "The name of a mailbox below would be too long or too deep."));
    }
    if let Some(mailbox) = id_of(from) {
        return Ok(vec![Change::RenameMailbox { mailbox, name: to.clone() }]);
    }
    level_changes(infos, from, to)
}

/// A level that is no mailbox is renamed by renaming what is below it; each rename takes its inferiors along.
fn level_changes(infos: &[MailboxInfo], from: &MailboxName, to: &MailboxName) -> Result<Vec<Change>, Completion> {
    let mut changes = Vec::new();
    // Names come in order, but `a-b` stands between `a` and `a/c`: the topmost mailboxes are found by their superiors.
    let below = || infos.iter().filter(|info| info.id.is_some() && info.name.is_inferior_of(from));
    let names: std::collections::HashSet<&MailboxName> = below().map(|info| &info.name).collect();
    for info in below().filter(|info| !info.name.superiors().any(|superior| names.contains(&superior))) {
        let name = renamed(&info.name, from, to).ok_or_else(Completion::impossible_name)?;
        changes.extend(info.id.map(|mailbox| Change::RenameMailbox { mailbox, name }));
    }
    if changes.is_empty() { Err(Completion::nonexistent()) } else { Ok(changes) }
}

/// The new name of `name`, if it is `from` or lies below it.
fn renamed(name: &MailboxName, from: &MailboxName, to: &MailboxName) -> Option<MailboxName> {
    if name == from {
        return Some(to.clone());
    }
    let rest = name.as_str().strip_prefix(from.as_str()).filter(|_| name.is_inferior_of(from))?;
    MailboxName::parse(&format!("{to}{rest}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::{MailboxId, UidValidity};

    fn info(name: &str, id: Option<u64>) -> MailboxInfo {
        MailboxInfo {
            id: id.map(MailboxId),
            name: MailboxName::parse(name).unwrap(),
            special_use: None,
            subscribed: false,
            uid_validity: UidValidity(1),
        }
    }

    #[test]
    fn a_level_is_renamed_with_its_topmost_mailboxes() {
        let infos = [
            info("a", None),
            info("a/b", Some(1)),
            info("a/b/c", Some(2)),
            info("a/d/e", Some(3)),
            info("ab", Some(4)),
        ];
        let name = |text| MailboxName::parse(text).unwrap();
        let changes = changes(&infos, &name("a"), &name("x/y")).unwrap();
        let rename = |id, to| Change::RenameMailbox { mailbox: MailboxId(id), name: name(to) };
        assert_eq!(changes, [rename(1, "x/y/b"), rename(3, "x/y/d/e")]);
    }
}
