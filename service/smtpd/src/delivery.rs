//! The end of a message: judged, staged, committed, and only then answered with 250.

mod ends;
mod fields;
mod text;

use crate::fate::Fate;
use crate::refusal::{Decider, Refusal};
use crate::{Desk, now, reply};
use deliver::{Accepted, Destined, Intake, Plan, Queued, Staged, Traits};
use directory::Route;
use mail::{
    AccountName, Address, ChangeError, Commit, Envelope, Event, Happening, Notify, QueueChange, QueueId, Recipient,
    Reply, ReversePath,
};
use message::header_rules::Verdict;
use policy::Effect;
use smtp_proto::question::{Client, Role};
use std::collections::HashMap;
use store::StagedBody;

impl Desk {
    /// Judges, stages and commits. One reply in SMTP, one for each recipient in LMTP.
    pub(crate) async fn end_of_message(&mut self, client: &Client, envelope: &Envelope) -> Vec<Reply> {
        let taken = std::mem::take(&mut self.taken);
        let count = if client.role == Role::Lmtp { envelope.recipients.len() } else { 1 };
        let id = self.house.queue_ids.next();
        let message = Message { id, client, envelope, taken: &taken };
        let hops = self.intake.as_mut().map(|intake| intake.complete().received).unwrap_or_default();
        let Ending { outcomes, fates } = match (self.intake.take(), client.role) {
            (None, _) => Ending::refused(count, &Decider::Store.refuses(reply::local_error())),
            (Some(_), _) if hops > self.house.hops_max => {
                Ending::refused(count, &Decider::Limit("Received fields").refuses(reply::too_many_hops()))
            }
            (Some(intake), Role::Lmtp) => self.deliver_each(message, intake).await,
            (Some(intake), Role::Mx | Role::Submission) => match self.deliver_all(message, intake).await {
                Ok(fates) => Ending { outcomes: vec![Ok(reply::queued(id))], fates },
                Err(refusal) => Ending::refused(count, &refusal),
            },
        };
        self.tell_of_outcomes(message, &outcomes);
        let replies: Vec<Reply> =
            outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|refusal| refusal.reply)).collect();
        self.log_outcome(message, &replies, &fates);
        replies
    }

    /// In SMTP the one refusal is about everybody, in LMTP each is about its recipient.
    fn tell_of_outcomes(&self, message: Message<'_>, outcomes: &[Result<Reply, Refusal>]) {
        for (index, outcome) in outcomes.iter().enumerate() {
            if let Err(refusal) = outcome {
                let recipient = match message.client.role {
                    Role::Lmtp => message.envelope.recipients.get(index).map(|recipient| &recipient.address),
                    Role::Mx | Role::Submission => None,
                };
                self.tell_of_refusal(message.client, message.envelope, recipient, refusal);
            }
        }
    }

    /// SMTP: one reply speaks for all recipients, so the commit is all or nothing.
    async fn deliver_all(&self, message: Message<'_>, intake: Intake) -> Result<Vec<Fate>, Refusal> {
        if let Some(rule) = message.discarded_by() {
            return self.discard(&message, rule).await;
        }
        let planned = match self.plan(&message, intake).await? {
            Outcome::Planned(planned) => *planned,
            Outcome::Discarded(rule) => return self.discard(&message, &rule).await,
        };
        let Planned { plan: Plan { commit, queued }, archived, fates, staged: _staged, twin: _twin, .. } = planned;
        let accounts: Vec<AccountName> = commit.groups.iter().map(|group| group.account.clone()).collect();
        let outcomes = match self.house.store.commit(commit).await {
            Ok(outcomes) => outcomes,
            Err(error) => return Err(self.store_failed(message.id, &error)),
        };
        let refusals: Vec<(&AccountName, ChangeError)> =
            accounts.iter().zip(outcomes).filter_map(|(account, outcome)| Some((account, outcome.err()?))).collect();
        // The others were only not applied.
        let cause = refusals.iter().find(|(_, error)| *error != ChangeError::NotApplied).or(refusals.first());
        if let Some((account, error)) = cause {
            return Err(self.refused_by_account(&message, account, error).await);
        }
        for queued in queued.into_iter().chain(archived) {
            self.house.queue.queued(queued);
        }
        Ok(fates)
    }

    /// R113: accepted, and thrown away by a rule that its story names.
    async fn discard(&self, message: &Message<'_>, rule: &str) -> Result<Vec<Fate>, Refusal> {
        let at = deliver::now();
        let event = |what| Event { at, recipient: None, what };
        let received = Happening::Received(self.arrival(message.client, message.envelope));
        let events = vec![event(received), event(Happening::Discarded { by: rule.to_owned() })];
        let discarded = message.envelope.recipients.len() as u32;
        let queue = vec![QueueChange::Begin { message: message.id, discarded, events }];
        match self.house.store.commit(Commit { queue, ..Commit::default() }).await {
            Ok(_) => {
                tracing::info!(queue_id = %message.id, rule, "discarded");
                Ok(vec![Fate::Discarded; message.envelope.recipients.len()])
            }
            Err(error) => Err(self.store_failed(message.id, &error)),
        }
    }

    /// A mailbox that filled up since its RCPT makes a temporary refusal, so that the next attempt's RCPT gives the
    /// refusal to the one recipient it concerns. Where that RCPT would be taken again, because the message is larger than
    /// its client declares, no attempt would ever end: the refusal is for good, and names the recipient.
    async fn refused_by_account(&self, message: &Message<'_>, account: &AccountName, error: &ChangeError) -> Refusal {
        let route = Route::Mailbox(account.clone());
        let concerned = message.envelope.recipients.iter().zip(message.taken);
        let concerned =
            concerned.filter(|(_, taken)| taken.routes.contains(&route)).map(|(recipient, _)| recipient).next();
        if let (ChangeError::OverQuota, Some(recipient)) = (error, concerned)
            && self.house.policy.has_room(account, message.envelope).await == Some(true)
        {
            return Decider::Quota(account.clone()).refuses(reply::quota_exceeded(&recipient.address));
        }
        decider_of(account, error).refuses(reply::to_change_error(error))
    }

    /// LMTP: each recipient has its own reply; the body is stored once all the same.
    async fn deliver_each(&self, message: Message<'_>, intake: Intake) -> Ending {
        let count = message.taken.len();
        let planned = match self.plan(&message, intake).await {
            Ok(Outcome::Planned(planned)) => *planned,
            // Rules for submitted mail do not hold for LMTP.
            Ok(Outcome::Discarded(_)) => return Ending::refused(count, &Decider::Lmtp.refuses(reply::local_error())),
            Err(refusal) => return Ending::refused(count, &refusal),
        };
        let Planned { plan: Plan { commit, queued }, fates, refused, staged, twin, .. } = planned;
        let accounts: Vec<_> = commit.groups.iter().map(|group| group.account.clone()).collect();
        let outcomes = match self.house.store.commit(commit).await {
            Ok(outcomes) => outcomes,
            Err(error) => return Ending::refused(count, &self.store_failed(message.id, &error)),
        };
        if queued.is_some() || outcomes.iter().any(Result::is_ok) {
            self.archive_later(&message, &staged, twin.as_ref()).await;
        }
        if let Some(queued) = queued {
            self.house.queue.queued(queued);
        }
        let failures = accounts.iter().zip(&outcomes).filter_map(|(account, outcome)| match outcome {
            Ok(_) => None,
            Err(error) => Some((account, error)),
        });
        let failures: HashMap<&AccountName, &ChangeError> = failures.collect();
        let failure_of = |route: &Route| match route {
            Route::Mailbox(account) => failures.get_key_value(account),
            Route::Relay(_) | Route::Outside(_) => None,
        };
        let outcome = |(recipient, taken): (&Recipient, &policy::Taken)| {
            let address = &recipient.address;
            match (refused.get(address), taken.routes.iter().find_map(failure_of)) {
                (Some(refusal), _) => Err(refusal.clone()),
                (None, Some((account, error))) => {
                    Err(decider_of(account, error).refuses(reply::lmtp_change_error(address, error)))
                }
                (None, None) => Ok(reply::lmtp_saved(address, message.id)),
            }
        };
        Ending { outcomes: message.envelope.recipients.iter().zip(message.taken).map(outcome).collect(), fates }
    }

    /// The archive's copy of a message that somebody took, in a commit of its own.
    async fn archive_later(&self, message: &Message<'_>, staged: &Staged, twin: Option<&StagedBody>) {
        let Some(twin) = twin else { return };
        let mut commit = Commit::default();
        let Some(queued) = self.archived(message, twin, staged.traits.is_ascii, &mut commit) else { return };
        match self.house.store.commit(commit).await {
            Ok(_) => self.house.queue.queued(queued),
            // R205: an archive in trouble keeps mail from nobody.
            Err(error) => tracing::error!(queue_id = %message.id, %error, "no copy for the archive"),
        }
    }

    /// Stages the message and works out what it changes.
    async fn plan(&self, message: &Message<'_>, mut intake: Intake) -> Result<Outcome, Refusal> {
        let effects = message.effects();
        intake.complete();
        let text = self.text(message, &mut intake)?;
        if let Verdict::Discard(rule) = &text.verdict {
            return Ok(Outcome::Discarded(format!("header rules: {rule}")));
        }
        let mut ends = self.ends(message, &effects, text.redirect.as_ref())?;
        let rule_of = |effect: &&Effect| if let Effect::Hold(rule) = effect { Some(rule.clone()) } else { None };
        let hold = match &text.verdict {
            Verdict::Hold(rule) => Some(format!("header rules: {rule}")),
            _ => effects.iter().find_map(rule_of),
        };
        let added = [self.added_fields(message, &effects).into_bytes(), text.prefix.clone()].concat();
        let mut refused = Vec::new();
        if hold.is_none() {
            refused = self.without_room(&ends.destined, intake.octets() + added.len() as u64).await;
        }
        if message.client.role != Role::Lmtp
            && let Some((_, refusal)) = refused.first()
        {
            return Err(refusal.clone());
        }
        let refused: HashMap<Address, Refusal> = refused.into_iter().collect();
        ends.destined.retain(|end| !refused.contains_key(&end.recipient.address));
        let prefix = [self.delivery_fields(message, &ends.destined, hold.is_some()).into_bytes(), added].concat();
        let archive_prefix = match self.house.archive {
            Some(_) => [self.archive_fields(message).into_bytes(), text.prefix].concat(),
            None => Vec::new(),
        };
        let (staged, twin) =
            intake.finish_both(&prefix, &archive_prefix).map_err(|error| self.store_failed(message.id, &error))?;
        let arrival = mail::Arrival {
            message_id: staged.message_id.clone(),
            octets: staged.body.octets,
            ..self.arrival(message.client, message.envelope)
        };
        let accepted = Accepted {
            id: message.id,
            at: deliver::now(),
            envelope: message.envelope,
            account: message.client.account.as_ref(),
            hold: hold.as_deref(),
            queue_all: false,
            traits: staged.traits,
            arrival,
            events: [self.effect_events(message), text.events].concat(),
            together: message.client.role != Role::Lmtp,
        };
        let mut plan = deliver::plan(accepted, &ends.destined, staged.body.id, now(), &self.house.directory);
        // The archive's copy has fields of ours in front.
        let is_ascii = staged.traits.is_ascii && archive_prefix.is_ascii();
        // In LMTP it is not known yet whether anybody takes the message.
        let archived = match &twin {
            Some(twin) if message.client.role != Role::Lmtp => self.archived(message, twin, is_ascii, &mut plan.commit),
            _ => None,
        };
        let fate = |is_at_once: &bool| match (&hold, is_at_once) {
            (Some(_), _) => Fate::Held,
            (None, true) => Fate::Delivered,
            (None, false) => Fate::Queued,
        };
        let fates = ends.at_once.iter().map(fate).collect();
        Ok(Outcome::Planned(Box::new(Planned { plan, archived, fates, refused, staged, twin })))
    }

    /// R205: a copy goes through the queue in the same commit, so that it is neither lost nor in anybody's way.
    fn archived(
        &self,
        message: &Message<'_>,
        twin: &StagedBody,
        is_ascii: bool,
        commit: &mut Commit,
    ) -> Option<Queued> {
        let address = self.house.archive.as_ref()?;
        let envelope =
            Envelope { eight_bit: true, smtputf8: message.envelope.smtputf8, ..Envelope::new(ReversePath::Null) };
        let arrival = mail::Arrival {
            listener: format!("archive copy of {}", message.id),
            to: vec![address.to_string()],
            octets: twin.octets,
            ..mail::Arrival::default()
        };
        // What the author wishes of TLS is for its recipients: no stranger opens the way to the archive.
        let traits = Traits { is_ascii, ..Traits::default() };
        let accepted = Accepted::of_our_own(self.house.queue_ids.next(), &envelope, traits, arrival);
        let recipient = Recipient { notify: Some(Notify::Never), ..Recipient::new(address.clone()) };
        let destined = [Destined { recipient, route: Route::Outside(address.clone()), via: None }];
        let plan = deliver::plan(accepted, &destined, twin.id, now(), &self.house.directory);
        commit.queue.extend(plan.commit.queue);
        plan.queued
    }

    fn store_failed(&self, id: QueueId, error: &store::StoreError) -> Refusal {
        tracing::error!(queue_id = %id, %error, "the store cannot take a message");
        Decider::Store.refuses(reply::to_store_error(error))
    }

    fn log_outcome(&self, message: Message<'_>, replies: &[Reply], fates: &[Fate]) {
        let last = replies.len().saturating_sub(1);
        for (index, recipient) in message.envelope.recipients.iter().enumerate() {
            let Some(reply) = replies.get(index.min(last)) else { continue };
            let fate = match (reply.code, fates.get(index)) {
                (..400, Some(fate)) => *fate,
                (..500, _) => Fate::Deferred,
                _ => Fate::Refused,
            };
            self.house.fates.count(&self.house.listener, fate);
            let outcome = fate.name();
            tracing::info!(
                queue_id = %message.id, listener = %self.house.listener, peer = %self.peer(message.client),
                from = %message.envelope.reverse_path, to = %recipient.address,
                account = message.client.account.as_ref().map(tracing::field::display), outcome, reply = %reply, "delivery"
            );
        }
    }
}

