//! The register itself: all tables together, followed through their changes, and the questions asked of it.
//!
//! A question sees one unchanging picture of all tables; a change of a file makes a new picture.

use crate::access::{Action, AddressAccess, LoginAccess};
use crate::accounts::Accounts;
use crate::domains::{Domains, Listing};
use crate::login::{Credential, prevailing_price};
use crate::maps::{Aliases, Listed, Senders, read_aliases, read_mailboxes, read_relay_recipients, read_senders};
use crate::names::Keyed;
use crate::password::Stored;
use crate::quota::QuotaDefaults;
use crate::route::{Route, RouteError};
use crate::table::{Finding, TableError};
use crate::transports::{NextHop, RelayLogin, RelayLogins, Transport, Transports};
use crate::watch::{CHECK_EVERY, Need, Refreshed, Watched};
use arc_swap::ArcSwap;
use mail::{AccountName, Address, Domain, LocalPart, Moment, Quota, ReversePath};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Makes [`Files`], the places of all tables, and [`Watch`], which follows them, from one list. [`Tables`], the picture that
/// questions see, names each table once more.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $content:ty, $need:ident, $read:expr;)*) => {
        /// Where the tables are. Accounts and domains must exist; what else is missing counts as empty.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Files {
            $($(#[$doc])* pub $name: PathBuf,)*
        }

        impl Files {
            /// The usual names in one folder: the fields' own.
            pub fn in_folder(folder: &Path) -> Files {
                Files { $($name: folder.join(stringify!($name)),)* }
            }
        }

        #[derive(Debug)]
        struct Watch {
            $($name: Watched<$content>,)*
        }

        impl Watch {
            fn open(files: &Files) -> Result<Watch, Vec<TableError>> {
                let mut errors = Vec::new();
                $(let $name = told(Watched::open(&files.$name, Need::$need, $read), &mut errors);)*
                match ($($name,)*) {
                    ($(Some($name),)*) => Ok(Watch { $($name,)* }),
                    _ => Err(errors),
                }
            }

            fn make_due(&mut self) {
                $(self.$name.make_due();)*
            }

            /// Whether any table is new, and what is to be said.
            fn check(&mut self, now: Moment) -> (bool, Vec<Finding>) {
                let mut changed = false;
                let mut findings = Vec::new();
                for result in [$(self.$name.check(now),)*] {
                    match result {
                        Refreshed::Same => {}
                        Refreshed::Replaced(new) => {
                            changed = true;
                            findings.extend(new);
                        }
                        Refreshed::Kept(error) => findings.push(error.into()),
                    }
                }
                (changed, findings)
            }

            /// Files that cannot be used as they are now.
            fn faults(&self) -> Vec<Finding> {
                [$(self.$name.fault(),)*].into_iter().flatten().cloned().map(Finding::from).collect()
            }

            fn findings(&self) -> Vec<Finding> {
                [$(self.$name.findings(),)*].concat()
            }
        }
    };
}

tables! {
    /// passwd-file.
    accounts: Accounts, Required, Accounts::read;
    /// Hosted domains, one a line.
    domains: Domains, Required, Domains::read;
    /// Domains we are backup for, one a line.
    relay_domains: Domains, Optional, Domains::read;
    /// `address recipient-exists` for relay domains; without the file every recipient there exists (R147).
    relay_recipients: Listed, Optional, read_relay_recipients;
    /// `address true`; without the file every account that can receive mail has its name as address.
    mailboxes: Listed, Optional, read_mailboxes;
    /// `address target[, target…]`.
    aliases: Aliases, Optional, read_aliases;
    /// `address login[, login…]`.
    senders: Senders, Optional, read_senders;
    /// `login ACTION text`.
    sasl_access: LoginAccess, Optional, LoginAccess::read;
    /// `recipient ACTION text`.
    recipient_access: AddressAccess, Optional, AddressAccess::read;
    /// `recipient transport`: ways out that differ from the usual one.
    transport: Transports, Optional, Transports::read;
    /// `reverse-path transport`: the same by who sends; `transport` comes first.
    sender_transport: Transports, Optional, Transports::read;
    /// `[host]:port login:password`: how we log in at next hops.
    relay_credentials: RelayLogins, Optional, RelayLogins::read;
}

