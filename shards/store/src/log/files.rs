//! Files of segments: made ahead, given their header, opened when needed, closed when many are.
//! Here every completion arrives first.

use super::cache::Cache;
use super::commit::CommitJob;
use super::header::{DATA_START, SLOT_OFFSETS, SlotHead};
use super::read::ReadJob;
use super::segment::{FileState, Segment, segment_path};
use super::{Durability, Log, Progress};
use crate::disk::{
    Access, AlignedBuffer, DiskData, DiskDone, DiskError, DiskOp, DiskQueue, Extent, FileId,
};

/// Sealed segments that one log keeps open.
const OPEN_SEALED_MAX: usize = 8;

/// What an operation under way is for.
#[derive(Debug)]
pub(super) enum Job {
    /// The file of a segment is made.
    Create(u32),
    /// The header of a segment is written.
    Header(u32),
    /// A segment is opened.
    Open(u32),
    /// See the commit.
    Commit(CommitJob),
    /// A flush in lazy mode.
    Sync(super::commit::SyncJob),
    /// Bytes of a segment are read.
    Read(ReadJob),
    /// The checkpoint of the whole is written.
    IndexCheckpoint,
    /// The checkpoint of a segment is written.
    SegmentCheckpoint,
    /// A dropped segment is closed.
    CloseDropped(u32),
    /// A dropped segment is removed.
    Remove(u32),
    /// A segment is written anew.
    Compact(super::compact::Step),
    /// A piece of a segment is read to be verified.
    Scrub(super::scrub::ScrubRead),
    /// Blocks of a message that is being erased are read: segment and sequence.
    EraseRead(u32, u64),
    /// They are overwritten.
    EraseWrite(u32, u64),
    /// Nobody waits for it.
    Other,
}

impl Job {
    /// True when the operation uses the file of the segment.
    fn uses(&self, number: u32) -> bool {
        match self {
            Self::Create(of) | Self::Header(of) | Self::Open(of) => *of == number,
            Self::Commit(commit) => commit.segment == number,
            Self::Sync(sync) => sync.segment == number,
            Self::Read(read) => read.segment == number,
            Self::Scrub(read) => read.segment == number,
            Self::EraseRead(of, _) | Self::EraseWrite(of, _) => *of == number,
            _ => false,
        }
    }
}

/// The beginning of a new segment: header, a blank slot, and a slot that says that the log is
/// empty. So a segment without a slot is always one that lost it.
pub(super) fn encode_start(segment: &mut Segment, lazy: bool, out: &mut [u8]) {
    let block = segment.header.encode();
    for (place, byte) in out.iter_mut().zip(block) {
        *place = byte;
    }
    segment.generation = 1;
    let head = SlotHead {
        identity: segment.identity,
        generation: segment.generation,
        block: DATA_START,
        durable_to: DATA_START,
        boundary: DATA_START,
        epoch: segment.epoch,
        lazy,
    };
    if let Some(slot) = out.get_mut(SLOT_OFFSETS[1] as usize..) {
        head.encode(slot, 0);
    }
}

/// Gives the driver something to do and remembers what for.
pub(super) fn push(log: &mut Log, queue: &mut DiskQueue, op: DiskOp, job: Job) {
    let ticket = queue.push(op);
    log.jobs.push((ticket, job));
}

impl Log {
    pub(super) fn access(&self) -> Access {
        match self.options.durability {
            Durability::Flushed => Access::Direct,
            Durability::Lazy { .. } => Access::Cached,
        }
    }

    /// Prepares the next segment when it is time, and takes every segment that is needed for
    /// commits a step further.
    pub(super) fn drive_files(&mut self, now_ns: u64, queue: &mut DiskQueue) {
        if self.fenced.is_some() {
            return;
        }
        let last = self.last();
        if self.prepared.is_none() && last.end > last.file_len / 2 {
            let (number, file_len) = (last.number() + 1, self.next_file_len());
            self.prepared = Some(self.new_segment(number, file_len));
        }
        for number in self.commit.done.segment..=self.last().number().saturating_add(1) {
            self.drive_file(number, now_ns, queue);
        }
    }

