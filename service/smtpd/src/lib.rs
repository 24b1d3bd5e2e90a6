//! Receives mail: the async side of SMTP, submission and LMTP.
//!
//! The session machine asks; a [`Desk`] answers. The path of a message: here, `recipient` decides where it may go,
//! `begin_body` opens an intake, `body` carries octets into it; in `delivery`, `end_of_message` judges, stages and commits,
//! and only then is there a 250.

mod delivery;
mod fate;
mod refusal;
mod reply;

pub use fate::FateCounters;

use deliver::{Intake, QueueDoor, QueueIds, Signer};
use directory::{Directory, DomainClass, Route};
use fate::Fate;
use login::Login;
use mail::{
    Address, Arrival, Commit, Envelope, Event, Happening, InternalDate, QueueChange, Recipient, Reply, ReversePath,
};
use message::submission::Demands;
use policy::Policy;
use queue::rate::{RateLimits, Rates};
use refusal::{Decider, Refusal};
use sender_auth::srs::{Day, Srs};
use smtp_proto::question::{Abandoned, Answer, Client, Question, Role};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use store::MailStore;
use tokio::sync::Semaphore;

/// What sessions of a listener share.
pub struct House {
    /// Our name in trace fields and replies.
    pub host_name: String,
    /// Where mail goes.
    pub store: Arc<dyn MailStore>,
    /// Who has an account.
    pub directory: Arc<Directory>,
    /// The listener's checks.
    pub policy: Policy,
    /// Whose clients are trusted.
    pub trusted: net::Networks,
    /// Verifies passwords.
    pub login: Arc<Login>,
    /// Names messages.
    pub queue_ids: Arc<QueueIds>,
    /// Hears of what was queued.
    pub queue: Arc<dyn QueueDoor>,
    /// Takes back reverse-paths that we rewrote.
    pub srs: Option<Arc<Srs>>,
    /// What is demanded of submitted mail and done to it; `None` where nothing is submitted.
    pub submission: Option<SubmissionRules>,
    /// Signs what accounts and trusted clients send.
    pub signer: Option<Arc<Signer>>,
    /// Who gets a copy of everything (R205).
    pub archive: Option<Address>,
    /// How much accounts may send.
    pub rates: Option<SubmissionRates>,
    /// Whether the listener offers authentication.
    pub authentication_offered: bool,
    /// More Received fields than this mean a loop (R101).
    pub hops_max: u32,
    /// Largest message, for the question whether there is room (R46).
    pub message_octets_max: u64,
    /// The listener's name, for logs.
    pub listener: String,
    /// Bounds how many refusals wait to be kept.
    pub refusals: Arc<Semaphore>,
    /// What became of recipients so far.
    pub fates: FateCounters,
}

/// What holds for submitted mail.
#[derive(Clone, Default)]
pub struct SubmissionRules {
    /// What its header section passes through.
    pub stages: deliver::Submission,
    /// What is demanded of its author.
    pub demands: Demands,
    /// Whether our trace field tells nothing of the client (R151, V22 of the variants).
    pub anonymous_trace: bool,
    /// Whether the author must be an address that the account may send as (R138).
    pub check_author: bool,
}

/// What accounts may send, and what they have sent of late.
#[derive(Clone)]
pub struct SubmissionRates {
    /// What each may.
    pub limits: RateLimits,
    /// What each did, over all listeners.
    pub used: Arc<Mutex<Rates>>,
}

/// Recipients that the story of a refusal names.
const REFUSAL_RECIPIENTS_MAX: usize = 20;
/// How long the place of a refusal stays taken after it was kept.
const REFUSAL_REST: Duration = Duration::from_secs(1);

/// Most routes that the recipients of one message may have together: the product of recipients and targets of an alias
/// is no bound to live with.
pub const ROUTES_PER_TRANSACTION_MAX: usize = 10_000;

/// Answers one session.
pub struct Desk {
    house: Arc<House>,
    /// Routes and effects of the recipients taken so far, one entry a recipient of the envelope.
    taken: Vec<policy::Taken>,
    intake: Option<Intake>,
    /// The client's address and port, or `unix`.
    peer: OnceLock<String>,
}

impl Desk {
    /// A desk for a new session.
    pub fn new(house: Arc<House>) -> Desk {
        Desk { house, taken: Vec::new(), intake: None, peer: OnceLock::new() }
    }

