//! Logging in: credentials from any protocol, judged by the directory, hashed on a bounded pool, logged once.
//!
//! Unknown account, wrong password and disabled account answer alike in text and in time (R72); every refusal takes at
//! least the configured delay, and no more hashes run at once than the pool allows (R37).

use directory::{Denial, Directory};
use mail::{AccountName, PeerFacts};
use net::HashPool;
use sasl::{AuthFailure, Credentials};
use std::sync::Arc;
use std::time::Duration;

/// Judges credentials.
pub struct Login {
    directory: Arc<Directory>,
    pool: HashPool,
    delay: Duration,
}

impl Login {
    /// Over this directory and pool; a refusal takes `delay` longer than its hash.
    pub fn new(directory: Arc<Directory>, pool: HashPool, delay: Duration) -> Login {
        Login { directory, pool, delay }
    }

    /// Judges credentials that came over the listener named `listener`.
    pub async fn authenticate(
        &self,
        listener: &str,
        peer: &PeerFacts,
        credentials: Credentials,
    ) -> Result<AccountName, AuthFailure> {
        let peer = peer.peer.map_or("unix".to_owned(), |peer| peer.to_string());
        let mechanism = credentials.mechanism.name();
        let credential = self.directory.credential(&credentials.login, &credentials.authorization);
        let login = credential.login().to_owned();
        let judged = self.pool.run(move || credential.verify(&credentials.password)).await;
        let outcome = match &judged {
            Ok(Ok(account)) => {
                tracing::info!(listener, %peer, %account, mechanism, "login");
                "accepted"
            }
            Ok(Err(denial)) => {
                tracing::warn!(listener, %peer, %login, mechanism, cause = name(*denial), "login refused");
                "refused"
            }
            Err(error) => {
                tracing::warn!(listener, %peer, %login, mechanism, %error, "login put off");
                "busy"
            }
        };
        metrics::counter!("logins_total", "listener" => listener.to_owned(), "outcome" => outcome).increment(1);
        match judged {
            Ok(Ok(account)) => Ok(account),
            Ok(Err(_)) => {
                tokio::time::sleep(self.delay).await;
                Err(AuthFailure::Denied)
            }
            Err(_) => Err(AuthFailure::Temporary),
        }
    }
}

/// The cause in a log line; the peer hears the same in every case.
fn name(denial: Denial) -> &'static str {
    match denial {
        Denial::NoLogin => "not a login name",
        Denial::Unknown => "unknown account",
        Denial::NoHash => "the account's hash cannot be used",
        Denial::Disabled => "account is disabled",
        Denial::Authorization => "wants to act as somebody else",
        Denial::Password => "wrong password",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use directory::Settings;
    use mail::Secret;
    use tokio::time::Instant;

    const DELAY: Duration = Duration::from_secs(2);

    fn login() -> (tempfile::TempDir, Login) {
        let folder = tempfile::tempdir().unwrap();
        let accounts = "brian@example.net:{PLAIN}b::::::\ngone@example.net:{PLAIN}g::::::nologin\n\
                        noone@unknown:{PLAIN}u::::::\n";
        std::fs::write(folder.path().join("accounts"), accounts).unwrap();
        std::fs::write(folder.path().join("domains"), "example.net\n").unwrap();
        let directory = Arc::new(Directory::open(Settings::in_folder(folder.path())).unwrap());
        (folder, Login::new(directory, HashPool::new(1, 1), DELAY))
    }

    async fn judge(login: &Login, name: &str, authorization: &str, password: &str) -> Result<String, AuthFailure> {
        let credentials = Credentials {
            authorization: authorization.into(),
            login: name.into(),
            password: Secret::new(password.into()),
            mechanism: sasl::Mechanism::Plain,
        };
        let peer = PeerFacts { peer: None, local: None, tls: None };
        login.authenticate("imaps", &peer, credentials).await.map(|account| account.to_string())
    }

    /// R35: case does not matter; R36: without a domain nobody of ours is meant.
    #[tokio::test(start_paused = true)]
    async fn r35_r36_names_are_folded_and_get_the_realm() {
        let (_folder, login) = login();
        assert_eq!(judge(&login, "Brian@Example.NET", "", "b").await.as_deref(), Ok("brian@example.net"));
        assert_eq!(judge(&login, "bri+x@example.net", "", "b").await, Err(AuthFailure::Denied));
        assert_eq!(judge(&login, "brian", "", "b").await, Err(AuthFailure::Denied));
    }

    /// R72, R37: every refusal is the same and takes the delay; a login takes none.
    #[tokio::test(start_paused = true)]
    async fn r72_r37_refusals_are_alike_and_slow() {
        let (_folder, login) = login();
        for (name, authorization, password) in [
            ("brian@example.net", "", "wrong"),
            ("nobody@example.net", "", "b"),
            ("gone@example.net", "", "g"),
            ("brian@example.net", "gone@example.net", "b"),
            ("a\r\nb", "", "b"),
            ("", "", ""),
        ] {
            let begun = Instant::now();
            assert_eq!(judge(&login, name, authorization, password).await, Err(AuthFailure::Denied), "{name:?}");
            assert!(begun.elapsed() >= DELAY, "{name:?}");
        }
        let begun = Instant::now();
        assert!(judge(&login, "brian@example.net", "brian@example.net", "b").await.is_ok());
        assert!(begun.elapsed() < DELAY);
    }

    /// V17, V18: interleaved logins of two accounts, good and bad, do not mix; those beyond the pool are put off.
    #[tokio::test(start_paused = true)]
    async fn v17_logins_side_by_side_do_not_mix() {
        let (_folder, login) = login();
        let login = Arc::new(login);
        let tries = (0..40).map(|number| {
            let login = login.clone();
            tokio::spawn(async move {
                let (name, password) =
                    if number % 2 == 0 { ("brian@example.net", "b") } else { ("noone@unknown", "b") };
                (number, judge(&login, name, "", password).await)
            })
        });
        let mut accepted = 0;
        for task in tries.collect::<Vec<_>>() {
            match task.await.unwrap() {
                (number, Ok(account)) => {
                    assert!(number % 2 == 0 && account == "brian@example.net");
                    accepted += 1;
                }
                (number, Err(AuthFailure::Denied)) => assert!(number % 2 == 1),
                (_, Err(AuthFailure::Temporary)) => {}
            }
        }
        assert!(accepted > 0);
    }
}
