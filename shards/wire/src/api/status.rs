//! Messages that are only a header block with a status: what pull requests, push consumers,
//! direct reads and snapshots are told besides messages. Each function appends one whole block.

use std::fmt::Display;

use super::timestamp::Timestamp;

/// Declares functions for blocks that never change.
macro_rules! fixed {
    ($($(#[$meta:meta])* $name:ident = $text:literal;)*) => {
        $(
            $(#[$meta])*
            pub fn $name(out: &mut Vec<u8>) {
                out.extend_from_slice(concat!("NATS/1.0 ", $text, "\r\n\r\n").as_bytes());
            }
        )*

        /// The blocks that never change, for tests.
        #[cfg(test)]
        const FIXED: &[(fn(&mut Vec<u8>), &str)] = &[$(($name, $text)),*];
    };
}

fixed! {
    /// A pull request with `no_wait` finds nothing, or nothing more.
    no_messages = "404 No Messages";
    /// A pull request with `no_wait` comes while others wait.
    requests_pending = "408 Requests Pending";
    /// Too many pull requests wait. Not sent to requests with heartbeats.
    exceeded_max_waiting = "409 Exceeded MaxWaiting";
    /// The consumer is gone.
    consumer_deleted = "409 Consumer Deleted";
    /// A pull request came to a push consumer.
    consumer_is_push_based = "409 Consumer is push based";
    /// Another server leads the consumer now.
    leadership_change = "409 Leadership Change";
    /// The request needs a newer server.
    required_api_level = "412 Required Api Level";
    /// The pin of the request is unknown.
    pin_id_mismatch = "423 Nats-Pin-Id mismatch";
    /// The server wants a confirmation; its subject is the reply subject.
    flow_control_request = "100 FlowControl Request";
    /// A direct read finds nothing.
    message_not_found = "404 Message Not Found";
    /// A direct read of several finds nothing.
    no_results = "404 No Results";
    /// A direct read says nothing.
    empty_request = "408 Empty Request";
    /// A direct read is not JSON.
    malformed_request = "408 Malformed Request";
    /// A direct read contradicts itself.
    bad_direct_request = "408 Bad Request";
    /// A direct read of the last messages of many subjects finds too many.
    too_many_results = "413 Too Many Results";
    /// There are too many requests or publishes to be served.
    too_many_requests = "429 Too Many Requests";
    /// Nobody takes the chunks of a snapshot.
    no_interest = "408 No Interest";
    /// Nobody confirms the chunks of a snapshot.
    no_flow_response = "408 No Flow Response";
    /// All chunks of a snapshot are sent.
    snapshot_end = "204";
}

/// What a pull request has left when it ends before it is filled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Messages that were not delivered.
    pub messages: i64,
    /// Bytes that were not delivered; 0 if the request has no limit.
    pub bytes: i64,
}

/// Declares functions for blocks that say what is left of a pull request.
macro_rules! with_left {
    ($($(#[$meta:meta])* $name:ident = $text:literal;)*) => {
        $(
            $(#[$meta])*
            pub fn $name(out: &mut Vec<u8>, left: Left) {
                push_status(out, $text);
                push_number(out, "Nats-Pending-Messages", left.messages);
                push_number(out, "Nats-Pending-Bytes", left.bytes);
                push_end(out);
            }
        )*

        /// The blocks that say what is left, for tests.
        #[cfg(test)]
        const WITH_LEFT: &[(fn(&mut Vec<u8>, Left), &str)] = &[$(($name, $text)),*];
    };
}

with_left! {
    /// The time of a pull request is up.
    request_timeout = "408 Request Timeout";
    /// Nobody listens at the reply subject of a pull request.
    interest_expired = "408 Interest Expired";
    /// The next message is larger than what is left of `max_bytes`.
    message_size_exceeds_max_bytes = "409 Message Size Exceeds MaxBytes";
    /// `max_bytes` is used up.
    batch_completed = "409 Batch Completed";
    /// The server stops.
    server_shutdown = "409 Server Shutdown";
    /// Another client is pinned.
    wrong_pin_id = "423 Nats-Wrong-Pin-Id";
}

/// A pull request that cannot be served. `detail` is one of the texts in [`detail`] or what the
/// JSON decoder says.
pub fn bad_request(out: &mut Vec<u8>, detail: &str) {
    out.extend_from_slice(b"NATS/1.0 400 Bad Request - ");
    push_one_line(out, detail);
    out.extend_from_slice(b"\r\n\r\n");
}

/// Why a pull request cannot be served.
pub mod detail {
    /// `idle_heartbeat` is more than half of `expires`.
    pub const HEARTBEAT_TOO_LARGE: &str = "heartbeat value too large";
    /// The consumer's policy is not `overflow`.
    pub const NOT_OVERFLOW: &str = "Not a Overflow Priority consumer";
    /// The consumer's policy is not `pinned_client`.
    pub const NOT_PINNED_CLIENT: &str = "Not a Pinned Client Priority consumer";
    /// `priority` is out of range.
    pub const PRIORITY_RANGE: &str = "Priority must be between 0 and 9";
    /// The consumer has groups and the request names none.
    pub const GROUP_MISSING: &str = "Priority Group missing";
    /// The consumer has no group of that name.
    pub const GROUP_INVALID: &str = "Invalid Priority Group";
}

/// A pull request asks for more messages than the consumer allows.
pub fn exceeded_max_batch(out: &mut Vec<u8>, limit: i64) {
    push_exceeded(out, "MaxRequestBatch", &limit);
}

/// A pull request asks for more time than the consumer allows.
pub fn exceeded_max_expires(out: &mut Vec<u8>, limit_ns: i64) {
    push_exceeded(out, "MaxRequestExpires", &crate::time::format_go_duration(limit_ns));
}

/// A pull request asks for more bytes than the consumer allows.
pub fn exceeded_max_bytes(out: &mut Vec<u8>, limit: i64) {
    push_exceeded(out, "MaxRequestMaxBytes", &limit);
}

/// A sign of life with the last sequences that were delivered. `stalled` is the flow control
/// subject whose confirmation is missing.
pub fn idle_heartbeat(
    out: &mut Vec<u8>,
    consumer_seq: u64,
    stream_seq: u64,
    stalled: Option<&[u8]>,
) {
    push_status(out, "100 Idle Heartbeat");
    push_number(out, "Nats-Last-Consumer", consumer_seq);
    push_number(out, "Nats-Last-Stream", stream_seq);
    if let Some(subject) = stalled {
        out.extend_from_slice(b"Nats-Consumer-Stalled: ");
        out.extend_from_slice(subject);
        out.extend_from_slice(b"\r\n");
    }
    push_end(out);
}

/// Something went wrong in the store.
pub fn store_error(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"NATS/1.0 500 ");
    push_one_line(out, text);
    out.extend_from_slice(b"\r\n\r\n");
}

/// All messages of a direct read were sent. `up_to_seq` is for reads of several subjects.
pub fn end_of_batch(out: &mut Vec<u8>, num_pending: u64, last_seq: u64, up_to_seq: Option<u64>) {
    push_status(out, "204 EOB");
    push_number(out, "Nats-Num-Pending", num_pending);
    push_number(out, "Nats-Last-Sequence", last_seq);
    if let Some(seq) = up_to_seq {
        push_number(out, "Nats-UpTo-Sequence", seq);
    }
    push_end(out);
}

/// What a direct read adds to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectHeaders<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Subject of the message.
    pub subject: &'a [u8],
    /// Its sequence.
    pub seq: u64,
    /// When it was stored.
    pub time: Timestamp,
    /// Messages still to come and the sequence before this one, for reads of several.
    pub batch: Option<(u64, u64)>,
}

/// Appends the header block of a direct read's message: the stored headers and behind them those
/// about the message. `stored` is empty if the message has none.
pub fn push_direct_headers(out: &mut Vec<u8>, stored: &[u8], headers: &DirectHeaders<'_>) {
    match stored.strip_suffix(b"\r\n") {
        Some(lines) if !lines.is_empty() => out.extend_from_slice(lines),
        _ => out.extend_from_slice(b"NATS/1.0\r\n"),
    }
    out.extend_from_slice(b"Nats-Stream: ");
    out.extend_from_slice(headers.stream.as_bytes());
    out.extend_from_slice(b"\r\nNats-Subject: ");
    out.extend_from_slice(headers.subject);
    out.extend_from_slice(b"\r\n");
    push_number(out, "Nats-Sequence", headers.seq);
    out.extend_from_slice(b"Nats-Time-Stamp: ");
    let mut time = String::with_capacity(30);
    headers.time.push(&mut time);
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some((num_pending, last_seq)) = headers.batch {
        push_number(out, "Nats-Num-Pending", num_pending);
        push_number(out, "Nats-Last-Sequence", last_seq);
    }
    push_end(out);
}

fn push_status(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"NATS/1.0 ");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn push_number(out: &mut Vec<u8>, key: &str, number: impl itoa::Integer) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn push_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

fn push_exceeded(out: &mut Vec<u8>, what: &str, limit: &impl Display) {
    out.extend_from_slice(format!("NATS/1.0 409 Exceeded {what} of {limit}\r\n\r\n").as_bytes());
}

/// Text that may have come from outside, with blanks for line breaks, so that it cannot become
/// headers of its own.
fn push_one_line(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        assert!(headers::is_well_formed(&out), "{out:?}");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fixed_blocks() {
        for (write, line) in FIXED {
            assert_eq!(text(write), format!("NATS/1.0 {line}\r\n\r\n"));
        }
        for (write, line) in WITH_LEFT {
            let left = Left { messages: 3, bytes: 1024 };
            let expected = format!(
                "NATS/1.0 {line}\r\nNats-Pending-Messages: 3\r\nNats-Pending-Bytes: 1024\r\n\r\n"
            );
            assert_eq!(text(|out| write(out, left)), expected);
        }
    }

    #[test]
    fn blocks_with_figures() {
        assert_eq!(
            text(|out| bad_request(out, detail::HEARTBEAT_TOO_LARGE)),
            "NATS/1.0 400 Bad Request - heartbeat value too large\r\n\r\n"
        );
        assert_eq!(
            text(|out| exceeded_max_batch(out, 5)),
            "NATS/1.0 409 Exceeded MaxRequestBatch of 5\r\n\r\n"
        );
        assert_eq!(
            text(|out| exceeded_max_expires(out, 90_000_000_000)),
            "NATS/1.0 409 Exceeded MaxRequestExpires of 1m30s\r\n\r\n"
        );
        assert_eq!(
            text(|out| exceeded_max_bytes(out, 5)),
            "NATS/1.0 409 Exceeded MaxRequestMaxBytes of 5\r\n\r\n"
        );
        assert_eq!(
            text(|out| idle_heartbeat(out, 1, 2, None)),
            "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\nNats-Last-Stream: 2\r\n\r\n"
        );
        assert!(
            text(|out| idle_heartbeat(out, 1, 2, Some(b"$JS.FC.a")))
                .ends_with("Nats-Last-Stream: 2\r\nNats-Consumer-Stalled: $JS.FC.a\r\n\r\n")
        );
        assert_eq!(
            text(|out| end_of_batch(out, 0, 4, Some(9))),
            "NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 4\r\n\
             Nats-UpTo-Sequence: 9\r\n\r\n"
        );
    }

    #[test]
    fn texts_from_outside_stay_on_their_line() {
        let shown = text(|out| bad_request(out, "a\r\nEvil: yes\r\n\r\n"));
        assert_eq!(shown, "NATS/1.0 400 Bad Request - a  Evil: yes    \r\n\r\n");
        assert_eq!(text(|out| store_error(out, "a\nb")), "NATS/1.0 500 a b\r\n\r\n");
    }

    #[test]
    fn headers_of_direct_reads() {
        let about =
            DirectHeaders { stream: "S", subject: b"a.b", seq: 7, time: Timestamp(0), batch: None };
        let tail = "Nats-Stream: S\r\nNats-Subject: a.b\r\nNats-Sequence: 7\r\n\
            Nats-Time-Stamp: 1970-01-01T00:00:00Z\r\n";
        assert_eq!(
            text(|out| push_direct_headers(out, b"", &about)),
            format!("NATS/1.0\r\n{tail}\r\n")
        );
        let about = DirectHeaders { batch: Some((2, 6)), ..about };
        assert_eq!(
            text(|out| push_direct_headers(out, b"NATS/1.0\r\nA: b\r\n\r\n", &about)),
            format!(
                "NATS/1.0\r\nA: b\r\n{tail}Nats-Num-Pending: 2\r\nNats-Last-Sequence: 6\r\n\r\n"
            )
        );
    }
}
