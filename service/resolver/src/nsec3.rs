//! Denials by NSEC3: which names a record denies (RFC 5155).

use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC3};
use hickory_proto::rr::{Name, RData, Record};

/// Rounds of hashing that are done for an answer. A zone that wants more is taken for an insecure one (RFC 9276 §3.2).
const ROUNDS_MAX: u16 = 100;

/// An NSEC3 record.
pub(crate) struct Nsec3<'m> {
    /// The zone that it is of.
    pub(crate) zone: Name,
    data: &'m NSEC3,
    /// The hash in its own name.
    hash: Vec<u8>,
}

impl<'m> Nsec3<'m> {
    /// `None` for records of other types, and of a name that is no hash.
    pub(crate) fn of(record: &'m Record) -> Option<Nsec3<'m>> {
        let RData::DNSSEC(DNSSECRData::NSEC3(data)) = &record.data else { return None };
        Some(Nsec3 { zone: record.name.base_name(), data, hash: base32hex(record.name.iter().next()?)? })
    }

    /// Whether unsigned delegations may be left out of what it denies.
    pub(crate) fn opts_out(&self) -> bool {
        self.data.opt_out()
    }

    /// Whether we do not look what it denies, since that takes too much hashing.
    pub(crate) fn takes_too_long(&self) -> bool {
        self.data.iterations() > ROUNDS_MAX
    }

    /// Whether it denies a name of its zone: the name's hash lies between its own and the next one.
    pub(crate) fn covers(&self, name: &Name) -> bool {
        let (own, next) = (self.hash.as_slice(), self.data.next_hashed_owner_name());
        self.hash_of(name).is_some_and(|hash| {
            let (is_after, is_before) = (own < hash.as_slice(), hash.as_slice() < next);
            // The next one of the last one is the first.
            if own < next { is_after && is_before } else { is_after || is_before }
        })
    }

    fn hash_of(&self, name: &Name) -> Option<Vec<u8>> {
        if self.takes_too_long() || !self.zone.zone_of(name) {
            return None;
        }
        let hash = self.data.hash_algorithm().hash(self.data.salt(), name, self.data.iterations());
        hash.ok().map(|hash| hash.as_ref().to_vec())
    }
}

/// The octets that a label stands for (RFC 4648 §7). `None` when it has other characters.
fn base32hex(label: &[u8]) -> Option<Vec<u8>> {
    let (mut octets, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for character in label {
        held = held << 5 | char::from(*character).to_digit(32)?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            octets.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::dnssec::Nsec3HashAlgorithm;

    const APEX: &str = "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom";

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(owner: &str, next: &str, iterations: u16) -> Record {
        let (salt, next) = (vec![0xaa, 0xbb, 0xcc, 0xdd], base32hex(next.as_bytes()).unwrap());
        let data = NSEC3::new(Nsec3HashAlgorithm::SHA1, false, iterations, salt, next, []);
        Record::from_rdata(name(&format!("{owner}.example.")), 300, RData::DNSSEC(DNSSECRData::NSEC3(data)))
    }

    /// RFC 5155 Appendix A and Appendix B.1.
    #[test]
    fn the_example_of_the_standard() {
        let (of_a, of_x_w) = ("35mthgpgcu1qg68fab165klnsnk3dpvl", "b4um86eghhds6nea196smvmlo4ors995");
        let (apex, a) = (record(APEX, "2t7b4g4vsa5smi47k61mv5bv1a22bojr", 12), record(of_a, of_x_w, 12));
        let last = record("t644ebqk9bibcna874givr6joj62mlhv", APEX, 12);
        let names = ["example.", "a.example.", "x.w.example.", "c.x.w.example.", "*.x.w.example.", "c.x.w.other."];
        let covered = |record: &Record| -> Vec<&str> {
            let nsec3 = Nsec3::of(record).unwrap();
            names.into_iter().filter(|text| nsec3.covers(&name(text))).collect()
        };
        assert_eq!(covered(&apex), ["c.x.w.example."], "the next closer name");
        assert_eq!(covered(&a), ["*.x.w.example."], "the wildcard");
        assert_eq!(covered(&last), [""; 0]);
        assert_eq!(covered(&record(APEX, APEX, 12)), names[1..5], "the only one of its zone");
        let wide = record(APEX, APEX, 101);
        assert!(covered(&wide).is_empty() && Nsec3::of(&wide).unwrap().takes_too_long());
    }

    #[test]
    fn labels_that_are_no_hash() {
        assert!(Nsec3::of(&record("x_y", APEX, 0)).is_none());
        assert_eq!(base32hex(b"CPNMU"), Some(b"foo".to_vec()), "RFC 4648 §10");
        assert_eq!(base32hex(&[b'v'; 63]).map(|octets| octets.len()), Some(39));
    }
}
