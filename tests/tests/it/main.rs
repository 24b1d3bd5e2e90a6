//! The release binary against real programs, as their users run them. Everything happens on loopback, every server has a
//! folder and ports of its own, and each program that is started is also ended.
//!
//! `cargo xtask test` installs the programs. Only tests with a real Postfix or Exim need root, because those do.

mod addresses;
mod admin;
mod corpus;
mod curl;
mod desk;
mod dkim;
mod dns_check;
mod exchange;
mod fetchmail;
mod guide;
mod hazards;
mod internet;
mod mbsync;
mod neomutt;
mod others;
mod outbound;
mod postfix;
mod protection;
mod python;
mod report;
mod sendmail;
mod submit;
mod swaks;
mod thunderbird;
mod time;
mod tls;
mod why;

/// An account of the demonstration server.
const BRIAN: &str = "brian@example.net";
/// The other one.
const NOT_BRIAN: &str = "notbrian@example.net";
