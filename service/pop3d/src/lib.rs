//! Serves INBOX over POP3: the async side of a session.

use directory::Directory;
use login::Login;
use mail::{AccountName, Change, Commit, Group, PeerFacts, Snapshot, Uid, UidSet};
use pop3_proto::question::{Answer, AuthFailure, Question, Unavailable};
use std::sync::Arc;
use store::{BodyRange, MailStore, StoreError};

/// What sessions of a listener share.
pub struct House {
    /// Where mail is.
    pub store: Arc<dyn MailStore>,
    /// Who has an account.
    pub directory: Arc<Directory>,
    /// Judges credentials.
    pub login: Arc<Login>,
    /// The listener's name, for logs.
    pub listener: String,
}

/// Answers one session.
pub struct Desk {
    house: Arc<House>,
    peer: PeerFacts,
    account: Option<AccountName>,
    /// The picture that the session keeps to its end (R60).
    maildrop: Option<Arc<Snapshot>>,
}

impl Desk {
    /// A desk for a new session.
    pub fn new(house: Arc<House>, peer: PeerFacts) -> Desk {
        Desk { house, peer, account: None, maildrop: None }
    }

    async fn authenticate(&mut self, credentials: sasl::Credentials) -> Result<AccountName, AuthFailure> {
        let outcome = self.house.login.authenticate(&self.house.listener, &self.peer, credentials).await;
        let account = outcome.map_err(|refused| match refused {
            login::Refused::Denied => AuthFailure::Denied,
            login::Refused::Temporary => AuthFailure::Temporary,
        })?;
        self.account = Some(account.clone());
        Ok(account)
    }

    async fn open(&mut self) -> Result<Arc<Snapshot>, StoreError> {
        let account = self.account.as_ref().ok_or(StoreError::NoSuchMailbox)?;
        let mailboxes = self.house.store.mailboxes(account).await?;
        let inbox = mailboxes.iter().find(|info| info.name.is_inbox()).and_then(|info| info.id);
        let snapshot = self.house.store.snapshot(account, inbox.ok_or(StoreError::NoSuchMailbox)?).await?;
        self.maildrop = Some(snapshot.clone());
        Ok(snapshot)
    }

    async fn read(&self, uid: Uid, start: u64, octets: u64) -> Option<bytes::Bytes> {
        let blob = self.maildrop.as_ref()?.by_uid(uid)?.blob;
        let pieces = self.house.store.read(vec![BodyRange { blob, start, octets }]).await;
        match pieces.map(|mut pieces| pieces.pop()) {
            Ok(Some(Ok(piece))) => Some(piece),
            Ok(Some(Err(error))) | Err(error) => {
                self.log(&error);
                None
            }
            Ok(None) => None,
        }
    }

    async fn remove(&self, uids: Vec<Uid>) -> Result<(), StoreError> {
        let (Some(account), Some(maildrop)) = (&self.account, &self.maildrop) else { return Ok(()) };
        let uids: UidSet = uids.into_iter().collect();
        let change = Change::Expunge { mailbox: maildrop.mailbox, uids, only_deleted: false };
        let quota = self.house.directory.quota(account);
        let group = Group { account: account.clone(), changes: vec![change], quota };
        match self.house.store.commit(Commit { groups: vec![group], together: true }).await?.pop() {
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err(StoreError::NoSuchMailbox),
        }
    }

    fn log(&self, error: &StoreError) -> Unavailable {
        let account = self.account.as_ref().map(AccountName::as_str).unwrap_or_default();
        tracing::error!(listener = %self.house.listener, account, %error, "the store cannot answer");
        Unavailable
    }
}

impl net::Desk for Desk {
    type Question = Question;
    type Answer = Answer;

    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Authenticate(credentials) => Answer::Authenticated(self.authenticate(credentials).await),
            Question::Open => {
                let opened = self.open().await;
                Answer::Maildrop(opened.map_err(|error| self.log(&error)))
            }
            Question::Read { uid, start, octets } => Answer::Octets(self.read(uid, start, octets).await),
            Question::Remove(uids) => Answer::Removed(self.remove(uids).await.map_err(|error| self.log(&error))),
        }
    }

    async fn body(&mut self, _octets: Vec<u8>) {
        // A POP3 session receives no messages.
    }

    async fn notice(&mut self) {
        // What arrives during a session stays unseen until the next one.
        std::future::pending().await
    }
}
