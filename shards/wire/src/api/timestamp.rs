//! Points in time as they stand in documents: RFC 3339 with as many digits of the second as are
//! not zero, read as leniently and refused with the same words as by Go.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde::{Serialize, Serializer};

use super::quote::quote_time;
use super::reader::{Kind, Reader};
use super::value::Value;
use crate::time::push_rfc3339;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";

/// A point in time in nanoseconds since 1970 in UTC, from the year 1677 to 2262. Times outside of
/// that are moved to its ends when they are read. An offset from UTC in a document is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// No time at all, which documents show as `0001-01-01T00:00:00Z`.
    pub const ZERO: Self = Self(i64::MIN);

    /// Whether this is no time.
    pub const fn is_zero(self) -> bool {
        self.0 == i64::MIN
    }

    /// Appends the time as documents show it, without quotes.
    pub fn push(self, out: &mut String) {
        if self.is_zero() {
            out.push_str("0001-01-01T00:00:00Z");
            return;
        }
        let nanos = self.0.rem_euclid(NANOS_PER_SECOND);
        push_rfc3339(out, self.0.div_euclid(NANOS_PER_SECOND), u32::try_from(nanos).unwrap_or(0));
    }

    /// Reads a time.
    ///
    /// # Errors
    ///
    /// What Go says about the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse(text)
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::with_capacity(30);
        self.push(&mut out);
        f.write_str(&out)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl Value for Timestamp {
    const GO_NAME: &'static str = "time.Time";

    /// Never: Go leaves out only what `Option` stands for here.
    fn is_empty(&self) -> bool {
        false
    }

    fn read(&mut self, reader: &mut Reader<'_>, go: &'static str) {
        match reader.kind() {
            Kind::Null => {
                reader.skip();
            }
            Kind::Text => match parse(&reader.read_text()) {
                Ok(time) => *self = time,
                Err(text) => reader.fail(text),
            },
            _ => reader.mismatch(go),
        }
    }
}

/// What is left of a text, and the whole text for error messages.
struct Cursor<'a> {
    whole: &'a str,
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn fail(&self, at: &str, wanted: &str) -> String {
        let (whole, at) = (quote_time(self.whole), quote_time(at));
        format!("parsing time {whole} as \"{LAYOUT}\": cannot parse {at} as \"{wanted}\"")
    }

    fn out_of_range(&self, what: &str) -> String {
        format!("parsing time {}: {what} out of range", quote_time(self.whole))
    }

    /// `count` digits, or with `lenient` one or two.
    fn number(&mut self, count: usize, lenient: bool, wanted: &str) -> Result<i64, String> {
        let digits = self.rest.bytes().take(count).take_while(u8::is_ascii_digit).count();
        if digits != count && !(lenient && digits == 1) {
            return Err(self.fail(self.rest, wanted));
        }
        let (number, rest) = self.rest.split_at_checked(digits).unwrap_or((self.rest, ""));
        self.rest = rest;
        Ok(number.parse().unwrap_or_default())
    }

    fn mark(&mut self, mark: &str) -> Result<(), String> {
        let rest = self.rest.strip_prefix(mark).ok_or_else(|| self.fail(self.rest, mark))?;
        self.rest = rest;
        Ok(())
    }

    /// A fraction of a second in nanoseconds; digits behind the ninth are dropped.
    fn fraction(&mut self) -> i64 {
        let Some(tail) = self.rest.strip_prefix(['.', ',']) else { return 0 };
        let len = tail.bytes().take_while(u8::is_ascii_digit).count();
        if len == 0 {
            return 0;
        }
        let (digits, rest) = tail.split_at_checked(len).unwrap_or((tail, ""));
        self.rest = rest;
        let mut padded: String = digits.chars().take(9).collect();
        while padded.len() < 9 {
            padded.push('0');
        }
        padded.parse().unwrap_or_default()
    }

    /// `Z` or `+hh:mm`, in seconds.
    fn offset(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let from = self.rest;
        let wrong = |cursor: &Self| cursor.fail(from, "Z07:00");
        let sign = match from.bytes().next() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(wrong(self)),
        };
        self.rest = from.get(1..).unwrap_or_default();
        let hour = self.number(2, false, "").map_err(|_| wrong(self))?;
        self.mark(":").map_err(|_| wrong(self))?;
        let minute = self.number(2, false, "").map_err(|_| wrong(self))?;
        if hour > 24 {
            return Err(self.out_of_range("time zone offset hour"));
        }
        if minute > 60 {
            return Err(self.out_of_range("time zone offset minute"));
        }
        Ok(hour.saturating_mul(3600).saturating_add(minute.saturating_mul(60)).saturating_mul(sign))
    }
}

