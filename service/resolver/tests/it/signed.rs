//! A signed zone, `example.test`, with an unsigned one, `plain.example.test`, below it, as a recursive server that does
//! not validate would give them; and `other.test` and `test`, signed as well, of which there is little but what they could
//! deny. Keys are made anew for each test.

use crate::server::*;
use hickory_proto::dnssec::crypto::EcdsaSigningKey;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, NSEC, NSEC3, RRSIG, SigInput};
use hickory_proto::dnssec::{Algorithm, DigestType, Nsec3HashAlgorithm, SigningKey, TBS};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{NS, NULL, TLSA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u32 = 86_400;

pub struct Signed {
    key: Box<dyn SigningKey>,
    dnskey: DNSKEY,
    records: Vec<Record>,
    harm: fn(&Name, RecordType) -> Harm,
}

/// What is wrong with what is published at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    None,
    BadSignature,
    NoSignature,
    Expired,
    /// The denial is left out.
    NoDenial,
}

/// What an NSEC3 record says of a name.
#[derive(Debug, Clone, Copy)]
pub enum Says {
    /// It exists, without records.
    Exists(&'static str),
    Denied(&'static str),
}

/// How a zone makes its NSEC3 records.
#[derive(Debug, Clone, Copy)]
pub struct Hashing {
    pub iterations: u16,
    pub opts_out: bool,
}

impl Signed {
    pub fn new() -> Signed {
        let algorithm = Algorithm::ECDSAP256SHA256;
        let pkcs8 = EcdsaSigningKey::generate_pkcs8(algorithm).unwrap();
        let key = Box::new(EcdsaSigningKey::from_pkcs8(&pkcs8, algorithm).unwrap());
        let dnskey = DNSKEY::from_key(&key.to_public_key().unwrap());
        let of = |owner: &str, data| Record::from_rdata(wire(owner), 300, data);
        let digest = dnskey.to_digest(&wire("example.test."), DigestType::SHA256).unwrap().as_ref().to_vec();
        let ds = DS::new(dnskey.calculate_key_tag().unwrap(), algorithm, DigestType::SHA256, digest);
        let pin = TLSA::new(3.into(), 1.into(), 1.into(), vec![7; 32]);
        let records = vec![
            soa("example.test.", 300, 100),
            of("example.test.", RData::NS(NS(wire("ns.example.test.")))),
            of("example.test.", RData::DNSSEC(DNSSECRData::DNSKEY(dnskey.clone()))),
            exchanger("example.test.", 10, "mx.example.test."),
            of("mx.example.test.", address(1)),
            of("_25._tcp.mx.example.test.", RData::TLSA(pin)),
            alias("alias.example.test.", "mx.example.test.", 300),
            alias("lost.example.test.", "nowhere.example.test.", 300),
            alias("out.example.test.", "host.plain.example.test.", 300),
            of("*.wild.example.test.", address(2)),
            alias("*.led.example.test.", "mx.example.test.", 300),
            of("moved.example.test.", renaming("mx.example.test.")),
            of("badly-moved.example.test.", renaming("mx.example.test.")),
            of("forged.example.test.", address(3)),
            of("stripped.example.test.", address(4)),
            of("expired.example.test.", address(5)),
            of("plain.example.test.", RData::NS(NS(wire("ns.plain.example.test.")))),
            soa("plain.example.test.", 300, 100),
            of("host.plain.example.test.", address(6)),
            of("host.plain.example.test.", RData::TXT(TXT::new(vec!["x".to_owned()]))),
            soa("other.test.", 300, 100),
            of("other.test.", RData::DNSSEC(DNSSECRData::DNSKEY(dnskey.clone()))),
            soa("test.", 300, 100),
            of("test.", RData::DNSSEC(DNSSECRData::DNSKEY(dnskey.clone()))),
            of("example.test.", RData::DNSSEC(DNSSECRData::DS(ds))),
        ];
        Signed { key, dnskey, records, harm: usual_harm }
    }

    /// The same, with other harm done than usual.
    pub fn harmed(harm: fn(&Name, RecordType) -> Harm) -> Signed {
        Signed { harm, ..Signed::new() }
    }

    pub fn anchor(&self) -> String {
        ["example.test.", "other.test."].map(|zone| self.anchor_of(zone)).concat()
    }

    pub fn anchor_of(&self, zone: &str) -> String {
        format!("{zone} 300 IN DNSKEY {}\n", self.dnskey)
    }

    /// The SOA record of a zone.
    pub fn soa_of(&self, zone: &str) -> Vec<Record> {
        self.signed(&self.set(&wire(zone), RecordType::SOA), &wire(zone), &wire(zone))
    }

    /// The NSEC record of a zone's apex, well signed.
    pub fn nsec(&self, zone: &str, next: &str) -> Vec<Record> {
        let nsec = NSEC::new(wire(next), [RecordType::SOA, RecordType::NS]);
        let nsec = Record::from_rdata(wire(zone), 100, RData::DNSSEC(DNSSECRData::NSEC(nsec)));
        self.signed(&[nsec], &wire(zone), &wire(zone))
    }

    /// An NSEC3 record of a zone, well signed.
    pub fn nsec3(&self, zone: &str, says: Says, hashing: Hashing) -> Vec<Record> {
        let Hashing { iterations, opts_out } = hashing;
        let (name, before) = match says {
            Says::Exists(name) => (name, 0),
            Says::Denied(name) => (name, 1),
        };
        let hash = Nsec3HashAlgorithm::SHA1.hash(&[], &wire(name), iterations).unwrap().as_ref().to_vec();
        // So narrow that it is about this name and no other; the test's names have hashes that make it easy.
        let beside = |by: i8| {
            let (last, others) = hash.split_last().unwrap();
            [others, &[last.checked_add_signed(by).unwrap()]].concat()
        };
        let nsec3 = |next| NSEC3::new(Nsec3HashAlgorithm::SHA1, opts_out, iterations, Vec::new(), next, []);
        let label = nsec3(beside(-before)).next_hashed_owner_name_base32().unwrap().to_string();
        let owner = wire(&format!("{label}.{zone}"));
        let nsec3 = Record::from_rdata(owner.clone(), 100, RData::DNSSEC(DNSSECRData::NSEC3(nsec3(beside(1)))));
        self.signed(&[nsec3], &owner, &owner)
    }

    /// What a zone of its own denies, with so many rounds of hashing: well signed, and about nothing here.
    pub fn denials_of_other(&self, iterations: u16) -> Vec<Record> {
        let denied = self.nsec3("other.test.", Says::Denied("nx.other.test."), Hashing { iterations, opts_out: false });
        [self.soa_of("other.test."), denied].concat()
    }

    /// The reply to a question.
    pub fn reply(&self, asked: &Asked) -> Message {
        let mut reply = asked.reply();
        let mut owner = asked.message.queries[0].name().to_lowercase();
        if !["example.test.", "other.test."].iter().any(|zone| wire(zone).zone_of(&owner))
            && (asked.name().as_str(), asked.kind()) != ("test.", RecordType::DNSKEY)
        {
            return asked.refuse(ResponseCode::NXDomain);
        }
        for _ in 0..4 {
            match self.answer(&owner, asked.kind(), &mut reply) {
                Some(target) => owner = target,
                None => break,
            }
        }
        reply
    }

    /// Gives the target of an alias.
    fn answer(&self, owner: &Name, kind: RecordType, reply: &mut Message) -> Option<Name> {
        for moved in ["moved.example.test.", "badly-moved.example.test."].map(wire) {
            if *owner != moved && moved.zone_of(owner) {
                reply.add_answers(self.signed(&self.set(&moved, RecordType::DNAME), &moved, &moved));
                let kept = owner.iter().take(usize::from(owner.num_labels() - moved.num_labels()));
                let target = Name::from_labels(kept.chain(wire("mx.example.test.").iter())).unwrap();
                reply.add_answer(alias(&owner.to_ascii(), &target.to_ascii(), 0));
                return Some(target);
            }
        }
        let source = self.source(owner);
        let found = self.set(&source, kind);
        if !found.is_empty() {
            reply.add_answers(self.signed(&found, owner, &source));
            if source != *owner {
                self.deny(std::slice::from_ref(owner), owner, reply);
            }
            return None;
        }
        let aliases = self.set(&source, RecordType::CNAME);
        if let Some(Record { data: RData::CNAME(target), .. }) = aliases.first() {
            reply.add_answers(self.signed(&aliases, owner, &source));
            return Some(target.0.clone());
        }
        let exists = self.records.iter().any(|record| owner.zone_of(&record.name));
        if !exists {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        let apex = if self.is_plain(owner, kind) { wire("plain.example.test.") } else { wire("example.test.") };
        let soa = self.set(&apex, RecordType::SOA);
        reply.add_authorities(self.signed(&soa, &apex, &apex));
        let closest = (0..owner.num_labels()).rev().map(|labels| owner.trim_to(labels.into()));
        let closest = closest.into_iter().find(|above| self.records.iter().any(|record| above.zone_of(&record.name)));
        let mut denied = vec![owner.clone()];
        if !exists {
            denied.push(closest.unwrap().prepend_label("*").unwrap());
        }
        self.deny(&denied, owner, reply);
        None
    }

    fn source(&self, owner: &Name) -> Name {
        let wildcards = ["wild.example.test.", "led.example.test."].map(wire);
        let above = wildcards.iter().find(|above| above.zone_of(owner) && *owner != **above);
        above.map_or_else(|| owner.clone(), |above| above.prepend_label("*").unwrap())
    }

    fn set(&self, owner: &Name, kind: RecordType) -> Vec<Record> {
        self.records.iter().filter(|record| record.name == *owner && record.record_type() == kind).cloned().collect()
    }

    /// Whether the unsigned zone answers. The delegation itself is the parent's.
    fn is_plain(&self, owner: &Name, kind: RecordType) -> bool {
        let plain = wire("plain.example.test.");
        plain.zone_of(owner) && !(*owner == plain && kind == RecordType::DS)
    }

    /// Adds the NSEC records that match or cover these names, each once.
    fn deny(&self, denied: &[Name], asked: &Name, reply: &mut Message) {
        let kind = reply.queries[0].query_type();
        if self.is_plain(asked, kind) || (self.harm)(asked, kind) == Harm::NoDenial {
            return;
        }
        let plain = wire("plain.example.test.");
        let is_ours = |name: &&Name| wire("example.test.").zone_of(name) && (**name == plain || !plain.zone_of(name));
        let mut owners: Vec<&Name> = self.records.iter().map(|record| &record.name).filter(is_ours).collect();
        owners.sort();
        owners.dedup();
        let mut given = Vec::new();
        for name in denied {
            let at = owners.partition_point(|owner| *owner <= name) - 1;
            if given.contains(&at) {
                continue;
            }
            given.push(at);
            let (owner, next) = (owners[at], owners[(at + 1) % owners.len()]);
            let mut types: Vec<RecordType> =
                self.records.iter().filter(|record| record.name == *owner).map(Record::record_type).collect();
            if *owner == plain {
                types.retain(|kind| *kind == RecordType::NS);
            }
            types.extend([RecordType::NSEC, RecordType::RRSIG]);
            let nsec = RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(next.clone(), types)));
            let nsec = vec![Record::from_rdata(owner.clone(), 100, nsec)];
            reply.add_authorities(self.signed(&nsec, owner, owner));
        }
    }

    /// A set under the name asked for, with its signature.
    fn signed(&self, set: &[Record], owner: &Name, source: &Name) -> Vec<Record> {
        let kind = set[0].record_type();
        let mut out: Vec<Record> = set.to_vec();
        out.iter_mut().for_each(|record| record.name = owner.clone());
        let harm = (self.harm)(owner, kind);
        let is_parent = kind == RecordType::NSEC;
        if (self.is_plain(source, kind) && !is_parent) || harm == Harm::NoSignature {
            return out;
        }
        let now = u32::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let expiration = if harm == Harm::Expired { now - DAY } else { now + DAY };
        let input = SigInput {
            type_covered: kind,
            algorithm: Algorithm::ECDSAP256SHA256,
            num_labels: source.num_labels(),
            original_ttl: set[0].ttl,
            sig_expiration: expiration.into(),
            sig_inception: (now - 2 * DAY).into(),
            key_tag: self.dnskey.calculate_key_tag().unwrap(),
            signer_name: match kind {
                RecordType::DS | RecordType::NSEC3 => source.base_name(),
                _ => source.trim_to(2),
            },
        };
        let tbs = TBS::from_input(owner, DNSClass::IN, &input, out.iter()).unwrap();
        let mut signature = self.key.sign(&tbs).unwrap();
        if harm == Harm::BadSignature {
            signature[5] ^= 1;
        }
        let signature = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, signature)));
        out.push(Record::from_rdata(owner.clone(), set[0].ttl, signature));
        out
    }
}

/// A DNAME record, which the library has no type for.
fn renaming(target: &str) -> RData {
    let rdata = NULL::with(wire(target).to_bytes().unwrap());
    RData::Unknown { code: RecordType::DNAME, rdata }
}

fn usual_harm(owner: &Name, kind: RecordType) -> Harm {
    if kind == RecordType::DNAME && *owner == wire("badly-moved.example.test.") {
        return Harm::BadSignature;
    }
    if kind != RecordType::A {
        return Harm::None;
    }
    match owner.to_ascii().as_str() {
        "forged.example.test." => Harm::BadSignature,
        "stripped.example.test." => Harm::NoSignature,
        "expired.example.test." => Harm::Expired,
        _ => Harm::None,
    }
}
