//! From what a try gave to what follows: settled, tried again, or given up, and who is told. Pure.

use deliver::{wants_delay, wants_failure, wants_success};
use mail::queue::Outcome;
use mail::{
    Attempt, Event, Happening, QueueChange, QueueState, QueuedMessage, QueuedRecipient, ReversePath, Settled,
    UnixMillis,
};
use queue::{Next, RetryPlan, Standing};
use std::collections::HashSet;
use std::time::Duration;

/// Age at which a sender who asked for it (NOTIFY=DELAY) is told of a delay, where the plan has none for everybody. A report
/// after one failed try would be noise.
const ASKED_FOR_DELAY: Duration = Duration::from_secs(4 * 3_600);

/// What a report tells its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// It will not arrive.
    Failure,
    /// It is late.
    Delay,
    /// It arrived, and that was asked for.
    Success,
}

/// A recipient that somebody is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Who.
    pub recipient: QueuedRecipient,
    /// The try that is told of.
    pub attempt: Attempt,
    /// Until when it is tried; for delays.
    pub until: Option<UnixMillis>,
}

/// What follows from the tries of one job.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Conclusion {
    /// For the store.
    pub changes: Vec<QueueChange>,
    /// For the schedule: the new state of each recipient; `None` when it is settled.
    pub states: Vec<(u32, Option<QueueState>)>,
    /// Who is to be reported as failed, late, delivered.
    pub failed: Vec<Told>,
    /// See [`failed`](Conclusion::failed).
    pub late: Vec<Told>,
    /// See [`failed`](Conclusion::failed).
    pub delivered: Vec<Told>,
}

/// Works out what follows.
///
/// `is_try` is false where nothing was tried and only time has passed ([`queue::Errand::Overdue`]): then a deferral
/// keeps its time and counts as no try.
pub fn conclude(
    message: &QueuedMessage,
    attempts: Vec<(u32, Attempt)>,
    plan: &RetryPlan,
    is_try: bool,
    now: UnixMillis,
) -> Conclusion {
    let mut conclusion = Conclusion::default();
    for (number, attempt) in attempts {
        // Deleted by an administrator meanwhile.
        let Some(recipient) = message.recipients.iter().find(|queued| queued.number == number) else {
            conclusion.states.push((number, None));
            continue;
        };
        conclusion.one(message, recipient, attempt, plan, is_try, now);
    }
    conclusion
}

impl Conclusion {
    /// The same, but these are not given up: nothing changes for them, and the try is only told of.
    pub fn without(mut self, failed: &[Told]) -> Conclusion {
        let of: HashSet<u32> = failed.iter().map(|told| told.recipient.number).collect();
        self.changes.retain(|change| !matches!(change, QueueChange::Settle { number, .. } if of.contains(number)));
        self.states.retain(|(number, _)| !of.contains(number));
        self
    }

    fn one(
        &mut self,
        message: &QueuedMessage,
        recipient: &QueuedRecipient,
        attempt: Attempt,
        plan: &RetryPlan,
        is_try: bool,
        now: UnixMillis,
    ) {
        let is_bounce = message.envelope.reverse_path == ReversePath::Null;
        let standing = Standing { id: message.envelope.id, arrived: message.envelope.arrived, is_bounce };
        if is_try {
            self.tell(message, recipient, now, Happening::Attempted(attempt.clone()));
        }
        match attempt.outcome {
            Outcome::Delivered => {
                self.settle(message, recipient, Settled::Delivered);
                if wants_success(&recipient.recipient) && !attempt.dsn_passed_on {
                    self.delivered.push(told(recipient, attempt, None));
                }
            }
            Outcome::Failed => self.fail(message, recipient, attempt),
            Outcome::Deferred => match plan.next(standing, now) {
                Next::GiveUp => self.fail(message, recipient, expired(attempt)),
                Next::RetryAt(next) => {
                    let until = match recipient.state {
                        QueueState::Waiting(due) if !is_try => due,
                        _ => next,
                    };
                    let by_default = plan.delay_notice.is_some();
                    let notice = Some(plan.delay_notice.unwrap_or(ASKED_FOR_DELAY));
                    let notice = RetryPlan { delay_notice: notice, ..plan.clone() };
                    let is_late = notice.delay_due(standing, recipient.delay_reported, now)
                        && wants_delay(&recipient.recipient, by_default);
                    let state = QueueState::Waiting(until);
                    let attempt_made = is_try.then(|| attempt.clone());
                    if is_try || is_late {
                        self.changes.push(QueueChange::Wait {
                            message: message.envelope.id,
                            number: recipient.number,
                            state,
                            attempt: attempt_made,
                            delay_reported: is_late,
                        });
                    }
                    self.states.push((recipient.number, Some(state)));
                    if is_try {
                        self.tell(message, recipient, now, Happening::Deferred { until });
                    }
                    if is_late {
                        let life = u64::try_from(plan.life_of(is_bounce).as_millis()).unwrap_or(u64::MAX);
                        let end = UnixMillis(message.envelope.arrived.0.saturating_add(life));
                        self.late.push(told(recipient, attempt, Some(end)));
                    }
                }
            },
        }
    }

