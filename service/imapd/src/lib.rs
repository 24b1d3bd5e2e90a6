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
        let outcome = self.house.login.authenticate(&self.house.listener, &self.peer, credentials).await;
        let account = outcome.map_err(|refused| match refused {
            login::Refused::Denied => AuthFailure::Denied,
            login::Refused::Temporary => AuthFailure::Temporary,
        })?;
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
            .map(|item| {
                item.inspect_err(|error| {
                    self.failed(error);
                })
                .ok()
            })
            .collect())
    }

    fn begin_body(&mut self, octets: u64) -> Result<(), Unavailable> {
        if self.staged.len() >= STAGED_BODIES_MAX || !self.house.store.has_room(octets) {
            return Err(self.failed(&StoreError::Full));
        }
        self.intake = Some(Intake::verbatim(&*self.house.store).map_err(|error| self.failed(&error))?);
        Ok(())
    }

    fn end_of_body(&mut self) -> Result<BodyId, Unavailable> {
        let intake = self.intake.take().ok_or(Unavailable)?;
        let body = intake.finish(b"").map_err(|error| self.failed(&error))?;
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
        let outcome = self.house.store.commit(Commit { groups: vec![group], together: true }).await;
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