    /// The segment of this number, be it in use or prepared.
    fn any_segment_mut(&mut self, number: u32) -> Option<&mut Segment> {
        if self.prepared.as_ref().is_some_and(|prepared| prepared.number() == number) {
            return self.prepared.as_mut();
        }
        self.segment_mut(number)
    }

    fn drive_file(&mut self, number: u32, now_ns: u64, queue: &mut DiskQueue) {
        let (access, dir) = (self.access(), self.options.dir.clone());
        let is_lazy = access == Access::Cached;
        let may_write = !self.lacks_space() || now_ns >= self.retry_at_ns;
        let Some(segment) = self.any_segment_mut(number) else { return };
        match segment.state {
            // A record turned out to need a longer file.
            FileState::Bare(file) | FileState::Open(file)
                if segment.made_len != segment.file_len =>
            {
                segment.state = FileState::Absent;
                push(self, queue, DiskOp::Close { file }, Job::Other);
                self.drive_file(number, now_ns, queue);
            }
            FileState::Absent if may_write => {
                let file = queue.name_file();
                segment.state = FileState::Making(file);
                segment.made_len = segment.file_len;
                let len = u64::from(segment.file_len);
                let op = DiskOp::Create { file, path: segment_path(&dir, number), len, access };
                push(self, queue, op, Job::Create(number));
            }
            FileState::Bare(file) if may_write => {
                segment.state = FileState::Heading(file);
                let mut bytes = AlignedBuffer::new(DATA_START as usize);
                encode_start(segment, is_lazy, bytes.as_mut_slice());
                let extents = vec![Extent { offset: 0, bytes }];
                let op = DiskOp::Commit { file, extents, sync: true };
                push(self, queue, op, Job::Header(number));
            }
            FileState::Closed => {
                self.open(number, queue);
            }
            _ => {}
        }
    }

    /// Has a closed segment opened.
    pub(super) fn open(&mut self, number: u32, queue: &mut DiskQueue) {
        let access = self.access();
        let path = segment_path(&self.options.dir, number);
        let Some(segment) = self.segment_mut(number) else { return };
        if segment.state != FileState::Closed {
            return;
        }
        let file = queue.name_file();
        segment.state = FileState::Opening(file);
        push(self, queue, DiskOp::Open { file, path, access }, Job::Open(number));
        self.close_idle(queue);
    }

    /// Closes the sealed segment that was not read for the longest time, when many are open.
    fn close_idle(&mut self, queue: &mut DiskQueue) {
        let done = self.commit.done.segment;
        let is_open = |segment: &&mut Segment| {
            segment.number() < done && matches!(segment.state, FileState::Open(_))
        };
        if self.segments.iter_mut().filter(is_open).count() < OPEN_SEALED_MAX {
            return;
        }
        let idle = self
            .segments
            .iter_mut()
            .filter(is_open)
            .filter(|segment| segment.reads == 0)
            .min_by_key(|segment| segment.used_at);
        let Some(segment) = idle else { return };
        if let FileState::Open(file) = segment.state {
            segment.state = FileState::Closed;
            push(self, queue, DiskOp::Close { file }, Job::Other);
        }
    }

    /// An operation that the log asked for has ended.
    pub fn handle_disk_done(
        &mut self,
        done: DiskDone,
        now_ns: u64,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) -> Progress {
        let mut progress = Progress::default();
        let Some(at) = self.jobs.iter().position(|(ticket, _)| *ticket == done.ticket) else {
            return progress;
        };
        let (_, job) = self.jobs.swap_remove(at);
        let was_moving = self.is_any_moving();
        match job {
            Job::Create(number) => {
                self.handle_created(number, &done.result, now_ns, &mut progress);
            }
            Job::Header(number) => {
                self.handle_header(number, &done.result, now_ns, &mut progress);
            }
            Job::Open(number) => self.handle_opened(number, &done.result, &mut progress),
            Job::Commit(commit) => {
                self.handle_commit(commit, &done.result, now_ns, &mut progress);
            }
            Job::Sync(sync) => {
                self.handle_sync(sync, &done.result, now_ns, &mut progress, queue);
            }
            Job::Read(read) => self.handle_read(read, done.result, cache, &mut progress),
            Job::IndexCheckpoint => {
                self.checkpoints.index_under_way = false;
                progress.checkpoint_failed = done.result.is_err();
            }
            Job::SegmentCheckpoint => progress.checkpoint_failed = done.result.is_err(),
            Job::CloseDropped(number) => self.handle_closed(number, queue),
            Job::Remove(number) => self.handle_removed(number, &done.result),
            Job::Scrub(read) => self.handle_scrub_read(read, done.result, queue),
            Job::Compact(step) => {
                self.handle_compaction(step, done.result, cache, queue, &mut progress);
            }
            Job::EraseRead(_, seq) => self.handle_erase_read(seq, &done.result, now_ns),
            Job::EraseWrite(_, seq) => {
                self.handle_erase_write(seq, &done.result, (now_ns, cache), &mut progress);
            }
            Job::Other => {}
        }
        self.drive_files(now_ns, queue);
        self.drive_drops(cache, queue);
        self.drive_compaction(queue);
        self.drive_erasing(cache, queue);
        self.drive_checkpoints(queue);
        // Reads of a segment wait while another file takes its place.
        progress.reads |= was_moving && !self.is_any_moving();
        progress
    }

