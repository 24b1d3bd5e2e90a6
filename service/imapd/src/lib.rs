//! Serves mailboxes over IMAP: the async side of a session.
//!
//! The session machine asks; a [`Desk`] answers from the store and the directory. Nothing here knows a command.

use bytes::Bytes;
use deliver::Intake;
use directory::Directory;
use imap_proto::question::{Answer, AuthFailure, CommitFailure, INTERNAL_DATE_NOW, Question, Unavailable};
use login::Login;
use mail::{AccountName, BodyId, Change, Commit, Group, InternalDate, MailboxId, PeerFacts, Quota};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::{MailStore, StagedBody, StoreError, Watch};

/// What sessions of a listener share.
pub struct House {
    /// Where mail is.
    pub store: Arc<dyn MailStore>,
    /// Who has an account, and how much it may hold.
    pub directory: Arc<Directory>,
    /// Judges credentials.
    pub login: Arc<Login>,
    /// The listener's name, for logs.
    pub listener: String,
}

/// Most bodies staged for one commit (MULTIAPPEND, RFC 3502).
pub const STAGED_BODIES_MAX: usize = 1_000;
/// Most octets staged for one commit: what no mailbox of the usual quota could take must not fill the disk first.
pub const STAGED_OCTETS_MAX: u64 = 1 << 30;

/// Answers one session.
pub struct Desk {
    house: Arc<House>,
    peer: PeerFacts,
    account: Option<(AccountName, Watch)>,
    intake: Option<Intake>,
    /// Bodies waiting for the commit that names them; dropped bodies free what they hold.
    staged: Vec<StagedBody>,
}

impl Desk {
    /// A desk for a new session.
    pub fn new(house: Arc<House>, peer: PeerFacts) -> Desk {
        Desk { house, peer, account: None, intake: None, staged: Vec::new() }
    }

    fn account(&self) -> Result<&AccountName, Unavailable> {
        // The machine asks nothing of an account before it has one.
        self.account.as_ref().map(|(account, _)| account).ok_or(Unavailable)
    }

    /// Logs a failure of the store; the client hears only that it should try again.
    fn failed(&self, error: &StoreError) -> Unavailable {
        let account = self.account.as_ref().map(|(account, _)| account.as_str()).unwrap_or_default();
        tracing::error!(listener = %self.house.listener, account, %error, "the store cannot answer");
        Unavailable
    }

    async fn authenticate(&mut self, credentials: sasl::Credentials) -> Result<AccountName, AuthFailure> {
        let account = self.house.login.authenticate(&self.house.listener, &self.peer, credentials).await?;
        let watch = self.house.store.watch(&account);
        self.account = Some((account.clone(), watch));
        Ok(account)
    }

    async fn snapshots(&self, mailboxes: Vec<MailboxId>) -> Answer {
        let mut snapshots = Vec::with_capacity(mailboxes.len());
        for mailbox in mailboxes {
            let Ok(account) = self.account() else { return Answer::Snapshots(Err(Unavailable)) };
            match self.house.store.snapshot(account, mailbox).await {
                Ok(snapshot) => snapshots.push(Some(snapshot)),
                Err(StoreError::NoSuchMailbox) => snapshots.push(None),
                Err(error) => return Answer::Snapshots(Err(self.failed(&error))),
            }
        }
        Answer::Snapshots(Ok(snapshots))
    }

    async fn claim_recent(&self, mailbox: MailboxId) -> Answer {
        let Ok(account) = self.account() else { return Answer::Recent(mail::Uid(u32::MAX)) };
        // What is recent is a hint: a store that cannot tell leaves nothing recent.
        Answer::Recent(self.house.store.claim_recent(account, mailbox).await.unwrap_or(mail::Uid(u32::MAX)))
    }

    /// One answer an item; an item that cannot be read is logged and left out.
    fn readable(
        &self,
        items: Result<Vec<Result<Bytes, StoreError>>, StoreError>,
    ) -> Result<Vec<Option<Bytes>>, Unavailable> {
        let items = items.map_err(|error| self.failed(&error))?;
        Ok(items
            .into_iter()
            .map(|item| match item {
                Ok(octets) => Some(octets),
                // Another session expunged the message; its room was given back. That is no failure.
                Err(StoreError::NoSuchBlob) => None,
                Err(error) => {
                    self.failed(&error);
                    None
                }
            })
            .collect())
    }

