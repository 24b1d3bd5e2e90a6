//! From a conclusion to the commit of it: with its changes go reports to the sender, as messages of the queue, and what the
//! stories tell. Nothing is committed here.

use crate::outcome::{About, Conclusion, Told, silence};
use deliver::{Accepted, Destined, Intake, QueueIds, Queued, Reading, Signer, Staged};
use directory::{Directory, Route, RouteError};
use mail::queue::Outcome;
use mail::{
    Address, Arrival, Commit, Domain, DsnReturn, Envelope, Event, Happening, InternalDate, Notify, QueueChange,
    QueueId, QueueState, QueuedMessage, Recipient, RequireTls, ReversePath, UnixMillis,
};
use message::report::{Action, Kind, Original, RecipientReport, Report};
use std::sync::Arc;
use store::{MailStore, StoreError};

/// Writes reports about messages.
pub struct Reporter {
    /// Our name.
    pub host_name: String,
    /// Where mail is.
    pub store: Arc<dyn MailStore>,
    /// Where reports go.
    pub directory: Arc<Directory>,
    /// Names reports.
    pub queue_ids: Arc<QueueIds>,
    /// Signs reports.
    pub signer: Option<Arc<Signer>>,
}

/// What is to be made durable, and what is to be told then.
#[derive(Default)]
pub(crate) struct Written {
    pub commit: Commit,
    /// For the schedule: the new state of each recipient; `None` when it is settled.
    pub states: Vec<(u32, Option<QueueState>)>,
    /// For the queue: the reports.
    pub queued: Vec<Queued>,
    /// For the log: why somebody is not told.
    pub unreported: Vec<String>,
    /// Keeps the reports' octets until they are committed.
    _staged: Vec<Staged>,
}

/// A report that is ready to be committed.
struct Made {
    id: QueueId,
    routes: Vec<Route>,
    staged: Staged,
}

impl Reporter {
    /// The name of a message of our own.
    pub fn next_id(&self) -> QueueId {
        self.queue_ids.next()
    }

    /// Everything that follows from a conclusion. Nobody is given up without the report of it: while that cannot be
    /// written, those who failed stay as they are, for another try, and the rest is settled without them. Where there is
    /// nobody to tell, the story says so.
    pub(crate) async fn write(&self, message: &QueuedMessage, mut conclusion: Conclusion) -> Written {
        let mut written = Written::default();
        let (silent, failed): (Vec<Told>, Vec<Told>) = std::mem::take(&mut conclusion.failed)
            .into_iter()
            .partition(|told| silence(message, &told.recipient).is_some());
        for told in silent {
            let why = silence(message, &told.recipient).unwrap_or_default();
            let cause = format!("{} {}; nobody is told: {why}", told.attempt.status, told.attempt.text);
            written.tell(message, &told, Happening::Bounced { cause, report: None });
        }
        if !failed.is_empty() {
            match self.made(message, About::Failure, &failed).await {
                Ok(report) => self.add(message, About::Failure, &failed, report, &mut written),
                Err(error) => {
                    tracing::error!(queue_id = %message.envelope.id, %error, "no report can be written now; tried again");
                    conclusion = conclusion.without(&failed);
                }
            }
        }
        let Conclusion { changes, states, late, delivered, .. } = conclusion;
        for (about, told) in [(About::Delay, late), (About::Success, delivered)] {
            if !told.is_empty() {
                let report = self.made(message, about, &told).await.unwrap_or_else(|error| Err(error.to_string()));
                self.add(message, about, &told, report, &mut written);
            }
        }
        written.commit.queue.splice(..0, changes);
        Written { states, ..written }
    }

    /// A report, or why there is nobody to tell. An error: it cannot be written now.
    async fn made(
        &self,
        message: &QueuedMessage,
        about: About,
        told: &[Told],
    ) -> Result<Result<Made, String>, StoreError> {
        let (to, routes) = match self.routes(message) {
            Ok(way) => way,
            Err(cause) => return Ok(Err(cause.to_owned())),
        };
        let id = self.next_id();
        let staged = self.compose(id, message, to, about, told).await?;
        Ok(Ok(Made { id, routes, staged }))
    }

