//! The control socket: one JSON object a line in, one out.
//!
//! The socket lies in the storage folder with mode 0600: whoever may read the mail may speak here.

use crate::queue_desk::{AuditFacts, DestinationFacts, QueueAction, StoryFacts};
use directory::Directory;
use mail::{AccountName, Secret};
use net::LentFiles;
use qmgr::{Changed, Listed, QueueManager, Selection};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::MailStore;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case")]
pub enum Request {
    /// Is the server up, since when, and what does it do?
    Status,
    /// Read configuration, tables and certificates again.
    Reload {
        /// Texts of certificate and key files, by path, that the asker has read and checked: the server may not be able to
        /// read keys once it has given up root.
        files: HashMap<PathBuf, String>,
    },
    /// Read changed tables now instead of within a second.
    Refresh,
    /// End as on SIGTERM.
    Stop,
    /// What accounts hold and may hold.
    Quota {
        /// One account; all without it.
        account: Option<String>,
        /// Count anew first.
        recalculate: bool,
    },
    /// Look at the queue or change it.
    Queue {
        /// To do what.
        action: QueueAction,
        /// With which recipients.
        selection: Selection,
    },
    /// The stories of messages: one by its name, or those in which a text occurs.
    Why {
        /// Queue id, message-id or address; everything without it.
        about: Option<String>,
        /// Not older than so many seconds.
        within_seconds: Option<u64>,
        /// At most so many.
        limit: usize,
    },
    /// Remove an account's mail.
    RemoveMail {
        /// Whose.
        account: String,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "of", rename_all = "kebab-case")]
pub enum Response {
    /// The server is up.
    Status(Status),
    /// Done; with warnings, a line each.
    Done(Vec<String>),
    /// Usage of accounts, one entry each.
    Quota(Vec<AccountUsage>),
    /// Messages of the queue, the oldest first.
    Queue(Vec<Listed>),
    /// Destinations, by name.
    QueueSummary(Vec<DestinationFacts>),
    /// How many recipients of the queue were changed.
    Changed(Changed),
    /// Whether mail is conserved.
    Audit(AuditFacts),
    /// Stories, the newest first, one each message.
    Stories(Vec<StoryFacts>),
    /// It could not be done; causes, a line each.
    Failed(Vec<String>),
}

/// State of a running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since it began to serve.
    pub up_seconds: u64,
    /// Listeners: name and address.
    pub listeners: Vec<(String, String)>,
    /// Connections open now.
    pub connections: u64,
}

/// What an account holds and may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountUsage {
    /// Whose.
    pub account: String,
    /// Octets held.
    pub octets: u64,
    /// Octets it may hold.
    pub octets_max: Option<u64>,
    /// Messages held.
    pub messages: u64,
    /// Messages it may hold.
    pub messages_max: Option<u64>,
    /// What the counter said before it was counted anew, where that was asked for and differs.
    pub octets_before: Option<u64>,
}

/// Reads everything again, from the files lent where there are any; gives warnings, or causes of failure.
pub type Reload = Box<dyn Fn(LentFiles) -> Result<Vec<String>, Vec<String>> + Send + Sync>;

/// What the control socket works on.
pub struct House {
    /// The mail.
    pub store: Arc<dyn MailStore>,
    /// Limits of accounts.
    pub directory: Arc<Directory>,
    /// The queue.
    pub queue: Arc<QueueManager>,
    /// Reads everything again; gives warnings or causes.
    pub reload: Reload,
    /// Reads changed tables again.
    pub refresh: Box<dyn Fn() + Send + Sync>,
    /// Begins the shutdown.
    pub stop: Box<dyn Fn() + Send + Sync>,
    /// Listeners: name and address.
    pub listeners: Vec<(String, String)>,
    /// Connections open now.
    pub connections: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Since when it serves.
    pub since: Instant,
}

/// Longest request line in octets.
const REQUEST_OCTETS_MAX: u64 = 8 * 1024 * 1024;
/// Longest wait for a request.
const REQUEST_WAIT: Duration = Duration::from_secs(10);

/// Serves the control socket for as long as the future is polled.
pub async fn serve(listener: tokio::net::UnixListener, house: Arc<House>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let house = house.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &house).await {
                        tracing::warn!(%error, "control connection");
                    }
                });
            }
            Err(error) => {
                tracing::error!(%error, "control socket");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn converse(stream: tokio::net::UnixStream, house: &House) -> std::io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reading.take(REQUEST_OCTETS_MAX));
    tokio::time::timeout(REQUEST_WAIT, reader.read_line(&mut line)).await??;
    let response = match serde_json::from_str(&line) {
        Ok(request) => answer(request, house).await,
        Err(error) => Response::Failed(vec![format!("not a request: {error}")]),
    };
    let mut text = serde_json::to_vec(&response)?;
    text.push(b'\n');
    writing.write_all(&text).await
}

