//! The state of a consumer in both forms: JSON, and the binary form of `o.dat`.
//!
//! ```text
//!   o.dat = 16 hex, version 1 or 2, varints:
//!     ack floor: consumer, stream;  delivered: consumer, stream
//!     pending: count, then if any: base second, for each: stream and consumer sequence above the
//!       floor, base second less the second of delivery
//!     redelivered: count, for each: stream sequence above the floor, deliveries
//! ```

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::varint;

const MAGIC: u8 = 0x16;
const VERSION: u8 = 2;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A place in the consumer's own count and in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SequencePair {
    /// The consumer's sequence.
    #[serde(rename = "consumer_seq", default)]
    pub consumer: u64,
    /// The stream's sequence.
    #[serde(rename = "stream_seq", default)]
    pub stream: u64,
}

/// A message that was delivered and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pending {
    /// The consumer's sequence of its first delivery.
    #[serde(rename = "Sequence", default)]
    pub consumer_sequence: u64,
    /// When it was delivered last, in nanoseconds since 1970.
    #[serde(rename = "Timestamp", default)]
    pub time_ns: i64,
}

/// How far a consumer is. The JSON form is that of nats-server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConsumerState {
    /// The last delivery.
    #[serde(default)]
    pub delivered: SequencePair,
    /// Everything up to here is acknowledged.
    #[serde(default)]
    pub ack_floor: SequencePair,
    /// By stream sequence, what is delivered and not acknowledged.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_empty"
    )]
    pub pending: BTreeMap<u64, Pending>,
    /// By stream sequence, how often a message was delivered again.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_empty"
    )]
    pub redelivered: BTreeMap<u64, u64>,
}

/// Go writes absent maps as `null` in places.
fn null_as_empty<'de, D, V>(deserializer: D) -> Result<BTreeMap<u64, V>, D::Error>
where
    D: serde::Deserializer<'de>,
    V: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Why bytes are no state of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StateError {
    /// Another magic number, cut off, or numbers that make no sense.
    #[error("corrupt consumer state")]
    Corrupt,
    /// A version that this program does not know.
    #[error("unsupported version of a consumer state")]
    Version,
}