/// What the administrator decides about the register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the tables are.
    pub files: Files,
    /// Domain of logins that give none; one that is not hosted, so that they match nobody (R36).
    pub default_realm: String,
    /// Sign before the detail of a local part; `None` for no details (R124).
    pub recipient_delimiter: Option<char>,
    /// Limits of accounts that have no own.
    pub quota: QuotaDefaults,
}

impl Settings {
    /// The usual settings for tables in one folder: realm `unknown`, no details, 1 GiB.
    pub fn in_folder(folder: &Path) -> Settings {
        Settings {
            files: Files::in_folder(folder),
            default_realm: "unknown".to_owned(),
            recipient_delimiter: None,
            quota: QuotaDefaults::default(),
        }
    }
}

/// What we are to a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DomainClass {
    /// Its mailboxes are here.
    Hosted,
    /// We take its mail and pass it on to its better exchangers.
    Relay,
    /// Nothing.
    Other,
}

/// The register. Cheap to share; every method takes `&self`.
#[derive(Debug)]
pub struct Directory {
    settings: Settings,
    tables: ArcSwap<Tables>,
    watch: Mutex<Watch>,
    check_at_nanoseconds: AtomicU64,
}

/// One picture of all tables.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) domains: Arc<Domains>,
    pub(crate) relay_domains: Arc<Domains>,
    pub(crate) relay_recipients: Option<Arc<Listed>>,
    pub(crate) mailboxes: Option<Arc<Listed>>,
    pub(crate) aliases: Arc<Aliases>,
    pub(crate) senders: Arc<Senders>,
    pub(crate) sasl_access: Arc<LoginAccess>,
    pub(crate) recipient_access: Arc<AddressAccess>,
    transport: Arc<Transports>,
    sender_transport: Arc<Transports>,
    relay_credentials: Arc<RelayLogins>,
    pub(crate) delimiter: Option<char>,
    decoy: Arc<Stored>,
}

impl Directory {
    /// Reads all tables. Every table that cannot be used is named.
    pub fn open(settings: Settings) -> Result<Directory, Vec<TableError>> {
        let watch = Watch::open(&settings.files)?;
        for finding in watch.findings() {
            log(&finding);
        }
        let tables = watch.tables(&settings);
        Ok(Directory {
            settings,
            tables: ArcSwap::from_pointee(tables),
            watch: Mutex::new(watch),
            check_at_nanoseconds: AtomicU64::new(0),
        })
    }

    /// Takes up changes of the files; looks at them at most once a second, and costs nothing in between. What is
    /// returned is new since the last call and has been logged. Call it before a question, or once a second.
    pub fn refresh(&self, now: Moment) -> Vec<Finding> {
        let nanoseconds = u64::try_from(now.0.as_nanos()).unwrap_or(u64::MAX);
        if nanoseconds < self.check_at_nanoseconds.load(Ordering::Relaxed) {
            return Vec::new();
        }
        // Who finds another at work uses the picture there is.
        let Ok(mut watch) = self.watch.try_lock() else { return Vec::new() };
        let next = nanoseconds.saturating_add(u64::try_from(CHECK_EVERY.as_nanos()).unwrap_or(u64::MAX));
        self.check_at_nanoseconds.store(next, Ordering::Relaxed);
        self.take_up(&mut watch, now)
    }

