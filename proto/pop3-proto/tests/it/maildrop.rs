//! What lies in the maildrop of each world before a dialogue begins.
//!
//! The worlds in memory are made of this; so are the maildrops of the real server that the same dialogues are played
//! against, which is why nothing here knows a store.

use pop3_proto::Capability;

/// A message of a maildrop.
pub struct Mail {
    /// Its UID.
    pub uid: u32,
    /// Its octets; `None` if they cannot be read.
    pub text: Option<&'static str>,
    /// The size that the maildrop claims, where it is not that of the text.
    pub claimed: Option<u32>,
}

pub const FIRST: &str = "From: alice@example.org\r\nSubject: one\r\n\r\nHello.\r\n.\r\n..two dots\r\n.end\r\n";
pub const SECOND: &str = "Subject: two\r\n\r\nno line end";

/// UIDVALIDITY of every maildrop.
pub const UID_VALIDITY: u32 = 0x6512_0001;
/// What the next message of every maildrop will be called.
pub const UID_NEXT: u32 = 100;
/// What is masked in the world `masked`.
pub const MASKED: [Capability; 3] = [Capability::Uidl, Capability::Sasl, Capability::Expire];
/// Logins and their passwords.
pub const PASSWORDS: [(&str, &str); 2] = [("brian@example.net", "hunter2"), ("carol@example.net", " two  words ")];

/// The messages of a world's maildrop, in order.
pub fn maildrop(world: &str) -> Vec<Mail> {
    let mail = |uid, text| Mail { uid, text: Some(text), claimed: None };
    let mut messages = vec![mail(4, FIRST), mail(7, SECOND)];
    match world {
        "empty" => messages.clear(),
        "message-lost" => messages.push(Mail { uid: 9, text: None, claimed: Some(500) }),
        "message-short" => messages.iter_mut().skip(1).for_each(|second| second.claimed = Some(500)),
        "odd" => messages.extend([
            mail(10, ""),
            mail(11, "Subject: bare\n\n.\nlast\r\n.\r\n"),
            mail(12, "Subject: only a header\r\n"),
        ]),
        _ => {}
    }
    messages
}
