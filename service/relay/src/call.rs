//! An open session with a host: message after message.

use crate::open::attempt_from;
use crate::wire::Wire;
use deliver::Reading;
use mail::queue::Outcome;
use mail::{Attempt, BlobId, QueuedEnvelope, QueuedRecipient, RequireTls, ReversePath};
use smtp_proto::Extensions;
use smtp_proto::client::{Answer, Body, Content, Ending, Fate, Loss, Peer, Question, Report, Transaction};
use std::sync::Arc;
use store::MailStore;

/// Transactions that one message may take with a host that takes few recipients at a time.
const TRANSACTIONS_MAX: usize = 100;

/// An open session, between two transactions.
pub struct Call {
    wire: Wire,
    shown: String,
    tls: Option<String>,
    peer: Arc<Peer>,
    /// The session asked for a transaction and was not answered yet.
    is_idle: bool,
}

/// A message to be sent.
pub struct Parcel<'a> {
    /// Its envelope.
    pub envelope: &'a QueuedEnvelope,
    /// The reverse-path to give, which may be a rewritten one.
    pub reverse_path: ReversePath,
    /// Its octets.
    pub blob: BlobId,
    /// How many they are, those of a delivery's fields included, which do not leave.
    pub octets: u64,
}

/// What came of a message.
pub struct Sent {
    /// The outcome for each recipient that has one.
    pub attempts: Vec<(u32, Attempt)>,
    /// Whether the peer was there and went through the dialogue.
    pub is_reached: bool,
    /// Those that this host is not able to take, and another may: what they are told if none is.
    pub unable: Vec<(u32, Attempt)>,
    /// Whether the session broke before the message was whole, so that recipients are left which another host may take.
    pub is_lost: bool,
    /// What they are told if there is none.
    pub loss: Option<Attempt>,
}

impl Call {
    pub(crate) fn new(wire: Wire, shown: String, tls: Option<String>, peer: Arc<Peer>) -> Call {
        Call { wire, shown, tls, peer, is_idle: true }
    }

    /// Whether another message can be sent.
    pub fn is_usable(&self) -> bool {
        self.is_idle
    }

    /// Sends a message to some of its recipients, all of the same reverse-path.
    pub async fn send(&mut self, parcel: &Parcel<'_>, to: &[&QueuedRecipient], store: &dyn MailStore) -> Sent {
        let mut sent = Sent { attempts: Vec::new(), unable: Vec::new(), is_reached: false, is_lost: false, loss: None };
        let mut left: Vec<&QueuedRecipient> = to.to_vec();
        for _ in 0..TRANSACTIONS_MAX {
            if left.is_empty() || !self.is_idle {
                break;
            }
            let Some(report) = self.transact(parcel, &left, store).await else { break };
            left = self.sort_out(&left, report, &mut sent);
        }
        if !left.is_empty() && !sent.is_lost {
            // The peer takes few at a time, and the session is over: the next try goes on.
            let status = mail::EnhancedStatus::new(4, 5, 3);
            let rest = Attempt::finding(Outcome::Deferred, status, "the host takes few recipients at a time");
            let rest = Attempt { peer: Some(self.shown.clone()), ..rest };
            sent.attempts.extend(left.iter().map(|queued| (queued.number, rest.clone())));
        }
        sent
    }

    /// Takes each result to its recipient; gives those to be sent to at once again.
    fn sort_out<'a>(&self, to: &[&'a QueuedRecipient], report: Report, sent: &mut Sent) -> Vec<&'a QueuedRecipient> {
        let passes_dsn = self.peer.offers.has(Extensions::DSN);
        let mut again = Vec::new();
        for (queued, fate) in to.iter().zip(&report.fates) {
            let attempt = attempt_from(fate, &self.shown, self.tls.as_deref(), passes_dsn);
            match fate {
                Fate::Surplus(_) if report.usable => again.push(*queued),
                Fate::Unable(_) => {
                    sent.is_reached = true;
                    sent.unable.push((queued.number, attempt));
                }
                Fate::Lost { loss, .. } if !fate.is_ambiguous() => {
                    // A peer that says goodbye is there: that it wants no more now is no reason to count it as down.
                    sent.is_reached |= matches!(loss, Loss::BodyFailed | Loss::Goodbye(_));
                    sent.is_lost = true;
                    sent.loss = Some(attempt);
                }
                _ => {
                    // An answer to the end of the data that never came is as bad as no connection.
                    sent.is_reached |= !fate.is_ambiguous();
                    sent.attempts.push((queued.number, attempt));
                }
            }
        }
        again
    }

    /// One transaction. `None`: the session was over before it began.
    async fn transact(
        &mut self,
        parcel: &Parcel<'_>,
        to: &[&QueuedRecipient],
        store: &dyn MailStore,
    ) -> Option<Report> {
        self.is_idle = false;
        self.wire.answer(Answer::Transaction(Box::new(transaction(parcel, to))));
        let mut reading = Reading::new(store, parcel.blob);
        let mut report = None;
        loop {
            match self.wire.question().await? {
                Question::Body => {
                    let body = match reading.next().await {
                        Ok(octets) if octets.is_empty() => Body::End,
                        Ok(octets) => Body::Octets(octets.into()),
                        Err(error) => {
                            tracing::error!(queue_id = %parcel.envelope.id, %error, "a message cannot be read");
                            Body::Failed
                        }
                    };
                    self.wire.answer(Answer::Body(body));
                }
                Question::Finished(result) => {
                    let is_usable = result.usable;
                    report = Some(result);
                    self.wire.answer(Answer::Done);
                    if !is_usable {
                        self.end().await;
                        return report;
                    }
                }
                Question::Idle { peer } => {
                    self.peer = peer;
                    self.is_idle = true;
                    // Asked while the session was still idle from before, if nothing was reported yet.
                    if report.is_some() {
                        return report;
                    }
                    self.is_idle = false;
                    self.wire.answer(Answer::Quit);
                }
                Question::Ended { ending, .. } => {
                    tracing::debug!(relay = %self.shown, ?ending, "session over");
                    self.wire.answer(Answer::Done);
                    if report.is_none() {
                        report = Some(lost(&ending, to.len()));
                    }
                    return report;
                }
            }
        }
    }

    /// Lets the session say what is left to say.
    async fn end(&mut self) {
        while let Some(question) = self.wire.question().await {
            self.wire.answer(match question {
                Question::Body => Answer::Body(Body::Failed),
                Question::Idle { .. } => Answer::Quit,
                Question::Finished(_) | Question::Ended { .. } => Answer::Done,
            });
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        if self.is_idle {
            self.wire.answer(Answer::Quit);
            self.end().await;
        }
        self.wire.shut().await;
    }
}

