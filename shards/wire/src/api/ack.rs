//! The subjects that messages carry as their reply, through which clients answer: acknowledgements
//! of consumers, flow control, and the chunks of snapshots and restores. Writing one allocates
//! nothing but what the buffer grows.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::publish::parse_digits;
use super::subjects::split_token;
use crate::subject;

/// What subjects of acknowledgements begin with.
pub const ACK_PREFIX: &[u8] = b"$JS.ACK.";
/// What subjects of flow control begin with.
pub const FLOW_CONTROL_PREFIX: &[u8] = b"$JS.FC.";
/// What subjects of confirmations of snapshot chunks begin with.
pub const SNAPSHOT_ACK_PREFIX: &[u8] = b"$JS.SNAPSHOT.ACK.";
/// What subjects that take chunks of a restore begin with.
pub const RESTORE_PREFIX: &[u8] = b"$JS.SNAPSHOT.RESTORE.";

/// The numbers of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// How often the message was delivered, this time included.
    pub delivered: u64,
    /// Its sequence in the stream.
    pub stream_seq: u64,
    /// The sequence of the delivery.
    pub consumer_seq: u64,
    /// When the message was stored, in nanoseconds since 1970.
    pub timestamp_ns: i64,
    /// Messages that were still to be delivered.
    pub pending: u64,
}

/// The beginning of every acknowledgement subject of a consumer, with the last dot. Kept with the
/// consumer.
pub fn ack_prefix(stream: &str, consumer: &str) -> Vec<u8> {
    format!("$JS.ACK.{stream}.{consumer}.").into_bytes()
}

/// As [`ack_prefix`] in the second form. An empty domain is written as `_`.
pub fn ack_prefix_v2(domain: &str, account_hash: &str, stream: &str, consumer: &str) -> Vec<u8> {
    let domain = if domain.is_empty() { "_" } else { domain };
    format!("$JS.ACK.{domain}.{account_hash}.{stream}.{consumer}.").into_bytes()
}

/// Appends the acknowledgement subject of a delivery.
pub fn push_ack_subject(out: &mut Vec<u8>, prefix: &[u8], delivery: &Delivery) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(prefix);
    out.extend_from_slice(digits.format(delivery.delivered).as_bytes());
    out.push(subject::SEPARATOR);
    out.extend_from_slice(digits.format(delivery.stream_seq).as_bytes());
    out.push(subject::SEPARATOR);
    out.extend_from_slice(digits.format(delivery.consumer_seq).as_bytes());
    out.push(subject::SEPARATOR);
    out.extend_from_slice(digits.format(delivery.timestamp_ns).as_bytes());
    out.push(subject::SEPARATOR);
    out.extend_from_slice(digits.format(delivery.pending).as_bytes());
}

/// An acknowledgement subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckSubject<'a> {
    /// Domain and account of the second form; the domain is `_` if there is none.
    pub origin: Option<(&'a [u8], &'a [u8])>,
    /// Name of the stream.
    pub stream: &'a [u8],
    /// Name of the consumer.
    pub consumer: &'a [u8],
    /// The delivery. Numbers that are none are the largest, which no message has.
    pub delivery: Delivery,
}

/// Reads an acknowledgement subject: nine tokens in the first form, eleven or more in the second,
/// of which those behind the eleventh do not matter.
pub fn parse_ack_subject(text: &[u8]) -> Option<AckSubject<'_>> {
    let rest = text.strip_prefix(ACK_PREFIX)?;
    let count = subject::token_count(rest);
    let mut tokens = subject::tokens(rest);
    let origin = match count {
        7 => None,
        9.. => Some((tokens.next()?, tokens.next()?)),
        _ => return None,
    };
    let (stream, consumer) = (tokens.next()?, tokens.next()?);
    let mut number = || tokens.next().map(|token| parse_digits(token).unwrap_or(u64::MAX));
    let delivery = Delivery {
        delivered: number()?,
        stream_seq: number()?,
        consumer_seq: number()?,
        timestamp_ns: number()?.try_into().unwrap_or(i64::MAX),
        pending: number()?,
    };
    Some(AckSubject { origin, stream, consumer, delivery })
}

