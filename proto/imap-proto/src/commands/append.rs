//! APPEND (RFC 3501 §6.3.11) of one message or several (RFC 3502). Messages are passed on as they come and never held.

use crate::config::MESSAGES_PER_APPEND_MAX;
use crate::input::{Fragment, LiteralHead};
use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, ask, commit_or, done};
use crate::question::{Answer, CommitFailure, INTERNAL_DATE_NOW, Question};
use crate::state::{State, find};
use mail::{Change, ChangeError, FlagSet, InternalDate, MailboxId, MailboxName, MailboxRef, Outcome, Quota, UidSet};

/// From this size in octets on, the quota is looked at before a message is sent to us; the commit looks at it always.
const EARLY_QUOTA_OCTETS: u64 = 64 * 1_024;

/// What is known of the command so far.
struct Append {
    to: MailboxId,
    /// One change for each message staged.
    staged: Vec<Change>,
    octets: u64,
}

/// What stands before a message.
struct Options {
    flags: FlagSet,
    internal_date: InternalDate,
}

/// Begins APPEND when `command`, which goes on with the literal `head`, has come to a message. `None` when it is another
/// command, or the literal is the mailbox name.
pub(crate) fn begin(state: &mut State, command: &[u8], head: LiteralHead) -> Option<Next> {
    let mut lexer = Lexer::new(command);
    let tag = lexer.tag().ok()?;
    lexer.space().ok()?;
    if !lexer.atom().ok()?.eq_ignore_ascii_case("APPEND") {
        return None;
    }
    lexer.space().ok()?;
    let name = lexer.mailbox().ok()?;
    state.tag = tag.to_owned();
    Some(match (options(&mut lexer), name) {
        (Err(BadCommand(text)), _) => refuse(state, head, Completion::bad(text)),
        (Ok(_), Err(_)) => refuse(state, head, Completion::nonexistent()),
        (Ok(options), Ok(name)) => to_mailbox(state, name, options, head),
    })
}

/// A complete command without a message.
pub(super) fn without_message(_: &mut State, _: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    Err(BadCommand("APPEND takes messages as literals."))
}

/// Reads ` [flags ][date ]` up to the literal.
fn options(lexer: &mut Lexer<'_>) -> Result<Options, BadCommand> {
    let mut options = Options { flags: FlagSet::default(), internal_date: INTERNAL_DATE_NOW };
    lexer.space()?;
    if lexer.peek() == Some(b'(') {
        options.flags = lexer.flag_list()?;
        lexer.space()?;
    }
    if lexer.peek() == Some(b'"') {
        options.internal_date = lexer.date_time()?;
        lexer.space()?;
    }
    lexer.end()?;
    Ok(options)
}

fn to_mailbox(state: &mut State, name: MailboxName, options: Options, head: LiteralHead) -> Next {
    if let Some(refusal) = too_large(state, head) {
        return refuse(state, head, refusal);
    }
    ask(Question::Mailboxes, move |state, answer| match answer {
        Answer::Mailboxes(Ok(infos)) => match find(&infos, &name) {
            Some((_, to)) => message(state, Append { to, staged: Vec::new(), octets: 0 }, options, head),
            None => refuse(state, head, Completion::try_create()),
        },
        _ => refuse(state, head, Completion::unavailable()),
    })
}

fn too_large(state: &State, head: LiteralHead) -> Option<Completion> {
    if head.octets > state.config.append_octets_max {
        return Some(Completion::no_code("TOOBIG", "The message is larger than this server takes."));
    }
    // RFC 3502 §6.3.11: a message without octets cancels the command.
    (head.octets == 0).then(|| Completion::no("A message without octets cannot be appended."))
}

