//! MAIL and RCPT: a transaction grows its envelope.

use super::{Pending, Phase, Session, Standing};
use crate::grammar::{self, Offer};
use crate::question::{Question, Role};
use crate::reply;
use mail::{Envelope, Recipient, Reply};
use std::sync::Arc;

/// Recipients refused for being too many that are no errors yet: a client that pipelines cannot know (RFC 5321
/// §4.5.3.1.10).
const RECIPIENTS_OVERSHOOT_MAX: usize = 1_000;

/// What was taken since MAIL.
#[derive(Debug)]
pub(super) struct Transaction {
    pub envelope: Arc<Envelope>,
    /// How many recipients were refused, for whatever reason.
    pub refused: usize,
    /// How many of them for being too many.
    overshoot: usize,
}

impl Session {
    pub(super) fn grammar_offer(&self) -> Offer<'_> {
        Offer {
            extensions: self.offered_extensions(),
            message_octets_max: self.config.message_octets_max,
            host_name: &self.config.host_name,
        }
    }

    /// `MAIL FROM:<reverse-path> [parameters]`.
    pub(super) fn mail(&mut self, standing: Standing, arguments: &str) -> Phase {
        let refusal = match standing {
            _ if self.client.greeting.is_none() => self.greet_first(),
            Standing::InMail(_) | Standing::InChunks(_) => reply::NESTED_MAIL,
            Standing::Idle if self.lacks_authentication() => reply::AUTH_NEEDED,
            Standing::Idle => match grammar::mail(arguments, self.grammar_offer()) {
                Ok(envelope) => {
                    let envelope = Arc::new(envelope);
                    let question = Question::Mail { client: self.client.clone(), envelope: envelope.clone() };
                    return Phase::Ask(
                        question,
                        Pending::Mail(Box::new(Transaction { envelope, refused: 0, overshoot: 0 })),
                    );
                }
                Err(fault) => return self.no(standing, &reply::of(&fault)),
            },
        };
        self.no(standing, refusal)
    }

    pub(super) fn mail_judged(&mut self, transaction: Box<Transaction>, verdict: Result<(), Reply>) -> Phase {
        match verdict {
            Ok(()) => {
                self.say(reply::MAIL_OK);
                Phase::Commands(Standing::InMail(transaction))
            }
            Err(reply) => self.pass_on(&reply, Standing::Idle),
        }
    }

    /// `RCPT TO:<forward-path> [parameters]`.
    pub(super) fn recipient(&mut self, standing: Standing, arguments: &str) -> Phase {
        let mut transaction = match standing {
            Standing::InMail(transaction) => transaction,
            Standing::Idle => return self.no(standing, reply::NEED_MAIL),
            Standing::InChunks(_) => return self.no(standing, reply::RECIPIENT_AFTER_CHUNK),
        };
        match grammar::recipient(arguments, transaction.envelope.smtputf8, self.grammar_offer()) {
            Ok(_) if transaction.envelope.recipients.len() >= self.config.recipients_max => {
                self.one_recipient_too_many(transaction)
            }
            Ok(recipient) => {
                let (client, envelope) = (self.client.clone(), transaction.envelope.clone());
                let question = Question::Recipient { client, envelope, recipient: recipient.clone() };
                Phase::Ask(question, Pending::Recipient(transaction, recipient))
            }
            Err(fault) => {
                transaction.refused += 1;
                self.no(Standing::InMail(transaction), &reply::of(&fault))
            }
        }
    }

    /// V11: refused one by one, in no memory; in the end it is an error.
    fn one_recipient_too_many(&mut self, mut transaction: Box<Transaction>) -> Phase {
        transaction.refused += 1;
        transaction.overshoot += 1;
        if transaction.overshoot > RECIPIENTS_OVERSHOOT_MAX {
            self.refuse(reply::RECIPIENTS_TOO_MANY);
        } else {
            self.say(reply::RECIPIENTS_TOO_MANY);
        }
        Phase::Commands(Standing::InMail(transaction))
    }

    pub(super) fn recipient_judged(
        &mut self,
        mut transaction: Box<Transaction>,
        recipient: Recipient,
        verdict: Result<(), Reply>,
    ) -> Phase {
        match verdict {
            Ok(()) => {
                Arc::make_mut(&mut transaction.envelope).recipients.push(recipient);
                self.say(reply::RECIPIENT_OK);
                Phase::Commands(Standing::InMail(transaction))
            }
            Err(reply) => {
                transaction.refused += 1;
                self.pass_on(&reply, Standing::InMail(transaction))
            }
        }
    }

    /// Why there is nobody to send the text to; `None` if there is somebody.
    pub(super) fn nobody_to_send_to(&self, transaction: &Transaction) -> Option<&'static str> {
        if !transaction.envelope.recipients.is_empty() {
            return None;
        }
        Some(match (transaction.refused, self.config.role) {
            (0, _) => reply::NEED_RECIPIENT,
            (_, Role::Mx | Role::Submission) => reply::NO_VALID_RECIPIENTS,
            (_, Role::Lmtp) => reply::NO_VALID_RECIPIENTS_LMTP,
        })
    }
}
