//! How the way to other servers is protected: DANE, MTA-STS, and TLS where there may be none.

use peers::internet::Internet;
use peers::internet::certificate::Leaf;
use peers::internet::policy::Page;
use peers::internet::script::{Act, Script, Stage};
use peers::internet::zone::Zone;
use peers::sender::Sender;

const TEXT: &str = "From: brian@example.net\r\nSubject: out\r\n\r\nhello\r\n";

/// R208, V43: what DANE says is done, and nothing goes in the clear where it says no.
#[test]
fn r208_v43_dane_is_followed() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let leaf = |name: &str| Leaf::of(name);
    let good = internet.authority().issue(&leaf("mx.good.example"))?;
    let aged = leaf("mx.aged.example").expired().self_signed()?;
    let rsa = internet.authority().issue(&leaf("mx.anchor.example").rsa())?;
    let plain = Script::smtp();
    let mtas = [
        internet.mta(Script::smtp().certificate(&good))?,
        internet.mta(Script::smtp().certificate(&good))?,
        internet.mta(Script::smtp().certificate(&aged))?,
        internet.mta(Script::smtp().certificate(&rsa))?,
        internet.mta(plain.clone())?,
        internet.mta(plain)?,
    ];
    let [ok, wrong, expired, anchor, bare, open] = &mtas;
    let zone = |zone: Zone, mta, host: &str| zone.mx(10, host).a(host, Internet::v4(mta));
    internet.set_zones([
        zone(Zone::secure("good.example"), ok, "mx.good.example").tlsa("mx.good.example", &good.tlsa(3, 1, 1)),
        zone(Zone::secure("wrong.example"), wrong, "mx.wrong.example")
            .tlsa("mx.wrong.example", &good.tlsa(3, 1, 1).wrong()),
        zone(Zone::secure("aged.example"), expired, "mx.aged.example").tlsa("mx.aged.example", &aged.tlsa(3, 1, 1)),
        zone(Zone::secure("anchor.example"), anchor, "mx.anchor.example")
            .tlsa("mx.anchor.example", &internet.authority().tlsa(2, 0, 1)),
        zone(Zone::secure("strip.example"), bare, "mx.strip.example").tlsa("mx.strip.example", &good.tlsa(3, 1, 1)),
        zone(Zone::insecure("open.example"), open, "mx.open.example"),
        zone(Zone::bogus("bogus.example"), ok, "mx.bogus.example"),
        Zone::failing("dead.example"),
    ])?;
    let sender = Sender::start(&internet, "")?;
    for (to, mta) in [("x@good.example", ok), ("x@aged.example", expired), ("x@anchor.example", anchor)] {
        let id = sender.submit(&[to], TEXT)?;
        let story = sender.wait_for_story(&id, "delivered to")?;
        assert!(story.contains("Verified TLS connection (DANE)"), "{to}:\n{story}");
        assert!(mta.wait_for_messages(1)?[0].tls.is_some());
    }
    let id = sender.submit(&["x@open.example"], TEXT)?;
    let story = sender.wait_for_story(&id, "delivered to")?;
    assert_eq!(story.matches("in clear text").count(), 2, "here and on: {story}");
    for (to, status) in [
        ("x@wrong.example", "4.7.5"),
        ("x@strip.example", "4.7.4"),
        ("x@bogus.example", "4.7.5"),
        ("x@dead.example", "4.4.3"),
    ] {
        let id = sender.submit(&[to], TEXT)?;
        sender.wait_for_story(&id, "to be tried again at")?;
        let list = sender.server.command(&["queue", "list", &id])?;
        assert!(list.contains(status), "{to}:\n{list}");
    }
    assert!(wrong.messages().is_empty() && bare.messages().is_empty(), "never in the clear");
    // RFC 8689 §4.2.2: its author would rather have it arrive, and hears what TLS there was.
    for (to, mta, tls) in [("x@wrong.example", wrong, true), ("x@strip.example", bare, false)] {
        let id = sender.submit(&[to], &format!("tls-required:\r\n NO\r\n{TEXT}"))?;
        let story = sender.wait_for_story(&id, "delivered to")?;
        assert_eq!(story.contains("Trusted TLS connection"), tls, "{story}");
        assert_eq!(mta.wait_for_messages(1)?[0].tls.is_some(), tls);
    }
    assert_eq!(sender.audit()?["waiting"], 4);
    Ok(())
}

