//! The accounts table: a passwd-file, one account a line.
//!
//! `user:password:uid:gid:gecos:home:shell:extra`. Ids, home and shell are not used: every account's mail lives where
//! the store says (R39). The eighth field holds words separated by white space and may itself contain colons.

use crate::names::{Keyed, account_name};
use crate::password::{PasswordError, Stored};
use crate::quota::QuotaOverride;
use crate::table::{Finding, Parsed, Source, TableError, keep, shown};
use mail::AccountName;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Most words of an eighth field.
pub const EXTRA_WORDS_MAX: usize = 100;
/// Fields of a line that serves deliveries as well as logins.
pub(crate) const FIELDS: usize = 8;
/// The word of the eighth field that refuses logins.
pub(crate) const NO_LOGIN: &str = "nologin";
/// What the words of the eighth field that set a quota begin with.
pub(crate) const QUOTA_RULE: &str = "userdb_quota_rule";

/// One account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its login, in lower case.
    pub name: AccountName,
    /// Its hash; the error says why nobody can log in with it.
    pub password: Result<Arc<Stored>, PasswordError>,
    /// Whether mail can be delivered to it. A line without the six colons after the password only authenticates (R26).
    pub receives: bool,
    /// Whether logins are refused (R192).
    pub disabled: bool,
    /// What its line says about its quota.
    pub quota: QuotaOverride,
    /// Its line, from 1 up.
    pub line: usize,
}

/// All accounts.
#[derive(Debug, Default)]
pub struct Accounts {
    by_name: HashMap<AccountName, Account>,
}

impl Accounts {
    /// Reads a passwd-file. Of lines with the same name the first counts; the others are findings (R28).
    pub fn read(source: &Source<'_>) -> Result<Parsed<Accounts>, TableError> {
        let mut accounts = Accounts::default();
        let mut findings = Vec::new();
        for line in source.lines()? {
            let account = account(source, line.number, line.text, &mut findings)?;
            match accounts.by_name.entry(account.name.clone()) {
                Entry::Vacant(place) => drop(place.insert(account)),
                Entry::Occupied(first) => keep(
                    &mut findings,
                    source.warning(
                        line.number,
                        format!("account {} exists more than once, line {} counts", account.name, first.get().line),
                        "remove one of the lines",
                    ),
                ),
            }
        }
        Ok(Parsed { content: accounts, findings })
    }

    /// The account of this name.
    pub fn get(&self, name: &AccountName) -> Option<&Account> {
        self.by_name.get(name)
    }

    /// The account that an address names by itself.
    pub(crate) fn of_address(&self, address: &Keyed<'_>) -> Option<&Account> {
        // A key is written as account names are: in lower case, the domain in A-label form.
        self.by_name.get(address.key())
    }

