//! The verbs, and the arguments of BDAT.

/// The first word of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Helo,
    Ehlo,
    Lhlo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Quit,
    Help,
    Vrfy,
    Expn,
    Etrn,
    Auth,
    StartTls,
    /// A method of HTTP: a browser, or somebody behind one, talks to the wrong port (V49).
    Http,
}

const VERBS: [(&str, Verb); 26] = [
    ("MAIL", Verb::Mail),
    ("RCPT", Verb::Rcpt),
    ("DATA", Verb::Data),
    ("BDAT", Verb::Bdat),
    ("EHLO", Verb::Ehlo),
    ("HELO", Verb::Helo),
    ("LHLO", Verb::Lhlo),
    ("QUIT", Verb::Quit),
    ("RSET", Verb::Rset),
    ("NOOP", Verb::Noop),
    ("STARTTLS", Verb::StartTls),
    ("AUTH", Verb::Auth),
    ("VRFY", Verb::Vrfy),
    ("EXPN", Verb::Expn),
    ("ETRN", Verb::Etrn),
    ("HELP", Verb::Help),
    ("GET", Verb::Http),
    ("POST", Verb::Http),
    ("PUT", Verb::Http),
    ("HEAD", Verb::Http),
    ("DELETE", Verb::Http),
    ("OPTIONS", Verb::Http),
    ("PATCH", Verb::Http),
    ("TRACE", Verb::Http),
    ("CONNECT", Verb::Http),
    ("PRI", Verb::Http),
];

impl Verb {
    /// Whether the command works where TLS is required and has not begun (RFC 3207 §4, R18).
    pub(crate) fn works_without_tls(self) -> bool {
        match self {
            Verb::Helo | Verb::Ehlo | Verb::Lhlo | Verb::Noop | Verb::Rset | Verb::StartTls | Verb::Quit => true,
            Verb::Http => true,
            Verb::Mail | Verb::Rcpt | Verb::Data | Verb::Bdat | Verb::Help => false,
            Verb::Vrfy | Verb::Expn | Verb::Etrn | Verb::Auth => false,
        }
    }

    /// Whether a session could go on for ever with such commands without ever sending mail.
    pub(crate) fn is_idle_talk(self) -> bool {
        match self {
            Verb::Helo | Verb::Ehlo | Verb::Lhlo | Verb::Noop | Verb::Rset | Verb::Help => true,
            Verb::Vrfy | Verb::Expn | Verb::Etrn => true,
            Verb::Mail | Verb::Rcpt | Verb::Data | Verb::Bdat | Verb::Quit | Verb::Auth => false,
            Verb::StartTls | Verb::Http => false,
        }
    }
}

/// Splits a line into its verb, if it is one, and the text after it, without outer spaces (RFC 5321 §4.1.1: trailing
/// white space is borne).
pub(crate) fn split(line: &str) -> (Option<Verb>, &str) {
    let (word, arguments) = line.split_once(' ').unwrap_or((line, ""));
    let known = VERBS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    (known.map(|(_, verb)| *verb), arguments.trim_matches(' '))
}

/// What BDAT announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkHead {
    /// Octets that follow the line.
    pub octets: u64,
    /// Whether they are the last; `None` if the word after the count is not LAST.
    pub last: Option<bool>,
}

/// RFC 3030 §2: a count, and LAST perhaps. `None` if there is no count to go by.
pub(crate) fn chunk(arguments: &str) -> Option<ChunkHead> {
    let (count, marker) = arguments.split_once(' ').unwrap_or((arguments, ""));
    if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let last = match marker.trim_matches(' ') {
        "" => Some(false),
        marker => marker.eq_ignore_ascii_case("LAST").then_some(true),
    };
    Some(ChunkHead { octets: count.parse().ok()?, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_have_no_case_and_arguments_no_outer_spaces() {
        assert_eq!(split("eHLo  x y "), (Some(Verb::Ehlo), "x y"));
        assert_eq!(split("QUIT "), (Some(Verb::Quit), ""));
        assert_eq!(split("MAILFROM:<x>"), (None, ""));
        assert_eq!(split(""), (None, ""));
        assert_eq!(split("get / HTTP/1.1"), (Some(Verb::Http), "/ HTTP/1.1"));
    }

    #[test]
    fn chunks() {
        let head = |octets, last| Some(ChunkHead { octets, last });
        assert_eq!(chunk("86 LAST"), head(86, Some(true)));
        assert_eq!(chunk("0  last"), head(0, Some(true)));
        assert_eq!(chunk("100000"), head(100_000, Some(false)));
        assert_eq!(chunk("10 FIRST"), head(10, None));
        for text in ["", "LAST", "-1", "+1", "1x", "0x10", "99999999999999999999999"] {
            assert_eq!(chunk(text), None, "{text}");
        }
    }
}
