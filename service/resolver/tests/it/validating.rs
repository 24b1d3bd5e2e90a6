//! Validation of our own.

use crate::server::*;
use crate::signed::{Harm, Hashing, Says, Signed};
use dns::{Failure, Found, Lookup, Record, RecordType, Security};
use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC, RRSIG, SigInput};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr;
use resolver::{Mode, Resolver, Settings, SettingsError};

async fn start(signed: Signed) -> (Server, Resolver) {
    let settings = Settings { mode: Mode::Validating, trust_anchors: Some(signed.anchor()), ..settings() };
    let server = Server::start(move |asked: &Asked| signed.reply(asked)).await;
    let resolver = server.resolver_with(settings);
    (server, resolver)
}

async fn find(resolver: &Resolver, text: &str, kind: RecordType) -> Result<Found, Failure> {
    resolver.look_up(&name(text), kind).await
}

/// Security, whether the name exists, and how many records.
fn shape(outcome: Result<Found, Failure>) -> (Security, bool, usize) {
    let found = outcome.unwrap();
    (found.security, found.name_exists, found.records.len())
}

#[tokio::test]
async fn what_is_signed_is_secure() {
    let (_server, resolver) = start(Signed::new()).await;
    let found = find(&resolver, "example.test", RecordType::Mx).await.unwrap();
    assert_eq!(found.records, [Record::Mx(dns::Mx { preference: 10, exchange: name("mx.example.test") })]);
    assert_eq!(found.security, Security::Secure);
    let found = find(&resolver, "_25._tcp.mx.example.test", RecordType::Tlsa).await.unwrap();
    assert_eq!(found.records, [Record::Tlsa(dns::Tlsa { usage: 3, selector: 1, matching: 1, data: vec![7; 32] })]);
    assert_eq!(found.security, Security::Secure);
}

#[tokio::test]
async fn absence_is_proved() {
    let (_server, resolver) = start(Signed::new()).await;
    let shape_of = async |text: &str, kind| shape(find(&resolver, text, kind).await);
    assert_eq!(shape_of("mx.example.test", RecordType::Aaaa).await, (Security::Secure, true, 0));
    assert_eq!(
        shape_of("_tcp.mx.example.test", RecordType::Tlsa).await,
        (Security::Secure, true, 0),
        "only above others"
    );
    assert_eq!(shape_of("_465._tcp.mx.example.test", RecordType::Tlsa).await, (Security::Secure, false, 0));
    assert_eq!(shape_of("nx.example.test", RecordType::A).await, (Security::Secure, false, 0));
}

#[tokio::test]
async fn what_is_not_signed_is_insecure() {
    let (_server, resolver) = start(Signed::new()).await;
    let shape_of = async |text: &str, kind| shape(find(&resolver, text, kind).await);
    assert_eq!(shape_of("host.plain.example.test", RecordType::A).await, (Security::Insecure, true, 1));
    assert_eq!(shape_of("host.plain.example.test", RecordType::Aaaa).await, (Security::Insecure, true, 0));
    assert_eq!(shape_of("nx.plain.example.test", RecordType::A).await, (Security::Insecure, false, 0));
}

#[tokio::test]
async fn v43_forged_is_bogus() {
    let (_server, resolver) = start(Signed::new()).await;
    for text in ["forged.example.test", "stripped.example.test", "expired.example.test"] {
        let outcome = find(&resolver, text, RecordType::A).await;
        assert!(matches!(outcome, Err(Failure::Bogus(_))), "{text}: {outcome:?}");
    }
    assert_eq!(find(&resolver, "mx.example.test", RecordType::A).await.unwrap().security, Security::Secure);
}

