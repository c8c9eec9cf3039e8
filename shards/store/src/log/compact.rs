//! Sealed segments of which little is needed are written anew: what is needed goes into a file of
//! its own with the next incarnation, and that takes the place of the old one with one rename.
//!
//! ```text
//!  read old, piece by piece ─► records that count, in memory ─► <n>.cmp, flushed
//!                         ─► all that the choice rests on is durable ─► rename ─► new places
//! ```
//!
//! A crash before the rename leaves the old segment and a file that the next start removes; one
//! after it leaves the new segment. Checkpoints name incarnations, so that an older one does not
//! point into the new file.

use super::cache::Cache;
use super::files::{Job, encode_start, push};
use super::header::DATA_START;
use super::pack::{self, Packing};
use super::record::{self, Kind, OVERHEAD_BYTES, RawRecord, Record, RecordError};
use super::segment::{FileState, Segment, compacted_path, segment_path};
use super::{Location, Log, Message, Position, Progress};
use crate::disk::{
    AlignedBuffer, BLOCK_BYTES, DiskData, DiskError, DiskOp, DiskQueue, Extent, FileId,
};

/// Read and written at once.
const PIECE_BYTES: u32 = 1 << 20;

/// What is needed of a segment.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// Messages: where they begin in the file, and their sequences; ascending.
    pub messages: Vec<(u32, u64)>,
    /// Records that say what was removed from older segments.
    pub removals: bool,
    /// The owner's marks.
    pub marks: bool,
}

/// A segment that lies in a new file.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// Which.
    pub segment: u32,
    /// Sequence, old offset and new offset of each message; ascending.
    pub messages: Vec<(u64, u32, u32)>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The old file is read; an operation is under way or not.
    Reading(bool),
    /// The new file is made.
    Making,
    /// It is written and flushed.
    Writing,
    /// It is whole, and closed when the rename may follow.
    Waiting,
    /// It takes the place of the old one.
    Renaming,
    /// It has; reads of the old one come to their end.
    Swapping,
    /// It is given up when the operation under way has ended.
    Abandoned,
}

/// What an operation of a compaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Read(u32),
    Make,
    Write,
    Rename,
}

/// A compaction under way.
#[derive(Debug)]
pub(super) struct Compaction {
    pub(super) segment: u32,
    keep: Keep,
    next_message: usize,
    /// What the choice rests on ends here.
    after: Position,
    stage: Stage,
    /// Bytes of the old file that are not looked at yet, and where they lie.
    window: Vec<u8>,
    window_at: u32,
    /// The segment as it will be.
    new: Segment,
    out: Vec<u8>,
    moved: Moved,
    /// Old and new place of records of notes.
    notes: Vec<(Box<[u8]>, Location, Location)>,
    file: FileId,
    file_len: u32,
    is_made: bool,
    written: u32,
}

/// What became of the bytes at hand.
enum Taken {
    All,
    More,
    Damaged,
}

impl Log {
    /// Begins to write a sealed segment anew with what is needed of it. False when that cannot be
    /// done now. [`Self::take_moved`] says when it has come to an end.
    pub fn compact(&mut self, number: u32, keep: Keep, queue: &mut DiskQueue) -> bool {
        let is_ready = self.segment(number).is_some_and(|segment| segment.sealed)
            && number < self.durable().segment
            && !self.is_going(number)
            && !self.is_erasing()
            && self.compaction.is_none()
            && self.fenced.is_none()
            && !self.lacks_space();
        let Some(segment) = self.segment(number).filter(|_| is_ready) else { return false };
        let (mut header, end) = (segment.header.clone(), segment.end);
        header.identity.incarnation += 1;
        (header.cipher, header.key_mark, header.salt) = (0, 0, [0; 32]);
        if let Some(encryption) = &self.options.encryption {
            encryption.head(&mut header);
        }
        self.segments_made += 1;
        let encryption = self.options.encryption.as_deref();
        let mut new = Segment::found(header, 0, end, FileState::Absent, encryption);
        new.epoch = encryption.map_or(0, |of| of.first_epoch(self.segments_made));
        new.sealed = true;
        self.compaction = Some(Box::new(Compaction {
            segment: number,
            keep,
            next_message: 0,
            after: self.end(),
            stage: Stage::Reading(false),
            window: Vec::new(),
            window_at: DATA_START,
            new,
            out: Vec::new(),
            moved: Moved { segment: number, messages: Vec::new() },
            notes: Vec::new(),
            file: queue.name_file(),
            file_len: 0,
            is_made: false,
            written: 0,
        }));
        self.drive_compaction(queue);
        true
    }