    fn add(
        &self,
        message: &QueuedMessage,
        about: About,
        told: &[Told],
        report: Result<Made, String>,
        written: &mut Written,
    ) {
        let name = report.map(|Made { id, routes, staged }| {
            let plan = self.plan(id, message, routes, &staged);
            written.commit.queue.extend(plan.commit.queue);
            written.queued.extend(plan.queued);
            written._staged.push(staged);
            id.to_string()
        });
        written.unreported.extend(name.clone().err());
        for told in told {
            written.tell(message, told, happening(about, told, &name));
        }
    }

    /// Who is told, and where that leads; or why nobody is.
    fn routes(&self, message: &QueuedMessage) -> Result<(Address, Vec<Route>), &'static str> {
        let ReversePath::Address(to) = &message.envelope.reverse_path else {
            return Err("its reverse-path is null");
        };
        match self.directory.way(to) {
            Ok(routes) => Ok((to.clone(), routes)),
            Err(RouteError::UnknownUser | RouteError::UnknownRelayRecipient | RouteError::NotOurs) => {
                Err("its reverse-path is an address of ours that does not exist")
            }
            // Whoever mends the tables finds the cause in the story; until then no report could be written, and waiting
            // for it would keep what failed in the queue for good.
            Err(RouteError::LoopOrTooDeep) => {
                Err("its reverse-path is an alias of ours that leads in a circle, too deep or to too many")
            }
        }
    }

    /// The report as a staged message. If the original cannot be read, it goes without it.
    async fn compose(
        &self,
        id: QueueId,
        message: &QueuedMessage,
        to: Address,
        about: About,
        told: &[Told],
    ) -> Result<Staged, StoreError> {
        let now = deliver::now();
        let recipients: Vec<RecipientReport<'_>> = told.iter().map(|told| recipient_report(told, about, now)).collect();
        let postmaster = self.directory.postmaster().map_or("postmaster".to_owned(), |address| address.to_string());
        let (message_id, boundary) = (format!("{id}@{}", self.host_name), format!("{id}.{}", message.envelope.id));
        let report = Report {
            kind: match about {
                About::Failure => Kind::Failure,
                About::Delay => Kind::Delay,
                About::Success => Kind::Success,
            },
            host: &self.host_name,
            postmaster: &postmaster,
            to: &to,
            message_id: &message_id,
            boundary: &boundary,
            date: now.into(),
            envelope_id: message.envelope.envelope_id.as_deref(),
            arrived: message.envelope.arrived.into(),
            queue_id: Some(message.envelope.id),
            recipients: &recipients,
        };
        let original = match self.survey(&report, message).await {
            Ok(original) => Some(original),
            Err(error) => {
                tracing::error!(queue_id = %message.envelope.id, %error, "a report goes without the message");
                None
            }
        };
        self.stage(&report, original.as_ref(), message).await
    }

    async fn survey(&self, report: &Report<'_>, message: &QueuedMessage) -> Result<Original, StoreError> {
        let mut survey = report.survey();
        let mut reading = Reading::new(&*self.store, message.blob);
        // V25: of a message that is too long to be returned whole, the rest is not read.
        while !survey.is_complete() {
            let octets = reading.next().await?;
            if octets.is_empty() {
                break;
            }
            survey.write(&octets);
        }
        Ok(survey.finish())
    }

    async fn stage(
        &self,
        report: &Report<'_>,
        original: Option<&Original>,
        message: &QueuedMessage,
    ) -> Result<Staged, StoreError> {
        let mut intake = Intake::verbatim(&*self.store)?;
        if let Some(signer) = &self.signer {
            intake = intake.signed_by(signer.clone());
        }
        let mut out = Vec::new();
        // RFC 8689 §5: what demanded TLS must not come back whole without it.
        let wanted = match message.envelope.require_tls {
            RequireTls::Required => Some(DsnReturn::Headers),
            RequireTls::Ordinary | RequireTls::Optional => message.envelope.dsn_return,
        };
        let mut returning = report.begin(original, wanted, &mut out);
        let mut reading = Reading::new(&*self.store, message.blob);
        while returning.wants() > 0 {
            intake.write(&out);
            out.clear();
            let octets = reading.next().await?;
            if octets.is_empty() {
                break;
            }
            returning.write(&octets, &mut out);
        }
        returning.finish(&mut out);
        intake.write(&out);
        intake.complete();
        let signature = Domain::parse(&self.host_name).ok().and_then(|domain| intake.sign(&domain, "").ok());
        intake.finish(&signature.unwrap_or_default())
    }

    /// A report has the null reverse-path, and no report is made of it (RFC 3461 §6.1).
    fn plan(&self, id: QueueId, message: &QueuedMessage, routes: Vec<Route>, staged: &Staged) -> deliver::Plan {
        let ReversePath::Address(to) = &message.envelope.reverse_path else {
            return deliver::Plan { commit: Commit::default(), queued: None };
        };
        // RFC 6531 §3.4: the report's header section names whom it is for, wherever their aliases lead.
        let smtputf8 = to.needs_utf8();
        let envelope = Envelope { eight_bit: true, smtputf8, ..Envelope::new(ReversePath::Null) };
        let recipient = Recipient { notify: Some(Notify::Never), ..Recipient::new(to.clone()) };
        let destined: Vec<Destined> =
            routes.into_iter().map(|route| Destined { recipient: recipient.clone(), route, via: None }).collect();
        let arrival = Arrival {
            listener: format!("bounce of {}", message.envelope.id),
            to: vec![to.to_string()],
            message_id: staged.message_id.clone(),
            octets: staged.body.octets,
            ..Arrival::default()
        };
        let accepted = Accepted::of_our_own(id, &envelope, staged.traits, arrival);
        let date = accepted.at.into();
        deliver::plan(accepted, &destined, staged.body.id, date, &self.directory)
    }
}

