//! Receives mail: the async side of SMTP, submission and LMTP.
//!
//! The session machine asks; a [`Desk`] answers. The path of a message through this file: `begin_body` opens an intake,
//! `body` carries octets into it, `end_of_message` judges, stages and commits, and only then is there a 250.

mod queue_id;
mod reply;

pub use queue_id::QueueIds;

use deliver::Intake;
use directory::{Directory, DomainClass, Route};
use login::Login;
use mail::{AccountName, Address, ChangeError, Envelope, InternalDate, QueueId, Recipient, Reply};
use message::trace::{self, ReceivedFacts, Transmission};
use policy::{Effect, Policy};
use smtp_proto::question::{Answer, Client, Greeting, Question, Role};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::MailStore;

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
    /// Whether the listener offers authentication.
    pub authentication_offered: bool,
    /// More Received fields than this mean a loop (R101).
    pub hops_max: u32,
    /// Largest message, for the question whether there is room (R46).
    pub message_octets_max: u64,
    /// The listener's name, for logs.
    pub listener: String,
}

/// Most routes that the recipients of one message may have together: the product of recipients and targets of an alias
/// is no bound to live with.
pub const ROUTES_PER_TRANSACTION_MAX: usize = 10_000;

/// Answers one session.
pub struct Desk {
    house: Arc<House>,
    /// Routes and effects of the recipients taken so far, one entry a recipient of the envelope.
    taken: Vec<policy::Taken>,
    intake: Option<Intake>,
}

impl Desk {
    /// A desk for a new session.
    pub fn new(house: Arc<House>) -> Desk {
        Desk { house, taken: Vec::new(), intake: None }
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
        tracing::info!(listener = %self.house.listener, peer = %peer_text(client), "connect");
        Ok(())
    }

    async fn authenticate(&self, client: &Client, credentials: sasl::Credentials) -> Answer {
        Answer::Authenticated(self.house.login.authenticate(&self.house.listener, &client.peer, credentials).await)
    }

    fn mail(&mut self, envelope: &Envelope) -> Result<(), Reply> {
        self.taken.clear();
        let octets = envelope.declared_size_octets.unwrap_or(0).max(self.house.message_octets_max / 8);
        if self.house.store.has_room(octets) { Ok(()) } else { Err(reply::insufficient_storage()) }
    }

