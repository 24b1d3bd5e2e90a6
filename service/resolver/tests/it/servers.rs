//! Servers in turn, transports, aliases, and whose word counts.

use crate::server::*;
use dns::{Failure, Lookup, Record, RecordType, Security};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::TXT;
use resolver::{Mode, Resolver, Settings};

#[tokio::test]
async fn an_answer() {
    let server = Server::start(|asked: &Asked| {
        let mut reply = asked.reply();
        reply.add_answer(exchanger("Example.NET.", 10, "MX.example.net."));
        reply
    })
    .await;
    let found = server.resolver().look_up(&name("example.net"), RecordType::Mx).await.unwrap();
    assert_eq!(found.records, [Record::Mx(dns::Mx { preference: 10, exchange: name("mx.example.net") })]);
    assert_eq!((found.security, found.ttl.as_secs()), (Security::Insecure, 300));
    assert_eq!(found.canonical, name("example.net"));
    let asked = &server.asked()[0];
    assert!(asked.wants_proof() && asked.message.authentic_data && !asked.over_tcp);
}

#[tokio::test]
async fn truncated_goes_to_tcp() {
    let server = Server::start(|asked: &Asked| {
        let mut reply = asked.reply();
        if asked.over_tcp {
            let text = TXT::new(vec!["x".repeat(200); 20]);
            reply.add_answer(rr::Record::from_rdata(wire("example.net."), 300, RData::TXT(text)));
        } else {
            reply.metadata.truncation = true;
        }
        reply
    })
    .await;
    let found = server.resolver().look_up(&name("example.net"), RecordType::Txt).await.unwrap();
    assert_eq!(found.records, [Record::Txt(vec![b'x'; 4000])]);
    assert_eq!(server.asked().iter().map(|asked| asked.over_tcp).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn truncated_by_tcp_is_a_failure() {
    let server = Server::start(|asked: &Asked| {
        let mut reply = asked.address(1);
        reply.metadata.truncation = true;
        reply
    })
    .await;
    assert!(failure(server.resolver().look_up(&name("example.net"), A).await).contains("truncated"));
}

#[tokio::test]
async fn silence_then_the_next_server() {
    let silent = Server::start(|_: &Asked| Act::Nothing).await;
    let good = Server::start(|asked: &Asked| asked.address(1)).await;
    let servers = vec![silent.address, good.address];
    let resolver = Resolver::new(Settings { servers, ..impatient() }).unwrap();
    assert_eq!(addresses(&resolver.look_up(&name("a.example"), A).await.unwrap()), ["192.0.2.1"]);
    resolver.look_up(&name("b.example"), A).await.unwrap();
    assert_eq!((silent.count(), good.count()), (1, 2), "the one that answered is asked first from then on");
}

#[tokio::test]
async fn refusals_and_referrals_then_the_next_server() {
    let refusing = Server::start(|asked: &Asked| asked.refuse(ResponseCode::Refused)).await;
    let lame = Server::start(|asked: &Asked| {
        let mut reply = asked.reply();
        reply.metadata.recursion_available = false;
        reply
    })
    .await;
    let good = Server::start(|asked: &Asked| asked.address(1)).await;
    let servers = vec![refusing.address, lame.address, good.address];
    let resolver = Resolver::new(Settings { servers, ..settings() }).unwrap();
    assert_eq!(resolver.look_up(&name("a.example"), A).await.unwrap().records.len(), 1);
    let servers = vec![refusing.address, lame.address];
    let resolver = Resolver::new(Settings { servers, ..settings() }).unwrap();
    let cause = failure(resolver.look_up(&name("a.example"), A).await);
    assert!(cause.contains("Query Refused") && cause.contains("neither recurses"), "{cause}");
    assert_eq!((refusing.count(), lame.count()), (2, 2), "whoever refused is not asked again");
}

#[tokio::test]
async fn nobody_answers() {
    let silent = Server::start(|_: &Asked| Act::Nothing).await;
    let cause = failure(silent.resolver_with(impatient()).look_up(&name("a.example"), A).await);
    assert!(cause.contains("no answer in time") && cause.contains(&silent.address.to_string()), "{cause}");
    assert_eq!(silent.count(), 2, "two rounds");
    let closed = silent.address;
    drop(silent);
    let resolver = Resolver::new(Settings { servers: vec![closed], ..settings() }).unwrap();
    assert!(failure(resolver.look_up(&name("a.example"), A).await).contains("refused"));
}

#[tokio::test]
async fn the_whole_lookup_has_a_time() {
    let silent = Server::start(|_: &Asked| Act::Nothing).await;
    let timeout = std::time::Duration::from_millis(80);
    let resolver = silent.resolver_with(Settings { try_timeout: 10 * timeout, timeout, ..settings() });
    assert!(failure(resolver.look_up(&name("a.example"), A).await).contains("no answer in time"));
    assert_eq!(silent.count(), 1);
}

/// Knows each alias `aN` to `aN+1` and tells `per_reply` of them at once.
async fn chain(per_reply: usize) -> Server {
    Server::start(move |asked: &Asked| {
        let mut reply = asked.reply();
        let first: usize = asked.name().trim_start_matches('a').trim_end_matches(".example.").parse().unwrap();
        for step in first..first + per_reply {
            reply.add_answer(alias(
                &format!("a{step}.example."),
                &format!("a{}.example.", step + 1),
                1_000 - step as u32,
            ));
        }
        if first + per_reply > 20 {
            reply.answers.truncate(20_usize.saturating_sub(first));
            reply.add_answer(rr::Record::from_rdata(wire("a20.example."), 2_000, address(20)));
        }
        reply
    })
    .await
}

#[tokio::test]
async fn aliases_in_one_reply_and_over_many() {
    for (per_reply, questions) in [(20, 1), (3, 3), (1, 9)] {
        let server = chain(per_reply).await;
        let resolver = server.resolver();
        let found = resolver.look_up(&name("a12.example"), A).await.unwrap();
        assert_eq!(addresses(&found), ["192.0.2.20"]);
        assert_eq!((found.canonical, found.ttl.as_secs()), (name("a20.example"), 981));
        assert_eq!(server.count(), questions);
        assert!(failure(resolver.look_up(&name("a11.example"), A).await).contains("more than 8"));
    }
}

#[tokio::test]
async fn aliases_in_a_circle() {
    let server = Server::start(|asked: &Asked| {
        let mut reply = asked.reply();
        reply.add_answer(alias("a.example.", "b.example.", 300));
        reply.add_answer(alias("b.example.", "A.example.", 300));
        reply
    })
    .await;
    assert!(failure(server.resolver().look_up(&name("a.example"), A).await).contains("back"));
    assert_eq!(server.count(), 1);
    let server = Server::start(|asked: &Asked| {
        let mut reply = asked.reply();
        let other = if asked.name() == "a.example." { "b.example." } else { "a.example." };
        reply.add_answer(alias(&asked.name(), other, 300));
        reply
    })
    .await;
    assert!(failure(server.resolver().look_up(&name("a.example"), A).await).contains("back"));
    assert_eq!(server.count(), 2);
    let found = server.resolver().look_up(&name("a.example"), RecordType::Cname).await.unwrap();
    assert_eq!(found.records, [Record::Cname(name("b.example"))], "looked at, not followed");
}

#[tokio::test]
async fn absence() {
    let server = Server::start(|asked: &Asked| {
        let mut reply = asked.reply();
        match asked.name().as_str() {
            "nodata.example." => _ = reply.add_authority(soa("example.", 100, 200)),
            "nx.example." => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.add_authority(soa("example.", 300, 200));
            }
            "dangling.example." => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.add_answer(alias("dangling.example.", "gone.other.", 50));
                reply.add_authority(soa("other.", 300, 200));
            }
            // The SOA of a zone that has nothing to do with it does not count.
            "bare.example." => _ = reply.add_authority(soa("other.", 300, 200)),
            "odd.example." => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.add_answer(rr::Record::from_rdata(wire("odd.example."), 300, address(1)));
            }
            _ => _ = reply.add_answer(alias("half.example.", "nodata.example.", 300)),
        }
        reply
    })
    .await;
    let resolver = server.resolver();
    let find = async |text: &str| resolver.look_up(&name(text), A).await;
    let found = find("nodata.example").await.unwrap();
    assert_eq!((found.records.len(), found.name_exists, found.ttl.as_secs()), (0, true, 100));
    let found = find("nx.example").await.unwrap();
    assert_eq!((found.name_exists, found.ttl.as_secs()), (false, 200));
    let found = find("dangling.example").await.unwrap();
    assert_eq!((found.name_exists, found.ttl.as_secs(), found.canonical), (false, 50, name("gone.other")));
    let found = find("bare.example").await.unwrap();
    assert_eq!((found.name_exists, found.ttl.as_secs()), (true, 0), "RFC 2308 §5");
    let found = find("half.example").await.unwrap();
    assert_eq!((found.name_exists, found.ttl.as_secs(), found.canonical), (true, 100, name("nodata.example")));
    assert!(failure(find("odd.example").await).contains("does not exist"));
}

