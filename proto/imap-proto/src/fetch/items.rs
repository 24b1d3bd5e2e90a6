//! The arguments of FETCH: data items, sections, modifiers. Grammar only.

use crate::encode;
use crate::lexer::{BadCommand, Lexer};
use mail::ModSeq;

/// Most data items in one FETCH. Clients ask for about ten.
pub const ITEMS_MAX: usize = 64;
/// Most field names in one HEADER.FIELDS. Clients ask for about thirty.
pub const HEADER_NAMES_MAX: usize = 500;
/// Most numbers in one section; more than MIME structures are deep.
pub const SECTION_NUMBERS_MAX: usize = 100;

/// What a FETCH asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchItems {
    /// The data items in the order asked, none twice.
    pub items: Vec<Item>,
    /// Only messages that changed after this mod-sequence (RFC 7162 §3.1.4.1).
    pub changed_since: Option<ModSeq>,
}

/// A data item (RFC 3501 §6.4.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// UID
    Uid,
    /// FLAGS
    Flags,
    /// INTERNALDATE
    InternalDate,
    /// RFC822.SIZE
    Size,
    /// MODSEQ (RFC 7162 §3.1.4.2)
    ModSeq,
    /// ENVELOPE
    Envelope,
    /// BODY without a section
    Body,
    /// BODYSTRUCTURE
    BodyStructure,
    /// Octets of the message.
    Section(SectionItem),
}

/// Octets of a message, and the name under which they are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionItem {
    /// How it was asked, and is answered.
    pub spelling: Spelling,
    /// Which octets.
    pub section: Section,
    /// Which of them.
    pub partial: Option<Partial>,
    /// Asked without setting `\Seen`.
    pub peek: bool,
}

/// The name of a data item that gives octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// BODY[…]
    Body,
    /// RFC822
    Rfc822,
    /// RFC822.HEADER
    Rfc822Header,
    /// RFC822.TEXT
    Rfc822Text,
}

/// A section of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Part numbers, outermost first; empty for the message itself.
    pub path: Vec<u32>,
    /// What of that part.
    pub text: SectionText,
}

/// What of a part is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SectionText {
    /// The part's body; of the message, all of it.
    All,
    /// HEADER
    Header,
    /// HEADER.FIELDS, HEADER.FIELDS.NOT
    HeaderFields {
        /// All but the named.
        not: bool,
        /// As written.
        names: Vec<Vec<u8>>,
    },
    /// TEXT
    Text,
    /// MIME
    Mime,
}

/// A range of a section's octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// The first octet, from 0.
    pub first: u64,
    /// At most so many, at least 1.
    pub octets: u64,
}

impl FetchItems {
    /// Whether fetching sets `\Seen`.
    pub fn sets_seen(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Section(section) if !section.peek))
    }

    /// Whether the client shows by this FETCH that it knows mod-sequences (RFC 7162 §3.1).
    pub fn enables_condstore(&self) -> bool {
        self.changed_since.is_some() || self.items.contains(&Item::ModSeq)
    }

    /// Whether any item needs the digest of a message.
    pub fn needs_digest(&self) -> bool {
        self.items.iter().any(|item| match item {
            Item::Uid | Item::Flags | Item::InternalDate | Item::Size | Item::ModSeq => false,
            Item::Envelope | Item::Body | Item::BodyStructure => true,
            Item::Section(section) => !section.section.is_whole_message(),
        })
    }

    /// Whether any item needs octets of a message.
    pub fn needs_octets(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Section(_)))
    }
}

impl Section {
    /// Whether all of the message is meant, header section included.
    pub fn is_whole_message(&self) -> bool {
        self.path.is_empty() && self.text == SectionText::All
    }
}

/// Reads the arguments of FETCH that follow the message set and its space: a macro, an item or a list of items, and
/// perhaps modifiers.
pub fn parse(lexer: &mut Lexer<'_>) -> Result<FetchItems, BadCommand> {
    let mut items = items(lexer)?;
    let changed_since = if lexer.at_end() { None } else { modifiers(lexer)? };
    // RFC 7162 §3.1.4.1: CHANGEDSINCE asks for MODSEQ as well.
    if changed_since.is_some() && !items.contains(&Item::ModSeq) {
        items.push(Item::ModSeq);
    }
    Ok(FetchItems { items, changed_since })
}

