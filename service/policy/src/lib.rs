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
use dns::Lookup;
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

/// A question with what the tables say of the recipient: looked up once, so that no change of a table comes between two
/// checks.
pub(crate) struct Case<'a> {
    pub(crate) question: Question<'a>,
    pub(crate) class: DomainClass,
    pub(crate) routes: Result<Vec<Route>, RouteError>,
}

/// The checks of a listener.
pub struct Policy {
    directory: Arc<Directory>,
    store: Arc<dyn MailStore>,
    checks: Vec<CheckName>,
    /// `None`: checks that ask the domain name system pass.
    lookup: Option<Arc<dyn Lookup>>,
}

/// A recipient that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Where it goes: at least one route.
    pub routes: Vec<Route>,
    /// What the checks want done with the message.
    pub effects: Vec<Effect>,
}

/// A recipient that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The check that decided; `None`: what holds for every recipient.
    pub by: Option<CheckName>,
    /// What the client hears.
    pub reply: Reply,
}

impl Policy {
    /// The checks, in order, over these tables and this store.
    pub fn new(directory: Arc<Directory>, store: Arc<dyn MailStore>, checks: Vec<CheckName>) -> Policy {
        Policy { directory, store, checks, lookup: None }
    }

    /// The same checks, with someone to ask about domains.
    pub fn with_lookup(self, lookup: Arc<dyn Lookup>) -> Policy {
        Policy { lookup: Some(lookup), ..self }
    }

    /// Decides on a recipient: where it goes, or the reply that refuses it and the check that gave it.
    pub async fn recipient(&self, question: Question<'_>) -> Result<Taken, Refused> {
        let address = &question.recipient.address;
        let class = self.directory.class_of(&address.domain);
        let case = Case { question, class, routes: self.directory.route(address) };
        let findings = self.run(&case).await;
        for finding in &findings.all {
            tracing::debug!(check = finding.check.name(), verdict = ?finding.verdict, evidence = %finding.evidence, "check");
        }
        if let Some((check, reply)) = findings.refusal() {
            metrics::counter!("policy_refusals_total", "check" => check.name()).increment(1);
            return Err(Refused { by: Some(check), reply });
        }
        let routes = self.house_rules(case).await.map_err(|reply| {
            metrics::counter!("policy_refusals_total", "check" => "house_rules").increment(1);
            Refused { by: None, reply }
        })?;
        Ok(Taken { routes, effects: findings.effects() })
    }

