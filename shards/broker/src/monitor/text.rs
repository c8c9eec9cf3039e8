//! Times, durations and quoted strings as nats-server prints them in its monitoring replies.

use std::fmt::Write;

use wire::time::{format_go_duration, format_rfc3339, format_uptime};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// A wall clock time (nanoseconds since 1970, UTC) in RFC 3339 form with as many fraction digits
/// as are needed, such as `2026-11-24T08:19:49.7Z`.
pub(crate) fn rfc3339(wall_ns: u64) -> String {
    let seconds = i64::try_from(wall_ns / NS_PER_SECOND).unwrap_or(i64::MAX);
    format_rfc3339(seconds, u32::try_from(wall_ns % NS_PER_SECOND).unwrap_or(0))
}

/// A duration in Go's form: `0s`, `238µs`, `4.566453ms`, `1m30.5s`, `2h0m0s`.
pub(crate) fn go_duration(duration_ns: u64) -> String {
    format_go_duration(i64::try_from(duration_ns).unwrap_or(i64::MAX))
}

/// The span between two times in whole seconds: `27s`, `3m0s`, `1d2h3m4s`.
pub(crate) fn uptime(from_ns: u64, to_ns: u64) -> String {
    format_uptime(to_ns.saturating_sub(from_ns) / NS_PER_SECOND)
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
    pair.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_forms_of_nats_server() {
        assert_eq!(rfc3339(1_795_508_389_716_362_695), "2026-11-24T08:19:49.716362695Z");
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709551615Z");
        assert_eq!(round_trip(506_789), "506µs");
        assert_eq!(round_trip(2_947_184), "2.947184ms");
        assert_eq!(round_trip(0), "0s");
        assert_eq!(uptime(5, 93_784 * NS_PER_SECOND + 5), "1d2h3m4s");
        assert_eq!(uptime(10, 3), "0s");
        assert_eq!(go_duration(u64::MAX), "2562047h47m16.854775807s");
    }

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(go_quoted(b"\"\x01\xffx\xc3\xa9'"), "\"\\\"\\x01\\xffxé'\"");
        let mixed = b"\x00\x07\x7f\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80\xff";
        assert_eq!(go_quoted(mixed), "\"\\x00\\a\\x7fé\\u2028😀\\xff\"");
    }
}
