//! MTA-STS policies of domains: asked for before a delivery, fetched over HTTPS, remembered (RFC 8461).
//!
//! What to do when is decided by `transport_security::mta_sts::cache`; here it is done. One fetch a domain is under way at a
//! time, in a task of its own, so that a delivery that is given up takes no other's fetch with it.

mod cache_file;
mod https;
#[cfg(test)]
pub(crate) mod site;

pub use https::{FETCH_TIMEOUT, HttpsClient, HttpsError, HttpsSettings};

use dns::{Lookup, Name};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, error, warn};
use transport_security::mta_sts::cache::{Announced, Cached, FailedFetch, Step, is_failure_reported, step};
use transport_security::mta_sts::{self, POLICY_PATH, Policy};
use transport_security::tls_rpt::ResultType;

/// Domains whose policies are remembered, when nothing else is said.
pub const POLICIES_MAX: usize = 10_000;
/// Fetches under way at once; others wait for their turn.
const FETCHES_MAX: usize = 64;
/// The file is written no more often, since each time it is the whole of it. A crash takes what is younger, to be fetched
/// again.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// The policies of domains. Cheap to clone.
#[derive(Clone)]
pub struct Policies(Arc<Inner>);

/// What is known of a domain's policy before a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsFinding {
    /// The policy that holds now, which may be one of mode `none`.
    pub policy: Option<Arc<Policy>>,
    /// Why a policy that should be there could not be fetched; for the report. An older one may hold nevertheless.
    pub trouble: Option<FetchTrouble>,
}

/// Why a policy could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTrouble {
    /// What reports call it.
    pub result: ResultType,
    /// The cause, in words, on one line.
    pub cause: String,
}

struct Inner {
    lookup: Arc<dyn Lookup>,
    client: HttpsClient,
    file: Option<PathBuf>,
    policies_max: usize,
    permits: Semaphore,
    memory: Mutex<Memory>,
    /// Held while the file is written, so that an older one never takes the place of a newer one.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Memory {
    domains: HashMap<Name, Entry>,
    in_flight: HashMap<Name, watch::Receiver<Option<StsFinding>>>,
    /// What is in the file may be older.
    is_changed: bool,
    /// A task sees to the file.
    is_saved_soon: bool,
    /// The last write of the file failed.
    is_save_failing: bool,
}

#[derive(Default)]
struct Entry {
    cached: Option<Arc<Cached>>,
    failed: Option<(FailedFetch, FetchTrouble)>,
    /// In seconds since 1970.
    used_at: u64,
}

impl Policies {
    /// Policies that are forgotten at the end, or, with a file, remembered in it. The error says why a file that is there
    /// cannot be read; it will be replaced.
    pub fn new(
        lookup: Arc<dyn Lookup>,
        client: HttpsClient,
        policies_max: usize,
        file: Option<PathBuf>,
    ) -> (Policies, Option<io::Error>) {
        let (remembered, error) = match file.as_deref().map(|file| cache_file::load(file, policies_max)) {
            None => (Vec::new(), None),
            Some(Ok(remembered)) => (remembered, None),
            Some(Err(error)) => (Vec::new(), Some(error)),
        };
        let entry = |cached: Cached| Entry { used_at: cached.fetched_at, cached: Some(Arc::new(cached)), failed: None };
        let domains = remembered.into_iter().map(|(domain, cached)| (domain, entry(cached))).collect();
        let memory = Mutex::new(Memory { domains, ..Memory::default() });
        let permits = Semaphore::new(FETCHES_MAX);
        let writing = Mutex::default();
        (Policies(Arc::new(Inner { lookup, client, file, policies_max, permits, memory, writing })), error)
    }

    /// The policy of a domain, for a delivery now. Waits for a fetch only where no policy is known that holds, or a new one
    /// is announced: for a minute or so at most, and the turn of other fetches.
    pub async fn policy_for(&self, domain: &Name) -> StsFinding {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.policy_at(domain, now).await
    }

    /// How many domains are remembered, and how many fetches are under way.
    pub fn size(&self) -> (usize, usize) {
        let memory = self.0.memory();
        (memory.domains.len(), memory.in_flight.len())
    }

