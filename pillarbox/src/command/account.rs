//! `account`, `alias`, `domain`: edits of the text tables, atomic and with everything else in them kept (R191, R192).

use super::server::ask;
use crate::cli::{AccountCommand, AliasCommand, DomainCommand};
use crate::config::Loaded;
use crate::output::Output;
use admin::control::Request;
use anyhow::{Context, anyhow};
use directory::edit::{EditError, Editor, NewAccount};
use directory::quota::QuotaOverride;
use mail::AccountName;
use store::MailStore;

fn editor(loaded: &Loaded) -> Editor {
    Editor::new(loaded.config.directory_settings())
}

/// Tells a running server, so that the edit holds at once, and says what was done.
fn done(loaded: &Loaded, output: &Output, what: String) {
    // A server that cannot be told finds the edit within a second by itself.
    let _ = ask(loaded, &Request::Refresh);
    if !output.json(&serde_json::json!({ "done": what })) {
        output.say(what);
    }
}

/// `account ...`
pub fn account(loaded: &Loaded, command: &AccountCommand, output: &Output) -> anyhow::Result<()> {
    let editor = editor(loaded);
    match command {
        AccountCommand::Add { account, password, scheme } => {
            let hash = super::password::hash(scheme, None, password.as_deref())?;
            let new = NewAccount { name: account, hash: &hash, quota: QuotaOverride::default(), add_domain: false };
            let name = editor.account_add(new)?;
            done(loaded, output, format!("added {name}"));
        }
        AccountCommand::List => list_accounts(&editor, output)?,
        AccountCommand::Passwd { account, password, scheme } => {
            let hash = super::password::hash(scheme, None, password.as_deref())?;
            editor.account_set_hash(account, &hash)?;
            done(loaded, output, format!("changed the password of {account}"));
        }
        AccountCommand::Disable { account } => {
            editor.account_set_disabled(account, true)?;
            done(loaded, output, format!("{account} can no longer log in; its mail is still received"));
        }
        AccountCommand::Enable { account } => {
            editor.account_set_disabled(account, false)?;
            done(loaded, output, format!("{account} can log in"));
        }
        AccountCommand::Remove { account, delete_mail, .. } => remove(loaded, account, *delete_mail, output)?,
    }
    Ok(())
}

/// Removes an account from the tables, then its mail, if that is wanted. What is left of a removal that was interrupted, or
/// that kept the mail, can be removed by the same command.
fn remove(loaded: &Loaded, account: &str, delete_mail: bool, output: &Output) -> anyhow::Result<()> {
    let left = match editor(loaded).account_remove(account) {
        Ok(left) => left,
        Err(EditError::Unknown(_)) if delete_mail && super::quota::holds_mail(loaded, account)? => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    if delete_mail {
        // A server that still knew the account could deliver to it meanwhile, and so make it anew.
        ask(loaded, &Request::Refresh)?;
        remove_mail(loaded, account)?;
    }
    for alias in &left {
        output.say(format!("the alias {alias} still leads to it"));
    }
    let what = format!("removed {account}; its mail is {}", if delete_mail { "deleted" } else { "kept" });
    let _ = ask(loaded, &Request::Refresh);
    if !output.json(&serde_json::json!({ "done": what, "aliases_left": left })) {
        output.say(what);
    }
    Ok(())
}

fn list_accounts(editor: &Editor, output: &Output) -> anyhow::Result<()> {
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let rows: Vec<Vec<String>> = editor
        .accounts()?
        .into_iter()
        .map(|line| {
            vec![
                line.name.to_string(),
                yes_no(!line.disabled),
                yes_no(line.receives),
                line.quota.rule().unwrap_or_default(),
            ]
        })
        .collect();
    output.table(&["account", "login", "receives", "quota rule"], &rows);
    Ok(())
}

/// Deletes the mail of an account: through the running server, or in the store itself when none runs.
fn remove_mail(loaded: &Loaded, account: &str) -> anyhow::Result<()> {
    if ask(loaded, &Request::RemoveMail { account: account.to_owned() })?.is_some() {
        return Ok(());
    }
    let name = AccountName::parse(account).context("an account name")?;
    let store = crate::serve::open_store_alone(&loaded.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        store.remove_account(&name).await.map_err(|error| anyhow!("{error}"))?;
        store.close().await.map_err(|error| anyhow!("{error}"))
    })
}

/// `alias ...`
pub fn alias(loaded: &Loaded, command: &AliasCommand, output: &Output) -> anyhow::Result<()> {
    let editor = editor(loaded);
    match command {
        AliasCommand::Add { address, targets } => {
            let targets: Vec<&str> =
                targets.iter().flat_map(|target| target.split(',')).filter(|t| !t.is_empty()).collect();
            editor.alias_add(address, &targets)?;
            done(loaded, output, format!("mail for {address} goes to {}", targets.join(", ")));
        }
        AliasCommand::List => {
            let aliases = editor.aliases()?;
            let rows: Vec<Vec<String>> =
                aliases.into_iter().map(|line| vec![line.address, line.targets.join(", ")]).collect();
            output.table(&["address", "targets"], &rows);
        }
        AliasCommand::Remove { address } => {
            editor.alias_remove(address, &[])?;
            done(loaded, output, format!("removed the alias {address}"));
        }
    }
    Ok(())
}

/// `domain ...`
pub fn domain(loaded: &Loaded, command: &DomainCommand, output: &Output) -> anyhow::Result<()> {
    let editor = editor(loaded);
    match command {
        DomainCommand::Add { domain } => {
            editor.domain_add(domain)?;
            done(loaded, output, format!("mail for {domain} is received; add postmaster@{domain} and abuse@{domain}"));
        }
        DomainCommand::List => {
            let rows: Vec<Vec<String>> = editor.domains()?.into_iter().map(|domain| vec![domain]).collect();
            output.table(&["domain"], &rows);
        }
        DomainCommand::Remove { domain } => {
            editor.domain_remove(domain)?;
            done(loaded, output, format!("mail for {domain} is no longer received"));
        }
    }
    Ok(())
}