#[tokio::test]
async fn aliases_are_proved_step_by_step() {
    let (_server, resolver) = start(Signed::new()).await;
    let found = find(&resolver, "alias.example.test", RecordType::A).await.unwrap();
    assert_eq!((found.security, found.canonical), (Security::Secure, name("mx.example.test")));
    let found = find(&resolver, "alias.example.test", RecordType::Aaaa).await.unwrap();
    assert_eq!((found.security, found.name_exists, found.records.len()), (Security::Secure, true, 0));
    let found = find(&resolver, "lost.example.test", RecordType::A).await.unwrap();
    assert_eq!(
        (found.security, found.name_exists, found.canonical),
        (Security::Secure, false, name("nowhere.example.test"))
    );
    let found = find(&resolver, "out.example.test", RecordType::A).await.unwrap();
    assert_eq!((found.security, found.records.len()), (Security::Insecure, 1), "secure alias, insecure target");
    let found = find(&resolver, "out.example.test", RecordType::Cname).await.unwrap();
    assert_eq!((found.security, found.records.len()), (Security::Secure, 1), "RFC 7672 §2.2.2 needs to know");
}

#[tokio::test]
async fn renamed_trees_are_followed() {
    let (_server, resolver) = start(Signed::new()).await;
    let found = find(&resolver, "_25._tcp.moved.example.test", RecordType::Tlsa).await.unwrap();
    assert_eq!((found.security, found.records.len()), (Security::Secure, 1));
    assert_eq!(found.canonical, name("_25._tcp.mx.example.test"));
    let found = find(&resolver, "_26._tcp.moved.example.test", RecordType::Tlsa).await.unwrap();
    assert_eq!((found.security, found.name_exists), (Security::Secure, false));
    let outcome = find(&resolver, "_25._tcp.badly-moved.example.test", RecordType::Tlsa).await;
    assert!(matches!(outcome, Err(Failure::Bogus(_))), "{outcome:?}");
}

#[tokio::test]
async fn wildcards_need_their_denial() {
    let (_server, resolver) = start(Signed::new()).await;
    assert_eq!(shape(find(&resolver, "a.wild.example.test", RecordType::A).await), (Security::Secure, true, 1));
    let (_server, resolver) = start(Signed::harmed(|_, _| Harm::NoDenial)).await;
    let outcome = find(&resolver, "a.wild.example.test", RecordType::A).await;
    assert!(matches!(outcome, Err(Failure::Bogus(_))), "{outcome:?}");
}

#[tokio::test]
async fn v43_absence_without_denial_is_bogus() {
    let (_server, resolver) = start(Signed::harmed(|_, _| Harm::NoDenial)).await;
    for text in ["mx.example.test", "nx.example.test"] {
        let outcome = find(&resolver, text, RecordType::Tlsa).await;
        assert!(matches!(outcome, Err(Failure::Bogus(_))), "{text}: {outcome:?}");
    }
}

#[tokio::test]
async fn v43_an_unsigned_zone_does_not_speak_for_a_signed_one() {
    let signed = Signed::new();
    let settings = Settings { mode: Mode::Validating, trust_anchors: Some(signed.anchor()), ..settings() };
    let server = Server::start(move |asked: &Asked| {
        let is_target = asked.name().starts_with("_25.") || asked.name().starts_with("a.wild.");
        let mut reply = signed.reply(asked);
        match (is_target, asked.kind()) {
            // "No such records", on the word of a zone that is not signed.
            (true, rr::RecordType::TLSA) => {
                reply.answers.clear();
                reply.authorities = vec![soa("plain.example.test.", 300, 100)];
            }
            // A signed wildcard for a name that may exist, with the denial replaced.
            (true, rr::RecordType::A) => reply.authorities = vec![soa("plain.example.test.", 300, 100)],
            _ => {}
        }
        reply
    })
    .await;
    let resolver = server.resolver_with(settings);
    for (text, kind) in [("_25._tcp.mx.example.test", RecordType::Tlsa), ("a.wild.example.test", RecordType::A)] {
        let outcome = find(&resolver, text, kind).await;
        assert!(matches!(outcome, Err(Failure::Bogus(_))), "{text}: {outcome:?}");
    }
}

