//! A refusal with the check or rule that decided, so that the story of what was refused names its cause (P1).

use mail::{AccountName, Reply};
use policy::{CheckName, Refused};
use queue::rate::LimitName;
use std::fmt;

/// What is refused: the reply, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub by: Decider,
    pub reply: Reply,
}

/// Who decides on a refusal. Shown, it is the name that the configuration has for it, where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decider {
    /// A check of the listener.
    Check(CheckName),
    /// What holds for every recipient.
    HouseRules,
    /// What holds for recipients over LMTP.
    Lmtp,
    /// The rewriting of reverse-paths.
    Srs,
    /// A bound on one message.
    Limit(&'static str),
    /// How much an account may send.
    Rate(LimitName),
    /// The rules for header fields of submitted mail; the line of the one that decided.
    HeaderRules(Option<usize>),
    /// What is demanded of the header section of submitted mail.
    Author,
    /// `submission.check_author` (R138).
    CheckAuthor,
    /// The target of an access table's action.
    Target,
    /// The room of a mailbox.
    Quota(AccountName),
    /// The store.
    Store,
}

impl Decider {
    /// Its refusal.
    pub fn refuses(self, reply: Reply) -> Refusal {
        Refusal { by: self, reply }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        refused.by.map_or(Decider::HouseRules, Decider::Check).refuses(refused.reply)
    }
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decider::Check(check) => f.write_str(check.name()),
            Decider::HouseRules => f.write_str("the rules for every recipient"),
            Decider::Lmtp => f.write_str("the rules of LMTP"),
            Decider::Srs => f.write_str("forwarding (rewritten reverse-paths)"),
            Decider::Limit(what) => write!(f, "the limit of {what}"),
            Decider::Rate(name) => f.write_str(setting(*name)),
            Decider::HeaderRules(Some(line)) => write!(f, "submission.header_rules, line {line}"),
            Decider::HeaderRules(None) => f.write_str("submission.header_rules"),
            Decider::Author => f.write_str("the rules for authors of submitted mail"),
            Decider::CheckAuthor => f.write_str("submission.check_author"),
            Decider::Target => f.write_str("the target of an access table's action"),
            Decider::Quota(account) => write!(f, "the quota of {account}"),
            Decider::Store => f.write_str("the store"),
        }
    }
}

/// The setting of a limit.
fn setting(name: LimitName) -> &'static str {
    match name {
        LimitName::MessagesPerHour => "submission.messages_per_hour",
        LimitName::MessagesPerDay => "submission.messages_per_day",
        LimitName::RecipientsPerHour => "submission.recipients_per_hour",
        LimitName::RecipientsPerDay => "submission.recipients_per_day",
    }
}
