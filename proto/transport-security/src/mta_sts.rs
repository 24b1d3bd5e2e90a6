//! MTA-STS: the record that announces a policy, the policy itself, and which hosts it allows (RFC 8461).
//!
//! When a policy is fetched and how long it is kept is in [`cache`]; the fetch is no business of this crate.

pub mod cache;

use crate::fields;
use dns::Name;
use mail::Domain;
use std::fmt;
use std::time::Duration;

/// RFC 8461 §3.3 suggests it as the maximum size of a policy.
pub const POLICY_OCTETS_MAX: usize = 64 * 1024;
/// RFC 8461 §3.2: longest lifetime of a policy.
pub const MAX_AGE_MAX: Duration = Duration::from_secs(31_557_600);
/// Patterns of one policy. Large providers use a dozen.
pub const MX_PATTERNS_MAX: usize = 100;
/// RFC 8461 §3.1: `1*32`.
pub const ID_OCTETS_MAX: usize = 32;

/// The name of the record that announces a policy of a domain. `None` when it would be too long.
pub fn record_name(domain: &Name) -> Option<Name> {
    domain.under("_mta-sts").ok()
}

/// The host that a domain's policy is fetched from (RFC 8461 §3.2). `None` when its name would be too long.
pub fn policy_host(domain: &Name) -> Option<Name> {
    domain.under("mta-sts").ok()
}

/// The path of the policy on that host.
pub const POLICY_PATH: &str = "/.well-known/mta-sts.txt";

/// Reads the TXT records of [`record_name`]: the id of the policy that is announced. `None` when none is, which is also
/// what several records, or a malformed one, mean.
pub fn parse_record<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Option<&'a str> {
    let fields = fields::single(texts, "v=STSv1")?;
    let is_extension_value = |value: &str| value.bytes().all(|b| b.is_ascii_graphic() && b != b'=');
    if !fields.iter().all(|(name, value)| *name == "id" || is_extension_value(value)) {
        return None;
    }
    let id = fields::first(&fields, "id")?;
    (id.len() <= ID_OCTETS_MAX && id.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(id)
}

/// What happens when a host does not fit the policy (RFC 8461 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No mail goes there.
    Enforce,
    /// Mail goes there, and a report says so (V44).
    Testing,
    /// There is no policy any more.
    None,
}

impl Mode {
    /// The word of the policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        }
    }
}

/// A host, or all hosts directly below a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MxPattern {
    /// Exactly this host.
    Host(Name),
    /// `*.domain`: hosts with one more label than the domain.
    Below(Name),
}

impl MxPattern {
    fn parse(text: &str) -> Option<MxPattern> {
        // RFC 8461 §3.2: A-labels, not U-labels, which is what an alien character would be.
        let domain = |text: &str| {
            let domain = Domain::parse(text.is_ascii().then_some(text)?).ok()?;
            (!domain.is_literal()).then(|| Name::try_from(&domain).ok())?
        };
        match text.strip_prefix("*.") {
            Some(parent) => domain(parent).map(MxPattern::Below),
            None => domain(text).map(MxPattern::Host),
        }
    }

    /// Whether a host fits. RFC 8461 §4.1: the asterisk stands for exactly the leftmost label.
    pub fn matches(&self, host: &Name) -> bool {
        match self {
            MxPattern::Host(name) => name == host,
            MxPattern::Below(name) => host.parent().is_some_and(|parent| parent == *name),
        }
    }
}

impl fmt::Display for MxPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MxPattern::Host(name) => write!(f, "{name}"),
            MxPattern::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What happens when a host does not fit.
    pub mode: Mode,
    /// How long the policy holds after it was fetched, at most [`MAX_AGE_MAX`].
    pub max_age: Duration,
    /// Which hosts are allowed; may be empty in mode `none` only.
    pub mx: Vec<MxPattern>,
}

/// Why a text is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyError {
    /// More than [`POLICY_OCTETS_MAX`].
    TooLarge,
    /// Not UTF-8.
    NotText,
    /// A line, counted from 1, that is no `key: value`.
    Line(usize),
    /// No `version`, or another than `STSv1`.
    Version,
    /// No `mode`, or an unknown one.
    Mode,
    /// No `max_age`, or no number.
    MaxAge,
    /// A line, counted from 1, whose `mx` is no host or `*.domain`.
    Mx(usize),
    /// No `mx`, which only mode `none` may leave out.
    NoMx,
    /// More than [`MX_PATTERNS_MAX`] of them.
    TooManyMx,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::TooLarge => write!(f, "the policy is larger than {POLICY_OCTETS_MAX} octets"),
            PolicyError::NotText => f.write_str("the policy is not text"),
            PolicyError::Line(line) => write!(f, "line {line} of the policy is no `key: value`"),
            PolicyError::Version => f.write_str("the policy has no `version: STSv1`"),
            PolicyError::Mode => f.write_str("the policy has no known `mode`"),
            PolicyError::MaxAge => f.write_str("the policy has no `max_age` in seconds"),
            PolicyError::Mx(line) => write!(f, "line {line} of the policy: `mx` is no host name"),
            PolicyError::NoMx => f.write_str("the policy names no `mx`"),
            PolicyError::TooManyMx => write!(f, "the policy names more than {MX_PATTERNS_MAX} `mx`"),
        }
    }
}

