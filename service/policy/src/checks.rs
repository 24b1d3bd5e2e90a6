//! The checks of recipients, one function each.

use crate::check::CheckName;
use crate::findings::{Effect, Finding, Verdict, access_reply};
use crate::{Case, Policy, Question, relay_denied};
use directory::{Action, DomainClass, Refusal, RouteError};
use dns::{Failure, Lookup, Name, Record, RecordType};
use mail::{EnhancedStatus, Reply, ReversePath};
use std::borrow::Cow;

/// Asks one check.
pub async fn judge(check: CheckName, policy: &Policy, case: &Case<'_>) -> Finding {
    let question = case.question;
    let (verdict, effect, evidence) = match check {
        CheckName::PermitMynetworks => permit_mynetworks(question),
        CheckName::CheckSaslAccess => check_sasl_access(policy, question),
        CheckName::RejectSenderLoginMismatch => reject_sender_login_mismatch(policy, question),
        CheckName::PermitSaslAuthenticated => permit_sasl_authenticated(question),
        CheckName::RejectUnlistedRecipient => reject_unlisted_recipient(case),
        CheckName::RejectNonFqdnRecipient => reject_non_fqdn_recipient(question),
        CheckName::RejectUnauthDestination => reject_unauth_destination(case),
        CheckName::RejectUnknownRecipientDomain => reject_unknown_recipient_domain(policy, case).await,
        CheckName::CheckRecipientAccess => check_recipient_access(policy, question),
        CheckName::CheckQuota => check_quota(policy, case).await,
    };
    Finding { check, verdict, effect, evidence }
}

