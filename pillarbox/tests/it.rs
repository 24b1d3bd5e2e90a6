//! The binary as an administrator and a client meet it: commands on files, and servers on loopback.

#[path = "it/commands.rs"]
mod commands;
#[path = "it/dialogues.rs"]
mod dialogues;
#[path = "it/dkim.rs"]
mod dkim;
#[path = "it/dns.rs"]
mod dns;
#[path = "../../proto/imap-proto/tests/it/history.rs"]
mod imap_history;
#[path = "it/past.rs"]
mod past;
#[path = "../../proto/pop3-proto/tests/it/maildrop.rs"]
mod pop3_maildrop;
#[path = "it/program.rs"]
mod program;
#[path = "it/sendmail.rs"]
mod sendmail;
#[path = "it/server.rs"]
mod server;
#[path = "it/signals.rs"]
mod signals;
#[path = "it/wire.rs"]
mod wire;
