//! A hash table from byte strings to small values, made for millions of short keys: the keys lie
//! in byte arenas, an entry is a 32-bit offset and the value, and growth is paid in small steps.
//!
//! ```text
//!   hash bits 32.. ─► directory ─► segment: [offset, value]* ─► bytes: |len|key|len|key|...
//! ```
//! The directory doubles and a full segment splits in two (extendible hashing), so no single
//! insert moves more than one segment. Removed keys leave garbage behind that is compacted once
//! it is more than half of a segment's bytes.

use hashbrown::HashTable;

/// Entries of one segment before it splits; seven eighths of a power of two, so that the two
/// halves fit their tables tightly.
const SEGMENT_ENTRIES_MAX: usize = 3_584;
/// Key bytes of one segment before it splits; bounds the copying of a split with long keys.
const SEGMENT_BYTES_MAX: usize = 512 * 1024;
/// The most directory bits: 16 million segments.
const DIRECTORY_BITS_MAX: u32 = 24;
/// The directory uses hash bits from here, because the segment's own table uses the lowest bits
/// for the bucket and the highest seven for its tags.
const DIRECTORY_SHIFT: u32 = 32;
/// Key lengths from here on take five bytes in the arena instead of one.
const LONG_KEY: u8 = 0xff;
/// Arenas below this size are never compacted.
const COMPACT_BYTES_MIN: usize = 512;

/// A key's place in the arena of its segment, and its value.
#[derive(Debug, Clone, Copy)]
struct Entry<V> {
    offset: u32,
    value: V,
}

#[derive(Debug)]
struct Segment<V> {
    entries: HashTable<Entry<V>>,
    bytes: Vec<u8>,
    garbage: usize,
    /// How many directory bits all keys of this segment share.
    depth: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table<V> {
    directory: Vec<u32>,
    directory_bits: u32,
    segments: Vec<Segment<V>>,
    len: usize,
}

/// The key stored at `offset`; empty when the offset is not one of ours.
fn key_at(bytes: &[u8], offset: u32) -> &[u8] {
    let Some((&first, rest)) = bytes.get(offset as usize..).and_then(<[u8]>::split_first) else {
        return &[];
    };
    if first != LONG_KEY {
        return rest.get(..usize::from(first)).unwrap_or_default();
    }
    let Some((length, rest)) = rest.split_first_chunk::<4>() else {
        return &[];
    };
    rest.get(..u32::from_le_bytes(*length) as usize).unwrap_or_default()
}

/// The arena bytes that a key takes.
fn stored_len(key_len: usize) -> usize {
    if key_len < usize::from(LONG_KEY) { key_len + 1 } else { key_len + 5 }
}

impl<V: Copy> Segment<V> {
    const fn new(depth: u32) -> Self {
        Self { entries: HashTable::new(), bytes: Vec::new(), garbage: 0, depth }
    }

