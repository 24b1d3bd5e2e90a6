//! What had happened to the account of each world before a dialogue begins, and what its administrator had set.
//!
//! The worlds in memory are made of this; so are the accounts of the real server that the same dialogues are played
//! against, which is why nothing here knows a store.

use mail::{Flags, InternalDate, SpecialUse};

pub const FIRST: &str = "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nFrom: Fred Foobar <foobar@example.org>\r\n\
                         Subject: afternoon meeting\r\nTo: mooch@example.net\r\nMessage-Id: <B27397@example.org>\r\n\r\n\
                         Hello Joe.\r\n";
pub const SECOND: &str = "From: alice@example.org\r\nSubject: two\r\n\r\nSecond.\r\n";
pub const THIRD: &str = "Subject: three\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
                         --b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>two\r\n--b--\r\n";

/// When everything was delivered: 9 September 2001.
pub const DELIVERED: InternalDate = InternalDate { unix_seconds: 1_000_000_000, zone_minutes: 0 };

/// What is masked in the world `masked`.
pub const MASKED: [&str; 3] = ["CONDSTORE", "AUTH=LOGIN", "IDLE"];
/// What is masked in the world `bare`: every extension.
pub const MASKED_ALL: [&str; 23] = [
    "SASL-IR",
    "LITERAL+",
    "ID",
    "ENABLE",
    "IDLE",
    "NAMESPACE",
    "CHILDREN",
    "UNSELECT",
    "UIDPLUS",
    "MOVE",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "ESEARCH",
    "CONDSTORE",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
    "STATUS=SIZE",
    "MULTIAPPEND",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "WITHIN",
    "APPENDLIMIT",
];
/// Octets that the account of the world `quota` may hold.
pub const QUOTA_OCTETS: u64 = 1_048_576;
/// Messages that the account of the world `quota` may hold.
pub const QUOTA_MESSAGES: u64 = 5;
/// The largest message of the world `tiny-append`, in octets.
pub const TINY_OCTETS: u64 = 20;

/// One commit of the past. UIDVALIDITY values count the mailboxes made, from 1; mod-sequences the commits, from 2.
pub enum Deed {
    /// A mailbox was made, superiors and all.
    Create(&'static str, Option<SpecialUse>),
    /// A mailbox was deleted.
    Delete(&'static str),
    /// A message came into INBOX.
    Deliver(&'static str, Flags),
}

/// The past of a world's account, from nothing. It always begins with INBOX and Sent.
pub fn history(world: &str) -> Vec<Deed> {
    let mut deeds = vec![Deed::Create("INBOX", None), Deed::Create("Sent", Some(SpecialUse::Sent))];
    if ["small", "arrival-on-third-look", "store-down", "bodies-lost", "quota", "tree", "bare"].contains(&world) {
        let messages = [(FIRST, Flags::SEEN), (SECOND, Flags::NONE), (THIRD, Flags::FLAGGED)];
        deeds.extend(messages.map(|(text, flags)| Deed::Deliver(text, flags)));
    }
    if world == "tree" {
        deeds.extend(["Work/2025/Q1", "Work/2025/Q2", "Entwürfe", "a&b"].map(|name| Deed::Create(name, None)));
        deeds.push(Deed::Delete("Work"));
    }
    deeds
}
