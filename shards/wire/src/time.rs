//! Times and durations as text, in the forms that NATS uses: RFC 3339 with nanoseconds, Go's
//! `1h2m3s`, and the uptime form `1d2h3m4s`. No clock is read here.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt::Write;

use thiserror::Error;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A point in time as RFC 3339 in UTC, with as many digits of the second as are not zero.
/// Years from 0 to 9999; anything else is shown as Go's zero time, `0001-01-01T00:00:00Z`.
pub fn format_rfc3339(unix_secs: i64, nanos: u32) -> String {
    let mut out = String::with_capacity(30);
    push_rfc3339(&mut out, unix_secs, nanos);
    out
}

/// Appends what [`format_rfc3339`] answers.
pub fn push_rfc3339(out: &mut String, unix_secs: i64, nanos: u32) {
    let (year, month, day) = civil_from_days(unix_secs.div_euclid(SECONDS_PER_DAY));
    if !(0..=9999).contains(&year) {
        out.push_str("0001-01-01T00:00:00Z");
        return;
    }
    let second = unix_secs.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // Writing to a String cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    let nanos = u64::from(nanos).min(NANOS_PER_SECOND.saturating_sub(1));
    push_fraction(out, nanos, 9);
    out.push('Z');
}

/// Year, month and day of a day number counted from 1970-01-01, in the Gregorian calendar.
///
/// Counts in eras of 400 years that start on the first of March, so that the leap day is the last
/// day of a year.
#[allow(clippy::arithmetic_side_effects)] // day numbers of an i64 of seconds are far from any limit
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    let shifted = days + 719_468;
    let era = shifted.div_euclid(ERA_DAYS);
    let day_of_era = shifted.rem_euclid(ERA_DAYS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// Appends `.` and the digits of `value / 10^digits`, without trailing zeros; nothing for zero.
fn push_fraction(out: &mut String, value: u64, digits: usize) {
    if value == 0 {
        return;
    }
    let text = format!("{value:0digits$}");
    out.push('.');
    out.push_str(text.trim_end_matches('0'));
}

/// A duration in nanoseconds as Go prints it: `0s`, `1.5ms`, `2m0s`, `1h0m0.25s`.
pub fn format_go_duration(nanos: i64) -> String {
    let mut out = String::new();
    if nanos < 0 {
        out.push('-');
    }
    let nanos = nanos.unsigned_abs();
    if nanos == 0 {
        out.push_str("0s");
    } else if nanos < 1_000 {
        let _ = write!(out, "{nanos}ns");
    } else if nanos < 1_000_000 {
        let _ = write!(out, "{}", nanos / 1_000);
        push_fraction(&mut out, nanos % 1_000, 3);
        out.push_str("µs");
    } else if nanos < NANOS_PER_SECOND {
        let _ = write!(out, "{}", nanos / 1_000_000);
        push_fraction(&mut out, nanos % 1_000_000, 6);
        out.push_str("ms");
    } else {
        let seconds = nanos / NANOS_PER_SECOND;
        if seconds >= 3600 {
            let _ = write!(out, "{}h", seconds / 3600);
        }
        if seconds >= 60 {
            let _ = write!(out, "{}m", seconds / 60 % 60);
        }
        let _ = write!(out, "{}", seconds % 60);
        push_fraction(&mut out, nanos % NANOS_PER_SECOND, 9);
        out.push('s');
    }
    out
}

/// Whole seconds in the form of `uptime` and `idle`: `4s`, `3m4s`, `2h3m4s`, `1d2h3m4s`,
/// `5y1d2h3m4s`. A year has 365 days.
pub fn format_uptime(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (second, minute, hour) = (seconds % 60, minutes % 60, hours % 24);
    let years = days / 365;
    if years > 0 {
        format!("{years}y{}d{hour}h{minute}m{second}s", days % 365)
    } else if days > 0 {
        format!("{days}d{hour}h{minute}m{second}s")
    } else if hours > 0 {
        format!("{hours}h{minute}m{second}s")
    } else if minutes > 0 {
        format!("{minutes}m{second}s")
    } else {
        format!("{second}s")
    }
}

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not a sequence of numbers with units.
    #[error("invalid duration")]
    Invalid,
    /// A number without a unit.
    #[error("missing unit in duration")]
    MissingUnit,
    /// A unit other than ns, us, µs, ms, s, m, h.
    #[error("unknown unit in duration")]
    UnknownUnit,
    /// More than 2^63 - 1 nanoseconds.
    #[error("duration out of range")]
    Range,
}

/// Reads a duration as Go does: an optional sign, then numbers with units such as `1h15m30.918s`;
/// a lone `0` needs no unit. The answer is in nanoseconds.
///
/// # Errors
///
/// What is wrong with the text, see [`DurationError`].
pub fn parse_go_duration(text: &str) -> Result<i64, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(DurationError::Invalid);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, tail) = parse_part(rest)?;
        total = total.checked_add(nanos).ok_or(DurationError::Range)?;
        rest = tail;
    }
    let limit = if negative { i64::MIN.unsigned_abs() } else { i64::MAX.unsigned_abs() };
    if total > limit {
        return Err(DurationError::Range);
    }
    let total = if negative { 0_u64.wrapping_sub(total) } else { total };
    Ok(total.cast_signed())
}

