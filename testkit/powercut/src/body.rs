//! Messages that are known by their number: octets, size and digest follow from it.

use mail::InternalDate;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use testkit::powercut::dice::Dice;

/// A message as the workload stages it.
#[derive(Debug)]
pub struct Body {
    /// What is put in front when all else is known.
    pub prefix: Vec<u8>,
    /// Prefix and message.
    pub whole: Vec<u8>,
    /// What the store keeps beside it.
    pub digest: Vec<u8>,
}

impl Body {
    /// The message of a number.
    pub fn of(number: u64) -> Body {
        let mut dice = Dice::new(number ^ 0x70_6f77_6572);
        let octets = match dice.below(100) {
            0..3 => dice.below(10),
            3..70 => 200 + dice.below(6_000),
            70..92 => 6_000 + dice.below(50_000),
            92..98 => 60_000 + dice.below(240_000),
            _ => 300_000 + dice.below(500_000),
        };
        let prefix = format!("Received: by example.net with id {number}\r\n").into_bytes();
        let mut whole = prefix.clone();
        whole.extend_from_slice(format!("Message-ID: <{number}@example.net>\r\n\r\n").as_bytes());
        let end = whole.len() + octets;
        // Half of the messages are words, half is noise that does not compress.
        let words = dice.below(2) == 0;
        while whole.len() < end {
            let roll = dice.roll();
            match words {
                true => whole.extend_from_slice(format!("line {} of {number}\r\n", roll % 1_000).as_bytes()),
                false => whole.extend_from_slice(&roll.to_le_bytes()),
            }
        }
        whole.truncate(end);
        Body { prefix, whole, digest: format!("digest {number} {octets}").into_bytes() }
    }

    /// Its internal date.
    pub fn date(number: u64) -> InternalDate {
        InternalDate { unix_seconds: 1_700_000_000 + number as i64, zone_minutes: (number % 5) as i16 * 30 - 60 }
    }
}

/// Messages that were needed before: making them takes longer than comparing them.
#[derive(Default)]
pub struct Bodies(Mutex<HashMap<u64, Arc<Body>>>);

impl Bodies {
    /// The message of a number.
    pub fn get(&self, number: u64) -> Arc<Body> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(number).or_insert_with(|| Arc::new(Body::of(number))).clone()
    }
}
