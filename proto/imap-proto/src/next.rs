//! What a running command wants next, and how it ends.
//!
//! A command is a chain of continuations: each asks for one thing and holds what the rest of the command needs. So a
//! command reads from top to bottom, and cannot be resumed in the wrong place.

use crate::input::Fragment;
use crate::question::{Answer, CommitFailure, Question};
use crate::state::State;
use mail::{Change, ChangeError, MailboxInfo, Outcome};
use std::borrow::Cow;
use std::sync::Arc;

/// The rest of a command.
pub(crate) type Then<T> = Box<dyn FnOnce(&mut State, T) -> Next + Send>;

/// What a command wants next.
pub(crate) enum Next {
    /// An answer.
    Ask(Question, Then<Answer>),
    /// To go on, after the output so far was looked at.
    Flush(Then<()>),
    /// The next line of the client, outside a command line.
    Line(Then<Fragment>),
    /// So many octets of the client to be staged as a message.
    Body(u64, Then<()>),
    /// So many octets, and the lines and literals that follow to the end of the command, thrown away.
    Swallow(u64, Completion),
    /// To tell of changes until the client says DONE.
    Idle,
    /// TLS, after this response.
    StartTls(Completion),
    /// To end, and then close the connection.
    Logout(Completion),
    /// To end: the client is told what changed, then this response.
    Done(Completion),
    /// To end with this response, without anything before it.
    Concluded(Completion),
    /// The connection closed, after a BYE with this text.
    Bye(&'static str),
    /// The connection closed.
    Close,
}

/// Whether a command succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// OK
    Ok,
    /// NO
    No,
    /// BAD
    Bad,
}

/// A tagged response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completion {
    /// How it ended.
    pub(crate) status: Status,
    /// The response code, without brackets.
    pub(crate) code: Option<Cow<'static, str>>,
    /// For people.
    pub(crate) text: Cow<'static, str>,
    /// Counts towards the limit of bad commands, and is answered without a look at the mailbox.
    pub(crate) suspicious: bool,
}

impl Completion {
    fn new(status: Status, code: Option<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Completion {
        Completion { status, code, text: text.into(), suspicious: status == Status::Bad }
    }

    /// OK without code.
    pub(crate) fn ok(text: impl Into<Cow<'static, str>>) -> Completion {
        Completion::new(Status::Ok, None, text)
    }

    /// OK with a code.
    pub(crate) fn ok_code(code: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Completion {
        Completion::new(Status::Ok, Some(code.into()), text)
    }

    /// NO without code.
    pub(crate) fn no(text: impl Into<Cow<'static, str>>) -> Completion {
        Completion::new(Status::No, None, text)
    }

    /// NO with a code.
    pub(crate) fn no_code(code: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Completion {
        Completion::new(Status::No, Some(code.into()), text)
    }

    /// BAD.
    pub(crate) fn bad(text: impl Into<Cow<'static, str>>) -> Completion {
        Completion::new(Status::Bad, None, text)
    }

    /// The house cannot answer now (RFC 5530 §3).
    pub(crate) fn unavailable() -> Completion {
        Completion::no_code("UNAVAILABLE", "Temporary failure, please try again later.")
    }

    /// No mailbox has that name.
    pub(crate) fn nonexistent() -> Completion {
        Completion::no_code("NONEXISTENT", "No such mailbox.")
    }

    /// No mailbox has that name, but one could be made (RFC 3501 §6.3.11).
    pub(crate) fn try_create() -> Completion {
        Completion::no_code("TRYCREATE", "No such mailbox, but it can be created.")
    }

    /// No mailbox can have that name.
    pub(crate) fn impossible_name() -> Completion {
        Completion::no_code("CANNOT", "No mailbox can have that name.")
    }

    /// The mailbox was selected by EXAMINE.
    pub(crate) fn read_only() -> Completion {
        Completion::no("The mailbox is selected read-only.")
    }

    /// Appends the response line.
    pub(crate) fn write(&self, tag: &str, out: &mut Vec<u8>) {
        let status = match self.status {
            Status::Ok => " OK ",
            Status::No => " NO ",
            Status::Bad => " BAD ",
        };
        out.extend_from_slice(tag.as_bytes());
        out.extend_from_slice(status.as_bytes());
        if let Some(code) = &self.code {
            out.push(b'[');
            out.extend_from_slice(code.as_bytes());
            out.extend_from_slice(b"] ");
        }
        out.extend_from_slice(self.text.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// The one table from causes to responses.
impl From<ChangeError> for Completion {
    fn from(error: ChangeError) -> Completion {
        match error {
            ChangeError::NoSuchMailbox => Completion::nonexistent(),
            ChangeError::MailboxExists => Completion::no_code("ALREADYEXISTS", "A mailbox of that name exists."),
            ChangeError::Inbox => Completion::no_code("CANNOT", "INBOX cannot be deleted."),
            ChangeError::TooManyMailboxes => Completion::no_code("LIMIT", "No more mailboxes are allowed."),
            ChangeError::OverQuota => Completion::no_code("OVERQUOTA", "Quota exceeded (mailbox for user is full)"),
            ChangeError::TooManyKeywords => Completion::no_code("LIMIT", "No more keywords fit this mailbox."),
            ChangeError::NoSuchBody | ChangeError::NotApplied => Completion::unavailable(),
            ChangeError::Exhausted => Completion::no_code("LIMIT", "The mailbox has no numbers left."),
        }
    }
}

impl From<CommitFailure> for Completion {
    fn from(failure: CommitFailure) -> Completion {
        match failure {
            CommitFailure::Refused(error) => error.into(),
            CommitFailure::Unavailable => Completion::unavailable(),
        }
    }
}

/// Ends with a response.
pub(crate) fn done(completion: Completion) -> Next {
    Next::Done(completion)
}

/// Asks, and goes on with the answer.
pub(crate) fn ask(question: Question, then: impl FnOnce(&mut State, Answer) -> Next + Send + 'static) -> Next {
    Next::Ask(question, Box::new(then))
}

/// Commits, and goes on with the outcomes; a failure ends the command with its response.
pub(crate) fn commit(
    changes: Vec<Change>,
    then: impl FnOnce(&mut State, Vec<Outcome>) -> Next + Send + 'static,
) -> Next {
    commit_or(changes, Completion::from, then)
}

/// The same, with a failure's response chosen by `refusal`.
pub(crate) fn commit_or(
    changes: Vec<Change>,
    refusal: impl FnOnce(CommitFailure) -> Completion + Send + 'static,
    then: impl FnOnce(&mut State, Vec<Outcome>) -> Next + Send + 'static,
) -> Next {
    ask(Question::Commit(changes), move |state, answer| match answer {
        Answer::Committed(Ok(outcomes)) => then(state, outcomes),
        Answer::Committed(Err(failure)) => done(refusal(failure)),
        _ => done(Completion::unavailable()),
    })
}

/// Asks for the account's mailboxes, and goes on with them.
pub(crate) fn mailboxes(then: impl FnOnce(&mut State, Arc<Vec<MailboxInfo>>) -> Next + Send + 'static) -> Next {
    ask(Question::Mailboxes, move |state, answer| match answer {
        Answer::Mailboxes(Ok(infos)) => then(state, infos),
        _ => done(Completion::unavailable()),
    })
}
