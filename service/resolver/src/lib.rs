//! `dns::Lookup` over the network, with a cache.
//!
//! [`Resolver`] answers from what it knows itself (`local`), from what it has found out before (`cache`), or asks: one
//! task a question, however many wait for the answer. A question goes to the configured servers (`stub`), each packet
//! guarded against forgery (`exchange`); the reply is read (`reply`), and either a server's word counts for its proof or
//! we validate it (`validate`, `nsec3`). [`Resolver::probe`] says which of these really holds.
//!
//! Recursion is left to the servers.

mod cache;
mod exchange;
mod local;
mod nsec3;
mod probe;
mod reply;
mod settings;
mod stub;
mod validate;

pub use local::{Hosts, HostsError};
pub use probe::{Probed, ProbedServer};
pub use settings::{Mode, PORT, RESOLV_CONF, SERVERS_MAX, Settings, SettingsError, servers_of};

use cache::Cache;
use dns::{Answer, Failure, Found, Lookup, Name, Record, RecordType, Security};
use exchange::Want;
use reply::{End, Path, Step, Vouch, failed, read, wire_name, wire_type};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stub::Stub;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use validate::Validator;

/// How long a failure is remembered, so that what fails is not asked for by everybody at once (RFC 9520 §3.2 asks for
/// one second to five minutes).
const FAILURE_TTL: Duration = Duration::from_secs(5);
/// Questions that are asked at the same time; each needs a socket. More wait, as part of their time.
const ASKED_AT_ONCE_MAX: usize = 256;
/// Questions that are asked or wait for it; more fail.
const OPEN_QUESTIONS_MAX: usize = 8_192;

/// Looks up names over the network. Clones share everything.
#[derive(Debug, Clone)]
pub struct Resolver {
    inner: Arc<Inner>,
    needs_proof: bool,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    stub: Arc<Stub>,
    validator: Option<Validator>,
    known: Mutex<Known>,
    asking: Semaphore,
}

#[derive(Debug)]
struct Known {
    cache: Cache<Key, Outcome>,
    open: HashMap<Key, watch::Receiver<Option<Outcome>>>,
    /// Counts flushes: what was asked before one is not remembered after it.
    generation: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: Name,
    kind: RecordType,
    needs_proof: bool,
}

type Outcome = Result<Found, Failure>;

impl Lookup for Resolver {
    fn look_up<'a>(&'a self, name: &'a Name, kind: RecordType) -> Answer<'a> {
        Box::pin(self.find(name, kind))
    }
}

impl Resolver {
    /// A resolver with these settings. Reads [`RESOLV_CONF`] when they name no server. To look something up, it needs
    /// to be in a tokio runtime.
    pub fn new(settings: Settings) -> Result<Resolver, SettingsError> {
        let servers = match settings.servers.as_slice() {
            [] => servers_of(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default()),
            [..] if settings.servers.len() > SERVERS_MAX => return Err(SettingsError::TooManyServers),
            servers => servers.to_vec(),
        };
        let stub = Arc::new(Stub::new(servers, &settings));
        let validator = match settings.mode {
            Mode::Validating => Some(Validator::new(stub.clone(), settings.trust_anchors.as_deref())?),
            Mode::Trusting | Mode::Plain => None,
        };
        let cache = Cache::new(settings.cache_entries_max);
        let known = Mutex::new(Known { cache, open: HashMap::new(), generation: 0 });
        let asking = Semaphore::new(ASKED_AT_ONCE_MAX);
        Ok(Resolver { inner: Arc::new(Inner { settings, stub, validator, known, asking }), needs_proof: true })
    }

    /// The same resolver for those who need no proof, such as SPF, DKIM, DMARC and block lists: in
    /// [`Mode::Validating`] it skips the validation, which takes many questions, and its answers are insecure.
    /// Otherwise nothing changes.
    pub fn without_proof(&self) -> Resolver {
        Resolver { inner: self.inner.clone(), needs_proof: self.inner.validator.is_none() }
    }

    /// Finds out which mode really holds, by asking each server for the SOA record of a name, usually the root's. It
    /// changes nothing: where validation turns out impossible ([`Probed::holds`]), make a resolver with that mode,
    /// since in [`Mode::Validating`] every lookup would fail.
    pub async fn probe(&self, name: &Name) -> Probed {
        probe::probe(&self.inner, name).await
    }

    /// Forgets all answers.
    pub fn flush(&self) {
        let mut known = self.inner.known();
        known.cache.clear();
        known.generation += 1;
        // Who asks from now on must not get what is on its way.
        known.open.clear();
        drop(known);
        if let Some(validator) = &self.inner.validator {
            validator.forget();
        }
    }

    async fn find(&self, name: &Name, kind: RecordType) -> Outcome {
        if let Some(found) = local::answer(&self.inner.settings.hosts, name, kind) {
            return Ok(found);
        }
        let key = Key { name: name.clone(), kind, needs_proof: self.needs_proof };
        let mut answer = {
            let mut known = self.inner.known();
            if let Some((outcome, left)) = known.cache.get(&key, Instant::now()) {
                metrics::counter!("dns_cache_hits_total", "type" => kind.as_str()).increment(1);
                return outcome.map(|found| Found { ttl: left, ..found });
            }
            match known.open.get(&key) {
                Some(answer) => answer.clone(),
                None if known.open.len() >= OPEN_QUESTIONS_MAX => {
                    return Err(failed("too many DNS questions are open"));
                }
                None => {
                    let (sender, answer) = watch::channel(None);
                    known.open.insert(key.clone(), answer.clone());
                    // A task, since others may come to wait for it, and whoever asked first may go away.
                    tokio::spawn(Asking { inner: self.inner.clone(), key, generation: known.generation, sender }.run());
                    answer
                }
            }
        };
        match answer.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(failed("no outcome"))),
            Err(_) => Err(failed("the question was dropped")),
        }
    }
}

