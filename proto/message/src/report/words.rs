//! The part for people: what happened to each recipient, why, and what can be done, in plain English.

use super::status::{Remote, words};
use super::{Action, Kind, RecipientReport, Report, short};
use mail::EnhancedStatus;
use mail::queue::REASON_OCTETS_MAX;

/// Recipients that are told of in words; the part for programs has them all.
pub const RECIPIENTS_IN_WORDS_MAX: usize = 100;

/// Columns of a line.
const LINE_OCTETS_MAX: usize = 76;
const INDENT: &str = "    ";
/// Of what others said, so that it cannot be mistaken for our own words.
const QUOTE_INDENT: &str = "      > ";

/// The text of the part. Every line begins with a letter, a bracket or white space, never with a hyphen, so that no
/// boundary can be in it.
pub(super) fn text(report: &Report<'_>) -> String {
    let mut out = String::new();
    paragraph(&format!("This is the mail system at {}.", crate::trace::host_name(report.host)), "", &mut out);
    out.push_str("\r\n");
    paragraph(introduction(report.kind), "", &mut out);
    for recipient in report.recipients.iter().take(RECIPIENTS_IN_WORDS_MAX) {
        tell(recipient, &mut out);
    }
    if let Some(more) = report.recipients.len().checked_sub(RECIPIENTS_IN_WORDS_MAX).filter(|more| *more > 0) {
        out.push_str("\r\n");
        paragraph(&format!("And {more} more recipients, which the second part of this report lists."), "", &mut out);
    }
    out.push_str("\r\n");
    let help = if report.kind == Kind::Success { "If you have questions" } else { "If this does not help" };
    let postmaster = short(report.postmaster, 400);
    paragraph(&format!("{help}, send this report on to {postmaster}."), "", &mut out);
    out
}

fn introduction(kind: Kind) -> &'static str {
    match kind {
        Kind::Failure => {
            "Your message could not be delivered to the recipients below, and will not be tried again for them. To reach \
             them, mend what is wrong and send it anew. All other recipients are not concerned by this."
        }
        Kind::Delay => {
            "Your message has not been delivered to the recipients below yet. You need not do anything: it is kept here \
             and tried again and again, and if it fails in the end, you will be told. Please do not send it twice."
        }
        Kind::Success => "You asked to be told when your message is delivered. This does not say that it was read.",
    }
}

fn tell(recipient: &RecipientReport<'_>, out: &mut String) {
    out.push_str(&format!("\r\n<{}>\r\n", recipient.address));
    if let Some(original) = other_address(recipient) {
        paragraph(&format!("(you wrote to <{original}>)"), INDENT, out);
    }
    paragraph(&event(recipient), INDENT, out);
    if let Some(text) = recipient.diagnostic.filter(|text| !text.trim().is_empty()) {
        paragraph(&short(text, REASON_OCTETS_MAX), QUOTE_INDENT, out);
    }
    match recipient.action {
        Action::Failed | Action::Delayed => {
            let (meaning, advice) = explanation(recipient.status);
            let advice = if recipient.action == Action::Failed { advice } else { "" };
            paragraph(&format!("{meaning} {advice}"), INDENT, out);
        }
        Action::Delivered | Action::Relayed | Action::Expanded => {}
    }
    if let (Action::Delayed, Some(until)) = (recipient.action, recipient.retry_until) {
        paragraph(&format!("It is tried until {}.", until.civil().to_rfc5322()), INDENT, out);
    }
}

/// The address that the sender gave, where it is another one than that of the envelope.
fn other_address(recipient: &RecipientReport<'_>) -> Option<String> {
    let (_, address) = recipient.original?.split_once(';')?;
    let address = short(address, 400);
    let is_other = !address.eq_ignore_ascii_case(&recipient.address.to_string());
    (is_other && !address.is_empty()).then_some(address)
}

