//! Durations as Go writes them: `1h30m`, `2m0s`, `1.5s`, `300ms`.

use std::time::Duration;

/// The units, longest first, in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A length of time that may be negative, in nanoseconds; not every key refuses a negative one.
pub(super) fn parse_ns(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number = take_while(&mut rest, |c| c.is_ascii_digit());
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            fraction = take_while(&mut rest, |c| c.is_ascii_digit());
        }
        if number.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit = take_while(&mut rest, |c| c != '.' && !c.is_ascii_digit());
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        let whole = if number.is_empty() { Ok(0) } else { number.parse::<u64>() };
        let whole = whole.ok().and_then(|n| n.checked_mul(*scale)).ok_or_else(invalid)?;
        total = total
            .checked_add(whole)
            .and_then(|t| t.checked_add(fraction_ns(fraction, *scale)))
            .filter(|t| *t <= i64::MAX as u64)
            .ok_or_else(invalid)?;
    }
    let total = i64::try_from(total).map_err(|_| invalid())?;
    Ok(if negative { -total } else { total })
}

fn take_while<'t>(rest: &mut &'t str, test: impl Fn(char) -> bool) -> &'t str {
    let end = rest.find(|c| !test(c)).unwrap_or(rest.len());
    let (taken, left) = rest.split_at(end);
    *rest = left;
    taken
}

/// The nanoseconds of the digits after a dot; more than 18 of them are beyond its precision.
fn fraction_ns(digits: &str, scale: u64) -> u64 {
    let digits = digits.get(..18.min(digits.len())).unwrap_or_default();
    let Ok(number) = digits.parse::<u128>() else {
        return 0;
    };
    let power = u32::try_from(digits.len()).unwrap_or(0);
    u64::try_from(number * u128::from(scale) / 10u128.pow(power)).unwrap_or(0)
}

/// A duration as Go prints it: `0s`, `1.5ms`, `2m0s`, `1h0m0s`.
pub fn go_duration(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let (unit, scale) = match ns {
        0 => return "0s".to_string(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("\u{b5}s", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => return long_duration(ns),
    };
    format!("{}{unit}", decimal(ns, scale))
}

fn long_duration(ns: u128) -> String {
    let minute = 60_000_000_000;
    let seconds = decimal(ns % minute, 1_000_000_000);
    let minutes = ns / minute;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `ns / scale` without zeros at the end.
fn decimal(ns: u128, scale: u128) -> String {
    let (whole, rest) = (ns / scale, ns % scale);
    if rest == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_go_parses() {
        let good = [
            ("0", 0),
            ("2s", 2_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("-1m", -60_000_000_000),
            ("300ms", 300_000_000),
            (".5s", 500_000_000),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("10ns", 10),
        ];
        for (text, ns) in good {
            assert_eq!(parse_ns(text), Ok(ns), "{text}");
        }
    }

    #[test]
    fn refuses_with_the_texts_of_go() {
        let bad = [
            ("", "time: invalid duration \"\""),
            ("abc", "time: invalid duration \"abc\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            (".s", "time: invalid duration \".s\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
        ];
        for (text, error) in bad {
            assert_eq!(parse_ns(text).unwrap_err(), error);
        }
    }

    #[test]
    fn prints_as_go_prints() {
        let cases = [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5\u{b5}s"),
            (50_000_000, "50ms"),
            (2_000_000_000, "2s"),
            (1_500_000_000, "1.5s"),
            (120_000_000_000, "2m0s"),
            (5_400_000_000_000, "1h30m0s"),
        ];
        for (ns, text) in cases {
            assert_eq!(go_duration(Duration::from_nanos(ns)), text);
        }
    }
}