    fn fail(&mut self, message: &QueuedMessage, recipient: &QueuedRecipient, attempt: Attempt) {
        self.settle(message, recipient, Settled::Bounced);
        // Whether anybody is told is decided where the report is made; the story tells of it in either case.
        self.failed.push(told(recipient, attempt, None));
    }

    fn settle(&mut self, message: &QueuedMessage, recipient: &QueuedRecipient, how: Settled) {
        self.changes.push(QueueChange::Settle { message: message.envelope.id, number: recipient.number, how });
        self.states.push((recipient.number, None));
    }

    fn tell(&mut self, message: &QueuedMessage, recipient: &QueuedRecipient, at: UnixMillis, what: Happening) {
        let event = Event { at, recipient: Some(recipient.recipient.address.to_string()), what };
        self.changes.push(QueueChange::Tell { message: message.envelope.id, event });
    }
}

fn told(recipient: &QueuedRecipient, attempt: Attempt, until: Option<UnixMillis>) -> Told {
    Told { recipient: recipient.clone(), attempt, until }
}

/// A deferral that was one too many (R211): its status becomes permanent. RFC 3463 §3.5: 5.4.7, delivery time expired;
/// the cause stays in the text.
fn expired(attempt: Attempt) -> Attempt {
    let status = mail::EnhancedStatus::new(5, 4, 7);
    Attempt { outcome: Outcome::Failed, status, ..attempt }
}

