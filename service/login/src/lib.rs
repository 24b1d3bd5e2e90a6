//! Logging in: credentials from any protocol, judged by the directory, hashed on a bounded pool, logged once.
//!
//! Unknown account, wrong password and disabled account answer alike in text and in time (R72); every refusal takes at
//! least the configured delay, and no more hashes run at once than the pool allows (R37).

use directory::{Denial, Directory};
use mail::{AccountName, PeerFacts};
use net::HashPool;
use sasl::Credentials;
use std::sync::Arc;
use std::time::Duration;

/// Judges credentials.
pub struct Login {
    directory: Arc<Directory>,
    pool: HashPool,
    delay: Duration,
}

/// Why nobody is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The credentials do not fit.
    Denied,
    /// Too much is being hashed already, or the directory cannot be read.
    Temporary,
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
    ) -> Result<AccountName, Refused> {
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
                Err(Refused::Denied)
            }
            Err(_) => Err(Refused::Temporary),
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
