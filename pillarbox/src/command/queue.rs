//! `queue …`: what waits, and what to do with it (R143, R218).

use super::server::{ask, ask_running};
use crate::cli::{QueueCommand, QueueSelection};
use crate::config::{Loaded, Octets};
use crate::output::Output;
use admin::control::{Request, Response};
use admin::queue_desk::{AuditFacts, DestinationFacts, QueueAction};
use anyhow::{anyhow, bail};
use qmgr::{Listed, ListedRecipient, Selection};
use std::process::ExitCode;
use store::MailStore;

/// Upper bounds of the age classes, as headings.
const AGES: [&str; 10] = ["5m", "10m", "20m", "40m", "80m", "160m", "320m", "640m", "1280m", "older"];

/// Looks at the queue, or changes it. An audit that does not balance gives a failure.
pub fn queue(loaded: &Loaded, command: &QueueCommand, output: &Output) -> anyhow::Result<ExitCode> {
    let (action, selection) = match command {
        QueueCommand::List { selection, limit } => (QueueAction::List { limit: *limit }, selection.clone()),
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
        QueueCommand::Audit => return audit(loaded, output),
    };
    let request = Request::Queue { action, selection: selection_of(&selection) };
    match (command, ask_running(loaded, &request)?) {
        (QueueCommand::Show { .. }, Response::Queue { messages }) => show(&messages, output),
        (_, Response::Queue { messages }) => list(&messages, output),
        (_, Response::QueueSummary { destinations }) => summary(&destinations, output),
        (_, Response::Changed { recipients }) => {
            if !output.json(&serde_json::json!({ "recipients": recipients })) {
                output.say(format!("{recipients} recipients"));
            }
        }
        _ => bail!("unexpected answer"),
    }
    Ok(ExitCode::SUCCESS)
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

fn list(messages: &[Listed], output: &Output) {
    if output.json(&messages) {
        return;
    }
    if messages.is_empty() {
        return output.say("the queue is empty");
    }
    for message in messages {
        let mark = mark_of(message);
        let sender = if message.sender.is_empty() { "<>" } else { &message.sender };
        let head = format!(
            "{}{mark}  {}  {}  {sender}",
            message.id,
            Octets(message.octets),
            super::why::clock(message.arrived)
        );
        output.say(output.paint("1", &head));
        message.recipients.iter().for_each(|recipient| output.say(format!("    {}", line_of(recipient))));
    }
    let recipients: usize = messages.iter().map(|message| message.recipients.len()).sum();
    output.say(format!("{} messages, {recipients} recipients", messages.len()));
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

fn show(messages: &[Listed], output: &Output) {
    let Some(message) = messages.first() else { return output.say("not in the queue") };
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
        Response::Failed { causes } => bail!("{}", causes.join("\n")),
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