impl std::error::Error for PolicyError {}

impl Policy {
    /// Reads the text of a policy (RFC 8461 §3.2). Lines end with CRLF or LF; unknown keys are passed over, and so are
    /// all but the first of a key that may stand once. Empty lines, which the grammar does not have, are borne (not).
    pub fn parse(octets: &[u8]) -> Result<Policy, PolicyError> {
        if octets.len() > POLICY_OCTETS_MAX {
            return Err(PolicyError::TooLarge);
        }
        let text = std::str::from_utf8(octets).map_err(|_| PolicyError::NotText)?;
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end_matches([' ', '\t']);
            if line.is_empty() {
                continue;
            }
            let (key, value) = key_and_value(line).ok_or(PolicyError::Line(index + 1))?;
            match key {
                "version" => version = version.or(Some(value)),
                "mode" => mode = mode.or(Some(value)),
                "max_age" => max_age = max_age.or(Some(value)),
                "mx" if mx.len() == MX_PATTERNS_MAX => return Err(PolicyError::TooManyMx),
                "mx" => mx.push(MxPattern::parse(value).ok_or(PolicyError::Mx(index + 1))?),
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(PolicyError::Version);
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err(PolicyError::Mode),
        };
        if mx.is_empty() && mode != Mode::None {
            return Err(PolicyError::NoMx);
        }
        Ok(Policy { mode, max_age: seconds(max_age.ok_or(PolicyError::MaxAge)?)?, mx })
    }

    /// Whether mail for the domain may go to this host (RFC 8461 §4.1).
    pub fn allows(&self, host: &Name) -> bool {
        self.mx.iter().any(|pattern| pattern.matches(host))
    }

    /// The policy as the lines of its text, the form that TLS reports and our own memory of it use. Read again they give
    /// the same policy.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec!["version: STSv1".to_owned(), format!("mode: {}", self.mode.as_str())];
        lines.extend(self.mx.iter().map(|pattern| format!("mx: {pattern}")));
        lines.push(format!("max_age: {}", self.max_age.as_secs()));
        lines
    }
}

fn key_and_value(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let value = value.trim_start_matches([' ', '\t']);
    let is_value = !value.is_empty() && !value.chars().any(char::is_control);
    (fields::is_name(key) && is_value).then_some((key, value))
}

