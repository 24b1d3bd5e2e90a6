//! Mail that leaves: from a trusted client through the server to a sink, beside Postfix.
//!
//! Both servers flush a message to disk before they acknowledge it, may open as many connections, look nothing up in DNS
//! and find the same sink. Postfix keeps its defaults elsewhere.

mod inject;
mod subject;

use super::report::{Results, Row, table};
use crate::sink::Sink;
use anyhow::ensure;
use inject::{Load, Sent};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use subject::{CONNECTIONS_PER_DESTINATION, Pillarbox, Postfix, Sending};

/// The heading of the section of `docs/book/performance.md`.
pub const HEADING: &str = "## Mail that leaves";
/// The destination that is down.
const DEAD: &str = "dead.example";
/// The destination of the load with one.
const ONE: &str = "far.example";
/// Destinations of the load with many.
const DESTINATIONS: u8 = 100;
/// Sessions that hand mail over.
const SESSIONS: u64 = 20;
/// Octets of a message, and of one that waits in the long queue.
const OCTETS: usize = 4_096;
const OCTETS_WAITING: usize = 1_024;
/// Longest wait for the last message of a load.
const DELIVERY_MAX: Duration = Duration::from_secs(180);
/// What a server at rest gets to come to rest.
const REST: Duration = Duration::from_secs(3);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Runs of each load, after one that does not count.
    pub runs: u64,
    /// Messages of a load.
    pub messages: u64,
    /// Messages a second while latency is measured.
    pub rate: u32,
    /// Seconds that latency is measured.
    pub seconds: u64,
    /// Messages in the long queue.
    pub queue: u64,
    /// The same for Postfix, which takes too long to fill.
    pub queue_reference: u64,
}

/// Measures both in turn.
pub fn measure(lab: &Path, size: Size, only: Option<&str>) -> anyhow::Result<Vec<Results>> {
    let mut hosts: Vec<Ipv4Addr> = (1..=DESTINATIONS).map(|number| Ipv4Addr::new(127, 0, 9, number)).collect();
    hosts.push(Ipv4Addr::LOCALHOST);
    let mut all = Vec::new();
    if only.is_none_or(|only| only == "reference") {
        let sink = Sink::start(&hosts, Duration::ZERO)?;
        let mut postfix = Postfix::start(&lab.join("postfix"), &routes(&sink))?;
        all.push(Run { sink, size, next: 0 }.measure(&mut postfix)?);
    }
    if only.is_none_or(|only| only == "pillarbox") {
        let sink = Sink::start(&hosts, Duration::ZERO)?;
        let mut pillarbox = Pillarbox::start(&lab.join("outbound"), &routes(&sink))?;
        all.push(Run { sink, size, next: 0 }.measure(&mut pillarbox)?);
    }
    Ok(all)
}

/// Domain number so and so.
fn domain(number: u8) -> String {
    format!("d{number}.example")
}

fn routes(sink: &Sink) -> String {
    let port = sink.port();
    let mut routes: Vec<(String, String)> =
        (1..=DESTINATIONS).map(|number| (domain(number), format!("[127.0.9.{number}]:{port}"))).collect();
    routes.push((ONE.to_owned(), format!("[127.0.0.1]:{port}")));
    // Port 1 of loopback: nobody listens, and connections are refused at once.
    routes.push((DEAD.to_owned(), "[127.0.0.1]:1".to_owned()));
    subject::transports(&routes)
}

/// One server's turn.
struct Run {
    sink: Sink,
    size: Size,
    /// Messages that were sent to the sink so far.
    next: u64,
}

impl Run {
    fn measure(&mut self, subject: &mut dyn Sending) -> anyhow::Result<Results> {
        let mut results = Results::new(subject.name());
        let one = [ONE.to_owned()];
        let many: Vec<String> = (1..=DESTINATIONS).map(domain).collect();
        if let Some(ours) = subject.pillarbox() {
            results.set("rest", ours.memory_mib()?);
        }
        self.limit(&one, &mut results)?;
        for (key, domains) in [("one", one.as_slice()), ("many", many.as_slice())] {
            self.throughput(subject, domains, None)?;
            for _ in 0..self.size.runs {
                self.throughput(subject, domains, Some((key, &mut results)))?;
            }
        }
        for _ in 0..self.size.runs {
            self.latency(subject, &one, &mut results)?;
        }
        self.queue(subject, &mut results)?;
        Ok(results)
    }

