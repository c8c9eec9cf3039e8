//! How a source is told from others, in the configuration and in the headers of the messages that
//! came from it.
//!
//! ```text
//! index name      <stream[:hash of api prefix][:C=hash of consumer]> <filters> <destinations>
//! Nats-Stream-Source  <first part> <seq> <filters> <destinations> <subject> [<identity>]
//! ```

use sha2::{Digest, Sha256};
use wire::api::config::StreamSource;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Between the filters of a source, and between their destinations.
const FORM_FEED: &str = "\u{c}";

/// The short hash of a name that NATS servers use: eight letters and digits.
#[must_use]
pub fn short_hash(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    digest
        .iter()
        .take(8)
        .map(|byte| char::from(DIGITS.get(usize::from(byte % 62)).copied().unwrap_or(b'0')))
        .collect()
}

/// The stream, and where it is if not in this account.
fn stream_part(source: &StreamSource) -> String {
    let mut name = source.name.clone();
    if let Some(external) = &source.external {
        name.push(':');
        name.push_str(&short_hash(&external.api));
    }
    name
}

fn or_all(text: &str) -> &str {
    if text.is_empty() { ">" } else { text }
}

/// The name by which a source is known inside of its stream.
#[must_use]
pub fn index_name(source: &StreamSource) -> String {
    let mut name = stream_part(source);
    if let Some(consumer) = &source.consumer {
        name.push_str(":C=");
        name.push_str(&short_hash(&consumer.name));
    }
    let (filters, destinations) = if source.subject_transforms.is_empty() {
        (or_all(&source.filter_subject).to_owned(), ">".to_owned())
    } else {
        let all = |part: fn(&wire::api::config::SubjectTransform) -> &str| {
            let parts: Vec<&str> =
                source.subject_transforms.iter().map(|change| or_all(part(change))).collect();
            parts.join(FORM_FEED)
        };
        (all(|change| &change.src), all(|change| &change.dest))
    };
    format!("{name} {filters} {destinations}")
}

/// The name by which the durable consumer of a source is known.
#[must_use]
pub fn consumer_index_name(source: &StreamSource) -> String {
    let consumer = source.consumer.as_ref().map_or("", |consumer| consumer.name.as_str());
    format!("{} {consumer}", stream_part(source))
}

/// What a stored message says about where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The stream, the first part of an index name.
    pub stream: &'a str,
    /// Index name of the source; `None` in the forms of old servers.
    pub index_name: Option<String>,
    /// Sequence in the origin.
    pub seq: u64,
    /// Subject in the origin.
    pub subject: Option<&'a str>,
    /// Identity of the origin.
    pub identity: Option<&'a str>,
}

/// Appends the value of `Nats-Stream-Source`.
pub fn push_origin(
    out: &mut Vec<u8>,
    index_name: &str,
    seq: &[u8],
    subject: &[u8],
    identity: &str,
) {
    let mut parts = index_name.splitn(3, ' ').map(str::as_bytes);
    out.extend_from_slice(parts.next().unwrap_or_default());
    out.push(b' ');
    out.extend_from_slice(seq);
    for part in parts {
        out.push(b' ');
        out.extend_from_slice(part);
    }
    out.push(b' ');
    out.extend_from_slice(subject);
    if !identity.is_empty() {
        out.push(b' ');
        out.extend_from_slice(identity.as_bytes());
    }
}

/// Reads the value of `Nats-Stream-Source`, in the forms of all servers so far.
#[must_use]
pub fn parse_origin(value: &[u8]) -> Option<Origin<'_>> {
    let value = std::str::from_utf8(value).ok()?;
    if value.starts_with("$JS.ACK.") {
        let reply = AckReply::parse(value.as_bytes())?;
        let stream = std::str::from_utf8(reply.stream).ok()?;
        let seq = reply.stream_seq();
        return Some(Origin { stream, index_name: None, seq, subject: None, identity: None });
    }
    let fields: Vec<&str> = value.split(' ').collect();
    let (stream, seq) = (*fields.first()?, fields.get(1)?.parse().ok()?);
    let index_name = match (fields.get(2), fields.get(3)) {
        (None, _) => None,
        (Some(_), None) => return None,
        (Some(filters), Some(destinations)) => Some(format!("{stream} {filters} {destinations}")),
    };
    let subject = fields.get(4).copied();
    Some(Origin { stream, index_name, seq, subject, identity: fields.get(5).copied() })
}

/// The parts of the reply subject of a delivered message that mirrors and sources look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckReply<'a> {
    /// Stream.
    pub stream: &'a [u8],
    /// Consumer.
    pub consumer: &'a [u8],
    delivered: &'a [u8],
    stream_seq: &'a [u8],
    consumer_seq: &'a [u8],
    stored_ns: &'a [u8],
    pending: &'a [u8],
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

