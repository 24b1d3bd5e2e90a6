//! Nobody waits for somebody else's backlog.

use crate::{at, destination, entry};
use mail::QueueId;
use mail::queue::{QueueState, UnixMillis};
use queue::{
    Contact, DestinationLimits, Errand, Feedback, Flush, Job, RateLimit, RetryPlan, Schedule, ScheduleSettings,
};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

fn schedule() -> Schedule {
    Schedule::new(ScheduleSettings::default(), at(0))
}

/// Reports all recipients of a job alike, and its courier goes home.
fn finish(schedule: &mut Schedule, job: Job, state: Option<QueueState>, contact: Contact, now: UnixMillis) -> Feedback {
    let results: Vec<_> = job.recipients.iter().map(|number| (*number, state)).collect();
    let destination = job.destination.clone();
    let feedback = schedule.report(job, &results, contact, now);
    schedule.release(&destination, now);
    feedback
}

/// Fails until the destination is down, and says until when.
fn bring_down(schedule: &mut Schedule, now: UnixMillis) -> UnixMillis {
    loop {
        let job = schedule.next(now).expect("something due");
        let later = Some(QueueState::Waiting(UnixMillis(now.0 + 300_000)));
        if let Feedback::Down(until) = finish(schedule, job, later, Contact::Failed, now) {
            return until;
        }
    }
}

#[test]
fn a_backlog_of_one_destination_delays_the_others_by_one_round() {
    let mut schedule = schedule();
    for message in 0..10_000 {
        schedule.insert(&entry(message, 0, 1, at(0)), &destination(0), at(0));
    }
    for number in 1..10 {
        schedule.insert(&entry(20_000 + number as u64, 0, 1, at(1)), &destination(number), at(1));
    }
    let served: Vec<_> = (0..10).map(|_| schedule.next(at(1)).expect("due").destination).collect();
    let expected: Vec<_> = (0..10).map(destination).collect();
    assert_eq!(served, expected, "one courier each before anybody has a second");
}

#[test]
fn a_backlog_of_one_sender_delays_the_others_by_one_round() {
    let mut schedule = schedule();
    for message in 0..10_000 {
        schedule.insert(&entry(message, 0, 1, at(0)), &destination(0), at(0));
    }
    let first = schedule.next(at(1)).expect("due");
    for sender in 2..6 {
        schedule.insert(&entry(20_000 + sender as u64, 0, sender, at(1)), &destination(0), at(1));
    }
    let mut served = vec![first.message.0];
    let mut job = first;
    for _ in 0..6 {
        schedule.report(job, &[(0, None)], Contact::Reached, at(1));
        job = schedule.next_for(&destination(0), at(1)).expect("due");
        served.push(job.message.0);
    }
    assert_eq!(served, [0, 1, 20_002, 20_003, 20_004, 20_005, 2]);
}

#[test]
fn a_list_with_a_reverse_path_for_each_member_is_one_sender() {
    let mut schedule = schedule();
    for message in 0..1_000 {
        let mut row = entry(message, 0, 1, at(0));
        row.sender = format!("list+m{message}@example.net");
        schedule.insert(&row, &destination(0), at(0));
    }
    schedule.insert(&entry(9_999, 0, 2, at(0)), &destination(0), at(0));
    let served = [(); 2].map(|()| schedule.next(at(0)).expect("due").message.0);
    assert_eq!(served, [0, 9_999]);
}

#[test]
fn recipients_of_a_message_go_together_up_to_the_limit() {
    let mut schedule = schedule();
    for number in 0..120 {
        schedule.insert(&entry(7, number, 1, at(0)), &destination(0), at(0));
    }
    schedule.insert(&entry(7, 120, 1, at(0)), &destination(1), at(0));
    schedule.insert(&entry(8, 0, 1, at(0)), &destination(0), at(0));
    let mut sizes = Vec::new();
    while let Some(job) = schedule.next(at(0)) {
        sizes.push((job.destination.clone(), job.message.0, job.recipients.len()));
    }
    let [a, b] = [0, 1].map(destination);
    assert_eq!(sizes, [(a.clone(), 7, 50), (b, 7, 1), (a.clone(), 7, 50), (a.clone(), 7, 20), (a, 8, 1)]);
}

