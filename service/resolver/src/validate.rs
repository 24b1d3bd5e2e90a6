//! Validation of our own, over servers that need not be trusted: hickory's validator on our transport.
//!
//! The validator asks for keys and delegations through [`Courier`], so that every packet goes the one guarded way of
//! `exchange`. It gets to see only the records that matter to its question. Around it stands what it lacks: a bound on
//! the questions that one proof may take, a short memory for keys and delegations, and a difference between "forged"
//! and "could not be fetched", which it calls bogus alike; and `reply` reads what it does not understand: wildcards in
//! zones with NSEC, aliases made of DNAME records, aliases whose target is denied. It also takes the word of zones above for
//! names that are none of theirs: for a wildcard that `reply` looks after, for an unsigned delegation that [`Courier`] does.
//!
//! What remains: trust anchors are keys, not DS records, and are not rolled over by RFC 5011. That a wildcard has no
//! records of some type is called secure in zones with opt-out, where RFC 5155 §9.2 wants insecure. And a zone that hashes in
//! more than 100 rounds leaves what is absent below it insecure, in its child zones too (RFC 9276 §3.2), but what is there
//! in unsigned child zones bogus, since the validator does not take such a denial for that of a key.

use crate::cache::Cache;
use crate::exchange::Want;
use crate::nsec3::Nsec3;
use crate::reply::{Path, Step, Vouch, bogus, failed, read, read_unproved, wire_name, wire_type};
use crate::settings::SettingsError;
use crate::stub::Stub;
use dns::{Failure, Name, RecordType, Security};
use futures_util::stream::{self, Stream};
use hickory_net::dnssec::DnssecDnsHandle;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::xfer::{DnsHandle, FirstAnswer};
use hickory_net::{DnsError, NetError};
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::dnssec::{Proof, TrustAnchors};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Message, Query};
use hickory_proto::rr::{self, RData};
use std::collections::HashSet;
use std::fmt;
use std::iter::successors;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Questions to servers that one proof may take. A proof with nothing remembered takes some 4 for each zone from the
/// root down.
const QUESTIONS_PER_PROOF_MAX: usize = 64;
/// Zones, about, whose keys and delegations are remembered.
const MEMORY_ENTRIES_MAX: usize = 4_000;
const REMEMBERED: [rr::RecordType; 3] = [rr::RecordType::DNSKEY, rr::RecordType::DS, rr::RecordType::NS];
/// They are remembered no longer than this. What a reply says is validated anew each time; a forged one is forgotten
/// with the first proof that fails.
const MEMORY_TTL_MAX: Duration = Duration::from_secs(300);
/// Records in the authority section of a reply to prove. What denies a name and a wildcard takes some ten.
const DENIALS_MAX: usize = 64;
/// Verdicts about sets of records that the validator remembers; it would keep a million.
const VERDICTS_MAX: usize = 8_000;
/// Those that are remembered by the way.
const VERDICTS_OF_ONE_PROOF_MAX: usize = 64;
/// Proofs of what is unsigned that may be under way inside one another. What is remembered needs two.
const PROOFS_NESTED_MAX: usize = 3;

tokio::task_local! {
    /// The proof that the validator works on in this task.
    static PROOF: Arc<ProofWork>;
}

/// What is spent on one proof.
#[derive(Debug)]
struct ProofWork {
    questions: AtomicUsize,
    /// A question got no answer: what looks bogus may only be missing.
    has_failed: AtomicBool,
    deadline: Instant,
}

pub(crate) struct Validator {
    handle: DnssecDnsHandle<Courier>,
    memory: Memory,
    /// The zones whose keys we start from.
    anchored: Vec<Name>,
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validator")
    }
}

impl Validator {
    pub(crate) fn new(stub: Arc<Stub>, trust_anchors: Option<&str>) -> Result<Validator, SettingsError> {
        let (anchors, anchored) = match trust_anchors {
            None => (TrustAnchors::default(), vec![Name::root()]),
            Some(text) => {
                let anchors = text.parse().map_err(|error| SettingsError::TrustAnchors(format!("{error}")))?;
                let owners = text.lines().filter_map(|line| line.split_whitespace().next());
                (anchors, owners.filter_map(|owner| Name::parse(owner).ok()).collect())
            }
        };
        let memory: Memory = Arc::new(Mutex::new(Cache::new(MEMORY_ENTRIES_MAX)));
        let anchors = Arc::new(anchors);
        let courier = Courier { stub, memory: memory.clone(), anchors: anchors.clone(), nested: 0 };
        let handle = DnssecDnsHandle::with_trust_anchor(courier, anchors);
        Ok(Validator { handle: handle.validation_cache_size(VERDICTS_MAX), memory, anchored })
    }

    /// Whether a name lies below a key that we start from. All others are insecure (RFC 4033 §5).
    pub(crate) fn covers(&self, name: &Name) -> bool {
        self.anchored.iter().any(|zone| name.is_within(zone))
    }

