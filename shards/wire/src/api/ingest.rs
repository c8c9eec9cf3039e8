//! Fast ingest: the reply subject of a publish says which batch it belongs to, and the answers
//! tell the client how far the stream is.
//!
//! ```text
//!   <prefix>.<id>.<flow>.<ok|fail>.<seq>.<operation>.$FI
//! ```

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use thiserror::Error;

use super::errors::ApiError;
use super::publish::parse_digits;
use crate::json;
use crate::subject;

/// What the reply subject of every message of such a batch ends with.
pub const SUFFIX: &[u8] = b".$FI";
/// Messages between two answers if the client does not say a number.
pub const FLOW_DEFAULT: u16 = 10;

/// What is to be done with a message of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Begin the batch and store the message.
    Start,
    /// Store the message.
    Append,
    /// Store the message and end the batch.
    Commit,
    /// End the batch without this message.
    CommitWithout,
    /// Say how far the batch is.
    Ping,
}

/// What the reply subject of a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingest<'a> {
    /// The subject up to the id. Answers do not go there but to the whole reply subject of the
    /// message that causes them.
    pub prefix: &'a [u8],
    /// The batch.
    pub id: &'a [u8],
    /// Messages that the client wants between two answers.
    pub flow: u16,
    /// The batch goes on when messages are missing.
    pub gap_ok: bool,
    /// Number of the message in the batch, from 1 on.
    pub seq: u64,
    /// What to do.
    pub operation: Operation,
}

/// The reply subject ends like one of fast ingest and is none: error 10206.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("invalid fast ingest reply subject")]
pub struct InvalidPattern;

impl<'a> Ingest<'a> {
    /// Reads a reply subject; `None` if it has nothing to do with fast ingest.
    ///
    /// # Errors
    ///
    /// [`InvalidPattern`] for the tokens and combinations that nats-server refuses.
    pub fn parse(reply: &'a [u8]) -> Result<Option<Self>, InvalidPattern> {
        let Some(rest) = reply.strip_suffix(SUFFIX).filter(|rest| !rest.is_empty()) else {
            return Ok(None);
        };
        Self::parse_tokens(rest).map(Some).ok_or(InvalidPattern)
    }

    fn parse_tokens(rest: &'a [u8]) -> Option<Self> {
        let (rest, operation) = split_last(rest)?;
        let operation = match parse_digits(operation)? {
            0 => Operation::Start,
            1 => Operation::Append,
            2 => Operation::Commit,
            3 => Operation::CommitWithout,
            4 => Operation::Ping,
            _ => return None,
        };
        let (rest, seq) = split_last(rest)?;
        let seq = parse_digits(seq).filter(|seq| !matches!(*seq, 0 | u64::MAX))?;
        let fits = match operation {
            Operation::Start => seq == 1,
            Operation::Append | Operation::CommitWithout => seq > 1,
            Operation::Commit | Operation::Ping => true,
        };
        if !fits {
            return None;
        }
        let (rest, mode) = split_last(rest)?;
        let gap_ok = match mode {
            b"ok" => true,
            b"fail" => false,
            _ => return None,
        };
        let (rest, flow) = split_last(rest)?;
        let (prefix, id) = split_last(rest)?;
        Some(Self { prefix, id, flow: parse_flow(flow), gap_ok, seq, operation })
    }
}

/// The number of messages between two answers, moved into its range.
fn parse_flow(token: &[u8]) -> u16 {
    if token.is_empty() || !token.iter().all(u8::is_ascii_digit) {
        return FLOW_DEFAULT;
    }
    match parse_digits(token) {
        Some(0) => FLOW_DEFAULT,
        Some(flow) => u16::try_from(flow).unwrap_or(u16::MAX),
        None => u16::MAX,
    }
}

/// What stands before the last dot, and what behind it.
fn split_last(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = memchr::memrchr(subject::SEPARATOR, text)?;
    let (head, tail) = text.split_at_checked(dot)?;
    Some((head, tail.get(1..)?))
}

/// Appends the answer that all messages up to `seq` are stored; the next comes `messages` later.
pub fn push_ack(out: &mut Vec<u8>, seq: u64, messages: u16) {
    push_numbers(out, b"{\"type\":\"ack\",\"seq\":", seq, b",\"msgs\":", u64::from(messages));
}

/// Appends the answer that messages are missing: `expected_seq` and on, before `seq`.
pub fn push_gap(out: &mut Vec<u8>, expected_seq: u64, seq: u64) {
    push_numbers(out, b"{\"type\":\"gap\",\"last_seq\":", expected_seq, b",\"seq\":", seq);
}

/// Appends the answer that message `seq` was refused.
pub fn push_error(out: &mut Vec<u8>, seq: u64, error: &ApiError) {
    out.extend_from_slice(b"{\"type\":\"err\",\"seq\":");
    out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
    out.extend_from_slice(b",\"error\":");
    json::push(out, error);
    out.push(b'}');
}

fn push_numbers(out: &mut Vec<u8>, head: &[u8], first: u64, middle: &[u8], second: u64) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(head);
    out.extend_from_slice(digits.format(first).as_bytes());
    out.extend_from_slice(middle);
    out.extend_from_slice(digits.format(second).as_bytes());
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_subjects() {
        let parse = |text: &'static str| Ingest::parse(text.as_bytes());
        let expected = Ingest {
            prefix: b"_INBOX.abc",
            id: b"uuid",
            flow: 100,
            gap_ok: true,
            seq: 1,
            operation: Operation::Start,
        };
        assert_eq!(parse("_INBOX.abc.uuid.100.ok.1.0.$FI"), Ok(Some(expected)));
        let expected = Ingest {
            flow: FLOW_DEFAULT,
            gap_ok: false,
            seq: 7,
            operation: Operation::CommitWithout,
            ..expected
        };
        assert_eq!(parse("_INBOX.abc.uuid.x.fail.7.3.$FI"), Ok(Some(expected)));
        let flow = |text| parse(text).unwrap().unwrap().flow;
        assert_eq!(flow("i.u.0.ok.1.0.$FI"), FLOW_DEFAULT);
        assert_eq!(flow("i.u.70000.ok.1.0.$FI"), u16::MAX);
        assert_eq!(flow("i.u.99999999999999999999999.ok.1.0.$FI"), u16::MAX);
        for text in ["", "_INBOX.abc", ".$FI", "a.$FI.b", "$FI"] {
            assert_eq!(parse(text), Ok(None), "{text}");
        }
        for text in [
            "x.$FI",
            "i.u.1.ok.1.5.$FI",
            "i.u.1.ok.1.x.$FI",
            "i.u.1.ok.0.0.$FI",
            "i.u.1.ok.2.0.$FI",
            "i.u.1.ok.1.1.$FI",
            "i.u.1.ok.1.3.$FI",
            "i.u.1.no.1.0.$FI",
            "u.1.ok.1.0.$FI",
            "i.u.1.ok.18446744073709551615.1.$FI",
            "1.ok.1.0.$FI",
        ] {
            assert_eq!(parse(text), Err(InvalidPattern), "{text}");
        }
    }

    #[test]
    fn answers() {
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(&|out| push_ack(out, 5, 500)), r#"{"type":"ack","seq":5,"msgs":500}"#);
        assert_eq!(text(&|out| push_gap(out, 3, 9)), r#"{"type":"gap","last_seq":3,"seq":9}"#);
        let error = &super::super::errors::BATCH_PUBLISH_DISABLED;
        let expected = format!(r#"{{"type":"err","seq":2,"error":{}}}"#, json::to_go_string(error));
        assert_eq!(text(&|out| push_error(out, 2, error)), expected);
    }
}
