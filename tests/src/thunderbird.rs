//! Thunderbird with one account of a server, without a screen. What its user would do is done in its own windows, by
//! Marionette, the protocol that the tests of Mozilla use: JSON with its length in front, over loopback.

use crate::internet::daemon::Daemon;
use crate::server::{PASSWORD, Port, Server};
use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The program itself: Debian's `thunderbird` is a script that looks after old profiles first.
const PROGRAM: &str = "/usr/lib/thunderbird/thunderbird";
/// The deeds.
const SCRIPT: &str = include_str!("../scripts/thunderbird.js");
/// The server's name: Thunderbird is told that it is this machine.
const HOST: &str = "mail.example.net";
/// Longest wait for an answer; its start is part of the first.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A running Thunderbird; ended when dropped.
pub struct Thunderbird {
    stream: BufReader<TcpStream>,
    /// Commands are counted from 1.
    commands: u64,
    _daemon: Daemon,
}

impl Thunderbird {
    /// Starts one with a new profile, in a folder that goes when the server does.
    pub fn start(server: &Server, account: &str) -> anyhow::Result<Thunderbird> {
        let profile = server.scratch("thunderbird");
        std::fs::create_dir(&profile)?;
        std::fs::write(profile.join("prefs.js"), preferences(server, account))?;
        std::fs::write(profile.join("cert_override.txt"), accepted_certificates(server)?)?;
        let mut command = Command::new(PROGRAM);
        command.args(["--headless", "--no-remote", "--marionette", "--remote-allow-system-access", "--profile"]);
        command.arg(&profile).env("HOME", &profile);
        let mut daemon = Daemon::start(&mut command, &server.scratch("thunderbird.log"))?;
        let port = || std::fs::read_to_string(profile.join("MarionetteActivePort")).ok()?.trim().parse::<u16>().ok();
        daemon.wait_until(|| port().is_some())?;
        let stream = TcpStream::connect(("127.0.0.1", port().context("a port")?))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let mut thunderbird = Thunderbird { stream: BufReader::new(stream), commands: 0, _daemon: daemon };
        // It says first who it is.
        thunderbird.message()?;
        thunderbird.command("WebDriver:NewSession", &json!({}))?;
        thunderbird.command("Marionette:SetContext", &json!({ "value": "chrome" }))?;
        thunderbird.deed(&["remember", HOST, account, PASSWORD])?;
        Ok(thunderbird)
    }

    /// Opens the message of a subject in the inbox, and marks it once these words are shown; gives what is shown.
    pub fn read(&mut self, subject: &str, words: &str) -> anyhow::Result<String> {
        let shown = self.deed(&["read", subject, words])?;
        Ok(shown.as_str().context("what is shown")?.to_owned())
    }

    /// Writes a message and sends it over a port of submission.
    pub fn send(&mut self, over: Port, to: &str, subject: &str, body: &str) -> anyhow::Result<()> {
        let (identity, ..) = OUTGOING.into_iter().find(|(_, port, _)| *port == over).context("a port of submission")?;
        self.deed(&["send", identity, to, subject, body]).map(drop)
    }

    fn deed(&mut self, words: &[&str]) -> anyhow::Result<Value> {
        let arguments = json!({ "script": SCRIPT, "args": words, "sandbox": "system" });
        let mut outcome = self.command("WebDriver:ExecuteAsyncScript", &arguments)?["value"].take();
        ensure!(outcome["error"].is_null(), "{words:?}: {}", outcome["error"]);
        Ok(outcome["value"].take())
    }

    fn command(&mut self, name: &str, arguments: &Value) -> anyhow::Result<Value> {
        self.commands += 1;
        let text = json!([0, self.commands, name, arguments]).to_string();
        write!(self.stream.get_mut(), "{}:{text}", text.len())?;
        let mut answer = self.message()?;
        if !answer[2].is_null() {
            bail!("{name}: {}", answer[2]);
        }
        Ok(answer[3].take())
    }

