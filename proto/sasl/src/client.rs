//! The client's side of PLAIN and LOGIN, without protocol framing.
//!
//! What a server says in its challenges does not matter to either mechanism: the first challenge of PLAIN is empty, and
//! those of LOGIN are prompts whose words differ. So an [`Exchange`] counts challenges and does not read them.

use crate::{FIELD_OCTETS_MAX, Mechanism};
use mail::Secret;

/// Who we are to a server, and what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whom to act as; empty for the login itself (RFC 4616 §2). LOGIN cannot say it.
    pub authorization: String,
    /// Who logs in.
    pub login: String,
    /// The proof.
    pub password: Secret,
}

impl Identity {
    /// An identity that acts as itself.
    pub fn new(login: impl Into<String>, password: Secret) -> Identity {
        Identity { authorization: String::new(), login: login.into(), password }
    }
}

/// Why an exchange cannot go on. The client then cancels it (`*` in SMTP, RFC 4954 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientError {
    /// The mechanism cannot carry the identity: a NUL in it, no login, a field that is too long, or an authorization
    /// where there is no place for one.
    Unusable,
    /// The server wants more than the mechanism has.
    UnexpectedChallenge,
}

/// The best of the mechanisms that a server offers: PLAIN, for it needs no more turns than one, else LOGIN.
pub fn choose(offered: &[Mechanism]) -> Option<Mechanism> {
    [Mechanism::Plain, Mechanism::Login].into_iter().find(|mechanism| offered.contains(mechanism))
}

/// A running exchange: the responses that are still to be sent, last first.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    responses: Vec<Secret>,
}

impl Exchange {
    /// Begins an exchange.
    ///
    /// # Errors
    /// [`ClientError::Unusable`] if the mechanism cannot carry the identity.
    pub fn begin(mechanism: Mechanism, identity: &Identity) -> Result<Exchange, ClientError> {
        let Identity { authorization, login, password } = identity;
        let fits = |field: &str| field.len() <= FIELD_OCTETS_MAX && !field.contains('\0');
        let all_fit = fits(authorization) && fits(login) && fits(password.expose()) && !login.is_empty();
        let responses = match mechanism {
            _ if !all_fit => return Err(ClientError::Unusable),
            Mechanism::Plain => vec![Secret::new(format!("{authorization}\0{login}\0{}", password.expose()))],
            Mechanism::Login if !authorization.is_empty() => return Err(ClientError::Unusable),
            Mechanism::Login => vec![password.clone(), Secret::new(login.clone())],
        };
        Ok(Exchange { mechanism, responses })
    }

    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The initial response, for protocols that carry one, before anything was sent. Only PLAIN has one: servers are known
    /// that take none with LOGIN.
    pub fn initial(&mut self) -> Option<Secret> {
        match self.mechanism {
            Mechanism::Plain => self.responses.pop(),
            Mechanism::Login => None,
        }
    }

    /// The response to the next challenge, not yet in base64.
    ///
    /// # Errors
    /// [`ClientError::UnexpectedChallenge`] if everything was said already.
    pub fn respond(&mut self) -> Result<Secret, ClientError> {
        self.responses.pop().ok_or(ClientError::UnexpectedChallenge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, Turn};

    fn identity() -> Identity {
        Identity::new("brian", Secret::new("pässword".into()))
    }

    /// Our client against our server.
    fn meet(mechanism: Mechanism, identity: &Identity, initial: bool) -> Result<Credentials, ClientError> {
        let mut client = Exchange::begin(mechanism, identity)?;
        let first = if initial { client.initial() } else { None };
        let first = first.as_ref().map(|secret| secret.expose().as_bytes());
        let (mut server, mut turn) = crate::Exchange::begin(mechanism, first);
        loop {
            match turn {
                Turn::Challenge(_) => turn = server.respond(client.respond()?.expose().as_bytes()),
                Turn::Credentials(credentials) => return Ok(credentials),
                Turn::Failed(error) => panic!("{error:?}"),
            }
        }
    }

    #[test]
    fn the_server_learns_what_the_client_means() {
        for mechanism in Mechanism::ALL {
            for initial in [true, false] {
                let credentials = meet(mechanism, &identity(), initial).unwrap();
                assert_eq!((credentials.login.as_str(), credentials.password.expose()), ("brian", "pässword"));
                assert_eq!((credentials.authorization.as_str(), credentials.mechanism), ("", mechanism));
            }
        }
        let acting = Identity { authorization: "notbrian".into(), ..identity() };
        assert_eq!(meet(Mechanism::Plain, &acting, true).unwrap().authorization, "notbrian");
        assert_eq!(meet(Mechanism::Login, &acting, true), Err(ClientError::Unusable));
    }

    #[test]
    fn v14_what_would_break_the_frame_is_not_sent() {
        for (login, password) in [("", "x"), ("a\0b", "x"), ("a", "x\0y")] {
            let identity = Identity::new(login, Secret::new(password.into()));
            for mechanism in Mechanism::ALL {
                assert_eq!(Exchange::begin(mechanism, &identity).err(), Some(ClientError::Unusable), "{login:?}");
            }
        }
        let long = Identity::new("a".repeat(FIELD_OCTETS_MAX + 1), Secret::new("x".into()));
        assert!(Exchange::begin(Mechanism::Plain, &long).is_err());
    }

    #[test]
    fn a_server_that_asks_for_more_gets_nothing() {
        let mut exchange = Exchange::begin(Mechanism::Plain, &identity()).unwrap();
        assert!(exchange.initial().is_some());
        assert_eq!(exchange.respond(), Err(ClientError::UnexpectedChallenge));
        let mut exchange = Exchange::begin(Mechanism::Login, &identity()).unwrap();
        assert!(exchange.initial().is_none() && exchange.respond().is_ok() && exchange.respond().is_ok());
        assert!(exchange.respond().is_err());
    }

    #[test]
    fn plain_is_chosen_before_login() {
        assert_eq!(choose(&[Mechanism::Login, Mechanism::Plain]), Some(Mechanism::Plain));
        assert_eq!(choose(&[Mechanism::Login]), Some(Mechanism::Login));
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn a_secret_is_not_printed() {
        let exchange = Exchange::begin(Mechanism::Login, &identity()).unwrap();
        assert!(!format!("{exchange:?} {:?}", identity()).contains("pässword"));
    }
}
