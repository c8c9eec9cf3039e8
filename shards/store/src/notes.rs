//! Small facts that an owner keeps beside the messages of a stream: one value for each key, and
//! changes that came after it.

use rustc_hash::FxHashMap;

/// A fact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The value that was put last; empty if there were only changes.
    pub put: Vec<u8>,
    /// What was added since, in order.
    pub deltas: Vec<Vec<u8>>,
}

/// The facts of a stream that is kept in memory.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    by_key: FxHashMap<Box<[u8]>, Note>,
}

impl Notes {
    pub(crate) fn put(&mut self, key: &[u8], bytes: &[u8]) {
        let note = self.by_key.entry(key.into()).or_default();
        note.put.clear();
        note.put.extend_from_slice(bytes);
        note.deltas.clear();
    }

    pub(crate) fn add_delta(&mut self, key: &[u8], bytes: &[u8]) {
        self.by_key.entry(key.into()).or_default().deltas.push(bytes.to_vec());
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.by_key.remove(key);
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Note> {
        self.by_key.get(key)
    }
}
