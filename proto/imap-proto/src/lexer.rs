//! The tokens of one complete command (RFC 3501 §9). No command knows here, no input or output.
//!
//! The octets are those the client sent, without the last line end; literals stand where they were sent, their
//! announcement and its line end included. They were counted when they were received, and are counted again here.

use crate::mutf7;
use crate::sequence_set::{Bound, RANGES_MAX, SequenceSet};
use mail::mailbox::MailboxNameError;
use mail::time::{MONTHS, days_from_civil};
use mail::{FlagSet, Flags, InternalDate, Keyword, MailboxName, ModSeq};
use std::borrow::Cow;

/// Most parentheses, NOTs and ORs inside one another (V22).
pub const DEPTH_MAX: usize = 50;
/// Most entries of any parenthesized list whose length the grammar leaves open.
pub const LIST_ENTRIES_MAX: usize = 1_000;

/// The command is not of the grammar; the text tells the client why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadCommand(pub &'static str);

/// A mailbox name that is well written but that no mailbox can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImpossibleName(pub MailboxNameError);

/// Reads a command from left to right.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    octets: &'a [u8],
    place: usize,
    depth: usize,
}

impl<'a> Lexer<'a> {
    /// Begins at the first octet.
    pub fn new(octets: &'a [u8]) -> Lexer<'a> {
        Lexer { octets, place: 0, depth: 0 }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.octets.get(self.place..).unwrap_or_default()
    }

    /// The next octet.
    pub fn peek(&self) -> Option<u8> {
        self.octets.get(self.place).copied()
    }

    /// Whether all is read.
    pub fn at_end(&self) -> bool {
        self.place >= self.octets.len()
    }

    /// All must be read.
    pub fn end(&self) -> Result<(), BadCommand> {
        if self.at_end() { Ok(()) } else { Err(BadCommand("Unexpected arguments after the command.")) }
    }

    /// Passes over `octet` if it is next.
    pub fn eat(&mut self, octet: u8) -> bool {
        let fits = self.peek() == Some(octet);
        self.place += usize::from(fits);
        fits
    }

    /// `octet` must be next.
    pub fn expect(&mut self, octet: u8) -> Result<(), BadCommand> {
        if self.eat(octet) {
            return Ok(());
        }
        Err(BadCommand(match octet {
            b' ' => "Missing argument or space.",
            b'(' => "Missing opening parenthesis.",
            b')' => "Missing closing parenthesis.",
            b']' => "Missing closing bracket.",
            _ => "Unexpected character.",
        }))
    }

    /// A single space must be next.
    pub fn space(&mut self) -> Result<(), BadCommand> {
        self.expect(b' ')
    }

    /// Passes over `word`, in any case, if the next octets are it. What follows is not looked at.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let fits = self.rest().get(..word.len()).is_some_and(|next| next.eq_ignore_ascii_case(word.as_bytes()));
        self.place += if fits { word.len() } else { 0 };
        fits
    }

