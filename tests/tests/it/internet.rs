//! The simulated internet is what it says: its DNS by dig and delv, its hosts by real clients, its real MTAs by mail.

mod dns;
mod mta;
mod real;
mod tls;

use peers::internet::mta::ScriptedMta;
use peers::peer::{Outcome, Peer};
use std::net::SocketAddrV4;

/// openssl at a host, after STARTTLS.
fn s_client(mta: &ScriptedMta, arguments: &[&str]) -> Outcome {
    let peer = Peer::new("openssl").args(["s_client", "-starttls", "smtp", "-connect", &mta.address().to_string()]);
    peer.args(arguments).run().unwrap()
}

/// swaks to an address.
fn swaks(address: SocketAddrV4, arguments: &[&str]) -> Outcome {
    let peer = Peer::new("swaks").args(["--server", &address.ip().to_string(), "--port", &address.port().to_string()]);
    let peer = peer.args(["--helo", "client.example.org", "--from", "me@example.org", "--timeout", "10"]);
    peer.args(arguments).run().unwrap()
}
