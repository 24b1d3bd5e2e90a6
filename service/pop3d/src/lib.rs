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
        let account = self.house.login.authenticate(&self.house.listener, &self.peer, credentials).await?;
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

    async fn remove(&self, uids: Vec<Uid>) -> Result<(), Unavailable> {
        let (Some(account), Some(maildrop)) = (&self.account, &self.maildrop) else { return Ok(()) };
        let uids: UidSet = uids.into_iter().collect();
        let change = Change::Expunge { mailbox: maildrop.mailbox, uids, only_deleted: false };
        let quota = self.house.directory.quota(account);
        let group = Group { account: account.clone(), changes: vec![change], quota };
        let outcome =
            self.house.store.commit(Commit { groups: vec![group], together: true, ..Commit::default() }).await;
        match outcome.map_err(|error| self.log(&error))?.pop() {
            Some(Ok(_)) => Ok(()),
            refused => {
                let listener = &self.house.listener;
                tracing::error!(listener, %account, ?refused, "the store does not remove messages");
                Err(Unavailable)
            }
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
            Question::Remove(uids) => Answer::Removed(self.remove(uids).await),
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

#[cfg(test)]
mod tests {
    use super::*;
    use directory::Settings;
    use mail::{FlagSet, InternalDate, MailboxName, MailboxRef, Secret};
    use net::Desk as _;
    use std::time::Duration;
    use store::embedded::{EmbeddedStore, Options};

    fn house() -> (tempfile::TempDir, Arc<House>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("accounts"), "brian@example.net:{PLAIN}b::::::\n").unwrap();
        std::fs::write(folder.path().join("domains"), "example.net\n").unwrap();
        let directory = Arc::new(Directory::open(Settings::in_folder(folder.path())).unwrap());
        let options = Options { sync: false, ..Options::new(folder.path().join("mail")) };
        let store = Arc::new(EmbeddedStore::open(options).unwrap());
        let login = Arc::new(Login::new(directory.clone(), net::HashPool::new(1, 8), Duration::ZERO));
        (folder, Arc::new(House { store, directory, login, listener: "pop3s".into() }))
    }

    async fn deliver(house: &House, text: &[u8]) {
        let mut writer = house.store.stage().unwrap();
        writer.write(text).unwrap();
        let body = writer.finish(b"", Vec::new()).unwrap();
        let change = Change::Append {
            mailbox: MailboxRef::Named(MailboxName::inbox()),
            body: body.id,
            flags: FlagSet::default(),
            internal_date: InternalDate { unix_seconds: 0, zone_minutes: 0 },
        };
        let account = AccountName::parse("brian@example.net").unwrap();
        let group = Group { account, changes: vec![change], quota: mail::Quota::default() };
        assert!(
            house.store.commit(Commit { groups: vec![group], together: true, ..Commit::default() }).await.unwrap()[0]
                .is_ok()
        );
    }

    async fn log_in(house: &Arc<House>, password: &str) -> (Desk, Result<AccountName, AuthFailure>) {
        let mut desk = Desk::new(house.clone(), PeerFacts { peer: None, local: None, tls: None });
        let credentials = sasl::Credentials {
            authorization: String::new(),
            login: "brian@example.net".into(),
            password: Secret::new(password.into()),
            mechanism: sasl::Mechanism::Plain,
        };
        match desk.answer(Question::Authenticate(credentials)).await {
            Answer::Authenticated(outcome) => (desk, outcome),
            other => panic!("{other:?}"),
        }
    }

    async fn open(desk: &mut Desk) -> Arc<Snapshot> {
        match desk.answer(Question::Open).await {
            Answer::Maildrop(Ok(snapshot)) => snapshot,
            other => panic!("{other:?}"),
        }
    }

    async fn read(desk: &mut Desk, uid: Uid, start: u64) -> Option<Vec<u8>> {
        match desk.answer(Question::Read { uid, start, octets: 100 }).await {
            Answer::Octets(octets) => octets.map(|octets| octets.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    /// R60: the session keeps its picture; what came later stays, whatever the session removes.
    #[tokio::test]
    async fn r58_r60_a_session_sees_and_removes_what_it_opened() {
        let (_folder, house) = house();
        deliver(&house, b"first").await;
        let (mut desk, outcome) = log_in(&house, "b").await;
        assert_eq!(outcome.unwrap().as_str(), "brian@example.net");
        let maildrop = open(&mut desk).await;
        deliver(&house, b"second").await;
        let uids: Vec<Uid> = maildrop.iter().map(|message| message.uid).collect();
        assert_eq!(uids.len(), 1);
        assert_eq!(read(&mut desk, uids[0], 0).await.as_deref(), Some(&b"first"[..]));
        assert_eq!(read(&mut desk, uids[0], 3).await.as_deref(), Some(&b"st"[..]));
        assert_eq!(read(&mut desk, uids[0], 5).await.as_deref(), Some(&b""[..]));
        assert_eq!(read(&mut desk, Uid(uids[0].0 + 1), 0).await, None, "it came after the session began");
        for _ in 0..2 {
            let removed = desk.answer(Question::Remove(uids.clone())).await;
            assert!(matches!(removed, Answer::Removed(Ok(()))), "twice is once: {removed:?}");
        }
        let (mut next, _) = log_in(&house, "b").await;
        let left = open(&mut next).await;
        let left = left.iter().map(|message| message.uid).collect::<Vec<_>>();
        assert_eq!(read(&mut next, left[0], 0).await.as_deref(), Some(&b"second"[..]));
        assert_eq!(left.len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_opened_before_a_login_or_from_a_closed_store() {
        let (_folder, house) = house();
        let (mut desk, outcome) = log_in(&house, "wrong").await;
        assert_eq!(outcome, Err(AuthFailure::Denied));
        assert!(matches!(desk.answer(Question::Open).await, Answer::Maildrop(Err(Unavailable))));
        assert_eq!(read(&mut desk, Uid(1), 0).await, None);
        let (mut desk, _) = log_in(&house, "b").await;
        house.store.close().await.unwrap();
        assert!(matches!(desk.answer(Question::Open).await, Answer::Maildrop(Err(Unavailable))));
    }
}
