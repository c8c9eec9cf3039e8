//! Times, durations and quoted strings as nats-server prints them in its monitoring replies.

use std::fmt::Write;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// A wall clock time (nanoseconds since 1970, UTC) in RFC 3339 form with as many fraction digits
/// as are needed, such as `2026-11-24T08:19:49.7Z`.
pub(crate) fn rfc3339(wall_ns: u64) -> String {
    let seconds = wall_ns / NS_PER_SECOND;
    let fraction_ns = wall_ns % NS_PER_SECOND;
    let (year, month, day) = civil_date(seconds / 86_400);
    let of_day = seconds % 86_400;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let mut text = String::with_capacity(30);
    // Writing to a String cannot fail.
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    push_fraction(&mut text, fraction_ns, 9);
    text.push('Z');
    text
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// The year is taken to begin in March, so that the leap day is its last day and the month
/// lengths repeat in runs of five months (153 days).
fn civil_date(day_of_epoch: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    let day = day_of_epoch + 719_468;
    let era = day / DAYS_PER_ERA;
    let day_of_era = day % DAYS_PER_ERA;
    let leaps = day_of_era / 1460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, carry) =
        if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    (era * 400 + year_of_era + carry, month, day_of_month)
}

/// A duration in Go's form: `0s`, `238µs`, `4.566453ms`, `1m30.5s`, `2h0m0s`.
pub(crate) fn go_duration(duration_ns: u64) -> String {
    let mut text = String::new();
    if duration_ns < NS_PER_SECOND {
        let (unit_ns, digits, unit) = match duration_ns {
            0 => return "0s".to_owned(),
            1..1_000 => (1, 0, "ns"),
            1_000..1_000_000 => (1_000, 3, "µs"),
            _ => (1_000_000, 6, "ms"),
        };
        let _ = write!(text, "{}", duration_ns / unit_ns);
        push_fraction(&mut text, duration_ns % unit_ns, digits);
        text.push_str(unit);
        return text;
    }
    let seconds = duration_ns / NS_PER_SECOND;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if seconds >= 60 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{}", seconds % 60);
    push_fraction(&mut text, duration_ns % NS_PER_SECOND, 9);
    text.push('s');
    text
}

/// Appends `.digits` without trailing zeros, or nothing for a zero fraction.
fn push_fraction(text: &mut String, fraction: u64, digits: usize) {
    if fraction == 0 {
        return;
    }
    let padded = format!("{fraction:0digits$}");
    text.push('.');
    text.push_str(padded.trim_end_matches('0'));
}

/// The span between two times in the monitoring form: whole seconds with the larger units in
/// front, such as `27s`, `3m0s`, `1d2h3m4s` or `1y0d0h0m0s` (a year has 365 days).
pub(crate) fn uptime(from_ns: u64, to_ns: u64) -> String {
    let seconds = to_ns.saturating_sub(from_ns) / NS_PER_SECOND;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (second, minute, hour) = (seconds % 60, minutes % 60, hours % 24);
    match (days / 365, days % 365) {
        (0, 0) if hours > 0 => format!("{hours}h{minute}m{second}s"),
        (0, 0) if minutes > 0 => format!("{minutes}m{second}s"),
        (0, 0) => format!("{second}s"),
        (0, day) => format!("{day}d{hour}h{minute}m{second}s"),
        (year, day) => format!("{year}y{day}d{hour}h{minute}m{second}s"),
    }
}

/// A round trip time as `/connz` shows it: below a millisecond it is cut to whole microseconds.
pub(crate) fn round_trip(rtt_ns: u64) -> String {
    if rtt_ns < 1_000_000 { go_duration(rtt_ns / 1_000 * 1_000) } else { go_duration(rtt_ns) }
}

/// A string in double quotes with Go's escapes (`strconv.Quote`), for error texts that echo what
/// a client sent. Bytes that are not UTF-8 become `\xNN`.
pub(crate) fn go_quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            push_quoted(&mut text, letter);
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

fn push_quoted(text: &mut String, letter: char) {
    match letter {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\u{7}' => text.push_str("\\a"),
        '\u{8}' => text.push_str("\\b"),
        '\u{c}' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\u{b}' => text.push_str("\\v"),
        ' '..='~' => text.push(letter),
        '\0'..='\u{7f}' => {
            let _ = write!(text, "\\x{:02x}", u32::from(letter));
        }
        _ if is_printable(letter) => text.push(letter),
        '\u{80}'..='\u{ffff}' => {
            let _ = write!(text, "\\u{:04x}", u32::from(letter));
        }
        _ => {
            let _ = write!(text, "\\U{:08x}", u32::from(letter));
        }
    }
}

/// Whether a character beyond ASCII is shown as itself. The standard library's own table is
/// asked; a base letter goes first, because at the start of a string it escapes combining marks.
fn is_printable(letter: char) -> bool {
    let mut pair = String::from("x");
    pair.push(letter);
    let shown = pair.escape_debug().count() == 2;
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_trims_the_fraction() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_795_508_389_716_362_695), "2026-11-24T08:19:49.716362695Z");
        assert_eq!(rfc3339(1_795_508_389_700_000_000), "2026-11-24T08:19:49.7Z");
        assert_eq!(rfc3339(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(rfc3339(4_107_542_399_000_000_000), "2100-02-28T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400_000_000_000), "2100-03-01T00:00:00Z");
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709551615Z");
    }

    #[test]
    fn durations_have_go_forms() {
        for (ns, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (238_000, "238µs"),
            (1_500, "1.5µs"),
            (4_566_453, "4.566453ms"),
            (1_000_000_000, "1s"),
            (90_500_000_000, "1m30.5s"),
            (7_200_000_000_000, "2h0m0s"),
            (3_723_000_000_001, "1h2m3.000000001s"),
        ] {
            assert_eq!(go_duration(ns), expected);
        }
        assert_eq!(round_trip(506_789), "506µs");
        assert_eq!(round_trip(2_947_184), "2.947184ms");
        assert_eq!(round_trip(0), "0s");
    }

    #[test]
    fn uptime_uses_whole_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (3_600, "1h0m0s"),
            (86_400, "1d0h0m0s"),
            (93_784, "1d2h3m4s"),
            (365 * 86_400, "1y0d0h0m0s"),
            (366 * 86_400 + 61, "1y1d0h1m1s"),
        ] {
            assert_eq!(uptime(5, seconds * NS_PER_SECOND + 5), expected);
        }
        assert_eq!(uptime(10, 3), "0s");
    }

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(go_quoted(b"\"\x01\xffx\xc3\xa9'"), "\"\\\"\\x01\\xffxé'\"");
        let mixed = b"\x00\x07\x7f\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80\xff";
        assert_eq!(go_quoted(mixed), "\"\\x00\\a\\x7fé\\u2028😀\\xff\"");
    }
}