    /// The segment that is being written anew.
    #[must_use]
    pub fn compacting(&self) -> Option<u32> {
        self.compaction.as_ref().map(|compaction| compaction.segment)
    }

    /// A segment that lies in a new file since the last call: the owner's places of its messages
    /// are to be changed before anything is read.
    pub fn take_moved(&mut self) -> Option<Moved> {
        self.moved.take()
    }

    /// True when reads of a segment have to wait for its new file.
    pub(super) fn is_moving(&self, number: u32) -> bool {
        self.compaction.as_ref().is_some_and(|compaction| {
            compaction.segment == number
                && matches!(compaction.stage, Stage::Renaming | Stage::Swapping)
        })
    }

    /// Does what can be done now.
    pub(super) fn drive_compaction(&mut self, queue: &mut DiskQueue) {
        let Some(compaction) = &self.compaction else { return };
        let number = compaction.segment;
        if self.fenced.is_some() && compaction.stage != Stage::Swapping {
            return;
        }
        match compaction.stage {
            Stage::Reading(false) => self.read_piece(number, queue),
            Stage::Waiting if compaction.after <= self.flushed() => {
                let from = compacted_path(&self.options.dir, number);
                let to = segment_path(&self.options.dir, number);
                self.set_stage(Stage::Renaming);
                let op = DiskOp::Rename { from, to };
                push(self, queue, op, Job::Compact(Step::Rename));
            }
            Stage::Swapping if !self.is_busy(number) => self.swap(number, queue),
            _ => {}
        }
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(compaction) = &mut self.compaction {
            compaction.stage = stage;
        }
    }

    fn read_piece(&mut self, number: u32, queue: &mut DiskQueue) {
        let Some(file) = self.file_for_reading(number, queue) else { return };
        let Some(file_len) = self.segment(number).map(|segment| segment.file_len) else { return };
        let Some(compaction) = &mut self.compaction else { return };
        let offset = compaction.window_at + compaction.window.len() as u32;
        let len = PIECE_BYTES.min(file_len.saturating_sub(offset));
        if len == 0 {
            // The End record is missing.
            return self.give_up(true, queue);
        }
        compaction.stage = Stage::Reading(true);
        if let Some(segment) = self.segment_mut(number) {
            segment.reads += 1;
        }
        let op = DiskOp::Read { file, offset: u64::from(offset), len: len as usize };
        push(self, queue, op, Job::Compact(Step::Read(len)));
    }

    pub(super) fn handle_compaction(
        &mut self,
        step: Step,
        result: Result<DiskData, DiskError>,
        cache: &mut Cache,
        queue: &mut DiskQueue,
        progress: &mut Progress,
    ) {
        let Some(number) = self.compacting() else { return };
        if matches!(step, Step::Read(_))
            && let Some(segment) = self.segment_mut(number)
        {
            segment.reads = segment.reads.saturating_sub(1);
        }
        if step == Step::Make
            && result.is_ok()
            && let Some(compaction) = &mut self.compaction
        {
            compaction.is_made = true;
        }
        if self.compaction.as_ref().is_some_and(|of| of.stage == Stage::Abandoned) {
            return self.abandon(queue);
        }
        match (step, result) {
            (Step::Read(len), Ok(DiskData::Bytes(bytes))) if bytes.len() >= len as usize => {
                self.take_piece(bytes.as_slice(), queue);
            }
            (Step::Make, Ok(_)) => self.write_piece(queue),
            (Step::Write, Ok(_)) => self.write_piece(queue),
            (Step::Rename, Ok(_)) => {
                self.set_stage(Stage::Swapping);
                if let Some(segment) = self.segment(number) {
                    cache.forget_segment(segment.identity, segment.file_len);
                }
            }
            (Step::Rename, Err(error)) => {
                // Which of the two files has the name is not known. The next start removes what
                // is left over; until then the old one is read.
                self.fence(error, progress);
                self.forsake(queue);
            }
            (step, _) => {
                self.set_stage(Stage::Waiting);
                self.give_up(matches!(step, Step::Read(_)), queue);
            }
        }
    }

    /// Ends a compaction without result. A segment in which something is damaged is left alone
    /// from now on.
    pub(super) fn give_up(&mut self, is_damaged: bool, queue: &mut DiskQueue) {
        let Some(compaction) = &mut self.compaction else { return };
        let (number, stage) = (compaction.segment, compaction.stage);
        let is_under_way = matches!(
            stage,
            Stage::Reading(true) | Stage::Making | Stage::Writing | Stage::Abandoned
        );
        if is_under_way {
            compaction.stage = Stage::Abandoned;
        } else {
            self.abandon(queue);
        }
        if is_damaged {
            self.meet_damage(number);
        }
    }