fn parse(text: &str) -> Result<Timestamp, String> {
    let mut cursor = Cursor { whole: text, rest: text };
    let year = cursor.number(4, false, "2006")?;
    cursor.mark("-")?;
    let month = cursor.number(2, false, "01")?;
    if !(1..=12).contains(&month) {
        return Err(cursor.out_of_range("month"));
    }
    cursor.mark("-")?;
    let day = cursor.number(2, false, "02")?;
    cursor.mark("T")?;
    let hour = cursor.number(2, true, "15")?;
    if hour >= 24 {
        return Err(cursor.out_of_range("hour"));
    }
    cursor.mark(":")?;
    let minute = cursor.number(2, false, "04")?;
    if minute >= 60 {
        return Err(cursor.out_of_range("minute"));
    }
    cursor.mark(":")?;
    let second = cursor.number(2, false, "05")?;
    if second >= 60 {
        return Err(cursor.out_of_range("second"));
    }
    let nanos = cursor.fraction();
    let offset = cursor.offset()?;
    if !cursor.rest.is_empty() {
        let (whole, rest) = (quote_time(text), quote_time(cursor.rest));
        return Err(format!("parsing time {whole}: extra text: {rest}"));
    }
    if day < 1 || day > days_in(year, month) {
        return Err(cursor.out_of_range("day"));
    }
    let days = days_from_civil(year, month, day);
    Ok(assemble(days, [hour, minute, second], offset, nanos))
}

/// Nanoseconds since 1970, moved to the ends of what can be held. Midnight of the first of
/// January of the year 1 is no time.
fn assemble(days: i64, clock: [i64; 3], offset: i64, nanos: i64) -> Timestamp {
    let [hour, minute, second] = clock.map(i128::from);
    let seconds = i128::from(days)
        .saturating_mul(86_400)
        .saturating_add(hour.saturating_mul(3600))
        .saturating_add(minute.saturating_mul(60))
        .saturating_add(second)
        .saturating_sub(i128::from(offset));
    if seconds == -62_135_596_800 && nanos == 0 {
        return Timestamp::ZERO;
    }
    let total = seconds.saturating_mul(1_000_000_000).saturating_add(i128::from(nanos));
    let first = i128::from(i64::MIN).saturating_add(1);
    Timestamp(i64::try_from(total.clamp(first, i128::from(i64::MAX))).unwrap_or(i64::MAX))
}

const fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The number of the day counted from 1970-01-01 in the Gregorian calendar.
#[allow(clippy::arithmetic_side_effects)] // years have four digits
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, shifted) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
            (1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (i64::MIN, "0001-01-01T00:00:00Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(nanos).to_string(), text);
            assert_eq!(Timestamp::parse(text), Ok(Timestamp(nanos)), "{text}");
        }
    }

    #[test]
    fn unusual_times_are_taken() {
        for (text, nanos) in [
            ("1970-01-01T02:00:00+02:00", 0),
            ("1969-12-31T22:30:00-01:30", 0),
            ("1970-01-01T0:00:00Z", 0),
            ("1970-01-01T00:00:00,5Z", 500_000_000),
            ("1970-01-01T00:00:00.1234567891234Z", 123_456_789),
            ("1970-01-02T00:00:00+24:00", 0),
            ("9999-12-31T23:59:59Z", i64::MAX),
            ("0000-01-01T00:00:00Z", i64::MIN + 1),
        ] {
            assert_eq!(Timestamp::parse(text), Ok(Timestamp(nanos)), "{text}");
        }
    }

    /// The texts were taken from nats-server.
    #[test]
    fn refusals() {
        let layout = "as \"2006-01-02T15:04:05Z07:00\": cannot parse";
        for (text, error) in [
            ("x", format!("{layout} \"x\" as \"2006\"")),
            ("", format!("{layout} \"\" as \"2006\"")),
            ("2023-02-03 00:00:00Z", format!("{layout} \" 00:00:00Z\" as \"T\"")),
            ("2023-02-03T00:00:00", format!("{layout} \"\" as \"Z07:00\"")),
            ("2023-02-03T00:00:00.Z", format!("{layout} \".Z\" as \"Z07:00\"")),
            ("12023-02-03T00:00:00Z", format!("{layout} \"3-02-03T00:00:00Z\" as \"-\"")),
            ("2023-02", format!("{layout} \"\" as \"-\"")),
            ("2023-1-01T00:00:00Z", format!("{layout} \"1-01T00:00:00Z\" as \"01\"")),
            ("2023-01-01T00:00:00z", format!("{layout} \"z\" as \"Z07:00\"")),
            ("2023-01-01T00:00:00+0000", format!("{layout} \"+0000\" as \"Z07:00\"")),
        ] {
            let expected = format!("parsing time \"{text}\" {error}");
            assert_eq!(Timestamp::parse(text), Err(expected));
        }
        for (text, what) in [
            ("2023-13-01T00:00:00Z", "month"),
            ("2023-00-03T00:00:00Z", "month"),
            ("2023-02-30T00:00:00Z", "day"),
            ("2023-01-00T00:00:00Z", "day"),
            ("2023-02-03T24:00:00Z", "hour"),
            ("2023-02-03T00:60:00Z", "minute"),
            ("2023-02-03T00:00:60Z", "second"),
            ("2023-02-03T00:00:00+25:00", "time zone offset hour"),
        ] {
            let expected = format!("parsing time \"{text}\": {what} out of range");
            assert_eq!(Timestamp::parse(text), Err(expected));
        }
        let extra = "parsing time \"2023-02-03T00:00:00Zx\": extra text: \"x\"";
        assert_eq!(Timestamp::parse("2023-02-03T00:00:00Zx"), Err(extra.to_owned()));
    }
}
