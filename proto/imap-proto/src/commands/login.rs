//! LOGIN (RFC 3501 §6.2.3), and what it shares with AUTHENTICATE: the judgement of credentials.

use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, ask, done};
use crate::question::{Answer, AuthFailure, Question};
use crate::state::{Phase, State};
use mail::Secret;
use sasl::{Credentials, FIELD_OCTETS_MAX, Mechanism};

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let login = lexer.astring()?.into_owned();
    lexer.space()?;
    let password = lexer.astring()?.into_owned();
    lexer.end()?;
    if state.tls.is_none() {
        return Ok(refuse_in_the_clear(state, true));
    }
    let field = |octets: Vec<u8>| String::from_utf8(octets).ok().filter(|text| text.len() <= FIELD_OCTETS_MAX);
    let (Some(login), Some(password)) = (field(login), field(password)) else { return Ok(done(denied())) };
    Ok(judge(Credentials {
        authorization: String::new(),
        login,
        password: Secret::new(password),
        // The command has no mechanism of its own; what it carries is what LOGIN carries.
        mechanism: Mechanism::Login,
    }))
}

/// RFC 3501 §6.2.3, RFC 5530 §3 (R49): nothing that carries a password is taken without TLS.
pub(super) fn refuse_in_the_clear(state: &mut State, password_sent: bool) -> Next {
    if password_sent {
        state.untagged(
            "BAD [ALERT] Your password has just crossed the network unprotected: whoever listened knows it. \
             Please change it, and turn on TLS in your mail program.",
        );
    }
    let mut completion = Completion::no_code(
        "PRIVACYREQUIRED",
        "Plaintext authentication disallowed on non-secure (SSL/TLS) connections.",
    );
    completion.suspicious = true;
    done(completion)
}

/// Asks whether the credentials fit, and logs in.
pub(super) fn judge(credentials: Credentials) -> Next {
    ask(Question::Authenticate(credentials), |state, answer| match answer {
        Answer::Authenticated(Ok(_)) => {
            state.phase = Phase::Authenticated;
            done(Completion::ok_code(format!("CAPABILITY {}", state.capabilities()), "Logged in."))
        }
        Answer::Authenticated(Err(AuthFailure::Denied)) => done(denied()),
        _ => done(Completion::no_code("UNAVAILABLE", "Temporary authentication failure.")),
    })
}

/// One response for unknown account and wrong password, so that names cannot be probed (R50).
pub(super) fn denied() -> Completion {
    let mut completion = Completion::no_code("AUTHENTICATIONFAILED", "Authentication failed.");
    completion.suspicious = true;
    completion
}