    async fn policy_at(&self, domain: &Name, now: u64) -> StsFinding {
        let id = self.0.announced_id(domain).await;
        let announced = match &id {
            Ok(Some(id)) => Announced::Id(id),
            Ok(None) => Announced::Nothing,
            Err(()) => Announced::Unknown,
        };
        let (known, mut fetch) = {
            let mut memory = self.0.memory();
            let (step, known) = memory.look(domain, announced, now);
            let fetch = match step {
                Step::NoPolicy | Step::Use => None,
                Step::UseAndRefresh | Step::Fetch => Some(self.begin_fetch(&mut memory, domain, announced, now)),
            };
            (known, fetch.filter(|_| step == Step::Fetch))
        };
        let Some(fetch) = &mut fetch else { return known };
        match fetch.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(finding)) => finding.clone(),
            // The task ended without a word; that is no fault of the domain.
            Ok(None) | Err(_) => known,
        }
    }

    /// Joins the fetch that is under way for the domain, or begins one.
    fn begin_fetch(
        &self,
        memory: &mut Memory,
        domain: &Name,
        announced: Announced<'_>,
        now: u64,
    ) -> watch::Receiver<Option<StsFinding>> {
        if let Some(receiver) = memory.in_flight.get(domain) {
            return receiver.clone();
        }
        let (sender, receiver) = watch::channel(None);
        memory.in_flight.insert(domain.clone(), receiver.clone());
        let flight = Flight { policies: self.clone(), domain: domain.clone() };
        let id = match announced {
            Announced::Id(id) => id.to_owned(),
            // The id of the policy we have remains the one to compare with.
            Announced::Nothing | Announced::Unknown => memory.id_of(domain),
        };
        tokio::spawn(async move {
            let finding = flight.fetch(id, now).await;
            drop(flight);
            // Nobody listens where it was a refresh.
            let _ = sender.send(Some(finding));
        });
        receiver
    }

    /// Writes the file, if there is one and it is out of date. For the end of the server; until then it is written by itself.
    pub async fn save(&self) {
        let policies = self.clone();
        if let Err(cause) = tokio::task::spawn_blocking(move || policies.0.write()).await {
            error!(error = %cause, "saving MTA-STS policies met a bug");
        }
    }

    /// Has the file written, if there is one: at once, or, if that was done a moment ago, a moment later together with what
    /// else changes until then.
    fn save_soon(&self) {
        if self.0.file.is_none() {
            return;
        }
        {
            let mut memory = self.0.memory();
            memory.is_changed = true;
            if std::mem::replace(&mut memory.is_saved_soon, true) {
                return;
            }
        }
        let policies = self.clone();
        tokio::spawn(async move {
            while policies.0.memory().is_still_unsaved() {
                policies.save().await;
                tokio::time::sleep(SAVE_EVERY).await;
            }
        });
    }
}

/// A fetch under way. Whatever ends it, the next one may begin.
struct Flight {
    policies: Policies,
    domain: Name,
}

impl Flight {
    async fn fetch(&self, id: String, now: u64) -> StsFinding {
        let inner = &self.policies.0;
        let outcome = {
            // Never closed, so that there is always a permit to come.
            let _permit = inner.permits.acquire().await.ok();
            inner.fetch(&self.domain).await
        };
        let word = outcome.as_ref().map_or_else(|trouble| trouble.result.as_str(), |_| "fetched");
        metrics::counter!("mta_sts_fetches_total", "outcome" => word).increment(1);
        let finding = match outcome {
            Ok(policy) => {
                debug!(domain = %self.domain, mode = policy.mode.as_str(), "MTA-STS policy fetched");
                let cached = Arc::new(Cached { policy: Arc::new(policy), id, fetched_at: now });
                inner.memory().remember(&self.domain, cached, now, inner.policies_max)
            }
            Err(trouble) => {
                let (finding, is_reported) =
                    inner.memory().fail(&self.domain, FailedFetch { id, at: now }, trouble, inner.policies_max);
                if let (Some(trouble), true) = (&finding.trouble, is_reported) {
                    warn!(domain = %self.domain, result = %trouble.result, cause = %trouble.cause,
                        holds = finding.policy.is_some(), "MTA-STS policy cannot be fetched");
                }
                return finding;
            }
        };
        self.policies.save_soon();
        finding
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.policies.0.memory().in_flight.remove(&self.domain);
    }
}

