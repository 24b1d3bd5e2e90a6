//! Signing what goes out for our domains (DKIM), while it comes in: the body is hashed as it passes, the header section
//! kept until the end.

use directory::signing::Signing;
use mail::{Domain, UnixMillis};
use sender_auth::dkim::{BodyHash, HEADER_OCTETS_MAX, Recipe, SignError, Signable};
use std::sync::Arc;

/// Signs for the domains that have keys.
pub struct Signer {
    /// The keys.
    pub keys: Arc<Signing>,
    /// How.
    pub recipe: Recipe,
}

/// What is kept of a message to sign it at its end.
pub(crate) struct Signature {
    signer: Arc<Signer>,
    header: Vec<u8>,
    is_in_body: bool,
    body: BodyHash,
}

impl Signature {
    pub(crate) fn new(signer: Arc<Signer>) -> Signature {
        let body = signer.recipe.body_hash();
        Signature { signer, header: Vec::new(), is_in_body: false, body }
    }

    /// Takes the next octets, as they are stored.
    pub(crate) fn write(&mut self, octets: &[u8]) {
        if self.is_in_body {
            return self.body.write(octets);
        }
        // What is beyond is not signed, and not kept.
        if self.header.len() > HEADER_OCTETS_MAX {
            return;
        }
        let before = self.header.len();
        self.header.extend_from_slice(octets);
        let Some(end) = end_of_header(&self.header, before) else { return };
        self.is_in_body = true;
        let body = self.header.split_off(end);
        self.body.write(&body);
    }

    /// The signatures for a message of this author, with fields in front of it that are signed too.
    pub(crate) fn sign(self, domain: &Domain, added: &str, now: UnixMillis) -> Result<Vec<u8>, SignError> {
        let keys = self.signer.keys.keys_for(domain);
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut header = added.as_bytes().to_vec();
        header.extend_from_slice(&self.header);
        let message = Signable { header: &header, body: self.body.finish(), now: now.0 / 1_000, identity: None };
        self.signer.recipe.sign(&keys, &message)
    }
}

/// Where the header section ends, the empty line included; looked for from where it was not seen yet.
fn end_of_header(octets: &[u8], before: usize) -> Option<usize> {
    if octets.starts_with(b"\r\n") {
        return Some(2);
    }
    let from = before.saturating_sub(3);
    let place = octets.get(from..)?.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(from + place + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_section_ends_where_it_ends_however_it_comes() {
        let text = b"A: b\r\nC: d\r\n\r\n\r\nbody";
        assert_eq!(end_of_header(text, 0), Some(14));
        for cut in 0..14 {
            assert_eq!(end_of_header(&text[..cut], cut.saturating_sub(1)), None, "{cut}");
            assert_eq!(end_of_header(text, cut.min(13)), Some(14), "{cut}");
        }
        assert_eq!(end_of_header(b"\r\nbody", 0), Some(2));
    }
}