    async fn recipient(&mut self, client: &Client, envelope: &Envelope, recipient: &Recipient) -> Result<(), Reply> {
        let meant = self.meant(recipient);
        let recipient = meant.as_ref().unwrap_or(recipient);
        let verdict = match client.role {
            Role::Lmtp => self.lmtp_recipient(recipient),
            Role::Mx | Role::Submission => {
                let client = self.policy_client(client);
                self.house.policy.recipient(policy::Question { client: &client, envelope, recipient }).await
            }
        };
        let routes: usize = self.taken.iter().map(|taken| taken.routes.len()).sum();
        let has_room = |taken: &policy::Taken| routes + taken.routes.len() <= ROUTES_PER_TRANSACTION_MAX;
        match verdict.and_then(|taken| if has_room(&taken) { Ok(taken) } else { Err(reply::too_many_recipients()) }) {
            Ok(taken) => {
                self.taken.push(taken);
                Ok(())
            }
            Err(reply) => {
                tracing::info!(
                    listener = %self.house.listener, peer = %peer_text(client), from = %envelope.reverse_path,
                    to = %recipient.address, reply = %reply, "recipient refused"
                );
                metrics::counter!("smtp_recipients_total", "listener" => self.house.listener.clone(), "outcome" => "refused")
                    .increment(1);
                Err(reply)
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

    /// R63: no checks but that the mailbox exists. RFC 2033 is for final delivery: what we would only pass on does not
    /// exist here, but an alias of ours that leads out of the house is our own lack, and temporary.
    fn lmtp_recipient(&self, recipient: &Recipient) -> Result<policy::Taken, Reply> {
        let address = &recipient.address;
        let is_ours = self.house.directory.class_of(&address.domain) == DomainClass::Hosted;
        match self.house.policy.route(address) {
            Ok(routes) if routes.iter().all(|route| matches!(route, Route::Mailbox(_))) => {
                Ok(policy::Taken { routes, effects: Vec::new() })
            }
            Ok(_) if is_ours => Err(policy::cannot_send_yet(address)),
            Err(refusal) if is_ours && !refusal.is_permanent() => Err(refusal),
            Ok(_) | Err(_) => Err(reply::lmtp_unknown_user(address)),
        }
    }

    /// R96, with the exception of R109 for the postmaster.
    fn verify(&self, recipient: &Recipient) -> Reply {
        let meant = self.meant(recipient);
        let verdict = self.house.policy.verify(&meant.as_ref().unwrap_or(recipient).address);
        // The client hears of the address that it asked about.
        if verdict.is_positive() { reply::verified(&recipient.address) } else { verdict }
    }

    fn begin_body(&mut self) -> Result<(), Reply> {
        match Intake::from_peer(&*self.house.store) {
            Ok(intake) => {
                self.intake = Some(intake);
                Ok(())
            }
            Err(error) => Err(reply::to_store_error(&error)),
        }
    }

    /// Judges, stages and commits. One reply in SMTP, one for each recipient in LMTP.
    async fn end_of_message(&mut self, client: &Client, envelope: &Envelope) -> Vec<Reply> {
        let taken = std::mem::take(&mut self.taken);
        let count = if client.role == Role::Lmtp { envelope.recipients.len() } else { 1 };
        let id = self.house.queue_ids.next();
        let message = Message { id, client, envelope, taken: &taken };
        let hops = self.intake.as_mut().map(|intake| intake.complete().received).unwrap_or_default();
        let replies = match (self.intake.take(), client.role) {
            (None, _) => vec![reply::local_error(); count],
            (Some(_), _) if hops > self.house.hops_max => vec![reply::too_many_hops(); count],
            (Some(intake), Role::Lmtp) => self.deliver_each(message, intake).await,
            (Some(intake), Role::Mx | Role::Submission) => vec![self.deliver_all(message, intake).await],
        };
        self.log_outcome(message, &replies);
        replies
    }

    /// SMTP: one reply speaks for all recipients, so the commit is all or nothing.
    async fn deliver_all(&self, message: Message<'_>, intake: Intake) -> Reply {
        if let Some(rule) = message.discarded_by() {
            tracing::info!(queue_id = %message.id, rule, "discarded");
            return reply::queued(message.id);
        }
        let effects = message.effects();
        let routes = match self.routes(&message, &effects) {
            Ok(routes) => routes,
            Err(reply) => return reply,
        };
        let prefix = self.trace_fields(&message, &effects, &routes);
        let staged = match intake.finish(prefix.as_bytes()) {
            Ok(staged) => staged,
            Err(error) => return self.store_failed(message.id, &error),
        };
        let commit = deliver::commit(&routes, staged.id, now(), &self.house.directory, true);
        let accounts: Vec<AccountName> = commit.groups.iter().map(|group| group.account.clone()).collect();
        let outcomes = match self.house.store.commit(commit).await {
            Ok(outcomes) => outcomes,
            Err(error) => return self.store_failed(message.id, &error),
        };
        let refusals: Vec<(&AccountName, ChangeError)> =
            accounts.iter().zip(outcomes).filter_map(|(account, outcome)| Some((account, outcome.err()?))).collect();
        // The others were only not applied.
        let cause = refusals.iter().find(|(_, error)| *error != ChangeError::NotApplied).or(refusals.first());
        match cause {
            None => reply::queued(message.id),
            Some((account, error)) => self.refused_by_account(&message, account, error).await,
        }
    }

    /// A mailbox that filled up since its RCPT makes a temporary refusal, so that the next attempt's RCPT gives the
    /// refusal to the one recipient it concerns. Where that RCPT would be taken again, because the message is larger than
    /// its client declares, no attempt would ever end: the refusal is for good, and names the recipient.
    async fn refused_by_account(&self, message: &Message<'_>, account: &AccountName, error: &ChangeError) -> Reply {
        let route = Route::Mailbox(account.clone());
        let concerned = message.envelope.recipients.iter().zip(message.taken);
        let concerned =
            concerned.filter(|(_, taken)| taken.routes.contains(&route)).map(|(recipient, _)| recipient).next();
        if let (ChangeError::OverQuota, Some(recipient)) = (error, concerned)
            && self.house.policy.has_room(account, message.envelope).await == Some(true)
        {
            return reply::quota_exceeded(&recipient.address);
        }
        reply::to_change_error(error)
    }

    /// LMTP: each recipient has its own reply; the body is stored once all the same.
    async fn deliver_each(&self, message: Message<'_>, intake: Intake) -> Vec<Reply> {
        let count = message.taken.len();
        let all: Vec<Route> = message.taken.iter().flat_map(|taken| taken.routes.iter().cloned()).collect();
        let prefix = self.trace_fields(&message, &[], &all);
        let staged = match intake.finish(prefix.as_bytes()) {
            Ok(staged) => staged,
            Err(error) => return vec![self.store_failed(message.id, &error); count],
        };
        let commit = deliver::commit(&all, staged.id, now(), &self.house.directory, false);
        let accounts: Vec<_> = commit.groups.iter().map(|group| group.account.clone()).collect();
        let outcomes = match self.house.store.commit(commit).await {
            Ok(outcomes) => outcomes,
            Err(error) => return vec![self.store_failed(message.id, &error); count],
        };
        let failure_of = |route: &Route| match route {
            Route::Mailbox(account) => {
                let place = accounts.iter().position(|known| known == account)?;
                outcomes.get(place)?.as_ref().err()
            }
            Route::Relay(_) | Route::Outside(_) => None,
        };
        let recipients = message.envelope.recipients.iter().zip(message.taken);
        recipients
            .map(|(recipient, taken)| match taken.routes.iter().find_map(failure_of) {
                Some(error) => reply::lmtp_change_error(&recipient.address, error),
                None => reply::lmtp_saved(&recipient.address, message.id),
            })
            .collect()
    }

    /// The routes of all recipients, with the effects of access tables applied.
    fn routes(&self, message: &Message<'_>, effects: &[&Effect]) -> Result<Vec<Route>, Reply> {
        let redirect = effects.iter().find_map(|e| if let Effect::Redirect(to) = e { Some(to) } else { None });
        if let Some(address) = redirect {
            tracing::info!(queue_id = %message.id, to = %address, "redirected");
        }
        let mut routes = match redirect {
            Some(address) => self.house.policy.route(address).map_err(|_| reply::configuration_problem())?,
            None => message.taken.iter().flat_map(|taken| taken.routes.iter().cloned()).collect(),
        };
        for effect in effects {
            if let Effect::Copy(address) = effect {
                routes.extend(self.house.policy.route(address).map_err(|_| reply::configuration_problem())?);
            }
        }
        if routes.iter().any(|route| matches!(route, Route::Relay(_) | Route::Outside(_))) {
            return Err(reply::configuration_problem());
        }
        Ok(routes)
    }

    /// Return-Path, Delivered-To, added fields and our Received line, on top (R64, R105).
    fn trace_fields(&self, message: &Message<'_>, effects: &[&Effect], routes: &[Route]) -> String {
        let envelope = message.envelope;
        let mut prefix = trace::return_path(&envelope.reverse_path);
        if let [account] = deliver::accounts(routes)[..]
            && let Ok(address) = Address::parse(account.as_str())
        {
            prefix.push_str(&trace::delivered_to(&address));
        }
        // One field, however many recipients it was found for.
        let mut added: Vec<&str> = Vec::new();
        for effect in effects {
            if let Effect::Prepend(field) = effect
                && !added.contains(&field.as_str())
            {
                prefix.push_str(&format!("{field}\r\n"));
                added.push(field);
            }
        }
        let (transmission, helo) = transmission(message.client);
        prefix.push_str(&trace::received(&ReceivedFacts {
            helo,
            reverse_name: None,
            address: message.client.peer.peer.map(|peer| peer.ip()),
            transmission,
            tls: message.client.tls.as_ref(),
            shows_tls: true,
            is_authenticated: message.client.account.is_some(),
            is_smtputf8: envelope.smtputf8,
            host: &self.house.host_name,
            queue_id: message.id,
            recipient: match &envelope.recipients[..] {
                [only] => Some(&only.address),
                _ => None,
            },
            date: now(),
        }));
        prefix
    }

    fn store_failed(&self, id: QueueId, error: &store::StoreError) -> Reply {
        tracing::error!(queue_id = %id, %error, "the store cannot take a message");
        reply::to_store_error(error)
    }

    fn log_outcome(&self, message: Message<'_>, replies: &[Reply]) {
        let last = replies.len().saturating_sub(1);
        for (index, recipient) in message.envelope.recipients.iter().enumerate() {
            let Some(reply) = replies.get(index.min(last)) else { continue };
            let outcome = match reply.code {
                ..400 if message.discarded_by().is_some() => "discarded",
                ..400 => "delivered",
                400..500 => "deferred",
                _ => "refused",
            };
            metrics::counter!("smtp_recipients_total", "listener" => self.house.listener.clone(), "outcome" => outcome)
                .increment(1);
            tracing::info!(
                queue_id = %message.id, listener = %self.house.listener, peer = %peer_text(message.client),
                from = %message.envelope.reverse_path, to = %recipient.address,
                account = message.client.account.as_ref().map(tracing::field::display), outcome, reply = %reply, "delivery"
            );
        }
    }
}

/// An accepted message with all that is known of it.
#[derive(Clone, Copy)]
struct Message<'a> {
    id: QueueId,
    client: &'a Client,
    envelope: &'a Envelope,
    taken: &'a [policy::Taken],
}

impl<'a> Message<'a> {
    /// What access tables want done with it, in the order of the recipients.
    fn effects(&self) -> Vec<&'a Effect> {
        self.taken.iter().flat_map(|taken| &taken.effects).collect()
    }

    /// The rule that throws it away, for all of its recipients (R113).
    fn discarded_by(&self) -> Option<&'a str> {
        self.taken.iter().flat_map(|taken| &taken.effects).find_map(|effect| match effect {
            Effect::Discard(rule) => Some(rule.as_str()),
            Effect::Redirect(_) | Effect::Copy(_) | Effect::Prepend(_) => None,
        })
    }
}