    /// Asks for the end of the path and follows aliases as far as the reply proves them.
    pub(crate) async fn step(&self, kind: RecordType, path: &mut Path, deadline: Instant) -> Result<Step, Failure> {
        let query = Query::query(wire_name(path.end()), wire_type(kind));
        let work = Arc::new(ProofWork { questions: AtomicUsize::new(0), has_failed: AtomicBool::new(false), deadline });
        let outcome = PROOF.scope(work.clone(), self.handle.lookup(query, options()).first_answer()).await;
        let step = match outcome {
            Ok(response) => read(&response, kind, Vouch::EachRecord, path),
            Err(NetError::Dns(DnsError::Nsec { response, proof, .. })) => read_denied(&response, proof, kind, path),
            Err(error) => Err(failed(error)),
        };
        match step {
            Err(Failure::Bogus(cause)) if work.has_failed.load(Ordering::Relaxed) => {
                Err(failed(format_args!("what proves {} could not be fetched: {cause}", path.end())))
            }
            Err(Failure::Bogus(cause)) => {
                self.forget_about(path.end());
                Err(Failure::Bogus(cause))
            }
            other => other,
        }
    }

    /// Forgets the keys and delegations on the way to a name: one of them may have been forged.
    fn forget_about(&self, name: &Name) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for above in successors(Some(name.clone()), Name::parent) {
            for kind in REMEMBERED {
                memory.remove(&(rr::LowerName::from(wire_name(&above)), kind));
            }
        }
    }

    /// Forgets keys and delegations.
    pub(crate) fn forget(&self) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Reads a reply whose denials do not prove what they should for this question.
fn read_denied(message: &Message, proof: Proof, kind: RecordType, path: &mut Path) -> Result<Step, Failure> {
    if let Some(step) = read_unproved(message, kind, path) {
        return step;
    }
    match proof {
        // Denials by NSEC3 with more rounds of hashing than we care to do, or with opt-out (RFC 9276 §3.2).
        Proof::Insecure => {
            read(message, kind, Vouch::EachRecord, path).map(|step| Step { security: Security::Insecure, ..step })
        }
        Proof::Secure | Proof::Bogus | Proof::Indeterminate => {
            Err(bogus(format_args!("the denials for {} do not prove it", path.end())))
        }
    }
}

fn options() -> DnsRequestOptions {
    let mut options = DnsRequestOptions::default();
    options.edns_set_dnssec_ok = true;
    options
}

type Memory = Arc<Mutex<Cache<(rr::LowerName, rr::RecordType), Arc<Message>>>>;

/// Carries the validator's questions.
#[derive(Clone)]
struct Courier {
    stub: Arc<Stub>,
    memory: Memory,
    anchors: Arc<TrustAnchors>,
    /// The proofs that wait for what this one carries; the validator counts its own anew in each.
    nested: usize,
}

impl DnsHandle for Courier {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let courier = self.clone();
        Box::pin(stream::once(async move { courier.carry(request).await }))
    }
}

impl Courier {
    async fn carry(&self, request: DnsRequest) -> Result<DnsResponse, NetError> {
        let query = request.queries.first().ok_or(NetError::Message("no question"))?;
        let work = PROOF.try_with(Arc::clone).map_err(|_| NetError::Message("a question outside of a proof"))?;
        let key = (rr::LowerName::from(query.name()), query.query_type());
        if let Some(message) = self.recall(&key) {
            return Ok(DnsResponse::from_message(Message::clone(&message))?);
        }
        if work.questions.fetch_add(1, Ordering::Relaxed) >= QUESTIONS_PER_PROOF_MAX {
            work.has_failed.store(true, Ordering::Relaxed);
            return Err(NetError::Message("too many questions for one proof"));
        }
        let reply = self.stub.ask(query.name(), query.query_type(), Want::Proof, work.deadline).await;
        let reply = reply.map_err(|failure| {
            // The server's word that it is bogus is no failure to fetch.
            if matches!(failure, Failure::Failed(_)) {
                work.has_failed.store(true, Ordering::Relaxed);
            }
            NetError::Msg(failure.to_string())
        })?;
        let mut message = prune(reply.message, query).ok_or(NetError::Message("a reply with too many denials"))?;
        if key.1 == rr::RecordType::DS {
            self.leave_out_foreign_opt_out(&mut message, query.name()).await;
        }
        self.remember(key, &message, reply.octets.len());
        Ok(DnsResponse::from_message(message)?)
    }

