//! What a shard keeps of segments that it read: extents of files, least recently used ones given
//! up first, within a budget of bytes. One for all logs of a shard.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use slab::Slab;

use super::header::Identity;
use super::scrub::{ScrubFigures, ScrubTurn};
use crate::disk::AlignedBuffer;

/// Bytes of an extent.
pub(super) const EXTENT_BYTES: u32 = 64 << 10;
const NONE: usize = usize::MAX;

/// One extent of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ExtentKey {
    uid: u64,
    segment: u32,
    incarnation: u32,
    extent: u32,
}

impl ExtentKey {
    pub(super) const fn new(identity: Identity, extent: u32) -> Self {
        Self {
            uid: identity.uid,
            segment: identity.segment,
            incarnation: identity.incarnation,
            extent,
        }
    }
}

#[derive(Debug)]
struct Entry {
    key: ExtentKey,
    buffer: AlignedBuffer,
    /// Used more recently, used less recently.
    newer: usize,
    older: usize,
}

/// Extents of segments in memory.
#[derive(Debug)]
pub struct Cache {
    map: HashMap<ExtentKey, usize, FxBuildHasher>,
    entries: Slab<Entry>,
    newest: usize,
    oldest: usize,
    bytes: usize,
    bytes_max: usize,
    /// What the largest record seen needs, however small the budget is.
    bytes_needed: usize,
    /// Holds a record that lies in several extents.
    joined: Vec<u8>,
    /// The log that writes a segment anew: one at a time, because that takes memory.
    compacting: Option<u64>,
    pub(crate) scrub_turn: ScrubTurn,
}

