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
use std::process::Command;
use std::time::Duration;

/// The program itself: Debian's `thunderbird` is a script that looks after old profiles first.
const PROGRAM: &str = "/usr/lib/thunderbird/thunderbird";
/// The deeds.
const SCRIPT: &str = include_str!("../scripts/thunderbird.js");
/// The server's name: Thunderbird is told that it is this machine.
const HOST: &str = "mail.example.net";
/// The account's identities: each sends over a port of its own, 3 with TLS from the first octet, 2 with STARTTLS.
const OUTGOING: [(&str, Port, u8); 2] = [("implicit", Port::Submissions, 3), ("starttls", Port::Submission, 2)];
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

/// What the account's settings would hold after they were filled in. Nothing is asked of the web.
fn preferences(server: &Server, account: &str) -> String {
    let names = OUTGOING.map(|(name, ..)| name).join(",");
    let fixed = [
        ("marionette.port", json!(0)),
        ("network.dns.localDomains", json!(HOST)),
        ("network.proxy.type", json!(1)),
        ("network.proxy.http", json!("127.0.0.1")),
        ("network.proxy.http_port", json!(1)),
        ("network.proxy.ssl", json!("127.0.0.1")),
        ("network.proxy.ssl_port", json!(1)),
        ("mailnews.start_page.enabled", json!(false)),
        ("mail.accountmanager.accounts", json!("account1")),
        ("mail.accountmanager.defaultaccount", json!("account1")),
        ("mail.account.account1.server", json!("server1")),
        ("mail.account.account1.identities", json!(names)),
        ("mail.smtpservers", json!(names)),
        ("mail.server.server1.type", json!("imap")),
        ("mail.server.server1.name", json!(account)),
        ("mail.server.server1.userName", json!(account)),
        ("mail.server.server1.hostname", json!(HOST)),
        ("mail.server.server1.port", json!(server.port(Port::Imaps))),
        // TLS from the first octet, and a password as it is.
        ("mail.server.server1.socketType", json!(3)),
        ("mail.server.server1.authMethod", json!(3)),
        // Until the password is known, nothing may ask for it.
        ("mail.server.server1.login_at_startup", json!(false)),
        ("mail.server.server1.check_new_mail", json!(false)),
    ];
    let mut all = fixed.map(|(name, value)| (name.to_owned(), value)).to_vec();
    for (name, port, kind) in OUTGOING {
        all.extend([
            (format!("mail.identity.{name}.fullName"), json!("Brian")),
            (format!("mail.identity.{name}.useremail"), json!(account)),
            (format!("mail.identity.{name}.smtpServer"), json!(name)),
            (format!("mail.identity.{name}.valid"), json!(true)),
            (format!("mail.smtpserver.{name}.hostname"), json!(HOST)),
            (format!("mail.smtpserver.{name}.port"), json!(server.port(port))),
            (format!("mail.smtpserver.{name}.username"), json!(account)),
            (format!("mail.smtpserver.{name}.try_ssl"), json!(kind)),
            (format!("mail.smtpserver.{name}.authMethod"), json!(3)),
        ]);
    }
    all.iter().map(|(name, value)| format!("user_pref(\"{name}\", {value});\n")).collect()
}

/// The server's certificates, signed by themselves, as a user accepts them: by fingerprint, for a host and port.
fn accepted_certificates(server: &Server) -> anyhow::Result<String> {
    let accept = |port: Port, name: &'static str| {
        let certificate = CertificateDer::from_pem_file(server.folder.join("tls").join(name)).context(name)?;
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