/// RFC 8461 §3.2: up to ten digits. More than the maximum is read as the maximum.
fn seconds(text: &str) -> Result<Duration, PolicyError> {
    if text.len() > 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PolicyError::MaxAge);
    }
    let seconds = text.parse().map_err(|_| PolicyError::MaxAge)?;
    Ok(Duration::from_secs(seconds).min(MAX_AGE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    const EXAMPLE: &str = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n";

    /// RFC 8461 §3.1.
    #[test]
    fn a_record_announces_an_id() {
        let parse = |texts: &[&'static str]| parse_record(texts.iter().map(|text| text.as_bytes()));
        assert_eq!(parse(&["v=STSv1; id=20160831085700Z;"]), Some("20160831085700Z"));
        assert_eq!(parse(&["v=spf1 -all", "v=STSv1;id=1", "v=STSv1"]), Some("1"), "others are discarded");
        assert_eq!(parse(&["v=STSv1; a=b; id=1; id=2"]), Some("1"), "the first of two");
        let longest = "a".repeat(32);
        assert_eq!(parse_record([format!("v=STSv1; id={longest}").as_bytes()]), Some(longest.as_str()));
        for texts in [
            &[][..],
            &["v=STSv1"],
            &["v=STSv1;"],
            &["v=STSv1; a=b"],
            &["v=STSv1; id="],
            &["v=STSv1; id=1_2"],
            &["v=STSv1; id=1; a=b=c"],
            &["v=STSv1; id=1; a=b c"],
            &["v=STSv1; id=123456789012345678901234567890123"],
            &["v=STSv1; id=1", "v=STSv1; id=1"],
            &["v=STSv2; id=1"],
            &["id=1; v=STSv1"],
            &["v=STSv1; ID=1"],
        ] {
            assert_eq!(parse(texts), None, "{texts:?}");
        }
        assert_eq!(parse_record([b"v=STSv1; id=1; a=\xff".as_slice()]), None);
    }

    /// RFC 8461 §3.2.
    #[test]
    fn a_policy_is_read_and_printed() {
        let policy = Policy::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!((policy.mode, policy.max_age.as_secs(), policy.mx.len()), (Mode::Enforce, 604_800, 3));
        assert_eq!(policy.lines(), EXAMPLE.lines().collect::<Vec<_>>());
        assert_eq!(Policy::parse(EXAMPLE.replace('\n', "\r\n").as_bytes()), Ok(policy.clone()));
        assert_eq!(Policy::parse(EXAMPLE.trim_end().as_bytes()), Ok(policy.clone()));
        let loose =
            EXAMPLE.replace('\n', " \t\n\n").replace(": ", ":\t ") + "other-key: \u{e4}: b\nmode: none\nmax_age: x\n";
        assert_eq!(Policy::parse(loose.as_bytes()), Ok(policy));
        let none = Policy::parse(b"max_age: 86400\nmode: none\nversion: STSv1").unwrap();
        assert_eq!((none.mode, none.mx.len()), (Mode::None, 0));
        assert_eq!(Policy::parse(none.lines().join("\n").as_bytes()), Ok(none));
    }

    #[test]
    fn what_is_no_policy() {
        let with = |from: &str, to: &str| Policy::parse(EXAMPLE.replace(from, to).as_bytes()).unwrap_err();
        assert_eq!(with("STSv1", "STSv2"), PolicyError::Version);
        assert_eq!(with("version: STSv1\n", ""), PolicyError::Version);
        assert_eq!(with("enforce", "Enforce"), PolicyError::Mode);
        assert_eq!(with("mode: enforce\n", ""), PolicyError::Mode);
        assert_eq!(with("max_age: 604800\n", ""), PolicyError::MaxAge);
        for number in ["-1", "1.5", "12345678901", "1s", "\u{661}"] {
            assert_eq!(with("604800", number), PolicyError::MaxAge, "{number}");
        }
        for pattern in
            ["*", "*.", "mail.*.com", "a*.example.com", "m\u{e4}il.example.com", "[192.0.2.1]", "a b", "a..b"]
        {
            assert_eq!(with("mail.example.com", pattern), PolicyError::Mx(3), "{pattern}");
        }
        assert_eq!(with("mode: enforce", "mode enforce"), PolicyError::Line(2));
        assert_eq!(with("mode: enforce", "mode:"), PolicyError::Line(2));
        assert_eq!(with("mode: enforce", ": enforce"), PolicyError::Line(2));
        assert_eq!(with("mode: enforce", "mode: enforce\0"), PolicyError::Line(2));
        assert_eq!(Policy::parse(b"version: STSv1\nmode: testing\nmax_age: 1\n"), Err(PolicyError::NoMx));
        assert_eq!(Policy::parse(b"<html>"), Err(PolicyError::Line(1)));
        assert_eq!(Policy::parse(b"\xff\xfe"), Err(PolicyError::NotText));
        assert_eq!(Policy::parse(b""), Err(PolicyError::Version));
        assert_eq!(Policy::parse(&vec![b'\n'; POLICY_OCTETS_MAX + 1]), Err(PolicyError::TooLarge));
        assert_eq!(with("mx: mail", &("mx: a.example\n".repeat(100) + "mx: mail")), PolicyError::TooManyMx);
    }

    #[test]
    fn lifetimes_are_bounded() {
        let age = |text: &str| Policy::parse(EXAMPLE.replace("604800", text).as_bytes()).unwrap().max_age;
        assert_eq!(age("0"), Duration::ZERO);
        assert_eq!(age("31557600"), MAX_AGE_MAX);
        assert_eq!(age("9999999999"), MAX_AGE_MAX);
    }

    /// RFC 8461 §4.1.
    #[test]
    fn a_wildcard_is_one_label() {
        let policy =
            Policy::parse(b"version: STSv1\nmode: enforce\nmx: *.example.com\nmx: MX.example.org\nmax_age: 1\n");
        let policy = policy.unwrap();
        for (host, allowed) in [
            ("mail.example.com", true),
            ("MAIL.Example.COM", true),
            ("mx.example.org", true),
            ("example.com", false),
            ("foo.bar.example.com", false),
            ("badexample.com", false),
            ("mail.example.com.evil.example", false),
            ("a.mx.example.org", false),
            ("example.org", false),
        ] {
            assert_eq!(policy.allows(&name(host)), allowed, "{host}");
        }
    }
}
