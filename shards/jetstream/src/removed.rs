//! The last messages that left a stream, so that its consumers can follow without being told one
//! by one. Lives on: the stream's home shard.

use std::collections::VecDeque;

/// Sequences remembered.
const KEPT: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct Removed {
    total: u64,
    last: VecDeque<u64>,
}

impl Removed {
    /// Messages that have ever left, and purges; grows only.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// A message has left.
    pub fn note(&mut self, seq: u64) {
        self.total += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(seq);
    }

    /// So much has left that nobody shall follow one by one.
    pub fn note_many(&mut self) {
        self.total += KEPT as u64 + 1;
        self.last.clear();
    }

    /// What has left since `total` was read; `None` when that is no longer known.
    pub fn since(&self, total: u64) -> Option<impl Iterator<Item = u64> + '_> {
        let count = usize::try_from(self.total.saturating_sub(total)).unwrap_or(usize::MAX);
        let start = self.last.len().checked_sub(count)?;
        Some(self.last.range(start..).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_hear_of_everything_or_of_nothing() {
        let mut removed = Removed::default();
        removed.note(3);
        let seen = removed.total();
        removed.note(5);
        removed.note(4);
        assert_eq!(removed.since(seen).map(Iterator::collect), Some(vec![5, 4]));
        removed.note_many();
        assert!(removed.since(seen).is_none());
        let seen = removed.total();
        assert_eq!(removed.since(seen).map(Iterator::count), Some(0));
        for seq in 0..=KEPT as u64 {
            removed.note(seq);
        }
        assert!(removed.since(seen).is_none());
    }
}
