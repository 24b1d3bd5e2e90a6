//! The network floor from outside: a toy protocol carried over memory, loopback and TLS.

#[path = "it/drive.rs"]
mod drive;
#[path = "it/serve.rs"]
mod serve;
#[path = "it/tls.rs"]
mod tls;
#[path = "it/toy.rs"]
mod toy;
