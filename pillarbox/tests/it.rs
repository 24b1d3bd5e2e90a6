//! The binary as an administrator and a client meet it: commands on files, and a demonstration server on loopback.

#[path = "it/commands.rs"]
mod commands;
#[path = "it/program.rs"]
mod program;
#[path = "it/server.rs"]
mod server;