fn items(lexer: &mut Lexer<'_>) -> Result<Vec<Item>, BadCommand> {
    if !lexer.eat(b'(') {
        if let Some(macro_items) = fetch_macro(lexer) {
            return Ok(macro_items);
        }
        return Ok(vec![item(lexer)?]);
    }
    let mut items = Vec::new();
    for _ in 0..ITEMS_MAX {
        let item = item(lexer)?;
        if !items.contains(&item) {
            items.push(item);
        }
        if lexer.eat(b')') {
            return Ok(items);
        }
        lexer.space()?;
    }
    Err(BadCommand("Too many data items."))
}

/// RFC 3501 §6.4.5: a macro stands alone.
fn fetch_macro(lexer: &mut Lexer<'_>) -> Option<Vec<Item>> {
    let mut ahead = lexer.clone();
    let name = ahead.atom().ok()?;
    let mut items = vec![Item::Flags, Item::InternalDate, Item::Size];
    if name.eq_ignore_ascii_case("ALL") {
        items.push(Item::Envelope);
    } else if name.eq_ignore_ascii_case("FULL") {
        items.extend([Item::Envelope, Item::Body]);
    } else if !name.eq_ignore_ascii_case("FAST") {
        return None;
    }
    *lexer = ahead;
    Some(items)
}

fn item(lexer: &mut Lexer<'_>) -> Result<Item, BadCommand> {
    let name = item_name(lexer)?;
    let section = |spelling, text, peek| {
        Item::Section(SectionItem { spelling, section: Section { path: Vec::new(), text }, partial: None, peek })
    };
    Ok(match name.as_str() {
        "UID" => Item::Uid,
        "FLAGS" => Item::Flags,
        "INTERNALDATE" => Item::InternalDate,
        "RFC822.SIZE" => Item::Size,
        "MODSEQ" => Item::ModSeq,
        "ENVELOPE" => Item::Envelope,
        "BODYSTRUCTURE" => Item::BodyStructure,
        "RFC822" => section(Spelling::Rfc822, SectionText::All, false),
        // RFC 3501 §6.4.5: as BODY.PEEK[HEADER].
        "RFC822.HEADER" => section(Spelling::Rfc822Header, SectionText::Header, true),
        "RFC822.TEXT" => section(Spelling::Rfc822Text, SectionText::Text, false),
        "BODY" if lexer.peek() == Some(b'[') => bracketed(lexer, false)?,
        "BODY" => Item::Body,
        "BODY.PEEK" => bracketed(lexer, true)?,
        _ => return Err(BadCommand("Unknown data item.")),
    })
}

/// The letters, digits and dots of an item's name, in upper case. An atom would take the bracket along.
fn item_name(lexer: &mut Lexer<'_>) -> Result<String, BadCommand> {
    const NAME_OCTETS_MAX: usize = 32;
    let mut name = String::new();
    while let Some(octet) = lexer.peek().filter(|octet| octet.is_ascii_alphanumeric() || *octet == b'.') {
        lexer.eat(octet);
        name.push(char::from(octet.to_ascii_uppercase()));
        if name.len() > NAME_OCTETS_MAX {
            break;
        }
    }
    if name.is_empty() { Err(BadCommand("Missing data item.")) } else { Ok(name) }
}

/// `[section]<first.count>`.
fn bracketed(lexer: &mut Lexer<'_>, peek: bool) -> Result<Item, BadCommand> {
    if !lexer.eat(b'[') {
        return Err(BadCommand("Missing opening bracket."));
    }
    let section = section(lexer)?;
    lexer.expect(b']')?;
    let partial = if lexer.eat(b'<') { Some(partial(lexer)?) } else { None };
    Ok(Item::Section(SectionItem { spelling: Spelling::Body, section, partial, peek }))
}

fn partial(lexer: &mut Lexer<'_>) -> Result<Partial, BadCommand> {
    let first = lexer.number64()?;
    lexer.expect(b'.')?;
    let octets = lexer.number64()?;
    lexer.expect(b'>')?;
    // RFC 3501 §9: the count is an nz-number.
    if octets == 0 { Err(BadCommand("A partial fetch of nothing.")) } else { Ok(Partial { first, octets }) }
}

