//! The register of domains, accounts, aliases and access tables, kept in plain text files.
//!
//! [`Directory`] answers questions: where a recipient goes, who logs in, who may send as whom. It follows the files as
//! they change. [`edit::Editor`] changes those same files by command. [`password`] hashes and checks passwords. Nothing
//! here speaks a protocol or waits for a network.

pub mod access;
pub mod accounts;
pub mod domains;
pub mod edit;
mod lint;
pub mod login;
pub mod maps;
mod names;
pub mod password;
pub mod quota;
mod register;
pub mod route;
pub mod signing;
pub mod table;
pub mod transports;
pub mod watch;

#[cfg(test)]
mod testing;

pub use access::{Action, Refusal};
pub use login::{Credential, Denial};
pub use quota::QuotaDefaults;
pub use register::{Directory, DomainClass, Files, Settings};
pub use route::{Route, RouteError};
pub use table::{Finding, Severity, TableError};
pub use transports::{NextHop, RelayLogin, Transport};
