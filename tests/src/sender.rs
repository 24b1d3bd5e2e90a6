//! A pillarbox that sends into a simulated internet.

use crate::client::{Imap, Smtp};
use crate::internet::Internet;
use crate::server::{PASSWORD, Port, Server};
use anyhow::{Context, ensure};
use std::time::{Duration, Instant};

/// The account that submits.
pub const BRIAN: &str = "brian@example.net";
/// Longest wait for something that should happen at once.
const SOON: Duration = Duration::from_secs(30);
/// Another try comes before a test has lost its patience.
const QUICK: &str = "first_retry_seconds = 1\nlongest_retry_seconds = 2\n";
/// No other try comes while a test runs.
const PATIENT: &str = "first_retry_seconds = 3600\nlongest_retry_seconds = 3600\n";

/// A server whose way out leads into an internet of the test's own.
pub struct Sender {
    /// The server.
    pub server: Server,
}

impl Sender {
    /// Starts one: quick to try again, patient enough with hosts that say nothing. `more` is added to its configuration.
    pub fn start(internet: &Internet, more: &str) -> anyhow::Result<Sender> {
        Ok(Sender { server: Server::start_edited(|text| configured(text, internet, more))? })
    }

    /// Starts one that tries again after an hour: what leaves sooner was not sent by the clock.
    pub fn start_patient(internet: &Internet, more: &str) -> anyhow::Result<Sender> {
        Ok(Sender { server: Server::start_edited(|text| patient(&configured(text, internet, more)))? })
    }

    /// Submits a message as an account of the server; gives its queue id.
    pub fn submit(&self, to: &[&str], text: &str) -> anyhow::Result<String> {
        let mut smtp = Smtp::connect(self.server.port(Port::Mx))?;
        let reply = smtp.send(BRIAN, to, text)?;
        let id = reply.rsplit(' ').next().map(str::trim).context("a queue id")?;
        ensure!(reply.contains("queued as"), "{reply}");
        Ok(id.to_owned())
    }

    /// What `pillarbox why` tells of a message.
    pub fn why(&self, id: &str) -> anyhow::Result<String> {
        self.server.command(&["why", id])
    }

    /// Waits until the story of a message tells this.
    pub fn wait_for_story(&self, id: &str, told: &str) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            let story = self.why(id)?;
            if story.contains(told) {
                return Ok(story);
            }
            ensure!(begun.elapsed() < SOON, "nothing is told of {told:?}:\n{story}\n{}", self.server.log_text()?);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for so many messages in an INBOX, the oldest first.
    pub fn wait_for_inbox(&self, account: &str, count: usize) -> anyhow::Result<Vec<String>> {
        let begun = Instant::now();
        loop {
            let texts = Imap::login(self.server.port(Port::Imaps), account, PASSWORD)?.texts("INBOX")?;
            if texts.len() >= count {
                return Ok(texts);
            }
            ensure!(begun.elapsed() < SOON, "{} messages in INBOX of {account}, not {count}", texts.len());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The conservation of mail; an error if it does not hold.
    pub fn audit(&self) -> anyhow::Result<serde_json::Value> {
        let facts: serde_json::Value = serde_json::from_str(&self.server.command(&["queue", "audit", "--json"])?)?;
        ensure!(facts["balanced"] == true, "{facts}");
        Ok(facts)
    }

    /// Waits until the queue is empty, then looks whether mail is conserved.
    pub fn wait_until_empty(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let facts = self.audit()?;
            if facts["waiting"] == 0 && facts["held"] == 0 {
                return Ok(());
            }
            let list = self.server.command(&["queue", "list"])?;
            ensure!(begun.elapsed() < SOON, "the queue is not empty:\n{list}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The demonstration's configuration, with its way out in an internet.
pub fn configured(text: &str, internet: &Internet, more: &str) -> String {
    let text = text.replace("servers = [\"127.0.0.1\"]", &format!("servers = [\"{}\"]", internet.resolver()));
    format!(
        "{text}\n[outbound]\nport = {}\nca_file = \"{}\"\nmta_sts_port = {}\nmta_sts_private_hosts = true\n\
         reply_timeout_seconds = 3\nconnect_timeout_seconds = 3\n\n\
         [queue]\n{QUICK}{more}\n",
        internet.smtp_port(),
        internet.ca_file().display(),
        internet.https_port(),
    )
}

/// What [`configured`] made, with an hour between tries.
pub fn patient(configured: &str) -> String {
    configured.replace(QUICK, PATIENT)
}
