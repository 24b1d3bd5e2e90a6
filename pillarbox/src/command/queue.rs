//! `queue …`: what waits, and what to do with it (R143, R218).

use super::server::{ask, ask_running};
use crate::cli::{QueueCommand, QueueSelection};
use crate::config::{Loaded, Octets};
use crate::output::Output;
use admin::control::{Request, Response};
use admin::queue_desk::{AuditFacts, DestinationFacts, QueueAction};
use anyhow::{Context, anyhow, bail};
use qmgr::{Changed, Listed, ListedRecipient, Selection};
use serde::Serialize;
use std::process::ExitCode;
use store::MailStore;

/// Upper bounds of the age classes, as headings.
const AGES: [&str; 10] = ["5m", "10m", "20m", "40m", "80m", "160m", "320m", "640m", "1280m", "older"];

/// Looks at the queue, or changes it, and tells. An audit that does not balance gives a failure.
pub fn queue(loaded: &Loaded, command: &QueueCommand, output: &Output) -> anyhow::Result<ExitCode> {
    if matches!(command, QueueCommand::Audit) {
        return audit(loaded, output);
    }
    match (command, answer(loaded, command)?) {
        (QueueCommand::List { limit, .. }, Response::Queue(messages)) => list(&messages, *limit, output),
        (QueueCommand::Show { .. }, Response::Queue(messages)) => {
            show(messages.first().context("unexpected answer")?, output);
        }
        (_, Response::QueueSummary(destinations)) => summary(&destinations, output),
        (_, Response::Changed(changed)) => tell_changed(changed, output),
        _ => bail!("unexpected answer"),
    }
    Ok(ExitCode::SUCCESS)
}

/// What the running server answers.
pub fn answer(loaded: &Loaded, command: &QueueCommand) -> anyhow::Result<Response> {
    let (action, selection) = match command {
        // One more than is shown tells whether there are more.
        QueueCommand::List { selection, limit } => {
            (QueueAction::List { limit: limit.saturating_add(1) }, selection.clone())
        }
        QueueCommand::Show { id } => {
            let selection = QueueSelection { ids: vec![id.clone()], ..QueueSelection::default() };
            (QueueAction::List { limit: 1 }, selection)
        }
        QueueCommand::Summary => (QueueAction::Summary, QueueSelection::default()),
        QueueCommand::Hold { selection } => (QueueAction::Hold, selection.clone()),
        QueueCommand::Release { selection } => (QueueAction::Release, selection.clone()),
        QueueCommand::Retry { selection } => (QueueAction::Retry, selection.clone()),
        QueueCommand::Bounce { selection, because } => {
            (QueueAction::Bounce { reason: because.clone() }, selection.clone())
        }
        QueueCommand::Delete { selection } => (QueueAction::Delete, selection.clone()),
        QueueCommand::Audit => (QueueAction::Audit, QueueSelection::default()),
    };
    ask_running(loaded, &Request::Queue { action, selection: selection_of(&selection) })
}

fn selection_of(selection: &QueueSelection) -> Selection {
    Selection {
        all: selection.all,
        messages: selection.ids.clone(),
        sender: selection.sender.clone(),
        recipient: selection.recipient.clone(),
        destination: selection.destination.clone(),
        account: selection.account.clone(),
        older_than_seconds: selection.older_than,
        reason: selection.reason.clone(),
        held: match (selection.held, selection.not_held) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        },
    }
}

/// A list as programs read it.
#[derive(Serialize)]
struct Listing<'a> {
    messages: &'a [Listed],
    /// Whether there are others, beyond the limit.
    more: bool,
}

/// Lists the first messages. That there are more is said, so that nobody takes a part for the whole.
fn list(messages: &[Listed], limit: usize, output: &Output) {
    let shown = messages.get(..limit).unwrap_or(messages);
    let has_more = shown.len() < messages.len();
    if output.json(&Listing { messages: shown, more: has_more }) {
        return;
    }
    if messages.is_empty() {
        return output.say("the queue is empty");
    }
    let recipients: usize = shown.iter().map(|message| message.recipients.len()).sum();
    let more = if has_more { "; … and more: pillarbox queue list --limit N" } else { "" };
    let sum = format!("{} messages, {recipients} recipients{more}", shown.len());
    output.lines(shown.iter().flat_map(|message| lines_of(message, output)).chain([sum]));
}

fn lines_of(message: &Listed, output: &Output) -> impl Iterator<Item = String> {
    let Listed { id, octets, arrived, sender, recipients, .. } = message;
    let sender = if sender.is_empty() { "<>" } else { sender };
    let (mark, size, arrived) = (mark_of(message), Octets(*octets), super::why::clock(*arrived));
    let head = output.paint("1", &format!("{id}{mark}  {size}  {arrived}  {sender}"));
    std::iter::once(head).chain(recipients.iter().map(|recipient| format!("    {}", line_of(recipient))))
}

