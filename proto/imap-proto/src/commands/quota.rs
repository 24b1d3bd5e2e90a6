//! GETQUOTA, GETQUOTAROOT and SETQUOTA (RFC 9208). An account has one quota root.

use crate::encode;
use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, ask, done, mailboxes};
use crate::question::{Answer, Question};
use crate::state::{State, find};
use mail::{Quota, Usage};

/// Name of the quota root (R55).
const ROOT: &str = "User Quota";

pub(super) fn get_quota(_: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let root = lexer.astring()?.into_owned();
    lexer.end()?;
    if root != ROOT.as_bytes() {
        return Ok(done(Completion::no_code("NONEXISTENT", "No such quota root.")));
    }
    Ok(tell("GETQUOTA completed."))
}

pub(super) fn get_quota_root(_: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let name = lexer.mailbox()?;
    lexer.end()?;
    let Ok(name) = name else { return Ok(done(Completion::nonexistent())) };
    Ok(mailboxes(move |state, infos| {
        if find(&infos, &name).is_none() {
            return done(Completion::nonexistent());
        }
        state.out.extend_from_slice(b"* QUOTAROOT ");
        encode::mailbox(&mut state.out, &name);
        encode::text(&mut state.out, format_args!(" \"{ROOT}\"\r\n"));
        tell("GETQUOTAROOT completed.")
    }))
}

pub(super) fn set_quota(_: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    lexer.astring()?;
    lexer.space()?;
    lexer.expect(b'(')?;
    Ok(done(Completion::no_code("NOPERM", "Only the administrator can change a quota.")))
}

fn tell(text: &'static str) -> Next {
    ask(Question::Usage, move |state, answer| match answer {
        Answer::Usage(Ok((usage, quota))) => {
            let line = format!("QUOTA \"{ROOT}\" ({})", resources(usage, quota));
            state.untagged(&line);
            done(Completion::ok(text))
        }
        _ => done(Completion::unavailable()),
    })
}

/// RFC 9208 §5: only what has a limit is listed; STORAGE counts units of 1,024 octets.
fn resources(usage: Usage, quota: Quota) -> String {
    let storage = quota.octets_max.map(|max| format!("STORAGE {} {}", usage.octets.div_ceil(1_024), max / 1_024));
    let messages = quota.messages_max.map(|max| format!("MESSAGE {} {max}", usage.messages));
    storage.into_iter().chain(messages).collect::<Vec<_>>().join(" ")
}
