//! The date and time of a Date: field (RFC 5322 §3.3, obsolete forms of §4.3).

use super::Cursor;
use mail::time::{Civil, MONTHS, days_from_civil};

/// Reads a date-time: seconds since 1970 in UTC, and the zone in minutes east of Greenwich. Comments may stand
/// anywhere and the weekday is not checked. A zone that is missing or unreadable counts as UTC. The order of C's
/// `asctime`, which some programs write, is understood too. `None` where no date can be made of it.
pub fn parse_date(value: &[u8]) -> Option<(i64, i16)> {
    let mut cursor = Cursor::new(value);
    cursor.skip_cfws();
    if cursor.peek()?.is_ascii_alphabetic() {
        cursor.take_while(|b| b.is_ascii_alphabetic() || b == b'.');
        cursor.skip_cfws();
        cursor.eat(b',');
        cursor.skip_cfws();
    }
    if cursor.peek()?.is_ascii_alphabetic() {
        let month = month(cursor.take_while(|b| b.is_ascii_alphabetic()))?;
        cursor.skip_cfws();
        let day = number(&mut cursor, 2)?.0;
        let time = Time::parse(&mut cursor)?;
        cursor.skip_cfws();
        let year = year(&mut cursor)?;
        return time.on(year, month, day, 0);
    }
    let day = number(&mut cursor, 2)?.0;
    date_separator(&mut cursor);
    let month = month(cursor.take_while(|b| b.is_ascii_alphabetic()))?;
    date_separator(&mut cursor);
    let year = year(&mut cursor)?;
    let time = Time::parse(&mut cursor)?;
    cursor.skip_cfws();
    time.on(year, month, day, zone(&mut cursor).unwrap_or(0))
}

struct Time {
    hour: u32,
    minute: u32,
    second: u32,
}

impl Time {
    fn parse(cursor: &mut Cursor<'_>) -> Option<Time> {
        cursor.skip_cfws();
        let hour = number(cursor, 2)?.0;
        let minute = time_piece(cursor)?;
        let second = time_piece(cursor).unwrap_or(0);
        (hour <= 23 && minute <= 59 && second <= 60).then_some(Time { hour, minute, second })
    }

    /// The moment, if there is such a day.
    fn on(&self, year: i64, month: u8, day: u32, zone_minutes: i16) -> Option<(i64, i16)> {
        if !(1..=days_in_month(year, month)).contains(&day) {
            return None;
        }
        let small = |number: u32| u8::try_from(number).ok();
        let (hour, minute, second) = (small(self.hour)?, small(self.minute)?, small(self.second)?);
        let civil = Civil { year, month, day: small(day)?, hour, minute, second, zone_minutes };
        Some((civil.to_unix(), zone_minutes))
    }
}

/// A number of at most so many digits, and how many it had.
fn number(cursor: &mut Cursor<'_>, digits_max: usize) -> Option<(u32, usize)> {
    let digits = cursor.take_while(|b| b.is_ascii_digit());
    if digits.is_empty() || digits.len() > digits_max {
        return None;
    }
    let number = digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some((number, digits.len()))
}

/// White space, or the hyphens of `2-Jan-2006`, which some programs write.
fn date_separator(cursor: &mut Cursor<'_>) {
    cursor.skip_cfws();
    cursor.eat(b'-');
    cursor.skip_cfws();
}

fn month(name: &[u8]) -> Option<u8> {
    let short = name.get(..3)?;
    let index = MONTHS.iter().position(|month| month.as_bytes().eq_ignore_ascii_case(short))?;
    u8::try_from(index + 1).ok()
}

/// RFC 5322 §4.3: two digits count from 1950 to 2049, three digits from 1900.
fn year(cursor: &mut Cursor<'_>) -> Option<i64> {
    let (number, digits) = number(cursor, 4)?;
    let number = i64::from(number);
    match digits {
        2 if number < 50 => Some(number + 2_000),
        2 | 3 => Some(number + 1_900),
        4 if number >= 1 => Some(number),
        _ => None,
    }
}