#[test]
fn r216_five_hundred_messages_and_never_more_than_twenty_couriers() {
    let mut schedule = schedule();
    for message in 0..500 {
        schedule.insert(&entry(message, 0, 1, at(0)), &destination(0), at(0));
    }
    let mut most = 0;
    let mut widths = Vec::new();
    let mut delivered = 0;
    while delivered < 500 {
        let mut jobs: Vec<Job> = std::iter::from_fn(|| schedule.next(at(0))).collect();
        most = most.max(schedule.couriers());
        widths.push(schedule.couriers());
        for job in jobs.drain(..) {
            delivered += 1;
            assert_eq!(finish(&mut schedule, job, None, Contact::Reached, at(0)), Feedback::None);
        }
    }
    assert_eq!(most, 20);
    assert_eq!(widths[..4], [5, 8, 11, 14]);
    assert_eq!(schedule.couriers(), 0);
}

#[test]
fn r216_a_courier_keeps_its_connection_and_its_place() {
    let limits = DestinationLimits { couriers_max: 1, ..DestinationLimits::default() };
    let mut schedule = Schedule::new(ScheduleSettings { limits, ..ScheduleSettings::default() }, at(0));
    for message in 0..4 {
        schedule.insert(&entry(message, 0, 1, at(0)), &destination(0), at(0));
    }
    assert_eq!(schedule.next_for(&destination(0), at(0)), None, "it has no courier yet");
    let mut job = schedule.next(at(0)).expect("due");
    for message in 1..4 {
        assert_eq!(schedule.next(at(0)), None, "one courier is all it bears");
        schedule.report(job, &[(0, None)], Contact::Reached, at(0));
        job = schedule.next_for(&destination(0), at(0)).expect("due");
        assert_eq!(job.message.0, message);
    }
    finish(&mut schedule, job, None, Contact::Reached, at(0));
    assert_eq!((schedule.couriers(), schedule.wake_at()), (0, None));
    assert!(schedule.summary(at(0)).is_empty());
}

#[test]
fn a_courier_learns_that_others_wait() {
    let mut schedule = Schedule::new(ScheduleSettings { couriers_max: 1, ..ScheduleSettings::default() }, at(0));
    schedule.insert(&entry(1, 0, 1, at(0)), &destination(0), at(0));
    schedule.insert(&entry(2, 0, 1, at(0)), &destination(0), at(0));
    let _first = schedule.next(at(0)).expect("due");
    assert!(!schedule.others_wait(&destination(0), at(0)), "only its own mail waits");
    schedule.insert(&entry(3, 0, 1, at(10)), &destination(1), at(0));
    assert!(!schedule.others_wait(&destination(0), at(9)));
    assert!(schedule.others_wait(&destination(0), at(10)));
}

#[test]
fn what_is_down_rests_is_probed_once_and_costs_the_others_nothing() {
    let mut schedule = schedule();
    for message in 0..1_000 {
        schedule.insert(&entry(message, 0, 1, at(0)), &destination(0), at(0));
    }
    let until = bring_down(&mut schedule, at(0));
    assert_eq!(until, at(300));
    schedule.insert(&entry(5_000, 0, 1, at(0)), &destination(1), at(0));
    let other = schedule.next(at(0)).expect("another destination");
    assert_eq!(other.destination, destination(1));
    finish(&mut schedule, other, None, Contact::Reached, at(0));
    assert_eq!(schedule.next(at(299)), None);
    assert_eq!(schedule.wake_at(), Some(at(300)));
    let summary = &schedule.summary(at(299))[0];
    assert_eq!((summary.due, summary.waiting, summary.down_until), (0, 1_000, Some(at(300))));

    let probe = schedule.next(at(300)).expect("a probe");
    assert_eq!(probe.errand, Errand::Probe);
    assert_eq!(schedule.next(at(300)), None, "one probe");
    let later = Some(QueueState::Waiting(at(900)));
    assert_eq!(finish(&mut schedule, probe, later, Contact::Failed, at(330)), Feedback::Down(at(930)));
    assert_eq!(schedule.wake_at(), Some(at(930)));

    let probe = schedule.next(at(930)).expect("a probe");
    assert_eq!(finish(&mut schedule, probe, None, Contact::Reached, at(930)), Feedback::Up);
    let jobs: Vec<Job> = std::iter::from_fn(|| schedule.next(at(930))).collect();
    assert_eq!(jobs.len(), 5);
    assert!(jobs.iter().all(|job| job.errand == Errand::Deliver));
}

#[test]
fn a_flush_wakes_a_destination_that_is_down() {
    let mut schedule = schedule();
    for message in 0..10 {
        schedule.insert(&entry(message, 0, 1, at(0)), &destination(0), at(0));
    }
    bring_down(&mut schedule, at(0));
    assert_eq!(schedule.next(at(1)), None);
    assert_eq!(schedule.flush(Flush::Destination(&destination(1)), at(1)), 0);
    assert_eq!(schedule.next(at(1)), None);
    assert_eq!(schedule.flush(Flush::Destination(&destination(0)), at(1)), 10);
    assert_eq!(std::iter::from_fn(|| schedule.next(at(1))).count(), 5);
}