    /// Takes up changes of the files now, for an edit that was just made. Gives what is new, and what is still wrong:
    /// whoever asks for it wants to hear of a file that cannot be used, however long ago it was found.
    pub fn refresh_now(&self) -> Vec<Finding> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.make_due();
        let mut findings = self.take_up(&mut watch, Moment::default());
        let known: Vec<Finding> = watch.faults().into_iter().filter(|fault| !findings.contains(fault)).collect();
        findings.extend(known);
        findings
    }

    fn take_up(&self, watch: &mut Watch, now: Moment) -> Vec<Finding> {
        let (changed, findings) = watch.check(now);
        if changed {
            self.tables.store(Arc::new(watch.tables(&self.settings)));
        }
        for finding in &findings {
            log(finding);
        }
        findings
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What we are to a domain.
    pub fn class_of(&self, domain: &Domain) -> DomainClass {
        self.tables.load().class_of(domain)
    }

    /// Where mail for this address goes: aliases first, then mailboxes, then the address without its detail, then the
    /// domain's catch-all (R118, R119, R121, R122, R124). No route comes twice (R66).
    pub fn route(&self, address: &Address) -> Result<Vec<Route>, RouteError> {
        crate::route::route(&self.tables.load(), address)
    }

    /// The same for mail of ours and of accounts, which goes everywhere: what is not ours leads out of the house.
    pub fn way(&self, address: &Address) -> Result<Vec<Route>, RouteError> {
        match self.route(address) {
            Err(RouteError::NotOurs) => Ok(vec![Route::Outside(address.clone())]),
            found => found,
        }
    }

    /// The postmaster of the first hosted domain: whom `RCPT TO:<postmaster>` means (RFC 5321 §4.5.1).
    pub fn postmaster(&self) -> Option<Address> {
        let domain = self.tables.load().domains.first()?.clone();
        Some(Address { local: LocalPart::parse("postmaster").ok()?, domain })
    }

    /// What a login and its password will be judged by. Never fails: for a login that does not exist it is a decoy, so
    /// that judging it takes the usual time (R72). `authorization` is whom the client wants to act as; empty, or the
    /// login itself.
    pub fn credential(&self, login: &str, authorization: &str) -> Credential {
        let tables = self.tables.load();
        Credential::find(&tables.accounts, &tables.decoy, login, authorization, &self.settings.default_realm)
    }

    /// The account of this name, if mail can be delivered to it.
    pub fn receives(&self, account: &AccountName) -> bool {
        self.tables.load().accounts.get(account).is_some_and(|account| account.receives)
    }

    /// All accounts, sorted.
    pub fn accounts(&self) -> Vec<AccountName> {
        let mut names: Vec<AccountName> = self.tables.load().accounts.iter().map(|a| a.name.clone()).collect();
        names.sort();
        names
    }

    /// The limits of an account; the default for one that does not exist.
    pub fn quota(&self, account: &AccountName) -> Quota {
        let own = self.tables.load().accounts.get(account).map(|account| account.quota).unwrap_or_default();
        own.over(&self.settings.quota)
    }

    /// Whether an account may use a reverse-path: the first entry found for the address, else for its domain, lists
    /// it (R131, R133). There is no implicit right to one's own address (R132). The null reverse-path is free (R134).
    pub fn may_send_as(&self, login: &AccountName, reverse_path: &ReversePath) -> bool {
        match reverse_path {
            ReversePath::Null => true,
            ReversePath::Address(address) => {
                self.tables.load().logins_of(address).is_some_and(|logins| logins.contains(login))
            }
        }
    }

    /// Whether somebody is listed for an address, so that nobody may use it without logging in (R135).
    pub fn sender_owned(&self, address: &Address) -> bool {
        self.tables.load().logins_of(address).is_some()
    }

    /// What the table of logins says (R139–R142).
    pub fn sasl_access(&self, login: &AccountName) -> Option<Action> {
        self.tables.load().sasl_access.find(login).cloned()
    }

    /// What the table of recipients says (R112).
    pub fn recipient_access(&self, address: &Address) -> Option<Action> {
        self.tables.load().recipient_access.find(address).cloned()
    }

    /// How mail for a recipient from a reverse-path (as text, empty for the null one) leaves, if a table says so.
    pub fn transport(&self, recipient: &Address, sender: &str) -> Option<Transport> {
        let tables = self.tables.load();
        let by_sender = || tables.sender_transport.find(&Address::parse(sender).ok()?);
        tables.transport.find(recipient).or_else(by_sender).cloned()
    }

    /// How we log in at a next hop.
    pub fn relay_login(&self, hop: &NextHop) -> Option<RelayLogin> {
        self.tables.load().relay_credentials.find(hop).cloned()
    }

    /// Everything that looks wrong in and between the tables as they are used now.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = self.watch.lock().unwrap_or_else(PoisonError::into_inner).findings();
        findings.extend(crate::lint::lint(&self.settings, &self.tables.load()));
        findings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        findings
    }
}

