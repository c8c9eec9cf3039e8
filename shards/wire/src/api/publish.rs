//! The publish path: the headers that streams understand, found in one pass, and the
//! acknowledgement. Nothing here allocates.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::json;

use super::errors::ApiError;

/// What stands behind `Nats-`, or for the operation behind `KV-`, in the keys that streams
/// understand.
const KEYS: &[&[u8]] = &[
    b"Msg-Id",
    b"Expected-Stream",
    b"Expected-Last-Sequence",
    b"Expected-Last-Subject-Sequence",
    b"Expected-Last-Subject-Sequence-Subject",
    b"Expected-Last-Msg-Id",
    b"Rollup",
    b"TTL",
    b"Incr",
    b"Counter-Sources",
    b"Batch-Id",
    b"Batch-Sequence",
    b"Batch-Commit",
    b"Schedule",
    b"Schedule-Target",
    b"Schedule-TTL",
    b"Schedule-Source",
    b"Schedule-Rollup",
    b"Schedule-Time-Zone",
    b"Scheduler",
    b"Schedule-Next",
    b"Required-Api-Level",
    b"Stream-Source",
    b"Marker-Reason",
    b"Operation",
    b"Trace-Dest",
    b"Trace-Only",
];

/// Those of `KEYS` that say something without a value: nats-server refuses them then.
const COUNT_WHEN_EMPTY: [&[u8]; 2] = [b"Batch-Commit", b"Schedule-Time-Zone"];

/// The headers of a publish that a stream understands. Of several lines with one key the first
/// counts; an empty value counts as absent, but for two of them, as it does for nats-server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PublishHeaders<'a> {
    /// `Nats-Msg-Id`
    pub msg_id: Option<&'a [u8]>,
    /// `Nats-Expected-Stream`
    pub expected_stream: Option<&'a [u8]>,
    /// `Nats-Expected-Last-Sequence`, see [`parse_sequence`].
    pub expected_last_seq: Option<&'a [u8]>,
    /// `Nats-Expected-Last-Subject-Sequence`, see [`parse_sequence`].
    pub expected_last_subject_seq: Option<&'a [u8]>,
    /// `Nats-Expected-Last-Subject-Sequence-Subject`
    pub expected_last_subject_seq_subject: Option<&'a [u8]>,
    /// `Nats-Expected-Last-Msg-Id`
    pub expected_last_msg_id: Option<&'a [u8]>,
    /// `Nats-Rollup`: `sub` or `all` in any case.
    pub rollup: Option<&'a [u8]>,
    /// `Nats-TTL`, see [`parse_ttl`].
    pub ttl: Option<&'a [u8]>,
    /// `Nats-Incr`
    pub incr: Option<&'a [u8]>,
    /// `Nats-Counter-Sources`
    pub counter_sources: Option<&'a [u8]>,
    /// `Nats-Batch-Id`
    pub batch_id: Option<&'a [u8]>,
    /// `Nats-Batch-Sequence`
    pub batch_sequence: Option<&'a [u8]>,
    /// `Nats-Batch-Commit`: `1` or `eob`.
    pub batch_commit: Option<&'a [u8]>,
    /// `Nats-Schedule`
    pub schedule: Option<&'a [u8]>,
    /// `Nats-Schedule-Target`
    pub schedule_target: Option<&'a [u8]>,
    /// `Nats-Schedule-TTL`
    pub schedule_ttl: Option<&'a [u8]>,
    /// `Nats-Schedule-Source`
    pub schedule_source: Option<&'a [u8]>,
    /// `Nats-Schedule-Rollup`
    pub schedule_rollup: Option<&'a [u8]>,
    /// `Nats-Schedule-Time-Zone`
    pub schedule_time_zone: Option<&'a [u8]>,
    /// `Nats-Scheduler`: the schedule that fired this message.
    pub scheduler: Option<&'a [u8]>,
    /// `Nats-Schedule-Next`
    pub schedule_next: Option<&'a [u8]>,
    /// `Nats-Required-Api-Level`
    pub required_api_level: Option<&'a [u8]>,
    /// `Nats-Stream-Source`
    pub stream_source: Option<&'a [u8]>,
    /// `Nats-Marker-Reason`
    pub marker_reason: Option<&'a [u8]>,
    /// `KV-Operation`
    pub kv_operation: Option<&'a [u8]>,
    /// `Nats-Trace-Dest`
    pub trace_dest: Option<&'a [u8]>,
    /// `Nats-Trace-Only`
    pub trace_only: Option<&'a [u8]>,
    /// Any of the headers above was found.
    pub any: bool,
}