fn transaction(parcel: &Parcel<'_>, to: &[&QueuedRecipient]) -> Transaction {
    let envelope = parcel.envelope;
    let recipients = to.iter().map(|queued| queued.recipient.clone()).collect();
    let content = if envelope.eight_bit { Content::EightBit } else { Content::SevenBit };
    Transaction {
        octets: Some(parcel.octets),
        smtputf8: envelope.smtputf8,
        require_tls: envelope.require_tls == RequireTls::Required,
        dsn_return: envelope.dsn_return,
        envelope_id: envelope.envelope_id.clone(),
        ..Transaction::new(parcel.reverse_path.clone(), recipients, content)
    }
}

/// The session ended between two transactions: nothing of this one was said.
fn lost(ending: &Ending, count: usize) -> Report {
    let loss = match ending {
        Ending::Lost { loss, .. } => loss.clone(),
        Ending::Refused { reply, .. } => Loss::Goodbye(reply.clone()),
        _ => Loss::Closed,
    };
    let fate = Fate::Lost { at: smtp_proto::client::Stage::Mail, loss };
    Report { fates: vec![fate; count], usable: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::relay;
    use directory::Transport;
    use mail::{Address, Domain, QueueId, QueueState, Recipient, UnixMillis};
    use store::embedded::{EmbeddedStore, Options};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
    use tokio::net::UnixListener;

    /// Sends to a peer that answers each command by a line, and is gone after the last one.
    async fn sent_to(replies: &'static [&'static str]) -> Sent {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("peer");
        let listener = UnixListener::bind(&socket).unwrap();
        let peer = tokio::spawn(async move {
            let mut stream = BufStream::new(listener.accept().await.unwrap().0);
            for reply in replies {
                stream.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                stream.read_line(&mut String::new()).await.unwrap();
            }
        });
        let address = |text| Address::parse(text).unwrap();
        let envelope = QueuedEnvelope {
            id: QueueId(1),
            arrived: UnixMillis(1),
            reverse_path: ReversePath::Address(address("from@own.example")),
            account: None,
            eight_bit: false,
            smtputf8: false,
            require_tls: RequireTls::Ordinary,
            dsn_return: None,
            envelope_id: None,
        };
        let queued = QueuedRecipient {
            number: 7,
            recipient: Recipient { address: address("to@far.example"), notify: None, original: None },
            via: None,
            state: QueueState::Waiting(UnixMillis(1)),
            attempts: 0,
            delay_reported: false,
            last: None,
        };
        let reverse_path = envelope.reverse_path.clone();
        let parcel = Parcel { envelope: &envelope, reverse_path, blob: BlobId(1), octets: 10 };
        let store = EmbeddedStore::open(Options { sync: false, ..Options::new(folder.path().join("store")) }).unwrap();
        let relay = relay("", 25);
        let transport = Transport::parse(&format!("lmtp:unix:{}", socket.display())).unwrap();
        let far = Domain::parse("far.example").unwrap();
        let mut hosts = relay.hosts(&transport, &far, RequireTls::Ordinary).await.unwrap();
        let mut call = relay.open(&mut hosts, None).await.unwrap();
        let sent = call.send(&parcel, &[&queued], &store).await;
        drop(call);
        peer.await.unwrap();
        sent
    }

    /// RFC 5321 §3.8: a host that wants no more now is there, so that its destination is not taken for being down. Another
    /// host may take the mail.
    #[tokio::test]
    async fn who_says_goodbye_was_reached() {
        for (replies, status, is_reached) in [
            (&["220 mx", "250 mx", "421 4.7.0 slow down"][..], "4.7.0", true),
            (&["220 mx", "250 mx", "250 ok", "250 ok", "421 bye"], "4.3.2", true),
            (&["220 mx", "250 mx", "250 ok"], "4.4.2", false),
        ] {
            let sent = sent_to(replies).await;
            let status_of = |loss: Attempt| loss.status.to_string();
            assert_eq!(sent.loss.map(status_of).as_deref(), Some(status), "{replies:?}");
            assert_eq!((sent.is_reached, sent.is_lost, sent.attempts.len()), (is_reached, true, 0), "{replies:?}");
        }
    }
}
