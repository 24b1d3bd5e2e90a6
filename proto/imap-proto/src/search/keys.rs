//! The arguments of SEARCH (RFC 3501 §6.4.4), with MODSEQ (RFC 7162 §3.1.5), OLDER and YOUNGER (RFC 5032) and result
//! options (RFC 4731). Grammar only.

use super::text::fold;
use crate::lexer::{BadCommand, Lexer};
use crate::sequence_set::SequenceSet;
use mail::{Flags, Keyword, ModSeq};

/// Most search keys in one SEARCH, lists, NOT and OR included.
pub const KEYS_MAX: usize = 1_000;
/// Most BODY and TEXT keys in one SEARCH: each is a search through everything that is read.
pub const TEXT_KEYS_MAX: usize = 100;
/// Longest string to search for, in octets.
pub const NEEDLE_OCTETS_MAX: usize = 4_096;

/// A SEARCH as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchProgram {
    /// What must hold.
    pub key: SearchKey,
    /// What to tell of the messages found; `None` asks for the SEARCH response of RFC 3501 §7.2.5.
    pub returns: Option<ReturnOptions>,
    /// Uses MODSEQ: the result tells the highest mod-sequence, and the client knows mod-sequences (RFC 7162 §3.1).
    pub uses_modseq: bool,
    /// Uses OLDER or YOUNGER (RFC 5032).
    pub uses_within: bool,
}

/// Result options (RFC 4731 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReturnOptions {
    /// The lowest number.
    pub min: bool,
    /// The highest number.
    pub max: bool,
    /// All numbers.
    pub all: bool,
    /// How many there are.
    pub count: bool,
}

/// One criterion. Strings to search for are folded as [`SearchRun`](super::SearchRun) folds what it searches in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchKey {
    /// ALL
    All,
    /// ANSWERED, DELETED, DRAFT, FLAGGED, SEEN
    Flag(Flags),
    /// KEYWORD
    Keyword(Keyword),
    /// RECENT
    Recent,
    /// A set of sequence numbers.
    Sequence(SequenceSet),
    /// UID
    Uid(SequenceSet),
    /// BEFORE: the internal date's day, counted from 1970-01-01, is earlier.
    Before(i64),
    /// ON
    On(i64),
    /// SINCE
    Since(i64),
    /// SENTBEFORE: as BEFORE, for the day that the Date: field names.
    SentBefore(i64),
    /// SENTON
    SentOn(i64),
    /// SENTSINCE
    SentSince(i64),
    /// LARGER, in octets.
    Larger(u32),
    /// SMALLER, in octets.
    Smaller(u32),
    /// OLDER: seconds before now, or more.
    Older(u32),
    /// YOUNGER: seconds before now, or less.
    Younger(u32),
    /// MODSEQ: this mod-sequence, or above.
    ModSeq(ModSeq),
    /// FROM, TO, CC, BCC, SUBJECT
    Field(EnvelopeField, String),
    /// HEADER: name in lower case, string.
    Header(Vec<u8>, String),
    /// BODY
    Body(String),
    /// TEXT
    Text(String),
    /// NOT
    Not(Box<SearchKey>),
    /// OR
    Or(Box<SearchKey>, Box<SearchKey>),
    /// All of these.
    And(Vec<SearchKey>),
}

/// Fields of the envelope that have their own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeField {
    /// From:
    From,
    /// To:
    To,
    /// Cc:
    Cc,
    /// Bcc:
    Bcc,
    /// Subject:
    Subject,
}

/// Why a SEARCH is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchError {
    /// BAD: not of the grammar, or beyond a limit.
    Bad(BadCommand),
    /// NO with [`SearchError::BADCHARSET`]: the strings are in a charset that we do not search in (RFC 3501 §6.4.4).
    BadCharset,
}

impl SearchError {
    /// The response code for an unknown charset, without its brackets.
    pub const BADCHARSET: &'static str = "BADCHARSET (US-ASCII UTF-8)";
}

impl From<BadCommand> for SearchError {
    fn from(bad: BadCommand) -> SearchError {
        SearchError::Bad(bad)
    }
}

