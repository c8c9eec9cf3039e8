//! Reading what JetStream says: publish acknowledgements, the place of a delivery, status lines.

use serde::Deserialize;

use crate::client::op::number;
use crate::error::{HarnessError, Result};

/// An acknowledgement of a publish.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PubAck {
    /// Sequence number in the stream.
    pub seq: u64,
    /// The message was known already.
    #[serde(default)]
    pub duplicate: bool,
    /// The batch that was committed.
    #[serde(default)]
    pub batch: Option<String>,
    /// Messages of the batch.
    #[serde(default)]
    pub count: u64,
}

/// The error object of a JetStream reply.
#[derive(Debug, Deserialize)]
struct ApiError {
    code: u32,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct MaybeError {
    error: Option<ApiError>,
}

/// Code and text of the error in a reply, if it has one.
#[must_use]
pub fn error_text(payload: &[u8]) -> Option<String> {
    let reply: MaybeError = serde_json::from_slice(payload).ok()?;
    let error = reply.error?;
    Some(format!("{} ({}) {}", error.code, error.err_code, error.description))
}

fn refused(what: &str, text: String) -> HarnessError {
    HarnessError::Api { what: what.into(), text }
}

/// Reads a publish acknowledgement.
///
/// # Errors
/// An error reply, a status such as 503, or anything that is no acknowledgement.
pub fn pub_ack(headers: &[u8], payload: &[u8]) -> Result<PubAck> {
    if let Some(seq) = plain_seq(payload).filter(|_| headers.is_empty()) {
        return Ok(PubAck { seq, ..PubAck::default() });
    }
    if let Some(text) = error_text(payload) {
        return Err(refused("publish", text));
    }
    if let Some((code, text)) = status(headers) {
        return Err(refused("publish", format!("status {code} {text}")));
    }
    serde_json::from_slice(payload).map_err(|_| {
        let text = String::from_utf8_lossy(payload);
        HarnessError::Protocol(format!("no publish acknowledgement: {text:?}"))
    })
}

/// The sequence number of the usual acknowledgement, which has no other members.
fn plain_seq(payload: &[u8]) -> Option<u64> {
    let rest = payload.strip_prefix(b"{\"stream\":\"")?;
    let rest = rest.get(memchr::memchr(b'"', rest)? + 1..)?.strip_prefix(b",")?;
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    number(rest.strip_prefix(b"\"seq\":")?.strip_suffix(b"}")?)
}

/// A server's word on a fast-ingest batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Ingest {
    /// Everything up to `seq` is taken; the next word comes after `msgs` more.
    Ack {
        /// Batch sequence.
        seq: u64,
        /// Messages for each acknowledgement from now on.
        msgs: u64,
    },
    /// The batch is complete.
    Done(PubAck),
}

/// Reads a reply to a message of a fast-ingest batch.
///
/// # Errors
/// A gap, an error, or anything that is no such reply.
pub fn ingest(headers: &[u8], payload: &[u8]) -> Result<Ingest> {
    #[derive(Deserialize)]
    struct Word {
        r#type: String,
        #[serde(default)]
        seq: u64,
        #[serde(default)]
        msgs: u64,
    }
    if let Some(text) = error_text(payload) {
        return Err(refused("fast ingest", text));
    }
    match serde_json::from_slice::<Word>(payload) {
        Ok(word) if word.r#type == "ack" => Ok(Ingest::Ack { seq: word.seq, msgs: word.msgs }),
        Ok(_) => Err(refused("fast ingest", String::from_utf8_lossy(payload).into_owned())),
        Err(_) => pub_ack(headers, payload).map(Ingest::Done),
    }
}

/// The place of a delivered message, from its reply subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How often it was delivered, with this time.
    pub delivered: u64,
    /// Its sequence number in the stream.
    pub stream_seq: u64,
    /// Its number among the consumer's deliveries.
    pub consumer_seq: u64,
    /// Messages that wait behind it.
    pub pending: u64,
}

/// Reads an acknowledgement subject of nine tokens, or of the form with domain and account.
#[must_use]
pub fn place(reply: &[u8]) -> Option<Place> {
    let rest = reply.strip_prefix(b"$JS.ACK.")?;
    let (rest, pending) = last_token(rest)?;
    let (rest, _time) = last_token(rest)?;
    let (rest, consumer_seq) = last_token(rest)?;
    let (rest, stream_seq) = last_token(rest)?;
    let (_, delivered) = last_token(rest)?;
    Some(Place { delivered, stream_seq, consumer_seq, pending })
}

fn last_token(subject: &[u8]) -> Option<(&[u8], u64)> {
    // Numbers are short, so a plain walk from the end beats a search.
    let at = subject.iter().rposition(|&b| b == b'.')?;
    let (before, token) = subject.split_at_checked(at)?;
    Some((before, number(token.get(1..)?)?))
}

