//! AUTHENTICATE (RFC 3501 §6.2.2), with initial response (RFC 4959).

use super::login::{denied, judge, refuse_in_the_clear};
use crate::lexer::{BadCommand, Lexer};
use crate::next::{Completion, Next, done};
use crate::state::State;
use sasl::{Exchange, Mechanism, SaslError, Turn};

pub(super) fn run(state: &mut State, lexer: &mut Lexer<'_>) -> Result<Next, BadCommand> {
    lexer.space()?;
    let name = lexer.atom()?;
    let initial = if lexer.eat(b' ') { Some(lexer.rest()) } else { None };
    if initial.is_none() {
        lexer.end()?;
    }
    state.offers("SASL-IR", initial.is_some())?;
    if state.tls.is_none() {
        return Ok(refuse_in_the_clear(state, initial.is_some()));
    }
    let offered = |mechanism: &Mechanism| state.config.offers(&format!("AUTH={}", mechanism.name()));
    let Some(mechanism) = Mechanism::parse(name).filter(offered) else {
        return Ok(done(Completion::no_code("CANNOT", "That mechanism is not offered.")));
    };
    let initial = match initial.map(sasl::decode).transpose() {
        Ok(initial) => initial,
        Err(error) => return Ok(failed(error)),
    };
    let (exchange, turn) = Exchange::begin(mechanism, initial.as_deref());
    Ok(proceed(state, exchange, turn))
}

fn proceed(state: &mut State, mut exchange: Exchange, turn: Turn) -> Next {
    match turn {
        Turn::Challenge(challenge) => {
            state.out.extend_from_slice(b"+ ");
            state.out.extend_from_slice(sasl::encode(&challenge).as_bytes());
            state.out.extend_from_slice(b"\r\n");
            Next::Line(Box::new(move |state, line| match sasl::decode(&line.text) {
                Ok(response) if line.literal.is_none() => {
                    let turn = exchange.respond(&response);
                    proceed(state, exchange, turn)
                }
                Ok(_) => failed(SaslError::Base64),
                Err(error) => failed(error),
            }))
        }
        Turn::Credentials(credentials) => judge(credentials),
        Turn::Failed(error) => failed(error),
    }
}

fn failed(error: SaslError) -> Next {
    done(match error {
        // RFC 3501 §6.2.2: a client that gives up is answered BAD.
        SaslError::Aborted => Completion::bad("Authentication aborted."),
        SaslError::Base64 => Completion::bad("That is not base64."),
        SaslError::Malformed => denied(),
    })
}
