//! Bytes that wait to be sent to one connection, in chunks that go back to the shard's pool.

use std::collections::VecDeque;
use std::rc::Rc;

/// Size of a pooled chunk, bytes.
pub const CHUNK_BYTES: usize = 32 << 10;
/// Chunks a shard's pool keeps (8 MiB).
pub const POOL_CHUNKS_MAX: usize = 256;

/// Spare chunks of one shard. The most recently used is handed out first, since it is in cache.
#[derive(Debug, Default)]
pub struct ChunkPool {
    free: Vec<Vec<u8>>,
}

impl ChunkPool {
    fn take(&mut self, bytes_min: usize) -> Vec<u8> {
        if bytes_min > CHUNK_BYTES {
            return Vec::with_capacity(bytes_min);
        }
        self.free.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES))
    }

    fn give(&mut self, mut chunk: Vec<u8>) {
        if chunk.capacity() == CHUNK_BYTES && self.free.len() < POOL_CHUNKS_MAX {
            chunk.clear();
            self.free.push(chunk);
        }
    }
}

/// A chunk of output: one connection's own, or one that several connections send alike.
#[derive(Debug)]
enum Chunk {
    Own(Vec<u8>),
    Shared(Rc<Vec<u8>>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// The output of one connection: `full` chunks first, then `tail`. The first `sent` bytes of the
/// first chunk have already left.
#[derive(Debug, Default)]
pub struct Outbox {
    full: VecDeque<Chunk>,
    tail: Vec<u8>,
    sent: usize,
    pending_bytes: usize,
}

impl Outbox {
    /// Bytes that have not been sent.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// A chunk with room for `bytes` more; what is pushed must be announced with [`Self::grew`].
    #[inline]
    pub fn reserve(&mut self, bytes: usize, pool: &mut ChunkPool) -> &mut Vec<u8> {
        if self.tail.capacity() - self.tail.len() < bytes {
            self.rotate(bytes, pool);
        }
        &mut self.tail
    }

    #[cold]
    fn rotate(&mut self, bytes: usize, pool: &mut ChunkPool) {
        let old = std::mem::replace(&mut self.tail, pool.take(bytes));
        self.retire(old, pool);
    }

    /// What was the tail waits in line, or goes back to the pool when it is empty.
    fn retire(&mut self, old: Vec<u8>, pool: &mut ChunkPool) {
        if !old.is_empty() {
            self.full.push_back(Chunk::Own(old));
        } else if old.capacity() != 0 {
            pool.give(old);
        }
    }

    /// Counts bytes that were pushed to the chunk of [`Self::reserve`].
    #[inline]
    pub fn grew(&mut self, bytes: usize) {
        self.pending_bytes += bytes;
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8], pool: &mut ChunkPool) {
        self.reserve(bytes.len(), pool).extend_from_slice(bytes);
        self.grew(bytes.len());
    }

    /// Appends bytes that other connections send as well, without a copy.
    pub fn push_shared(&mut self, bytes: &Rc<Vec<u8>>, pool: &mut ChunkPool) {
        let old = std::mem::take(&mut self.tail);
        self.retire(old, pool);
        self.pending_bytes += bytes.len();
        self.full.push_back(Chunk::Shared(Rc::clone(bytes)));
    }

    /// The unsent bytes as slices in order, at most `slices_max`.
    pub fn slices(&self, slices_max: usize) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.sent;
        self.full
            .iter()
            .map(Chunk::bytes)
            .chain(std::iter::once(self.tail.as_slice()))
            .take(slices_max)
            .map(move |chunk| chunk.get(std::mem::take(&mut skip)..).unwrap_or_default())
            .filter(|slice| !slice.is_empty())
    }

    /// The unsent bytes when they lie in one chunk.
    #[must_use]
    pub fn single(&self) -> Option<&[u8]> {
        match (self.full.front(), self.full.len(), self.tail.is_empty()) {
            (None, ..) => self.tail.get(self.sent..),
            (Some(chunk), 1, true) => chunk.bytes().get(self.sent..),
            _ => None,
        }
    }

    /// Forgets `bytes` that were sent and returns emptied chunks to the pool.
    pub fn handle_sent(&mut self, bytes: usize, pool: &mut ChunkPool) {
        self.pending_bytes = self.pending_bytes.saturating_sub(bytes);
        self.sent += bytes;
        while let Some(first) = self.full.front() {
            let len = first.bytes().len();
            if self.sent < len {
                return;
            }
            self.sent -= len;
            if let Some(Chunk::Own(chunk)) = self.full.pop_front() {
                pool.give(chunk);
            }
        }
        if self.sent >= self.tail.len() {
            self.sent = 0;
            pool.give(std::mem::take(&mut self.tail));
        }
    }

    /// Drops everything.
    pub fn clear(&mut self, pool: &mut ChunkPool) {
        for chunk in std::mem::take(&mut self.full) {
            if let Chunk::Own(chunk) = chunk {
                pool.give(chunk);
            }
        }
        pool.give(std::mem::take(&mut self.tail));
        self.sent = 0;
        self.pending_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(outbox: &Outbox) -> Vec<u8> {
        outbox.slices(usize::MAX).flatten().copied().collect()
    }

    #[test]
    fn bytes_come_out_in_order_whatever_the_pieces() {
        let mut pool = ChunkPool::default();
        let mut outbox = Outbox::default();
        let mut model = Vec::new();
        let mut seed = 1_u32;
        for round in 0..2000_usize {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let piece =
                vec![round as u8; (seed >> 16) as usize % 5000 + usize::from(round == 9) * 100_000];
            if round % 4 == 1 {
                outbox.push_shared(&Rc::new(piece.clone()), &mut pool);
            } else {
                outbox.push(&piece, &mut pool);
            }
            if let Some(single) = outbox.single() {
                assert_eq!(single.len(), outbox.pending_bytes());
            }
            model.extend_from_slice(&piece);
            assert_eq!(outbox.pending_bytes(), model.len());
            let sent = (seed as usize >> 3) % (model.len() + 1);
            if round % 3 == 0 {
                outbox.handle_sent(sent, &mut pool);
                model.drain(..sent);
            }
            if round % 50 == 0 {
                assert_eq!(all(&outbox), model);
            }
        }
        let rest = model.len();
        outbox.handle_sent(rest, &mut pool);
        assert_eq!(all(&outbox), b"");
        assert!(pool.free.len() <= POOL_CHUNKS_MAX);
    }
}