type Judgement = (Verdict, Option<Effect>, Cow<'static, str>);

fn verdict(verdict: Verdict, evidence: impl Into<Cow<'static, str>>) -> Judgement {
    (verdict, None, evidence.into())
}

fn permit_mynetworks(question: Question<'_>) -> Judgement {
    if !question.client.trusted {
        return verdict(Verdict::Pass, "not of a trusted network");
    }
    let evidence = question.client.address.map_or(Cow::from("UNIX socket"), |address| address.to_string().into());
    verdict(Verdict::Accept, evidence)
}

fn permit_sasl_authenticated(question: Question<'_>) -> Judgement {
    match &question.client.account {
        Some(account) => verdict(Verdict::Accept, account.to_string()),
        None => verdict(Verdict::Pass, "not authenticated"),
    }
}

fn check_sasl_access(policy: &Policy, question: Question<'_>) -> Judgement {
    let Some(account) = &question.client.account else { return verdict(Verdict::Pass, "not authenticated") };
    match policy.directory.sasl_access(account) {
        Some(action) => follow(&action, account.as_str(), "SASL login name"),
        None => verdict(Verdict::Pass, format!("{account} is not listed")),
    }
}

/// R131, R132, R134, R135. Without effect where the listener offers no authentication (R136).
fn reject_sender_login_mismatch(policy: &Policy, question: Question<'_>) -> Judgement {
    let ReversePath::Address(sender) = &question.envelope.reverse_path else {
        return verdict(Verdict::Pass, "null reverse-path");
    };
    if !question.client.authentication_offered {
        return verdict(Verdict::Pass, "no authentication on this listener");
    }
    let refuse = |text: String| {
        let status = EnhancedStatus::new(5, 7, 1);
        verdict(Verdict::Refuse(Reply::new(553, status, format!("<{sender}>: Sender address rejected: {text}"))), text)
    };
    match &question.client.account {
        Some(account) if policy.directory.may_send_as(account, &question.envelope.reverse_path) => {
            verdict(Verdict::Pass, format!("{account} may send as {sender}"))
        }
        Some(account) => refuse(format!("not owned by user {account}")),
        None if policy.directory.sender_owned(sender) => refuse("not logged in".into()),
        None => verdict(Verdict::Pass, "the sender has no owner"),
    }
}

fn reject_unlisted_recipient(case: &Case<'_>) -> Judgement {
    let address = &case.question.recipient.address;
    match case.class {
        DomainClass::Hosted => match case.routes {
            Err(RouteError::UnknownUser) => verdict(Verdict::Refuse(crate::unknown_user(address)), "not in any table"),
            Err(RouteError::NotOurs | RouteError::LoopOrTooDeep | RouteError::UnknownRelayRecipient) | Ok(_) => {
                verdict(Verdict::Pass, "listed")
            }
        },
        DomainClass::Relay | DomainClass::Other => verdict(Verdict::Pass, "not a domain of ours"),
    }
}

/// R109. An address without any domain never gets here: the grammar refuses it with the same reply.
fn reject_non_fqdn_recipient(question: Question<'_>) -> Judgement {
    let address = &question.recipient.address;
    if address.domain.is_literal() || address.domain.as_str().contains('.') {
        return verdict(Verdict::Pass, "full domain");
    }
    let text = format!("<{address}>: Recipient address rejected: need fully-qualified address");
    verdict(Verdict::Refuse(Reply::new(504, EnhancedStatus::new(5, 5, 2), text)), "single label")
}

/// R110. Source routes were dropped by the grammar; `user%other@ours` is a local part like any other, and unknown.
fn reject_unauth_destination(case: &Case<'_>) -> Judgement {
    let address = &case.question.recipient.address;
    match case.class {
        DomainClass::Hosted => verdict(Verdict::Pass, "hosted domain"),
        DomainClass::Relay => verdict(Verdict::Pass, "relay domain"),
        DomainClass::Other => verdict(Verdict::Refuse(relay_denied(address)), "neither hosted nor relayed"),
    }
}

/// R111: a domain that we would have to pass the message on to, and that cannot get any.
async fn reject_unknown_recipient_domain(policy: &Policy, case: &Case<'_>) -> Judgement {
    let address = &case.question.recipient.address;
    let (Some(lookup), Ok(name)) = (&policy.lookup, Name::try_from(&address.domain)) else {
        return verdict(Verdict::Pass, "nothing to look up");
    };
    if case.class == DomainClass::Hosted {
        return verdict(Verdict::Pass, "hosted domain");
    }
    let refuse = |code, status, text: &str| {
        Verdict::Refuse(Reply::new(code, status, format!("<{address}>: Recipient address rejected: {text}")))
    };
    match mail_hosts(&**lookup, &name).await {
        Ok(MailHosts::Some) => verdict(Verdict::Pass, "the domain takes mail"),
        // RFC 7505 §4.1.
        Ok(MailHosts::Null) => {
            verdict(refuse(556, EnhancedStatus::new(5, 1, 10), "Domain does not accept mail"), "null MX")
        }
        Ok(MailHosts::None) => {
            verdict(refuse(450, EnhancedStatus::new(4, 1, 2), "Domain not found"), "neither MX nor address")
        }
        Err(failure) => {
            let evidence = failure.to_string();
            verdict(refuse(450, EnhancedStatus::new(4, 4, 3), "Temporary lookup failure"), evidence)
        }
    }
}

/// What a domain says of its mail.
enum MailHosts {
    Some,
    None,
    Null,
}

async fn mail_hosts(lookup: &dyn Lookup, name: &Name) -> Result<MailHosts, Failure> {
    let found = lookup.look_up(name, RecordType::Mx).await?;
    let is_null = |record: &Record| matches!(record, Record::Mx(mx) if mx.exchange.is_root());
    if !found.records.is_empty() {
        return Ok(if found.records.iter().all(is_null) { MailHosts::Null } else { MailHosts::Some });
    }
    if !found.name_exists {
        return Ok(MailHosts::None);
    }
    for kind in [RecordType::A, RecordType::Aaaa] {
        if !lookup.look_up(name, kind).await?.records.is_empty() {
            return Ok(MailHosts::Some);
        }
    }
    Ok(MailHosts::None)
}

fn check_recipient_access(policy: &Policy, question: Question<'_>) -> Judgement {
    let address = &question.recipient.address;
    match policy.directory.recipient_access(address) {
        Some(action) => follow(&action, &address.to_string(), "Recipient address"),
        None => verdict(Verdict::Pass, "not listed"),
    }
}

/// The mailboxes behind the recipient have room. The same is asked again, for everybody, once the checks are done;
/// here it takes its place in the configured order.
async fn check_quota(policy: &Policy, case: &Case<'_>) -> Judgement {
    let Ok(routes) = &case.routes else { return verdict(Verdict::Pass, "no mailbox") };
    for route in routes {
        if let directory::Route::Mailbox(account) = route
            && let Err(reply) = policy.room(account, case.question.recipient, case.question.envelope).await
        {
            return verdict(Verdict::Refuse(reply), format!("{account} has no room"));
        }
    }
    verdict(Verdict::Pass, "room left")
}

/// What an access table's action means (R113).
fn follow(action: &Action, object: &str, what: &str) -> Judgement {
    let evidence = format!("{object}: {action:?}");
    // As stories name it.
    let rule = |name: &str, text: &str| {
        let text = if text.is_empty() { String::new() } else { format!(" {text}") };
        format!("access table: {what} {object}: {name}{text}")
    };
    let refusal = |refusal: &Refusal| access_reply(refusal.code, refusal.status, object, what, &refusal.text);
    let not_here = |what: &str| {
        tracing::warn!(%object, action = what, "there are no content filters yet; the recipient is deferred");
        Verdict::Refuse(Reply::new(451, EnhancedStatus::new(4, 3, 5), "Server configuration problem"))
    };
    let (result, effect) = match action {
        Action::Ok => (Verdict::Accept, None),
        Action::Dunno => (Verdict::Pass, None),
        Action::Reject(reply) | Action::Defer(reply) => (Verdict::Refuse(refusal(reply)), None),
        Action::DeferIfPermit(reply) => (Verdict::DeferIfPermitted(refusal(reply)), None),
        Action::DeferIfReject(reply) => (Verdict::DeferIfRefused(refusal(reply)), None),
        Action::Hold(text) => {
            tracing::info!(%object, what, "access table triggers HOLD action");
            (Verdict::Pass, Some(Effect::Hold(rule("HOLD", text))))
        }
        Action::Filter(_) => (not_here("FILTER"), None),
        Action::Discard(text) => (Verdict::Pass, Some(Effect::Discard(rule("DISCARD", text)))),
        Action::Redirect(address) => (Verdict::Pass, Some(Effect::Redirect(address.clone()))),
        Action::Bcc(address) => (Verdict::Pass, Some(Effect::Copy(address.clone()))),
        Action::Prepend(field) => (Verdict::Pass, Some(Effect::Prepend(field.clone()))),
        Action::Warn(text) => {
            tracing::warn!(%object, %text, "access table");
            (Verdict::Pass, None)
        }
        Action::Info(text) => {
            tracing::info!(%object, %text, "access table");
            (Verdict::Pass, None)
        }
    };
    (result, effect, evidence.into())
}