/// One number with its unit, in nanoseconds, and the text behind it.
fn parse_part(text: &str) -> Result<(u64, &str), DurationError> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Invalid);
    }
    let unit_len = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, tail) = rest.split_at_checked(unit_len).unwrap_or((rest, ""));
    let scale: u64 = match unit {
        "" => return Err(DurationError::MissingUnit),
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(DurationError::UnknownUnit),
    };
    let mut number: u64 = 0;
    for digit in whole.bytes().map(|b| b.wrapping_sub(b'0')) {
        number = number
            .checked_mul(10)
            .and_then(|n| n.checked_add(u64::from(digit)))
            .ok_or(DurationError::Range)?;
    }
    let nanos = number.checked_mul(scale).ok_or(DurationError::Range)?;
    let nanos = nanos.checked_add(fraction_of(fraction, scale)).ok_or(DurationError::Range)?;
    Ok((nanos, tail))
}

/// The digits at the start of the text and the rest.
fn split_digits(text: &str) -> (&str, &str) {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(len).unwrap_or((text, ""))
}

/// `0.fraction * scale`, rounded towards zero. The largest scale has 13 digits, so digits beyond
/// the fifteenth cannot matter.
fn fraction_of(fraction: &str, scale: u64) -> u64 {
    let mut nanos: u128 = 0;
    let mut divisor: u128 = 1;
    for byte in fraction.bytes().take(15) {
        nanos = nanos.saturating_mul(10).saturating_add(u128::from(byte.wrapping_sub(b'0')));
        divisor = divisor.saturating_mul(10);
    }
    let scaled = nanos.saturating_mul(u128::from(scale));
    u64::try_from(scaled.checked_div(divisor).unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_points_in_time() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_709_251_199, 500_000_000, "2024-02-29T23:59:59.5Z"),
            (1_795_508_345, 123_456_789, "2026-11-24T08:19:05.123456789Z"),
            (1_795_508_345, 1_000, "2026-11-24T08:19:05.000001Z"),
            (-1, 0, "1969-12-31T23:59:59Z"),
            (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
            (253_402_300_799, 999_999_999, "9999-12-31T23:59:59.999999999Z"),
            (253_402_300_800, 0, "0001-01-01T00:00:00Z"),
            (i64::MIN, u32::MAX, "0001-01-01T00:00:00Z"),
            (i64::MAX, 0, "0001-01-01T00:00:00Z"),
        ];
        for (secs, nanos, text) in cases {
            assert_eq!(format_rfc3339(secs, nanos), text);
        }
    }

    #[test]
    fn formats_durations_like_go() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (12_300_000, "12.3ms"),
            (3_300_000_000, "3.3s"),
            (60_000_000_000, "1m0s"),
            (3_723_000_000_000, "1h2m3s"),
            (3_600_250_000_000, "1h0m0.25s"),
            (-1_500_000_000, "-1.5s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(format_go_duration(nanos), text);
            assert_eq!(parse_go_duration(text), Ok(nanos));
        }
    }

    #[test]
    fn parses_durations_like_go() {
        let cases = [
            ("0", Ok(0)),
            ("+5s", Ok(5_000_000_000)),
            ("-0", Ok(0)),
            ("1.5h", Ok(5_400_000_000_000)),
            (".5s", Ok(500_000_000)),
            ("5.s", Ok(5_000_000_000)),
            ("1h1s2m", Ok(3_721_000_000_000)),
            ("3us", Ok(3_000)),
            ("3μs", Ok(3_000)),
            ("0.9ns", Ok(0)),
            ("0.100000000000000000000h", Ok(360_000_000_000)),
            ("", Err(DurationError::Invalid)),
            ("-", Err(DurationError::Invalid)),
            ("s", Err(DurationError::Invalid)),
            (".", Err(DurationError::Invalid)),
            (".s", Err(DurationError::Invalid)),
            ("1", Err(DurationError::MissingUnit)),
            ("1.5", Err(DurationError::MissingUnit)),
            ("1d", Err(DurationError::UnknownUnit)),
            ("1 s", Err(DurationError::UnknownUnit)),
            ("9223372036854775808ns", Err(DurationError::Range)),
            ("-9223372036854775809ns", Err(DurationError::Range)),
            ("99999999999999999999999s", Err(DurationError::Range)),
            ("3000000h", Err(DurationError::Range)),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse_go_duration(text), nanos, "{text}");
        }
    }

    #[test]
    fn formats_uptimes() {
        let cases = [
            (0, "0s"),
            (61, "1m1s"),
            (3_600, "1h0m0s"),
            (93_784, "1d2h3m4s"),
            (31_536_000 * 5 + 93_784, "5y1d2h3m4s"),
        ];
        for (seconds, text) in cases {
            assert_eq!(format_uptime(seconds), text);
        }
        assert!(format_uptime(u64::MAX).ends_with('s'));
    }
}
