//! Calendar arithmetic: the civil date of a count of seconds, and the two date forms mail uses.

use std::fmt;

/// A civil date and time with its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// Year, Gregorian calendar.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
    /// Second, 0 to 59 (60 is read as 59).
    pub second: u8,
    /// Minutes east of Greenwich.
    pub zone_minutes: i16,
}

/// English month names of RFC 5322 §3.3 and RFC 3501 §9, January first.
pub const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// Days from 1970-01-01 to the given date (proleptic Gregorian).
pub fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    let (month, day) = (i64::from(month), i64::from(day));
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date that lies `days` after 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u8;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

impl Civil {
    /// The civil time at `seconds` after 1970-01-01T00:00:00Z, seen from the zone.
    pub fn from_unix(seconds: i64, zone_minutes: i16) -> Civil {
        let local = seconds.saturating_add(i64::from(zone_minutes) * 60);
        let (year, month, day) = civil_from_days(local.div_euclid(86_400));
        let rest = local.rem_euclid(86_400);
        Civil {
            year,
            month,
            day,
            hour: (rest / 3_600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            zone_minutes,
        }
    }

    /// Seconds after 1970-01-01T00:00:00Z.
    pub fn to_unix(self) -> i64 {
        days_from_civil(self.year, self.month, self.day) * 86_400
            + i64::from(self.hour) * 3_600
            + i64::from(self.minute) * 60
            + i64::from(self.second.min(59))
            - i64::from(self.zone_minutes) * 60
    }

    fn zone(self) -> impl fmt::Display {
        let sign = if self.zone_minutes < 0 { '-' } else { '+' };
        let minutes = self.zone_minutes.unsigned_abs();
        fmt::from_fn(move |f| write!(f, "{sign}{:02}{:02}", minutes / 60, minutes % 60))
    }

    /// The form of a Date: or Received: field (RFC 5322 §3.3).
    pub fn to_rfc5322(self) -> String {
        let weekday = WEEKDAYS[days_from_civil(self.year, self.month, self.day).rem_euclid(7) as usize];
        format!(
            "{weekday}, {} {} {:04} {:02}:{:02}:{:02} {}",
            self.day,
            MONTHS[usize::from(self.month - 1)],
            self.year,
            self.hour,
            self.minute,
            self.second,
            self.zone()
        )
    }

    /// The form of IMAP's INTERNALDATE, without quotes (RFC 3501 §9, date-time).
    pub fn to_imap(self) -> String {
        format!(
            "{:2}-{}-{:04} {:02}:{:02}:{:02} {}",
            self.day,
            MONTHS[usize::from(self.month - 1)],
            self.year,
            self.hour,
            self.minute,
            self.second,
            self.zone()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let civil = Civil::from_unix(1_000_000_000, 0);
        assert_eq!(civil.to_rfc5322(), "Sun, 9 Sep 2001 01:46:40 +0000");
        let civil = Civil::from_unix(951_782_400, -330);
        assert_eq!(civil.to_imap(), "28-Feb-2000 18:30:00 -0530");
        assert_eq!(Civil::from_unix(-1, 0).to_imap(), "31-Dec-1969 23:59:59 +0000");
    }

    #[test]
    fn every_day_of_four_centuries_round_trips() {
        for days in -80_000..160_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }
}
