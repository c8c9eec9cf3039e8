//! Reading by location: from the tail, from the cache, or later.

use super::cache::{Cache, EXTENT_BYTES};
use super::files::{Job, push};
use super::pack;
use super::record::{self, HEAD_BYTES, Head};
use super::segment::Segment;
use super::{Location, Log, Progress, Record};
use crate::disk::{BLOCK_BYTES, DiskData, DiskError, DiskOp, DiskQueue};

/// Extents that are read ahead of a reader who begins to go forward; twice as many with each one
/// that it comes to.
const AHEAD_EXTENTS_MIN: u32 = 4;
/// Extents that are read ahead at most; fewer where the cache is small.
const AHEAD_EXTENTS_MAX: u32 = 16;
/// Readers that are told apart.
const CURSORS: usize = 4;

/// What a read brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// The record.
    Record(Record<'a>),
    /// It is being fetched: try again when [`Progress::reads`] says so.
    Pending,
    /// There is no such place in the log.
    Missing,
    /// What is there is not what was written.
    Damaged,
    /// The disk did not give it. The next try asks again.
    Failed(DiskError),
}

/// A read under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadJob {
    pub(super) segment: u32,
    extent: u32,
    /// Bytes that were asked for, and are there.
    len: usize,
}

/// A reader that goes forward.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    segment: u32,
    extent: u32,
    /// Extents that are read ahead of it.
    ahead: u32,
}

/// What the log knows about its readers.
#[derive(Debug, Default)]
pub(super) struct ReadState {
    clock: u64,
    cursors: [Cursor; CURSORS],
    next_cursor: usize,
    /// Reads that failed and were not yet told.
    failed: Vec<(ReadJob, DiskError)>,
    /// A file that could not be opened, not yet told.
    pub(super) open_failed: Option<(u32, DiskError)>,
}