    fn begin_body(&mut self, octets: u64) -> Result<(), Unavailable> {
        let staged: u64 = self.staged.iter().map(|body| body.octets).sum();
        let is_too_much = self.staged.len() >= STAGED_BODIES_MAX || staged.saturating_add(octets) > STAGED_OCTETS_MAX;
        if is_too_much || !self.house.store.has_room(octets) {
            return Err(self.failed(&StoreError::Full));
        }
        self.intake = Some(Intake::verbatim(&*self.house.store).map_err(|error| self.failed(&error))?);
        Ok(())
    }

    fn end_of_body(&mut self) -> Result<BodyId, Unavailable> {
        let intake = self.intake.take().ok_or(Unavailable)?;
        let body = intake.finish(b"").map_err(|error| self.failed(&error))?.body;
        let id = body.id;
        self.staged.push(body);
        Ok(id)
    }

    async fn commit(&mut self, mut changes: Vec<Change>) -> Answer {
        date_appends(&mut changes);
        let Ok(account) = self.account().cloned() else {
            return Answer::Committed(Err(CommitFailure::Unavailable));
        };
        let quota = self.house.directory.quota(&account);
        // The grace is for deliveries; a client is told that the mailbox is full (R56, R78).
        let group = Group { account, changes, quota: Quota { grace_octets: 0, ..quota } };
        let begun = std::time::Instant::now();
        let outcome =
            self.house.store.commit(Commit { groups: vec![group], together: true, ..Commit::default() }).await;
        metrics::histogram!("imap_commit_seconds").record(begun.elapsed().as_secs_f64());
        self.staged.clear();
        Answer::Committed(match outcome.map(|mut groups| groups.pop()) {
            Ok(Some(Ok(outcomes))) => Ok(outcomes),
            Ok(Some(Err(refused))) => Err(CommitFailure::Refused(refused)),
            Ok(None) => Err(CommitFailure::Unavailable),
            Err(error) => {
                self.failed(&error);
                Err(CommitFailure::Unavailable)
            }
        })
    }

    async fn usage(&self) -> Answer {
        let Ok(account) = self.account() else { return Answer::Usage(Err(Unavailable)) };
        let usage = self.house.store.usage(account).await;
        let quota = self.house.directory.quota(account);
        Answer::Usage(usage.map(|usage| (usage, quota)).map_err(|error| self.failed(&error)))
    }

    fn client_id(&self, pairs: &[(String, String)]) {
        let client: Vec<String> = pairs.iter().map(|(field, value)| format!("{field}={value}")).collect();
        tracing::info!(listener = %self.house.listener, client = client.join(" "), "client id");
    }
}

/// A session has no calendar: a message appended without a date gets the present one here.
fn date_appends(changes: &mut [Change]) {
    for change in changes {
        if let Change::Append { internal_date, .. } = change
            && *internal_date == INTERNAL_DATE_NOW
        {
            *internal_date = InternalDate { unix_seconds: unix_seconds(), zone_minutes: 0 };
        }
    }
}

/// The present, in seconds since 1970.
pub fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() as i64
}

