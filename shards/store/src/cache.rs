//! Blocks of log files that were read, shared by the stores of a shard, within a budget.

use crate::disk::{BLOCK_BYTES, FileId};
use hashbrown::HashMap;
use std::collections::VecDeque;

type Key = (FileId, u64);

#[derive(Debug)]
struct Block {
    bytes: Box<[u8]>,
    was_used: bool,
}

/// The blocks. One for each shard.
#[derive(Debug)]
pub struct Cache {
    blocks: HashMap<Key, Block, rustc_hash::FxBuildHasher>,
    queue: VecDeque<Key>,
    blocks_max: usize,
}

impl Cache {
    /// Blocks of up to `bytes_max` bytes in all, at least one.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let blocks_max = (bytes_max / BLOCK_BYTES).max(1);
        Self { blocks: HashMap::default(), queue: VecDeque::new(), blocks_max }
    }

    /// The block of a file that begins at `offset`.
    pub fn get(&mut self, file: FileId, offset: u64) -> Option<&[u8]> {
        let block = self.blocks.get_mut(&(file, offset))?;
        block.was_used = true;
        Some(&block.bytes)
    }

    /// Keeps a block; the ones that were not used lately go.
    pub fn insert(&mut self, file: FileId, offset: u64, bytes: &[u8]) {
        let block = Block { bytes: bytes.into(), was_used: false };
        if self.blocks.insert((file, offset), block).is_none() {
            self.queue.push_back((file, offset));
        }
        while self.blocks.len() > self.blocks_max {
            let Some(key) = self.queue.pop_front() else { return };
            match self.blocks.get_mut(&key) {
                Some(block) if block.was_used => {
                    block.was_used = false;
                    self.queue.push_back(key);
                }
                Some(_) => {
                    self.blocks.remove(&key);
                }
                None => {}
            }
        }
    }

    /// Forgets the blocks of a file.
    pub fn forget(&mut self, file: FileId) {
        self.blocks.retain(|key, _| key.0 != file);
        self.queue.retain(|key| key.0 != file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays() {
        let mut cache = Cache::new(4 * BLOCK_BYTES);
        for i in 0..100u64 {
            cache.insert(FileId(1), i * 4096, &[i as u8; 4096]);
            assert!(cache.get(FileId(1), 0).is_some());
        }
        assert_eq!(cache.get(FileId(1), 99 * 4096).map(|b| b[0]), Some(99));
        assert!(cache.get(FileId(1), 50 * 4096).is_none());
        cache.forget(FileId(1));
        assert!(cache.get(FileId(1), 0).is_none());
    }
}
