//! Mail that comes out of the queue into a mailbox of this house: what was held, what found no room, our own reports.

use crate::QueueManager;
use crate::outcome::{self, Conclusion, Told};
use deliver::{Accepted, Destined, Plan, Staged, inbox_group, wants_success};
use directory::{Route, RouteError};
use mail::queue::Outcome;
use mail::{
    AccountName, Address, Arrival, Attempt, ChangeError, Commit, EnhancedStatus, Envelope, Event, Happening,
    InternalDate, MailboxName, QueueChange, QueuedMessage, QueuedRecipient, RequireTls, Settled,
};
use message::trace;

impl QueueManager {
    /// Delivers to one recipient. `None`: done and durable. Otherwise what follows is still to be made durable.
    pub(crate) async fn deliver_locally(
        &self,
        message: &QueuedMessage,
        queued: &QueuedRecipient,
    ) -> Option<Conclusion> {
        let address = &queued.recipient.address;
        let routes = match self.mailboxes_of(address) {
            Ok(routes) => routes,
            Err(attempt) => return Some(self.concluded(message, queued, attempt)),
        };
        match self.store_copy(message, queued, &routes).await {
            Ok(()) if wants_success(&queued.recipient) => {
                let text = "stored in the mailbox";
                let attempt = Attempt::finding(Outcome::Delivered, EnhancedStatus::new(2, 0, 0), text);
                let told = Told { recipient: queued.clone(), attempt, until: None };
                let states = vec![(queued.number, None)];
                Some(Conclusion { delivered: vec![told], states, ..Conclusion::default() })
            }
            Ok(()) => None,
            Err(attempt) => Some(self.concluded(message, queued, attempt)),
        }
    }

    fn concluded(&self, message: &QueuedMessage, queued: &QueuedRecipient, attempt: Attempt) -> Conclusion {
        outcome::conclude(message, vec![(queued.number, attempt)], &self.house.plan, true, deliver::now())
    }

    /// The account of that name, or where the tables lead now.
    fn mailboxes_of(&self, address: &Address) -> Result<Vec<Route>, Attempt> {
        let directory = &self.house.directory;
        if let Some(account) = AccountName::parse(&address.key()).filter(|account| directory.receives(account)) {
            return Ok(vec![Route::Mailbox(account)]);
        }
        directory.route(address).map_err(|error| match error {
            RouteError::LoopOrTooDeep => {
                let text = "aliases are nested too deep or lead in a circle";
                Attempt::finding(Outcome::Deferred, EnhancedStatus::new(4, 3, 5), text)
            }
            RouteError::UnknownUser | RouteError::UnknownRelayRecipient | RouteError::NotOurs => {
                Attempt::finding(Outcome::Failed, EnhancedStatus::new(5, 1, 1), "no such mailbox here")
            }
        })
    }

    /// One commit: rows in the mailboxes, and the recipient leaves the queue.
    async fn store_copy(
        &self,
        message: &QueuedMessage,
        queued: &QueuedRecipient,
        routes: &[Route],
    ) -> Result<(), Attempt> {
        let store = &*self.house.store;
        let failed = |error: &dyn std::fmt::Display| {
            Attempt::finding(Outcome::Deferred, EnhancedStatus::new(4, 3, 0), &format!("the store failed: {error}"))
        };
        let mut prefix = trace::return_path(&message.envelope.reverse_path);
        prefix.push_str(&trace::delivered_to(&queued.recipient.address));
        let staged =
            deliver::stage_copy(store, message.blob, prefix.as_bytes()).await.map_err(|error| failed(&error))?;
        let outside: Vec<&Route> = routes.iter().filter(|route| !matches!(route, Route::Mailbox(_))).collect();
        let forwarded = match &outside[..] {
            [] => None,
            routes => Some(self.forwarded(message, queued, routes).await?),
        };
        let now = deliver::now();
        let date = InternalDate::from(now);
        let id = message.envelope.id;
        let mut commit = Commit { together: true, ..Commit::default() };
        for account in deliver::accounts(routes) {
            commit.groups.push(inbox_group(account, staged.body.id, date, &self.house.directory));
            let what =
                Happening::Stored { account: account.to_string(), mailbox: MailboxName::inbox().as_str().to_owned() };
            let recipient = Some(queued.recipient.address.to_string());
            commit.queue.push(QueueChange::Tell { message: id, event: Event { at: now, recipient, what } });
        }
        commit.queue.push(QueueChange::Settle { message: id, number: queued.number, how: Settled::Delivered });
        let mut door = None;
        if let Some((plan, _octets)) = forwarded.as_ref() {
            commit.queue.extend(plan.commit.queue.iter().cloned());
            door = plan.queued.clone();
        }
        let outcomes = store.commit(commit).await.map_err(|error| failed(&error))?;
        let refusal = outcomes.into_iter().filter_map(Result::err).find(|error| *error != ChangeError::NotApplied);
        match refusal {
            None => {
                tracing::info!(queue_id = %id, to = %queued.recipient.address, outcome = "delivered", "delivery");
                if let Some(queued) = door {
                    deliver::QueueDoor::queued(self, queued);
                }
                Ok(())
            }
            Some(ChangeError::OverQuota) => {
                Err(Attempt::finding(Outcome::Deferred, EnhancedStatus::new(4, 2, 2), "the mailbox is full"))
            }
            Some(error) => Err(failed(&format!("{error:?}"))),
        }
    }

    /// The tables changed while this waited, and the address leads out of the house now: it goes on as a message of its
    /// own, in the same commit, with a trace field more, so that a circle of tables comes to its end.
    async fn forwarded(
        &self,
        message: &QueuedMessage,
        queued: &QueuedRecipient,
        routes: &[&Route],
    ) -> Result<(Plan, Staged), Attempt> {
        let address = &queued.recipient.address;
        let is_itself = |route: &&Route| matches!(route, Route::Relay(to) | Route::Outside(to) if to == address);
        if routes.iter().any(is_itself) {
            let text = "the tables say that this address is both here and elsewhere";
            return Err(Attempt::finding(Outcome::Deferred, EnhancedStatus::new(4, 3, 5), text));
        }
        let id = self.house.reporter.next_id();
        let date = InternalDate::from(deliver::now());
        let trace = format!("Received: by {} id {id}; {}\r\n", self.house.host_name, date.civil().to_rfc5322());
        let staged = deliver::stage_copy(&*self.house.store, message.blob, trace.as_bytes()).await;
        let staged = staged.map_err(|error| {
            let text = format!("the store failed: {error}");
            Attempt::finding(Outcome::Deferred, EnhancedStatus::new(4, 3, 0), &text)
        })?;
        let envelope = Envelope {
            smtputf8: message.envelope.smtputf8,
            require_tls: message.envelope.require_tls == RequireTls::Required,
            ..Envelope::new(message.envelope.reverse_path.clone())
        };
        let arrival = Arrival {
            listener: format!("queue, from {}", message.envelope.id),
            from: envelope.reverse_path.to_string(),
            to: vec![address.to_string()],
            octets: message.octets,
            ..Arrival::default()
        };
        let account = message.envelope.account.as_ref();
        let accepted = Accepted { account, ..Accepted::of_our_own(id, &envelope, staged.traits, arrival) };
        let end = |route: &&Route| Destined {
            recipient: queued.recipient.clone(),
            route: (*route).clone(),
            via: Some(address.clone()),
        };
        let destined: Vec<Destined> = routes.iter().map(end).collect();
        let plan = deliver::plan(accepted, &destined, staged.body.id, date, &self.house.directory);
        Ok((plan, staged))
    }
}
