//! `demo`: a whole server for example.net on loopback, to try it. The data stays for the next run.

use super::setup::{self, Setup, listener, role_aliases};
use crate::cli::Demo;
use crate::config::{self, Loaded};
use crate::output::Output;
use anyhow::{Context, anyhow, bail};
use deliver::Intake;
use directory::Route;
use mail::{AccountName, InternalDate};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use store::MailStore;

/// Password of both accounts.
const PASSWORD: &str = "mailbox";
const BRIAN: &str = "brian@example.net";
const NOT_BRIAN: &str = "notbrian@example.net";

/// Makes the folder if it is not there, serves, and says what to try.
pub fn demo(demo: &Demo, output: &Output) -> anyhow::Result<()> {
    let file = demo.folder.join("pillarbox.toml");
    let is_new = !file.exists();
    if is_new {
        make(demo)?;
    }
    let loaded = config::load(&file).map_err(|findings| anyhow!("{}", super::joined(&findings)))?;
    if is_new {
        welcome(&loaded)?;
    }
    let told = [2525, 2587, 2993, 2995].map(|port| address(port, demo.port_offset));
    if !loaded.config.listeners.iter().any(|listener| told.contains(&listener.address)) {
        bail!("{} was made with another --port-offset; use that one, or another --folder", file.display());
    }
    let text = what_to_try(demo, &file);
    crate::serve::serve(loaded, || output.say(text))
}

fn make(demo: &Demo) -> anyhow::Result<()> {
    let setup = Setup {
        folder: demo.folder.clone(),
        host_name: "mx.example.net".into(),
        mail_name: "mail.example.net".into(),
        subject: ("US".into(), "Example Networks".into()),
    };
    setup.make_folder()?;
    setup.make_certificates()?;
    // The guide's cost, so that a login is quick; `account add` takes a stronger scheme.
    let line = |account: &str| -> anyhow::Result<String> {
        Ok(format!("{account}:{}::::::\n", super::password::hash("BLF-CRYPT", Some(8), Some(PASSWORD))?))
    };
    setup.write("accounts", &format!("{}{}", line(BRIAN)?, line(NOT_BRIAN)?))?;
    setup.write("domains", "example.net\nanother-example.com\n")?;
    setup.write("mailboxes", &format!("{BRIAN} true\n{NOT_BRIAN} true\n"))?;
    let aliases = format!(
        "{}info@example.net {BRIAN},{NOT_BRIAN}\ninfo@another-example.com {NOT_BRIAN}\npostmaster@another-example.com {BRIAN}\n\
         abuse@another-example.com {BRIAN}\n# Everything not declared otherwise (take the sign away to try it):\n# *@example.net {NOT_BRIAN}\n",
        role_aliases("example.net", BRIAN)
    );
    setup.write("aliases", &aliases)?;
    setup.write(
        "senders",
        &format!("{BRIAN} {BRIAN}\n{NOT_BRIAN} {NOT_BRIAN}\ninfo@example.net {BRIAN}, {NOT_BRIAN}\n"),
    )?;
    setup.write("sasl_access", "# login ACTION\n")?;
    setup.write("recipient_access", "# address-or-domain ACTION\n")?;
    setup.write("relay_domains", "# one domain a line\n")?;
    // Last, so that a folder half made is made again.
    setup.write("pillarbox.toml", &configuration(demo.port_offset))
}

fn configuration(offset: u16) -> String {
    let mut text = String::from(
        "# A server to try things with, on loopback only. `pillarbox config explain` tells all settings.\n\
         host_name = \"mx.example.net\"\n\n[storage]\nfolder = \"mail\"\n\n[security]\nallow_root = true\n\n\
         # The demonstration asks nobody outside this machine, so mail for elsewhere waits in the queue.\n\
         [dns]\nservers = [\"127.0.0.1\"]\n",
    );
    text.push_str(setup::CERTIFICATES);
    for (name, protocol, port, tls, certificates) in [
        ("mx", "mx", 2525, "starttls", "smtp"),
        ("submission", "submission", 2587, "starttls", "smtp"),
        ("submissions", "submission", 2465, "implicit", "smtp"),
        ("imaps", "imap", 2993, "implicit", "mail"),
        ("imap", "imap", 2143, "starttls", "mail"),
        ("pop3s", "pop3", 2995, "implicit", "mail"),
        ("pop3", "pop3", 2110, "starttls", "mail"),
        ("metrics", "metrics", 8080, "none", "mail"),
    ] {
        text.push_str(&listener(name, protocol, &address(port, offset), tls, certificates));
    }
    text.push_str(&listener("lmtp", "lmtp", "mail/lmtp.sock", "none", "smtp"));
    text
}