    /// Leaves out of the denial of a DS record what zones above the delegation's own say of unsigned delegations of theirs.
    ///
    /// The validator takes for insecure whatever a zone that opts out covers by a hash, however far below (RFC 5155 §8.6 wants
    /// the closest encloser proved as well). So anybody could give out a name in a signed zone for an unsigned delegation of
    /// the zone above (V43). What tells the two apart: between the zone that speaks and the delegation no other is signed.
    async fn leave_out_foreign_opt_out(&self, message: &mut Message, delegation: &rr::Name) {
        let speakers = message.authorities.iter().filter_map(Nsec3::of).filter(|nsec3| nsec3.opts_out());
        let Some(highest) = speakers.map(|nsec3| nsec3.zone).min_by_key(rr::Name::num_labels) else { return };
        let courier = Courier { nested: self.nested + 1, ..self.clone() };
        let handle = DnssecDnsHandle::with_trust_anchor(courier, self.anchors.clone());
        let handle = handle.validation_cache_size(VERDICTS_OF_ONE_PROOF_MAX);
        let upwards = successors(Some(delegation.base_name()), |name| Some(name.base_name()));
        let between: Vec<rr::Name> = upwards.take_while(|name| *name != highest && highest.zone_of(name)).collect();
        // From above, so that what the lower ones need is remembered.
        for name in between.iter().rev() {
            let is_unsigned = self.nested < PROOFS_NESTED_MAX && has_no_ds(&handle, name).await;
            let is_from_above = |record: &rr::Record| {
                Nsec3::of(record).is_some_and(|nsec3| nsec3.zone != *name && nsec3.zone.zone_of(name))
            };
            message.authorities.retain(|record| is_unsigned || !is_from_above(record));
        }
    }

    fn recall(&self, key: &(rr::LowerName, rr::RecordType)) -> Option<Arc<Message>> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.get(key, Instant::now()).map(|(message, _)| message)
    }

    fn remember(&self, key: (rr::LowerName, rr::RecordType), message: &Message, octets: usize) {
        // What else is asked, the cache in front of all this remembers.
        if !REMEMBERED.contains(&key.1) {
            return;
        }
        let ttl = message.all_sections().map(|record| record.ttl).min().unwrap_or(0);
        let ttl = MEMORY_TTL_MAX.min(Duration::from_secs(ttl.into()));
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.insert(key, Arc::new(message.clone()), octets, ttl, Instant::now());
    }
}

/// Whether it is proved that a name has no DS record. That the validator lets a reply pass is no proof: it lets any pass whose
/// other records all lie in unsigned zones (V43).
async fn has_no_ds(handle: &DnssecDnsHandle<Courier>, name: &rr::Name) -> bool {
    let is_proof = |record: &rr::Record| {
        let is_denial = [rr::RecordType::NSEC, rr::RecordType::NSEC3].contains(&record.record_type());
        is_denial && record.proof.is_secure()
    };
    let found = handle.lookup(Query::query(name.clone(), rr::RecordType::DS), options()).first_answer().await;
    found.is_ok_and(|found| found.answers.is_empty() && found.authorities.iter().any(is_proof))
}

/// Leaves in a reply what matters to the question: its records or its alias, what denies it, and their signatures.
///
/// The validator would prove everything else as well, at the cost of questions and time that a peer can drive up; and what
/// it cannot prove of that would spoil the rest. Denials of zones that the name does not lie in are the worst of it: the
/// validator compares them only with an SOA record of the same reply, so that any zone could deny what lies between a name
/// of its own and whatever it calls the next one, and too many rounds of hashing would make the whole reply insecure (V43).
/// The zone of an NSEC record is the one that signs it; one that is not signed proves nothing. Those that deny the target of
/// an alias go as well: it is asked for by itself. `None` when there is too much of it.
fn prune(mut message: Message, query: &Query) -> Option<Message> {
    let kind = query.query_type();
    let is_signature_from_above = |record: &rr::Record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => signature.input().signer_name.zone_of(query.name()),
        _ => false,
    };
    let signatures = message.authorities.iter().filter(|record| kind_of(record) == rr::RecordType::NSEC);
    let signatures = signatures.filter(|record| is_signature_from_above(record));
    let signed_from_above: HashSet<rr::Name> = signatures.map(|record| record.name.clone()).collect();
    let is_denial = |record: &rr::Record| match kind_of(record) {
        rr::RecordType::SOA => record.name.zone_of(query.name()),
        rr::RecordType::NSEC3 => record.name.base_name().zone_of(query.name()),
        rr::RecordType::NSEC if record.record_type() == rr::RecordType::RRSIG => is_signature_from_above(record),
        rr::RecordType::NSEC => signed_from_above.contains(&record.name),
        _ => false,
    };
    message.answers.retain(|record| match kind_of(record) {
        rr::RecordType::DNAME => record.name.zone_of(query.name()),
        of => record.name == *query.name() && [kind, rr::RecordType::CNAME].contains(&of),
    });
    // Servers may name the zone cut here, and the validator looks for it.
    let is_cut = |record: &rr::Record| kind == rr::RecordType::NS && kind_of(record) == rr::RecordType::NS;
    message.authorities.retain(|record| is_denial(record) || is_cut(record));
    message.additionals.clear();
    (message.authorities.len() <= DENIALS_MAX).then_some(message)
}

/// The type of a record, or the type that a signature is for.
fn kind_of(record: &rr::Record) -> rr::RecordType {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => signature.input().type_covered,
        _ => record.record_type(),
    }
}
