//! The grammar of commands (RFC 1939 §9, RFC 2449 §3, RFC 2595 §4, RFC 5034 §5).

use mail::Secret;

/// Longest command in octets, line end included. RFC 2449 §4 asks for 255; more leaves room for long passwords and for
/// clients that send a long initial response.
pub(crate) const COMMAND_OCTETS_MAX: usize = 2_048;

/// A command. Message numbers are as typed: 0, or beyond the maildrop, is possible.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Capa,
    Stls,
    User(String),
    Pass(Secret),
    /// The mechanism's name, and the initial response as sent.
    Auth(String, Option<Vec<u8>>),
    /// AUTH alone: old clients ask so which mechanisms there are.
    AuthList,
    Quit,
    Stat,
    List(Option<u32>),
    Uidl(Option<u32>),
    Retr(u32),
    /// The message, and how many lines of its body.
    Top(u32, u32),
    Dele(u32),
    Rset,
    Noop,
}

/// Why a line is not a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandError {
    /// No such command.
    Unknown,
    /// The arguments are missing, too many, or not of the right kind.
    Arguments,
    /// The client speaks HTTP (V49).
    Http,
}

/// First words of HTTP requests.
const HTTP_METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "PATCH", "PRI"];

/// Reads a line, without its end.
pub(crate) fn parse(line: &[u8]) -> Result<Command, CommandError> {
    let mut parts = line.splitn(2, |octet| *octet == b' ');
    let keyword = parts.next().unwrap_or_default();
    let argument = parts.next();
    // Four letters are the longest keyword (RFC 1939 §3); the methods of HTTP are longer.
    if keyword.len() > 7 {
        return Err(CommandError::Unknown);
    }
    let keyword = keyword.to_ascii_uppercase();
    match keyword.as_slice() {
        // RFC 1939 §7: PASS has one argument, and spaces may be part of it.
        b"PASS" => text(argument).map(|password| Command::Pass(Secret::new(password.to_owned()))),
        b"USER" => text(argument.map(<[u8]>::trim_ascii_end)).map(|name| Command::User(name.to_owned())),
        b"AUTH" => auth(argument.unwrap_or_default()),
        other => numbers(other, argument.unwrap_or_default()),
    }
}

/// Commands whose arguments are numbers, or that have none.
fn numbers(keyword: &[u8], argument: &[u8]) -> Result<Command, CommandError> {
    let mut arguments = argument.trim_ascii_end().split(|octet| *octet == b' ').filter(|word| !word.is_empty());
    let mut next = || arguments.next().map(number).transpose();
    let needed = CommandError::Arguments;
    let command = match keyword {
        b"CAPA" => Command::Capa,
        b"STLS" => Command::Stls,
        b"QUIT" => Command::Quit,
        b"STAT" => Command::Stat,
        b"LIST" => Command::List(next()?),
        b"UIDL" => Command::Uidl(next()?),
        b"RETR" => Command::Retr(next()?.ok_or(needed)?),
        b"TOP" => Command::Top(next()?.ok_or(needed)?, next()?.ok_or(needed)?),
        b"DELE" => Command::Dele(next()?.ok_or(needed)?),
        b"RSET" => Command::Rset,
        b"NOOP" => Command::Noop,
        other if HTTP_METHODS.iter().any(|method| method.as_bytes() == other) => return Err(CommandError::Http),
        _ => return Err(CommandError::Unknown),
    };
    arguments.next().map_or(Ok(command), |_| Err(CommandError::Arguments))
}

/// RFC 5034 §5, auth-command.
fn auth(argument: &[u8]) -> Result<Command, CommandError> {
    let mut words = argument.trim_ascii_end().split(|octet| *octet == b' ');
    let mechanism = words.next().unwrap_or_default();
    let initial = words.next();
    if words.next().is_some() {
        return Err(CommandError::Arguments);
    }
    match (mechanism, initial) {
        (b"", None) => Ok(Command::AuthList),
        (mechanism, initial) => Ok(Command::Auth(text(Some(mechanism))?.to_owned(), initial.map(<[u8]>::to_vec))),
    }
}

/// An argument that is text: not empty, UTF-8, without NUL.
fn text(argument: Option<&[u8]>) -> Result<&str, CommandError> {
    argument
        .and_then(|argument| std::str::from_utf8(argument).ok())
        .filter(|text| !text.is_empty() && !text.contains('\0'))
        .ok_or(CommandError::Arguments)
}

/// A decimal number. One beyond what any maildrop holds is the greatest there is.
fn number(word: &[u8]) -> Result<u32, CommandError> {
    // RFC 1939 §3: an argument has at most 40 characters.
    if word.is_empty() || word.len() > 40 || !word.iter().all(u8::is_ascii_digit) {
        return Err(CommandError::Arguments);
    }
    Ok(word.iter().fold(0u32, |value, digit| value.saturating_mul(10).saturating_add(u32::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        for (line, command) in [
            (&b"noop"[..], Command::Noop),
            (b"STAT  ", Command::Stat),
            (b"LIST", Command::List(None)),
            (b"list 007", Command::List(Some(7))),
            (b"UIDL 0", Command::Uidl(Some(0))),
            (b"RETR 99999999999999999999", Command::Retr(u32::MAX)),
            (b"Top 1 0", Command::Top(1, 0)),
            (b"TOP 1  10", Command::Top(1, 10)),
            (b"USER brian@example.net ", Command::User("brian@example.net".into())),
            (b"PASS  two  words ", Command::Pass(Secret::new(" two  words ".into()))),
            (b"AUTH", Command::AuthList),
            (b"auth plain", Command::Auth("plain".into(), None)),
            (b"AUTH PLAIN =", Command::Auth("PLAIN".into(), Some(b"=".to_vec()))),
        ] {
            assert_eq!(parse(line), Ok(command), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn v28_other_lines_are_refused() {
        for (line, error) in [
            (&b""[..], CommandError::Unknown),
            (b" NOOP", CommandError::Unknown),
            (b"NOOP\0", CommandError::Unknown),
            (b"LAST", CommandError::Unknown),
            (b"APOP a b", CommandError::Unknown),
            (b"\xff\xfe", CommandError::Unknown),
            (b"NOOP 1", CommandError::Arguments),
            (b"RETR", CommandError::Arguments),
            (b"RETR x", CommandError::Arguments),
            (b"RETR -1", CommandError::Arguments),
            (b"RETR 1 2", CommandError::Arguments),
            (b"TOP 1", CommandError::Arguments),
            (b"USER", CommandError::Arguments),
            (b"USER ", CommandError::Arguments),
            (b"PASS", CommandError::Arguments),
            (b"PASS \xff", CommandError::Arguments),
            (b"USER a\0b", CommandError::Arguments),
            (b"AUTH PLAIN a b", CommandError::Arguments),
            (b"AUTH  x", CommandError::Arguments),
            (b"GET / HTTP/1.1", CommandError::Http),
            (b"options * HTTP/1.1", CommandError::Http),
        ] {
            assert_eq!(parse(line), Err(error), "{}", line.escape_ascii());
        }
    }
}