/// Reads the arguments of SEARCH that follow its space, to the end of the command.
pub fn parse(lexer: &mut Lexer<'_>) -> Result<SearchProgram, SearchError> {
    let returns = if eat_argument(lexer, "RETURN") { Some(return_options(lexer)?) } else { None };
    if eat_argument(lexer, "CHARSET") {
        let charset = lexer.astring()?;
        // US-ASCII is part of UTF-8, so both are read alike.
        if ![&b"US-ASCII"[..], b"UTF-8", b"ASCII"].iter().any(|known| charset.eq_ignore_ascii_case(known)) {
            return Err(SearchError::BadCharset);
        }
        lexer.space()?;
    }
    let mut parser = Parser { lexer, keys: 0, text_keys: 0, uses_modseq: false, uses_within: false };
    let mut keys = vec![parser.key()?];
    while !parser.lexer.at_end() {
        parser.lexer.space()?;
        keys.push(parser.key()?);
    }
    let Parser { uses_modseq, uses_within, .. } = parser;
    Ok(SearchProgram { key: SearchKey::And(keys), returns, uses_modseq, uses_within })
}

/// Passes over a word and its space, if they are next.
fn eat_argument(lexer: &mut Lexer<'_>, word: &str) -> bool {
    let mut ahead = lexer.clone();
    let fits = ahead.eat_word(word) && ahead.eat(b' ');
    if fits {
        *lexer = ahead;
    }
    fits
}

fn return_options(lexer: &mut Lexer<'_>) -> Result<ReturnOptions, BadCommand> {
    let mut options = ReturnOptions::default();
    lexer.expect(b'(')?;
    // RFC 4731 §3.1: no option is as good as ALL.
    options.all = lexer.peek() == Some(b')');
    while !lexer.eat(b')') {
        let word = lexer.atom()?;
        let option = match () {
            () if word.eq_ignore_ascii_case("MIN") => &mut options.min,
            () if word.eq_ignore_ascii_case("MAX") => &mut options.max,
            () if word.eq_ignore_ascii_case("ALL") => &mut options.all,
            () if word.eq_ignore_ascii_case("COUNT") => &mut options.count,
            () => return Err(BadCommand("Unknown SEARCH result option.")),
        };
        *option = true;
        if lexer.peek() != Some(b')') {
            lexer.space()?;
        }
    }
    lexer.space()?;
    Ok(options)
}

struct Parser<'l, 'a> {
    lexer: &'l mut Lexer<'a>,
    keys: usize,
    text_keys: usize,
    uses_modseq: bool,
    uses_within: bool,
}

impl Parser<'_, '_> {
    fn key(&mut self) -> Result<SearchKey, BadCommand> {
        self.keys += 1;
        if self.keys > KEYS_MAX {
            return Err(BadCommand("Too many search keys."));
        }
        self.lexer.descend()?;
        let key = match self.lexer.peek() {
            Some(b'(') => self.list(),
            Some(b'0'..=b'9' | b'*') => Ok(SearchKey::Sequence(self.lexer.sequence_set()?)),
            _ => {
                let word = self.lexer.atom()?.to_ascii_uppercase();
                self.named(&word)
            }
        };
        self.lexer.ascend();
        key
    }

    fn list(&mut self) -> Result<SearchKey, BadCommand> {
        self.lexer.expect(b'(')?;
        let mut keys = vec![self.key()?];
        while !self.lexer.eat(b')') {
            self.lexer.space()?;
            keys.push(self.key()?);
        }
        Ok(SearchKey::And(keys))
    }

    fn named(&mut self, word: &str) -> Result<SearchKey, BadCommand> {
        let not = |key| SearchKey::Not(Box::new(key));
        Ok(match word {
            "ALL" => SearchKey::All,
            "ANSWERED" => SearchKey::Flag(Flags::ANSWERED),
            "DELETED" => SearchKey::Flag(Flags::DELETED),
            "DRAFT" => SearchKey::Flag(Flags::DRAFT),
            "FLAGGED" => SearchKey::Flag(Flags::FLAGGED),
            "SEEN" => SearchKey::Flag(Flags::SEEN),
            "UNANSWERED" => not(SearchKey::Flag(Flags::ANSWERED)),
            "UNDELETED" => not(SearchKey::Flag(Flags::DELETED)),
            "UNDRAFT" => not(SearchKey::Flag(Flags::DRAFT)),
            "UNFLAGGED" => not(SearchKey::Flag(Flags::FLAGGED)),
            "UNSEEN" => not(SearchKey::Flag(Flags::SEEN)),
            "RECENT" => SearchKey::Recent,
            "OLD" => not(SearchKey::Recent),
            "NEW" => SearchKey::And(vec![SearchKey::Recent, not(SearchKey::Flag(Flags::SEEN))]),
            "KEYWORD" => SearchKey::Keyword(self.keyword()?),
            "UNKEYWORD" => not(SearchKey::Keyword(self.keyword()?)),
            _ => return self.with_argument(word),
        })
    }

