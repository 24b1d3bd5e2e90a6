//! `why`: the story of a message in plain words (P1).

use super::server::ask;
use crate::cli::Why;
use crate::config::{Loaded, Octets};
use crate::output::Output;
use admin::control::{Request, Response};
use admin::queue_desk::StoryFacts;
use anyhow::{anyhow, bail};
use mail::queue::Outcome;
use mail::{Arrival, Attempt, Event, Happening, InternalDate, UnixMillis};
use std::process::ExitCode;
use store::MailStore;

/// Tells stories; a failure when there is none.
pub fn why(loaded: &Loaded, options: &Why, output: &Output) -> anyhow::Result<ExitCode> {
    let stories = stories(loaded, options)?;
    if !output.json(&stories) {
        if stories.is_empty() {
            output.say(match &options.about {
                Some(about) => format!("nothing is known of {about}"),
                None => "nothing has happened yet".into(),
            });
        }
        stories.iter().for_each(|story| tell(story, output));
    }
    Ok(if stories.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn stories(loaded: &Loaded, options: &Why) -> anyhow::Result<Vec<StoryFacts>> {
    let about = options.about.as_ref().map(|about| about.trim_matches(['<', '>']).to_owned());
    let (within_seconds, limit) = (options.within, options.limit);
    let response = match ask(loaded, &Request::Why { about: about.clone(), within_seconds, limit })? {
        Some(response) => response,
        None => {
            let store = crate::serve::open_store_alone(&loaded.config)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let response = admin::queue_desk::why(&store, about, within_seconds, limit).await;
                store.close().await.map_err(|error| anyhow!("{error}"))?;
                anyhow::Ok(response)
            })?
        }
    };
    match response {
        Response::Stories(stories) => Ok(stories),
        Response::Failed(causes) => bail!("{}", causes.join("\n")),
        _ => bail!("unexpected answer"),
    }
}

fn tell(story: &StoryFacts, output: &Output) {
    output.say(output.paint("1", &story.id));
    for event in &story.events {
        for (index, line) in words(event).into_iter().enumerate() {
            let time = if index == 0 { clock(event.at) } else { " ".repeat(19) };
            output.say(format!("  {time}  {line}"));
        }
    }
    match &story.ledger {
        Some(ledger) => output.say(format!("  now: {}", now(ledger))),
        None if story.events.iter().any(|event| matches!(event.what, Happening::Refused { .. })) => {
            output.say("  now: with its sender; nothing of it was kept here");
        }
        None => {}
    }
}

/// Where its recipients are.
fn now(ledger: &admin::queue_desk::AuditFacts) -> String {
    let parts = [
        (ledger.delivered, "delivered"),
        (ledger.bounced, "bounced"),
        (ledger.discarded, "discarded"),
        (ledger.waiting, "waiting in the queue"),
        (ledger.held, "held in the queue"),
    ];
    let told: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if told.is_empty() { "no recipients".into() } else { told.join(", ") }
}

fn words(event: &Event) -> Vec<String> {
    let recipient = event.recipient.as_deref().unwrap_or_default();
    let about = if recipient.is_empty() { String::new() } else { format!("{recipient}: ") };
    match &event.what {
        Happening::Received(arrival) => received(arrival),
        Happening::Refused { arrival, by, reply } => {
            let mut lines = vec![format!("refused by {by}: {reply}"), envelope("from", arrival)];
            lines.extend(origin(arrival));
            lines
        }
        Happening::Expanded { to, by } => vec![format!("{about}stands for {} ({by})", to.join(", "))],
        Happening::Stored { account, mailbox } => vec![format!("{about}stored in {mailbox} of {account}")],
        Happening::Queued => vec!["put into the queue".into()],
        Happening::Attempted(attempt) => attempted(&about, attempt),
        Happening::Deferred { until } => vec![format!("{about}to be tried again at {}", clock(*until))],
        Happening::Held { by } => vec![format!("{about}held by {by}; `pillarbox queue release` lets it go on")],
        Happening::Released { by } => vec![format!("{about}released by {by}")],
        Happening::Bounced { cause, report: Some(report) } => {
            vec![format!("{about}given up: {cause}"), format!("its sender was told in message {report}")]
        }
        Happening::Bounced { cause, report: None } => vec![format!("{about}given up: {cause}")],
        Happening::Reported { about: what, report } => {
            vec![format!("{about}its sender was told of the {what} in message {report}")]
        }
        Happening::Discarded { by } => vec![format!("{about}thrown away by {by}")],
        Happening::Altered { what } | Happening::Noted { what } => vec![format!("{about}{what}")],
    }
}

fn envelope(what: &str, arrival: &Arrival) -> String {
    let sender = if arrival.from.is_empty() { "<>" } else { &arrival.from };
    format!("{what} {sender} for {}", arrival.to.join(", "))
}

fn received(arrival: &Arrival) -> Vec<String> {
    let mut lines = vec![envelope("received from", arrival)];
    lines.extend(origin(arrival));
    lines
}

fn origin(arrival: &Arrival) -> Vec<String> {
    let mut way = format!("by {}", arrival.listener);
    if let Some(peer) = &arrival.peer {
        way.push_str(&format!(" from {peer}"));
    }
    if let Some(helo) = &arrival.helo {
        way.push_str(&format!(" ({helo})"));
    }
    way.push_str(&arrival.account.as_ref().map_or(String::new(), |account| format!(", logged in as {account}")));
    way.push_str(&arrival.tls.as_ref().map_or(", in clear text".to_owned(), |tls| format!(", {tls}")));
    let mut lines = vec![way];
    if arrival.octets > 0 {
        let id = arrival.message_id.as_deref().unwrap_or("none");
        lines.push(format!("{} octets, message-id {id}", Octets(arrival.octets)));
    }
    lines
}

fn attempted(about: &str, attempt: &Attempt) -> Vec<String> {
    let outcome = match attempt.outcome {
        Outcome::Delivered => "delivered",
        Outcome::Deferred => "not delivered yet",
        Outcome::Failed => "cannot be delivered",
    };
    let said = if attempt.is_reply { "which said" } else { "because" };
    let mut lines = match &attempt.peer {
        Some(peer) => vec![format!("{about}{outcome} to {peer}, {said}: {}", attempt.text)],
        None => vec![format!("{about}{outcome}: {} {}", attempt.status, attempt.text)],
    };
    match (&attempt.tls, attempt.peer.is_some()) {
        (Some(tls), _) => lines.push(tls.clone()),
        (None, true) if attempt.is_reply => lines.push("in clear text".into()),
        (None, _) => {}
    }
    lines
}

/// A time in UTC, to the second.
pub fn clock(at: UnixMillis) -> String {
    let civil = InternalDate::from(at).civil();
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        civil.year, civil.month, civil.day, civil.hour, civil.minute, civil.second
    )
}
