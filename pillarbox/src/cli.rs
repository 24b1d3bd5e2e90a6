//! The command line: what can be typed, and its help. The manual page and the shell completions are made from this.

use crate::command::sendmail::Sendmail;
use crate::config::sending;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The configuration file where nothing else is said.
pub const CONFIG: &str = "/etc/pillarbox/pillarbox.toml";
/// The variable of the environment that names another.
pub const CONFIG_VARIABLE: &str = "PILLARBOX_CONFIG";

/// A whole mail server in one program: receives, stores, serves and explains mail.
#[derive(Debug, Parser)]
#[command(name = "pillarbox", version, max_term_width = 100, arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    /// Configuration file.
    #[arg(
        long,
        short = 'c',
        global = true,
        value_name = "FILE",
        default_value = CONFIG,
        env = CONFIG_VARIABLE
    )]
    pub config: PathBuf,
    /// Whether the command line names it.
    #[arg(skip)]
    pub is_config_named: bool,
    /// Print JSON instead of text, one object or array.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line. Ends the program where it is wrong, or asks for help.
    pub fn read() -> Cli {
        let matches = Cli::command().get_matches();
        let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        Cli { is_config_named: matches.value_source("config") == Some(ValueSource::CommandLine), ..cli }
    }
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole server for example.net on high loopback ports, to try it.
    Demo(Demo),
    /// Make configuration, keys, certificates and the first account for a domain.
    Init(Init),
    /// Run the server.
    Serve,
    /// Make the running server read configuration, tables and certificates again.
    Reload,
    /// Say whether the server runs, since when, and where it listens.
    Status,
    /// End the running server as on SIGTERM.
    Stop,
    /// Check configuration, tables and certificates, line by line.
    Check,
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Accounts: who logs in and owns mailboxes.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Aliases: other names of addresses.
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Domains whose mail is delivered here.
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Keys that sign the mail of our domains.
    #[command(subcommand)]
    Dkim(DkimCommand),
    /// The records that our domains and this host need in DNS.
    #[command(subcommand)]
    Dns(DnsCommand),
    /// Passwords.
    #[command(subcommand)]
    Password(PasswordCommand),
    /// What accounts hold and may hold.
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// The queue: mail that must leave this machine, or cannot be delivered now.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Submit a message from this machine, as sendmail(8) does. Also run when the program is called `sendmail`, `mailq` or
    /// `newaliases`.
    Sendmail(Sendmail),
    /// Reports about TLS that other servers send about ours (RFC 8460).
    #[command(subcommand)]
    TlsReport(TlsReportCommand),
    /// Tell what happened to a message, every decision with its evidence, and where it is now.
    Why(Why),
    /// Check the store, message by message. The server must not be running.
    Fsck(Fsck),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder.
        folder: PathBuf,
    },
}

impl Command {
    /// Whether it becomes a server, which a SIGHUP makes reload instead of ending it.
    pub fn serves(&self) -> bool {
        matches!(self, Command::Demo(_) | Command::Serve)
    }
}

/// `demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Folder for configuration and mail; used again if it is there.
    #[arg(long, default_value = "pillarbox-demo")]
    pub folder: PathBuf,
    /// Added to each port, so that several demos can run side by side.
    #[arg(long, default_value_t = 0)]
    pub port_offset: u16,
}

/// `init`
#[derive(Debug, Args)]
pub struct Init {
    /// The first domain to receive mail for.
    pub domain: String,
    /// Name of this host, which the MX record will point to. Default: mx.DOMAIN.
    #[arg(long)]
    pub host_name: Option<String>,
    /// Name that mail clients will use. Default: mail.DOMAIN.
    #[arg(long)]
    pub mail_name: Option<String>,
    /// First account, which also gets the mail for postmaster and abuse. Default: postmaster@DOMAIN.
    #[arg(long)]
    pub account: Option<String>,
    /// Its password; asked for without this.
    #[arg(long, short = 'p')]
    pub password: Option<String>,
    /// Organisation named in the certificates.
    #[arg(long, default_value = "Example Networks")]
    pub organisation: String,
    /// Country named in the certificates.
    #[arg(long, default_value = "US")]
    pub country: String,
    /// Write certificate signing requests beside the self-signed certificates, for a certificate authority.
    #[arg(long)]
    pub csr: bool,
    /// Folder for configuration; default: that of --config.
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Folder for mail.
    #[arg(long, default_value = "/var/lib/pillarbox")]
    pub storage: PathBuf,
    /// User that the server becomes.
    #[arg(long, default_value = "pillarbox")]
    pub user: String,
}

