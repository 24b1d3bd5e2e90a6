//! Which of the modes really holds: what one question tells about the servers and the path to them.

use crate::exchange::{Question, Want};
use crate::reply::wire_name;
use crate::settings::Mode;
use crate::stub::Reply;
use crate::validate::Validator;
use crate::{Inner, Path};
use dns::{Failure, Name, RecordType, Security};
use hickory_proto::rr;
use std::fmt;
use std::net::SocketAddr;
use tokio::time::Instant;

/// What the probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The mode that was wanted.
    pub wanted: Mode,
    /// The mode that holds: the one wanted, or [`Mode::Plain`]. While no server answers, the one wanted stays, since
    /// silence says nothing about validation.
    pub holds: Mode,
    /// What each server that would be asked shows, in their order.
    pub servers: Vec<ProbedServer>,
    /// For [`Mode::Validating`]: what came of validating the name that was asked for.
    pub validated: Option<Result<Security, Failure>>,
}

/// What one server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedServer {
    /// The server.
    pub address: SocketAddr,
    /// Whether its word counts.
    pub is_trusted: bool,
    /// Why it gave no answer, if it gave none.
    pub trouble: Option<String>,
    /// It says that it validated (AD).
    pub says_authentic: bool,
    /// Signatures reach us.
    pub gives_signatures: bool,
}

impl Probed {
    /// Whether answers can be secure at all; without it, DANE is off.
    pub fn can_prove(&self) -> bool {
        self.holds != Mode::Plain
    }

    fn servers_where(&self, is_meant: impl Fn(&ProbedServer) -> bool) -> String {
        let servers = self.servers.iter().filter(|server| is_meant(server));
        servers.map(|server| server.address.to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Probed {
    /// A sentence or two for the administrator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.servers_where(|_| true);
        let silent = self.servers_where(|server| server.trouble.is_some());
        if self.servers.iter().all(|server| server.trouble.is_some()) {
            let trouble = self.servers.first().and_then(|server| server.trouble.as_deref()).unwrap_or("none is known");
            return write!(f, "No DNS server answers ({silent}: {trouble}), so nothing is known about DNSSEC.");
        }
        match (self.wanted, self.holds) {
            (Mode::Plain, _) => {
                write!(f, "DNS answers of {all} are taken without DNSSEC, as configured; DANE is off.")?
            }
            (Mode::Trusting, Mode::Trusting) => write!(f, "DNSSEC is validated by {all}, whose word is trusted.")?,
            (Mode::Trusting, _) if self.servers.iter().any(|server| server.is_trusted) => {
                write!(f, "The trusted DNS server {all} does not validate DNSSEC; DANE is off.")?;
            }
            (Mode::Trusting, _) => write!(
                f,
                "The word of {all} about DNSSEC is not trusted, since others may speak in between; DANE is off. Use a \
                 validating server on this machine, list the server as trusted, or validate here."
            )?,
            (Mode::Validating, Mode::Validating) => write!(f, "DNSSEC is validated here, over {all}.")?,
            (Mode::Validating, _) => {
                let stripping = self.servers_where(|server| server.trouble.is_none() && !server.gives_signatures);
                write!(f, "DNSSEC cannot be validated here")?;
                if !stripping.is_empty() {
                    write!(f, ", since {stripping} passes on no signatures")?;
                }
                match &self.validated {
                    Some(Err(failure)) => write!(f, " ({failure}); DANE is off.")?,
                    _ => write!(f, "; DANE is off.")?,
                }
            }
        }
        if !silent.is_empty() {
            write!(f, " No answer from {silent}.")?;
        }
        Ok(())
    }
}

pub(crate) async fn probe(inner: &Inner, name: &Name) -> Probed {
    let deadline = Instant::now() + inner.settings.timeout;
    let mut servers = Vec::new();
    for address in inner.stub.servers() {
        servers.push(probe_server(inner, *address, name, deadline).await);
    }
    let validated = match &inner.validator {
        Some(validator) => Some(validate(validator, name, deadline).await),
        None => None,
    };
    let answering = || servers.iter().filter(|server| server.trouble.is_none());
    let wanted = inner.settings.mode;
    let holds = match wanted {
        _ if answering().next().is_none() => wanted,
        Mode::Trusting if answering().all(|server| server.is_trusted && server.says_authentic) => wanted,
        Mode::Validating if matches!(validated, Some(Ok(Security::Secure) | Err(Failure::Failed(_)))) => wanted,
        Mode::Trusting | Mode::Validating | Mode::Plain => Mode::Plain,
    };
    Probed { wanted, holds, servers, validated }
}

async fn probe_server(inner: &Inner, address: SocketAddr, name: &Name, deadline: Instant) -> ProbedServer {
    let until = deadline.min(Instant::now() + inner.settings.try_timeout);
    let reply = match Question::new(&wire_name(name), rr::RecordType::SOA, Want::Proof) {
        Ok(question) => inner.stub.ask_server(address, &question, until).await,
        Err(trouble) => Err(trouble),
    };
    let is_trusted = inner.settings.trusts(address);
    let mut probed =
        ProbedServer { address, is_trusted, trouble: None, says_authentic: false, gives_signatures: false };
    match reply {
        Ok(Reply { message, .. }) => {
            probed.says_authentic = message.authentic_data;
            probed.gives_signatures =
                message.all_sections().any(|record| record.record_type() == rr::RecordType::RRSIG);
        }
        Err(trouble) => probed.trouble = Some(trouble.to_string()),
    }
    probed
}

async fn validate(validator: &Validator, name: &Name, deadline: Instant) -> Result<Security, Failure> {
    let step = validator.step(RecordType::Soa, &mut Path::from(name.clone()), deadline).await?;
    Ok(step.security)
}
