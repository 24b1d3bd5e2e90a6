//! A manager in a small house: a real store, tables in a folder, nobody to send to.

use super::*;
use crate::outcome::conclude;
use deliver::{Accepted, Destined, Traits};
use directory::{Route, Settings};
use dns::Zone;
use mail::queue::Outcome;
use mail::{
    Arrival, Attempt, EnhancedStatus, Envelope, InternalDate, QueueState, QueuedMessage, Recipient, ReversePath,
};
use queue::{Contact, EntryState};
use relay::tls::Trust;
use store::embedded::{EmbeddedStore, Options};

const ALIASES: &str = "loop@own.example pool@own.example\npool@own.example loop@own.example\n";

struct World {
    folder: tempfile::TempDir,
    store: Arc<EmbeddedStore>,
    manager: Arc<QueueManager>,
}

fn embedded(folder: std::path::PathBuf) -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::open(Options { sync: false, ..Options::new(folder) }).unwrap())
}

fn world() -> World {
    World::new(true)
}

/// A house in which no report can be written.
async fn world_without_reports() -> World {
    let world = World::new(false);
    world.manager.house.reporter.store.close().await.unwrap();
    world
}

impl World {
    fn new(can_report: bool) -> World {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("accounts", "a@own.example:{PLAIN}a::::::\nb@own.example:{PLAIN}b::::::\n"),
            ("domains", "own.example\n"),
            ("aliases", ALIASES),
            ("transport", ""),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let store = embedded(folder.path().join("mail"));
        let reports = if can_report { store.clone() } else { embedded(folder.path().join("reports")) };
        let directory = Arc::new(Directory::open(Settings::in_folder(folder.path())).unwrap());
        let host = Domain::parse("mx.own.example").unwrap();
        let relay = Relay::new(relay::Settings::new(host), Arc::new(Zone::parse("").unwrap()), Trust::nobody(), None);
        let reporter = Reporter {
            host_name: "mx.own.example".into(),
            store: reports,
            directory: directory.clone(),
            queue_ids: Arc::default(),
            signer: None,
        };
        let house = House {
            host_name: "mx.own.example".into(),
            store: store.clone(),
            directory,
            relay: Arc::new(relay),
            reporter: Arc::new(reporter),
            srs: None,
            smarthost: None,
            plan: RetryPlan::default(),
            messages_per_connection_max: 10,
            connection_time_max: Duration::from_secs(60),
        };
        World { folder, store, manager: QueueManager::new(house, ScheduleSettings::default()) }
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn attempt(outcome: Outcome, class: u8) -> Attempt {
    Attempt::finding(outcome, EnhancedStatus::new(class, 0, 0), "said so")
}

impl World {
    /// Queues a message.
    async fn queue(&self, from: &str, to: &[&str]) -> QueuedMessage {
        self.queue_with(&Envelope::new(ReversePath::Address(address(from))), to).await
    }

    async fn queue_with(&self, envelope: &Envelope, to: &[&str]) -> QueuedMessage {
        let mut writer = self.store.stage().unwrap();
        writer.write(b"Subject: s\r\n\r\nb\r\n").unwrap();
        let body = writer.finish(b"", Vec::new()).unwrap();
        let id = self.manager.house.reporter.next_id();
        let accepted =
            Accepted::of_our_own(id, envelope, Traits { is_ascii: true, ..Traits::default() }, Arrival::default());
        let end = |to: &&str| {
            let recipient = Recipient::new(address(to));
            Destined { route: Route::Outside(recipient.address.clone()), recipient, via: None }
        };
        let destined: Vec<Destined> = to.iter().map(end).collect();
        let plan = deliver::plan(accepted, &destined, body.id, InternalDate::default(), &self.manager.house.directory);
        self.store.commit(plan.commit).await.unwrap();
        self.manager.queued(plan.queued.unwrap());
        self.message(id).await.unwrap()
    }

    async fn message(&self, id: QueueId) -> Option<QueuedMessage> {
        self.store.queued(id).await.unwrap()
    }

    async fn story(&self, id: QueueId) -> String {
        format!("{:?}", self.store.story(id).await.unwrap().unwrap().events)
    }

    /// What waits: message, number, and how the schedule has it.
    async fn waiting(&self) -> Vec<(QueueId, u32, Option<EntryState>)> {
        let entries = self.store.queue_entries(None, 100).await.unwrap();
        let state = |entry: &QueueEntry| self.manager.schedule().state(entry.message, entry.number);
        entries.iter().map(|entry| (entry.message, entry.number, state(entry))).collect()
    }

    fn transports(&self, text: &str) {
        std::fs::write(self.folder.path().join("transport"), text).unwrap();
        assert_eq!(self.manager.house.directory.refresh_now(), []);
    }

    /// One try of all: the outcomes in the order of the recipients. Gives what the schedule hears.
    async fn tried(&self, message: &QueuedMessage, outcomes: &[(Outcome, u8)]) -> Vec<(u32, Option<QueueState>)> {
        let attempts = (0..).zip(outcomes.iter().map(|(outcome, class)| attempt(*outcome, *class))).collect();
        let conclusion = conclude(message, attempts, &self.manager.house.plan, true, deliver::now());
        self.manager.settle(message, conclusion).await.unwrap()
    }
}

/// What was delivered stays delivered, whatever becomes of the report about the others.
#[tokio::test]
async fn a_report_that_cannot_be_written_keeps_only_those_it_is_about() {
    let world = world_without_reports().await;
    let to = ["x@there.example", "y@there.example", "z@there.example"];
    let message = world.queue("you@elsewhere.example", &to).await;
    let id = message.envelope.id;
    let outcomes = [(Outcome::Delivered, 2), (Outcome::Failed, 5), (Outcome::Deferred, 4)];
    let states = world.tried(&message, &outcomes).await;
    assert!(matches!(states[..], [(0, None), (2, Some(QueueState::Waiting(_)))]), "{states:?}");
    let left = world.message(id).await.unwrap().recipients;
    assert_eq!(left.iter().map(|queued| (queued.number, queued.attempts)).collect::<Vec<_>>(), [(1, 0), (2, 1)]);
    let audit = world.store.audit().await.unwrap();
    assert_eq!((audit.total.delivered, audit.total.bounced, audit.total.waiting), (1, 0, 2));
    assert!(audit.total.is_balanced() && !world.story(id).await.contains("Bounced"));
}

/// A report to a circle of aliases can never be written: then the story alone tells of the failure.
#[tokio::test]
async fn a_reverse_path_that_leads_in_a_circle_is_told_nothing() {
    let world = world();
    let message = world.queue("loop@own.example", &["x@there.example", "y@there.example"]).await;
    let states = world.tried(&message, &[(Outcome::Delivered, 2), (Outcome::Failed, 5)]).await;
    assert_eq!(states, [(0, None), (1, None)]);
    assert_eq!(world.message(message.envelope.id).await, None);
    let audit = world.store.audit().await.unwrap();
    assert_eq!((audit.total.messages, audit.total.delivered, audit.total.bounced), (1, 1, 1));
    let story = world.story(message.envelope.id).await;
    assert!(story.contains("leads in a circle") && story.contains("report: None"), "{story}");
}

/// RFC 6531 §3.4: only a report whose header section names an address beyond ASCII is sent with SMTPUTF8.
#[tokio::test]
async fn a_report_is_sent_with_smtputf8_where_its_own_header_needs_it() {
    let world = world();
    for (from, needs_it) in [("\u{433}@elsewhere.example", true), ("you@elsewhere.example", false)] {
        let message = world.queue(from, &["x@there.example"]).await;
        world.tried(&message, &[(Outcome::Failed, 5)]).await;
        let entries = world.store.queue_entries(Some((message.envelope.id, u32::MAX)), 9).await.unwrap();
        let [report] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!(world.message(report.message).await.unwrap().envelope.smtputf8, needs_it, "{from}");
    }
}

fn of(ids: &[QueueId]) -> Selection {
    Selection { messages: ids.iter().map(ToString::to_string).collect(), ..Selection::default() }
}

/// Each may write a report: a destination that is down for good does not make all of them at once.
#[tokio::test]
async fn only_so_many_overdue_jobs_are_under_way() {
    let world = world();
    let key = DestinationKey::new("smtp:there.example");
    for number in 0..2 * OVERDUE_AT_ONCE_MAX as u64 {
        let entry = QueueEntry {
            message: QueueId(number),
            number: 0,
            address: address("x@there.example"),
            sender: "you@elsewhere.example".into(),
            arrived: UnixMillis(1_000),
            state: QueueState::Waiting(UnixMillis(1_000)),
            attempts: 1,
        };
        world.manager.schedule().insert(&entry, &key, deliver::now());
    }
    for _ in 0..2 {
        let now = deliver::now();
        let mut schedule = world.manager.schedule();
        let job = schedule.next(now).unwrap();
        schedule.report(job, &[], Contact::Failed, now);
        schedule.release(&key, now);
    }
    let next = || world.manager.next_errand();
    let mut under_way: Vec<InFlight> = std::iter::from_fn(next).collect();
    assert_eq!(under_way.len(), OVERDUE_AT_ONCE_MAX);
    under_way.pop();
    under_way.extend(next());
    assert!(under_way.len() == OVERDUE_AT_ONCE_MAX && next().is_none());
}

/// The tables changed while a job was made: whoever goes another way now does not go along.
#[tokio::test]
async fn each_recipient_of_a_job_goes_its_own_way() {
    let world = world();
    world.transports("a.example discard:trap\nb.example discard:trap\n");
    let message = world.queue("you@elsewhere.example", &["x@a.example", "y@b.example"]).await;
    let errand = world.manager.next_errand().unwrap();
    assert_eq!(errand.job.as_ref().unwrap().recipients, [0, 1]);
    world.transports("a.example discard:trap\nb.example error:no such domain\n");
    courier::run(errand).await;
    let id = message.envelope.id;
    assert!(matches!(world.waiting().await[..], [(left, 1, Some(EntryState::Waiting(_)))] if left == id));
    let destination = world.manager.schedule().destination(id, 1).cloned();
    assert_eq!(destination, Some(DestinationKey::new("error:no such domain")));
    assert_eq!(world.store.audit().await.unwrap().total.discarded, 1);
}

/// A next hop may want a login, and relays for nobody without: its mail never goes along with mail for its own domain.
#[tokio::test]
async fn a_next_hop_is_another_destination_than_the_domain_of_its_name() {
    let world = world();
    world.transports("partner.example smtp:hub.example\npartner.test smtp:[192.0.2.1]\n");
    let later = UnixMillis(deliver::now().0 + 3_600_000);
    for to in [["x@hub.example", "y@partner.example"], ["x@[192.0.2.1]", "y@partner.test"]] {
        let id = world.queue("you@elsewhere.example", &to).await.envelope.id;
        let jobs = [(); 3].map(|()| world.manager.next_errand());
        let names = jobs.each_ref().map(|errand| errand.as_ref().map(|errand| errand.destination.to_string()));
        let [Some(first), Some(second), None] = names else { panic!("{names:?}") };
        assert!(first.starts_with("smtp:") && second.starts_with("relay:"), "{first}, {second}");
        drop(jobs);
        for number in 0..2 {
            world.manager.schedule().set_state(id, number, QueueState::Waiting(later), deliver::now());
        }
    }
    // Whoever names the one means the other too.
    let named = Selection { destination: Some("hub.example".into()), ..Selection::default() };
    assert_eq!(world.manager.list(&named, 9).await.unwrap()[0].recipients.len(), 2);
    assert!(world.manager.flush(&Domain::parse("hub.example").unwrap()));
    assert!(world.manager.next_errand().is_some() && world.manager.next_errand().is_some());
}

/// R143: one report each, however often a message is named; and what a bounce puts into the queue is not bounced with
/// the rest.
#[tokio::test]
async fn r143_a_bounce_reports_once_and_not_its_own_reports() {
    let world = world();
    let to = ["x@there.example", "y@there.example"];
    let first = world.queue("you@elsewhere.example", &to).await.envelope.id;
    let changed = world.manager.bounce(&of(&[first, first]), "enough").await.unwrap();
    assert_eq!(changed, Changed { recipients: 2, active: 0 });
    let [(report, 0, Some(_))] = world.waiting().await[..] else { panic!("{:?}", world.waiting().await) };
    assert!(matches!(world.manager.bounce(&of(&[first]), "enough").await, Err(ControlError::Unknown(_))));

    let second = world.queue("you@elsewhere.example", &to).await.envelope.id;
    assert!(report < second);
    assert_eq!(world.manager.delete(&of(&[report]), "me").await.unwrap().recipients, 1);
    let changed = world.manager.bounce(&Selection::everything(), "enough").await.unwrap();
    assert_eq!(changed, Changed { recipients: 2, active: 0 });
    assert!(matches!(world.waiting().await[..], [(report, 0, Some(_))] if report > second));
    let audit = world.store.audit().await.unwrap();
    assert!(audit.total.is_balanced() && audit.unbalanced.is_empty() && audit.total.bounced == 4, "{audit:?}");
}

/// R143: what a courier has in hand may be delivered by now: nobody says that it was not.
#[tokio::test]
async fn r143_what_is_being_tried_is_neither_bounced_nor_deleted() {
    let world = world();
    let id = world.queue("you@elsewhere.example", &["x@there.example", "y@there.example"]).await.envelope.id;
    let errand = world.manager.next_errand().unwrap();
    let left_alone = Changed { recipients: 0, active: 2 };
    assert_eq!(world.manager.bounce(&of(&[id]), "enough").await.unwrap(), left_alone);
    assert_eq!(world.manager.delete(&Selection::everything(), "me").await.unwrap(), left_alone);
    let in_flight = Some(EntryState::InFlight);
    assert_eq!(world.waiting().await, [(id, 0, in_flight), (id, 1, in_flight)]);
    drop(errand);
    let one = Selection { recipient: Some("y@there.example".into()), ..of(&[id]) };
    assert_eq!(world.manager.delete(&one, "me").await.unwrap(), Changed { recipients: 1, active: 0 });
    assert!(matches!(world.waiting().await[..], [(left, 0, Some(EntryState::Waiting(_)))] if left == id));
}

/// A bounce that cannot be reported leaves everybody where he was; a courier finds again what waits.
#[tokio::test]
async fn r143_a_bounce_without_its_report_changes_nothing() {
    let world = world_without_reports().await;
    let id = world.queue("you@elsewhere.example", &["x@there.example", "y@there.example"]).await.envelope.id;
    let one = Selection { recipient: Some("x@there.example".into()), ..of(&[id]) };
    assert_eq!(world.manager.hold(&one, "me").await.unwrap().recipients, 1);
    assert!(matches!(world.manager.bounce(&of(&[id]), "enough").await, Err(ControlError::Unreported(_))));
    let waiting = world.waiting().await;
    assert!(
        matches!(waiting[..], [(_, 0, Some(EntryState::Held)), (_, 1, Some(EntryState::Waiting(_)))]),
        "{waiting:?}"
    );
    assert_eq!(world.manager.next_errand().unwrap().job.as_ref().unwrap().recipients, [1]);
}

/// R143: a command that ends early says what it has done.
#[tokio::test]
async fn r143_a_bounce_that_ends_early_counts_what_it_bounced() {
    let world = world_without_reports().await;
    // Of the first nobody is told.
    world.queue_with(&Envelope::new(ReversePath::Null), &["x@there.example", "y@there.example"]).await;
    let second = world.queue("you@elsewhere.example", &["x@there.example"]).await.envelope.id;
    let error = world.manager.bounce(&Selection::everything(), "enough").await.unwrap_err();
    let said = error.to_string();
    let ControlError::Partly(Changed { recipients: 2, active: 0 }, cause) = error else { panic!("{error:?}") };
    assert!(matches!(*cause, ControlError::Unreported(id) if id == second), "{cause:?}");
    assert!(said.ends_with("; 2 recipients were changed before"), "{said}");
    assert_eq!(world.waiting().await.len(), 1);
}

/// R143: the queue is being loaded, from rows that were read before the release.
#[tokio::test]
async fn r143_what_is_released_while_the_queue_is_loaded_is_not_held() {
    let world = world();
    let id = world.queue("you@elsewhere.example", &["x@there.example"]).await.envelope.id;
    world.manager.hold(&of(&[id]), "me").await.unwrap();
    // As after a restart.
    *world.manager.schedule() = Schedule::new(ScheduleSettings::default(), deliver::now());
    let page = world.store.queue_entries(None, 100).await.unwrap();
    assert_eq!(world.manager.release(&of(&[id]), "me").await.unwrap().recipients, 1);
    page.iter().for_each(|entry| world.manager.insert(entry, RequireTls::Ordinary));
    assert!(matches!(world.waiting().await[..], [(_, 0, Some(EntryState::Waiting(_)))]), "{:?}", world.waiting().await);
}

/// R143: a condition that names recipients leaves the others of their message alone.
#[tokio::test]
async fn r143_a_retry_is_of_the_recipients_that_are_meant() {
    let world = world();
    let id = world.queue("you@elsewhere.example", &["x@there.example", "y@there.example"]).await.envelope.id;
    let later = UnixMillis(deliver::now().0 + 3_600_000);
    for number in 0..2 {
        world.manager.schedule().set_state(id, number, QueueState::Waiting(later), deliver::now());
    }
    let one = Selection { recipient: Some("y@there.example".into()), ..Selection::default() };
    assert_eq!(world.manager.retry(&one).await.unwrap().recipients, 1);
    assert_eq!(world.waiting().await[0], (id, 0, Some(EntryState::Waiting(later))));
    assert_eq!(world.manager.next_errand().unwrap().job.as_ref().unwrap().recipients, [1]);
}

/// RFC 1985 §5.1: all mail for the domain, whatever it demands of the way.
#[tokio::test]
async fn r97_etrn_is_for_mail_with_requiretls_too() {
    let world = world();
    let envelope = Envelope::new(ReversePath::Address(address("you@elsewhere.example")));
    let demanding = Envelope { require_tls: true, ..envelope.clone() };
    let later = UnixMillis(deliver::now().0 + 3_600_000);
    for envelope in [envelope, demanding] {
        let id = world.queue_with(&envelope, &["x@there.example"]).await.envelope.id;
        world.manager.schedule().set_state(id, 0, QueueState::Waiting(later), deliver::now());
    }
    assert!(world.manager.flush(&Domain::parse("there.example").unwrap()));
    let jobs = [(); 3].map(|()| world.manager.next_errand());
    let destinations = jobs.each_ref().map(|errand| errand.as_ref().map(|errand| errand.destination.to_string()));
    let [Some(first), Some(second), None] = destinations else { panic!("{destinations:?}") };
    assert_ne!(first, second);
}

/// A connection that is only kept gives way to a destination that has none.
#[tokio::test]
async fn r216_idle_connections_keep_nobody_waiting() {
    let world = world();
    *world.manager.schedule() =
        Schedule::new(ScheduleSettings { couriers_max: 2, ..ScheduleSettings::default() }, deliver::now());
    let mut kept = Vec::new();
    let mut busy = Vec::new();
    for (number, to) in ["x@here.example", "x@there.example"].iter().enumerate() {
        world.queue("you@elsewhere.example", &[to]).await;
        let errand = world.manager.next_errand().unwrap();
        let (hand, work) = tokio::sync::oneshot::channel();
        let number = 9 - number as u64;
        world.manager.idle().push(Idle { number, destination: errand.destination.clone(), hand });
        kept.push(work);
        busy.push(errand);
    }
    assert_eq!(world.manager.let_idle_go(0), 0, "nobody waits");
    world.queue("you@elsewhere.example", &["x@third.example"]).await;
    assert!(world.manager.next_errand().is_none(), "both couriers are under way");
    assert_eq!(world.manager.let_idle_go(1), 0, "one is about to end");
    assert_eq!(world.manager.let_idle_go(0), 1);
    let is_let_go = |work: &mut tokio::sync::oneshot::Receiver<queue::Job>| {
        matches!(work.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Closed))
    };
    assert_eq!(kept.iter_mut().map(is_let_go).collect::<Vec<_>>(), [false, true], "the one that waited longest");
    drop(busy.pop());
    assert_eq!(world.manager.next_errand().unwrap().destination.to_string(), "smtp:third.example");
}

/// What an administrator gives up or throws away is in the log like everything else.
#[tokio::test]
async fn r143_the_log_tells_of_what_was_bounced_and_deleted() {
    let world = world();
    let id = world.queue("you@elsewhere.example", &["x@there.example", "y@there.example"]).await.envelope.id;
    let only = |to: &str| Selection { recipient: Some(to.into()), ..of(&[id]) };
    let log = testkit::log::Log::capture();
    world.manager.bounce(&only("x@there.example"), "enough").await.unwrap();
    world.manager.delete(&only("y@there.example"), "me").await.unwrap();
    let lines = log.take();
    let bounced = format!("given up queue_id={id} to=x@there.example cause=5.0.0 enough report=");
    assert!(lines.iter().any(|line| line.starts_with(&bounced)), "{lines:?}");
    assert!(lines.contains(&format!("discarded queue_id={id} to=y@there.example rule=me")), "{lines:?}");
}