    fn insert(&mut self, hash: u64, key: &[u8], value: V, hash_of: &impl Fn(&[u8]) -> u64) {
        let needed = stored_len(key.len());
        if self.bytes.capacity() - self.bytes.len() < needed {
            // Grow by a quarter rather than by doubling: this is most of the memory.
            self.bytes.reserve_exact(needed.max(self.bytes.len() / 4).max(16));
        }
        let offset = self.bytes.len() as u32;
        match u8::try_from(key.len()) {
            Ok(length) if length != LONG_KEY => self.bytes.push(length),
            _ => {
                self.bytes.push(LONG_KEY);
                self.bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(key);
        let bytes = &self.bytes;
        self.entries.insert_unique(hash, Entry { offset, value }, |entry| {
            hash_of(key_at(bytes, entry.offset))
        });
    }

    fn remove(
        &mut self,
        hash: u64,
        mut is_key: impl FnMut(&[u8]) -> bool,
        hash_of: &impl Fn(&[u8]) -> u64,
    ) -> Option<V> {
        let bytes = &self.bytes;
        let found = self.entries.find_entry(hash, |entry| is_key(key_at(bytes, entry.offset)));
        let (entry, _) = found.ok()?.remove();
        self.garbage += stored_len(key_at(&self.bytes, entry.offset).len());
        if self.entries.is_empty() {
            *self = Self::new(self.depth);
            return Some(entry.value);
        }
        if self.garbage > self.bytes.len() / 2 && self.bytes.len() > COMPACT_BYTES_MIN {
            self.compact();
        }
        if self.entries.capacity() > 64 && self.entries.len() < self.entries.capacity() / 8 {
            let bytes = &self.bytes;
            let target = self.entries.len() * 2;
            self.entries.shrink_to(target, |entry| hash_of(key_at(bytes, entry.offset)));
        }
        Some(entry.value)
    }

    /// Copies the live keys to a fresh arena.
    fn compact(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.garbage);
        for entry in &mut self.entries {
            let start = entry.offset as usize;
            let end = start + stored_len(key_at(&self.bytes, entry.offset).len());
            entry.offset = bytes.len() as u32;
            bytes.extend_from_slice(self.bytes.get(start..end).unwrap_or_default());
        }
        self.bytes = bytes;
        self.garbage = 0;
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= SEGMENT_ENTRIES_MAX
            || (self.bytes.len() - self.garbage >= SEGMENT_BYTES_MAX && self.entries.len() > 1)
    }
}

impl<V: Copy> Table<V> {
    pub(super) fn new() -> Self {
        Self { directory: vec![0], directory_bits: 0, segments: vec![Segment::new(0)], len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes held by directory, tables and arenas.
    pub(super) fn allocated_bytes(&self) -> usize {
        let segments: usize = self
            .segments
            .iter()
            .map(|segment| segment.entries.allocation_size() + segment.bytes.capacity())
            .sum();
        segments
            + self.segments.capacity() * size_of::<Segment<V>>()
            + self.directory.capacity() * size_of::<u32>()
    }

    fn slot(&self, hash: u64) -> usize {
        (hash >> DIRECTORY_SHIFT) as usize & (self.directory.len() - 1)
    }

    fn segment_index(&self, hash: u64) -> usize {
        self.directory.get(self.slot(hash)).map_or(0, |&index| index as usize)
    }

    pub(super) fn find(&self, hash: u64, mut is_key: impl FnMut(&[u8]) -> bool) -> Option<V> {
        let segment = self.segments.get(self.segment_index(hash))?;
        let bytes = &segment.bytes;
        let entry = segment.entries.find(hash, |entry| is_key(key_at(bytes, entry.offset)))?;
        Some(entry.value)
    }

    pub(super) fn find_mut(
        &mut self,
        hash: u64,
        mut is_key: impl FnMut(&[u8]) -> bool,
    ) -> Option<&mut V> {
        let index = self.segment_index(hash);
        let segment = self.segments.get_mut(index)?;
        let bytes = &segment.bytes;
        let entry = segment.entries.find_mut(hash, |entry| is_key(key_at(bytes, entry.offset)))?;
        Some(&mut entry.value)
    }

    /// Inserts a key that is not in the table; `hash` must be `hash_of(key)`.
    pub(super) fn insert_unique(
        &mut self,
        hash: u64,
        key: &[u8],
        value: V,
        hash_of: impl Fn(&[u8]) -> u64,
    ) {
        let mut index = self.segment_index(hash);
        if self.segments.get(index).is_some_and(Segment::is_full) {
            self.split(index, hash, &hash_of);
            index = self.segment_index(hash);
        }
        if let Some(segment) = self.segments.get_mut(index) {
            segment.insert(hash, key, value, &hash_of);
            self.len += 1;
        }
    }

    pub(super) fn remove(
        &mut self,
        hash: u64,
        is_key: impl FnMut(&[u8]) -> bool,
        hash_of: impl Fn(&[u8]) -> u64,
    ) -> Option<V> {
        let index = self.segment_index(hash);
        let value = self.segments.get_mut(index)?.remove(hash, is_key, &hash_of)?;
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        }
        Some(value)
    }

    /// All keys and values, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], V)> {
        self.segments.iter().flat_map(|segment| {
            segment.entries.iter().map(|entry| (key_at(&segment.bytes, entry.offset), entry.value))
        })
    }

