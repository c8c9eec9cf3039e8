//! The client protocol parser: one look at a contiguous slice that starts at an operation.
//!
//! ```text
//!   input ──▶ fast path (upper case, single blanks, everything there) ──▶ Op
//!               │ anything else
//!               ▼
//!             general path ──▶ Op | Incomplete | ParseError
//! ```
//!
//! The fast path may only answer what the general path would answer; a property test holds the
//! two together. No state is kept between looks, so an operation that arrives in pieces is looked
//! at again from its start; `Step::Incomplete::need` keeps that from happening for every piece of
//! a payload.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use memchr::memchr;
use thiserror::Error;

use super::connect::AnyObject;
use super::errors::{ClientError, ClosedReason};
use super::fast;
use super::op::{Op, Step};

/// Blanks allowed between a verb and its argument beyond the control line limit. nats-server
/// takes any number there; a limit keeps the memory of a connection bounded.
pub const LEADING_BLANKS_MAX: usize = 256;
/// Decimal digits that a size may have; longer numbers are malformed, whatever their value.
pub const SIZE_DIGITS_MAX: usize = 9;

/// What the connection allows at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseLimits {
    /// Most bytes of an operation's argument (`max_control_line`), verb and line end not counted.
    pub max_control_line: usize,
    /// Most bytes of headers and payload together (`max_payload`); exactly this many are fine.
    pub max_payload: usize,
    /// Whether the client said `headers: true`, without which `HPUB` is refused.
    pub headers: bool,
    /// Whether the client must log in and has not: only CONNECT is let through.
    pub connect_only: bool,
}

/// Why the input cannot go on. Every one of them ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseError {
    /// No such verb, or no blank behind it.
    #[error("unknown protocol operation")]
    UnknownOperation,
    /// The argument is longer than `max_control_line`.
    #[error("control line too long")]
    ControlLineTooLong,
    /// A publish larger than `max_payload`; found before the payload arrives.
    #[error("payload of {size} bytes is too large")]
    PayloadTooLarge {
        /// The size that the client announced.
        size: u64,
    },
    /// Another verb than CONNECT before the login.
    #[error("not logged in")]
    NotConnected,
    /// `HPUB` from a client that did not ask for headers.
    #[error("headers are not supported on this connection")]
    HeadersNotSupported,
    /// `HPUB` with a header size above the total size.
    #[error("header size exceeds total size")]
    BadHeaderSize,
    /// A wrong number of arguments, or a size that is not one.
    #[error("malformed operation")]
    Malformed,
    /// Something else than CR LF behind a payload.
    #[error("payload does not end with CR LF")]
    BadPayloadEnd,
}

impl ParseError {
    /// The `-ERR` for the client, or `None` where nats-server closes without a word.
    pub const fn client_error(self) -> Option<ClientError<'static>> {
        match self {
            Self::UnknownOperation | Self::BadPayloadEnd => Some(ClientError::UnknownOperation),
            Self::ControlLineTooLong => Some(ClientError::MaxControlLineExceeded),
            Self::PayloadTooLarge { .. } => Some(ClientError::MaxPayloadViolation),
            Self::NotConnected => Some(ClientError::AuthorizationViolation),
            Self::HeadersNotSupported | Self::BadHeaderSize | Self::Malformed => None,
        }
    }

    /// The text of that `-ERR`.
    pub const fn client_text(self) -> Option<&'static str> {
        match self.client_error() {
            Some(error) => Some(error.fixed_text()),
            None => None,
        }
    }

    /// The reason that monitoring shows for the closed connection. nats-server has a reason for
    /// wrong headers, but what `/connz` shows for them is the general one, so it is used here.
    pub const fn reason(self) -> ClosedReason {
        match self {
            Self::UnknownOperation | Self::BadPayloadEnd => ClosedReason::ProtocolViolation,
            Self::ControlLineTooLong => ClosedReason::MaxControlLineExceeded,
            Self::PayloadTooLarge { .. } => ClosedReason::MaxPayloadExceeded,
            Self::NotConnected => ClosedReason::AuthenticationFailure,
            Self::HeadersNotSupported | Self::BadHeaderSize | Self::Malformed => {
                ClosedReason::ProtocolViolation
            }
        }
    }
}

