//! Group commit: what was appended goes to its blocks and to a tail slot with one flush.

use super::files::{Job, push};
use super::header::{DATA_START, SLOT_BYTES, SLOT_OFFSETS, SlotHead};
use super::record::claimed_len;
use super::{COMMIT_BYTES_MAX, Durability, Log, Position, Progress};
use crate::disk::{AlignedBuffer, BLOCK_BYTES, DiskData, DiskError, DiskOp, DiskQueue, Extent};

const BLOCK: u32 = BLOCK_BYTES as u32;

/// How far commits are.
#[derive(Debug)]
pub(super) struct CommitState {
    /// Everything before is durable.
    pub(super) done: Position,
    /// End of the last whole record at or before `done`, in its segment.
    pub(super) boundary: u32,
    /// The newest slot says that everything up to `done` was flushed.
    pub(super) settled: bool,
    /// When the tail is to be written again.
    pub(super) settle_at_ns: Option<u64>,
    /// In lazy mode: when to flush.
    pub(super) sync_at_ns: Option<u64>,
    /// In lazy mode: a flush is under way.
    pub(super) syncing: bool,
    /// In lazy mode: was flushed, and a slot is to say so.
    flushed: Option<SyncJob>,
    /// In lazy mode: everything before is flushed.
    flushed_to: Position,
    /// So many slots are still to be written at full length, over what they had before.
    pub(super) slots_to_clear: u8,
}

impl CommitState {
    pub(super) const fn new(done: Position) -> Self {
        Self {
            done,
            boundary: done.offset,
            settled: true,
            settle_at_ns: None,
            sync_at_ns: None,
            syncing: false,
            flushed: None,
            flushed_to: done,
            slots_to_clear: 0,
        }
    }
}

/// Whether a commit is under way. There is one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Idle,
    Busy,
}

/// A commit under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommitJob {
    pub(super) segment: u32,
    to: u32,
    boundary: u32,
    /// A slot was written: this is its generation.
    generation: Option<u64>,
    /// The slot says that everything is flushed.
    settles: bool,
    /// The slot is written at full length.
    clears: bool,
}

/// A flush in lazy mode.
#[derive(Debug)]
pub(super) struct SyncJob {
    pub(super) segment: u32,
    to: u32,
    boundary: u32,
    /// The bytes of the unfinished block.
    partial: Vec<u8>,
}

const fn block_of(offset: u32) -> u32 {
    offset - offset % BLOCK
}

impl Log {
    /// Starts a commit of what was appended, unless one is under way. True when it did.
    pub fn commit(&mut self, now_ns: u64, queue: &mut DiskQueue) -> bool {
        self.drive_files(now_ns, queue);
        self.drive_checkpoints(queue);
        let waits = self.commit_refused && now_ns < self.retry_at_ns;
        if self.lane == Lane::Busy || self.fenced.is_some() || waits {
            return false;
        }
        self.enter_next_segment();
        if let Some(sync) = self.commit.flushed.take() {
            let to = Position { segment: sync.segment, offset: sync.to };
            if self.write_slot(to, sync.boundary, &sync.partial, queue) {
                return true;
            }
        }
        let done = self.commit.done;
        let Some(segment) = self.segment(done.segment) else { return false };
        let Some(file) = segment.open_file() else { return false };
        if segment.end == done.offset {
            return false;
        }
        let Some((op, job)) = self.build_commit(file, done) else { return false };
        self.lane = Lane::Busy;
        push(self, queue, op, Job::Commit(job));
        true
    }

    /// Leaves a segment that is written to its end.
    fn enter_next_segment(&mut self) {
        let done = self.commit.done;
        let is_full = self
            .segment(done.segment)
            .is_some_and(|segment| segment.sealed && segment.end == done.offset);
        if !is_full {
            return;
        }
        if let Some(next) = self.segment_at(done.segment).and_then(|at| self.segments.get(at + 1)) {
            self.commit = CommitState {
                sync_at_ns: self.commit.sync_at_ns,
                ..CommitState::new(Position { segment: next.number(), offset: DATA_START })
            };
        }
    }

