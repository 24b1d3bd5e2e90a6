//! What the tests against real programs share: a running pillarbox of their own, small clients, and the storm that
//! kills it.

pub mod client;
pub mod peer;
pub mod server;
pub mod storm;
