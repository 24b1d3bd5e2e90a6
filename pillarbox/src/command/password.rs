//! `password hash`, and the hash of a password that is given or asked for (R30–R32).

use super::prompt::ask;
use crate::cli::PasswordCommand;
use crate::output::Output;
use anyhow::{Context, anyhow, bail};
use directory::password::Scheme;
use mail::Secret;

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