    /// What load and sink can do without a server between them.
    fn limit(&mut self, domains: &[String], results: &mut Results) -> anyhow::Result<()> {
        let serials = self.next..self.next + self.size.messages;
        self.next = serials.end;
        let load = Load { port: self.sink.port(), sessions: SESSIONS, serials, domains, octets: OCTETS, rate: None };
        let begun = std::time::Instant::now();
        load.run()?;
        results.set("limit", self.size.messages as f64 / begun.elapsed().as_secs_f64());
        Ok(())
    }

    fn throughput(
        &mut self,
        subject: &dyn Sending,
        domains: &[String],
        figures: Option<(&str, &mut Results)>,
    ) -> anyhow::Result<()> {
        self.sink.take_open_max();
        let sent = self.send(subject, domains, SESSIONS, None)?;
        let connections = self.sink.take_open_max();
        let begun = sent.iter().map(|sent| sent.begun).min();
        let accepted = sent.iter().map(|sent| sent.acknowledged).max();
        let arrived = sent.iter().filter_map(|sent| self.sink.arrival(sent.serial)).map(|arrival| arrival.at).max();
        let (Some(begun), Some(accepted), Some(arrived)) = (begun, accepted, arrived) else { return Ok(()) };
        let per_second = |end: std::time::Instant| sent.len() as f64 / (end - begun).as_secs_f64();
        eprintln!(
            "{}: {} destinations, {:.0} accepted/s, {:.0} delivered/s, {connections} connections{}",
            subject.name(),
            domains.len(),
            per_second(accepted),
            per_second(arrived),
            if figures.is_some() { "" } else { " (warm-up)" }
        );
        if let Some((key, results)) = figures {
            results.set(&format!("{key}|delivered"), per_second(arrived));
            results.set(&format!("{key}|accepted"), per_second(accepted));
        }
        Ok(())
    }

    fn latency(&mut self, subject: &dyn Sending, domains: &[String], results: &mut Results) -> anyhow::Result<()> {
        let rate = self.size.rate;
        let sent = self.send(subject, domains, 4, Some(rate))?;
        let mut accepted: Vec<Duration> = sent.iter().map(|sent| sent.acknowledged - sent.begun).collect();
        let mut delivered: Vec<Duration> = sent
            .iter()
            .filter_map(|sent| Some(self.sink.arrival(sent.serial)?.at.saturating_duration_since(sent.begun)))
            .collect();
        for (key, times) in [("accepted", &mut accepted), ("delivered", &mut delivered)] {
            times.sort();
            for (name, share) in [("p50", 0.50), ("p99", 0.99)] {
                results.set(&format!("latency|{key}|{name}"), quantile_ms(times, share));
            }
        }
        eprintln!(
            "{}: at {rate}/s, delivered after {:.1} ms (p50), {:.1} ms (p99)",
            subject.name(),
            quantile_ms(&delivered, 0.50),
            quantile_ms(&delivered, 0.99)
        );
        Ok(())
    }

    /// Hands messages over and waits until the sink has them all.
    fn send(
        &mut self,
        subject: &dyn Sending,
        domains: &[String],
        sessions: u64,
        rate: Option<u32>,
    ) -> anyhow::Result<Vec<Sent>> {
        let count = rate.map_or(self.size.messages, |rate| u64::from(rate) * self.size.seconds);
        let serials: Range<u64> = self.next..self.next + count;
        self.next = serials.end;
        let load = Load { port: subject.port(), sessions, serials: serials.clone(), domains, octets: OCTETS, rate };
        let sent = load.run()?;
        self.sink.wait_for(serials.end as usize, DELIVERY_MAX)?;
        let again = self.sink.arrivals(serials).iter().filter(|arrival| arrival.times > 1).count();
        ensure!(again == 0, "{again} messages came more than once");
        Ok(sent)
    }

    /// Fills the queue with mail for a destination that is down, and looks at it.
    fn queue(&self, subject: &mut dyn Sending, results: &mut Results) -> anyhow::Result<()> {
        let is_ours = subject.pillarbox().is_some();
        let count = if is_ours { self.size.queue } else { self.size.queue_reference };
        let domains = [DEAD.to_owned()];
        let serials = self.next..self.next + count;
        let load = Load {
            port: subject.port(),
            sessions: SESSIONS,
            serials,
            domains: &domains,
            octets: OCTETS_WAITING,
            rate: None,
        };
        let begun = std::time::Instant::now();
        load.run()?;
        let per_second = count as f64 / begun.elapsed().as_secs_f64();
        eprintln!("{}: {count} messages wait, {per_second:.0} accepted/s", subject.name());
        results.set("queue|fill", per_second);
        std::thread::sleep(REST);
        if let Some(ours) = subject.pillarbox() {
            self.our_queue(ours, results)?;
        }
        for _ in 0..self.size.runs {
            results.set("queue|list", ms(subject.list(self.size.queue_reference)?));
        }
        Ok(())
    }

