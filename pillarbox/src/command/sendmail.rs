//! `sendmail`: how programs of this machine submit mail (R213), by a command line that is older than SMTP.
//!
//! It has no rights of its own, no queue and no files: the message goes over SMTP to the server's listener on loopback,
//! where this machine is trusted (V51). When it succeeds, the server has the message on its disk; when it does not, nothing
//! of it is left anywhere. Nobody needs an account for it (P54). No shell and no other program is ever run (V12).
//!
//! | file | what it holds |
//! | --- | --- |
//! | `options` | the command line |
//! | `place` | the server, our domain, who calls |
//! | `compose` | the message: its end, its recipients, its missing fields |
//! | `submit` | the dialogue with the server, and what its answers mean |

mod compose;
mod options;
mod place;
mod submit;

pub use options::{Name, Sendmail};
pub use place::ConfigFile;

use super::{joined, queue};
use crate::cli::{Cli, QueueCommand, QueueSelection};
use crate::config::{self, Loaded};
use crate::output::Output;
use clap::CommandFactory;
use compose::{Author, Draft, RECIPIENTS_MAX};
use mail::{Address, InternalDate, Recipient, ReversePath};
use message::submission::recipients;
use options::{Flush, Mode, Options};
use place::{Caller, Place};
use smtp_proto::client::Verdict;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use submit::{Parcel, exit_of, submit};

/// Most messages of a listing.
const LISTED_MAX: usize = 1_000;
/// Octets carried in one go between the standard streams and the server.
const PIECE_OCTETS: usize = 16 * 1024;

/// Why the command failed, as sysexits(3) numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// EX_USAGE: the command line is wrong.
    Usage = 64,
    /// EX_DATAERR: the message is wrong, or too large.
    DataError = 65,
    /// EX_NOUSER: a recipient does not exist.
    NoUser = 67,
    /// EX_NOHOST: a recipient's domain does not exist.
    NoHost = 68,
    /// EX_UNAVAILABLE: refused for another reason.
    Unavailable = 69,
    /// EX_IOERR: the message cannot be read.
    InputOutput = 74,
    /// EX_TEMPFAIL: later it may go.
    TemporaryFailure = 75,
    /// EX_NOPERM: not allowed.
    NoPermission = 77,
}

/// A failure, told on standard error.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    cause: String,
}

impl Failure {
    /// A failure with its cause in words.
    pub fn new(exit: Exit, cause: impl Into<String>) -> Failure {
        Failure { exit, cause: cause.into() }
    }
}