    /// The client as logs name it; it does not change while a session lasts.
    fn peer(&self, client: &Client) -> &str {
        self.peer.get_or_init(|| client.peer.peer.map_or("unix".to_owned(), |peer| peer.to_string()))
    }

    /// What a story begins with.
    fn arrival(&self, client: &Client, envelope: &Envelope) -> Arrival {
        Arrival {
            listener: self.house.listener.clone(),
            peer: client.peer.peer.map(|_| self.peer(client).to_owned()),
            helo: client.greeting.as_ref().map(|(_, name)| name.clone()),
            tls: client.tls.as_ref().map(|tls| format!("{} {}", tls.version, tls.cipher)),
            account: client.account.as_ref().map(ToString::to_string),
            from: envelope.reverse_path.to_string(),
            to: envelope.recipients.iter().map(|recipient| recipient.address.to_string()).collect(),
            message_id: None,
            octets: 0,
        }
    }

    fn policy_client(&self, client: &Client) -> policy::Client {
        let address = client.peer.peer.map(|peer| peer.ip());
        policy::Client {
            address,
            trusted: address.is_some_and(|address| self.house.trusted.contain(address)),
            authentication_offered: self.house.authentication_offered,
            account: client.account.clone(),
        }
    }

    fn connect(&self, client: &Client) -> Result<(), Reply> {
        tracing::info!(listener = %self.house.listener, peer = %self.peer(client), "connect");
        Ok(())
    }

    async fn authenticate(&self, client: &Client, credentials: sasl::Credentials) -> Answer {
        Answer::Authenticated(self.house.login.authenticate(&self.house.listener, &client.peer, credentials).await)
    }

    fn mail(&mut self, client: &Client, envelope: &Envelope) -> Result<(), Reply> {
        self.taken.clear();
        let octets = envelope.declared_size_octets.unwrap_or(0).max(self.house.message_octets_max / 8);
        if self.house.store.has_room(octets) {
            return Ok(());
        }
        let refusal = Decider::Store.refuses(reply::insufficient_storage());
        self.tell_of_refusal(client, envelope, None, &refusal);
        Err(refusal.reply)
    }

    async fn recipient(&mut self, client: &Client, envelope: &Envelope, recipient: &Recipient) -> Result<(), Reply> {
        let meant = self.meant(recipient);
        let recipient = meant.as_ref().unwrap_or(recipient);
        let verdict = match (self.returned(envelope, recipient), client.role) {
            (Some(verdict), _) => verdict,
            (None, Role::Lmtp) => self.lmtp_recipient(recipient),
            (None, Role::Mx | Role::Submission) => {
                let facts = self.policy_client(client);
                let question = policy::Question { client: &facts, envelope, recipient };
                self.house.policy.recipient(question).await.map_err(Refusal::from)
            }
        };
        let routes: usize = self.taken.iter().map(|taken| taken.routes.len()).sum();
        let has_room = |taken: &policy::Taken| routes + taken.routes.len() <= ROUTES_PER_TRANSACTION_MAX;
        let too_many = || Decider::Limit("routes of a message").refuses(reply::too_many_recipients());
        match verdict.and_then(|taken| if has_room(&taken) { Ok(taken) } else { Err(too_many()) }) {
            Ok(taken) => {
                self.taken.push(taken);
                Ok(())
            }
            Err(refusal) => {
                tracing::info!(
                    listener = %self.house.listener, peer = %self.peer(client), from = %envelope.reverse_path,
                    to = %recipient.address, by = %refusal.by, reply = %refusal.reply, "recipient refused"
                );
                self.house.fates.count(&self.house.listener, Fate::Refused);
                self.tell_of_refusal(client, envelope, Some(&recipient.address), &refusal);
                Err(refusal.reply)
            }
        }
    }

    /// A message that ended in the middle of its text, or was too large. The first is the client's affair, which comes
    /// again, and told of in the log alone; the second was refused.
    fn tell_of_abandoned(&self, client: &Client, envelope: &Envelope, cause: Abandoned) {
        match cause {
            Abandoned::ByClient => {
                let recipients = envelope.recipients.len();
                tracing::info!(
                    listener = %self.house.listener, peer = %self.peer(client), from = %envelope.reverse_path,
                    recipients, "message given up by its client"
                );
            }
            Abandoned::Refused(reply) => {
                let refusal = Decider::Limit("octets of a message").refuses(reply);
                for recipient in &envelope.recipients {
                    self.house.fates.count(&self.house.listener, Fate::Refused);
                    tracing::info!(
                        listener = %self.house.listener, peer = %self.peer(client), from = %envelope.reverse_path,
                        to = %recipient.address, by = %refusal.by, reply = %refusal.reply, "message refused"
                    );
                }
                self.tell_of_refusal(client, envelope, None, &refusal);
            }
        }
    }