/// Too many rounds of hashing make a denial insecure (RFC 9276 §3.2): that of its own zone only.
#[tokio::test]
async fn v43_another_signed_zone_does_not_speak_for_this_one() {
    for iterations in [1, 150, 600] {
        let signed = Signed::new();
        let settings = Settings { mode: Mode::Validating, trust_anchors: Some(signed.anchor()), ..settings() };
        let server = Server::start(move |asked: &Asked| {
            let mut reply = signed.reply(asked);
            let own = std::mem::take(&mut reply.authorities);
            if !matches!(asked.kind(), rr::RecordType::TLSA | rr::RecordType::A | rr::RecordType::AAAA) {
                reply.authorities = own;
                return reply;
            }
            reply.authorities = signed.denials_of_other(iterations);
            if asked.name().starts_with("_25.") {
                // "No such records", with an SOA record of the right zone and denials of another.
                reply.answers.clear();
                reply.authorities.extend(own);
                let mut nodata = asked.clone();
                nodata.message.queries[0].set_name(wire("example.test."));
                let soa = signed.reply(&nodata).authorities.into_iter();
                reply.authorities.extend(soa.filter(|record| record.name == wire("example.test.")).take(2));
            }
            reply
        })
        .await;
        let resolver = server.resolver_with(settings);
        let found = find(&resolver, "mx.example.test", RecordType::A).await;
        assert_eq!(shape(found), (Security::Secure, true, 1), "{iterations}");
        for (text, kind) in [("_25._tcp.mx.example.test", RecordType::Tlsa), ("a.wild.example.test", RecordType::A)] {
            let outcome = find(&resolver, text, kind).await;
            assert!(matches!(outcome, Err(Failure::Bogus(_))), "{iterations} {text}: {outcome:?}");
        }
    }
}

/// RFC 9276 §3.2, RFC 5155 §9.2: what a zone's own NSEC3 records are worth for what they deny.
#[tokio::test]
async fn what_is_denied_by_a_hash() {
    for (iterations, opts_out, expected) in [
        (1, false, Some(Security::Secure)),
        (100, false, Some(Security::Secure)),
        (1, true, Some(Security::Insecure)),
        (150, false, Some(Security::Insecure)),
        (600, false, None),
    ] {
        let signed = Signed::new();
        let settings = Settings { mode: Mode::Validating, trust_anchors: Some(signed.anchor()), ..settings() };
        let server = Server::start(move |asked: &Asked| {
            let mut reply = signed.reply(asked);
            let nsec3 = |says| signed.nsec3("example.test.", says, Hashing { iterations, opts_out });
            match asked.name().as_str() {
                "nx.example.test." => {
                    let (encloser, wildcard) = (Says::Exists("example.test."), Says::Denied("*.example.test."));
                    let denied = [encloser, Says::Denied("nx.example.test."), wildcard].map(nsec3).concat();
                    reply.authorities = [signed.soa_of("example.test."), denied].concat();
                }
                "a.wild.example.test." => reply.authorities = nsec3(Says::Denied("a.wild.example.test.")),
                _ => {}
            }
            reply
        })
        .await;
        let resolver = server.resolver_with(settings);
        // To the validator so many rounds are bogus; what a wildcard needs, we look at ourselves.
        let wild = expected.or(Some(Security::Insecure));
        for (text, records, expected) in [("nx.example.test", 0, expected), ("a.wild.example.test", 1, wild)] {
            match (find(&resolver, text, RecordType::A).await, expected) {
                (Ok(found), Some(security)) => {
                    assert_eq!((found.security, found.records.len()), (security, records), "{iterations} {text}");
                }
                (Err(Failure::Bogus(_)), None) => {}
                (outcome, _) => panic!("{iterations} {opts_out} {text}: {outcome:?}"),
            }
        }
    }
}

/// What else a zone above denies, such as the target of an alias, does not spoil a wildcard of a zone that denies by hashes.
#[tokio::test]
async fn wildcards_bear_denials_of_both_kinds() {
    for is_denied in [true, false] {
        let signed = Signed::new();
        let anchors = signed.anchor() + &signed.anchor_of("test.");
        let settings = Settings { mode: Mode::Validating, trust_anchors: Some(anchors), ..settings() };
        let server = Server::start(move |asked: &Asked| {
            let mut reply = signed.reply(asked);
            let denied = match asked.name().as_str() {
                "a.wild.example.test." => "a.wild.example.test.",
                "a.led.example.test." => "a.led.example.test.",
                _ => return reply,
            };
            let says = if is_denied { Says::Denied(denied) } else { Says::Denied("b.example.test.") };
            let hashed = signed.nsec3("example.test.", says, Hashing { iterations: 0, opts_out: false });
            reply.authorities = [hashed, signed.nsec("test.", "a.test.")].concat();
            reply
        })
        .await;
        let resolver = server.resolver_with(settings);
        for text in ["a.wild.example.test", "a.led.example.test"] {
            let outcome = find(&resolver, text, RecordType::A).await;
            match is_denied {
                true => assert_eq!(shape(outcome), (Security::Secure, true, 1), "{text}"),
                false => assert!(matches!(outcome, Err(Failure::Bogus(_))), "{text}: {outcome:?}"),
            }
        }
    }
}

