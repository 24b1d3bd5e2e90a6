//! The schedule as its callers see it: against a simple model, its fairness, and what it costs to be down.

mod fairness;
mod model;

use mail::queue::{QueueEntry, QueueState, UnixMillis};
use mail::{Address, QueueId};
use proptest::test_runner::{Config, RngSeed};
use queue::DestinationKey;

/// Some day in 2027.
pub const START: UnixMillis = UnixMillis(1_800_000_000_000);

/// The same cases in each run.
pub fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..Config::default() }
}

/// An instant, in seconds from the start.
pub fn at(seconds: u64) -> UnixMillis {
    UnixMillis(START.0 + seconds * 1_000)
}

/// A destination by number.
pub fn destination(number: usize) -> DestinationKey {
    DestinationKey::new(&format!("smtp:d{number}.example.org"))
}

/// A recipient that was accepted at the start, from a sender by number; 0 is the null reverse-path.
pub fn entry(message: u64, number: u32, sender: usize, due: UnixMillis) -> QueueEntry {
    QueueEntry {
        message: QueueId(message),
        number,
        address: Address::parse("alice@example.org").expect("an address"),
        sender: if sender == 0 { String::new() } else { format!("s{sender}@example.net") },
        arrived: START,
        state: QueueState::Waiting(due),
        attempts: 0,
    }
}
