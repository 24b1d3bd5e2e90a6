//! Rules of the queue and of stories.

use super::*;
use crate::queue::{EVENTS_WITH_DEFERRALS_MAX, Ledger, StoryQuery};
use mail::queue::Outcome as Tried;
use mail::{
    Address, Arrival, Attempt, EnhancedStatus, Event, Happening, Notify, QueueChange, QueueId, QueueState,
    QueuedEnvelope, QueuedRecipient, Recipient, RequireTls, ReversePath, Settled, UnixMillis,
};

const DAY: u64 = 86_400_000;

fn event(what: Happening) -> Event {
    Event { at: UnixMillis(7), recipient: None, what }
}

fn queued(number: u32, address: &str) -> QueuedRecipient {
    let recipient = Recipient {
        address: Address::parse(address).expect("an address"),
        notify: [None, Some(Notify::Never), Some(Notify::On { success: true, failure: false, delay: true })]
            [number as usize % 3],
        original: (number == 1).then(|| "rfc822;x@y".to_owned()),
    };
    let state = QueueState::Waiting(UnixMillis(5));
    let via = (number == 1).then(|| Address::parse("alias@example.net").expect("an address"));
    QueuedRecipient { number, recipient, via, state, attempts: 0, delay_reported: false, last: None }
}

fn envelope(id: QueueId) -> Box<QueuedEnvelope> {
    Box::new(QueuedEnvelope {
        id,
        arrived: UnixMillis(id.0 / 1_000),
        reverse_path: ReversePath::Address(Address::parse("\"odd local\"@example.net").expect("an address")),
        account: Some(account("a@example.net")),
        eight_bit: true,
        smtputf8: false,
        require_tls: RequireTls::Required,
        dsn_return: Some(mail::DsnReturn::Headers),
        envelope_id: Some("id 1".into()),
    })
}

fn begin(id: QueueId) -> QueueChange {
    let arrival = Arrival { from: "a@example.net".into(), message_id: Some("<%_\"x@y>".into()), ..Arrival::default() };
    QueueChange::Begin { message: id, discarded: 0, events: vec![event(Happening::Received(arrival))] }
}

fn enqueue(id: QueueId, body: BodyId, recipients: &[&str]) -> QueueChange {
    let recipients = (0..).zip(recipients).map(|(number, address)| queued(number, address)).collect();
    QueueChange::Enqueue { envelope: envelope(id), body, recipients }
}

async fn change(store: &dyn MailStore, queue: Vec<QueueChange>) {
    store.commit(Commit { queue, ..Commit::default() }).await.expect("commits");
}

fn tried(outcome: Tried, class: u8) -> Attempt {
    Attempt::finding(outcome, EnhancedStatus::new(class, 4, 1), "no answer\r\nfrom host")
}

async fn sums(store: &dyn MailStore, id: QueueId) -> Ledger {
    store.story(id).await.expect("reads").expect("known").ledger.expect("accepted")
}