/// Looks at the operation at the start of `input`.
///
/// # Errors
///
/// As soon as the bytes that are there cannot become a valid operation within `limits`, however
/// they go on.
#[inline]
pub fn parse<'a>(input: &'a [u8], limits: &ParseLimits) -> Result<Step<'a>, ParseError> {
    if !limits.connect_only
        && let Some(step) = fast::publish(input, limits)
    {
        return Ok(step);
    }
    parse_general(input, limits)
}

/// A size of 1 to 9 digits.
#[inline]
pub(super) fn parse_size(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > SIZE_DIGITS_MAX {
        return None;
    }
    let mut value: u32 = 0;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Nine digits fit in 32 bits.
        value = value.wrapping_mul(10).wrapping_add(u32::from(digit));
    }
    usize::try_from(value).ok()
}

/// The verbs that clients may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Pub,
    Hpub,
    Sub,
    Unsub,
    Ping,
    Pong,
    Connect,
    Ok,
    Err,
    Info,
}

/// Their spellings; none is the start of another.
const VERBS: [(&[u8], Verb); 10] = [
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"SUB", Verb::Sub),
    (b"UNSUB", Verb::Unsub),
    (b"PUB", Verb::Pub),
    (b"HPUB", Verb::Hpub),
    (b"CONNECT", Verb::Connect),
    (b"+OK", Verb::Ok),
    (b"-ERR", Verb::Err),
    (b"INFO", Verb::Info),
];

impl Verb {
    /// The verb at the start of `input` and what follows it; `None` while it is not all there.
    fn parse(input: &[u8]) -> Result<Option<(Self, &[u8])>, ParseError> {
        for (name, verb) in VERBS {
            let (given, rest) = input.split_at_checked(name.len()).unwrap_or((input, &[]));
            let wanted = name.get(..given.len()).unwrap_or(name);
            if given.eq_ignore_ascii_case(wanted) {
                return Ok((given.len() == name.len()).then_some((verb, rest)));
            }
        }
        Err(ParseError::UnknownOperation)
    }

    /// What stands between the verb and the rest of its line.
    const fn gap(self) -> Gap {
        match self {
            Self::Ping | Self::Pong | Self::Ok => Gap::Line,
            Self::Connect | Self::Info => Gap::Optional,
            Self::Sub | Self::Unsub | Self::Pub | Self::Hpub | Self::Err => Gap::Needed,
        }
    }
}

/// How the argument of a verb is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// No argument; the rest of the line is skipped, whatever it is.
    Line,
    /// Blanks may stand before the argument, as in `CONNECT{}`.
    Optional,
    /// At least one blank must stand before the argument.
    Needed,
}

/// Any operation, in any spelling, whole or not.
fn parse_general<'a>(input: &'a [u8], limits: &ParseLimits) -> Result<Step<'a>, ParseError> {
    let incomplete = Step::Incomplete {
        need: input.len().saturating_add(1),
    };
    let Some(first) = input.first() else {
        return Ok(incomplete);
    };
    if limits.connect_only && !first.eq_ignore_ascii_case(&b'C') {
        return Err(ParseError::NotConnected);
    }
    let Some((verb, rest)) = Verb::parse(input)? else {
        return Ok(incomplete);
    };
    let Some((arg, after)) = find_argument(verb.gap(), rest, limits.max_control_line)? else {
        return Ok(incomplete);
    };
    let op = match verb {
        Verb::Ping => Op::Ping,
        Verb::Pong => Op::Pong,
        Verb::Ok => Op::Ok,
        Verb::Err => Op::Err,
        Verb::Info => parse_info(arg)?,
        Verb::Connect => Op::Connect { json: arg },
        Verb::Sub => parse_sub(arg)?,
        Verb::Unsub => parse_unsub(arg)?,
        Verb::Pub | Verb::Hpub => {
            let head = parse_pub_head(verb, arg, limits)?;
            return finish_pub(input, after, head);
        }
    };
    Ok(Step::Op {
        op,
        consumed: input.len().saturating_sub(after.len()),
    })
}