impl net::Desk for Desk {
    type Question = Question;
    type Answer = Answer;

    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Connect { client } => Answer::Verdict(self.connect(&client)),
            Question::Authenticate { client, credentials } => self.authenticate(&client, credentials).await,
            Question::Mail { envelope, .. } => Answer::Verdict(self.mail(&envelope)),
            Question::Recipient { client, envelope, recipient } => {
                Answer::Verdict(self.recipient(&client, &envelope, &recipient).await)
            }
            Question::Verify { recipient, .. } => Answer::Reply(self.verify(&recipient)),
            Question::Etrn { domain, .. } => Answer::Reply(reply::etrn_unavailable(&domain)),
            Question::BeginBody { .. } => Answer::Verdict(self.begin_body()),
            Question::EndOfMessage { client, envelope } => {
                let begun = std::time::Instant::now();
                let replies = self.end_of_message(&client, &envelope).await;
                metrics::histogram!("smtp_end_of_message_seconds").record(begun.elapsed().as_secs_f64());
                Answer::Replies(replies)
            }
            Question::Abandon => {
                self.intake = None;
                self.taken.clear();
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

/// How the message came, and the name that the client gave.
fn transmission(client: &Client) -> (Transmission, &str) {
    match &client.greeting {
        Some((Greeting::Helo, name)) => (Transmission::Smtp, name),
        Some((Greeting::Ehlo, name)) => (Transmission::Esmtp, name),
        Some((Greeting::Lhlo, name)) => (Transmission::Lmtp, name),
        None => (Transmission::Smtp, "unknown"),
    }
}

fn peer_text(client: &Client) -> String {
    client.peer.peer.map_or("unix".to_owned(), |peer| peer.to_string())
}

/// The present, shown in UTC.
fn now() -> InternalDate {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    InternalDate { unix_seconds: since.as_secs() as i64, zone_minutes: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use directory::Settings;
    use mail::{Change, Commit, FlagSet, Group, MailboxName, MailboxRef, PeerFacts, Quota, ReversePath, TlsFacts};
    use net::Desk as _;
    use policy::CheckName;
    use store::BodyRange;
    use store::embedded::{EmbeddedStore, Options};

    const BRIAN: &str = "brian@example.net";
    const NOT_BRIAN: &str = "notbrian@example.net";
    const RECIPIENT_ACCESS: &str = "gone@example.net DISCARD spam trap\nmoved@example.net REDIRECT notbrian@example.net\n\
                                    lost@example.net REDIRECT x@elsewhere.example\n\
                                    watched@example.net BCC notbrian@example.net\n\
                                    tagged@example.net PREPEND X-Tag: seen\nmarked@example.net PREPEND X-Tag: seen\n";
    const ALIASES: &str = "info@example.net brian@example.net,notbrian@example.net\n\
                           both@example.net brian@example.net,full@example.net\n\
                           away@example.net x@elsewhere.example\npostmaster@example.net brian@example.net\n\
                           gone@example.net brian@example.net\nmoved@example.net brian@example.net\n\
                           lost@example.net brian@example.net\nwatched@example.net brian@example.net\n\
                           tagged@example.net brian@example.net\nmarked@example.net brian@example.net\n";

    /// A house, and one session at its desk.
    struct World {
        _folder: tempfile::TempDir,
        store: Arc<EmbeddedStore>,
        desk: Desk,
        client: Arc<Client>,
        envelope: Arc<Envelope>,
    }

    async fn world(role: Role) -> World {
        let folder = tempfile::tempdir().unwrap();
        let accounts = format!(
            "{BRIAN}:{{PLAIN}}b::::::\n{NOT_BRIAN}:{{PLAIN}}n::::::\n\
             full@example.net:{{PLAIN}}f::::::userdb_quota_rule=*:bytes=5\n\
             tight@example.net:{{PLAIN}}t::::::userdb_quota_rule=*:bytes=1000\n"
        );
        for (name, text) in [
            ("accounts", accounts.as_str()),
            ("domains", "example.net\n"),
            ("relay_domains", "example.com\n"),
            ("senders", "brian@example.net brian@example.net\n"),
            ("aliases", ALIASES),
            ("recipient_access", RECIPIENT_ACCESS),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let directory = Arc::new(Directory::open(Settings::in_folder(folder.path())).unwrap());
        let options = Options { sync: false, ..Options::new(folder.path().join("mail")) };
        let store = Arc::new(EmbeddedStore::open(options).unwrap());
        fill(&store, "full@example.net", 10).await;
        let house = House {
            host_name: "mx.example.net".into(),
            store: store.clone(),
            directory: directory.clone(),
            policy: Policy::new(directory.clone(), store.clone(), CheckName::GUIDE.to_vec()),
            trusted: net::Networks::default(),
            login: Arc::new(Login::new(directory, net::HashPool::new(1, 8), Duration::ZERO)),
            queue_ids: Arc::default(),
            authentication_offered: role == Role::Submission,
            hops_max: 3,
            message_octets_max: 100_000,
            listener: "test".into(),
        };
        let greeting = if role == Role::Lmtp { Greeting::Lhlo } else { Greeting::Ehlo };
        let peer = PeerFacts { peer: Some("192.0.2.1:40000".parse().unwrap()), local: None, tls: None };
        let client =
            Client { peer, role, greeting: Some((greeting, "client.example".into())), tls: None, account: None };
        World {
            _folder: folder,
            store,
            desk: Desk::new(Arc::new(house)),
            client: Arc::new(client),
            envelope: Arc::new(Envelope::new(ReversePath::Null)),
        }
    }

    async fn fill(store: &EmbeddedStore, account: &str, octets: usize) {
        let mut writer = store.stage().unwrap();
        writer.write(&vec![b'x'; octets]).unwrap();
        let body = writer.finish(b"", Vec::new()).unwrap();
        let mailbox = MailboxRef::Named(MailboxName::inbox());
        let change = Change::Append { mailbox, body: body.id, flags: FlagSet::default(), internal_date: now() };
        let account = AccountName::parse(account).unwrap();
        let group = Group { account, changes: vec![change], quota: Quota::default() };
        assert!(store.commit(Commit { groups: vec![group], together: true, ..Commit::default() }).await.unwrap()[0].is_ok());
    }

    impl World {
        /// As a session does: MAIL, and those RCPT that are taken join the envelope. Gives their refusals.
        async fn open(&mut self, reverse_path: &str, recipients: &[&str]) -> Vec<String> {
            let path = Address::parse(reverse_path).map_or(ReversePath::Null, ReversePath::Address);
            let declared = self.envelope.declared_size_octets;
            self.envelope = Arc::new(Envelope { declared_size_octets: declared, ..Envelope::new(path) });
            let (client, envelope) = (self.client.clone(), self.envelope.clone());
            assert_eq!(self.desk.answer(Question::Mail { client, envelope }).await, Answer::Verdict(Ok(())));
            let mut refusals = Vec::new();
            for text in recipients {
                let recipient = Recipient::new(Address::parse(text).unwrap());
                let (client, envelope) = (self.client.clone(), self.envelope.clone());
                let question = Question::Recipient { client, envelope, recipient: recipient.clone() };
                match self.desk.answer(question).await {
                    Answer::Verdict(Ok(())) => Arc::make_mut(&mut self.envelope).recipients.push(recipient),
                    Answer::Verdict(Err(reply)) => refusals.push(reply.to_string()),
                    other => panic!("{other:?}"),
                }
            }
            refusals
        }

        async fn text(&mut self, text: &str) -> Vec<String> {
            let (client, envelope) = (self.client.clone(), self.envelope.clone());
            let begun =
                self.desk.answer(Question::BeginBody { client: client.clone(), envelope: envelope.clone() }).await;
            assert_eq!(begun, Answer::Verdict(Ok(())));
            for piece in text.as_bytes().chunks(7) {
                self.desk.body(piece.to_vec()).await;
            }
            match self.desk.answer(Question::EndOfMessage { client, envelope }).await {
                Answer::Replies(replies) => replies.iter().map(Reply::to_string).collect(),
                other => panic!("{other:?}"),
            }
        }

        async fn send(&mut self, recipients: &[&str], text: &str) -> Vec<String> {
            assert_eq!(self.open("you@example.org", recipients).await, [""; 0]);
            self.text(text).await
        }

        /// What lies in an INBOX, oldest first.
        async fn inbox(&self, account: &str) -> Vec<String> {
            let account = AccountName::parse(account).unwrap();
            let mailboxes = self.store.mailboxes(&account).await.unwrap();
            let inbox = mailboxes.iter().find(|info| info.name.is_inbox()).unwrap().id.unwrap();
            let snapshot = self.store.snapshot(&account, inbox).await.unwrap();
            let ranges = snapshot.iter().map(|message| BodyRange { blob: message.blob, start: 0, octets: u64::MAX });
            let bodies = self.store.read(ranges.collect()).await.unwrap();
            bodies.into_iter().map(|body| String::from_utf8(body.unwrap().to_vec()).unwrap()).collect()
        }
    }

    /// R64, R105, R24: Return-Path, Delivered-To and Received on top; older Return-Path fields are gone.
    #[tokio::test]
    async fn r64_r105_trace_fields_are_on_top() {
        let mut world = world(Role::Mx).await;
        let replies = world.send(&[BRIAN], "Return-Path: <forged@example.org>\r\nSubject: s\r\n\r\nb\r\n").await;
        let id = replies[0].strip_prefix("250 2.0.0 Ok: queued as ").unwrap().to_owned();
        let inbox = world.inbox(BRIAN).await;
        let expected = format!(
            "Return-Path: <you@example.org>\r\nDelivered-To: {BRIAN}\r\n\
             Received: from client.example (unknown [192.0.2.1])\r\n\tby mx.example.net with ESMTP id {id}\r\n\tfor <{BRIAN}>; "
        );
        assert!(inbox[0].starts_with(&expected), "{}", inbox[0]);
        assert!(inbox[0].ends_with("\r\nSubject: s\r\n\r\nb\r\n") && !inbox[0].contains("forged"), "{}", inbox[0]);

        let tls =
            TlsFacts { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384".into(), bits: 256, server_name: None };
        world.client = Arc::new(Client {
            tls: Some(tls),
            role: Role::Submission,
            account: AccountName::parse(BRIAN),
            ..Client::clone(&world.client)
        });
        world.open(BRIAN, &[BRIAN, NOT_BRIAN]).await;
        assert!(world.text("Subject: t\r\n\r\nb\r\n").await[0].starts_with("250 "));
        let inbox = world.inbox(NOT_BRIAN).await;
        assert!(inbox[0].starts_with("Return-Path: <brian@example.net>\r\nReceived: "), "{}", inbox[0]);
        assert!(inbox[0].contains(" with ESMTPSA id ") && inbox[0].contains("(using TLSv1.3 with cipher "));
        assert!(!inbox[0].contains("\tfor <"), "R105: one recipient is not told of the others");
    }

    #[tokio::test]
    async fn r102_a_missing_empty_line_is_put_in() {
        let mut world = world(Role::Mx).await;
        world.send(&[BRIAN], "Subject: Virus Free\r\nNo Viruses here!\r\n").await;
        let inbox = world.inbox(BRIAN).await;
        assert!(inbox[0].ends_with("\r\nSubject: Virus Free\r\n\r\nNo Viruses here!\r\n"), "{}", inbox[0]);
    }

    #[tokio::test]
    async fn r101_too_many_hops_are_refused() {
        let hops = |count: usize| "Received: from a by b; now\r\n".repeat(count) + "\r\nb\r\n";
        let mut mx = world(Role::Mx).await;
        assert!(mx.send(&[BRIAN], &hops(3)).await[0].starts_with("250 "));
        assert_eq!(mx.send(&[BRIAN, NOT_BRIAN], &hops(4)).await, ["554 5.4.0 Error: too many hops"]);
        let mut lmtp = world(Role::Lmtp).await;
        assert_eq!(lmtp.send(&[BRIAN, NOT_BRIAN], &hops(4)).await, ["554 5.4.0 Error: too many hops"; 2]);
        assert_eq!((mx.inbox(BRIAN).await.len(), lmtp.inbox(BRIAN).await.len()), (1, 0));
    }

    /// R66: whatever leads to a mailbox, it gets one copy.
    #[tokio::test]
    async fn r66_each_mailbox_gets_one_copy() {
        let mut world = world(Role::Mx).await;
        assert_eq!(world.send(&["info@example.net", BRIAN, BRIAN], "\r\nb\r\n").await.len(), 1);
        assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (1, 1));
    }

    /// R63, R65: each recipient of LMTP has its reply, also where two of them share a mailbox.
    #[tokio::test]
    async fn r63_r65_lmtp_answers_for_each_recipient() {
        let mut world = world(Role::Lmtp).await;
        let recipients = [BRIAN, "nobody@example.net", "full@example.net", "info@example.net", "both@example.net"];
        let refusals = world.open("you@example.org", &recipients).await;
        assert_eq!(refusals, ["550 5.1.1 <nobody@example.net> User doesn't exist: nobody@example.net"]);
        let replies = world.text("Subject: s\r\n\r\nb\r\n").await;
        let full = |address| format!("552 5.2.2 <{address}> Quota exceeded (mailbox for user is full)");
        assert_eq!(replies.len(), 4);
        assert!(replies[0].starts_with("250 2.0.0 <brian@example.net> ") && replies[0].ends_with(" Saved"));
        assert_eq!(replies[1], full("full@example.net"));
        assert!(replies[2].starts_with("250 2.0.0 <info@example.net> "));
        assert_eq!(replies[3], full("both@example.net"), "one of its mailboxes did not get the message");
        assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (1, 1));
        assert_eq!(world.inbox("full@example.net").await.len(), 1);
    }

    /// RFC 2033 §3: LMTP is for final delivery only.
    #[tokio::test]
    async fn lmtp_takes_nothing_that_is_passed_on() {
        let mut world = world(Role::Lmtp).await;
        let refusals = world.open("", &["x@elsewhere.example", "x@example.com", "away@example.net"]).await;
        assert!(refusals[0].starts_with("550 5.1.1 <x@elsewhere.example> User doesn't exist"), "{refusals:?}");
        assert!(refusals[1].starts_with("550 5.1.1 <x@example.com> User doesn't exist"), "{refusals:?}");
        assert!(refusals[2].starts_with("451 4.3.2 <away@example.net>"), "{refusals:?}");
    }

    /// R113: what access tables want done with a message.
    #[tokio::test]
    async fn r113_effects_of_access_tables() {
        let mut world = world(Role::Mx).await;
        let queued = "250 2.0.0 Ok: queued as ";
        assert!(world.send(&["gone@example.net", NOT_BRIAN], "\r\ndiscarded\r\n").await[0].starts_with(queued));
        assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (0, 0));
        assert!(world.send(&["moved@example.net"], "\r\nmoved\r\n").await[0].starts_with(queued));
        assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (0, 1));
        let lost = world.send(&["lost@example.net"], "\r\nlost\r\n").await;
        assert_eq!(lost, ["451 4.3.5 Server configuration problem"]);
        assert!(world.send(&["watched@example.net"], "\r\nwatched\r\n").await[0].starts_with(queued));
        assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (1, 2));
        world.send(&["tagged@example.net", "marked@example.net"], "Subject: s\r\n\r\nb\r\n").await;
        let inbox = world.inbox(BRIAN).await;
        assert!(inbox[1].contains("\r\nX-Tag: seen\r\nReceived: "), "{}", inbox[1]);
        assert_eq!(inbox[1].matches("X-Tag").count(), 1);
    }