    /// Keys whose argument follows a space.
    fn with_argument(&mut self, word: &str) -> Result<SearchKey, BadCommand> {
        const KNOWN: [&str; 22] = [
            "UID",
            "BEFORE",
            "ON",
            "SINCE",
            "SENTBEFORE",
            "SENTON",
            "SENTSINCE",
            "LARGER",
            "SMALLER",
            "OLDER",
            "YOUNGER",
            "MODSEQ",
            "FROM",
            "TO",
            "CC",
            "BCC",
            "SUBJECT",
            "HEADER",
            "BODY",
            "TEXT",
            "NOT",
            "OR",
        ];
        if !KNOWN.contains(&word) {
            return Err(BadCommand("Unknown search key."));
        }
        self.lexer.space()?;
        Ok(match word {
            "UID" => SearchKey::Uid(self.lexer.sequence_set()?),
            "BEFORE" => SearchKey::Before(self.lexer.date()?),
            "ON" => SearchKey::On(self.lexer.date()?),
            "SINCE" => SearchKey::Since(self.lexer.date()?),
            "SENTBEFORE" => SearchKey::SentBefore(self.lexer.date()?),
            "SENTON" => SearchKey::SentOn(self.lexer.date()?),
            "SENTSINCE" => SearchKey::SentSince(self.lexer.date()?),
            "LARGER" => SearchKey::Larger(self.lexer.number()?),
            "SMALLER" => SearchKey::Smaller(self.lexer.number()?),
            "OLDER" => SearchKey::Older(self.interval()?),
            "YOUNGER" => SearchKey::Younger(self.interval()?),
            "MODSEQ" => self.mod_sequence()?,
            "FROM" => SearchKey::Field(EnvelopeField::From, self.needle()?),
            "TO" => SearchKey::Field(EnvelopeField::To, self.needle()?),
            "CC" => SearchKey::Field(EnvelopeField::Cc, self.needle()?),
            "BCC" => SearchKey::Field(EnvelopeField::Bcc, self.needle()?),
            "SUBJECT" => SearchKey::Field(EnvelopeField::Subject, self.needle()?),
            "HEADER" => {
                let name = self.lexer.astring()?.to_ascii_lowercase();
                self.lexer.space()?;
                SearchKey::Header(name, self.needle()?)
            }
            "NOT" => SearchKey::Not(Box::new(self.key()?)),
            "OR" => {
                let first = self.key()?;
                self.lexer.space()?;
                SearchKey::Or(Box::new(first), Box::new(self.key()?))
            }
            _ => self.text(word)?,
        })
    }

    /// BODY and TEXT.
    fn text(&mut self, word: &str) -> Result<SearchKey, BadCommand> {
        self.text_keys += 1;
        if self.text_keys > TEXT_KEYS_MAX {
            return Err(BadCommand("Too many BODY and TEXT search keys."));
        }
        let needle = self.needle()?;
        Ok(if word == "BODY" { SearchKey::Body(needle) } else { SearchKey::Text(needle) })
    }

    fn keyword(&mut self) -> Result<Keyword, BadCommand> {
        self.lexer.space()?;
        Keyword::parse(self.lexer.atom()?).ok_or(BadCommand("Malformed keyword."))
    }

    /// RFC 5032 §3: an nz-number of seconds.
    fn interval(&mut self) -> Result<u32, BadCommand> {
        self.uses_within = true;
        match self.lexer.number()? {
            0 => Err(BadCommand("An interval of no seconds.")),
            seconds => Ok(seconds),
        }
    }

    /// RFC 7162 §3.1.5: we keep one mod-sequence a message, so entry name and type are passed over.
    fn mod_sequence(&mut self) -> Result<SearchKey, BadCommand> {
        self.uses_modseq = true;
        if self.lexer.peek() == Some(b'"') {
            self.lexer.string()?;
            self.lexer.space()?;
            let kind = self.lexer.atom()?;
            if !["all", "priv", "shared"].iter().any(|known| kind.eq_ignore_ascii_case(known)) {
                return Err(BadCommand("Unknown metadata type in MODSEQ."));
            }
            self.lexer.space()?;
        }
        Ok(SearchKey::ModSeq(self.lexer.mod_sequence()?))
    }