impl Inner {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing in there is left half done by a panic.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file, if there is one and something changed since the last time. Blocks.
    fn write(&self) {
        let Some(file) = &self.file else { return };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(remembered) = self.memory().take_unsaved() else { return };
        let saved = cache_file::save(file, &remembered);
        let mut memory = self.memory();
        let was_failing = std::mem::replace(&mut memory.is_save_failing, saved.is_err());
        if let Err(error) = saved {
            // What was learnt is not forgotten by a disk that was full for a moment.
            memory.is_changed = true;
            if !was_failing {
                warn!(file = %file.display(), %error, "MTA-STS policies cannot be remembered");
            }
        }
    }

    /// The id that the domain's record announces; an error when it cannot be looked up.
    async fn announced_id(&self, domain: &Name) -> Result<Option<String>, ()> {
        let Some(name) = mta_sts::record_name(domain) else { return Ok(None) };
        let found = dns::txt(&*self.lookup, &name).await.map_err(|_| ())?;
        Ok(mta_sts::parse_record(found.records.iter().map(Vec::as_slice)).map(str::to_owned))
    }

    async fn fetch(&self, domain: &Name) -> Result<Policy, FetchTrouble> {
        let trouble = |result, cause: String| FetchTrouble { result, cause: mail::text::one_line(&cause) };
        let Some(host) = mta_sts::policy_host(domain) else {
            return Err(trouble(ResultType::StsPolicyFetchError, "the name of the policy host is too long".to_owned()));
        };
        let text = self.client.get_policy(&host, POLICY_PATH).await;
        let text = text.map_err(|error| trouble(error.result(), error.to_string()))?;
        Policy::parse(&text).map_err(|error| trouble(ResultType::StsPolicyInvalid, error.to_string()))
    }
}

impl Memory {
    /// What to do for a delivery, and what is known without doing it.
    fn look(&mut self, domain: &Name, announced: Announced<'_>, now: u64) -> (Step, StsFinding) {
        let nothing = StsFinding { policy: None, trouble: None };
        let Some(entry) = self.domains.get_mut(domain) else { return (step(now, announced, None, None), nothing) };
        entry.used_at = now;
        let (cached, failed) = (entry.cached.as_deref(), entry.failed.as_ref());
        let step = step(now, announced, cached, failed.map(|(failed, _)| failed));
        let is_announced = matches!(announced, Announced::Id(_));
        // RFC 8460 §4.3: each delivery that could not have the policy is a session to report.
        let is_told =
            (is_announced || cached.is_some_and(|cached| cached.holds(now))) && is_failure_reported(now, cached);
        let trouble = failed.filter(|_| is_told).map(|(_, trouble)| trouble.clone());
        (step, StsFinding { policy: entry.policy(now), trouble })
    }

    fn remember(&mut self, domain: &Name, cached: Arc<Cached>, now: u64, policies_max: usize) -> StsFinding {
        let entry = self.entry(domain, now, policies_max);
        entry.failed = None;
        entry.cached = Some(cached);
        StsFinding { policy: entry.policy(now), trouble: None }
    }

    /// What holds after a failed fetch, and whether the failure is anybody's business.
    fn fail(&mut self, domain: &Name, failed: FailedFetch, trouble: FetchTrouble, max: usize) -> (StsFinding, bool) {
        let now = failed.at;
        let entry = self.entry(domain, now, max);
        let is_reported = is_failure_reported(now, entry.cached.as_deref());
        entry.failed = Some((failed, trouble.clone()));
        (StsFinding { policy: entry.policy(now), trouble: Some(trouble).filter(|_| is_reported) }, is_reported)
    }

