//! `init`: from nothing to a configuration that `check` has nothing to say about.

use super::setup::{self, Setup, listener, role_aliases};
use crate::cli::{Cli, Init};
use crate::output::Output;
use anyhow::{Context, anyhow, bail};
use mail::{AccountName, Domain};
use std::path::{Path, PathBuf};

/// Scheme of the first account's password.
const SCHEME: &str = "ARGON2ID";

/// Makes configuration, certificates, tables and the first account.
pub fn init(cli: &Cli, init: &Init, output: &Output) -> anyhow::Result<()> {
    let domain = Domain::parse(&init.domain).map_err(|_| anyhow!("`{}` is not a domain", init.domain))?;
    if domain.is_literal() || !domain.as_str().contains('.') {
        bail!("`{domain}` is not a full domain");
    }
    let account = init.account.clone().unwrap_or_else(|| format!("postmaster@{domain}"));
    let account = AccountName::parse(&account).with_context(|| format!("`{account}` is not an account name"))?;
    if account.domain() != domain.as_str() {
        bail!("the first account must belong to {domain}");
    }
    let folder = match &init.folder {
        Some(folder) => folder.clone(),
        None => cli.config.parent().map(Path::to_owned).unwrap_or_else(|| PathBuf::from(".")),
    };
    setup::must_be_new(&folder)?;
    let setup = Setup {
        folder: folder.clone(),
        host_name: host_name(init.host_name.as_deref(), "mx", &domain)?,
        mail_name: host_name(init.mail_name.as_deref(), "mail", &domain)?,
        subject: (init.country.clone(), init.organisation.clone()),
    };
    let hash = super::password::hash(SCHEME, None, init.password.as_deref())?;
    setup.make_folder()?;
    setup.make_certificates()?;
    let requests = if init.csr { setup.make_requests()? } else { Vec::new() };
    write_tables(&setup, domain.as_str(), account.as_str(), &hash)?;
    setup.write("pillarbox.toml", &configuration(init, &setup))?;
    let loaded = super::load_file(&folder.join("pillarbox.toml"))?;
    let records = super::dns::zone_lines(&loaded.config, domain.as_str())?;
    let summary = serde_json::json!({
        "folder": folder, "account": account.as_str(), "requests": requests, "records": records,
    });
    if !output.json(&summary) {
        output.say(tell(&setup, init, domain.as_str(), account.as_str(), &records, &requests));
    }
    Ok(())
}

/// The name given, or the usual one below the domain.
fn host_name(given: Option<&str>, label: &str, domain: &Domain) -> anyhow::Result<String> {
    let text = given.map_or_else(|| format!("{label}.{domain}"), str::to_owned);
    match Domain::parse(&text) {
        Ok(name) if !name.is_literal() && name.as_str().contains('.') => Ok(name.to_string()),
        Ok(_) | Err(_) => bail!("`{text}` is not a fully qualified host name"),
    }
}

fn write_tables(setup: &Setup, domain: &str, account: &str, hash: &str) -> anyhow::Result<()> {
    setup.write("accounts", &format!("# user@domain:{{SCHEME}}hash::::::extra\n{account}:{hash}::::::\n"))?;
    setup.write("domains", &format!("# one domain a line\n{domain}\n"))?;
    setup.write("mailboxes", &format!("# address true\n{account} true\n"))?;
    let aliases: String = role_aliases(domain, account)
        .lines()
        .filter(|line| !line.starts_with(&format!("{account} ")))
        .map(|line| format!("{line}\n"))
        .collect();
    setup.write("aliases", &aliases)?;
    setup.write("senders", &format!("# address login[, login...]\n{account} {account}\n"))?;
    setup.write("sasl_access", "# login ACTION\n")?;
    setup.write("recipient_access", "# address-or-domain ACTION\n")?;
    setup.write("relay_domains", "# one domain a line\n")
}

fn configuration(init: &Init, setup: &Setup) -> String {
    let mut text = format!(
        "# Configuration of pillarbox. `pillarbox config explain` tells all settings and their defaults.\n\
         host_name = {}\n\n[storage]\nfolder = {}\n\n[security]\nuser = {}\n",
        quoted(&setup.host_name),
        quoted(&init.storage.to_string_lossy()),
        quoted(&init.user)
    );
    text.push_str(setup::CERTIFICATES);
    text.push_str(&listener("mx", "mx", "*:25", "starttls", "smtp"));
    text.push_str(&listener("submission", "submission", "*:587", "starttls", "smtp"));
    text.push_str(&listener("submissions", "submission", "*:465", "implicit", "smtp"));
    text.push_str(&listener("imaps", "imap", "*:993", "implicit", "mail"));
    text.push_str(&listener("pop3s", "pop3", "*:995", "implicit", "mail"));
    text.push_str(&listener("metrics", "metrics", "127.0.0.1:8080", "none", "mail"));
    text
}

/// A string as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn tell(setup: &Setup, init: &Init, domain: &str, account: &str, records: &[String], requests: &[PathBuf]) -> String {
    let file = setup.folder.join("pillarbox.toml");
    let (file, folder) = (file.display(), setup.folder.display());
    // R14: tables are the server's own; keys stay root's, who reads them before the server becomes its user.
    let mut text = format!(
        "Made {file}\n\nNext:\n  1. Make the user that the server becomes (once):\n       \
         useradd --system --home-dir {} --shell /usr/sbin/nologin {user}\n       \
         chown -R {user}: {folder} && chown -R root: {folder}/tls\n  2. pillarbox --config {file} check\n  \
         3. pillarbox --config {file} serve\n\nPublish in the zone of {domain} (what stands in <> is yours to fill in):\n",
        init.storage.display(),
        user = init.user,
    );
    for record in records {
        text.push_str(&format!("  {record}\n"));
    }
    text.push_str(&format!(
        "\nShow them again: pillarbox --config {file} dns records\n\
         See whether they are there: pillarbox --config {file} dns check\n"
    ));
    text.push_str(&format!("\nFirst account: {account}. More: pillarbox account add name@{domain}\n"));
    for request in requests {
        text.push_str(&format!("Certificate signing request: {}\n", request.display()));
    }
    text
}
