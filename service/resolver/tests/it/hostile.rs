//! Replies that are not what they should be.

use crate::server::*;
use dns::{Lookup, Record, RecordType};
use hickory_proto::op::Message;
use hickory_proto::rr;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::{PTR, TXT};
use resolver::Settings;

/// A reply with wrong data, changed in one octet, ahead of the right one.
async fn after(change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> (Server, Result<dns::Found, dns::Failure>) {
    let server = Server::start(move |asked: &Asked| {
        let mut forged = asked.address(66).to_vec().unwrap();
        change(&mut forged);
        Act::Octets(vec![forged, asked.address(1).to_vec().unwrap()])
    })
    .await;
    let outcome = server.resolver().look_up(&name("mx.example"), A).await;
    (server, outcome)
}

#[tokio::test]
async fn wrong_identifier_or_question_is_passed_over() {
    for at in [0, 1, 13, 12 + 12 + 1] {
        let (server, outcome) = after(move |octets| octets[at] ^= 1).await;
        assert_eq!(addresses(&outcome.unwrap()), ["192.0.2.1"], "octet {at}");
        assert_eq!(server.count(), 1);
    }
    let (_, outcome) = after(|octets| octets[2] ^= 0x80).await;
    assert_eq!(addresses(&outcome.unwrap()), ["192.0.2.1"], "a question is no reply");
    let (_, outcome) = after(|octets| octets.truncate(5)).await;
    assert_eq!(addresses(&outcome.unwrap()), ["192.0.2.1"]);
}

#[tokio::test]
async fn case_not_mirrored_goes_to_tcp() {
    let server = Server::start(|asked: &Asked| {
        let mut reply = asked.address(if asked.over_tcp { 1 } else { 66 });
        let lower_name = reply.queries[0].name().to_lowercase();
        reply.queries[0].set_name(lower_name);
        reply
    })
    .await;
    // Enough letters that a name is never sent in lower case by chance.
    let long = name("abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.example");
    let found = server.resolver().look_up(&long, A).await.unwrap();
    assert_eq!(addresses(&found), ["192.0.2.1"]);
    assert_eq!(server.asked().iter().map(|asked| asked.over_tcp).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn a_reply_from_aside_is_not_heard() {
    let server = Server::start(|asked: &Asked| match asked.number {
        0 => Act::FromAside(asked.address(66).to_vec().unwrap()),
        _ => Act::Reply(asked.address(1)),
    })
    .await;
    let resolver = server.resolver_with(impatient());
    assert_eq!(addresses(&resolver.look_up(&name("mx.example"), A).await.unwrap()), ["192.0.2.1"]);
    assert_eq!(server.count(), 2, "asked again after silence");
}

#[tokio::test]
async fn v46_a_flood_of_strays_ends_in_tcp() {
    let server = Server::start(|asked: &Asked| {
        if asked.over_tcp {
            return Act::Reply(asked.address(1));
        }
        let mut forged = asked.address(66).to_vec().unwrap();
        forged[0] ^= 0x55;
        Act::Octets(vec![forged; 64])
    })
    .await;
    assert_eq!(addresses(&server.resolver().look_up(&name("mx.example"), A).await.unwrap()), ["192.0.2.1"]);
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn v46_too_many_records_are_not_read() {
    let with_records = async |count: u8| {
        let server = Server::start(move |asked: &Asked| {
            let mut reply = asked.reply();
            if asked.over_tcp {
                for last in 0..count {
                    for _ in 0..4 {
                        reply.add_answer(rr::Record::from_rdata(wire("mx.example."), 300, address(last)));
                    }
                }
            } else {
                reply.metadata.truncation = true;
            }
            reply
        })
        .await;
        server.resolver().look_up(&name("mx.example"), A).await
    };
    assert_eq!(with_records(63).await.unwrap().records.len(), 252);
    assert!(failure(with_records(64).await).contains("too many records"));
}

#[tokio::test]
async fn a_short_tcp_reply_is_a_failure() {
    for length in [0, 1, 11, 12, 20] {
        let server = Server::start(move |asked: &Asked| {
            let mut reply = asked.address(1);
            reply.metadata.truncation = !asked.over_tcp;
            let mut octets = reply.to_vec().unwrap();
            if asked.over_tcp {
                octets.truncate(length);
            }
            Act::Octets(vec![octets])
        })
        .await;
        failure(server.resolver().look_up(&name("mx.example"), A).await);
    }
}

#[tokio::test]
async fn names_that_are_none_are_left_out() {
    let server = Server::start(|asked: &Asked| {
        let mut reply = asked.reply();
        let odd = |labels: &[&[u8]]| rr::Name::from_labels(labels.iter().copied()).unwrap();
        let targets = match asked.name().as_str() {
            "both.example." => vec![odd(&[b"a b", b"example"]), wire("good.example.")],
            // A dot inside a label must not turn into a border.
            "dot.example." => vec![odd(&[b"mx.example"])],
            _ => vec![odd(&[b"mx\r\nX", b"example"])],
        };
        for target in targets {
            reply.add_answer(rr::Record::from_rdata(wire(&asked.name()), 300, RData::PTR(PTR(target))));
        }
        reply
    })
    .await;
    let resolver = server.resolver();
    let find = async |text: &str| resolver.look_up(&name(text), RecordType::Ptr).await;
    assert_eq!(find("both.example").await.unwrap().records, [Record::Ptr(name("good.example"))]);
    assert!(failure(find("dot.example").await).contains("cannot be read"));
    assert!(failure(find("line.example").await).contains("cannot be read"));
}

#[tokio::test]
async fn records_of_other_names_are_not_taken() {
    let server = Server::start(|asked: &Asked| {
        let mut reply = asked.reply();
        reply.add_answer(rr::Record::from_rdata(wire("other.example."), 300, address(66)));
        let mut chaos = rr::Record::from_rdata(wire("mx.example."), 300, address(67));
        chaos.dns_class = rr::DNSClass::CH;
        reply.add_answer(chaos);
        reply.add_additional(rr::Record::from_rdata(wire("mx.example."), 300, address(68)));
        reply.add_authority(soa("example.", 300, 300));
        reply
    })
    .await;
    let found = server.resolver().look_up(&name("mx.example"), A).await.unwrap();
    assert_eq!(found.records, []);
}

/// A simple generator, so that each run is the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

#[tokio::test]
async fn v46_mutated_replies_never_panic() {
    let dice = std::sync::Mutex::new(Dice(1));
    let server = Server::start(move |asked: &Asked| {
        let mut reply: Message = asked.reply();
        let owner = asked.name();
        reply.add_answer(alias(&owner, "b.example.", 300));
        reply.add_answer(exchanger("b.example.", 1, "c.b.example."));
        reply.add_answer(exchanger("b.example.", 2, "d.b.example."));
        let text = TXT::new(vec!["v=spf1".to_owned(), "x".repeat(200)]);
        reply.add_answer(rr::Record::from_rdata(wire("b.example."), 300, RData::TXT(text)));
        reply.add_authority(soa("example.", 300, 300));
        let mut octets = reply.to_vec().unwrap();
        // Header and question stay, so that the reply is read at all.
        let start = 12 + owner.len() + 1 + 4;
        let mut dice = dice.lock().unwrap();
        for _ in 0..=dice.roll(4) {
            let at = start + dice.roll(octets.len() - start);
            octets[at] = u8::try_from(dice.roll(256)).unwrap();
        }
        if dice.roll(4) == 0 {
            let length = dice.roll(octets.len());
            octets.truncate(length.max(start));
        }
        Act::Octets(vec![octets])
    })
    .await;
    let resolver = server.resolver_with(Settings { cache_entries_max: 0, ..settings() });
    let mut found = 0;
    for number in 0..600 {
        let kind = if number % 2 == 0 { RecordType::Mx } else { RecordType::Txt };
        found += usize::from(resolver.look_up(&name(&format!("a{number}.example")), kind).await.is_ok());
    }
    assert!(found > 50 && found < 600, "some are still good, some are not: {found}");
}
