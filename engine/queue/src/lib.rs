//! The retry plan and the states of a queued recipient: pure, over the rows of the store.
//!
//! [`plan`] says when a recipient is tried again and when we give up. [`Schedule`] holds the queue in memory and says which
//! recipients are tried next. [`rate`] counts what accounts submit. Nothing here knows a clock, a disk or a network: the
//! time is given with each call. See `docs/design/queue.md`.

mod arena;
mod destination;
mod entry;
mod heap;
pub mod plan;
pub mod rate;
mod schedule;
mod turns;

pub use destination::{Contact, DestinationKey, DestinationLimits, Feedback, RateLimit};
pub use plan::{Next, RetryPlan, Standing};
pub use schedule::{
    AGE_MINUTES, Counts, DestinationSummary, EntryState, Errand, Flush, Job, Schedule, ScheduleSettings,
};
