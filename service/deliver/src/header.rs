//! What a message's header section passes through on its way in, before it is scanned and stored.

use message::header_rules::{Findings, HeaderFilter, HeaderRules};
use message::repair::{HeaderRepair, Unwanted};
use message::submission::BLIND_FIELDS;
use std::sync::{Arc, LazyLock};

/// What is done to a submitted message, and not to one from another server (R150, R152).
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// The rules for its header fields.
    pub rules: Arc<HeaderRules>,
    /// Whether Bcc: fields stay. They are taken out unless wanted (RFC 5322 §3.6.3).
    pub keeps_bcc: bool,
}

/// Fields to take out of a submitted message.
static BLIND: LazyLock<Arc<Unwanted>> = LazyLock::new(|| {
    let names = BLIND_FIELDS.map(str::to_owned).to_vec();
    Arc::new(Unwanted { names, authserv_ids: Vec::new() })
});

/// The stages in their order: repair, then rules.
pub(crate) struct Stages {
    repair: Option<HeaderRepair>,
    filter: Option<HeaderFilter>,
    repaired: Vec<u8>,
    filtered: Vec<u8>,
    findings: Findings,
}

impl Stages {
    /// No stage: octets stay as they are.
    pub(crate) fn none() -> Stages {
        Stages { repair: None, filter: None, repaired: Vec::new(), filtered: Vec::new(), findings: Findings::default() }
    }

    /// For what other servers and clients send.
    pub(crate) fn of_peer() -> Stages {
        Stages { repair: Some(HeaderRepair::new(Arc::default())), ..Stages::none() }
    }

    /// For submitted messages.
    pub(crate) fn of_submitter(submission: &Submission) -> Stages {
        let unwanted = if submission.keeps_bcc { Arc::default() } else { Arc::clone(&BLIND) };
        Stages {
            repair: Some(HeaderRepair::new(unwanted)),
            filter: Some(HeaderFilter::new(Arc::clone(&submission.rules))),
            ..Stages::none()
        }
    }

    /// Takes the next octets; gives those that go on.
    pub(crate) fn write<'a>(&'a mut self, octets: &'a [u8]) -> &'a [u8] {
        let Stages { repair, filter, repaired, filtered, .. } = self;
        let octets = match repair {
            None => octets,
            Some(repair) => {
                repaired.clear();
                repaired.reserve(octets.len());
                repair.write(octets, repaired);
                repaired
            }
        };
        match filter {
            None => octets,
            Some(filter) => {
                filtered.clear();
                filter.write(octets, filtered);
                filtered
            }
        }
    }

    /// There are no more octets; gives those that were held back. A second call gives none.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.repaired.clear();
        if let Some(repair) = self.repair.take() {
            repair.finish(&mut self.repaired);
        }
        let Some(mut filter) = self.filter.take() else { return &self.repaired };
        self.filtered.clear();
        filter.write(&self.repaired, &mut self.filtered);
        self.findings = filter.finish(&mut self.filtered);
        self.repaired.clear();
        &self.filtered
    }

    /// What the rules did. Complete after [`finish`](Self::finish).
    pub(crate) fn findings(&self) -> &Findings {
        &self.findings
    }
}