/// What happened, in a sentence; who answered is named, and the answer follows.
fn event(recipient: &RecipientReport<'_>) -> String {
    let remote = recipient.remote.map(|remote| match Remote::parse(remote) {
        Remote { name, address: Some(address) } => format!("the mail server {name} [{address}]"),
        Remote { name, address: None } => format!("the mail server {name}"),
    });
    let colon = if recipient.diagnostic.is_some() { ":" } else { "." };
    let was_tried = recipient.action == Action::Failed && recipient.status.class == 4;
    let last = match recipient.last_attempt.filter(|_| was_tried) {
        Some(date) => format!("It was tried until {}, and then given up. ", date.civil().to_rfc5322()),
        None if was_tried => "It was tried for a long time, and then given up. ".to_owned(),
        None => String::new(),
    };
    match (recipient.action, remote, recipient.is_reply) {
        (Action::Failed, Some(remote), true) if !was_tried => upper(&format!("{remote} refused it{colon}")),
        (Action::Failed | Action::Delayed, Some(remote), true) => {
            format!("{last}{}", upper(&format!("{remote} answered{colon}")))
        }
        (Action::Failed | Action::Delayed, Some(remote), false) => {
            format!("{last}{}", upper(&format!("{remote} was tried without success{colon}")))
        }
        (Action::Failed | Action::Delayed, None, _) => format!("{last}Our mail system found{colon}"),
        (Action::Delivered, Some(remote), _) => format!("It was delivered to {remote}{colon}"),
        (Action::Delivered, None, _) => format!("It was put into the mailbox{colon}"),
        (Action::Relayed, Some(remote), _) => {
            format!("It was handed to {remote}, which sends no confirmation of its own{colon}")
        }
        (Action::Relayed, None, _) => format!("It was handed on to where no confirmation will come from{colon}"),
        (Action::Expanded, ..) => format!("The address stands for several others, and it was sent on to them{colon}"),
    }
}

fn upper(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or(String::new(), |first| format!("{}{}", first.to_ascii_uppercase(), chars.as_str()))
}