    async fn run(&self, case: &Case<'_>) -> Findings {
        let mut findings = Findings::default();
        for check in &self.checks {
            let finding = checks::judge(*check, self, case).await;
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
    ///
    /// Whatever the list of checks says, only trusted and authenticated clients send to the outside (R110).
    async fn house_rules(&self, case: Case<'_>) -> Result<Vec<Route>, Reply> {
        let Question { client, envelope, recipient } = case.question;
        let may_send_anywhere = client.trusted || client.account.is_some();
        let routes = match case.routes {
            Err(RouteError::NotOurs) if may_send_anywhere => vec![Route::Outside(recipient.address.clone())],
            routes => routes.map_err(|error| refused(&recipient.address, error))?,
        };
        for route in &routes {
            match route {
                Route::Mailbox(account) => self.room(account, recipient, envelope).await?,
                Route::Relay(_) | Route::Outside(_) => {}
            }
        }
        Ok(routes)
    }

    /// Where mail for an address goes, also out of the house, whoever sends it.
    pub fn way(&self, address: &Address) -> Result<Vec<Route>, Reply> {
        self.directory.way(address).map_err(|error| refused(address, error))
    }

    /// Where an address of ours leads, or the reply of R108 and R109.
    pub fn route(&self, address: &Address) -> Result<Vec<Route>, Reply> {
        self.directory.route(address).map_err(|error| refused(address, error))
    }

    /// R81 and R82: a full mailbox is refused in the dialogue, also behind an alias.
    async fn room(&self, account: &AccountName, recipient: &Recipient, envelope: &Envelope) -> Result<(), Reply> {
        let address = &recipient.address;
        match self.has_room(account, envelope).await {
            Some(true) => Ok(()),
            Some(false) => Err(mailbox_full(address)),
            None => Err(lookup_failure(address)),
        }
    }

    /// Whether an account has room for a message of the declared size; `None` when the store cannot tell.
    pub async fn has_room(&self, account: &AccountName, envelope: &Envelope) -> Option<bool> {
        let usage = self.store.usage(account).await.ok()?;
        // R80: without a declared size only a mailbox that is full already is refused.
        let octets = envelope.declared_size_octets.unwrap_or(1);
        Some(self.directory.quota(account).admits(usage, octets, 1))
    }

    /// Answers VRFY (R96): as for a recipient, but without trying its mailbox.
    pub fn verify(&self, address: &Address) -> Reply {
        match self.directory.class_of(&address.domain) {
            DomainClass::Other => relay_denied(address),
            DomainClass::Relay | DomainClass::Hosted => match self.route(address) {
                Ok(_) => Reply::new(252, EnhancedStatus::new(2, 0, 0), address.to_string()),
                Err(reply) => reply,
            },
        }
    }
}

/// Why an address leads nowhere.
fn refused(address: &Address, error: RouteError) -> Reply {
    match error {
        RouteError::UnknownUser => unknown_user(address),
        RouteError::NotOurs => relay_denied(address),
        RouteError::UnknownRelayRecipient => unknown_relay_recipient(address),
        RouteError::LoopOrTooDeep => {
            let text = format!("<{address}>: aliases are nested too deep or lead in a circle");
            Reply::new(451, EnhancedStatus::new(4, 3, 5), text)
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

/// R81.
fn mailbox_full(address: &Address) -> Reply {
    Reply::new(522, EnhancedStatus::new(5, 2, 2), format!("<{address}>: Recipient address rejected: Mailbox is full"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use directory::Settings;
    use mail::{Change, Commit, FlagSet, Group, InternalDate, MailboxName, MailboxRef, Quota, ReversePath};
    use store::embedded::{EmbeddedStore, Options};

    const ACCOUNTS: &str = "brian@example.net:{PLAIN}b::::::\nnotbrian@example.net:{PLAIN}n::::::\n\
                            barred@example.net:{PLAIN}b::::::\n\
                            full@example.net:{PLAIN}f::::::userdb_quota_rule=*:bytes=5\n\
                            tight@example.net:{PLAIN}t::::::userdb_quota_rule=*:bytes=1000\n\
                            trusty@example.net:{PLAIN}t::::::\n";
    const SENDERS: &str = "brian@example.net brian@example.net\nnotbrian@example.net notbrian@example.net\n\
                           info@example.net brian@example.net, notbrian@example.net\n";
    const ALIASES: &str = "info@example.net brian@example.net,full@example.net\naway@example.net x@elsewhere.example\n\
                           loop@example.net pool@example.net\npool@example.net loop@example.net\n\
                           forward@example.net nobody@example.com\n";
    const RECIPIENT_ACCESS: &str = "barred@example.net REJECT no mail to the barred\nfull@example.net REJECT full and listed\n\
                                    nobody@example.net REJECT\nlocalhost REJECT\nelsewhere.example REJECT\n\
                                    later@example.net 451 4.7.9 come back\n";

    /// A house in a folder, gone with it.
    struct World {
        _folder: tempfile::TempDir,
        policy: Policy,
    }

    async fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("accounts", ACCOUNTS),
            ("domains", "example.net\nintranet\n"),
            ("relay_domains", "example.com\n"),
            ("relay_recipients", "known@example.com yes\n"),
            ("senders", SENDERS),
            ("aliases", ALIASES),
            ("sasl_access", "notbrian@example.net REJECT\ntrusty@example.net OK\n"),
            ("recipient_access", RECIPIENT_ACCESS),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let directory = Arc::new(Directory::open(Settings::in_folder(folder.path())).unwrap());
        let options = Options { sync: false, ..Options::new(folder.path().join("mail")) };
        let store = Arc::new(EmbeddedStore::open(options).unwrap());
        fill(&store, "full@example.net").await;
        World { policy: Policy::new(directory, store, CheckName::GUIDE.to_vec()), _folder: folder }
    }

    /// Puts ten octets into an INBOX.
    async fn fill(store: &EmbeddedStore, account: &str) {
        let mut writer = store.stage().unwrap();
        writer.write(b"0123456789").unwrap();
        let body = writer.finish(b"", Vec::new()).unwrap();
        let change = Change::Append {
            mailbox: MailboxRef::Named(MailboxName::inbox()),
            body: body.id,
            flags: FlagSet::default(),
            internal_date: InternalDate { unix_seconds: 0, zone_minutes: 0 },
        };
        let group = Group { account: name(account), changes: vec![change], quota: Quota::default() };
        assert!(
            store.commit(Commit { groups: vec![group], together: true, ..Commit::default() }).await.unwrap()[0].is_ok()
        );
    }

    fn name(text: &str) -> AccountName {
        AccountName::parse(text).unwrap()
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    /// A client of a listener with authentication, neither trusted nor logged in.
    fn stranger() -> Client {
        Client {
            address: Some("192.0.2.1".parse().unwrap()),
            trusted: false,
            authentication_offered: true,
            account: None,
        }
    }

    fn logged_in(account: &str) -> Client {
        Client { account: Some(name(account)), ..stranger() }
    }

    fn from(reverse_path: &str) -> Envelope {
        let path = match reverse_path {
            "" => ReversePath::Null,
            text => ReversePath::Address(address(text)),
        };
        Envelope::new(path)
    }

    impl World {
        async fn ask(&self, client: &Client, envelope: &Envelope, recipient: &str) -> Result<Taken, String> {
            let recipient = Recipient::new(address(recipient));
            let question = Question { client, envelope, recipient: &recipient };
            self.policy.recipient(question).await.map_err(|refused| refused.reply.to_string())
        }

        async fn refusal(&self, client: &Client, reverse_path: &str, recipient: &str) -> String {
            self.ask(client, &from(reverse_path), recipient).await.unwrap_err()
        }

        async fn is_taken(&self, client: &Client, reverse_path: &str, recipient: &str) -> bool {
            self.ask(client, &from(reverse_path), recipient).await.is_ok()
        }
    }

    /// Each case violates the rules behind the one that decides as well, as far as they can be.
    #[tokio::test]
    async fn r106_the_first_decisive_check_wins() {
        let world = world().await;
        let brian = "brian@example.net";
        let trusted = Client { trusted: true, ..logged_in("notbrian@example.net") };
        assert!(world.is_taken(&trusted, brian, "barred@example.net").await, "R107, R137");
        assert_eq!(
            world.refusal(&logged_in("notbrian@example.net"), brian, "nobody@example.net").await,
            "554 5.7.1 <notbrian@example.net>: SASL login name rejected: Access denied"
        );
        assert!(
            world.is_taken(&logged_in("trusty@example.net"), brian, "barred@example.net").await,
            "R141: OK accepts"
        );
        assert_eq!(
            world.refusal(&logged_in(brian), "notbrian@example.net", "nobody@example.net").await,
            "553 5.7.1 <notbrian@example.net>: Sender address rejected: not owned by user brian@example.net"
        );
        assert!(world.is_taken(&logged_in(brian), brian, "barred@example.net").await, "R127");
        let out = "you@elsewhere.example";
        assert_eq!(
            world.refusal(&stranger(), out, "nobody@example.net").await,
            "550 5.1.1 <nobody@example.net>: Recipient address rejected: User unknown in virtual mailbox table"
        );
        assert!(world.refusal(&stranger(), out, "nobody@intranet").await.starts_with("550 5.1.1 "));
        assert_eq!(
            world.refusal(&stranger(), out, "brian@localhost").await,
            "504 5.5.2 <brian@localhost>: Recipient address rejected: need fully-qualified address"
        );
        assert_eq!(
            world.refusal(&stranger(), out, "x@elsewhere.example").await,
            "554 5.7.1 <x@elsewhere.example>: Relay access denied"
        );
        assert_eq!(
            world.refusal(&stranger(), out, "full@example.net").await,
            "554 5.7.1 <full@example.net>: Recipient address rejected: full and listed"
        );
        assert!(world.is_taken(&stranger(), out, "brian@example.net").await);
    }

    /// R108: a recipient that does not exist is refused to everybody; R82, R83: so is one that is full.
    #[tokio::test]
    async fn what_holds_for_everybody_holds_for_the_permitted() {
        let world = world().await;
        let trusted = Client { trusted: true, ..stranger() };
        let brian = logged_in("brian@example.net");
        for client in [&trusted, &brian] {
            let reply = world.refusal(client, "brian@example.net", "nobody@example.net").await;
            assert!(reply.starts_with("550 5.1.1 <nobody@example.net>"), "{reply}");
            for full in ["full@example.net", "info@example.net"] {
                let reply = world.refusal(client, "brian@example.net", full).await;
                assert_eq!(reply, format!("522 5.2.2 <{full}>: Recipient address rejected: Mailbox is full"));
            }
            let out = world.ask(client, &from("brian@example.net"), "x@elsewhere.example").await.unwrap();
            assert_eq!(out.routes, [Route::Outside(address("x@elsewhere.example"))], "R107, R127");
        }
    }

    #[tokio::test]
    async fn r118_r144_addresses_that_lead_out_of_the_house() {
        let world = world().await;
        let refusal = async |recipient| world.refusal(&stranger(), "", recipient).await;
        let routes = async |recipient| world.ask(&stranger(), &from(""), recipient).await.unwrap().routes;
        assert_eq!(routes("away@example.net").await, [Route::Outside(address("x@elsewhere.example"))]);
        assert!(refusal("loop@example.net").await.starts_with("451 4.3.5 <loop@example.net>"));
        assert_eq!(routes("known@example.com").await, [Route::Relay(address("known@example.com"))]);
        let unknown =
            "550 5.1.1 <nobody@example.com>: Recipient address rejected: User unknown in relay recipient table";
        assert_eq!(refusal("nobody@example.com").await, unknown);
        assert!(refusal("forward@example.net").await.starts_with("550 5.1.1 "));
    }

    /// R110: even a list of checks without a guard relays for nobody but trusted and authenticated clients.
    #[tokio::test]
    async fn r110_no_list_of_checks_opens_the_relay() {
        let mut world = world().await;
        world.policy.checks = vec![CheckName::RejectNonFqdnRecipient];
        let refused = world.refusal(&stranger(), "you@elsewhere.example", "x@elsewhere.example").await;
        assert_eq!(refused, "554 5.7.1 <x@elsewhere.example>: Relay access denied");
        assert!(world.is_taken(&logged_in("brian@example.net"), "brian@example.net", "x@elsewhere.example").await);
    }

    /// R111.
    #[tokio::test]
    async fn r111_domains_that_cannot_get_mail_are_refused() {
        let mut world = world().await;
        let zone = "$secure\nexample.com MX 5 mx.example.com\nnull.example MX 0 .\nbare.example A 192.0.2.1\n\
                    text.example TXT \"x\"\nbroken.example SERVFAIL\n";
        world.policy.lookup = Some(Arc::new(dns::Zone::parse(zone).unwrap()));
        world.policy.checks = vec![CheckName::RejectUnknownRecipientDomain];
        let brian = logged_in("brian@example.net");
        let sender = from("brian@example.net");
        for taken in ["known@example.com", "x@bare.example", "brian@example.net"] {
            assert!(world.ask(&brian, &sender, taken).await.is_ok(), "{taken}");
        }
        for (refused, reply) in [
            ("x@null.example", "556 5.1.10 <x@null.example>: Recipient address rejected: Domain does not accept mail"),
            ("x@nx.example", "450 4.1.2 <x@nx.example>: Recipient address rejected: Domain not found"),
            ("x@text.example", "450 4.1.2 <x@text.example>: Recipient address rejected: Domain not found"),
            ("x@broken.example", "450 4.4.3 <x@broken.example>: Recipient address rejected: Temporary lookup failure"),
        ] {
            assert_eq!(world.ask(&brian, &sender, refused).await.unwrap_err(), reply);
        }
    }

    /// R131–R136.
    #[tokio::test]
    async fn who_may_use_a_reverse_path() {
        let world = world().await;
        let (brian, barred) = (logged_in("brian@example.net"), logged_in("barred@example.net"));
        let to = "brian@example.net";
        assert!(world.is_taken(&brian, "info@example.net", to).await);
        assert!(world.is_taken(&brian, "", to).await, "R134");
        assert!(world.refusal(&barred, "barred@example.net", to).await.contains("not owned by user barred"), "R132");
        assert!(world.refusal(&brian, "x@elsewhere.example", to).await.starts_with("553 "), "R132");
        assert_eq!(
            world.refusal(&stranger(), "brian@example.net", to).await,
            "553 5.7.1 <brian@example.net>: Sender address rejected: not logged in",
            "R135"
        );
        assert!(world.is_taken(&stranger(), "barred@example.net", to).await, "nobody owns it");
        let mx = Client { authentication_offered: false, ..stranger() };
        assert!(world.is_taken(&mx, "brian@example.net", to).await, "R136");
    }

    /// R80: a declared size counts; without one only a mailbox that is full already is refused.
    #[tokio::test]
    async fn r80_r81_the_declared_size_counts() {
        let world = world().await;
        let declared = |octets| Envelope { declared_size_octets: octets, ..from("") };
        let ask = async |octets, to| world.ask(&stranger(), &declared(octets), to).await;
        assert!(ask(None, "tight@example.net").await.is_ok());
        assert!(ask(Some(1_100), "tight@example.net").await.is_ok(), "R78: the grace");
        let reply = ask(Some(1_101), "tight@example.net").await.unwrap_err();
        assert_eq!(reply, "522 5.2.2 <tight@example.net>: Recipient address rejected: Mailbox is full");
        for octets in [None, Some(0), Some(1)] {
            assert!(ask(octets, "info@example.net").await.unwrap_err().starts_with("522 "));
        }
    }

    /// R112, R113: what tables refuse, and for how long.
    #[tokio::test]
    async fn r113_tables_refuse_as_they_say() {
        let world = world().await;
        let reply = world.refusal(&stranger(), "", "barred@example.net").await;
        assert_eq!(reply, "554 5.7.1 <barred@example.net>: Recipient address rejected: no mail to the barred");
        let reply = world.refusal(&stranger(), "", "later@example.net").await;
        assert!(reply.starts_with("550 5.1.1"), "it must exist as well: {reply}");
    }

    /// R96: VRFY says what RCPT would, without looking into mailboxes.
    #[tokio::test]
    async fn r96_vrfy() {
        let world = world().await;
        let verify = |text| world.policy.verify(&address(text)).to_string();
        assert_eq!(verify("full@example.net"), "252 2.0.0 full@example.net");
        assert_eq!(verify("known@example.com"), "252 2.0.0 known@example.com");
        assert!(verify("nobody@example.com").starts_with("550 5.1.1 "));
        assert!(verify("nobody@example.net").starts_with("550 5.1.1 "));
        assert_eq!(verify("x@elsewhere.example"), "554 5.7.1 <x@elsewhere.example>: Relay access denied");
    }

    /// R114: a store that cannot answer defers.
    #[tokio::test]
    async fn r114_a_failure_to_look_up_defers() {
        let world = world().await;
        world.policy.store.close().await.unwrap();
        let reply = world.refusal(&stranger(), "", "brian@example.net").await;
        assert_eq!(reply, "451 4.3.0 <brian@example.net>: Recipient address rejected: Temporary lookup failure");
    }
}
