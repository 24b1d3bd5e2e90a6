//! What a reply says: records, an alias onward, or absence; and whether that is proved.
//!
//! Pure, over a message that was decoded. Only what hangs together with the question is looked at: records of the name
//! asked for, of the names its aliases lead to, and the SOA record of a zone that these lie in.

use crate::nsec3::Nsec3;
use dns::{ALIASES_MAX, Failure, Mx, Name, Record, RecordType, Security, Tlsa};
use hickory_proto::dnssec::Proof;
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{self, DNSClass, RData};
use hickory_proto::serialize::binary::BinDecodable;

/// Who says whether a reply is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vouch {
    /// One word for the whole reply: the AD bit of a server that is believed, or nobody's.
    Whole(Security),
    /// Each record has its own proof.
    EachRecord,
}

/// How far one reply leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub end: End,
    pub security: Security,
    /// In seconds; the least of all that was used.
    pub ttl: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Records(Vec<Record>),
    Absent {
        name_exists: bool,
    },
    /// The last alias leads to a name that the reply says nothing about.
    Onward,
}

/// The names of a lookup so far: the one asked for, then those that aliases led to. Never empty.
#[derive(Debug)]
pub(crate) struct Path(Vec<Name>);

impl Path {
    pub(crate) fn from(name: Name) -> Path {
        Path(vec![name])
    }

    /// Where we are.
    pub(crate) fn end(&self) -> &Name {
        self.0.last().expect("a path starts with a name and only grows")
    }

    fn follow(&mut self, target: Name) -> Result<(), Failure> {
        if self.0.contains(&target) {
            return Err(failed(format_args!("aliases lead from {target} back to it")));
        }
        if self.0.len() > ALIASES_MAX {
            return Err(failed(format_args!("more than {ALIASES_MAX} aliases")));
        }
        self.0.push(target);
        Ok(())
    }
}

/// Reads a reply about the end of the path, and follows aliases as far as it knows them.
pub(crate) fn read(message: &Message, kind: RecordType, vouch: Vouch, path: &mut Path) -> Result<Step, Failure> {
    let is_absent = match message.response_code {
        ResponseCode::NoError => false,
        ResponseCode::NXDomain => true,
        code => return Err(failed(format_args!("{code}"))),
    };
    let reading = Reading { message, vouch };
    let mut step = Step { end: End::Onward, security: Security::Secure, ttl: u32::MAX };
    let mut has_alias = false;
    loop {
        let owner = wire_name(path.end());
        let found = reading.records(&owner, wire_type(kind), &mut step)?;
        if !found.is_empty() {
            if is_absent {
                return Err(failed("records of a name that does not exist"));
            }
            step.end = End::Records(convert(&found)?);
            return Ok(step);
        }
        let alias = if kind == RecordType::Cname { None } else { reading.alias(&owner, &mut step)? };
        let Some(target) = alias else {
            return reading.absence(&owner, is_absent, has_alias, step);
        };
        has_alias = true;
        path.follow(target)?;
        // The validator looks at denials for the name that was asked for only, so each target is asked for by itself.
        if vouch == Vouch::EachRecord {
            return Ok(step);
        }
    }
}

/// Reads a reply whose denials, to the validator, do not prove it. Of that, two kinds are sound all the same: what is
/// signed for this very name, which needs no denial (those of an alias may be about its target, which is then asked for by
/// itself; others, anybody may have added); and what a wildcard was expanded to, when we find the denial that it needs, which
/// is looked for wherever records are. `None` for all others: never absence.
pub(crate) fn read_unproved(message: &Message, kind: RecordType, path: &mut Path) -> Option<Result<Step, Failure>> {
    let reading = Reading { message, vouch: Vouch::EachRecord };
    let owner = wire_name(path.end());
    let mut step = Step { end: End::Onward, security: Security::Secure, ttl: u32::MAX };
    let found = match reading.records(&owner, wire_type(kind), &mut step) {
        Ok(found) => found,
        Err(failure) => return Some(Err(failure)),
    };
    if !found.is_empty() {
        return Some(convert(&found).map(|records| Step { end: End::Records(records), ..step }));
    }
    match reading.alias(&owner, &mut step) {
        Ok(target) => target.map(|target| path.follow(target).map(|()| step)),
        Err(failure) => Some(Err(failure)),
    }
}

struct Reading<'m> {
    message: &'m Message,
    vouch: Vouch,
}