fn time_piece(cursor: &mut Cursor<'_>) -> Option<u32> {
    cursor.skip_cfws();
    if !cursor.eat(b':') {
        return None;
    }
    cursor.skip_cfws();
    Some(number(cursor, 2)?.0)
}

fn zone(cursor: &mut Cursor<'_>) -> Option<i16> {
    let sign = match cursor.peek() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Some(named_zone(cursor.take_while(|b| b.is_ascii_alphabetic()))),
    };
    cursor.bump();
    let (number, digits) = number(cursor, 4)?;
    let (hours, minutes) = if digits <= 2 { (number, 0) } else { (number / 100, number % 100) };
    if minutes > 59 {
        return None;
    }
    i16::try_from(hours * 60 + minutes).ok().map(|minutes| sign * minutes)
}

/// RFC 5322 §4.3: the American zones; every other name, military letters included, is taken for UTC.
fn named_zone(name: &[u8]) -> i16 {
    let hours = match name.to_ascii_uppercase().as_slice() {
        b"EDT" => -4,
        b"EST" | b"CDT" => -5,
        b"CST" | b"MDT" => -6,
        b"MST" | b"PDT" => -7,
        b"PST" => -8,
        _ => 0,
    };
    hours * 60
}

fn days_in_month(year: i64, month: u8) -> u32 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let days = days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1);
    u32::try_from(days).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_new_and_old() {
        for (text, expected) in [
            ("Sun, 9 Sep 2001 01:46:40 +0000", (1_000_000_000, 0)),
            ("Fri, 21 Nov 1997 09:55:06 -0600", (880_127_706, -360)),
            ("21 Nov 97 09:55:06 GMT", (880_106_106, 0)),
            ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", (880_127_706, -360)),
            ("Thu,\r\n 13\r\n Feb\r\n 1969\r\n 23:32 -0330 (Newfoundland)", (-27_723_480, -210)),
            ("9 Sep 101 01:46:40 UT", (1_000_000_000, 0)),
            ("9-Sep-2001 01:46:40 Z", (1_000_000_000, 0)),
            ("Sat 8 September 2001 17:46:40 PST", (1_000_000_000, -480)),
            ("Sun, 09 Sep 2001 01:46:40", (1_000_000_000, 0)),
            ("Sun Sep  9 01:46:40 2001", (1_000_000_000, 0)),
            ("Sun, 09 Sep 2001 01:46:40 +-0800", (1_000_000_000, 0)),
            ("Sun, 09 Sep 2001 01:46:40 +0060", (1_000_000_000, 0)),
            ("29 Feb 2004 00:00:60 +0000", (1_078_012_859, 0)),
        ] {
            assert_eq!(parse_date(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn v28_what_is_no_date() {
        for text in [
            "",
            "now",
            "Mon,",
            "32 Jan 2001 00:00 +0000",
            "0 Jan 2001 00:00 +0000",
            "29 Feb 2001 00:00 +0000",
            "1 Foo 2001 00:00 +0000",
            "1 Jan 2001 24:00 +0000",
            "1 Jan 2001 00:60 +0000",
            "1 Jan 2001 00:00:61 +0000",
            "Mon Jan 1 00:00:00",
            "Mon Jan 32 00:00:00 2001",
            "1 Jan 20011 00:00 +0000",
            "1 Jan 0000 00:00 +0000",
            "99999999999999999999 Jan 2001 00:00",
            "1 \u{e9} 2001 00:00",
        ] {
            assert_eq!(parse_date(text.as_bytes()), None, "{text}");
        }
        let text = b"Fri, 31 Dec 9999 23:59:59 -9959 (x)";
        for end in 0..=text.len() {
            let _ = parse_date(&text[..end]);
        }
    }
}