impl ConsumerState {
    /// Reads the binary form. Times of delivery are whole seconds there.
    ///
    /// # Errors
    ///
    /// [`StateError`] if the bytes are not such a state.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let (version, rest) = match bytes {
            [MAGIC, version @ (1 | 2), rest @ ..] => (*version, rest),
            [MAGIC, _, ..] => return Err(StateError::Version),
            _ => return Err(StateError::Corrupt),
        };
        decode_body(version, rest).ok_or(StateError::Corrupt)
    }

    /// The binary form. Times are cut to whole seconds.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![MAGIC, VERSION];
        let floor = self.ack_floor;
        for number in [floor.consumer, floor.stream, self.delivered.consumer, self.delivered.stream]
        {
            varint::push(&mut out, number);
        }
        // What is below the floor cannot be said, and needs not: it is acknowledged.
        let pending: Vec<_> = self
            .pending
            .iter()
            .filter_map(|(stream, pending)| {
                let stream = stream.checked_sub(floor.stream)?;
                let consumer = pending.consumer_sequence.checked_sub(floor.consumer)?;
                Some((stream, consumer, pending.time_ns.div_euclid(NANOS_PER_SECOND)))
            })
            .collect();
        varint::push(&mut out, count(pending.len()));
        if let Some(base) = pending.iter().map(|(_, _, second)| *second).max() {
            varint::push_signed(&mut out, base);
            for (stream, consumer, second) in pending {
                varint::push(&mut out, stream);
                varint::push(&mut out, consumer);
                varint::push_signed(&mut out, base.saturating_sub(second));
            }
        }
        let redelivered: Vec<_> = self
            .redelivered
            .iter()
            .filter_map(|(stream, times)| Some((stream.checked_sub(floor.stream)?, *times)))
            .collect();
        varint::push(&mut out, count(redelivered.len()));
        for (stream, times) in redelivered {
            varint::push(&mut out, stream);
            varint::push(&mut out, times);
        }
        out
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn decode_body(version: u8, mut rest: &[u8]) -> Option<ConsumerState> {
    let rest = &mut rest;
    let mut pair =
        || Some(SequencePair { consumer: varint::take(rest)?, stream: varint::take(rest)? });
    let ack_floor = pair()?;
    let mut delivered = pair()?;
    if version == 1 {
        // The old form counted deliveries from the floor, and meant the next one.
        let floor_before = |floor: u64| floor.saturating_sub(1);
        delivered.consumer = delivered.consumer.checked_add(floor_before(ack_floor.consumer))?;
        delivered.stream = delivered.stream.checked_add(floor_before(ack_floor.stream))?;
    }
    if ack_floor.stream >> 63 != 0 || delivered.stream >> 63 != 0 {
        return None;
    }
    let mut state = ConsumerState { delivered, ack_floor, ..ConsumerState::default() };
    let pending = varint::take(rest)?;
    let base = if pending > 0 { varint::take_signed(rest)? } else { 0 };
    // Every entry takes bytes, so a false count ends with the bytes.
    for _ in 0..pending {
        let stream = varint::take(rest)?.checked_add(ack_floor.stream)?;
        let consumer =
            if version == 1 { 0 } else { varint::take(rest)?.checked_add(ack_floor.consumer)? };
        let offset = varint::take_signed(rest)?;
        let second = if version == 1 { base.checked_add(offset) } else { base.checked_sub(offset) };
        let time_ns = second?.checked_mul(NANOS_PER_SECOND)?;
        if stream == 0 {
            return None;
        }
        state.pending.insert(stream, Pending { consumer_sequence: consumer, time_ns });
    }
    for _ in 0..varint::take(rest)? {
        let (stream, times) = (varint::take(rest)?, varint::take(rest)?);
        if stream > 0 && times > 0 {
            state.redelivered.insert(stream.checked_add(ack_floor.stream)?, times);
        }
    }
    Some(state)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> ConsumerState {
        let pending =
            [(8, 5, 3), (21, 17, 5), (22, 18, 5)].map(|(stream, consumer_sequence, second)| {
                (stream, Pending { consumer_sequence, time_ns: second * NANOS_PER_SECOND })
            });
        ConsumerState {
            delivered: SequencePair { consumer: 50, stream: 53 },
            ack_floor: SequencePair { consumer: 4, stream: 7 },
            pending: pending.into(),
            redelivered: [(8, 1), (21, 2)].into(),
        }
    }

    #[test]
    fn both_forms_come_back() {
        let state = sample();
        assert_eq!(ConsumerState::decode(&state.encode()), Ok(state.clone()));
        let json = serde_json::to_string(&state).unwrap();
        assert!(json.starts_with(
            r#"{"delivered":{"consumer_seq":50,"stream_seq":53},"ack_floor":{"consumer_seq":4,"#
        ));
        assert!(json.contains(r#""pending":{"8":{"Sequence":5,"Timestamp":3000000000},"21":"#));
        assert!(json.ends_with(r#""redelivered":{"8":1,"21":2}}"#));
        assert_eq!(serde_json::from_str::<ConsumerState>(&json).unwrap(), state);
        let bare = r#"{"delivered":{"consumer_seq":0,"stream_seq":0},"pending":null}"#;
        assert_eq!(serde_json::from_str::<ConsumerState>(bare).unwrap(), ConsumerState::default());
    }

    #[test]
    fn the_binary_form_is_that_of_nats_server() {
        // Floor 4/7, delivered 50/53, one pending: stream 7 + 4, consumer 4 + 14, base less 1.
        let bytes = [0x16, 2, 4, 7, 50, 53, 1, 0xf2, 0xf0, 0xab, 0xb0, 0x0d, 4, 14, 2, 1, 4, 3];
        let state = ConsumerState::decode(&bytes).unwrap();
        let pending = state.pending.get(&11).unwrap();
        assert_eq!(pending.consumer_sequence, 18);
        let mut base = &bytes[7..12];
        let base = varint::take_signed(&mut base).unwrap();
        assert_eq!(pending.time_ns, (base - 1) * NANOS_PER_SECOND);
        assert_eq!(state.redelivered, [(11, 3)].into());
    }

    #[test]
    fn the_old_form_counts_from_its_floor() {
        let state = ConsumerState::decode(&[0x16, 1, 3, 5, 2, 2, 1, 20, 1, 2, 0]).unwrap();
        assert_eq!(state.delivered, SequencePair { consumer: 4, stream: 6 });
        let pending = Pending { consumer_sequence: 0, time_ns: 11 * NANOS_PER_SECOND };
        assert_eq!(state.pending, [(6, pending)].into());
    }

    #[test]
    fn damage_is_refused() {
        assert_eq!(ConsumerState::decode(b""), Err(StateError::Corrupt));
        assert_eq!(ConsumerState::decode(&[0x17, 2, 0, 0, 0, 0, 0, 0]), Err(StateError::Corrupt));
        assert_eq!(ConsumerState::decode(&[0x16, 3, 0, 0, 0, 0, 0, 0]), Err(StateError::Version));
        let good = sample().encode();
        for len in 0..good.len() {
            assert!(ConsumerState::decode(&good[..len]).is_err(), "{len} bytes");
        }
        let mut endless = vec![0x16, 2, 0, 0, 0, 0];
        varint::push(&mut endless, u64::MAX);
        assert_eq!(ConsumerState::decode(&endless), Err(StateError::Corrupt));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(
            version in 1_u8..4,
            body in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = ConsumerState::decode(&[vec![MAGIC, version], body].concat());
        }
    }
}
