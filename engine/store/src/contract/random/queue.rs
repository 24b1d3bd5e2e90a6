//! Queue changes of random commits, and how the queue is compared.

use super::*;
use mail::queue::Outcome as Tried;
use mail::{
    Address, Attempt, DsnReturn, EnhancedStatus, Event, Happening, Notify, QueueChange, QueueState, QueuedEnvelope,
    QueuedRecipient, Recipient, RequireTls, ReversePath, Settled, UnixMillis,
};

/// When the first message came; those of the other rules came before.
const BEGINNING: UnixMillis = UnixMillis(400 * 86_400_000);
/// More stories than there are.
const STORIES_MAX: u64 = u64::MAX >> 1;
/// Entries and messages asked for at a time.
const PAGE: usize = 7;
const ADDRESSES: [&str; 4] = ["x@a.example", "\"odd local\"@a.example", "y@b.example", "\u{fc}@b.example"];

/// Forgets what the other rules left, so that sums are those of the model.
pub async fn forget_all_before(store: &dyn MailStore) {
    store.forget_stories(BEGINNING, STORIES_MAX).await.expect("forgets");
    assert_eq!(store.audit().await.expect("reads"), Default::default());
    assert!(store.queue_entries(None, 1).await.expect("reads").is_empty());
}

/// Forgets stories up to some message.
pub async fn forget_some(store: &dyn MailStore, model: &mut Model, random: &mut Random) {
    let until = UnixMillis(BEGINNING.0 + random.below(model.queue.tales.len() as u64));
    store.forget_stories(until, STORIES_MAX).await.expect("forgets");
    model.queue.forget(QueueId(until.0 * 1_000));
}

/// What a commit does to the queue: nothing, something to messages that are there, or a new message as well.
pub fn changes(model: &Model, body: BodyId, random: &mut Random) -> Vec<QueueChange> {
    let mut changes = Vec::new();
    if random.below(2) == 0 {
        return changes;
    }
    let latest = model.queue.tales.keys().next_back().map_or(BEGINNING.0, |latest| latest.0 / 1_000);
    for place in 1..random.below(4) {
        let message = QueueId((latest + place) * 1_000 + random.below(1_000));
        let events = (0..random.below(3)).map(|_| event(random)).collect();
        changes.push(QueueChange::Begin { message, discarded: random.below(3).saturating_sub(1) as u32, events });
        if random.below(4) > 0 {
            // Rarely octets that were taken, or that nobody knows.
            let body = match random.below(30) {
                0 => model.taken.first().copied().unwrap_or(body),
                1 => BodyId(u64::MAX),
                _ => body,
            };
            let recipients = (0..1 + random.below(4) as u32).map(|number| recipient(number, random)).collect();
            changes.push(QueueChange::Enqueue { envelope: Box::new(envelope(message, random)), body, recipients });
        }
    }
    let waiting = model.queue.messages.iter();
    let mut known: Vec<(QueueId, u32)> =
        waiting.flat_map(|(id, queued)| queued.recipients.keys().map(|number| (*id, *number))).collect();
    known.extend(changes.iter().filter_map(begun).flat_map(|id| [(id, 0), (id, 1)]));
    for _ in 0..random.below(6) {
        let (message, number) = match known.is_empty() || random.below(20) == 0 {
            // One that is settled, or forgotten, or came from nowhere.
            true => (QueueId(BEGINNING.0 * 1_000 + random.below(1 << 20)), 0),
            false => *random.pick(&known),
        };
        changes.push(one_change(message, number, random));
    }
    let is_later =
        |change: &mut QueueChange| !matches!(change, QueueChange::Begin { .. } | QueueChange::Enqueue { .. });
    if random.below(3) == 0
        && let Some(first) = changes.pop_if(is_later)
    {
        // Then the commit's groups are of no message that begins.
        changes.insert(0, first);
    }
    changes
}

fn begun(change: &QueueChange) -> Option<QueueId> {
    match change {
        QueueChange::Begin { message, .. } => Some(*message),
        _ => None,
    }
}

fn one_change(message: QueueId, number: u32, random: &mut Random) -> QueueChange {
    match random.below(10) {
        0..3 => {
            let attempt = (random.below(2) == 0).then(|| attempt(Tried::Deferred, random));
            QueueChange::Wait { message, number, state: state(random), attempt, delay_reported: random.below(4) == 0 }
        }
        3..9 => {
            let how = *random.pick(&[Settled::Delivered, Settled::Bounced, Settled::Discarded]);
            QueueChange::Settle { message, number, how }
        }
        _ => QueueChange::Tell { message, event: event(random) },
    }
}

fn state(random: &mut Random) -> QueueState {
    if random.below(3) == 0 { QueueState::Held } else { QueueState::Waiting(UnixMillis(random.below(1 << 40))) }
}

