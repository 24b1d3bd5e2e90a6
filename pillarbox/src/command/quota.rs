//! `quota get`, `quota recalc`: through the running server, or on the store itself when none runs (R84).

use super::server::ask;
use crate::cli::QuotaCommand;
use crate::config::{Loaded, Octets};
use crate::output::Output;
use admin::control::{AccountUsage, Request, Response, usage};
use anyhow::{anyhow, bail};
use store::MailStore;

/// Shows usage, counted anew for `recalc`.
pub fn quota(loaded: &Loaded, command: &QuotaCommand, output: &Output) -> anyhow::Result<()> {
    let (target, recalculate) = match command {
        QuotaCommand::Get(target) => (target, false),
        QuotaCommand::Recalc(target) => (target, true),
    };
    let accounts = usages(loaded, target.account.as_deref(), recalculate)?;
    if output.json(&accounts) {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = accounts.iter().flat_map(rows).collect();
    output.table(&["account", "quota name", "type", "value", "limit", "%"], &rows);
    Ok(())
}

/// Whether the store holds mail of an account.
pub fn holds_mail(loaded: &Loaded, account: &str) -> anyhow::Result<bool> {
    // One that neither the tables nor the store know is an error here, and holds nothing.
    Ok(usages(loaded, Some(account), false).is_ok_and(|usages| usages.iter().any(|usage| usage.messages > 0)))
}

fn usages(loaded: &Loaded, account: Option<&str>, recalculate: bool) -> anyhow::Result<Vec<AccountUsage>> {
    match ask(loaded, &Request::Quota { account: account.map(str::to_owned), recalculate })? {
        Some(Response::Quota(accounts)) => Ok(accounts),
        Some(_) => bail!("unexpected answer"),
        None => from_store(loaded, account, recalculate),
    }
}

fn from_store(loaded: &Loaded, account: Option<&str>, recalculate: bool) -> anyhow::Result<Vec<AccountUsage>> {
    let directory = super::open_directory(&loaded.config)?;
    let store = crate::serve::open_store_alone(&loaded.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let accounts = usage(&store, &directory, account, recalculate).await.map_err(|cause| anyhow!(cause));
        store.close().await.map_err(|error| anyhow!("{error}"))?;
        accounts
    })
}

/// Two rows an account, as administrators of Dovecot know them.
fn rows(usage: &AccountUsage) -> [Vec<String>; 2] {
    let percent = |value: u64, limit: Option<u64>| match limit {
        Some(limit) if limit > 0 => (value.saturating_mul(100) / limit).to_string(),
        _ => "0".to_owned(),
    };
    let limit = |limit: Option<u64>, unit: u64| limit.map_or("-".to_owned(), |limit| (limit / unit).to_string());
    let storage = match usage.octets_before {
        Some(before) => format!("{} (was {})", usage.octets.div_ceil(1024), Octets(before)),
        None => usage.octets.div_ceil(1024).to_string(),
    };
    [
        vec![
            usage.account.clone(),
            "User Quota".into(),
            "STORAGE".into(),
            storage,
            limit(usage.octets_max, 1024),
            percent(usage.octets, usage.octets_max),
        ],
        vec![
            usage.account.clone(),
            "User Quota".into(),
            "MESSAGE".into(),
            usage.messages.to_string(),
            limit(usage.messages_max, 1),
            percent(usage.messages, usage.messages_max),
        ],
    ]
}