/// An argument without its line end, and what follows the line.
type Argument<'a> = Option<(&'a [u8], &'a [u8])>;

/// The argument of a verb; `None` while its line has no end.
fn find_argument(gap: Gap, rest: &[u8], line_max: usize) -> Result<Argument<'_>, ParseError> {
    if gap == Gap::Line {
        return find_line(rest, line_max);
    }
    let blanks = rest
        .iter()
        .position(|&b| !is_blank(b))
        .unwrap_or(rest.len());
    if blanks == 0 && gap == Gap::Needed {
        return if rest.is_empty() {
            Ok(None)
        } else {
            Err(ParseError::UnknownOperation)
        };
    }
    if blanks > LEADING_BLANKS_MAX {
        return Err(ParseError::ControlLineTooLong);
    }
    find_line(rest.get(blanks..).unwrap_or_default(), line_max)
}

/// The bytes up to CR LF or a bare LF, and what follows; `None` while there is neither.
fn find_line(rest: &[u8], line_max: usize) -> Result<Argument<'_>, ParseError> {
    let window = rest.get(..line_max.saturating_add(2)).unwrap_or(rest);
    let end = memchr(b'\n', window);
    let line = window.get(..end.unwrap_or(window.len())).unwrap_or(window);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > line_max {
        return Err(ParseError::ControlLineTooLong);
    }
    Ok(end.map(|end| (line, rest.get(end.saturating_add(1)..).unwrap_or_default())))
}

/// The bytes that part fields.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// INFO means nothing from a client, but it must be JSON of the right kind all the same.
fn parse_info(arg: &[u8]) -> Result<Op<'static>, ParseError> {
    match serde_json::from_slice::<Option<AnyObject>>(arg) {
        Ok(_) => Ok(Op::Info),
        Err(_) => Err(ParseError::Malformed),
    }
}

/// Splits an argument at runs of blanks into at most four fields; `None` if there are more.
///
/// A CR inside is refused: nats-server lets it into subjects and so into the control lines that
/// other clients get, where it can be taken for the end of the line.
fn split_fields(arg: &[u8]) -> Option<([&[u8]; 4], usize)> {
    if memchr(b'\r', arg).is_some() {
        return None;
    }
    let mut fields: [&[u8]; 4] = [&[]; 4];
    let mut count: usize = 0;
    for field in arg
        .split(|&b| is_blank(b))
        .filter(|field| !field.is_empty())
    {
        *fields.get_mut(count)? = field;
        count = count.saturating_add(1);
    }
    Some((fields, count))
}

/// `<subject> [queue] <sid>`.
fn parse_sub(arg: &[u8]) -> Result<Op<'_>, ParseError> {
    match split_fields(arg) {
        Some(([subject, sid, ..], 2)) => Ok(Op::Sub {
            subject,
            queue: None,
            sid,
        }),
        Some(([subject, queue, sid, _], 3)) => Ok(Op::Sub {
            subject,
            queue: Some(queue),
            sid,
        }),
        _ => Err(ParseError::Malformed),
    }
}

/// `<sid> [max]`.
fn parse_unsub(arg: &[u8]) -> Result<Op<'_>, ParseError> {
    match split_fields(arg) {
        Some(([sid, ..], 1)) => Ok(Op::Unsub { sid, max: None }),
        Some(([sid, max, ..], 2)) => {
            let max = parse_size(max).filter(|&max| max > 0).map(|max| max as u64);
            Ok(Op::Unsub { sid, max })
        }
        _ => Err(ParseError::Malformed),
    }
}