/// One message is announced.
fn message(state: &mut State, append: Append, options: Options, head: LiteralHead) -> Next {
    let refusal = if !head.synchronizing && !state.config.offers("LITERAL+") {
        Some(Completion::bad("Unknown kind of literal."))
    } else if !append.staged.is_empty() && !state.config.offers("MULTIAPPEND") {
        Some(Completion::bad("Unexpected arguments after the message."))
    } else if append.staged.len() >= MESSAGES_PER_APPEND_MAX {
        Some(Completion::no_code("LIMIT", "Too many messages in one command."))
    } else {
        too_large(state, head)
    };
    if let Some(refusal) = refusal {
        return refuse(state, head, refusal);
    }
    if head.octets < EARLY_QUOTA_OCTETS {
        return receive(append, options, head);
    }
    ask(Question::Usage, move |state, answer| match answer {
        Answer::Usage(Ok((usage, quota))) => {
            let (octets, messages) = (append.octets.saturating_add(head.octets), append.staged.len() as u64 + 1);
            // Grace is for deliveries (R56).
            let quota = Quota { grace_octets: 0, ..quota };
            if quota.admits(usage, octets, messages) {
                receive(append, options, head)
            } else {
                refuse(state, head, ChangeError::OverQuota.into())
            }
        }
        _ => refuse(state, head, Completion::unavailable()),
    })
}

fn receive(append: Append, options: Options, head: LiteralHead) -> Next {
    ask(Question::BeginBody { octets: head.octets }, move |state, answer| {
        let Answer::Staging(Ok(())) = answer else { return refuse(state, head, Completion::unavailable()) };
        state.staging = true;
        if head.synchronizing {
            state.out.extend_from_slice(b"+ Ready for the message.\r\n");
        }
        Next::Body(head.octets, Box::new(move |_, ()| received(append, options, head)))
    })
}

fn received(mut append: Append, options: Options, head: LiteralHead) -> Next {
    ask(Question::EndOfBody, move |state, answer| {
        let Answer::Staged(Ok(body)) = answer else {
            return abandon(state, Next::Swallow(0, Completion::unavailable()));
        };
        append.octets = append.octets.saturating_add(head.octets);
        append.staged.push(Change::Append {
            mailbox: MailboxRef::Id(append.to),
            body,
            flags: options.flags,
            internal_date: options.internal_date,
        });
        Next::Line(Box::new(move |state, fragment| tail(state, append, fragment)))
    })
}

/// After a message the command ends, or another message is announced.
fn tail(state: &mut State, append: Append, fragment: Fragment) -> Next {
    match (fragment.text.is_empty(), fragment.literal) {
        (true, None) => {
            state.staging = false;
            commit_or(append.staged, refusal, |_, outcomes| done(completion(&outcomes)))
        }
        (_, None) => abandon(state, done(Completion::bad("A literal or the end of the command must follow."))),
        (_, Some(head)) => match options(&mut Lexer::new(&fragment.text)) {
            Ok(options) => message(state, append, options, head),
            Err(BadCommand(text)) => refuse(state, head, Completion::bad(text)),
        },
    }
}

/// RFC 4315 §3.
fn completion(outcomes: &[Outcome]) -> Completion {
    let mut validity = None;
    let mut uids = UidSet::new();
    for outcome in outcomes {
        if let Outcome::Appended { uid_validity, uid } = outcome {
            validity = Some(*uid_validity);
            uids.insert(*uid);
        }
    }
    match validity {
        Some(validity) => Completion::ok_code(format!("APPENDUID {validity} {uids}"), "APPEND completed."),
        None => Completion::ok("APPEND completed."),
    }
}

fn refusal(failure: CommitFailure) -> Completion {
    match failure {
        CommitFailure::Refused(ChangeError::NoSuchMailbox) => Completion::try_create(),
        other => other.into(),
    }
}

/// Ends the command before a message was sent: a client that waits is answered, one that does not is read to the end.
fn refuse(state: &mut State, head: LiteralHead, completion: Completion) -> Next {
    let next = if head.synchronizing { done(completion) } else { Next::Swallow(head.octets, completion) };
    abandon(state, next)
}

/// Throws away what is staged, then goes on.
fn abandon(state: &mut State, next: Next) -> Next {
    if std::mem::take(&mut state.staging) { ask(Question::Abandon, move |_, _| next) } else { next }
}
