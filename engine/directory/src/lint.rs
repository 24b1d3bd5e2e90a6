//! What looks wrong between the tables, each of which can be read well enough by itself.

use crate::login::prevailing_price;
use crate::maps::Target;
use crate::names::{Keyed, account_name, address_key, catch_all_domain};
use crate::password::Price;
use crate::register::{DomainClass, Settings, Tables};
use crate::route::{RouteError, route};
use crate::table::{FINDINGS_MAX, Finding, Severity};
use mail::{Address, Domain, LocalPart};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Local parts that every domain must have (RFC 5321 §4.5.1, RFC 2142 §2 and §4).
const ROLES: [&str; 2] = ["postmaster", "abuse"];
/// bcrypt cost from which a single login takes more than about a second.
const BCRYPT_COST_SLOW: u32 = 14;

/// Everything found, at most [`FINDINGS_MAX`] of each kind.
pub(crate) fn lint(settings: &Settings, tables: &Tables) -> Vec<Finding> {
    let lint = Lint { settings, tables };
    let kinds: [Vec<Finding>; 7] = [
        lint.permissions(),
        lint.domain_classes(),
        lint.roles(),
        lint.accounts(),
        lint.mailboxes(),
        lint.aliases(),
        lint.logins(),
    ];
    kinds.into_iter().flat_map(|findings| findings.into_iter().take(FINDINGS_MAX)).collect()
}

struct Lint<'a> {
    settings: &'a Settings,
    tables: &'a Tables,
}