/// The control line of a publish.
#[derive(Debug, Clone, Copy)]
struct PubHead<'a> {
    subject: &'a [u8],
    reply: Option<&'a [u8]>,
    header_len: usize,
    total_len: usize,
}

/// The fields of `PUB` or `HPUB`, held against the limits.
fn parse_pub_head<'a>(
    verb: Verb,
    arg: &'a [u8],
    limits: &ParseLimits,
) -> Result<PubHead<'a>, ParseError> {
    let with_headers = verb == Verb::Hpub;
    if with_headers && !limits.headers {
        return Err(ParseError::HeadersNotSupported);
    }
    let (subject, reply, header, total) = match (with_headers, split_fields(arg)) {
        (false, Some(([subject, total, ..], 2))) => (subject, None, None, total),
        (false, Some(([subject, reply, total, _], 3))) => (subject, Some(reply), None, total),
        (true, Some(([subject, header, total, _], 3))) => (subject, None, Some(header), total),
        (true, Some(([subject, reply, header, total], 4))) => {
            (subject, Some(reply), Some(header), total)
        }
        _ => return Err(ParseError::Malformed),
    };
    let header_len = match header {
        None => 0,
        Some(text) => parse_size(text).ok_or(ParseError::Malformed)?,
    };
    let total_len = parse_size(total).ok_or(ParseError::Malformed)?;
    if header_len > total_len {
        return Err(ParseError::BadHeaderSize);
    }
    if total_len > limits.max_payload {
        return Err(ParseError::PayloadTooLarge {
            size: total_len as u64,
        });
    }
    Ok(PubHead {
        subject,
        reply,
        header_len,
        total_len,
    })
}

