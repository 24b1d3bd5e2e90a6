//! Daily reports about TLS to the domains that ask for them (RFC 8460).
//!
//! [`TlsJournal`] counts sessions as the relay tells of them. When a day is over, [`TlsReports`] asks for each domain's
//! record, and gives the report to each destination in it: by mail, through the queue, or over HTTPS. What fails is tried
//! again for a day (RFC 8460 §5.5).

mod journal;

pub use journal::TlsJournal;

use deliver::{Accepted, Destined, Intake, QueueDoor, QueueIds, Signer, Staged};
use directory::{Directory, DomainClass};
use dns::{Lookup, Name};
use journal::{DAY, Due, Tries};
use mail::{Address, Arrival, Domain, Envelope, InternalDate, LocalPart, Notify, Recipient, ReversePath, UnixMillis};
use relay::policy_fetch::{HttpsClient, HttpsError};
use sender_auth::dkim::{FIELDS, Recipe, SignedFields};
use std::sync::Arc;
use std::time::Duration;
use store::MailStore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};
use transport_security::tls_rpt::message::message;
use transport_security::tls_rpt::report::{Report, ReportHead};
use transport_security::tls_rpt::{Destination, parse_record, record_name};

/// Local part of the reverse-path of reports. Mail from it is known by it, over a restart too, for what is delivered
/// whatever TLS is like; whoever else may send as it gains no more than `TLS-Required: No` would give (RFC 8689 §3).
const SENDER: &str = "noreply-tls-reports";
/// How often is looked for reports that are due, and the journal saved.
const ROUND: Duration = Duration::from_secs(300);
/// Seconds over which the reports of a day are spread (RFC 8460 §4.1).
const SPREAD: u64 = 4 * 3_600;
/// Seconds for which a report is tried (RFC 8460 §5.5).
const TRIED_FOR: u64 = 24 * 3_600;
/// Seconds from the first failure to the second try; waits double from then on.
const FIRST_RETRY: u64 = 600;
/// Reports of one round; the others follow in the next.
const REPORTS_PER_ROUND: usize = 500;
/// Reports under way at once.
const REPORTS_AT_ONCE: usize = 8;

/// Sends the reports.
pub struct TlsReports {
    /// What they need.
    desk: TlsReportsDesk,
    /// Signs reports as they want to be signed.
    signer: Arc<Signer>,
}

/// What sending reports needs.
pub struct TlsReportsDesk {
    /// Our name.
    pub host_name: String,
    /// What was counted.
    pub journal: Arc<TlsJournal>,
    /// Finds the records of domains.
    pub lookup: Arc<dyn Lookup>,
    /// Carries reports over HTTPS.
    pub https: HttpsClient,
    /// Where mail is.
    pub store: Arc<dyn MailStore>,
    /// Which domains are ours.
    pub directory: Arc<Directory>,
    /// Names messages.
    pub queue_ids: Arc<QueueIds>,
    /// Whose keys sign reports by mail; without a key there are none.
    pub signer: Arc<Signer>,
    /// Hears of what is queued.
    pub door: Arc<dyn QueueDoor>,
}

/// What came of a destination.
enum Given {
    Done,
    /// Never, for this cause.
    Impossible(String),
    /// Not now, for this cause.
    NotYet(String),
}

impl TlsReports {
    /// Ready to send.
    pub fn new(desk: TlsReportsDesk) -> Arc<TlsReports> {
        let names: Vec<&str> = FIELDS.into_iter().chain(["tls-report-domain", "tls-report-submitter"]).collect();
        let usual = &desk.signer.recipe;
        // RFC 8460 §5.3: the fields of reports are to be signed, too.
        let fields = SignedFields::new(&names, &[]).unwrap_or_else(|_| usual.fields.clone());
        let recipe = Recipe { fields, ..usual.clone() };
        let signer = Arc::new(Signer { keys: desk.signer.keys.clone(), recipe });
        Arc::new(TlsReports { desk, signer })
    }