async fn answer(request: Request, house: &House) -> Response {
    match request {
        Request::Status => Response::Status(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            up_seconds: house.since.elapsed().as_secs(),
            listeners: house.listeners.clone(),
            connections: (house.connections)(),
        }),
        Request::Reload { files } => match (house.reload)(lent(files)) {
            Ok(notes) => Response::Done(notes),
            Err(causes) => Response::Failed(causes),
        },
        Request::Refresh => {
            (house.refresh)();
            Response::Done(Vec::new())
        }
        Request::Stop => {
            (house.stop)();
            Response::Done(Vec::new())
        }
        Request::Quota { account, recalculate } => quota(house, account, recalculate).await,
        Request::Queue { action, selection } => crate::queue_desk::answer(house, action, &selection).await,
        Request::Why { about, within_seconds, limit } => {
            crate::queue_desk::why(&*house.store, about, within_seconds, limit).await
        }
        Request::RemoveMail { account } => match AccountName::parse(&account) {
            Some(name) => match house.store.remove_account(&name).await {
                Ok(()) => Response::Done(Vec::new()),
                Err(error) => Response::Failed(vec![error.to_string()]),
            },
            None => Response::Failed(vec![format!("`{account}` is no account name")]),
        },
    }
}

fn lent(files: HashMap<PathBuf, String>) -> LentFiles {
    files.into_iter().map(|(path, text)| (path, Secret::new(text))).collect()
}

async fn quota(house: &House, account: Option<String>, recalculate: bool) -> Response {
    match usage(&*house.store, &house.directory, account.as_deref(), recalculate).await {
        Ok(accounts) => Response::Quota(accounts),
        Err(cause) => Response::Failed(vec![cause]),
    }
}

/// What accounts hold and may hold, those of the tables and those that only the store still knows; also for a store that
/// no server has open.
pub async fn usage(
    store: &dyn MailStore,
    directory: &Directory,
    account: Option<&str>,
    recalculate: bool,
) -> Result<Vec<AccountUsage>, String> {
    let mut accounts = store.accounts().await.map_err(|error| error.to_string())?;
    accounts.extend(directory.accounts());
    accounts.sort();
    accounts.dedup();
    if let Some(text) = account {
        let wanted = AccountName::parse(text).ok_or_else(|| format!("`{text}` is no account name"))?;
        accounts.retain(|known| *known == wanted);
        if accounts.is_empty() {
            return Err(format!("there is no account {wanted}, neither in the tables nor in the store"));
        }
    }
    let mut result = Vec::with_capacity(accounts.len());
    for account in accounts {
        let before = store.usage(&account).await.map_err(|error| error.to_string())?;
        let now = match recalculate {
            true => store.recalculate(&account).await.map_err(|error| error.to_string())?.1,
            false => before,
        };
        let quota = directory.quota(&account);
        result.push(AccountUsage {
            account: account.to_string(),
            octets: now.octets,
            octets_max: quota.octets_max,
            messages: now.messages,
            messages_max: quota.messages_max,
            octets_before: (now != before).then_some(before.octets),
        });
    }
    Ok(result)
}

/// Asks a running server. An error of kind `NotFound` or `ConnectionRefused` means that none runs.
pub fn call(socket: &Path, request: &Request) -> std::io::Result<Response> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(600)))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream.take(256 << 20)).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_print_what_they_parse() {
        for (response, text) in [
            (Response::Done(Vec::new()), r#"{"answer":"done","of":[]}"#),
            (Response::Failed(vec!["no".into()]), r#"{"answer":"failed","of":["no"]}"#),
            (
                Response::Changed(Changed { recipients: 2, active: 1 }),
                r#"{"answer":"changed","of":{"recipients":2,"active":1}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&response).unwrap(), text);
            assert_eq!(serde_json::from_str::<Response>(text).unwrap(), response);
        }
    }

    #[test]
    fn requests_print_what_they_parse() {
        let request = Request::Quota { account: Some("a@b".into()), recalculate: true };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"call":"quota","account":"a@b","recalculate":true}"#);
        assert!(serde_json::from_str::<Request>(&text).unwrap() == request);
    }
}
