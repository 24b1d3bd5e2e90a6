//! The maildrop of a session: a picture that does not change, and which messages are marked as deleted.

use mail::{Message, Snapshot, Uid, UidValidity};
use std::sync::Arc;

/// The unique-id of a message for ever (RFC 1939 §7): generation of the numbering and number, each in 16 hexadecimal
/// digits. No two messages of a mailbox share both, and neither ever changes, so no message shares its unique-id, be its
/// text the same (R59).
pub fn unique_id(uid_validity: UidValidity, uid: Uid) -> String {
    format!("{:016x}{:016x}", uid_validity.0, uid.0)
}

/// What a listing tells of each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// LIST: its octets.
    Size,
    /// UIDL: its unique-id.
    UniqueId,
}

/// Why a message number names no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberError {
    /// 0, or beyond the maildrop.
    None,
    /// Marked as deleted.
    Deleted,
}

/// A maildrop with its marks. Numbers are those of the snapshot and never shift (R60).
#[derive(Debug)]
pub(crate) struct Maildrop {
    snapshot: Arc<Snapshot>,
    /// One bit for each message up to the highest that was ever marked.
    marks: Vec<u64>,
    marked: u32,
    marked_octets: u64,
}

impl Maildrop {
    /// A maildrop without marks.
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Maildrop {
        Maildrop { snapshot, marks: Vec::new(), marked: 0, marked_octets: 0 }
    }

    /// Messages that are not marked.
    pub(crate) fn messages(&self) -> u32 {
        self.snapshot.len().saturating_sub(self.marked)
    }

    /// Octets of the messages that are not marked.
    pub(crate) fn octets(&self) -> u64 {
        self.snapshot.octets().saturating_sub(self.marked_octets)
    }

    /// Messages of the maildrop, marked or not.
    pub(crate) fn numbers(&self) -> u32 {
        self.snapshot.len()
    }

    /// The message with a number, unless it is marked.
    pub(crate) fn message(&self, number: u32) -> Result<&Message, NumberError> {
        let index = number.checked_sub(1).ok_or(NumberError::None)?;
        let message = self.snapshot.get(index).ok_or(NumberError::None)?;
        if self.is_marked(index) { Err(NumberError::Deleted) } else { Ok(message) }
    }

    /// Marks a message as deleted.
    pub(crate) fn mark(&mut self, number: u32) -> Result<(), NumberError> {
        let octets = self.message(number)?.size_octets;
        let index = number.saturating_sub(1);
        let word = index as usize / 64;
        if word >= self.marks.len() {
            self.marks.resize(word + 1, 0);
        }
        if let Some(bits) = self.marks.get_mut(word) {
            *bits |= 1 << (index % 64);
        }
        self.marked += 1;
        self.marked_octets += u64::from(octets);
        Ok(())
    }

    /// Takes all marks away.
    pub(crate) fn unmark_all(&mut self) {
        (self.marks, self.marked, self.marked_octets) = (Vec::new(), 0, 0);
    }

    /// The marked messages, ascending.
    pub(crate) fn marked(&self) -> Vec<Uid> {
        let messages = self.snapshot.iter().enumerate();
        messages.filter(|(index, _)| self.is_marked(*index as u32)).map(|(_, message)| message.uid).collect()
    }

    /// Appends lines of a listing from an index on, until `output` holds `octets` or the end is reached. The index to go
    /// on from; `None` at the end.
    pub(crate) fn list(&self, column: Column, index: u32, octets: usize, output: &mut Vec<u8>) -> Option<u32> {
        let mut next = index;
        if index < self.snapshot.len() {
            for message in self.snapshot.iter_from(index) {
                if output.len() >= octets {
                    return Some(next);
                }
                if !self.is_marked(next) {
                    self.line(column, next.saturating_add(1), message, output);
                }
                next = next.saturating_add(1);
            }
        }
        None
    }

    /// Appends the line of one message: its number, and what the listing tells.
    pub(crate) fn line(&self, column: Column, number: u32, message: &Message, output: &mut Vec<u8>) {
        push_decimal(number, output);
        output.push(b' ');
        match column {
            Column::Size => push_decimal(message.size_octets, output),
            Column::UniqueId => {
                push_hexadecimal(self.snapshot.uid_validity.0, output);
                push_hexadecimal(message.uid.0, output);
            }
        }
        output.extend_from_slice(b"\r\n");
    }

