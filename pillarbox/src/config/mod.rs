//! The one configuration file: its settings, how it is read, and what is wrong with it.
//!
//! `pillarbox.toml` names everything; every setting has a default, so the smallest file holds a host name. Relative paths
//! count from the folder of the file. [`load`] gives the configuration or findings with file, line, cause and cure;
//! nothing here opens a socket or a store.

mod check;
mod quantity;
pub mod sending;
pub mod settings;
mod show;

pub use check::{Finding, Severity};
pub use quantity::Octets;
pub use show::{changed, explain, manual_page, table};

use serde::{Deserialize, Serialize};
use settings::section;
use std::path::{Path, PathBuf};

section! {
    /// The server as a whole.
    pub struct Config {
        /// The name by which this server greets, is named in trace fields and appears in MX records: a fully qualified
        /// host name. The only setting without which nothing works.
        pub host_name: String = String::new();
        /// Where and how mail is kept.
        pub storage: Storage = Storage::default();
        /// Who has an account, which domains are ours, and the other tables.
        pub directory: Directory = Directory::default();
        /// Bounds on what one message, one connection or all of them may take.
        pub limits: Limits = Limits::default();
        /// Who is trusted, and which checks decide on a recipient.
        pub policy: Policy = Policy::default();
        /// What our own accounts and trusted networks may send, and how.
        pub submission: sending::Submission = sending::Submission::default();
        /// How long and how often delivery to others is tried.
        pub queue: sending::Queue = sending::Queue::default();
        /// How mail goes to other servers.
        pub outbound: sending::Outbound = sending::Outbound::default();
        /// Whom to ask for names.
        pub dns: sending::Dns = sending::Dns::default();
        /// Mail that an alias sends on to another house.
        pub forwarding: sending::Forwarding = sending::Forwarding::default();
        /// A copy of every message that passes through.
        pub archive: sending::Archive = sending::Archive::default();
        /// How long the stories of messages are kept.
        pub history: sending::History = sending::History::default();
        /// What is logged, where and in which form.
        pub log: Log = Log::default();
        /// As whom the server runs, and what it may touch.
        pub security: Security = Security::default();
        /// Sets of certificates, each under a name that listeners refer to.
        pub certificates: Vec<CertificateSet> = vec![CertificateSet::default()];
        /// Where connections are accepted. A file that names any listener names them all.
        #[serde(rename = "listener")]
        pub listeners: Vec<Listener> = default_listeners();
    }
}

section! {
    /// `[storage]`: where and how mail is kept.
    pub struct Storage {
        /// Folder of all mail and of the control socket. Belongs to the server's user, mode 0700.
        pub folder: PathBuf = "/var/lib/pillarbox".into();
        /// Room kept free on its disk. When less is free, new mail is put off with 452 until there is room again.
        pub reserve: Octets = Octets(100_000_000);
        /// Largest size of a file of message bodies; at this size a new one is begun.
        pub segment_size: Octets = Octets(64 << 20);
    }
}

section! {
    /// `[directory]`: accounts, domains, aliases and access tables. Plain text files, read again when they change; a broken
    /// edit keeps the old content and is reported.
    pub struct Directory {
        /// Accounts and their passwords: `user@domain:{SCHEME}hash::::::extra`, eight fields as in a passwd-file.
        pub accounts: PathBuf = "accounts".into();
        /// Domains whose mail is delivered here, one a line.
        pub domains: PathBuf = "domains".into();
        /// Addresses that exist: `address true`. Where the file is missing, every account is an address.
        pub mailboxes: PathBuf = "mailboxes".into();
        /// Other names of addresses: `address target[, target...]`; `@domain` catches what is not declared otherwise.
        pub aliases: PathBuf = "aliases".into();
        /// Who may send as whom: `address login[, login...]`.
        pub senders: PathBuf = "senders".into();
        /// What to do with the submissions of a login: `login ACTION`, such as HOLD or REJECT.
        pub sasl_access: PathBuf = "sasl_access".into();
        /// What to do with mail for an address or domain: `address-or-domain ACTION`.
        pub recipient_access: PathBuf = "recipient_access".into();
        /// Domains whose mail is passed on to another server, one a line.
        pub relay_domains: PathBuf = "relay_domains".into();
        /// Addresses that exist in relay domains: `address true`. Where the file is missing, all of them do.
        pub relay_recipients: PathBuf = "relay_recipients".into();
        /// Ways out that differ from the usual one: `recipient transport`, such as `example.org smtp:[host]:port`. Keys are
        /// addresses, domains, `.domain` for those below it, or `*`.
        pub transport: PathBuf = "transport".into();
        /// The same by reverse-path: `sender transport`. `transport` comes first.
        pub sender_transport: PathBuf = "sender_transport".into();
        /// How we log in at next hops: `[host]:port login:password`. Mode 0600.
        pub relay_credentials: PathBuf = "relay_credentials".into();
        /// Keys that sign the mail of our domains (DKIM): `domain selector key-file [published|active|retired]`.
        pub dkim: PathBuf = "dkim".into();
        /// The sign that begins the detail of an address, such as `+` in `user+detail@domain`. Empty: no details.
        pub recipient_delimiter: String = String::new();
        /// What an account may hold, unless its line in the accounts file says otherwise. `0`: without limit.
        pub quota: Octets = Octets(1 << 30);
        /// How far one last delivery may carry an account beyond its quota, in per cent of it.
        pub quota_grace_percent: u8 = 10;
        /// The domain that a login name without one gets, so that it can never be mistaken for an address.
        pub default_realm: String = "unknown".into();
    }
}

