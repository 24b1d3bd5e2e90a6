//! What was found out about one record.

use super::wanted::presentation;
use crate::config::Severity;
use dns::{Failure, Name, Record, RecordType};
use serde::Serialize;
use std::fmt::Write;

/// A record that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its owner.
    pub name: Name,
    /// Its type.
    pub kind: RecordType,
    /// What it is for, where the type does not say so.
    pub purpose: &'static str,
}

/// How a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Not there.
    Missing,
    /// There, and not as it should be.
    Differs,
    /// Nobody could say.
    Unknown,
}

/// One record, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The owner of the record.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What it is for, where the type does not say so.
    pub purpose: &'static str,
    /// How it is.
    pub status: Status,
    /// How bad that is; `None` when it is as it should be.
    pub severity: Option<Severity>,
    /// What is there, as in a zone file.
    pub found: Vec<String>,
    /// What should be there, as in a zone file.
    pub wanted: Vec<String>,
    /// Why it matters.
    pub cause: String,
}

impl Subject {
    /// A record whose type says what it is for.
    pub fn new(name: &Name, kind: RecordType) -> Subject {
        Subject { name: name.clone(), kind, purpose: "" }
    }

    /// A TXT record.
    pub fn txt(name: &Name, purpose: &'static str) -> Subject {
        Subject { name: name.clone(), kind: RecordType::Txt, purpose }
    }

    fn finding(&self, status: Status, severity: Option<Severity>, cause: impl Into<String>) -> Finding {
        Finding {
            name: self.name.to_string(),
            kind: self.kind.as_str(),
            purpose: self.purpose,
            status,
            severity,
            found: Vec::new(),
            wanted: Vec::new(),
            cause: cause.into(),
        }
    }

    /// It is as it should be.
    pub fn ok(&self, cause: impl Into<String>) -> Finding {
        self.finding(Status::Ok, None, cause)
    }

    /// It is not there.
    pub fn missing(&self, severity: Severity, cause: impl Into<String>) -> Finding {
        self.finding(Status::Missing, Some(severity), cause)
    }

    /// It is there and wrong.
    pub fn differs(&self, severity: Severity, cause: impl Into<String>) -> Finding {
        self.finding(Status::Differs, Some(severity), cause)
    }

    /// Nothing could be found out.
    pub fn unknown(&self, severity: Severity, cause: impl Into<String>) -> Finding {
        self.finding(Status::Unknown, Some(severity), cause)
    }

    /// The lookup failed.
    pub fn failed(&self, severity: Severity, failure: &Failure) -> Finding {
        self.unknown(severity, failure.to_string().replace(char::is_control, " "))
    }
}

impl Finding {
    /// What is there.
    pub fn with_found<'a>(mut self, records: impl IntoIterator<Item = &'a Record>) -> Finding {
        self.found = records.into_iter().map(presentation).collect();
        self
    }

    /// What should be there.
    pub fn with_wanted(mut self, records: impl IntoIterator<Item = Record>) -> Finding {
        self.wanted = records.into_iter().map(|record| presentation(&record)).collect();
        self
    }

    /// Whether mail would not arrive, or fail checks.
    pub fn is_error(&self) -> bool {
        self.severity == Some(Severity::Error)
    }

    /// How it is, in a word.
    pub fn word(&self) -> &'static str {
        match self.severity {
            None => "ok",
            Some(Severity::Warning) => "warning",
            Some(Severity::Error) => "error",
        }
    }

    /// The finding in words, without its severity: a line, then what is there and what should be.
    pub fn told(&self) -> String {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Missing => "missing",
            Status::Differs => "differs",
            Status::Unknown => "cannot be found out",
        };
        let purpose = if self.purpose.is_empty() { String::new() } else { format!(" ({})", self.purpose) };
        let mut text = format!("{} {}{purpose}: {status}", self.name, self.kind);
        if !self.cause.is_empty() {
            let _ = write!(text, ": {}", self.cause);
        }
        if self.status != Status::Ok {
            for (label, records) in [("there is: ", &self.found), ("should be:", &self.wanted)] {
                records.iter().for_each(|record| text.push_str(&format!("\n         {label} {record}")));
            }
        }
        text
    }
}
