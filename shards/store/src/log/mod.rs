//! The log of one stream: records in segment files, durable by group commit, read by location.
//! `docs/STORAGE.md` has every byte of it and says what recovery makes of damage.
//!
//! ```text
//!  append ─► tail pages ─► commit ─► blocks + tail slot, one flush ─► durable()
//!                │                            │
//!  read ─► tail pages, else ─► Cache ─► DiskOp::Read ─► checksum ─► Record
//! ```
//!
//! The owner calls [`Log::commit`] at the end of a turn in which it appended or in which
//! [`Log::handle_disk_done`] was called, and gives every completion of an operation that appeared
//! in the queue during one of its calls back to the log.

mod bind;
mod cache;
mod checkpoint;
mod commit;
mod compact;
mod drops;
mod encode;
mod erase;
mod files;
mod follow;
mod found;
mod header;
mod keys;
mod mend;
mod notes;
mod notes_found;
mod pack;
mod place;
mod read;
mod record;
mod recover;
mod report;
mod scan;
mod scrub;
mod segment;
mod tail;
#[cfg(test)]
mod tests;
mod twins;
mod walk;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::disk::{DiskError, DiskQueue, Ticket};

pub use bind::Binding;
pub use cache::Cache;
pub use compact::{Keep, MESSAGE_OVERHEAD_BYTES, Moved};
pub use header::{DATA_START, Identity};
pub use keys::{Cipher, Encryption, StoreKey};
pub use place::{Location, Position};
pub use read::Read;
pub use record::{Head, Kind, Message, OVERHEAD_BYTES, Ranges, RawRecord, Record, RecordError};
pub use recover::{RecoverError, Recovery};
pub use report::{CheckpointUse, Damage, Report};
pub use scrub::ScrubFigures;
pub(crate) use scrub::{PIECE_BYTES, Scrubbed};

use checkpoint::Checkpoints;
use commit::{CommitState, Lane};
use files::Job;
use notes::Notes;
use pack::{Compressor, Packing, Scratch};
use segment::{FileState, Segment};
use tail::Tail;

/// Longest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 1 << 30;
/// Most bytes of records that one commit writes.
pub const COMMIT_BYTES_MAX: u32 = 4 << 20;

/// When a record counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is flushed to the device.
    Flushed,
    /// When it is given to the operating system, which is asked to flush now and then.
    Lazy {
        /// How often, nanoseconds.
        interval_ns: u64,
    },
}

/// What a log is told about itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// The stream's directory, as [`crate::disk::DiskOp`] takes paths.
    pub dir: String,
    /// Names the stream for life; random.
    pub uid: u64,
    /// For people who look into a file.
    pub account: Vec<u8>,
    /// For people who look into a file.
    pub stream: Vec<u8>,
    /// When records count as durable.
    pub durability: Durability,
    /// Bytes of the first segment, a multiple of 4096, at least 64 KiB.
    pub segment_bytes_min: u32,
    /// Bytes of the largest segment for records that fit, a multiple of 4096.
    pub segment_bytes_max: u32,
    /// Bytes of recent records that are kept in memory for readers.
    pub tail_bytes_max: usize,
    /// Bytes that may wait for a commit before appends are refused with [`AppendError::Busy`].
    pub waiting_bytes_max: usize,
    /// How long after the last append the tail is written a second time, nanoseconds.
    pub settle_ns: u64,
    /// How long after the disk was full it is tried again, nanoseconds.
    pub retry_ns: u64,
    /// Messages are compressed where that saves an eighth of their headers and payload.
    pub compress: bool,
    /// Whether and how records are encrypted from now on.
    pub encryption: Option<Arc<Encryption>>,
    /// Whether the note of a key is kept twice, so that one damaged place costs nothing of it.
    pub is_vital: fn(&[u8]) -> bool,
}

impl Options {
    /// The usual values for the log in `dir`.
    #[must_use]
    pub fn new(dir: &str, uid: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            uid,
            account: Vec::new(),
            stream: Vec::new(),
            durability: Durability::Flushed,
            segment_bytes_min: 256 << 10,
            segment_bytes_max: 64 << 20,
            tail_bytes_max: 2 << 20,
            waiting_bytes_max: 64 << 20,
            settle_ns: 20_000_000,
            retry_ns: 1_000_000_000,
            compress: false,
            encryption: None,
            is_vital: |_| false,
        }
    }
}

/// Why a record was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A commit failed; the log takes no records any more.
    #[error("the log is fenced: {0}")]
    Fenced(DiskError),
    /// There is no space on the device. Deletes and notes may still find a place.
    #[error("no space left on device")]
    NoSpace,
    /// Too many bytes wait for the disk.
    #[error("too many bytes wait for the disk")]
    Busy,
    /// The record is longer than [`RECORD_BYTES_MAX`], or its subject than 65,535 bytes.
    #[error("the record is too large")]
    TooLarge,
}

