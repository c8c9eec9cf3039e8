//! Messages that end by themselves, by the moment at which they do.

use super::image::{Reader, put_u64};
use std::collections::BTreeMap;

/// Moments are kept to this many bits of a nanosecond: about an eighth of a second. A message
/// never ends early.
const BUCKET_SHIFT: u32 = 27;

/// A queue of moments. Messages that were removed before stay in it until they are swept out.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    buckets: BTreeMap<i64, Vec<u64>>,
    len: usize,
}

const fn bucket(ts_ns: i64) -> i64 {
    (ts_ns >> BUCKET_SHIFT).saturating_add(1)
}

impl Expiry {
    /// Notes that a message ends at a moment.
    pub(crate) fn insert(&mut self, expires_ns: i64, seq: u64) {
        self.buckets.entry(bucket(expires_ns)).or_default().push(seq);
        self.len += 1;
    }

    /// Moments noted, also those of messages that are gone.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// When to look next, ns since 1970.
    pub(crate) fn next_ns(&self) -> Option<i64> {
        let (&bucket, _) = self.buckets.first_key_value()?;
        Some(bucket.saturating_mul(1 << BUCKET_SHIFT))
    }

    /// Takes out what has ended by now.
    pub(crate) fn take_due(&mut self, now_ns: i64, due: &mut Vec<u64>) {
        while self.next_ns().is_some_and(|at| at <= now_ns) {
            let Some((_, seqs)) = self.buckets.pop_first() else { return };
            self.len -= seqs.len();
            due.extend(seqs);
        }
    }

    /// Keeps only the messages that `f` knows.
    pub(crate) fn retain(&mut self, mut f: impl FnMut(u64) -> bool) {
        self.len = 0;
        self.buckets.retain(|_, seqs| {
            seqs.retain(|&seq| f(seq));
            seqs.shrink_to_fit();
            self.len += seqs.len();
            !seqs.is_empty()
        });
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.buckets.clear();
        self.len = 0;
    }

    /// Writes the queue down.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.buckets.len() as u64);
        for (&bucket, seqs) in &self.buckets {
            put_u64(out, bucket as u64);
            put_u64(out, seqs.len() as u64);
            for &seq in seqs {
                put_u64(out, seq);
            }
        }
    }

    /// Reads a queue.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut queue = Self::default();
        for _ in 0..reader.count(16)? {
            let bucket = reader.u64()? as i64;
            let count = reader.count(8)?;
            let mut seqs = Vec::with_capacity(count);
            for _ in 0..count {
                seqs.push(reader.u64()?);
            }
            queue.len += count;
            queue.buckets.insert(bucket, seqs);
        }
        Some(queue)
    }

    /// Bytes of memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.buckets.values().map(|seqs| seqs.capacity() * 8 + 48).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_early_and_all_ends_soon() {
        let mut queue = Expiry::default();
        for i in 0..100 {
            queue.insert(i * 10_000_000, i as u64);
        }
        let mut due = Vec::new();
        queue.take_due(500_000_000, &mut due);
        assert!(due.iter().all(|&seq| seq <= 50));
        assert!(due.len() >= 35);
        queue.take_due(1_200_000_000, &mut due);
        assert_eq!(due.len(), 100);
        assert_eq!(queue.next_ns(), None);
    }
}
