//! What is demanded of a message's text and done to it.

use super::Message;
use crate::refusal::{Decider, Refusal};
use crate::{Desk, SubmissionRules, now, reply};
use deliver::{Intake, reverse_address};
use mail::{Address, Domain, Event, Happening, ReversePath};
use message::header_rules::{self, Verdict};
use message::scan::HeaderFacts;
use message::submission::{Demands, Given};
use smtp_proto::question::Role;

/// What became of a message's text.
#[derive(Default)]
pub(super) struct Text {
    pub verdict: Verdict,
    pub redirect: Option<Address>,
    pub events: Vec<Event>,
    /// Signature and missing fields.
    pub prefix: Vec<u8>,
}

impl Desk {
    /// What is demanded of the text and done to it: header rules, missing fields, the signature.
    pub(super) fn text(&self, message: &Message<'_>, intake: &mut Intake) -> Result<Text, Refusal> {
        let findings = intake.findings().clone();
        let mut text = Text { verdict: findings.verdict, redirect: findings.redirect, ..Text::default() };
        if let Verdict::Reject(refusal) = &text.verdict {
            let is_cause = |deed: &&header_rules::Deed| matches!(deed.action, header_rules::Action::Reject(_));
            let line = findings.deeds.iter().rfind(is_cause).and_then(|deed| deed.line);
            return Err(Decider::HeaderRules(line).refuses(reply::header_refused(refusal)));
        }
        if let Verdict::Hold(rule) | Verdict::Discard(rule) = &mut text.verdict {
            use header_rules::Action;
            let is_cause = |deed: &&header_rules::Deed| matches!(deed.action, Action::Hold(_) | Action::Discard(_));
            let cause = findings.deeds.iter().rfind(is_cause).map(|deed| (deed.line, named(&deed.action)));
            if let Some((Some(line), action)) = cause {
                *rule = format!("line {line}: {action}");
            }
        }
        for deed in &findings.deeds {
            let line = deed.line.map_or("a limit".to_owned(), |line| format!("header rule in line {line}"));
            tracing::info!(queue_id = %message.id, rule = %line, field = %deed.field, "header field");
            let what = format!("{line}: {}: {}", named(&deed.action), deed.field);
            text.events.push(Event { at: deliver::now(), recipient: None, what: Happening::Altered { what } });
        }
        let added = match self.house.submission.as_ref().filter(|_| message.client.role == Role::Submission) {
            Some(rules) => self.submitted(message, intake.facts(), rules)?,
            None if self.sends_for_us(message.client) => self.completed(message, intake.facts()),
            None => String::new(),
        };
        if intake.is_to_be_signed()
            && let Some(domain) = self.signing_domain(message, intake.facts())
        {
            match intake.sign(&domain, &added) {
                Ok(fields) => text.prefix = fields,
                Err(error) => tracing::warn!(queue_id = %message.id, %domain, %error, "not signed"),
            }
        }
        text.prefix.extend_from_slice(added.as_bytes());
        Ok(text)
    }

    /// The domain of the author, or else of the reverse-path, whichever the account may send as. A signature says that the
    /// domain stands by the message (V40).
    fn signing_domain(&self, message: &Message<'_>, facts: &HeaderFacts) -> Option<Domain> {
        let may_send = |address: &&Address| {
            let path = ReversePath::Address((*address).clone());
            message.client.account.as_ref().is_none_or(|account| self.house.directory.may_send_as(account, &path))
        };
        let authors = message::submission::authors(facts, rules_for_signing()).ok();
        let author = authors.as_ref().and_then(|authors| authors.from.first());
        let mut known = author.into_iter().chain(reverse_address(&message.envelope.reverse_path));
        known.find(may_send).map(|address| address.domain.clone())
    }

    /// R103, V40, R138: one plain author, and the fields that are missing.
    fn submitted(
        &self,
        message: &Message<'_>,
        facts: &HeaderFacts,
        rules: &SubmissionRules,
    ) -> Result<String, Refusal> {
        let refused = |error| Decider::Author.refuses(reply::author_refused(&error));
        let authors = message::submission::authors(facts, rules.demands).map_err(refused)?;
        if let (true, Some(account)) = (rules.check_author, &message.client.account) {
            let owned = |address: &&Address| {
                !self.house.directory.may_send_as(account, &ReversePath::Address((*address).clone()))
            };
            if let Some(address) = authors.from.iter().find(owned) {
                return Err(Decider::CheckAuthor.refuses(reply::author_not_owned(address, account)));
            }
        }
        self.missing(message, facts, None).map_err(refused)
    }

    /// R103: what a trusted client sends elsewhere than on a submission listener is completed like any submission, and
    /// nothing is demanded of it. Mail of strangers is left alone.
    fn completed(&self, message: &Message<'_>, facts: &HeaderFacts) -> String {
        let nobody = Address::parse(&format!("MAILER-DAEMON@{}", self.house.host_name)).ok();
        // Without an author the message stays as it is.
        self.missing(message, facts, nobody).unwrap_or_default()
    }

    /// The fields that are missing. Whoever wrote no From: is known by reverse-path or account, or is `nobody`.
    fn missing(
        &self,
        message: &Message<'_>,
        facts: &HeaderFacts,
        nobody: Option<Address>,
    ) -> Result<String, message::submission::Refusal> {
        let account = message.client.account.as_ref().and_then(|account| Address::parse(account.as_str()).ok());
        let author = reverse_address(&message.envelope.reverse_path).cloned().or(account).or(nobody);
        let message_id = format!("{}@{}", message.id, self.house.host_name);
        let given = Given { date: now(), message_id: &message_id, author: author.as_ref() };
        message::submission::additions(facts, &given)
    }
}

/// An action of a header rule, as the rule has it.
fn named(action: &header_rules::Action) -> String {
    use header_rules::Action;
    let with = |name: &str, text: &str| if text.is_empty() { name.to_owned() } else { format!("{name} {text}") };
    let field = |octets: &[u8]| mail::text::one_line(&String::from_utf8_lossy(octets));
    match action {
        Action::Dunno => "DUNNO".into(),
        Action::Ignore => "IGNORE".into(),
        Action::Strip(text) => with("STRIP", text),
        Action::Replace(new) => with("REPLACE", &field(new)),
        Action::Prepend(new) => with("PREPEND", &field(new)),
        Action::Warn(text) => with("WARN", text),
        Action::Info(text) => with("INFO", text),
        Action::Hold(text) => with("HOLD", text),
        Action::Discard(text) => with("DISCARD", text),
        Action::Reject(refusal) => with("REJECT", &refusal.text),
        Action::Redirect(to) => with("REDIRECT", &to.to_string()),
    }
}

/// Whose keys sign: several authors are no reason not to.
fn rules_for_signing() -> Demands {
    Demands { allows_several_authors: true }
}
