//! The commands: which there are, when they are allowed, and what happens around them. Each stands in its own file.

pub(crate) mod append;
mod authenticate;
mod capability;
mod close;
mod copy;
mod create;
mod delete;
mod enable;
mod expunge;
mod fetch;
mod id;
mod idle;
mod list;
mod login;
mod logout;
mod namespace;
mod noop;
mod quota;
mod rename;
mod search;
mod select;
mod starttls;
mod status;
mod store;
mod subscribe;

use crate::config::TAG_OCTETS_MAX;
use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, done};
use crate::state::{Phase, State};
use mail::UidSet;

/// What a command needs of the session's phase (RFC 3501 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// That nobody has logged in yet.
    NoLogin,
    /// A login.
    Login,
    /// A selected mailbox.
    Mailbox,
}

/// What the client is told before the tagged response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing.
    Nothing,
    /// What changed up to the picture that the command has seen.
    Tell {
        /// Whether expunges may be told.
        expunge: bool,
    },
    /// What changed up to now.
    Renew,
}

/// One command.
struct Entry {
    name: &'static str,
    needs: Needs,
    after: After,
    run: fn(&mut State, &mut Lexer<'_>) -> Result<Next, BadCommand>,
    /// The capability without which there is no such command.
    capability: Option<&'static str>,
}

const fn entry(
    name: &'static str,
    needs: Needs,
    after: After,
    run: fn(&mut State, &mut Lexer<'_>) -> Result<Next, BadCommand>,
) -> Entry {
    Entry { name, needs, after, run, capability: None }
}

impl Entry {
    const fn of(self, capability: &'static str) -> Entry {
        Entry { capability: Some(capability), ..self }
    }
}

// RFC 3501 §7.4.1: no EXPUNGE response while FETCH, STORE or SEARCH is answered, since the client may have sent more
// commands with sequence numbers. The UID forms do not count among them (RFC 3501 §6.4.8).
const NO_EXPUNGE: After = After::Tell { expunge: false };
const EXPUNGE: After = After::Tell { expunge: true };

const COMMANDS: [Entry; 39] = [
    entry("CAPABILITY", Needs::Nothing, After::Renew, capability::run),
    entry("NOOP", Needs::Nothing, After::Renew, noop::run),
    entry("LOGOUT", Needs::Nothing, After::Nothing, logout::run),
    entry("ID", Needs::Nothing, After::Nothing, id::run).of("ID"),
    entry("STARTTLS", Needs::NoLogin, After::Nothing, starttls::run).of("STARTTLS"),
    entry("AUTHENTICATE", Needs::NoLogin, After::Nothing, authenticate::run),
    entry("LOGIN", Needs::NoLogin, After::Nothing, login::run),
    entry("ENABLE", Needs::Login, After::Nothing, enable::run).of("ENABLE"),
    entry("SELECT", Needs::Login, After::Nothing, select::select),
    entry("EXAMINE", Needs::Login, After::Nothing, select::examine),
    entry("CREATE", Needs::Login, After::Renew, create::run),
    entry("DELETE", Needs::Login, After::Renew, delete::run),
    entry("RENAME", Needs::Login, After::Renew, rename::run),
    entry("SUBSCRIBE", Needs::Login, After::Renew, subscribe::subscribe),
    entry("UNSUBSCRIBE", Needs::Login, After::Renew, subscribe::unsubscribe),
    entry("LIST", Needs::Login, After::Renew, list::list),
    entry("LSUB", Needs::Login, After::Renew, list::lsub),
    entry("NAMESPACE", Needs::Login, After::Renew, namespace::run).of("NAMESPACE"),
    entry("STATUS", Needs::Login, After::Renew, status::run),
    entry("APPEND", Needs::Login, After::Nothing, append::without_message),
    entry("IDLE", Needs::Login, After::Renew, idle::run).of("IDLE"),
    entry("GETQUOTA", Needs::Login, After::Renew, quota::get_quota).of("QUOTA"),
    entry("GETQUOTAROOT", Needs::Login, After::Renew, quota::get_quota_root).of("QUOTA"),
    entry("SETQUOTA", Needs::Login, After::Renew, quota::set_quota).of("QUOTA"),
    entry("CHECK", Needs::Mailbox, After::Renew, noop::run),
    entry("CLOSE", Needs::Mailbox, After::Nothing, close::close),
    entry("UNSELECT", Needs::Mailbox, After::Nothing, close::unselect).of("UNSELECT"),
    entry("EXPUNGE", Needs::Mailbox, After::Renew, expunge::expunge),
    entry("SEARCH", Needs::Mailbox, NO_EXPUNGE, |state, lexer| search::run(state, lexer, false)),
    entry("FETCH", Needs::Mailbox, NO_EXPUNGE, |state, lexer| fetch::run(state, lexer, false)),
    entry("STORE", Needs::Mailbox, NO_EXPUNGE, |state, lexer| store::run(state, lexer, false)),
    entry("COPY", Needs::Mailbox, After::Renew, |state, lexer| copy::copy(state, lexer, false)),
    entry("MOVE", Needs::Mailbox, After::Renew, |state, lexer| copy::move_(state, lexer, false)).of("MOVE"),
    entry("UID SEARCH", Needs::Mailbox, EXPUNGE, |state, lexer| search::run(state, lexer, true)),
    entry("UID FETCH", Needs::Mailbox, EXPUNGE, |state, lexer| fetch::run(state, lexer, true)),
    entry("UID STORE", Needs::Mailbox, EXPUNGE, |state, lexer| store::run(state, lexer, true)),
    entry("UID COPY", Needs::Mailbox, After::Renew, |state, lexer| copy::copy(state, lexer, true)),
    entry("UID MOVE", Needs::Mailbox, After::Renew, |state, lexer| copy::move_(state, lexer, true)).of("MOVE"),
    entry("UID EXPUNGE", Needs::Mailbox, After::Renew, expunge::uid_expunge).of("UIDPLUS"),
];

/// Begins a complete command. `after` becomes what is to happen before its tagged response.
pub(crate) fn run(state: &mut State, command: &[u8], after: &mut After) -> Next {
    let mut lexer = Lexer::new(command);
    state.told = UidSet::new();
    state.tag.clear();
    match lexer.tag() {
        Ok(tag) if tag.len() <= TAG_OCTETS_MAX => state.tag.push_str(tag),
        _ => {
            state.tag.push('*');
            return done(Completion::bad("Missing or malformed tag."));
        }
    }
    match begin(state, &mut lexer, after) {
        Ok(next) => next,
        Err(BadCommand(text)) => done(Completion::bad(text)),
    }
}

fn begin(state: &mut State, lexer: &mut Lexer<'_>, after: &mut After) -> Result<Next, BadCommand> {
    lexer.space()?;
    // D10: what is masked is as unknown as what we never heard of.
    let known = |entry: &&Entry| entry.capability.is_none_or(|capability| state.config.offers(capability));
    let entry = find(lexer)?.filter(known).ok_or(BadCommand("Unknown command."))?;
    if let Some(refusal) = refusal(state, entry.needs) {
        return Err(BadCommand(refusal));
    }
    *after = entry.after;
    (entry.run)(state, lexer)
}

fn find(lexer: &mut Lexer<'_>) -> Result<Option<&'static Entry>, BadCommand> {
    let word = lexer.atom()?;
    Ok(if word.eq_ignore_ascii_case("UID") {
        lexer.space()?;
        let word = lexer.atom()?;
        COMMANDS
            .iter()
            .find(|entry| entry.name.strip_prefix("UID ").is_some_and(|name| name.eq_ignore_ascii_case(word)))
    } else {
        COMMANDS.iter().find(|entry| entry.name.eq_ignore_ascii_case(word))
    })
}

fn refusal(state: &State, needs: Needs) -> Option<&'static str> {
    match (needs, &state.phase) {
        (Needs::Nothing, _) | (Needs::NoLogin, Phase::NotAuthenticated) => None,
        (Needs::NoLogin, _) => Some("Already logged in."),
        (Needs::Login | Needs::Mailbox, Phase::NotAuthenticated) => Some("Please log in first."),
        (Needs::Login, _) | (Needs::Mailbox, Phase::Selected(_)) => None,
        (Needs::Mailbox, Phase::Authenticated) => Some("No mailbox is selected."),
    }
}