    /// The domain's entry. When there are too many, one goes: an entry without a policy that holds before one with it, and
    /// of equals the one that was not used for the longest time.
    fn entry(&mut self, domain: &Name, now: u64, policies_max: usize) -> &mut Entry {
        if !self.domains.contains_key(domain) && self.domains.len() >= policies_max.max(1) {
            let worth = |entry: &Entry| (entry.holds(now), entry.used_at);
            let least = self.domains.iter().min_by_key(|(_, entry)| worth(entry)).map(|(name, _)| name.clone());
            if let Some(least) = least {
                self.domains.remove(&least);
            }
        }
        let entry = self.domains.entry(domain.clone()).or_default();
        entry.used_at = now;
        entry
    }

    fn id_of(&self, domain: &Name) -> String {
        let cached = self.domains.get(domain).and_then(|entry| entry.cached.as_ref());
        cached.map(|cached| cached.id.clone()).unwrap_or_default()
    }

    /// Whether the task that sees to the file has more to do; otherwise it is at its end.
    fn is_still_unsaved(&mut self) -> bool {
        self.is_saved_soon = self.is_changed;
        self.is_changed
    }

    /// What to write down, if something changed since the last time.
    fn take_unsaved(&mut self) -> Option<Vec<(Name, Arc<Cached>)>> {
        let remembered = |(domain, entry): (&Name, &Entry)| Some((domain.clone(), entry.cached.clone()?));
        std::mem::take(&mut self.is_changed).then(|| self.domains.iter().filter_map(remembered).collect())
    }
}

impl Entry {
    fn holds(&self, now: u64) -> bool {
        self.cached.as_ref().is_some_and(|cached| cached.holds(now))
    }