impl Log {
    /// The record at `location`; its length may be 0 when it is not known.
    pub fn read<'a>(
        &'a mut self,
        location: Location,
        cache: &'a mut Cache,
        queue: &mut DiskQueue,
    ) -> Read<'a> {
        if self.tail.find(location.segment, location.offset).is_some() {
            return self.read_tail(location);
        }
        let (identity, binding) = match self.segment(location.segment) {
            Some(segment) if location.offset < segment.end => (segment.identity, segment.binding),
            _ => return Read::Missing,
        };
        self.follow(location, cache, queue);
        let mut len = location.len.max(HEAD_BYTES as u32);
        if cache.missing(identity, location.offset, len).is_some() {
            return self.fetch(location, len, cache, queue);
        }
        if location.len == 0 {
            let head = cache.slice(identity, location.offset, len);
            match head.and_then(|bytes| Head::parse(bytes, binding, location.offset)) {
                Some(head) => len = u32::try_from(head.len).unwrap_or(u32::MAX),
                None => {
                    cache.forget(identity, location.offset, len);
                    self.meet_damage(location.segment);
                    return Read::Damaged;
                }
            }
            if cache.missing(identity, location.offset, len).is_some() {
                return self.fetch(location, len, cache, queue);
            }
        }
        let is_whole = cache
            .slice(identity, location.offset, len)
            .is_some_and(|bytes| record::verify(bytes, binding, location.offset).is_ok());
        if !is_whole {
            cache.forget(identity, location.offset, len);
            self.meet_damage(location.segment);
            return Read::Damaged;
        }
        let key = self.segment(location.segment).and_then(|segment| segment.key.clone());
        let scratch = &mut self.scratch;
        let bytes = cache.slice(identity, location.offset, len);
        let raw = bytes.and_then(record::trust);
        match raw.map(|raw| pack::decode(&raw, location.offset, key.as_deref(), scratch)) {
            Some(Ok(record)) => Read::Record(record),
            _ => Read::Damaged,
        }
    }

    fn read_tail(&mut self, location: Location) -> Read<'_> {
        let key = self.segment(location.segment).and_then(|segment| segment.key.clone());
        let bytes = self.tail.find(location.segment, location.offset);
        let Some(raw) = bytes.and_then(record::trust) else { return Read::Damaged };
        pack::decode(&raw, location.offset, key.as_deref(), &mut self.scratch)
            .map_or(Read::Damaged, Read::Record)
    }

    /// Where a segment may be read up to: what lies behind is not in its place yet.
    fn read_limit(&self, segment: &Segment) -> u32 {
        let done = self.commit.done;
        if segment.number() < done.segment {
            segment.file_len
        } else if segment.number() == done.segment {
            done.offset - done.offset % BLOCK_BYTES as u32
        } else {
            0
        }
    }

    /// Asks for what is missing of a record of `len` bytes.
    fn fetch(
        &mut self,
        location: Location,
        len: u32,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) -> Read<'static> {
        let number = location.segment;
        if let Some((_, error)) = self.reads.open_failed.take_if(|(failed, _)| *failed == number) {
            return Read::Failed(error);
        }
        let Some(identity) = self.segment(number).map(|segment| segment.identity) else {
            return Read::Missing;
        };
        cache.expect(len);
        let (mut offset, end) = (location.offset, location.offset.saturating_add(len));
        while let Some(extent) = cache.missing(identity, offset, end - offset) {
            let is_this = |job: &ReadJob| job.segment == number && job.extent == extent;
            if let Some(at) = self.reads.failed.iter().position(|(job, _)| is_this(job)) {
                let (_, error) = self.reads.failed.swap_remove(at);
                return Read::Failed(error);
            }
            if !self.request(number, extent, queue) {
                return Read::Damaged;
            }
            offset = (extent + 1).saturating_mul(EXTENT_BYTES);
            if offset >= end {
                break;
            }
        }
        Read::Pending
    }

    /// Queues the read of an extent unless it is under way; false when it lies behind what can be
    /// read.
    fn request(&mut self, number: u32, extent: u32, queue: &mut DiskQueue) -> bool {
        if self.is_moving(number) {
            return true;
        }
        let is_under_way = self.jobs.iter().any(|(_, job)| {
            matches!(job, Job::Read(read) if read.segment == number && read.extent == extent)
        });
        if is_under_way {
            return true;
        }
        let Some(segment) = self.segment(number) else { return false };
        let limit = self.read_limit(segment);
        let offset = u64::from(extent) * u64::from(EXTENT_BYTES);
        let len = u64::from(limit).saturating_sub(offset).min(u64::from(EXTENT_BYTES)) as usize;
        if len == 0 {
            return false;
        }
        let Some(file) = self.file_for_reading(number, queue) else { return true };
        self.reads.clock += 1;
        let clock = self.reads.clock;
        if let Some(segment) = self.segment_mut(number) {
            segment.reads += 1;
            segment.used_at = clock;
        }
        let op = DiskOp::Read { file, offset, len };
        push(self, queue, op, Job::Read(ReadJob { segment: number, extent, len }));
        true
    }

    /// Notices a reader who goes forward, and reads ahead of it.
    fn follow(&mut self, location: Location, cache: &Cache, queue: &mut DiskQueue) {
        let (number, extent) = (location.segment, location.offset / EXTENT_BYTES);
        let is_known = |cursor: &Cursor| cursor.segment == number && cursor.extent == extent;
        if self.reads.cursors.iter().any(is_known) {
            return;
        }
        let at = self.segment_at(number);
        let before = at.and_then(|at| at.checked_sub(1)).and_then(|at| self.segments.get(at));
        let before = before.filter(|_| extent == 0).map(Segment::number);
        let reads = &mut self.reads;
        let here = |cursor: &&mut Cursor| {
            let is_here = cursor.segment == number
                && extent >= cursor.extent
                && extent - cursor.extent <= cursor.ahead;
            is_here || Some(cursor.segment) == before
        };
        let ahead = match reads.cursors.iter_mut().find(here) {
            Some(cursor) => {
                let ahead = (cursor.ahead * 2).min(AHEAD_EXTENTS_MAX);
                *cursor = Cursor { segment: number, extent, ahead };
                ahead
            }
            None => {
                let at = reads.next_cursor % CURSORS;
                reads.cursors[at] = Cursor { segment: number, extent, ahead: AHEAD_EXTENTS_MIN };
                reads.next_cursor = at + 1;
                // Whoever begins at the first extent of a segment is likely to go on.
                if extent > 0 {
                    return;
                }
                AHEAD_EXTENTS_MIN
            }
        };
        self.read_ahead(at, extent, ahead, cache, queue);
    }

    /// Asks for an extent of the segment at a place and for those behind it, also in the segment
    /// that follows.
    fn read_ahead(
        &mut self,
        at: Option<usize>,
        extent: u32,
        count: u32,
        cache: &Cache,
        queue: &mut DiskQueue,
    ) {
        let (mut at, mut extent) = (at.unwrap_or(usize::MAX), extent);
        for _ in 0..=count.min(cache.ahead_max()) {
            let Some(segment) = self.segments.get(at) else { return };
            let (number, identity) = (segment.number(), segment.identity);
            let start = extent.saturating_mul(EXTENT_BYTES);
            if start >= segment.end {
                (at, extent) = (at + 1, 0);
                continue;
            }
            if cache.missing(identity, start, 1).is_some() {
                self.request(number, extent, queue);
            }
            extent += 1;
        }
    }

    pub(super) fn handle_read(
        &mut self,
        job: ReadJob,
        result: Result<DiskData, DiskError>,
        cache: &mut Cache,
        progress: &mut Progress,
    ) {
        let Some(segment) = self.segment_mut(job.segment) else { return };
        segment.reads = segment.reads.saturating_sub(1);
        let identity = segment.identity;
        progress.reads = true;
        match result {
            Ok(DiskData::Bytes(buffer)) if buffer.len() >= job.len => {
                cache.insert(identity, job.extent, buffer);
            }
            // The file ends where it should not.
            Ok(_) => self.reads.failed.push((job, DiskError::NotFound)),
            Err(error) => self.reads.failed.push((job, error)),
        }
        if self.reads.failed.len() > 64 {
            self.reads.failed.remove(0);
        }
    }
}
