//! The message ids of the last while, so that a message published twice is stored once.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// One remembered id.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// When its message was stored, ns since 1970.
    stored_ns: i64,
    /// Sequence of its message.
    seq: u64,
    /// Where the id stands in the arena, counted from the arena's first day.
    at: u64,
    /// Bytes of the id.
    len: u32,
}

/// Remembers message ids for the duplicate window. Every id belongs to a message that was stored
/// within the window, which bounds what is kept here.
#[derive(Debug, Default)]
pub struct DedupeWindow {
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// Number of the entry at the front.
    first: u64,
    /// The ids of all entries, one behind the other.
    arena: Vec<u8>,
    /// What the arena's first byte is counted as.
    arena_start: u64,
    /// Numbers of entries, by the hash of their ids.
    table: HashTable<u64>,
    hasher: RandomState,
}

impl DedupeWindow {
    /// Ids that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True if no id is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn id_of(&self, entry: &Entry) -> &[u8] {
        let at = usize::try_from(entry.at.saturating_sub(self.arena_start)).unwrap_or(usize::MAX);
        self.arena.get(at..at.saturating_add(entry.len as usize)).unwrap_or_default()
    }

    /// The sequence of the message that was stored with this id.
    #[must_use]
    pub fn find(&self, id: &[u8]) -> Option<u64> {
        if self.table.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(id);
        let number = self.table.find(hash, |&number| {
            self.entry(number).is_some_and(|entry| self.id_of(entry) == id)
        })?;
        self.entry(*number).map(|entry| entry.seq)
    }

    /// Remembers an id. A second message with the same id takes the place of the first.
    pub fn insert(&mut self, id: &[u8], seq: u64, stored_ns: i64) {
        let hash = self.hasher.hash_one(id);
        let number = self.first.saturating_add(self.entries.len() as u64);
        let found = self.table.find_entry(hash, |&number| {
            number
                .checked_sub(self.first)
                .and_then(|at| self.entries.get(usize::try_from(at).ok()?))
                .is_some_and(|entry| {
                    let at = entry.at.saturating_sub(self.arena_start) as usize;
                    self.arena.get(at..at.saturating_add(entry.len as usize)) == Some(id)
                })
        });
        if let Ok(mut old) = found {
            *old.get_mut() = number;
            self.push(id, seq, stored_ns);
            return;
        }
        self.push(id, seq, stored_ns);
        let Self { table, entries, arena, arena_start, first, hasher, .. } = self;
        table.insert_unique(hash, number, |&number| {
            let at = usize::try_from(number.saturating_sub(*first)).unwrap_or(usize::MAX);
            let id = entries.get(at).and_then(|entry| {
                let at = entry.at.saturating_sub(*arena_start) as usize;
                arena.get(at..at.saturating_add(entry.len as usize))
            });
            hasher.hash_one(id.unwrap_or_default())
        });
    }

    fn push(&mut self, id: &[u8], seq: u64, stored_ns: i64) {
        let at = self.arena_start.saturating_add(self.arena.len() as u64);
        self.arena.extend_from_slice(id);
        let len = u32::try_from(id.len()).unwrap_or(u32::MAX);
        self.entries.push_back(Entry { stored_ns, seq, at, len });
    }

    /// Forgets ids that were stored before `oldest_ns`.
    pub fn expire(&mut self, oldest_ns: i64) {
        while let Some(entry) = self.entries.front().copied() {
            if entry.stored_ns > oldest_ns {
                break;
            }
            let number = self.first;
            let hash = self.hasher.hash_one(self.id_of(&entry));
            if let Ok(found) = self.table.find_entry(hash, |&other| other == number) {
                found.remove();
            }
            self.entries.pop_front();
            self.first = self.first.saturating_add(1);
        }
        self.trim();
    }

    /// Gives back the arena's forgotten part once it is the larger one.
    fn trim(&mut self) {
        let Some(front) = self.entries.front() else {
            self.arena_start = self.arena_start.saturating_add(self.arena.len() as u64);
            self.arena.clear();
            self.arena.shrink_to(4096);
            return;
        };
        let dead = front.at.saturating_sub(self.arena_start) as usize;
        if dead > self.arena.len() / 2 && dead <= self.arena.len() {
            self.arena.drain(..dead);
            self.arena_start = self.arena_start.saturating_add(dead as u64);
        }
    }

    /// When the oldest id was stored, ns since 1970.
    #[must_use]
    pub fn oldest_ns(&self) -> Option<i64> {
        self.entries.front().map(|entry| entry.stored_ns)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_for_the_window() {
        let mut window = DedupeWindow::default();
        for n in 0..1000_u64 {
            window.insert(format!("id-{n}").as_bytes(), n + 1, n as i64);
        }
        assert_eq!(window.len(), 1000);
        assert_eq!(window.find(b"id-0"), Some(1));
        assert_eq!(window.find(b"id-999"), Some(1000));
        assert_eq!(window.find(b"id-1000"), None);
        window.expire(499);
        assert_eq!(window.len(), 500);
        assert_eq!(window.find(b"id-499"), None);
        assert_eq!(window.find(b"id-500"), Some(501));
        assert_eq!(window.oldest_ns(), Some(500));
        window.expire(i64::MAX);
        assert!(window.is_empty());
        assert_eq!(window.oldest_ns(), None);
        window.insert(b"id-1", 7, 3);
        assert_eq!(window.find(b"id-1"), Some(7));
    }

    #[test]
    fn the_newest_message_of_an_id_counts() {
        let mut window = DedupeWindow::default();
        window.insert(b"a", 1, 10);
        window.insert(b"b", 2, 20);
        window.insert(b"a", 3, 30);
        assert_eq!(window.find(b"a"), Some(3));
        window.expire(15);
        assert_eq!(window.find(b"a"), Some(3));
        window.expire(30);
        assert!(window.is_empty());
    }
}