/// As postqueue(1) marks them.
fn mark_of(message: &Listed) -> &'static str {
    let any = |state: &str| message.recipients.iter().any(|recipient| recipient.state == state);
    match (any("active"), any("held")) {
        (true, _) => "*",
        (_, true) => "!",
        _ => "",
    }
}

fn line_of(recipient: &ListedRecipient) -> String {
    let state = match (recipient.state.as_str(), recipient.due) {
        ("waiting", Some(due)) => format!("waiting until {}", super::why::clock(due)),
        (state, _) => state.to_owned(),
    };
    let reason = recipient.last.as_ref().map(|last| format!(": {} {}", last.status, last.text)).unwrap_or_default();
    format!("{}  [{}] {state}, {} tries{reason}", recipient.address, recipient.destination, recipient.attempts)
}

fn show(message: &Listed, output: &Output) {
    if output.json(message) {
        return;
    }
    output.say(format!("message    {}{}", message.id, mark_of(message)));
    output.say(format!("arrived    {}", super::why::clock(message.arrived)));
    output.say(format!("sender     <{}>", message.sender));
    if let Some(account) = &message.account {
        output.say(format!("account    {account}"));
    }
    output.say(format!("size       {} octets", message.octets));
    for recipient in &message.recipients {
        output.say(format!("recipient  {}", line_of(recipient)));
        if let Some(last) = &recipient.last {
            output.say(format!("           by {}", last.peer.as_deref().unwrap_or("nobody: no host was reached")));
            output.say(format!("           over {}", last.tls.as_deref().unwrap_or("clear text, or no connection")));
        }
    }
}

fn summary(destinations: &[DestinationFacts], output: &Output) {
    if output.json(&destinations) {
        return;
    }
    let headings: Vec<&str> =
        ["destination", "all", "due", "active", "held", "down until"].into_iter().chain(AGES).collect();
    let rows: Vec<Vec<String>> = destinations
        .iter()
        .map(|facts| {
            let now = deliver::now();
            let down = facts.down_until.filter(|until| *until > now).map_or(String::new(), super::why::clock);
            let all = facts.waiting + facts.held + facts.active;
            let mut row = vec![facts.destination.clone(), all.to_string(), facts.due.to_string()];
            row.extend([facts.active.to_string(), facts.held.to_string(), down]);
            row.extend(facts.ages.iter().map(u32::to_string));
            row
        })
        .collect();
    output.table(&headings, &rows);
}

fn tell_changed(changed: Changed, output: &Output) {
    if output.json(&changed) {
        return;
    }
    output.say(format!("{} recipients", changed.recipients));
    if changed.active > 0 {
        output.say(format!("{} more are being tried just now and were left alone", changed.active));
    }
}

/// Also without a running server.
fn audit(loaded: &Loaded, output: &Output) -> anyhow::Result<ExitCode> {
    let request = Request::Queue { action: QueueAction::Audit, selection: Selection::default() };
    let response = match ask(loaded, &request)? {
        Some(response) => response,
        None => {
            let store = crate::serve::open_store_alone(&loaded.config)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let response = admin::queue_desk::audit(&store).await;
                store.close().await.map_err(|error| anyhow!("{error}"))?;
                anyhow::Ok(response)
            })?
        }
    };
    let facts = match response {
        Response::Audit(facts) => facts,
        Response::Failed(causes) => bail!("{}", causes.join("\n")),
        _ => bail!("unexpected answer"),
    };
    tell_audit(&facts, output);
    Ok(if facts.balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell_audit(facts: &AuditFacts, output: &Output) {
    if output.json(facts) {
        return;
    }
    let AuditFacts { messages, accepted, delivered, bounced, discarded, waiting, held, .. } = facts;
    output.say(format!("{accepted} recipients of {messages} messages were accepted:"));
    output.say(format!("    {delivered} delivered, {bounced} bounced, {discarded} discarded by a named rule"));
    output.say(format!("    {waiting} waiting, {held} held"));
    match facts.balanced {
        true => output.say("mail is conserved"),
        false => output.say(format!("NOT CONSERVED; look at: {}", facts.unbalanced.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::UnixMillis;

    #[test]
    fn messages_are_marked_as_postqueue_marks_them() {
        let recipient = |state: &str| ListedRecipient {
            number: 0,
            address: "a@b".into(),
            destination: "smtp:b".into(),
            state: state.into(),
            due: None,
            attempts: 0,
            last: None,
        };
        let message = |states: &[&str]| Listed {
            id: "A".into(),
            arrived: UnixMillis(0),
            sender: String::new(),
            account: None,
            octets: 1,
            recipients: states.iter().map(|state| recipient(state)).collect(),
        };
        assert_eq!(mark_of(&message(&["held", "active"])), "*");
        assert_eq!(mark_of(&message(&["held", "waiting"])), "!");
        assert_eq!(mark_of(&message(&["waiting"])), "");
    }
}
