//! Delivery: routed recipients become changes, and a message on its way becomes a staged body.
//!
//! [`plan()`] is pure: it says what one accepted message changes. [`Intake`] carries a message's octets from a session
//! to the store: repaired at the top, scanned as they pass, staged; [`Intake::finish`] puts the trace fields in front.

mod copy;
mod header;
mod plan;
mod queue_id;
mod sign;

pub use copy::{Reading, stage_copy};
pub use header::Submission;
pub use plan::{
    Accepted, Destined, Plan, QueueDoor, Queued, goes_at_once, inbox_group, now, plan, reverse_address, wants_delay,
    wants_failure, wants_success,
};
pub use queue_id::QueueIds;
pub use sign::Signer;

use directory::{Directory, Route};
use header::Stages;
use mail::{AccountName, BodyId, Commit, Domain, InternalDate};
use message::header_rules::Findings;
use message::scan::{HeaderFacts, Scanner};
use sender_auth::dkim::SignError;
use sign::Signature;
use std::sync::Arc;
use store::{BodyWriter, MailStore, StagedBody, StoreError};

/// What one message changes: an INBOX row for each account that the routes lead to, each account once (R66). All or
/// nothing when `together`; then one reply can speak for all of them.
pub fn commit<'a>(
    routes: impl IntoIterator<Item = &'a Route>,
    body: BodyId,
    internal_date: InternalDate,
    directory: &Directory,
    together: bool,
) -> Commit {
    let group = |account: &AccountName| inbox_group(account, body, internal_date, directory);
    Commit { groups: accounts(routes).into_iter().map(group).collect(), together, ..Commit::default() }
}

/// The accounts that routes lead to, each once, in the order they are first named.
pub fn accounts<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Vec<&'a AccountName> {
    let mut seen = std::collections::HashSet::new();
    routes
        .into_iter()
        .filter_map(|route| match route {
            Route::Mailbox(account) => seen.insert(account).then_some(account),
            Route::Relay(_) | Route::Outside(_) => None,
        })
        .collect()
}

/// A message that came in whole.
pub struct Staged {
    /// Its octets, staged as long as this is held.
    pub body: StagedBody,
    /// Its Message-ID field, for its story.
    pub message_id: Option<String>,
    /// What is to be known of it when it goes on.
    pub traits: Traits,
}

/// What a message's octets say of how it may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traits {
    /// Whether it is ASCII alone, whatever its client declared: then every peer can take it.
    pub is_ascii: bool,
    /// Whether it has a `TLS-Required: No` field (RFC 8689 §3).
    pub tls_optional: bool,
}

/// A message that is coming in.
pub struct Intake {
    writer: Box<dyn BodyWriter>,
    scanner: Scanner,
    stages: Stages,
    signature: Option<Signature>,
    is_ascii: bool,
    octets: u64,
    /// A second body with the same octets, for the archive.
    twin: Option<Box<dyn BodyWriter>>,
    /// The first failure of the store; once there is one, octets are thrown away.
    failure: Option<StoreError>,
}

impl Intake {
    /// Begins to take a message as another server or a client sends it: the header section is repaired (R102) and
    /// loses its Return-Path fields (RFC 5321 §4.4).
    pub fn from_peer(store: &dyn MailStore) -> Result<Intake, StoreError> {
        Ok(Intake { stages: Stages::of_peer(), ..Intake::verbatim(store)? })
    }

    /// Begins to take a message that a client submits: repaired as above, then its header fields go by the rules. What
    /// these did is in [`findings`](Self::findings), and what its author says of himself is for
    /// [`message::submission::authors`] to judge, both once the message is complete.
    pub fn from_submitter(store: &dyn MailStore, submission: &Submission) -> Result<Intake, StoreError> {
        Ok(Intake { stages: Stages::of_submitter(submission), ..Intake::verbatim(store)? })
    }

    /// Begins to take a message whose octets are kept as they are.
    pub fn verbatim(store: &dyn MailStore) -> Result<Intake, StoreError> {
        let (writer, scanner, stages) = (store.stage()?, Scanner::new(), Stages::none());
        Ok(Intake { writer, scanner, stages, signature: None, is_ascii: true, octets: 0, twin: None, failure: None })
    }

    /// The same, to be signed at its end.
    pub fn signed_by(self, signer: Arc<Signer>) -> Intake {
        Intake { signature: Some(Signature::new(signer)), ..self }
    }

    /// The same, with a second body beside the first (R205).
    pub fn with_twin(self, store: &dyn MailStore) -> Result<Intake, StoreError> {
        Ok(Intake { twin: Some(store.stage()?), ..self })
    }

    /// Takes the next octets. A failure of the store shows at [`finish`](Self::finish).
    pub fn write(&mut self, octets: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        let octets = self.stages.write(octets);
        self.octets += octets.len() as u64;
        self.is_ascii &= octets.is_ascii();
        self.scanner.write(octets);
        if let Some(signature) = &mut self.signature {
            signature.write(octets);
        }
        self.failure = write_both(&mut *self.writer, &mut self.twin, octets).err();
    }