/// Appends a subject for one confirmation of flow control. `id` is four characters that this
/// consumer has not used lately.
pub fn push_flow_control_subject(out: &mut Vec<u8>, stream: &str, consumer: &str, id: &[u8]) {
    for part in [FLOW_CONTROL_PREFIX, stream.as_bytes(), b".", consumer.as_bytes(), b".", id] {
        out.extend_from_slice(part);
    }
}

/// A subject of flow control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowControlSubject<'a> {
    /// Domain and account of the second form.
    pub origin: Option<(&'a [u8], &'a [u8])>,
    /// Name of the stream.
    pub stream: &'a [u8],
    /// Name of the consumer.
    pub consumer: &'a [u8],
    /// Which confirmation.
    pub id: &'a [u8],
}

/// Reads a subject of flow control: five tokens in the first form, seven in the second.
pub fn parse_flow_control_subject(text: &[u8]) -> Option<FlowControlSubject<'_>> {
    let rest = text.strip_prefix(FLOW_CONTROL_PREFIX)?;
    let mut tokens = subject::tokens(rest);
    let origin = match subject::token_count(rest) {
        3 => None,
        5 => Some((tokens.next()?, tokens.next()?)),
        _ => return None,
    };
    let (stream, consumer, id) = (tokens.next()?, tokens.next()?, tokens.next()?);
    Some(FlowControlSubject { origin, stream, consumer, id })
}

/// Appends the reply subject of a snapshot chunk: bytes in the chunk and its number, from 1 on.
pub fn push_snapshot_ack_subject(
    out: &mut Vec<u8>,
    stream: &str,
    id: &[u8],
    chunk_bytes: usize,
    index: u64,
) {
    let mut digits = itoa::Buffer::new();
    for part in [SNAPSHOT_ACK_PREFIX, stream.as_bytes(), b".", id, b"."] {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(digits.format(chunk_bytes).as_bytes());
    out.push(subject::SEPARATOR);
    out.extend_from_slice(digits.format(index).as_bytes());
}

/// The reply subject of a snapshot chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotAckSubject<'a> {
    /// Name of the stream.
    pub stream: &'a [u8],
    /// The snapshot.
    pub id: &'a [u8],
    /// Bytes in the chunk.
    pub chunk_bytes: u64,
    /// Number of the chunk.
    pub index: u64,
}

/// Reads the reply subject of a snapshot chunk.
pub fn parse_snapshot_ack_subject(text: &[u8]) -> Option<SnapshotAckSubject<'_>> {
    let rest = text.strip_prefix(SNAPSHOT_ACK_PREFIX)?;
    let mut tokens = subject::tokens(rest);
    let (stream, id) = (tokens.next()?, tokens.next()?);
    let chunk_bytes = parse_digits(tokens.next()?)?;
    let index = parse_digits(tokens.next()?)?;
    tokens.next().is_none().then_some(SnapshotAckSubject { stream, id, chunk_bytes, index })
}

/// The subject that takes the chunks of a restore.
pub fn restore_subject(stream: &str, id: &str) -> String {
    format!("$JS.SNAPSHOT.RESTORE.{stream}.{id}")
}