    fn policy(&self, now: u64) -> Option<Arc<Policy>> {
        let cached = self.cached.as_ref().filter(|cached| cached.holds(now))?;
        Some(cached.policy.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::site::{Names, Site};
    use super::*;
    use transport_security::mta_sts::Mode;

    const DAY: u64 = 24 * 60 * 60;
    const NOW: u64 = 1_800_000_000;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn policy(mode: &str) -> String {
        format!("version: STSv1\nmode: {mode}\nmx: mx.example.net\nmax_age: {}\n", 7 * DAY)
    }

    /// A domain that announces a policy with this id, or none.
    fn zone(id: &str) -> String {
        let record =
            if id.is_empty() { String::new() } else { format!("_mta-sts.example.net TXT \"v=STSv1; id={id};\"") };
        format!("mta-sts.example.net A 127.0.0.1\n{record}\n")
    }

    struct World {
        site: Site,
        names: Arc<Names>,
        policies: Policies,
    }

    impl World {
        async fn new() -> World {
            World::with(Site::new(&["mta-sts.example.net"]).await, 10, None)
        }

        fn with(site: Site, policies_max: usize, file: Option<PathBuf>) -> World {
            let names = Names::new(&zone("1"));
            let settings =
                HttpsSettings { policy_port: site.port, is_loopback_allowed: true, ..HttpsSettings::default() };
            let client = HttpsClient::new(names.clone(), &site.trust, settings);
            let (policies, error) = Policies::new(names.clone(), client, policies_max, file);
            assert!(error.is_none(), "{error:?}");
            site.answers_text(&policy("enforce"));
            World { site, names, policies }
        }

        /// Mode of the policy that holds, and what is reported.
        async fn at(&self, now: u64) -> (Option<Mode>, Option<ResultType>) {
            let finding = self.policies.policy_at(&name("example.net"), now).await;
            (finding.policy.map(|policy| policy.mode), finding.trouble.map(|trouble| trouble.result))
        }

        async fn settled(&self) {
            while self.policies.size().1 > 0 {
                tokio::task::yield_now().await;
            }
        }

        fn fetches(&self) -> usize {
            self.site.requests().len()
        }
    }

    const ENFORCED: (Option<Mode>, Option<ResultType>) = (Some(Mode::Enforce), None);
    const NOTHING: (Option<Mode>, Option<ResultType>) = (None, None);
    const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

    #[tokio::test]
    async fn a_policy_is_fetched_once_and_kept() {
        let world = World::new().await;
        assert_eq!(world.at(NOW).await, ENFORCED);
        assert_eq!(world.at(NOW + 60).await, ENFORCED);
        assert_eq!(world.fetches(), 1);
        world.names.set(&zone("2"));
        world.site.answers_text(&policy("testing"));
        assert_eq!(world.at(NOW + 60).await, (Some(Mode::Testing), None));
        assert_eq!(world.fetches(), 2);
    }

    #[tokio::test]
    async fn who_announces_nothing_is_not_asked() {
        let world = World::new().await;
        for text in [zone(""), zone("a_b"), "_mta-sts.example.net SERVFAIL".to_owned()] {
            world.names.set(&text);
            assert_eq!(world.at(NOW).await, NOTHING);
        }
        assert_eq!(world.fetches(), 0);
        assert_eq!(world.policies.size(), (0, 0), "and not remembered");
    }

    /// RFC 8461 §5.1, §10.2: neither the record nor the host needs to be there any more.
    #[tokio::test]
    async fn a_policy_holds_until_it_ends() {
        let world = World::new().await;
        assert_eq!(world.at(NOW).await, ENFORCED);
        world.site.answers(NOT_FOUND);
        for text in [zone(""), "_mta-sts.example.net BOGUS".to_owned()] {
            world.names.set(&text);
            assert_eq!(world.at(NOW + 60).await, ENFORCED);
        }
        world.names.set(&zone("2"));
        assert_eq!(world.at(NOW + 60).await, (Some(Mode::Enforce), Some(ResultType::StsPolicyFetchError)));
        world.names.set(&zone(""));
        assert_eq!(world.at(NOW + 7 * DAY).await, NOTHING);
    }

    #[tokio::test]
    async fn a_policy_is_refreshed_besides() {
        let world = World::new().await;
        assert_eq!(world.at(NOW).await, ENFORCED);
        world.site.answers_text(&policy("none"));
        world.names.set(&zone(""));
        assert_eq!(world.at(NOW + DAY).await, ENFORCED, "without waiting");
        world.settled().await;
        assert_eq!(world.at(NOW + DAY + 1).await, (Some(Mode::None), None));
        assert_eq!(world.fetches(), 2);
        // RFC 8461 §8.3: nobody is alarmed when all of it goes away after that.
        world.site.answers(NOT_FOUND);
        assert_eq!(world.at(NOW + 3 * DAY).await, (Some(Mode::None), None));
        world.settled().await;
        assert_eq!(world.at(NOW + 3 * DAY + 1).await, (Some(Mode::None), None));
        assert_eq!(world.fetches(), 3);
    }

    /// RFC 8461 §3.3.
    #[tokio::test]
    async fn failures_are_remembered_for_minutes() {
        let world = World::new().await;
        world.site.answers(NOT_FOUND);
        let failed = (None, Some(ResultType::StsPolicyFetchError));
        assert_eq!(world.at(NOW).await, failed);
        assert_eq!(world.at(NOW + 299).await, failed);
        assert_eq!(world.fetches(), 1);
        world.site.answers_text(&policy("enforce"));
        assert_eq!(world.at(NOW + 300).await, ENFORCED);
        assert_eq!(world.fetches(), 2);
    }

    #[tokio::test]
    async fn failures_have_their_words() {
        let world = World::new().await;
        world.site.answers_text("version: STSv1\nmode: enforce\nmax_age: 1\n");
        assert_eq!(world.at(NOW).await, (None, Some(ResultType::StsPolicyInvalid)));
        let world = World::with(Site::new(&["example.net"]).await, 10, None);
        assert_eq!(world.at(NOW).await, (None, Some(ResultType::StsWebpkiInvalid)));
        let finding = world.policies.policy_at(&name("example.net"), NOW).await;
        assert!(finding.trouble.unwrap().cause.contains("mta-sts.example.net"));
    }

    #[tokio::test]
    async fn one_fetch_a_domain_at_a_time() {
        let world = World::new().await;
        let given_up = {
            let policies = world.policies.clone();
            tokio::spawn(async move { policies.policy_at(&name("example.net"), NOW).await })
        };
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let policies = world.policies.clone();
            waiting.spawn(async move { policies.policy_at(&name("example.net"), NOW).await });
        }
        while world.policies.size().1 == 0 {
            tokio::task::yield_now().await;
        }
        given_up.abort();
        for finding in waiting.join_all().await {
            assert_eq!(finding.policy.map(|policy| policy.mode), Some(Mode::Enforce));
        }
        assert_eq!(world.fetches(), 1);
        assert_eq!(world.policies.size(), (1, 0));
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let hosts = ["mta-sts.a.example", "mta-sts.b.example", "mta-sts.c.example"];
        let world = World::with(Site::new(&hosts[..2]).await, 2, None);
        let zone = "
            *.example A 127.0.0.1
            _mta-sts.a.example TXT \"v=STSv1; id=1\"\n mta-sts.a.example A 127.0.0.1
            _mta-sts.b.example TXT \"v=STSv1; id=1\"\n mta-sts.b.example A 127.0.0.1
            _mta-sts.c.example TXT \"v=STSv1; id=1\"\n mta-sts.c.example A 127.0.0.1
        ";
        world.names.set(zone);
        let holds = async |domain: &str, now| world.policies.policy_at(&name(domain), now).await.policy.is_some();
        assert!(holds("a.example", NOW).await);
        assert!(!holds("c.example", NOW + 1).await, "its certificate is not good");
        assert!(holds("b.example", NOW + 2).await);
        assert_eq!(world.policies.size(), (2, 0));
        assert_eq!(world.fetches(), 2);
        assert!(holds("a.example", NOW + 3).await && holds("b.example", NOW + 4).await);
        assert_eq!(world.fetches(), 2, "the failed one went first");
    }

    #[tokio::test]
    async fn a_restart_forgets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mta-sts.json");
        let world = World::with(Site::new(&["mta-sts.example.net"]).await, 10, Some(file.clone()));
        assert_eq!(world.at(NOW).await, ENFORCED);
        world.policies.save().await;
        let world = World::with(world.site, 10, Some(file.clone()));
        world.names.set(&zone(""));
        assert_eq!(world.at(NOW + 60).await, ENFORCED);
        assert_eq!(world.fetches(), 1);
        std::fs::write(&file, "{").unwrap();
        let client = HttpsClient::new(world.names.clone(), &world.site.trust, HttpsSettings::default());
        let (policies, error) = Policies::new(world.names.clone(), client, 10, Some(file));
        assert!(error.is_some());
        assert_eq!(policies.size(), (0, 0));
    }