fn address(port: u16, offset: u16) -> String {
    format!("127.0.0.1:{}", port.saturating_add(offset))
}

/// The first message in brian's INBOX.
fn welcome(loaded: &Loaded) -> anyhow::Result<()> {
    let store = crate::serve::open_store(&loaded.config)?;
    let directory = crate::serve::open_directory(&loaded.config)?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
    let date = InternalDate { unix_seconds: seconds, zone_minutes: 0 };
    let text = format!(
        "From: pillarbox <postmaster@example.net>\r\nTo: Brian <{BRIAN}>\r\nSubject: Welcome to pillarbox\r\nDate: {}\r\n\
         Message-ID: <welcome.{seconds}@mx.example.net>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
         This message lies in the store of your demonstration server.\r\nSend another one and watch it arrive:\r\n\r\n    \
         swaks --server 127.0.0.1:2525 --to {BRIAN} --from you@example.org\r\n",
        date.civil().to_rfc5322()
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut intake = Intake::verbatim(&store)?;
        intake.write(text.as_bytes());
        let body = intake.finish(b"")?;
        let brian = AccountName::parse(BRIAN).context("an account name")?;
        let commit = deliver::commit(&[Route::Mailbox(brian)], body.body.id, date, &directory, true);
        let outcomes = store.commit(commit).await?;
        if let Some(Err(refused)) = outcomes.into_iter().next() {
            return Err(anyhow!("the welcome message was refused: {refused:?}"));
        }
        Ok(store.close().await?)
    })
}

fn what_to_try(demo: &Demo, file: &Path) -> String {
    let port = |port: u16| port.saturating_add(demo.port_offset);
    let (mx, submission, submissions) = (port(2525), port(2587), port(2465));
    let (imaps, imap, pop3s, pop3, metrics) = (port(2993), port(2143), port(2995), port(2110), port(8080));
    let folder = demo.folder.display();
    format!(
        "pillarbox serves example.net from {folder}, on loopback only. Ctrl-C ends it; the mail stays.\n\
         \n\
         Accounts: {BRIAN} and {NOT_BRIAN}, password: {PASSWORD}\n\
         Ports:    {mx} SMTP, {submission} submission, {submissions} submission (TLS), {imaps} IMAPS, {imap} IMAP (STARTTLS),\n          \
         {pop3s} POP3S, {pop3} POP3 (STLS), {metrics} metrics\n\
         \n\
         Send a message:\n  \
         swaks --server 127.0.0.1:{mx} --from you@example.org --to {BRIAN}\n  \
         swaks --server 127.0.0.1:{submission} --tls --auth-user {BRIAN} --auth-password {PASSWORD} --from {BRIAN} --to {NOT_BRIAN}\n\
         Read mail:\n  \
         curl -k --user {BRIAN}:{PASSWORD} 'imaps://127.0.0.1:{imaps}/INBOX;MAILINDEX=1'\n  \
         curl -k --user {BRIAN}:{PASSWORD} pop3s://127.0.0.1:{pop3s}/1\n\
         Talk to it by hand:\n  \
         openssl s_client -quiet -crlf -connect 127.0.0.1:{imaps}      (then: a login {BRIAN} {PASSWORD})\n  \
         openssl s_client -quiet -crlf -starttls smtp -connect 127.0.0.1:{mx}\n\
         Mirror a mailbox with mbsync: put this into mbsyncrc, then `mbsync -c mbsyncrc demo`\n  \
         IMAPAccount demo\n  Host 127.0.0.1\n  Port {imaps}\n  User {BRIAN}\n  Pass {PASSWORD}\n  TLSType IMAPS\n  \
         CertificateFile {folder}/tls/mail-rsa-cert.pem\n  CertificateFile {folder}/tls/mail-ecdsa-cert.pem\n  \
         IMAPStore far\n  Account demo\n  MaildirStore near\n  Path ./mirror/\n  Inbox ./mirror/INBOX\n  SubFolders Verbatim\n  \
         Channel demo\n  Far :far:\n  Near :near:\n  Patterns *\n  Create Near\n\
         Thunderbird: account {BRIAN}, manual configuration:\n  \
         incoming IMAP 127.0.0.1, port {imaps}, SSL/TLS, normal password\n  \
         outgoing SMTP 127.0.0.1, port {submission}, STARTTLS, normal password; accept the self-signed certificates\n\
         See what it does:\n  \
         curl http://127.0.0.1:{metrics}/metrics\n  \
         pillarbox --config {} status\n",
        file.display()
    )
}
