//! Which mode really holds.

use crate::server::*;
use crate::signed::Signed;
use hickory_proto::op::Message;
use hickory_proto::rr;
use resolver::{Mode, Probed, Resolver, Settings};

fn root(asked: &Asked) -> Message {
    let mut reply = asked.reply();
    reply.add_answer(soa(".", 300, 300));
    reply
}

fn authentic(asked: &Asked) -> Message {
    let mut reply = root(asked);
    reply.metadata.authentic_data = true;
    reply
}

async fn probe(server: &Server, settings: Settings) -> Probed {
    server.resolver_with(settings).probe(&dns::Name::root()).await
}

#[tokio::test]
async fn r9_a_server_that_validates() {
    let server = Server::start(authentic).await;
    let probed = probe(&server, settings()).await;
    assert_eq!(probed.holds, Mode::Trusting);
    assert!(probed.can_prove() && probed.servers[0].says_authentic && probed.servers[0].is_trusted);
    assert_eq!(probed.to_string(), format!("DNSSEC is validated by {}, whose word is trusted.", server.address));
    let probed = probe(&server, Settings { loopback_is_trusted: false, ..settings() }).await;
    assert_eq!(probed.holds, Mode::Plain);
    assert!(probed.to_string().contains("is not trusted") && probed.to_string().contains("DANE is off"), "{probed}");
    let probed = probe(&server, Settings { mode: Mode::Plain, ..settings() }).await;
    assert!(probed.to_string().contains("as configured"), "{probed}");
}

#[tokio::test]
async fn r9_a_server_that_does_not() {
    let server = Server::start(root).await;
    let probed = probe(&server, settings()).await;
    assert_eq!(probed.holds, Mode::Plain);
    assert!(probed.to_string().contains("does not validate DNSSEC; DANE is off"), "{probed}");
}

#[tokio::test]
async fn silence_says_nothing() {
    let server = Server::start(|_: &Asked| Act::Nothing).await;
    let probed = probe(&server, impatient()).await;
    assert_eq!(probed.holds, Mode::Trusting);
    assert!(probed.to_string().contains("No DNS server answers") && probed.servers[0].trouble.is_some(), "{probed}");
    let good = Server::start(authentic).await;
    let servers = vec![server.address, good.address];
    let probed = Resolver::new(Settings { servers, ..impatient() }).unwrap().probe(&dns::Name::root()).await;
    assert_eq!(probed.holds, Mode::Trusting);
    assert!(probed.to_string().contains(&format!("No answer from {}.", server.address)), "{probed}");
}

#[tokio::test]
async fn validation_here_needs_signatures() {
    let signed = Signed::new();
    let settings = Settings { mode: Mode::Validating, trust_anchors: Some(signed.anchor()), ..settings() };
    let server = Server::start(move |asked: &Asked| signed.reply(asked)).await;
    let zone = name("example.test");
    let probed = server.resolver_with(settings.clone()).probe(&zone).await;
    assert_eq!(probed.holds, Mode::Validating);
    assert!(probed.servers[0].gives_signatures, "{probed:?}");
    assert!(probed.to_string().contains("validated here"), "{probed}");
    // A server, or something on the way to it, that strips what DNSSEC needs.
    let signed = Signed::new();
    let settings = Settings { trust_anchors: Some(signed.anchor()), ..settings };
    let server = Server::start(move |asked: &Asked| {
        let mut reply = signed.reply(asked);
        reply.answers.retain(|record| record.record_type() != rr::RecordType::RRSIG);
        reply.authorities.retain(|record| !record.record_type().is_dnssec());
        reply
    })
    .await;
    let probed = server.resolver_with(settings).probe(&zone).await;
    assert_eq!(probed.holds, Mode::Plain);
    assert!(!probed.can_prove() && probed.to_string().contains("passes on no signatures"), "{probed}");
}
