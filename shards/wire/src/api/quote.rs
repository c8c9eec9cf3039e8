//! Text between quotes as Go shows it in error messages.

use std::fmt::Write;

/// The first character of `bytes` in single quotes, and its length in bytes. A byte that is not
/// UTF-8 counts as one character.
pub(super) fn quote_char(bytes: &[u8]) -> (String, usize) {
    let mut out = String::from("'");
    let len = match first_char(bytes) {
        Some(found) => {
            push_char(&mut out, found, '\'');
            found.len_utf8()
        }
        None => {
            push_byte(&mut out, bytes.first().copied().unwrap_or_default());
            1
        }
    };
    out.push('\'');
    (out, len)
}

/// `bytes` in double quotes; what cannot be shown is escaped.
pub(super) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_add(2));
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for found in chunk.valid().chars() {
            push_char(&mut out, found, '"');
        }
        for byte in chunk.invalid() {
            push_byte(&mut out, *byte);
        }
    }
    out.push('"');
    out
}

/// An escape sequence in backquotes, or in double quotes if it holds what cannot be shown.
pub(super) fn quote_escape(bytes: &[u8]) -> String {
    let is_plain = |found: char| {
        !matches!(found, '`' | char::REPLACEMENT_CHARACTER)
            && !found.is_whitespace()
            && !found.is_control()
            && (found.is_ascii() || is_printable(found))
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_plain) => format!("`{text}`"),
        _ => quote_bytes(bytes),
    }
}

/// `text` in double quotes as errors about times show it: everything outside of printable ASCII
/// as the hex of its bytes.
pub(super) fn quote_time(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=0x7f => out.push(char::from(byte)),
            _ => push_byte(&mut out, byte),
        }
    }
    out.push('"');
    out
}

fn first_char(bytes: &[u8]) -> Option<char> {
    bytes.utf8_chunks().next()?.valid().chars().next()
}

fn push_byte(out: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\x{byte:02x}");
}

fn push_char(out: &mut String, found: char, quote: char) {
    match found {
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        _ if found == quote => {
            out.push('\\');
            out.push(found);
        }
        ' '..='~' => out.push(found),
        '\0'..='\x7f' => push_byte(out, u8::try_from(found).unwrap_or_default()),
        _ if is_printable(found) => out.push(found),
        '\u{80}'..='\u{ffff}' => {
            let _ = write!(out, "\\u{:04x}", u32::from(found));
        }
        _ => {
            let _ = write!(out, "\\U{:08x}", u32::from(found));
        }
    }
}

/// Whether a character outside of ASCII has a shape of its own.
fn is_printable(found: char) -> bool {
    let mut escaped = found.escape_debug();
    escaped.next() == Some(found) && escaped.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        assert_eq!(quote_bytes(b"\"a\\\n\x01\xff\x7f"), r#""\"a\\\n\x01\xff\x7f""#);
        assert_eq!(quote_bytes("é'\u{2028}".as_bytes()), "\"é'\\u2028\"");
        assert_eq!(quote_char(b"'x"), ("'\\''".to_owned(), 1));
        assert_eq!(quote_char("ïx".as_bytes()), ("'ï'".to_owned(), 2));
        assert_eq!(quote_char(b"\xffx"), ("'\\xff'".to_owned(), 1));
        assert_eq!(quote_char(b"\""), ("'\"'".to_owned(), 1));
        assert_eq!(quote_escape(b"\\x"), "`\\x`");
        assert_eq!(quote_escape("\\u0\u{2028}".as_bytes()), "\"\\\\u0\\u2028\"");
        assert_eq!(quote_escape(b"\\\xff"), "\"\\\\\\xff\"");
        assert_eq!(quote_time("a\"\n"), "\"a\\\"\\x0a\"");
    }
}
