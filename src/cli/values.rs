//! What the values of flags mean: numbers and booleans as nats-server reads them, and the
//! types of our own flags.

use std::fmt;
use std::path::PathBuf;

/// The reason Go gives for a value that cannot be read.
const PARSE_ERROR: &str = "parse error";

/// A value that must not be printed: passwords, tokens and URLs that may hold them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value itself, for the one place that needs it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// How a shard waits when it has nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpinMode {
    /// Sleep at once: least CPU.
    #[default]
    Off,
    /// Poll for a short while after work, then sleep.
    Adaptive,
    /// Never sleep: least latency, a whole core busy.
    Always,
}

/// Reads a boolean by Go's list of words.
pub(super) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(PARSE_ERROR.to_owned()),
    }
}

/// Reads a 64-bit integer with Go's prefixes (`0x`, `0o`, `0b`, leading `0`) and its
/// underscores between digits.
pub(super) fn go_int(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let (radix, body) = split_radix(digits);
    // A prefix counts as a digit for the underscore that may follow it.
    let mut after_digit = radix != 10;
    let mut plain = String::with_capacity(body.len());
    for letter in body.chars() {
        match letter {
            '_' if after_digit => after_digit = false,
            _ if letter.is_digit(radix) => {
                after_digit = true;
                plain.push(letter);
            }
            _ => return Err(PARSE_ERROR.to_owned()),
        }
    }
    if plain.is_empty() || !after_digit {
        return Err(PARSE_ERROR.to_owned());
    }
    // Every digit is valid here, so the only failure left is the range.
    let signed = if negative { format!("-{plain}") } else { plain };
    i64::from_str_radix(&signed, radix).map_err(|_| "value out of range".to_owned())
}

fn split_radix(digits: &str) -> (u32, &str) {
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let rest = digits.get(2..).unwrap_or_default();
    match prefix.as_deref() {
        Some("0x") => (16, rest),
        Some("0o") => (8, rest),
        Some("0b") => (2, rest),
        Some(_) if digits.starts_with('0') => (8, digits.get(1..).unwrap_or_default()),
        _ => (10, digits),
    }
}

/// Wraps a value that must not be printed. Every text is accepted.
pub(super) fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// Takes a path. The empty one is accepted: it undoes an earlier flag.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

/// Reads `--spin`.
pub(super) fn spin_mode(text: &str) -> Result<SpinMode, String> {
    match text {
        "off" => Ok(SpinMode::Off),
        "adaptive" => Ok(SpinMode::Adaptive),
        "always" => Ok(SpinMode::Always),
        _ => Err("must be off, adaptive or always".to_owned()),
    }
}

/// Reads `--shards`: 1 to 1024.
pub(super) fn shard_count(text: &str) -> Result<u16, String> {
    match go_int(text) {
        Ok(count @ 1..=1024) => u16::try_from(count).map_err(|_| PARSE_ERROR.to_owned()),
        _ => Err("must be a number from 1 to 1024".to_owned()),
    }
}

/// A set of CPUs in the kernel's list form, sorted and without doubles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

/// Highest CPU number a list may name. The kernel's own mask ends there.
const CPU_MAX: usize = 1023;

impl CpuList {
    /// Reads a list such as `0-3,8,10-11`. An empty text is an empty list.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong: not a number, a range that runs backwards, a CPU
    /// above 1023.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let read = |number: &str| match number.trim().parse::<usize>() {
                Ok(cpu) if cpu <= CPU_MAX => Ok(cpu),
                _ => Err(format!("{part:?} is not a CPU or a range of CPUs")),
            };
            let (first, last) = (read(first)?, read(last)?);
            if first > last {
                return Err(format!("the range {part:?} runs backwards"));
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        cpus.dedup();
        Ok(Self(cpus))
    }

    /// The CPUs in rising order.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        &self.0
    }
}

impl FromIterator<usize> for CpuList {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        let mut cpus: Vec<usize> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        Self(cpus)
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        let mut comma = "";
        while let Some((&first, _)) = rest.split_first() {
            let run = rest.iter().zip(first..).take_while(|(cpu, next)| *cpu == next).count();
            match run {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{}", first + run - 1)?,
            }
            comma = ",";
            rest = rest.get(run..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Reads `--cpus`, which must name at least one CPU.
pub(super) fn cpu_list(text: &str) -> Result<CpuList, String> {
    let list = CpuList::parse(text)?;
    if list.cpus().is_empty() { Err("names no CPU".to_owned()) } else { Ok(list) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_follow_go() {
        for (text, value) in [
            ("4222", 4222),
            ("-1", -1),
            ("+5", 5),
            ("0x10", 16),
            ("0X1f", 31),
            ("010", 8),
            ("0b101", 5),
            ("0o17", 15),
            ("0x_1", 1),
            ("1_0", 10),
            ("0_7", 7),
            ("0", 0),
            ("-0x8000000000000000", i64::MIN),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(go_int(text), Ok(value), "{text}");
        }
        for text in ["", "abc", "08", "1__0", "_1", "1_", " 5", "5 ", "1k", "0x", "-", "--1", "٣"]
        {
            assert_eq!(go_int(text).unwrap_err(), "parse error", "{text}");
        }
        assert_eq!(go_int("9223372036854775808").unwrap_err(), "value out of range");
    }

    #[test]
    fn booleans_follow_go() {
        assert_eq!(go_bool("T"), Ok(true));
        assert_eq!(go_bool("False"), Ok(false));
        for text in ["", "yes", "on", "tRUE", "2"] {
            assert!(go_bool(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cpu_lists_round_trip() {
        for (text, shown) in
            [("0-3,8", "0-3,8"), ("3,1,2,1", "1-3"), ("5", "5"), (" 0 , 2 ", "0,2"), ("", "")]
        {
            assert_eq!(CpuList::parse(text).unwrap().to_string(), shown);
        }
        for text in ["a", "3-1", "1-", "-1", "1024", "0-99999999"] {
            assert!(CpuList::parse(text).is_err(), "{text}");
        }
        assert!(cpu_list("").is_err());
    }

    #[test]
    fn our_own_flags_say_what_they_want() {
        assert_eq!(spin_mode("always"), Ok(SpinMode::Always));
        assert!(spin_mode("on").unwrap_err().contains("adaptive"));
        assert_eq!(shard_count("16"), Ok(16));
        assert!(shard_count("0").is_err());
        assert!(shard_count("1025").is_err());
        assert_eq!(format!("{:?}", Secret::new("hush")), "[REDACTED]");
    }
}