section! {
    /// `[limits]`: bounds on what peers can make the server do.
    pub struct Limits {
        /// Largest message, from whatever source.
        pub message_size: Octets = Octets(51_200_000);
        /// Most recipients of one message.
        pub recipients: u32 = 1_000;
        /// Most Received fields of a message that is taken: more mean a loop.
        pub hops: u32 = 50;
        /// Most connections of all listeners together.
        pub connections: u32 = 20_000;
        /// Most connections from one address, for each listener. Trusted networks are exempt.
        pub connections_per_address: u32 = 100;
        /// Wrong commands after which an SMTP session is ended.
        pub errors: u32 = 20;
        /// Seconds that an answer to wrong credentials takes, so that guessing is slow.
        pub authentication_delay_seconds: u64 = 2;
    }
}

section! {
    /// `[policy]`: who is trusted, and in which order checks decide on a recipient. The first decisive one wins.
    pub struct Policy {
        /// Networks whose clients are trusted as `permit_mynetworks` says, and may end lines with a bare LF.
        pub trusted_networks: Vec<String> = vec!["127.0.0.0/8".into(), "::1/128".into()];
        /// Checks of each recipient, in order. `pillarbox config explain policy.recipient_checks` lists them:
        ///
        /// `permit_mynetworks`: clients of trusted networks may send to anyone.
        /// `check_sasl_access`: the table `sasl_access` decides on the login.
        /// `reject_sender_login_mismatch`: the reverse-path must belong to the login (table `senders`).
        /// `permit_sasl_authenticated`: authenticated clients may send to anyone.
        /// `reject_unlisted_recipient`: addresses of our domains must exist.
        /// `reject_non_fqdn_recipient`: addresses must have a full domain.
        /// `reject_unauth_destination`: only our domains; never leave it out.
        /// `reject_unknown_recipient_domain`: a domain that we pass mail on to must be able to get any.
        /// `check_recipient_access`: the table `recipient_access` decides.
        /// `check_quota`: mailboxes that are full take nothing.
        pub recipient_checks: Vec<String> = policy::CheckName::GUIDE.iter().map(|check| check.name().to_owned()).collect();
    }
}

section! {
    /// `[log]`: one line for each event.
    pub struct Log {
        /// `text` or `json`.
        pub format: LogFormat = LogFormat::Text;
        /// Least important level that is logged: `error`, `warn`, `info`, `debug` or `trace`; also `info,smtpd=debug`.
        pub level: String = "info".into();
        /// File to append to, opened anew on SIGHUP. Empty: standard error.
        pub file: PathBuf = PathBuf::new();
    }
}

section! {
    /// `[security]`: what is left to an intruder.
    pub struct Security {
        /// User to become after ports are bound and keys are read. Empty: stay who started it. Started as root without a
        /// user to become, the server refuses to run unless `allow_root` is set.
        pub user: String = "pillarbox".into();
        /// Run as root all the same. For containers that have no other user.
        pub allow_root: bool = false;
        /// Restrict the process to the folders it needs (Landlock), where the kernel can.
        pub confine: bool = true;
    }
}

section! {
    /// `[[certificates]]`: a named set of certificates; the client's abilities and the name it asks for choose among them.
    pub struct CertificateSet {
        /// The name that listeners refer to.
        pub name: String = "default".into();
        /// Files of certificate chains in PEM form, the server's own certificate first.
        pub chains: Vec<PathBuf> = vec!["tls/rsa-cert.pem".into(), "tls/ecdsa-cert.pem".into()];
        /// Files of the private keys, in the same order. Mode 0600.
        pub keys: Vec<PathBuf> = vec!["tls/rsa-key.pem".into(), "tls/ecdsa-key.pem".into()];
    }
}

