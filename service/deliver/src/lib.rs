//! Delivery: routed recipients become changes, and a message on its way becomes a staged body.
//!
//! [`commit`] is pure: it says what one accepted message changes. [`Intake`] carries a message's octets from a session
//! to the store: repaired at the top, scanned as they pass, staged; [`Intake::finish`] puts the trace fields in front.

use directory::{Directory, Route};
use mail::{AccountName, BodyId, Change, Commit, FlagSet, Group, InternalDate, MailboxName, MailboxRef};
use message::repair::HeaderRepair;
use message::scan::{HeaderFacts, Scanner};
use std::sync::Arc;
use store::{BodyWriter, MailStore, StagedBody, StoreError};

/// What one message changes: an INBOX row for each account that the routes lead to, each account once (R66). All or
/// nothing when `together`; then one reply can speak for all of them.
pub fn commit(
    routes: &[Route],
    body: BodyId,
    internal_date: InternalDate,
    directory: &Directory,
    together: bool,
) -> Commit {
    let group = |account: &AccountName| Group {
        account: account.clone(),
        changes: vec![Change::Append {
            mailbox: MailboxRef::Named(MailboxName::inbox()),
            body,
            flags: FlagSet::default(),
            internal_date,
        }],
        quota: directory.quota(account),
    };
    Commit { groups: accounts(routes).into_iter().map(group).collect(), together, ..Commit::default() }
}

/// The accounts that routes lead to, each once, in the order they are first named.
pub fn accounts(routes: &[Route]) -> Vec<&AccountName> {
    let mut seen = std::collections::HashSet::new();
    routes
        .iter()
        .filter_map(|route| match route {
            Route::Mailbox(account) => seen.insert(account).then_some(account),
            Route::Relay(_) | Route::Outside(_) => None,
        })
        .collect()
}

/// A message that is coming in.
pub struct Intake {
    writer: Box<dyn BodyWriter>,
    scanner: Scanner,
    repair: Option<HeaderRepair>,
    repaired: Vec<u8>,
    /// The first failure of the store; once there is one, octets are thrown away.
    failure: Option<StoreError>,
}

impl Intake {
    /// Begins to take a message as another server or a client sends it: the header section is repaired (R102) and
    /// loses its Return-Path fields (RFC 5321 §4.4).
    pub fn from_peer(store: &dyn MailStore) -> Result<Intake, StoreError> {
        Ok(Intake { repair: Some(HeaderRepair::new(Arc::default())), ..Intake::verbatim(store)? })
    }

    /// Begins to take a message whose octets are kept as they are.
    pub fn verbatim(store: &dyn MailStore) -> Result<Intake, StoreError> {
        Ok(Intake {
            writer: store.stage()?,
            scanner: Scanner::new(),
            repair: None,
            repaired: Vec::new(),
            failure: None,
        })
    }

    /// Takes the next octets. A failure of the store shows at [`finish`](Self::finish).
    pub fn write(&mut self, octets: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        let result = match &mut self.repair {
            None => {
                self.scanner.write(octets);
                self.writer.write(octets)
            }
            Some(repair) => {
                self.repaired.clear();
                repair.write(octets, &mut self.repaired);
                self.scanner.write(&self.repaired);
                self.writer.write(&self.repaired)
            }
        };
        self.failure = result.err();
    }

    /// Ends the octets: what the repair held back follows. The facts of the header section are known after this.
    pub fn complete(&mut self) -> &HeaderFacts {
        if let Some(repair) = self.repair.take() {
            self.repaired.clear();
            repair.finish(&mut self.repaired);
            self.scanner.write(&self.repaired);
            if self.failure.is_none() {
                self.failure = self.writer.write(&self.repaired).err();
            }
        }
        self.scanner.close();
        self.scanner.facts()
    }