/// What a completion changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// [`Log::durable`] moved.
    pub durable: bool,
    /// A read that was pending is worth another try.
    pub reads: bool,
    /// Something that waited for space goes on.
    pub space: bool,
    /// The log has been fenced just now; see [`Log::fenced`].
    pub fenced: bool,
    /// A checkpoint could not be written; the old one stays.
    pub checkpoint_failed: bool,
}

/// The log of one stream.
#[derive(Debug)]
pub struct Log {
    options: Options,
    /// By number; the last one is appended to. Never empty.
    segments: VecDeque<Segment>,
    /// The one to come after the last.
    prepared: Option<Segment>,
    tail: Tail,
    /// The sequence after the last message.
    next_seq: u64,
    commit: CommitState,
    lane: Lane,
    jobs: Vec<(Ticket, Job)>,
    notes: Notes,
    twins: twins::Wanted,
    checkpoints: Checkpoints,
    drops: Vec<drops::Dropping>,
    erasing: Vec<erase::Erasing>,
    /// When erasures that found no space are tried again.
    erase_at_ns: Option<u64>,
    compressor: Option<Box<Compressor>>,
    /// Segments made so far, those written anew included.
    segments_made: u32,
    scratch: Scratch,
    compaction: Option<Box<compact::Compaction>>,
    moved: Option<Moved>,
    /// Sealed segments in which something did not validate while the log ran.
    damaged_segments: Vec<u32>,
    /// Those of them that the owner was not told of yet.
    met_damage: Vec<u32>,
    scrub: Option<Box<scrub::Scrub>>,
    scrubbed: Option<Scrubbed>,
    reads: read::ReadState,
    fenced: Option<DiskError>,
    /// A file of the log was found or made: what is in its directory is the log's.
    has_files: bool,
    /// The next segment could not be made.
    segment_refused: bool,
    /// The last segment could not be made as long as it should be: a message goes only where a
    /// file is there already, lest it waits for space that does not come.
    is_tight: bool,
    /// A commit found no space.
    commit_refused: bool,
    /// Nothing that found no space is tried before this time.
    retry_at_ns: u64,
}

impl Log {
    /// A new log. The directory must not hold another one.
    #[must_use]
    pub fn create(options: Options, queue: &mut DiskQueue) -> Self {
        let first = Segment::new(&options, 1, options.segment_bytes_min, 0);
        let mut log = Self::assemble(options, VecDeque::from([first]), 1, Notes::default());
        log.append_manifest();
        log.drive_files(0, queue);
        log
    }

    /// Begins a segment behind the last one there was.
    fn begin_after(&mut self, number: u32) {
        let file_len = match self.segments.back() {
            Some(_) => self.next_file_len(),
            None => self.options.segment_bytes_min,
        };
        let next = self.new_segment(number + 1, file_len);
        self.segments.push_back(next);
        self.commit = CommitState::new(self.end());
        self.append_manifest();
    }

    fn assemble(
        options: Options,
        segments: VecDeque<Segment>,
        next_seq: u64,
        notes: Notes,
    ) -> Self {
        let start =
            segments.back().map(|last| Position { segment: last.number(), offset: last.end });
        Self {
            options,
            segments,
            prepared: None,
            tail: Tail::default(),
            next_seq,
            commit: CommitState::new(start.unwrap_or_default()),
            lane: Lane::Idle,
            jobs: Vec::new(),
            notes,
            twins: twins::Wanted::default(),
            checkpoints: Checkpoints::default(),
            drops: Vec::new(),
            erasing: Vec::new(),
            erase_at_ns: None,
            compressor: None,
            segments_made: 0,
            scratch: Scratch::default(),
            compaction: None,
            moved: None,
            damaged_segments: Vec::new(),
            met_damage: Vec::new(),
            scrub: None,
            scrubbed: None,
            reads: read::ReadState::default(),
            fenced: None,
            has_files: false,
            segment_refused: false,
            is_tight: false,
            commit_refused: false,
            retry_at_ns: 0,
        }
    }

    /// Appends a record; it is durable once [`Self::durable`] is not before its end.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was appended then.
    pub fn append(&mut self, record: &Record<'_>) -> Result<Location, AppendError> {
        if self.options.compress || self.options.encryption.is_some() {
            return self.append_packed(record);
        }
        let len = record.encoded_len();
        self.append_of(record, len, None)
    }