/// RFC 4035 §5.3.4: another zone says nothing of the names that a wildcard is not for, even if it is above.
#[tokio::test]
async fn v43_a_wildcard_needs_the_denial_of_its_own_zone() {
    for zone in ["test.", "example.test."] {
        let signed = Signed::new();
        let anchors = signed.anchor() + &signed.anchor_of("test.");
        let settings = Settings { mode: Mode::Validating, trust_anchors: Some(anchors), ..settings() };
        let server = Server::start(move |asked: &Asked| {
            let mut reply = signed.reply(asked);
            if asked.name() == "a.wild.example.test." {
                let hashing = Hashing { iterations: 0, opts_out: false };
                let denied = signed.nsec3(zone, Says::Denied("a.wild.example.test."), hashing);
                let other = signed.nsec3("example.test.", Says::Exists("example.test."), hashing);
                reply.authorities = [denied, other].concat();
            }
            reply
        })
        .await;
        let outcome = find(&server.resolver_with(settings), "a.wild.example.test", RecordType::A).await;
        match zone {
            "test." => assert!(matches!(outcome, Err(Failure::Bogus(_))), "{outcome:?}"),
            _ => assert_eq!(shape(outcome), (Security::Secure, true, 1)),
        }
    }
}

/// RFC 5155 §8.6: a zone that opts out leaves unsigned delegations of its own unproved, not those of signed zones below.
#[tokio::test]
async fn v43_opt_out_of_a_zone_above_opens_no_signed_one() {
    for is_denied in [false, true] {
        let signed = Signed::new();
        let anchors = signed.anchor() + &signed.anchor_of("test.");
        let settings = Settings { mode: Mode::Validating, trust_anchors: Some(anchors), ..settings() };
        // Addresses without signatures, at names that pass for unsigned delegations.
        let server = Server::start(move |asked: &Asked| {
            let denial = |says| {
                let mut reply = asked.reply();
                let nsec3 = signed.nsec3("test.", says, Hashing { iterations: 0, opts_out: true });
                reply.add_authorities(signed.soa_of("test.").into_iter().chain(nsec3));
                reply
            };
            let name = asked.name();
            match (name.as_str(), asked.kind()) {
                (_, rr::RecordType::A) => asked.address(9),
                (_, rr::RecordType::NS) => {
                    let mut reply = asked.reply();
                    let server = rr::RData::NS(rr::rdata::NS(wire("ns.evil.test.")));
                    reply.add_answer(rr::Record::from_rdata(wire(&name), 300, server));
                    reply
                }
                ("mx.example.test.", rr::RecordType::DS) => denial(Says::Denied("mx.example.test.")),
                ("a.mx.example.test.", rr::RecordType::DS) => denial(Says::Denied("a.mx.example.test.")),
                ("open.test.", rr::RecordType::DS) => denial(Says::Denied("open.test.")),
                ("open.co.test.", rr::RecordType::DS) => denial(Says::Denied("open.co.test.")),
                ("co.test.", rr::RecordType::DS) => denial(Says::Exists("co.test.")),
                // The signed zone itself passes for an unsigned one, on the word of a zone that is not signed.
                ("example.test.", rr::RecordType::DS) if is_denied => {
                    let mut reply = asked.reply();
                    let nsec = NSEC::new(wire("z.plain.example.test."), [rr::RecordType::NS]);
                    let nsec = rr::RData::DNSSEC(DNSSECRData::NSEC(nsec));
                    reply.add_authority(rr::Record::from_rdata(wire("plain.example.test."), 300, nsec));
                    reply
                }
                _ => signed.reply(asked),
            }
        })
        .await;
        let resolver = server.resolver_with(settings);
        for text in ["open.test", "open.co.test"] {
            assert_eq!(
                shape(find(&resolver, text, RecordType::A).await),
                (Security::Insecure, true, 1),
                "{is_denied} {text}"
            );
        }
        for text in ["mx.example.test", "a.mx.example.test"] {
            let outcome = find(&resolver, text, RecordType::A).await;
            assert!(matches!(outcome, Err(Failure::Bogus(_))), "{is_denied} {text}: {outcome:?}");
        }
    }
}

