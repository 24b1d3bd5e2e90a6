//! Mailboxes, the messages in them, and their marks.

use crate::queue::UnixMillis;
use crate::time::Civil;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Name of an account: its login, `local-part@domain` in lower case, already checked (see `directory`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName(Arc<str>);

/// Longest account name in octets: local part, at sign, domain (RFC 5321 §4.5.3.1).
pub const ACCOUNT_NAME_OCTETS_MAX: usize = 320;

impl AccountName {
    /// Takes a login name. Folds ASCII upper case; refuses what cannot name an account: empty or overlong names, and any
    /// octet other than letters, digits, `.`, `-`, `_`, `+`, `=`, `@` and non-ASCII letters (V14, V55). Names with `..`
    /// or a leading dot in either part are refused as well.
    pub fn parse(name: &str) -> Option<AccountName> {
        if name.is_empty() || name.len() > ACCOUNT_NAME_OCTETS_MAX || name.contains("..") {
            return None;
        }
        let fits = |c: char| {
            c.is_ascii_alphanumeric()
                || matches!(c, '.' | '-' | '_' | '+' | '=' | '@')
                || (!c.is_ascii() && c.is_alphanumeric())
        };
        if !name.chars().all(fits) || name.split('@').any(|part| part.is_empty() || part.starts_with('.')) {
            return None;
        }
        if name.matches('@').count() > 1 {
            return None;
        }
        Some(AccountName(name.to_lowercase().into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the at sign.
    pub fn local_part(&self) -> &str {
        self.0.split_once('@').map_or(&*self.0, |(local, _)| local)
    }

    /// The part after the at sign; empty without one.
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, domain)| domain)
    }
}

impl Borrow<str> for AccountName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub $inner);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A message's number in its mailbox, never reused (RFC 9051 §2.3.1.1). From 1 up.
    Uid, u32
);
number!(
    /// Generation of a mailbox's UID numbering.
    UidValidity, u32
);
number!(
    /// Per-account counter stamped on every change (RFC 7162). From 1 up; at most 2^63 - 1.
    ModSeq, u64
);
number!(
    /// A mailbox within its account; never reused, unchanged by renaming.
    MailboxId, u64
);
number!(
    /// Stored octets of a message; copies share it. Never reused.
    BlobId, u64
);
number!(
    /// A staged body, waiting for the commit that puts it into a mailbox or the queue.
    BodyId, u64
);

/// System flags of a message (RFC 9051 §2.3.2), as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// `\Seen`
    pub const SEEN: Flags = Flags(1);
    /// `\Answered`
    pub const ANSWERED: Flags = Flags(2);
    /// `\Flagged`
    pub const FLAGGED: Flags = Flags(4);
    /// `\Deleted`
    pub const DELETED: Flags = Flags(8);
    /// `\Draft`
    pub const DRAFT: Flags = Flags(16);
    /// All system flags.
    pub const ALL: Flags = Flags(31);

    /// Name and bit of each system flag, in the order servers list them.
    pub const NAMES: [(&'static str, Flags); 5] = [
        ("\\Answered", Flags::ANSWERED),
        ("\\Flagged", Flags::FLAGGED),
        ("\\Deleted", Flags::DELETED),
        ("\\Seen", Flags::SEEN),
        ("\\Draft", Flags::DRAFT),
    ];

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    pub const fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// These flags without `other`.
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

/// A free mark on messages, such as `$Forwarded`. Compared without regard to ASCII case (RFC 9051 §2.3.2).
#[derive(Debug, Clone)]
pub struct Keyword(Arc<str>);

/// Longest keyword in octets.
pub const KEYWORD_OCTETS_MAX: usize = 128;
/// Most keywords a mailbox knows; each is one bit of a word per message (V24).
pub const KEYWORDS_PER_MAILBOX_MAX: usize = 64;

impl Keyword {
    /// Takes an IMAP flag-keyword: an atom (RFC 9051 §9, flag-keyword) of bounded length.
    pub fn parse(text: &str) -> Option<Keyword> {
        let special = |b: u8| {
            matches!(b, b'(' | b')' | b'{' | b' ' | b'%' | b'*' | b'"' | b'\\' | b']') || !(0x21..=0x7e).contains(&b)
        };
        (!text.is_empty() && text.len() <= KEYWORD_OCTETS_MAX && !text.bytes().any(special))
            .then(|| Keyword(text.into()))
    }

    /// The keyword as first written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Keyword {
    fn eq(&self, other: &Keyword) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Keyword {}

/// Flags and keywords by name: what a client writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlagSet {
    /// The system flags.
    pub flags: Flags,
    /// The keywords, without duplicates.
    pub keywords: Vec<Keyword>,
}

impl FlagSet {
    /// Only system flags.
    pub fn system(flags: Flags) -> FlagSet {
        FlagSet { flags, keywords: Vec::new() }
    }
}

/// When a message came into the store, as an instant and the zone it is shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InternalDate {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix_seconds: i64,
    /// Minutes east of Greenwich.
    pub zone_minutes: i16,
}