    /// Nothing of a compaction is under way any more: its file goes.
    fn abandon(&mut self, queue: &mut DiskQueue) {
        let Some(compaction) = &self.compaction else { return };
        let (number, has_file) = (compaction.segment, compaction.file_len > 0);
        self.forsake(queue);
        if has_file {
            let path = compacted_path(&self.options.dir, number);
            let erase = self.is_erasing();
            push(self, queue, DiskOp::Remove { path, erase }, Job::Other);
        }
    }

    /// As [`Self::abandon`], but its file stays.
    fn forsake(&mut self, queue: &mut DiskQueue) {
        let Some(compaction) = self.compaction.take() else { return };
        if compaction.is_made {
            push(self, queue, DiskOp::Close { file: compaction.file }, Job::Other);
        }
        self.moved = Some(Moved { segment: compaction.segment, messages: Vec::new() });
    }

    /// The file that a compaction has open.
    pub(super) fn compacted_file(&self) -> Option<FileId> {
        self.compaction.as_ref().filter(|of| of.is_made).map(|of| of.file)
    }

    fn take_piece(&mut self, bytes: &[u8], queue: &mut DiskQueue) {
        let Some(mut compaction) = self.compaction.take() else { return };
        compaction.window.extend_from_slice(bytes);
        compaction.stage = Stage::Reading(false);
        let taken = self.take_records(&mut compaction);
        self.compaction = Some(compaction);
        match taken {
            Taken::More => self.read_piece_again(queue),
            Taken::Damaged => self.give_up(true, queue),
            Taken::All => self.make_file(queue),
        }
    }

    fn read_piece_again(&mut self, queue: &mut DiskQueue) {
        if let Some(number) = self.compacting() {
            self.read_piece(number, queue);
        }
    }

    /// Takes the records that are at hand as a whole.
    fn take_records(&mut self, compaction: &mut Compaction) -> Taken {
        let Some(binding) = self.segment(compaction.segment).map(|segment| segment.binding) else {
            return Taken::Damaged;
        };
        let mut done = 0;
        let taken = loop {
            let at = compaction.window_at + done as u32;
            let window = std::mem::take(&mut compaction.window);
            let next = match record::verify(window.get(done..).unwrap_or_default(), binding, at) {
                Ok(raw) => {
                    let is_kept = self.take_record(compaction, at, &raw);
                    is_kept.then_some((raw.bytes.len(), raw.kind == Kind::End))
                }
                Err(RecordError::Short(_)) => {
                    compaction.window = window;
                    break Taken::More;
                }
                Err(_) => None,
            };
            compaction.window = window;
            match next {
                Some((_, true)) => break Taken::All,
                Some((len, false)) => done += len,
                None => break Taken::Damaged,
            }
        };
        compaction.window.drain(..done);
        compaction.window_at += done as u32;
        taken
    }

    /// Copies a record if it is needed; false when it cannot be understood.
    fn take_record(&mut self, compaction: &mut Compaction, at: u32, raw: &RawRecord<'_>) -> bool {
        let key = self.segment(compaction.segment).and_then(|segment| segment.key.clone());
        let mut scratch = std::mem::take(&mut self.scratch);
        let is_taken = match pack::decode(raw, at, key.as_deref(), &mut scratch) {
            Ok(record) => {
                self.copy_record(compaction, at, raw, record);
                true
            }
            Err(_) => false,
        };
        self.scratch = scratch;
        is_taken
    }

    fn copy_record(
        &mut self,
        compaction: &mut Compaction,
        at: u32,
        raw: &RawRecord<'_>,
        record: Record<'_>,
    ) {
        let old = Location { segment: compaction.segment, offset: at, len: raw.bytes.len() as u32 };
        let keep = &compaction.keep;
        let record = match record {
            Record::Message(message) => {
                while keep.messages.get(compaction.next_message).is_some_and(|next| next.0 < at) {
                    compaction.next_message += 1;
                }
                if keep.messages.get(compaction.next_message).is_none_or(|next| next.0 != at) {
                    return;
                }
                let new = DATA_START + compaction.out.len() as u32;
                compaction.moved.messages.push((message.seq, at, new));
                Record::Message(Message { more: false, ..message })
            }
            Record::Delete { .. } | Record::Purge { .. } if !keep.removals => return,
            Record::Mark { .. } if !keep.marks => return,
            Record::Journal { .. } | Record::Erased { .. } => return,
            Record::NotePut { key, .. }
            | Record::NoteDelta { key, .. }
            | Record::NoteCopy { key, .. }
            | Record::NoteRemove { key } => {
                if !self.notes.has(key, old) {
                    // What came in its place may be younger than the choice of the segment.
                    compaction.after = self.end();
                    return;
                }
                let offset = DATA_START + compaction.out.len() as u32;
                let new = Location { offset, ..old };
                compaction.notes.push((key.into(), old, new));
                record
            }
            other => other,
        };
        let offset = DATA_START + compaction.out.len() as u32;
        let block = self.compress(&record);
        let key = compaction.new.key.as_deref().map(|key| (key, compaction.new.epoch));
        let packing = Packing { block: block.as_deref(), key };
        pack::encode(&record, &mut compaction.out, compaction.new.binding, offset, packing);
        if let Some((_, _, new)) = compaction.notes.last_mut().filter(|note| note.1 == old) {
            new.len = DATA_START + compaction.out.len() as u32 - offset;
        }
    }

