//! Authentication exchanges (RFC 4422): the server's side of PLAIN and LOGIN, without protocol framing.
//!
//! SMTP, IMAP and POP3 frame challenges and responses differently, but all carry them in base64; [`decode`] is theirs.
//! An [`Exchange`] ends in [`Credentials`], which the directory judges. The other side is in [`client`].

pub mod client;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail::Secret;

/// Longest response in octets of base64 (RFC 4954 §4 asks for lines of 12,288 octets).
pub const RESPONSE_OCTETS_MAX: usize = 12_288;
/// Longest login name and longest password taken from a response, in octets each.
pub const FIELD_OCTETS_MAX: usize = 1_024;

/// A mechanism the server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The obsolete prompts for user name and password that old clients need.
    Login,
}

impl Mechanism {
    /// All of them, in the order they are announced.
    pub const ALL: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

    /// The name that is announced.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }

    /// Finds a mechanism by name, without regard to case (RFC 4422 §3.1).
    pub fn parse(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

/// What a client claims and proves it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Whom to act as; empty means the login itself (RFC 4616 §2).
    pub authorization: String,
    /// Who logs in, as typed.
    pub login: String,
    /// The proof.
    pub password: Secret,
    /// How it came.
    pub mechanism: Mechanism,
}

/// Why credentials were not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailure {
    /// Unknown login, wrong password, disabled account: one and the same to the client.
    Denied,
    /// They cannot be judged now: the directory cannot be read, or too many wait already.
    Temporary,
}

/// Why an exchange ended without credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslError {
    /// Not base64 (RFC 4954 §4: reply 501 5.5.2).
    Base64,
    /// A response that is not of the mechanism's grammar, or too long.
    Malformed,
    /// The client gave up with `*`.
    Aborted,
}

/// What the server does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send this challenge, in base64.
    Challenge(Vec<u8>),
    /// The exchange is complete.
    Credentials(Credentials),
    /// The exchange failed.
    Failed(SaslError),
}

/// A running exchange.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    login: Option<String>,
}

impl Exchange {
    /// Begins an exchange, with the initial response if the client sent one.
    pub fn begin(mechanism: Mechanism, initial: Option<&[u8]>) -> (Exchange, Turn) {
        let mut exchange = Exchange { mechanism, login: None };
        let turn = match (mechanism, initial) {
            (_, Some(response)) => exchange.respond(response),
            (Mechanism::Plain, None) => Turn::Challenge(Vec::new()),
            (Mechanism::Login, None) => Turn::Challenge(b"Username:".to_vec()),
        };
        (exchange, turn)
    }

    /// Takes the decoded response to the last challenge.
    pub fn respond(&mut self, response: &[u8]) -> Turn {
        match self.mechanism {
            Mechanism::Plain => plain(response).map_or(Turn::Failed(SaslError::Malformed), Turn::Credentials),
            Mechanism::Login => self.login_step(response),
        }
    }

    fn login_step(&mut self, response: &[u8]) -> Turn {
        let Some(field) = field(response) else { return Turn::Failed(SaslError::Malformed) };
        match self.login.take() {
            None => {
                self.login = Some(field.to_owned());
                Turn::Challenge(b"Password:".to_vec())
            }
            Some(login) => Turn::Credentials(Credentials {
                authorization: String::new(),
                login,
                password: Secret::new(field.to_owned()),
                mechanism: Mechanism::Login,
            }),
        }
    }
}

/// RFC 4616 §2: `[authzid] NUL authcid NUL passwd`, all UTF-8.
fn plain(response: &[u8]) -> Option<Credentials> {
    let mut parts = response.split(|octet| *octet == 0);
    let (authorization, login, password) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || login.is_empty() {
        return None;
    }
    Some(Credentials {
        authorization: field(authorization)?.to_owned(),
        login: field(login)?.to_owned(),
        password: Secret::new(field(password)?.to_owned()),
        mechanism: Mechanism::Plain,
    })
}

/// UTF-8 without NUL, of bounded length.
fn field(octets: &[u8]) -> Option<&str> {
    if octets.len() > FIELD_OCTETS_MAX || octets.contains(&0) {
        return None;
    }
    std::str::from_utf8(octets).ok()
}

/// Decodes a response line, without its line end. `*` means the client gives up; `=` is the empty response
/// (RFC 4954 §4).
pub fn decode(line: &[u8]) -> Result<Vec<u8>, SaslError> {
    match line {
        b"*" => Err(SaslError::Aborted),
        b"=" => Ok(Vec::new()),
        line if line.len() > RESPONSE_OCTETS_MAX => Err(SaslError::Malformed),
        line => STANDARD.decode(line).map_err(|_| SaslError::Base64),
    }
}

/// Encodes a challenge or a response.
pub fn encode(challenge: &[u8]) -> String {
    STANDARD.encode(challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(authorization: &str, login: &str, password: &str, mechanism: Mechanism) -> Turn {
        Turn::Credentials(Credentials {
            authorization: authorization.into(),
            login: login.into(),
            password: Secret::new(password.into()),
            mechanism,
        })
    }

    #[test]
    fn plain_with_and_without_initial_response() {
        let (_, turn) = Exchange::begin(Mechanism::Plain, Some(b"\0brian\0pw"));
        assert_eq!(turn, credentials("", "brian", "pw", Mechanism::Plain));
        let (mut exchange, turn) = Exchange::begin(Mechanism::Plain, None);
        assert_eq!(turn, Turn::Challenge(Vec::new()));
        assert_eq!(exchange.respond(b"a\0b\0c"), credentials("a", "b", "c", Mechanism::Plain));
    }

    #[test]
    fn login_prompts_twice_or_takes_the_name_at_once() {
        let (mut exchange, turn) = Exchange::begin(Mechanism::Login, None);
        assert_eq!(turn, Turn::Challenge(b"Username:".to_vec()));
        assert_eq!(exchange.respond(b"brian"), Turn::Challenge(b"Password:".to_vec()));
        assert_eq!(exchange.respond(b"pw"), credentials("", "brian", "pw", Mechanism::Login));
        let (_, turn) = Exchange::begin(Mechanism::Login, Some(b"brian"));
        assert_eq!(turn, Turn::Challenge(b"Password:".to_vec()));
    }

    #[test]
    fn v18_garbage_fails_and_nothing_more() {
        for response in [&b""[..], b"\0", b"\0\0pw", b"a\0b", b"a\0b\0c\0d", b"\0\xff\0x", &[b'a'; 5_000]] {
            let (_, turn) = Exchange::begin(Mechanism::Plain, Some(response));
            assert_eq!(turn, Turn::Failed(SaslError::Malformed), "{response:?}");
        }
        for line in [&b"a"[..], b"ab=c", b"!!!!", b"AAA", b" AAAA"] {
            assert_eq!(decode(line), Err(SaslError::Base64), "{line:?}");
        }
        assert_eq!(decode(b"*"), Err(SaslError::Aborted));
        assert_eq!(decode(&[b'A'; 20_000]), Err(SaslError::Malformed));
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert!(!format!("{:?}", plain(b"\0u\0hunter2")).contains("hunter2"));
    }
}