impl net::Desk for Desk {
    type Question = Question;
    type Answer = Answer;

    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Authenticate(credentials) => Answer::Authenticated(self.authenticate(credentials).await),
            Question::Mailboxes => match self.account() {
                Ok(account) => {
                    let mailboxes = self.house.store.mailboxes(account).await;
                    Answer::Mailboxes(mailboxes.map_err(|error| self.failed(&error)))
                }
                Err(unavailable) => Answer::Mailboxes(Err(unavailable)),
            },
            Question::Snapshots(mailboxes) => self.snapshots(mailboxes).await,
            Question::ClaimRecent(mailbox) => self.claim_recent(mailbox).await,
            Question::Digests(blobs) => Answer::Digests(self.readable(self.house.store.digests(blobs).await)),
            Question::Read(ranges) => {
                let range = |range: imap_proto::question::BodyRange| store::BodyRange {
                    blob: range.blob,
                    start: range.start,
                    octets: range.octets,
                };
                let ranges = ranges.into_iter().map(range).collect();
                Answer::Bodies(self.readable(self.house.store.read(ranges).await))
            }
            Question::BeginBody { octets } => Answer::Staging(self.begin_body(octets)),
            Question::EndOfBody => Answer::Staged(self.end_of_body()),
            Question::Abandon => {
                self.intake = None;
                self.staged.clear();
                Answer::Done
            }
            Question::Commit(changes) => self.commit(changes).await,
            Question::Usage => self.usage().await,
            Question::ClientId(pairs) => {
                self.client_id(&pairs);
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
        match &mut self.account {
            Some((_, watch)) => watch.changed().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use directory::Settings;
    use imap_proto::question::BodyRange;
    use mail::{ChangeError, FlagSet, MailboxName, MailboxRef, Secret};
    use net::Desk as _;
    use store::embedded::{EmbeddedStore, Options};

    const BRIAN: &str = "brian@example.net";

    /// A house of two accounts; brian may hold 1000 octets.
    fn house() -> (tempfile::TempDir, Arc<House>) {
        let folder = tempfile::tempdir().unwrap();
        let accounts = "brian@example.net:{PLAIN}b::::::userdb_quota_rule=*:bytes=1000\n\
                        notbrian@example.net:{PLAIN}n::::::\n";
        std::fs::write(folder.path().join("accounts"), accounts).unwrap();
        std::fs::write(folder.path().join("domains"), "example.net\n").unwrap();
        let directory = Arc::new(Directory::open(Settings::in_folder(folder.path())).unwrap());
        let options = Options { sync: false, ..Options::new(folder.path().join("mail")) };
        let store = Arc::new(EmbeddedStore::open(options).unwrap());
        let login = Arc::new(Login::new(directory.clone(), net::HashPool::new(1, 8), Duration::ZERO));
        (folder, Arc::new(House { store, directory, login, listener: "imaps".into() }))
    }

    fn desk(house: &Arc<House>) -> Desk {
        Desk::new(house.clone(), PeerFacts { peer: None, local: None, tls: None })
    }

    async fn log_in(desk: &mut Desk, login: &str, password: &str) -> Result<AccountName, AuthFailure> {
        let credentials = sasl::Credentials {
            authorization: String::new(),
            login: login.into(),
            password: Secret::new(password.into()),
            mechanism: sasl::Mechanism::Plain,
        };
        match desk.answer(Question::Authenticate(credentials)).await {
            Answer::Authenticated(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    async fn stage(desk: &mut Desk, text: &[u8]) -> BodyId {
        let begun = desk.answer(Question::BeginBody { octets: text.len() as u64 }).await;
        assert!(matches!(begun, Answer::Staging(Ok(()))));
        desk.body(text.to_vec()).await;
        match desk.answer(Question::EndOfBody).await {
            Answer::Staged(Ok(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    fn append(body: BodyId) -> Change {
        let mailbox = MailboxRef::Named(MailboxName::inbox());
        Change::Append { mailbox, body, flags: FlagSet::default(), internal_date: INTERNAL_DATE_NOW }
    }

    async fn inbox(desk: &mut Desk) -> Arc<mail::Snapshot> {
        let Answer::Mailboxes(Ok(mailboxes)) = desk.answer(Question::Mailboxes).await else { panic!("no mailboxes") };
        let inbox = mailboxes.iter().find(|info| info.name.is_inbox()).unwrap().id.unwrap();
        match desk.answer(Question::Snapshots(vec![inbox, MailboxId(u64::MAX >> 1)])).await {
            Answer::Snapshots(Ok(snapshots)) => {
                assert!(snapshots[1].is_none(), "there is no such mailbox");
                snapshots[0].clone().unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn nothing_is_answered_before_a_login() {
        let (_folder, house) = house();
        let mut desk = desk(&house);
        assert_eq!(log_in(&mut desk, BRIAN, "wrong").await, Err(AuthFailure::Denied));
        assert!(matches!(desk.answer(Question::Mailboxes).await, Answer::Mailboxes(Err(Unavailable))));
        assert!(matches!(desk.answer(Question::Usage).await, Answer::Usage(Err(Unavailable))));
        let commit = desk.answer(Question::Commit(Vec::new())).await;
        assert!(matches!(commit, Answer::Committed(Err(CommitFailure::Unavailable))));
        assert!(matches!(desk.answer(Question::EndOfBody).await, Answer::Staged(Err(Unavailable))));
    }

    #[tokio::test]
    async fn what_is_appended_is_kept_as_it_is_and_dated() {
        let (_folder, house) = house();
        let mut desk = desk(&house);
        log_in(&mut desk, BRIAN, "b").await.unwrap();
        let text = b"Return-Path: <kept@example.org>\r\nSubject: s\r\n\r\nb\r\n";
        let body = stage(&mut desk, text).await;
        let committed = desk.answer(Question::Commit(vec![append(body)])).await;
        assert!(matches!(committed, Answer::Committed(Ok(_))), "{committed:?}");
        let snapshot = inbox(&mut desk).await;
        let message = snapshot.iter().next().unwrap();
        assert!(message.internal_date.unix_seconds > 1_600_000_000);
        let ranges = vec![BodyRange { blob: message.blob, start: 0, octets: 1_000 }];
        let Answer::Bodies(Ok(bodies)) = desk.answer(Question::Read(ranges)).await else { panic!("no bodies") };
        assert_eq!(bodies[0].as_deref(), Some(&text[..]));
        let Answer::Usage(Ok((usage, quota))) = desk.answer(Question::Usage).await else { panic!("no usage") };
        assert_eq!((usage.octets, usage.messages, quota.octets_max), (text.len() as u64, 1, Some(1_000)));
    }

    /// R56, R78: the grace is not for clients. The staged body is thrown away with the refusal.
    #[tokio::test]
    async fn r56_over_quota_is_refused_without_grace() {
        let (_folder, house) = house();
        let mut desk = desk(&house);
        log_in(&mut desk, BRIAN, "b").await.unwrap();
        for (octets, fits) in [(1_001, false), (1_000, true)] {
            let body = stage(&mut desk, &vec![b'x'; octets]).await;
            match desk.answer(Question::Commit(vec![append(body)])).await {
                Answer::Committed(Ok(_)) => assert!(fits),
                Answer::Committed(Err(CommitFailure::Refused(ChangeError::OverQuota))) => assert!(!fits),
                other => panic!("{other:?}"),
            }
            assert!(desk.staged.is_empty());
        }
    }

    #[tokio::test]
    async fn what_is_staged_is_bounded_and_can_be_abandoned() {
        let (_folder, house) = house();
        let mut desk = desk(&house);
        log_in(&mut desk, "notbrian@example.net", "n").await.unwrap();
        let too_much = desk.answer(Question::BeginBody { octets: STAGED_OCTETS_MAX + 1 }).await;
        assert!(matches!(too_much, Answer::Staging(Err(Unavailable))));
        let body = stage(&mut desk, b"x").await;
        assert!(matches!(desk.answer(Question::Abandon).await, Answer::Done));
        let committed = desk.answer(Question::Commit(vec![append(body)])).await;
        assert!(matches!(committed, Answer::Committed(Err(CommitFailure::Refused(ChangeError::NoSuchBody)))));
    }

    /// Whether there is something to notice now.
    async fn noticed(desk: &mut Desk) -> bool {
        tokio::select! {
            biased;
            () = desk.notice() => true,
            () = std::future::ready(()) => false,
        }
    }

    /// R52: what another session does is noticed; V17: sessions do not mix.
    #[tokio::test]
    async fn r52_a_change_of_the_account_is_noticed_and_of_no_other() {
        let (_folder, house) = house();
        let (mut one, mut two, mut other) = (desk(&house), desk(&house), desk(&house));
        log_in(&mut one, BRIAN, "b").await.unwrap();
        log_in(&mut two, BRIAN, "b").await.unwrap();
        log_in(&mut other, "notbrian@example.net", "n").await.unwrap();
        // What making the accounts changed is seen first.
        for desk in [&mut one, &mut two, &mut other] {
            inbox(desk).await;
            while noticed(desk).await {}
        }
        let body = stage(&mut one, b"x").await;
        assert!(matches!(one.answer(Question::Commit(vec![append(body)])).await, Answer::Committed(Ok(_))));
        assert!(noticed(&mut two).await);
        assert_eq!(inbox(&mut two).await.iter().count(), 1);
        assert!(!noticed(&mut other).await);
        assert_eq!(inbox(&mut other).await.iter().count(), 0);
    }
}
