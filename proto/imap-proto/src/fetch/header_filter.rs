//! HEADER.FIELDS and HEADER.FIELDS.NOT: the chosen fields of a header section, octet for octet (RFC 3501 §6.4.5).
//!
//! Works on a stream, so that a header section of any size passes through with a buffer of one field name. Its result
//! does not depend on how the octets are split.

/// Longest field name that can be chosen; RFC 5322 §2.1.1 limits a line to 998 octets.
const NAME_OCTETS_MAX: usize = 998;

/// Which fields are kept.
#[derive(Debug, Clone)]
pub struct Choice {
    /// In lower case, sorted.
    names: Vec<Vec<u8>>,
    not: bool,
}

impl Choice {
    /// Keeps the named fields, or with `not` all others. Names are compared without regard to ASCII case.
    pub fn new(names: &[Vec<u8>], not: bool) -> Choice {
        let mut names: Vec<Vec<u8>> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        names.sort_unstable();
        Choice { names, not }
    }

    fn keeps(&self, name: &[u8]) -> bool {
        // White space between name and colon is the obsolete form of RFC 5322 §4.5.
        let name = name.trim_ascii_end();
        let lower = || name.iter().map(u8::to_ascii_lowercase);
        self.names.binary_search_by(|known| known.iter().copied().cmp(lower())).is_ok() != self.not
    }
}

/// Where in the header section the stream stands.
#[derive(Debug, Clone)]
enum State {
    /// In the first line of a field, before its colon. The octets of the name wait.
    Name(Vec<u8>),
    /// In a field that is kept, or not; `at_line_start` after a line end.
    Field { kept: bool, at_line_start: bool },
}

/// Lets the chosen fields of a header section pass, and the empty line at its end.
#[derive(Debug, Clone)]
pub struct HeaderFilter<'a> {
    choice: &'a Choice,
    state: State,
}

/// The filter's state between two pieces, without the choice.
#[derive(Debug, Clone, Default)]
pub struct Position(Option<State>);

impl<'a> HeaderFilter<'a> {
    /// Stands at the beginning of a header section, or where an earlier filter stopped.
    pub fn new(choice: &'a Choice, position: Position) -> HeaderFilter<'a> {
        HeaderFilter { choice, state: position.0.unwrap_or(State::Name(Vec::new())) }
    }

    /// Where the filter stands now.
    pub fn position(self) -> Position {
        Position(Some(self.state))
    }

    /// Takes the next octets and gives those that pass to `sink`.
    pub fn push(&mut self, octets: &[u8], sink: &mut impl FnMut(&[u8])) {
        let mut rest = octets;
        while !rest.is_empty() {
            rest = match &mut self.state {
                State::Name(_) => self.name(rest, sink),
                State::Field { kept, at_line_start: true } => {
                    // RFC 5322 §2.2.3: white space at the beginning continues the field.
                    if rest.first().is_some_and(|octet| matches!(octet, b' ' | b'\t')) {
                        self.state = State::Field { kept: *kept, at_line_start: false };
                    } else {
                        self.state = State::Name(Vec::new());
                    }
                    rest
                }
                State::Field { kept, at_line_start } => {
                    let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
                    *at_line_start = rest.get(length - 1) == Some(&b'\n');
                    let (line, tail) = rest.split_at(length);
                    if *kept {
                        sink(line);
                    }
                    tail
                }
            };
        }
    }

    /// Reads on in a name; gives what is left.
    fn name<'b>(&mut self, rest: &'b [u8], sink: &mut impl FnMut(&[u8])) -> &'b [u8] {
        let State::Name(waiting) = &mut self.state else { return rest };
        let room = NAME_OCTETS_MAX.saturating_sub(waiting.len());
        let near = rest.get(..=room).unwrap_or(rest);
        let end = match memchr::memchr2(b':', b'\n', near) {
            Some(end) => end,
            None if near.len() > room => room,
            None => {
                waiting.extend_from_slice(rest);
                return &[];
            }
        };
        // The octet that ends the name belongs to the rest of the line.
        let (head, tail) = rest.split_at(end);
        let joined: &[u8] = if waiting.is_empty() {
            head
        } else {
            waiting.extend_from_slice(head);
            waiting
        };
        let kept = match tail.first() {
            Some(b':') => self.choice.keeps(joined),
            // The empty line always passes.
            Some(b'\n') if matches!(joined, b"" | b"\r") => true,
            // A line without colon is no field, so no name chooses it.
            _ => self.choice.not,
        };
        if kept {
            sink(joined);
        }
        self.state = State::Field { kept, at_line_start: false };
        tail
    }

    /// The header section ends here. A last line without colon and line end passes as other lines without colon do.
    pub fn finish(&mut self, sink: &mut impl FnMut(&[u8])) {
        if let State::Name(name) = &mut self.state
            && self.choice.not
        {
            sink(name);
            name.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] =
        b"Received: from a\r\n\tby b; date\r\nDate: today\r\nX-Odd : 1\r\nFrom: x\r\n y\r\nno colon\r\nDATE: 2\r\n\r\n";

    fn filtered(header: &[u8], names: &[&str], not: bool, piece: usize) -> String {
        let names: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let choice = Choice::new(&names, not);
        let mut out = Vec::new();
        let mut position = Position::default();
        for octets in header.chunks(piece) {
            let mut filter = HeaderFilter::new(&choice, position);
            filter.push(octets, &mut |kept| out.extend_from_slice(kept));
            position = filter.position();
        }
        HeaderFilter::new(&choice, position).finish(&mut |kept| out.extend_from_slice(kept));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn chosen_fields_pass_with_the_empty_line_however_the_octets_are_split() {
        for piece in [1, 2, 3, 7, 16, 1_000] {
            assert_eq!(filtered(HEADER, &["date"], false, piece), "Date: today\r\nDATE: 2\r\n\r\n");
            assert_eq!(filtered(HEADER, &["FROM", "x-odd"], false, piece), "X-Odd : 1\r\nFrom: x\r\n y\r\n\r\n");
            assert_eq!(filtered(HEADER, &["none"], false, piece), "\r\n");
            assert_eq!(filtered(HEADER, &["received", "date", "from"], true, piece), "X-Odd : 1\r\nno colon\r\n\r\n");
            assert_eq!(filtered(HEADER, &["none"], true, piece).as_bytes(), HEADER);
        }
    }

    #[test]
    fn a_header_without_empty_line_gets_none() {
        for piece in [1, 5, 100] {
            assert_eq!(filtered(b"A: 1\r\nB: 2\r\n", &["a"], false, piece), "A: 1\r\n");
            assert_eq!(filtered(b"A: 1\nB: 2\n\n", &["b"], false, piece), "B: 2\n\n");
            assert_eq!(filtered(b"A: 1\r\nB", &["a"], false, piece), "A: 1\r\n");
            assert_eq!(filtered(b"A: 1\r\nB", &["a"], true, piece), "B");
            assert_eq!(filtered(b"", &["a"], true, piece), "");
        }
    }

    #[test]
    fn v26_a_name_of_any_length_is_bounded() {
        let header = [b"a".repeat(5_000), b": 1\r\nB: 2\r\n\r\n".to_vec()].concat();
        for piece in [1, 100, 6_000] {
            assert_eq!(filtered(&header, &["b"], false, piece), "B: 2\r\n\r\n");
            assert_eq!(filtered(&header, &["b"], true, piece).len(), header.len() - 6);
        }
    }
}
