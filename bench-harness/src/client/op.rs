//! The full parse of one server operation, for everything that is not a known frame.

use crate::error::{HarnessError, Result};

/// One operation of the server, borrowed from the read buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// `MSG subject sid [reply] size`, or `HMSG` with headers.
    Msg {
        /// The subject as text bytes.
        subject: &'a [u8],
        /// The subscription id the server was given.
        sid: u64,
        /// The reply subject, if any.
        reply: Option<&'a [u8]>,
        /// The header block from `NATS/1.0` to the empty line; empty for a `MSG`.
        headers: &'a [u8],
        /// The payload without its CRLF.
        payload: &'a [u8],
        /// Length of the header line with its CRLF.
        header_len: usize,
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR 'text'`, without the quotes.
    Err(&'a str),
    /// `INFO {json}`.
    Info(&'a [u8]),
}

/// The longest header line accepted (an INFO line may be long).
const LINE_MAX: usize = 64 * 1024;

/// Parses the operation at the start of `data`.
///
/// Returns the operation and its length in bytes, or `None` when more bytes are needed.
///
/// # Errors
/// Anything that is no server operation of the NATS protocol.
pub fn parse(data: &[u8]) -> Result<Option<(Op<'_>, usize)>> {
    let Some(end) = memchr::memchr(b'\n', data) else {
        if data.len() > LINE_MAX {
            return Err(HarnessError::Protocol("a line without an end".into()));
        }
        return Ok(None);
    };
    let used = end + 1;
    let line = data.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(rest) = line.strip_prefix(b"MSG ") {
        return message(data, rest, used, false);
    }
    if let Some(rest) = line.strip_prefix(b"HMSG ") {
        return message(data, rest, used, true);
    }
    let op = if line.eq_ignore_ascii_case(b"PING") {
        Op::Ping
    } else if line.eq_ignore_ascii_case(b"PONG") {
        Op::Pong
    } else if line.eq_ignore_ascii_case(b"+OK") {
        Op::Ok
    } else if let Some(text) = line.strip_prefix(b"-ERR") {
        let text = std::str::from_utf8(text).unwrap_or("(not text)");
        Op::Err(text.trim().trim_matches('\''))
    } else if let Some(json) = line.strip_prefix(b"INFO ") {
        Op::Info(json)
    } else {
        return Err(unknown(line));
    };
    Ok(Some((op, used)))
}

fn unknown(line: &[u8]) -> HarnessError {
    let start = line.get(..line.len().min(80)).unwrap_or_default();
    HarnessError::Protocol(format!("unexpected line {:?}", String::from_utf8_lossy(start)))
}

fn message<'a>(
    data: &'a [u8],
    rest: &'a [u8],
    header_len: usize,
    has_headers: bool,
) -> Result<Option<(Op<'a>, usize)>> {
    // The sizes stand last, so that the optional reply is whatever is left before them.
    let (rest_line, size) = last_number(rest)?;
    let (rest_line, headers_len) =
        if has_headers { last_number(rest_line)? } else { (rest_line, 0) };
    let mut words = rest_line.split(|&b| b == b' ').filter(|w| !w.is_empty());
    let (Some(subject), Some(sid), reply, None) =
        (words.next(), words.next().and_then(number), words.next(), words.next())
    else {
        return Err(unknown(rest));
    };
    let end = header_len.checked_add(size).filter(|_| headers_len <= size);
    let total = end.and_then(|n| n.checked_add(2)).ok_or_else(|| unknown(rest))?;
    let Some(frame) = data.get(..total) else {
        return Ok(None);
    };
    let at = header_len + headers_len;
    let (Some(headers), Some(payload), Some(b"\r\n")) =
        (frame.get(header_len..at), frame.get(at..total - 2), frame.get(total - 2..))
    else {
        return Err(HarnessError::Protocol("a payload that does not end in CRLF".into()));
    };
    Ok(Some((Op::Msg { subject, sid, reply, headers, payload, header_len }, total)))
}

/// Splits the last word, a number, from a header line.
fn last_number(line: &[u8]) -> Result<(&[u8], usize)> {
    let at = memchr::memrchr(b' ', line).ok_or_else(|| unknown(line))?;
    let (before, word) = line.split_at_checked(at).ok_or_else(|| unknown(line))?;
    let value = word.get(1..).and_then(number).and_then(|n| usize::try_from(n).ok());
    value.map(|n| (before, n)).ok_or_else(|| unknown(line))
}

/// A decimal number without sign; `None` for anything else or on overflow.
#[must_use]
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |n, &b| {
        let digit = b.checked_sub(b'0').filter(|d| *d < 10)?;
        n.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_messages_with_and_without_reply() {
        let (op, used) = parse(b"MSG a.b 7 3\r\nxyz\r\nPING\r\n").unwrap().unwrap();
        assert_eq!(used, 18);
        let Op::Msg { subject, sid, reply, headers, payload, header_len } = op else {
            panic!("{op:?}")
        };
        assert_eq!((subject, sid, reply), (&b"a.b"[..], 7, None));
        assert_eq!((headers, payload, header_len), (&b""[..], &b"xyz"[..], 13));
        let (op, _) = parse(b"MSG a 1 r.x 0\r\n\r\n").unwrap().unwrap();
        assert!(matches!(op, Op::Msg { reply: Some(b"r.x"), payload: b"", .. }));
    }

    #[test]
    fn parses_messages_with_headers() {
        let status = b"HMSG a 1 r 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
        let (op, used) = parse(status).unwrap().unwrap();
        assert_eq!(used, status.len());
        let Op::Msg { reply, headers, payload, .. } = op else { panic!("{op:?}") };
        assert_eq!((reply, payload), (Some(&b"r"[..]), &b""[..]));
        assert_eq!(headers, b"NATS/1.0 503\r\n\r\n");
        let (op, _) = parse(b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n").unwrap().unwrap();
        assert!(matches!(op, Op::Msg { reply: None, payload: b"hi", .. }));
        assert!(parse(b"HMSG a 1 15 14\r\n").is_err());
        assert!(parse(b"HMSG a 1 14\r\n").is_err());
    }

    #[test]
    fn asks_for_more_and_refuses_nonsense() {
        assert!(parse(b"MSG a 1 4\r\nab").unwrap().is_none());
        assert!(parse(b"PIN").unwrap().is_none());
        assert!(parse(b"MSG a 1 4\r\nabcdXX").is_err());
        assert!(parse(b"MSG a x 4\r\nabcd\r\n").is_err());
        assert!(parse(b"HELLO\r\n").is_err());
        assert!(parse(b"MSG a 1 99999999999999999999\r\n").is_err());
    }

    #[test]
    fn knows_the_short_operations() {
        assert_eq!(parse(b"PONG\r\n").unwrap().unwrap(), (Op::Pong, 6));
        let (op, _) = parse(b"-ERR 'Slow Consumer'\r\n").unwrap().unwrap();
        assert_eq!(op, Op::Err("Slow Consumer"));
        assert_eq!(parse(b"+OK\r\n").unwrap().unwrap().0, Op::Ok);
    }
}
