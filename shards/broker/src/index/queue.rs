//! Queue group names as small numbers, counted by use.

use hashbrown::HashTable;
use slab::Slab;

use super::hash::HashSeed;

/// A queue group's name inside one index; valid while any subscription uses it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub(super) u32);

#[derive(Debug)]
struct Name {
    text: Box<[u8]>,
    users: u32,
    /// Where this name's entry lies in the result of the match numbered `match_number`.
    match_number: u64,
    match_position: u32,
}

/// The queue names of one index.
#[derive(Debug, Default)]
pub(super) struct QueueNames {
    names: Slab<Name>,
    by_text: HashTable<u32>,
}

impl QueueNames {
    pub(super) fn get(&self, id: QueueId) -> &[u8] {
        self.names.get(id.0 as usize).map_or(&[], |name| &name.text)
    }

    pub(super) fn find(&self, text: &[u8], seed: &HashSeed) -> Option<QueueId> {
        let names = &self.names;
        self.by_text
            .find(seed.of(text), |&id| {
                names.get(id as usize).is_some_and(|name| &*name.text == text)
            })
            .map(|&id| QueueId(id))
    }

    /// The number of a name, with one more user.
    pub(super) fn acquire(&mut self, text: &[u8], seed: &HashSeed) -> QueueId {
        if let Some(id) = self.find(text, seed) {
            if let Some(name) = self.names.get_mut(id.0 as usize) {
                name.users += 1;
            }
            return id;
        }
        let name = Name { text: text.into(), users: 1, match_number: 0, match_position: 0 };
        let id = self.names.insert(name) as u32;
        let names = &self.names;
        self.by_text.insert_unique(seed.of(text), id, |&other| {
            names.get(other as usize).map_or(0, |name| seed.of(&name.text))
        });
        QueueId(id)
    }

    /// Gives one use back; the name is forgotten with its last user.
    pub(super) fn release(&mut self, id: QueueId, seed: &HashSeed) {
        let Some(name) = self.names.get_mut(id.0 as usize) else {
            return;
        };
        name.users -= 1;
        if name.users > 0 {
            return;
        }
        let hash = seed.of(&name.text);
        if let Ok(entry) = self.by_text.find_entry(hash, |&other| other == id.0) {
            entry.remove();
        }
        self.names.remove(id.0 as usize);
    }

    /// Where the name already lies in the result of match `number`; otherwise notes that it will
    /// lie at `next`. This groups queues by name across patterns without searching.
    pub(super) fn place(&mut self, id: QueueId, number: u64, next: usize) -> Option<usize> {
        let name = self.names.get_mut(id.0 as usize)?;
        if name.match_number == number {
            return Some(name.match_position as usize);
        }
        name.match_number = number;
        name.match_position = next as u32;
        None
    }
}
