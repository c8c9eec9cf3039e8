//! Counters: messages whose body is a number, which publishers add to.

use std::collections::BTreeMap;
use std::str::FromStr;

use num_bigint::BigInt;
use wire::headers;

use super::index_name::parse_origin;

/// What a publisher adds.
pub const INCREMENT: &[u8] = b"Nats-Incr";
/// What came from which source so far.
pub const SOURCES: &[u8] = b"Nats-Counter-Sources";
/// Where a message came from.
pub const STREAM_SOURCE: &[u8] = b"Nats-Stream-Source";

/// Counts that came from sources, by stream and subject.
pub type Sources = BTreeMap<String, BTreeMap<String, String>>;

/// The stored value of a counter is no counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message counter is broken")]
pub struct BrokenCounter;

/// A number with an optional sign, nothing else.
#[must_use]
pub fn parse_increment(text: &[u8]) -> Option<BigInt> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    BigInt::from_str(std::str::from_utf8(text).ok()?).ok()
}

/// A counter as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Its value.
    pub total: BigInt,
    /// What came from sources.
    pub sources: Sources,
}

/// The number in a counter's body; zero if the body has none that can be read.
fn value_of(body: &[u8]) -> Result<BigInt, BrokenCounter> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Body {
        val: Option<String>,
    }
    let body: Option<Body> = serde_json::from_slice(body).map_err(|_| BrokenCounter)?;
    let text = body.and_then(|body| body.val).unwrap_or_default();
    Ok(parse_increment(text.as_bytes()).unwrap_or_default())
}

impl Counter {
    /// Reads the last message of the counter's subject.
    ///
    /// # Errors
    ///
    /// When it is not a counter.
    pub fn read(block: &[u8], body: &[u8]) -> Result<Self, BrokenCounter> {
        let total = value_of(body)?;
        let sources = match headers::get(block, SOURCES) {
            None | Some(b"") => Sources::new(),
            Some(json) => {
                let sources: Option<Sources> =
                    serde_json::from_slice(json).map_err(|_| BrokenCounter)?;
                sources.unwrap_or_default()
            }
        };
        Ok(Self { total, sources })
    }

    /// Adds the increment of a message and rewrites the message to what is stored: the body
    /// becomes the new value. Of a message from a source, the body is the source's value, and the
    /// increment becomes its difference to the last value from there.
    ///
    /// # Errors
    ///
    /// When the message came from a source and is not a counter.
    pub fn apply(
        &mut self,
        increment: &BigInt,
        subject: &[u8],
        block: &mut Vec<u8>,
        body: &mut Vec<u8>,
    ) -> Result<(), BrokenCounter> {
        let mut increment = increment.clone();
        if let Some(value) = headers::get(block, STREAM_SOURCE).filter(|v| !v.is_empty()) {
            let (stream, origin_subject) = origin_of(value, subject);
            let there = value_of(body)?;
            let of_stream = self.sources.entry(stream).or_default();
            let before = of_stream.insert(origin_subject, there.to_string());
            let before = before.and_then(|text| parse_increment(text.as_bytes()));
            increment = there - before.unwrap_or_default();
            headers::replace(block, INCREMENT, increment.to_string().as_bytes());
        }
        self.total += increment;
        body.clear();
        body.extend_from_slice(format!("{{\"val\":\"{}\"}}", self.total).as_bytes());
        if !self.sources.is_empty() {
            headers::set(block, SOURCES, wire::json::to_go_string(&self.sources).as_bytes());
        }
        Ok(())
    }
}

/// Stream and subject of a message that came from a source.
fn origin_of(value: &[u8], subject: &[u8]) -> (String, String) {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match parse_origin(value) {
        Some(origin) => (
            origin.stream.to_owned(),
            origin.subject.map_or_else(|| lossy(subject), ToOwned::to_owned),
        ),
        None => {
            let stream = value.split(|&b| b == b' ').next().unwrap_or_default();
            (lossy(stream), lossy(subject))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increments() {
        for (text, value) in [("1", 1), ("+5", 5), ("-3", -3), ("007", 7)] {
            assert_eq!(parse_increment(text.as_bytes()), Some(BigInt::from(value)), "{text}");
        }
        for bad in ["", "+", "x", "1_0", "0x1", "--1", "1.0", " 1"] {
            assert_eq!(parse_increment(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn adds_without_bounds() {
        let mut counter = Counter::read(b"", br#"{"val":"6"}"#).unwrap();
        let (mut block, mut body) = (Vec::new(), Vec::new());
        let increment = parse_increment(b"-100000000000000000000000000").unwrap();
        counter.apply(&increment, b"c.a", &mut block, &mut body).unwrap();
        assert_eq!(body, br#"{"val":"-99999999999999999999999994"}"#);
        assert!(block.is_empty());
        assert_eq!(Counter::read(b"", b"x"), Err(BrokenCounter));
        assert_eq!(Counter::read(b"", b"{}"), Ok(Counter::default()));
    }

    #[test]
    fn merges_sources() {
        let mut counter = Counter { total: BigInt::from(10), ..Counter::default() };
        let mut block = b"NATS/1.0\r\nNats-Incr: 2\r\n\
            Nats-Stream-Source: O 7 > > c.x\r\n\r\n"
            .to_vec();
        let mut body = br#"{"val":"7"}"#.to_vec();
        let increment = parse_increment(b"2").unwrap();
        counter.apply(&increment, b"c.a", &mut block, &mut body).unwrap();
        assert_eq!(body, br#"{"val":"17"}"#);
        assert_eq!(headers::get(&block, INCREMENT), Some(&b"7"[..]));
        assert_eq!(headers::get(&block, SOURCES), Some(&br#"{"O":{"c.x":"7"}}"#[..]));
        let mut counter = Counter::read(&block, &body).unwrap();
        let mut next = b"NATS/1.0\r\nNats-Incr: 2\r\n\
            Nats-Stream-Source: O 8 > > c.x\r\n\r\n"
            .to_vec();
        let mut body = br#"{"val":"9"}"#.to_vec();
        counter.apply(&increment, b"c.a", &mut next, &mut body).unwrap();
        assert_eq!(body, br#"{"val":"19"}"#);
        assert_eq!(headers::get(&next, INCREMENT), Some(&b"2"[..]));
    }
}