    /// However many policies are fetched, the file is written now and then only, and whole at the end.
    #[tokio::test(start_paused = true)]
    async fn the_file_is_written_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mta-sts.json");
        let names = Names::new("");
        let client = HttpsClient::new(names.clone(), &crate::tls::Trust::nobody(), HttpsSettings::default());
        let (policies, _) = Policies::new(names, client, 10, Some(file.clone()));
        let learn = |domain: &str| {
            let policy = Arc::new(Policy::parse(policy("enforce").as_bytes()).unwrap());
            let cached = Arc::new(Cached { policy, id: "1".to_owned(), fetched_at: NOW });
            policies.0.memory().remember(&name(domain), cached, NOW, 10);
            policies.save_soon();
        };
        let written = || cache_file::load(&file, 10).unwrap().len();
        learn("a.example");
        while written() == 0 {
            tokio::task::yield_now().await;
        }
        // The clock goes on by itself when all wait, but not while the file is written.
        learn("b.example");
        learn("c.example");
        tokio::time::sleep(SAVE_EVERY / 2).await;
        assert_eq!(written(), 1);
        tokio::time::sleep(SAVE_EVERY).await;
        assert_eq!(written(), 3);
        learn("d.example");
        policies.save().await;
        assert_eq!(written(), 4, "at the end");
        tokio::time::sleep(3 * SAVE_EVERY).await;
        assert!(!policies.0.memory().is_saved_soon, "the task ends when there is nothing to do");
        learn("e.example");
        tokio::time::sleep(SAVE_EVERY / 2).await;
        assert_eq!(written(), 5, "at once");
        // What could not be written is tried again, though nothing new is learnt.
        std::fs::remove_dir_all(folder.path()).unwrap();
        learn("f.example");
        tokio::time::sleep(2 * SAVE_EVERY).await;
        assert!(!file.exists());
        std::fs::create_dir(folder.path()).unwrap();
        tokio::time::sleep(2 * SAVE_EVERY).await;
        assert_eq!(written(), 6);
    }
}
