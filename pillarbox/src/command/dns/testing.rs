//! A house and its zone, for the tests of this folder.

use super::ask::{Questions, ask};
use super::facts::{DkimKey, Facts, Hosted, Service, TlsKey};
use super::finding::Finding;
use super::wanted::{self, Line};
use crate::config::sending::AddressFamily;
use directory::signing::State;
use dns::{Name, Zone};
use net::certificate::PublicHalf;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A house with one domain, two keys in use and a next one.
pub fn facts() -> Facts {
    let key = |octet: u8, is_next| TlsKey {
        file: format!("tls/{octet}.pem").into(),
        is_next,
        half: PublicHalf { certificate: None, key_info: vec![0x30, octet], names: Vec::new() },
    };
    let service = |label, port, names: &str| Service {
        label,
        priority: 0,
        port,
        names: names.split_whitespace().map(str::to_owned).collect(),
    };
    let dkim = DkimKey {
        name: name("s._domainkey.example.net"),
        text: "v=DKIM1; k=ed25519; p=AAAA".into(),
        state: State::Active,
    };
    Facts {
        host: name("mx.example.net"),
        addresses: vec!["203.0.113.5".parse().unwrap()],
        sources: Vec::new(),
        family: AddressFamily::Both,
        has_smarthost: false,
        tls_keys: vec![key(1, false), key(2, false), key(3, true)],
        services: vec![
            service("_submissions._tcp", 465, "mx.example.net mail.example.net"),
            service("_imaps._tcp", 993, "mail.example.net"),
        ],
        domains: vec![Hosted { name: name("example.net"), mail_name: name("mail.example.net"), keys: vec![dkim] }],
        further_keys: Vec::new(),
    }
}

/// Everything that is to be published, with the name of the address.
pub fn zone_text(facts: &Facts) -> String {
    let sections = wanted::wanted(facts).unwrap();
    let lines: String =
        sections.iter().flat_map(|section| &section.lines).map(|line: &Line| format!("{line}\n")).collect();
    format!("$secure\n{lines}5.113.0.203.in-addr.arpa PTR mx.example.net\n")
}

/// What is found in a zone. Block lists: `list.example`.
pub fn check(facts: &Facts, zone: &str, can_prove: bool) -> Vec<Finding> {
    let zone = Zone::parse(zone).unwrap();
    let lists = [name("list.example")];
    let blocklists = if zone.find(&lists[0], dns::RecordType::A).unwrap().name_exists { &lists[..] } else { &[] };
    let questions = Questions { lookup: &zone, can_prove, blocklists, policies: None };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(ask(facts, &questions)).unwrap()
}
