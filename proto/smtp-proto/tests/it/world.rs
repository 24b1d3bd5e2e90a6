//! A house small enough to hold in the head: what the session's questions are answered with.
//!
//! `example.net` has the accounts brian, notbrian and full (which is); the password of all is `mailbox`. It relays for
//! `example.com`. Every other domain is foreign.

use mail::{AccountName, EnhancedStatus, Envelope, PeerFacts, Recipient, Reply, ReversePath, TlsFacts};
use smtp_proto::{Answer, AuthFailure, Client, Config, Extensions, Question, Role, Session};
use std::sync::Arc;
use std::time::Duration;

/// Answers questions, keeps messages, and notices a session that breaks the order of questions.
#[derive(Debug)]
pub struct World {
    name: String,
    /// The listener.
    pub config: Config,
    tls: Option<TlsFacts>,
    staging: bool,
    /// Envelopes and texts that were taken.
    pub messages: Vec<(Envelope, Vec<u8>)>,
}

impl World {
    /// The world of a dialogue.
    pub fn named(name: &str) -> World {
        let role = match name {
            "lmtp" | "lmtp-tight" => Role::Lmtp,
            "submission" | "submissions" | "opportunistic" => Role::Submission,
            _ => Role::Mx,
        };
        let mut config = Config::new(role, "mx.example.net");
        config.tls_available = role != Role::Lmtp;
        config.auth_offered = role == Role::Submission;
        config.auth_required = role == Role::Submission;
        config.tls_required = name == "submission";
        config.lenient_line_ends = name == "trusted";
        match name {
            "bare" => {
                config.extensions = Extensions::NONE;
                config.auth_offered = true;
            }
            "full" | "echo" => config.extensions = Extensions::ALL,
            "tight" => {
                config.extensions = Extensions::ALL;
                config.recipients_max = 2;
                config.message_octets_max = 100;
            }
            "lmtp-tight" => config.message_octets_max = 100,
            "slow-greeting" => config.greeting_delay = Duration::from_secs(5),
            "small" | "trusted" | "lmtp" | "closed" | "busy" => {}
            "submission" | "submissions" | "opportunistic" => {}
            other => panic!("no world {other}"),
        }
        let facts =
            TlsFacts { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384".into(), bits: 256, server_name: None };
        let tls = (name == "submissions").then_some(facts);
        World { name: name.to_owned(), config, tls, staging: false, messages: Vec::new() }
    }

    /// A session in this world.
    pub fn session(&self) -> Session {
        Session::new(Arc::new(self.config.clone()), PeerFacts { peer: None, local: None, tls: self.tls.clone() })
    }

    /// What was taken. Nothing may be half staged when a session is over, unless it just waits.
    pub fn settled(self) -> Vec<(Envelope, Vec<u8>)> {
        self.messages
    }

    /// Whether a body was begun and neither ended nor abandoned.
    pub fn is_staging(&self) -> bool {
        self.staging
    }

    /// Answers a question; `text` is what was handed out since the last one.
    pub fn answer(&mut self, question: Question, text: &mut Vec<u8>) -> Answer {
        match question {
            Question::Connect { .. } => Answer::Verdict(match self.name.as_str() {
                "closed" => refusal(554, (5, 7, 1), "Service unavailable; client host blocked"),
                "busy" => refusal(421, (4, 7, 0), "mx.example.net Error: too many connections"),
                _ => Ok(()),
            }),
            Question::Authenticate { client, credentials } => {
                assert!(client.tls.is_some() && client.role != Role::Mx && client.account.is_none());
                Answer::Authenticated(match (credentials.login.as_str(), credentials.password.expose()) {
                    ("later", _) => Err(AuthFailure::Temporary),
                    ("brian" | "notbrian", "mailbox") => Ok(AccountName::parse("brian@example.net").unwrap()),
                    _ => Err(AuthFailure::Denied),
                })
            }
            Question::Mail { envelope, .. } => {
                assert!(envelope.recipients.is_empty() && !self.staging);
                let refused = reverse_path_is(&envelope, "refused@example.com");
                Answer::Verdict(if refused { refusal(550, (5, 7, 1), "Sender refused") } else { Ok(()) })
            }
            Question::Recipient { client, recipient, .. } => {
                assert!(!self.staging);
                Answer::Verdict(self.recipient(&client, &recipient))
            }
            Question::Verify { client, recipient } => Answer::Reply(match self.recipient(&client, &recipient) {
                Ok(()) => Reply::new(252, EnhancedStatus::new(2, 0, 0), recipient.address.to_string()),
                Err(reply) => reply,
            }),
            Question::Etrn { domain, .. } => Answer::Reply(match domain.as_str() {
                "example.com" => Reply::plain(250, "Queuing started"),
                other => Reply::plain(459, format!("<{other}>: service unavailable")),
            }),
            Question::BeginBody { envelope, .. } => {
                assert!(!envelope.recipients.is_empty() && !self.staging && text.is_empty());
                if reverse_path_is(&envelope, "nospace@example.com") {
                    return Answer::Verdict(refusal(452, (4, 3, 1), "Insufficient system storage"));
                }
                self.staging = true;
                Answer::Verdict(Ok(()))
            }
            Question::EndOfMessage { client, envelope } => {
                assert!(std::mem::take(&mut self.staging));
                self.end_of_message(&client, &envelope, std::mem::take(text))
            }
            Question::Abandon { envelope, .. } => {
                assert!(!envelope.recipients.is_empty());
                assert!(std::mem::take(&mut self.staging));
                text.clear();
                Answer::Done
            }
        }
    }

    fn recipient(&self, client: &Client, recipient: &Recipient) -> Result<(), Reply> {
        let address = recipient.address.to_string();
        match (recipient.address.key().as_str(), client.role) {
            ("brian@example.net" | "notbrian@example.net" | "postmaster@mx.example.net" | "full@example.net", _) => {
                Ok(())
            }
            ("brián@example.net", _) => Ok(()),
            ("hangup@example.net", _) => refusal(421, (4, 3, 0), "mx.example.net Error: hanging up"),
            (_, Role::Lmtp) => refusal(550, (5, 1, 1), &format!("<{address}> User doesn't exist: {address}")),
            _ if client.account.is_some() => Ok(()),
            _ if recipient.address.domain.as_str() == "example.net" => {
                let text = format!("<{address}>: Recipient address rejected: User unknown in virtual mailbox table");
                refusal(550, (5, 1, 1), &text)
            }
            _ => refusal(554, (5, 7, 1), &format!("<{address}>: Relay access denied")),
        }
    }

    fn end_of_message(&mut self, client: &Client, envelope: &Envelope, text: Vec<u8>) -> Answer {
        if text.windows(5).any(|window| window == b"EICAR") {
            return Answer::Replies(vec![Reply::new(550, EnhancedStatus::new(5, 7, 1), "Virus Detected!")]);
        }
        let shown = String::from_utf8_lossy(&text).replace("\r\n", "|");
        self.messages.push((envelope.clone(), text));
        let taken = EnhancedStatus::new(2, 0, 0);
        let reply = |recipient: &Recipient| match recipient.address.key().as_str() {
            "full@example.net" => {
                let text = format!("<{}> Quota exceeded (mailbox for user is full)", recipient.address);
                Reply::new(552, EnhancedStatus::new(5, 2, 2), text)
            }
            _ => Reply::new(250, taken, format!("<{}> 305B030F Saved", recipient.address)),
        };
        Answer::Replies(match client.role {
            Role::Lmtp => envelope.recipients.iter().map(reply).collect(),
            Role::Mx | Role::Submission if self.name == "echo" => vec![Reply::new(250, taken, format!("Ok: {shown}"))],
            Role::Mx | Role::Submission => vec![Reply::new(250, taken, "Ok: queued as 305B030F")],
        })
    }
}

fn refusal(code: u16, status: (u8, u16, u16), text: &str) -> Result<(), Reply> {
    Err(Reply::new(code, EnhancedStatus::new(status.0, status.1, status.2), text))
}

fn reverse_path_is(envelope: &Envelope, address: &str) -> bool {
    matches!(&envelope.reverse_path, ReversePath::Address(path) if path.to_string() == address)
}