    /// Looks for reports that are due and saves the journal, now and then, until `shutdown` ends. What is counted after that
    /// is for [`save`](Self::save).
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let round = async {
                rounds.tick().await;
                self.round(deliver::now()).await;
                self.save().await;
            };
            tokio::select! {
                biased;
                // A report that is given up in the middle is not settled, and due again.
                () = &mut shutdown => break,
                () = round => {}
            }
        }
    }

    /// Sends what is due at this time.
    pub async fn round(self: &Arc<Self>, now: UnixMillis) {
        let now = now.0 / 1_000;
        let forgotten = self.desk.journal.forget_before((now / DAY).saturating_sub(2));
        if forgotten > 0 {
            warn!(reports = forgotten, "TLS reports given up: their days are long over");
        }
        let host_name = &self.desk.host_name;
        let due = self.desk.journal.due(now, |day, domain| due_at(host_name, day, domain), REPORTS_PER_ROUND);
        let mut under_way = JoinSet::new();
        for due in due {
            if under_way.len() >= REPORTS_AT_ONCE {
                let _ = under_way.join_next().await;
            }
            let reports = self.clone();
            under_way.spawn(async move { reports.send(due, now).await });
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Saves the journal.
    pub async fn save(&self) {
        let journal = self.desk.journal.clone();
        match tokio::task::spawn_blocking(move || journal.save()).await {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => warn!(error = %cause, "what TLS reports will say cannot be saved"),
            Err(cause) => error!(error = %cause, "saving what TLS reports will say met a bug"),
        }
    }

    /// One report, to all destinations that do not have it yet.
    async fn send(&self, due: Due, now: u64) {
        let journal = &self.desk.journal;
        let Due { day, domain, tries, .. } = &due;
        let mut tries = tries.clone();
        let trouble = match self.destinations(domain).await {
            Ok(destinations) => self.give(&due, &destinations, &mut tries).await,
            Err(cause) => Some(cause),
        };
        let Some(cause) = trouble else { return journal.settle(*day, domain) };
        tries.count = tries.count.saturating_add(1);
        tries.again_at = now.saturating_add(FIRST_RETRY << (tries.count - 1).min(6));
        if tries.again_at > due_at(&self.desk.host_name, *day, domain).saturating_add(TRIED_FOR) {
            warn!(%domain, %cause, "TLS report given up");
            metrics::counter!("tls_reports_total", "outcome" => "given_up").increment(1);
            return journal.settle(*day, domain);
        }
        debug!(%domain, %cause, "TLS report is tried again");
        journal.postpone(*day, domain, tries);
    }

    /// Where a domain wants its reports; nowhere, mostly.
    async fn destinations(&self, domain: &str) -> Result<Vec<Destination>, String> {
        let Some(name) = Name::parse(domain).ok().as_ref().and_then(record_name) else { return Ok(Vec::new()) };
        let found = dns::txt(&*self.desk.lookup, &name).await.map_err(|failure| failure.to_string())?;
        Ok(parse_record(found.records.iter().map(Vec::as_slice)).unwrap_or_default())
    }

    /// Gives a report to its destinations. What it returns is why some of them do not have it yet.
    async fn give(&self, due: &Due, destinations: &[Destination], tries: &mut Tries) -> Option<String> {
        let Ok(domain) = Name::parse(&due.domain) else { return None };
        let contact = self.contact()?;
        let begin = due.day * DAY;
        let head = ReportHead {
            organization: contact.domain.to_string(),
            contact,
            id: format!("{begin}.{:016x}", digest(&[&self.desk.host_name, &due.domain])),
            domain,
            begin: begin as i64,
            end: (begin + DAY - 1) as i64,
        };
        let report = Report { head: &head, policies: &due.policies };
        let mut trouble = None;
        for destination in destinations {
            let shown = match destination {
                Destination::Mail(to) => format!("mailto:{to}"),
                Destination::Https(uri) => uri.clone(),
            };
            if tries.done.contains(&shown) {
                continue;
            }
            let given = match destination {
                Destination::Mail(to) => self.mail(&report, to).await,
                Destination::Https(uri) => match self.desk.https.post_report(uri, report.to_gzip()).await {
                    Ok(()) => Given::Done,
                    Err(cause @ HttpsError::Uri) => Given::Impossible(cause.to_string()),
                    Err(cause) => Given::NotYet(cause.to_string()),
                },
            };
            let outcome = match given {
                Given::Done => {
                    info!(domain = %due.domain, to = %shown, id = %head.id, "TLS report");
                    tries.done.insert(shown);
                    "sent"
                }
                Given::Impossible(cause) => {
                    warn!(domain = %due.domain, to = %shown, %cause, "no TLS report");
                    tries.done.insert(shown);
                    "impossible"
                }
                Given::NotYet(cause) => {
                    trouble = Some(format!("{shown}: {cause}"));
                    "not_yet"
                }
            };
            metrics::counter!("tls_reports_total", "outcome" => outcome).increment(1);
        }
        trouble
    }

    /// Queues a report.
    async fn mail(&self, report: &Report<'_>, to: &Address) -> Given {
        let Ok(routes) = self.desk.directory.way(to) else {
            return Given::Impossible("an address of ours that leads nowhere".to_owned());
        };
        let date = InternalDate::from(deliver::now());
        let domain = &report.head.contact.domain;
        let staged = match self.stage(&message(report, to, date.unix_seconds), domain) {
            Ok(Some(staged)) => staged,
            // RFC 8460 §3: whoever gets one without a signature must ignore it.
            Ok(None) => return Given::Impossible(format!("no DKIM key signs for {domain}")),
            Err(cause) => return Given::NotYet(cause),
        };
        let Ok(local) = LocalPart::parse(SENDER) else { return Given::Impossible("no reverse-path".to_owned()) };
        let sender = Address { local, domain: domain.clone() };
        let envelope = Envelope::new(ReversePath::Address(sender.clone()));
        let recipient = Recipient { notify: Some(Notify::Never), ..Recipient::new(to.clone()) };
        let destined: Vec<Destined> =
            routes.into_iter().map(|route| Destined { recipient: recipient.clone(), route, via: None }).collect();
        let arrival = Arrival {
            listener: format!("TLS report about {}", report.head.domain),
            from: sender.to_string(),
            to: vec![to.to_string()],
            message_id: staged.message_id.clone(),
            octets: staged.body.octets,
            ..Arrival::default()
        };
        let accepted = Accepted::of_our_own(self.desk.queue_ids.next(), &envelope, staged.traits, arrival);
        let plan = deliver::plan(accepted, &destined, staged.body.id, date, &self.desk.directory);
        if let Err(cause) = self.desk.store.commit(plan.commit).await {
            return Given::NotYet(cause.to_string());
        }
        if let Some(queued) = plan.queued {
            self.desk.door.queued(queued);
        }
        Given::Done
    }

    /// The message with its signature; `None` where there is no key.
    fn stage(&self, text: &str, domain: &Domain) -> Result<Option<Staged>, String> {
        let intake = Intake::verbatim(&*self.desk.store).map_err(|cause| cause.to_string())?;
        let mut intake = intake.signed_by(self.signer.clone());
        intake.write(text.as_bytes());
        intake.complete();
        let signature = intake.sign(domain, "").map_err(|cause| cause.to_string())?;
        if signature.is_empty() {
            return Ok(None);
        }
        intake.finish(&signature).map(Some).map_err(|cause| cause.to_string())
    }

    /// Whom to ask about a report, who is also its author: the postmaster of a domain with a key.
    fn contact(&self) -> Option<Address> {
        let local = LocalPart::parse("postmaster").ok()?;
        let of_host = Domain::parse(&self.desk.host_name).ok().map(|domain| Address { local, domain });
        let known: Vec<Address> = self.desk.directory.postmaster().into_iter().chain(of_host).collect();
        let signing = known.iter().find(|address| !self.signer.keys.keys_for(&address.domain).is_empty());
        signing.or(known.first()).cloned()
    }
}

/// Whether this reverse-path is that of reports.
pub(crate) fn is_sender(reverse_path: &str, host_name: &str, directory: &Directory) -> bool {
    let address = reverse_path.starts_with(SENDER).then(|| Address::parse(reverse_path).ok()).flatten();
    address.is_some_and(|Address { local, domain }| {
        let is_ours = domain.as_str().eq_ignore_ascii_case(host_name);
        local.as_str() == SENDER && (is_ours || directory.class_of(&domain) == DomainClass::Hosted)
    })
}

/// When the report of a day (counted since 1970) about a domain is due, in seconds since 1970: always the same, and spread
/// over hours, so that a receiver does not hear from all its peers at midnight.
fn due_at(host_name: &str, day: u64, domain: &str) -> u64 {
    (day + 1) * DAY + digest(&[host_name, domain]) % SPREAD
}

/// FNV-1a, of 64 bits: the same in each version of the program.
fn digest(texts: &[&str]) -> u64 {
    let octets = texts.iter().flat_map(|text| text.bytes().chain([0]));
    octets.fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use directory::signing::edit::{NewKey, SigningEditor};
    use directory::signing::{Selector, Signing, State, read_key_file};
    use dns::Zone;
    use mail::{QueueEntry, QueuedMessage};
    use relay::policy_fetch::HttpsSettings;
    use relay::tls::Trust;
    use std::sync::Mutex;
    use store::BodyRange;
    use store::embedded::{EmbeddedStore, Options};
    use transport_security::tls_rpt::{AppliedPolicy, FailedSession, ResultType, received};

    const ZONE: &str = "
        _smtp._tls.example.net   TXT \"v=TLSRPTv1; rua=mailto:tls@reports.example\"
        example.org              A 192.0.2.1
        _smtp._tls.example.com   TXT \"v=TLSRPTv1; rua=https://none.example/v1,mailto:tls@reports.example,mailto:no@own.example\"
        _smtp._tls.bad.example   SERVFAIL
    ";
    const DAY_10: u64 = 10 * DAY;

    #[derive(Default)]
    struct Door(Mutex<usize>);

    impl QueueDoor for Door {
        fn queued(&self, _: deliver::Queued) {
            *self.0.lock().unwrap() += 1;
        }

        fn flush(&self, _: &Domain) -> bool {
            false
        }
    }

    struct World {
        folder: tempfile::TempDir,
        store: Arc<EmbeddedStore>,
        door: Arc<Door>,
        reports: Arc<TlsReports>,
    }

    impl World {
        /// A server for own.example, with or without a key that signs.
        fn new(is_signing: bool) -> World {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("accounts"), "postmaster@own.example:{PLAIN}a::::::\n").unwrap();
            std::fs::write(folder.path().join("domains"), "own.example\n").unwrap();
            let store = Arc::new(EmbeddedStore::open(Options { sync: false, ..Options::new(folder.path()) }).unwrap());
            let table = folder.path().join("dkim");
            if is_signing {
                let key = (Selector::parse("s1").unwrap(), NewKey::Ed25519);
                let domain = Domain::parse("own.example").unwrap();
                SigningEditor::new(&table).add(&domain, State::Active, &[key]).unwrap();
            }
            let keys = Signing::open(&table, &read_key_file).map_err(|errors| errors[0].to_string()).unwrap();
            let lookup: Arc<dyn Lookup> = Arc::new(Zone::parse(ZONE).unwrap());
            let door = Arc::new(Door::default());
            let desk = TlsReportsDesk {
                host_name: "mx.own.example".to_owned(),
                journal: Arc::new(TlsJournal::open(Some(folder.path().join("tls-reports.json"))).0),
                lookup: lookup.clone(),
                https: HttpsClient::new(lookup, &Trust::nobody(), HttpsSettings::default()),
                store: store.clone(),
                directory: Arc::new(Directory::open(directory::Settings::in_folder(folder.path())).unwrap()),
                queue_ids: Arc::default(),
                signer: Arc::new(Signer { keys: Arc::new(keys), recipe: Recipe::default() }),
                door: door.clone(),
            };
            let world = World { reports: TlsReports::new(desk), folder, store, door };
            for domain in ["example.net", "example.org", "example.com", "bad.example"] {
                let domain = Name::parse(domain).unwrap();
                let policy = AppliedPolicy::none(&domain);
                let failed = FailedSession::new(ResultType::StarttlsNotSupported, "");
                world.reports.desk.journal.count(DAY_10 + 5, &domain, &policy, Ok(()));
                world.reports.desk.journal.count(DAY_10 + 6, &domain, &policy, Err(failed));
            }
            world
        }

        /// A round at this second; then the domains that are still to be reported to, and the messages in the queue.
        async fn round(&self, at: u64) -> (Vec<String>, usize) {
            self.reports.round(UnixMillis(at * 1_000)).await;
            let left = self.reports.desk.journal.due(u64::MAX, |_, _| 0, 10);
            (left.into_iter().map(|due| due.domain).collect(), self.queue().await.len())
        }

        async fn queue(&self) -> Vec<QueueEntry> {
            self.store.queue_entries(None, 10).await.unwrap()
        }

        async fn text(&self, message: &QueuedMessage) -> String {
            let range = BodyRange { blob: message.blob, start: 0, octets: u64::MAX };
            let read = self.store.read(vec![range]).await.unwrap();
            String::from_utf8(read[0].as_ref().unwrap().to_vec()).unwrap()
        }
    }

    #[tokio::test]
    async fn v13_reports_of_a_day_go_out_once_it_is_over() {
        let world = World::new(true);
        let all = ["bad.example", "example.com", "example.net", "example.org"].map(str::to_owned).to_vec();
        assert_eq!(world.round(DAY_10 + DAY - 1).await, (all, 0), "the day is not over");
        let left = ["bad.example", "example.com"].map(str::to_owned).to_vec();
        let late = DAY_10 + DAY + SPREAD;
        assert_eq!(world.round(late).await, (left.clone(), 2), "two by mail; nobody asks for one at example.org");
        assert_eq!(*world.door.0.lock().unwrap(), 2);

        // What a crash left behind is known again, and what was done is not done twice.
        world.reports.save().await;
        let (journal, error) = TlsJournal::open(Some(world.folder.path().join("tls-reports.json")));
        assert!(error.is_none());
        let due = journal.due(u64::MAX, |_, _| 0, 10);
        let done: Vec<&str> = due[1].tries.done.iter().map(String::as_str).collect();
        assert_eq!(done, ["mailto:no@own.example", "mailto:tls@reports.example"]);
        assert_eq!((due[1].tries.count, due[1].tries.again_at), (1, late + FIRST_RETRY));
        assert_eq!(world.round(late + FIRST_RETRY - 1).await, (left.clone(), 2));
        assert_eq!(world.reports.desk.journal.due(u64::MAX, |_, _| 0, 10)[1].tries.count, 1, "too early");
        assert_eq!(world.round(late + FIRST_RETRY).await, (left, 2));
        assert_eq!(world.reports.desk.journal.due(u64::MAX, |_, _| 0, 10)[1].tries.count, 2);
        assert_eq!(world.round(late + TRIED_FOR).await, (vec![], 2), "RFC 8460 §5.5: given up");
    }

    #[tokio::test]
    async fn v13_a_report_by_mail_is_signed_and_goes_through_the_queue() {
        let world = World::new(true);
        world.round(DAY_10 + DAY + SPREAD).await;
        let mut texts = Vec::new();
        for entry in world.queue().await {
            assert_eq!(
                (entry.sender.as_str(), entry.address.to_string().as_str()),
                ("noreply-tls-reports@own.example", "tls@reports.example")
            );
            assert!(is_sender(&entry.sender, "mx.own.example", &world.reports.desk.directory));
            let message = world.store.queued(entry.message).await.unwrap().unwrap();
            assert_eq!(message.recipients[0].recipient.notify, Some(Notify::Never));
            texts.push(world.text(&message).await);
        }
        let text = texts.iter().find(|text| text.contains("TLS-Report-Domain: example.net\r\n")).unwrap();
        assert!(text.starts_with("DKIM-Signature: v=1; a=ed25519-sha256;"), "{text}");
        let (signature, rest) = text.split_once("\r\nFrom: <postmaster@own.example>\r\n").unwrap();
        let signature = signature.replace([' ', '\t', '\r', '\n'], "");
        assert!(signature.contains(":tls-report-domain:tls-report-submitter"), "RFC 8460 §5.3: {signature}");
        assert!(signature.contains("d=own.example;") && rest.contains("TLS-Report-Submitter: own.example\r\n"));
        let (_, attached) = rest.split_once("\r\n filename=\"own.example!example.net!864000!950399!").unwrap();
        let (_, attached) = attached.split_once("\r\n\r\n").unwrap();
        let (encoded, _) = attached.split_once("\r\n\r\n--").unwrap();
        let mut decoder = message::decode::TransferDecoder::new(b"base64");
        let mut octets = Vec::new();
        decoder.push(encoded.as_bytes(), &mut octets);
        decoder.finish(&mut octets);
        let report = received::parse(&octets).unwrap();
        assert_eq!(report.range, (Some(DAY_10 as i64), Some((DAY_10 + DAY - 1) as i64)));
        assert_eq!((report.policies[0].successes, report.policies[0].failures), (1, 1));
    }

    /// RFC 8460 §3: reports without a signature must be ignored.
    #[tokio::test]
    async fn v13_without_a_key_there_is_no_report_by_mail() {
        let world = World::new(false);
        let (left, queued) = world.round(DAY_10 + DAY + SPREAD).await;
        assert_eq!((left, queued), (["bad.example", "example.com"].map(str::to_owned).to_vec(), 0));
    }

    #[test]
    fn reports_are_spread_and_their_reverse_path_is_ours_alone() {
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..100 {
            let domain = format!("d{number}.example");
            let at = due_at("mx.own.example", 10, &domain);
            assert!((DAY_10 + DAY..DAY_10 + DAY + SPREAD).contains(&at));
            seen.insert(at / 600);
        }
        assert!(seen.len() > 10, "{seen:?}");
        let world = tempfile::tempdir().unwrap();
        std::fs::write(world.path().join("accounts"), "").unwrap();
        std::fs::write(world.path().join("domains"), "own.example\n").unwrap();
        let directory = Directory::open(directory::Settings::in_folder(world.path())).unwrap();
        for (path, is_ours) in [
            ("noreply-tls-reports@own.example", true),
            ("noreply-tls-reports@mx.own.example", true),
            ("noreply-tls-reports@example.net", false),
            ("noreply-tls-reports2@own.example", false),
            ("postmaster@own.example", false),
            ("", false),
        ] {
            assert_eq!(is_sender(path, "mx.own.example", &directory), is_ours, "{path}");
        }
    }
}
