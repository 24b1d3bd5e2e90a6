//! What is remembered, and for how long.

use crate::server::*;
use dns::{Failure, Lookup, RecordType};
use hickory_proto::op::ResponseCode;
use resolver::Settings;
use std::time::Duration;

/// Answers with a TTL that the name says; `nx` names with absence, `fail` names with SERVFAIL.
async fn server() -> Server {
    Server::start(|asked: &Asked| {
        let asked_name = asked.name();
        let (what, ttl) = asked_name.trim_end_matches(".example.").split_at(2);
        let ttl: u32 = ttl.trim_start_matches(char::is_alphabetic).parse().unwrap();
        if what == "fa" {
            return asked.refuse(ResponseCode::ServFail);
        }
        if what == "nx" {
            let mut reply = asked.refuse(ResponseCode::NXDomain);
            reply.add_authority(soa("example.", ttl, ttl));
            return reply;
        }
        let mut reply = asked.address(1);
        reply.answers[0].ttl = ttl;
        reply
    })
    .await
}

/// How often the server is asked when a name is looked up twice, with so much time in between.
async fn asked(settings: Settings, text: &str, pause: Duration) -> usize {
    let server = server().await;
    let resolver = server.resolver_with(settings);
    let first = resolver.look_up(&name(text), A).await;
    // Time stands still but for this; only while nothing is on its way.
    tokio::time::pause();
    tokio::time::advance(pause).await;
    tokio::time::resume();
    let second = resolver.look_up(&name(text), A).await;
    assert_eq!(first.is_ok(), second.is_ok());
    server.count()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn an_answer_is_remembered_for_its_time() {
    assert_eq!(asked(settings(), "ok100.example", seconds(98)).await, 1);
    assert_eq!(asked(settings(), "ok100.example", seconds(101)).await, 2);
    assert_eq!(asked(settings(), "ok0.example", seconds(0)).await, 2, "TTL 0");
    assert_eq!(asked(settings(), "ok4294967295.example", seconds(0)).await, 2, "RFC 2181 §8");
}

#[tokio::test]
async fn the_time_left_is_told() {
    let server = server().await;
    let resolver = server.resolver();
    assert_eq!(resolver.look_up(&name("ok100.example"), A).await.unwrap().ttl, seconds(100));
    tokio::time::pause();
    tokio::time::advance(seconds(40)).await;
    let left = resolver.look_up(&name("ok100.example"), A).await.unwrap().ttl;
    assert!(left <= seconds(60) && left > seconds(55), "{left:?}");
}

#[tokio::test]
async fn times_are_clamped() {
    let clamped =
        Settings { ttl_min: seconds(50), ttl_max: seconds(200), negative_ttl_max: seconds(100), ..settings() };
    assert_eq!(asked(clamped.clone(), "ok10.example", seconds(48)).await, 1);
    assert_eq!(asked(clamped.clone(), "ok0.example", seconds(0)).await, 2, "zero is not raised");
    assert_eq!(asked(clamped.clone(), "ok9000.example", seconds(201)).await, 2);
    assert_eq!(asked(clamped.clone(), "nx9000.example", seconds(98)).await, 1);
    assert_eq!(asked(clamped, "nx9000.example", seconds(101)).await, 2);
}

#[tokio::test]
async fn absence_is_remembered_as_the_zone_says() {
    assert_eq!(asked(settings(), "nx100.example", seconds(98)).await, 1);
    assert_eq!(asked(settings(), "nx100.example", seconds(101)).await, 2);
    assert_eq!(asked(settings(), "nx0.example", seconds(0)).await, 2);
}

#[tokio::test]
async fn failures_are_remembered_for_seconds() {
    // A failure takes two packets: the question, and whether something is held back.
    assert_eq!(asked(settings(), "fail1.example", seconds(3)).await, 2);
    assert_eq!(asked(settings(), "fail1.example", seconds(6)).await, 4);
}

#[tokio::test]
async fn v46_the_cache_is_bounded() {
    let server = server().await;
    let resolver = server.resolver_with(Settings { cache_entries_max: 20, ..settings() });
    for number in 100..300 {
        resolver.look_up(&name(&format!("ok{number}.example")), A).await.unwrap();
    }
    assert_eq!(server.count(), 200);
    resolver.look_up(&name("ok299.example"), A).await.unwrap();
    assert_eq!(server.count(), 200, "the last is still there");
    resolver.look_up(&name("ok100.example"), A).await.unwrap();
    assert_eq!(server.count(), 201, "the first is not");
}

#[tokio::test]
async fn types_are_apart_and_case_is_not() {
    let server = server().await;
    let resolver = server.resolver();
    resolver.look_up(&name("ok100.example"), A).await.unwrap();
    resolver.look_up(&name("OK100.Example"), A).await.unwrap();
    assert_eq!(server.count(), 1);
    resolver.look_up(&name("ok100.example"), RecordType::Cname).await.unwrap();
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn one_question_for_all_who_wait() {
    let server = server().await;
    let resolver = server.resolver();
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.look_up(&name("ok0.example"), A).await })
        })
        .collect();
    for one in waiting {
        assert_eq!(addresses(&one.await.unwrap().unwrap()), ["192.0.2.1"]);
    }
    assert_eq!(server.count(), 1, "also when the answer is not to be remembered");
}

#[tokio::test]
async fn whoever_asked_first_may_go_away() {
    let server = server().await;
    let resolver = server.resolver();
    {
        let host = name("ok100.example");
        let mut first = resolver.look_up(&host, A);
        tokio::select! {
            biased;
            _ = &mut first => panic!("not that fast"),
            () = std::future::ready(()) => {}
        }
    }
    resolver.look_up(&name("ok100.example"), A).await.unwrap();
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn flush_forgets() {
    let server = server().await;
    let resolver = server.resolver();
    resolver.look_up(&name("ok100.example"), A).await.unwrap();
    resolver.flush();
    resolver.look_up(&name("ok100.example"), A).await.unwrap();
    assert_eq!(server.count(), 2);
    // What is on its way during a flush is not remembered after it.
    let host = name("ok200.example");
    let mut early = resolver.look_up(&host, A);
    tokio::select! {
        biased;
        _ = &mut early => panic!("not that fast"),
        () = std::future::ready(()) => {}
    }
    resolver.flush();
    early.await.unwrap();
    resolver.look_up(&host, A).await.unwrap();
    assert_eq!(server.count(), 4);
    let bogus = resolver.look_up(&name("fail1.example"), A).await;
    assert!(matches!(bogus, Err(Failure::Failed(_))));
}
