//! Notes that are kept twice. What lies in the unfinished block at the end of the log is in both
//! tail slots anyway; as soon as that block is finished, the note is appended once more, into
//! another block. So no single damaged place costs a vital note.

use std::collections::VecDeque;

use super::notes::NoteParts;
use super::recover::BLOCK;
use super::{Cache, Log, Read, Record};
use crate::disk::DiskQueue;

/// Vital notes of which there is one copy, in about the order in which they were appended.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    keys: VecDeque<Box<[u8]>>,
    /// Some came without a completion that would have them written.
    is_due: bool,
}

impl Wanted {
    /// True when [`Log::handle_timers`] is to be called for them.
    pub(super) const fn is_due(&self) -> bool {
        self.is_due
    }
}

impl Log {
    /// A note was put.
    pub(super) fn want_twin(&mut self, key: &[u8]) {
        if (self.options.is_vital)(key) {
            self.twins.keys.push_back(key.into());
        }
    }

    /// Notes have lost their second copies, or never had any.
    pub(super) fn want_twins(&mut self, keys: Vec<Box<[u8]>>) {
        for key in keys.into_iter().rev().filter(|key| (self.options.is_vital)(key)) {
            self.twins.keys.push_front(key);
            self.twins.is_due = true;
        }
    }

    /// The first copy of a note cannot be read: the second counts. False without one.
    pub(super) fn promote_twin(&mut self, key: &[u8]) -> bool {
        let Some(note) = self.notes.get_mut(key) else { return false };
        let Some(twin) = note.twin.take() else { return false };
        note.put = Some(twin);
        self.want_twins(vec![key.into()]);
        true
    }

    /// Appends the second copies whose time has come.
    pub(super) fn drive_twins(&mut self, cache: &mut Cache, queue: &mut DiskQueue) {
        self.twins.is_due = false;
        while let Some(key) = self.twins.keys.pop_front() {
            if !self.write_twin(&key, cache, queue) {
                self.twins.keys.push_front(key);
                return;
            }
        }
    }

    /// Whether nothing more is to be done for the note.
    fn write_twin(&mut self, key: &[u8], cache: &mut Cache, queue: &mut DiskQueue) -> bool {
        let Some(note) = self.notes.get(key) else { return true };
        let is_single = note.twin.is_none() && note.deltas.is_empty() && !note.removed;
        let Some(put) = note.put.filter(|_| is_single) else { return true };
        let end = self.end();
        let block = end.offset - end.offset % BLOCK;
        let is_unfinished = put.segment == end.segment && put.offset >= block;
        if is_unfinished || self.fenced.is_some() || self.lacks_space() {
            return false;
        }
        let mut parts = NoteParts::default();
        match self.read(put, cache, queue) {
            Read::Record(record) if parts.apply(&record) => {}
            Read::Pending => return false,
            // Nothing to copy. A start finds out what is left.
            _ => return true,
        }
        // The copy begins in a block that has nothing of the original.
        self.fill_block(put);
        let begins_in = self.end().offset / BLOCK;
        if put.segment == self.end().segment && begins_in <= (put.end().offset - 1) / BLOCK {
            return false;
        }
        let (has_value, parts) = (parts.value.is_some(), parts.encode());
        self.append(&Record::NoteCopy { key, has_value, parts: &parts }).is_ok()
    }
}
