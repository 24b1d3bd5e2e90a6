//! Who logs in: finding what a login is judged by, and judging it.
//!
//! Finding is quick and needs the register; judging computes a hash, takes milliseconds to seconds of one core, and
//! needs nothing, so that it can run on a bounded pool (R37). Nothing is remembered between two logins (V17).

use crate::accounts::Accounts;
use crate::names::{LOGIN_OCTETS_MAX, login_name};
use crate::password::{ARGON2_MEMORY_KIBIBYTES, ARGON2_PASSES, Price, Stored};
use mail::{AccountName, Secret};
use std::collections::HashMap;
use std::sync::Arc;

/// What one login will be judged by.
#[derive(Debug, Clone)]
pub struct Credential {
    stored: Arc<Stored>,
    claim: Result<AccountName, Denial>,
    login: String,
}

/// Why a login was refused. For the log only: the peer hears the same in every case (R72).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// Empty, too long, or with characters that no login has.
    NoLogin,
    /// No such account.
    Unknown,
    /// The account's hash cannot be used.
    NoHash,
    /// The account is disabled.
    Disabled,
    /// It wants to act as somebody else.
    Authorization,
    /// The password does not fit.
    Password,
}

impl Credential {
    pub(crate) fn find(
        accounts: &Accounts,
        decoy: &Arc<Stored>,
        login: &str,
        authorization: &str,
        realm: &str,
    ) -> Credential {
        let refuse = |denial, login| Credential { stored: decoy.clone(), claim: Err(denial), login };
        let Some(name) = login_name(login, realm) else { return refuse(Denial::NoLogin, printable(login)) };
        let shown = name.to_string();
        let Some(account) = accounts.get(&name) else { return refuse(Denial::Unknown, shown) };
        let Ok(stored) = &account.password else { return refuse(Denial::NoHash, shown) };
        let acts_as_itself = authorization.is_empty() || login_name(authorization, realm).as_ref() == Some(&name);
        let claim = match (acts_as_itself, account.disabled) {
            (false, _) => Err(Denial::Authorization),
            (true, true) => Err(Denial::Disabled),
            (true, false) => Ok(name),
        };
        Credential { stored: stored.clone(), claim, login: shown }
    }

    /// Judges the password. Always computes the hash, whatever the answer. A wrong password is what a denial says
    /// first, so that a log does not tell more to its readers than they need.
    pub fn verify(&self, password: &Secret) -> Result<AccountName, Denial> {
        let fits = self.stored.verify(password);
        match &self.claim {
            Err(Denial::NoLogin | Denial::Unknown | Denial::NoHash) => self.claim.clone(),
            Ok(_) | Err(_) if !fits => Err(Denial::Password),
            claim => claim.clone(),
        }
    }

    /// The login with its realm, in lower case, as a log may show it (R36).
    pub fn login(&self) -> &str {
        &self.login
    }
}

/// What most accounts' hashes cost; among equals the dearest. Without accounts, what new ones get.
pub(crate) fn prevailing_price(accounts: &Accounts) -> Price {
    let mut counts: HashMap<Price, usize> = HashMap::new();
    for stored in accounts.iter().filter_map(|account| account.password.as_ref().ok()) {
        *counts.entry(stored.price()).or_default() += 1;
    }
    let usual = Price::Argon2 { memory: ARGON2_MEMORY_KIBIBYTES, passes: ARGON2_PASSES.default, lanes: 1 };
    counts.into_iter().map(|(price, count)| (count, price)).max().map_or(usual, |(_, price)| price)
}