impl<'m> Reading<'m> {
    /// The records of one name and type; what they say about proof and time goes into the step.
    fn records(&self, owner: &rr::Name, kind: rr::RecordType, step: &mut Step) -> Result<Vec<&'m RData>, Failure> {
        let is_meant = |record: &&rr::Record| {
            record.record_type() == kind && record.dns_class == DNSClass::IN && record.name == *owner
        };
        let found: Vec<&rr::Record> = self.message.answers.iter().filter(is_meant).collect();
        for record in &found {
            self.note(record, step)?;
        }
        if self.vouch == Vouch::EachRecord && found.iter().any(|record| record.proof.is_secure()) {
            self.check_wildcard(owner, kind, step)?;
        }
        Ok(found.into_iter().map(|record| &record.data).collect())
    }

    fn alias(&self, owner: &rr::Name, step: &mut Step) -> Result<Option<Name>, Failure> {
        if self.vouch == Vouch::EachRecord
            && let Some((record, target)) = self.renamed(owner)
        {
            self.note(record, step)?;
            return Ok(Some(target));
        }
        let aliases = self.records(owner, rr::RecordType::CNAME, step)?;
        let mut targets = aliases.iter().filter_map(|data| match data {
            RData::CNAME(target) => Some(house_name(target)),
            _ => None,
        });
        match targets.next() {
            None => Ok(None),
            Some(Some(target)) => Ok(Some(target)),
            Some(None) => Err(failed(format_args!("an alias of {} to what is no name", owner.to_lowercase()))),
        }
    }

    /// What a signed DNAME record above a name makes of it. The alias that a server makes of that has no signature, so
    /// it is made again here (RFC 6672 §5.3.1).
    fn renamed(&self, owner: &rr::Name) -> Option<(&'m rr::Record, Name)> {
        let record = self.message.answers.iter().find(|record| {
            let is_above = record.name != *owner && record.name.zone_of(owner);
            is_above && record.record_type() == rr::RecordType::DNAME && record.proof.is_secure()
        })?;
        let RData::Unknown { rdata, .. } = &record.data else { return None };
        if self.expanded_from(&record.name, rr::RecordType::DNAME).is_some() {
            return None;
        }
        let target = rr::Name::from_bytes(&rdata.anything).ok()?;
        let labels_kept = owner.iter().count().checked_sub(record.name.iter().count())?;
        let renamed = rr::Name::from_labels(owner.iter().take(labels_kept).chain(target.iter())).ok()?;
        Some((record, house_name(&renamed)?))
    }

    /// No record and no alias is left at this name: what does the reply say about it?
    fn absence(&self, owner: &rr::Name, is_absent: bool, has_alias: bool, mut step: Step) -> Result<Step, Failure> {
        let soa = self.message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) if record.dns_class == DNSClass::IN && record.name.zone_of(owner) => Some((record, soa)),
            _ => None,
        });
        match soa {
            Some((record, soa)) => self.note_absence(record, soa, &mut step)?,
            // RFC 6604 §3: the response code is about the last name; without an error it may not have been looked at.
            None if has_alias && !is_absent => return Ok(step),
            None if self.vouch == Vouch::EachRecord && !self.message.authorities.is_empty() => {
                // The validator lets any reply pass whose other records lie in unsigned zones. Those must not stand in
                // for the zone of this name (V43).
                return Err(bogus(format_args!("nothing proves what is absent at {owner}")));
            }
            None => {
                let has_servers =
                    self.message.authorities.iter().any(|record| record.record_type() == rr::RecordType::NS);
                if has_servers && !is_absent && !self.message.authoritative {
                    return Err(failed("a referral in place of an answer"));
                }
                if self.vouch == Vouch::EachRecord {
                    step.security = Security::Insecure;
                }
                // RFC 2308 §5: without an SOA record, absence is not to be remembered.
                step.ttl = 0;
            }
        }
        let has_opt_out = || soa.is_some_and(|(record, _)| self.has_opt_out(&record.name));
        match self.vouch {
            Vouch::Whole(security) => step.security = security,
            Vouch::EachRecord if is_absent && has_opt_out() => step.security = Security::Insecure,
            Vouch::EachRecord => {}
        }
        step.end = End::Absent { name_exists: !is_absent };
        Ok(step)
    }

    fn note_absence(&self, record: &rr::Record, soa: &SOA, step: &mut Step) -> Result<(), Failure> {
        self.note(record, step)?;
        step.ttl = step.ttl.min(sound_ttl(soa.minimum));
        // The validator has checked that the secure ones among them prove it; but that there are any of this zone is for us
        // to see.
        if self.vouch == Vouch::EachRecord && record.proof.is_secure() && self.denials(&record.name).next().is_none() {
            return Err(bogus(format_args!("no signed denial from {}", record.name.to_lowercase())));
        }
        Ok(())
    }

    fn note(&self, record: &rr::Record, step: &mut Step) -> Result<(), Failure> {
        step.ttl = step.ttl.min(sound_ttl(record.ttl));
        let security = match (self.vouch, record.proof) {
            (Vouch::Whole(security), _) => security,
            (Vouch::EachRecord, Proof::Secure) => Security::Secure,
            (Vouch::EachRecord, Proof::Insecure) => Security::Insecure,
            // RFC 7672 §2.1.1: what could not be determined is a failure like what is bogus.
            (Vouch::EachRecord, Proof::Bogus | Proof::Indeterminate) => {
                return Err(bogus(format_args!("{} {}", record.name.to_lowercase(), record.record_type())));
            }
        };
        if security == Security::Insecure {
            step.security = Security::Insecure;
        }
        Ok(())
    }

    /// A signed wildcard speaks for a name only when nothing closer to that name exists (RFC 4035 §5.3.4): the name one
    /// label below what the signature covers has to be denied. The validator checks this for NSEC3; for NSEC it finds
    /// good ones bogus, and asks for nothing at all when the other records of the reply lie in unsigned zones.
    fn check_wildcard(&self, owner: &rr::Name, kind: rr::RecordType, step: &mut Step) -> Result<(), Failure> {
        let Some(labels) = self.expanded_from(owner, kind) else {
            return Ok(());
        };
        let next_closer = next_closer(owner, labels);
        // Who has signed it says which zone it is of. The records are secure, so one of the signatures is. The validator
        // takes a denial of any zone above.
        let hashed = self.signer(owner, kind).into_iter().flat_map(|zone| self.nsec3(zone));
        let hashed: Vec<Nsec3> = hashed.filter(|nsec3| nsec3.takes_too_long() || nsec3.covers(&next_closer)).collect();
        if !self.denies(&next_closer) && hashed.is_empty() {
            return Err(bogus(format_args!("a wildcard for {}, which nothing denies", owner.to_lowercase())));
        }
        if hashed.iter().any(|nsec3| nsec3.takes_too_long() || nsec3.opts_out()) {
            step.security = Security::Insecure;
        }
        Ok(())
    }

    /// RFC 5155 §9.2: where unsigned delegations are left out of what is denied, nothing proves that a name is none. Only
    /// what is signed says so, and only of its own zone: anybody can add a record that does (V43).
    fn has_opt_out(&self, zone: &rr::Name) -> bool {
        self.nsec3(zone).any(|nsec3| nsec3.opts_out())
    }

    /// For an expanded wildcard, the labels of the name that its `*` stands below: the fewest that a signature claims.
    fn expanded_from(&self, owner: &rr::Name, kind: rr::RecordType) -> Option<u8> {
        let labels = self.message.answers.iter().filter_map(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::RRSIG(signature)) if record.name == *owner => {
                let input = signature.input();
                (input.type_covered == kind).then_some(input.num_labels)
            }
            _ => None,
        });
        labels.min().filter(|labels| *labels < owner.num_labels())
    }

    /// The zone whose signature vouches for the records of one name and type.
    fn signer(&self, owner: &rr::Name, kind: rr::RecordType) -> Option<&'m rr::Name> {
        let is_secure = |record: &&rr::Record| record.name == *owner && record.proof.is_secure();
        self.message.answers.iter().filter(is_secure).find_map(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::RRSIG(signature)) if signature.input().type_covered == kind => {
                Some(&signature.input().signer_name)
            }
            _ => None,
        })
    }

    /// Whether a signed NSEC record proves that there is nothing at or below a name.
    fn denies(&self, name: &rr::Name) -> bool {
        self.message.authorities.iter().filter(|record| record.proof.is_secure()).any(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::NSEC(nsec)) => {
                let (owner, next) = (&record.name, nsec.next_domain_name());
                // The last record of a zone names its apex as next.
                let is_between = name > owner && (name < next || (next <= owner && next.zone_of(name)));
                // RFC 6840 §4.1: the parent's record at a zone cut says nothing about what is below.
                let is_cut = nsec.is_ancestor_delegation() && owner.zone_of(name);
                is_between && !is_cut && !name.zone_of(next)
            }
            _ => false,
        })
    }

    /// The signed denials of a zone.
    fn denials(&self, zone: &rr::Name) -> impl Iterator<Item = &'m rr::Record> {
        let secure = self.message.authorities.iter().filter(|record| record.proof.is_secure());
        secure.filter(move |record| match record.record_type() {
            rr::RecordType::NSEC => zone.zone_of(&record.name),
            rr::RecordType::NSEC3 => record.name.base_name() == *zone,
            _ => false,
        })
    }

    fn nsec3(&self, zone: &rr::Name) -> impl Iterator<Item = Nsec3<'m>> {
        self.denials(zone).filter_map(Nsec3::of)
    }
}