fn section(lexer: &mut Lexer<'_>) -> Result<Section, BadCommand> {
    let mut path = Vec::new();
    while lexer.peek().is_some_and(|octet| octet.is_ascii_digit()) {
        let number = lexer.number()?;
        if number == 0 || path.len() >= SECTION_NUMBERS_MAX {
            return Err(BadCommand("Malformed part number."));
        }
        path.push(number);
        if lexer.peek() == Some(b']') {
            return Ok(Section { path, text: SectionText::All });
        }
        lexer.expect(b'.')?;
    }
    if path.is_empty() && lexer.peek() == Some(b']') {
        return Ok(Section { path, text: SectionText::All });
    }
    let text = match item_name(lexer)?.as_str() {
        "HEADER" => SectionText::Header,
        "HEADER.FIELDS" => SectionText::HeaderFields { not: false, names: header_names(lexer)? },
        "HEADER.FIELDS.NOT" => SectionText::HeaderFields { not: true, names: header_names(lexer)? },
        "TEXT" => SectionText::Text,
        // RFC 3501 §6.4.5: MIME needs a part number.
        "MIME" if !path.is_empty() => SectionText::Mime,
        _ => return Err(BadCommand("Unknown section.")),
    };
    Ok(Section { path, text })
}

fn header_names(lexer: &mut Lexer<'_>) -> Result<Vec<Vec<u8>>, BadCommand> {
    lexer.space()?;
    lexer.expect(b'(')?;
    let mut names = Vec::new();
    for _ in 0..HEADER_NAMES_MAX {
        names.push(lexer.astring()?.into_owned());
        if lexer.eat(b')') {
            return Ok(names);
        }
        lexer.space()?;
    }
    Err(BadCommand("Too many field names."))
}

/// RFC 4466 §2.4: `SP "(" modifier … ")"`.
fn modifiers(lexer: &mut Lexer<'_>) -> Result<Option<ModSeq>, BadCommand> {
    lexer.space()?;
    lexer.expect(b'(')?;
    let mut changed_since = None;
    loop {
        if changed_since.is_some() || !lexer.atom()?.eq_ignore_ascii_case("CHANGEDSINCE") {
            return Err(BadCommand("Unknown or repeated FETCH modifier."));
        }
        lexer.space()?;
        changed_since = Some(lexer.mod_sequence()?);
        if lexer.eat(b')') {
            return Ok(changed_since);
        }
        lexer.space()?;
    }
}

impl SectionItem {
    /// Writes the name of the item as the response gives it: with the origin of a partial fetch, without its count.
    pub fn write_name(&self, out: &mut Vec<u8>) {
        match self.spelling {
            Spelling::Rfc822 => out.extend_from_slice(b"RFC822"),
            Spelling::Rfc822Header => out.extend_from_slice(b"RFC822.HEADER"),
            Spelling::Rfc822Text => out.extend_from_slice(b"RFC822.TEXT"),
            Spelling::Body => {
                out.extend_from_slice(b"BODY[");
                self.section.write(out);
                out.push(b']');
            }
        }
        if let Some(partial) = self.partial {
            out.push(b'<');
            encode::number(out, partial.first);
            out.push(b'>');
        }
    }
}

