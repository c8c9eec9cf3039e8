//! Segments that nobody needs any more: their notes are copied forward, a Drop record says that
//! they go, and when that is durable the file is removed.

use super::files::{Job, push};
use super::notes::NoteParts;
use super::segment::{FileState, segment_checkpoint_path, segment_path};
use super::{AppendError, Cache, Log, Position, Read, Record};
use crate::disk::{DiskData, DiskError, DiskOp, DiskQueue};

/// How far the removal of a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Notes are copied.
    Copying,
    /// The Drop record ends here and is not durable yet.
    Dropping(Position),
    /// The file is being removed.
    Removing,
}

/// A segment on its way out.
#[derive(Debug)]
pub(super) struct Dropping {
    segment: u32,
    stage: Stage,
    /// Overwrite the file before it goes.
    erase: bool,
}

impl Log {
    /// Removes a sealed segment of which no message is needed any more. Nothing of it is to be
    /// read after this. False when it is not sealed or not there.
    pub fn drop_segment(
        &mut self,
        segment: u32,
        erase: bool,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) -> bool {
        let is_sealed = self.segment(segment).is_some_and(|segment| segment.sealed);
        let is_going = self.drops.iter().any(|drop| drop.segment == segment);
        if !is_sealed || is_going || self.fenced.is_some() {
            return false;
        }
        self.drops.push(Dropping { segment, stage: Stage::Copying, erase });
        self.drive_drops(cache, queue);
        true
    }

    /// True when a Drop record of the segment was appended.
    pub(super) fn is_dropped(&self, segment: u32) -> bool {
        self.drops
            .iter()
            .any(|drop| drop.segment == segment && !matches!(drop.stage, Stage::Copying))
    }

    /// Takes every removal as far as it can go.
    pub(super) fn drive_drops(&mut self, cache: &mut Cache, queue: &mut DiskQueue) {
        let mut at = 0;
        while let Some(drop) = self.drops.get(at) {
            let (segment, stage, erase) = (drop.segment, drop.stage, drop.erase);
            let next = match stage {
                Stage::Copying => self.copy_notes(segment, cache, queue),
                Stage::Dropping(end) => Ok(self.try_remove(segment, end, erase, cache, queue)),
                Stage::Removing => Ok(Some(Stage::Removing)),
            };
            match next {
                Ok(Some(next)) => {
                    if let Some(drop) = self.drops.get_mut(at) {
                        drop.stage = next;
                    }
                    at += 1;
                }
                // A note that cannot be read keeps its segment.
                Ok(None) => {
                    self.drops.swap_remove(at);
                }
                // Another time: the log is full, busy or fenced.
                Err(_) => at += 1,
            }
        }
    }

    /// Copies what notes have in the segment to the end of the log.
    fn copy_notes(
        &mut self,
        segment: u32,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) -> Result<Option<Stage>, AppendError> {
        for key in self.notes.keys_in(segment) {
            let Some(note) = self.notes.get(&key).cloned() else { continue };
            let mut parts = NoteParts::default();
            for location in note.locations() {
                match self.read(*location, cache, queue) {
                    Read::Record(record) if parts.apply(&record) => {}
                    Read::Pending => return Ok(Some(Stage::Copying)),
                    _ => return Ok(None),
                }
            }
            // As one record: half of a copy would hide what it is a copy of.
            let (has_value, parts) = (parts.value.is_some(), parts.encode());
            self.append(&Record::NoteCopy { key: &key, has_value, parts: &parts })?;
        }
        let location = self.append(&Record::Drop { segment })?;
        Ok(Some(Stage::Dropping(location.end())))
    }

    /// Removes the file once the Drop record is durable and nothing is read from it.
    fn try_remove(
        &mut self,
        number: u32,
        end: Position,
        erase: bool,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) -> Option<Stage> {
        let durable = self.durable();
        let dir = self.options.dir.clone();
        let segment = self.segment_mut(number)?;
        let is_opening = matches!(segment.state, FileState::Opening(_));
        if durable < end || segment.reads > 0 || is_opening {
            return Some(Stage::Dropping(end));
        }
        cache.forget_segment(segment.identity, segment.file_len);
        if let FileState::Open(file) = segment.state {
            segment.state = FileState::Closed;
            push(self, queue, DiskOp::Close { file }, Job::Other);
        }
        let path = segment_checkpoint_path(&dir, number);
        push(self, queue, DiskOp::Remove { path, erase: false }, Job::Other);
        let path = segment_path(&dir, number);
        push(self, queue, DiskOp::Remove { path, erase }, Job::Remove(number));
        Some(Stage::Removing)
    }

    pub(super) fn handle_removed(&mut self, number: u32, _: &Result<DiskData, DiskError>) {
        // A file that could not be removed goes at the next start: the Drop record stands.
        self.drops.retain(|drop| drop.segment != number);
        if let Some(at) = self.segment_at(number) {
            self.segments.remove(at);
        }
        self.tail.forget(number);
    }

    /// Removes the log with everything in its directory; no call makes sense after it.
    pub fn remove_all(mut self, cache: &mut Cache, queue: &mut DiskQueue) {
        let files: Vec<_> = self.segments.iter().chain(&self.prepared).collect();
        let mut open = Vec::new();
        for segment in files {
            cache.forget_segment(segment.identity, segment.file_len);
            if let FileState::Open(file) | FileState::Bare(file) = segment.state {
                open.push(file);
            }
        }
        for file in open {
            push(&mut self, queue, DiskOp::Close { file }, Job::Other);
        }
        queue.push(DiskOp::RemoveTree { path: self.options.dir });
    }
}