/// The name one label longer than its ancestor of so many labels.
fn next_closer(name: &rr::Name, labels: u8) -> rr::Name {
    name.trim_to(usize::from(labels) + 1)
}

/// RFC 2181 §8: a TTL with the highest bit set is zero.
fn sound_ttl(ttl: u32) -> u32 {
    if i32::try_from(ttl).is_ok() { ttl } else { 0 }
}

/// What of a set can be read. A record that cannot, such as a name with octets that no name in mail has, is left out;
/// but nothing is said to be absent because of it.
fn convert(set: &[&RData]) -> Result<Vec<Record>, Failure> {
    let records: Vec<Record> = set.iter().filter_map(|data| house_record(data)).collect();
    if records.is_empty() { Err(failed("records that cannot be read")) } else { Ok(records) }
}

fn house_record(data: &RData) -> Option<Record> {
    Some(match data {
        RData::A(address) => Record::A(address.0),
        RData::AAAA(address) => Record::Aaaa(address.0),
        RData::CNAME(target) => Record::Cname(house_name(target)?),
        RData::MX(mx) => Record::Mx(Mx { preference: mx.preference, exchange: house_name(&mx.exchange)? }),
        RData::NS(host) => Record::Ns(house_name(host)?),
        RData::PTR(name) => Record::Ptr(house_name(name)?),
        RData::SOA(soa) => Record::Soa(house_name(&soa.mname)?, soa.serial),
        RData::SRV(srv) => {
            Record::Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target: house_name(&srv.target)? }
        }
        RData::TXT(text) => Record::Txt(text.txt_data.concat()),
        RData::TLSA(tlsa) => Record::Tlsa(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        _ => return None,
    })
}

