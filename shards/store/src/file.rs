//! The log beneath a store in files, and what the store must know beside it: which segments are
//! still needed, what waits to be written as removed, and which messages are safe.
//!
//! A segment goes when none of its messages is left. It may hold the only record that a message
//! of an older segment was removed; that is written again first, so that the message does not
//! come back at the next start.

use crate::disk::{DiskDone, DiskError, DiskQueue};
use crate::index::Index;
use crate::index::image::put_u64;
use crate::index::sequences::Sequences;
use crate::log::{self, Cache, Location, Log, Ranges, Record};
use crate::message::AppendError;
use crate::scrub::Plan;
use crate::store::{Position, Progress};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A checkpoint is written after this many bytes at the latest that a start would have to read,
const CHECKPOINT_BYTES_MIN: u64 = 128 << 20;
/// or this many times the bytes of the last checkpoint, if that is more.
const CHECKPOINT_FACTOR: u64 = 4;
/// At a clean stop no checkpoint is written for less than this.
const STOP_BYTES_MIN: u64 = 1 << 20;
/// A purge ends a segment that has this many bytes, so that they are given back.
const SEAL_BYTES_MIN: u32 = 4 << 20;
/// Ranges in one record of removals.
const RANGES_MAX: usize = 1 << 16;

/// The mark that says when the last message was stored: eight bytes, ns since 1970.
pub(crate) const LAST_TIME: u64 = 1;
/// The note about messages that damage took: a count, then first and last of each range.
pub(crate) const LOST_KEY: &[u8] = b"\0lost";

/// What is known of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentUse {
    /// Messages that are there.
    pub(crate) live: u64,
    /// Bytes of subject, headers and payload of those that are there, and of all that ever were.
    pub(crate) live_bytes: u64,
    pub(crate) all_bytes: u64,
    /// Bytes of records of all messages that ever were there.
    pub(crate) record_bytes: u64,
    /// The first message that was ever there, and the last.
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// Older segments of which it says that messages were removed.
    pub(crate) removes_from: BTreeSet<u32>,
}

/// The log of a store and its upkeep.
#[derive(Debug)]
pub(crate) struct FileLog {
    pub(crate) log: Log,
    pub(crate) uses: BTreeMap<u32, SegmentUse>,
    /// Removed, but not yet written as removed; and where those messages lie.
    removed: Vec<(u64, u64)>,
    removed_from: BTreeSet<u32>,
    /// Messages that are not safe yet: the end of the record, and its number.
    unsafe_seqs: VecDeque<(u64, u64)>,
    durable_seq: u64,
    /// Segments may have become useless.
    pub(crate) is_dirty: bool,
    newest_segment: u32,
    /// Bytes of records since the last checkpoint, and the size of that.
    bytes_since_checkpoint: u64,
    checkpoint_bytes: u64,
    checkpoint_bytes_min: u64,
    /// The segment with the newest record of when the last message was stored.
    pub(crate) mark_segment: Option<u32>,
    /// Sealed segments up to this have a checkpoint.
    checkpointed_segment: u32,
    /// Messages that damage took.
    pub(crate) lost: Vec<(u64, u64)>,
    /// Those of which the log has a note.
    pub(crate) lost_noted: Vec<(u64, u64)>,
    /// Some segment may be worth to be written anew.
    pub(crate) may_compact: bool,
    /// When another try to write one anew is worth while, monotonic ns.
    pub(crate) compact_at_ns: Option<u64>,
    /// Removals in segments before this one are of messages that a segment being written anew
    /// does not have any more.
    pub(crate) compacted_before: u32,
    /// Sealed segments that were written anew since the last checkpoint.
    pub(crate) rewritten: BTreeSet<u32>,
    pub(crate) scrub: Plan,
    /// A clean stop has begun.
    pub(crate) is_stopping: bool,
}

/// A place in the log as one number.
pub(crate) const fn pack(segment: u32, offset: u32) -> u64 {
    (segment as u64) << 32 | offset as u64
}

pub(crate) const fn location(packed: u64) -> Location {
    Location { segment: (packed >> 32) as u32, offset: packed as u32, len: 0 }
}

fn refusal(error: log::AppendError) -> AppendError {
    match error {
        log::AppendError::Fenced(_) => AppendError::Fenced,
        log::AppendError::NoSpace => AppendError::NoSpace,
        log::AppendError::Busy => AppendError::Busy,
        log::AppendError::TooLarge => AppendError::TooLarge,
    }
}