    /// One level deeper; to be undone by [`ascend`](Self::ascend). Whatever recurses calls this first.
    pub fn descend(&mut self) -> Result<(), BadCommand> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(BadCommand("Too many levels of parentheses.")) } else { Ok(()) }
    }

    /// One level up again.
    pub fn ascend(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// A tag: ASTRING-CHARs other than `+`.
    pub fn tag(&mut self) -> Result<&'a str, BadCommand> {
        self.run(|b| is_astring_char(b) && b != b'+', "Missing or malformed tag.")
    }

    /// An atom.
    pub fn atom(&mut self) -> Result<&'a str, BadCommand> {
        self.run(is_atom_char, "Missing or malformed atom.")
    }

    /// At least one octet that fits; all of them ASCII.
    fn run(&mut self, fits: impl Fn(u8) -> bool, error: &'static str) -> Result<&'a str, BadCommand> {
        let rest = self.rest();
        let length = rest.iter().position(|b| !fits(*b) || !b.is_ascii()).unwrap_or(rest.len());
        let text = rest.get(..length).and_then(|run| std::str::from_utf8(run).ok()).unwrap_or_default();
        if text.is_empty() {
            return Err(BadCommand(error));
        }
        self.place += length;
        Ok(text)
    }

    /// An atom (with `]` allowed), a quoted string or a literal.
    pub fn astring(&mut self) -> Result<Cow<'a, [u8]>, BadCommand> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            _ => Ok(Cow::Borrowed(self.run(is_astring_char, "Missing or malformed string.")?.as_bytes())),
        }
    }

    /// A mailbox pattern of LIST or LSUB: as [`astring`](Self::astring), with `%` and `*` allowed in the bare form.
    pub fn list_mailbox(&mut self) -> Result<Cow<'a, [u8]>, BadCommand> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            _ => {
                let fits = |b| is_astring_char(b) || matches!(b, b'%' | b'*');
                Ok(Cow::Borrowed(self.run(fits, "Missing or malformed mailbox pattern.")?.as_bytes()))
            }
        }
    }

    /// A quoted string or a literal.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>, BadCommand> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(Cow::Borrowed),
            _ => Err(BadCommand("Missing string.")),
        }
    }

    /// A string, or NIL.
    pub fn nstring(&mut self) -> Result<Option<Cow<'a, [u8]>>, BadCommand> {
        match self.peek() {
            Some(b'"' | b'{') => self.string().map(Some),
            _ if self.atom()?.eq_ignore_ascii_case("NIL") => Ok(None),
            _ => Err(BadCommand("Missing string or NIL.")),
        }
    }

    fn quoted(&mut self) -> Result<Cow<'a, [u8]>, BadCommand> {
        self.expect(b'"')?;
        let rest = self.rest();
        let mut escaped = false;
        let mut escapes = 0;
        let mut end = None;
        for (index, octet) in rest.iter().enumerate() {
            match octet {
                // RFC 3501 §9 wants 7-bit text; clients send UTF-8 all the same, so octets from 0x80 up are taken (not).
                0 | b'\r' | b'\n' => return Err(BadCommand("A quoted string holds a character that needs a literal.")),
                b'"' | b'\\' if escaped => escaped = false,
                _ if escaped => return Err(BadCommand("Only a quote or a backslash can be escaped.")),
                b'\\' => {
                    escaped = true;
                    escapes += 1;
                }
                b'"' => {
                    end = Some(index);
                    break;
                }
                _ => {}
            }
        }
        let end = end.ok_or(BadCommand("A quoted string does not end."))?;
        self.place += end + 1;
        let inner = rest.get(..end).unwrap_or_default();
        if escapes == 0 {
            return Ok(Cow::Borrowed(inner));
        }
        let mut text = Vec::with_capacity(inner.len());
        let mut octets = inner.iter();
        while let Some(octet) = octets.next() {
            text.extend(if *octet == b'\\' { octets.next() } else { Some(octet) });
        }
        Ok(Cow::Owned(text))
    }

    fn literal(&mut self) -> Result<&'a [u8], BadCommand> {
        const MALFORMED: BadCommand = BadCommand("Malformed literal.");
        self.expect(b'{')?;
        let length = usize::try_from(self.number64()?).map_err(|_| MALFORMED)?;
        // RFC 7888 §4: `+` marks a literal that waited for nobody. `-` is no such mark.
        self.eat(b'+');
        if !(self.eat(b'}') && self.eat(b'\r') && self.eat(b'\n')) {
            return Err(MALFORMED);
        }
        let octets = self.rest().get(..length).ok_or(MALFORMED)?;
        self.place += length;
        // RFC 3501 §9: CHAR8 leaves NUL out (V27).
        if memchr::memchr(0, octets).is_some() {
            return Err(BadCommand("A literal holds NUL."));
        }
        Ok(octets)
    }

    /// A number that fits 32 bits.
    pub fn number(&mut self) -> Result<u32, BadCommand> {
        u32::try_from(self.number64()?).map_err(|_| BadCommand("Number too large."))
    }

    /// A number below 2^63 (RFC 9051 §9, number64).
    pub fn number64(&mut self) -> Result<u64, BadCommand> {
        let digits = self.run(|b| b.is_ascii_digit(), "Missing number.")?;
        match digits.parse::<u64>() {
            Ok(number) if number <= i64::MAX as u64 => Ok(number),
            _ => Err(BadCommand("Number too large.")),
        }
    }

    /// A mod-sequence, 0 allowed (RFC 7162 §7, mod-sequence-valzer).
    pub fn mod_sequence(&mut self) -> Result<ModSeq, BadCommand> {
        self.number64().map(ModSeq)
    }

    /// A set of message numbers.
    pub fn sequence_set(&mut self) -> Result<SequenceSet, BadCommand> {
        let mut ranges = Vec::new();
        loop {
            let first = self.bound()?;
            let last = if self.eat(b':') { self.bound()? } else { first };
            if ranges.len() >= RANGES_MAX {
                return Err(BadCommand("Too many ranges in a message set."));
            }
            ranges.push((first, last));
            if !self.eat(b',') {
                return Ok(SequenceSet::new(ranges));
            }
        }
    }

    fn bound(&mut self) -> Result<Bound, BadCommand> {
        if self.eat(b'*') {
            return Ok(Bound::Largest);
        }
        match self.number() {
            Ok(0) | Err(_) => Err(BadCommand("Malformed message set.")),
            Ok(number) => Ok(Bound::Number(number)),
        }
    }

    /// A date of SEARCH, with or without quotes, as days since 1970-01-01.
    pub fn date(&mut self) -> Result<i64, BadCommand> {
        let quoted = self.eat(b'"');
        let days = self.day_month_year()?;
        if quoted {
            self.expect(b'"')?;
        }
        Ok(days)
    }

    /// A date and time with zone, in quotes, as for APPEND.
    pub fn date_time(&mut self) -> Result<InternalDate, BadCommand> {
        const MALFORMED: BadCommand = BadCommand("Malformed date and time.");
        self.expect(b'"')?;
        self.eat(b' ');
        let days = self.day_month_year()?;
        self.space()?;
        let hour = self.digits(2)?;
        self.expect(b':')?;
        let minute = self.digits(2)?;
        self.expect(b':')?;
        let second = self.digits(2)?;
        self.space()?;
        let west = match self.peek() {
            Some(b'-') => true,
            Some(b'+') => false,
            _ => return Err(MALFORMED),
        };
        self.place += 1;
        let (zone_hours, zone_minutes) = (self.digits(2)?, self.digits(2)?);
        self.expect(b'"')?;
        if hour > 23 || minute > 59 || second > 60 || zone_hours > 23 || zone_minutes > 59 {
            return Err(MALFORMED);
        }
        let zone = (zone_hours * 60 + zone_minutes) as i16;
        let zone = if west { -zone } else { zone };
        let clock = i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second.min(59));
        Ok(InternalDate { unix_seconds: days * 86_400 + clock - i64::from(zone) * 60, zone_minutes: zone })
    }

    fn day_month_year(&mut self) -> Result<i64, BadCommand> {
        const MALFORMED: BadCommand = BadCommand("Malformed date.");
        let day = self.run(|b| b.is_ascii_digit(), MALFORMED.0)?.parse::<u8>().map_err(|_| MALFORMED)?;
        self.expect(b'-')?;
        let name = self.rest().get(..3).ok_or(MALFORMED)?;
        let month = MONTHS.iter().position(|month| month.as_bytes().eq_ignore_ascii_case(name)).ok_or(MALFORMED)? + 1;
        self.place += 3;
        self.expect(b'-')?;
        let year = i64::from(self.digits(4)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if day == 0 || day > length {
            return Err(MALFORMED);
        }
        Ok(days_from_civil(year, month as u8, day))
    }

    /// Exactly `count` digits, at most four.
    fn digits(&mut self, count: usize) -> Result<u32, BadCommand> {
        let digits = self.rest().get(..count).unwrap_or_default();
        if digits.len() != count || !digits.iter().all(u8::is_ascii_digit) {
            return Err(BadCommand("Malformed date."));
        }
        self.place += count;
        Ok(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
    }

    /// A mailbox name, decoded (RFC 3501 §5.1.3). The inner error is a name that no mailbox can have: to be answered
    /// like one that does not exist.
    pub fn mailbox(&mut self) -> Result<Result<MailboxName, ImpossibleName>, BadCommand> {
        let wire = self.astring()?;
        Ok(match mutf7::decode(&wire) {
            Ok(name) => MailboxName::parse(&name).map_err(ImpossibleName),
            Err(mutf7::NotModifiedUtf7) => Err(ImpossibleName(MailboxNameError::Forbidden)),
        })
    }

    /// A flag: a system flag or a keyword goes into `flags`. `\Recent` is no flag that a client can set.
    pub fn flag(&mut self, flags: &mut FlagSet) -> Result<(), BadCommand> {
        if self.eat(b'\\') {
            let name = self.atom()?;
            // RFC 3501 §9: flag-extension is left to future standards; there is none that a client may set.
            let (_, flag) = Flags::NAMES
                .into_iter()
                .find(|(known, _)| known.strip_prefix('\\').is_some_and(|known| known.eq_ignore_ascii_case(name)))
                .ok_or(BadCommand("Unknown or unsettable system flag."))?;
            flags.flags = flags.flags.union(flag);
            return Ok(());
        }
        let keyword = Keyword::parse(self.atom()?).ok_or(BadCommand("Malformed keyword."))?;
        if !flags.keywords.contains(&keyword) {
            // The store refuses more keywords than a mailbox may have; this bounds the comparison above (V24).
            if flags.keywords.len() > mail::mailbox::KEYWORDS_PER_MAILBOX_MAX {
                return Err(BadCommand("Too many keywords."));
            }
            flags.keywords.push(keyword);
        }
        Ok(())
    }

    /// Flags in parentheses, perhaps none.
    pub fn flag_list(&mut self) -> Result<FlagSet, BadCommand> {
        let mut flags = FlagSet::default();
        self.expect(b'(')?;
        if self.eat(b')') {
            return Ok(flags);
        }
        loop {
            self.flag(&mut flags)?;
            if self.eat(b')') {
                return Ok(flags);
            }
            self.space()?;
        }
    }
}

/// RFC 3501 §9, ATOM-CHAR.
pub fn is_atom_char(octet: u8) -> bool {
    matches!(octet, 0x21..=0x7e) && !matches!(octet, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// RFC 3501 §9, ASTRING-CHAR.
pub fn is_astring_char(octet: u8) -> bool {
    is_atom_char(octet) || octet == b']'
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::time::Civil;

    fn astring(text: &str) -> Option<String> {
        let mut lexer = Lexer::new(text.as_bytes());
        let string = lexer.astring().ok()?.into_owned();
        lexer.end().ok()?;
        String::from_utf8(string).ok()
    }

    #[test]
    fn v24_a_flood_of_keywords_is_bounded_however_they_are_spelled() {
        let flood: Vec<String> = (0..100_000).map(|number| format!("k{number}")).collect();
        let text = format!("({})", flood.join(" "));
        assert!(Lexer::new(text.as_bytes()).flag_list().is_err());
        // Spellings of one keyword are one keyword, in any number.
        let same = format!("({})", ["red", "RED", "rEd"].repeat(30_000).join(" "));
        assert_eq!(Lexer::new(same.as_bytes()).flag_list().unwrap().keywords.len(), 1);
    }

    #[test]
    fn strings_in_all_forms() {
        for (text, value) in [
            ("abc]", "abc]"),
            ("\"a b\"", "a b"),
            ("\"\"", ""),
            ("\"a\\\"b\\\\\"", "a\"b\\"),
            ("{3}\r\na\"b", "a\"b"),
            ("{3+}\r\na\nb", "a\nb"),
            ("{0}\r\n", ""),
        ] {
            assert_eq!(astring(text).as_deref(), Some(value), "{text:?}");
        }
        for text in [
            "",
            "a b",
            "\"a",
            "\"a\\b\"",
            "\"a\r\nb\"",
            "\"a\\\"",
            "a\"b",
            "{3}\r\nab",
            "{3}ab",
            "{-1}\r\n",
            "{a}\r\n",
            "{3-}\r\nabc",
            "{1}\r\n\0",
            "{9223372036854775808}\r\n",
            "{18446744073709551616}\r\na",
            "(",
            "%",
        ] {
            assert_eq!(astring(text), None, "{text:?}");
        }
    }

    #[test]
    fn v22_numbers_and_sets_are_bounded() {
        let number = |text: &str| Lexer::new(text.as_bytes()).number64().ok();
        assert_eq!(number("9223372036854775807"), Some(i64::MAX as u64));
        assert_eq!(number("9223372036854775808"), None);
        assert_eq!(number("-1"), None);
        assert_eq!(number(&"9".repeat(10_000)), None);
        let set = |text: &str| Lexer::new(text.as_bytes()).sequence_set().is_ok();
        assert!(set("1:*,4,*,7:3"));
        for text in ["", "0", "0:1", "1:", ":1", "1,", ",1", "4294967296", "a"] {
            assert!(!set(text), "{text:?}");
        }
        let many = |commas: usize| format!("{}1", "1,".repeat(commas));
        assert!(set(&many(RANGES_MAX - 1)));
        assert!(!set(&many(RANGES_MAX)));
    }

    #[test]
    fn dates() {
        let date = |text: &str| Lexer::new(text.as_bytes()).date().ok();
        assert_eq!(date("1-Jan-1970"), Some(0));
        assert_eq!(date("\"02-jan-1970\""), Some(1));
        assert_eq!(date("29-Feb-2000"), Some(11_016));
        for text in
            ["29-Feb-1900", "31-Apr-2000", "0-Jan-2000", "1-Foo-2000", "1-Jan-99", "\"1-Jan-1999", "999-Jan-2000"]
        {
            assert_eq!(date(text), None, "{text}");
        }
        let date_time = |text: &str| Lexer::new(text.as_bytes()).date_time().ok();
        let moment = date_time("\"17-Jul-1996 02:44:25 -0730\"").unwrap();
        assert_eq!(moment.civil().to_imap(), "17-Jul-1996 02:44:25 -0730");
        let moment = date_time("\" 7-Jul-1996 23:59:60 +0000\"").unwrap();
        assert_eq!(Civil::from_unix(moment.unix_seconds, 0).to_imap(), " 7-Jul-1996 23:59:59 +0000");
        for text in ["\"17-Jul-1996 24:00:00 +0000\"", "\"17-Jul-1996 02:44:25\"", "\"17-Jul-1996 02:44:25 0000\"", "x"]
        {
            assert_eq!(date_time(text), None, "{text}");
        }
    }

    #[test]
    fn flags_and_keywords() {
        let list = |text: &str| Lexer::new(text.as_bytes()).flag_list().ok();
        let flags = list("(\\seen \\Deleted $Junk $junk Work)").unwrap();
        assert_eq!(flags.flags, Flags::SEEN.union(Flags::DELETED));
        assert_eq!(flags.keywords.iter().map(Keyword::as_str).collect::<Vec<_>>(), ["$Junk", "Work"]);
        assert_eq!(list("()"), Some(FlagSet::default()));
        for text in ["", "(", "(\\Recent)", "(\\Foo)", "(a", "(a )", "( a)", "(\\)", "(a\\b)"] {
            assert_eq!(list(text), None, "{text}");
        }
    }

    #[test]
    fn r43_mailbox_names_are_decoded() {
        let mailbox = |text: &str| Lexer::new(text.as_bytes()).mailbox().unwrap().ok().map(|name| name.to_string());
        assert_eq!(mailbox("Entw&APw-rfe").as_deref(), Some("Entwürfe"));
        assert_eq!(mailbox("inbox").as_deref(), Some("INBOX"));
        assert_eq!(mailbox("\"a/../b\""), None);
        assert_eq!(mailbox("&AGE-"), None);
    }

    #[test]
    fn v27_every_truncation_ends_in_an_error_or_a_value() {
        let text = b"a1 X \"q\\\"uoted\" {4}\r\nabcd (\\Seen $Work) 1:*,5 \"17-Jul-1996 02:44:25 -0730\" 1-Jan-1970";
        for end in 0..text.len() {
            let mut lexer = Lexer::new(&text[..end]);
            let mut read = || -> Result<(), BadCommand> {
                lexer.tag()?;
                lexer.space()?;
                lexer.atom()?;
                lexer.space()?;
                lexer.string()?;
                lexer.space()?;
                lexer.string()?;
                lexer.space()?;
                lexer.flag_list()?;
                lexer.space()?;
                lexer.sequence_set()?;
                lexer.space()?;
                lexer.date_time()?;
                lexer.space()?;
                lexer.date().map(drop)
            };
            assert!(read().is_err(), "{end}");
        }
    }
}