    /// RFC 5321 §4.5.1: `postmaster` needs no domain. The machine gives it our host's, which is seldom one that we host;
    /// then the postmaster of the first hosted domain is meant (R109).
    fn meant(&self, recipient: &Recipient) -> Option<Recipient> {
        let Address { local, domain } = &recipient.address;
        let is_our_postmaster = local.as_str().eq_ignore_ascii_case("postmaster")
            && domain.as_str().eq_ignore_ascii_case(&self.house.host_name);
        if !is_our_postmaster || self.house.directory.class_of(domain) != DomainClass::Other {
            return None;
        }
        let address = self.house.directory.postmaster()?;
        Some(Recipient { address, ..recipient.clone() })
    }

    /// A report that comes back to a reverse-path of our making goes on to whom it stands for. `None`: no such thing.
    fn returned(&self, envelope: &Envelope, recipient: &Recipient) -> Option<Result<policy::Taken, Refusal>> {
        let srs = self.house.srs.as_ref().filter(|srs| srs.claims(&recipient.address))?;
        let today = Day::of(u64::try_from(now().unix_seconds).unwrap_or(0));
        // Only reports go back; anything else would make the rewritten address a way to relay.
        let original = match (&envelope.reverse_path, srs.reverse(&recipient.address, today)) {
            (ReversePath::Null, Ok(original)) => original,
            (ReversePath::Address(_), Ok(_)) => {
                return Some(Err(Decider::Srs.refuses(reply::srs_for_reports_only(&recipient.address))));
            }
            (_, Err(error)) => return Some(Err(Decider::Srs.refuses(reply::srs_refused(&recipient.address, &error)))),
        };
        let routes = self.house.policy.way(&original).map_err(|reply| Decider::Srs.refuses(reply));
        Some(routes.map(|routes| policy::Taken { routes, effects: Vec::new() }))
    }

    /// How much the account sent of late, this message included.
    fn within_rate(&self, client: &Client, envelope: &Envelope) -> Result<(), Refusal> {
        let (Some(rates), Some(account)) = (&self.house.rates, &client.account) else { return Ok(()) };
        let recipients = envelope.recipients.len() as u32;
        let mut used = rates.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.check_and_count(account, recipients, &rates.limits, deliver::now()).map_err(|exceeded| {
            tracing::warn!(%account, limit = %exceeded.name, "too many submissions");
            Decider::Rate(exceeded.name).refuses(reply::rate_exceeded(account, &exceeded))
        })
    }

    /// Keeps what was refused, so that `why` can tell of it. Never waits, and a store in trouble loses it: a refusal is
    /// history, not a promise.
    fn tell_of_refusal(&self, client: &Client, envelope: &Envelope, recipient: Option<&Address>, refusal: &Refusal) {
        let mut arrival = self.arrival(client, envelope);
        if let Some(recipient) = recipient {
            arrival.to = vec![recipient.to_string()];
        }
        let recipients = arrival.to.len();
        if recipients > REFUSAL_RECIPIENTS_MAX {
            arrival.to.truncate(REFUSAL_RECIPIENTS_MAX);
            arrival.to.push(format!("and {} more", recipients - REFUSAL_RECIPIENTS_MAX));
        }
        if !self.house.store.has_room(0) {
            return;
        }
        let what = Happening::Refused { arrival, by: refusal.by.to_string(), reply: refusal.reply.to_string() };
        let event = Event { at: deliver::now(), recipient: recipient.map(Address::to_string), what };
        let message = self.house.queue_ids.next();
        let Ok(permit) = self.house.refusals.clone().try_acquire_owned() else { return };
        let store = self.house.store.clone();
        tokio::spawn(async move {
            let queue = vec![QueueChange::Tell { message, event }];
            if let Err(error) = store.commit(Commit { queue, ..Commit::default() }).await {
                tracing::debug!(%error, "a refusal was not kept");
            }
            // So many a second are kept and no more: nobody fills the disk by being refused.
            tokio::time::sleep(REFUSAL_REST).await;
            drop(permit);
        });
    }

