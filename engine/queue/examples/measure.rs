//! What a long queue costs: memory of an entry, start-up, jobs, a destination that is down. Measures, asserts nothing.
//!
//! `measure [entries]`, by default 100,000. Memory is what the process grows by, as Linux tells it.

use mail::queue::{QueueEntry, QueueState, UnixMillis};
use mail::{Address, QueueId};
use queue::{Contact, DestinationKey, Feedback, Flush, Job, Schedule, ScheduleSettings};
use std::time::{Duration, Instant};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// A shape of a queue: how many destinations and senders its entries have.
struct Shape {
    name: &'static str,
    destinations: usize,
    senders: usize,
}

const SHAPES: [Shape; 4] = [
    Shape { name: "one destination, one sender", destinations: 1, senders: 1 },
    Shape { name: "1,000 destinations, 10 senders", destinations: 1_000, senders: 10 },
    Shape { name: "1,000 destinations, 1,000 senders", destinations: 1_000, senders: 1_000 },
    Shape { name: "each its own destination and sender", destinations: usize::MAX, senders: usize::MAX },
];

fn main() {
    let entries = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    for (place, shape) in SHAPES.iter().enumerate() {
        // A process of its own for each, so that memory of the one before does not hide that of the next.
        if std::env::args().nth(2).is_none() {
            let program = std::env::current_exe().expect("a program");
            let status = std::process::Command::new(program).args([entries.to_string(), place.to_string()]).status();
            assert!(status.is_ok_and(|status| status.success()));
        } else if std::env::args().nth(2) == Some(place.to_string()) {
            println!("{} entries, {}:", entries, shape.name);
            measure(shape, entries);
        }
    }
}

fn measure(shape: &Shape, entries: usize) {
    let address = Address::parse("alice@example.org").expect("an address");
    let before = resident_octets();
    let mut schedule = Schedule::new(ScheduleSettings::default(), NOW);
    let mut inserting = Duration::ZERO;
    for place in 0..entries {
        let (entry, destination) = row(shape, place, &address);
        let begin = Instant::now();
        schedule.insert(&entry, &destination, NOW);
        inserting += begin.elapsed();
    }
    told("insert all", inserting, entries);
    println!("  {:32} {:8.1} octets an entry", "memory", (resident_octets() - before) as f64 / entries as f64);
    timed("summary", entries, || schedule.summary(NOW).len());
    timed("flush all", entries, || schedule.flush(Flush::All, NOW));
    down(&mut schedule, entries);
    schedule.flush(Flush::All, NOW);
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut jobs = 0;
    loop {
        let start = Instant::now();
        let Some(job) = schedule.next(NOW) else { break };
        slowest = slowest.max(start.elapsed());
        finish(&mut schedule, job, None, Contact::Reached, NOW);
        jobs += 1;
    }
    told("next, report, release; settled", begin.elapsed(), jobs);
    println!("  {:32} {:8.1} ms", "slowest next", slowest.as_secs_f64() * 1e3);
}

/// Takes every destination down, then asks a million times for a job that there is not, then lets a day pass.
fn down(schedule: &mut Schedule, entries: usize) {
    let later = Some(QueueState::Waiting(UnixMillis(NOW.0 + 300_000)));
    let begin = Instant::now();
    let mut tries = 0;
    while let Some(job) = schedule.next(NOW) {
        finish(schedule, job, later, Contact::Failed, NOW);
        tries += 1;
    }
    told("all tried until down or deferred", begin.elapsed(), tries);
    let asks = 1_000_000;
    let begin = Instant::now();
    let found = (0..asks).filter(|_| schedule.next(NOW).is_some()).count();
    assert_eq!(found, 0);
    told("next, while nothing can start", begin.elapsed(), asks);
    // Six days at once: the probe finds that everything is overdue.
    let late = UnixMillis(NOW.0 + 6 * 86_400_000);
    let Some(job) = schedule.next(late) else { return };
    let begin = Instant::now();
    let feedback = finish(schedule, job, later, Contact::Failed, late);
    if let Feedback::Down(_) = feedback {
        told("a failed probe lists the overdue", begin.elapsed(), entries);
    }
    while let Some(job) = schedule.overdue(late) {
        schedule.report(job, &[], Contact::Unknown, late);
    }
}

fn finish(schedule: &mut Schedule, job: Job, state: Option<QueueState>, contact: Contact, now: UnixMillis) -> Feedback {
    let results: Vec<_> = job.recipients.iter().map(|number| (*number, state)).collect();
    let destination = job.destination.clone();
    let feedback = schedule.report(job, &results, contact, now);
    schedule.release(&destination, now);
    feedback
}

/// A row as the store gives it: messages with one recipient, accepted over the last day, due over the last hour.
fn row(shape: &Shape, place: usize, address: &Address) -> (QueueEntry, DestinationKey) {
    let scattered = (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let destination = DestinationKey::new(&format!("smtp:d{}.example.org", scattered as usize % shape.destinations));
    let entry = QueueEntry {
        message: QueueId(0x6000_0000_0000 + place as u64 * 977),
        number: 0,
        address: address.clone(),
        sender: format!("s{}@example.net", place.wrapping_mul(7_919) % shape.senders),
        arrived: UnixMillis(NOW.0 - scattered % 86_400_000),
        state: QueueState::Waiting(UnixMillis(NOW.0 - scattered % 3_600_000)),
        attempts: 1,
    };
    (entry, destination)
}

fn timed<T>(what: &str, entries: usize, work: impl FnOnce() -> T) {
    let begin = Instant::now();
    std::hint::black_box(work());
    told(what, begin.elapsed(), entries);
}

fn told(what: &str, time: Duration, count: usize) {
    let each = time.as_nanos() as f64 / count.max(1) as f64;
    println!("  {what:32} {:8.1} ms, {count} times {each:.0} ns", time.as_secs_f64() * 1e3);
}

/// VmRSS of proc_pid_status(5).
fn resident_octets() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
    kibibytes.unwrap_or(0usize) * 1024
}
