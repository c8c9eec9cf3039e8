//! Segments that nobody needs any more: their notes are copied forward, a Drop record says that
//! they go, and when that is durable the file is removed.

use super::files::{Job, push};
use super::notes::{Note, NoteParts};
use super::segment::{FileState, doomed_path, segment_checkpoint_path, segment_path};
use super::{AppendError, Cache, Log, Position, Read, Record};
use crate::disk::{DiskData, DiskError, DiskOp, DiskQueue, Ticket};

/// How far the removal of a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Notes are copied.
    Copying,
    /// The Drop record ends here and is not durable yet.
    Dropping(Position),
    /// The file is being closed.
    Closing,
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
    /// Keys of the notes that are still to be copied; none before they were looked for.
    keys: Option<Vec<Box<[u8]>>>,
    /// The note that is being read.
    copy: Option<Copying>,
}

/// A note on its way to the end of the log. Its records are read one by one, because the cache
/// need not hold them all at once.
#[derive(Debug)]
struct Copying {
    key: Box<[u8]>,
    note: Note,
    parts: NoteParts,
    /// Records of it that are read.
    done: usize,
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
        if !is_sealed
            || self.is_going(segment)
            || self.compacting() == Some(segment)
            || self.fenced.is_some()
        {
            return false;
        }
        let erase = erase || self.has_erasing_in(segment);
        self.drops.push(Dropping { segment, stage: Stage::Copying, erase, keys: None, copy: None });
        self.drive_drops(cache, queue);
        true
    }

    /// True when the segment is on its way out.
    pub(super) fn is_going(&self, segment: u32) -> bool {
        self.drops.iter().any(|drop| drop.segment == segment)
    }

    /// True when a Drop record of the segment was appended.
    pub(super) fn is_dropped(&self, segment: u32) -> bool {
        self.drops
            .iter()
            .any(|drop| drop.segment == segment && !matches!(drop.stage, Stage::Copying))
    }

    /// Takes every removal, and what notes are to be written twice, as far as it can go.
    pub(super) fn drive_drops(&mut self, cache: &mut Cache, queue: &mut DiskQueue) {
        self.drive_twins(cache, queue);
        let mut at = 0;
        while let Some(drop) = self.drops.get(at) {
            let (segment, stage, erase) = (drop.segment, drop.stage, drop.erase);
            let next = match stage {
                Stage::Copying => self.copy_notes(at, segment, cache, queue),
                Stage::Dropping(end) => Ok(self.try_remove(segment, end, erase, cache, queue)),
                Stage::Closing | Stage::Removing => Ok(Some(stage)),
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
        at: usize,
        segment: u32,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) -> Result<Option<Stage>, AppendError> {
        loop {
            let begun = self.drops.get_mut(at).and_then(|drop| drop.copy.take());
            let Some(mut copy) = begun.or_else(|| self.next_copy(at, segment)) else { break };
            if self.notes.get(&copy.key) != Some(&copy.note) {
                // The owner was faster; it may have left something there all the same.
                if let Some(keys) = self.drops.get_mut(at).and_then(|drop| drop.keys.as_mut()) {
                    keys.push(copy.key);
                }
                continue;
            }
            let read = self.gather(&mut copy, cache, queue);
            match read {
                Some(true) => {
                    // As one record: half of a copy would hide what it is a copy of.
                    let (has_value, parts) = (copy.parts.value.is_some(), copy.parts.encode());
                    let record = if copy.note.removed {
                        Record::NoteRemove { key: &copy.key }
                    } else {
                        Record::NoteCopy { key: &copy.key, has_value, parts: &parts }
                    };
                    if let Err(error) = self.append(&record) {
                        self.keep_copy_of(at, copy);
                        return Err(error);
                    }
                }
                Some(false) => {
                    self.keep_copy_of(at, copy);
                    return Ok(Some(Stage::Copying));
                }
                None => return Ok(None),
            }
        }
        let location = self.append(&Record::Drop { segment })?;
        let keys = self.notes.forget_twins(|_, twin| twin.segment == segment);
        self.want_twins(keys);
        Ok(Some(Stage::Dropping(location.end())))
    }

    fn keep_copy_of(&mut self, at: usize, copy: Copying) {
        if let Some(drop) = self.drops.get_mut(at) {
            drop.copy = Some(copy);
        }
    }

    /// The next note of which something lies in the segment.
    fn next_copy(&mut self, at: usize, segment: u32) -> Option<Copying> {
        let drop = self.drops.get_mut(at)?;
        let keys = drop.keys.get_or_insert_with(|| self.notes.keys_in(segment));
        while let Some(key) = keys.pop() {
            let Some(note) = self.notes.get(&key) else { continue };
            if note.removed && note.lies_in(segment) {
                // Only older records make it matter that the note was removed.
                let is_old = |number: u32| number >= note.since && number < segment;
                if !self.segments.iter().map(super::Segment::number).any(is_old) {
                    self.notes.forget(&key);
                    continue;
                }
            }
            if note.lies_in(segment) {
                let note = note.clone();
                return Some(Copying { key, note, parts: NoteParts::default(), done: 0 });
            }
        }
        None
    }

    /// Reads on; true when the note is whole, none when a part of it is lost.
    fn gather(
        &mut self,
        copy: &mut Copying,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) -> Option<bool> {
        loop {
            let next = copy.note.locations().nth(copy.done).copied();
            let Some(location) = next else { return Some(true) };
            match self.read(location, cache, queue) {
                Read::Record(record) if copy.parts.apply(&record) => {
                    copy.done += 1;
                    continue;
                }
                Read::Pending => return Some(false),
                _ => {}
            }
            if !self.promote_twin(&copy.key) {
                return None;
            }
            copy.note = self.notes.get(&copy.key).cloned().unwrap_or_default();
        }
    }

    /// Closes and removes the file once the Drop record is durable and nothing of it is under way.
    fn try_remove(
        &mut self,
        number: u32,
        end: Position,
        erase: bool,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) -> Option<Stage> {
        if self.flushed() < end || self.is_busy(number) {
            return Some(Stage::Dropping(end));
        }
        let segment = self.segment_mut(number)?;
        cache.forget_segment(segment.identity, segment.file_len);
        if let FileState::Open(file) = segment.state {
            segment.state = FileState::Closed;
            push(self, queue, DiskOp::Close { file }, Job::CloseDropped(number));
            return Some(Stage::Closing);
        }
        self.remove_files(number, erase, queue);
        Some(Stage::Removing)
    }

    fn remove_files(&mut self, number: u32, erase: bool, queue: &mut DiskQueue) {
        let path = segment_checkpoint_path(&self.options.dir, number);
        push(self, queue, DiskOp::Remove { path, erase: false }, Job::Other);
        let mut path = segment_path(&self.options.dir, number);
        if erase {
            // Overwritten in part it would look like a damaged segment.
            let to = doomed_path(&self.options.dir, number);
            let from = std::mem::replace(&mut path, to.clone());
            push(self, queue, DiskOp::Rename { from, to }, Job::Other);
        }
        push(self, queue, DiskOp::Remove { path, erase }, Job::Remove(number));
    }

    pub(super) fn handle_closed(&mut self, number: u32, queue: &mut DiskQueue) {
        let Some(drop) = self.drops.iter_mut().find(|drop| drop.segment == number) else { return };
        drop.stage = Stage::Removing;
        let erase = drop.erase;
        self.remove_files(number, erase, queue);
    }

    pub(super) fn handle_removed(&mut self, number: u32, _: &Result<DiskData, DiskError>) {
        // A file that could not be removed goes at the next start: the Drop record stands.
        self.drops.retain(|drop| drop.segment != number);
        if let Some(at) = self.segment_at(number) {
            self.segments.remove(at);
        }
        self.tail.forget(number);
        self.forget_erasing_in(number);
    }

    /// Removes the log with everything in its directory; no call makes sense after it. The
    /// operation that does it; none when no file could ever be made, for what lies there then is
    /// not of this log.
    pub fn remove_all(mut self, cache: &mut Cache, queue: &mut DiskQueue) -> Option<Ticket> {
        let files: Vec<_> = self.segments.iter().chain(&self.prepared).collect();
        let mut open: Vec<_> = self.compacted_file().into_iter().collect();
        for segment in files {
            cache.forget_segment(segment.identity, segment.file_len);
            if let FileState::Open(file) | FileState::Bare(file) = segment.state {
                open.push(file);
            }
        }
        for file in open {
            push(&mut self, queue, DiskOp::Close { file }, Job::Other);
        }
        let is_being_made = self.jobs.iter().any(|(_, job)| matches!(job, Job::Create(_)));
        if !self.has_files && !is_being_made {
            return None;
        }
        Some(queue.push(DiskOp::RemoveTree { path: self.options.dir }))
    }
}