/// Runs the command as it was called, with the words behind its name.
pub fn sendmail(name: Name, words: &[OsString], config: ConfigFile<'_>, output: &Output) -> ExitCode {
    let done = Options::read(name, words).and_then(|options| run(&options, config, output));
    match done {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure.cause);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Whoever called may have closed the stream already.
fn complain(cause: &str) {
    let _ = writeln!(std::io::stderr(), "sendmail: {cause}");
}

fn run(options: &Options, config: ConfigFile<'_>, output: &Output) -> Result<ExitCode, Failure> {
    // Help is for people, also where JSON was asked for.
    let people = Output::new(false);
    match &options.mode {
        Mode::Submit => submit_message(options, &Place::find(config, options)?),
        Mode::Smtp => pass_on(Place::find(config, options)?.connect()?),
        Mode::List => {
            let selection = QueueSelection::default();
            let list = QueueCommand::List { selection, limit: LISTED_MAX };
            queue::queue(&loaded(config.path)?, &list, output).map_err(|error| unavailable(&error))
        }
        // Nothing is told when all is well: cron would mail it.
        Mode::Flush(what) => {
            let retry = QueueCommand::Retry { selection: selection(what) };
            queue::answer(&loaded(config.path)?, &retry).map_err(|error| unavailable(&error))?;
            Ok(ExitCode::SUCCESS)
        }
        // The server reads its tables by itself when they change.
        Mode::Aliases => Ok(ExitCode::SUCCESS),
        Mode::Help => {
            let mut command = Cli::command();
            let help = command
                .find_subcommand_mut("sendmail")
                .map(|sendmail| sendmail.clone().bin_name("pillarbox sendmail").render_long_help().to_string());
            people.say(help.unwrap_or_default().trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Mode::Version => {
            people.say(format!("pillarbox {}", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Whom it is from and for, the message, and the way to the server.
fn submit_message(options: &Options, place: &Place) -> Result<ExitCode, Failure> {
    let reverse_path = options.sender.as_deref().map(|text| reverse_path(text, place)).transpose()?;
    let mut to = Vec::new();
    for text in &options.recipients {
        let named = recipients(text.as_bytes(), &place.domain, RECIPIENTS_MAX);
        to.extend(named.map_err(|fault| Failure::new(Exit::Usage, format!("the recipient {text:?} {fault}")))?);
    }
    if to.is_empty() && !options.reads_recipients {
        return Err(Failure::new(Exit::Usage, "no recipient is named; see `pillarbox sendmail --help`"));
    }
    let draft = Draft::read(std::io::stdin().lock(), options.dot_ends, place.message_octets_max)?;
    if options.reads_recipients {
        to.extend(draft.recipients(&place.domain)?);
    }
    let parcel = parcel(options, place, reverse_path, to, draft)?;
    let verdicts = submit(place.connect()?, place.domain.clone(), &parcel)?;
    Ok(told(&parcel, &verdicts, options.is_verbose))
}

fn reverse_path(text: &str, place: &Place) -> Result<ReversePath, Failure> {
    if matches!(text.trim(), "" | "<>") {
        return Ok(ReversePath::Null);
    }
    let wrong = |cause: String| Failure::new(Exit::Usage, format!("the sender {text:?} {cause}"));
    let mut found = recipients(text.as_bytes(), &place.domain, 1).map_err(|fault| wrong(fault.to_string()))?;
    found.pop().map(ReversePath::Address).ok_or_else(|| wrong("names nobody".to_owned()))
}

fn parcel(
    options: &Options,
    place: &Place,
    reverse_path: Option<ReversePath>,
    mut to: Vec<Address>,
    draft: Draft,
) -> Result<Parcel, Failure> {
    let mut seen = std::collections::HashSet::new();
    to.retain(|address| seen.insert(address.clone()));
    match to.len() {
        0 => return Err(Failure::new(Exit::DataError, "the message names no recipient; nothing was sent")),
        1..=RECIPIENTS_MAX => {}
        _ => return Err(Failure::new(Exit::DataError, format!("more than {RECIPIENTS_MAX} recipients"))),
    }
    let caller = place.caller.as_ref();
    let reverse_path = match reverse_path {
        Some(given) => given,
        None => ReversePath::Address(caller.map_err(Failure::clone)?.address.clone()),
    };
    let author = match &reverse_path {
        ReversePath::Address(address) => Some(address),
        ReversePath::Null => caller.ok().map(|Caller { address, .. }| address),
    };
    let system_name = || caller.ok().map(|Caller { full_name, .. }| full_name.clone());
    let full_name = options.full_name.clone().or_else(system_name).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let message_id = format!("{:x}.{}@{}", now.as_nanos(), std::process::id(), place.domain);
    let date = InternalDate { unix_seconds: now.as_secs() as i64, zone_minutes: 0 };
    let author = Author { address: author, full_name: &full_name, date, message_id: &message_id };
    let recipient = |address| Recipient { notify: options.notify, ..Recipient::new(address) };
    Ok(Parcel {
        message: draft.complete(&author, &place.domain)?,
        recipients: to.into_iter().map(recipient).collect(),
        reverse_path,
        dsn_return: options.dsn_return,
        envelope_id: options.envelope_id.clone(),
    })
}

/// Names those who do not get the message. If some of them may get it later, that decides the exit status: the caller
/// should come again.
fn told(parcel: &Parcel, verdicts: &[Verdict], is_verbose: bool) -> ExitCode {
    let mut worst = None;
    for (recipient, verdict) in parcel.recipients.iter().zip(verdicts) {
        match exit_of(verdict) {
            None if is_verbose => drop(writeln!(std::io::stdout(), "{}: {}", recipient.address, verdict.text)),
            None => {}
            Some(exit) => {
                complain(&format!("not sent to {}: {}", recipient.address, verdict.text));
                if worst.is_none() || exit == Exit::TemporaryFailure {
                    worst = Some(exit);
                }
            }
        }
    }
    worst.map_or(ExitCode::SUCCESS, |exit| ExitCode::from(exit as u8))
}

/// `-bs`: the program speaks SMTP, and it is the server that answers. Ends when the server does.
fn pass_on(mut server: TcpStream) -> Result<ExitCode, Failure> {
    let broken = |error: std::io::Error| Failure::new(Exit::TemporaryFailure, format!("the connection: {error}"));
    let mut to_server = server.try_clone().map_err(broken)?;
    // Waits for input for as long as the process lives; what it could not write, the other side misses and says.
    std::thread::spawn(move || {
        let _ = carry(&mut std::io::stdin(), &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    carry(&mut server, &mut std::io::stdout()).map_err(broken)?;
    Ok(ExitCode::SUCCESS)
}

fn carry(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE_OCTETS];
    loop {
        let count = match from.read(&mut piece) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        match piece.get(..count) {
            Some([]) | None => return Ok(()),
            Some(octets) => to.write_all(octets)?,
        }
        to.flush()?;
    }
}

fn selection(what: &Flush) -> QueueSelection {
    let nothing = QueueSelection::default();
    match what.clone() {
        Flush::All => QueueSelection { all: true, ..nothing },
        Flush::Recipient(place) => QueueSelection { recipient: Some(place), ..nothing },
        Flush::Sender(place) => QueueSelection { sender: Some(place), ..nothing },
        Flush::Message(id) => QueueSelection { ids: vec![id], ..nothing },
    }
}

fn unavailable(error: &anyhow::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("{error:#}"))
}

/// The configuration, for those who must be able to read it: the queue is its administrators'.
fn loaded(file: &Path) -> Result<Loaded, Failure> {
    let exit = match std::fs::File::open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Exit::NoPermission,
        _ => Exit::Unavailable,
    };
    config::load(file).map_err(|findings| Failure::new(exit, joined(&findings)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not every user of a container has a login name; only who leaves out what follows from it needs one.
    #[test]
    fn r213_who_has_no_login_name_names_sender_and_author() {
        let place = Place {
            server: String::new(),
            domain: mail::Domain::parse("example.net").unwrap(),
            message_octets_max: 1_000,
            caller: Err(Failure::new(Exit::NoUser, "no login name")),
        };
        let options = Options::read(Name::Sendmail, &[]).unwrap();
        let to = || vec![Address::parse("a@b.example").unwrap()];
        let made = |sender: Option<&str>, text: &str| {
            let draft = Draft::read(text.as_bytes(), false, 1_000)?;
            let reverse_path = sender.map(|text| reverse_path(text, &place)).transpose()?;
            parcel(&options, &place, reverse_path, to(), draft)
        };
        let authored = "From: c@d.example\n\n";
        assert_eq!(made(Some("<>"), authored).unwrap().reverse_path, ReversePath::Null);
        let without = made(Some("<>"), "Subject: t\n\n").err().unwrap();
        assert!(without.exit == Exit::NoUser && without.cause.contains("no From field"), "{without:?}");
        let message = made(Some("root"), "Subject: t\n\n").unwrap().message;
        assert!(String::from_utf8(message.octets).unwrap().contains("From: root@example.net\r\n"));
        assert_eq!(made(None, authored).err().unwrap().cause, "no login name");
    }
}