    /// All accounts, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.by_name.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

fn account(source: &Source<'_>, number: usize, text: &str, findings: &mut Vec<Finding>) -> Result<Account, TableError> {
    let fields: Vec<&str> = text.trim().splitn(FIELDS, ':').collect();
    let (Some(user), Some(password)) = (fields.first(), fields.get(1)) else {
        return Err(source.error(number, "no colon in the line", "write name:{SCHEME}hash::::::"));
    };
    let Some(name) = account_name(user) else {
        return Err(source.error(
            number,
            format!("{} cannot name an account", shown(user)),
            "write local-part@domain in letters, digits, dots, hyphens and underscores",
        ));
    };
    let home = fields.get(5).is_some_and(|home| !home.is_empty());
    let receives = fields.len() == FIELDS || home;
    if !receives {
        let cause = format!("account {name} is missing userdb info: it can log in but receives no mail");
        keep(findings, source.warning(number, cause, "put six colons after its password"));
    }
    let password = Stored::parse(password).map(Arc::new);
    if let Err(error) = &password {
        let cause = format!("account {name} cannot log in: {error}");
        keep(findings, source.warning(number, cause, "replace the password, for example by `account passwd`"));
    }
    let mut account =
        Account { name, password, receives, disabled: false, quota: QuotaOverride::default(), line: number };
    for (index, word) in fields.get(7).unwrap_or(&"").split_whitespace().enumerate() {
        if index >= EXTRA_WORDS_MAX {
            return Err(source.error(number, "too many words in the eighth field", "remove some"));
        }
        extra(source, &mut account, word, findings);
    }
    Ok(account)
}

/// One word of the eighth field.
fn extra(source: &Source<'_>, account: &mut Account, word: &str, findings: &mut Vec<Finding>) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let (cause, cure) = match key {
        NO_LOGIN => {
            account.disabled = !matches!(value, "n" | "no");
            return;
        }
        key if key.strip_prefix(QUOTA_RULE).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit())) => {
            match account.quota.apply(value) {
                Ok(()) => return,
                Err(cause) => (
                    format!("quota rule {} of account {}: {cause}", shown(value), account.name),
                    "write *:storage=2G or *:messages=1000",
                ),
            }
        }
        // What narrows who may log in must not be lost silently: better nobody than everybody.
        "allow_nets" | "allow_real_nets" | "password_noscheme" | "nopassword" | "proxy" | "proxy_maybe" | "host" => {
            account.disabled = true;
            (
                format!("account {} cannot log in: {} is not supported", account.name, shown(key)),
                "remove the word from the eighth field",
            )
        }
        _ => (format!("{} of account {} has no effect", shown(key), account.name), "remove it"),
    };
    keep(findings, source.warning(account.line, cause, cure));
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::Secret;
    use std::path::Path;

    const GUIDE_HASH: &str = "{BLF-CRYPT}$2a$08$6U9XVhAdBjylRGg96P9i.esHQYhrGHHv.OpCpqqAPYtAYFOePAe9O";

    fn read(text: &str) -> Parsed<Accounts> {
        Accounts::read(&Source { file: Path::new("accounts"), octets: text.as_bytes() }).unwrap()
    }

    fn get<'a>(parsed: &'a Parsed<Accounts>, name: &str) -> &'a Account {
        parsed.content.get(&AccountName::parse(name).unwrap()).unwrap()
    }

    #[test]
    fn r25_the_guides_line_serves_logins_and_deliveries() {
        let parsed = read(&format!("user@example.net:{GUIDE_HASH}::::::\n"));
        assert!(parsed.findings.is_empty(), "{:?}", parsed.findings);
        let account = get(&parsed, "user@example.net");
        assert!(account.receives && !account.disabled);
        assert!(account.password.as_ref().unwrap().verify(&Secret::new("insecure".into())));
    }

    #[test]
    fn r39_ids_home_and_shell_are_read_over() {
        let parsed =
            read("u@x:{PLAIN}a:1000:1000:Name, Room:/home/u:/bin/sh:\nv@x:{PLAIN}a:1000:1000::/home/v:/bin/sh\n");
        assert!(parsed.findings.is_empty(), "{:?}", parsed.findings);
        assert!(get(&parsed, "u@x").receives && get(&parsed, "v@x").receives);
    }

    #[test]
    fn r26_without_six_colons_only_logins() {
        for text in ["x@example.net:{PLAIN}a", "x@example.net:{PLAIN}a:::::"] {
            let parsed = read(text);
            assert!(!get(&parsed, "x@example.net").receives);
            assert!(parsed.findings[0].cause.contains("x@example.net is missing userdb info"), "{:?}", parsed.findings);
        }
    }

    #[test]
    fn r27_the_eighth_field_holds_words_and_colons() {
        let parsed = read(
            "a@x:{PLAIN}a::::::userdb_quota_rule=*:storage=2G\n\
             b@x:{PLAIN}a::::::nologin  userdb_quota_rule=*:bytes=10M userdb_quota_rule2=*:messages=1000\n",
        );
        assert!(parsed.findings.is_empty(), "{:?}", parsed.findings);
        assert_eq!(get(&parsed, "a@x").quota.octets, Some(Some(2 << 30)));
        let b = get(&parsed, "b@x");
        assert_eq!((b.quota.octets, b.quota.messages, b.disabled), (Some(Some(10 << 20)), Some(Some(1_000)), true));
    }

    #[test]
    fn r28_first_of_two_wins_comments_and_blank_lines_do_not_count() {
        let parsed = read("# people\n\nB@X.net:{PLAIN}first::::::\n  # more\nb@x.NET:{PLAIN}second::::::\n");
        assert!(get(&parsed, "b@x.net").password.as_ref().unwrap().verify(&Secret::new("first".into())));
        let finding = &parsed.findings[0];
        assert_eq!(finding.line, Some(5));
        assert!(finding.cause.contains("exists more than once"));
        assert!(!finding.to_string().contains("second"), "a password is never quoted");
    }

    #[test]
    fn an_unusable_hash_stops_one_account_not_the_table() {
        let parsed = read("a@x:{MD5-CRYPT}$1$a$b::::::\nb@x:::::::\nc@x:{PLAIN}c::::::allow_nets=10.0.0.0/8\n");
        assert!(get(&parsed, "a@x").password.is_err() && get(&parsed, "b@x").password.is_err());
        assert!(get(&parsed, "c@x").disabled, "a limit on who may log in is never dropped silently");
        assert_eq!(parsed.findings.len(), 3);
        assert!(!format!("{:?}", parsed.findings).contains("$1$"));
    }

    #[test]
    fn v14_v55_hostile_lines_are_refused_with_their_number() {
        for text in
            ["a", "../x@y:{PLAIN}a::::::", "a b@c:{PLAIN}a::::::", ":{PLAIN}a::::::", "a@b@c:{PLAIN}a::::::", "%u:x"]
        {
            let text = format!("ok@x:{{PLAIN}}a::::::\n{text}");
            let error = Accounts::read(&Source { file: Path::new("accounts"), octets: text.as_bytes() }).unwrap_err();
            assert_eq!(error.line, Some(2), "{text}");
            assert!(!error.to_string().contains("{PLAIN}a"));
        }
        let many = format!("a@x:{{PLAIN}}a::::::{}", "w ".repeat(200));
        assert!(Accounts::read(&Source { file: Path::new("accounts"), octets: many.as_bytes() }).is_err());
    }
}
