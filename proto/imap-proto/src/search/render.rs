//! The result of a SEARCH as the client gets it: SEARCH (RFC 3501 §7.2.5, RFC 7162 §3.1.6) or ESEARCH (RFC 4731 §3.1).

use super::keys::ReturnOptions;
use crate::encode;
use mail::{ModSeq, Uid, UidSet};

/// A message found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its sequence number.
    pub sequence: u32,
    /// Its UID.
    pub uid: Uid,
    /// Its mod-sequence.
    pub mod_sequence: ModSeq,
}

/// Writes a SEARCH response. `with_modseq` tells the highest mod-sequence of the messages found, if there are any.
pub fn write_search(out: &mut Vec<u8>, found: &[Found], by_uid: bool, with_modseq: bool) {
    out.extend_from_slice(b"* SEARCH");
    for found in found {
        out.push(b' ');
        encode::number(out, number(found, by_uid));
    }
    if with_modseq && let Some(highest) = highest(found) {
        out.extend_from_slice(b" (MODSEQ ");
        encode::number(out, highest.0);
        out.push(b')');
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an ESEARCH response.
pub fn write_esearch(
    out: &mut Vec<u8>,
    tag: &str,
    found: &[Found],
    by_uid: bool,
    with_modseq: bool,
    options: ReturnOptions,
) {
    out.extend_from_slice(b"* ESEARCH (TAG ");
    encode::string(out, tag.as_bytes());
    out.push(b')');
    if by_uid {
        out.extend_from_slice(b" UID");
    }
    // RFC 4731 §3.1: without a message found, there is no lowest, no highest and no set.
    if let (Some(first), Some(last)) = (found.first(), found.last()) {
        if options.min {
            item(out, b" MIN ", number(first, by_uid));
        }
        if options.max {
            item(out, b" MAX ", number(last, by_uid));
        }
        if options.all {
            out.extend_from_slice(b" ALL ");
            set(out, found, by_uid);
        }
    }
    if options.count {
        item(out, b" COUNT ", found.len() as u32);
    }
    if with_modseq && let Some(highest) = highest_returned(found, options) {
        out.extend_from_slice(b" MODSEQ ");
        encode::number(out, highest.0);
    }
    out.extend_from_slice(b"\r\n");
}

fn number(found: &Found, by_uid: bool) -> u32 {
    if by_uid { found.uid.0 } else { found.sequence }
}

fn item(out: &mut Vec<u8>, name: &[u8], value: u32) {
    out.extend_from_slice(name);
    encode::number(out, value);
}

fn set(out: &mut Vec<u8>, found: &[Found], by_uid: bool) {
    let set: UidSet = found.iter().map(|found| Uid(number(found, by_uid))).collect();
    for (index, (low, high)) in set.ranges().iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode::number(out, *low);
        if low != high {
            out.push(b':');
            encode::number(out, *high);
        }
    }
}

fn highest(found: &[Found]) -> Option<ModSeq> {
    found.iter().map(|found| found.mod_sequence).max()
}

/// RFC 4731 §3.2: where only the lowest and the highest message are told of, the mod-sequence is theirs.
fn highest_returned(found: &[Found], options: ReturnOptions) -> Option<ModSeq> {
    if options.all || options.count {
        return highest(found);
    }
    let min = found.first().filter(|_| options.min);
    let max = found.last().filter(|_| options.max);
    min.into_iter().chain(max).map(|found| found.mod_sequence).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: [Found; 3] = [
        Found { sequence: 2, uid: Uid(20), mod_sequence: ModSeq(7) },
        Found { sequence: 3, uid: Uid(21), mod_sequence: ModSeq(9) },
        Found { sequence: 9, uid: Uid(30), mod_sequence: ModSeq(5) },
    ];

    fn search(found: &[Found], by_uid: bool, with_modseq: bool) -> String {
        let mut out = Vec::new();
        write_search(&mut out, found, by_uid, with_modseq);
        String::from_utf8(out).unwrap()
    }

    fn esearch(found: &[Found], by_uid: bool, with_modseq: bool, words: &str) -> String {
        let options = ReturnOptions {
            min: words.contains("MIN"),
            max: words.contains("MAX"),
            all: words.contains("ALL"),
            count: words.contains("COUNT"),
        };
        let mut out = Vec::new();
        write_esearch(&mut out, "A\"1", found, by_uid, with_modseq, options);
        String::from_utf8(out).unwrap().strip_prefix("* ESEARCH (TAG \"A\\\"1\")").unwrap().trim_end().to_owned()
    }

    #[test]
    fn search_lists_numbers() {
        assert_eq!(search(&FOUND, false, false), "* SEARCH 2 3 9\r\n");
        assert_eq!(search(&FOUND, true, true), "* SEARCH 20 21 30 (MODSEQ 9)\r\n");
        assert_eq!(search(&[], true, true), "* SEARCH\r\n");
    }

    #[test]
    fn esearch_tells_what_was_asked() {
        assert_eq!(esearch(&FOUND, false, false, "ALL"), " ALL 2:3,9");
        assert_eq!(esearch(&FOUND, true, false, "MIN MAX ALL COUNT"), " UID MIN 20 MAX 30 ALL 20:21,30 COUNT 3");
        assert_eq!(esearch(&[], false, true, "MIN MAX ALL COUNT"), " COUNT 0");
        assert_eq!(esearch(&[], true, false, "ALL"), " UID");
    }

    #[test]
    fn esearch_modseq_is_that_of_the_messages_told() {
        assert_eq!(esearch(&FOUND, false, true, "MIN"), " MIN 2 MODSEQ 7");
        assert_eq!(esearch(&FOUND, false, true, "MAX"), " MAX 9 MODSEQ 5");
        assert_eq!(esearch(&FOUND, false, true, "MIN MAX"), " MIN 2 MAX 9 MODSEQ 7");
        assert_eq!(esearch(&FOUND, false, true, "MIN COUNT"), " MIN 2 COUNT 3 MODSEQ 9");
    }
}
