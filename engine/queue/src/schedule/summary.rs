//! What waits where, and for how long, destination by destination.

use super::Schedule;
use crate::destination::DestinationKey;
use crate::entry::Place;
use mail::queue::UnixMillis;

/// Upper bounds of the age classes in minutes, as in Postfix's qshape(1); the last class has none.
pub const AGE_MINUTES: [u64; 9] = [5, 10, 20, 40, 80, 160, 320, 640, 1_280];

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationSummary {
    /// Which.
    pub destination: DestinationKey,
    /// Entries that wait, due or not.
    pub waiting: u32,
    /// Those of them that are due. If the destination is down, none is before it is tried again.
    pub due: u32,
    /// Entries that are held.
    pub held: u32,
    /// Entries in jobs.
    pub in_flight: u32,
    /// Couriers under way.
    pub couriers: u32,
    /// Couriers it is trusted with at the moment.
    pub couriers_max: u32,
    /// Since when it is tried: when its oldest message was accepted, to the second.
    pub oldest: Option<UnixMillis>,
    /// It is down until then; if that is past, the next job will be a probe.
    pub down_until: Option<UnixMillis>,
    /// All entries by age: younger than each of [`AGE_MINUTES`], and the rest.
    pub ages: [u32; AGE_MINUTES.len() + 1],
}

impl Schedule {
    /// Every destination, by name. Looks at every entry once.
    pub fn summary(&self, now: UnixMillis) -> Vec<DestinationSummary> {
        let mut places = std::collections::BTreeMap::new();
        let mut summaries: Vec<DestinationSummary> = Vec::with_capacity(self.destination_of.len());
        for (key, number) in &self.destination_of {
            let destination = &self.destinations[*number];
            places.insert(*number, summaries.len());
            summaries.push(DestinationSummary {
                destination: key.clone(),
                waiting: 0,
                due: 0,
                held: 0,
                in_flight: 0,
                couriers: destination.couriers,
                couriers_max: u32::from(destination.health.couriers(&destination.limits)),
                oldest: None,
                down_until: destination.health.down_until(),
                ages: [0; AGE_MINUTES.len() + 1],
            });
        }
        for (_, entry) in self.entries.iter() {
            let place = places.get(&self.lanes[entry.lane].destination);
            let Some(summary) = place.and_then(|place| summaries.get_mut(*place)) else { continue };
            match entry.place {
                Place::Waiting => {
                    summary.waiting += 1;
                    let is_due = entry.due.max(summary.down_until.unwrap_or_default()) <= now;
                    summary.due += u32::from(is_due);
                }
                Place::Held => summary.held += 1,
                Place::InFlight(_) => summary.in_flight += 1,
            }
            let arrived = entry.arrived();
            summary.oldest = Some(summary.oldest.map_or(arrived, |oldest| oldest.min(arrived)));
            let minutes = now.0.saturating_sub(arrived.0) / 60_000;
            let class = AGE_MINUTES.partition_point(|bound| *bound <= minutes);
            if let Some(count) = summary.ages.get_mut(class) {
                *count += 1;
            }
        }
        summaries
    }
}
