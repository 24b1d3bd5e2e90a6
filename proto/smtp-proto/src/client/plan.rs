//! Which parameters a transaction gets from this peer, and what stands in its way. No parameter is sent that was not
//! offered (RFC 5321 §2.2.1).

use super::config::Config;
use super::question::{Content, Obstacle, Peer, Transaction};
use crate::config::Extensions;
use mail::ReversePath;

/// How a transaction is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// SMTPUTF8.
    pub utf8: bool,
    /// SIZE, in octets.
    pub size: Option<u64>,
    /// BODY=8BITMIME.
    pub eight_bit: bool,
    /// RET, ENVID, NOTIFY and ORCPT, as far as there are any (RFC 3461 §5.2.2: none of them where DSN is not offered).
    pub dsn: bool,
    /// REQUIRETLS.
    pub require_tls: bool,
    /// Commands go in groups.
    pub pipelined: bool,
    /// The text goes with BDAT.
    pub chunked: bool,
}

impl Plan {
    /// # Errors
    /// What stands in the way of the whole transaction.
    pub fn new(transaction: &Transaction, peer: &Peer, config: &Config) -> Result<Plan, Obstacle> {
        let offers = &peer.offers;
        let wants_utf8 = transaction.smtputf8
            || matches!(&transaction.reverse_path, ReversePath::Address(address) if address.needs_utf8());
        if wants_utf8 && !offers.has(Extensions::SMTPUTF8) {
            return Err(Obstacle::NeedsSmtpUtf8);
        }
        let eight_bit = transaction.content == Content::EightBit;
        if eight_bit && !offers.has(Extensions::EIGHT_BIT_MIME) {
            return Err(Obstacle::NeedsEightBit);
        }
        let require_tls = require_tls(transaction, peer)?;
        let size = transaction.octets.filter(|_| offers.has(Extensions::SIZE));
        if let (Some(octets), Some(octets_max)) = (size, offers.size_octets_max)
            && octets > octets_max
        {
            return Err(Obstacle::TooBig { octets_max });
        }
        let to_utf8 = transaction.recipients.iter().any(|recipient| recipient.address.needs_utf8());
        Ok(Plan {
            utf8: wants_utf8 || (to_utf8 && offers.has(Extensions::SMTPUTF8)),
            size,
            eight_bit,
            dsn: offers.has(Extensions::DSN),
            require_tls,
            pipelined: config.pipelining && offers.has(Extensions::PIPELINING),
            chunked: config.chunking && offers.has(Extensions::CHUNKING),
        })
    }
}

/// RFC 8689 §4.2.1: only inside TLS, and only to peers that offer it. A bounce is sent without it rather than not at all
/// (RFC 8689 §5).
fn require_tls(transaction: &Transaction, peer: &Peer) -> Result<bool, Obstacle> {
    let obstacle = match transaction.require_tls {
        false => return Ok(false),
        true if !peer.protection.is_tls() => Obstacle::NeedsTls,
        true if !peer.offers.has(Extensions::REQUIRETLS) => Obstacle::NeedsRequireTls,
        true => return Ok(true),
    };
    if transaction.reverse_path == ReversePath::Null { Ok(false) } else { Err(obstacle) }
}
