//! What the tests against real programs share: a running pillarbox of their own, small clients, the simulated internet,
//! and the storm that kills the server.

pub mod client;
pub mod internet;
pub mod peer;
pub mod sender;
pub mod server;
pub mod storm;
pub mod thunderbird;