    /// All or nothing in SMTP: one reply speaks for all. A mailbox that filled up since its RCPT makes it temporary.
    #[tokio::test]
    async fn a_mailbox_that_fills_up_puts_the_message_off_for_all() {
        let mut world = world(Role::Mx).await;
        assert_eq!(world.open("", &[BRIAN, "tight@example.net"]).await, [""; 0]);
        fill(&world.store, "tight@example.net", 2_000).await;
        assert_eq!(world.text("\r\nb\r\n").await, ["452 4.2.2 A mailbox of the message became full, try again"]);
        assert!(world.inbox(BRIAN).await.is_empty());
        let refusals = world.open("", &[BRIAN, "tight@example.net"]).await;
        assert_eq!(refusals, ["522 5.2.2 <tight@example.net>: Recipient address rejected: Mailbox is full"]);
        assert!(world.text("\r\nb\r\n").await[0].starts_with("250 "), "the next attempt ends it");
    }

    /// A message larger than declared would pass RCPT for ever and never fit: refused for good, by name.
    #[tokio::test]
    async fn r65_what_would_never_fit_is_refused_for_good() {
        let mut world = world(Role::Mx).await;
        let text = format!("\r\n{}\r\n", "x".repeat(2_000));
        let for_good = ["552 5.2.2 <tight@example.net> Quota exceeded (mailbox for user is full)"];
        assert_eq!(world.send(&[BRIAN, "tight@example.net"], &text).await, for_good);
        assert!(world.inbox(BRIAN).await.is_empty());
        Arc::make_mut(&mut world.envelope).declared_size_octets = Some(2_004);
        let refusals = world.open("", &[BRIAN, "tight@example.net"]).await;
        assert!(refusals[0].starts_with("522 5.2.2 <tight@example.net>"), "R80");
    }