/// The body of a publish and the CR LF behind it.
fn finish_pub<'a>(
    input: &'a [u8],
    after: &'a [u8],
    head: PubHead<'a>,
) -> Result<Step<'a>, ParseError> {
    let line_len = input.len().saturating_sub(after.len());
    let need = line_len.saturating_add(head.total_len).saturating_add(2);
    let Some((body, end)) = after.split_at_checked(head.total_len) else {
        return Ok(Step::Incomplete { need });
    };
    let PubHead {
        subject,
        reply,
        header_len,
        ..
    } = head;
    match end {
        [b'\r', b'\n', ..] => Ok(Step::Op {
            op: Op::Pub {
                subject,
                reply,
                header_len,
                body,
            },
            consumed: need,
        }),
        [] | [b'\r'] => Ok(Step::Incomplete { need }),
        _ => Err(ParseError::BadPayloadEnd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ParseLimits = ParseLimits {
        max_control_line: 32,
        max_payload: 1000,
        headers: true,
        connect_only: false,
    };

    /// The operation at the start of the text, which must be one.
    fn op(text: &str) -> Op<'_> {
        match parse(text.as_bytes(), &LIMITS) {
            Ok(Step::Op { op, .. }) => op,
            other => panic!("{other:?} for {text:?}"),
        }
    }

    fn error(text: &str) -> ParseError {
        parse(text.as_bytes(), &LIMITS).unwrap_err()
    }

    #[test]
    fn any_spelling_of_a_publish() {
        let plain = Op::Pub {
            subject: b"foo",
            reply: None,
            header_len: 0,
            body: b"ab",
        };
        for text in [
            "PUB foo 2\r\nab\r\n",
            "pub foo 2\r\nab\r\n",
            "pUb foo 2\nab\r\n",
            "PUB  \t foo\t2 \t\r\nab\r\n",
            "PUB foo 000000002\r\nab\r\n",
        ] {
            assert_eq!(op(text), plain, "{text:?}");
        }
        let reply = Op::Pub {
            subject: b"foo",
            reply: Some(b"r"),
            header_len: 0,
            body: b"",
        };
        assert_eq!(op("PUB foo r 0\r\n\r\n"), reply);
        let block = b"NATS/1.0\r\n\r\nx";
        let headers = Op::Pub {
            subject: b"foo",
            reply: None,
            header_len: 12,
            body: block,
        };
        assert_eq!(op("HPUB foo 12 13\r\nNATS/1.0\r\n\r\nx\r\n"), headers);
        let headers = Op::Pub {
            subject: b"foo",
            reply: Some(b"r"),
            header_len: 12,
            body: block,
        };
        assert_eq!(op("hpub foo r  12 13\r\nNATS/1.0\r\n\r\nx\r\n"), headers);
        // Without a header byte it is delivered as a plain message.
        let none = Op::Pub {
            subject: b"foo",
            reply: None,
            header_len: 0,
            body: b"ab",
        };
        assert_eq!(op("HPUB foo 0 2\r\nab\r\n"), none);
    }

    #[test]
    fn the_other_verbs() {
        let sub = Op::Sub {
            subject: b"a.*",
            queue: None,
            sid: b"x1",
        };
        assert_eq!(op("SUB a.* x1\r\n"), sub);
        let sub = Op::Sub {
            subject: b"a",
            queue: Some(b"q"),
            sid: b"1",
        };
        assert_eq!(op("sub \t a \t q  1 \t\r\n"), sub);
        assert_eq!(
            op("UNSUB 1\r\n"),
            Op::Unsub {
                sid: b"1",
                max: None
            }
        );
        assert_eq!(
            op("UNSUB 1 5\r\n"),
            Op::Unsub {
                sid: b"1",
                max: Some(5)
            }
        );
        for text in ["UNSUB 1 0\r\n", "UNSUB 1 x\r\n", "UNSUB 1 9999999999\r\n"] {
            assert_eq!(
                op(text),
                Op::Unsub {
                    sid: b"1",
                    max: None
                },
                "{text:?}"
            );
        }
        for text in ["PING\r\n", "ping\n", "PING xyz\r\n", "PINGxyz\r\n"] {
            assert_eq!(op(text), Op::Ping, "{text:?}");
        }
        assert_eq!(op("Pong \r\n"), Op::Pong);
        assert_eq!(op("+OK\r\n"), Op::Ok);
        assert_eq!(op("-ERR 'x'\r\n"), Op::Err);
        for text in ["INFO {}\r\n", "INFO{\"a\":[1]}\r\n", "info null\r\n"] {
            assert_eq!(op(text), Op::Info, "{text:?}");
        }
        for text in ["CONNECT {}\r\n", "CONNECT{}\n", "cOnNeCt\t {}\r\n"] {
            assert_eq!(op(text), Op::Connect { json: b"{}" }, "{text:?}");
        }
        assert_eq!(op("CONNECT\r\n"), Op::Connect { json: b"" });
    }

    #[test]
    fn what_is_told_and_what_closes_silently() {
        for text in [
            "FOO\r\n",
            "\r\n",
            "PUB\r\n",
            "SUB\r\n",
            "UNSUB\r\n",
            "-ERR\r\n",
            "PI NG\r\n",
            "PUX",
            "MSG foo 1 2\r\n",
            "HMSG",
            "RS+ a b\r\n",
            "A",
            "L",
            "\0",
            " PING\r\n",
        ] {
            assert_eq!(error(text), ParseError::UnknownOperation, "{text:?}");
        }
        for text in [
            "PUB \r\n",
            "PUB foo\r\n",
            "PUB a b c 1\r\n",
            "PUB foo x\r\n",
            "PUB foo -1\r\n",
            "PUB foo 0000000002\r\n",
            "HPUB foo 12\r\n",
            "HPUB a b c 1 1\r\n",
            "HPUB a x 1\r\n",
            "SUB foo\r\n",
            "SUB a b c d\r\n",
            "UNSUB \r\n",
            "UNSUB 1 2 3\r\n",
            "INFO x\r\n",
            "INFO\r\n",
            "INFO []\r\n",
            "PUB foo 1\r\r\n",
        ] {
            assert_eq!(error(text), ParseError::Malformed, "{text:?}");
            assert_eq!(error(text).client_text(), None);
        }
        for text in [
            "PUB foo 2\r\nabX",
            "PUB foo 2\r\nab\rX",
            "PUB foo 2\r\nab\n",
            "PUB a 0\r\n\n",
        ] {
            assert_eq!(error(text), ParseError::BadPayloadEnd, "{text:?}");
            assert_eq!(
                error(text).client_text(),
                Some("Unknown Protocol Operation")
            );
        }
        // The header size is looked at before the limit, the limit before the payload.
        assert_eq!(error("HPUB foo 12 11\r\n"), ParseError::BadHeaderSize);
        assert_eq!(error("HPUB foo 1200 1100\r\n"), ParseError::BadHeaderSize);
        assert_eq!(
            error("PUB foo 1001\r\n"),
            ParseError::PayloadTooLarge { size: 1001 }
        );
        let plain = ParseLimits {
            headers: false,
            ..LIMITS
        };
        for text in ["HPUB foo 12 12\r\n", "HPUB foo\r\n"] {
            assert_eq!(
                parse(text.as_bytes(), &plain),
                Err(ParseError::HeadersNotSupported)
            );
        }
    }

    #[test]
    fn control_line_limit_counts_the_argument() {
        let long = |len: usize| "a".repeat(len);
        for text in [
            format!("SUB {} 1\r\n", long(30)),
            format!("SUB {} 1\n", long(30)),
            format!("SUB {}{} 1\r\n", " ".repeat(60), long(30)),
            format!("PUB {} 0\r\n\r\n", long(30)),
        ] {
            op(&text);
        }
        for text in [
            format!("SUB {} 1\r\n", long(31)),
            format!("SUB {} 1 \r\n", long(30)),
            format!("SUB {}", long(33)),
            format!("PUB {} 0\r\n\r\n", long(31)),
            format!("PUB {}\r\n", "a ".repeat(17)),
            format!("-ERR {}\r\n", long(33)),
            format!("CONNECT {}", long(33)),
        ] {
            assert_eq!(error(&text), ParseError::ControlLineTooLong, "{text:?}");
        }
        for text in [format!("SUB {}", long(32)), format!("SUB {}\r", long(32))] {
            let need = text.len() + 1;
            assert_eq!(
                parse(text.as_bytes(), &LIMITS),
                Ok(Step::Incomplete { need })
            );
        }
    }

    #[test]
    fn before_login_only_connect_is_looked_at() {
        let closed = ParseLimits {
            connect_only: true,
            ..LIMITS
        };
        for text in ["P", "PING\r\n", "Z", "\n", "PUB foo 2\r\nab\r\n"] {
            assert_eq!(
                parse(text.as_bytes(), &closed),
                Err(ParseError::NotConnected)
            );
        }
        assert_eq!(parse(b"c", &closed), Ok(Step::Incomplete { need: 2 }));
        assert_eq!(parse(b"CX", &closed), Err(ParseError::UnknownOperation));
        let text = ParseError::NotConnected.client_text();
        assert_eq!(text, Some("Authorization Violation"));
    }

    #[test]
    fn only_what_was_used_is_consumed() {
        let input = b"PING\r\nPUB a 1\r\nx\r\nPO";
        assert_eq!(
            parse(input, &LIMITS),
            Ok(Step::Op {
                op: Op::Ping,
                consumed: 6
            })
        );
        let op = Op::Pub {
            subject: b"a",
            reply: None,
            header_len: 0,
            body: b"x",
        };
        assert_eq!(
            parse(&input[6..], &LIMITS),
            Ok(Step::Op { op, consumed: 12 })
        );
        assert_eq!(
            parse(&input[18..], &LIMITS),
            Ok(Step::Incomplete { need: 3 })
        );
        assert_eq!(parse(b"", &LIMITS), Ok(Step::Incomplete { need: 1 }));
    }
}