impl<'a> PublishHeaders<'a> {
    /// Reads a header block. One that is not well formed has the headers that can be found.
    pub fn parse(block: &'a [u8]) -> Self {
        let mut found = Self::default();
        let mut rest = block;
        let mut empty = false;
        // The first line is the version.
        while let Some(end) = memchr::memchr(b'\n', rest) {
            rest = rest.get(end.saturating_add(1)..).unwrap_or_default();
            empty |= found.read_line(rest);
        }
        if empty {
            found.drop_empty();
        }
        found
    }

    /// Reads the line at the start of `rest` if its key is one of ours. Answers whether the value
    /// is empty: it still keeps later lines with its key from counting.
    fn read_line(&mut self, rest: &'a [u8]) -> bool {
        let key_tail = match rest.first() {
            Some(b'N') => rest.strip_prefix(b"Nats-"),
            Some(b'K') => rest.strip_prefix(b"KV-"),
            _ => None,
        };
        let Some(tail) = key_tail else { return false };
        let Some(colon) = memchr::memchr(b':', tail) else { return false };
        let Some((key, value)) = tail.split_at_checked(colon) else { return false };
        let Some(place) = self.place(key) else { return false };
        if place.is_some() {
            return false;
        }
        let value = value_of(value);
        *place = Some(value);
        self.any |= !value.is_empty() || COUNT_WHEN_EMPTY.contains(&key);
        value.is_empty()
    }

    /// Makes empty values absent.
    fn drop_empty(&mut self) {
        for key in KEYS.iter().filter(|key| !COUNT_WHEN_EMPTY.contains(key)) {
            if let Some(place) = self.place(key)
                && place.is_some_and(<[u8]>::is_empty)
            {
                *place = None;
            }
        }
    }

    /// Where the value of a key belongs, by what stands behind `Nats-` or `KV-`.
    fn place(&mut self, key: &[u8]) -> Option<&mut Option<&'a [u8]>> {
        Some(match key {
            b"Msg-Id" => &mut self.msg_id,
            b"Expected-Stream" => &mut self.expected_stream,
            b"Expected-Last-Sequence" => &mut self.expected_last_seq,
            b"Expected-Last-Subject-Sequence" => &mut self.expected_last_subject_seq,
            b"Expected-Last-Subject-Sequence-Subject" => {
                &mut self.expected_last_subject_seq_subject
            }
            b"Expected-Last-Msg-Id" => &mut self.expected_last_msg_id,
            b"Rollup" => &mut self.rollup,
            b"TTL" => &mut self.ttl,
            b"Incr" => &mut self.incr,
            b"Counter-Sources" => &mut self.counter_sources,
            b"Batch-Id" => &mut self.batch_id,
            b"Batch-Sequence" => &mut self.batch_sequence,
            b"Batch-Commit" => &mut self.batch_commit,
            b"Schedule" => &mut self.schedule,
            b"Schedule-Target" => &mut self.schedule_target,
            b"Schedule-TTL" => &mut self.schedule_ttl,
            b"Schedule-Source" => &mut self.schedule_source,
            b"Schedule-Rollup" => &mut self.schedule_rollup,
            b"Schedule-Time-Zone" => &mut self.schedule_time_zone,
            b"Scheduler" => &mut self.scheduler,
            b"Schedule-Next" => &mut self.schedule_next,
            b"Required-Api-Level" => &mut self.required_api_level,
            b"Stream-Source" => &mut self.stream_source,
            b"Marker-Reason" => &mut self.marker_reason,
            b"Operation" => &mut self.kv_operation,
            b"Trace-Dest" => &mut self.trace_dest,
            b"Trace-Only" => &mut self.trace_only,
            _ => return None,
        })
    }
}

/// The value behind a colon, without leading blanks and the end of the line.
fn value_of(rest: &[u8]) -> &[u8] {
    let rest = rest.get(1..).unwrap_or_default();
    let blanks = rest.iter().take_while(|&&b| b == b' ').count();
    let rest = rest.get(blanks..).unwrap_or_default();
    let end = memchr::memmem::find(rest, b"\r\n").unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
}