/// Labels are taken one by one: a dot inside a label must not become a border between two.
fn house_name(name: &rr::Name) -> Option<Name> {
    let labels: Vec<&str> = name.iter().map(|label| std::str::from_utf8(label).ok()).collect::<Option<_>>()?;
    if labels.iter().any(|label| label.contains('.')) {
        return None;
    }
    Name::parse(&labels.join(".")).ok()
}

pub(crate) fn wire_name(name: &Name) -> rr::Name {
    let labels = name.as_str().split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
    let mut wire =
        rr::Name::from_labels(labels).expect("a name of the house has labels and a length that fit the wire");
    wire.set_fqdn(true);
    wire
}

pub(crate) fn wire_type(kind: RecordType) -> rr::RecordType {
    match kind {
        RecordType::A => rr::RecordType::A,
        RecordType::Aaaa => rr::RecordType::AAAA,
        RecordType::Cname => rr::RecordType::CNAME,
        RecordType::Mx => rr::RecordType::MX,
        RecordType::Ns => rr::RecordType::NS,
        RecordType::Ptr => rr::RecordType::PTR,
        RecordType::Soa => rr::RecordType::SOA,
        RecordType::Srv => rr::RecordType::SRV,
        RecordType::Txt => rr::RecordType::TXT,
        RecordType::Tlsa => rr::RecordType::TLSA,
    }
}

pub(crate) fn failed(cause: impl ToString) -> Failure {
    Failure::Failed(cause.to_string().into())
}

