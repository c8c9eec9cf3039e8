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
//!
//! Grammar, limits and errors are those of nats-server 2.15.1, as seen by sending it the same
//! bytes, with four differences, all in input that no client library writes:
//!
//! - A CR inside the argument of PUB or HPUB is malformed instead of part of the subject.
//! - A CR inside another argument never costs the last byte before a bare LF.
//! - An LF right behind the blank of a verb ends the line instead of starting the argument.
//! - What may follow PING, PONG and +OK, and the blanks behind other verbs, have a limit.

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
    let incomplete = Step::Incomplete { need: input.len().saturating_add(1) };
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
    Ok(Step::Op { op, consumed: input.len().saturating_sub(after.len()) })
}

/// An argument without its line end, and what follows the line.
type Argument<'a> = Option<(&'a [u8], &'a [u8])>;

/// The argument of a verb; `None` while its line has no end.
fn find_argument(gap: Gap, rest: &[u8], line_max: usize) -> Result<Argument<'_>, ParseError> {
    if gap == Gap::Line {
        return find_line(rest, line_max);
    }
    let blanks = rest.iter().position(|&b| !is_blank(b)).unwrap_or(rest.len());
    if blanks == 0 && gap == Gap::Needed {
        return if rest.is_empty() { Ok(None) } else { Err(ParseError::UnknownOperation) };
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
/// A CR inside an argument counts as a blank, so that it never gets into a name.
fn split_fields(arg: &[u8]) -> Option<([&[u8]; 4], usize)> {
    let mut fields: [&[u8]; 4] = [&[]; 4];
    let mut count: usize = 0;
    for field in arg.split(|&b| is_blank(b) || b == b'\r').filter(|field| !field.is_empty()) {
        *fields.get_mut(count)? = field;
        count = count.saturating_add(1);
    }
    Some((fields, count))
}

/// `<subject> [queue] <sid>`.
fn parse_sub(arg: &[u8]) -> Result<Op<'_>, ParseError> {
    match split_fields(arg) {
        Some(([subject, sid, ..], 2)) => Ok(Op::Sub { subject, queue: None, sid }),
        Some(([subject, queue, sid, _], 3)) => Ok(Op::Sub { subject, queue: Some(queue), sid }),
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
    // nats-server lets a CR into the subject here and so into the control lines that other clients
    // get, where it can be taken for the end of the line. No client sends one.
    if memchr(b'\r', arg).is_some() {
        return Err(ParseError::Malformed);
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
        return Err(ParseError::PayloadTooLarge { size: total_len as u64 });
    }
    Ok(PubHead { subject, reply, header_len, total_len })
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
    let PubHead { subject, reply, header_len, .. } = head;
    match end {
        [b'\r', b'\n', ..] => {
            Ok(Step::Op { op: Op::Pub { subject, reply, header_len, body }, consumed: need })
        }
        [] | [b'\r'] => Ok(Step::Incomplete { need }),
        _ => Err(ParseError::BadPayloadEnd),
    }
}

#[cfg(test)]
mod tests;