    fn build_commit(
        &self,
        file: crate::disk::FileId,
        done: Position,
    ) -> Option<(DiskOp, CommitJob)> {
        let segment = self.segment(done.segment)?;
        let from = block_of(done.offset);
        let to = segment.end.min(from.saturating_add(COMMIT_BYTES_MAX));
        let ends_segment = segment.sealed && to == segment.end;
        let is_lazy = self.options.durability != Durability::Flushed;
        let in_place_to = if ends_segment || is_lazy { to } else { block_of(to) };
        let mut extents = Vec::with_capacity(2);
        if in_place_to > from {
            let len = (in_place_to - from) as usize;
            let mut bytes = AlignedBuffer::new(len.next_multiple_of(BLOCK_BYTES));
            let place = bytes.as_mut_slice().get_mut(..len)?;
            if !self.tail.copy(done.segment, from, place) {
                return None;
            }
            extents.push(Extent { offset: u64::from(from), bytes });
        }
        let boundary = self.boundary_before(to);
        let generation = (!ends_segment && !is_lazy).then_some(segment.generation + 1);
        if let Some(generation) = generation {
            let len = (to - in_place_to) as usize;
            let mut bytes = AlignedBuffer::new(self.slot_len(len));
            let place = SlotHead::body_mut(bytes.as_mut_slice()).get_mut(..len)?;
            if !self.tail.copy(done.segment, in_place_to, place) {
                return None;
            }
            let durable_to = self.commit.boundary;
            extents.push(self.slot(
                done.segment,
                generation,
                (in_place_to, len),
                (durable_to, boundary),
                bytes,
            )?);
        }
        let sync = !is_lazy || ends_segment;
        let segment = done.segment;
        let clears = self.commit.slots_to_clear > 0;
        let job = CommitJob { segment, to, boundary, generation, settles: false, clears };
        Some((DiskOp::Commit { file, extents, sync }, job))
    }

    /// Completes a slot whose bytes are in the buffer already.
    fn slot(
        &self,
        segment: u32,
        generation: u64,
        (block, len): (u32, usize),
        (durable_to, boundary): (u32, u32),
        mut bytes: AlignedBuffer,
    ) -> Option<Extent> {
        let segment = self.segment(segment)?;
        let head = SlotHead {
            identity: segment.identity,
            generation,
            block,
            durable_to,
            boundary,
            epoch: segment.epoch,
            lazy: self.options.durability != Durability::Flushed,
        };
        head.encode(bytes.as_mut_slice(), len);
        let offset = SLOT_OFFSETS[(generation & 1) as usize];
        Some(Extent { offset: u64::from(offset), bytes })
    }

    /// The end of the last whole record that ends at or before `to`, in the segment of commits.
    fn boundary_before(&self, to: u32) -> u32 {
        let number = self.commit.done.segment;
        if self.segment(number).is_some_and(|segment| segment.end == to) {
            return to;
        }
        let mut boundary = self.commit.boundary;
        while let Some(len) = self.tail.find(number, boundary).and_then(claimed_len) {
            match boundary.checked_add(len as u32) {
                Some(next) if next <= to && len > 0 => boundary = next,
                _ => break,
            }
        }
        boundary
    }

    pub(super) fn handle_commit(
        &mut self,
        job: CommitJob,
        result: &Result<DiskData, DiskError>,
        now_ns: u64,
        progress: &mut Progress,
    ) {
        self.lane = Lane::Idle;
        match result {
            Ok(_) => {}
            Err(DiskError::NoSpace) => {
                self.commit_refused = true;
                self.retry_at_ns = now_ns + self.options.retry_ns;
                if job.settles {
                    // No commit is left that would plan it again.
                    self.settle_at(self.retry_at_ns);
                }
                return;
            }
            Err(error) => return self.fence(*error, progress),
        }
        if self.commit_refused {
            self.commit_refused = false;
            progress.space = true;
        }
        let to = Position { segment: job.segment, offset: job.to };
        if to > self.commit.done {
            self.commit.done = to;
            self.commit.boundary = job.boundary;
            self.commit.settled = false;
            progress.durable = true;
        }
        if job.generation.is_some() {
            // A slot is written with a flush in every mode.
            self.commit.flushed_to = self.commit.flushed_to.max(to);
        }
        if let (Some(generation), Some(segment)) = (job.generation, self.segment_mut(job.segment)) {
            segment.generation = generation;
        }
        if job.settles && to == self.commit.done {
            self.commit.settled = true;
            self.tail.rest();
        }
        if job.clears && job.generation.is_some() {
            self.commit.slots_to_clear = self.commit.slots_to_clear.saturating_sub(1);
        }
        self.plan_flushes(now_ns);
        if self.commit.slots_to_clear > 0 {
            self.hurry();
        }
        self.enter_next_segment();
        let done = self.commit.done;
        self.tail.trim(done.segment, block_of(done.offset), self.options.tail_bytes_max);
    }