    /// Ends the octets: what the stages held back follows. The facts of the header section are known after this.
    pub fn complete(&mut self) -> &HeaderFacts {
        let octets = self.stages.finish();
        self.octets += octets.len() as u64;
        self.is_ascii &= octets.is_ascii();
        self.scanner.write(octets);
        if let Some(signature) = &mut self.signature {
            signature.write(octets);
        }
        if self.failure.is_none() && !octets.is_empty() {
            self.failure = write_both(&mut *self.writer, &mut self.twin, octets).err();
        }
        self.scanner.close();
        self.scanner.facts()
    }

    /// What the header section says of the message; after [`complete`](Self::complete).
    pub fn facts(&self) -> &HeaderFacts {
        self.scanner.facts()
    }

    /// The size without what is put in front; after [`complete`](Self::complete).
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// What the rules for header fields did; after [`complete`](Self::complete).
    pub fn findings(&self) -> &Findings {
        self.stages.findings()
    }

    /// Whether [`sign`](Self::sign) has anything to do.
    pub fn is_to_be_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// DKIM-Signature fields for a message whose author is of this domain, to stand right above `added`, fields that are
    /// put in front of it and signed too. Empty where nothing is to be signed; after [`complete`](Self::complete).
    pub fn sign(&mut self, domain: &Domain, added: &str) -> Result<Vec<u8>, SignError> {
        self.signature.take().map_or(Ok(Vec::new()), |signature| signature.sign(domain, added, now()))
    }

    /// Stages the message with `prefix` in front of it.
    pub fn finish(self, prefix: &[u8]) -> Result<Staged, StoreError> {
        self.finish_both(prefix, b"").map(|(staged, _)| staged)
    }

    /// The same, and the second body, if there is one, with its own fields in front.
    pub fn finish_both(
        mut self,
        prefix: &[u8],
        twin_prefix: &[u8],
    ) -> Result<(Staged, Option<StagedBody>), StoreError> {
        self.complete();
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let twin = match self.twin.take() {
            // It is only ever sent on from the queue; nobody asks for its digest.
            Some(twin) => Some(twin.finish(twin_prefix, Vec::new())?),
            None => None,
        };
        let tls_optional = self.scanner.facts().tls_optional;
        let digest = self.scanner.finish(prefix);
        let message_id =
            digest.envelope.message_id.as_ref().map(|id| mail::text::one_line(&String::from_utf8_lossy(id)));
        let body = self.writer.finish(prefix, digest.encode())?;
        let traits = Traits { is_ascii: self.is_ascii && prefix.is_ascii(), tls_optional };
        Ok((Staged { body, message_id, traits }, twin))
    }
}

fn write_both(
    writer: &mut dyn BodyWriter,
    twin: &mut Option<Box<dyn BodyWriter>>,
    octets: &[u8],
) -> Result<(), StoreError> {
    writer.write(octets)?;
    twin.as_mut().map_or(Ok(()), |twin| twin.write(octets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use directory::Settings;
    use mail::{Address, Change, MailboxRef};
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
        let body = intake.finish(prefix).unwrap().body;
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

    #[tokio::test]
    async fn r150_r152_submitted_mail_goes_by_the_rules_and_no_other_does() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(Options { sync: false, ..Options::new(folder.path()) }).unwrap();
        let rules = message::header_rules::PRIVACY_RULES.as_bytes();
        let rules = message::header_rules::HeaderRules::read(std::path::Path::new("rules"), rules).unwrap();
        let submission = Submission { rules: std::sync::Arc::new(rules), keeps_bcc: false };
        let text = b"Return-Path: <x@y.example>\r\nFrom: A <a@x.example>\r\nX-Mailer:\r\n t\r\nbcc: c@y.example\r\nno field\r\n";
        let take = |mut intake: Intake| {
            text.chunks(3).for_each(|piece| intake.write(piece));
            intake.complete();
            intake
        };

        let submitted = take(Intake::from_submitter(&store, &submission).unwrap());
        assert_eq!(submitted.findings().deeds.iter().map(|deed| deed.line).collect::<Vec<_>>(), [Some(3)]);
        let authors = message::submission::authors(submitted.facts(), Default::default()).unwrap();
        assert_eq!(authors.from, [Address::parse("a@x.example").unwrap()]);
        assert_eq!((submitted.facts().date_fields, submitted.facts().message_id_fields), (0, 0));
        assert_eq!(stored(&store, submitted, b"").await, "From: A <a@x.example>\r\n\r\nno field\r\n");

        let keeps_bcc = Submission { keeps_bcc: true, ..Submission::default() };
        let submitted = take(Intake::from_submitter(&store, &keeps_bcc).unwrap());
        let from_peer = take(Intake::from_peer(&store).unwrap());
        assert_eq!(from_peer.findings(), submitted.findings());
        let expected = "From: A <a@x.example>\r\nX-Mailer:\r\n t\r\nbcc: c@y.example\r\n\r\nno field\r\n";
        assert_eq!(stored(&store, submitted, b"").await, expected);
        assert_eq!(stored(&store, from_peer, b"").await, expected);
    }
}