/// One picture of the tables as they are on disk now.
pub(crate) fn tables_of(settings: &Settings) -> Result<Tables, Vec<TableError>> {
    Ok(Watch::open(&settings.files)?.tables(settings))
}

impl Tables {
    /// An entry by full name beats one by `.parent`, and a closer parent a farther one; hosted beats relay.
    pub(crate) fn class_of(&self, domain: &Domain) -> DomainClass {
        match (self.domains.listing(domain), self.relay_domains.listing(domain)) {
            (None, None) => DomainClass::Other,
            (Some(_), None) | (Some(Listing::Itself), Some(_)) => DomainClass::Hosted,
            (None, Some(_)) | (Some(Listing::Below(_)), Some(Listing::Itself)) => DomainClass::Relay,
            (Some(Listing::Below(hosted)), Some(Listing::Below(relay))) => {
                if hosted >= relay {
                    DomainClass::Hosted
                } else {
                    DomainClass::Relay
                }
            }
        }
    }

    /// The account whose mailboxes an address means, by its own name.
    pub(crate) fn mailbox_of(&self, address: &Keyed<'_>) -> Option<&AccountName> {
        let account = self.accounts.of_address(address)?;
        let listed = self.mailboxes.as_ref().is_none_or(|mailboxes| mailboxes.exact(address, None).is_some());
        (listed && account.receives).then_some(&account.name)
    }

    /// Whether an address is declared as a mailbox, with or without an account behind it.
    pub(crate) fn is_mailbox_address(&self, address: &Keyed<'_>) -> bool {
        match &self.mailboxes {
            Some(mailboxes) => mailboxes.exact(address, None).is_some(),
            None => self.mailbox_of(address).is_some(),
        }
    }

    fn logins_of(&self, address: &Address) -> Option<&[AccountName]> {
        self.senders.find(address, self.domains.first(), self.delimiter).map(|kept| kept.value.as_slice())
    }
}

impl Watch {
    fn tables(&self, settings: &Settings) -> Tables {
        let if_present = |table: &Watched<Listed>| table.is_present().then(|| table.content().clone());
        Tables {
            accounts: self.accounts.content().clone(),
            domains: self.domains.content().clone(),
            relay_domains: self.relay_domains.content().clone(),
            relay_recipients: if_present(&self.relay_recipients),
            mailboxes: if_present(&self.mailboxes),
            aliases: self.aliases.content().clone(),
            senders: self.senders.content().clone(),
            sasl_access: self.sasl_access.content().clone(),
            recipient_access: self.recipient_access.content().clone(),
            transport: self.transport.content().clone(),
            sender_transport: self.sender_transport.content().clone(),
            relay_credentials: self.relay_credentials.content().clone(),
            delimiter: settings.recipient_delimiter,
            decoy: Arc::new(Stored::decoy(prevailing_price(self.accounts.content()))),
        }
    }
}