/// What a status means, and what the sender can do about it (RFC 3463 §3; RFC 7372, RFC 7505, RFC 8689).
fn explanation(status: EnhancedStatus) -> (&'static str, &'static str) {
    const CHECK: &str = "Check the address for typing errors, or ask the recipient for the right one.";
    const OTHER_WAY: &str = "Tell the recipient by other means.";
    const LATER: &str = "Send it again later.";
    const SMALLER: &str = "Send less at a time, or put large files where the recipient can fetch them.";
    const POSTMASTER: &str = "This is for the administrator of your mail system to mend.";
    match (status.subject, status.detail) {
        (1, 1) => ("There is no mailbox of this name.", CHECK),
        (1, 2) => ("The part behind the @ sign is not the name of a domain that takes mail.", CHECK),
        (1, 3) => ("The address is not well formed.", CHECK),
        (1, 4) => ("The address could mean more than one mailbox.", CHECK),
        (1, 6) => ("The mailbox has moved, and its mail is not sent on.", "Ask the recipient for the new address."),
        (1, 7 | 8) => (
            "Your own address was not accepted.",
            "Check which address your mail program gives as yours, and whether mail to it arrives.",
        ),
        (1, 10) => ("The domain says of itself that it takes no mail at all.", CHECK),
        (2, 1) => ("The mailbox is closed at present.", OTHER_WAY),
        (2, 2) => ("The mailbox is full.", "Tell the recipient by other means, and send it again once there is room."),
        (2, 3) => ("The message is larger than this mailbox takes.", SMALLER),
        (2, 4) => ("The list behind this address could not be read.", OTHER_WAY),
        (3, 1) => ("The recipient's mail system is out of room.", LATER),
        (3, 2) => ("The recipient's mail system takes no mail at present.", LATER),
        (3, 4) => ("The message is larger than the recipient's mail system takes.", SMALLER),
        (3, _) => ("The recipient's mail system has a fault.", LATER),
        (4, 1) => ("No mail server of the recipient's domain answers.", LATER),
        (4, 2) => ("The connection to the recipient's mail server broke.", LATER),
        (4, 3) => ("Where the mail of the recipient's domain goes could not be looked up.", CHECK),
        (4, 4) => ("There is no known way to the mail server of the recipient's domain.", CHECK),
        (4, 5) => ("The recipient's mail system has too much to do.", LATER),
        (4, 6) => ("The message went in a circle: the address is sent on to itself.", OTHER_WAY),
        (4, 7) => ("It did not get there in the time that a message is given.", LATER),
        (4, _) => ("The recipient's mail system could not be reached.", LATER),
        (5, _) => ("The two mail systems did not understand each other.", POSTMASTER),
        (6, 7) => (
            "The recipient's mail system does not know addresses with letters beyond English ones.",
            "Use another address of yours or of the recipient, if there is one.",
        ),
        (6, _) => (
            "The recipient's mail system does not take a message of this form.",
            "Send it as plain text, or without its attachments.",
        ),
        (7, 2) => ("You may not write to this list.", "Ask whoever runs the list to let you."),
        (7, 4 | 5 | 10 | 30) => ("The way there is not as well protected as it must be.", POSTMASTER),
        (7, 20..=24 | 26) => (
            "The recipient's mail system could not make sure that the message is from your domain (SPF, DKIM, DMARC).",
            POSTMASTER,
        ),
        (7, 25) => ("The name of our mail server could not be confirmed.", POSTMASTER),
        (7, 27) => {
            ("The domain of your own address says that it takes no mail, so nobody could answer you.", POSTMASTER)
        }
        (7, _) => (
            "The recipient's mail system does not want this message, by a rule of its own.",
            "What it said may tell why: often it is a link, an attachment, or the standing of the sending server. Ask the \
             recipient by other means to let your address through.",
        ),
        (1, _) => ("Something is wrong with the address.", CHECK),
        (2, _) => ("Something is wrong with the mailbox.", OTHER_WAY),
        _ if status.class == 4 => ("The cause may be a passing one.", LATER),
        _ => ("The recipient's mail system did not say more clearly why.", "Ask the recipient by other means."),
    }
}

/// Appends a text in lines, each behind the indentation.
fn paragraph(text: &str, indent: &str, out: &mut String) {
    let mut line = String::from(indent);
    for word in words(text) {
        if line.len() > indent.len() && line.len() + 1 + word.len() > LINE_OCTETS_MAX {
            out.push_str(&line);
            out.push_str("\r\n");
            line.clear();
            line.push_str(indent);
        }
        if line.len() > indent.len() || (indent.is_empty() && word.starts_with('-')) {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(line.trim_end());
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_status_has_an_explanation_in_sentences() {
        let mut seen = BTreeSet::new();
        for class in [4, 5] {
            for subject in 0..=8 {
                for detail in 0..=31 {
                    let (meaning, advice) = explanation(EnhancedStatus::new(class, subject, detail));
                    assert!(
                        meaning.ends_with('.') && advice.ends_with('.') && (meaning.to_owned() + advice).is_ascii()
                    );
                    seen.insert(meaning);
                }
            }
        }
        assert!(seen.len() >= 30);
    }

    #[test]
    fn lines_are_wrapped() {
        let mut out = String::new();
        paragraph(&"word ".repeat(40), INDENT, &mut out);
        assert_eq!(out.lines().count(), 3);
        assert!(out.lines().all(|line| line.len() <= LINE_OCTETS_MAX && line.starts_with("    word")));
        let mut out = String::new();
        paragraph(&"x".repeat(2_000), QUOTE_INDENT, &mut out);
        assert!(out.lines().all(|line| line.len() <= 998 && line.starts_with(QUOTE_INDENT)));
    }
}