fn authentic(asked: &Asked) -> Message {
    let mut reply = asked.address(1);
    reply.metadata.authentic_data = true;
    reply
}

#[tokio::test]
async fn r9_only_a_trusted_server_vouches() {
    let server = Server::start(authentic).await;
    let security = async |settings: Settings| {
        server.resolver_with(settings).look_up(&name("a.example"), A).await.unwrap().security
    };
    let distrustful = Settings { loopback_is_trusted: false, ..settings() };
    assert_eq!(security(settings()).await, Security::Secure, "on loopback");
    assert_eq!(security(distrustful.clone()).await, Security::Insecure);
    assert_eq!(security(Settings { mode: Mode::Plain, ..settings() }).await, Security::Insecure);
    let listed = Settings { trusted: vec![server.address.ip()], ..distrustful };
    assert_eq!(security(listed).await, Security::Secure);
    let asked: Vec<bool> = server.asked().iter().map(Asked::wants_proof).collect();
    assert_eq!(asked, [true, false, false, true], "who is not believed is not asked for proof");
}

#[tokio::test]
async fn v43_one_alias_without_proof_is_enough() {
    let server = Server::start(|asked: &Asked| {
        let mut reply = authentic(asked);
        match asked.name().as_str() {
            "a.example." => reply.answers = vec![alias("a.example.", "b.example.", 300)],
            "b.example." => reply.metadata.authentic_data = false,
            _ => {}
        }
        reply
    })
    .await;
    let resolver = server.resolver();
    assert_eq!(resolver.look_up(&name("c.example"), A).await.unwrap().security, Security::Secure);
    assert_eq!(resolver.look_up(&name("a.example"), A).await.unwrap().security, Security::Insecure);
}