    fn make_file(&mut self, queue: &mut DiskQueue) {
        let access = self.access();
        let Some(compaction) = &mut self.compaction else { return };
        compaction.window = Vec::new();
        let len = DATA_START as usize + compaction.out.len();
        compaction.file_len = len.next_multiple_of(BLOCK_BYTES) as u32;
        let new = &mut compaction.new;
        new.header.file_len = u64::from(compaction.file_len);
        (new.file_len, new.made_len) = (compaction.file_len, compaction.file_len);
        (new.end, new.anchor) = (len as u32, len as u32);
        compaction.stage = Stage::Making;
        let op = DiskOp::Create {
            file: compaction.file,
            path: compacted_path(&self.options.dir, compaction.segment),
            len: u64::from(compaction.file_len),
            access,
        };
        push(self, queue, op, Job::Compact(Step::Make));
    }

    /// Writes on; after the last piece, which is flushed with all before, waits.
    fn write_piece(&mut self, queue: &mut DiskQueue) {
        let Some(compaction) = &mut self.compaction else { return };
        if compaction.written == compaction.file_len {
            compaction.stage = Stage::Waiting;
            compaction.out = Vec::new();
            return;
        }
        compaction.stage = Stage::Writing;
        let offset = compaction.written;
        let extent = if offset == 0 {
            let mut bytes = AlignedBuffer::new(DATA_START as usize);
            encode_start(&mut compaction.new, false, bytes.as_mut_slice());
            bytes
        } else {
            let from = (offset - DATA_START) as usize;
            let len = PIECE_BYTES.min(compaction.file_len - offset) as usize;
            let mut bytes = AlignedBuffer::new(len);
            let source = compaction.out.get(from..).unwrap_or_default();
            for (place, byte) in bytes.as_mut_slice().iter_mut().zip(source) {
                *place = *byte;
            }
            bytes
        };
        compaction.written += extent.len() as u32;
        let sync = compaction.written == compaction.file_len;
        let extents = vec![Extent { offset: u64::from(offset), bytes: extent }];
        let op = DiskOp::Commit { file: compaction.file, extents, sync };
        push(self, queue, op, Job::Compact(Step::Write));
    }

    /// The new file is the segment from now on.
    fn swap(&mut self, number: u32, queue: &mut DiskQueue) {
        let Some(mut compaction) = self.compaction.take() else { return };
        compaction.new.state = FileState::Open(compaction.file);
        if let Some(segment) = self.segment_mut(number) {
            let old = std::mem::replace(segment, compaction.new);
            let erased = self.move_erasing(&compaction.moved);
            if let FileState::Open(file) = old.state {
                let extents: Vec<Extent> = erased
                    .into_iter()
                    .map(|(offset, len)| Extent {
                        offset: u64::from(offset),
                        bytes: AlignedBuffer::new(len),
                    })
                    .collect();
                if !extents.is_empty() {
                    let op = DiskOp::Commit { file, extents, sync: true };
                    push(self, queue, op, Job::Other);
                }
                push(self, queue, DiskOp::Close { file }, Job::Other);
            }
        }
        self.tail.forget(number);
        // In the order in which they were met.
        let kept: Vec<Location> = compaction.notes.iter().map(|(_, old, _)| *old).collect();
        let keys = self.notes.forget_twins(|note, twin| {
            twin.segment == number && kept.binary_search(twin).is_err()
                || note.put.is_some_and(|put| put.segment == number && twin.segment == number)
        });
        for (key, old, new) in compaction.notes.drain(..) {
            self.notes.relocate(&key, old, new);
        }
        self.want_twins(keys);
        self.moved = Some(compaction.moved);
    }
}

/// Bytes that a message takes in a segment beside its subject, headers and payload, about.
pub const MESSAGE_OVERHEAD_BYTES: u64 = OVERHEAD_BYTES as u64 + 10;