/// Proofs that the names in between are unsigned do not pile up: what is remembered needs few at once.
#[tokio::test]
async fn v46_proofs_inside_proofs_are_few() {
    const NAMES: [&str; 5] = ["e.d.c.b.a.test.", "d.c.b.a.test.", "c.b.a.test.", "b.a.test.", "a.test."];
    for (ttl, is_proved) in [(100, true), (0, false)] {
        let signed = Signed::new();
        let settings =
            Settings { mode: Mode::Validating, trust_anchors: Some(signed.anchor_of("test.")), ..settings() };
        let server = Server::start(move |asked: &Asked| {
            let (mut reply, name) = (asked.reply(), asked.name());
            match (NAMES.iter().find(|denied| **denied == name), asked.kind()) {
                (_, rr::RecordType::A) => return asked.address(9),
                (Some(name), rr::RecordType::NS) => {
                    let server = rr::RData::NS(rr::rdata::NS(wire("ns.evil.test.")));
                    reply.add_answer(rr::Record::from_rdata(wire(name), 300, server));
                }
                (Some(name), rr::RecordType::DS) => {
                    let hashing = Hashing { iterations: 0, opts_out: true };
                    let mut denial = signed.nsec3("test.", Says::Denied(name), hashing);
                    denial.iter_mut().for_each(|record| record.ttl = ttl);
                    reply.add_authorities(denial);
                }
                _ => return signed.reply(asked),
            }
            reply
        })
        .await;
        match find(&server.resolver_with(settings), NAMES[0], RecordType::A).await {
            Ok(found) if is_proved => assert_eq!(found.security, Security::Insecure),
            Err(Failure::Bogus(_)) if !is_proved => {}
            outcome => panic!("{ttl} {outcome:?}"),
        }
    }
}

/// An NSEC record denies what lies between its name and the next one: of its own zone only, whatever the next one is.
#[tokio::test]
async fn v43_a_zone_denies_nothing_of_its_neighbours() {
    for is_neighbour in [false, true] {
        let signed = Signed::new();
        let anchors = signed.anchor() + &signed.anchor_of("test.");
        let settings = Settings { mode: Mode::Validating, trust_anchors: Some(anchors), ..settings() };
        let server = Server::start(move |asked: &Asked| {
            if asked.kind() != rr::RecordType::TLSA {
                return signed.reply(asked);
            }
            // The name exists, says its neighbour, since it lies on the way to the next one; and the zone above both has signed
            // the SOA record.
            let mut reply = asked.reply();
            let (owner, zone) = if is_neighbour { ("example.test.", "test.") } else { ("other.test.", "other.test.") };
            let denial = signed.nsec(owner, "below._25._tcp.mx.other.test.");
            let mut forged = denial[1].clone();
            if let rr::RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &mut forged.data {
                let input = SigInput { signer_name: wire("test."), ..signature.input().clone() };
                *signature = RRSIG::from_sig(input, signature.sig().to_vec());
            }
            reply.add_authorities(signed.soa_of(zone).into_iter().chain(denial).chain([forged]));
            reply
        })
        .await;
        let outcome = find(&server.resolver_with(settings), "_25._tcp.mx.other.test", RecordType::Tlsa).await;
        match is_neighbour {
            true => assert!(matches!(outcome, Err(Failure::Bogus(_))), "{outcome:?}"),
            false => assert_eq!(shape(outcome), (Security::Secure, true, 0)),
        }
    }
}

