//! Message text on its way in: what DATA and BDAT carry becomes what is stored. Not a parser of messages.
//!
//! Stored text never holds a bare CR or a bare LF, so nothing behind us, neither the store nor a peer that we relay to,
//! can see other lines in it than we did (V1, V2). To get there from what clients really send:
//!
//! - A bare LF is stored as CRLF. Those who send it mean a line end.
//! - A bare CR is stored as a space. Hardly anybody means a line end by it, and a made line could be a made header
//!   field.
//!
//! Neither ends a message. With [`Framing::Dots`] the message ends at CRLF `.` CRLF alone, and a line, for the purpose
//! of dots, begins after CRLF alone: after a bare LF a dot is text, is not taken off, and ends nothing (RFC 5321
//! §4.1.1.4, §4.5.2). Only [`Framing::LenientDots`] takes a bare LF for a line end in this as well.

use memchr::memchr2;

/// How a message is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// DATA: dots taken off, CRLF `.` CRLF ends it.
    Dots,
    /// DATA from a trusted network: LF counts as CRLF (R198).
    LenientDots,
    /// BDAT: counted; a dot is text.
    Counted,
}

/// Where in a line the decoder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// After a line end, before the first octet.
    LineStart,
    /// After a dot at the start of a line; the dot is taken off.
    Dot,
    /// After that dot and a CR.
    DotCr,
    /// Anywhere else.
    Middle,
    /// After a CR whose fate the next octet decides.
    Cr,
}

/// What a call used up, and whether the message is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// Octets used up; all of them unless the message ended before.
    pub consumed: usize,
    /// Whether the end of data was seen. Do not call again after it.
    pub ended: bool,
}

/// Turns octets of one message into stored text, over as many calls as they come in.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    at: At,
}

impl Decoder {
    /// A decoder at the start of a message.
    pub fn new(framing: Framing) -> Decoder {
        Decoder { framing, at: At::LineStart }
    }