fn attempt(outcome: Tried, random: &mut Random) -> Attempt {
    Attempt {
        peer: (random.below(2) == 0).then(|| "mx.a.example[192.0.2.1]:25".to_owned()),
        is_reply: random.below(2) == 0,
        tls: (random.below(2) == 0).then(|| "TLS".to_owned()),
        dsn_passed_on: random.below(2) == 0,
        ..Attempt::finding(outcome, EnhancedStatus::new(4, 4, 1), &format!("450 try {}", random.below(1_000)))
    }
}

fn event(random: &mut Random) -> Event {
    let what = match random.below(3) {
        0 => Happening::Queued,
        1 => Happening::Attempted(attempt(Tried::Failed, random)),
        _ => Happening::Noted { what: format!("finding {}", random.below(1_000)) },
    };
    let recipient = (random.below(2) == 0).then(|| random.pick::<&str>(&ADDRESSES).to_string());
    Event { at: UnixMillis(random.below(1 << 40)), recipient, what }
}

fn address(random: &mut Random) -> Address {
    Address::parse(random.pick::<&str>(&ADDRESSES)).expect("an address")
}

fn recipient(number: u32, random: &mut Random) -> QueuedRecipient {
    let bit = |random: &mut Random| random.below(2) == 0;
    let on = Notify::On { success: bit(random), failure: bit(random), delay: true };
    QueuedRecipient {
        number,
        recipient: Recipient {
            address: address(random),
            notify: *random.pick(&[None, Some(Notify::Never), Some(on)]),
            original: bit(random).then(|| "rfc822;x@y".to_owned()),
        },
        via: bit(random).then(|| address(random)),
        state: state(random),
        attempts: random.below(3) as u32,
        delay_reported: bit(random),
        last: bit(random).then(|| attempt(Tried::Deferred, random)),
    }
}

fn envelope(id: QueueId, random: &mut Random) -> QueuedEnvelope {
    let bit = |random: &mut Random| random.below(2) == 0;
    QueuedEnvelope {
        id,
        arrived: UnixMillis(id.0 / 1_000),
        reverse_path: if bit(random) { ReversePath::Null } else { ReversePath::Address(address(random)) },
        account: bit(random).then(|| account(ACCOUNTS[0])),
        eight_bit: bit(random),
        smtputf8: bit(random),
        require_tls: [RequireTls::Ordinary, RequireTls::Required, RequireTls::Optional][random.below(3) as usize],
        dsn_return: *random.pick(&[None, Some(DsnReturn::Full), Some(DsnReturn::Headers)]),
        envelope_id: bit(random).then(|| "id 1".to_owned()),
    }
}

/// The messages that a commit's queue changes name.
pub fn messages_of(commit: &Commit) -> BTreeSet<QueueId> {
    let message = |change: &QueueChange| match change {
        QueueChange::Enqueue { envelope, .. } => envelope.id,
        QueueChange::Begin { message, .. }
        | QueueChange::Wait { message, .. }
        | QueueChange::Settle { message, .. }
        | QueueChange::Tell { message, .. } => *message,
    };
    commit.queue.iter().map(message).collect()
}

/// Compares some messages with their stories, and all that waits, page by page; the sums as well.
pub async fn compare(store: &dyn MailStore, model: &mut Model, messages: &BTreeSet<QueueId>) {
    for message in messages {
        let found = store.queued(*message).await.expect("reads");
        model.queue.compare(*message, found.as_ref());
        let some = store.queued_for(*message, vec![3, 1, 1, 77]).await.expect("reads");
        let expected = found.map(|mut found| {
            found.recipients.retain(|recipient| [1, 3].contains(&recipient.number));
            found
        });
        assert_eq!(some, expected);
        assert_eq!(store.story(*message).await.expect("reads"), model.queue.story(*message));
    }
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|entry: &mail::QueueEntry| (entry.message, entry.number));
        let page = store.queue_entries(after, PAGE).await.expect("reads");
        let is_last = page.len() < PAGE;
        found.extend(page);
        if is_last {
            break;
        }
    }
    assert_eq!(found, model.queue.entries());
    assert_eq!(store.audit().await.expect("reads"), model.queue.audit());
}

/// Compares the octets of all that waits.
pub async fn compare_octets(store: &dyn MailStore, model: &Model) {
    let mut after = QueueId(0);
    let mut count = 0;
    loop {
        let page = store.queued_messages(after, PAGE).await.expect("reads");
        let Some(last) = page.last() else { break };
        after = last.envelope.id;
        count += page.len();
        for message in page {
            assert_eq!(store.queued(message.envelope.id).await.expect("reads").as_ref(), Some(&message));
            assert!(whole(store, message.blob).await == model.queue.messages[&message.envelope.id].octets[..]);
        }
    }
    assert_eq!(count, model.queue.messages.len());
}