/// What keeps a message from an account's mailboxes.
fn decider_of(account: &AccountName, error: &ChangeError) -> Decider {
    match error {
        ChangeError::OverQuota => Decider::Quota(account.clone()),
        ChangeError::NoSuchMailbox
        | ChangeError::MailboxExists
        | ChangeError::Inbox
        | ChangeError::TooManyMailboxes
        | ChangeError::TooManyKeywords
        | ChangeError::NoSuchBody
        | ChangeError::Exhausted
        | ChangeError::NotApplied => Decider::Store,
    }
}

/// How a message ends.
struct Ending {
    /// What is answered: once in SMTP, for each recipient in LMTP.
    outcomes: Vec<Result<Reply, Refusal>>,
    /// What was done for each recipient that was taken.
    fates: Vec<Fate>,
}

impl Ending {
    fn refused(count: usize, refusal: &Refusal) -> Ending {
        Ending { outcomes: vec![Err(refusal.clone()); count], fates: Vec::new() }
    }
}

/// What is to be done with a message.
enum Outcome {
    /// This.
    Planned(Box<Planned>),
    /// It is thrown away by this rule.
    Discarded(String),
}

/// A message that is ready to be committed.
struct Planned {
    plan: Plan,
    /// A copy for the archive, in the same commit.
    archived: Option<Queued>,
    /// What is done for each recipient of the envelope.
    fates: Vec<Fate>,
    /// Recipients that are not in the plan, in LMTP.
    refused: HashMap<Address, Refusal>,
    /// The octets; staged as long as they are held.
    staged: Staged,
    /// The archive's.
    twin: Option<StagedBody>,
}

/// An accepted message with all that is known of it.
#[derive(Clone, Copy)]
struct Message<'a> {
    id: QueueId,
    client: &'a Client,
    envelope: &'a Envelope,
    taken: &'a [policy::Taken],
}

impl<'a> Message<'a> {
    /// What access tables want done with it, in the order of the recipients.
    fn effects(&self) -> Vec<&'a Effect> {
        self.taken.iter().flat_map(|taken| &taken.effects).collect()
    }

    /// The rule that throws it away, for all of its recipients (R113).
    fn discarded_by(&self) -> Option<&'a str> {
        self.taken.iter().flat_map(|taken| &taken.effects).find_map(|effect| match effect {
            Effect::Discard(rule) => Some(rule.as_str()),
            Effect::Redirect(_) | Effect::Copy(_) | Effect::Hold(_) | Effect::Prepend(_) => None,
        })
    }
}