fn printable(login: &str) -> String {
    login.chars().take(LOGIN_OCTETS_MAX).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Source;
    use std::path::Path;

    const TABLE: &str = "brian@example.net:{PLAIN}b::::::\n\
                         notbrian@example.net:{PLAIN}n::::::\n\
                         gone@example.net:{PLAIN}g::::::nologin\n\
                         old@example.net:{MD5-CRYPT}$1$x::::::\n\
                         unknown:{PLAIN}u::::::\n";

    fn judge(login: &str, authorization: &str, password: &str) -> Result<String, Denial> {
        let accounts =
            Accounts::read(&Source { file: Path::new("accounts"), octets: TABLE.as_bytes() }).unwrap().content;
        let decoy = Arc::new(Stored::decoy(prevailing_price(&accounts)));
        let credential = Credential::find(&accounts, &decoy, login, authorization, "unknown");
        credential.verify(&Secret::new(password.into())).map(|name| name.to_string())
    }

    #[test]
    fn r35_logins_in_any_case() {
        assert_eq!(judge("Brian@Example.NET", "", "b").as_deref(), Ok("brian@example.net"));
        assert_eq!(judge("brian@example.net", "", "B"), Err(Denial::Password));
        assert_eq!(judge("bri+x@example.net", "", "b"), Err(Denial::NoLogin));
    }

    #[test]
    fn r36_without_domain_nobody_is_meant() {
        assert_eq!(judge("brian", "", "b"), Err(Denial::Unknown));
        assert_eq!(judge("unknown", "", "u"), Err(Denial::Unknown));
        let empty = Accounts::default();
        let decoy = Arc::new(Stored::decoy(Price::Digest));
        assert_eq!(Credential::find(&empty, &decoy, "Brian", "", "unknown").login(), "brian@unknown");
        assert_eq!(Credential::find(&empty, &decoy, "a\r\nb", "", "unknown").login(), "a\\r\\nb");
    }

    #[test]
    fn acting_as_somebody_else_is_refused() {
        assert_eq!(judge("brian@example.net", "BRIAN@example.net", "b").as_deref(), Ok("brian@example.net"));
        for other in ["notbrian@example.net", "brian", "root", "brian@example.net\u{0}"] {
            assert_eq!(judge("brian@example.net", other, "b"), Err(Denial::Authorization), "{other:?}");
        }
    }

    #[test]
    fn r192_disabled_accounts_do_not_log_in() {
        assert_eq!(judge("gone@example.net", "", "g"), Err(Denial::Disabled));
        assert_eq!(judge("gone@example.net", "", "x"), Err(Denial::Password));
        assert_eq!(judge("old@example.net", "", "x"), Err(Denial::NoHash));
    }

    #[test]
    fn v17_interleaved_logins_do_not_mix() {
        for _ in 0..100 {
            assert_eq!(judge("brian@example.net", "", "b").as_deref(), Ok("brian@example.net"));
            assert_eq!(judge("notbrian@example.net", "", "b"), Err(Denial::Password));
            assert_eq!(judge("notbrian@example.net", "", "n").as_deref(), Ok("notbrian@example.net"));
            assert_eq!(judge("brian@example.net", "", "n"), Err(Denial::Password));
        }
    }

    #[test]
    fn v12_v15_v18_v54_hostile_logins_are_nobody() {
        for login in ["", "' OR 1=1 --", "%u", "$(id)@example.net", "brian@example.net\0", "../brian@example.net", "*"]
        {
            assert_eq!(judge(login, "", "b"), Err(Denial::NoLogin), "{login:?}");
        }
        for password in ["", "\0", "b\0", &"b".repeat(100_000)] {
            assert_eq!(judge("brian@example.net", "", password), Err(Denial::Password));
        }
    }

    #[test]
    fn r72_who_does_not_exist_costs_what_most_cost() {
        let text = "a@x:{BLF-CRYPT}$2y$05$hO4tTfea8rAcDhjm8Z.7..6rsfM0AQaxEtvL9KRKiK9v.yKv3/ZYu::::::\n\
                    b@x:{BLF-CRYPT}$2y$05$J3m7t9boSH1VstjTdFMaKe3V.f8al4hY7QS9/UjE8Nqzk9gSGKpdS::::::\n\
                    c@x:{PLAIN}a::::::\n";
        let accounts =
            Accounts::read(&Source { file: Path::new("accounts"), octets: text.as_bytes() }).unwrap().content;
        let price = prevailing_price(&accounts);
        assert_eq!(price, Price::Bcrypt { cost: 5 });
        let decoy = Arc::new(Stored::decoy(price));
        for login in ["nobody@x", "", "%", "brian"] {
            assert_eq!(Credential::find(&accounts, &decoy, login, "", "unknown").stored.price(), price);
        }
        assert!(matches!(prevailing_price(&Accounts::default()), Price::Argon2 { .. }));
    }
}