    /// Appends a record that is compressed or encrypted, if that is worth it.
    fn append_packed(&mut self, record: &Record<'_>) -> Result<Location, AppendError> {
        let block = self.compress(record);
        let is_encrypted = self.options.encryption.is_some();
        let len = pack::packed_len(record, block.as_deref(), is_encrypted);
        self.append_of(record, len, block.as_deref())
    }

    /// Headers and payload of a message as a block, when that is wanted and worth it.
    fn compress(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        let is_small = record.encoded_len() <= RECORD_BYTES_MAX;
        (self.options.compress && is_small)
            .then(|| self.compressor.get_or_insert_default().compress(record))?
    }

    fn append_of(
        &mut self,
        record: &Record<'_>,
        len: usize,
        block: Option<&[u8]>,
    ) -> Result<Location, AppendError> {
        self.admit(record, len)?;
        if self.last().room() < (len + OVERHEAD_BYTES) as u32 {
            self.roll(len);
        }
        let location = self.push(record, len, block);
        match record {
            Record::Message(message) => self.next_seq = message.seq.saturating_add(1),
            Record::Skip { last_seq, .. } => self.next_seq = last_seq.saturating_add(1),
            Record::Delete { .. } | Record::Purge { .. } | Record::Mark { .. } => {}
            other => {
                self.notes.apply(other, location);
                if let Record::NotePut { key, .. } = other {
                    self.want_twin(key);
                }
            }
        }
        Ok(location)
    }

    /// Whether a record of `len` bytes may be appended now.
    fn admit(&self, record: &Record<'_>, len: usize) -> Result<(), AppendError> {
        if let Some(error) = self.fenced {
            return Err(AppendError::Fenced(error));
        }
        let mut is_message = false;
        if let Record::Message(message) = record {
            is_message = true;
            if message.subject.len() > usize::from(u16::MAX) {
                return Err(AppendError::TooLarge);
            }
        }
        if len > RECORD_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        if self.waiting_bytes() + len > self.options.waiting_bytes_max.max(len) {
            return Err(AppendError::Busy);
        }
        if self.segment_refused || self.commit_refused {
            self.admit_without_space(is_message, len)?;
        } else if self.is_tight && is_message {
            let fits = u64::from(self.last().room()) >= (len + OVERHEAD_BYTES) as u64;
            let target = if fits { Some(self.last()) } else { self.prepared.as_ref() };
            let is_made = |segment: &Segment| {
                !matches!(segment.state, FileState::Absent | FileState::Making(_))
            };
            if !target.is_some_and(is_made) {
                return Err(AppendError::NoSpace);
            }
        }
        Ok(())
    }

    /// Whether records of `len` bytes in all that are no messages can be appended now.
    #[must_use]
    pub fn admits(&self, len: usize) -> bool {
        let is_busy = self.waiting_bytes() + len > self.options.waiting_bytes_max.max(len);
        let is_free = !self.lacks_space() || self.admit_without_space(false, len).is_ok();
        self.fenced.is_none() && !is_busy && is_free
    }

    /// While there is no space, messages leave the last eighth of a segment to other records.
    fn admit_without_space(&self, is_message: bool, len: usize) -> Result<(), AppendError> {
        let last = self.last();
        let is_made = !matches!(last.state, FileState::Absent | FileState::Making(_));
        let spared = if is_message { last.file_len / 8 } else { OVERHEAD_BYTES as u32 };
        let fits = u64::from(last.room()) >= len as u64 + u64::from(spared);
        if fits && is_made && !(is_message && self.commit_refused) {
            return Ok(());
        }
        Err(AppendError::NoSpace)
    }

    /// Encodes a record for which there is room.
    fn push(&mut self, record: &Record<'_>, len: usize, block: Option<&[u8]>) -> Location {
        // The list of segments is never empty.
        let at = self.segments.len() - 1;
        let segment = &mut self.segments[at];
        let location = segment.location(len);
        let room = self.tail.room(location.segment, location.offset, len);
        if block.is_none() && segment.key.is_none() {
            record.encode(room, segment.binding, location.offset);
        } else {
            let key = segment.key.as_deref().map(|key| (key, segment.epoch));
            let packing = Packing { block, key };
            pack::encode(record, room, segment.binding, location.offset, packing);
        }
        segment.grow(len as u32);
        location
    }

    /// Ends the last segment and begins one that has room for `len` bytes.
    fn roll(&mut self, len: usize) {
        let end = Record::End { last_seq: self.next_seq.saturating_sub(1) };
        self.push(&end, OVERHEAD_BYTES, None);
        let at = self.segments.len() - 1;
        self.segments[at].sealed = true;
        let manifest_len = 8 * (self.segments.len() + 1) + OVERHEAD_BYTES;
        let needed = DATA_START as usize + manifest_len + len + OVERHEAD_BYTES;
        let needed = needed.next_multiple_of(crate::disk::BLOCK_BYTES) as u32;
        let number = self.last().number() + 1;
        let file_len = self.next_file_len().max(needed);
        let mut next = match self.prepared.take() {
            Some(prepared) => prepared,
            None => self.new_segment(number, file_len),
        };
        if next.file_len < needed {
            next.file_len = file_len;
            next.header.file_len = u64::from(file_len);
        }
        self.segments.push_back(next);
        self.append_manifest();
    }