/// A sequence out of a header. What is not a number is [`u64::MAX`], which no sequence equals, so
/// that such an expectation fails.
pub fn parse_sequence(value: &[u8]) -> u64 {
    parse_digits(value).unwrap_or(u64::MAX)
}

/// Decimal digits and nothing else.
pub fn parse_digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 20 {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// How long a message lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// For good, whatever the age limit of the stream is.
    Never,
    /// Whole seconds; 0 is no time of its own.
    Seconds(u64),
}

/// The value of `Nats-TTL`: `never`, whole seconds, or a Go duration of at least a second, whose
/// fraction of a second is dropped. `None` if it is none of them; numbers beyond an `i64` are
/// none, while nats-server lets them overflow.
pub fn parse_ttl(value: &[u8]) -> Option<Ttl> {
    let text = std::str::from_utf8(value).ok()?;
    if text.eq_ignore_ascii_case("never") {
        return Some(Ttl::Never);
    }
    if let Ok(nanos) = crate::time::parse_go_duration(text) {
        let nanos = u64::try_from(nanos).ok()?;
        return (nanos >= 1_000_000_000).then_some(Ttl::Seconds(nanos / 1_000_000_000));
    }
    parse_digits(value).filter(|seconds| i64::try_from(*seconds).is_ok()).map(Ttl::Seconds)
}

/// The beginning of every acknowledgement of a stream, up to the sequence. Kept with the stream.
pub fn pub_ack_prefix(stream: &str, domain: &str) -> Vec<u8> {
    let mut out = b"{\"stream\":".to_vec();
    json::push(&mut out, stream);
    if !domain.is_empty() {
        out.extend_from_slice(b",\"domain\":");
        json::push(&mut out, domain);
    }
    out.extend_from_slice(b",\"seq\":");
    out
}

/// What an acknowledgement says besides the sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PubAckExtra<'a> {
    /// The message was stored before.
    pub duplicate: bool,
    /// The new value of a counter, in digits.
    pub value: Option<&'a str>,
    /// Id and size of the batch that was committed.
    pub batch: Option<(&'a str, u64)>,
}

/// Appends an acknowledgement. `prefix` comes from [`pub_ack_prefix`].
pub fn push_pub_ack(out: &mut Vec<u8>, prefix: &[u8], seq: u64, extra: &PubAckExtra<'_>) {
    out.extend_from_slice(prefix);
    out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
    if extra.duplicate {
        // The blank is on the wire since the first JetStream.
        out.extend_from_slice(b",\"duplicate\": true");
    }
    if let Some(value) = extra.value {
        out.extend_from_slice(b",\"val\":\"");
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }
    if let Some((id, count)) = extra.batch {
        out.extend_from_slice(b",\"batch\":");
        json::push(out, id);
        out.extend_from_slice(b",\"count\":");
        out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    }
    out.push(b'}');
}

