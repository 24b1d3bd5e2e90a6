//! Replies of SMTP and LMTP and their enhanced status codes (RFC 5321 §4.2, RFC 3463).

use std::fmt;

/// `class.subject.detail` of RFC 3463 §2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedStatus {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// What the status is about: addressing, mailbox, mail system, network, protocol, content, security.
    pub subject: u16,
    /// The cause within the subject.
    pub detail: u16,
}

impl EnhancedStatus {
    /// A status from its three numbers.
    pub const fn new(class: u8, subject: u16, detail: u16) -> EnhancedStatus {
        EnhancedStatus { class, subject, detail }
    }

    /// Reads `d.d.d` (RFC 3463 §2: up to three digits each for subject and detail).
    pub fn parse(text: &str) -> Option<EnhancedStatus> {
        let mut parts = text.split('.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        let number = |s: &str| {
            (1..=3).contains(&s.len()).then_some(())?;
            s.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
            s.parse::<u16>().ok()
        };
        if parts.next().is_some() || !matches!(class, "2" | "4" | "5") {
            return None;
        }
        Some(EnhancedStatus { class: class.as_bytes()[0] - b'0', subject: number(subject)?, detail: number(detail)? })
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// Writes and reads a status as its text.
pub mod as_text {
    use super::EnhancedStatus;
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(status: &EnhancedStatus, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(status)
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<EnhancedStatus, D::Error> {
        let text = String::deserialize(from)?;
        EnhancedStatus::parse(&text).ok_or_else(|| serde::de::Error::custom("not an enhanced status"))
    }
}

/// One reply of an SMTP or LMTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three-digit code, 200 to 599.
    pub code: u16,
    /// Enhanced status, where the reply carries one.
    pub status: Option<EnhancedStatus>,
    /// Text, one entry a line, without line ends.
    pub lines: Vec<String>,
}

impl Reply {
    /// A one-line reply with an enhanced status.
    pub fn new(code: u16, status: EnhancedStatus, text: impl Into<String>) -> Reply {
        Reply { code, status: Some(status), lines: vec![text.into()] }
    }

    /// A one-line reply without enhanced status.
    pub fn plain(code: u16, text: impl Into<String>) -> Reply {
        Reply { code, status: None, lines: vec![text.into()] }
    }

    /// Whether the code is 2xx or 3xx.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Whether the code is 5xx.
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// Appends the wire form. Every control character of the text becomes a space, so that no text, wherever it came
    /// from, can add a line of its own (V13, V14).
    pub fn write(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (index, line) in self.lines.iter().enumerate() {
            let separator = if index == last { ' ' } else { '-' };
            out.extend_from_slice(format!("{}{separator}", self.code).as_bytes());
            if let Some(status) = self.status {
                out.extend_from_slice(format!("{status} ").as_bytes());
            }
            out.extend(line.bytes().map(|b| if b < 0x20 || b == 0x7f { b' ' } else { b }));
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        write!(f, " {}", self.lines.join(" / "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_print_what_they_parse() {
        for text in ["2.0.0", "5.1.10", "4.7.999"] {
            assert_eq!(EnhancedStatus::parse(text).unwrap().to_string(), text);
        }
        for text in ["3.0.0", "5.1", "5.1.1.1", "5..1", "5.1234.1", "5.+1.1"] {
            assert_eq!(EnhancedStatus::parse(text), None, "{text}");
        }
    }

    #[test]
    fn v13_a_reply_never_gains_a_line_from_its_text() {
        let mut out = Vec::new();
        Reply::new(550, EnhancedStatus::new(5, 1, 1), "no\r\n250 2.0.0 yes").write(&mut out);
        assert_eq!(out, b"550 5.1.1 no  250 2.0.0 yes\r\n");
    }
}
