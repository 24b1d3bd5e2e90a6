//! The command line: what can be typed, and its help. The manual page and the shell completions are made from this.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

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
        default_value = "/etc/pillarbox/pillarbox.toml",
        env = "PILLARBOX_CONFIG"
    )]
    pub config: PathBuf,
    /// Print JSON instead of text, one object or array.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
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
    /// Passwords.
    #[command(subcommand)]
    Password(PasswordCommand),
    /// What accounts hold and may hold.
    #[command(subcommand)]
    Quota(QuotaCommand),
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
