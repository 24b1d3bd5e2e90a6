//! What checks find, and what follows from all of it together.

use crate::check::CheckName;
use mail::{Address, EnhancedStatus, Reply};
use std::borrow::Cow;

/// What a check decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing; the next check is asked.
    Pass,
    /// The recipient is taken, no further check is asked.
    Accept,
    /// The recipient is refused; the reply says for how long.
    Refuse(Reply),
    /// Refused for now, unless a later check refuses for good (R113).
    DeferIfPermitted(Reply),
    /// If a later check refuses for good, it does so only for now (R113).
    DeferIfRefused(Reply),
}

impl Verdict {
    /// Whether no later check is asked.
    pub fn is_decisive(&self) -> bool {
        matches!(self, Verdict::Accept | Verdict::Refuse(_))
    }
}

/// What a check wants done with the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Accept the message and throw it away; the text names the rule.
    Discard(String),
    /// Deliver to this address in place of all recipients.
    Redirect(Address),
    /// Deliver to this address as well.
    Copy(Address),
    /// Accept the message into the queue and leave it there until an administrator releases it; the text names the rule
    /// (R139).
    Hold(String),
    /// Put this header field, `Name: value`, on top.
    Prepend(String),
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub check: CheckName,
    /// What it decides.
    pub verdict: Verdict,
    /// What it wants done.
    pub effect: Option<Effect>,
    /// On which evidence: the table entry, the address, the counter.
    pub evidence: Cow<'static, str>,
}

/// The results of all checks that were asked, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// One for each check.
    pub all: Vec<Finding>,
}

impl Findings {
    /// The refusal that follows from all findings together, and the check that is its cause.
    pub fn refusal(&self) -> Option<(CheckName, Reply)> {
        let find = |wanted: fn(&Verdict) -> Option<&Reply>| {
            self.all.iter().find_map(|finding| wanted(&finding.verdict).map(|reply| (finding.check, reply.clone())))
        };
        let refusal = find(|verdict| if let Verdict::Refuse(reply) = verdict { Some(reply) } else { None });
        match refusal {
            Some((check, reply)) if reply.is_permanent() => {
                find(|verdict| if let Verdict::DeferIfRefused(reply) = verdict { Some(reply) } else { None })
                    .or(Some((check, reply)))
            }
            Some(temporary) => Some(temporary),
            None => find(|verdict| if let Verdict::DeferIfPermitted(reply) = verdict { Some(reply) } else { None }),
        }
    }

    /// What the checks want done with the message.
    pub fn effects(&self) -> Vec<Effect> {
        self.all.iter().filter_map(|finding| finding.effect.clone()).collect()
    }
}

/// The reply of an access table's refusal (R112, R140): `<object>: WHAT rejected: text`.
pub fn access_reply(code: u16, status: EnhancedStatus, object: &str, what: &str, text: &str) -> Reply {
    let text = if text.is_empty() { "Access denied" } else { text };
    Reply::new(code, status, format!("<{object}>: {what} rejected: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict) -> Finding {
        Finding { check: CheckName::CheckQuota, verdict, effect: None, evidence: "".into() }
    }

    fn reply(code: u16) -> Reply {
        Reply::plain(code, "")
    }

    #[test]
    fn r113_conditional_deferrals() {
        let refusal = |verdicts: Vec<Verdict>| {
            let findings = Findings { all: verdicts.into_iter().map(finding).collect() };
            findings.refusal().map(|(_, reply)| reply.code)
        };
        assert_eq!(refusal(vec![Verdict::Pass]), None);
        assert_eq!(refusal(vec![Verdict::DeferIfPermitted(reply(450))]), Some(450));
        assert_eq!(refusal(vec![Verdict::DeferIfPermitted(reply(450)), Verdict::Accept]), Some(450));
        assert_eq!(refusal(vec![Verdict::DeferIfPermitted(reply(450)), Verdict::Refuse(reply(554))]), Some(554));
        assert_eq!(refusal(vec![Verdict::DeferIfRefused(reply(450)), Verdict::Refuse(reply(554))]), Some(450));
        assert_eq!(refusal(vec![Verdict::DeferIfRefused(reply(450)), Verdict::Accept]), None);
        assert_eq!(refusal(vec![Verdict::Pass, Verdict::Refuse(reply(451))]), Some(451));
    }
}