/// `config`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the effective configuration, as a file that would give the same.
    Show {
        /// Only what differs from the defaults.
        #[arg(long)]
        changed: bool,
    },
    /// Explain a setting, or all settings of a section, with default and present value.
    Explain {
        /// Such as `storage.folder` or `listener`; everything without it.
        key: Option<String>,
    },
}

/// `account`
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Add an account: it can receive, log in and send as itself at once.
    Add {
        /// Such as brian@example.net.
        account: String,
        /// Its password; asked for without this.
        #[arg(long, short = 'p')]
        password: Option<String>,
        /// Scheme of the hash.
        #[arg(long, short = 's', default_value = "ARGON2ID")]
        scheme: String,
    },
    /// List accounts.
    List,
    /// Change an account's password. The old one stops working at once.
    Passwd {
        /// Whose.
        account: String,
        /// The new password; asked for without this.
        #[arg(long, short = 'p')]
        password: Option<String>,
        /// Scheme of the hash.
        #[arg(long, short = 's', default_value = "ARGON2ID")]
        scheme: String,
    },
    /// Refuse logins to an account; its mail is still received.
    Disable {
        /// Which.
        account: String,
    },
    /// Allow logins again.
    Enable {
        /// Which.
        account: String,
    },
    /// Remove an account from all tables.
    Remove {
        /// Which.
        account: String,
        /// Keep its mail in the store.
        #[arg(long, conflicts_with = "delete_mail", required_unless_present = "delete_mail")]
        keep_mail: bool,
        /// Delete its mail for good.
        #[arg(long)]
        delete_mail: bool,
    },
}

/// `alias`
#[derive(Debug, Subcommand)]
pub enum AliasCommand {
    /// Let an address lead to others.
    Add {
        /// Such as info@example.net, or @example.net for all that is not declared otherwise.
        address: String,
        /// Where its mail goes.
        #[arg(required = true)]
        targets: Vec<String>,
    },
    /// List aliases.
    List,
    /// Remove an alias.
    Remove {
        /// Which address.
        address: String,
    },
}

/// `domain`
#[derive(Debug, Subcommand)]
pub enum DomainCommand {
    /// Receive mail for a domain.
    Add {
        /// Which.
        domain: String,
    },
    /// List domains.
    List,
    /// Receive no more mail for a domain.
    Remove {
        /// Which.
        domain: String,
    },
}

/// `dkim`
#[derive(Debug, Subcommand)]
pub enum DkimCommand {
    /// Make keys for a domain and print the DNS records to publish. The first ones sign at once; later ones when they are
    /// activated.
    Key {
        /// Which domain.
        domain: String,
        /// Name of the key in DNS; with two keys the start of their names. Default: the day of today.
        #[arg(long)]
        selector: Option<String>,
        /// Kind of key. Ed25519 is better and not known to every verifier, so it stands beside RSA, never alone.
        #[arg(long, value_enum, default_value_t = DkimAlgorithm::Both)]
        algorithm: DkimAlgorithm,
        /// Size of an RSA key: 2048, 3072 or 4096.
        #[arg(long, default_value_t = 2_048)]
        bits: u32,
    },
    /// List keys.
    List,
    /// Replace the keys of a domain: make and publish the next ones; when DNS shows them, --activate; when no mail is
    /// about any more that an old one signed, --retire it.
    Rotate {
        /// Which domain.
        domain: String,
        /// Let the published keys sign, in the place of those that sign now.
        #[arg(long)]
        activate: bool,
        /// Retire the key of this name; remove it if it signs no more.
        #[arg(long, value_name = "SELECTOR", conflicts_with = "activate")]
        retire: Option<String>,
    },
    /// Print the DNS records of a domain's keys, as lines of a zone file.
    Record {
        /// Which domain.
        domain: String,
    },
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DkimAlgorithm {
    /// RSA, which every verifier knows.
    Rsa,
    /// Ed25519.
    Ed25519,
    /// A key of each.
    Both,
}

/// `dns`
#[derive(Debug, Subcommand)]
pub enum DnsCommand {
    /// Print what to publish, as lines of a zone file; what only you can know is a comment in angle brackets.
    Records {
        /// Which domains; all of ours without.
        domains: Vec<String>,
        /// A certificate or key that will be used on port 25 later: its TLSA record must be there before.
        #[arg(long = "next-key", value_name = "FILE")]
        next_keys: Vec<PathBuf>,
    },
    /// Look every record up, and say how it is. Fails when mail would not arrive or would fail checks.
    Check {
        /// Which domains; all of ours without.
        domains: Vec<String>,
        /// A certificate or key that will be used on port 25 later.
        #[arg(long = "next-key", value_name = "FILE")]
        next_keys: Vec<PathBuf>,
        /// Block lists in which to look for our addresses, such as zen.example.
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        blocklists: Vec<String>,
        /// Ask this DNS server instead of the configured ones, `address` or `address:port`.
        #[arg(long = "server", value_name = "SERVER", value_parser = server)]
        servers: Vec<SocketAddr>,
    },
}

/// `queue`
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List messages with their recipients and the reason of the last failure. `*` is being tried, `!` is held.
    List {
        /// Which; everything without a condition.
        #[command(flatten)]
        selection: QueueSelection,
        /// Most messages to list.
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
    },
    /// Show one message of the queue with all that is known of it.
    Show {
        /// Its queue id.
        id: String,
    },
    /// Sum up the queue by destination and age.
    Summary,
    /// Let mail wait until it is released.
    Hold {
        /// Which.
        #[command(flatten)]
        selection: QueueSelection,
    },
    /// Let held mail go on at once.
    Release {
        /// Which.
        #[command(flatten)]
        selection: QueueSelection,
    },
    /// Try waiting mail at once, and forget that its destinations are down.
    Retry {
        /// Which.
        #[command(flatten)]
        selection: QueueSelection,
    },
    /// Give mail up at once; its senders are told.
    Bounce {
        /// Which.
        #[command(flatten)]
        selection: QueueSelection,
        /// What the senders are told.
        #[arg(long = "because", default_value = "returned by the administrator")]
        because: String,
    },
    /// Delete mail from the queue. Nobody is told.
    Delete {
        /// Which.
        #[command(flatten)]
        selection: QueueSelection,
    },
    /// Prove that mail is conserved: every accepted recipient is delivered, bounced, discarded by a named rule, or here.
    Audit,
}

