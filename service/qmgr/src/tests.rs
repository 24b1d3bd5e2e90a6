//! A manager in a small house: a real store, tables in a folder, nobody to send to.

use super::*;
use crate::outcome::conclude;
use deliver::{Accepted, Destined};
use directory::{Route, Settings};
use dns::Zone;
use mail::queue::Outcome;
use mail::{
    Arrival, Attempt, EnhancedStatus, Envelope, InternalDate, QueueState, QueuedMessage, Recipient, ReversePath,
};
use relay::tls::Trust;
use store::embedded::{EmbeddedStore, Options};

const ALIASES: &str = "loop@own.example pool@own.example\npool@own.example loop@own.example\n";

struct World {
    _folder: tempfile::TempDir,
    store: Arc<EmbeddedStore>,
    /// Where reports are staged: closed, none can be written.
    reports: Arc<EmbeddedStore>,
    manager: Arc<QueueManager>,
}

fn embedded(folder: std::path::PathBuf) -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::open(Options { sync: false, ..Options::new(folder) }).unwrap())
}

fn world() -> World {
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
    let reports = embedded(folder.path().join("reports"));
    let directory = Arc::new(Directory::open(Settings::in_folder(folder.path())).unwrap());
    let host = Domain::parse("mx.own.example").unwrap();
    let relay = Relay::new(relay::Settings::new(host), Arc::new(Zone::parse("").unwrap()), Trust::nobody(), None);
    let reporter = Reporter {
        host_name: "mx.own.example".into(),
        store: reports.clone(),
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
    World { _folder: folder, store, reports, manager: QueueManager::new(house, ScheduleSettings::default()) }
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
        let mut writer = self.store.stage().unwrap();
        writer.write(b"Subject: s\r\n\r\nb\r\n").unwrap();
        let body = writer.finish(b"", Vec::new()).unwrap();
        let id = self.manager.house.reporter.next_id();
        let envelope = Envelope::new(ReversePath::Address(address(from)));
        let accepted = Accepted {
            id,
            at: deliver::now(),
            envelope: &envelope,
            account: None,
            hold: None,
            queue_all: true,
            is_ascii: true,
            arrival: Arrival::default(),
            events: Vec::new(),
            together: true,
        };
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
    let world = world();
    let to = ["x@there.example", "y@there.example", "z@there.example"];
    let message = world.queue("you@elsewhere.example", &to).await;
    let id = message.envelope.id;
    world.reports.close().await.unwrap();
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