    fn needle(&mut self) -> Result<String, BadCommand> {
        let octets = self.lexer.astring()?;
        if octets.len() > NEEDLE_OCTETS_MAX {
            return Err(BadCommand("The string to search for is too long."));
        }
        // Octets that are no UTF-8 become replacement characters, as they do where we search.
        Ok(fold(&String::from_utf8_lossy(&octets)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<SearchProgram, SearchError> {
        parse(&mut Lexer::new(text.as_bytes()))
    }

    #[test]
    fn every_key_is_read() {
        for text in [
            "ALL",
            "ANSWERED",
            "BCC a",
            "BEFORE 1-Feb-1994",
            "BODY a",
            "CC a",
            "DELETED",
            "DRAFT",
            "FLAGGED",
            "FROM \"Smith\"",
            "HEADER X-Foo \"\"",
            "KEYWORD $Junk",
            "LARGER 1",
            "NEW",
            "NOT SEEN",
            "OLD",
            "ON \"1-Feb-1994\"",
            "OR SEEN DRAFT",
            "RECENT",
            "SEEN",
            "SENTBEFORE 1-Feb-1994",
            "SENTON 1-Feb-1994",
            "SENTSINCE 1-Feb-1994",
            "SINCE 1-Feb-1994",
            "SMALLER 1",
            "SUBJECT {3}\r\na b",
            "TEXT a",
            "TO a",
            "UID 1:*",
            "UNANSWERED",
            "UNDELETED",
            "UNDRAFT",
            "UNFLAGGED",
            "UNKEYWORD a",
            "UNSEEN",
            "2,4:7,*",
            "(1 SEEN)",
            "OLDER 1",
            "YOUNGER 259200",
            "MODSEQ 1",
            "MODSEQ \"/flags/\\\\draft\" all 620162338",
            "not (or (seen) text a)",
            "CHARSET utf-8 TEXT \"\u{e4}\"",
            "charset US-ASCII 1",
            "RETURN () ALL",
            "RETURN (MIN COUNT) CHARSET UTF-8 FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
        ] {
            assert!(parsed(text).is_ok(), "{text}: {:?}", parsed(text));
        }
    }

    #[test]
    fn needles_are_folded() {
        let SearchKey::And(keys) = parsed("TEXT \"GR\u{dc}N \u{3a3}\" HEADER X-A B").unwrap().key else { panic!() };
        assert_eq!(keys, [SearchKey::Text("gr\u{fc}n \u{3c3}".into()), SearchKey::Header(b"x-a".to_vec(), "b".into())]);
    }

    #[test]
    fn result_options_are_read() {
        assert_eq!(parsed("ALL").unwrap().returns, None);
        assert!(parsed("RETURN () ALL").unwrap().returns.unwrap().all);
        let options = parsed("RETURN (min MAX) MODSEQ 5").unwrap();
        assert_eq!(options.returns, Some(ReturnOptions { min: true, max: true, all: false, count: false }));
        assert!(options.uses_modseq);
    }

    #[test]
    fn unknown_charsets_are_told_apart() {
        assert_eq!(parsed("CHARSET KOI8-R TEXT a"), Err(SearchError::BadCharset));
        assert!(matches!(parsed("CHARSET"), Err(SearchError::Bad(_))));
    }

    #[test]
    fn v22_what_is_not_of_the_grammar_or_too_much_is_refused() {
        for text in [
            "",
            " ",
            "FOO",
            "TEXT",
            "TEXT ",
            "ALL ",
            "ALL  ALL",
            "()",
            "(ALL",
            "ALL)",
            "NOT",
            "OR ALL",
            "BEFORE 31-Feb-1994",
            "LARGER x",
            "UID",
            "UID a",
            "0",
            "YOUNGER 0",
            "MODSEQ",
            "MODSEQ \"/flags/a\" foo 1",
            "RETURN (FOO) ALL",
            "RETURN (MIN) ",
            "RETURN (SAVE) ALL",
            "KEYWORD",
            "KEYWORD \\Seen",
            "HEADER a",
            "$",
            "CHARSET UTF-8",
        ] {
            assert!(matches!(parsed(text), Err(SearchError::Bad(_))), "{text}");
        }
        assert!(parsed(&format!("{}ALL{}", "(".repeat(1_000_000), ")".repeat(1_000_000))).is_err());
        assert!(parsed(&"NOT ".repeat(1_000_000)).is_err());
        assert!(parsed(&format!("{}ALL", "OR ALL ".repeat(1_000))).is_err());
        assert!(parsed(&vec!["ALL"; KEYS_MAX + 1].join(" ")).is_err());
        assert!(parsed(&vec!["ALL"; KEYS_MAX].join(" ")).is_ok());
        assert!(parsed(&vec!["BODY a"; TEXT_KEYS_MAX + 1].join(" ")).is_err());
        assert!(parsed(&format!("TEXT {}", "a".repeat(NEEDLE_OCTETS_MAX + 1))).is_err());
    }
}