/// One question on its way.
struct Asking {
    inner: Arc<Inner>,
    key: Key,
    generation: u64,
    sender: watch::Sender<Option<Outcome>>,
}

impl Asking {
    async fn run(self) {
        let deadline = Instant::now() + self.inner.settings.timeout;
        let outcome = match timeout_at(deadline, self.inner.ask(&self.key, deadline)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(failed("no answer in time")),
        };
        let outcome = self.inner.settings.clamp(outcome);
        self.report(&outcome);
        self.remember(&outcome);
        _ = self.sender.send(Some(outcome));
    }

    fn report(&self, outcome: &Outcome) {
        let Key { name, kind, .. } = &self.key;
        let label = match outcome {
            Ok(found) if !found.records.is_empty() => "found",
            Ok(found) if found.name_exists => "no_data",
            Ok(_) => "no_name",
            Err(Failure::Bogus(_)) => "bogus",
            Err(Failure::Failed(_)) => "failed",
        };
        metrics::counter!("dns_questions_total", "type" => kind.as_str(), "outcome" => label).increment(1);
        match outcome {
            Ok(found) => debug!(%name, %kind, outcome = label, security = ?found.security, ttl = ?found.ttl, "dns"),
            Err(failure) => debug!(%name, %kind, outcome = label, %failure, "dns"),
        }
    }

    fn remember(&self, outcome: &Outcome) {
        let (ttl, octets) = match outcome {
            Ok(found) => (found.ttl, octets_of(found)),
            Err(_) => (FAILURE_TTL, 256),
        };
        let mut known = self.inner.known();
        if known.generation == self.generation {
            known.cache.insert(self.key.clone(), outcome.clone(), octets, ttl, Instant::now());
        }
    }
}

impl Drop for Asking {
    /// The question is no longer open, also when it ended by a panic.
    fn drop(&mut self) {
        let mut known = self.inner.known();
        if known.generation == self.generation {
            known.open.remove(&self.key);
        }
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, key: &Key, deadline: Instant) -> Outcome {
        let _permit = self.asking.acquire().await.map_err(|_| failed("closed"))?;
        let mut path = Path::from(key.name.clone());
        let mut security = Security::Secure;
        let mut ttl = u32::MAX;
        // The path gets longer each time and has a limit.
        loop {
            let step = self.step(key, &mut path, deadline).await?;
            ttl = ttl.min(step.ttl);
            if step.security == Security::Insecure {
                security = Security::Insecure;
            }
            let (records, name_exists) = match step.end {
                End::Onward => continue,
                End::Records(records) => (records, true),
                End::Absent { name_exists } => (Vec::new(), name_exists),
            };
            let ttl = Duration::from_secs(ttl.into());
            return Ok(Found { records, name_exists, security, canonical: path.end().clone(), ttl });
        }
    }

    async fn step(&self, key: &Key, path: &mut Path, deadline: Instant) -> Result<Step, Failure> {
        let validator = self.validator.as_ref().filter(|validator| key.needs_proof && validator.covers(path.end()));
        if let Some(validator) = validator {
            return validator.step(key.kind, path, deadline).await;
        }
        let want = if self.stub.is_believed() { Want::Proof } else { Want::Records };
        let reply = self.stub.ask(&wire_name(path.end()), wire_type(key.kind), want, deadline).await?;
        // R9, V43: nobody's word counts but that of a server on a safe path.
        let is_authentic = reply.message.authentic_data && self.stub.is_believed();
        let security = if is_authentic { Security::Secure } else { Security::Insecure };
        read(&reply.message, key.kind, Vouch::Whole(security), path)
    }
}

impl Settings {
    fn clamp(&self, outcome: Outcome) -> Outcome {
        outcome.map(|found| {
            let ttl_max = if found.records.is_empty() { self.negative_ttl_max } else { self.ttl_max };
            // Zero is respected: such an answer is for this one question (RFC 1035 §3.2.1).
            let ttl = if found.ttl.is_zero() { found.ttl } else { found.ttl.max(self.ttl_min).min(ttl_max) };
            Found { ttl, ..found }
        })
    }
}

/// About what an answer takes in memory.
fn octets_of(found: &Found) -> usize {
    let of_record = |record: &Record| match record {
        Record::Txt(text) => text.len(),
        Record::Tlsa(tlsa) => tlsa.data.len(),
        Record::Mx(mx) => mx.exchange.as_str().len(),
        Record::Cname(name) | Record::Ns(name) | Record::Ptr(name) | Record::Soa(name, _) => name.as_str().len(),
        Record::Srv { target, .. } => target.as_str().len(),
        Record::A(_) | Record::Aaaa(_) => 0,
    };
    let records: usize = found.records.iter().map(|record| size_of::<Record>() + of_record(record)).sum();
    256 + records
}