    /// Bytes of a slot with `len` bytes of a block.
    fn slot_len(&self, len: usize) -> usize {
        if self.commit.slots_to_clear > 0 { SLOT_BYTES } else { SlotHead::encoded_len(len) }
    }

    /// Both slots are written anew, so that nothing is left of what they had.
    pub(super) fn clear_slots(&mut self) {
        self.commit.slots_to_clear = 2;
        self.hurry();
    }

    /// Has the next slot written soon.
    fn hurry(&mut self) {
        self.commit.settled = false;
        self.settle_at(0);
    }

    /// Has a slot written at a time, or before it.
    fn settle_at(&mut self, at_ns: u64) {
        let planned_ns = match self.options.durability {
            Durability::Flushed => &mut self.commit.settle_at_ns,
            Durability::Lazy { .. } => &mut self.commit.sync_at_ns,
        };
        *planned_ns = Some(planned_ns.map_or(at_ns, |planned| planned.min(at_ns)));
    }

    /// Decides when the tail is written again, or flushed.
    fn plan_flushes(&mut self, now_ns: u64) {
        self.commit.settle_at_ns = None;
        if self.commit.settled {
            return;
        }
        match self.options.durability {
            Durability::Flushed => {
                self.commit.settle_at_ns = Some(now_ns + self.options.settle_ns);
            }
            Durability::Lazy { interval_ns } => {
                if self.commit.sync_at_ns.is_none() && !self.commit.syncing {
                    self.commit.sync_at_ns = Some(now_ns + interval_ns);
                }
            }
        }
    }