/// The stream and the id of a subject that takes the chunks of a restore.
pub fn parse_restore_subject(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (stream, id) = split_token(text.strip_prefix(RESTORE_PREFIX)?)?;
    (memchr::memchr(subject::SEPARATOR, id).is_none()).then_some((stream, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELIVERY: Delivery = Delivery {
        delivered: 1,
        stream_seq: 22,
        consumer_seq: 3,
        timestamp_ns: 1_700_000_000_000_000_001,
        pending: 0,
    };

    fn written(prefix: &[u8]) -> String {
        let mut out = Vec::new();
        push_ack_subject(&mut out, prefix, &DELIVERY);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn acknowledgements_of_both_forms() {
        let first = written(&ack_prefix("S", "C"));
        assert_eq!(first, "$JS.ACK.S.C.1.22.3.1700000000000000001.0");
        let expected =
            AckSubject { origin: None, stream: b"S", consumer: b"C", delivery: DELIVERY };
        assert_eq!(parse_ack_subject(first.as_bytes()), Some(expected));
        let second = written(&ack_prefix_v2("", "hash", "S", "C"));
        assert_eq!(second, "$JS.ACK._.hash.S.C.1.22.3.1700000000000000001.0");
        let expected = AckSubject { origin: Some((b"_", b"hash")), ..expected };
        assert_eq!(parse_ack_subject(second.as_bytes()), Some(expected));
        let longer = format!("{second}.random");
        assert_eq!(parse_ack_subject(longer.as_bytes()), Some(expected));
    }

    #[test]
    fn wrong_acknowledgements() {
        for text in [
            "",
            "$JS.ACK",
            "$JS.ACK.",
            "$JS.ACK.S.C.1.2.3.4",
            "$JS.ACK.S.C.1.2.3.4.5.6",
            "$JS.ACC.S.C.1.2.3.4.5",
            "JS.ACK.S.C.1.2.3.4.5",
        ] {
            assert_eq!(parse_ack_subject(text.as_bytes()), None, "{text}");
        }
        let odd = parse_ack_subject(b"$JS.ACK.S.C.x.-1..99999999999999999999.5").unwrap();
        assert_eq!(odd.delivery.delivered, u64::MAX);
        assert_eq!(odd.delivery.stream_seq, u64::MAX);
        assert_eq!(odd.delivery.consumer_seq, u64::MAX);
        assert_eq!(odd.delivery.timestamp_ns, i64::MAX);
        assert_eq!(odd.delivery.pending, 5);
    }

    #[test]
    fn flow_control() {
        let mut out = Vec::new();
        push_flow_control_subject(&mut out, "S", "C", b"aB3x");
        assert_eq!(out, b"$JS.FC.S.C.aB3x");
        let expected =
            FlowControlSubject { origin: None, stream: b"S", consumer: b"C", id: b"aB3x" };
        assert_eq!(parse_flow_control_subject(&out), Some(expected));
        let expected = FlowControlSubject { origin: Some((b"_", b"h")), ..expected };
        assert_eq!(parse_flow_control_subject(b"$JS.FC._.h.S.C.aB3x"), Some(expected));
        for text in ["$JS.FC.S.C", "$JS.FC.a.b.c.d", "$JS.FC.a.b.c.d.e.f", "$JS.FC."] {
            assert_eq!(parse_flow_control_subject(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn snapshots_and_restores() {
        let mut out = Vec::new();
        push_snapshot_ack_subject(&mut out, "S", b"id", 131_072, 7);
        assert_eq!(out, b"$JS.SNAPSHOT.ACK.S.id.131072.7");
        let expected =
            SnapshotAckSubject { stream: b"S", id: b"id", chunk_bytes: 131_072, index: 7 };
        assert_eq!(parse_snapshot_ack_subject(&out), Some(expected));
        for text in
            ["$JS.SNAPSHOT.ACK.S.id.1", "$JS.SNAPSHOT.ACK.S.id.1.2.3", "$JS.SNAPSHOT.ACK.S.id.x.1"]
        {
            assert_eq!(parse_snapshot_ack_subject(text.as_bytes()), None, "{text}");
        }
        let restore = restore_subject("S", "id");
        assert_eq!(parse_restore_subject(restore.as_bytes()), Some((&b"S"[..], &b"id"[..])));
        assert_eq!(parse_restore_subject(b"$JS.SNAPSHOT.RESTORE.S.id.x"), None);
        assert_eq!(parse_restore_subject(b"$JS.SNAPSHOT.RESTORE.S"), None);
    }
}