section! {
    /// `[[listener]]`: where connections are accepted and what is spoken there.
    pub struct Listener {
        /// Name in log lines and metrics.
        pub name: String = String::new();
        /// What is spoken: `mx` (mail from other servers), `submission`, `lmtp`, `imap`, `pop3`, or `metrics` (Prometheus, HTTP).
        pub protocol: Protocol = Protocol::Mx;
        /// `address:port`, `*:port` for every address of the host, or the path of a UNIX socket (any text with a `/`).
        pub address: String = String::new();
        /// `none`, `starttls` (offered; for submission, IMAP and POP3 demanded before a login) or `implicit` (from the first octet).
        pub tls: TlsMode = TlsMode::Starttls;
        /// Set of certificates.
        pub certificates: String = "default".into();
        /// Mode of a UNIX socket, octal.
        pub socket_mode: String = "0660".into();
        /// Owner of a UNIX socket, `user` or `user:group`, such as `postfix:postfix`. Empty: the server's user. Takes root.
        pub socket_owner: String = String::new();
        /// Proxies (addresses or networks) whose PROXY header, version 1 or 2, is believed. Connections from them must
        /// begin with one.
        pub proxy_from: Vec<String> = Vec::new();
        /// Extensions or capabilities not announced here and refused when used. SMTP's defaults leave out SMTPUTF8 and
        /// CHUNKING; name them in `offer` to have them.
        pub mask: Vec<String> = Vec::new();
        /// Extensions to announce beyond the default list.
        pub offer: Vec<String> = Vec::new();
        /// Checks of each recipient on this listener; empty: `policy.recipient_checks`.
        pub recipient_checks: Vec<String> = Vec::new();
    }
}

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// SMTP from other servers.
    Mx,
    /// SMTP from our accounts.
    Submission,
    /// LMTP.
    Lmtp,
    /// IMAP.
    Imap,
    /// POP3.
    Pop3,
    /// Prometheus metrics over HTTP.
    Metrics,
}

/// How a listener uses TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Not at all.
    None,
    /// After STARTTLS or STLS.
    Starttls,
    /// From the first octet.
    Implicit,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `time level event field=value ...`
    Text,
    /// One JSON object a line.
    Json,
}

/// The listeners of a server whose file names none.
fn default_listeners() -> Vec<Listener> {
    let listener = |name: &str, protocol, port: u16, tls| Listener {
        name: name.into(),
        protocol,
        address: format!("*:{port}"),
        tls,
        ..Listener::default()
    };
    vec![
        listener("mx", Protocol::Mx, 25, TlsMode::Starttls),
        listener("submission", Protocol::Submission, 587, TlsMode::Starttls),
        listener("submissions", Protocol::Submission, 465, TlsMode::Implicit),
        listener("imaps", Protocol::Imap, 993, TlsMode::Implicit),
        listener("pop3s", Protocol::Pop3, 995, TlsMode::Implicit),
    ]
}

/// A configuration with the place it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The file.
    pub file: PathBuf,
    /// Its text, for finding lines.
    pub text: String,
    /// What it says, word for word.
    pub written: Config,
    /// What it says; paths are absolute.
    pub config: Config,
}

/// Reads a configuration and checks it by itself (tables and certificates are looked at by whoever opens them).
pub fn load(file: &Path) -> Result<Loaded, Vec<Finding>> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let text = std::fs::read_to_string(&file).map_err(|error| {
        vec![Finding::error(
            &file,
            None,
            format!("cannot be read: {error}"),
            "name the file with --config, or make one with `pillarbox init`",
        )]
    })?;
    let written = parse(&file, &text).map_err(|finding| vec![finding])?;
    let mut config = written.clone();
    config.make_absolute(file.parent().unwrap_or(Path::new("/")));
    let loaded = Loaded { file, text, written, config };
    let errors: Vec<Finding> =
        loaded.check().into_iter().filter(|finding| finding.severity == Severity::Error).collect();
    if errors.is_empty() { Ok(loaded) } else { Err(errors) }
}

/// Reads the text of a configuration.
pub fn parse(file: &Path, text: &str) -> Result<Config, Finding> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_at(text, span.start));
        Finding::error(
            file,
            line,
            error.message().to_owned(),
            "see `pillarbox config explain` for the settings there are",
        )
    })
}

/// The number of the line that holds an offset, from 1.
pub fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|octet| *octet == b'\n').count() + 1
}