    fn is_marked(&self, index: u32) -> bool {
        self.marks.get(index as usize / 64).is_some_and(|bits| bits >> (index % 64) & 1 == 1)
    }
}

fn push_decimal(mut value: u32, output: &mut Vec<u8>) {
    let start = output.len();
    loop {
        output.push(b'0' + (value % 10) as u8);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    if let Some(digits) = output.get_mut(start..) {
        digits.reverse();
    }
}

/// Sixteen digits, as [`unique_id`] has them.
fn push_hexadecimal(value: u32, output: &mut Vec<u8>) {
    output.extend_from_slice(b"00000000");
    for shift in (0..32).step_by(4).rev() {
        let digit = (value >> shift & 15) as u8;
        output.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail::{BlobId, Flags, InternalDate, MailboxId, ModSeq};

    fn maildrop(messages: u32) -> Maildrop {
        let message = |number: u32| Message {
            uid: Uid(number * 3),
            flags: Flags::NONE,
            keywords: 0,
            mod_sequence: ModSeq(1),
            size_octets: number * 10,
            internal_date: InternalDate::default(),
            blob: BlobId(1),
        };
        let empty = Snapshot::empty(MailboxId(1), UidValidity(0xabcd), Uid(1), ModSeq(1));
        Maildrop::new(Arc::new(empty.with_messages((1..=messages).map(message))))
    }

    fn listing(maildrop: &Maildrop, column: Column, octets: usize) -> String {
        let (mut text, mut index) = (Vec::new(), Some(0));
        while let Some(from) = index {
            let mut output = Vec::new();
            index = maildrop.list(column, from, octets, &mut output);
            text.extend(output);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn marks_hide_messages_and_shift_nothing() {
        let mut maildrop = maildrop(200);
        assert_eq!((maildrop.messages(), maildrop.octets()), (200, 201_000));
        for number in [1, 64, 65, 200] {
            maildrop.mark(number).unwrap();
            assert_eq!(maildrop.mark(number), Err(NumberError::Deleted));
            assert_eq!(maildrop.message(number), Err(NumberError::Deleted));
        }
        assert_eq!((maildrop.messages(), maildrop.octets()), (196, 201_000 - 3_300));
        assert_eq!(maildrop.marked(), [3, 192, 195, 600].map(Uid));
        assert_eq!(maildrop.message(2).unwrap().uid, Uid(6));
        for number in [0, 201, u32::MAX] {
            assert_eq!(maildrop.mark(number), Err(NumberError::None));
        }
        maildrop.unmark_all();
        assert_eq!((maildrop.messages(), maildrop.octets(), maildrop.marked()), (200, 201_000, Vec::new()));
    }

    #[test]
    fn a_listing_is_the_same_in_pieces() {
        let mut maildrop = maildrop(1_000);
        maildrop.mark(2).unwrap();
        let plain: String = (1..=1_000).filter(|n| *n != 2).map(|n| format!("{n} {}\r\n", n * 10)).collect();
        for octets in [1, 100, 1 << 20] {
            assert_eq!(listing(&maildrop, Column::Size, octets), plain);
        }
        let plain: String = (1..=1_000)
            .filter(|n| *n != 2)
            .map(|n| format!("{n} {}\r\n", unique_id(UidValidity(0xabcd), Uid(n * 3))))
            .collect();
        assert_eq!(listing(&maildrop, Column::UniqueId, 4_096), plain);
        assert_eq!(listing(&self::maildrop(0), Column::Size, 10), "");
    }

    #[test]
    fn unique_ids_differ_and_fit() {
        let ids = [(1, 2), (2, 1), (1, 1), (u32::MAX, u32::MAX)].map(|(v, u)| unique_id(UidValidity(v), Uid(u)));
        assert_eq!(ids[0], "00000000000000010000000000000002");
        assert_eq!(ids[3], "00000000ffffffff00000000ffffffff");
        assert!(ids.iter().all(|id| id.len() == 32));
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    }
}
