//! What is logged while a test runs, on its own thread.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// The log of the thread that made it, until it is dropped.
pub struct Log {
    lines: Lines,
    _guard: tracing::subscriber::DefaultGuard,
    _other: Dispatch,
}

impl Log {
    /// Begins to listen.
    pub fn capture() -> Log {
        let lines = Lines::default();
        // With one dispatcher alone, a line that another thread comes to first, without any, would be silent for all.
        let other = Dispatch::new(Lines::default());
        Log { _guard: tracing::subscriber::set_default(lines.clone()), lines, _other: other }
    }

    /// What was logged since the last call: a line an event, its message first, then ` name=value` for each field.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("a text takes everything");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { message: String::new(), fields: String::new() };
        event.record(&mut line);
        let line = line.message + &line.fields;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_with_its_fields() {
        let log = Log::capture();
        tracing::info!(a = 1, b = %"two", c = "three", "said");
        assert_eq!(log.take(), ["said a=1 b=two c=three"]);
        assert!(log.take().is_empty());
    }
}
