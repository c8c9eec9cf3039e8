//! Which segments of a store are written anew, and what changes when one was. A segment is worth
//! it when less than half of its bytes are needed.

use std::collections::BTreeSet;

use crate::disk::DiskQueue;
use crate::file::{FileLog, SegmentUse, location, pack};
use crate::index::Index;
use crate::log::{Cache, Keep, MESSAGE_OVERHEAD_BYTES, Moved};

/// Segments with fewer bytes of records are left as they are.
const COMPACT_BYTES_MIN: u32 = 32 << 10;
/// How long another stream of the shard is waited for, ns.
const RETRY_NS: u64 = 1_000_000_000;

impl SegmentUse {
    /// Bytes that the records of its messages take that are there, about.
    fn live_record_bytes(&self) -> u64 {
        let plain = self.live_bytes + self.live * MESSAGE_OVERHEAD_BYTES;
        if self.all_bytes == 0 {
            return plain;
        }
        // Compressed messages take less.
        let share = u128::from(self.live_bytes) * u128::from(self.record_bytes);
        plain.min(u64::try_from(share / u128::from(self.all_bytes)).unwrap_or(u64::MAX))
    }
}

impl FileLog {
    /// Takes what came of a segment that was written anew, and begins with the next one.
    pub(crate) fn drive_compaction(
        &mut self,
        index: &mut Index,
        now_ns: u64,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) {
        if let Some(moved) = self.log.take_moved() {
            cache.release_compaction(self.log.uid());
            self.take_moved(&moved, index);
        }
        let is_time = self.compact_at_ns.is_none_or(|at| at <= now_ns);
        if !self.may_compact || !is_time || self.log.compacting().is_some() {
            return;
        }
        self.compact_at_ns = None;
        self.may_compact = false;
        let Some(number) = self.sparse_segment() else { return };
        if !cache.claim_compaction(self.log.uid()) {
            self.may_compact = true;
            self.compact_at_ns = Some(now_ns + RETRY_NS);
            return;
        }
        if !self.compact(number, index, queue) {
            cache.release_compaction(self.log.uid());
        }
    }

    /// When to try again, monotonic ns.
    pub(crate) const fn compaction_deadline(&self) -> Option<u64> {
        self.compact_at_ns
    }

    /// A segment of which less than half is needed.
    fn sparse_segment(&self) -> Option<u32> {
        let durable = self.log.durable().segment;
        let sealed = self.log.segments().filter(|&(number, _, sealed)| sealed && number < durable);
        sealed.map(|(number, ..)| number).find(|number| {
            let Some(used) = self.log.used_bytes(*number) else { return false };
            let Some(uses) = self.uses.get(number).filter(|uses| uses.live > 0) else {
                return false;
            };
            used >= COMPACT_BYTES_MIN && uses.live_record_bytes() * 2 < u64::from(used)
        })
    }

    fn compact(&mut self, number: u32, index: &Index, queue: &mut DiskQueue) -> bool {
        if !self.write_removed() || self.keep_last_time(number, index).is_err() {
            return false;
        }
        let Some(used) = self.uses.get_mut(&number) else { return false };
        let present: BTreeSet<u32> = self.log.segments().map(|(number, ..)| number).collect();
        used.removes_from.retain(|older| present.contains(older));
        let mut keep = Keep {
            messages: Vec::with_capacity(used.live as usize),
            removals: !used.removes_from.is_empty(),
            marks: self.mark_segment == Some(number),
        };
        let mut at = used.first_seq;
        let last = used.last_seq;
        while let Some(seq) = index.seqs().next(at).filter(|&seq| seq <= last) {
            let place = index.seqs().entry(seq).map(|entry| location(entry.location));
            if let Some(place) = place.filter(|place| place.segment == number) {
                keep.messages.push((place.offset, seq));
            }
            at = seq + 1;
        }
        self.compacted_before = self.log.end().segment;
        self.log.compact(number, keep, queue)
    }

    fn take_moved(&mut self, moved: &Moved, index: &mut Index) {
        let number = moved.segment;
        // It may have become useless meanwhile, or another one sparse.
        (self.is_dirty, self.may_compact) = (true, true);
        let (Some(first), Some(last)) = (moved.messages.first(), moved.messages.last()) else {
            return;
        };
        let place_of = |seq: u64| {
            let at = moved.messages.binary_search_by_key(&seq, |message| message.0).ok()?;
            moved.messages.get(at).map(|&(_, old, new)| (old, new))
        };
        index.seqs_mut().relocate(first.0, last.0, |seq, packed| match place_of(seq) {
            Some((old, new)) if packed == pack(number, old) => pack(number, new),
            _ => packed,
        });
        if let Some(used) = self.uses.get_mut(&number) {
            used.all_bytes = used.live_bytes;
            used.record_bytes = u64::from(self.log.used_bytes(number).unwrap_or(0));
        }
        // What had been removed by then is not in the segment any more.
        for (_, used) in self.uses.range_mut(..self.compacted_before) {
            used.removes_from.remove(&number);
        }
        self.rewritten.insert(number);
    }
}