impl From<UnixMillis> for InternalDate {
    /// To the second, shown in UTC.
    fn from(at: UnixMillis) -> InternalDate {
        InternalDate { unix_seconds: i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX), zone_minutes: 0 }
    }
}

impl InternalDate {
    /// The civil time in its zone.
    pub fn civil(self) -> Civil {
        Civil::from_unix(self.unix_seconds, self.zone_minutes)
    }
}

/// Role of a mailbox (RFC 6154 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpecialUse {
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Flagged`
    Flagged,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

impl SpecialUse {
    /// Every role with its attribute.
    pub const NAMES: [(&'static str, SpecialUse); 6] = [
        ("\\Archive", SpecialUse::Archive),
        ("\\Drafts", SpecialUse::Drafts),
        ("\\Flagged", SpecialUse::Flagged),
        ("\\Junk", SpecialUse::Junk),
        ("\\Sent", SpecialUse::Sent),
        ("\\Trash", SpecialUse::Trash),
    ];

    /// The attribute, with its backslash.
    pub fn attribute(self) -> &'static str {
        match self {
            SpecialUse::Archive => "\\Archive",
            SpecialUse::Drafts => "\\Drafts",
            SpecialUse::Flagged => "\\Flagged",
            SpecialUse::Junk => "\\Junk",
            SpecialUse::Sent => "\\Sent",
            SpecialUse::Trash => "\\Trash",
        }
    }
}

/// Mailboxes every account has from the start, beside INBOX.
pub const INITIAL_MAILBOXES: [(&str, SpecialUse); 5] = [
    ("Drafts", SpecialUse::Drafts),
    ("Sent", SpecialUse::Sent),
    ("Junk", SpecialUse::Junk),
    ("Trash", SpecialUse::Trash),
    ("Archive", SpecialUse::Archive),
];

/// Sign between the levels of a mailbox name.
pub const SEPARATOR: char = '/';
/// Longest mailbox name in octets of UTF-8.
pub const MAILBOX_NAME_OCTETS_MAX: usize = 1_000;
/// Most levels of a mailbox name.
pub const MAILBOX_LEVELS_MAX: usize = 32;

/// Full name of a mailbox, in UTF-8, levels separated by [`SEPARATOR`]. `INBOX` in any case is one name (RFC 9051 §5.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxName(Arc<str>);

/// Why a mailbox cannot have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailboxNameError {
    /// Empty, or an empty level: a leading, trailing or doubled separator.
    EmptyLevel,
    /// Longer than [`MAILBOX_NAME_OCTETS_MAX`] or deeper than [`MAILBOX_LEVELS_MAX`].
    TooLong,
    /// A control character, `%`, `*`, or a level `.` or `..` (V55).
    Forbidden,
}

impl MailboxName {
    /// The mailbox that receives mail.
    pub fn inbox() -> MailboxName {
        MailboxName("INBOX".into())
    }

    /// Takes a name in UTF-8.
    pub fn parse(name: &str) -> Result<MailboxName, MailboxNameError> {
        if name.len() > MAILBOX_NAME_OCTETS_MAX || name.split(SEPARATOR).count() > MAILBOX_LEVELS_MAX {
            return Err(MailboxNameError::TooLong);
        }
        if name.chars().any(|c| c.is_control() || matches!(c, '%' | '*' | '\u{2028}' | '\u{2029}' | '\u{feff}')) {
            return Err(MailboxNameError::Forbidden);
        }
        for level in name.split(SEPARATOR) {
            match level {
                "" => return Err(MailboxNameError::EmptyLevel),
                "." | ".." => return Err(MailboxNameError::Forbidden),
                _ => {}
            }
        }
        let (first, rest) = name.split_once(SEPARATOR).map_or((name, None), |(first, rest)| (first, Some(rest)));
        if !first.eq_ignore_ascii_case("INBOX") {
            return Ok(MailboxName(name.into()));
        }
        Ok(MailboxName(rest.map_or("INBOX".into(), |rest| format!("INBOX{SEPARATOR}{rest}").into())))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is INBOX itself.
    pub fn is_inbox(&self) -> bool {
        &*self.0 == "INBOX"
    }

    /// Whether `self` lies below `parent` in the hierarchy.
    pub fn is_inferior_of(&self, parent: &MailboxName) -> bool {
        self.0.strip_prefix(&*parent.0).is_some_and(|rest| rest.starts_with(SEPARATOR))
    }

    /// The names of all superior levels, outermost first.
    pub fn superiors(&self) -> impl Iterator<Item = MailboxName> + '_ {
        self.0.match_indices(SEPARATOR).map(|(index, _)| MailboxName(self.0[..index].into()))
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One line of an account's list of mailboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxInfo {
    /// The mailbox; `None` for a name that is only subscribed, or only a level above others.
    pub id: Option<MailboxId>,
    /// Its full name.
    pub name: MailboxName,
    /// Its role, if it has one.
    pub special_use: Option<SpecialUse>,
    /// Whether the account wants it listed by LSUB.
    pub subscribed: bool,
    /// Generation of its numbering.
    pub uid_validity: UidValidity,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inbox_has_one_spelling() {
        assert!(MailboxName::parse("inBox").unwrap().is_inbox());
        assert_eq!(MailboxName::parse("inbox/Old").unwrap().as_str(), "INBOX/Old");
        assert_eq!(MailboxName::parse("Inboxes").unwrap().as_str(), "Inboxes");
    }

    #[test]
    fn v55_no_name_climbs_or_hides() {
        for name in
            ["", "/a", "a/", "a//b", "..", "a/../b", "a\0b", "a\nb", "a%", "*", &"a/".repeat(40), &"x".repeat(1_001)]
        {
            assert!(MailboxName::parse(name).is_err(), "{name:?}");
        }
        for name in ["..@x", "a/b@x", "a@../x", "a\0@x", "a b@x", "@x", "a@", "a@b@c", ".a@x", "a'--@x", "a$(id)@x", ""]
        {
            assert!(AccountName::parse(name).is_none(), "{name:?}");
        }
        assert_eq!(AccountName::parse("Brian@Example.NET").unwrap().as_str(), "brian@example.net");
    }

    #[test]
    fn superiors_are_listed_outermost_first() {
        let name = MailboxName::parse("a/b/c").unwrap();
        assert_eq!(name.superiors().map(|n| n.to_string()).collect::<Vec<_>>(), ["a", "a/b"]);
        assert!(name.is_inferior_of(&MailboxName::parse("a/b").unwrap()));
        assert!(!name.is_inferior_of(&MailboxName::parse("a/b/c").unwrap()));
    }
}
