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
    Commit { groups: accounts(routes).into_iter().map(group).collect(), together }
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