impl Cache {
    /// An empty cache that holds about `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            map: HashMap::default(),
            entries: Slab::new(),
            newest: NONE,
            oldest: NONE,
            bytes: 0,
            bytes_max,
            bytes_needed: 0,
            joined: Vec::new(),
            compacting: None,
            scrub_turn: ScrubTurn::default(),
        }
    }

    /// Bytes of extents.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// What the scrubs of the shard's logs did.
    #[must_use]
    pub const fn scrub_figures(&self) -> ScrubFigures {
        self.scrub_turn.figures
    }

    /// Gives a log the turn to write a segment anew; false while another one has it.
    pub(crate) fn claim_compaction(&mut self, uid: u64) -> bool {
        let is_free = self.compacting.is_none_or(|of| of == uid);
        if is_free {
            self.compacting = Some(uid);
        }
        is_free
    }

    /// Ends what [`Self::claim_compaction`] began.
    pub(crate) fn release_compaction(&mut self, uid: u64) {
        self.compacting.take_if(|of| *of == uid);
    }

    /// True without extents.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// A record of `len` bytes is going to be read.
    pub(super) fn expect(&mut self, len: u32) {
        let needed = len as usize + 2 * EXTENT_BYTES as usize;
        self.bytes_needed = self.bytes_needed.max(needed);
    }

    /// Holds fewer or more from now on.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.evict(NONE);
    }

    /// Extents that one reader may have read ahead: a quarter of what fits.
    pub(super) const fn ahead_max(&self) -> u32 {
        (self.bytes_max / EXTENT_BYTES as usize / 4) as u32
    }

    /// The first extent of `[offset, offset + len)` that is not here as far as needed.
    pub(super) fn missing(&self, identity: Identity, offset: u32, len: u32) -> Option<u32> {
        let end = u64::from(offset) + u64::from(len);
        let mut extent = offset / EXTENT_BYTES;
        loop {
            let start = u64::from(extent) * u64::from(EXTENT_BYTES);
            if start >= end {
                return None;
            }
            let needed = (end - start).min(u64::from(EXTENT_BYTES)) as usize;
            let held = self.map.get(&ExtentKey::new(identity, extent));
            let held = held.and_then(|slot| self.entries.get(*slot));
            if held.is_none_or(|entry| entry.buffer.len() < needed) {
                return Some(extent);
            }
            extent += 1;
        }
    }

    /// The bytes `[offset, offset + len)`, none of which is missing.
    pub(super) fn slice(&mut self, identity: Identity, offset: u32, len: u32) -> Option<&[u8]> {
        let (first, at) = (offset / EXTENT_BYTES, offset % EXTENT_BYTES);
        if at + len <= EXTENT_BYTES {
            let slot = *self.map.get(&ExtentKey::new(identity, first))?;
            self.touch(slot);
            let entry = self.entries.get(slot)?;
            return entry.buffer.as_slice().get(at as usize..(at + len) as usize);
        }
        self.joined.clear();
        let (mut extent, mut at, mut left) = (first, at as usize, len as usize);
        while left > 0 {
            let slot = *self.map.get(&ExtentKey::new(identity, extent))?;
            self.touch(slot);
            let bytes = self.entries.get(slot)?.buffer.as_slice().get(at..)?;
            let part = bytes.get(..left.min(bytes.len()))?;
            if part.is_empty() {
                return None;
            }
            self.joined.extend_from_slice(part);
            left -= part.len();
            (extent, at) = (extent + 1, 0);
        }
        Some(&self.joined)
    }

    /// Keeps an extent that was read.
    pub(super) fn insert(&mut self, identity: Identity, extent: u32, buffer: AlignedBuffer) {
        let key = ExtentKey::new(identity, extent);
        self.remove(key);
        self.bytes += buffer.len();
        let slot = self.entries.insert(Entry { key, buffer, newer: NONE, older: NONE });
        self.map.insert(key, slot);
        self.link_newest(slot);
        self.evict(slot);
    }

    /// Forgets `[offset, offset + len)`, so that it is read again.
    pub(super) fn forget(&mut self, identity: Identity, offset: u32, len: u32) {
        let end = offset.saturating_add(len.max(1));
        for extent in offset / EXTENT_BYTES..=(end - 1) / EXTENT_BYTES {
            self.remove(ExtentKey::new(identity, extent));
        }
    }

    /// Forgets a segment with `file_len` bytes.
    pub(super) fn forget_segment(&mut self, identity: Identity, file_len: u32) {
        self.forget(identity, 0, file_len);
    }

    fn evict(&mut self, keep: usize) {
        let bytes_max = self.bytes_max.max(self.bytes_needed);
        while self.bytes > bytes_max && self.oldest != NONE && self.oldest != keep {
            let Some(key) = self.entries.get(self.oldest).map(|entry| entry.key) else { return };
            self.remove(key);
        }
    }

    fn remove(&mut self, key: ExtentKey) {
        if let Some(slot) = self.map.remove(&key) {
            self.unlink(slot);
            if let Some(entry) = self.entries.try_remove(slot) {
                self.bytes -= entry.buffer.len();
            }
        }
    }

    fn touch(&mut self, slot: usize) {
        if self.newest != slot {
            self.unlink(slot);
            self.link_newest(slot);
        }
    }

    fn unlink(&mut self, slot: usize) {
        let Some(entry) = self.entries.get(slot) else { return };
        let (newer, older) = (entry.newer, entry.older);
        match self.entries.get_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, slot: usize) {
        let older = self.newest;
        if let Some(entry) = self.entries.get_mut(slot) {
            (entry.newer, entry.older) = (NONE, older);
        }
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(fill: u8, len: usize) -> AlignedBuffer {
        let mut buffer = AlignedBuffer::new(len);
        buffer.as_mut_slice().fill(fill);
        buffer
    }

    #[test]
    fn what_was_used_last_stays() {
        let of = Identity { uid: 1, segment: 1, incarnation: 1 };
        let size = EXTENT_BYTES as usize;
        let mut cache = Cache::new(3 * size);
        for at in 0..3 {
            cache.insert(of, at, extent(at as u8, size));
        }
        assert_eq!(cache.slice(of, 5, 2).unwrap(), &[0, 0]);
        cache.insert(of, 3, extent(3, size));
        assert_eq!(cache.missing(of, 0, EXTENT_BYTES), None);
        assert_eq!(cache.missing(of, EXTENT_BYTES, 1), Some(1));
        assert_eq!(cache.missing(of, 2 * EXTENT_BYTES, 2 * EXTENT_BYTES), None);
        let joined = cache.slice(of, 3 * EXTENT_BYTES - 2, 4).unwrap();
        assert_eq!(joined, &[2, 2, 3, 3]);
        assert_eq!(cache.len(), 3 * size);
        cache.forget_segment(of, 64 << 20);
        assert!(cache.is_empty());
    }

    #[test]
    fn a_short_extent_is_missing_where_it_ends() {
        let of = Identity { uid: 1, segment: 1, incarnation: 1 };
        let mut cache = Cache::new(1 << 20);
        cache.insert(of, 0, extent(1, 8192));
        assert_eq!(cache.missing(of, 0, 8192), None);
        assert_eq!(cache.missing(of, 8000, 200), Some(0));
        cache.insert(of, 0, extent(2, 12_288));
        assert_eq!(cache.slice(of, 8000, 200).unwrap(), &[2; 200]);
        assert_eq!(cache.len(), 12_288);
    }
}