/// Appends the answer to a publish that was refused.
pub fn push_pub_error(out: &mut Vec<u8>, stream: &str, error: &ApiError) {
    out.extend_from_slice(b"{\"error\":");
    json::push(out, error);
    out.extend_from_slice(b",\"stream\":");
    json::push(out, stream);
    out.extend_from_slice(b",\"seq\":0}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_in_one_pass() {
        let block = b"NATS/1.0\r\nNats-Msg-Id: a b \r\nX: Nats-TTL: 5\r\nNats-TTL:5s\r\n\
            Nats-Msg-Id: second\r\nnats-rollup: sub\r\nNats-Rollup:   all\r\nKV-Operation: DEL\r\n\
            Nats-Expected-Stream: \r\nNats-Expected-Stream: S\r\n\
            Nats-Expected-Last-Subject-Sequence: 4\r\n\
            Nats-Expected-Last-Subject-Sequence-Subject: a.*\r\nNats-Unknown: x\r\n\r\n";
        let expected = PublishHeaders {
            msg_id: Some(b"a b "),
            ttl: Some(b"5s"),
            rollup: Some(b"all"),
            kv_operation: Some(b"DEL"),
            expected_last_subject_seq: Some(b"4"),
            expected_last_subject_seq_subject: Some(b"a.*"),
            any: true,
            ..PublishHeaders::default()
        };
        assert_eq!(PublishHeaders::parse(block), expected);
        for block in ["", "NATS/1.0\r\n\r\n", "NATS/1.0\r\nA: b\r\n\r\n", "Nats-TTL: 1", "\n\n\n"] {
            assert_eq!(PublishHeaders::parse(block.as_bytes()), PublishHeaders::default());
        }
    }

    #[test]
    fn every_header_has_its_place() {
        let keys = [
            "Nats-Msg-Id",
            "Nats-Expected-Stream",
            "Nats-Expected-Last-Sequence",
            "Nats-Expected-Last-Subject-Sequence",
            "Nats-Expected-Last-Subject-Sequence-Subject",
            "Nats-Expected-Last-Msg-Id",
            "Nats-Rollup",
            "Nats-TTL",
            "Nats-Incr",
            "Nats-Counter-Sources",
            "Nats-Batch-Id",
            "Nats-Batch-Sequence",
            "Nats-Batch-Commit",
            "Nats-Schedule",
            "Nats-Schedule-Target",
            "Nats-Schedule-TTL",
            "Nats-Schedule-Source",
            "Nats-Schedule-Rollup",
            "Nats-Schedule-Time-Zone",
            "Nats-Scheduler",
            "Nats-Schedule-Next",
            "Nats-Required-Api-Level",
            "Nats-Stream-Source",
            "Nats-Marker-Reason",
            "KV-Operation",
            "Nats-Trace-Dest",
            "Nats-Trace-Only",
        ];
        let mut seen = Vec::new();
        for key in keys {
            let block = format!("NATS/1.0\r\n{key}: v\r\n\r\n");
            let found = PublishHeaders::parse(block.as_bytes());
            assert!(found.any, "{key}");
            let shown = format!("{found:?}");
            assert!(!seen.contains(&shown), "{key}");
            let empty = format!("NATS/1.0\r\n{key}:\r\n\r\n");
            let is_absent = PublishHeaders::parse(empty.as_bytes()) == PublishHeaders::default();
            let counts = ["Nats-Batch-Commit", "Nats-Schedule-Time-Zone"].contains(&key);
            assert_eq!(is_absent, !counts, "{key}");
            seen.push(shown);
        }
    }

    #[test]
    fn values() {
        assert_eq!(parse_sequence(b"0"), 0);
        assert_eq!(parse_sequence(b"18446744073709551615"), u64::MAX);
        for bad in ["", "x", "-1", "1 ", "18446744073709551616", "000000000000000000001"] {
            assert_eq!(parse_sequence(bad.as_bytes()), u64::MAX);
        }
        assert_eq!(parse_ttl(b"Never"), Some(Ttl::Never));
        assert_eq!(parse_ttl(b"5"), Some(Ttl::Seconds(5)));
        assert_eq!(parse_ttl(b"1m1.9s"), Some(Ttl::Seconds(61)));
        for bad in ["", "0", "999ms", "-1s", "-5", "x", "5 ", "9223372036854775808"] {
            assert_eq!(parse_ttl(bad.as_bytes()), None, "{bad}");
        }
    }

    /// The bytes were taken from nats-server.
    #[test]
    fn acknowledgements() {
        let ack = |domain: &str, seq, extra: &PubAckExtra<'_>| {
            let mut out = Vec::new();
            push_pub_ack(&mut out, &pub_ack_prefix("S", domain), seq, extra);
            String::from_utf8(out).unwrap()
        };
        let none = PubAckExtra::default();
        assert_eq!(ack("", 1, &none), r#"{"stream":"S","seq":1}"#);
        assert_eq!(ack("hub", 1, &none), r#"{"stream":"S","domain":"hub","seq":1}"#);
        let extra = PubAckExtra { duplicate: true, ..none };
        assert_eq!(ack("", 1, &extra), r#"{"stream":"S","seq":1,"duplicate": true}"#);
        let extra = PubAckExtra { value: Some("5"), ..none };
        assert_eq!(ack("", 4, &extra), r#"{"stream":"S","seq":4,"val":"5"}"#);
        let extra = PubAckExtra { batch: Some(("b1", 3)), ..none };
        assert_eq!(ack("", 9, &extra), r#"{"stream":"S","seq":9,"batch":"b1","count":3}"#);
        let mut out = Vec::new();
        push_pub_error(&mut out, "S", &super::super::errors::STREAM_WRONG_LAST_SEQUENCE.with(4));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 4"},"#
                .to_owned()
                + r#""stream":"S","seq":0}"#
        );
    }
}