#[tokio::test]
async fn v43_untrusted_servers_do_not_stand_in_for_trusted_ones() {
    let validating = Server::start(|asked: &Asked| asked.refuse(ResponseCode::ServFail)).await;
    let stranger = "192.0.2.1:53".parse().unwrap();
    let settings = Settings { servers: vec![stranger, validating.address], ..impatient() };
    let cause = failure(Resolver::new(settings).unwrap().look_up(&name("a.example"), A).await);
    assert!(cause.contains("Server Failure") && !cause.contains("192.0.2.1"), "not asked at all: {cause}");
}

#[tokio::test]
async fn v43_servfail_is_bogus_when_the_server_holds_something_back() {
    let server = Server::start(|asked: &Asked| {
        let is_forged = asked.name() == "forged.example.";
        if is_forged && asked.message.checking_disabled {
            asked.address(1)
        } else {
            asked.refuse(ResponseCode::ServFail)
        }
    })
    .await;
    let resolver = server.resolver();
    let outcome = resolver.look_up(&name("forged.example"), A).await;
    assert!(matches!(outcome, Err(Failure::Bogus(_))), "{outcome:?}");
    assert!(failure(resolver.look_up(&name("down.example"), A).await).contains("Server Failure"));
    assert_eq!(server.count(), 4);
    let outcome = server.resolver_with(Settings { mode: Mode::Plain, ..settings() });
    assert!(failure(outcome.look_up(&name("forged.example"), A).await).contains("Server Failure"));
    assert_eq!(server.count(), 5, "who does not validate is not asked what it holds back");
}

#[tokio::test]
async fn extended_errors_are_named() {
    let server = Server::start(|asked: &Asked| {
        let mut reply = asked.refuse(ResponseCode::ServFail);
        let option = rr::rdata::opt::EdnsOption::Unknown(15, b"\0\x16evil\r\ntext".to_vec());
        reply.edns.as_mut().unwrap().options_mut().insert(option);
        reply
    })
    .await;
    let cause = failure(server.resolver().look_up(&name("a.example"), A).await);
    assert!(cause.contains("no reachable authority") && !cause.contains("evil"), "{cause}");
}

#[tokio::test]
async fn local_names_stay_here() {
    let server = Server::start(|asked: &Asked| asked.address(1)).await;
    let hosts = resolver::Hosts::parse("192.0.2.9 mx.example").unwrap();
    let resolver = server.resolver_with(Settings { hosts, ..settings() });
    for (text, address) in [("localhost", "127.0.0.1"), ("192.0.2.7", "192.0.2.7"), ("mx.example", "192.0.2.9")] {
        assert_eq!(addresses(&resolver.look_up(&name(text), A).await.unwrap()), [address]);
    }
    assert_eq!(server.count(), 0);
}