    /// V7: after any end of a message nothing of its recipients is left.
    #[tokio::test]
    async fn v7_nothing_of_a_message_outlives_it() {
        let mut world = world(Role::Mx).await;
        world.send(&[BRIAN], "\r\nfirst\r\n").await;
        world.open("", &[BRIAN]).await;
        assert_eq!(world.desk.answer(Question::Abandon).await, Answer::Done);
        world.send(&[NOT_BRIAN], "\r\nsecond\r\n").await;
        assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (1, 1));
        let (client, envelope) = (world.client.clone(), world.envelope.clone());
        let replies = world.desk.answer(Question::EndOfMessage { client, envelope }).await;
        assert_eq!(replies, Answer::Replies(vec![reply::local_error()]), "there was no text");
    }

    /// RFC 5321 §4.5.1, R109: the postmaster needs no domain; R96: nor with VRFY.
    #[tokio::test]
    async fn r109_r96_the_postmaster_of_the_house() {
        let mut world = world(Role::Mx).await;
        assert_eq!(world.open("", &["Postmaster@mx.example.net"]).await, [""; 0]);
        assert!(world.open("", &["brian@mx.example.net"]).await[0].starts_with("554 5.7.1 "));
        let recipient = Recipient::new(Address::parse("postmaster@mx.example.net").unwrap());
        let answer = world.desk.answer(Question::Verify { client: world.client.clone(), recipient }).await;
        let Answer::Reply(reply) = answer else { panic!("{answer:?}") };
        assert_eq!(reply.to_string(), "252 2.0.0 postmaster@mx.example.net");
    }

    /// A store that is closed keeps the message with the sender (R114, V14: nothing of the cause is told).
    #[tokio::test]
    async fn a_closed_store_takes_nothing() {
        let mut world = world(Role::Mx).await;
        assert_eq!(world.open("", &[BRIAN]).await, [""; 0]);
        let (client, envelope) = (world.client.clone(), world.envelope.clone());
        world.store.close().await.unwrap();
        match world.desk.answer(Question::BeginBody { client, envelope }).await {
            Answer::Verdict(Err(reply)) => assert_eq!(reply.code, 421, "{reply}"),
            Answer::Verdict(Ok(())) => assert_eq!(world.text("\r\nb\r\n").await, ["421 4.3.2 Service shutting down"]),
            other => panic!("{other:?}"),
        }
    }
}