pub(crate) fn bogus(cause: impl ToString) -> Failure {
    Failure::Bogus(cause.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::dnssec::rdata::{NSEC, NSEC3, RRSIG, SigInput};
    use hickory_proto::dnssec::{Algorithm, Nsec3HashAlgorithm};
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::rdata::{CNAME, MX, TXT};

    fn wire(text: &str) -> rr::Name {
        rr::Name::from_ascii(text).unwrap()
    }

    #[test]
    fn every_name_of_the_house_fits_the_wire() {
        let long = Name::parse(&"abcdefg.".repeat(31)).unwrap().under("abcde").unwrap();
        assert_eq!(long.as_str().len(), 253, "RFC 1035 §2.3.4");
        let wide = Name::parse(&"a.".repeat(127)).unwrap();
        for name in [Name::root(), Name::parse("_25._tcp.x-y/z.*").unwrap(), long, wide] {
            let mut message = Message::new(1, MessageType::Query, OpCode::Query);
            message.add_query(hickory_proto::op::Query::query(wire_name(&name), rr::RecordType::A));
            let message = Message::from_vec(&message.to_vec().unwrap()).unwrap();
            assert_eq!(house_name(message.queries[0].name()), Some(name));
        }
    }

    /// The names that an NSEC record at `owner` with this `next` denies, of some.
    fn denied<'n>(owner: &str, next: &str, types: &[rr::RecordType], proof: Proof, names: &[&'n str]) -> Vec<&'n str> {
        let nsec = RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(wire(next), types.iter().copied())));
        let mut record = rr::Record::from_rdata(wire(owner), 300, nsec);
        record.proof = proof;
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.add_authority(record);
        let reading = Reading { message: &message, vouch: Vouch::EachRecord };
        names.iter().copied().filter(|name| reading.denies(&wire(name))).collect()
    }

    #[test]
    fn v43_what_a_denial_denies() {
        let host = [rr::RecordType::A];
        let names = ["b.example.", "c.example.", "x.c.example.", "d.example.", "x.d.example.", "e.example.", "other."];
        let denied = |owner, next, types: &[_], proof| denied(owner, next, types, proof, &names);
        let between = denied("c.example.", "e.example.", &host, Proof::Secure);
        assert_eq!(between, ["x.c.example.", "d.example.", "x.d.example."], "what is between, but not the ends");
        let above = denied("c.example.", "x.d.example.", &host, Proof::Secure);
        assert_eq!(above, ["x.c.example."], "d.example. exists, since something is below it");
        let last = denied("c.example.", "example.", &host, Proof::Secure);
        assert_eq!(
            last,
            ["x.c.example.", "d.example.", "x.d.example.", "e.example."],
            "the last one, in its zone only"
        );
        let cut = denied("c.example.", "e.example.", &[rr::RecordType::NS], Proof::Secure);
        assert_eq!(cut, ["d.example.", "x.d.example."], "RFC 6840 §4.1");
        for proof in [Proof::Insecure, Proof::Bogus, Proof::Indeterminate] {
            assert_eq!(denied("c.example.", "e.example.", &host, proof), [""; 0]);
        }
        assert_eq!(next_closer(&wire("a.b.c.example."), 2), wire("b.c.example."));
    }

    /// A record that is not signed, or is of another zone, must not make an absence insecure.
    #[test]
    fn v43_opt_out_is_for_a_zones_own_signature_to_say() {
        // Of hashes, it covers all.
        let opt_out = |zone: &str, proof| {
            let nsec3 = NSEC3::new(Nsec3HashAlgorithm::SHA1, true, 0, Vec::new(), vec![0xff; 20], []);
            let owner = wire(&format!("{}.{zone}", "0".repeat(32)));
            let mut record = rr::Record::from_rdata(owner, 300, RData::DNSSEC(DNSSECRData::NSEC3(nsec3)));
            record.proof = proof;
            record
        };
        let signed = |signer: &str, kind, proof| {
            let input = SigInput {
                type_covered: kind,
                algorithm: Algorithm::ECDSAP256SHA256,
                num_labels: 2,
                original_ttl: 300,
                sig_expiration: 2.into(),
                sig_inception: 1.into(),
                key_tag: 1,
                signer_name: wire(signer),
            };
            let rrsig = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, vec![1])));
            let mut record = rr::Record::from_rdata(wire("a.w.example."), 300, rrsig);
            record.proof = proof;
            record
        };
        // What an address, or the lack of one, is worth with this beside what proves it.
        let security = |is_absent: bool, beside: rr::Record| {
            let mut message = Message::new(1, MessageType::Response, OpCode::Query);
            let nsec = NSEC::new(wire("x.example."), [rr::RecordType::A]);
            let nsec = RData::DNSSEC(DNSSECRData::NSEC(nsec));
            let mut proofs = vec![rr::Record::from_rdata(wire("example."), 300, nsec.clone())];
            if is_absent {
                message.metadata.response_code = ResponseCode::NXDomain;
                let soa = SOA::new(wire("ns.example."), wire("admin.example."), 1, 2, 3, 4, 5);
                proofs.push(rr::Record::from_rdata(wire("example."), 300, RData::SOA(soa)));
            } else {
                let address = RData::A(std::net::Ipv4Addr::LOCALHOST.into());
                let mut address = rr::Record::from_rdata(wire("a.w.example."), 300, address);
                address.proof = Proof::Secure;
                message.add_answer(address);
                message.add_answer(signed("example.", rr::RecordType::A, Proof::Secure));
                message.add_answer(signed("other.", rr::RecordType::A, Proof::Bogus));
                proofs.push(rr::Record::from_rdata(wire("w.example."), 300, nsec));
            }
            for mut record in proofs {
                record.proof = Proof::Secure;
                message.add_authority(record);
            }
            message.add_authority(beside);
            let mut path = Path::from(Name::parse("a.w.example").unwrap());
            read(&message, RecordType::A, Vouch::EachRecord, &mut path).unwrap().security
        };
        for is_absent in [true, false] {
            assert_eq!(security(is_absent, opt_out("example.", Proof::Secure)), Security::Insecure, "{is_absent}");
            for proof in [Proof::Insecure, Proof::Bogus, Proof::Indeterminate] {
                assert_eq!(security(is_absent, opt_out("example.", proof)), Security::Secure, "{is_absent} {proof}");
            }
            for other in ["other.", "w.example.", ""] {
                let beside = opt_out(other, Proof::Secure);
                assert_eq!(security(is_absent, beside), Security::Secure, "{is_absent} {other}");
            }
        }
    }

    #[test]
    fn times_beyond_31_bits_are_zero() {
        assert_eq!(sound_ttl(i32::MAX as u32), i32::MAX as u32);
        assert_eq!(sound_ttl(1 << 31), 0);
    }

    fn full_reply() -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.recursion_available = true;
        message.add_query(hickory_proto::op::Query::query(wire("a.example."), rr::RecordType::MX));
        message.add_answer(rr::Record::from_rdata(wire("a.example."), 300, RData::CNAME(CNAME(wire("b.example.")))));
        let mx = |preference, host| RData::MX(MX::new(preference, wire(host)));
        message.add_answer(rr::Record::from_rdata(wire("b.example."), 300, mx(1, "c.b.example.")));
        message.add_answer(rr::Record::from_rdata(wire("b.example."), 300, mx(2, "d.b.example.")));
        let text = TXT::new(vec!["v=spf1".to_owned(), "x".repeat(200)]);
        message.add_answer(rr::Record::from_rdata(wire("b.example."), 300, RData::TXT(text)));
        let soa = SOA::new(wire("ns.example."), wire("admin.example."), 1, 2, 3, 4, 5);
        message.add_authority(rr::Record::from_rdata(wire("example."), 300, RData::SOA(soa)));
        let nsec = NSEC::new(wire("c.example."), [rr::RecordType::A, rr::RecordType::NSEC]);
        message.add_authority(rr::Record::from_rdata(wire("b.example."), 300, RData::DNSSEC(DNSSECRData::NSEC(nsec))));
        message.set_edns(hickory_proto::op::Edns::new());
        message
    }

    #[test]
    fn v46_no_octets_make_it_panic() {
        let good = full_reply().to_vec().unwrap();
        let mut seed = 7_u64;
        let mut roll = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below
        };
        let mut read_well = 0;
        for _ in 0..20_000 {
            let mut octets = good.clone();
            for _ in 0..=roll(5) {
                let at = roll(octets.len());
                octets[at] = u8::try_from(roll(256)).unwrap();
            }
            if roll(5) == 0 {
                octets.truncate(roll(octets.len()));
            }
            let Ok(message) = Message::from_vec(&octets) else { continue };
            for vouch in [Vouch::Whole(Security::Secure), Vouch::EachRecord] {
                let mut path = Path::from(Name::parse("a.example").unwrap());
                read_well += usize::from(read(&message, RecordType::Mx, vouch, &mut path).is_ok());
                _ = read_unproved(&message, RecordType::Mx, &mut path);
            }
        }
        assert!(read_well > 1_000, "{read_well}");
    }
}
