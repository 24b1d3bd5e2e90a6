//! What becomes of a recipient, and how often it did.

use metrics::Counter;
use std::sync::OnceLock;

/// What becomes of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// In a mailbox.
    Delivered,
    /// In the queue.
    Queued,
    /// In the queue, until an administrator releases it.
    Held,
    /// Thrown away by a rule.
    Discarded,
    /// Refused for now.
    Deferred,
    /// Refused for good.
    Refused,
}

/// In the order of the variants.
const FATES: [Fate; 6] = [Fate::Delivered, Fate::Queued, Fate::Held, Fate::Discarded, Fate::Deferred, Fate::Refused];

impl Fate {
    /// Its name in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Delivered => "delivered",
            Fate::Queued => "queued",
            Fate::Held => "held",
            Fate::Discarded => "discarded",
            Fate::Deferred => "deferred",
            Fate::Refused => "refused",
        }
    }
}

/// Counters of a listener's recipients, one for each fate. They are looked up in the registry once: a look-up costs as
/// much as the rest of a line in the log.
#[derive(Default)]
pub struct FateCounters(OnceLock<[Counter; FATES.len()]>);

impl FateCounters {
    /// Counts one recipient of a listener.
    pub fn count(&self, listener: &str, fate: Fate) {
        let counter = |fate: Fate| metrics::counter!("smtp_recipients_total", "listener" => listener.to_owned(), "outcome" => fate.name());
        self.0.get_or_init(|| FATES.map(counter))[fate as usize].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fate_has_its_own_counter() {
        for (place, fate) in FATES.into_iter().enumerate() {
            assert_eq!(fate as usize, place);
        }
    }
}