impl<'a> AckReply<'a> {
    /// Reads a reply subject with nine tokens or with eleven and more.
    #[must_use]
    pub fn parse(reply: &'a [u8]) -> Option<Self> {
        let rest = reply.strip_prefix(b"$JS.ACK.")?;
        let count = wire::subject::token_count(rest);
        let skip = match count {
            7 => 0,
            9.. => 2,
            _ => return None,
        };
        let mut tokens = wire::subject::tokens(rest).skip(skip);
        Some(Self {
            stream: tokens.next()?,
            consumer: tokens.next()?,
            delivered: tokens.next()?,
            stream_seq: tokens.next()?,
            consumer_seq: tokens.next()?,
            stored_ns: tokens.next()?,
            pending: tokens.next()?,
        })
    }

    /// How often the message was delivered.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        number(self.delivered)
    }

    /// Sequence in the origin, as text.
    #[must_use]
    pub const fn stream_seq_text(&self) -> &'a [u8] {
        self.stream_seq
    }

    /// Sequence in the origin.
    #[must_use]
    pub fn stream_seq(&self) -> u64 {
        number(self.stream_seq)
    }

    /// Sequence of the delivery.
    #[must_use]
    pub fn consumer_seq(&self) -> u64 {
        number(self.consumer_seq)
    }

    /// When the message was stored in the origin, ns since 1970.
    #[must_use]
    pub fn stored_ns(&self) -> i64 {
        i64::try_from(number(self.stored_ns)).unwrap_or(i64::MAX)
    }

    /// Messages that are still to come.
    #[must_use]
    pub fn pending(&self) -> u64 {
        number(self.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::api::config::{ExternalStream, SubjectTransform};

    #[test]
    fn names_of_sources() {
        let mut source = StreamSource { name: "O".to_owned(), ..StreamSource::default() };
        assert_eq!(index_name(&source), "O > >");
        source.filter_subject = "a.*".to_owned();
        assert_eq!(index_name(&source), "O a.* >");
        source.filter_subject.clear();
        source.subject_transforms = vec![
            SubjectTransform { src: "a".to_owned(), dest: "b".to_owned() },
            SubjectTransform { src: "c".to_owned(), dest: String::new() },
        ];
        assert_eq!(index_name(&source), "O a\u{c}c b\u{c}>");
        source.external =
            Some(ExternalStream { api: "$JS.hub.API".to_owned(), deliver: String::new() });
        assert!(index_name(&source).starts_with("O:"));
        assert_eq!(index_name(&source).split(' ').next().map(str::len), Some(10));
    }

    #[test]
    fn hashes_are_those_of_nats_server() {
        // Seen in `Nats-Stream-Source` of a stream that was made at this moment.
        assert_eq!(short_hash("2026-11-24T13:00:59.919313908Z"), "A0K3SdzG");
    }

    #[test]
    fn origins() {
        let mut out = Vec::new();
        push_origin(&mut out, "O a.* >", b"7", b"a.b", "");
        assert_eq!(out, b"O 7 a.* > a.b");
        let origin = parse_origin(&out).unwrap();
        assert_eq!(origin.index_name.as_deref(), Some("O a.* >"));
        assert_eq!((origin.stream, origin.seq, origin.subject), ("O", 7, Some("a.b")));
        assert_eq!(parse_origin(b"O 7").map(|o| (o.seq, o.index_name)), Some((7, None)));
        assert_eq!(parse_origin(b"O 7 x"), None);
        let old = parse_origin(b"$JS.ACK.O.C.1.9.3.100.5").unwrap();
        assert_eq!((old.stream, old.seq), ("O", 9));
    }

    #[test]
    fn replies_of_both_versions() {
        for reply in [&b"$JS.ACK.O.C.1.9.3.100.5"[..], b"$JS.ACK._.HASH.O.C.1.9.3.100.5.x"] {
            let reply = AckReply::parse(reply).unwrap();
            assert_eq!((reply.stream, reply.consumer), (&b"O"[..], &b"C"[..]));
            assert_eq!((reply.stream_seq(), reply.consumer_seq()), (9, 3));
            assert_eq!((reply.stored_ns(), reply.pending(), reply.delivered()), (100, 5, 1));
        }
        assert_eq!(AckReply::parse(b"$JS.ACK.O.C.1.9.3.100"), None);
        assert_eq!(AckReply::parse(b"$JS.FC.O.C.1.9.3.100.5"), None);
    }
}