    fn our_queue(&self, ours: &mut Pillarbox, results: &mut Results) -> anyhow::Result<()> {
        results.set("queue|filled", ours.memory_mib()?);
        for _ in 0..self.size.runs {
            let start = ours.restart()?;
            results.set("queue|greeting", start.greeting_ms);
            results.set("queue|loaded", start.loaded_ms);
            std::thread::sleep(REST);
            results.set("queue|rest", ours.memory_mib()?);
            results.set("queue|list1000", ms(ours.list(1_000)?));
            results.set("queue|summary", ms(ours.command(&["queue", "summary"])?));
            results.set("queue|audit", ms(ours.audit()?));
        }
        let waiting = ours.waiting()?;
        ensure!(waiting == self.size.queue, "{waiting} messages wait, not {}", self.size.queue);
        Ok(())
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A quantile of sorted times, in milliseconds.
fn quantile_ms(times: &[Duration], share: f64) -> f64 {
    let place = (times.len().saturating_sub(1) as f64 * share).round() as usize;
    times.get(place).copied().map_or(0.0, ms)
}

/// The section of the page.
pub fn section(all: &[Results], size: Size) -> String {
    let Size { runs, messages, rate, seconds, queue, queue_reference } = size;
    let limits = all.iter().filter_map(|results| results.median("limit")).map(|(middle, _, _)| middle);
    let limit = limits.fold(f64::INFINITY, f64::min);
    let listed = format!("listing {queue_reference} waiting messages, ms");
    let rows: [Row<'_>; 18] = [
        ("1 destination, 20 connections, delivered/s", "one|delivered", true, "3 ×"),
        ("… acknowledged/s meanwhile", "one|accepted", true, ""),
        ("100 destinations, 100 connections in all, delivered/s", "many|delivered", true, "3 ×"),
        ("… acknowledged/s meanwhile", "many|accepted", true, ""),
        ("MAIL to 250, p50, ms", "latency|accepted|p50", false, ""),
        ("MAIL to 250, p99, ms", "latency|accepted|p99", false, ""),
        ("MAIL to arrival at the sink, p50, ms", "latency|delivered|p50", false, ""),
        ("MAIL to arrival at the sink, p99, ms", "latency|delivered|p99", false, ""),
        ("long queue: acknowledged/s while it fills", "queue|fill", true, ""),
        (&listed, "queue|list", false, ""),
        ("long queue: `queue list --limit 1000`, ms", "queue|list1000", false, ""),
        ("long queue: `queue summary`, ms", "queue|summary", false, ""),
        ("long queue: `queue audit`, ms", "queue|audit", false, ""),
        ("long queue: start after kill -9 to first greeting, ms", "queue|greeting", false, ""),
        ("long queue: start after kill -9 to all in memory, ms", "queue|loaded", false, ""),
        ("memory at rest, empty queue, MiB", "rest", false, ""),
        ("memory when the long queue has been filled, MiB", "queue|filled", false, ""),
        ("memory at rest after a start with the long queue, MiB", "queue|rest", false, ""),
    ];
    format!(
        "{HEADING}\n\nWritten by `cargo xtask bench outbound`, both servers in one run: Postfix by itself with its defaults, and \
         pillarbox. Each message is on disk before it is acknowledged. {SESSIONS} sessions hand over {messages} messages of 4 KiB \
         with one recipient each; time counts from the first MAIL until the sink has the last message. Routes come from a \
         table, without DNS or TLS. Either may open {CONNECTIONS_PER_DESTINATION} connections to a destination and 100 in all, those \
         that Postfix keeps open for later not counted. Straight into the sink, the same sessions bring {limit:.0} messages a \
         second. Latency is that of \
         {rate} messages a second for {seconds} s. The long queue waits for a destination that refuses connections: {queue} messages \
         of 1 KiB in pillarbox, {queue_reference} in Postfix. Medians of {runs} runs (least–greatest). A ratio above 1 means that \
         pillarbox is better.\n\n{}",
        table(&rows, all)
    )
}