#[test]
fn a_flush_of_one_message_wakes_its_destination_alone() {
    let mut schedule = schedule();
    for number in [0, 1] {
        for message in 0..10 {
            schedule.insert(&entry(100 * number + message, 0, 1, at(0)), &destination(number as usize), at(0));
        }
    }
    bring_down(&mut schedule, at(0));
    bring_down(&mut schedule, at(0));
    assert_eq!(schedule.next(at(1)), None);
    assert_eq!(schedule.flush(Flush::Recipients(QueueId(107), &[0, 1]), at(1)), 1);
    let served: Vec<_> = std::iter::from_fn(|| schedule.next(at(1))).map(|job| job.destination).collect();
    assert_eq!(served, vec![destination(1); 5]);
}

#[test]
fn what_was_overdue_when_its_destination_came_up_is_so_again_when_it_goes_down() {
    const LATE: u64 = 6 * 86_400;
    let mut schedule = schedule();
    for message in 0..10 {
        schedule.insert(&entry(message, 0, 1, at(0)), &destination(0), at(0));
    }
    bring_down(&mut schedule, at(LATE));
    assert_eq!(schedule.wake_at(), Some(UnixMillis(0)), "they are listed");
    assert_eq!(schedule.flush(Flush::All, at(LATE)), 10);
    assert_eq!(schedule.overdue(at(LATE)), None, "they are tried instead");
    // Those that are tried are given up: the rest was not looked at since.
    let mut given_up = 0;
    while let Some(job) = schedule.next(at(LATE)) {
        given_up += 1;
        finish(&mut schedule, job, None, Contact::Failed, at(LATE));
    }
    assert!(given_up < 10);
    assert_eq!(std::iter::from_fn(|| schedule.overdue(at(LATE))).count(), 10 - given_up);
}

/// A destination that never answers for six days, with new mail all the time: R211 holds for what is never tried, too.
#[test]
fn r211_mail_for_a_destination_that_is_down_bounces_after_five_days() {
    const DAY: u64 = 86_400;
    let plan = RetryPlan { delay_notice: Some(Duration::from_secs(4 * 3_600)), ..RetryPlan::default() };
    let settings = ScheduleSettings { plan: plan.clone(), ..ScheduleSettings::default() };
    let mut schedule = Schedule::new(settings, at(0));
    let mut arrived: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut told, mut bounced): (BTreeMap<u64, u64>, BTreeMap<u64, u64>) = Default::default();
    let mut tries = 0;
    for minute in 0..6 * 24 * 60 {
        let now = minute * 60;
        if minute % 10 == 0 && now < 9 * DAY / 10 {
            let mut row = entry(minute, 0, 1 + minute as usize % 3, at(now));
            row.arrived = at(now);
            schedule.insert(&row, &destination(0), at(now));
            arrived.insert(minute, now);
        }
        while let Some(job) = schedule.next(at(now)) {
            tries += 1;
            let message = job.message.0;
            let standing = queue::Standing { id: job.message, arrived: at(arrived[&message]), is_bounce: false };
            let state = match plan.next(standing, at(now)) {
                queue::Next::RetryAt(due) => Some(QueueState::Waiting(due)),
                queue::Next::GiveUp => {
                    bounced.insert(message, now - arrived[&message]);
                    None
                }
            };
            finish(&mut schedule, job, state, Contact::Failed, at(now));
        }
        while let Some(job) = schedule.overdue(at(now)) {
            let message = job.message.0;
            let age = now - arrived[&message];
            let results = if age < 5 * DAY {
                assert_eq!(told.insert(message, age), None, "told once");
                vec![]
            } else {
                bounced.insert(message, age);
                vec![(0, None)]
            };
            schedule.report(job, &results, Contact::Unknown, at(now));
        }
    }
    assert!(tries < 150, "{tries} tries for {} messages", arrived.len());
    assert_eq!(bounced.len(), arrived.len(), "nothing is left");
    assert_eq!(schedule.counts(), queue::Counts::default());
    for (message, age) in bounced {
        assert!((5 * DAY..=5 * DAY + 4_300).contains(&age), "{message} bounced at {age} s");
    }
    for (message, age) in &told {
        assert!((4 * 3_600..=4 * 3_600 + 4_300).contains(age), "{message} was told of at {age} s");
    }
    assert!(told.len() + 5 > arrived.len(), "{} of {} were told of", told.len(), arrived.len());
}