/// Code and text of a status line such as `NATS/1.0 100 FlowControl Request`.
#[must_use]
pub fn status(headers: &[u8]) -> Option<(u64, String)> {
    let line = headers.split(|&b| b == b'\n').next()?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rest = line.strip_prefix(b"NATS/1.0 ")?;
    let (code, text) = match rest.iter().position(|&b| b == b' ') {
        Some(at) => (rest.get(..at)?, rest.get(at + 1..)?),
        None => (rest, &b""[..]),
    };
    Some((number(code)?, String::from_utf8_lossy(text).into_owned()))
}

/// The value of a header, in the exact spelling of its name.
#[must_use]
pub fn header<'a>(headers: &'a [u8], name: &str) -> Option<&'a [u8]> {
    headers.split(|&b| b == b'\n').find_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
        Some(value.strip_prefix(b" ").unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_acknowledgements() {
        let plain = pub_ack(b"", b"{\"stream\":\"S\",\"seq\":17}").unwrap();
        assert_eq!(plain, PubAck { seq: 17, ..PubAck::default() });
        let spaced = pub_ack(b"", b"{\"stream\":\"S\", \"seq\":17}").unwrap();
        assert_eq!(spaced.seq, 17);
        let text = b"{\"stream\":\"S\",\"domain\":\"hub\",\"seq\":3,\"duplicate\": true}";
        let twice = pub_ack(b"", text).unwrap();
        assert!(twice.duplicate && twice.seq == 3);
        let batch = pub_ack(b"", b"{\"stream\":\"S\",\"seq\":9,\"batch\":\"b1\",\"count\":3}");
        let batch = batch.unwrap();
        assert_eq!((batch.seq, batch.batch.as_deref(), batch.count), (9, Some("b1"), 3));
    }

    #[test]
    fn an_error_is_never_an_acknowledgement() {
        let error = b"{\"error\":{\"code\":400,\"err_code\":10071,\
                      \"description\":\"wrong last sequence: 4\"},\"stream\":\"S\",\"seq\":0}";
        let said = pub_ack(b"", error).unwrap_err().to_string();
        assert!(said.contains("10071") && said.contains("wrong last sequence"), "{said}");
        let said = pub_ack(b"NATS/1.0 503\r\n\r\n", b"").unwrap_err().to_string();
        assert!(said.contains("503"), "{said}");
        assert!(pub_ack(b"", b"").is_err());
        assert!(pub_ack(b"", b"{\"stream\":\"S\",\"seq\":x}").is_err());
        assert!(pub_ack(b"", b"{\"stream\":\"S\"}").is_err());
    }

    #[test]
    fn reads_words_on_fast_ingest() {
        let ack = ingest(b"", b"{\"type\":\"ack\",\"seq\":20,\"msgs\":10}").unwrap();
        assert_eq!(ack, Ingest::Ack { seq: 20, msgs: 10 });
        let done = ingest(b"", b"{\"stream\":\"S\",\"seq\":30,\"batch\":\"u\",\"count\":25}");
        assert!(matches!(done.unwrap(), Ingest::Done(PubAck { seq: 30, count: 25, .. })));
        assert!(ingest(b"", b"{\"type\":\"gap\",\"last_seq\":26,\"seq\":27}").is_err());
        let error = b"{\"type\":\"err\",\"seq\":1,\"error\":{\"code\":400,\"err_code\":10208,\
                      \"description\":\"batch publish ID unknown\"}}";
        assert!(ingest(b"", error).unwrap_err().to_string().contains("10208"));
    }

    #[test]
    fn reads_the_place_of_a_delivery() {
        let want = Place { delivered: 1, stream_seq: 22, consumer_seq: 3, pending: 7 };
        assert_eq!(place(b"$JS.ACK.S.c.1.22.3.1700000000000000000.7"), Some(want));
        assert_eq!(place(b"$JS.ACK._.hash.S.c.1.22.3.1700000000000000000.7"), Some(want));
        assert_eq!(place(b"$JS.FC.S.c.abcd"), None);
        assert_eq!(place(b"$JS.ACK.S.c.1.x.3.17.7"), None);
        assert_eq!(place(b"_INBOX.1.2.3.4.5"), None);
    }

    #[test]
    fn reads_status_lines_and_headers() {
        let beat = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Stream: 9\r\n\r\n";
        assert_eq!(status(beat), Some((100, "Idle Heartbeat".into())));
        assert_eq!(status(b"NATS/1.0 404\r\n\r\n"), Some((404, String::new())));
        assert_eq!(status(b"NATS/1.0\r\nA: b\r\n\r\n"), None);
        assert_eq!(header(beat, "Nats-Last-Stream"), Some(&b"9"[..]));
        assert_eq!(header(beat, "Nats-Last"), None);
    }
}
