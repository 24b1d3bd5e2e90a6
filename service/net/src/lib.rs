//! The network floor: listeners, TLS, deadlines, connection limits, shutdown, confinement.
//!
//! No protocol lives here. A protocol machine (`mail::Machine`) is carried by [`drive`], the only loop that moves
//! octets between a peer and a machine; [`serve`] accepts the peers. The order of a start is: [`Listener::bind`] and
//! [`ServerTls::load`] while still privileged, [`confine`] next, the runtime and [`serve`] last.

pub mod certificate;
pub mod confine;
mod connection;
mod drive;
mod gate;
pub mod hash_pool;
mod listener;
pub mod networks;
pub mod proxy;
mod serve;
mod shutdown;
mod tls;

pub use connection::{Connection, HANDSHAKE_MAX, HandshakeError, Stream, WRITE_STALL_MAX};
pub use drive::{AFTER_INPUT_ENDED_MAX, Desk, DriveEnd, drive};
pub use gate::{Gate, Limit, Limits, Pass};
pub use hash_pool::{HashPool, HashPoolError};
pub use listener::{BindError, Listen, ListenTls, Listener, Owner, Place};
pub use networks::{Network, NetworkError, Networks};
pub use serve::serve;
pub use shutdown::{Shutdown, ShutdownSwitch};
pub use tls::{CertificateFacts, KeyKind, LentFiles, PairFiles, ServerTls, TlsError, TlsSettings};