    fn message(&mut self) -> anyhow::Result<Value> {
        let mut length = Vec::new();
        self.stream.read_until(b':', &mut length)?;
        let length = std::str::from_utf8(&length)?.strip_suffix(':').context("Thunderbird went away")?.parse()?;
        let mut text = vec![0; length];
        self.stream.read_exact(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// The account's identities: each sends over a port of its own, of the kind with this number.
const OUTGOING: [(&str, Port, u8); 2] = [("implicit", Port::Submissions, 3), ("starttls", Port::Submission, 2)];

/// What the account's settings would hold after they were filled in. Nothing is asked of the web.
fn preferences(server: &Server, account: &str) -> String {
    let mut lines = vec![
        "\"marionette.port\", 0".to_owned(),
        format!("\"network.dns.localDomains\", \"{HOST}\""),
        "\"network.proxy.type\", 1".to_owned(),
        "\"network.proxy.http\", \"127.0.0.1\"".to_owned(),
        "\"network.proxy.http_port\", 1".to_owned(),
        "\"network.proxy.ssl\", \"127.0.0.1\"".to_owned(),
        "\"network.proxy.ssl_port\", 1".to_owned(),
        "\"mailnews.start_page.enabled\", false".to_owned(),
        "\"mail.accountmanager.accounts\", \"account1\"".to_owned(),
        "\"mail.accountmanager.defaultaccount\", \"account1\"".to_owned(),
        "\"mail.account.account1.server\", \"server1\"".to_owned(),
        format!("\"mail.account.account1.identities\", \"{}\"", OUTGOING.map(|(name, ..)| name).join(",")),
        format!("\"mail.smtpservers\", \"{}\"", OUTGOING.map(|(name, ..)| name).join(",")),
    ];
    let text = |name: &str, value: &str| format!("\"{name}\", \"{value}\"");
    let incoming = "mail.server.server1";
    lines.extend(
        [("type", "imap"), ("name", account), ("hostname", HOST), ("userName", account)]
            .map(|(name, value)| text(&format!("{incoming}.{name}"), value)),
    );
    // 3 is TLS from the first octet, and a password as it is.
    lines.extend(
        [("port", server.port(Port::Imaps)), ("socketType", 3), ("authMethod", 3)]
            .map(|(name, value)| format!("\"{incoming}.{name}\", {value}")),
    );
    // Until the password is known, nothing may ask for it.
    lines.extend(["login_at_startup", "check_new_mail"].map(|name| format!("\"{incoming}.{name}\", false")));
    for (name, port, kind) in OUTGOING {
        let (identity, outgoing) = (format!("mail.identity.{name}"), format!("mail.smtpserver.{name}"));
        lines.extend([
            text(&format!("{identity}.fullName"), "Brian"),
            text(&format!("{identity}.useremail"), account),
            text(&format!("{identity}.smtpServer"), name),
            format!("\"{identity}.valid\", true"),
            text(&format!("{outgoing}.hostname"), HOST),
            text(&format!("{outgoing}.username"), account),
            format!("\"{outgoing}.port\", {}", server.port(port)),
            format!("\"{outgoing}.try_ssl\", {kind}"),
            format!("\"{outgoing}.authMethod\", 3"),
        ]);
    }
    lines.iter().map(|line| format!("user_pref({line});\n")).collect()
}

/// The server's certificates, signed by themselves, as a user accepts them: by fingerprint, for a host and port.
fn accepted_certificates(server: &Server) -> anyhow::Result<String> {
    let accept = |port: Port, name: &str| {
        let certificate = CertificateDer::from_pem_file(server.folder.join(Path::new("tls").join(name)))
            .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        let octets = digest::digest(&digest::SHA256, &certificate);
        let octets: Vec<String> = octets.as_ref().iter().map(|octet| format!("{octet:02X}")).collect();
        anyhow::Ok(format!("{HOST}:{}:\tOID.2.16.840.1.101.3.4.2.1\t{}\t\n", server.port(port), octets.join(":")))
    };
    Ok([
        accept(Port::Imaps, "mail-ecdsa-cert.pem")?,
        accept(Port::Submissions, "ecdsa-cert.pem")?,
        accept(Port::Submission, "ecdsa-cert.pem")?,
    ]
    .concat())
}