    /// R63: no checks but that the mailbox exists. RFC 2033 is for final delivery: what we would only pass on does not
    /// exist here; an alias of ours may lead out of the house all the same.
    fn lmtp_recipient(&self, recipient: &Recipient) -> Result<policy::Taken, Refusal> {
        let address = &recipient.address;
        let is_ours = self.house.directory.class_of(&address.domain) == DomainClass::Hosted;
        match self.house.policy.route(address) {
            Ok(routes) if is_ours || routes.iter().all(|route| matches!(route, Route::Mailbox(_))) => {
                Ok(policy::Taken { routes, effects: Vec::new() })
            }
            Err(reply) if is_ours && !reply.is_permanent() => Err(Decider::Lmtp.refuses(reply)),
            Ok(_) | Err(_) => Err(Decider::Lmtp.refuses(reply::lmtp_unknown_user(address))),
        }
    }

    /// R96, with the exception of R109 for the postmaster.
    fn verify(&self, recipient: &Recipient) -> Reply {
        let meant = self.meant(recipient);
        let verdict = self.house.policy.verify(&meant.as_ref().unwrap_or(recipient).address);
        // The client hears of the address that it asked about.
        if verdict.is_positive() { reply::verified(&recipient.address) } else { verdict }
    }

    /// R97: only for domains that we are backup for.
    fn etrn(&self, domain: &mail::Domain) -> Reply {
        let is_relayed = self.house.directory.class_of(domain) == DomainClass::Relay;
        if is_relayed && self.house.queue.flush(domain) {
            reply::etrn_started()
        } else {
            reply::etrn_unavailable(domain)
        }
    }

    fn begin_body(&mut self, client: &Client, envelope: &Envelope) -> Result<(), Reply> {
        if let Err(refusal) = self.within_rate(client, envelope) {
            self.tell_of_refusal(client, envelope, None, &refusal);
            return Err(refusal.reply);
        }
        self.intake = Some(self.intake_for(client).map_err(|error| reply::to_store_error(&error))?);
        Ok(())
    }

    /// R152: only what is submitted goes by the rules for submitted mail. What our accounts and trusted clients send is
    /// signed (R164).
    fn intake_for(&self, client: &Client) -> Result<Intake, store::StoreError> {
        let store = &*self.house.store;
        let mut intake = match &self.house.submission {
            Some(rules) if client.role == Role::Submission => Intake::from_submitter(store, &rules.stages)?,
            _ => Intake::from_peer(store)?,
        };
        if let Some(signer) = self.house.signer.as_ref().filter(|_| self.sends_for_us(client)) {
            intake = intake.signed_by(signer.clone());
        }
        if self.house.archive.is_some() {
            intake = intake.with_twin(store)?;
        }
        Ok(intake)
    }

    fn sends_for_us(&self, client: &Client) -> bool {
        client.role != Role::Lmtp && (client.account.is_some() || self.policy_client(client).trusted)
    }
}

impl net::Desk for Desk {
    type Question = Question;
    type Answer = Answer;

    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Connect { client } => Answer::Verdict(self.connect(&client)),
            Question::Authenticate { client, credentials } => self.authenticate(&client, credentials).await,
            Question::Mail { client, envelope } => Answer::Verdict(self.mail(&client, &envelope)),
            Question::Recipient { client, envelope, recipient } => {
                Answer::Verdict(self.recipient(&client, &envelope, &recipient).await)
            }
            Question::Verify { recipient, .. } => Answer::Reply(self.verify(&recipient)),
            Question::Etrn { domain, .. } => Answer::Reply(self.etrn(&domain)),
            Question::BeginBody { client, envelope } => Answer::Verdict(self.begin_body(&client, &envelope)),
            Question::EndOfMessage { client, envelope } => {
                let begun = std::time::Instant::now();
                let replies = self.end_of_message(&client, &envelope).await;
                metrics::histogram!("smtp_end_of_message_seconds").record(begun.elapsed().as_secs_f64());
                Answer::Replies(replies)
            }
            Question::Abandon { client, envelope, cause } => {
                self.intake = None;
                self.taken.clear();
                self.tell_of_abandoned(&client, &envelope, cause);
                Answer::Done
            }
        }
    }

    async fn body(&mut self, octets: Vec<u8>) {
        if let Some(intake) = &mut self.intake {
            intake.write(&octets);
        }
    }

    async fn notice(&mut self) {
        std::future::pending().await
    }
}

/// The present, shown in UTC.
fn now() -> InternalDate {
    deliver::now().into()
}

#[cfg(test)]
mod tests;