/// V44: MTA-STS in its modes, for each failure of TLS.
#[test]
fn v44_mta_sts_is_followed() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let other = internet.authority().issue(&Leaf::of("elsewhere.example"))?;
    let own = Leaf::of("elsewhere.example").self_signed()?;
    let (mut cases, mut zones) = (Vec::new(), Vec::new());
    for fault in ["none", "no TLS", "name", "authority", "expiry"] {
        for mode in ["enforce", "testing", "none"] {
            let domain = format!("d{}.example", cases.len());
            let (host, site) = (format!("mx.{domain}"), format!("mta-sts.{domain}"));
            let script = match fault {
                "none" => Script::smtp().certificate(&internet.authority().issue(&Leaf::of(&host))?),
                "name" => Script::smtp().certificate(&other),
                "authority" => Script::smtp().certificate(&own),
                "expiry" => Script::smtp().certificate(&internet.authority().issue(&Leaf::of(&host).expired())?),
                _ => Script::smtp(),
            };
            let mta = internet.mta(script)?;
            let certificate = internet.authority().issue(&Leaf::of(&site))?;
            let policy = internet.policy_host(Page::policy(&certificate, mode, &[&host], 86_400))?;
            let zone = Zone::insecure(&domain).mx(10, &host).a(&host, Internet::v4(&mta));
            zones.push(zone.mta_sts("1").a(&site, *policy.address().ip()));
            cases.push((fault, mode, domain, mta, policy));
        }
    }
    internet.set_zones(zones)?;
    let sender = Sender::start_patient(&internet, "")?;
    for (fault, mode, domain, mta, _policy) in &cases {
        let id = sender.submit(&[&format!("x@{domain}")], TEXT)?;
        if *mode == "enforce" && *fault != "none" {
            sender.wait_for_story(&id, "to be tried again at")?;
            let status = if *fault == "no TLS" { "4.7.4" } else { "4.7.5" };
            let list = sender.server.command(&["queue", "list", &id])?;
            assert!(list.contains(status) && mta.contents().is_empty(), "{mode}, {fault}:\n{list}");
            continue;
        }
        let story = sender.wait_for_story(&id, "delivered to")?;
        let is_verified = story.contains("Verified TLS connection (MTA-STS)");
        assert_eq!(is_verified, *mode == "enforce", "{mode}, {fault}:\n{story}");
        assert_eq!(story.contains("TLS connection"), *fault != "no TLS", "{mode}, {fault}:\n{story}");
        assert_eq!(mta.messages().len(), 1, "{mode}, {fault}");
    }
    assert_eq!(sender.audit()?["waiting"], 4, "each fault in enforce");
    Ok(())
}

/// R208: opportunistic TLS must not lose mail that clear text would have brought.
#[test]
fn r208_broken_tls_is_no_reason_to_keep_mail() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let certificate = Leaf::of("anything").self_signed()?;
    let acts = [
        (Stage::StartTls, Act::reply("454 4.7.0 not now")),
        (Stage::Handshake, Act::Close),
        (Stage::Handshake, Act::Octets(b"220 not a handshake\r\n".to_vec())),
    ];
    let sender = Sender::start(&internet, "")?;
    for (number, (stage, act)) in acts.into_iter().enumerate() {
        let mta = internet.mta(Script::smtp().certificate(&certificate).when(stage, act))?;
        let domain = format!("d{number}.example");
        internet.set_zone(Zone::insecure(&domain).a(&domain, Internet::v4(&mta)))?;
        let id = sender.submit(&[&format!("x@{domain}")], TEXT)?;
        let story = sender.wait_for_story(&id, "delivered to")?;
        assert_eq!(story.matches("in clear text").count(), 2, "{stage:?}: {story}");
        assert_eq!(mta.wait_for_messages(1)?.len(), 1);
    }
    let mta = internet.mta(Script::smtp().certificate(&certificate))?;
    internet.set_zone(Zone::insecure("self.example").a("self.example", Internet::v4(&mta)))?;
    let id = sender.submit(&["x@self.example"], TEXT)?;
    assert!(sender.wait_for_story(&id, "delivered to")?.contains("Untrusted TLS connection"));
    sender.wait_until_empty()
}