/// One message, from acceptance to the last recipient.
pub async fn recipients_are_settled_one_by_one(store: &dyn MailStore) {
    let id = QueueId(1_000_001);
    let staged = stage(store, b"out\r\n", b"");
    let local = Change::Append {
        mailbox: named("INBOX"),
        body: staged.id,
        flags: FlagSet::default(),
        internal_date: InternalDate::default(),
    };
    let group = Group { account: account("queue@example.net"), changes: vec![local], quota: Quota::default() };
    let queue = vec![begin(id), enqueue(id, staged.id, &["x@y.example", "z@y.example", "x@w.example"])];
    let answers = store.commit(Commit { groups: vec![group], together: true, queue }).await.expect("commits");
    assert!(answers[0].is_ok());
    drop(staged);

    let message = store.queued(id).await.expect("reads").expect("queued");
    assert_eq!(message.envelope, *envelope(id));
    assert_eq!(message.octets, 5);
    assert_eq!(message.recipients[1], queued(1, "z@y.example"));
    let range = BodyRange { blob: message.blob, start: 0, octets: u64::MAX };
    assert_eq!(store.read(vec![range]).await.expect("reads")[0].as_ref().expect("octets")[..], b"out\r\n"[..]);

    let first = store.queue_entries(None, 2).await.expect("reads");
    assert_eq!(first.iter().map(|entry| entry.number).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(first[0].sender, "\"odd local\"@example.net");
    let rest = store.queue_entries(Some((id, 1)), 10).await.expect("reads");
    assert_eq!(rest.iter().map(|entry| entry.address.to_string()).collect::<Vec<_>>(), ["x@w.example"]);

    let later = QueueState::Waiting(UnixMillis(9));
    let attempt = Some(tried(Tried::Deferred, 4));
    change(
        store,
        vec![
            QueueChange::Wait { message: id, number: 0, state: later, attempt: attempt.clone(), delay_reported: true },
            QueueChange::Wait { message: id, number: 1, state: QueueState::Held, attempt: None, delay_reported: false },
            QueueChange::Settle { message: id, number: 2, how: Settled::Delivered },
            QueueChange::Settle { message: id, number: 2, how: Settled::Bounced },
            QueueChange::Tell { message: id, event: event(Happening::Queued) },
        ],
    )
    .await;
    let message = store.queued(id).await.expect("reads").expect("queued");
    assert_eq!(message.recipients.len(), 2, "a recipient is settled once");
    let waiting = &message.recipients[0];
    assert_eq!((waiting.state, waiting.attempts, &waiting.last), (later, 1, &attempt));
    assert!(waiting.delay_reported && waiting.last.as_ref().is_some_and(|last| !last.text.contains('\r')), "V13");
    assert_eq!((message.recipients[1].state, message.recipients[1].attempts), (QueueState::Held, 0));
    let expected = Ledger { messages: 1, accepted: 4, delivered: 2, waiting: 1, held: 1, ..Ledger::default() };
    assert_eq!(sums(store, id).await, expected);

    let tried_while_held =
        QueueChange::Wait { message: id, number: 1, state: later, attempt: attempt.clone(), delay_reported: false };
    change(store, vec![tried_while_held]).await;
    let message = store.queued(id).await.expect("reads").expect("queued");
    assert_eq!(message.recipients[1].state, QueueState::Held, "a try does not release what was held meanwhile");

    let settle = |number, how| QueueChange::Settle { message: id, number, how };
    change(store, vec![settle(0, Settled::Bounced), settle(1, Settled::Discarded)]).await;
    assert_eq!(store.queued(id).await.expect("reads"), None, "the message goes with its last recipient");
    let expected = Ledger { messages: 1, accepted: 4, delivered: 2, bounced: 1, discarded: 1, ..Ledger::default() };
    assert_eq!(sums(store, id).await, expected);
    let story = store.story(id).await.expect("reads").expect("known");
    assert_eq!(story.events.len(), 2);
}

/// What is queued has octets, or is not queued; what is refused leaves nothing.
pub async fn nothing_is_queued_without_its_commit(store: &dyn MailStore) {
    let id = QueueId(1_000_002);
    let staged = stage(store, b"0123456789", b"");
    let append = Change::Append {
        mailbox: named("INBOX"),
        body: staged.id,
        flags: FlagSet::default(),
        internal_date: InternalDate::default(),
    };
    let tight = Quota { octets_max: Some(5), ..Quota::default() };
    let group = Group { account: account("tight@example.net"), changes: vec![append], quota: tight };
    let queue = vec![begin(id), enqueue(id, staged.id, &["x@y.example"])];
    let commit = Commit { groups: vec![group], together: true, queue: queue.clone() };
    assert_eq!(store.commit(commit).await.expect("answers")[0], Err(ChangeError::OverQuota));
    assert_eq!(store.queued(id).await.expect("reads"), None);
    assert_eq!(store.story(id).await.expect("reads"), None);
    change(store, queue.clone()).await;
    assert!(store.queued(id).await.expect("reads").is_some());
    let again = QueueId(1_000_003);
    let twice = Commit { queue: vec![begin(again), enqueue(again, staged.id, &["x@y.example"])], ..Commit::default() };
    assert!(store.commit(twice).await.is_err(), "a body is taken once");
    assert_eq!(store.story(again).await.expect("reads"), None);
    change(store, vec![QueueChange::Settle { message: id, number: 0, how: Settled::Delivered }]).await;
}

/// A mailbox's row of a message from the queue is no delivery of the message that begins behind it.
pub async fn groups_count_for_the_message_that_a_commit_begins_with(store: &dyn MailStore) {
    let [old, new, next] = [4, 5, 6].map(|number| QueueId(1_000_000 + number));
    let staged = stage(store, b"waits\r\n", b"");
    change(store, vec![begin(old), enqueue(old, staged.id, &["x@y.example"])]).await;
    let row = async |queue: Vec<QueueChange>| {
        let copy = stage(store, b"copy\r\n", b"");
        let changes = vec![append("INBOX", copy.id)];
        let group = Group { account: account("groups@example.net"), changes, quota: Quota::default() };
        let answers = store.commit(Commit { groups: vec![group], together: true, queue }).await.expect("commits");
        assert!(answers[0].is_ok());
    };
    row(vec![QueueChange::Settle { message: old, number: 0, how: Settled::Delivered }, begin(new)]).await;
    let settled = Ledger { messages: 1, accepted: 1, delivered: 1, ..Ledger::default() };
    assert_eq!(sums(store, old).await, settled);
    assert_eq!(sums(store, new).await, Ledger { messages: 1, ..Ledger::default() });
    row(vec![begin(next)]).await;
    assert_eq!(sums(store, next).await, settled);
}

/// However often a message was tried, its story says how it ended (P1), and has a limit.
pub async fn a_story_tells_of_its_end(store: &dyn MailStore) {
    let id = QueueId(1_000_007);
    let tell = |what| QueueChange::Tell { message: id, event: event(what) };
    let put_off = |round: u32| match round % 3 {
        0 => tell(Happening::Attempted(tried(Tried::Deferred, 4))),
        // Of a failure that could not be reported.
        1 => tell(Happening::Attempted(tried(Tried::Failed, 5))),
        _ => tell(Happening::Deferred { until: UnixMillis(9) }),
    };
    let end = Happening::Bounced { cause: "too long in the queue".into(), report: None };
    let other = Happening::Attempted(tried(Tried::Delivered, 2));
    let mut queue = vec![begin(id)];
    queue.extend((0..EVENTS_WITH_DEFERRALS_MAX + 4).map(put_off));
    queue.extend([tell(other.clone()), tell(end.clone()), put_off(0), put_off(1), put_off(2)]);
    change(store, queue).await;
    let events = store.story(id).await.expect("reads").expect("known").events;
    assert_eq!(events.len() as u32, 1 + EVENTS_WITH_DEFERRALS_MAX + 2);
    assert_eq!(events[events.len() - 2..], [event(other), event(end)]);
}

/// A time or a name that is greater than any can be is taken, and costs nobody their commit.
pub async fn numbers_may_be_senseless(store: &dyn MailStore) {
    let (id, never) = (QueueId(1_000_008), UnixMillis(u64::MAX));
    let staged = stage(store, b"x", b"");
    let envelope = Box::new(QueuedEnvelope { arrived: never, ..*envelope(id) });
    let recipients = vec![QueuedRecipient { state: QueueState::Waiting(never), ..queued(0, "x@y.example") }];
    change(store, vec![begin(id), QueueChange::Enqueue { envelope, body: staged.id, recipients }]).await;
    assert!(store.queued(id).await.expect("reads").is_some_and(|message| message.envelope.arrived.0 > 1 << 60));
    let nobody = QueueId(u64::MAX);
    assert_eq!(store.queued(nobody).await.expect("reads"), None);
    assert_eq!(store.story(nobody).await.expect("reads"), None);
    assert_eq!(store.queue_entries(Some((nobody, u32::MAX)), 9).await.expect("reads"), []);
    let wait =
        QueueChange::Wait { message: nobody, number: 0, state: QueueState::Held, attempt: None, delay_reported: false };
    let settle = |message| QueueChange::Settle { message, number: 0, how: Settled::Discarded };
    change(store, vec![wait, settle(nobody), settle(id)]).await;
    let query = StoryQuery { text: None, after: never, limit: usize::MAX };
    assert_eq!(store.stories(query).await.expect("reads"), []);
}

/// Stories are found by what they tell, and forgotten in time, but not those of what still waits.
pub async fn stories_are_found_and_forgotten(store: &dyn MailStore) {
    let now = 100 * DAY;
    let ids: Vec<QueueId> = (0..3).map(|day| QueueId((now + day * DAY) * 1_000)).collect();
    let staged = stage(store, b"x", b"");
    change(store, vec![begin(ids[0]), enqueue(ids[0], staged.id, &["waits@y.example"])]).await;
    change(store, vec![begin(ids[1])]).await;
    let refusal =
        Event { recipient: Some("nobody@example.net".into()), ..event(Happening::Noted { what: "no".into() }) };
    change(store, vec![QueueChange::Tell { message: ids[2], event: refusal }]).await;
    let ask = async |text: Option<&str>, after: u64, limit: usize| {
        let query = StoryQuery { text: text.map(str::to_owned), after: UnixMillis(after), limit };
        let found = store.stories(query).await.expect("reads");
        found.iter().map(|story| story.message).collect::<Vec<_>>()
    };
    assert_eq!(ask(None, now - 1, 10).await, [ids[2], ids[1], ids[0]]);
    assert_eq!(ask(None, now, 1).await, [ids[2]]);
    assert_eq!(ask(Some("NOBODY@example.net"), 0, 10).await, [ids[2]]);
    assert_eq!(ask(Some("<%_\"x@y>"), now - 1, 10).await, [ids[1], ids[0]], "no wildcards");
    assert!(ask(Some("<%__x@y>"), 0, 10).await.is_empty());
    let audit = store.audit().await.expect("reads");
    assert!(audit.total.is_balanced() && audit.unbalanced.is_empty(), "{audit:?}");
    store.forget_stories(UnixMillis(now + 2 * DAY), u64::MAX >> 1).await.expect("forgets");
    assert_eq!(ask(None, 0, 10).await, [ids[2], ids[0]], "what waits is not forgotten");
    change(store, vec![QueueChange::Settle { message: ids[0], number: 0, how: Settled::Discarded }]).await;
    change(store, vec![begin(QueueId(ids[2].0 + 1)), begin(QueueId(ids[2].0 + 2))]).await;
    store.forget_stories(UnixMillis(0), 1).await.expect("forgets");
    assert_eq!(ask(None, 0, 10).await, [QueueId(ids[2].0 + 2)], "only so many are kept");
}
