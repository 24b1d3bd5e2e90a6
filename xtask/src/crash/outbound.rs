//! `kill -9` while mail goes out: every recipient that was acknowledged must reach the sink.

use crate::sink::{Sink, recipient};
use anyhow::{Context, bail, ensure};
use peers::client::Smtp;
use peers::server::{Port, Server};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Sessions that hand mail over.
const SESSIONS: usize = 8;
/// The sink takes its time, so that a kill finds mail on the way.
const SINK_DELAY: Duration = Duration::from_millis(2);
/// Longest wait until the queue is empty after the last kill.
const DRAIN_MAX: Duration = Duration::from_secs(300);
/// Connections of the server to the sink, its default. Each may lose an acknowledgement in a kill.
const CONNECTIONS: u64 = 20;

/// What a storm did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Recipients that were acknowledged.
    pub acknowledged: u64,
    /// Recipients that came to the sink more than once.
    pub repeated: u64,
    /// Milliseconds from start to first answer after a kill, the longest.
    pub restart_max_ms: u128,
}

/// Kills a server so many times while it sends. Says how it goes through `report`.
pub fn run(kills: u64, seed: u64, mut report: impl FnMut(&str)) -> anyhow::Result<Tally> {
    let sink = Sink::start(&[Ipv4Addr::LOCALHOST], SINK_DELAY)?;
    let mut server = Server::start_edited(|text| {
        format!(
            "{text}\n[outbound]\nsmarthost = \"[127.0.0.1]:{}\"\nreply_timeout_seconds = 3\n\n\
             [queue]\nfirst_retry_seconds = 1\nlongest_retry_seconds = 2\n",
            sink.port()
        )
    })?;
    let next = Arc::new(AtomicU64::new(0));
    let (mut acknowledged, mut tally, mut state) = (Vec::new(), Tally::default(), seed);
    for kill in 1..=kills {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_millis(100 + (state >> 33) % 900);
        acknowledged.extend(storm_once(&mut server, &next, life)?);
        let begun = Instant::now();
        server.launch(&[])?;
        tally.restart_max_ms = tally.restart_max_ms.max(begun.elapsed().as_millis());
        audit(&server).with_context(|| format!("after kill {kill}"))?;
        report(&format!("kill {kill} of {kills}: {} recipients acknowledged", acknowledged.len()));
    }
    drain(&server)?;
    judge(&sink, &acknowledged, next.load(Ordering::Relaxed), kills, &mut tally)?;
    server.stop()?;
    Ok(tally)
}

/// Sends until the kill; gives what was acknowledged.
fn storm_once(server: &mut Server, next: &Arc<AtomicU64>, life: Duration) -> anyhow::Result<Vec<u64>> {
    let port = server.port(Port::Mx);
    let sessions: Vec<_> = (0..SESSIONS)
        .map(|session| {
            let next = next.clone();
            std::thread::spawn(move || storm(port, session, &next))
        })
        .collect();
    std::thread::sleep(life);
    server.kill()?;
    let mut acknowledged = Vec::new();
    for session in sessions {
        acknowledged.extend(session.join().map_err(|_| anyhow::anyhow!("a session panicked"))?);
    }
    Ok(acknowledged)
}

fn storm(port: u16, session: usize, next: &AtomicU64) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    let Ok(mut client) = Smtp::connect(port) else { return acknowledged };
    loop {
        // One recipient, or as many as the number of the session, at several domains of the same next hop.
        let serials: Vec<u64> = (0..=session as u64 % 3).map(|_| next.fetch_add(1, Ordering::Relaxed)).collect();
        let names: Vec<String> =
            serials.iter().map(|serial| recipient(*serial, &format!("d{}.example", serial % 5))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let text = format!("From: brian@example.net\r\nSubject: out\r\n\r\n{}", "word ".repeat(session * 100));
        match client.send("brian@example.net", &names, &text) {
            Ok(_) => acknowledged.extend(serials),
            Err(_) => return acknowledged,
        }
    }
}

/// The conservation of mail; gives how much is still on its way.
fn audit(server: &Server) -> anyhow::Result<u64> {
    let facts: serde_json::Value = serde_json::from_str(&server.command(&["queue", "audit", "--json"])?)?;
    ensure!(facts["balanced"] == true && facts["bounced"] == 0, "{facts}");
    facts["waiting"].as_u64().context("waiting")
}

fn drain(server: &Server) -> anyhow::Result<()> {
    let begun = Instant::now();
    while audit(server)? > 0 {
        ensure!(begun.elapsed() < DRAIN_MAX, "the queue is not empty:\n{}", server.command(&["queue", "summary"])?);
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn judge(sink: &Sink, acknowledged: &[u64], sent: u64, kills: u64, tally: &mut Tally) -> anyhow::Result<()> {
    let lost: Vec<u64> = acknowledged.iter().copied().filter(|serial| sink.arrival(*serial).is_none()).collect();
    if let Some(first) = lost.first() {
        bail!("{} of {} acknowledged recipients never came, such as {first}", lost.len(), acknowledged.len());
    }
    tally.acknowledged = acknowledged.len() as u64;
    tally.repeated = sink.arrivals(0..sent).iter().filter(|arrival| arrival.times > 1).count() as u64;
    // A transaction may have several recipients, 3 of one message at most.
    let bound = kills * CONNECTIONS * 3;
    ensure!(tally.repeated <= bound, "{} recipients came more than once, {bound} may", tally.repeated);
    ensure!(tally.acknowledged > kills * 10, "{} acknowledged: no storm", tally.acknowledged);
    Ok(())
}