    /// Splits a full segment by the next hash bit, doubling the directory when that bit is new.
    fn split(&mut self, index: usize, hash: u64, hash_of: &impl Fn(&[u8]) -> u64) {
        let Some(segment) = self.segments.get_mut(index) else {
            return;
        };
        let depth = segment.depth;
        if depth >= DIRECTORY_BITS_MAX {
            return;
        }
        let old = std::mem::replace(segment, Segment::new(depth + 1));
        let mut halves = [Segment::new(depth + 1), Segment::new(depth + 1)];
        for entry in &old.entries {
            let key = key_at(&old.bytes, entry.offset);
            let key_hash = hash_of(key);
            let half = (key_hash >> (DIRECTORY_SHIFT + depth)) as usize & 1;
            if let Some(half) = halves.get_mut(half) {
                half.insert(key_hash, key, entry.value, hash_of);
            }
        }
        let [low, high] = halves;
        if let Some(segment) = self.segments.get_mut(index) {
            *segment = low;
        }
        let high_index = self.segments.len() as u32;
        self.segments.push(high);
        if depth == self.directory_bits {
            self.directory.extend_from_within(..);
            self.directory_bits += 1;
        }
        let shared = (hash >> DIRECTORY_SHIFT) as usize & ((1 << depth) - 1);
        let first_high = shared | (1 << depth);
        for slot in self.directory.iter_mut().skip(first_high).step_by(1 << (depth + 1)) {
            *slot = high_index;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn hash_of(key: &[u8]) -> u64 {
        key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        })
    }

    fn get(table: &Table<u32>, key: &[u8]) -> Option<u32> {
        table.find(hash_of(key), |other| other == key)
    }

    #[test]
    fn holds_many_keys_through_splits_and_removals() {
        let mut table = Table::new();
        let mut model = HashMap::new();
        for number in 0..40_000u32 {
            let key = format!("k{number}").into_bytes();
            table.insert_unique(hash_of(&key), &key, number, hash_of);
            model.insert(key, number);
        }
        assert_eq!(table.len(), model.len());
        assert!(table.segments.len() > 8, "the table has split");
        for number in (0..40_000u32).filter(|number| number % 5 != 0) {
            let key = format!("k{number}").into_bytes();
            let removed = table.remove(hash_of(&key), |other| other == key, hash_of);
            assert_eq!(removed, model.remove(&key));
        }
        for number in 0..40_000u32 {
            let key = format!("k{number}").into_bytes();
            assert_eq!(get(&table, &key), model.get(&key).copied());
        }
        let listed: HashMap<Vec<u8>, u32> =
            table.iter().map(|(key, value)| (key.to_vec(), value)).collect();
        assert_eq!(listed, model);
    }

    #[test]
    fn keys_of_every_length_class_are_kept() {
        let mut table = Table::new();
        for length in [0usize, 1, 253, 254, 255, 256, 70_000] {
            let key = vec![b'x'; length];
            table.insert_unique(hash_of(&key), &key, length as u32, hash_of);
        }
        for length in [0usize, 1, 253, 254, 255, 256, 70_000] {
            assert_eq!(get(&table, &vec![b'x'; length]), Some(length as u32));
        }
    }

    #[test]
    fn memory_returns_after_removal() {
        let mut table = Table::new();
        let keys: Vec<Vec<u8>> =
            (0..20_000).map(|number| format!("subject.{number}").into_bytes()).collect();
        for key in &keys {
            table.insert_unique(hash_of(key), key, 1u32, hash_of);
        }
        let full = table.allocated_bytes();
        for key in keys.iter().skip(200) {
            table.remove(hash_of(key), |other| other == key, hash_of);
        }
        assert!(table.allocated_bytes() < full / 8, "{} of {full}", table.allocated_bytes());
        for key in keys.iter().take(200) {
            assert_eq!(table.remove(hash_of(key), |other| other == key, hash_of), Some(1));
        }
        assert!(table.allocated_bytes() < 1024);
    }

    #[test]
    fn long_keys_split_by_bytes() {
        let mut table = Table::new();
        for number in 0..64u32 {
            let key = format!("{number}{}", "y".repeat(64 * 1024)).into_bytes();
            table.insert_unique(hash_of(&key), &key, number, hash_of);
        }
        assert!(table.segments.len() > 4);
        assert_eq!(table.len(), 64);
    }
}
