//! Where a message goes: the ends of its recipients' ways, and what access tables make of them.

use super::Message;
use crate::refusal::{Decider, Refusal};
use crate::{Desk, reply};
use deliver::{Destined, goes_at_once};
use directory::Route;
use mail::{Address, Envelope, Event, Happening, Notify, Recipient, ReversePath};
use policy::Effect;

/// The ends of all ways.
#[derive(Default)]
pub(super) struct Ends {
    pub destined: Vec<Destined>,
    /// For each recipient of the envelope, whether all of its ways end in this commit.
    pub at_once: Vec<bool>,
}

impl Desk {
    /// The ends of all recipients' ways, with the effects of access tables applied.
    pub(super) fn ends(
        &self,
        message: &Message<'_>,
        effects: &[&Effect],
        by_header: Option<&Address>,
    ) -> Result<Ends, Refusal> {
        let goes = |end: &Destined| goes_at_once(&end.recipient, &end.route);
        let redirect = effects.iter().find_map(|e| if let Effect::Redirect(to) = e { Some(to) } else { None });
        let redirect = redirect.or(by_header);
        let recipients = &message.envelope.recipients;
        let mut ends = Ends::default();
        if let Some(address) = redirect {
            tracing::info!(queue_id = %message.id, to = %address, "redirected");
            let instead_of = recipients.first();
            ends.destined = self.sent_to(address, instead_of.and_then(|recipient| recipient.notify), instead_of)?;
            ends.at_once = vec![ends.destined.iter().all(goes); recipients.len()];
        } else {
            for (recipient, taken) in recipients.iter().zip(message.taken) {
                let end = |route: &Route| Destined { recipient: recipient.clone(), route: route.clone(), via: None };
                ends.destined.extend(taken.routes.iter().map(end));
                ends.at_once.push(taken.routes.iter().all(|route| goes_at_once(recipient, route)));
            }
        }
        for effect in effects {
            if let Effect::Copy(address) = effect {
                // No report about a copy goes to the message's sender, who does not know of it.
                ends.destined.extend(self.sent_to(address, Some(Notify::Never), recipients.first())?);
            }
        }
        Ok(ends)
    }

    /// An address that a rule of ours names, in the place of a recipient: it is forwarded there.
    fn sent_to(
        &self,
        address: &Address,
        notify: Option<Notify>,
        instead_of: Option<&Recipient>,
    ) -> Result<Vec<Destined>, Refusal> {
        let unusable = |_| Decider::Target.refuses(reply::configuration_problem());
        let routes = self.house.policy.way(address).map_err(unusable)?;
        let recipient = Recipient { notify, ..Recipient::new(address.clone()) };
        let via = instead_of.map(|recipient| recipient.address.clone());
        let end = |route| Destined { recipient: recipient.clone(), route, via: via.clone() };
        Ok(routes.into_iter().map(end).collect())
    }

    /// What goes to a mailbox of ours through the queue, because its sender wants to hear of the delivery, must fit like
    /// anything else: no stranger fills the queue with what its mailbox does not take. Gives the recipients for whom there
    /// is no room, in order.
    pub(super) async fn without_room(&self, destined: &[Destined], octets: u64) -> Vec<(Address, Refusal)> {
        let envelope = Envelope { declared_size_octets: Some(octets), ..Envelope::new(ReversePath::Null) };
        let mut refused = Vec::new();
        for Destined { recipient, route, via } in destined {
            let Route::Mailbox(account) = route else { continue };
            if goes_at_once(recipient, route) {
                continue;
            }
            let named = via.as_ref().unwrap_or(&recipient.address);
            let refusal = match self.house.policy.has_room(account, &envelope).await {
                Some(true) => continue,
                Some(false) => Decider::Quota(account.clone()).refuses(reply::quota_exceeded(named)),
                None => Decider::Store.refuses(reply::local_error()),
            };
            refused.push((named.clone(), refusal));
        }
        refused
    }

    /// What access tables do with the message, for its story. What they hold or throw away is told of by itself.
    pub(super) fn effect_events(&self, message: &Message<'_>) -> Vec<Event> {
        let at = deliver::now();
        let mut events = Vec::new();
        for (recipient, taken) in message.envelope.recipients.iter().zip(message.taken) {
            for effect in &taken.effects {
                let by = |action: &str| format!("access table: {action}");
                let what = match effect {
                    Effect::Redirect(to) => Happening::Expanded { to: vec![to.to_string()], by: by("REDIRECT") },
                    Effect::Copy(to) => Happening::Noted { what: format!("a copy goes to {to} ({})", by("BCC")) },
                    Effect::Prepend(field) => Happening::Altered { what: format!("{field} ({})", by("PREPEND")) },
                    Effect::Hold(_) | Effect::Discard(_) => continue,
                };
                events.push(Event { at, recipient: Some(recipient.address.to_string()), what });
            }
        }
        events
    }
}
