//! Names of messages: short, unique for good, in order of time.

use mail::QueueId;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Hands out queue ids: microseconds since 1970, or one more than the last when the clock stands still or steps back.
#[derive(Debug, Default)]
pub struct QueueIds {
    last: AtomicU64,
}

impl QueueIds {
    /// Ids above one that was given out before, whatever the clock says now.
    pub fn above(last: QueueId) -> QueueIds {
        QueueIds { last: AtomicU64::new(last.0) }
    }

    /// The next id.
    pub fn next(&self) -> QueueId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros() as u64;
        let step = |last: u64| Some(now.max(last + 1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).unwrap_or_else(|last| last);
        QueueId(now.max(last + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend() {
        let ids = QueueIds::default();
        let mut last = QueueId(0);
        for _ in 0..10_000 {
            let next = ids.next();
            assert!(next > last);
            last = next;
        }
        assert!(QueueIds::above(QueueId(u64::MAX >> 1)).next() > QueueId(u64::MAX >> 1), "the clock was set back");
        assert_eq!(QueueId::parse(&last.to_string()), Some(last));
    }
}