fn told<T>(result: Result<T, TableError>, errors: &mut Vec<TableError>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

fn log(finding: &Finding) {
    let Finding { severity, file, line, cause, cure } = finding;
    tracing::warn!(?severity, file = %file.display(), line, cause, cure, "table");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Severity;
    use crate::testing::Folder;
    use mail::Secret;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    const ALIASES: &str = "info@example.net         brian@example.net,notbrian@example.net\n\
                           info@another-example.com notbrian@example.net\n\
                           \n\
                           abuse@example.net        brian@example.net\n\
                           webmaster@example.net    brian@example.net\n\
                           postmaster@example.net   brian@example.net\n";

    /// The guide's tables.
    fn guide() -> Folder {
        let folder = Folder::new();
        folder.write("accounts", "brian@example.net:{PLAIN}b::::::\nnotbrian@example.net:{PLAIN}n::::::\n");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(folder.path("accounts"), private).unwrap();
        folder.write("domains", "example.net\nanother-example.com\n");
        folder.write("relay_domains", "notexample.net\nexample.com\nexample.org\n");
        folder.write("mailboxes", "brian@example.net true\nnotbrian@example.net true\n");
        folder.write("aliases", ALIASES);
        folder.write(
            "senders",
            "brian@example.net     brian@example.net\nnotbrian@example.net  notbrian@example.net\n\
             info@example.net      brian@example.net, notbrian@example.net\n",
        );
        folder
    }

    fn open(folder: &Folder) -> Directory {
        Directory::open(Settings::in_folder(folder.root())).unwrap()
    }

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn account(text: &str) -> AccountName {
        AccountName::parse(text).unwrap()
    }

    /// Routes in words: account names, `relay:address`, `outside:address`, or the error.
    fn routes(directory: &Directory, text: &str) -> String {
        match directory.route(&address(text)) {
            Err(error) => format!("{error:?}"),
            Ok(routes) => {
                let word = |route: &Route| match route {
                    Route::Mailbox(name) => name.to_string(),
                    Route::Relay(address) => format!("relay:{address}"),
                    Route::Outside(address) => format!("outside:{address}"),
                };
                routes.iter().map(word).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn r108_r115_r116_r118_r120_the_guides_recipients() {
        let directory = open(&guide());
        for (recipient, expected) in [
            ("brian@example.net", "brian@example.net"),
            ("BRIAN@EXAMPLE.NET", "brian@example.net"),
            ("info@example.net", "brian@example.net notbrian@example.net"),
            ("Info@another-example.com", "notbrian@example.net"),
            ("postmaster@example.net", "brian@example.net"),
            ("nobody@example.net", "UnknownUser"),
            ("x@another-example.com", "UnknownUser"),
            ("brian+x@example.net", "UnknownUser"),
            ("\"brian@example.net\"@example.net", "UnknownUser"),
            ("x@sub.example.net", "NotOurs"),
            ("x@elsewhere.test", "NotOurs"),
            ("x@[192.0.2.1]", "NotOurs"),
            ("any@notexample.net", "relay:any@notexample.net"),
        ] {
            assert_eq!(routes(&directory, recipient), expected, "{recipient}");
        }
        assert_eq!(directory.postmaster(), Some(address("postmaster@example.net")));
        assert_eq!(directory.class_of(&Domain::parse("EXAMPLE.org").unwrap()), DomainClass::Relay);
    }

    #[test]
    fn r66_r119_r121_r122_order_of_aliases_mailboxes_and_catch_all() {
        let folder = guide();
        for catch_all in ["*@example.net", "@example.net"] {
            folder.write("aliases", &format!("{ALIASES}{catch_all} notbrian@example.net\n"));
            let directory = open(&folder);
            assert_eq!(routes(&directory, "whatever123@example.net"), "notbrian@example.net");
            assert_eq!(routes(&directory, "brian@example.net"), "brian@example.net");
            assert_eq!(routes(&directory, "x@another-example.com"), "UnknownUser");
        }
        folder.write("aliases", "brian@example.net notbrian@example.net\nall@example.net info@example.net, brian@example.net\ninfo@example.net brian@example.net notbrian@example.net\n");
        let directory = open(&folder);
        assert_eq!(routes(&directory, "brian@example.net"), "notbrian@example.net");
        assert_eq!(routes(&directory, "all@example.net"), "notbrian@example.net");
    }

    #[test]
    fn r118_aliases_to_themselves_in_circles_and_to_the_outside() {
        let folder = guide();
        let mut chain = String::new();
        for number in 0..60 {
            chain.push_str(&format!("c{number}@example.net c{}@example.net\n", number + 1));
        }
        let wide: Vec<String> = (0..1_000).map(|number| format!("w{number}@example.org")).collect();
        folder.write(
            "aliases",
            &format!(
                "brian@example.net brian@example.net, friend@elsewhere.test\n\
                 a@example.net b@example.net\nb@example.net a@example.net\n\
                 c@example.net d@example.net\nd@example.net c@example.net, notbrian@example.net\n\
                 half@example.net ghost@example.net notbrian@example.net\n\
                 ghosts@example.net ghost@example.net\n\
                 backup@example.net x@example.org\n\
                 root notbrian\n\
                 @another-example.com @example.net\n\
                 wide@example.net {}\n{chain}",
                wide.join(", ")
            ),
        );
        let directory = open(&folder);
        for (recipient, expected) in [
            ("brian@example.net", "brian@example.net outside:friend@elsewhere.test"),
            ("a@example.net", "LoopOrTooDeep"),
            ("c@example.net", "notbrian@example.net"),
            ("c0@example.net", "LoopOrTooDeep"),
            ("c30@example.net", "UnknownUser"),
            ("wide@example.net", "LoopOrTooDeep"),
            ("half@example.net", "notbrian@example.net"),
            ("ghosts@example.net", "UnknownUser"),
            ("backup@example.net", "relay:x@example.org"),
            ("root@example.net", "notbrian@example.net"),
            ("notbrian@another-example.com", "notbrian@example.net"),
            ("ghost@another-example.com", "UnknownUser"),
        ] {
            assert_eq!(routes(&directory, recipient), expected, "{recipient}");
        }
    }

    #[test]
    fn r124_details_are_off_until_a_delimiter_is_set() {
        let folder = guide();
        folder.write("aliases", "sales@example.net brian@example.net\nbrian+lists@example.net notbrian@example.net\n");
        let mut settings = Settings::in_folder(folder.root());
        settings.recipient_delimiter = Some('+');
        let directory = Directory::open(settings).unwrap();
        assert_eq!(routes(&directory, "Brian+x+y@example.net"), "brian@example.net");
        assert_eq!(routes(&directory, "brian+lists@example.net"), "notbrian@example.net");
        assert_eq!(routes(&directory, "sales+2@example.net"), "brian@example.net");
        assert_eq!(routes(&directory, "+x@example.net"), "UnknownUser");
        assert!(
            directory.may_send_as(&account("brian@example.net"), &ReversePath::Address(address("brian+x@example.net")))
        );
    }

    #[test]
    fn r26_r116_r117_addresses_need_mailbox_and_account() {
        let folder = guide();
        folder.write("mailboxes", "brian@example.net true\nghost@example.net true\nauth@example.net true\n");
        folder.write("aliases", "@example.net brian@example.net\n");
        folder.write(
            "accounts",
            "brian@example.net:{PLAIN}b::::::\nauth@example.net:{PLAIN}a\nsecond@example.net:{PLAIN}s::::::nologin\n",
        );
        let directory = open(&folder);
        for (recipient, expected) in [
            ("brian@example.net", "brian@example.net"),
            ("ghost@example.net", "UnknownUser"),
            ("auth@example.net", "UnknownUser"),
            ("second@example.net", "brian@example.net"),
        ] {
            assert_eq!(routes(&directory, recipient), expected, "{recipient}");
        }
        std::fs::remove_file(folder.path("mailboxes")).unwrap();
        let directory = open(&folder);
        assert_eq!(routes(&directory, "second@example.net"), "second@example.net", "R192: disabled, but receives");
        assert_eq!(routes(&directory, "auth@example.net"), "brian@example.net");
    }

    #[test]
    fn r145_r147_relay_domains_below_and_their_recipients() {
        let folder = guide();
        folder.write("relay_domains", "notexample.net\n.example.org\n");
        folder.write("relay_recipients", "known@notexample.net x\n@sub.example.org x\n");
        let directory = open(&folder);
        for (recipient, expected) in [
            ("known@notexample.net", "relay:known@notexample.net"),
            ("x@notexample.net", "UnknownRelayRecipient"),
            ("x@sub.example.org", "relay:x@sub.example.org"),
            ("x@example.org", "NotOurs"),
        ] {
            assert_eq!(routes(&directory, recipient), expected, "{recipient}");
        }
    }

    #[test]
    fn r131_to_r135_who_may_send_as_whom() {
        let folder = guide();
        let text = folder.read("senders");
        folder.write(
            "senders",
            &format!("{text}@another-example.com brian@example.net\nonly@another-example.com notbrian@example.net\n"),
        );
        let directory = open(&folder);
        let may =
            |login: &str, path: &str| directory.may_send_as(&account(login), &ReversePath::Address(address(path)));
        assert!(may("brian@example.net", "brian@example.net") && may("BRIAN@example.net", "Brian@EXAMPLE.net"));
        assert!(!may("brian@example.net", "notbrian@example.net"));
        assert!(may("brian@example.net", "info@example.net") && may("notbrian@example.net", "info@example.net"));
        assert!(may("brian@example.net", "any@another-example.com"));
        assert!(!may("brian@example.net", "only@another-example.com"), "the address's own entry decides");
        assert!(!may("brian@example.net", "x@elsewhere.test"));
        assert!(directory.may_send_as(&account("brian@example.net"), &ReversePath::Null));
        assert!(
            directory.sender_owned(&address("info@example.net")) && !directory.sender_owned(&address("x@example.net"))
        );
        folder.write("senders", "");
        assert!(
            !open(&folder)
                .may_send_as(&account("brian@example.net"), &ReversePath::Address(address("brian@example.net")))
        );
    }

    #[test]
    fn r29_r34_r142_r193_edits_take_effect_and_broken_ones_do_not() {
        let folder = guide();
        let directory = open(&folder);
        let login =
            |name: &str, password: &str| directory.credential(name, "").verify(&Secret::new(password.into())).is_ok();
        assert!(login("brian@example.net", "b") && !login("new@example.net", "n"));
        folder.write("accounts", "brian@example.net:{PLAIN}changed::::::\nnew@example.net:{PLAIN}n::::::\n");
        folder.write("sasl_access", "brian@example.net REJECT stolen\n");
        assert!(directory.refresh(at(1)).is_empty());
        assert!(
            !login("brian@example.net", "b") && login("brian@example.net", "changed") && login("new@example.net", "n")
        );
        assert!(matches!(directory.sasl_access(&account("brian@example.net")), Some(Action::Reject(_))));
        folder.write("sasl_access", "brian@example.net HOLD\nnotbrian@example.net\n");
        let findings = directory.refresh(at(2));
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].line, findings[0].severity), (Some(2), Severity::Error));
        assert!(matches!(directory.sasl_access(&account("brian@example.net")), Some(Action::Reject(_))));
        assert!(directory.refresh(at(3)).is_empty(), "said once");
        folder.write("recipient_access", "example.org REJECT no mail to test domains\n");
        assert!(directory.refresh(at(3)).is_empty(), "not looked at twice in a second");
        assert!(directory.recipient_access(&address("x@example.org")).is_none());
        assert!(directory.refresh(at(4)).is_empty());
        assert!(directory.recipient_access(&address("x@example.org")).is_some());
    }

    #[test]
    fn r27_quotas_of_accounts() {
        let folder = guide();
        folder.write("accounts", "brian@example.net:{PLAIN}b::::::userdb_quota_rule=*:storage=2G\n");
        let directory = open(&folder);
        let quota = directory.quota(&account("brian@example.net"));
        assert_eq!((quota.octets_max, quota.grace_octets), (Some(2 << 30), (2 << 30) / 10));
        assert_eq!(directory.quota(&account("other@example.net")).octets_max, Some(1 << 30));
    }

    #[test]
    fn r196_every_broken_table_is_named_at_once() {
        let folder = guide();
        folder.write("aliases", "x\n");
        folder.write("senders", "a@b ../c\n");
        std::fs::remove_file(folder.path("domains")).unwrap();
        let errors = Directory::open(Settings::in_folder(folder.root())).unwrap_err();
        let names: Vec<_> = errors.iter().map(|error| error.file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["domains", "aliases", "senders"]);
    }

    #[test]
    fn r14_r115_r117_r120_r146_r196_check_finds_what_does_not_fit() {
        let folder = guide();
        let fine: Vec<String> = open(&folder).check().iter().map(|finding| finding.to_string()).collect();
        let expected = [
            "stored in clear",
            "stored in clear",
            "most passwords",
            "postmaster@another-example.com",
            "abuse@another-example.com",
        ];
        assert!(expected.iter().all(|part| fine.iter().any(|line| line.contains(part))), "{fine:#?}");
        assert_eq!(fine.len(), expected.len(), "{fine:#?}");
        folder.write("relay_domains", "# backup\nexample.net\n");
        folder.write("mailboxes", "brian@example.net true\nghost@example.net true\n");
        folder.write("aliases", &format!("{ALIASES}a@example.net b@example.net\nb@example.net a@example.net\nc@example.net none@example.net\nd@foreign.test brian@example.net\n"));
        folder.write("senders", "brian@example.net brian@example.net, gone@example.net\n");
        folder.write("sasl_access", "nobody@example.net HOLD\n");
        folder.write("accounts", "brian@example.net:{PLAIN}b::::::\nnotbrian@example.net:{PLAIN}n::::::\nx@foreign.test:{PLAIN}n::::::\nbare:{PLAIN}n::::::\n");
        std::fs::set_permissions(folder.path("accounts"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let found: Vec<String> = open(&folder).check().iter().map(|finding| finding.to_string()).collect();
        for part in [
            "relay_domains:2: example.net is hosted as well",
            "mailboxes:2: ghost@example.net has no account",
            "accounts: mode 644",
            "accounts:2: account notbrian@example.net has no line in the mailboxes",
            "accounts:2: account notbrian@example.net may not send as itself",
            "accounts:3: account x@foreign.test is of a domain that is not hosted",
            "accounts:4: account bare has no domain",
            "aliases:7: alias a@example.net runs in a circle",
            "aliases:9: alias c@example.net points to none@example.net, which does not exist",
            "aliases:10: alias d@foreign.test stands for a domain",
            "aliases:1: alias info@example.net points to notbrian@example.net, which does not exist",
            "senders:1: brian@example.net lists the login gone@example.net",
            "sasl_access:1: the login nobody@example.net does not exist",
        ] {
            assert!(found.iter().any(|line| line.contains(part)), "{part}\n{found:#?}");
        }
    }

    #[test]
    fn v12_v15_v55_hostile_recipients_are_unknown() {
        let folder = guide();
        folder.write("aliases", "");
        let directory = open(&folder);
        for local in [
            "'--",
            "$id",
            "|sh",
            "/etc/passwd",
            "%s",
            "%25",
            "\"../brian\"",
            "\"a b\"",
            "*",
            "brian%example.net",
            "грета",
        ] {
            assert_eq!(routes(&directory, &format!("{local}@example.net")), "UnknownUser", "{local}");
        }
    }
}