impl Lint<'_> {
    /// R14: hashes are for the service alone; no table is for everybody to write.
    fn permissions(&self) -> Vec<Finding> {
        let files = &self.settings.files;
        let mut findings = Vec::new();
        let mode_of = |file: &Path| std::fs::metadata(file).ok().map(|metadata| metadata.permissions().mode());
        if let Some(mode) = mode_of(&files.accounts) {
            let severity = if mode & 0o007 != 0 { Severity::Error } else { Severity::Warning };
            if mode & 0o077 != 0 {
                let cause = format!("mode {:03o} lets others than its owner at the password hashes", mode & 0o777);
                findings.push(finding(severity, &files.accounts, None, cause, "chmod 600 the file"));
            }
        }
        if mode_of(&files.relay_credentials).is_some_and(|mode| mode & 0o077 != 0) {
            let cause = "others than its owner can read passwords in it".to_owned();
            findings.push(finding(Severity::Error, &files.relay_credentials, None, cause, "chmod 600 the file"));
        }
        for file in [
            &files.transport,
            &files.sender_transport,
            &files.domains,
            &files.relay_domains,
            &files.relay_recipients,
            &files.mailboxes,
            &files.aliases,
            &files.senders,
            &files.sasl_access,
            &files.recipient_access,
        ] {
            if mode_of(file).is_some_and(|mode| mode & 0o002 != 0) {
                findings.push(finding(
                    Severity::Error,
                    file,
                    None,
                    "everybody may write the file",
                    "chmod o-w the file",
                ));
            }
        }
        findings
    }

    /// R115, R146: a domain is in one class.
    fn domain_classes(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let files = &self.settings.files;
        let both = |domain: &Domain| self.tables.domains.iter().any(|(hosted, _)| hosted == domain);
        let both_patterns = |domain: &Domain| self.tables.domains.patterns().any(|(hosted, _)| hosted == domain);
        let names =
            self.tables.relay_domains.iter().filter(|(domain, _)| both(domain)).map(|(d, l)| (d.to_string(), l));
        let patterns =
            self.tables.relay_domains.patterns().filter(|(d, _)| both_patterns(d)).map(|(d, l)| (format!(".{d}"), l));
        for (domain, line) in names.chain(patterns) {
            let cause = format!("{domain} is hosted as well as relayed; it is treated as hosted");
            findings.push(finding(Severity::Error, &files.relay_domains, Some(line), cause, "remove the line"));
        }
        if self.tables.domains.is_empty() {
            let cause = "no domain is hosted: no mail is received";
            findings.push(finding(Severity::Warning, &files.domains, None, cause, "add a domain, one a line"));
        }
        findings
    }

    /// R120: postmaster and abuse of every hosted domain lead somewhere.
    fn roles(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (domain, line) in self.tables.domains.iter() {
            for role in ROLES {
                let Ok(local) = LocalPart::parse(role) else { continue };
                let address = Address { local, domain: domain.clone() };
                if route(self.tables, &address).is_err() {
                    let cause = format!("{address} leads nowhere, but every domain must have it");
                    let file = &self.settings.files.domains;
                    findings.push(finding(Severity::Warning, file, Some(line), cause, "add an alias for it"));
                }
            }
        }
        findings
    }

    fn accounts(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let file = &self.settings.files.accounts;
        let mut warn = |line: usize, cause: String, cure: &str| {
            findings.push(finding(Severity::Warning, file, Some(line), cause, cure));
        };
        for account in self.tables.accounts.iter() {
            let (name, line) = (&account.name, account.line);
            let Ok(address) = Address::parse(name.as_str()) else {
                warn(
                    line,
                    format!("account {name} has no domain: it neither logs in nor receives mail"),
                    "add its domain",
                );
                continue;
            };
            if name.as_str().contains(['+', '=']) {
                let cause = format!("account {name} cannot log in: no login holds a plus or equals sign");
                warn(line, cause, "rename it");
            }
            if account.receives && self.tables.class_of(&address.domain) != DomainClass::Hosted {
                let cause = format!("account {name} is of a domain that is not hosted: it receives no mail");
                warn(line, cause, "add its domain to the domains");
            } else if account.receives && self.tables.mailbox_of(&Keyed::new(&address)).is_none() {
                let cause = format!("account {name} has no line in the mailboxes: it receives no mail");
                warn(line, cause, "add a line with its address and the word true");
            }
            if !self.tables.senders.find(&address, None, None).is_some_and(|kept| kept.value.contains(name)) {
                let cause = format!("account {name} may not send as itself");
                warn(line, cause, "add a line with its address, twice, to the senders");
            }
            match account.password.as_ref().map(|stored| (stored.is_clear(), stored.price())) {
                Ok((true, _)) => warn(line, format!("the password of {name} is stored in clear"), "hash it"),
                Ok((_, Price::Bcrypt { cost })) if cost >= BCRYPT_COST_SLOW => {
                    warn(line, format!("bcrypt cost {cost} of {name} makes logins slow"), "choose a cost of 8 to 12");
                }
                Ok(_) | Err(_) => {}
            }
        }
        if let Price::Digest = prevailing_price(&self.tables.accounts) {
            let cause = "most passwords are stored in clear or by one fast digest".to_owned();
            findings.push(finding(Severity::Warning, file, None, cause, "hash them as ARGON2ID or BLF-CRYPT"));
        }
        findings
    }

    /// R117: an address of the mailboxes has an account that can receive.
    fn mailboxes(&self) -> Vec<Finding> {
        let Some(mailboxes) = &self.tables.mailboxes else { return Vec::new() };
        let file = &self.settings.files.mailboxes;
        let mut findings = Vec::new();
        for (key, kept) in mailboxes.iter() {
            let account = account_name(&key).and_then(|name| self.tables.accounts.get(&name));
            let hosted = address_key(&key).is_some_and(|(_, d)| self.tables.class_of(&d) == DomainClass::Hosted);
            let (cause, cure) = match account {
                None => (format!("{key} has no account: its mail is refused"), "add the account or remove the line"),
                Some(account) if !account.receives => {
                    (format!("the account of {key} only authenticates: its mail is refused"), "give it its six colons")
                }
                Some(_) if !hosted => (format!("the domain of {key} is not hosted"), "add it to the domains"),
                Some(_) => continue,
            };
            findings.push(finding(Severity::Error, file, Some(kept.line), cause, cure));
        }
        findings
    }

    /// Aliases lead somewhere, do not run in circles, and stand for domains of ours.
    fn aliases(&self) -> Vec<Finding> {
        let file = &self.settings.files.aliases;
        let origin = self.tables.domains.first();
        let mut findings = Vec::new();
        for (key, kept) in self.tables.aliases.iter() {
            let mut tell = |severity, cause: String, cure: &str| {
                findings.push(finding(severity, file, Some(kept.line), cause, cure));
            };
            let domain = catch_all_domain(&key).or_else(|| address_key(&key).map(|(_, domain)| domain));
            if let Some(domain) = domain.as_ref().or(origin)
                && self.tables.class_of(domain) == DomainClass::Other
            {
                let cause = format!("alias {key} stands for a domain that is neither hosted nor relayed");
                tell(Severity::Warning, cause, "add the domain, or remove the alias");
            }
            // A catch-all is tried with a local part that nobody has; what it means for a domain alias is not known.
            let tried = match &domain {
                _ if !key.starts_with('@') => Address::parse(&key).ok(),
                Some(domain) => LocalPart::parse("*").ok().map(|local| Address { local, domain: domain.clone() }),
                None => None,
            };
            if let Some(tried) = tried
                && route(self.tables, &tried) == Err(RouteError::LoopOrTooDeep)
            {
                tell(Severity::Error, format!("alias {key} runs in a circle or too deep"), "let it end at a mailbox");
                continue;
            }
            for target in &kept.value {
                let address = match (target, origin) {
                    (Target::Address(address), _) => address.clone(),
                    (Target::Bare(local), Some(origin)) => Address { local: local.clone(), domain: origin.clone() },
                    // What a domain alias leads to depends on who is asked for.
                    (Target::Bare(_), None) | (Target::Domain(_), _) => continue,
                };
                if let Err(RouteError::UnknownUser | RouteError::UnknownRelayRecipient) = route(self.tables, &address) {
                    let cause = format!("alias {key} points to {address}, which does not exist");
                    tell(Severity::Error, cause, "correct or remove the target");
                }
            }
        }
        findings
    }

    /// Logins in senders and access tables exist.
    fn logins(&self) -> Vec<Finding> {
        let files = &self.settings.files;
        let mut findings = Vec::new();
        for (key, kept) in self.tables.senders.iter() {
            for login in kept.value.iter().filter(|login| self.tables.accounts.get(login).is_none()) {
                let cause = format!("{key} lists the login {login}, which does not exist");
                let cure = "correct or remove the login";
                findings.push(finding(Severity::Warning, &files.senders, Some(kept.line), cause, cure));
            }
        }
        for (login, line) in self.tables.sasl_access.iter() {
            if self.tables.accounts.get(login).is_none() {
                let cause = format!("the login {login} does not exist");
                let cure = "correct or remove the line";
                findings.push(finding(Severity::Warning, &files.sasl_access, Some(line), cause, cure));
            }
        }
        findings
    }
}

fn finding(severity: Severity, file: &Path, line: Option<usize>, cause: impl Into<String>, cure: &str) -> Finding {
    Finding { severity, file: file.to_owned(), line, cause: cause.into(), cure: cure.to_owned() }
}
