//! The index's hashing: foldhash with secrets drawn from the seed the process was given, so that
//! clients cannot choose subjects that collide, and a simulated run stays repeatable.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

/// The secrets of one index.
#[derive(Debug, Clone)]
pub(crate) struct HashSeed {
    shared: SharedSeed,
    own: u64,
}

impl HashSeed {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { shared: SharedSeed::from_u64(seed), own: seed.rotate_left(32) }
    }

    /// The hash of a subject or a name.
    #[inline]
    pub(crate) fn of(&self, text: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.own, &self.shared);
        hasher.write(text);
        hasher.finish()
    }

    /// The hash of an edge of the trie: the node it leaves and the token.
    #[inline]
    pub(crate) fn of_edge(&self, node: u32, token: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.own, &self.shared);
        hasher.write_u32(node);
        hasher.write(token);
        hasher.finish()
    }
}
