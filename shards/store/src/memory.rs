//! Bytes of messages that are kept in memory: segments that are filled one after the other,
//! copied together when half of one is free, and dropped when all is.

use crate::index::sequences::Sequences;
use rustc_hash::FxHashMap;

/// The first segment of a stream has room for this many bytes, each later one for twice as many,
const SEGMENT_BYTES_MIN: usize = 4 << 10;
/// up to this.
const SEGMENT_BYTES_MAX: usize = 1 << 20;
/// Before each message: lengths of headers and payload.
const PREFIX_BYTES: usize = 8;

#[derive(Debug)]
struct Segment {
    bytes: Vec<u8>,
    live_bytes: usize,
    first_seq: u64,
    last_seq: u64,
}

/// The segments of a stream.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    segments: FxHashMap<u32, Segment>,
    newest: u32,
    next_bytes: usize,
}

const fn split(location: u64) -> (u32, usize) {
    ((location >> 32) as u32, (location & 0xffff_ffff) as usize)
}

fn record(bytes: &[u8], at: usize) -> Option<(&[u8], &[u8], usize)> {
    let rest = bytes.get(at..)?;
    let (headers, rest) = rest.split_first_chunk::<4>()?;
    let (payload, rest) = rest.split_first_chunk::<4>()?;
    let headers = u32::from_le_bytes(*headers) as usize;
    let payload = u32::from_le_bytes(*payload) as usize;
    let (headers, rest) = rest.split_at_checked(headers)?;
    let payload = rest.get(..payload)?;
    Some((headers, payload, PREFIX_BYTES + headers.len() + payload.len()))
}

impl MemoryLog {
    pub(crate) fn new() -> Self {
        Self { segments: FxHashMap::default(), newest: 0, next_bytes: SEGMENT_BYTES_MIN }
    }

    /// Keeps a message; where.
    pub(crate) fn append(&mut self, seq: u64, headers: &[u8], payload: &[u8]) -> u64 {
        let need = PREFIX_BYTES + headers.len() + payload.len();
        let fits = |s: &Segment| s.bytes.len() + need <= s.bytes.capacity();
        if !self.segments.get(&self.newest).is_some_and(fits) {
            self.newest = self.newest.wrapping_add(1);
            let room = self.next_bytes.max(need);
            self.next_bytes = (self.next_bytes * 2).min(SEGMENT_BYTES_MAX);
            let bytes = Vec::with_capacity(room);
            let segment = Segment { bytes, live_bytes: 0, first_seq: seq, last_seq: seq };
            self.segments.insert(self.newest, segment);
        }
        let Some(segment) = self.segments.get_mut(&self.newest) else { return 0 };
        let at = segment.bytes.len() as u64;
        segment.bytes.extend_from_slice(&(headers.len() as u32).to_le_bytes());
        segment.bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        segment.bytes.extend_from_slice(headers);
        segment.bytes.extend_from_slice(payload);
        segment.live_bytes += need;
        segment.last_seq = seq;
        u64::from(self.newest) << 32 | at
    }

    /// Headers and payload of a message.
    pub(crate) fn get(&self, location: u64) -> Option<(&[u8], &[u8])> {
        let (number, at) = split(location);
        let (headers, payload, _) = record(&self.segments.get(&number)?.bytes, at)?;
        Some((headers, payload))
    }

    /// Gives the room of a message back, after it was taken out of `seqs`.
    pub(crate) fn free(&mut self, location: u64, seqs: &mut Sequences) {
        let (number, at) = split(location);
        let newest = self.newest;
        let Some(segment) = self.segments.get_mut(&number) else { return };
        let len = record(&segment.bytes, at).map_or(0, |(_, _, len)| len);
        segment.live_bytes = segment.live_bytes.saturating_sub(len);
        if segment.live_bytes == 0 {
            if number == newest {
                segment.bytes.clear();
            } else {
                self.segments.remove(&number);
            }
        } else if number != newest && segment.live_bytes * 2 <= segment.bytes.len() {
            move_together(number, segment, seqs);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.segments = FxHashMap::default();
        self.next_bytes = SEGMENT_BYTES_MIN;
    }

    /// Bytes of memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.segments.values().map(|s| s.bytes.capacity() + size_of::<Segment>() + 8).sum()
    }
}

fn move_together(number: u32, segment: &mut Segment, seqs: &mut Sequences) {
    let mut kept = Vec::with_capacity(segment.live_bytes);
    seqs.relocate(segment.first_seq, segment.last_seq, |_, location| {
        let (other, at) = split(location);
        if other != number {
            return location;
        }
        let Some((_, _, len)) = record(&segment.bytes, at) else { return location };
        let moved = kept.len() as u64;
        kept.extend_from_slice(segment.bytes.get(at..at + len).unwrap_or_default());
        u64::from(number) << 32 | moved
    });
    segment.bytes = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::chunk::Entry;

    #[test]
    fn room_is_given_back_and_the_rest_stays_readable() {
        let mut log = MemoryLog::new();
        let mut seqs = Sequences::default();
        let payload = |seq: u64| seq.to_le_bytes().repeat(16);
        for seq in 1..=40_000 {
            let location = log.append(seq, b"", &payload(seq));
            seqs.push(seq, Entry { location, ..Entry::default() }, 1);
        }
        let full = log.heap_bytes();
        for seq in (1..=40_000).filter(|seq| seq % 8 != 0) {
            let location = seqs.entry(seq).unwrap().location;
            seqs.kill(seq, false);
            log.free(location, &mut seqs);
        }
        assert!(log.heap_bytes() * 2 < full, "{} of {full}", log.heap_bytes());
        for seq in (8..=40_000).step_by(8) {
            let location = seqs.entry(seq).unwrap().location;
            assert_eq!(log.get(location), Some((&b""[..], payload(seq).as_slice())));
        }
    }
}
