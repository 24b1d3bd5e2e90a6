//! R210: which of our addresses is shown to the world, and which of another server's is called.

use peers::internet::Internet;
use peers::internet::script::Script;
use peers::internet::zone::Zone;
use peers::sender::{Sender, configured};
use peers::server::Server;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const TEXT: &str = "From: brian@example.net\r\nSubject: out\r\n\r\nhello\r\n";

/// A host with an address of each family is called by IPv6 first, and by IPv4 when that has no time; IPv6 can be turned off;
/// the address to call from is a setting.
#[test]
fn r210_both_families_are_used_and_either_can_be_turned_off() -> anyhow::Result<()> {
    let internet = Internet::start()?;
    let mta = internet.mta(Script::smtp())?;
    let zone = Zone::insecure("both.example")
        .mx(10, "mx.both.example")
        .a("mx.both.example", Internet::v4(&mta))
        .record("mx.both.example", "AAAA ::1");
    internet.set_zones([zone])?;
    let calls = busy_over_ipv6(internet.smtp_port())?;

    let mut sender = Sender::start_patient(&internet, "")?;
    sender.submit(&["a@both.example"], TEXT)?;
    assert_eq!(mta.wait_for_messages(1)?[0].source.ip(), Ipv4Addr::LOCALHOST);
    assert_eq!(calls.load(Ordering::Relaxed), 1, "IPv6 was tried first");
    sender.wait_until_empty()?;
    sender.server.stop()?;

    let settings = "[outbound]\naddress_family = \"ipv4\"\nsource_addresses = [\"127.0.0.9\", \"::1\"]";
    let edit = |text: &str| configured(text, &internet, "").replace("[outbound]", settings);
    let mut sender = Sender { server: Server::start_edited(edit)? };
    sender.submit(&["a@both.example"], TEXT)?;
    assert_eq!(mta.wait_for_messages(2)?[1].source.ip(), Ipv4Addr::new(127, 0, 0, 9));
    assert_eq!(calls.load(Ordering::Relaxed), 1, "IPv6 is turned off");
    sender.wait_until_empty()?;
    sender.server.stop()?;

    let edit = |text: &str| configured(text, &internet, "").replace("[outbound]", &settings.replace("ipv4", "ipv6"));
    let mut sender = Sender { server: Server::start_edited(edit)? };
    let id = sender.submit(&["a@both.example"], TEXT)?;
    let story = sender.wait_for_story(&id, "not delivered yet")?;
    assert!(story.contains("421 4.3.2 busy"), "{story}");
    assert_eq!(mta.messages().len(), 2, "IPv4 is turned off");
    sender.server.stop()?;
    Ok(())
}

/// A server on IPv6 that has no time; how often it was called. It ends with the program.
fn busy_over_ipv6(port: u16) -> anyhow::Result<Arc<AtomicUsize>> {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, port))?;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            // Who hangs up first is not our care.
            let _ = stream.write_all(b"421 4.3.2 busy\r\n");
        }
    });
    Ok(calls)
}
