//! Policy: the ordered checks that decide what is taken, and the evidence they used.
//!
//! [`Policy::recipient`] is the story: the checks of a listener run in their configured order, the first decisive one
//! wins, and then what holds for everybody is looked at: the recipient exists, has room, and can be reached. A check that
//! cannot find out defers; it never accepts and never refuses for good (D5, R114).

mod check;
mod checks;
mod findings;

pub use check::{CheckError, CheckName, parse_checks};
pub use findings::{Effect, Finding, Findings, Verdict};

use directory::{Directory, DomainClass, Route, RouteError};
use mail::{AccountName, Address, EnhancedStatus, Envelope, Recipient, Reply};
use std::net::IpAddr;
use std::sync::Arc;
use store::MailStore;

/// What is known of the client that asks.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its address; `None` on a UNIX socket.
    pub address: Option<IpAddr>,
    /// Whether it belongs to a trusted network.
    pub trusted: bool,
    /// Whether the listener offers authentication. Checks of logins are without effect where it does not (R136).
    pub authentication_offered: bool,
    /// The account it authenticated as.
    pub account: Option<AccountName>,
}

/// A recipient in its transaction, as the checks see it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub client: &'a Client,
    /// The transaction so far, this recipient not included.
    pub envelope: &'a Envelope,
    /// The recipient.
    pub recipient: &'a Recipient,
}

/// The checks of a listener.
pub struct Policy {
    directory: Arc<Directory>,
    store: Arc<dyn MailStore>,
    checks: Vec<CheckName>,
}

/// A recipient that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Where it goes: at least one route.
    pub routes: Vec<Route>,
    /// What the checks want done with the message.
    pub effects: Vec<Effect>,
}

impl Policy {
    /// The checks, in order, over these tables and this store.
    pub fn new(directory: Arc<Directory>, store: Arc<dyn MailStore>, checks: Vec<CheckName>) -> Policy {
        Policy { directory, store, checks }
    }

    /// Decides on a recipient: where it goes, or the reply that refuses it.
    pub async fn recipient(&self, question: Question<'_>) -> Result<Taken, Reply> {
        let findings = self.run(question).await;
        for finding in &findings.all {
            tracing::debug!(check = finding.check.name(), verdict = ?finding.verdict, evidence = %finding.evidence, "check");
        }
        if let Some((check, reply)) = findings.refusal() {
            metrics::counter!("policy_refusals_total", "check" => check.name()).increment(1);
            return Err(reply);
        }
        let routes = self.house_rules(question.recipient, question.envelope).await?;
        Ok(Taken { routes, effects: findings.effects() })
    }

    async fn run(&self, question: Question<'_>) -> Findings {
        let mut findings = Findings::default();
        for check in &self.checks {
            let finding = checks::judge(*check, self, question).await;
            let decisive = finding.verdict.is_decisive();
            findings.all.push(finding);
            if decisive {
                break;
            }
        }
        findings
    }

    /// What holds for every recipient, permitted or not: a message is never taken that could not be delivered (R108; no
    /// bounce for what can be refused now).
    async fn house_rules(&self, recipient: &Recipient, envelope: &Envelope) -> Result<Vec<Route>, Reply> {
        let routes = self.route(&recipient.address)?;
        for route in &routes {
            match route {
                Route::Mailbox(account) => self.room(account, recipient, envelope).await?,
                Route::Relay(_) | Route::Outside(_) => return Err(cannot_send_yet(&recipient.address)),
            }
        }
        Ok(routes)
    }

    /// Where an address leads, or the reply of R108 and R109.
    pub fn route(&self, address: &Address) -> Result<Vec<Route>, Reply> {
        match self.directory.route(address) {
            Ok(routes) => Ok(routes),
            Err(RouteError::UnknownUser) => Err(unknown_user(address)),
            Err(RouteError::NotOurs) => Err(cannot_send_yet(address)),
            Err(RouteError::UnknownRelayRecipient) => Err(unknown_relay_recipient(address)),
            Err(RouteError::LoopOrTooDeep) => Err(Reply::new(
                451,
                EnhancedStatus::new(4, 3, 5),
                format!("<{address}>: aliases are nested too deep or lead in a circle"),
            )),
        }
    }

    /// R81 and R82: a full mailbox is refused in the dialogue, also behind an alias.
    async fn room(&self, account: &AccountName, recipient: &Recipient, envelope: &Envelope) -> Result<(), Reply> {
        let address = &recipient.address;
        let Ok(usage) = self.store.usage(account).await else { return Err(lookup_failure(address)) };
        // R80: without a declared size only a mailbox that is full already is refused.
        let octets = envelope.declared_size_octets.unwrap_or(1);
        if self.directory.quota(account).admits(usage, octets, 1) {
            return Ok(());
        }
        metrics::counter!("policy_refusals_total", "check" => "quota").increment(1);
        Err(Reply::new(
            522,
            EnhancedStatus::new(5, 2, 2),
            format!("<{address}>: Recipient address rejected: Mailbox is full"),
        ))
    }

    /// Answers VRFY (R96): as for a recipient, but without trying its mailbox.
    pub fn verify(&self, address: &Address) -> Reply {
        match self.directory.class_of(&address.domain) {
            DomainClass::Other => relay_denied(address),
            DomainClass::Relay => Reply::new(252, EnhancedStatus::new(2, 0, 0), address.to_string()),
            DomainClass::Hosted => match self.route(address) {
                Ok(_) => Reply::new(252, EnhancedStatus::new(2, 0, 0), address.to_string()),
                Err(reply) => reply,
            },
        }
    }
}

/// R108.
fn unknown_user(address: &Address) -> Reply {
    Reply::new(
        550,
        EnhancedStatus::new(5, 1, 1),
        format!("<{address}>: Recipient address rejected: User unknown in virtual mailbox table"),
    )
}

/// R147.
fn unknown_relay_recipient(address: &Address) -> Reply {
    let text = format!("<{address}>: Recipient address rejected: User unknown in relay recipient table");
    Reply::new(550, EnhancedStatus::new(5, 1, 1), text)
}

/// R110.
fn relay_denied(address: &Address) -> Reply {
    Reply::new(554, EnhancedStatus::new(5, 7, 1), format!("<{address}>: Relay access denied"))
}

/// R114.
fn lookup_failure(address: &Address) -> Reply {
    Reply::new(
        451,
        EnhancedStatus::new(4, 3, 0),
        format!("<{address}>: Recipient address rejected: Temporary lookup failure"),
    )
}

/// Mail for other servers has no way out yet; a temporary refusal keeps it with the sender.
fn cannot_send_yet(address: &Address) -> Reply {
    Reply::new(
        451,
        EnhancedStatus::new(4, 3, 2),
        format!("<{address}>: this server does not send to other hosts yet, try again later"),
    )
}