impl Section {
    /// Writes the section as it stands between the brackets.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (index, number) in self.path.iter().enumerate() {
            if index > 0 {
                out.push(b'.');
            }
            encode::number(out, u64::from(*number));
        }
        let text: &[u8] = match &self.text {
            SectionText::All => return,
            SectionText::Header => b"HEADER",
            SectionText::HeaderFields { not: false, .. } => b"HEADER.FIELDS",
            SectionText::HeaderFields { not: true, .. } => b"HEADER.FIELDS.NOT",
            SectionText::Text => b"TEXT",
            SectionText::Mime => b"MIME",
        };
        if !self.path.is_empty() {
            out.push(b'.');
        }
        out.extend_from_slice(text);
        if let SectionText::HeaderFields { names, .. } = &self.text {
            for (index, name) in names.iter().enumerate() {
                out.extend_from_slice(if index == 0 { b" (" } else { b" " });
                encode::astring(out, name);
            }
            out.push(b')');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<FetchItems, BadCommand> {
        let mut lexer = Lexer::new(text.as_bytes());
        let items = parse(&mut lexer)?;
        lexer.end()?;
        Ok(items)
    }

    fn section_names(text: &str) -> Vec<String> {
        let name = |item: &Item| match item {
            Item::Section(section) => {
                let mut out = Vec::new();
                section.write_name(&mut out);
                String::from_utf8(out).unwrap()
            }
            other => format!("{other:?}"),
        };
        parsed(text).unwrap().items.iter().map(name).collect()
    }

    #[test]
    fn macros_stand_for_their_items() {
        assert_eq!(parsed("fast").unwrap().items, [Item::Flags, Item::InternalDate, Item::Size]);
        assert_eq!(parsed("ALL").unwrap().items.len(), 4);
        assert_eq!(parsed("Full").unwrap().items.last(), Some(&Item::Body));
        assert!(parsed("(ALL)").is_err());
        assert!(parsed("ALL FLAGS").is_err());
    }

    #[test]
    fn sections_are_echoed_as_the_grammar_writes_them() {
        assert_eq!(
            section_names(
                "(UID BODY[] body.peek[header.fields (Date \"From\" X-Y)]<5.10> BODY[1.2.mime] BODY[3.HEADER] BODY[TEXT] \
                 BODY[4.2.2.1] rfc822.header RFC822.TEXT RFC822 BODY.PEEK[1.HEADER.FIELDS.NOT (\"a b\")])"
            ),
            [
                "Uid",
                "BODY[]",
                "BODY[HEADER.FIELDS (Date From X-Y)]<5>",
                "BODY[1.2.MIME]",
                "BODY[3.HEADER]",
                "BODY[TEXT]",
                "BODY[4.2.2.1]",
                "RFC822.HEADER",
                "RFC822.TEXT",
                "RFC822",
                "BODY[1.HEADER.FIELDS.NOT (\"a b\")]",
            ]
        );
    }

    #[test]
    fn what_sets_seen_is_known() {
        for (text, sets_seen) in [
            ("BODY[]", true),
            ("BODY.PEEK[]", false),
            ("BODY", false),
            ("RFC822", true),
            ("RFC822.HEADER", false),
            ("RFC822.TEXT", true),
            ("(FLAGS BODY.PEEK[1] BODY[2])", true),
            ("FULL", false),
        ] {
            assert_eq!(parsed(text).unwrap().sets_seen(), sets_seen, "{text}");
        }
        assert!(!parsed("BODY[]").unwrap().needs_digest());
        assert!(parsed("BODY[TEXT]").unwrap().needs_digest());
    }

    #[test]
    fn changedsince_asks_for_modseq() {
        let items = parsed("(FLAGS) (CHANGEDSINCE 12345)").unwrap();
        assert_eq!(items.changed_since, Some(ModSeq(12_345)));
        assert_eq!(items.items, [Item::Flags, Item::ModSeq]);
        assert!(items.enables_condstore());
        assert_eq!(parsed("(FLAGS MODSEQ) (changedsince 1)").unwrap().items.len(), 2);
        for text in ["FLAGS (CHANGEDSINCE)", "FLAGS (CHANGEDSINCE 1 CHANGEDSINCE 2)", "FLAGS ()", "FLAGS (VANISHED)"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn v22_what_is_not_of_the_grammar_is_refused() {
        for text in [
            "",
            "(",
            "()",
            "(FLAGS",
            "(FLAGS )",
            "FLAGS ",
            "FLAGS UID",
            "BODY[",
            "BODY[]<",
            "BODY[]<0>",
            "BODY[]<0.0>",
            "BODY[]<-1.5>",
            "BODY[0]",
            "BODY[1.0]",
            "BODY[1.]",
            "BODY[.1]",
            "BODY[MIME]",
            "BODY[HEADER.FIELDS]",
            "BODY[HEADER.FIELDS ()]",
            "BODY[HEADER.FIELDS (a b]",
            "BODY[FOO]",
            "BODY[1.FOO]",
            "BODY.PEEK",
            "BODYX",
            "RFC822.",
            "BODY[HEADER.1]",
            "BODY[4294967296]",
            "BODY[]<99999999999999999999.1>",
            "(FLAGS FLAGS,UID)",
            "((FLAGS))",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
        assert!(parsed(&format!("BODY[1{}]", ".1".repeat(SECTION_NUMBERS_MAX))).is_err());
        assert!(parsed(&format!("({}UID)", "BODY[1] ".repeat(ITEMS_MAX))).is_err());
        assert!(parsed(&format!("BODY[HEADER.FIELDS ({}a)]", "a ".repeat(HEADER_NAMES_MAX))).is_err());
        assert_eq!(parsed("(FLAGS UID FLAGS)").unwrap().items.len(), 2);
    }
}