/// Why nobody is told of a failure, if nobody is.
pub fn silence(message: &QueuedMessage, recipient: &QueuedRecipient) -> Option<&'static str> {
    match (&message.envelope.reverse_path, wants_failure(&recipient.recipient)) {
        // RFC 5321 §6.1.
        (ReversePath::Null, _) => Some("its reverse-path is null: reports about reports are not sent"),
        (ReversePath::Address(_), false) => Some("no report was wanted (NOTIFY)"),
        (ReversePath::Address(_), true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::{Address, BlobId, EnhancedStatus, Notify, QueueId, QueuedEnvelope, Recipient};

    const HOUR: u64 = 3_600_000;

    fn message(reverse_path: &str, notify: &[Option<Notify>]) -> QueuedMessage {
        let path = Address::parse(reverse_path).map_or(ReversePath::Null, ReversePath::Address);
        let recipients = (0..).zip(notify).map(|(number, notify)| QueuedRecipient {
            number,
            recipient: Recipient { notify: *notify, ..Recipient::new(Address::parse("x@y.example").unwrap()) },
            via: None,
            state: QueueState::Waiting(UnixMillis(HOUR)),
            attempts: 1,
            delay_reported: false,
            last: None,
        });
        QueuedMessage {
            envelope: QueuedEnvelope {
                id: QueueId(HOUR * 1_000),
                arrived: UnixMillis(HOUR),
                reverse_path: path,
                account: None,
                eight_bit: false,
                smtputf8: false,
                require_tls: mail::RequireTls::Ordinary,
                dsn_return: None,
                envelope_id: None,
            },
            blob: BlobId(1),
            octets: 1,
            recipients: recipients.collect(),
        }
    }

    fn tried(outcome: Outcome) -> Attempt {
        Attempt::finding(outcome, EnhancedStatus::new(4, 4, 1), "no answer")
    }

    fn after(message: &QueuedMessage, outcome: Outcome, plan: &RetryPlan, hours: u64) -> Conclusion {
        conclude(message, vec![(0, tried(outcome))], plan, true, UnixMillis(HOUR + hours * HOUR))
    }

    #[test]
    fn r211_deferred_for_five_days_then_bounced() {
        let (plan, message) = (RetryPlan::default(), message("a@b.example", &[None]));
        let conclusion = after(&message, Outcome::Deferred, &plan, 1);
        let [(0, Some(QueueState::Waiting(next)))] = conclusion.states[..] else { panic!("{conclusion:?}") };
        assert!(next > UnixMillis(2 * HOUR) && next < UnixMillis(4 * HOUR));
        assert!(conclusion.failed.is_empty() && conclusion.late.is_empty());
        let conclusion = after(&message, Outcome::Deferred, &plan, 5 * 24);
        assert_eq!(conclusion.states, [(0, None)]);
        assert_eq!(conclusion.failed[0].attempt.status, EnhancedStatus::new(5, 4, 7));
        assert!(conclusion.changes.contains(&QueueChange::Settle {
            message: message.envelope.id,
            number: 0,
            how: Settled::Bounced
        }));
    }

    #[test]
    fn delays_are_told_once_to_those_who_want_it() {
        let plan = RetryPlan { delay_notice: Some(Duration::from_secs(3_600)), ..RetryPlan::default() };
        let late = |message: &QueuedMessage, hours| after(message, Outcome::Deferred, &plan, hours).late.len();
        let mut one = message("a@b.example", &[None]);
        assert_eq!((late(&one, 0), late(&one, 2)), (0, 1));
        one.recipients[0].delay_reported = true;
        assert_eq!(late(&one, 2), 0);
        assert_eq!(late(&message("", &[None]), 2), 0, "never to the null reverse-path");
        assert_eq!(late(&message("a@b.example", &[Some(Notify::Never)]), 2), 0);
    }

    #[test]
    fn r98_whoever_asks_for_delays_is_told_of_them() {
        let on = Notify::On { success: false, failure: true, delay: true };
        let late = |notify, hours| {
            after(&message("a@b.example", &[notify]), Outcome::Deferred, &RetryPlan::default(), hours).late.len()
        };
        assert_eq!((late(Some(on), 3), late(Some(on), 5), late(None, 5)), (0, 1, 0));
    }

    #[test]
    fn r98_success_is_told_where_the_next_hop_does_not() {
        let on = Notify::On { success: true, failure: false, delay: false };
        let message = message("a@b.example", &[Some(on)]);
        let plan = RetryPlan::default();
        assert_eq!(after(&message, Outcome::Delivered, &plan, 1).delivered.len(), 1);
        let passed_on = Attempt { dsn_passed_on: true, ..tried(Outcome::Delivered) };
        let conclusion = conclude(&message, vec![(0, passed_on)], &plan, true, UnixMillis(2 * HOUR));
        assert!(conclusion.delivered.is_empty());
        assert_eq!(silence(&message, &message.recipients[0]), Some("no report was wanted (NOTIFY)"));
    }

    #[test]
    fn time_alone_counts_as_no_try() {
        let message = message("a@b.example", &[None]);
        let attempts = vec![(0, tried(Outcome::Deferred)), (7, tried(Outcome::Deferred))];
        let conclusion = conclude(&message, attempts, &RetryPlan::default(), false, UnixMillis(2 * HOUR));
        assert_eq!(conclusion.states, [(0, Some(QueueState::Waiting(UnixMillis(HOUR)))), (7, None)]);
        assert!(conclusion.changes.is_empty(), "what an administrator holds meanwhile stays held");
    }
}