impl Written {
    fn tell(&mut self, message: &QueuedMessage, told: &Told, what: Happening) {
        let recipient = Some(told.recipient.recipient.address.to_string());
        let event = Event { at: deliver::now(), recipient, what };
        self.commit.queue.push(QueueChange::Tell { message: message.envelope.id, event });
    }
}

fn happening(about: About, told: &Told, report: &Result<String, String>) -> Happening {
    let text = match report {
        Ok(_) => format!("{} {}", told.attempt.status, told.attempt.text),
        Err(why) => format!("{} {}; nobody is told: {why}", told.attempt.status, told.attempt.text),
    };
    let name = report.clone().ok();
    match (about, name) {
        (About::Failure, report) => Happening::Bounced { cause: text, report },
        (About::Delay, Some(report)) => Happening::Reported { about: "delay".into(), report },
        (About::Success, Some(report)) => Happening::Reported { about: "delivery".into(), report },
        (About::Delay | About::Success, None) => Happening::Noted { what: text },
    }
}

fn recipient_report<'a>(told: &'a Told, about: About, now: UnixMillis) -> RecipientReport<'a> {
    let (attempt, recipient) = (&told.attempt, &told.recipient.recipient);
    RecipientReport {
        address: &recipient.address,
        original: recipient.original.as_deref(),
        action: match (about, attempt.peer.is_some()) {
            (About::Failure, _) => Action::Failed,
            (About::Delay, _) => Action::Delayed,
            (About::Success, true) => Action::Relayed,
            (About::Success, false) => Action::Delivered,
        },
        status: attempt.status,
        remote: attempt.peer.as_deref(),
        diagnostic: Some(&attempt.text),
        is_reply: attempt.is_reply,
        last_attempt: (attempt.outcome != Outcome::Delivered || about == About::Success).then(|| now.into()),
        retry_until: told.until.map(InternalDate::from),
    }
}