impl FileLog {
    pub(crate) fn new(log: Log, durable_seq: u64) -> Self {
        let newest_segment = log.end().segment;
        Self {
            log,
            uses: BTreeMap::new(),
            removed: Vec::new(),
            removed_from: BTreeSet::new(),
            unsafe_seqs: VecDeque::new(),
            durable_seq,
            is_dirty: true,
            newest_segment,
            bytes_since_checkpoint: 0,
            checkpoint_bytes: 0,
            checkpoint_bytes_min: CHECKPOINT_BYTES_MIN,
            mark_segment: None,
            checkpointed_segment: 0,
            lost: Vec::new(),
            lost_noted: Vec::new(),
            may_compact: true,
            compact_at_ns: None,
            compacted_before: 0,
            rewritten: BTreeSet::new(),
            scrub: Plan::default(),
            is_stopping: false,
        }
    }

    /// Sets what a recovery had to read, so that the next start need not.
    pub(crate) const fn set_bytes_since_checkpoint(&mut self, bytes: u64) {
        self.bytes_since_checkpoint = bytes;
    }

    pub(crate) const fn set_checkpoint_bytes_min(&mut self, bytes: u64) {
        self.checkpoint_bytes_min = bytes;
    }

    fn append(&mut self, record: &Record<'_>) -> Result<Location, AppendError> {
        let location = self.log.append(record).map_err(refusal)?;
        self.bytes_since_checkpoint += u64::from(location.len);
        if location.segment != self.newest_segment {
            self.newest_segment = location.segment;
            self.is_dirty = true;
        }
        Ok(location)
    }

    /// Appends a message; where it lies.
    pub(crate) fn append_message(&mut self, message: log::Message<'_>) -> Result<u64, AppendError> {
        let seq = message.seq;
        let bytes = message.subject.len() + message.headers.len() + message.payload.len();
        let location = self.append(&Record::Message(message))?;
        enter(&mut self.uses, location, seq, bytes as u64);
        self.wait_for(location, seq);
        Ok(pack(location.segment, location.offset))
    }

    fn wait_for(&mut self, location: Location, seq: u64) {
        let end = location.end();
        self.unsafe_seqs.push_back((pack(end.segment, end.offset), seq));
    }

    /// Says that numbers from `first` to `last` have no messages.
    pub(crate) fn append_skip(&mut self, first: u64, last: u64) -> Result<(), AppendError> {
        let location = self.append(&Record::Skip { first_seq: first, last_seq: last })?;
        self.wait_for(location, last);
        Ok(())
    }