    /// Stages the message with `prefix` in front of it.
    pub fn finish(mut self, prefix: &[u8]) -> Result<StagedBody, StoreError> {
        self.complete();
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let digest = self.scanner.finish(prefix);
        self.writer.finish(prefix, digest.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use directory::Settings;
    use mail::Address;
    use store::BodyRange;
    use store::embedded::{EmbeddedStore, Options};

    const NOON: InternalDate = InternalDate { unix_seconds: 43_200, zone_minutes: 0 };

    fn account(text: &str) -> AccountName {
        AccountName::parse(text).unwrap()
    }

    fn directory(folder: &std::path::Path) -> Directory {
        std::fs::write(folder.join("accounts"), "a@x.example:{PLAIN}a::::::userdb_quota_rule=*:bytes=7\n").unwrap();
        std::fs::write(folder.join("domains"), "x.example\n").unwrap();
        Directory::open(Settings::in_folder(folder)).unwrap()
    }

    /// R66, and each account's own quota.
    #[test]
    fn r66_each_account_is_one_group() {
        let folder = tempfile::tempdir().unwrap();
        let directory = directory(folder.path());
        let (a, b) = (account("a@x.example"), account("b@x.example"));
        let outside = Route::Outside(Address::parse("c@y.example").unwrap());
        let mailbox = |name: &AccountName| Route::Mailbox(name.clone());
        let routes = [mailbox(&b), mailbox(&a), outside, mailbox(&b), mailbox(&a)];
        assert_eq!(accounts(&routes), [&b, &a]);
        for together in [true, false] {
            let commit = commit(&routes, BodyId(3), NOON, &directory, together);
            assert_eq!(commit.together, together);
            assert_eq!(commit.groups.iter().map(|group| &group.account).collect::<Vec<_>>(), [&b, &a]);
            assert_eq!(commit.groups[1].quota.octets_max, Some(7));
            assert_eq!(commit.groups[0].quota.octets_max, Some(1 << 30), "R77");
            let [Change::Append { mailbox: MailboxRef::Named(name), body, internal_date, .. }] =
                &commit.groups[0].changes[..]
            else {
                panic!("{:?}", commit.groups[0].changes)
            };
            assert!(name.is_inbox() && *body == BodyId(3) && *internal_date == NOON);
        }
    }

    async fn stored(store: &EmbeddedStore, intake: Intake, prefix: &[u8]) -> String {
        let body = intake.finish(prefix).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (b, octets) = (account("b@x.example"), body.octets);
        let commit = commit(&[Route::Mailbox(b.clone())], body.id, NOON, &directory(folder.path()), true);
        assert!(store.commit(commit).await.unwrap()[0].is_ok());
        let mailboxes = store.mailboxes(&b).await.unwrap();
        let inbox = mailboxes.iter().find(|info| info.name.is_inbox()).unwrap().id.unwrap();
        let snapshot = store.snapshot(&b, inbox).await.unwrap();
        let blob = snapshot.iter().last().unwrap().blob;
        let read = store.read(vec![BodyRange { blob, start: 0, octets: u64::MAX }]).await.unwrap();
        let text = String::from_utf8(read[0].as_ref().unwrap().to_vec()).unwrap();
        assert_eq!(text.len() as u64, octets);
        text
    }

    #[tokio::test]
    async fn an_intake_repairs_what_peers_send_and_keeps_what_clients_append() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(Options { sync: false, ..Options::new(folder.path()) }).unwrap();
        let text = b"Return-Path: <x@y.example>\r\nReceived: a\r\nReceived: b\r\nSubject: s\r\nno field\r\n";
        let mut from_peer = Intake::from_peer(&store).unwrap();
        text.chunks(3).for_each(|piece| from_peer.write(piece));
        assert_eq!(from_peer.complete().received, 2);
        assert_eq!(
            stored(&store, from_peer, b"X: y\r\n").await,
            "X: y\r\nReceived: a\r\nReceived: b\r\nSubject: s\r\n\r\nno field\r\n"
        );
        let mut verbatim = Intake::verbatim(&store).unwrap();
        text.chunks(5).for_each(|piece| verbatim.write(piece));
        assert_eq!(stored(&store, verbatim, b"").await.as_bytes(), text);
    }
}