#[tokio::test]
async fn v43_a_signature_without_records_is_no_answer() {
    let signed = Signed::new();
    let settings = Settings { mode: Mode::Validating, trust_anchors: Some(signed.anchor()), ..settings() };
    // The denial of another type at another name, with a signature of the right name in the answer.
    let server = Server::start(move |asked: &Asked| {
        let mut reply = signed.reply(asked);
        if asked.kind() == rr::RecordType::TLSA {
            let mut other = asked.clone();
            other.message.queries[0].set_name(wire("forged.example.test."));
            reply.answers.retain(|record| record.record_type() == rr::RecordType::RRSIG);
            reply.authorities = signed.reply(&other).authorities;
        }
        reply
    })
    .await;
    let outcome = find(&server.resolver_with(settings), "_25._tcp.mx.example.test", RecordType::Tlsa).await;
    assert!(matches!(outcome, Err(Failure::Bogus(_))), "{outcome:?}");
}

#[tokio::test]
async fn what_cannot_be_fetched_is_not_bogus() {
    let signed = Signed::new();
    let settings = Settings { mode: Mode::Validating, trust_anchors: Some(signed.anchor()), ..settings() };
    let server = Server::start(move |asked: &Asked| {
        if asked.kind() == rr::RecordType::DNSKEY { asked.refuse(ResponseCode::Refused) } else { signed.reply(asked) }
    })
    .await;
    let cause = failure(find(&server.resolver_with(settings), "mx.example.test", RecordType::A).await);
    assert!(cause.contains("could not be fetched"), "{cause}");
}

#[tokio::test]
async fn servfail_and_what_is_behind_it() {
    let signed = Signed::new();
    let settings = Settings { mode: Mode::Validating, trust_anchors: Some(signed.anchor()), ..settings() };
    let server = Server::start(move |asked: &Asked| match asked.message.checking_disabled {
        true => signed.reply(asked),
        false => asked.refuse(ResponseCode::ServFail),
    })
    .await;
    let outcome = find(&server.resolver_with(settings), "forged.example.test", RecordType::A).await;
    assert!(matches!(outcome, Err(Failure::Failed(_) | Failure::Bogus(_))), "{outcome:?}");
}

#[tokio::test]
async fn keys_are_fetched_once() {
    let (server, resolver) = start(Signed::new()).await;
    for text in ["mx.example.test", "a.wild.example.test", "alias.example.test", "nx.example.test"] {
        find(&resolver, text, RecordType::A).await.unwrap();
    }
    let keys = server.asked().iter().filter(|asked| asked.kind() == rr::RecordType::DNSKEY).count();
    assert_eq!(keys, 1);
}

#[tokio::test]
async fn v46_a_proof_has_a_budget() {
    let signed = Signed::new();
    let settings = Settings { mode: Mode::Validating, trust_anchors: Some(signed.anchor()), ..settings() };
    // An unsigned answer deep down, and no zone cut anywhere: the validator looks for one label by label.
    let server = Server::start(move |asked: &Asked| match asked.kind() {
        rr::RecordType::A => asked.address(1),
        _ => asked.refuse(ResponseCode::NXDomain),
    })
    .await;
    let deep = format!("{}example.test", "a.".repeat(100));
    let cause = failure(find(&server.resolver_with(settings), &deep, RecordType::A).await);
    assert!(cause.contains("could not be fetched"), "{cause}");
    assert_eq!(server.count(), 64);
}

#[tokio::test]
async fn without_proof_there_is_no_validation() {
    let (server, resolver) = start(Signed::new()).await;
    let plain = resolver.without_proof();
    assert_eq!(shape(find(&plain, "mx.example.test", RecordType::A).await), (Security::Insecure, true, 1));
    assert_eq!(server.count(), 1);
    assert_eq!(shape(find(&resolver, "mx.example.test", RecordType::A).await), (Security::Secure, true, 1));
    assert_eq!(shape(find(&plain, "forged.example.test", RecordType::A).await), (Security::Insecure, true, 1));
}

#[test]
fn anchors_that_are_none() {
    let settings = Settings { mode: Mode::Validating, trust_anchors: Some("example.test. DS 1".into()), ..settings() };
    assert!(matches!(Resolver::new(settings), Err(SettingsError::TrustAnchors(_))));
}