    /// Decodes octets, appending the text: at most two octets for each, and one for a CR kept from the last call.
    pub fn decode(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Decoded {
        out.reserve(octets.len() + 2);
        let mut rest = octets;
        while let Some((octet, after)) = rest.split_first() {
            // Undecided octets first; after them `at` is LineStart or Middle and the octet is still to be taken.
            match (self.at, octet) {
                (At::LineStart, b'.') if self.framing != Framing::Counted => {
                    self.at = At::Dot;
                    rest = after;
                    continue;
                }
                (At::Dot, b'\r') => {
                    self.at = At::DotCr;
                    rest = after;
                    continue;
                }
                (At::Dot, b'\n') if self.framing == Framing::LenientDots => {
                    return Decoded { consumed: octets.len() - after.len(), ended: true };
                }
                (At::DotCr, b'\n') => return Decoded { consumed: octets.len() - after.len(), ended: true },
                (At::Cr, b'\n') => {
                    out.extend_from_slice(b"\r\n");
                    self.at = At::LineStart;
                    rest = after;
                    continue;
                }
                // The CR before this octet was bare.
                (At::DotCr | At::Cr, _) => {
                    out.push(b' ');
                    self.at = At::Middle;
                }
                (At::LineStart | At::Dot | At::Middle, _) => self.at = At::Middle,
            }
            match octet {
                b'\r' => {
                    self.at = At::Cr;
                    rest = after;
                }
                b'\n' => {
                    out.extend_from_slice(b"\r\n");
                    self.at = match self.framing {
                        Framing::LenientDots => At::LineStart,
                        Framing::Dots | Framing::Counted => At::Middle,
                    };
                    rest = after;
                }
                _ => rest = self.copy_lines(rest, out),
            }
        }
        Decoded { consumed: octets.len(), ended: false }
    }

    /// What is left when a counted message is over: a CR at its very end was bare.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.at == At::Cr {
            out.push(b' ');
        }
        self.at = At::LineStart;
    }

    /// Copies, in one piece, as many whole lines as need no care, and the text after them up to the first octet that
    /// does. Nearly every message goes through here alone.
    fn copy_lines<'a>(&mut self, rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let mut clean = 0;
        self.at = loop {
            let unknown = rest.get(clean..).unwrap_or_default();
            let Some(found) = memchr2(b'\r', b'\n', unknown) else {
                clean = rest.len();
                break At::Middle;
            };
            let line_end = unknown.get(found..).unwrap_or_default();
            if !line_end.starts_with(b"\r\n") {
                clean += found;
                break At::Middle;
            }
            clean += found + 2;
            match line_end.get(2) {
                Some(b'.') | None => break At::LineStart,
                // The next line begins; an empty one is as good as any.
                Some(_) => {}
            }
        };
        let (lines, rest) = rest.split_at_checked(clean).unwrap_or((rest, &[]));
        out.extend_from_slice(lines);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes in pieces; the text, and what follows the end of data.
    fn decoded(framing: Framing, octets: &[u8], size: usize) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut decoder = Decoder::new(framing);
        let mut out = Vec::new();
        let mut used = 0;
        for piece in octets.chunks(size) {
            let Decoded { consumed, ended } = decoder.decode(piece, &mut out);
            used += consumed;
            if ended {
                return (out, Some(octets[used..].to_vec()));
            }
        }
        decoder.finish(&mut out);
        (out, None)
    }

    fn check(framing: Framing, octets: &[u8], text: &[u8], rest: Option<&[u8]>) {
        for size in [1, 2, 3, 5, octets.len()] {
            let (out, after) = decoded(framing, octets, size);
            assert_eq!(out, text, "{framing:?} {:?} by {size}", String::from_utf8_lossy(octets));
            assert_eq!(after.as_deref(), rest, "{framing:?} {:?} by {size}", String::from_utf8_lossy(octets));
        }
    }

    #[test]
    fn dots_are_taken_off_and_one_alone_ends_the_message() {
        for framing in [Framing::Dots, Framing::LenientDots] {
            check(framing, b".\r\nQUIT\r\n", b"", Some(b"QUIT\r\n"));
            check(framing, b"a\r\n.\r\n", b"a\r\n", Some(b""));
            check(framing, b"..\r\n...\r\n.a\r\nb.\r\n.\r\n.\r\n", b".\r\n..\r\na\r\nb.\r\n", Some(b".\r\n"));
            check(framing, b"\r\n\r\na\r\n\r\n.\r\n", b"\r\n\r\na\r\n\r\n", Some(b""));
            check(framing, b"a.\r\n .\r\n", b"a.\r\n .\r\n", None);
            check(framing, b"\0\xff\x80\r\n.\r\n", b"\0\xff\x80\r\n", Some(b""));
        }
    }

    #[test]
    fn counted_text_has_no_dots_to_take_off() {
        check(Framing::Counted, b".\r\n..\r\n.a", b".\r\n..\r\n.a", None);
        check(Framing::Counted, b"a\nb\rc\r\n.\n.\r", b"a\r\nb c\r\n.\r\n. ", None);
    }

    /// Every way of writing something like an end of data: what stands before the dot, what after.
    #[test]
    fn v1_only_crlf_dot_crlf_ends_a_message() {
        let ends: [&[u8]; 10] =
            [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\n\n", b"\r\n\n", b"\0\r\n", b"\r\0\n", b"\r\n\r"];
        let mut variants = 0;
        for before in ends {
            for after in ends {
                variants += 1;
                let octets = [b"one", before, b".", after, b"MAIL FROM:<x@example.com>\r\n"].concat();
                // RFC 5321 §4.5.2: the dot must stand at the start of a line and CRLF must follow it at once.
                let is_end = before.ends_with(b"\r\n") && after.starts_with(b"\r\n");
                for size in [1, 2, 3, octets.len()] {
                    let (text, rest) = decoded(Framing::Dots, &octets, size);
                    assert_eq!(rest.is_some(), is_end, "{before:?} . {after:?}");
                    let lines = text.split(|b| *b == b'\n');
                    let bare_lf = lines.clone().take(lines.count() - 1).any(|line| !line.ends_with(b"\r"));
                    let bare_cr = text.windows(2).any(|pair| pair[0] == b'\r' && pair[1] != b'\n');
                    assert!(!bare_lf && !bare_cr && !text.ends_with(b"\r"), "{text:?}");
                }
            }
        }
        assert!(variants >= 30);
        check(Framing::Dots, b"a\n.\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n", Some(b""));
        check(Framing::Dots, b"a\n.\r\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n", Some(b""));
        check(Framing::Dots, b"a\r\n.\nb\r\n.\r\n", b"a\r\n\r\nb\r\n", Some(b""));
        check(Framing::Dots, b"a\r.\rb\r\n.\r\n", b"a . b\r\n", Some(b""));
        check(Framing::Dots, b"a\r\n.\r\r\nb\r\n.\r\n", b"a\r\n \r\nb\r\n", Some(b""));
        check(Framing::Dots, b"a\n..\r\n.\r\n", b"a\r\n..\r\n", Some(b""));
    }

    #[test]
    fn r198_a_trusted_network_may_end_lines_with_lf() {
        check(Framing::LenientDots, b"a\n..b\n.\nQUIT\n", b"a\r\n.b\r\n", Some(b"QUIT\n"));
        check(Framing::LenientDots, b"a\n.\r\nQUIT\n", b"a\r\n", Some(b"QUIT\n"));
        check(Framing::LenientDots, b"a\r\n.\nQUIT\n", b"a\r\n", Some(b"QUIT\n"));
        check(Framing::LenientDots, b"a\r.\r\n.\rb\n.\n", b"a .\r\n b\r\n", Some(b""));
    }

    /// The decoder against one that looks at every octet and every line again.
    #[test]
    fn the_fast_path_says_what_the_slow_one_says() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            let octets: Vec<u8> = (0..24)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    *b"\r\n.a\r\n".get((seed % 6) as usize).unwrap_or(&b'b')
                })
                .collect();
            for framing in [Framing::Dots, Framing::LenientDots, Framing::Counted] {
                let expected = slow(framing, &octets);
                for size in [1, 2, 7, 24] {
                    assert_eq!(decoded(framing, &octets, size), expected, "{framing:?} {octets:?} by {size}");
                }
            }
        }
    }

    fn slow(framing: Framing, octets: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut out, mut index, mut line_start) = (Vec::new(), 0, framing != Framing::Counted);
        while index < octets.len() {
            let rest = &octets[index..];
            if line_start
                && (rest.starts_with(b".\r\n") || (framing == Framing::LenientDots && rest.starts_with(b".\n")))
            {
                let end = rest.iter().position(|b| *b == b'\n').unwrap() + 1;
                return (out, Some(rest[end..].to_vec()));
            }
            if line_start && rest[0] == b'.' {
                line_start = false;
                index += 1;
                // An unfinished `.` CR at the very end is undecided.
                if framing != Framing::Counted && rest == b".\r" {
                    return (out, None);
                }
                continue;
            }
            line_start = false;
            if rest.starts_with(b"\r\n") {
                out.extend(b"\r\n");
                line_start = framing != Framing::Counted;
                index += 2;
                continue;
            }
            match rest[0] {
                b'\r' => out.push(b' '),
                b'\n' => {
                    out.extend(b"\r\n");
                    line_start = framing == Framing::LenientDots;
                }
                other => out.push(other),
            }
            index += 1;
        }
        (out, None)
    }
}