    /// Makes sure that records of so many bytes go into one segment.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.log.reserve(bytes);
    }

    /// A message was taken out of the index. It is written as removed with the next commit.
    pub(crate) fn handle_removed(&mut self, seq: u64, packed: u64, bytes: u32, is_written: bool) {
        let segment = location(packed).segment;
        leave(&mut self.uses, segment, bytes, &mut self.is_dirty);
        if is_written {
            return;
        }
        self.removed_from.insert(segment);
        match self.removed.last_mut() {
            Some((_, last)) if *last + 1 == seq => *last = seq,
            Some((first, _)) if seq + 1 == *first => *first = seq,
            _ => self.removed.push((seq, seq)),
        }
        if self.removed.len() >= RANGES_MAX {
            self.write_removed();
        }
    }

    /// Whether records of so many bytes can be appended beside what waits to be written.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        let removed = size_of_val(self.removed.as_slice());
        self.log.admits(bytes + removed + log::OVERHEAD_BYTES)
    }

    /// Writes what was removed. False when that must be tried again.
    pub(crate) fn write_removed(&mut self) -> bool {
        if self.removed.is_empty() {
            return true;
        }
        let removed = std::mem::take(&mut self.removed);
        let record = Record::Delete { ranges: Ranges::List(&removed), erased: false };
        match self.append(&record) {
            Ok(location) => {
                let from = std::mem::take(&mut self.removed_from);
                self.note_removals(location.segment, from);
                true
            }
            Err(_) => {
                self.removed = removed;
                false
            }
        }
    }

    fn note_removals(&mut self, segment: u32, from: BTreeSet<u32>) {
        let older = from.into_iter().filter(|&other| other != segment);
        self.uses.entry(segment).or_default().removes_from.extend(older);
    }

    /// Says that one message was removed and that its bytes are to go.
    pub(crate) fn append_erased(
        &mut self,
        seq: u64,
        ts_ns: i64,
        packed: u64,
    ) -> Result<(), AppendError> {
        let ranges = [(seq, seq)];
        let record = Record::Delete { ranges: Ranges::List(&ranges), erased: true };
        let place = self.append(&record)?;
        self.note_removals(place.segment, BTreeSet::from([location(packed).segment]));
        self.log.erase(location(packed), seq, ts_ns);
        Ok(())
    }

    /// Says that everything below `below_seq` was removed.
    pub(crate) fn append_purge(&mut self, below_seq: u64) -> Result<(), AppendError> {
        let location = self.append(&Record::Purge { below_seq })?;
        let below = |(_, u): &(&u32, &SegmentUse)| u.last_seq > 0 && u.first_seq < below_seq;
        let from = self.uses.iter().filter(below).map(|(&number, _)| number).collect();
        self.note_removals(location.segment, from);
        self.lost.retain(|&(_, last)| last >= below_seq);
        self.note_lost();
        Ok(())
    }

    /// Writes down which messages damage took, where that changed: recovery mends what it can, and
    /// then nothing else in the log tells any more that something was there. What cannot be
    /// written is tried again when it changes, or at the next start that finds it.
    pub(crate) fn note_lost(&mut self) {
        if self.lost == self.lost_noted {
            return;
        }
        let mut value = Vec::with_capacity(8 + self.lost.len() * 16);
        put_u64(&mut value, self.lost.len() as u64);
        for &(first, last) in &self.lost {
            put_u64(&mut value, first);
            put_u64(&mut value, last);
        }
        let is_written = if self.lost.is_empty() {
            self.append(&Record::NoteRemove { key: LOST_KEY }).is_ok()
        } else {
            self.append(&Record::NotePut { key: LOST_KEY, value: &value }).is_ok()
        };
        if is_written {
            self.lost_noted.clone_from(&self.lost);
        }
    }

    /// All messages were taken out of the index, and that is written.
    pub(crate) fn handle_cleared(&mut self) {
        for used in self.uses.values_mut() {
            (used.live, used.live_bytes) = (0, 0);
        }
        self.removed.clear();
        self.removed_from.clear();
        self.lost.clear();
        self.is_dirty = true;
        if self.log.end().offset >= SEAL_BYTES_MIN {
            // Otherwise what is in the last segment would stay until that is full.
            self.log.seal();
        }
    }

    /// Whether damage took a message.
    pub(crate) fn is_lost(&self, seq: u64) -> bool {
        let at = self.lost.partition_point(|&(_, last)| last < seq);
        self.lost.get(at).is_some_and(|&(first, _)| first <= seq)
    }

    /// A position behind everything written so far.
    pub(crate) fn position(&mut self) -> Position {
        if self.write_removed() { self.end() } else { Position::NEVER }
    }

    pub(crate) fn end(&self) -> Position {
        let end = self.log.end();
        Position(pack(end.segment, end.offset))
    }

    pub(crate) fn append_note(&mut self, record: &Record<'_>) -> Position {
        match self.append(record) {
            Ok(location) => {
                let end = location.end();
                Position(pack(end.segment, end.offset))
            }
            Err(_) => Position::NEVER,
        }
    }

    fn durable(&self) -> u64 {
        let durable = self.log.durable();
        pack(durable.segment, durable.offset)
    }

    pub(crate) fn is_durable(&self, position: Position) -> bool {
        position.0 <= self.durable()
    }

    pub(crate) const fn durable_seq(&self) -> u64 {
        self.durable_seq
    }

    pub(crate) fn commit(&mut self, now_ns: u64, queue: &mut DiskQueue) -> bool {
        self.write_removed();
        self.log.commit(now_ns, queue)
    }

    pub(crate) fn handle_disk_done(
        &mut self,
        done: DiskDone,
        now_ns: u64,
        cache: &mut Cache,
        queue: &mut DiskQueue,
    ) -> Progress {
        let progress = self.log.handle_disk_done(done, now_ns, cache, queue);
        self.may_compact |= progress.durable;
        if progress.durable {
            let durable = self.durable();
            while let Some(&(end, seq)) = self.unsafe_seqs.front() {
                if end > durable {
                    break;
                }
                self.durable_seq = self.durable_seq.max(seq);
                self.unsafe_seqs.pop_front();
            }
        }
        Progress {
            is_more_durable: progress.durable,
            are_reads_ready: progress.reads,
            has_space_again: progress.space,
            failed: if progress.fenced { self.log.fenced() } else { None },
        }
    }

    /// Lets segments go that nobody needs.
    pub(crate) fn drop_useless(&mut self, index: &Index, cache: &mut Cache, queue: &mut DiskQueue) {
        let seqs = index.seqs();
        if !std::mem::take(&mut self.is_dirty) || !self.removed.is_empty() {
            self.is_dirty = !self.removed.is_empty();
            return;
        }
        let present: Vec<(u32, u32, bool)> = self.log.segments().collect();
        let numbers: BTreeSet<u32> = present.iter().map(|s| s.0).collect();
        for (number, bytes, is_sealed) in present {
            let is_live = self.uses.get(&number).is_some_and(|u| u.live > 0);
            // Copying more than that would fill segments as fast as it frees them.
            let is_worth = || self.log.note_bytes_in(number) <= u64::from(bytes) / 2;
            if !is_sealed || is_live || !is_worth() {
                continue;
            }
            let removes_from =
                self.uses.get_mut(&number).map(|u| std::mem::take(&mut u.removes_from));
            for older in removes_from.unwrap_or_default() {
                if !numbers.contains(&older) || older == number {
                    continue;
                }
                if self.rewrite_removals(older, seqs).is_err() {
                    self.uses.entry(number).or_default().removes_from.insert(older);
                }
            }
            let is_clear = self.uses.get(&number).is_none_or(|u| u.removes_from.is_empty());
            if !is_clear || self.keep_last_time(number, index).is_err() {
                self.is_dirty = true;
                continue;
            }
            if self.log.drop_segment(number, false, cache, queue) {
                self.uses.remove(&number);
            }
        }
    }

    /// Writes when the last message was stored, if a segment that goes is the one that says so.
    pub(crate) fn keep_last_time(
        &mut self,
        segment: u32,
        index: &Index,
    ) -> Result<(), AppendError> {
        let state = index.state();
        let has_last = self.uses.get(&segment).is_some_and(|u| u.last_seq == state.last_seq);
        let Some(ts_ns) = state.last_ts_ns else { return Ok(()) };
        if has_last || self.mark_segment == Some(segment) {
            let bytes = ts_ns.to_le_bytes();
            let place = self.append(&Record::Mark { number: LAST_TIME, bytes: &bytes })?;
            self.mark_segment = Some(place.segment);
        }
        Ok(())
    }

    /// Writes again which messages of a segment were removed.
    fn rewrite_removals(&mut self, segment: u32, seqs: &Sequences) -> Result<(), AppendError> {
        let Some(used) = self.uses.get(&segment).filter(|u| u.last_seq > 0) else { return Ok(()) };
        let (mut at, last) = (used.first_seq, used.last_seq);
        let mut gaps = Vec::new();
        while at <= last {
            let live = seqs.next(at).filter(|&live| live <= last);
            let end = live.unwrap_or(last + 1);
            if at < end {
                gaps.push((at, end - 1));
            }
            at = end + 1;
        }
        // A start would not know any more that something of it is to be overwritten.
        let erased = self.log.has_erasing_in(segment);
        for gaps in gaps.chunks(RANGES_MAX) {
            let record = Record::Delete { ranges: Ranges::List(gaps), erased };
            let location = self.append(&record)?;
            self.note_removals(location.segment, BTreeSet::from([segment]));
        }
        Ok(())
    }

    /// Whether a start would have to read so much that a checkpoint is worth while.
    pub(crate) fn needs_checkpoint(&self, is_stop: bool) -> bool {
        let least = (CHECKPOINT_FACTOR * self.checkpoint_bytes).max(self.checkpoint_bytes_min);
        let least = if is_stop { STOP_BYTES_MIN.min(least) } else { least };
        self.bytes_since_checkpoint >= least && self.log.fenced().is_none()
    }

    /// Keeps the state of the store for the next start. Nothing removed waits to be written.
    pub(crate) fn write_checkpoint(&mut self, image: &[u8], queue: &mut DiskQueue) {
        let sealed: Vec<u32> = self.log.segments().filter(|s| s.2).map(|s| s.0).collect();
        for number in sealed {
            if number > self.checkpointed_segment || self.rewritten.remove(&number) {
                self.log.write_segment_checkpoint(number, b"", queue);
                self.checkpointed_segment = self.checkpointed_segment.max(number);
            }
        }
        self.log.write_checkpoint(image, queue);
        self.checkpoint_bytes = image.len() as u64;
        self.bytes_since_checkpoint = 0;
    }

    pub(crate) const fn fenced(&self) -> Option<DiskError> {
        self.log.fenced()
    }
}

/// A message was found or put into a segment.
pub(crate) fn enter(uses: &mut BTreeMap<u32, SegmentUse>, place: Location, seq: u64, bytes: u64) {
    let used = uses.entry(place.segment).or_default();
    used.live += 1;
    used.live_bytes += bytes;
    used.all_bytes += bytes;
    used.record_bytes += u64::from(place.len);
    if used.last_seq == 0 {
        used.first_seq = seq;
    }
    used.last_seq = used.last_seq.max(seq);
}

/// A message of a segment is gone.
pub(crate) fn leave(
    uses: &mut BTreeMap<u32, SegmentUse>,
    segment: u32,
    bytes: u32,
    is_dirty: &mut bool,
) {
    if let Some(used) = uses.get_mut(&segment) {
        used.live = used.live.saturating_sub(1);
        used.live_bytes = used.live_bytes.saturating_sub(u64::from(bytes));
        *is_dirty |= used.live == 0;
    }
}