    /// Makes sure that records of `bytes` in all go into one segment: to be called before the
    /// records of an atomic group are appended.
    pub fn reserve(&mut self, bytes: usize) {
        let fits = u64::from(self.last().room()) >= (bytes + OVERHEAD_BYTES) as u64;
        if !fits && bytes <= RECORD_BYTES_MAX && self.fenced.is_none() && !self.lacks_space() {
            self.roll(bytes);
        }
    }

    /// Ends the last segment, so that it can be dropped or compacted once nothing of it is needed.
    pub fn seal(&mut self) {
        if self.fenced.is_none() && !self.segment_refused {
            self.roll(0);
        }
    }

    /// Names the segments that there are, at the beginning of the last one.
    fn append_manifest(&mut self) {
        let bytes = self.present();
        let record = Record::Manifest { next_seq: self.next_seq, ranges: &bytes };
        self.push(&record, record.encoded_len(), None);
    }

    /// A segment that does not exist yet.
    fn new_segment(&mut self, number: u32, file_len: u32) -> Segment {
        self.segments_made += 1;
        Segment::new(&self.options, number, file_len, self.segments_made)
    }

    /// The segments that there are, as a Manifest has them.
    fn present(&self) -> Vec<u8> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in self.segments.iter().map(Segment::number) {
            if self.is_dropped(number) {
                continue;
            }
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        let pairs = ranges.iter().flat_map(|(first, last)| [first, last]);
        pairs.flat_map(|number| number.to_le_bytes()).collect()
    }

    fn next_file_len(&self) -> u32 {
        let options = &self.options;
        let grown = self.last().file_len.saturating_mul(4);
        grown.min(options.segment_bytes_max).max(options.segment_bytes_min)
    }

    fn last(&self) -> &Segment {
        // The list of segments is never empty.
        &self.segments[self.segments.len() - 1]
    }

    fn segment(&self, number: u32) -> Option<&Segment> {
        self.segment_at(number).and_then(|at| self.segments.get(at))
    }

    fn segment_mut(&mut self, number: u32) -> Option<&mut Segment> {
        self.segment_at(number).and_then(|at| self.segments.get_mut(at))
    }

    fn segment_at(&self, number: u32) -> Option<usize> {
        self.segments.binary_search_by_key(&number, Segment::number).ok()
    }

    /// The position behind the last record.
    #[must_use]
    pub fn end(&self) -> Position {
        let last = self.last();
        Position { segment: last.number(), offset: last.end }
    }

    /// Everything before is durable, in the sense of [`Durability`].
    #[must_use]
    pub const fn durable(&self) -> Position {
        self.commit.done
    }

    /// Bytes that wait for a commit.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        let done = self.commit.done;
        let mut bytes = 0;
        for segment in self.segments.iter().rev() {
            if segment.number() < done.segment {
                break;
            }
            let from = if segment.number() == done.segment { done.offset } else { DATA_START };
            bytes += (segment.end - from) as usize;
        }
        bytes
    }

    /// Why the log takes no records any more.
    #[must_use]
    pub const fn fenced(&self) -> Option<DiskError> {
        self.fenced
    }

    /// True while messages may be refused because the device is full.
    #[must_use]
    pub const fn lacks_space(&self) -> bool {
        self.segment_refused || self.commit_refused
    }

    /// The sequence after that of the last message or skip.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Number, bytes of the file and whether it is sealed, of each segment, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = (u32, u32, bool)> + '_ {
        self.segments.iter().map(|segment| (segment.number(), segment.file_len, segment.sealed))
    }

    /// Whether messages are compressed from now on.
    pub fn set_compression(&mut self, is_on: bool) {
        self.options.compress = is_on;
        if !is_on {
            self.compressor = None;
        }
    }

    /// The stream.
    #[must_use]
    pub const fn uid(&self) -> u64 {
        self.options.uid
    }

    /// Bytes of records in a segment; none when it is not there, or when damage was met in it.
    #[must_use]
    pub fn used_bytes(&self, number: u32) -> Option<u32> {
        let segment = self.segment(number)?;
        let is_damaged = self.damaged_segments.contains(&number);
        (!is_damaged).then(|| segment.end.min(segment.file_len) - DATA_START)
    }

    /// Bytes of memory that the log takes for records.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.tail.len()
    }
}