#[test]
fn a_rate_is_kept_even_if_the_queue_runs_empty_in_between() {
    let number = |number| NonZeroU32::new(number).expect("not zero");
    let rate = Some(RateLimit { per_minute: number(6), burst: number(1) });
    let limits = DestinationLimits { rate, ..DestinationLimits::default() };
    let settings = ScheduleSettings { limits_of: BTreeMap::from([(destination(0), limits)]), ..Default::default() };
    let mut schedule = Schedule::new(settings, at(0));
    let mut starts = Vec::new();
    for second in 0..60 {
        // A message each second would be ten times too much; there are never two in the queue for long.
        if second % 5 == 0 {
            schedule.insert(&entry(second, 0, 1, at(second)), &destination(0), at(second));
            schedule.insert(&entry(second, 0, 1, at(second)), &destination(1), at(second));
        }
        while let Some(job) = schedule.next(at(second)) {
            if job.destination == destination(0) {
                starts.push(second);
            }
            finish(&mut schedule, job, None, Contact::Reached, at(second));
        }
    }
    assert_eq!(starts, [0, 10, 20, 30, 40, 50]);
}

#[test]
fn a_clock_set_back_delays_nothing_for_long() {
    let mut schedule = schedule();
    for message in 0..10 {
        schedule.insert(&entry(message, 0, 1, at(100_000)), &destination(0), at(100_000));
    }
    bring_down(&mut schedule, at(100_000));
    assert_eq!(schedule.next(at(0)), None);
    let wake = schedule.wake_at().expect("they wait");
    assert!(wake <= at(8_000), "{wake:?}");
    assert!(schedule.next(wake).is_some());
    // A row of another time.
    let mut schedule = Schedule::new(ScheduleSettings::default(), at(0));
    schedule.insert(&entry(1, 0, 1, at(1_000_000)), &destination(0), at(0));
    assert_eq!(schedule.wake_at(), Some(at(8_000)));
}

#[test]
fn what_is_held_in_flight_follows_its_job() {
    let mut schedule = schedule();
    for number in 0..4 {
        schedule.insert(&entry(1, number, 1, at(0)), &destination(0), at(0));
    }
    let job = schedule.next(at(0)).expect("due");
    let (message, later) = (job.message, Some(QueueState::Waiting(at(300))));
    assert!(schedule.set_state(message, 1, QueueState::Held, at(0)));
    assert!(schedule.set_state(message, 2, QueueState::Held, at(0)));
    assert_eq!(schedule.counts().in_flight, 4);
    let results = [(0, None), (1, later), (2, None), (3, later), (3, None), (77, None)];
    schedule.report(job, &results, Contact::Reached, at(1));
    assert_eq!(
        [0, 1, 2, 3].map(|number| schedule.state(message, number)),
        [None, Some(queue::EntryState::Held), None, Some(queue::EntryState::Waiting(at(300))),]
    );
}

/// Its job read the row while it was held, and says so after it was released.
#[test]
fn what_is_released_in_flight_is_not_held_by_its_job() {
    let mut schedule = schedule();
    for number in 0..3 {
        schedule.insert(&entry(1, number, 1, at(0)), &destination(0), at(0));
    }
    let job = schedule.next(at(0)).expect("due");
    let message = job.message;
    for number in [0, 1] {
        assert!(schedule.set_state(message, number, QueueState::Held, at(0)));
        assert!(schedule.set_state(message, number, QueueState::Waiting(at(0)), at(0)));
    }
    let results = [(0, Some(QueueState::Held)), (1, Some(QueueState::Waiting(at(300)))), (2, Some(QueueState::Held))];
    schedule.report(job, &results, Contact::Reached, at(60));
    let states = [at(60), at(300)].map(|due| Some(queue::EntryState::Waiting(due)));
    assert_eq!([0, 1].map(|number| schedule.state(message, number)), states);
    assert_eq!(schedule.state(message, 2), Some(queue::EntryState::Held));
}

#[test]
fn ages_are_told_as_qshape_does() {
    let mut schedule = schedule();
    for (message, minutes) in [0, 4, 5, 39, 1_279, 1_280, 9_999].into_iter().enumerate() {
        let mut row = entry(message as u64, 0, 1, at(0));
        row.arrived = at(600_000 - minutes * 60);
        schedule.insert(&row, &destination(0), at(600_000));
    }
    let summary = schedule.summary(at(600_000));
    assert_eq!(summary[0].ages, [2, 1, 0, 1, 0, 0, 0, 0, 1, 2]);
    assert_eq!(summary[0].oldest, Some(at(600_000 - 9_999 * 60)));
}