    /// When [`Self::handle_timers`] is to be called, on the clock of the calls before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let retry = self.lacks_space().then_some(self.retry_at_ns);
        let erase = self.erase_at_ns.filter(|_| self.fenced.is_none());
        let twins = self.twins.is_due().then_some(0);
        [retry, erase, twins, self.commit_deadline()].into_iter().flatten().min()
    }

    fn commit_deadline(&self) -> Option<u64> {
        if self.fenced.is_some() {
            return None;
        }
        // While a commit is under way its completion plans anew.
        let settle = self.commit.settle_at_ns.filter(|_| self.lane == Lane::Idle);
        let sync = self.commit.sync_at_ns.filter(|_| !self.commit.syncing);
        settle.into_iter().chain(sync).min()
    }

    /// Does what is due: flushes, another try when the disk was full.
    pub fn handle_timers(&mut self, now_ns: u64, cache: &mut super::Cache, queue: &mut DiskQueue) {
        if self.lacks_space() && now_ns >= self.retry_at_ns {
            self.commit(now_ns, queue);
        }
        if self.commit.settle_at_ns.is_some_and(|at| at <= now_ns) {
            self.settle(now_ns, queue);
        }
        if self.commit.sync_at_ns.is_some_and(|at| at <= now_ns) {
            self.sync(queue);
        }
        self.drive_drops(cache, queue);
        self.drive_compaction(queue);
        self.go_on_erasing(now_ns, cache, queue);
    }

    /// Makes everything as safe as it can be: for the timers and for a clean stop. To be called
    /// again after completions until [`Self::is_settled`] says so.
    pub fn settle(&mut self, now_ns: u64, queue: &mut DiskQueue) {
        let began = self.commit(now_ns, queue);
        if began || self.lane == Lane::Busy || self.fenced.is_some() {
            return;
        }
        if self.commit_refused && now_ns < self.retry_at_ns {
            let retry_at_ns = self.retry_at_ns;
            self.commit.settle_at_ns = self.commit.settle_at_ns.map(|at| at.max(retry_at_ns));
            return;
        }
        self.commit.settle_at_ns = None;
        if self.commit.settled || self.commit.done != self.end() {
            return;
        }
        if self.options.durability != Durability::Flushed {
            return self.sync(queue);
        }
        let (done, boundary) = (self.commit.done, self.commit.boundary);
        let block = block_of(done.offset);
        let mut partial = vec![0; (done.offset - block) as usize];
        if self.tail.copy(done.segment, block, &mut partial) {
            self.write_slot(done, boundary, &partial, queue);
        }
    }

    /// Everything before is on the device, whatever the durability is: what follows from it may
    /// be done to other files.
    pub(super) fn flushed(&self) -> Position {
        match self.options.durability {
            Durability::Flushed => self.commit.done,
            Durability::Lazy { .. } => self.commit.flushed_to,
        }
    }

    /// Before a clean stop: what found no space is tried once more.
    pub fn begin_stop(&mut self) {
        self.retry_at_ns = 0;
        self.erase_at_ns = self.erase_at_ns.map(|_| 0);
    }

    /// True when nothing is under way and nothing goes on without space. Nobody was told that what
    /// is not durable then is kept.
    #[must_use]
    pub fn waits_for_space(&self) -> bool {
        self.lacks_space() && self.jobs.is_empty()
    }

    /// True when no message is being erased, or none can be without space.
    #[must_use]
    pub fn rests_erasing(&self) -> bool {
        self.erasing.is_empty() || self.jobs.is_empty()
    }

    /// True when everything that was appended is flushed and the disk says so.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.lane == Lane::Idle && self.commit.settled && self.commit.done == self.end()
    }

    /// Writes a slot that says that everything up to `to` is flushed.
    fn write_slot(
        &mut self,
        to: Position,
        boundary: u32,
        partial: &[u8],
        queue: &mut DiskQueue,
    ) -> bool {
        let Some(segment) = self.segment(to.segment) else { return false };
        let Some(file) = segment.open_file() else { return false };
        let generation = segment.generation + 1;
        let mut bytes = AlignedBuffer::new(self.slot_len(partial.len()));
        if let Some(place) = SlotHead::body_mut(bytes.as_mut_slice()).get_mut(..partial.len()) {
            place.copy_from_slice(partial);
        }
        let block = block_of(to.offset);
        let part = (block, partial.len());
        let slot = self.slot(to.segment, generation, part, (boundary, boundary), bytes);
        let Some(slot) = slot else { return false };
        let job = CommitJob {
            segment: to.segment,
            to: to.offset,
            boundary,
            generation: Some(generation),
            settles: true,
            clears: self.commit.slots_to_clear > 0,
        };
        self.lane = Lane::Busy;
        let op = DiskOp::Commit { file, extents: vec![slot], sync: true };
        push(self, queue, op, Job::Commit(job));
        true
    }

    /// In lazy mode: flushes what was committed.
    fn sync(&mut self, queue: &mut DiskQueue) {
        if self.commit.syncing || self.fenced.is_some() {
            return;
        }
        self.commit.sync_at_ns = None;
        let (done, boundary) = (self.commit.done, self.commit.boundary);
        let block = block_of(done.offset);
        let mut partial = vec![0; (done.offset - block) as usize];
        let file = self.segment(done.segment).and_then(super::Segment::open_file);
        let (Some(file), true) = (file, self.tail.copy(done.segment, block, &mut partial)) else {
            return;
        };
        self.commit.syncing = true;
        let sync = SyncJob { segment: done.segment, to: done.offset, boundary, partial };
        push(self, queue, DiskOp::Sync { file }, Job::Sync(sync));
    }

    pub(super) fn handle_sync(
        &mut self,
        sync: SyncJob,
        result: &Result<DiskData, DiskError>,
        now_ns: u64,
        progress: &mut Progress,
        queue: &mut DiskQueue,
    ) {
        self.commit.syncing = false;
        if let Err(error) = result {
            // What was lost between cache and device is not known, whatever the reason was.
            return self.fence(*error, progress);
        }
        let to = Position { segment: sync.segment, offset: sync.to };
        self.commit.flushed_to = self.commit.flushed_to.max(to);
        if sync.segment == self.commit.done.segment {
            self.commit.flushed = Some(sync);
        }
        self.plan_flushes(now_ns);
        self.commit(now_ns, queue);
    }
}