    fn is_any_moving(&self) -> bool {
        self.compacting().is_some_and(|number| self.is_moving(number))
    }

    fn handle_created(
        &mut self,
        number: u32,
        result: &Result<DiskData, DiskError>,
        now_ns: u64,
        progress: &mut Progress,
    ) {
        let least = self.options.segment_bytes_min;
        let Some(segment) = self.any_segment_mut(number) else { return };
        let FileState::Making(file) = segment.state else { return };
        match result {
            Ok(_) => {
                segment.state = FileState::Bare(file);
                self.is_tight &= segment.made_len <= least;
                self.has_files = true;
                progress.space = self.segment_refused;
                self.segment_refused = false;
            }
            Err(DiskError::NoSpace) => {
                segment.state = FileState::Absent;
                let is_shorter = segment.shrink(least);
                self.is_tight = true;
                if is_shorter {
                    // A smaller one may find a place, and is tried at once.
                    return;
                }
                self.segment_refused = true;
                self.retry_at_ns = now_ns + self.options.retry_ns;
            }
            Err(error) => self.fence(*error, progress),
        }
    }

    fn handle_header(
        &mut self,
        number: u32,
        result: &Result<DiskData, DiskError>,
        now_ns: u64,
        progress: &mut Progress,
    ) {
        let Some(segment) = self.any_segment_mut(number) else { return };
        let FileState::Heading(file) = segment.state else { return };
        match result {
            Ok(_) => segment.state = FileState::Open(file),
            Err(DiskError::NoSpace) => {
                segment.state = FileState::Bare(file);
                self.segment_refused = true;
                self.retry_at_ns = now_ns + self.options.retry_ns;
            }
            Err(error) => self.fence(*error, progress),
        }
        if result.is_ok() && self.segment_refused {
            self.segment_refused = false;
            progress.space = true;
        }
    }

    fn handle_opened(
        &mut self,
        number: u32,
        result: &Result<DiskData, DiskError>,
        progress: &mut Progress,
    ) {
        let done = self.commit.done.segment;
        let Some(segment) = self.segment_mut(number) else { return };
        let FileState::Opening(file) = segment.state else { return };
        progress.reads = true;
        match result {
            Ok(_) => segment.state = FileState::Open(file),
            Err(error) => {
                segment.state = FileState::Closed;
                if number >= done {
                    self.fence(*error, progress);
                } else {
                    self.reads.open_failed = Some((number, *error));
                }
            }
        }
    }

    /// True while an operation of a segment's file is under way.
    pub(super) fn is_busy(&self, number: u32) -> bool {
        self.jobs.iter().any(|(_, job)| job.uses(number))
    }

    /// Takes no records any more.
    pub(super) fn fence(&mut self, error: DiskError, progress: &mut Progress) {
        if self.fenced.is_none() {
            self.fenced = Some(error);
            progress.fenced = true;
        }
    }

    /// An open file of a segment, for reading.
    pub(super) fn file_for_reading(
        &mut self,
        number: u32,
        queue: &mut DiskQueue,
    ) -> Option<FileId> {
        match self.segment(number)?.state {
            FileState::Open(file) => Some(file),
            FileState::Closed => {
                self.open(number, queue);
                None
            }
            _ => None,
        }
    }
}