impl Directory {
    /// The files of all tables.
    pub fn files(&self) -> [&PathBuf; 13] {
        [
            &self.accounts,
            &self.domains,
            &self.mailboxes,
            &self.aliases,
            &self.senders,
            &self.sasl_access,
            &self.recipient_access,
            &self.relay_domains,
            &self.relay_recipients,
            &self.transport,
            &self.sender_transport,
            &self.relay_credentials,
            &self.dkim,
        ]
    }
}

impl Config {
    fn make_absolute(&mut self, folder: &Path) {
        let directory = &mut self.directory;
        let tables = [
            &mut directory.accounts,
            &mut directory.domains,
            &mut directory.mailboxes,
            &mut directory.aliases,
            &mut directory.senders,
            &mut directory.sasl_access,
            &mut directory.recipient_access,
            &mut directory.relay_domains,
            &mut directory.relay_recipients,
            &mut directory.transport,
            &mut directory.sender_transport,
            &mut directory.relay_credentials,
            &mut directory.dkim,
            &mut self.storage.folder,
        ];
        for path in tables {
            *path = folder.join(&*path);
        }
        for set in &mut self.certificates {
            for path in set.chains.iter_mut().chain(&mut set.keys) {
                *path = folder.join(&*path);
            }
        }
        let optional = [
            &mut self.log.file,
            &mut self.outbound.ca_file,
            &mut self.dns.trust_anchors,
            &mut self.submission.header_rules,
            &mut self.forwarding.secret_file,
        ];
        for path in optional.into_iter().filter(|path| !path.as_os_str().is_empty()) {
            *path = folder.join(&*path);
        }
        for listener in &mut self.listeners {
            if listener.address.contains('/') {
                listener.address = folder.join(&listener.address).to_string_lossy().into_owned();
            }
        }
    }

    /// What the directory is opened with.
    pub fn directory_settings(&self) -> directory::Settings {
        let tables = &self.directory;
        directory::Settings {
            files: directory::Files {
                accounts: tables.accounts.clone(),
                domains: tables.domains.clone(),
                relay_domains: tables.relay_domains.clone(),
                relay_recipients: tables.relay_recipients.clone(),
                transport: tables.transport.clone(),
                sender_transport: tables.sender_transport.clone(),
                relay_credentials: tables.relay_credentials.clone(),
                mailboxes: tables.mailboxes.clone(),
                aliases: tables.aliases.clone(),
                senders: tables.senders.clone(),
                sasl_access: tables.sasl_access.clone(),
                recipient_access: tables.recipient_access.clone(),
            },
            default_realm: tables.default_realm.clone(),
            recipient_delimiter: tables.recipient_delimiter.chars().next(),
            quota: directory::QuotaDefaults {
                octets_max: (tables.quota.0 > 0).then_some(tables.quota.0),
                messages_max: None,
                grace_percent: tables.quota_grace_percent,
            },
        }
    }

    /// Files of the sending side that a reload reads again.
    pub fn submission_files(&self) -> Vec<PathBuf> {
        let files = [&self.submission.header_rules, &self.outbound.ca_file, &self.dns.trust_anchors];
        files.into_iter().filter(|path| !path.as_os_str().is_empty()).cloned().collect()
    }

    /// Where the running server listens for its administrator.
    pub fn control_socket(&self) -> PathBuf {
        self.storage.folder.join("control.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_file_is_a_host_name() {
        let config = parse(Path::new("x"), "host_name = \"mx.example.net\"").unwrap();
        assert_eq!(config, Config { host_name: "mx.example.net".into(), ..Config::default() });
    }

    #[test]
    fn p58_an_unknown_setting_is_named_with_its_line() {
        let finding = parse(Path::new("x"), "host_name = \"a.b\"\n\n[storage]\nfoldr = \"/tmp\"\n").unwrap_err();
        assert_eq!(finding.line, Some(4), "{finding}");
        assert!(finding.cause.contains("foldr"), "{finding}");
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let config = parse(Path::new("x"), "host_name = \"a.b\"\n[limits]\nmessage_size = \"10M\"\n").unwrap();
        assert_eq!(config.limits.message_size, Octets(10 << 20));
        assert_eq!(parse(Path::new("x"), &table(&config).to_string()).unwrap(), config);
        let changed = changed(&config).to_string();
        assert_eq!(changed.trim(), "host_name = \"a.b\"\n\n[limits]\nmessage_size = \"10M\"");
        assert_eq!(parse(Path::new("x"), &changed).unwrap(), config);
    }
}
