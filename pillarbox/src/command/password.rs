//! `password hash`, and how a password is asked for (R30–R32).

use crate::cli::PasswordCommand;
use crate::output::Output;
use anyhow::{Context, anyhow, bail};
use directory::password::Scheme;
use mail::Secret;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Write, stderr, stdin};

/// Prints a hash.
pub fn password(command: &PasswordCommand, output: &Output) -> anyhow::Result<()> {
    let PasswordCommand::Hash { scheme, rounds, password } = command;
    let hash = hash(scheme, *rounds, password.as_deref())?;
    if !output.json(&serde_json::json!({ "hash": hash })) {
        output.say(hash);
    }
    Ok(())
}

/// The hash of a password that is given, or asked for twice.
pub fn hash(scheme: &str, rounds: Option<u32>, password: Option<&str>) -> anyhow::Result<String> {
    let names = || Scheme::ALL.map(Scheme::name).join(", ");
    let scheme =
        Scheme::parse(scheme).with_context(|| format!("there is no scheme `{scheme}`; there are {}", names()))?;
    let password = match password {
        Some(password) => Secret::new(password.to_owned()),
        None => ask_twice()?,
    };
    directory::password::hash(scheme, &password, rounds).map_err(|error| anyhow!("{error}"))
}

/// Asks twice without echo, as `doveadm pw` does.
fn ask_twice() -> anyhow::Result<Secret> {
    let first = ask("Enter new password: ")?;
    let second = ask("Retype new password: ")?;
    if first != second {
        bail!("the passwords do not match");
    }
    if first.expose().is_empty() {
        bail!("the password is empty");
    }
    Ok(first)
}

fn ask(prompt: &str) -> anyhow::Result<Secret> {
    // Not on standard output: what is captured there is the hash.
    eprint!("{prompt}");
    stderr().flush()?;
    let terminal = stdin().is_terminal();
    let echo = if terminal { Some(tcgetattr(stdin())?) } else { None };
    if let Some(settings) = &echo {
        let mut silent = settings.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(stdin(), SetArg::TCSAFLUSH, &silent)?;
    }
    let mut line = String::new();
    let read = stdin().lock().read_line(&mut line);
    if let Some(settings) = &echo {
        tcsetattr(stdin(), SetArg::TCSAFLUSH, settings)?;
        eprintln!();
    }
    if read? == 0 {
        bail!("no password was given");
    }
    Ok(Secret::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}
