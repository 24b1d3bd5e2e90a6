//! The resolver against scripted servers on loopback.

#[path = "it/hostile.rs"]
mod hostile;
#[path = "it/memory.rs"]
mod memory;
#[path = "it/probing.rs"]
mod probing;
#[path = "it/server.rs"]
mod server;
#[path = "it/servers.rs"]
mod servers;
#[path = "it/signed.rs"]
mod signed;
#[path = "it/validating.rs"]
mod validating;