/// Which recipients of the queue are meant: those that fit every condition.
#[derive(Debug, Clone, Args, Default)]
pub struct QueueSelection {
    /// Queue ids.
    pub ids: Vec<String>,
    /// Everything that fits the other conditions.
    #[arg(long)]
    pub all: bool,
    /// From this address or domain; `<>` for bounces.
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<String>,
    /// For this address or domain.
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// For this destination, as `queue summary` names it, or its domain.
    #[arg(long)]
    pub destination: Option<String>,
    /// Submitted by this account.
    #[arg(long)]
    pub account: Option<String>,
    /// Older than this, such as 90s, 30m, 12h, 2d.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub older_than: Option<u64>,
    /// With this text in the reason of the last failure.
    #[arg(long)]
    pub reason: Option<String>,
    /// Only what is held.
    #[arg(long, conflicts_with = "not_held")]
    pub held: bool,
    /// Only what is not held.
    #[arg(long)]
    pub not_held: bool,
}

/// `tls-report`
#[derive(Debug, Subcommand)]
pub enum TlsReportCommand {
    /// Say in plain words what a report says: totals for each policy, failures by kind and host.
    Show {
        /// The report, compressed or not, or the whole message that carries it; `-` for the standard input.
        file: PathBuf,
    },
}

/// `why`
#[derive(Debug, Args)]
pub struct Why {
    /// Queue id, message-id, or an address; without it, the newest messages.
    pub about: Option<String>,
    /// Only messages that came within this time, such as 90s, 30m, 12h, 2d.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub within: Option<u64>,
    /// Most messages to tell of.
    #[arg(long, default_value_t = 10)]
    pub limit: usize,
}

/// Reads a span of time: a number with s, m, h, d or w; seconds without.
fn seconds(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err("write a number with s, m, h, d or w".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "write a number with s, m, h, d or w".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too long".to_owned())
}

fn server(text: &str) -> Result<SocketAddr, &'static str> {
    sending::server(text).map_err(|_| "write address or address:port")
}

/// `password`
#[derive(Debug, Subcommand)]
pub enum PasswordCommand {
    /// Print the hash of a password, as it stands in the accounts file.
    Hash {
        /// Scheme of the hash.
        #[arg(long, short = 's', default_value = "BLF-CRYPT")]
        scheme: String,
        /// Cost; for BLF-CRYPT 4 to 31, each step doubles the time.
        #[arg(long, short = 'r')]
        rounds: Option<u32>,
        /// The password; asked for without this.
        #[arg(long, short = 'p')]
        password: Option<String>,
    },
}

/// `quota`
#[derive(Debug, Subcommand)]
pub enum QuotaCommand {
    /// Show usage and limits.
    Get(QuotaTarget),
    /// Count usage anew.
    Recalc(QuotaTarget),
}

/// Which accounts.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct QuotaTarget {
    /// One account.
    #[arg(long, short = 'u')]
    pub account: Option<String>,
    /// All accounts.
    #[arg(long, short = 'A')]
    pub all: bool,
}

/// `fsck`
#[derive(Debug, Args)]
pub struct Fsck {
    /// Mend what can be mended, and say what cannot.
    #[arg(long)]
    pub repair: bool,
}
